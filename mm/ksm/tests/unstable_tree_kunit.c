// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the unstable trees (unstable_tree.c).  The contents of a page are
 * made up: they are the page number of its item's address.
 */
#include <linux/hash.h>
#include "helpers.h"

#define CONTENTS	40
#define STEPS		10000
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

struct model {
	struct ksm_mm	*owner;
	digest_fn	digest;
	/* By what the contents were at insertion: that is all that counts */
	struct ksm_rmap_item *item[NIDS][CONTENTS];
};

static unsigned long contents_of(struct ksm_rmap_item *item)
{
	return item->address / PAGE_SIZE;
}

/* As ksmd does it: go down until the contents are met, or the end is */
static struct ksm_rmap_item *descend(struct model *model,
				     struct ksm_unstable_pos *pos, int nid,
				     unsigned long contents)
{
	u64 digest = model->digest(contents);
	struct ksm_rmap_item *item = ksm_unstable_first(pos, nid, digest);

	while (item && contents_of(item) != contents)
		item = ksm_unstable_next(pos, item, digest,
					 contents > contents_of(item));
	return item;
}

static const char *tree_differs(struct model *model, int nid)
{
	unsigned int count = 0, want = 0, contents;
	struct ksm_rmap_item *item, *last = NULL;
	struct rb_node *rb;

	for (rb = rb_first(ksm_unstable_root(nid)); rb; rb = rb_next(rb)) {
		item = rb_entry(rb, struct ksm_rmap_item, rb);
		if (item != model->item[nid][contents_of(item)])
			return "stray item";
		if (item->state != KSM_CANDIDATE || item->nid != nid ||
		    item->digest != model->digest(contents_of(item)))
			return "fields of an item";
		if (last && (item->digest < last->digest ||
			     (item->digest == last->digest &&
			      contents_of(item) <= contents_of(last))))
			return "order";
		last = item;
		count++;
	}
	for (contents = 0; contents < CONTENTS; contents++)
		want += !!model->item[nid][contents];
	return count == want ? NULL : "number of items";
}

static const char *random_step(struct model *model, int nid,
			       unsigned long contents, bool put)
{
	struct ksm_rmap_item **slot = &model->item[nid][contents];
	struct ksm_unstable_pos pos;
	struct ksm_rmap_item *item;

	item = descend(model, &pos, nid, contents);
	if (item != *slot)
		return "result of a search";
	if (put && !item) {
		item = ksm_item_alloc(model->owner, contents * PAGE_SIZE,
				      GFP_KERNEL);
		if (!item)
			return "no memory";
		ksm_unstable_insert(item, &pos, nid, model->digest(contents));
		*slot = item;
	} else if (!put && item) {
		ksm_unstable_erase(item);
		*slot = NULL;
		if (item->state != KSM_NEW)
			return "state of an erased item";
		ksm_item_free(item);
	}
	return NULL;
}

static void drop_all(struct model *model)
{
	unsigned int nid, contents;

	for (nid = 0; nid < NIDS; nid++) {
		for (contents = 0; contents < CONTENTS; contents++) {
			if (model->item[nid][contents])
				ksm_item_drop_candidate(model->item[nid][contents]);
		}
	}
}

