//! MCP over HTTP: a request or notification is a POST, answers are its response, as JSON or as an
//! event stream; what a server asks comes in such a stream, or in that of a GET, and is answered by
//! another POST.

use std::collections::BTreeMap;

use super::message;
use super::session::{Ended, Session, Way};
use crate::event::ProcessId;
use crate::reconstruct::finding::{Exchange, Finding, Header, McpCall, PartialReason};
use crate::reconstruct::http1::head::{RequestHead, values};
use crate::time::WallNanos;

/// Longest body that is kept to be read; of one that is longer the begin is, [`HEAD_BYTES`].
const MAX_BODY_BYTES: usize = 4 << 20;

/// Kept of a body that is too long.
const HEAD_BYTES: usize = 64 << 10;

/// Requests of servers that wait for their answer at a time.
const MAX_ASKED: usize = 256;

type Findings<'a> = &'a mut dyn FnMut(Finding);

/// Watches one exchange that may carry messages.
///
/// An answer of the client whose request came elsewhere is handed out as a call without a method;
/// [`Answers`] puts both together.
#[derive(Debug)]
pub(crate) struct Tap {
    session: Session,
    session_id: Option<String>,
    conn_id: u64,
    http_id: u64,
    process: Option<ProcessId>,
    request: Text,
    is_request_read: bool,
    response: Text,
    is_streamed: bool,
}

/// A body as far as it is kept.
#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    length: u64,
    has_gap: bool,
    last_ts: Option<WallNanos>,
}

impl Text {
    fn push(&mut self, ts: WallNanos, bytes: &[u8]) {
        self.last_ts = Some(ts);
        self.length += bytes.len() as u64;
        if self.has_gap {
            return;
        }
        let room = MAX_BODY_BYTES.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The messages in it.
    fn read(&mut self) -> Vec<message::Message> {
        let mut out = Vec::new();
        let Some(ts) = self.last_ts else { return out };
        let is_long = self.length > self.bytes.len() as u64;
        if self.has_gap || is_long {
            self.bytes.truncate(HEAD_BYTES);
            let state = match self.has_gap {
                true => super::line::LineState::Gap,
                false => super::line::LineState::TooLong,
            };
            let (head, tail) = (&self.bytes[..], &b""[..]);
            message::of_line(
                &super::line::Line { ts, head, tail, bytes: self.length, state },
                &mut out,
            );
        } else {
            message::of_text(ts, &String::from_utf8_lossy(&self.bytes), &mut out);
        }
        self.bytes = Vec::new();
        out
    }
}

impl Tap {
    /// Begins to watch an exchange whose request head may be that of a message: one with the headers
    /// of the protocol, or a POST of JSON that takes both kinds of answers, as the protocol demands.
    pub(crate) fn for_request(found: &Exchange, head: &RequestHead) -> Option<Self> {
        let header = |name| values(&head.headers, name).next();
        let version = header("mcp-protocol-version");
        let session_id = header("mcp-session-id");
        let accepts = |kind| values(&head.headers, "accept").any(|value| value.contains(kind));
        let is_json = header("content-type").is_some_and(|it| it.starts_with("application/json"));
        let is_named = version.is_some() || session_id.is_some();
        let takes_both = accepts("application/json") && accepts("text/event-stream");
        let may_be = match head.method.as_str() {
            "POST" => is_named || (is_json && takes_both),
            "GET" => is_named && accepts("text/event-stream"),
            _ => false,
        };
        may_be.then(|| Self {
            session: match is_named {
                true => Session::of_client("http", Way::Out, version.map(str::to_owned)),
                false => Session::new("http"),
            },
            session_id: session_id.map(str::to_owned),
            conn_id: found.conn_id,
            http_id: found.http_id,
            process: found.process,
            request: Text::default(),
            is_request_read: false,
            response: Text::default(),
            is_streamed: false,
        })
    }

    /// Decoded request content.
    pub(crate) fn request_bytes(&mut self, ts: WallNanos, bytes: &[u8]) {
        self.request.push(ts, bytes);
    }

    /// Request content is missing here.
    pub(crate) fn request_gap(&mut self) {
        self.request.has_gap = true;
    }

    /// The final response's head, and whether its content is an event stream.
    pub(crate) fn response_head(&mut self, headers: &[Header], is_streamed: bool) {
        self.is_streamed = is_streamed;
        let given = values(headers, "mcp-session-id").next();
        self.session_id = given.map(str::to_owned).or(self.session_id.take());
    }

    /// Decoded response content, when it is no event stream.
    pub(crate) fn response_bytes(&mut self, ts: WallNanos, bytes: &[u8]) {
        self.response.push(ts, bytes);
    }

    /// Response content is missing here.
    pub(crate) fn response_gap(&mut self) {
        self.response.has_gap = true;
        self.session.gap(Way::In);
    }

