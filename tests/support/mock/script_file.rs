//! Scripts as JSON files, for use by hand.
//!
//! ```json
//! [{"when": {"path": "/v1/messages", "tool_results": 0},
//!   "answer": {"blocks": [{"text": "Hi"}, {"tool": "Bash", "input": {"command": "ls"}}]},
//!   "delivery": {"coding": "gzip", "event_delays_ms": [20]}},
//!  {"failure": {"status": 429, "error_type": "rate_limit_error", "retry_after_s": 1}, "times": 1}]
//! ```
//!
//! Keys are the fields of [`super::script`] and [`super::answer`]; one that is unknown is an
//! error, so that a misspelt quirk is not silently left out.

use serde_json::{Map, Value};

use super::answer::{Answer, Block, Usage};
use super::coding::Coding;
use super::http::Framing;
use super::script::{Delivery, Failure, Reply, Rule, Script, When};
use super::split::Split;

/// Reads a script; the error says where it is wrong.
pub fn parse(text: &str) -> Result<Script, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let rules = value.as_array().ok_or("expected an array of rules")?.iter().enumerate();
    let rules = rules.map(|(index, value)| rule(value).map_err(|e| format!("rule {index}: {e}")));
    Ok(Script::of(rules.collect::<Result<_, _>>()?))
}

fn rule(value: &Value) -> Result<Rule, String> {
    let mut fields = Fields::of(value)?;
    let when = fields.take("when", when)?.unwrap_or_default();
    let delivery = fields.take("delivery", delivery)?.unwrap_or_default();
    let times = fields.take("times", number)?.map(|times| times as u32);
    let answered = fields.take("answer", answer)?.map(Reply::Answer);
    let failed = fields.take("failure", failure)?.map(Reply::Failure);
    let document = fields.take("document", document)?;
    let upgraded = fields.take("websocket", answer)?.map(Reply::WebSocket);
    fields.end()?;
    let reply = answered.or(failed).or(document).or(upgraded);
    let reply = reply.ok_or("expected answer, failure, document or websocket")?;
    Ok(Rule { when, times, reply, delivery })
}

fn when(value: &Value) -> Result<When, String> {
    let mut fields = Fields::of(value)?;
    let when = When {
        method: fields.take("method", text)?,
        path: fields.take("path", text)?,
        has_tools: fields.take("has_tools", truth)?,
        tool_results: fields.take("tool_results", number)?,
        max_tokens_at_most: fields.take("max_tokens_at_most", number)?,
    };
    fields.end()?;
    Ok(when)
}

fn answer(value: &Value) -> Result<Answer, String> {
    let mut fields = Fields::of(value)?;
    let answer = Answer {
        model: fields.take("model", text)?,
        blocks: fields.take("blocks", |value| list(value, block))?.unwrap_or_default(),
        stop_reason: fields.take("stop_reason", text)?,
        usage: fields.take("usage", usage)?,
        delta_chars: fields.take("delta_chars", size)?.unwrap_or_default(),
        error_after_events: fields.take("error_after_events", size)?,
    };
    fields.end()?;
    Ok(answer)
}

fn block(value: &Value) -> Result<Block, String> {
    let mut fields = Fields::of(value)?;
    let spoken = fields.take("text", text)?.map(Block::Text);
    let thought = fields.take("thinking", text)?.map(Block::Thinking);
    let input = fields.take("input", |value| Ok(value.clone()))?.unwrap_or_default();
    let tool = fields.take("tool", text)?.map(|name| Block::ToolUse { name, input });
    fields.end()?;
    spoken.or(thought).or(tool).ok_or_else(|| "expected text, thinking or tool".into())
}

fn usage(value: &Value) -> Result<Usage, String> {
    let mut fields = Fields::of(value)?;
    let mut count = |name| fields.take(name, number);
    let usage = Usage {
        input_tokens: count("input_tokens")?.unwrap_or_default(),
        cache_read_tokens: count("cache_read_tokens")?,
        cache_creation_tokens: count("cache_creation_tokens")?,
        cache_creation_1h_tokens: count("cache_creation_1h_tokens")?,
        output_tokens: count("output_tokens")?.unwrap_or_default(),
        reasoning_tokens: count("reasoning_tokens")?,
    };
    fields.end()?;
    Ok(usage)
}

fn failure(value: &Value) -> Result<Failure, String> {
    let mut fields = Fields::of(value)?;
    let failure = Failure {
        status: status(&mut fields)?.ok_or("expected status")?,
        error_type: fields.take("error_type", text)?.unwrap_or_else(|| "api_error".into()),
        message: fields.take("message", text)?.unwrap_or_else(|| "scripted failure".into()),
        retry_after_s: fields.take("retry_after_s", number)?,
    };
    fields.end()?;
    Ok(failure)
}

