//! A recording that was not finished: the main file and its log, taken together.
//!
//! The log is replayed into a [`Draft`], and the draft is ended by the code that ends every trace:
//! its row group and footer are the tail that the main file lacks. Readers put the tail behind the
//! file in memory; [`repair`] writes it there.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use bytes::Bytes;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::ChunkReader;
use parquet::file::statistics::Statistics;

use super::draft::Draft;
use super::dropped::End;
use super::error::Error;
use super::footer::{self, MAGIC, MAX_FOOTER_BYTES, TRAILER_BYTES};
use super::log::{Replayed, log_path, remove_logs, replay};
use super::metadata::{Entry, STOP_REASON_KEY};
use super::reader::{Reader, guarded};
use super::schema::Column;
use super::source::Source;
use super::totals::Totals;
use super::writer::Limits;
use crate::time::WallNanos;

/// Key of a trace that was completed from its log.
pub(crate) const RECOVERED_KEY: &str = "agentsight.recovered";

/// `stop_reason` of a recording that could not say why it ended.
const KILLED: &str = "killed";

/// How often the pair of a running recording is opened again, if its log was replaced meanwhile.
const TRIES: usize = 3;

/// Whether a trace is all that was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// The recorder finished the file.
    Complete,
    /// The recorder did not, and [`repair`] did: what was not logged in the last second is missing.
    Repaired,
    /// The recorder did not finish the file, or has not yet.
    Unfinished(Recovery),
}

/// What could be made of an unfinished recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Whether it is still being recorded.
    pub live: bool,
    /// Rows that are not in the main file but came from the log.
    pub rows_from_log: u64,
    /// Bytes at the end of the log that are no whole frame: what was being written when the
    /// recorder was killed.
    pub torn_bytes: u64,
    /// Why the recording ended, where the recorder could still say so, such as `disk_full`.
    pub stop_reason: Option<String>,
    /// What is wrong with the log; absent if nothing is. Rows behind that point are missing.
    pub log_damage: Option<String>,
}

/// What [`repair`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// How the file was found.
    pub recovery: Recovery,
    /// Rows of the file now.
    pub rows: u64,
    /// Totals of the file now, losses among them.
    pub totals: Totals,
}

/// What a file and its log come to.
pub(crate) struct Recovered {
    /// Bytes of the main file that stay.
    pub(crate) head_bytes: u64,
    /// Everything behind them: the last row group and the footer.
    pub(crate) tail: Bytes,
    pub(crate) recovery: Recovery,
}

/// Opens what is at `path`: a whole file, or what a recording that was not finished comes to.
///
/// # Errors
/// When there is no such file, it cannot be read, or nothing makes a trace of it.
pub(crate) fn open(path: &Path) -> Result<(Source, Option<Recovery>), Error> {
    let open_error = |source| Error::Open { path: path.to_owned(), source };
    let mut tries = 0..TRIES;
    let (pair, live) = loop {
        // The log first: while one is there, the bytes that it builds on do not change.
        let log = open_log(path)?;
        let file = File::open(path).map_err(open_error)?;
        let live = is_locked(&file);
        let pair = Pair::examine(path, file, log)?;
        // A recorder may have put another log in the place of the one that was opened.
        let is_old = live && matches!(pair, Pair::Unlogged { .. });
        if !is_old || tries.next().is_none() {
            break (pair, live);
        }
    };
    match pair {
        Pair::Whole(file) => Ok((Source::new(file).map_err(open_error)?, None)),
        Pair::Unlogged { file, log_damage } => {
            let source = Source::new(file).map_err(open_error)?;
            Ok((source, Some(Recovery { live, log_damage, ..Recovery::default() })))
        }
        Pair::Logged { file, replayed } => {
            let recovered = complete(path, &file, *replayed, &|_, _| Vec::new())?;
            let source = Source::with_tail(file, recovered.head_bytes, recovered.tail);
            Ok((source, Some(Recovery { live, ..recovered.recovery })))
        }
    }
}

/// Completes an unfinished recording where it is, and removes its log.
///
/// A file that is whole stays as it is, but for a log left beside it. Nothing is removed before
/// what replaces it is on the disk.
///
/// # Errors
/// When it is still being recorded, cannot be read or written, or nothing makes a trace of it.
pub fn repair(path: &Path) -> Result<Repaired, Error> {
    let open_error = |source| Error::Open { path: path.to_owned(), source };
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(open_error)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Err(Error::Live { path: path.to_owned() }),
        // A file system without locks: nobody can hold one.
        Err(TryLockError::Error(_)) | Ok(()) => {}
    }
    let reading = file.try_clone().map_err(open_error)?;
    let mut recovery = Recovery::default();
    match Pair::examine(path, reading, open_log(path)?)? {
        Pair::Whole(_) => {}
        Pair::Unlogged { file: reading, log_damage } => {
            recovery.log_damage = log_damage;
            let ended = end_without_log(path, &reading)?;
            write_tail(&file, &ended).map_err(Error::Flush)?;
        }
        Pair::Logged { file: reading, replayed } => {
            let recovered = complete(path, &reading, *replayed, &closing)?;
            write_tail(&file, &recovered).map_err(Error::Flush)?;
            recovery = recovered.recovery;
        }
    }
    remove_logs(path).map_err(Error::Log)?;
    let reader = Reader::open(path)?;
    let totals = reader.totals()?;
    Ok(Repaired { recovery, rows: reader.row_count(), totals })
}

