//! The events of all connections and pipes on their way through: one [`Parser`] per direction, and the
//! events that wait for the end of a line.
//!
//! Everything is bounded: what one direction holds, what all hold together, how long, and how many
//! connections are remembered. Beyond a bound the oldest is let go, replaced where it may be secret.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::http1::{self, Edit, Output, Shared};
use super::mask::{Mask, Span};
use super::text;
use crate::event::{Body, Direction, Event, ProcessId, Source, StreamData};
use crate::time::WallNanos;

/// Events of one direction that may wait.
const MAX_HELD_EVENTS: usize = 4096;
/// What all waiting events may need together.
const MAX_HELD_BYTES: usize = 4 << 20;
/// What an event without payload is taken to need.
const EVENT_BYTES: usize = 512;
/// Connections in one generation; two generations are remembered.
const MAX_CONNECTIONS: usize = 4096;

/// Connections whose heads could not be searched; pipes have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uncovered {
    /// They speak HTTP/2, whose heads are compressed.
    pub http2: u64,
    /// No head was found: another protocol, or a message that began before the recording.
    pub unrecognised: u64,
}

/// See the module.
#[derive(Default)]
pub(super) struct Streams {
    /// Connections used since the last change of generations.
    young: HashMap<u64, Connection>,
    /// Connections not used since then.
    old: HashMap<u64, Connection>,
    /// First event of every direction that holds some.
    waiting: BTreeSet<(WallNanos, u64, Direction)>,
    held_bytes: usize,
    /// Of connections not remembered any more.
    uncovered: Uncovered,
    edits: Vec<Edit>,
    spans: Vec<Span>,
}

struct Connection {
    process: Option<ProcessId>,
    source: Source,
    shared: Shared,
    read: Stream,
    write: Stream,
}

/// What finds secrets in the bytes of one direction.
enum Parser {
    /// In heads, and nowhere else.
    Http(http1::Parser),
    /// Everywhere.
    Text(text::Parser),
}

struct Stream {
    parser: Parser,
    held: VecDeque<Held>,
    /// Where the next event should begin.
    next_offset: Option<u64>,
}

struct Held {
    event: Event,
    /// Position of its first byte among those fed to the parser.
    pos: u64,
}

impl Held {
    fn tls(&mut self) -> Option<&mut StreamData> {
        match &mut self.event.body {
            Body::Data(tls) => Some(tls),
            _ => None,
        }
    }

    fn payload_bytes(&self) -> usize {
        match &self.event.body {
            Body::Data(tls) => tls.data.len(),
            _ => 0,
        }
    }

    fn cost_bytes(&self) -> usize {
        self.payload_bytes() + EVENT_BYTES
    }
}

impl Streams {
    /// Takes an event with bytes and hands on what is decided.
    pub(super) fn push(&mut self, event: Event, mask: &mut Mask, out: &mut impl FnMut(Event)) {
        let Body::Data(tls) = &event.body else { return out(event) };
        let (conn_id, direction) = (tls.conn_id, tls.direction);
        self.make_young(conn_id, mask, out);
        let connection = self.young.entry(conn_id).or_insert_with(|| Connection::new(tls.source));
        connection.process = event.process;
        let (stream, shared) = connection.stream(direction);
        let mut output = Output { mask, edits: &mut self.edits, spans: &mut self.spans };

        let waited = stream.held.front().map(|held| held.event.ts);
        stream.take(event, shared, &mut output, &mut self.held_bytes);
        stream.release(&mut self.edits, &mut self.held_bytes, out);
        if stream.held.len() > MAX_HELD_EVENTS {
            let mut output = Output { mask, edits: &mut self.edits, spans: &mut self.spans };
            stream.parser.force(&mut output);
            stream.release(&mut self.edits, &mut self.held_bytes, out);
        }
        let waits = stream.held.front().map(|held| held.event.ts);
        if waited != waits {
            waited.map(|ts| self.waiting.remove(&(ts, conn_id, direction)));
            waits.map(|ts| self.waiting.insert((ts, conn_id, direction)));
        }
        while self.held_bytes > MAX_HELD_BYTES {
            let Some(&(_, conn_id, direction)) = self.waiting.first() else { return };
            self.force(conn_id, direction, mask, out);
        }
    }

