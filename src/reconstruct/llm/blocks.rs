//! The content blocks of a trace: each is told once, and known again wherever it stands.
//!
//! Two questions are answered. Has a block been told before? By its [`Draft::sha256`]. And which
//! blocks are in a piece of a request that was seen before, byte by byte? By a cryptographic hash of
//! the piece, so that what an agent sends again with every request is not parsed again, and nobody
//! can make up a piece that is taken for another.
//!
//! Memory is bounded: of what was not met for long, the oldest half is forgotten at a time. A block
//! that is forgotten and comes again is told again, under a new number.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::draft::Draft;
use crate::reconstruct::finding::{Block, BlockPath, BlockRef, BlockRole};
use crate::time::WallNanos;

/// Blocks, and references of pieces to blocks, that are remembered. Some 100 bytes each; a session of
/// a day has some ten thousand.
const MAX_REMEMBERED: usize = 1 << 19;

/// All content blocks of one trace.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    told: u64,
    by_sha256: Memory<[u8; 32], u64>,
    by_piece: Memory<PieceKey, Arc<[Known]>>,
}

/// What a piece of a request is: where it stands decides how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PieceKey {
    /// BLAKE3 of its bytes.
    pub(super) digest: [u8; 32],
    /// The API and the section in which it stands.
    pub(super) place: (u8, &'static str),
}

/// A block that a piece of a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    block_id: u64,
    role: BlockRole,
    bytes: u64,
    /// Field of the piece and position in it.
    part: Option<(&'static str, u32)>,
}

impl Known {
    /// It, where the piece is `item` of `section`.
    pub(super) fn at(&self, section: &'static str, item: Option<u32>) -> BlockRef {
        let path = BlockPath { section, item, part: self.part };
        let Self { block_id, role, bytes, .. } = *self;
        BlockRef { block_id, role, bytes, path, streamed: None }
    }
}

impl Blocks {
    /// The number of a block, and the block itself if it was not told before.
    pub(super) fn number(
        &mut self,
        draft: Draft,
        call_id: u64,
        ts: WallNanos,
    ) -> (Known, Option<Block>) {
        let sha256 = draft.sha256();
        let known = self.by_sha256.get(&sha256).copied();
        let block_id = known.unwrap_or(self.told + 1);
        let seen = Known { block_id, role: draft.role, bytes: draft.bytes, part: draft.part };
        if known.is_some() {
            return (seen, None);
        }
        self.told = block_id;
        self.by_sha256.insert(sha256, block_id, 1);
        let block = Block {
            block_id,
            call_id,
            ts,
            role: draft.role,
            kind: draft.kind,
            text: draft.text,
            is_cut: draft.is_cut,
            tool_name: draft.tool_name,
            tool_call_id: draft.tool_call_id,
            is_error: draft.is_error,
            bytes: draft.bytes,
            sha256,
        };
        (seen, Some(block))
    }

    /// The blocks of a piece that was seen before.
    pub(super) fn of_piece(&mut self, key: &PieceKey) -> Option<Arc<[Known]>> {
        self.by_piece.get(key).cloned()
    }

    /// Remembers the blocks of a piece, and gives them back.
    pub(super) fn remember(&mut self, key: PieceKey, blocks: Vec<Known>) -> Arc<[Known]> {
        let (weight, blocks) = (1 + blocks.len(), Arc::from(blocks));
        self.by_piece.insert(key, Arc::clone(&blocks), weight);
        blocks
    }
}

/// A map that forgets what was not asked for longest, in halves.
#[derive(Debug)]
struct Memory<K, V> {
    /// What was asked for since `old` was young.
    young: BTreeMap<K, (V, usize)>,
    old: BTreeMap<K, (V, usize)>,
    /// Sum of the weights in `young`.
    young_weight: usize,
}

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self { young: BTreeMap::new(), old: BTreeMap::new(), young_weight: 0 }
    }
}

impl<K: Ord + Copy, V> Memory<K, V> {
    fn get(&mut self, key: &K) -> Option<&V> {
        if let Some((value, weight)) = self.old.remove(key) {
            self.insert(*key, value, weight);
        }
        self.young.get(key).map(|(value, _)| value)
    }

    fn insert(&mut self, key: K, value: V, weight: usize) {
        if self.young_weight >= MAX_REMEMBERED / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_weight = 0;
        }
        self.young_weight += weight;
        self.young.insert(key, (value, weight));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(text: &str) -> Draft {
        Draft::text(BlockRole::User, text)
    }

    #[test]
    fn a_block_is_told_once() {
        let mut blocks = Blocks::default();
        let (first, told) = blocks.number(draft("a"), 7, WallNanos(1));
        assert_eq!(told.map(|block| (block.block_id, block.call_id)), Some((1, 7)));
        let (other, told) = blocks.number(draft("b"), 8, WallNanos(2));
        assert_eq!((other.block_id, told.is_some()), (2, true));
        let (again, told) = blocks.number(draft("a"), 9, WallNanos(3));
        assert_eq!((again, told), (first, None));
    }

    #[test]
    fn what_is_used_is_remembered_and_the_rest_forgotten() {
        let mut memory = Memory::default();
        memory.insert(0_usize, "used", 1);
        for key in 1..=2 * MAX_REMEMBERED {
            memory.insert(key, "", 1);
            assert_eq!(memory.get(&0), Some(&"used"));
            assert!(memory.young.len() + memory.old.len() <= MAX_REMEMBERED + 1);
        }
        assert_eq!(memory.get(&1), None);
    }

    #[test]
    fn heavy_values_fill_the_memory_sooner() {
        let mut memory = Memory::default();
        for key in 0..10 {
            memory.insert(key, (), MAX_REMEMBERED);
            assert!(memory.young.len() + memory.old.len() <= 2);
        }
    }
}
