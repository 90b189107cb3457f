// SPDX-License-Identifier: GPL-2.0
/*
 * Which items a stable node lists, and undoing it all: dropping items,
 * records and nodes.
 *
 * The item list of a node is read by reverse walks under the lock of the
 * merged page alone (rmap.c).  So it changes under that lock; or, if the page
 * has gone for good, without: nobody can get at the node any more, but
 * through the trees, under the scan mutex.
 *
 * A page that is locked by someone else is not waited for, other than on
 * behalf of a user who asked for it (KSM_LOCK_WAIT): it may be under slow
 * writeback.  Then the item stays listed, its record stays MERGED, and the
 * next visit tries again.
 */
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include "internal.h"
#include <trace/events/ksm.h>

/**
 * ksm_item_list - put an item on a stable node's list
 * @item: the item, in neither tree
 * @node: the node
 * @anon_vma: where the reverse walk will find the mapping
 * @pgoff: at which page offset
 *
 * Context: scan mutex, lock of the node's page; the caller keeps @anon_vma
 *	from going away meanwhile.
 */
void ksm_item_list(struct ksm_rmap_item *item, struct ksm_stable_node *node,
		   struct anon_vma *anon_vma, pgoff_t pgoff)
{
	lockdep_assert_held(&ksm_scan_mutex);
	get_anon_vma(anon_vma);
	item->state = KSM_MERGED;
	item->node = node;
	item->anon_vma = anon_vma;
	item->pgoff = pgoff;
	hlist_add_head(&item->link, &node->items);
	ksm_count_listed(item->owner, node->entry.count, 1);
	node->entry.count++;
	ksm_stable_room_changed(node);
}

/**
 * ksm_item_set_merged - have a page's record lead to its listed item
 * @item: the item
 * @pfn: the merged page's frame
 *
 * Context: scan mutex; the page has a record.
 */
void ksm_item_set_merged(struct ksm_rmap_item *item, unsigned long pfn)
{
	ksm_record_set_at(item->owner, item->address,
			  ksm_rec_listed(KSM_MERGED, item,
					 ksm_mapping_tag(pfn, item->pgoff)));
}

/* The page is locked, or gone for good */
static void unlist(struct ksm_rmap_item *item)
{
	struct ksm_stable_node *node = item->node;

	hlist_del(&item->link);
	ksm_count_listed(item->owner, node->entry.count, -1);
	node->entry.count--;
	ksm_stable_room_changed(node);
	put_anon_vma(item->anon_vma);
	item->state = KSM_NEW;
	if (node->entry.count)
		trace_ksm_remove_rmap_item(READ_ONCE(node->pfn), item,
					   item->owner->slot.mm);
}

/**
 * ksm_item_hand_over - let a listed item be another mm's
 * @item: the item, whose record the caller has cleared
 * @heir: that mm
 * @addr: where it has the page, at the page offset and in the anon_vma that
 *	the item names; its record is for the caller to set
 *
 * Context: scan mutex, lock of the node's page.
 */
void ksm_item_hand_over(struct ksm_rmap_item *item, struct ksm_mm *heir,
			unsigned long addr)
{
	struct ksm_stable_node *node = item->node;

	lockdep_assert_held(&ksm_scan_mutex);
	ksm_count_listed(item->owner, node->entry.count, -1);
	ksm_count_item(item->owner, -1);
	item->owner = heir;
	item->address = addr;
	ksm_count_item(heir, 1);
	ksm_count_listed(heir, node->entry.count - 1, 1);
}

/* Take a node without items, and without a page, out of the world */
static void discard(struct ksm_stable_node *node)
{
	trace_ksm_remove_ksm_page(READ_ONCE(node->pfn));
	if (node->anon_vma)
		put_anon_vma(node->anon_vma);
	ksm_stable_erase(node);
	ksm_stable_node_free(node);
}

