// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of listing items on stable nodes and of forgetting things
 * (sharing.c), on pages that no process maps.
 */
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include "helpers.h"

#define RANGE_BLOCKS	6
#define RANGE_PAGES	(RANGE_BLOCKS * KSM_BLOCK_PAGES)

/* ------------------------------------------------------------------ */
/* Ranges of records                                                   */
/* ------------------------------------------------------------------ */

static bool put_record(struct ksm_mm *owner, unsigned long addr, u64 rec)
{
	unsigned int index = ksm_block_index(addr);
	struct ksm_block *block;

	block = ksm_block_reserve(owner, addr & KSM_BLOCK_MASK, BIT_ULL(index),
				  GFP_KERNEL);
	if (block)
		ksm_record_set(block, index, rec);
	return block;
}

static u64 record_at(struct ksm_mm *owner, unsigned long addr)
{
	return ksm_record_get(ksm_block_find(owner, addr),
			      ksm_block_index(addr));
}

static void drop_range(struct ksm_mm *owner, unsigned long from,
		       unsigned long to, unsigned int most)
{
	unsigned int rounds = 0;

	while (!ksm_records_drop(owner, &from, to, most, KSM_LOCK_TRY)) {
		/* No round may be for nothing */
		if (++rounds > RANGE_PAGES)
			return;
	}
}

static const char *range_differs(struct ksm_mm *owner, const bool *there)
{
	struct ksm_block *block;
	unsigned long page;

	for (page = 0; page < RANGE_PAGES; page++) {
		if (!!record_at(owner, page * PAGE_SIZE) != there[page])
			return there[page] ? "a record was lost" :
					     "a record was left";
	}
	for (block = ksm_block_from(owner, 0); block;
	     block = ksm_block_next(block)) {
		if (!ksm_block_present(block))
			return "an empty block was left";
	}
	return NULL;
}

static const char *random_range(struct ksm_mm *owner, bool *there,
				struct rnd_state *rnd)
{
	unsigned long from = ksm_kunit_below(rnd, RANGE_PAGES);
	unsigned long to = from + 1 + ksm_kunit_below(rnd, RANGE_PAGES - from);
	unsigned int i, puts = ksm_kunit_below(rnd, 60);
	bool any = false;

	for (i = 0; i < puts; i++) {
		unsigned long page = ksm_kunit_below(rnd, RANGE_PAGES);

		if (!put_record(owner, page * PAGE_SIZE,
				ksm_rec_plain(KSM_SETTLED, 0, false, 0, page)))
			return "no memory";
		there[page] = true;
	}
	for (i = from; i < to; i++)
		any |= there[i];
	if (ksm_records_in(owner, from * PAGE_SIZE, to * PAGE_SIZE) != any)
		return "records_in";
	drop_range(owner, from * PAGE_SIZE, to * PAGE_SIZE,
		   1 + ksm_kunit_below(rnd, 100));
	for (i = from; i < to; i++)
		there[i] = false;
	if (ksm_records_in(owner, from * PAGE_SIZE, to * PAGE_SIZE))
		return "records_in, when all are dropped";
	return range_differs(owner, there);
}

/* Any range, begun and ended at any page, dropped in slices of any size */
static void ranges_random(struct kunit *test)
{
	bool *there = kunit_kcalloc(test, RANGE_PAGES, sizeof(bool),
				    GFP_KERNEL);
	struct ksm_mm *owner = ksm_kunit_owner(test);
	const char *wrong = NULL;
	struct rnd_state rnd;
	unsigned int step;

	KUNIT_ASSERT_NOT_NULL(test, there);
	ksm_kunit_seed(test, &rnd);
	ksm_scan_lock();
	for (step = 0; step < 400 && !wrong; step++)
		wrong = random_range(owner, there, &rnd);
	KUNIT_EXPECT_NULL_MSG(test, wrong, "step %u: %s", step, wrong);
	ksm_kunit_check_owner(test, owner);
	drop_range(owner, 0, ULONG_MAX, UINT_MAX);
	KUNIT_EXPECT_NULL(test, ksm_block_from(owner, 0));
	KUNIT_EXPECT_EQ(test, owner->bytes, 0);
	ksm_scan_unlock();
}

