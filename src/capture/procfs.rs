//! What `/proc` says of processes: which there are, what they run, map and use.
//!
//! The kernel's events say what happens from now on; this fills in what was there before, and what
//! no event tells (CPU time and memory between start and end). Everything read here may vanish
//! while it is read, so each function answers for one process with `None` or nothing when it is
//! gone, and leaves out what it may not read. It writes nothing, signals nobody, and keeps no
//! state but the [`Sampler`]'s.
//!
//! Text of processes (arguments, names, paths) is hostile: it is bounded and decoded lossily here,
//! and escaped by whoever prints it.

mod maps;
mod sampler;
mod snapshot;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use procfs::process::Process;

pub use maps::{MappedFile, mapped_files};
pub use sampler::Sampler;
pub use snapshot::Snapshot;

use crate::capture::cgroup;
use crate::event::{Image, ProcessId};
use crate::time::{BootNanos, CLOCK_TICK_NS, ClockAnchor, WallNanos};

/// Most bytes of an argument list that are kept: the kernel's limit with the default 8 MiB stack.
pub const MAX_ARGV_BYTES: u64 = 2 << 20;

/// Most bytes read of a file with a few lines; a cgroup's path may have 4 KiB.
const MAX_TEXT_BYTES: u64 = 64 << 10;

/// A mounted proc file system.
#[derive(Clone, Debug)]
pub struct ProcFs {
    root: PathBuf,
    anchor: ClockAnchor,
}

impl ProcFs {
    /// The one at `/proc`. `anchor` turns start times into identities.
    #[must_use]
    pub fn new(anchor: ClockAnchor) -> Self {
        Self::at("/proc", anchor)
    }

    /// One mounted elsewhere, or a directory that looks like one.
    pub fn at(root: impl Into<PathBuf>, anchor: ClockAnchor) -> Self {
        Self { root: root.into(), anchor }
    }

    /// The directory of a process.
    #[must_use]
    pub fn directory(&self, pid: u32) -> PathBuf {
        self.root.join(pid.to_string())
    }

    /// Where the recorder itself reaches the executable file of a process, whatever mount
    /// namespace it lives in and even when the file was deleted since.
    #[must_use]
    pub fn exe(&self, pid: u32) -> PathBuf {
        self.directory(pid).join("exe")
    }

    /// The executable file mappings of a process; empty when it is gone or may not be read.
    #[must_use]
    pub fn mapped_files(&self, pid: u32) -> Vec<MappedFile> {
        mapped_files(&self.directory(pid)).unwrap_or_default()
    }

    /// Identity, name (`comm` of the group leader) and program of a process that runs;
    /// [`Image::matched`] is `false`. `None` when it is gone or a zombie.
    #[must_use]
    pub fn image(&self, pid: u32) -> Option<(ProcessId, String, Image)> {
        let process = self.open(pid)?;
        let stat = process.stat().ok()?;
        if is_dead(&stat) {
            return None;
        }
        let (argv, argv_lost_bytes) = process
            .open_relative("cmdline")
            .ok()
            .and_then(|f| read_argv(f).ok())
            .unwrap_or_default();
        let image = Image {
            ppid: u32::try_from(stat.ppid).unwrap_or(0),
            uid: process.status().map(|status| status.ruid).ok()?,
            exe: process.exe().ok().map(|path| without_deleted_mark(&path)),
            argv,
            argv_lost_bytes,
            cwd: process.cwd().ok().map(|path| without_deleted_mark(&path)),
            matched: false,
            cgroup: self.cgroup(pid),
        };
        Some((self.identity(pid, stat.starttime), stat.comm, image))
    }

    /// Path of the cgroup of a process in the v2 hierarchy.
    #[must_use]
    pub fn cgroup(&self, pid: u32) -> Option<String> {
        let text = self.text(pid, "cgroup")?;
        cgroup::path_in(&text).map(str::to_owned)
    }

    /// Real user id of a process.
    #[must_use]
    pub fn real_uid(&self, pid: u32) -> Option<u32> {
        let text = self.text(pid, "status")?;
        let ids = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        ids.split_ascii_whitespace().next()?.parse().ok()
    }

    /// A small file of a process's directory.
    fn text(&self, pid: u32, name: &str) -> Option<String> {
        let file = std::fs::File::open(self.directory(pid).join(name)).ok()?;
        let mut bytes = Vec::new();
        file.take(MAX_TEXT_BYTES).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn open(&self, pid: u32) -> Option<Process> {
        // The directory stays open, so that all reads are of one process even if the pid is reused.
        Process::new_with_root(self.directory(pid)).ok()
    }

    fn identity(&self, pid: u32, start_ticks: u64) -> ProcessId {
        ProcessId { pid, start_ts: process_start(&self.anchor, start_ticks) }
    }
}

/// The start time that identifies a process, from field 22 of `/proc/PID/stat`.
fn process_start(anchor: &ClockAnchor, start_ticks: u64) -> WallNanos {
    anchor.process_start(BootNanos(start_ticks.saturating_mul(CLOCK_TICK_NS)))
}

/// Whether all its threads ended and only its exit status is left. A leader that ended before its
/// threads shows the same letter.
fn is_dead(stat: &procfs::process::Stat) -> bool {
    matches!(stat.state, 'Z' | 'X' | 'x') && stat.num_threads <= 1
}

/// Arguments and the number of bytes beyond [`MAX_ARGV_BYTES`].
fn read_argv(mut file: impl Read) -> io::Result<(Vec<String>, u64)> {
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_ARGV_BYTES).read_to_end(&mut bytes)?;
    // The kernel allows six times as much at most.
    let lost_bytes = io::copy(&mut file.take(16 * MAX_ARGV_BYTES), &mut io::sink())?;
    if bytes.last() == Some(&0) {
        bytes.pop();
    } else if bytes.is_empty() {
        return Ok((Vec::new(), lost_bytes));
    }
    let argument = |argument: &[u8]| String::from_utf8_lossy(argument).into_owned();
    Ok((bytes.split(|&byte| byte == 0).map(argument).collect(), lost_bytes))
}

