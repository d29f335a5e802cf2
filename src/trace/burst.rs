//! Joins consecutive large calls of one direction of a connection into one event.
//!
//! A TLS library is handed a large body in pieces of some KiB. Chunks that end with every piece
//! would end elsewhere as soon as the header before the body has another length, and the re-sent
//! history would be stored again; so pieces are joined before they are cut. Small calls, such as the
//! reads of an event stream, stay rows of their own: their times are what matters about them.
//!
//! Fed with events in the order of capture, feeds the writer. Reads no clock: only event times
//! decide, so the same events always join the same way.

use std::collections::HashMap;

use crate::event::{Body, Event, ProcessId, StreamData};
use crate::time::WallNanos;

/// A burst begins with a call at least this large, and ends with the first smaller one.
const LARGE_CALL_BYTES: u64 = 4096;
/// No burst grows beyond this, and so no joined row.
const MAX_BURST_BYTES: u64 = 1024 * 1024;
/// A burst is not held longer than this after its first call.
pub const MAX_BURST_AGE_NS: i64 = 100_000_000;
/// All bursts held together; beyond it the oldest is let go.
const MAX_HELD_BYTES: u64 = 4 * 1024 * 1024;

/// Joins consecutive large calls; see the module.
#[derive(Debug, Default)]
pub struct Burst {
    /// At most one held burst per connection: a change of direction ends the other one.
    held: HashMap<u64, Held>,
    held_bytes: u64,
    /// Not later than the first call of any held burst.
    oldest: Option<WallNanos>,
}

/// A burst that may still grow.
#[derive(Debug)]
struct Held {
    event: Event,
    tls: StreamData,
}

impl Burst {
    /// Holds no event yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next event and hands on all that are complete, in the order of their first
    /// calls per connection.
    pub fn push(&mut self, event: Event, out: &mut impl FnMut(Event)) {
        self.flush_older_than(WallNanos(event.ts.0.saturating_sub(MAX_BURST_AGE_NS)), out);
        match event.body {
            Body::Data(_) => self.push_data(event, out),
            Body::TlsClose { conn_id } | Body::ChannelClose { conn_id, .. } => {
                self.release(conn_id, out);
                out(event);
            }
            Body::ProcessExit(_) => {
                self.flush_process(event.process, out);
                out(event);
            }
            _ => out(event),
        }
    }

    /// Hands on every held event whose first call returned before `ts`.
    pub fn flush_older_than(&mut self, ts: WallNanos, out: &mut impl FnMut(Event)) {
        if self.oldest.is_none_or(|oldest| oldest >= ts) {
            return;
        }
        self.flush_where(|held| held.event.ts < ts, out);
        self.oldest = self.held.values().map(|held| held.event.ts).min();
    }

    /// Hands on every held event.
    pub fn flush(&mut self, out: &mut impl FnMut(Event)) {
        self.flush_where(|_| true, out);
        self.oldest = None;
    }

    fn push_data(&mut self, mut event: Event, out: &mut impl FnMut(Event)) {
        let Body::Data(tls) = &mut event.body else { return out(event) };
        let conn_id = tls.conn_id;
        let size_bytes = tls.data_bytes;
        if self.held.get(&conn_id).is_some_and(|held| held.continues_with(&event)) {
            self.append(conn_id, event);
            if size_bytes < LARGE_CALL_BYTES {
                self.release(conn_id, out);
            }
        } else {
            self.release(conn_id, out);
            if !may_begin(&event) {
                return out(event);
            }
            self.hold(conn_id, event);
        }
        while self.held_bytes > MAX_HELD_BYTES {
            let Some(oldest) = self.held.iter().min_by_key(|(id, held)| (held.event.ts, **id))
            else {
                return;
            };
            self.release(*oldest.0, out);
        }
    }

    fn hold(&mut self, conn_id: u64, mut event: Event) {
        // The payload is kept beside the event, so that nothing has to look into its body again.
        let Body::Data(tls) = std::mem::replace(&mut event.body, Body::TlsClose { conn_id }) else {
            return;
        };
        self.held_bytes += tls.data_bytes;
        self.oldest = Some(self.oldest.map_or(event.ts, |oldest| oldest.min(event.ts)));
        self.held.insert(conn_id, Held { event, tls });
    }

