//! One direction of one connection: `tls_data` events in, bytes and gaps in stream order out.
//!
//! Owns the only place where offsets matter: everything after it sees a stream. Events may come
//! out of order within a window of time, bytes and parts; bytes that come twice are used once. Each byte
//! keeps the time of the call that moved it, also when calls were joined into one event. Knows no
//! protocol.

use std::collections::BTreeMap;

use crate::event::StreamData;
use crate::time::WallNanos;

/// The next part of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    /// When the call that moved it returned.
    pub(crate) ts: WallNanos,
    /// What it is.
    pub(crate) content: Content<'a>,
}

/// What a [`Piece`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    /// Captured bytes, never empty.
    Data(&'a [u8]),
    /// This many bytes went through and were not captured, never 0.
    Gap(u64),
}

/// Puts the events of one direction in order.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// Offset of the first byte not yet handed on.
    next_offset: u64,
    /// Whether the first byte to come is the first there is, whatever its offset.
    begins_anywhere: bool,
    /// Parts that lie beyond `next_offset`, by their offset.
    early: BTreeMap<u64, Early>,
    /// Bytes held in `early`.
    early_bytes: usize,
}

/// A part that came before what lies in front of it.
#[derive(Debug)]
struct Early {
    ts: WallNanos,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Data(Vec<u8>),
    Gap(u64),
}

impl Stream {
    /// Bytes held back while waiting for what comes before them. Within a row group the reader
    /// hands out a stream in order, so only the few calls around a row group's edge ever wait.
    pub(crate) const WINDOW_BYTES: usize = 4 << 20;
    /// Parts held back: bounds the cost of many tiny ones.
    pub(crate) const WINDOW_PARTS: usize = 4096;

    /// Time for which a part waits for what comes before it. Events that the recorder or the
    /// reader bring out of order belong to the same burst; what comes later was lost, and waiting
    /// for it would keep the exchanges after it from being paired.
    const WINDOW_NS: i64 = 10_000_000_000;

    /// A stream of a trace that begins in the middle of a recording: what lies before the first byte
    /// to come is not lost, it is in another trace.
    pub(crate) fn midway() -> Self {
        Self { begins_anywhere: true, ..Self::default() }
    }

