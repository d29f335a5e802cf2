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

/* The socket that carries a TLS connection; 0 if none is known, or if it has been closed since. */
static __always_inline struct connection *socket_of(const struct connection *connection, __u32 pid)
{
	struct connection_key key = { .handle = connection->socket, .pid = pid };
	struct connection *channel;

	if (!key.handle)
		return 0;
	channel = bpf_map_lookup_elem(&connections, &key);
	return channel && channel->generation_boot_ns == connection->socket_generation_boot_ns ?
		       channel :
		       0;
}

/*
 * Links a connection to its socket and tells user space. Where it had another one that is closed by
 * now, the library has used the address of its object again, unseen (a stripped BoringSSL has no
 * SSL_free to probe): another connection begins.
 */
static __always_inline void link(const struct connection_key *key, struct connection *connection,
				 __u64 socket, __u32 confidence)
{
	struct connection_key socket_key = { .handle = socket, .pid = key->pid };
	struct tracked_process *process = scope_of(key->pid);
	struct tls_socket_event event = {};
	struct connection *channel;

	channel = bpf_map_lookup_elem(&connections, &socket_key);
	if (!channel || !process ||
	    (connection->socket == socket &&
	     connection->socket_generation_boot_ns == channel->generation_boot_ns))
		return;
	fill_own_header(&event.header, EVENT_TLS_SOCKET, process);
	if (connection->socket && !socket_of(connection, key->pid)) {
		connection->generation_boot_ns = event.header.boot_ns;
		connection->stream_offset[DIRECTION_READ] = 0;
		connection->stream_offset[DIRECTION_WRITE] = 0;
	}
	connection->socket = socket;
	connection->socket_generation_boot_ns = channel->generation_boot_ns;
	connection->candidate = 0;
	event.handle = key->handle;
	event.generation_boot_ns = connection->generation_boot_ns;
	event.socket = socket;
	event.socket_generation_boot_ns = channel->generation_boot_ns;
	event.confidence = confidence;
	emit_small(&payload_ring, CLASS_TLS_SOCKET, &event, sizeof(event), payload_wakeup());
}

/*
 * One more sign that `socket` carries the connection. The first one will do where the socket that
 * did is closed.
 */
static __always_inline void suspect(const struct connection_key *key,
				    struct connection *connection, __u64 socket)
{
	bool is_certain_enough = connection->candidate == socket ||
				 (connection->socket && !socket_of(connection, key->pid));

	if (is_certain_enough)
		link(key, connection, socket, CONFIDENCE_LIKELY);
	else if (connection->socket != socket)
		connection->candidate = socket;
}

/* What a call that moved plaintext tells. */
static __always_inline void link_to_socket(const struct active_call *call,
					   const struct connection_key *key,
					   struct connection *connection)
{
	struct thread_state *state;

	if (call->socket) {
		/* Known from earlier calls, or found in this one. */
		if (call->event.fd == NO_FD)
			link(key, connection, call->socket, CONFIDENCE_CERTAIN);
		return;
	}
	state = this_thread();
	if (!state)
		return;
	if (call->event.direction == DIRECTION_WRITE)
		state->written_to = key->handle;
	else if (state->received_from)
		suspect(key, connection, state->received_from);
}

/*
 * Whether `bytes` moved through the descriptor of the socket that the innermost call of this thread
 * is known to use: then they are counted with the call, and nothing else has to be looked up.
 */
static __always_inline bool is_within_call(__u32 fd, __u32 direction, __u64 bytes)
{
	struct thread_state *state = this_thread();
	struct active_call *call;
	__u32 level;

	if (!state || !state->depth)
		return false;
	level = state->depth - 1;
	if (level >= MAX_NESTED_CALLS)
		return false;
	call = &state->calls[level];
	if (call->event.fd != fd || !call->socket)
		return false;
	if (direction == DIRECTION_WRITE)
		call->wire_bytes[DIRECTION_WRITE] += bytes;
	else
		call->wire_bytes[DIRECTION_READ] += bytes;
	return true;
}

/* Adds what went through the socket during a call to what is known of the socket. */
static __always_inline void count_wire_bytes(struct active_call *call, __u32 pid)
{
	struct connection_key key = { .handle = call->socket, .pid = pid };
	struct connection *channel;

	if (!call->wire_bytes[DIRECTION_READ] && !call->wire_bytes[DIRECTION_WRITE])
		return;
	channel = bpf_map_lookup_elem(&connections, &key);
	if (!channel)
		return;
	channel->stream_offset[DIRECTION_READ] += call->wire_bytes[DIRECTION_READ];
	channel->stream_offset[DIRECTION_WRITE] += call->wire_bytes[DIRECTION_WRITE];
}

/*
 * A socket that carries TLS moved bytes: what that tells of the call it was used in, or after.
 * Global for the sake of the caller's stack.
 */
__weak __noinline int socket_was_used(__u64 socket, __u32 direction)
{
	struct thread_state *state = enter_thread();
	struct connection_key key = {};
	struct connection *connection;
	__u32 level;

	/* Full: the connection stays without a peer. */
	if (!state)
		return 0;
	if (state->depth) {
		level = state->depth - 1;
		if (level < MAX_NESTED_CALLS) {
			state->calls[level].socket = socket;
			state->calls[level].event.fd = NO_FD;
		}
		return 0;
	}
	if (direction == DIRECTION_READ) {
		state->received_from = socket;
		return 0;
	}
	key.handle = state->written_to;
	key.pid = bpf_get_current_pid_tgid() >> 32;
	if (!key.handle)
		return 0;
	state->written_to = 0;
	connection = bpf_map_lookup_elem(&connections, &key);
	if (connection)
		suspect(&key, connection, socket);
	return 0;
}

#endif
