/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The ledger, and the one way in which small records reach a ring. Every attempt ends in exactly
 * one of submitted or lost, so that user space can prove that nothing vanished.
 */
#ifndef AGENTSIGHT_EMIT_H
#define AGENTSIGHT_EMIT_H

#include "maps.h"

/* Cannot fail for a class below CLASS_COUNT; the verifier wants the check all the same. */
static __always_inline struct ledger_entry *ledger_of(__u32 class)
{
	return bpf_map_lookup_elem(&ledger, &class);
}

static __always_inline void count_attempt(struct ledger_entry *entry, __u64 bytes)
{
	__sync_fetch_and_add(&entry->attempted_events, 1);
	__sync_fetch_and_add(&entry->attempted_bytes, bytes);
}

static __always_inline void count_submitted(struct ledger_entry *entry, __u64 bytes)
{
	__sync_fetch_and_add(&entry->submitted_events, 1);
	__sync_fetch_and_add(&entry->submitted_bytes, bytes);
}

/* `cause` is a constant at every call. */
static __always_inline void count_lost(struct ledger_entry *entry, __u32 cause, __u64 events,
				       __u64 bytes)
{
	if (events)
		__sync_fetch_and_add(&entry->lost_events[cause], events);
	if (bytes)
		__sync_fetch_and_add(&entry->lost_bytes[cause], bytes);
}

/* Counts an event that never came to be written. `cause` is a constant at every call. */
static __always_inline void count_unwritten(__u32 class, __u32 cause, __u64 bytes)
{
	struct ledger_entry *entry = ledger_of(class);

	if (!entry)
		return;
	count_attempt(entry, bytes);
	count_lost(entry, cause, 1, bytes);
}

/* The same for one that a map had no room for. */
static __always_inline void count_map_full(__u32 class, __u64 bytes)
{
	count_unwritten(class, LOSS_MAP_FULL, bytes);
}

/*
 * How to submit to the payload ring. A wakeup costs fifty times the submit and is paid by the
 * traced thread, so the reader comes on a timer unless the ring fills faster than that.
 */
static __always_inline __u64 wakeup_of(void *ring, __u64 wakeup_bytes)
{
	return bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) > wakeup_bytes ? BPF_RB_FORCE_WAKEUP :
									   BPF_RB_NO_WAKEUP;
}

static __always_inline __u64 payload_wakeup(void)
{
	return wakeup_of(&payload_ring, payload_wakeup_bytes);
}

static __always_inline __u64 io_wakeup(void)
{
	return wakeup_of(&io_ring, io_wakeup_bytes);
}

/*
 * How to submit forks and exits to the control ring: nobody waits for one of them. An exec wakes
 * the reader by itself (BPF_RB_FORCE_WAKEUP; without it a record wakes nobody as long as one
 * before it is unread), because the program's libraries are to be probed before it uses them.
 */
static __always_inline __u64 control_wakeup(void)
{
	return bpf_ringbuf_query(&control_ring, BPF_RB_AVAIL_DATA) > control_wakeup_bytes ?
		       BPF_RB_FORCE_WAKEUP :
		       BPF_RB_NO_WAKEUP;
}

/* Writes one record without payload bytes and accounts for it. Returns 0 unless it was lost. */
static __always_inline int emit_small(void *ring, __u32 class, void *record, __u64 record_bytes,
				       __u64 flags)
{
	struct ledger_entry *entry = ledger_of(class);

	if (!entry)
		return 1;
	count_attempt(entry, 0);
	if (bpf_ringbuf_output(ring, record, record_bytes, flags)) {
		count_lost(entry, LOSS_RING_FULL, 1, 0);
		return 1;
	}
	count_submitted(entry, 0);
	return 0;
}

#endif
