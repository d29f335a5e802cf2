//! An HTTP/1 connection: reads both directions and pairs requests with responses.
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

use std::collections::VecDeque;

use super::framing::{self, Framing};
use super::head::ResponseHead;
use super::reader::{Input, Part, Reader};
use crate::reconstruct::connection::{Context, Switch, Then, Unread, Upgrade};
use crate::reconstruct::exchange::{About, Builder, Ending};
use crate::reconstruct::finding::PartialReason;
use crate::reconstruct::protocol::Side;
use crate::reconstruct::stream::{Content, Piece};
use crate::time::WallNanos;

/// Response bytes that wait for their request. They precede it only by as much as the recorder
/// joins into one event, or when there is none because the recording began late.
pub(crate) const MAX_WAITING_BYTES: usize = 1 << 20;

/// Pieces that wait: bounds the cost of many tiny ones.
pub(crate) const MAX_WAITING_PIECES: usize = 8192;

/// Requests without a response. Clients pipeline a few at most.
pub(crate) const MAX_OPEN_EXCHANGES: usize = 256;

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    about: About,
    requests: Reader,
    responses: Reader,
    pub(super) exchanges: VecDeque<Builder>,
    /// Response pieces that wait for their request.
    waiting: Queue,
    /// Pieces of what the client sends, after a request for another protocol that has no answer yet.
    after_upgrade: Queue,
    /// Bytes read before the first message, and when the first of them came.
    read_before_start: Option<(WallNanos, u64)>,
    /// A request has been seen.
    requested: bool,
    /// Not HTTP from here on.
    opaque: bool,
    /// What the connection changes to, once the current part has been dealt with.
    switch: Option<Upgrade>,
    /// What was taken by then and belongs to that.
    unread_requests: Vec<Unread>,
    unread_responses: Vec<Unread>,
}

/// How much a session holds.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) bytes: usize,
    pub(crate) pieces: usize,
    pub(crate) exchanges: usize,
}

/// Pieces that wait.
#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Unread>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, piece: Piece<'_>) {
        let unread = Unread::from(piece);
        self.bytes += unread.captured();
        self.pieces.push_back(unread);
    }

    fn pop(&mut self) -> Option<Unread> {
        let unread = self.pieces.pop_front()?;
        self.bytes -= unread.captured();
        Some(unread)
    }

    fn is_full(&self) -> bool {
        self.bytes > MAX_WAITING_BYTES || self.pieces.len() > MAX_WAITING_PIECES
    }
}

impl Session {
    /// A connection of which nothing has been read.
    pub(crate) fn new(about: About) -> Self {
        Self {
            about,
            requests: Reader::new(Side::Request),
            responses: Reader::new(Side::Response),
            exchanges: VecDeque::new(),
            waiting: Queue::default(),
            after_upgrade: Queue::default(),
            read_before_start: None,
            requested: false,
            opaque: false,
            switch: None,
            unread_requests: Vec::new(),
            unread_responses: Vec::new(),
        }
    }

    /// Whether nothing that may still come can be read.
    pub(crate) fn is_opaque(&self) -> bool {
        self.opaque
    }

    /// How much it holds.
    #[cfg(test)]
    pub(crate) fn held(&self) -> Held {
        let queues = [&self.waiting, &self.after_upgrade];
        Held {
            bytes: queues.iter().map(|queue| queue.bytes).sum(),
            pieces: queues.iter().map(|queue| queue.pieces.len()).sum(),
            exchanges: self.exchanges.len(),
        }
    }

    /// Takes the next piece of what the client or the server sent.
    pub(crate) fn piece(
        &mut self,
        side: Side,
        piece: Piece<'_>,
        context: &mut Context<'_>,
    ) -> Then {
        if self.opaque {
            return Then::GoOn;
        }
        match side {
            Side::Request => self.request_piece(piece, context),
            Side::Response => self.response_piece(piece, context),
        }
        if let Some(switch) = self.take_switch() {
            return switch;
        }
        if self.waiting.is_full() { Then::FlushRequests } else { Then::GoOn }
    }

    /// Reads what waits, if it is still more than may.
    pub(crate) fn release_full(&mut self, context: &mut Context<'_>) {
        let full = self.waiting.is_full();
        self.release_waiting(full, context);
    }

