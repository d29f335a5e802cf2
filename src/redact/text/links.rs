//! Credentials in URLs that stand in a text: in source code, documents and logs.
//!
//! Code is full of question marks, hashes and colons, and documents of URLs with something to fill in.
//! So only what follows a path is a query here, and only what can be meant literally is a secret.

use crate::redact::argv::is_placeholder;
use crate::redact::mask::{Rule, Span, mark};
use crate::redact::url;

/// How far in front of a question mark a path is looked for.
const MAX_PATH_BYTES: usize = 512;
/// Shorter parameters are numbers and words.
const MIN_PARAMETER_BYTES: usize = 4;

/// Marks passwords in front of hosts, and parameters of queries. Where a text that is not `complete`
/// ends within a URL, what may become a password is one.
pub(super) fn find(text: &[u8], complete: bool, spans: &mut Vec<Span>) {
    if !complete {
        unfinished(text, spans);
    }
    let before = spans.len();
    url::user_info(text, 0, text.len(), spans);
    retain_from(spans, before, |span| is_literal(&text[span.start..span.end]));
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'?', b'#', &text[at..]) {
        let mark_at = at + found;
        at = mark_at + 1;
        if !follows_path(text, mark_at) {
            continue;
        }
        let before = spans.len();
        at = url::parameters(text, at, text.len(), spans);
        retain_from(spans, before, |span| {
            // `[text](https://h/?a=b)`
            let value = &text[span.start..span.end];
            let end = value.iter().position(|byte| b")]},|".contains(byte)).unwrap_or(value.len());
            span.end = span.start + end;
            end >= MIN_PARAMETER_BYTES && is_literal(&value[..end])
        });
    }
}

/// Marks what follows `scheme://name:` at the end of a text, unless it is a port.
fn unfinished(text: &[u8], spans: &mut Vec<Span>) {
    let from = text.len().saturating_sub(MAX_PATH_BYTES);
    let Some(scheme) = memchr::memmem::rfind(&text[from..], b"://") else { return };
    let start = from + scheme + 3;
    let rest = &text[start..];
    let ends = |byte: &u8| byte.is_ascii_control() || b" /?#@\"'<>`\\".contains(byte);
    if let Some(colon) = memchr::memchr(b':', rest)
        && !rest.iter().any(ends)
        && !rest[colon + 1..].iter().all(u8::is_ascii_digit)
        && is_literal(&rest[colon + 1..])
    {
        mark(spans, start + colon + 1, text.len(), Rule::UserInfo);
    }
}

/// Whether the word that ends at `end` has a path in it.
fn follows_path(text: &[u8], end: usize) -> bool {
    let in_url = |byte: &&u8| byte.is_ascii_alphanumeric() || b"/-_~%.:@&+!*".contains(byte);
    let mut word = text[..end].iter().rev().take(MAX_PATH_BYTES).take_while(in_url);
    word.any(|byte| *byte == b'/')
}

/// Whether a value is meant as it stands there.
fn is_literal(value: &[u8]) -> bool {
    !is_placeholder(value, 1) && !matches!(value.first(), Some(b'{' | b'[' | b'$' | b']'))
}

fn retain_from(spans: &mut Vec<Span>, from: usize, mut keep: impl FnMut(&mut Span) -> bool) {
    let mut at = from;
    while at < spans.len() {
        match keep(&mut spans[at]) {
            true => at += 1,
            false => drop(spans.remove(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        let mut spans = Vec::new();
        find(text.as_bytes(), true, &mut spans);
        spans.iter().map(|span| &text[span.start..span.end]).collect()
    }

    #[test]
    fn credentials_in_urls_are_found_up_to_where_these_end() {
        assert_eq!(found("GET /v1/x?key=abcdef&alt=sse HTTP/1.1"), ["abcdef"]);
        assert_eq!(found("![b](https://h/b.svg?token=abcdef)](https://h/)"), ["abcdef"]);
        assert_eq!(found("git clone https://me:pa55w@h/x"), ["pa55w"]);
        assert_eq!(found("http://localhost:1455/cb#access_token=abcdef"), ["abcdef"]);
    }

    #[test]
    fn code_and_blanks_to_fill_in_are_left_alone() {
        for text in [
            "x ? key=abcdef : 1",
            "a?.key=abcdef",
            "#key=abcdef",
            "https://h/?key=${key}&token={token}&code=404",
            "s3://{access}:{secret}@bucket/x",
            "https://u:$PASSWORD@h/",
        ] {
            let literal: Vec<_> = found(text).into_iter().filter(|value| *value != "404").collect();
            assert_eq!(literal, [""; 0], "{text}");
        }
    }
}
