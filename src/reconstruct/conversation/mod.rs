//! Puts calls together: which go on with each other, which turn of which conversation each is part
//! of, what became of the tools that models asked for, and where a cache was lost.
//!
//! Stands between what finds single calls and whoever wants findings:
//!
//! ```text
//!  Block, LlmCall ─▶ blocks ─▶ link ─▶ node ... all calls known ─▶ tree ─▶ settle ─▶ Placed,
//!                                └─▶ answers ─▶ ToolCall               CacheBreak, Turn, Conversation
//! ```
//!
//! While calls come, as they end, each is linked to the one whose history it goes on with: by the
//! provider's id of that response, by what it repeats, or by the agent's own ids. That gives trees:
//! a side question repeats the history as the next turn does. Which branch is the conversation shows
//! in what follows, so places are told at the end, in order of the calls' begins. Calls that end at
//! the same time in either order are placed alike.
//!
//! Memory: some hundred bytes per call and a few per block. Texts are kept of blocks whose call has
//! not ended, of tools without result, and of small instructions and definitions of tools; the block
//! lists of the last 64 calls. All of these are bounded.

mod answers;
mod blocks;
mod breaks;
#[cfg(test)]
mod calls;
mod diff;
mod link;
mod node;
mod settle;
mod summary;
#[cfg(test)]
mod tests;
mod tools;
mod tree;
mod wall;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::answers::Answers;
use self::blocks::{Blocks, Kind, Told};
use self::diff::Requests;
use self::link::{Found, Index};
use self::node::{About, Node, NodeId, hash};
use super::finding::{
    BlockRef, BlockRole, CallClass, Completeness, Content, Context, Finding, LlmCall, ToolCall,
};

/// Receives findings.
type Findings<'a> = &'a mut dyn FnMut(Finding);

/// Answers that may be summaries, and are looked for; the oldest make room.
const MAX_SUMMARIES: usize = 64;

/// Text of a request in which summaries are looked for.
const MAX_SEARCHED_BYTES: usize = 64 << 10;

/// Blocks of a request that are looked at to find whose task it is.
const MAX_TASK_BLOCKS: usize = 32;

/// The calls of one trace as they come.
#[derive(Debug, Default)]
pub(crate) struct Conversations {
    blocks: Blocks,
    nodes: Vec<Node>,
    index: Index,
    requests: Requests,
    answers: Answers,
    /// Answers that may be summaries, the latest last.
    summaries: VecDeque<(NodeId, Vec<Box<str>>)>,
}

impl Conversations {
    /// Takes a finding, and hands it on with what follows from it.
    pub(crate) fn push(&mut self, finding: Finding, findings: Findings<'_>) {
        match finding {
            Finding::Block(block) => {
                self.blocks.push(&block);
                findings(Finding::Block(block));
            }
            Finding::LlmCall(mut call) => {
                let told = self.blocks.take(call.call_id);
                let tools = self.call(&call, &told);
                call.context = self.context(&call.content);
                let generated = call.content.response.iter().map(|block| block.bytes);
                call.generated_bytes = generated.reduce(u64::saturating_add);
                call.content = Content::default();
                findings(Finding::LlmCall(call));
                tools.into_iter().for_each(|tool| findings(Finding::ToolCall(Box::new(tool))));
            }
            other => findings(other),
        }
    }

    /// Reports what is known when there are no more calls.
    pub(crate) fn finish(&mut self, findings: Findings<'_>) {
        let Self { nodes, mut answers, .. } = std::mem::take(self);
        answers.finish(findings);
        settle::settle(&nodes, findings);
    }

