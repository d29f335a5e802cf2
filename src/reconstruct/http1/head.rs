//! Message heads: collecting one, and reading its first line and fields (RFC 9112 sections 2-5).
//!
//! Lenient where real peers are (bare line feeds, spaces before a colon, folded fields), strict in
//! that a head which still does not parse is malformed. Fed by [`super::reader`].

use std::borrow::Cow;

use memchr::memchr;

use crate::reconstruct::finding::Header;

/// Longest head collected. Servers refuse heads above 8 to 128 KiB.
pub(crate) const MAX_HEAD_BYTES: usize = 256 << 10;

/// Most fields read from a head.
const MAX_FIELDS: usize = 2048;

/// What a request begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestHead {
    pub(crate) method: String,
    /// The request target as it stood on the wire.
    pub(crate) target: String,
    /// `1.0`, `1.1` or `2`.
    pub(crate) version: &'static str,
    pub(crate) headers: Vec<Header>,
}

/// What a response begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    /// `1.0`, `1.1` or `2`.
    pub(crate) version: &'static str,
    pub(crate) headers: Vec<Header>,
}

/// Collects bytes up to the empty line that ends a head or a trailer section.
#[derive(Debug, Default)]
pub(crate) struct HeadBuffer {
    bytes: Vec<u8>,
}

/// What became of bytes given to a [`HeadBuffer`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Collected {
    /// The empty line was found.
    Whole,
    /// All input was taken and more is needed.
    NeedMore,
    /// It is longer than [`MAX_HEAD_BYTES`].
    TooLong,
}

impl HeadBuffer {
    /// Begins with bytes already looked at.
    pub(crate) fn starting_with(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// Takes bytes off the front of `input` up to the end of the head.
    pub(crate) fn collect(&mut self, input: &mut &[u8]) -> Collected {
        while let Some(line_end) = memchr(b'\n', input) {
            let (line, rest) = input.split_at(line_end + 1);
            self.bytes.extend_from_slice(line);
            *input = rest;
            if self.bytes.len() > MAX_HEAD_BYTES {
                return Collected::TooLong;
            }
            if self.at_empty_line() {
                return Collected::Whole;
            }
        }
        self.bytes.extend_from_slice(input);
        *input = &[];
        if self.bytes.len() > MAX_HEAD_BYTES { Collected::TooLong } else { Collected::NeedMore }
    }

    fn at_empty_line(&self) -> bool {
        let before = self.bytes.strip_suffix(b"\r\n").or_else(|| self.bytes.strip_suffix(b"\n"));
        before.is_some_and(|before| before.is_empty() || before.ends_with(b"\n"))
    }

    /// Reads the bytes as a request head.
    pub(crate) fn request(&self) -> Option<RequestHead> {
        parse_request(&unfold(&self.bytes))
    }

    /// Reads the bytes as a response head.
    pub(crate) fn response(&self) -> Option<ResponseHead> {
        parse_response(&unfold(&self.bytes))
    }

    /// Reads the bytes as a trailer section; what does not parse is left out.
    pub(crate) fn trailers(&self) -> Vec<Header> {
        parse_trailers(&unfold(&self.bytes)).unwrap_or_default()
    }

    /// Reads the whole lines of a head that was cut.
    pub(crate) fn cut_request(&self) -> Option<RequestHead> {
        parse_request(&unfold(&self.whole_lines()?))
    }

    /// Reads the whole lines of a head that was cut.
    pub(crate) fn cut_response(&self) -> Option<ResponseHead> {
        parse_response(&unfold(&self.whole_lines()?))
    }

    fn whole_lines(&self) -> Option<Vec<u8>> {
        let end = memchr::memrchr(b'\n', &self.bytes)? + 1;
        let mut lines = self.bytes[..end].to_vec();
        lines.extend_from_slice(b"\r\n");
        Some(lines)
    }
}

/// Joins fields that go on in a line which begins with white space: a space takes the place of the line
/// end (RFC 9112 section 5.2). Such a line right behind the first one continues nothing (section 2.2).
fn unfold(bytes: &[u8]) -> Cow<'_, [u8]> {
    let first_end = memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1);
    let is_fold = |end: usize| matches!(bytes.get(end + 1), Some(b' ' | b'\t'));
    if !memchr::memchr_iter(b'\n', &bytes[first_end..]).any(|end| is_fold(first_end + end)) {
        return Cow::Borrowed(bytes);
    }
    let mut unfolded = bytes[..first_end].to_vec();
    let mut at = first_end;
    while let Some(line_bytes) = memchr(b'\n', &bytes[at..]) {
        let end = at + line_bytes;
        unfolded.extend_from_slice(&bytes[at..=end]);
        at = end + 1;
        if is_fold(end) {
            unfolded.truncate(unfolded.trim_ascii_end().len());
            unfolded.push(b' ');
            at += bytes[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        }
    }
    unfolded.extend_from_slice(&bytes[at..]);
    Cow::Owned(unfolded)
}

