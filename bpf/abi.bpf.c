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
const volatile struct channel_event abi_channel_event = {};
const volatile struct channel_close_event abi_channel_close_event = {};
const volatile struct tls_socket_event abi_tls_socket_event = {};
const volatile struct path_event abi_path_event = {};
const volatile struct file_use_key abi_file_use_key = {};
const volatile struct file_use abi_file_use = {};
const volatile struct connection abi_connection = {};
