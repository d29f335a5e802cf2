//! OpenAI Responses as the client sees it: the events of an answer, the same over SSE and WebSocket.
//!
//! Every event has a `sequence_number`; the item of a block comes whole once more when it is done,
//! and the whole response in the last event, which alone tells the usage. No `[DONE]` follows.

use serde_json::{Value, json};

use super::answer::{Answer, Block, Context, Event, Events, Known, STREAM_ERROR, Usage};

/// The path of the OpenAI Responses API.
pub const RESPONSES_PATH: &str = "/v1/responses";

/// The events of an answer.
pub fn events(answer: &Answer, context: &Context) -> Vec<Event> {
    let mut stream = Stream { events: Events::default(), sequence: 0 };
    let begun = response(context, "in_progress", json!([]));
    stream.push(json!({"type": "response.created", "response": begun}));
    stream.push(json!({"type": "response.in_progress", "response": begun}));
    for (index, block) in answer.blocks.iter().enumerate() {
        push_item(&mut stream, answer, context, index, block);
    }
    let status = status(answer);
    let usage = told(&context.usage);
    let done = finished(answer, context, &status);
    stream.events.known =
        Known { generated: !answer.blocks.is_empty(), ..Known::all(usage, &status) };
    stream.push(json!({"type": format!("response.{status}"), "response": done}));
    let mut failed = response(context, "failed", json!([]));
    failed["error"] = json!({"code": STREAM_ERROR, "message": "Overloaded"});
    let name = "response.failed";
    let error = json!({"type": name, "sequence_number": stream.sequence, "response": failed});
    let mut events = stream.events.ended(answer, STREAM_ERROR, (Some(name), error));
    if let (Some(_), Some(last)) = (answer.error_after_events, events.last_mut()) {
        last.known.stop_reason = Some("failed".into());
    }
    events
}

/// The answer as one document, and what it tells.
pub fn document(answer: &Answer, context: &Context) -> (Value, Known) {
    let status = status(answer);
    (finished(answer, context, &status), Known::all(told(&context.usage), &status))
}

/// An error document.
pub fn error(error_type: &str, message: &str) -> Value {
    super::openai::error(error_type, message)
}

struct Stream {
    events: Events,
    sequence: u64,
}

impl Stream {
    fn numbered(&mut self, mut data: Value) -> (String, Value) {
        data["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        (data["type"].as_str().unwrap_or_default().to_owned(), data)
    }

    fn push(&mut self, data: Value) {
        let (name, data) = self.numbered(data);
        self.events.push(Some(&name), data);
    }

    fn generate(&mut self, data: Value, block: &Block) {
        let (name, data) = self.numbered(data);
        self.events.generate(Some(&name), data, block.phase());
    }
}

fn push_item(stream: &mut Stream, answer: &Answer, context: &Context, index: usize, block: &Block) {
    let whole = item(context, index, block, "completed");
    let id = whole["id"].clone();
    let mut begun = item(context, index, block, "in_progress");
    for field in ["content", "summary"] {
        if begun.get(field).is_some() {
            begun[field] = json!([]);
        }
    }
    if begun.get("arguments").is_some() {
        begun["arguments"] = json!("");
    }
    stream
        .push(json!({"type": "response.output_item.added", "output_index": index, "item": begun}));
    let at = |kind: &str, more: Value| {
        let mut data = json!({"type": kind, "item_id": id, "output_index": index});
        more.as_object().into_iter().flatten().for_each(|(name, value)| data[name] = value.clone());
        data
    };
    match block {
        Block::Thinking(text) => {
            let part = |text: &str| json!({"type": "summary_text", "text": text});
            let place = json!({"summary_index": 0, "part": part("")});
            stream.push(at("response.reasoning_summary_part.added", place));
            for delta in answer.deltas(text) {
                let data = json!({"summary_index": 0, "delta": delta});
                stream.generate(at("response.reasoning_summary_text.delta", data), block);
            }
            let place = json!({"summary_index": 0, "text": text});
            stream.push(at("response.reasoning_summary_text.done", place));
            let place = json!({"summary_index": 0, "part": part(text)});
            stream.push(at("response.reasoning_summary_part.done", place));
        }
        Block::Text(text) => {
            let place = json!({"content_index": 0, "part": output_text("")});
            stream.push(at("response.content_part.added", place));
            for delta in answer.deltas(text) {
                let data = json!({"content_index": 0, "delta": delta, "logprobs": []});
                stream.generate(at("response.output_text.delta", data), block);
            }
            let place = json!({"content_index": 0, "text": text, "logprobs": []});
            stream.push(at("response.output_text.done", place));
            let place = json!({"content_index": 0, "part": output_text(text)});
            stream.push(at("response.content_part.done", place));
        }
        Block::ToolUse { name, input } => {
            for delta in answer.deltas(&input.to_string()) {
                let data = json!({"delta": delta});
                stream.generate(at("response.function_call_arguments.delta", data), block);
            }
            let place = json!({"arguments": input.to_string(), "name": name});
            stream.push(at("response.function_call_arguments.done", place));
        }
    }
    stream.push(json!({"type": "response.output_item.done", "output_index": index, "item": whole}));
}

/// A block as an item of the output.
fn item(context: &Context, index: usize, block: &Block, status: &str) -> Value {
    let number = context.number;
    match block {
        Block::Thinking(text) => json!({
            "type": "reasoning", "id": format!("rs_mock_{number:04}_{index}"),
            "summary": [{"type": "summary_text", "text": text}],
        }),
        Block::Text(text) => json!({
            "type": "message", "id": format!("msg_mock_{number:04}_{index}"),
            "role": "assistant", "status": status, "content": [output_text(text)],
        }),
        Block::ToolUse { name, input } => json!({
            "type": "function_call", "id": format!("fc_mock_{number:04}_{index}"),
            "call_id": format!("call_mock_{number:04}_{index}"), "name": name,
            "arguments": input.to_string(), "status": status,
        }),
    }
}

fn output_text(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn finished(answer: &Answer, context: &Context, status: &str) -> Value {
    let blocks = answer.blocks.iter().enumerate();
    let output: Value = blocks.map(|(index, block)| item(context, index, block, status)).collect();
    let mut done = response(context, status, output);
    if status == "incomplete" {
        done["incomplete_details"] = json!({"reason": "max_output_tokens"});
    }
    let usage = told(&context.usage);
    let input = usage.total_input_tokens();
    done["usage"] = json!({
        "input_tokens": input,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_creation_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens.unwrap_or_default()},
        "total_tokens": input + usage.output_tokens,
    });
    done
}

/// Of the counts, those that this API has fields for.
fn told(usage: &Usage) -> Usage {
    let reasoning_tokens = Some(usage.reasoning_tokens.unwrap_or_default());
    Usage { cache_creation_1h_tokens: None, reasoning_tokens, ..usage.clone() }
}

fn status(answer: &Answer) -> String {
    answer.stop_reason("completed", "completed")
}

fn response(context: &Context, status: &str, output: Value) -> Value {
    json!({
        "id": format!("resp_mock_{:04}", context.number), "object": "response",
        "created_at": 1_700_000_000, "status": status, "model": context.model, "output": output,
        "parallel_tool_calls": true, "tool_choice": "auto", "tools": [], "error": null,
        "incomplete_details": null, "service_tier": "default",
    })
}
