// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of what an exited mm leaves: to children that ksmd has not visited yet,
 * and to nobody.
 */
#include <linux/mman.h>
#include <linux/pagemap.h>
#include "../../internal.h"
#include "helpers.h"

#define FILL	0x3c

/* A process whose pages are all merged into one */
static struct mm_struct *merged_mm(struct kunit *test, unsigned long pages,
				   unsigned long *addr)
{
	struct mm_struct *mm = ksm_kunit_mm(test);

	*addr = ksm_kunit_map(test, mm, pages);
	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, *addr, pages, FILL));
	ksm_kunit_offer(test, mm, *addr, pages);
	ksm_kunit_passes(test, 2);
	KUNIT_ASSERT_EQ(test, mm->ksm_merging_pages, pages);
	return mm;
}

/* The scan mutex is held all the time: or ksmd, woken by the exit, would do it */
static void exit_and_reap(struct kunit *test, struct mm_struct *mm)
{
	ksm_scan_lock();
	ksm_kunit_mm_exit(test, mm);
	KUNIT_EXPECT_TRUE(test, ksm_registry_has_dead());
	KUNIT_EXPECT_TRUE(test, ksm_reap(1));
	ksm_kunit_check(test);
	ksm_scan_unlock();
}

/* The child has them all now, and what it has is right */
static void expect_heir(struct kunit *test, struct mm_struct *child,
			unsigned long addr, unsigned long pages)
{
	KUNIT_EXPECT_EQ(test, child->ksm_merging_pages, pages);
	KUNIT_EXPECT_EQ(test, child->ksm_rmap_items, pages);
	KUNIT_EXPECT_FALSE(test, ksm_registry_has_dead());
	/* A visit finds nothing to do */
	ksm_kunit_passes(test, 1);
	KUNIT_EXPECT_EQ(test, child->ksm_merging_pages, pages);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(child, addr, pages, FILL));
}

static void expect_end(struct kunit *test)
{
	ksm_scan_lock();
	KUNIT_EXPECT_EQ(test, ksm_unmerge_all(), 0);
	ksm_kunit_check(test);
	ksm_scan_unlock();
	ksm_kunit_expect_nothing(test);
}

static void passes_to_a_child(struct kunit *test)
{
	struct mm_struct *parent, *child;
	unsigned long addr;

	parent = merged_mm(test, 3, &addr);
	child = ksm_kunit_fork(test, parent, addr, 3);
	exit_and_reap(test, parent);
	ksm_kunit_expect_pages(test, 1, 2, 0, 0);
	expect_heir(test, child, addr, 3);
	expect_end(test);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(child, addr, 3, FILL));
}

/* What the child was known for before its pages were merged is forgotten */
static void records_are_replaced(struct kunit *test)
{
	struct mm_struct *parent, *child;
	struct ksm_unstable_pos pos;
	struct ksm_rmap_item *item;
	struct ksm_block *block;
	struct ksm_mm *owner;
	struct page *page;
	unsigned long addr;
	int nid;

	parent = merged_mm(test, 3, &addr);
	child = ksm_kunit_fork(test, parent, addr, 3);
	page = ksm_kunit_page(test, NUMA_NO_NODE, 0x66);
	ksm_scan_lock();
	nid = ksm_tree_nid(page_to_pfn(page));
	owner = ksm_registry_visit(child);
	block = ksm_block_reserve(owner, addr & KSM_BLOCK_MASK,
				  BIT_ULL(ksm_block_index(addr)), GFP_KERNEL);
	KUNIT_EXPECT_NOT_NULL(test, block);
	KUNIT_EXPECT_NULL(test, ksm_unstable_first(&pos, nid, 1234));
	if (block)
		ksm_twin_settle(block, ksm_block_index(addr), 0, false,
				page_to_pfn(page), 1234, &pos);
	block = ksm_block_reserve(owner,
				  (addr + PAGE_SIZE) & KSM_BLOCK_MASK,
				  BIT_ULL(ksm_block_index(addr + PAGE_SIZE)),
				  GFP_KERNEL);
	KUNIT_EXPECT_NOT_NULL(test, block);
	item = ksm_item_alloc(owner, addr + PAGE_SIZE, GFP_KERNEL);
	KUNIT_EXPECT_NOT_NULL(test, item);
	if (block && item) {
		ksm_record_set_at(owner, addr + PAGE_SIZE,
				  ksm_rec_page(KSM_VOLATILE, 0, false, page, 5));
		KUNIT_EXPECT_NULL(test, ksm_unstable_first(&pos, nid, 5));
		ksm_twin_list(item, &pos, nid, page_to_pfn(page), false, 0, 5);
	}
	ksm_kunit_check(test);
	ksm_scan_unlock();
	KUNIT_EXPECT_EQ(test, ksm_stats.unshared, 2);

	exit_and_reap(test, parent);
	ksm_kunit_expect_pages(test, 1, 2, 0, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.filtered, 0);
	expect_heir(test, child, addr, 3);
	expect_end(test);
}

/* ksmd has been there, so it needs nothing: the next one does */
static void listed_child_is_passed_over(struct kunit *test)
{
	struct mm_struct *parent, *listed, *child;
	unsigned long addr;

	parent = merged_mm(test, 2, &addr);
	listed = ksm_kunit_fork(test, parent, addr, 2);
	ksm_kunit_passes(test, 1);
	ksm_kunit_expect_pages(test, 1, 3, 0, 0);
	child = ksm_kunit_fork(test, parent, addr, 2);
	exit_and_reap(test, parent);
	ksm_kunit_expect_pages(test, 1, 3, 0, 0);
	KUNIT_EXPECT_EQ(test, listed->ksm_merging_pages, 2);
	expect_heir(test, child, addr, 2);
	expect_end(test);
}

