// SPDX-License-Identifier: GPL-2.0
/*
 * The advisor: how many pages a batch should take.
 *
 * An admin thinks in "look at all memory once in 200 seconds, but never take
 * more than 70 % of a CPU".  ksmd works in batches of pages_to_scan pages with
 * a rest between them.  After each full pass the advisor turns the former
 * into the latter:
 *
 *   1. A pass of T seconds with P pages a batch would have taken the target
 *      time with P * T / target pages a batch.
 *   2. One odd pass should not make the rate jump: a third of the previous
 *      advice is mixed in.
 *   3. CPU use grows with the pages: if P pages a batch took C percent of a
 *      CPU, then P * max_cpu / C pages take the most that is allowed.
 *   4. The lower and the upper limit of the admin come last.  Scanning never
 *      stops: at least one page is always advised.
 *
 * For example: 100 pages a batch took 600 s and 5 % of a CPU; the target is
 * 200 s.  Step 1 says 300 pages; step 3 allows 1400.
 */
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/sched.h>
#include <linux/sched/cputime.h>
#include "internal.h"
#include <trace/events/ksm.h>

struct ksm_advisor ksm_advisor = {
	.mode		= KSM_ADVISOR_NONE,
	.max_cpu	= 70,
	.min_pages	= 500,
	.max_pages	= 30000,
	.target_time	= 200,
};

static ktime_t pass_began;
static u64 pass_cpu_began;

/**
 * ksm_advise - compute the next pages_to_scan
 * @adv: limits, and the memory of previous advice, which is updated
 * @pages_now: the value that the pass ran with
 * @pass_ms: what the pass took, in milliseconds
 * @cpu_ms: what ksmd used of a CPU for it
 * @cpu_percent: set to the share of a CPU that this is
 *
 * Context: scan mutex, for @adv; otherwise a function of its arguments.
 * Return: the advice, at least 1.
 */
unsigned int ksm_advise(struct ksm_advisor *adv, unsigned int pages_now,
			u64 pass_ms, u64 cpu_ms, unsigned int *cpu_percent)
{
	u64 target_ms, wanted, most, min_pages, max_pages;

	pass_ms = clamp_t(u64, pass_ms, 1, U32_MAX);
	cpu_ms = min_t(u64, cpu_ms, U32_MAX);
	*cpu_percent = clamp_t(u64, div64_u64(cpu_ms * 100, pass_ms), 1,
			       UINT_MAX);

	target_ms = clamp_t(u64, READ_ONCE(adv->target_time), 1, U32_MAX) *
		    MSEC_PER_SEC;
	wanted = div64_u64((u64)pages_now * pass_ms, target_ms);
	if (adv->advised)
		wanted = div_u64(2 * wanted + adv->advised, 3);
	adv->advised = wanted;

	most = div64_u64((u64)pages_now * READ_ONCE(adv->max_cpu),
			 *cpu_percent);
	min_pages = READ_ONCE(adv->min_pages);
	max_pages = min_t(u64, READ_ONCE(adv->max_pages), UINT_MAX);

	wanted = min(wanted, most);
	wanted = max(wanted, min_pages);
	wanted = min(wanted, max_pages);
	return max_t(u64, wanted, 1);
}

/**
 * ksm_advisor_set_mode - hand pages_to_scan to the admin or to the advisor
 * @mode: whom to
 *
 * Context: takes the scan mutex.
 */
void ksm_advisor_set_mode(enum ksm_advisor_mode mode)
{
	ksm_scan_lock();
	if (mode != ksm_advisor.mode) {
		unsigned long pages = KSM_DEFAULT_PAGES;

		if (mode == KSM_ADVISOR_SCAN_TIME)
			pages = clamp(READ_ONCE(ksm_advisor.min_pages),
				      1UL, (unsigned long)UINT_MAX);
		ksm_advisor.advised = 0;
		WRITE_ONCE(ksm_advisor.mode, mode);
		WRITE_ONCE(ksm_knobs.pages_to_scan, pages);
	}
	ksm_scan_unlock();
}

/**
 * ksm_pace_pass_begin - a full pass begins
 *
 * Context: ksmd, scan mutex.
 */
void ksm_pace_pass_begin(void)
{
	pass_began = ktime_get();
	pass_cpu_began = task_sched_runtime(current);
}

/**
 * ksm_pace_pass_end - a full pass is over: let the advisor have a look
 *
 * Context: ksmd, scan mutex.
 */
void ksm_pace_pass_end(void)
{
	unsigned int pages, cpu_percent;
	u64 pass_ms, cpu_ms;

	lockdep_assert_held(&ksm_scan_mutex);
	if (ksm_advisor.mode == KSM_ADVISOR_NONE)
		return;
	pass_ms = ktime_ms_delta(ktime_get(), pass_began);
	cpu_ms = div_u64(task_sched_runtime(current) - pass_cpu_began,
			 NSEC_PER_MSEC);
	pages = ksm_advise(&ksm_advisor, ksm_knobs.pages_to_scan, pass_ms,
			   cpu_ms, &cpu_percent);
	WRITE_ONCE(ksm_knobs.pages_to_scan, pages);
	trace_ksm_advisor(div_u64(pass_ms, MSEC_PER_SEC), pages, cpu_percent);
}