    /// Reads all that waits; no more will come.
    pub(crate) fn release_all(&mut self, context: &mut Context<'_>) -> Then {
        self.release_waiting(true, context);
        self.release_requests(true, context);
        self.take_switch().unwrap_or(Then::GoOn)
    }

    fn take_switch(&mut self) -> Option<Then> {
        let to = self.switch.take()?;
        // What was taken off a direction last comes before what still waits.
        let mut requests: VecDeque<_> = std::mem::take(&mut self.unread_requests).into();
        requests.append(&mut std::mem::take(&mut self.after_upgrade).pieces);
        let mut responses: VecDeque<_> = std::mem::take(&mut self.unread_responses).into();
        responses.append(&mut std::mem::take(&mut self.waiting).pieces);
        let mut unread = Vec::with_capacity(requests.len() + responses.len());
        // As they came, each direction in its order.
        while let Some(side) = match (requests.front(), responses.front()) {
            (Some(request), Some(response)) if request.ts < response.ts => Some(Side::Request),
            (_, Some(_)) => Some(Side::Response),
            (Some(_), None) => Some(Side::Request),
            (None, None) => None,
        } {
            let queue = if side == Side::Request { &mut requests } else { &mut responses };
            unread.extend(queue.pop_front().map(|piece| (side, piece)));
        }
        Some(Then::Switch(Box::new(Switch { to, unread })))
    }

    /// Reports all exchanges; no more will come.
    pub(crate) fn finish(mut self, ending: Ending, context: &mut Context<'_>) {
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
        self.finish_exchanges(ending, context);
    }

    /// Reports all exchanges as they are: the connection goes on as something else.
    pub(crate) fn leave(mut self, context: &mut Context<'_>) {
        self.report_joined_late(context);
        self.finish_exchanges(Ending::Closed, context);
    }

    fn finish_exchanges(&mut self, ending: Ending, context: &mut Context<'_>) {
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
        // The answer to a request for another protocol tells how to read what follows it, and may
        // come out of the trace later.
        if self.is_upgrade_pending() || !self.after_upgrade.pieces.is_empty() {
            self.after_upgrade.push(piece);
            let full = self.after_upgrade.is_full();
            self.release_requests(full, context);
            return;
        }
        self.read_request(piece, context);
    }

    fn read_request(&mut self, piece: Piece<'_>, context: &mut Context<'_>) {
        let mut input = self.requests.input(piece);
        while self.switch.is_none() {
            // A request body is given up for a new request only when it has been answered.
            let is_over = |open: &Builder| open.is_request_done() || open.is_response_done();
            let may_restart = self.exchanges.back().is_none_or(is_over);
            let Some(part) = self.requests.next(&mut input, may_restart) else { break };
            self.request_part(input.ts, part, context);
        }
        self.leave_unread(Side::Request, input);
        self.report_done(context);
        self.release_waiting(false, context);
    }

    fn is_upgrade_pending(&self) -> bool {
        self.exchanges.back().is_some_and(Builder::waits_for_upgrade)
    }

    fn release_requests(&mut self, force: bool, context: &mut Context<'_>) {
        while self.switch.is_none() && (force || !self.is_upgrade_pending()) {
            let Some(unread) = self.after_upgrade.pop() else { break };
            self.read_request(unread.as_piece(), context);
        }
    }

    /// Puts aside what a direction has not read when the protocol changes.
    fn leave_unread(&mut self, side: Side, input: Input<'_>) {
        if self.switch.is_some() {
            let (reader, unread) = match side {
                Side::Request => (&mut self.requests, &mut self.unread_requests),
                Side::Response => (&mut self.responses, &mut self.unread_responses),
            };
            unread.extend(
                reader
                    .rest(input)
                    .into_iter()
                    .map(|(ts, bytes)| Unread::from(Piece { ts, content: Content::Data(&bytes) })),
            );
        }
    }

