// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzz target: the filter, against a plain list of what was put into it: pages
 * that settle, change, go, move with their block, and meet twins; entries of the
 * stable trees; and tables that are too small, too large or missing.
 */
#include "fuzz.h"

#define BLOCKS	16	/* of each owner: more lone ones than make a group */
#define BLOCK_PAGES	16	/* of each block: every fourth */
#define PAGES	(FUZZ_OWNERS * BLOCKS * BLOCK_PAGES)
#define ENTRIES	24
#define NOWHERE	(-1)

/* Geometry of the table, as it is told in mm/ksm */
#define LINE_BYTES	64
#define LINE_CELLS	12
#define REACH		16	/* lines that a cell may be away from its first */
#define LEAST_LINES	16
#define ID_BYTES	9

/* How the cells of a table fall on its lines and prints */
enum spread {
	SPREAD_EVENLY,
	SPREAD_ONE_CELL,	/* all on the first line of 16, with one print */
	SPREAD_ONE_LINE,	/* all on the first line of any table */
	NR_SPREADS,
};

/* A page: NEW, VOLATILE, SETTLED, or CANDIDATE */
struct page_model {
	enum ksm_state		state;
	u64			digest;
	u16			tag;
	int			nid;	/* tree it is listed for, or NOWHERE */
	struct ksm_rmap_item	*item;
};

struct entry_model {
	struct ksm_entry	*entry;
	bool			listed;
};

static struct page_model pages[PAGES];
static struct entry_model entries[ENTRIES];
static u64 digests[NR_SPREADS][PAGES];
static unsigned int nr_listed, nr_entries;
static bool renewed;

static struct ksm_mm *owner_of(unsigned int page)
{
	return fuzz_owner(page / (BLOCKS * BLOCK_PAGES));
}

static unsigned int index_of(unsigned int page)
{
	return page % BLOCK_PAGES * (KSM_BLOCK_PAGES / BLOCK_PAGES);
}

static unsigned long addr_of(unsigned int page)
{
	return page / BLOCK_PAGES * KSM_BLOCK_SIZE + index_of(page) * PAGE_SIZE;
}

static struct ksm_block *block_of(unsigned int page)
{
	return ksm_block_find(owner_of(page), addr_of(page));
}

static unsigned int read_page(void)
{
	return (fuzz_u8() << 8 | fuzz_u8()) % PAGES;
}

static u64 read_digest(void)
{
	unsigned int spread = fuzz_below(NR_SPREADS);

	return digests[spread][(fuzz_u8() << 8 | fuzz_u8()) % PAGES];
}

static unsigned long nr_lines(void)
{
	return ksm_filter_bytes() / LINE_BYTES;
}

/* The page that the filter should know by a digest; PAGES if there is none */
static unsigned int listed_as(u64 digest, int nid)
{
	unsigned int page;

	for (page = 0; page < PAGES; page++) {
		if (pages[page].nid == nid && pages[page].digest == digest)
			break;
	}
	return page;
}

/* ------------------------------------------------------------------ */
/* Comparing                                                           */
/* ------------------------------------------------------------------ */

static void check_find(u64 digest, int nid, unsigned int expected)
{
	struct ksm_block *block = NULL;
	unsigned int index = 0;
	bool found;

	ksm_filter_prefetch(digest, nid);
	found = ksm_filter_find(digest, nid, &block, &index);
	must(found == (expected < PAGES));
	must(!found || (block == block_of(expected) &&
			index == index_of(expected)));
}

static void check_find_entry(u64 digest, int nid)
{
	struct ksm_entry *found = ksm_filter_find_entry(digest, nid);
	bool any = false, right = false;
	unsigned int i;

	for (i = 0; i < ENTRIES; i++) {
		struct ksm_entry *entry = entries[i].entry;

		if (!entries[i].listed || entry->digest != digest ||
		    entry->nid != nid)
			continue;
		any = true;
		right |= entry == found;
	}
	must(any ? right : !found);
}

static void check_page(unsigned int page)
{
	struct page_model *model = &pages[page];
	struct ksm_block *block = block_of(page);
	u64 rec = ksm_record_get(block, index_of(page));

	must(ksm_rec_state(rec) == model->state);
	if (model->state == KSM_NEW)
		return;
	if (model->item) {
		must(ksm_rec_item(rec) == model->item);
	} else {
		must(ksm_rec_digest(rec) == model->digest);
		must(ksm_rec_tag(rec) == model->tag);
	}
	must(ksm_filter_lists(block, rec) == (model->nid != NOWHERE));
	if (model->nid == NOWHERE)
		return;
	must(model->state == KSM_SETTLED);
	must(ksm_filter_has_cell(block, index_of(page)));
	check_find(model->digest, model->nid, page);
}

