//! OpenAI Chat Completions (`POST .../chat/completions`): its chunks, responses and usage.
//!
//! A stream has usage only when the request asked for it (`stream_options.include_usage`), in one
//! more chunk without choices before `[DONE]`. Many servers speak this API; what they add is
//! passed over. Source: the types of the provider's SDK.

use serde_json::{Map, Value};

use super::json_fields::JsonFields;
use super::{Reply, text};
use crate::reconstruct::finding::Usage;
use crate::time::WallNanos;

/// Top-level fields of a response without streaming, and of an error.
pub(super) const RESPONSE_FIELDS: &[&str] = &["id", "model", "choices", "usage", "error"];

/// Takes one event of a stream.
pub(super) fn event(reply: &mut Reply, ts: WallNanos, data: &str) {
    if data.trim() == "[DONE]" {
        reply.ended = true;
        reply.usage_final = true;
        return;
    }
    let Ok(chunk) = serde_json::from_str::<Value>(data) else { return };
    if let Some(error) = chunk.get("error") {
        reply.error_type = error_type(error).or(reply.error_type.take());
    }
    reply.response_id = text(&chunk, "id").or(reply.response_id.take());
    reply.model = text(&chunk, "model").or(reply.model.take());
    let choices = chunk["choices"].as_array().map_or(&[][..], Vec::as_slice);
    for choice in choices {
        if is_generated(&choice["delta"]) {
            reply.first_token_ts.get_or_insert(ts);
        }
        reply.stop_reason = text(choice, "finish_reason").or(reply.stop_reason.take());
    }
    if chunk["usage"].is_object() {
        reply.merge_usage(&chunk["usage"]);
        // Some servers report as they go: those counts are final once the answer has ended.
        reply.usage_final |= choices.is_empty() || reply.stop_reason.is_some();
    }
}

/// Text, reasoning (under the names compatible servers give it) or tool arguments.
fn is_generated(delta: &Value) -> bool {
    let has = |value: &Value, names: &[&str]| names.iter().any(|name| text(value, name).is_some());
    let in_call =
        |call: &Value| has(&call["function"], &["arguments"]) || has(&call["custom"], &["input"]);
    has(delta, &["content", "refusal", "reasoning", "reasoning_content"])
        || has(&delta["function_call"], &["arguments"])
        || delta["tool_calls"].as_array().is_some_and(|calls| calls.iter().any(in_call))
}

/// Takes a response that is one JSON text.
pub(super) fn response(reply: &mut Reply, fields: &JsonFields) {
    if let Some(error) = fields.value("error") {
        reply.error_type = error_type(&error);
    }
    reply.response_id = fields.text("id");
    reply.model = fields.text("model");
    let choices = fields.value("choices");
    reply.stop_reason = choices.and_then(|choices| text(choices.get(0)?, "finish_reason"));
    if let Some(usage) = fields.value("usage") {
        reply.merge_usage(&usage);
        reply.usage_final = true;
    }
}

/// The type, else the code, else that there was an error.
fn error_type(error: &Value) -> Option<String> {
    if error.is_null() {
        return None;
    }
    let named = text(error, "type").or_else(|| text(error, "code"));
    Some(named.unwrap_or_else(|| "error".to_owned()))
}

/// `prompt_tokens` includes cached tokens, read and written; `completion_tokens` reasoning.
pub(super) fn usage(fields: &Map<String, Value>) -> Usage {
    let count = |name: &str| fields.get(name).and_then(Value::as_u64);
    let detail = |of: &str, name: &str| fields.get(of)?.get(name)?.as_u64();
    let read = detail("prompt_tokens_details", "cached_tokens");
    let written = detail("prompt_tokens_details", "cache_write_tokens");
    let cached = read.unwrap_or(0).saturating_add(written.unwrap_or(0));
    Usage {
        input_tokens: count("prompt_tokens").map(|all| all.saturating_sub(cached)),
        cache_read_tokens: read,
        cache_creation_tokens: written,
        output_tokens: count("completion_tokens"),
        reasoning_tokens: detail("completion_tokens_details", "reasoning_tokens"),
        ..Usage::default()
    }
}
