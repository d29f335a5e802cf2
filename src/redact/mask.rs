//! What stands in place of a secret, and how often that was needed.
//!
//! A replacement is as long as what it replaces, made of letters, digits and hyphens so that it is
//! valid wherever a secret stands, and ends in a keyed hash: whoever has the file can see that two
//! secrets were equal, and nothing else about them.

use std::collections::BTreeMap;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::known::Known;

/// What long replacements begin with, for a person to read.
const WORD: &[u8] = b"redacted-";
/// Fewer digits of hash than this tell hardly any two secrets apart: shorter replacements go
/// without the word.
const MIN_WORD_DIGITS: usize = 8;
/// Where a value was let go before it was complete, and there is nothing to hash.
const FILLER: u8 = b'x';

/// Why a value was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Credentials of `authorization` and `proxy-authorization`.
    Authorization,
    /// Another header field that carries a credential by its name.
    Header,
    /// A value of `cookie` or `set-cookie`.
    Cookie,
    /// A parameter of a URL's query that carries a credential by its name.
    Query,
    /// A password in front of the host of a URL.
    UserInfo,
    /// Text of the shape of a known kind of token, wherever it stood.
    Shape,
    /// A value that an option, an assignment or a header among a program's arguments names.
    Argument,
    /// A value that a name announces in a standard stream.
    Text,
    /// A line of a private key in PEM.
    PrivateKey,
    /// A secret that was replaced before, where nothing else in a standard stream gave it away.
    Known,
    /// Bytes that had to be let go before it was known what they were; they carry no hash.
    Cut,
}

impl Rule {
    /// Its name in the metadata.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authorization => "authorization",
            Self::Header => "header",
            Self::Cookie => "cookie",
            Self::Query => "query",
            Self::UserInfo => "user_info",
            Self::Shape => "token_shape",
            Self::Argument => "argument",
            Self::Text => "text",
            Self::PrivateKey => "private_key",
            Self::Known => "known_value",
            Self::Cut => "cut",
        }
    }
}

/// What one rule replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Values.
    pub values: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A part of a text that is to be replaced: the bytes from `start` to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) rule: Rule,
}

/// Adds a span unless it is empty.
pub(super) fn mark(spans: &mut Vec<Span>, start: usize, end: usize, rule: Rule) {
    if start < end {
        spans.push(Span { start, end, rule });
    }
}

/// Sorts spans and joins those that overlap. The one that begins first says why.
pub(super) fn join(spans: &mut Vec<Span>) {
    spans.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
    spans.dedup_by(|span, before| {
        let overlaps = span.start < before.end;
        if overlaps {
            before.end = before.end.max(span.end);
        }
        overlaps
    });
}

/// Replaces secrets, counts them and remembers them.
pub(super) struct Mask {
    /// With the key taken in already.
    hmac: Hmac<Sha256>,
    counts: BTreeMap<Rule, Count>,
    known: Known,
}

