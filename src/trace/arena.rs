//! Byte strings kept together until all of them go.
//!
//! The open row group holds its payload and rows here. Memory is mapped in segments, not allocated
//! piecewise: with the allocator's heap, every closed row group left holes that kept 13-18 MiB more
//! resident (`docs/FORMAT.md`, "Row groups"), and segments never move what is in them.

use std::io;

use memmap2::{MmapMut, MmapOptions};

const SEGMENT_BYTES: usize = 256 * 1024;

/// Where a byte string lies in its [`Arena`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    segment: u32,
    start: u32,
    length: u32,
}

/// Byte strings, appended only.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    segments: Vec<Segment>,
    used_bytes: usize,
}

#[derive(Debug)]
struct Segment {
    map: MmapMut,
    /// Bytes at the beginning of `map` that are taken.
    used: usize,
}

impl Arena {
    /// Keeps a copy of `bytes`, which must be shorter than 4 GiB.
    ///
    /// # Errors
    /// When the system has no memory for it.
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> io::Result<Span> {
        let fits = |segment: &Segment| segment.map.len() - segment.used >= bytes.len();
        if !self.segments.last().is_some_and(fits) {
            // Populated at once: all of it will be used, and faults cost more one by one.
            let length = SEGMENT_BYTES.max(bytes.len());
            let map = MmapOptions::new().len(length).populate().map_anon()?;
            self.segments.push(Segment { map, used: 0 });
        }
        let index = self.segments.len() - 1;
        let segment = &mut self.segments[index];
        let (start, end) = (segment.used, segment.used + bytes.len());
        segment.map[start..end].copy_from_slice(bytes);
        segment.used = end;
        self.used_bytes += bytes.len();
        // Positions in a segment are below 4 GiB as lengths are, and a row group closes long before
        // there are 2^32 segments.
        Ok(Span { segment: index as u32, start: start as u32, length: bytes.len() as u32 })
    }

    /// The bytes at a span of this arena.
    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        &self.segments[span.segment as usize].map[start..start + span.length as usize]
    }

    /// Length of all byte strings together.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_stays_as_it_was() {
        let mut arena = Arena::default();
        let strings: Vec<Vec<u8>> = (0..300_usize)
            .map(|n| vec![n as u8; n * 37 % 5000])
            .chain([vec![9; 600_000]])
            .collect();
        let spans: Vec<_> = strings.iter().map(|bytes| arena.keep(bytes).unwrap()).collect();
        for (span, bytes) in spans.iter().zip(&strings) {
            assert_eq!(arena.bytes(*span), bytes);
        }
        assert_eq!(arena.used_bytes(), strings.iter().map(Vec::len).sum::<usize>());
        assert!(arena.segments.len() > 2);
    }
}
