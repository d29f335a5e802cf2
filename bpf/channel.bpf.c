// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Channels: the sockets and pipes that observed processes use. Each is told of once per process, its
 * bytes are counted, and what is worth it is recorded: HTTP in plain text, what goes through pipes
 * and socket pairs between programs, DNS messages, and the first flight of a TLS handshake, which
 * names the host.
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
#include "channel.h"
#include "io.h"
#include "syscall.h"

/* Of a TLS handshake: the ClientHello fits, with room for large key shares. */
#define HELLO_BYTES 4096
#define DNS_PORT 53

/* By which descriptors of a process channels were used; removed by close(2). */
struct descriptor_key {
	__u32 pid;
	__u32 fd;
};

/* The value is the channel's handle. Full: closes go unseen and channels end with their process. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct descriptor_key);
	__type(value, __u64);
} descriptors SEC(".maps");

/* A channel is used by one descriptor less. */
static __always_inline void release(const struct connection_key *key)
{
	struct connection *connection = bpf_map_lookup_elem(&connections, key);
	struct channel_close_event event = {};

	if (!connection || !connection->channel_type)
		return;
	if (connection->descriptors > 1) {
		connection->descriptors--;
		return;
	}
	fill_header(&event.header, EVENT_CHANNEL_CLOSE,
		    (struct task_struct *)bpf_get_current_task());
	event.handle = key->handle;
	event.generation_boot_ns = connection->generation_boot_ns;
	event.read_bytes = connection->stream_offset[DIRECTION_READ];
	event.written_bytes = connection->stream_offset[DIRECTION_WRITE];
	bpf_map_delete_elem(&connections, key);
	emit_small(&io_ring, CLASS_CHANNEL_CLOSE, &event, sizeof(event), io_wakeup());
}

/* Remembers that a channel is used by a descriptor, so that its close is the channel's. */
static __always_inline void use_descriptor(const struct connection_key *key,
					   struct connection *connection, __u32 fd)
{
	struct descriptor_key descriptor = { .pid = key->pid, .fd = fd };
	struct connection_key stale = { .pid = key->pid };
	__u64 *known;

	connection->fd = fd;
	known = bpf_map_lookup_elem(&descriptors, &descriptor);
	if (known && *known == key->handle)
		return;
	if (known) {
		/* Closed without close(2), such as by dup2(2) or exec. */
		stale.handle = *known;
		release(&stale);
	}
	if (!bpf_map_update_elem(&descriptors, &descriptor, &key->handle, BPF_ANY))
		connection->descriptors++;
}

/*
 * The entry of a channel in use, made and told of if it is new. A new image of the process, or
 * another inode at the same address, begins anew. 0 when there is no room.
 */
static __always_inline struct connection *connection_of_channel(const struct connection_key *key,
								const struct channel *channel,
								__u32 fd, __u32 role, __u32 error,
								__u64 asked)
{
	struct tracked_process *process = scope_of(key->pid);
	struct connection fresh = {}, *connection;

	if (!process)
		return 0;
	connection = bpf_map_lookup_elem(&connections, key);
	if (connection && connection->inode == channel->inode &&
	    connection->generation_boot_ns >= process->image_boot_ns && !role) {
		if (connection->fd != fd)
			use_descriptor(key, connection, fd);
		return connection;
	}
	fresh.generation_boot_ns = bpf_ktime_get_boot_ns();
	fresh.inode = channel->inode;
	fresh.channel_type = channel->type;
	fresh.role = role;
	fresh.fd = NO_FD;
	if (bpf_map_update_elem(&connections, key, &fresh, BPF_ANY)) {
		count_map_full(CLASS_CHANNEL_OPEN, 0);
		return 0;
	}
	connection = bpf_map_lookup_elem(&connections, key);
	if (!connection)
		return 0;
	connection->pair = announce(key, channel, connection, fd, error, asked);
	use_descriptor(key, connection, fd);
	return connection;
}

/* ---- Protocols ---- */

#define WORD(a, b, c, d) ((__u32)(a) << 24 | (__u32)(b) << 16 | (__u32)(c) << 8 | (__u32)(d))

