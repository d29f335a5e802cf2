//! What the server served, byte by byte: the measure a recording is held against.
//!
//! Plaintext is counted where it enters and leaves the TLS library. Times are `CLOCK_REALTIME` in
//! nanoseconds. Unknown is absent, never zero.

use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::answer::{Phase, Usage};

/// Everything served so far, by connection in the order they were opened.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Connections that were opened, with or without a successful handshake.
    pub connections: Vec<Connection>,
}

impl Truth {
    /// All exchanges in the order their requests ended.
    pub fn exchanges(&self) -> Vec<&Exchange> {
        let mut all: Vec<&Exchange> = self.connections.iter().flat_map(|c| &c.exchanges).collect();
        all.sort_by_key(|exchange| exchange.request_end_ts);
        all
    }

    /// The exchanges that asked a model, in the order their requests ended.
    pub fn llm_calls(&self) -> Vec<&Exchange> {
        self.exchanges().into_iter().filter(|exchange| exchange.api.is_some()).collect()
    }

    /// For each of [`Self::llm_calls`], the position in it of the failed one that it tries once
    /// more: the last one that asked the same of the same target. Agents put new ids into a request
    /// that they send again, so it is the number of messages and tools that has to be the same.
    pub fn retries(&self) -> Vec<Option<usize>> {
        let calls = self.llm_calls();
        let same = |a: &Exchange, b: &Exchange| a.target == b.target && a.shape == b.shape;
        let before = |at: usize| {
            let last = calls[..at].iter().rposition(|call| same(call, calls[at]))?;
            calls[last].failed().then_some(last)
        };
        (0..calls.len()).map(before).collect()
    }
}

/// One TCP connection.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// Counted from 0 in the order they were opened.
    pub id: usize,
    /// When it was accepted.
    pub opened_ts: i64,
    /// When the server was done with it.
    pub closed_ts: Option<i64>,
    /// What the client sent.
    pub received: Plaintext,
    /// What the client was sent.
    pub sent: Plaintext,
    /// Requests read from it, in order.
    pub exchanges: Vec<Exchange>,
    /// What ended it, when that was not an orderly close.
    pub error: Option<String>,
}

/// The plaintext of one direction.
#[derive(Clone, Debug, Default)]
pub struct Plaintext {
    /// Size.
    pub bytes: u64,
    /// The bytes themselves; empty when they are not kept.
    pub kept: Vec<u8>,
    /// Where each call of the TLS library ended in `kept`, and when.
    pub calls: Vec<(usize, i64)>,
    hasher: Sha256,
}

impl Plaintext {
    fn add(&mut self, data: &[u8], keep: bool) {
        self.bytes += data.len() as u64;
        self.hasher.update(data);
        if keep {
            self.kept.extend_from_slice(data);
            self.calls.push((self.kept.len(), now()));
        }
    }

    /// SHA-256 in lower-case hexadecimal.
    pub fn sha256(&self) -> String {
        hex(&self.hasher.clone().finalize())
    }
}

/// Names an exchange while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeId {
    /// Its connection.
    pub connection: usize,
    /// Its position among the exchanges of the connection.
    pub index: usize,
}