static void run_random(struct kunit *test, digest_fn digest)
{
	struct model *model = kunit_kzalloc(test, sizeof(*model), GFP_KERNEL);
	const char *wrong = NULL;
	struct ksm_stats before;
	struct rnd_state rnd;
	unsigned int step;

	KUNIT_ASSERT_NOT_NULL(test, model);
	model->owner = ksm_kunit_owner(test);
	model->digest = digest;
	ksm_kunit_seed(test, &rnd);

	ksm_scan_lock();
	before = ksm_stats;
	for (step = 0; step < STEPS && !wrong; step++) {
		int nid = ksm_kunit_below(&rnd, min(NIDS, nr_node_ids));

		wrong = random_step(model, nid, ksm_kunit_below(&rnd, CONTENTS),
				    ksm_kunit_below(&rnd, 2));
		if (!wrong)
			wrong = tree_differs(model, nid);
	}
	KUNIT_EXPECT_NULL_MSG(test, wrong, "step %u: %s", step, wrong);
	drop_all(model);
	KUNIT_EXPECT_EQ(test, 0, memcmp(&before, &ksm_stats, sizeof(before)));
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

/*
 * Pages change after they were listed.  Their items keep their places, and
 * can be taken out in any order; a page that still is what it was is found.
 */
static void pages_change_while_listed(struct kunit *test)
{
	struct model *model = kunit_kzalloc(test, sizeof(*model), GFP_KERNEL);
	struct rnd_state rnd;
	unsigned int contents;

	KUNIT_ASSERT_NOT_NULL(test, model);
	model->owner = ksm_kunit_owner(test);
	model->digest = strong_digest;
	ksm_kunit_seed(test, &rnd);

	ksm_scan_lock();
	for (contents = 0; contents < CONTENTS; contents++)
		KUNIT_EXPECT_NULL(test, random_step(model, 0, contents, true));
	/* Every third page is another one now */
	for (contents = 0; contents < CONTENTS; contents += 3)
		model->item[0][contents]->address = (CONTENTS + contents) *
						    PAGE_SIZE;
	for (contents = 0; contents < CONTENTS; contents++) {
		struct ksm_unstable_pos pos;

		KUNIT_EXPECT_PTR_EQ(test,
				    descend(model, &pos, 0, contents),
				    contents % 3 ? model->item[0][contents] :
						   NULL);
	}
	while (!RB_EMPTY_ROOT(ksm_unstable_root(0))) {
		contents = ksm_kunit_below(&rnd, CONTENTS);
		if (!model->item[0][contents])
			continue;
		ksm_item_drop_candidate(model->item[0][contents]);
		model->item[0][contents] = NULL;
	}
	for (contents = 0; contents < CONTENTS; contents++)
		KUNIT_EXPECT_NULL(test, model->item[0][contents]);
	ksm_scan_unlock();
}

/* An item is in the tree of its node ID, and in no other (B32) */
static void trees_are_apart(struct kunit *test)
{
	struct model *model = kunit_kzalloc(test, sizeof(*model), GFP_KERNEL);
	struct ksm_unstable_pos pos;

	KUNIT_ASSERT_NOT_NULL(test, model);
	if (nr_node_ids < 2)
		kunit_skip(test, "needs two memory nodes");
	model->owner = ksm_kunit_owner(test);
	model->digest = strong_digest;

	ksm_scan_lock();
	KUNIT_EXPECT_NULL(test, random_step(model, 0, 3, true));
	KUNIT_EXPECT_NULL(test, random_step(model, 1, 5, true));
	KUNIT_EXPECT_NULL(test, descend(model, &pos, 1, 3));
	KUNIT_EXPECT_NULL(test, descend(model, &pos, 0, 5));
	KUNIT_EXPECT_PTR_EQ(test, descend(model, &pos, 0, 3),
			    model->item[0][3]);
	KUNIT_EXPECT_PTR_EQ(test, descend(model, &pos, 1, 5),
			    model->item[1][5]);
	drop_all(model);
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(ksm_unstable_root(0)));
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(ksm_unstable_root(1)));
	ksm_scan_unlock();
}

/* B103: "unequal" whichever way round one asks */
static void unequal_both_ways(struct kunit *test)
{
	struct ksm_mm *owner = ksm_kunit_owner(test);
	struct ksm_rmap_item *item[CONTENTS] = {}, *at;
	struct ksm_unstable_pos pos;
	unsigned int i, count = 0;
	struct rnd_state rnd;
	struct rb_node *rb;

	ksm_kunit_seed(test, &rnd);
	ksm_scan_lock();
	for (i = 0; i < CONTENTS; i++) {
		for (at = ksm_unstable_first(&pos, 0, 7); at;)
			at = ksm_unstable_next(&pos, at, 7,
					       ksm_kunit_below(&rnd, 2));
		item[i] = ksm_item_alloc(owner, i * PAGE_SIZE, GFP_KERNEL);
		if (item[i])
			ksm_unstable_insert(item[i], &pos, 0, 7);
	}
	for (rb = rb_first(ksm_unstable_root(0)); rb; rb = rb_next(rb))
		count++;
	KUNIT_EXPECT_EQ(test, count, CONTENTS);
	for (i = 0; i < CONTENTS; i++) {
		if (item[i])
			ksm_item_drop_candidate(item[i]);
	}
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(ksm_unstable_root(0)));
	ksm_scan_unlock();
}

static struct kunit_case unstable_tree_cases[] = {
	KUNIT_CASE(random_strong_digest),
	KUNIT_CASE(random_two_digests),
	KUNIT_CASE(random_one_digest),
	KUNIT_CASE(pages_change_while_listed),
	KUNIT_CASE(trees_are_apart),
	KUNIT_CASE(unequal_both_ways),
	{}
};

static struct kunit_suite unstable_tree_suite = {
	.name = "ksm_unstable_tree",
	.init = ksm_kunit_init,
	.test_cases = unstable_tree_cases,
};

kunit_test_suite(unstable_tree_suite);
