// SPDX-License-Identifier: GPL-2.0
/*
 * A page's way up the ladder (ksm.c), from its digest to its merge.
 *
 * A block of pages is first taken as far as can be under the mmap_lock that
 * it was found under: digests, records, and merging with pages that are
 * shared already (stable hits), in runs.
 *
 * A page A that meets a candidate B with its digest needs B's mm as well, and
 * two mmap_locks are never held at once.  Such pages are set aside with a
 * reference, A's mm is let go, and for each:
 *  1. B's page is found in B's mm and compared with A's.
 *  2. A stable node is made and put in its tree, then B's page made its page,
 *     with B's item listed.  From here on, all is consistent.
 *  3. Back in A's mm, A is a stable hit like any other.
 * If step 3 fails, B is alone with its shared page: it is unshared again.
 *
 * What may have changed when A's or B's mm is taken up again: anything.  So
 * the area is looked up anew, and merge.c checks that the PTE still maps the
 * very page that we hold, which its reference keeps from being reused, and
 * compares all bytes.  The trees change only under the scan mutex, which is
 * held throughout.
 *
 * All state here is under the scan mutex.
 */
#include <linux/cacheflush.h>
#include <linux/jiffies.h>
#include <linux/mmu_notifier.h>
#include <linux/pagemap.h>
#include <linux/swap.h>
#include "internal.h"

/*
 * Of a stale node that is in the way, so many items go at a time: there may be
 * a mmap_lock to be let go of.
 */
#define STALE_ITEMS	512

#define GFP_UNLOCKED	(GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN)
#define GFP_LOCKED	(GFP_NOWAIT | __GFP_NOWARN)

/**
 * struct climber - a page that was set aside
 * @addr: where it is
 * @digest: what it was found with
 * @page: the page, with a reference; NULL if it is part of a huge page
 * @hit: it is to become a stable hit; of @node, or the zero page if that is NULL
 * @node: the node that has room for it
 * @twin_owner: not NULL: the mm of the page that was made a shared one for it
 * @twin_addr: and where that is
 */
struct climber {
	unsigned long	addr;
	u64		digest;
	struct page	*page;
	bool		hit;
	struct ksm_stable_node *node;
	struct ksm_mm	*twin_owner;
	unsigned long	twin_addr;
};

static struct climber aside[KSM_BLOCK_PAGES];
static unsigned int nr_aside;

static struct ksm_merge_op ops[KSM_RUN_OPS];
static unsigned int nr_ops;

/* ksm_climb_finish() is at work: pages that fail now are not set aside again */
static bool finishing;

/* Pages were seen for the first time: they may wait in a CPU's LRU batch */
static bool wants_drain;
/* A page had references that were not all known */
static bool may_want_drain;
static unsigned long last_drain;	/* in jiffies */

/**
 * ksm_climb_wants_drain - would draining the per-CPU LRU batches help?
 *
 * A page that waits in such a batch has a reference too many to be merged.
 * New pages wait there; where others have one, draining is but a guess, and
 * not made more than once a second.
 *
 * Context: scan mutex.
 * Return: true if it would; false until that is so again.
 */
bool ksm_climb_wants_drain(void)
{
	bool wants = wants_drain ||
		     (may_want_drain && !time_in_range(jiffies, last_drain,
						      last_drain + HZ));

	if (wants) {
		wants_drain = false;
		may_want_drain = false;
		last_drain = jiffies;
	}
	return wants;
}

/* ------------------------------------------------------------------ */
/* Records                                                             */
/* ------------------------------------------------------------------ */

static void set_record(struct ksm_mm *owner, unsigned long addr, u64 rec)
{
	struct ksm_block *block = ksm_block_find(owner, addr);

	if (!WARN_ON_ONCE(!block))
		ksm_record_set(block, ksm_block_index(addr), rec);
}

static u64 plain_record(enum ksm_state state, unsigned int age, bool watched,
			struct page *page, u64 digest)
{
	return ksm_rec_plain(state, age, watched,
			     ksm_frame_tag(page_to_pfn(page)), digest);
}

