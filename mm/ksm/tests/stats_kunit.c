// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the counters (stats.c).  They count for real meanwhile, so each
 * test puts back what it found.
 */
#include "helpers.h"

static struct ksm_stats begin(void)
{
	struct ksm_stats before;

	ksm_scan_lock();
	before = ksm_stats;
	memset(&ksm_stats, 0, sizeof(ksm_stats));
	return before;
}

static void end(const struct ksm_stats *before)
{
	ksm_stats = *before;
	ksm_scan_unlock();
}

/* Every step from one state to another, and what it makes of two counters */
static void state_changes(struct kunit *test)
{
	static const enum ksm_state states[] = {
		KSM_NEW, KSM_VOLATILE, KSM_SETTLED, KSM_CANDIDATE, KSM_MERGED,
	};
	static const bool unshared[] = { false, false, true, true, false };
	struct ksm_stats before = begin();
	unsigned int from, to;

	for (from = 0; from < ARRAY_SIZE(states); from++) {
		for (to = 0; to < ARRAY_SIZE(states); to++) {
			ksm_stats.records = 10;
			ksm_stats.unshared = 10;
			ksm_count_state(states[from], states[to]);
			KUNIT_EXPECT_EQ(test, ksm_stats.records,
					10 + !!to - !!from);
			KUNIT_EXPECT_EQ(test, ksm_stats.unshared,
					10 + unshared[to] - unshared[from]);
		}
	}
	end(&before);
}

/* The first item on a node makes it shared, all others are sharing */
static void listed_items(struct kunit *test)
{
	struct ksm_mm *owner = ksm_kunit_owner(test);
	struct mm_struct *mm = owner->slot.mm;
	struct ksm_stats before = begin();
	unsigned int i;

	for (i = 0; i < 5; i++) {
		ksm_count_listed(owner, i, 1);
		KUNIT_EXPECT_EQ(test, ksm_stats.shared, 1);
		KUNIT_EXPECT_EQ(test, ksm_stats.sharing, i);
		KUNIT_EXPECT_EQ(test, mm->ksm_merging_pages, i + 1);
	}
	while (i--) {
		ksm_count_listed(owner, i + 1, -1);
		KUNIT_EXPECT_EQ(test, ksm_stats.shared, i > 0);
		KUNIT_EXPECT_EQ(test, ksm_stats.sharing, i ? i - 1 : 0);
		KUNIT_EXPECT_EQ(test, mm->ksm_merging_pages, i);
	}
	end(&before);
}

static void objects_and_their_bytes(struct kunit *test)
{
	struct ksm_mm *owner = ksm_kunit_owner(test);
	struct ksm_stats before = begin();
	const long block = 64, item = sizeof(struct ksm_rmap_item);
	const long node = sizeof(struct ksm_stable_node);
	const long chain = sizeof(struct ksm_chain);

	ksm_count_block(owner, block);
	ksm_count_item(owner, 1);
	ksm_count_item(owner, 1);
	KUNIT_EXPECT_EQ(test, ksm_stats.items, 2);
	KUNIT_EXPECT_EQ(test, owner->bytes, block + 2 * item);
	KUNIT_EXPECT_EQ(test, owner->slot.mm->ksm_rmap_items, 2);

	ksm_count_node(1);
	ksm_count_node(1);
	ksm_count_chain(1);
	ksm_count_dup(1);
	ksm_count_dup(1);
	KUNIT_EXPECT_EQ(test, ksm_stats.nodes, 2);
	KUNIT_EXPECT_EQ(test, ksm_stats.chains, 1);
	KUNIT_EXPECT_EQ(test, ksm_stats.dups, 2);
	KUNIT_EXPECT_EQ(test, ksm_stats.bytes,
			block + 2 * item + 2 * node + chain);

	ksm_count_dup(-1);
	ksm_count_dup(-1);
	ksm_count_chain(-1);
	ksm_count_node(-1);
	ksm_count_node(-1);
	ksm_count_item(owner, -1);
	ksm_count_item(owner, -1);
	ksm_count_block(owner, -block);
	KUNIT_EXPECT_EQ(test, ksm_stats.items, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.nodes, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.chains, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.dups, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.bytes, 0);
	KUNIT_EXPECT_EQ(test, owner->bytes, 0);
	end(&before);
}

