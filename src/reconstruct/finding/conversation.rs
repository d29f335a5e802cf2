//! What calls have to do with each other: conversations, turns, uses of tools, broken caches, limits.

use super::super::finding::PartialReason;
use crate::event::ProcessId;
use crate::time::WallNanos;

/// Ids by which agents and providers tie calls together, as they stand on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Correlation {
    /// The agent's session: header or body field of the agent at hand.
    pub session_id: Option<String>,
    /// The agent's word for one conversation where it has one (`prompt_cache_key`, thread id).
    pub thread_id: Option<String>,
    /// The agent's id of the user's prompt that the call serves.
    pub prompt_id: Option<String>,
    /// The agent's id of the agent or sub-agent that calls.
    pub agent_id: Option<String>,
    /// The agent's id of the one that started it.
    pub parent_agent_id: Option<String>,
    /// The agent's own word for what the call is for (`main`, `subagent`, `compaction`, ...).
    pub request_class: Option<String>,
    /// The response whose history this call goes on with (`previous_response_id`).
    pub previous_response_id: Option<String>,
    /// The client's own id of the request.
    pub client_request_id: Option<String>,
}

/// What kind of call it is among the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallClass {
    /// The conversation that the user has.
    #[default]
    Main,
    /// A conversation that a tool call of another one holds.
    Subagent,
    /// A title, classifier or other call beside a conversation.
    Side,
    /// Asks for a summary in place of the history.
    Compaction,
    /// Only fills the provider's cache.
    Warmup,
    /// Counts tokens; no model answers.
    CountTokens,
}

impl CallClass {
    /// The value of the `call_class` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Subagent => "subagent",
            Self::Side => "side",
            Self::Compaction => "compaction",
            Self::Warmup => "warmup",
            Self::CountTokens => "count_tokens",
        }
    }
}

/// Where a call stands among the others. Known when all calls are: a finding of its own
/// ([`Placed`]) tells it, [`LlmCall::placement`](super::LlmCall::placement) is filled from that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The conversation, numbered from 1 in the order of their first calls.
    pub conversation_id: Option<u64>,
    /// The turn in it, from 1; `None` for calls that are none of a turn (side calls).
    pub turn: Option<u32>,
    /// What it is for.
    pub class: CallClass,
    /// 1 for the first try of a request.
    pub attempt: u32,
    /// The call before it that this one tries once more.
    pub retry_of: Option<u64>,
}

/// The place of a call, told when all calls are known: what a call is may show in what comes after
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The call.
    pub call_id: u64,
    /// Its place.
    pub placement: Placement,
}

/// What a request is made of, in bytes of its blocks ([`BlockRef::bytes`](super::BlockRef::bytes));
/// the JSON around them does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Instructions: system and developer messages.
    pub system_bytes: u64,
    /// Definitions of tools.
    pub tool_definition_bytes: u64,
    /// Results of tools.
    pub tool_result_bytes: u64,
    /// Words of the user, and of the program in the user's place.
    pub user_bytes: u64,
    /// What the model said before.
    pub assistant_bytes: u64,
    /// Number of blocks.
    pub blocks: u64,
}

/// How often the result of a tool was sent, told when all calls are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The call whose response asks for the tool.
    pub call_id: u64,
    /// The use of the tool, as [`ToolCall::tool_call_id`].
    pub tool_call_id: String,
    /// Calls whose requests have the result, the first and retries included.
    pub calls: u64,
}

