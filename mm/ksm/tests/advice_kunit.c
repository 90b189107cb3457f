// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of how memory is offered and taken back (advice.c).
 */
#include <linux/mman.h>
#include <linux/sched/coredump.h>
#include <linux/sched/signal.h>
#include "helpers.h"

#define PAGES	4

static bool marked(struct mm_struct *mm, unsigned long addr)
{
	struct vm_area_struct *vma;
	bool is_marked;

	mmap_read_lock(mm);
	vma = vma_lookup(mm, addr);
	is_marked = vma && vma->vm_flags & VM_MERGEABLE;
	mmap_read_unlock(mm);
	return is_marked;
}

static bool registered(struct mm_struct *mm)
{
	return test_bit(MMF_VM_MERGEABLE, &mm->flags);
}

static bool merge_any(struct mm_struct *mm)
{
	return test_bit(MMF_VM_MERGE_ANY, &mm->flags);
}

static int locked(struct mm_struct *mm, int (*call)(struct mm_struct *mm))
{
	int err;

	mmap_write_lock(mm);
	err = call(mm);
	mmap_write_unlock(mm);
	return err;
}

/* The same with a signal pending, which nobody will ever deliver */
static int interrupted(struct mm_struct *mm, int (*call)(struct mm_struct *mm))
{
	int err;

	mmap_write_lock(mm);
	set_tsk_thread_flag(current, TIF_SIGPENDING);
	err = call(mm);
	clear_tsk_thread_flag(current, TIF_SIGPENDING);
	mmap_write_unlock(mm);
	return err;
}

static unsigned long map_filled(struct kunit *test, struct mm_struct *mm)
{
	unsigned long addr = ksm_kunit_map(test, mm, PAGES);

	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr, PAGES, 0x3c));
	return addr;
}

/* ------------------------------------------------------------------ */
/* madvise()                                                           */
/* ------------------------------------------------------------------ */

static void madvise_marks_and_registers(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = map_filled(test, mm);

	KUNIT_EXPECT_FALSE(test, registered(mm));
	ksm_kunit_advise(test, mm, addr, PAGES, MADV_UNMERGEABLE);
	KUNIT_EXPECT_FALSE(test, registered(mm));

	ksm_kunit_advise(test, mm, addr, 2, MADV_MERGEABLE);
	KUNIT_EXPECT_TRUE(test, registered(mm));
	KUNIT_EXPECT_TRUE(test, marked(mm, addr));
	KUNIT_EXPECT_FALSE(test, marked(mm, addr + 2 * PAGE_SIZE));
	KUNIT_EXPECT_FALSE(test, merge_any(mm));
	ksm_kunit_advise(test, mm, addr, PAGES, MADV_MERGEABLE);
	KUNIT_EXPECT_TRUE(test, marked(mm, addr));
	KUNIT_EXPECT_TRUE(test, marked(mm, addr + 3 * PAGE_SIZE));

	ksm_kunit_advise(test, mm, addr, PAGES, MADV_UNMERGEABLE);
	KUNIT_EXPECT_FALSE(test, marked(mm, addr));
}

/* B99: of all 64 flags one is changed, wherever the others are */
static void madvise_keeps_other_flags(struct kunit *test)
{
	struct vm_area_struct *vma = kunit_kzalloc(test, sizeof(*vma),
						   GFP_KERNEL);
	const unsigned long others = ~(unsigned long)VM_MERGEABLE;
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long flags;

	KUNIT_ASSERT_NOT_NULL(test, vma);
	vma->vm_mm = mm;
	vm_flags_init(vma, VM_READ | VM_WRITE | VM_MERGEABLE);
	flags = ~0UL;
	KUNIT_EXPECT_EQ(test, ksm_madvise(vma, 0, PAGE_SIZE, MADV_UNMERGEABLE,
					  &flags), 0);
	KUNIT_EXPECT_EQ(test, flags, others);
	KUNIT_EXPECT_EQ(test, ksm_madvise(vma, 0, PAGE_SIZE, MADV_UNMERGEABLE,
					  &flags), 0);
	KUNIT_EXPECT_EQ(test, flags, others);

	/* The area itself is for the caller to change */
	vm_flags_init(vma, VM_READ | VM_WRITE);
	KUNIT_EXPECT_EQ(test, ksm_madvise(vma, 0, PAGE_SIZE, MADV_MERGEABLE,
					  &flags), 0);
	KUNIT_EXPECT_EQ(test, flags, ~0UL);
	KUNIT_EXPECT_EQ(test, vma->vm_flags, VM_READ | VM_WRITE);

	/* Advice about something else is not for us */
	KUNIT_EXPECT_EQ(test, ksm_madvise(vma, 0, PAGE_SIZE, MADV_DONTNEED,
					  &flags), 0);
	KUNIT_EXPECT_EQ(test, flags, ~0UL);
}

