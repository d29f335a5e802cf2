//! Tables `losses` and `probes`: what the trace does not hold, and where it looked.

use std::collections::{HashMap, HashSet};

use super::channel::is_seen_from_begin;
use super::column::{Cell, Column, NEVER, Table, conn_id, int, opt_text, text};
use crate::event::{Body, Direction, Event, Probe, ProcessId, Source};
use crate::time::WallNanos;

/// Something that is missing from the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossRow {
    first_ts: WallNanos,
    last_ts: WallNanos,
    event_class: String,
    cause: String,
    lost_events: Option<u64>,
    lost_bytes: u64,
    process: Option<ProcessId>,
    conn_id: Option<u64>,
    direction: Option<Direction>,
    stream_offset: Option<u64>,
}

impl LossRow {
    /// The row of a `loss` event; `None` for other kinds.
    #[must_use]
    pub fn from_event(event: &Event) -> Option<Self> {
        let Body::Loss(loss) = &event.body else {
            return None;
        };
        Some(Self {
            first_ts: loss.first_ts,
            last_ts: event.ts,
            event_class: loss.event_class.clone(),
            cause: loss.cause.clone(),
            lost_events: Some(loss.lost_events),
            lost_bytes: loss.lost_bytes,
            process: event.process,
            conn_id: loss.conn_id,
            direction: None,
            stream_offset: None,
        })
    }

    /// Begin and end of the time in which it happened.
    pub(super) fn span(&self) -> (WallNanos, WallNanos) {
        (self.first_ts, self.last_ts)
    }

    pub(super) fn event_class(&self) -> &str {
        &self.event_class
    }

    pub(super) fn cause(&self) -> &str {
        &self.cause
    }

    pub(super) fn conn_id(&self) -> Option<u64> {
        self.conn_id
    }

    pub(super) fn process(&self) -> Option<ProcessId> {
        self.process
    }

    pub(super) fn lost_bytes(&self) -> u64 {
        self.lost_bytes
    }

    /// Direction and offset of the first missing byte.
    pub(super) fn place(&self) -> (Option<Direction>, Option<u64>) {
        (self.direction, self.stream_offset)
    }
}

/// The value of `losses.cause` for a hole in a stream.
const GAP: &str = "gap";

/// Finds the holes in streams from the offsets of their events: `tls_data`, `socket_data`,
/// `stdio_data`.
#[derive(Debug, Default)]
pub struct Gaps {
    /// Sockets that were seen from their begin on.
    whole_sockets: HashSet<u64>,
    /// End of what was seen of each stream, and when.
    streams: HashMap<(u64, Direction), (u64, WallNanos)>,
    /// Whether a stream may begin at any offset.
    is_midway: bool,
    found: Vec<LossRow>,
}

impl Gaps {
    /// Looks for holes in a trace that may begin in the middle of a recording: what lies before the
    /// first byte of a stream is then in another trace. Otherwise offsets count from the first byte
    /// seen, so a stream that begins above 0 has lost its beginning.
    #[must_use]
    pub fn new(is_midway: bool) -> Self {
        Self { is_midway, ..Self::default() }
    }

    /// Looks at an event, those of a stream in its order, a `channel_open` before what goes through
    /// it. Kinds that make no stream are ignored.
    pub fn push(&mut self, event: &Event) {
        let data = match &event.body {
            Body::Data(data) => data,
            Body::ChannelOpen(channel) if is_seen_from_begin(channel.role) => {
                self.whole_sockets.insert(channel.conn_id);
                return;
            }
            _ => return,
        };
        // A socket that was open before is recorded from where a message begins.
        let is_whole = match data.source {
            Source::Tls | Source::Stdio => true,
            Source::Socket => self.whole_sockets.contains(&data.conn_id),
            // Messages of which only the begin is wanted.
            Source::TlsHello | Source::Dns => return,
        };
        let stream = (data.conn_id, data.direction);
        let (seen_until, seen_ts) = self.streams.get(&stream).copied().unwrap_or_else(|| {
            let begins_at = if self.is_midway || !is_whole { data.stream_offset } else { 0 };
            (begins_at, event.ts)
        });
        let hole = |first_ts, stream_offset, lost_bytes| LossRow {
            first_ts,
            last_ts: event.ts,
            event_class: event.body.kind().into(),
            cause: GAP.into(),
            lost_events: None,
            lost_bytes,
            process: event.process,
            conn_id: Some(data.conn_id),
            direction: Some(data.direction),
            stream_offset: Some(stream_offset),
        };
        if data.stream_offset > seen_until {
            self.found.push(hole(seen_ts, seen_until, data.stream_offset - seen_until));
        }
        let captured = data.data_bytes.saturating_sub(data.lost_bytes);
        if data.lost_bytes > 0 {
            let at = data.stream_offset.saturating_add(captured);
            self.found.push(hole(event.ts, at, data.lost_bytes));
        }
        let end = data.stream_offset.saturating_add(data.data_bytes).max(seen_until);
        self.streams.insert(stream, (end, event.ts));
    }

