// SPDX-License-Identifier: GPL-2.0
/*
 * What each rung of the ladder costs, and how long locks are held, while
 * somebody wants to know.
 *
 * The clock is read only while the tracepoint ksm_batch or ksm_locked is
 * enabled; else what is here costs a branch that is patched out.  A histogram
 * is for the tracing to make, say:
 *
 *	echo 'hist:keys=lock,nsecs.log2' > events/ksm/ksm_locked/trigger
 *
 * The costs are under the scan mutex.
 */
#include <linux/ktime.h>
#include "internal.h"
#include <trace/events/ksm.h>

static u32 pages[KSM_NR_RUNGS];
static u64 nsecs[KSM_NR_RUNGS];
static u64 total;

/**
 * ksm_cost_begin - begin to measure
 *
 * Context: scan mutex.
 * Return: to be handed to ksm_cost_end().
 */
struct ksm_timer ksm_cost_begin(void)
{
	struct ksm_timer timer = {};

	if (trace_ksm_batch_enabled()) {
		timer.since = ktime_get_ns();
		timer.total = total;
	}
	return timer;
}

/**
 * ksm_cost_end - put down what was measured, but for what was put down since
 * @timer: from ksm_cost_begin()
 * @rung: which rung it was for
 * @count: and for how many pages
 *
 * Context: scan mutex.
 */
void ksm_cost_end(struct ksm_timer timer, enum ksm_rung rung,
		  unsigned int count)
{
	u64 passed;

	if (!timer.since)
		return;
	passed = ktime_get_ns() - timer.since - (total - timer.total);
	pages[rung] += count;
	nsecs[rung] += passed;
	total += passed;
}

/**
 * ksm_cost_report - tell the costs of a batch, and begin anew
 * @mm: the mm it was for
 *
 * Context: scan mutex.
 */
void ksm_cost_report(struct mm_struct *mm)
{
	if (!trace_ksm_batch_enabled())
		return;
	trace_ksm_batch(mm, pages, nsecs);
	memset(pages, 0, sizeof(pages));
	memset(nsecs, 0, sizeof(nsecs));
	total = 0;
}

/**
 * ksm_held_report - tell how long a lock was held
 * @lock: which one
 * @since: from ksm_held_begin()
 *
 * Context: any, without the lock.
 */
void ksm_held_report(enum ksm_held lock, u64 since)
{
	trace_ksm_locked(lock, ktime_get_ns() - since);
}
