//! Where two requests of a conversation first differ.
//!
//! Providers cache a request's prefix in the order tools, instructions, messages, whatever the order
//! of the JSON; so blocks are compared in that order. Of instructions and definitions of tools the
//! texts are kept, as far as they are small, to name the field that differs.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use super::blocks::{Blocks, Kind};
use super::node::NodeId;
use crate::reconstruct::finding::{BlockPath, BlockRef, BlockRole};

/// Longest text of a block that is kept.
const MAX_TEXT_BYTES: usize = 32 << 10;

/// Texts kept at a time, bytes; the oldest make room.
const MAX_TEXTS_BYTES: usize = 8 << 20;

/// Requests kept at a time, and blocks in them; the oldest make room.
const MAX_LISTS: usize = 64;
const MAX_LISTED: usize = 1 << 20;

/// What sets a request apart from the one before it in the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// Size of the blocks before the first that differs.
    pub(super) common_bytes: u64,
    /// JSON path of the first difference; `None` where the one goes on with the other.
    pub(super) path: Option<Box<str>>,
}

/// The requests that others may go on with, as lists of block numbers in the order of the cache.
#[derive(Debug, Default)]
pub(super) struct Requests {
    lists: VecDeque<(NodeId, Vec<u64>)>,
    listed: usize,
}

impl Requests {
    /// Keeps what a request lists.
    pub(super) fn keep(&mut self, node: NodeId, request: &[&BlockRef]) {
        self.listed += request.len();
        self.lists.push_back((node, request.iter().map(|block| block.block_id).collect()));
        while self.lists.len() > MAX_LISTS || self.listed > MAX_LISTED {
            let Some((_, list)) = self.lists.pop_front() else { break };
            self.listed -= list.len();
        }
    }

    /// How a request differs from an earlier one; `None` where that is no longer known.
    pub(super) fn compare(
        &self,
        earlier: NodeId,
        request: &[&BlockRef],
        texts: &Texts,
    ) -> Option<Difference> {
        let at = self.lists.partition_point(|(node, _)| *node < earlier);
        let (_, list) = self.lists.get(at).filter(|(node, _)| *node == earlier)?;
        let common =
            list.iter().zip(request).take_while(|(old, new)| **old == new.block_id).count();
        let sizes = request[..common].iter().map(|block| block.bytes);
        let common_bytes = sizes.fold(0_u64, u64::saturating_add);
        let path = list.get(common).map(|old| match request.get(common) {
            Some(new) => texts.path(*old, new).into(),
            None => end(request).into(),
        });
        Some(Difference { common_bytes, path })
    }
}

/// The path of what would come next.
fn end(request: &[&BlockRef]) -> String {
    let Some(last) = request.last() else { return String::new() };
    let item = last.path.item.map(|item| item.saturating_add(1));
    BlockPath { item, part: None, ..last.path }.to_string()
}

/// The blocks of a request in the order of the cache.
pub(super) fn in_cache_order<'a>(request: &'a [BlockRef], blocks: &Blocks) -> Vec<&'a BlockRef> {
    let rank = |block: &&BlockRef| match (block.role, blocks.kind(block.block_id)) {
        (_, Some(Kind::ToolDefinition)) => 0,
        (BlockRole::System, _) => 1,
        _ => 2,
    };
    let mut ordered: Vec<&BlockRef> = request.iter().collect();
    ordered.sort_by_key(rank);
    ordered
}

/// Texts of instructions and definitions of tools.
#[derive(Debug, Default)]
pub(super) struct Texts {
    texts: BTreeMap<u64, Box<str>>,
    bytes: usize,
}

impl Texts {
    pub(super) fn keep(&mut self, block_id: u64, text: &str) {
        if text.len() > MAX_TEXT_BYTES {
            return;
        }
        self.bytes += text.len();
        self.texts.insert(block_id, text.into());
        while self.bytes > MAX_TEXTS_BYTES {
            let Some((_, text)) = self.texts.pop_first() else { break };
            self.bytes -= text.len();
        }
    }

    /// Where a block differs from the one that stood there, as deep as is known.
    fn path(&self, old: u64, new: &BlockRef) -> String {
        let mut path = new.path.to_string();
        let texts = (self.texts.get(&old), self.texts.get(&new.block_id));
        if let (Some(old), Some(now)) = texts
            && let (Ok(old), Ok(now)) = (parse(old), parse(now))
        {
            descend(&old, &now, &mut path);
        }
        path
    }
}

/// Only objects and arrays are worth looking into: other texts are just words.
fn parse(text: &str) -> Result<Value, serde_json::Error> {
    match text.trim_start().starts_with(['{', '[']) {
        true => serde_json::from_str(text),
        false => Ok(Value::Null),
    }
}

/// Adds to `path` the fields down to the first that differs.
fn descend(old: &Value, new: &Value, path: &mut String) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            // A tool in the place of another differs as a whole.
            if old.get("name") != new.get("name") {
                return;
            }
            let differs = |field: &&String| old.get(*field) != new.get(*field);
            let Some(field) = old.keys().chain(new.keys()).find(differs) else { return };
            path.push('.');
            path.push_str(field);
            if let (Some(old), Some(new)) = (old.get(field), new.get(field)) {
                descend(old, new, path);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
            path.push_str(&format!("[{same}]"));
            if let (Some(old), Some(new)) = (old.get(same), new.get(same)) {
                descend(old, new, path);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(old: &str, new: &str) -> String {
        let mut path = "tools[2]".to_owned();
        descend(&parse(old).unwrap(), &parse(new).unwrap(), &mut path);
        path
    }

    #[test]
    fn the_first_field_that_differs_is_named() {
        let tool = |text: &str| {
            format!(r#"{{"name":"a","description":"{text}","input":{{"required":["x"]}}}}"#)
        };
        assert_eq!(path(&tool("one"), &tool("two")), "tools[2].description");
        let schema = tool("one").replace("\"x\"", "\"x\",\"y\"");
        assert_eq!(path(&tool("one"), &schema), "tools[2].input.required[1]");
        let renamed = tool("one").replace("\"a\"", "\"b\"");
        assert_eq!(path(&tool("one"), &renamed), "tools[2]");
        assert_eq!(path("plain", "words"), "tools[2]");
    }

    #[test]
    fn kept_texts_are_bounded() {
        let mut texts = Texts::default();
        let text = "x".repeat(MAX_TEXT_BYTES);
        for block_id in 0..1_000 {
            texts.keep(block_id, &text);
            assert!(texts.bytes <= MAX_TEXTS_BYTES);
        }
        assert!(texts.texts.contains_key(&999) && !texts.texts.contains_key(&0));
    }
}