static void check_all(void)
{
	unsigned long other_bytes = ksm_filter_bytes();
	unsigned int i;

	for (i = 0; i < PAGES; i++)
		check_page(i);
	for (i = 0; i < ENTRIES; i++) {
		struct ksm_entry *entry = entries[i].entry;

		if (!entry)
			continue;
		must(ksm_filter_has_entry(entry) == entries[i].listed);
		must(entry->id || !entries[i].listed);
		other_bytes += entry->id ? ID_BYTES : 0;
		check_find_entry(entry->digest, entry->nid);
	}
	must(ksm_filter_entries() == nr_entries);
	must(nr_listed + nr_entries <= nr_lines() * LINE_CELLS);
	must(ksm_filter_bytes() % LINE_BYTES == 0);
	fuzz_check_lines();
	fuzz_recount(nr_listed, other_bytes);
}

/* ------------------------------------------------------------------ */
/* Steps: pages                                                        */
/* ------------------------------------------------------------------ */

static void unlist(unsigned int page)
{
	nr_listed -= pages[page].nid != NOWHERE;
	pages[page].nid = NOWHERE;
}

static void drop_item(unsigned int page)
{
	if (!pages[page].item)
		return;
	ksm_unstable_erase(pages[page].item);
	ksm_item_free(pages[page].item);
	pages[page].item = NULL;
}

/* The only record of a block that grows is listed no more if there is no id */
static void lose_listing(unsigned int page)
{
	u64 present = ksm_block_present(block_of(page));

	page -= page % BLOCK_PAGES;
	while (!(present & BIT_ULL(index_of(page))))
		page++;
	must(hweight64(present) == 1 && pages[page].nid != NOWHERE);
	unlist(page);
}

static struct ksm_block *reserve(unsigned int page, u64 wanted)
{
	unsigned int failures = fuzz_failures();
	unsigned int refusals = fuzz_refusals();
	struct ksm_block *block;

	block = ksm_block_reserve(owner_of(page), addr_of(page) & KSM_BLOCK_MASK,
				  wanted, GFP_KERNEL);
	must(!block == (fuzz_failures() > failures));
	if (fuzz_refusals() > refusals)
		lose_listing(page);
	return block;
}

/* Set a record without an item */
static bool set(unsigned int page, enum ksm_state state, u16 tag, u64 digest)
{
	struct page_model *model = &pages[page];
	struct ksm_block *block;
	bool same;

	block = reserve(page, BIT_ULL(index_of(page)));
	if (!block)
		return false;
	ksm_record_set(block, index_of(page),
		       ksm_rec_plain(state, fuzz_below(16), fuzz_below(2), tag,
				     digest));
	same = model->state == KSM_SETTLED && state == KSM_SETTLED &&
	       model->tag == tag && model->digest == digest;
	if (!same)
		unlist(page);
	drop_item(page);
	model->state = state;
	model->tag = tag;
	model->digest = digest;
	return true;
}

/*
 * What settle() and demote() do: nobody who is listed, in the filter or the
 * unstable tree, may have the digest.
 */
static void list(unsigned int page, int nid)
{
	unsigned int failures = fuzz_failures() + fuzz_refusals();
	struct page_model *model = &pages[page];
	struct ksm_unstable_pos pos;

	if (model->state != KSM_SETTLED || model->nid != NOWHERE ||
	    listed_as(model->digest, nid) < PAGES ||
	    ksm_unstable_first(&pos, nid, model->digest))
		return;
	if (ksm_filter_add(block_of(page), index_of(page), nid)) {
		must(nr_lines());
		model->nid = nid;
		nr_listed++;
	} else {
		/* No table, no memory, or as many in its way as it may pass */
		must(!nr_lines() ||
		     fuzz_failures() + fuzz_refusals() > failures ||
		     nr_listed + nr_entries >=
		     min(nr_lines(), 1UL * REACH) * LINE_CELLS);
	}
}