static bool is_watched(const struct ksm_batch *batch, unsigned int index)
{
	return batch->watched & BIT_ULL(index);
}

static u64 get_record(struct ksm_mm *owner, unsigned long addr)
{
	return ksm_record_get(ksm_block_find(owner, addr),
			      ksm_block_index(addr));
}

static void set_merged(struct ksm_rmap_item *item, unsigned long pfn)
{
	set_record(item->owner, item->address,
		   ksm_rec_listed(KSM_MERGED, item,
				  ksm_mapping_tag(pfn, item->pgoff)));
}

/* A record, and one without an item */
static bool is_plain(u64 rec)
{
	return ksm_rec_state(rec) != KSM_NEW && !ksm_rec_has_item(rec);
}

static void forget(struct ksm_mm *owner, unsigned long addr)
{
	ksm_record_drop(owner, ksm_block_find(owner, addr),
			ksm_block_index(addr), KSM_LOCK_TRY);
}

/* Take a page's item out of the unstable tree, leaving its record VOLATILE */
static struct ksm_rmap_item *take_candidate(struct ksm_rmap_item *item,
					    struct page *page, u64 digest)
{
	ksm_unstable_erase(item);
	set_record(item->owner, item->address,
		   plain_record(KSM_VOLATILE, 0, item->watched, page, digest));
	return item;
}

/* An item for a page that is to be merged: its own, or a new one */
static struct ksm_rmap_item *item_for(struct ksm_mm *owner, unsigned long addr,
				      struct page *page, u64 digest)
{
	u64 rec = get_record(owner, addr);

	if (ksm_rec_state(rec) == KSM_CANDIDATE)
		return take_candidate(ksm_rec_item(rec), page, digest);
	return ksm_item_alloc(owner, addr, GFP_LOCKED);
}

/* Shall a page with that digest become the zero page, if it is all zeros? */
static bool wants_zero_page(struct ksm_mm *owner, u64 digest)
{
	return READ_ONCE(ksm_knobs.use_zero_pages) &&
	       ksm_digest_is_zero(digest) &&
	       ksm_mm_may_map_zero(owner->slot.mm);
}

/*
 * And is it?  Others may have that digest, and are not to be kept from their
 * twins; who needs to be sure compares again under write protection.
 */
static bool becomes_zero_page(struct ksm_mm *owner, struct page *page,
			      u64 digest)
{
	return wants_zero_page(owner, digest) &&
	       pages_identical(page, ZERO_PAGE(0));
}

/* ------------------------------------------------------------------ */
/* Stable hits                                                         */
/* ------------------------------------------------------------------ */

/* The op that holds the lock of a node's page already, if any */
static struct ksm_merge_op *op_on(struct ksm_stable_node *node)
{
	unsigned int i;

	for (i = 0; i < nr_ops; i++) {
		if (ops[i].node == node && node)
			return &ops[i];
	}
	return NULL;
}

static unsigned int ops_on(struct ksm_stable_node *node)
{
	unsigned int i, count = 0;

	for (i = 0; i < nr_ops; i++)
		count += ops[i].node == node;
	return count;
}

/* Make a place for a page to be set aside: they are kept by rising address */
static struct climber *add_aside(unsigned long addr, u64 digest)
{
	unsigned int i = nr_aside++;

	for (; i && aside[i - 1].addr > addr; i--)
		aside[i] = aside[i - 1];
	aside[i] = (struct climber) { .addr = addr, .digest = digest };
	return &aside[i];
}

/* A page that would merge, but for something passing, is to be tried again */
static void unsettle(struct ksm_mm *owner, unsigned long addr)
{
	u64 rec = get_record(owner, addr);

	if (ksm_rec_state(rec) == KSM_SETTLED)
		set_record(owner, addr,
			   ksm_rec_plain(KSM_VOLATILE, 0, ksm_rec_watched(rec),
					 ksm_rec_tag(rec),
					 ksm_rec_digest(rec)));
}

