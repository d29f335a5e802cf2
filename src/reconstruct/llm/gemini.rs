//! Gemini `generateContent` and `streamGenerateContent`, as the Gemini API, Vertex AI and Code Assist
//! serve them: requests, chunks, responses and usage.
//!
//! Text comes in parts that follow each other and are one block; the program that sends them again
//! joins them too. Code Assist wraps request and response once more. Source: the types of the
//! provider's SDK and of the open-source client.

use serde_json::{Map, Value};

use super::draft::Draft;
use super::json_reader::{Field, Take};
use super::reply::{Reply, Said, count, index, item, list, text};
use super::{MAX_RESPONSE_VALUE_BYTES, MAX_VALUE_BYTES, dates};
use crate::reconstruct::finding::{BlockKind, BlockPath, BlockRole, Usage};
use crate::time::WallNanos;

/// What is wanted of a request.
pub(super) const REQUEST: &[Field] = &[
    Field { name: "model", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "user_prompt_id", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "serviceTier", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "systemInstruction", take: Take::Elements },
    Field { name: "system_instruction", take: Take::Elements },
    Field { name: "tools", take: Take::Elements },
    Field { name: "contents", take: Take::Elements },
    Field {
        name: "request",
        take: Take::Inside(&[
            Field { name: "session_id", take: Take::Value(MAX_VALUE_BYTES) },
            Field { name: "systemInstruction", take: Take::Elements },
            Field { name: "tools", take: Take::Elements },
            Field { name: "contents", take: Take::Elements },
        ]),
    },
];

/// What is wanted of a response without streaming, and of an error.
pub(super) const RESPONSE: &[Field] = &[
    Field { name: "candidates", take: Take::Value(MAX_RESPONSE_VALUE_BYTES) },
    Field { name: "promptFeedback", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "usageMetadata", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "modelVersion", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "responseId", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "error", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "totalTokens", take: Take::Value(MAX_VALUE_BYTES) },
    Field { name: "response", take: Take::Value(MAX_RESPONSE_VALUE_BYTES) },
];

/// The blocks of an element of a request.
pub(super) fn drafts(section: &str, element: &Value) -> Vec<Draft> {
    match section {
        "tools" => tools(element),
        "systemInstruction" | "system_instruction" => content(element, Some(BlockRole::System)),
        _ => content(element, None),
    }
}

fn tools(tool: &Value) -> Vec<Draft> {
    let declared = ["functionDeclarations", "function_declarations"];
    let Some((field, functions)) =
        declared.iter().find_map(|field| Some((*field, tool.get(field)?.as_array()?)))
    else {
        // A tool of the provider is an object with one field.
        let name = tool.as_object().and_then(|fields| fields.keys().next().cloned());
        return vec![Draft::tool_definition(name, tool)];
    };
    let one =
        |(at, function)| Draft::tool_definition(text(function, "name"), function).at(field, at);
    functions.iter().enumerate().map(one).collect()
}

fn content(content: &Value, role: Option<BlockRole>) -> Vec<Draft> {
    let said_by = match content["role"].as_str() {
        Some("model") => BlockRole::Assistant,
        _ => BlockRole::User,
    };
    let role = role.unwrap_or(said_by);
    if let Value::String(text) = content {
        return if text.is_empty() { Vec::new() } else { vec![Draft::text(role, text)] };
    }
    let parts = match &content["parts"] {
        Value::Array(parts) => &parts[..],
        Value::Null => &[],
        one => std::slice::from_ref(one),
    };
    let one = |(at, part)| Some(block(role, part)?.at("parts", at));
    parts.iter().enumerate().filter_map(one).collect()
}

/// One part; `None` for text without text and for what only signs another.
fn block(role: BlockRole, part: &Value) -> Option<Draft> {
    if let Some(spoken) = part["text"].as_str() {
        return match (spoken.is_empty(), part["thought"] == true) {
            (true, _) => None,
            (false, true) => Some(Draft::thinking(spoken, &Value::Null)),
            (false, false) => Some(Draft::text(role, spoken)),
        };
    }
    if let Some(call) = part.get("functionCall") {
        return Some(Draft::tool_use(text(call, "id"), text(call, "name"), &call["args"]));
    }
    if let Some(answer) = part.get("functionResponse") {
        let draft = Draft::json(BlockRole::Tool, BlockKind::ToolResult, &answer["response"]);
        let is_error = answer["response"].get("error").map(|_| true);
        let (tool_name, tool_call_id) = (text(answer, "name"), text(answer, "id"));
        return Some(Draft { tool_name, tool_call_id, is_error, ..draft });
    }
    for name in ["inlineData", "fileData"] {
        if let Some(data) = part.get(name) {
            let is_image = data["mimeType"].as_str().is_some_and(|kind| kind.starts_with("image/"));
            let kind = if is_image { BlockKind::Image } else { BlockKind::Document };
            return Some(Draft::opaque(role, kind, part));
        }
    }
    let is_kind = |name: &&String| !matches!(name.as_str(), "thoughtSignature" | "thought");
    let kind = part.as_object()?.keys().find(is_kind)?;
    Some(Draft::json(role, BlockKind::Other(kind.clone()), part))
}