/**
 * ksm_item_unlist - take an item off its stable node's list
 * @item: the item; in neither tree afterwards
 * @mode: KSM_LOCK_TRY or KSM_LOCK_WAIT
 *
 * A node that is left without items and without a page is freed, with
 * KSM_LOCK_TRY.  One whose page is still mapped, by a fork child not yet
 * visited, is kept.
 *
 * Context: scan mutex; mmap_lock only with KSM_LOCK_TRY.
 * Return: false if the page is locked by someone else; nothing changes then.
 */
bool ksm_item_unlist(struct ksm_rmap_item *item, enum ksm_lock_mode mode)
{
	struct ksm_stable_node *node = item->node;
	struct folio *folio;

	if (!node->entry.bereft) {
		int err = ksm_node_grab(node, mode, &folio);

		if (!err) {
			unlist(item);
			folio_unlock(folio);
			folio_put(folio);
			return true;
		}
		if (err != -ESTALE)
			return false;
		node->entry.bereft = true;
	}
	unlist(item);
	/* Who takes all apart drops the nodes at the end, in order */
	if (mode == KSM_LOCK_TRY && !node->entry.count)
		discard(node);
	return true;
}

/**
 * ksm_item_drop_candidate - free an item of the unstable tree
 * @item: the item; its record is for the caller to set
 *
 * Context: scan mutex.
 */
void ksm_item_drop_candidate(struct ksm_rmap_item *item)
{
	ksm_unstable_erase(item);
	ksm_item_free(item);
}

/**
 * ksm_record_drop - forget a page, and what its record leads to
 * @owner: the mm
 * @block: its block, or NULL
 * @index: which page of it
 * @mode: KSM_LOCK_TRY or KSM_LOCK_WAIT
 *
 * Context: as ksm_item_unlist().
 * Return: false if the item could not be unlisted: all is as it was.
 */
bool ksm_record_drop(struct ksm_mm *owner, struct ksm_block *block,
		     unsigned int index, enum ksm_lock_mode mode)
{
	u64 rec = ksm_record_get(block, index);

	if (ksm_rec_state(rec) == KSM_CANDIDATE) {
		ksm_item_drop_candidate(ksm_rec_item(rec));
	} else if (ksm_rec_state(rec) == KSM_MERGED) {
		struct ksm_rmap_item *item = ksm_rec_item(rec);

		if (!ksm_item_unlist(item, mode))
			return false;
		ksm_item_free(item);
	}
	ksm_record_clear(block, index);
	return true;
}

/**
 * ksm_record_forget - ksm_record_drop() by the address
 * @owner: the mm
 * @addr: the address
 *
 * Context: as ksm_item_unlist(), with KSM_LOCK_TRY.
 */
void ksm_record_forget(struct ksm_mm *owner, unsigned long addr)
{
	ksm_record_drop(owner, ksm_block_find(owner, addr),
			ksm_block_index(addr), KSM_LOCK_TRY);
}

/* Which pages of a block lie in a range of addresses */
static u64 block_mask(unsigned long base, unsigned long from, unsigned long to)
{
	u64 mask = ~0ULL;

	if (from > base)
		mask &= ~0ULL << ksm_block_index(from);
	if (to - base < KSM_BLOCK_SIZE)
		mask &= ~(~0ULL << ksm_block_index(to));
	return mask;
}

/**
 * ksm_records_in - is anything remembered of a range?
 * @owner: the mm
 * @from: begin of the range
 * @to: end of the range
 *
 * Context: scan mutex.
 * Return: true if there is a record, or a block that can be freed.
 */
bool ksm_records_in(struct ksm_mm *owner, unsigned long from, unsigned long to)
{
	struct ksm_block *block;

	for (block = ksm_block_from(owner, from);
	     block && ksm_block_base(block) < to; block = ksm_block_next(block)) {
		u64 mask = block_mask(ksm_block_base(block), from, to);
		u64 present = ksm_block_present(block);

		if (!present || (present & mask))
			return true;
	}
	return false;
}