    fn append(&mut self, conn_id: u64, event: Event) {
        let (Some(held), Body::Data(call)) = (self.held.get_mut(&conn_id), event.body) else {
            return;
        };
        let burst = &mut held.tls;
        if burst.call_ts.is_empty() {
            burst.call_ts.push(held.event.ts);
            burst.call_bytes.push(burst.data_bytes);
        }
        burst.call_ts.push(event.ts);
        burst.call_bytes.push(call.data_bytes);
        burst.data_bytes += call.data_bytes;
        burst.data.extend_from_slice(&call.data);
        self.held_bytes += call.data_bytes;
    }

    fn release(&mut self, conn_id: u64, out: &mut impl FnMut(Event)) {
        if let Some(Held { mut event, tls }) = self.held.remove(&conn_id) {
            self.held_bytes -= tls.data_bytes;
            event.body = Body::Data(tls);
            out(event);
        }
    }

    fn flush_process(&mut self, process: Option<ProcessId>, out: &mut impl FnMut(Event)) {
        self.flush_where(|held| held.event.process == process, out);
    }

    /// Hands on the held events for which `ends` holds, oldest first.
    fn flush_where(&mut self, ends: impl Fn(&Held) -> bool, out: &mut impl FnMut(Event)) {
        let ending = self.held.iter().filter(|(_, held)| ends(held));
        let mut order: Vec<_> = ending.map(|(id, held)| (held.event.ts, *id)).collect();
        order.sort_unstable();
        for (_, conn_id) in order {
            self.release(conn_id, out);
        }
    }
}

impl Held {
    /// Whether `event` is the call right after this burst, and nothing would be lost by joining it.
    fn continues_with(&self, event: &Event) -> bool {
        let Body::Data(call) = &event.body else { return false };
        let burst = &self.tls;
        let same_source = self.event.process == event.process
            && self.event.tid == event.tid
            && self.event.comm == event.comm
            && burst.source == call.source
            && burst.direction == call.direction
            && burst.library == call.library
            && burst.fd == call.fd;
        let contiguous =
            burst.stream_offset.checked_add(burst.data_bytes) == Some(call.stream_offset);
        let fits = burst.data_bytes.saturating_add(call.data_bytes) <= MAX_BURST_BYTES;
        same_source && contiguous && fits && is_whole(call)
    }
}

/// Whether a burst may begin with this event.
fn may_begin(event: &Event) -> bool {
    let Body::Data(call) = &event.body else { return false };
    (LARGE_CALL_BYTES..MAX_BURST_BYTES).contains(&call.data_bytes) && is_whole(call)
}

