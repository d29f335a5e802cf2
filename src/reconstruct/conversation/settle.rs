//! Tells, when all calls are known, what each is: class, turn and attempt; and what turns and
//! conversations were in all.

use std::collections::{BTreeSet, HashMap};

use super::Findings;
use super::breaks;
use super::node::{About, Node, NodeId};
use super::tree::{StepId, Tree};
use super::wall::{self, Phase, Stretch};
use crate::event::ProcessId;
use crate::reconstruct::finding::{
    CallClass, Conversation, Correlation, Finding, PartialReason, Placed, Placement, Turn,
};
use crate::time::WallNanos;

/// Reports places, cache breaks, turns and conversations, each in order.
pub(super) fn settle(nodes: &[Node], findings: Findings<'_>) {
    let mut order: Vec<NodeId> = (0..nodes.len()).collect();
    order.sort_by_key(|id| nodes[*id].order());
    let tree = Tree::new(nodes, &order);
    let mut settled = Settled { nodes, tree: &tree, lines: Vec::new(), turns: Vec::new() };
    settled.number_turns();
    settled.find_parents();
    settled.find_side_calls();
    for id in order {
        let placement = settled.place(id);
        let call_id = nodes[id].call_id;
        findings(Finding::Placed(Box::new(Placed { call_id, placement })));
    }
    for conversation in 0..settled.lines.len() {
        breaks::report(nodes, &tree, conversation, findings);
    }
    let told: Vec<_> = (0..settled.lines.len()).map(|at| settled.conversation(at)).collect();
    for (turns, _) in &told {
        turns.iter().for_each(|turn| findings(Finding::Turn(Box::new(turn.clone()))));
    }
    for (_, conversation) in told {
        findings(Finding::Conversation(Box::new(conversation)));
    }
}

/// The number by which a conversation is known.
pub(super) fn conversation_id(conversation: usize) -> u64 {
    conversation as u64 + 1
}

struct Settled<'a> {
    nodes: &'a [Node],
    tree: &'a Tree,
    /// What became known of each line of the tree.
    lines: Vec<Known>,
    /// The turn of each step.
    turns: Vec<Option<u32>>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    class: CallClass,
    parent: Option<usize>,
    parent_tool_call_id: Option<Box<str>>,
    turns: u32,
}

