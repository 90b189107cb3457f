// SPDX-License-Identifier: GPL-2.0
/*
 * Giving mappings of merged pages a private page again, and the rule which
 * areas may be merged at all.
 *
 * A page is unshared by the fault handler with FAULT_FLAG_UNSHARE: it copies
 * the page as a write would, but leaves the PTE clean and read-only, so
 * neither soft-dirty tracking nor userfaultfd nor PROT_NONE get in the way.
 */
#include <linux/dax.h>
#include <linux/fs.h>
#include <linux/pagewalk.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include "internal.h"

#define FAULTS_A_WALK	32
#define TABLES_A_WALK	64
#define HOLES_A_WALK	4096

/* To find what is shared takes time, too: as long as a fault for so many */
#define TABLES_A_FAULT	4
#define HOLES_A_FAULT	256

/**
 * ksm_flags_suit - may the pages of an area with these flags be merged?
 * @vm_flags: the flags
 *
 * Not memory that is shared on purpose, is no ordinary memory, or whose owner
 * may drop it; not huge page pools; not what tags or keys make special.
 * Shadow stacks are refused as well: there a read-only dirty PTE has a
 * meaning of its own.
 *
 * Context: any.
 * Return: true if they may, as far as the flags tell.
 */
bool ksm_flags_suit(vm_flags_t vm_flags)
{
	const vm_flags_t unfit = VM_SHARED | VM_MAYSHARE | VM_IO | VM_PFNMAP |
		VM_MIXEDMAP | VM_DONTEXPAND | VM_HUGETLB | VM_DROPPABLE |
		VM_SHADOW_STACK |
#ifdef VM_SAO
		VM_SAO |
#endif
#ifdef VM_SPARC_ADI
		VM_SPARC_ADI |
#endif
		VM_NONE;

	return !(vm_flags & unfit);
}

/**
 * ksm_vma_suits - may the pages of an area be merged?
 * @vma: the area
 *
 * Context: mmap_lock.
 * Return: true if they may.
 */
bool ksm_vma_suits(struct vm_area_struct *vma)
{
	return ksm_flags_suit(vma->vm_flags) && !vma_is_dax(vma);
}

/**
 * ksm_vma_at - the mergeable area at an address
 * @mm: the mm
 * @addr: the address
 *
 * Context: mmap_lock.
 * Return: the area; NULL if there is none, or none that can hold pages.
 */
struct vm_area_struct *ksm_vma_at(struct mm_struct *mm, unsigned long addr)
{
	struct vm_area_struct *vma = vma_lookup(mm, addr);

	if (!vma || !(vma->vm_flags & VM_MERGEABLE) ||
	    !READ_ONCE(vma->anon_vma))
		return NULL;
	return vma;
}

/**
 * ksm_vma_maps - is a page there still, and not just the area that once mapped it?
 * @vma: the area
 * @addr: where in it
 * @folio: the page, a small one
 *
 * Waits for the page-table lock: mprotect() and others take a PTE out for a
 * moment.
 *
 * Context: folio lock; and what keeps @vma: mmap_lock, or the lock of an
 *	anon_vma that it is in.
 * Return: true if it is.
 */
bool ksm_vma_maps(struct vm_area_struct *vma, unsigned long addr,
		  struct folio *folio)
{
	DEFINE_FOLIO_VMA_WALK(pvmw, folio, vma, addr, PVMW_SYNC);

	if (!page_vma_mapped_walk(&pvmw))
		return false;
	page_vma_mapped_walk_done(&pvmw);
	return true;
}

/*
 * Did KSM put this there?  A frame of which no struct page may be used, as a
 * /dev/mem view of a merged page has it, was not put there by KSM.  The entry
 * of a page in migration, or gone to a device, is looked through: it will
 * become a PTE again.
 */
static bool pte_is_shared(struct vm_area_struct *vma, unsigned long addr,
			  pte_t pte)
{
	struct page *page = NULL;

	if (pte_present(pte)) {
		if (is_ksm_zero_pte(pte))
			return true;
		page = vm_normal_page(vma, addr, pte);
	} else if (!pte_none(pte)) {
		swp_entry_t entry = pte_to_swp_entry(pte);

		if (is_migration_entry(entry) ||
		    is_device_private_entry(entry))
			page = pfn_swap_entry_to_page(entry);
	}
	return page && PageKsm(page);
}

/**
 * struct shared_ptes - some PTEs that KSM shares
 * @nr: how many
 * @tables: page tables that were looked at
 * @holes: entries without a table that were passed
 * @next: the walk came to here
 * @addr: where, by rising address
 */
struct shared_ptes {
	unsigned int	nr;
	unsigned int	tables;
	unsigned int	holes;
	unsigned long	next;
	unsigned long	addr[FAULTS_A_WALK];
};

static int pass_hole(unsigned long addr, unsigned long end, int depth,
		     struct mm_walk *walk)
{
	struct shared_ptes *found = walk->private;

	found->next = end;
	return ++found->holes == HOLES_A_WALK;
}

/* Find the next PTEs that KSM shares, as many as fit into walk->private */
static int find_shared_ptes(pmd_t *pmd, unsigned long addr, unsigned long end,
			    struct mm_walk *walk)
{
	struct shared_ptes *found = walk->private;
	pte_t *start, *pte;
	spinlock_t *ptl;	/* of the page table */

