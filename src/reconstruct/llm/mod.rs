//! Calls to language models: which exchanges are such calls, and what they say.
//!
//! Fed by [`super::exchange`] with decoded content as it comes, so that no body has to be kept.
//!
//! ```text
//!  request  ─▶ json_reader ─▶ request ─ an API's drafts ─▶ blocks ─▶ Block, once each
//!  response ─▶ events, or json_reader ─▶ an API's event/response ─▶ reply ─▶ Block, Limit, LlmCall
//! ```
//!
//! An exchange is a call when it is a `POST` whose path ends as the API's does and either its
//! host, path or headers are the provider's own, or its request body has the API's shape. The provider
//! is known by host ([`provider`]); a compatible server counts as the provider whose API it speaks,
//! since usage and prices follow the API's conventions. What only looks like a call is shown as one of
//! an unknown API ([`other`]).

mod anthropic;
mod bedrock;
mod blocks;
mod correlation;
mod dates;
mod draft;
mod endpoint;
mod gemini;
mod json_reader;
mod limits;
mod ollama;
mod openai_chat;
mod openai_responses;
mod other;
mod provider;
mod reply;
mod request;
pub(crate) mod websocket;

use serde_json::{Map, Value};

pub(crate) use self::blocks::Blocks;
use self::draft::Draft;
use self::endpoint::Endpoint;
use self::json_reader::{Field, Reader};
use self::reply::{Reply, Said};
use self::request::Request;
use super::exchange::Findings;
use super::finding::{
    BlockRef, CallClass, Content, Exchange, Finding, Header, LlmCall, Placement, Usage, UsageState,
};
use super::http1::head::{RequestHead, ResponseHead, values};
use crate::time::WallNanos;

/// Longest value kept of a field.
const MAX_VALUE_BYTES: usize = 64 << 10;

/// Longest value kept of a field of a response that holds the generated content.
const MAX_RESPONSE_VALUE_BYTES: usize = 16 << 20;

/// Shortest pause between bytes of a response that is noted, and how many are.
const MIN_PAUSE_MS: f64 = 1000.0;
const MAX_PAUSES: usize = 256;

/// Watches one exchange that may be a call.
#[derive(Debug)]
pub(crate) struct Observer {
    call_id: u64,
    endpoint: Endpoint,
    request: Request,
    /// Of the request that made the connection a WebSocket; messages have no head of their own.
    upgrade_headers: Vec<Header>,
    /// How the response comes, once its head tells.
    transport: Option<&'static str>,
    /// Reads a response that is one JSON text.
    response: Reader,
    /// Whether more of it than what may stand before its object came.
    is_response_begun: bool,
    /// What it said.
    response_fields: Map<String, Value>,
    /// When the head and the latest content of the response came.
    head_ts: Option<WallNanos>,
    response_ts: Option<WallNanos>,
    pauses: Vec<(WallNanos, WallNanos)>,
    reply: Reply,
}

/// How requests and responses are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Anthropic,
    OpenaiChat,
    OpenaiResponses,
    Gemini,
    Ollama,
    BedrockInvoke,
    BedrockConverse,
    Other,
}

