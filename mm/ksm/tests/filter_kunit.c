// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the filter (filter.c), against a plain list of what is in it.
 */
#include <kunit/static_stub.h>
#include <linux/hash.h>
#include <linux/slab.h>
#include "helpers.h"

#define BLOCKS	24
#define PAGES	(BLOCKS * KSM_BLOCK_PAGES)
#define STEPS	20000

typedef u64 (*digest_fn)(unsigned long contents);

static u64 strong_digest(unsigned long contents)
{
	return hash_64(contents + 1, KSM_DIGEST_BITS);
}

/* All of them want the same line, of a table with up to 256 */
static u64 crowded_digest(unsigned long contents)
{
	u64 digest = contents << 12;

	while (digest * GOLDEN_RATIO_64 >> 56)
		digest++;
	return digest;
}

/* Where the blocks are, and which of their pages are listed in which tree */
struct model {
	struct ksm_mm	*owner;
	struct ksm_stats before;
	digest_fn	digest;
	s8		nid[PAGES];	/* -1: not listed */
	unsigned int	listed;
};

static struct ksm_block *block_of(struct model *model, unsigned int page)
{
	return ksm_block_find(model->owner, page * PAGE_SIZE);
}

static u64 settled(struct model *model, unsigned int page)
{
	return ksm_rec_plain(KSM_SETTLED, 0, true, page, model->digest(page));
}

/* What the filter knows of a page must be what the model knows */
static const char *page_differs(struct model *model, unsigned int page)
{
	struct ksm_block *block = block_of(model, page), *found;
	unsigned int index = page % KSM_BLOCK_PAGES, at;
	bool there = model->nid[page] >= 0;
	int nid;

	if (ksm_filter_lists(block, ksm_record_get(block, index)) != there)
		return "lists";
	if (there) {
		nid = model->nid[page];
		if (!ksm_filter_find(model->digest(page), nid, &found, &at))
			return "lost";
		if (found != block || at != index)
			return "another page";
		if (!ksm_filter_has_cell(block, index))
			return "cell";
		return NULL;
	}
	for (nid = 0; nid < nr_node_ids; nid++) {
		if (ksm_filter_find(model->digest(page), nid, &found, &at))
			return "found what is not there";
	}
	return NULL;
}

static const char *filter_differs(struct model *model)
{
	const char *wrong = NULL;
	unsigned int page;

	for (page = 0; page < PAGES && !wrong; page++)
		wrong = page_differs(model, page);
	if (!wrong && ksm_stats.filtered - model->before.filtered !=
	    model->listed)
		wrong = "number of pages";
	return wrong;
}

static void forget_all(struct model *model)
{
	memset(model->nid, -1, sizeof(model->nid));
	model->listed = 0;
}

/* A filter with room for @room pages, and settled pages for it */
static struct model *model_begin(struct kunit *test, digest_fn digest,
				 unsigned long room)
{
	struct model *model = kunit_kzalloc(test, sizeof(*model), GFP_KERNEL);
	struct ksm_block *block;
	unsigned int page;

	KUNIT_ASSERT_NOT_NULL(test, model);
	model->owner = ksm_kunit_owner(test);
	model->digest = digest;
	forget_all(model);
	ksm_scan_lock();
	model->before = ksm_stats;
	KUNIT_EXPECT_EQ(test, ksm_filter_bytes(), 0);
	ksm_filter_fit(room);
	KUNIT_EXPECT_GT(test, ksm_filter_bytes(), 0);
	for (page = 0; page < PAGES; page++) {
		block = ksm_block_reserve(model->owner, page * PAGE_SIZE &
					  KSM_BLOCK_MASK, ~0ULL, GFP_KERNEL);
		if (!block) {
			KUNIT_FAIL(test, "no memory");
			break;
		}
		ksm_record_set(block, page % KSM_BLOCK_PAGES,
			       settled(model, page));
	}
	return model;
}

