/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Paths of files as the kernel knows them, and the working memory that they are put together in.
 *
 * Tracepoint programs run with preemption off and do not nest, so a per-CPU scratch is safe here.
 * The functions with loops are global (not static): the verifier then checks each once and by
 * itself, instead of once per path that leads to it. They take the scratch from its map, because a
 * global function cannot be handed a map value before 5.12.
 */
#ifndef AGENTSIGHT_PATH_H
#define AGENTSIGHT_PATH_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "event.h"

/* NAME_MAX and its NUL. */
#define COMPONENT_BYTES 256
/* PATH_MAX: longer paths exist, but nobody starts programs by them. */
#define PATH_BYTES 4096
/* Deeper trees lose the components nearest to the root, with a flag. */
#define PATH_COMPONENTS 64
/* One part of the argument area. */
#define ARGV_PART_BYTES 16384

/* As far as append_path goes: two paths and the directories that they start from. */
#define BODY_BYTES (4 * PATH_BYTES)

/* Working memory, one per CPU. The views are used one after the other. */
struct path_scratch {
	struct wanted_name name;
	/*
	 * How much of body is used. Here and not in a register, so that the verifier forgets
	 * its range: with it, every mix of mounts and components would be a state of its own.
	 */
	__u32 body_end;
	__u32 _pad;
	union {
		/* A path or an argument whose base name is wanted. */
		__u8 text[PATH_BYTES];
		/* Too large for the stack, among the functions that lead to it. */
		struct channel_event channel;
		struct {
			struct exec_argv_event event;
			__u8 argv[ARGV_PART_BYTES];
		} part;
		/* Of one size, so that both end where body begins. */
		struct {
			union {
				struct process_exec_event exec;
				struct path_event path;
			};
			/*
			 * exec: exe, cwd, argv. path: path, base, new path, new base. One behind
			 * the other.
			 */
			__u8 body[2 * PATH_BYTES + ARGV_PART_BYTES];
		};
	};
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct path_scratch);
} path_scratch SEC(".maps") __weak;

_Static_assert(sizeof(struct path_event) == sizeof(struct process_exec_event), "append_path");

static __always_inline struct path_scratch *scratch_of_this_cpu(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&path_scratch, &zero);
}

/*
 * Appends the components of a path to scratch->body, the last one first, crossing mounts up to
 * the root of the mount namespace. `path_mnt` and `path_dentry` are the two pointers of a struct
 * path; `limit` is where it must end. Returns 1 when components are missing. Rename may race: a
 * component is then the old or the new name.
 */
__weak __noinline int append_path(__u64 path_mnt, __u64 path_dentry, __u32 limit)
{
	struct mount *mount = (void *)(path_mnt - bpf_core_field_offset(struct mount, mnt));
	struct path_scratch *scratch = scratch_of_this_cpu();
	struct dentry *dentry = (void *)path_dentry;
	__u32 i;

	if (!scratch || limit > BODY_BYTES)
		return 1;
	for (i = 0; i < PATH_COMPONENTS; i++) {
		__u32 at = scratch->body_end;
		struct dentry *parent;
		long name_bytes;

		if (dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
			struct mount *above = BPF_CORE_READ(mount, mnt_parent);

			if (above == mount)
				return 0;
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = above;
			continue;
		}
		barrier_var(at);
		if (at > BODY_BYTES - COMPONENT_BYTES || at + COMPONENT_BYTES > limit)
			return 1;
		name_bytes = bpf_probe_read_kernel_str(scratch->body + at, COMPONENT_BYTES,
						       BPF_CORE_READ(dentry, d_name.name));
		if (name_bytes <= 0)
			return 1;
		scratch->body_end = at + name_bytes;
		/* A file outside any tree, such as a memfd, is its own parent. */
		parent = BPF_CORE_READ(dentry, d_parent);
		if (parent == dentry)
			return 0;
		dentry = parent;
	}
	return 1;
}

#endif
