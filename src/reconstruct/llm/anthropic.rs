//! Anthropic Messages (`POST /v1/messages`): its events, responses and usage.
//!
//! Usage is cumulative: `message_start` has the first counts, each `message_delta` newer ones that
//! overwrite them. Source: the types of the provider's SDK.

use serde_json::{Map, Value};

use super::json_fields::JsonFields;
use super::{Reply, text};
use crate::reconstruct::finding::Usage;
use crate::time::WallNanos;

/// Top-level fields of a response without streaming, and of an error.
pub(super) const RESPONSE_FIELDS: &[&str] = &["id", "model", "stop_reason", "usage", "error"];

/// Takes one event of a stream.
pub(super) fn event(reply: &mut Reply, ts: WallNanos, event: Option<&str>, data: &str) {
    // Deltas are most of a stream and, once the first has come, say nothing that is kept.
    if event == Some("content_block_delta") && reply.first_token_ts.is_some() {
        return;
    }
    let Ok(data) = serde_json::from_str::<Value>(data) else { return };
    // The type stands in the data; the event's name only repeats it.
    match data.get("type").and_then(Value::as_str) {
        Some("message_start") => message_start(reply, &data["message"]),
        Some("content_block_delta") if is_generated(&data["delta"]) => {
            reply.first_token_ts.get_or_insert(ts);
        }
        Some("message_delta") => {
            if let Some(reason) = text(&data["delta"], "stop_reason") {
                reply.stop_reason = Some(reason);
            }
            if data["usage"].is_object() {
                reply.merge_usage(&data["usage"]);
                reply.usage_final = true;
            }
        }
        Some("message_stop") => reply.ended = true,
        Some("error") => reply.error_type = error_type(&data["error"]),
        _ => {}
    }
}

fn message_start(reply: &mut Reply, message: &Value) {
    reply.response_id = text(message, "id");
    reply.model = text(message, "model");
    reply.merge_usage(&message["usage"]);
}

/// Text, thinking or tool arguments; not signatures and citations.
fn is_generated(delta: &Value) -> bool {
    ["text", "thinking", "partial_json"].iter().any(|field| text(delta, field).is_some())
}

/// Takes a response that is one JSON text.
pub(super) fn response(reply: &mut Reply, fields: &JsonFields) {
    if let Some(error) = fields.value("error") {
        reply.error_type = error_type(&error);
    }
    reply.response_id = fields.text("id");
    reply.model = fields.text("model");
    reply.stop_reason = fields.text("stop_reason");
    if let Some(usage) = fields.value("usage") {
        reply.merge_usage(&usage);
        reply.usage_final = true;
    }
}

/// An error without a type is still an error.
fn error_type(error: &Value) -> Option<String> {
    (!error.is_null()).then(|| text(error, "type").unwrap_or_else(|| "error".to_owned()))
}

/// Input counts are apart from each other: uncached, read from and written to the cache.
pub(super) fn usage(fields: &Map<String, Value>) -> Usage {
    let count = |name: &str| fields.get(name).and_then(Value::as_u64);
    let by_lifetime = || {
        let mut parts = fields.get("cache_creation")?.as_object()?.values();
        parts.try_fold(0_u64, |sum, part| sum.checked_add(part.as_u64()?))
    };
    Usage {
        input_tokens: count("input_tokens"),
        cache_read_tokens: count("cache_read_input_tokens"),
        cache_creation_tokens: count("cache_creation_input_tokens").or_else(by_lifetime),
        output_tokens: count("output_tokens"),
        reasoning_tokens: fields
            .get("output_tokens_details")
            .and_then(|details| details.get("thinking_tokens"))
            .and_then(Value::as_u64),
        ..Usage::default()
    }
}
