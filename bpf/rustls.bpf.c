// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Plaintext through rustls, which has no C interface: uprobes on the two functions that all
 * application data passes (src/capture/tls_library/rustls.rs finds them), attached by user space at
 * file offsets, for all processes; those not under observation leave first thing.
 *
 * Writes are noted at entry, where the list of slices is whole, and recorded at return, because
 * rustls may take less than it is offered. What it takes before the handshake is over it sends
 * afterwards without passing here again. Reads are recorded at entry: the payload is consumed.
 * Early data (0-RTT) takes other ways and is missed.
 *
 * The objects of Rust move in memory, and nothing tells when they end. What names a connection is
 * therefore made from the key it encrypts with, which is as new as the connection and moves with it.
 *
 * Where things are in memory is rustc's choice and was read from the code of the program. What does
 * not look like it after all is counted as a copy fault and never recorded.
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

/*
 * The attach cookie, made by src/capture/bpf.rs: library tag in the low 8 bits, then the register of
 * the connection (4), that of the payload (4), the payload's offset from it (16, signed) and the
 * offset of the encrypter in the connection (16).
 */
#define COOKIE_CONNECTION(cookie) ((cookie) >> 8 & 0xf)
#define COOKIE_PAYLOAD(cookie) ((cookie) >> 12 & 0xf)
#define COOKIE_PAYLOAD_OFFSET(cookie) ((__s16)((cookie) >> 16))
#define COOKIE_ENCRYPTER(cookie) ((cookie) >> 32 & 0xffff)
#define NO_ENCRYPTER 0xffff

/* The word in place of a capacity that says that a payload is borrowed. */
#define BORROWED (1ULL << 63)
/* Largest content of a TLS record that rustls accepts. */
#define RECORD_BYTES (16384 + 2048)
/* Slices of one write that are looked at; programs hand over at most 64 at once. */
#define WRITE_SLICES 128
/* Nothing is mapped below. */
#define LOWEST_ADDRESS 4096
/* How much of an encrypter makes the name of its connection. */
#define NAME_WORDS 8

/* A call of buffer_plaintext that has not returned. */
struct rustls_write {
	__u64 handle;
	__u64 library;
	/*
	 * OutboundChunks: {0, data, bytes} or {slices, count, start, end}, of which the bytes from
	 * start to end of all slices together count.
	 */
	__u64 words[4];
};

/*
 * By pid << 32 | tid; calls do not nest. One that ends in a panic leaves its entry to the next call
 * of the thread. Full: the call is lost, counted as map_full.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct rustls_write);
} rustls_writes SEC(".maps");

struct slice {
	__u64 data;
	__u64 bytes;
};

/* Each branch reads the context at an offset of its own, as the verifier demands. */
#define REGISTER(number, field)                                                                    \
	case number:                                                                               \
		value = ctx->field;                                                                \
		barrier_var(value);                                                                \
		break;

/* A general register by its number in machine code. */
static __always_inline __u64 register_of(struct pt_regs *ctx, __u32 number)
{
	__u64 value = 0;

#if defined(__TARGET_ARCH_x86)
	switch (number) {
	REGISTER(0, ax)
	REGISTER(1, cx)
	REGISTER(2, dx)
	REGISTER(3, bx)
	REGISTER(4, sp)
	REGISTER(5, bp)
	REGISTER(6, si)
	REGISTER(7, di)
	REGISTER(8, r8)
	REGISTER(9, r9)
	REGISTER(10, r10)
	REGISTER(11, r11)
	REGISTER(12, r12)
	REGISTER(13, r13)
	REGISTER(14, r14)
	REGISTER(15, r15)
	}
#endif
	return value;
}

/*
 * What names the connection of the object at `connection`: a digest of its encrypter, which holds key
 * and initialisation vector; the address of the object where the encrypter is not known or, before
 * the handshake, empty.
 */
static __always_inline __u64 name_of(__u64 connection, __u64 cookie)
{
	struct {
		__u64 object;
		__u64 methods;
	} encrypter;
	/* How a table of methods begins. */
	struct {
		__u64 drop;
		__u64 bytes;
	} methods;
	__u64 words[NAME_WORDS] = {}, name = 0;
	__u32 bytes, i;

	if (COOKIE_ENCRYPTER(cookie) == NO_ENCRYPTER)
		return connection;
	if (bpf_probe_read_user(&encrypter, sizeof(encrypter),
				(void *)(connection + COOKIE_ENCRYPTER(cookie))) ||
	    bpf_probe_read_user(&methods, sizeof(methods), (void *)encrypter.methods))
		return connection;
	/* A key and a vector need more. */
	if (methods.bytes < 16)
		return connection;
	bytes = methods.bytes < sizeof(words) ? methods.bytes : sizeof(words);
	barrier_var(bytes);
	if (bytes > sizeof(words) || bpf_probe_read_user(words, bytes, (void *)encrypter.object))
		return connection;
	for (i = 0; i < NAME_WORDS; i++) {
		/* Odd, from the golden ratio: spreads every bit to those above it. */
		name = (name ^ words[i]) * 0x9e3779b97f4a7c15ULL;
		name ^= name >> 29;
	}
	return name;
}

