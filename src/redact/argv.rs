//! Secrets in program arguments: of options, assignments, headers, URLs; also within a command that
//! is itself an argument, as in `sh -c "..."`.
//!
//! Arguments are prose and code as well, so a name must be whole words here, and what stands in
//! place of a value (`$TOKEN`, `<token>`) is left alone. Work is linear in the arguments' length.

use std::ops::Range;

use super::head;
use super::mask::{Mask, Rule, Span, mark};
use super::names::{self, Class, Field};

/// Commands within commands that are looked into.
const MAX_DEPTH: usize = 3;

/// Replaces the secrets of a program's arguments.
pub(super) fn redact(arguments: &mut [String], mask: &mut Mask) {
    let texts: Vec<&[u8]> = arguments.iter().map(String::as_bytes).collect();
    let mut spans: Vec<Vec<Span>> = vec![Vec::new(); texts.len()];
    let words = texts.iter().enumerate().map(|(text, bytes)| Word { text, range: 0..bytes.len() });
    Scan { texts: &texts, spans: &mut spans }.words(&words.collect::<Vec<_>>(), 0);
    for (text, spans) in texts.iter().zip(&mut spans) {
        head::free_text(text, 0..text.len(), spans);
        members(text, spans);
    }
    for (argument, mut spans) in arguments.iter_mut().zip(spans) {
        if !spans.is_empty() {
            let mut bytes = std::mem::take(argument).into_bytes();
            mask.replace(&mut bytes, &mut spans);
            // Spans end at ASCII characters or at the end; should one not, the rest is readable.
            *argument = String::from_utf8(bytes)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        }
    }
}

/// Marks the secrets of a command that stands somewhere in a text.
pub(super) fn command(text: &[u8], range: Range<usize>, spans: &mut Vec<Span>) {
    let texts = [&text[..range.end]];
    let word = |word: Range<usize>| Word {
        text: 0,
        range: range.start + word.start..range.start + word.end,
    };
    let words: Vec<Word> = split(&text[range.clone()]).into_iter().map(word).collect();
    let mut found = [std::mem::take(spans)];
    Scan { texts: &texts, spans: &mut found }.words(&words, 1);
    let [found] = found;
    *spans = found;
}

/// A word of a command: an argument, or part of one.
#[derive(Clone, Debug)]
struct Word {
    /// Which argument.
    text: usize,
    range: Range<usize>,
}

struct Scan<'a> {
    texts: &'a [&'a [u8]],
    spans: &'a mut [Vec<Span>],
}

/// What the next word is, because of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Nothing,
    /// A secret.
    Secret,
    /// A secret, if it looks like one.
    Opaque,
    /// `user:password`.
    User,
    /// `name=value; name=value`.
    Cookies,
    /// The value of a header field whose name was a word of its own: a scheme may come first.
    FieldValue(Field),
}

