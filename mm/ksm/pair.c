// SPDX-License-Identifier: GPL-2.0
/*
 * Pairs: two pages of the same contents, neither of which is shared yet.
 *
 * A page A that meets a candidate B with its digest needs B's mm as well, and
 * two mmap_locks are never held at once.  Such pages were set aside (hit.c) with
 * a reference, A's mm is let go, and for each:
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
 */
#include <linux/cacheflush.h>
#include <linux/pagemap.h>
#include <linux/swap.h>
#include "internal.h"

#define GFP_UNLOCKED	(GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN)

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
	struct ksm_chain *spare = ksm_chain_alloc(KSM_GFP_LOCKED);
	struct ksm_stable_node *node, *obstacle;
	enum ksm_found found = KSM_RETRY;

	node = ksm_stable_node_alloc(digest, KSM_GFP_LOCKED);
	if (node && spare) {
		node->pfn = page_to_pfn(page);
		while ((found = ksm_stable_insert(node,
						  ksm_tree_nid(node->pfn),
						  ksm_node_compare, page,
						  &spare, &obstacle)) ==
		       KSM_STALE) {
			if (!ksm_node_drop(obstacle, KSM_STALE_ITEMS))
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
		ksm_drain_wanted(/* sure = */ false);
		return PAIR_GONE;
	}
	node = new_node(page_b, digest);
	if (!node)
		return PAIR_NOT_NOW;
	ksm_twin_take(b, page_b, digest);
	err = ksm_merge_make(vma, addr, page_b, node, b);
	if (!err) {
		ksm_item_set_merged(b, page_to_pfn(page_b));
		*made = node;
		return PAIR_MADE;
	}
	if (err == -EBUSY)
		ksm_drain_wanted(/* sure = */ false);
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
	    ksm_rec_state(ksm_record_at(owner, addr)) == KSM_CANDIDATE)
		ksm_record_forget(owner, addr);
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
	ksm_drain_wanted(/* sure = */ false);
	return false;
}

/* How many of those that were set aside will go to this node? */
static unsigned int planned(const struct ksm_stable_node *node)
{
	unsigned int i, count = 0;

	for (i = 0; i < ksm_aside.nr; i++)
		count += ksm_aside.page[i].hit && ksm_aside.page[i].node == node;
	return count;
}

/* A record, and one without an item */
static bool is_plain(u64 rec)
{
	return ksm_rec_state(rec) != KSM_NEW && !ksm_rec_has_item(rec);
}

/* A has no twin: it waits for one, where the search ended */
static void settle_alone(struct ksm_mm *owner, struct ksm_climber *a, bool beside,
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
		ksm_twin_settle(block, index, 0, ksm_rec_watched(rec), pfn,
				a->digest, pos);
		return;
	}
	/* Others have that digest: the order among them is the tree's affair */
	item = ksm_item_alloc(owner, a->addr, GFP_UNLOCKED);
	if (item)
		ksm_twin_list(item, pos, ksm_tree_nid(pfn), pfn,
			      ksm_rec_watched(rec), 0, a->digest);
}

/* A and B are one page: B is listed for both, as it was before we came */
static void settle_same(struct ksm_mm *owner, struct ksm_climber *a,
			struct ksm_rmap_item *b)
{
	u64 rec = ksm_record_at(owner, a->addr);

	ksm_twin_demote(b, b->pfn);
	if (is_plain(rec))
		ksm_record_set_at(owner, a->addr,
				  ksm_rec_page(KSM_SETTLED,
					       ksm_rec_settled_age(rec),
					       ksm_rec_watched(rec), a->page,
					       a->digest));
}

/*
 * Step 1 for one page: true if it is to become a stable hit.  Of a chain, the
 * node found is the one that was made last; those before have all the sharers
 * they can have, planned ones counted in.
 */
static bool seek_partner(struct ksm_mm *owner, struct ksm_climber *a)
{
	int nid = ksm_tree_nid(page_to_pfn(a->page));
	struct ksm_unstable_pos pos;
	struct ksm_rmap_item *b;
	enum ksm_found found;
	bool beside = false;

	if (ksm_becomes_zero_page(owner, a->page, a->digest))
		return !ksm_page_split(a->page);
	found = ksm_hit_find(a->page, a->digest, ksm_node_compare, &a->node);
	if (found == KSM_FOUND && a->node->entry.count + planned(a->node) <
				  ksm_knobs.max_page_sharing)
		return !ksm_page_split(a->page);
	if (found == KSM_RETRY || !worth_pairing(a->page))
		return false;

	b = ksm_twin_find(&pos, nid, a->digest);
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
			b = ksm_twin_find(&pos, nid, a->digest);
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

	for (i = 0; i < ksm_aside.nr; i++) {
		struct ksm_climber *a = &ksm_aside.page[i];

		if (!a->page)
			continue;
		if (begun && a->hit && (!vma || a->addr >= vma->vm_end)) {
			if (vma)
				ksm_hit_flush(owner, vma);
			vma = ksm_vma_at(owner->slot.mm, a->addr);
		}
		node = NULL;
		if (!begun || !a->hit || !vma || a->addr < vma->vm_start)
			put_page(a->page);
		else if (ksm_becomes_zero_page(owner, a->page, a->digest))
			ksm_hit_push(owner, vma, a->addr, a->page, a->digest, NULL);
		else if (ksm_hit_find_room(owner, vma, a->page, a->digest, &node) ==
			 KSM_FOUND)
			ksm_hit_push(owner, vma, a->addr, a->page, a->digest, node);
		else
			put_page(a->page);
	}
	if (vma)
		ksm_hit_flush(owner, vma);
	if (begun)
		ksm_mm_end(owner);
}

/* A shared page that nobody came to share costs its owner a fault for nothing */
static void unshare_lone(struct ksm_mm *owner, unsigned long addr)
{
	u64 rec = ksm_record_at(owner, addr);
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
	ksm_record_forget(owner, addr);
}

/**
 * ksm_pair_pending - are pages set aside?
 *
 * Context: scan mutex.
 * Return: true if ksm_pair_all() has work.
 */
bool ksm_pair_pending(void)
{
	return ksm_aside.nr;
}

/**
 * ksm_pair_all - take the pages that were set aside to their end
 * @owner: the mm of the batch
 *
 * Context: scan mutex, no mmap_lock; may sleep.
 */
void ksm_pair_all(struct ksm_mm *owner)
{
	struct ksm_timer timer = ksm_cost_begin();
	unsigned int i, nr = ksm_aside.nr;

	ksm_aside.closed = true;
	for (i = 0; i < ksm_aside.nr; i++) {
		struct ksm_climber *a = &ksm_aside.page[i];

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
	for (i = 0; i < ksm_aside.nr; i++) {
		if (ksm_aside.page[i].twin_owner)
			unshare_lone(ksm_aside.page[i].twin_owner, ksm_aside.page[i].twin_addr);
	}
	ksm_aside.nr = 0;
	ksm_aside.closed = false;
	ksm_cost_end(timer, KSM_RUNG_MERGE, nr);
}
