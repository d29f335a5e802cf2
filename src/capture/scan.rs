//! Which files are worth looking into for TLS functions, and not looking into any of them twice.
//!
//! An agent's TLS library is in its executable, in a shared libssl, or in one of a few libraries
//! that carry their own. Every other mapped file is left alone: looking into all of them would
//! read gigabytes and find only marks of libraries that nobody calls.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::known::Known;
use super::procfs::MappedFile;
use super::tls_library::{self, Outcome};

/// Beginnings of the names of shared TLS libraries, however they go on: wheels put a hash behind
/// them, conda nothing.
const SHARED: &[&str] = &["libssl", "libgnutls"];
/// A cover of libgnutls under OpenSSL's names: what passes it passes libgnutls as well.
const COVER: &str = "libgnutls-openssl";
/// Beginnings of the names of shared libraries that carry a TLS library of their own.
const CARRIERS: &[&str] = &[
    "cygrpc.",
    "libcurl-impersonate",
    "libconscrypt",
    "libnetty_tcnative",
    "libnode.so",
    "libcronet",
];
/// Where libraries are whatever `/etc/ld.so.conf` says.
const LIBRARY_DIRECTORIES: &[&str] =
    &["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"];
/// The loader's index of all libraries (`ldconfig(8)`).
const LOADER_CACHE: &str = "/etc/ld.so.cache";
/// Most bytes of it read; a large workstation has 300 KB.
const MAX_CACHE_BYTES: u64 = 16 << 20;
/// Most outcomes remembered. A host has some hundred programs; what exceeds this is build output.
const MAX_REMEMBERED: usize = 4096;

/// One version of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileVersion {
    /// Device number, as `stat(2)` gives it.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Size.
    pub size_bytes: u64,
    /// Last modification: seconds and nanoseconds since 1970.
    pub modified: (i64, i64),
}

impl From<&Metadata> for FileVersion {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// What was found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// Which file it was; two paths to it give the same.
    pub version: FileVersion,
    /// What came of it.
    pub outcome: Outcome,
    /// Whether this is the first answer for this version of the file.
    pub first: bool,
}

/// Looks for TLS functions and remembers the answers.
#[derive(Debug, Default)]
pub struct TlsFinder {
    remembered: HashMap<FileVersion, Outcome>,
    /// What former recordings found.
    known: Option<Known>,
}

impl TlsFinder {
    /// One that remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One that knows what former recordings found, if there is a place for that.
    #[must_use]
    pub fn with(known: Option<Known>) -> Self {
        Self { known, ..Self::default() }
    }

    /// What is in the file at `path`, which is where the recorder reaches it.
    ///
    /// # Errors
    /// When the file cannot be read; nothing is remembered then.
    pub fn examine(&mut self, path: &Path) -> io::Result<Examined> {
        let version = FileVersion::from(&std::fs::metadata(path)?);
        if let Some(outcome) = self.remembered.get(&version) {
            return Ok(Examined { version, outcome: outcome.clone(), first: false });
        }
        let outcome = match &self.known {
            Some(known) => known.outcome(path)?,
            None => tls_library::find(path)?,
        };
        if self.remembered.len() >= MAX_REMEMBERED {
            // Rare enough that starting over is cheaper than an order of use.
            self.remembered.clear();
        }
        self.remembered.insert(version, outcome.clone());
        Ok(Examined { version, outcome, first: true })
    }
}

/// Whether a mapped file may hold a TLS library that its process calls. `exe` is the process's
/// executable, as the process sees it.
#[must_use]
pub fn worth_examining(file: &MappedFile, exe: Option<&str>) -> bool {
    if exe == Some(&*file.path) {
        return true;
    }
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let begins = |beginnings: &[&str]| beginnings.iter().any(|b| name.starts_with(b));
    (begins(SHARED) || begins(CARRIERS)) && !begins(&[COVER])
}

/// The shared TLS libraries of the host, each once, ordered by path: to be probed before a process
/// maps them.
#[must_use]
pub fn system_tls_libraries() -> Vec<PathBuf> {
    let mut candidates = cached_libraries(Path::new(LOADER_CACHE));
    for directory in LIBRARY_DIRECTORIES.iter().map(Path::new) {
        candidates.extend(libraries_in(directory));
        // Debian keeps each architecture in a directory of its own (`x86_64-linux-gnu`).
        let inner = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let inner = inner.filter(|entry| entry.file_name().as_encoded_bytes().ends_with(b"-gnu"));
        candidates.extend(inner.flat_map(|entry| libraries_in(&entry.path())));
    }
    distinct_files(candidates)
}

/// One path per file, the first in order of path; what cannot be reached is left out.
fn distinct_files(candidates: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        candidates.iter().filter_map(|path| std::fs::canonicalize(path).ok()).collect();
    paths.sort();
    let mut seen = std::collections::HashSet::new();
    paths.retain(|path| {
        let metadata = std::fs::metadata(path).ok().filter(Metadata::is_file);
        metadata.is_some_and(|metadata| seen.insert(FileVersion::from(&metadata)))
    });
    paths
}

