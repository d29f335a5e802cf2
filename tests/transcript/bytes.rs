//! Content lines of transcripts to bytes: text and content codings here, frames in the files beside.

use super::{deflate, http2, websocket};

/// What one direction of a connection remembers from line to line.
#[derive(Default)]
pub(super) struct Encoder {
    /// The stream of `gzip+` lines.
    gzip: Option<flate2::Crc>,
    http2: http2::Encoder,
    websocket: websocket::Encoder,
}

impl Encoder {
    /// The bytes of a call.
    pub(super) fn call(&mut self, lines: &[&str], is_client: bool) -> Vec<u8> {
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let mut rest = lines;
        while let [line, after @ ..] = rest {
            rest = after;
            pieces.push(match line.split_once(' ') {
                Some(("h2", frame)) => {
                    let fields = rest.iter().take_while(|line| http2::is_field(line)).count();
                    let (fields, after) = rest.split_at(fields);
                    rest = after;
                    let (words, content) = self.with_content(frame);
                    self.http2.frame(words, &content, fields)
                }
                Some(("ws", frame)) => {
                    let (words, content) = self.with_content(frame);
                    self.websocket.frame(words, &content, is_client)
                }
                _ => self.line(line),
            });
        }
        let body_from = pieces.iter().position(|piece| piece == b"\r\n").map_or(0, |at| at + 1);
        let length = pieces[body_from..].iter().map(Vec::len).sum::<usize>().to_string();
        let replace = |piece: &Vec<u8>| match piece.strip_suffix(b"{length}\r\n") {
            Some(before) => [before, length.as_bytes(), b"\r\n"].concat(),
            None => piece.clone(),
        };
        pieces.iter().flat_map(replace).collect()
    }

    /// The words of a frame, and the content line behind `--`, as bytes.
    fn with_content<'a>(&mut self, frame: &'a str) -> (&'a str, Vec<u8>) {
        match frame.split_once("--") {
            Some((words, line)) => (words.trim_end(), self.line(line.trim_start())),
            None => (frame, Vec::new()),
        }
    }

    fn line(&mut self, line: &str) -> Vec<u8> {
        let (kind, text) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "|" => [unescape(text), b"\r\n".to_vec()].concat(),
            "." => unescape(text),
            "zeros" => vec![0; text.parse().unwrap()],
            "gzip" => gzip_stored(&unescape(text)),
            "gzip+" | "gzip." => {
                let data = unescape(text);
                let head = if self.gzip.is_none() { GZIP_HEAD.to_vec() } else { Vec::new() };
                self.gzip.get_or_insert_default().update(&data);
                let mut out = [head, deflate::stored(&data, kind == "gzip.")].concat();
                if kind == "gzip." {
                    out.extend(gzip_tail(&self.gzip.take().unwrap()));
                }
                out
            }
            "zlib" => {
                let data = unescape(text);
                let sum = adler32(&data).to_be_bytes();
                [&[0x78, 0x01][..], &deflate::stored(&data, true), &sum].concat()
            }
            "deflate" => deflate::stored(&unescape(text), true),
            "zstd" => zstd::encode_all(&unescape(text)[..], 3).unwrap(),
            "br" => brotli_stored(&unescape(text)),
            "chunk" => {
                let data = self.line(text);
                [format!("{:x}\r\n", data.len()).into_bytes(), data, b"\r\n".to_vec()].concat()
            }
            "aws" | "aws!" => {
                let (name, payload) = text.split_once(' ').unwrap_or((text, ""));
                aws_message(kind == "aws!", name, &unescape(payload))
            }
            "envelope" => {
                let (flags, payload) = text.split_once(' ').unwrap_or((text, ""));
                let payload = unescape(payload);
                let length = (payload.len() as u32).to_be_bytes();
                [&[flags.parse().unwrap()][..], &length, &payload].concat()
            }
            _ => panic!("unknown kind of line: {line}"),
        }
    }
}

/// A message of an AWS event stream: an event, or an exception.
fn aws_message(is_exception: bool, name: &str, payload: &[u8]) -> Vec<u8> {
    let kind = if is_exception { "exception" } else { "event" };
    let mut headers = Vec::new();
    for (key, value) in [(":message-type", kind), (&format!(":{kind}-type"), name)] {
        headers.push(key.len() as u8);
        headers.extend_from_slice(key.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let sum = |bytes: &[u8]| crc32fast::hash(bytes).to_be_bytes();
    let total_bytes = (16 + headers.len() + payload.len()) as u32;
    let mut out = [total_bytes.to_be_bytes(), (headers.len() as u32).to_be_bytes()].concat();
    out.extend(sum(&out));
    out.extend_from_slice(&headers);
    out.extend_from_slice(payload);
    out.extend(sum(&out));
    out
}

// The codings are written as stored blocks and by hand: what a compressor makes of a text depends on
// its version and build, and the goldens hold sizes. Compressed blocks are for the unit tests.

/// RFC 1952, 2.3: deflate, no flags, no time, unknown system.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

fn gzip_stored(data: &[u8]) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(data);
    [&GZIP_HEAD[..], &deflate::stored(data, true), &gzip_tail(&sum)].concat()
}

fn gzip_tail(sum: &flate2::Crc) -> Vec<u8> {
    [sum.sum().to_le_bytes(), sum.amount().to_le_bytes()].concat()
}

/// RFC 1950, 9.
fn adler32(data: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in data {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    b << 16 | a
}

/// A Brotli stream of one uncompressed meta-block (RFC 7932 section 9): up to 64 KiB.
fn brotli_stored(data: &[u8]) -> Vec<u8> {
    // WBITS 16 is one zero bit; ISLAST 0; MNIBBLES 4 is 00; MLEN-1 in 16 bits; ISUNCOMPRESSED 1.
    let header = ((data.len() as u32 - 1) << 4) | (1 << 20);
    let mut out = header.to_le_bytes()[..3].to_vec();
    out.extend_from_slice(data);
    // ISLAST 1, ISLASTEMPTY 1.
    out.push(3);
    out
}

/// `\r`, `\n`, `\\`, `\xNN`; all else is itself.
pub(super) fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let (value, used) = match after {
            [b'r', ..] => (b'\r', 1),
            [b'n', ..] => (b'\n', 1),
            [b'x', high, low, ..] => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).unwrap();
                (u8::from_str_radix(digits, 16).unwrap(), 3)
            }
            [b'\\', ..] => (b'\\', 1),
            // JSON in transcripts stays readable: other escapes are left as they are.
            _ => (b'\\', 0),
        };
        out.push(value);
        rest = &after[used..];
    }
    out
}
