//! Content-defined chunks of payload, each distinct one kept once.
//!
//! An agent sends its whole history again with every request. Cutting where the *content* says,
//! rather than at fixed offsets, makes the repeated part fall into the same chunks wherever it
//! begins, and the Parquet dictionary then stores each chunk once. This module cuts and keeps the
//! chunks of the open row group; it knows neither events nor Parquet.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;

use fastcdc::v2020::FastCDC;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::arena::{Arena, Span};

/// No chunk is smaller, except the last of a payload.
const MIN_CHUNK_BYTES: usize = 1024;
/// Measured best for re-sent history among 2, 4 and 8 KiB (`docs/FORMAT.md`, "Payload").
const AVERAGE_CHUNK_BYTES: usize = 4096;
/// Forced cut where the content offers none.
pub(crate) const MAX_CHUNK_BYTES: usize = 16 * 1024;

/// Chunks below this are not looked up: the reads of an event stream are many, small and rarely the
/// same again, and the Parquet dictionary finds those that are.
const MIN_INDEXED_BYTES: usize = 256;

/// Memory for one chunk beside its bytes: span and table slack here, and an entry of the Parquet
/// dictionary while the row group is closed.
const CHUNK_OVERHEAD_BYTES: usize = 72;
/// What being looked up adds to it: an index entry and table slack.
const INDEX_OVERHEAD_BYTES: usize = 32;

/// Says where chunks of a payload end.
struct Cutter<'data> {
    data: &'data [u8],
    chunker: FastCDC<'data>,
}

/// The end of a chunk.
struct Cut {
    end: usize,
    /// The bytes of the chunk alone put it there: wherever they stand, they end a chunk, unless they
    /// are followed by the rest of a character.
    is_by_content: bool,
}

impl<'data> Cutter<'data> {
    fn new(data: &'data [u8]) -> Self {
        let [min, average, max] = [MIN_CHUNK_BYTES, AVERAGE_CHUNK_BYTES, MAX_CHUNK_BYTES];
        Self { data, chunker: FastCDC::new(data, min, average, max) }
    }

