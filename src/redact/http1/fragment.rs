//! The first bytes after a gap, or of a recording that began in the middle: are they the rest of a
//! field, and so maybe of a secret, or part of a body?
//!
//! The rest of a field is a short line of text, and after it comes another field or the end of the
//! head. What looks like that is replaced; anything else is left as it is.

use super::{MAX_DOUBTFUL_LINE_BYTES, Origin, Output, Parser, Shared, State};
use crate::redact::head::{self, may_start};
use crate::redact::message::Facts;

/// Longest name of a field expected after the rest of another one.
const MAX_NAME_BYTES: usize = 64;

impl Parser {
    /// After a gap: is this the rest of a field? It is, if a field follows, or the end of the head.
    pub(super) fn fragment(
        &mut self,
        first_end: Option<usize>,
        input: &mut &[u8],
        shared: &mut Shared,
        out: &mut Output<'_>,
    ) {
        let Some(first_end) = first_end else {
            let known = self.line.len();
            let ended = self.collect(input, MAX_DOUBTFUL_LINE_BYTES);
            let new = &self.line[known..];
            let fits = new.iter().all(|byte| matches!(byte, b'\t' | b'\r' | b'\n' | b' '..=b'~'));
            let too_long = self.line.len() > MAX_DOUBTFUL_LINE_BYTES;
            if !fits || too_long || (ended && !self.in_secret && !self.line.ends_with(b"\r\n")) {
                self.fail_fragment(self.line.len());
            } else if ended {
                self.state = State::Fragment { first_end: Some(self.line.len()) };
            }
            return;
        };
        let byte = input[0];
        self.line.push(byte);
        self.pass_over(input, 1);
        let (first, second) = self.line.split_at(first_end);
        match (second, byte) {
            (b" " | b"\t", _) => self.state = State::Fragment { first_end: None },
            (b"\r", _) => {}
            (b"\r\n" | b"\n", _) if self.in_secret || may_end_head(first) => {
                self.fill(0, first_end, out);
                self.drop_line();
                shared.http1 = true;
                self.state = State::Lost { line_start: true };
            }
            ([name @ .., b':'], _) if !name.is_empty() && (self.in_secret || !in_events(name)) => {
                self.fill(0, first_end, out);
                self.line.drain(..first_end);
                shared.http1 = true;
                self.facts = Facts::default();
                (self.trailer, self.doubtful) = (false, true);
                self.state = State::Fields;
            }
            (name, byte) if head::is_name_byte(byte) && name.len() <= MAX_NAME_BYTES => {}
            _ => self.fail_fragment(first_end),
        }
    }

    /// What was collected after a gap is no field; what stands after `first_end` begins a line.
    fn fail_fragment(&mut self, first_end: usize) {
        let line_start = self.line.ends_with(b"\n");
        self.line.drain(..first_end);
        if !self.line.is_empty() && !line_start && may_start(&self.line) {
            self.state = State::Start(Origin::Scan);
            return;
        }
        self.drop_line();
        self.state = State::Lost { line_start };
    }
}

/// Whether a line before an empty one may be the end of a field, rather than of an event, a
/// document or a chunk.
fn may_end_head(line: &[u8]) -> bool {
    let text = line.trim_ascii();
    let hexadecimal = text.len() <= 16 && text.iter().all(u8::is_ascii_hexdigit);
    let event = memchr::memchr(b':', text).is_some_and(|colon| in_events(&text[..colon]));
    !hexadecimal && !event && !is_like_body(text)
}

/// Whether a text holds what documents are made of and credentials are not.
pub(super) fn is_like_body(text: &[u8]) -> bool {
    text.iter().any(|byte| b"{}\"<>[]".contains(byte))
}

/// Whether this is the name of a field of a server-sent event.
fn in_events(name: &[u8]) -> bool {
    matches!(name, b"data" | b"event" | b"id" | b"retry")
}
