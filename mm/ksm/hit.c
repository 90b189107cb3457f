// SPDX-License-Identifier: GPL-2.0
/*
 * Stable hits: pages that equal one that is shared already.
 *
 * They merge in runs, under one hold of the page-table lock, so they are queued
 * until a run is full, or its mmap_lock is about to be let go.  Until then the
 * shared pages are kept locked.
 *
 * Pages that may become hits, but not under this mmap_lock, are set aside for
 * pair.c: those that need a partner of another mm, those that are part of a
 * huge page, and those whose digest misled us.
 *
 * All state here is under the scan mutex.
 */
#include <linux/jiffies.h>
#include <linux/mmu_notifier.h>
#include <linux/pagemap.h>
#include "internal.h"

struct ksm_aside ksm_aside;

static struct ksm_merge_op ops[KSM_RUN_OPS];
static unsigned int nr_ops;

/* Pages were seen for the first time: they may wait in a CPU's LRU batch */
static bool wants_drain;
/* A page had references that were not all known */
static bool may_want_drain;
static unsigned long last_drain;	/* in jiffies */

/* ------------------------------------------------------------------ */
/* References that are in the way                                      */
/* ------------------------------------------------------------------ */

/**
 * ksm_drain_wanted - draining the per-CPU LRU batches would help
 * @sure: there are new pages; false if a page has references of somebody's
 *
 * Context: scan mutex.
 */
void ksm_drain_wanted(bool sure)
{
	if (sure)
		wants_drain = true;
	else
		may_want_drain = true;
}

/**
 * ksm_drain_due - is it time to drain the per-CPU LRU batches?
 *
 * A page that waits in such a batch has a reference too many to be merged.
 * New pages wait there; where others have one, draining is but a guess, and
 * not made more than once a second.
 *
 * Context: scan mutex.
 * Return: true if so; false until it is wanted again.
 */
bool ksm_drain_due(void)
{
	bool due = wants_drain ||
		   (may_want_drain && !time_in_range(jiffies, last_drain,
						     last_drain + HZ));

	if (due) {
		wants_drain = false;
		may_want_drain = false;
		last_drain = jiffies;
	}
	return due;
}

/* ------------------------------------------------------------------ */
/* The zero page                                                       */
/* ------------------------------------------------------------------ */

/**
 * ksm_wants_zero_page - shall a page become the zero page, if it is all zeros?
 * @owner: its mm
 * @digest: its digest
 *
 * Context: any.
 * Return: true if so.
 */
bool ksm_wants_zero_page(struct ksm_mm *owner, u64 digest)
{
	return READ_ONCE(ksm_knobs.use_zero_pages) &&
	       ksm_digest_is_zero(digest) &&
	       ksm_mm_may_map_zero(owner->slot.mm);
}

/**
 * ksm_becomes_zero_page - and is it?
 * @owner: its mm
 * @page: the page, with a reference
 * @digest: its digest
 *
 * Others may have that digest, and are not to be kept from their twins; who
 * needs to be sure compares again under write protection.
 *
 * Context: any.
 * Return: true if so.
 */
bool ksm_becomes_zero_page(struct ksm_mm *owner, struct page *page, u64 digest)
{
	return ksm_wants_zero_page(owner, digest) &&
	       pages_identical(page, ZERO_PAGE(0));
}

/* ------------------------------------------------------------------ */
/* Pages set aside                                                     */
/* ------------------------------------------------------------------ */

/**
 * ksm_aside_add - set a page aside
 * @addr: where it is
 * @digest: what it was found with
 *
 * Context: scan mutex; at most once for each page of a batch.
 * Return: its place, to be filled in.
 */
struct ksm_climber *ksm_aside_add(unsigned long addr, u64 digest)
{
	struct ksm_climber *page = ksm_aside.page;
	unsigned int i = ksm_aside.nr++;

	for (; i && page[i - 1].addr > addr; i--)
		page[i] = page[i - 1];
	page[i] = (struct ksm_climber) { .addr = addr, .digest = digest };
	return &page[i];
}

/* ------------------------------------------------------------------ */
/* Runs                                                                */
/* ------------------------------------------------------------------ */

/**
 * ksm_hit_unsettle - try a page again, that did not merge for a passing reason
 * @owner: its mm
 * @addr: where it is
 *
 * Context: scan mutex.
 */
void ksm_hit_unsettle(struct ksm_mm *owner, unsigned long addr)
{
	u64 rec = ksm_record_at(owner, addr);

	if (ksm_rec_state(rec) == KSM_SETTLED)
		ksm_record_set_at(owner, addr,
				  ksm_rec_plain(KSM_VOLATILE, 0,
						ksm_rec_watched(rec),
						ksm_rec_tag(rec),
						ksm_rec_digest(rec)));
}