    /// Takes in a call; gives the uses of tools that are done with it.
    fn call(&mut self, call: &LlmCall, told: &BTreeMap<u64, Told>) -> Vec<ToolCall> {
        let mut node = self.node(call);
        let said = link::dialogue(&call.content.request, &self.blocks);
        let found = self.find(call, &node, &said, told);
        if let Some(found) = found {
            let is_asked = self.nodes[found.node].class == Some(CallClass::Compaction);
            node.parent = Some(found.node);
            node.is_replaced = found.is_replaced;
            node.has_summary = found.is_replaced && (found.has_summary || is_asked);
        }
        let new = &said[found.map_or(0, |found| found.said)..];
        self.begin_turn(&mut node, new);
        self.introduce(call, &mut node, new, told);
        let ordered = diff::in_cache_order(&call.content.request, &self.blocks);
        let id = self.nodes.len();
        if call.content.is_request_whole && call.correlation.previous_response_id.is_none() {
            let parent = node.parent;
            let differs =
                |parent| self.requests.compare(parent, &ordered, &self.blocks.texts).map(Box::new);
            node.cache.difference = parent.and_then(differs);
            if !node.is_count() {
                self.requests.keep(id, &ordered);
            }
        }
        if let Some(parent) = node.parent {
            self.nodes[parent].is_continued = true;
        }
        let is_count = node.is_count();
        self.nodes.push(node);
        if is_count {
            return Vec::new();
        }
        let mut done = Vec::new();
        self.answers.results(call, id, &mut self.nodes, (new, told), &self.blocks, &mut done);
        self.answers.uses(call, id, &mut self.nodes, told, &self.blocks, &mut done);
        self.index.push(call, id, &self.nodes, &self.blocks);
        self.remember_answer(call, id, told);
        done
    }

    /// What a call says by itself.
    fn node(&self, call: &LlmCall) -> Node {
        let Content { request, response, .. } = &call.content;
        let is_kind = |block: &BlockRef, kind| self.blocks.kind(block.block_id) == Some(kind);
        let mut node = Node::new(call);
        node.phases = wall::Phases::of(call, node.span, |block| is_kind(block, Kind::Thinking));
        node.has_tools = request.iter().any(|block| is_kind(block, Kind::ToolDefinition));
        node.has_history = request.iter().any(|block| block.role == BlockRole::Assistant);
        node.cut = match call.exchange.completeness {
            _ if call.content.is_request_whole => None,
            Completeness::Complete => None,
            Completeness::Partial(reason) => Some(reason),
        };
        let uses = response.iter().filter(|block| is_kind(block, Kind::ToolUse)).count();
        node.tool_uses = u32::try_from(uses).unwrap_or(u32::MAX);
        node.is_compacted = response.iter().any(|block| is_kind(block, Kind::Compaction));
        let said = link::dialogue(request, &self.blocks);
        let said = said.iter().map(|block| block.block_id).collect::<Vec<_>>();
        let named = &call.correlation.previous_response_id;
        node.request = call.content.is_request_whole.then(|| hash((named, said)));
        node
    }

    /// The call that this one goes on with.
    fn find(
        &self,
        call: &LlmCall,
        node: &Node,
        said: &[&BlockRef],
        told: &BTreeMap<u64, Told>,
    ) -> Option<Found> {
        let found = self.index.find(call, node, &self.nodes, said);
        if found.is_some_and(|found| !found.is_replaced) {
            return found;
        }
        let summarised = self.summarised(node, told);
        let by_summary = |node| Found { node, said: 0, is_replaced: true, has_summary: true };
        summarised.map(by_summary).or(found)
    }

    /// The call whose answer a request begins with as the summary of what was before.
    fn summarised(&self, node: &Node, told: &BTreeMap<u64, Told>) -> Option<NodeId> {
        let mut room = MAX_SEARCHED_BYTES;
        let mut texts = Vec::new();
        for text in told.values().filter_map(|told| told.text.as_deref()) {
            let text = summary::cut(text, room);
            room -= text.len();
            texts.push(text);
        }
        let is_summary = |(id, probes): &&(NodeId, Vec<Box<str>>)| {
            let asked = &self.nodes[*id];
            let main = asked.parent.map_or(asked, |parent| &self.nodes[parent]);
            (asked.scope == node.scope || asked.process == node.process)
                && main.has_tools == node.has_tools
                && asked.order() < node.order()
                && texts.iter().any(|text| summary::is_in(probes, text))
        };
        self.summaries.iter().rev().find(is_summary).map(|(id, _)| *id)
    }