static __always_inline __u64 cookie_of(struct pt_regs *ctx)
{
	/* Kernels without cookies: the first two arguments, and no more is known. */
	if (!has_attach_cookie)
		return 7 << 8 | 6 << 12 | (__u64)NO_ENCRYPTER << 32;
	return bpf_get_attach_cookie(ctx);
}

/*
 * fn take_received_plaintext(&mut CommonState, Payload), or an instruction of an inlined copy of it.
 * Payload is {capacity or BORROWED, data, bytes}.
 */
SEC("uprobe")
int handle_rustls_read(struct pt_regs *ctx)
{
	struct active_call *call;
	__u64 cookie, connection, words[3];

	if (!scope_of(bpf_get_current_pid_tgid() >> 32))
		return 0;
	cookie = cookie_of(ctx);
	connection = register_of(ctx, COOKIE_CONNECTION(cookie));
	if (bpf_probe_read_user(words, sizeof(words),
				(void *)(register_of(ctx, COOKIE_PAYLOAD(cookie)) +
					 COOKIE_PAYLOAD_OFFSET(cookie)))) {
		count_unwritten(CLASS_TLS_DATA, LOSS_COPY_FAULT, 0);
		return 0;
	}
	if (!words[2])
		return 0;
	if (words[2] > RECORD_BYTES || words[1] < LOWEST_ADDRESS ||
	    (words[0] != BORROWED && (words[0] > BORROWED || words[0] < words[2]))) {
		count_unwritten(CLASS_TLS_DATA, LOSS_COPY_FAULT, 0);
		return 0;
	}
	call = begin_direct(name_of(connection, cookie), DIRECTION_READ, CLASS_TLS_DATA,
			    EVENT_TLS_DATA);
	if (!call)
		return 0;
	call->event.library = cookie;
	record_bytes(words[1], words[2], DIRECT_LEVEL);
	return 0;
}

/* fn buffer_plaintext(&mut CommonState, OutboundChunks, &mut ChunkVecBuffer) -> usize */
SEC("uprobe")
int handle_rustls_write(struct pt_regs *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct rustls_write write = {};
	__u64 cookie;

	if (!scope_of(thread >> 32))
		return 0;
	cookie = cookie_of(ctx);
	if (bpf_probe_read_user(write.words, sizeof(write.words), (void *)PT_REGS_PARM2(ctx))) {
		count_unwritten(CLASS_TLS_DATA, LOSS_COPY_FAULT, 0);
		return 0;
	}
	write.handle = name_of(PT_REGS_PARM1(ctx), cookie);
	write.library = cookie & 0xff;
	if (bpf_map_update_elem(&rustls_writes, &thread, &write, BPF_ANY))
		count_map_full(CLASS_TLS_DATA, 0);
	return 0;
}

/* Whether `taken` bytes can have been taken from what `write` describes. */
static __always_inline int is_plausible(const struct rustls_write *write, __u64 taken)
{
	const __u64 *words = write->words;

	if (taken > CALL_BYTES)
		return 0;
	if (!words[0])
		return words[1] >= LOWEST_ADDRESS && taken <= words[2];
	return words[0] >= LOWEST_ADDRESS && words[2] <= words[3] && taken <= words[3] - words[2];
}

/* Records `left` bytes of all slices together, the first `skipped` ones left out. */
static __always_inline void record_slices(const struct rustls_write *write, __u64 skipped,
					  __u64 left)
{
	struct slice slice;
	__u32 i;

	for (i = 0; i < WRITE_SLICES && left; i++) {
		if (i >= write->words[1] ||
		    bpf_probe_read_user(&slice, sizeof(slice),
					(void *)(write->words[0] + i * sizeof(slice))))
			break;
		if (slice.bytes <= skipped) {
			skipped -= slice.bytes;
			continue;
		}
		slice.data += skipped;
		slice.bytes -= skipped;
		skipped = 0;
		if (slice.bytes > left)
			slice.bytes = left;
		record_bytes(slice.data, slice.bytes, DIRECT_LEVEL);
		left -= slice.bytes;
	}
	if (left)
		record_hole(left, DIRECT_LEVEL, LOSS_COPY_FAULT);
}

SEC("uretprobe")
int handle_rustls_write_return(struct pt_regs *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid(), taken = PT_REGS_RC(ctx);
	struct rustls_write write, *pending;
	struct active_call *call;

	if (!scope_of(thread >> 32))
		return 0;
	pending = bpf_map_lookup_elem(&rustls_writes, &thread);
	if (!pending)
		return 0;
	write = *pending;
	bpf_map_delete_elem(&rustls_writes, &thread);
	if (!taken)
		return 0;
	if (!is_plausible(&write, taken)) {
		count_unwritten(CLASS_TLS_DATA, LOSS_COPY_FAULT, 0);
		return 0;
	}
	call = begin_direct(write.handle, DIRECTION_WRITE, CLASS_TLS_DATA, EVENT_TLS_DATA);
	if (!call)
		return 0;
	call->event.library = write.library;
	if (write.words[0])
		record_slices(&write, write.words[2], taken);
	else
		record_bytes(write.words[1], taken, DIRECT_LEVEL);
	return 0;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
