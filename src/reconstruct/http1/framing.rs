//! Where a message body ends: the rules of RFC 9112 section 6.3, in their order.
//!
//! Pure functions of the head (and, for a response, the request's method). Fed by
//! [`super::super::connection`].

use super::head::{RequestHead, ResponseHead, list};
use crate::reconstruct::finding::Header;

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After this many bytes.
    Fixed(u64),
    /// Chunked transfer coding.
    Chunked,
    /// When the connection closes.
    UntilClose,
    /// Never: what follows is another protocol.
    Tunnel,
    /// The head contradicts itself, so nobody can tell.
    Invalid,
}

/// The framing of a request body.
pub(crate) fn request(head: &RequestHead) -> Framing {
    // Rules 3 and 4: Transfer-Encoding overrides Content-Length; a request whose last coding is
    // not chunked has no knowable length.
    match transfer_coding(&head.headers) {
        TransferCoding::Chunked => return Framing::Chunked,
        TransferCoding::Other => return Framing::Invalid,
        TransferCoding::Absent => {}
    }
    // Rules 5, 6 and 7.
    match content_length(&head.headers) {
        ContentLength::Valid(length) => Framing::Fixed(length),
        ContentLength::Invalid => Framing::Invalid,
        ContentLength::Absent => Framing::Fixed(0),
    }
}

/// The framing of a response body; `method` is that of the request, where it is known.
pub(crate) fn response(head: &ResponseHead, method: Option<&str>) -> Framing {
    // Before the rules: after 101 the connection speaks what was upgraded to (RFC 9110 15.2.2).
    if head.status == 101 {
        return Framing::Tunnel;
    }
    // Rule 1.
    if method == Some("HEAD") || matches!(head.status, 100..=199 | 204 | 304) {
        return Framing::Fixed(0);
    }
    // Rule 2.
    if method == Some("CONNECT") && matches!(head.status, 200..=299) {
        return Framing::Tunnel;
    }
    // Rules 3 and 4: a response whose last coding is not chunked ends with the connection.
    match transfer_coding(&head.headers) {
        TransferCoding::Chunked => return Framing::Chunked,
        TransferCoding::Other => return Framing::UntilClose,
        TransferCoding::Absent => {}
    }
    // Rules 5, 6 and 8.
    match content_length(&head.headers) {
        ContentLength::Valid(length) => Framing::Fixed(length),
        ContentLength::Invalid => Framing::Invalid,
        ContentLength::Absent => Framing::UntilClose,
    }
}

/// A protocol that reconstruction goes on with after 101 (Switching Protocols).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// RFC 6455.
    WebSocket,
    /// RFC 7540 section 3.2, over plain text.
    Http2,
}

/// What the connection changes to with this response.
pub(crate) fn upgrade(head: &ResponseHead) -> Option<Upgrade> {
    let protocol = list(&head.headers, "upgrade").next().filter(|_| head.status == 101)?;
    match protocol.to_ascii_lowercase().as_str() {
        "websocket" => Some(Upgrade::WebSocket),
        "h2c" => Some(Upgrade::Http2),
        _ => None,
    }
}

/// The codings applied to the content, outermost last: Content-Encoding, then Transfer-Encoding
/// without its chunked.
pub(crate) fn codings(headers: &[Header]) -> Vec<String> {
    list(headers, "content-encoding")
        .chain(list(headers, "transfer-encoding"))
        .map(str::to_ascii_lowercase)
        .filter(|coding| coding != "chunked")
        .collect()
}

enum TransferCoding {
    Absent,
    Chunked,
    Other,
}

fn transfer_coding(headers: &[Header]) -> TransferCoding {
    match list(headers, "transfer-encoding").last() {
        None => TransferCoding::Absent,
        Some(last) if last.eq_ignore_ascii_case("chunked") => TransferCoding::Chunked,
        // `identity` was a transfer coding until RFC 7230 and means none.
        Some(last) if last.eq_ignore_ascii_case("identity") => TransferCoding::Absent,
        Some(_) => TransferCoding::Other,
    }
}

enum ContentLength {
    Absent,
    Valid(u64),
    Invalid,
}

/// Rule 5: a list of equal numbers counts as that number, anything else is an error.
fn content_length(headers: &[Header]) -> ContentLength {
    let mut found = ContentLength::Absent;
    for element in list(headers, "content-length") {
        // `u64::from_str` takes a plus sign, the grammar does not.
        let number = element.bytes().all(|byte| byte.is_ascii_digit()).then(|| element.parse());
        let Some(Ok(length)) = number else { return ContentLength::Invalid };
        match found {
            ContentLength::Valid(earlier) if earlier != length => return ContentLength::Invalid,
            _ => found = ContentLength::Valid(length),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> Vec<Header> {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn of_response(status: u16, method: &str, fields: &[(&str, &str)]) -> Framing {
        let head = ResponseHead { status, version: "1.1", headers: headers(fields) };
        response(&head, Some(method))
    }

    fn of_request(fields: &[(&str, &str)]) -> Framing {
        request(&RequestHead {
            method: "POST".into(),
            target: "/".into(),
            version: "1.1",
            headers: headers(fields),
        })
    }

    #[test]
    fn responses_follow_the_rules_in_order() {
        let length = [("Content-Length", "7")];
        assert_eq!(of_response(200, "HEAD", &length), Framing::Fixed(0));
        assert_eq!(of_response(204, "GET", &length), Framing::Fixed(0));
        assert_eq!(of_response(304, "GET", &length), Framing::Fixed(0));
        assert_eq!(of_response(103, "GET", &length), Framing::Fixed(0));
        assert_eq!(of_response(101, "GET", &length), Framing::Tunnel);
        assert_eq!(of_response(200, "CONNECT", &length), Framing::Tunnel);
        assert_eq!(of_response(407, "CONNECT", &length), Framing::Fixed(7));
        assert_eq!(of_response(200, "GET", &length), Framing::Fixed(7));
        assert_eq!(of_response(200, "GET", &[]), Framing::UntilClose);
        let both = [("Transfer-Encoding", "gzip, Chunked"), ("Content-Length", "7")];
        assert_eq!(of_response(200, "GET", &both), Framing::Chunked);
        assert_eq!(of_response(200, "GET", &[("Transfer-Encoding", "gzip")]), Framing::UntilClose);
    }

    #[test]
    fn requests_without_length_have_no_body() {
        assert_eq!(of_request(&[]), Framing::Fixed(0));
        assert_eq!(of_request(&[("Content-Length", "9")]), Framing::Fixed(9));
        assert_eq!(of_request(&[("Transfer-Encoding", "chunked")]), Framing::Chunked);
        assert_eq!(of_request(&[("Transfer-Encoding", "chunked, gzip")]), Framing::Invalid);
    }

    #[test]
    fn lengths_must_agree_and_be_digits() {
        assert_eq!(of_request(&[("Content-Length", "5, 5")]), Framing::Fixed(5));
        for wrong in ["5, 6", "+5", "-1", "5x", "99999999999999999999999"] {
            assert_eq!(of_request(&[("Content-Length", wrong)]), Framing::Invalid, "{wrong}");
        }
        let twice = [("Content-Length", "5"), ("content-length", "6")];
        assert_eq!(of_response(200, "GET", &twice), Framing::Invalid);
    }

    #[test]
    fn codings_are_listed_innermost_first() {
        let fields = [("Transfer-Encoding", "deflate, chunked"), ("Content-Encoding", "GZIP, br")];
        assert_eq!(codings(&headers(&fields)), ["gzip", "br", "deflate"]);
    }
}
