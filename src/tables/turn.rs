//! Table `turns`: what a user's prompt led to, and where the time went.

use super::column::{Cell, Column, NEVER, Table, int, opt_text};
use super::spent::Spent;
use crate::reconstruct::finding::Turn;

/// A turn and what its calls used.
#[derive(Clone, Debug, PartialEq)]
pub struct TurnRow {
    /// The turn as reconstructed.
    pub turn: Turn,
    /// Sums over its calls.
    pub spent: Spent,
}

const NOT_ENDED: &str = "a call was still open when the recording ended";
const NO_COUNTS: &str = "no call reported any";

/// One row per turn.
pub const TURNS: Table<TurnRow> = Table {
    name: "turns",
    description: "One row per turn: the calls that one prompt of the user led to, by the agent's own \
                  id of the prompt or by the words that are new in a request. Side calls and what \
                  sub-agents do are no part of it, but for the time that their tool takes. The parts \
                  of the time, upload_ms to retry_ms, sum up to duration_ms; where several things go \
                  on at once, a moment counts for the first of: stream, thinking, upload, wait, \
                  stall, retry, tool, user.",
    columns: &[
        Column::new(
            "conversation_id",
            Cell::Int(|x| int(x.turn.conversation_id)),
            "Conversation it is part of, in table conversations.",
            NEVER,
        ),
        Column::new(
            "turn",
            Cell::Int(|x| int(x.turn.turn)),
            "Number of the turn, from 1 in its conversation.",
            NEVER,
        ),
        Column::new(
            "first_call_id",
            Cell::Int(|x| int(x.turn.first_call_id)),
            "Its first call, in table llm_calls.",
            NEVER,
        ),
        Column::new(
            "last_call_id",
            Cell::Int(|x| int(x.turn.last_call_id)),
            "Its last call.",
            NEVER,
        ),
        Column::new(
            "start_ts",
            Cell::Ts(|x| Some(x.turn.start_ts)),
            "First byte of its first request.",
            NEVER,
        ),
        Column::new(
            "end_ts",
            Cell::Ts(|x| x.turn.end_ts),
            "Last byte of its last response, or the last that is known of a call that was cut.",
            NOT_ENDED,
        ),
        Column::measured(
            "duration_ms",
            "ms",
            Cell::Float(|x| x.turn.end_ts.map(|end| end.ms_since(x.turn.start_ts))),
            "start_ts to end_ts.",
            NOT_ENDED,
        ),
        Column::measured(
            "upload_ms",
            "ms",
            Cell::Float(|x| Some(x.turn.wall_time.upload_ms)),
            "First to last byte of requests.",
            NEVER,
        ),
        Column::measured(
            "wait_ms",
            "ms",
            Cell::Float(|x| Some(x.turn.wall_time.wait_ms)),
            "From the end of a request to the first content generated; to the first byte of a \
             response that is not streamed.",
            NEVER,
        ),
        Column::measured(
            "thinking_ms",
            "ms",
            Cell::Float(|x| Some(x.turn.wall_time.thinking_ms)),
            "Reasoning arriving.",
            NEVER,
        ),
        Column::measured(
            "stream_ms",
            "ms",
            Cell::Float(|x| Some(x.turn.wall_time.stream_ms)),
            "Text and arguments of tools arriving.",
            NEVER,
        ),
        Column::measured(
            "stall_ms",
            "ms",
            Cell::Float(|x| Some(x.turn.wall_time.stall_ms)),
            "Pauses of a second and more in the midst of responses.",
            NEVER,
        ),
        Column::measured(
            "tool_ms",
            "ms",
            Cell::Float(|x| Some(x.turn.wall_time.tool_ms)),
            "No call running and results of tools missing: they run, or wait for permission.",
            NEVER,
        ),
        Column::measured(
            "user_ms",
            "ms",
            Cell::Float(|x| Some(x.turn.wall_time.user_ms)),
            "The rest: neither a call nor a tool was running.",
            NEVER,
        ),
        Column::measured(
            "retry_ms",
            "ms",
            Cell::Float(|x| Some(x.turn.wall_time.retry_ms)),
            "Attempts that came to nothing, and the pauses after them.",
            NEVER,
        ),
        Column::new(
            "prompt",
            Cell::Text(|x| opt_text(&x.turn.prompt)),
            "Begin of the user's words, in one line.",
            "they were not captured",
        ),
        Column::new("calls", Cell::Int(|x| int(x.turn.calls)), "Calls, attempts included.", NEVER),
        Column::new(
            "retries",
            Cell::Int(|x| int(x.turn.retries)),
            "Calls that tried a request once more.",
            NEVER,
        ),
        Column::new("tool_calls", Cell::Int(|x| int(x.turn.tool_calls)), "Uses of tools.", NEVER),
        Column::new(
            "stop_reason",
            Cell::Text(|x| opt_text(&x.turn.stop_reason)),
            "The provider's last word on why the model stopped.",
            "no call ended with one",
        ),
        Column::measured(
            "input_tokens",
            "tokens",
            Cell::Int(|x| x.spent.input_tokens.and_then(int)),
            "Uncached input of its calls.",
            NO_COUNTS,
        ),
        Column::measured(
            "cache_read_tokens",
            "tokens",
            Cell::Int(|x| x.spent.cache_read_tokens.and_then(int)),
            "Input of its calls read from the provider's cache.",
            NO_COUNTS,
        ),
        Column::measured(
            "cache_creation_tokens",
            "tokens",
            Cell::Int(|x| x.spent.cache_creation_tokens.and_then(int)),
            "Input of its calls written to the provider's cache.",
            NO_COUNTS,
        ),
        Column::measured(
            "output_tokens",
            "tokens",
            Cell::Int(|x| x.spent.output_tokens.and_then(int)),
            "Output of its calls, reasoning included.",
            NO_COUNTS,
        ),
        Column::measured(
            "reasoning_tokens",
            "tokens",
            Cell::Int(|x| x.spent.reasoning_tokens.and_then(int)),
            "The part of output_tokens that was reasoning.",
            NO_COUNTS,
        ),
        Column::new(
            "uncounted_calls",
            Cell::Int(|x| int(x.spent.uncounted_calls)),
            "Calls without final counts: the sums are at least.",
            NEVER,
        ),
        Column::measured(
            "cost_usd",
            "USD",
            Cell::Float(|x| x.spent.cost_usd),
            "What its calls cost, as in table llm_calls; those without a cost are not in it.",
            "no call has a cost",
        ),
        Column::new(
            "unpriced_calls",
            Cell::Int(|x| x.spent.unpriced_calls.and_then(int)),
            "Calls without a cost.",
            "it has no call but such as only count tokens",
        ),
    ],
};
