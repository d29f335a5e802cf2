//! Single calls that moved bytes. The trace joins consecutive large calls into one event; here they
//! are taken apart again.

use std::ops::Range;
use std::sync::Arc;

use crate::event::{Body, Event, ProcessId, StreamData};
use crate::time::WallNanos;

/// One call that moved bytes of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// The event it is part of; always one with payload.
    event: Arc<Event>,
    /// When this call returned.
    pub(super) ts: WallNanos,
    /// Position of its first byte in the stream.
    pub(super) stream_offset: u64,
    /// Bytes it moved.
    pub(super) data_bytes: u64,
    /// Its captured bytes, within the data of the event.
    captured: Range<usize>,
}

impl Chunk {
    /// The calls that an event consists of; none for kinds without payload.
    #[must_use]
    pub fn split(event: Event) -> Vec<Self> {
        let event = Arc::new(event);
        let Body::Data(data) = &event.body else {
            return Vec::new();
        };
        let whole = [(event.ts, data.data_bytes)];
        let joined: Vec<_> =
            data.call_ts.iter().copied().zip(data.call_bytes.iter().copied()).collect();
        let calls = if calls_add_up(data) { joined.as_slice() } else { whole.as_slice() };
        let mut moved = 0_u64;
        calls
            .iter()
            .map(|&(ts, data_bytes)| {
                let start = captured_until(data, moved);
                let stream_offset = data.stream_offset.saturating_add(moved);
                moved = moved.saturating_add(data_bytes);
                let captured = start..captured_until(data, moved);
                Self { event: Arc::clone(&event), ts, stream_offset, data_bytes, captured }
            })
            .collect()
    }

    /// Size of the row in memory, about.
    #[must_use]
    pub fn captured_bytes(&self) -> usize {
        self.captured.len()
    }

    /// The connection or channel it is of.
    #[must_use]
    pub fn conn_id(&self) -> u64 {
        self.stream().conn_id
    }

    pub(super) fn process(&self) -> Option<ProcessId> {
        self.event.process
    }

    pub(super) fn tid(&self) -> Option<u32> {
        self.event.tid
    }

    pub(super) fn comm(&self) -> &Option<String> {
        &self.event.comm
    }

    pub(super) fn stream(&self) -> &StreamData {
        match &self.event.body {
            Body::Data(data) => data,
            _ => unreachable!("only split makes chunks, and only of events with payload"),
        }
    }

    pub(super) fn lost_bytes(&self) -> u64 {
        self.data_bytes.saturating_sub(self.captured.len() as u64)
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.stream().data[self.captured.clone()]
    }
}

/// How many calls moved the bytes of an event.
pub(super) fn call_count(data: &StreamData) -> u64 {
    if calls_add_up(data) { data.call_bytes.len() as u64 } else { 1 }
}

/// Whether the joined calls can be told apart; a damaged trace may say otherwise.
fn calls_add_up(data: &StreamData) -> bool {
    let moved = data.call_bytes.iter().try_fold(0_u64, |sum, bytes| sum.checked_add(*bytes));
    !data.call_ts.is_empty()
        && data.call_ts.len() == data.call_bytes.len()
        && moved == Some(data.data_bytes)
}

/// How many of the first `moved` bytes were captured: lost bytes are at the end.
fn captured_until(data: &StreamData, moved: u64) -> usize {
    usize::try_from(moved).unwrap_or(usize::MAX).min(data.data.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Direction, Source};

    fn event(call_bytes: Vec<u64>, data: &[u8], lost_bytes: u64) -> Event {
        let tls = StreamData {
            source: Source::Tls,
            conn_id: 1,
            direction: Direction::Write,
            stream_offset: 100,
            data_bytes: data.len() as u64 + lost_bytes,
            lost_bytes,
            data: data.to_vec(),
            library: "openssl".into(),
            fd: None,
            call_ts: (1..).map(WallNanos).take(call_bytes.len()).collect(),
            call_bytes,
        };
        let body = Body::Data(tls);
        Event { ts: WallNanos(9), process: None, tid: None, comm: None, body }
    }

    #[test]
    fn joined_calls_come_apart_with_their_own_time_offset_and_bytes() {
        let chunks = Chunk::split(event(vec![2, 3], b"abcde", 0));
        let seen: Vec<_> = chunks.iter().map(|x| (x.ts.0, x.stream_offset, x.data())).collect();
        assert_eq!(seen, [(1, 100, b"ab".as_slice()), (2, 102, b"cde")]);
    }

    #[test]
    fn lost_bytes_are_the_tail_and_charged_to_the_calls_they_belong_to() {
        let chunks = Chunk::split(event(vec![2, 3, 4], b"abc", 6));
        let seen: Vec<_> = chunks.iter().map(|x| (x.data_bytes, x.data())).collect();
        assert_eq!(seen, [(2, b"ab".as_slice()), (3, b"c"), (4, b"")]);
        assert_eq!(chunks.iter().map(Chunk::lost_bytes).collect::<Vec<_>>(), [0, 2, 4]);
    }

    #[test]
    fn a_single_call_keeps_the_time_of_its_event() {
        let chunks = Chunk::split(event(vec![], b"abc", 0));
        assert_eq!((chunks.len(), chunks[0].ts, chunks[0].data_bytes), (1, WallNanos(9), 3));
    }

    #[test]
    fn calls_that_contradict_the_event_are_given_as_one() {
        for calls in [vec![2, 9], vec![u64::MAX, 5]] {
            let chunks = Chunk::split(event(calls, b"abcde", 0));
            assert_eq!((chunks.len(), chunks[0].data()), (1, b"abcde".as_slice()));
        }
    }
}
