// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the stable trees (stable_tree.c) with made-up contents: numbers,
 * kept where a node keeps its frame number, which the trees never look at.
 */
#include <linux/hash.h>
#include <linux/slab.h>
#include "helpers.h"

#define CONTENTS	12	/* few, so that chains come about */
#define MOST_NODES	48
#define MOST_SHARERS	3
#define STEPS		8000
#define NIDS		2

typedef u64 (*digest_fn)(unsigned long contents);

static u64 strong_digest(unsigned long contents)
{
	return hash_64(contents + 1, 64);
}

static u64 two_digests(unsigned long contents)
{
	return contents & 1;
}

static u64 one_digest(unsigned long contents)
{
	return 42;
}

/* What a search is for, and what stands in its way */
struct probe {
	unsigned long	contents;
	unsigned int	compared;
	struct ksm_stable_node *gone;
	struct ksm_stable_node *busy;
};

static enum ksm_order compare(struct ksm_stable_node *node, void *arg)
{
	struct probe *probe = arg;

	probe->compared++;
	if (node == probe->gone)
		return KSM_GONE;
	if (node == probe->busy)
		return KSM_BUSY;
	if (probe->contents == node->pfn)
		return KSM_SAME;
	return probe->contents < node->pfn ? KSM_BEFORE : KSM_AFTER;
}

/* No order at all: what a compare that can only say "not equal" amounts to */
static enum ksm_order compare_unequal(struct ksm_stable_node *node, void *arg)
{
	return KSM_AFTER;
}

static struct ksm_stable_node *new_node(unsigned long contents, u64 digest)
{
	struct ksm_stable_node *node = ksm_stable_node_alloc(digest, GFP_KERNEL);

	if (node)
		node->pfn = contents;
	return node;
}

static enum ksm_found insert(struct ksm_stable_node *node, int nid,
			     struct probe *probe,
			     struct ksm_stable_node **obstacle)
{
	struct ksm_chain *spare = ksm_chain_alloc(GFP_KERNEL);
	enum ksm_found found = KSM_RETRY;

	probe->contents = node->pfn;
	if (spare)
		found = ksm_stable_insert(node, nid, compare, probe, &spare,
					  obstacle);
	ksm_chain_free(spare);
	return found;
}

/* Insert where nothing is in the way */
static enum ksm_found put(struct ksm_stable_node *node, int nid)
{
	struct ksm_stable_node *obstacle;
	struct probe probe = {};

	return insert(node, nid, &probe, &obstacle);
}

static void erase_and_free(struct ksm_stable_node *node)
{
	ksm_stable_erase(node);
	node->entry.count = 0;
	ksm_stable_node_free(node);
}

static void set_sharers(struct ksm_stable_node *node, unsigned int count)
{
	node->entry.count = count;
	ksm_stable_room_changed(node);
}

/* ------------------------------------------------------------------ */
/* Random changes next to a plain model                                */
/* ------------------------------------------------------------------ */

struct model {
	digest_fn	digest;
	struct ksm_stats before;
	struct ksm_stable_node *node[MOST_NODES];
	int		nid[MOST_NODES];
	bool		chain[NIDS][CONTENTS];
};

static unsigned int model_count(struct model *model, int nid,
				unsigned long contents)
{
	unsigned int i, count = 0;

	for (i = 0; i < MOST_NODES; i++)
		count += model->node[i] && model->nid[i] == nid &&
			 model->node[i]->pfn == contents;
	return count;
}

static bool model_has_room(struct model *model, int nid,
			   unsigned long contents)
{
	unsigned int i;

	for (i = 0; i < MOST_NODES; i++) {
		if (model->node[i] && model->nid[i] == nid &&
		    model->node[i]->pfn == contents &&
		    model->node[i]->entry.count < MOST_SHARERS)
			return true;
	}
	return false;
}

static void model_enter(struct model *model, unsigned int i, int nid)
{
	model->nid[i] = nid;
	if (model_count(model, nid, model->node[i]->pfn) > 1)
		model->chain[nid][model->node[i]->pfn] = true;
}

static void model_leave(struct model *model, int nid, unsigned long contents)
{
	if (!model_count(model, nid, contents))
		model->chain[nid][contents] = false;
}

