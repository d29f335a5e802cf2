//! From links between calls to conversations: attempts at the same request become one step, and of
//! the steps that go on with the same one the conversation takes that which leads furthest.

use std::collections::HashMap;

use super::node::{Node, NodeId};
use crate::reconstruct::finding::CallClass;

/// Position of a step.
pub(super) type StepId = usize;

/// A request, with all attempts at it, in order of their begins.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) attempts: Vec<NodeId>,
    pub(super) parent: Option<StepId>,
    /// The conversation that it is part of, counted from 0.
    pub(super) conversation: usize,
    /// Steps on the longest way on from here, itself included.
    length: usize,
}

/// Steps that go on with each other.
#[derive(Debug)]
pub(super) struct Line {
    /// In order.
    pub(super) steps: Vec<StepId>,
    /// The step of another line that it goes on with in another way.
    pub(super) fork_of: Option<StepId>,
}

/// All calls in their places.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// In order of their first attempts; a step comes after the one it goes on with.
    pub(super) steps: Vec<Step>,
    /// In order of their first steps.
    pub(super) lines: Vec<Line>,
    /// The step of each call; `None` for those that only count.
    pub(super) step_of: Vec<Option<StepId>>,
}

impl Tree {
    /// Builds the tree. `order`: all calls by their begins.
    pub(super) fn new(nodes: &[Node], order: &[NodeId]) -> Self {
        let mut tree = Self { step_of: vec![None; nodes.len()], ..Self::default() };
        tree.gather(nodes, order);
        tree.measure();
        tree.draw(nodes);
        tree
    }

    fn gather(&mut self, nodes: &[Node], order: &[NodeId]) {
        let mut open: HashMap<_, StepId> = HashMap::new();
        for id in order.iter().copied().filter(|id| !nodes[*id].is_count()) {
            let node = &nodes[id];
            let parent = node.parent.and_then(|parent| self.step_of[parent]);
            let key = (parent, node.request, node.process, node.key, node.scope, node.has_tools);
            let before = node.request.and_then(|_| open.get(&key).copied());
            let is_retried = |step: &StepId| {
                let last = &nodes[self.steps[*step].attempts[self.steps[*step].attempts.len() - 1]];
                last.is_failed && !last.span.is_open && last.span.end <= node.span.start
            };
            let step = match before.filter(is_retried) {
                Some(step) => {
                    self.steps[step].attempts.push(id);
                    step
                }
                None => {
                    let attempts = vec![id];
                    self.steps.push(Step { attempts, parent, conversation: 0, length: 1 });
                    open.insert(key, self.steps.len() - 1);
                    self.steps.len() - 1
                }
            };
            self.step_of[id] = Some(step);
        }
    }

    fn measure(&mut self) {
        for step in (0..self.steps.len()).rev() {
            let length = self.steps[step].length + 1;
            if let Some(parent) = self.steps[step].parent {
                self.steps[parent].length = self.steps[parent].length.max(length);
            }
        }
    }

    fn draw(&mut self, nodes: &[Node]) {
        // The way on from each step: the best of those that go on with it, the first of equals.
        let mut next: Vec<Option<StepId>> = vec![None; self.steps.len()];
        for step in 0..self.steps.len() {
            let Some(parent) = self.steps[step].parent else { continue };
            let (Some(rank), best) = (self.rank(nodes, parent, step), next[parent]) else {
                continue;
            };
            if best.is_none_or(|best| self.rank(nodes, parent, best) < Some(rank)) {
                next[parent] = Some(step);
            }
        }
        for step in 0..self.steps.len() {
            let parent = self.steps[step].parent;
            let goes_on = parent.filter(|parent| next[*parent] == Some(step));
            self.steps[step].conversation = match goes_on {
                Some(parent) => self.steps[parent].conversation,
                None => {
                    self.lines.push(Line { steps: Vec::new(), fork_of: parent });
                    self.lines.len() - 1
                }
            };
            self.lines[self.steps[step].conversation].steps.push(step);
        }
    }

    /// How well a step goes on with another one; `None` when it is of another conversation.
    fn rank(&self, nodes: &[Node], parent: StepId, step: StepId) -> Option<(bool, usize, bool)> {
        let (before, after) = (self.first(nodes, parent), self.first(nodes, step));
        let is_side = |node: &Node| node.class == Some(CallClass::Side);
        let is_other = matches!((before.key, after.key), (Some(one), Some(other)) if one != other);
        if is_other || is_side(before) != is_side(after) {
            return None;
        }
        let is_named = after.key.is_some() || after.class.is_some();
        Some((is_named, self.steps[step].length, before.has_tools == after.has_tools))
    }

    /// The first attempt of a step.
    pub(super) fn first<'a>(&self, nodes: &'a [Node], step: StepId) -> &'a Node {
        &nodes[self.steps[step].attempts[0]]
    }

    /// The last attempt of a step.
    pub(super) fn last<'a>(&self, nodes: &'a [Node], step: StepId) -> &'a Node {
        let attempts = &self.steps[step].attempts;
        &nodes[attempts[attempts.len() - 1]]
    }
}