    /// Lets go of what has waited since before `ts`.
    pub(super) fn flush_older_than(
        &mut self,
        ts: WallNanos,
        mask: &mut Mask,
        out: &mut impl FnMut(Event),
    ) {
        while let Some(&(since, conn_id, direction)) = self.waiting.first()
            && since < ts
        {
            self.force(conn_id, direction, mask, out);
        }
    }

    /// Lets go of everything.
    pub(super) fn flush(&mut self, mask: &mut Mask, out: &mut impl FnMut(Event)) {
        while let Some(&(_, conn_id, direction)) = self.waiting.first() {
            self.force(conn_id, direction, mask, out);
        }
    }

    /// A connection has ended.
    pub(super) fn end(&mut self, conn_id: u64, mask: &mut Mask, out: &mut impl FnMut(Event)) {
        self.force_both(conn_id, mask, out);
        if let Some(ended) = self.young.remove(&conn_id).or_else(|| self.old.remove(&conn_id)) {
            self.uncovered.count(&ended);
        }
    }

    /// A process has ended, and with it its connections.
    pub(super) fn end_process(
        &mut self,
        process: Option<ProcessId>,
        mask: &mut Mask,
        out: &mut impl FnMut(Event),
    ) {
        let all = self.young.iter().chain(&self.old);
        let mut ended: Vec<u64> = all
            .filter(|(_, connection)| connection.process == process)
            .map(|(conn_id, _)| *conn_id)
            .collect();
        ended.sort_unstable();
        for conn_id in ended {
            self.end(conn_id, mask, out);
        }
    }

    /// Connections whose heads could not be searched, those still open among them.
    pub(super) fn uncovered(&self) -> Uncovered {
        let mut uncovered = self.uncovered;
        self.young.values().chain(self.old.values()).for_each(|open| uncovered.count(open));
        uncovered
    }

    /// Moves a connection to the young generation. When that is full, the old one is forgotten.
    fn make_young(&mut self, conn_id: u64, mask: &mut Mask, out: &mut impl FnMut(Event)) {
        if self.young.contains_key(&conn_id) {
            return;
        }
        if let Some(connection) = self.old.remove(&conn_id) {
            self.young.insert(conn_id, connection);
        }
        if self.young.len() < MAX_CONNECTIONS {
            return;
        }
        let mut forgotten: Vec<u64> = self.old.keys().copied().collect();
        forgotten.sort_unstable();
        for conn_id in forgotten {
            self.end(conn_id, mask, out);
        }
        self.old = std::mem::take(&mut self.young);
        // It is about to be used, and so the only young one.
        if let Some(connection) = self.old.remove(&conn_id) {
            self.young.insert(conn_id, connection);
        }
    }

    fn force_both(&mut self, conn_id: u64, mask: &mut Mask, out: &mut impl FnMut(Event)) {
        for direction in [Direction::Read, Direction::Write] {
            self.force(conn_id, direction, mask, out);
        }
    }

    /// Lets go of what one direction holds.
    fn force(
        &mut self,
        conn_id: u64,
        direction: Direction,
        mask: &mut Mask,
        out: &mut impl FnMut(Event),
    ) {
        let connection = self.young.get_mut(&conn_id).or_else(|| self.old.get_mut(&conn_id));
        let Some(stream) = connection.map(|connection| connection.stream(direction).0) else {
            return;
        };
        let Some(first) = stream.held.front() else { return };
        self.waiting.remove(&(first.event.ts, conn_id, direction));
        let mut output = Output { mask, edits: &mut self.edits, spans: &mut self.spans };
        stream.parser.force(&mut output);
        stream.release(&mut self.edits, &mut self.held_bytes, out);
    }
}

impl Connection {
    fn new(source: Source) -> Self {
        let (read, write) = (Stream::new(source), Stream::new(source));
        Self { process: None, source, shared: Shared::default(), read, write }
    }

    fn stream(&mut self, direction: Direction) -> (&mut Stream, &mut Shared) {
        let stream = match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        };
        (stream, &mut self.shared)
    }
}

