//! Where HTTP/1.x messages end (RFC 9112 section 6.3), from the few fields that say so.
//!
//! Kept apart from the reconstruction: this decides what must not reach the disk, and so it is
//! wrong in the safe direction where the other is wrong in the useful one.

use super::head::{Method, StartLine, field_parts};

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After this many bytes.
    Fixed(u64),
    /// Chunked transfer coding.
    Chunked,
    /// When the connection closes.
    UntilClose,
    /// The connection speaks another protocol from here on.
    Upgraded,
    /// Nobody can tell.
    Unknown,
}

/// What is known of a head while it passes.
#[derive(Debug, Default)]
pub(super) struct Facts {
    start: Start,
    length: Option<Length>,
    coding: Coding,
}

/// What the head began with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Start {
    /// It was not seen, or the head is a trailer section.
    #[default]
    Unseen,
    Request(Method),
    /// With the method of its request, where that is known.
    Response(u16, Option<Method>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Valid(u64),
    Contradictory,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    None,
    Chunked,
    Other,
}

impl Facts {
    /// A head that begins with this line; `method` is that of the request a response answers.
    pub(super) fn new(line: &StartLine, method: Option<Method>) -> Self {
        let start = match line {
            StartLine::Request { method, .. } => Start::Request(*method),
            StartLine::Response { status } => Start::Response(*status, method),
            StartLine::Http2 => Start::Unseen,
        };
        Self { start, ..Self::default() }
    }

    /// Takes note of a field line.
    pub(super) fn note(&mut self, line: &[u8]) {
        let Some((name, value)) = field_parts(line) else { return };
        if name.eq_ignore_ascii_case(b"content-length") {
            elements(&line[value]).for_each(|element| self.note_length(element));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            for element in elements(&line[value]) {
                self.coding = match element {
                    b if b.eq_ignore_ascii_case(b"chunked") => Coding::Chunked,
                    // A coding until RFC 7230, and it means none.
                    b if b.eq_ignore_ascii_case(b"identity") => self.coding,
                    _ => Coding::Other,
                };
            }
        }
    }

    /// A list of equal numbers counts as that number, anything else is an error.
    fn note_length(&mut self, element: &[u8]) {
        let digits = element.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(element).ok().filter(|_| digits);
        let length = number.and_then(|number| number.parse().ok()).map(Length::Valid);
        let length = length.unwrap_or(Length::Contradictory);
        self.length = match self.length {
            Some(earlier) if earlier != length => Some(Length::Contradictory),
            _ => Some(length),
        };
    }

    /// How the body ends.
    pub(super) fn framing(&self) -> Framing {
        match self.start {
            Start::Unseen => return Framing::Unknown,
            Start::Response(101, _) => return Framing::Upgraded,
            Start::Response(_, Some(Method::Head)) | Start::Response(100..=199 | 204 | 304, _) => {
                return Framing::Fixed(0);
            }
            // What is tunnelled may well be HTTP.
            Start::Response(200..=299, Some(Method::Connect)) => return Framing::Unknown,
            Start::Request(_) | Start::Response(..) => {}
        }
        let request = matches!(self.start, Start::Request(_));
        match (self.coding, self.length) {
            (Coding::Chunked, _) => Framing::Chunked,
            (Coding::Other, _) if request => Framing::Unknown,
            (Coding::Other, _) => Framing::UntilClose,
            (Coding::None, Some(Length::Valid(length))) => Framing::Fixed(length),
            (Coding::None, Some(Length::Contradictory)) => Framing::Unknown,
            (Coding::None, None) if request => Framing::Fixed(0),
            (Coding::None, None) => Framing::UntilClose,
        }
    }

    /// Whether the framing depends on a request that was not seen.
    pub(super) fn is_doubtful(&self) -> bool {
        matches!(self.start, Start::Unseen | Start::Response(_, None))
    }
}

fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(|element| element.trim_ascii()).filter(|e| !e.is_empty())
}

/// What to do with a byte of a chunk's size line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SizeLine {
    size: u64,
    digits: u8,
    extension_bytes: u16,
}

