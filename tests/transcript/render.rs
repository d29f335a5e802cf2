//! Findings as text that a person can review: one finding per block, absent fields left out,
//! times in milliseconds since the start of the transcript.

#[path = "render/conversation.rs"]
mod conversation;

use std::fmt::Write as _;

use agentsight::reconstruct::finding::{
    Block, CallClass, Completeness, Exchange, Finding, Header, Limit, LlmCall, McpCall,
    Perspective, StreamEvent,
};
use agentsight::time::WallNanos;

use super::transcript::START;

/// All findings in order.
pub(crate) fn findings(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        match finding {
            Finding::Exchange(found) => exchange(&mut out, found),
            Finding::StreamEvent(found) => stream_event(&mut out, found),
            Finding::LlmCall(found) => llm_call(&mut out, found),
            Finding::Block(found) => block(&mut out, found),
            Finding::Limit(found) => limit(&mut out, found),
            Finding::ToolCall(found) => conversation::tool_call(&mut out, found),
            Finding::Carried(found) => conversation::carried(&mut out, found),
            Finding::Placed(found) => conversation::placed(&mut out, found),
            Finding::CacheBreak(found) => conversation::cache_break(&mut out, found),
            Finding::Turn(found) => conversation::turn(&mut out, found),
            Finding::Conversation(found) => conversation::conversation(&mut out, found),
            Finding::McpCall(found) => mcp_call(&mut out, found),
        }
    }
    out
}

fn exchange(out: &mut String, found: &Exchange) {
    writeln!(out, "exchange {}", found.http_id).unwrap();
    let completeness = match found.completeness {
        Completeness::Complete => "complete",
        Completeness::Partial(reason) => reason.as_str(),
    };
    line(out, "conn_id", Some(found.conn_id));
    let server = (found.perspective == Perspective::Server).then_some("server");
    line(out, "role", server);
    line(out, "scheme", Some(&found.scheme).filter(|scheme| *scheme != "https"));
    line(out, "method", found.method.as_ref());
    line(out, "host", found.host.as_ref());
    line(out, "path", found.path.as_ref());
    line(out, "http_version", Some(&found.http_version));
    line(out, "status", found.status);
    line(out, "completeness", Some(completeness));
    line(out, "lost_bytes", Some(found.lost_bytes).filter(|lost| *lost > 0));
    line(out, "start_ms", ms(Some(found.start_ts)));
    line(out, "request_end_ms", ms(found.request_end_ts));
    line(out, "first_byte_ms", ms(found.first_byte_ts));
    line(out, "end_ms", ms(found.end_ts));
    line(out, "max_gap_ms", found.max_gap_ms);
    headers(out, "request_header", &found.request_headers);
    let sizes = |body, wire| format!("{body} (wire {wire})");
    line(
        out,
        "request_body_bytes",
        Some(sizes(found.request_body_bytes, found.request_wire_bytes)),
    );
    body(out, "request_body", found.request_body.as_deref());
    headers(out, "response_header", &found.response_headers);
    line(out, "content_encoding", found.content_encoding.as_ref());
    let response_sizes = sizes(found.response_body_bytes, found.response_wire_bytes);
    line(out, "response_body_bytes", Some(response_sizes));
    body(out, "response_body", found.response_body.as_deref());
}

fn stream_event(out: &mut String, found: &StreamEvent) {
    let at = ms(Some(found.ts)).unwrap();
    let (http_id, seq) = (found.http_id, found.seq);
    let event = found.event.as_deref().unwrap_or("-");
    writeln!(out, "event {http_id}.{seq} at {at} {event} {}", found.data.escape_debug()).unwrap();
}

