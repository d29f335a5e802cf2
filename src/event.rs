//! What was observed: one [`Event`] is one row of the trace.
//!
//! This is the vocabulary both pipelines share. It is owned plain data: no Arrow, no libbpf, no
//! protocol. Field names are the column names of the trace (`docs/FORMAT.md`).

mod io;

pub use io::{
    Channel, ChannelType, Confidence, FileAccess, FileOp, OpenOperation, PathOperation, Role,
    TlsSocket,
};

use crate::time::WallNanos;

/// A process, identified for the whole recording: a pid alone is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// Thread-group id in the initial pid namespace.
    pub pid: u32,
    /// When the process was created, floored to a clock tick
    /// ([`crate::time::ClockAnchor::process_start`]).
    pub start_ts: WallNanos,
}

/// One observation.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it was observed.
    pub ts: WallNanos,
    /// The process it is about; absent for facts about the recording itself.
    pub process: Option<ProcessId>,
    /// The thread that did it, where one did.
    pub tid: Option<u32>,
    /// The thread's name at that moment (`task_struct.comm`), lossily decoded.
    pub comm: Option<String>,
    /// What happened.
    pub body: Body,
}

/// What happened; the variant decides the `kind` column and which columns are set.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// `process_seen`: was already running when it came under observation.
    ProcessSeen(Image),
    /// `process_fork`: was created; [`Event::process`] is the child.
    ProcessFork(Fork),
    /// `process_exec`: started a new program.
    ProcessExec(Image),
    /// `process_exit`: its last thread ended.
    ProcessExit(Exit),
    /// `tls_data`, `socket_data`, `stdio_data`, `tls_hello`, `dns_data`: bytes went through a
    /// connection; [`StreamData::source`] says which.
    Data(StreamData),
    /// `tls_close`: a TLS connection object was freed.
    TlsClose {
        /// The connection that ended.
        conn_id: u64,
    },
    /// `channel_open`: a process uses a socket or pipe for the first time.
    ChannelOpen(Channel),
    /// `channel_close`: a process closed it, or ended.
    ChannelClose {
        /// Which one.
        conn_id: u64,
        /// What the process read from it, recorded or not.
        read_bytes: u64,
        /// What the process wrote to it, recorded or not.
        written_bytes: u64,
    },
    /// `tls_socket`: which socket carries a TLS connection.
    TlsSocket(TlsSocket),
    /// `file_op`: a process changed what a path means.
    FileOp(FileOp),
    /// `file_access`: what a process did to a file, summed up.
    FileAccess(FileAccess),
    /// `sample`: what `/proc` said of a traced process.
    Sample(Sample),
    /// `recorder_sample`: what `/proc` said of the recorder itself.
    RecorderSample(Sample),
    /// `loss`: something was observed and could not be kept.
    Loss(Loss),
    /// `probe`: what came of looking for something to observe in a binary.
    Probe(Probe),
}

impl Body {
    /// The value of the `kind` column.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ProcessSeen(_) => "process_seen",
            Self::ProcessFork(_) => "process_fork",
            Self::ProcessExec(_) => "process_exec",
            Self::ProcessExit(_) => "process_exit",
            Self::Data(data) => data.source.kind(),
            Self::TlsClose { .. } => "tls_close",
            Self::ChannelOpen(_) => "channel_open",
            Self::ChannelClose { .. } => "channel_close",
            Self::TlsSocket(_) => "tls_socket",
            Self::FileOp(_) => "file_op",
            Self::FileAccess(_) => "file_access",
            Self::Sample(_) => "sample",
            Self::RecorderSample(_) => "recorder_sample",
            Self::Loss(_) => "loss",
            Self::Probe(_) => "probe",
        }
    }
}

/// The program a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Parent process id; 0 when unknown.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Absolute path of the executable file.
    pub exe: Option<String>,
    /// Arguments, `argv[0]` first, lossily decoded. Empty when unreadable.
    pub argv: Vec<String>,
    /// Bytes of the argument area that were not captured.
    pub argv_lost_bytes: u64,
    /// Working directory.
    pub cwd: Option<String>,
    /// Whether it matched the recording's filters itself, rather than descending from a match.
    pub matched: bool,
    /// Path of its cgroup in the v2 hierarchy, as `/proc/PID/cgroup` has it.
    pub cgroup: Option<String>,
}

/// The container that a cgroup belongs to, the innermost one: docker, podman, containerd and CRI-O
/// name the cgroup after its id, which is 64 hexadecimal digits.
#[must_use]
pub fn container_id(cgroup: &str) -> Option<&str> {
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let is_id = |word: &&str| word.len() == 64;
    cgroup.rsplit('/').find_map(|name| name.split(|c| !is_hex(c)).find(is_id))
}

/// A process creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The process that forked.
    pub ppid: u32,
    /// Real user id of the child.
    pub uid: u32,
}

/// How a process ended and what it used over its life (all threads, children not included).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Parent process id at exit; 0 when unknown.
    pub ppid: u32,
    /// Exit status 0-255; absent when a signal ended it.
    pub exit_code: Option<i32>,
    /// Signal number that ended it; absent when it exited by itself.
    pub signal: Option<i32>,
    /// CPU time in user mode.
    pub cpu_user_ns: u64,
    /// CPU time in kernel mode.
    pub cpu_system_ns: u64,
    /// Highest resident set size of the program last executed.
    pub peak_rss_bytes: u64,
    /// Bytes fetched from storage (`/proc/PID/io` `read_bytes`).
    pub read_bytes: u64,
    /// Bytes sent to storage (`/proc/PID/io` `write_bytes`).
    pub written_bytes: u64,
}

