//! One connection: orders both directions, finds out which end of it the process is, and hands what
//! went through to whoever reads the protocol that it speaks.
//!
//! ```text
//!                 ┌ http2 preface, or its frames ──▶ Http2
//!  Http1 (first) ─┼ 101, Upgrade: h2c ─────────────▶ Http2
//!                 ├ 101, Upgrade: websocket ───────▶ WebSocket
//!                 └ another 101, CONNECT ──────────▶ nothing more is read
//! ```
//!
//! Most processes ask: they write requests and read responses. One that serves does it the other way
//! round; the first bytes of a direction tell ([`super::protocol::perspective`]).

use std::collections::VecDeque;

use super::Options;
use super::exchange::{About, Builder, Ending, Findings};
use super::finding::Perspective;
use super::http1;
use super::http2;
use super::protocol::{self, Side};
use super::stream::{Content, Piece, Stream};
use super::websocket;
use crate::event::{Direction, ProcessId, StreamData};
use crate::time::WallNanos;

/// What all connections share.
pub(crate) struct Context<'a> {
    pub(crate) options: &'a Options,
    /// The number of the next exchange.
    pub(crate) next_http_id: &'a mut u64,
    pub(crate) findings: Findings<'a>,
}

impl Context<'_> {
    /// A new exchange, whose first byte came at `start_ts`.
    pub(crate) fn open(&mut self, about: About, version: &str, start_ts: WallNanos) -> Builder {
        let http_id = *self.next_http_id;
        *self.next_http_id += 1;
        Builder::new(http_id, about, version, start_ts, self.options)
    }
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Connection {
    conn_id: u64,
    process: Option<ProcessId>,
    scheme: &'static str,
    /// Which end it is where the first bytes do not tell.
    supposed: Perspective,
    written: Stream,
    read: Stream,
    protocol: Protocol,
    /// Pieces of one direction that wait for earlier ones of the other.
    ahead: Ahead,
}

/// Pieces of a WebSocket that came while the other direction waits for bytes that may be lost. What the
/// server says belongs to what the client said last, and only times tell what that was.
#[derive(Debug, Default)]
struct Ahead {
    pieces: VecDeque<(Direction, Unread)>,
    bytes: usize,
}

/// Who reads what goes through.
#[derive(Debug)]
enum Protocol {
    /// The first bytes have not told which end this is; a few of them.
    Undecided(VecDeque<(Direction, Unread)>),
    Http1(Perspective, Box<http1::Session>),
    Http2(Perspective, Box<http2::Session>),
    WebSocket(Perspective, Box<websocket::Session>),
}

/// A piece of a stream, kept.
#[derive(Debug)]
pub(crate) struct Unread {
    pub(crate) ts: WallNanos,
    content: Kept,
}

#[derive(Debug)]
enum Kept {
    Data(Vec<u8>),
    Gap(u64),
}

impl From<Piece<'_>> for Unread {
    fn from(piece: Piece<'_>) -> Self {
        let content = match piece.content {
            Content::Data(bytes) => Kept::Data(bytes.to_vec()),
            Content::Gap(length) => Kept::Gap(length),
        };
        Self { ts: piece.ts, content }
    }
}

impl Unread {
    pub(crate) fn as_piece(&self) -> Piece<'_> {
        let content = match &self.content {
            Kept::Data(bytes) => Content::Data(bytes),
            Kept::Gap(length) => Content::Gap(*length),
        };
        Piece { ts: self.ts, content }
    }

    pub(crate) fn captured(&self) -> usize {
        match &self.content {
            Kept::Data(bytes) => bytes.len(),
            Kept::Gap(_) => 0,
        }
    }
}

/// What a session of HTTP/1 wants to be done after a piece.
#[derive(Debug)]
pub(crate) enum Then {
    /// Nothing.
    GoOn,
    /// More responses wait than may: requests that wait for lost bytes are to be handed out.
    FlushRequests,
    /// The connection speaks another protocol from here on.
    Switch(Box<Switch>),
}

