//! Lines of a byte stream with holes: one JSON-RPC message each (MCP, stdio transport).
//!
//! A line that does not begin as a message does is passed over without being kept. Of one that is too
//! long, or has a hole, the begin and the end are kept: they say which message it was.

use memchr::memchr;

use crate::time::WallNanos;

/// Longest line that is kept whole. The reference implementations refuse messages from 10 MiB on.
pub(super) const MAX_LINE_BYTES: usize = 16 << 20;

/// Kept of the begin of a line that is not kept whole.
const HEAD_BYTES: usize = 64 << 10;

/// Kept of its end.
const TAIL_BYTES: usize = 256;

/// A line without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// When its last byte came.
    pub(super) ts: WallNanos,
    /// The line; of one that is not whole, its begin.
    pub(super) head: &'a [u8],
    /// The end of a line that is not whole.
    pub(super) tail: &'a [u8],
    /// Its length, holes included, line feed not.
    pub(super) bytes: u64,
    /// Whether it is whole, and if not, why.
    pub(super) state: LineState,
}

/// How much of a line there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineState {
    /// All of it.
    Whole,
    /// It is longer than what is kept.
    TooLong,
    /// Bytes in it are missing.
    Gap,
    /// Bytes are missing right before it: it is whole only if it looks so.
    AfterGap,
}

/// Bytes that all lines together may hold at a time.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self { left: bytes }
    }
}

