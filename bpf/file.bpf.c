// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Files: which ones a process opens, how much it moves, what it does to paths. The path is sent once
 * per process and file; from then on uses are only counted, in file_uses.
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
#include "path.h"
#include "syscall.h"

/* How much of a path that could not be opened tells it from others: its end. */
#define HASHED_BYTES 256

/* fs.h: FMODE_CREATED, the open made the file. */
#define FMODE_CREATED 0x100000
#define S_IFDIR 0040000

/* Sends what scratch->path holds. `body_end` is where its last string ends. */
static __always_inline void emit_path(struct path_scratch *scratch, __u32 class)
{
	struct ledger_entry *entry = ledger_of(class);
	__u64 record_bytes = sizeof(scratch->path) + scratch->body_end;

	if (!entry)
		return;
	fill_header(&scratch->path.header, EVENT_PATH,
		    (struct task_struct *)bpf_get_current_task());
	count_attempt(entry, 0);
	barrier_var(record_bytes);
	if (record_bytes > sizeof(scratch->path) + BODY_BYTES)
		record_bytes = sizeof(scratch->path) + BODY_BYTES;
	if (bpf_ringbuf_output(&io_ring, &scratch->path, record_bytes, io_wakeup()))
		count_lost(entry, LOSS_RING_FULL, 1, 0);
	else
		count_submitted(entry, 0);
}

static __always_inline struct path_scratch *begin_path(__u16 operation, __u32 flags)
{
	struct path_scratch *scratch = scratch_of_this_cpu();

	if (!scratch)
		return 0;
	__builtin_memset(&scratch->path, 0, sizeof(scratch->path));
	scratch->path.operation = operation;
	scratch->path.flags = flags;
	scratch->body_end = 0;
	return scratch;
}

/* Appends a path of the kernel's; returns how much that was. */
static __always_inline __u16 append_kernel_path(struct path_scratch *scratch, struct path *path)
{
	__u32 before = scratch->body_end;

	if (append_path((__u64)path->mnt, (__u64)path->dentry, BODY_BYTES))
		scratch->path.flags |= PATH_TRUNCATED;
	return scratch->body_end - before;
}

/*
 * Appends the path that a program gave, and what it is relative to. Returns the lengths of both:
 * path | base << 16. A string that cannot be read is empty.
 */
__noinline __u32 append_given_path(__u32 directory, __u64 given)
{
	struct path_scratch *scratch = scratch_of_this_cpu();
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct file *file;
	struct path path;
	long path_bytes;
	__u32 at;

	if (!scratch)
		return 0;
	at = scratch->body_end;
	barrier_var(at);
	if (at > BODY_BYTES - PATH_BYTES)
		return 0;
	path_bytes = bpf_probe_read_user_str(scratch->body + at, PATH_BYTES,
					     (const void *)given);
	if (path_bytes <= 0)
		return 0;
	scratch->body_end = at + path_bytes;
	if (scratch->body[at] == '/')
		return path_bytes;
	if ((__s32)directory == AT_FDCWD) {
		path = BPF_CORE_READ(task, fs, pwd);
	} else {
		file = file_of(directory);
		if (!file)
			return path_bytes;
		path = BPF_CORE_READ(file, f_path);
	}
	return path_bytes | ((__u32)append_kernel_path(scratch, &path) << 16);
}

/* The count of a file by this process, made if it is new: then *fresh is set. */
static __always_inline struct file_use *use_of(const struct file_use_key *key, bool *fresh)
{
	struct file_use zero = {}, *use = bpf_map_lookup_elem(&file_uses, key);
	__u64 now = bpf_ktime_get_boot_ns();

	*fresh = false;
	if (!use) {
		*fresh = true;
		zero.first_boot_ns = now;
		if (bpf_map_update_elem(&file_uses, key, &zero, BPF_ANY)) {
			count_map_full(CLASS_FILE_ACCESS, 0);
			return 0;
		}
		use = bpf_map_lookup_elem(&file_uses, key);
		if (!use)
			return 0;
	}
	use->last_boot_ns = now;
	return use;
}

static __always_inline struct file_use_key key_of_file(struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct file_use_key key = {
		.file = BPF_CORE_READ(inode, i_ino),
		.device = BPF_CORE_READ(inode, i_sb, s_dev),
		.pid = bpf_get_current_pid_tgid() >> 32,
		.inode_generation = BPF_CORE_READ(inode, i_generation),
	};

	return key;
}