static void model_end(struct kunit *test, struct model *model)
{
	unsigned long from = 0;

	ksm_kunit_check_owner(test, model->owner);
	KUNIT_EXPECT_TRUE(test, ksm_records_drop(model->owner, &from, ULONG_MAX,
						 UINT_MAX, KSM_LOCK_TRY));
	KUNIT_EXPECT_EQ(test, ksm_stats.filtered, model->before.filtered);
	ksm_filter_fit(0);
	KUNIT_EXPECT_EQ(test, 0, memcmp(&model->before, &ksm_stats,
					sizeof(ksm_stats)));
	ksm_scan_unlock();
}

static bool add(struct model *model, unsigned int page, int nid)
{
	if (!ksm_filter_add(block_of(model, page), page % KSM_BLOCK_PAGES, nid))
		return false;
	model->nid[page] = nid;
	model->listed++;
	return true;
}

static void drop(struct model *model, unsigned int page)
{
	ksm_filter_drop(block_of(model, page), page % KSM_BLOCK_PAGES);
	if (model->nid[page] >= 0)
		model->listed--;
	model->nid[page] = -1;
}

/* A record that is overwritten or cleared takes the page out of the filter */
static void change_record(struct model *model, unsigned int page,
			  unsigned int how)
{
	struct ksm_block *block = block_of(model, page);
	unsigned int index = page % KSM_BLOCK_PAGES;
	u64 rec = settled(model, page);

	switch (how) {
	case 0:
		ksm_record_clear(block, index);
		break;
	case 1:
		ksm_record_set(block, index,
			       ksm_rec_plain(KSM_VOLATILE, 0, true, page,
					     model->digest(page)));
		break;
	case 2:
		/* Another frame might be on another node */
		ksm_record_set(block, index,
			       ksm_rec_plain(KSM_SETTLED, 0, true, page + 1,
					     model->digest(page)));
		break;
	default:
		/* The same page, though, stays */
		ksm_record_set(block, index, rec);
		return;
	}
	ksm_record_set(block, index, rec);
	if (model->nid[page] >= 0)
		model->listed--;
	model->nid[page] = -1;
}

static void random_steps(struct kunit *test, digest_fn digest,
			 unsigned long room)
{
	struct model *model = model_begin(test, digest, room);
	const char *wrong = NULL;
	unsigned int step, page, refused = 0;
	struct rnd_state rnd;

	ksm_kunit_seed(test, &rnd);
	for (step = 0; step < STEPS && !wrong; step++) {
		page = ksm_kunit_below(&rnd, PAGES);
		if (ksm_kunit_below(&rnd, 4) == 0)
			drop(model, page);
		else if (ksm_kunit_below(&rnd, 8) == 0)
			change_record(model, page, ksm_kunit_below(&rnd, 4));
		else if (model->nid[page] < 0)
			refused += !add(model, page,
					ksm_kunit_below(&rnd, nr_node_ids));
		wrong = page_differs(model, page);
		if (!wrong && !(step % 1000))
			wrong = filter_differs(model);
	}
	KUNIT_EXPECT_NULL_MSG(test, wrong, "step %u: %s", step, wrong);
	kunit_info(test, "%u refused", refused);
	if (room >= 2 * PAGES && digest == strong_digest)
		KUNIT_EXPECT_EQ(test, refused, 0);
	if (room < PAGES / 2)
		KUNIT_EXPECT_GT(test, refused, 0);
	model_end(test, model);
}

static void roomy(struct kunit *test)
{
	random_steps(test, strong_digest, 2 * PAGES);
}

static void just_enough(struct kunit *test)
{
	random_steps(test, strong_digest, PAGES);
}

static void too_small(struct kunit *test)
{
	random_steps(test, strong_digest, PAGES / 4);
}

static void crowded(struct kunit *test)
{
	random_steps(test, crowded_digest, PAGES);
}

