/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The kernel as these programs see it: only the types and fields that are read, and the few UAPI
 * constants that are used. Field offsets are relocated at load against the running kernel's BTF
 * (CO-RE), so the order and the gaps here mean nothing. Minimum kernel: 5.8 (ring buffer,
 * bpf_ktime_get_boot_ns). Where a field moved or changed its type since, a flavour with the suffix
 * ___pre<version> stands beside it and the code asks bpf_core_field_exists which one there is.
 */
#ifndef AGENTSIGHT_KERNEL_H
#define AGENTSIGHT_KERNEL_H

/* Tells bpf_tracing.h that struct pt_regs has the kernel's field names, not those of ptrace.h. */
#define __VMLINUX_H__

typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef short __s16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0

/* include/uapi/linux/bpf.h */
#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_PERCPU_ARRAY 6
#define BPF_MAP_TYPE_RINGBUF 27
#define BPF_ANY 0
#define BPF_NOEXIST 1
#define BPF_RB_NO_WAKEUP 1
#define BPF_RB_FORCE_WAKEUP 2
#define BPF_RB_AVAIL_DATA 0

/* include/uapi/linux/stat.h */
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define S_IFREG 0100000
#define S_IFIFO 0010000

/* include/linux/socket.h, include/uapi/linux/net.h, include/uapi/linux/fcntl.h */
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define AT_FDCWD -100
#define AT_REMOVEDIR 0x200

/* arch/x86/include/asm/segment.h: the code segment of 32-bit programs. */
#define USER32_CS 0x23

/* include/linux/sched/signal.h */
#define SIGNAL_GROUP_EXIT 0x4

/* include/linux/mm_types_task.h: indices into mm_struct.rss_stat */
#define MM_FILEPAGES 0
#define MM_ANONPAGES 1
#define MM_SHMEMPAGES 3

/* Opaque in the kernel's UAPI as well; lives on the BPF stack. */
struct bpf_dynptr {
	__u64 __opaque[2];
} __attribute__((aligned(8)));

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long di, si, dx, cx, r8, r9, r10, r11, r12, r13, r14, r15, ax, bx, bp, sp, ip;
	unsigned long orig_ax;
	__u16 cs;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	__u64 regs[31];
	__u64 sp;
	__u64 pc;
	__u64 pstate;
};
struct pt_regs {
	struct user_pt_regs user_regs;
	__u64 orig_x0;
	__s32 syscallno;
};
#endif

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	__u32 val;
} kuid_t;

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};

struct vfsmount {
	struct dentry *mnt_root;
};

/* fs/mount.h: the mount around a vfsmount. */
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct super_block {
	__u32 s_dev;
};

struct inode {
	__u16 i_mode;
	unsigned long i_ino;
	__u32 i_generation;
	struct super_block *i_sb;
};

struct file {
	unsigned int f_mode;
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct in6_addr {
	__u8 bytes[16];
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct socket {
	short type;
	struct sock *sk;
};

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
};

/* include/net/sock.h: the inode of a socket lies beside it. */
struct socket_alloc {
	struct socket socket;
	struct inode vfs_inode;
};

struct sockaddr_un {
	unsigned short sun_family;
	char sun_path[108];
};

struct unix_address {
	int len;
	struct sockaddr_un name[0];
};

struct unix_sock {
	struct sock sk;
	struct unix_address *addr;
	struct sock *peer;
};

struct fs_struct {
	struct path pwd;
};

struct cred {
	kuid_t uid;
};

struct percpu_counter {
	__s64 count;
	__s32 *counters;
};

struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
	unsigned long hiwater_rss;
	struct percpu_counter rss_stat[4];
	struct file *exe_file;
};

/* Before 6.2 the counters were plain, in one struct. */
typedef struct {
	long counter;
} atomic_long_t___pre62;
struct mm_rss_stat___pre62 {
	atomic_long_t___pre62 count[4];
};
struct mm_struct___pre62 {
	struct mm_rss_stat___pre62 rss_stat;
};

/* Present with CONFIG_TASK_IO_ACCOUNTING only. */
struct task_io_accounting {
	__u64 read_bytes;
	__u64 write_bytes;
};

struct signal_struct {
	atomic_t live;
	int group_exit_code;
	unsigned int flags;
	__u64 utime;
	__u64 stime;
	unsigned long maxrss;
	struct task_io_accounting ioac;
	unsigned long long sum_sched_runtime;
};

struct sched_entity {
	__u64 sum_exec_runtime;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
	int level;
	/* From the root, level 0, to the cgroup itself. */
	struct cgroup *ancestors[1];
};

/* Before 6.1 the ids alone. */
struct cgroup___pre61 {
	__u64 ancestor_ids[1];
};

/* The cgroups of a task; dfl_cgrp is that of the v2 hierarchy. */
struct css_set {
	struct cgroup *dfl_cgrp;
};

struct task_struct {
	int pid;
	int tgid;
	int exit_code;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	__u64 start_boottime;
	__u64 utime;
	__u64 stime;
	struct sched_entity se;
	struct task_io_accounting ioac;
	struct mm_struct *mm;
	struct mm_struct *active_mm;
	struct fs_struct *fs;
	struct files_struct *files;
	const struct cred *cred;
	struct css_set *cgroups;
	struct signal_struct *signal;
	char comm[16];
};

struct linux_binprm {
	const char *filename;
};

struct bpf_map {
	__u32 id;
};

/* kernel/bpf/arraymap.c: a per-CPU array ends in the per-CPU pointers of its elements. */
struct bpf_array {
	struct bpf_map map;
};

/* Context of iter/bpf_map programs; no map at the end. */
struct bpf_iter__bpf_map {
	struct bpf_map *map;
};

#pragma clang attribute pop

/* What programs hand to system calls (include/uapi/linux/uio.h, socket.h): a layout that is fixed. */
struct iovec {
	__u64 base;
	__u64 bytes;
};

struct user_msghdr {
	__u64 msg_name;
	__u32 msg_namelen;
	__u32 _pad;
	__u64 msg_iov;
	__u64 msg_iovlen;
	__u64 msg_control;
	__u64 msg_controllen;
	__u32 msg_flags;
	__u32 _pad2;
};

struct mmsghdr {
	struct user_msghdr msg_hdr;
	__u32 msg_len;
	__u32 _pad;
};

#endif