/// A change of protocol.
#[derive(Debug)]
pub(crate) struct Switch {
    pub(crate) to: Upgrade,
    /// What was taken and belongs to the new protocol.
    pub(crate) unread: Vec<(Side, Unread)>,
}

/// What a connection changes to.
#[derive(Debug)]
pub(crate) enum Upgrade {
    /// HTTP/2 from its beginning: the preface is among what is unread.
    Http2,
    /// HTTP/2 in its midst.
    Http2Late,
    /// HTTP/2 after 101; the response to this request comes on stream 1 (RFC 7540 section 3.2).
    Http2After(Box<Builder>),
    /// WebSocket; the exchange that led to it is over but for what the server says first.
    WebSocket(Box<Builder>),
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
            supposed,
            written: Stream::default(),
            read: Stream::default(),
            protocol: Protocol::Undecided(VecDeque::new()),
            ahead: Ahead::default(),
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
        if self.is_opaque() {
            return;
        }
        self.order(Direction::Write, context, |stream, sink| stream.expire(ts, sink));
        self.order(Direction::Read, context, |stream, sink| stream.expire(ts, sink));
        self.order(data.direction, context, |stream, sink| stream.push(ts, data, sink));
        if !self.ahead.pieces.is_empty() {
            if self.ahead.bytes > http1::MAX_WAITING_BYTES
                || self.ahead.pieces.len() > http1::MAX_WAITING_PIECES
            {
                self.order(Direction::Write, context, Stream::flush);
                self.order(Direction::Read, context, Stream::flush);
            }
            self.release_ahead(None, context);
        }
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

    fn is_opaque(&self) -> bool {
        matches!(&self.protocol, Protocol::Http1(_, session) if session.is_opaque())
    }

    /// Takes the next piece of a direction.
    fn piece(&mut self, direction: Direction, piece: Piece<'_>, context: &mut Context<'_>) {
        match &mut self.protocol {
            Protocol::Undecided(first) => {
                first.push_back((direction, Unread::from(piece)));
                if let Some(perspective) = find_perspective(first, direction, self.supposed) {
                    self.decide(perspective, context);
                }
            }
            Protocol::Http1(perspective, session) => {
                let perspective = *perspective;
                match session.piece(perspective.side(direction), piece, context) {
                    Then::GoOn => {}
                    Then::FlushRequests => {
                        self.order(perspective.request_direction(), context, Stream::flush);
                        if let Protocol::Http1(_, session) = &mut self.protocol {
                            session.release_full(context);
                        }
                    }
                    Then::Switch(switch) => self.switch(perspective, *switch, context),
                }
            }
            Protocol::Http2(perspective, session) => {
                session.piece(perspective.side(direction), piece, context);
            }
            Protocol::WebSocket(..) => {
                let is_ahead = |since: WallNanos| since <= piece.ts;
                let is_of_ahead = self.ahead.pieces.front().is_some_and(|(of, _)| *of == direction);
                if is_of_ahead || self.stream(other(direction)).held_since().is_some_and(is_ahead) {
                    let unread = Unread::from(piece);
                    self.ahead.bytes += unread.captured();
                    self.ahead.pieces.push_back((direction, unread));
                } else {
                    self.release_ahead(Some(piece.ts), context);
                    self.message_piece(direction, piece, context);
                }
            }
        }
    }

    fn message_piece(&mut self, direction: Direction, piece: Piece<'_>, context: &mut Context<'_>) {
        if let Protocol::WebSocket(perspective, session) = &mut self.protocol {
            session.piece(perspective.side(direction), piece, context);
        }
    }

