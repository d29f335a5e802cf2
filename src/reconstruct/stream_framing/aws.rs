//! AWS event streams, `application/vnd.amazon.eventstream`.
//!
//! ```text
//!  ┌ total u32 ─ headers u32 ─ crc u32 ┬ headers ┬ payload ┬ crc u32 ┐      big-endian; CRC-32
//!  └───────────── prelude ─────────────┴─────────┴─────────┴─────────┘
//! ```
//!
//! The prelude has a checksum of its own, so that the beginning of a message is never guessed: after
//! damage the next bytes whose checksum fits begin one.

use super::json_lines::lossy;
use super::{Sink, StreamItem};

const PRELUDE_BYTES: usize = 12;
/// Prelude and the checksum at the end.
const FRAME_BYTES: usize = PRELUDE_BYTES + 4;
/// Messages have at most 16 MiB of payload and 128 KiB of headers.
const MAX_MESSAGE_BYTES: usize = (16 << 20) + (128 << 10) + FRAME_BYTES;

/// Reads messages.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The message so far, from its prelude on.
    message: Vec<u8>,
    /// Its length; `None` while the prelude is not whole.
    total_bytes: Option<usize>,
}

impl Parser {
    /// Takes bytes, hands out the messages they complete.
    pub(crate) fn push(&mut self, bytes: &[u8], sink: Sink<'_>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let wanted = self.total_bytes.unwrap_or(PRELUDE_BYTES) - self.message.len();
            let (taken, after) = rest.split_at(wanted.min(rest.len()));
            self.message.extend_from_slice(taken);
            rest = after;
            match self.total_bytes {
                None if self.message.len() == PRELUDE_BYTES => {
                    self.total_bytes = prelude(&self.message);
                    if self.total_bytes.is_none() {
                        // Not the beginning of a message: it may be one byte further.
                        self.message.remove(0);
                    }
                }
                Some(total_bytes) if self.message.len() == total_bytes => {
                    hand_out(&self.message, sink);
                    self.gap();
                }
                _ => {}
            }
        }
    }

    /// Bytes are missing: the message they were in is dropped.
    pub(crate) fn gap(&mut self) {
        self.message.clear();
        self.total_bytes = None;
    }
}

/// The length of the message that a prelude begins; `None` if it is none.
fn prelude(bytes: &[u8]) -> Option<usize> {
    let (lengths, sum) = bytes.split_at(PRELUDE_BYTES - 4);
    let total_bytes = number(lengths)? as usize;
    let headers_bytes = number(&lengths[4..])? as usize;
    let fits = (FRAME_BYTES..=MAX_MESSAGE_BYTES).contains(&total_bytes)
        && headers_bytes <= total_bytes - FRAME_BYTES;
    (fits && number(sum)? == crc32fast::hash(lengths)).then_some(total_bytes)
}

/// Hands out a message whose checksum is right.
fn hand_out(message: &[u8], sink: Sink<'_>) {
    let (content, sum) = message.split_at(message.len() - 4);
    if number(sum) != Some(crc32fast::hash(content)) {
        return;
    }
    let Some(headers_bytes) = number(&content[4..]) else { return };
    let (headers, payload) = content[PRELUDE_BYTES..].split_at(headers_bytes as usize);
    let event = name(headers);
    sink(StreamItem { event: event.as_deref(), data: lossy(payload.to_vec()) });
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// What kind of event or exception the headers say it is.
fn name(headers: &[u8]) -> Option<String> {
    let mut rest = headers;
    let mut found = None;
    while let Some((name, value)) = header(&mut rest) {
        if matches!(name, b":event-type" | b":exception-type" | b":error-code") {
            found = value.map(|text| String::from_utf8_lossy(text).into_owned());
        }
    }
    found
}

/// Takes a header off the front: its name, and its value if that is a string.
fn header<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let (&name_bytes, after) = rest.split_first()?;
    let (name, after) = after.split_at_checked(usize::from(name_bytes))?;
    let (&kind, after) = after.split_first()?;
    let (value_bytes, after) = match kind {
        // True, false, byte, short, integer, long, time, UUID.
        0 | 1 => (0, after),
        2 => (1, after),
        3 => (2, after),
        4 => (4, after),
        5 | 8 => (8, after),
        9 => (16, after),
        // Bytes and string, with their length in front.
        6 | 7 => {
            let (length, after) = after.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), after)
        }
        _ => return None,
    };
    let (value, after) = after.split_at_checked(value_bytes)?;
    *rest = after;
    Some((name, (kind == 7).then_some(value)))
}

