/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the files about system calls share: which classes are wanted, and the functions that
 * io.bpf.c hands a call to. They are global, so that the verifier checks each by itself.
 */
#ifndef AGENTSIGHT_IO_H
#define AGENTSIGHT_IO_H

#include "kernel.h"
#include "settings.h"

/* ---- Settings, filled by user space before load ---- */

const volatile __u32 watched __weak = 0;
/* Of one read or write over a pipe or socket pair at most this much is captured. */
const volatile __u64 stdio_call_bytes __weak = 8 << 20;
/* Only pipes and socket pairs of processes of this user, if stdio_any_user is 0. */
const volatile __u32 stdio_uid __weak = 0;
const volatile __u8 stdio_any_user __weak = 1;

/* How a call moved bytes: the direction in bit 0, and where they are. */
#define SHAPE_BUFFER (0 << 1)
#define SHAPE_VECTOR (1 << 1)
/* Not in memory of the process. */
#define SHAPE_NONE (2 << 1)
#define SHAPE_MASK (3 << 1)
/* The number of vectors. */
#define VECTOR_SHIFT 8
#define MAX_VECTORS 64

/* `bytes` moved through `file`, in what `memory` and `how` say. */
int channel_moved(__u64 file, __u32 fd, __u64 memory, __u64 bytes, __u32 how);
int channel_begins(__u32 fd, __u32 role, __u32 error, __u64 asked);
int channel_closed(__u32 fd);

int file_moved(__u64 file, __u64 bytes, __u32 direction);
int file_opened(__u32 fd, __u32 flags);
int file_not_opened(__u32 directory, __u64 path, __u32 flags, __u32 error);
int path_changed(__u32 operation, __u32 directory, __u64 path, __u32 new_directory, __u64 new_path);
int file_truncated(__u32 fd);

#endif
