/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Which socket carries a TLS connection. Two rules, the better one wins:
 *
 * certain  a socket that carries TLS was used by this thread inside a call of the library;
 * likely   the library works on memory and the program moves the records itself (node, asyncio,
 *          rustls): the socket that the thread received from last before a read, or sends to first
 *          after a write, and that twice in a row without another answer in between.
 *
 * A wrong answer would be worse than none, so sockets that show another protocol never count.
 */
#ifndef AGENTSIGHT_LINK_H
#define AGENTSIGHT_LINK_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include "event.h"
#include "maps.h"
#include "scope.h"
#include "emit.h"

/* Tells user space, once for each answer. */
static __always_inline void link(const struct connection_key *key, struct connection *connection,
				 __u64 socket, __u32 confidence)
{
	struct connection_key socket_key = { .handle = socket, .pid = key->pid };
	struct tls_socket_event event = {};
	struct connection *channel;

	channel = bpf_map_lookup_elem(&connections, &socket_key);
	if (!channel)
		return;
	connection->socket = socket;
	fill_header(&event.header, EVENT_TLS_SOCKET,
		    (struct task_struct *)bpf_get_current_task());
	event.handle = key->handle;
	event.generation_boot_ns = connection->generation_boot_ns;
	event.socket = socket;
	event.socket_generation_boot_ns = channel->generation_boot_ns;
	event.confidence = confidence;
	emit_small(&payload_ring, CLASS_TLS_SOCKET, &event, sizeof(event), payload_wakeup());
}

/* One more sign that `socket` carries the connection. */
static __always_inline void suspect(const struct connection_key *key,
				    struct connection *connection, __u64 socket)
{
	if (connection->socket == socket)
		return;
	if (connection->candidate == socket)
		link(key, connection, socket, CONFIDENCE_LIKELY);
	else
		connection->candidate = socket;
}

/* What a call that moved plaintext tells. */
static __always_inline void link_to_socket(const struct active_call *call,
					   const struct connection_key *key,
					   struct connection *connection)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct thread_sockets *sockets;

	if (call->socket) {
		if (call->socket != connection->socket)
			link(key, connection, call->socket, CONFIDENCE_CERTAIN);
		return;
	}
	sockets = bpf_map_lookup_elem(&thread_sockets, &thread);
	if (!sockets)
		return;
	if (call->event.direction == DIRECTION_WRITE)
		sockets->written_to = key->handle;
	else if (sockets->received_from)
		suspect(key, connection, sockets->received_from);
}

/*
 * A socket that carries TLS moved bytes: what that tells of the call it was used in, or after.
 * Global for the sake of the caller's stack.
 */
__weak __noinline int socket_was_used(__u64 socket, __u32 direction)
{
	struct call_key place = { .thread = bpf_get_current_pid_tgid() };
	struct thread_sockets fresh = {}, *sockets;
	struct active_call *call = 0, *inner;
	struct connection_key key = {};
	struct connection *connection;
	__u64 handle;

	for (; place.level < MAX_NESTED_CALLS; place.level++) {
		inner = bpf_map_lookup_elem(&active_calls, &place);
		if (!inner)
			break;
		call = inner;
	}
	if (call) {
		call->socket = socket;
		return 0;
	}
	sockets = bpf_map_lookup_elem(&thread_sockets, &place.thread);
	if (!sockets) {
		/* Full: the connection stays without a peer. */
		if (bpf_map_update_elem(&thread_sockets, &place.thread, &fresh, BPF_ANY))
			return 0;
		sockets = bpf_map_lookup_elem(&thread_sockets, &place.thread);
		if (!sockets)
			return 0;
	}
	if (direction == DIRECTION_READ) {
		sockets->received_from = socket;
		return 0;
	}
	handle = sockets->written_to;
	if (!handle)
		return 0;
	sockets->written_to = 0;
	key.handle = handle;
	key.pid = place.thread >> 32;
	connection = bpf_map_lookup_elem(&connections, &key);
	if (connection)
		suspect(&key, connection, socket);
	return 0;
}

#endif
