// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzz target: page records and rmap items (record.c), against an array of what
 * each page was last said to be.
 */
#include "fuzz.h"

#define BLOCKS	15

/*
 * The ends of the address space, neighbours, and others apart: more than there
 * are lone blocks in a group
 */
static const unsigned long bases[BLOCKS] = {
	0, KSM_BLOCK_SIZE, 2 * KSM_BLOCK_SIZE, 1UL << 24, 1UL << 25, 1UL << 26,
	1UL << 30, 1UL << 31, 1UL << 32, 1UL << 35, 1UL << 38, 1UL << 46,
	1UL << 47, 1UL << 56, -KSM_BLOCK_SIZE,
};

/* What a page was said to be; all zero if it has no record */
struct page_model {
	enum ksm_state		state;
	unsigned int		age;
	bool			watched;
	u16			tag;
	u64			digest;
	struct ksm_rmap_item	*item;
	u32			mapping;
};

struct block_model {
	bool			there;
	struct page_model	page[KSM_BLOCK_PAGES];
};

static struct block_model model[FUZZ_OWNERS][BLOCKS];

/* A block that a step is about */
struct place {
	struct ksm_mm		*owner;
	struct block_model	*model;
	unsigned long		base;
	unsigned int		index;
};

static struct place read_place(void)
{
	unsigned int owner = fuzz_below(FUZZ_OWNERS);
	unsigned int block = fuzz_below(BLOCKS);

	return (struct place) {
		.owner	= fuzz_owner(owner),
		.model	= &model[owner][block],
		.base	= bases[block],
		.index	= fuzz_below(KSM_BLOCK_PAGES),
	};
}

static struct ksm_block *block_of(const struct place *place)
{
	return ksm_block_find(place->owner, place->base);
}

static u64 present(const struct block_model *block)
{
	u64 mask = 0;
	unsigned int i;

	for (i = 0; i < KSM_BLOCK_PAGES; i++) {
		if (block->page[i].state != KSM_NEW)
			mask |= BIT_ULL(i);
	}
	return mask;
}

/* A wide block is as large as those that kmalloc() has, and not too large */
static void check_size(const struct ksm_block *block)
{
	size_t size = struct_size(ksm_block_wide(block), rec, block->capacity);

	must(hweight64(ksm_block_present(block)) <= block->capacity);
	must(ksm_block_is_lone(block) || size == 96 || size == 128 ||
	     size == 192 || size == 256 || block->capacity == KSM_BLOCK_PAGES);
}

static void check_page(const struct page_model *page, u64 rec)
{
	must(ksm_rec_state(rec) == page->state);
	must(ksm_rec_has_item(rec) == !!page->item);
	if (page->item) {
		must(ksm_rec_item(rec) == page->item);
		must(ksm_rec_mapping(rec) == page->mapping);
	} else if (page->state != KSM_NEW) {
		must(ksm_rec_age(rec) == page->age);
		must(ksm_rec_watched(rec) == page->watched);
		must(ksm_rec_tag(rec) == page->tag);
		must(ksm_rec_digest(rec) == page->digest);
	}
}

static void check_block(const struct ksm_block *block,
			const struct block_model *expected)
{
	unsigned int i;

	must(ksm_block_present(block) == present(expected));
	check_size(block);
	for (i = 0; i < KSM_BLOCK_PAGES; i++)
		check_page(&expected->page[i], ksm_record_get(block, i));
}

/* The blocks that are there, in the order of their addresses, and no other */
static void check_owner(unsigned int index)
{
	struct ksm_block *block = ksm_block_from(fuzz_owner(index), 0);
	unsigned int i;

	for (i = 0; i < BLOCKS; i++) {
		if (!model[index][i].there)
			continue;
		must(block && ksm_block_base(block) == bases[i]);
		must(ksm_block_owner(block) == fuzz_owner(index));
		check_block(block, &model[index][i]);
		block = ksm_block_next(block);
	}
	must(!block);
}

static void check_all(void)
{
	unsigned int i;

	for (i = 0; i < FUZZ_OWNERS; i++)
		check_owner(i);
	fuzz_recount(0, 0);
}

/* Room for a page, or for many; false if there is no memory */
static bool reserve(const struct place *place, u64 wanted)
{
	struct ksm_block *block;

	block = ksm_block_reserve(place->owner, place->base, wanted,
				  GFP_KERNEL);
	must(!block == !!fuzz_failures());
	if (!block)
		return false;
	must(block == block_of(place));
	must(block->capacity >= hweight64(wanted | ksm_block_present(block)));
	place->model->there = true;
	return true;
}

static void drop_item(struct page_model *page)
{
	if (page->item)
		page->item->state = KSM_NEW;
	ksm_item_free(page->item);
}

static void set_plain(void)
{
	struct place place = read_place();
	struct page_model *page = &place.model->page[place.index];
	struct page_model new = {
		.state		= KSM_VOLATILE + fuzz_below(3),
		.age		= fuzz_u8(),
		.watched	= fuzz_below(2),
		.tag		= fuzz_u64() & KSM_REC_TAG_MASK,
		.digest		= fuzz_u64() & KSM_DIGEST_MASK,
	};

	if (!reserve(&place, BIT_ULL(place.index)))
		return;
	ksm_record_set(block_of(&place), place.index,
		       ksm_rec_plain(new.state, new.age, new.watched, new.tag,
				     new.digest));
	drop_item(page);
	/* It stops counting there */
	if (new.age > 15)
		new.age = 15;
	*page = new;
}

