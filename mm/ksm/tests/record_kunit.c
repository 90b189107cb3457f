// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the page records (record.c): what a record's word holds, and random
 * changes to blocks of records next to a plain array.
 */
#include <linux/bitmap.h>
#include <linux/slab.h>
#include "helpers.h"

#define BLOCKS		8
#define STEPS		20000
#define WIDE_BYTES(n)	(sizeof(struct ksm_wide) + (n) * sizeof(u64))

/* What the records should be: 0, which is KSM_NEW, where there is none */
struct model {
	struct ksm_mm	*owner;
	struct ksm_stats before;
	unsigned long	base[BLOCKS];
	u64		rec[BLOCKS][KSM_BLOCK_PAGES];
	u8		capacity[BLOCKS];
};

static u64 random_rec(struct rnd_state *rnd)
{
	enum ksm_state state = ksm_kunit_below(rnd, 2) ? KSM_VOLATILE :
							 KSM_SETTLED;

	return ksm_rec_plain(state, ksm_kunit_below(rnd, 64),
			     ksm_kunit_below(rnd, 2), ksm_kunit_u64(rnd),
			     ksm_kunit_u64(rnd));
}

/* ------------------------------------------------------------------ */
/* The word                                                            */
/* ------------------------------------------------------------------ */

static void word_round_trip(struct kunit *test)
{
	struct rnd_state rnd;
	unsigned int i;

	ksm_kunit_seed(test, &rnd);
	for (i = 0; i < 2000 && !ksm_kunit_failed(test); i++) {
		enum ksm_state state = i % 2 ? KSM_VOLATILE : KSM_SETTLED;
		unsigned int age = i % (KSM_REC_AGE_MAX + 1);
		u64 digest = ksm_kunit_u64(&rnd);
		u16 tag = ksm_kunit_u64(&rnd) & KSM_REC_TAG_MASK;
		bool watched = i & 4;
		u64 rec = ksm_rec_plain(state, age, watched, tag, digest);

		KUNIT_EXPECT_EQ(test, ksm_rec_state(rec), state);
		KUNIT_EXPECT_EQ(test, ksm_rec_age(rec), age);
		KUNIT_EXPECT_EQ(test, ksm_rec_watched(rec), watched);
		KUNIT_EXPECT_EQ(test, rec & KSM_REC_FILTERED, 0);
		KUNIT_EXPECT_EQ(test, ksm_rec_tag(rec), tag);
		KUNIT_EXPECT_EQ(test, ksm_rec_digest(rec),
				digest & KSM_DIGEST_MASK);
		KUNIT_EXPECT_FALSE(test, ksm_rec_has_item(rec));
	}
}

static void word_age_saturates(struct kunit *test)
{
	static const unsigned int ages[] = { 15, 16, 17, 255, 256, UINT_MAX };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ages); i++) {
		u64 rec = ksm_rec_plain(KSM_VOLATILE, ages[i], false, 0, 0);

		KUNIT_EXPECT_EQ(test, ksm_rec_age(rec), KSM_REC_AGE_MAX);
		KUNIT_EXPECT_EQ(test, ksm_rec_state(rec), KSM_VOLATILE);
		KUNIT_EXPECT_EQ(test, ksm_rec_tag(rec), 0);
		KUNIT_EXPECT_EQ(test, ksm_rec_digest(rec), 0);
	}
}

static void word_leads_to_item(struct kunit *test)
{
	struct ksm_mm *owner = ksm_kunit_owner(test);
	struct ksm_rmap_item *item;
	u64 rec;

	ksm_scan_lock();
	item = ksm_item_alloc(owner, 0x7000, GFP_KERNEL);
	KUNIT_EXPECT_NOT_NULL(test, item);
	if (item) {
		rec = ksm_rec_listed(KSM_CANDIDATE, item, 0);
		KUNIT_EXPECT_EQ(test, ksm_rec_state(rec), KSM_CANDIDATE);
		KUNIT_EXPECT_TRUE(test, ksm_rec_has_item(rec));
		KUNIT_EXPECT_PTR_EQ(test, ksm_rec_item(rec), item);

		rec = ksm_rec_listed(KSM_MERGED, item, 0);
		KUNIT_EXPECT_EQ(test, ksm_rec_state(rec), KSM_MERGED);
		KUNIT_EXPECT_TRUE(test, ksm_rec_has_item(rec));
		KUNIT_EXPECT_PTR_EQ(test, ksm_rec_item(rec), item);
		ksm_item_free(item);
	}
	ksm_scan_unlock();
}

