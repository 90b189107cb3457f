// SPDX-License-Identifier: GPL-2.0
/*
 * Walking page tables: which pages of an mm must be read?
 *
 * This is rung 0 of the ladder (ksm.c): answer from the PTE and the record,
 * without a look at the page, wherever that can be done.
 *
 * What a PTE's dirty bit is good for.  When a page is about to be read, its
 * PTE is cleaned; a later store of the CPU sets the bit again, so a clean PTE
 * that maps the same frame means that no CPU stored to it since.  Cleaning a
 * PTE needs three things:
 *  - folio_mark_dirty() first: a lazily freed page, or one in the swap cache,
 *    is dropped if neither the PTE nor the page says that it is dirty.
 *  - A TLB flush, under the same hold of the page-table lock: a CPU with a
 *    dirty TLB entry would not set the bit, and reclaim, which trusts a clean
 *    PTE not to be written through, would lose that store.  The invariant is:
 *    a PTE seen clean under its lock has no dirty TLB entry.
 *  - A mapping that is cleaned once for all that it covers: a PMD is not
 *    cleaned here at all.
 *
 * Others write without the dirty bit: DMA into pinned pages, ptrace, guests.
 * An mm with pinned pages or a secondary MMU is therefore not trusted, and in
 * any other a page is read again after at most VISITS_TRUSTED visits; where
 * there is no trust, or no dirty bit set by hardware, after 1, 2, 4, ... up to
 * VISITS_MAX.  To miss a change delays a merge, but never corrupts: merge.c
 * compares all bytes.
 *
 * The page tables of anonymous memory cannot go away under mmap_lock: only
 * exit frees them, which waits for us (registry.c).  A huge PMD may be split,
 * or one appear, at any time: hence the looks under its lock.
 */
#include <linux/hash.h>
#include <linux/hugetlb.h>
#include <linux/mmu_notifier.h>
#include <linux/pagemap.h>
#include <linux/pagewalk.h>
#include <linux/sched/coredump.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <asm/tlbflush.h>
#include "../internal.h"
#include "internal.h"

#define VISITS_TRUSTED	16
#define VISITS_MAX	16

/* A page that changed at so many looks in a row is looked at less often */
#define AGE_RESTLESS	3
#define RESTLESS_SHIFT	3

/**
 * struct scan_walk - the state of one step
 * @batch: to be filled
 * @seen: everything below this address has been looked at
 * @most: stop after so many pages
 * @step: what the step ends with
 * @smart: pages may be passed over
 * @trusted: the dirty bit tells of each store to this mm
 * @clean_from: begin of what is to be flushed, if less than @clean_to
 * @clean_to: end of it
 */
struct scan_walk {
	struct ksm_batch	*batch;
	unsigned long		seen;
	unsigned int		most;
	enum ksm_step		step;
	bool			smart;
	bool			trusted;
	unsigned long		clean_from;
	unsigned long		clean_to;
};

/* Does the CPU itself set the dirty bit, in all that writes to user memory? */
static bool hardware_sets_dirty(void)
{
	return IS_ENABLED(CONFIG_X86) && !IS_ENABLED(CONFIG_UML);
}

static bool mm_is_trusted(struct mm_struct *mm)
{
	return hardware_sets_dirty() && !mm_has_notifiers(mm) &&
	       !test_bit(MMF_HAS_PINNED, &mm->flags);
}

/**
 * ksm_scan_restart_visits - a page was read and had not changed
 * @item: its item, in the unstable tree
 *
 * Pages that were first read together are spread over the passes in which
 * they are read again.
 *
 * Context: scan mutex, the mm in use.
 */
void ksm_scan_restart_visits(struct ksm_rmap_item *item)
{
	if (!item->huge && mm_is_trusted(item->owner->slot.mm)) {
		item->visits_left = VISITS_TRUSTED;
		if (!item->streak++)
			item->visits_left -= hash_long(item->address /
						       PAGE_SIZE, 2);
		return;
	}
	item->visits_left = min(1U << min_t(u8, item->streak, 7), VISITS_MAX);
	if (item->streak < U8_MAX)
		item->streak++;
}

/* May this candidate be passed over? */
static bool candidate_stands(struct scan_walk *walk, struct ksm_rmap_item *item,
			     unsigned long pfn, bool dirty, bool huge)
{
	if (!walk->smart || item->pfn != pfn || item->huge != huge ||
	    !item->visits_left)
		return false;
	if (walk->trusted && !huge && dirty)
		return false;
	item->visits_left--;
	return true;
}

