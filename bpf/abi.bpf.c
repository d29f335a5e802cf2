// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * No programs: one unused variable of each type that user space shares, because the skeleton
 * generator emits the types of variables only. src/capture/bpf/skeleton.rs compares them with
 * src/capture/abi.rs at compile time.
 */
#include "kernel.h"
#include "event.h"

const volatile struct process_fork_event abi_process_fork_event = {};
const volatile struct process_exec_event abi_process_exec_event = {};
const volatile struct exec_argv_event abi_exec_argv_event = {};
const volatile struct process_exit_event abi_process_exit_event = {};
const volatile struct data_event abi_data_event = {};
const volatile struct close_event abi_close_event = {};