static const char *chain_differs(struct model *model, struct ksm_chain *chain,
				 int nid, unsigned long contents)
{
	struct ksm_stable_node *node;
	unsigned int count = 0;
	bool full = false;

	list_for_each_entry(node, &chain->dups, entry.dup) {
		bool room = node->entry.count < MOST_SHARERS;

		if (room && full)
			return "room behind full";
		full |= !room;
		if (node->pfn != contents || node->entry.kind != KSM_DUP ||
		    node->entry.nid != nid || node->entry.chain != chain ||
		    node->entry.digest != chain->entry.digest)
			return "foreign dup";
		count++;
	}
	if (count != chain->entry.count ||
	    count != model_count(model, nid, contents))
		return "number of dups";
	return NULL;
}

static const char *entry_differs(struct model *model, struct ksm_entry *entry,
				 int nid, unsigned long *contents)
{
	struct ksm_chain *chain = ksm_entry_chain(entry);

	if (entry->nid != nid)
		return "entry of another tree";
	if (entry->kind == KSM_SINGLE) {
		*contents = ksm_entry_node(entry)->pfn;
		if (model->chain[nid][*contents])
			return "chain is missing";
		return model_count(model, nid, *contents) == 1 ? NULL :
			"twins without a chain";
	}
	if (entry->kind != KSM_CHAIN || list_empty(&chain->dups))
		return "no chain, or an empty one";
	*contents = list_first_entry(&chain->dups, struct ksm_stable_node,
				     entry.dup)->pfn;
	if (!model->chain[nid][*contents])
		return "chain for one";
	return chain_differs(model, chain, nid, *contents);
}

static const char *tree_differs(struct model *model, int nid,
				struct ksm_stats *sum)
{
	unsigned long contents, last_contents = 0, entries = 0, wanted = 0;
	struct ksm_entry *entry;
	const char *wrong;
	u64 last_digest = 0;

	for (entry = ksm_stable_from(nid, 0); entry;
	     entry = ksm_stable_next(entry)) {
		wrong = entry_differs(model, entry, nid, &contents);
		if (wrong)
			return wrong;
		if (entry->digest != model->digest(contents))
			return "digest";
		if (entries && (entry->digest < last_digest ||
				(entry->digest == last_digest &&
				 contents <= last_contents)))
			return "order";
		last_digest = entry->digest;
		last_contents = contents;
		entries++;
	}
	for (contents = 0; contents < CONTENTS; contents++) {
		unsigned int count = model_count(model, nid, contents);

		wanted += count > 0;
		sum->nodes += count;
		sum->chains += model->chain[nid][contents];
		sum->dups += model->chain[nid][contents] ? count : 0;
	}
	return entries == wanted ? NULL : "number of entries";
}

static const char *model_differs(struct model *model)
{
	struct ksm_stats sum = {};
	const char *wrong = NULL;
	int nid;

	for (nid = 0; nid < min(NIDS, nr_node_ids) && !wrong; nid++)
		wrong = tree_differs(model, nid, &sum);
	if (wrong)
		return wrong;
	if (ksm_stats.nodes - model->before.nodes != sum.nodes)
		return "stats.nodes";
	if (ksm_stats.chains - model->before.chains != sum.chains)
		return "stats.chains";
	if (ksm_stats.dups - model->before.dups != sum.dups)
		return "stats.dups";
	if (ksm_stats.bytes - model->before.bytes !=
	    sum.nodes * sizeof(struct ksm_stable_node) +
	    sum.chains * sizeof(struct ksm_chain))
		return "stats.bytes";
	return NULL;
}

static const char *find_differs(struct model *model, int nid,
				unsigned long contents)
{
	struct probe probe = { .contents = contents };
	struct ksm_stable_node *node = NULL;
	enum ksm_found found, want = KSM_ABSENT;
	bool digest_there = false;
	unsigned long c;

	if (model_count(model, nid, contents))
		want = model_has_room(model, nid, contents) ? KSM_FOUND :
							      KSM_FULL;
	found = ksm_stable_find(nid, model->digest(contents), compare, &probe,
				&node);
	if (found != want)
		return "result of a search";
	if (found == KSM_FOUND && (!node || node->pfn != contents ||
				   node->entry.count >= MOST_SHARERS))
		return "node found";
	for (c = 0; c < CONTENTS; c++)
		digest_there |= model->digest(c) == model->digest(contents) &&
				model_count(model, nid, c);
	if (ksm_stable_has_digest(nid, model->digest(contents)) != digest_there)
		return "has_digest";
	/* Only equal digests may cost a look at pages */
	if (!digest_there && probe.compared)
		return "compared without need";
	return NULL;
}