/// What there is at a path.
enum Pair {
    /// A finished file; a log beside it has nothing that is not in it.
    Whole(File),
    /// A file with a footer that its recorder did not write last, and no log to go on from.
    Unlogged { file: File, log_damage: Option<String> },
    /// A file and the log that goes on where it ends.
    Logged { file: File, replayed: Box<Replayed> },
}

impl Pair {
    fn examine(path: &Path, file: File, log: Option<File>) -> Result<Self, Error> {
        let open_error = |source| Error::Open { path: path.to_owned(), source };
        let size_bytes = file.metadata().map_err(open_error)?.len();
        let footer = footer_start(&file, size_bytes).map_err(open_error)?;
        let Some(log) = log else {
            return Self::without_log(path, file, footer, None);
        };
        let log_bytes = log.metadata().map_err(Error::Log)?.len();
        let replayed = match replay(log, log_bytes).map_err(Error::Log)? {
            Ok(replayed) => replayed,
            Err(malformed) => {
                let damage = Some(malformed.to_string());
                return Self::without_log(path, file, footer, damage);
            }
        };
        let base_bytes = replayed.draft.base_bytes;
        if footer.is_some_and(|start| start > base_bytes) {
            // The recorder had closed the row group that this log was for.
            return Self::without_log(path, file, footer, None);
        }
        if base_bytes > size_bytes {
            let damage = format!(
                "expected a file of at least {base_bytes} bytes beside it, found {size_bytes}"
            );
            return Self::without_log(path, file, footer, Some(damage));
        }
        Ok(Self::Logged { file, replayed: Box::new(replayed) })
    }

    fn without_log(
        path: &Path,
        file: File,
        footer: Option<u64>,
        log_damage: Option<String>,
    ) -> Result<Self, Error> {
        if footer.is_none() {
            return match log_damage {
                Some(reason) => Err(Error::LogDamaged { path: path.to_owned(), reason }),
                // The reader says what it is.
                None => Ok(Self::Whole(file)),
            };
        }
        let source = Source::new(file.try_clone().map_err(Error::Flush)?).map_err(Error::Flush)?;
        let finished = match Reader::from_source(path, source, None) {
            Ok(reader) => reader.metadata().contains_key(STOP_REASON_KEY),
            // Not a trace or damaged: the reader says so.
            Err(_) => true,
        };
        Ok(if finished { Self::Whole(file) } else { Self::Unlogged { file, log_damage } })
    }
}

/// Where the footer of a file begins, if it ends with one.
fn footer_start(mut file: &File, size_bytes: u64) -> io::Result<Option<u64>> {
    let Some(trailer_start) = size_bytes.checked_sub(TRAILER_BYTES) else { return Ok(None) };
    let mut trailer = [0; TRAILER_BYTES as usize];
    file.seek(SeekFrom::Start(trailer_start))?;
    file.read_exact(&mut trailer)?;
    let length = u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]);
    let start = trailer_start.checked_sub(u64::from(length));
    let start = start.filter(|start| *start >= MAGIC.len() as u64);
    Ok(start.filter(|_| trailer[4..] == *MAGIC))
}

fn open_log(path: &Path) -> Result<Option<File>, Error> {
    match File::open(log_path(path)) {
        Ok(log) if log.metadata().map_err(Error::Log)?.is_file() => Ok(Some(log)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::Log(error)),
    }
}

/// Whether a recorder holds the file.
fn is_locked(file: &File) -> bool {
    match file.try_lock_shared() {
        Ok(()) => {
            // Reading needs no lock, and must not keep one from a recorder or a repair.
            let _ = file.unlock();
            false
        }
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(_)) => false,
    }
}

/// Entries to end a trace with; what is said of it is in the recovery.
type Closing<'a> = &'a dyn Fn(&Recovery, Option<WallNanos>) -> Vec<Entry>;

