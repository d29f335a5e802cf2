//! One connection: orders both directions, reads them as HTTP/1, and pairs requests with responses.
//!
//! Responses come in the order of requests (RFC 9112 section 9.3), so exchanges form a queue:
//!
//! ```text
//!  front                                                     back
//!  ┌───────────────────┬──────────────────┬──────────────────────┐
//!  │ response ended,   │ current: takes   │ waiting ...  takes   │
//!  │ request not: ≤ 1  │ response parts   │        request parts │
//!  └───────────────────┴──────────────────┴──────────────────────┘
//! ```
//!
//! Where the trace hands out response bytes before the request they answer, they wait. Policy for
//! damage lives here: what is broken costs the message it is in, never the connection.
//!
//! Most processes ask: they write requests and read responses. One that serves does it the other way
//! round; the first bytes of a direction tell ([`super::protocol::perspective`]).

use std::collections::VecDeque;

use super::Options;
use super::exchange::{About, Builder, Ending, Findings};
use super::finding::{PartialReason, Perspective};
use super::http1::framing::{self, Framing};
use super::http1::head::ResponseHead;
use super::http1::reader::{Part, Reader};
use super::protocol::{self, Side};
use super::stream::{Content, Piece, Stream};
use crate::event::{Direction, ProcessId, StreamData};
use crate::time::WallNanos;

/// Response bytes that wait for their request. They precede it only by as much as the recorder
/// joins into one event, or when there is none because the recording began late.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// Pieces that wait: bounds the cost of many tiny ones.
const MAX_WAITING_PIECES: usize = 8192;

/// Requests without a response. Clients pipeline a few at most.
const MAX_OPEN_EXCHANGES: usize = 256;

/// What all connections share.
pub(crate) struct Context<'a> {
    pub(crate) options: &'a Options,
    /// The number of the next exchange.
    pub(crate) next_http_id: &'a mut u64,
    pub(crate) findings: Findings<'a>,
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Connection {
    conn_id: u64,
    process: Option<ProcessId>,
    scheme: &'static str,
    /// Which end this is; `None` until the first bytes tell.
    perspective: Option<Perspective>,
    /// Which end it is where they do not tell.
    supposed: Perspective,
    /// Pieces that came before it was known, a few bytes.
    undecided: VecDeque<(Direction, WallNanos, Waiting)>,
    written: Stream,
    read: Stream,
    requests: Reader,
    responses: Reader,
    exchanges: VecDeque<Builder>,
    /// Response pieces that wait for their request.
    waiting: VecDeque<(WallNanos, Waiting)>,
    waiting_bytes: usize,
    /// Bytes read before the first message, and when the first of them came.
    read_before_start: Option<(WallNanos, u64)>,
    /// A request has been seen.
    requested: bool,
    /// Not HTTP/1 from here on.
    opaque: bool,
}

/// A piece of a stream, kept.
#[derive(Debug)]
enum Waiting {
    Data(Vec<u8>),
    Gap(u64),
}

impl From<Content<'_>> for Waiting {
    fn from(content: Content<'_>) -> Self {
        match content {
            Content::Data(bytes) => Self::Data(bytes.to_vec()),
            Content::Gap(length) => Self::Gap(length),
        }
    }
}

impl Waiting {
    fn as_content(&self) -> Content<'_> {
        match self {
            Self::Data(bytes) => Content::Data(bytes),
            Self::Gap(length) => Content::Gap(*length),
        }
    }

    fn captured(&self) -> usize {
        match self {
            Self::Data(bytes) => bytes.len(),
            Self::Gap(_) => 0,
        }
    }
}

