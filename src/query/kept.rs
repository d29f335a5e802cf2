//! What one pass over the payload of a trace found, as far as it is kept in memory.
//!
//! Rows that grow with the number of calls are kept; texts that grow with the payload are kept while
//! they are few. Beyond that each query that asks for them reads the trace again.

use std::collections::HashMap;
use std::sync::Arc;

use crate::event::Event;
use crate::reconstruct::finding::{
    Block, CacheBreak, Carried, Conversation, Finding, Limit, LlmCall, McpCall, Placement,
    StreamEvent, ToolCall, Turn,
};
use crate::tables::{Channels, HttpRow, Inputs, LossRow, MessageRow, Traffic};

/// Text of stream events that is kept at most.
const KEPT_STREAM_BYTES: usize = 32 << 20;

/// Text of content blocks that is kept at most.
const KEPT_MESSAGE_BYTES: usize = 32 << 20;

/// Arguments of tools that are kept at most, and as much of their results.
const KEPT_TOOL_BYTES: usize = 32 << 20;

/// Parameters and results of calls of tool servers that are kept at most.
const KEPT_MCP_BYTES: usize = 32 << 20;

/// What the shared pass over payload found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) exchanges: Vec<HttpRow>,
    /// In order of their numbers, in their places.
    pub(super) calls: Vec<LlmCall>,
    /// `None` when they were too many to keep.
    pub(super) stream_events: Option<Vec<StreamEvent>>,
    /// `None` when they were too many to keep.
    pub(super) messages: Option<Vec<MessageRow>>,
    /// In the order of their findings; without texts where there was no room.
    pub(super) tool_calls: Vec<ToolCall>,
    /// Whether the tool calls have all of their texts.
    pub(super) has_tool_texts: bool,
    pub(super) turns: Vec<Turn>,
    pub(super) conversations: Vec<Conversation>,
    pub(super) cache_breaks: Vec<CacheBreak>,
    /// In order of their exchanges.
    pub(super) limits: Vec<Limit>,
    /// In the order of their findings; without texts where there was no room.
    pub(super) mcp_calls: Vec<McpCall>,
    /// What processes read from their standard input.
    pub(super) inputs: Inputs,
    pub(super) gaps: Vec<LossRow>,
    pub(super) traffic: Traffic,
}

impl Findings {
    /// Where a call stands; `None` where it is none.
    pub(super) fn placement(&self, call_id: u64) -> Option<&Placement> {
        let at = self.calls.binary_search_by_key(&call_id, |call| call.call_id).ok()?;
        Some(&self.calls[at].placement)
    }

    /// A block with the place of its call.
    pub(super) fn message(&self, block: Block) -> MessageRow {
        let placement = self.placement(block.call_id).cloned();
        MessageRow { block, placement }
    }
}

/// Rows that are kept while they are few.
#[derive(Debug)]
struct Few<T> {
    rows: Option<Vec<T>>,
    bytes: usize,
    max_bytes: usize,
}

impl<T> Few<T> {
    fn new(max_bytes: usize) -> Self {
        Self { rows: Some(Vec::new()), bytes: 0, max_bytes }
    }

    fn push(&mut self, row: T, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.max_bytes {
            self.rows = None;
        } else if let Some(rows) = &mut self.rows {
            rows.push(row);
        }
    }
}

/// Findings of the shared pass as they gather.
pub(super) struct Kept {
    findings: Findings,
    channels: Arc<Channels>,
    stream_events: Few<StreamEvent>,
    blocks: Few<Block>,
    argument_bytes: usize,
    result_bytes: usize,
    mcp_bytes: usize,
    places: HashMap<u64, Placement>,
    carried: HashMap<(u64, String), u64>,
}

impl Kept {
    pub(super) fn new(channels: Arc<Channels>, is_midway: bool) -> Self {
        let traffic = Traffic::new(is_midway);
        Self {
            findings: Findings { traffic, has_tool_texts: true, ..Findings::default() },
            channels,
            stream_events: Few::new(KEPT_STREAM_BYTES),
            blocks: Few::new(KEPT_MESSAGE_BYTES),
            argument_bytes: 0,
            result_bytes: 0,
            mcp_bytes: 0,
            places: HashMap::new(),
            carried: HashMap::new(),
        }
    }

    /// Takes in an event for what is not found by reconstruction.
    pub(super) fn event(&mut self, event: &Event) {
        self.findings.traffic.push(event);
        self.findings.inputs.push(event);
    }

