//! MCP over pipes and socket pairs: which streams make a session, and who is at both ends.
//!
//! A server reads descriptor 0 and writes descriptor 1; that pair of a process is a session. Where the
//! client's ends are recorded too, on descriptors of its choice, they show the same messages again:
//! they count only where the server's end is not in the trace. Which of a client's streams belong
//! together is then told by the first answer that fits.

use std::collections::BTreeMap;

use super::line::{Budget, Lines};
use super::message::{self, Content, Message};
use super::session::{Ended, Session, Way};
use crate::event::{Channel, ChannelType, Direction, ProcessId, StreamData};
use crate::reconstruct::finding::{Finding, McpCall, PartialReason};
use crate::reconstruct::stream::{self, Stream};
use crate::time::WallNanos;

/// Streams followed at a time. The one without an event for longest makes room.
const MAX_FLOWS: usize = 1024;

/// Channels of which addresses are remembered.
const MAX_CHANNELS: usize = 1 << 16;

/// Bytes of unfinished lines of all streams together.
const MAX_LINE_BYTES: usize = 64 << 20;

/// Messages of a client's stream that wait until it is known which session it is of.
const MAX_UNBOUND: usize = 64;

type Findings<'a> = &'a mut dyn FnMut(Finding);

/// The session of a process over its standard streams, or over the stream that it writes.
type SessionKey = (Option<ProcessId>, Option<u64>);

/// All streams between programs.
#[derive(Debug)]
pub(crate) struct Stdio {
    flows: BTreeMap<(u64, Direction), Flow>,
    sessions: BTreeMap<SessionKey, Talk>,
    channels: BTreeMap<u64, Known>,
    /// Channels by the addresses of both their ends, their own first.
    by_addr: BTreeMap<(String, String), Vec<u64>>,
    budget: Budget,
    /// Events seen, as a clock for [`Flow::last_used`].
    pushed: u64,
    is_midway: bool,
}

/// One direction of a channel.
#[derive(Debug)]
struct Flow {
    process: Option<ProcessId>,
    fd: Option<u32>,
    stream: Stream,
    lines: Lines,
    /// `None` for what a client reads, until an answer tells.
    session: Option<SessionKey>,
    unbound: Vec<Message>,
    last_used: u64,
}

/// A session and its streams.
#[derive(Debug)]
struct Talk {
    session: Session,
    read: Option<u64>,
    written: Option<u64>,
    /// Which of its ways have not ended.
    open: [bool; 2],
    /// Descriptor of the stream written.
    fd: Option<u32>,
}

/// What is known of a channel.
#[derive(Debug)]
struct Known {
    process: Option<ProcessId>,
    fd: u32,
    local_addr: Option<String>,
    remote_addr: Option<String>,
}

/// What came out of a stream.
enum Part {
    Message(Message),
    Gap,
}

impl Stdio {
    /// `is_midway`: the trace begins in the middle of a recording.
    pub(crate) fn new(is_midway: bool) -> Self {
        Self {
            flows: BTreeMap::new(),
            sessions: BTreeMap::new(),
            channels: BTreeMap::new(),
            by_addr: BTreeMap::new(),
            budget: Budget::new(MAX_LINE_BYTES),
            pushed: 0,
            is_midway,
        }
    }

    /// A process uses a channel for the first time.
    pub(crate) fn open(&mut self, process: Option<ProcessId>, channel: &Channel) {
        if !matches!(channel.channel_type, ChannelType::Pipe | ChannelType::Unix) {
            return;
        }
        if self.channels.len() >= MAX_CHANNELS
            && let Some((conn_id, known)) = self.channels.pop_first()
        {
            self.forget_address(conn_id, &known);
        }
        let known = Known {
            process,
            fd: channel.fd,
            local_addr: channel.local_addr.clone(),
            remote_addr: channel.remote_addr.clone(),
        };
        if let (Some(local), Some(remote)) = (&known.local_addr, &known.remote_addr) {
            let ends = self.by_addr.entry((local.clone(), remote.clone())).or_default();
            if !ends.contains(&channel.conn_id) {
                ends.push(channel.conn_id);
            }
        }
        self.channels.insert(channel.conn_id, known);
    }

