//! Amazon Bedrock: Converse (`POST /model/ID/converse[-stream]`) and what InvokeModel wraps around the
//! model's own API.
//!
//! Streams are messages of AWS's event stream; their kind is in a header of the message, not in the
//! payload. InvokeModel sends the model's own events in Base64. The model stands in the path. Source:
//! the provider's API reference and the wrapper in the SDK of a model's maker.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::draft::Draft;
use super::json_reader::{Field, Take};
use super::reply::{Part, Reply, Said, count, index, item, list, text};
use super::{MAX_RESPONSE_VALUE_BYTES, MAX_VALUE_BYTES};
use crate::reconstruct::finding::{BlockKind, BlockPath, BlockRole, Header, Usage};
use crate::reconstruct::http1::head::values;
use crate::time::WallNanos;

/// What is wanted of a request to Converse.
pub(super) const REQUEST: &[Field] = &[
    Field { name: "serviceTier", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "requestMetadata", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "system", take: Take::Elements },
    Field { name: "messages", take: Take::Elements },
    Field {
        name: "toolConfig",
        take: Take::Inside(&[Field { name: "tools", take: Take::Elements }]),
    },
];

/// What is wanted of a response of Converse, and of an error.
pub(super) const RESPONSE: &[Field] = &[
    Field { name: "output", take: Take::Value(MAX_RESPONSE_VALUE_BYTES) },
    Field { name: "stopReason", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "usage", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "serviceTier", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "inputTokens", take: Take::Value(MAX_VALUE_BYTES) },
];

/// The blocks of an element of a request to Converse.
pub(super) fn drafts(section: &str, element: &Value) -> Vec<Draft> {
    match section {
        "tools" => {
            let name = text(&element["toolSpec"], "name");
            let is_mark = element.get("cachePoint").is_some();
            (!is_mark).then(|| Draft::tool_definition(name, element)).into_iter().collect()
        }
        "system" => block(BlockRole::System, element).into_iter().collect(),
        _ => {
            let is_said = element["role"] == "assistant";
            let role = if is_said { BlockRole::Assistant } else { BlockRole::User };
            let at = |(index, content)| Some(block(role, content)?.at("content", index));
            list(&element["content"]).iter().enumerate().filter_map(at).collect()
        }
    }
}

/// A block is an object with one field, which says what it is.
fn block(role: BlockRole, block: &Value) -> Option<Draft> {
    let (kind, value) = block.as_object()?.iter().next()?;
    Some(match kind.as_str() {
        "text" => Draft::text(role, value.as_str().filter(|text| !text.is_empty())?),
        "reasoningContent" => {
            let reasoning = &value["reasoningText"];
            let sealed = value.get("redactedContent").unwrap_or(&reasoning["signature"]);
            Draft::thinking(reasoning["text"].as_str().unwrap_or_default(), sealed)
        }
        "toolUse" => {
            Draft::tool_use(text(value, "toolUseId"), text(value, "name"), &value["input"])
        }
        "toolResult" => Draft {
            is_error: value.get("status").map(|status| status == "error"),
            ..Draft::tool_result(text(value, "toolUseId"), &texts(&value["content"]))
        },
        "image" => Draft::opaque(role, BlockKind::Image, block),
        "document" => Draft::opaque(role, BlockKind::Document, block),
        "cachePoint" => return None,
        kind => Draft::json(role, BlockKind::Other(kind.to_owned()), block),
    })
}

/// Parts of a result with JSON as text.
fn texts(content: &Value) -> Value {
    let part = |part: &Value| match part.get("json") {
        Some(json) => [("text".to_owned(), Value::from(json.to_string()))].into_iter().collect(),
        None => part.clone(),
    };
    list(content).iter().map(part).collect()
}

/// Takes a message of the stream of Converse.
pub(super) fn converse_event(reply: &mut Reply, ts: WallNanos, kind: &str, data: &Value) {
    let key = (index(data, "contentBlockIndex"), 0);
    match kind {
        "contentBlockStart" => {
            reply.parts.begin(key, data["start"].clone(), ts);
        }
        "contentBlockDelta" => {
            let delta = &data["delta"];
            let reasoning = &delta["reasoningContent"];
            let pieces = [
                ("text", &delta["text"]),
                ("input", &delta["toolUse"]["input"]),
                ("thought", &reasoning["text"]),
                ("signature", &reasoning["signature"]),
                ("sealed", &reasoning["redactedContent"]),
            ];
            for (field, piece) in pieces {
                let Some(piece) = piece.as_str().filter(|piece| !piece.is_empty()) else {
                    continue;
                };
                if matches!(field, "text" | "input" | "thought") {
                    reply.generated(ts);
                }
                reply.parts.append(key, field, piece, ts);
            }
        }
        "contentBlockStop" => reply.parts.end(key, ts),
        "messageStop" => reply.stop_reason = text(data, "stopReason"),
        "metadata" => {
            reply.final_usage(&data["usage"]);
            reply.tier = text(&data["serviceTier"], "type").or(reply.tier.take());
            reply.ended = true;
        }
        _ => {}
    }
}

