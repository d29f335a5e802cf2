//! Events to findings: connections, HTTP exchanges, event streams, LLM calls; and what the messages
//! say that name hosts: the start of TLS handshakes ([`client_hello`]) and DNS answers ([`dns`]).
//!
//! Sans-IO: bytes and gaps in, findings out. No file, clock, Arrow or async, so that the same
//! events always give the same findings. Total: no input is an error, damage costs only the
//! message it is in.
//!
//! ```text
//!            ┌ stream ┐
//!  Event ─▶ connection ─▶ http1, http2, websocket ─▶ exchange ─▶ body ─▶ stream_framing ─▶ llm
//!            └ stream ┘                                     each hands out Findings; calls ─▶ conversation
//! ```
//!
//! Findings depend on the bytes of each direction and the time of each byte, not on how the bytes
//! were cut into events.

mod body;
pub mod client_hello;
mod connection;
mod conversation;
pub mod dns;
mod exchange;
pub mod finding;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod http1;
mod http2;
mod llm;
mod mcp;
mod protocol;
mod resync;
mod stream;
mod stream_framing;
mod websocket;

use std::collections::BTreeMap;

use self::connection::{Connection, Context};
use self::conversation::Conversations;
use self::exchange::{Caller, Ending};
use self::finding::{Finding, Perspective};
use crate::event::{Body, Event, ProcessId, Role, Source, StreamData};
use crate::time::WallNanos;

/// What is wanted of a reconstruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether exchanges carry their decoded bodies.
    pub keep_bodies: bool,
    /// Most bytes of a body that are kept, and most that one content coding may unpack: a body
    /// that unpacks to more counts as not decodable. Bodies without coding are read to their end
    /// whatever their length.
    pub max_body_bytes: u64,
}

impl Default for Options {
    /// No bodies; 256 MiB, which is some times what the largest request of a provider may be.
    fn default() -> Self {
        Self { keep_bodies: false, max_body_bytes: 256 << 20 }
    }
}

/// Connections followed at a time. The one without an event for longest makes room: it is
/// reported as if the recording had ended, and joined late should it go on.
const MAX_CONNECTIONS: usize = 1024;

/// Sockets of which it is remembered how the process came by them, until their first bytes. Of one
/// that is forgotten the bytes tell which end it is.
const MAX_ROLES: usize = 1 << 16;

/// Turns the events of one trace into findings: plaintext of TLS libraries (`tls_data`), of sockets
/// that speak HTTP in plain text (`socket_data`), and of pipes between programs (`stdio_data`).
///
/// A connection between two observed processes is in the trace twice, and so are its exchanges: as
/// the client saw them and as the server did. Calls to a model are found where they were made only.
///
/// Order of findings: the [`Finding::StreamEvent`]s of an exchange come in their order and before
/// its [`Finding::Exchange`]; its [`Finding::LlmCall`], if any, comes right after, followed by the
/// [`Finding::ToolCall`]s whose results it carries. A [`Finding::McpCall`] comes when it ends, those
/// over HTTP before their exchange. What can be told only when all calls are known comes in the end.
/// Exchanges come as they end; those of one HTTP/1 connection in the order of their requests.
/// [`Exchange::http_id`](finding::Exchange::http_id) counts requests from 1 as they begin in the
/// order of `push`.
///
/// Memory: per connection at most some MiB of bytes out of order or waiting for their request, an
/// event of a stream, up to 256 open exchanges with their heads, and their bodies if these are
/// kept.
#[derive(Debug)]
pub struct Reconstructor {
    options: Options,
    connections: BTreeMap<u64, Followed>,
    /// How processes came by the sockets through which nothing has gone yet.
    roles: BTreeMap<u64, Role>,
    next_http_id: u64,
    blocks: llm::Blocks,
    /// What findings pass before they are handed out; out of its place while they do.
    stages: Option<Box<Stages>>,
    /// Events seen, as a clock for [`Followed::last_used`].
    pushed: u64,
    /// Whether the trace begins in the middle of a recording.
    is_midway: bool,
    /// What programs say to each other through pipes.
    stdio: mcp::Stdio,
}

