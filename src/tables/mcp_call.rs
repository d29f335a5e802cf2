//! Table `mcp_calls`: what agents and the servers of their tools ask of each other.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::channel::Channels;
use super::column::{Cell, Column, NEVER, Table, conn_id, int, opt_text, text};
use super::http::HttpRow;
use crate::event::ProcessId;
use crate::reconstruct::finding::{McpCall, ToolCall};

/// Tool calls of an agent that are looked at for one call of a server, the last that began before it.
const MAX_LOOKED_AT: usize = 64;

/// A call and what became known of it beside the messages.
#[derive(Clone, Debug, PartialEq)]
pub struct McpRow {
    call: McpCall,
    /// Of the tool call that it carries out: its id, and the call that asked for it.
    tool: Option<(String, u64)>,
}

/// The rows of the table, in its order.
#[must_use]
pub fn mcp_rows(
    calls: &[McpCall],
    exchanges: &[HttpRow],
    tools: &[ToolCall],
    channels: &Channels,
) -> Vec<McpRow> {
    let places: HashMap<u64, String> = exchanges.iter().filter_map(place).collect();
    let mut names: BTreeMap<(Option<ProcessId>, &str), &str> = BTreeMap::new();
    for call in calls {
        let place = call.http_id.and_then(|id| places.get(&id));
        if let (Some(place), Some(name)) = (place, &call.server_name) {
            names.entry((call.client, place)).or_insert(name);
        }
    }
    let mut by_agent: HashMap<ProcessId, Vec<&ToolCall>> = HashMap::new();
    for tool in tools {
        if let Some(agent) = tool.process {
            by_agent.entry(agent).or_default().push(tool);
        }
    }
    for tools in by_agent.values_mut() {
        tools.sort_by_key(|tool| tool.start_ts);
    }
    let row = |call: &McpCall| {
        let mut call = call.clone();
        // Over HTTP each request stands alone: the name is that of the place it went to.
        if call.server_name.is_none()
            && let Some(place) = call.http_id.and_then(|id| places.get(&id))
        {
            let name = names.get(&(call.client, place.as_str()));
            call.server_name = name.map(|name| (*name).to_owned());
        }
        if call.server.is_none() && call.transport == "http" {
            let socket = channels.peer(call.conn_id).socket;
            let other = socket.as_ref().and_then(|socket| channels.other_socket(socket));
            call.server = other.and_then(|other| other.process);
        }
        let tools = call.client.and_then(|client| by_agent.get(&client));
        let tool = tools.and_then(|tools| tool(&call, tools));
        McpRow { tool: tool.map(|tool| (tool.tool_call_id.clone(), tool.call_id)), call }
    };
    let mut rows: Vec<McpRow> = calls.iter().map(row).collect();
    rows.sort_by_key(|row| (row.call.start_ts, row.call.conn_id));
    rows
}

/// Where an exchange went: host and path, query left out.
fn place(row: &HttpRow) -> Option<(u64, String)> {
    let exchange = &row.exchange;
    let path = exchange.path.as_deref().unwrap_or_default();
    let path = path.split(['?', '#']).next().unwrap_or_default();
    Some((exchange.http_id, format!("{}{path}", exchange.host.as_deref()?)))
}

/// The tool call that a call carries out: one of its client with the same tool, made before and not
/// answered before; with the same arguments if there is one, else the last.
fn tool<'a>(call: &McpCall, tools: &[&'a ToolCall]) -> Option<&'a ToolCall> {
    let target = call.target.as_deref().filter(|_| call.method == "tools/call")?;
    let begun = tools.partition_point(|tool| tool.start_ts <= call.start_ts);
    let is_candidate = |tool: &&&ToolCall| {
        tool.end_ts.is_none_or(|end| end >= call.start_ts)
            && tool.name.as_deref().is_some_and(|name| is_tool(name, target))
    };
    let recent = tools[..begun].iter().rev().take(MAX_LOOKED_AT);
    let candidates: Vec<&&ToolCall> = recent.filter(is_candidate).collect();
    let params: Option<Value> =
        call.params.as_deref().and_then(|params| serde_json::from_str(params).ok());
    let arguments = params.as_ref().and_then(|params| params.get("arguments"));
    let is_same = |tool: &&&&ToolCall| {
        let of_tool: Option<Value> =
            tool.arguments.as_deref().and_then(|text| serde_json::from_str(text).ok());
        of_tool.is_some() && of_tool.as_ref() == arguments
    };
    candidates.iter().find(is_same).or(candidates.first()).map(|tool| **tool)
}

/// Whether a tool's name as the model knows it is that of the server's: agents put the server's name
/// in front, with some marks between.
fn is_tool(name: &str, target: &str) -> bool {
    name.strip_suffix(target)
        .is_some_and(|before| before.is_empty() || before.ends_with(['_', '.', '/', ':', '-']))
}

