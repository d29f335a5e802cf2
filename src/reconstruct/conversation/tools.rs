//! Uses of tools that wait for their results.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::node::{NodeId, hash};
use super::summary::cut;
use crate::reconstruct::finding::{LlmCall, ToolCall};
use crate::time::WallNanos;

/// Uses that wait at a time; the oldest is given up.
const MAX_PENDING: usize = 4_096;

/// Shortest argument that a prompt is compared with: shorter ones are no tasks.
const MIN_TASK_BYTES: usize = 12;

/// Shortest argument that may stand within a prompt among other words.
const MIN_WITHIN_BYTES: usize = 64;

/// Longest arguments looked into.
const MAX_ARGUMENTS_BYTES: usize = 256 << 10;

/// Text in which such an argument is looked for, and uses whose arguments are: the latest.
const MAX_SEARCHED_BYTES: usize = 16 << 10;
const MAX_SEARCHED: usize = 64;

/// Uses whose arguments one prompt may be.
const MAX_CANDIDATES: usize = 16;

/// A use of a tool without its result.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) node: NodeId,
    pub(super) tool: ToolCall,
    tasks: Vec<Task>,
}

/// A text among the arguments that may be what another conversation begins with.
#[derive(Debug)]
struct Task {
    text: Box<str>,
    /// Its hash, as of a prompt.
    said: u64,
}

/// The uses that wait, numbered as they came.
#[derive(Debug, Default)]
pub(super) struct Pendings {
    waiting: BTreeMap<u64, Pending>,
    by_id: HashMap<String, Vec<u64>>,
    next: u64,
}

impl Pendings {
    /// Takes in a use; gives the one that is given up for it.
    pub(super) fn push(&mut self, node: NodeId, tool: ToolCall) -> Option<Pending> {
        let given_up = match self.waiting.len() < MAX_PENDING {
            true => None,
            false => self.waiting.first_key_value().map(|(number, _)| *number),
        };
        let given_up = given_up.and_then(|number| self.take(number));
        let tasks = tool.arguments.as_deref().map(tasks).unwrap_or_default();
        self.by_id.entry(tool.tool_call_id.clone()).or_default().push(self.next);
        self.waiting.insert(self.next, Pending { node, tool, tasks });
        self.next += 1;
        given_up
    }

    /// The number of the use that a result is of: by its id, of those the one that `parent` asked
    /// for, else the last that `may_be` accepts.
    pub(super) fn by_id(
        &self,
        tool_call_id: &str,
        parent: Option<NodeId>,
        may_be: impl Fn(NodeId) -> bool,
    ) -> Option<u64> {
        let numbers = self.by_id.get(tool_call_id)?;
        let node = |number: &u64| self.waiting[number].node;
        let of_parent = numbers.iter().find(|number| Some(node(number)) == parent);
        of_parent.or_else(|| numbers.iter().rfind(|number| may_be(node(number)))).copied()
    }

    /// The first use that `parent` asked for and that has no id of its own.
    pub(super) fn next_of(&self, parent: NodeId, name: Option<&str>) -> Option<u64> {
        let is_it = |pending: &Pending| {
            pending.node == parent && (name.is_none() || pending.tool.name.as_deref() == name)
        };
        self.waiting.iter().find(|(_, pending)| is_it(pending)).map(|(number, _)| *number)
    }

    pub(super) fn take(&mut self, number: u64) -> Option<Pending> {
        let pending = self.waiting.remove(&number)?;
        if let Some(numbers) = self.by_id.get_mut(&pending.tool.tool_call_id) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_id.remove(&pending.tool.tool_call_id);
            }
        }
        Some(pending)
    }

    /// The uses whose arguments hold what a conversation begins with: its hash, and the text where
    /// that is at hand.
    pub(super) fn asking_for(
        &self,
        said: u64,
        text: Option<&str>,
        by: WallNanos,
    ) -> Vec<(NodeId, Box<str>)> {
        let text = cut(text.unwrap_or_default(), MAX_SEARCHED_BYTES).as_bytes();
        let is_within = |task: &Task| {
            task.text.len() >= MIN_WITHIN_BYTES
                && memchr::memmem::find(text, task.text.as_bytes()).is_some()
        };
        let searched = self.next.saturating_sub(MAX_SEARCHED as u64);
        let is_asked = |(number, pending): &(&u64, &Pending)| {
            let is_said =
                |task: &Task| task.said == said || (**number >= searched && is_within(task));
            pending.tool.start_ts <= by && pending.tasks.iter().any(is_said)
        };
        let asking = self.waiting.iter().filter(is_asked).map(|(_, pending)| pending);
        let named = |pending: &Pending| (pending.node, pending.tool.tool_call_id.as_str().into());
        asking.map(named).take(MAX_CANDIDATES).collect()
    }

    /// All that still wait, in their order.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Pending> + use<> {
        self.by_id.clear();
        std::mem::take(&mut self.waiting).into_values()
    }
}

/// The texts of an argument object that are long enough to be a task.
fn tasks(arguments: &str) -> Vec<Task> {
    if arguments.len() > MAX_ARGUMENTS_BYTES {
        return Vec::new();
    }
    let Ok(Value::Object(fields)) = serde_json::from_str(arguments) else { return Vec::new() };
    let task = |value: Value| match value {
        Value::String(text) if text.trim().len() >= MIN_TASK_BYTES => {
            Some(Task { text: text.trim().into(), said: hash(text.trim()) })
        }
        _ => None,
    };
    fields.into_iter().filter_map(|(_, value)| task(value)).collect()
}

/// An id for a use that has none: unique, because a call has one response.
pub(super) fn made_up_id(call: &LlmCall, position: usize) -> String {
    format!("{}.{position}", call.call_id)
}