/* Many pages settle, and are listed */
static void settle(void)
{
	unsigned int page = read_page(), count = fuzz_u8();
	unsigned int spread = fuzz_below(NR_SPREADS);
	unsigned int shift = fuzz_u8();
	int nid = fuzz_below(nr_node_ids);

	for (; count && page < PAGES; count--, page++) {
		u64 digest = digests[spread][(page + shift) % PAGES];

		if (set(page, KSM_SETTLED, page, digest))
			list(page, nid);
	}
}

/* A page is read again: it is as it was, or not */
static void look_again(void)
{
	unsigned int page = read_page();
	struct page_model *model = &pages[page];

	switch (fuzz_below(4)) {
	case 0:
		set(page, KSM_VOLATILE, model->tag, model->digest);
		break;
	case 1:
		set(page, KSM_SETTLED, model->tag, read_digest());
		break;
	case 2:
		set(page, KSM_SETTLED, fuzz_u8(), model->digest);
		break;
	default:
		if (model->state == KSM_SETTLED)
			set(page, KSM_SETTLED, model->tag, model->digest);
		break;
	}
	list(page, fuzz_below(nr_node_ids));
}

static void drop(void)
{
	unsigned int page = read_page(), count = fuzz_u8();

	for (; count && page < PAGES; count--, page++) {
		if (pages[page].state == KSM_NEW)
			continue;
		ksm_filter_drop(block_of(page), index_of(page));
		unlist(page);
	}
}

/* Frees it if it is empty, and may move it to another group if it is lone */
static void leave_block(unsigned int page)
{
	struct ksm_block *block = block_of(page);
	unsigned int refusals = fuzz_refusals();

	ksm_block_left(owner_of(page), block);
	if (fuzz_refusals() > refusals)
		lose_listing(page);
}

static void forget(unsigned int page, unsigned int count)
{
	for (; count && page < PAGES; count--, page++) {
		ksm_record_clear(block_of(page), index_of(page));
		unlist(page);
		drop_item(page);
		pages[page].state = KSM_NEW;
		leave_block(page);
	}
}

/* A page of the filter is to meet its twin: it gets an item */
static void promote(void)
{
	int nid = fuzz_below(nr_node_ids);
	u64 digest = read_digest();
	struct ksm_rmap_item *item;
	struct ksm_unstable_pos pos;
	struct ksm_block *block;
	unsigned int page, index;

	page = listed_as(digest, nid);
	check_find(digest, nid, page);
	if (page == PAGES || !ksm_filter_find(digest, nid, &block, &index))
		return;
	item = ksm_item_alloc(ksm_block_owner(block), addr_of(page), GFP_KERNEL);
	if (!item)
		return;
	must(!ksm_unstable_first(&pos, nid, digest));
	ksm_unstable_insert(item, &pos, nid, digest);
	ksm_record_set(block, index, ksm_rec_listed(KSM_CANDIDATE, item, 0));
	unlist(page);
	pages[page].state = KSM_CANDIDATE;
	pages[page].item = item;
}

/* More room: the block moves, and takes along what is listed of it */
static void move_block(void)
{
	unsigned int page = read_page();

	if (block_of(page))
		reserve(page, fuzz_u64());
}

/* ------------------------------------------------------------------ */
/* Steps: entries                                                      */
/* ------------------------------------------------------------------ */

static void make_entry(struct entry_model *model)
{
	model->entry = calloc(1, sizeof(*model->entry));
	must(model->entry);
	model->entry->digest = read_digest();
	model->entry->nid = fuzz_below(nr_node_ids);
}

static void add_entry(struct entry_model *model)
{
	bool was = model->listed;

	ksm_filter_add_entry(model->entry);
	model->listed = ksm_filter_has_entry(model->entry);
	must(!was || model->listed);
	nr_entries += model->listed - was;
	must(model->listed || !nr_lines() || fuzz_failures() || fuzz_refusals() ||
	     nr_listed + nr_entries >= min(nr_lines(), 1UL * REACH) * LINE_CELLS);
}

static void drop_entry(struct entry_model *model)
{
	ksm_filter_drop_entry(model->entry);
	must(!model->entry->id);
	nr_entries -= model->listed;
	model->listed = false;
	free(model->entry);
	model->entry = NULL;
}

/* A chain takes the place of a node, or the other way round */
static void move_entry(struct entry_model *model)
{
	struct ksm_entry *from = model->entry;
	u32 id = from->id;

	model->entry = calloc(1, sizeof(*from));
	must(model->entry);
	model->entry->digest = from->digest;
	model->entry->nid = from->nid;
	ksm_filter_entry_moved(from, model->entry);
	must(!from->id && model->entry->id == id);
	free(from);
}