static __always_inline void announce_file(const struct file_use_key *key, struct file *file,
					  __u32 flags)
{
	struct path_scratch *scratch = begin_path(PATH_OPEN, flags);
	struct path path;

	if (!scratch)
		return;
	scratch->path.key = *key;
	path = BPF_CORE_READ(file, f_path);
	scratch->path.base_bytes = append_kernel_path(scratch, &path);
	emit_path(scratch, CLASS_FILE_PATH);
}

int file_moved(__u64 file_address, __u64 bytes, __u32 direction)
{
	struct file *file = (struct file *)file_address;
	struct file_use_key key = key_of_file(file);
	struct file_use *use;
	bool fresh;

	use = use_of(&key, &fresh);
	if (!use)
		return 0;
	if (direction == DIRECTION_READ) {
		__sync_fetch_and_add(&use->reads, 1);
		__sync_fetch_and_add(&use->read_bytes, bytes);
	} else {
		__sync_fetch_and_add(&use->writes, 1);
		__sync_fetch_and_add(&use->written_bytes, bytes);
	}
	/* Opened before it was observed, or by a parent. */
	if (fresh)
		announce_file(&key, file, PATH_INHERITED);
	return 0;
}

int file_opened(__u32 fd, __u32 flags)
{
	struct file *file = file_of(fd);
	struct file_use_key key;
	struct file_use *use;
	__u32 created = 0;
	__u16 type;
	bool fresh;

	if (!file)
		return 0;
	type = BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT;
	if (type != S_IFREG && type != S_IFDIR)
		return 0;
	key = key_of_file(file);
	use = use_of(&key, &fresh);
	if (!use)
		return 0;
	__sync_fetch_and_add(&use->opens, 1);
	if (BPF_CORE_READ(file, f_mode) & FMODE_CREATED)
		created = PATH_CREATED;
	flags &= PATH_INHERITED - 1;
	if (type == S_IFDIR)
		flags |= PATH_DIRECTORY;
	/* A file that is made is told of, even where the inode number was used before. */
	if (fresh || created)
		announce_file(&key, file, flags | created);
	return 0;
}

/* Tells the path in scratch->body from others: FNV-1a of its end. */
__noinline __u64 hash_of_body(void)
{
	struct path_scratch *scratch = scratch_of_this_cpu();
	__u64 hash = 0xcbf29ce484222325;
	__u32 start, i;

	if (!scratch)
		return 0;
	start = scratch->body_end > HASHED_BYTES ? scratch->body_end - HASHED_BYTES : 0;
	for (i = 0; i < HASHED_BYTES; i++) {
		__u32 at = start + i;

		barrier_var(at);
		if (at >= scratch->body_end || at >= BODY_BYTES)
			break;
		hash = (hash ^ scratch->body[at]) * 0x100000001b3;
	}
	return hash;
}

int file_not_opened(__u32 directory, __u64 given, __u32 flags, __u32 error)
{
	struct path_scratch *scratch = begin_path(PATH_OPEN_FAILED, flags & (PATH_INHERITED - 1));
	struct file_use_key key = { .pid = bpf_get_current_pid_tgid() >> 32 };
	struct file_use *use;
	__u32 lengths;
	bool fresh;

	if (!scratch)
		return 0;
	lengths = append_given_path(directory, given);
	key.file = hash_of_body();
	key.device = DEVICE_FAILED | error;
	use = use_of(&key, &fresh);
	if (!use)
		return 0;
	__sync_fetch_and_add(&use->opens, 1);
	if (!fresh)
		return 0;
	scratch->path.key = key;
	scratch->path.error = error;
	scratch->path.path_bytes = lengths;
	scratch->path.base_bytes = lengths >> 16;
	emit_path(scratch, CLASS_FILE_PATH);
	return 0;
}

int path_changed(__u32 operation, __u32 directory, __u64 path, __u32 new_directory, __u64 new_path)
{
	struct path_scratch *scratch = begin_path(operation, 0);
	__u32 lengths;

	if (!scratch)
		return 0;
	lengths = append_given_path(directory, path);
	scratch->path.path_bytes = lengths;
	scratch->path.base_bytes = lengths >> 16;
	if (new_path) {
		lengths = append_given_path(new_directory, new_path);
		scratch->path.new_path_bytes = lengths;
		scratch->path.new_base_bytes = lengths >> 16;
	}
	emit_path(scratch, CLASS_FILE_OP);
	return 0;
}

int file_truncated(__u32 fd)
{
	struct path_scratch *scratch = begin_path(PATH_TRUNCATE, 0);
	struct file *file = file_of(fd);
	struct path path;

	if (!scratch || !file)
		return 0;
	path = BPF_CORE_READ(file, f_path);
	scratch->path.base_bytes = append_kernel_path(scratch, &path);
	emit_path(scratch, CLASS_FILE_OP);
	return 0;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
