// SPDX-License-Identifier: GPL-2.0
/*
 * What each rung of the ladder costs, while somebody wants to know.
 *
 * The clock is read only while the tracepoint ksm_batch is enabled; else what
 * is here costs a branch that is patched out.  A histogram is for the
 * tracing to make, say:
 *
 *	echo 'hist:keys=locked_ns.log2' > events/ksm/ksm_batch/trigger
 *
 * All of it is under the scan mutex.
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
 * Return: to be handed to ksm_cost_end() or ksm_cost_report().
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
 * ksm_cost_locked - for how long was an mm's mmap_lock held?
 * @timer: from ksm_cost_begin(), when it was taken
 *
 * Context: scan mutex.
 * Return: nanoseconds; 0 if nobody wants to know.
 */
u64 ksm_cost_locked(struct ksm_timer timer)
{
	return timer.since ? ktime_get_ns() - timer.since : 0;
}

/**
 * ksm_cost_report - tell the costs of a batch, and begin anew
 * @mm: the mm it was for
 * @locked: how long its mmap_lock was held
 *
 * Context: scan mutex.
 */
void ksm_cost_report(struct mm_struct *mm, u64 locked)
{
	if (!trace_ksm_batch_enabled())
		return;
	trace_ksm_batch(mm, pages, nsecs, locked);
	memset(pages, 0, sizeof(pages));
	memset(nsecs, 0, sizeof(nsecs));
	total = 0;
}