/* At the size that is made for so many pages, so good as all find room */
static void fit_fits(struct kunit *test)
{
	struct model *model = model_begin(test, strong_digest, PAGES);
	unsigned int page, refused = 0;

	for (page = 0; page < PAGES; page++)
		refused += !add(model, page, 0);
	KUNIT_EXPECT_EQ(test, refused, 0);
	KUNIT_EXPECT_LE(test, ksm_filter_bytes(), PAGES * 7);
	KUNIT_EXPECT_NULL(test, filter_differs(model));
	model_end(test, model);
}

/* A table that was made for so many pages is not replaced for them again */
static void fit_is_stable(struct kunit *test)
{
	unsigned long pages, bytes;

	ksm_scan_lock();
	for (pages = 1; pages < 3000 && !ksm_kunit_failed(test); pages++) {
		ksm_filter_fit(0);
		ksm_filter_fit(pages);
		bytes = ksm_filter_bytes();
		KUNIT_EXPECT_GE(test, bytes, pages * 5);
		ksm_filter_renewed();
		ksm_filter_fit(pages);
		KUNIT_EXPECT_FALSE(test, ksm_filter_renewed());
		KUNIT_EXPECT_EQ(test, ksm_filter_bytes(), bytes);
	}
	ksm_filter_fit(0);
	ksm_scan_unlock();
}

/* Grown, shrunk or emptied, the filter knows nobody, and can be told again */
static void renewed(struct kunit *test)
{
	static const unsigned long rooms[] = { PAGES, 20 * PAGES, PAGES / 2 };
	struct model *model = model_begin(test, strong_digest, PAGES);
	unsigned int page, i;

	for (i = 0; i < ARRAY_SIZE(rooms); i++) {
		unsigned long bytes = ksm_filter_bytes();

		for (page = 0; page < PAGES / 3; page++)
			KUNIT_EXPECT_TRUE(test, add(model, page, 0));
		KUNIT_EXPECT_NULL(test, filter_differs(model));
		ksm_filter_fit(rooms[i]);
		if (!i) {
			/* Large enough as it was */
			KUNIT_EXPECT_EQ(test, ksm_filter_bytes(), bytes);
			KUNIT_EXPECT_NULL(test, filter_differs(model));
			ksm_filter_renew();
			KUNIT_EXPECT_EQ(test, ksm_filter_bytes(), bytes);
		}
		forget_all(model);
		KUNIT_EXPECT_NULL(test, filter_differs(model));
		ksm_kunit_check_owner(test, model->owner);
	}
	model_end(test, model);
}

/* A block that moves takes its pages along; without records its id goes */
static void block_moves(struct kunit *test)
{
	struct ksm_mm *owner = ksm_kunit_owner(test);
	struct ksm_block *block, *found;
	unsigned int i, j, at;
	struct ksm_stats before;

	ksm_scan_lock();
	before = ksm_stats;
	ksm_filter_fit(KSM_BLOCK_PAGES);
	for (i = 0; i < KSM_BLOCK_PAGES; i++) {
		block = ksm_block_reserve(owner, 0, BIT_ULL(i), GFP_KERNEL);
		if (!block) {
			KUNIT_FAIL(test, "no memory");
			break;
		}
		ksm_record_set(block, i, ksm_rec_plain(KSM_SETTLED, 0, true, i,
						       strong_digest(i)));
		KUNIT_EXPECT_TRUE(test, ksm_filter_add(block, i, 0));
		for (j = 0; j <= i; j++) {
			KUNIT_EXPECT_TRUE(test,
					  ksm_filter_find(strong_digest(j), 0,
							  &found, &at));
			KUNIT_EXPECT_PTR_EQ(test, found, block);
			KUNIT_EXPECT_EQ(test, at, j);
		}
	}
	ksm_kunit_check_owner(test, owner);
	for (i = 0; i < KSM_BLOCK_PAGES; i++)
		ksm_record_clear(ksm_block_find(owner, 0), i);
	KUNIT_EXPECT_FALSE(test, ksm_filter_find(strong_digest(5), 0, &found,
						 &at));
	ksm_block_free(owner, ksm_block_find(owner, 0));
	ksm_filter_fit(0);
	KUNIT_EXPECT_EQ(test, 0, memcmp(&before, &ksm_stats, sizeof(before)));
	ksm_scan_unlock();
}