/* An item for a page that is to be merged: its own, or a new one */
static struct ksm_rmap_item *item_for(struct ksm_mm *owner, unsigned long addr,
				      struct page *page, u64 digest)
{
	u64 rec = ksm_record_at(owner, addr);

	if (ksm_rec_state(rec) == KSM_CANDIDATE)
		return ksm_twin_take(ksm_rec_item(rec), page, digest);
	return ksm_item_alloc(owner, addr, KSM_GFP_LOCKED);
}

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
	if (op->err == -EILSEQ && op->node && !ksm_aside.closed)
		ksm_aside_add(op->addr, op->digest)->page = op->page;
	else
		put_page(op->page);

	if (op->err == -EBUSY)
		ksm_drain_wanted(/* sure = */ false);
	if (op->err) {
		ksm_item_free(op->item);
		ksm_hit_unsettle(owner, op->addr);
	} else if (op->item) {
		ksm_item_set_merged(op->item, READ_ONCE(op->node->pfn));
	} else {
		/* It maps the zero page now, of which nothing is kept */
		ksm_record_forget(owner, op->addr);
	}
}

/**
 * ksm_hit_flush - merge the hits that are queued
 * @owner: their mm
 * @vma: and area
 *
 * A secondary MMU loses all of the range it is told of, so it is told of
 * neighbours only.
 *
 * Context: scan mutex, within ksm_mm_begin() since they were queued.
 */
void ksm_hit_flush(struct ksm_mm *owner, struct vm_area_struct *vma)
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

/**
 * ksm_hit_push - queue a hit
 * @owner: the page's mm
 * @vma: and area, that of all that are queued
 * @addr: where it is
 * @page: the page, with a reference, which is used up
 * @digest: its digest
 * @node: the node that it hit; NULL is the zero page
 *
 * Context: scan mutex, within ksm_mm_begin(), which must not end before
 *	ksm_hit_flush().
 */
void ksm_hit_push(struct ksm_mm *owner, struct vm_area_struct *vma,
		  unsigned long addr, struct page *page, u64 digest,
		  struct ksm_stable_node *node)
{
	struct ksm_merge_op op = {
		.addr = addr, .page = page, .node = node, .digest = digest,
	};

	if (nr_ops == KSM_RUN_OPS)
		ksm_hit_flush(owner, vma);
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
	ksm_hit_unsettle(owner, addr);
}

/**
 * ksm_hit_find - look for a page's contents in the stable tree
 * @page: the page, with a reference
 * @digest: its digest
 * @compare: ksm_node_compare() or ksm_node_guess()
 * @node: where to put what is found
 *
 * Stale nodes in the way are dropped.
 *
 * Context: scan mutex; may be called under mmap_lock.
 * Return: as ksm_stable_find(), but not KSM_STALE.
 */
enum ksm_found ksm_hit_find(struct page *page, u64 digest,
			    ksm_compare_fn compare,
			    struct ksm_stable_node **node)
{
	int nid = ksm_tree_nid(page_to_pfn(page));
	enum ksm_found found;

	while ((found = ksm_stable_find(nid, digest, compare, page, node)) ==
	       KSM_STALE)
		if (!ksm_node_drop(*node, KSM_STALE_ITEMS))
			return KSM_RETRY;
	/* A page that has just migrated waits for the sweep to place it */
	if (found == KSM_FOUND && ksm_tree_nid(READ_ONCE((*node)->pfn)) != nid)
		return KSM_RETRY;
	return found;
}

/**
 * ksm_hit_find_room - look for a node that a page may hit
 * @owner: the page's mm
 * @vma: and area, that of all hits that are queued
 * @page: the page, with a reference
 * @digest: its digest
 * @node: where to put what is found
 *
 * Of the hits that are queued, each takes up room already.
 *
 * Context: scan mutex, within ksm_mm_begin().
 * Return: as ksm_hit_find().
 */
enum ksm_found ksm_hit_find_room(struct ksm_mm *owner,
				 struct vm_area_struct *vma, struct page *page,
				 u64 digest, struct ksm_stable_node **node)
{
	enum ksm_found found = ksm_hit_find(page, digest, ksm_node_guess, node);

	if (found == KSM_FOUND && (*node)->entry.count + ops_on(*node) >=
				  ksm_knobs.max_page_sharing) {
		ksm_hit_flush(owner, vma);
		found = ksm_hit_find(page, digest, ksm_node_guess, node);
	}
	return found;
}
