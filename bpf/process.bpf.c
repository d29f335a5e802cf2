// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * How the process tree grows: tp_btf/sched_process_fork and sched_process_exec; exit.bpf.c is its
 * other end. BTF tracepoints need neither tracefs nor kprobes, and they run in the task they are
 * about (fork: in the parent, before the child first runs), so that no child, however short its
 * life, is missed.
 *
 * Not seen: changes of name, credentials or directory after exec; threads.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "event.h"
#include "maps.h"
#include "scope.h"
#include "select.h"
#include "emit.h"
#include "path.h"

/* The whole area goes to 2 MiB under the default stack limit (execve(2)); the rest is counted. */
#define ARGV_PARTS 128
/* Arguments behind argv[0] that are looked at to find the script of an interpreter. */
#define SCRIPT_ARGUMENTS 8

/* ---- Matching ---- */

/*
 * NAME_* flags of the base name of scratch->text, which holds `length` bytes with its NUL.
 * Looks at the last NAME_BYTES only: a longer name cannot be in the map.
 */
__noinline __u32 base_name_flags(long length)
{
	struct path_scratch *scratch = scratch_of_this_cpu();
	__u32 end, start, name_bytes, i;
	__u32 *flags;

	if (!scratch || length < 2 || length > PATH_BYTES)
		return 0;
	end = length - 1;
	start = end;
	for (i = 0; i < NAME_BYTES; i++) {
		__u32 before = start - 1;

		if (before >= PATH_BYTES || scratch->text[before] == '/')
			break;
		start = before;
	}
	name_bytes = end - start;
	if (name_bytes == 0 || name_bytes >= NAME_BYTES || start >= PATH_BYTES - NAME_BYTES)
		return 0;
	__builtin_memset(&scratch->name, 0, sizeof(scratch->name));
	/* The mask changes nothing; it shows the bound to the verifier. */
	bpf_probe_read_kernel(scratch->name.bytes, name_bytes & (NAME_BYTES - 1),
			      scratch->text + start);
	flags = bpf_map_lookup_elem(&wanted_names, &scratch->name);
	if (flags)
		return *flags;

	/* python3.11 is python: interpreters are known without their version. */
	for (i = 0; i < NAME_BYTES; i++) {
		__u32 last = name_bytes - 1;
		__u8 byte;

		if (last >= NAME_BYTES)
			return 0;
		byte = scratch->name.bytes[last];
		if (byte != '.' && (byte < '0' || byte > '9'))
			break;
		scratch->name.bytes[last] = 0;
		name_bytes = last;
	}
	flags = bpf_map_lookup_elem(&wanted_names, &scratch->name);
	return flags ? *flags & NAME_INTERPRETER : 0;
}

/* What an argument of an interpreter is. */
#define ARGUMENT_SCRIPT 0
#define ARGUMENT_PASSED_OVER 1
/* The next one is the name of a module. */
#define ARGUMENT_BEFORE_MODULE 2
/* The next one is the program itself. */
#define ARGUMENT_BEFORE_PROGRAM 3

/* Whether scratch->text is this word; `bytes` counts its NUL. */
static __always_inline bool text_is(const struct path_scratch *scratch, long length,
				    const char *word, __u32 bytes)
{
	__u32 i;

	if (length != bytes)
		return false;
	for (i = 0; i < bytes; i++)
		if (scratch->text[i] != word[i])
			return false;
	return true;
}
#define TEXT_IS(scratch, length, word) text_is(scratch, length, word, sizeof(word))

static __always_inline __u32 argument_class(const struct path_scratch *scratch, long length)
{
	if (scratch->text[0] != '-')
		return TEXT_IS(scratch, length, "run") ? ARGUMENT_PASSED_OVER : ARGUMENT_SCRIPT;
	if (TEXT_IS(scratch, length, "-m"))
		return ARGUMENT_BEFORE_MODULE;
	if (TEXT_IS(scratch, length, "-c") || TEXT_IS(scratch, length, "-e") ||
	    TEXT_IS(scratch, length, "-p") || TEXT_IS(scratch, length, "--eval") ||
	    TEXT_IS(scratch, length, "--print"))
		return ARGUMENT_BEFORE_PROGRAM;
	return ARGUMENT_PASSED_OVER;
}

/*
 * Whether the new program has a name that user space looks for: the one it was started with,
 * argv[0] without the dash of a login shell, or, for an interpreter, its script or module. The
 * rule is that of src/capture/matching.rs, and a live test compares the two.
 */