/* A page alone in its block, listed by the block's number */
static struct ksm_block *lone(struct kunit *test, struct ksm_mm *owner,
			      unsigned int number)
{
	struct ksm_block *block;
	unsigned int index = number % KSM_BLOCK_PAGES;

	block = ksm_block_reserve(owner, number * KSM_BLOCK_SIZE,
				  BIT_ULL(index), GFP_KERNEL);
	if (!block) {
		KUNIT_FAIL(test, "no memory");
		return NULL;
	}
	ksm_record_set(block, index, ksm_rec_plain(KSM_SETTLED, 0, true, number,
						   strong_digest(number)));
	KUNIT_EXPECT_TRUE(test, ksm_filter_add(block, index, 0));
	return block;
}

static void expect_lone(struct kunit *test, struct ksm_mm *owner,
			unsigned int number, bool there)
{
	struct ksm_block *block = ksm_block_find(owner, number * KSM_BLOCK_SIZE);
	struct ksm_block *found;
	unsigned int at;

	KUNIT_EXPECT_EQ(test, there, ksm_filter_find(strong_digest(number), 0,
						     &found, &at));
	KUNIT_EXPECT_EQ(test, there,
			ksm_filter_lists(block, ksm_record_get(block, number %
							       KSM_BLOCK_PAGES)));
	if (there) {
		KUNIT_EXPECT_PTR_EQ(test, found, block);
		KUNIT_EXPECT_EQ(test, at, number % KSM_BLOCK_PAGES);
	}
}

/* A filter with room for some lone blocks, and these in it */
static struct ksm_mm *lones_begin(struct kunit *test, unsigned int room,
				  unsigned int nr, struct ksm_stats *before)
{
	struct ksm_mm *owner = ksm_kunit_owner(test);
	unsigned int i;

	ksm_scan_lock();
	*before = ksm_stats;
	ksm_filter_fit(room);
	for (i = 0; i < nr; i++)
		lone(test, owner, i);
	return owner;
}

static void lones_end(struct kunit *test, struct ksm_mm *owner,
		      const struct ksm_stats *before)
{
	unsigned long from = 0;

	ksm_kunit_check_owner(test, owner);
	ksm_records_drop(owner, &from, ULONG_MAX, UINT_MAX, KSM_LOCK_TRY);
	ksm_filter_fit(0);
	KUNIT_EXPECT_EQ(test, 0, memcmp(before, &ksm_stats, sizeof(*before)));
	ksm_scan_unlock();
}

/*
 * Lone blocks are found by their group's id, which is one for all of them; and
 * by that of the block that one of them grows to
 */
static void lone_block_grows(struct kunit *test)
{
	enum { LONES = 3 * KSM_GROUP_LONES };
	struct ksm_mm *owner;
	unsigned long bytes = 3 * (sizeof(struct ksm_group) +
				   KSM_BLOCK_ID_BYTES);
	struct ksm_stats before;
	struct ksm_block *block;
	unsigned int i, j;

	owner = lones_begin(test, LONES, LONES, &before);
	KUNIT_EXPECT_EQ(test, owner->bytes, bytes);
	for (i = 0; i < LONES; i += 2) {
		block = ksm_block_reserve(owner, i * KSM_BLOCK_SIZE, 0x5555,
					  GFP_KERNEL);
		KUNIT_EXPECT_NOT_NULL(test, block);
		if (block)
			KUNIT_EXPECT_FALSE(test, ksm_block_is_lone(block));
		for (j = 0; j < LONES; j++)
			expect_lone(test, owner, j, true);
		ksm_kunit_check_owner(test, owner);
	}
	lones_end(test, owner, &before);
}