impl Api {
    /// The value of the `api` column.
    fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic_messages",
            Self::OpenaiChat => "openai_chat",
            Self::OpenaiResponses => "openai_responses",
            Self::Gemini => "gemini_generate",
            Self::Ollama => "ollama_chat",
            Self::BedrockInvoke => "bedrock_invoke",
            Self::BedrockConverse => "bedrock_converse",
            Self::Other => "other",
        }
    }

    /// The provider whose API it is.
    fn family(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenaiChat | Self::OpenaiResponses => "openai",
            Self::Gemini => "gcp.gemini",
            Self::Ollama => "ollama",
            Self::BedrockInvoke | Self::BedrockConverse => "aws.bedrock",
            Self::Other => "other",
        }
    }

    fn request_fields(self) -> &'static [Field] {
        match self {
            Self::Anthropic | Self::BedrockInvoke => anthropic::REQUEST,
            Self::OpenaiChat => openai_chat::REQUEST,
            Self::OpenaiResponses => openai_responses::REQUEST,
            Self::Gemini => gemini::REQUEST,
            Self::Ollama => ollama::REQUEST,
            Self::BedrockConverse => bedrock::REQUEST,
            Self::Other => other::REQUEST,
        }
    }

    fn response_fields(self) -> &'static [Field] {
        match self {
            Self::Anthropic | Self::BedrockInvoke => anthropic::RESPONSE,
            Self::OpenaiChat => openai_chat::RESPONSE,
            Self::OpenaiResponses => openai_responses::RESPONSE,
            Self::Gemini => gemini::RESPONSE,
            Self::Ollama => ollama::RESPONSE,
            Self::BedrockConverse => bedrock::RESPONSE,
            Self::Other => other::RESPONSE,
        }
    }

    /// The blocks of an element of a section of a request.
    fn drafts(self, section: &str, element: &Value) -> Vec<Draft> {
        match self {
            Self::Anthropic | Self::BedrockInvoke => anthropic::drafts(section, element),
            Self::OpenaiChat => openai_chat::drafts(section, element),
            Self::OpenaiResponses => openai_responses::drafts(section, element),
            Self::Gemini => gemini::drafts(section, element),
            Self::Ollama => ollama::drafts(section, element),
            Self::BedrockConverse => bedrock::drafts(section, element),
            Self::Other => Vec::new(),
        }
    }

    /// Takes one event of a stream.
    fn event(self, reply: &mut Reply, call_id: u64, ts: WallNanos, kind: Option<&str>, data: &str) {
        if self == Self::OpenaiChat {
            return openai_chat::event(reply, ts, data);
        }
        let is_bedrock = matches!(self, Self::BedrockInvoke | Self::BedrockConverse);
        if let Some(kind) = kind.filter(|kind| is_bedrock && bedrock::is_exception(kind)) {
            reply.error_type = Some(kind.to_owned());
            reply.ended = true;
            return;
        }
        let Ok(data) = serde_json::from_str::<Value>(data) else { return };
        match self {
            Self::Anthropic => anthropic::event(reply, ts, &data),
            Self::BedrockInvoke => match bedrock::invoke_event(&data) {
                Some(event) => anthropic::event(reply, ts, &event),
                // A gateway may have unwrapped it.
                None => anthropic::event(reply, ts, &data),
            },
            Self::OpenaiChat => {}
            Self::OpenaiResponses => openai_responses::event(reply, ts, call_id, &data),
            Self::Gemini => gemini::event(reply, ts, &data),
            Self::Ollama => ollama::event(reply, ts, &data),
            Self::BedrockConverse => {
                bedrock::converse_event(reply, ts, kind.unwrap_or_default(), &data);
            }
            Self::Other => other::event(reply, &data),
        }
    }

    /// Takes a response that is one JSON text.
    fn response(self, reply: &mut Reply, fields: &Value, ts: WallNanos) {
        match self {
            Self::Anthropic | Self::BedrockInvoke => anthropic::response(reply, fields, ts),
            Self::OpenaiChat => openai_chat::response(reply, fields, ts),
            Self::OpenaiResponses => openai_responses::response(reply, fields, ts),
            Self::Gemini => gemini::response(reply, fields, ts),
            Self::Ollama => ollama::response(reply, fields, ts),
            Self::BedrockConverse => bedrock::response(reply, fields, ts),
            Self::Other => other::event(reply, fields),
        }
    }

    /// The blocks of a response.
    fn said(self, reply: &Reply) -> Vec<Said> {
        match self {
            Self::Anthropic | Self::BedrockInvoke => anthropic::said(reply),
            Self::OpenaiChat => openai_chat::said(reply),
            Self::OpenaiResponses => openai_responses::said(reply),
            Self::Gemini => gemini::said(reply),
            Self::Ollama => ollama::said(reply),
            Self::BedrockConverse => bedrock::said(reply),
            Self::Other => Vec::new(),
        }
    }

    /// Counts as all providers' are compared.
    fn usage(self, fields: &Map<String, Value>) -> Usage {
        match self {
            Self::Anthropic | Self::BedrockInvoke => anthropic::usage(fields),
            Self::OpenaiChat => openai_chat::usage(fields),
            Self::OpenaiResponses => openai_responses::usage(fields),
            Self::Gemini => gemini::usage(fields),
            Self::Ollama => ollama::usage(fields),
            Self::BedrockConverse => bedrock::usage(fields),
            Self::Other => Usage::default(),
        }
    }
}

