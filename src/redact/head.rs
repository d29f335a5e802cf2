//! Message heads of HTTP/1.x, line by line: what a line is, and which of its parts are secret.
//!
//! Pure functions of one line, folds and line end included. Lenient where real peers are: what
//! cannot be read exactly is still searched.

use std::ops::Range;

use super::mask::{Rule, Span, mark};
use super::names::{self, Field};
use super::{shapes, url};

/// Longest method looked for; the longest registered one has 17 characters.
const MAX_METHOD: usize = 20;
/// What tells a status line.
const STATUS_PREFIX: &[u8] = b"HTTP/1.";
/// How much of a line [`may_start`] looks at.
pub(super) const PREFIX_BYTES: usize = 32;

/// The first line of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StartLine {
    Request {
        method: Method,
        target: Range<usize>,
    },
    Response {
        status: u16,
    },
    /// HTTP/2 begins here (RFC 9113 section 3.4).
    Http2,
}

/// What the framing of the response depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Head,
    Connect,
    Other,
}

/// Whether a message could begin with these bytes, the first [`PREFIX_BYTES`] of a line or fewer.
pub(super) fn may_start(line: &[u8]) -> bool {
    let known = line.len().min(STATUS_PREFIX.len());
    if line[..known] == STATUS_PREFIX[..known] {
        let rest = &line[known..];
        let pattern = [u8::is_ascii_digit as fn(&u8) -> bool, |byte| *byte == b' '];
        return rest.iter().zip(pattern).all(|(byte, fits)| fits(byte));
    }
    let method = line.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
    let (method, rest) = line.split_at(method);
    let target = rest.iter().find(|byte| **byte != b' ');
    let spaced = rest.is_empty() || rest[0] == b' ';
    (1..=MAX_METHOD).contains(&method.len())
        && spaced
        && target.is_none_or(|first| match method {
            b"CONNECT" => first.is_ascii_alphanumeric() || *first == b'[',
            _ => matches!(first, b'/' | b'*' | b'h' | b'H'),
        })
}

/// Reads a whole line as the first of a message.
pub(super) fn start_line(line: &[u8]) -> Option<StartLine> {
    let text = trim_end(line);
    if !may_start(&text[..text.len().min(PREFIX_BYTES)]) {
        return None;
    }
    if let Some(rest) = text.strip_prefix(STATUS_PREFIX) {
        let code = std::str::from_utf8(rest.get(2..5)?).ok()?;
        let ends = rest.get(5).is_none_or(|byte| *byte == b' ');
        let status = code.parse().ok().filter(|status| ends && (100..1000).contains(status))?;
        return Some(StartLine::Response { status });
    }
    if text == b"PRI * HTTP/2.0" {
        return Some(StartLine::Http2);
    }
    let version = memchr::memrchr(b' ', text)?;
    let minor = text[version + 1..].strip_prefix(STATUS_PREFIX)?;
    (minor.len() == 1 && minor[0].is_ascii_digit()).then_some(())?;
    let target = target_of(text).start..version;
    // Nothing but blanks between method and version.
    (target.start < target.end).then_some(())?;
    let method = match &text[..memchr::memchr(b' ', text)?] {
        b"HEAD" => Method::Head,
        b"CONNECT" => Method::Connect,
        _ => Method::Other,
    };
    Some(StartLine::Request { method, target })
}

/// Where the target of a request line stands in what is known of it.
pub(super) fn target_of(line: &[u8]) -> Range<usize> {
    let method = memchr::memchr(b' ', line).unwrap_or(line.len());
    let blanks = line[method..].iter().take_while(|byte| **byte == b' ').count();
    method + blanks..line.len()
}

/// Where the name of a field line ends, at its colon.
pub(super) fn name_end(line: &[u8]) -> Option<usize> {
    let colon = memchr::memchr(b':', line)?;
    let name = trim_end(&line[..colon]);
    name.iter().all(|byte| is_name_byte(*byte)).then_some(colon)
}