    /// Whether the user says something new, and what.
    fn begin_turn(&self, node: &mut Node, new: &[&BlockRef]) {
        let is_kind = |block: &BlockRef, kind| self.blocks.kind(block.block_id) == Some(kind);
        // Words beside the result of a tool go with it: programs put reminders there.
        let item = |block: &BlockRef| (block.path.section, block.path.item);
        let results = new.iter().filter(|block| is_kind(block, Kind::ToolResult));
        let with_result: BTreeSet<_> = results.map(|block| item(block)).collect();
        let is_prompt = |block: &&&BlockRef| {
            block.role == BlockRole::User
                && is_kind(block, Kind::Text)
                && !with_result.contains(&item(block))
        };
        let last = new.iter().rfind(is_prompt).map(|block| block.block_id);
        let is_more_than_summary = || new.iter().filter(is_prompt).nth(1).is_some();
        let any = || new.iter().rfind(|block| block.role == BlockRole::User);
        let prompt = last.or_else(|| any().map(|block| block.block_id));
        node.prompt =
            prompt.and_then(|id| self.blocks.prompt(id)).map(|prompt| prompt.begin.clone());
        let Some(parent) = node.parent.map(|parent| &self.nodes[parent]) else { return };
        node.starts_turn = match (parent.prompt_id, node.prompt_id) {
            (Some(before), Some(now)) => before != now,
            // In the midst of work a summary takes the place of the history, not of the user.
            _ if node.has_summary => is_more_than_summary(),
            _ if node.is_replaced => parent.tool_uses == 0,
            _ => last.is_some(),
        };
    }

    /// Keeps who calls where a conversation may begin, and the uses of tools that it may be the
    /// work of.
    fn introduce(
        &self,
        call: &LlmCall,
        node: &mut Node,
        new: &[&BlockRef],
        told: &BTreeMap<u64, Told>,
    ) {
        let goes_on = |parent: &Node| {
            !parent.is_continued && parent.key == node.key && parent.class == node.class
        };
        if node.parent.is_some_and(|parent| goes_on(&self.nodes[parent])) {
            return;
        }
        let (agent, correlation) = (call.agent.clone(), call.correlation.clone());
        node.about = Some(Box::new(About { agent, correlation }));
        let words = new.iter().filter(|block| block.role == BlockRole::User);
        for block in words.take(MAX_TASK_BLOCKS) {
            let Some(prompt) = self.blocks.prompt(block.block_id) else { continue };
            let text = told.get(&block.block_id).and_then(|told| told.text.as_deref());
            node.tasks.extend(self.answers.asking_for(prompt.said, text, node.span.start));
        }
    }

    fn remember_answer(&mut self, call: &LlmCall, id: NodeId, told: &BTreeMap<u64, Told>) {
        if self.nodes[id].tool_uses > 0 {
            return;
        }
        let answers = call.content.response.iter().filter_map(|block| told.get(&block.block_id));
        let probes = answers.map(|told| &told.probes).find(|probes| !probes.is_empty());
        if let Some(probes) = probes {
            self.summaries.push_back((id, probes.clone()));
            if self.summaries.len() > MAX_SUMMARIES {
                self.summaries.pop_front();
            }
        }
    }

    /// What a request is made of.
    fn context(&self, content: &Content) -> Option<Context> {
        if !content.is_request_whole {
            return None;
        }
        let mut context = Context { blocks: content.request.len() as u64, ..Context::default() };
        for block in &content.request {
            let part = match (self.blocks.kind(block.block_id), block.role) {
                (Some(Kind::ToolDefinition), _) => &mut context.tool_definition_bytes,
                (Some(Kind::ToolResult), _) | (_, BlockRole::Tool) => {
                    &mut context.tool_result_bytes
                }
                (_, BlockRole::System) => &mut context.system_bytes,
                (_, BlockRole::User) => &mut context.user_bytes,
                (_, BlockRole::Assistant) => &mut context.assistant_bytes,
            };
            *part = part.saturating_add(block.bytes);
        }
        Some(context)
    }
}