fn parser() -> httparse::ParserConfig {
    let mut config = httparse::ParserConfig::default();
    config
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_multiple_spaces_in_request_line_delimiters(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .ignore_invalid_headers_in_requests(true)
        .ignore_invalid_headers_in_responses(true);
    config
}

fn parse_request(bytes: &[u8]) -> Option<RequestHead> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut more;
    let mut request = httparse::Request::new(&mut fields);
    let mut parsed = parser().parse_request(&mut request, bytes);
    if parsed == Err(httparse::Error::TooManyHeaders) {
        more = vec![httparse::EMPTY_HEADER; MAX_FIELDS];
        request = httparse::Request::new(&mut more);
        parsed = parser().parse_request(&mut request, bytes);
    }
    if !parsed.ok()?.is_complete() {
        return None;
    }
    Some(RequestHead {
        method: request.method?.to_owned(),
        target: request.path?.to_owned(),
        version: version(request.version?),
        headers: owned(request.headers),
    })
}

fn parse_response(bytes: &[u8]) -> Option<ResponseHead> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut more;
    let mut response = httparse::Response::new(&mut fields);
    let mut parsed = parser().parse_response(&mut response, bytes);
    if parsed == Err(httparse::Error::TooManyHeaders) {
        more = vec![httparse::EMPTY_HEADER; MAX_FIELDS];
        response = httparse::Response::new(&mut more);
        parsed = parser().parse_response(&mut response, bytes);
    }
    if !parsed.ok()?.is_complete() {
        return None;
    }
    Some(ResponseHead {
        status: response.code?,
        version: version(response.version?),
        headers: owned(response.headers),
    })
}

fn parse_trailers(bytes: &[u8]) -> Option<Vec<Header>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    match httparse::parse_headers(bytes, &mut fields).ok()? {
        httparse::Status::Complete((_, fields)) => Some(owned(fields)),
        httparse::Status::Partial => None,
    }
}

fn version(minor: u8) -> &'static str {
    if minor == 0 { "1.0" } else { "1.1" }
}

fn owned(fields: &[httparse::Header<'_>]) -> Vec<Header> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    fields.iter().map(|field| (field.name.to_owned(), text(field.value))).collect()
}

/// The values of a field, in order (field names are case-insensitive, RFC 9110 section 5.1).
pub(crate) fn values<'a>(headers: &'a [Header], name: &'a str) -> impl Iterator<Item = &'a str> {
    headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
}

/// The elements of a comma-separated field over all its lines (RFC 9110 section 5.6.1), trimmed.
pub(crate) fn list<'a>(headers: &'a [Header], name: &'a str) -> impl Iterator<Item = &'a str> {
    values(headers, name)
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn collect(bytes: &[u8]) -> (HeadBuffer, Collected, usize) {
        let mut buffer = HeadBuffer::default();
        let mut input = bytes;
        let collected = buffer.collect(&mut input);
        (buffer, collected, input.len())
    }

    #[test]
    fn a_head_ends_at_its_empty_line() {
        let (buffer, collected, left) = collect(b"GET /a HTTP/1.1\r\nHost: b\r\n\r\nbody");
        assert_eq!((collected, left), (Collected::Whole, 4));
        let head = buffer.request().unwrap();
        assert_eq!((&*head.method, &*head.target, head.version), ("GET", "/a", "1.1"));
        assert_eq!(head.headers, [("Host".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn bare_line_feeds_and_odd_fields_are_read() {
        let (buffer, collected, _) = collect(b"HTTP/1.0 404 Not\nA : b\nbad line\nC: \xff\n\n");
        assert_eq!(collected, Collected::Whole);
        let head = buffer.response().unwrap();
        assert_eq!((head.status, head.version), (404, "1.0"));
        assert_eq!(values(&head.headers, "c").collect::<Vec<_>>(), ["\u{fffd}"]);
    }

    #[test]
    fn folded_fields_are_joined() {
        let head = b"GET / HTTP/1.1\r\nA: one\r\n  two \r\n\tthree\r\nB: c\n d\n\r\n";
        let head = collect(head).0.request().unwrap();
        let expected = [("A", "one two three"), ("B", "c d")];
        assert_eq!(head.headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(matches!(unfold(b"GET / HTTP/1.1\n odd\nA: b\n\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn many_fields_are_read() {
        let mut text = b"GET / HTTP/1.1\r\n".to_vec();
        for number in 0..500 {
            text.extend_from_slice(format!("x-{number}: y\r\n").as_bytes());
        }
        text.extend_from_slice(b"\r\n");
        assert_eq!(collect(&text).0.request().unwrap().headers.len(), 500);
    }

    #[test]
    fn a_cut_head_gives_its_whole_lines() {
        let (buffer, collected, _) = collect(b"POST /x HTTP/1.1\r\nHost: a\r\nConte");
        assert_eq!(collected, Collected::NeedMore);
        let head = buffer.cut_request().unwrap();
        assert_eq!((&*head.target, head.headers.len()), ("/x", 1));
    }

    #[test]
    fn an_endless_head_is_given_up() {
        assert_eq!(collect(&vec![b'a'; MAX_HEAD_BYTES + 1]).1, Collected::TooLong);
        assert_eq!(collect(&b"a: b\n".repeat(MAX_HEAD_BYTES / 4)).1, Collected::TooLong);
    }

    #[test]
    fn lists_span_lines() {
        let headers = [("A".to_owned(), "x, y".to_owned()), ("a".to_owned(), " ,z ".to_owned())];
        assert_eq!(list(&headers, "a").collect::<Vec<_>>(), ["x", "y", "z"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_head_or_not(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for start in [&b""[..], b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n"] {
                let (buffer, ..) = collect(&[start, &bytes].concat());
                let _ = (buffer.request(), buffer.response(), buffer.trailers());
                let _ = (buffer.cut_request(), buffer.cut_response());
            }
        }
    }
}
