//! OpenAI Chat Completions (`POST .../chat/completions`): requests, chunks, responses and usage.
//!
//! A stream has usage only when the request asked for it (`stream_options.include_usage`), in one
//! more chunk without choices before `[DONE]`. Many servers speak this API; reasoning is read under
//! each of the names they give it. Source: the types of the provider's SDK.

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
    Field { name: "stream_options", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "service_tier", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "prompt_cache_key", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "metadata", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "tools", take: Take::Elements },
    Field { name: "functions", take: Take::Elements },
    Field { name: "messages", take: Take::Elements },
];

/// What is wanted of a response without streaming, and of an error.
pub(super) const RESPONSE: &[Field] = &[
    Field { name: "id", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "model", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "usage", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "copilot_usage", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "service_tier", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "error", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "choices", take: Take::Value(MAX_RESPONSE_VALUE_BYTES) },
];

/// Reasoning, under the names that servers give it.
const REASONING: [&str; 2] = ["reasoning_content", "reasoning"];

/// Where the parts of a choice stand in a [`super::reply::Key`]; tools follow.
const THOUGHT: u64 = 0;
const SAID: u64 = 1;
const REFUSED: u64 = 2;
const FUNCTION: u64 = 3;
const TOOLS: u64 = 4;

/// The blocks of an element of a request.
pub(super) fn drafts(section: &str, element: &Value) -> Vec<Draft> {
    match section {
        "tools" | "functions" => vec![tool_definition(element)],
        _ => message(element),
    }
}

/// A tool, with its name where servers of this shape have it.
pub(super) fn tool_definition(element: &Value) -> Draft {
    let inner = ["function", "custom"].iter().find_map(|name| text(&element[*name], "name"));
    let name = inner.or_else(|| text(element, "name")).or_else(|| text(element, "type"));
    Draft::tool_definition(name, element)
}

fn message(message: &Value) -> Vec<Draft> {
    let role = match message["role"].as_str() {
        Some("system" | "developer") => BlockRole::System,
        Some("assistant") => BlockRole::Assistant,
        Some("tool" | "function") => {
            let result = Draft {
                tool_name: text(message, "name"),
                ..Draft::tool_result(text(message, "tool_call_id"), &message["content"])
            };
            return vec![result.at("content", 0)];
        }
        _ => BlockRole::User,
    };
    let mut drafts = Vec::new();
    if let Some(thought) = reasoning(message) {
        drafts.push(Draft::thinking(&thought, &Value::Null).at("reasoning", 0));
    } else if message["reasoning_details"].as_array().is_some_and(|details| !details.is_empty()) {
        drafts.push(Draft::thinking("", &message["reasoning_details"]).at("reasoning", 0));
    }
    match &message["content"] {
        Value::Array(parts) => {
            let at = |(index, part)| Some(content_part(role, part)?.at("content", index));
            drafts.extend(parts.iter().enumerate().filter_map(at));
        }
        Value::String(text) if !text.is_empty() => {
            drafts.push(Draft::text(role, text).at("content", 0));
        }
        _ => {}
    }
    if let Some(refusal) = text(message, "refusal") {
        drafts.push(Draft::text(role, &refusal).at("refusal", 0));
    }
    if message["function_call"].is_object() {
        drafts.push(tool_use(&message["function_call"]).at("function_call", 0));
    }
    let calls = list(&message["tool_calls"]).iter().enumerate();
    drafts.extend(calls.map(|(index, call)| tool_use(call).at("tool_calls", index)));
    drafts
}

fn content_part(role: BlockRole, part: &Value) -> Option<Draft> {
    Some(match part["type"].as_str() {
        Some("text") | None if part["text"].is_string() => Draft::text(role, &text(part, "text")?),
        Some("refusal") => Draft::text(role, &text(part, "refusal")?),
        Some("image_url") => Draft::opaque(role, BlockKind::Image, part),
        Some("file") => Draft::opaque(role, BlockKind::Document, part),
        kind => Draft::json(role, BlockKind::Other(kind.unwrap_or("unknown").to_owned()), part),
    })
}