static __always_inline bool program_is_wanted(struct path_scratch *scratch,
					      struct linux_binprm *bprm, unsigned long argv,
					      unsigned long argv_end)
{
	bool is_module = false;
	__u32 flags, i;
	long length;

	length = bpf_probe_read_kernel_str(scratch->text, sizeof(scratch->text),
					   BPF_CORE_READ(bprm, filename));
	flags = base_name_flags(length);
	if (flags & NAME_WANTED)
		return true;
	for (i = 0; i <= SCRIPT_ARGUMENTS && argv < argv_end; i++) {
		__u32 class;

		length = bpf_probe_read_user_str(scratch->text, sizeof(scratch->text),
						 (const void *)argv);
		/* One that does not fit is no path, and where the next begins is not known. */
		if (length <= 0 || length == sizeof(scratch->text))
			return false;
		argv += length;
		if (i == 0) {
			if (scratch->text[0] == '-')
				scratch->text[0] = '/';
			flags |= base_name_flags(length);
			if (flags & NAME_WANTED)
				return true;
			if (!(flags & NAME_INTERPRETER))
				return false;
			continue;
		}
		class = is_module ? ARGUMENT_SCRIPT : argument_class(scratch, length);
		if (class == ARGUMENT_SCRIPT)
			return base_name_flags(length) & NAME_WANTED;
		if (class == ARGUMENT_BEFORE_PROGRAM)
			return false;
		is_module = class == ARGUMENT_BEFORE_MODULE;
	}
	return false;
}

/* Whether what is being executed is selected here; user space may select more by its arguments. */
static __always_inline bool program_is_selected(struct path_scratch *scratch,
						struct task_struct *task,
						struct linux_binprm *bprm, unsigned long argv,
						unsigned long argv_end)
{
	if (selectors & SELECT_UID)
		return user_is_wanted(task);
	if (selectors & SELECT_ONLY_UID && !user_is_wanted(task))
		return false;
	if (selectors & SELECT_CGROUP && cgroup_is_wanted())
		return true;
	return program_is_wanted(scratch, bprm, argv, argv_end);
}

/* ---- Fork ---- */

/*
 * In the parent, before the child runs. A failed insert leaves the child unobserved and is counted.
 */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(handle_process_fork, struct task_struct *parent, struct task_struct *child)
{
	__u32 ppid = BPF_CORE_READ(parent, tgid);
	__u32 pid = BPF_CORE_READ(child, tgid);
	struct tracked_process process = {}, *known;
	struct process_fork_event event = {};

	/* Threads share the process that is tracked already. */
	if (pid == ppid || pid != (__u32)BPF_CORE_READ(child, pid))
		return 0;
	known = scope_of(ppid);
	if (!known)
		return 0;
	process.flags = known->flags & TRACKED_PROVISIONAL;
	fill_header(&event.header, EVENT_PROCESS_FORK, child);
	event.header.flags = provisional_flag(&process);
	process.image_boot_ns = event.header.boot_ns;
	if (bpf_map_update_elem(&tracked, &pid, &process, BPF_ANY)) {
		count_map_full(CLASS_PROCESS_FORK, 0);
		return 0;
	}
	event.ppid = ppid;
	event.uid = BPF_CORE_READ(child, cred, uid.val);
	/* What user space does not hear of it cannot decide on. */
	if (emit_small(&control_ring, CLASS_PROCESS_FORK, &event, sizeof(event),
		       control_wakeup()) &&
	    process.flags)
		bpf_map_delete_elem(&tracked, &pid);
	return 0;
}

/* ---- Exec ---- */

/*
 * Sends all parts of a large argument area but the last ahead of the exec record, which thereby
 * ends the sequence. Returns the offset at which the exec record goes on. Parts that find no room
 * are counted; the reader sees the hole by their offsets.
 */
__noinline __u32 send_argv_parts(__u64 argv, __u32 argv_bytes)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct ledger_entry *entry = ledger_of(CLASS_PROCESS_EXEC);
	struct path_scratch *scratch = scratch_of_this_cpu();
	__u32 offset = 0, i;

	if (!scratch || !entry)
		return 0;
	for (i = 0; i < ARGV_PARTS; i++) {
		struct exec_argv_event *event = &scratch->part.event;

		if (argv_bytes - offset <= ARGV_PART_BYTES)
			break;
		fill_header(&event->header, EVENT_EXEC_ARGV, task);
		event->argv_offset = offset;
		event->argv_bytes = ARGV_PART_BYTES;
		if (bpf_probe_read_user(scratch->part.argv, ARGV_PART_BYTES,
					(const void *)(argv + offset)))
			count_lost(entry, LOSS_COPY_FAULT, 0, ARGV_PART_BYTES);
		else if (bpf_ringbuf_output(&control_ring, &scratch->part, sizeof(scratch->part),
					    control_wakeup()))
			count_lost(entry, LOSS_RING_FULL, 0, ARGV_PART_BYTES);
		else
			__sync_fetch_and_add(&entry->submitted_bytes, ARGV_PART_BYTES);
		offset += ARGV_PART_BYTES;
	}
	return offset;
}

/* Appends the rest of the argument area, as far as it fits. Returns how much that was. */
static __always_inline __u32 append_argv(struct path_scratch *scratch,
					 struct ledger_entry *entry, __u32 at, unsigned long argv,
					 __u32 argv_bytes)
{
	__u32 copied = argv_bytes;

	if (copied > ARGV_PART_BYTES) {
		count_lost(entry, LOSS_TRUNCATED, 0, copied - ARGV_PART_BYTES);
		copied = ARGV_PART_BYTES;
	}
	barrier_var(copied);
	if (at > 2 * PATH_BYTES || copied > ARGV_PART_BYTES)
		return 0;
	if (bpf_probe_read_user(scratch->body + at, copied, (const void *)argv)) {
		count_lost(entry, LOSS_COPY_FAULT, 0, copied);
		return 0;
	}
	return copied;
}