/// A tool that a model asked for, and what came of it (table `tool_calls`).
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// The provider's id of the use; made of call and position where the API has none.
    pub tool_call_id: String,
    /// The call whose response asks for it.
    pub call_id: u64,
    /// The call whose request carries the result.
    pub result_call_id: Option<u64>,
    /// The conversation it is part of: that of its call, filled in from [`Placed`].
    pub conversation_id: Option<u64>,
    /// The turn in it: that of its call, filled in from [`Placed`].
    pub turn: Option<u32>,
    /// The process that made the call.
    pub process: Option<ProcessId>,
    /// Name of the tool.
    pub name: Option<String>,
    /// Arguments as JSON text; what was streamed may break off.
    pub arguments: Option<String>,
    /// Result as text.
    pub result: Option<String>,
    /// Whether the result says that it failed.
    pub is_error: Option<bool>,
    /// Size of the result's text.
    pub result_bytes: Option<u64>,
    /// When the last byte of its arguments came.
    pub start_ts: WallNanos,
    /// When the request with its result began.
    pub end_ts: Option<WallNanos>,
    /// Calls whose requests have the result, filled in from [`Carried`].
    pub carried_calls: Option<u64>,
    /// Whether the provider ran it (web search and the like): no local process did.
    pub is_server_side: bool,
}

/// How wall time is split; parts sum to the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WallTime {
    /// First to last byte of requests.
    pub upload_ms: f64,
    /// From the end of a request to the first byte generated.
    pub wait_ms: f64,
    /// Reasoning arriving.
    pub thinking_ms: f64,
    /// Text and tool arguments arriving.
    pub stream_ms: f64,
    /// Pauses in a stream longer than a threshold.
    pub stall_ms: f64,
    /// No call running and tools to run.
    pub tool_ms: f64,
    /// Waiting for the user, and what else is between calls.
    pub user_ms: f64,
    /// Failed attempts, and the pauses after them.
    pub retry_ms: f64,
}

impl WallTime {
    /// The whole.
    #[must_use]
    pub fn total_ms(&self) -> f64 {
        self.upload_ms
            + self.wait_ms
            + self.thinking_ms
            + self.stream_ms
            + self.stall_ms
            + self.tool_ms
            + self.user_ms
            + self.retry_ms
    }
}

/// What a user's prompt led to (table `turns`).
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// The conversation it is part of.
    pub conversation_id: u64,
    /// From 1.
    pub turn: u32,
    /// The first call of the turn.
    pub first_call_id: u64,
    /// The last call of the turn.
    pub last_call_id: u64,
    /// First byte of its first request.
    pub start_ts: WallNanos,
    /// Last byte of its last response; `None` while one is open.
    pub end_ts: Option<WallNanos>,
    /// Begin of the user's words.
    pub prompt: Option<String>,
    /// Calls, attempts included.
    pub calls: u64,
    /// Calls that tried a request once more.
    pub retries: u64,
    /// Uses of tools.
    pub tool_calls: u64,
    /// Wall time from `start_ts` to `end_ts`, split.
    pub wall_time: WallTime,
    /// The model's last word on why it stopped.
    pub stop_reason: Option<String>,
}

/// Calls that go on with the same history (table `conversations`).
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// Numbered from 1 in the order of their first calls.
    pub conversation_id: u64,
    /// The conversation whose tool call or side call it is.
    pub parent_conversation_id: Option<u64>,
    /// The tool call of the parent that holds it.
    pub parent_tool_call_id: Option<String>,
    /// The process that makes its calls.
    pub process: Option<ProcessId>,
    /// Program, as in table `llm_calls`.
    pub agent: Option<String>,
    /// What it is among the others.
    pub class: CallClass,
    /// Ids of its first call.
    pub correlation: Correlation,
    /// First byte of its first request.
    pub start_ts: WallNanos,
    /// Last byte of its last response.
    pub end_ts: Option<WallNanos>,
    /// Turns.
    pub turns: u32,
    /// Calls, attempts included.
    pub calls: u64,
    /// Times its history was replaced by a summary.
    pub compactions: u64,
    /// Why its begin is missing, if it is.
    pub cut: Option<PartialReason>,
}