impl<'a> Scan<'a> {
    fn bytes(&self, word: &Word) -> &'a [u8] {
        &self.texts[word.text][word.range.clone()]
    }

    fn mark(&mut self, word: &Word, range: Range<usize>, rule: Rule) {
        let start = word.range.start;
        mark(&mut self.spans[word.text], start + range.start, start + range.end, rule);
    }

    /// Looks at the words of one command.
    fn words(&mut self, words: &[Word], depth: usize) {
        let mut program = Program::Other;
        let mut expect = Expect::Nothing;
        for word in words {
            let bytes = self.bytes(word);
            program = Program::of(bytes).unwrap_or(program);
            expect = self.word(word, expect, program, depth);
            if depth < MAX_DEPTH && bytes.iter().any(u8::is_ascii_whitespace) {
                let inner: Vec<Word> = split(bytes)
                    .into_iter()
                    .map(|range| Word {
                        text: word.text,
                        range: word.range.start + range.start..word.range.start + range.end,
                    })
                    .collect();
                // A text that is one quoted word would be itself again.
                if inner.len() > 1 || inner.first().is_some_and(|only| only.range != word.range) {
                    self.words(&inner, depth + 1);
                }
            }
        }
    }

    /// Looks at one word; returns what the next one is.
    fn word(&mut self, word: &Word, expect: Expect, program: Program, depth: usize) -> Expect {
        let bytes = self.bytes(word);
        match expect {
            Expect::Nothing => {}
            // The option had no value after all.
            _ if bytes.starts_with(b"-") && bytes.len() > 1 => {}
            Expect::FieldValue(field) if head::is_scheme(bytes) => {
                return Expect::FieldValue(field);
            }
            Expect::FieldValue(Field::Cookie | Field::SetCookie) | Expect::Cookies => {
                if bytes.contains(&b'=') {
                    let (text, spans) = (self.texts[word.text], &mut self.spans[word.text]);
                    head::field_value(Field::Cookie, text, word.range.clone(), spans);
                }
                return Expect::Nothing;
            }
            Expect::FieldValue(field @ Field::WebSocketProtocol) => {
                let (text, spans) = (self.texts[word.text], &mut self.spans[word.text]);
                head::field_value(field, text, word.range.clone(), spans);
                return Expect::Nothing;
            }
            Expect::Secret | Expect::FieldValue(_) => {
                self.value(word, 0..bytes.len(), Class::Secret, depth);
                return Expect::Nothing;
            }
            Expect::Opaque => {
                self.value(word, 0..bytes.len(), Class::Opaque, depth);
                return Expect::Nothing;
            }
            Expect::User => {
                self.user(word, 0..bytes.len(), depth);
                return Expect::Nothing;
            }
        }
        if let Some(expect) = self.option(word, program, depth) {
            return expect;
        }
        self.header(word, 0, depth).unwrap_or_else(|| {
            self.assignment(word, depth);
            Expect::Nothing
        })
    }

    /// `--name value`, `--name=value`, and what single programs call their secrets.
    fn option(&mut self, word: &Word, program: Program, depth: usize) -> Option<Expect> {
        let bytes = self.bytes(word);
        if bytes.len() < 2 || bytes[0] != b'-' {
            if program == Program::OpenSsl && bytes.starts_with(b"pass:") {
                self.mark(word, 5..bytes.len(), Rule::Argument);
            }
            return None;
        }
        if let Some((expect, attached)) = program.option(bytes) {
            match (expect, attached) {
                (expect, None) => return Some(expect),
                (Expect::User, Some(at)) => self.user(word, at..bytes.len(), depth),
                (_, Some(at)) => self.value(word, at..bytes.len(), Class::Secret, depth),
            }
            return Some(Expect::Nothing);
        }
        let Some(equals) = memchr::memchr(b'=', bytes) else {
            return Some(match names::setting(bytes) {
                Class::Secret => Expect::Secret,
                Class::Opaque => Expect::Opaque,
                Class::Counted | Class::Other => Expect::Nothing,
            });
        };
        let class = names::setting(&bytes[..equals]);
        if matches!(class, Class::Secret | Class::Opaque) {
            self.value(word, equals + 1..bytes.len(), class, depth);
            return Some(Expect::Nothing);
        }
        Some(self.header(word, equals + 1, depth).unwrap_or(Expect::Nothing))
    }

    /// `Name: value` from `at` on, with a name of a header field that carries a credential.
    fn header(&mut self, word: &Word, at: usize, depth: usize) -> Option<Expect> {
        let bytes = self.bytes(word);
        let at = at + quote_at(bytes, at).unwrap_or(0);
        let text = bytes.get(at..)?;
        let length = text.iter().take_while(|byte| head::is_name_byte(**byte)).count();
        let colon = (text.get(length) == Some(&b':') && length > 0).then_some(at + length)?;
        let name = &bytes[at..colon];
        let field = names::field(name);
        // `token:` begins many a sentence.
        let certain = name.contains(&b'-') || field != Field::Secret;
        if matches!(field, Field::Other | Field::Framing | Field::Counted) {
            return None;
        }
        let blanks = bytes[colon + 1..].iter().take_while(|b| b.is_ascii_whitespace()).count();
        let start = colon + 1 + blanks;
        if start >= bytes.len() {
            return (depth > 0 && certain).then_some(Expect::FieldValue(field));
        }
        let (start, end) = unquoted(bytes, start, bytes.len());
        let value = &bytes[start..end];
        let words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let credentials = words.skip_while(|word| head::is_scheme(word)).count();
        if is_placeholder(value, depth) || (!certain && credentials != 1) {
            return None;
        }
        let place = word.range.start + start..word.range.start + end;
        let spans = &mut self.spans[word.text];
        let before = spans.len();
        head::field_value(field, self.texts[word.text], place, spans);
        let text = self.texts[word.text];
        let kept = |span: &Span| !is_placeholder(&text[span.start..span.end], depth);
        let marked = spans.split_off(before);
        spans.extend(marked.into_iter().filter(kept));
        Some(Expect::Nothing)
    }

    /// `NAME=value`.
    fn assignment(&mut self, word: &Word, depth: usize) {
        let bytes = self.bytes(word);
        let lead = bytes.iter().take_while(|byte| b"\"'({;&|".contains(byte)).count();
        let in_name = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_-./:@".contains(byte);
        let length = bytes[lead..].iter().take_while(in_name).count();
        if bytes.get(lead + length) != Some(&b'=') || length == 0 {
            return;
        }
        let equals = lead + length;
        let class = names::setting(&bytes[lead..equals]);
        match class {
            Class::Secret | Class::Opaque => {
                self.value(word, equals + 1..bytes.len(), class, depth);
            }
            // `git -c http.extraHeader=...` and `http Authorization:...`.
            Class::Counted | Class::Other => {
                self.header(word, equals + 1, depth);
            }
        }
    }

    /// A value that a name announced.
    fn value(&mut self, word: &Word, range: Range<usize>, class: Class, depth: usize) {
        let bytes = self.bytes(word);
        let (start, mut end) = unquoted(bytes, range.start, range.end);
        if depth > 0 && start == range.start {
            // A shell's word ends here, and so does code's.
            let ends = |byte: &u8| b";&|)\"'`,".contains(byte);
            end = bytes[start..end].iter().position(ends).map_or(end, |at| start + at);
        }
        let value = &bytes[start..end];
        let looks_secret = match class {
            Class::Opaque => names::is_opaque(value),
            _ => !matches!(value, b"true" | b"false" | b"null" | b"none" | b"None" | b"-"),
        };
        if looks_secret && !is_placeholder(value, depth) {
            self.mark(word, start..end, Rule::Argument);
        }
    }

    /// `user:password`, or a token with nothing after its colon.
    fn user(&mut self, word: &Word, range: Range<usize>, depth: usize) {
        let bytes = self.bytes(word);
        let (start, end) = unquoted(bytes, range.start, range.end);
        let value = &bytes[start..end];
        match memchr::memchr(b':', value) {
            Some(colon) if colon + 1 == value.len() => {
                self.mark(word, start..start + colon, Rule::Argument);
            }
            Some(colon) => self.value(word, start + colon + 1..end, Class::Secret, depth),
            None => self.value(word, start..end, Class::Opaque, depth),
        }
    }
}

