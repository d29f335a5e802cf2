//! OpenAI Responses (`POST .../responses`, and messages of a WebSocket): requests, events, responses
//! and usage.
//!
//! Everything said is an item; `response.output_item.done` has it whole, so that deltas are needed for
//! times only and a lost delta costs nothing. The last event repeats the whole response. Source: the
//! types of the provider's SDK, and of the open-source client.

use serde_json::{Map, Value};

use super::draft::Draft;
use super::json_reader::{Field, Take};
use super::reply::{Part, Reply, Said, detail, index, item, list, text};
use super::{MAX_RESPONSE_VALUE_BYTES, MAX_VALUE_BYTES, limits, openai_chat};
use crate::reconstruct::finding::{BlockKind, BlockPath, BlockRole, Header, Usage};
use crate::time::WallNanos;

/// What is wanted of a request.
pub(super) const REQUEST: &[Field] = &[
    Field { name: "model", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "stream", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "type", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "stream_id", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "generate", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "service_tier", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "previous_response_id", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "conversation", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "prompt_cache_key", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "prompt_cache_options", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "client_metadata", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "metadata", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "instructions", take: Take::Elements },
    Field { name: "tools", take: Take::Elements },
    Field { name: "input", take: Take::Elements },
];

/// What is wanted of a response without streaming, and of an error.
pub(super) const RESPONSE: &[Field] = &[
    Field { name: "id", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "model", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "status", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "usage", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "copilot_usage", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "service_tier", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "error", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "prompt_cache_diagnostics", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "output", take: Take::Value(MAX_RESPONSE_VALUE_BYTES) },
    // What counting tokens answers.
    Field { name: "input_tokens", take: Take::Value(MAX_VALUE_BYTES) },
];

/// The blocks of an element of a request.
pub(super) fn drafts(section: &str, element: &Value) -> Vec<Draft> {
    match (section, element) {
        ("tools", tool) => vec![openai_chat::tool_definition(tool)],
        ("instructions", Value::String(text)) if !text.is_empty() => {
            vec![Draft::text(BlockRole::System, text)]
        }
        (_, Value::String(text)) if !text.is_empty() => vec![Draft::text(BlockRole::User, text)],
        (_, Value::String(_) | Value::Null) => Vec::new(),
        (_, item) => blocks(item, BlockRole::User),
    }
}

/// The blocks of an item, of a request or response.
fn blocks(item: &Value, unsaid: BlockRole) -> Vec<Draft> {
    let kind = item["type"].as_str().unwrap_or("message");
    let id = || text(item, "call_id").or_else(|| text(item, "id"));
    let block = match kind {
        "message" => return message(item, unsaid),
        "reasoning" => reasoning(item),
        "function_call" => Draft::tool_use(id(), text(item, "name"), &item["arguments"]),
        "custom_tool_call" => Draft::tool_use(id(), text(item, "name"), &item["input"]),
        // The client runs these, though they are no functions of its own.
        "local_shell_call" | "shell_call" | "apply_patch_call" | "computer_call" => {
            let name = kind.strip_suffix("_call").map(str::to_owned);
            let arguments = item.get("action").unwrap_or(&item["operation"]);
            Draft::tool_use(id(), name, arguments)
        }
        "compaction" | "compaction_summary" => match text(item, "summary") {
            Some(summary) => Draft::new(BlockRole::Assistant, BlockKind::Compaction, &summary),
            None => {
                let sealed = item.get("encrypted_content").unwrap_or(item);
                Draft::opaque(BlockRole::Assistant, BlockKind::Compaction, sealed)
            }
        },
        kind if kind.ends_with("_call_output") => Draft {
            is_error: (item["status"] == "failed").then_some(true),
            ..Draft::tool_result(id(), &item["output"])
        },
        // What the provider runs itself (mcp_call, web_search_call, ...), by its own word.
        kind if kind.ends_with("_call") => {
            let draft = Draft::json(
                BlockRole::Assistant,
                BlockKind::Other(kind.to_owned()),
                &settled(item),
            );
            Draft { tool_call_id: id(), tool_name: text(item, "name"), ..draft }
        }
        kind => Draft::json(unsaid, BlockKind::Other(kind.to_owned()), &settled(item)),
    };
    vec![block]
}

