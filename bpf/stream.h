/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * How bytes that a traced process moves become records of a stream: its position, its generation,
 * the copy out of the process, the account of what could not be copied. Where the bytes are and
 * what stream they belong to is the including file's to find out.
 *
 * The fixed part of a record lives in active_calls while it is written, because a program cannot
 * hand memory of its own to a global function before 5.12.
 */
#ifndef AGENTSIGHT_STREAM_H
#define AGENTSIGHT_STREAM_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "event.h"
#include "maps.h"
#include "scope.h"
#include "emit.h"
#include "link.h"

/* Large calls are split: a record this size still leaves room for others in the ring. */
#define PART_BYTES 65536
/* Up to 8 MiB of one call is captured, the rest counted as truncated. */
#define CALL_PARTS 128

/* No library moves more in one call; who claims it would drive the counters anywhere. */
#define CALL_BYTES 0x7fffffff

extern int bpf_probe_read_user_dynptr(struct bpf_dynptr *to, __u64 offset, __u64 bytes,
				      const void *from) __ksym __weak;

/*
 * Exact-size record (6.16). Returns 0, or the LOSS_* cause plus 1. A reservation must be given back
 * even if it failed.
 */
static __always_inline int output_exact(void *ring, __u64 flags, const struct data_event *event,
					const void *data, __u32 bytes)
{
	struct bpf_dynptr record;

	if (bpf_ringbuf_reserve_dynptr(ring, sizeof(*event) + bytes, 0, &record)) {
		bpf_ringbuf_discard_dynptr(&record, BPF_RB_NO_WAKEUP);
		return LOSS_RING_FULL + 1;
	}
	if (bpf_dynptr_write(&record, 0, (void *)event, sizeof(*event), 0) ||
	    bpf_probe_read_user_dynptr(&record, sizeof(*event), bytes, data)) {
		bpf_ringbuf_discard_dynptr(&record, BPF_RB_NO_WAKEUP);
		return LOSS_COPY_FAULT + 1;
	}
	bpf_ringbuf_submit_dynptr(&record, flags);
	return 0;
}

/*
 * The same on older kernels, where the size of a record is a constant: `room` bytes are reserved
 * and the end of them stays unused.
 */
#define OUTPUT_TIER(room)                                                                          \
	static __always_inline int output_##room(void *ring, __u64 flags,                          \
						 const struct data_event *event, const void *data, \
						 __u32 bytes)                                      \
	{                                                                                          \
		struct {                                                                           \
			struct data_event event;                                                   \
			__u8 data[room];                                                           \
		} *record;                                                                         \
                                                                                                   \
		record = bpf_ringbuf_reserve(ring, sizeof(*record), 0);                            \
		if (!record)                                                                       \
			return LOSS_RING_FULL + 1;                                                 \
		record->event = *event;                                                            \
		barrier_var(bytes);                                                                \
		if (bytes > room || bpf_probe_read_user(record->data, bytes, data)) {              \
			bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);                             \
			return LOSS_COPY_FAULT + 1;                                                \
		}                                                                                  \
		bpf_ringbuf_submit(record, flags);                                                 \
		return 0;                                                                          \
	}
OUTPUT_TIER(256)
OUTPUT_TIER(2048)
OUTPUT_TIER(16384)
OUTPUT_TIER(65536)

static __always_inline int output(void *ring, __u64 flags, const struct data_event *event,
				  const void *data, __u32 bytes)
{
	if (!force_compat && bpf_ksym_exists(bpf_probe_read_user_dynptr))
		return output_exact(ring, flags, event, data, bytes);
	if (bytes <= 256)
		return output_256(ring, flags, event, data, bytes);
	if (bytes <= 2048)
		return output_2048(ring, flags, event, data, bytes);
	if (bytes <= 16384)
		return output_16384(ring, flags, event, data, bytes);
	return output_65536(ring, flags, event, data, bytes);
}