static const char *try_tidy(struct model *model, int nid,
			    unsigned long contents)
{
	unsigned int i;

	if (!model->chain[nid][contents])
		return NULL;
	for (i = 0; i < MOST_NODES; i++) {
		if (model->node[i] && model->nid[i] == nid &&
		    model->node[i]->pfn == contents)
			break;
	}
	if (i == MOST_NODES)
		return "chain of nothing";
	if (model_count(model, nid, contents) == 1)
		model->chain[nid][contents] = false;
	ksm_chain_tidy(model->node[i]->entry.chain);
	return NULL;
}

/* Make a node, or move one to another tree */
static const char *make_or_move(struct model *model, unsigned int i, int nid,
				unsigned long contents)
{
	struct ksm_stable_node *node = model->node[i];
	int old_nid = NUMA_NO_NODE;

	if (!node) {
		node = new_node(contents, model->digest(contents));
		if (!node)
			return "no memory";
	} else {
		old_nid = model->nid[i];
		if (old_nid == nid)
			return NULL;
	}
	if (put(node, nid) != KSM_FOUND)
		return "not inserted";
	model->node[i] = node;
	model_enter(model, i, nid);
	if (old_nid != NUMA_NO_NODE)
		model_leave(model, old_nid, node->pfn);
	return NULL;
}

static const char *random_step(struct model *model, struct rnd_state *rnd)
{
	unsigned int i = ksm_kunit_below(rnd, MOST_NODES);
	int nid = ksm_kunit_below(rnd, min(NIDS, nr_node_ids));
	unsigned long contents = ksm_kunit_below(rnd, CONTENTS);
	struct ksm_stable_node *node = model->node[i];

	switch (ksm_kunit_below(rnd, 8)) {
	case 0:
	case 1:
	case 2:
		return make_or_move(model, i, nid, contents);
	case 3:
		if (!node)
			return NULL;
		model->node[i] = NULL;
		model_leave(model, model->nid[i], node->pfn);
		erase_and_free(node);
		return NULL;
	case 4:
		if (node)
			set_sharers(node, ksm_kunit_below(rnd,
							  MOST_SHARERS + 2));
		return NULL;
	case 5:
		return try_tidy(model, nid, contents);
	default:
		return find_differs(model, nid, contents);
	}
}

static void run_random(struct kunit *test, digest_fn digest)
{
	struct model *model = kunit_kzalloc(test, sizeof(*model), GFP_KERNEL);
	const char *wrong = NULL;
	struct rnd_state rnd;
	unsigned int most, step, i;

	KUNIT_ASSERT_NOT_NULL(test, model);
	ksm_kunit_seed(test, &rnd);
	model->digest = digest;

	ksm_scan_lock();
	most = ksm_knobs.max_page_sharing;
	ksm_knobs.max_page_sharing = MOST_SHARERS;
	model->before = ksm_stats;
	for (step = 0; step < STEPS && !wrong; step++) {
		wrong = random_step(model, &rnd);
		if (!wrong)
			wrong = model_differs(model);
	}
	KUNIT_EXPECT_NULL_MSG(test, wrong, "step %u: %s", step, wrong);
	for (i = 0; i < MOST_NODES; i++) {
		if (model->node[i])
			erase_and_free(model->node[i]);
	}
	KUNIT_EXPECT_EQ(test, 0, memcmp(&model->before, &ksm_stats,
					sizeof(ksm_stats)));
	ksm_knobs.max_page_sharing = most;
	ksm_scan_unlock();
}

static void random_strong_digest(struct kunit *test)
{
	run_random(test, strong_digest);
}

static void random_two_digests(struct kunit *test)
{
	run_random(test, two_digests);
}

static void random_one_digest(struct kunit *test)
{
	run_random(test, one_digest);
}

