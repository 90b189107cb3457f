// SPDX-License-Identifier: GPL-2.0
/*
 * The counters.  Each is changed in one function of this file, all of them
 * under the scan mutex; sysfs and proc read them without it and may see a
 * value that is a batch old.  check.c recounts them.
 */
#include "internal.h"

struct ksm_stats ksm_stats;

static void add(unsigned long *counter, long delta)
{
	lockdep_assert_held(&ksm_scan_mutex);
	if (WARN_ON_ONCE(delta < 0 && *counter < (unsigned long)-delta))
		delta = -(long)*counter;
	WRITE_ONCE(*counter, *counter + delta);
}

/**
 * ksm_count_state - a page goes from one state to another
 * @from: the old state
 * @to: the new one
 *
 * Context: scan mutex.
 */
void ksm_count_state(enum ksm_state from, enum ksm_state to)
{
	add(&ksm_stats.records, (to != KSM_NEW) - (from != KSM_NEW));
	add(&ksm_stats.unshared,
	    (to == KSM_SETTLED || to == KSM_CANDIDATE) -
	    (from == KSM_SETTLED || from == KSM_CANDIDATE));
}

/**
 * ksm_count_item - rmap items are made or freed
 * @owner: their mm
 * @delta: how many, negative when freed
 *
 * Context: scan mutex.
 */
void ksm_count_item(struct ksm_mm *owner, int delta)
{
	long bytes = delta * (long)sizeof(struct ksm_rmap_item);

	add(&ksm_stats.items, delta);
	add(&ksm_stats.bytes, bytes);
	add(&owner->bytes, bytes);
	add(&owner->slot.mm->ksm_rmap_items, delta);
}

/**
 * ksm_count_listed - an item joins or leaves a stable node
 * @owner: the item's mm
 * @before: items the node had until now
 * @delta: 1 or -1
 *
 * The first item of a node makes it shared; each further one is sharing.
 *
 * Context: scan mutex.
 */
void ksm_count_listed(struct ksm_mm *owner, unsigned int before, int delta)
{
	if (before == (delta > 0 ? 0 : 1))
		add(&ksm_stats.shared, delta);
	else
		add(&ksm_stats.sharing, delta);
	add(&owner->slot.mm->ksm_merging_pages, delta);
}

/**
 * ksm_count_block - a block of records is made or freed
 * @owner: its mm
 * @bytes: its size, negative when freed
 *
 * Context: scan mutex.
 */
void ksm_count_block(struct ksm_mm *owner, long bytes)
{
	add(&ksm_stats.bytes, bytes);
	add(&owner->bytes, bytes);
}

/**
 * ksm_count_filtered - pages are listed in the filter, or are not any more
 * @delta: how many
 *
 * Context: scan mutex.
 */
void ksm_count_filtered(long delta)
{
	add(&ksm_stats.filtered, delta);
}

/**
 * ksm_count_filter - the filter's table is made or freed
 * @bytes: its size, negative when freed
 *
 * Context: scan mutex.
 */
void ksm_count_filter(long bytes)
{
	add(&ksm_stats.bytes, bytes);
}

/**
 * ksm_count_node - a stable node is made or freed
 * @delta: 1 or -1
 *
 * Context: scan mutex.
 */
void ksm_count_node(int delta)
{
	add(&ksm_stats.nodes, delta);
	add(&ksm_stats.bytes, delta * (long)sizeof(struct ksm_stable_node));
}

/**
 * ksm_count_chain - a chain enters or leaves the stable tree
 * @delta: 1 or -1
 *
 * Context: scan mutex.
 */
void ksm_count_chain(int delta)
{
	add(&ksm_stats.chains, delta);
	add(&ksm_stats.bytes, delta * (long)sizeof(struct ksm_chain));
}

/**
 * ksm_count_dup - a stable node joins or leaves a chain
 * @delta: 1 or -1
 *
 * Context: scan mutex.
 */
void ksm_count_dup(int delta)
{
	add(&ksm_stats.dups, delta);
}

/**
 * ksm_count_work - ksmd looked at pages
 * @read: pages it read
 * @skipped: pages it passed over
 *
 * Context: scan mutex.
 */
void ksm_count_work(unsigned long read, unsigned long skipped)
{
	add(&ksm_stats.scanned, read);
	add(&ksm_stats.skipped, skipped);
}

/**
 * ksm_count_pass - a full pass is complete
 *
 * Context: scan mutex.
 */
void ksm_count_pass(void)
{
	add(&ksm_stats.full_scans, 1);
}

/**
 * ksm_count_reset_passes - run=2 was written, passes count from 0 again
 *
 * Context: scan mutex.
 */
void ksm_count_reset_passes(void)
{
	add(&ksm_stats.full_scans, -(long)ksm_stats.full_scans);
}

/**
 * ksm_stat_volatile - pages with a record that are in no other category
 *
 * Context: any; exact while ksmd does not scan.
 * Return: the number, never negative.
 */
long ksm_stat_volatile(void)
{
	long rest = READ_ONCE(ksm_stats.records) -
		    READ_ONCE(ksm_stats.unshared) -
		    READ_ONCE(ksm_stats.shared) -
		    READ_ONCE(ksm_stats.sharing);

	return max(rest, 0L);
}

/**
 * ksm_stat_profit - bytes saved less the bytes that records and trees take
 *
 * Context: any; exact while ksmd does not scan.
 * Return: the bytes, negative if KSM costs more than it saves.
 */
long ksm_stat_profit(void)
{
	return (READ_ONCE(ksm_stats.sharing) +
		atomic_long_read(&ksm_zero_pages)) * PAGE_SIZE -
		READ_ONCE(ksm_stats.bytes);
}
