//! Compressed messages: what was agreed on in the handshake, and undoing it (RFC 7692).

use flate2::{Decompress, FlushDecompress, Status};

use crate::reconstruct::finding::Header;
use crate::reconstruct::http1::head::list;

/// Output produced per step.
const STEP_BYTES: usize = 16 << 10;

/// What a compressor leaves out at the end of every message (section 7.2.1).
const TAIL: &[u8] = &[0, 0, 0xff, 0xff];

/// Whether a message may refer to the ones before it, by sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Takeover {
    pub(super) client: bool,
    pub(super) server: bool,
}

/// What the server's answer says about compression; `None` if there is none.
///
/// The sizes of windows that it may say as well need not be known: what was compressed with a smaller
/// window is undone with the largest.
pub(super) fn agreed(response_headers: &[Header]) -> Option<Takeover> {
    list(response_headers, "sec-websocket-extensions").find_map(|extension| {
        let mut parameters = extension.split(';').map(str::trim);
        if !parameters.next()?.eq_ignore_ascii_case("permessage-deflate") {
            return None;
        }
        let mut takeover = Takeover { client: true, server: true };
        for parameter in parameters {
            match parameter.to_ascii_lowercase().as_str() {
                "client_no_context_takeover" => takeover.client = false,
                "server_no_context_takeover" => takeover.server = false,
                _ => {}
            }
        }
        Some(takeover)
    })
}

/// Undoes the compression of one direction.
#[derive(Debug)]
pub(super) struct Inflater {
    raw: Decompress,
    takeover: bool,
    max_bytes: u64,
    /// Output still allowed for the current message.
    room_bytes: u64,
}

/// The message is not compressed data, or unpacks to too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl Inflater {
    /// `max_bytes` is the most that a message may unpack to.
    pub(super) fn new(takeover: bool, max_bytes: u64) -> Self {
        Self { raw: Decompress::new(false), takeover, max_bytes, room_bytes: max_bytes }
    }

    /// Takes bytes of a message.
    pub(super) fn push(
        &mut self,
        input: &[u8],
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Broken> {
        let mut rest = input;
        let mut buffer = [0; STEP_BYTES];
        loop {
            let (in_before, out_before) = (self.raw.total_in(), self.raw.total_out());
            let result = self.raw.decompress(rest, &mut buffer, FlushDecompress::Sync);
            let read = (self.raw.total_in() - in_before) as usize;
            let written = (self.raw.total_out() - out_before) as usize;
            rest = &rest[read..];
            let fitting = usize::try_from(self.room_bytes).unwrap_or(usize::MAX).min(written);
            if fitting > 0 {
                output(&buffer[..fitting]);
            }
            self.room_bytes -= fitting as u64;
            if fitting < written {
                return Err(Broken);
            }
            match result {
                // Section 7.2.3.4: a block may say that it is the last, and is not.
                Ok(Status::StreamEnd) => self.raw.reset(false),
                Ok(Status::Ok | Status::BufError) => {}
                Err(_) => return Err(Broken),
            }
            if rest.is_empty() && written < buffer.len() {
                return Ok(());
            }
            if read == 0 && written == 0 {
                return Err(Broken);
            }
        }
    }

    /// Ends a message.
    pub(super) fn end(&mut self, output: &mut dyn FnMut(&[u8])) -> Result<(), Broken> {
        self.push(TAIL, output)?;
        self.room_bytes = self.max_bytes;
        if !self.takeover {
            self.raw.reset(false);
        }
        Ok(())
    }

    /// The current message is given up. Whether later ones can be read.
    pub(super) fn give_up(&mut self) -> bool {
        self.room_bytes = self.max_bytes;
        self.raw.reset(false);
        !self.takeover
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    fn header(value: &str) -> Vec<Header> {
        vec![("Sec-WebSocket-Extensions".to_owned(), value.to_owned())]
    }

    #[test]
    fn the_answer_tells_what_was_agreed_on() {
        let of = |value| agreed(&header(value));
        assert_eq!(of("permessage-deflate"), Some(Takeover { client: true, server: true }));
        assert_eq!(
            of(
                "x-other; a=b, Permessage-Deflate; server_no_context_takeover; client_max_window_bits=9"
            ),
            Some(Takeover { client: true, server: false })
        );
        assert_eq!(of("x-webkit-deflate-frame"), None);
        assert_eq!(agreed(&[]), None);
    }

    /// A message as a compressor makes it, without its tail.
    fn compress(compressor: &mut Compress, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + 100);
        compressor.compress_vec(text, &mut out, FlushCompress::Sync).unwrap();
        assert_eq!(out.split_off(out.len() - TAIL.len()), TAIL);
        out
    }

    fn inflate(inflater: &mut Inflater, pieces: &[&[u8]]) -> Result<Vec<u8>, Broken> {
        let mut out = Vec::new();
        for piece in pieces {
            inflater.push(piece, &mut |bytes| out.extend_from_slice(bytes))?;
        }
        inflater.end(&mut |bytes| out.extend_from_slice(bytes))?;
        Ok(out)
    }

    #[test]
    fn messages_refer_to_those_before_them_if_they_may() {
        let text = b"the same words again and again, as events have them";
        let mut compressor = Compress::new(Compression::default(), false);
        let wire = [compress(&mut compressor, text), compress(&mut compressor, text)];
        assert!(wire[1].len() < wire[0].len() / 2);
        let mut with = Inflater::new(true, 1000);
        assert_eq!(inflate(&mut with, &[&wire[0]]).unwrap(), text);
        let single: Vec<_> = wire[1].chunks(1).collect();
        assert_eq!(inflate(&mut with, &single).unwrap(), text);
        assert!(!with.give_up());
        let mut without = Inflater::new(false, 1000);
        assert_eq!(inflate(&mut without, &[&wire[0]]).unwrap(), text);
        assert_ne!(inflate(&mut without, &[&wire[1]]), Ok(text.to_vec()), "refers to nothing");
        assert!(without.give_up());
        assert_eq!(inflate(&mut without, &[&wire[0]]).unwrap(), text);
    }

    #[test]
    fn a_message_unpacks_to_no_more_than_it_may() {
        let mut compressor = Compress::new(Compression::default(), false);
        let bomb = compress(&mut compressor, &[0; 100_000]);
        let mut inflater = Inflater::new(true, 50_000);
        let mut out = 0;
        assert_eq!(inflater.push(&bomb, &mut |bytes| out += bytes.len()), Err(Broken));
        assert_eq!(out, 50_000);
    }

    #[test]
    fn a_block_that_says_it_is_the_last_is_not() {
        let mut compressor = Compress::new(Compression::default(), false);
        let mut last = Vec::with_capacity(100);
        compressor.compress_vec(b"one", &mut last, FlushCompress::Finish).unwrap();
        let mut inflater = Inflater::new(true, 1000);
        // As section 7.2.3.4 has it, with an empty block added.
        assert_eq!(inflate(&mut inflater, &[&last, b"\0"]).unwrap(), b"one");
        let next = compress(&mut Compress::new(Compression::default(), false), b"two");
        assert_eq!(inflate(&mut inflater, &[&next]).unwrap(), b"two");
    }
}