    /// The end of the chunk that begins at `start`, which is before the end of the payload.
    fn next(&self, start: usize) -> Cut {
        let (_, cut) = self.chunker.cut(start, self.data.len() - start);
        let end = snap_to_character(self.data, cut);
        Cut { end, is_by_content: end == cut && end < self.data.len() }
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// Moves a cut that splits a UTF-8 character to before it, so that readers which decode chunk by
/// chunk see valid text. Bytes that are not UTF-8 are cut where they are.
fn snap_to_character(data: &[u8], cut: usize) -> usize {
    if cut >= data.len() || !is_continuation(data[cut]) {
        return cut;
    }
    // A character has at most 4 bytes (RFC 3629, 3), so its first is at most 3 before the cut. A
    // chunk has more bytes than that: it cannot become empty.
    for lead in (cut.saturating_sub(3)..cut).rev() {
        if is_continuation(data[lead]) {
            continue;
        }
        let length = match data[lead] {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => return cut,
        };
        let whole = data.get(lead..lead + length).is_some_and(|c| std::str::from_utf8(c).is_ok());
        return if lead + length > cut && whole { lead } else { cut };
    }
    cut
}

/// Names a chunk of a [`ChunkStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkId(pub(crate) u32);

/// A chunk that followed another one and ended where its content says.
#[derive(Clone, Copy, Debug)]
struct Follower(ChunkId);

/// The distinct chunks of the open row group.
#[derive(Debug)]
pub(crate) struct ChunkStore {
    arena: Arena,
    /// Indexed by [`ChunkId`].
    spans: Vec<Span>,
    /// What followed each chunk last, indexed as `spans` is.
    followers: Vec<Option<Follower>>,
    /// Hash to chunk. Two chunks with one hash take neighbouring keys, see [`ChunkStore::intern`].
    index: HashMap<u64, ChunkId>,
    /// Unpredictable, so that recorded data cannot be made to collide on purpose.
    seed: u64,
}

impl ChunkStore {
    pub(crate) fn new() -> Self {
        Self {
            arena: Arena::default(),
            spans: Vec::new(),
            followers: Vec::new(),
            index: HashMap::new(),
            seed: RandomState::new().hash_one(0_u8),
        }
    }

    /// The ids of the chunks of a payload, in order.
    ///
    /// What was sent before comes in the same order again. So the chunk that followed the last one
    /// before is compared first: where its bytes are there, they are the next chunk, without being
    /// searched for a place to cut or hashed (`docs/FORMAT.md`, "Payload").
    ///
    /// # Errors
    /// When the system has no memory for them.
    pub(crate) fn intern_all(&mut self, data: &[u8]) -> io::Result<Vec<ChunkId>> {
        let cutter = Cutter::new(data);
        let mut ids: Vec<ChunkId> = Vec::with_capacity(data.len() / AVERAGE_CHUNK_BYTES + 1);
        let mut start = 0;
        while start < data.len() {
            let last = ids.last().copied();
            if let Some((id, length)) = last.and_then(|last| self.follower(last, &data[start..])) {
                ids.push(id);
                start += length;
                continue;
            }
            let cut = cutter.next(start);
            let id = self.intern(&data[start..cut.end])?;
            if let Some(last) = last {
                self.followers[last.0 as usize] = cut.is_by_content.then_some(Follower(id));
            }
            ids.push(id);
            start = cut.end;
        }
        Ok(ids)
    }

    /// What followed a chunk last, if `rest` begins with it and it would be cut there again.
    fn follower(&self, last: ChunkId, rest: &[u8]) -> Option<(ChunkId, usize)> {
        let Follower(id) = self.followers[last.0 as usize]?;
        let chunk = self.get(id)?;
        let next = rest.strip_prefix(chunk)?.first();
        next.is_none_or(|byte| !is_continuation(*byte)).then_some((id, chunk.len()))
    }

    /// The id of a chunk with exactly these bytes, kept now if it is small or was not kept before.
    ///
    /// # Errors
    /// When the system has no memory for it.
    pub(crate) fn intern(&mut self, chunk: &[u8]) -> io::Result<ChunkId> {
        if chunk.len() < MIN_INDEXED_BYTES {
            return self.keep(chunk);
        }
        let mut key = xxh3_64_with_seed(chunk, self.seed);
        // The hash only finds a candidate; the bytes decide. A different chunk under the same key
        // moves the search to the next key, which ends at the first free one.
        while let Some(&candidate) = self.index.get(&key) {
            if self.get(candidate) == Some(chunk) {
                return Ok(candidate);
            }
            key = key.wrapping_add(1);
        }
        let id = self.keep(chunk)?;
        self.index.insert(key, id);
        Ok(id)
    }

    fn keep(&mut self, chunk: &[u8]) -> io::Result<ChunkId> {
        let id = ChunkId(self.spans.len() as u32);
        self.spans.push(self.arena.keep(chunk)?);
        self.followers.push(None);
        Ok(id)
    }

    /// The bytes of a chunk of this store; `None` for an id of another.
    pub(crate) fn get(&self, id: ChunkId) -> Option<&[u8]> {
        self.spans.get(id.0 as usize).map(|span| self.arena.bytes(*span))
    }

    /// The number of distinct chunks.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Bytes of all chunks.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.arena.used_bytes()
    }

    /// Memory beside the bytes of the chunks.
    pub(crate) fn overhead_bytes(&self) -> usize {
        self.spans.len() * CHUNK_OVERHEAD_BYTES + self.index.len() * INDEX_OVERHEAD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Cuts `data` into chunks whose concatenation is `data`; none is empty.
    fn cut(data: &[u8]) -> impl Iterator<Item = &[u8]> {
        let cutter = Cutter::new(data);
        let mut start = 0;
        std::iter::from_fn(move || {
            (start < data.len()).then(|| {
                let chunk = &data[start..cutter.next(start).end];
                start += chunk.len();
                chunk
            })
        })
    }

    proptest! {
        #[test]
        fn chunks_concatenate_to_the_data(data in proptest::collection::vec(any::<u8>(), 0..100_000)) {
            let chunks: Vec<_> = cut(&data).collect();
            prop_assert!(chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= MAX_CHUNK_BYTES));
            prop_assert_eq!(chunks.concat(), data);
        }

        #[test]
        fn every_chunk_of_text_is_text(text in "[a-zäß€𝄞\u{10FFFF}]{2000,9000}") {
            for chunk in cut(text.as_bytes()) {
                prop_assert!(std::str::from_utf8(chunk).is_ok());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        // Pieces of history in any order, some cut off: what is compared first must never change
        // where chunks end.
        #[test]
        fn chunks_seen_before_end_where_their_content_says(
            payloads in proptest::collection::vec(
                proptest::collection::vec((0..6_usize, 0..40_000_usize, 0..40_000_usize), 1..5), 1..8),
        ) {
            let text = |seed: u32| -> Vec<u8> {
                let word = |n: u32| n.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 7;
                let character = |n| char::from_u32(32 + word(n) % 600).unwrap_or('ß');
                (0..20_000).map(character).collect::<String>().into_bytes()
            };
            let sources: Vec<Vec<u8>> = (0..6).map(text).collect();
            let mut store = ChunkStore::new();
            for pieces in payloads {
                let piece = |(of, one, other): (usize, usize, usize)| {
                    let source: &Vec<u8> = &sources[of];
                    let [one, other] = [one, other].map(|at| at.min(source.len()));
                    source[one.min(other)..one.max(other)].to_vec()
                };
                let data = pieces.into_iter().flat_map(piece).collect::<Vec<u8>>();
                let ids = store.intern_all(&data).unwrap();
                let found: Vec<_> = ids.iter().map(|id| store.get(*id).unwrap()).collect();
                prop_assert_eq!(found, cut(&data).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn cuts_follow_the_content_when_bytes_are_put_before_it() {
        let history: Vec<u8> =
            (0..40_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let shifted = [b"eleven more".as_slice(), &history].concat();
        let before: Vec<_> = cut(&history).collect();
        let same = cut(&shifted).filter(|chunk| before.contains(chunk)).count();
        assert!(same + 3 >= before.len(), "{same} of {} chunks found again", before.len());
    }

    #[test]
    fn equal_bytes_are_kept_once_and_a_shared_hash_keeps_chunks_apart() {
        let [one, two] = [b"one".repeat(200), b"two".repeat(200)];
        let mut store = ChunkStore::new();
        let first = store.intern(&one).unwrap();
        // Pretend that the second has the hash of the first.
        let key = xxh3_64_with_seed(&two, store.seed);
        store.index.insert(key, first);
        let second = store.intern(&two).unwrap();
        assert_ne!(first, second);
        assert_eq!(store.intern(&two).unwrap(), second);
        assert_eq!(store.intern(&one).unwrap(), first);
        assert_eq!(store.get(second), Some(two.as_slice()));
        assert_eq!(store.arena.used_bytes(), 1200);
    }

    #[test]
    fn small_chunks_are_kept_as_they_come() {
        let mut store = ChunkStore::new();
        let (first, second) = (store.intern(b"ping").unwrap(), store.intern(b"ping").unwrap());
        assert_ne!(first, second);
        assert_eq!(store.get(first), store.get(second));
        assert!(store.index.is_empty());
    }
}
