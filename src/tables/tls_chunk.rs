//! Table `tls_chunks`: plaintext by single library call. The trace joins consecutive large calls
//! into one event; here they are taken apart again.

use std::ops::Range;
use std::sync::Arc;

use super::column::{Cell, Column, NEVER, Table, conn_id, int, opt_text, text};
use crate::event::{Body, Event, Source, StreamData};
use crate::time::WallNanos;

/// One call of a TLS library that moved plaintext.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsChunk {
    /// The event it is part of; always `tls_data`.
    event: Arc<Event>,
    /// When this call returned.
    ts: WallNanos,
    /// Position of its first byte in the stream.
    stream_offset: u64,
    /// Bytes it moved.
    data_bytes: u64,
    /// Its captured bytes, within the data of the event.
    captured: Range<usize>,
}

impl TlsChunk {
    /// The calls that an event consists of; none for other kinds than `tls_data`.
    #[must_use]
    pub fn split(event: Event) -> Vec<Self> {
        let event = Arc::new(event);
        let Body::Data(tls) = &event.body else {
            return Vec::new();
        };
        if tls.source != Source::Tls {
            return Vec::new();
        }
        let whole = [(event.ts, tls.data_bytes)];
        let joined: Vec<_> =
            tls.call_ts.iter().copied().zip(tls.call_bytes.iter().copied()).collect();
        let calls = if calls_add_up(tls) { joined.as_slice() } else { whole.as_slice() };
        let mut moved = 0_u64;
        calls
            .iter()
            .map(|&(ts, data_bytes)| {
                let start = captured_until(tls, moved);
                let stream_offset = tls.stream_offset.saturating_add(moved);
                moved = moved.saturating_add(data_bytes);
                let captured = start..captured_until(tls, moved);
                Self { event: Arc::clone(&event), ts, stream_offset, data_bytes, captured }
            })
            .collect()
    }

    /// Size of the row in memory, about.
    #[must_use]
    pub fn captured_bytes(&self) -> usize {
        self.captured.len()
    }

    fn tls(&self) -> &StreamData {
        match &self.event.body {
            Body::Data(tls) => tls,
            _ => unreachable!("only split makes chunks, and only of tls_data"),
        }
    }

    fn data(&self) -> &[u8] {
        &self.tls().data[self.captured.clone()]
    }
}

/// Whether the joined calls can be told apart; a damaged trace may say otherwise.
fn calls_add_up(tls: &StreamData) -> bool {
    let moved = tls.call_bytes.iter().try_fold(0_u64, |sum, bytes| sum.checked_add(*bytes));
    !tls.call_ts.is_empty()
        && tls.call_ts.len() == tls.call_bytes.len()
        && moved == Some(tls.data_bytes)
}

/// How many of the first `moved` bytes were captured: lost bytes are at the end.
fn captured_until(tls: &StreamData, moved: u64) -> usize {
    usize::try_from(moved).unwrap_or(usize::MAX).min(tls.data.len())
}

/// One row per library call.
pub const TLS_CHUNKS: Table<TlsChunk> = Table {
    name: "tls_chunks",
    description: "One row per call of a TLS library that moved plaintext.",
    columns: &[
        Column::new("ts", Cell::Ts(|x| Some(x.ts)), "When the call returned.", NEVER),
        Column::new(
            "pid",
            Cell::Int(|x| x.event.process.and_then(|process| int(process.pid))),
            "Process that made the call.",
            "the process is not known",
        ),
        Column::new(
            "process_start_ts",
            Cell::Ts(|x| x.event.process.map(|process| process.start_ts)),
            "When that process was created; with pid it names the process.",
            "the process is not known",
        ),
        Column::new(
            "tid",
            Cell::Int(|x| x.event.tid.map(i64::from)),
            "Thread that made the call.",
            "the thread is not known",
        ),
        Column::new(
            "comm",
            Cell::Text(|x| opt_text(&x.event.comm)),
            "Name of that thread.",
            "the name is not known",
        ),
        Column::new(
            "conn_id",
            Cell::Int(|x| conn_id(x.tls().conn_id)),
            "Connection: process, library handle and its generation.",
            NEVER,
        ),
        Column::new(
            "direction",
            Cell::Text(|x| text(x.tls().direction.as_str())),
            "read: the process received it; write: it sent it.",
            NEVER,
        ),
        Column::measured(
            "stream_offset",
            "bytes",
            Cell::Int(|x| int(x.stream_offset)),
            "Position of the first byte in this direction of the connection, from the first byte \
             seen; lost bytes count.",
            NEVER,
        ),
        Column::measured(
            "data_bytes",
            "bytes",
            Cell::Int(|x| int(x.data_bytes)),
            "Bytes the call moved, lost_bytes included.",
            NEVER,
        ),
        Column::measured(
            "lost_bytes",
            "bytes",
            Cell::Int(|x| int(x.data_bytes.saturating_sub(x.captured.len() as u64))),
            "Bytes at the end of data_bytes that could not be captured.",
            NEVER,
        ),
        Column::new(
            "data",
            Cell::Binary(|x| Some(x.data())),
            "The captured bytes; body_text(data) reads them as text.",
            NEVER,
        ),
        Column::new(
            "library",
            Cell::Text(|x| text(&x.tls().library)),
            "Library they came through, such as openssl or boringssl.",
            NEVER,
        ),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Direction;

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
        let chunks = TlsChunk::split(event(vec![2, 3], b"abcde", 0));
        let seen: Vec<_> = chunks.iter().map(|x| (x.ts.0, x.stream_offset, x.data())).collect();
        assert_eq!(seen, [(1, 100, b"ab".as_slice()), (2, 102, b"cde")]);
    }

    #[test]
    fn lost_bytes_are_the_tail_and_charged_to_the_calls_they_belong_to() {
        let chunks = TlsChunk::split(event(vec![2, 3, 4], b"abc", 6));
        let seen: Vec<_> = chunks.iter().map(|x| (x.data_bytes, x.data())).collect();
        assert_eq!(seen, [(2, b"ab".as_slice()), (3, b"c"), (4, b"")]);
    }

    #[test]
    fn a_single_call_keeps_the_time_of_its_event() {
        let chunks = TlsChunk::split(event(vec![], b"abc", 0));
        assert_eq!((chunks.len(), chunks[0].ts, chunks[0].data_bytes), (1, WallNanos(9), 3));
    }

    #[test]
    fn calls_that_contradict_the_event_are_given_as_one() {
        for calls in [vec![2, 9], vec![u64::MAX, 5]] {
            let chunks = TlsChunk::split(event(calls, b"abcde", 0));
            assert_eq!((chunks.len(), chunks[0].data()), (1, b"abcde".as_slice()));
        }
    }
}
