//! Which function an address of stripped code belongs to.
//!
//! Two sources, the certain one first: the unwind table (`.eh_frame_hdr`, where it covers the
//! address) and, in code built without one but with frame pointers, the places where functions
//! must begin: aligned frame set-up and the targets of direct calls. The second can miss a start, so
//! its answer says that it is not certain, and the reader of the code has to notice where it ends.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use super::image::{Image, u32_at, u64_at};

/// Compilers align functions to this unless they optimise for size.
const ALIGNMENT: u64 = 16;
/// Longest function considered; the longest in BoringSSL's `ssl_lib.cc` has 3 KiB.
pub(super) const MAX_FUNCTION_BYTES: u64 = 64 << 10;
/// Largest unwind index read: eight bytes per function, so 8 million functions.
const MAX_INDEX_BYTES: u64 = 64 << 20;
/// `push %rbp; mov %rsp,%rbp`: how a function with a frame pointer begins, whatever it does.
const FRAME_SETUP: &[u8] = &[0x55, 0x48, 0x89, 0xe5];

/// Where a function lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Its addresses.
    pub(super) range: Range<u64>,
    /// Whether the unwind table says so; otherwise only the start is likely, and what follows may
    /// run on into a function whose start does not show.
    pub(super) certain: bool,
}

/// Function extents of one image.
pub(super) struct Functions<'a> {
    image: &'a Image,
    unwind: Option<UnwindIndex>,
    /// Targets of direct calls, aligned like functions.
    called: BTreeSet<u64>,
}

impl<'a> Functions<'a> {
    /// `called` are the known targets of direct calls near the addresses that will be asked for.
    pub(super) fn new(image: &'a Image, called: impl Iterator<Item = u64>) -> io::Result<Self> {
        let called = called.filter(|address| address % ALIGNMENT == 0).collect();
        Ok(Self { image, unwind: UnwindIndex::read(image)?, called })
    }

    /// The function that holds `address`; `None` where it is not known.
    pub(super) fn containing(&self, address: u64) -> io::Result<Option<Extent>> {
        if let Some(unwind) = &self.unwind
            && let Some(range) = unwind.containing(self.image, address)?
        {
            return Ok(Some(Extent { range, certain: true }));
        }
        let range = self.between_starts(address)?;
        Ok(range.map(|range| Extent { range, certain: false }))
    }

    fn between_starts(&self, address: u64) -> io::Result<Option<Range<u64>>> {
        let (from, code) = self.image.code_around(address, MAX_FUNCTION_BYTES, ALIGNMENT)?;
        let end = from.saturating_add(code.len() as u64);
        let aligned = from.checked_next_multiple_of(ALIGNMENT).unwrap_or(end);
        let starts = (aligned..end).step_by(ALIGNMENT as usize).filter(|&start| {
            // Fits: `start - from` is less than the length of `code`.
            sets_up_frame(&code[(start - from) as usize..]) || self.called.contains(&start)
        });
        let (mut first, mut next) = (None, end);
        for start in starts {
            if start > address {
                next = start;
                break;
            }
            first = Some(start);
        }
        Ok(first.map(|first| first..next))
    }
}

fn sets_up_frame(code: &[u8]) -> bool {
    const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
    code.strip_prefix(ENDBR64).unwrap_or(code).starts_with(FRAME_SETUP)
}

/// The binary search table of `.eh_frame_hdr` (Linux Standard Base, "Exception Frames").
struct UnwindIndex {
    /// Address of `.eh_frame_hdr`; both columns count from it.
    base: u64,
    /// Pairs of (function start, frame description), sorted by start.
    table: Vec<u8>,
}

impl UnwindIndex {
    /// Version 1, four-byte pointer and count, table of signed four-byte offsets from the section:
    /// the only form linkers write.
    fn read(image: &Image) -> io::Result<Option<Self>> {
        const DATAREL_SDATA4: u8 = 0x3b;
        let Some(base) = image.frame_index() else { return Ok(None) };
        let header = image.at_address(base, 12)?;
        if header.len() < 12 || header[0] != 1 || header[3] != DATAREL_SDATA4 || header[2] != 3 {
            return Ok(None);
        }
        let bytes = (u64::from(u32_at(&header, 8)) * 8).min(MAX_INDEX_BYTES);
        let table = image.at_address(base.saturating_add(12), bytes)?;
        Ok((!table.is_empty()).then_some(Self { base, table }))
    }

