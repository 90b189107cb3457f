// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of how mappings of merged pages get private pages again (unshare.c):
 * which, how many at a time, and what the search for them counts.
 */
#include <linux/mm.h>
#include "helpers.h"

#define PAGES	8
#define FILL	0x3c

/* An area in a mm, some of whose pages are merged with each other */
struct shared_area {
	struct mm_struct	*mm;
	unsigned long		addr;
	unsigned long		end;
};

static struct shared_area area_begin(struct kunit *test, unsigned long pages)
{
	struct shared_area area = { .mm = ksm_kunit_mm(test) };

	area.addr = ksm_kunit_map(test, area.mm, pages);
	area.end = area.addr + pages * PAGE_SIZE;
	return area;
}

/* Call the function under test; @most as it is when that returns */
static int unshare_some(struct kunit *test, const struct shared_area *area,
			unsigned long *from, unsigned int *most)
{
	struct vm_area_struct *vma;
	int ret = -EFAULT;

	mmap_read_lock(area->mm);
	vma = vma_lookup(area->mm, area->addr);
	KUNIT_EXPECT_NOT_NULL(test, vma);
	if (vma)
		ret = ksm_unshare_some(vma, from, area->end, most);
	mmap_read_unlock(area->mm);
	return ret;
}

static unsigned int nr_merged(const struct shared_area *area)
{
	unsigned long addr = area->addr;
	unsigned int i, nr = 0;

	for (i = 0; i < PAGES; i++, addr += PAGE_SIZE)
		nr += ksm_kunit_merged(area->mm, addr);
	return nr;
}

/* As many as were asked for, from the beginning, until none are left */
static void most_is_kept_to(struct kunit *test)
{
	struct shared_area area = area_begin(test, PAGES);
	unsigned long from = area.addr;
	unsigned int most = 3;

	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(area.mm, area.addr, PAGES,
						FILL));
	ksm_kunit_offer(test, area.mm, area.addr, PAGES);
	ksm_kunit_passes(test, 2);
	KUNIT_ASSERT_EQ(test, nr_merged(&area), PAGES);

	KUNIT_EXPECT_EQ(test, unshare_some(test, &area, &from, &most), 1);
	KUNIT_EXPECT_EQ(test, most, 0);
	KUNIT_EXPECT_EQ(test, nr_merged(&area), PAGES - 3);
	KUNIT_EXPECT_FALSE(test, ksm_kunit_merged(area.mm, area.addr +
						  2 * PAGE_SIZE));
	most = UINT_MAX;
	KUNIT_EXPECT_EQ(test, unshare_some(test, &area, &from, &most), 0);
	KUNIT_EXPECT_EQ(test, nr_merged(&area), 0);
	KUNIT_EXPECT_EQ(test, from, area.end);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(area.mm, area.addr, PAGES,
						FILL));
}

/* What is not shared stays as it is, be it never so equal */
static void private_pages_stay(struct kunit *test)
{
	struct shared_area area = area_begin(test, PAGES);
	unsigned long from = area.addr, pfn[PAGES];
	unsigned int most = UINT_MAX, i;

	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(area.mm, area.addr, PAGES,
						FILL));
	for (i = 0; i < PAGES; i++)
		pfn[i] = ksm_kunit_pfn(area.mm, area.addr + i * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, unshare_some(test, &area, &from, &most), 0);
	for (i = 0; i < PAGES; i++)
		KUNIT_EXPECT_EQ(test, pfn[i], ksm_kunit_pfn(area.mm, area.addr +
							    i * PAGE_SIZE));
}

/*
 * A search that finds nothing counts as well: an area with a single page
 * table, walked for nothing, is not for free.  Or a process with many such
 * areas would have its mmap_lock held for as long as it takes to see them all.
 */
static void a_small_search_counts(struct kunit *test)
{
	struct shared_area area = area_begin(test, PAGES);
	unsigned long from = area.addr;
	unsigned int most = 2;

	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(area.mm, area.addr, 1, FILL));
	KUNIT_EXPECT_EQ(test, unshare_some(test, &area, &from, &most), 0);
	KUNIT_EXPECT_EQ(test, from, area.end);
	KUNIT_EXPECT_EQ(test, most, 1);
}

/* Nor are tables; with enough of them, the search ends before the area does */
static void tables_count(struct kunit *test)
{
	const unsigned long tables = 80;
	struct shared_area area = area_begin(test, tables * PTRS_PER_PTE);
	unsigned long from = area.addr, i;
	unsigned int most = 4;

	for (i = 0; i < tables; i++)
		KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(area.mm, area.addr +
							i * PMD_SIZE, 1, i));
	KUNIT_EXPECT_EQ(test, unshare_some(test, &area, &from, &most), 1);
	KUNIT_EXPECT_EQ(test, most, 0);
	KUNIT_EXPECT_GT(test, from, area.addr);
	KUNIT_EXPECT_LT(test, from, area.end);
	for (i = 0; i < tables && from < area.end; i++) {
		most = 4;
		unshare_some(test, &area, &from, &most);
	}
	KUNIT_EXPECT_EQ(test, from, area.end);
}

/* Holes are cheap, but not for free either */
static void holes_count(struct kunit *test)
{
	const unsigned long tables = 3 * PTRS_PER_PMD;
	struct shared_area area;
	unsigned int most = 4;
	unsigned long from, i;

	if (PTRS_PER_PMD < 512)
		kunit_skip(test, "page tables without a middle");
	area = area_begin(test, tables * PTRS_PER_PTE);
	/* A page in each upper table, so that the lower are looked for */
	for (i = 0; i < tables; i += PTRS_PER_PMD)
		KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(area.mm, area.addr +
							i * PMD_SIZE, 1, i));
	from = area.addr;
	KUNIT_EXPECT_EQ(test, unshare_some(test, &area, &from, &most), 0);
	/* Three tables, and about 1500 holes of which 256 are as long as a fault */
	KUNIT_EXPECT_EQ(test, most, 0);
}

static void unsuitable_flags(struct kunit *test)
{
	static const vm_flags_t unfit[] = {
		VM_SHARED, VM_MAYSHARE, VM_IO, VM_PFNMAP, VM_MIXEDMAP,
		VM_DONTEXPAND, VM_HUGETLB, VM_DROPPABLE, VM_SHADOW_STACK,
	};
	const vm_flags_t usual = VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE |
				 VM_ACCOUNT | VM_MERGEABLE;
	unsigned int i;

	KUNIT_EXPECT_TRUE(test, ksm_flags_suit(usual));
	KUNIT_EXPECT_TRUE(test, ksm_flags_suit(usual | VM_LOCKED | VM_GROWSDOWN |
					       VM_UFFD_MISSING | VM_HUGEPAGE));
	for (i = 0; i < ARRAY_SIZE(unfit); i++) {
		/* Some are 0 where the architecture has no such thing */
		KUNIT_EXPECT_EQ_MSG(test, ksm_flags_suit(usual | unfit[i]),
				    !unfit[i], "flag %u", i);
	}
}

static struct kunit_case unshare_cases[] = {
	KUNIT_CASE(most_is_kept_to),
	KUNIT_CASE(private_pages_stay),
	KUNIT_CASE(a_small_search_counts),
	KUNIT_CASE(tables_count),
	KUNIT_CASE(holes_count),
	KUNIT_CASE(unsuitable_flags),
	{}
};

static struct kunit_suite unshare_suite = {
	.name = "ksm_unshare",
	.init = ksm_kunit_init_knobs,
	.test_cases = unshare_cases,
};

kunit_test_suite(unshare_suite);
