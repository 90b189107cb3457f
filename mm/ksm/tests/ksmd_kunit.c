// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of ksmd itself (ksm.c): it makes the passes here, the test waits.
 */
#include <linux/delay.h>
#include <linux/mman.h>
#include "helpers.h"

#define PAGES		6
#define LONG_REST	(3600 * 1000)

/* Wait until so many passes are complete; never for ever */
static bool wait_for_pass(unsigned long count)
{
	unsigned int tries;

	for (tries = 0; tries < 3000; tries++) {
		if (READ_ONCE(ksm_stats.full_scans) >= count)
			return true;
		usleep_range(5000, 6000);
	}
	return false;
}

/* Have it rest for an hour after each batch, and a batch be a whole pass */
static void rest_long(void)
{
	WRITE_ONCE(ksm_knobs.pages_to_scan, UINT_MAX);
	WRITE_ONCE(ksm_knobs.sleep_millisecs, LONG_REST);
	ksm_wake_sleeper();
}

/*
 * Have ksmd make one more pass: a new sleep_millisecs ends its rest (B115).
 * It may not be resting yet when that changes, hence the second try.
 */
static bool one_more_pass(void)
{
	unsigned long count = READ_ONCE(ksm_stats.full_scans) + 1;
	unsigned int tries, wait;

	msleep(20);
	for (tries = 0; tries < 10; tries++) {
		WRITE_ONCE(ksm_knobs.sleep_millisecs,
			   ksm_knobs.sleep_millisecs ^ 1);
		ksm_wake_sleeper();
		for (wait = 0; wait < 200; wait++) {
			if (READ_ONCE(ksm_stats.full_scans) >= count)
				return true;
			usleep_range(5000, 6000);
		}
	}
	return false;
}

static void stop(void)
{
	ksm_set_run(KSM_RUN_STOP);
	WRITE_ONCE(ksm_knobs.sleep_millisecs, 20);
	ksm_wake_sleeper();
}

static unsigned long offer_twins(struct kunit *test, struct mm_struct *mm,
				 unsigned long pages, u8 byte)
{
	unsigned long addr = ksm_kunit_map(test, mm, pages);

	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr, pages, byte));
	ksm_kunit_offer(test, mm, addr, pages);
	return addr;
}

/* What was offered before it began is merged when the second pass ends */
static void two_passes_are_enough(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long passes;

	offer_twins(test, mm, PAGES, 0x1a);
	rest_long();
	passes = ksm_stats.full_scans;
	ksm_set_run(KSM_RUN_MERGE);
	KUNIT_EXPECT_TRUE(test, wait_for_pass(passes + 1));
	KUNIT_EXPECT_EQ(test, ksm_stats.full_scans, passes + 1);
	ksm_kunit_expect_pages(test, 0, 0, 0, PAGES);
	KUNIT_EXPECT_TRUE(test, one_more_pass());
	KUNIT_EXPECT_EQ(test, ksm_stats.full_scans, passes + 2);
	ksm_kunit_expect_pages(test, 1, PAGES - 1, 0, 0);
	stop();
}

/* Also what is offered while ksmd rests between two passes, by a new mm */
static void newcomers_need_no_third(struct kunit *test)
{
	struct mm_struct *first = ksm_kunit_mm(test), *second;
	unsigned long passes;

	offer_twins(test, first, PAGES, 0x1b);
	rest_long();
	passes = ksm_stats.full_scans;
	ksm_set_run(KSM_RUN_MERGE);
	KUNIT_EXPECT_TRUE(test, wait_for_pass(passes + 1));
	KUNIT_EXPECT_TRUE(test, one_more_pass());

	second = ksm_kunit_mm(test);
	offer_twins(test, second, PAGES, 0x1c);
	KUNIT_EXPECT_TRUE(test, one_more_pass());
	KUNIT_EXPECT_TRUE(test, one_more_pass());
	KUNIT_EXPECT_EQ(test, ksm_stats.full_scans, passes + 4);
	ksm_kunit_expect_pages(test, 2, 2 * (PAGES - 1), 0, 0);
	stop();
}

/* The records of a hole go, and those next to it stay */
static void hole_between_merged_pages(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = ksm_kunit_map(test, mm, 4 * PMD_SIZE / PAGE_SIZE);
	unsigned long passes, i;

	addr = ALIGN(addr, PMD_SIZE);
	for (i = 0; i < 3; i++)
		KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr + i * PMD_SIZE,
							PAGES, 0x1d));
	ksm_kunit_offer(test, mm, addr, 3 * PMD_SIZE / PAGE_SIZE);
	rest_long();
	passes = ksm_stats.full_scans;
	ksm_set_run(KSM_RUN_MERGE);
	KUNIT_EXPECT_TRUE(test, wait_for_pass(passes + 1));
	KUNIT_EXPECT_TRUE(test, one_more_pass());
	ksm_kunit_expect_pages(test, 1, 3 * PAGES - 1, 0, 0);

	ksm_kunit_unmap(mm, addr + PMD_SIZE, PMD_SIZE / PAGE_SIZE);
	KUNIT_EXPECT_TRUE(test, one_more_pass());
	ksm_kunit_expect_pages(test, 1, 2 * PAGES - 1, 0, 0);
	stop();
}

