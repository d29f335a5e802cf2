/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Every map and setting that more than one file uses. They are weak, so that the linker makes one
 * of the copies. Hash maps are preallocated: uprobes and tracepoints must not allocate.
 */
#ifndef AGENTSIGHT_MAPS_H
#define AGENTSIGHT_MAPS_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include "event.h"

/* ---- Settings, filled by user space before load ---- */

/* Wake the reader of the payload ring when more than this is unread; below, it comes by itself. */
const volatile __u64 payload_wakeup_bytes __weak = 4 << 20;
/* The same for the ring of pipes and files. */
const volatile __u64 io_wakeup_bytes __weak = 2 << 20;
/* The same for the control ring. */
const volatile __u64 control_wakeup_bytes __weak = 1 << 20;
/* bpf_get_attach_cookie exists (5.15). */
const volatile __u8 has_attach_cookie __weak = 0;
/* Never use the exact-size path, as if bpf_probe_read_user_dynptr (6.16) did not exist. */
const volatile __u8 force_compat __weak = 0;

/* SELECT_*: what a program is selected by when it is executed; names always are looked for. */
const volatile __u32 selectors __weak = 0;
/*
 * User space has selectors of its own, over arguments: programs that nothing here selects are
 * observed provisionally.
 */
const volatile __u8 decides_later __weak = 0;

/* ---- Rings ---- */

/* Plaintext and connection ends. Written without wakeup; user space sets the size before load. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 32 << 20);
} payload_ring SEC(".maps") __weak;

/* Pipes, socket pairs, channels, files. Apart, so that they can never evict plaintext of TLS. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} io_ring SEC(".maps") __weak;

/* Fork, exec, exit. Apart, so that bulk payload can never evict them. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} control_ring SEC(".maps") __weak;

/* ---- Scope ---- */

/*
 * Processes under observation, by pid. Filled by user space, by exec of a wanted name and by fork;
 * entries leave at exit. User space sets the size before load. Full: the process is not observed,
 * counted as map_full.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct tracked_process);
} tracked SEC(".maps") __weak;

/* File names that user space looks for, and those of interpreters. Read-only for programs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct wanted_name);
	__type(value, __u32);
} wanted_names SEC(".maps") __weak;

/* Real user ids, for SELECT_UID and SELECT_ONLY_UID. Read-only for programs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} wanted_uids SEC(".maps") __weak;

/* Ids of cgroups; their descendants count as well. Read-only for programs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u32);
} wanted_cgroups SEC(".maps") __weak;

/* ---- TLS ---- */

/* A call that has begun: what its return needs to know. */
struct active_call {
	__u64 data;
	/* Where the function stores the count; 0 if it returns it. */
	__u64 stored_at;
	/* Stack pointer at entry: tells this call's return from those of calls nested in it. */
	__u64 stack;
	__u32 result;
	/* CLASS_* and EVENT_* of what it moves. */
	__u32 class;
	__u32 kind;
	__u32 _pad;
	/* Address of the socket that is used inside this call; 0 not known yet. */
	__u64 socket;
	/* What went through it meanwhile, by direction, and is not counted there yet. */
	__u64 wire_bytes[2];
	/* Handle, direction and library from the entry on; complete during the return. */
	struct data_event event;
};

/*
 * Calls nest: a read that completes the handshake runs a callback in which node writes the first
 * request, and TLS inside TLS writes to the outer connection while it writes to the inner one.
 */
#define MAX_NESTED_CALLS 4
/* Level of what a program records at once, without a call that has begun (begin_direct). */
#define DIRECT_LEVEL MAX_NESTED_CALLS
#define CALL_LEVELS 5

/* What a thread is at. */
struct thread_state {
	/* Socket that carries TLS of the last receive (link.h). */
	__u64 received_from;
	/* TLS connection that was written to and not sent since. */
	__u64 written_to;
	/* How many calls have begun and not returned: those at the levels below this. */
	__u32 depth;
	__u32 _pad;
	struct active_call calls[CALL_LEVELS];
};
_Static_assert(CALL_LEVELS == DIRECT_LEVEL + 1, "levels");

/*
 * By pid << 32 | tid, from the first call of a thread until the thread ends. A call that is left by
 * longjmp stays until another call of the thread takes its level. Full: calls are lost, counted as
 * map_full.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct thread_state);
} threads SEC(".maps") __weak;

/* Too large for a stack: what a new entry of threads holds. */
const volatile struct thread_state no_thread_state __weak = {};

/* The state of this thread; 0 if it has none. */
static __always_inline struct thread_state *this_thread(void)
{
	__u64 thread = bpf_get_current_pid_tgid();

	return bpf_map_lookup_elem(&threads, &thread);
}

/* The same, made if there is none; 0 if there is no room. */
static __always_inline struct thread_state *enter_thread(void)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct thread_state *state = bpf_map_lookup_elem(&threads, &thread);

	if (state)
		return state;
	bpf_map_update_elem(&threads, &thread, (const void *)&no_thread_state, BPF_NOEXIST);
	return bpf_map_lookup_elem(&threads, &thread);
}

/* The call of this thread at a level; 0 if there is none. */
static __always_inline struct active_call *call_at(__u32 level)
{
	struct thread_state *state = this_thread();

	return state && level < CALL_LEVELS ? &state->calls[level] : 0;
}

/*
 * Made at the first data of a connection object or channel, removed when it is freed or closed; user
 * space removes what a process leaves behind at exit. Full: data is lost, counted as map_full.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct connection_key);
	__type(value, struct connection);
} connections SEC(".maps") __weak;

/* ---- Files ---- */

/*
 * Made at the first use of a file by a process; user space reads it now and then, and removes what
 * is idle and what is left at exit. Full: uses are lost, counted as map_full.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct file_use_key);
	__type(value, struct file_use);
} file_uses SEC(".maps") __weak;

/* ---- Loss accounting ---- */

/* One entry per event class. Programs only add, atomically: uprobes may be preempted. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CLASS_COUNT);
	__type(key, __u32);
	__type(value, struct ledger_entry);
} ledger SEC(".maps") __weak;

#endif