fn is_shared_tls(name: &[u8]) -> bool {
    name.starts_with(b"libssl.so") || name.starts_with(b"libgnutls.so")
}

fn libraries_in(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let named = entries.filter(|entry| is_shared_tls(entry.file_name().as_encoded_bytes()));
    named.map(|entry| entry.path()).collect()
}

/// The paths of TLS libraries in a loader cache. Both of its formats end with a table of NUL-terminated
/// strings, so the strings are searched and the entries that refer to them are not trusted.
fn cached_libraries(cache: &Path) -> Vec<PathBuf> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(cache);
    if file.and_then(|file| file.take(MAX_CACHE_BYTES).read_to_end(&mut bytes)).is_err() {
        return Vec::new();
    }
    let strings = bytes.split(|&byte| byte == 0).filter(|string| string.starts_with(b"/"));
    let libraries = strings.filter(|string| {
        string.len() < 4096 && string.rsplit(|&byte| byte == b'/').next().is_some_and(is_shared_tls)
    });
    libraries.map(|string| PathBuf::from(String::from_utf8_lossy(string).into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(path: &str) -> MappedFile {
        MappedFile {
            path: path.to_owned(),
            device: (8, 1),
            inode: 1,
            deleted: false,
            tracer_path: PathBuf::from(path),
        }
    }

    #[test]
    fn the_executable_and_carriers_are_examined_and_other_libraries_are_not() {
        let worth = |path| worth_examining(&mapped(path), Some("/opt/claude"));
        assert!(worth("/opt/claude"));
        assert!(worth("/usr/lib/libssl.so.3"));
        assert!(worth("/venv/libs/libssl-1e2c4f2f.so.3"));
        assert!(worth("/usr/lib/libgnutls.so.30"));
        assert!(worth("/venv/grpc/_cython/cygrpc.cpython-311-x86_64-linux-gnu.so"));
        assert!(!worth("/usr/lib/libgnutls-openssl.so.27"));
        assert!(!worth("/usr/lib/libc.so.6"));
        assert!(!worth("/usr/lib/libcrypto.so.3"));
        assert!(!worth("/usr/lib/libssl.so.3/other"));
    }

    #[test]
    fn an_answer_is_remembered_until_the_file_changes() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("a"), directory.path().join("b"));
        std::fs::write(&path, b"no program").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut finder = TlsFinder::new();
        let first = finder.examine(&path).unwrap();
        assert!(first.first && first.outcome == Outcome::Absent { build_id: None });
        let again = finder.examine(&link).unwrap();
        assert!(!again.first && again.version == first.version);
        std::fs::write(&path, b"another one").unwrap();
        assert!(finder.examine(&path).unwrap().first);
        assert!(finder.examine(&directory.path().join("missing")).is_err());
    }

    #[test]
    fn libraries_are_found_in_a_loader_cache_and_damage_is_survived() {
        let directory = tempfile::tempdir().unwrap();
        let cache = directory.path().join("cache");
        let bytes = b"glibc-ld.so.cache1.1\x02\0\0\0libssl.so.3\0/usr/lib/libssl.so.3\0\
                      /usr/lib/libssl3.so\0/opt/x/libssl.so.1.1\0/usr/lib/libc.so.6\0\
                      /usr/lib/libgnutls.so.30\0";
        std::fs::write(&cache, bytes).unwrap();
        let found = cached_libraries(&cache);
        let expected = ["/usr/lib/libssl.so.3", "/opt/x/libssl.so.1.1", "/usr/lib/libgnutls.so.30"];
        assert_eq!(found, expected.map(PathBuf::from));
        std::fs::write(&cache, [b'/'; 300]).unwrap();
        assert_eq!(cached_libraries(&cache), [] as [PathBuf; 0]);
        assert_eq!(cached_libraries(Path::new("/no/such/cache")), [] as [PathBuf; 0]);
    }

    #[test]
    fn a_file_with_two_paths_is_listed_once() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("libssl.so.3");
        std::fs::write(&real, b"x").unwrap();
        std::os::unix::fs::symlink(&real, directory.path().join("libssl.so")).unwrap();
        std::fs::hard_link(&real, directory.path().join("libssl.so.3.0")).unwrap();
        std::os::unix::fs::symlink("nowhere", directory.path().join("libssl.so.9")).unwrap();
        let candidates = libraries_in(directory.path());
        assert_eq!(candidates.len(), 4);
        let found = distinct_files(candidates);
        assert_eq!(found, [std::fs::canonicalize(&real).unwrap()]);
    }

    #[test]
    fn system_libraries_hold_what_they_promise() {
        let mut finder = TlsFinder::new();
        for path in system_tls_libraries() {
            let examined = finder.examine(&path).unwrap();
            assert!(matches!(examined.outcome, Outcome::Found(_)), "{path:?}: {examined:?}");
        }
    }
}