/*
 * The frames of a huge page sit at addresses with the same low bits.  All of
 * their tags must differ, and those of the same place in the next huge page.
 */
static void frame_tag_tells_neighbours_apart(struct kunit *test)
{
	const unsigned long frames = 512, huge_pages = 64;
	unsigned long *seen = kunit_kcalloc(test, BITS_TO_LONGS(1 << 16),
					    sizeof(long), GFP_KERNEL);
	unsigned long huge, i;

	KUNIT_ASSERT_NOT_NULL(test, seen);
	for (huge = 0; huge < huge_pages; huge++) {
		bitmap_zero(seen, 1 << 16);
		for (i = 0; i < frames; i++) {
			unsigned long pfn = (huge + 3) * frames + i;
			u16 tag = ksm_frame_tag(pfn);

			if (__test_and_set_bit(tag, seen))
				KUNIT_FAIL(test, "tag of frame %lu seen twice",
					   pfn);
			if (tag == ksm_frame_tag(pfn + frames))
				KUNIT_FAIL(test, "tag of frame %lu again in the next huge page",
					   pfn);
		}
	}
}

/* ------------------------------------------------------------------ */
/* Blocks                                                              */
/* ------------------------------------------------------------------ */

static const char *block_differs(struct model *model, unsigned int which)
{
	struct ksm_block *block = ksm_block_find(model->owner,
						 model->base[which]);
	unsigned int i, rank = 0;

	if (!block != !model->capacity[which])
		return "a block too many or too few";
	if (!block)
		return NULL;
	if (ksm_block_base(block) != model->base[which])
		return "block of another address";
	if (block->capacity != model->capacity[which])
		return "capacity changed";
	for (i = 0; i < KSM_BLOCK_PAGES; i++) {
		u64 want = model->rec[which][i];

		if (!!(ksm_block_present(block) & BIT_ULL(i)) != !!want)
			return "present bit";
		if (ksm_record_get(block, i) != want)
			return "record";
		if (want && ksm_block_records(block)[rank++] != want)
			return "packed order";
	}
	return rank > block->capacity ? "overflow" : NULL;
}

static const char *totals_differ(struct model *model)
{
	unsigned long records = 0, settled = 0, bytes = 0;
	unsigned int which, i, lones = 0;

	for (which = 0; which < BLOCKS; which++) {
		for (i = 0; i < KSM_BLOCK_PAGES; i++) {
			u64 rec = model->rec[which][i];

			records += !!rec;
			settled += ksm_rec_state(rec) == KSM_SETTLED;
		}
		if (model->capacity[which] > 1)
			bytes += WIDE_BYTES(model->capacity[which]);
		lones += model->capacity[which] == 1;
	}
	/* They all fit into one group */
	bytes += lones ? sizeof(struct ksm_group) : 0;
	if (ksm_stats.records - model->before.records != records)
		return "stats.records";
	if (ksm_stats.unshared - model->before.unshared != settled)
		return "stats.unshared";
	if (ksm_stats.bytes - model->before.bytes != bytes)
		return "stats.bytes";
	return model->owner->bytes == bytes ? NULL : "owner->bytes";
}

/* Reserve, and see that capacity grows when it must, and only then */
static const char *reserve(struct model *model, unsigned int which, u64 wanted)
{
	struct ksm_block *block, *before;
	u64 present = 0;
	unsigned int i;

	for (i = 0; i < KSM_BLOCK_PAGES; i++)
		present |= model->rec[which][i] ? BIT_ULL(i) : 0;
	before = ksm_block_find(model->owner, model->base[which]);
	block = ksm_block_reserve(model->owner, model->base[which], wanted,
				  GFP_KERNEL);
	if (!block)
		return "no memory";
	if (block->capacity < hweight64(present | wanted))
		return "too little room";
	if (model->capacity[which] >= hweight64(present | wanted) &&
	    block != before)
		return "block moved without need";
	model->capacity[which] = block->capacity;
	return NULL;
}