static void do_entry(void)
{
	struct entry_model *model = &entries[fuzz_below(ENTRIES)];

	if (!model->entry)
		make_entry(model);
	switch (fuzz_below(3)) {
	case 0:
		add_entry(model);
		break;
	case 1:
		drop_entry(model);
		break;
	case 2:
		move_entry(model);
		break;
	}
}

static void list_entries(void)
{
	unsigned int i;

	for (i = 0; i < ENTRIES; i++) {
		if (entries[i].entry)
			add_entry(&entries[i]);
	}
}

/* ------------------------------------------------------------------ */
/* Steps: the table                                                    */
/* ------------------------------------------------------------------ */

static void forget_all(void)
{
	unsigned int i;

	for (i = 0; i < PAGES; i++)
		unlist(i);
	for (i = 0; i < ENTRIES; i++)
		entries[i].listed = false;
	nr_entries = 0;
	renewed = true;
}

static void renew(void)
{
	unsigned long bytes = ksm_filter_bytes();

	ksm_filter_renew();
	must(ksm_filter_bytes() == bytes);
	forget_all();
}

/* About where tables grow, shrink, and are as small or as large as can be */
static unsigned long read_size(void)
{
	static const unsigned long sizes[] = {
		0, 1, 163, 164, 172, 173, 192, 193, 500, 512, 1000, 1733,
		5000, 1UL << 20, 1UL << 40,
	};

	return sizes[fuzz_below(ARRAY_SIZE(sizes))] + fuzz_below(4);
}

static void fit(unsigned long room)
{
	unsigned long before = nr_lines(), wanted;

	ksm_filter_fit(room);
	wanted = (room * 100 + 85 * LINE_CELLS - 1) / (85 * LINE_CELLS);
	wanted = room ? max(wanted, 1UL * LEAST_LINES) : 0;
	if (nr_lines() != before) {
		must(nr_lines() == wanted);
		forget_all();
	} else if (!fuzz_failures()) {
		/* Not too small, and not much too large */
		must(before * LINE_CELLS >= room);
		must(before <= 3 * wanted + 3);
	}
}

static void check_renewed(void)
{
	must(ksm_filter_renewed() == renewed);
	renewed = false;
	must(!ksm_filter_renewed());
}

/* ------------------------------------------------------------------ */

static void do_step(int kind)
{
	u64 digest;

	switch (kind) {
	case 0:
		fit(read_size());
		break;
	case 1:
	case 2:
		settle();
		break;
	case 3:
		look_again();
		break;
	case 4:
		drop();
		break;
	case 5:
		forget(read_page(), fuzz_u8());
		break;
	case 6:
		promote();
		break;
	case 7:
		move_block();
		break;
	case 8:
	case 9:
		do_entry();
		break;
	case 10:
		list_entries();
		break;
	case 11:
		renew();
		break;
	case 12:
		check_renewed();
		break;
	case 13:
		digest = read_digest();
		check_find(digest, 0, listed_as(digest, 0));
		check_find(digest, 1, listed_as(digest, 1));
		check_find_entry(digest, 0);
		break;
	}
}

/* Digests whose hash, as the filter takes it, has some bits all 0 */
static void make_digests(enum spread spread, u64 zero_bits)
{
	unsigned int i;
	u64 digest = 0;

	for (i = 0; i < PAGES; digest++) {
		if (!(digest * GOLDEN_RATIO_64 & zero_bits))
			digests[spread][i++] = digest;
	}
}

static void init_once(void)
{
	unsigned int i;

	if (digests[0][PAGES - 1])
		return;
	make_digests(SPREAD_EVENLY, 0);
	make_digests(SPREAD_ONE_CELL, 0xf0000000ff000000);
	make_digests(SPREAD_ONE_LINE, 0xffff000000000000);
	for (i = 0; i < PAGES; i++)
		pages[i].nid = NOWHERE;
}

int fuzz_one_input(const u8 *data, size_t size)
{
	unsigned int i;
	int kind;

	init_once();
	fuzz_begin(data, size);
	renewed = false;
	while ((kind = fuzz_step(14)) >= 0) {
		do_step(kind);
		check_all();
	}
	forget(0, PAGES);
	for (i = 0; i < ENTRIES; i++) {
		if (entries[i].entry)
			drop_entry(&entries[i]);
	}
	check_all();
	fuzz_end();
	return 0;
}
