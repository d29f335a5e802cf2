//! Requests that look like one to a model, made to an API that is not known: shown, not guessed.
//!
//! What is needed: a model's name beside something for it to read, at the top of a JSON body. What the
//! response says of usage is handed on as it is; no count is taken from it, because what it includes
//! is not known.

use serde_json::Value;

use super::MAX_VALUE_BYTES;
use super::json_reader::{Field, Take};
use super::reply::{Reply, text};

/// What is wanted of a request.
pub(super) const REQUEST: &[Field] = &[
    Field { name: "model", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "stream", take: Take::Value(MAX_VALUE_BYTES) },
    // Only whether they are there.
    Field { name: "messages", take: Take::Value(0) },
    Field { name: "prompt", take: Take::Value(0) },
    Field { name: "input", take: Take::Value(0) },
    Field { name: "inputs", take: Take::Value(0) },
    Field { name: "contents", take: Take::Value(0) },
];

/// What a model reads.
pub(super) const READ: [&str; 5] = ["messages", "prompt", "input", "inputs", "contents"];

/// What is wanted of a response without streaming, and of an error.
pub(super) const RESPONSE: &[Field] = &[
    Field { name: "id", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "model", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "usage", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "usageMetadata", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "error", take: Take::Value(MAX_VALUE_BYTES) },
];

/// Takes an event of a stream, or a response that is one JSON text.
pub(super) fn event(reply: &mut Reply, data: &Value) {
    reply.response_id = text(data, "id").or(reply.response_id.take());
    reply.model = text(data, "model").or(reply.model.take());
    reply.merge_usage(&data["usage"]);
    reply.merge_usage(&data["usageMetadata"]);
    if let Some(error) = data.get("error").filter(|error| !error.is_null()) {
        let named = text(error, "type").or_else(|| text(error, "code"));
        reply.error_type = Some(named.unwrap_or_else(|| "error".to_owned()));
    }
}
