//! Values in a text that a name in front of them announces: `NAME=value`, `"name": "value"`,
//! `name: value`, `--name value`.

use std::ops::Range;

use super::finder::Search;
use super::judge::{self, Before, Candidate, Enclosing};
use super::value::{self, Separator, Until, Value};
use crate::redact::mask::{Rule, Span, mark};
use crate::redact::names::{self, Announced};
use crate::redact::{argv, head};

/// Longest name looked at, on either side of the word that was found in it.
const MAX_NAME_BYTES: usize = 64;
/// How much of a value is judged. Values within values would cost the square of their length.
const MAX_JUDGED_BYTES: usize = 1 << 10;
/// Longest way of authentication in front of a credential.
const MAX_SCHEME_BYTES: usize = 32;
/// What may stand in front of an assignment in its line.
const LEADING_WORDS: [&[u8]; 18] = [
    b"export",
    b"declare",
    b"typeset",
    b"readonly",
    b"local",
    b"set",
    b"setenv",
    b"env",
    b"-x",
    b"-gx",
    b"-rx",
    b"-Ux",
    b"-",
    b"+",
    b"++",
    b">",
    b"<",
    b"#",
];

/// A name that announces a secret, and what follows it.
#[derive(Clone, Copy)]
struct Found<'a> {
    announced: Announced,
    name: &'a [u8],
    before: Before,
    separator: Separator,
    /// Where the value begins.
    at: usize,
    /// The name stands in quotes.
    quoted: bool,
}

