// SPDX-License-Identifier: GPL-2.0
/*
 * Rungs 2 and 3: pages that have no twin yet, and where a twin finds them.
 *
 * Such a page is listed in the filter, without an item; its record says
 * SETTLED.  It gets an item and a place in the unstable tree, as a CANDIDATE,
 * when the filter has no room for it, or when another page has its digest: the
 * two are to meet there.  If they turn out to differ, both stay, since the tree
 * orders equal digests by contents.  If one of them goes, the other gives its
 * item back at its next visit.
 *
 * All state here is under the scan mutex.
 */
#include "internal.h"

/**
 * ksm_twin_list - put a page into the unstable tree
 * @item: its item, in neither tree
 * @pos: the place for it
 * @nid: in which tree
 * @pfn: its frame; KSM_ANY_PFN if that is not known
 * @watched: will the dirty bit tell of its next store?
 * @streak: the reads since which it has not changed
 * @digest: its digest
 *
 * Context: scan mutex; the page has a record.
 */
void ksm_twin_list(struct ksm_rmap_item *item, struct ksm_unstable_pos *pos,
		   int nid, unsigned long pfn, bool watched,
		   unsigned int streak, u64 digest)
{
	ksm_unstable_insert(item, pos, nid, digest);
	item->pfn = pfn;
	item->watched = watched;
	item->streak = streak;
	ksm_record_set_at(item->owner, item->address,
			  ksm_rec_listed(KSM_CANDIDATE, item, 0));
}

/**
 * ksm_twin_take - take a page out of the unstable tree
 * @item: its item, in neither tree afterwards
 * @page: the page
 * @digest: its digest
 *
 * Its record is VOLATILE then.
 *
 * Context: scan mutex.
 * Return: @item.
 */
struct ksm_rmap_item *ksm_twin_take(struct ksm_rmap_item *item,
				    struct page *page, u64 digest)
{
	ksm_unstable_erase(item);
	ksm_record_set_at(item->owner, item->address,
			  ksm_rec_page(KSM_VOLATILE, 0, item->watched, page,
				       digest));
	return item;
}

/**
 * ksm_twin_settle - have a page wait for its twin
 * @block: the block of its record, which needs no item
 * @index: which page of it
 * @age: how often it was read and had not changed
 * @watched: will the dirty bit tell of its next store?
 * @pfn: its frame
 * @digest: its digest
 * @pos: its place in the unstable tree, if the filter has no room
 *
 * Context: scan mutex; may be called under mmap_lock.
 */
void ksm_twin_settle(struct ksm_block *block, unsigned int index,
		     unsigned int age, bool watched, unsigned long pfn,
		     u64 digest, struct ksm_unstable_pos *pos)
{
	struct ksm_mm *owner = ksm_block_owner(block);
	int nid = ksm_tree_nid(pfn);
	struct ksm_rmap_item *item;

	ksm_record_set(block, index,
		       ksm_rec_plain(KSM_SETTLED, age, watched,
				     ksm_frame_tag(pfn), digest));
	if (ksm_filter_add(block, index, nid))
		return;
	item = ksm_item_alloc(owner, ksm_block_addr(block, index),
			      KSM_GFP_LOCKED);
	if (item)
		ksm_twin_list(item, pos, nid, pfn, watched, age, digest);
	else
		ksm_record_set(block, index,
			       ksm_rec_plain(KSM_VOLATILE, 0, watched,
					     ksm_frame_tag(pfn), digest));
}

/**
 * ksm_twin_demote - give back the item of a page whose twin never came
 * @item: the item, in the unstable tree
 * @pfn: the page's frame
 *
 * Among equal digests all keep theirs: the tree orders them by contents.
 *
 * Context: scan mutex.
 * Return: true if the page is in the filter now, and the item is freed.
 */
bool ksm_twin_demote(struct ksm_rmap_item *item, unsigned long pfn)
{
	struct ksm_block *block = ksm_block_find(item->owner, item->address);
	unsigned int index = ksm_block_index(item->address);
	int nid = item->nid;

	if (!ksm_unstable_alone(item))
		return false;
	ksm_record_set(block, index,
		       ksm_rec_plain(KSM_SETTLED, item->streak, item->watched,
				     ksm_frame_tag(pfn), item->digest));
	if (!ksm_filter_add(block, index, nid)) {
		ksm_record_set(block, index,
			       ksm_rec_listed(KSM_CANDIDATE, item, 0));
		return false;
	}
	ksm_item_drop_candidate(item);
	return true;
}

/* The other way: a page of the filter is to meet its twin */
static struct ksm_rmap_item *promote(struct ksm_block *block,
				     unsigned int index, u64 digest, int nid,
				     struct ksm_unstable_pos *pos)
{
	u64 rec = ksm_record_get(block, index);
	struct ksm_rmap_item *item;

	item = ksm_item_alloc(ksm_block_owner(block),
			      ksm_block_addr(block, index), KSM_GFP_LOCKED);
	if (!item)
		return ERR_PTR(-ENOMEM);
	ksm_twin_list(item, pos, nid, KSM_ANY_PFN, ksm_rec_watched(rec),
		      ksm_rec_age(rec), digest);
	return item;
}

/**
 * ksm_twin_find - find a page with a digest
 * @pos: where to put the place that the search ended at
 * @nid: in which tree
 * @digest: the digest
 *
 * One that was in the filter gets an item, and goes to the unstable tree.
 *
 * Context: scan mutex; may be called under mmap_lock.
 * Return: as ksm_unstable_first(); or -ENOMEM.
 */
struct ksm_rmap_item *ksm_twin_find(struct ksm_unstable_pos *pos, int nid,
				    u64 digest)
{
	struct ksm_rmap_item *twin = ksm_unstable_first(pos, nid, digest);
	struct ksm_block *block;
	unsigned int index;

	if (twin || !ksm_filter_find(digest, nid, &block, &index))
		return twin;
	return promote(block, index, digest, nid, pos);
}
