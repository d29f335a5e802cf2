//! One direction of a pipe between programs: which bytes of the text in it are to be replaced.
//!
//! Nothing is known of what programs say to each other; it may be text, messages in JSON, or no text at
//! all. So everything is searched, line by line, and what no finding covers comes through as it was. A
//! line ends with a line feed, a carriage return or a NUL, as `env -0` and `/proc/PID/environ` have
//! it. Complete lines are searched together, as many as came at once.
//!
//! A line that is not complete yet is kept back, up to [`MAX_LINE_BYTES`]. A longer one is searched in
//! windows that overlap: of each, the last [`OVERLAP_BYTES`] are decided by the next one, which also
//! sees [`CONTEXT_BYTES`] of what is decided already. Where a value reaches the end of a window, all of
//! it is replaced as far as it goes.

use super::http1::{Edit, Output};
use super::known;
use super::mask::{Rule, Span, join};
use block::KeyBlock;
use finder::{Place, find};
use value::Until;

mod block;
mod finder;
mod judge;
mod links;
mod named;
#[cfg(test)]
mod tests;
mod value;

/// Longest line kept whole.
pub(super) const MAX_LINE_BYTES: usize = 64 << 10;
/// What of a window is left to the next one.
const OVERLAP_BYTES: usize = 16 << 10;
/// What of a line is kept after it was decided, because it may be the name of what follows.
const CONTEXT_BYTES: usize = 8 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// Bytes fed so far.
    pos: u64,
    /// The end of what was fed: a line that is not complete, as it came.
    line: Vec<u8>,
    /// Bytes of `line` that have been let go already.
    cut: usize,
    /// What is fed next, or `line`, does not begin where its line begins.
    midway: bool,
    /// Bytes are missing in front of it.
    torn: bool,
    /// Everything up to the end of a value is to be replaced, because its beginning was.
    open: Option<Until>,
    block: KeyBlock,
}

impl Parser {
    /// Bytes fed so far.
    pub(super) fn pos(&self) -> u64 {
        self.pos
    }

    /// Bytes at the end of what was fed that may still be replaced.
    pub(super) fn pending(&self) -> usize {
        self.line.len() - self.cut
    }

    /// Takes the bytes of one call.
    pub(super) fn feed(&mut self, data: &[u8], out: &mut Output<'_>) {
        let mut input = data;
        while !input.is_empty() {
            if let Some(until) = self.open {
                self.fill_value(until, &mut input, out);
            } else if self.line.is_empty() {
                self.lines(&mut input, out);
            } else {
                self.line(&mut input, out);
            }
            if self.line.len() == MAX_LINE_BYTES {
                self.window(out);
            }
        }
    }

    /// Searches the complete lines at the beginning of `input`; where there is none, keeps its
    /// beginning.
    fn lines(&mut self, input: &mut &[u8], out: &mut Output<'_>) {
        let piece = &input[..input.len().min(MAX_LINE_BYTES)];
        match memchr::memrchr3(b'\n', b'\r', 0, piece) {
            Some(last) => {
                let (lines, rest) = input.split_at(last + 1);
                *input = rest;
                self.pos += lines.len() as u64;
                self.complete(lines, out);
            }
            None => self.keep(piece.len(), input),
        }
    }