    fn entry(&self, index: usize) -> (u64, u64) {
        let offset = |at| i64::from(u32_at(&self.table, at) as i32);
        let (start, description) = (offset(index * 8), offset(index * 8 + 4));
        (self.base.wrapping_add_signed(start), self.base.wrapping_add_signed(description))
    }

    fn containing(&self, image: &Image, address: u64) -> io::Result<Option<Range<u64>>> {
        let (mut low, mut high) = (0, self.table.len() / 8);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle).0 <= address { low = middle + 1 } else { high = middle }
        }
        let Some(index) = low.checked_sub(1) else { return Ok(None) };
        let (start, description) = self.entry(index);
        let Some(length) = function_length(image, description)? else { return Ok(None) };
        let range = start..start.saturating_add(length.min(MAX_FUNCTION_BYTES));
        Ok(range.contains(&address).then_some(range))
    }
}

/// The length field of the frame description at `address`.
fn function_length(image: &Image, address: u64) -> io::Result<Option<u64>> {
    let description = image.initial_bytes(address, 24)?;
    if description.len() < 24 {
        return Ok(None);
    }
    // The distance to the common part counts backwards from its own field.
    let common = address.wrapping_add(4).wrapping_sub(u64::from(u32_at(&description, 4)));
    let common = image.initial_bytes(common, 64)?;
    // Low half of a pointer encoding: how wide the pointer is.
    Ok(match pointer_encoding(&common).map(|encoding| encoding & 0x0f) {
        Some(0x03 | 0x0b) => Some(u64::from(u32_at(&description, 12))),
        Some(0x00 | 0x04 | 0x0c) => Some(u64_at(&description, 16)),
        _ => None,
    })
}

/// The pointer encoding that a common information entry declares (augmentation `R`).
fn pointer_encoding(common: &[u8]) -> Option<u8> {
    let version = *common.get(8)?;
    let text = common.get(9..)?;
    let text_bytes = text.iter().position(|&b| b == 0)?;
    let (augmentation, mut rest) = (&text[..text_bytes], &text[text_bytes + 1..]);
    skip_leb128(&mut rest)?;
    skip_leb128(&mut rest)?;
    if version == 1 {
        rest = rest.get(1..)?
    } else {
        skip_leb128(&mut rest)?
    }
    let letters = augmentation.strip_prefix(b"z")?;
    skip_leb128(&mut rest)?;
    for letter in letters {
        match letter {
            b'R' => return rest.first().copied(),
            b'L' => rest = rest.get(1..)?,
            b'P' => {
                let width = if rest.first()? & 0x07 == 3 { 4 } else { 8 };
                rest = rest.get(1 + width..)?;
            }
            b'S' | b'B' => {}
            _ => return None,
        }
    }
    // Without the letter, pointers are absolute.
    Some(0)
}

fn skip_leb128(bytes: &mut &[u8]) -> Option<()> {
    let last = bytes.iter().position(|&b| b & 0x80 == 0)?;
    *bytes = &bytes[last + 1..];
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pointer_encoding_is_read_behind_other_augmentations() {
        let common = |augmentation: &[u8], data: &[u8]| {
            let mut bytes = vec![0; 8];
            bytes.push(1);
            bytes.extend(augmentation);
            bytes.extend([0, 1, 0x78, 16]);
            bytes.extend(data);
            bytes
        };
        assert_eq!(pointer_encoding(&common(b"zR", &[1, 0x1b])), Some(0x1b));
        let personality = [7, 0x9b, 1, 2, 3, 4, 0x1b, 0x1b];
        assert_eq!(pointer_encoding(&common(b"zPLR", &personality)), Some(0x1b));
        assert_eq!(pointer_encoding(&common(b"zX", &[1, 0x1b])), None);
        assert_eq!(pointer_encoding(&[0; 9]), None);
    }
}
