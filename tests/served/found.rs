//! What reconstruction finds, set against what was served.

use agentsight::reconstruct::finding::{Completeness, Finding, LlmCall};
use agentsight::reconstruct::{Options, Reconstructor};
use serde_json::{Value, json};

use super::events;
use super::support::mock::truth::{Exchange, Truth};

/// All findings of what a server served.
pub fn all(truth: &Truth) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut reconstructor = Reconstructor::new(Options::default());
    for event in events::of(truth) {
        reconstructor.push(&event, &mut |finding| findings.push(finding));
    }
    reconstructor.finish(&mut |finding| findings.push(finding));
    findings
}

/// The calls of models among them, in the order their requests ended.
pub fn calls(findings: &[Finding]) -> Vec<&LlmCall> {
    let mut calls: Vec<&LlmCall> = Vec::new();
    for finding in findings {
        if let Finding::LlmCall(call) = finding {
            calls.push(call);
        }
    }
    calls.sort_by_key(|call| (call.exchange.request_end_ts, call.call_id));
    calls
}

/// Holds the calls and exchanges found against those served.
#[track_caller]
pub fn equal_served(name: &str, truth: &Truth) {
    let findings = all(truth);
    let found = exchanges(&findings).into_iter().map(exchange_row).collect();
    let served = truth.exchanges().into_iter().map(served_exchange_row).collect();
    equal_rows(&format!("{name}: exchanges"), found, served);
    let found = calls(&findings).into_iter().map(found_row).collect();
    let served = truth.llm_calls().into_iter().map(served_row).collect();
    equal_rows(&format!("{name}: calls"), found, served);
    // Of refusals it does not matter whether they count as a stream that was asked for.
    let refused: Vec<u64> = exchanges(&findings)
        .into_iter()
        .filter(|exchange| exchange.status >= Some(400))
        .map(|exchange| exchange.http_id)
        .collect();
    let is_event = |finding: &&Finding| match finding {
        Finding::StreamEvent(event) => !refused.contains(&event.http_id),
        _ => false,
    };
    let found = findings.iter().filter(is_event).count();
    let served: usize = truth.exchanges().iter().map(|exchange| exchange.event_ts.len()).sum();
    assert_eq!(found, served, "{name}: stream events");
}

/// The same rows, in an order of their own: streams side by side end as they like.
#[track_caller]
fn equal_rows(name: &str, mut found: Vec<Value>, mut served: Vec<Value>) {
    found.sort_by_key(Value::to_string);
    served.sort_by_key(Value::to_string);
    let lines = |rows: &[Value]| rows.iter().map(|row| format!("  {row}\n")).collect::<String>();
    let is_same = found == served;
    assert!(is_same, "{name}\nfound:\n{}served:\n{}", lines(&found), lines(&served));
}

/// The exchanges among findings, in the order their requests ended.
fn exchanges(findings: &[Finding]) -> Vec<&agentsight::reconstruct::finding::Exchange> {
    let mut exchanges = Vec::new();
    for finding in findings {
        if let Finding::Exchange(exchange) = finding {
            exchanges.push(&**exchange);
        }
    }
    exchanges
}

fn exchange_row(exchange: &agentsight::reconstruct::finding::Exchange) -> Value {
    json!({
        "method": exchange.method,
        "path": exchange.path,
        "status": exchange.status,
        "http_version": exchange.http_version,
        "content_encoding": exchange.content_encoding,
        "complete": exchange.completeness == Completeness::Complete,
        "request_body_bytes": exchange.request_body_bytes,
        "request_wire_bytes": exchange.request_wire_bytes,
        "response_body_bytes": exchange.response_body_bytes,
        "response_wire_bytes": exchange.response_wire_bytes,
        "lost_bytes": exchange.lost_bytes,
    })
}

fn served_exchange_row(exchange: &Exchange) -> Value {
    json!({
        "method": exchange.method,
        "path": exchange.target,
        "status": exchange.known_status(),
        "http_version": exchange.http_version,
        "content_encoding": exchange.content_encoding,
        "complete": exchange.complete,
        "request_body_bytes": exchange.request_body_bytes,
        "request_wire_bytes": exchange.request_wire_bytes,
        "response_body_bytes": exchange.response_body_bytes,
        "response_wire_bytes": exchange.response_wire_bytes,
        "lost_bytes": 0,
    })
}

/// The counts found.
pub fn usage_row(call: &LlmCall) -> Value {
    json!({
        "input": call.usage.input_tokens,
        "cache_read": call.usage.cache_read_tokens,
        "cache_creation": call.usage.cache_creation_tokens,
        "output": call.usage.output_tokens,
        "reasoning": call.usage.reasoning_tokens,
    })
}

fn found_row(call: &LlmCall) -> Value {
    let exchange = &call.exchange;
    json!({
        "method": exchange.method,
        "path": exchange.path,
        "status": exchange.status,
        "api": call.api,
        "request_model": call.request_model,
        "model": call.model,
        "stop_reason": call.stop_reason,
        "error_type": call.error_type,
        "input": call.usage.input_tokens,
        "cache_read": call.usage.cache_read_tokens,
        "cache_creation": call.usage.cache_creation_tokens,
        "cache_creation_1h": call.usage.cache_creation_1h_tokens,
        "output": call.usage.output_tokens,
        "reasoning": call.usage.reasoning_tokens,
        "usage_state": call.usage_state.as_str(),
        "retry_after_ms": call.retry_after_ms,
        "has_first_token": call.first_token_ts.is_some(),
        "complete": exchange.completeness == Completeness::Complete,
        "request_body_bytes": exchange.request_body_bytes,
        "request_wire_bytes": exchange.request_wire_bytes,
        "response_body_bytes": exchange.response_body_bytes,
        "response_wire_bytes": exchange.response_wire_bytes,
    })
}

fn served_row(call: &Exchange) -> Value {
    let usage = call.usage.as_ref();
    json!({
        "method": call.method,
        "path": call.target,
        "status": call.known_status(),
        "api": call.api,
        "request_model": call.request_model,
        "model": call.model,
        "stop_reason": call.stop_reason,
        "error_type": call.error_type,
        "input": usage.map(|usage| usage.input_tokens),
        "cache_read": usage.and_then(|usage| usage.cache_read_tokens),
        "cache_creation": usage.and_then(|usage| usage.cache_creation_tokens),
        "cache_creation_1h": usage.and_then(|usage| usage.cache_creation_1h_tokens),
        "output": usage.map(|usage| usage.output_tokens),
        "reasoning": usage.and_then(|usage| usage.reasoning_tokens),
        "usage_state": call.usage_state(),
        "retry_after_ms": call.retry_after_s.map(|seconds| seconds as f64 * 1e3),
        "has_first_token": call.first_token_ts.is_some(),
        "complete": call.complete,
        "request_body_bytes": call.request_body_bytes,
        "request_wire_bytes": call.request_wire_bytes,
        "response_body_bytes": call.response_body_bytes,
        "response_wire_bytes": call.response_wire_bytes,
    })
}
