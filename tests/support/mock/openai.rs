//! OpenAI Chat Completions as the client sees it: the chunk stream and the plain document.
//!
//! `prompt_tokens` includes cached input and `completion_tokens` includes reasoning. The stream
//! tells them in one last chunk, and only to a client that asked (`stream_options.include_usage`).

use serde_json::{Value, json};

use super::answer::{Answer, Block, Context, Event, Known, STREAM_ERROR, Usage};

/// A fixed `created` time: the truth is in the clock of the server, not in its answers.
const CREATED: u64 = 1_700_000_000;

/// The chunk stream of an answer, `[DONE]` included.
pub fn events(answer: &Answer, context: &Context) -> Vec<Event> {
    let mut stream = Stream { context, events: Vec::new(), known: Known::default() };
    stream.choice(json!({"role": "assistant", "content": ""}), Value::Null);
    let mut tools = 0;
    for block in &answer.blocks {
        stream.known.generated = true;
        match block {
            Block::Thinking(text) => {
                for piece in answer.deltas(text) {
                    stream.choice(json!({"reasoning_content": piece}), Value::Null);
                }
            }
            Block::Text(text) => {
                for piece in answer.deltas(text) {
                    stream.choice(json!({"content": piece}), Value::Null);
                }
            }
            Block::ToolUse { name, input } => {
                let function = json!({"name": name, "arguments": ""});
                let id = tool_id(context, tools);
                stream.tool(
                    json!({"index": tools, "id": id, "type": "function", "function": function}),
                );
                for piece in answer.deltas(&input.to_string()) {
                    stream.tool(json!({"index": tools, "function": {"arguments": piece}}));
                }
                tools += 1;
            }
        }
    }
    let stop_reason = stop_reason(answer);
    stream.known.stop_reason = Some(stop_reason.clone());
    stream.choice(json!({}), json!(stop_reason));
    if context.include_usage {
        stream.known.usage = Some(context.usage.clone());
        stream.known.usage_final = true;
        stream.push(&chunk(context, json!([]), usage_json(&context.usage)).to_string());
    }
    stream.push("[DONE]");
    end_in_error(&mut stream.events, answer);
    stream.events
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
    let stop_reason = stop_reason(answer);
    let choices = json!([{"index": 0, "message": message, "finish_reason": stop_reason}]);
    let mut document = chunk(context, choices, usage_json(&context.usage));
    document["object"] = json!("chat.completion");
    let known = Known {
        usage: Some(context.usage.clone()),
        usage_final: true,
        stop_reason: Some(stop_reason),
        generated: true,
        ..Known::default()
    };
    (document, known)
}

/// An error document.
pub fn error(error_type: &str, message: &str) -> Value {
    json!({"error": {"message": message, "type": error_type, "param": null, "code": null}})
}

struct Stream<'a> {
    context: &'a Context,
    events: Vec<Event>,
    known: Known,
}

impl Stream<'_> {
    fn push(&mut self, data: &str) {
        self.events.push(Event { name: None, data: data.into(), known: self.known.clone() });
    }

    fn choice(&mut self, delta: Value, finish_reason: Value) {
        let choices = json!([{"index": 0, "delta": delta, "finish_reason": finish_reason}]);
        let data = chunk(self.context, choices, Value::Null).to_string();
        self.push(&data);
    }

    fn tool(&mut self, call: Value) {
        self.choice(json!({"tool_calls": [call]}), Value::Null);
    }
}

/// Replaces the rest of the stream by an error, where the answer says so.
fn end_in_error(events: &mut Vec<Event>, answer: &Answer) {
    let Some(count) = answer.error_after_events else { return };
    events.truncate(count);
    let mut known = events.last().map(|event| event.known.clone()).unwrap_or_default();
    known.error_type = Some(STREAM_ERROR.into());
    events.push(Event { name: None, data: error(STREAM_ERROR, "Overloaded").to_string(), known });
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

fn stop_reason(answer: &Answer) -> String {
    let usual = if answer.calls_tool() { "tool_calls" } else { "stop" };
    answer.stop_reason.clone().unwrap_or_else(|| usual.into())
}

fn tool_id(context: &Context, index: usize) -> String {
    format!("call_mock_{:04}_{index}", context.number)
}
