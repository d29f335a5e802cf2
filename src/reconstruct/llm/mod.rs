//! Calls to language models: which exchanges are such calls, and what they say.
//!
//! Fed by [`super::exchange`] with decoded content as it comes, so that no body has to be kept.
//! An exchange is a call when it is a `POST` whose path ends as the API's does and either its
//! host or headers are the provider's own, or its request body has the API's shape. The provider
//! is known by host (`api.anthropic.com`, `api.openai.com`); a compatible server counts as the
//! provider whose API it speaks, since usage and prices follow the API's conventions.

mod anthropic;
mod json_fields;
mod openai_chat;
pub(crate) mod websocket;

use serde_json::{Map, Value};

use self::json_fields::JsonFields;
use super::finding::{Exchange, LlmCall, Usage, UsageState};
use super::http1::head::{RequestHead, ResponseHead, values};
use crate::time::WallNanos;

/// Longest value kept of a field of a request body.
const MAX_REQUEST_VALUE_BYTES: usize = 64 << 10;

/// Longest value kept of a field of a response body; holds the generated text.
const MAX_RESPONSE_VALUE_BYTES: usize = 16 << 20;

/// Watches one exchange that may be a call.
#[derive(Debug)]
pub(crate) struct Observer {
    api: Api,
    provider: &'static str,
    /// Host or headers prove the API; otherwise the request body must.
    proven: bool,
    agent: Option<String>,
    request: JsonFields,
    /// Fields of a response that is one JSON text.
    response: JsonFields,
    request_id: Option<String>,
    streamed: Option<bool>,
    reply: Reply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Api {
    Anthropic,
    OpenaiChat,
}

/// What a response said so far.
#[derive(Debug, Default)]
struct Reply {
    error_type: Option<String>,
    model: Option<String>,
    stop_reason: Option<String>,
    first_token_ts: Option<WallNanos>,
    /// The provider's usage fields, later ones overwriting earlier ones.
    usage: Map<String, Value>,
    /// The usage is known to be final.
    usage_final: bool,
    /// The provider said that nothing more will come.
    ended: bool,
    response_id: Option<String>,
}

impl Api {
    fn of_path(path: &str) -> Option<Self> {
        let path = path.split(['?', '#']).next()?;
        // `/v1/messages/count_tokens` and `/v1/messages/batches` end otherwise: no model answers.
        if path.ends_with("/v1/messages") {
            Some(Self::Anthropic)
        } else if path.ends_with("/chat/completions") {
            Some(Self::OpenaiChat)
        } else {
            None
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic_messages",
            Self::OpenaiChat => "openai_chat",
        }
    }

    fn provider(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenaiChat => "openai",
        }
    }

    fn response_fields(self) -> &'static [&'static str] {
        match self {
            Self::Anthropic => anthropic::RESPONSE_FIELDS,
            Self::OpenaiChat => openai_chat::RESPONSE_FIELDS,
        }
    }
}

impl Observer {
    /// Begins to watch an exchange whose request head may be that of a call.
    pub(crate) fn for_request(
        head: &RequestHead,
        host: Option<&str>,
        path: Option<&str>,
    ) -> Option<Self> {
        if head.method != "POST" {
            return None;
        }
        let api = Api::of_path(path?)?;
        let known = host.and_then(known_provider);
        let has_version = values(&head.headers, "anthropic-version").next().is_some();
        Some(Self {
            api,
            provider: known.unwrap_or(api.provider()),
            proven: known.is_some() || (api == Api::Anthropic && has_version),
            agent: values(&head.headers, "user-agent").next().and_then(agent),
            request: JsonFields::new(
                &["model", "messages", "stream", "stream_options"],
                MAX_REQUEST_VALUE_BYTES,
            ),
            response: JsonFields::new(api.response_fields(), MAX_RESPONSE_VALUE_BYTES),
            request_id: None,
            streamed: None,
            reply: Reply::default(),
        })
    }

    /// Decoded request content.
    pub(crate) fn request_bytes(&mut self, bytes: &[u8]) {
        self.request.push(bytes);
    }

    /// Request content is missing here.
    pub(crate) fn request_gap(&mut self) {
        self.request.stop();
    }

    /// The final response's head, and whether its content is an event stream.
    pub(crate) fn response_head(&mut self, head: &ResponseHead, streamed: bool) {
        let id = |name| values(&head.headers, name).next();
        self.request_id = id("request-id").or_else(|| id("x-request-id")).map(str::to_owned);
        self.streamed = Some(streamed);
    }

    /// Decoded response content, when it is no event stream.
    pub(crate) fn response_bytes(&mut self, bytes: &[u8]) {
        self.response.push(bytes);
    }