static const char *random_step(struct model *model, unsigned int which,
			       struct rnd_state *rnd)
{
	unsigned int index = ksm_kunit_below(rnd, KSM_BLOCK_PAGES);
	u64 mask = ksm_kunit_u64(rnd) & ksm_kunit_u64(rnd);
	struct ksm_block *block;
	const char *wrong = NULL;
	unsigned int i;

	switch (ksm_kunit_below(rnd, 9)) {
	case 0:		/* room for many */
		return reserve(model, which,
			       ksm_kunit_u64(rnd) & ksm_kunit_u64(rnd) &
			       ksm_kunit_u64(rnd));
	case 1:
	case 2:
	case 3:		/* a new record, or another in its place */
		wrong = reserve(model, which, BIT_ULL(index));
		if (wrong)
			return wrong;
		model->rec[which][index] = random_rec(rnd);
		block = ksm_block_find(model->owner, model->base[which]);
		ksm_record_set(block, index, model->rec[which][index]);
		return NULL;
	case 4:
	case 5:
	case 6:		/* also where there is none, or no block at all */
		model->rec[which][index] = 0;
		block = ksm_block_find(model->owner, model->base[which]);
		ksm_record_clear(block, index);
		return NULL;
	case 7:		/* many at a time */
		block = ksm_block_find(model->owner, model->base[which]);
		if (!block)
			return NULL;
		for (i = 0; i < KSM_BLOCK_PAGES; i++) {
			if (mask & BIT_ULL(i))
				model->rec[which][i] = 0;
		}
		ksm_records_clear(block, mask);
		return NULL;
	default:	/* a visitor frees what is empty */
		block = ksm_block_find(model->owner, model->base[which]);
		if (!block)
			return NULL;
		if (ksm_kunit_below(rnd, 8) == 0) {
			for (i = 0; i < KSM_BLOCK_PAGES; i++)
				ksm_record_clear(block, i);
			memset(model->rec[which], 0,
			       sizeof(model->rec[which]));
		}
		if (ksm_block_present(block))
			return NULL;
		ksm_block_free(model->owner, block);
		model->capacity[which] = 0;
		return NULL;
	}
}

static struct model *model_begin(struct kunit *test)
{
	struct model *model = kunit_kzalloc(test, sizeof(*model), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, model);
	model->owner = ksm_kunit_owner(test);
	/* Neighbours, some far away, the first and the last there can be */
	for (i = 0; i < BLOCKS; i++)
		model->base[i] = i < BLOCKS / 2 ? i * KSM_BLOCK_SIZE :
						  -(i * KSM_BLOCK_SIZE << i);
	model->base[BLOCKS - 1] = KSM_BLOCK_MASK;
	return model;
}

static void drop_blocks(struct ksm_mm *owner)
{
	struct ksm_block *block, *next;
	unsigned int i;

	for (block = ksm_block_from(owner, 0); block; block = next) {
		next = ksm_block_next(block);
		for (i = 0; i < KSM_BLOCK_PAGES; i++)
			ksm_record_clear(block, i);
		ksm_block_free(owner, block);
	}
}

static void blocks_random(struct kunit *test)
{
	struct model *model = model_begin(test);
	const char *wrong = NULL;
	struct rnd_state rnd;
	unsigned int step;

	ksm_kunit_seed(test, &rnd);
	ksm_scan_lock();
	model->before = ksm_stats;
	for (step = 0; step < STEPS && !wrong; step++) {
		unsigned int which = ksm_kunit_below(&rnd, BLOCKS);

		wrong = random_step(model, which, &rnd);
		if (!wrong)
			wrong = block_differs(model, which);
		if (!wrong)
			wrong = totals_differ(model);
	}
	KUNIT_EXPECT_NULL_MSG(test, wrong, "step %u: %s", step, wrong);
	ksm_kunit_check_owner(test, model->owner);
	drop_blocks(model->owner);
	KUNIT_EXPECT_EQ(test, 0, memcmp(&model->before, &ksm_stats,
					sizeof(ksm_stats)));
	KUNIT_EXPECT_EQ(test, model->owner->bytes, 0);
	ksm_scan_unlock();
}

