// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Plaintext through TLS libraries: uprobes on the functions that read, write and free, attached by
 * user space at file offsets, for all processes; those not under observation leave first thing.
 *
 * Everything is emitted at return: only then is it known how much moved, and a call that is
 * repeated after WANT_WRITE counts once. A call that was running when the probe was attached is
 * missed. Uprobe programs may be preempted and must not fault: no per-CPU scratch, and a page that
 * is not resident is a counted copy fault (rare: the library has just touched it).
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "event.h"
#include "maps.h"
#include "scope.h"
#include "emit.h"

/* Large calls are split: a record this size still leaves room for others in the ring. */
#define PART_BYTES 65536
/* Up to 8 MiB of one call is captured, the rest counted as truncated. */
#define CALL_PARTS 128

/* How a function says how much it moved. */
#define RESULT_IS_RETURN 0
#define RESULT_IS_STORED 1

extern int bpf_probe_read_user_dynptr(struct bpf_dynptr *to, __u64 offset, __u64 bytes,
				      const void *from) __ksym __weak;

/* ---- Entry ---- */

static __always_inline int enter(struct pt_regs *ctx, __u8 direction, __u64 stored_at, __u32 result)
{
	struct call_key key = { .thread = bpf_get_current_pid_tgid() };
	struct active_call call = {}, *outer = 0;
	__u64 handle = PT_REGS_PARM1(ctx);

	if (!scope_of(key.thread >> 32))
		return 0;
	call.stack = PT_REGS_SP(ctx);
	for (; key.level < MAX_NESTED_CALLS; key.level++) {
		outer = bpf_map_lookup_elem(&active_calls, &key);
		/* Stacks grow down: one from further down or the same place never returned. */
		if (!outer || outer->stack <= call.stack)
			break;
		/* A wrapper around another probed function would be counted twice. */
		if (outer->event.handle == handle && outer->event.direction == direction)
			return 0;
	}
	if (key.level == MAX_NESTED_CALLS) {
		count_map_full(CLASS_TLS_DATA, 0);
		return 0;
	}
	if (outer)
		forget_calls(key.thread, key.level);
	call.data = PT_REGS_PARM2(ctx);
	call.stored_at = stored_at;
	call.result = result;
	call.event.handle = handle;
	call.event.direction = direction;
	if (has_attach_cookie)
		call.event.library = bpf_get_attach_cookie(ctx);
	if (bpf_map_update_elem(&active_calls, &key, &call, BPF_ANY))
		count_map_full(CLASS_TLS_DATA, 0);
	return 0;
}

/* int SSL_read(SSL *, void *data, int size) */
SEC("uprobe")
int handle_tls_read(struct pt_regs *ctx)
{
	return enter(ctx, TLS_READ, 0, RESULT_IS_RETURN);
}

/* int SSL_write(SSL *, const void *data, int size) */
SEC("uprobe")
int handle_tls_write(struct pt_regs *ctx)
{
	return enter(ctx, TLS_WRITE, 0, RESULT_IS_RETURN);
}

/* int SSL_read_ex(SSL *, void *data, size_t size, size_t *done) */
SEC("uprobe")
int handle_tls_read_ex(struct pt_regs *ctx)
{
	return enter(ctx, TLS_READ, PT_REGS_PARM4(ctx), RESULT_IS_STORED);
}

/* int SSL_write_ex(SSL *, const void *data, size_t size, size_t *done) */
SEC("uprobe")
int handle_tls_write_ex(struct pt_regs *ctx)
{
	return enter(ctx, TLS_WRITE, PT_REGS_PARM4(ctx), RESULT_IS_STORED);
}

/* int SSL_write_ex2(SSL *, const void *data, size_t size, uint64_t flags, size_t *done) */
SEC("uprobe")
int handle_tls_write_ex2(struct pt_regs *ctx)
{
	return enter(ctx, TLS_WRITE, PT_REGS_PARM5(ctx), RESULT_IS_STORED);
}

/* ---- Output ---- */

/*
 * Exact-size record (6.16). Returns 0, or the LOSS_* cause plus 1. A reservation must be given back
 * even if it failed.
 */
