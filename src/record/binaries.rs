//! Which programs the agents of a recording are: path, size, build-id, package and version.
//!
//! A version is read where packages state it: in the nearest `package.json` above the program (of an
//! interpreter: above its script), or as the name of a version directory. Nothing is executed to ask
//! it. Files are looked for through the process's own root directory, and are hostile: regular files
//! only, bounded, opened without waiting, and no symbolic link leads out of that root.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::capture::matching;
use crate::event::Image;
use crate::trace::{Binary, Entry};

/// Binaries remembered; an agent has a handful.
const MOST_BINARIES: usize = 256;
/// Longest path looked at and kept, in bytes: that of the kernel.
const LONGEST_PATH_BYTES: usize = 4096;
/// Largest `package.json` read; the largest in use have some 100 KB.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// Directories looked into for one: that of the program and those above it.
const MANIFEST_LEVELS: usize = 5;
/// Longest name or version kept, in characters.
const LONGEST_NAME_CHARS: usize = 128;

/// The binaries of one recording.
#[derive(Debug, Default)]
pub struct Binaries {
    /// By path and script.
    known: BTreeMap<(String, Option<String>), Binary>,
    changed: bool,
}

impl Binaries {
    /// Takes what is known of a program; what is known already is completed, not replaced.
    pub fn add(&mut self, binary: Binary) {
        let key = (binary.path.clone(), binary.script.clone());
        if !self.known.contains_key(&key) && self.known.len() >= MOST_BINARIES {
            return;
        }
        let known = self.known.entry(key).or_insert_with(|| {
            self.changed = true;
            Binary { path: binary.path.clone(), script: binary.script.clone(), ..Binary::default() }
        });
        let before = known.clone();
        // A program that was updated while it was recorded is described as it was first seen.
        known.size_bytes = known.size_bytes.or(binary.size_bytes);
        known.build_id = known.build_id.take().or(binary.build_id);
        known.package = known.package.take().or(binary.package);
        known.version = known.version.take().or(binary.version);
        known.matched |= binary.matched;
        self.changed |= before != *known;
    }

    /// The entry of the metadata, if it has changed since it was last taken.
    pub fn take_entry(&mut self) -> Option<Entry> {
        std::mem::take(&mut self.changed).then(|| {
            let binaries: Vec<Binary> = self.known.values().cloned().collect();
            Entry::binaries(&binaries)
        })
    }
}

/// What the start of a program alone tells; `None` when that is nothing, or when it is `env`, which
/// only starts the program it is about.
#[must_use]
pub fn of_image(image: &Image) -> Option<Binary> {
    let path = image.exe.as_deref().filter(|path| path.len() <= LONGEST_PATH_BYTES)?;
    if path.ends_with("/env") {
        return None;
    }
    Some(Binary {
        path: path.to_owned(),
        script: script_of(image),
        matched: image.matched,
        ..Binary::default()
    })
}

/// The same with what its files tell. `process` is its directory in `/proc`; `build_id` is known
/// from looking into the file.
#[must_use]
pub fn describe(process: &Path, image: &Image, build_id: Option<String>) -> Option<Binary> {
    let binary = of_image(image)?;
    let size_bytes = std::fs::metadata(process.join("exe")).ok().map(|file| file.len());
    let Manifest { name, version } = Root::open(&process.join("root"))
        .ok()
        .and_then(|root| {
            let program = match &binary.script {
                Some(script) => root.real_path(Path::new(script)).ok()?,
                None => PathBuf::from(&binary.path),
            };
            package_of(&root, &program)
        })
        .unwrap_or_default();
    Some(Binary { size_bytes, build_id, package: name, version, ..binary })
}

/// Path of the script that an interpreter runs, as far as its arguments tell; a module that is
/// looked up by name has none.
fn script_of(image: &Image) -> Option<String> {
    let script = matching::script_argument(image.exe.as_deref(), &image.argv)?;
    if script.starts_with('/') {
        return Some(script.to_owned()).filter(|path| path.len() <= LONGEST_PATH_BYTES);
    }
    let path = format!("{}/{script}", image.cwd.as_deref()?.trim_end_matches('/'));
    (path.len() <= LONGEST_PATH_BYTES).then_some(path)
}

/// What a `package.json` says of its package.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
struct Manifest {
    name: Option<String>,
    version: Option<String>,
}

/// What is known of the package of a program.
fn package_of(root: &Root, program: &Path) -> Option<Manifest> {
    if let Some(version) = version_of_path(program) {
        return Some(Manifest { name: None, version: Some(version) });
    }
    // Directories within a package often have a manifest that only says how to load their files:
    // it has no version. The root directory is nobody's package.
    let directories = program.ancestors().skip(1).take(MANIFEST_LEVELS);
    let packages = directories.filter(|directory| directory.parent().is_some());
    packages.into_iter().find_map(|directory| root.manifest(&directory.join("package.json")))
}

/// A manifest that names a version.
fn parse_manifest(bytes: &[u8]) -> Option<Manifest> {
    let manifest: Manifest = serde_json::from_slice(bytes).ok()?;
    let plain = |text: String| -> Option<String> {
        let text: String =
            text.chars().filter(|c| !c.is_control()).take(LONGEST_NAME_CHARS).collect();
        (!text.is_empty()).then_some(text)
    };
    let version = plain(manifest.version?)?;
    Some(Manifest { name: manifest.name.and_then(plain), version: Some(version) })
}

/// `2.1.197` of `.../versions/2.1.197` or `.../versions/2.1.197/bin/agent`: how installers that keep
/// several versions name them.
fn version_of_path(path: &Path) -> Option<String> {
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

    fn manifest(&self, path: &Path) -> Option<Manifest> {
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
