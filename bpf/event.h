/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The records that cross the rings: the single source of truth of the wire ABI, mirrored by
 * src/capture/abi.rs, which proves every size and offset against what the compiler made of this
 * file. Fixed-width integers only, padding written out, native byte order; no enums, no booleans.
 *
 * Every record starts with event_header. A record may be longer than what it describes (kernels
 * that cannot reserve an exact size round up): the length fields count, never the record's end.
 * Times are nanoseconds of the boot-time clock (CLOCK_BOOTTIME).
 */
#ifndef AGENTSIGHT_EVENT_H
#define AGENTSIGHT_EVENT_H

#define EVENT_COMM_BYTES 16

/* event_header.kind */
#define EVENT_PROCESS_FORK 1
#define EVENT_PROCESS_EXEC 2
#define EVENT_PROCESS_EXIT 3
#define EVENT_TLS_DATA 4
#define EVENT_TLS_CLOSE 5
#define EVENT_EXEC_ARGV 6
#define EVENT_SOCKET_DATA 7
#define EVENT_STDIO_DATA 8
#define EVENT_TLS_HELLO 9
#define EVENT_DNS_DATA 10
#define EVENT_CHANNEL_OPEN 11
#define EVENT_CHANNEL_CLOSE 12
#define EVENT_TLS_SOCKET 13
#define EVENT_PATH 14

/*
 * event_header.flags of a fork, exec or exit: whether the process is to be observed is user space's
 * to decide by the arguments of its program, and it has not done so yet.
 */
#define HEADER_PROVISIONAL 1

struct event_header {
	__u32 kind;
	/* Thread-group id in the initial pid namespace. */
	__u32 pid;
	/* The thread that did it; in a fork, the thread that was made. */
	__u32 tid;
	/* HEADER_* */
	__u32 flags;
	__u64 boot_ns;
	/* When the thread group was created. With pid it names a process. */
	__u64 process_start_boot_ns;
	/* Name of the thread, NUL-padded, of any encoding. */
	__u8 comm[EVENT_COMM_BYTES];
};
_Static_assert(sizeof(struct event_header) == 48, "event_header");

/* A thread group was created; the header is about the child. */
struct process_fork_event {
	struct event_header header;
	/* The process that forked. */
	__u32 ppid;
	/* Real user id of the child. */
	__u32 uid;
};
_Static_assert(sizeof(struct process_fork_event) == 56, "process_fork_event");

/* process_exec_event.flags */
#define EXEC_MATCHED 1
#define EXEC_EXE_TRUNCATED 2
#define EXEC_CWD_TRUNCATED 4

/*
 * A new program was started. Three byte strings follow the struct, in this order:
 *   exe_bytes   path of the executable: its components, the last one first, each NUL-terminated
 *   cwd_bytes   working directory, in the same form; no component is the root directory
 *   argv_bytes  the end of the argument area, from argv_offset on
 * Truncation loses the components nearest to the root.
 */
struct process_exec_event {
	struct event_header header;
	__u32 ppid;
	__u32 uid;
	__u32 flags;
	__u32 exe_bytes;
	__u32 cwd_bytes;
	/* Size of the whole argument area. */
	__u32 argv_total_bytes;
	/* How much of the area exec_argv_event records, sent before this one, were to carry. */
	__u32 argv_offset;
	__u32 argv_bytes;
	/* Of the cgroup v2 hierarchy: the inode number of its directory; 0 unknown. */
	__u64 cgroup_id;
};
_Static_assert(sizeof(struct process_exec_event) == 88, "process_exec_event");

/* Part of a large argument area, sent ahead of its process_exec_event; argv_bytes follow. */
struct exec_argv_event {
	struct event_header header;
	__u32 argv_offset;
	__u32 argv_bytes;
};
_Static_assert(sizeof(struct exec_argv_event) == 56, "exec_argv_event");

