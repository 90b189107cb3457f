// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the sweep through the stable trees (sweep.c), on pages that no
 * process maps.
 */
#include <linux/jiffies.h>
#include "helpers.h"

#define PAGES	12

/* Where a test puts its pages; without an item, which the sweep needs not */
struct field {
	struct ksm_stats before;
	struct ksm_knobs knobs;
	struct page	*page[PAGES];
	struct ksm_stable_node *node[PAGES];
};

static bool put_node(struct field *field, unsigned int i, int nid, u64 digest)
{
	struct ksm_chain *spare = ksm_chain_alloc(GFP_KERNEL);
	enum ksm_found found = KSM_RETRY;
	struct ksm_stable_node *obstacle;

	field->node[i] = ksm_stable_node_alloc(digest, GFP_KERNEL);
	if (field->node[i] && spare) {
		field->node[i]->pfn = page_to_pfn(field->page[i]);
		ksm_folio_attach(page_folio(field->page[i]), field->node[i]);
		found = ksm_stable_insert(field->node[i], nid, ksm_node_compare,
					  field->page[i], &spare, &obstacle);
	}
	ksm_chain_free(spare);
	return found == KSM_FOUND;
}

static void lose_page(struct field *field, unsigned int i)
{
	page_folio(field->page[i])->mapping = NULL;
}

static unsigned int sweep_all(unsigned int most)
{
	struct ksm_sweep_pos pos = {};
	unsigned int calls = 1;

	/* Twice the number of nodes is more than any sweep may take */
	while (!ksm_sweep(&pos, most) && calls < 2 * PAGES)
		calls++;
	return calls;
}

/* Pages on one memory node, full of their number from @fills */
static struct field *field_begin(struct kunit *test, const u8 *fills,
				 unsigned int count, int nid)
{
	struct field *field = kunit_kzalloc(test, sizeof(*field), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, field);
	for (i = 0; i < count; i++)
		field->page[i] = ksm_kunit_page(test, nid, fills[i]);
	ksm_scan_lock();
	field->before = ksm_stats;
	field->knobs = ksm_knobs;
	ksm_knobs.prune_millisecs = 0;
	return field;
}

static void field_end(struct kunit *test, struct field *field)
{
	unsigned int i;

	for (i = 0; i < PAGES && field->page[i]; i++)
		lose_page(field, i);
	sweep_all(UINT_MAX);
	KUNIT_EXPECT_EQ(test, 0, memcmp(&field->before, &ksm_stats,
					sizeof(ksm_stats)));
	ksm_knobs = field->knobs;
	ksm_scan_unlock();
}

static void stale_nodes_go(struct kunit *test)
{
	static const u8 fills[PAGES] = { 1, 2, 3, 4, 4, 4, 5, 5, 6, 6, 6, 7 };
	struct field *field = field_begin(test, fills, PAGES, NUMA_NO_NODE);
	unsigned int i;

	for (i = 0; i < PAGES; i++)
		KUNIT_EXPECT_TRUE(test, put_node(field, i, 0, fills[i]));
	KUNIT_EXPECT_EQ(test, ksm_stats.chains - field->before.chains, 3);
	sweep_all(UINT_MAX);
	KUNIT_EXPECT_EQ(test, ksm_stats.nodes - field->before.nodes, PAGES);

	lose_page(field, 1);		/* a single */
	lose_page(field, 3);		/* one of three */
	lose_page(field, 6);		/* both */
	lose_page(field, 7);
	sweep_all(UINT_MAX);
	KUNIT_EXPECT_EQ(test, ksm_stats.nodes - field->before.nodes,
			PAGES - 4);
	KUNIT_EXPECT_EQ(test, ksm_stats.chains - field->before.chains, 2);
	KUNIT_EXPECT_EQ(test, ksm_stats.dups - field->before.dups, 5);
	KUNIT_EXPECT_FALSE(test, ksm_stable_has_digest(0, 2));
	KUNIT_EXPECT_FALSE(test, ksm_stable_has_digest(0, 5));
	field_end(test, field);
}

