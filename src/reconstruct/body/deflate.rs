//! The `gzip` (RFC 1952) and `deflate` (RFC 1950, and RFC 1951 without wrapper) codings.
//!
//! The gzip wrapper is read here, because members may follow each other and each header may come
//! in pieces; the compressed data is left to flate2.

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::{Output, Stop};

/// Output produced per step.
const STEP_BYTES: usize = 16 << 10;

/// Header flags of a gzip member (RFC 1952 section 2.3.1).
const FLAG_HEADER_CRC: u8 = 1 << 1;
const FLAG_EXTRA: u8 = 1 << 2;
const FLAG_NAME: u8 = 1 << 3;
const FLAG_COMMENT: u8 = 1 << 4;

/// Decodes gzip members or a single deflate stream.
pub(super) struct Decoder {
    state: State,
    inflate: Option<Box<Decompress>>,
    crc: Crc,
    /// Members begun.
    members: u32,
}

#[derive(Debug)]
enum State {
    /// In the part of a gzip header that always has ten bytes; holds them so far.
    Fixed(Vec<u8>),
    /// Before the optional parts of a gzip header which these flags announce.
    Optional(u8),
    /// In the length of the extra part.
    ExtraLength(u8, Vec<u8>),
    /// Skipping this many bytes of a header.
    Skip(u8, usize),
    /// Skipping text that ends with a zero byte.
    Text(u8),
    /// In compressed data.
    Data { gzip: bool },
    /// In CRC-32 and size after a gzip member; holds them so far.
    Trailer(Vec<u8>),
    /// Before the two bytes that tell zlib from bare deflate; holds them so far.
    Sniff(Vec<u8>),
    /// After the end; what follows is ignored.
    Ended,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Decoder").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Decoder {
    pub(super) fn gzip() -> Self {
        Self::starting(State::Fixed(Vec::new()))
    }

    /// RFC 9110 section 8.4.1.2: `deflate` means zlib, but some senders leave the wrapper out.
    pub(super) fn zlib_or_raw() -> Self {
        Self::starting(State::Sniff(Vec::new()))
    }

    fn starting(state: State) -> Self {
        Self { state, inflate: None, crc: Crc::new(), members: 0 }
    }

    pub(super) fn decode(&mut self, input: &[u8], output: Output<'_>) -> Result<(), Stop> {
        let mut input = input;
        while !input.is_empty() {
            match &mut self.state {
                State::Data { gzip } => {
                    let gzip = *gzip;
                    self.inflate(&mut input, gzip, output)?;
                }
                State::Sniff(held) => {
                    held.extend_from_slice(take(&mut input, 1));
                    if let [first, second] = held[..] {
                        // RFC 1950 section 2.2: method 8 and a check value.
                        let zlib = first & 0x0f == 8
                            && u16::from_be_bytes([first, second]).is_multiple_of(31);
                        self.inflate = Some(Box::new(Decompress::new(zlib)));
                        self.state = State::Data { gzip: false };
                        self.inflate(&mut &[first, second][..], false, output)?;
                    }
                }
                State::Ended => return Ok(()),
                _ => self.wrapper(&mut input)?,
            }
        }
        Ok(())
    }

    /// Whether the input may end here: after a member, or before anything that is one.
    pub(super) fn at_end(&self) -> bool {
        match &self.state {
            State::Ended => true,
            State::Fixed(held) => self.members > 0 && held.is_empty(),
            _ => false,
        }
    }

