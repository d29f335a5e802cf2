//! Ollama's own API (`POST /api/chat`, `/api/generate`): requests, lines of the answer, usage.
//!
//! The answer is a line of JSON per piece of text, or one JSON text; the last has `done` and the
//! counts. Source: the provider's API documentation.

use serde_json::{Map, Value};

use super::draft::Draft;
use super::json_reader::{Field, Take};
use super::openai_chat;
use super::reply::{Part, Reply, Said, count, list, text};
use super::{MAX_RESPONSE_VALUE_BYTES, MAX_VALUE_BYTES};
use crate::reconstruct::finding::{BlockKind, BlockPath, BlockRole, Usage};
use crate::time::WallNanos;

/// What is wanted of a request.
pub(super) const REQUEST: &[Field] = &[
    Field { name: "model", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "stream", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "system", take: Take::Elements },
    Field { name: "tools", take: Take::Elements },
    Field { name: "messages", take: Take::Elements },
    Field { name: "prompt", take: Take::Elements },
];

/// What is wanted of a response without streaming, and of an error.
pub(super) const RESPONSE: &[Field] = &[
    Field { name: "model", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "message", take: Take::Value(MAX_RESPONSE_VALUE_BYTES) },
    Field { name: "response", take: Take::Value(MAX_RESPONSE_VALUE_BYTES) },
    Field { name: "thinking", take: Take::Value(MAX_RESPONSE_VALUE_BYTES) },
    Field { name: "done", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "done_reason", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "error", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "total_duration", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "load_duration", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "prompt_eval_count", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "prompt_eval_duration", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "eval_count", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "eval_duration", take: Take::Value(MAX_VALUE_BYTES) },
];

/// What the last line counts; there is no usage object.
const COUNTS: [&str; 6] = [
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
];

/// Where the parts of the answer stand in a [`super::reply::Key`]; tools follow.
const THOUGHT: u64 = 0;
const SAID: u64 = 1;
const TOOLS: u64 = 2;

/// The blocks of an element of a request.
pub(super) fn drafts(section: &str, element: &Value) -> Vec<Draft> {
    match (section, element) {
        ("tools", tool) => vec![openai_chat::tool_definition(tool)],
        ("system", Value::String(text)) if !text.is_empty() => {
            vec![Draft::text(BlockRole::System, text)]
        }
        ("prompt", Value::String(text)) if !text.is_empty() => {
            vec![Draft::text(BlockRole::User, text)]
        }
        (_, Value::Object(_)) => message(element),
        _ => Vec::new(),
    }
}

fn message(message: &Value) -> Vec<Draft> {
    let role = match message["role"].as_str() {
        Some("system") => BlockRole::System,
        Some("assistant") => BlockRole::Assistant,
        Some("tool") => {
            let tool_name = text(message, "tool_name").or_else(|| text(message, "name"));
            let id = text(message, "tool_call_id");
            let result = Draft::tool_result(id, &message["content"]);
            return vec![Draft { tool_name, ..result }.at("content", 0)];
        }
        _ => BlockRole::User,
    };
    let mut drafts = Vec::new();
    if let Some(thought) = text(message, "thinking") {
        drafts.push(Draft::thinking(&thought, &Value::Null).at("thinking", 0));
    }
    if let Some(spoken) = text(message, "content") {
        drafts.push(Draft::text(role, &spoken).at("content", 0));
    }
    for (at, image) in list(&message["images"]).iter().enumerate() {
        drafts.push(Draft::opaque(role, BlockKind::Image, image).at("images", at));
    }
    for (at, call) in list(&message["tool_calls"]).iter().enumerate() {
        drafts.push(tool_use(call).at("tool_calls", at));
    }
    drafts
}

fn tool_use(call: &Value) -> Draft {
    let function = &call["function"];
    Draft::tool_use(text(call, "id"), text(function, "name"), &function["arguments"])
}

/// Takes a line of the answer, or a response that is one JSON text.
pub(super) fn event(reply: &mut Reply, ts: WallNanos, line: &Value) {
    if let Some(error) = line.get("error").filter(|error| !error.is_null()) {
        // A sentence, without a type.
        reply.error_type = Some(text(error, "type").unwrap_or_else(|| "error".to_owned()));
    }
    reply.model = text(line, "model").or(reply.model.take());
    let message = &line["message"];
    let mut add = |slot, piece: &Value| {
        if let Some(piece) = piece.as_str().filter(|piece| !piece.is_empty()) {
            reply.first_token_ts.get_or_insert(ts);
            reply.parts.append((0, slot), "text", piece, ts);
        }
    };
    add(THOUGHT, &message["thinking"]);
    add(THOUGHT, &line["thinking"]);
    add(SAID, &message["content"]);
    add(SAID, &line["response"]);
    for call in list(&message["tool_calls"]) {
        let next = match reply.parts.last_of(0) {
            Some(((_, slot), _)) if slot >= TOOLS => slot + 1,
            _ => TOOLS,
        };
        reply.generated(ts);
        reply.parts.begin((0, next), call.clone(), ts);
        reply.parts.end((0, next), ts);
    }
    if line["done"] == true {
        reply.ended = true;
        reply.usage_final = true;
        reply.stop_reason = text(line, "done_reason");
        reply.parts.end_all();
        for name in COUNTS {
            if let Some(value) = line.get(name) {
                reply.usage.insert(name.to_owned(), value.clone());
            }
        }
    }
}

/// Takes a response that is one JSON text.
pub(super) fn response(reply: &mut Reply, fields: &Value, ts: WallNanos) {
    event(reply, ts, fields);
    // The time of content that came at once says nothing of when it was generated.
    reply.first_token_ts = None;
    reply.parts.end_all();
}

/// The blocks of a response.
pub(super) fn said(reply: &Reply) -> Vec<Said> {
    let one = |((_, slot), part): ((u64, u64), &Part)| {
        let spoken = part.text("text");
        let (draft, field, at) = match slot {
            THOUGHT => (Draft::thinking(spoken, &Value::Null), "thinking", 0),
            SAID => (Draft::text(BlockRole::Assistant, spoken), "content", 0),
            tool => (tool_use(&part.json), "tool_calls", (tool - TOOLS) as u32),
        };
        part.said(draft, BlockPath { section: "message", item: None, part: Some((field, at)) })
    };
    reply.parts.iter().map(one).collect()
}

/// Whether a cached prefix is counted differs between versions; it is not told apart.
pub(super) fn usage(fields: &Map<String, Value>) -> Usage {
    Usage {
        input_tokens: count(fields, "prompt_eval_count"),
        output_tokens: count(fields, "eval_count"),
        ..Usage::default()
    }
}
