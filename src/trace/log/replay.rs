//! A log to the trace it describes: what a recorder would have had in memory.

use std::io::{self, BufReader, Read};

use super::frame::{Frames, read_whole};
use super::records::{Record, Records};
use super::{HEADER_BYTES, LOG_VERSION, MAGIC, Malformed, SLOT_AT, base};
use crate::trace::MAX_GROUP_LIST_VALUES;
use crate::trace::draft::Draft;
use crate::trace::writer::Limits;

/// Most memory that the rows of a log may take. The recorder's open groups stay far below it.
const MAX_OPEN_BYTES: usize = 256 << 20;
/// Most rows, as in any row group.
const MAX_OPEN_ROWS: usize = 1 << 24;

/// What came of reading a log.
pub(crate) struct Replayed {
    pub(crate) draft: Draft,
    /// Bytes behind the last whole frame.
    pub(crate) torn_bytes: u64,
    /// What was wrong behind it, if it is more than a torn tail.
    pub(crate) damage: Option<String>,
    /// Why the recording ended, where the recorder could still say so.
    pub(crate) end: Option<String>,
}

/// Reads a log of `log_bytes`.
///
/// # Errors
/// The outer, when it cannot be read; the inner, when it is no log or has no base.
pub(crate) fn replay(source: impl Read, log_bytes: u64) -> io::Result<Result<Replayed, Malformed>> {
    let mut source = BufReader::with_capacity(1 << 16, source);
    let mut header = [0; HEADER_BYTES];
    if !read_whole(&mut source, &mut header)? {
        return Ok(Err(Malformed::new("it is cut short")));
    }
    let version = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if header[..8] != *MAGIC {
        return Ok(Err(Malformed::new("it is no log")));
    }
    if version > LOG_VERSION {
        let reason = format!("expected log version {LOG_VERSION} or lower, found {version}");
        return Ok(Err(Malformed::new(reason)));
    }
    let mut frames = Frames::new(source);
    let Some(first) = frames.next()? else {
        return Ok(Err(Malformed::new("its base is cut short")));
    };
    // The open group is never full: it is closed by whoever asked for the replay.
    let limits = Limits { group_bytes: usize::MAX, group_age_ns: i64::MAX };
    let mut draft = match base::read(&first, limits) {
        Ok(draft) => draft,
        Err(malformed) => return Ok(Err(malformed)),
    };
    drop(first);
    let mut damage = None;
    while damage.is_none()
        && let Some(raw) = frames.next()?
    {
        damage = take(&raw, &mut draft)?.err().map(|malformed| malformed.to_string());
    }
    let torn_bytes = log_bytes.saturating_sub(HEADER_BYTES as u64 + frames.whole_bytes);
    Ok(Ok(Replayed { draft, torn_bytes, damage, end: slot(&header) }))
}

/// Adds the records of a frame.
fn take(raw: &[u8], draft: &mut Draft) -> io::Result<Result<(), Malformed>> {
    for record in Records::new(raw) {
        let record = match record {
            Ok(record) => record,
            Err(malformed) => return Ok(Err(malformed)),
        };
        let accepted = match record {
            Record::Chunk(chunk) => draft.open.restore_chunk(chunk)?,
            Record::Row(cells) => {
                let seq = draft.open.restore(cells)?;
                draft.next_seq = seq.map_or(0, |seq| seq.saturating_add(1)).max(draft.next_seq);
                seq.is_some()
            }
            Record::Entry(key, value) => {
                draft.keys.set_text(key, value.to_owned());
                draft.keys.iter().count() <= base::MOST_KEYS
            }
        };
        if !accepted {
            return Ok(Err(Malformed::new("a record that contradicts those before it")));
        }
        let open = &draft.open;
        if open.accounted_bytes() > MAX_OPEN_BYTES
            || open.len() > MAX_OPEN_ROWS
            || open.list_values() > MAX_GROUP_LIST_VALUES
        {
            return Ok(Err(Malformed::new("more rows than a row group has")));
        }
    }
    Ok(Ok(()))
}

/// What the slot of the header says.
fn slot(header: &[u8; HEADER_BYTES]) -> Option<String> {
    let (length, rest) = header[SLOT_AT..].split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let text = rest.get(..u32::from_le_bytes(*length) as usize)?;
    let whole = !text.is_empty() && crc32fast::hash(text) == u32::from_le_bytes(*crc);
    whole.then(|| String::from_utf8_lossy(text).into_owned())
}
