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
use memmap2::MmapMut;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// No chunk is smaller, except the last of a payload.
const MIN_CHUNK_BYTES: usize = 1024;
/// Measured best for re-sent history among 2, 4 and 8 KiB (`docs/FORMAT.md`, "Payload").
const AVERAGE_CHUNK_BYTES: usize = 4096;
/// Forced cut where the content offers none.
const MAX_CHUNK_BYTES: usize = 16 * 1024;

/// Chunks are kept in segments of this size, so that growing never copies what is there. Segments
/// are mapped, not allocated: with the allocator's heap, closing a row group left holes that held
/// 13-18 MiB more resident (`docs/FORMAT.md`, "Row groups").
const SEGMENT_BYTES: usize = 256 * 1024;

/// Memory for one distinct chunk beside its bytes: span, index entry and table slack here, and the
/// same again in the Parquet dictionary while the row group is closed.
const CHUNK_OVERHEAD_BYTES: usize = 96;

/// Cuts `data` into chunks whose concatenation is `data`; none is empty.
pub(crate) fn cut(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let chunker = FastCDC::new(data, MIN_CHUNK_BYTES, AVERAGE_CHUNK_BYTES, MAX_CHUNK_BYTES);
    let mut start = 0;
    std::iter::from_fn(move || {
        if start == data.len() {
            return None;
        }
        let (_, cut) = chunker.cut(start, data.len() - start);
        let end = snap_to_character(data, cut);
        let chunk = &data[start..end];
        start = end;
        Some(chunk)
    })
}

/// Moves a cut that splits a UTF-8 character to before it, so that readers which decode chunk by
/// chunk see valid text. Bytes that are not UTF-8 are cut where they are.
fn snap_to_character(data: &[u8], cut: usize) -> usize {
    let is_continuation = |byte: u8| byte & 0b1100_0000 == 0b1000_0000;
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
pub(crate) struct ChunkId(u32);

/// Where a chunk lies.
#[derive(Clone, Copy, Debug)]
struct Span {
    segment: u32,
    start: u32,
    length: u32,
}

/// Memory that chunks are appended to.
#[derive(Debug)]
struct Segment {
    map: MmapMut,
    /// Bytes at the beginning of `map` that hold chunks.
    used: usize,
}

/// The distinct chunks of the open row group.
#[derive(Debug)]
pub(crate) struct ChunkStore {
    segments: Vec<Segment>,
    /// Indexed by [`ChunkId`].
    spans: Vec<Span>,
    /// Hash to chunk. Two chunks with one hash take neighbouring keys, see [`ChunkStore::intern`].
    index: HashMap<u64, ChunkId>,
    /// Unpredictable, so that recorded data cannot be made to collide on purpose.
    seed: u64,
    unique_bytes: usize,
}

impl ChunkStore {
    pub(crate) fn new() -> Self {
        Self {
            segments: Vec::new(),
            spans: Vec::new(),
            index: HashMap::new(),
            seed: RandomState::new().hash_one(0_u8),
            unique_bytes: 0,
        }
    }

    /// The id of a chunk with exactly these bytes, kept now if it was not before.
    ///
    /// # Errors
    /// When the system has no memory for it.
    pub(crate) fn intern(&mut self, chunk: &[u8]) -> io::Result<ChunkId> {
        let mut key = xxh3_64_with_seed(chunk, self.seed);
        // The hash only finds a candidate; the bytes decide. A different chunk under the same key
        // moves the search to the next key, which ends at the first free one.
        while let Some(&candidate) = self.index.get(&key) {
            if self.bytes(candidate) == chunk {
                return Ok(candidate);
            }
            key = key.wrapping_add(1);
        }
        let id = self.keep(chunk)?;
        self.index.insert(key, id);
        Ok(id)
    }

    fn keep(&mut self, chunk: &[u8]) -> io::Result<ChunkId> {
        let fits = |segment: &Segment| segment.map.len() - segment.used >= chunk.len();
        if !self.segments.last().is_some_and(fits) {
            let map = MmapMut::map_anon(SEGMENT_BYTES.max(chunk.len()))?;
            self.segments.push(Segment { map, used: 0 });
        }
        let index = self.segments.len() - 1;
        let segment = &mut self.segments[index];
        let (start, end) = (segment.used, segment.used + chunk.len());
        segment.map[start..end].copy_from_slice(chunk);
        segment.used = end;
        // Segments and chunks are far below 4 GiB, and so is the number of segments: the row group
        // closes at some MiB.
        let span = Span { segment: index as u32, start: start as u32, length: chunk.len() as u32 };
        self.unique_bytes += chunk.len();
        self.spans.push(span);
        Ok(ChunkId((self.spans.len() - 1) as u32))
    }

    /// The bytes of a chunk of this store.
    pub(crate) fn bytes(&self, id: ChunkId) -> &[u8] {
        let span = self.spans[id.0 as usize];
        let start = span.start as usize;
        &self.segments[span.segment as usize].map[start..start + span.length as usize]
    }

    /// Memory that the store accounts for.
    pub(crate) fn accounted_bytes(&self) -> usize {
        self.unique_bytes + self.spans.len() * CHUNK_OVERHEAD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        let mut store = ChunkStore::new();
        let first = store.intern(b"one").unwrap();
        // Pretend that "two" has the hash of "one".
        let key = xxh3_64_with_seed(b"two", store.seed);
        store.index.insert(key, first);
        let second = store.intern(b"two").unwrap();
        assert_ne!(first, second);
        assert_eq!(store.intern(b"two").unwrap(), second);
        assert_eq!(store.intern(b"one").unwrap(), first);
        assert_eq!(store.bytes(second), b"two");
        assert_eq!(store.unique_bytes, 6);
    }
}