/* Release what an op holds, and write down its outcome */
static void finish_op(struct ksm_mm *owner, unsigned int i)
{
	struct ksm_merge_op *op = &ops[i];
	bool shared_lock = false;
	unsigned int j;

	for (j = i + 1; j < nr_ops; j++)
		shared_lock |= ops[j].kfolio == op->kfolio;
	if (op->kfolio && !shared_lock)
		folio_unlock(op->kfolio);
	if (op->kfolio)
		folio_put(op->kfolio);
	/* If the digest misled us, look for a twin with all bytes in hand */
	if (op->err == -EILSEQ && op->node && !finishing)
		add_aside(op->addr, op->digest)->page = op->page;
	else
		put_page(op->page);

	if (op->err == -EBUSY)
		may_want_drain = true;
	if (op->err) {
		ksm_item_free(op->item);
		unsettle(owner, op->addr);
	} else if (op->item) {
		set_merged(op->item, READ_ONCE(op->node->pfn));
	} else {
		/* It maps the zero page now, of which nothing is kept */
		forget(owner, op->addr);
	}
}

/*
 * Carry out the ops.  A secondary MMU loses all of the range it is told of, so
 * it is told of neighbours only.
 */
static void flush_ops(struct ksm_mm *owner, struct vm_area_struct *vma)
{
	bool notify = mm_has_notifiers(owner->slot.mm);
	struct ksm_timer timer = ksm_cost_begin();
	unsigned int from, to, i, nr = nr_ops;

	for (from = 0; from < nr_ops; from = to) {
		for (to = from + 1; to < nr_ops; to++) {
			if (notify &&
			    ops[to].addr != ops[to - 1].addr + PAGE_SIZE)
				break;
		}
		ksm_merge_run(vma, &ops[from], to - from);
	}
	for (i = 0; i < nr_ops; i++)
		finish_op(owner, i);
	nr_ops = 0;
	ksm_cost_end(timer, KSM_RUNG_MERGE, nr);
}

/* Get a node's page, locked, for one more op */
static bool grab_shared(struct ksm_stable_node *node, struct folio **kfolio)
{
	struct ksm_merge_op *other = op_on(node);

	if (!other)
		return !ksm_node_grab(node, KSM_LOCK_TRY, kfolio);
	*kfolio = other->kfolio;
	folio_get(*kfolio);
	return true;
}

/* Queue a stable hit; @node NULL is the zero page.  Takes over @page. */
static void push_op(struct ksm_mm *owner, struct vm_area_struct *vma,
		    unsigned long addr, struct page *page, u64 digest,
		    struct ksm_stable_node *node)
{
	struct ksm_merge_op op = {
		.addr = addr, .page = page, .node = node, .digest = digest,
	};

	if (nr_ops == KSM_RUN_OPS)
		flush_ops(owner, vma);
	if (node) {
		if (!grab_shared(node, &op.kfolio))
			goto out_page;
		op.item = item_for(owner, addr, page, digest);
		if (!op.item)
			goto out_folio;
	}
	ops[nr_ops++] = op;
	return;

out_folio:
	if (!op_on(node))
		folio_unlock(op.kfolio);
	folio_put(op.kfolio);
out_page:
	put_page(page);
	unsettle(owner, addr);
}

/* Look for a page's contents in the stable tree, dropping what is stale */
static enum ksm_found find_stable(struct page *page, u64 digest,
				  ksm_compare_fn compare,
				  struct ksm_stable_node **node)
{
	int nid = ksm_tree_nid(page_to_pfn(page));
	enum ksm_found found;

	while ((found = ksm_stable_find(nid, digest, compare, page, node)) ==
	       KSM_STALE)
		if (!ksm_node_drop(*node, STALE_ITEMS))
			return KSM_RETRY;
	/* A page that has just migrated waits for the sweep to place it */
	if (found == KSM_FOUND && ksm_tree_nid(READ_ONCE((*node)->pfn)) != nid)
		return KSM_RETRY;
	return found;
}

/* The same for a page that is to be an op, with those under way counted in */
static enum ksm_found find_room(struct ksm_mm *owner,
				struct vm_area_struct *vma, struct page *page,
				u64 digest, struct ksm_stable_node **node)
{
	enum ksm_found found = find_stable(page, digest, ksm_node_guess, node);

	if (found == KSM_FOUND && (*node)->entry.count + ops_on(*node) >=
				  ksm_knobs.max_page_sharing) {
		flush_ops(owner, vma);
		found = find_stable(page, digest, ksm_node_guess, node);
	}
	return found;
}

