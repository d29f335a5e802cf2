//! Bytes of a ring to a [`Record`]; records to events is [`Decoder`]'s part.
//!
//! [`parse`] is total and pure: any byte string gives a record or a [`DecodeError`]. The kernel
//! wrote the framing, but names, paths, arguments and payload come from the traced process and may
//! hold anything.

mod decoder;
mod files;
mod io;

pub use decoder::{Abandoned, Decoded, Decoder};
pub use files::FileUses;

use crate::capture::abi::{
    self, ChannelCloseEvent, ChannelEvent, CloseEvent, DataEvent, EventHeader, ExecArgvEvent,
    PathEvent, ProcessExecEvent, ProcessExitEvent, ProcessForkEvent, TlsSocketEvent, Wire,
};
use crate::time::BootNanos;

/// One record of a ring, its variable parts copied out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A process was created.
    Fork(ProcessForkEvent),
    /// A program was started.
    Exec {
        /// Fixed part.
        event: ProcessExecEvent,
        /// Components of the executable's path, last first, each NUL-terminated.
        exe: Vec<u8>,
        /// Working directory in the same form.
        cwd: Vec<u8>,
        /// End of the argument area.
        argv: Vec<u8>,
    },
    /// Part of the argument area of an [`Record::Exec`] to come.
    Argv {
        /// Fixed part.
        event: ExecArgvEvent,
        /// The part.
        argv: Vec<u8>,
    },
    /// A process ended.
    Exit(ProcessExitEvent),
    /// Bytes of a connection; `event.header.kind` says which kind.
    Data {
        /// Fixed part.
        event: DataEvent,
        /// What was captured, at most `event.data_bytes`.
        data: Vec<u8>,
    },
    /// A connection object was freed.
    Close(CloseEvent),
    /// A channel is used for the first time.
    Channel(ChannelEvent),
    /// A channel was closed.
    ChannelClose(ChannelCloseEvent),
    /// Which socket carries a TLS connection.
    TlsSocket(TlsSocketEvent),
    /// Something was done to a path.
    Path {
        /// Fixed part.
        event: PathEvent,
        /// The path as it was given, with its NUL.
        path: Vec<u8>,
        /// What it is relative to, as components.
        base: Vec<u8>,
        /// The second path.
        new_path: Vec<u8>,
        /// What that is relative to.
        new_base: Vec<u8>,
    },
}

impl Record {
    /// The header, which every record has.
    #[must_use]
    pub fn header(&self) -> &EventHeader {
        match self {
            Self::Fork(event) => &event.header,
            Self::Exec { event, .. } => &event.header,
            Self::Argv { event, .. } => &event.header,
            Self::Exit(event) => &event.header,
            Self::Data { event, .. } => &event.header,
            Self::Close(event) => &event.header,
            Self::Channel(event) => &event.header,
            Self::ChannelClose(event) => &event.header,
            Self::TlsSocket(event) => &event.header,
            Self::Path { event, .. } => &event.header,
        }
    }

    /// The class under which the kernel side accounts for it: an index of the ledger.
    #[must_use]
    pub fn class(&self) -> usize {
        match self {
            Self::Fork(_) => abi::CLASS_PROCESS_FORK,
            Self::Exec { .. } | Self::Argv { .. } => abi::CLASS_PROCESS_EXEC,
            Self::Exit(_) => abi::CLASS_PROCESS_EXIT,
            Self::Data { event, .. } => data_class(event.header.kind),
            Self::Close(_) => abi::CLASS_TLS_CLOSE,
            Self::Channel(_) => abi::CLASS_CHANNEL_OPEN,
            Self::ChannelClose(_) => abi::CLASS_CHANNEL_CLOSE,
            Self::TlsSocket(_) => abi::CLASS_TLS_SOCKET,
            Self::Path { event, .. } => path_class(event.operation),
        }
    }

    /// When it happened.
    #[must_use]
    pub fn boot(&self) -> BootNanos {
        BootNanos(self.header().boot_ns)
    }
}

