//! What was observed of files, sockets and pipes.

use crate::time::WallNanos;

/// A way bytes leave or enter a process: a socket or a pipe, as one process uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Unique in the file, also among TLS connections: process, channel and its generation.
    pub conn_id: u64,
    /// What it is.
    pub channel_type: ChannelType,
    /// How the process came by it.
    pub role: Role,
    /// The descriptor it was first seen at.
    pub fd: u32,
    /// This end: `address:port`, `[address]:port`, `pipe:[inode]`, `unix:[inode]`.
    pub local_addr: Option<String>,
    /// The other end: `address:port`, the path of a Unix socket (`@name` if abstract),
    /// `unix:[inode]`; of a pipe the same as `local_addr`.
    pub remote_addr: Option<String>,
    /// Why connect(2) failed (errno); 0 when it did not.
    pub errno: u32,
}

/// Kind of a [`Channel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChannelType {
    /// `tcp`.
    Tcp,
    /// `udp`.
    Udp,
    /// `unix`: a Unix socket, of a path or of a pair.
    Unix,
    /// `pipe`: a pipe or FIFO.
    Pipe,
}

/// How a process came by a [`Channel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `inherited`: it was open when it was first seen, or was made as a pair.
    Inherited,
    /// `connect`: by connect(2).
    Connect,
    /// `accept`: by accept(2).
    Accept,
}

/// Which socket carries a TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsSocket {
    /// The TLS connection.
    pub conn_id: u64,
    /// `conn_id` of the socket.
    pub socket_conn_id: u64,
    /// How it is known.
    pub confidence: Confidence,
}

/// How sure a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// `certain`: the socket was used inside a call of the library for this connection.
    Certain,
    /// `likely`: the thread used the socket next to such calls, twice without another answer.
    Likely,
}

/// How a process first came to use a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpenOperation {
    /// `open`.
    #[default]
    Open,
    /// `create`: the open made the file.
    Create,
    /// `open_directory`.
    OpenDirectory,
    /// `inherited`: it was open already, by a parent or before the recording.
    Inherited,
}

/// What a process did to a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOp {
    /// What it did.
    pub operation: PathOperation,
    /// The path, made absolute; of a symbolic link its target, as it was given.
    pub path: Option<String>,
    /// The new path, where there are two.
    pub new_path: Option<String>,
}

/// Kind of a [`FileOp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathOperation {
    /// `rename`: from `path` to `new_path`.
    Rename,
    /// `unlink`.
    Unlink,
    /// `rmdir`.
    Rmdir,
    /// `mkdir`.
    Mkdir,
    /// `truncate`.
    Truncate,
    /// `link`: `new_path` is another name of `path`.
    Link,
    /// `symlink`: `new_path` points to `path`.
    Symlink,
}

/// What a process did to one file since the last such event, or to a path it could not open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileAccess {
    /// Resolved path of what was opened; of what could not be, the path as it was asked for, made
    /// absolute. Absent when it was lost or could not be read.
    pub path: Option<String>,
    /// How the process came to use it; absent when that was lost.
    pub operation: Option<OpenOperation>,
    /// Flags of its first open(2) by name, joined by `|`; absent for one that was open already.
    pub flags: Option<String>,
    /// Start of the time in which this was done; the event's time is the last use.
    pub first_ts: WallNanos,
    /// Times it was opened, or could not be.
    pub open_count: u64,
    /// Reads that moved bytes.
    pub read_count: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes that moved bytes.
    pub write_count: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Why it could not be opened (errno); 0 when it was.
    pub errno: u32,
}

macro_rules! names {
    ($($kind:ident { $($variant:ident = $name:literal),* $(,)? })*) => {$(
        impl $kind {
            const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its value in the trace.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What a value names; `None` for one this program does not know.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == name)
            }
        }
    )*};
}

names! {
    ChannelType { Tcp = "tcp", Udp = "udp", Unix = "unix", Pipe = "pipe" }
    Role { Inherited = "inherited", Connect = "connect", Accept = "accept" }
    Confidence { Certain = "certain", Likely = "likely" }
    OpenOperation {
        Open = "open", Create = "create", OpenDirectory = "open_directory",
        Inherited = "inherited",
    }
    PathOperation {
        Rename = "rename", Unlink = "unlink", Rmdir = "rmdir", Mkdir = "mkdir",
        Truncate = "truncate", Link = "link", Symlink = "symlink",
    }
}
