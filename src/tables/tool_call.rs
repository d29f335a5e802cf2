//! Table `tool_calls`: what models asked for, and what came of it.

use super::column::{Cell, Column, NEVER, Table, int, opt_text, text};
use super::tool_run::ToolRun;
use crate::reconstruct::finding::ToolCall;

/// A tool call as reconstructed.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCallRow {
    /// The call of the tool, in its place.
    pub tool: ToolCall,
    /// The processes that ran it.
    pub run: ToolRun,
}

impl ToolCallRow {
    /// Size in memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = [&self.tool.arguments, &self.tool.result];
        size_of::<Self>() + texts.into_iter().flatten().map(String::len).sum::<usize>()
    }
}

const NO_ROOT: &str = "no process is known to have run it";
const NO_RESULT: &str = "no request with the result was seen";

/// One row per use of a tool.
pub const TOOL_CALLS: Table<ToolCallRow> = Table {
    name: "tool_calls",
    description: "One row per use of a tool that a model asked for, in the order in which their \
                  results were sent, those without at the end. Time runs from the last byte of the arguments to the begin of the \
                  request with the result: running, waiting for permission and what the agent does \
                  besides are all in it.",
    columns: &[
        Column::new(
            "tool_call_id",
            Cell::Text(|x| text(&x.tool.tool_call_id)),
            "The provider's id of the use; made of call and position where the API has none. \
             Unique within a call only: some servers give the same ids out again.",
            NEVER,
        ),
        Column::new(
            "call_id",
            Cell::Int(|x| int(x.tool.call_id)),
            "Call whose response asks for it, in table llm_calls.",
            NEVER,
        ),
        Column::new(
            "result_call_id",
            Cell::Int(|x| x.tool.result_call_id.and_then(int)),
            "Call whose request carries the result; the same call where the provider ran the tool.",
            NO_RESULT,
        ),
        Column::new(
            "conversation_id",
            Cell::Int(|x| x.tool.conversation_id.and_then(int)),
            "Conversation of call_id, in table conversations.",
            "the call is part of none",
        ),
        Column::new(
            "turn",
            Cell::Int(|x| x.tool.turn.and_then(int)),
            "Turn of call_id, in table turns.",
            "the call is none of a turn",
        ),
        Column::new(
            "pid",
            Cell::Int(|x| x.tool.process.and_then(|process| int(process.pid))),
            "Process that made the call.",
            "the process is not known",
        ),
        Column::new(
            "process_start_ts",
            Cell::Ts(|x| x.tool.process.map(|process| process.start_ts)),
            "When that process was created; with pid it names the process.",
            "the process is not known",
        ),
        Column::new(
            "name",
            Cell::Text(|x| opt_text(&x.tool.name)),
            "Name of the tool.",
            "it was not captured",
        ),
        Column::new(
            "arguments",
            Cell::Text(|x| opt_text(&x.tool.arguments)),
            "Arguments as JSON; what was streamed may break off.",
            "they were not captured",
        ),
        Column::new(
            "result",
            Cell::Text(|x| opt_text(&x.tool.result)),
            "Result as text.",
            "it has none that is text, or none was seen",
        ),
        Column::new(
            "is_error",
            Cell::Bool(|x| x.tool.is_error),
            "Whether the result says that the tool failed.",
            "it does not say, or none was seen",
        ),
        Column::new(
            "is_server_side",
            Cell::Bool(|x| Some(x.tool.is_server_side)),
            "Whether the provider ran the tool: no local process did.",
            NEVER,
        ),
        Column::new(
            "start_ts",
            Cell::Ts(|x| Some(x.tool.start_ts)),
            "When the last byte of its arguments came.",
            NEVER,
        ),
        Column::new(
            "end_ts",
            Cell::Ts(|x| x.tool.end_ts),
            "When the request with its result began.",
            NO_RESULT,
        ),
        Column::measured(
            "duration_ms",
            "ms",
            Cell::Float(|x| x.tool.end_ts.map(|end| end.ms_since(x.tool.start_ts))),
            "start_ts to end_ts.",
            NO_RESULT,
        ),
        Column::measured(
            "result_bytes",
            "bytes",
            Cell::Int(|x| x.tool.result_bytes.and_then(int)),
            "Size of the result.",
            NO_RESULT,
        ),
        Column::new(
            "carried_calls",
            Cell::Int(|x| x.tool.carried_calls.and_then(int)),
            "Calls whose requests have the result, the first and retries included.",
            "no request with the result was seen, or the provider ran the tool",
        ),
        Column::measured(
            "carried_bytes",
            "bytes",
            Cell::Int(|x| {
                let (bytes, calls) = (x.tool.result_bytes?, x.tool.carried_calls?);
                int(bytes.saturating_mul(calls))
            }),
            "result_bytes times carried_calls: what the result takes of all contexts.",
            "no request with the result was seen, or the provider ran the tool",
        ),
        Column::new(
            "root_pid",
            Cell::Int(|x| x.run.root.and_then(|process| int(process.pid))),
            "Process that it started, the first if there are several.",
            NO_ROOT,
        ),
        Column::new(
            "root_start_ts",
            Cell::Ts(|x| x.run.root.map(|process| process.start_ts)),
            "When that process was created; with root_pid it names the process.",
            NO_ROOT,
        ),
        Column::new(
            "evidence",
            Cell::Text(|x| x.run.evidence.and_then(text)),
            "What shows it: argv or stdin (what is asked for stands in the arguments of the process, \
             or in what it read), time (no other process was started and no other tool could have), \
             file (no process was: the agent itself used the file that is named).",
            "neither a process nor a file is known",
        ),
        Column::new(
            "confidence",
            Cell::Text(|x| x.run.confidence.and_then(|it| text(it.as_str()))),
            "How sure that is: certain or likely.",
            "neither a process nor a file is known",
        ),
        Column::new(
            "file",
            Cell::Text(|x| opt_text(&x.run.file)),
            "File that the arguments name and the agent itself used meanwhile.",
            "a process ran it, or none is known",
        ),
        Column::new(
            "processes",
            Cell::Int(|x| x.run.root.and_then(|_| int(x.run.processes))),
            "Processes that it started, their descendants included.",
            NO_ROOT,
        ),
        Column::measured(
            "cpu_ms",
            "ms",
            Cell::Float(|x| x.run.cpu_ms),
            "CPU time of these until end_ts.",
            "no process is known to have run it, or they neither ended nor were sampled",
        ),
        Column::measured(
            "peak_rss_bytes",
            "bytes",
            Cell::Int(|x| x.run.peak_rss_bytes.and_then(int)),
            "Highest resident memory of a single one of them.",
            "no process is known to have run it, or they neither ended nor were sampled",
        ),
        Column::measured(
            "read_bytes",
            "bytes",
            Cell::Int(|x| x.run.read_bytes.and_then(int)),
            "Bytes that they fetched from storage.",
            "no process is known to have run it, or they neither ended nor were sampled",
        ),
        Column::measured(
            "written_bytes",
            "bytes",
            Cell::Int(|x| x.run.written_bytes.and_then(int)),
            "Bytes that they sent to storage.",
            "no process is known to have run it, or they neither ended nor were sampled",
        ),
        Column::new(
            "exit_code",
            Cell::Int(|x| x.run.exit_code.map(i64::from)),
            "Exit status of the process that it started, 0 to 255.",
            "no process is known, a signal ended it, or it had not ended",
        ),
        Column::new(
            "signal",
            Cell::Int(|x| x.run.signal.map(i64::from)),
            "Signal that ended that process.",
            "no process is known, it exited by itself, or it had not ended",
        ),
        Column::new(
            "files",
            Cell::Int(|x| x.run.evidence.and_then(|_| int(x.run.files))),
            "Files that these processes, or the agent for it, used: rows of table files.",
            "neither a process nor a file is known",
        ),
        Column::new(
            "left_running",
            Cell::Int(|x| x.run.root.and_then(|_| int(x.run.left_running))),
            "Processes that ran on after end_ts; see column outlived of table processes.",
            NO_ROOT,
        ),
    ],
};
