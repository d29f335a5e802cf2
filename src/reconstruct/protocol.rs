//! What a run of bytes could be the beginning of: the only guess in reconstruction.
//!
//! Feeds on the first bytes of a direction, of a message, or of a call after damage. Everything
//! else follows from what was read before.

use super::finding::Perspective;
use crate::event::Direction;

/// What the bytes seen so far allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They begin an HTTP/1 message.
    Http1,
    /// They are the HTTP/2 connection preface (RFC 9113 section 3.4).
    Http2,
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
        Side::Request => request(bytes),
        Side::Response => response(bytes),
    }
}

/// Which end of a connection the process is whose first bytes in a direction these are. `None` if
/// they are too few to tell, `Some(None)` if they begin no message.
pub(crate) fn perspective(direction: Direction, bytes: &[u8]) -> Option<Option<Perspective>> {
    let sender = match (request(bytes), response(bytes)) {
        (Verdict::Http1 | Verdict::Http2, _) => Perspective::Client,
        (_, Verdict::Http1) => Perspective::Server,
        (Verdict::Undecided, _) | (_, Verdict::Undecided) => return None,
        _ => return Some(None),
    };
    Some(Some(match direction {
        Direction::Write => sender,
        Direction::Read => sender.other(),
    }))
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
        assert_eq!(both(b"{\"a\":1}"), [Some(None), Some(None)]);
    }

    proptest! {
        #[test]
        fn a_verdict_never_changes_with_more_bytes(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                "[A-Z]{0,22} [/a-z*]{0,4}".prop_map(String::into_bytes),
                "(PRI \\* HT|HTTP/1\\.1 2)[ -~]{0,20}".prop_map(String::into_bytes),
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