    pub(super) fn push(&mut self, finding: Finding) {
        match finding {
            Finding::Exchange(exchange) => {
                self.findings.traffic.exchange(&exchange);
                self.findings.exchanges.push(HttpRow::new(*exchange, &self.channels));
            }
            Finding::LlmCall(call) => self.findings.calls.push(*call),
            Finding::StreamEvent(event) => {
                let bytes = stream_event_bytes(&event);
                self.stream_events.push(event, bytes);
            }
            Finding::Block(block) => {
                let bytes = size_of::<MessageRow>() + block.text.as_ref().map_or(0, String::len);
                self.blocks.push(*block, bytes);
            }
            Finding::ToolCall(tool) => self.tool_call(*tool),
            Finding::Carried(carried) => {
                let Carried { call_id, tool_call_id, calls } = *carried;
                self.carried.insert((call_id, tool_call_id), calls);
            }
            Finding::Placed(placed) => drop(self.places.insert(placed.call_id, placed.placement)),
            Finding::CacheBreak(found) => self.findings.cache_breaks.push(*found),
            Finding::Turn(turn) => self.findings.turns.push(*turn),
            Finding::Conversation(found) => self.findings.conversations.push(*found),
            Finding::Limit(limit) => self.findings.limits.push(*limit),
            Finding::McpCall(call) => self.mcp_call(*call),
        }
    }

    fn mcp_call(&mut self, mut call: McpCall) {
        for text in [&mut call.params, &mut call.result] {
            self.mcp_bytes = self.mcp_bytes.saturating_add(text.as_ref().map_or(0, String::len));
            if self.mcp_bytes > KEPT_MCP_BYTES && text.take().is_some() {
                call.is_cut = true;
            }
        }
        self.findings.mcp_calls.push(call);
    }

    fn tool_call(&mut self, mut tool: ToolCall) {
        for (text, kept) in [
            (&mut tool.arguments, &mut self.argument_bytes),
            (&mut tool.result, &mut self.result_bytes),
        ] {
            *kept = kept.saturating_add(text.as_ref().map_or(0, String::len));
            if *kept > KEPT_TOOL_BYTES && text.take().is_some() {
                self.findings.has_tool_texts = false;
            }
        }
        self.findings.tool_calls.push(tool);
    }

    pub(super) fn finish(self) -> Findings {
        let Self { mut findings, mut places, carried, .. } = self;
        findings.calls.sort_by_key(|call| call.call_id);
        findings.limits.sort_by_key(|limit| limit.http_id);
        for call in &mut findings.calls {
            call.placement = places.remove(&call.call_id).unwrap_or_default();
        }
        let mut tools = std::mem::take(&mut findings.tool_calls);
        for tool in &mut tools {
            if let Some(place) = findings.placement(tool.call_id) {
                (tool.conversation_id, tool.turn) = (place.conversation_id, place.turn);
            }
            let own = (tool.call_id, tool.tool_call_id.clone());
            tool.carried_calls = carried.get(&own).copied();
        }
        findings.tool_calls = tools;
        findings.stream_events = self.stream_events.rows;
        let blocks = self.blocks.rows;
        findings.messages =
            blocks.map(|blocks| blocks.into_iter().map(|it| findings.message(it)).collect());
        findings
    }
}

/// Size in memory, about.
pub(super) fn stream_event_bytes(event: &StreamEvent) -> usize {
    size_of::<StreamEvent>() + event.data.len() + event.event.as_ref().map_or(0, String::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::WallNanos;

    fn event(data_bytes: usize) -> Finding {
        let data = "x".repeat(data_bytes);
        let ts = WallNanos(0);
        Finding::StreamEvent(StreamEvent { http_id: 1, seq: 0, ts, event: None, data })
    }

    #[test]
    fn few_stream_events_are_kept_and_many_are_not() {
        let mut kept = Kept::new(Arc::default(), false);
        kept.push(event(10));
        kept.push(event(10));
        assert_eq!(kept.finish().stream_events.map(|events| events.len()), Some(2));
        let mut kept = Kept::new(Arc::default(), false);
        kept.push(event(KEPT_STREAM_BYTES));
        kept.push(event(10));
        assert_eq!(kept.finish().stream_events, None);
    }

    fn tool(call_id: u64, result_bytes: usize) -> Finding {
        Finding::ToolCall(Box::new(ToolCall {
            tool_call_id: "t".into(),
            call_id,
            result_call_id: None,
            conversation_id: None,
            turn: None,
            process: None,
            name: None,
            arguments: Some("{}".into()),
            result: Some("x".repeat(result_bytes)),
            is_error: None,
            result_bytes: Some(result_bytes as u64),
            start_ts: WallNanos(0),
            end_ts: None,
            carried_calls: None,
            is_server_side: false,
        }))
    }

    #[test]
    fn tool_calls_are_kept_without_texts_for_which_there_is_no_room() {
        let mut kept = Kept::new(Arc::default(), false);
        kept.push(tool(1, 10));
        kept.push(tool(2, KEPT_TOOL_BYTES));
        let carried = Carried { call_id: 2, tool_call_id: "t".into(), calls: 7 };
        kept.push(Finding::Carried(Box::new(carried)));
        let found = kept.finish();
        assert!(!found.has_tool_texts);
        let texts: Vec<_> = found.tool_calls.iter().map(|it| it.result.is_some()).collect();
        assert_eq!(texts, [true, false]);
        assert!(found.tool_calls.iter().all(|it| it.arguments.is_some()));
        assert_eq!(found.tool_calls[1].carried_calls, Some(7));
    }
}
