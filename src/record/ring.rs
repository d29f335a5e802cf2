//! The directory in which a flight recorder keeps its parts, and what it becomes at the end.
//!
//! Private to its owner, there only while the recorder runs or after it was killed. Then `repair`
//! does what the recorder would have done: it completes the last part from its log, puts all parts
//! together and removes the directory.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, BufWriter};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::names::{Names, number_of_ring_part};
use super::output::OutputError;
use super::owner::Owner;
use super::publish::Partial;
use crate::trace::{self, Error, Reader, Summary};

/// Parts that a directory is believed to have; a recorder has about a dozen.
const MAX_PARTS: usize = 512;

/// Checks that the directory can be made.
///
/// # Errors
/// When there is one of an unfinished recording and `force` is off, or one in use.
pub(super) fn check(names: &Names, force: bool) -> Result<(), OutputError> {
    let path = names.ring();
    match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(OutputError::Io { path, source }),
        Ok(found) if !found.is_dir() => Err(OutputError::NotAFile(path)),
        Ok(_) if !force => Err(OutputError::Unfinished(path)),
        Ok(_) => {
            let files = parts(&path).map_err(|source| io_error(&path, source))?;
            match files.iter().any(|file| is_locked(file)) {
                true => Err(OutputError::Busy(path)),
                false => Ok(()),
            }
        }
    }
}

/// Makes the directory, empty; one that is there is replaced if `force`.
///
/// # Errors
/// As [`check`], or when the system refuses.
pub(super) fn create(names: &Names, owner: Option<&Owner>, force: bool) -> Result<(), OutputError> {
    check(names, force)?;
    let path = names.ring();
    let make = || -> io::Result<()> {
        if std::fs::symlink_metadata(&path).is_ok() {
            remove(&path)?;
        }
        DirBuilder::new().mode(0o700).create(&path)?;
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW);
        let directory = options.open(&path)?;
        owner.map_or(Ok(()), |owner| owner.take(&directory))
    };
    make().map_err(|source| io_error(&path, source))
}

/// Makes the parts of a finished ring the trace, and removes them.
///
/// # Errors
/// When a part cannot be read or the trace cannot be written; the parts stay then.
pub(super) fn assemble(
    names: &Names,
    owner: Option<&Owner>,
    force: bool,
) -> Result<Summary, Error> {
    let directory = names.ring();
    let paths = parts(&directory).map_err(Error::Flush)?;
    let readers = paths.iter().map(|path| Reader::open(path)).collect::<Result<Vec<_>, _>>()?;
    let partial = Partial::begin(names.trace(), owner).map_err(Error::Flush)?;
    let sink = BufWriter::with_capacity(1 << 18, partial.file());
    let summary = trace::assemble(&readers, None, sink)?;
    partial.publish(force).map_err(Error::Flush)?;
    // The trace is whole; what of the parts cannot be removed is only in the way.
    let _ = remove(&directory);
    Ok(summary)
}

/// Finishes what a killed flight recorder left: completes its last part and makes the parts the
/// trace. `None` when there is no such directory.
///
/// # Errors
/// When it is in use, or as [`trace::repair`] and when the trace cannot be written.
pub fn repair(
    trace: &Path,
    owner: Option<&Owner>,
    force: bool,
) -> Result<Option<(trace::Recovery, Summary)>, Error> {
    let names = Names::of(trace);
    let directory = names.ring();
    if !std::fs::symlink_metadata(&directory).is_ok_and(|found| found.is_dir()) {
        return Ok(None);
    }
    let paths = parts(&directory).map_err(|source| open_error(&directory, source))?;
    if paths.iter().any(|path| is_locked(path)) {
        return Err(Error::Live { path: trace.to_owned() });
    }
    if !force && std::fs::symlink_metadata(trace).is_ok() {
        // Killed between making the trace and removing the parts, or the name was used again.
        return Err(open_error(trace, io::ErrorKind::AlreadyExists.into()));
    }
    let mut recovery = trace::Recovery::default();
    for path in &paths {
        match trace::repair(path) {
            Ok(repaired) => {
                recovery.rows_from_log += repaired.recovery.rows_from_log;
                recovery.torn_bytes += repaired.recovery.torn_bytes;
                let found = repaired.recovery;
                recovery.stop_reason = found.stop_reason.or(recovery.stop_reason);
                recovery.log_damage = found.log_damage.or(recovery.log_damage);
            }
            // Killed while it began this part: nothing is in it yet.
            Err(Error::NotParquet { .. } | Error::Truncated { .. })
                if path == paths.last().unwrap_or(path) =>
            {
                std::fs::remove_file(path).map_err(Error::Flush)?;
            }
            Err(error) => return Err(error),
        }
    }
    assemble(&names, owner, force).map(|summary| Some((recovery, summary)))
}

/// The parts of a directory in their order.
fn parts(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<(u32, OsString)> = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(number) = number_of_ring_part(&entry.file_name()) {
            found.push((number, entry.file_name()));
        }
        if found.len() > MAX_PARTS {
            return Err(io::Error::other(format!("expected at most {MAX_PARTS} parts")));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, name)| directory.join(name)).collect())
}

/// Removes the parts, their logs, and the directory if nothing else is in it.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    for part in parts(directory)? {
        super::store::remove(&part)?;
    }
    std::fs::remove_dir(directory)
}

/// Whether a recorder writes this part.
fn is_locked(path: &Path) -> bool {
    let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn io_error(path: &Path, source: io::Error) -> OutputError {
    OutputError::Io { path: path.to_owned(), source }
}

fn open_error(path: &Path, source: io::Error) -> Error {
    Error::Open { path: path.to_owned(), source }
}
