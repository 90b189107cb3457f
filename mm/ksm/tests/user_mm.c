// SPDX-License-Identifier: GPL-2.0
/*
 * User memory for the tests of KSM, and passes over it on command.
 *
 * lib/kunit/user_alloc.c gives a test one mm, which ends some time after the
 * test does.  Merging takes two, and what an exit leaves behind is to be
 * seen: so these mms are attached only while they are read or written.
 *
 * A pass here does what ksmd does (ksm.c), but in the test's own thread: only
 * there do static stubs and failing allocations work.
 */
#include <kunit/resource.h>
#include <linux/cleanup.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/swap.h>
#include <linux/uaccess.h>
#include <asm/tlbflush.h>
#include "../../internal.h"
#include "helpers.h"

static struct ksm_batch batch;		/* S */
static u8 bytes[PAGE_SIZE];		/* for the one test that runs */

static void mm_exit_action(void *arg)
{
	mmput(arg);
}

/**
 * ksm_kunit_mm - make an empty address space
 * @test: the test; when it ends, so does the mm, if it has not yet
 *
 * Return: the mm, with a reference to mm_users.
 */
struct mm_struct *ksm_kunit_mm(struct kunit *test)
{
	struct mm_struct *mm = mm_alloc();

	KUNIT_ASSERT_NOT_NULL(test, mm);
	mm->task_size = TASK_SIZE;
	arch_pick_mmap_layout(mm, &current->signal->rlim[RLIMIT_STACK]);
#ifdef CONFIG_MEMCG
	/* After a failed assertion it may outlive this thread */
	rcu_assign_pointer(mm->owner, &init_task);
#endif
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, mm_exit_action,
							   mm));
	return mm;
}

/**
 * ksm_kunit_mm_exit - let an mm exit now
 * @test: the test
 * @mm: the mm
 */
void ksm_kunit_mm_exit(struct kunit *test, struct mm_struct *mm)
{
	kunit_release_action(test, mm_exit_action, mm);
}

/* Should the thread die in between, it drops the reference that is taken here */
static void attach(struct mm_struct *mm)
{
	mmget(mm);
	kthread_use_mm(mm);
}

static void detach(struct mm_struct *mm)
{
	kthread_unuse_mm(mm);
	mmput(mm);
}

static unsigned long map(struct kunit *test, struct mm_struct *mm,
			 unsigned long addr, unsigned long len)
{
	unsigned long flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

	if (addr)
		flags |= MAP_FIXED_NOREPLACE;
	attach(mm);
	addr = vm_mmap(NULL, addr, len, PROT_READ | PROT_WRITE, flags, 0);
	detach(mm);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));
	return addr;
}

/**
 * ksm_kunit_map - map private memory, from the begin of a block on
 * @test: the test
 * @mm: where
 * @pages: how much
 *
 * Nothing is mapped next to it, and no huge page fits in unless @pages is
 * large.
 *
 * Return: the address.
 */
unsigned long ksm_kunit_map(struct kunit *test, struct mm_struct *mm,
			    unsigned long pages)
{
	unsigned long len = ALIGN(pages * PAGE_SIZE, KSM_BLOCK_SIZE);
	unsigned long addr = map(test, mm, 0, len + 2 * KSM_BLOCK_SIZE);
	unsigned long first = ALIGN(addr + 1, KSM_BLOCK_SIZE);

	attach(mm);
	vm_munmap(addr, first - addr);
	vm_munmap(first + pages * PAGE_SIZE,
		  addr + len + 2 * KSM_BLOCK_SIZE - first - pages * PAGE_SIZE);
	detach(mm);
	return first;
}

/**
 * ksm_kunit_map_at - map private memory at an address
 * @test: the test
 * @mm: where
 * @addr: the address
 * @pages: how much
 */
void ksm_kunit_map_at(struct kunit *test, struct mm_struct *mm,
		      unsigned long addr, unsigned long pages)
{
	KUNIT_ASSERT_EQ(test, addr, map(test, mm, addr, pages * PAGE_SIZE));
}

/**
 * ksm_kunit_fork - do with an area what fork does
 * @test: the test
 * @parent: the mm that has it, on offer
 * @addr: where it begins
 * @pages: how long it is
 *
 * Return: a new mm, which has the same pages there, on offer as well.
 */
struct mm_struct *ksm_kunit_fork(struct kunit *test, struct mm_struct *parent,
				 unsigned long addr, unsigned long pages)
{
	struct mm_struct *child = ksm_kunit_mm(test);
	struct vm_area_struct *from, *to;

	ksm_kunit_map_at(test, child, addr, pages);
	ksm_kunit_offer(test, child, addr, pages);
	mmap_write_lock(parent);
	mmap_write_lock_nested(child, SINGLE_DEPTH_NESTING);
	from = vma_lookup(parent, addr);
	to = vma_lookup(child, addr);
	KUNIT_EXPECT_NOT_NULL(test, from);
	KUNIT_EXPECT_NOT_NULL(test, to);
	if (from && to) {
		vma_start_write(from);
		vma_start_write(to);
		KUNIT_EXPECT_EQ(test, 0, anon_vma_fork(to, from));
		KUNIT_EXPECT_EQ(test, 0, copy_page_range(to, from));
		flush_tlb_mm(parent);
	}
	mmap_write_unlock(child);
	mmap_write_unlock(parent);
	return child;
}