/* run=2 takes everything apart, run=1 puts it together again, for all mms */
static void run_through_the_settings(struct kunit *test)
{
	struct mm_struct *mm[3];
	unsigned long addr[3];
	unsigned int i, round;

	for (i = 0; i < 3; i++) {
		mm[i] = ksm_kunit_mm(test);
		addr[i] = offer_twins(test, mm[i], PAGES, 0x1e);
	}
	WRITE_ONCE(ksm_knobs.sleep_millisecs, 0);
	for (round = 0; round < 3; round++) {
		unsigned long passes = ksm_stats.full_scans;

		KUNIT_EXPECT_EQ(test, ksm_set_run(KSM_RUN_MERGE), 0);
		/* One may be under way, and a page may wait for a drain */
		KUNIT_EXPECT_TRUE(test, wait_for_pass(passes + 4));
		KUNIT_EXPECT_EQ(test, ksm_set_run(KSM_RUN_STOP), 0);
		ksm_kunit_expect_pages(test, 1, 3 * PAGES - 1, 0, 0);

		KUNIT_EXPECT_EQ(test, ksm_set_run(KSM_RUN_UNMERGE), 0);
		ksm_kunit_expect_nothing(test);
		KUNIT_EXPECT_EQ(test, ksm_stats.full_scans, 0);
		for (i = 0; i < 3; i++) {
			KUNIT_EXPECT_FALSE(test, ksm_kunit_merged(mm[i],
								  addr[i]));
			KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm[i], addr[i],
								PAGES, 0x1e));
			KUNIT_EXPECT_EQ(test, mm[i]->ksm_merging_pages, 0);
		}
	}
	stop();
}

/* B106, B70: the writer of run=2 gets a signal, and may try again */
static void unmerge_is_interrupted(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	int err;

	offer_twins(test, mm, PAGES, 0x1f);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, PAGES - 1, 0, 0);
	set_tsk_thread_flag(current, TIF_SIGPENDING);
	err = ksm_set_run(KSM_RUN_UNMERGE);
	clear_tsk_thread_flag(current, TIF_SIGPENDING);
	KUNIT_EXPECT_EQ(test, err, -ERESTARTSYS);
	KUNIT_EXPECT_EQ(test, ksm_knobs.run, KSM_RUN_STOP);
	ksm_scan_lock();
	ksm_kunit_check(test);
	ksm_scan_unlock();

	KUNIT_EXPECT_EQ(test, ksm_set_run(KSM_RUN_UNMERGE), 0);
	ksm_kunit_expect_nothing(test);
	stop();
}

/* B03, B06, B20: they come and go under a hot ksmd, and it never misses one */
static void quick_exits(struct kunit *test)
{
	unsigned long passes;
	unsigned int i;

	WRITE_ONCE(ksm_knobs.sleep_millisecs, 0);
	ksm_set_run(KSM_RUN_MERGE);
	for (i = 0; i < 60; i++) {
		struct mm_struct *mm = ksm_kunit_mm(test);
		unsigned long addr = offer_twins(test, mm, 2, i);

		if (i % 3 == 0)
			usleep_range(1, 500);
		if (i % 5 == 0)
			ksm_kunit_unmap(mm, addr, 1);
		ksm_kunit_mm_exit(test, mm);
	}
	/* Nobody is left; the next one must wake it */
	passes = READ_ONCE(ksm_stats.full_scans);
	offer_twins(test, ksm_kunit_mm(test), 2, 0x77);
	KUNIT_EXPECT_TRUE(test, wait_for_pass(passes + 4));
	stop();
	ksm_scan_lock();
	while (ksm_registry_has_dead())
		ksm_reap(1);
	ksm_kunit_check(test);
	ksm_scan_unlock();
	ksm_kunit_expect_pages(test, 1, 1, 0, 0);
}

static bool registered(struct mm_struct *mm)
{
	return test_bit(MMF_VM_MERGEABLE, &mm->flags);
}

/* B13: an mm that offers nothing any more is let go, and may come back */
static void idle_mm_is_retired(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = offer_twins(test, mm, PAGES, 0x20);
	unsigned long passes;
	unsigned int tries;

	WRITE_ONCE(ksm_knobs.sleep_millisecs, 0);
	passes = ksm_stats.full_scans;
	ksm_set_run(KSM_RUN_MERGE);
	KUNIT_EXPECT_TRUE(test, wait_for_pass(passes + 3));
	ksm_kunit_advise(test, mm, addr, PAGES, MADV_UNMERGEABLE);
	/* Nothing is registered then, so passes end, too */
	for (tries = 0; tries < 1000 && registered(mm); tries++)
		usleep_range(1000, 2000);
	KUNIT_EXPECT_FALSE(test, registered(mm));
	KUNIT_EXPECT_FALSE(test, ksm_registry_populated());

	passes = READ_ONCE(ksm_stats.full_scans);
	ksm_kunit_offer(test, mm, addr, PAGES);
	KUNIT_EXPECT_TRUE(test, registered(mm));
	KUNIT_EXPECT_TRUE(test, wait_for_pass(passes + 4));
	stop();
	ksm_kunit_expect_pages(test, 1, PAGES - 1, 0, 0);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm, addr, PAGES, 0x20));
}

static struct kunit_case ksmd_cases[] = {
	KUNIT_CASE(two_passes_are_enough),
	KUNIT_CASE(newcomers_need_no_third),
	KUNIT_CASE(hole_between_merged_pages),
	KUNIT_CASE(run_through_the_settings),
	KUNIT_CASE(unmerge_is_interrupted),
	KUNIT_CASE(quick_exits),
	KUNIT_CASE(idle_mm_is_retired),
	{}
};

static struct kunit_suite ksmd_suite = {
	.name = "ksm_ksmd",
	.init = ksm_kunit_init_knobs,
	.test_cases = ksmd_cases,
};

kunit_test_suite(ksmd_suite);