/* B104: what cannot be merged is refused without an error */
static void madvise_refuses_what_does_not_suit(struct kunit *test)
{
	static const vm_flags_t unfit[] = {
		VM_SHARED, VM_MAYSHARE, VM_IO, VM_PFNMAP, VM_MIXEDMAP,
		VM_DONTEXPAND, VM_HUGETLB, VM_DROPPABLE, VM_SHADOW_STACK,
	};
	const vm_flags_t plain = VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE |
				 VM_ACCOUNT | VM_LOCKED | VM_GROWSDOWN |
				 VM_HUGEPAGE | VM_DONTCOPY;
	struct vm_area_struct *vma = kunit_kzalloc(test, sizeof(*vma),
						   GFP_KERNEL);
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, vma);
	vma->vm_mm = mm;
	for (i = 0; i < ARRAY_SIZE(unfit); i++) {
		unsigned long flags = plain | unfit[i];

		/* Some do not exist in each configuration */
		if (!unfit[i])
			continue;
		vm_flags_init(vma, flags);
		KUNIT_EXPECT_FALSE_MSG(test, ksm_vma_suits(vma), "flag %lx",
				       (unsigned long)unfit[i]);
		KUNIT_EXPECT_EQ(test, ksm_madvise(vma, 0, PAGE_SIZE,
						  MADV_MERGEABLE, &flags), 0);
		KUNIT_EXPECT_EQ(test, flags, plain | unfit[i]);
	}
	KUNIT_EXPECT_FALSE(test, registered(mm));
	vm_flags_init(vma, plain);
	KUNIT_EXPECT_TRUE(test, ksm_vma_suits(vma));
}

/* B106: a signal is no lack of memory, and what is merged stays marked */
static void madvise_is_interrupted(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = map_filled(test, mm);
	int err;

	ksm_kunit_offer(test, mm, addr, PAGES);
	ksm_kunit_passes(test, 2);
	KUNIT_ASSERT_TRUE(test, ksm_kunit_merged(mm, addr));

	set_tsk_thread_flag(current, TIF_SIGPENDING);
	err = do_madvise(mm, addr, PAGES * PAGE_SIZE, MADV_UNMERGEABLE);
	clear_tsk_thread_flag(current, TIF_SIGPENDING);
	KUNIT_EXPECT_EQ(test, err, -ERESTARTSYS);
	KUNIT_EXPECT_TRUE(test, marked(mm, addr));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_merged(mm, addr));

	ksm_kunit_advise(test, mm, addr, PAGES, MADV_UNMERGEABLE);
	KUNIT_EXPECT_FALSE(test, marked(mm, addr));
	KUNIT_EXPECT_FALSE(test, ksm_kunit_merged(mm, addr));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm, addr, PAGES, 0x3c));
}

/* ------------------------------------------------------------------ */
/* prctl(), and s390's ksm_disable()                                   */
/* ------------------------------------------------------------------ */