/**
 * ksm_kunit_unmap - unmap memory
 * @mm: where
 * @addr: from here
 * @pages: how much
 */
void ksm_kunit_unmap(struct mm_struct *mm, unsigned long addr,
		     unsigned long pages)
{
	attach(mm);
	vm_munmap(addr, pages * PAGE_SIZE);
	detach(mm);
}

/**
 * ksm_kunit_advise - madvise() with effect on any mm
 * @test: the test
 * @mm: where
 * @addr: from here
 * @pages: so many pages
 * @advice: what
 */
void ksm_kunit_advise(struct kunit *test, struct mm_struct *mm,
		      unsigned long addr, unsigned long pages, int advice)
{
	KUNIT_ASSERT_EQ(test, 0, do_madvise(mm, addr, pages * PAGE_SIZE,
					    advice));
}

/**
 * ksm_kunit_offer - MADV_MERGEABLE
 * @test: the test
 * @mm: where
 * @addr: from here
 * @pages: so many pages
 */
void ksm_kunit_offer(struct kunit *test, struct mm_struct *mm,
		     unsigned long addr, unsigned long pages)
{
	ksm_kunit_advise(test, mm, addr, pages, MADV_MERGEABLE);
}

/**
 * ksm_kunit_fill - store to whole pages
 * @mm: where
 * @addr: from here
 * @pages: so many pages
 * @byte: what
 *
 * Return: 0 or -EFAULT.
 */
int ksm_kunit_fill(struct mm_struct *mm, unsigned long addr,
		   unsigned long pages, u8 byte)
{
	int err = 0;

	memset(bytes, byte, PAGE_SIZE);
	attach(mm);
	for (; pages && !err; pages--, addr += PAGE_SIZE) {
		if (copy_to_user((void __user *)addr, bytes, PAGE_SIZE))
			err = -EFAULT;
	}
	detach(mm);
	return err;
}

/**
 * ksm_kunit_poke - store one byte
 * @mm: where
 * @addr: and there
 * @byte: what
 *
 * Return: 0 or -EFAULT.
 */
int ksm_kunit_poke(struct mm_struct *mm, unsigned long addr, u8 byte)
{
	int err;

	attach(mm);
	err = put_user(byte, (u8 __user *)addr);
	detach(mm);
	return err;
}

/**
 * ksm_kunit_holds - are pages full of a byte, as their owner sees them?
 * @mm: where
 * @addr: from here
 * @pages: so many pages
 * @byte: which byte
 *
 * Return: true if they are.
 */
bool ksm_kunit_holds(struct mm_struct *mm, unsigned long addr,
		     unsigned long pages, u8 byte)
{
	bool good = true;

	attach(mm);
	for (; pages && good; pages--, addr += PAGE_SIZE)
		good = !copy_from_user(bytes, (void __user *)addr, PAGE_SIZE) &&
		       !memchr_inv(bytes, byte, PAGE_SIZE);
	detach(mm);
	return good;
}

static pte_t read_pte(struct mm_struct *mm, pmd_t *pmd, unsigned long addr)
{
	spinlock_t *ptl; /* of the page table */
	pte_t *pte, val;

	pte = pte_offset_map_lock(mm, pmd, addr, &ptl);
	if (!pte)
		return __pte(0);
	val = ptep_get(pte);
	ksm_pte_unmap_unlock(pte, ptl);
	return val;
}

/**
 * ksm_kunit_pte - what the page table says of an address
 * @mm: where
 * @addr: the address
 *
 * Return: the PTE; an empty one if there is no page table.
 */
pte_t ksm_kunit_pte(struct mm_struct *mm, unsigned long addr)
{
	pte_t val = __pte(0);
	pmd_t *pmd;

	mmap_read_lock(mm);
	pmd = mm_find_pmd(mm, addr);
	if (pmd)
		val = read_pte(mm, pmd, addr);
	mmap_read_unlock(mm);
	return val;
}

/**
 * ksm_kunit_clean - take the dirty bit from a PTE, as reclaim does
 * @mm: where
 * @addr: the address
 *
 * Return: true if the PTE is there, and clean now.
 */
bool ksm_kunit_clean(struct mm_struct *mm, unsigned long addr)
{
	struct page *page = ksm_kunit_get_page(mm, addr);
	struct vm_area_struct *vma;
	spinlock_t *ptl; /* of the page table */
	pte_t *pte;

	if (!page)
		return false;
	/* Somebody must know that it is no copy of what is on disk */
	set_page_dirty(page);
	put_page(page);
	mmap_read_lock(mm);
	vma = vma_lookup(mm, addr);
	pte = pte_offset_map_lock(mm, mm_find_pmd(mm, addr), addr, &ptl);
	if (pte) {
		clear_young_dirty_ptes(vma, addr, pte, 1, CYDP_CLEAR_DIRTY);
		flush_tlb_page(vma, addr);
		ksm_pte_unmap_unlock(pte, ptl);
	}
	mmap_read_unlock(mm);
	return pte && !pte_dirty(ksm_kunit_pte(mm, addr));
}