/* A block left empty is something to be visited, too */
static void empty_block_is_freed(struct kunit *test)
{
	struct ksm_mm *owner = ksm_kunit_owner(test);
	unsigned long from = 0;

	ksm_scan_lock();
	KUNIT_EXPECT_NOT_NULL(test, ksm_block_reserve(owner, 0, 1, GFP_KERNEL));
	KUNIT_EXPECT_TRUE(test, ksm_records_in(owner, 0, PAGE_SIZE));
	KUNIT_EXPECT_TRUE(test, ksm_records_drop(owner, &from, PAGE_SIZE, 1,
						 KSM_LOCK_TRY));
	KUNIT_EXPECT_EQ(test, from, PAGE_SIZE);
	KUNIT_EXPECT_NULL(test, ksm_block_from(owner, 0));
	ksm_scan_unlock();
}

/* ------------------------------------------------------------------ */
/* Candidates                                                          */
/* ------------------------------------------------------------------ */

static void candidates_keep_their_digests(struct kunit *test)
{
	const u64 digest = 0x789abcdef0ULL;
	struct ksm_mm *owner = ksm_kunit_owner(test);
	struct ksm_unstable_pos pos;
	struct ksm_rmap_item *item;
	struct ksm_stats before;
	unsigned int i;

	ksm_scan_lock();
	before = ksm_stats;
	for (i = 0; i < 100; i++) {
		int nid = i % min(2, nr_node_ids);

		item = ksm_item_alloc(owner, i * PAGE_SIZE, GFP_KERNEL);
		if (!item || !put_record(owner, i * PAGE_SIZE,
					 ksm_rec_listed(KSM_CANDIDATE, item, 0))) {
			KUNIT_FAIL(test, "no memory");
			break;
		}
		ksm_unstable_first(&pos, nid, digest + i);
		ksm_unstable_insert(item, &pos, nid, digest + i);
	}
	KUNIT_EXPECT_EQ(test, ksm_stats.unshared - before.unshared, 100);
	KUNIT_EXPECT_EQ(test, ksm_stats.items - before.items, 100);

	ksm_candidates_drop();
	KUNIT_EXPECT_EQ(test, ksm_stats.unshared, before.unshared);
	KUNIT_EXPECT_EQ(test, ksm_stats.items, before.items);
	KUNIT_EXPECT_EQ(test, ksm_stats.records - before.records, 100);
	for (i = 0; i < nr_node_ids; i++)
		KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(ksm_unstable_root(i)));
	for (i = 0; i < 100; i++) {
		u64 rec = record_at(owner, i * PAGE_SIZE);

		KUNIT_EXPECT_EQ(test, ksm_rec_state(rec), KSM_VOLATILE);
		KUNIT_EXPECT_EQ(test, ksm_rec_digest(rec), digest + i);
	}
	drop_range(owner, 0, ULONG_MAX, UINT_MAX);
	KUNIT_EXPECT_EQ(test, 0, memcmp(&before, &ksm_stats, sizeof(before)));
	ksm_scan_unlock();
}

/* ------------------------------------------------------------------ */
/* Items on nodes                                                      */
/* ------------------------------------------------------------------ */

#define ITEMS	5

struct merged {
	struct ksm_mm	*owner;
	struct page	*page;
	struct anon_vma	*anon_vma;
	struct ksm_stable_node *node;
	struct ksm_stats before;
};

/* Never to be freed: a reference to it is ours */
static struct anon_vma *lasting_anon_vma(struct kunit *test)
{
	struct anon_vma *anon_vma;

	anon_vma = kunit_kzalloc(test, sizeof(*anon_vma), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, anon_vma);
	atomic_set(&anon_vma->refcount, 1);
	anon_vma->root = anon_vma;
	return anon_vma;
}

static enum ksm_found put_in_tree(struct merged *merged)
{
	struct ksm_chain *spare = ksm_chain_alloc(GFP_KERNEL);
	enum ksm_found found = KSM_RETRY;
	struct ksm_stable_node *obstacle;
	int nid = ksm_tree_nid(page_to_pfn(merged->page));

	if (spare)
		found = ksm_stable_insert(merged->node, nid, ksm_node_compare,
					  merged->page, &spare, &obstacle);
	ksm_chain_free(spare);
	return found;
}