/* Returns 0 unless the record was lost. `process` is what the process is from here on. */
static __always_inline int emit_exec(struct path_scratch *scratch, struct ledger_entry *entry,
				     struct task_struct *task,
				     const struct tracked_process *process, unsigned long argv,
				     __u32 argv_bytes)
{
	__u32 flags = process->flags & TRACKED_MATCHED ? EXEC_MATCHED : 0;
	struct process_exec_event *event = &scratch->exec;
	__u32 argv_offset, at;
	struct path path;
	__u64 record_bytes;

	count_attempt(entry, argv_bytes);
	argv_offset = send_argv_parts(argv, argv_bytes);

	fill_header(&event->header, EVENT_PROCESS_EXEC, task);
	event->header.flags = provisional_flag(process);
	event->ppid = BPF_CORE_READ(task, real_parent, tgid);
	event->uid = BPF_CORE_READ(task, cred, uid.val);
	event->cgroup_id = cgroup_id_of(task);
	scratch->body_end = 0;
	path = BPF_CORE_READ(task, mm, exe_file, f_path);
	if (append_path((__u64)path.mnt, (__u64)path.dentry, PATH_BYTES))
		flags |= EXEC_EXE_TRUNCATED;
	event->exe_bytes = scratch->body_end;
	path = BPF_CORE_READ(task, fs, pwd);
	if (append_path((__u64)path.mnt, (__u64)path.dentry, 2 * PATH_BYTES))
		flags |= EXEC_CWD_TRUNCATED;
	at = scratch->body_end;
	event->cwd_bytes = at - event->exe_bytes;
	event->flags = flags;
	event->argv_total_bytes = argv_bytes;
	event->argv_offset = argv_offset;
	event->argv_bytes =
		append_argv(scratch, entry, at, argv + argv_offset, argv_bytes - argv_offset);

	record_bytes = sizeof(*event) + at + event->argv_bytes;
	barrier_var(record_bytes);
	if (record_bytes > sizeof(*event) + sizeof(scratch->body))
		record_bytes = sizeof(*event) + sizeof(scratch->body);
	if (bpf_ringbuf_output(&control_ring, event, record_bytes, BPF_RB_FORCE_WAKEUP)) {
		count_lost(entry, LOSS_RING_FULL, 1, event->argv_bytes);
		return 1;
	}
	count_submitted(entry, event->argv_bytes);
	return 0;
}

/*
 * What the program that is being executed is to the recording: TRACKED_* flags, 0 for the
 * descendant of a match. An untracked program that is not selected is provisional where user space
 * has the last word, unless it is another user's.
 */
static __always_inline __u32 image_flags(const struct tracked_process *known, bool selected,
					 struct task_struct *task)
{
	if (selected || (known && known->flags & TRACKED_MATCHED))
		return TRACKED_MATCHED;
	if (!decides_later || (known && !(known->flags & TRACKED_PROVISIONAL)))
		return 0;
	if (!known && selectors & SELECT_ONLY_UID && !user_is_wanted(task))
		return 0;
	return TRACKED_PROVISIONAL;
}

/*
 * In the task that executes, when its new memory is in place. Untracked programs that nobody looks
 * for leave after the lookups.
 */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(handle_process_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	__u32 pid = BPF_CORE_READ(task, tgid);
	unsigned long argv = BPF_CORE_READ(task, mm, arg_start);
	unsigned long argv_end = BPF_CORE_READ(task, mm, arg_end);
	struct tracked_process process = {}, *known;
	struct path_scratch *scratch = scratch_of_this_cpu();
	struct ledger_entry *entry = ledger_of(CLASS_PROCESS_EXEC);

	if (!scratch || !entry)
		return 0;
	known = scope_of(pid);
	process.flags = image_flags(
		known,
		!(known && known->flags & TRACKED_MATCHED) &&
			program_is_selected(scratch, task, bprm, argv, argv_end),
		task);
	if (!known && !process.flags)
		return 0;

	process.image_boot_ns = bpf_ktime_get_boot_ns();
	process.maxrss_at_exec_pages = BPF_CORE_READ(task, signal, maxrss);
	if (known) {
		/* In place: user space may be setting the flag at this very moment. */
		known->image_boot_ns = process.image_boot_ns;
		known->maxrss_at_exec_pages = process.maxrss_at_exec_pages;
		known->flags |= process.flags;
		if (process.flags & TRACKED_MATCHED)
			known->flags &= ~TRACKED_PROVISIONAL;
	} else if (bpf_map_update_elem(&tracked, &pid, &process, BPF_ANY)) {
		count_map_full(CLASS_PROCESS_EXEC, 0);
		return 0;
	}
	/* What user space does not hear of it cannot decide on. */
	if (emit_exec(scratch, entry, task, &process, argv, argv_end > argv ? argv_end - argv : 0) &&
	    process.flags & TRACKED_PROVISIONAL)
		bpf_map_delete_elem(&tracked, &pid);
	return 0;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
