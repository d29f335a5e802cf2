//! Anthropic Messages (`POST /v1/messages`), also as Bedrock and Vertex serve it: requests, events,
//! responses and usage.
//!
//! Usage is cumulative: `message_start` has the first counts, each `message_delta` newer ones that
//! overwrite them. A block that is streamed is put together into what a response without streaming
//! has, so that both, and the next request, give the same. Source: the types of the provider's SDK.

use serde_json::{Map, Value};

use super::draft::Draft;
use super::json_reader::{Field, Take};
use super::reply::{Part, Reply, Said, count, detail, index, item, list, text};
use super::{MAX_RESPONSE_VALUE_BYTES, MAX_VALUE_BYTES};
use crate::reconstruct::finding::{BlockKind, BlockPath, BlockRole, Usage};
use crate::time::WallNanos;

/// What is wanted of a request.
pub(super) const REQUEST: &[Field] = &[
    Field { name: "model", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "stream", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "service_tier", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "speed", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "max_tokens", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "metadata", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "thread", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "system", take: Take::Elements },
    Field { name: "tools", take: Take::Elements },
    Field { name: "messages", take: Take::Elements },
];

/// What is wanted of a response without streaming, and of an error.
pub(super) const RESPONSE: &[Field] = &[
    Field { name: "id", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "model", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "stop_reason", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "usage", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "error", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "diagnostics", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "content", take: Take::Value(MAX_RESPONSE_VALUE_BYTES) },
    // What counting tokens answers.
    Field { name: "input_tokens", take: Take::Value(MAX_VALUE_BYTES) },
];

/// The blocks of an element of a request.
pub(super) fn drafts(section: &str, element: &Value) -> Vec<Draft> {
    match section {
        "tools" => {
            let name = text(element, "name").or_else(|| text(element, "type"));
            vec![Draft::tool_definition(name, element)]
        }
        "system" => block(BlockRole::System, element).into_iter().collect(),
        _ => message(element),
    }
}

fn message(message: &Value) -> Vec<Draft> {
    let role = match message["role"].as_str() {
        Some("assistant") => BlockRole::Assistant,
        Some("system") => BlockRole::System,
        _ => BlockRole::User,
    };
    let content = match &message["content"] {
        Value::Array(blocks) => &blocks[..],
        Value::Null => return Vec::new(),
        string => std::slice::from_ref(string),
    };
    let at = |(index, content)| Some(block(role, content)?.at("content", index));
    content.iter().enumerate().filter_map(at).collect()
}

/// One block, of a request or response; `None` for text without text.
fn block(role: BlockRole, block: &Value) -> Option<Draft> {
    if let Value::String(text) = block {
        return (!text.is_empty()).then(|| Draft::text(role, text));
    }
    let id = |name| text(block, name);
    // Other models on Bedrock leave the type out where it is text.
    let kind =
        block["type"].as_str().unwrap_or(if block["text"].is_string() { "text" } else { "" });
    Some(match kind {
        "text" => Draft::text(role, &text(block, "text")?),
        "thinking" => {
            let thinking = block["thinking"].as_str().unwrap_or_default();
            Draft::thinking(thinking, &block["signature"])
        }
        "redacted_thinking" => Draft::thinking("", &block["data"]),
        "tool_use" => Draft::tool_use(id("id"), id("name"), input(block)),
        "tool_result" => Draft {
            is_error: block["is_error"].as_bool(),
            ..Draft::tool_result(id("tool_use_id"), &block["content"])
        },
        "image" => Draft::opaque(role, BlockKind::Image, block),
        "document" => Draft::opaque(role, BlockKind::Document, block),
        "compaction" => match text(block, "content") {
            Some(summary) => Draft::new(role, BlockKind::Compaction, &summary),
            None => Draft::opaque(role, BlockKind::Compaction, block),
        },
        // What the provider runs itself, by its own word.
        kind if kind.ends_with("_tool_use") => Draft {
            kind: BlockKind::Other(kind.to_owned()),
            ..Draft::tool_use(id("id"), id("name"), input(block))
        },
        kind if kind.ends_with("_tool_result") => Draft {
            kind: BlockKind::Other(kind.to_owned()),
            ..Draft::tool_result(id("tool_use_id"), &block["content"])
        },
        kind => {
            let name = if kind.is_empty() { "unknown" } else { kind };
            Draft::json(role, BlockKind::Other(name.to_owned()), block)
        }
    })
}

/// Arguments: streamed ones are the string they came as.
fn input(block: &Value) -> &Value {
    block.get("partial_json").unwrap_or(&block["input"])
}