/// A message with these string headers.
#[cfg(test)]
pub(super) fn message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(name.len() as u8);
        block.extend_from_slice(name.as_bytes());
        block.push(7);
        block.extend_from_slice(&(value.len() as u16).to_be_bytes());
        block.extend_from_slice(value.as_bytes());
    }
    let total_bytes = (FRAME_BYTES + block.len() + payload.len()) as u32;
    let mut out = [total_bytes.to_be_bytes(), (block.len() as u32).to_be_bytes()].concat();
    out.extend(crc32fast::hash(&out).to_be_bytes());
    out.extend_from_slice(&block);
    out.extend_from_slice(payload);
    out.extend(crc32fast::hash(&out).to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Framing, events};
    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<(Option<String>, String)> {
        events(&mut Framing::Aws(Parser::default()), pieces)
    }

    fn chunk(payload: &str) -> Vec<u8> {
        let headers = [(":message-type", "event"), (":event-type", "chunk")];
        message(&headers, payload.as_bytes())
    }

    #[test]
    fn messages_are_named_by_their_headers() {
        // An integer header between the strings.
        let failed = message(&[(":exception-type", "throttling")], b"{}");
        let wire = [chunk("{\"bytes\":\"e30=\"}"), failed, message(&[], b"")].concat();
        let expected = [
            (Some("chunk".to_owned()), "{\"bytes\":\"e30=\"}".to_owned()),
            (Some("throttling".to_owned()), "{}".to_owned()),
            (None, String::new()),
        ];
        assert_eq!(read(&[&wire]), expected);
        assert_eq!(read(&wire.chunks(1).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn other_types_of_headers_are_passed_over() {
        let headers =
            b"\x01a\x04\0\0\0\x01\x01b\x00\x01c\x06\x00\x02xy\x0b:event-type\x07\x00\x01e";
        assert_eq!(name(headers).as_deref(), Some("e"));
        assert_eq!(name(b"\x01a\x0a\x0b:event-type\x07\x00\x01e"), None, "no such type");
    }

    #[test]
    fn a_wrong_checksum_costs_one_message() {
        let whole = [chunk("1"), chunk("2"), chunk("3")].concat();
        let length = chunk("1").len();
        for at in length..2 * length {
            let mut wire = whole.clone();
            wire[at] ^= 0x10;
            let data: Vec<_> = read(&[&wire]).into_iter().map(|(_, data)| data).collect();
            assert_eq!(data, ["1", "3"], "{at}");
        }
    }

    #[test]
    fn a_gap_costs_the_messages_it_touches() {
        let mut framing = Framing::Aws(Parser::default());
        assert_eq!(events(&mut framing, &[&chunk("1"), &chunk("2")[..20]]).len(), 1);
        framing.gap(None);
        let rest = [&chunk("3")[5..], &chunk("4")].concat();
        assert_eq!(events(&mut framing, &[&rest]), [(Some("chunk".to_owned()), "4".to_owned())]);
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_outcome(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let wire = [&bytes[..], &chunk("last")].concat();
            let found = read(&[&wire]);
            prop_assert_eq!(&found, &read(&wire.chunks(1).collect::<Vec<_>>()));
            prop_assert_eq!(found.last().map(|(_, data)| &**data), Some("last"));
        }
    }
}
