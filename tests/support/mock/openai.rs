//! OpenAI Chat Completions as the client sees it: the chunk stream and the plain document.
//!
//! `prompt_tokens` includes cached input and `completion_tokens` includes reasoning. The stream
//! tells them in one last chunk, and only to a client that asked (`stream_options.include_usage`).

use serde_json::{Value, json};

use super::answer::{Answer, Block, Context, Event, Events, Known, STREAM_ERROR, Usage};

/// A fixed `created` time: the truth is in the clock of the server, not in its answers.
const CREATED: u64 = 1_700_000_000;

/// The chunk stream of an answer, `[DONE]` included.
pub fn events(answer: &Answer, context: &Context) -> Vec<Event> {
    let mut stream = Events::default();
    stream.push(None, choice(context, json!({"role": "assistant", "content": ""}), Value::Null));
    let mut tools = 0;
    for block in &answer.blocks {
        let mut delta = |delta: Value| {
            stream.generate(None, choice(context, delta, Value::Null), block.phase());
        };
        match block {
            Block::Thinking(text) => {
                let pieces = answer.deltas(text).into_iter();
                pieces.for_each(|piece| delta(json!({"reasoning_content": piece})));
            }
            Block::Text(text) => {
                let pieces = answer.deltas(text).into_iter();
                pieces.for_each(|piece| delta(json!({"content": piece})));
            }
            Block::ToolUse { name, input } => {
                let mut call = |call: Value| delta(json!({"tool_calls": [call]}));
                let function = json!({"name": name, "arguments": ""});
                let id = tool_id(context, tools);
                call(json!({"index": tools, "id": id, "type": "function", "function": function}));
                for piece in answer.deltas(&input.to_string()) {
                    call(json!({"index": tools, "function": {"arguments": piece}}));
                }
                tools += 1;
            }
        }
    }
    let stop_reason = answer.stop_reason("stop", "tool_calls");
    stream.known.stop_reason = Some(stop_reason.clone());
    stream.push(None, choice(context, json!({}), json!(stop_reason)));
    if context.include_usage {
        let usage = told(&context.usage);
        stream.known.usage = Some(usage.clone());
        stream.known.usage_final = true;
        stream.push(None, chunk(context, json!([]), usage_json(&usage)));
    }
    stream.push(None, "[DONE]");
    stream.ended(answer, STREAM_ERROR, (None, error(STREAM_ERROR, "Overloaded")))
}

/// The answer as one document, and what it tells.
pub fn document(answer: &Answer, context: &Context) -> (Value, Known) {
    let (mut text, mut reasoning, mut calls) = (String::new(), String::new(), Vec::new());
    for block in &answer.blocks {
        match block {
            Block::Thinking(thought) => reasoning.push_str(thought),
            Block::Text(part) => text.push_str(part),
            Block::ToolUse { name, input } => calls.push(json!({
                "id": tool_id(context, calls.len()),
                "type": "function",
                "function": {"name": name, "arguments": input.to_string()},
            })),
        }
    }
    let mut message = json!({"role": "assistant", "content": text});
    if !reasoning.is_empty() {
        message["reasoning_content"] = json!(reasoning);
    }
    if !calls.is_empty() {
        message["tool_calls"] = json!(calls);
    }
    let stop_reason = answer.stop_reason("stop", "tool_calls");
    let choices = json!([{"index": 0, "message": message, "finish_reason": stop_reason}]);
    let usage = told(&context.usage);
    let mut document = chunk(context, choices, usage_json(&usage));
    document["object"] = json!("chat.completion");
    (document, Known::all(usage, &stop_reason))
}

/// An error document.
pub fn error(error_type: &str, message: &str) -> Value {
    json!({"error": {"message": message, "type": error_type, "param": null, "code": null}})
}

fn choice(context: &Context, delta: Value, finish_reason: Value) -> Value {
    let choices = json!([{"index": 0, "delta": delta, "finish_reason": finish_reason}]);
    chunk(context, choices, Value::Null)
}

/// Of the counts, those that this API has fields for.
fn told(usage: &Usage) -> Usage {
    Usage { cache_creation_1h_tokens: None, ..usage.clone() }
}

fn chunk(context: &Context, choices: Value, usage: Value) -> Value {
    json!({
        "id": format!("chatcmpl-mock-{:04}", context.number),
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": context.model,
        "choices": choices,
        "usage": usage,
    })
}

fn usage_json(usage: &Usage) -> Value {
    let prompt = usage.total_input_tokens();
    let mut fields = json!({
        "prompt_tokens": prompt,
        "completion_tokens": usage.output_tokens,
        "total_tokens": prompt + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_creation_tokens,
        },
    });
    if let Some(reasoning) = usage.reasoning_tokens {
        fields["completion_tokens_details"] = json!({"reasoning_tokens": reasoning});
    }
    fields
}

fn tool_id(context: &Context, index: usize) -> String {
    format!("call_mock_{:04}_{index}", context.number)
}
