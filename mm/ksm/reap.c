// SPDX-License-Identifier: GPL-2.0
/*
 * What exited mms leave behind: their records and items, freed in slices.
 *
 * A child that inherited merged pages is known to nobody until ksmd comes by,
 * which may take hours, or with run=0 for ever.  Meanwhile its pages are found
 * by the items of its parent, whose anon_vma leads to the child's area as well
 * (rmap.c).  If the parent has exited, its items pass to the child: else these
 * pages could neither be swapped out nor moved.
 *
 * Why that is safe without the child's mmap_lock: records and items are under
 * the scan mutex.  The anon_vma lock keeps the area, its bounds and its mm, and
 * the page tables too, even those of an mm that exits: it takes its areas off
 * the anon_vma before it frees them.  An entry that the registry gives out is
 * not freed but by us.  The child may unmap the page or write to it as soon as
 * it was seen there; then its item is one too many, as that of any mm may be,
 * until its record is visited or the child is reaped.
 */
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>
#include "../internal.h"
#include "internal.h"

#define SLICE_WORK	512	/* records, blocks, and areas, 8 for one */

/*
 * Thousands of areas may have an anon_vma in common.  To ask one whether it has
 * the page listed is cheap, to look into its page table less so.
 */
#define MOST_AREAS	256
#define MOST_LOOKS	32

/* Give an item to another mm that maps the page; 1, or -ENOMEM */
static int hand_over(struct ksm_rmap_item *item, struct ksm_mm *heir,
		     unsigned long addr, unsigned long pfn)
{
	unsigned int index = ksm_block_index(addr);
	struct ksm_block *block;

	block = ksm_block_reserve(heir, addr & KSM_BLOCK_MASK, BIT_ULL(index),
				  KSM_GFP_LOCKED);
	if (!block)
		return -ENOMEM;
	ksm_record_drop(heir, block, index, KSM_LOCK_TRY);
	ksm_record_clear(ksm_block_find(item->owner, item->address),
			 ksm_block_index(item->address));
	ksm_item_hand_over(item, heir, addr);
	ksm_item_set_merged(item, pfn);
	return 1;
}

/* Returns 1 if the item has an heir now, 0 if there is none, or -ENOMEM */
static int find_heir(struct ksm_rmap_item *item, struct folio *folio,
		     unsigned int *asked)
{
	unsigned int looks = 0;
	struct anon_vma_chain *avc;

	*asked = 0;
	anon_vma_interval_tree_foreach(avc, &item->anon_vma->rb_root,
				       item->pgoff, item->pgoff) {
		struct vm_area_struct *vma = avc->vma;
		unsigned long addr = vma_address(vma, item->pgoff, 1);
		struct ksm_mm *heir;

		if (++*asked > MOST_AREAS)
			break;
		if (addr == -EFAULT ||
		    !(READ_ONCE(vma->vm_flags) & VM_MERGEABLE))
			continue;
		heir = ksm_registry_visit(vma->vm_mm);
		/* Listed already; by a page it had before, maybe, but it is known */
		if (!heir ||
		    ksm_rec_state(ksm_record_at(heir, addr)) == KSM_MERGED)
			continue;
		if (++looks > MOST_LOOKS)
			break;
		if (ksm_vma_maps(vma, addr, folio))
			return hand_over(item, heir, addr, folio_pfn(folio));
	}
	return 0;
}

/*
 * Returns 1 if the item has an heir now, 0 if there is none, or an error: the
 * page is locked, or there is no memory.
 */
static int pass_on(struct ksm_rmap_item *item, unsigned int *asked)
{
	struct anon_vma *anon_vma = item->anon_vma;
	struct folio *folio;
	u64 since;
	int ret;

	/* No area is left that it could lead to: so it is as a rule */
	if (RB_EMPTY_ROOT(&anon_vma->rb_root.rb_root))
		return 0;
	ret = ksm_node_grab(item->node, KSM_LOCK_TRY, &folio);
	if (ret)
		return ret == -ESTALE ? 0 : ret;
	if (folio_mapped(folio)) {
		anon_vma_lock_read(anon_vma);
		since = ksm_held_begin();
		ret = find_heir(item, folio, asked);
		anon_vma_unlock_read(anon_vma);
		ksm_held_end(KSM_HELD_ANON_VMA, since);
	}
	folio_unlock(folio);
	folio_put(folio);
	return ret;
}

/* Returns the work that it was; counts in @freed if the record is gone */
static unsigned int reap_record(struct ksm_mm *owner, struct ksm_block *block,
				unsigned int index, enum ksm_lock_mode mode,
				unsigned int *freed)
{
	u64 rec = ksm_record_get(block, index);
	unsigned int asked = 0;
	int ret = 0;

	/* Who takes all apart wants no heirs */
	if (mode == KSM_LOCK_TRY &&
	    READ_ONCE(ksm_knobs.run) != KSM_RUN_UNMERGE &&
	    ksm_rec_state(rec) == KSM_MERGED)
		ret = pass_on(ksm_rec_item(rec), &asked);
	if (!ret)
		ret = ksm_record_drop(owner, block, index, mode);
	*freed += ret > 0;
	return 1 + asked / 8;
}

/*
 * Reap one slice of one mm; true if anything of it could be freed.  Where there
 * are records that stay, the next slice goes on behind them.
 */
static bool reap_slice(struct ksm_mm *owner, enum ksm_lock_mode mode)
{
	struct ksm_block *block = ksm_block_from(owner, owner->reaped);
	unsigned int work = 0, freed = 0;

	while (block && work < SLICE_WORK) {
		struct ksm_block *next = ksm_block_next(block);
		u64 left;

		/* The last one first: so no record has to be moved */
		for (left = ksm_block_present(block); left; ) {
			unsigned int index = fls64(left) - 1;

			left &= ~BIT_ULL(index);
			work += reap_record(owner, block, index, mode, &freed);
		}
		if (!ksm_block_present(block)) {
			ksm_block_free(owner, block);
			freed++;
		}
		work++;
		block = next;
		cond_resched();
	}
	owner->reaped = block ? ksm_block_base(block) : 0;
	if (!RB_EMPTY_ROOT(&owner->blocks))
		return freed;
	ksm_registry_bury(owner);
	return true;
}

/**
 * ksm_reap - free what exited mms have left
 * @most: about how many slices to do
 *
 * A record stays for a later call if its page is locked, or if there is no memory
 * to pass it on.
 *
 * Context: ksmd, scan mutex; may sleep.
 * Return: false if nothing could be freed, and it is better to wait a moment.
 */
bool ksm_reap(unsigned int most)
{
	struct ksm_mm *owner;
	bool freed = false;

	while (most-- && (owner = ksm_registry_dead())) {
		freed |= reap_slice(owner, KSM_LOCK_TRY);
		cond_resched();
	}
	if (!ksm_stats.records)
		ksm_filter_fit(0);
	return freed;
}

/**
 * ksm_reap_all - free all that exited mms have left, waiting for locked pages
 *
 * On behalf of a user who takes all apart: nothing is passed on.
 *
 * Context: process, scan mutex, dropped and taken again in between; may sleep.
 * Return: 0, or -EINTR.
 */
int ksm_reap_all(void)
{
	struct ksm_mm *owner;

	while ((owner = ksm_registry_dead())) {
		reap_slice(owner, KSM_LOCK_WAIT);
		if (fatal_signal_pending(current))
			return -EINTR;
		ksm_breathe();
	}
	return 0;
}
