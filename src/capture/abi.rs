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
wire_integers!(u8, u16, u32, u64);

impl<const N: usize> Wire for [u8; N] {
    const BYTES: usize = N;

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*head)
    }
}

impl<const N: usize> Wire for [u64; N] {
    const BYTES: usize = size_of::<Self>();

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let mut values = [0; N];
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
    /// [`EventHeader::kind`] of a [`DataEvent`]: plaintext of a socket.
    EVENT_SOCKET_DATA: u32 = 7;
    /// [`EventHeader::kind`] of a [`DataEvent`]: through a pipe or socket pair.
    EVENT_STDIO_DATA: u32 = 8;
    /// [`EventHeader::kind`] of a [`DataEvent`]: start of a TLS handshake.
    EVENT_TLS_HELLO: u32 = 9;
    /// [`EventHeader::kind`] of a [`DataEvent`]: a DNS message.
    EVENT_DNS_DATA: u32 = 10;
    /// [`EventHeader::kind`] of [`ChannelEvent`].
    EVENT_CHANNEL_OPEN: u32 = 11;
    /// [`EventHeader::kind`] of [`ChannelCloseEvent`].
    EVENT_CHANNEL_CLOSE: u32 = 12;
    /// [`EventHeader::kind`] of [`TlsSocketEvent`].
    EVENT_TLS_SOCKET: u32 = 13;
    /// [`EventHeader::kind`] of [`PathEvent`].
    EVENT_PATH: u32 = 14;
    /// Of a fork, exec or exit: user space has yet to decide whether the process is to be observed.
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
    /// [`ChannelEvent::channel_type`]: TCP.
    CHANNEL_TCP: u8 = 1;
    /// [`ChannelEvent::channel_type`]: UDP.
    CHANNEL_UDP: u8 = 2;
    /// [`ChannelEvent::channel_type`]: Unix socket.
    CHANNEL_UNIX: u8 = 3;
    /// [`ChannelEvent::channel_type`]: pipe.
    CHANNEL_PIPE: u8 = 4;
    /// [`ChannelEvent::role`]: was open when it was first seen.
    ROLE_UNKNOWN: u8 = 0;
    /// [`ChannelEvent::role`]: this process connected it.
    ROLE_CONNECT: u8 = 1;
    /// [`ChannelEvent::role`]: this process accepted it.
    ROLE_ACCEPT: u8 = 2;
    /// Bytes of an internet address.
    ADDRESS_BYTES: usize = 16;
    /// Bytes of the path of a Unix socket.
    UNIX_PATH_BYTES: usize = 108;
    /// [`TlsSocketEvent::confidence`]: seen inside a call.
    CONFIDENCE_CERTAIN: u32 = 1;
    /// [`TlsSocketEvent::confidence`]: seen next to a call, twice.
    CONFIDENCE_LIKELY: u32 = 2;
    /// [`PathEvent::operation`]: the process uses this file from here on.
    PATH_OPEN: u16 = 1;
    /// [`PathEvent::operation`]: could not be opened.
    PATH_OPEN_FAILED: u16 = 2;
    /// [`PathEvent::operation`]: renamed.
    PATH_RENAME: u16 = 3;
    /// [`PathEvent::operation`]: unlinked.
    PATH_UNLINK: u16 = 4;
    /// [`PathEvent::operation`]: directory removed.
    PATH_RMDIR: u16 = 5;
    /// [`PathEvent::operation`]: directory made.
    PATH_MKDIR: u16 = 6;
    /// [`PathEvent::operation`]: truncated.
    PATH_TRUNCATE: u16 = 7;
    /// [`PathEvent::operation`]: hard link made.
    PATH_LINK: u16 = 8;
    /// [`PathEvent::operation`]: symbolic link made.
    PATH_SYMLINK: u16 = 9;
    /// [`PathEvent::flags`]: the open made the file.
    PATH_CREATED: u32 = 1_073_741_824;
    /// [`PathEvent::flags`]: components nearest to the root are missing.
    PATH_TRUNCATED: u32 = 2_147_483_648;
    /// [`PathEvent::flags`]: it is a directory.
    PATH_DIRECTORY: u32 = 536_870_912;
    /// [`PathEvent::flags`]: it was open before it was first seen.
    PATH_INHERITED: u32 = 268_435_456;
    /// [`FileUseKey::device`] of an open that failed, plus the errno.
    DEVICE_FAILED: u64 = 4_294_967_296;
    /// [`Connection::protocol`]: not told yet.
    PROTOCOL_UNKNOWN: u8 = 0;
    /// [`Connection::protocol`]: none of interest.
    PROTOCOL_OTHER: u8 = 1;
    /// [`Connection::protocol`]: TLS.
    PROTOCOL_TLS: u8 = 2;
    /// [`Connection::protocol`]: HTTP in plain text.
    PROTOCOL_HTTP: u8 = 3;
    /// [`Connection::protocol`]: HTTP, until a tunnel stands.
    PROTOCOL_HTTP_CONNECT: u8 = 4;
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
    /// Ledger index of `socket_data`.
    CLASS_SOCKET_DATA: usize = 5;
    /// Ledger index of `stdio_data`.
    CLASS_STDIO_DATA: usize = 6;
    /// Ledger index of `tls_hello`.
    CLASS_TLS_HELLO: usize = 7;
    /// Ledger index of `dns_data`.
    CLASS_DNS_DATA: usize = 8;
    /// Ledger index of `channel_open`.
    CLASS_CHANNEL_OPEN: usize = 9;
    /// Ledger index of `channel_close`.
    CLASS_CHANNEL_CLOSE: usize = 10;
    /// Ledger index of `tls_socket`.
    CLASS_TLS_SOCKET: usize = 11;
    /// Ledger index of the records that tell paths of files; they are no events.
    CLASS_FILE_PATH: usize = 12;
    /// Ledger index of `file_op`.
    CLASS_FILE_OP: usize = 13;
    /// Ledger index of `file_access`: only what could not be counted.
    CLASS_FILE_ACCESS: usize = 14;
    /// Number of ledger entries.
    CLASS_COUNT: usize = 15;
    /// Loss index: no room in the ring.
    LOSS_RING_FULL: usize = 0;
    /// Loss index: memory of the traced process could not be read.
    LOSS_COPY_FAULT: usize = 1;
    /// Loss index: more than is captured of one call.
    LOSS_TRUNCATED: usize = 2;
    /// Loss index: no room in a map that the event needs.
    LOSS_MAP_FULL: usize = 3;
    /// Loss index: moved without passing through memory of the process.
    LOSS_BYPASSED: usize = 4;
    /// Number of loss causes.
    LOSS_COUNT: usize = 5;
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