/// Which way plaintext went, seen from the traced process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The process received it (`read`).
    Read,
    /// The process sent it (`write`).
    Write,
}

impl Direction {
    /// The value of the `direction` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// Where bytes were observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// `tls_data`: plaintext in a TLS library.
    #[default]
    Tls,
    /// `socket_data`: a socket that speaks HTTP in plain text.
    Socket,
    /// `stdio_data`: a pipe or socket pair between programs.
    Stdio,
    /// `tls_hello`: the first flight of a TLS handshake, as it is on the wire.
    TlsHello,
    /// `dns_data`: a DNS message that was received.
    Dns,
}

impl Source {
    const ALL: [Self; 5] = [Self::Tls, Self::Socket, Self::Stdio, Self::TlsHello, Self::Dns];

    /// The value of the `kind` column.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Tls => "tls_data",
            Self::Socket => "socket_data",
            Self::Stdio => "stdio_data",
            Self::TlsHello => "tls_hello",
            Self::Dns => "dns_data",
        }
    }

    /// The source whose events have this kind; `None` for other kinds.
    #[must_use]
    pub fn from_kind(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.kind() == kind)
    }

    /// Whether protocols of applications are spoken here in plain text.
    #[must_use]
    pub fn is_plaintext(self) -> bool {
        matches!(self, Self::Tls | Self::Socket)
    }
}

/// Bytes that one or several consecutive calls moved in one direction of a connection.
///
/// Consecutive large calls are joined into one event so that content-defined chunks may cross call
/// boundaries; `call_ts` and `call_bytes` then keep each call apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamData {
    /// Where they were observed.
    pub source: Source,
    /// Unique in the file: process, library handle or channel, and its generation.
    pub conn_id: u64,
    /// Which way it went.
    pub direction: Direction,
    /// Position of the first byte in this direction of this connection, counted from the first
    /// byte seen. Lost bytes count: a jump is a gap of exactly that length.
    pub stream_offset: u64,
    /// Bytes the calls moved: `data.len()` plus `lost_bytes`.
    pub data_bytes: u64,
    /// Bytes at the end of `data_bytes` that could not be captured.
    pub lost_bytes: u64,
    /// The captured bytes.
    pub data: Vec<u8>,
    /// Which TLS library or kind of binary they came through, such as `openssl` or `boringssl`;
    /// empty for other sources.
    pub library: String,
    /// The file descriptor, where it is known.
    pub fd: Option<u32>,
    /// When each joined call returned; empty for a single call, whose time is [`Event::ts`].
    pub call_ts: Vec<WallNanos>,
    /// Bytes each joined call moved, parallel to `call_ts`; sums to `data_bytes`.
    pub call_bytes: Vec<u64>,
}

/// One look at `/proc/PID`. Counters are over the life of the process, all threads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Parent process id; 0 when unknown.
    pub ppid: u32,
    /// CPU used since the previous sample of the same process, 100 = one core; absent in the first.
    pub cpu_percent: Option<f64>,
    /// CPU time in user mode so far.
    pub cpu_user_ns: u64,
    /// CPU time in kernel mode so far.
    pub cpu_system_ns: u64,
    /// Resident set size.
    pub rss_bytes: u64,
    /// Virtual memory size.
    pub vsz_bytes: u64,
    /// Number of threads.
    pub threads: u32,
    /// Number of live child processes.
    pub children: u32,
    /// Bytes fetched from storage so far; absent when `/proc/PID/io` is not readable.
    pub read_bytes: Option<u64>,
    /// Bytes sent to storage so far; absent when `/proc/PID/io` is not readable.
    pub written_bytes: Option<u64>,
}

/// Events of one class that were lost for one cause within a time range ending at [`Event::ts`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Start of the range in which the loss happened.
    pub first_ts: WallNanos,
    /// The `kind` of the events that were lost.
    pub event_class: String,
    /// Why: `ring_full` (no room on the way from the kernel), `copy_fault` (memory of the process
    /// could not be read), `truncated` (more than is captured of one call), `map_full` (more at once
    /// than the kernel side keeps track of), `bypassed` (moved without passing through memory of the
    /// process), `decode_error` (a record that is none), `unusable` (what
    /// it refers to or continues was lost), `disk_full`, `write_failed`.
    pub cause: String,
    /// How many events.
    pub lost_events: u64,
    /// How many payload bytes, where the class has payload.
    pub lost_bytes: u64,
    /// The connection, where one is known.
    pub conn_id: Option<u64>,
}

/// What came of looking for TLS functions in one binary file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Path of the binary, as the traced process sees it.
    pub path: String,
    /// What was recognised in it, such as `openssl`, `boringssl`; absent when nothing was.
    pub library: Option<String>,
    /// What came of it.
    pub state: ProbeState,
    /// Sites attached (`SSL_read@0x1234, ...`) or the reason why not, for a person to read.
    pub detail: String,
    /// GNU build-id in hexadecimal, where the binary has one.
    pub build_id: Option<String>,
}

/// Outcome of a [`Probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeState {
    /// `attached`: its plaintext is recorded from here on.
    Attached,
    /// `absent`: the binary holds no TLS library that is known.
    Absent,
    /// `unresolved`: it holds a TLS library whose functions could not be found for certain.
    Unresolved,
    /// `failed`: functions were found but the kernel refused the probe.
    Failed,
}

impl ProbeState {
    /// The value of the `probe_state` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Absent => "absent",
            Self::Unresolved => "unresolved",
            Self::Failed => "failed",
        }
    }

    /// The outcome that a `probe_state` names; `None` for one this program does not know.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let states = [Self::Attached, Self::Absent, Self::Unresolved, Self::Failed];
        states.into_iter().find(|state| state.as_str() == name)
    }
}