impl Connection {
    /// A connection of a process whose messages have this URI scheme. `supposed` is the end that it
    /// is where its first bytes do not tell.
    pub(crate) fn new(
        conn_id: u64,
        process: Option<ProcessId>,
        scheme: &'static str,
        supposed: Perspective,
    ) -> Self {
        Self {
            conn_id,
            process,
            scheme,
            perspective: None,
            supposed,
            undecided: VecDeque::new(),
            written: Stream::default(),
            read: Stream::default(),
            requests: Reader::new(Side::Request),
            responses: Reader::new(Side::Response),
            exchanges: VecDeque::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            read_before_start: None,
            requested: false,
            opaque: false,
        }
    }

    /// The same where bytes that precede the first ones to come are not lost: in a trace that begins
    /// in the middle of a recording, or a socket that was open before it was looked at.
    pub(crate) fn midway(self) -> Self {
        Self { written: Stream::midway(), read: Stream::midway(), ..self }
    }

    pub(crate) fn process(&self) -> Option<ProcessId> {
        self.process
    }

    /// Takes one event of this connection.
    pub(crate) fn push(&mut self, ts: WallNanos, data: &StreamData, context: &mut Context<'_>) {
        if self.opaque {
            return;
        }
        self.order(Direction::Write, context, |stream, sink| stream.expire(ts, sink));
        self.order(Direction::Read, context, |stream, sink| stream.expire(ts, sink));
        self.order(data.direction, context, |stream, sink| stream.push(ts, data, sink));
    }