    /// A channel is used for the first time by a process.
    ChannelEvent {
        /// Header.
        header: EventHeader,
        /// Address in the kernel.
        handle: u64,
        /// When this use of the address was first seen.
        generation_boot_ns: u64,
        /// Inode number.
        inode: u64,
        /// Inode number of the other end of a Unix socket; 0 unknown.
        peer_inode: u64,
        /// Local address, network order.
        local_address: [u8; ADDRESS_BYTES],
        /// Remote address, network order.
        remote_address: [u8; ADDRESS_BYTES],
        /// Local port.
        local_port: u16,
        /// Remote port.
        remote_port: u16,
        /// `AF_*`; 0 for a pipe.
        family: u16,
        /// errno of a refused connect(2).
        error: u16,
        /// File descriptor.
        fd: u32,
        /// `CHANNEL_*` (`type` in C).
        channel_type: u8,
        /// `ROLE_*`.
        role: u8,
        /// Zero.
        _pad: [u8; 2],
        /// Path of a Unix socket.
        path: [u8; UNIX_PATH_BYTES],
        /// Length of it.
        path_bytes: u32,
    }

    /// A process closed a channel.
    ChannelCloseEvent {
        /// Header.
        header: EventHeader,
        /// Address in the kernel.
        handle: u64,
        /// When this use of the address was first seen.
        generation_boot_ns: u64,
        /// Bytes read, captured or not.
        read_bytes: u64,
        /// Bytes written, captured or not.
        written_bytes: u64,
    }

