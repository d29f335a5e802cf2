//! Envelopes of gRPC and Connect: a byte of flags, a length, a message in some schema that is not
//! known here. What can be told of a message is when it came and how large it is.

use std::borrow::Cow;

use super::{Sink, StreamItem};

const HEADER_BYTES: usize = 5;

/// The message is compressed.
const COMPRESSED: u8 = 0x01;
/// Connect: the end of the stream, with its outcome as JSON.
const END: u8 = 0x02;
/// gRPC-Web: trailers in place of a message.
const TRAILERS: u8 = 0x80;

/// Reads envelopes.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    header: Vec<u8>,
    /// Bytes left of the message; `None` in the header.
    left: Option<u64>,
    /// Bytes are missing, and where envelopes begin cannot be told any more.
    lost: bool,
}

impl Parser {
    /// Takes bytes, hands out an event for every message they complete.
    pub(crate) fn push(&mut self, bytes: &[u8], sink: Sink<'_>) {
        let mut rest = bytes;
        while !self.lost && !rest.is_empty() {
            if let Some(left) = &mut self.left {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                *left -= taken as u64;
                rest = &rest[taken..];
            } else {
                let (taken, after) =
                    rest.split_at((HEADER_BYTES - self.header.len()).min(rest.len()));
                self.header.extend_from_slice(taken);
                rest = after;
                self.left = length_bytes(&self.header);
            }
            self.end(sink);
        }
    }

    /// Bytes are missing. The length of a message is known, so those within one do no harm.
    pub(crate) fn gap(&mut self, bytes: Option<u64>) {
        match (&mut self.left, bytes) {
            // One byte must be left: events are handed out as bytes come.
            (Some(left), Some(bytes)) if bytes < *left => *left -= bytes,
            _ => self.lost = true,
        }
    }

    fn end(&mut self, sink: Sink<'_>) {
        if self.left != Some(0) {
            return;
        }
        let (flags, bytes) = (self.header[0], length_bytes(&self.header).unwrap_or_default());
        let event = match flags {
            _ if flags & TRAILERS != 0 => Some("trailers"),
            _ if flags & END != 0 => Some("end"),
            _ => None,
        };
        let is_compressed = flags & COMPRESSED != 0;
        let data = format!(r#"{{"compressed":{is_compressed},"bytes":{bytes}}}"#);
        sink(StreamItem { event, data: Cow::Owned(data) });
        self.header.clear();
        self.left = None;
    }
}

/// The length in a header, once it is whole.
fn length_bytes(header: &[u8]) -> Option<u64> {
    header.get(1..).and_then(<[u8]>::first_chunk).map(|bytes| u64::from(u32::from_be_bytes(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::super::{Framing, events};
    use super::*;

    const WIRE: &[u8] = b"\0\0\0\0\x02hi\x01\0\0\0\x03abc\0\0\0\0\0\x02\0\0\0\x02{}";

    fn read(framing: &mut Framing, pieces: &[&[u8]]) -> Vec<String> {
        let line = |(event, data): (Option<String>, String)| {
            format!("{} {data}", event.as_deref().unwrap_or("-"))
        };
        events(framing, pieces).into_iter().map(line).collect()
    }

    #[test]
    fn sizes_and_flags_are_told() {
        let expected = [
            r#"- {"compressed":false,"bytes":2}"#,
            r#"- {"compressed":true,"bytes":3}"#,
            r#"- {"compressed":false,"bytes":0}"#,
            r#"end {"compressed":false,"bytes":2}"#,
        ];
        let new = || Framing::Envelopes(Parser::default());
        assert_eq!(read(&mut new(), &[WIRE]), expected);
        assert_eq!(read(&mut new(), &WIRE.chunks(1).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn a_gap_inside_a_message_does_no_harm_and_any_other_ends_it() {
        let mut framing = Framing::Envelopes(Parser::default());
        assert!(read(&mut framing, &[b"\0\0\0\0\x09ab"]).is_empty());
        framing.gap(Some(5));
        assert_eq!(read(&mut framing, &[b"yz\0\0"]), [r#"- {"compressed":false,"bytes":9}"#]);
        framing.gap(Some(1));
        assert!(read(&mut framing, &[WIRE]).is_empty());
    }
}