	/* Nothing of ours is in a huge page; an unstable table will be seen */
	if (pmd_trans_huge(pmdp_get_lockless(pmd)))
		return pass_hole(addr, end, /* depth = */ 3, walk);
	found->next = end;
	start = pte_offset_map_lock(walk->mm, pmd, addr, &ptl);
	if (!start)
		return 0;
	found->tables++;
	for (pte = start; addr < end && found->nr < FAULTS_A_WALK;
	     pte++, addr += PAGE_SIZE) {
		if (pte_is_shared(walk->vma, addr, ptep_get(pte)))
			found->addr[found->nr++] = addr;
	}
	ksm_pte_unmap_unlock(start, ptl);
	return found->nr == FAULTS_A_WALK || found->tables == TABLES_A_WALK;
}

static const struct mm_walk_ops find_shared_ops = {
	.pmd_entry	= find_shared_ptes,
	.pte_hole	= pass_hole,
	.walk_lock	= PGWALK_RDLOCK,
};

static const struct mm_walk_ops find_shared_locked_ops = {
	.pmd_entry	= find_shared_ptes,
	.pte_hole	= pass_hole,
	.walk_lock	= PGWALK_WRLOCK,
};

/*
 * Unshare one page.  A fault may back out, say since a migration was under
 * way; the caller looks again.  After poison, or when a file was truncated
 * under a private mapping, there is nothing left that could be shared: 1.
 */
static int unshare_page(struct vm_area_struct *vma, unsigned long addr)
{
	vm_fault_t fault;

	if (signal_pending(current))
		return -ERESTARTSYS;
	fault = handle_mm_fault(vma, addr,
				FAULT_FLAG_UNSHARE | FAULT_FLAG_REMOTE, NULL);
	cond_resched();
	if (fault & VM_FAULT_OOM)
		return -ENOMEM;
	return fault & VM_FAULT_ERROR ? 1 : 0;
}

/* Unshare what was found; 1, as there may be more, or an error */
static int unshare_pages(struct vm_area_struct *vma, unsigned long *from,
			 const struct shared_ptes *found, unsigned int *most)
{
	unsigned int i;
	int err;

	*from = found->addr[0];
	for (i = 0; i < found->nr && *most; i++, (*most)--) {
		err = unshare_page(vma, found->addr[i]);
		if (err < 0)
			return err;
		if (err && !i)
			*from += PAGE_SIZE;
		if (err)
			break;
	}
	return 1;
}

/*
 * Unshare the next few pages; 1 if there may be more, 0 if there are none.
 * Each walk begins again with the first page of the last one, whose fault may
 * have backed out; only a page that is there no more, as it seems, is left
 * behind, and not before it is the first.
 */
static int unshare_next(struct vm_area_struct *vma, unsigned long *from,
			unsigned long to, const struct mm_walk_ops *ops,
			unsigned int *most)
{
	struct shared_ptes found = {};
	bool stopped;
	int ret;

	stopped = walk_page_range_vma(vma, *from, to, ops, &found) > 0;
	if (found.nr) {
		ret = unshare_pages(vma, from, &found, most);
	} else {
		*from = stopped ? found.next : to;
		ret = *from < to;
		cond_resched();
	}
	*most -= min(*most, DIV_ROUND_UP(found.tables, TABLES_A_FAULT) +
			    DIV_ROUND_UP(found.holes, HOLES_A_FAULT));
	return ret;
}

/**
 * ksm_unshare_some - unshare some of what KSM shared in part of an area
 * @vma: the area
 * @from: from here; moved on as far as was done
 * @to: to here
 * @most: how many faults to cause at most, or to search for as long; counted
 *	down, and something is done if it is not 0
 *
 * Context: mmap_lock for read; may sleep.  A thread is interrupted by its
 *	signals.
 * Return: 0 if nothing shared is left; 1 if there may be more; -ENOMEM or
 *	-ERESTARTSYS.
 */
int ksm_unshare_some(struct vm_area_struct *vma, unsigned long *from,
		     unsigned long to, unsigned int *most)
{
	int more = 1;

	while (*from < to && more > 0 && *most)
		more = unshare_next(vma, from, to, &find_shared_ops, most);
	return *from < to ? more : 0;
}

/**
 * ksm_unshare_range - unshare all that KSM shared in part of an area
 * @vma: the area
 * @start: from here
 * @end: to here
 *
 * For a caller that is about to clear VM_MERGEABLE: faults under the lock of
 * the area alone are kept out, too.  Walks page tables, so that holes cost
 * next to nothing.
 *
 * Context: mmap_lock for write; may sleep.  A thread is interrupted by its
 *	signals.
 * Return: 0; -ENOMEM or -ERESTARTSYS: then some pages are unshared, and the
 *	rest is as it was.
 */
int ksm_unshare_range(struct vm_area_struct *vma, unsigned long start,
		      unsigned long end)
{
	int more = 1;

	mmap_assert_write_locked(vma->vm_mm);
	vma_start_write(vma);
	while (start < end && more > 0) {
		unsigned int most = UINT_MAX;

		more = signal_pending(current) ? -ERESTARTSYS :
			unshare_next(vma, &start, end, &find_shared_locked_ops,
				     &most);
	}
	return min(more, 0);
}
