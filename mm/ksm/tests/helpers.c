// SPDX-License-Identifier: GPL-2.0
/*
 * What the tests of KSM share, but for user memory (user_mm.c).
 */
#include <kunit/resource.h>
#include <linux/sched.h>
#include "helpers.h"

/**
 * ksm_kunit_settle - drop what exited mms have left
 *
 * ksmd does so, too, but in its own time.
 */
void ksm_kunit_settle(void)
{
	struct ksm_sweep_pos sweep = {};
	unsigned int prune;

	ksm_scan_lock();
	while (ksm_registry_has_dead())
		ksm_reap(1);
	prune = ksm_knobs.prune_millisecs;
	WRITE_ONCE(ksm_knobs.prune_millisecs, 0);
	while (!ksm_sweep(&sweep, UINT_MAX))
		;
	WRITE_ONCE(ksm_knobs.prune_millisecs, prune);
	/* A test may have ended in the middle of a pass */
	ksm_registry_rewind(KSM_CURSOR_SCAN, /* ahead = */ false);
	ksm_scan_unlock();
}

/**
 * ksm_kunit_init - let a test go on only if nobody uses KSM
 * @test: the test
 *
 * Return: 0, for a suite's init function.
 */
int ksm_kunit_init(struct kunit *test)
{
	ksm_kunit_settle();
	if (READ_ONCE(ksm_knobs.run) != KSM_RUN_STOP ||
	    ksm_registry_populated() || READ_ONCE(ksm_stats.nodes))
		kunit_skip(test, "KSM is in use");
	return 0;
}

static void restore_knobs_action(void *arg)
{
	ksm_scan_lock();
	ksm_knobs = *(struct ksm_knobs *)arg;
	ksm_scan_unlock();
}

/**
 * ksm_kunit_init_knobs - the same, for tests that change knobs
 * @test: the test; its end restores them, when its mms have exited
 *
 * Return: 0 or -ENOMEM, for a suite's init function.
 */
int ksm_kunit_init_knobs(struct kunit *test)
{
	struct ksm_knobs *knobs;

	ksm_kunit_init(test);
	knobs = kunit_kmalloc(test, sizeof(*knobs), GFP_KERNEL);
	if (!knobs)
		return -ENOMEM;
	*knobs = ksm_knobs;
	return kunit_add_action_or_reset(test, restore_knobs_action, knobs);
}

/**
 * ksm_kunit_failed - has an expectation failed already?
 * @test: the test
 *
 * To end a long random sequence at its first failure.
 *
 * Return: true if one has.
 */
bool ksm_kunit_failed(struct kunit *test)
{
	return READ_ONCE(test->status) == KUNIT_FAILURE;
}

/**
 * ksm_kunit_seed - begin a random sequence, always the same
 * @test: the test
 * @rnd: its state
 */
void ksm_kunit_seed(struct kunit *test, struct rnd_state *rnd)
{
	kunit_info(test, "random sequence of seed %llu\n", KSM_KUNIT_SEED);
	prandom_seed_state(rnd, KSM_KUNIT_SEED);
}

/**
 * ksm_kunit_below - a random number
 * @rnd: where from
 * @limit: more than it can be
 *
 * Return: the number.
 */
u32 ksm_kunit_below(struct rnd_state *rnd, u32 limit)
{
	return prandom_u32_state(rnd) % limit;
}

/**
 * ksm_kunit_u64 - 64 random bits
 * @rnd: where from
 *
 * Return: the bits.
 */
u64 ksm_kunit_u64(struct rnd_state *rnd)
{
	u64 high = prandom_u32_state(rnd);

	return high << 32 | prandom_u32_state(rnd);
}

/**
 * ksm_kunit_owner - an entry that is in no registry, with an mm to count in
 * @test: the test
 *
 * For tests of the index layer, which never looks into the mm.
 *
 * Return: the entry.
 */
struct ksm_mm *ksm_kunit_owner(struct kunit *test)
{
	struct ksm_mm *owner = kunit_kzalloc(test, sizeof(*owner), GFP_KERNEL);
	struct mm_struct *mm;

	KUNIT_ASSERT_NOT_NULL(test, owner);
	mm = kunit_kzalloc(test, sizeof(*mm), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, mm);
	owner->slot.mm = mm;
	owner->blocks = RB_ROOT;
	INIT_LIST_HEAD(&owner->groups);
	return owner;
}

static void free_page_action(void *arg)
{
	struct page *page = arg;

	/* A test may have made it look like a merged page */
	page->mapping = NULL;
	__free_page(page);
}

/**
 * ksm_kunit_page - a page that nobody maps, for the length of a test
 * @test: the test
 * @nid: from which node, or NUMA_NO_NODE
 * @fill: the byte it is full of
 *
 * Return: the page.
 */
struct page *ksm_kunit_page(struct kunit *test, int nid, u8 fill)
{
	struct page *page;

	page = alloc_pages_node(nid, GFP_KERNEL | __GFP_THISNODE, 0);
	KUNIT_ASSERT_NOT_NULL(test, page);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test,
							   free_page_action,
							   page));
	memset(page_address(page), fill, PAGE_SIZE);
	return page;
}

/**
 * ksm_kunit_check - recount everything, if CONFIG_KSM_DEBUG can
 * @test: the test
 *
 * A difference is a warning in the log; it also fails the test.  The scan
 * mutex is held.
 */
void ksm_kunit_check(struct kunit *test)
{
	unsigned long tainted = test_taint(TAINT_WARN);

	ksm_check_all();
	KUNIT_EXPECT_TRUE_MSG(test, tainted || !test_taint(TAINT_WARN),
			      "the bookkeeping is wrong");
}

/**
 * ksm_kunit_check_owner - compare the counters with the records of one entry
 * @test: the test
 * @owner: the only entry with records
 *
 * The scan mutex is held.
 */
void ksm_kunit_check_owner(struct kunit *test, struct ksm_mm *owner)
{
#ifdef CONFIG_KSM_DEBUG
	struct ksm_stats sum = {};

	ksm_check_owner(owner, &sum);
	KUNIT_EXPECT_EQ(test, sum.records, ksm_stats.records);
	KUNIT_EXPECT_EQ(test, sum.unshared, ksm_stats.unshared);
	KUNIT_EXPECT_EQ(test, sum.items, ksm_stats.items);
	KUNIT_EXPECT_EQ(test, sum.bytes, owner->bytes);
#endif
}

#if defined(CONFIG_FAULT_INJECTION) && defined(CONFIG_FAILSLAB)
#define CAN_FAIL_ALLOC	1
#else
#define CAN_FAIL_ALLOC	0
#endif

/**
 * ksm_kunit_needs_fail_alloc - skip a test in a kernel that always has memory
 * @test: the test
 */
void ksm_kunit_needs_fail_alloc(struct kunit *test)
{
	if (!CAN_FAIL_ALLOC)
		kunit_skip(test, "needs CONFIG_FAILSLAB");
}

/**
 * ksm_kunit_fail_alloc - let an allocation of this thread fail
 * @nth: which; only those count that may not wait for memory
 */
void ksm_kunit_fail_alloc(unsigned int nth)
{
#if CAN_FAIL_ALLOC
	current->fail_nth = nth;
#endif
}

/**
 * ksm_kunit_end_fail_alloc - let no allocation fail any more
 *
 * Return: true if one has.
 */
bool ksm_kunit_end_fail_alloc(void)
{
	bool failed = false;

#if CAN_FAIL_ALLOC
	failed = !current->fail_nth;
	current->fail_nth = 0;
#endif
	return failed;
}