/* The last thread of a process ended. All figures are over the life of the process, all threads. */
struct process_exit_event {
	struct event_header header;
	__u32 ppid;
	/* As wait(2) reports it: exit code << 8 | core dump flag 0x80 | signal. */
	__u32 wait_status;
	/* Tick-sampled split of the CPU time: good as a ratio. */
	__u64 cpu_user_sampled_ns;
	__u64 cpu_system_sampled_ns;
	/* Exact sum of the CPU time, up to the last scheduler tick. */
	__u64 cpu_runtime_ns;
	/* Highest resident set of the program last executed, in pages. */
	__u64 peak_rss_pages;
	/* Storage traffic; 0 where the kernel does not account for it. */
	__u64 read_bytes;
	__u64 written_bytes;
};
_Static_assert(sizeof(struct process_exit_event) == 104, "process_exit_event");

/* data_event.direction, seen from the traced process */
#define DIRECTION_READ 0
#define DIRECTION_WRITE 1

/* data_event.fd */
#define NO_FD 4294967295

/*
 * What one call moved, or a part of a large call; captured_bytes follow the struct. What could not
 * be captured is always the end: data_bytes - captured_bytes. The kinds: plaintext of a TLS library,
 * of a socket, of a pipe or socket pair; the first flight of a TLS handshake; a DNS message.
 */
struct data_event {
	struct event_header header;
	/* Address of the library's connection object, or of the channel in the kernel. */
	__u64 handle;
	/* When this use of the address was first seen; tells connections at the same address apart. */
	__u64 generation_boot_ns;
	/* Position of the first byte in this direction, counted from the first byte seen. */
	__u64 stream_offset;
	__u32 data_bytes;
	__u32 captured_bytes;
	__u8 direction;
	/* Kind of library, as user space named it when it attached the probe; 0 unknown. */
	__u8 library;
	__u8 _pad[2];
	/* File descriptor it went through; NO_FD where the library hides it. */
	__u32 fd;
};
_Static_assert(sizeof(struct data_event) == 88, "data_event");

/* A connection object that had carried data was freed. */
struct close_event {
	struct event_header header;
	__u64 handle;
	__u64 generation_boot_ns;
};
_Static_assert(sizeof(struct close_event) == 64, "close_event");

/* channel_event.channel_type */
#define CHANNEL_TCP 1
#define CHANNEL_UDP 2
#define CHANNEL_UNIX 3
#define CHANNEL_PIPE 4

/* channel_event.role */
#define ROLE_UNKNOWN 0
#define ROLE_CONNECT 1
#define ROLE_ACCEPT 2

#define ADDRESS_BYTES 16
#define UNIX_PATH_BYTES 108

/*
 * A process uses a channel (a socket or a pipe) for the first time. Ends of one channel are told by
 * inodes: both ends of a pipe have one, each end of a socket pair has its own and its peer's.
 */
struct channel_event {
	struct event_header header;
	/* Address of the channel in the kernel; with pid and generation it names this use of it. */
	__u64 handle;
	__u64 generation_boot_ns;
	__u64 inode;
	/* Of a Unix socket: the other end's; 0 unknown. */
	__u64 peer_inode;
	/* IPv4 addresses take the first four bytes. Network order. */
	__u8 local_address[ADDRESS_BYTES];
	__u8 remote_address[ADDRESS_BYTES];
	/* Host order; 0 none. */
	__u16 local_port;
	__u16 remote_port;
	/* AF_*; 0 for a pipe. */
	__u16 family;
	/* Of a refused connect(2), as errno. */
	__u16 error;
	__u32 fd;
	__u8 channel_type;
	__u8 role;
	__u8 _pad[2];
	/* Of a Unix socket: the path its peer or itself is bound to; begins with NUL if abstract. */
	__u8 path[UNIX_PATH_BYTES];
	__u32 path_bytes;
};
_Static_assert(sizeof(struct channel_event) == 240, "channel_event");

