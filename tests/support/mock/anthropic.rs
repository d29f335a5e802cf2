//! Anthropic Messages as the client sees it: the event stream and the plain document.
//!
//! Usage is cumulative: `message_start` tells the input and one output token, `message_delta`
//! tells every count again, final. A reader that adds them up is wrong, and visibly so.

use serde_json::{Value, json};

use super::answer::{Answer, Block, Context, Event, Known, STREAM_ERROR, Usage};

/// The event stream of an answer.
pub fn events(answer: &Answer, context: &Context) -> Vec<Event> {
    let mut stream = Stream::default();
    stream.known.usage =
        Some(Usage { output_tokens: 1, reasoning_tokens: None, ..context.usage.clone() });
    let first = stream.known.usage.as_ref().map(usage_json);
    let message = message(context, json!([]), Value::Null, json!(first));
    stream.push(json!({"type": "message_start", "message": message}));
    for (index, block) in answer.blocks.iter().enumerate() {
        push_block(&mut stream, answer, context, index, block);
        if index == 0 {
            stream.push(json!({"type": "ping"}));
        }
    }
    let stop_reason = stop_reason(answer);
    stream.known.usage = Some(context.usage.clone());
    stream.known.usage_final = true;
    stream.known.stop_reason = Some(stop_reason.clone());
    stream.push(json!({
        "type": "message_delta",
        "delta": {"stop_reason": stop_reason, "stop_sequence": null},
        "usage": usage_json(&context.usage),
    }));
    stream.push(json!({"type": "message_stop"}));
    end_in_error(&mut stream.events, answer);
    stream.events
}

/// The answer as one document, and what it tells.
pub fn document(answer: &Answer, context: &Context) -> (Value, Known) {
    let blocks = answer.blocks.iter().enumerate();
    let content = blocks
        .map(|(index, block)| match block {
            Block::Thinking(text) => {
                json!({"type": "thinking", "thinking": text, "signature": "bW9jaw=="})
            }
            Block::Text(text) => json!({"type": "text", "text": text}),
            Block::ToolUse { name, input } => {
                json!({"type": "tool_use", "id": tool_id(context, index), "name": name, "input": input})
            }
        })
        .collect();
    let stop_reason = stop_reason(answer);
    let known = Known {
        usage: Some(context.usage.clone()),
        usage_final: true,
        stop_reason: Some(stop_reason.clone()),
        generated: true,
        ..Known::default()
    };
    (message(context, content, json!(stop_reason), usage_json(&context.usage)), known)
}

/// An error document.
pub fn error(error_type: &str, message: &str) -> Value {
    json!({"type": "error", "error": {"type": error_type, "message": message}})
}

#[derive(Default)]
struct Stream {
    events: Vec<Event>,
    known: Known,
}

impl Stream {
    fn push(&mut self, data: Value) {
        let name = data["type"].as_str().map(String::from);
        self.events.push(Event { name, data: data.to_string(), known: self.known.clone() });
    }

    fn delta(&mut self, index: usize, delta: Value) {
        self.known.generated = true;
        self.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
    }
}

fn push_block(
    stream: &mut Stream,
    answer: &Answer,
    context: &Context,
    index: usize,
    block: &Block,
) {
    let empty = match block {
        Block::Thinking(_) => json!({"type": "thinking", "thinking": "", "signature": ""}),
        Block::Text(_) => json!({"type": "text", "text": ""}),
        Block::ToolUse { name, .. } => {
            json!({"type": "tool_use", "id": tool_id(context, index), "name": name, "input": {}})
        }
    };
    stream.push(json!({"type": "content_block_start", "index": index, "content_block": empty}));
    match block {
        Block::Thinking(text) => {
            for piece in answer.deltas(text) {
                stream.delta(index, json!({"type": "thinking_delta", "thinking": piece}));
            }
            stream.delta(index, json!({"type": "signature_delta", "signature": "bW9jaw=="}));
        }
        Block::Text(text) => {
            for piece in answer.deltas(text) {
                stream.delta(index, json!({"type": "text_delta", "text": piece}));
            }
        }
        Block::ToolUse { input, .. } => {
            for piece in answer.deltas(&input.to_string()) {
                stream.delta(index, json!({"type": "input_json_delta", "partial_json": piece}));
            }
        }
    }
    stream.push(json!({"type": "content_block_stop", "index": index}));
}

/// Replaces the rest of the stream by an error event, where the answer says so.
fn end_in_error(events: &mut Vec<Event>, answer: &Answer) {
    let Some(count) = answer.error_after_events else { return };
    events.truncate(count);
    let mut known = events.last().map(|event| event.known.clone()).unwrap_or_default();
    known.error_type = Some(STREAM_ERROR.into());
    let data = error(STREAM_ERROR, "Overloaded").to_string();
    events.push(Event { name: Some("error".into()), data, known });
}

fn message(context: &Context, content: Value, stop_reason: Value, usage: Value) -> Value {
    json!({
        "id": format!("msg_mock_{:04}", context.number),
        "type": "message",
        "role": "assistant",
        "model": context.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": usage,
    })
}

fn usage_json(usage: &Usage) -> Value {
    let mut fields = json!({
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_creation_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
    });
    if let Some(reasoning) = usage.reasoning_tokens {
        fields["output_tokens_details"] = json!({"thinking_tokens": reasoning});
    }
    fields
}

fn stop_reason(answer: &Answer) -> String {
    let usual = if answer.calls_tool() { "tool_use" } else { "end_turn" };
    answer.stop_reason.clone().unwrap_or_else(|| usual.into())
}

fn tool_id(context: &Context, index: usize) -> String {
    format!("toolu_mock_{:04}_{index}", context.number)
}