/// The class of a [`DataEvent`] of this kind.
fn data_class(kind: u32) -> usize {
    match kind {
        abi::EVENT_SOCKET_DATA => abi::CLASS_SOCKET_DATA,
        abi::EVENT_STDIO_DATA => abi::CLASS_STDIO_DATA,
        abi::EVENT_TLS_HELLO => abi::CLASS_TLS_HELLO,
        abi::EVENT_DNS_DATA => abi::CLASS_DNS_DATA,
        _ => abi::CLASS_TLS_DATA,
    }
}

/// The class of a [`PathEvent`] of this operation.
fn path_class(operation: u16) -> usize {
    match operation {
        abi::PATH_OPEN | abi::PATH_OPEN_FAILED => abi::CLASS_FILE_PATH,
        _ => abi::CLASS_FILE_OP,
    }
}

/// Why bytes are not a record. Only a kernel object that is not this program's can cause it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It ends before what its kind and lengths demand.
    #[error("record of kind {kind} is cut short: expected {expected} bytes, found {found}")]
    CutShort {
        /// Kind, 0 when the header itself is cut.
        kind: u32,
        /// Bytes demanded.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// No such kind is known.
    #[error("unknown record kind {0}")]
    UnknownKind(u32),
    /// A field holds what it cannot.
    #[error("record of kind {kind} holds an impossible {field}")]
    Impossible {
        /// Kind.
        kind: u32,
        /// Field name.
        field: &'static str,
    },
}

/// Decodes one record. Bytes behind what it describes are ignored: kernels that cannot reserve an
/// exact size round up.
pub fn parse(bytes: &[u8]) -> Result<Record, DecodeError> {
    let Some(header) = EventHeader::take(&mut { bytes }) else {
        return Err(cut_short(0, EventHeader::BYTES as u64, bytes));
    };
    let kind = header.kind;
    let mut rest = bytes;
    match kind {
        abi::EVENT_PROCESS_FORK => Ok(Record::Fork(fixed(kind, bytes, &mut rest)?)),
        abi::EVENT_PROCESS_EXIT => Ok(Record::Exit(fixed(kind, bytes, &mut rest)?)),
        abi::EVENT_TLS_CLOSE => Ok(Record::Close(fixed(kind, bytes, &mut rest)?)),
        abi::EVENT_PROCESS_EXEC => {
            let event: ProcessExecEvent = fixed(kind, bytes, &mut rest)?;
            let exe = variable(kind, bytes, &mut rest, event.exe_bytes)?;
            let cwd = variable(kind, bytes, &mut rest, event.cwd_bytes)?;
            let argv = variable(kind, bytes, &mut rest, event.argv_bytes)?;
            Ok(Record::Exec { event, exe, cwd, argv })
        }
        abi::EVENT_EXEC_ARGV => {
            let event: ExecArgvEvent = fixed(kind, bytes, &mut rest)?;
            let argv = variable(kind, bytes, &mut rest, event.argv_bytes)?;
            Ok(Record::Argv { event, argv })
        }
        abi::EVENT_CHANNEL_OPEN => Ok(Record::Channel(fixed(kind, bytes, &mut rest)?)),
        abi::EVENT_CHANNEL_CLOSE => Ok(Record::ChannelClose(fixed(kind, bytes, &mut rest)?)),
        abi::EVENT_TLS_SOCKET => Ok(Record::TlsSocket(fixed(kind, bytes, &mut rest)?)),
        abi::EVENT_PATH => {
            let event: PathEvent = fixed(kind, bytes, &mut rest)?;
            if !(abi::PATH_OPEN..=abi::PATH_SYMLINK).contains(&event.operation) {
                return Err(DecodeError::Impossible { kind, field: "operation" });
            }
            let mut part = |length: u16| variable(kind, bytes, &mut rest, length.into());
            Ok(Record::Path {
                path: part(event.path_bytes)?,
                base: part(event.base_bytes)?,
                new_path: part(event.new_path_bytes)?,
                new_base: part(event.new_base_bytes)?,
                event,
            })
        }
        abi::EVENT_TLS_DATA
        | abi::EVENT_SOCKET_DATA
        | abi::EVENT_STDIO_DATA
        | abi::EVENT_TLS_HELLO
        | abi::EVENT_DNS_DATA => {
            let event: DataEvent = fixed(kind, bytes, &mut rest)?;
            if event.captured_bytes > event.data_bytes {
                return Err(DecodeError::Impossible { kind, field: "captured_bytes" });
            }
            if event.direction > abi::DIRECTION_WRITE {
                return Err(DecodeError::Impossible { kind, field: "direction" });
            }
            let data = variable(kind, bytes, &mut rest, event.captured_bytes)?;
            Ok(Record::Data { event, data })
        }
        unknown => Err(DecodeError::UnknownKind(unknown)),
    }
}

