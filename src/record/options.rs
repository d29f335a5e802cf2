//! What a recording is asked to do, checked, before anything is opened.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::retention::Retention;
use super::selectors::Selectors;
use super::trigger::Condition;
use crate::capture::bpf::WatchIo;
use crate::trace::Sync;

/// What to record and where to.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which processes.
    pub selectors: Selectors,
    /// A command to run and record.
    pub command: Vec<OsString>,
    /// The trace file.
    pub output: PathBuf,
    /// Whether credentials are replaced before anything is stored.
    pub redact: bool,
    /// Whether an existing file may be replaced.
    pub force: bool,
    /// Time between two looks at `/proc`.
    pub interval: Duration,
    /// When to stop by itself.
    pub duration: Option<Duration>,
    /// What is kept of it, and in how many files.
    pub retention: Retention,
    /// When to take snapshots besides on `SIGUSR1`.
    pub snapshot_on: Vec<Condition>,
    /// Size of the buffer between kernel and recorder.
    pub buffer_bytes: u32,
    /// What of files, sockets and pipes is recorded.
    pub io: WatchIo,
    /// What is made to survive a power failure.
    pub sync: Sync,
    /// The command line as typed, for the metadata.
    pub command_line: Vec<OsString>,
}