/// One request and what was answered. Over a WebSocket each request message is one, of the method
/// `WS`, besides the one that opened it.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// Request method.
    pub method: String,
    /// Request target, query included.
    pub target: String,
    /// Response status; 0 for messages of a WebSocket, which have none.
    pub status: u16,
    /// Position of the request's first byte in the connection's `received` plaintext.
    pub request_offset: u64,
    /// Position of the response's first byte in the connection's `sent` plaintext.
    pub response_offset: u64,
    /// Request body before content decoding, without chunk framing.
    pub request_wire_bytes: u64,
    /// Request body after content decoding.
    pub request_body_bytes: u64,
    /// Response body before content decoding, without chunk framing.
    pub response_wire_bytes: u64,
    /// Response body after content decoding.
    pub response_body_bytes: u64,
    /// When the whole request had been read.
    pub request_end_ts: i64,
    /// When the first byte of the final response was about to be written.
    pub first_byte_ts: Option<i64>,
    /// When the first generated content had been written.
    pub first_token_ts: Option<i64>,
    /// When each event of a stream had been written.
    pub event_ts: Vec<i64>,
    /// When the last byte of the response had been written.
    pub end_ts: Option<i64>,
    /// When each event had been written, by what it told; as long as `event_ts`.
    pub event_phases: Vec<Phase>,
    /// Name of the API when a model was asked.
    pub api: Option<&'static str>,
    /// Whether the response was streamed event by event.
    pub streamed: bool,
    /// The content coding of the response, if it had one.
    pub content_encoding: Option<&'static str>,
    /// Messages and tools in the request.
    pub shape: (usize, usize),
    /// `1.0`, `1.1` or `2`.
    pub http_version: &'static str,
    /// How long the answer asked to wait, in seconds.
    pub retry_after_s: Option<u64>,
    /// The model asked for.
    pub request_model: Option<String>,
    /// The model said to have answered.
    pub model: Option<String>,
    /// The counts the client was told so far.
    pub usage: Option<Usage>,
    /// Whether `usage` is final.
    pub usage_final: bool,
    /// The provider's word for why the answer ended.
    pub stop_reason: Option<String>,
    /// The provider's type of the error answered.
    pub error_type: Option<String>,
    /// Whether the response was written to its end.
    pub complete: bool,
    /// Whether a rule of the script matched; paths outside the APIs need none.
    pub scripted: bool,
}

/// The truth while it is being made.
pub struct Log {
    keep_plaintext: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    truth: Truth,
    lines: Option<Box<dyn Write + Send>>,
}

impl Log {
    /// An empty log; finished exchanges and connections also go to `lines`.
    pub fn new(keep_plaintext: bool, lines: Option<Box<dyn Write + Send>>) -> Self {
        let state = Mutex::new(State { truth: Truth::default(), lines });
        Self { keep_plaintext, state, changed: Condvar::new() }
    }

    /// A copy of what is known now.
    pub fn snapshot(&self) -> Truth {
        self.lock().truth.clone()
    }

    /// Waits for `condition` to hold, or returns what is known at `deadline` as the error.
    pub fn wait_for(
        &self,
        deadline: Instant,
        condition: impl Fn(&Truth) -> bool,
    ) -> Result<Truth, Box<Truth>> {
        let mut state = self.lock();
        while !condition(&state.truth) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Box::new(state.truth.clone()));
            }
            state = self.changed.wait_timeout(state, left).expect("no thread panics here").0;
        }
        Ok(state.truth.clone())
    }

    /// Notes a new connection and returns its id.
    pub fn open(&self) -> usize {
        let mut state = self.lock();
        let id = state.truth.connections.len();
        state.truth.connections.push(Connection { id, opened_ts: now(), ..Connection::default() });
        self.changed.notify_all();
        id
    }

    /// Notes plaintext that the client sent.
    pub fn received(&self, connection: usize, data: &[u8]) {
        let keep = self.keep_plaintext;
        self.update(connection, |connection| connection.received.add(data, keep));
    }

    /// Notes plaintext handed to the TLS library for the client.
    pub fn sent(&self, connection: usize, data: &[u8]) {
        let keep = self.keep_plaintext;
        self.update(connection, |connection| connection.sent.add(data, keep));
    }

    /// Notes a request that was read.
    pub fn begin(&self, connection: usize, exchange: Exchange) -> ExchangeId {
        self.update(connection, |connection| {
            connection.exchanges.push(exchange);
            ExchangeId { connection: connection.id, index: connection.exchanges.len() - 1 }
        })
    }

    /// Changes what is known of an exchange.
    pub fn note(&self, id: ExchangeId, change: impl FnOnce(&mut Exchange)) {
        self.update(id.connection, |connection| change(&mut connection.exchanges[id.index]));
    }

    /// Notes that nothing more will be written for an exchange.
    pub fn end(&self, id: ExchangeId) {
        let mut state = self.lock();
        let State { truth, lines } = &mut *state;
        let exchange = &truth.connections[id.connection].exchanges[id.index];
        write_line(lines, &exchange.to_json(id.connection));
        self.changed.notify_all();
    }

    /// Notes that the connection is over.
    pub fn close(&self, connection: usize, error: Option<String>) {
        let mut state = self.lock();
        let State { truth, lines } = &mut *state;
        let closing = &mut truth.connections[connection];
        closing.closed_ts = Some(now());
        closing.error = error;
        write_line(lines, &closing.to_json());
        self.changed.notify_all();
    }

    fn update<T>(&self, connection: usize, change: impl FnOnce(&mut Connection) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state.truth.connections[connection]);
        self.changed.notify_all();
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the truth")
    }
}

