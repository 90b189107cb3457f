// SPDX-License-Identifier: GPL-2.0
/*
 * Changing PTEs: the only place where pages become one.
 *
 * A page may be replaced by another when nobody can write to it any more and
 * all bytes are equal.  For a run of PTEs in one page table:
 *
 *  1. Lock the pages (and the shared ones, which the caller did): this shuts
 *     out migration, reclaim, splits, MADV_FREE of shared pages and swap-in
 *     faults that would reuse a page.  Folio locks are only tried, as there
 *     are many, and mmap_lock is held.
 *  2. Tell secondary MMUs.  Before the PTE is taken out, so that they cannot
 *     write through a mapping of their own when we compare; may sleep, so not
 *     under the page-table lock.
 *  3. Under the page-table lock, take the PTEs out, flush the TLB for all of
 *     them at once, smp_mb().  The flush is due even for read-only, clean
 *     PTEs: MADV_FREE and reclaim defer flushes of what was writable before.
 *     The barrier pairs with gup_fast_pte_range(), which reads the PTE again
 *     after it took its reference: either we see the reference in step 4 or
 *     it sees the PTE gone and backs out.
 *  4. Look for references that are not ours: O_DIRECT and the like may be
 *     writing through them.  Then compare.  If all is well, give up the
 *     page's exclusive mark (which fails for a pinned page) and map the
 *     shared page; else put the old PTE back: nothing has changed.
 *
 * Nobody sees the missing PTE: faults and mprotect() wait for the page-table
 * lock, mmap_lock is held for read, and lockless walkers take it for a hole
 * once.  The flush comes before the old page can be freed, and before the
 * lock is dropped: or one thread would write to its copy of the shared page
 * while another still reads the old one.
 *
 * What a PTE said to others is kept: soft-dirty goes over to the new PTE, and
 * a userfaultfd write-protected PTE is not merged at all.
 */
#include <kunit/static_stub.h>
#include <linux/cacheflush.h>
#include <linux/highmem.h>
#include <linux/memremap.h>
#include <linux/hugetlb.h>
#include <linux/mmu_notifier.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/swap.h>
#include <asm/tlbflush.h>
#include "../internal.h"
#include "internal.h"
#include <trace/events/ksm.h>

/**
 * ksm_page_split - split the huge page around a page
 * @page: the page, the caller holding the only reference to the folio that
 *	is not a mapping
 *
 * Context: may sleep.
 * Return: 0 if @page is a small page now; -EBUSY if that cannot be had.
 */
int ksm_page_split(struct page *page)
{
	struct folio *folio = page_folio(page);
	int err;

	if (!folio_test_large(folio))
		return 0;
	if (!folio_trylock(folio))
		return -EBUSY;
	err = split_huge_page(page);
	/* The lock has gone to the folio that @page is in now */
	folio_unlock(page_folio(page));
	return err ? -EBUSY : 0;
}

/*
 * No reference but the mappings', the swap cache's and the caller's?  Only a
 * page that is out of this page table has a stable answer.
 */
static bool only_mapped(const struct folio *folio)
{
	return folio_ref_count(folio) == folio_mapcount(folio) + 1 +
					 folio_test_swapcache(folio);
}

/*
 * Lock a page that is to be merged.  A page that is not swap-backed is on its
 * way to be dropped by MADV_FREE; as a shared page it would be dropped for
 * all.
 */
static int lock_source(struct page *page)
{
	struct folio *folio = page_folio(page);

	if (!folio_trylock(folio))
		return -EBUSY;
	if (folio_test_large(folio) || !folio_test_anon(folio) ||
	    folio_test_ksm(folio) || !folio_test_swapbacked(folio) ||
	    PageHWPoison(page) || folio_maybe_dma_pinned(folio) ||
	    !only_mapped(folio)) {
		folio_unlock(folio);
		return -EBUSY;
	}
	return 0;
}

static int take_pte(struct vm_area_struct *vma, unsigned long addr, pte_t *pte,
		    struct page *page, pte_t *old)
{
	pte_t cur = ptep_get(pte);