/* Every capacity on the way from one record to 64 */
static void block_grows(struct kunit *test)
{
	struct ksm_mm *owner = ksm_kunit_owner(test);
	struct ksm_block *block = NULL;
	unsigned int i;

	ksm_scan_lock();
	/* From the top down: each new record comes before all others */
	for (i = KSM_BLOCK_PAGES; i-- > 0;) {
		block = ksm_block_reserve(owner, 0, BIT_ULL(i), GFP_KERNEL);
		if (!block)
			break;
		ksm_record_set(block, i, ksm_rec_plain(KSM_SETTLED, 0, true, i, i));
		KUNIT_EXPECT_EQ(test, owner->bytes,
				block->capacity == 1 ? sizeof(struct ksm_group) :
				WIDE_BYTES(block->capacity));
		KUNIT_EXPECT_EQ(test, hweight64(ksm_block_present(block)),
				KSM_BLOCK_PAGES - i);
	}
	KUNIT_EXPECT_NOT_NULL(test, block);
	for (i = 0; block && i < KSM_BLOCK_PAGES; i++) {
		KUNIT_EXPECT_EQ(test, ksm_rec_tag(ksm_block_records(block)[i]),
				i);
		KUNIT_EXPECT_EQ(test, ksm_rec_digest(ksm_record_get(block, i)),
				i);
	}
	drop_blocks(owner);
	ksm_scan_unlock();
}

/* What the documentation says of the cost of a unique page */
static void block_is_small(struct kunit *test)
{
	struct ksm_mm *owner = ksm_kunit_owner(test);
	unsigned int i;

	ksm_scan_lock();
	KUNIT_EXPECT_NOT_NULL(test, ksm_block_reserve(owner, 0, ~0ULL,
						      GFP_KERNEL));
	KUNIT_EXPECT_LE(test, owner->bytes, 9 * KSM_BLOCK_PAGES);
	drop_blocks(owner);
	for (i = 0; i < KSM_GROUP_LONES; i++)
		KUNIT_EXPECT_NOT_NULL(test, ksm_block_reserve(owner,
							      i * KSM_BLOCK_SIZE,
							      1, GFP_KERNEL));
	KUNIT_EXPECT_LE(test, owner->bytes, 44 * KSM_GROUP_LONES);
	drop_blocks(owner);
	ksm_scan_unlock();
}

/* Make a lone block, without a look at what it costs */
static struct ksm_block *lone(struct kunit *test, struct ksm_mm *owner,
			      unsigned int number)
{
	struct ksm_block *block;

	block = ksm_block_reserve(owner, number * KSM_BLOCK_SIZE,
				  BIT_ULL(number % KSM_BLOCK_PAGES), GFP_KERNEL);
	if (block)
		ksm_record_set(block, number % KSM_BLOCK_PAGES,
			       ksm_rec_plain(KSM_VOLATILE, 0, false, number,
					     number));
	else
		KUNIT_FAIL(test, "no memory");
	return block;
}

/* What was freed is used again, and a group without blocks is freed */
static void lone_blocks_share_groups(struct kunit *test)
{
	enum { GROUPS = 5, LONES = GROUPS * KSM_GROUP_LONES };
	struct ksm_mm *owner = ksm_kunit_owner(test);
	struct ksm_block *block;
	unsigned int i;

	ksm_scan_lock();
	for (i = 0; i < LONES; i++) {
		lone(test, owner, i);
		KUNIT_EXPECT_EQ(test, owner->bytes, sizeof(struct ksm_group) *
				(i / KSM_GROUP_LONES + 1));
	}
	KUNIT_EXPECT_TRUE(test, list_empty(&owner->groups));
	/* Out of each group some, and others in their place */
	for (i = 0; i < LONES; i += 3) {
		block = ksm_block_find(owner, i * KSM_BLOCK_SIZE);
		ksm_record_clear(block, i % KSM_BLOCK_PAGES);
		ksm_block_free(owner, block);
	}
	KUNIT_EXPECT_EQ(test, owner->bytes, GROUPS * sizeof(struct ksm_group));
	ksm_kunit_check_owner(test, owner);
	for (i = 0; i < LONES; i += 3)
		lone(test, owner, LONES + i);
	KUNIT_EXPECT_EQ(test, owner->bytes, GROUPS * sizeof(struct ksm_group));
	KUNIT_EXPECT_TRUE(test, list_empty(&owner->groups));
	ksm_kunit_check_owner(test, owner);
	for (i = 0; i < LONES; i++) {
		unsigned int number = i % 3 ? i : LONES + i;
		unsigned long addr = number * KSM_BLOCK_SIZE +
				     number % KSM_BLOCK_PAGES * PAGE_SIZE;

		KUNIT_EXPECT_EQ(test, ksm_rec_digest(ksm_record_at(owner, addr)),
				number);
	}
	drop_blocks(owner);
	KUNIT_EXPECT_EQ(test, owner->bytes, 0);
	KUNIT_EXPECT_TRUE(test, list_empty(&owner->groups));
	ksm_scan_unlock();
}