/* ------------------------------------------------------------------ */
/* One thing at a time                                                 */
/* ------------------------------------------------------------------ */

/* Some nodes, all in tree 0 */
static bool make_nodes(struct kunit *test, struct ksm_stable_node **nodes,
		       unsigned int count, const unsigned long *contents,
		       digest_fn digest)
{
	unsigned int i;

	for (i = 0; i < count; i++) {
		nodes[i] = new_node(contents[i], digest(contents[i]));
		KUNIT_EXPECT_NOT_NULL(test, nodes[i]);
		if (!nodes[i])
			return false;
		KUNIT_EXPECT_EQ(test, put(nodes[i], 0), KSM_FOUND);
	}
	return true;
}

static enum ksm_found find(unsigned long contents, digest_fn digest,
			   struct probe *probe, struct ksm_stable_node **node)
{
	probe->contents = contents;
	*node = NULL;
	return ksm_stable_find(0, digest(contents), compare, probe, node);
}

/* The second node makes the chain; the last one takes it along (B23) */
static void chain_lifecycle(struct kunit *test)
{
	static const unsigned long contents[] = { 7, 7, 7 };
	struct ksm_stable_node *node[3];
	struct ksm_stats before;
	struct ksm_chain *chain;
	struct ksm_entry *entry;

	ksm_scan_lock();
	before = ksm_stats;
	if (!make_nodes(test, node, 1, contents, strong_digest))
		goto out;
	KUNIT_EXPECT_EQ(test, (int)node[0]->entry.kind, KSM_SINGLE);
	KUNIT_EXPECT_EQ(test, ksm_stats.chains, before.chains);
	if (!make_nodes(test, node + 1, 2, contents, strong_digest))
		goto out;

	entry = ksm_stable_from(0, strong_digest(7));
	KUNIT_EXPECT_EQ(test, (int)entry->kind, KSM_CHAIN);
	KUNIT_EXPECT_EQ(test, entry->count, 3);
	KUNIT_EXPECT_NULL(test, ksm_stable_next(entry));
	KUNIT_EXPECT_EQ(test, ksm_stats.chains, before.chains + 1);
	KUNIT_EXPECT_EQ(test, ksm_stats.dups, before.dups + 3);

	/* With two left there is nothing to tidy; with one there is */
	chain = ksm_entry_chain(entry);
	erase_and_free(node[1]);
	ksm_chain_tidy(chain);
	KUNIT_EXPECT_PTR_EQ(test, ksm_stable_from(0, 0), &chain->entry);
	erase_and_free(node[0]);
	KUNIT_EXPECT_EQ(test, ksm_stats.chains, before.chains + 1);
	ksm_chain_tidy(chain);
	KUNIT_EXPECT_PTR_EQ(test, ksm_stable_from(0, 0), &node[2]->entry);
	KUNIT_EXPECT_EQ(test, (int)node[2]->entry.kind, KSM_SINGLE);
	KUNIT_EXPECT_EQ(test, ksm_stats.chains, before.chains);
	KUNIT_EXPECT_EQ(test, ksm_stats.dups, before.dups);

	/* Once more, and this time nobody tidies */
	if (make_nodes(test, node, 1, contents, strong_digest)) {
		KUNIT_EXPECT_EQ(test, ksm_stats.chains, before.chains + 1);
		erase_and_free(node[2]);
		erase_and_free(node[0]);
	}
	KUNIT_EXPECT_NULL(test, ksm_stable_from(0, 0));
	KUNIT_EXPECT_EQ(test, 0, memcmp(&before, &ksm_stats, sizeof(before)));
out:
	ksm_scan_unlock();
}

