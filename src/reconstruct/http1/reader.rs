//! One direction of an HTTP/1 connection: pieces of a stream in, parts of messages out.
//!
//! Owns where in a message the stream is and how it finds back after damage. Who answers whom is
//! not known here: the caller says how a body is framed and when a new message may interrupt.
//!
//! ```text
//!             ┌──────────────── End ◀──────────────────┐
//!             ▼                                        │
//!  Between ─Start─▶ Head ─RequestHead/ResponseHead─▶ Unframed ─frame()─▶ Body, Chunked, UntilClose
//!     │              │                                 │                  │          │
//!     └── Broken ────┴────────────── Broken ───────────┴───────▶ Lost ◀───┴── Broken ┘
//!                                  Start ◀── message start ──────┘ └── chunk start ──▶ Chunked
//! ```
//!
//! A message start after damage counts only where a call of the TLS library began, since peers
//! write heads with a call of their own and bodies may quote HTTP. A call begins where the time
//! changes, however the stream was cut into events.

use std::borrow::Cow;

use super::chunked::{Chunked, Step, looks_like_chunk};
use super::framing::Framing;
use super::head::{Collected, HeadBuffer, RequestHead, ResponseHead};
use crate::reconstruct::finding::{Header, PartialReason};
use crate::reconstruct::protocol::{Side, VERDICT_BYTES, Verdict, verdict};
use crate::reconstruct::stream::{Content, Piece};
use crate::time::WallNanos;

/// A part of the stream, in stream order.
#[derive(Debug)]
pub(crate) enum Part<'a> {
    /// A message begins; its first byte came at this time.
    Start(WallNanos),
    /// The request head is whole.
    RequestHead(Box<RequestHead>),
    /// The response head is whole; the caller must call [`Reader::frame`] before going on.
    ResponseHead(Box<ResponseHead>),
    /// Content, without chunk framing, still content-coded.
    Body(Cow<'a, [u8]>),
    /// This many bytes of content are missing, the place of the rest is known.
    BodyGap(u64),
    /// The message ends; these are its trailer fields.
    End(Vec<Header>),
    /// The current message (between messages: an unseen one) is damaged.
    Broken(PartialReason),
    /// This many bytes that belong to the damaged message are missing.
    Lost(u64),
    /// This many captured bytes belong to no known place in a message.
    Skipped(u64),
    /// A new message begins though the current one has not ended; [`Part::Start`] follows.
    Interrupted,
    /// The stream is HTTP/2 from what [`Reader::rest`] gives on: from its connection preface, or
    /// from a frame in its midst.
    Http2 { preface: bool },
}

/// Input being read: a [`Piece`] of which the front is taken bit by bit.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    pub(crate) ts: WallNanos,
    bytes: &'a [u8],
    gap: u64,
    /// `bytes.len()` when a call began with its first byte, else impossible.
    call_length: Option<usize>,
}

/// Reads one direction.
#[derive(Debug)]
pub(crate) struct Reader {
    side: Side,
    state: State,
    /// Whether any message start has been seen.
    started: bool,
    /// Whether the connection is known to be HTTP/1.
    is_http1: bool,
    /// The last time at which bytes came; `None` at the start and after a gap.
    last_ts: Option<WallNanos>,
    /// Bytes that may begin a message (or, lost in a chunked body, a chunk), too few to tell.
    candidate: Vec<u8>,
    /// When the first byte of `candidate` came.
    candidate_ts: WallNanos,
    /// Where later calls began within `candidate`, and when.
    candidate_calls: Vec<(usize, WallNanos)>,
}

#[derive(Debug)]
enum State {
    Between,
    /// The candidate begins a message, [`Part::Start`] is due.
    Starting,
    Head(HeadBuffer),
    /// [`Reader::frame`] is due.
    Unframed,
    /// This many bytes left, never 0.
    Body(u64),
    /// The body has ended, [`Part::End`] is due.
    Ended,
    Chunked(Chunked),
    UntilClose,
    /// Looking for the next message; `in_chunks` also for the next chunk of this one.
    Lost {
        in_chunks: bool,
    },
    Tunnel,
}

/// What a candidate turned out to be.
enum Candidate {
    Message,
    Chunk,
    Http2,
    Http2Frame,
    Neither,
    Undecided,
}

impl Reader {
    pub(crate) fn new(side: Side) -> Self {
        Self {
            side,
            state: State::Between,
            started: false,
            is_http1: false,
            last_ts: None,
            candidate: Vec::new(),
            candidate_ts: WallNanos(0),
            candidate_calls: Vec::new(),
        }
    }

