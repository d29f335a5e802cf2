//! Table `llm_calls`: requests to models, joined with what the agent's own machine did meanwhile.

use super::channel::Peer;
use super::column::{Cell, Column, NEVER, Table, conn_id, int, opt_text, text};
use super::estimate::Estimate;
use super::http::{completeness_reason, duration_ms};
use crate::price::Cost;
use crate::reconstruct::finding::{Completeness, LlmCall};

/// A call and what became known of it beside the network.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRow {
    /// The call as reconstructed.
    pub call: LlmCall,
    /// [`LlmCall::agent`], else the name of the process.
    pub agent: Option<String>,
    /// CPU of the process tree during the call, 100 = one core.
    pub avg_cpu_percent: Option<f64>,
    /// Resident memory of the process tree during the call.
    pub peak_rss_bytes: Option<u64>,
    /// What is at the other end of its connection.
    pub peer: Peer,
    /// What it cost.
    pub cost: Cost,
    /// Counts that it did not report.
    pub estimate: Option<Estimate>,
    /// What it cost by these.
    pub estimated_cost: Cost,
}

const NO_PROCESS: &str = "the process is not known";
const NO_HEAD: &str = "the request head was not captured";
const NO_RESPONSE: &str = "no response head was captured";
const NO_END: &str = "the end of the response was not seen";
const NOT_REPORTED: &str = "the provider did not report it, or not before the stream ended";
const NO_BODY: &str = "the request body was not captured or names none";
const NO_ID: &str = "the agent sends none, or the request was not captured";
const NO_CONTENT: &str = "no generated content was seen, or the response was not streamed";

const NO_CONTEXT: &str = "not all of the request was captured and understood";
const NOT_ESTIMATED: &str = "nothing is estimated";
const NO_PRICE: &str = "there is no price for it, see unpriced_reason";

/// Whether a column needs prices, which take a moment to look up.
#[must_use]
pub fn needs_prices(column: &str) -> bool {
    column.contains("price") || column.ends_with("_usd")
}

