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

/*
 * event_header.flags: whether the process is to be observed is user space's to decide by the
 * arguments of its program; until then, its records are provisional.
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
 * Plaintext of one library call, or of a part of a large call; captured_bytes follow the struct.
 * What could not be captured is always the end: data_bytes - captured_bytes.
 */
struct data_event {
	struct event_header header;
	/* Address of the library's connection object. */
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

/* Index into the ledger map. */
#define CLASS_PROCESS_FORK 0
#define CLASS_PROCESS_EXEC 1
#define CLASS_PROCESS_EXIT 2
#define CLASS_TLS_DATA 3
#define CLASS_TLS_CLOSE 4
#define CLASS_COUNT 5

/* Index into the loss columns of the ledger. */
#define LOSS_RING_FULL 0
#define LOSS_COPY_FAULT 1
#define LOSS_TRUNCATED 2
#define LOSS_MAP_FULL 3
#define LOSS_COUNT 4

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
_Static_assert(sizeof(struct ledger_entry) == 96, "ledger_entry");

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
	__u32 flags;
	__u32 _pad;
};
_Static_assert(sizeof(struct tracked_process) == 24, "tracked_process");

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

#endif
