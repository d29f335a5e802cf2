//! Tokens that are recognised by how they look, wherever they stand.
//!
//! A shape is a prefix that issuers chose to be found by, and enough of the right characters after
//! it that words, identifiers and hashes are not taken for one.

use super::mask::{Rule, Span, mark};

/// A kind of token.
struct Shape {
    prefix: &'static [u8],
    /// Characters besides letters and digits that may follow.
    also: &'static [u8],
    /// At least this many characters after the prefix.
    min_tail: usize,
    /// What the tail must hold.
    needs: Needs,
}

/// What tells a token's tail from words.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Its length alone.
    Length,
    /// A digit.
    Digit,
    /// A run of at least [`RUN`] letters and digits with a digit among them: no name made of words
    /// joined by hyphens has one.
    Run,
}

/// See [`Needs::Run`].
const RUN: usize = 16;

const fn shape(prefix: &'static str, also: &'static str, min_tail: usize, needs: Needs) -> Shape {
    Shape { prefix: prefix.as_bytes(), also: also.as_bytes(), min_tail, needs }
}

/// Longer prefixes before their own beginnings.
const SHAPES: &[Shape] = &[
    // Anthropic, OpenAI, OpenRouter and all who imitate them.
    shape("sk-ant-", "-_", 12, Needs::Digit),
    shape("sk-or-v1-", "", 32, Needs::Length),
    shape("sk-proj-", "-_", 20, Needs::Digit),
    shape("sk-svcacct-", "-_", 20, Needs::Digit),
    shape("sk-admin-", "-_", 20, Needs::Digit),
    shape("sk-", "-_", 18, Needs::Run),
    // Google: API keys, OAuth access and refresh tokens, client secrets.
    shape("AIza", "-_", 30, Needs::Length),
    shape("ya29.", "-_.", 20, Needs::Length),
    shape("1//0", "-_", 20, Needs::Length),
    shape("GOCSPX-", "-_", 20, Needs::Length),
    // Forges and package registries.
    shape("ghp_", "", 30, Needs::Length),
    shape("gho_", "", 30, Needs::Length),
    shape("ghu_", "", 30, Needs::Length),
    shape("ghs_", "", 30, Needs::Length),
    shape("ghr_", "", 30, Needs::Length),
    shape("github_pat_", "_", 30, Needs::Length),
    shape("glpat-", "-_.", 18, Needs::Length),
    shape("npm_", "", 30, Needs::Digit),
    shape("pypi-AgE", "-_", 40, Needs::Length),
    // Model hosts.
    shape("hf_", "", 30, Needs::Length),
    shape("gsk_", "", 30, Needs::Digit),
    shape("xai-", "", 30, Needs::Digit),
    shape("pplx-", "", 30, Needs::Digit),
    shape("nvapi-", "-_", 30, Needs::Digit),
    shape("r8_", "", 30, Needs::Digit),
    shape("tvly-", "-", 20, Needs::Digit),
    shape("sgamp_", "_-", 20, Needs::Digit),
    shape("sgp_", "_", 30, Needs::Digit),
    shape("crsr_", "_-", 20, Needs::Digit),
    shape("ABSK", "+/=", 40, Needs::Digit),
    shape("bedrock-api-key-", "+/=-_", 20, Needs::Digit),
    // Chat, payment, infrastructure.
    shape("xoxa-", "-", 10, Needs::Digit),
    shape("xoxb-", "-", 10, Needs::Digit),
    shape("xoxe-", "-", 10, Needs::Digit),
    shape("xoxe.", "-.", 10, Needs::Digit),
    shape("xoxp-", "-", 10, Needs::Digit),
    shape("xoxr-", "-", 10, Needs::Digit),
    shape("xoxs-", "-", 10, Needs::Digit),
    shape("xapp-", "-", 10, Needs::Digit),
    shape("sk_live_", "", 16, Needs::Length),
    shape("sk_test_", "", 16, Needs::Length),
    shape("rk_live_", "", 16, Needs::Length),
    shape("rk_test_", "", 16, Needs::Length),
    shape("whsec_", "+/=", 24, Needs::Length),
    shape("hvs.", "-_", 20, Needs::Digit),
    shape("dop_v1_", "", 40, Needs::Length),
    shape("lin_api_", "", 30, Needs::Length),
    shape("SG.", "-_.", 50, Needs::Digit),
    // Private keys in PEM, once more in base64 as kubeconfigs hold them: `-----BEGIN RSA`,
    // `-----BEGIN PRIV`, `-----BEGIN EC P`, `-----BEGIN OPENS`.
    shape("LS0tLS1CRUdJTiBSU0Eg", "+/=", 32, Needs::Length),
    shape("LS0tLS1CRUdJTiBQUklW", "+/=", 32, Needs::Length),
    shape("LS0tLS1CRUdJTiBFQyBQ", "+/=", 32, Needs::Length),
    shape("LS0tLS1CRUdJTiBPUEVOU", "+/=", 32, Needs::Length),
];

