/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Selectors by user and by cgroup, asked when a program is executed. Of the user it is the real id
 * that counts: who started it, whatever a set-user-ID file makes of it. Of the cgroups it is that
 * of the v2 hierarchy and all above it.
 *
 * Not seen: a process that changes its user or is moved to another cgroup, until it or a child of
 * it executes the next program.
 */
#ifndef AGENTSIGHT_SELECT_H
#define AGENTSIGHT_SELECT_H

#include "maps.h"
#include <bpf/bpf_core_read.h>

/* Deeper hierarchies are not looked through to the end; containers nest three to seven levels. */
#define CGROUP_LEVELS 32

static __always_inline bool user_is_wanted(struct task_struct *task)
{
	__u32 uid = BPF_CORE_READ(task, cred, uid.val);

	return bpf_map_lookup_elem(&wanted_uids, &uid) != 0;
}

/* Id of the cgroup of a task in the v2 hierarchy. */
static __always_inline __u64 cgroup_id_of(struct task_struct *task)
{
	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
}

/* Whether the cgroup of the task or one above it is wanted. Global, for its loop. */
__noinline int cgroup_is_wanted(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);
	struct cgroup___pre61 *old = (void *)cgroup;
	int level = BPF_CORE_READ(cgroup, level);
	int i;

	for (i = 0; i < CGROUP_LEVELS; i++) {
		__u64 id = 0;

		if (i > level)
			break;
		/* An index that is no literal is not relocated: step by the size of an element. */
		if (bpf_core_field_exists(cgroup->ancestors)) {
			struct cgroup *above = 0;

			bpf_probe_read_kernel(&above, sizeof(above),
					      (void *)cgroup + i * sizeof(above) +
						      bpf_core_field_offset(struct cgroup,
									    ancestors));
			id = BPF_CORE_READ(above, kn, id);
		} else {
			bpf_probe_read_kernel(&id, sizeof(id),
					      (void *)old + i * sizeof(id) +
						      bpf_core_field_offset(struct cgroup___pre61,
									    ancestor_ids));
		}
		if (bpf_map_lookup_elem(&wanted_cgroups, &id))
			return 1;
	}
	return 0;
}

#endif
