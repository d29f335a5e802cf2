//! Answers about binaries, kept on disk from one recording to the next.
//!
//! Looking into a large agent takes a tenth of a second and more, which is time in which a program
//! that starts is not recorded. What came of it is kept, one small file per binary, and holds for
//! binaries of the same build-id, size and code, and for this version of the resolvers.
//!
//! A probe in a wrong place can crash any process that has the file mapped, whoever owns it, so that
//! an answer is believed only if nobody else can have written it (the file and its directory belong
//! to the user the recorder runs as, and no other user may write to them), and if the bytes at every
//! site are still those that were seen. All else counts as no answer, never as an error: the binary
//! is looked into again.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::tls_library::{self, Identity, Outcome};

/// What the resolvers' source was when this program was built: another source, other answers.
const RESOLVERS: &str = env!("AGENTSIGHT_RESOLVERS");
/// What takes less than this to look into is not kept.
const WORTH_KEEPING: Duration = Duration::from_millis(3);
/// Largest answer read; real ones have some hundred bytes.
const MAX_ANSWER_BYTES: u64 = 64 << 10;
/// Most answers kept; an agent has a release a day.
const MAX_ANSWERS: usize = 1000;
/// Bytes remembered of every site.
const SITE_BYTES: usize = 16;

/// A directory of answers.
#[derive(Clone, Debug)]
pub struct Known {
    directory: PathBuf,
    worth_keeping: Duration,
}

/// What is written down of one binary.
#[derive(Serialize, Deserialize)]
struct Answer {
    resolvers: String,
    size_bytes: u64,
    build_id: Option<String>,
    fingerprint: String,
    outcome: Outcome,
    /// What stands at each site, in the order in which [`Outcome::sites`] names them.
    bytes_at_sites: Vec<[u8; SITE_BYTES]>,
}

impl Known {
    /// Those of the user that the recorder runs as: below `AGENTSIGHT_CACHE_DIR`, else for root in
    /// `/var/cache/agentsight` (not in the home of who typed `sudo`, who must not be able to have
    /// probes put anywhere), else in the user's cache directory. `None` if there is no such place.
    #[must_use]
    pub fn of_user(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<Self> {
        let cache = match variable("AGENTSIGHT_CACHE_DIR") {
            Some(directory) => PathBuf::from(directory),
            None if user() == 0 => PathBuf::from("/var/cache/agentsight"),
            None => match variable("XDG_CACHE_HOME") {
                Some(directory) => PathBuf::from(directory).join("agentsight"),
                None => PathBuf::from(variable("HOME")?).join(".cache/agentsight"),
            },
        };
        cache.is_absolute().then(|| Self::in_directory(cache.join("tls-functions")))
    }

    /// Those in a directory, which is made when there is something to keep.
    #[must_use]
    pub fn in_directory(directory: PathBuf) -> Self {
        Self { directory, worth_keeping: WORTH_KEEPING }
    }

    /// What is in the file at `path`: as remembered, or by looking into it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn outcome(&self, path: &Path) -> io::Result<Outcome> {
        let absent = Outcome::Absent { build_id: None };
        let Some(file) = tls_library::open(path)? else { return Ok(absent) };
        let Some(identity) = tls_library::identify(&file)? else { return Ok(absent) };
        if let Some(outcome) = self.remembered(&identity, &file) {
            return Ok(outcome);
        }
        let started = Instant::now();
        let outcome = tls_library::find_in(file.try_clone()?)?;
        if started.elapsed() >= self.worth_keeping {
            // A full or read-only disk costs time with the next recording, nothing else.
            let _ = self.keep(&identity, &outcome, &file);
        }
        Ok(outcome)
    }

    fn place(&self, identity: &Identity) -> PathBuf {
        self.directory.join(format!("{}.json", fingerprint(identity)))
    }