    /// Does something with the stream of a direction and reads the pieces it hands out.
    fn order(
        &mut self,
        direction: Direction,
        context: &mut Context<'_>,
        act: impl FnOnce(&mut Stream, &mut dyn FnMut(Piece<'_>)),
    ) {
        // The stream is put aside so that its pieces can be read by the rest of the connection.
        let mut stream = std::mem::take(self.stream(direction));
        act(&mut stream, &mut |piece| self.piece(direction, piece, context));
        *self.stream(direction) = stream;
    }

    fn stream(&mut self, direction: Direction) -> &mut Stream {
        match direction {
            Direction::Write => &mut self.written,
            Direction::Read => &mut self.read,
        }
    }

    /// Takes the next piece of a direction.
    fn piece(&mut self, direction: Direction, piece: Piece<'_>, context: &mut Context<'_>) {
        if self.opaque {
            return;
        }
        match self.perspective {
            Some(perspective) if direction == perspective.request_direction() => {
                self.request_piece(piece, context);
            }
            Some(_) => self.response_piece(piece, context),
            None => {
                self.undecided.push_back((direction, piece.ts, Waiting::from(piece.content)));
                if let Some(perspective) = self.find_perspective(direction) {
                    self.decide(perspective, context);
                }
            }
        }
    }

    /// Which end this is, as the first bytes of a direction tell; `None` if they are too few.
    fn find_perspective(&self, direction: Direction) -> Option<Perspective> {
        let mut first = Vec::new();
        for (of, _, content) in &self.undecided {
            match content {
                Waiting::Data(bytes) if *of == direction => {
                    let missing = protocol::VERDICT_BYTES.saturating_sub(first.len());
                    first.extend_from_slice(&bytes[..bytes.len().min(missing)]);
                }
                Waiting::Gap(_) if *of == direction => return Some(self.supposed),
                _ => {}
            }
        }
        protocol::perspective(direction, &first).map(|found| found.unwrap_or(self.supposed))
    }

    /// Reads what came before it was known which end this is.
    fn decide(&mut self, perspective: Perspective, context: &mut Context<'_>) {
        self.perspective = Some(perspective);
        for (direction, ts, content) in std::mem::take(&mut self.undecided) {
            self.piece(direction, Piece { ts, content: content.as_content() }, context);
        }
    }

    /// Reports all exchanges; no more events will come.
    pub(crate) fn finish(mut self, ending: Ending, context: &mut Context<'_>) {
        self.order(Direction::Write, context, Stream::flush);
        self.order(Direction::Read, context, Stream::flush);
        if self.perspective.is_none() {
            self.decide(self.supposed, context);
        }
        self.release_waiting(true, context);

        let end_ts = self.exchanges.back().map_or(WallNanos(0), Builder::start_ts);
        match self.requests.finish() {
            Some(Part::RequestHead(head)) => {
                if let Some(exchange) = self.open_request() {
                    exchange.request_head(end_ts, *head);
                }
            }
            Some(Part::Body(bytes)) => {
                if let Some(exchange) = self.open_request() {
                    exchange.request_content(end_ts, &bytes, context.findings);
                }
            }
            _ => {}
        }
        self.finish_response(ending, context);
        for exchange in std::mem::take(&mut self.exchanges) {
            exchange.finish(ending, context.findings);
        }
    }

    fn finish_response(&mut self, ending: Ending, context: &mut Context<'_>) {
        let until_close = self.responses.ends_with_stream();
        let last = self.responses.finish();
        let Some(exchange) =
            self.exchanges.iter_mut().find(|exchange| !exchange.is_response_done())
        else {
            return;
        };
        let ts = exchange.last_response_ts().unwrap_or(exchange.start_ts());
        match last {
            Some(Part::ResponseHead(head)) if head.status >= 200 => {
                exchange.response_head(ts, *head);
            }
            Some(Part::Body(bytes)) => exchange.response_content(ts, &bytes, context.findings),
            _ => {}
        }
        if until_close && ending == Ending::Closed {
            exchange.response_closed();
        }
    }

    fn request_piece(&mut self, piece: Piece<'_>, context: &mut Context<'_>) {
        let mut input = self.requests.input(piece);
        loop {
            // A request body is given up for a new request only when it has been answered.
            let is_over = |open: &Builder| open.is_request_done() || open.is_response_done();
            let may_restart = self.exchanges.back().is_none_or(is_over);
            let Some(part) = self.requests.next(&mut input, may_restart) else { break };
            self.request_part(input.ts, part, context);
        }
        self.report_done(context);
        self.release_waiting(false, context);
    }

    fn request_part(&mut self, ts: WallNanos, part: Part<'_>, context: &mut Context<'_>) {
        match part {
            Part::Start(start_ts) => {
                // What waits and is older than the request cannot answer it.
                while self.waiting.front().is_some_and(|(ts, _)| *ts < start_ts) {
                    self.release_one(context);
                }
                self.report_joined_late(context);
                self.begin_exchange(start_ts, context);
                return;
            }
            Part::Http2 => {
                self.become_opaque();
                return;
            }
            // Before the first request there is nothing these could belong to.
            Part::Broken(PartialReason::JoinedLate) => return,
            Part::Broken(reason) if self.open_request().is_none() => {
                // Something between two requests: it will most likely be answered.
                self.begin_exchange(ts, context).request_broken(reason);
                return;
            }
            _ => {}
        }
        let exchange = match &part {
            // Bytes of a damaged request come after it was given up.
            Part::Lost(_) => self.exchanges.back_mut(),
            _ => self.open_request(),
        };
        let Some(exchange) = exchange else { return };
        match part {
            Part::RequestHead(head) => {
                let framing = framing::request(&head);
                exchange.request_head(ts, *head);
                if framing == Framing::Invalid {
                    exchange.request_broken(PartialReason::Malformed);
                }
                self.requests.frame(framing);
            }
            Part::Body(bytes) => exchange.request_content(ts, &bytes, context.findings),
            Part::BodyGap(bytes) => exchange.request_content_gap(bytes),
            Part::End(trailers) => exchange.request_end(ts, trailers),
            Part::Broken(reason) => exchange.request_broken(reason),
            Part::Lost(bytes) => exchange.lost(bytes),
            Part::Interrupted => exchange.request_cut(),
            Part::Skipped(_) | Part::Start(_) | Part::ResponseHead(_) | Part::Http2 => {}
        }
    }

    fn response_piece(&mut self, piece: Piece<'_>, context: &mut Context<'_>) {
        if self.waiting.is_empty() && !self.must_wait() {
            self.read_response(piece, context);
            self.report_done(context);
            return;
        }
        let waiting = Waiting::from(piece.content);
        self.waiting_bytes += waiting.captured();
        self.waiting.push_back((piece.ts, waiting));
        self.release_waiting(false, context);
        if self.is_waiting_full() {
            // The request may itself be waiting, for bytes that are lost.
            let perspective = self.perspective.unwrap_or(self.supposed);
            self.order(perspective.request_direction(), context, Stream::flush);
            let full = self.is_waiting_full();
            self.release_waiting(full, context);
        }
    }

    fn is_waiting_full(&self) -> bool {
        self.waiting_bytes > MAX_WAITING_BYTES || self.waiting.len() > MAX_WAITING_PIECES
    }

    /// A response begins next and there is no request it could answer.
    fn must_wait(&self) -> bool {
        self.responses.is_between() && self.exchanges.iter().all(Builder::is_response_done)
    }

    fn release_waiting(&mut self, force: bool, context: &mut Context<'_>) {
        while !self.waiting.is_empty() && (force || !self.must_wait()) {
            self.release_one(context);
        }
    }

    fn release_one(&mut self, context: &mut Context<'_>) {
        let Some((ts, waiting)) = self.waiting.pop_front() else { return };
        self.waiting_bytes -= waiting.captured();
        self.read_response(Piece { ts, content: waiting.as_content() }, context);
        self.report_done(context);
    }

    fn read_response(&mut self, piece: Piece<'_>, context: &mut Context<'_>) {
        let mut input = self.responses.input(piece);
        loop {
            let may_restart = self.may_restart_response(input.ts);
            let Some(part) = self.responses.next(&mut input, may_restart) else { break };
            self.response_part(input.ts, part, context);
        }
    }

    /// A response is given up for a new one only when a further request waits for one, or when
    /// its own head has not been seen.
    fn may_restart_response(&self, ts: WallNanos) -> bool {
        let mut open = self.exchanges.iter().filter(|exchange| !exchange.is_response_done());
        let Some(current) = open.next() else { return true };
        !current.is_response_head_seen() || open.next().is_some_and(|next| next.start_ts() <= ts)
    }

    fn response_part(&mut self, ts: WallNanos, part: Part<'_>, context: &mut Context<'_>) {
        if let Part::Start(start_ts) = part {
            self.begin_response(start_ts, context);
            return;
        }
        if let (Part::Skipped(bytes), false) = (&part, self.responses.has_started()) {
            let (_, before) = self.read_before_start.get_or_insert((ts, 0));
            *before += bytes;
            return;
        }
        if matches!(part, Part::Broken(PartialReason::JoinedLate)) {
            return;
        }
        let Some(exchange) =
            self.exchanges.iter_mut().find(|exchange| !exchange.is_response_done())
        else {
            // Bytes after the last response belong to nothing, yet are not to be framed.
            if let Part::ResponseHead(_) = part {
                self.responses.frame(Framing::Tunnel);
            }
            return;
        };
        match part {
            Part::ResponseHead(head) => {
                let framing = read_head(exchange, ts, *head);
                self.responses.frame(framing);
                if framing == Framing::Tunnel {
                    self.become_opaque();
                }
            }
            Part::Body(bytes) => exchange.response_content(ts, &bytes, context.findings),
            Part::BodyGap(bytes) => exchange.response_content_gap(bytes),
            // The end of an interim response ends nothing.
            Part::End(trailers) if exchange.is_response_head_seen() => {
                exchange.response_end(ts, trailers);
            }
            Part::Broken(reason) => exchange.response_broken(reason),
            Part::Lost(bytes) => exchange.lost(bytes),
            Part::Interrupted => exchange.response_cut(),
            Part::End(_)
            | Part::Skipped(_)
            | Part::Start(_)
            | Part::RequestHead(_)
            | Part::Http2 => {}
        }
    }

    /// A response begins: decides which request it answers.
    fn begin_response(&mut self, ts: WallNanos, context: &mut Context<'_>) {
        let next = self.exchanges.iter().filter(|exchange| !exchange.is_response_done()).nth(1);
        let next_waits = next.is_some_and(|next| next.start_ts() <= ts);
        let is_open = |exchange: &&mut Builder| !exchange.is_response_done();
        if let Some(current) = self.exchanges.iter_mut().find(is_open) {
            // A damaged response whose head was lost is over once the next request waits.
            let is_over = current.is_response_started() && next_waits;
            if current.is_response_head_seen() || is_over {
                current.response_cut();
            }
        }
        match self.exchanges.iter_mut().find(is_open) {
            Some(current) if current.start_ts() <= ts => current.response_start(ts),
            // It precedes every open request: the one it answers was not seen.
            _ => {
                let reason = if self.requested {
                    PartialReason::Malformed
                } else {
                    PartialReason::JoinedLate
                };
                let mut exchange = self.new_exchange(ts, context);
                exchange.request_broken(reason);
                exchange.response_start(ts);
                let answered = self.exchanges.iter().take_while(|open| open.is_response_done());
                self.exchanges.insert(answered.count(), exchange);
            }
        }
    }

    /// Reports what was read before the first message as the rest of an exchange.
    fn report_joined_late(&mut self, context: &mut Context<'_>) {
        let Some((ts, bytes)) = self.read_before_start.take() else { return };
        let mut exchange = self.new_exchange(ts, context);
        exchange.request_broken(PartialReason::JoinedLate);
        exchange.response_tail(bytes);
        exchange.finish(Ending::Done, context.findings);
    }

    fn begin_exchange(&mut self, ts: WallNanos, context: &mut Context<'_>) -> &mut Builder {
        if let Some(open) = self.open_request() {
            open.request_cut();
        }
        if self.exchanges.len() >= MAX_OPEN_EXCHANGES
            && let Some(oldest) = self.exchanges.pop_front()
        {
            oldest.finish(Ending::Closed, context.findings);
        }
        self.requested = true;
        let exchange = self.new_exchange(ts, context);
        self.exchanges.push_back(exchange);
        self.exchanges.back_mut().expect("one was just pushed")
    }

    fn new_exchange(&self, ts: WallNanos, context: &mut Context<'_>) -> Builder {
        let http_id = *context.next_http_id;
        *context.next_http_id += 1;
        let perspective = self.perspective.unwrap_or(self.supposed);
        let about = About { conn_id: self.conn_id, process: self.process, scheme: self.scheme };
        Builder::new(http_id, about, perspective, ts, context.options)
    }

    /// The exchange whose request has not ended.
    fn open_request(&mut self) -> Option<&mut Builder> {
        self.exchanges.back_mut().filter(|exchange| !exchange.is_request_done())
    }

    fn become_opaque(&mut self) {
        self.opaque = true;
        self.requests.tunnel();
        self.responses.tunnel();
        self.waiting.clear();
        self.waiting_bytes = 0;
    }

    /// Reports exchanges from the front for as long as they are whole.
    fn report_done(&mut self, context: &mut Context<'_>) {
        while self
            .exchanges
            .front()
            .is_some_and(|front| front.is_request_done() && front.is_response_done())
        {
            if let Some(exchange) = self.exchanges.pop_front() {
                exchange.finish(Ending::Done, context.findings);
            }
        }
    }
}

/// Takes a response head and says how the body ends; an interim response has none.
fn read_head(exchange: &mut Builder, ts: WallNanos, head: ResponseHead) -> Framing {
    if matches!(head.status, 100 | 102..=199) {
        exchange.response_interim();
        return Framing::Fixed(0);
    }
    let framing = framing::response(&head, exchange.method());
    exchange.response_head(ts, head);
    match framing {
        Framing::Tunnel => exchange.response_end(ts, Vec::new()),
        Framing::Invalid => exchange.response_broken(PartialReason::Malformed),
        _ => {}
    }
    framing
}

#[cfg(test)]
mod tests;