impl SizeLine {
    /// Takes the next byte: the size once the line has ended, an error when it is no size line.
    pub(super) fn take(&mut self, byte: u8) -> Result<Option<u64>, NotChunked> {
        match byte {
            b'\n' if self.digits > 0 => return Ok(Some(self.size)),
            b'\n' => return Err(NotChunked),
            _ if self.extension_bytes > 0 => self.extend()?,
            b'\r' | b' ' | b'\t' | b';' if self.digits > 0 => self.extend()?,
            _ => {
                let digit = char::from(byte).to_digit(16).ok_or(NotChunked)?;
                self.digits += 1;
                if self.digits > 16 {
                    return Err(NotChunked);
                }
                self.size = self.size << 4 | u64::from(digit);
            }
        }
        Ok(None)
    }

    fn extend(&mut self) -> Result<(), NotChunked> {
        const MAX_EXTENSION_BYTES: u16 = 4096;
        self.extension_bytes += 1;
        if self.extension_bytes > MAX_EXTENSION_BYTES { Err(NotChunked) } else { Ok(()) }
    }
}

/// The body is not what its head said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotChunked;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::head::start_line;

    fn framing(head: &str, method: Option<Method>) -> Framing {
        let mut lines = head.split_inclusive("\r\n");
        let start = start_line(lines.next().unwrap().as_bytes()).unwrap();
        let mut facts = Facts::new(&start, method);
        lines.for_each(|line| facts.note(line.as_bytes()));
        facts.framing()
    }

    #[test]
    fn responses_follow_the_rules_in_order() {
        let of = |status: u16, method, fields: &str| {
            framing(&format!("HTTP/1.1 {status} X\r\n{fields}"), Some(method))
        };
        let length = "Content-Length: 7\r\n";
        assert_eq!(of(200, Method::Head, length), Framing::Fixed(0));
        assert_eq!(of(204, Method::Other, length), Framing::Fixed(0));
        assert_eq!(of(100, Method::Other, length), Framing::Fixed(0));
        assert_eq!(of(101, Method::Other, length), Framing::Upgraded);
        assert_eq!(of(200, Method::Connect, length), Framing::Unknown);
        assert_eq!(of(407, Method::Connect, length), Framing::Fixed(7));
        assert_eq!(of(200, Method::Other, ""), Framing::UntilClose);
        let both = "Transfer-Encoding: gzip, Chunked\r\nContent-Length: 7\r\n";
        assert_eq!(of(200, Method::Other, both), Framing::Chunked);
        assert_eq!(of(200, Method::Other, "Transfer-Encoding: gzip\r\n"), Framing::UntilClose);
    }

    #[test]
    fn lengths_of_requests_must_agree_and_be_digits() {
        let of = |fields: &str| framing(&format!("POST / HTTP/1.1\r\n{fields}"), None);
        assert_eq!(of(""), Framing::Fixed(0));
        assert_eq!(of("content-length: 5, 5\r\nContent-Length:5\r\n"), Framing::Fixed(5));
        for wrong in ["5, 6", "+5", "-1", "5x", "99999999999999999999999"] {
            assert_eq!(of(&format!("Content-Length: {wrong}\r\n")), Framing::Unknown, "{wrong}");
        }
        assert_eq!(of("Transfer-Encoding: chunked, gzip\r\n"), Framing::Unknown);
        assert_eq!(of("Transfer-Encoding: identity\r\nContent-Length: 3\r\n"), Framing::Fixed(3));
    }

    #[test]
    fn sizes_of_chunks_are_read_byte_by_byte() {
        let size = |line: &str| {
            let mut reader = SizeLine::default();
            line.bytes().try_fold(None, |_, byte| reader.take(byte))
        };
        assert_eq!(size("1a\r\n"), Ok(Some(26)));
        assert_eq!(size("0 ;name=\"value\"\n"), Ok(Some(0)));
        assert_eq!(size("ffffffffffffffff\r\n"), Ok(Some(u64::MAX)));
        for wrong in ["\r\n", "\n", "x", "11111111111111111", "1x", "-1"] {
            assert_eq!(size(wrong), Err(NotChunked), "{wrong}");
        }
        assert_eq!(size(&format!("1;{}", "x".repeat(5000))), Err(NotChunked));
    }
}