/// Takes one event of a stream.
pub(super) fn event(reply: &mut Reply, ts: WallNanos, data: &Value) {
    let key = (index(data, "index"), 0);
    // The type stands in the data; the event's name only repeats it.
    match data["type"].as_str() {
        Some("message_start") => message_start(reply, &data["message"], ts),
        Some("content_block_start") => {
            reply.parts.begin(key, data["content_block"].clone(), ts);
        }
        Some("content_block_delta") => delta(reply, ts, key.0, &data["delta"]),
        Some("content_block_stop") => reply.parts.end(key, ts),
        Some("message_delta") => {
            if let Some(reason) = text(&data["delta"], "stop_reason") {
                reply.stop_reason = Some(reason);
                reply.parts.end_all();
            }
            diagnostics(reply, &data["delta"]["diagnostics"]);
            diagnostics(reply, &data["diagnostics"]);
            reply.final_usage(&data["usage"]);
        }
        Some("message_stop") => reply.ended = true,
        Some("error") => reply.error_type = error_type(&data["error"]),
        _ => {}
    }
    // Bedrock adds its own counts to the last event.
    if let Some(metrics) = data.get("amazon-bedrock-invocationMetrics") {
        super::bedrock::invocation_metrics(reply, metrics);
    }
}

fn message_start(reply: &mut Reply, message: &Value, ts: WallNanos) {
    reply.response_id = text(message, "id");
    reply.model = text(message, "model");
    reply.merge_usage(&message["usage"]);
    diagnostics(reply, &message["diagnostics"]);
    for (at, block) in list(&message["content"]).iter().enumerate() {
        reply.parts.begin((at as u64, 0), block.clone(), ts);
    }
}

/// Text, thinking or tool arguments; signatures and citations are not generated.
fn delta(reply: &mut Reply, ts: WallNanos, at: u64, delta: &Value) {
    for field in ["text", "thinking", "partial_json", "content", "signature"] {
        let Some(piece) = delta[field].as_str().filter(|piece| !piece.is_empty()) else { continue };
        if field != "signature" {
            reply.generated(ts);
        }
        reply.parts.append((at, 0), field, piece, ts);
    }
}

fn diagnostics(reply: &mut Reply, diagnostics: &Value) {
    let reason = &diagnostics["cache_miss_reason"];
    if let Some(word) = text(reason, "type") {
        reply.cache_miss_reason = Some(word);
        reply.cache_missed_tokens = reason["cache_missed_input_tokens"].as_u64();
    }
}

/// Takes a response that is one JSON text.
pub(super) fn response(reply: &mut Reply, fields: &Value, ts: WallNanos) {
    if let Some(error) = fields.get("error") {
        reply.error_type = error_type(error);
    }
    reply.stop_reason = text(fields, "stop_reason");
    message_start(reply, fields, ts);
    reply.parts.end_all();
    if fields["usage"].is_object() {
        reply.usage_final = true;
    }
}

/// An error without a type is still an error.
fn error_type(error: &Value) -> Option<String> {
    (!error.is_null()).then(|| text(error, "type").unwrap_or_else(|| "error".to_owned()))
}

/// The blocks of a response.
pub(super) fn said(reply: &Reply) -> Vec<Said> {
    let one = |((at, _), part): (_, &Part)| {
        // Deltas without a start are what is left after a gap; their field tells what they are.
        let json = match part.json {
            Value::Null => orphan(part),
            _ => part.whole(),
        };
        let draft = block(BlockRole::Assistant, &json)?;
        Some(part.said(draft, BlockPath { section: "content", item: item(at), part: None }))
    };
    reply.parts.iter().filter_map(one).collect()
}

fn orphan(part: &Part) -> Value {
    let mut json = Map::new();
    for (field, text) in &part.texts {
        let kind = match *field {
            "thinking" => "thinking",
            "partial_json" => "tool_use",
            "content" => "compaction",
            "text" => "text",
            _ => continue,
        };
        json.insert("type".to_owned(), kind.into());
        json.insert((*field).to_owned(), text.as_str().into());
    }
    Value::Object(json)
}

/// Input counts are apart from each other: uncached, read from and written to the cache.
pub(super) fn usage(fields: &Map<String, Value>) -> Usage {
    let by_lifetime = || {
        let mut parts = fields.get("cache_creation")?.as_object()?.values();
        parts.try_fold(0_u64, |sum, part| sum.checked_add(part.as_u64()?))
    };
    Usage {
        input_tokens: count(fields, "input_tokens"),
        cache_read_tokens: count(fields, "cache_read_input_tokens"),
        cache_creation_tokens: count(fields, "cache_creation_input_tokens").or_else(by_lifetime),
        cache_creation_1h_tokens: detail(fields, "cache_creation", "ephemeral_1h_input_tokens"),
        output_tokens: count(fields, "output_tokens"),
        reasoning_tokens: detail(fields, "output_tokens_details", "thinking_tokens"),
        ..Usage::default()
    }
}

/// The tier that was served: a speed other than the usual one says more than the tier.
pub(super) fn tier(fields: &Map<String, Value>) -> Option<String> {
    let word = |name| fields.get(name)?.as_str().map(str::to_owned);
    word("speed").filter(|speed| speed != "standard").or_else(|| word("service_tier"))
}