    fn remembered(&self, identity: &Identity, file: &File) -> Option<Outcome> {
        if !is_own_directory(&self.directory) {
            return None;
        }
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let mut options = OpenOptions::new();
        let answer = options.read(true).custom_flags(flags).open(self.place(identity)).ok()?;
        let metadata = answer.metadata().ok()?;
        let own = metadata.is_file() && metadata.nlink() == 1 && belongs_to_user(&metadata);
        if !own || metadata.len() > MAX_ANSWER_BYTES {
            return None;
        }
        let mut bytes = Vec::new();
        answer.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes).ok()?;
        let answer: Answer = serde_json::from_slice(&bytes).ok()?;
        let same = answer.resolvers == RESOLVERS
            && answer.size_bytes == identity.size_bytes
            && answer.build_id == identity.build_id
            && answer.fingerprint == fingerprint(identity)
            && answer.outcome.build_id() == identity.build_id.as_deref();
        let at_sites = bytes_at_sites(&answer.outcome, file)?;
        (same && at_sites == answer.bytes_at_sites).then_some(answer.outcome)
    }

    fn keep(&self, identity: &Identity, outcome: &Outcome, file: &File) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let full = || std::fs::read_dir(&self.directory).map_or(0, Iterator::count) >= MAX_ANSWERS;
        let Some(bytes_at_sites) = bytes_at_sites(outcome, file) else { return Ok(()) };
        if !is_own_directory(&self.directory) || full() {
            return Ok(());
        }
        let answer = Answer {
            resolvers: RESOLVERS.to_owned(),
            size_bytes: identity.size_bytes,
            build_id: identity.build_id.clone(),
            fingerprint: fingerprint(identity),
            outcome: outcome.clone(),
            bytes_at_sites,
        };
        let place = self.place(identity);
        let part = place.with_extension(format!("{}.part", std::process::id()));
        let mut written =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        let moved = written
            .write_all(&serde_json::to_vec(&answer)?)
            .and_then(|()| std::fs::rename(&part, &place));
        moved.inspect_err(|_| drop(std::fs::remove_file(&part)))
    }
}

/// Of the sample of its code, as text.
fn fingerprint(identity: &Identity) -> String {
    format!("{:032x}", xxh3_128(&identity.sample))
}

/// The bytes at all sites of an outcome; `None` if the file does not hold them.
fn bytes_at_sites(outcome: &Outcome, file: &File) -> Option<Vec<[u8; SITE_BYTES]>> {
    let at_site = |offset: u64| {
        let mut bytes = [0; SITE_BYTES];
        file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    };
    outcome.sites().into_iter().map(|site| at_site(site.file_offset)).collect()
}

fn is_own_directory(directory: &Path) -> bool {
    std::fs::symlink_metadata(directory)
        .is_ok_and(|metadata| metadata.is_dir() && belongs_to_user(&metadata))
}

/// Whether it is the recorder's user's and nobody else may write to it.
fn belongs_to_user(metadata: &std::fs::Metadata) -> bool {
    metadata.uid() == user() && metadata.mode() & 0o022 == 0
}

