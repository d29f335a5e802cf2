//! What reconstruction finds out; each struct is one row of the SQL table of that name.
//!
//! Unknown is `None`, never zero.

mod content;
mod conversation;

pub use content::{Block, BlockKind, BlockPath, BlockRef, BlockRole, Content};
pub use conversation::{
    CacheBreak, CallClass, Carried, Context, Conversation, Correlation, Limit, McpCall, Placed,
    Placement, ToolCall, Turn, WallTime,
};

use super::protocol::Side;
use crate::event::{Direction, ProcessId};
use crate::time::WallNanos;

/// One thing found out.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// An HTTP exchange ended or stayed open (table `http`).
    Exchange(Box<Exchange>),
    /// An event of a response stream (table `stream_events`).
    StreamEvent(StreamEvent),
    /// A request that the process made to a model (table `llm_calls`); follows its
    /// [`Finding::Exchange`].
    LlmCall(Box<LlmCall>),
    /// A content block that was not seen before (table `messages`); precedes the call that has it.
    Block(Box<Block>),
    /// A use of a tool has its result, or will have none (table `tool_calls`).
    ToolCall(Box<ToolCall>),
    /// A turn ended or stayed open (table `turns`).
    Turn(Box<Turn>),
    /// What a conversation was in all (table `conversations`).
    Conversation(Box<Conversation>),
    /// A call could not use the cache of the one before it (table `cache_breaks`).
    CacheBreak(Box<CacheBreak>),
    /// A response says how much of a limit is used (table `limits`).
    Limit(Box<Limit>),
    /// A call of the Model Context Protocol ended or stayed open (table `mcp_calls`).
    McpCall(Box<McpCall>),
    /// Where a call stands among the others; at the end, once per call.
    Placed(Box<Placed>),
    /// How often the result of a tool was sent; at the end, once per tool call that has one.
    Carried(Box<Carried>),
}

/// A header field as it stood on the wire; names keep their case, values are lossily decoded.
pub type Header = (String, String);

/// Whether a message was seen whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// Request and response were seen to their ends; of a stream of a model its own last event is one.
    Complete,
    /// Part is missing; the reason says why.
    Partial(PartialReason),
}

/// Why an exchange is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartialReason {
    /// The recording ended first.
    StillOpen,
    /// The connection, its process or, in HTTP/2, its stream ended first.
    Closed,
    /// Bytes in its midst were not captured.
    Gap,
    /// Its bytes break the protocol.
    Malformed,
    /// No response was seen.
    NoResponse,
    /// The recording began in its midst.
    JoinedLate,
    /// Its body could not be decoded.
    Decoding,
}

impl PartialReason {
    /// The value of the `completeness_reason` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StillOpen => "still_open",
            Self::Closed => "closed",
            Self::Gap => "gap",
            Self::Malformed => "malformed",
            Self::NoResponse => "no_response",
            Self::JoinedLate => "joined_late",
            Self::Decoding => "decoding",
        }
    }
}

/// Which end of a connection the observed process is. A connection between two observed processes is
/// seen from both, as two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Perspective {
    /// It asks: writes requests, reads responses.
    Client,
    /// It answers: reads requests, writes responses.
    Server,
}

impl Perspective {
    /// The value of the `role` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    /// The direction in which requests go.
    pub(crate) fn request_direction(self) -> Direction {
        match self {
            Self::Client => Direction::Write,
            Self::Server => Direction::Read,
        }
    }

    /// Whose messages go in this direction.
    pub(crate) fn side(self, direction: Direction) -> Side {
        if direction == self.request_direction() { Side::Request } else { Side::Response }
    }

