// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel Samepage Merging.
 *
 * Programs offer areas of their memory (ksm/advice.c).  A kernel thread, ksmd,
 * goes through them again and again, and where it finds pages with the same
 * contents, it keeps one of them, write-protected, for all.  Who writes to a
 * shared page gets a private copy, as after fork.
 *
 * The problem is not to find twins, but not to spend a CPU on the many pages
 * that have none.  So a page climbs a ladder, each rung about ten times as
 * dear as the one below, and stops at the first that rules it out:
 *
 *   rung 0  Is it the frame that was here at the last visit, and not written
 *           to?  The page table and an eight-byte record know; the page is
 *           not touched.                                     ksm/scan.c
 *   rung 1  Its digest: one read of the page.  One that differs from the
 *           last one stops here, until it keeps still.       ksm/digest.c
 *   rung 2  Has any other page that digest?  One look into a table of those
 *           that are known; a page that is the only one of its kind is listed
 *           there, in five bytes.                            ksm/filter.c
 *   rung 3  Is there a shared page with that digest, or another page that
 *           waits for a twin?  Two red-black trees, ordered by digest: on the
 *           way down no page is touched.       ksm/stable_tree.c
 *                                              ksm/unstable_tree.c
 *   rung 4  Are all bytes equal, with the page write-protected and nobody
 *           else holding on to it?  Then it merges.          ksm/merge.c
 *
 * A digest orders, and it hints; it never decides.  Two pages become one only
 * after rung 4.
 *
 * ksmd works in batches of pages_to_scan pages, with a rest of
 * sleep_millisecs after each.  A full pass looks at each mergeable page once.
 * Two pages that were offered before a pass began, are equal and do not
 * change, are merged when the second pass ends: the first takes their digests,
 * the second finds the digests unchanged, lists one page, and meets it with
 * the other.
 *
 * Layers, locks and structures are laid out in ksm/internal.h; what is promised
 * and what is not, in Documentation/mm/ksm.rst.
 */
#include <linux/freezer.h>
#include <linux/init.h>
#include <linux/kthread.h>
#include <linux/oom.h>
#include <linux/sched.h>
#include <linux/swap.h>
#include <linux/wait.h>
#include "ksm/internal.h"

#define CREATE_TRACE_POINTS
#include <trace/events/ksm.h>

#define SLICE_WORK	(200 * KSM_WORK_READ)	/* in one hold of an mmap_lock */
#define SLICE_NODES	256	/* stable nodes looked at between two breaths */
#define SLICE_RECORDS	512	/* records dropped, likewise */
#define SLICE_DEAD	16	/* exited mms visited in a batch */
#define REAP_MSECS	20	/* rest, if there is nothing to do but reap */
#define IDLE_MSECS	1000	/* rest, if nodes wait for their page to go */

/* Whoever holds this walks, and changes trees, records and counters */
DEFINE_MUTEX(ksm_scan_mutex);

/* Held by writers of settings, so that they come one after the other */
static DEFINE_MUTEX(settings_mutex);

static DECLARE_WAIT_QUEUE_HEAD(work_wait);	/* ksmd, with nothing to do */
static DECLARE_WAIT_QUEUE_HEAD(rest_wait);	/* ksmd, between batches */
static DECLARE_WAIT_QUEUE_HEAD(pause_wait);	/* for hot-remove to end */
static bool paused;				/* S; read without it */
static bool started;	/* S; read without it: run became 1, no batch since */
static u64 scan_since;			/* S: for ksm_held_end() */

struct ksm_knobs ksm_knobs = {
	.run			= IS_ENABLED(CONFIG_SYSFS) ? KSM_RUN_STOP :
							     KSM_RUN_MERGE,
	.pages_to_scan		= KSM_DEFAULT_PAGES,
	.sleep_millisecs	= 20,
	.max_page_sharing	= 256,
	.prune_millisecs	= 2000,
	.merge_across_nodes	= true,
	.smart_scan		= true,
};

