// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * What observed processes do with files, sockets and pipes: tp_btf/sys_exit. One hook for all of it,
 * because each costs every process of the machine the slow way out of the kernel, about 0.1 us per
 * call; so it is attached only while something is observed. On the way out results are known, and
 * the arguments are still in the registers.
 *
 * Not seen: memory-mapped files, what io_uring does (counted as bypassed), 32-bit programs.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "event.h"
#include "maps.h"
#include "scope.h"
#include "emit.h"
#include "io.h"
#include "link.h"
#include "syscall.h"

/* Messages of one sendmmsg(2) or recvmmsg(2) that are looked at. */
#define MAX_MESSAGES 8

/* Bytes moved through a descriptor, whatever is behind it. */
__noinline int moved(__u32 fd, __u64 memory, __u64 bytes, __u32 how)
{
	struct file *file = file_of(fd);
	__u16 type;

	if (!file)
		return 0;
	type = BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT;
	if (type == S_IFREG) {
		if (watched & WATCH_FILES)
			file_moved((__u64)file, bytes, how & 1);
	} else if (type == S_IFSOCK || type == S_IFIFO) {
		if (watched & WATCH_CHANNELS)
			channel_moved((__u64)file, fd, memory, bytes, how);
	}
	return 0;
}

/* The memory of one message. */
__noinline int message_moved(__u32 fd, __u64 message, __u64 bytes, __u32 direction)
{
	struct user_msghdr header;
	__u32 count;

	if (bpf_probe_read_user(&header, sizeof(header), (const void *)message))
		return moved(fd, 0, bytes, direction | SHAPE_NONE);
	count = header.msg_iovlen > MAX_VECTORS ? MAX_VECTORS : header.msg_iovlen;
	return moved(fd, header.msg_iov, bytes,
		     direction | SHAPE_VECTOR | (count << VECTOR_SHIFT));
}

__noinline int messages_moved(__u32 fd, __u64 messages, __u32 count, __u32 direction)
{
	__u32 i, bytes;

	for (i = 0; i < MAX_MESSAGES && i < count; i++) {
		const struct mmsghdr *message = (const struct mmsghdr *)messages + i;

		if (bpf_probe_read_user(&bytes, sizeof(bytes), &message->msg_len))
			break;
		message_moved(fd, (__u64)&message->msg_hdr, bytes, direction);
	}
	return 0;
}

/* Calls that move bytes; `result` is what they returned. */
static __always_inline void on_transfer(struct pt_regs *regs, __u8 action, __u64 result)
{
	__u32 fd = ARGUMENT_1(regs), direction = DIRECTION_READ;
	__u64 count = ARGUMENT_3(regs);

	switch (action) {
	case ACTION_WRITE:
	case ACTION_WRITE_VECTOR:
	case ACTION_SEND_MESSAGE:
	case ACTION_SEND_MESSAGES:
		direction = DIRECTION_WRITE;
	}
	if (count > MAX_VECTORS)
		count = MAX_VECTORS;
	switch (action) {
	case ACTION_READ:
	case ACTION_WRITE:
		if (is_within_call(fd, direction, result))
			break;
		moved(fd, ARGUMENT_2(regs), result, direction | SHAPE_BUFFER);
		break;
	case ACTION_READ_VECTOR:
	case ACTION_WRITE_VECTOR:
		if (is_within_call(fd, direction, result))
			break;
		moved(fd, ARGUMENT_2(regs), result,
		      direction | SHAPE_VECTOR | (count << VECTOR_SHIFT));
		break;
	case ACTION_RECEIVE_MESSAGE:
	case ACTION_SEND_MESSAGE:
		if (is_within_call(fd, direction, result))
			break;
		message_moved(fd, ARGUMENT_2(regs), result, direction);
		break;
	case ACTION_RECEIVE_MESSAGES:
	case ACTION_SEND_MESSAGES:
		messages_moved(fd, ARGUMENT_2(regs), result, direction);
		break;
	case ACTION_SENDFILE:
		moved(ARGUMENT_2(regs), 0, result, DIRECTION_READ | SHAPE_NONE);
		moved(fd, 0, result, DIRECTION_WRITE | SHAPE_NONE);
		break;
	case ACTION_SPLICE:
		moved(fd, 0, result, DIRECTION_READ | SHAPE_NONE);
		moved(ARGUMENT_3(regs), 0, result, DIRECTION_WRITE | SHAPE_NONE);
		break;
	}
}