/* Reports `bytes` that moved but could not be captured, so that the hole has a time and a place. */
static __always_inline void output_hole(struct data_event *event, struct ledger_entry *entry,
					__u32 cause, __u64 bytes)
{
	long failed;

	event->data_bytes = bytes > 0xffffffff ? 0xffffffff : bytes;
	event->captured_bytes = 0;
	if (event->header.kind == EVENT_STDIO_DATA)
		failed = bpf_ringbuf_output(&io_ring, event, sizeof(*event), io_wakeup());
	else
		failed = bpf_ringbuf_output(&payload_ring, event, sizeof(*event), payload_wakeup());
	if (failed) {
		count_lost(entry, LOSS_RING_FULL, 1, bytes);
		return;
	}
	count_submitted(entry, 0);
	if (cause == LOSS_COPY_FAULT)
		count_lost(entry, LOSS_COPY_FAULT, 0, bytes);
	else if (cause == LOSS_BYPASSED)
		count_lost(entry, LOSS_BYPASSED, 0, bytes);
	else
		count_lost(entry, LOSS_TRUNCATED, 0, bytes);
}

/* Writes the next `bytes`, at most PART_BYTES, of a call, and accounts for them. */
static __always_inline void output_small(struct active_call *call, __u64 data, __u32 bytes)
{
	struct ledger_entry *entry = ledger_of(call->class);
	int failed;

	if (!entry)
		return;
	count_attempt(entry, bytes);
	call->event.data_bytes = bytes;
	call->event.captured_bytes = bytes;
	if (call->kind == EVENT_STDIO_DATA)
		failed = output(&io_ring, io_wakeup(), &call->event, (const void *)data, bytes);
	else
		failed = output(&payload_ring, payload_wakeup(), &call->event, (const void *)data,
				bytes);
	if (!failed)
		count_submitted(entry, bytes);
	else if (failed == LOSS_RING_FULL + 1)
		count_lost(entry, LOSS_RING_FULL, 1, bytes);
	else
		output_hole(&call->event, entry, LOSS_COPY_FAULT, bytes);
	call->event.stream_offset += bytes;
}

/*
 * The same for the call at `level` of this thread. Global, so that the verifier checks it once and
 * not for every round of the loop around it; the call is looked up again, because a global function
 * takes no pointers before 5.12.
 */
__weak __noinline int output_part(__u64 data, __u32 bytes, __u32 level)
{
	struct active_call *call = call_at(level);

	if (call && bytes <= PART_BYTES)
		output_small(call, data, bytes);
	return 0;
}

static __always_inline void output_call(struct active_call *call, __u64 data, __u64 bytes,
					__u32 level)
{
	struct ledger_entry *entry = ledger_of(call->class);
	__u32 i;

	for (i = 0; i < CALL_PARTS && bytes; i++) {
		__u32 part = bytes < PART_BYTES ? bytes : PART_BYTES;

		output_part(data, part, level);
		data += part;
		bytes -= part;
	}
	if (bytes && entry) {
		count_attempt(entry, bytes);
		output_hole(&call->event, entry, LOSS_TRUNCATED, bytes);
	}
}

/*
 * The connection of an object, made if it is new. One that is older than the program image is a
 * leftover of another process or program at the same address and is begun anew.
 */
static __always_inline struct connection *connection_of(const struct connection_key *key,
							const struct tracked_process *process)
{
	struct connection fresh = {}, *connection;

	connection = bpf_map_lookup_elem(&connections, key);
	if (connection && connection->generation_boot_ns >= process->image_boot_ns)
		return connection;
	fresh.generation_boot_ns = bpf_ktime_get_boot_ns();
	if (bpf_map_update_elem(&connections, key, &fresh, BPF_ANY))
		return 0;
	return bpf_map_lookup_elem(&connections, key);
}

/*
 * A call of `process` moves `bytes`: completes its record but for the data, and advances the
 * stream. False if the bytes cannot be kept, which is counted.
 */