    /// The direction in which such messages go.
    pub(crate) fn direction(self, side: Side) -> Direction {
        match side {
            Side::Request => self.request_direction(),
            Side::Response => self.other().request_direction(),
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// An HTTP request and its response (RFC 9110).
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// Numbered from 1 in the order in which requests began in the trace.
    pub http_id: u64,
    /// The connection it used.
    pub conn_id: u64,
    /// The process whose connection it is.
    pub process: Option<ProcessId>,
    /// Whether that process made the request or answered it.
    pub perspective: Perspective,
    /// First byte of the request.
    pub start_ts: WallNanos,
    /// Last byte of the request body.
    pub request_end_ts: Option<WallNanos>,
    /// First byte of the final (not 1xx) response.
    pub first_byte_ts: Option<WallNanos>,
    /// Last byte of the response.
    pub end_ts: Option<WallNanos>,
    /// Request method; absent when the request head was not captured. `WS` for a message that the
    /// client sent over WebSocket.
    pub method: Option<String>,
    /// `https` for TLS, `http` for a socket in plain text.
    pub scheme: String,
    /// Authority from the request target or the Host field.
    pub host: Option<String>,
    /// Request target without scheme and authority, query included.
    pub path: Option<String>,
    /// `1.0`, `1.1` or `2`.
    pub http_version: String,
    /// Final status code.
    pub status: Option<u16>,
    /// Request fields in order. A name that HTTP/2 gave by a table whose entry was not seen is `?`.
    pub request_headers: Vec<Header>,
    /// Response fields in order; trailers follow.
    pub response_headers: Vec<Header>,
    /// Decoded request body; `None` when bodies were not asked for.
    pub request_body: Option<Vec<u8>>,
    /// Decoded response body; `None` when bodies were not asked for.
    pub response_body: Option<Vec<u8>>,
    /// Request body size after content decoding.
    pub request_body_bytes: u64,
    /// Response body size after content decoding.
    pub response_body_bytes: u64,
    /// Request body size before content decoding, without chunk framing.
    pub request_wire_bytes: u64,
    /// Response body size before content decoding, without chunk framing.
    pub response_wire_bytes: u64,
    /// Content codings of the response, as its Content-Encoding field says.
    pub content_encoding: Option<String>,
    /// Whether it was seen whole.
    pub completeness: Completeness,
    /// Bytes of it known to be missing.
    pub lost_bytes: u64,
    /// Longest time between two arrivals of response bytes after the first.
    pub max_gap_ms: Option<f64>,
}

impl Exchange {
    /// A client's exchange over TLS of which nothing is known but when it began; not partial.
    #[must_use]
    pub fn new(http_id: u64, conn_id: u64, start_ts: WallNanos) -> Self {
        Self {
            http_id,
            conn_id,
            process: None,
            perspective: Perspective::Client,
            start_ts,
            request_end_ts: None,
            first_byte_ts: None,
            end_ts: None,
            method: None,
            scheme: "https".to_owned(),
            host: None,
            path: None,
            http_version: "1.1".to_owned(),
            status: None,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            request_body: None,
            response_body: None,
            request_body_bytes: 0,
            response_body_bytes: 0,
            request_wire_bytes: 0,
            response_wire_bytes: 0,
            content_encoding: None,
            completeness: Completeness::Complete,
            lost_bytes: 0,
            max_gap_ms: None,
        }
    }
}

/// One server-sent event (WHATWG HTML, 9.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    /// The exchange whose response it is part of.
    pub http_id: u64,
    /// Position in the stream, from 0.
    pub seq: u64,
    /// When its last byte arrived.
    pub ts: WallNanos,
    /// The `event` field; `None` when there was none (then the type is `message`).
    pub event: Option<String>,
    /// The `data` lines joined by line feeds.
    pub data: String,
}

/// How the token counts of a call came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageState {
    /// The provider reported final counts.
    Reported,
    /// The stream ended before the final counts; those seen so far are given.
    Partial,
    /// The provider reported none.
    None,
}

impl UsageState {
    /// The value of the `usage_state` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Partial => "partial",
            Self::None => "none",
        }
    }
}

/// Token counts normalised over providers: `input_tokens` is uncached input only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Input billed at the full price: neither read from nor written to a cache.
    pub input_tokens: Option<u64>,
    /// Input read from the provider's cache.
    pub cache_read_tokens: Option<u64>,
    /// Input written to the provider's cache.
    pub cache_creation_tokens: Option<u64>,
    /// The part of it that is kept for an hour, which costs more; `None` where it is not told apart.
    pub cache_creation_1h_tokens: Option<u64>,
    /// All billed output, reasoning included.
    pub output_tokens: Option<u64>,
    /// The part of the output that was reasoning.
    pub reasoning_tokens: Option<u64>,
    /// The provider's own usage object, as JSON text, later fields overwriting earlier ones.
    pub usage_json: Option<String>,
    /// What the provider itself says the call cost, in US dollars.
    pub reported_cost_usd: Option<f64>,
}

