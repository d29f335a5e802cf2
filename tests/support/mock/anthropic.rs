//! Anthropic Messages as the client sees it: the event stream and the plain document.
//!
//! Usage is cumulative: `message_start` tells the input and one output token, `message_delta`
//! tells every count again, final. A reader that adds them up is wrong, and visibly so.

use serde_json::{Value, json};

use super::answer::{Answer, Block, Context, Event, Events, Known, STREAM_ERROR, Usage};

/// The event stream of an answer.
pub fn events(answer: &Answer, context: &Context) -> Vec<Event> {
    let mut stream = Events::default();
    stream.known.usage =
        Some(Usage { output_tokens: 1, reasoning_tokens: None, ..context.usage.clone() });
    let first = stream.known.usage.as_ref().map(first_usage_json);
    push(
        &mut stream,
        json!({
            "type": "message_start",
            "message": message(context, json!([]), Value::Null, json!(first)),
        }),
    );
    for (index, block) in answer.blocks.iter().enumerate() {
        push_block(&mut stream, answer, context, index, block);
        if index == 0 {
            push(&mut stream, json!({"type": "ping"}));
        }
    }
    let stop_reason = answer.stop_reason("end_turn", "tool_use");
    stream.known = Known::all(context.usage.clone(), &stop_reason);
    push(
        &mut stream,
        json!({
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason, "stop_sequence": null},
            "usage": usage_json(&context.usage),
        }),
    );
    push(&mut stream, json!({"type": "message_stop"}));
    stream.ended(answer, STREAM_ERROR, (Some("error"), error(STREAM_ERROR, "Overloaded")))
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
    let stop_reason = answer.stop_reason("end_turn", "tool_use");
    let known = Known::all(context.usage.clone(), &stop_reason);
    (message(context, content, json!(stop_reason), first_usage_json(&context.usage)), known)
}

/// An error document.
pub fn error(error_type: &str, message: &str) -> Value {
    json!({"type": "error", "error": {"type": error_type, "message": message}})
}

fn push(stream: &mut Events, data: Value) {
    stream.push(data["type"].as_str(), &data);
}

fn push_block(
    stream: &mut Events,
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
    push(stream, json!({"type": "content_block_start", "index": index, "content_block": empty}));
    let mut delta = |delta: Value| {
        let data = json!({"type": "content_block_delta", "index": index, "delta": delta});
        stream.generate(Some("content_block_delta"), data, block.phase());
    };
    match block {
        Block::Thinking(text) => {
            for piece in answer.deltas(text) {
                delta(json!({"type": "thinking_delta", "thinking": piece}));
            }
            delta(json!({"type": "signature_delta", "signature": "bW9jaw=="}));
        }
        Block::Text(text) => {
            for piece in answer.deltas(text) {
                delta(json!({"type": "text_delta", "text": piece}));
            }
        }
        Block::ToolUse { input, .. } => {
            for piece in answer.deltas(&input.to_string()) {
                delta(json!({"type": "input_json_delta", "partial_json": piece}));
            }
        }
    }
    push(stream, json!({"type": "content_block_stop", "index": index}));
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

/// Counts as the last event has them.
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

/// The same with what only the first event, or a document, has.
fn first_usage_json(usage: &Usage) -> Value {
    let mut fields = usage_json(usage);
    fields["service_tier"] = json!("standard");
    if let Some(hour) = usage.cache_creation_1h_tokens {
        let minutes = usage.cache_creation_tokens.unwrap_or_default().saturating_sub(hour);
        fields["cache_creation"] = json!({
            "ephemeral_5m_input_tokens": minutes, "ephemeral_1h_input_tokens": hour,
        });
    }
    fields
}

fn tool_id(context: &Context, index: usize) -> String {
    format!("toolu_mock_{:04}_{index}", context.number)
}
