//! Whether a value is what its name announces, or code, prose, or something that stands in its place.
//!
//! Programs print source code and documents all the time, and names of secrets are in most of them:
//! `token = getToken()`, `"password": "Password"`. The less the surroundings say that a value is meant
//! literally, the more it has to look like a secret itself.

use super::value::Separator;
use crate::redact::argv::is_placeholder;
use crate::redact::names::{self, Announced};

/// What stands before a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing in its line, or what begins an assignment: `export`.
    Line,
    /// The beginning of a string, or of a line in it.
    String(Enclosing),
    /// Other text.
    Text,
}

/// The string that something stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Enclosing {
    pub(super) quote: u8,
    /// Backslashes in front of a quote within that string, at least.
    pub(super) escapes: usize,
}

/// A value with what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) announced: Announced,
    pub(super) name: &'a [u8],
    pub(super) before: Before,
    pub(super) separator: Separator,
    pub(super) quoted: bool,
    pub(super) value: &'a [u8],
    /// The byte behind the value and its quote; `None` where the line ends.
    pub(super) after: Option<u8>,
    /// The rest of the value is not known yet.
    pub(super) cut_off: bool,
}

/// Words in place of a value, and names of types.
const NO_VALUES: [&str; 44] = [
    "any",
    "bool",
    "boolean",
    "bytes",
    "char",
    "disabled",
    "empty",
    "enabled",
    "false",
    "hidden",
    "include",
    "int",
    "integer",
    "invalid",
    "key",
    "missing",
    "nil",
    "no",
    "none",
    "not",
    "null",
    "number",
    "object",
    "off",
    "omit",
    "on",
    "optional",
    "option",
    "password",
    "redacted",
    "required",
    "same-origin",
    "secret",
    "set",
    "str",
    "string",
    "text",
    "todo",
    "token",
    "true",
    "undefined",
    "unknown",
    "value",
    "yes",
];

impl Candidate<'_> {
    /// Whether to replace the value.
    pub(super) fn is_secret(&self) -> bool {
        let value = self.value;
        if is_placeholder(value, 1)
            || is_template(value)
            || !value.iter().any(u8::is_ascii_alphanumeric)
            || self.is_no_value()
            || is_url(value)
        {
            return false;
        }
        if self.cut_off {
            let prose = value.iter().any(u8::is_ascii_whitespace);
            let refused = self.quoted && prose && self.announced != Announced::Password;
            return !refused && !is_code(value);
        }
        if self.quoted { self.is_quoted_secret() } else { self.is_bare_secret() }
    }

    fn is_quoted_secret(&self) -> bool {
        let value = self.value;
        let prose = value.iter().any(|byte| byte.is_ascii_whitespace());
        let upper = is_upper(self.name);
        let assigned = upper && matches!(self.separator, Separator::Equals);
        match self.announced {
            // A pass phrase.
            Announced::Password if prose => assigned && self.before != Before::Text,
            _ if prose || names::is_path(value) => false,
            Announced::Password => value.len() >= 3 && !is_code(value),
            Announced::Opaque => {
                (upper || self.name.eq_ignore_ascii_case(b"auth")) && names::is_opaque(value)
            }
            _ => is_plausible(value) || assigned && value.len() >= 4 && !is_code(value),
        }
    }

    fn is_bare_secret(&self) -> bool {
        let value = self.value;
        let upper = is_upper(self.name);
        if self.announced == Announced::Opaque {
            let assigned = upper && self.separator == Separator::Equals;
            return assigned && names::is_opaque(value);
        }
        if names::is_path(value) {
            return false;
        }
        let password = self.announced == Announced::Password;
        let in_code = matches!(self.after, Some(b',' | b';' | b')' | b']' | b'}'));
        match self.separator {
            Separator::Equals if upper => match self.before {
                // As in an environment: whatever stands there, but a call, is meant.
                Before::Line | Before::String(_) => !is_call(value) && !is_few_digits(value),
                Before::Text => !is_code(value) && !is_few_digits(value),
            },
            Separator::Equals if is_code(value) => false,
            Separator::Equals if password => {
                is_plausible(value) || !in_code && value.len() >= 4 && !is_few_digits(value)
            }
            _ if is_code(value) => false,
            Separator::Colon if password && !in_code && self.before == Before::Line => {
                // As in a configuration, and unlike `Password: incorrect` of a message.
                let named = !self.name.iter().any(u8::is_ascii_uppercase);
                is_plausible(value) || named && value.len() >= 6 && self.after.is_none()
            }
            _ if in_code => names::is_opaque(value) && is_plausible(value),
            _ => is_plausible(value),
        }
    }

    /// Whether the value only says that there is one, or says the name again.
    fn is_no_value(&self) -> bool {
        let plain = |text: &[u8]| -> Vec<u8> {
            let letters = text.iter().filter(|byte| byte.is_ascii_alphanumeric());
            letters.map(u8::to_ascii_lowercase).collect()
        };
        let value = self.value.to_ascii_lowercase();
        let word = value.iter().position(|byte| byte.is_ascii_whitespace()).unwrap_or(value.len());
        let word = value[..word].trim_ascii_end();
        NO_VALUES.iter().any(|no| word == no.as_bytes())
            || value.starts_with(b"your")
            || value.len() <= 64 && plain(&value) == plain(self.name)
    }
}