impl Observer {
    /// Begins to watch an exchange whose request head may be that of a call.
    pub(crate) fn for_request(
        call_id: u64,
        head: &RequestHead,
        host: Option<&str>,
        path: Option<&str>,
    ) -> Option<Self> {
        if head.method != "POST" {
            return None;
        }
        let mut endpoint = Endpoint::of(host, path?);
        let has_version = values(&head.headers, "anthropic-version").next().is_some();
        endpoint.is_proven |= endpoint.api == Api::Anthropic && has_version;
        let is_json = || values(&head.headers, "content-type").any(|kind| kind.contains("json"));
        // A body of another kind cannot look like a request to a model.
        (endpoint.api != Api::Other || is_json()).then(|| Self::new(call_id, endpoint))
    }

    fn new(call_id: u64, endpoint: Endpoint) -> Self {
        let (api, has_model) = (endpoint.api, endpoint.model.is_some());
        Self {
            call_id,
            request: Request::new(api, has_model, endpoint.is_proven),
            upgrade_headers: Vec::new(),
            transport: None,
            response: Reader::new(api.response_fields()),
            is_response_begun: false,
            response_fields: Map::new(),
            head_ts: None,
            response_ts: None,
            pauses: Vec::new(),
            reply: Reply::default(),
            endpoint,
        }
    }

    /// Decoded request content.
    pub(crate) fn request_bytes(&mut self, ts: WallNanos, bytes: &[u8], findings: Findings<'_>) {
        self.request.push(self.call_id, ts, bytes, findings);
    }

    /// Request content is missing here.
    pub(crate) fn request_gap(&mut self) {
        self.request.stop();
    }

    /// The final response's head, and whether its content comes as events.
    pub(crate) fn response_head(&mut self, ts: WallNanos, head: &ResponseHead, streamed: bool) {
        self.head_ts = Some(ts);
        let content_type = values(&head.headers, "content-type").next().unwrap_or_default();
        self.transport = Some(if streamed { stream_kind(content_type) } else { "http" });
    }

    /// Decoded response content, when it does not come as events.
    pub(crate) fn response_bytes(&mut self, ts: WallNanos, bytes: &[u8]) {
        self.response_ts = Some(ts);
        let bytes = self.within_list(bytes);
        let fields = &mut self.response_fields;
        self.response.push(bytes, &mut |found| {
            if let Ok(value) = serde_json::from_slice(found.json) {
                fields.insert(found.name.to_owned(), value);
            }
        });
    }