    /// Reads pieces that are ahead: those before a time, or those before which nothing can come any
    /// more.
    fn release_ahead(&mut self, before: Option<WallNanos>, context: &mut Context<'_>) {
        while let Some((direction, unread)) = self.ahead.pieces.front() {
            let (direction, ts) = (*direction, unread.ts);
            let is_due = match before {
                Some(before) => ts < before,
                None => self.stream(other(direction)).held_since().is_none_or(|since| ts < since),
            };
            if !is_due {
                return;
            }
            if let Some((_, unread)) = self.ahead.pieces.pop_front() {
                self.ahead.bytes -= unread.captured();
                self.message_piece(direction, unread.as_piece(), context);
            }
        }
    }

    /// Reads what came before it was known which end this is.
    fn decide(&mut self, perspective: Perspective, context: &mut Context<'_>) {
        let session = Box::new(http1::Session::new(self.about(perspective)));
        let first = std::mem::replace(&mut self.protocol, Protocol::Http1(perspective, session));
        let Protocol::Undecided(first) = first else { return };
        for (direction, unread) in first {
            self.piece(direction, unread.as_piece(), context);
        }
    }

    fn switch(&mut self, perspective: Perspective, switch: Switch, context: &mut Context<'_>) {
        let about = self.about(perspective);
        let next = match switch.to {
            Upgrade::Http2 => {
                Protocol::Http2(perspective, Box::new(http2::Session::from_start(about)))
            }
            Upgrade::Http2Late => {
                Protocol::Http2(perspective, Box::new(http2::Session::joined_late(about)))
            }
            Upgrade::Http2After(request) => {
                let session = http2::Session::upgraded(about, *request);
                Protocol::Http2(perspective, Box::new(session))
            }
            Upgrade::WebSocket(upgrade) => {
                let max_bytes = context.options.max_body_bytes;
                let session = websocket::Session::new(about, *upgrade, max_bytes);
                Protocol::WebSocket(perspective, Box::new(session))
            }
        };
        if let Protocol::Http1(_, session) = std::mem::replace(&mut self.protocol, next) {
            session.leave(context);
        }
        for (side, unread) in switch.unread {
            self.piece(perspective.direction(side), unread.as_piece(), context);
        }
    }

    /// Reports all exchanges; no more events will come.
    pub(crate) fn finish(mut self, ending: Ending, context: &mut Context<'_>) {
        self.order(Direction::Write, context, Stream::flush);
        self.order(Direction::Read, context, Stream::flush);
        self.release_ahead(None, context);
        if let Protocol::Undecided(_) = self.protocol {
            self.decide(self.supposed, context);
        }
        // What still waits may turn out to be another protocol.
        if let Protocol::Http1(perspective, session) = &mut self.protocol {
            let perspective = *perspective;
            if let Then::Switch(switch) = session.release_all(context) {
                self.switch(perspective, *switch, context);
            }
        }
        match self.protocol {
            Protocol::Undecided(_) => {}
            Protocol::Http1(_, session) => session.finish(ending, context),
            Protocol::Http2(_, session) => session.finish(ending, context),
            Protocol::WebSocket(_, session) => session.finish(ending, context),
        }
    }

    fn about(&self, perspective: Perspective) -> About {
        About { conn_id: self.conn_id, process: self.process, scheme: self.scheme, perspective }
    }
}

fn other(direction: Direction) -> Direction {
    match direction {
        Direction::Write => Direction::Read,
        Direction::Read => Direction::Write,
    }
}

/// Which end this is, as the first bytes of a direction tell; `None` if they are too few.
fn find_perspective(
    pieces: &VecDeque<(Direction, Unread)>,
    direction: Direction,
    supposed: Perspective,
) -> Option<Perspective> {
    let mut first = Vec::new();
    for (_, unread) in pieces.iter().filter(|(of, _)| *of == direction) {
        match unread.as_piece().content {
            Content::Data(bytes) => {
                let missing = protocol::VERDICT_BYTES.saturating_sub(first.len());
                first.extend_from_slice(&bytes[..bytes.len().min(missing)]);
            }
            Content::Gap(_) => return Some(supposed),
        }
    }
    protocol::perspective(direction, &first).map(|found| found.unwrap_or(supposed))
}

#[cfg(test)]
mod tests;