/* Slices of any size get to the end, and see each node */
static void slices_reach_the_end(struct kunit *test)
{
	static const u8 fills[PAGES] = { 1, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9 };
	struct field *field = field_begin(test, fills, PAGES, NUMA_NO_NODE);
	unsigned int most, i;

	for (most = 0; most < 5; most++) {
		for (i = 0; i < PAGES; i++)
			KUNIT_EXPECT_TRUE(test, put_node(field, i, 0,
							 fills[i]));
		KUNIT_EXPECT_GT(test, sweep_all(most), 1);
		KUNIT_EXPECT_EQ(test, ksm_stats.nodes - field->before.nodes,
				PAGES);
		for (i = 0; i < PAGES; i++)
			lose_page(field, i);
		sweep_all(most);
		KUNIT_EXPECT_EQ(test, ksm_stats.nodes, field->before.nodes);
	}
	field_end(test, field);
}

/* A chain for one becomes a single node, when it is due */
static void lone_dup_becomes_single(struct kunit *test)
{
	static const u8 fills[] = { 1, 1, 1 };
	struct field *field = field_begin(test, fills, 3, NUMA_NO_NODE);
	unsigned int i;

	for (i = 0; i < 3; i++)
		KUNIT_EXPECT_TRUE(test, put_node(field, i, 0, 1));
	lose_page(field, 0);
	lose_page(field, 2);
	ksm_knobs.prune_millisecs = 3600 * 1000;
	sweep_all(UINT_MAX);
	KUNIT_EXPECT_EQ(test, ksm_stats.chains - field->before.chains, 1);
	KUNIT_EXPECT_EQ(test, ksm_stats.dups - field->before.dups, 1);

	ksm_knobs.prune_millisecs = 0;
	sweep_all(UINT_MAX);
	KUNIT_EXPECT_EQ(test, ksm_stats.chains, field->before.chains);
	KUNIT_EXPECT_EQ(test, ksm_stats.dups, field->before.dups);
	KUNIT_EXPECT_EQ(test, ksm_stats.nodes - field->before.nodes, 1);
	KUNIT_EXPECT_EQ(test, (int)field->node[1]->entry.kind, KSM_SINGLE);
	KUNIT_EXPECT_PTR_EQ(test, ksm_stable_from(0, 0),
			    &field->node[1]->entry);
	field_end(test, field);
}

/*
 * Chains of different contents whose digests collide, each with one dup left:
 * the sweep may not use the next one when it has tidied it away.
 */
static void tidy_among_equal_digests(struct kunit *test)
{
	static const u8 fills[] = { 1, 1, 2, 2, 3, 3, 4, 4 };
	struct field *field = field_begin(test, fills, 8, NUMA_NO_NODE);
	struct ksm_entry *entry;
	unsigned int i, count = 0;

	for (i = 0; i < 8; i++)
		KUNIT_EXPECT_TRUE(test, put_node(field, i, 0, 42));
	KUNIT_EXPECT_EQ(test, ksm_stats.chains - field->before.chains, 4);
	/* What is left of each is found before the sweep comes by */
	for (i = 0; i < 8; i += 2) {
		lose_page(field, i);
		ksm_node_drop(field->node[i], UINT_MAX);
	}
	sweep_all(UINT_MAX);
	KUNIT_EXPECT_EQ(test, ksm_stats.chains, field->before.chains);
	for (entry = ksm_stable_from(0, 0); entry;
	     entry = ksm_stable_next(entry)) {
		KUNIT_EXPECT_EQ(test, (int)entry->kind, KSM_SINGLE);
		KUNIT_EXPECT_PTR_EQ(test, ksm_entry_node(entry),
				    field->node[2 * count + 1]);
		if (++count > 4)
			break;
	}
	KUNIT_EXPECT_EQ(test, count, 4);
	field_end(test, field);
}