/* B108, B109: all areas, those made later as well, and all of them back */
static void merge_any_and_back(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long before = map_filled(test, mm);
	unsigned long after;

	KUNIT_EXPECT_EQ(test, locked(mm, ksm_disable_merge_any), 0);
	KUNIT_EXPECT_EQ(test, locked(mm, ksm_enable_merge_any), 0);
	KUNIT_EXPECT_EQ(test, locked(mm, ksm_enable_merge_any), 0);
	KUNIT_EXPECT_TRUE(test, merge_any(mm));
	KUNIT_EXPECT_TRUE(test, registered(mm));
	after = map_filled(test, mm);
	KUNIT_EXPECT_TRUE(test, marked(mm, before));
	KUNIT_EXPECT_TRUE(test, marked(mm, after));

	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 2 * PAGES - 1, 0, 0);
	KUNIT_EXPECT_EQ(test, locked(mm, ksm_disable_merge_any), 0);
	KUNIT_EXPECT_FALSE(test, merge_any(mm));
	KUNIT_EXPECT_FALSE(test, marked(mm, before));
	KUNIT_EXPECT_FALSE(test, marked(mm, after));
	KUNIT_EXPECT_FALSE(test, ksm_kunit_merged(mm, before));
	KUNIT_EXPECT_FALSE(test, ksm_kunit_merged(mm, after));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm, before, PAGES, 0x3c));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm, after, PAGES, 0x3c));
	ksm_kunit_passes(test, 1);
	ksm_kunit_expect_pages(test, 0, 0, 0, 0);
}

/* B106: interrupted half-way, everything is offered as before */
static void merge_any_is_interrupted(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = map_filled(test, mm);
	unsigned long unused = ksm_kunit_map(test, mm, PAGES);

	KUNIT_EXPECT_EQ(test, locked(mm, ksm_enable_merge_any), 0);
	ksm_kunit_passes(test, 2);
	KUNIT_ASSERT_TRUE(test, ksm_kunit_merged(mm, addr));
	KUNIT_EXPECT_EQ(test, interrupted(mm, ksm_disable_merge_any),
			-ERESTARTSYS);
	KUNIT_EXPECT_TRUE(test, merge_any(mm));
	KUNIT_EXPECT_TRUE(test, marked(mm, addr));
	KUNIT_EXPECT_TRUE(test, marked(mm, unused));
	KUNIT_EXPECT_EQ(test, locked(mm, ksm_disable_merge_any), 0);
	KUNIT_EXPECT_FALSE(test, marked(mm, unused));
}

/* B105: however KSM got on it, it gets off it, or says that it could not */
static void disable_areas(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = map_filled(test, mm);

	KUNIT_EXPECT_EQ(test, locked(mm, ksm_disable), 0);
	ksm_kunit_offer(test, mm, addr, PAGES);
	ksm_kunit_passes(test, 2);
	KUNIT_ASSERT_TRUE(test, ksm_kunit_merged(mm, addr));
	KUNIT_EXPECT_EQ(test, interrupted(mm, ksm_disable), -ERESTARTSYS);
	KUNIT_EXPECT_TRUE(test, marked(mm, addr));
	KUNIT_EXPECT_EQ(test, locked(mm, ksm_disable), 0);
	KUNIT_EXPECT_FALSE(test, marked(mm, addr));
	KUNIT_EXPECT_FALSE(test, ksm_kunit_merged(mm, addr));
}

static void disable_merge_any(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = map_filled(test, mm);

	KUNIT_EXPECT_EQ(test, locked(mm, ksm_enable_merge_any), 0);
	ksm_kunit_passes(test, 2);
	KUNIT_ASSERT_TRUE(test, ksm_kunit_merged(mm, addr));
	KUNIT_EXPECT_EQ(test, interrupted(mm, ksm_disable), -ERESTARTSYS);
	KUNIT_EXPECT_TRUE(test, merge_any(mm));
	KUNIT_EXPECT_TRUE(test, marked(mm, addr));
	KUNIT_EXPECT_EQ(test, locked(mm, ksm_disable), 0);
	KUNIT_EXPECT_FALSE(test, merge_any(mm));
	KUNIT_EXPECT_FALSE(test, marked(mm, addr));
	KUNIT_EXPECT_FALSE(test, ksm_kunit_merged(mm, addr));
}

/* As ksmd does with an mm in which it finds nothing to merge */
static void retire(struct kunit *test, struct mm_struct *mm)
{
	struct ksm_mm *owner;

	ksm_scan_lock();
	ksm_registry_rewind(KSM_CURSOR_SCAN, false);
	owner = ksm_registry_next(KSM_CURSOR_SCAN);
	KUNIT_EXPECT_TRUE(test, owner && owner->slot.mm == mm);
	if (owner && ksm_mm_begin(owner)) {
		ksm_registry_retire(owner);
		ksm_mm_end(owner);
	}
	ksm_scan_unlock();
}