    fn forget_address(&mut self, conn_id: u64, known: &Known) {
        let (Some(local), Some(remote)) = (&known.local_addr, &known.remote_addr) else { return };
        let key = (local.clone(), remote.clone());
        if let Some(ends) = self.by_addr.get_mut(&key) {
            ends.retain(|end| *end != conn_id);
            if ends.is_empty() {
                self.by_addr.remove(&key);
            }
        }
    }

    /// Takes bytes that a process read or wrote.
    pub(crate) fn data(
        &mut self,
        ts: WallNanos,
        process: Option<ProcessId>,
        data: &StreamData,
        findings: Findings<'_>,
    ) {
        let fd = data.fd.or_else(|| self.channels.get(&data.conn_id).map(|known| known.fd));
        if fd == Some(2) {
            return;
        }
        self.pushed += 1;
        let key = (data.conn_id, data.direction);
        if !self.flows.contains_key(&key) {
            self.make_room(findings);
        }
        let (is_midway, pushed) = (self.is_midway, self.pushed);
        let flow = self.flows.entry(key).or_insert_with(|| Flow::new(process, fd, is_midway));
        flow.last_used = pushed;
        let mut parts = Vec::new();
        flow.push(ts, data, &mut self.budget, &mut parts);
        self.parts(key, parts, findings);
    }

    /// A channel was closed.
    pub(crate) fn close(&mut self, conn_id: u64, findings: Findings<'_>) {
        for direction in [Direction::Read, Direction::Write] {
            self.end_flow((conn_id, direction), PartialReason::Closed, findings);
        }
    }

    /// A process ended: so did its sessions.
    pub(crate) fn exit(&mut self, process: Option<ProcessId>, findings: Findings<'_>) {
        let of_process = self.flows.iter().filter(|(_, flow)| flow.process == process);
        let keys: Vec<_> = of_process.map(|(key, _)| *key).collect();
        for key in keys {
            self.end_flow(key, PartialReason::Closed, findings);
        }
    }

    /// The recording ended.
    pub(crate) fn finish(&mut self, findings: Findings<'_>) {
        while let Some((&key, _)) = self.flows.first_key_value() {
            self.end_flow(key, PartialReason::StillOpen, findings);
        }
    }

    fn make_room(&mut self, findings: Findings<'_>) {
        if self.flows.len() < MAX_FLOWS {
            return;
        }
        let idle = self.flows.iter().min_by_key(|(_, flow)| flow.last_used).map(|(key, _)| *key);
        if let Some(key) = idle {
            self.end_flow(key, PartialReason::StillOpen, findings);
        }
    }

    fn end_flow(&mut self, key: (u64, Direction), reason: PartialReason, findings: Findings<'_>) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let mut parts = Vec::new();
        flow.finish(&mut self.budget, &mut parts);
        self.parts(key, parts, findings);
        let Some(of) = self.flows.remove(&key).and_then(|flow| flow.session) else { return };
        let Some(talk) = self.sessions.get_mut(&of) else { return };
        talk.open[way(key.1) as usize] = false;
        // With one of its ways gone nothing can be answered any more, but what was said already may
        // still be on its way to us.
        if talk.open == [false; 2]
            && let Some(mut talk) = self.sessions.remove(&of)
        {
            let mut ended = Vec::new();
            talk.session.close(reason, &mut |it| ended.push(it));
            self.hand_out(of, key, &talk, ended, findings);
        }
    }

