//! Records: what is in a frame.
//!
//! ```text
//! record = 1 length bytes          a chunk; chunks take ids in their order, from 0
//!        | 2 length cells          a row, see `cells`
//!        | 3 length key length value    an entry of the metadata
//! ```
//!
//! Lengths are LEB128.

use super::Malformed;

const CHUNK: u8 = 1;
const ROW: u8 = 2;
const ENTRY: u8 = 3;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record<'raw> {
    Chunk(&'raw [u8]),
    Row(&'raw [u8]),
    Entry(&'raw str, &'raw str),
}

/// Writes a record to the end of `raw`.
pub(super) fn write(record: Record<'_>, raw: &mut Vec<u8>) {
    let (tag, parts) = match record {
        Record::Chunk(bytes) => (CHUNK, [Some(bytes), None]),
        Record::Row(cells) => (ROW, [Some(cells), None]),
        Record::Entry(key, value) => (ENTRY, [Some(key.as_bytes()), Some(value.as_bytes())]),
    };
    raw.push(tag);
    for part in parts.into_iter().flatten() {
        write_length(part.len(), raw);
        raw.extend_from_slice(part);
    }
}

fn write_length(mut length: usize, raw: &mut Vec<u8>) {
    while length >= 0x80 {
        raw.push(length as u8 | 0x80);
        length >>= 7;
    }
    raw.push(length as u8);
}

/// Reads the records of a frame; ends after the first error.
pub(super) struct Records<'raw> {
    rest: &'raw [u8],
}

impl<'raw> Records<'raw> {
    pub(super) fn new(raw: &'raw [u8]) -> Self {
        Self { rest: raw }
    }

    fn record(&mut self, tag: u8) -> Option<Record<'raw>> {
        match tag {
            CHUNK => self.part().map(Record::Chunk),
            ROW => self.part().map(Record::Row),
            ENTRY => {
                let mut text = || std::str::from_utf8(self.part()?).ok();
                Some(Record::Entry(text()?, text()?))
            }
            _ => None,
        }
    }

    fn part(&mut self) -> Option<&'raw [u8]> {
        let mut length = 0_usize;
        for shift in (0..usize::BITS).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            length |= usize::from(byte & 0x7F).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                let (part, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                return Some(part);
            }
        }
        None
    }
}

impl<'raw> Iterator for Records<'raw> {
    type Item = Result<Record<'raw>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let (tag, rest) = self.rest.split_first()?;
        self.rest = rest;
        let record = self.record(*tag);
        if record.is_none() {
            self.rest = &[];
        }
        let malformed = || Malformed::new(format!("a record of type {tag} that is none"));
        Some(record.ok_or_else(malformed))
    }
}