static bool list_item(struct merged *merged, unsigned long addr)
{
	struct folio *folio = page_folio(merged->page);
	struct ksm_rmap_item *item = ksm_item_alloc(merged->owner, addr,
						    GFP_KERNEL);

	if (!item || !put_record(merged->owner, addr,
				 ksm_rec_listed(KSM_MERGED, item, 0)))
		return false;
	folio_lock(folio);
	ksm_item_list(item, merged->node, merged->anon_vma, addr / PAGE_SIZE);
	folio_unlock(folio);
	return true;
}

/* A merged page with some items; the scan mutex is taken */
static bool merged_begin(struct kunit *test, struct merged *merged)
{
	unsigned int i;

	merged->owner = ksm_kunit_owner(test);
	merged->page = ksm_kunit_page(test, NUMA_NO_NODE, 7);
	merged->anon_vma = lasting_anon_vma(test);
	ksm_scan_lock();
	merged->before = ksm_stats;
	merged->node = ksm_stable_node_alloc(ksm_digest_page(merged->page),
					     GFP_KERNEL);
	if (!merged->node)
		return false;
	merged->node->pfn = page_to_pfn(merged->page);
	ksm_folio_attach(page_folio(merged->page), merged->node);
	if (put_in_tree(merged) != KSM_FOUND)
		return false;
	for (i = 0; i < ITEMS; i++) {
		if (!list_item(merged, i * PAGE_SIZE))
			return false;
	}
	return true;
}

static void merged_end(struct kunit *test, struct merged *merged)
{
	drop_range(merged->owner, 0, ULONG_MAX, UINT_MAX);
	KUNIT_EXPECT_EQ(test, 0, memcmp(&merged->before, &ksm_stats,
					sizeof(ksm_stats)));
	KUNIT_EXPECT_EQ(test, merged->owner->bytes, 0);
	KUNIT_EXPECT_EQ(test, merged->owner->slot.mm->ksm_merging_pages, 0);
	KUNIT_EXPECT_EQ(test, merged->owner->slot.mm->ksm_rmap_items, 0);
	/* B35: each item held a reference, and gave it back */
	KUNIT_EXPECT_EQ(test, atomic_read(&merged->anon_vma->refcount), 1);
	KUNIT_EXPECT_EQ(test, page_count(merged->page), 1);
	ksm_scan_unlock();
}

static void list_and_unlist(struct kunit *test)
{
	struct merged merged;
	unsigned int left;

	KUNIT_EXPECT_TRUE(test, merged_begin(test, &merged));
	KUNIT_EXPECT_EQ(test, merged.node->entry.count, ITEMS);
	KUNIT_EXPECT_EQ(test, ksm_stats.shared - merged.before.shared, 1);
	KUNIT_EXPECT_EQ(test, ksm_stats.sharing - merged.before.sharing,
			ITEMS - 1);
	KUNIT_EXPECT_EQ(test, merged.owner->slot.mm->ksm_merging_pages, ITEMS);
	KUNIT_EXPECT_EQ(test, atomic_read(&merged.anon_vma->refcount),
			1 + ITEMS);
	ksm_kunit_check_owner(test, merged.owner);

	for (left = ITEMS; left--;) {
		struct ksm_block *block = ksm_block_find(merged.owner, 0);

		KUNIT_EXPECT_TRUE(test, ksm_record_drop(merged.owner, block,
							left, KSM_LOCK_TRY));
		KUNIT_EXPECT_EQ(test, merged.node->entry.count, left);
		KUNIT_EXPECT_EQ(test, ksm_stats.shared - merged.before.shared,
				left > 0);
	}
	/* The page is there still, and so is its node; now the page goes */
	KUNIT_EXPECT_TRUE(test, ksm_node_alive(merged.node));
	ksm_folio_detach(page_folio(merged.page));
	ksm_node_drop(merged.node, UINT_MAX);
	merged_end(test, &merged);
}

