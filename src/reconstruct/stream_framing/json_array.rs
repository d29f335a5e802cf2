//! A JSON array that is sent element by element: every element is an event. A text that is no array,
//! such as an error, is one event.
//!
//! Looks at brackets and strings only; whether an element is JSON is for its reader to find out.

use super::json_lines::lossy;
use super::{MAX_EVENT_BYTES, Sink, StreamItem};

/// Reads one JSON text.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    place: Place,
    /// The element so far.
    element: Vec<u8>,
    /// Brackets open within it.
    depth: usize,
    in_string: bool,
    /// The last byte was a backslash within a string.
    escaped: bool,
    /// The element is too long and must not come out.
    spoilt: bool,
    /// The text is an array, not one value.
    is_array: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Nothing but white space has come.
    #[default]
    Start,
    /// Before an element, or after one.
    Between,
    Element,
    /// Bytes are missing; at the beginning of a line or not.
    Lost {
        at_line: bool,
    },
    End,
}

impl Parser {
    /// Takes bytes, hands out the elements they complete.
    pub(crate) fn push(&mut self, bytes: &[u8], sink: Sink<'_>) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            match self.place {
                Place::Start if byte == b'[' => {
                    self.is_array = true;
                    self.place = Place::Between;
                }
                Place::Start | Place::Between if byte.is_ascii_whitespace() => {}
                Place::Between if byte == b',' => {}
                Place::Between if byte == b']' && self.is_array => self.place = Place::End,
                Place::Start | Place::Between => {
                    self.place = Place::Element;
                    continue;
                }
                Place::Element => {
                    let taken = self.take_element(rest);
                    rest = &rest[taken..];
                    if self.place == Place::Between {
                        self.hand_out(sink);
                    }
                    continue;
                }
                // Strings have no line ends, and what is nested is indented or on the same line.
                Place::Lost { at_line: true } if matches!(byte, b'{' | b',') => {
                    self.place = Place::Between;
                    continue;
                }
                Place::Lost { .. } => self.place = Place::Lost { at_line: byte == b'\n' },
                Place::End => return,
            }
            rest = after;
        }
    }

    /// Bytes are missing: the element they were in is dropped, and what follows up to the next line
    /// that begins one.
    pub(crate) fn gap(&mut self) {
        if self.place != Place::End {
            *self =
                Self { place: Place::Lost { at_line: false }, is_array: true, ..Self::default() };
        }
    }

    /// A number that is the whole text ends with it.
    pub(crate) fn finish(&mut self, sink: Sink<'_>) {
        if self.place == Place::Element && self.depth == 0 && !self.in_string {
            self.hand_out(sink);
        }
    }

    /// Adds to the element up to its end. Gives how many bytes belong to it.
    fn take_element(&mut self, bytes: &[u8]) -> usize {
        let mut taken = bytes.len();
        for (at, byte) in bytes.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                if self.in_string || self.depth > 0 {
                    continue;
                }
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' if self.depth > 0 => self.depth -= 1,
                    // The end of a number, which has no sign of its own.
                    b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => {
                        taken = at;
                        self.place = Place::Between;
                        break;
                    }
                    _ => {}
                }
                if self.in_string || self.depth > 0 || !matches!(byte, b'}' | b']') {
                    continue;
                }
            }
            taken = at + 1;
            self.place = Place::Between;
            break;
        }
        if self.element.len() + taken > MAX_EVENT_BYTES {
            self.element = Vec::new();
            self.spoilt = true;
        }
        if !self.spoilt {
            self.element.extend_from_slice(&bytes[..taken]);
        }
        // A stray closing bracket is no element, and is passed over.
        if taken == 0 && self.place == Place::Between && !matches!(bytes[0], b',' | b']') {
            return 1;
        }
        taken
    }

    fn hand_out(&mut self, sink: Sink<'_>) {
        let element = std::mem::take(&mut self.element);
        if !std::mem::take(&mut self.spoilt) && !element.is_empty() {
            sink(StreamItem { event: None, data: lossy(element) });
        }
        self.place = if self.is_array { Place::Between } else { Place::End };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Framing, events};
    use super::*;

    fn data(pieces: &[&[u8]]) -> Vec<String> {
        let mut framing = Framing::JsonArray(Parser::default());
        let mut out: Vec<_> =
            events(&mut framing, pieces).into_iter().map(|(_, data)| data).collect();
        framing.finish(&mut |item| out.push(item.data.into_owned()));
        out
    }

    #[test]
    fn elements_come_as_they_end() {
        let mut framing = Framing::JsonArray(Parser::default());
        assert_eq!(events(&mut framing, &[b"[{\"a\":\"]}\\\"\"}"]).len(), 1);
        let rest = events(&mut framing, &[b",\r\n{\"b\":[{}]}\n,\n{\"c\"", b":1}]\n"]);
        let rest: Vec<_> = rest.iter().map(|(_, data)| &**data).collect();
        assert_eq!(rest, ["{\"b\":[{}]}", "{\"c\":1}"]);
        assert_eq!(data(&[b"[1, \"a,b\" ,null,[2]]x"]), ["1", "\"a,b\"", "null", "[2]"]);
        assert_eq!(data(&[b" [] "]), [""; 0]);
    }

    #[test]
    fn a_text_that_is_no_array_is_one_event() {
        assert_eq!(data(&[b"{\"error\":{\"code\":400}}\n"]), ["{\"error\":{\"code\":400}}"]);
        assert_eq!(data(&[b" 12"]), ["12"]);
        assert_eq!(data(&[b"{\"cut\":"]), [""; 0]);
    }

    #[test]
    fn an_element_with_missing_bytes_is_dropped_alone() {
        let mut framing = Framing::JsonArray(Parser::default());
        assert_eq!(events(&mut framing, &[b"[{\"a\":1},\r\n{\"b\""]).len(), 1);
        framing.gap(None);
        let after = events(&mut framing, &[b"x\":{\"y\":1},\"z\"\n  {\n:2}\r\n,\r\n{\"c\":3}]"]);
        assert_eq!(after, [(None, "{\"c\":3}".to_owned())]);
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(
            text in "[\\[\\]{},\":1a \n\\\\]{0,40}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(data(&pieces), data(&[bytes]));
        }
    }
}
