//! OpenAI Responses as the client sees it: the events of an answer, the same over SSE and WebSocket.
//!
//! Only what an agent needs to finish a turn: one message of text, in deltas, and the usage.

use serde_json::{Value, json};

use super::answer::{Answer, Block};

/// The path of the OpenAI Responses API.
pub const RESPONSES_PATH: &str = "/v1/responses";

/// The events of the text of `answer`, numbered `number`.
pub fn events(answer: &Answer, number: u64) -> Vec<Value> {
    let id = format!("resp_mock_{number:04}");
    let texts = answer.blocks.iter().filter_map(|block| match block {
        Block::Text(text) => Some(text.as_str()),
        _ => None,
    });
    let text: String = texts.collect();
    let item = |content: Value, status: &str| {
        json!({
            "type": "message", "id": format!("msg_mock_{number:04}"), "role": "assistant",
            "status": status, "content": content,
        })
    };
    let whole =
        item(json!([{"type": "output_text", "text": text, "annotations": []}]), "completed");
    let mut events = vec![json!({
        "type": "response.created", "response": response(&id, "in_progress", json!([])),
    })];
    if !text.is_empty() {
        events.push(json!({
            "type": "response.output_item.added", "output_index": 0,
            "item": item(json!([]), "in_progress"),
        }));
        events.extend(answer.deltas(&text).into_iter().map(|delta| {
            json!({
                "type": "response.output_text.delta", "item_id": format!("msg_mock_{number:04}"),
                "output_index": 0, "content_index": 0, "delta": delta,
            })
        }));
        events.push(json!({
            "type": "response.output_item.done", "output_index": 0, "item": whole,
        }));
    }
    let output = if text.is_empty() { json!([]) } else { json!([whole]) };
    let mut done = response(&id, "completed", output);
    done["usage"] = json!({
        "input_tokens": 1000 + number, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 10, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 1010 + number,
    });
    events.push(json!({"type": "response.completed", "response": done}));
    events
}

/// Events as a server-sent event stream.
pub fn event_stream(events: &[Value]) -> Vec<u8> {
    let mut stream = String::new();
    for event in events {
        let name = event["type"].as_str().unwrap_or_default();
        stream.push_str(&format!("event: {name}\ndata: {event}\n\n"));
    }
    stream.into_bytes()
}

fn response(id: &str, status: &str, output: Value) -> Value {
    json!({"id": id, "object": "response", "status": status, "output": output})
}