static void blocks_in_order(struct kunit *test)
{
	struct ksm_mm *owner = ksm_kunit_owner(test);
	struct ksm_block *block;
	struct rnd_state rnd;
	unsigned int i, count = 0;
	u64 made = 0;

	ksm_kunit_seed(test, &rnd);
	ksm_scan_lock();
	for (i = 0; i < 40; i++) {
		unsigned long number = ksm_kunit_below(&rnd, 64);

		if (ksm_block_reserve(owner, number * KSM_BLOCK_SIZE, 1,
				      GFP_KERNEL))
			made |= BIT_ULL(number);
	}
	for (block = ksm_block_from(owner, 0); block;
	     block = ksm_block_next(block)) {
		struct ksm_block *next = ksm_block_next(block);

		KUNIT_EXPECT_TRUE(test, !next || ksm_block_base(next) >
						 ksm_block_base(block));
		KUNIT_EXPECT_TRUE(test, made & BIT_ULL(ksm_block_base(block) /
						       KSM_BLOCK_SIZE));
		count++;
	}
	KUNIT_EXPECT_EQ(test, count, hweight64(made));

	for (i = 0; i < 64; i++) {
		unsigned long in_it = i * KSM_BLOCK_SIZE +
			ksm_kunit_below(&rnd, KSM_BLOCK_SIZE);
		u64 rest = made & (~0ULL << i);

		block = ksm_block_find(owner, in_it);
		KUNIT_EXPECT_EQ(test, !!block, !!(made & BIT_ULL(i)));
		block = ksm_block_from(owner, in_it);
		KUNIT_EXPECT_EQ(test, !!block, !!rest);
		if (block && rest)
			KUNIT_EXPECT_EQ(test, ksm_block_base(block),
					__ffs64(rest) * KSM_BLOCK_SIZE);
	}
	drop_blocks(owner);
	ksm_scan_unlock();
}

/* B18: without memory nothing is remembered, and nothing is lost */
static void reserve_without_memory(struct kunit *test)
{
	struct ksm_mm *owner = ksm_kunit_owner(test);
	const gfp_t gfp = GFP_NOWAIT | __GFP_NOWARN;
	u64 rec = ksm_rec_plain(KSM_SETTLED, 3, true, 4, 5);
	struct ksm_block *block;
	struct ksm_stats before;

	ksm_kunit_needs_fail_alloc(test);
	ksm_scan_lock();
	before = ksm_stats;
	ksm_kunit_fail_alloc(1);
	KUNIT_EXPECT_NULL(test, ksm_block_reserve(owner, 0, 1, gfp));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_end_fail_alloc());
	KUNIT_EXPECT_NULL(test, ksm_block_from(owner, 0));
	KUNIT_EXPECT_EQ(test, 0, memcmp(&before, &ksm_stats, sizeof(before)));

	block = ksm_block_reserve(owner, 0, BIT_ULL(9), GFP_KERNEL);
	KUNIT_EXPECT_NOT_NULL(test, block);
	if (block) {
		ksm_record_set(block, 9, rec);
		before = ksm_stats;
		ksm_kunit_fail_alloc(1);
		KUNIT_EXPECT_NULL(test, ksm_block_reserve(owner, 0, ~0ULL,
							  gfp));
		KUNIT_EXPECT_TRUE(test, ksm_kunit_end_fail_alloc());
		KUNIT_EXPECT_PTR_EQ(test, ksm_block_find(owner, 0), block);
		KUNIT_EXPECT_EQ(test, ksm_record_get(block, 9), rec);
		KUNIT_EXPECT_EQ(test, 0, memcmp(&before, &ksm_stats,
						sizeof(before)));
	}
	drop_blocks(owner);
	ksm_scan_unlock();
}