/// Programs with options whose names do not say that their values are secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Curl,
    HttPie,
    MySql,
    SshPass,
    RedisCli,
    Login,
    OpenSsl,
    Zip,
    Other,
}

impl Program {
    /// The program that a word names, by itself or by its path.
    fn of(word: &[u8]) -> Option<Self> {
        let name = word.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        Some(match name {
            b"curl" | b"wget" => Self::Curl,
            b"http" | b"https" | b"xh" | b"xhs" => Self::HttPie,
            b"mysql" | b"mysqldump" | b"mysqladmin" | b"mariadb" | b"mariadb-dump" => Self::MySql,
            b"sshpass" => Self::SshPass,
            b"redis-cli" | b"valkey-cli" => Self::RedisCli,
            b"docker" | b"podman" | b"helm" | b"nerdctl" | b"oras" | b"mongosh" => Self::Login,
            b"openssl" => Self::OpenSsl,
            b"zip" | b"unzip" => Self::Zip,
            _ => return None,
        })
    }

    /// What an option announces, and where its value begins if it is part of the word.
    fn option(self, word: &[u8]) -> Option<(Expect, Option<usize>)> {
        let (name, equals) = match memchr::memchr(b'=', word) {
            Some(equals) if word.starts_with(b"--") => (&word[..equals], Some(equals + 1)),
            _ => (word, None),
        };
        let short = |letter: u8, expect| {
            // `-u`, `-su`, `-uvalue`.
            let letters = word.get(1..)?.strip_suffix(&[letter])?;
            if word[1] != b'-' && letters.iter().all(u8::is_ascii_alphabetic) {
                return Some((expect, None));
            }
            None
        };
        let attached = |letter: u8, expect| {
            (word.get(1) == Some(&letter) && word.len() > 2).then_some((expect, Some(2)))
        };
        match self {
            Self::Curl => match name {
                b"--user" | b"--proxy-user" => Some((Expect::User, equals)),
                b"--pass" | b"--proxy-pass" | b"--oauth2-bearer" => Some((Expect::Secret, equals)),
                b"-b" | b"--cookie" if equals.is_none() => Some((Expect::Cookies, None)),
                _ => short(b'u', Expect::User)
                    .or_else(|| short(b'U', Expect::User))
                    .or_else(|| attached(b'u', Expect::User)),
            },
            Self::HttPie => match name {
                b"--auth" => Some((Expect::User, equals)),
                _ => short(b'a', Expect::User),
            },
            Self::MySql => attached(b'p', Expect::Secret),
            Self::SshPass => attached(b'p', Expect::Secret).or_else(|| short(b'p', Expect::Secret)),
            Self::RedisCli => short(b'a', Expect::Secret),
            Self::Login => match name {
                // A port, in `docker run`.
                b"-p" => Some((Expect::Opaque, None)),
                _ => None,
            },
            Self::Zip => attached(b'P', Expect::Secret).or_else(|| short(b'P', Expect::Secret)),
            Self::OpenSsl | Self::Other => None,
        }
    }
}

