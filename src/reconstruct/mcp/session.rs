//! One conversation between a client and a server: requests with their answers, both ways.
//!
//! Knows no transport. Of the two ways of a session only messages tell which is the client's; until
//! one does, or shows that it is another protocol on JSON-RPC, calls are held back.

use std::collections::BTreeMap;

use super::message::{Answer, Content, Kept, Message, Request};
use crate::reconstruct::finding::{McpCall, PartialReason};
use crate::time::WallNanos;

/// Requests without an answer at a time, and answers without their request; clients have a few.
const MAX_OPEN: usize = 256;

/// Calls held back until it is known what is spoken.
const MAX_HELD: usize = 64;

/// Requests that only a client sends.
const OF_CLIENTS: &[&str] = &[
    "completion/complete",
    "logging/setLevel",
    "notifications/initialized",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "server/discover",
    "subscriptions/listen",
    "tools/call",
    "tools/list",
];

/// Requests that only a server sends.
const OF_SERVERS: &[&str] = &["elicitation/create", "roots/list", "sampling/createMessage"];

/// Which way a message goes, seen from the process whose streams are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Way {
    /// To it.
    In,
    /// From it.
    Out,
}

impl Way {
    fn back(self) -> Self {
        match self {
            Self::In => Self::Out,
            Self::Out => Self::In,
        }
    }
}

/// What is known of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    /// Nothing yet.
    Unknown,
    /// It is the Model Context Protocol, and the client sends this way.
    Mcp { client: Way },
    /// It is another one.
    Other,
}

/// A call that has ended, and which way its request went.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ended {
    pub(super) call: McpCall,
    pub(super) way: Way,
}

/// Receives calls that have ended.
pub(super) type Sink<'a> = &'a mut dyn FnMut(Ended);

/// A request that waits for its answer.
#[derive(Debug)]
struct Open {
    request: Request,
    start_ts: WallNanos,
    bytes: u64,
    progress: u64,
    /// Bytes of it are missing.
    is_damaged: bool,
    /// Since it was sent, bytes were missing where its answer may have been.
    may_be_lost: bool,
}

/// An answer, and what it came with.
#[derive(Debug)]
struct Arrived {
    answer: Answer,
    ts: WallNanos,
    bytes: u64,
    has_gap: bool,
}

type Key = (Way, String);

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    transport: &'static str,
    spoken: Spoken,
    server_name: Option<String>,
    version: Option<String>,
    /// By the way of the request and its id.
    open: BTreeMap<Key, Open>,
    /// Answers that came before the request they answer, by the way of that request and its id:
    /// events of different streams may change places by as much as the recorder joins into one.
    early: BTreeMap<Key, Arrived>,
    /// By the way of the request and its progress token: its id.
    progress: BTreeMap<Key, String>,
    held: Vec<Ended>,
}

impl Session {
    pub(super) fn new(transport: &'static str) -> Self {
        Self {
            transport,
            spoken: Spoken::Unknown,
            server_name: None,
            version: None,
            open: BTreeMap::new(),
            early: BTreeMap::new(),
            progress: BTreeMap::new(),
            held: Vec::new(),
        }
    }

    /// A session of which it is known that the client sends this way, and what it speaks if so.
    pub(super) fn of_client(transport: &'static str, client: Way, version: Option<String>) -> Self {
        Self { spoken: Spoken::Mcp { client }, version, ..Self::new(transport) }
    }

    /// Whether the client sends this way; `None` while that is not known.
    pub(super) fn is_client(&self, way: Way) -> Option<bool> {
        match self.spoken {
            Spoken::Mcp { client } => Some(client == way),
            Spoken::Unknown | Spoken::Other => None,
        }
    }

    /// Whether a request of this id that went this way waits for its answer.
    pub(super) fn waits(&self, way: Way, id: &str) -> bool {
        self.open.contains_key(&(way, id.to_owned()))
    }

    /// Takes the next message of a way.
    pub(super) fn message(&mut self, way: Way, message: Message, sink: Sink<'_>) {
        if message.has_gap {
            self.gap(way);
        }
        match message.content {
            Content::Request(request) => {
                let (ts, bytes, gap) = (message.ts, message.bytes, message.has_gap);
                self.request(way, ts, bytes, gap, request, sink);
            }
            Content::Answer(answer) => {
                let (ts, bytes, has_gap) = (message.ts, message.bytes, message.has_gap);
                self.answer(way.back(), Arrived { answer, ts, bytes, has_gap }, sink);
            }
            Content::Unknown { id: Some(id) } => {
                // Whatever it was: if it answers, it is the answer, and it is damaged.
                let answer = Answer { id, ..Answer::default() };
                let (ts, bytes, has_gap) = (message.ts, message.bytes, true);
                if self.open.contains_key(&(way.back(), answer.id.clone())) {
                    self.answer(way.back(), Arrived { answer, ts, bytes, has_gap }, sink);
                }
            }
            Content::Unknown { id: None } => {}
        }
    }