/* ------------------------------------------------------------------ */
/* Items                                                               */
/* ------------------------------------------------------------------ */

static void items_are_counted(struct kunit *test)
{
	struct ksm_mm *owner = ksm_kunit_owner(test);
	struct ksm_rmap_item *item[3];
	struct ksm_stats before;
	unsigned int i;

	ksm_kunit_needs_fail_alloc(test);
	ksm_scan_lock();
	before = ksm_stats;
	for (i = 0; i < ARRAY_SIZE(item); i++) {
		item[i] = ksm_item_alloc(owner, i * PAGE_SIZE, GFP_KERNEL);
		KUNIT_EXPECT_NOT_NULL(test, item[i]);
		if (!item[i])
			continue;
		KUNIT_EXPECT_EQ(test, item[i]->address, i * PAGE_SIZE);
		KUNIT_EXPECT_PTR_EQ(test, item[i]->owner, owner);
		KUNIT_EXPECT_EQ(test, item[i]->state, KSM_NEW);
		KUNIT_EXPECT_EQ(test, ksm_stats.items - before.items, i + 1);
		KUNIT_EXPECT_EQ(test, ksm_stats.bytes - before.bytes,
				(i + 1) * sizeof(*item[i]));
		KUNIT_EXPECT_EQ(test, owner->bytes,
				(i + 1) * sizeof(*item[i]));
		KUNIT_EXPECT_EQ(test, owner->slot.mm->ksm_rmap_items, i + 1);
	}
	ksm_kunit_fail_alloc(1);
	KUNIT_EXPECT_NULL(test, ksm_item_alloc(owner, 0,
					       GFP_NOWAIT | __GFP_NOWARN));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_end_fail_alloc());
	KUNIT_EXPECT_EQ(test, ksm_stats.items - before.items,
			ARRAY_SIZE(item));

	for (i = 0; i < ARRAY_SIZE(item); i++)
		ksm_item_free(item[i]);
	ksm_item_free(NULL);
	KUNIT_EXPECT_EQ(test, 0, memcmp(&before, &ksm_stats, sizeof(before)));
	KUNIT_EXPECT_EQ(test, owner->slot.mm->ksm_rmap_items, 0);
	ksm_scan_unlock();
}

/* s390 maps the last block of all, but for its last page */
static void last_block_has_an_end(struct kunit *test)
{
	const unsigned long top = -PAGE_SIZE, last = -KSM_BLOCK_SIZE;

	KUNIT_EXPECT_EQ(test, ksm_block_end(last, top), top);
	KUNIT_EXPECT_EQ(test, ksm_block_end(last - PAGE_SIZE, top), last);
	KUNIT_EXPECT_EQ(test, ksm_block_end(top - PAGE_SIZE, top), top);
	KUNIT_EXPECT_EQ(test, ksm_block_end(0, PAGE_SIZE), PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, ksm_block_end(PAGE_SIZE, top), KSM_BLOCK_SIZE);
}

static struct kunit_case record_cases[] = {
	KUNIT_CASE(last_block_has_an_end),
	KUNIT_CASE(word_round_trip),
	KUNIT_CASE(word_age_saturates),
	KUNIT_CASE(word_leads_to_item),
	KUNIT_CASE(frame_tag_tells_neighbours_apart),
	KUNIT_CASE(blocks_random),
	KUNIT_CASE(block_grows),
	KUNIT_CASE(block_is_small),
	KUNIT_CASE(lone_blocks_share_groups),
	KUNIT_CASE(blocks_in_order),
	KUNIT_CASE(reserve_without_memory),
	KUNIT_CASE(items_are_counted),
	{}
};

static struct kunit_suite record_suite = {
	.name = "ksm_record",
	.init = ksm_kunit_init,
	.test_cases = record_cases,
};

kunit_test_suite(record_suite);