static void work_and_passes(struct kunit *test)
{
	struct ksm_stats before = begin();

	ksm_count_work(5, 7);
	ksm_count_work(0, 1);
	KUNIT_EXPECT_EQ(test, ksm_stats.scanned, 5);
	KUNIT_EXPECT_EQ(test, ksm_stats.skipped, 8);
	ksm_count_pass();
	ksm_count_pass();
	KUNIT_EXPECT_EQ(test, ksm_stats.full_scans, 2);
	ksm_count_reset_passes();
	KUNIT_EXPECT_EQ(test, ksm_stats.full_scans, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.scanned, 5);
	end(&before);
}

/* Read while others count, the parts may exceed the whole (B124) */
static void volatile_never_negative(struct kunit *test)
{
	struct ksm_stats before = begin();

	ksm_stats.records = 10;
	ksm_stats.unshared = 3;
	ksm_stats.shared = 1;
	ksm_stats.sharing = 2;
	KUNIT_EXPECT_EQ(test, ksm_stat_volatile(), 4);
	ksm_stats.records = 6;
	KUNIT_EXPECT_EQ(test, ksm_stat_volatile(), 0);
	ksm_stats.records = 5;
	KUNIT_EXPECT_EQ(test, ksm_stat_volatile(), 0);
	ksm_stats.records = 0;
	ksm_stats.sharing = LONG_MAX / 2;
	KUNIT_EXPECT_EQ(test, ksm_stat_volatile(), 0);
	end(&before);
}

/* B84, B123: zero pages count as a saving, all bookkeeping as a cost */
static void profit(struct kunit *test)
{
	long zero_pages = atomic_long_read(&ksm_zero_pages);
	struct ksm_stats before = begin();

	atomic_long_set(&ksm_zero_pages, 0);
	KUNIT_EXPECT_EQ(test, ksm_stat_profit(), 0);
	ksm_stats.bytes = 1;
	KUNIT_EXPECT_EQ(test, ksm_stat_profit(), -1);
	ksm_stats.shared = 1000;	/* each is one page, as before */
	ksm_stats.sharing = 3;
	KUNIT_EXPECT_EQ(test, ksm_stat_profit(), 3 * (long)PAGE_SIZE - 1);
	atomic_long_set(&ksm_zero_pages, 2);
	KUNIT_EXPECT_EQ(test, ksm_stat_profit(), 5 * (long)PAGE_SIZE - 1);
	ksm_stats.sharing = 0;
	ksm_stats.bytes = 10 * PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, ksm_stat_profit(), -8 * (long)PAGE_SIZE);
	atomic_long_set(&ksm_zero_pages, zero_pages);
	end(&before);
}

static void profit_of_a_process(struct kunit *test)
{
	struct ksm_mm *owner = ksm_kunit_owner(test);
	struct mm_struct *mm = owner->slot.mm;

	KUNIT_EXPECT_EQ(test, ksm_process_profit(mm), 0);
	mm->ksm_merging_pages = 3;
	KUNIT_EXPECT_EQ(test, ksm_process_profit(mm), 3 * (long)PAGE_SIZE);
	atomic_long_set(&mm->ksm_zero_pages, 4);
	KUNIT_EXPECT_EQ(test, ksm_process_profit(mm), 7 * (long)PAGE_SIZE);
}

static struct kunit_case stats_cases[] = {
	KUNIT_CASE(state_changes),
	KUNIT_CASE(listed_items),
	KUNIT_CASE(objects_and_their_bytes),
	KUNIT_CASE(work_and_passes),
	KUNIT_CASE(volatile_never_negative),
	KUNIT_CASE(profit),
	KUNIT_CASE(profit_of_a_process),
	{}
};

static struct kunit_suite stats_suite = {
	.name = "ksm_stats",
	.init = ksm_kunit_init,
	.test_cases = stats_cases,
};

kunit_test_suite(stats_suite);