	if (!pte_present(cur) || pte_pfn(cur) != page_to_pfn(page) ||
	    pte_uffd_wp(cur))
		return -EAGAIN;
	flush_cache_page(vma, addr, pte_pfn(cur));
	*old = ptep_get_and_clear(vma->vm_mm, addr, pte);
	return 0;
}

/* Step 4 but for the comparison: nobody else has the page, or may get it */
static int claim_page(struct page *page)
{
	struct folio *folio = page_folio(page);

	if (!only_mapped(folio))
		return -EBUSY;
	if (PageAnonExclusive(page) &&
	    folio_try_share_anon_rmap_pte(folio, page))
		return -EBUSY;
	return 0;
}

static pte_t shared_pte(struct vm_area_struct *vma, struct page *kpage,
			pte_t old)
{
	pte_t pte = mk_pte(kpage, vma->vm_page_prot);

	return pte_soft_dirty(old) ? pte_mksoft_dirty(pte) : pte;
}

/* Dirty is KSM's mark on a zero page's PTE; on x86 it brings soft-dirty too */
static pte_t shared_zero_pte(struct vm_area_struct *vma, unsigned long addr,
			     pte_t old)
{
	pte_t pte = pfn_pte(my_zero_pfn(addr), vma->vm_page_prot);

	pte = pte_mkdirty(pte_mkspecial(pte));
	return pte_soft_dirty(old) ? pte_mksoft_dirty(pte) :
				     pte_clear_soft_dirty(pte);
}

static void drop_source(struct vm_area_struct *vma, struct page *page)
{
	struct folio *folio = page_folio(page);

	folio_remove_rmap_pte(folio, page, vma);
	if (!folio_mapped(folio))
		folio_free_swap(folio);
	folio_put(folio);
}

static void map_shared(struct vm_area_struct *vma, struct ksm_merge_op *op,
		       pte_t *pte)
{
	struct mm_struct *mm = vma->vm_mm;
	struct page *kpage;

	if (!op->kfolio) {
		set_pte_at(mm, op->addr, pte,
			   shared_zero_pte(vma, op->addr, op->old));
		ksm_map_zero_page(mm);
		dec_mm_counter(mm, MM_ANONPAGES);
	} else {
		kpage = folio_page(op->kfolio, 0);
		folio_get(op->kfolio);
		folio_add_anon_rmap_pte(op->kfolio, kpage, vma, op->addr,
					RMAP_NONE);
		set_pte_at(mm, op->addr, pte, shared_pte(vma, kpage, op->old));
		/*
		 * Its first mapper may have called MADV_FREE, and a batch
		 * somewhere be about to make it droppable: dirty it is kept.
		 */
		folio_mark_dirty(op->kfolio);
	}
	drop_source(vma, op->page);
}

static int replace_one(struct vm_area_struct *vma, struct ksm_merge_op *op,
		       pte_t *pte)
{
	struct page *kpage = op->kfolio ? folio_page(op->kfolio, 0) :
					  ZERO_PAGE(op->addr);
	int err = 0;

	if (!only_mapped(page_folio(op->page)))
		err = -EBUSY;
	else if (!pages_identical(op->page, kpage))
		err = -EILSEQ;
	else
		err = claim_page(op->page);
	if (err)
		set_pte_at(vma->vm_mm, op->addr, pte, op->old);
	else
		map_shared(vma, op, pte);
	return err;
}

/* Steps 3 and 4, with @start the PTE of the first op and its table locked */
static void replace_ptes(struct vm_area_struct *vma, struct ksm_merge_op *ops,
			 unsigned int nr, pte_t *start)
{
	unsigned long first = ops[0].addr, last = ops[nr - 1].addr;
	bool taken = false;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		pte_t *pte = start + (ops[i].addr - first) / PAGE_SIZE;

		if (!ops[i].err)
			ops[i].err = take_pte(vma, ops[i].addr, pte,
					      ops[i].page, &ops[i].old);
		taken |= !ops[i].err;
	}
	if (!taken)
		return;
	flush_tlb_range(vma, first, last + PAGE_SIZE);
	/* Pairs with gup_fast_pte_range(), see step 3 above */
	smp_mb();
	for (i = 0; i < nr; i++) {
		pte_t *pte = start + (ops[i].addr - first) / PAGE_SIZE;

		if (!ops[i].err)
			ops[i].err = replace_one(vma, &ops[i], pte);
	}
}

