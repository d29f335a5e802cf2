//! A file that appears under its name only when it is whole.
//!
//! It is written beside that name, private and owned by the invoking user, and renamed at the end;
//! when that end is not reached it is removed. A killed process leaves `.NAME.PID.partial` behind,
//! which no reader takes for a trace.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::owner::Owner;

/// A file under way to its name.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    /// Whether it has its name.
    is_published: bool,
}

impl Partial {
    /// Begins a file that is to be at `path`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn begin(path: &Path, owner: Option<&Owner>) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut partial_name = OsString::from(".");
        partial_name.push(name);
        partial_name.push(format!(".{}.partial", std::process::id()));
        let partial = path.with_file_name(partial_name);
        // Left behind by a killed process of the same id; whatever it is, it is not followed.
        match std::fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = create_private(&partial, owner)?;
        Ok(Self { path: path.to_owned(), partial, file, is_published: false })
    }

    /// What to write to.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name, durably; what has that name is replaced only if `replace`.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when something has that name, or what the system said.
    pub fn publish(mut self, replace: bool) -> io::Result<()> {
        self.file.sync_all()?;
        if replace {
            std::fs::rename(&self.partial, &self.path)?;
        } else {
            match std::fs::hard_link(&self.partial, &self.path) {
                Ok(()) => std::fs::remove_file(&self.partial)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
                // A file system without links; what comes between the look and the rename is lost.
                Err(_) if std::fs::symlink_metadata(&self.path).is_ok() => {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                Err(_) => std::fs::rename(&self.partial, &self.path)?,
            }
        }
        self.is_published = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_published {
            // There is nothing more to be done about a file that cannot be removed.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

/// Creates a file with mode 0600 where there is nothing, and gives it to `owner`.
///
/// # Errors
/// When there is something already, or the system refuses.
pub fn create_private(path: &Path, owner: Option<&Owner>) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // The directory may be somebody else's: never follow a link planted there as root.
    options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    if let Some(owner) = owner {
        owner.take(&file)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cut.parquet");
        let partial = Partial::begin(&path, None).unwrap();
        partial.file().write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(partial);
        assert_eq!(names(directory.path()), [""; 0], "what was not finished is gone");

        let partial = Partial::begin(&path, None).unwrap();
        partial.file().write_all(b"whole").unwrap();
        partial.publish(false).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(directory.path()), ["cut.parquet"]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_has_the_name_is_replaced_only_when_told_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cut.parquet");
        std::fs::write(&path, "precious").unwrap();
        let error = Partial::begin(&path, None).unwrap().publish(false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        Partial::begin(&path, None).unwrap().publish(true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        assert_eq!(names(directory.path()), ["cut.parquet"]);
    }
}