fn user() -> u32 {
    // SAFETY: geteuid has no arguments and cannot fail.
    #[expect(unsafe_code, reason = "libc call")]
    unsafe {
        libc::geteuid()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::Value;

    use super::*;
    use crate::capture::scan::system_tls_libraries;

    struct Fixture {
        directory: tempfile::TempDir,
        known: Known,
        /// A copy of a library of the system, with functions that are found.
        library: PathBuf,
    }

    impl Fixture {
        /// One whose answer about the library is kept and was marked to tell it from a new one.
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let library = directory.path().join("library");
            let system = system_tls_libraries();
            std::fs::copy(system.first().expect("a system has a TLS library"), &library).unwrap();
            let mut known = Known::in_directory(directory.path().join("answers"));
            known.worth_keeping = Duration::ZERO;
            let fixture = Self { directory, known, library };
            assert!(matches!(fixture.look(), Outcome::Found(_)));
            fixture.change(|answer| answer["outcome"]["Found"]["version"] = "kept".into());
            assert!(fixture.is_remembered());
            fixture
        }

        fn look(&self) -> Outcome {
            self.known.outcome(&self.library).unwrap()
        }

        fn is_remembered(&self) -> bool {
            let Outcome::Found(found) = self.look() else { panic!("it has functions") };
            found.version.as_deref() == Some("kept")
        }

        fn place(&self) -> PathBuf {
            let mut kept = std::fs::read_dir(&self.known.directory).unwrap();
            kept.next().unwrap().unwrap().path()
        }

        fn change(&self, change: impl FnOnce(&mut Value)) {
            let place = self.place();
            let mut answer = serde_json::from_slice(&std::fs::read(&place).unwrap()).unwrap();
            change(&mut answer);
            std::fs::write(place, serde_json::to_vec(&answer).unwrap()).unwrap();
        }
    }

    #[test]
    fn an_answer_is_not_believed_once_anything_about_the_binary_is_different() {
        let fixture = Fixture::new();
        let Outcome::Found(found) = fixture.look() else { panic!() };
        let mut bytes = std::fs::read(&fixture.library).unwrap();
        bytes[found.sites[0].file_offset as usize + SITE_BYTES - 1] ^= 1;
        std::fs::write(&fixture.library, &bytes).unwrap();
        assert!(!fixture.is_remembered(), "a byte at a site");
        let fixture = Fixture::new();
        let mut bytes = std::fs::read(&fixture.library).unwrap();
        bytes.push(0);
        std::fs::write(&fixture.library, &bytes).unwrap();
        assert!(!fixture.is_remembered(), "the size");
        for field in ["resolvers", "build_id", "fingerprint"] {
            let fixture = Fixture::new();
            fixture.change(|answer| answer[field] = "00".into());
            assert!(!fixture.is_remembered(), "{field}");
        }
        let fixture = Fixture::new();
        fixture.change(|answer| answer["bytes_at_sites"] = Value::Array(Vec::new()));
        assert!(!fixture.is_remembered(), "no bytes at sites");
        fixture.change(|answer| {
            answer["outcome"]["Found"]["version"] = "kept".into();
            answer["outcome"]["Found"]["sites"][0]["file_offset"] = u64::MAX.into();
        });
        assert!(!fixture.is_remembered(), "a site outside the file");
    }

    #[test]
    fn an_answer_that_others_may_have_written_is_not_believed() {
        let open_to_all = |path: &Path, mode| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        };
        let fixture = Fixture::new();
        open_to_all(&fixture.place(), 0o666);
        assert!(!fixture.is_remembered());
        let fixture = Fixture::new();
        open_to_all(&fixture.known.directory, 0o777);
        assert!(!fixture.is_remembered());
        let fixture = Fixture::new();
        let (place, other) = (fixture.place(), fixture.directory.path().join("other"));
        std::fs::hard_link(&place, &other).unwrap();
        assert!(!fixture.is_remembered(), "another name leads to it");
        std::fs::remove_file(&place).unwrap();
        std::os::unix::fs::symlink(&other, &place).unwrap();
        assert!(!fixture.is_remembered(), "a link leads to it");
    }

    #[test]
    fn damage_costs_a_look_and_is_made_good() {
        let fixture = Fixture::new();
        let whole = std::fs::read(fixture.place()).unwrap();
        for damaged in [&whole[..whole.len() / 2], b"", &[0xff; 99], &[b'['; 60_000]] {
            std::fs::write(fixture.place(), damaged).unwrap();
            assert!(!fixture.is_remembered());
            fixture.change(|answer| answer["outcome"]["Found"]["version"] = "kept".into());
            assert!(fixture.is_remembered(), "it was kept anew");
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_costs_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, b"no directory").unwrap();
        let mut known = Known::in_directory(file.join("answers"));
        known.worth_keeping = Duration::ZERO;
        let own = std::env::current_exe().unwrap();
        assert_eq!(known.outcome(&own).unwrap(), tls_library::find(&own).unwrap());
        assert!(known.outcome(Path::new("/no/such/file")).is_err());
    }

    #[test]
    fn where_answers_are_is_the_business_of_the_user_who_is_root() {
        let variable = |name: &str| match name {
            "HOME" => Some("/home/someone".into()),
            _ => None,
        };
        let known = Known::of_user(variable).unwrap();
        let expected = if user() == 0 { "/var/cache" } else { "/home/someone/.cache" };
        assert!(known.directory.starts_with(expected));
        let set = |name: &str| (name == "AGENTSIGHT_CACHE_DIR").then(|| "/c".into());
        assert_eq!(Known::of_user(set).unwrap().directory, Path::new("/c/tls-functions"));
    }
}
