//! From the uses of tools that responses ask for to the results that requests carry.

use std::collections::{BTreeMap, HashMap};

use super::Findings;
use super::blocks::{Blocks, Kind, Told};
use super::node::{Node, NodeId, ToolSpan};
use super::tools::{Pending, Pendings, made_up_id};
use crate::reconstruct::finding::{BlockRef, BlockRole, Carried, Finding, LlmCall, ToolCall};
use crate::time::WallNanos;

/// Uses without result, and how often results were sent.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pendings: Pendings,
    /// Calls that sent each result, by block.
    carried: HashMap<u64, u64>,
    answered: Vec<Answered>,
}

/// A tool call that has its result, and which block that is.
#[derive(Debug)]
struct Answered {
    call_id: u64,
    tool_call_id: String,
    block_id: u64,
}

impl Answers {
    /// Takes the results that a request carries. `new`: what it says beyond the call before it.
    pub(super) fn results(
        &mut self,
        call: &LlmCall,
        id: NodeId,
        nodes: &mut [Node],
        (new, told): (&[&BlockRef], &BTreeMap<u64, Told>),
        blocks: &Blocks,
        done: &mut Vec<ToolCall>,
    ) {
        let is_result = |block: &BlockRef| blocks.kind(block.block_id) == Some(Kind::ToolResult);
        for block in call.content.request.iter().filter(|block| is_result(block)) {
            *self.carried.entry(block.block_id).or_default() += 1;
        }
        let (parent, is_replaced) = (nodes[id].parent, nodes[id].is_replaced);
        for block in new {
            let told = told.get(&block.block_id);
            match blocks.kind(block.block_id) {
                // The response that asks for it was not seen, or not as it is repeated.
                Some(Kind::ToolUse) if block.role == BlockRole::Assistant && !is_replaced => {
                    let (Some(told), Some(parent)) = (told, parent) else { continue };
                    let is_known = |tool_call_id: &String| {
                        self.pendings.by_id(tool_call_id, Some(parent), |_| false).is_some()
                    };
                    if told.tool_call_id.as_ref().is_some_and(|it| !is_known(it)) {
                        let (call_id, at) = (nodes[parent].call_id, nodes[parent].span.end);
                        self.ask(tool(call_id, at, told, String::new()), parent, nodes, done);
                    }
                }
                Some(Kind::ToolResult) => {
                    let told = told.or_else(|| blocks.tool(block.block_id));
                    let Some(number) = self.answered(block, told, id, nodes) else { continue };
                    self.answer(number, call, block, told, nodes, done);
                }
                _ => {}
            }
        }
    }

    /// The use that a result is of.
    fn answered(
        &self,
        block: &BlockRef,
        told: Option<&Told>,
        id: NodeId,
        nodes: &[Node],
    ) -> Option<u64> {
        let node = &nodes[id];
        let may_be = |asked: NodeId| {
            nodes[asked].scope == node.scope || nodes[asked].process == node.process
        };
        match told.and_then(|told| told.tool_call_id.as_deref()) {
            Some(tool_call_id) => self.pendings.by_id(tool_call_id, node.parent, may_be),
            None if block.role == BlockRole::Assistant => None,
            None => {
                let name = told.and_then(|told| told.tool_name.as_deref());
                self.pendings.next_of(node.parent?, name)
            }
        }
    }

    fn answer(
        &mut self,
        number: u64,
        call: &LlmCall,
        block: &BlockRef,
        told: Option<&Told>,
        nodes: &mut [Node],
        done: &mut Vec<ToolCall>,
    ) {
        let Some(Pending { node, mut tool, .. }) = self.pendings.take(number) else { return };
        tool.result_call_id = Some(call.call_id);
        tool.result = told.and_then(|told| told.text.clone());
        tool.is_error = told.and_then(|told| told.is_error);
        tool.result_bytes = Some(block.bytes);
        let sent = call.exchange.start_ts;
        tool.end_ts = Some(sent.max(tool.start_ts));
        if let Some(span) = &mut nodes[node].tools {
            span.until = span.until.max(sent);
            span.pending = span.pending.saturating_sub(1);
        }
        self.answered.push(Answered {
            call_id: tool.call_id,
            tool_call_id: tool.tool_call_id.clone(),
            block_id: block.block_id,
        });
        done.push(tool);
    }