/// What has to do with more than one connection.
#[derive(Debug, Default)]
struct Stages {
    /// Puts calls to models together.
    conversations: Conversations,
    /// Brings answers to MCP requests that come through another exchange.
    answers: mcp::Answers,
}

impl Stages {
    fn push(&mut self, finding: Finding, findings: &mut dyn FnMut(Finding)) {
        match finding {
            Finding::McpCall(call) => self.answers.call(*call, findings),
            other => self.conversations.push(other, findings),
        }
    }

    fn finish(mut self, findings: &mut dyn FnMut(Finding)) {
        self.answers.finish(findings);
        self.conversations.finish(findings);
    }
}

#[derive(Debug)]
struct Followed {
    connection: Connection,
    last_used: u64,
}

impl Reconstructor {
    /// A reconstruction that has seen nothing.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            connections: BTreeMap::new(),
            roles: BTreeMap::new(),
            next_http_id: 1,
            blocks: llm::Blocks::default(),
            stages: Some(Box::default()),
            pushed: 0,
            is_midway: false,
            stdio: mcp::Stdio::new(false),
        }
    }

    /// The same for a trace that begins in the middle of a recording: connections that were open
    /// then are joined late, and what went through them before is not lost.
    #[must_use]
    pub fn midway(self, is_midway: bool) -> Self {
        Self { is_midway, stdio: mcp::Stdio::new(is_midway), ..self }
    }

    /// Takes the next event; kinds that carry nothing to reconstruct are ignored.
    pub fn push(&mut self, event: &Event, findings: &mut dyn FnMut(Finding)) {
        let mut stages = self.stages.take().unwrap_or_default();
        self.take(event, &mut |finding| stages.push(finding, findings));
        self.stages = Some(stages);
    }

    /// Reports what stayed open, in the order of `conn_id`, and then what calls have to do with
    /// each other.
    pub fn finish(&mut self, findings: &mut dyn FnMut(Finding)) {
        let mut stages = self.stages.take().unwrap_or_default();
        let mut through = |finding| stages.push(finding, findings);
        while let Some((&conn_id, _)) = self.connections.first_key_value() {
            self.end_connection(conn_id, Ending::StillOpen, &mut through);
        }
        self.stdio.finish(&mut through);
        stages.finish(findings);
    }

    fn take(&mut self, event: &Event, findings: &mut dyn FnMut(Finding)) {
        self.pushed += 1;
        match &event.body {
            Body::Data(data) if data.source == Source::Stdio => {
                self.stdio.data(event.ts, event.process, data, findings);
            }
            Body::Data(data) if data.source.is_plaintext() => {
                self.data(event.ts, event.process, data, findings);
            }
            Body::ChannelOpen(channel) => {
                self.stdio.open(event.process, channel);
                if self.roles.len() >= MAX_ROLES {
                    self.roles.pop_first();
                }
                self.roles.insert(channel.conn_id, channel.role);
            }
            Body::TlsClose { conn_id } | Body::ChannelClose { conn_id, .. } => {
                self.roles.remove(conn_id);
                self.stdio.close(*conn_id, findings);
                self.end_connection(*conn_id, Ending::Closed, findings);
            }
            Body::ProcessExit(_) => {
                self.stdio.exit(event.process, findings);
                self.end_process(event.process, findings);
            }
            _ => {}
        }
    }

    fn data(
        &mut self,
        ts: WallNanos,
        process: Option<ProcessId>,
        data: &StreamData,
        findings: &mut dyn FnMut(Finding),
    ) {
        if !self.connections.contains_key(&data.conn_id)
            && self.connections.len() >= MAX_CONNECTIONS
            && let Some(idle) = self.longest_idle()
        {
            self.end_connection(idle, Ending::StillOpen, findings);
        }
        let (is_midway, roles) = (self.is_midway, &mut self.roles);
        let followed = self.connections.entry(data.conn_id).or_insert_with(|| {
            let role = roles.remove(&data.conn_id);
            let supposed = match role {
                Some(Role::Accept) => Perspective::Server,
                _ => Perspective::Client,
            };
            // A socket that was open before is recorded from where a message begins.
            let is_joined = data.source == Source::Socket
                && !matches!(role, Some(Role::Accept | Role::Connect));
            let connection = Connection::new(data.conn_id, process, scheme(data.source), supposed);
            let connection = if is_midway || is_joined { connection.midway() } else { connection };
            Followed { connection, last_used: 0 }
        });
        followed.last_used = self.pushed;
        let (options, next_http_id) = (&self.options, &mut self.next_http_id);
        let findings = &mut Caller { blocks: &mut self.blocks, sink: findings };
        followed.connection.push(ts, data, &mut Context { options, next_http_id, findings });
    }

    fn longest_idle(&self) -> Option<u64> {
        let by_use = |(_, followed): &(&u64, &Followed)| followed.last_used;
        self.connections.iter().min_by_key(by_use).map(|(conn_id, _)| *conn_id)
    }

    fn end_process(&mut self, process: Option<ProcessId>, findings: &mut dyn FnMut(Finding)) {
        let of_process =
            |followed: &Followed| process.is_some() && followed.connection.process() == process;
        let ended: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, followed)| of_process(followed))
            .map(|(conn_id, _)| *conn_id)
            .collect();
        for conn_id in ended {
            self.end_connection(conn_id, Ending::Closed, findings);
        }
    }

    fn end_connection(&mut self, conn_id: u64, ending: Ending, findings: &mut dyn FnMut(Finding)) {
        let Some(followed) = self.connections.remove(&conn_id) else { return };
        let (options, next_http_id) = (&self.options, &mut self.next_http_id);
        let findings = &mut Caller { blocks: &mut self.blocks, sink: findings };
        followed.connection.finish(ending, &mut Context { options, next_http_id, findings });
    }
}