/* ------------------------------------------------------------------ */
/* Under the mmap_lock that the batch was found under                  */
/* ------------------------------------------------------------------ */

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
	struct climber *climber = add_aside(addr, digest);

	/* A split wants no reference but its own: look it up again then */
	if (PageCompound(page))
		release(batch, index);
	else
		climber->page = page;
}

/* ------------------------------------------------------------------ */
/* Rungs 2 and 3: is there a twin?                                     */
/* ------------------------------------------------------------------ */

static void insert_candidate(struct ksm_rmap_item *item,
			     struct ksm_unstable_pos *pos, int nid,
			     unsigned long pfn, bool watched,
			     unsigned int streak, u64 digest)
{
	ksm_unstable_insert(item, pos, nid, digest);
	item->pfn = pfn;
	item->watched = watched;
	item->streak = streak;
	set_record(item->owner, item->address,
		   ksm_rec_listed(KSM_CANDIDATE, item, 0));
}

/*
 * A page without a twin is listed in the filter; or, if there is no room, waits
 * in the unstable tree, whose place for it is at @pos.
 */
static void settle(struct ksm_block *block, unsigned int index,
		   unsigned int age, bool watched, unsigned long pfn,
		   u64 digest, struct ksm_unstable_pos *pos)
{
	struct ksm_mm *owner = block->owner;
	int nid = ksm_tree_nid(pfn);
	struct ksm_rmap_item *item;

	ksm_record_set(block, index,
		       ksm_rec_plain(KSM_SETTLED, age, watched,
				     ksm_frame_tag(pfn), digest));
	if (ksm_filter_add(block, index, nid))
		return;
	item = ksm_item_alloc(owner, block->base + index * PAGE_SIZE,
			      GFP_LOCKED);
	if (item)
		insert_candidate(item, pos, nid, pfn, watched, age, digest);
	else
		ksm_record_set(block, index,
			       ksm_rec_plain(KSM_VOLATILE, 0, watched,
					     ksm_frame_tag(pfn), digest));
}

/*
 * A candidate whose twin never came, or was none: its item is not needed.
 * Among equal digests all stay in the tree, which orders them by contents.
 */
static bool demote(struct ksm_rmap_item *item, unsigned long pfn)
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

	item = ksm_item_alloc(block->owner, block->base + index * PAGE_SIZE,
			      GFP_LOCKED);
	if (!item)
		return ERR_PTR(-ENOMEM);
	insert_candidate(item, pos, nid, KSM_ANY_PFN, ksm_rec_watched(rec),
			 ksm_rec_age(rec), digest);
	return item;
}

/*
 * Find a page with a digest, by its item in the unstable tree, which it gets
 * if it was in the filter; as ksm_unstable_first(), or -ENOMEM.
 */
static struct ksm_rmap_item *find_twin(struct ksm_unstable_pos *pos, int nid,
				       u64 digest)
{
	struct ksm_rmap_item *twin = ksm_unstable_first(pos, nid, digest);
	struct ksm_block *block;
	unsigned int index;

	if (twin || !ksm_filter_find(digest, nid, &block, &index))
		return twin;
	return promote(block, index, digest, nid, pos);
}

/* The age of a page that is found settled, once more or for the first time */
static unsigned int settled_age(u64 rec)
{
	return ksm_rec_state(rec) == KSM_SETTLED ? ksm_rec_age(rec) + 1 : 0;
}