/// Takes a chunk of a stream, or a response that is one JSON text.
pub(super) fn event(reply: &mut Reply, ts: WallNanos, chunk: &Value) {
    // Code Assist wraps what Gemini answers; some servers send errors as a list of one.
    let chunk = chunk.get("response").filter(|inner| inner.is_object()).unwrap_or(chunk);
    let chunk = chunk.get(0).unwrap_or(chunk);
    if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
        failed(reply, error);
    }
    reply.response_id = text(chunk, "responseId").or(reply.response_id.take());
    reply.model = text(chunk, "modelVersion").or(reply.model.take());
    if let Some(reason) = text(&chunk["promptFeedback"], "blockReason") {
        reply.stop_reason = Some(reason);
        reply.ended = true;
    }
    for candidate in list(&chunk["candidates"]) {
        for part in list(&candidate["content"]["parts"]) {
            take_part(reply, ts, index(candidate, "index"), part);
        }
        if let Some(reason) = text(candidate, "finishReason") {
            reply.stop_reason = Some(reason);
            reply.ended = true;
            reply.parts.end_all();
        }
    }
    // Each chunk may have the counts so far; those with or after the reason to stop are final.
    reply.merge_usage(&chunk["usageMetadata"]);
    reply.usage_final |= reply.ended && chunk["usageMetadata"].is_object();
}

/// Text goes on with the part before it where that is text of the same kind.
fn take_part(reply: &mut Reply, ts: WallNanos, candidate: u64, part: &Value) {
    let last = reply.parts.last_of(candidate);
    let next = (candidate, last.map_or(0, |((_, slot), _)| slot.saturating_add(1)));
    let Some(spoken) = part["text"].as_str() else {
        let generated = ["functionCall", "executableCode", "inlineData"];
        if generated.iter().any(|name| part.get(name).is_some()) {
            reply.generated(ts);
        }
        // What only signs another part is none itself.
        if block(BlockRole::Assistant, part).is_some() {
            reply.parts.begin(next, part.clone(), ts);
            reply.parts.end(next, ts);
        }
        return;
    };
    if spoken.is_empty() {
        return;
    }
    let is_thought = part["thought"] == true;
    let goes_on = last.filter(|(_, part)| {
        part.json["text"].is_string() && (part.json["thought"] == true) == is_thought
    });
    let key = goes_on.map_or(next, |(key, _)| key);
    if goes_on.is_none() {
        let mut head = Map::new();
        head.insert("text".to_owned(), "".into());
        if is_thought {
            head.insert("thought".to_owned(), true.into());
        }
        reply.parts.begin(key, Value::Object(head), ts);
    }
    reply.generated(ts);
    reply.parts.append(key, "text", spoken, ts);
}

/// An error has a status, and details that say when to come again.
fn failed(reply: &mut Reply, error: &Value) {
    let named = text(error, "status").or_else(|| Some(error["code"].as_i64()?.to_string()));
    reply.error_type = Some(named.unwrap_or_else(|| "error".to_owned()));
    let delay = |detail: &Value| dates::seconds_ms(detail["retryDelay"].as_str()?);
    if let Some(ms) = list(&error["details"]).iter().find_map(delay) {
        reply.retry_after_ms = Some(ms);
    }
}

/// Takes a response that is one JSON text.
pub(super) fn response(reply: &mut Reply, fields: &Value, ts: WallNanos) {
    event(reply, ts, fields);
    // The time of content that came at once says nothing of when it was generated.
    reply.first_token_ts = None;
    reply.parts.end_all();
    reply.usage_final = !reply.usage.is_empty();
}

/// The blocks of a response.
pub(super) fn said(reply: &Reply) -> Vec<Said> {
    let one = |((candidate, slot), part): (_, &super::reply::Part)| {
        let draft = block(BlockRole::Assistant, &part.whole())?;
        let part_at = Some(("parts", item(slot).unwrap_or_default()));
        let path = BlockPath { section: "candidates", item: item(candidate), part: part_at };
        Some(part.said(draft, path))
    };
    reply.parts.iter().filter_map(one).collect()
}

/// The prompt includes what was cached, and not what tools of the provider added. Whether candidates
/// include thoughts differs between servers: the total tells.
pub(super) fn usage(fields: &Map<String, Value>) -> Usage {
    let count = |name| count(fields, name);
    let (prompt, tools) = (count("promptTokenCount"), count("toolUsePromptTokenCount"));
    let (said, thoughts) = (count("candidatesTokenCount"), count("thoughtsTokenCount"));
    let cached = count("cachedContentTokenCount");
    let sum = |parts: &[Option<u64>]| {
        parts.iter().flatten().fold(0_u64, |sum, it| sum.saturating_add(*it))
    };
    let output = match count("totalTokenCount") {
        _ if said.is_none() && thoughts.is_none() => None,
        None => Some(sum(&[said, thoughts])),
        Some(total) if sum(&[prompt, tools, said, thoughts]) == total => {
            Some(sum(&[said, thoughts]))
        }
        Some(total) if sum(&[prompt, tools, said]) == total => said,
        Some(total) => Some(total.saturating_sub(sum(&[prompt, tools]))),
    };
    Usage {
        input_tokens: prompt.map(|_| sum(&[prompt, tools]).saturating_sub(cached.unwrap_or(0))),
        cache_read_tokens: cached,
        output_tokens: output,
        reasoning_tokens: thoughts,
        ..Usage::default()
    }
}