const NO_ANSWER: &str = "no answer was seen, or none is due";
const NO_PROCESS: &str = "it was not observed, or may be one of several";
const NO_TOOL: &str = "it is no tool call of a model's that was seen";

/// One row per request or notification.
pub const MCP_CALLS: Table<McpRow> = Table {
    name: "mcp_calls",
    description: "One row per JSON-RPC request or notification of the Model Context Protocol with its \
                  answer, over the pipes of a server or over HTTP, ordered by start_ts; what both ends \
                  saw is told once. Progress and cancelling count with the request they are about.",
    columns: &[
        Column::new(
            "start_ts",
            Cell::Ts(|x| Some(x.call.start_ts)),
            "Last byte of the request.",
            NEVER,
        ),
        Column::new(
            "end_ts",
            Cell::Ts(|x| x.call.end_ts),
            "Last byte of the answer, or when the request was taken back.",
            NO_ANSWER,
        ),
        Column::measured(
            "duration_ms",
            "ms",
            Cell::Float(|x| x.call.end_ts.map(|end| end.ms_since(x.call.start_ts))),
            "start_ts to end_ts.",
            NO_ANSWER,
        ),
        Column::new(
            "transport",
            Cell::Text(|x| text(x.call.transport)),
            "How it went: stdio or http.",
            NEVER,
        ),
        Column::new(
            "conn_id",
            Cell::Int(|x| conn_id(x.call.conn_id)),
            "Stream that carries the request.",
            NEVER,
        ),
        Column::new(
            "http_id",
            Cell::Int(|x| x.call.http_id.and_then(int)),
            "HTTP exchange that carries it, in table http.",
            "it went through a pipe",
        ),
        Column::new(
            "client_pid",
            Cell::Int(|x| x.call.client.and_then(|process| int(process.pid))),
            "Process that uses the server.",
            NO_PROCESS,
        ),
        Column::new(
            "client_start_ts",
            Cell::Ts(|x| x.call.client.map(|process| process.start_ts)),
            "When that process was created; with client_pid it names the process.",
            NO_PROCESS,
        ),
        Column::new(
            "server_pid",
            Cell::Int(|x| x.call.server.and_then(|process| int(process.pid))),
            "Process that serves.",
            NO_PROCESS,
        ),
        Column::new(
            "server_start_ts",
            Cell::Ts(|x| x.call.server.map(|process| process.start_ts)),
            "When that process was created; with server_pid it names the process.",
            NO_PROCESS,
        ),
        Column::new(
            "server",
            Cell::Text(|x| opt_text(&x.call.server_name)),
            "The server's name for itself.",
            "its greeting was not seen, or has none",
        ),
        Column::new(
            "session_id",
            Cell::Text(|x| opt_text(&x.call.session_id)),
            "Session that the server gave out.",
            "it gave out none; over pipes there are none",
        ),
        Column::new(
            "protocol_version",
            Cell::Text(|x| opt_text(&x.call.protocol_version)),
            "Revision of the protocol, such as 2025-11-25.",
            "neither the request nor a greeting says",
        ),
        Column::new(
            "request_id",
            Cell::Text(|x| opt_text(&x.call.request_id)),
            "Id of the request, as JSON.",
            "it is a notification, or the id was lost",
        ),
        Column::new(
            "from_server",
            Cell::Bool(|x| Some(x.call.is_from_server)),
            "Whether the server asked and the client answered.",
            NEVER,
        ),
        Column::new(
            "method",
            Cell::Text(|x| text(&x.call.method)),
            "JSON-RPC method: tools/call, tools/list, sampling/createMessage, ...",
            NEVER,
        ),
        Column::new(
            "target",
            Cell::Text(|x| opt_text(&x.call.target)),
            "Tool, prompt or resource that the request names.",
            "it names none",
        ),
        Column::new(
            "tool_call_id",
            Cell::Text(|x| x.tool.as_ref().and_then(|(id, _)| text(id))),
            "Tool call of a model that it carries out, in table tool_calls: of the client, with the \
             same tool, made before and not answered before; one with the same arguments if there is.",
            NO_TOOL,
        ),
        Column::new(
            "tool_of_call_id",
            Cell::Int(|x| x.tool.as_ref().and_then(|(_, call_id)| int(*call_id))),
            "call_id of that tool call: the call whose response asked for it.",
            NO_TOOL,
        ),
        Column::new(
            "params",
            Cell::Text(|x| opt_text(&x.call.params)),
            "Parameters, as JSON.",
            "it has none",
        ),
        Column::new(
            "result",
            Cell::Text(|x| opt_text(&x.call.result)),
            "Result, as JSON.",
            "it failed or has no answer",
        ),
        Column::new(
            "is_error",
            Cell::Bool(|x| x.call.is_error),
            "Whether the result of a tool says that it failed.",
            "it is no tool call, or has no result",
        ),
        Column::new(
            "error_code",
            Cell::Int(|x| x.call.error_code),
            "Code of a JSON-RPC error.",
            "it did not fail so",
        ),
        Column::new(
            "error_message",
            Cell::Text(|x| opt_text(&x.call.error_message)),
            "Message of a JSON-RPC error, or the HTTP status where that is the only answer.",
            "it did not fail so",
        ),
        Column::new(
            "cancelled",
            Cell::Bool(|x| Some(x.call.is_cancelled)),
            "Whether the one who asked took it back.",
            NEVER,
        ),
        Column::new(
            "progress",
            Cell::Int(|x| int(x.call.progress)),
            "How often progress was told.",
            NEVER,
        ),
        Column::measured(
            "request_bytes",
            "bytes",
            Cell::Int(|x| int(x.call.request_bytes)),
            "Size of the request.",
            NEVER,
        ),
        Column::measured(
            "response_bytes",
            "bytes",
            Cell::Int(|x| x.call.response_bytes.and_then(int)),
            "Size of the answer.",
            NO_ANSWER,
        ),
        Column::new(
            "cut",
            Cell::Bool(|x| Some(x.call.is_cut)),
            "Whether params or result are cut because they are longer than the 64 KiB that are kept.",
            NEVER,
        ),
        Column::new(
            "complete",
            Cell::Bool(|x| Some(x.call.partial.is_none())),
            "Whether it and its answer, if one is due, were seen whole.",
            NEVER,
        ),
        Column::new(
            "completeness_reason",
            Cell::Text(|x| x.call.partial.and_then(|reason| text(reason.as_str()))),
            "Why it is not complete; words as in table http.",
            "it is complete",
        ),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::WallNanos;

    fn agent() -> ProcessId {
        ProcessId { pid: 1, start_ts: WallNanos(0) }
    }

    fn tool_call(id: &str, name: &str, arguments: &str, span: (i64, Option<i64>)) -> ToolCall {
        ToolCall {
            tool_call_id: id.into(),
            call_id: 3,
            result_call_id: None,
            conversation_id: None,
            turn: None,
            process: Some(agent()),
            name: Some(name.into()),
            arguments: Some(arguments.into()),
            result: None,
            is_error: None,
            result_bytes: None,
            start_ts: WallNanos(span.0),
            end_ts: span.1.map(WallNanos),
            carried_calls: None,
            is_server_side: false,
        }
    }

    fn mcp_call(target: &str, arguments: &str, ts: i64) -> McpCall {
        McpCall {
            conn_id: 9,
            http_id: None,
            transport: "stdio",
            client: Some(agent()),
            server: None,
            server_name: None,
            session_id: None,
            protocol_version: None,
            request_id: Some("1".into()),
            is_from_server: false,
            method: "tools/call".into(),
            target: Some(target.into()),
            params: Some(format!(r#"{{"name":"{target}","arguments":{arguments}}}"#)),
            result: None,
            error_code: None,
            error_message: None,
            is_error: None,
            is_cancelled: false,
            is_cut: false,
            start_ts: WallNanos(ts),
            end_ts: None,
            request_bytes: 1,
            response_bytes: None,
            progress: 0,
            partial: None,
        }
    }

    fn tool_ids(calls: &[McpCall], tools: &[ToolCall]) -> Vec<Option<String>> {
        let rows = mcp_rows(calls, &[], tools, &Channels::default());
        rows.into_iter().map(|row| row.tool.map(|(id, _)| id)).collect()
    }

    #[test]
    fn a_call_is_the_tool_call_of_the_same_name_time_and_arguments() {
        let tools = [
            tool_call("a", "mcp__files__read", r#"{"path": "x"}"#, (10, Some(30))),
            tool_call("b", "mcp__files__read", r#"{"path": "y"}"#, (11, Some(30))),
            tool_call("c", "mcp__files__spread", r#"{"path": "x"}"#, (12, Some(30))),
            tool_call("d", "read", r#"{"path": "x"}"#, (40, None)),
        ];
        let calls = [
            mcp_call("read", r#"{"path":"x"}"#, 20),
            mcp_call("read", r#"{"path":"z"}"#, 21),
            mcp_call("read", r#"{"path":"x"}"#, 35),
            mcp_call("read", r#"{"path":"x"}"#, 45),
            mcp_call("write", "{}", 46),
        ];
        let expected = [Some("a"), Some("b"), None, Some("d"), None];
        assert_eq!(tool_ids(&calls, &tools), expected.map(|id| id.map(str::to_owned)));
        assert!(is_tool("files.read", "read") && !is_tool("unread", "read"));
    }
}