/// Whether this is one call of which every byte was captured.
fn is_whole(call: &StreamData) -> bool {
    call.lost_bytes == 0
        && call.data_bytes == call.data.len() as u64
        && call.call_ts.is_empty()
        && call.call_bytes.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Direction;
    use crate::event::Source;

    fn call(conn_id: u64, direction: Direction, ts: i64, offset: u64, size: usize) -> Event {
        let data: Vec<u8> = (0..size).map(|at| (at as u64 + offset) as u8).collect();
        Event {
            ts: WallNanos(ts),
            process: Some(ProcessId { pid: 7, start_ts: WallNanos(1) }),
            tid: Some(7),
            comm: Some("agent".to_owned()),
            body: Body::Data(StreamData {
                source: Source::Tls,
                conn_id,
                direction,
                stream_offset: offset,
                data_bytes: size as u64,
                lost_bytes: 0,
                data,
                library: "openssl".to_owned(),
                fd: None,
                call_ts: Vec::new(),
                call_bytes: Vec::new(),
            }),
        }
    }

    fn joined(events: impl IntoIterator<Item = Event>) -> Vec<Event> {
        let (mut burst, mut out) = (Burst::new(), Vec::new());
        for event in events {
            burst.push(event, &mut |event| out.push(event));
        }
        burst.flush(&mut |event| out.push(event));
        out
    }

    /// The single calls that were joined into `event`.
    fn split(event: Event) -> Vec<Event> {
        let Body::Data(tls) = &event.body else { return vec![event] };
        if tls.call_ts.is_empty() {
            return vec![event];
        }
        let mut at = 0;
        let calls = tls.call_ts.iter().zip(&tls.call_bytes).map(|(ts, bytes)| {
            let end = at + *bytes as usize;
            let body = StreamData {
                stream_offset: tls.stream_offset + at as u64,
                data_bytes: *bytes,
                data: tls.data[at..end].to_vec(),
                call_ts: Vec::new(),
                call_bytes: Vec::new(),
                ..tls.clone()
            };
            at = end;
            Event { ts: *ts, body: Body::Data(body), ..event.clone() }
        });
        calls.collect()
    }

    fn sizes(events: &[Event]) -> Vec<u64> {
        let size = |event: &Event| match &event.body {
            Body::Data(tls) => tls.data_bytes,
            _ => 0,
        };
        events.iter().map(size).collect()
    }

    use Direction::{Read, Write};

    #[test]
    fn large_calls_join_up_to_and_with_the_first_small_one() {
        let events = [
            call(1, Write, 10, 0, 300),
            call(1, Write, 20, 300, 16_384),
            call(1, Write, 30, 16_684, 16_384),
            call(1, Write, 40, 33_068, 100),
            call(1, Write, 50, 33_168, 16_384),
        ];
        let joined = joined(events);
        assert_eq!(sizes(&joined), [300, 32_868, 16_384]);
        let Body::Data(tls) = &joined[1].body else { panic!("expected tls_data") };
        assert_eq!(joined[1].ts, WallNanos(20));
        assert_eq!(tls.call_ts, [WallNanos(20), WallNanos(30), WallNanos(40)]);
        assert_eq!(tls.call_bytes, [16_384, 16_384, 100]);
    }

    #[test]
    fn a_gap_a_turn_or_too_long_a_pause_ends_a_burst() {
        let gap = [call(1, Write, 1, 0, 8192), call(1, Write, 2, 9000, 8192)];
        assert_eq!(sizes(&joined(gap)), [8192, 8192]);
        let turn =
            [call(1, Write, 1, 0, 8192), call(1, Read, 2, 0, 10), call(1, Write, 3, 8192, 8192)];
        assert_eq!(sizes(&joined(turn)), [8192, 10, 8192]);
        let pause = [call(1, Write, 1, 0, 8192), call(1, Write, 2 + MAX_BURST_AGE_NS, 8192, 8192)];
        assert_eq!(sizes(&joined(pause)), [8192, 8192]);
    }

    #[test]
    fn no_burst_exceeds_its_size() {
        let calls = (0..200).map(|n| call(1, Write, n, n as u64 * 16_384, 16_384));
        let joined = joined(calls);
        assert!(sizes(&joined).iter().all(|size| *size <= MAX_BURST_BYTES), "{:?}", sizes(&joined));
        assert_eq!(joined.len(), 4);
    }

    #[test]
    fn the_end_of_a_connection_follows_its_last_bytes() {
        let close = Event { body: Body::TlsClose { conn_id: 1 }, ..call(1, Write, 2, 0, 0) };
        let joined = joined([call(1, Write, 1, 0, 8192), close]);
        assert!(matches!(joined[1].body, Body::TlsClose { .. }));
    }

    #[test]
    fn incomplete_calls_are_never_joined() {
        let mut lossy = call(1, Write, 2, 8192, 8192);
        if let Body::Data(tls) = &mut lossy.body {
            tls.data.truncate(4096);
            tls.lost_bytes = 4096;
        }
        let joined = joined([call(1, Write, 1, 0, 8192), lossy, call(1, Write, 3, 16_384, 8192)]);
        assert_eq!(sizes(&joined), [8192, 8192, 8192]);
    }

    proptest! {
        #[test]
        fn splitting_the_joined_events_again_gives_the_calls_back(
            calls in proptest::collection::vec(
                (0..3_u64, any::<bool>(), 0..60_000_000_i64, 0..3_u64, 0..40_000_usize), 0..60)
        ) {
            let (mut ts, mut offsets) = (0, HashMap::new());
            let mut events = Vec::new();
            for (conn_id, write, pause, gap, size) in calls {
                let direction = if write { Write } else { Read };
                let offset: &mut u64 = offsets.entry((conn_id, write)).or_default();
                *offset += u64::from(gap == 2);
                ts += pause;
                events.push(call(conn_id, direction, ts, *offset, size));
                *offset += size as u64;
            }
            // Connections may overtake each other, but each keeps its own order.
            let per_connection = |events: Vec<Event>| {
                let mut streams: HashMap<u64, Vec<Event>> = HashMap::new();
                for event in events {
                    let Body::Data(tls) = &event.body else { panic!("expected tls_data") };
                    streams.entry(tls.conn_id).or_default().push(event);
                }
                streams
            };
            let split: Vec<_> = joined(events.clone()).into_iter().flat_map(split).collect();
            prop_assert_eq!(per_connection(split), per_connection(events));
        }
    }
}