    /// The holes found.
    #[must_use]
    pub fn finish(self) -> Vec<LossRow> {
        self.found
    }
}

/// Brings rows of both sources into the order of the table.
pub fn sort_losses(rows: &mut [LossRow]) {
    rows.sort_by(|a, b| {
        let key = |row: &LossRow| {
            (row.last_ts, row.first_ts, row.conn_id, row.direction, row.stream_offset)
        };
        key(a)
            .cmp(&key(b))
            .then_with(|| a.event_class.cmp(&b.event_class))
            .then_with(|| a.cause.cmp(&b.cause))
    });
}

/// One row per loss.
pub const LOSSES: Table<LossRow> = Table {
    name: "losses",
    description: "One row per loss: what the recorder counted, and (cause gap) every hole in a stream \
                  of tls_data, socket_data or stdio_data. A byte the recorder counted usually also \
                  shows as a gap: add up one or the other. In stdio_data a gap is also what went \
                  through a descriptor that is not recorded.",
    columns: &[
        Column::new(
            "first_ts",
            Cell::Ts(|x| Some(x.first_ts)),
            "Start of the time in which it happened.",
            NEVER,
        ),
        Column::new("last_ts", Cell::Ts(|x| Some(x.last_ts)), "End of that time.", NEVER),
        Column::new(
            "event_class",
            Cell::Text(|x| text(&x.event_class)),
            "Kind of the events that were lost.",
            NEVER,
        ),
        Column::new(
            "cause",
            Cell::Text(|x| text(&x.cause)),
            "Why: ring_full, copy_fault, truncated, map_full, bypassed, decode_error, unusable, \
             disk_full or write_failed as the recorder counted, or gap for a hole in a stream.",
            NEVER,
        ),
        Column::new(
            "lost_events",
            Cell::Int(|x| x.lost_events.and_then(int)),
            "How many events.",
            "a gap does not tell",
        ),
        Column::measured(
            "lost_bytes",
            "bytes",
            Cell::Int(|x| int(x.lost_bytes)),
            "How many payload bytes.",
            NEVER,
        ),
        Column::new(
            "pid",
            Cell::Int(|x| x.process.and_then(|process| int(process.pid))),
            "Process it concerns.",
            "it is not known",
        ),
        Column::new(
            "conn_id",
            Cell::Int(|x| x.conn_id.and_then(conn_id)),
            "Connection it concerns.",
            "it is not known or none",
        ),
        Column::new(
            "direction",
            Cell::Text(|x| x.direction.and_then(|direction| text(direction.as_str()))),
            "Direction of the stream with the gap.",
            "it is not a gap",
        ),
        Column::measured(
            "stream_offset",
            "bytes",
            Cell::Int(|x| x.stream_offset.and_then(int)),
            "Position of the first missing byte in that stream.",
            "it is not a gap",
        ),
    ],
};

/// What came of looking into one binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRow {
    ts: WallNanos,
    process: Option<ProcessId>,
    probe: Probe,
}

impl ProbeRow {
    /// The row of a `probe` event; `None` for other kinds.
    #[must_use]
    pub fn from_event(event: &Event) -> Option<Self> {
        match &event.body {
            Body::Probe(probe) => {
                Some(Self { ts: event.ts, process: event.process, probe: probe.clone() })
            }
            _ => None,
        }
    }
}

