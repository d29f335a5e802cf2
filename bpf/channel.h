/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What a socket or pipe is, and the record that tells it: type, ends, path.
 */
#ifndef AGENTSIGHT_CHANNEL_H
#define AGENTSIGHT_CHANNEL_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "event.h"
#include "maps.h"
#include "scope.h"
#include "emit.h"
#include "path.h"

/* What a file is as a channel. */
struct channel {
	__u64 handle;
	__u64 inode;
	struct sock *sock;
	__u8 type;
};

/* Tells the channel behind a file; type 0 if it is none that is looked at. */
static __always_inline struct channel channel_of(struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct channel channel = { .inode = BPF_CORE_READ(inode, i_ino) };
	struct socket *socket;
	struct sock *sock;
	__u16 family, type;

	if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) == S_IFIFO) {
		channel.handle = (__u64)inode;
		channel.type = CHANNEL_PIPE;
		return channel;
	}
	socket = BPF_CORE_READ(file, private_data);
	sock = BPF_CORE_READ(socket, sk);
	channel.sock = sock;
	channel.handle = (__u64)sock;
	if (!sock)
		return channel;
	family = BPF_CORE_READ(sock, __sk_common.skc_family);
	type = BPF_CORE_READ(socket, type);
	if (family == AF_UNIX)
		channel.type = CHANNEL_UNIX;
	else if ((family == AF_INET || family == AF_INET6) && type == SOCK_STREAM)
		channel.type = CHANNEL_TCP;
	else if ((family == AF_INET || family == AF_INET6) && type == SOCK_DGRAM)
		channel.type = CHANNEL_UDP;
	return channel;
}

static __always_inline void fill_internet(struct channel_event *event, struct sock *sock)
{
	event->local_port = BPF_CORE_READ(sock, __sk_common.skc_num);
	event->remote_port = __builtin_bswap16(BPF_CORE_READ(sock, __sk_common.skc_dport));
	if (event->family == AF_INET) {
		__u32 local = BPF_CORE_READ(sock, __sk_common.skc_rcv_saddr);
		__u32 remote = BPF_CORE_READ(sock, __sk_common.skc_daddr);

		__builtin_memcpy(event->local_address, &local, sizeof(local));
		__builtin_memcpy(event->remote_address, &remote, sizeof(remote));
	} else if (bpf_core_field_exists(sock->__sk_common.skc_v6_daddr)) {
		BPF_CORE_READ_INTO(&event->local_address, sock, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&event->remote_address, sock, __sk_common.skc_v6_daddr);
	}
}

/* sockaddr_un.sun_family comes before the path. */
#define UNIX_FAMILY_BYTES 2

/* Takes the path that a Unix socket is bound to; false if it has none. */
static __always_inline bool fill_unix_path(struct channel_event *event, struct unix_sock *unix)
{
	struct unix_address *address = BPF_CORE_READ(unix, addr);
	__u32 bytes;

	if (!address)
		return false;
	bytes = BPF_CORE_READ(address, len);
	if (bytes <= UNIX_FAMILY_BYTES || bytes > UNIX_FAMILY_BYTES + UNIX_PATH_BYTES)
		return false;
	bpf_probe_read_kernel(event->path, sizeof(event->path),
			      (void *)address + bpf_core_field_offset(address->name) +
				      UNIX_FAMILY_BYTES);
	event->path_bytes = bytes - UNIX_FAMILY_BYTES;
	return true;
}

static __always_inline void fill_unix(struct channel_event *event, struct sock *sock)
{
	struct unix_sock *unix = (struct unix_sock *)sock;
	struct socket *peer_socket;
	struct sock *peer;

	if (!bpf_core_field_exists(unix->peer))
		return;
	peer = BPF_CORE_READ(unix, peer);
	if (peer) {
		peer_socket = BPF_CORE_READ(peer, sk_socket);
		if (peer_socket)
			event->peer_inode =
				BPF_CORE_READ((struct socket_alloc *)peer_socket, vfs_inode.i_ino);
		if (fill_unix_path(event, (struct unix_sock *)peer))
			return;
	}
	fill_unix_path(event, unix);
}

/*
 * Takes the peer that connect(2) was asked for, when the kernel has forgotten it with the refusal.
 * Internet addresses begin alike: family, port.
 */
static __always_inline void fill_refused(struct channel_event *event, __u64 address)
{
	struct {
		__u16 family;
		__be16 port;
		__u8 rest[UNIX_PATH_BYTES];
	} given = {};

	/* Short of its end when the program gave a shorter one; what lies behind is not used. */
	if (bpf_probe_read_user(&given, 28, (const void *)address))
		return;
	if (given.family == AF_UNIX) {
		long bytes = bpf_probe_read_user_str(event->path, sizeof(event->path),
						     (const void *)(address + UNIX_FAMILY_BYTES));

		event->path_bytes = bytes > 0 ? bytes : 0;
	} else if (given.family == AF_INET) {
		event->remote_port = __builtin_bswap16(given.port);
		__builtin_memcpy(event->remote_address, given.rest, 4);
	} else if (given.family == AF_INET6) {
		event->remote_port = __builtin_bswap16(given.port);
		/* Behind the flow label. */
		__builtin_memcpy(event->remote_address, given.rest + 4, ADDRESS_BYTES);
	}
}

/* Tells user space of a channel. Returns whether it is a Unix socket without a path. */
static __always_inline bool announce(const struct connection_key *key,
				     const struct channel *channel,
				     const struct connection *connection, __u32 fd, __u32 error,
				     __u64 asked)
{
	struct path_scratch *scratch = scratch_of_this_cpu();
	struct sock *sock = channel->sock;
	struct channel_event *event;

	if (!scratch)
		return false;
	event = &scratch->channel;
	__builtin_memset(event, 0, sizeof(*event));
	fill_header(&event->header, EVENT_CHANNEL_OPEN,
		    (struct task_struct *)bpf_get_current_task());
	event->handle = key->handle;
	event->generation_boot_ns = connection->generation_boot_ns;
	event->inode = channel->inode;
	event->channel_type = channel->type;
	event->role = connection->role;
	event->error = error;
	event->fd = fd;
	if (channel->type != CHANNEL_PIPE)
		event->family = BPF_CORE_READ(sock, __sk_common.skc_family);
	if (channel->type == CHANNEL_UNIX)
		fill_unix(event, sock);
	else if (channel->type != CHANNEL_PIPE)
		fill_internet(event, sock);
	if (error)
		fill_refused(event, asked);
	emit_small(&io_ring, CLASS_CHANNEL_OPEN, event, sizeof(*event), io_wakeup());
	return channel->type == CHANNEL_UNIX && !event->path_bytes;
}

#endif