/* PROTOCOL_* that the first bytes of a message tell (RFC 9112, 2; RFC 9113, 3.4; RFC 8446, 5.1). */
static __always_inline __u8 protocol_of(const __u8 first[4])
{
	/* Content types 20 to 23, version 3.x */
	if (first[0] >= 20 && first[0] <= 23 && first[1] == 3)
		return PROTOCOL_TLS;
	switch (WORD(first[0], first[1], first[2], first[3])) {
	case WORD('C', 'O', 'N', 'N'):
		return PROTOCOL_HTTP_CONNECT;
	case WORD('G', 'E', 'T', ' '):
	case WORD('P', 'O', 'S', 'T'):
	case WORD('P', 'U', 'T', ' '):
	case WORD('H', 'E', 'A', 'D'):
	case WORD('D', 'E', 'L', 'E'):
	case WORD('O', 'P', 'T', 'I'):
	case WORD('P', 'A', 'T', 'C'):
	case WORD('H', 'T', 'T', 'P'):
	case WORD('P', 'R', 'I', ' '):
		return PROTOCOL_HTTP;
	}
	return PROTOCOL_OTHER;
}

/* Learns the protocol of a socket from bytes that it moves. */
static __always_inline void learn_protocol(struct connection *connection, __u64 memory,
					   __u64 bytes, __u32 how)
{
	struct iovec vector;
	__u8 first[4] = {};
	__u8 protocol;

	if ((how & SHAPE_MASK) == SHAPE_NONE || bytes < sizeof(first))
		return;
	if ((how & SHAPE_MASK) == SHAPE_VECTOR) {
		if (bpf_probe_read_user(&vector, sizeof(vector), (const void *)memory))
			return;
		memory = vector.base;
	}
	if (bpf_probe_read_user(first, sizeof(first), (const void *)memory))
		return;
	protocol = protocol_of(first);
	/* Inside a tunnel only TLS is told from the tunnel's own messages. */
	if (connection->protocol == PROTOCOL_HTTP_CONNECT) {
		if (protocol == PROTOCOL_TLS)
			connection->protocol = PROTOCOL_TLS;
		return;
	}
	/* Seen from its middle on: a message may begin later. */
	if (protocol == PROTOCOL_OTHER && !connection->role)
		return;
	connection->protocol = protocol;
}

/* ---- Recording ---- */

/* What is recorded of bytes moved: how many, under which class and kind; class 0: only counted. */
struct taking {
	__u32 class;
	__u32 kind;
	__u64 bytes;
};

static __always_inline bool stdio_wanted(__u32 fd)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	if (!(watched & WATCH_STDIO) || (fd > 2 && !(watched & WATCH_ALL_DESCRIPTORS)))
		return false;
	return stdio_any_user || BPF_CORE_READ(task, cred, uid.val) == stdio_uid;
}

static __always_inline bool is_dns(const struct channel *channel)
{
	struct sock *sock = channel->sock;

	return BPF_CORE_READ(sock, __sk_common.skc_dport) == __builtin_bswap16(DNS_PORT);
}

static __always_inline struct taking taking_of(const struct channel *channel,
					       struct connection *connection, __u32 fd,
					       __u64 memory, __u64 bytes, __u32 how)
{
	struct taking taking = { .bytes = bytes };
	__u8 before = connection->protocol;

	if (channel->type == CHANNEL_PIPE ||
	    (channel->type == CHANNEL_UNIX && (connection->pair || fd <= 2))) {
		if (stdio_wanted(fd)) {
			taking.class = CLASS_STDIO_DATA;
			taking.kind = EVENT_STDIO_DATA;
			if (bytes > stdio_call_bytes)
				taking.bytes = stdio_call_bytes;
		}
		return taking;
	}
	if (channel->type == CHANNEL_UDP) {
		if ((how & 1) == DIRECTION_READ && is_dns(channel)) {
			taking.class = CLASS_DNS_DATA;
			taking.kind = EVENT_DNS_DATA;
		}
		return taking;
	}
	if (before == PROTOCOL_UNKNOWN || before == PROTOCOL_HTTP_CONNECT)
		learn_protocol(connection, memory, bytes, how);
	if (connection->protocol == PROTOCOL_HTTP ||
	    connection->protocol == PROTOCOL_HTTP_CONNECT) {
		taking.class = CLASS_SOCKET_DATA;
		taking.kind = EVENT_SOCKET_DATA;
	} else if (connection->protocol == PROTOCOL_TLS && before != PROTOCOL_TLS) {
		taking.class = CLASS_TLS_HELLO;
		taking.kind = EVENT_TLS_HELLO;
		if (bytes > HELLO_BYTES)
			taking.bytes = HELLO_BYTES;
	}
	return taking;
}