/// The URI scheme of HTTP messages observed there.
fn scheme(source: Source) -> &'static str {
    match source {
        Source::Socket => "http",
        _ => "https",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Direction;

    fn written(conn_id: u64, pid: u32, text: &str) -> Event {
        Event {
            ts: WallNanos(1),
            process: Some(ProcessId { pid, start_ts: WallNanos(0) }),
            tid: None,
            comm: None,
            body: Body::Data(StreamData {
                source: Source::Tls,
                conn_id,
                direction: Direction::Write,
                stream_offset: 0,
                data_bytes: text.len() as u64,
                lost_bytes: 0,
                data: text.as_bytes().to_vec(),
                library: String::new(),
                fd: None,
                call_ts: Vec::new(),
                call_bytes: Vec::new(),
            }),
        }
    }

    #[test]
    fn connections_are_bounded_and_the_longest_idle_makes_room() {
        let mut reconstructor = Reconstructor::new(Options::default());
        let mut found = Vec::new();
        for conn_id in 0..MAX_CONNECTIONS as u64 + 3 {
            let event = written(conn_id, 1, "GET / HTTP/1.1\r\n\r\n");
            reconstructor.push(&event, &mut |finding| found.push(finding));
            assert!(reconstructor.connections.len() <= MAX_CONNECTIONS);
        }
        let conn_id = |finding: &Finding| match finding {
            Finding::Exchange(exchange) => exchange.conn_id,
            other => panic!("{other:?}"),
        };
        assert_eq!(found.iter().map(conn_id).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn a_process_takes_only_its_own_connections_along() {
        let mut reconstructor = Reconstructor::new(Options::default());
        let mut found = Vec::new();
        for (conn_id, pid) in [(1, 10), (2, 20)] {
            let event = written(conn_id, pid, "GET / HTTP/1.1\r\n\r\n");
            reconstructor.push(&event, &mut |finding| found.push(finding));
        }
        let mut exit = written(0, 10, "");
        exit.body = Body::ProcessExit(crate::event::Exit::default());
        reconstructor.push(&exit, &mut |finding| found.push(finding));
        assert_eq!(found.len(), 1);
        assert_eq!(reconstructor.connections.keys().copied().collect::<Vec<_>>(), [2]);
    }
}
