// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of stable hits: what becomes of a page that equals a shared one, but
 * cannot merge with it just now, and of those that are set aside.
 */
#include <linux/mman.h>
#include <linux/pagemap.h>
#include "../../internal.h"
#include "helpers.h"

#define FILL	0x5a

/*
 * Two pages are merged, and a third with the same contents was taken for
 * unique: it was settled before the others had them, say.
 */
struct late {
	struct mm_struct	*mm;
	unsigned long		addr;	/* of the third page */
	struct page		*page;	/* it, with a reference */
	struct page		*merged;
	u64			digest;
	struct ksm_mm		*owner;
	struct ksm_stable_node	*node;
};

static void late_begin(struct kunit *test, struct late *late)
{
	unsigned long addr;

	late->mm = ksm_kunit_mm(test);
	addr = ksm_kunit_map(test, late->mm, 3);
	late->addr = addr + 2 * PAGE_SIZE;
	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(late->mm, addr, 2, FILL));
	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(late->mm, late->addr, 1, 0x77));
	ksm_kunit_offer(test, late->mm, addr, 3);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 1, 1, 0);
	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(late->mm, late->addr, 1, FILL));
	late->page = ksm_kunit_get_page(late->mm, late->addr);
	late->merged = ksm_kunit_get_page(late->mm, addr);
	KUNIT_ASSERT_NOT_NULL(test, late->page);
	KUNIT_ASSERT_NOT_NULL(test, late->merged);
	late->digest = ksm_digest_page(late->page);
}

/* Under the scan mutex: the page hits */
static void late_hits(struct kunit *test, struct late *late)
{
	struct vm_area_struct *vma;

	ksm_registry_rewind(KSM_CURSOR_SCAN, /* ahead = */ false);
	late->owner = ksm_registry_next(KSM_CURSOR_SCAN);
	KUNIT_EXPECT_NOT_NULL(test, late->owner);
	if (!late->owner || !ksm_mm_begin(late->owner))
		return;
	ksm_record_set_at(late->owner, late->addr,
			  ksm_rec_page(KSM_SETTLED, 3, true, late->page,
				       late->digest));
	vma = ksm_vma_at(late->mm, late->addr);
	KUNIT_EXPECT_NOT_NULL(test, vma);
	KUNIT_EXPECT_EQ(test, KSM_FOUND,
			ksm_hit_find_room(late->owner, vma, late->page,
					  late->digest, &late->node));
	get_page(late->page);
	ksm_hit_push(late->owner, vma, late->addr, late->page, late->digest,
		     late->node);
	ksm_hit_flush(late->owner, vma);
	ksm_mm_end(late->owner);
}

static enum ksm_state late_state(struct late *late)
{
	return late->owner ? ksm_rec_state(ksm_record_at(late->owner,
							 late->addr)) : KSM_NEW;
}

static void late_end(struct kunit *test, struct late *late)
{
	/* Its PTE, and the reference that is ours */
	KUNIT_EXPECT_EQ(test, page_ref_count(late->page), 2);
	put_page(late->page);
	put_page(late->merged);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 2, 0, 0);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(late->mm, late->addr, 1, FILL));
}

/* It does not wait until settled pages are read again, some 32 passes later */
static void locked_hit_is_tried_again(struct kunit *test)
{
	struct late late = {};

	late_begin(test, &late);
	ksm_scan_lock();
	lock_page(late.merged);
	late_hits(test, &late);
	unlock_page(late.merged);
	KUNIT_EXPECT_EQ(test, late_state(&late), KSM_VOLATILE);
	ksm_kunit_check(test);
	ksm_scan_unlock();
	KUNIT_EXPECT_FALSE(test, ksm_kunit_merged(late.mm, late.addr));
	late_end(test, &late);
}

static void hit_without_memory_is_tried_again(struct kunit *test)
{
	struct late late = {};

	ksm_kunit_needs_fail_alloc(test);
	late_begin(test, &late);
	ksm_scan_lock();
	ksm_kunit_fail_alloc(1);
	late_hits(test, &late);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_end_fail_alloc());
	KUNIT_EXPECT_EQ(test, late_state(&late), KSM_VOLATILE);
	KUNIT_EXPECT_FALSE(test, PageLocked(late.merged));
	ksm_kunit_check(test);
	ksm_scan_unlock();
	KUNIT_EXPECT_FALSE(test, ksm_kunit_merged(late.mm, late.addr));
	late_end(test, &late);
}

/* A reference of somebody's keeps it from merging, and asks for a drain */
static void held_hit_is_tried_again(struct kunit *test)
{
	struct late late = {};

	late_begin(test, &late);
	ksm_scan_lock();
	while (ksm_drain_due())
		;
	late_hits(test, &late);	/* with a reference of our own */
	KUNIT_EXPECT_EQ(test, late_state(&late), KSM_VOLATILE);
	KUNIT_EXPECT_FALSE(test, PageLocked(late.merged));
	ksm_kunit_check(test);
	schedule_timeout_uninterruptible(HZ + HZ / 10);
	KUNIT_EXPECT_TRUE(test, ksm_drain_due());
	ksm_scan_unlock();
	KUNIT_EXPECT_FALSE(test, ksm_kunit_merged(late.mm, late.addr));
	late_end(test, &late);
}

