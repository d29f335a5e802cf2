//! The frames of a WebSocket (RFC 6455), as far as an agent's session needs it: text messages in,
//! text messages out, compressed (RFC 7692) where that was agreed on.
//!
//! Own and small, and apart from whatever reads WebSockets in the program under test.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::http::Incoming;

/// What a client's key is joined with (RFC 6455, 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Longest message taken.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// The first frame of a compressed message has this bit (RFC 7692, 6).
const PACKED: u8 = 0x40;

/// The `Sec-WebSocket-Accept` field for a `Sec-WebSocket-Key`.
pub fn accept_key(key: &str) -> String {
    base64(&sha1(format!("{}{GUID}", key.trim()).as_bytes()))
}

/// A frame that a server sends, the last of its message and unmasked.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame_of(0x80 | opcode, payload)
}

fn frame_of(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(length as u8),
        length @ 126..=0xffff => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// A text message as a server sends it, a frame for each piece.
pub fn message(pieces: &[&[u8]], is_packed: bool) -> Vec<u8> {
    let mut frames = Vec::new();
    let empty: &[&[u8]] = &[b""];
    let pieces = if pieces.is_empty() { empty } else { pieces };
    for (at, piece) in pieces.iter().enumerate() {
        let opcode = if at == 0 { TEXT } else { CONTINUATION };
        let last = if at + 1 == pieces.len() { 0x80 } else { 0 };
        let packed = if is_packed && at == 0 { PACKED } else { 0 };
        frames.extend(frame_of(last | packed | opcode, piece));
    }
    frames
}

/// Compresses messages.
pub struct Packer {
    compress: Compress,
    keeps: bool,
}

impl Packer {
    /// One that remembers earlier messages, or does not.
    pub fn new(keeps: bool) -> Self {
        Self { compress: Compress::new(Compression::default(), false), keeps }
    }

    /// The payload of a message (RFC 7692, 7.2.1).
    pub fn pack(&mut self, data: &[u8]) -> io::Result<Vec<u8>> {
        if !self.keeps {
            self.compress.reset();
        }
        let mut packed = Vec::with_capacity(data.len() + 64);
        let before = self.compress.total_in();
        loop {
            let taken = (self.compress.total_in() - before) as usize;
            let rest = &data[taken..];
            self.compress.compress_vec(rest, &mut packed, FlushCompress::Sync)?;
            let taken = (self.compress.total_in() - before) as usize;
            // A flush has ended when room is left over.
            if taken == data.len() && packed.len() < packed.capacity() {
                break;
            }
            packed.reserve(packed.capacity());
        }
        if packed.ends_with(&[0, 0, 0xff, 0xff]) {
            packed.truncate(packed.len() - 4);
        }
        Ok(packed)
    }
}

/// Decompresses messages.
struct Unpacker {
    decompress: Decompress,
    keeps: bool,
}

impl Unpacker {
    fn unpack(&mut self, payload: &[u8]) -> io::Result<Vec<u8>> {
        if !self.keeps {
            self.decompress.reset(false);
        }
        let packed = [payload, &[0, 0, 0xff, 0xff]].concat();
        let mut text = Vec::with_capacity(packed.len() * 4);
        let before = self.decompress.total_in();
        loop {
            let taken = (self.decompress.total_in() - before) as usize;
            let status = self.decompress.decompress_vec(
                &packed[taken..],
                &mut text,
                FlushDecompress::Sync,
            )?;
            let taken = (self.decompress.total_in() - before) as usize;
            if status == Status::StreamEnd
                || (taken == packed.len() && text.len() < text.capacity())
            {
                return Ok(text);
            }
            if text.len() > MAX_MESSAGE_BYTES {
                return Err(broken("a WebSocket message unpacks to too much"));
            }
            text.reserve(text.capacity());
        }
    }
}

/// What a client has sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// A text message.
    Text {
        /// Its text.
        text: Vec<u8>,
        /// Its size as it was sent.
        wire_bytes: u64,
    },
    /// The answer that is due to a ping or to the end.
    Reply {
        /// To be sent.
        frame: Vec<u8>,
        /// Whether nothing follows.
        last: bool,
    },
}

/// Reads the frames of a client.
#[derive(Default)]
pub struct Frames {
    buffer: Vec<u8>,
    message: Vec<u8>,
    is_packed: bool,
    unpacker: Option<Unpacker>,
}

