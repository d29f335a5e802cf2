//! A WebSocket connection: reads both directions and makes an exchange of every message of the client
//! that asks for something.
//!
//! What the server sends is part of the exchange that is open, in the lane it names if there are
//! several; after the answer has ended, or before anything was asked, it is only told of, with the
//! exchange that came before: the upgrade is the first.

use std::borrow::Cow;

use super::inflate::{Inflater, agreed};
use super::reader::{Ended, Part, Reader};
use crate::reconstruct::connection::Context;
use crate::reconstruct::exchange::{About, Builder, Ending, Message};
use crate::reconstruct::finding::PartialReason;
use crate::reconstruct::llm::websocket::{self as meaning, PREFIX_BYTES, Upgrade};
use crate::reconstruct::protocol::Side;
use crate::reconstruct::stream::Piece;
use crate::reconstruct::stream_framing::{MAX_EVENT_BYTES, StreamItem};
use crate::time::WallNanos;

/// Answers at a time.
const MAX_OPEN: usize = 64;

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    about: About,
    upgrade: Upgrade,
    requests: Reader,
    responses: Reader,
    /// Exchanges to which messages of the server may belong, the latest last; the first is the
    /// upgrade until the client asks for something.
    open: Vec<Open>,
    asking: Option<Asking>,
    saying: Option<Saying>,
    /// Why messages of the client may be missing that nothing is known of.
    request_loss: Option<PartialReason>,
}

#[derive(Debug)]
struct Open {
    lane: Option<String>,
    exchange: Builder,
    /// The answer has ended.
    is_answered: bool,
    /// Nothing was asked: it is the upgrade.
    is_upgrade: bool,
}

/// A message of the client that has begun.
#[derive(Debug)]
struct Asking {
    start_ts: WallNanos,
    /// Its text, while it is not clear what it is.
    text: Vec<u8>,
    /// What it is.
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Undecided,
    /// It opened the latest exchange.
    Opening,
    /// It belongs to the latest exchange.
    Adding,
}

/// A message of the server that has begun.
#[derive(Debug)]
struct Saying {
    start_ts: WallNanos,
    is_text: bool,
    text: Vec<u8>,
    /// Bytes of it, those that are too many to keep included.
    bytes: u64,
}

impl Session {
    /// What follows the response of this exchange.
    pub(crate) fn new(about: About, exchange: Builder, max_body_bytes: u64) -> Self {
        let takeover = agreed(exchange.response_headers());
        let inflater = |takeover| Inflater::new(takeover, max_body_bytes);
        let upgrade = exchange.upgrade();
        let first = Open { lane: None, exchange, is_answered: true, is_upgrade: true };
        Self {
            about,
            upgrade,
            requests: Reader::new(
                Side::Request,
                takeover.map(|takeover| inflater(takeover.client)),
            ),
            responses: Reader::new(
                Side::Response,
                takeover.map(|takeover| inflater(takeover.server)),
            ),
            open: vec![first],
            asking: None,
            saying: None,
            request_loss: None,
        }
    }

    /// Takes the next piece of what the client or the server sent.
    pub(crate) fn piece(&mut self, side: Side, piece: Piece<'_>, context: &mut Context<'_>) {
        let place = match side {
            Side::Request => &mut self.requests,
            Side::Response => &mut self.responses,
        };
        // The reader is put aside so that its parts can be taken by the rest of the session.
        let mut reader = std::mem::replace(place, Reader::new(side, None));
        reader.push(piece, &mut |ts, part| match side {
            Side::Request => self.request_part(ts, part, context),
            Side::Response => self.response_part(ts, part, context),
        });
        match side {
            Side::Request => self.requests = reader,
            Side::Response => self.responses = reader,
        }
    }

    /// Reports all exchanges; no more will come.
    pub(crate) fn finish(mut self, ending: Ending, context: &mut Context<'_>) {
        if let Some(Asking { start_ts, kind: Kind::Undecided, .. }) = &self.asking {
            self.decide(*start_ts, context);
        }
        for open in std::mem::take(&mut self.open) {
            self.close(open, ending, context);
        }
    }

    fn request_part(&mut self, ts: WallNanos, part: Part<'_>, context: &mut Context<'_>) {
        match part {
            Part::Start { .. } => {
                self.asking =
                    Some(Asking { start_ts: ts, text: Vec::new(), kind: Kind::Undecided });
            }
            Part::Content(bytes) => self.ask(ts, &bytes, context),
            Part::End(ended) => self.asked(ts, ended, context),
            Part::Broken(reason) => {
                self.request_loss.get_or_insert(reason);
                for open in self.open.iter_mut().filter(|open| !open.is_answered) {
                    open.exchange.damaged(reason);
                }
            }
            // Bytes of messages that nothing is known of.
            Part::Lost(_) | Part::Close { .. } => {}
        }
    }