static __always_inline bool advance_call(struct active_call *call, struct tracked_process *process,
					 __u64 bytes)
{
	struct connection_key key = { .pid = bpf_get_current_pid_tgid() >> 32 };
	struct connection *connection;

	key.handle = call->event.handle;
	connection = connection_of(&key, process);
	if (!connection) {
		count_map_full(call->class, bytes);
		return false;
	}
	if (call->class == CLASS_TLS_DATA)
		link_to_socket(call, &key, connection);
	fill_own_header(&call->event.header, call->kind, process);
	call->event.generation_boot_ns = connection->generation_boot_ns;
	/* One thread at a time reads, and one writes: libraries demand it of their users. */
	if (call->event.direction == DIRECTION_READ) {
		call->event.stream_offset = connection->stream_offset[DIRECTION_READ];
		connection->stream_offset[DIRECTION_READ] += bytes;
	} else {
		call->event.stream_offset = connection->stream_offset[DIRECTION_WRITE];
		connection->stream_offset[DIRECTION_WRITE] += bytes;
	}
	return true;
}

/* The same for the call at `level` of this thread. Returns the call; 0 if nothing can be kept. */
static __always_inline struct active_call *advance(__u32 level, __u64 bytes)
{
	struct tracked_process *process = scope_of(bpf_get_current_pid_tgid() >> 32);
	struct active_call *call = call_at(level);

	return call && process && bytes && advance_call(call, process, bytes) ? call : 0;
}

/*
 * Records `bytes` at `data` as what the call at `level` of this thread moved: the stream advances by
 * them, captured or not. May be called several times for one call. Global, so that the verifier
 * checks it once however often it is called.
 */
__weak __noinline int record_bytes(__u64 data, __u64 bytes, __u32 level)
{
	struct active_call *call = advance(level, bytes);

	if (call)
		output_call(call, data, bytes, level);
	return 0;
}

/* The same for bytes that are not captured, for `cause` (LOSS_*): a hole of known place. */
__weak __noinline int record_hole(__u64 bytes, __u32 level, __u32 cause)
{
	struct active_call *call = advance(level, bytes);
	struct ledger_entry *entry;

	if (!call)
		return 0;
	entry = ledger_of(call->class);
	if (!entry)
		return 0;
	count_attempt(entry, bytes);
	output_hole(&call->event, entry, cause, bytes);
	return 0;
}

/*
 * Makes the call of this thread that is no call of a nested function: for a program that records
 * what it sees at once. record_bytes(data, bytes, DIRECT_LEVEL) may follow. 0 when there is no room,
 * which is counted.
 */
static __always_inline struct active_call *begin_direct(__u64 handle, __u8 direction, __u32 class,
							__u32 kind)
{
	struct thread_state *state = enter_thread();
	struct active_call *call;

	if (!state) {
		count_map_full(class, 0);
		return 0;
	}
	call = &state->calls[DIRECT_LEVEL];
	call->class = class;
	call->kind = kind;
	call->socket = 0;
	call->event.handle = handle;
	call->event.direction = direction;
	call->event.library = 0;
	call->event.fd = NO_FD;
	return call;
}

/*
 * Ends the connection of an object of the current process. Objects that never carried data are not
 * reported. One that lives on because something else holds it begins a new generation with its next
 * data.
 */
static __always_inline int end_connection(__u64 handle)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct connection_key key = { .handle = handle, .pid = pid };
	struct close_event event = {};
	struct connection *connection;

	if (!scope_of(pid))
		return 0;
	connection = bpf_map_lookup_elem(&connections, &key);
	if (!connection)
		return 0;
	fill_header(&event.header, EVENT_TLS_CLOSE, (struct task_struct *)bpf_get_current_task());
	event.handle = key.handle;
	event.generation_boot_ns = connection->generation_boot_ns;
	bpf_map_delete_elem(&connections, &key);
	emit_small(&payload_ring, CLASS_TLS_CLOSE, &event, sizeof(event), payload_wakeup());
	return 0;
}

#endif