    /// Goes on with the line that is kept.
    fn line(&mut self, input: &mut &[u8], out: &mut Output<'_>) {
        let offered = &input[..input.len().min(MAX_LINE_BYTES - self.line.len())];
        let end = memchr::memchr3(b'\n', b'\r', 0, offered);
        self.keep(end.map_or(offered.len(), |at| at + 1), input);
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            self.complete(&line, out);
            self.reuse(line);
        }
    }

    /// Searches lines that are complete, of which the first `cut` bytes have been let go.
    fn complete(&mut self, lines: &[u8], out: &mut Output<'_>) {
        let place = Place { midway: self.midway, torn: self.torn, complete: true };
        find(lines, place, &mut self.block, out.spans);
        self.replace(lines, lines.len(), true, out);
        self.cut = 0;
        (self.midway, self.torn) = (false, false);
    }

    /// Decides the beginning of a line that is too long to be kept.
    fn window(&mut self, out: &mut Output<'_>) {
        let line = std::mem::take(&mut self.line);
        let until = self.search_part(&line, out.spans);
        let limit = line.len() - OVERLAP_BYTES;
        let decided = self.replace(&line, limit, false, out).max(limit).max(self.cut);
        self.midway = true;
        self.torn = false;
        // Lines of a key are short.
        self.block = KeyBlock::default();
        if decided == line.len() {
            self.open = Some(until.unwrap_or(Until::Word));
            self.cut = 0;
            return self.reuse(line);
        }
        let kept_from = decided.saturating_sub(CONTEXT_BYTES);
        self.line = line;
        self.line.drain(..kept_from);
        self.cut = decided - kept_from;
    }

    /// Searches a line that is not complete; returns how the value ends that its end cuts.
    fn search_part(&self, line: &[u8], spans: &mut Vec<Span>) -> Option<Until> {
        let place = Place { midway: self.midway, torn: self.torn, complete: false };
        find(line, place, &mut self.block.clone(), spans)
    }

    /// Replaces the rest of a value.
    fn fill_value(&mut self, until: Until, input: &mut &[u8], out: &mut Output<'_>) {
        let length = until.find(input);
        if let Some(length) = length {
            self.open = None;
            let ended = matches!(input[length], b'\n' | b'\r' | 0);
            self.midway = !ended;
        }
        let (value, rest) = input.split_at(length.unwrap_or(input.len()));
        self.fill(value, self.pos, out);
        self.pos += value.len() as u64;
        *input = rest;
    }

    /// Lets go of what is pending without waiting for the rest of its line: replaces what may be
    /// secret in it. The rest is searched together with what was let go.
    pub(super) fn force(&mut self, out: &mut Output<'_>) {
        self.let_go(out);
        self.cut = self.line.len();
    }

    /// Returns how the value ends within which the pending line is cut off.
    fn let_go(&mut self, out: &mut Output<'_>) -> Option<Until> {
        if self.pending() == 0 && self.line.is_empty() {
            return None;
        }
        let line = std::mem::take(&mut self.line);
        let until = self.search_part(&line, out.spans);
        let reached = self.replace(&line, line.len(), false, out);
        let within = until.or_else(|| (reached == line.len()).then_some(Until::Word));
        self.line = line;
        within
    }

    /// Takes note of bytes that were lost after those fed so far.
    pub(super) fn gap(&mut self, out: &mut Output<'_>) {
        let within = self.let_go(out);
        if within.is_some() {
            self.open = within;
        }
        self.torn = !self.line.is_empty() || self.midway;
        self.midway = true;
        self.line.clear();
        self.cut = 0;
    }

    /// Replaces the marked parts of `text`, which ends where the bytes fed so far do, as far as they
    /// begin in front of `limit` and have not been let go; returns where the last one ends. What
    /// reaches the end of a text that is not `complete` may go on, and is replaced without a hash.
    fn replace(
        &mut self,
        text: &[u8],
        limit: usize,
        complete: bool,
        out: &mut Output<'_>,
    ) -> usize {
        out.mask.find_known(text, complete, out.spans);
        join(out.spans);
        let pos = self.pos - text.len() as u64;
        let (mut index, mut reached) = (0, 0);
        while let Some(&span) = out.spans.get(index)
            && span.start < limit
        {
            index += 1;
            reached = span.end;
            let start = span.start.max(self.cut);
            if start >= span.end {
                continue;
            }
            let value = &text[start..span.end];
            let cut_off = !complete && span.end == text.len();
            if start > span.start || span.rule == Rule::Cut || cut_off {
                self.fill(value, pos + start as u64, out);
                continue;
            }
            let mut bytes = value.to_vec();
            if out.mask.hash(span.rule, false, &mut bytes) {
                known::occurrences(text, span.end, value, out.spans);
                join(out.spans);
            }
            out.edits.push(Edit { pos: pos + start as u64, bytes });
        }
        out.spans.clear();
        reached
    }

    /// Replaces bytes by what says nothing.
    fn fill(&self, value: &[u8], pos: u64, out: &mut Output<'_>) {
        let mut bytes = value.to_vec();
        out.mask.fill(&mut bytes);
        out.edits.push(Edit { pos, bytes });
    }

    /// Moves bytes of `input` to the line that is kept.
    fn keep(&mut self, length: usize, input: &mut &[u8]) {
        self.line.extend_from_slice(&input[..length]);
        self.pos += length as u64;
        *input = &input[length..];
    }

    /// Begins a line in the memory of one that is done with.
    fn reuse(&mut self, mut line: Vec<u8>) {
        line.clear();
        self.line = line;
    }
}