static void chain_room_first(struct kunit *test)
{
	static const unsigned long contents[] = { 5, 5, 5 };
	struct ksm_stable_node *node[3], *found;
	struct probe probe = {};
	unsigned int most, i;

	ksm_scan_lock();
	most = ksm_knobs.max_page_sharing;
	ksm_knobs.max_page_sharing = 2;
	if (!make_nodes(test, node, 3, contents, strong_digest))
		goto out;

	set_sharers(node[0], 2);
	set_sharers(node[2], 2);
	KUNIT_EXPECT_EQ(test, find(5, strong_digest, &probe, &found),
			KSM_FOUND);
	KUNIT_EXPECT_PTR_EQ(test, found, node[1]);
	set_sharers(node[1], 1);
	KUNIT_EXPECT_EQ(test, find(5, strong_digest, &probe, &found),
			KSM_FOUND);
	KUNIT_EXPECT_PTR_EQ(test, found, node[1]);
	set_sharers(node[1], 2);
	KUNIT_EXPECT_EQ(test, find(5, strong_digest, &probe, &found),
			KSM_FULL);
	/* Fork children may be listed over the limit; that is still full */
	set_sharers(node[2], 3);
	KUNIT_EXPECT_EQ(test, find(5, strong_digest, &probe, &found),
			KSM_FULL);
	set_sharers(node[2], 2);
	KUNIT_EXPECT_EQ(test, find(5, strong_digest, &probe, &found),
			KSM_FULL);
	set_sharers(node[2], 1);
	KUNIT_EXPECT_EQ(test, find(5, strong_digest, &probe, &found),
			KSM_FOUND);
	KUNIT_EXPECT_PTR_EQ(test, found, node[2]);
	for (i = 0; i < ARRAY_SIZE(node); i++)
		erase_and_free(node[i]);
out:
	ksm_knobs.max_page_sharing = most;
	ksm_scan_unlock();
}

/*
 * A node without its page is reported and left in place; when the caller has
 * dropped it, the same search goes on to what lies behind (B23, B24, B30).
 */
static void stale_is_reported(struct kunit *test)
{
	static const unsigned long contents[] = { 4, 2, 6, 1, 3, 3 };
	struct ksm_stable_node *node[6], *found, *one_more;
	struct ksm_stats before;
	struct probe probe = {};
	unsigned int i;

	ksm_scan_lock();
	if (!make_nodes(test, node, 6, contents, one_digest))
		goto out;
	before = ksm_stats;
	probe.gone = node[1];
	KUNIT_EXPECT_EQ(test, find(3, one_digest, &probe, &found), KSM_STALE);
	KUNIT_EXPECT_PTR_EQ(test, found, node[1]);
	KUNIT_EXPECT_EQ(test, find(6, one_digest, &probe, &found), KSM_FOUND);

	one_more = new_node(3, one_digest(3));
	if (one_more) {
		KUNIT_EXPECT_EQ(test, insert(one_more, 0, &probe, &found),
				KSM_STALE);
		KUNIT_EXPECT_PTR_EQ(test, found, node[1]);
		KUNIT_EXPECT_EQ(test, (int)one_more->entry.nid, NUMA_NO_NODE);
		ksm_stable_node_free(one_more);
	}
	KUNIT_EXPECT_EQ(test, 0, memcmp(&before, &ksm_stats, sizeof(before)));

	erase_and_free(node[1]);
	KUNIT_EXPECT_EQ(test, find(3, one_digest, &probe, &found), KSM_FOUND);
	KUNIT_EXPECT_EQ(test, find(1, one_digest, &probe, &found), KSM_FOUND);
	KUNIT_EXPECT_EQ(test, find(2, one_digest, &probe, &found), KSM_ABSENT);

	/* On a chain: the dup asked first */
	find(3, one_digest, &probe, &found);
	probe.gone = found;
	KUNIT_EXPECT_EQ(test, find(3, one_digest, &probe, &found), KSM_STALE);
	KUNIT_EXPECT_PTR_EQ(test, found, probe.gone);
	erase_and_free(found);
	KUNIT_EXPECT_EQ(test, find(3, one_digest, &probe, &found), KSM_FOUND);
	for (i = 0; i < ARRAY_SIZE(node); i++) {
		if (i != 1 && node[i] != probe.gone)
			erase_and_free(node[i]);
	}
	KUNIT_EXPECT_NULL(test, ksm_stable_from(0, 0));
out:
	ksm_scan_unlock();
}

