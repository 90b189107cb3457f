// SPDX-License-Identifier: GPL-2.0
/*
 * A page's way up the ladder (ksm.c), as far as one mmap_lock takes it.
 *
 * A block of pages is taken as far as can be under the mmap_lock that it was
 * found under: digests, records, the filter, the trees, and merging with pages
 * that are shared already (hit.c).  Pages that meet a candidate of another mm
 * are set aside for pair.c.
 *
 * All state here is under the scan mutex.
 */
#include <linux/cacheflush.h>
#include <linux/pagemap.h>
#include "internal.h"

/* ------------------------------------------------------------------ */
/* Rungs 2 and 3: is there a twin?                                     */
/* ------------------------------------------------------------------ */

static bool is_watched(const struct ksm_batch *batch, unsigned int index)
{
	return batch->watched & BIT_ULL(index);
}

static void release(struct ksm_batch *batch, unsigned int index)
{
	put_page(batch->page[index]);
	batch->page[index] = NULL;
}

/* Set a page aside.  Takes over the reference. */
static void set_aside(struct ksm_batch *batch, unsigned int index,
		      unsigned long addr, u64 digest)
{
	struct page *page = batch->page[index];
	struct ksm_climber *climber = ksm_aside_add(addr, digest);

	/* A split wants no reference but its own: look it up again then */
	if (PageCompound(page))
		release(batch, index);
	else
		climber->page = page;
}

/* Wait for a twin, or set the page aside for the one that is there */
static void seek_twin(struct ksm_batch *batch, struct ksm_block *block,
		      unsigned int index, u64 digest)
{
	struct page *page = batch->page[index];
	u64 rec = ksm_record_get(block, index);
	unsigned int age = ksm_rec_settled_age(rec);
	bool watched = is_watched(batch, index);
	unsigned long pfn = page_to_pfn(page);
	struct ksm_unstable_pos pos;
	struct ksm_rmap_item *twin;

	if (ksm_filter_lists(block, rec) &&
	    ksm_rec_tag(rec) == ksm_frame_tag(pfn)) {
		/* A twin would have found it */
		ksm_record_set(block, index,
			       ksm_rec_page(KSM_SETTLED, age, watched, page,
					    digest));
		release(batch, index);
		return;
	}
	ksm_filter_drop(block, index);
	twin = ksm_twin_find(&pos, ksm_tree_nid(pfn), digest);
	if (!twin) {
		ksm_twin_settle(block, index, age, watched, pfn, digest, &pos);
	} else if (!IS_ERR(twin) && twin->pfn == pfn) {
		/* The same frame, inherited by fork, is no twin */
		ksm_record_set(block, index,
			       ksm_rec_page(KSM_SETTLED, age, watched, page,
					    digest));
	} else if (!IS_ERR(twin)) {
		set_aside(batch, index, batch->base + index * PAGE_SIZE,
			  digest);
		return;
	}
	release(batch, index);
}

/* A candidate was read again and is as it was, where it was? */
static bool still_candidate(struct ksm_batch *batch, unsigned int index,
			    u64 rec)
{
	struct ksm_rmap_item *item = ksm_rec_item(rec);
	unsigned long pfn = page_to_pfn(batch->page[index]);

	/* For those that share the old frame by fork, it does not stand now */
	if (item->nid != ksm_tree_nid(pfn) ||
	    (item->pfn != pfn && item->pfn != KSM_ANY_PFN))
		return false;
	item->pfn = pfn;
	item->watched = is_watched(batch, index);
	if (item->streak < KSM_REC_AGE_MAX)
		item->streak++;
	ksm_twin_demote(item, pfn);
	return true;
}

/* Rungs 3 and 4, for a page that has not changed since the last look */
static void climb_unchanged(struct ksm_batch *batch, struct ksm_block *block,
			    unsigned int index, u64 digest)
{
	unsigned long addr = batch->base + index * PAGE_SIZE;
	u64 rec = ksm_record_get(block, index);
	struct page *page = batch->page[index];
	struct ksm_stable_node *node = NULL;
	enum ksm_found found;

	if (ksm_becomes_zero_page(batch->owner, page, digest))
		found = KSM_FOUND;
	else
		found = ksm_hit_find_room(batch->owner, batch->vma, page,
					  digest, &node);

	switch (found) {
	case KSM_FOUND:
		if (PageCompound(page))
			set_aside(batch, index, addr, digest);
		else
			ksm_hit_push(batch->owner, batch->vma, addr, page,
				     digest, node);
		return;
	case KSM_ABSENT:
	case KSM_FULL:
		if (ksm_rec_state(rec) == KSM_CANDIDATE) {
			if (still_candidate(batch, index, rec))
				break;
			ksm_item_free(ksm_twin_take(ksm_rec_item(rec), page,
						    digest));
		}
		seek_twin(batch, block, index, digest);
		return;
	default:
		ksm_hit_unsettle(batch->owner, addr);
		break;
	}
	release(batch, index);
}