fn closing(recovery: &Recovery, last_ts: Option<WallNanos>) -> Vec<Entry> {
    let reason = recovery.stop_reason.clone().unwrap_or_else(|| KILLED.to_owned());
    let value = serde_json::json!({
        "rows_from_log": recovery.rows_from_log,
        "torn_bytes": recovery.torn_bytes,
        "log_damage": recovery.log_damage,
    });
    let recovered = Entry { key: RECOVERED_KEY, value: value.to_string() };
    let stop_ts = last_ts.map(Entry::stop_ts);
    [Entry::stop_reason(reason), recovered].into_iter().chain(stop_ts).collect()
}

/// Ends a replayed trace: its open rows become the last row group, and a footer follows.
fn complete(
    path: &Path,
    file: &File,
    replayed: Replayed,
    closing: Closing<'_>,
) -> Result<Recovered, Error> {
    let Replayed { mut draft, torn_bytes, damage, end } = replayed;
    let end = end.map(|text| End::parse(&text));
    let recovery = Recovery {
        live: false,
        rows_from_log: draft.open.len() as u64,
        torn_bytes,
        stop_reason: end.as_ref().map(|end| end.stop_reason.clone()),
        log_damage: damage,
    };
    let stop_ts = end.as_ref().and_then(|end| end.stop_ts);
    for loss in end.into_iter().flat_map(|end| end.losses) {
        draft.open.keep(&loss, draft.next_seq).map_err(Error::Memory)?;
        draft.next_seq += 1;
    }
    let (head_bytes, first_group) = (draft.base_bytes, draft.groups.len());
    let mut tail = Vec::new();
    guarded(path, || draft.write_group(&mut tail))?;
    draft.totals = totals_with(path, file, &draft, head_bytes, &tail, first_group)?;
    let last_ts = stop_ts.or_else(|| last_ts(&draft));
    guarded(path, || draft.write_footer(&closing(&recovery, last_ts), &mut tail))?;
    Ok(Recovered { head_bytes, tail: tail.into(), recovery })
}

/// The totals of a draft with the rows of its newest groups, which are counted by reading them: a
/// log keeps rows, not what they add up to.
fn totals_with(
    path: &Path,
    file: &File,
    draft: &Draft,
    head_bytes: u64,
    tail: &[u8],
    first_group: usize,
) -> Result<Totals, Error> {
    let mut totals = draft.totals.clone();
    let mut whole = tail.to_vec();
    guarded(path, || draft.write_footer(&[], &mut whole))?;
    let file = file.try_clone().map_err(Error::Flush)?;
    let source = Source::with_tail(file, head_bytes, whole.into());
    for event in Reader::from_source(path, source, None)?.events_of_groups(first_group..usize::MAX)
    {
        totals.count(&event?);
    }
    Ok(totals)
}

/// The end of a file that has a footer, which only lacks to say so.
fn end_without_log(path: &Path, file: &File) -> Result<Recovered, Error> {
    let io_error = |source| Error::Open { path: path.to_owned(), source };
    let size_bytes = file.metadata().map_err(io_error)?.len();
    let start = footer_start(file, size_bytes).map_err(io_error)?;
    let start = start.ok_or_else(|| Error::damaged(path, "it has no footer"))?;
    let source = Source::new(file.try_clone().map_err(io_error)?).map_err(io_error)?;
    let length = (size_bytes - TRAILER_BYTES - start).min(MAX_FOOTER_BYTES);
    let bytes = source.get_bytes(start, length as usize).map_err(Error::Write)?;
    let reader = Reader::from_source(path, source, None)?;
    let mut draft = Draft::new(super::Keys::default(), Limits::default());
    reader.metadata().iter().for_each(|(key, value)| draft.keys.set_text(key, value.clone()));
    draft.columns = reader.known_columns()?;
    draft.groups = guarded(path, || footer::read(&bytes))?;
    draft.base_bytes = start;
    draft.totals = reader.totals()?;
    let mut tail = Vec::new();
    let entries = closing(&Recovery::default(), last_ts(&draft));
    guarded(path, || draft.write_footer(&entries, &mut tail))?;
    Ok(Recovered { head_bytes: start, tail: tail.into(), recovery: Recovery::default() })
}

/// The time of the last event, as the row groups' statistics have it.
fn last_ts(draft: &Draft) -> Option<WallNanos> {
    let latest = |group: &RowGroupMetaData| match group.column(Column::Ts as usize).statistics() {
        Some(Statistics::Int64(range)) => range.max_opt().copied().map(WallNanos),
        _ => None,
    };
    draft.groups.iter().filter(|group| group.num_columns() > 0).filter_map(latest).max()
}

/// Puts the tail where it belongs, to stay.
fn write_tail(mut file: &File, recovered: &Recovered) -> io::Result<()> {
    file.set_len(recovered.head_bytes)?;
    file.seek(SeekFrom::Start(recovered.head_bytes))?;
    file.write_all(&recovered.tail)?;
    file.sync_all()
}
