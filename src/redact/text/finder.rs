//! What is secret in lines of text: values that a name announces, tokens by their shape, passwords in
//! URLs and commands, private keys.
//!
//! One pass looks for the words that names and tokens are made of; only where one of them stands is the
//! text around it read. What is read does not depend on what stands further away than a window shows.

use std::ops::Range;
use std::sync::LazyLock;

use super::block::{self, KeyBlock};
use super::links;
use super::value::Until;
use crate::redact::mask::{Rule, Span, mark};
use crate::redact::patterns::Patterns;
use crate::redact::{argv, names, shapes};

/// Longest command looked at.
const MAX_COMMAND_BYTES: usize = 4 << 10;

/// What names of secrets have in common.
const NAME_WORDS: [&[u8]; 12] = [
    b"token",
    b"secret",
    b"pass",
    b"key",
    b"credential",
    b"authorization",
    b"cookie",
    b"auth",
    b"jwt",
    b"_pat",
    b"pwd",
    b"session",
];
/// Programs that are given secrets by options that do not say so.
const PROGRAMS: [&[u8]; 9] = [
    b"curl ",
    b"wget ",
    b"sshpass ",
    b"redis-cli ",
    b"mysql ",
    b"mysqldump ",
    b"mongosh ",
    b"docker login ",
    b"openssl ",
];

#[derive(Clone, Copy)]
enum Hint {
    Name,
    Token,
    KeyBlock,
    Program,
}

struct Hints {
    patterns: Option<Patterns>,
    kinds: Vec<Hint>,
}

static HINTS: LazyLock<Hints> = LazyLock::new(|| {
    let mut words: Vec<(&[u8], Hint)> = Vec::new();
    words.extend(NAME_WORDS.map(|word| (word, Hint::Name)));
    words.extend(shapes::prefixes().map(|word| (word, Hint::Token)));
    words.extend(PROGRAMS.map(|word| (word, Hint::Program)));
    words.push((block::BEGIN, Hint::KeyBlock));
    let patterns = Patterns::new(words.iter().map(|(word, _)| word), true);
    Hints { patterns, kinds: words.into_iter().map(|(_, kind)| kind).collect() }
});

/// How a text stands in its stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// It does not begin where its first line begins.
    pub(super) midway: bool,
    /// Bytes are missing in front of it.
    pub(super) torn: bool,
    /// It ends with the end of a line.
    pub(super) complete: bool,
}

/// Marks what is secret in `text`. Where a text that is not complete ends within a value, returns
/// what ends that.
pub(super) fn find(
    text: &[u8],
    place: Place,
    block: &mut KeyBlock,
    spans: &mut Vec<Span>,
) -> Option<Until> {
    let mut search = Search {
        text,
        place,
        line: 0..0,
        name_end: 0,
        word: 0..0,
        command_end: 0,
        block,
        spans,
        open: None,
    };
    search.torn_word();
    links::find(text, place.complete, search.spans);
    search.block_lines(0);
    if let Some(patterns) = &HINTS.patterns {
        patterns.each(text, |word, start, end| match HINTS.kinds[word] {
            Hint::Name => search.name(start, end),
            Hint::Token => shapes::at(text, start, search.spans),
            Hint::KeyBlock => search.key_block(start),
            Hint::Program => search.command(start),
        });
    }
    if !place.complete {
        shapes::beginning(text, search.spans);
    }
    search.open
}

pub(super) struct Search<'a> {
    pub(super) text: &'a [u8],
    pub(super) place: Place,
    /// The line that was looked at last, without its end.
    pub(super) line: Range<usize>,
    /// Where the name that was looked at last ends.
    pub(super) name_end: usize,
    /// The word that was read last as a value, or as part of one.
    pub(super) word: Range<usize>,
    /// Where the command that was looked at last ends.
    command_end: usize,
    block: &'a mut KeyBlock,
    pub(super) spans: &'a mut Vec<Span>,
    /// How the value ends that the text is cut off in.
    open: Option<Until>,
}

impl Search<'_> {
    /// The line around a place, which may not lie in front of the one looked at last.
    pub(super) fn line_at(&mut self, at: usize) -> Range<usize> {
        if at >= self.line.end {
            let from = self.line.end;
            let before = memchr::memrchr3(b'\n', b'\r', 0, &self.text[from..at]);
            let start = before.map_or(from, |found| from + found + 1);
            let after = memchr::memchr3(b'\n', b'\r', 0, &self.text[at..]);
            self.line = start..after.map_or(self.text.len(), |found| at + found);
        }
        self.line.clone()
    }

    /// The first word after a gap, if it looks like the rest of something random.
    fn torn_word(&mut self) {
        if self.place.torn {
            let end = Until::Word.find(self.text).unwrap_or(self.text.len());
            if names::is_opaque(&self.text[..end]) || end == self.text.len() {
                mark(self.spans, 0, end, Rule::Cut);
            }
        }
    }

    /// A marker of a private key begins at `at`.
    fn key_block(&mut self, at: usize) {
        let Some(end) = block::marker_end(self.text, at) else { return };
        let line = self.line_at(at);
        let rest = &self.text[end..line.end.max(end)];
        let complete = self.place.complete || line.end < self.text.len();
        match block::in_line(rest, complete) {
            Some(data) => {
                mark(self.spans, end + data.start, end + data.end, Rule::PrivateKey);
                self.note_end(end + data.end, Until::Quote);
            }
            None if line.end < self.text.len() => {
                *self.block = KeyBlock::begun();
                self.block_lines(line.end + 1);
            }
            None => {}
        }
    }

    /// Reads the lines from `from` on as those of a key, as long as they are.
    fn block_lines(&mut self, from: usize) {
        let mut start = from;
        while self.block.is_open() && start < self.text.len() {
            let rest = &self.text[start..];
            let end = memchr::memchr3(b'\n', b'\r', 0, rest);
            let line = &rest[..end.unwrap_or(rest.len())];
            let complete = self.place.complete || end.is_some();
            // Between the carriage return and the line feed there is no line.
            if !line.is_empty()
                && let Some(data) = self.block.line(line, complete)
            {
                mark(self.spans, start + data.start, start + data.end, Rule::PrivateKey);
            }
            start += line.len() + 1;
        }
    }

    /// A program that takes secrets begins at `at`: reads its options.
    fn command(&mut self, at: usize) {
        let line = self.line_at(at);
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
        if at < self.command_end || at > line.start && word(&self.text[at - 1]) {
            return;
        }
        let end = line.end.min(at + MAX_COMMAND_BYTES);
        self.command_end = end;
        argv::command(self.text, at..end, self.spans);
    }

    /// Whether what ends at `end` may go on behind the text.
    pub(super) fn cuts(&self, end: usize) -> bool {
        !self.place.complete && end == self.text.len()
    }

    pub(super) fn note_end(&mut self, end: usize, until: Until) {
        if self.cuts(end) {
            self.open = Some(until);
        }
    }
}
