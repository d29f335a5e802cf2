//! What made-up agents and model providers say to each other: HTTP/1.1 messages as bytes.
//!
//! The shapes are those of the providers' public documentation; every text is invented.

use std::io::Write as _;

use serde_json::{Value, json};

/// A request head and its body, as one write.
pub fn request(method: &str, host: &str, path: &str, agent: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n\
         Content-Type: application/json\r\nAuthorization: [redacted]\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A whole response with a plain body.
pub fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A whole response with a gzip body, stored rather than compressed: what a compressor makes of a
/// text depends on its build, and the fixtures must not.
pub fn gzip_response(headers: &str, body: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(body.as_bytes()).expect("writing to memory does not fail");
    let packed = encoder.finish().expect("writing to memory does not fail");
    let mut message = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n{headers}\
         Content-Length: {}\r\n\r\n",
        packed.len()
    )
    .into_bytes();
    message.extend_from_slice(&packed);
    message
}

/// The head of a streamed response.
pub fn stream_head(headers: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n{headers}\
         Transfer-Encoding: chunked\r\n\r\n"
    )
    .into_bytes()
}

/// One chunk of a chunked body; an empty one ends it.
pub fn chunk(data: &str) -> Vec<u8> {
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}

/// One Anthropic event, as one chunk.
pub fn anthropic_event(data: &Value) -> Vec<u8> {
    let kind = data["type"].as_str().expect("every Anthropic event has a type");
    chunk(&format!("event: {kind}\ndata: {data}\n\n"))
}

/// The events of an Anthropic answer in order, each as one chunk.
pub struct Answer {
    pub model: &'static str,
    pub id: &'static str,
    /// Input, cache read, cache creation.
    pub input: [u64; 3],
    pub output_tokens: u64,
    pub thinking_tokens: Option<u64>,
    /// Pieces of thinking, then of text, then of tool arguments.
    pub thinking: &'static [&'static str],
    pub text: &'static [&'static str],
    pub tool: &'static [&'static str],
    pub stop_reason: &'static str,
}

impl Answer {
    fn usage(&self, output_tokens: u64) -> Value {
        json!({
            "input_tokens": self.input[0],
            "cache_read_input_tokens": self.input[1],
            "cache_creation_input_tokens": self.input[2],
            "output_tokens": output_tokens,
        })
    }

    /// All events, the end of the stream not included.
    pub fn events(&self) -> Vec<Vec<u8>> {
        let mut events = vec![anthropic_event(&json!({
            "type": "message_start",
            "message": {
                "id": self.id, "type": "message", "role": "assistant", "model": self.model,
                "content": [], "stop_reason": null, "usage": self.usage(1),
            },
        }))];
        let blocks = [
            (
                json!({"type": "thinking", "thinking": ""}),
                "thinking_delta",
                "thinking",
                self.thinking,
            ),
            (json!({"type": "text", "text": ""}), "text_delta", "text", self.text),
            (
                json!({"type": "tool_use", "id": "toolu_demo", "name": "Bash", "input": {}}),
                "input_json_delta",
                "partial_json",
                self.tool,
            ),
        ];
        let used = blocks.into_iter().filter(|(_, _, _, pieces)| !pieces.is_empty());
        for (index, (block, delta_type, field, pieces)) in used.enumerate() {
            events.push(anthropic_event(&json!({
                "type": "content_block_start", "index": index, "content_block": block,
            })));
            for piece in pieces {
                let mut delta = json!({"type": delta_type});
                delta[field] = json!(piece);
                events.push(anthropic_event(&json!({
                    "type": "content_block_delta", "index": index, "delta": delta,
                })));
            }
            events.push(anthropic_event(&json!({"type": "content_block_stop", "index": index})));
        }
        let mut usage = self.usage(self.output_tokens);
        if let Some(thinking_tokens) = self.thinking_tokens {
            usage["output_tokens_details"] = json!({"thinking_tokens": thinking_tokens});
        }
        events.push(anthropic_event(&json!({
            "type": "message_delta",
            "delta": {"stop_reason": self.stop_reason, "stop_sequence": null},
            "usage": usage,
        })));
        events.push(anthropic_event(&json!({"type": "message_stop"})));
        events
    }
}

/// The body of a streamed Anthropic request with `turns` user and assistant messages.
pub fn anthropic_request(model: &str, turns: &[&str]) -> String {
    let messages: Vec<Value> = turns
        .iter()
        .enumerate()
        .map(|(index, text)| {
            json!({"role": if index % 2 == 0 { "user" } else { "assistant" }, "content": text})
        })
        .collect();
    json!({
        "model": model,
        "max_tokens": 8192,
        "stream": true,
        "system": "You are a made-up agent in a test. Be brief.",
        "tools": [{"name": "Bash", "description": "Runs a command.", "input_schema": {"type": "object"}}],
        "messages": messages,
    })
    .to_string()
}

/// The first bytes of a TLS connection: a ClientHello with these extensions (RFC 8446, 4.1.2).
pub fn client_hello(host: &str, protocols: &[&str]) -> Vec<u8> {
    let long = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("made-up messages are small");
        [&length.to_be_bytes(), bytes].concat()
    };
    let name = long(&[&[0][..], &long(host.as_bytes())].concat());
    let offered: Vec<u8> =
        protocols.iter().flat_map(|name| [&[name.len() as u8], name.as_bytes()].concat()).collect();
    let extensions = [&[0, 0][..], &long(&name), &[0, 16], &long(&long(&offered))].concat();
    let hello =
        [&[3, 3][..], &[5; 32], &[0], &long(&[0x13, 0x01]), &[1, 0], &long(&extensions)].concat();
    let message = [&[1, 0][..], &long(&hello)].concat();
    [&[22, 3, 1][..], &long(&message)].concat()
}

/// What a DNS server answers when it is asked for the IPv4 addresses of `host` (RFC 1035, 4.1).
pub fn dns_response(host: &str, addresses: &[[u8; 4]]) -> Vec<u8> {
    let labels =
        host.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    let question: Vec<u8> = labels.chain([0, 0, 1, 0, 1]).collect();
    // No such name, where there is no address.
    let flags = if addresses.is_empty() { 0x83 } else { 0x80 };
    let head = [7, 7, 0x81, flags, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0];
    // The name is that of the question, behind the head.
    let record =
        |address: &[u8; 4]| [&[0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4][..], address].concat();
    [&head[..], &question, &addresses.iter().flat_map(record).collect::<Vec<_>>()].concat()
}
