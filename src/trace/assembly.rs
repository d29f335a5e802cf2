//! Parts of one recording, put behind each other by their bytes: what a flight recorder ends with,
//! what a snapshot is, and what repair makes of the parts of a killed one.
//!
//! The first part keeps the rows that say what was known when it began; of the others those rows,
//! a row group of their own, are left out. Metadata is that of the last part, which knows most.

use std::io::Write;

use serde_json::json;

use super::assembler::Assembler;
use super::derived::{
    CARRIED_KEY, MIDWAY_KEY, PART_KEY, PARTS_KEY, SNAPSHOT_KEY, carried_json, inherited,
};
use super::error::Error;
use super::metadata::Entry;
use super::reader::Reader;
use super::writer::Summary;
use crate::event::Event;
use crate::time::WallNanos;

/// Why and when a snapshot was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The condition that was met, or the signal.
    pub reason: String,
    /// When.
    pub ts: WallNanos,
}

/// The entries of a part of a recording: its number from 1, and if it is not the first, that it
/// begins in the middle and which kinds its carried rows have.
#[must_use]
pub fn part_entries(number: u32, carried: &[(u64, Event)]) -> Vec<Entry> {
    let mut entries = vec![Entry { key: PART_KEY, value: number.to_string() }];
    if number > 1 {
        let kinds = carried.iter().map(|(_, event)| event.body.kind());
        entries.push(Entry { key: MIDWAY_KEY, value: "true".to_owned() });
        entries.push(Entry { key: CARRIED_KEY, value: carried_json(kinds) });
    }
    entries
}

/// Writes the rows of `parts`, which follow each other in one recording, to `sink`; of a snapshot
/// also what it is.
///
/// # Errors
/// When there is no part, one is damaged or cannot be read, or `sink` cannot be written.
pub fn assemble<W: Write>(
    parts: &[Reader],
    snapshot: Option<&Snapshot>,
    sink: W,
) -> Result<Summary, Error> {
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
        return Err(Error::NoParts);
    };
    let mut keys = last.metadata().clone();
    keys.remove(PART_KEY);
    keys.remove(MIDWAY_KEY);
    let mut assembler = Assembler::create(sink, inherited(&keys))?;
    for key in [MIDWAY_KEY, CARRIED_KEY] {
        if let Some(value) = first.metadata().get(key) {
            assembler.set_text(key, value.clone());
        }
    }
    if let (Some(from), Some(to)) = (first.origin().part, last.origin().part) {
        assembler.set_text(PARTS_KEY, json!({"first": from, "last": to}).to_string());
    }
    if let Some(Snapshot { reason, ts }) = snapshot {
        let about = json!({"reason": reason, "ts": ts.0.to_string()});
        assembler.set_text(SNAPSHOT_KEY, about.to_string());
        assembler.set(Entry::stop_ts(*ts));
        assembler.set(Entry::stop_reason("snapshot"));
    }
    assembler.copy(first)?;
    for part in &parts[1..] {
        assembler.copy_next(part)?;
    }
    assembler.finish()
}