static bool unchanged(u64 rec, u64 digest)
{
	switch (ksm_rec_state(rec)) {
	case KSM_CANDIDATE:
		return ksm_rec_item(rec)->digest == digest;
	case KSM_VOLATILE:
	case KSM_SETTLED:
		return ksm_rec_digest(rec) == digest;
	default:
		return false;
	}
}

/* A page is seen for the first time, or was written to */
static void note_change(struct ksm_batch *batch, struct ksm_block *block,
			unsigned int index, u64 digest)
{
	u64 rec = ksm_record_get(block, index);
	struct page *page = batch->page[index];
	unsigned int age = 0;

	switch (ksm_rec_state(rec)) {
	case KSM_NEW:
		ksm_drain_wanted(/* sure = */ true);
		break;
	case KSM_RESTLESS:
		/* So that the next look can tell whether it changes indeed */
		age = 1;
		break;
	case KSM_VOLATILE:
		age = ksm_rec_age(rec) + 1;
		fallthrough;
	case KSM_SETTLED:
		/* Another page than before is as new, even in the same frame */
		if (ksm_rec_tag(rec) != ksm_frame_tag(page_to_pfn(page)) ||
		    !folio_test_lru(page_folio(page)))
			ksm_drain_wanted(/* sure = */ true);
		break;
	default:
		/* Written to after it was listed, or replaced by another */
		if (!ksm_record_drop(batch->owner, block, index,
				     KSM_LOCK_TRY)) {
			release(batch, index);
			return;
		}
		ksm_drain_wanted(/* sure = */ true);
	}
	ksm_record_set(block, index,
		       ksm_rec_page(KSM_VOLATILE, age, is_watched(batch, index),
				    page, digest));
	release(batch, index);
}

/* ------------------------------------------------------------------ */
/* Rung 1, and who stops before it                                     */
/* ------------------------------------------------------------------ */

/* Read a page */
static void climb_page(struct ksm_batch *batch, struct ksm_block *block,
		       unsigned int index)
{
	unsigned long addr = batch->base + index * PAGE_SIZE;
	u64 rec = ksm_record_get(block, index);
	struct page *page = batch->page[index];
	u64 digest;

	/* A machine check here would be fatal; a pin may write any time */
	if (PageHWPoison(page) || folio_maybe_dma_pinned(page_folio(page))) {
		ksm_record_drop(batch->owner, block, index, KSM_LOCK_TRY);
		release(batch, index);
		return;
	}
	flush_anon_page(batch->vma, page, addr);
	flush_dcache_page(page);
	if (batch->known & BIT_ULL(index)) {
		climb_unchanged(batch, block, index, ksm_rec_digest(rec));
		return;
	}
	digest = ksm_digest_page(page);
	if (batch->calm & BIT_ULL(index))
		ksm_record_set(block, index,
			       ksm_rec_page(KSM_VOLATILE, 0, true, page,
					    digest));
	else if (!unchanged(rec, digest)) {
		note_change(batch, block, index, digest);
		return;
	}
	climb_unchanged(batch, block, index, digest);
}

/*
 * Rung 2, for a page that has not changed since it was read: true if it has no
 * twin, and need not be read again to be sure of that.
 *
 * A page that is settled but not listed shares its frame with one that is, by
 * fork; so they were found to when it was last read.  That one may have merged
 * since, and the frame be a shared page; or it may have gone, or the filter
 * have been renewed: then the page is listed now.
 */
static bool stays_unread(struct ksm_batch *batch, struct ksm_block *block,
			 unsigned int index)
{
	u64 rec = ksm_record_get(block, index), digest = ksm_rec_digest(rec);
	bool settled = ksm_rec_state(rec) == KSM_SETTLED;
	unsigned long pfn = batch->pfn[index];
	int nid = ksm_tree_nid(pfn);
	struct ksm_unstable_pos pos;
	struct ksm_rmap_item *twin;
	struct ksm_block *other;
	unsigned int at;

	if (ksm_filter_find(digest, nid, &other, &at))
		return settled && ksm_rec_tag(ksm_record_get(other, at)) ==
				  ksm_rec_tag(rec);
	twin = ksm_unstable_first(&pos, nid, digest);
	if (twin)
		return settled && twin->pfn == pfn;
	if (ksm_stable_has_digest(nid, digest) ||
	    (!settled && ksm_wants_zero_page(batch->owner, digest)))
		return false;
	ksm_twin_settle(block, index, settled ? ksm_rec_age(rec) : 0,
			ksm_rec_watched(rec), pfn, digest, &pos);
	return true;
}

/* Have a page read after all */
static void fetch(struct ksm_batch *batch, unsigned int index, bool watched)
{
	unsigned long addr = batch->base + index * PAGE_SIZE;
	struct page *page = ksm_scan_page(batch->vma, addr);

	if (!page)
		return;
	batch->page[index] = page;
	if (PageKsm(page))
		batch->adopt |= BIT_ULL(index);
	else
		batch->read |= BIT_ULL(index);
	batch->skipped--;
	/* It was clean a moment ago; what came later shows at its next visit */
	if (watched && page_to_pfn(page) == batch->pfn[index] &&
	    !PageKsm(page)) {
		batch->watched |= BIT_ULL(index);
		batch->known |= BIT_ULL(index);
	}
}