/* Calls about a path that succeeded. */
static __always_inline void on_path(struct pt_regs *regs, __u8 action)
{
	__u64 first = ARGUMENT_1(regs), second = ARGUMENT_2(regs), third = ARGUMENT_3(regs);

	switch (action) {
	case ACTION_UNLINK:
		path_changed(PATH_UNLINK, AT_FDCWD, first, AT_FDCWD, 0);
		break;
	case ACTION_RMDIR:
		path_changed(PATH_RMDIR, AT_FDCWD, first, AT_FDCWD, 0);
		break;
	case ACTION_MKDIR:
		path_changed(PATH_MKDIR, AT_FDCWD, first, AT_FDCWD, 0);
		break;
	case ACTION_TRUNCATE:
		path_changed(PATH_TRUNCATE, AT_FDCWD, first, AT_FDCWD, 0);
		break;
	case ACTION_RENAME:
		path_changed(PATH_RENAME, AT_FDCWD, first, AT_FDCWD, second);
		break;
	case ACTION_LINK:
		path_changed(PATH_LINK, AT_FDCWD, first, AT_FDCWD, second);
		break;
	case ACTION_SYMLINK:
		path_changed(PATH_SYMLINK, AT_FDCWD, first, AT_FDCWD, second);
		break;
	case ACTION_UNLINKAT:
		path_changed(third & AT_REMOVEDIR ? PATH_RMDIR : PATH_UNLINK, first, second,
			     AT_FDCWD, 0);
		break;
	case ACTION_MKDIRAT:
		path_changed(PATH_MKDIR, first, second, AT_FDCWD, 0);
		break;
	case ACTION_RENAMEAT:
		path_changed(PATH_RENAME, first, second, third, ARGUMENT_4(regs));
		break;
	case ACTION_LINKAT:
		path_changed(PATH_LINK, first, second, third, ARGUMENT_4(regs));
		break;
	case ACTION_SYMLINKAT:
		path_changed(PATH_SYMLINK, AT_FDCWD, first, second, third);
		break;
	case ACTION_FTRUNCATE:
		file_truncated(first);
		break;
	}
}

/* open(2) flags of creat(2): O_WRONLY, O_CREAT, O_TRUNC */
#define CREAT_FLAGS 01101

static __always_inline void on_open(struct pt_regs *regs, __u8 action, long result, __u32 error)
{
	bool at = action == ACTION_OPENAT || action == ACTION_OPENAT2;
	__u32 directory = at ? ARGUMENT_1(regs) : AT_FDCWD;
	__u64 path = at ? ARGUMENT_2(regs) : ARGUMENT_1(regs), flags = CREAT_FLAGS;

	if (action == ACTION_OPEN)
		flags = ARGUMENT_2(regs);
	else if (action == ACTION_OPENAT)
		flags = ARGUMENT_3(regs);
	else if (action == ACTION_OPENAT2 &&
		 bpf_probe_read_user(&flags, sizeof(flags), (const void *)ARGUMENT_3(regs)))
		flags = 0;
	if (error)
		file_not_opened(directory, path, flags, error);
	else
		file_opened(result, flags);
}

/* errno of a connect that is on its way. */
#define EINPROGRESS 115
/* The highest errno there is, as the kernel returns it. */
#define MAX_ERRNO 4095

SEC("tp_btf/sys_exit")
int BPF_PROG(handle_syscall_exit, struct pt_regs *regs, long result)
{
	__u64 number = syscall_number(regs);
	__u32 error;
	__u8 action;

	if (number >= SYSCALL_NUMBERS)
		return 0;
	action = syscall_actions[number];
	if (action == ACTION_NONE || !scope_of(bpf_get_current_pid_tgid() >> 32))
		return 0;
	error = result < 0 && result >= -MAX_ERRNO ? -result : 0;

	switch (action) {
	case ACTION_OPEN:
	case ACTION_CREAT:
	case ACTION_OPENAT:
	case ACTION_OPENAT2:
		if (watched & WATCH_FILES)
			on_open(regs, action, result, error);
		return 0;
	case ACTION_CLOSE:
		if (watched & WATCH_CHANNELS)
			channel_closed(ARGUMENT_1(regs));
		return 0;
	case ACTION_CONNECT:
		if (watched & WATCH_CHANNELS)
			channel_begins(ARGUMENT_1(regs), ROLE_CONNECT,
				       error == EINPROGRESS ? 0 : error, ARGUMENT_2(regs));
		return 0;
	case ACTION_ACCEPT:
		if (!error && watched & WATCH_CHANNELS)
			channel_begins(result, ROLE_ACCEPT, 0, 0);
		return 0;
	case ACTION_IO_URING:
		if (result > 0)
			count_unwritten(CLASS_CHANNEL_OPEN, LOSS_BYPASSED, 0);
		return 0;
	}
	if (error)
		return 0;
	if (action >= ACTION_UNLINK) {
		if (watched & WATCH_FILES)
			on_path(regs, action);
	} else if (result > 0) {
		on_transfer(regs, action, result);
	}
	return 0;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