    /// Which socket carries a TLS connection.
    TlsSocketEvent {
        /// Header.
        header: EventHeader,
        /// Address of the library's connection object.
        handle: u64,
        /// Its generation.
        generation_boot_ns: u64,
        /// Handle of the socket.
        socket: u64,
        /// Its generation.
        socket_generation_boot_ns: u64,
        /// `CONFIDENCE_*`.
        confidence: u32,
        /// Zero.
        _pad: u32,
    }

    /// A process did something to a path; path, base, new path and new base follow.
    PathEvent {
        /// Header.
        header: EventHeader,
        /// What was opened or could not be.
        key: FileUseKey,
        /// `PATH_*` and those of open(2).
        flags: u32,
        /// `PATH_*`.
        operation: u16,
        /// errno of an open that failed.
        error: u16,
        /// Length of the path as given.
        path_bytes: u16,
        /// Length of the components it is relative to.
        base_bytes: u16,
        /// Length of the second path as given.
        new_path_bytes: u16,
        /// Length of the components that is relative to.
        new_base_bytes: u16,
    }

    /// Key of the file_uses map.
    FileUseKey {
        /// Inode number, or hash of the path.
        file: u64,
        /// Device number, or [`DEVICE_FAILED`] plus the errno.
        device: u64,
        /// Thread-group id.
        pid: u32,
        /// Of the inode.
        inode_generation: u32,
    }

    /// Value of the file_uses map.
    FileUse {
        /// First use.
        first_boot_ns: u64,
        /// Last use.
        last_boot_ns: u64,
        /// Opens.
        opens: u64,
        /// Reads.
        reads: u64,
        /// Bytes read.
        read_bytes: u64,
        /// Writes.
        writes: u64,
        /// Bytes written.
        written_bytes: u64,
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
        /// When the thread group was created; 0 until the kernel side looked.
        start_boot_ns: u64,
        /// `TRACKED_*`.
        flags: u32,
        /// Zero.
        _pad: u32,
    }

    /// Value of the connections map.
    Connection {
        /// When this use of its address was first seen.
        generation_boot_ns: u64,
        /// Bytes moved so far, by `DIRECTION_*`.
        stream_offset: [u64; 2],
        /// Of a TLS connection: the socket that carries it.
        socket: u64,
        /// Which use of the socket's address that is.
        socket_generation_boot_ns: u64,
        /// Of a TLS connection: the socket that may.
        candidate: u64,
        /// Of a channel: its inode number.
        inode: u64,
        /// Of a channel: the descriptor last used.
        fd: u32,
        /// Of a channel: how many descriptors it is used by.
        descriptors: u32,
        /// `CHANNEL_*`; 0 for a TLS connection.
        channel_type: u8,
        /// `ROLE_*`.
        role: u8,
        /// `PROTOCOL_*`.
        protocol: u8,
        /// A Unix socket without a path.
        pair: u8,
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
pub const CLASS_KINDS: [&str; CLASS_COUNT] = [
    "process_fork",
    "process_exec",
    "process_exit",
    "tls_data",
    "tls_close",
    "socket_data",
    "stdio_data",
    "tls_hello",
    "dns_data",
    "channel_open",
    "channel_close",
    "tls_socket",
    "file_path",
    "file_op",
    "file_access",
];

/// `cause` column of a loss, by `LOSS_*`.
pub const LOSS_CAUSES: [&str; LOSS_COUNT] =
    ["ring_full", "copy_fault", "truncated", "map_full", "bypassed"];

#[cfg(all(test, feature = "record"))]
pub(super) use tests::assert_mirrors;

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails unless `mirrored` has exactly the numbers that the C header `header` defines.
    pub(in crate::capture) fn assert_mirrors(mirrored: &[(&str, u64)], header: &str) {
        let mut defined = 0;
        for line in header.lines() {
            let mut words = line.split_whitespace();
            let (Some("#define"), Some(name), Some(value)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let value: u64 = value.parse().expect("constants are plain decimal numbers");
            assert!(mirrored.contains(&(name, value)), "{name} = {value} is not mirrored");
            defined += 1;
        }
        assert_eq!(defined, mirrored.len());
    }

    #[test]
    fn every_constant_of_the_header_is_mirrored_with_its_value() {
        assert_mirrors(CONSTANTS, include_str!("../../bpf/event.h"));
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