static void drain_is_due_once(struct kunit *test)
{
	unsigned int due = 0, i;
	unsigned long since;
	bool early;

	ksm_scan_lock();
	ksm_drain_wanted(/* sure = */ true);
	KUNIT_EXPECT_TRUE(test, ksm_drain_due());
	since = jiffies;
	KUNIT_EXPECT_FALSE(test, ksm_drain_due());
	/* A guess: not again at once, but it is not forgotten, and made once */
	ksm_drain_wanted(/* sure = */ false);
	early = ksm_drain_due();
	KUNIT_EXPECT_TRUE(test, !early || time_after(jiffies, since + HZ));
	due += early;
	for (i = 0; i < 30; i++) {
		due += ksm_drain_due();
		schedule_timeout_uninterruptible(HZ / 10);
	}
	KUNIT_EXPECT_EQ(test, due, 1);
	ksm_scan_unlock();
}

static void aside_keeps_the_order(struct kunit *test)
{
	struct rnd_state rnd;
	unsigned int i, at;
	u64 seen = 0;

	ksm_kunit_seed(test, &rnd);
	ksm_scan_lock();
	KUNIT_EXPECT_FALSE(test, ksm_pair_pending());
	for (i = 0; i < KSM_BLOCK_PAGES; i++) {
		struct ksm_climber *climber;

		do {
			at = ksm_kunit_below(&rnd, KSM_BLOCK_PAGES);
		} while (seen & BIT_ULL(at));
		seen |= BIT_ULL(at);
		climber = ksm_aside_add(at * PAGE_SIZE, at + 1000);
		KUNIT_EXPECT_EQ(test, climber->addr, at * PAGE_SIZE);
		KUNIT_EXPECT_NULL(test, climber->page);
		KUNIT_EXPECT_FALSE(test, climber->hit);
	}
	KUNIT_EXPECT_TRUE(test, ksm_pair_pending());
	KUNIT_EXPECT_EQ(test, ksm_aside.nr, KSM_BLOCK_PAGES);
	for (i = 0; i < ksm_aside.nr; i++) {
		KUNIT_EXPECT_EQ(test, ksm_aside.page[i].addr, i * PAGE_SIZE);
		KUNIT_EXPECT_EQ(test, ksm_aside.page[i].digest, i + 1000);
	}
	ksm_aside.nr = 0;
	ksm_scan_unlock();
}

/* A stale node of many items goes in parts: a mmap_lock is held meanwhile */
static void stale_node_goes_in_parts(struct kunit *test)
{
	const unsigned long pages = KSM_STALE_ITEMS + 100;
	struct page *page = ksm_kunit_page(test, NUMA_NO_NODE, FILL);
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = ksm_kunit_map(test, mm, pages);
	struct ksm_stable_node *node;
	u64 digest;

	KUNIT_ASSERT_EQ(test, 0, ksm_set_max_page_sharing(2 * pages));
	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr, pages, FILL));
	ksm_kunit_offer(test, mm, addr, pages);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, pages - 1, 0, 0);
	ksm_kunit_advise(test, mm, addr, pages, MADV_DONTNEED);

	digest = ksm_digest_page(page);
	lru_add_drain_all();
	ksm_scan_lock();
	KUNIT_EXPECT_EQ(test, KSM_RETRY,
			ksm_hit_find(page, digest, ksm_node_compare, &node));
	KUNIT_EXPECT_EQ(test, ksm_stats.shared + ksm_stats.sharing,
			pages - KSM_STALE_ITEMS);
	ksm_kunit_check(test);
	KUNIT_EXPECT_EQ(test, KSM_ABSENT,
			ksm_hit_find(page, digest, ksm_node_compare, &node));
	KUNIT_EXPECT_EQ(test, ksm_stats.nodes, 0);
	ksm_kunit_check(test);
	ksm_scan_unlock();
	ksm_kunit_expect_pages(test, 0, 0, 0, 0);
}

static struct kunit_case hit_cases[] = {
	KUNIT_CASE(locked_hit_is_tried_again),
	KUNIT_CASE(hit_without_memory_is_tried_again),
	KUNIT_CASE_SLOW(held_hit_is_tried_again),
	KUNIT_CASE_SLOW(drain_is_due_once),
	KUNIT_CASE(aside_keeps_the_order),
	KUNIT_CASE(stale_node_goes_in_parts),
	{}
};

static struct kunit_suite hit_suite = {
	.name = "ksm_hit",
	.init = ksm_kunit_init_knobs,
	.test_cases = hit_cases,
};

kunit_test_suite(hit_suite);