    /// Bytes are missing on a way: any answer may have been among them.
    pub(super) fn gap(&mut self, way: Way) {
        for ((of, _), open) in &mut self.open {
            open.may_be_lost |= *of == way.back();
        }
    }

    /// No more messages will come: what is open has no answer, for this reason.
    pub(super) fn close(&mut self, reason: PartialReason, sink: Sink<'_>) {
        while let Some((key, open)) = self.open.pop_first() {
            let reason = if open.may_be_lost { PartialReason::Gap } else { reason };
            self.end(key.0, open, None, Some(reason), sink);
        }
        self.progress.clear();
    }

    /// Requests of this way whose answers come elsewhere: nothing is known of these here.
    pub(super) fn release(&mut self, way: Way, sink: Sink<'_>) {
        while let Some((of, id)) = self.open.keys().find(|(of, _)| *of == way).cloned()
            && let Some(open) = self.open.remove(&(of, id))
        {
            self.end(way, open, None, Some(PartialReason::NoResponse), sink);
        }
    }

    /// Answers that go back to requests of this way which were never seen.
    pub(super) fn take_unasked(&mut self, way: Way) -> Vec<McpCall> {
        let early = std::mem::take(&mut self.early);
        let unasked = early.into_iter().filter(|((of, _), _)| *of == way);
        let call = |(key, arrived): (Key, Arrived)| {
            let (request, ts) = (Request { id: Some(key.1), ..Request::default() }, arrived.ts);
            let open = Open::new(request, ts, 0, false);
            self.call(key.0, open, Some(arrived), None)
        };
        unasked.map(call).collect()
    }

    fn request(
        &mut self,
        way: Way,
        ts: WallNanos,
        bytes: u64,
        is_damaged: bool,
        request: Request,
        sink: Sink<'_>,
    ) {
        self.learn(way, &request, sink);
        if self.spoken == Spoken::Other {
            return;
        }
        if request.method == "notifications/progress" && self.count_progress(way, &request) {
            return;
        }
        if let Some(cancelled) = &request.cancels
            && let Some(open) = self.open.remove(&(way, cancelled.clone()))
        {
            let mut call = self.call(way, open, None, None);
            (call.is_cancelled, call.end_ts) = (true, Some(ts));
            self.hand_out(Ended { call, way }, sink);
            return;
        }
        let open = Open::new(request, ts, bytes, is_damaged);
        let Some(id) = open.request.id.clone() else {
            let reason = is_damaged.then_some(PartialReason::Gap);
            self.end(way, open, None, reason, sink);
            return;
        };
        let key = (way, id);
        if let Some(arrived) = self.early.remove(&key).filter(|arrived| arrived.ts >= ts) {
            self.end(way, open, Some(arrived), None, sink);
            return;
        }
        if let Some(token) = &open.request.progress_token {
            self.progress.insert((way, token.clone()), key.1.clone());
        }
        // An id that is used again while it waits: the request before it has no answer.
        let unanswered = match self.open.insert(key.clone(), open) {
            None if self.open.len() > MAX_OPEN => self.take_oldest(),
            replaced => replaced.map(|open| (key, open)),
        };
        if let Some((key, open)) = unanswered {
            self.end(key.0, open, None, Some(PartialReason::NoResponse), sink);
        }
        while self.progress.len() > MAX_OPEN {
            self.progress.pop_first();
        }
    }

    fn take_oldest(&mut self) -> Option<(Key, Open)> {
        let oldest = self.open.iter().min_by_key(|(_, open)| open.start_ts)?.0.clone();
        self.open.remove_entry(&oldest)
    }

    /// `way` is that of the request.
    fn answer(&mut self, way: Way, arrived: Arrived, sink: Sink<'_>) {
        if self.spoken == Spoken::Other {
            return;
        }
        let key = (way, arrived.answer.id.clone());
        match self.open.remove(&key) {
            Some(open) => self.end(way, open, Some(arrived), None, sink),
            None => {
                if self.early.len() >= MAX_OPEN {
                    self.early.pop_first();
                }
                self.early.insert(key, arrived);
            }
        }
    }

