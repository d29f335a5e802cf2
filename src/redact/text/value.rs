//! Where a value in a text begins and ends: in quotes, also in quotes of a string within a string, or
//! without any.

use std::ops::Range;

/// Backslashes in front of a quote of a string within strings that are counted: three levels deep
/// there are seven.
const MAX_ESCAPES: usize = 31;

/// What ends a value whose beginning was replaced already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::redact) enum Until {
    /// White space or what stands between words of code.
    Word,
    /// A quote or an escape.
    Quote,
    /// The end of the line.
    Line,
}

impl Until {
    /// Where a value ends that `text` goes on with.
    pub(super) fn find(self, text: &[u8]) -> Option<usize> {
        text.iter().position(|byte| match (self, *byte) {
            (_, b'\n' | b'\r' | 0) => true,
            (Self::Word, byte) => ends_word(byte) || byte == b'\\',
            (Self::Quote, byte) => matches!(byte, b'"' | b'\'' | b'`' | b'\\'),
            (Self::Line, _) => false,
        })
    }
}

/// A value found in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    /// Without quotes.
    pub(super) range: Range<usize>,
    /// It stands in quotes.
    pub(super) quoted: bool,
    /// What would have ended it, if the end of the line did.
    pub(super) until: Until,
}

/// What may stand between a name and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Separator {
    /// `name=value`
    Equals,
    /// `name = value`, `name := value`
    Assign,
    /// `name: value`, `name => value`
    Colon,
    /// `name value`
    Blank,
}

/// What follows a name that ends at `name_end`: the separator, where the value begins, and whether
/// the name stood in quotes.
pub(super) fn separator(line: &[u8], name_end: usize) -> Option<(Separator, usize, bool)> {
    let mut at = name_end;
    let escapes = count_escapes(line, at);
    let quoted = line.get(at + escapes).is_some_and(|byte| is_quote(*byte));
    match (quoted, escapes) {
        (true, _) => at += escapes + 1,
        (false, 0) => {}
        (false, _) => return None,
    }
    at += usize::from(line.get(at) == Some(&b']'));
    let blanks = count_blanks(line, at);
    at += blanks;
    let (separator, length) = match (line.get(at)?, line.get(at + 1)) {
        (b'=', Some(b'=' | b'~')) | (b':', Some(b':')) => return None,
        (b'=', Some(b'>')) => (Separator::Colon, 2),
        (b'=', _) if blanks == 0 && count_blanks(line, at + 1) == 0 => (Separator::Equals, 1),
        (b'=', _) => (Separator::Assign, 1),
        (b':', Some(b'=')) => (Separator::Assign, 2),
        (b':', _) => (Separator::Colon, 1),
        _ if blanks > 0 && !quoted => return Some((Separator::Blank, at, false)),
        _ => return None,
    };
    at += length;
    Some((separator, at + count_blanks(line, at), quoted))
}

/// The quote at `at`, how many backslashes stand in front of it, and where what it encloses begins.
/// Letters in front, as Python has them, are passed over.
pub(super) fn quote_at(line: &[u8], at: usize) -> Option<(u8, usize, usize)> {
    let letters = line.get(at..)?.iter().take(2).take_while(|b| b"rbfuRBFU$@".contains(b)).count();
    let at = at + letters;
    let escapes = count_escapes(line, at);
    let quote = *line.get(at + escapes).filter(|byte| is_quote(**byte))?;
    Some((quote, escapes, at + escapes + 1))
}

/// Reads the quoted value that begins at `at`, if one does.
pub(super) fn quoted(line: &[u8], at: usize) -> Option<Value> {
    let (quote, escapes, start) = quote_at(line, at)?;
    let mut from = start;
    while let Some(found) = memchr::memchr(quote, &line[from..]) {
        let end = from + found;
        let before = line[start..end].iter().rev().take(2 * MAX_ESCAPES);
        let before = before.take_while(|byte| **byte == b'\\').count();
        // A quote within has more of them; one behind an escaped backslash, a multiple.
        if before <= escapes || (before - escapes).is_multiple_of(2 * (escapes + 1)) {
            let range = start..end - before.min(escapes);
            return Some(Value { range, quoted: true, until: Until::Quote });
        }
        from = end + 1;
    }
    Some(Value { range: start..line.len(), quoted: true, until: Until::Quote })
}

/// Reads a value without quotes that ends with its word.
pub(super) fn word(line: &[u8], at: usize) -> Value {
    Value { range: at..end_of(line, at, ends_word), quoted: false, until: Until::Word }
}

/// Reads a value without quotes that ends with the line, of which more may follow.
pub(super) fn rest_of_line(line: &[u8], at: usize, cut_off: bool) -> Value {
    let end = if cut_off { line.len() } else { at + line[at..].trim_ascii_end().len() };
    Value { range: at..end, quoted: false, until: Until::Line }
}

