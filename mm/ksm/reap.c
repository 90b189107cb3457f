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
 * the scan mutex; the page lock keeps the page mapped or not, and the anon_vma
 * lock keeps the area, its bounds and its mm.  An entry that the registry gives
 * out is not freed but by us.  If the child exits now, the item is reaped once
 * more; if it unmaps the page or writes to it, that is seen where its record is
 * visited, as ever.
 */
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>
#include "../internal.h"
#include "internal.h"

#define SLICE_RECORDS	512

/* Areas looked at for one item: thousands may have an anon_vma in common */
#define MOST_AREAS	32

static bool is_mapped(struct folio *folio, struct vm_area_struct *vma,
		      unsigned long addr)
{
	DEFINE_FOLIO_VMA_WALK(pvmw, folio, vma, addr, 0);

	if (!page_vma_mapped_walk(&pvmw))
		return false;
	page_vma_mapped_walk_done(&pvmw);
	return true;
}

/* Give an item to another mm, which maps the page as well, but knows it not */
static bool hand_over(struct ksm_rmap_item *item, struct ksm_mm *heir,
		      unsigned long addr, unsigned long pfn)
{
	unsigned int index = ksm_block_index(addr);
	struct ksm_block *block;

	/* If this is some other page's, its next visit sets that right */
	if (ksm_rec_state(ksm_record_at(heir, addr)) == KSM_MERGED)
		return false;
	block = ksm_block_reserve(heir, addr & KSM_BLOCK_MASK, BIT_ULL(index),
				  KSM_GFP_LOCKED);
	if (!block)
		return false;
	ksm_record_drop(heir, block, index, KSM_LOCK_TRY);
	ksm_record_clear(ksm_block_find(item->owner, item->address),
			 ksm_block_index(item->address));
	ksm_item_hand_over(item, heir, addr);
	ksm_item_set_merged(item, pfn);
	return true;
}

static bool find_heir(struct ksm_rmap_item *item, struct folio *folio)
{
	unsigned int left = MOST_AREAS;
	struct anon_vma_chain *avc;

	anon_vma_interval_tree_foreach(avc, &item->anon_vma->rb_root,
				       item->pgoff, item->pgoff) {
		struct vm_area_struct *vma = avc->vma;
		unsigned long addr = vma_address(vma, item->pgoff, 1);
		struct ksm_mm *heir;

		if (!left--)
			break;
		if (addr == -EFAULT ||
		    !(READ_ONCE(vma->vm_flags) & VM_MERGEABLE) ||
		    !is_mapped(folio, vma, addr))
			continue;
		heir = ksm_registry_visit(vma->vm_mm);
		if (heir && hand_over(item, heir, addr, folio_pfn(folio)))
			return true;
	}
	return false;
}

/* Returns 1 if the item has an heir, 0 if not, -EBUSY if it cannot be told */
static int pass_on(struct ksm_rmap_item *item)
{
	struct anon_vma *anon_vma = item->anon_vma;
	struct folio *folio;
	int ret = 0;
	u64 since;

	/* No area is left that it could lead to: so it is as a rule */
	if (RB_EMPTY_ROOT(&anon_vma->rb_root.rb_root))
		return 0;
	switch (ksm_node_grab(item->node, KSM_LOCK_TRY, &folio)) {
	case 0:
		break;
	case -ESTALE:
		return 0;
	default:
		return -EBUSY;
	}
	if (folio_mapped(folio)) {
		if (anon_vma_trylock_read(anon_vma)) {
			since = ksm_held_begin();
			ret = find_heir(item, folio);
			anon_vma_unlock_read(anon_vma);
			ksm_held_end(KSM_HELD_ANON_VMA, since);
		} else {
			ret = -EBUSY;
		}
	}
	folio_unlock(folio);
	folio_put(folio);
	return ret;
}

static void reap_record(struct ksm_mm *owner, struct ksm_block *block,
			unsigned int index, enum ksm_lock_mode mode)
{
	u64 rec = ksm_record_get(block, index);

	/* Who takes all apart wants no heirs */
	if (mode == KSM_LOCK_TRY && ksm_rec_state(rec) == KSM_MERGED &&
	    pass_on(ksm_rec_item(rec)))
		return;
	ksm_record_drop(owner, block, index, mode);
}

/*
 * Reap one slice of one mm; true if anything of it could be freed.  Where there
 * are records that stay, the next slice goes on behind them.
 */
static bool reap_slice(struct ksm_mm *owner, enum ksm_lock_mode mode)
{
	struct ksm_block *block = ksm_block_from(owner, owner->reaped);
	unsigned long before = owner->bytes;
	unsigned int done = 0;

	while (block && done < SLICE_RECORDS) {
		struct ksm_block *next = ksm_block_next(block);
		u64 present = block->present;

		/* The last one first: so no record has to be moved */
		for (; present; done++) {
			unsigned int index = fls64(present) - 1;

			present &= ~BIT_ULL(index);
			reap_record(owner, block, index, mode);
		}
		if (!block->present)
			ksm_block_free(owner, block);
		block = next;
	}
	owner->reaped = block ? block->base : 0;
	if (RB_EMPTY_ROOT(&owner->blocks)) {
		ksm_registry_bury(owner);
		return true;
	}
	return owner->bytes != before;
}

/**
 * ksm_reap - free what exited mms have left
 * @most: about how many slices to do
 *
 * A record whose page is locked stays for a later call.
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