/// Reads one stream.
#[derive(Debug)]
pub(super) struct Lines {
    head: Vec<u8>,
    tail: Vec<u8>,
    bytes: u64,
    ts: WallNanos,
    state: LineState,
    /// The line cannot be a message, so nothing of it is kept.
    is_skipped: bool,
    /// Bytes are missing before what is kept of it.
    is_after_gap: bool,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self {
            head: Vec::new(),
            tail: Vec::new(),
            bytes: 0,
            ts: WallNanos(0),
            state: LineState::Whole,
            is_skipped: false,
            is_after_gap: false,
        }
    }

    /// Takes bytes, hands out the lines that they complete.
    pub(super) fn push(
        &mut self,
        ts: WallNanos,
        bytes: &[u8],
        budget: &mut Budget,
        sink: &mut dyn FnMut(Line<'_>),
    ) {
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest) {
            self.extend(ts, &rest[..end], budget);
            rest = &rest[end + 1..];
            self.ts = ts;
            self.end(budget, sink);
        }
        self.extend(ts, rest, budget);
    }

    /// Bytes are missing here. What follows up to the next line feed may be of the same line or of a
    /// later one.
    pub(super) fn gap(&mut self, ts: WallNanos, bytes: u64, budget: &mut Budget) {
        self.ts = ts;
        self.bytes = self.bytes.saturating_add(bytes);
        let is_at_start = self.head.is_empty() && self.state == LineState::Whole;
        if std::mem::take(&mut self.is_skipped) || is_at_start {
            self.is_after_gap = true;
            return;
        }
        self.state = LineState::Gap;
        if self.is_after_gap {
            budget.left += self.head.len();
            self.head.clear();
        }
        self.shorten(budget);
    }

    /// The stream has ended: what is left is a line if it is one.
    pub(super) fn finish(&mut self, budget: &mut Budget, sink: &mut dyn FnMut(Line<'_>)) {
        self.end(budget, sink);
    }

    fn extend(&mut self, ts: WallNanos, bytes: &[u8], budget: &mut Budget) {
        if bytes.is_empty() {
            return;
        }
        (self.ts, self.bytes) = (ts, self.bytes.saturating_add(bytes.len() as u64));
        if self.is_skipped {
            return;
        }
        if self.state != LineState::Whole {
            self.keep_tail(bytes);
            return;
        }
        // Blanks in front are no part of a message.
        let bytes = match self.head.is_empty() {
            true => bytes.trim_ascii_start(),
            false => bytes,
        };
        if self.head.is_empty() && bytes.first().is_some_and(|first| !b"{[".contains(first)) {
            if self.is_after_gap {
                self.state = LineState::Gap;
                self.keep_tail(bytes);
            } else {
                self.is_skipped = true;
            }
            return;
        }
        // Byte by byte the same are kept as at once: as many as fit.
        let room = MAX_LINE_BYTES - self.head.len();
        let kept = bytes.len().min(room).min(budget.left);
        budget.left -= kept;
        self.head.extend_from_slice(&bytes[..kept]);
        if kept < bytes.len() {
            self.state = LineState::TooLong;
            self.tail = self.head[self.head.len().saturating_sub(TAIL_BYTES)..].to_vec();
            self.shorten(budget);
            self.keep_tail(&bytes[kept..]);
        }
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
        let too_many = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..too_many);
    }

    /// Gives back all but the begin of the line.
    fn shorten(&mut self, budget: &mut Budget) {
        let too_many = self.head.len().saturating_sub(HEAD_BYTES);
        if too_many > 0 {
            budget.left += too_many;
            self.head.truncate(HEAD_BYTES);
            self.head.shrink_to_fit();
        }
        if self.state == LineState::Gap {
            self.tail.clear();
        }
    }

    fn end(&mut self, budget: &mut Budget, sink: &mut dyn FnMut(Line<'_>)) {
        let is_empty = self.head.is_empty() && self.tail.is_empty();
        if !self.is_skipped && !is_empty {
            let line = Line {
                ts: self.ts,
                head: &self.head,
                tail: &self.tail,
                bytes: self.bytes,
                state: match self.state {
                    LineState::Whole if self.is_after_gap => LineState::AfterGap,
                    // Its begin is not the begin of a line.
                    LineState::TooLong if self.is_after_gap => LineState::Gap,
                    state => state,
                },
            };
            sink(line);
        }
        budget.left += self.head.len();
        // A long line's room is not kept for the short ones after it.
        match self.head.capacity() > HEAD_BYTES {
            true => self.head = Vec::new(),
            false => self.head.clear(),
        }
        self.tail.clear();
        (self.bytes, self.state) = (0, LineState::Whole);
        (self.is_skipped, self.is_after_gap) = (false, false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pieces, `None` for a hole of 5 bytes.
    fn lines(pieces: &[Option<&str>], budget_bytes: usize) -> Vec<String> {
        let mut lines = Lines::new();
        let mut budget = Budget::new(budget_bytes);
        let mut out = Vec::new();
        let mut sink = |line: Line<'_>| {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let (head, tail) = (text(line.head), text(line.tail));
            out.push(format!("{:?} {} {head}~{tail}", line.state, line.bytes));
        };
        for piece in pieces {
            match piece {
                Some(text) => lines.push(WallNanos(1), text.as_bytes(), &mut budget, &mut sink),
                None => lines.gap(WallNanos(1), 5, &mut budget),
            }
        }
        lines.finish(&mut budget, &mut sink);
        assert_eq!(budget.left, budget_bytes, "what was taken is given back");
        out
    }

    #[test]
    fn lines_that_begin_as_messages_come_out_and_others_do_not() {
        let text = "ready\n{\"a\":1}\r\n\n  [2]\nnot {this}\n{3}";
        let expected = ["Whole 8 {\"a\":1}\r~", "Whole 5 [2]~", "Whole 3 {3}~"];
        assert_eq!(lines(&[Some(text)], 1000), expected);
    }

    #[test]
    fn a_hole_costs_the_line_it_is_in() {
        let pieces =
            [Some("{1}\n{\"id\""), None, Some("\"x\"}\n{2}\nlog"), None, Some("{no}\n{3}\n")];
        let expected = [
            "Whole 3 {1}~",
            "Gap 14 {\"id\"~\"x\"}",
            "Whole 3 {2}~",
            "AfterGap 12 {no}~",
            "Whole 3 {3}~",
        ];
        assert_eq!(lines(&pieces, 1000), expected);
        assert_eq!(lines(&[None, Some("\"}\n{1}")], 1000), ["Gap 7 ~\"}", "Whole 3 {1}~"]);
        let twice = [None, Some("{1"), None, Some("2}\n{3}\n")];
        assert_eq!(lines(&twice, 1000), ["Gap 14 ~2}", "Whole 3 {3}~"]);
    }

    #[test]
    fn of_a_line_that_is_too_long_both_ends_are_kept() {
        let long = format!("{{{}}}\n{{2}}\n", "x".repeat(MAX_LINE_BYTES));
        let mut found = lines(&[Some(&long)], 2 * MAX_LINE_BYTES);
        assert_eq!(found.pop().unwrap(), "Whole 3 {2}~");
        let (head, tail) = found[0].split_once('~').unwrap();
        assert!(head.starts_with(&format!("TooLong {} {{xx", MAX_LINE_BYTES + 2)));
        assert_eq!((tail.len(), tail.ends_with("xx}")), (TAIL_BYTES, true));
        let none_left = lines(&[Some("{12345}\n{1}\n")], 4);
        assert_eq!(none_left, ["TooLong 7 {123~{12345}", "Whole 3 {1}~"]);
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(
            text in "(\\{[a-z]{0,5}\\}|\n| |[a-z]{1,3}|\r\n){0,30}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|pair| Some(&text[pair[0]..pair[1]])).collect();
            for budget in [1 << 20, 3] {
                prop_assert_eq!(lines(&pieces, budget), lines(&[Some(&text)], budget));
            }
        }
    }
}