/// Whether a name is written like a variable of the environment.
pub(super) fn is_upper(name: &[u8]) -> bool {
    !name.iter().any(u8::is_ascii_lowercase) && name.iter().any(u8::is_ascii_uppercase)
}

/// Whether the value is made where the text is used: `Bearer ${token}`.
fn is_template(value: &[u8]) -> bool {
    [&b"${"[..], b"$(", b"{{", b"#{", b"<%", b"%("]
        .iter()
        .any(|part| memchr::memmem::find(value, part).is_some())
        || value.starts_with(b"+") && value.ends_with(b"+")
        || value.starts_with(b"{") && value.contains(&b'}')
}

/// What says where something is: a URL, the name of a resource.
fn is_url(value: &[u8]) -> bool {
    [&b"http://"[..], b"https://", b"arn:"].iter().any(|start| value.starts_with(start))
}

/// A number of things, rather than a code.
fn is_few_digits(value: &[u8]) -> bool {
    value.len() < 6 && value.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
}

/// Whether a value is a call or an element: `getToken()`, `os.environ["X"]`.
fn is_call(value: &[u8]) -> bool {
    let in_path = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_.:!?".contains(byte);
    let path = value.iter().take_while(in_path).count();
    let begins = value.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
    let opens = matches!(value.get(path), Some(b'(' | b'['));
    // What ends a word ends the value as well, so the other parenthesis may be missing.
    let closes =
        matches!(value.last(), Some(b'(' | b')' | b'[' | b']' | b',' | b';' | b'{' | b'?'));
    begins && opens && (closes || is_word(&value[..path]))
}

/// Whether a value is an expression in source code: `self.token`, `&token`, `getToken()`.
fn is_code(value: &[u8]) -> bool {
    let path = memchr::memchr2(b'.', b':', value).is_some()
        && value.split(|byte| matches!(byte, b'.' | b':' | b'?' | b'!')).all(is_word);
    let operator = value.first().is_some_and(|byte| b"&*!([{=+?|<>.,;:".contains(byte));
    let cast = memchr::memchr3(b'(', b'[', b'{', value).is_some() && is_call(value);
    path || operator || cast
}

/// Letters as of a name in source code, not random.
fn is_word(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
        || (text.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
            && text.iter().filter(|byte| byte.is_ascii_digit()).count() <= 2
            && text.first().is_some_and(u8::is_ascii_alphabetic)
            && text.len() <= 24)
}

/// Whether a value looks like a secret without being told: long, with digits among letters.
fn is_plausible(value: &[u8]) -> bool {
    const MIN_BYTES: usize = 8;
    let printable = |byte: &u8| byte.is_ascii_graphic() && !b"()[]{}<>`\\,;\"'|".contains(byte);
    if value.len() < MIN_BYTES || !value.iter().all(printable) || names::is_plain(value) {
        return false;
    }
    let (mut letters, mut digits, mut symbols, mut mixes, mut cases) = (0, 0, 0, 0, 0);
    let mut last = 0_u8;
    for &byte in value {
        letters += usize::from(byte.is_ascii_alphabetic());
        digits += usize::from(byte.is_ascii_digit());
        symbols += usize::from(b"!@#$%^&*+=?~".contains(&byte));
        let word = byte.is_ascii_alphanumeric() && last.is_ascii_alphanumeric();
        mixes += usize::from(word && byte.is_ascii_digit() != last.is_ascii_digit());
        cases += usize::from(byte.is_ascii_uppercase() && last.is_ascii_lowercase());
        last = byte;
    }
    let random = cases >= 4 && value.len() >= 16 && !value.contains(&b'.');
    letters > 0 && (digits >= 4 || mixes >= 3 || symbols > 0 && digits > 0) || random
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_values_are_told_from_words_and_code() {
        for value in [
            "0123456789abcdef",
            "hunter2hunter2",
            "cAnArY-custom-0123456789",
            "s3cr3t-p4ss",
            "dXNlcjpwYXNzd29yZA==",
            "QWxhZGRpbjpvcGVuIHNlc2FtZQ",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "pa$$word1",
        ] {
            assert!(is_plausible(value.as_bytes()), "{value}");
        }
        for value in [
            "short1",
            "getTheToken",
            "oauth2-proxy",
            "base64-encoded",
            "correct-horse-battery",
            "OAuth2PasswordBearer",
            "self.token",
            "2026-11-20T08:00:00Z",
            "1234567890123456",
            "config.auth.apiKey",
        ] {
            assert!(!is_plausible(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn expressions_are_code() {
        for value in ["os.environ[", "getToken(", "self.token", "args.api_key", "&token", "get()?"]
        {
            assert!(is_code(value.as_bytes()), "{value}");
        }
        for value in ["hunter2", "abc.DEF.0123456789", "a1b2c3(d4e5f6g7"] {
            assert!(!is_code(value.as_bytes()), "{value}");
        }
    }
}