static void passes_on_a_second_time(struct kunit *test)
{
	struct mm_struct *parent, *child, *other;
	unsigned long addr;

	parent = merged_mm(test, 2, &addr);
	child = ksm_kunit_fork(test, parent, addr, 2);
	other = ksm_kunit_fork(test, parent, addr, 2);
	exit_and_reap(test, parent);
	KUNIT_EXPECT_EQ(test, child->ksm_merging_pages, 2);
	KUNIT_EXPECT_EQ(test, other->ksm_merging_pages, 0);
	exit_and_reap(test, child);
	ksm_kunit_expect_pages(test, 1, 1, 0, 0);
	expect_heir(test, other, addr, 2);
	expect_end(test);
}

/* A child that has taken a copy inherits nothing */
static void only_who_maps_it_inherits(struct kunit *test)
{
	struct mm_struct *parent, *child;
	unsigned long addr;

	parent = merged_mm(test, 2, &addr);
	child = ksm_kunit_fork(test, parent, addr, 2);
	KUNIT_EXPECT_EQ(test, 0, ksm_kunit_fill(child, addr, 1, 0x11));
	exit_and_reap(test, parent);
	ksm_kunit_expect_pages(test, 1, 0, 0, 0);
	KUNIT_EXPECT_EQ(test, child->ksm_merging_pages, 1);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(child, addr, 1, 0x11));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(child, addr + PAGE_SIZE, 1,
						FILL));
	expect_end(test);
}

/* Without memory for the child's record the item waits, with the dead */
static void without_memory_it_waits(struct kunit *test)
{
	struct mm_struct *parent, *child, *twin;
	unsigned long addr, at;

	ksm_kunit_needs_fail_alloc(test);
	parent = merged_mm(test, 2, &at);
	addr = at + PAGE_SIZE;
	twin = ksm_kunit_mm(test);
	ksm_kunit_map_at(test, twin, addr, 1);
	ksm_kunit_advise(test, parent, at, 1, MADV_DONTNEED);
	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(twin, addr, 1, FILL));
	ksm_kunit_offer(test, twin, addr, 1);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 1, 0, 0);
	child = ksm_kunit_fork(test, parent, addr, 1);
	ksm_scan_lock();
	ksm_kunit_mm_exit(test, parent);
	ksm_kunit_fail_alloc(1);
	KUNIT_EXPECT_FALSE(test, ksm_reap(1));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_end_fail_alloc());
	ksm_kunit_check(test);
	ksm_kunit_expect_pages(test, 1, 1, 0, 0);
	KUNIT_EXPECT_TRUE(test, ksm_registry_has_dead());
	KUNIT_EXPECT_EQ(test, child->ksm_merging_pages, 0);

	KUNIT_EXPECT_TRUE(test, ksm_reap(1));
	ksm_kunit_check(test);
	ksm_scan_unlock();
	ksm_kunit_expect_pages(test, 1, 1, 0, 0);
	expect_heir(test, child, addr, 1);
	expect_end(test);
}

/* With run=2 under way, nobody is to get what was taken apart */
static void nothing_passes_while_unmerging(struct kunit *test)
{
	struct mm_struct *parent, *child;
	unsigned long addr;

	parent = merged_mm(test, 2, &addr);
	child = ksm_kunit_fork(test, parent, addr, 2);
	ksm_knobs.run = KSM_RUN_UNMERGE;
	exit_and_reap(test, parent);
	ksm_knobs.run = KSM_RUN_STOP;
	KUNIT_EXPECT_EQ(test, child->ksm_merging_pages, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.items, 0);
	expect_end(test);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(child, addr, 2, FILL));
}

/* Many records at the beginning that cannot go, and some behind them that can */
static void locked_page_holds_up_nobody(struct kunit *test)
{
	const unsigned long many = 640, few = 64;
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = ksm_kunit_map(test, mm, many + few);
	struct page *page;
	int i;

	KUNIT_ASSERT_EQ(test, 0, ksm_set_max_page_sharing(2 * many));
	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr, many, FILL));
	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr + many * PAGE_SIZE,
						few, 0x77));
	ksm_kunit_offer(test, mm, addr, many + few);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 2, many + few - 2, 0, 0);
	page = ksm_kunit_get_page(mm, addr);
	KUNIT_ASSERT_NOT_NULL(test, page);

	lock_page(page);
	ksm_scan_lock();
	ksm_kunit_mm_exit(test, mm);
	for (i = 0; i < 4; i++)
		ksm_reap(1);
	ksm_kunit_check(test);
	ksm_kunit_expect_pages(test, 1, many - 1, 0, 0);
	KUNIT_EXPECT_TRUE(test, ksm_registry_has_dead());
	unlock_page(page);
	put_page(page);
	for (i = 0; i < 4; i++)
		ksm_reap(1);
	ksm_kunit_check(test);
	ksm_scan_unlock();
	KUNIT_EXPECT_FALSE(test, ksm_registry_has_dead());
	ksm_kunit_expect_pages(test, 0, 0, 0, 0);
	expect_end(test);
}

static struct kunit_case reap_cases[] = {
	KUNIT_CASE(passes_to_a_child),
	KUNIT_CASE(records_are_replaced),
	KUNIT_CASE(listed_child_is_passed_over),
	KUNIT_CASE(passes_on_a_second_time),
	KUNIT_CASE(only_who_maps_it_inherits),
	KUNIT_CASE(without_memory_it_waits),
	KUNIT_CASE(nothing_passes_while_unmerging),
	KUNIT_CASE(locked_page_holds_up_nobody),
	{}
};

static struct kunit_suite reap_suite = {
	.name = "ksm_reap",
	.init = ksm_kunit_init_knobs,
	.test_cases = reap_cases,
};

kunit_test_suite(reap_suite);