    /// Gives up waiting for what should have come long before `now`.
    pub(crate) fn expire(&mut self, now: WallNanos, sink: &mut dyn FnMut(Piece<'_>)) {
        let is_old = |early: &Early| now.0.saturating_sub(early.ts.0) > Self::WINDOW_NS;
        while self.early.first_key_value().is_some_and(|(_, early)| is_old(early)) {
            self.skip_to_early(sink);
        }
    }

    /// Takes one event and hands on all that is now in order.
    pub(crate) fn push(
        &mut self,
        event_ts: WallNanos,
        data: &StreamData,
        sink: &mut dyn FnMut(Piece<'_>),
    ) {
        let captured = data.data.len() as u64;
        // Offsets come from a file: what would pass the end of the number line is not placeable.
        let Some(end) = data
            .stream_offset
            .checked_add(captured)
            .and_then(|captured_end| captured_end.checked_add(data.lost_bytes))
        else {
            return;
        };
        if std::mem::take(&mut self.begins_anywhere) {
            self.next_offset = data.stream_offset;
        }
        let mut start = 0_usize;
        for (ts, length) in calls(event_ts, data) {
            let bytes = &data.data[start..start + length];
            self.place(data.stream_offset + start as u64, ts, bytes, sink);
            start += length;
        }
        if data.lost_bytes > 0 {
            let ts = data.call_ts.last().copied().unwrap_or(event_ts);
            self.place_gap(end - data.lost_bytes, ts, data.lost_bytes, sink);
        }
        self.release(sink);
        while self.early_bytes > Self::WINDOW_BYTES || self.early.len() > Self::WINDOW_PARTS {
            self.skip_to_early(sink);
        }
    }

    /// Hands on all that is held; what is missing in front of it becomes gaps.
    pub(crate) fn flush(&mut self, sink: &mut dyn FnMut(Piece<'_>)) {
        while !self.early.is_empty() {
            self.skip_to_early(sink);
        }
    }

    /// The time of what is held next, if anything waits for what comes before it.
    pub(crate) fn held_since(&self) -> Option<WallNanos> {
        self.early.first_key_value().map(|(_, early)| early.ts)
    }

    fn place(&mut self, offset: u64, ts: WallNanos, bytes: &[u8], sink: &mut dyn FnMut(Piece<'_>)) {
        let known = self.next_offset.saturating_sub(offset).min(bytes.len() as u64);
        let (offset, bytes) = (offset + known, &bytes[known as usize..]);
        if bytes.is_empty() {
            return;
        }
        if offset > self.next_offset {
            // Of two claims to one offset the longer is kept; bytes beat a gap.
            let held = self.early.get(&offset).map_or(0, |early| early.held.captured());
            if held < bytes.len() {
                self.early_bytes += bytes.len();
                self.hold(offset, ts, Held::Data(bytes.to_vec()));
            }
            return;
        }
        self.next_offset += bytes.len() as u64;
        sink(Piece { ts, content: Content::Data(bytes) });
        self.release(sink);
    }

    fn place_gap(
        &mut self,
        offset: u64,
        ts: WallNanos,
        length: u64,
        sink: &mut dyn FnMut(Piece<'_>),
    ) {
        let known = self.next_offset.saturating_sub(offset).min(length);
        let (offset, length) = (offset + known, length - known);
        if length == 0 {
            return;
        }
        if offset > self.next_offset {
            if !self.early.contains_key(&offset) {
                self.hold(offset, ts, Held::Gap(length));
            }
            return;
        }
        self.next_offset += length;
        sink(Piece { ts, content: Content::Gap(length) });
    }

    fn hold(&mut self, offset: u64, ts: WallNanos, held: Held) {
        if let Some(Early { held: Held::Data(replaced), .. }) =
            self.early.insert(offset, Early { ts, held })
        {
            self.early_bytes -= replaced.len();
        }
    }

    /// Hands on what is held and has become next.
    fn release(&mut self, sink: &mut dyn FnMut(Piece<'_>)) {
        while let Some(entry) = self.early.first_entry() {
            if *entry.key() > self.next_offset {
                return;
            }
            let (offset, early) = entry.remove_entry();
            match early.held {
                Held::Data(bytes) => {
                    self.early_bytes -= bytes.len();
                    let known = (self.next_offset - offset).min(bytes.len() as u64) as usize;
                    if known < bytes.len() {
                        self.next_offset += (bytes.len() - known) as u64;
                        sink(Piece { ts: early.ts, content: Content::Data(&bytes[known..]) });
                    }
                }
                Held::Gap(length) => self.place_gap(offset, early.ts, length, sink),
            }
        }
    }

    /// Gives up waiting for what is missing before the first part held.
    fn skip_to_early(&mut self, sink: &mut dyn FnMut(Piece<'_>)) {
        let Some((&offset, early)) = self.early.first_key_value() else { return };
        let (ts, missing) = (early.ts, offset.saturating_sub(self.next_offset));
        if missing > 0 {
            self.next_offset = offset;
            sink(Piece { ts, content: Content::Gap(missing) });
        }
        self.release(sink);
    }
}

impl Held {
    fn captured(&self) -> usize {
        match self {
            Self::Data(bytes) => bytes.len(),
            Self::Gap(_) => 0,
        }
    }
}

/// The captured bytes of an event by call: time and length, lengths summing to `data.data.len()`.
fn calls(event_ts: WallNanos, data: &StreamData) -> impl Iterator<Item = (WallNanos, usize)> {
    let captured = data.data.len();
    let mut used = 0_usize;
    let last_ts = data.call_ts.last().copied().unwrap_or(event_ts);
    let mut joined = data.call_ts.iter().zip(&data.call_bytes);
    std::iter::from_fn(move || {
        let left = captured - used;
        if left == 0 {
            return None;
        }
        // Whatever the call list leaves over belongs to its last call.
        let (ts, length) = joined.next().map_or((last_ts, left), |(&ts, &bytes)| {
            (ts, usize::try_from(bytes).unwrap_or(usize::MAX).min(left))
        });
        used += length;
        Some((ts, length))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Direction;
    use crate::event::Source;

    fn event(offset: u64, data: &[u8], lost_bytes: u64) -> StreamData {
        StreamData {
            source: Source::Tls,
            conn_id: 1,
            direction: Direction::Read,
            stream_offset: offset,
            data_bytes: data.len() as u64 + lost_bytes,
            lost_bytes,
            data: data.to_vec(),
            library: "openssl".into(),
            fd: None,
            call_ts: Vec::new(),
            call_bytes: Vec::new(),
        }
    }

    /// Bytes as they are, a gap as its length in braces.
    fn text(stream: &mut Stream, events: &[(i64, StreamData)], flush: bool) -> String {
        let mut out = String::new();
        let mut sink = |piece: Piece<'_>| match piece.content {
            Content::Data(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
            Content::Gap(length) => out.push_str(&format!("{{{length}}}")),
        };
        for (ts, data) in events {
            stream.push(WallNanos(*ts), data, &mut sink);
        }
        if flush {
            stream.flush(&mut sink);
        }
        out
    }

    #[test]
    fn a_stream_of_a_later_part_begins_where_it_begins() {
        let events = [(1, event(700, b"abc", 0)), (2, event(705, b"f", 0))];
        assert_eq!(text(&mut Stream::midway(), &events, true), "abc{2}f");
        assert_eq!(text(&mut Stream::default(), &events, true), "{700}abc{2}f");
    }

    #[test]
    fn events_out_of_order_are_put_in_order() {
        let events = [(1, event(3, b"def", 0)), (2, event(6, b"g", 0)), (3, event(0, b"abc", 0))];
        assert_eq!(text(&mut Stream::default(), &events, false), "abcdefg");
    }

    #[test]
    fn duplicates_and_overlaps_are_used_once() {
        let events = [(1, event(0, b"abc", 0)), (2, event(0, b"abc", 0)), (3, event(2, b"cde", 0))];
        assert_eq!(text(&mut Stream::default(), &events, false), "abcde");
    }

    #[test]
    fn lost_bytes_and_jumps_are_gaps_of_their_length() {
        let events = [(1, event(0, b"ab", 3)), (2, event(5, b"f", 0)), (3, event(10, b"k", 0))];
        assert_eq!(text(&mut Stream::default(), &events, true), "ab{3}f{4}k");
    }

    #[test]
    fn joined_calls_keep_their_times() {
        let mut joined = event(0, b"abcdef", 2);
        joined.call_ts = vec![WallNanos(10), WallNanos(20)];
        joined.call_bytes = vec![4, 4];
        let mut seen = Vec::new();
        Stream::default().push(WallNanos(99), &joined, &mut |piece| {
            seen.push((piece.ts.0, format!("{:?}", piece.content)));
        });
        let expected = [(10, "Data([97, 98, 99, 100])"), (20, "Data([101, 102])"), (20, "Gap(2)")];
        assert_eq!(seen, expected.map(|(ts, content)| (ts, content.to_owned())));
    }

    #[test]
    fn waiting_ends_when_time_has_passed() {
        let mut stream = Stream::default();
        assert_eq!(
            text(&mut stream, &[(5, event(0, b"a", 0)), (6, event(3, b"d", 0))], false),
            "a"
        );
        let mut pieces = 0;
        stream.expire(WallNanos(6 + Stream::WINDOW_NS), &mut |_| pieces += 1);
        assert_eq!(pieces, 0);
        stream.expire(WallNanos(7 + Stream::WINDOW_NS), &mut |_| pieces += 1);
        assert_eq!(pieces, 2, "a gap and what waited behind it");
    }

    #[test]
    fn waiting_ends_when_the_window_is_full() {
        let mut stream = Stream::default();
        let half = vec![b'x'; Stream::WINDOW_BYTES / 2 + 1];
        let events = [(1, event(10, &half, 0)), (2, event(20 + half.len() as u64, &half, 0))];
        let out = text(&mut stream, &events, false);
        assert!(out.starts_with("{10}xxx"), "{}", &out[..20]);
        assert!(stream.early_bytes <= Stream::WINDOW_BYTES);
    }

    proptest! {
        #[test]
        fn any_events_give_each_offset_at_most_once(
            parts in prop::collection::vec((0_u64..60, 0_usize..12, 0_u64..5), 0..40),
        ) {
            let source: Vec<u8> = (0..100).collect();
            let mut stream = Stream::default();
            let mut offset = 0_u64;
            let mut sink = |piece: Piece<'_>| match piece.content {
                Content::Data(bytes) => {
                    let at = offset as usize;
                    assert_eq!(bytes, &source[at..at + bytes.len()]);
                    offset += bytes.len() as u64;
                }
                Content::Gap(length) => offset += length,
            };
            for (at, length, lost) in parts {
                let data = &source[at as usize..at as usize + length];
                stream.push(WallNanos(0), &event(at, data, lost), &mut sink);
            }
            stream.flush(&mut sink);
            prop_assert_eq!(stream.early_bytes, 0);
        }

        #[test]
        fn hostile_numbers_never_panic(
            offset in any::<u64>(), lost in any::<u64>(), call_bytes in prop::collection::vec(any::<u64>(), 0..3),
        ) {
            let mut data = event(offset, b"abc", lost);
            data.call_ts = vec![WallNanos(1); call_bytes.len()];
            data.call_bytes = call_bytes;
            let mut stream = Stream::default();
            stream.push(WallNanos(0), &data, &mut |_| {});
            stream.push(WallNanos(0), &data, &mut |_| {});
            stream.flush(&mut |_| {});
        }
    }
}