impl Connection {
    fn to_json(&self) -> Value {
        json!({
            "type": "connection",
            "connection": self.id,
            "opened_ts": self.opened_ts,
            "closed_ts": self.closed_ts,
            "received_bytes": self.received.bytes,
            "received_sha256": self.received.sha256(),
            "sent_bytes": self.sent.bytes,
            "sent_sha256": self.sent.sha256(),
            "exchanges": self.exchanges.len(),
            "error": self.error,
        })
    }
}

impl Exchange {
    /// Whether the client did not get its answer.
    pub fn failed(&self) -> bool {
        self.status >= 400 || self.error_type.is_some() || !self.complete
    }

    /// The response's status, if it has one.
    pub fn known_status(&self) -> Option<u16> {
        (self.status != 0).then_some(self.status)
    }

    /// What the counts are worth: final, those of an answer that broke off, or none. Chat streams
    /// that are cut were going to tell theirs.
    pub fn usage_state(&self) -> &'static str {
        let was_to_come = self.streamed && !self.complete && self.api == Some("openai_chat");
        match (&self.usage, self.usage_final) {
            (Some(_), true) => "reported",
            (Some(_), false) => "partial",
            (None, _) if was_to_come => "partial",
            (None, _) => "none",
        }
    }

    fn to_json(&self, connection: usize) -> Value {
        json!({
            "type": "exchange",
            "connection": connection,
            "method": self.method,
            "target": self.target,
            "status": self.known_status(),
            "request_wire_bytes": self.request_wire_bytes,
            "request_body_bytes": self.request_body_bytes,
            "response_wire_bytes": self.response_wire_bytes,
            "response_body_bytes": self.response_body_bytes,
            "request_end_ts": self.request_end_ts,
            "first_byte_ts": self.first_byte_ts,
            "first_token_ts": self.first_token_ts,
            "event_ts": self.event_ts,
            "event_phases": self.event_phases.iter().map(|phase| phase.as_str()).collect::<Vec<_>>(),
            "end_ts": self.end_ts,
            "api": self.api,
            "http_version": self.http_version,
            "streamed": self.streamed,
            "content_encoding": self.content_encoding,
            "messages": self.shape.0,
            "tools": self.shape.1,
            "retry_after_s": self.retry_after_s,
            "request_model": self.request_model,
            "model": self.model,
            "usage": self.usage.as_ref().map(Usage::to_json),
            "usage_final": self.usage_final,
            "stop_reason": self.stop_reason,
            "error_type": self.error_type,
            "complete": self.complete,
            "scripted": self.scripted,
        })
    }
}

/// A truth file that cannot be written must not change what the client sees.
fn write_line(lines: &mut Option<Box<dyn Write + Send>>, value: &Value) {
    if let Some(lines) = lines {
        let written = writeln!(lines, "{value}").and_then(|()| lines.flush());
        written.unwrap_or_else(|error| eprintln!("mock-llm: cannot write the truth: {error}"));
    }
}

/// Nanoseconds since 1970 by the wall clock.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