/// An item without the state it was in when it was sent.
fn settled(item: &Value) -> Value {
    let mut item = item.clone();
    if let Value::Object(fields) = &mut item {
        fields.remove("status");
    }
    item
}

fn message(item: &Value, unsaid: BlockRole) -> Vec<Draft> {
    let role = match item["role"].as_str() {
        Some("system" | "developer") => BlockRole::System,
        Some("assistant") => BlockRole::Assistant,
        Some(_) => BlockRole::User,
        None => unsaid,
    };
    let part = |(index, part): (usize, &Value)| {
        let draft = match part["type"].as_str() {
            _ if part.is_string() => Draft::text(role, part.as_str()?),
            Some("refusal") => Draft::text(role, &text(part, "refusal")?),
            Some("input_image") => Draft::opaque(role, BlockKind::Image, part),
            Some("input_file") => Draft::opaque(role, BlockKind::Document, part),
            _ if part["text"].is_string() => Draft::text(role, &text(part, "text")?),
            kind => Draft::json(role, BlockKind::Other(kind.unwrap_or("unknown").to_owned()), part),
        };
        Some(draft.at("content", index))
    };
    match &item["content"] {
        Value::Array(parts) => parts.iter().enumerate().filter_map(part).collect(),
        Value::String(text) if text.is_empty() => Vec::new(),
        content @ Value::String(_) => part((0, content)).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Reasoning as text, else its summary, else what the provider sealed.
fn reasoning(item: &Value) -> Draft {
    let joined = |field: &str| {
        let texts: Vec<_> =
            list(&item[field]).iter().filter_map(|part| text(part, "text")).collect();
        texts.join("\n\n")
    };
    let thought = Some(joined("content")).filter(|text| !text.is_empty());
    let sealed = item.get("encrypted_content").filter(|sealed| !sealed.is_null());
    Draft::thinking(&thought.unwrap_or_else(|| joined("summary")), sealed.unwrap_or(&item["id"]))
}

/// Takes one event of a stream, or message of a WebSocket.
pub(super) fn event(reply: &mut Reply, ts: WallNanos, http_id: u64, data: &Value) {
    let kind = data["type"].as_str().unwrap_or_default();
    let key = (index(data, "output_index"), 0);
    match kind {
        "response.output_item.added" => {
            reply.parts.begin(key, data["item"].clone(), ts);
        }
        "response.output_item.done" => {
            // The whole item: what was lost of its deltas is no loss.
            if let Some(part) = reply.parts.begin(key, data["item"].clone(), ts) {
                part.texts.clear();
                part.is_cut = false;
            }
            reply.parts.end(key, ts);
        }
        "response.completed" | "response.failed" | "response.incomplete" | "response.cancelled" => {
            ended(reply, &data["response"], ts);
        }
        "error" => {
            // The body of a request that failed is wrapped once more in a message of a WebSocket.
            let error = data.get("error").filter(|error| error.is_object()).unwrap_or(data);
            reply.error_type = Some(error_type(error));
            reply.ended = true;
            let headers = headers(&data["headers"]);
            reply.retry_after_ms = limits::retry_after_ms(ts, &headers);
            limits::of_head(http_id, ts, &headers).into_iter().for_each(|found| reply.limit(found));
        }
        "codex.rate_limits" => limits::of_event(http_id, ts, data, &mut |found| reply.limit(found)),
        _ if kind.ends_with(".delta") => delta(reply, ts, key.0, kind, data),
        _ if data["response"].is_object() => about(reply, &data["response"]),
        _ => {}
    }
}

/// The head of a response that was an error, in a message.
fn headers(fields: &Value) -> Vec<Header> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let fields = fields.as_object().into_iter().flatten();
    fields.map(|(name, value)| (name.clone(), text(value))).collect()
}

fn delta(reply: &mut Reply, ts: WallNanos, at: u64, kind: &str, data: &Value) {
    let Some(piece) = data["delta"].as_str().filter(|piece| !piece.is_empty()) else { return };
    reply.generated(ts);
    // Kept until the whole item comes, in case that it does not.
    let field = match kind {
        "response.output_text.delta" | "response.refusal.delta" => "text",
        "response.reasoning_text.delta" => "reasoning",
        "response.reasoning_summary_text.delta" => "summary",
        "response.function_call_arguments.delta" => "arguments",
        "response.custom_tool_call_input.delta" => "input",
        _ => return,
    };
    reply.parts.append((at, 0), field, piece, ts);
}

/// What the first and the last event, and a whole response, say alike.
fn about(reply: &mut Reply, response: &Value) {
    reply.response_id = text(response, "id").or(reply.response_id.take());
    reply.model = text(response, "model").or(reply.model.take());
    // Before the end this is what was asked for.
    reply.tier = text(response, "service_tier").or(reply.tier.take());
    if let Some(error) = response.get("error").filter(|error| !error.is_null()) {
        reply.error_type = Some(error_type(error));
    }
    let diagnostics = &response["prompt_cache_diagnostics"];
    let missed = if diagnostics["cache_miss"].is_object() {
        &diagnostics["cache_miss"]
    } else {
        diagnostics
    };
    let is_miss = text(missed, "type").is_none_or(|kind| kind != "cache_hit");
    if let Some(reason) = text(missed, "reason").or_else(|| text(missed, "type"))
        && is_miss
    {
        reply.cache_miss_reason = Some(reason);
        reply.cache_missed_tokens = missed["cache_missed_tokens"].as_u64();
    }
    if let Some(usage) = response.get("copilot_usage").filter(|usage| usage.is_object()) {
        reply.usage.insert("copilot_usage".to_owned(), usage.clone());
    }
}

fn ended(reply: &mut Reply, response: &Value, ts: WallNanos) {
    about(reply, response);
    reply.ended = true;
    reply.stop_reason = text(response, "status").or(reply.stop_reason.take());
    reply.final_usage(&response["usage"]);
    for (at, item) in list(&response["output"]).iter().enumerate() {
        let key = (at as u64, 0);
        let Some(part) = reply.parts.part(key, ts) else { break };
        if !part.is_ended || part.is_cut {
            // Of what was streamed the times are known already.
            let came = if part.json.is_null() { (ts, ts) } else { part.came };
            *part = Part {
                json: item.clone(),
                texts: Default::default(),
                came,
                is_ended: true,
                is_cut: false,
            };
        }
    }
}

/// Takes a response that is one JSON text.
pub(super) fn response(reply: &mut Reply, fields: &Value, ts: WallNanos) {
    ended(reply, fields, ts);
}

fn error_type(error: &Value) -> String {
    // The code is the finer word here; some errors have only a type.
    let named = text(error, "code").or_else(|| text(error, "type").filter(|kind| kind != "error"));
    named.unwrap_or_else(|| "error".to_owned())
}

/// The blocks of a response.
pub(super) fn said(reply: &Reply) -> Vec<Said> {
    let mut said = Vec::new();
    for ((at, _), part) in reply.parts.iter() {
        for draft in blocks(&assembled(part), BlockRole::Assistant) {
            let path = BlockPath { section: "output", item: item(at), part: draft.part };
            said.push(part.said(draft, path));
        }
    }
    said
}

/// An item, put together from deltas where it did not come whole.
fn assembled(part: &Part) -> Value {
    let mut item = part.json.as_object().cloned().unwrap_or_default();
    for (field, text) in &part.texts {
        let (name, value) = match *field {
            "text" => {
                let text = Value::from(text.as_str());
                ("content", Value::Array(vec![[("text".to_owned(), text)].into_iter().collect()]))
            }
            "reasoning" | "summary" => {
                item.entry("type").or_insert_with(|| "reasoning".into());
                let text = Value::from(text.as_str());
                let name = if *field == "summary" { "summary" } else { "content" };
                (name, Value::Array(vec![[("text".to_owned(), text)].into_iter().collect()]))
            }
            "arguments" => {
                item.entry("type").or_insert_with(|| "function_call".into());
                (*field, Value::from(text.as_str()))
            }
            _ => {
                item.entry("type").or_insert_with(|| "custom_tool_call".into());
                (*field, Value::from(text.as_str()))
            }
        };
        item.insert(name.to_owned(), value);
    }
    Value::Object(item)
}

/// `input_tokens` includes cached tokens, read and written; `output_tokens` reasoning.
pub(super) fn usage(fields: &Map<String, Value>) -> Usage {
    let read = detail(fields, "input_tokens_details", "cached_tokens");
    openai_chat::inclusive_usage(fields, "input_tokens", "output_tokens", read)
}