impl Usage {
    /// `input_tokens + cache_read_tokens + cache_creation_tokens`; absent parts count as none,
    /// all absent is unknown.
    #[must_use]
    pub fn total_input_tokens(&self) -> Option<u64> {
        let parts = [self.input_tokens, self.cache_read_tokens, self.cache_creation_tokens];
        parts
            .iter()
            .any(Option::is_some)
            .then(|| parts.iter().flatten().fold(0_u64, |sum, part| sum.saturating_add(*part)))
    }
}

/// One request to a model. Times, sizes, host, path and status are those of the exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct LlmCall {
    /// Equal to the `http_id` of its exchange.
    pub call_id: u64,
    /// The exchange, without bodies.
    pub exchange: Exchange,
    /// The agent program as its User-Agent field names it, such as `claude-cli/2.1.197`.
    pub agent: Option<String>,
    /// OpenTelemetry `gen_ai.provider.name`: `anthropic`, `openai`, ...; by API shape and host.
    pub provider: String,
    /// Shape of the API: `anthropic_messages`, `openai_chat`, `openai_responses`, `gemini_generate`,
    /// `ollama_chat`, `bedrock_invoke`, `bedrock_converse`, or `other` where it is not known.
    pub api: String,
    /// How the response came: `http` (whole), or streamed as `sse`, `ndjson`, `json_array`,
    /// `event_stream` (of AWS) or `websocket`.
    pub transport: String,
    /// The provider's error type, also from an error in the midst of a stream.
    pub error_type: Option<String>,
    /// The model asked for.
    pub request_model: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// The provider's own word.
    pub stop_reason: Option<String>,
    /// When the first generated content (text, thinking or tool arguments) arrived.
    pub first_token_ts: Option<WallNanos>,
    /// Token counts.
    pub usage: Usage,
    /// How the counts came to be known.
    pub usage_state: UsageState,
    /// The provider's id of the request, from the response head.
    pub request_id: Option<String>,
    /// The provider's id of the response, from its body.
    pub response_id: Option<String>,
    /// Service tier, or speed, that was asked for.
    pub request_tier: Option<String>,
    /// Service tier, or speed, that was served.
    pub tier: Option<String>,
    /// How long the provider asks to wait before the next try.
    pub retry_after_ms: Option<f64>,
    /// The provider's own word for why its cache was not used.
    pub cache_miss_reason: Option<String>,
    /// Input tokens that the provider says its cache missed.
    pub cache_missed_tokens: Option<u64>,
    /// Pauses between response bytes of a second and longer, in order; the first 256 of them.
    pub pauses: Vec<(WallNanos, WallNanos)>,
    /// Ids that tie it to other calls.
    pub correlation: Correlation,
    /// Where it stands among the others; empty until [`Finding::Placed`] tells.
    pub placement: Placement,
    /// What its request is made of; `None` where not all of it is known.
    pub context: Option<Context>,
    /// Size of the blocks of its response, as far as they were seen; `None` where there are none.
    pub generated_bytes: Option<u64>,
    /// What it sent and received; only on the way to where conversations are put together.
    pub content: Content,
}

impl LlmCall {
    /// A call of which only the exchange is known, and who was asked in which way.
    #[must_use]
    pub fn new(exchange: Exchange, provider: &str, api: &str, transport: &str) -> Self {
        Self {
            call_id: exchange.http_id,
            exchange,
            agent: None,
            provider: provider.to_owned(),
            api: api.to_owned(),
            transport: transport.to_owned(),
            error_type: None,
            request_model: None,
            model: None,
            stop_reason: None,
            first_token_ts: None,
            usage: Usage::default(),
            usage_state: UsageState::None,
            request_id: None,
            response_id: None,
            request_tier: None,
            tier: None,
            retry_after_ms: None,
            cache_miss_reason: None,
            cache_missed_tokens: None,
            pauses: Vec::new(),
            correlation: Correlation::default(),
            placement: Placement::default(),
            context: None,
            generated_bytes: None,
            content: Content::default(),
        }
    }
}