/// The words of a text as a shell would see them, without quotes around them.
fn split(text: &[u8]) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut at = 0;
    while at < text.len() {
        if text[at].is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let start = at;
        while at < text.len() && !text[at].is_ascii_whitespace() {
            at = match text[at] {
                quote @ (b'"' | b'\'') => closing_quote(text, at, quote) + 1,
                b'\\' => match quote_at(text, at) {
                    Some(_) => escaped_quote_end(text, at),
                    None => at + 2,
                },
                _ => at + 1,
            };
        }
        at = at.min(text.len());
        let (start, end) = unquoted(text, start, at);
        words.push(start..end);
    }
    words
}

/// Where the quote that begins at `at` ends; at its beginning where it does not: an apostrophe.
fn closing_quote(text: &[u8], at: usize, quote: u8) -> usize {
    let mut end = at + 1;
    while let Some(found) = memchr::memchr(quote, &text[end..]) {
        let escaped = quote == b'"' && text[end + found - 1] == b'\\' && found > 0;
        if !escaped {
            return end + found;
        }
        end += found + 1;
    }
    at
}

/// Behind the `\"` that ends what the one at `at` begins: a quote in a quoted command.
fn escaped_quote_end(text: &[u8], at: usize) -> usize {
    let quote = &text[at..at + 2];
    memchr::memmem::find(&text[at + 2..], quote).map_or(at + 2, |length| at + 2 + length + 2)
}

/// A range without the pair of quotes around it; where only its beginning is quoted, that part.
fn unquoted(text: &[u8], start: usize, end: usize) -> (usize, usize) {
    let text = &text[..end];
    let quoted = match text[start..] {
        [quote @ (b'"' | b'\''), ..] => (start + 1, closing_quote(text, start, quote)),
        [b'\\', b'"' | b'\'', ..] => (start + 2, escaped_quote_end(text, start) - 2),
        _ => return (start, end),
    };
    // Where there is no second quote, the first was an apostrophe.
    if quoted.0 <= quoted.1 { quoted } else { (start, end) }
}

/// Whether a value only stands in place of one: a variable, a blank to fill in, a mask.
pub(super) fn is_placeholder(value: &[u8], depth: usize) -> bool {
    let variable = match value {
        [b'$', b'{' | b'(', ..] | [b'`', ..] => true,
        [b'$', name @ ..] => {
            let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
            depth > 0 && !name.is_empty() && name.iter().all(in_name)
        }
        _ => false,
    };
    let blank = matches!(value, [b'<', .., b'>'] | [b'{', .., b'}'] | [b'%', b's']);
    let mask = value.iter().all(|byte| matches!(byte, b'*' | b'.' | b'x' | b'X'));
    value.is_empty() || variable || blank || mask
}

/// Marks `"name": "value"` and `name="value"` in documents and code.
fn members(text: &[u8], spans: &mut Vec<Span>) {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b':', b'=', &text[at..]) {
        let separator = at + found;
        at = separator + 1;
        let Some(name) = name_before(text, separator) else { continue };
        let blanks = text[at..].iter().take_while(|byte| **byte == b' ').count();
        let start = at + blanks;
        let Some(quote_bytes) = quote_at(text, start) else { continue };
        let quote = &text[start..start + quote_bytes];
        let from = start + quote_bytes;
        let Some(length) = memchr::memmem::find(&text[from..], quote) else { continue };
        let value = &text[from..from + length];
        at = from + length;
        let secret = match names::setting(name) {
            Class::Secret => true,
            Class::Opaque => names::is_opaque(value),
            Class::Counted | Class::Other => false,
        };
        // `"Authorization": "Bearer ..."`.
        let scheme = value.iter().position(|byte| *byte == b' ').unwrap_or(0);
        let scheme = if head::is_scheme(&value[..scheme]) { scheme + 1 } else { 0 };
        if secret && !is_placeholder(&value[scheme..], 1) && !value.contains(&b'\n') {
            mark(spans, from + scheme, from + length, Rule::Argument);
        }
    }
}