impl Search<'_> {
    /// A word of a name was found: reads all of the name, and its value.
    pub(super) fn name(&mut self, start: usize, end: usize) {
        if start < self.name_end {
            return;
        }
        let line = self.line_at(start);
        let text = &self.text[..line.end];
        let in_name = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
        let after = text[end..].iter().take(MAX_NAME_BYTES).take_while(in_name).count();
        self.name_end = end + after;
        let Some((separator, at, quoted)) = value::separator(text, self.name_end) else { return };
        let before = text[line.start..start].iter().rev();
        let before = before.take(MAX_NAME_BYTES).take_while(in_name).count();
        let name_start = start - before;
        let name_start = name_start + escape_bytes(&text[line.start..start], before);
        let dashes = text[name_start..start].iter().take_while(|byte| **byte == b'-').count();
        let name = &text[name_start + dashes..self.name_end];
        let Some(announced) = names::announced(name) else { return };
        let before = self.before(&line, name_start, quoted);
        let found = Found { announced, name, before, separator, at, quoted };
        match separator {
            Separator::Blank => self.word_after(&found, &line, name_start, dashes),
            _ => self.value(&found, &line),
        }
    }

    /// What stands between the beginning of the line and a name.
    fn before(&self, line: &Range<usize>, name_start: usize, quoted: bool) -> Before {
        let mut before = &self.text[line.start..name_start];
        if quoted {
            let quote = before.iter().rev().take_while(|b| value::is_quote(**b) || **b == b'\\');
            before = &before[..before.len() - quote.count()];
        }
        for _ in 0..4 {
            let trimmed = before.trim_ascii_end();
            match trimmed {
                [] if line.start > 0 || !self.place.midway => return Before::Line,
                [rest @ .., b'n' | b'r' | b't'] if rest.ends_with(b"\\") => {
                    return Before::String(Enclosing { quote: b'"', escapes: count_escapes(rest) });
                }
                [rest @ .., quote] if value::is_quote(*quote) => {
                    let escapes = count_escapes(rest) + 1;
                    return Before::String(Enclosing { quote: *quote, escapes });
                }
                _ => {}
            }
            let word = trimmed.iter().rev().take(16).take_while(|byte| !byte.is_ascii_whitespace());
            let (rest, word) = trimmed.split_at(trimmed.len() - word.count());
            if !LEADING_WORDS.contains(&word) {
                return Before::Text;
            }
            before = rest;
        }
        Before::Text
    }

    /// `--name value`, `set -x NAME value`, and `password value` of a netrc.
    fn word_after(
        &mut self,
        found: &Found<'_>,
        line: &Range<usize>,
        name_start: usize,
        dashes: usize,
    ) {
        let before = self.text[line.start..name_start].trim_ascii_end();
        let sets = before.ends_with(b"setenv")
            || before.ends_with(b"set -x")
            || before.ends_with(b"set -gx");
        let login = &before[before.len().saturating_sub(2 * MAX_NAME_BYTES)..];
        let login = memchr::memmem::find(login, b"login ").is_some();
        if sets {
            self.value(&Found { separator: Separator::Equals, ..*found }, line);
        } else if dashes > 0 || login {
            let next = self.text[found.at];
            if next != b'-' {
                self.value(found, line);
            }
        }
    }

    /// Reads the value of a name and marks it if it is a secret.
    fn value(&mut self, found: &Found<'_>, line: &Range<usize>) {
        let text = &self.text[..line.end];
        if found.at >= text.len() {
            // The value is still to come.
            self.note_end(text.len(), Until::Word);
            return;
        }
        let in_header = found.separator == Separator::Colon
            && (found.name.contains(&b'-')
                || matches!(found.announced, Announced::Authorization | Announced::Cookies(_)));
        let whole = found.separator == Separator::Equals || in_header;
        if let Before::String(enclosing) = found.before
            && !found.quoted
            && let Some((quote, escapes, _)) = value::quote_at(text, found.at)
            && quote == enclosing.quote
            && escapes < enclosing.escapes
        {
            // It ends the string that the name stands in: `getpass("Password:")`.
            return;
        }
        let mut value = match (value::quoted(text, found.at), found.before) {
            (Some(value), _) => value,
            (None, Before::Line) if whole => {
                value::rest_of_line(text, found.at, self.cuts(line.end))
            }
            (None, Before::String(_)) if whole && !found.quoted => {
                value::rest_of_string(text, found.at)
            }
            // All cookies of this word were looked at.
            (None, _)
                if matches!(found.announced, Announced::Cookies(_))
                    && self.word.contains(&found.at) =>
            {
                return;
            }
            (None, _) => self.word(text, found.at),
        };
        if let Announced::Cookies(field) = found.announced {
            return self.cookies(found, field, value);
        }
        self.skip_scheme(&mut value, found, text);
        if found.separator == Separator::Equals && value.until != Until::Word {
            self.keep_first_word(&mut value);
        }
        if !value.quoted && !judge::is_upper(found.name) {
            // `password=None,`: in source code the value ends in front of the comma.
            let end = text[..value.range.end].iter().rev();
            let end = end.take(4).take_while(|byte| b",;)".contains(byte)).count();
            value.range.end = (value.range.end - end).max(value.range.start);
        }
        let cut_off = self.cuts(value.range.end);
        let behind = value.range.end + usize::from(value.quoted);
        let candidate = Candidate {
            announced: found.announced,
            name: found.name,
            before: found.before,
            separator: found.separator,
            quoted: value.quoted,
            value: &text
                [value.range.start..value.range.end.min(value.range.start + MAX_JUDGED_BYTES)],
            after: text.get(behind).copied(),
            cut_off,
        };
        if cut_off && value.range.is_empty() || candidate.is_secret() {
            mark(self.spans, value.range.start, value.range.end, Rule::Text);
            self.note_end(value.range.end, value.until);
        }
    }

    /// Reads the word from `at` on, or what is left of the one read last.
    fn word(&mut self, line: &[u8], at: usize) -> Value {
        if !self.word.contains(&at) {
            self.word = value::word(line, at).range;
        }
        Value { range: at..self.word.end.max(at), quoted: false, until: Until::Word }
    }

    /// Passes over `Bearer` and the like in front of a credential.
    fn skip_scheme(&mut self, value: &mut Value, found: &Found<'_>, text: &[u8]) {
        let rest = &text[value.range.start..];
        let mut first = rest.iter().take(MAX_SCHEME_BYTES);
        let Some(word) = first.position(u8::is_ascii_whitespace) else { return };
        if !head::is_scheme(&rest[..word]) {
            return;
        }
        let blanks = rest[word..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let start = value.range.start + word + blanks;
        if value.quoted || value.until != Until::Word {
            value.range.start = start.min(value.range.end);
        } else {
            *value = self.word(text, start);
        }
        // `Digest username=..., response=...`: all of it, blanks and quotes, to the end.
        let text = &text[value.range.clone()];
        let several =
            memchr::memchr2(b' ', b',', text).is_some() && memchr::memchr(b'=', text).is_some();
        if !several && found.announced == Announced::Authorization && !value.quoted {
            let length = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
            value.range.end = value.range.start + length;
        }
    }

    /// `NAME=value program`: keeps what follows the first word, where it looks like a command.
    fn keep_first_word(&self, value: &mut Value) {
        let text = &self.text[value.range.clone()];
        if let Some(blank) = text.iter().position(u8::is_ascii_whitespace)
            && text[blank..].iter().any(|byte| b"-/=$|&;(\"'>".contains(byte))
        {
            value.range.end = value.range.start + blank;
        }
    }

    /// Values of cookies.
    fn cookies(&mut self, found: &Found<'_>, field: names::Field, value: Value) {
        let text = &self.text[value.range.clone()];
        if found.separator == Separator::Equals || memchr::memchr(b'=', text).is_none() {
            return;
        }
        let before = self.spans.len();
        head::field_value(field, self.text, value.range.clone(), self.spans);
        let marked = self.spans.split_off(before);
        let literal = |span: &Span| {
            let value = &self.text[span.start..span.end];
            value.len() >= 4 && !value.contains(&b' ') && !argv::is_placeholder(value, 1)
        };
        self.spans.extend(marked.into_iter().filter(literal));
        self.note_end(value.range.end, value.until);
    }
}

/// How many of the `length` bytes at the end of `before` belong to an escape or a colour in front of
/// a name: `\napi_key`, `\u0022token`, `ESC[32mtoken`.
fn escape_bytes(before: &[u8], length: usize) -> usize {
    let (before, name) = before.split_at(before.len() - length);
    let escape = match (before, name) {
        ([.., b'\\'], [b'n' | b'r' | b't', ..]) => 1,
        ([.., b'\\'], [b'u', digits @ ..]) if is_hexadecimal(digits, 4) => 5,
        ([.., b'\\'], [b'x', digits @ ..]) if is_hexadecimal(digits, 2) => 3,
        _ => 0,
    };
    let numbers = before.iter().rev().take(16);
    let numbers = numbers.take_while(|byte| byte.is_ascii_digit() || **byte == b';').count();
    if before[..before.len() - numbers].ends_with(b"\x1b[") {
        let digits = name.iter().take_while(|byte| byte.is_ascii_digit()).count();
        return if name.get(digits) == Some(&b'm') { digits + 1 } else { 0 };
    }
    escape
}

/// Backslashes at the end of a text.
fn count_escapes(text: &[u8]) -> usize {
    text.iter().rev().take_while(|byte| **byte == b'\\').count()
}

fn is_hexadecimal(text: &[u8], digits: usize) -> bool {
    text.len() >= digits && text[..digits].iter().all(u8::is_ascii_hexdigit)
}