/**
 * ksm_kunit_pfn - the frame at an address
 * @mm: where
 * @addr: the address
 *
 * Return: its number; 0 if none is mapped, or by a huge page.
 */
unsigned long ksm_kunit_pfn(struct mm_struct *mm, unsigned long addr)
{
	pte_t pte = ksm_kunit_pte(mm, addr);

	return pte_present(pte) ? pte_pfn(pte) : 0;
}

/**
 * ksm_kunit_merged - is the page at an address a merged one?
 * @mm: where
 * @addr: the address
 *
 * Return: true if it is.
 */
bool ksm_kunit_merged(struct mm_struct *mm, unsigned long addr)
{
	unsigned long pfn = ksm_kunit_pfn(mm, addr);

	return pfn && PageKsm(pfn_to_page(pfn));
}

/**
 * ksm_kunit_get_page - take a reference to the page at an address
 * @mm: where
 * @addr: the address
 *
 * Return: the page, or NULL.
 */
struct page *ksm_kunit_get_page(struct mm_struct *mm, unsigned long addr)
{
	struct vm_area_struct *vma;
	struct page *page = NULL;

	mmap_read_lock(mm);
	vma = vma_lookup(mm, addr);
	if (vma)
		page = ksm_scan_page(vma, addr);
	mmap_read_unlock(mm);
	return page;
}

static unsigned int scan_owner(struct ksm_mm *owner)
{
	unsigned int steps = 0;
	unsigned long addr = 0;
	enum ksm_step step;

	do {
		if (!ksm_mm_begin(owner))
			break;
		step = ksm_scan_step(owner, &addr, UINT_MAX, &batch);
		ksm_count_work(hweight64(batch.read), batch.skipped);
		if (step == KSM_STEP_BATCH)
			ksm_climb_batch(&batch);
		ksm_mm_end(owner);
		if (ksm_pair_pending())
			ksm_pair_all(owner);
		if (step == KSM_STEP_HOLE)
			ksm_records_drop(owner, &batch.hole, addr, UINT_MAX,
					 KSM_LOCK_TRY);
		steps++;
	} while (step != KSM_STEP_END);
	ksm_records_drop(owner, &addr, ULONG_MAX, UINT_MAX, KSM_LOCK_TRY);
	return steps;
}

/**
 * ksm_kunit_pass - make one full pass
 *
 * The scan mutex is held.
 *
 * Return: how many steps the walk took.
 */
unsigned int ksm_kunit_pass(void)
{
	struct ksm_sweep_pos sweep = {};
	struct ksm_mm *owner;
	unsigned int steps = 0;

	ksm_scan_pass_begin();
	while (!ksm_sweep(&sweep, UINT_MAX))
		;
	ksm_registry_rewind(KSM_CURSOR_SCAN, /* ahead = */ false);
	while ((owner = ksm_registry_next(KSM_CURSOR_SCAN)))
		steps += scan_owner(owner);
	ksm_count_pass();
	return steps;
}

/**
 * ksm_kunit_passes - drain the LRU batches, reap, make passes, recount
 * @test: the test
 * @count: how many passes
 *
 * Takes the scan mutex.
 */
void ksm_kunit_passes(struct kunit *test, unsigned int count)
{
	while (count--) {
		lru_add_drain_all();
		ksm_scan_lock();
		ksm_reap(UINT_MAX);
		ksm_kunit_pass();
		ksm_kunit_check(test);
		ksm_scan_unlock();
	}
}

/**
 * ksm_kunit_expect_pages - expect pages in each of the four categories
 * @test: the test
 * @shared: merged pages
 * @sharing: further mappings of them
 * @unshared: unchanged but unique pages
 * @volatiles: all others with a record
 */
void ksm_kunit_expect_pages(struct kunit *test, unsigned long shared,
			    unsigned long sharing, unsigned long unshared,
			    long volatiles)
{
	KUNIT_EXPECT_EQ(test, ksm_stats.shared, shared);
	KUNIT_EXPECT_EQ(test, ksm_stats.sharing, sharing);
	KUNIT_EXPECT_EQ(test, ksm_stats.unshared, unshared);
	KUNIT_EXPECT_EQ(test, ksm_stat_volatile(), volatiles);
	KUNIT_EXPECT_EQ(test, ksm_stats.records,
			shared + sharing + unshared + volatiles);
}

/**
 * ksm_kunit_expect_nothing - expect that KSM remembers nothing of anything
 * @test: the test
 *
 * Takes the scan mutex, as ksmd does at the begin of each batch.
 */
void ksm_kunit_expect_nothing(struct kunit *test)
{
	ksm_scan_lock();
	ksm_reap(UINT_MAX);
	ksm_scan_unlock();
	KUNIT_EXPECT_EQ(test, ksm_stats.records, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.unshared, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.shared, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.sharing, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.nodes, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.items, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.chains, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.dups, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.bytes, 0);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&ksm_zero_pages), 0);
}