    /// Begins a piece; its parts are then taken with [`Reader::next`] until there are none.
    pub(crate) fn input<'a>(&mut self, piece: Piece<'a>) -> Input<'a> {
        match piece.content {
            Content::Data(bytes) => {
                let new_call = self.last_ts.replace(piece.ts) != Some(piece.ts);
                Input { ts: piece.ts, bytes, gap: 0, call_length: new_call.then_some(bytes.len()) }
            }
            Content::Gap(gap) => {
                self.last_ts = None;
                Input { ts: piece.ts, bytes: &[], gap, call_length: None }
            }
        }
    }

    /// Whether the next byte begins a message.
    pub(crate) fn is_between(&self) -> bool {
        matches!(self.state, State::Between)
    }

    /// Whether any message start has been seen.
    pub(crate) fn has_started(&self) -> bool {
        self.started
    }

    /// The other direction speaks HTTP/1, so this one does.
    pub(crate) fn exclude_http2(&mut self) {
        self.is_http1 = true;
    }

    /// What has not been read: bytes held to tell what they are, and the rest of the input.
    pub(crate) fn rest(&mut self, input: Input<'_>) -> Vec<(WallNanos, Vec<u8>)> {
        let mut rest = Vec::new();
        let held = std::mem::take(&mut self.candidate);
        let (mut from, mut ts) = (0, self.candidate_ts);
        for (at, next_ts) in std::mem::take(&mut self.candidate_calls) {
            rest.push((ts, held[from..at].to_vec()));
            (from, ts) = (at, next_ts);
        }
        rest.push((ts, held[from..].to_vec()));
        rest.push((input.ts, input.bytes.to_vec()));
        rest.retain(|(_, bytes)| !bytes.is_empty());
        rest
    }

    /// Says how the body of the message whose head was just handed out ends.
    pub(crate) fn frame(&mut self, framing: Framing) {
        debug_assert!(matches!(self.state, State::Unframed), "framed without a head");
        self.state = match framing {
            Framing::Fixed(0) => State::Ended,
            Framing::Fixed(length) => State::Body(length),
            Framing::Chunked => State::Chunked(Chunked::new()),
            Framing::UntilClose => State::UntilClose,
            Framing::Tunnel => State::Tunnel,
            Framing::Invalid => State::Lost { in_chunks: false },
        };
    }

    /// Ignores all that follows.
    pub(crate) fn tunnel(&mut self) {
        self.state = State::Tunnel;
        self.candidate = Vec::new();
    }

    /// Takes the next part off the front of `input`. `may_restart` says that a new message may
    /// begin now although the current one has not ended.
    pub(crate) fn next<'a>(
        &mut self,
        input: &mut Input<'a>,
        may_restart: bool,
    ) -> Option<Part<'a>> {
        if let State::Ended = self.state {
            self.state = State::Between;
            return Some(Part::End(Vec::new()));
        }
        if let State::Starting = self.state {
            return Some(self.start());
        }
        if input.gap > 0 {
            return self.next_gap(input);
        }
        if input.bytes.is_empty() {
            return None;
        }
        match &mut self.state {
            State::Between => self.next_between(input),
            State::Lost { .. } => self.next_lost(input, may_restart),
            State::Body(_) | State::Chunked(_) | State::UntilClose
                if !self.candidate.is_empty() || (input.at_call() && may_restart) =>
            {
                self.next_interrupting(input)
            }
            State::Head(buffer) => {
                let collected = buffer.collect(&mut input.bytes);
                self.next_head(&collected)
            }
            State::Body(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.bytes.len());
                *left -= taken as u64;
                if *left == 0 {
                    self.state = State::Ended;
                }
                Some(Part::Body(Cow::Borrowed(input.take(taken))))
            }
            State::Chunked(chunked) => {
                let step = chunked.step(&mut input.bytes);
                self.next_chunked(step)
            }
            State::UntilClose => Some(Part::Body(Cow::Borrowed(input.take_all()))),
            State::Tunnel => {
                input.take_all();
                None
            }
            State::Unframed | State::Ended | State::Starting => {
                debug_assert!(false, "a message was not framed");
                None
            }
        }
    }

    /// Hands out what is held of a body; the stream ends here. A message in its head gives what
    /// whole lines there are.
    pub(crate) fn finish(&mut self) -> Option<Part<'static>> {
        let part = match &self.state {
            State::Head(buffer) => match self.side {
                Side::Request => buffer.cut_request().map(|head| Part::RequestHead(head.into())),
                Side::Response => buffer.cut_response().map(|head| Part::ResponseHead(head.into())),
            },
            State::Body(_) | State::UntilClose if !self.candidate.is_empty() => {
                Some(Part::Body(Cow::Owned(std::mem::take(&mut self.candidate))))
            }
            _ => None,
        };
        self.tunnel();
        part
    }

    /// Whether the message ends with the stream: its body lasts until the connection closes.
    pub(crate) fn ends_with_stream(&self) -> bool {
        matches!(self.state, State::UntilClose)
    }

    fn next_gap<'a>(&mut self, input: &mut Input<'a>) -> Option<Part<'a>> {
        let held = std::mem::take(&mut self.candidate);
        match &mut self.state {
            State::Body(_) | State::Chunked(_) | State::UntilClose if !held.is_empty() => {
                // Bytes before a gap cannot begin a message that is whole: they are content.
                self.next_held(held)
            }
            State::Body(left) => {
                let skipped = input.gap.min(*left);
                input.gap -= skipped;
                *left -= skipped;
                if *left == 0 {
                    self.state = State::Ended;
                }
                Some(Part::BodyGap(skipped))
            }
            State::Chunked(chunked) => {
                let skipped = chunked.skip(input.gap);
                input.gap -= skipped;
                if skipped > 0 {
                    return Some(Part::BodyGap(skipped));
                }
                self.state = State::Lost { in_chunks: true };
                Some(Part::Broken(PartialReason::Gap))
            }
            State::UntilClose => Some(Part::BodyGap(std::mem::take(&mut input.gap))),
            State::Between | State::Head(_) => {
                self.state = State::Lost { in_chunks: false };
                Some(Part::Broken(PartialReason::Gap))
            }
            State::Lost { .. } => Some(Part::Lost(std::mem::take(&mut input.gap))),
            State::Tunnel => {
                input.gap = 0;
                None
            }
            State::Unframed | State::Ended | State::Starting => {
                debug_assert!(false, "a message was not framed");
                None
            }
        }
    }

    fn next_between<'a>(&mut self, input: &mut Input<'a>) -> Option<Part<'a>> {
        // RFC 9112 section 2.2: empty lines before a message are ignored.
        while self.candidate.is_empty() && matches!(input.bytes, [b'\r' | b'\n', ..]) {
            input.take(1);
        }
        match self.grow_candidate(input, false) {
            Candidate::Message => Some(self.start()),
            Candidate::Http2 => Some(Part::Http2 { preface: true }),
            Candidate::Http2Frame if self.may_be_http2() => Some(Part::Http2 { preface: false }),
            Candidate::Chunk | Candidate::Http2Frame | Candidate::Neither => {
                // The bytes looked at are part of what is skipped now.
                self.state = State::Lost { in_chunks: false };
                Some(Part::Broken(if self.started {
                    PartialReason::Malformed
                } else {
                    PartialReason::JoinedLate
                }))
            }
            Candidate::Undecided => None,
        }
    }

    fn next_lost<'a>(&mut self, input: &mut Input<'a>, may_restart: bool) -> Option<Part<'a>> {
        let in_chunks = matches!(self.state, State::Lost { in_chunks: true });
        let mut skipped = 0;
        loop {
            if self.candidate.is_empty() && !input.at_call() {
                skipped += input.take_all().len();
                break;
            }
            match self.grow_candidate(input, in_chunks) {
                Candidate::Message if may_restart => {
                    if skipped == 0 {
                        return Some(self.start());
                    }
                    self.state = State::Starting;
                    break;
                }
                Candidate::Chunk => {
                    self.state = State::Chunked(Chunked::new());
                    if skipped == 0 {
                        return self.next_held_chunk();
                    }
                    break;
                }
                Candidate::Http2Frame if self.may_be_http2() => {
                    if skipped == 0 {
                        return Some(Part::Http2 { preface: false });
                    }
                    break;
                }
                Candidate::Undecided => break,
                // What this call began came to nothing; the next one may begin anew.
                Candidate::Message
                | Candidate::Neither
                | Candidate::Http2
                | Candidate::Http2Frame => {
                    skipped += self.drop_first_call();
                }
            }
        }
        (skipped > 0).then_some(Part::Skipped(skipped as u64))
    }

    /// Whether frames of HTTP/2 may be told by their look: nothing has been read here, nor there.
    fn may_be_http2(&self) -> bool {
        !self.started && !self.is_http1
    }

    /// Drops the candidate up to the next call within it and tells how many bytes that were.
    fn drop_first_call(&mut self) -> usize {
        if self.candidate_calls.is_empty() {
            return std::mem::take(&mut self.candidate).len();
        }
        let (dropped, ts) = self.candidate_calls.remove(0);
        self.candidate.drain(..dropped);
        self.candidate_ts = ts;
        self.candidate_calls.iter_mut().for_each(|(at, _)| *at -= dropped);
        dropped
    }

    /// In a body, where a call begins and a new message may.
    fn next_interrupting<'a>(&mut self, input: &mut Input<'a>) -> Option<Part<'a>> {
        match self.grow_candidate(input, false) {
            Candidate::Message => {
                self.state = State::Starting;
                Some(Part::Interrupted)
            }
            Candidate::Undecided => None,
            Candidate::Chunk | Candidate::Neither | Candidate::Http2 | Candidate::Http2Frame => {
                let held = std::mem::take(&mut self.candidate);
                self.next_held(held)
            }
        }
    }

    /// Content that was held because it might have begun a message.
    fn next_held(&mut self, held: Vec<u8>) -> Option<Part<'static>> {
        match &mut self.state {
            State::Body(left) => {
                let within = usize::try_from(*left).unwrap_or(usize::MAX).min(held.len());
                *left -= within as u64;
                if *left == 0 {
                    self.state = State::Ended;
                }
                let mut held = held;
                self.candidate = held.split_off(within);
                self.candidate_calls.clear();
                Some(Part::Body(Cow::Owned(held)))
            }
            State::Chunked(_) => {
                self.candidate = held;
                self.next_held_chunk()
            }
            _ => Some(Part::Body(Cow::Owned(held))),
        }
    }

    /// Runs held bytes, which hold no more than the beginning of a chunk, through the coding.
    fn next_held_chunk(&mut self) -> Option<Part<'static>> {
        let State::Chunked(chunked) = &mut self.state else { return None };
        let held = std::mem::take(&mut self.candidate);
        let mut input = &held[..];
        let mut content = Vec::new();
        loop {
            match chunked.step(&mut input) {
                Step::Data(data) => content.extend_from_slice(data),
                Step::NeedMore => return Some(Part::Body(Cow::Owned(content))),
                Step::End(trailers) => {
                    self.state = State::Between;
                    self.candidate = input.to_vec();
                    self.candidate_calls.clear();
                    return Some(Part::End(trailers));
                }
                Step::Malformed => {
                    self.state = State::Lost { in_chunks: false };
                    return Some(Part::Broken(PartialReason::Malformed));
                }
            }
        }
    }

    fn next_head(&mut self, collected: &Collected) -> Option<Part<'static>> {
        if *collected == Collected::NeedMore {
            return None;
        }
        let State::Head(buffer) = std::mem::replace(&mut self.state, State::Unframed) else {
            return None;
        };
        let part = match (collected, self.side) {
            (Collected::Whole, Side::Request) => {
                buffer.request().map(|head| Part::RequestHead(head.into()))
            }
            (Collected::Whole, Side::Response) => {
                buffer.response().map(|head| Part::ResponseHead(head.into()))
            }
            _ => None,
        };
        part.or_else(|| {
            self.state = State::Lost { in_chunks: false };
            Some(Part::Broken(PartialReason::Malformed))
        })
    }

    fn next_chunked<'a>(&mut self, step: Step<'a>) -> Option<Part<'a>> {
        match step {
            Step::Data(data) => Some(Part::Body(Cow::Borrowed(data))),
            Step::NeedMore => None,
            Step::End(trailers) => {
                self.state = State::Between;
                Some(Part::End(trailers))
            }
            Step::Malformed => {
                self.state = State::Lost { in_chunks: false };
                Some(Part::Broken(PartialReason::Malformed))
            }
        }
    }

    fn start(&mut self) -> Part<'static> {
        let bytes = std::mem::take(&mut self.candidate);
        self.state = State::Head(HeadBuffer::starting_with(bytes));
        self.started = true;
        Part::Start(self.candidate_ts)
    }

    /// Moves bytes from the input to the candidate until it can be told what they are.
    fn grow_candidate(&mut self, input: &mut Input<'_>, chunks: bool) -> Candidate {
        if self.candidate.is_empty() {
            self.candidate_ts = input.ts;
            self.candidate_calls.clear();
        }
        loop {
            let chunk = if chunks { looks_like_chunk(&self.candidate) } else { Some(false) };
            match (verdict(self.side, &self.candidate), chunk) {
                (Verdict::Http1, _) => return Candidate::Message,
                (_, Some(true)) => return Candidate::Chunk,
                (Verdict::Http2, _) => return Candidate::Http2,
                (Verdict::Http2Frame, _) => return Candidate::Http2Frame,
                (Verdict::Other, Some(false)) => return Candidate::Neither,
                _ => {}
            }
            debug_assert!(self.candidate.len() < VERDICT_BYTES, "a verdict is due by now");
            let [byte, ..] = *input.bytes else { return Candidate::Undecided };
            if input.at_call() && !self.candidate.is_empty() {
                self.candidate_calls.push((self.candidate.len(), input.ts));
            }
            input.take(1);
            self.candidate.push(byte);
        }
    }
}

impl<'a> Input<'a> {
    /// Whether a call began with the next byte.
    fn at_call(&self) -> bool {
        self.call_length == Some(self.bytes.len())
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        taken
    }

    fn take_all(&mut self) -> &'a [u8] {
        self.take(self.bytes.len())
    }
}
