//! The output file: private, owned by the invoking user, never overwritten by accident.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::owner::Owner;

/// Why the output file cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Something is there already.
    #[error("{0} exists already")]
    Exists(PathBuf),
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

    /// Creates the file with mode 0600 and gives it to `owner`.
    ///
    /// # Errors
    /// When it appeared since the check or the system refuses.
    pub fn create(&self, owner: Option<&Owner>) -> Result<File, OutputError> {
        self.open(owner).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => OutputError::Exists(self.path.clone()),
            _ => OutputError::Io { path: self.path.clone(), source },
        })
    }

    /// Where it will be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self, owner: Option<&Owner>) -> io::Result<File> {
        let mut options = OpenOptions::new();
        // The directory may be somebody else's: never follow a link planted there as root.
        options.read(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = if self.force {
            options.create(true).truncate(true).open(&self.path)?
        } else {
            options.create_new(true).open(&self.path)?
        };
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        if let Some(owner) = owner {
            owner.take(&file)?;
        }
        Ok(file)
    }
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