/* S: ksm_unstable_erasures() when this pass began, and the one before it */
static unsigned long erased[2];

/**
 * ksm_scan_pass_begin - a full pass begins
 *
 * Context: scan mutex.
 */
void ksm_scan_pass_begin(void)
{
	erased[1] = erased[0];
	erased[0] = ksm_unstable_erasures();
}

static bool candidates_stay(void)
{
	return ksm_unstable_erasures() == erased[1];
}

/* A page that keeps changing is left alone for up to 7 of 8 passes */
static bool restless(struct scan_walk *walk, u64 rec, unsigned long addr)
{
	unsigned int age = ksm_rec_age(rec);
	unsigned long period;

	if (!walk->smart || age < AGE_RESTLESS)
		return false;
	period = 1UL << min(age - AGE_RESTLESS + 1, RESTLESS_SHIFT);
	return (ksm_stats.full_scans + addr / PAGE_SIZE) % period;
}

static bool record_stands(struct scan_walk *walk, u64 rec, unsigned long addr,
			  unsigned long pfn, bool dirty, bool writable,
			  bool huge)
{
	struct ksm_rmap_item *item;

	switch (ksm_rec_state(rec)) {
	case KSM_MERGED:
		item = ksm_rec_item(rec);
		return !writable && !huge &&
			pfn == READ_ONCE(item->node->pfn) &&
			item->pgoff == linear_page_index(walk->batch->vma, addr);
	case KSM_CANDIDATE:
		if (!candidate_stands(walk, ksm_rec_item(rec), pfn, dirty,
				      huge))
			return false;
		break;
	case KSM_VOLATILE:
		if (!restless(walk, rec, addr))
			return false;
		break;
	default:
		return false;
	}
	walk->batch->skipped++;
	return true;
}

/*
 * May this settled page be passed over?  By fork, it shares its frame with a
 * candidate, which stands for both.  That may be merged at any time, so it
 * takes a look at the page; and it may go, so none may have gone since the
 * begin of the previous pass, in which this page was at its last visit.  The
 * age counts the visits since it was read.
 */
static bool settled_stands(struct scan_walk *walk, struct ksm_block *block,
			   unsigned long addr, struct page *page, bool dirty)
{
	unsigned int index = ksm_block_index(addr);
	u64 rec = ksm_record_get(block, index);
	unsigned int age = ksm_rec_age(rec);

	if (ksm_rec_state(rec) != KSM_SETTLED || !walk->smart ||
	    !walk->trusted || !candidates_stay() || dirty || PageKsm(page) ||
	    age >= VISITS_TRUSTED ||
	    ksm_rec_tag(rec) != ksm_frame_tag(page_to_pfn(page)))
		return false;
	ksm_record_set(block, index,
		       ksm_rec_plain(KSM_SETTLED, age + 1, ksm_rec_tag(rec),
				     ksm_rec_digest(rec)));
	walk->batch->skipped++;
	return true;
}

static void want_read(struct scan_walk *walk, unsigned int index,
		      struct page *page, bool huge)
{
	struct ksm_batch *batch = walk->batch;

	get_page(page);
	batch->page[index] = page;
	if (PageKsm(page))
		batch->adopt |= BIT_ULL(index);
	else
		batch->read |= BIT_ULL(index);
	if (huge)
		batch->huge |= BIT_ULL(index);
}

static void clean_pte(struct scan_walk *walk, struct vm_area_struct *vma,
		      unsigned long addr, pte_t *pte, struct folio *folio)
{
	folio_mark_dirty(folio);
	clear_young_dirty_ptes(vma, addr, pte, 1, CYDP_CLEAR_DIRTY);
	walk->clean_from = min(walk->clean_from, addr);
	walk->clean_to = max(walk->clean_to, addr + PAGE_SIZE);
}

/* A page in migration is still there; anything else that is absent is not */
static bool absent_for_good(pte_t pte)
{
	return pte_none(pte) || !is_migration_entry(pte_to_swp_entry(pte));
}