atomic_long_t ksm_zero_pages = ATOMIC_LONG_INIT(0);

/* ------------------------------------------------------------------ */
/* The scan mutex, and the pause during memory hot-remove              */
/* ------------------------------------------------------------------ */

/**
 * ksm_scan_lock - take the scan mutex, but not while memory is removed
 *
 * Context: process; sleeps.
 */
void ksm_scan_lock(void)
{
	mutex_lock(&ksm_scan_mutex);
	while (paused) {
		mutex_unlock(&ksm_scan_mutex);
		wait_event(pause_wait, !READ_ONCE(paused));
		mutex_lock(&ksm_scan_mutex);
	}
	scan_since = ksm_held_begin();
}

/**
 * ksm_scan_unlock - release the scan mutex
 *
 * Context: whoever called ksm_scan_lock().
 */
void ksm_scan_unlock(void)
{
	u64 since = scan_since;

	mutex_unlock(&ksm_scan_mutex);
	ksm_held_end(KSM_HELD_SCAN, since);
}

/**
 * ksm_breathe - let others have the scan mutex, and the CPU
 *
 * Context: scan mutex; sleeps.
 */
void ksm_breathe(void)
{
	ksm_scan_unlock();
	cond_resched();
	ksm_scan_lock();
}

/**
 * ksm_pause - have everyone wait in ksm_scan_lock(), or let them go on
 * @pause: which of the two
 *
 * Context: process; sleeps until the batch under way is over.
 */
void ksm_pause(bool pause)
{
	mutex_lock(&ksm_scan_mutex);
	WRITE_ONCE(paused, pause);
	mutex_unlock(&ksm_scan_mutex);
	if (!pause)
		wake_up_all(&pause_wait);
}

/**
 * ksm_paused - does everyone wait for memory hot-remove?
 *
 * Context: any.
 * Return: true if so.
 */
bool ksm_paused(void)
{
	return READ_ONCE(paused);
}

/* ------------------------------------------------------------------ */
/* One pass                                                            */
/* ------------------------------------------------------------------ */

static enum {
	PASS_BEGIN,	/* between two passes */
	PASS_SWEEP,	/* looking at the stable nodes */
	PASS_SCAN,	/* going through the mms */
} phase;				/* S */

static struct ksm_sweep_pos sweep;		/* S: how far PASS_SWEEP has come */
static struct ksm_batch batch;		/* S */

/*
 * Where PASS_SCAN is in its current mm: pages before @addr are done, but for
 * the records from @hole to there, which have no pages.  All S.
 */
static struct {
	unsigned long	addr;
	unsigned long	hole;
	bool		in_hole;
	bool		last_hole;
	bool		mergeable;	/* an area was, in this pass */
} place;

static void begin_pass(void)
{
	trace_ksm_start_scan(ksm_stats.full_scans, ksm_stats.records);
	ksm_pace_pass_begin();
	ksm_scan_pass_begin();
	/*
	 * Pages that wait in a CPU's LRU batch cannot be merged.  Only new
	 * pages wait there, so when all is settled no CPU is disturbed.
	 */
	if (ksm_drain_due())
		lru_add_drain_all();
	ksm_sweep_begin(&sweep);
	phase = PASS_SWEEP;
}

/*
 * Somebody writes to all users of a merged page when ksmd has been there, waits
 * for full_scans to rise and looks at the counters.  Where all is done in a
 * moment that must not depend on who is faster, so if there are few nodes, those
 * whose pages have gone are dropped before the pass counts.
 */
static void sweep_few(void)
{
	struct ksm_sweep_pos pos = {};

	if (ksm_stats.nodes <= SLICE_NODES &&
	    ksm_stats.shared + ksm_stats.sharing <= SLICE_RECORDS)
		ksm_sweep(&pos, UINT_MAX);
}