static __always_inline int output_exact(const struct tls_data_event *event, const void *data,
					__u32 bytes)
{
	__u64 flags = payload_wakeup();
	struct bpf_dynptr record;

	if (bpf_ringbuf_reserve_dynptr(&payload_ring, sizeof(*event) + bytes, 0, &record)) {
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
	static __always_inline int output_##room(const struct tls_data_event *event,              \
						 const void *data, __u32 bytes)                    \
	{                                                                                          \
		struct {                                                                           \
			struct tls_data_event event;                                               \
			__u8 data[room];                                                           \
		} *record;                                                                         \
		__u64 flags = payload_wakeup();                                                    \
                                                                                                   \
		record = bpf_ringbuf_reserve(&payload_ring, sizeof(*record), 0);                   \
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

static __always_inline int output(const struct tls_data_event *event, const void *data,
				  __u32 bytes)
{
	if (!force_compat && bpf_ksym_exists(bpf_probe_read_user_dynptr))
		return output_exact(event, data, bytes);
	if (bytes <= 256)
		return output_256(event, data, bytes);
	if (bytes <= 2048)
		return output_2048(event, data, bytes);
	if (bytes <= 16384)
		return output_16384(event, data, bytes);
	return output_65536(event, data, bytes);
}

/* Reports `bytes` that moved but could not be captured, so that the hole has a time and a place. */
static __always_inline void output_hole(struct tls_data_event *event, struct ledger_entry *entry,
					__u32 cause, __u64 bytes)
{
	event->data_bytes = bytes > 0xffffffff ? 0xffffffff : bytes;
	event->captured_bytes = 0;
	if (bpf_ringbuf_output(&payload_ring, event, sizeof(*event), payload_wakeup())) {
		count_lost(entry, LOSS_RING_FULL, 1, bytes);
		return;
	}
	count_submitted(entry, 0);
	if (cause == LOSS_COPY_FAULT)
		count_lost(entry, LOSS_COPY_FAULT, 0, bytes);
	else
		count_lost(entry, LOSS_TRUNCATED, 0, bytes);
}

/*
 * Writes the next `bytes` of the call at `level` that is returning, and accounts for them.
 * Global, so that the verifier checks it once and not for every round of the loop around it; the
 * record's fixed part is taken from the map, because a global function takes no pointers before
 * 5.12.
 */
__noinline int output_part(__u64 data, __u32 bytes, __u32 level)
{
	struct call_key key = { .thread = bpf_get_current_pid_tgid(), .level = level };
	struct ledger_entry *entry = ledger_of(CLASS_TLS_DATA);
	struct active_call *call = bpf_map_lookup_elem(&active_calls, &key);
	int failed;

	if (!call || !entry || bytes > PART_BYTES)
		return 0;
	count_attempt(entry, bytes);
	call->event.data_bytes = bytes;
	call->event.captured_bytes = bytes;
	failed = output(&call->event, (const void *)data, bytes);
	if (!failed)
		count_submitted(entry, bytes);
	else if (failed == LOSS_RING_FULL + 1)
		count_lost(entry, LOSS_RING_FULL, 1, bytes);
	else
		output_hole(&call->event, entry, LOSS_COPY_FAULT, bytes);
	call->event.stream_offset += bytes;
	return 0;
}

static __always_inline void output_call(struct active_call *call, __u64 bytes, __u32 level)
{
	struct ledger_entry *entry = ledger_of(CLASS_TLS_DATA);
	__u64 data = call->data;
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

/* ---- Return ---- */

/* No library moves more in one call; who claims it would drive the counters anywhere. */
#define CALL_BYTES 0x7fffffff

/* How many bytes a call moved; 0 if it failed. A count that cannot be read is a lost event. */
static __always_inline __u64 bytes_moved(const struct active_call *call, int returned)
{
	struct ledger_entry *entry = ledger_of(CLASS_TLS_DATA);
	__u64 stored = 0;

	if (returned <= 0 || !entry)
		return 0;
	if (call->result == RESULT_IS_RETURN)
		return returned;
	if (bpf_probe_read_user(&stored, sizeof(stored), (const void *)call->stored_at)) {
		count_attempt(entry, 0);
		count_lost(entry, LOSS_COPY_FAULT, 1, 0);
		return 0;
	}
	return stored > CALL_BYTES ? CALL_BYTES : stored;
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
 * The level of this thread's call that was entered at `stack`; MAX_NESTED_CALLS if there is none.
 * Global, so that the verifier goes on from it with one unknown level and not with each of them.
 */
__noinline int level_of(__u64 stack)
{
	struct call_key key = { .thread = bpf_get_current_pid_tgid() };
	struct active_call *call;

	for (; key.level < MAX_NESTED_CALLS; key.level++) {
		call = bpf_map_lookup_elem(&active_calls, &key);
		if (!call)
			return MAX_NESTED_CALLS;
		if (call->stack == stack)
			break;
	}
	return key.level;
}

/* On return of every function that reads or writes. */
SEC("uretprobe")
int handle_tls_return(struct pt_regs *ctx)
{
	struct call_key place = { .thread = bpf_get_current_pid_tgid() };
	struct connection_key key = {};
	struct connection *connection;
	struct tracked_process *process;
	struct active_call *call;
	__u64 bytes, stack;

	process = scope_of(place.thread >> 32);
	if (!process)
		return 0;
	stack = PT_REGS_SP(ctx);
#if defined(__TARGET_ARCH_x86)
	/* The return address has been popped. */
	stack -= sizeof(__u64);
#endif
	place.level = level_of(stack);
	call = bpf_map_lookup_elem(&active_calls, &place);
	if (!call)
		return 0;
	bytes = bytes_moved(call, PT_REGS_RC(ctx));
	if (!bytes)
		goto done;

	key.handle = call->event.handle;
	key.pid = place.thread >> 32;
	connection = connection_of(&key, process);
	if (!connection) {
		count_map_full(CLASS_TLS_DATA, bytes);
		goto done;
	}
	fill_header(&call->event.header, EVENT_TLS_DATA,
		    (struct task_struct *)bpf_get_current_task());
	call->event.generation_boot_ns = connection->generation_boot_ns;
	/* One thread at a time reads, and one writes: the library demands it of its users. */
	if (call->event.direction == TLS_READ) {
		call->event.stream_offset = connection->stream_offset[TLS_READ];
		connection->stream_offset[TLS_READ] += bytes;
	} else {
		call->event.stream_offset = connection->stream_offset[TLS_WRITE];
		connection->stream_offset[TLS_WRITE] += bytes;
	}
	output_call(call, bytes, place.level);
done:
	forget_calls(place.thread, place.level);
	return 0;
}

/*
 * void SSL_free(SSL *). Objects that never carried data are not reported. One that lives on because
 * something else holds a reference begins a new generation with its next data.
 */
SEC("uprobe")
int handle_tls_free(struct pt_regs *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct connection_key key = { .handle = PT_REGS_PARM1(ctx), .pid = pid };
	struct tls_close_event event = {};
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

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