/* Returns with each op's err set */
static void replace_run(struct vm_area_struct *vma, struct ksm_merge_op *ops,
			unsigned int nr)
{
	pmd_t *pmd = mm_find_pmd(vma->vm_mm, ops[0].addr);
	spinlock_t *ptl;	/* of the page table */
	unsigned int i;
	pte_t *start;

	if (!pmd)
		goto out;
	start = pte_offset_map_lock(vma->vm_mm, pmd, ops[0].addr, &ptl);
	if (!start)
		goto out;
	replace_ptes(vma, ops, nr, start);
	ksm_pte_unmap_unlock(start, ptl);
	return;
out:
	for (i = 0; i < nr; i++)
		ops[i].err = ops[i].err ?: -EAGAIN;
}

/**
 * ksm_mm_may_map_zero - whether a process may have the zero page in its memory
 * @mm: its mm
 *
 * On s390 guests with storage keys or protected memory must not.
 *
 * Context: any.
 * Return: true if it may.
 */
bool ksm_mm_may_map_zero(struct mm_struct *mm)
{
	KUNIT_STATIC_STUB_REDIRECT(ksm_mm_may_map_zero, mm);

	return !mm_forbids_zeropage(mm);
}

/* May the shared page, or the zero page if that is NULL, be mapped here? */
static int may_map(struct vm_area_struct *vma, struct folio *kfolio)
{
	if (!kfolio)
		return ksm_mm_may_map_zero(vma->vm_mm) ? 0 : -EPERM;
	if (!folio_test_swapbacked(kfolio) || folio_test_hwpoison(kfolio) ||
	    folio_is_zone_device(kfolio))
		return -EPERM;
	return 0;
}

static void trace_merge(struct vm_area_struct *vma, struct ksm_merge_op *op)
{
	if (op->kfolio)
		trace_ksm_merge_with_ksm_page(folio_page(op->kfolio, 0),
					      folio_pfn(op->kfolio), op->item,
					      vma->vm_mm, op->err);
	else
		trace_ksm_merge_one_page(my_zero_pfn(op->addr), op->item,
					 vma->vm_mm, op->err);
}

/* Step 2, and those after it */
static void notify_and_replace(struct vm_area_struct *vma,
			       struct ksm_merge_op *ops, unsigned int nr)
{
	struct mmu_notifier_range range;

	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, vma->vm_mm,
				ops[0].addr, ops[nr - 1].addr + PAGE_SIZE);
	mmu_notifier_invalidate_range_start(&range);
	replace_run(vma, ops, nr);
	mmu_notifier_invalidate_range_end(&range);
}

/**
 * ksm_merge_run - merge some pages of one page table with shared ones
 * @vma: the area they are all in
 * @ops: what to do, by rising address; each one's err is set
 * @nr: how many, at most KSM_RUN_OPS
 *
 * The items of those that were merged are listed on their nodes.
 *
 * Context: scan mutex, mmap_lock for read, the locks of the shared folios.
 */
void ksm_merge_run(struct vm_area_struct *vma, struct ksm_merge_op *ops,
		   unsigned int nr)
{
	bool locked[KSM_RUN_OPS] = {};
	unsigned int i, left = 0;

	if (WARN_ON_ONCE(!nr || nr > KSM_RUN_OPS))
		return;
	for (i = 0; i < nr; i++) {
		ops[i].err = may_map(vma, ops[i].kfolio);
		/* Their PTEs are found by the distance from the first one */
		if (WARN_ON_ONCE(i && ops[i].addr <= ops[i - 1].addr))
			ops[i].err = -EINVAL;
		if (ops[i].err)
			continue;
		ops[i].err = lock_source(ops[i].page);
		locked[i] = !ops[i].err;
		left += locked[i];
	}
	/* Secondary MMUs pay for being told: not in vain */
	if (left)
		notify_and_replace(vma, ops, nr);

	for (i = 0; i < nr; i++) {
		if (locked[i])
			folio_unlock(page_folio(ops[i].page));
		if (!ops[i].err && ops[i].kfolio)
			ksm_item_list(ops[i].item, ops[i].node, vma->anon_vma,
				      linear_page_index(vma, ops[i].addr));
		trace_merge(vma, &ops[i]);
	}
}