    /// Reads one step of what surrounds the compressed data of a gzip member.
    fn wrapper(&mut self, input: &mut &[u8]) -> Result<(), Stop> {
        match &mut self.state {
            State::Fixed(held) => {
                held.extend_from_slice(take(input, 1));
                let magic = [0x1f, 0x8b, 8];
                let compared = held.len().min(magic.len());
                if held[..compared] != magic[..compared] {
                    // After a member this is padding or rubbish, which gzip ignores as well.
                    if self.members == 0 {
                        return Err(Stop::Corrupt);
                    }
                    self.state = State::Ended;
                } else if held.len() == 10 {
                    self.members = self.members.saturating_add(1);
                    self.state = State::Optional(held[3]);
                    self.optional();
                }
            }
            State::ExtraLength(flags, held) => {
                held.extend_from_slice(take(input, 1));
                if let [low, high] = held[..] {
                    self.state = State::Skip(*flags, usize::from(u16::from_le_bytes([low, high])));
                    self.skip(input);
                }
            }
            State::Skip(..) => self.skip(input),
            State::Text(flags) => {
                if take(input, 1) == [0] {
                    self.state = State::Optional(*flags);
                    self.optional();
                }
            }
            State::Trailer(held) => {
                let wanted = 8 - held.len();
                held.extend_from_slice(take(input, wanted));
                if let [a, b, c, d, e, f, g, h] = held[..] {
                    let crc = u32::from_le_bytes([a, b, c, d]);
                    let length = u32::from_le_bytes([e, f, g, h]);
                    if crc != self.crc.sum() || length != self.crc.amount() {
                        return Err(Stop::Corrupt);
                    }
                    self.state = State::Fixed(Vec::new());
                }
            }
            State::Optional(_) | State::Data { .. } | State::Sniff(_) | State::Ended => {}
        }
        Ok(())
    }

    /// Goes on to the next optional part of the header, in the order the RFC gives them.
    fn optional(&mut self) {
        let State::Optional(flags) = self.state else { return };
        let without = |flag: u8| flags & !flag;
        self.state = if flags & FLAG_EXTRA != 0 {
            State::ExtraLength(without(FLAG_EXTRA), Vec::new())
        } else if flags & FLAG_NAME != 0 {
            State::Text(without(FLAG_NAME))
        } else if flags & FLAG_COMMENT != 0 {
            State::Text(without(FLAG_COMMENT))
        } else if flags & FLAG_HEADER_CRC != 0 {
            State::Skip(without(FLAG_HEADER_CRC), 2)
        } else {
            self.inflate = Some(Box::new(Decompress::new(false)));
            self.crc = Crc::new();
            State::Data { gzip: true }
        };
    }

    fn skip(&mut self, input: &mut &[u8]) {
        let State::Skip(flags, left) = &mut self.state else { return };
        *left -= take(input, *left).len();
        if *left == 0 {
            self.state = State::Optional(*flags);
            self.optional();
        }
    }

    fn inflate(&mut self, input: &mut &[u8], gzip: bool, output: Output<'_>) -> Result<(), Stop> {
        let Some(inflate) = &mut self.inflate else { return Err(Stop::Corrupt) };
        let mut buffer = [0; STEP_BYTES];
        loop {
            let (in_before, out_before) = (inflate.total_in(), inflate.total_out());
            let result = inflate.decompress(input, &mut buffer, FlushDecompress::None);
            let read = (inflate.total_in() - in_before) as usize;
            let written = (inflate.total_out() - out_before) as usize;
            // Also on failure: what came before the broken symbol is good.
            *input = &input[read..];
            if written > 0 {
                if gzip {
                    self.crc.update(&buffer[..written]);
                }
                output(&buffer[..written])?;
            }
            match result {
                Ok(Status::StreamEnd) => {
                    self.inflate = None;
                    self.state = if gzip { State::Trailer(Vec::new()) } else { State::Ended };
                    return Ok(());
                }
                Ok(Status::Ok | Status::BufError) => {
                    if input.is_empty() && written < buffer.len() {
                        return Ok(());
                    }
                    if read == 0 && written == 0 {
                        return Err(Stop::Corrupt);
                    }
                }
                Err(_) => return Err(Stop::Corrupt),
            }
        }
    }
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(length.min(input.len()));
    *input = rest;
    taken
}