static void look_at_pte(struct scan_walk *walk, struct vm_area_struct *vma,
			unsigned long addr, pte_t *pte, struct ksm_block *block)
{
	unsigned int index = ksm_block_index(addr);
	u64 rec = ksm_record_get(block, index);
	pte_t cur = ptep_get(pte);
	struct page *page = NULL;

	if (pte_present(cur)) {
		if (record_stands(walk, rec, addr, pte_pfn(cur),
				  pte_dirty(cur), pte_write(cur), false))
			return;
		page = vm_normal_page(vma, addr, cur);
		/* What userfaultfd write-protects is not merged */
		if (page && (!PageAnon(page) || is_zone_device_page(page) ||
			     (pte_uffd_wp(cur) && !PageKsm(page))))
			page = NULL;
	} else if (!absent_for_good(cur)) {
		return;
	}
	if (!page) {
		if (ksm_rec_state(rec) != KSM_NEW)
			walk->batch->gone |= BIT_ULL(index);
		return;
	}
	if (settled_stands(walk, block, addr, page, pte_dirty(cur)))
		return;
	want_read(walk, index, page, false);
	if (walk->smart && walk->trusted && pte_dirty(cur) && !PageKsm(page))
		clean_pte(walk, vma, addr, pte, page_folio(page));
}

static bool has_work(const struct ksm_batch *batch)
{
	return batch->gone | batch->adopt | batch->read;
}

/* Stop here?  Then the batch ends at the block before @next. */
static bool stop_after(struct scan_walk *walk, unsigned long next)
{
	walk->seen = next;
	return has_work(walk->batch) || walk->batch->passed >= walk->most;
}

static bool look_at_table(struct scan_walk *walk, struct vm_area_struct *vma,
			  pte_t *pte, unsigned long addr, unsigned long end)
{
	struct ksm_mm *owner = walk->batch->owner;
	bool stop = false;

	while (addr < end && !stop) {
		unsigned long next = min((addr & KSM_BLOCK_MASK) +
					 KSM_BLOCK_SIZE, end);
		struct ksm_block *block = ksm_block_find(owner, addr);

		walk->batch->base = addr & KSM_BLOCK_MASK;
		walk->batch->passed += (next - addr) / PAGE_SIZE;
		for (; addr < next; addr += PAGE_SIZE, pte++)
			look_at_pte(walk, vma, addr, pte, block);
		stop = stop_after(walk, next);
	}
	return stop;
}

static bool look_at_huge(struct scan_walk *walk, struct vm_area_struct *vma,
			 pmd_t pmd, unsigned long addr, unsigned long end)
{
	struct ksm_mm *owner = walk->batch->owner;
	bool stop = false;

	if (!pmd_present(pmd)) {
		walk->seen = end;
		return false;
	}
	while (addr < end && !stop) {
		unsigned long next = min((addr & KSM_BLOCK_MASK) +
					 KSM_BLOCK_SIZE, end);
		struct ksm_block *block = ksm_block_find(owner, addr);
		struct page *page = vm_normal_page_pmd(vma, addr, pmd);

		walk->batch->base = addr & KSM_BLOCK_MASK;
		walk->batch->passed += (next - addr) / PAGE_SIZE;
		if (page)
			page += (addr & ~HPAGE_PMD_MASK) / PAGE_SIZE;
		for (; addr < next; addr += PAGE_SIZE) {
			unsigned int index = ksm_block_index(addr);
			u64 rec = ksm_record_get(block, index);

			if (!page) {
				if (ksm_rec_state(rec) != KSM_NEW)
					walk->batch->gone |= BIT_ULL(index);
				continue;
			}
			if (!record_stands(walk, rec, addr, page_to_pfn(page),
					   pmd_dirty(pmd), pmd_write(pmd), true) &&
			    PageAnon(page))
				want_read(walk, index, page, true);
			page++;
		}
		stop = stop_after(walk, next);
	}
	return stop;
}

static int scan_pmd(pmd_t *pmd, unsigned long addr, unsigned long end,
		    struct mm_walk *mm_walk)
{
	struct scan_walk *walk = mm_walk->private;
	struct vm_area_struct *vma = mm_walk->vma;
	struct ksm_mm *owner = walk->batch->owner;
	spinlock_t *ptl;	/* of the page table, or of the PMD */
	pte_t *pte;
	bool stop;

	if (ksm_records_in(owner, walk->seen, addr)) {
		walk->batch->hole = walk->seen;
		walk->seen = addr;
		walk->step = KSM_STEP_HOLE;
		return 1;
	}
	walk->seen = end;

	ptl = pmd_trans_huge_lock(pmd, vma);
	if (ptl) {
		__acquire(ptl);		/* sparse is not told */
		stop = look_at_huge(walk, vma, *pmd, addr, end);
		spin_unlock(ptl);
		return stop || ksm_mm_should_end(owner);
	}

	pte = pte_offset_map_lock(mm_walk->mm, pmd, addr, &ptl);
	if (!pte)
		return 0;	/* just changing: the next pass sees it */
	walk->clean_from = end;
	walk->clean_to = addr;
	stop = look_at_table(walk, vma, pte, addr, end);
	if (walk->clean_from < walk->clean_to)
		flush_tlb_range(vma, walk->clean_from, walk->clean_to);
	ksm_pte_unmap_unlock(pte, ptl);
	return stop || ksm_mm_should_end(owner);
}

