// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * How a process ends and what it has used: tp_btf/sched_process_exit. It runs in each thread that
 * ends, while its task still has its counters and (since 6.16) its memory, so that nothing has to
 * be collected before.
 *
 * Not counted: children, whose own exits tell; the last slice of CPU time, up to one scheduler
 * tick; threads that end at the very moment the last one does.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "event.h"
#include "maps.h"
#include "scope.h"
#include "emit.h"

/* Possible CPUs, filled by user space before load. */
const volatile __u32 possible_cpus = 1;
/* More are not summed; the figure is then as exact as the kernel's own getrusage(2). */
#define SUMMED_CPUS 1024

/*
 * Where the per-CPU areas lie: the part of CPU n of anything is at its per-CPU pointer plus
 * area_at[n] - area_base. Written once by find_per_cpu_areas; 0 when that could not run.
 */
__u64 area_base = 0;
__u64 area_at[SUMMED_CPUS] = {};
/* Id of the ledger map, written by user space before it runs the iterator. */
__u32 area_map_id = 0;

/*
 * Run once by user space, for each map: compares the addresses of an element of the ledger on every
 * CPU with its per-CPU pointer. The kernel's own table of these distances is not in its BTF, and
 * kallsyms lists no data on many kernels.
 */
SEC("iter/bpf_map")
int find_per_cpu_areas(struct bpf_iter__bpf_map *context)
{
	struct bpf_map *map = context->map;
	struct mm_struct *mm = 0;
	__u32 cpu, zero = 0;

	/* Without per-CPU counters nobody needs it, and the helper below is missing. */
	if (!map || map->id != area_map_id || !bpf_core_field_exists(mm->rss_stat[0].count))
		return 0;
	for (cpu = 0; cpu < SUMMED_CPUS; cpu++) {
		if (cpu >= possible_cpus)
			break;
		area_at[cpu] = (__u64)bpf_map_lookup_percpu_elem(&ledger, &zero, cpu);
	}
	bpf_probe_read_kernel(&area_base, sizeof(area_base),
			      (void *)map + bpf_core_type_size(struct bpf_array));
	return 0;
}

/* One counter of mm_struct.rss_stat, exact where the per-CPU parts can be reached. */
static __always_inline __s64 resident_pages(struct mm_struct *mm, __u32 counter)
{
	struct percpu_counter *count;
	__s64 pages;
	__u64 parts;
	__u32 cpu;

	if (!bpf_core_field_exists(mm->rss_stat[0].count)) {
		struct mm_struct___pre62 *old = (void *)mm;

		return BPF_CORE_READ(old, rss_stat.count[counter].counter);
	}
	/* An index that is no literal is not relocated: step by the kernel's own element size. */
	count = (void *)mm + bpf_core_field_offset(struct mm_struct, rss_stat) +
		counter * bpf_core_type_size(struct percpu_counter);
	pages = BPF_CORE_READ(count, count);
	parts = (__u64)BPF_CORE_READ(count, counters);
	if (!area_base || !parts)
		return pages;
	for (cpu = 0; cpu < SUMMED_CPUS; cpu++) {
		__s32 part = 0;

		if (cpu >= possible_cpus)
			break;
		bpf_probe_read_kernel(&part, sizeof(part),
				      (const void *)(parts + area_at[cpu] - area_base));
		pages += part;
	}
	return pages;
}

/*
 * Peak resident set of the last program. signal->maxrss alone will not do: it keeps what the images
 * before exec had reached, such as a large parent's after vfork. The kernel's high-water mark is
 * only moved when memory is unmapped, and from counters that lag by up to a batch of pages per CPU;
 * a peak of that size that was given back is missed.
 */
static __always_inline __u64 peak_rss_pages(struct task_struct *task,
					    const struct tracked_process *process)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	__u64 hiwater;
	__s64 resident;

	/* Before 6.16 the tracepoint comes after the memory has gone, but maxrss is then final. */
	if (!mm) {
		__u64 maxrss = BPF_CORE_READ(task, signal, maxrss);

		if (maxrss > process->maxrss_at_exec_pages)
			return maxrss;
		/* What is left to know: the high-water mark up to the last unmapping. */
		mm = BPF_CORE_READ(task, active_mm);
		return BPF_CORE_READ(mm, hiwater_rss);
	}
	hiwater = BPF_CORE_READ(mm, hiwater_rss);
	resident = resident_pages(mm, MM_FILEPAGES) + resident_pages(mm, MM_ANONPAGES) +
		   resident_pages(mm, MM_SHMEMPAGES);
	return resident > 0 && (__u64)resident > hiwater ? (__u64)resident : hiwater;
}

/*
 * In each thread that ends, by itself. Only the last one of a process reports; where several see
 * none left, the one that removes the process from the map. Threads reaped before are summed in
 * signal; the leader stays as a zombie until then and has its own counters.
 */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(handle_process_exit, struct task_struct *task)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct signal_struct *signal = BPF_CORE_READ(task, signal);
	__u64 thread = bpf_get_current_pid_tgid();
	struct process_exit_event event = {};
	__u32 pid = thread >> 32, flags;
	struct tracked_process *process;

	/*
	 * Killed in the midst of a TLS call, such as a read that waited. Before the look at the
	 * scope: another thread that ends on another CPU may already have removed the process.
	 */
	bpf_map_delete_elem(&threads, &thread);
	process = scope_of(pid);
	if (!process || BPF_CORE_READ(signal, live.counter) > 0)
		return 0;
	event.peak_rss_pages = peak_rss_pages(task, process);
	flags = provisional_flag(process);
	if (bpf_map_delete_elem(&tracked, &pid))
		return 0;

	fill_header(&event.header, EVENT_PROCESS_EXIT, task);
	event.header.flags = flags;
	event.ppid = BPF_CORE_READ(task, real_parent, tgid);
	event.wait_status = BPF_CORE_READ(signal, flags) & SIGNAL_GROUP_EXIT ?
				    BPF_CORE_READ(signal, group_exit_code) :
				    BPF_CORE_READ(leader, exit_code);
	event.cpu_user_sampled_ns = BPF_CORE_READ(signal, utime) + BPF_CORE_READ(task, utime);
	event.cpu_system_sampled_ns = BPF_CORE_READ(signal, stime) + BPF_CORE_READ(task, stime);
	event.cpu_runtime_ns = BPF_CORE_READ(signal, sum_sched_runtime) +
			       BPF_CORE_READ(task, se.sum_exec_runtime);
	if (bpf_core_field_exists(task->ioac)) {
		event.read_bytes = BPF_CORE_READ(signal, ioac.read_bytes) +
				   BPF_CORE_READ(task, ioac.read_bytes);
		event.written_bytes = BPF_CORE_READ(signal, ioac.write_bytes) +
				      BPF_CORE_READ(task, ioac.write_bytes);
	}
	if (leader != task) {
		event.cpu_user_sampled_ns += BPF_CORE_READ(leader, utime);
		event.cpu_system_sampled_ns += BPF_CORE_READ(leader, stime);
		event.cpu_runtime_ns += BPF_CORE_READ(leader, se.sum_exec_runtime);
		if (bpf_core_field_exists(task->ioac)) {
			event.read_bytes += BPF_CORE_READ(leader, ioac.read_bytes);
			event.written_bytes += BPF_CORE_READ(leader, ioac.write_bytes);
		}
	}
	emit_small(&control_ring, CLASS_PROCESS_EXIT, &event, sizeof(event), control_wakeup());
	return 0;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