/*
 * Make the page, which nobody else has, a shared one.  Not if somebody took a
 * reference since: he may have seen an ordinary page, which is walked without
 * its lock.
 */
static int become_shared(struct folio *folio, struct ksm_stable_node *node)
{
	void *mapping = ksm_folio_claim(folio);

	if (!only_mapped(folio)) {
		ksm_folio_revert(folio, mapping);
		return -EBUSY;
	}
	/*
	 * Only clean PTEs map a shared page; the page itself must then say that
	 * its contents are nowhere on disk.
	 */
	folio_mark_dirty(folio);
	ksm_folio_attach(folio, node);
	return 0;
}

/* The PTE part of ksm_merge_make() */
static int protect_page(struct vm_area_struct *vma, unsigned long addr,
			struct page *page, struct ksm_stable_node *node)
{
	pmd_t *pmd = mm_find_pmd(vma->vm_mm, addr);
	spinlock_t *ptl;	/* of the page table */
	pte_t *pte, old;
	int err;

	if (!pmd)
		return -EAGAIN;
	pte = pte_offset_map_lock(vma->vm_mm, pmd, addr, &ptl);
	if (!pte)
		return -EAGAIN;
	err = take_pte(vma, addr, pte, page, &old);
	if (err)
		goto out;
	flush_tlb_range(vma, addr, addr + PAGE_SIZE);
	/* Pairs with gup_fast_pte_range(), see step 3 above */
	smp_mb();
	/*
	 * The node was put in its place by what the page held a moment ago:
	 * there it must not be found with other contents.
	 */
	err = ksm_digest_page(page) == node->entry.digest ? claim_page(page) :
							    -EAGAIN;
	if (!err) {
		err = become_shared(page_folio(page), node);
		/* Its exclusive mark has gone in any case */
		old = pte_wrprotect(old);
	}
	if (!err)
		old = pte_mkclean(old);
	set_pte_at(vma->vm_mm, addr, pte, old);
out:
	ksm_pte_unmap_unlock(pte, ptl);
	return err;
}

/**
 * ksm_merge_make - make an anonymous page a shared page
 * @vma: an area that maps it
 * @addr: where
 * @page: the page, referenced once by the caller
 * @node: the node it is to have, in a tree but without items
 * @item: unlisted; to be listed for this mapping
 *
 * Other PTEs, inherited by fork, may map the page as well: they are read-only
 * already, as an exclusive page has but one mapping.  The page's own anon_vma
 * leads to all of them, while that of @vma may not lead to a parent's; so the
 * node takes it over, for as long as it lives.
 *
 * Context: scan mutex, mmap_lock for read.
 * Return: 0, or -EBUSY or -EAGAIN and nothing has changed.
 */
int ksm_merge_make(struct vm_area_struct *vma, unsigned long addr,
		   struct page *page, struct ksm_stable_node *node,
		   struct ksm_rmap_item *item)
{
	struct folio *folio = page_folio(page);
	struct mmu_notifier_range range;
	struct anon_vma *anon_vma;
	int err;

	err = lock_source(page);
	if (err)
		goto out;
	/* All of it before the page leads to the node */
	anon_vma = folio_anon_vma(folio);
	get_anon_vma(anon_vma);
	node->anon_vma = anon_vma;
	node->pgoff = linear_page_index(vma, addr);
	WRITE_ONCE(node->pfn, page_to_pfn(page));

	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, vma->vm_mm, addr,
				addr + PAGE_SIZE);
	mmu_notifier_invalidate_range_start(&range);
	err = protect_page(vma, addr, page, node);
	mmu_notifier_invalidate_range_end(&range);

	if (!err) {
		ksm_item_list(item, node, anon_vma, node->pgoff);
	} else {
		node->anon_vma = NULL;
		put_anon_vma(anon_vma);
	}
	folio_unlock(folio);
out:
	trace_ksm_merge_with_ksm_page(NULL, page_to_pfn(page), item,
				      vma->vm_mm, err);
	return err;
}