    /// Takes the uses that a response asks for.
    pub(super) fn uses(
        &mut self,
        call: &LlmCall,
        id: NodeId,
        nodes: &mut [Node],
        told: &BTreeMap<u64, Told>,
        blocks: &Blocks,
        done: &mut Vec<ToolCall>,
    ) {
        let response = &call.content.response;
        let within = Within::of(response, told, blocks);
        for (position, block) in response.iter().enumerate() {
            let kind = blocks.kind(block.block_id);
            if !matches!(kind, Some(Kind::ToolUse | Kind::ServerTool)) {
                continue;
            }
            let before = || blocks.tool(block.block_id);
            let Some(of_block) = told.get(&block.block_id).or_else(before) else { continue };
            let end = nodes[id].span.end;
            let asked = block.streamed.map_or(end, |(_, last)| last);
            let tool = tool(call.call_id, asked, of_block, made_up_id(call, position));
            let own_id = of_block.tool_call_id.as_deref();
            match own_id.and_then(|own_id| within.0.get(own_id)) {
                // It is the result of one before it.
                Some((first, _)) if *first < position && kind == Some(Kind::ServerTool) => {}
                Some((_, Some((result, told)))) => done.push(served(tool, told, call, result, end)),
                _ if kind == Some(Kind::ServerTool) => {
                    let process = call.exchange.process;
                    done.push(ToolCall { process, is_server_side: true, ..tool });
                }
                _ => self.ask(tool, id, nodes, done),
            }
        }
    }

    fn ask(
        &mut self,
        mut tool: ToolCall,
        id: NodeId,
        nodes: &mut [Node],
        done: &mut Vec<ToolCall>,
    ) {
        let node = &mut nodes[id];
        tool.process = node.process;
        let from = tool.start_ts;
        let span = node.tools.get_or_insert(ToolSpan { from, until: from, pending: 0 });
        span.from = span.from.min(from);
        span.pending += 1;
        done.extend(self.pendings.push(id, tool).map(|given_up| given_up.tool));
    }

    /// The uses whose arguments hold what a conversation begins with.
    pub(super) fn asking_for(
        &self,
        said: u64,
        text: Option<&str>,
        by: WallNanos,
    ) -> impl Iterator<Item = (NodeId, Box<str>)> {
        self.pendings.asking_for(said, text, by).into_iter()
    }

    /// Reports the uses that have no result, and how often results were sent.
    pub(super) fn finish(&mut self, findings: Findings<'_>) {
        for Pending { tool, .. } in self.pendings.take_all() {
            findings(Finding::ToolCall(Box::new(tool)));
        }
        for Answered { call_id, tool_call_id, block_id } in std::mem::take(&mut self.answered) {
            let calls = self.carried.get(&block_id).copied().unwrap_or(1);
            findings(Finding::Carried(Box::new(Carried { call_id, tool_call_id, calls })));
        }
    }
}

fn tool(call_id: u64, start_ts: WallNanos, told: &Told, made_up_id: String) -> ToolCall {
    ToolCall {
        tool_call_id: told.tool_call_id.clone().unwrap_or(made_up_id),
        call_id,
        result_call_id: None,
        conversation_id: None,
        turn: None,
        process: None,
        name: told.tool_name.clone(),
        arguments: told.text.clone(),
        result: None,
        is_error: None,
        result_bytes: None,
        start_ts,
        end_ts: None,
        carried_calls: None,
        is_server_side: false,
    }
}

/// A use that the provider itself served: its result came in the same response.
fn served(
    tool: ToolCall,
    told: &Told,
    call: &LlmCall,
    result: &BlockRef,
    end: WallNanos,
) -> ToolCall {
    let came = result.streamed.map_or(end, |(first, _)| first);
    ToolCall {
        result_call_id: Some(call.call_id),
        process: call.exchange.process,
        result: told.text.clone(),
        is_error: told.is_error,
        result_bytes: Some(result.bytes),
        end_ts: Some(came.max(tool.start_ts)),
        is_server_side: true,
        ..tool
    }
}

/// A result that stands in the response that asks for it.
type OwnResult<'a> = (&'a BlockRef, &'a Told);

/// The ids of tools in one response: where each stands first, and the result that follows it.
struct Within<'a>(HashMap<&'a str, (usize, Option<OwnResult<'a>>)>);

impl<'a> Within<'a> {
    fn of(response: &'a [BlockRef], told: &'a BTreeMap<u64, Told>, blocks: &Blocks) -> Self {
        let mut ids = HashMap::new();
        for (position, block) in response.iter().enumerate() {
            let Some(of_block) = told.get(&block.block_id) else { continue };
            let Some(own_id) = of_block.tool_call_id.as_deref() else { continue };
            let (first, result) = ids.entry(own_id).or_insert((position, None));
            let may_be = [Some(Kind::ToolResult), Some(Kind::ServerTool)];
            if *first < position && may_be.contains(&blocks.kind(block.block_id)) {
                result.get_or_insert((block, of_block));
            }
        }
        Self(ids)
    }
}