impl Frames {
    /// A reader of messages that may be compressed, each with the memory of those before or not.
    pub fn new(deflates: bool, keeps: bool) -> Self {
        let unpacker = deflates.then(|| Unpacker { decompress: Decompress::new(false), keeps });
        Self { unpacker, ..Self::default() }
    }

    /// The next message; `None` when the client has left without a word.
    pub fn next(&mut self, incoming: &mut (impl Incoming + ?Sized)) -> io::Result<Option<Message>> {
        loop {
            let Some((first, payload)) = self.take_frame()? else {
                if incoming.receive(&mut self.buffer)? == 0 {
                    return Ok(None);
                }
                continue;
            };
            let opcode = first & 0x0f;
            if opcode == TEXT {
                self.is_packed = first & PACKED != 0;
            }
            match opcode {
                CONTINUATION | TEXT => {
                    self.message.extend(payload);
                    if self.message.len() > MAX_MESSAGE_BYTES {
                        return Err(broken("a WebSocket message is too long"));
                    }
                    if first & 0x80 != 0 {
                        return self.finished().map(Some);
                    }
                }
                CLOSE => {
                    return Ok(Some(Message::Reply { frame: frame(CLOSE, &payload), last: true }));
                }
                PING => {
                    return Ok(Some(Message::Reply { frame: frame(PONG, &payload), last: false }));
                }
                PONG => {}
                _ => return Err(broken("a WebSocket frame is of no known kind")),
            }
        }
    }

    fn finished(&mut self) -> io::Result<Message> {
        let message = std::mem::take(&mut self.message);
        let wire_bytes = message.len() as u64;
        let text = match &mut self.unpacker {
            Some(unpacker) if self.is_packed => unpacker.unpack(&message)?,
            _ => message,
        };
        Ok(Message::Text { text, wire_bytes })
    }

    /// Takes a whole frame out of the buffer: its first byte and its payload.
    fn take_frame(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        let Some(&[first, second]) = self.buffer.first_chunk::<2>() else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(broken("a client's WebSocket frame is not masked"));
        }
        let agreed = if self.unpacker.is_some() { PACKED } else { 0 };
        if first & 0x70 & !agreed != 0 {
            return Err(broken("a WebSocket frame uses an extension that was not agreed on"));
        }
        let (length_bytes, short) = match second & 0x7f {
            126 => (2, 0),
            127 => (8, 0),
            short => (0, u64::from(short)),
        };
        let Some(extended) = self.buffer.get(2..2 + length_bytes) else { return Ok(None) };
        let length =
            extended.iter().fold(short, |length, byte| length << 8 | u64::from(*byte)) as usize;
        if length > MAX_MESSAGE_BYTES {
            return Err(broken("a WebSocket frame is too long"));
        }
        let start = 2 + length_bytes + 4;
        if self.buffer.len() < start + length {
            return Ok(None);
        }
        let mask: [u8; 4] = self.buffer[start - 4..start].try_into().expect("four bytes");
        let payload = self.buffer[start..start + length].iter().zip(mask.iter().cycle());
        let payload = payload.map(|(byte, mask)| byte ^ mask).collect();
        self.buffer.drain(..start + length);
        Ok(Some((first, payload)))
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// SHA-1 (RFC 3174), which the handshake prescribes; nothing depends on its strength.
fn sha1(data: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut padded = data.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((data.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut words = [0_u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes(bytes.try_into().expect("four bytes"));
        }
        for at in 16..80 {
            let mixed = words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16];
            words[at] = mixed.rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in words.iter().enumerate() {
            let (mixed, constant) = match at / 20 {
                0 => (b & c | !b & d, 0x5a82_7999),
                1 => (b ^ c ^ d, 0x6ed9_eba1),
                2 => (b & c | b & d | c & d, 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = a.rotate_left(5).wrapping_add(mixed).wrapping_add(e);
            let next = next.wrapping_add(constant).wrapping_add(*word);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (sum, value) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(value);
        }
    }
    let mut digest = [0; 20];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

/// Base64 with padding (RFC 4648, 4).
pub fn base64(data: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in data.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit) & 0x3f) as usize;
            text.push(if digit <= group.len() { char::from(DIGITS[value]) } else { '=' });
        }
    }
    text
}