    /// What is left without the bracket before it: some of Gemini's servers refuse with a list of one
    /// error, also where events were asked for.
    fn within_list<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.is_response_begun || self.endpoint.api != Api::Gemini {
            return bytes;
        }
        let is_before = |byte: &u8| *byte == b'[' || byte.is_ascii_whitespace();
        let begin = bytes.iter().position(|byte| !is_before(byte));
        self.is_response_begun = begin.is_some();
        &bytes[begin.unwrap_or(bytes.len())..]
    }

    /// Nothing of the response came between these times.
    pub(crate) fn response_pause(&mut self, from: WallNanos, to: WallNanos) {
        if to.ms_since(from) >= MIN_PAUSE_MS && self.pauses.len() < MAX_PAUSES {
            self.pauses.push((from, to));
        }
    }

    /// Response content is missing here.
    pub(crate) fn response_gap(&mut self) {
        self.response.stop();
        self.reply.parts.gap();
    }

    /// An event of the response stream.
    pub(crate) fn event(&mut self, ts: WallNanos, event: Option<&str>, data: &str) {
        self.response_ts = Some(ts);
        self.endpoint.api.event(&mut self.reply, self.call_id, ts, event, data);
    }

    /// Whether the provider said that nothing more of the response will come.
    pub(crate) fn is_ended(&self) -> bool {
        self.reply.ended
    }

    /// The exchange has ended; gives the call if it was one, after its last blocks and what it says of
    /// limits. `request_whole`: the request body was seen whole.
    pub(crate) fn finish(
        mut self,
        exchange: Exchange,
        request_whole: bool,
        findings: Findings<'_>,
    ) -> Option<LlmCall> {
        if !self.is_call(request_whole) {
            return None;
        }
        let response_ts = self.response_ts.unwrap_or(exchange.start_ts);
        if !self.response_fields.is_empty() {
            let fields = Value::Object(std::mem::take(&mut self.response_fields));
            if self.endpoint.class == CallClass::CountTokens {
                COUNTED.iter().for_each(|name| self.reply.merge_usage(&only(&fields, name)));
            }
            self.endpoint.api.response(&mut self.reply, &fields, response_ts);
        }
        if self.endpoint.api == Api::BedrockInvoke {
            bedrock::token_headers(&mut self.reply, &exchange.response_headers);
        }
        let response = self.response_blocks(findings);
        self.tell_limits(&exchange, findings);

        let (usage, usage_state) = self.usage();
        let retry_after_ms = limits::retry_after_ms(response_ts, &exchange.response_headers);
        let (request_tier, class) = (self.request_tier(), self.class());
        let id = |name| values(&exchange.response_headers, name).next().map(str::to_owned);
        let head = match &*self.upgrade_headers {
            [] => &exchange.request_headers,
            headers => headers,
        };
        let agent = values(head, "user-agent").next().and_then(agent);
        let head = correlation::of_head(head);
        let (request_model, endpoint) = (self.request.text("model"), self.endpoint);
        let transport = self.transport.unwrap_or_else(|| asked_kind(&endpoint, &self.request));
        let correlation = correlation::with_body(head, &self.request);
        let (request, is_request_whole, request_digest) = self.request.into_content();
        let reply = self.reply;
        let is_aws = matches!(endpoint.api, Api::BedrockInvoke | Api::BedrockConverse);
        let aws_error = || is_aws.then(|| bedrock::error_header(&exchange.response_headers))?;
        Some(LlmCall {
            agent,
            error_type: reply.error_type.or_else(aws_error),
            request_model: request_model.or(endpoint.model),
            model: reply.model,
            stop_reason: reply.stop_reason,
            first_token_ts: reply.first_token_ts,
            usage,
            usage_state,
            request_id: REQUEST_IDS.iter().find_map(|name| id(name)),
            response_id: reply.response_id,
            request_tier,
            tier: reply.tier,
            retry_after_ms: retry_after_ms.or(reply.retry_after_ms),
            cache_miss_reason: reply.cache_miss_reason,
            cache_missed_tokens: reply.cache_missed_tokens,
            pauses: self.pauses,
            correlation,
            placement: Placement { class, ..Placement::default() },
            content: Content { request, is_request_whole, response, request_digest },
            ..LlmCall::new(exchange, endpoint.provider, endpoint.api.name(), transport)
        })
    }

    fn is_call(&self, request_whole: bool) -> bool {
        let has_model = self.request.has("model");
        match self.endpoint.api {
            Api::Other => has_model && other::READ.iter().any(|name| self.request.has(name)),
            _ if self.request.is_proven() => true,
            // The path tells, and what speaks against it was not seen.
            Api::Anthropic | Api::OpenaiChat => !request_whole,
            _ => !request_whole && has_model,
        }
    }

    /// Hands out the blocks of the response that are new, and lists all.
    fn response_blocks(&mut self, findings: Findings<'_>) -> Vec<BlockRef> {
        let is_streamed = self.transport != Some("http");
        let mut refs = Vec::new();
        for Said { draft, path, came } in self.endpoint.api.said(&self.reply) {
            let (known, told) = findings.blocks().number(draft, self.call_id, came.1);
            if let Some(block) = told {
                findings.find(Finding::Block(Box::new(block)));
            }
            let streamed = is_streamed.then_some(came);
            refs.push(BlockRef { path, streamed, ..known.at(path.section, path.item) });
        }
        refs
    }

    fn tell_limits(&mut self, exchange: &Exchange, findings: Findings<'_>) {
        let head_ts = self.head_ts.unwrap_or(exchange.start_ts);
        let of_head = limits::of_head(self.call_id, head_ts, &exchange.response_headers);
        for limit in of_head.into_iter().chain(std::mem::take(&mut self.reply.limits)) {
            findings.find(Finding::Limit(Box::new(limit)));
        }
    }

    /// The counts, and how they came to be known. Counting tokens uses none.
    fn usage(&mut self) -> (Usage, UsageState) {
        let state = self.usage_state();
        let api = self.endpoint.api;
        let fields = std::mem::take(&mut self.reply.usage);
        let counts_only = self.endpoint.class == CallClass::CountTokens;
        if matches!(api, Api::Anthropic | Api::BedrockInvoke) {
            self.reply.tier = anthropic::tier(&fields);
        }
        let usage = if counts_only { Usage::default() } else { api.usage(&fields) };
        let usage_json = (!fields.is_empty()).then(|| Value::Object(fields).to_string());
        let state = if usage == Usage::default() { self.state_without_counts() } else { state };
        (Usage { usage_json, ..usage }, state)
    }

    fn usage_state(&self) -> UsageState {
        let failed = self.reply.error_type.is_some();
        if self.reply.usage_final && !failed { UsageState::Reported } else { UsageState::Partial }
    }

    /// Chat servers send counts at the end of a stream, and only when asked to: they are missing where
    /// the stream was cut.
    fn state_without_counts(&self) -> UsageState {
        let asked = || self.request.value("stream_options")?.get("include_usage")?.as_bool();
        let reply = &self.reply;
        let is_cut = self.transport.is_some_and(|transport| transport != "http")
            && !reply.ended
            && reply.error_type.is_none();
        if is_cut && asked() == Some(true) { UsageState::Partial } else { UsageState::None }
    }

    /// A speed other than the usual one says more than the tier.
    fn request_tier(&self) -> Option<String> {
        let converse =
            || Some(self.request.value("serviceTier")?.get("type")?.as_str()?.to_owned());
        let speed = self.request.text("speed").filter(|speed| speed != "standard");
        speed
            .or_else(|| self.request.text("service_tier"))
            .or_else(|| self.request.text("serviceTier"))
            .or_else(converse)
    }

    fn class(&self) -> CallClass {
        let is = |name: &str, expected: Value| self.request.value(name) == Some(expected);
        let prewarms = || self.request.value("prompt_cache_options")?.get("prewarm")?.as_bool();
        let is_warmup = is("generate", Value::Bool(false))
            || is("max_tokens", Value::from(0))
            || prewarms() == Some(true);
        match self.endpoint.class {
            CallClass::Main if is_warmup => CallClass::Warmup,
            class => class,
        }
    }
}