/// A prompt cache that the next call could not use (table `cache_breaks`).
#[derive(Clone, Debug, PartialEq)]
pub struct CacheBreak {
    /// The call that could not use it.
    pub call_id: u64,
    /// The call before it in the conversation.
    pub previous_call_id: u64,
    /// The conversation.
    pub conversation_id: u64,
    /// When the call began.
    pub ts: WallNanos,
    /// What explains it: `content` (the prefix differs), `ttl` (it does not, but time passed),
    /// `model` (another model), `unknown`.
    pub cause: &'static str,
    /// JSON path of the first difference, such as `tools[12].description`.
    pub first_difference: Option<String>,
    /// The provider's own word for the reason.
    pub provider_reason: Option<String>,
    /// Size of the blocks before the first difference, in the order tools, instructions, messages;
    /// `None` where the request before is no longer known.
    pub common_bytes: Option<u64>,
    /// Time from the end of the call before to the begin of this one.
    pub idle_ms: Option<f64>,
    /// Input tokens that the call before left in the cache and this one did not read from it.
    pub lost_tokens: Option<u64>,
}

/// How much of a limit is used, as a response says (table `limits`).
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// The exchange that says so.
    pub http_id: u64,
    /// When it said so.
    pub ts: WallNanos,
    /// Name of the limit, as on the wire without its common prefix: `requests`, `input-tokens`,
    /// `unified-5h`, `primary`, ...
    pub name: String,
    /// How much is allowed.
    pub limit: Option<f64>,
    /// How much is left.
    pub remaining: Option<f64>,
    /// Share used, 0 to 100.
    pub used_percent: Option<f64>,
    /// When it starts anew.
    pub reset_ts: Option<WallNanos>,
    /// The provider's word for its state, such as `allowed` or `rejected`.
    pub status: Option<String>,
}

/// A JSON-RPC request of the Model Context Protocol and its answer (table `mcp_calls`).
#[derive(Clone, Debug, PartialEq)]
pub struct McpCall {
    /// The stream that carries the request.
    pub conn_id: u64,
    /// The exchange that carries it, over HTTP.
    pub http_id: Option<u64>,
    /// `stdio` or `http`.
    pub transport: &'static str,
    /// The process that asked.
    pub client: Option<ProcessId>,
    /// The process that answered, where it is observed.
    pub server: Option<ProcessId>,
    /// The server's own name, from its answer to `initialize` or `server/discover`.
    pub server_name: Option<String>,
    /// Id of the session that the server gave out, over HTTP until revision 2025-11-25.
    pub session_id: Option<String>,
    /// Revision of the protocol spoken, such as `2025-11-25`.
    pub protocol_version: Option<String>,
    /// Id of the request as JSON text; `None` for a notification.
    pub request_id: Option<String>,
    /// Whether the server asked and the client answered (`sampling/createMessage`, ...).
    pub is_from_server: bool,
    /// JSON-RPC method.
    pub method: String,
    /// Tool, prompt or resource that the method names.
    pub target: Option<String>,
    /// Parameters as JSON text.
    pub params: Option<String>,
    /// Result as JSON text.
    pub result: Option<String>,
    /// Code of a JSON-RPC error.
    pub error_code: Option<i64>,
    /// Message of a JSON-RPC error, or the HTTP status where there is no other answer.
    pub error_message: Option<String>,
    /// `isError` of a tool's result.
    pub is_error: Option<bool>,
    /// Whether the one who asked took the request back; `end_ts` is when.
    pub is_cancelled: bool,
    /// Whether `params` or `result` are cut because they are longer than the 64 KiB that are kept.
    pub is_cut: bool,
    /// Last byte of the request.
    pub start_ts: WallNanos,
    /// Last byte of the answer.
    pub end_ts: Option<WallNanos>,
    /// Size of the request message.
    pub request_bytes: u64,
    /// Size of the answer message.
    pub response_bytes: Option<u64>,
    /// Progress notifications between them.
    pub progress: u64,
    /// Why it is not complete; `None` if it is.
    pub partial: Option<PartialReason>,
}