/// Whether a byte may stand in the name of a field (RFC 9110 section 5.6.2).
pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The name and the place of the value of a field line.
pub(super) fn field_parts(line: &[u8]) -> Option<(&[u8], Range<usize>)> {
    let colon = name_end(line)?;
    let end = trim_end(line).len().max(colon + 1);
    let blank = |byte: &&u8| matches!(**byte, b' ' | b'\t' | b'\r' | b'\n');
    let start = colon + 1 + line[colon + 1..end].iter().take_while(blank).count();
    Some((trim_end(&line[..colon]), start..end))
}

/// Marks what is secret in the value of a field.
pub(super) fn field_value(field: Field, line: &[u8], value: Range<usize>, spans: &mut Vec<Span>) {
    match field {
        Field::Authorization => authorization(line, value, spans),
        Field::Cookie => {
            for piece in pieces(line, value, b';') {
                cookie(line, piece, spans);
            }
        }
        Field::SetCookie => {
            let mut pieces = pieces(line, value.clone(), b';');
            if let Some(first) = pieces.next() {
                cookie(line, first.clone(), spans);
                free_text(line, first.end..value.end, spans);
            }
        }
        Field::WebSocketProtocol => {
            for piece in pieces(line, value.clone(), b',') {
                subprotocol(line, piece, spans);
            }
            free_text(line, value, spans);
        }
        Field::Secret if !is_boolean(&line[value.clone()]) => secret(line, value, spans),
        Field::Counted if !names::is_plain(&line[value.clone()]) => secret(line, value, spans),
        Field::Framing | Field::Secret | Field::Counted => {}
        Field::Other => free_text(line, value, spans),
    }
}

/// Schemes that stand in front of credentials, in lower case (the registered ones and those that
/// APIs made up). Any other first word may be the credential itself.
const SCHEMES: [&str; 28] = [
    "apikey",
    "api-key",
    "aws",
    "aws4-hmac-sha256",
    "aws4-ecdsa-p256-sha256",
    "basic",
    "bearer",
    "concealed",
    "digest",
    "dpop",
    "gnap",
    "googlelogin",
    "hawk",
    "hmac",
    "hoba",
    "key",
    "mutual",
    "negotiate",
    "ntlm",
    "oauth",
    "privatetoken",
    "scram-sha-1",
    "scram-sha-256",
    "sharedaccesssignature",
    "sharedkey",
    "sharedkeylite",
    "token",
    "vapid",
];

/// Whether a word names a way of authentication.
pub(super) fn is_scheme(word: &[u8]) -> bool {
    SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme.as_bytes()))
}

/// Everything but the scheme.
fn authorization(line: &[u8], value: Range<usize>, spans: &mut Vec<Span>) {
    let text = &line[value.clone()];
    let word = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    let start = match is_scheme(&text[..word]) {
        true => word + text[word..].iter().take_while(|byte| byte.is_ascii_whitespace()).count(),
        false => 0,
    };
    mark(spans, value.start + start, value.end, Rule::Authorization);
}

/// A whole value; a scheme in front of it stays, so that equal credentials have equal hashes.
fn secret(line: &[u8], value: Range<usize>, spans: &mut Vec<Span>) {
    let before = spans.len();
    authorization(line, value, spans);
    spans[before..].iter_mut().for_each(|span| span.rule = Rule::Header);
}

fn is_boolean(value: &[u8]) -> bool {
    ["true", "false", "0", "1", "?0", "?1"].iter().any(|word| value == word.as_bytes())
}

/// The parts of a value between separators, white space trimmed.
fn pieces(line: &[u8], value: Range<usize>, separator: u8) -> impl Iterator<Item = Range<usize>> {
    let mut start = value.start;
    line[value].split(move |byte| *byte == separator).map(move |piece| {
        let lead = piece.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let end = trim_end(piece).len().max(lead);
        let range = start + lead..start + end;
        start += piece.len() + 1;
        range
    })
}