/// The name in front of a separator, quoted or not.
fn name_before(text: &[u8], separator: usize) -> Option<&[u8]> {
    const MAX_NAME: usize = 64;
    let before = text[separator.saturating_sub(MAX_NAME)..separator].trim_ascii_end();
    let before = before.strip_suffix(b"\"").or_else(|| before.strip_suffix(b"'")).unwrap_or(before);
    let before = before.strip_suffix(b"\\").unwrap_or(before);
    let in_name = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
    let length = before.iter().rev().take_while(in_name).count();
    (length > 0).then(|| &before[before.len() - length..])
}

/// Length of the quote that stands here: `"`, `'`, or one of them escaped.
fn quote_at(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at..)? {
        [b'"' | b'\'', ..] => Some(1),
        [b'\\', b'"' | b'\'', ..] => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What of the arguments is replaced, each as a question mark.
    fn redacted(arguments: &[&str]) -> Vec<String> {
        let mut redacted: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        redact(&mut redacted, &mut Mask::new(&[7; 32]));
        arguments
            .iter()
            .zip(redacted)
            .map(|(before, after)| {
                assert_eq!(before.len(), after.len());
                let mut shown = String::new();
                for (old, new) in before.chars().zip(after.chars()) {
                    match old == new {
                        true => shown.push(old),
                        false if shown.ends_with('?') => {}
                        false => shown.push('?'),
                    }
                }
                shown
            })
            .collect()
    }

    /// A secret that shares no character with any replacement, so that what is replaced shows.
    const SECRET: &str = "ZQ_W!ZQ_W!ZQ";

    /// Each `§` in the arguments is a secret, and exactly those are to be replaced.
    #[track_caller]
    fn finds(arguments: &[&str]) {
        let with = |text: &str| arguments.iter().map(|a| a.replace('§', text)).collect::<Vec<_>>();
        let given = with(SECRET);
        let given: Vec<&str> = given.iter().map(String::as_str).collect();
        assert_eq!(redacted(&given), with("?"));
    }

    #[test]
    fn options_assignments_and_headers_are_found() {
        finds(&["tool", "--token", "§", "--api-key=§", "--password", "§", "file"]);
        finds(&["tool", "-token", "§", "--apiKey", "§", "--client-secret=\"§\""]);
        finds(&["env", "FOO_API_KEY=§", "PGPASSWORD=§", "AWS_SECRET_ACCESS_KEY=§", "cmd"]);
        finds(&["curl", "-H", "Authorization: Bearer §", "--header=X-Api-Key: §", "https://h"]);
        finds(&["curl", "-H", "Cookie: a=§; b=§", "-b", "c=§", "-H", "X-Custom-Token: §"]);
        finds(&["curl", "-u", "user:§", "-suser:x", "--user=user:§", "--proxy-user", "user:§"]);
        finds(&["/usr/bin/curl", "-sSu", "user:§", "-u§:", "https://h"]);
        finds(&["mysql", "-uroot", "-p§", "db"]);
        finds(&["sshpass", "-p", "§", "ssh", "host"]);
        finds(&["redis-cli", "-a", "§", "ping"]);
        finds(&["openssl", "rsa", "-passin", "pass:§"]);
        finds(&["http", "-a", "me:§", "h", "Authorization:Bearer §"]);
        finds(&["git", "-c", "http.extraHeader=Authorization: Basic §", "fetch"]);
        finds(&["npm", "config", "set", "//registry.example/:_authToken=§"]);
        finds(&["java", "-Ddb.password=§", "-jar", "x.jar"]);
        finds(&["tool", "--config", "{\"apiKey\": \"§\", \"name\": \"x\"}"]);
        finds(&["tool", "{\"headers\":{\"Authorization\":\"Bearer §\"}}"]);
        finds(&["curl", "-H", "Sec-WebSocket-Protocol: realtime, bearer.§"]);
        finds(&["python3", "-c", "client(api_key='§', token = \"§\")"]);
    }

    #[test]
    fn commands_within_arguments_are_looked_into() {
        finds(&["sh", "-c", "curl -H 'Authorization: Bearer §' -H \"x-api-key: §\" https://h"]);
        finds(&[
            "bash",
            "-lc",
            "export GITHUB_TOKEN=§; FOO_SECRET='§' run --token § && curl -u a:§ h",
        ]);
        finds(&["sh", "-c", "ssh host \"curl -H 'Authorization: token §' h\""]);
        finds(&["sh", "-c", "bash -c \"curl -H \\\"Authorization: Bearer §\\\" h\""]);
        finds(&["sh", "-c", "don't worry, it's --password § that isn't shown"]);
        finds(&["sh", "-c", "curl -d '{\"password\":\"§\"}' https://me:§@h/"]);
    }

    #[test]
    fn tokens_and_urls_are_found_wherever_they_stand() {
        let token = format!("ghp_{}", "Z".repeat(36));
        let text = format!("clone https://x-access-token:{token}@github.com/a and {token}");
        let expected = "clone https://x-access-token:?@github.com/a and ?";
        assert_eq!(redacted(&["claude", "-p", &text])[2], expected);
        finds(&["curl", "https://h/v1?key=§&alt=sse"]);
    }

    #[test]
    fn equal_secrets_have_equal_hashes_wherever_they_stand() {
        let mut arguments =
            [format!("--token={SECRET}"), format!("Authorization: Bearer {SECRET}")];
        redact(&mut arguments, &mut Mask::new(&[1; 32]));
        assert_eq!(
            arguments[0]["--token=".len()..],
            arguments[1]["Authorization: Bearer ".len()..]
        );
    }

    #[test]
    fn ordinary_arguments_are_left_alone() {
        for arguments in [
            &["git", "checkout", "3b18e512dba79e4c8300dd08aeb37f8e728b8dad"][..],
            &["tool", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "--max-tokens", "100"],
            &["pip", "install", "sk-learn", "AIzawa", "tokenizers==0.15", "secrets-lib"],
            &[
                "llm",
                "--max-token=100",
                "--tokenizer",
                "gpt2",
                "MAX_TOKENS=1000",
                "--num-tokens",
                "5",
            ],
            &[
                "npm",
                "ci",
                "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
            ],
            &["sh", "-c", "curl -H \"Authorization: Bearer $TOKEN\" -u $USER:$PASS --token ${T} h"],
            &["sh", "-c", "export TOKEN=$(cat /run/token); PASSWORD=`pass show x`"],
            &[
                "tool",
                "--token-file",
                "/run/secrets/token",
                "--password-stdin",
                "--secret-name",
                "db",
            ],
            &["claude", "-p", "Explain what a Bearer token is: it's a secret. Cookie: a biscuit?"],
            &["claude", "-p", "Token: what does this word mean in a sentence like that one?"],
            &["sort", "--key=2", "-k", "1,1", "--sort-key", "name", "keyboard=us"],
            &["git", "log", "--author", "A U <a@b.example>", "--pretty=format:%H"],
            &["docker", "run", "-p", "8080:80", "-e", "NAME=x", "image"],
            &["make", "PWD=/home/user/src", "OLDPWD=/", "PATH=/usr/bin:/bin", "AUTHOR=me"],
            &["python3", "-c", "d = sorted(x, key=lambda v: v['token']); print('password:', 1)"],
            &["ssh", "git@github.com", "-i", "/home/me/.ssh/id_ed25519"],
            &["curl", "-H", "Content-Type: application/json", "-sSfL", "https://h/a?page=2"],
            &["grep", "-rn", "api_key", "src/", "--include=*.rs"],
            &["", "-", "--", "=", ":", "a=", "'", "\"", "\\"],
        ] {
            assert_eq!(redacted(arguments), arguments);
        }
    }

    #[test]
    fn long_and_broken_arguments_take_linear_time() {
        for unit in
            ["'", "\"", "\\", "a=\"", "--token ", "://:@", "\"a\":\"", "Bearer ", "?a=b&", "sk-"]
        {
            let long = unit.repeat((1 << 20) / unit.len());
            redact(&mut ["sh".into(), "-c".into(), long], &mut Mask::new(&[1; 32]));
        }
    }
}
