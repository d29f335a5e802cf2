//! Finding back into a stream of frames after bytes were lost: holds bytes until it can be told where
//! a frame begins.
//!
//! What a frame looks like is known to the protocol, which gives its opinion of every place that may be
//! one. Each byte keeps its time, and where calls of the TLS library began is remembered, because peers
//! rarely begin a frame in the midst of a call. Used by [`super::http2`] and [`super::websocket`].

use crate::time::WallNanos;

/// Bytes held while it is not sure whether a frame begins with them.
const MAX_HELD_BYTES: usize = 64 << 10;

/// What the protocol thinks of bytes that may begin a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// They do.
    Frame,
    /// They do not.
    Other,
    /// More of them are needed to tell.
    Undecided,
}

/// A place that may be the beginning of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The bytes from there on, as far as they came; at least one.
    pub(crate) bytes: &'a [u8],
    /// A call begins there.
    pub(crate) at_call: bool,
}

/// Bytes being looked at.
#[derive(Debug)]
pub(crate) struct Resync {
    held: Vec<u8>,
    /// The calls that `held` is of, in order; they cover it.
    calls: Vec<Call>,
    /// When the latest byte came; `None` after a gap.
    last_ts: Option<WallNanos>,
}

#[derive(Debug)]
struct Call {
    /// Where it begins in `held`.
    start: usize,
    ts: WallNanos,
    /// Whether that is its beginning; else part of it is gone.
    is_whole: bool,
}

impl Resync {
    /// Begins in the midst of a stream: after a byte of this time, or else after a gap.
    pub(crate) fn after(last_ts: Option<WallNanos>) -> Self {
        Self { held: Vec::new(), calls: Vec::new(), last_ts }
    }

    /// Takes bytes. When it is clear where a frame begins, gives what is held from there on, by time.
    /// `probe` is asked about every place in turn, and again about an undecided one with more bytes.
    pub(crate) fn push(
        &mut self,
        ts: WallNanos,
        bytes: &[u8],
        probe: &mut dyn FnMut(Place<'_>) -> Probe,
    ) -> Option<Vec<(WallNanos, Vec<u8>)>> {
        let is_whole = self.last_ts.replace(ts) != Some(ts);
        if is_whole || self.calls.is_empty() {
            self.calls.push(Call { start: self.held.len(), ts, is_whole });
        }
        self.held.extend_from_slice(bytes);
        let (mut at, mut call) = (0, 0);
        while at < self.held.len() {
            while self.calls.get(call).is_some_and(|call| call.start < at) {
                call += 1;
            }
            let at_call =
                self.calls.get(call).is_some_and(|call| call.start == at && call.is_whole);
            match probe(Place { bytes: &self.held[at..], at_call }) {
                Probe::Frame => {
                    self.drop_first(at);
                    return Some(self.take());
                }
                Probe::Undecided if self.held.len() - at <= MAX_HELD_BYTES => break,
                Probe::Other | Probe::Undecided => at += 1,
            }
        }
        self.drop_first(at);
        None
    }

    fn drop_first(&mut self, length: usize) {
        self.held.drain(..length);
        // The last call that begins at or before the first byte left is the one it is of.
        let passed = self.calls.iter().take_while(|call| call.start <= length).count();
        self.calls.drain(..passed.saturating_sub(1));
        for call in &mut self.calls {
            call.is_whole &= call.start >= length;
            call.start = call.start.saturating_sub(length);
        }
        if self.held.is_empty() {
            self.calls.clear();
        }
    }

    fn take(&mut self) -> Vec<(WallNanos, Vec<u8>)> {
        let mut held = std::mem::take(&mut self.held);
        let mut pieces = Vec::with_capacity(self.calls.len());
        for call in self.calls.drain(..).rev() {
            pieces.push((call.ts, held.split_off(call.start)));
        }
        pieces.reverse();
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames are `<`, a digit that says how many more bytes there are, and these.
    fn probe(place: Place<'_>) -> Probe {
        match place.bytes {
            [b'<'] => Probe::Undecided,
            [b'<', length @ b'0'..=b'9', rest @ ..] => match rest.get(usize::from(length - b'0')) {
                None => Probe::Undecided,
                Some(b'<') => Probe::Frame,
                Some(_) => Probe::Other,
            },
            _ => Probe::Other,
        }
    }

    fn text(pieces: &[(WallNanos, Vec<u8>)]) -> Vec<(i64, &str)> {
        pieces.iter().map(|(ts, bytes)| (ts.0, std::str::from_utf8(bytes).unwrap())).collect()
    }

    #[test]
    fn what_is_held_keeps_its_times() {
        let mut resync = Resync::after(None);
        assert!(resync.push(WallNanos(1), b"rest <1", &mut probe).is_none());
        assert!(resync.push(WallNanos(1), b"ab <", &mut probe).is_none());
        assert!(resync.push(WallNanos(2), b"2", &mut probe).is_none());
        let found = resync.push(WallNanos(3), b"ab<1c", &mut probe).unwrap();
        assert_eq!(text(&found), [(1, "<"), (2, "2"), (3, "ab<1c")]);
    }

    #[test]
    fn the_beginnings_of_calls_are_known() {
        let mut seen = String::new();
        let mut note = |place: Place<'_>| {
            seen.push(if place.at_call { '|' } else { '.' });
            seen.push(char::from(place.bytes[0]));
            Probe::Other
        };
        let mut resync = Resync::after(Some(WallNanos(1)));
        for (ts, bytes) in [(1, "ab"), (2, "c"), (2, "d"), (3, "e")] {
            resync.push(WallNanos(ts), bytes.as_bytes(), &mut note);
        }
        assert_eq!(seen, ".a.b|c.d|e");
    }

    #[test]
    fn no_more_is_held_than_may_be() {
        let mut resync = Resync::after(None);
        for _ in 0..64 {
            let found = resync.push(WallNanos(1), &[b'x'; 4096], &mut |_| Probe::Undecided);
            assert!(found.is_none() && resync.held.len() <= MAX_HELD_BYTES);
        }
    }
}