impl Settled<'_> {
    fn first(&self, conversation: usize) -> &Node {
        self.tree.first(self.nodes, self.tree.lines[conversation].steps[0])
    }

    fn about(&self, conversation: usize) -> Option<&About> {
        self.first(conversation).about.as_deref()
    }

    /// Numbers turns from 1 within each conversation.
    fn number_turns(&mut self) {
        self.turns = vec![None; self.tree.steps.len()];
        for line in &self.tree.lines {
            let asks_for_summary = |at: usize| {
                let next = line.steps.get(at + 1).map(|next| self.tree.first(self.nodes, *next));
                next.is_some_and(|next| next.has_summary)
            };
            let mut turns = 0;
            for (at, step) in line.steps.iter().enumerate() {
                let first = self.tree.first(self.nodes, *step);
                match first.class {
                    // Nothing was asked.
                    Some(CallClass::Warmup) => continue,
                    // What asks for a summary are not the user's words.
                    Some(CallClass::Compaction) => turns = turns.max(1),
                    _ if asks_for_summary(at) => turns = turns.max(1),
                    _ if turns == 0 || first.starts_turn => turns += 1,
                    _ => {}
                }
                self.turns[*step] = Some(turns);
            }
            self.lines.push(Known { turns, ..Known::default() });
        }
    }

    /// Which conversation is the work of another one's tool, or of another agent.
    fn find_parents(&mut self) {
        let mut claimed: BTreeSet<(NodeId, &str)> = BTreeSet::new();
        // Agents by the names that they give themselves, the latest of a name.
        let mut named: HashMap<&str, usize> = HashMap::new();
        let nodes = self.nodes;
        for at in 0..self.lines.len() {
            let first = self.tree.first(nodes, self.tree.lines[at].steps[0]);
            let unclaimed = |(node, id): &&(NodeId, Box<str>)| {
                let of = self.tree.step_of[*node].map(|step| self.tree.steps[step].conversation);
                of != Some(at) && !claimed.contains(&(*node, &**id))
            };
            let ids = first.about.as_deref().map(|about| &about.correlation);
            let task = first.tasks.iter().find(unclaimed);
            if let Some((node, id)) = task {
                claimed.insert((*node, id));
                let step = self.tree.step_of[*node];
                self.lines[at].parent = step.map(|step| self.tree.steps[step].conversation);
                self.lines[at].parent_tool_call_id = Some(id.clone());
            } else if let Some(parent) = ids.and_then(|ids| started_by(ids, &named)) {
                self.lines[at].parent = Some(parent);
            } else {
                let fork_of = self.tree.lines[at].fork_of;
                self.lines[at].parent = fork_of.map(|step| self.tree.steps[step].conversation);
            }
            let has_parent = ids.is_some_and(|ids| ids.parent_agent_id.is_some());
            let is_agent = has_parent
                || (self.lines[at].parent.is_some()
                    && ids.is_some_and(|ids| ids.agent_id.is_some()));
            self.lines[at].class = match first.class {
                Some(CallClass::Side) => CallClass::Side,
                Some(CallClass::Subagent) => CallClass::Subagent,
                _ if task.is_some() || is_agent => CallClass::Subagent,
                _ => match (self.lines[at].parent, self.tree.lines[at].fork_of) {
                    // The same conversation, taken up again from an earlier point.
                    (Some(parent), Some(_)) => self.lines[parent].class,
                    _ => CallClass::Main,
                },
            };
            let is_side = self.lines[at].class == CallClass::Side;
            if let Some(ids) = ids.filter(|_| !is_side) {
                let session = ids.session_id.as_deref().filter(|_| ids.agent_id.is_none());
                let names = [session, ids.thread_id.as_deref(), ids.agent_id.as_deref()];
                named.extend(names.into_iter().flatten().map(|name| (name, at)));
            }
        }
    }

    /// Single requests without tools beside a conversation of the same process that has tools, or
    /// more than one request: titles, classifiers, probes.
    fn find_side_calls(&mut self) {
        let mut main: HashMap<Option<ProcessId>, usize> = HashMap::new();
        let is_single = |at: &usize| self.tree.lines[*at].steps.len() == 1;
        let mains = |at: &usize| !is_single(at) || self.first(*at).has_tools;
        // Of those that began before the side call the last, else the first.
        let firsts: Vec<usize> = (0..self.lines.len())
            .filter(|at| mains(at) && self.lines[*at].class == CallClass::Main)
            .collect();
        let mut first_of: HashMap<Option<ProcessId>, usize> = HashMap::new();
        for at in firsts.iter().rev() {
            first_of.insert(self.first(*at).process, *at);
        }
        let mut found = Vec::new();
        for at in 0..self.lines.len() {
            let node = self.first(at);
            if mains(&at) {
                if self.lines[at].class == CallClass::Main {
                    main.insert(node.process, at);
                }
                continue;
            }
            let known = &self.lines[at];
            let beside = main.get(&node.process).or_else(|| first_of.get(&node.process)).copied();
            let may_be = known.class == CallClass::Main
                && !matches!(node.class, Some(CallClass::Main | CallClass::Compaction));
            if known.class == CallClass::Side || (may_be && beside.is_some()) {
                found.push((at, known.parent.or(beside)));
            }
        }
        for (at, parent) in found {
            self.lines[at].class = CallClass::Side;
            self.lines[at].parent = parent;
        }
        for (at, line) in
            self.lines.iter_mut().enumerate().filter(|(_, it)| it.class == CallClass::Side)
        {
            line.turns = 0;
            self.tree.lines[at].steps.iter().for_each(|step| self.turns[*step] = None);
        }
    }

    fn place(&self, id: NodeId) -> Placement {
        let node = &self.nodes[id];
        let Some(step) = self.tree.step_of[id] else {
            let parent = node.parent.and_then(|parent| self.tree.step_of[parent]);
            let conversation = parent.map(|step| self.tree.steps[step].conversation);
            return Placement {
                conversation_id: conversation.map(conversation_id),
                class: CallClass::CountTokens,
                attempt: 1,
                ..Placement::default()
            };
        };
        let conversation = self.tree.steps[step].conversation;
        let attempts = &self.tree.steps[step].attempts;
        let at = attempts.iter().position(|attempt| *attempt == id).unwrap_or(0);
        Placement {
            conversation_id: Some(conversation_id(conversation)),
            turn: self.turns[step],
            class: self.class(step),
            attempt: u32::try_from(at + 1).unwrap_or(u32::MAX),
            retry_of: at.checked_sub(1).map(|before| self.nodes[attempts[before]].call_id),
        }
    }

    fn class(&self, step: StepId) -> CallClass {
        let own = self.tree.first(self.nodes, step).class;
        match own {
            Some(class @ (CallClass::Warmup | CallClass::Compaction)) => class,
            _ if self.is_summarised(step) => CallClass::Compaction,
            _ => self.lines[self.tree.steps[step].conversation].class,
        }
    }

    /// Whether the next request begins with the answer to this one.
    fn is_summarised(&self, step: StepId) -> bool {
        let line = &self.tree.lines[self.tree.steps[step].conversation].steps;
        let next = line.binary_search(&step).ok().and_then(|at| line.get(at + 1));
        next.is_some_and(|next| self.tree.first(self.nodes, *next).has_summary)
    }

    fn conversation(&self, at: usize) -> (Vec<Turn>, Conversation) {
        let (line, known, first) = (&self.tree.lines[at], &self.lines[at], self.first(at));
        let mut turns: Vec<Turn> = Vec::new();
        let mut from = 0;
        while let Some(turn) = line.steps.get(from).map(|step| self.turns[*step]) {
            let same = line.steps[from..].iter().take_while(|step| self.turns[**step] == turn);
            let until = from + same.count();
            let next = line.steps.get(until).map(|step| self.tree.first(self.nodes, *step));
            if let Some(turn) = turn {
                let after = next.map(|node| node.span.start);
                turns.push(self.turn(at, turn, &line.steps[from..until], after));
            }
            from = until;
        }
        let attempts = || line.steps.iter().flat_map(|step| &self.tree.steps[*step].attempts);
        let nodes = || attempts().map(|id| &self.nodes[*id]);
        let compactions = line.steps.iter().filter(|step| {
            let (first, last) =
                (self.tree.first(self.nodes, **step), self.tree.last(self.nodes, **step));
            first.has_summary || last.is_compacted
        });
        let about = self.about(at);
        let conversation = Conversation {
            conversation_id: conversation_id(at),
            parent_conversation_id: known.parent.map(conversation_id),
            parent_tool_call_id: known.parent_tool_call_id.as_deref().map(str::to_owned),
            process: first.process,
            agent: about.and_then(|about| about.agent.clone()),
            class: known.class,
            correlation: about.map(|about| about.correlation.clone()).unwrap_or_default(),
            start_ts: first.span.start,
            end_ts: end(nodes()),
            turns: known.turns,
            calls: nodes().count() as u64,
            compactions: compactions.count() as u64,
            cut: first.cut.or_else(|| {
                let is_joined = first.parent.is_none() && first.has_history;
                is_joined.then_some(PartialReason::JoinedLate)
            }),
        };
        (turns, conversation)
    }

    /// One turn. `after`: when the conversation went on behind it.
    fn turn(
        &self,
        conversation: usize,
        turn: u32,
        steps: &[StepId],
        after: Option<WallNanos>,
    ) -> Turn {
        let attempts = || steps.iter().flat_map(|step| &self.tree.steps[*step].attempts);
        let nodes = || attempts().map(|id| &self.nodes[*id]);
        let first = self.tree.first(self.nodes, steps[0]);
        let last = self.tree.last(self.nodes, steps[steps.len() - 1]);
        let until = nodes().map(|node| node.span.end).fold(first.span.end, WallNanos::max);
        let mut stretches = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            let next = steps.get(at + 1).map(|next| self.tree.first(self.nodes, *next).span.start);
            self.stretches(*step, next.or(after), &mut stretches);
        }
        Turn {
            conversation_id: conversation_id(conversation),
            turn,
            first_call_id: first.call_id,
            last_call_id: last.call_id,
            start_ts: first.span.start,
            end_ts: end(nodes()),
            prompt: first.prompt.as_deref().map(str::to_owned),
            calls: nodes().count() as u64,
            retries: (nodes().count() - steps.len()) as u64,
            tool_calls: nodes().map(|node| u64::from(node.tool_uses)).sum(),
            wall_time: wall::split(first.span.start, until, &stretches),
            stop_reason: nodes()
                .rev()
                .find_map(|node| node.stop_reason.as_deref())
                .map(str::to_owned),
        }
    }

    /// What went on in a step and after it. `next`: when the next one began.
    fn stretches(&self, step: StepId, next: Option<WallNanos>, into: &mut Vec<Stretch>) {
        let attempts = &self.tree.steps[step].attempts;
        for (at, id) in attempts.iter().enumerate() {
            let node = &self.nodes[*id];
            let again = attempts.get(at + 1).map(|next| self.nodes[*next].span.start);
            let came_to_nothing = node.is_refused || again.is_some();
            wall::stretches(node.span, &node.phases, came_to_nothing, into);
            if let Some(until) = again {
                into.push(Stretch { from: node.span.end, until, phase: Phase::Retry });
            }
            let Some(tools) = node.tools else { continue };
            // A result that never came was waited for until something else was done.
            let until = if tools.pending == 0 { Some(tools.until) } else { next };
            if let Some(until) = until {
                into.push(Stretch { from: tools.from, until, phase: Phase::Tool });
            }
        }
    }
}

/// The latest conversation of the agent that started this one, by the agents' own ids: the one that
/// is named as such, else that of the session.
fn started_by(ids: &Correlation, named: &HashMap<&str, usize>) -> Option<usize> {
    let parent = ids.parent_agent_id.as_deref();
    let session = || ids.session_id.as_deref().filter(|_| ids.agent_id.is_some());
    parent.or_else(session).and_then(|name| named.get(name)).copied()
}

/// The last end; `None` while one is open.
fn end<'a>(nodes: impl Iterator<Item = &'a Node>) -> Option<WallNanos> {
    nodes
        .map(|node| (!node.span.is_open).then_some(node.span.end))
        .reduce(|a, b| Some(a?.max(b?)))?
}