static void free_lone(struct ksm_mm *owner, unsigned int number)
{
	struct ksm_block *block = ksm_block_find(owner, number * KSM_BLOCK_SIZE);

	ksm_record_clear(block, number % KSM_BLOCK_PAGES);
	ksm_block_left(owner, block);
}

/* Who gets the place of a page that was listed is not listed by that */
static void lone_block_is_used_again(struct kunit *test)
{
	enum { OTHER = 3 * KSM_GROUP_LONES };
	struct ksm_mm *owner;
	struct ksm_block *block, *before;
	struct ksm_stats stats;
	unsigned int i;

	owner = lones_begin(test, OTHER, 2 * KSM_GROUP_LONES, &stats);
	before = ksm_block_find(owner, 4 * KSM_BLOCK_SIZE);
	free_lone(owner, 4);
	block = ksm_block_reserve(owner, OTHER * KSM_BLOCK_SIZE, BIT_ULL(7),
				  GFP_KERNEL);
	KUNIT_EXPECT_PTR_EQ(test, block, before);
	if (block) {
		ksm_record_set(block, 7, ksm_rec_plain(KSM_SETTLED, 0, true, 4,
						       strong_digest(OTHER)));
		KUNIT_EXPECT_FALSE(test, ksm_filter_lists(block,
							  ksm_record_get(block, 7)));
	}
	expect_lone(test, owner, 4, false);
	for (i = 0; i < 2 * KSM_GROUP_LONES; i++) {
		if (i != 4)
			expect_lone(test, owner, i, true);
	}
	lones_end(test, owner, &stats);
}

/* What is left in groups that have lost most of theirs moves together */
static void lone_blocks_draw_together(struct kunit *test)
{
	enum { GROUPS = 8, LONES = GROUPS * KSM_GROUP_LONES };
	struct ksm_mm *owner;
	struct ksm_stats before;
	unsigned int i;

	owner = lones_begin(test, LONES, LONES, &before);
	for (i = 0; i < LONES; i++) {
		if (i % KSM_GROUP_LONES)
			free_lone(owner, i);
	}
	KUNIT_EXPECT_EQ(test, owner->bytes, GROUPS * (sizeof(struct ksm_group) +
						      KSM_BLOCK_ID_BYTES));
	for (i = 0; i < LONES; i += KSM_GROUP_LONES) {
		ksm_block_left(owner, ksm_block_find(owner, i * KSM_BLOCK_SIZE));
		ksm_kunit_check_owner(test, owner);
	}
	KUNIT_EXPECT_EQ(test, owner->bytes,
			sizeof(struct ksm_group) + KSM_BLOCK_ID_BYTES);
	for (i = 0; i < LONES; i += KSM_GROUP_LONES)
		expect_lone(test, owner, i, true);
	lones_end(test, owner, &before);
}

/* A table that is new knows none of them; one that is listed is all it lists */
static void lone_block_is_listed_anew(struct kunit *test)
{
	struct ksm_mm *owner;
	struct ksm_stats before;
	unsigned int i;

	owner = lones_begin(test, KSM_GROUP_LONES, KSM_GROUP_LONES, &before);
	ksm_filter_renew();
	for (i = 0; i < KSM_GROUP_LONES; i++)
		expect_lone(test, owner, i, false);
	KUNIT_EXPECT_TRUE(test, ksm_filter_add(ksm_block_find(owner, 0), 0, 0));
	for (i = 0; i < KSM_GROUP_LONES; i++)
		expect_lone(test, owner, i, i == 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.filtered, before.filtered + 1);
	lones_end(test, owner, &before);
}

static u32 no_id(void *what)
{
	return 0;
}