    /// Response content is missing here.
    pub(crate) fn response_gap(&mut self) {
        self.response.stop();
    }

    /// An event of the response stream.
    pub(crate) fn event(&mut self, ts: WallNanos, event: Option<&str>, data: &str) {
        match self.api {
            Api::Anthropic => anthropic::event(&mut self.reply, ts, event, data),
            Api::OpenaiChat => openai_chat::event(&mut self.reply, ts, data),
        }
    }

    /// The exchange has ended; gives the call if it was one. `request_whole`: the request body
    /// was seen whole.
    pub(crate) fn finish(mut self, exchange: Exchange, request_whole: bool) -> Option<LlmCall> {
        let has_shape = self.request.has("model") && self.request.has("messages");
        if !self.proven && !has_shape && request_whole {
            return None;
        }
        let request_model = self.request.text("model");
        let asked_to_stream = self.request.value("stream") == Some(Value::Bool(true));
        if self.streamed == Some(false) {
            match self.api {
                Api::Anthropic => anthropic::response(&mut self.reply, &self.response),
                Api::OpenaiChat => openai_chat::response(&mut self.reply, &self.response),
            }
        }
        let usage_state = self.usage_state();
        let reply = self.reply;
        let usage = match self.api {
            Api::Anthropic => anthropic::usage(&reply.usage),
            Api::OpenaiChat => openai_chat::usage(&reply.usage),
        };
        let usage_json = (!reply.usage.is_empty()).then(|| Value::Object(reply.usage).to_string());
        let transport = if self.streamed.unwrap_or(asked_to_stream) { "sse" } else { "http" };
        Some(LlmCall {
            agent: self.agent,
            error_type: reply.error_type,
            request_model,
            model: reply.model,
            stop_reason: reply.stop_reason,
            first_token_ts: reply.first_token_ts,
            usage: Usage { usage_json, ..usage },
            usage_state,
            request_id: self.request_id,
            response_id: reply.response_id,
            ..LlmCall::new(exchange, self.provider, self.api.name(), transport)
        })
    }

    fn usage_state(&self) -> UsageState {
        let reply = &self.reply;
        let failed = reply.error_type.is_some();
        if reply.usage.is_empty() {
            // Chat servers send usage at the end of a stream, and only when asked to.
            let asked = self
                .request
                .value("stream_options")
                .is_some_and(|options| options.get("include_usage") == Some(&Value::Bool(true)));
            let cut = self.streamed == Some(true) && asked && !reply.ended && !failed;
            return if cut { UsageState::Partial } else { UsageState::None };
        }
        if reply.usage_final && !failed { UsageState::Reported } else { UsageState::Partial }
    }
}

impl Reply {
    /// Takes over a usage object: fields that are present overwrite, nothing is added up.
    fn merge_usage(&mut self, usage: &Value) {
        let Value::Object(fields) = usage else { return };
        for (name, value) in fields {
            if !value.is_null() || !self.usage.contains_key(name) {
                self.usage.insert(name.clone(), value.clone());
            }
        }
    }
}

fn known_provider(host: &str) -> Option<&'static str> {
    // A port may follow; host names are case-insensitive.
    match host.split(':').next()?.to_ascii_lowercase().as_str() {
        "api.anthropic.com" => Some("anthropic"),
        "api.openai.com" => Some("openai"),
        _ => None,
    }
}

/// The first product of a User-Agent field (RFC 9110 section 10.1.5).
fn agent(user_agent: &str) -> Option<String> {
    user_agent.split([' ', '(']).find(|word| !word.is_empty()).map(str::to_owned)
}

/// A string field of a JSON object, unless it is empty.
fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Runs any bytes through everything that reads bodies and stream events.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(bytes: &[u8]) {
    let data = String::from_utf8_lossy(bytes);
    for api in [Api::Anthropic, Api::OpenaiChat] {
        let mut reply = Reply::default();
        let (mut whole, mut single) = (
            JsonFields::new(api.response_fields(), MAX_RESPONSE_VALUE_BYTES),
            JsonFields::new(api.response_fields(), MAX_RESPONSE_VALUE_BYTES),
        );
        whole.push(bytes);
        bytes.chunks(1).for_each(|byte| single.push(byte));
        for name in api.response_fields() {
            assert_eq!(whole.value(name), single.value(name));
        }
        match api {
            Api::Anthropic => {
                anthropic::event(&mut reply, WallNanos(0), None, &data);
                anthropic::response(&mut reply, &whole);
                anthropic::usage(&reply.usage);
            }
            Api::OpenaiChat => {
                openai_chat::event(&mut reply, WallNanos(0), &data);
                openai_chat::response(&mut reply, &whole);
                openai_chat::usage(&reply.usage);
            }
        }
    }
}

#[cfg(test)]
mod tests;