/* A page that cannot be looked at ends a search without any harm (B29, B33) */
static void busy_is_reported(struct kunit *test)
{
	static const unsigned long contents[] = { 4, 2, 6 };
	struct ksm_stable_node *node[3], *found, *one_more;
	struct ksm_stats before;
	struct probe probe = {};
	unsigned int i;

	ksm_scan_lock();
	if (!make_nodes(test, node, 3, contents, one_digest))
		goto out;
	before = ksm_stats;
	probe.busy = node[0];
	for (i = 1; i < 8; i++) {
		KUNIT_EXPECT_EQ(test, find(i, one_digest, &probe, &found),
				KSM_RETRY);
		KUNIT_EXPECT_PTR_EQ(test, found, node[0]);
	}
	one_more = new_node(2, one_digest(2));
	if (one_more) {
		found = NULL;
		KUNIT_EXPECT_EQ(test, insert(one_more, 0, &probe, &found),
				KSM_RETRY);
		KUNIT_EXPECT_PTR_EQ(test, found, node[0]);
		ksm_stable_node_free(one_more);
	}
	KUNIT_EXPECT_EQ(test, 0, memcmp(&before, &ksm_stats, sizeof(before)));
	probe.busy = NULL;
	for (i = 0; i < ARRAY_SIZE(node); i++) {
		KUNIT_EXPECT_EQ(test, find(contents[i], one_digest, &probe,
					   &found), KSM_FOUND);
		KUNIT_EXPECT_PTR_EQ(test, found, node[i]);
	}
	for (i = 0; i < ARRAY_SIZE(node); i++)
		erase_and_free(node[i]);
out:
	ksm_scan_unlock();
}

/* A search without equal digests looks at no page at all */
static void digest_comes_first(struct kunit *test)
{
	struct ksm_stable_node *node[CONTENTS], *found;
	unsigned long contents[CONTENTS];
	struct probe probe = {};
	unsigned long i;

	for (i = 0; i < CONTENTS; i++)
		contents[i] = i;
	ksm_scan_lock();
	if (!make_nodes(test, node, CONTENTS, contents, strong_digest))
		goto out;
	for (i = 0; i < CONTENTS; i++) {
		probe.compared = 0;
		KUNIT_EXPECT_EQ(test, find(i, strong_digest, &probe, &found),
				KSM_FOUND);
		KUNIT_EXPECT_PTR_EQ(test, found, node[i]);
		KUNIT_EXPECT_EQ(test, probe.compared, 1);

		probe.compared = 0;
		KUNIT_EXPECT_EQ(test, find(i + CONTENTS, strong_digest, &probe,
					   &found), KSM_ABSENT);
		KUNIT_EXPECT_EQ(test, probe.compared, 0);
	}
	for (i = 0; i < CONTENTS; i++)
		erase_and_free(node[i]);
out:
	ksm_scan_unlock();
}

/*
 * B103: arm64 calls pages with tags unequal, both ways round.  Then nothing is
 * found, and nothing breaks.
 */
static void unequal_both_ways(struct kunit *test)
{
	struct ksm_stable_node *node[CONTENTS] = {}, *found;
	struct ksm_entry *entry;
	struct ksm_stats before;
	unsigned int i, count = 0;

	ksm_scan_lock();
	before = ksm_stats;
	for (i = 0; i < CONTENTS; i++) {
		struct ksm_chain *spare = ksm_chain_alloc(GFP_KERNEL);

		node[i] = new_node(i, 42);
		if (!node[i] || !spare) {
			KUNIT_FAIL(test, "no memory");
			ksm_chain_free(spare);
			break;
		}
		KUNIT_EXPECT_EQ(test, KSM_ABSENT,
				ksm_stable_find(0, 42, compare_unequal, NULL,
						&found));
		KUNIT_EXPECT_EQ(test, KSM_FOUND,
				ksm_stable_insert(node[i], 0, compare_unequal,
						  NULL, &spare, &found));
		KUNIT_EXPECT_NOT_NULL(test, spare);
		ksm_chain_free(spare);
	}
	for (entry = ksm_stable_from(0, 0); entry;
	     entry = ksm_stable_next(entry))
		count++;
	KUNIT_EXPECT_EQ(test, count, i);
	while (i--)
		erase_and_free(node[i]);
	KUNIT_EXPECT_NULL(test, ksm_stable_from(0, 0));
	KUNIT_EXPECT_EQ(test, 0, memcmp(&before, &ksm_stats, sizeof(before)));
	ksm_scan_unlock();
}

