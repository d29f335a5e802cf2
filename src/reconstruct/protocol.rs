//! What a run of bytes could be the beginning of: the only guess in reconstruction.
//!
//! Feeds on the first bytes of a direction, of a message, or of a call after damage. Everything
//! else follows from what was read before.

use super::finding::Perspective;
use super::http2::frame::{self, Header};
use crate::event::Direction;

/// What the bytes seen so far allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They begin an HTTP/1 message.
    Http1,
    /// They are the HTTP/2 connection preface (RFC 9113 section 3.4).
    Http2,
    /// They begin a frame of HTTP/2: the preface was not seen, or it is the server that speaks.
    Http2Frame,
    /// They begin neither.
    Other,
    /// Too few to tell.
    Undecided,
}

/// Which kind of message to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// What the client sends.
    Request,
    /// What the server sends.
    Response,
}

/// More than any verdict needs: a method of [`MAX_METHOD_BYTES`], a space and a byte of target.
pub(crate) const VERDICT_BYTES: usize = 24;

/// The longest registered method (`UPDATEREDIRECTREF`) has 17 letters.
const MAX_METHOD_BYTES: usize = 20;

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// Looks at the first bytes of a message of `side`.
pub(crate) fn verdict(side: Side, bytes: &[u8]) -> Verdict {
    match side {
        Side::Request => or_frame(request(bytes), bytes),
        Side::Response => or_frame(response(bytes), bytes),
    }
}

/// No message begins with a zero byte, and nearly every frame does: one is shorter than 64 KiB.
fn or_frame(verdict: Verdict, bytes: &[u8]) -> Verdict {
    if bytes.first() != Some(&0) {
        return verdict;
    }
    match Header::parse(bytes) {
        None => Verdict::Undecided,
        Some(header) if header.is_plausible() => Verdict::Http2Frame,
        Some(_) => Verdict::Other,
    }
}

/// Which end of a connection the process is whose first bytes in a direction these are. `None` if
/// they are too few to tell, `Some(None)` if they begin no message.
pub(crate) fn perspective(direction: Direction, bytes: &[u8]) -> Option<Option<Perspective>> {
    let sender = match (or_frame(request(bytes), bytes), response(bytes)) {
        (Verdict::Http1 | Verdict::Http2, _) => Perspective::Client,
        (_, Verdict::Http1) => Perspective::Server,
        (Verdict::Http2Frame, _) => match frame_sender(bytes)? {
            Some(sender) => sender,
            None => return Some(None),
        },
        (Verdict::Undecided, _) | (_, Verdict::Undecided) => return None,
        _ => return Some(None),
    };
    Some(Some(match direction {
        Direction::Write => sender,
        Direction::Read => sender.other(),
    }))
}

/// Who sends the frame that these bytes begin. `None` if they are too few to tell, `Some(None)` if
/// either may.
fn frame_sender(bytes: &[u8]) -> Option<Option<Perspective>> {
    let header = Header::parse(bytes)?;
    match header.kind {
        // RFC 9113 section 3.4: it begins what the server says; the client's is behind its preface.
        frame::SETTINGS if !header.has(frame::ACK) => Some(Some(Perspective::Server)),
        frame::HEADERS => {
            let prefix_bytes = header.prefix_bytes();
            if prefix_bytes >= header.length_bytes as usize {
                return Some(None);
            }
            // RFC 9113 section 8.3: pseudo-header fields come first; most stand in the static table.
            match bytes.get(frame::HEADER_BYTES + prefix_bytes)? {
                0x82..=0x87 => Some(Some(Perspective::Client)),
                0x88..=0x8e | 0x48 => Some(Some(Perspective::Server)),
                _ => Some(None),
            }
        }
        _ => Some(None),
    }
}

/// `METHOD` in capitals, a space and the first byte of a request target (RFC 9112 section 3).
fn request(bytes: &[u8]) -> Verdict {
    let compared = bytes.len().min(HTTP2_PREFACE.len());
    if compared > 3 && bytes[..compared] == HTTP2_PREFACE[..compared] {
        return if compared == HTTP2_PREFACE.len() { Verdict::Http2 } else { Verdict::Undecided };
    }
    let is_method = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'-';
    let method_bytes = bytes.iter().take_while(|byte| is_method(byte)).count();
    if method_bytes > MAX_METHOD_BYTES {
        return Verdict::Other;
    }
    match bytes.get(method_bytes..) {
        None | Some([]) => Verdict::Undecided,
        Some([b' ', ..]) if method_bytes < 3 => Verdict::Other,
        Some([b' ']) => Verdict::Undecided,
        // Origin form, asterisk form, absolute form.
        Some([b' ', b'/' | b'*' | b'h' | b'H', ..]) => Verdict::Http1,
        // Authority form, CONNECT only.
        Some([b' ', ..]) if &bytes[..method_bytes] == b"CONNECT" => Verdict::Http1,
        Some(_) => Verdict::Other,
    }
}