/// Prefixes of AWS access key ids; 16 capitals and digits follow, no more and no fewer.
const AWS_PREFIXES: [&[u8]; 4] = [b"AKIA", b"ASIA", b"ABIA", b"ACCA"];
/// A JSON Web Token begins with an object in base64: `{"`.
const JWT_PREFIX: &[u8] = b"eyJ";
/// Characters of each of the first two parts of a JSON Web Token, at least.
const MIN_JWT_PART: usize = 10;
/// Characters of its first part, at most.
const MAX_JWT_HEADER: usize = 1024;
/// How much of what follows a prefix decides whether it is a token, so that text made of prefixes
/// costs no more than its length.
const MAX_JUDGED: usize = 128;
/// A word in front of a token, whatever its case.
const BEARER: &[u8] = b"bearer";
/// Characters of a word after `Bearer`, at least, with a digit among them.
const MIN_BEARER: usize = 8;

/// Bytes with which a shape can begin.
const FIRST: [bool; 256] = {
    let mut first = [false; 256];
    let mut at = 0;
    while at < SHAPES.len() {
        first[SHAPES[at].prefix[0] as usize] = true;
        at += 1;
    }
    first[b'A' as usize] = true;
    first[b'e' as usize] = true;
    first[b'B' as usize] = true;
    first[b'b' as usize] = true;
    first
};

/// What tokens begin with. Not everything that begins like this is one: see [`at`].
pub(super) fn prefixes() -> impl Iterator<Item = &'static [u8]> {
    let others = AWS_PREFIXES.into_iter().chain([JWT_PREFIX, BEARER]);
    SHAPES.iter().map(|shape| shape.prefix).chain(others)
}

/// Marks the token that begins at `at`, if one does.
pub(super) fn at(text: &[u8], at: usize, spans: &mut Vec<Span>) {
    if begins_word(text, at)
        && let Some((start, end)) = token_at(text, at)
    {
        mark(spans, start, end, Rule::Shape);
    }
}

/// Marks the word at the end of `text` if it may be the beginning of a token.
pub(super) fn beginning(text: &[u8], spans: &mut Vec<Span>) {
    let in_word = |byte: &&u8| byte.is_ascii_alphanumeric() || b"-_.+/=~".contains(byte);
    let length = text.iter().rev().take(MAX_JUDGED).take_while(in_word).count();
    let start = text.len() - length;
    let before = text[..start].trim_ascii_end();
    let bearer = before.len() < start
        && before.len() >= BEARER.len()
        && before[before.len() - BEARER.len()..].eq_ignore_ascii_case(BEARER);
    for at in start..text.len() {
        let rest = &text[at..];
        let begins = || SHAPES.iter().any(|shape| rest.starts_with(shape.prefix));
        if bearer || begins_word(text, at) && (begins() || rest.starts_with(JWT_PREFIX)) {
            return mark(spans, at, text.len(), Rule::Shape);
        }
    }
}

/// Marks every token in `text[from..to]`.
pub(super) fn find(text: &[u8], from: usize, to: usize, spans: &mut Vec<Span>) {
    let region = &text[..to];
    let mut at = from;
    while at < to {
        if !FIRST[usize::from(region[at])] || !begins_word(region, at) {
            at += 1;
            continue;
        }
        match token_at(region, at) {
            Some((start, end)) => {
                mark(spans, start, end, Rule::Shape);
                at = end;
            }
            None => at += 1,
        }
    }
}

/// Whether a token may begin here: not within a word, unless what precedes is an escape.
fn begins_word(text: &[u8], at: usize) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let before = &text[..at];
    match before {
        [.., b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => true,
        [.., b'\\', b'n' | b'r' | b't'] => true,
        [.., last] => !word(*last),
        [] => true,
    }
}

fn token_at(text: &[u8], at: usize) -> Option<(usize, usize)> {
    let rest = &text[at..];
    let end = known_prefix(rest).or_else(|| aws_key_id(rest)).or_else(|| json_web_token(rest));
    match end {
        Some(length) => Some((at, at + length)),
        None => bearer(rest).map(|(start, end)| (at + start, at + end)),
    }
}

fn known_prefix(rest: &[u8]) -> Option<usize> {
    SHAPES.iter().filter(|shape| rest.starts_with(shape.prefix)).find_map(|shape| {
        let tail = &rest[shape.prefix.len()..];
        let in_token = |byte: &u8| byte.is_ascii_alphanumeric() || shape.also.contains(byte);
        let judged = &tail[..tail.len().min(MAX_JUDGED)];
        let judged = &judged[..judged.iter().take_while(|byte| in_token(byte)).count()];
        let fits = judged.len() >= shape.min_tail
            && match shape.needs {
                Needs::Length => true,
                Needs::Digit => judged.iter().any(u8::is_ascii_digit),
                Needs::Run => judged
                    .split(|byte| !byte.is_ascii_alphanumeric())
                    .any(|run| run.len() >= RUN && run.iter().any(u8::is_ascii_digit)),
            };
        let length = || tail.iter().take_while(|byte| in_token(byte)).count();
        fits.then(|| shape.prefix.len() + length())
    })
}

