//! The package that a program belongs to, read from its files without running it.
//!
//! A version is read where packages state it: in the nearest `package.json` above the program, or as
//! the name of a version directory. Files are looked for through the process's own root directory
//! and are hostile: regular files only, bounded, opened without waiting, and no symbolic link leads
//! out of that root.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Largest `package.json` read; the largest in use have some 100 KB.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// Directories looked into for one: that of the program and those above it.
const MANIFEST_LEVELS: usize = 5;
/// Longest name or version kept, in characters.
const LONGEST_NAME_CHARS: usize = 128;

/// What is known of the package of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Package {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
}

/// The package of `program`, a path of the process whose directory in `/proc` is given; `None` when
/// nothing is known of it, or the process is gone.
#[must_use]
pub fn find(process: &Path, program: &Path) -> Option<Package> {
    let root = Root::open(&process.join("root")).ok()?;
    let program = root.real_path(program).ok()?;
    if let Some(version) = version_of_path(&program) {
        return Some(Package { name: None, version: Some(version) });
    }
    // Directories within a package often have a manifest that only says how to load their files:
    // it has no version. The root directory is nobody's package.
    let directories = program.ancestors().skip(1).take(MANIFEST_LEVELS);
    let packages = directories.filter(|directory| directory.parent().is_some());
    packages.into_iter().find_map(|directory| root.manifest(&directory.join("package.json")))
}

/// A manifest that names a version.
fn parse_manifest(bytes: &[u8]) -> Option<Package> {
    let manifest: Package = serde_json::from_slice(bytes).ok()?;
    let plain = |text: String| -> Option<String> {
        let text: String =
            text.chars().filter(|c| !c.is_control()).take(LONGEST_NAME_CHARS).collect();
        (!text.is_empty()).then_some(text)
    };
    let version = plain(manifest.version?)?;
    Some(Package { name: manifest.name.and_then(plain), version: Some(version) })
}

/// `2.1.197` of `.../versions/2.1.197` or `.../versions/2.1.197/bin/agent`: how installers that keep
/// several versions name them.
#[must_use]
pub fn version_of_path(path: &Path) -> Option<String> {
    let mut names = path.iter().map(|name| name.to_string_lossy());
    names.find(|name| name == "versions")?;
    let name = names.next()?;
    let version = name.strip_prefix('v').unwrap_or(&name);
    let is_version = version.split(['.', '-', '+']).count() >= 2
        && version.starts_with(|c: char| c.is_ascii_digit())
        && version.chars().all(|c| c.is_ascii_alphanumeric() || ".-+_".contains(c));
    (is_version && version.len() <= LONGEST_NAME_CHARS).then(|| version.to_owned())
}

/// The root directory of a process, and the only way to its files.
struct Root(OwnedFd);

impl Root {
    fn open(path: &Path) -> io::Result<Self> {
        let directory = open_at(libc::AT_FDCWD, path, libc::O_PATH | libc::O_DIRECTORY, 0)?;
        Ok(Self(directory))
    }

    /// A regular file of the process, named but not opened, as a path of this process.
    fn file(&self, path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
        let inside = path.strip_prefix("/").unwrap_or(path);
        let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
        let named = open_at(self.0.as_raw_fd(), inside, libc::O_PATH, resolve)?;
        let own = PathBuf::from(format!("/proc/self/fd/{}", named.as_raw_fd()));
        if !std::fs::metadata(&own)?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok((named, own))
    }

    /// Where a path of the process leads, symbolic links followed.
    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        let (_named, own) = self.file(path)?;
        let real = std::fs::read_link(own)?;
        // Seen from here, the path begins with what lies above the process's root.
        let root = std::fs::read_link(format!("/proc/self/fd/{}", self.0.as_raw_fd()))?;
        Ok(Path::new("/").join(real.strip_prefix(&root).unwrap_or(&real)))
    }

    fn manifest(&self, path: &Path) -> Option<Package> {
        use std::os::unix::fs::OpenOptionsExt;
        let (_named, own) = self.file(path).ok()?;
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(own).ok()?;
        let mut bytes = Vec::new();
        file.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 <= MAX_MANIFEST_BYTES).then(|| parse_manifest(&bytes))?
    }
}

/// `openat2(2)`, which alone keeps symbolic links of a file system below a root that is not ours.
fn open_at(
    directory: libc::c_int,
    path: &Path,
    flags: libc::c_int,
    resolve: u64,
) -> io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all zeros is a value of this struct of integers.
    #[expect(unsafe_code, reason = "libc does not let the struct be built field by field")]
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = resolve;
    // SAFETY: the path ends with NUL, `how` has the size that is passed, and both outlive the call;
    // the descriptor it returns is owned by nobody else.
    #[expect(unsafe_code, reason = "std does not offer openat2")]
    unsafe {
        let descriptor = libc::syscall(
            libc::SYS_openat2,
            directory,
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        );
        let descriptor = libc::c_int::try_from(descriptor).unwrap_or(-1);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

#[cfg(test)]
mod tests;