/* Out of a chain in one tree, into another tree, and back (B23, B26, B31) */
static void node_changes_trees(struct kunit *test)
{
	static const unsigned long contents[] = { 9, 9, 8 };
	struct ksm_stable_node *node[3];
	struct ksm_stats before;
	unsigned int i;

	if (nr_node_ids < 2)
		kunit_skip(test, "needs two memory nodes");
	ksm_scan_lock();
	before = ksm_stats;
	if (!make_nodes(test, node, 3, contents, two_digests))
		goto out;
	KUNIT_EXPECT_EQ(test, put(node[0], 1), KSM_FOUND);
	KUNIT_EXPECT_EQ(test, (int)node[0]->entry.nid, 1);
	KUNIT_EXPECT_EQ(test, (int)node[0]->entry.kind, KSM_SINGLE);
	KUNIT_EXPECT_PTR_EQ(test, ksm_stable_from(1, 0), &node[0]->entry);
	KUNIT_EXPECT_NULL(test, ksm_stable_next(&node[0]->entry));
	/* The chain stays, for the one that is left, until it is tidied */
	KUNIT_EXPECT_EQ(test, (int)node[1]->entry.kind, KSM_DUP);
	KUNIT_EXPECT_EQ(test, node[1]->entry.chain->entry.count, 1);

	KUNIT_EXPECT_EQ(test, put(node[1], 1), KSM_FOUND);
	KUNIT_EXPECT_FALSE(test, ksm_stable_has_digest(0, two_digests(9)));
	KUNIT_EXPECT_PTR_EQ(test, ksm_stable_from(0, 0), &node[2]->entry);
	KUNIT_EXPECT_EQ(test, (int)node[0]->entry.kind, KSM_DUP);
	KUNIT_EXPECT_PTR_EQ(test, node[0]->entry.chain, node[1]->entry.chain);
	KUNIT_EXPECT_EQ(test, ksm_stats.chains, before.chains + 1);

	KUNIT_EXPECT_EQ(test, put(node[0], 0), KSM_FOUND);
	KUNIT_EXPECT_EQ(test, put(node[1], 0), KSM_FOUND);
	KUNIT_EXPECT_NULL(test, ksm_stable_from(1, 0));
	for (i = 0; i < ARRAY_SIZE(node); i++)
		erase_and_free(node[i]);
	KUNIT_EXPECT_EQ(test, 0, memcmp(&before, &ksm_stats, sizeof(before)));
out:
	ksm_scan_unlock();
}

/* B25, B38: a node that cannot be had is no node, and is not counted */
static void nodes_without_memory(struct kunit *test)
{
	struct ksm_stats before;

	ksm_kunit_needs_fail_alloc(test);
	ksm_scan_lock();
	before = ksm_stats;
	ksm_kunit_fail_alloc(1);
	KUNIT_EXPECT_NULL(test, ksm_stable_node_alloc(1, GFP_NOWAIT |
						      __GFP_NOWARN));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_end_fail_alloc());
	ksm_kunit_fail_alloc(1);
	KUNIT_EXPECT_NULL(test, ksm_chain_alloc(GFP_NOWAIT | __GFP_NOWARN));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_end_fail_alloc());
	ksm_stable_node_free(NULL);
	ksm_chain_free(NULL);
	KUNIT_EXPECT_EQ(test, 0, memcmp(&before, &ksm_stats, sizeof(before)));
	ksm_scan_unlock();
}

static struct kunit_case stable_tree_cases[] = {
	KUNIT_CASE(random_strong_digest),
	KUNIT_CASE(random_two_digests),
	KUNIT_CASE(random_one_digest),
	KUNIT_CASE(chain_lifecycle),
	KUNIT_CASE(chain_room_first),
	KUNIT_CASE(stale_is_reported),
	KUNIT_CASE(busy_is_reported),
	KUNIT_CASE(digest_comes_first),
	KUNIT_CASE(unequal_both_ways),
	KUNIT_CASE(node_changes_trees),
	KUNIT_CASE(nodes_without_memory),
	{}
};

static struct kunit_suite stable_tree_suite = {
	.name = "ksm_stable_tree",
	.init = ksm_kunit_init,
	.test_cases = stable_tree_cases,
};

kunit_test_suite(stable_tree_suite);