/// What the kernel side accounted for when it submitted a record that is none: the class, where it
/// can be told, events, and payload bytes as far as the record tells.
#[must_use]
pub fn accounted(bytes: &[u8]) -> (Option<usize>, u64, u64) {
    let mut rest = bytes;
    let Some(header) = EventHeader::take(&mut { bytes }) else { return (None, 1, 0) };
    let payload = |payload_bytes: Option<u32>| payload_bytes.map_or(0, u64::from);
    match header.kind {
        abi::EVENT_PROCESS_FORK => (Some(abi::CLASS_PROCESS_FORK), 1, 0),
        abi::EVENT_PROCESS_EXIT => (Some(abi::CLASS_PROCESS_EXIT), 1, 0),
        abi::EVENT_TLS_CLOSE => (Some(abi::CLASS_TLS_CLOSE), 1, 0),
        abi::EVENT_PROCESS_EXEC => {
            let event = ProcessExecEvent::take(&mut rest);
            (Some(abi::CLASS_PROCESS_EXEC), 1, payload(event.map(|event| event.argv_bytes)))
        }
        // The event is its exec record.
        abi::EVENT_EXEC_ARGV => {
            let event = ExecArgvEvent::take(&mut rest);
            (Some(abi::CLASS_PROCESS_EXEC), 0, payload(event.map(|event| event.argv_bytes)))
        }
        abi::EVENT_CHANNEL_OPEN => (Some(abi::CLASS_CHANNEL_OPEN), 1, 0),
        abi::EVENT_CHANNEL_CLOSE => (Some(abi::CLASS_CHANNEL_CLOSE), 1, 0),
        abi::EVENT_TLS_SOCKET => (Some(abi::CLASS_TLS_SOCKET), 1, 0),
        abi::EVENT_PATH => {
            let operation = PathEvent::take(&mut rest).map(|event| event.operation);
            (operation.map(path_class), 1, 0)
        }
        abi::EVENT_TLS_DATA
        | abi::EVENT_SOCKET_DATA
        | abi::EVENT_STDIO_DATA
        | abi::EVENT_TLS_HELLO
        | abi::EVENT_DNS_DATA => {
            let event = DataEvent::take(&mut rest);
            (Some(data_class(header.kind)), 1, payload(event.map(|event| event.captured_bytes)))
        }
        _ => (None, 1, 0),
    }
}

fn fixed<T: Wire>(kind: u32, all: &[u8], rest: &mut &[u8]) -> Result<T, DecodeError> {
    T::take(rest).ok_or_else(|| cut_short(kind, T::BYTES as u64, all))
}

fn variable(kind: u32, all: &[u8], rest: &mut &[u8], bytes: u32) -> Result<Vec<u8>, DecodeError> {
    let Some((part, behind)) = rest.split_at_checked(bytes as usize) else {
        let before = (all.len() - rest.len()) as u64;
        return Err(cut_short(kind, before + u64::from(bytes), all));
    };
    *rest = behind;
    Ok(part.to_vec())
}

fn cut_short(kind: u32, expected: u64, all: &[u8]) -> DecodeError {
    DecodeError::CutShort { kind, expected, found: all.len() as u64 }
}

#[cfg(test)]
mod tests;