/* Without memory for an id the block grows all the same, not listed for now */
static void lone_block_grows_without_id(struct kunit *test)
{
	struct ksm_mm *owner;
	struct ksm_block *block;
	struct ksm_stats before;

	owner = lones_begin(test, KSM_BLOCK_PAGES, 1, &before);
	lone(test, owner, 5);
	kunit_activate_static_stub(test, ksm_filter_new_id, no_id);
	block = ksm_block_reserve(owner, 5 * KSM_BLOCK_SIZE, 0x5555, GFP_KERNEL);
	kunit_deactivate_static_stub(test, ksm_filter_new_id);
	KUNIT_EXPECT_NOT_NULL(test, block);
	if (block)
		KUNIT_EXPECT_EQ(test, ksm_rec_digest(ksm_record_get(block, 5)),
				strong_digest(5));
	expect_lone(test, owner, 5, false);
	expect_lone(test, owner, 0, true);
	KUNIT_EXPECT_EQ(test, ksm_stats.filtered, before.filtered + 1);
	ksm_kunit_check_owner(test, owner);
	/* It is listed at its next visit */
	KUNIT_EXPECT_TRUE(test, block && ksm_filter_add(block, 5, 0));
	expect_lone(test, owner, 5, true);
	lones_end(test, owner, &before);
}

/* What an earlier table listed is not listed by the age of another group */
static void lone_block_moves_unlisted(struct kunit *test)
{
	enum { LAST = KSM_GROUP_LONES, MORE = LAST + 1 };
	struct ksm_mm *owner;
	struct ksm_stats before;

	owner = lones_begin(test, MORE, MORE, &before);
	ksm_filter_renew();
	/* The first group has room now, and is the first that is listed */
	free_lone(owner, 0);
	KUNIT_EXPECT_TRUE(test, ksm_filter_add(ksm_block_find(owner,
							      KSM_BLOCK_SIZE),
					       1, 0));
	expect_lone(test, owner, LAST, false);
	KUNIT_EXPECT_EQ(test, owner->bytes, 2 * (sizeof(struct ksm_group) +
						 KSM_BLOCK_ID_BYTES));
	ksm_block_left(owner, ksm_block_find(owner, LAST * KSM_BLOCK_SIZE));
	KUNIT_EXPECT_EQ(test, owner->bytes,
			sizeof(struct ksm_group) + KSM_BLOCK_ID_BYTES);
	expect_lone(test, owner, LAST, false);
	expect_lone(test, owner, 1, true);
	ksm_kunit_check_owner(test, owner);
	KUNIT_EXPECT_TRUE(test, ksm_filter_add(ksm_block_find(owner, LAST *
							      KSM_BLOCK_SIZE),
					       LAST, 0));
	expect_lone(test, owner, LAST, true);
	lones_end(test, owner, &before);
}

/* Before there is a table, and after, nothing is found and nothing listed */
static void without_table(struct kunit *test)
{
	struct model *model = model_begin(test, strong_digest, PAGES);

	ksm_filter_fit(0);
	KUNIT_EXPECT_EQ(test, ksm_filter_bytes(), 0);
	KUNIT_EXPECT_FALSE(test, add(model, 0, 0));
	KUNIT_EXPECT_NULL(test, filter_differs(model));
	model_end(test, model);
}

static struct kunit_case filter_cases[] = {
	KUNIT_CASE(roomy),
	KUNIT_CASE(just_enough),
	KUNIT_CASE(too_small),
	KUNIT_CASE(crowded),
	KUNIT_CASE(fit_fits),
	KUNIT_CASE(fit_is_stable),
	KUNIT_CASE(renewed),
	KUNIT_CASE(block_moves),
	KUNIT_CASE(lone_block_grows),
	KUNIT_CASE(lone_block_is_used_again),
	KUNIT_CASE(lone_blocks_draw_together),
	KUNIT_CASE(lone_block_is_listed_anew),
	KUNIT_CASE(lone_block_grows_without_id),
	KUNIT_CASE(lone_block_moves_unlisted),
	KUNIT_CASE(without_table),
	{}
};

static struct kunit_suite filter_suite = {
	.name = "ksm_filter",
	.init = ksm_kunit_init,
	.test_cases = filter_cases,
};

kunit_test_suite(filter_suite);
