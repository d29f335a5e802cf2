//! The parts of a log one by one, for [`crate::trace::fuzz`], which puts others together.

use super::frame::Framer;
use super::records::{self, Record};
use super::{HEADER_BYTES, LOG_VERSION, MAGIC, base};
use crate::trace::draft::Draft;

/// What the first frame of a log holds.
pub(crate) fn base(draft: &Draft) -> Vec<u8> {
    base::write(draft).expect("expected a draft that can be described")
}

/// What the following frames hold of the chunks and rows of a draft.
pub(crate) fn records(draft: &Draft) -> Vec<u8> {
    let mut raw = Vec::new();
    records::write(Record::Entry("agentsight.redaction", "secrets"), &mut raw);
    draft
        .open
        .chunks(0..usize::MAX)
        .for_each(|chunk| records::write(Record::Chunk(chunk), &mut raw));
    draft.open.rows_from(0).for_each(|row| records::write(Record::Row(row.cells), &mut raw));
    raw
}

/// A log of these frames.
pub(crate) fn log(frames: &[&[u8]]) -> Vec<u8> {
    let mut framer = Framer::new().expect("expected memory for a compressor");
    let mut log = vec![0; HEADER_BYTES];
    log[..8].copy_from_slice(MAGIC);
    log[8..12].copy_from_slice(&LOG_VERSION.to_le_bytes());
    for raw in frames {
        log.extend_from_slice(framer.frame(raw).expect("expected frames that are small"));
    }
    log
}