    fn request_part(&mut self, ts: WallNanos, part: Part<'_>, context: &mut Context<'_>) {
        match part {
            Part::Start(start_ts) => {
                // What waits and is older than the request cannot answer it.
                while self.waiting.pieces.front().is_some_and(|unread| unread.ts < start_ts) {
                    let Some(unread) = self.waiting.pop() else { break };
                    self.read_response(unread.as_piece(), context);
                }
                self.report_joined_late(context);
                self.begin_exchange(start_ts, context);
                return;
            }
            Part::Http2 { preface } => {
                self.switch = Some(if preface { Upgrade::Http2 } else { Upgrade::Http2Late });
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
            Part::Skipped(_) | Part::Start(_) | Part::ResponseHead(_) | Part::Http2 { .. } => {}
        }
    }

    fn response_piece(&mut self, piece: Piece<'_>, context: &mut Context<'_>) {
        if self.waiting.pieces.is_empty() && !self.must_wait() {
            self.read_response(piece, context);
        } else {
            self.waiting.push(piece);
            self.release_waiting(false, context);
        }
        self.release_requests(false, context);
    }

    /// A response begins next and there is no request it could answer.
    fn must_wait(&self) -> bool {
        self.responses.is_between() && self.exchanges.iter().all(Builder::is_response_done)
    }

    fn release_waiting(&mut self, force: bool, context: &mut Context<'_>) {
        while self.switch.is_none() && (force || !self.must_wait()) {
            let Some(unread) = self.waiting.pop() else { break };
            self.read_response(unread.as_piece(), context);
        }
    }

    fn read_response(&mut self, piece: Piece<'_>, context: &mut Context<'_>) {
        let mut input = self.responses.input(piece);
        while self.switch.is_none() && !self.opaque {
            let may_restart = self.may_restart_response(input.ts);
            let Some(part) = self.responses.next(&mut input, may_restart) else { break };
            self.response_part(input.ts, part, context);
        }
        self.leave_unread(Side::Response, input);
        self.report_done(context);
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
        match part {
            Part::Broken(PartialReason::JoinedLate) => return,
            Part::Http2 { preface: false } if !self.requested => {
                self.switch = Some(Upgrade::Http2Late);
                return;
            }
            _ => {}
        }
        let Some(at) = self.exchanges.iter().position(|exchange| !exchange.is_response_done())
        else {
            // Bytes after the last response belong to nothing, yet are not to be framed.
            if let Part::ResponseHead(_) = part {
                self.responses.frame(Framing::Tunnel);
            }
            return;
        };
        let exchange = &mut self.exchanges[at];
        match part {
            Part::ResponseHead(head) => self.response_head(at, ts, *head),
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
            | Part::Http2 { .. } => {}
        }
    }

    /// A response begins: decides which request it answers.
    fn begin_response(&mut self, ts: WallNanos, context: &mut Context<'_>) {
        self.requests.exclude_http2();
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
                let mut exchange = context.open(self.about, "1.1", ts);
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
        let mut exchange = context.open(self.about, "1.1", ts);
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
        self.responses.exclude_http2();
        let exchange = context.open(self.about, "1.1", ts);
        self.exchanges.push_back(exchange);
        self.exchanges.back_mut().expect("one was just pushed")
    }

    /// The exchange whose request has not ended.
    fn open_request(&mut self) -> Option<&mut Builder> {
        self.exchanges.back_mut().filter(|exchange| !exchange.is_request_done())
    }

    /// A response head of the exchange at this place.
    fn response_head(&mut self, at: usize, ts: WallNanos, head: ResponseHead) {
        let upgrade = framing::upgrade(&head);
        let exchange = &mut self.exchanges[at];
        if upgrade == Some(framing::Upgrade::Http2) {
            // What was asked is answered over HTTP/2.
            exchange.response_interim();
            self.responses.frame(Framing::Tunnel);
            let request = self.exchanges.remove(at);
            self.switch = request.map(|request| Upgrade::Http2After(Box::new(request)));
            return;
        }
        let framing = read_head(exchange, ts, head);
        self.responses.frame(framing);
        match (framing, upgrade) {
            (Framing::Tunnel, Some(framing::Upgrade::WebSocket)) => {
                let exchange = self.exchanges.remove(at);
                self.switch = exchange.map(|exchange| Upgrade::WebSocket(Box::new(exchange)));
            }
            (Framing::Tunnel, _) => self.become_opaque(),
            _ => {}
        }
    }

    fn become_opaque(&mut self) {
        self.opaque = true;
        self.requests.tunnel();
        self.responses.tunnel();
        self.waiting = Queue::default();
        self.after_upgrade = Queue::default();
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
