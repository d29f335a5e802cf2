/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Which tasks are observed: those whose process is in the tracked map. A process gets there when
 * user space puts it in, when it executes a selected program, or when its parent is there. Thread
 * names play no part: agents rename their threads.
 */
#ifndef AGENTSIGHT_SCOPE_H
#define AGENTSIGHT_SCOPE_H

#include "maps.h"
#include <bpf/bpf_core_read.h>

static __always_inline struct tracked_process *scope_of(__u32 pid)
{
	return bpf_map_lookup_elem(&tracked, &pid);
}

static __always_inline __u32 provisional_flag(const struct tracked_process *process)
{
	return process->flags & TRACKED_PROVISIONAL ? HEADER_PROVISIONAL : 0;
}

/* Fills the header for `task` (any thread) as of now. */
static __always_inline void fill_header(struct event_header *header, __u32 kind,
					struct task_struct *task)
{
	header->kind = kind;
	header->pid = BPF_CORE_READ(task, tgid);
	header->tid = BPF_CORE_READ(task, pid);
	header->flags = 0;
	header->boot_ns = bpf_ktime_get_boot_ns();
	header->process_start_boot_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	bpf_core_read(&header->comm, sizeof(header->comm), &task->comm);
}

/*
 * The same for the current thread, whose process is known: with fewer looks into the kernel's
 * memory, for records that come in great numbers.
 */
static __always_inline void fill_own_header(struct event_header *header, __u32 kind,
					    struct tracked_process *process)
{
	__u64 thread = bpf_get_current_pid_tgid();

	if (!process->start_boot_ns) {
		struct task_struct *task = (struct task_struct *)bpf_get_current_task();

		process->start_boot_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	}
	header->kind = kind;
	header->pid = thread >> 32;
	header->tid = thread;
	header->flags = process->flags & TRACKED_PROVISIONAL ? HEADER_PROVISIONAL : 0;
	header->boot_ns = bpf_ktime_get_boot_ns();
	header->process_start_boot_ns = process->start_boot_ns;
	bpf_get_current_comm(header->comm, sizeof(header->comm));
}

#endif