/// Reasoning as text, of a message or delta; details are only looked at where there is no text.
fn reasoning(message: &Value) -> Option<String> {
    let detail = |detail: &Value| text(detail, "text").or_else(|| text(detail, "summary"));
    REASONING.iter().find_map(|name| text(message, name)).or_else(|| {
        let details = list(&message["reasoning_details"]).iter().filter_map(detail);
        Some(details.collect::<String>()).filter(|text| !text.is_empty())
    })
}

/// `{id, function: {name, arguments}}`, `{id, custom: {name, input}}` or the function alone.
fn tool_use(call: &Value) -> Draft {
    let id = text(call, "id");
    if let Some(custom) = call.get("custom") {
        return Draft::tool_use(id, text(custom, "name"), &custom["input"]);
    }
    let function = call.get("function").unwrap_or(call);
    Draft::tool_use(id, text(function, "name"), &function["arguments"])
}

/// Takes one event of a stream.
pub(super) fn event(reply: &mut Reply, ts: WallNanos, data: &str) {
    if data.trim() == "[DONE]" {
        reply.ended = true;
        reply.usage_final = true;
        reply.parts.end_all();
        return;
    }
    let Ok(chunk) = serde_json::from_str::<Value>(data) else { return };
    about(reply, &chunk);
    let choices = list(&chunk["choices"]);
    for choice in choices {
        delta(reply, ts, index(choice, "index"), &choice["delta"]);
        if let Some(reason) = text(choice, "finish_reason") {
            reply.stop_reason = Some(reason);
            reply.parts.end_all();
        }
    }
    if chunk["usage"].is_object() {
        reply.merge_usage(&chunk["usage"]);
        // Some servers report as they go: those counts are final once the answer has ended.
        reply.usage_final |= choices.is_empty() || reply.stop_reason.is_some();
    }
}

/// What chunks and whole responses say alike.
fn about(reply: &mut Reply, chunk: &Value) {
    if let Some(error) = chunk.get("error") {
        reply.error_type = error_type(error).or(reply.error_type.take());
    }
    reply.response_id = text(chunk, "id").or(reply.response_id.take());
    reply.model = text(chunk, "model").or(reply.model.take());
    reply.tier = text(chunk, "service_tier").or(reply.tier.take());
    if let Some(usage) = chunk.get("copilot_usage").filter(|usage| usage.is_object()) {
        reply.usage.insert("copilot_usage".to_owned(), usage.clone());
    }
}

fn delta(reply: &mut Reply, ts: WallNanos, choice: u64, delta: &Value) {
    let mut add = |slot, field, piece: &Value| {
        if let Some(piece) = piece.as_str().filter(|piece| !piece.is_empty()) {
            reply.parts.append((choice, slot), field, piece, ts);
            reply.first_token_ts.get_or_insert(ts);
        }
    };
    if let Some(thought) = reasoning(delta) {
        add(THOUGHT, "text", &Value::String(thought));
    }
    add(SAID, "text", &delta["content"]);
    add(REFUSED, "text", &delta["refusal"]);
    add(FUNCTION, "name", &delta["function_call"]["name"]);
    add(FUNCTION, "arguments", &delta["function_call"]["arguments"]);
    for call in list(&delta["tool_calls"]) {
        let key = (choice, TOOLS.saturating_add(index(call, "index")));
        // The first fragment names the tool; what follows has only arguments.
        if (text(call, "id").is_some() || text(&call["function"], "name").is_some())
            && reply.parts.part(key, ts).is_some_and(|part| part.json.is_null())
        {
            reply.parts.begin(key, call.clone(), ts);
        }
        for piece in [&call["function"]["arguments"], &call["custom"]["input"]] {
            if let Some(piece) = piece.as_str().filter(|piece| !piece.is_empty()) {
                reply.parts.append(key, "arguments", piece, ts);
                reply.generated(ts);
            }
        }
    }
}