/* Forget some pages of a block: ksm_record_drop() for many */
static void drop_in_block(struct ksm_mm *owner, struct ksm_block *block,
			  u64 mask, enum ksm_lock_mode mode)
{
	struct ksm_rmap_item *items[KSM_BLOCK_PAGES];
	u64 *rec = ksm_block_records(block), left;
	unsigned int nr = 0;

	for (left = ksm_block_present(block); left; left &= left - 1, rec++) {
		u64 page = left & -left;

		if (!(mask & page) || !ksm_rec_has_item(*rec))
			continue;
		items[nr] = ksm_rec_item(*rec);
		if (ksm_rec_state(*rec) == KSM_CANDIDATE)
			ksm_unstable_erase(items[nr]);
		else if (!ksm_item_unlist(items[nr], mode))
			mask &= ~page;
		if (mask & page && !WARN_ON_ONCE(items[nr]->state != KSM_NEW))
			nr++;
	}
	ksm_records_clear(block, mask);
	ksm_items_free(owner, items, nr);
}

/**
 * ksm_records_drop - forget the pages of a range
 * @owner: the mm
 * @from: begin of the range; moved on as far as was done
 * @to: end of the range
 * @most: about how many records to drop at most
 * @mode: KSM_LOCK_TRY or KSM_LOCK_WAIT
 *
 * Records whose page was locked stay, and are passed over.
 *
 * Context: as ksm_item_unlist().
 * Return: true if the end of the range was reached.
 */
bool ksm_records_drop(struct ksm_mm *owner, unsigned long *from,
		      unsigned long to, unsigned int most,
		      enum ksm_lock_mode mode)
{
	struct ksm_block *block = ksm_block_from(owner, *from);
	unsigned int done = 0;

	while (block && ksm_block_base(block) < to) {
		struct ksm_block *next = ksm_block_next(block);
		u64 mask = ksm_block_present(block) &
			   block_mask(ksm_block_base(block), *from, to);

		drop_in_block(owner, block, mask, mode);
		done += hweight64(mask);
		if (!ksm_block_present(block))
			ksm_block_free(owner, block);
		block = next;
		if (block && done >= most) {
			*from = min(ksm_block_base(block), to);
			return *from == to;
		}
	}
	*from = to;
	return true;
}

/**
 * ksm_node_drop - drop a stale node with all its items
 * @node: the node, whose page has gone
 * @most: but not more items than that
 *
 * Context: scan mutex.
 * Return: true if the node has gone; false if it has items left.
 */
bool ksm_node_drop(struct ksm_stable_node *node, unsigned int most)
{
	struct ksm_rmap_item *item;
	struct hlist_node *next;

	lockdep_assert_held(&ksm_scan_mutex);
	hlist_for_each_entry_safe(item, next, &node->items, link) {
		struct ksm_block *block;

		if (!most--)
			return false;
		block = ksm_block_find(item->owner, item->address);
		unlist(item);
		ksm_record_clear(block, ksm_block_index(item->address));
		ksm_item_free(item);
		cond_resched();
	}
	discard(node);
	return true;
}

/**
 * ksm_candidates_drop - empty the unstable trees
 *
 * The pages keep their digests, so their next visit lists them again; for a
 * change of what a tree is made for.
 *
 * Context: scan mutex; may sleep.
 */
void ksm_candidates_drop(void)
{
	int nid;

	lockdep_assert_held(&ksm_scan_mutex);
	for (nid = 0; nid < nr_node_ids; nid++) {
		struct rb_node *rb;

		while ((rb = rb_first(ksm_unstable_root(nid)))) {
			struct ksm_rmap_item *item;
			struct ksm_block *block;
			u64 rec;

			item = rb_entry(rb, struct ksm_rmap_item, rb);
			block = ksm_block_find(item->owner, item->address);
			rec = ksm_rec_plain(KSM_VOLATILE, 0, false, 0,
					    item->digest);
			ksm_record_set(block, ksm_block_index(item->address),
				       rec);
			ksm_item_drop_candidate(item);
			cond_resched();
		}
	}
}
