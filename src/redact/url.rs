//! Secrets in URLs: parameters of the query and passwords in front of the host.

use super::mask::{Rule, Span, mark};
use super::names;

/// Longest user information looked for; hosts and passwords are shorter.
const MAX_USER_INFO: usize = 512;
/// A `state` shorter than this is a word such as `open`.
const MIN_STATE: usize = 16;
/// What GitHub wants in place of a password when the user name is a token.
const TOKEN_AS_USER: &[u8] = b"x-oauth-basic";

/// Marks credentials among the parameters of every query or fragment in `text[from..to]`.
pub(super) fn query(text: &[u8], from: usize, to: usize, spans: &mut Vec<Span>) {
    let mut at = from;
    while let Some(mark_at) = memchr::memchr2(b'?', b'#', &text[at..to]) {
        at = parameters(text, at + mark_at + 1, to, spans);
    }
}

/// Marks credentials among the `name=value&...` from `at` on, and returns where these end.
pub(super) fn parameters(text: &[u8], mut at: usize, to: usize, spans: &mut Vec<Span>) -> usize {
    loop {
        let end = text[at..to]
            .iter()
            .position(|byte| matches!(byte, b'&' | b';' | b'#' | b'?') || ends_url(*byte))
            .map_or(to, |length| at + length);
        if let Some(equals) = memchr::memchr(b'=', &text[at..end]) {
            let (name, value) = (&text[at..at + equals], &text[at + equals + 1..end]);
            if is_secret(name, value) {
                mark(spans, at + equals + 1, end, Rule::Query);
            }
        }
        match text[..to].get(end) {
            Some(b'&' | b';' | b'#' | b'?') => at = end + 1,
            _ => return end,
        }
    }
}

fn is_secret(name: &[u8], value: &[u8]) -> bool {
    match names::parameter(name) {
        names::Class::Secret => true,
        names::Class::Counted => !names::is_plain(value),
        names::Class::Opaque => value.len() >= MIN_STATE,
        names::Class::Other => false,
    }
}

/// Marks the password of every `scheme://user:password@` in `text[from..to]`.
pub(super) fn user_info(text: &[u8], from: usize, to: usize, spans: &mut Vec<Span>) {
    let mut at = from;
    while let Some(found) = memchr::memmem::find(&text[at..to], b"://") {
        at += found + 3;
        let rest = &text[at..to.min(at + MAX_USER_INFO)];
        let ends = |byte: &u8| matches!(byte, b'/' | b'?' | b'#') || ends_url(*byte);
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        let Some(user_end) = memchr::memrchr(b'@', &rest[..length]) else { continue };
        let Some(colon) = memchr::memchr(b':', &rest[..user_end]) else { continue };
        let password = &rest[colon + 1..user_end];
        if password.is_empty() || password == TOKEN_AS_USER {
            mark(spans, at, at + colon, Rule::UserInfo);
        } else if !is_placeholder(password) {
            mark(spans, at + colon + 1, at + user_end, Rule::UserInfo);
        }
        at += user_end;
    }
}

/// A shell variable in place of the password.
fn is_placeholder(password: &[u8]) -> bool {
    let name = password.strip_prefix(b"$").unwrap_or_default();
    let name = name.strip_prefix(b"{").and_then(|name| name.strip_suffix(b"}")).unwrap_or(name);
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_')
}

/// Whether a URL in a text cannot go on past this byte.
fn ends_url(byte: u8) -> bool {
    byte <= b' ' || matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`' | b'\\' | 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Finder = fn(&[u8], usize, usize, &mut Vec<Span>);

    fn found(finder: Finder, text: &str) -> Vec<&str> {
        let mut spans = Vec::new();
        finder(text.as_bytes(), 0, text.len(), &mut spans);
        spans.iter().map(|span| &text[span.start..span.end]).collect()
    }

    #[test]
    fn credentials_of_a_query_are_found_by_name() {
        let text = "/v1/models?alt=sse&key=abc&API_KEY=d&access_token=e&x=1#id_token=f&g=h";
        assert_eq!(found(query, text), ["abc", "d", "e", "f"]);
        let signed = "https://b.example/o?X-Amz-Algorithm=AWS4&X-Amz-Credential=c%2Fd&X-Amz-Date=2\
                      &X-Amz-Security-Token=t&X-Amz-Signature=s and ?sig=u;code=v";
        assert_eq!(found(query, signed), ["c%2Fd", "t", "s", "u", "v"]);
        assert_eq!(
            found(query, "?state=0123456789abcdef&client_secret=s"),
            ["0123456789abcdef", "s"]
        );
    }

    #[test]
    fn other_parameters_are_not() {
        for text in [
            "/repos?state=open&sort=key&page_token=abc",
            "/v1?max_tokens=100&token_count=5",
            "/search?q=token&keyword=secret",
            "what is key=value?",
            "/a?b&c=&token=",
        ] {
            assert_eq!(found(query, text), [""; 0], "{text}");
        }
    }

    #[test]
    fn passwords_in_front_of_a_host_are_found() {
        assert_eq!(found(user_info, "git clone https://me:pa55@h.example/x:y@z"), ["pa55"]);
        assert_eq!(found(user_info, "postgres://u:p@ss@db:5432/x"), ["p@ss"]);
        assert_eq!(found(user_info, "https://tok:x-oauth-basic@github.com/"), ["tok"]);
        assert_eq!(found(user_info, "https://tok:@api.example"), ["tok"]);
        for text in [
            "ssh://git@github.com:22/x",
            "https://localhost:8080/@scope/pkg",
            "http://a/?u=b:c@d",
            "https://u:$PASSWORD@host/",
            "see ://x and a:b@c",
        ] {
            assert_eq!(found(user_info, text), [""; 0], "{text}");
        }
    }
}