fn llm_call(out: &mut String, found: &LlmCall) {
    writeln!(out, "llm_call {}", found.call_id).unwrap();
    line(out, "agent", found.agent.as_ref());
    line(out, "provider", Some(&found.provider));
    line(out, "api", Some(&found.api));
    line(out, "transport", Some(&found.transport));
    line(out, "error_type", found.error_type.as_ref());
    line(out, "request_model", found.request_model.as_ref());
    line(out, "model", found.model.as_ref());
    line(out, "stop_reason", found.stop_reason.as_ref());
    line(out, "first_token_ms", ms(found.first_token_ts));
    line(out, "input_tokens", found.usage.input_tokens);
    line(out, "cache_read_tokens", found.usage.cache_read_tokens);
    line(out, "cache_creation_tokens", found.usage.cache_creation_tokens);
    line(out, "cache_creation_1h_tokens", found.usage.cache_creation_1h_tokens);
    line(out, "total_input_tokens", found.usage.total_input_tokens());
    line(out, "output_tokens", found.usage.output_tokens);
    line(out, "reasoning_tokens", found.usage.reasoning_tokens);
    line(out, "usage_state", Some(found.usage_state.as_str()));
    line(out, "usage_json", found.usage.usage_json.as_ref());
    line(out, "reported_cost_usd", found.usage.reported_cost_usd);
    line(out, "request_tier", found.request_tier.as_ref());
    line(out, "tier", found.tier.as_ref());
    line(out, "retry_after_ms", found.retry_after_ms);
    line(out, "cache_miss_reason", found.cache_miss_reason.as_ref());
    line(out, "cache_missed_tokens", found.cache_missed_tokens);
    for (from, to) in &found.pauses {
        line(out, "pause_ms", Some(format!("{} to {}", from.ms_since(START), to.ms_since(START))));
    }
    line(out, "request_id", found.request_id.as_ref());
    line(out, "response_id", found.response_id.as_ref());
    let ids = &found.correlation;
    line(out, "session_id", ids.session_id.as_ref());
    line(out, "thread_id", ids.thread_id.as_ref());
    line(out, "prompt_id", ids.prompt_id.as_ref());
    line(out, "agent_id", ids.agent_id.as_ref());
    line(out, "parent_agent_id", ids.parent_agent_id.as_ref());
    line(out, "request_class", ids.request_class.as_ref());
    line(out, "previous_response_id", ids.previous_response_id.as_ref());
    line(out, "client_request_id", ids.client_request_id.as_ref());
    let class = found.placement.class;
    line(out, "call_class", (class != CallClass::Main).then_some(class.as_str()));
}

fn block(out: &mut String, found: &Block) {
    writeln!(out, "block {}", found.block_id).unwrap();
    line(out, "call_id", Some(found.call_id));
    line(out, "at_ms", ms(Some(found.ts)));
    line(out, "role", Some(found.role.as_str()));
    line(out, "block_type", Some(found.kind.as_str()));
    line(out, "text", found.text.as_ref().map(|text| text.escape_debug()));
    line(out, "is_cut", found.is_cut.then_some(true));
    line(out, "tool_name", found.tool_name.as_ref());
    line(out, "tool_call_id", found.tool_call_id.as_ref());
    line(out, "is_error", found.is_error);
    line(out, "bytes", Some(found.bytes));
}

fn limit(out: &mut String, found: &Limit) {
    writeln!(out, "limit {} {}", found.http_id, found.name).unwrap();
    line(out, "at_ms", ms(Some(found.ts)));
    line(out, "allowed", found.limit);
    line(out, "remaining", found.remaining);
    line(out, "used_percent", found.used_percent);
    line(out, "reset_ts", found.reset_ts.map(|ts| ts.0));
    line(out, "status", found.status.as_ref());
}

fn mcp_call(out: &mut String, found: &McpCall) {
    let id = found.request_id.as_deref().unwrap_or("-");
    writeln!(out, "mcp_call {id} {}", found.method).unwrap();
    line(out, "conn_id", Some(found.conn_id));
    line(out, "http_id", found.http_id);
    line(out, "transport", Some(found.transport));
    line(out, "client_pid", found.client.map(|process| process.pid));
    line(out, "server_pid", found.server.map(|process| process.pid));
    line(out, "server_name", found.server_name.as_ref());
    line(out, "session_id", found.session_id.as_ref());
    line(out, "protocol_version", found.protocol_version.as_ref());
    line(out, "is_from_server", Some("yes").filter(|_| found.is_from_server));
    line(out, "target", found.target.as_ref());
    line(out, "params", found.params.as_ref());
    line(out, "result", found.result.as_ref());
    line(out, "error_code", found.error_code);
    line(out, "error_message", found.error_message.as_ref());
    line(out, "is_error", found.is_error);
    line(out, "is_cancelled", Some("yes").filter(|_| found.is_cancelled));
    line(out, "is_cut", Some("yes").filter(|_| found.is_cut));
    line(out, "start_ms", ms(Some(found.start_ts)));
    line(out, "end_ms", ms(found.end_ts));
    line(out, "request_bytes", Some(found.request_bytes));
    line(out, "response_bytes", found.response_bytes);
    line(out, "progress", Some(found.progress).filter(|progress| *progress > 0));
    line(out, "partial", found.partial.map(|reason| reason.as_str()));
}

fn line(out: &mut String, name: &str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        writeln!(out, "  {name}: {value}").unwrap();
    }
}

fn ms(ts: Option<WallNanos>) -> Option<f64> {
    ts.map(|ts| ts.ms_since(START))
}

fn headers(out: &mut String, name: &str, headers: &[Header]) {
    for (key, value) in headers {
        writeln!(out, "  {name}: {}: {}", key.escape_debug(), value.escape_debug()).unwrap();
    }
}

fn body(out: &mut String, name: &str, body: Option<&[u8]>) {
    if let Some(body) = body.filter(|body| !body.is_empty()) {
        writeln!(out, "  {name}: {}", body.escape_ascii()).unwrap();
    }
}
