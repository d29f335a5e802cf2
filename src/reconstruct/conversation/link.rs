//! Which call a call goes on with.
//!
//! A request that says all that was said before tells its predecessor by that. What it says, but for
//! instructions and tools (which programs change in the midst of a conversation) and reasoning (which
//! some send back and some do not), is hashed block by block; each call leaves behind the hash of its
//! request, and of request and response together. The longest of these hashes that a later request
//! runs through is the call that it goes on with.

use std::collections::HashMap;

use super::blocks::{Blocks, Kind};
use super::node::{Node, NodeId, hash};
use crate::reconstruct::finding::{BlockRef, BlockRole, LlmCall};

/// Texts shorter than this are said in many conversations.
const MIN_TELLING_BYTES: u64 = 64;

/// A call found, and how much of the request at hand was said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) node: NodeId,
    /// Blocks of the dialogue that came before.
    pub(super) said: usize,
    /// Whether something else stands in the place of the history.
    pub(super) is_replaced: bool,
    /// Whether that is the call's answer.
    pub(super) has_summary: bool,
}

impl Found {
    fn repeated(node: NodeId, said: usize) -> Self {
        Self { node, said, is_replaced: false, has_summary: false }
    }
}

/// Where calls are found again. Only ever asked for one key, so that no order of a map matters.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By all that was said when the call ended.
    by_whole: HashMap<u64, NodeId>,
    /// By what its request said, in one session or process.
    by_request: HashMap<u64, NodeId>,
    /// By the last that its response said, in one session or process.
    by_reply: HashMap<u64, NodeId>,
    by_response_id: HashMap<u64, NodeId>,
    by_key: HashMap<u64, NodeId>,
    /// What each call leaves behind for one that names it instead of repeating it.
    wholes: HashMap<NodeId, u64>,
}

/// The dialogue of a request: no instructions, tools or reasoning.
pub(super) fn dialogue<'a>(content: &'a [BlockRef], blocks: &Blocks) -> Vec<&'a BlockRef> {
    let is_said = |block: &&BlockRef| {
        block.role != BlockRole::System && blocks.kind(block.block_id) != Some(Kind::Thinking)
    };
    content.iter().filter(is_said).collect()
}

impl Index {
    /// Finds the call that `node` goes on with.
    pub(super) fn find(
        &self,
        call: &LlmCall,
        node: &Node,
        nodes: &[Node],
        request: &[&BlockRef],
    ) -> Option<Found> {
        let earlier = |found: NodeId| nodes[found].order() < node.order();
        let named = call.correlation.previous_response_id.as_ref();
        if let Some(found) = named.and_then(|id| self.by_response_id.get(&hash(id))).copied() {
            return earlier(found).then_some(Found::repeated(found, 0));
        }
        let repeated = self.repeated(node, nodes, request, &earlier);
        let answered = self.answered(node, request).filter(|found| earlier(found.node));
        // The one that accounts for more; for the same, what was repeated word by word.
        let by_content = match (repeated, answered) {
            (Some(repeated), Some(answered)) if answered.said > repeated.said => Some(answered),
            (repeated, answered) => repeated.or(answered),
        };
        by_content.or_else(|| {
            let found = *self.by_key.get(&node.key?)?;
            let found = Found { is_replaced: true, ..Found::repeated(found, 0) };
            earlier(found.node).then_some(found)
        })
    }

    fn repeated(
        &self,
        node: &Node,
        nodes: &[Node],
        request: &[&BlockRef],
        earlier: &impl Fn(NodeId) -> bool,
    ) -> Option<Found> {
        let mut longest = None;
        let mut chain = 0;
        for (at, block) in request.iter().enumerate() {
            chain = hash((chain, block.block_id));
            let said = at + 1;
            let whole = self.by_whole.get(&chain);
            // A request that says no more is the same once more, and goes on with the same.
            let part =
                || self.by_request.get(&in_scope(chain, node)).filter(|_| said < request.len());
            let is_like = |found: &NodeId| nodes[*found].has_tools == node.has_tools;
            let found = whole.or_else(|| part().filter(|found| is_like(found))).copied();
            if let Some(node) = found.filter(|found| earlier(*found)) {
                longest = Some(Found::repeated(node, said));
            }
        }
        longest
    }

    /// Where older parts of the history were changed, its last answer still stands.
    fn answered(&self, node: &Node, request: &[&BlockRef]) -> Option<Found> {
        let at = request.iter().rposition(|block| block.role == BlockRole::Assistant)?;
        let found = *self.by_reply.get(&in_scope(request[at].block_id, node))?;
        Some(Found::repeated(found, at + 1))
    }

    /// Takes in a call that others may go on with.
    pub(super) fn push(&mut self, call: &LlmCall, id: NodeId, nodes: &[Node], blocks: &Blocks) {
        let node = &nodes[id];
        if let Some(key) = node.key {
            latest(&mut self.by_key, key, id, nodes);
        }
        if let Some(response_id) = &call.response_id {
            latest(&mut self.by_response_id, hash(response_id), id, nodes);
        }
        let response = dialogue(&call.content.response, blocks);
        let is_telling = |block: &&&BlockRef| {
            block.bytes >= MIN_TELLING_BYTES || blocks.kind(block.block_id) == Some(Kind::ToolUse)
        };
        if let Some(last) = response.last().filter(is_telling) {
            latest(&mut self.by_reply, in_scope(last.block_id, node), id, nodes);
        }
        // What is not known whole cannot be known again.
        if !call.content.is_request_whole {
            return;
        }
        let before = match (&call.correlation.previous_response_id, node.parent) {
            (None, _) => 0,
            (Some(_), Some(parent)) => match self.wholes.get(&parent) {
                Some(whole) => *whole,
                None => return,
            },
            (Some(_), None) => return,
        };
        let request = dialogue(&call.content.request, blocks);
        let go_on = |chain, block: &&BlockRef| hash((chain, block.block_id));
        let said = request.iter().fold(before, go_on);
        if !request.is_empty() {
            latest(&mut self.by_request, in_scope(said, node), id, nodes);
        }
        let whole = response.iter().fold(said, go_on);
        if call.response_id.is_some() {
            self.wholes.insert(id, whole);
        }
        if !response.is_empty() {
            latest(&mut self.by_whole, whole, id, nodes);
        }
    }
}

/// Of calls with the same key the last in order counts, whichever ended first.
fn latest(map: &mut HashMap<u64, NodeId>, key: u64, id: NodeId, nodes: &[Node]) {
    let last = map.entry(key).or_insert(id);
    if nodes[*last].order() < nodes[id].order() {
        *last = id;
    }
}

fn in_scope(chain: u64, node: &Node) -> u64 {
    hash((chain, node.scope))
}