static const struct mm_walk_ops scan_ops = {
	.pmd_entry	= scan_pmd,
	.walk_lock	= PGWALK_RDLOCK,
};

/**
 * ksm_scan_step - find the next pages of an mm that want something
 * @owner: the mm
 * @cursor: where to go on; moved
 * @most: stop after so many pages
 * @batch: filled; references in @batch->page belong to the caller
 *
 * Context: scan mutex, within ksm_mm_begin().
 * Return: see enum ksm_step.  KSM_STEP_BATCH may come with an empty batch,
 *	when it is time to let go of the mm.
 */
enum ksm_step ksm_scan_step(struct ksm_mm *owner, unsigned long *cursor,
			    unsigned int most, struct ksm_batch *batch)
{
	struct mm_struct *mm = owner->slot.mm;
	struct scan_walk walk = {
		.batch	= batch,
		.seen	= *cursor,
		.most	= most,
		.step	= KSM_STEP_BATCH,
		.smart	= READ_ONCE(ksm_knobs.smart_scan),
		.trusted = mm_is_trusted(mm),
	};
	struct vm_area_struct *vma;
	bool stopped = false;

	VMA_ITERATOR(vmi, mm, *cursor);

	batch->owner = owner;
	batch->gone = 0;
	batch->adopt = 0;
	batch->read = 0;
	batch->huge = 0;
	batch->passed = 0;
	batch->skipped = 0;

	for_each_vma(vmi, vma) {
		unsigned long start = max(vma->vm_start, *cursor);

		if (!(vma->vm_flags & VM_MERGEABLE) ||
		    !READ_ONCE(vma->anon_vma))
			continue;
		batch->vma = vma;
		stopped = walk_page_range_vma(vma, start, vma->vm_end,
					      &scan_ops, &walk) > 0;
		if (stopped)
			break;
	}
	*cursor = walk.seen;
	return stopped ? walk.step : KSM_STEP_END;
}

static int get_page_at(pmd_t *pmd, unsigned long addr, unsigned long end,
		       struct mm_walk *mm_walk)
{
	struct vm_area_struct *vma = mm_walk->vma;
	struct page **pagep = mm_walk->private;
	spinlock_t *ptl;	/* of the page table, or of the PMD */
	pte_t *pte;

	ptl = pmd_trans_huge_lock(pmd, vma);
	if (ptl) {
		__acquire(ptl);		/* sparse is not told */
		if (pmd_present(*pmd))
			*pagep = vm_normal_page_pmd(vma, addr, *pmd);
		if (*pagep)
			*pagep += (addr & ~HPAGE_PMD_MASK) / PAGE_SIZE;
		if (*pagep)
			get_page(*pagep);
		spin_unlock(ptl);
		return 0;
	}
	pte = pte_offset_map_lock(mm_walk->mm, pmd, addr, &ptl);
	if (!pte)
		return 0;
	if (pte_present(ptep_get(pte)))
		*pagep = vm_normal_page(vma, addr, ptep_get(pte));
	if (*pagep)
		get_page(*pagep);
	ksm_pte_unmap_unlock(pte, ptl);
	return 0;
}

static const struct mm_walk_ops get_page_ops = {
	.pmd_entry	= get_page_at,
	.walk_lock	= PGWALK_RDLOCK,
};

/**
 * ksm_scan_page - get the anonymous page at an address
 * @vma: the area
 * @addr: the address
 *
 * Context: mmap_lock.
 * Return: the page, referenced; NULL if there is none.
 */
struct page *ksm_scan_page(struct vm_area_struct *vma, unsigned long addr)
{
	struct page *page = NULL;

	walk_page_range_vma(vma, addr, addr + PAGE_SIZE, &get_page_ops, &page);
	if (page && (!PageAnon(page) || is_zone_device_page(page))) {
		put_page(page);
		page = NULL;
	}
	return page;
}

/**
 * ksm_scan_mergeable - does an mm have any mergeable area?
 * @mm: the mm
 *
 * Context: mmap_lock.
 * Return: true if it has.
 */
bool ksm_scan_mergeable(struct mm_struct *mm)
{
	struct vm_area_struct *vma;

	VMA_ITERATOR(vmi, mm, 0);
	for_each_vma(vmi, vma) {
		if (vma->vm_flags & VM_MERGEABLE)
			return true;
	}
	return false;
}
