//! JSON lines, as `application/x-ndjson`: every line is an event.

use std::borrow::Cow;

use memchr::memchr;

use super::{MAX_EVENT_BYTES, Sink, StreamItem};

/// Reads lines.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The line so far.
    line: Vec<u8>,
    /// The line is incomplete or too long and must not come out.
    spoilt: bool,
}

impl Parser {
    /// Takes bytes, hands out the lines they complete; empty ones are none.
    pub(crate) fn push(&mut self, bytes: &[u8], sink: Sink<'_>) {
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if self.line.is_empty() && !self.spoilt {
                hand_out(line, sink);
            } else {
                self.extend(line);
                self.end(sink);
            }
        }
        self.extend(rest);
    }

    /// Bytes are missing: the line they were in is dropped.
    pub(crate) fn gap(&mut self) {
        self.line.clear();
        self.spoilt = true;
    }

    /// The last line needs no end.
    pub(crate) fn finish(&mut self, sink: Sink<'_>) {
        self.end(sink);
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.line.len() + bytes.len() > MAX_EVENT_BYTES {
            self.line = Vec::new();
            self.spoilt = true;
        }
        if !self.spoilt {
            self.line.extend_from_slice(bytes);
        }
    }

    fn end(&mut self, sink: Sink<'_>) {
        if !std::mem::take(&mut self.spoilt) {
            hand_out(&self.line, sink);
        }
        self.line.clear();
    }
}

fn hand_out(line: &[u8], sink: Sink<'_>) {
    let line = line.trim_ascii();
    if !line.is_empty() {
        sink(StreamItem { event: None, data: String::from_utf8_lossy(line) });
    }
}

/// An owned text, for events that are not one piece of the input.
pub(super) fn lossy(bytes: Vec<u8>) -> Cow<'static, str> {
    Cow::Owned(
        String::from_utf8(bytes)
            .unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into_owned()),
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Framing, events};
    use super::*;

    fn parser() -> Framing {
        Framing::JsonLines(Parser::default())
    }

    fn data(framing: &mut Framing, pieces: &[&[u8]]) -> Vec<String> {
        events(framing, pieces).into_iter().map(|(_, data)| data).collect()
    }

    #[test]
    fn every_line_is_an_event_and_the_last_needs_no_end() {
        let text = b"{\"a\":1}\r\n\n  \n{\"b\":2}\n{\"c\"";
        for pieces in [vec![&text[..]], text.chunks(1).collect()] {
            let mut lines = parser();
            assert_eq!(data(&mut lines, &pieces), ["{\"a\":1}", "{\"b\":2}"]);
            let mut last = Vec::new();
            lines.finish(&mut |item| last.push(item.data.into_owned()));
            assert_eq!(last, ["{\"c\""]);
        }
    }

    #[test]
    fn a_line_with_missing_bytes_is_dropped_alone() {
        let mut lines = parser();
        assert_eq!(data(&mut lines, &[b"1\n2"]), ["1"]);
        lines.gap(Some(5));
        assert_eq!(data(&mut lines, &[b"3\n4\n"]), ["4"]);
    }

    #[test]
    fn an_endless_line_is_dropped_alone() {
        let mut lines = Parser::default();
        for _ in 0..MAX_EVENT_BYTES / (1 << 20) + 1 {
            lines.push(&vec![b'x'; 1 << 20], &mut |_| panic!("not a whole line"));
            assert!(lines.line.len() <= MAX_EVENT_BYTES);
        }
        let mut out = Vec::new();
        lines.push(b"\nnext\n", &mut |item| out.push(item.data.into_owned()));
        assert_eq!(out, ["next"]);
    }
}