/// `HTTP/1.x NNN` (RFC 9112 section 4).
fn response(bytes: &[u8]) -> Verdict {
    const PATTERN: &[u8] = b"HTTP/1.d ddd";
    let fits = bytes.iter().zip(PATTERN).all(|(byte, expected)| match expected {
        b'd' => byte.is_ascii_digit(),
        literal => byte == literal,
    });
    match (fits, bytes.len() >= PATTERN.len()) {
        (false, _) => Verdict::Other,
        (true, true) => Verdict::Http1,
        (true, false) => Verdict::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn message_starts_are_recognised() {
        for start in ["GET / HTTP/1.1", "M-SEARCH * HTTP/1.1", "POST http://a/", "CONNECT a:443 "] {
            assert_eq!(request(start.as_bytes()), Verdict::Http1, "{start}");
        }
        assert_eq!(response(b"HTTP/1.1 200 OK"), Verdict::Http1);
        assert_eq!(response(b"HTTP/1.0 404\r\n"), Verdict::Http1);
        assert_eq!(request(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Verdict::Http2);
    }

    #[test]
    fn other_bytes_are_refused() {
        for start in ["get / HTTP/1.1", "A quick", "SELECT 1", "\0\0\0", "data: {}", "{\"a\":1}"] {
            assert_eq!(request(start.as_bytes()), Verdict::Other, "{start}");
            assert_eq!(response(start.as_bytes()), Verdict::Other, "{start}");
        }
        assert_eq!(response(b"HTTP/2 200"), Verdict::Other);
    }

    #[test]
    fn the_first_bytes_of_a_direction_tell_which_end_it_is() {
        use Perspective::{Client, Server};
        let both = |bytes: &[u8]| {
            [Direction::Write, Direction::Read].map(|direction| perspective(direction, bytes))
        };
        assert_eq!(both(b"POST /v1/messages"), [Some(Some(Client)), Some(Some(Server))]);
        assert_eq!(both(b"PRI * HTTP/2.0\r\n"), [Some(Some(Client)), Some(Some(Server))]);
        assert_eq!(both(b"HTTP/1.1 200 OK"), [Some(Some(Server)), Some(Some(Client))]);
        assert_eq!(both(b"HTTP"), [None, None]);
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
        assert_eq!(both(settings), [Some(Some(Server)), Some(Some(Client))]);
        assert_eq!(both(b"\0\0\x01\x01\x05\0\0\0\x07"), [None, None]);
        assert_eq!(both(b"\0\0\x01\x01\x05\0\0\0\x07\x83")[0], Some(Some(Client)));
        assert_eq!(both(b"\0\0\x01\x01\x05\0\0\0\x07\x88")[0], Some(Some(Server)));
        assert_eq!(both(b"\0\0\x01\x00\x01\0\0\0\x07x"), [Some(None), Some(None)]);
        assert_eq!(both(b"{\"a\":1}"), [Some(None), Some(None)]);
    }

    proptest! {
        #[test]
        fn a_verdict_never_changes_with_more_bytes(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                "[A-Z]{0,22} [/a-z*]{0,4}".prop_map(String::into_bytes),
                "(PRI \\* HT|HTTP/1\\.1 2)[ -~]{0,20}".prop_map(String::into_bytes),
                prop::collection::vec(0_u8..9, 0..40),
            ],
        ) {
            for side in [Side::Request, Side::Response] {
                let whole = verdict(side, &bytes);
                for cut in 0..bytes.len() {
                    let early = verdict(side, &bytes[..cut]);
                    prop_assert!(early == Verdict::Undecided || early == whole);
                }
                if bytes.len() >= VERDICT_BYTES {
                    prop_assert_ne!(whole, Verdict::Undecided);
                }
            }
        }
    }
}