static void set_listed(void)
{
	struct place place = read_place();
	struct page_model *page = &place.model->page[place.index];
	unsigned long addr = place.base + place.index * PAGE_SIZE;
	struct page_model new = {
		.state		= KSM_CANDIDATE + fuzz_below(2),
		.mapping	= fuzz_u64() & KSM_REC_MAPPING_MASK,
	};

	if (!reserve(&place, BIT_ULL(place.index)))
		return;
	new.item = ksm_item_alloc(place.owner, addr, GFP_KERNEL);
	must(!new.item == !!fuzz_failures());
	if (!new.item)
		return;
	must(new.item->owner == place.owner && new.item->address == addr);
	must(new.item->state == KSM_NEW);
	/* What the trees would do */
	new.item->state = new.state;
	if (new.state == KSM_MERGED) {
		new.item->node = (void *)model;
		new.item->anon_vma = (void *)model;
	}
	ksm_record_set(block_of(&place), place.index,
		       ksm_rec_listed(new.state, new.item, new.mapping));
	drop_item(page);
	*page = new;
}

static void clear_pages(const struct place *place, unsigned int count)
{
	struct ksm_block *block = block_of(place);
	unsigned int i;

	/* Some that have no record, too */
	if (count > 1 && block)
		ksm_records_clear(block, GENMASK_ULL(min(place->index + count,
							 64U) - 1,
						     place->index));
	for (i = place->index; i < KSM_BLOCK_PAGES && count; i++, count--) {
		ksm_record_clear(block, i);
		drop_item(&place->model->page[i]);
		memset(&place->model->page[i], 0, sizeof(struct page_model));
	}
}

static void free_block(const struct place *place)
{
	if (!place->model->there)
		return;
	if (present(place->model)) {
		/* Perhaps it moves */
		ksm_block_left(place->owner, block_of(place));
		return;
	}
	ksm_block_left(place->owner, block_of(place));
	place->model->there = false;
}

static unsigned int count_items(void)
{
	unsigned int owner, block, i, count = 0;

	for (owner = 0; owner < FUZZ_OWNERS; owner++) {
		for (block = 0; block < BLOCKS; block++) {
			for (i = 0; i < KSM_BLOCK_PAGES; i++)
				count += !!model[owner][block].page[i].item;
		}
	}
	return count;
}

/* An item that comes to be in no record */
static void unused_item(void)
{
	struct ksm_rmap_item *item;

	item = ksm_item_alloc(fuzz_owner(0), fuzz_u64(), GFP_KERNEL);
	must(!item == !!fuzz_failures());
	must(ksm_stats.items == count_items() + !!item);
	ksm_item_free(item);
}

/* Any address, also between the blocks */
static void look_up(void)
{
	unsigned int i, index = fuzz_below(FUZZ_OWNERS);
	unsigned long addr = bases[fuzz_below(BLOCKS)] + fuzz_u64();
	unsigned long base = addr & KSM_BLOCK_MASK;
	struct ksm_mm *owner = fuzz_owner(index);
	struct ksm_block *from = ksm_block_from(owner, addr);
	struct ksm_block *find = ksm_block_find(owner, addr);

	must(ksm_block_index(addr) == (addr >> PAGE_SHIFT & 63));
	for (i = 0; i < BLOCKS; i++) {
		if (model[index][i].there && bases[i] >= base)
			break;
	}
	must(!from == (i == BLOCKS));
	must(!from || ksm_block_base(from) == bases[i]);
	must(find == (from && ksm_block_base(from) == base ? from : NULL));
}

/* A few pages, or all of them but a few */
static u64 read_mask(void)
{
	u64 mask = fuzz_u64();

	switch (fuzz_below(4)) {
	case 0:
		return mask & fuzz_u64() & fuzz_u64();
	case 1:
		return ~0ULL << mask % 64;
	case 2:
		return ~(~0ULL << mask % 64);
	default:
		return mask;
	}
}

static void do_step(int kind)
{
	struct place place;

	switch (kind) {
	case 0:
		place = read_place();
		reserve(&place, read_mask());
		break;
	case 1:
	case 2:
		set_plain();
		break;
	case 3:
		set_listed();
		break;
	case 4:
		place = read_place();
		clear_pages(&place, 1);
		break;
	case 5:
		place = read_place();
		clear_pages(&place, fuzz_u8());
		free_block(&place);
		break;
	case 6:
		look_up();
		break;
	case 7:
		unused_item();
		break;
	}
}

static void drop_everything(void)
{
	unsigned int owner, block;

	for (owner = 0; owner < FUZZ_OWNERS; owner++) {
		for (block = 0; block < BLOCKS; block++) {
			struct place place = {
				.owner	= fuzz_owner(owner),
				.model	= &model[owner][block],
				.base	= bases[block],
			};

			clear_pages(&place, KSM_BLOCK_PAGES);
			free_block(&place);
		}
	}
}

int fuzz_one_input(const u8 *data, size_t size)
{
	int kind;

	fuzz_begin(data, size);
	while ((kind = fuzz_step(8)) >= 0) {
		do_step(kind);
		check_all();
	}
	drop_everything();
	check_all();
	fuzz_end();
	return 0;
}