/* B23, B31: a page that migrated to another node is found there again */
static void node_follows_its_page(struct kunit *test)
{
	static const u8 fills[] = { 1, 1, 2, 3 };
	struct field *field;
	unsigned int i;

	if (num_node_state(N_MEMORY) < 2 || !node_state(1, N_MEMORY))
		kunit_skip(test, "needs memory in node 1");
	field = field_begin(test, fills, 4, 1);
	ksm_knobs.merge_across_nodes = false;
	/* As if all had been in node 0 until now */
	for (i = 0; i < 4; i++)
		KUNIT_EXPECT_TRUE(test, put_node(field, i, 0, fills[i]));
	lose_page(field, 3);
	sweep_all(UINT_MAX);
	KUNIT_EXPECT_NULL(test, ksm_stable_from(0, 0));
	KUNIT_EXPECT_EQ(test, ksm_stats.nodes - field->before.nodes, 3);
	KUNIT_EXPECT_EQ(test, ksm_stats.chains - field->before.chains, 1);
	KUNIT_EXPECT_TRUE(test, ksm_stable_has_digest(1, 1));
	KUNIT_EXPECT_TRUE(test, ksm_stable_has_digest(1, 2));
	for (i = 0; i < 3; i++)
		KUNIT_EXPECT_EQ(test, (int)field->node[i]->entry.nid, 1);

	ksm_knobs.merge_across_nodes = true;
	sweep_all(UINT_MAX);
	KUNIT_EXPECT_NULL(test, ksm_stable_from(1, 0));
	KUNIT_EXPECT_EQ(test, ksm_stats.nodes - field->before.nodes, 3);
	KUNIT_EXPECT_EQ(test, ksm_stats.chains - field->before.chains, 1);
	field_end(test, field);
}

/* It stays where it was if there is no memory, until the next sweep */
static void node_stays_without_memory(struct kunit *test)
{
	static const u8 fills[] = { 1 };
	struct field *field;

	ksm_kunit_needs_fail_alloc(test);
	if (num_node_state(N_MEMORY) < 2 || !node_state(1, N_MEMORY))
		kunit_skip(test, "needs memory in node 1");
	field = field_begin(test, fills, 1, 1);
	ksm_knobs.merge_across_nodes = false;
	KUNIT_EXPECT_TRUE(test, put_node(field, 0, 0, 1));
	ksm_kunit_fail_alloc(1);
	sweep_all(UINT_MAX);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_end_fail_alloc());
	KUNIT_EXPECT_PTR_EQ(test, ksm_stable_from(0, 0),
			    &field->node[0]->entry);
	KUNIT_EXPECT_EQ(test, ksm_stats.chains, field->before.chains);
	sweep_all(UINT_MAX);
	KUNIT_EXPECT_NULL(test, ksm_stable_from(0, 0));
	KUNIT_EXPECT_PTR_EQ(test, ksm_stable_from(1, 0),
			    &field->node[0]->entry);
	field_end(test, field);
}

/* On its way it may meet a node without a page, even a whole chain of them */
static void stale_node_in_the_way(struct kunit *test)
{
	static const u8 fills[] = { 1, 1, 1, 1 };
	struct field *field;
	unsigned int i;

	if (num_node_state(N_MEMORY) < 2 || !node_state(1, N_MEMORY))
		kunit_skip(test, "needs memory in node 1");
	field = field_begin(test, fills, 4, 1);
	ksm_knobs.merge_across_nodes = false;
	for (i = 0; i < 3; i++)
		KUNIT_EXPECT_TRUE(test, put_node(field, i, 1, 1));
	KUNIT_EXPECT_TRUE(test, put_node(field, 3, 0, 1));
	for (i = 0; i < 3; i++)
		lose_page(field, i);
	sweep_all(UINT_MAX);
	KUNIT_EXPECT_EQ(test, ksm_stats.nodes - field->before.nodes, 1);
	KUNIT_EXPECT_EQ(test, ksm_stats.chains, field->before.chains);
	KUNIT_EXPECT_PTR_EQ(test, ksm_stable_from(1, 0),
			    &field->node[3]->entry);
	KUNIT_EXPECT_NULL(test, ksm_stable_from(0, 0));
	field_end(test, field);
}

static struct kunit_case sweep_cases[] = {
	KUNIT_CASE(stale_nodes_go),
	KUNIT_CASE(slices_reach_the_end),
	KUNIT_CASE(lone_dup_becomes_single),
	KUNIT_CASE(tidy_among_equal_digests),
	KUNIT_CASE(node_follows_its_page),
	KUNIT_CASE(node_stays_without_memory),
	KUNIT_CASE(stale_node_in_the_way),
	{}
};

static struct kunit_suite sweep_suite = {
	.name = "ksm_sweep",
	.init = ksm_kunit_init,
	.test_cases = sweep_cases,
};

kunit_test_suite(sweep_suite);
