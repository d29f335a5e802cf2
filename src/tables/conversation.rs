//! Table `conversations`: calls that go on with the same history.

use super::column::{Cell, Column, NEVER, Table, int, opt_text, text};
use super::spent::Spent;
use crate::reconstruct::finding::Conversation;

/// A conversation and what its calls used.
#[derive(Clone, Debug, PartialEq)]
pub struct ConversationRow {
    /// The conversation as reconstructed.
    pub conversation: Conversation,
    /// Program, as in table `llm_calls`.
    pub agent: Option<String>,
    /// Sums over its calls.
    pub spent: Spent,
}

const NO_COUNTS: &str = "no call reported any";
const NO_ID: &str = "its calls do not name it";

/// One row per conversation.
pub const CONVERSATIONS: Table<ConversationRow> = Table {
    name: "conversations",
    description: "One row per conversation: calls that go on with the same history, by the ids of \
                  provider and agent or by what requests repeat; in order of their first calls. \
                  Sub-agents and side calls are conversations with a parent; sums are of a \
                  conversation's own calls, without those of its children.",
    columns: &[
        Column::new(
            "conversation_id",
            Cell::Int(|x| int(x.conversation.conversation_id)),
            "Number of the conversation, from 1.",
            NEVER,
        ),
        Column::new(
            "parent_conversation_id",
            Cell::Int(|x| x.conversation.parent_conversation_id.and_then(int)),
            "Conversation that started it, that it stands beside, or that it takes up again from an \
             earlier point.",
            "there is none",
        ),
        Column::new(
            "parent_tool_call_id",
            Cell::Text(|x| opt_text(&x.conversation.parent_tool_call_id)),
            "Use of a tool in the parent that it is the work of, in table tool_calls.",
            "there is none, or it is not known",
        ),
        Column::new(
            "class",
            Cell::Text(|x| text(x.conversation.class.as_str())),
            "What it is: main, subagent, or side (a title, a classifier, a probe).",
            NEVER,
        ),
        Column::new(
            "pid",
            Cell::Int(|x| x.conversation.process.and_then(|process| int(process.pid))),
            "Process that made its first call.",
            "the process is not known",
        ),
        Column::new(
            "process_start_ts",
            Cell::Ts(|x| x.conversation.process.map(|process| process.start_ts)),
            "When that process was created; with pid it names the process.",
            "the process is not known",
        ),
        Column::new(
            "agent",
            Cell::Text(|x| opt_text(&x.agent)),
            "Program that made the first call: as its User-Agent field names it, else the name of \
             its process.",
            "neither is known",
        ),
        Column::new(
            "session_id",
            Cell::Text(|x| opt_text(&x.conversation.correlation.session_id)),
            "The agent's own id of its session.",
            NO_ID,
        ),
        Column::new(
            "thread_id",
            Cell::Text(|x| opt_text(&x.conversation.correlation.thread_id)),
            "The agent's own id of the conversation.",
            NO_ID,
        ),
        Column::new(
            "agent_id",
            Cell::Text(|x| opt_text(&x.conversation.correlation.agent_id)),
            "The program's own id of the agent or sub-agent.",
            NO_ID,
        ),
        Column::new(
            "request_class",
            Cell::Text(|x| opt_text(&x.conversation.correlation.request_class)),
            "The program's own word for what its first call is for.",
            NO_ID,
        ),
        Column::new(
            "start_ts",
            Cell::Ts(|x| Some(x.conversation.start_ts)),
            "First byte of its first request.",
            NEVER,
        ),
        Column::new(
            "end_ts",
            Cell::Ts(|x| x.conversation.end_ts),
            "Last byte of its last response.",
            "a call was still open when the recording ended",
        ),
        Column::measured(
            "duration_ms",
            "ms",
            Cell::Float(|x| x.conversation.end_ts.map(|end| end.ms_since(x.conversation.start_ts))),
            "start_ts to end_ts, the times between turns included.",
            "a call was still open when the recording ended",
        ),
        Column::new(
            "turns",
            Cell::Int(|x| int(x.conversation.turns)),
            "Number of turns; 0 of side calls.",
            NEVER,
        ),
        Column::new(
            "calls",
            Cell::Int(|x| int(x.conversation.calls)),
            "Number of calls, attempts included.",
            NEVER,
        ),
        Column::new(
            "compactions",
            Cell::Int(|x| int(x.conversation.compactions)),
            "Times its history was replaced by a summary.",
            NEVER,
        ),
        Column::new(
            "missing_begin",
            Cell::Text(|x| x.conversation.cut.and_then(|reason| text(reason.as_str()))),
            "Why its begin is missing: joined_late when the first request has answers that were \
             given before the recording (or that the program made up), else as in table http.",
            "it is all there",
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