/* A process closed the last descriptor by which it was seen to use a channel. */
struct channel_close_event {
	struct event_header header;
	__u64 handle;
	__u64 generation_boot_ns;
	/* What it moved, captured or not. */
	__u64 read_bytes;
	__u64 written_bytes;
};
_Static_assert(sizeof(struct channel_close_event) == 80, "channel_close_event");

/* tls_socket_event.confidence */
/* The socket was used inside a call of the library for this connection. */
#define CONFIDENCE_CERTAIN 1
/* The same thread used the socket right before a read or after a write, twice in a row. */
#define CONFIDENCE_LIKELY 2

/* Which socket carries a TLS connection. */
struct tls_socket_event {
	struct event_header header;
	__u64 handle;
	__u64 generation_boot_ns;
	/* The socket as in its channel_event. */
	__u64 socket;
	__u64 socket_generation_boot_ns;
	__u32 confidence;
	__u32 _pad;
};
_Static_assert(sizeof(struct tls_socket_event) == 88, "tls_socket_event");

/* file_use_key.device of an open that failed: this plus the errno; file is a hash of the path. */
#define DEVICE_FAILED 4294967296

/* Key of the file_uses map. */
struct file_use_key {
	/* Inode number. */
	__u64 file;
	/* Device number in the kernel's own encoding: major << 20 | minor. */
	__u64 device;
	__u32 pid;
	/* Of the inode: tells reuse of its number. */
	__u32 inode_generation;
};
_Static_assert(sizeof(struct file_use_key) == 24, "file_use_key");

/* path_event.operation */
#define PATH_OPEN 1
#define PATH_OPEN_FAILED 2
#define PATH_RENAME 3
#define PATH_UNLINK 4
#define PATH_RMDIR 5
#define PATH_MKDIR 6
#define PATH_TRUNCATE 7
#define PATH_LINK 8
#define PATH_SYMLINK 9

/* path_event.flags, beside those of open(2), which are lower */
#define PATH_CREATED 1073741824
#define PATH_TRUNCATED 2147483648
#define PATH_DIRECTORY 536870912
/* It was open before it was first seen. */
#define PATH_INHERITED 268435456

/*
 * A process did something to a path. Four byte strings follow the struct, in this order:
 *   path_bytes      the path as it was given, ending in NUL; empty where base is the file itself
 *   base_bytes      what path is relative to, or the file: components as in process_exec_event
 *   new_path_bytes  the second path, as it was given
 *   new_base_bytes  what that is relative to
 * An absolute path has no base.
 */
struct path_event {
	struct event_header header;
	/* In file_uses: what was opened or could not be. */
	struct file_use_key key;
	__u32 flags;
	__u16 operation;
	/* errno of an open that failed */
	__u16 error;
	__u16 path_bytes;
	__u16 base_bytes;
	__u16 new_path_bytes;
	__u16 new_base_bytes;
};
_Static_assert(sizeof(struct path_event) == 88, "path_event");

/* What a process has done to a file. User space reads it now and then. */
struct file_use {
	__u64 first_boot_ns;
	__u64 last_boot_ns;
	__u64 opens;
	__u64 reads;
	__u64 read_bytes;
	__u64 writes;
	__u64 written_bytes;
};
_Static_assert(sizeof(struct file_use) == 56, "file_use");

/* Index into the ledger map. */
#define CLASS_PROCESS_FORK 0
#define CLASS_PROCESS_EXEC 1
#define CLASS_PROCESS_EXIT 2
#define CLASS_TLS_DATA 3
#define CLASS_TLS_CLOSE 4
#define CLASS_SOCKET_DATA 5
#define CLASS_STDIO_DATA 6
#define CLASS_TLS_HELLO 7
#define CLASS_DNS_DATA 8
#define CLASS_CHANNEL_OPEN 9
#define CLASS_CHANNEL_CLOSE 10
#define CLASS_TLS_SOCKET 11
/* Records that tell what files are called. */
#define CLASS_FILE_PATH 12
#define CLASS_FILE_OP 13
/* Only what could not be counted: the rest stands in file_uses. */
#define CLASS_FILE_ACCESS 14
#define CLASS_COUNT 15