/// One row per request to a model.
pub const LLM_CALLS: Table<CallRow> = Table {
    name: "llm_calls",
    description: "One row per request that a process made to a model, ordered by call_id. What an \
                  observed model server answered is in http with role server, and no row here: the \
                  process that asked has it.",
    columns: &[
        Column::new(
            "call_id",
            Cell::Int(|x| int(x.call.call_id)),
            "Number of the call; equal to its http_id, so not consecutive.",
            NEVER,
        ),
        Column::new(
            "http_id",
            Cell::Int(|x| int(x.call.exchange.http_id)),
            "HTTP exchange it is, in table http.",
            NEVER,
        ),
        Column::new(
            "conn_id",
            Cell::Int(|x| conn_id(x.call.exchange.conn_id)),
            "Connection it used.",
            NEVER,
        ),
        Column::new(
            "pid",
            Cell::Int(|x| x.call.exchange.process.and_then(|process| int(process.pid))),
            "Process that made the call.",
            NO_PROCESS,
        ),
        Column::new(
            "process_start_ts",
            Cell::Ts(|x| x.call.exchange.process.map(|process| process.start_ts)),
            "When that process was created; with pid it names the process.",
            NO_PROCESS,
        ),
        Column::new(
            "agent",
            Cell::Text(|x| opt_text(&x.agent)),
            "Program that made the call: as its User-Agent field names it, such as \
             claude-cli/2.1.197, else the name of its process.",
            "neither is known",
        ),
        Column::new(
            "provider",
            Cell::Text(|x| text(&x.call.provider)),
            "Who runs the model, in OpenTelemetry's words: anthropic, openai, ...; by the shape of \
             the API and the host.",
            NEVER,
        ),
        Column::new(
            "api",
            Cell::Text(|x| text(&x.call.api)),
            "Shape of the API: anthropic_messages, openai_chat, openai_responses, gemini_generate, \
             ollama_chat, bedrock_invoke, bedrock_converse; other where a request only looks like \
             one to a model.",
            NEVER,
        ),
        Column::new(
            "transport",
            Cell::Text(|x| text(&x.call.transport)),
            "How the response came: http (whole), or streamed as sse, ndjson, json_array (its \
             elements one by one), event_stream (of AWS) or websocket.",
            NEVER,
        ),
        Column::new(
            "method",
            Cell::Text(|x| opt_text(&x.call.exchange.method)),
            "Request method.",
            NO_HEAD,
        ),
        Column::new(
            "host",
            Cell::Text(|x| opt_text(&x.call.exchange.host)),
            "Authority the request went to.",
            NO_HEAD,
        ),
        Column::new(
            "path",
            Cell::Text(|x| opt_text(&x.call.exchange.path)),
            "Request target, query included.",
            NO_HEAD,
        ),
        Column::new(
            "status",
            Cell::Int(|x| x.call.exchange.status.map(i64::from)),
            "HTTP status code.",
            NO_RESPONSE,
        ),
        Column::new(
            "error_type",
            Cell::Text(|x| opt_text(&x.call.error_type)),
            "The provider's error type, also of an error in the midst of a stream.",
            "no error was reported",
        ),
        Column::new(
            "request_model",
            Cell::Text(|x| opt_text(&x.call.request_model)),
            "Model asked for, in the body or in the path.",
            NO_BODY,
        ),
        Column::new(
            "model",
            Cell::Text(|x| opt_text(&x.call.model)),
            "Model that answered.",
            "the response names none",
        ),
        Column::new(
            "stop_reason",
            Cell::Text(|x| opt_text(&x.call.stop_reason)),
            "Why the model stopped, in the provider's own word.",
            NOT_REPORTED,
        ),
        Column::new(
            "start_ts",
            Cell::Ts(|x| Some(x.call.exchange.start_ts)),
            "First byte of the request.",
            NEVER,
        ),
        Column::new(
            "request_end_ts",
            Cell::Ts(|x| x.call.exchange.request_end_ts),
            "Last byte of the request.",
            "the end of the request was not seen",
        ),
        Column::new(
            "first_byte_ts",
            Cell::Ts(|x| x.call.exchange.first_byte_ts),
            "First byte of the response.",
            NO_RESPONSE,
        ),
        Column::new(
            "first_token_ts",
            Cell::Ts(|x| x.call.first_token_ts),
            "When the first generated content (text, thinking or tool arguments) arrived.",
            NO_CONTENT,
        ),
        Column::new(
            "end_ts",
            Cell::Ts(|x| x.call.exchange.end_ts),
            "Last byte of the response.",
            NO_END,
        ),
        Column::measured(
            "duration_ms",
            "ms",
            Cell::Float(|x| duration_ms(&x.call.exchange)),
            "start_ts to end_ts.",
            NO_END,
        ),
        Column::measured(
            "ttft_ms",
            "ms",
            Cell::Float(ttft_ms),
            "Time to first token: request_end_ts to first_token_ts; from start_ts where the end of \
             the request was not seen.",
            NO_CONTENT,
        ),
        Column::measured(
            "max_gap_ms",
            "ms",
            Cell::Float(|x| x.call.exchange.max_gap_ms),
            "Longest time between two arrivals of response bytes after the first.",
            "the response arrived at once or not at all",
        ),
        Column::measured(
            "input_tokens",
            "tokens",
            Cell::Int(|x| x.call.usage.input_tokens.and_then(int)),
            "Input billed at the full price: neither read from nor written to a cache.",
            NOT_REPORTED,
        ),
        Column::measured(
            "cache_read_tokens",
            "tokens",
            Cell::Int(|x| x.call.usage.cache_read_tokens.and_then(int)),
            "Input read from the provider's cache.",
            NOT_REPORTED,
        ),
        Column::measured(
            "cache_creation_tokens",
            "tokens",
            Cell::Int(|x| x.call.usage.cache_creation_tokens.and_then(int)),
            "Input written to the provider's cache.",
            NOT_REPORTED,
        ),
        Column::measured(
            "cache_creation_1h_tokens",
            "tokens",
            Cell::Int(|x| x.call.usage.cache_creation_1h_tokens.and_then(int)),
            "The part of cache_creation_tokens that is kept for an hour, which costs more.",
            "the provider does not tell it apart, or did not before the stream ended",
        ),
        Column::measured(
            "total_input_tokens",
            "tokens",
            Cell::Int(|x| x.call.usage.total_input_tokens().and_then(int)),
            "input_tokens + cache_read_tokens + cache_creation_tokens, unknown parts as none.",
            "all three are unknown",
        ),
        Column::measured(
            "output_tokens",
            "tokens",
            Cell::Int(|x| x.call.usage.output_tokens.and_then(int)),
            "All billed output, reasoning included.",
            NOT_REPORTED,
        ),
        Column::measured(
            "reasoning_tokens",
            "tokens",
            Cell::Int(|x| x.call.usage.reasoning_tokens.and_then(int)),
            "The part of output_tokens that was reasoning.",
            NOT_REPORTED,
        ),
        Column::new(
            "usage_state",
            Cell::Text(|x| text(x.call.usage_state.as_str())),
            "How the counts came to be known: reported (final), partial (the stream ended before \
             the final counts), none.",
            NEVER,
        ),
        Column::new(
            "usage_json",
            Cell::Text(|x| opt_text(&x.call.usage.usage_json)),
            "The provider's own usage object, as JSON; later fields overwrite earlier ones.",
            "the provider sent none",
        ),
        Column::new(
            "request_tier",
            Cell::Text(|x| opt_text(&x.call.request_tier)),
            "Service tier, or speed, that was asked for, in the provider's own word.",
            NO_BODY,
        ),
        Column::new(
            "tier",
            Cell::Text(|x| opt_text(&x.call.tier)),
            "Service tier, or speed, that was served, in the provider's own word.",
            NOT_REPORTED,
        ),
        Column::new(
            "cache_miss_reason",
            Cell::Text(|x| opt_text(&x.call.cache_miss_reason)),
            "Why the provider's cache was not used, in its own word: model_changed, \
             tools_changed, ...",
            "the provider gives no reason",
        ),
        Column::measured(
            "cache_missed_tokens",
            "tokens",
            Cell::Int(|x| x.call.cache_missed_tokens.and_then(int)),
            "Input that the provider says its cache missed.",
            "the provider does not say",
        ),
        Column::measured(
            "retry_after_ms",
            "ms",
            Cell::Float(|x| x.call.retry_after_ms),
            "How long the provider asks to wait before the next try.",
            "it does not ask to wait",
        ),
        Column::measured(
            "cost_usd",
            "USD",
            Cell::Float(|x| x.cost.usd),
            "What it cost at list prices at start_ts (docs/PRICES.md), or what the provider says it \
             cost; at least this where usage_state is partial.",
            NO_PRICE,
        ),
        Column::new(
            "price_source",
            Cell::Text(|x| opt_text(&x.cost.source)),
            "Where the price is from: reported (by the provider), free (token counting, and requests \
             refused with an error status), the name and version of the built-in list, or the name \
             of the file given with --prices.",
            NO_PRICE,
        ),
        Column::new(
            "price_date",
            Cell::Text(|x| opt_text(&x.cost.date)),
            "Date of the price list, YYYY-MM-DD.",
            "there is no price for it, or the price is of no list",
        ),
        Column::new(
            "price_model",
            Cell::Text(|x| opt_text(&x.cost.model)),
            "Entries of the price list that were used: provider/model.",
            "there is no price for it, or the price is of no list",
        ),
        Column::new(
            "price_terms",
            Cell::Text(|x| opt_text(&x.cost.terms)),
            "What the price is for: the service tier (standard, flex, priority, fast, batch) and what \
             comes on top.",
            "there is no price for it, or the price is of no list",
        ),
        Column::new(
            "unpriced_reason",
            Cell::Text(|x| x.cost.unpriced.and_then(|reason| text(reason.as_str()))),
            "Why there is no cost: usage (no token counts), provider or model (not in the list), tier \
             (no price for it at the time), counts (contradictory, or of a kind without a price).",
            "the cost is known",
        ),
        Column::measured(
            "estimated_input_tokens",
            "tokens",
            Cell::Int(|x| x.estimate.as_ref()?.input_tokens.and_then(int)),
            "All input of a call that reported none, estimated from the size of its request.",
            "it was reported, or the request is not known whole",
        ),
        Column::measured(
            "estimated_output_tokens",
            "tokens",
            Cell::Int(|x| x.estimate.as_ref()?.output_tokens.and_then(int)),
            "All output, until its end or the cut, of a call that reported no final count, estimated \
             from the size of what was generated; never below output_tokens.",
            "it was reported, or nothing was seen to be generated",
        ),
        Column::new(
            "estimate_method",
            Cell::Text(|x| x.estimate.as_ref().and_then(|it| text(it.method))),
            "How: trace (bytes per token of the same model's other calls in the trace, the middle of \
             their ratios) or fixed (3.5 bytes per token, where these are fewer than three).",
            NOT_ESTIMATED,
        ),
        Column::measured(
            "estimate_error_percent",
            "percent",
            Cell::Float(|x| x.estimate.as_ref().map(|it| it.error_percent)),
            "How far off the method is: for half of the calls that the ratio is from it is less; of \
             the fixed ratio, what was seen on prose, source code and JSON.",
            NOT_ESTIMATED,
        ),
        Column::measured(
            "estimated_cost_usd",
            "USD",
            Cell::Float(|x| x.estimated_cost.usd),
            "What cost_usd would be with the estimated counts.",
            "nothing is estimated, or there is no price",
        ),
        Column::measured(
            "request_body_bytes",
            "bytes",
            Cell::Int(|x| int(x.call.exchange.request_body_bytes)),
            "Size of the request body after content decoding.",
            NEVER,
        ),
        Column::measured(
            "response_body_bytes",
            "bytes",
            Cell::Int(|x| int(x.call.exchange.response_body_bytes)),
            "Size of the response body after content decoding.",
            NEVER,
        ),
        Column::measured(
            "request_wire_bytes",
            "bytes",
            Cell::Int(|x| int(x.call.exchange.request_wire_bytes)),
            "Size of the request body before content decoding.",
            NEVER,
        ),
        Column::measured(
            "response_wire_bytes",
            "bytes",
            Cell::Int(|x| int(x.call.exchange.response_wire_bytes)),
            "Size of the response body before content decoding.",
            NEVER,
        ),
        Column::measured(
            "avg_cpu_percent",
            "percent",
            Cell::Float(|x| x.avg_cpu_percent),
            "CPU that the process and its descendants used from start_ts to end_ts, 100 = one \
             core; interpolated between samples and process ends.",
            "the end of the call was not seen, or nothing was sampled around it",
        ),
        Column::measured(
            "peak_rss_bytes",
            "bytes",
            Cell::Int(|x| x.peak_rss_bytes.and_then(int)),
            "Highest sum of the last sampled resident memory of the process and its descendants, \
             at start_ts and at every sample until end_ts; pages they share count in each.",
            "nothing was sampled before or during the call",
        ),
        Column::new(
            "request_id",
            Cell::Text(|x| opt_text(&x.call.request_id)),
            "The provider's id of the request, from the response head.",
            "the response head has none",
        ),
        Column::new(
            "response_id",
            Cell::Text(|x| opt_text(&x.call.response_id)),
            "The provider's id of the response, from its body.",
            "the response body has none",
        ),
        Column::new(
            "previous_response_id",
            Cell::Text(|x| opt_text(&x.call.correlation.previous_response_id)),
            "The response whose history it goes on with, which the provider keeps.",
            "it carries its history itself",
        ),
        Column::new(
            "client_request_id",
            Cell::Text(|x| opt_text(&x.call.correlation.client_request_id)),
            "The agent's own id of the request.",
            NO_ID,
        ),
        Column::new(
            "session_id",
            Cell::Text(|x| opt_text(&x.call.correlation.session_id)),
            "The agent's id of its session.",
            NO_ID,
        ),
        Column::new(
            "thread_id",
            Cell::Text(|x| opt_text(&x.call.correlation.thread_id)),
            "The agent's id of the conversation (prompt_cache_key, thread id).",
            NO_ID,
        ),
        Column::new(
            "prompt_id",
            Cell::Text(|x| opt_text(&x.call.correlation.prompt_id)),
            "The agent's id of the user's prompt that it serves.",
            NO_ID,
        ),
        Column::new(
            "agent_id",
            Cell::Text(|x| opt_text(&x.call.correlation.agent_id)),
            "The agent's id of the agent or sub-agent that makes it.",
            NO_ID,
        ),
        Column::new(
            "parent_agent_id",
            Cell::Text(|x| opt_text(&x.call.correlation.parent_agent_id)),
            "The agent's id of the one that started that agent.",
            NO_ID,
        ),
        Column::new(
            "request_class",
            Cell::Text(|x| opt_text(&x.call.correlation.request_class)),
            "The agent's own word for what it is for: main, subagent, compaction, ...",
            NO_ID,
        ),
        Column::new(
            "complete",
            Cell::Bool(|x| Some(x.call.exchange.completeness == Completeness::Complete)),
            "Whether request and response were seen to their ends, or a stream to its own, without a gap.",
            NEVER,
        ),
        Column::new(
            "completeness_reason",
            Cell::Text(|x| completeness_reason(&x.call.exchange)),
            "Why it is not complete; words as in table http.",
            "it is complete",
        ),
        Column::measured(
            "lost_bytes",
            "bytes",
            Cell::Int(|x| int(x.call.exchange.lost_bytes)),
            "Bytes of it known to be missing.",
            NEVER,
        ),
        Column::new(
            "remote_addr",
            Cell::Text(|x| x.peer.remote_addr().and_then(text)),
            "Address at the other end of the socket that carries the connection.",
            "the socket is not known, or has no such address",
        ),
        Column::new(
            "confidence",
            Cell::Text(|x| x.peer.confidence().and_then(text)),
            "How sure that socket is: certain or likely; certain where it is in plain text.",
            "the socket is not known",
        ),
        Column::new(
            "conversation_id",
            Cell::Int(|x| x.call.placement.conversation_id.and_then(int)),
            "Conversation it is part of, in table conversations.",
            "it only counts tokens, for no conversation that is known",
        ),
        Column::new(
            "turn",
            Cell::Int(|x| x.call.placement.turn.and_then(int)),
            "Turn of the conversation, in table turns.",
            "it is none of a turn: a side call, or it only counts tokens or fills the cache",
        ),
        Column::new(
            "call_class",
            Cell::Text(|x| text(x.call.placement.class.as_str())),
            "What it is for: main, subagent, side (a title, a classifier, a probe), compaction \
             (asks for a summary in place of the history), warmup, count_tokens; by the agent's own \
             word, else by what it has to do with other calls.",
            NEVER,
        ),
        Column::new(
            "attempt",
            Cell::Int(|x| int(x.call.placement.attempt)),
            "1 for the first try of a request; a failed one that is sent again makes 2, 3, ...",
            NEVER,
        ),
        Column::new(
            "retry_of",
            Cell::Int(|x| x.call.placement.retry_of.and_then(int)),
            "Call before it that it tries once more.",
            "it is the first try",
        ),
        Column::measured(
            "system_bytes",
            "bytes",
            Cell::Int(|x| x.call.context.and_then(|context| int(context.system_bytes))),
            "Instructions in the request: text of system and developer messages.",
            NO_CONTEXT,
        ),
        Column::measured(
            "tool_definition_bytes",
            "bytes",
            Cell::Int(|x| x.call.context.and_then(|context| int(context.tool_definition_bytes))),
            "Definitions of tools in the request.",
            NO_CONTEXT,
        ),
        Column::measured(
            "tool_result_bytes",
            "bytes",
            Cell::Int(|x| x.call.context.and_then(|context| int(context.tool_result_bytes))),
            "Results of tools in the request.",
            NO_CONTEXT,
        ),
        Column::measured(
            "user_bytes",
            "bytes",
            Cell::Int(|x| x.call.context.and_then(|context| int(context.user_bytes))),
            "Words of the user, and of the program in the user's place, in the request.",
            NO_CONTEXT,
        ),
        Column::measured(
            "assistant_bytes",
            "bytes",
            Cell::Int(|x| x.call.context.and_then(|context| int(context.assistant_bytes))),
            "What the model said before, as the request repeats it.",
            NO_CONTEXT,
        ),
    ],
};

fn ttft_ms(row: &CallRow) -> Option<f64> {
    let exchange = &row.call.exchange;
    let from = exchange.request_end_ts.unwrap_or(exchange.start_ts);
    row.call.first_token_ts.map(|first| first.ms_since(from))
}