impl Uncovered {
    fn count(&mut self, connection: &Connection) {
        if connection.source == Source::Stdio {
            return;
        }
        let bytes = connection.read.parser.pos() + connection.write.parser.pos();
        if connection.shared.http2 {
            self.http2 += 1;
        } else if !connection.shared.http1 && bytes > 0 {
            self.unrecognised += 1;
        }
    }
}

impl Parser {
    fn new(source: Source) -> Self {
        match source {
            Source::Stdio => Self::Text(text::Parser::default()),
            _ => Self::Http(http1::Parser::default()),
        }
    }

    fn pos(&self) -> u64 {
        match self {
            Self::Http(parser) => parser.pos(),
            Self::Text(parser) => parser.pos(),
        }
    }

    fn pending(&self) -> usize {
        match self {
            Self::Http(parser) => parser.pending(),
            Self::Text(parser) => parser.pending(),
        }
    }

    fn feed(&mut self, data: &[u8], shared: &mut Shared, out: &mut Output<'_>) {
        match self {
            Self::Http(parser) => parser.feed(data, shared, out),
            Self::Text(parser) => parser.feed(data, out),
        }
    }

    fn gap(&mut self, lost_bytes: Option<u64>, shared: &mut Shared, out: &mut Output<'_>) {
        match self {
            Self::Http(parser) => parser.gap(lost_bytes, shared, out),
            Self::Text(parser) => parser.gap(out),
        }
    }

    fn force(&mut self, out: &mut Output<'_>) {
        match self {
            Self::Http(parser) => parser.force(out),
            Self::Text(parser) => parser.force(out),
        }
    }
}

impl Stream {
    fn new(source: Source) -> Self {
        Self { parser: Parser::new(source), held: VecDeque::new(), next_offset: None }
    }

    /// Feeds an event to the parser and holds it.
    fn take(
        &mut self,
        event: Event,
        shared: &mut Shared,
        out: &mut Output<'_>,
        held_bytes: &mut usize,
    ) {
        let mut held = Held { event, pos: self.parser.pos() };
        let Some(tls) = held.tls() else { return };
        let (offset, data) = (tls.stream_offset, std::mem::take(&mut tls.data));
        let moved_bytes = tls.data_bytes.max(data.len() as u64);
        if let Some(expected) = self.next_offset
            && offset != expected
        {
            self.parser.gap(offset.checked_sub(expected), shared, out);
        }
        self.parser.feed(&data, shared, out);
        let lost_bytes = moved_bytes - data.len() as u64;
        if lost_bytes > 0 {
            self.parser.gap(Some(lost_bytes), shared, out);
        }
        self.next_offset = Some(offset.saturating_add(moved_bytes));
        if let Some(tls) = held.tls() {
            tls.data = data;
        }
        *held_bytes += held.cost_bytes();
        self.held.push_back(held);
    }

    /// Makes the edits and hands on the events of which every byte is decided.
    fn release(
        &mut self,
        edits: &mut Vec<Edit>,
        held_bytes: &mut usize,
        out: &mut impl FnMut(Event),
    ) {
        let mut from = 0;
        for edit in edits.drain(..) {
            from = self.apply(&edit, from);
        }
        let decided = self.parser.pos() - self.parser.pending() as u64;
        while let Some(first) = self.held.front()
            && first.pos + first.payload_bytes() as u64 <= decided
            && let Some(held) = self.held.pop_front()
        {
            *held_bytes -= held.cost_bytes();
            out(held.event);
        }
    }

    /// Writes the bytes of an edit over those of the held events, which begin at `from` at the
    /// earliest; returns where the next edit may begin.
    fn apply(&mut self, edit: &Edit, from: usize) -> usize {
        let end = edit.pos + edit.bytes.len() as u64;
        let mut first = from;
        for (index, held) in self.held.iter_mut().enumerate().skip(from) {
            let pos = held.pos;
            let Some(tls) = held.tls() else { continue };
            let (start, stop) = (edit.pos.max(pos), end.min(pos + tls.data.len() as u64));
            if start < stop {
                let new = &edit.bytes[(start - edit.pos) as usize..(stop - edit.pos) as usize];
                tls.data[(start - pos) as usize..(stop - pos) as usize].copy_from_slice(new);
            }
            first = index;
            if pos + tls.data.len() as u64 >= end {
                break;
            }
        }
        first
    }
}
