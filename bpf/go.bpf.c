// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Plaintext through Go's crypto/tls: uprobes in (*Conn).Read, Write and Close of programs that hold
 * it. No return probes: they put an address on the stack that Go's runtime takes for damage when it
 * moves stacks. Every RET instruction of the functions has a probe of its own instead.
 *
 * A call belongs to a goroutine, which may go on in another thread and on another stack. What stays
 * is the goroutine and how far below the top of its stack a call was entered, which together name
 * the call also where calls nest (TLS inside TLS).
 *
 * Go's own calling convention (1.17): integers of arguments and results in rax, rbx, rcx, rdi, …;
 * the goroutine in r14. On arm64 in x0, x1, …; x28. The first word of a goroutine's descriptor are
 * the bounds of its stack.
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

#if defined(__TARGET_ARCH_x86)
#define GO_INTEGER1(ctx) ((ctx)->ax)
#define GO_INTEGER2(ctx) ((ctx)->bx)
#define GO_INTEGER3(ctx) ((ctx)->cx)
#define GO_GOROUTINE(ctx) ((ctx)->r14)
#elif defined(__TARGET_ARCH_arm64)
#define GO_INTEGER1(ctx) ((ctx)->user_regs.regs[0])
#define GO_INTEGER2(ctx) ((ctx)->user_regs.regs[1])
#define GO_INTEGER3(ctx) ((ctx)->user_regs.regs[2])
#define GO_GOROUTINE(ctx) ((ctx)->user_regs.regs[28])
#endif

struct go_stack {
	__u64 low;
	__u64 high;
};

struct go_call_key {
	__u64 goroutine;
	/* From the top of the stack down to the stack pointer. */
	__u64 depth_bytes;
	__u32 pid;
	__u32 _pad;
};

struct go_call {
	__u64 data;
	__u64 data_bytes;
	__u64 handle;
	__u64 begin_boot_ns;
	/* Where the stack was. */
	struct go_stack stack;
	__u32 direction;
	__u32 _pad;
};

/*
 * Written at entry, removed at return. What a process leaves behind at its end, with reads that
 * wait, is removed by user space. Full: the call is lost, counted as map_full.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct go_call_key);
	__type(value, struct go_call);
} go_calls SEC(".maps");

/* The call that the goroutine is in; 0 or -1. */
static __always_inline int go_place(struct pt_regs *ctx, __u32 pid, struct go_call_key *key,
				    struct go_stack *stack)
{
	__u64 goroutine = GO_GOROUTINE(ctx), top = PT_REGS_SP(ctx);

	if (bpf_probe_read_user(stack, sizeof(*stack), (const void *)goroutine))
		return -1;
	key->goroutine = goroutine;
	key->depth_bytes = stack->high - top;
	key->pid = pid;
	return 0;
}

/* func (c *Conn) Read(b []byte) (int, error), and Write. */
static __always_inline int go_enter(struct pt_regs *ctx, __u32 direction)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct go_call_key key = {};
	struct go_call call = {};

	if (!scope_of(pid))
		return 0;
	if (go_place(ctx, pid, &key, &call.stack)) {
		count_unwritten(CLASS_TLS_DATA, LOSS_COPY_FAULT, 0);
		return 0;
	}
	call.handle = GO_INTEGER1(ctx);
	call.data = GO_INTEGER2(ctx);
	call.data_bytes = GO_INTEGER3(ctx);
	call.begin_boot_ns = bpf_ktime_get_boot_ns();
	call.direction = direction;
	if (bpf_map_update_elem(&go_calls, &key, &call, BPF_ANY))
		count_map_full(CLASS_TLS_DATA, 0);
	return 0;
}

SEC("uprobe")
int handle_go_read(struct pt_regs *ctx)
{
	return go_enter(ctx, DIRECTION_READ);
}

SEC("uprobe")
int handle_go_write(struct pt_regs *ctx)
{
	return go_enter(ctx, DIRECTION_WRITE);
}

/* At each RET of Read and Write. The first result is how many bytes moved, also on failure. */
SEC("uprobe")
int handle_go_return(struct pt_regs *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct tracked_process *process = scope_of(pid);
	struct active_call *record;
	struct go_call_key key = {};
	struct go_stack stack = {};
	struct go_call call, *known;
	__s64 bytes = GO_INTEGER1(ctx);

	if (!process)
		return 0;
	if (go_place(ctx, pid, &key, &stack)) {
		count_unwritten(CLASS_TLS_DATA, LOSS_COPY_FAULT, 0);
		return 0;
	}
	known = bpf_map_lookup_elem(&go_calls, &key);
	if (!known)
		return 0;
	call = *known;
	bpf_map_delete_elem(&go_calls, &key);
	/* A call of the program that this process ran before. */
	if (call.begin_boot_ns < process->image_boot_ns)
		return 0;
	if (bytes <= 0 || bytes > CALL_BYTES || (__u64)bytes > call.data_bytes)
		return 0;
	/* A buffer on the stack has moved with it. */
	if (call.data >= call.stack.low && call.data < call.stack.high)
		call.data += stack.high - call.stack.high;
	record = begin_direct(call.handle, call.direction, CLASS_TLS_DATA, EVENT_TLS_DATA);
	if (!record)
		return 0;
	if (has_attach_cookie)
		record->event.library = bpf_get_attach_cookie(ctx);
	record_bytes(call.data, bytes, DIRECT_LEVEL);
	return 0;
}

/* func (c *Conn) Close() error */
SEC("uprobe")
int handle_go_close(struct pt_regs *ctx)
{
	return end_connection(GO_INTEGER1(ctx));
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
