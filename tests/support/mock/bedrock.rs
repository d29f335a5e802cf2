//! AWS Bedrock as the client sees it: `invoke` carries Anthropic's events in frames of
//! `application/vnd.amazon.eventstream`, `converse` has a shape of its own in the same frames.

use serde_json::{Value, json};

use super::answer::{Answer, Block, Context, Event, Events, Known, Phase, Usage};
use super::anthropic;
use super::websocket::base64;

/// Type of the error told in the midst of a stream: it comes as an exception, not an event.
pub const STREAM_ERROR: &str = "throttlingException";

/// The chunks of an answer of `invoke-with-response-stream`.
pub fn invoke_events(answer: &Answer, context: &Context) -> Vec<Event> {
    let usage = &context.usage;
    let plain = Answer { error_after_events: None, ..answer.clone() };
    let mut events = anthropic::events(&plain, context);
    if let Some(last) = events.last_mut() {
        let metrics = json!({
            "inputTokenCount": usage.input_tokens, "outputTokenCount": usage.output_tokens,
            "cacheReadInputTokenCount": usage.cache_read_tokens,
            "cacheWriteInputTokenCount": usage.cache_creation_tokens,
            "invocationLatency": 1234, "firstByteLatency": 321,
        });
        let mut data: Value = serde_json::from_str(&last.data).unwrap_or_default();
        data["amazon-bedrock-invocationMetrics"] = metrics;
        last.data = data.to_string();
    }
    let chunk = |event: Event| {
        let bytes = base64(event.data.as_bytes());
        let data = json!({"bytes": bytes, "p": "abcdefghij"}).to_string();
        Event { name: Some("chunk".into()), data, ..event }
    };
    let known = events.last().map(|event| event.known.clone()).unwrap_or_default();
    let events = Events { list: events.into_iter().map(chunk).collect(), known };
    events.ended(answer, STREAM_ERROR, (Some(STREAM_ERROR), error("Too many requests")))
}

/// The events of an answer of `converse-stream`.
pub fn converse_events(answer: &Answer, context: &Context) -> Vec<Event> {
    let mut stream = Events::default();
    stream.push(Some("messageStart"), json!({"role": "assistant"}));
    for (index, block) in answer.blocks.iter().enumerate() {
        if let Block::ToolUse { name, .. } = block {
            let tool = json!({"toolUseId": tool_id(context, index), "name": name});
            let start = json!({"contentBlockIndex": index, "start": {"toolUse": tool}});
            stream.push(Some("contentBlockStart"), start);
        }
        let text = match block {
            Block::Thinking(text) | Block::Text(text) => text.clone(),
            Block::ToolUse { input, .. } => input.to_string(),
        };
        for piece in answer.deltas(&text) {
            let delta = match block {
                Block::Thinking(_) => json!({"reasoningContent": {"text": piece}}),
                Block::Text(_) => json!({"text": piece}),
                Block::ToolUse { .. } => json!({"toolUse": {"input": piece}}),
            };
            let data = json!({"contentBlockIndex": index, "delta": delta});
            stream.generate(Some("contentBlockDelta"), data, block.phase());
        }
        stream.push(Some("contentBlockStop"), json!({"contentBlockIndex": index}));
    }
    let stop_reason = answer.stop_reason("end_turn", "tool_use");
    stream.known.stop_reason = Some(stop_reason.clone());
    stream.push(Some("messageStop"), json!({"stopReason": stop_reason}));
    let usage = told(&context.usage);
    let generated = stream.known.generated;
    stream.known = Known { generated, ..Known::all(usage.clone(), &stop_reason) };
    let metadata = json!({"usage": usage_json(&usage), "metrics": {"latencyMs": 1234}});
    stream.push(Some("metadata"), metadata);
    stream.ended(answer, STREAM_ERROR, (Some(STREAM_ERROR), error("Too many requests")))
}

/// The answer of `converse` as one document, and what it tells.
pub fn converse_document(answer: &Answer, context: &Context) -> (Value, Known) {
    let block = |(index, block): (usize, &Block)| match block {
        Block::Thinking(text) => json!({"reasoningContent": {"reasoningText": {"text": text}}}),
        Block::Text(text) => json!({"text": text}),
        Block::ToolUse { name, input } => {
            let id = tool_id(context, index);
            json!({"toolUse": {"toolUseId": id, "name": name, "input": input}})
        }
    };
    let content: Vec<Value> = answer.blocks.iter().enumerate().map(block).collect();
    let usage = told(&context.usage);
    let stop_reason = answer.stop_reason("end_turn", "tool_use");
    let document = json!({
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": stop_reason,
        "usage": usage_json(&usage),
        "metrics": {"latencyMs": 1234},
    });
    (document, Known::all(usage, &stop_reason))
}

/// An error document; its type is in the head.
pub fn error(message: &str) -> Value {
    json!({"message": message})
}

/// An event as a frame: prelude, headers, payload, each part under a CRC.
pub fn frame(event: &Event) -> Vec<u8> {
    let name = event.name.as_deref().unwrap_or_default();
    let is_error = event.known.error_type.is_some() && event.phase == Phase::Frame;
    let (kind, field) =
        if is_error { ("exception", ":exception-type") } else { ("event", ":event-type") };
    let mut headers = Vec::new();
    let fields = [(field, name), (":content-type", "application/json"), (":message-type", kind)];
    for (name, value) in fields {
        headers.push(name.len() as u8);
        headers.extend_from_slice(name.as_bytes());
        headers.push(7);
        headers.extend((value.len() as u16).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let total_bytes = 16 + headers.len() + event.data.len();
    let mut frame = Vec::with_capacity(total_bytes);
    frame.extend((total_bytes as u32).to_be_bytes());
    frame.extend((headers.len() as u32).to_be_bytes());
    frame.extend(crc32(&frame).to_be_bytes());
    frame.extend(headers);
    frame.extend_from_slice(event.data.as_bytes());
    frame.extend(crc32(&frame).to_be_bytes());
    frame
}

fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

fn usage_json(usage: &Usage) -> Value {
    json!({
        "inputTokens": usage.input_tokens,
        "cacheReadInputTokens": usage.cache_read_tokens,
        "cacheWriteInputTokens": usage.cache_creation_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.total_input_tokens() + usage.output_tokens,
    })
}

/// Of the counts, those that `converse` has fields for.
fn told(usage: &Usage) -> Usage {
    Usage { cache_creation_1h_tokens: None, ..usage.without_reasoning() }
}

fn tool_id(context: &Context, index: usize) -> String {
    format!("tooluse_mock_{:04}_{index}", context.number)
}