    /// Takes text of the client's message.
    fn ask(&mut self, ts: WallNanos, bytes: &[u8], context: &mut Context<'_>) {
        let Some(asking) = &mut self.asking else { return };
        let mut rest = bytes;
        if asking.kind == Kind::Undecided {
            let (taken, after) = rest.split_at((PREFIX_BYTES - asking.text.len()).min(rest.len()));
            asking.text.extend_from_slice(taken);
            rest = after;
            if asking.text.len() == PREFIX_BYTES {
                self.decide(ts, context);
            }
        }
        match (&mut self.asking, self.open.last_mut()) {
            (Some(Asking { kind: Kind::Opening, .. }), Some(open)) => {
                open.exchange.request_text(ts, rest, context.findings);
            }
            (Some(Asking { kind: Kind::Adding, text, .. }), _)
                if text.len() + rest.len() <= MAX_EVENT_BYTES =>
            {
                text.extend_from_slice(rest);
            }
            _ => {}
        }
    }

    /// Finds out what the client's message is, from as much of it as has come by `ts`.
    fn decide(&mut self, ts: WallNanos, context: &mut Context<'_>) {
        let Some(mut asking) = self.asking.take() else { return };
        let is_open = self.open.iter().any(|open| !open.is_answered);
        if is_open && !meaning::opens_exchange(&self.upgrade, &asking.text) {
            asking.kind = Kind::Adding;
        } else {
            asking.kind = Kind::Opening;
            let text = std::mem::take(&mut asking.text);
            let lane = meaning::lane(&self.upgrade, &text).map(str::to_owned);
            self.begin(asking.start_ts, lane, context);
            if let Some(open) = self.open.last_mut() {
                open.exchange.request_text(ts, &text, context.findings);
            }
        }
        self.asking = Some(asking);
    }

    /// Opens an exchange; the one before it in its lane, or the upgrade, is over.
    fn begin(&mut self, start_ts: WallNanos, lane: Option<String>, context: &mut Context<'_>) {
        let over = |open: &mut Open| open.is_upgrade || open.lane == lane;
        let mut over: Vec<_> = self.open.extract_if(.., over).collect();
        if self.open.len() >= MAX_OPEN {
            over.push(self.open.remove(0));
        }
        for open in over {
            self.close(open, Ending::Closed, context);
        }
        let mut exchange = context.open(self.about, "1.1", start_ts);
        exchange.request_message(&self.upgrade);
        self.open.push(Open { lane, exchange, is_answered: false, is_upgrade: false });
    }

    /// The client's message has ended.
    fn asked(&mut self, ts: WallNanos, ended: Ended, context: &mut Context<'_>) {
        if let Some(Asking { kind: Kind::Undecided, .. }) = self.asking {
            self.decide(ts, context);
        }
        let Some(asking) = self.asking.take() else { return };
        let Some(open) = self.open.last_mut() else { return };
        if let Some(reason) = ended.damage {
            open.exchange.request_message_damaged(reason, ended.lost_bytes);
        }
        match asking.kind {
            Kind::Adding => {
                let data = String::from_utf8_lossy(&asking.text);
                let item = StreamItem { event: Some(ADDED), data };
                let message = Message { start_ts: asking.start_ts, ts, item, wire_bytes: 0 };
                open.exchange.client_message(message, context.findings);
            }
            _ => open.exchange.request_message_end(ts, ended.wire_bytes),
        }
    }

