//! Server-sent events (WHATWG HTML, section 9.2).
//!
//! An event is out when its empty line has begun. One without it is none, unless the body is whole and
//! ends with a line of the event: some servers leave the last empty line out, and their clients read
//! the event all the same. `id` and `retry` are for reconnecting and are ignored.

use std::borrow::Cow;

use memchr::memchr2;

use super::{MAX_EVENT_BYTES, Sink, StreamItem};

/// Reads one event stream.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The line so far, without its end.
    line: Vec<u8>,
    event: Option<String>,
    data: String,
    has_data: bool,
    /// The last byte was a carriage return: a line feed now belongs to it.
    after_cr: bool,
    /// A line has been read, so that a byte order mark can no longer come.
    begun: bool,
    /// The current event is incomplete or too long and must not come out.
    spoilt: bool,
    /// No line has been read since bytes were missing.
    after_gap: bool,
}

impl Parser {
    /// Takes bytes, hands out the events they complete.
    pub(crate) fn push(&mut self, bytes: &[u8], sink: Sink<'_>) {
        let mut rest = bytes;
        if rest.is_empty() {
            return;
        }
        if std::mem::take(&mut self.after_cr) {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            self.extend_line(&rest[..end]);
            let ended_by_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if ended_by_cr {
                self.after_cr = rest.is_empty();
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
            self.end_line(sink);
        }
        self.extend_line(rest);
    }

    /// Bytes are missing here: the event they were in is dropped, and what follows up to the next
    /// empty line, unless it clearly begins with an `event` line.
    pub(crate) fn gap(&mut self) {
        self.line.clear();
        self.after_cr = false;
        self.begun = true;
        self.spoilt = true;
        self.after_gap = true;
    }

    /// The body has ended with whole lines.
    pub(crate) fn finish(&mut self, sink: Sink<'_>) {
        if self.line.is_empty() {
            self.dispatch(sink);
        }
    }

    fn extend_line(&mut self, bytes: &[u8]) {
        if self.line.len() + self.data.len() + bytes.len() > MAX_EVENT_BYTES {
            self.line = Vec::new();
            self.data = String::new();
            self.spoilt = true;
            return;
        }
        self.line.extend_from_slice(bytes);
    }

    fn end_line(&mut self, sink: Sink<'_>) {
        let mut line = std::mem::take(&mut self.line);
        let text = if self.begun { &line[..] } else { line.strip_prefix(BOM).unwrap_or(&line) };
        self.begun = true;
        if text.is_empty() {
            self.dispatch(sink);
        } else {
            self.field(text);
        }
        // The allocation is used again.
        line.clear();
        self.line = line;
    }

    fn field(&mut self, line: &[u8]) {
        let colon = memchr::memchr(b':', line);
        let (name, value) = match colon {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"event" => {
                if self.after_gap {
                    self.data.clear();
                    self.has_data = false;
                    self.spoilt = false;
                }
                self.event = Some(String::from_utf8_lossy(value).into_owned());
            }
            b"data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(&String::from_utf8_lossy(value));
            }
            _ => {}
        }
        self.after_gap = false;
    }

    fn dispatch(&mut self, sink: Sink<'_>) {
        if self.has_data && !self.spoilt {
            let event = self.event.as_deref().filter(|event| !event.is_empty());
            sink(StreamItem { event, data: Cow::Borrowed(&self.data) });
        }
        self.event = None;
        self.data.clear();
        self.has_data = false;
        self.spoilt = false;
        self.after_gap = false;
    }
}

const BOM: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<(Option<String>, String)> {
        let mut parser = Parser::default();
        let mut out = Vec::new();
        for piece in pieces {
            parser.push(piece, &mut |event| {
                out.push((event.event.map(str::to_owned), event.data.clone().into_owned()));
            });
        }
        out
    }

    fn data(text: &str) -> Vec<String> {
        events(&[text.as_bytes()]).into_iter().map(|(_, data)| data).collect()
    }

    #[test]
    fn all_line_ends_are_understood() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["event: a", "data: 1", "data:2", "", "data", "", ""].join(end);
            let expected = [(Some("a".to_owned()), "1\n2".to_owned()), (None, String::new())];
            assert_eq!(events(&[text.as_bytes()]), expected, "{end:?}");
        }
    }

    #[test]
    fn a_byte_order_mark_comments_and_other_fields_are_skipped() {
        assert_eq!(data("\u{feff}data: 1\n: note\nid: 7\nretry: 5\n\n"), ["1"]);
        assert_eq!(data("data: 1\n\n\u{feff}data: 2\n\n"), ["1"]);
    }

    #[test]
    fn without_data_or_empty_line_there_is_no_event() {
        assert_eq!(data("event: a\n\ndata: 1\n"), [""; 0]);
        assert_eq!(events(&[b"event: a\n\ndata: 1\n\n"]), [(None, "1".to_owned())]);
    }

    #[test]
    fn the_last_event_of_a_whole_body_needs_no_empty_line() {
        for (text, expected) in [("data: 1\n", &["1"][..]), ("data: 1\n\n", &[]), ("data: 1", &[])]
        {
            let (mut parser, mut out) = (Parser::default(), Vec::new());
            parser.push(text.as_bytes(), &mut |_| {});
            parser.finish(&mut |event| out.push(event.data.into_owned()));
            assert_eq!(out, expected, "{text:?}");
        }
    }

    #[test]
    fn characters_split_across_reads_are_whole() {
        let text = "data: \u{1f980}\n\n".as_bytes();
        let single: Vec<_> = text.chunks(1).collect();
        assert_eq!(events(&single), [(None, "\u{1f980}".to_owned())]);
    }

    #[test]
    fn an_event_with_missing_bytes_is_dropped_alone() {
        let mut parser = Parser::default();
        let mut out = Vec::new();
        parser.push(b"data: 1\n\ndata: 2", &mut |event| out.push(event.data.clone().into_owned()));
        parser.gap();
        let rest = b"data: 3\n\ndata: 4\n\n";
        parser.push(rest, &mut |event| out.push(event.data.clone().into_owned()));
        parser.gap();
        parser
            .push(b"event: a\ndata: 5\n\n", &mut |event| out.push(event.data.clone().into_owned()));
        assert_eq!(out, ["1", "4", "5"]);
    }

    #[test]
    fn an_endless_event_is_dropped_alone() {
        let mut parser = Parser::default();
        let mut out = Vec::new();
        let mut sink = |event: StreamItem<'_>| out.push(event.data.clone().into_owned());
        parser.push(b"data: ", &mut sink);
        for _ in 0..MAX_EVENT_BYTES / (1 << 20) + 1 {
            parser.push(&vec![b'x'; 1 << 20], &mut sink);
            assert!(parser.line.len() + parser.data.len() <= MAX_EVENT_BYTES);
        }
        parser.push(b"\n\ndata: next\n\n", &mut sink);
        assert_eq!(out, ["next"]);
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(
            text in "(event: a|data: 1|data|:|[ -~]{0,3}|\u{feff}|\u{1f980}|\n|\r|\r\n|\n\n){0,30}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(events(&pieces), events(&[bytes]));
            let single: Vec<_> = bytes.chunks(1).collect();
            prop_assert_eq!(events(&single), events(&[bytes]));
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            events(&[&bytes]);
        }
    }
}