/* Index into the loss columns of the ledger. */
#define LOSS_RING_FULL 0
#define LOSS_COPY_FAULT 1
#define LOSS_TRUNCATED 2
#define LOSS_MAP_FULL 3
/* Moved without passing through memory of the process: splice(2), sendfile(2), io_uring. */
#define LOSS_BYPASSED 4
#define LOSS_COUNT 5

/*
 * What became of one class of events. For events and for payload bytes alike:
 * attempted == submitted + sum of lost. An event may arrive and yet have lost bytes.
 */
struct ledger_entry {
	__u64 attempted_events;
	__u64 attempted_bytes;
	__u64 submitted_events;
	__u64 submitted_bytes;
	__u64 lost_events[LOSS_COUNT];
	__u64 lost_bytes[LOSS_COUNT];
};
_Static_assert(sizeof(struct ledger_entry) == 112, "ledger_entry");

/* tracked_process.flags: user space or a selector matched this process itself, not an ancestor. */
#define TRACKED_MATCHED 1
/* tracked_process.flags: observed until user space has decided; children are as well. */
#define TRACKED_PROVISIONAL 2

/* Value of the tracked map; the key is the pid. */
struct tracked_process {
	/* When the program image began: connections first seen earlier belong to another one. */
	__u64 image_boot_ns;
	/* signal->maxrss at the last exec: what the images before it had reached. */
	__u64 maxrss_at_exec_pages;
	/* When the thread group was created; 0 until somebody looked. */
	__u64 start_boot_ns;
	__u32 flags;
	__u32 _pad;
};
_Static_assert(sizeof(struct tracked_process) == 32, "tracked_process");

/* Bits of the setting `selectors`. By user id alone. */
#define SELECT_UID 1
/* Whatever selects, the user id has to be a wanted one as well. */
#define SELECT_ONLY_UID 2
/* By cgroup. */
#define SELECT_CGROUP 4

/* Value of wanted_names. */
#define NAME_WANTED 1
#define NAME_INTERPRETER 2

/* Key of wanted_names: a file name, NUL-padded. Longer names never match. */
#define NAME_BYTES 64
struct wanted_name {
	__u8 bytes[NAME_BYTES];
};
_Static_assert(sizeof(struct wanted_name) == 64, "wanted_name");

/* Key of the connections map. */
struct connection_key {
	__u64 handle;
	__u32 pid;
	__u32 _pad;
};
_Static_assert(sizeof(struct connection_key) == 16, "connection_key");

/* connection.protocol, as the first bytes of a socket tell it */
#define PROTOCOL_UNKNOWN 0
#define PROTOCOL_OTHER 1
#define PROTOCOL_TLS 2
#define PROTOCOL_HTTP 3
/* HTTP until the tunnel stands (RFC 9110, 9.3.6), then what is in it. */
#define PROTOCOL_HTTP_CONNECT 4

/* What is known of a connection object of a TLS library, or of a channel. */
struct connection {
	__u64 generation_boot_ns;
	/* Bytes moved so far, by direction, captured or not. */
	__u64 stream_offset[2];
	/* Of a TLS connection: the socket that carries it, and the one that may (tls_socket_event). */
	__u64 socket;
	__u64 socket_generation_boot_ns;
	__u64 candidate;
	/* Of a channel: its inode number, which tells reuse of its address. */
	__u64 inode;
	/* Of a channel: the descriptor it was last used by, and how many it is used by. */
	__u32 fd;
	__u32 descriptors;
	/* CHANNEL_*; 0 for a TLS connection */
	__u8 channel_type;
	/* ROLE_* */
	__u8 role;
	/* PROTOCOL_* */
	__u8 protocol;
	/* A Unix socket without a path at either end, such as socketpair(2) makes. */
	__u8 pair;
	__u32 _pad;
};
_Static_assert(sizeof(struct connection) == 72, "connection");

#endif