/* A prefetch for each of the pages that will be wanted, then a look at each */
static void climb_still(struct ksm_batch *batch, struct ksm_block *block)
{
	u64 left;

	for (left = batch->still; left; left &= left - 1) {
		unsigned int index = __ffs64(left);
		u64 rec = ksm_record_get(block, index);

		ksm_filter_prefetch(ksm_rec_digest(rec),
				    ksm_tree_nid(batch->pfn[index]));
	}
	for (left = batch->still; left; left &= left - 1) {
		unsigned int index = __ffs64(left);
		u64 rec = ksm_record_get(block, index);

		if (!stays_unread(batch, block, index))
			fetch(batch, index, ksm_rec_watched(rec));
	}
}

/*
 * A merged page that this mm got by fork, by mremap() or by swap-in: list it.
 * Its node may get more items than max_page_sharing by that; it is mapped so
 * often anyway.  The page lock keeps the node from changing hands.
 */
static void adopt(struct ksm_batch *batch, struct ksm_block *block,
		  unsigned int index)
{
	unsigned long addr = batch->base + index * PAGE_SIZE;
	struct folio *folio = page_folio(batch->page[index]);
	struct ksm_stable_node *node;
	struct ksm_rmap_item *item;
	u64 rec = ksm_record_get(block, index);

	/* Listed for this very place, it has just migrated */
	if (ksm_rec_state(rec) == KSM_MERGED &&
	    ksm_rec_item(rec)->node == ksm_folio_node(folio) &&
	    ksm_rec_item(rec)->pgoff == linear_page_index(batch->vma, addr)) {
		ksm_item_set_merged(ksm_rec_item(rec), folio_pfn(folio));
		return;
	}
	/* Not with the page locked: its old node may be the same page's */
	if (!ksm_record_drop(batch->owner, block, index, KSM_LOCK_TRY))
		return;
	item = ksm_item_alloc(batch->owner, addr, KSM_GFP_LOCKED);
	if (!item)
		return;
	if (!folio_trylock(folio))
		goto out_free;
	node = ksm_folio_node(folio);
	if (!node) {
		folio_unlock(folio);
		goto out_free;
	}
	ksm_item_list(item, node, batch->vma->anon_vma,
		      linear_page_index(batch->vma, addr));
	ksm_item_set_merged(item, folio_pfn(folio));
	folio_unlock(folio);
	return;

out_free:
	ksm_item_free(item);
}

/*
 * No memory for more records: let those pages go that have none, the next pass
 * will see them.  A page that has one may have been cleaned for this visit: it
 * must be read, or a change would be forgotten.
 */
static void give_up_new(struct ksm_batch *batch, struct ksm_block *block)
{
	u64 left = (batch->read | batch->adopt) &
		   ~(block ? ksm_block_present(block) : 0);

	batch->read &= ~left;
	batch->adopt &= ~left;
	for (; left; left &= left - 1)
		release(batch, __ffs64(left));
}

/**
 * ksm_climb_batch - take a batch as far as its own mm allows
 * @batch: the batch; its page references are used up
 *
 * Pages may be left set aside, see ksm_pair_pending().
 *
 * Context: scan mutex, within ksm_mm_begin() since ksm_scan_step().
 */
void ksm_climb_batch(struct ksm_batch *batch)
{
	struct ksm_mm *owner = batch->owner;
	struct ksm_timer timer;
	struct ksm_block *block;
	u64 left;

	block = ksm_block_find(owner, batch->base);
	for (left = batch->gone; left; left &= left - 1)
		ksm_record_drop(owner, block, __ffs64(left), KSM_LOCK_TRY);

	if (batch->still && !WARN_ON_ONCE(!block)) {
		timer = ksm_cost_begin();
		climb_still(batch, block);
		ksm_cost_end(timer, KSM_RUNG_FILTER, hweight64(batch->still));
	}
	left = batch->read | batch->adopt;
	if (left) {
		block = ksm_block_reserve(owner, batch->base, left, KSM_GFP_LOCKED);
		if (!block) {
			block = ksm_block_find(owner, batch->base);
			give_up_new(batch, block);
		}
	}
	for (left = batch->adopt; left; left &= left - 1) {
		adopt(batch, block, __ffs64(left));
		release(batch, __ffs64(left));
	}
	timer = ksm_cost_begin();
	for (left = batch->read; left; left &= left - 1)
		climb_page(batch, block, __ffs64(left));
	ksm_cost_end(timer, KSM_RUNG_READ, hweight64(batch->read));
	ksm_hit_flush(owner, batch->vma);
	ksm_block_left(owner, block);
}