    fn parts(&mut self, key: (u64, Direction), parts: Vec<Part>, findings: Findings<'_>) {
        for part in parts {
            let Some(flow) = self.flows.get_mut(&key) else { return };
            if flow.session.is_none() {
                let answered = match &part {
                    Part::Message(Message { content: Content::Answer(answer), .. }) => {
                        Some(answer.id.clone())
                    }
                    _ => None,
                };
                match part {
                    Part::Message(message) if flow.unbound.len() < MAX_UNBOUND => {
                        flow.unbound.push(message);
                    }
                    _ => {}
                }
                if let Some(id) = answered {
                    self.bind(key, &id, findings);
                }
                continue;
            }
            self.part(key, part, findings);
        }
    }

    /// Finds the session of what a client reads: one without such a stream whose client waits for an
    /// answer of this id, the one with the nearest descriptor.
    fn bind(&mut self, key: (u64, Direction), id: &str, findings: Findings<'_>) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let distance = |talk: &Talk| match (talk.fd, flow.fd) {
            (Some(one), Some(other)) => one.abs_diff(other),
            _ => u32::MAX,
        };
        let process = flow.process;
        let waiting = self.sessions.iter().filter(|((of, written), talk)| {
            *of == process
                && written.is_some()
                && talk.read.is_none()
                && talk.session.waits(Way::Out, id)
        });
        let Some(of) = waiting.min_by_key(|(of, talk)| (distance(talk), **of)).map(|(of, _)| *of)
        else {
            return;
        };
        flow.session = Some(of);
        let unbound = std::mem::take(&mut flow.unbound);
        if let Some(talk) = self.sessions.get_mut(&of) {
            talk.read = Some(key.0);
            talk.open[Way::In as usize] = true;
        }
        for message in unbound {
            self.part(key, Part::Message(message), findings);
        }
    }

    fn part(&mut self, key: (u64, Direction), part: Part, findings: Findings<'_>) {
        let Some((of, fd)) = self.flows.get(&key).and_then(|flow| Some((flow.session?, flow.fd)))
        else {
            return;
        };
        let way = way(key.1);
        // Streams that carry no messages make no session.
        let is_known = self.sessions.contains_key(&of);
        let message = match part {
            Part::Gap if !is_known => return,
            Part::Gap => {
                self.sessions.entry(of).and_modify(|talk| talk.session.gap(way));
                return;
            }
            Part::Message(message) => message,
        };
        let talk = self.sessions.entry(of).or_insert_with(|| Talk {
            session: Session::new("stdio"),
            read: None,
            written: None,
            open: [false; 2],
            fd,
        });
        match key.1 {
            Direction::Read => talk.read = Some(key.0),
            Direction::Write => talk.written = Some(key.0),
        }
        talk.open[way as usize] = true;
        let mut ended = Vec::new();
        talk.session.message(way, message, &mut |it| ended.push(it));
        if ended.is_empty() {
            return;
        }
        // Taken out for a moment, as the other ends are looked up meanwhile.
        if let Some(talk) = self.sessions.remove(&of) {
            self.hand_out(of, key, &talk, ended, findings);
            self.sessions.insert(of, talk);
        }
    }

    fn hand_out(
        &self,
        of: SessionKey,
        last: (u64, Direction),
        talk: &Talk,
        ended: Vec<Ended>,
        findings: Findings<'_>,
    ) {
        let (read, written) = (talk.read, talk.written);
        let (process, is_standard) = (of.0, of.1.is_none());
        if !is_standard && [read, written].into_iter().flatten().any(|it| self.is_seen_there(it)) {
            return;
        }
        let peer = self.peer(read, written);
        for Ended { call, way } in ended {
            let conn_id = match way {
                Way::In => read.or(written),
                Way::Out => written.or(read),
            };
            let is_client = talk.session.is_client(Way::Out) == Some(true);
            let (client, server) = if is_client { (process, peer) } else { (peer, process) };
            let conn_id = conn_id.unwrap_or(last.0);
            findings(Finding::McpCall(Box::new(McpCall { conn_id, client, server, ..call })));
        }
    }

    /// Whether the other end of a client's stream is a standard stream of an observed process.
    fn is_seen_there(&self, conn_id: u64) -> bool {
        self.other_ends(conn_id).any(|other| other.fd <= 1)
    }

    /// The process at the other ends of both streams; `None` if it may be one of several.
    fn peer(&self, read: Option<u64>, written: Option<u64>) -> Option<ProcessId> {
        // What is read was written by another process, so not at its descriptor 0.
        let writers = read.map(|it| self.processes(it, |fd| fd != 0)).unwrap_or_default();
        let readers =
            written.map(|it| self.processes(it, |fd| fd == 0 || fd > 2)).unwrap_or_default();
        let both: Vec<_> = writers.iter().filter(|it| readers.contains(it)).copied().collect();
        [both, writers, readers].into_iter().find_map(|found| match found.as_slice() {
            [one] => Some(*one),
            _ => None,
        })
    }

    /// The processes at the other end of a channel, each once.
    fn processes(&self, conn_id: u64, may_be: fn(u32) -> bool) -> Vec<ProcessId> {
        let mut found = Vec::new();
        for process in
            self.other_ends(conn_id).filter(|it| may_be(it.fd)).filter_map(|it| it.process)
        {
            if !found.contains(&process) {
                found.push(process);
            }
        }
        found
    }

    fn other_ends(&self, conn_id: u64) -> impl Iterator<Item = &Known> {
        let own = self.channels.get(&conn_id);
        let addresses =
            own.and_then(|own| Some((own.remote_addr.clone()?, own.local_addr.clone()?)));
        let ends = addresses.and_then(|addresses| self.by_addr.get(&addresses));
        let process = own.and_then(|own| own.process);
        ends.into_iter()
            .flatten()
            .filter_map(|end| self.channels.get(end))
            .filter(move |other| other.process != process)
    }
}