    /// An event of the response stream.
    pub(crate) fn event(&mut self, ts: WallNanos, data: &str, findings: Findings<'_>) {
        self.read_request(findings);
        let mut messages = Vec::new();
        message::of_text(ts, data, &mut messages);
        self.messages(Way::In, messages, findings);
    }

    /// The exchange has ended, for this reason if it is not whole.
    pub(crate) fn finish(
        mut self,
        found: &Exchange,
        damage: Option<PartialReason>,
        findings: Findings<'_>,
    ) {
        self.read_request(findings);
        if !self.is_streamed {
            let messages = self.response.read();
            self.messages(Way::In, messages, findings);
        }
        let mut ended = Vec::new();
        let reason = damage.unwrap_or(PartialReason::NoResponse);
        self.session.close(reason, &mut |it| ended.push(it));
        let refused = found.status.filter(|status| *status >= 400 && damage.is_none());
        for ended in &mut ended {
            let Some(status) = refused.filter(|_| ended.way == Way::Out) else { continue };
            ended.call.error_message = Some(format!("HTTP status {status}"));
            (ended.call.end_ts, ended.call.partial) = (found.end_ts, None);
        }
        ended.into_iter().for_each(|it| self.hand_out(it.call, findings));
        // What the server had asked elsewhere.
        if self.session.is_client(Way::Out) == Some(true) {
            for answer in self.session.take_unasked(Way::In) {
                self.hand_out(answer, findings);
            }
        }
    }

    fn read_request(&mut self, findings: Findings<'_>) {
        if !std::mem::replace(&mut self.is_request_read, true) {
            let messages = self.request.read();
            self.messages(Way::Out, messages, findings);
        }
    }

    fn messages(&mut self, way: Way, messages: Vec<message::Message>, findings: Findings<'_>) {
        let mut ended: Vec<Ended> = Vec::new();
        for message in messages {
            self.session.message(way, message, &mut |it| ended.push(it));
        }
        // What the server asks is answered by a POST of its own.
        self.session.release(Way::In, &mut |it| ended.push(it));
        ended.into_iter().for_each(|it| self.hand_out(it.call, findings));
    }

    fn hand_out(&self, call: McpCall, findings: Findings<'_>) {
        findings(Finding::McpCall(Box::new(McpCall {
            conn_id: self.conn_id,
            http_id: Some(self.http_id),
            client: self.process,
            session_id: self.session_id.clone(),
            ..call
        })));
    }
}

/// Requests of servers that wait for the POST with their answer, by client, session and id; and answers
/// that came before, as events of different connections may change places.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    asked: BTreeMap<Key, McpCall>,
    early: BTreeMap<Key, McpCall>,
}

type Key = (Option<ProcessId>, Option<String>, Option<String>);

impl Answers {
    /// Takes a call that was found in an exchange and hands it on once it has ended.
    pub(crate) fn call(&mut self, call: McpCall, findings: Findings<'_>) {
        let key = (call.client, call.session_id.clone(), call.request_id.clone());
        if call.method.is_empty() {
            match self.asked.remove(&key) {
                Some(asked) => findings(Finding::McpCall(Box::new(answered(asked, call)))),
                None => {
                    if self.early.len() >= MAX_ASKED {
                        self.early.pop_first();
                    }
                    self.early.insert(key, call);
                }
            }
            return;
        }
        let waits = call.is_from_server
            && call.transport == "http"
            && call.request_id.is_some()
            && call.partial.is_some();
        if !waits {
            findings(Finding::McpCall(Box::new(call)));
            return;
        }
        let is_answer = |early: &McpCall| early.end_ts >= Some(call.start_ts);
        if let Some(early) = self.early.remove(&key).filter(is_answer) {
            findings(Finding::McpCall(Box::new(answered(call, early))));
            return;
        }
        if self.asked.len() >= MAX_ASKED
            && let Some((_, oldest)) = self.asked.pop_first()
        {
            findings(Finding::McpCall(Box::new(oldest)));
        }
        if let Some(unanswered) = self.asked.insert(key, call) {
            findings(Finding::McpCall(Box::new(unanswered)));
        }
    }

    /// No more answers will come.
    pub(crate) fn finish(&mut self, findings: Findings<'_>) {
        while let Some((_, call)) = self.asked.pop_first() {
            findings(Finding::McpCall(Box::new(call)));
        }
    }
}

fn answered(asked: McpCall, answer: McpCall) -> McpCall {
    McpCall {
        result: answer.result,
        error_code: answer.error_code,
        error_message: answer.error_message,
        end_ts: answer.end_ts,
        response_bytes: answer.response_bytes,
        is_cut: asked.is_cut || answer.is_cut,
        partial: answer.partial,
        ..asked
    }
}