/// Takes a response that is one JSON text.
pub(super) fn response(reply: &mut Reply, fields: &Value, ts: WallNanos) {
    about(reply, fields);
    for choice in list(&fields["choices"]) {
        if let Some(reason) = text(choice, "finish_reason") {
            reply.stop_reason.get_or_insert(reason);
        }
        delta(reply, ts, index(choice, "index"), &numbered(&choice["message"]));
    }
    // The time of content that came at once says nothing of when it was generated.
    reply.first_token_ts = None;
    reply.parts.end_all();
    reply.final_usage(&fields["usage"]);
}

/// A message with its tool calls numbered as deltas have them.
fn numbered(message: &Value) -> Value {
    let mut message = message.clone();
    if let Some(calls) = message.get_mut("tool_calls").and_then(Value::as_array_mut) {
        for (at, call) in calls.iter_mut().enumerate() {
            if let Value::Object(call) = call {
                call.insert("index".to_owned(), at.into());
            }
        }
    }
    message
}

/// The type, else the code, else that there was an error.
pub(super) fn error_type(error: &Value) -> Option<String> {
    if error.is_null() {
        return None;
    }
    let named = text(error, "type").or_else(|| text(error, "code"));
    Some(named.unwrap_or_else(|| "error".to_owned()))
}

/// The blocks of a response.
pub(super) fn said(reply: &Reply) -> Vec<Said> {
    let one = |((choice, slot), part): ((u64, u64), &Part)| {
        let spoken = part.text("text");
        let (draft, field, at) = match slot {
            THOUGHT => (Draft::thinking(spoken, &Value::Null), "reasoning", 0),
            SAID => (Draft::text(BlockRole::Assistant, spoken), "content", 0),
            REFUSED => (Draft::text(BlockRole::Assistant, spoken), "refusal", 0),
            FUNCTION => {
                let name = Some(part.text("name").to_owned()).filter(|name| !name.is_empty());
                let arguments = Value::from(part.text("arguments"));
                (Draft::tool_use(None, name, &arguments), "function_call", 0)
            }
            tool => {
                let call = &part.json;
                let name = text(&call["function"], "name").or(text(&call["custom"], "name"));
                let arguments = Value::from(part.text("arguments"));
                let draft = Draft::tool_use(text(call, "id"), name, &arguments);
                (draft, "tool_calls", tool - TOOLS)
            }
        };
        let part_at = Some((field, item(at).unwrap_or_default()));
        let path = BlockPath { section: "choices", item: item(choice), part: part_at };
        part.said(draft, path)
    };
    reply.parts.iter().map(one).collect()
}

/// `prompt_tokens` includes cached tokens, read and written; `completion_tokens` reasoning.
pub(super) fn usage(fields: &Map<String, Value>) -> Usage {
    let read = detail(fields, "prompt_tokens_details", "cached_tokens")
        // What DeepSeek calls it.
        .or_else(|| count(fields, "prompt_cache_hit_tokens"));
    inclusive_usage(fields, "prompt_tokens", "completion_tokens", read)
}

/// Counts of which `input` includes what was `read` from the cache and written to it.
pub(super) fn inclusive_usage(
    fields: &Map<String, Value>,
    input: &str,
    output: &str,
    read: Option<u64>,
) -> Usage {
    let written = detail(fields, &format!("{input}_details"), "cache_write_tokens");
    let cached = read.unwrap_or(0).saturating_add(written.unwrap_or(0));
    Usage {
        input_tokens: count(fields, input).map(|all| all.saturating_sub(cached)),
        cache_read_tokens: read,
        cache_creation_tokens: written,
        output_tokens: count(fields, output),
        reasoning_tokens: detail(fields, &format!("{output}_details"), "reasoning_tokens"),
        // What OpenRouter says it cost.
        reported_cost_usd: fields.get("cost").and_then(Value::as_f64),
        ..Usage::default()
    }
}
