/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * System calls as they end: number and arguments from the registers the program entered the kernel
 * with, and the file behind a descriptor. What a number means is user space's to say, for its own
 * architecture (syscall_actions).
 */
#ifndef AGENTSIGHT_SYSCALL_H
#define AGENTSIGHT_SYSCALL_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "settings.h"

const volatile __u8 syscall_actions[SYSCALL_NUMBERS] __weak = {};

static __always_inline __u64 syscall_number(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	/* 32-bit programs number their calls differently; nothing of theirs is looked at. */
	return regs->cs == USER32_CS ? SYSCALL_NUMBERS : regs->orig_ax;
#elif defined(__TARGET_ARCH_arm64)
	return regs->syscallno;
#endif
}

/* The kernel leaves the argument registers as they were (on arm64, the first in a copy). */
#if defined(__TARGET_ARCH_x86)
#define ARGUMENT_1(regs) ((regs)->di)
#define ARGUMENT_2(regs) ((regs)->si)
#define ARGUMENT_3(regs) ((regs)->dx)
#define ARGUMENT_4(regs) ((regs)->r10)
#define ARGUMENT_5(regs) ((regs)->r8)
#elif defined(__TARGET_ARCH_arm64)
#define ARGUMENT_1(regs) ((regs)->orig_x0)
#define ARGUMENT_2(regs) ((regs)->user_regs.regs[1])
#define ARGUMENT_3(regs) ((regs)->user_regs.regs[2])
#define ARGUMENT_4(regs) ((regs)->user_regs.regs[3])
#define ARGUMENT_5(regs) ((regs)->user_regs.regs[4])
#endif

/* The open file behind a descriptor of this process; 0 if there is none. */
static __always_inline struct file *file_of(__u32 fd)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files, *file = 0;

	if (!table || fd >= BPF_CORE_READ(table, max_fds))
		return 0;
	files = BPF_CORE_READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	return file;
}

#endif
