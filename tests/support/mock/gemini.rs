//! Gemini `generateContent` as the client sees it: the chunks of a stream and the plain document;
//! Code Assist wraps each of them.
//!
//! `promptTokenCount` includes cached input, `candidatesTokenCount` does not include thoughts. Every
//! chunk tells the counts so far. A call of a tool comes whole, and ends like any other answer.

use serde_json::{Value, json};

use super::answer::{Answer, Block, Context, Event, Events, Known, Phase, Usage};

/// Type of the error told in the midst of a stream.
pub const STREAM_ERROR: &str = "UNAVAILABLE";

/// The chunks of an answer.
pub fn events(answer: &Answer, context: &Context) -> Vec<Event> {
    let mut stream = Events::default();
    let usage = told(&context.usage);
    let (mut thoughts, mut output) = (0, 0);
    for (index, block) in answer.blocks.iter().enumerate() {
        for part in parts(answer, context, index, block) {
            // Counts grow from chunk to chunk and are below the final ones to the end.
            match block.phase() {
                Phase::Thinking => thoughts += 1,
                _ => output += 1,
            }
            let so_far = Usage {
                output_tokens: output + thoughts,
                reasoning_tokens: Some(thoughts),
                ..usage.clone()
            };
            let data = chunk(context, json!([part]), None, &so_far);
            stream.known.usage = Some(so_far);
            stream.generate(None, data, block.phase());
        }
    }
    let stop_reason = answer.stop_reason("STOP", "STOP");
    let generated = stream.known.generated;
    stream.known = Known { generated, ..Known::all(usage.clone(), &stop_reason) };
    stream.push(None, chunk(context, json!([{"text": ""}]), Some(&stop_reason), &usage));
    stream.ended(answer, STREAM_ERROR, (None, error(503, STREAM_ERROR, "Overloaded", None)))
}

/// The answer as one document, and what it tells.
pub fn document(answer: &Answer, context: &Context) -> (Value, Known) {
    let whole = Answer { delta_chars: usize::MAX, ..answer.clone() };
    let blocks = answer.blocks.iter().enumerate();
    let parts: Vec<Value> =
        blocks.flat_map(|(index, block)| parts(&whole, context, index, block)).collect();
    let usage = told(&context.usage);
    let stop_reason = answer.stop_reason("STOP", "STOP");
    let document = chunk(context, json!(parts), Some(&stop_reason), &usage);
    (document, Known::all(usage, &stop_reason))
}

/// The same events as Code Assist sends them.
pub fn wrapped(events: Vec<Event>) -> Vec<Event> {
    let wrap = |event: Event| {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        let data = if data.get("error").is_some() { data } else { wrap_document(data) };
        Event { data: data.to_string(), ..event }
    };
    events.into_iter().map(wrap).collect()
}

/// The same document as Code Assist sends it.
pub fn wrap_document(document: Value) -> Value {
    json!({"response": document, "traceId": "trace-mock"})
}

/// An error document; how long to wait is told in it.
pub fn error(status: u16, error_type: &str, message: &str, retry_after_s: Option<u64>) -> Value {
    let wait = retry_after_s.map(|seconds| {
        json!({
            "@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": format!("{seconds}s"),
        })
    });
    let details: Vec<Value> = wait.into_iter().collect();
    let error = json!({
        "code": status, "message": message, "status": error_type, "details": details,
    });
    json!({"error": error})
}

fn parts(answer: &Answer, context: &Context, index: usize, block: &Block) -> Vec<Value> {
    match block {
        Block::Thinking(text) => {
            let pieces = answer.deltas(text).into_iter();
            pieces.map(|piece| json!({"text": piece, "thought": true})).collect()
        }
        Block::Text(text) => {
            answer.deltas(text).into_iter().map(|piece| json!({"text": piece})).collect()
        }
        Block::ToolUse { name, input } => {
            let id = format!("call_mock_{:04}_{index}", context.number);
            vec![json!({"functionCall": {"id": id, "name": name, "args": input}})]
        }
    }
}

fn chunk(context: &Context, parts: Value, stop_reason: Option<&str>, usage: &Usage) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    if let Some(stop_reason) = stop_reason {
        candidate["finishReason"] = json!(stop_reason);
    }
    let thoughts = usage.reasoning_tokens.unwrap_or_default();
    let prompt = usage.total_input_tokens();
    json!({
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": prompt,
            "cachedContentTokenCount": usage.cache_read_tokens,
            "candidatesTokenCount": usage.output_tokens - thoughts,
            "thoughtsTokenCount": thoughts,
            "totalTokenCount": prompt + usage.output_tokens,
        },
        "modelVersion": context.model,
        "responseId": format!("gemini-mock-{:04}", context.number),
    })
}

/// Of the counts, those that this API has fields for.
fn told(usage: &Usage) -> Usage {
    let reasoning_tokens = Some(usage.reasoning_tokens.unwrap_or_default());
    Usage { reasoning_tokens, ..usage.without_cache_creation() }
}
