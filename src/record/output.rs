//! The output file: private, owned by the invoking user, never overwritten by accident, and written
//! by one recorder only.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::owner::Owner;
use crate::trace::{self, CreateFile};

/// Why the output file cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Something is there already.
    #[error("{0} exists already")]
    Exists(PathBuf),
    /// There is the log of a recording that was not finished.
    #[error("{0} exists: a recording of that name was not finished")]
    Unfinished(PathBuf),
    /// Another recorder writes it.
    #[error("{0} is being written by another recorder")]
    Busy(PathBuf),
    /// It is not a regular file, so replacing it would be a surprise.
    #[error("{0} is not a regular file")]
    NotAFile(PathBuf),
    /// The system refused.
    #[error("{path} cannot be written")]
    Io {
        /// The output file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl OutputError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Exists(_) => "give another name with -o, or --force to replace it",
            Self::Unfinished(_) => {
                "complete that recording with agentsight-rec repair, give another name with -o, or --force to replace it"
            }
            Self::Busy(_) => "give another name with -o",
            Self::NotAFile(_) => "give the name of a file with -o",
            Self::Io { .. } => "give a name in a directory you may write to with -o",
        }
    }
}

/// An output path that was found usable; nothing has been written yet.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    force: bool,
}

impl Output {
    /// Checks the path without touching it, so that a mistake is told before any set-up.
    ///
    /// # Errors
    /// When the file exists and `force` is off, is not a regular file, or its directory is missing.
    pub fn check(path: &Path, force: bool) -> Result<Self, OutputError> {
        let owned = path.to_owned();
        let log = trace::log_path(path);
        if !force && std::fs::symlink_metadata(&log).is_ok() {
            return Err(OutputError::Unfinished(log));
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.is_file() => Err(OutputError::NotAFile(owned)),
            Ok(_) if !force => Err(OutputError::Exists(owned)),
            Ok(_) => Ok(Self { path: owned, force }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                match std::fs::metadata(parent.unwrap_or(Path::new("."))) {
                    Ok(directory) if directory.is_dir() => Ok(Self { path: owned, force }),
                    Ok(_) => Err(OutputError::Io {
                        path: owned,
                        source: io::ErrorKind::NotADirectory.into(),
                    }),
                    Err(source) => Err(OutputError::Io { path: owned, source }),
                }
            }
            Err(source) => Err(OutputError::Io { path: owned, source }),
        }
    }

    /// Creates the file, empty, with mode 0600, locks it and gives it to `owner`.
    ///
    /// # Errors
    /// When it appeared since the check, another recorder has it, or the system refuses.
    pub fn create(&self, owner: Option<&Owner>) -> Result<File, OutputError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => OutputError::Exists(self.path.clone()),
            _ => OutputError::Io { path: self.path.clone(), source },
        };
        let mut options = private();
        // Not truncated before it is ours alone.
        let options = if self.force { options.create(true) } else { options.create_new(true) };
        let file = options.open(&self.path).map_err(failed)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(OutputError::Busy(self.path.clone())),
            // A file system without locks; the recording is none the worse.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        file.set_len(0).and_then(|()| give(&file, owner)).map_err(failed)?;
        Ok(file)
    }

    /// Makes the files that come to stand beside it, as private as it is.
    #[must_use]
    pub fn create_beside(owner: Option<&Owner>) -> CreateFile {
        let owner = owner.cloned();
        Box::new(move |path| {
            let file = private().create_new(true).open(path)?;
            give(&file, owner.as_ref())?;
            Ok(file)
        })
    }

    /// Takes away what was made of it, for a recording that came to nothing.
    pub fn discard(&self) {
        // What cannot be removed was not made, or is told by the failure that led here.
        let _ = std::fs::remove_file(&self.path);
        let _ = trace::remove_logs(&self.path);
    }

    /// Where it will be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// To open a file that only its owner may read. The directory may be somebody else's: never follow
/// a link planted there as root.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options
}

fn give(file: &File, owner: Option<&Owner>) -> io::Result<()> {
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    owner.map_or(Ok(()), |owner| owner.take(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_kept_unless_forced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.parquet");
        std::fs::write(&path, "precious").unwrap();

        let error = Output::check(&path, false).unwrap_err();
        assert!(matches!(error, OutputError::Exists(_)) && error.hint().contains("--force"));
        let output = Output::check(&path, true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"precious", "a check writes nothing");

        output.create(None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_appears_after_the_check_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.parquet");
        let output = Output::check(&path, false).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(output.create(None), Err(OutputError::Exists(_))));
    }

    #[test]
    fn an_unfinished_recording_is_kept_and_a_running_one_also_from_force() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.parquet");
        let running = Output::check(&path, false).unwrap().create(None).unwrap();
        let second = Output::check(&path, true).unwrap();
        assert!(matches!(second.create(None), Err(OutputError::Busy(_))));
        drop(running);
        second.create(None).unwrap();

        std::fs::remove_file(&path).unwrap();
        std::fs::write(trace::log_path(&path), "rows").unwrap();
        let error = Output::check(&path, false).unwrap_err();
        assert!(matches!(error, OutputError::Unfinished(_)) && error.hint().contains("repair"));
        Output::check(&path, true).unwrap();
    }

    #[test]
    fn links_directories_and_missing_directories_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
        assert!(matches!(Output::check(&link, true), Err(OutputError::NotAFile(_))));
        assert!(matches!(Output::check(directory.path(), true), Err(OutputError::NotAFile(_))));
        let nowhere = directory.path().join("no/such/run.parquet");
        assert!(matches!(Output::check(&nowhere, false), Err(OutputError::Io { .. })));
    }
}
