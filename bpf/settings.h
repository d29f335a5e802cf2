/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Numbers by which user space tells the programs what to do; mirrored by
 * src/capture/bpf/settings.rs, which a test compares with this text.
 */
#ifndef AGENTSIGHT_SETTINGS_H
#define AGENTSIGHT_SETTINGS_H

/* ---- What is watched: bits ---- */

#define WATCH_FILES 1
#define WATCH_CHANNELS 2
#define WATCH_STDIO 4
/* Pipes and socket pairs at any descriptor, not only at 0, 1 and 2. */
#define WATCH_ALL_DESCRIPTORS 8

/* ---- System calls ---- */

/* Numbers from here on mean nothing to any action. */
#define SYSCALL_NUMBERS 512

/* What a system call does, by its number; arguments in the order of the C interface. */
#define ACTION_NONE 0
/* fd, buffer, size: returns bytes moved */
#define ACTION_READ 1
#define ACTION_WRITE 2
/* fd, iovec, count: returns bytes moved */
#define ACTION_READ_VECTOR 3
#define ACTION_WRITE_VECTOR 4
/* fd, msghdr: returns bytes moved */
#define ACTION_RECEIVE_MESSAGE 5
#define ACTION_SEND_MESSAGE 6
/* fd, mmsghdr, count: returns messages moved */
#define ACTION_RECEIVE_MESSAGES 7
#define ACTION_SEND_MESSAGES 8
/* to, from */
#define ACTION_SENDFILE 9
/* from, offset, to */
#define ACTION_SPLICE 10
/* path */
#define ACTION_OPEN 11
/* directory, path */
#define ACTION_OPENAT 12
/* fd */
#define ACTION_CLOSE 13
#define ACTION_CONNECT 14
#define ACTION_ACCEPT 15
/* path */
#define ACTION_UNLINK 16
#define ACTION_RMDIR 17
#define ACTION_MKDIR 18
#define ACTION_TRUNCATE 19
/* path, new path */
#define ACTION_RENAME 20
#define ACTION_LINK 21
/* target, path */
#define ACTION_SYMLINK 22
/* directory, path, flags */
#define ACTION_UNLINKAT 23
/* directory, path */
#define ACTION_MKDIRAT 24
/* directory, path, new directory, new path */
#define ACTION_RENAMEAT 25
#define ACTION_LINKAT 26
/* target, directory, path */
#define ACTION_SYMLINKAT 27
/* fd */
#define ACTION_FTRUNCATE 28
/* ring */
#define ACTION_IO_URING 29
/* path: always makes or empties the file */
#define ACTION_CREAT 30
/* directory, path, struct open_how */
#define ACTION_OPENAT2 31

#endif