/* Wait for a twin, or set the page aside for the one that is there */
static void seek_twin(struct ksm_batch *batch, struct ksm_block *block,
		      unsigned int index, u64 digest)
{
	struct page *page = batch->page[index];
	u64 rec = ksm_record_get(block, index);
	bool watched = is_watched(batch, index);
	unsigned long pfn = page_to_pfn(page);
	struct ksm_unstable_pos pos;
	struct ksm_rmap_item *twin;

	if (ksm_filter_lists(block, rec) &&
	    ksm_rec_tag(rec) == ksm_frame_tag(pfn)) {
		/* A twin would have found it */
		ksm_record_set(block, index,
			       plain_record(KSM_SETTLED, settled_age(rec),
					    watched, page, digest));
		release(batch, index);
		return;
	}
	ksm_filter_drop(block, index);
	twin = find_twin(&pos, ksm_tree_nid(pfn), digest);
	if (!twin) {
		settle(block, index, settled_age(rec), watched, pfn, digest,
		       &pos);
	} else if (!IS_ERR(twin) && twin->pfn == pfn) {
		/* The same frame, inherited by fork, is no twin */
		ksm_record_set(block, index,
			       plain_record(KSM_SETTLED, settled_age(rec),
					    watched, page, digest));
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
	demote(item, pfn);
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

	if (becomes_zero_page(batch->owner, page, digest))
		found = KSM_FOUND;
	else
		found = find_room(batch->owner, batch->vma, page, digest,
				  &node);

	switch (found) {
	case KSM_FOUND:
		if (PageCompound(page))
			set_aside(batch, index, addr, digest);
		else
			push_op(batch->owner, batch->vma, addr, page, digest,
				node);
		return;
	case KSM_ABSENT:
	case KSM_FULL:
		if (ksm_rec_state(rec) == KSM_CANDIDATE) {
			if (still_candidate(batch, index, rec))
				break;
			ksm_item_free(take_candidate(ksm_rec_item(rec), page,
						     digest));
		}
		seek_twin(batch, block, index, digest);
		return;
	default:
		unsettle(batch->owner, addr);
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
		wants_drain = true;
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
			wants_drain = true;
		break;
	default:
		/* Written to after it was listed, or replaced by another */
		if (!ksm_record_drop(batch->owner, block, index,
				     KSM_LOCK_TRY)) {
			release(batch, index);
			return;
		}
		wants_drain = true;
	}
	ksm_record_set(block, index,
		       plain_record(KSM_VOLATILE, age, is_watched(batch, index),
				    page, digest));
	release(batch, index);
}

/* Rung 1: read a page */
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
			       plain_record(KSM_VOLATILE, 0, true, page,
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
	    (!settled && wants_zero_page(batch->owner, digest)))
		return false;
	settle(block, index, settled ? ksm_rec_age(rec) : 0,
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
		set_merged(ksm_rec_item(rec), folio_pfn(folio));
		return;
	}
	/* Not with the page locked: its old node may be the same page's */
	if (!ksm_record_drop(batch->owner, block, index, KSM_LOCK_TRY))
		return;
	item = ksm_item_alloc(batch->owner, addr, GFP_LOCKED);
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
	set_merged(item, folio_pfn(folio));
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
static void give_up_new(struct ksm_batch *batch, const struct ksm_block *block)
{
	u64 left = (batch->read | batch->adopt) &
		   ~(block ? block->present : 0);

	batch->read &= ~left;
	batch->adopt &= ~left;
	for (; left; left &= left - 1)
		release(batch, __ffs64(left));
}

/**
 * ksm_climb_batch - take a batch as far as its own mm allows
 * @batch: the batch; its page references are used up
 *
 * Pages may be left set aside, see ksm_climb_pending().
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
		block = ksm_block_reserve(owner, batch->base, left, GFP_LOCKED);
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
	flush_ops(owner, batch->vma);
	if (block && !block->present)
		ksm_block_free(owner, block);
}

/**
 * ksm_climb_pending - are pages set aside?
 *
 * Context: scan mutex.
 * Return: true if ksm_climb_finish() has work.
 */
bool ksm_climb_pending(void)
{
	return nr_aside;
}

/* ------------------------------------------------------------------ */
/* With no mmap_lock held                                              */
/* ------------------------------------------------------------------ */

enum pairing {
	PAIR_MADE,	/* B's page is a shared page now */
	PAIR_BEFORE,	/* A's contents sort before B's */
	PAIR_AFTER,	/* and after */
	PAIR_GONE,	/* B is no candidate any more */
	PAIR_SAME,	/* A and B are one page, mapped twice */
	PAIR_SPLIT,	/* They are equal, but A is part of a huge page */
	PAIR_NOT_NOW,	/* A or B cannot be merged just now */
};

/* Find a page's place among the shared ones, and put a node for it there */
static struct ksm_stable_node *new_node(struct page *page, u64 digest)
{
	struct ksm_chain *spare = ksm_chain_alloc(GFP_LOCKED);
	struct ksm_stable_node *node, *obstacle;
	enum ksm_found found = KSM_RETRY;

	node = ksm_stable_node_alloc(digest, GFP_LOCKED);
	if (node && spare) {
		node->pfn = page_to_pfn(page);
		while ((found = ksm_stable_insert(node,
						  ksm_tree_nid(node->pfn),
						  ksm_node_compare, page,
						  &spare, &obstacle)) ==
		       KSM_STALE) {
			if (!ksm_node_drop(obstacle, STALE_ITEMS))
				break;
		}
	}
	ksm_chain_free(spare);
	if (found == KSM_FOUND)
		return node;
	ksm_stable_node_free(node);
	return NULL;
}

/* Step 2: make B's page, which equals A's, a shared page */
static enum pairing convert(struct vm_area_struct *vma,
			    struct ksm_rmap_item *b, struct page *page_b,
			    struct ksm_stable_node **made)
{
	struct ksm_stable_node *node;
	unsigned long addr = b->address;
	u64 digest = b->digest;
	int err;

	/* Who holds a part of a huge page may do so for ever: others go on */
	if (ksm_page_split(page_b)) {
		may_want_drain = true;
		return PAIR_GONE;
	}
	node = new_node(page_b, digest);
	if (!node)
		return PAIR_NOT_NOW;
	take_candidate(b, page_b, digest);
	err = ksm_merge_make(vma, addr, page_b, node, b);
	if (!err) {
		set_merged(b, page_to_pfn(page_b));
		*made = node;
		return PAIR_MADE;
	}
	if (err == -EBUSY)
		may_want_drain = true;
	ksm_stable_erase(node);
	ksm_stable_node_free(node);
	ksm_item_free(b);
	return PAIR_GONE;
}

/* Compare A's page with B's, in B's mm */
static enum pairing pair_in(struct vm_area_struct *vma,
			    struct ksm_rmap_item *b, struct page *page_a,
			    struct ksm_stable_node **made)
{
	struct page *page_b = ksm_scan_page(vma, b->address);
	enum pairing pairing = PAIR_GONE;
	int order;

	if (!page_b)
		return pairing;
	if (PageKsm(page_b) || PageHWPoison(page_b) ||
	    b->nid != ksm_tree_nid(page_to_pfn(page_b)))
		goto out;
	if (page_a == page_b) {
		b->pfn = page_to_pfn(page_b);
		pairing = PAIR_SAME;
		goto out;
	}
	flush_anon_page(vma, page_b, b->address);
	flush_dcache_page(page_b);
	order = ksm_page_cmp(page_a, page_b);
	/*
	 * One that MADV_FREE gave up may stay so, and one that has MTE tags has
	 * no twin at all: others are not to wait.
	 */
	if (!order && (!folio_test_swapbacked(page_folio(page_b)) ||
		       (IS_ENABLED(CONFIG_ARM64_MTE) &&
			!pages_identical(page_a, page_b))))
		pairing = PAIR_GONE;
	else if (!order && PageCompound(page_a))
		pairing = PAIR_SPLIT;
	else if (!order)
		pairing = convert(vma, b, page_b, made);
	else if (ksm_digest_page(page_b) != b->digest)
		pairing = PAIR_GONE;
	else
		pairing = order < 0 ? PAIR_BEFORE : PAIR_AFTER;
out:
	put_page(page_b);
	return pairing;
}

static enum pairing pair_with(struct ksm_rmap_item *b, struct page *page_a,
			      struct ksm_stable_node **made)
{
	enum pairing pairing = PAIR_GONE;
	unsigned long addr = b->address;
	struct ksm_mm *owner = b->owner;
	struct vm_area_struct *vma;

	if (ksm_mm_begin(owner)) {
		vma = ksm_vma_at(owner->slot.mm, addr);
		if (vma)
			pairing = pair_in(vma, b, page_a, made);
		ksm_mm_end(owner);
	}
	/* If B is still listed, it is not what it was listed as */
	if (pairing == PAIR_GONE &&
	    ksm_rec_state(get_record(owner, addr)) == KSM_CANDIDATE)
		forget(owner, addr);
	return pairing;
}

/*
 * May A be merged, as far as can be told without its PTE?  If a reference is
 * unaccounted for, making B a shared page would most likely be in vain.
 */
static bool worth_pairing(struct page *page)
{
	struct folio *folio = page_folio(page);

	if (!folio_test_swapbacked(folio))
		return false;	/* on its way to be dropped */
	if (folio_ref_count(folio) <= folio_mapcount(folio) + 1 +
				      folio_test_swapcache(folio))
		return true;
	may_want_drain = true;
	return false;
}

/* How many of those that were set aside will go to this node? */
static unsigned int planned(const struct ksm_stable_node *node)
{
	unsigned int i, count = 0;

	for (i = 0; i < nr_aside; i++)
		count += aside[i].hit && aside[i].node == node;
	return count;
}

/* A has no twin: it waits for one, where the search ended */
static void settle_alone(struct ksm_mm *owner, struct climber *a, bool beside,
			 struct ksm_unstable_pos *pos)
{
	struct ksm_block *block = ksm_block_find(owner, a->addr);
	unsigned int index = ksm_block_index(a->addr);
	u64 rec = ksm_record_get(block, index);
	unsigned long pfn = page_to_pfn(a->page);
	struct ksm_rmap_item *item;

	if (!is_plain(rec))
		return;
	if (!beside) {
		settle(block, index, 0, ksm_rec_watched(rec), pfn, a->digest,
		       pos);
		return;
	}
	/* Others have that digest: the order among them is the tree's affair */
	item = ksm_item_alloc(owner, a->addr, GFP_UNLOCKED);
	if (item)
		insert_candidate(item, pos, ksm_tree_nid(pfn), pfn,
				 ksm_rec_watched(rec), 0, a->digest);
}

/* A and B are one page: B is listed for both, as it was before we came */
static void settle_same(struct ksm_mm *owner, struct climber *a,
			struct ksm_rmap_item *b)
{
	u64 rec = get_record(owner, a->addr);

	demote(b, b->pfn);
	if (is_plain(rec))
		set_record(owner, a->addr,
			   plain_record(KSM_SETTLED, settled_age(rec),
					ksm_rec_watched(rec), a->page,
					a->digest));
}

/*
 * Step 1 for one page: true if it is to become a stable hit.  Of a chain, the
 * node found is the one that was made last; those before have all the sharers
 * they can have, planned ones counted in.
 */
static bool seek_partner(struct ksm_mm *owner, struct climber *a)
{
	int nid = ksm_tree_nid(page_to_pfn(a->page));
	struct ksm_unstable_pos pos;
	struct ksm_rmap_item *b;
	enum ksm_found found;
	bool beside = false;

	if (becomes_zero_page(owner, a->page, a->digest))
		return !ksm_page_split(a->page);
	found = find_stable(a->page, a->digest, ksm_node_compare, &a->node);
	if (found == KSM_FOUND && a->node->entry.count + planned(a->node) <
				  ksm_knobs.max_page_sharing)
		return !ksm_page_split(a->page);
	if (found == KSM_RETRY || !worth_pairing(a->page))
		return false;

	b = find_twin(&pos, nid, a->digest);
	while (!IS_ERR_OR_NULL(b)) {
		a->twin_owner = b->owner;
		a->twin_addr = b->address;
		switch (pair_with(b, a->page, &a->node)) {
		case PAIR_MADE:
			return true;
		case PAIR_BEFORE:
			beside = true;
			b = ksm_unstable_next(&pos, b, a->digest, false);
			break;
		case PAIR_AFTER:
			beside = true;
			b = ksm_unstable_next(&pos, b, a->digest, true);
			break;
		case PAIR_GONE:
			beside = false;
			b = find_twin(&pos, nid, a->digest);
			break;
		case PAIR_SPLIT:
			if (ksm_page_split(a->page))
				goto not_now;
			break;		/* and try the same B again */
		case PAIR_SAME:
			settle_same(owner, a, b);
			goto not_now;
		case PAIR_NOT_NOW:
			goto not_now;
		}
	}
	if (!b)
		settle_alone(owner, a, beside, &pos);
not_now:
	a->twin_owner = NULL;
	return false;
}

/* Get a page that is part of a huge page; it is split only for a twin */
static struct page *extract(struct ksm_mm *owner, unsigned long addr,
			    u64 digest)
{
	struct vm_area_struct *vma;
	struct page *page = NULL;

	if (!ksm_mm_begin(owner))
		return NULL;
	vma = ksm_vma_at(owner->slot.mm, addr);
	if (vma)
		page = ksm_scan_page(vma, addr);
	if (page && (PageKsm(page) || PageHWPoison(page) ||
		     ksm_digest_page(page) != digest)) {
		put_page(page);
		page = NULL;
	}
	ksm_mm_end(owner);
	return page;
}

/* Step 3, for all that were set aside.  Uses up the references. */
static void merge_hits(struct ksm_mm *owner)
{
	struct vm_area_struct *vma = NULL;
	bool begun = ksm_mm_begin(owner);
	struct ksm_stable_node *node;
	unsigned int i;

	for (i = 0; i < nr_aside; i++) {
		struct climber *a = &aside[i];

		if (!a->page)
			continue;
		if (begun && a->hit && (!vma || a->addr >= vma->vm_end)) {
			if (vma)
				flush_ops(owner, vma);
			vma = ksm_vma_at(owner->slot.mm, a->addr);
		}
		node = NULL;
		if (!begun || !a->hit || !vma || a->addr < vma->vm_start)
			put_page(a->page);
		else if (becomes_zero_page(owner, a->page, a->digest))
			push_op(owner, vma, a->addr, a->page, a->digest, NULL);
		else if (find_room(owner, vma, a->page, a->digest, &node) ==
			 KSM_FOUND)
			push_op(owner, vma, a->addr, a->page, a->digest, node);
		else
			put_page(a->page);
	}
	if (vma)
		flush_ops(owner, vma);
	if (begun)
		ksm_mm_end(owner);
}

/* A shared page that nobody came to share costs its owner a fault for nothing */
static void unshare_lone(struct ksm_mm *owner, unsigned long addr)
{
	u64 rec = get_record(owner, addr);
	struct vm_area_struct *vma;

	if (ksm_rec_state(rec) != KSM_MERGED ||
	    ksm_rec_item(rec)->node->entry.count != 1 || !ksm_mm_begin(owner))
		return;
	vma = ksm_vma_at(owner->slot.mm, addr);
	if (vma) {
		unsigned int most = UINT_MAX;
		unsigned long from = addr;

		ksm_unshare_some(vma, &from, addr + PAGE_SIZE, &most);
	}
	ksm_mm_end(owner);
	forget(owner, addr);
}

/**
 * ksm_climb_finish - take the pages that were set aside to their end
 * @owner: the mm of the batch
 *
 * Context: scan mutex, no mmap_lock; may sleep.
 */
void ksm_climb_finish(struct ksm_mm *owner)
{
	struct ksm_timer timer = ksm_cost_begin();
	unsigned int i, nr = nr_aside;

	finishing = true;
	for (i = 0; i < nr_aside; i++) {
		struct climber *a = &aside[i];

		if (!a->page)
			a->page = extract(owner, a->addr, a->digest);
		if (a->page)
			a->hit = seek_partner(owner, a);
		/* As a candidate now, it may be the partner of the next */
		if (a->page && !a->hit) {
			put_page(a->page);
			a->page = NULL;
		}
	}
	merge_hits(owner);
	for (i = 0; i < nr_aside; i++) {
		if (aside[i].twin_owner)
			unshare_lone(aside[i].twin_owner, aside[i].twin_addr);
	}
	nr_aside = 0;
	finishing = false;
	ksm_cost_end(timer, KSM_RUNG_MERGE, nr);
}
