//! What a capture is asked to do, and the figures it gives about itself.

use crate::capture::decode::DecodeError;
use crate::capture::scope::{CommandLines, Users};

/// How to load the capture.
#[derive(Clone, Debug)]
pub struct Options {
    /// File names to match at exec, exactly: that of the program as it was started, of `argv[0]`,
    /// or of the script an interpreter runs. At most 63 bytes each.
    pub names: Vec<String>,
    /// Ids of cgroups in which, or below which, every program is observed.
    pub cgroups: Vec<u64>,
    /// Programs whose arguments match are observed. With these every program of the host is until
    /// its arguments have been looked at.
    pub command_lines: CommandLines,
    /// Whose programs are observed.
    pub users: Users,
    /// Size of the ring for plaintext: a power of two, at least a page.
    pub payload_ring_bytes: u32,
    /// Size of the ring for fork, exec and exit: a power of two. The largest argument area is
    /// 2 MiB.
    pub control_ring_bytes: u32,
    /// Size of the ring for files, sockets and pipes: a power of two, at least a page.
    pub io_ring_bytes: u32,
    /// What of files, sockets and pipes is watched.
    pub io: WatchIo,
    /// Most processes under observation at a time; what is beyond is counted as lost.
    pub tracked_processes: u32,
    /// Use only what kernel 5.8 has, to test that path on a newer one.
    pub force_compat: bool,
    /// Print libbpf's messages, the verifier's log included, to stderr.
    pub debug: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            payload_ring_bytes: 32 << 20,
            control_ring_bytes: 4 << 20,
            io_ring_bytes: 8 << 20,
            io: WatchIo::default(),
            cgroups: Vec::new(),
            command_lines: CommandLines::default(),
            users: Users::Any,
            tracked_processes: 16_384,
            force_compat: false,
            debug: std::env::var_os("AGENTSIGHT_BPF_LOG").is_some(),
        }
    }
}

/// What of files, sockets and pipes is watched. All of it hangs on one hook that every process of
/// the machine passes on every system call, so it is attached only while it is of use
/// ([`watch_io`](super::Capture::watch_io)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchIo {
    /// Files that are opened, read and written, and changes of paths.
    pub files: bool,
    /// Sockets and pipes, HTTP in plain text, DNS messages.
    pub channels: bool,
    /// What goes through pipes and socket pairs.
    pub stdio: bool,
    /// The same at any descriptor, not only at 0, 1 and 2.
    pub stdio_all_descriptors: bool,
    /// Of one read or write through a pipe at most this much is recorded.
    pub stdio_max_bytes: Option<u64>,
    /// Only pipes of processes of this user.
    pub stdio_uid: Option<u32>,
}

impl Default for WatchIo {
    fn default() -> Self {
        Self {
            files: true,
            channels: true,
            stdio: true,
            stdio_all_descriptors: false,
            stdio_max_bytes: None,
            stdio_uid: None,
        }
    }
}

impl WatchIo {
    /// Nothing of it.
    pub const NOTHING: Self = Self {
        files: false,
        channels: false,
        stdio: false,
        stdio_all_descriptors: false,
        stdio_max_bytes: None,
        stdio_uid: None,
    };
}

/// What [`drain`](super::Capture::drain) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Events handed out.
    pub events: usize,
    /// A ring was left with more to read: drain again without waiting.
    pub more: bool,
}

/// Figures about the capture itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events handed out so far.
    pub events: u64,
    /// Why the latest record that could not be decoded could not; they are counted in the ledger.
    pub last_decode_error: Option<DecodeError>,
    /// Probes attached, entry and return apart.
    pub probes: usize,
    /// Whether records have their exact size (kernel 6.16), or are rounded up.
    pub exact_size: bool,
    /// Whether rows can name the TLS library (kernel 5.15).
    pub attach_cookie: bool,
}

/// How full the kernel's maps are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapEntries {
    /// Processes under observation.
    pub tracked: usize,
    /// Connections that have carried data and are not closed.
    pub connections: usize,
    /// Calls of Go's TLS functions that have not returned.
    pub active_calls: usize,
    /// Descriptors by which channels are used.
    pub descriptors: usize,
    /// Threads that have called TLS functions or moved bytes that were recorded.
    pub threads: usize,
    /// Files in use, by process.
    pub files: usize,
}