    /// Notes progress of an open request; `false` if there is none it could be of. Progress goes the
    /// other way than the request.
    fn count_progress(&mut self, way: Way, request: &Request) -> bool {
        let Some(token) = &request.progress_token else { return false };
        let Some(id) = self.progress.get(&(way.back(), token.clone())) else { return false };
        let Some(open) = self.open.get_mut(&(way.back(), id.clone())) else { return false };
        open.progress += 1;
        true
    }

    /// Learns from a request which protocol it is of, and who the client is.
    fn learn(&mut self, way: Way, request: &Request, sink: Sink<'_>) {
        let method = request.method.as_str();
        let spoken = match method {
            // Other protocols on JSON-RPC begin with the word too, with a version that is a number.
            "initialize" if request.version.is_some() => Spoken::Mcp { client: way },
            "initialize" => Spoken::Other,
            _ if OF_CLIENTS.contains(&method) => Spoken::Mcp { client: way },
            _ if OF_SERVERS.contains(&method) => Spoken::Mcp { client: way.back() },
            _ => return,
        };
        if self.spoken != Spoken::Unknown {
            return;
        }
        self.spoken = spoken;
        let held = std::mem::take(&mut self.held);
        if spoken == Spoken::Other {
            self.open.clear();
            return;
        }
        held.into_iter().for_each(|ended| self.hand_out(ended, sink));
    }

    fn end(
        &mut self,
        way: Way,
        open: Open,
        arrived: Option<Arrived>,
        reason: Option<PartialReason>,
        sink: Sink<'_>,
    ) {
        if let Some(arrived) = &arrived {
            let is_greeting =
                matches!(open.request.method.as_str(), "initialize" | "server/discover");
            if let Some(name) = arrived.answer.server_name.as_ref().filter(|_| is_greeting) {
                self.server_name = Some(name.clone());
            }
            if open.request.method == "initialize" && arrived.answer.version.is_some() {
                self.version.clone_from(&arrived.answer.version);
            }
        }
        let call = self.call(way, open, arrived, reason);
        self.hand_out(Ended { call, way }, sink);
    }

    fn hand_out(&mut self, mut ended: Ended, sink: Sink<'_>) {
        match self.spoken {
            Spoken::Mcp { client } => {
                ended.call.is_from_server = ended.way != client;
                sink(ended);
            }
            Spoken::Unknown if self.held.len() < MAX_HELD => self.held.push(ended),
            Spoken::Unknown | Spoken::Other => {}
        }
    }

    fn call(
        &self,
        way: Way,
        open: Open,
        arrived: Option<Arrived>,
        reason: Option<PartialReason>,
    ) -> McpCall {
        let damaged = open.is_damaged || arrived.as_ref().is_some_and(|it| it.has_gap);
        let (end_ts, response_bytes) = match &arrived {
            Some(arrived) => (Some(arrived.ts), Some(arrived.bytes)),
            None => (None, None),
        };
        let answer = arrived.map(|arrived| arrived.answer).unwrap_or_default();
        let is_cut = |kept: &Option<Kept>| kept.as_ref().is_some_and(|kept| kept.is_cut);
        let is_tool_call = open.request.method == "tools/call";
        // A result without the word is a success (schema of CallToolResult).
        let is_error = answer.is_error.or(answer.result.as_ref().map(|_| false));
        McpCall {
            conn_id: 0,
            http_id: None,
            transport: self.transport,
            client: None,
            server: None,
            server_name: self.server_name.clone(),
            session_id: None,
            protocol_version: match open.request.method.as_str() {
                // It proposes a version; the answer settles one.
                "initialize" => self.version.clone().or_else(|| open.request.version.clone()),
                _ => open.request.version.clone().or_else(|| self.version.clone()),
            },
            is_from_server: self.is_client(way) == Some(false),
            is_cut: is_cut(&open.request.params) || is_cut(&answer.result),
            request_id: open.request.id,
            method: open.request.method,
            target: open.request.target,
            params: open.request.params.map(|kept| kept.text),
            result: answer.result.map(|kept| kept.text),
            error_code: answer.error_code,
            error_message: answer.error_message,
            is_error: is_error.filter(|_| is_tool_call),
            is_cancelled: false,
            start_ts: open.start_ts,
            end_ts,
            request_bytes: open.bytes,
            response_bytes,
            progress: open.progress,
            partial: reason.or(damaged.then_some(PartialReason::Gap)),
        }
    }
}

impl Open {
    fn new(request: Request, start_ts: WallNanos, bytes: u64, is_damaged: bool) -> Self {
        Self { request, start_ts, bytes, progress: 0, is_damaged, may_be_lost: false }
    }
}

#[cfg(test)]
mod tests;
