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

use super::anthropic;
use super::http::{Request, RequestReader};
use super::response::{End, Response};
use super::script::{ANTHROPIC_PATH, OPENAI_PATH, Reply, Rule, Script, When};
use super::truth::{Exchange, Log, now};
use super::wire::{Stop, Wire};

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
    fn rule_for(&self, request: &Request, body: &Value) -> Option<&Rule> {
        let mut uses = self.uses.lock().expect("no thread panics while it counts uses");
        let mut rules = self.script.rules.iter().zip(uses.iter_mut());
        let (rule, used) = rules.find(|(rule, used)| {
            rule.times.is_none_or(|times| **used < times) && rule.when.fits(request, body)
        })?;
        *used += 1;
        Some(rule)
    }
}

/// Serves one accepted connection to its end.
pub fn serve(service: &Service, stream: TcpStream) {
    let id = service.log.open();
    let ended =
        Wire::new(&service.tls, stream, id, &service.log, &service.stop).and_then(|mut wire| {
            let served = serve_requests(service, &mut wire);
            if !matches!(served, Ok(End::Cut)) {
                wire.close();
            }
            served
        });
    let error = ended.err().map(|error| error.to_string());
    service.log.close(id, error);
}

fn serve_requests(service: &Service, wire: &mut Wire<'_>) -> io::Result<End> {
    let mut reader = RequestReader::default();
    loop {
        let request_offset = reader.consumed_bytes();
        let Some(request) = reader.next(wire)? else { return Ok(End::Closed) };
        let body = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let api = match request.path() {
            ANTHROPIC_PATH => Some("anthropic_messages"),
            OPENAI_PATH => Some("openai_chat"),
            _ => None,
        };
        let rule = service.rule_for(&request, &body);
        service.log.begin(
            wire.id(),
            Exchange {
                method: request.method.clone(),
                target: request.target.clone(),
                request_offset,
                response_offset: wire.sent_bytes(),
                request_wire_bytes: request.body_wire_bytes,
                request_body_bytes: request.body.len() as u64,
                request_end_ts: now(),
                api,
                request_model: body["model"].as_str().map(String::from),
                scripted: rule.is_some(),
                ..Exchange::default()
            },
        );
        let unscripted;
        let rule = match rule {
            Some(rule) => rule,
            None => {
                unscripted = default_rule(&request, api);
                &unscripted
            }
        };
        let mut response = Response { service, wire, request: &request, rule };
        let ended = response.send(&body);
        service.log.end(wire.id());
        match ended? {
            End::Open => {}
            end => return Ok(end),
        }
    }
}

/// What paths get that no rule is for: agents ask for more than models.
fn default_rule(request: &Request, api: Option<&str>) -> Rule {
    let (status, body) = match request.path() {
        "/v1/messages/count_tokens" => (200, json!({"input_tokens": 1234})),
        _ if api.is_some() => (500, anthropic::error("api_error", "the script has no answer")),
        _ => (200, json!({})),
    };
    let body = body.to_string().into_bytes();
    let content_type = "application/json".into();
    Rule::new(When::default(), Reply::Document { status, content_type, body })
}