/* B12, B13: exec leaves the flag and no areas; with the first one, it counts */
static void retired_merge_any_comes_back(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr;

	KUNIT_EXPECT_EQ(test, locked(mm, ksm_enable_merge_any), 0);
	retire(test, mm);
	KUNIT_EXPECT_FALSE(test, registered(mm));
	KUNIT_EXPECT_TRUE(test, merge_any(mm));
	addr = map_filled(test, mm);
	KUNIT_EXPECT_TRUE(test, registered(mm));
	KUNIT_EXPECT_TRUE(test, marked(mm, addr));
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, PAGES - 1, 0, 0);

	/* The other way: it has areas, and offers them again */
	KUNIT_EXPECT_EQ(test, locked(mm, ksm_disable_merge_any), 0);
	retire(test, mm);
	KUNIT_EXPECT_EQ(test, locked(mm, ksm_enable_merge_any), 0);
	KUNIT_EXPECT_TRUE(test, registered(mm));
	KUNIT_EXPECT_TRUE(test, marked(mm, addr));
}

/* B108: a new area grows its neighbour instead of standing next to it */
static void new_area_joins_its_neighbour(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr;
	int areas, i;

	KUNIT_EXPECT_EQ(test, locked(mm, ksm_enable_merge_any), 0);
	addr = ksm_kunit_map(test, mm, 1);
	areas = mm->map_count;
	for (i = 1; i <= 10; i++)
		ksm_kunit_map_at(test, mm, addr + i * PAGE_SIZE, 1);
	KUNIT_EXPECT_EQ(test, mm->map_count, areas);
	KUNIT_EXPECT_TRUE(test, marked(mm, addr + 10 * PAGE_SIZE));
}

/* A child whose registration found no memory has marked areas: it asks again */
static void marked_areas_are_registered(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = map_filled(test, mm);

	mmap_write_lock(mm);
	vm_flags_set(vma_lookup(mm, addr), VM_MERGEABLE);
	mmap_write_unlock(mm);
	KUNIT_EXPECT_FALSE(test, registered(mm));
	ksm_kunit_advise(test, mm, addr, PAGES, MADV_MERGEABLE);
	KUNIT_EXPECT_TRUE(test, registered(mm));

	mm = ksm_kunit_mm(test);
	set_bit(MMF_VM_MERGE_ANY, &mm->flags);
	KUNIT_EXPECT_EQ(test, locked(mm, ksm_enable_merge_any), 0);
	KUNIT_EXPECT_TRUE(test, registered(mm));

	/* Or a new area does, even if it only makes another one longer */
	mm = ksm_kunit_mm(test);
	set_bit(MMF_VM_MERGE_ANY, &mm->flags);
	mmap_write_lock(mm);
	KUNIT_EXPECT_EQ(test, ksm_vma_flags(mm, VM_IO), VM_IO);
	KUNIT_EXPECT_FALSE(test, registered(mm));
	KUNIT_EXPECT_EQ(test, ksm_vma_flags(mm, VM_WRITE),
			VM_WRITE | VM_MERGEABLE);
	mmap_write_unlock(mm);
	KUNIT_EXPECT_TRUE(test, registered(mm));
}

static struct kunit_case advice_cases[] = {
	KUNIT_CASE(madvise_marks_and_registers),
	KUNIT_CASE(madvise_keeps_other_flags),
	KUNIT_CASE(madvise_refuses_what_does_not_suit),
	KUNIT_CASE(madvise_is_interrupted),
	KUNIT_CASE(merge_any_and_back),
	KUNIT_CASE(merge_any_is_interrupted),
	KUNIT_CASE(disable_areas),
	KUNIT_CASE(disable_merge_any),
	KUNIT_CASE(retired_merge_any_comes_back),
	KUNIT_CASE(new_area_joins_its_neighbour),
	KUNIT_CASE(marked_areas_are_registered),
	{}
};

static struct kunit_suite advice_suite = {
	.name = "ksm_advice",
	.init = ksm_kunit_init,
	.test_cases = advice_cases,
};

kunit_test_suite(advice_suite);