fn document(value: &Value) -> Result<Reply, String> {
    let mut fields = Fields::of(value)?;
    let json = || "application/json".to_owned();
    let reply = Reply::Document {
        status: status(&mut fields)?.unwrap_or(200),
        content_type: fields.take("content_type", text)?.unwrap_or_else(json),
        body: fields.take("body", text)?.unwrap_or_default().into_bytes(),
    };
    fields.end()?;
    Ok(reply)
}

fn delivery(value: &Value) -> Result<Delivery, String> {
    let mut fields = Fields::of(value)?;
    let delivery = Delivery {
        framing: fields.take("framing", framing)?,
        coding: fields.take("coding", coding)?,
        unasked: fields.take("unasked", truth)?.unwrap_or_default(),
        message_deflate: fields.take("message_deflate", truth)?,
        fields: fields.take("fields", head_fields)?.unwrap_or_default(),
        split: fields.take("split", split)?.unwrap_or_default(),
        write_bytes: fields.take("write_bytes", size)?,
        crlf: fields.take("crlf", truth)?.unwrap_or_default(),
        first_byte_delay_ms: fields.take("first_byte_delay_ms", number)?.unwrap_or_default(),
        event_delays_ms: fields
            .take("event_delays_ms", |value| list(value, number))?
            .unwrap_or_default(),
        first_token_ms: fields.take("first_token_ms", number)?.unwrap_or_default(),
        thinking_ms: fields.take("thinking_ms", number)?.unwrap_or_default(),
        delta_ms: fields.take("delta_ms", number)?.unwrap_or_default(),
        stall: fields.take("stall", stall)?,
        cut_after_events: fields.take("cut_after_events", size)?,
        close: fields.take("close", truth)?.unwrap_or_default(),
    };
    fields.end()?;
    Ok(delivery)
}

fn coding(value: &Value) -> Result<Coding, String> {
    let known = Coding::named(&text(value)?);
    known.ok_or_else(|| "expected identity, gzip, deflate, br or zstd".into())
}

fn head_fields(value: &Value) -> Result<Vec<(String, String)>, String> {
    let object = value.as_object().ok_or("expected an object of names and values")?;
    object.iter().map(|(name, value)| Ok((name.clone(), text(value)?))).collect()
}

/// `[after so many generated events, so many ms]`.
fn stall(value: &Value) -> Result<(usize, u64), String> {
    match list(value, number)?[..] {
        [after, wait_ms] => Ok((after as usize, wait_ms)),
        _ => Err("expected [events, milliseconds]".into()),
    }
}

fn framing(value: &Value) -> Result<Framing, String> {
    match value.as_str() {
        Some("length") => Ok(Framing::Length),
        Some("chunked") => Ok(Framing::Chunked),
        Some("close") => Ok(Framing::Close),
        _ => Err("expected length, chunked or close".into()),
    }
}

fn split(value: &Value) -> Result<Split, String> {
    match (value.as_str(), value.as_u64()) {
        (Some("whole"), _) => Ok(Split::Whole),
        (Some("inside_utf8"), _) => Ok(Split::InsideUtf8),
        (Some("inside_line_ends"), _) => Ok(Split::InsideLineEnds),
        (_, Some(bytes)) => Ok(Split::Every(bytes as usize)),
        _ => Err("expected whole, inside_utf8, inside_line_ends or a number of bytes".into()),
    }
}

fn status(fields: &mut Fields) -> Result<Option<u16>, String> {
    let status = |value: &Value| match number(value)? {
        status @ 200..=599 => Ok(status as u16),
        other => Err(format!("expected a final HTTP status, found {other}")),
    };
    fields.take("status", status)
}

fn text(value: &Value) -> Result<String, String> {
    value.as_str().map(String::from).ok_or_else(|| format!("expected text, found {value}"))
}

fn truth(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("expected true or false, found {value}"))
}

fn number(value: &Value) -> Result<u64, String> {
    value.as_u64().ok_or_else(|| format!("expected a whole number, found {value}"))
}

fn size(value: &Value) -> Result<usize, String> {
    number(value).map(|number| number as usize)
}

fn list<T>(value: &Value, item: fn(&Value) -> Result<T, String>) -> Result<Vec<T>, String> {
    let items = value.as_array().ok_or_else(|| format!("expected an array, found {value}"))?;
    items.iter().map(item).collect()
}

/// The members of a JSON object that have not been taken yet.
struct Fields(Map<String, Value>);

impl Fields {
    fn of(value: &Value) -> Result<Self, String> {
        let object =
            value.as_object().ok_or_else(|| format!("expected an object, found {value}"))?;
        Ok(Self(object.clone()))
    }

    fn take<T>(
        &mut self,
        name: &str,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let value = self.0.remove(name);
        value.map(|value| read(&value).map_err(|error| format!("{name}: {error}"))).transpose()
    }

    fn end(self) -> Result<(), String> {
        match self.0.keys().next() {
            Some(name) => Err(format!("unknown key {name}")),
            None => Ok(()),
        }
    }
}