static void end_pass(void)
{
	sweep_few();
	ksm_pace_pass_end();
	trace_ksm_stop_scan(ksm_stats.full_scans, ksm_stats.records);
	ksm_count_pass();
	/*
	 * Takes long, so not before: who writes to pages now, and waits for the
	 * next pass to end, wants them to have been looked at.
	 */
	ksm_check_all();
	phase = PASS_BEGIN;
}

static void enter_hole(unsigned long from, bool last)
{
	place.hole = from;
	place.in_hole = true;
	place.last_hole = last;
}

/* Drop some records that have no pages; returns the work done */
static unsigned int leave_hole(struct ksm_mm *owner)
{
	unsigned long to = place.last_hole ? ULONG_MAX : place.addr;

	if (ksm_records_drop(owner, &place.hole, to, SLICE_RECORDS,
			     KSM_LOCK_TRY)) {
		place.in_hole = false;
		if (place.last_hole)
			ksm_registry_leave(KSM_CURSOR_SCAN);
	}
	return KSM_WORK_READ;
}

static unsigned int batch_work(void)
{
	return hweight64(batch.read | batch.adopt) * KSM_WORK_READ +
	       hweight64(batch.still) * KSM_WORK_FILTER +
	       (batch.passed + batch.aside) * KSM_WORK_LOOK;
}

/* Go on in an mm, for as long as its mmap_lock may be held */
static unsigned int scan_mm(struct ksm_mm *owner, unsigned int budget)
{
	unsigned int work = KSM_WORK_LOOK;
	struct ksm_timer timer;
	enum ksm_step step;

	if (!ksm_mm_begin(owner)) {
		ksm_registry_leave(KSM_CURSOR_SCAN);
		return work;
	}
	budget = min(budget, SLICE_WORK);
	do {
		timer = ksm_cost_begin();
		step = ksm_scan_step(owner, &place.addr, budget, &batch);
		place.mergeable |= batch.mergeable;
		ksm_cost_end(timer, KSM_RUNG_WALK, batch.passed);
		if (step == KSM_STEP_BATCH)
			ksm_climb_batch(&batch);
		ksm_count_work(hweight64(batch.read), batch.skipped);
		work += batch_work();
	} while (step == KSM_STEP_BATCH && work < budget &&
		 !ksm_pair_pending() && !ksm_mm_should_end(owner));

	/* To ask all areas takes long, and one may have come behind our back */
	if (step == KSM_STEP_END && !place.mergeable &&
	    !ksm_scan_mergeable(owner->slot.mm))
		ksm_registry_retire(owner);
	ksm_mm_end(owner);

	if (ksm_pair_pending())
		ksm_pair_all(owner);
	ksm_cost_report(owner->slot.mm);
	if (step == KSM_STEP_HOLE)
		enter_hole(batch.hole, /* last = */ false);
	else if (step == KSM_STEP_END)
		enter_hole(place.addr, /* last = */ true);
	return work;
}

/* Do some work in PASS_SCAN; 0 if there is none left */
static unsigned int scan_some(unsigned int budget)
{
	struct ksm_mm *owner = ksm_registry_current(KSM_CURSOR_SCAN);

	if (!owner) {
		owner = ksm_registry_next(KSM_CURSOR_SCAN);
		memset(&place, 0, sizeof(place));
	}
	if (!owner)
		return 0;
	if (place.in_hole)
		return leave_hole(owner);
	return scan_mm(owner, budget);
}

/* One batch: as much of a pass as pages_to_scan allows, but not past its end */
static void do_batch(void)
{
	u64 budget = (u64)READ_ONCE(ksm_knobs.pages_to_scan) * KSM_WORK_READ;
	u64 work = 0;

	while (work < budget && !freezing(current)) {
		unsigned int left = min_t(u64, budget - work, UINT_MAX);
		unsigned int done;

		cond_resched();
		switch (phase) {
		case PASS_BEGIN:
			begin_pass();
			break;
		case PASS_SWEEP:
			if (ksm_sweep(&sweep, SLICE_NODES))
				phase = PASS_SCAN;
			work += KSM_WORK_READ;
			break;
		case PASS_SCAN:
			done = scan_some(left);
			work += done;
			if (!done) {
				end_pass();
				return;
			}
			break;
		}
	}
}