/// What counting tokens answers, in the words of each API.
const COUNTED: [&str; 3] = ["input_tokens", "totalTokens", "inputTokens"];

/// An object with only this field, if it has it.
fn only(fields: &Value, name: &str) -> Value {
    fields.get(name).map(|value| (name.to_owned(), value.clone())).into_iter().collect()
}

/// Heads of responses that have the provider's id of the request.
const REQUEST_IDS: [&str; 5] =
    ["request-id", "x-request-id", "x-amzn-requestid", "apim-request-id", "x-goog-request-id"];

/// The value of the `transport` column for a response of this type that comes as events.
fn stream_kind(content_type: &str) -> &'static str {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    match media_type.to_ascii_lowercase().as_str() {
        "application/vnd.amazon.eventstream" => "event_stream",
        "application/json" => "json_array",
        kind if kind.contains("ndjson") || kind.contains("jsonl") => "ndjson",
        _ => "sse",
    }
}

/// The same where no response was seen, by what was asked for.
fn asked_kind(endpoint: &Endpoint, request: &Request) -> &'static str {
    let asked = request.value("stream").and_then(|stream| stream.as_bool());
    match endpoint.api {
        Api::Ollama if asked != Some(false) => "ndjson",
        Api::BedrockInvoke | Api::BedrockConverse if endpoint.is_streaming => "event_stream",
        _ if asked == Some(true) || endpoint.is_streaming => "sse",
        _ => "http",
    }
}

/// The first product of a User-Agent field (RFC 9110 section 10.1.5).
fn agent(user_agent: &str) -> Option<String> {
    user_agent.split([' ', '(']).find(|word| !word.is_empty()).map(str::to_owned)
}

#[cfg(any(test, fuzzing))]
mod fuzz;
#[cfg(any(test, fuzzing))]
pub(super) use fuzz::fuzz;

#[cfg(test)]
mod tests;
