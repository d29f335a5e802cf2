//! One connection: requests in, a rule for each, responses out.
//!
//! The order of notes is fixed: an exchange is begun when its request has been read whole and
//! ended when its response has been written or broken off.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use serde_json::{Value, json};

use super::api::Asked;
use super::carrier::{Carrier, Http1};
use super::http::{Request, RequestReader};
use super::response::Response;
use super::script::{Reply, Rule, Script, When, shape};
use super::truth::{Exchange, ExchangeId, Log, now};
use super::wire::{Stop, Wire};
use super::{anthropic, http2};

/// What all connections share.
pub struct Service {
    /// The truth.
    pub log: Log,
    /// Tells every thread to end.
    pub stop: Stop,
    script: Script,
    uses: Mutex<Vec<u32>>,
    answers: AtomicU64,
    tls: Arc<ServerConfig>,
}

impl Service {
    /// A service that has answered nothing yet.
    pub fn new(script: Script, log: Log, tls: Arc<ServerConfig>) -> Self {
        let uses = Mutex::new(vec![0; script.rules.len()]);
        Self { log, stop: Stop::default(), script, uses, answers: AtomicU64::new(0), tls }
    }

    /// Number of the next answer, from 1.
    pub fn next_answer(&self) -> u64 {
        self.answers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The first rule that fits and has uses left; takes one of them.
    pub fn rule_for(&self, request: &Request, body: &Value) -> Option<&Rule> {
        let mut uses = self.uses.lock().expect("no thread panics while it counts uses");
        let mut rules = self.script.rules.iter().zip(uses.iter_mut());
        let (rule, used) = rules.find(|(rule, used)| {
            rule.times.is_none_or(|times| **used < times) && rule.when.fits(request, body)
        })?;
        *used += 1;
        Some(rule)
    }

    /// Answers a request that was read whole; `begun` has what only the protocol knows of it.
    pub fn answer<C: Carrier>(
        &self,
        connection: usize,
        request: &Request,
        begun: Exchange,
        carrier: impl FnOnce(ExchangeId) -> C,
    ) -> io::Result<C> {
        let body = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let asked = Asked::of(request, &body);
        let rule = self.rule_for(request, &body);
        let id = self.log.begin(
            connection,
            Exchange {
                method: request.method.clone(),
                target: request.target.clone(),
                request_wire_bytes: request.body_wire_bytes,
                request_body_bytes: request.body.len() as u64,
                shape: shape(&body),
                request_end_ts: now(),
                api: asked.as_ref().map(|asked| asked.api.name()),
                request_model: asked.as_ref().and_then(|asked| asked.model.clone()),
                scripted: rule.is_some(),
                ..begun
            },
        );
        let unscripted;
        let rule = match rule {
            Some(rule) => rule,
            None => {
                unscripted = default_rule(request, asked.is_some());
                &unscripted
            }
        };
        let mut carrier = carrier(id);
        let asked = asked.as_ref();
        let sent = Response { service: self, carrier: &mut carrier, request, asked, rule }.send();
        self.log.end(id);
        sent.map(|()| carrier)
    }
}

/// Serves one accepted connection to its end.
pub fn serve(service: &Arc<Service>, stream: TcpStream) {
    let id = service.log.open();
    let ended =
        Wire::new(&service.tls, stream, id, &service.log, &service.stop).and_then(
            |wire| match wire.protocol() {
                Some(b"h2") => http2::serve(service, wire),
                _ => serve_requests(service, wire),
            },
        );
    let error = ended.err().map(|error| error.to_string());
    service.log.close(id, error);
}

fn serve_requests(service: &Service, mut wire: Wire<'_>) -> io::Result<()> {
    let served = serve_in_turn(service, &mut wire);
    if !matches!(served, Ok(End::Cut)) {
        wire.close();
    }
    served.map(|_| ())
}

/// What has become of a connection.
enum End {
    /// Closed in good order.
    Closed,
    /// Dropped without a word.
    Cut,
}

fn serve_in_turn(service: &Service, wire: &mut Wire<'_>) -> io::Result<End> {
    let mut reader = RequestReader::default();
    loop {
        let request_offset = reader.consumed_bytes();
        let Some(request) = reader.next(wire)? else { return Ok(End::Closed) };
        let begun = Exchange {
            request_offset,
            response_offset: wire.sent_bytes(),
            http_version: if request.http10 { "1.0" } else { "1.1" },
            ..Exchange::default()
        };
        let connection = wire.id();
        let carrier =
            service.answer(connection, &request, begun, |id| Http1::new(wire, &request, id))?;
        let Http1 { closes, is_cut, .. } = carrier;
        match (is_cut, closes) {
            (true, _) => return Ok(End::Cut),
            (false, true) => return Ok(End::Closed),
            (false, false) => {}
        }
    }
}

/// What paths get that no rule is for: agents ask for more than models.
fn default_rule(request: &Request, asks_model: bool) -> Rule {
    let (status, body) = match request.path() {
        "/v1/messages/count_tokens" => (200, json!({"input_tokens": 1234})),
        path if path.ends_with(":countTokens") => (200, json!({"totalTokens": 1234})),
        _ if asks_model => (500, anthropic::error("api_error", "the script has no answer")),
        _ => (200, json!({})),
    };
    let body = body.to_string().into_bytes();
    let content_type = "application/json".into();
    Rule::new(When::default(), Reply::Document { status, content_type, body })
}