/* Advances a stream by bytes that nobody asked for. */
static __always_inline void pass_over(struct connection *connection, __u32 how, __u64 bytes)
{
	if (how & 1)
		connection->stream_offset[DIRECTION_WRITE] += bytes;
	else
		connection->stream_offset[DIRECTION_READ] += bytes;
}

/* Records the memory of a vector, up to `bytes`. Returns how much of it that was. */
__noinline __u64 record_vector(__u64 vectors, __u32 count, __u64 bytes)
{
	__u64 done = 0;
	__u32 i;

	for (i = 0; i < MAX_VECTORS && i < count && done < bytes; i++) {
		struct iovec vector;
		__u64 part;

		if (bpf_probe_read_user(&vector, sizeof(vector),
					(const struct iovec *)vectors + i))
			break;
		part = vector.bytes < bytes - done ? vector.bytes : bytes - done;
		record_bytes(vector.base, part, DIRECT_LEVEL);
		done += part;
	}
	return done;
}

/* Records `bytes` of a call; what cannot be had of them becomes a hole. */
static __always_inline void record_call(__u64 memory, __u64 bytes, __u32 how)
{
	__u64 done = 0;

	if ((how & SHAPE_MASK) == SHAPE_BUFFER) {
		record_bytes(memory, bytes, DIRECT_LEVEL);
		return;
	}
	if ((how & SHAPE_MASK) == SHAPE_VECTOR)
		done = record_vector(memory, how >> VECTOR_SHIFT, bytes);
	if (done < bytes)
		record_hole(bytes - done, DIRECT_LEVEL, LOSS_BYPASSED);
}

int channel_moved(__u64 file, __u32 fd, __u64 memory, __u64 bytes, __u32 how)
{
	struct connection_key key = { .pid = bpf_get_current_pid_tgid() >> 32 };
	struct channel channel = channel_of((struct file *)file);
	struct connection *connection;
	struct active_call *call;
	struct taking taking;

	if (!channel.type)
		return 0;
	key.handle = channel.handle;
	connection = connection_of_channel(&key, &channel, fd, ROLE_UNKNOWN, 0, 0);
	if (!connection)
		return 0;
	taking = taking_of(&channel, connection, fd, memory, bytes, how);
	if (channel.type == CHANNEL_TCP && connection->protocol == PROTOCOL_TLS)
		socket_was_used(key.handle, how & 1);
	if (!taking.class) {
		pass_over(connection, how, bytes);
		return 0;
	}
	call = begin_direct(key.handle, how & 1, taking.class, taking.kind);
	if (!call) {
		pass_over(connection, how, bytes);
		return 0;
	}
	call->event.fd = fd;
	record_call(memory, taking.bytes, how);
	if (bytes > taking.bytes) {
		if (taking.class == CLASS_STDIO_DATA)
			record_hole(bytes - taking.bytes, DIRECT_LEVEL, LOSS_TRUNCATED);
		else
			pass_over(connection, how, bytes - taking.bytes);
	}
	return 0;
}

/* connect(2) or accept(2) has given `fd` a peer, or has failed to give it the one at `asked`. */
int channel_begins(__u32 fd, __u32 role, __u32 error, __u64 asked)
{
	struct connection_key key = { .pid = bpf_get_current_pid_tgid() >> 32 };
	struct file *file = file_of(fd);
	struct channel channel;

	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	channel = channel_of(file);
	/* Resolvers connect datagram sockets only to learn which address they would send from. */
	if (!channel.type || (channel.type == CHANNEL_UDP && !is_dns(&channel)))
		return 0;
	key.handle = channel.handle;
	connection_of_channel(&key, &channel, fd, role, error, asked);
	return 0;
}

/* close(2) of a descriptor, whatever it was. */
int channel_closed(__u32 fd)
{
	struct descriptor_key descriptor = { .pid = bpf_get_current_pid_tgid() >> 32, .fd = fd };
	struct connection_key key = { .pid = descriptor.pid };
	__u64 *handle = bpf_map_lookup_elem(&descriptors, &descriptor);

	if (!handle)
		return 0;
	key.handle = *handle;
	bpf_map_delete_elem(&descriptors, &descriptor);
	release(&key);
	return 0;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
