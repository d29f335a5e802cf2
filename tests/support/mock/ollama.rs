//! Ollama `/api/chat` as the client sees it: lines of JSON, or one document.
//!
//! Neither caches nor reasoning are counted apart.

use serde_json::{Value, json};

use super::answer::{Answer, Block, Context, Event, Events, Known, Usage};

/// What stands for the type of an error, as the API has no types.
pub const ERROR: &str = "error";

/// The path of the API.
pub const OLLAMA_PATH: &str = "/api/chat";

/// The lines of an answer.
pub fn events(answer: &Answer, context: &Context) -> Vec<Event> {
    let mut stream = Events::default();
    for block in &answer.blocks {
        let mut tell = |message: Value| {
            let mut line = line(context, message);
            line["done"] = json!(false);
            stream.generate(None, line, block.phase());
        };
        match block {
            Block::Thinking(text) => {
                let pieces = answer.deltas(text).into_iter();
                pieces.for_each(|piece| tell(json!({"content": "", "thinking": piece})));
            }
            Block::Text(text) => {
                answer.deltas(text).into_iter().for_each(|piece| tell(json!({"content": piece})));
            }
            Block::ToolUse { name, input } => {
                tell(json!({"content": "", "tool_calls": [tool_call(name, input)]}));
            }
        }
    }
    let (last, known) = last(answer, context, json!({"content": ""}));
    let generated = stream.known.generated;
    stream.known = Known { generated, ..known };
    stream.push(None, last);
    stream.ended(answer, ERROR, (None, error("Overloaded")))
}

/// The answer as one document, and what it tells.
pub fn document(answer: &Answer, context: &Context) -> (Value, Known) {
    let mut message = json!({"content": answer.whole_text()});
    for block in &answer.blocks {
        match block {
            Block::Thinking(text) => message["thinking"] = json!(text),
            Block::ToolUse { name, input } => {
                message["tool_calls"] = json!([tool_call(name, input)]);
            }
            Block::Text(_) => {}
        }
    }
    last(answer, context, message)
}

/// An error document.
pub fn error(message: &str) -> Value {
    json!({"error": message})
}

fn last(answer: &Answer, context: &Context, message: Value) -> (Value, Known) {
    let usage = Usage {
        input_tokens: context.usage.input_tokens,
        output_tokens: context.usage.output_tokens,
        ..Usage::default()
    };
    let stop_reason = answer.stop_reason("stop", "stop");
    let mut last = line(context, message);
    let end = json!({
        "done": true, "done_reason": stop_reason,
        "total_duration": 4_935_886_791_u64, "load_duration": 534_986_708,
        "prompt_eval_count": usage.input_tokens, "prompt_eval_duration": 107_345_000,
        "eval_count": usage.output_tokens, "eval_duration": 4_289_432_000_u64,
    });
    end.as_object().into_iter().flatten().for_each(|(name, value)| last[name] = value.clone());
    (last, Known::all(usage, &stop_reason))
}

fn line(context: &Context, mut message: Value) -> Value {
    message["role"] = json!("assistant");
    json!({"model": context.model, "created_at": "2026-01-01T00:00:00Z", "message": message})
}

fn tool_call(name: &str, input: &Value) -> Value {
    json!({"function": {"name": name, "arguments": input}})
}