impl Mask {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let hmac = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
        Self { hmac, counts: BTreeMap::new(), known: Known::default() }
    }

    pub(super) fn counts(&self) -> &BTreeMap<Rule, Count> {
        &self.counts
    }

    /// Replaces all spans of `text`.
    pub(super) fn replace(&mut self, text: &mut [u8], spans: &mut Vec<Span>) {
        join(spans);
        for span in spans.drain(..) {
            self.hash(span.rule, true, &mut text[span.start..span.end]);
        }
    }

    /// Marks every secret in `text` that was replaced before; where the text is not `complete`, also
    /// one that begins at its end.
    pub(super) fn find_known(&self, text: &[u8], complete: bool, spans: &mut Vec<Span>) {
        self.known.find(text, spans);
        if !complete {
            self.known.find_beginning(text, spans);
        }
    }

    /// Replaces a value that is known to be incomplete; line ends stay.
    pub(super) fn fill(&mut self, value: &mut [u8]) {
        let mut bytes = 0;
        for byte in value.iter_mut().filter(|byte| !matches!(byte, b'\r' | b'\n')) {
            *byte = FILLER;
            bytes += 1;
        }
        if bytes > 0 {
            self.count(Rule::Cut, bytes);
        }
    }

    /// Replaces one whole value; returns whether it is remembered from now on, for which its place
    /// may have `vouched`. Where a field value was folded over lines, the line ends and the white
    /// space after them stay, and do not count as part of the value.
    pub(super) fn hash(&mut self, rule: Rule, vouched: bool, value: &mut [u8]) -> bool {
        self.count(rule, value.len());
        let learned = self.known.learn(rule, vouched, value);
        if memchr::memchr(b'\n', value).is_none() {
            let replacement = self.replacement(value);
            value.copy_from_slice(&replacement);
            return learned;
        }
        let mut after_line_end = false;
        let kept: Vec<bool> = value
            .iter()
            .map(|byte| {
                after_line_end = match byte {
                    b'\r' | b'\n' => true,
                    b' ' | b'\t' => after_line_end,
                    _ => false,
                };
                after_line_end
            })
            .collect();
        let secret: Vec<u8> =
            value.iter().zip(&kept).filter(|(_, kept)| !**kept).map(|(byte, _)| *byte).collect();
        let mut replacement = self.replacement(&secret).into_iter();
        for (byte, kept) in value.iter_mut().zip(kept) {
            if !kept {
                *byte = replacement.next().unwrap_or(FILLER);
            }
        }
        learned
    }

    /// As long as `secret`, the same for the same secret.
    fn replacement(&self, secret: &[u8]) -> Vec<u8> {
        let mut hmac = self.hmac.clone();
        hmac.update(secret);
        let hash = hmac.finalize().into_bytes();
        let word = if secret.len() >= WORD.len() + MIN_WORD_DIGITS { WORD } else { b"" };
        let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| match digit {
            0..=9 => b'0' + digit,
            _ => b'a' + digit - 10,
        });
        let text = word.iter().copied().chain(digits).chain(std::iter::repeat(FILLER));
        text.take(secret.len()).collect()
    }

    fn count(&mut self, rule: Rule, bytes: usize) {
        let count = self.counts.entry(rule).or_default();
        count.values += 1;
        count.bytes += bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(key: u8, text: &str, start: usize, end: usize) -> String {
        let mut mask = Mask::new(&[key; 32]);
        let mut bytes = text.as_bytes().to_vec();
        mask.replace(&mut bytes, &mut vec![Span { start, end, rule: Rule::Header }]);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn replacements_are_as_long_as_the_secret_and_valid_anywhere() {
        for length in 1..200 {
            let secret = "s".repeat(length);
            let text = replaced(1, &secret, 0, length);
            assert_eq!(text.len(), length);
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
            assert!(length < 3 || text != secret);
        }
        assert!(replaced(1, &"s".repeat(30), 0, 30).starts_with("redacted-"));
    }

    #[test]
    fn equal_secrets_stay_equal_within_a_recording_and_not_beyond() {
        let (one, other) = ("hunter2-hunter2-hunter2", "hunter3-hunter3-hunter3");
        assert_eq!(replaced(1, one, 0, 23), replaced(1, one, 0, 23));
        assert_ne!(replaced(1, one, 0, 23), replaced(1, other, 0, 23));
        assert_ne!(replaced(1, one, 0, 23), replaced(2, one, 0, 23));
        assert_ne!(replaced(1, "pass", 0, 4), replaced(1, "word", 0, 4));
    }

    #[test]
    fn a_folded_value_has_the_hash_of_the_value_and_keeps_its_folds() {
        let whole = replaced(1, "abcdefghijklmnopqrstuvwxyz", 0, 26);
        let folded = replaced(1, "abcdefghijklm\r\n \tnopqrstuvwxyz", 0, 30);
        assert_eq!(folded, format!("{}\r\n \t{}", &whole[..13], &whole[13..]));
    }

    #[test]
    fn overlapping_spans_are_one_value() {
        let mut mask = Mask::new(&[1; 32]);
        let mut text = b"0123456789".to_vec();
        let span = |start, end, rule| Span { start, end, rule };
        let mut spans = vec![span(4, 9, Rule::Shape), span(2, 6, Rule::Query)];
        mask.replace(&mut text, &mut spans);
        assert_eq!((&text[..2], &text[9..]), (&b"01"[..], &b"9"[..]));
        let count = Count { values: 1, bytes: 7 };
        assert_eq!(mask.counts().iter().collect::<Vec<_>>(), [(&Rule::Query, &count)]);
    }
}