/// The event that a message of InvokeModel's stream carries.
pub(super) fn invoke_event(data: &Value) -> Option<Value> {
    let bytes = STANDARD.decode(data["bytes"].as_str()?).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The name of an error that ends a stream, of either API.
pub(super) fn is_exception(kind: &str) -> bool {
    kind.ends_with("Exception") || kind == "exception" || kind == "error"
}

/// Takes a response of Converse that is one JSON text.
pub(super) fn response(reply: &mut Reply, fields: &Value, ts: WallNanos) {
    for (at, block) in list(&fields["output"]["message"]["content"]).iter().enumerate() {
        reply.parts.begin((at as u64, 0), block.clone(), ts);
    }
    reply.parts.end_all();
    reply.stop_reason = text(fields, "stopReason");
    reply.tier = text(&fields["serviceTier"], "type");
    reply.final_usage(&fields["usage"]);
}

/// What Bedrock adds to the last event of a model's own stream, where the model said less.
pub(super) fn invocation_metrics(reply: &mut Reply, metrics: &Value) {
    let names = [
        ("inputTokenCount", "input_tokens"),
        ("outputTokenCount", "output_tokens"),
        ("cacheReadInputTokenCount", "cache_read_input_tokens"),
        ("cacheWriteInputTokenCount", "cache_creation_input_tokens"),
    ];
    for (theirs, ours) in names {
        if let Some(value) = metrics.get(theirs).filter(|_| !reply.usage_final) {
            reply.usage.insert(ours.to_owned(), value.clone());
        }
    }
    reply.usage_final = true;
}

/// The type of an error from the head of a refusal: REST-JSON services of AWS tell it there, followed
/// by a namespace that clients drop (Smithy, AWS restJson1: operation error serialization).
pub(super) fn error_header(headers: &[Header]) -> Option<String> {
    let kind = values(headers, "x-amzn-errortype").next()?;
    kind.split(':').next().map(str::trim).filter(|kind| !kind.is_empty()).map(str::to_owned)
}

/// The same from the head of a response without streaming.
pub(super) fn token_headers(reply: &mut Reply, headers: &[Header]) {
    let names = [
        ("x-amzn-bedrock-input-token-count", "input_tokens"),
        ("x-amzn-bedrock-output-token-count", "output_tokens"),
        ("x-amzn-bedrock-cache-read-input-token-count", "cache_read_input_tokens"),
        ("x-amzn-bedrock-cache-write-input-token-count", "cache_creation_input_tokens"),
    ];
    for (header, field) in names {
        let counted = values(headers, header).next().and_then(|value| value.parse::<u64>().ok());
        if let Some(counted) = counted.filter(|_| !reply.usage.contains_key(field)) {
            reply.usage.insert(field.to_owned(), counted.into());
            reply.usage_final = true;
        }
    }
}

/// The blocks of a response of Converse.
pub(super) fn said(reply: &Reply) -> Vec<Said> {
    let one = |((at, _), part): ((u64, u64), &Part)| {
        let draft = block(BlockRole::Assistant, &assembled(part))?;
        Some(part.said(draft, BlockPath { section: "content", item: item(at), part: None }))
    };
    reply.parts.iter().filter_map(one).collect()
}

/// A block, put together from what came of it.
fn assembled(part: &Part) -> Value {
    if part.texts.is_empty() {
        return part.json.clone();
    }
    let object =
        |name: &str, value: Value| -> Value { [(name.to_owned(), value)].into_iter().collect() };
    if part.texts.contains_key("input") || part.json.get("toolUse").is_some() {
        let mut tool = part.json["toolUse"].as_object().cloned().unwrap_or_default();
        tool.insert("input".to_owned(), part.text("input").into());
        return object("toolUse", Value::Object(tool));
    }
    if part.texts.contains_key("text") {
        return object("text", part.text("text").into());
    }
    let mut reasoning = Map::new();
    if part.texts.contains_key("sealed") {
        reasoning.insert("redactedContent".to_owned(), part.text("sealed").into());
    }
    let spoken = [("text", part.text("thought")), ("signature", part.text("signature"))];
    let spoken = spoken.into_iter().map(|(name, text)| (name.to_owned(), Value::from(text)));
    reasoning.insert("reasoningText".to_owned(), spoken.collect());
    object("reasoningContent", Value::Object(reasoning))
}

/// Input counts are apart from each other: uncached, read from and written to the cache.
pub(super) fn usage(fields: &Map<String, Value>) -> Usage {
    Usage {
        input_tokens: count(fields, "inputTokens"),
        cache_read_tokens: count(fields, "cacheReadInputTokens"),
        cache_creation_tokens: count(fields, "cacheWriteInputTokens"),
        output_tokens: count(fields, "outputTokens"),
        ..Usage::default()
    }
}
