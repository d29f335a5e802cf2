//! Header compression (RFC 7541): header blocks in, fields out.
//!
//! A block refers to entries of a table that all blocks before it have built. Where some of them were
//! not seen (the recording began late, bytes are missing) a reference may be to an entry that is not
//! known: it then gives a field without name. What stands in the block itself is read all the same, so
//! most of a head is known again after a few requests.
//!
//! The size of the table is followed as the encoder signals it in its blocks, which it must
//! (section 4.2); the SETTINGS that allow it a size go the other way and may come out of a trace late.

mod huffman;
mod table;

use self::table::{Entry, Table};
use crate::reconstruct::finding::{Header, PartialReason};

/// The name of a field of which only a reference was seen; no real name has this character.
pub(crate) const UNKNOWN: &str = "?";

/// Longest head, decoded. Servers refuse heads above 8 to 128 KiB.
const MAX_TEXT_BYTES: usize = 256 << 10;

/// Most fields read from a block.
const MAX_FIELDS: usize = 2048;

/// The fields of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    /// Name and value, in order, pseudo-header fields included.
    pub(crate) headers: Vec<Header>,
    /// Why some are [`UNKNOWN`].
    pub(crate) unknown: Option<PartialReason>,
    /// The block breaks the coding, or ends too early: what came before is given.
    pub(crate) is_broken: bool,
}

/// Decodes the header blocks of one direction.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    table: Table,
    /// Why entries that should be in the table are not known.
    loss: Option<PartialReason>,
}

impl Decoder {
    /// What was in the table is not known any more, for this reason.
    pub(crate) fn lose(&mut self, reason: PartialReason) {
        self.loss.get_or_insert(reason);
        self.table.lose();
    }

    /// Decodes a whole block. One that is broken leaves the table unknown.
    pub(crate) fn decode(&mut self, block: &[u8]) -> Fields {
        let mut fields = Fields::default();
        let mut rest = block;
        let mut text_bytes = 0;
        while !rest.is_empty() {
            match self.representation(&mut rest) {
                Some(None) => {}
                Some(Some(Entry { name, value })) => {
                    if name.is_none() {
                        fields.unknown = fields.unknown.or(self.loss);
                    }
                    let name = name.unwrap_or_else(|| UNKNOWN.to_owned());
                    text_bytes += name.len() + value.len();
                    fields.headers.push((name, value));
                }
                None => fields.is_broken = true,
            }
            // A byte of a block may stand for a whole entry of the table.
            if text_bytes > MAX_TEXT_BYTES || fields.headers.len() >= MAX_FIELDS {
                fields.is_broken = true;
            }
            if fields.is_broken {
                self.lose(PartialReason::Malformed);
                break;
            }
        }
        fields
    }

    /// Reads one representation (section 6): a field, or a change of the table. `None` if it is broken.
    fn representation(&mut self, rest: &mut &[u8]) -> Option<Option<Entry>> {
        let first = *rest.first()?;
        match first {
            // Indexed field.
            0x80.. => Some(Some(self.entry(integer(rest, 7)?)?)),
            // Size of the dynamic table.
            0x20..0x40 => {
                if !self.table.resize(integer(rest, 5)?) {
                    self.loss.get_or_insert(PartialReason::Decoding);
                }
                Some(None)
            }
            // Literal field: to be indexed, not indexed, or never to be.
            _ => {
                let is_indexed = first & 0x40 != 0;
                let name = match integer(rest, if is_indexed { 6 } else { 4 })? {
                    0 => Some(text(rest)?),
                    index => self.entry(index)?.name,
                };
                let field = Entry { name, value: text(rest)? };
                if is_indexed {
                    self.table.insert(field.clone());
                }
                Some(Some(field))
            }
        }
    }

    /// The entry at an index, without name and value if it was not seen; `None` if there can be none.
    fn entry(&self, index: u64) -> Option<Entry> {
        let place = usize::try_from(index).ok()?.checked_sub(1)?;
        if let Some((name, value)) = table::FIXED.get(place) {
            return Some(Entry { name: Some((*name).to_owned()), value: (*value).to_owned() });
        }
        let not_seen = || Entry { name: None, value: String::new() };
        let found = self.table.get(place - table::FIXED.len()).cloned();
        found.or_else(|| self.loss.map(|_| not_seen()))
    }
}

/// Reads an integer whose first byte has it in its last `prefix_bits` (section 5.1).
fn integer(rest: &mut &[u8], prefix_bits: u32) -> Option<u64> {
    let (&first, mut after) = rest.split_first()?;
    let mask = (1_u64 << prefix_bits) - 1;
    let mut value = u64::from(first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (&byte, next) = after.split_first()?;
            after = next;
            // Nothing in a block is as large as what 32 bits hold.
            if shift > 28 {
                return None;
            }
            value += u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = after;
    Some(value)
}

/// Reads a string literal (section 5.2), as text.
fn text(rest: &mut &[u8]) -> Option<String> {
    let is_huffman = *rest.first()? & 0x80 != 0;
    let length = usize::try_from(integer(rest, 7)?).ok()?;
    if length > MAX_TEXT_BYTES {
        return None;
    }
    let (encoded, after) = rest.split_at_checked(length)?;
    *rest = after;
    let decoded = if is_huffman { huffman::decode(encoded)? } else { encoded.to_vec() };
    Some(
        String::from_utf8(decoded)
            .unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into_owned()),
    )
}

#[cfg(test)]
mod tests;