fn aws_key_id(rest: &[u8]) -> Option<usize> {
    AWS_PREFIXES.iter().any(|prefix| rest.starts_with(prefix)).then_some(())?;
    const LENGTH: usize = 20;
    let (id, after) = rest.split_at_checked(LENGTH)?;
    let capital = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    let ends = !after.first().is_some_and(u8::is_ascii_alphanumeric);
    (ends && id.iter().all(capital)).then_some(LENGTH)
}

fn json_web_token(rest: &[u8]) -> Option<usize> {
    rest.starts_with(JWT_PREFIX).then_some(())?;
    let in_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let part = |text: &[u8], most: usize| text.iter().take(most).take_while(|b| in_part(b)).count();
    let header = part(rest, MAX_JWT_HEADER);
    let mut after = rest[header..].strip_prefix(b".")?;
    // An encrypted one may have nothing between its first two dots.
    after = after.strip_prefix(b".").unwrap_or(after);
    let fits = header >= MIN_JWT_PART && part(after, MIN_JWT_PART) == MIN_JWT_PART;
    let length = || rest.iter().take_while(|byte| in_part(byte) || **byte == b'.').count();
    fits.then(length)
}

/// The word after `Bearer`, if it is no word of a language.
fn bearer(rest: &[u8]) -> Option<(usize, usize)> {
    rest.get(..BEARER.len())?.eq_ignore_ascii_case(BEARER).then_some(())?;
    let blanks = rest[BEARER.len()..].iter().take_while(|byte| **byte == b' ').count();
    let start = BEARER.len() + blanks;
    let in_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    let length = rest[start..].iter().take_while(|byte| in_token(byte)).count();
    let word = &rest[start..start + length];
    // `Bearer realm=...` is a challenge.
    let inner = word.strip_suffix(b"==").or_else(|| word.strip_suffix(b"=")).unwrap_or(word);
    let fits = blanks > 0
        && length >= MIN_BEARER
        && word.iter().any(u8::is_ascii_digit)
        && !inner.contains(&b'=');
    fits.then_some((start, start + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        let mut spans = Vec::new();
        find(text.as_bytes(), 0, text.len(), &mut spans);
        spans.iter().map(|span| &text[span.start..span.end]).collect()
    }

    /// Put together here, so that nothing that looks for secrets finds one in the source.
    fn tokens() -> Vec<String> {
        let mixed = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1V2w3X4y5";
        let mut tokens: Vec<String> = SHAPES
            .iter()
            .map(|shape| format!("{}{mixed}", std::str::from_utf8(shape.prefix).unwrap()))
            .collect();
        tokens.push(format!("AKIA{}", "ABCDEFGH23456789"));
        let part = "eyJhbGciOiJIUzI1NiJ9";
        tokens.push(format!("{part}.{part}.c2lnbmF0dXJl"));
        tokens.push(format!("{part}..{part}.{part}.c2lnbmF0dXJl"));
        tokens
    }

    #[test]
    fn every_shape_is_found_alone_and_in_its_surroundings() {
        for token in tokens() {
            assert_eq!(found(&token), [&*token]);
            for (before, after) in
                [("/v1/", "?x"), ("a=%22", "&b"), ("\"", "\""), ("x: ", ", y"), ("\\n", " ")]
            {
                let text = format!("{before}{token}{after}");
                assert_eq!(found(&text), [&*token], "{text}");
            }
        }
        assert_eq!(found("x: bearer abcdef12, y"), ["abcdef12"]);
        assert_eq!(found("Bearer YWJjZGVmZ2hpamts1w=="), ["YWJjZGVmZ2hpamts1w=="]);
    }

    #[test]
    fn what_only_resembles_a_token_is_left_alone() {
        for text in [
            "sk-learn",
            "sk-learn-intelligence-module-extension-2024-for-everyone",
            "task-ant-colony-optimisation-2024",
            "AIzawa",
            "AIzawa-san wrote this in 2024",
            "3b18e512dba79e4c8300dd08aeb37f8e728b8dad",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
            "AKIAwhatever",
            "AKIABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "ghp_short",
            "hf_hub_download_with_a_long_name_in_python",
            "npm_config_registry_is_an_environment_variable",
            "eyJust.a.sentence.really",
            "Bearer authentication is explained here",
            "Bearer realm=\"x1\", error=\"invalid_token\"",
            "Bearer error=invalid2",
            "xoxo-hugs",
            "1//0",
            "redacted-0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }
}