/* ------------------------------------------------------------------ */
/* ksmd                                                                */
/* ------------------------------------------------------------------ */

static bool may_scan(void)
{
	return READ_ONCE(ksm_knobs.run) == KSM_RUN_MERGE &&
	       ksm_registry_populated();
}

/*
 * A node whose last mapper exits outlives its items by a moment, until the page
 * is freed; without a pass, nobody would come by to drop it.
 */
static bool may_tidy(void)
{
	return READ_ONCE(ksm_stats.nodes) > READ_ONCE(ksm_stats.shared);
}

/* Sweep a slice, outside of any pass */
static void tidy(void)
{
	static struct ksm_sweep_pos idle_sweep;	/* S */

	if (ksm_sweep(&idle_sweep, SLICE_NODES))
		memset(&idle_sweep, 0, sizeof(idle_sweep));
}

static bool has_work(void)
{
	return may_scan() || ksm_registry_has_dead() || kthread_should_stop();
}

static bool reap(void)
{
	bool freed;

	ksm_scan_lock();
	freed = ksm_reap(SLICE_DEAD);
	ksm_scan_unlock();
	return freed;
}

static bool rest_is_cut(unsigned int msecs)
{
	return msecs != READ_ONCE(ksm_knobs.sleep_millisecs) || !may_scan() ||
	       READ_ONCE(started);
}

/* Between two batches.  The rest may be long: mms that exit are not to wait. */
static void rest_a_while(void)
{
	unsigned int msecs = READ_ONCE(ksm_knobs.sleep_millisecs);
	unsigned long end = jiffies + msecs_to_jiffies(msecs);
	long left;

	while ((left = end - jiffies) > 0 && !rest_is_cut(msecs)) {
		wait_event_freezable_timeout(rest_wait, rest_is_cut(msecs) ||
					     ksm_registry_has_dead(), left);
		if (!ksm_registry_has_dead())
			continue;
		try_to_freeze();
		/* All that is left is locked?  Not again at once. */
		if (!reap())
			schedule_timeout_interruptible(msecs_to_jiffies(REAP_MSECS));
		cond_resched();
	}
	cond_resched();
}

/*
 * Whoever started ksmd just now gets a batch, whether it had no reason for one
 * or was about to rest after one.
 */
static void rest(bool worked, bool reaped)
{
	/* Asked once: it may become true at any moment */
	if (may_scan()) {
		if (worked)
			rest_a_while();
	} else if (ksm_registry_has_dead()) {
		if (!reaped)
			schedule_timeout_interruptible(msecs_to_jiffies(REAP_MSECS));
		cond_resched();
	} else if (may_tidy()) {
		wait_event_freezable_timeout(work_wait, has_work(),
					     msecs_to_jiffies(IDLE_MSECS));
	} else {
		wait_event_freezable(work_wait, has_work() || may_tidy());
	}
}

static int ksmd(void *unused)
{
	set_freezable();
	set_user_nice(current, 5);

	while (!kthread_should_stop()) {
		bool worked, reaped;

		/* So that suspend need not wait for hot-remove */
		wait_event_freezable(pause_wait, !READ_ONCE(paused));
		ksm_scan_lock();
		WRITE_ONCE(started, false);
		reaped = ksm_reap(SLICE_DEAD);
		worked = may_scan();
		if (worked)
			do_batch();
		else if (may_tidy())
			tidy();
		ksm_scan_unlock();
		try_to_freeze();
		rest(worked, reaped);
	}
	return 0;
}

/**
 * ksm_wake - there may be work for ksmd
 *
 * Context: any.
 */
void ksm_wake(void)
{
	wake_up_interruptible(&work_wait);
	wake_up_interruptible(&rest_wait);
}

/**
 * ksm_wake_sleeper - sleep_millisecs has changed: begin the rest anew
 *
 * Context: any.
 */