/// One row per binary looked into.
pub const PROBES: Table<ProbeRow> = Table {
    name: "probes",
    description: "One row per binary that was searched for TLS functions, in time order.",
    columns: &[
        Column::new("ts", Cell::Ts(|x| Some(x.ts)), "When it was searched.", NEVER),
        Column::new(
            "pid",
            Cell::Int(|x| x.process.and_then(|process| int(process.pid))),
            "Process that runs it.",
            "no single process asked for it",
        ),
        Column::new(
            "process_start_ts",
            Cell::Ts(|x| x.process.map(|process| process.start_ts)),
            "When that process was created; with pid it names the process.",
            "no single process asked for it",
        ),
        Column::new(
            "path",
            Cell::Text(|x| text(&x.probe.path)),
            "Path of the binary, as the traced process sees it.",
            NEVER,
        ),
        Column::new(
            "library",
            Cell::Text(|x| opt_text(&x.probe.library)),
            "What was recognised in it, such as openssl or boringssl.",
            "nothing was",
        ),
        Column::new(
            "state",
            Cell::Text(|x| text(x.probe.state.as_str())),
            "attached: its plaintext is recorded; absent: no known TLS library; unresolved: a TLS \
             library whose functions could not be found; failed: the kernel refused the probe.",
            NEVER,
        ),
        Column::new(
            "detail",
            Cell::Text(|x| text(&x.probe.detail)),
            "Places attached, or the reason why not.",
            NEVER,
        ),
        Column::new(
            "build_id",
            Cell::Text(|x| opt_text(&x.probe.build_id)),
            "GNU build-id in hexadecimal.",
            "the binary has none",
        ),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ChannelType, Role, StreamData};
    use crate::tables::channel::tests::opened;

    fn data(ts: i64, stream_offset: u64, captured: usize, lost_bytes: u64) -> Event {
        from(Source::Tls, ts, stream_offset, captured, lost_bytes)
    }

    fn from(
        source: Source,
        ts: i64,
        stream_offset: u64,
        captured: usize,
        lost_bytes: u64,
    ) -> Event {
        let tls = StreamData {
            source,
            conn_id: 3,
            direction: Direction::Read,
            stream_offset,
            data_bytes: captured as u64 + lost_bytes,
            lost_bytes,
            data: vec![0; captured],
            library: "openssl".into(),
            fd: None,
            call_ts: vec![],
            call_bytes: vec![],
        };
        let body = Body::Data(tls);
        Event { ts: WallNanos(ts), process: None, tid: None, comm: None, body }
    }

    fn holes(events: &[Event]) -> Vec<(i64, i64, u64, u64)> {
        let mut gaps = Gaps::default();
        events.iter().for_each(|event| gaps.push(event));
        let hole = |row: LossRow| {
            (row.first_ts.0, row.last_ts.0, row.stream_offset.unwrap(), row.lost_bytes)
        };
        gaps.finish().into_iter().map(hole).collect()
    }

    #[test]
    fn a_jump_in_the_offset_is_a_hole_of_that_length() {
        assert_eq!(holes(&[data(1, 0, 10, 0), data(2, 15, 1, 0)]), [(1, 2, 10, 5)]);
    }

    #[test]
    fn an_uncaptured_tail_is_a_hole_and_does_not_count_twice() {
        assert_eq!(holes(&[data(1, 0, 10, 5), data(2, 15, 1, 0)]), [(1, 1, 10, 5)]);
    }

    #[test]
    fn a_lost_beginning_is_a_hole_unless_the_trace_begins_later() {
        assert_eq!(holes(&[data(1, 700, 10, 0)]), [(1, 1, 0, 700)]);
        let mut gaps = Gaps::new(true);
        [data(1, 700, 10, 0), data(2, 712, 1, 0)].iter().for_each(|event| gaps.push(event));
        let found: Vec<_> = gaps.finish().iter().map(|row| row.lost_bytes).collect();
        assert_eq!(found, [2]);
    }

    #[test]
    fn every_stream_has_holes_and_messages_have_none() {
        for source in [Source::Tls, Source::Socket, Source::Stdio] {
            let events = [from(source, 1, 0, 10, 0), from(source, 2, 15, 1, 0)];
            assert_eq!(holes(&events), [(1, 2, 10, 5)], "{source:?}");
        }
        for source in [Source::TlsHello, Source::Dns] {
            assert!(holes(&[from(source, 1, 70, 10, 5), from(source, 2, 95, 1, 0)]).is_empty());
        }
    }

    #[test]
    fn a_socket_that_was_open_before_has_lost_no_beginning() {
        let opened = |role| {
            let addresses = ("127.0.0.1:1", "127.0.0.1:2");
            opened((0, 1, 3), 4, (ChannelType::Tcp, role), addresses)
        };
        let data = from(Source::Socket, 1, 700, 10, 0);
        assert!(holes(&[opened(Role::Inherited), data.clone()]).is_empty());
        assert!(holes(std::slice::from_ref(&data)).is_empty());
        assert_eq!(holes(&[opened(Role::Connect), data]), [(1, 1, 0, 700)]);
    }

    #[test]
    fn hostile_offsets_do_not_overflow() {
        let lost = (1, 1, 0, u64::MAX);
        assert_eq!(holes(&[data(1, u64::MAX, 10, 0), data(2, 0, 1, 0)]), [lost]);
    }
}