    fn response_part(&mut self, ts: WallNanos, part: Part<'_>, context: &mut Context<'_>) {
        match part {
            Part::Start { is_text } => {
                self.saying = Some(Saying { start_ts: ts, is_text, text: Vec::new(), bytes: 0 });
            }
            Part::Content(content) => {
                if let Some(saying) = &mut self.saying {
                    saying.bytes += content.len() as u64;
                    if saying.is_text && saying.bytes <= MAX_EVENT_BYTES as u64 {
                        saying.text.extend_from_slice(&content);
                    }
                }
            }
            Part::End(ended) => self.said(ts, ended, context),
            Part::Close { code, reason } => {
                let reason = serde_json::Value::from(reason);
                let code = code.map_or("null".to_owned(), |code| code.to_string());
                let data = Cow::Owned(format!(r#"{{"code":{code},"reason":{reason}}}"#));
                let item = StreamItem { event: Some(CLOSED), data };
                let message = Message { start_ts: ts, ts, item, wire_bytes: 0 };
                self.tell(None, message, context);
            }
            Part::Broken(reason) => {
                for open in self.open.iter_mut().filter(|open| !open.is_answered) {
                    open.exchange.damaged(reason);
                }
            }
            Part::Lost(bytes) => {
                let mut open = self.open.iter_mut().filter(|open| !open.is_answered);
                if let (Some(only), None) = (open.next(), open.next()) {
                    only.exchange.lost(bytes);
                }
            }
        }
    }

    /// A message of the server has ended.
    fn said(&mut self, ts: WallNanos, ended: Ended, context: &mut Context<'_>) {
        let Some(saying) = self.saying.take() else { return };
        let is_too_long = saying.bytes > MAX_EVENT_BYTES as u64;
        let is_readable = ended.damage.is_none_or(|reason| reason == PartialReason::Malformed);
        let is_text = saying.is_text && is_readable && !is_too_long;
        let text = String::from_utf8_lossy(&saying.text);
        let item = if is_text {
            StreamItem { event: None, data: text.clone() }
        } else {
            let event = if is_readable && !saying.is_text { BINARY } else { LOST };
            let bytes = if is_readable { saying.bytes } else { ended.wire_bytes };
            StreamItem { event: Some(event), data: Cow::Owned(format!(r#"{{"bytes":{bytes}}}"#)) }
        };
        let lane = if is_text { meaning::lane(&self.upgrade, text.as_bytes()) } else { None };
        let wire_bytes = ended.wire_bytes;
        let message = Message { start_ts: saying.start_ts, ts, item, wire_bytes };
        let Some(at) = self.tell(lane, message, context) else { return };
        let open = &mut self.open[at];
        if open.is_answered {
            return;
        }
        open.exchange.lost(ended.lost_bytes);
        if let Some(reason) = ended.damage.or(is_too_long.then_some(PartialReason::Decoding)) {
            open.exchange.damaged(reason);
        }
        let is_last = open.exchange.is_answer_ended()
            || (is_text && meaning::ends_answer(&self.upgrade, &text) == Some(true));
        if is_last {
            open.is_answered = true;
            open.exchange.response_closed();
        }
    }

    /// Gives a message of the server to the exchange it is for, which is at the place given back.
    fn tell(
        &mut self,
        lane: Option<&str>,
        message: Message<'_>,
        context: &mut Context<'_>,
    ) -> Option<usize> {
        let of_lane = |open: &Open| lane.is_none() || open.lane.as_deref() == lane;
        let waits = |open: &Open| !open.is_answered && of_lane(open);
        let is_asking = self.asking.as_ref().is_some_and(|asking| asking.kind == Kind::Opening);
        if !is_asking
            && !self.open.iter().any(waits)
            && let Some(reason) = self.request_loss.take()
        {
            // It may answer something that was not seen.
            self.begin(message.start_ts, lane.map(str::to_owned), context);
            if let Some(open) = self.open.last_mut() {
                open.exchange.request_broken(reason);
            }
        }
        let of_lane = |open: &Open| lane.is_none() || open.lane.as_deref() == lane;
        let at = self
            .open
            .iter()
            .rposition(|open| !open.is_answered && of_lane(open))
            .or_else(|| self.open.iter().rposition(of_lane))
            .or_else(|| self.open.len().checked_sub(1))?;
        let open = &mut self.open[at];
        if open.is_answered {
            open.exchange.later_message(message, context.findings);
        } else {
            open.exchange.response_message(message, context.findings);
        }
        Some(at)
    }

    /// Reports an exchange to which nothing more can belong.
    fn close(&self, mut open: Open, ending: Ending, context: &mut Context<'_>) {
        let ends_by_itself = meaning::ends_answer(&self.upgrade, "").is_some();
        if !open.is_answered && !ends_by_itself && ending == Ending::Closed {
            // Nothing says where an answer ends, or that there has to be one.
            open.exchange.response_closed();
        }
        open.exchange.finish(ending, context.findings);
    }
}

/// Events that are not messages of the server in text: what the client added, a message in binary,
/// one that could not be read, the server's farewell.
const ADDED: &str = "client";
const BINARY: &str = "binary";
const LOST: &str = "lost";
const CLOSED: &str = "close";
