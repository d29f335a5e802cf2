//! One direction of one connection: finds the heads of HTTP/1.x messages in a stream of bytes and
//! gaps, and says which bytes of them are to be replaced.
//!
//! Bodies are passed over by their length and never looked at, as long as every head and every
//! chunk said how long it is. Where that is not known (the recording began in the middle, bytes were
//! lost, a body is not what its head said) the parser looks for a start line wherever a line or a
//! call begins, and after a gap for the rest of a field as well.
//!
//! Bytes are decided line by line: [`Parser::pending`] counts those at the end of what was fed whose
//! line is not complete yet. Whoever feeds keeps these back, up to what [`Parser::force`] is for.

use std::collections::VecDeque;

use super::head::{self, Method, PREFIX_BYTES, StartLine, may_start};
use super::http2;
use super::mask::{Mask, Span};
use super::message::{Facts, Framing, SizeLine};
use super::names::{self, Field};

mod fragment;

/// Longest line kept whole; what comes after is replaced without having been looked at.
pub(super) const MAX_LINE_BYTES: usize = 64 << 10;
/// The same where it is not known that this is a line of a head; longer ones are none.
const MAX_DOUBTFUL_LINE_BYTES: usize = 16 << 10;
/// Requests that may wait for their responses; with more, methods are not known any more.
const MAX_METHODS: usize = 128;

/// What both directions of a connection know.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Of the requests not answered yet.
    methods: VecDeque<Method>,
    /// Both directions said that they go on with another protocol.
    upgraded: bool,
    /// A head was found.
    pub(super) http1: bool,
    /// It speaks HTTP/2: by its preface, or by the look of it.
    pub(super) http2: bool,
    http2_preface: bool,
}

/// Bytes that replace as many others.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Edit {
    /// Position of the first one among the bytes fed so far.
    pub(super) pos: u64,
    pub(super) bytes: Vec<u8>,
}

/// Where edits go, and what makes them.
pub(super) struct Output<'a> {
    pub(super) mask: &'a mut Mask,
    pub(super) edits: &'a mut Vec<Edit>,
    /// Scratch.
    pub(super) spans: &'a mut Vec<Span>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Parser {
    state: State,
    /// Bytes fed so far.
    pos: u64,
    /// The end of what was fed, as it came: a line that is not complete. Empty in bodies.
    line: Vec<u8>,
    /// Bytes of `line` that have been let go already.
    cut: usize,
    /// The line feed of `line` was seen, but the next line may continue the field.
    ended: bool,
    facts: Facts,
    trailer: bool,
    /// The message may not be what it seems: a call that begins with a start line ends its body.
    doubtful: bool,
    /// The gap before began within something that is, or may be, secret.
    in_secret: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A start line is next, or (by the origin) may be next.
    Start(Origin),
    /// After a gap: maybe in the rest of a field. Holds where the first line ends in `line`.
    Fragment {
        first_end: Option<usize>,
    },
    /// In the fields of a head or trailer section.
    Fields,
    /// In the rest of a line that is too long: replacing all of it.
    Fill {
        line_ended: bool,
    },
    Fixed(u64),
    ChunkSize(SizeLine),
    Chunk(u64),
    ChunkEnd,
    UntilClose,
    /// Looking for a start line where lines begin.
    Lost {
        line_start: bool,
    },
    /// Another protocol.
    Foreign,
}