/// The value of one `name=value`, without quotes around it; all of it where there is no name.
fn cookie(line: &[u8], piece: Range<usize>, spans: &mut Vec<Span>) {
    let text = &line[piece.clone()];
    let start = memchr::memchr(b'=', text).map_or(0, |equals| equals + 1);
    let value = &text[start..];
    let quoted = value.len() >= 2 && value.starts_with(b"\"") && value.ends_with(b"\"");
    let quote = usize::from(quoted);
    mark(spans, piece.start + start + quote, piece.end - quote, Rule::Cookie);
}

/// What clients that cannot set header fields put in front of a key.
const SUBPROTOCOL_PREFIXES: [&str; 8] = [
    "openai-insecure-api-key.",
    "base64url.bearer.authorization.k8s.io.",
    "bearer.",
    "authorization.",
    "access-token.",
    "access_token.",
    "token.",
    "api-key.",
];

fn subprotocol(line: &[u8], piece: Range<usize>, spans: &mut Vec<Span>) {
    let text = &line[piece.clone()];
    let has = |prefix: &&&str| {
        text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    if let Some(prefix) = SUBPROTOCOL_PREFIXES.iter().find(has) {
        mark(spans, piece.start + prefix.len(), piece.end, Rule::Header);
    } else if names::is_opaque(text) {
        mark(spans, piece.start, piece.end, Rule::Header);
    }
}

/// Marks URLs with credentials and tokens anywhere in a text.
pub(super) fn free_text(text: &[u8], range: Range<usize>, spans: &mut Vec<Span>) {
    url::query(text, range.start, range.end, spans);
    url::user_info(text, range.start, range.end, spans);
    shapes::find(text, range.start, range.end, spans);
}

fn trim_end(text: &[u8]) -> &[u8] {
    let blanks = text.iter().rev().take_while(|byte| byte.is_ascii_whitespace()).count();
    &text[..text.len() - blanks]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(line: &str) -> Vec<&str> {
        let mut spans = Vec::new();
        match field_parts(line.as_bytes()) {
            Some((name, value)) => {
                field_value(names::field(name), line.as_bytes(), value, &mut spans);
            }
            None => free_text(line.as_bytes(), 0..line.len(), &mut spans),
        }
        spans.sort_by_key(|span| span.start);
        spans.iter().map(|span| &line[span.start..span.end]).collect()
    }

    #[test]
    fn credentials_are_taken_out_of_their_surroundings() {
        assert_eq!(secrets("Authorization: Bearer abc\r\n"), ["abc"]);
        assert_eq!(secrets("authorization:token  abc def \r\n"), ["abc def"]);
        assert_eq!(secrets("Proxy-Authorization: \tBasic YTpi\n"), ["YTpi"]);
        assert_eq!(secrets("Authorization: raw-key-1234\r\n"), ["raw-key-1234"]);
        assert_eq!(secrets("Authorization: mykey part2\r\n"), ["mykey part2"]);
        assert_eq!(
            secrets("Authorization: AWS4-HMAC-SHA256 Credential=a/b, Signature=c\r\n"),
            ["Credential=a/b, Signature=c"]
        );
        assert_eq!(secrets("x-api-key : abc\r\n"), ["abc"]);
        assert_eq!(secrets("X-Auth-Token: Bearer abc\r\n"), ["abc"]);
        assert_eq!(secrets("Authorization: Bearer\r\n  abc\r\n"), ["abc"]);
        assert_eq!(secrets("Authorization: Bearer\r\n"), [""; 0]);
    }

    #[test]
    fn names_and_attributes_of_cookies_stay() {
        assert_eq!(secrets("Cookie: a=1; b=\"2\"; c=; d;e==\r\n"), ["1", "2", "d", "="]);
        assert_eq!(
            secrets("Set-Cookie: sid=abc=; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax\r\n"),
            ["abc="]
        );
        assert_eq!(secrets("Set-Cookie: \r\n"), [""; 0]);
    }

    #[test]
    fn keys_among_subprotocols_are_found() {
        let line = "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.abc, openai-beta.realtime-v1\r\n";
        assert_eq!(secrets(line), ["abc"]);
        assert_eq!(
            secrets("sec-websocket-protocol: graphql-transport-ws, 0123456789abcdefX\r\n"),
            ["0123456789abcdefX"]
        );
    }

    #[test]
    fn counts_dates_and_flags_survive() {
        for line in [
            "anthropic-ratelimit-tokens-remaining: 79000\r\n",
            "anthropic-ratelimit-tokens-reset: 2026-11-20T08:00:00Z\r\n",
            "x-ratelimit-reset-tokens: 6m0s\r\n",
            "access-control-allow-credentials: true\r\n",
            "x-token-valid: true\r\n",
            "www-authenticate: Bearer realm=\"a\", error=\"invalid_token\"\r\n",
            "etag: \"3b18e512dba79e4c8300dd08aeb37f8e728b8dad\"\r\n",
            "content-length: 1234567890\r\n",
            "date: Fri, 20 Nov 2026 08:00:00 GMT\r\n",
        ] {
            assert_eq!(secrets(line), [""; 0], "{line}");
        }
        assert_eq!(secrets("x-ratelimit-tokens: abcdef\r\n"), ["abcdef"]);
    }

    #[test]
    fn urls_in_other_fields_are_searched() {
        assert_eq!(secrets("Location: http://localhost:1455/cb?code=a1&state=xyz\r\n"), ["a1"]);
        assert_eq!(secrets("Referer: https://u:p@h/\r\n"), ["p"]);
        assert_eq!(secrets("no colon but ?token=abc\r\n"), ["abc"]);
    }

    #[test]
    fn start_lines_are_told_from_text() {
        let request =
            |target: Range<usize>| Some(StartLine::Request { method: Method::Other, target });
        assert_eq!(start_line(b"POST /v1?key=a HTTP/1.1\r\n"), request(5..14));
        assert_eq!(start_line(b"GET  /a b HTTP/1.0\n"), request(5..9));
        assert_eq!(start_line(b"HTTP/1.1 200\r\n"), Some(StartLine::Response { status: 200 }));
        assert_eq!(start_line(b"HTTP/1.0 404 No\n"), Some(StartLine::Response { status: 404 }));
        assert_eq!(start_line(b"PRI * HTTP/2.0\r\n"), Some(StartLine::Http2));
        let connect = StartLine::Request { method: Method::Connect, target: 8..13 };
        assert_eq!(start_line(b"CONNECT a:443 HTTP/1.1\r\n"), Some(connect));
        for text in [
            "GET off my lawn HTTP/1.1\r\n",
            "POST /v1\r\n",
            "post / HTTP/1.1\r\n",
            "HTTP/1.1 2000 OK\r\n",
            "HTTP/1.1 OK\r\n",
            "HTTP/2 200\r\n",
            "GET / HTTP/1.10\r\n",
            "data: GET / HTTP/1.1\r\n",
            "GET HTTP/1.1\r\n",
            "GET   HTTP/1.1\r\n",
            "\r\n",
        ] {
            assert_eq!(start_line(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn every_beginning_of_a_start_line_may_become_one() {
        for line in
            ["POST /v1 HTTP/1.1", "HTTP/1.1 200 OK", "CONNECT a:1 HTTP/1.1", "PRI * HTTP/2.0"]
        {
            for end in 1..=line.len().min(PREFIX_BYTES) {
                assert!(may_start(&line.as_bytes()[..end]), "{}", &line[..end]);
            }
        }
        for text in
            ["{\"a\"", "data: ", "HTTP/2", "Ge", "GET x", "\r\n", "HTTP/1.1x", "A\n", "SELECT 1"]
        {
            assert!(!may_start(text.as_bytes()), "{text}");
        }
    }
}
