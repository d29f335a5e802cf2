//! The records of `bpf/event.h` as Rust sees them.
//!
//! A mirror that is proved, not trusted: `capture/bpf/skeleton.rs` compares every size and offset
//! with what the C compiler laid out, and a test here compares the constants with the header's
//! text. Decoding needs neither clang nor libbpf. Meaning and units of the fields: `bpf/event.h`.

/// A fixed-size value at the start of a byte slice, in native byte order.
pub trait Wire: Sized {
    /// Bytes it takes.
    const BYTES: usize;

    /// Takes it off the front; `None` and nothing taken when the slice is too short.
    fn take(bytes: &mut &[u8]) -> Option<Self>;
}

macro_rules! wire_integers {
    ($($integer:ty),*) => {$(
        impl Wire for $integer {
            const BYTES: usize = size_of::<$integer>();

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let (head, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(<$integer>::from_ne_bytes(*head))
            }
        }
    )*};
}
wire_integers!(u8, u32, u64);

impl<const N: usize> Wire for [u8; N] {
    const BYTES: usize = N;

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*head)
    }
}

impl Wire for [u64; LOSS_COUNT] {
    const BYTES: usize = size_of::<Self>();

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let mut values = [0; LOSS_COUNT];
        for value in &mut values {
            *value = u64::take(bytes)?;
        }
        Some(values)
    }
}

/// Declares a `repr(C)` struct whose fields follow each other without implicit padding (proved at
/// compile time), so that reading them one after the other reads them at their offsets.
macro_rules! wire_structs {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $kind:ty,)* })*) => {$(
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $kind,)*
        }

        const _: () = assert!(size_of::<$name>() == <$name as Wire>::BYTES);

        impl Wire for $name {
            const BYTES: usize = 0 $(+ <$kind as Wire>::BYTES)*;

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                if bytes.len() < Self::BYTES {
                    return None;
                }
                Some(Self { $($field: Wire::take(bytes)?,)* })
            }
        }
    )*};
}