/// Reads a value within a string that ends with the string, or with a line in it.
pub(super) fn rest_of_string(line: &[u8], at: usize) -> Value {
    Value { range: at..end_of(line, at, is_quote), quoted: false, until: Until::Quote }
}

/// The first byte from `at` on that ends a value, or an escape that stands for one: a line end or a
/// quote.
fn end_of(line: &[u8], at: usize, ends: fn(u8) -> bool) -> usize {
    let mut end = at;
    while let Some(&byte) = line.get(end) {
        if ends(byte) {
            break;
        }
        if byte == b'\\' {
            let escapes = count_escapes(line, end).max(1);
            match line.get(end + escapes) {
                Some(b'n' | b'r' | b't' | b'u' | b'0' | b'"' | b'\'' | b'`') | None => break,
                _ => end += escapes,
            }
        } else {
            end += 1;
        }
    }
    end.min(line.len())
}

fn ends_word(byte: u8) -> bool {
    byte <= b' ' || is_quote(byte) || b",;&|)]}<>".contains(&byte)
}

pub(super) fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

fn count_escapes(line: &[u8], at: usize) -> usize {
    let rest = line.get(at..).unwrap_or_default();
    rest.iter().take(MAX_ESCAPES).take_while(|byte| **byte == b'\\').count()
}

/// Blanks, and colours of a terminal.
fn count_blanks(line: &[u8], at: usize) -> usize {
    let mut end = at;
    loop {
        match line.get(end..).unwrap_or_default() {
            [b' ' | b'\t', ..] => end += 1,
            [0x1b, b'[', rest @ ..] => {
                let inner = |byte: &&u8| byte.is_ascii_digit() || **byte == b';';
                let length = rest.iter().take(16).take_while(inner).count();
                match rest.get(length) {
                    Some(b'm') => end += length + 3,
                    _ => return end - at,
                }
            }
            _ => return end - at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(read: impl Fn(&[u8], usize) -> Value, line: &str) -> &str {
        &line[read(line.as_bytes(), 0).range]
    }

    #[test]
    fn quoted_values_end_with_their_own_quote() {
        let read = |line: &'static str| value(|line, at| quoted(line, at).unwrap(), line);
        assert_eq!(read(r#""a\"b", "c""#), r#"a\"b"#);
        assert_eq!(read(r#""a\\", "c""#), r"a\\");
        assert_eq!(read(r#"\"a\", \"c\""#), "a");
        assert_eq!(read(r#"\"a\\\"b\", \"c\""#), r#"a\\\"b"#);
        assert_eq!(read(r#"\\\"a\\\",\\\"b\\\""#), "a");
        assert_eq!(read("rb'a' 'b'"), "a");
        assert_eq!(read("'never ends"), "never ends");
        assert_eq!(read(r#"\"ends with the string""#), "ends with the string");
        assert_eq!(quoted(b"word", 0), None);
        assert_eq!(quoted(b"\\", 0), None);
    }

    #[test]
    fn values_without_quotes_end_where_text_goes_on() {
        assert_eq!(value(word, "abc, d"), "abc");
        assert_eq!(value(word, r"ab\nc"), "ab");
        assert_eq!(value(word, r"ab\\nc"), "ab");
        assert_eq!(value(word, r"ab\cd e"), r"ab\cd");
        assert_eq!(value(|line, at| rest_of_line(line, at, false), "a b;c \r"), "a b;c");
        assert_eq!(value(rest_of_string, r#"a b;c\nd""#), "a b;c");
        assert_eq!(value(rest_of_string, r#"a b","d""#), "a b");
    }

    #[test]
    fn separators_are_told_apart() {
        let read = |line: &str| separator(line.as_bytes(), 1);
        assert_eq!(read("a=b"), Some((Separator::Equals, 2, false)));
        assert_eq!(read("a = b"), Some((Separator::Assign, 4, false)));
        assert_eq!(read("a:b"), Some((Separator::Colon, 2, false)));
        assert_eq!(read("a\":  b"), Some((Separator::Colon, 5, true)));
        assert_eq!(read("a\\\\\\\": b"), Some((Separator::Colon, 7, true)));
        assert_eq!(read("a'] = b"), Some((Separator::Assign, 6, true)));
        assert_eq!(read("a\" => b"), Some((Separator::Colon, 6, true)));
        assert_eq!(read("a b"), Some((Separator::Blank, 2, false)));
        assert_eq!(read("a\x1b[0m=\x1b[1;32mb"), Some((Separator::Assign, 13, false)));
        for line in ["a==b", "a::b", "a\\nb=c", "a(b)", "a", "a\"", "a=~b"] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
