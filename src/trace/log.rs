//! The write-ahead log beside a trace that is being recorded: what is not in a row group yet.
//!
//! `run.parquet.wal` holds everything that the main file alone would lose if the recorder were
//! killed now: how far the main file goes, the description of its row groups, the metadata, and
//! the rows and chunks of the open group. A new log replaces the old one whenever a group closes.
//!
//! ```text
//! log    = header frame*
//! header = magic (8) version (4) reserved (4) slot, 4096 bytes in all
//! slot   = length (4) crc32 (4) text: why the recording ended, if its file could not be finished
//! frame  = magic (4) number (4) raw length (4) stored length (4) crc32 (4) zstd data
//! raw    = record*, see `records`; the first frame is the base, see `base`
//! ```
//!
//! Integers are little endian. Frames are numbered from 0; the CRC covers the frame's header behind
//! the magic and its data. Reading stops at the first frame that is not whole: what follows it is
//! the torn tail of a killed process.

pub(crate) mod base;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod records;
mod replay;
mod writer;

pub(crate) use replay::{Replayed, replay};
pub(crate) use writer::LogWriter;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"ASIGHTWL";
const FRAME_MAGIC: &[u8; 4] = b"ASWF";

/// Version of the log format that this program writes; it reads this and lower ones.
const LOG_VERSION: u32 = 1;

/// A page: the slot in it is overwritten in place, which needs no room on a full disk.
const HEADER_BYTES: usize = 4096;
const SLOT_AT: usize = 16;

const FRAME_HEADER_BYTES: usize = 20;

/// Most raw bytes of a frame that are believed. The recorder's frames have a few hundred KiB, the
/// base some KiB per row group.
const MAX_FRAME_BYTES: usize = 64 << 20;

/// Where the log of the trace at `path` is.
#[must_use]
pub fn log_path(path: &Path) -> PathBuf {
    beside(path, ".wal")
}

/// Where the log that is to replace it is made.
pub(crate) fn next_log_path(path: &Path) -> PathBuf {
    beside(path, ".wal.next")
}

/// Takes away the logs of the trace at `path`. That there are none is no error.
///
/// # Errors
/// When one of them is there and cannot be removed; the other is then gone all the same.
pub fn remove_logs(path: &Path) -> io::Result<()> {
    let remove = |log: PathBuf| match std::fs::remove_file(log) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    remove(log_path(path)).and(remove(next_log_path(path)))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// What of a log does not read as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(String);

impl Malformed {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

#[cfg(test)]
mod tests;