fn without_deleted_mark(path: &Path) -> String {
    let path = path.to_string_lossy();
    path.strip_suffix(DELETED_MARK).unwrap_or(&path).to_owned()
}

/// What the kernel appends to the path of a file that has no name any more.
const DELETED_MARK: &str = " (deleted)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::WallNanos;
    use std::os::unix::fs::symlink;

    pub(super) const ANCHOR: ClockAnchor =
        ClockAnchor::new(BootNanos(0), WallNanos(1_800_000_000_000_000_000));

    /// A made-up `/proc/PID`.
    pub(super) struct FakeProcess {
        pub(super) pid: u32,
        pub(super) ppid: u32,
        pub(super) comm: &'static str,
        pub(super) state: char,
        pub(super) start_ticks: u64,
        pub(super) user_ticks: u64,
        pub(super) threads: u32,
    }

    impl FakeProcess {
        pub(super) fn new(pid: u32, ppid: u32, comm: &'static str) -> Self {
            let (start_ticks, user_ticks) = (u64::from(pid) * 10, 7);
            Self { pid, ppid, comm, state: 'S', start_ticks, user_ticks, threads: 3 }
        }

        pub(super) fn write(&self, root: &Path) {
            let directory = root.join(self.pid.to_string());
            std::fs::create_dir_all(&directory).unwrap();
            let Self { pid, ppid, comm, state, start_ticks, user_ticks, threads } = self;
            let stat = format!(
                "{pid} ({comm}) {state} {ppid} {pid} {pid} 0 -1 4194304 10 0 0 0 {user_ticks} 5 0 0 \
                 20 0 {threads} 0 {start_ticks} 1048576 16 18446744073709551615 1 1 0 0 0 0 0 0 0 \
                 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
            );
            std::fs::write(directory.join("stat"), stat).unwrap();
        }

        pub(super) fn with_program(self, root: &Path, exe: &str, cmdline: &[u8]) {
            self.write(root);
            let directory = root.join(self.pid.to_string());
            std::fs::write(directory.join("cmdline"), cmdline).unwrap();
            let _ = std::fs::remove_file(directory.join("exe"));
            symlink(exe, directory.join("exe")).unwrap();
        }
    }

    #[test]
    fn this_process_is_described_as_it_is() {
        let (id, comm, image) = ProcFs::new(ANCHOR).image(std::process::id()).unwrap();
        assert_eq!(id.pid, std::process::id());
        assert!(!comm.is_empty());
        assert_eq!(image.exe.unwrap(), std::env::current_exe().unwrap().to_string_lossy());
        assert_eq!(image.cwd.unwrap(), std::env::current_dir().unwrap().to_string_lossy());
        assert_eq!(image.argv, std::env::args().collect::<Vec<_>>());
        assert_eq!((image.argv_lost_bytes, image.matched), (0, false));
        assert_eq!(image.ppid, std::os::unix::process::parent_id());
    }

    #[test]
    fn a_process_that_is_gone_or_dead_has_no_image() {
        let root = tempfile::tempdir().unwrap();
        let proc = ProcFs::at(root.path(), ANCHOR);
        assert!(proc.image(1).is_none());
        FakeProcess { state: 'Z', threads: 1, ..FakeProcess::new(1, 0, "init") }.write(root.path());
        assert!(proc.image(1).is_none());
        // Half written: the kernel never does so, a full disk of fixtures might.
        std::fs::write(root.path().join("1/stat"), "1 (init) S 0").unwrap();
        assert!(proc.image(1).is_none());
    }

    #[test]
    fn arguments_are_split_bounded_and_counted() {
        assert_eq!(read_argv(&b""[..]).unwrap(), (vec![], 0));
        let argv = |bytes: &[u8]| read_argv(bytes).unwrap().0;
        assert_eq!(argv(b"node\0a b\0\0"), ["node", "a b", ""]);
        assert_eq!(argv(b"renamed"), ["renamed"]);
        assert_eq!(argv(b"\xff\0"), ["\u{fffd}"]);
        let long = vec![b'x'; MAX_ARGV_BYTES as usize + 5];
        let (argv, lost_bytes) = read_argv(&long[..]).unwrap();
        assert_eq!((argv[0].len() as u64, lost_bytes), (MAX_ARGV_BYTES, 5));
    }

    #[test]
    fn a_deleted_file_keeps_the_name_it_had() {
        assert_eq!(without_deleted_mark(Path::new("/bin/a (deleted)")), "/bin/a");
        assert_eq!(without_deleted_mark(Path::new("/bin/a")), "/bin/a");
    }
}