/* B27, B28: a locked page keeps its items, and the record says so */
static void locked_page_keeps_items(struct kunit *test)
{
	struct merged merged;
	struct ksm_block *block;
	struct folio *folio;
	unsigned int i;

	KUNIT_EXPECT_TRUE(test, merged_begin(test, &merged));
	folio = page_folio(merged.page);
	block = ksm_block_find(merged.owner, 0);
	folio_lock(folio);
	for (i = 0; i < ITEMS; i++) {
		KUNIT_EXPECT_FALSE(test, ksm_record_drop(merged.owner, block, i,
							 KSM_LOCK_TRY));
		KUNIT_EXPECT_EQ(test, ksm_rec_state(ksm_record_get(block, i)),
				KSM_MERGED);
	}
	KUNIT_EXPECT_EQ(test, merged.node->entry.count, ITEMS);
	/* A whole range is passed over, and its block not freed */
	drop_range(merged.owner, 0, ULONG_MAX, UINT_MAX);
	KUNIT_EXPECT_PTR_EQ(test, ksm_block_find(merged.owner, 0), block);
	ksm_kunit_check_owner(test, merged.owner);
	folio_unlock(folio);

	drop_range(merged.owner, 0, ULONG_MAX, UINT_MAX);
	KUNIT_EXPECT_NULL(test, ksm_block_from(merged.owner, 0));
	ksm_folio_detach(folio);
	ksm_node_drop(merged.node, UINT_MAX);
	merged_end(test, &merged);
}

/* The page has gone: its last item takes the node along */
static void last_item_frees_stale_node(struct kunit *test)
{
	struct merged merged;

	KUNIT_EXPECT_TRUE(test, merged_begin(test, &merged));
	page_folio(merged.page)->mapping = NULL;
	KUNIT_EXPECT_FALSE(test, ksm_node_alive(merged.node));
	drop_range(merged.owner, 0, ULONG_MAX, UINT_MAX);
	KUNIT_EXPECT_NULL(test, ksm_stable_from(0, 0));
	merged_end(test, &merged);
}

/* The other way round: the node takes its items and their records along */
static void stale_node_frees_items(struct kunit *test)
{
	struct merged merged;
	unsigned int i;

	KUNIT_EXPECT_TRUE(test, merged_begin(test, &merged));
	page_folio(merged.page)->mapping = NULL;
	/* In two steps, as where a mmap_lock is held */
	KUNIT_EXPECT_FALSE(test, ksm_node_drop(merged.node, ITEMS - 1));
	KUNIT_EXPECT_EQ(test, merged.node->entry.count, 1);
	KUNIT_EXPECT_TRUE(test, ksm_node_drop(merged.node, 1));
	for (i = 0; i < ITEMS; i++)
		KUNIT_EXPECT_EQ(test, record_at(merged.owner, i * PAGE_SIZE),
				KSM_NEW);
	KUNIT_EXPECT_EQ(test, ksm_stats.items, merged.before.items);
	merged_end(test, &merged);
}

/* B69: settings may change when nothing is shared, and only then */
static void forget_nodes_when_unused(struct kunit *test)
{
	struct merged merged;
	unsigned int most;

	KUNIT_EXPECT_TRUE(test, merged_begin(test, &merged));
	most = ksm_knobs.max_page_sharing;
	KUNIT_EXPECT_EQ(test, ksm_forget_nodes(), -EBUSY);
	ksm_scan_unlock();
	KUNIT_EXPECT_EQ(test, ksm_set_max_page_sharing(most + 1), -EBUSY);
	KUNIT_EXPECT_EQ(test, ksm_set_merge_across_nodes(false), -EBUSY);
	ksm_scan_lock();
	KUNIT_EXPECT_EQ(test, ksm_knobs.max_page_sharing, most);
	KUNIT_EXPECT_TRUE(test, ksm_knobs.merge_across_nodes);

	drop_range(merged.owner, 0, ULONG_MAX, UINT_MAX);
	KUNIT_EXPECT_EQ(test, ksm_stats.nodes - merged.before.nodes, 1);
	KUNIT_EXPECT_EQ(test, ksm_forget_nodes(), 0);
	KUNIT_EXPECT_NULL(test, ksm_folio_node(page_folio(merged.page)));
	KUNIT_EXPECT_EQ(test, ksm_stats.nodes, merged.before.nodes);
	merged_end(test, &merged);
}

static struct kunit_case sharing_cases[] = {
	KUNIT_CASE(ranges_random),
	KUNIT_CASE(empty_block_is_freed),
	KUNIT_CASE(candidates_keep_their_digests),
	KUNIT_CASE(list_and_unlist),
	KUNIT_CASE(locked_page_keeps_items),
	KUNIT_CASE(last_item_frees_stale_node),
	KUNIT_CASE(stale_node_frees_items),
	KUNIT_CASE(forget_nodes_when_unused),
	{}
};

static struct kunit_suite sharing_suite = {
	.name = "ksm_sharing",
	.init = ksm_kunit_init,
	.test_cases = sharing_cases,
};

kunit_test_suite(sharing_suite);