/// Why a start line is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// A message ended here.
    Message,
    /// The first bytes seen, or the first after a gap of which nobody knows what it swallowed.
    Unknown,
    /// The beginning of a line, or of a call.
    Scan,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            state: State::Start(Origin::Unknown),
            pos: 0,
            line: Vec::new(),
            cut: 0,
            ended: false,
            facts: Facts::default(),
            trailer: false,
            doubtful: false,
            in_secret: false,
        }
    }
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
    pub(super) fn feed(&mut self, data: &[u8], shared: &mut Shared, out: &mut Output<'_>) {
        let mut input = data;
        self.begin_call(data, shared);
        while !input.is_empty() {
            self.step(&mut input, shared, out);
        }
    }

    /// What changes because a call begins.
    fn begin_call(&mut self, data: &[u8], shared: &mut Shared) {
        if shared.http2_preface {
            self.drop_line();
            self.state = State::Foreign;
        }
        match self.state {
            State::Start(Origin::Message) if shared.upgraded && self.line.is_empty() => {
                self.doubtful = true;
                self.state = State::UntilClose;
                self.begin_call(data, shared);
            }
            State::Start(Origin::Unknown) if self.line.is_empty() && http2::is_frames(data) => {
                shared.http2 = true;
                self.state = State::Lost { line_start: true };
            }
            State::Lost { .. } => self.state = State::Lost { line_start: true },
            State::Fixed(_)
            | State::ChunkSize(_)
            | State::Chunk(_)
            | State::ChunkEnd
            | State::UntilClose
                if self.doubtful && begins_with_start_line(data) =>
            {
                self.state = State::Start(Origin::Scan);
            }
            _ => {}
        }
    }

    fn step(&mut self, input: &mut &[u8], shared: &mut Shared, out: &mut Output<'_>) {
        match self.state {
            State::Start(origin) => self.start(origin, input, shared, out),
            State::Fragment { first_end } => self.fragment(first_end, input, shared, out),
            State::Fields => self.fields(input, shared, out),
            State::Fill { line_ended } => self.fill_line(line_ended, input, out),
            State::Fixed(left) => {
                self.state = match left - self.pass_over(input, left) {
                    0 => State::Start(Origin::Message),
                    left => State::Fixed(left),
                };
            }
            State::Chunk(left) => {
                self.state = match left - self.pass_over(input, left) {
                    0 => State::ChunkEnd,
                    left => State::Chunk(left),
                };
            }
            State::ChunkSize(mut size_line) => {
                let byte = input[0];
                self.pass_over(input, 1);
                self.state = match size_line.take(byte) {
                    Ok(None) => State::ChunkSize(size_line),
                    Ok(Some(0)) => {
                        self.trailer = true;
                        State::Fields
                    }
                    Ok(Some(size)) => State::Chunk(size),
                    Err(_) => State::Lost { line_start: byte == b'\n' },
                };
            }
            State::ChunkEnd => {
                let byte = input[0];
                self.pass_over(input, 1);
                self.state = match byte {
                    b'\r' => State::ChunkEnd,
                    b'\n' => State::ChunkSize(SizeLine::default()),
                    _ => State::Lost { line_start: false },
                };
            }
            State::Lost { line_start: true } => {
                let begins = may_start(&input[..input.len().min(PREFIX_BYTES)]);
                self.state = match begins {
                    true => State::Start(Origin::Scan),
                    false => State::Lost { line_start: false },
                };
            }
            State::Lost { line_start: false } => {
                let line_end = memchr::memchr(b'\n', input);
                self.pass_over(input, line_end.map_or(u64::MAX, |at| at as u64 + 1));
                self.state = State::Lost { line_start: line_end.is_some() };
            }
            State::UntilClose | State::Foreign => {
                self.pass_over(input, u64::MAX);
            }
        }
    }

    /// Looks for a start line at the beginning of `line` and what follows it.
    fn start(
        &mut self,
        origin: Origin,
        input: &mut &[u8],
        shared: &mut Shared,
        out: &mut Output<'_>,
    ) {
        if self.line.is_empty() && origin == Origin::Message && matches!(input[0], b'\r' | b'\n') {
            // Empty lines may precede a request (RFC 9112 section 2.2).
            self.pass_over(input, 1);
            return;
        }
        if self.line.len() < PREFIX_BYTES {
            let more = input.len().min(PREFIX_BYTES - self.line.len());
            let prefix = [&self.line, &input[..more]].concat();
            let end = memchr::memchr(b'\n', &prefix).map_or(prefix.len(), |at| at + 1);
            if !may_start(&prefix[..end]) {
                return self.reject(origin);
            }
        }
        let max_bytes = match origin {
            Origin::Message | Origin::Unknown => MAX_LINE_BYTES,
            Origin::Scan => MAX_DOUBTFUL_LINE_BYTES,
        };
        if self.collect(input, max_bytes) {
            match head::start_line(&self.line) {
                Some(line) => self.begin_message(&line, origin, shared, out),
                None => self.reject(origin),
            }
        } else if self.line.len() > max_bytes {
            if origin == Origin::Scan {
                return self.reject(origin);
            }
            self.force(out);
            self.drop_line();
            self.facts = Facts::default();
            (self.trailer, self.doubtful) = (false, true);
            self.state = State::Fill { line_ended: false };
        }
    }

    /// What is in `line` is no start line.
    fn reject(&mut self, origin: Origin) {
        if origin == Origin::Unknown && self.cut == 0 {
            // It may be the rest of a field. If its line has ended already, so has the field.
            let ended = self.line.ends_with(b"\n");
            self.state = State::Fragment { first_end: ended.then_some(self.line.len()) };
            return;
        }
        let line_start = self.line.ends_with(b"\n");
        self.drop_line();
        self.state = State::Lost { line_start };
    }

    fn begin_message(
        &mut self,
        line: &StartLine,
        origin: Origin,
        shared: &mut Shared,
        out: &mut Output<'_>,
    ) {
        let mut answered = None;
        match line {
            StartLine::Http2 => {
                (shared.http2, shared.http2_preface) = (true, true);
                self.drop_line();
                self.state = State::Foreign;
                return;
            }
            StartLine::Request { method, target } => {
                if self.cut > target.start {
                    self.fill(self.cut, target.end, out);
                } else {
                    head::free_text(&self.line, target.clone(), out.spans);
                    self.replace(out);
                }
                shared.ask(*method);
            }
            StartLine::Response { status } => answered = shared.answer(*status),
        }
        shared.http1 = true;
        self.facts = Facts::new(line, answered);
        self.trailer = false;
        self.doubtful = origin == Origin::Scan || self.facts.is_doubtful();
        self.drop_line();
        self.state = State::Fields;
    }

    fn fields(&mut self, input: &mut &[u8], shared: &mut Shared, out: &mut Output<'_>) {
        if self.ended {
            match input[0] {
                b' ' | b'\t' => self.ended = false,
                _ => return self.finish_field(out),
            }
        }
        if self.collect(input, MAX_LINE_BYTES) {
            if matches!(&self.line[..], b"\r\n" | b"\n") {
                self.drop_line();
                self.end_head(shared);
            } else {
                self.ended = true;
            }
        } else if self.line.len() > MAX_LINE_BYTES {
            if self.field_kind() == Some(Field::Framing) {
                self.facts = Facts::default();
            }
            self.force(out);
            self.drop_line();
            self.state = State::Fill { line_ended: false };
        }
    }

    /// What the line in `line` carries, if its name is known already.
    fn field_kind(&self) -> Option<Field> {
        let colon = head::name_end(&self.line)?;
        Some(names::field(self.line[..colon].trim_ascii_end()))
    }

    /// A field is complete, its folded lines included.
    fn finish_field(&mut self, out: &mut Output<'_>) {
        let parts = head::field_parts(&self.line);
        match (self.line[0], parts) {
            // The rest of a field that was let go.
            (b' ' | b'\t', _) => self.fill(self.cut, self.line.len(), out),
            (_, Some((name, value))) => {
                let field = names::field(name);
                if self.cut <= value.start {
                    head::field_value(field, &self.line, value, out.spans);
                    self.replace(out);
                } else if field != Field::Framing {
                    self.fill(self.cut, value.end, out);
                }
                self.facts.note(&self.line);
            }
            (_, None) if self.cut > 0 => self.fill(self.cut, self.line.len(), out),
            (_, None) => {
                head::free_text(&self.line, 0..self.line.len(), out.spans);
                self.replace(out);
            }
        }
        self.drop_line();
    }

    fn end_head(&mut self, shared: &mut Shared) {
        if std::mem::take(&mut self.trailer) {
            self.state = State::Start(Origin::Message);
            return;
        }
        self.state = match self.facts.framing() {
            Framing::Fixed(0) => State::Start(Origin::Message),
            Framing::Fixed(length) => State::Fixed(length),
            Framing::Chunked => State::ChunkSize(SizeLine::default()),
            Framing::UntilClose => State::UntilClose,
            Framing::Upgraded => {
                shared.upgraded |= !self.doubtful;
                self.doubtful = true;
                State::UntilClose
            }
            Framing::Unknown => State::Lost { line_start: true },
        };
    }

    /// Replaces the rest of a line that is too long, folds included.
    fn fill_line(&mut self, line_ended: bool, input: &mut &[u8], out: &mut Output<'_>) {
        if line_ended && !matches!(input[0], b' ' | b'\t') {
            self.state = State::Fields;
            return;
        }
        let line_end = memchr::memchr(b'\n', input);
        let length = line_end.map_or(input.len(), |at| at + 1);
        let mut bytes = input[..length].to_vec();
        out.mask.fill(&mut bytes);
        out.edits.push(Edit { pos: self.pos, bytes });
        self.pass_over(input, length as u64);
        self.state = State::Fill { line_ended: line_end.is_some() };
    }

    /// Lets go of what is pending without waiting for the rest of its line: replaces what may be
    /// secret in it, and remembers to replace the rest.
    pub(super) fn force(&mut self, out: &mut Output<'_>) {
        if self.pending() == 0 {
            return;
        }
        match self.state {
            State::Start(Origin::Scan) => {
                self.drop_line();
                self.state = State::Lost { line_start: false };
            }
            State::Start(_) if !self.line.starts_with(b"HTTP/") => {
                let target = head::target_of(&self.line);
                self.fill(self.cut.max(target.start), target.end, out);
            }
            State::Fragment { first_end } => {
                let first = &self.line[..first_end.unwrap_or(self.line.len())];
                if self.in_secret && !fragment::is_like_body(first) {
                    self.fill(0, first.len(), out);
                    self.drop_line();
                    self.facts = Facts::default();
                    (self.trailer, self.doubtful) = (false, true);
                    self.state = State::Fill { line_ended: first_end.is_some() };
                } else {
                    self.drop_line();
                    self.state = State::Lost { line_start: false };
                }
            }
            State::Fields if self.ended => self.finish_field(out),
            State::Fields if matches!(self.line[0], b' ' | b'\t') => {
                self.fill(self.cut, self.line.len(), out);
            }
            State::Fields if self.field_kind() != Some(Field::Framing) => {
                if let Some(colon) = memchr::memchr(b':', &self.line) {
                    self.fill(self.cut.max(colon + 1), self.line.len(), out);
                }
            }
            _ => {}
        }
        self.cut = self.line.len();
    }

    /// Takes note of bytes that were lost after those fed so far, or of their order being broken:
    /// then nobody knows how many.
    pub(super) fn gap(
        &mut self,
        lost_bytes: Option<u64>,
        shared: &mut Shared,
        out: &mut Output<'_>,
    ) {
        let left_after = |left: u64| lost_bytes.and_then(|lost| left.checked_sub(lost));
        let left = match self.state {
            State::Fixed(left) | State::Chunk(left) => left_after(left),
            _ => None,
        };
        self.state = match (self.state, left) {
            (State::Fixed(_), Some(0)) => State::Start(Origin::Message),
            (State::Fixed(_), Some(left)) => State::Fixed(left),
            (State::Chunk(_), Some(0)) => State::ChunkEnd,
            (State::Chunk(_), Some(left)) => State::Chunk(left),
            (State::UntilClose | State::Foreign, _) => self.state,
            _ => {
                self.in_secret = self.is_in_secret();
                self.force(out);
                self.drop_line();
                // Which requests were asked meanwhile is unknown, too.
                shared.methods.clear();
                State::Start(Origin::Unknown)
            }
        };
    }

    /// Whether what is pending ends within something that is, or may be, secret.
    fn is_in_secret(&self) -> bool {
        match self.state {
            State::Fill { line_ended } => !line_ended,
            State::Start(Origin::Scan) | State::Lost { .. } => false,
            State::Start(_) => self.line.contains(&b' ') && !self.line.starts_with(b"HTTP/"),
            State::Fragment { .. } => self.in_secret,
            State::Fields if self.ended || self.line.is_empty() => false,
            State::Fields => {
                !matches!(self.field_kind(), Some(Field::Other | Field::Framing | Field::Counted))
            }
            _ => false,
        }
    }

    /// Moves bytes up to and with the line feed to `line`, at most one more than `max_bytes`;
    /// returns whether the line ended.
    fn collect(&mut self, input: &mut &[u8], max_bytes: usize) -> bool {
        let room = (max_bytes + 1).saturating_sub(self.line.len());
        let offered = &input[..input.len().min(room)];
        let line_end = memchr::memchr(b'\n', offered);
        let length = line_end.map_or(offered.len(), |at| at + 1);
        self.line.extend_from_slice(&offered[..length]);
        self.pass_over(input, length as u64);
        line_end.is_some()
    }

    /// Goes on behind up to `most` bytes of `input`; returns how many these were.
    fn pass_over(&mut self, input: &mut &[u8], most: u64) -> u64 {
        let length = usize::try_from(most).unwrap_or(usize::MAX).min(input.len());
        *input = &input[length..];
        self.pos += length as u64;
        length as u64
    }

    fn drop_line(&mut self) {
        self.line.clear();
        self.cut = 0;
        self.ended = false;
    }

    /// Replaces the marked parts of `line`.
    fn replace(&self, out: &mut Output<'_>) {
        if out.spans.is_empty() {
            return;
        }
        let mut bytes = self.line.clone();
        out.mask.replace(&mut bytes, out.spans);
        let pos = self.pos - self.line.len() as u64;
        out.edits.push(Edit { pos, bytes });
    }

    /// Replaces part of `line` by what says nothing.
    fn fill(&self, start: usize, end: usize, out: &mut Output<'_>) {
        if start < end {
            let mut bytes = self.line[start..end].to_vec();
            out.mask.fill(&mut bytes);
            let pos = self.pos - (self.line.len() - start) as u64;
            out.edits.push(Edit { pos, bytes });
        }
    }
}

impl Shared {
    fn ask(&mut self, method: Method) {
        if self.methods.len() == MAX_METHODS {
            self.methods.clear();
        }
        self.methods.push_back(method);
    }

    /// The method of the request that a response answers.
    fn answer(&mut self, status: u16) -> Option<Method> {
        match status {
            100 | 102..=199 => self.methods.front().copied(),
            _ => self.methods.pop_front(),
        }
    }
}

fn begins_with_start_line(data: &[u8]) -> bool {
    may_start(&data[..data.len().min(PREFIX_BYTES)])
        && memchr::memchr(b'\n', &data[..data.len().min(MAX_DOUBTFUL_LINE_BYTES)])
            .is_some_and(|end| head::start_line(&data[..=end]).is_some())
}