impl Flow {
    fn new(process: Option<ProcessId>, fd: Option<u32>, is_midway: bool) -> Self {
        Self {
            process,
            fd,
            stream: if is_midway { Stream::midway() } else { Stream::default() },
            lines: Lines::new(),
            session: None,
            unbound: Vec::new(),
            last_used: 0,
        }
    }

    fn push(&mut self, ts: WallNanos, data: &StreamData, budget: &mut Budget, out: &mut Vec<Part>) {
        let standard = match data.direction {
            Direction::Read => self.fd == Some(0),
            Direction::Write => matches!(self.fd, Some(0 | 1)),
        };
        if standard {
            self.session = Some((self.process, None));
        } else if data.direction == Direction::Write {
            self.session = Some((self.process, Some(data.conn_id)));
        }
        let lines = &mut self.lines;
        self.stream.expire(ts, &mut |piece| read(lines, piece, budget, out));
        self.stream.push(ts, data, &mut |piece| read(lines, piece, budget, out));
    }

    fn finish(&mut self, budget: &mut Budget, out: &mut Vec<Part>) {
        let lines = &mut self.lines;
        self.stream.flush(&mut |piece| read(lines, piece, budget, out));
        lines.finish(budget, &mut |line| messages(&line, out));
    }
}

fn way(direction: Direction) -> Way {
    match direction {
        Direction::Read => Way::In,
        Direction::Write => Way::Out,
    }
}

fn read(lines: &mut Lines, piece: stream::Piece<'_>, budget: &mut Budget, out: &mut Vec<Part>) {
    match piece.content {
        stream::Content::Data(bytes) => {
            lines.push(piece.ts, bytes, budget, &mut |line| messages(&line, out));
        }
        stream::Content::Gap(bytes) => {
            lines.gap(piece.ts, bytes, budget);
            out.push(Part::Gap);
        }
    }
}

fn messages(line: &super::line::Line<'_>, out: &mut Vec<Part>) {
    let mut found = Vec::new();
    message::of_line(line, &mut found);
    out.extend(found.into_iter().map(Part::Message));
}
