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
#include "stream.h"

/* How a function says how much it moved. */
#define RESULT_IS_RETURN 0
#define RESULT_IS_STORED 1
/* As returned, and nobody knows where the bytes are. */
#define RESULT_IS_UNSEEN 2

/* ---- Entry ---- */

/* What is known of the socket from earlier calls, so that its use costs little. */
static __always_inline void recall_socket(struct active_call *call, __u32 pid)
{
	struct connection_key key = { .handle = call->event.handle, .pid = pid };
	struct connection *connection = bpf_map_lookup_elem(&connections, &key), *channel;

	call->socket = 0;
	call->event.fd = NO_FD;
	channel = connection ? socket_of(connection, pid) : 0;
	if (!channel)
		return;
	call->socket = connection->socket;
	call->event.fd = channel->fd;
}

static __always_inline int enter(struct pt_regs *ctx, __u8 direction, __u64 stored_at, __u32 result)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32, level;
	__u64 handle = PT_REGS_PARM1(ctx), stack = PT_REGS_SP(ctx);
	struct thread_state *state;
	struct active_call *call;

	if (!scope_of(pid))
		return 0;
	state = enter_thread();
	if (!state) {
		count_map_full(CLASS_TLS_DATA, 0);
		return 0;
	}
	for (level = 0; level < MAX_NESTED_CALLS && level < state->depth; level++) {
		const struct active_call *outer = &state->calls[level];

		/* Stacks grow down: one from further down or the same place never returned. */
		if (outer->stack <= stack)
			break;
		/* A wrapper around another probed function would be counted twice. */
		if (outer->event.handle == handle && outer->event.direction == direction)
			return 0;
	}
	if (level >= MAX_NESTED_CALLS) {
		count_map_full(CLASS_TLS_DATA, 0);
		return 0;
	}
	call = &state->calls[level];
	state->depth = level + 1;
	call->data = PT_REGS_PARM2(ctx);
	call->stored_at = stored_at;
	call->stack = stack;
	call->result = result;
	call->class = CLASS_TLS_DATA;
	call->kind = EVENT_TLS_DATA;
	call->wire_bytes[DIRECTION_READ] = 0;
	call->wire_bytes[DIRECTION_WRITE] = 0;
	call->event.handle = handle;
	call->event.direction = direction;
	call->event.library = has_attach_cookie ? bpf_get_attach_cookie(ctx) : 0;
	recall_socket(call, pid);
	return 0;
}

/* int SSL_read(SSL *, void *data, int size) */
SEC("uprobe")
int handle_tls_read(struct pt_regs *ctx)
{
	return enter(ctx, DIRECTION_READ, 0, RESULT_IS_RETURN);
}

/* int SSL_write(SSL *, const void *data, int size) */
SEC("uprobe")
int handle_tls_write(struct pt_regs *ctx)
{
	return enter(ctx, DIRECTION_WRITE, 0, RESULT_IS_RETURN);
}

/* int SSL_read_ex(SSL *, void *data, size_t size, size_t *done) */
SEC("uprobe")
int handle_tls_read_ex(struct pt_regs *ctx)
{
	return enter(ctx, DIRECTION_READ, PT_REGS_PARM4(ctx), RESULT_IS_STORED);
}

/* int SSL_write_ex(SSL *, const void *data, size_t size, size_t *done) */
SEC("uprobe")
int handle_tls_write_ex(struct pt_regs *ctx)
{
	return enter(ctx, DIRECTION_WRITE, PT_REGS_PARM4(ctx), RESULT_IS_STORED);
}

/* int SSL_write_ex2(SSL *, const void *data, size_t size, uint64_t flags, size_t *done) */
SEC("uprobe")
int handle_tls_write_ex2(struct pt_regs *ctx)
{
	return enter(ctx, DIRECTION_WRITE, PT_REGS_PARM5(ctx), RESULT_IS_STORED);
}

/*
 * Functions that move bytes which are in no buffer that can be read: SSL_sendfile (kernel TLS sends
 * from a file), gnutls_record_recv_packet. What they return is counted and shows as a hole.
 */
SEC("uprobe")
int handle_tls_read_unseen(struct pt_regs *ctx)
{
	return enter(ctx, DIRECTION_READ, 0, RESULT_IS_UNSEEN);
}

SEC("uprobe")
int handle_tls_write_unseen(struct pt_regs *ctx)
{
	return enter(ctx, DIRECTION_WRITE, 0, RESULT_IS_UNSEEN);
}

/* ---- Return ---- */

/* How many bytes a call moved; 0 if it failed. A count that cannot be read is a lost event. */
static __always_inline __u64 bytes_moved(const struct active_call *call, int returned)
{
	struct ledger_entry *entry = ledger_of(CLASS_TLS_DATA);
	__u64 stored = 0;

	if (returned <= 0 || !entry)
		return 0;
	if (call->result != RESULT_IS_STORED)
		return returned;
	if (bpf_probe_read_user(&stored, sizeof(stored), (const void *)call->stored_at)) {
		count_attempt(entry, 0);
		count_lost(entry, LOSS_COPY_FAULT, 1, 0);
		return 0;
	}
	return stored > CALL_BYTES ? CALL_BYTES : stored;
}

/* On return of every function that reads or writes. */
SEC("uretprobe")
int handle_tls_return(struct pt_regs *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32, level;
	struct tracked_process *process = scope_of(pid);
	struct thread_state *state;
	struct active_call *call;
	__u64 bytes, stack;

	if (!process)
		return 0;
	state = this_thread();
	if (!state)
		return 0;
	stack = PT_REGS_SP(ctx);
#if defined(__TARGET_ARCH_x86)
	/* The return address has been popped. */
	stack -= sizeof(__u64);
#endif
	for (level = 0; level < MAX_NESTED_CALLS && level < state->depth; level++)
		if (state->calls[level].stack == stack)
			break;
	if (level >= MAX_NESTED_CALLS || level >= state->depth)
		return 0;
	call = &state->calls[level];
	count_wire_bytes(call, pid);
	bytes = bytes_moved(call, PT_REGS_RC(ctx));
	if (bytes && call->result == RESULT_IS_UNSEEN)
		record_hole(bytes, level, LOSS_BYPASSED);
	else if (bytes > PART_BYTES)
		record_bytes(call->data, bytes, level);
	else if (bytes && advance_call(call, process, bytes))
		/* What there is most of, at hand as it is. */
		output_small(call, call->data, bytes);
	state->depth = level;
	return 0;
}

/* void SSL_free(SSL *). It may not be the last reference. */
SEC("uprobe")
int handle_tls_free(struct pt_regs *ctx)
{
	return end_connection(PT_REGS_PARM1(ctx));
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