void ksm_wake_sleeper(void)
{
	wake_up_interruptible(&rest_wait);
}

/* ------------------------------------------------------------------ */
/* Settings that need more than a store                                */
/* ------------------------------------------------------------------ */

/**
 * ksm_settings_lock - keep other writers of settings out
 *
 * Context: process.
 * Return: 0 or -EINTR.
 */
int ksm_settings_lock(void)
{
	return mutex_lock_killable(&settings_mutex);
}

/**
 * ksm_settings_unlock - let other writers of settings in
 *
 * Context: whoever called ksm_settings_lock().
 */
void ksm_settings_unlock(void)
{
	mutex_unlock(&settings_mutex);
}

/* The writer is the first to go if its unmerging takes the last memory */
static int unmerge(void)
{
	int err;

	set_current_oom_origin();
	err = ksm_unmerge_all();
	clear_current_oom_origin();
	ksm_count_reset_passes();
	ksm_registry_leave(KSM_CURSOR_SCAN);
	ksm_registry_rewind(KSM_CURSOR_SCAN, /* ahead = */ false);
	phase = PASS_BEGIN;
	return err;
}

/**
 * ksm_set_run - start, stop, or take everything apart
 * @run: one of enum ksm_run
 *
 * If taking apart fails, ksmd is left stopped.
 *
 * Context: process, settings lock; sleeps.
 * Return: 0, or an error of ksm_unmerge_all().
 */
int ksm_set_run(unsigned int run)
{
	int err = 0;

	ksm_scan_lock();
	if (run != ksm_knobs.run) {
		WRITE_ONCE(ksm_knobs.run, run);
		WRITE_ONCE(started, run == KSM_RUN_MERGE);
		if (run == KSM_RUN_UNMERGE)
			err = unmerge();
		if (err)
			WRITE_ONCE(ksm_knobs.run, KSM_RUN_STOP);
	}
	ksm_scan_unlock();
	ksm_wake();
	return err;
}

/**
 * ksm_set_merge_across_nodes - one tree for all nodes, or one for each
 * @across: one for all
 *
 * Context: process, settings lock; sleeps.
 * Return: 0; -EBUSY while pages are shared.
 */
int ksm_set_merge_across_nodes(bool across)
{
	int err = 0;

	ksm_scan_lock();
	if (across != ksm_knobs.merge_across_nodes) {
		err = ksm_forget_nodes();
		if (!err) {
			ksm_candidates_drop();
			ksm_filter_renew();
			WRITE_ONCE(ksm_knobs.merge_across_nodes, across);
		}
	}
	ksm_scan_unlock();
	return err;
}

/**
 * ksm_set_max_page_sharing - how often a shared page may be listed
 * @most: so often
 *
 * Context: process, settings lock; sleeps.
 * Return: 0; -EBUSY while pages are shared.
 */
int ksm_set_max_page_sharing(unsigned int most)
{
	int err = 0;

	ksm_scan_lock();
	if (most != ksm_knobs.max_page_sharing) {
		err = ksm_forget_nodes();
		if (!err)
			WRITE_ONCE(ksm_knobs.max_page_sharing, most);
	}
	ksm_scan_unlock();
	return err;
}

static int __init ksm_init(void)
{
	struct task_struct *thread;
	int err;

	ksm_digest_init();
	err = ksm_record_init() ?: ksm_stable_tree_init() ?:
	      ksm_unstable_tree_init() ?: ksm_registry_init() ?:
	      ksm_hotplug_init();
	if (err)
		goto out;
	thread = kthread_run(ksmd, NULL, "ksmd");
	if (IS_ERR(thread)) {
		err = PTR_ERR(thread);
		goto out;
	}
	err = ksm_sysfs_init();
	if (err)
		kthread_stop(thread);
out:
	if (err)
		pr_err("ksm: not started, error %d\n", err);
	return err;
}
subsys_initcall(ksm_init);