macro_rules! constants {
    ($($(#[$meta:meta])* $name:ident: $kind:ty = $value:expr;)*) => {
        $($(#[$meta])* pub const $name: $kind = $value;)*

        /// Every constant by its name in `event.h`.
        #[cfg(test)]
        const CONSTANTS: &[(&str, u64)] = &[$((stringify!($name), $value as u64)),*];
    };
}

constants! {
    /// Bytes of a thread name.
    EVENT_COMM_BYTES: usize = 16;
    /// [`EventHeader::kind`] of [`ProcessForkEvent`].
    EVENT_PROCESS_FORK: u32 = 1;
    /// [`EventHeader::kind`] of [`ProcessExecEvent`].
    EVENT_PROCESS_EXEC: u32 = 2;
    /// [`EventHeader::kind`] of [`ProcessExitEvent`].
    EVENT_PROCESS_EXIT: u32 = 3;
    /// [`EventHeader::kind`] of [`DataEvent`].
    EVENT_TLS_DATA: u32 = 4;
    /// [`EventHeader::kind`] of [`CloseEvent`].
    EVENT_TLS_CLOSE: u32 = 5;
    /// [`EventHeader::kind`] of [`ExecArgvEvent`].
    EVENT_EXEC_ARGV: u32 = 6;
    /// User space has yet to decide whether the process is to be observed.
    HEADER_PROVISIONAL: u32 = 1;
    /// The process matched the filters itself.
    EXEC_MATCHED: u32 = 1;
    /// The path of the executable lacks its first components.
    EXEC_EXE_TRUNCATED: u32 = 2;
    /// The working directory lacks its first components.
    EXEC_CWD_TRUNCATED: u32 = 4;
    /// The process received the data.
    DIRECTION_READ: u8 = 0;
    /// The process sent the data.
    DIRECTION_WRITE: u8 = 1;
    /// [`DataEvent::fd`] where the library hides it.
    NO_FD: u32 = 4_294_967_295;
    /// Ledger index of `process_fork`.
    CLASS_PROCESS_FORK: usize = 0;
    /// Ledger index of `process_exec`; its bytes are those of the argument area.
    CLASS_PROCESS_EXEC: usize = 1;
    /// Ledger index of `process_exit`.
    CLASS_PROCESS_EXIT: usize = 2;
    /// Ledger index of `tls_data`; its bytes are plaintext.
    CLASS_TLS_DATA: usize = 3;
    /// Ledger index of `tls_close`.
    CLASS_TLS_CLOSE: usize = 4;
    /// Number of ledger entries.
    CLASS_COUNT: usize = 5;
    /// Loss index: no room in the ring.
    LOSS_RING_FULL: usize = 0;
    /// Loss index: memory of the traced process could not be read.
    LOSS_COPY_FAULT: usize = 1;
    /// Loss index: more than is captured of one call.
    LOSS_TRUNCATED: usize = 2;
    /// Loss index: no room in a map that the event needs.
    LOSS_MAP_FULL: usize = 3;
    /// Number of loss causes.
    LOSS_COUNT: usize = 4;
    /// The process matched the filters itself.
    TRACKED_MATCHED: u32 = 1;
    /// User space has yet to decide about the process and its children.
    TRACKED_PROVISIONAL: u32 = 2;
    /// Setting `selectors`: the user id alone selects.
    SELECT_UID: u32 = 1;
    /// Setting `selectors`: the user id has to be a wanted one, whatever else selects.
    SELECT_ONLY_UID: u32 = 2;
    /// Setting `selectors`: cgroups select.
    SELECT_CGROUP: u32 = 4;
    /// User space looks for this file name.
    NAME_WANTED: u32 = 1;
    /// An interpreter: the name of its script counts as well.
    NAME_INTERPRETER: u32 = 2;
    /// Bytes of a name with at least one NUL.
    NAME_BYTES: usize = 64;
}

wire_structs! {
    /// Start of every record.
    EventHeader {
        /// `EVENT_*`.
        kind: u32,
        /// Thread-group id.
        pid: u32,
        /// Thread id.
        tid: u32,
        /// `HEADER_*`.
        flags: u32,
        /// When, boot-time clock.
        boot_ns: u64,
        /// When the process was created, boot-time clock.
        process_start_boot_ns: u64,
        /// Thread name, NUL-padded.
        comm: [u8; EVENT_COMM_BYTES],
    }

    /// A process was created; the header is about the child.
    ProcessForkEvent {
        /// Header.
        header: EventHeader,
        /// The process that forked.
        ppid: u32,
        /// Real user id of the child.
        uid: u32,
    }

    /// A program was started; exe, cwd and argv bytes follow.
    ProcessExecEvent {
        /// Header.
        header: EventHeader,
        /// Parent.
        ppid: u32,
        /// Real user id.
        uid: u32,
        /// `EXEC_*`.
        flags: u32,
        /// Length of the executable's path.
        exe_bytes: u32,
        /// Length of the working directory.
        cwd_bytes: u32,
        /// Size of the argument area.
        argv_total_bytes: u32,
        /// Where in the argument area this record goes on.
        argv_offset: u32,
        /// Length of the arguments in this record.
        argv_bytes: u32,
        /// Inode number of its cgroup's directory, 0 unknown.
        cgroup_id: u64,
    }

    /// Part of an argument area; its bytes follow.
    ExecArgvEvent {
        /// Header.
        header: EventHeader,
        /// Where in the argument area.
        argv_offset: u32,
        /// How much of it.
        argv_bytes: u32,
    }

    /// The last thread of a process ended.
    ProcessExitEvent {
        /// Header.
        header: EventHeader,
        /// Parent.
        ppid: u32,
        /// As wait(2) reports it.
        wait_status: u32,
        /// Tick-sampled user time.
        cpu_user_sampled_ns: u64,
        /// Tick-sampled system time.
        cpu_system_sampled_ns: u64,
        /// Exact CPU time.
        cpu_runtime_ns: u64,
        /// Peak resident set in pages.
        peak_rss_pages: u64,
        /// Bytes fetched from storage.
        read_bytes: u64,
        /// Bytes sent to storage.
        written_bytes: u64,
    }

    /// Plaintext; `captured_bytes` follow.
    DataEvent {
        /// Header.
        header: EventHeader,
        /// Address of the connection object.
        handle: u64,
        /// When this use of the address was first seen.
        generation_boot_ns: u64,
        /// Position in the stream.
        stream_offset: u64,
        /// Bytes that moved.
        data_bytes: u32,
        /// Bytes that follow.
        captured_bytes: u32,
        /// `DIRECTION_*`.
        direction: u8,
        /// Library tag.
        library: u8,
        /// Zero.
        _pad: [u8; 2],
        /// File descriptor, or [`NO_FD`].
        fd: u32,
    }

    /// A connection object was freed.
    CloseEvent {
        /// Header.
        header: EventHeader,
        /// Address of the connection object.
        handle: u64,
        /// When this use of the address was first seen.
        generation_boot_ns: u64,
    }

    /// One class of events in the ledger.
    LedgerEntry {
        /// Events that came about.
        attempted_events: u64,
        /// Their payload bytes.
        attempted_bytes: u64,
        /// Events written to a ring.
        submitted_events: u64,
        /// Payload bytes written to a ring.
        submitted_bytes: u64,
        /// Events lost, by `LOSS_*`.
        lost_events: [u64; LOSS_COUNT],
        /// Payload bytes lost, by `LOSS_*`.
        lost_bytes: [u64; LOSS_COUNT],
    }

    /// Value of the tracked map.
    TrackedProcess {
        /// When the program image began.
        image_boot_ns: u64,
        /// Peak resident set of the images before it, in pages.
        maxrss_at_exec_pages: u64,
        /// `TRACKED_*`.
        flags: u32,
        /// Zero.
        _pad: u32,
    }

    /// Key of the connections map.
    ConnectionKey {
        /// Address of the connection object.
        handle: u64,
        /// Thread-group id.
        pid: u32,
        /// Zero.
        _pad: u32,
    }
}

/// `kind` column of the events that a ledger entry counts, by `CLASS_*`.
pub const CLASS_KINDS: [&str; CLASS_COUNT] =
    ["process_fork", "process_exec", "process_exit", "tls_data", "tls_close"];

/// `cause` column of a loss, by `LOSS_*`.
pub const LOSS_CAUSES: [&str; LOSS_COUNT] = ["ring_full", "copy_fault", "truncated", "map_full"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_constant_of_the_header_is_mirrored_with_its_value() {
        let header = include_str!("../../bpf/event.h");
        let mut defined = 0;
        for line in header.lines() {
            let mut words = line.split_whitespace();
            let (Some("#define"), Some(name), Some(value)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let value: u64 = value.parse().expect("constants are plain decimal numbers");
            assert!(CONSTANTS.contains(&(name, value)), "{name} = {value} is not mirrored");
            defined += 1;
        }
        assert_eq!(defined, CONSTANTS.len());
    }

    #[test]
    fn a_value_is_taken_whole_or_not_at_all() {
        let mut short: &[u8] = &[1, 2, 3];
        assert_eq!(u32::take(&mut short), None);
        assert_eq!(short.len(), 3);
        assert_eq!(<[u8; 2]>::take(&mut short), Some([1, 2]));
        assert_eq!(short, &[3]);
    }
}
