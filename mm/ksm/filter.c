// SPDX-License-Identifier: GPL-2.0
/*
 * Rung 2: has another page this digest?
 *
 * A hash table, by digest, of the pages that are settled: unchanged, and unique
 * as far as is known; and of the entries of the stable trees.  One look at it,
 * mostly one cache line, rules out a twin, or tells where it is: so the second
 * page of its kind finds the first one in the very pass in which it settles.
 * A unique page takes five bytes here, and no item and no place in a tree.
 *
 * A cell names a page by its record: 26 bits for the block, 6 for the page in
 * it; or, if the block is a lone one, for the group, and for which of it that
 * is; or an entry, by an id of the same kind.  Beside it is a print of eight
 * bits of the hashed digest; the digest itself is looked at, where the record
 * or the entry is, only if the print is right.  Twelve cells make a line.  What
 * finds its line full goes to one of the next lines, and every line that it
 * passed over counts it: a search that comes to a line that nobody passed over
 * has reached the end.
 *
 * Invariants, checked by check.c:
 *  1. A record is listed if, and only if, it is FILTERED and the age in its
 *     block's listing is that of the table; then it is SETTLED.
 *  2. No two listed records have the same digest and the same tree, and none
 *     has those of an item of the unstable tree.
 *
 * The table has a fixed size between two passes.  Where a pass begins it may be
 * replaced by an empty one of another size: the sweep of that pass lists the
 * entries again, and each record is listed again as its page is visited, which
 * takes no look at the page.  While not all entries are listed, the stable
 * trees are searched from their roots; when there is no memory for the table,
 * or it is full, pages wait in the unstable tree instead.
 *
 * This file reads no page.  Of its frame it knows the tree it belongs to.
 */
#include <kunit/static_stub.h>
#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/prefetch.h>
#include <linux/vmalloc.h>
#include <linux/xarray.h>
#include "internal.h"

#define LINE_CELLS	12
#define MAX_LINES	16	/* a page is at most so far from its first line */
#define MIN_LINES	16U

/**
 * struct filter_line - one cache line of the table, all S
 * @where: an id, and which page or lone block of it; 0 for an empty cell
 * @print: eight bits of its digest
 * @passed: cells in later lines that would have been here, had there been room
 */
struct filter_line {
	u32	where[LINE_CELLS];
	u8	print[LINE_CELLS];
	u16	passed;
};

static struct filter_line *lines;	/* S: NULL while there is none */
static unsigned int nr_lines;		/* S */
static u32 age = 1;			/* S: changes with the table; never 0 */

static unsigned long nr_entries;	/* S: cells that name an entry */
static bool renewed;			/* S: the table knows no entries yet */

/* S: all blocks and, tagged, groups and entries that have an id */
static DEFINE_XARRAY_ALLOC1(ids);

#define ENTRY_TAG	1
#define GROUP_TAG	3

/**
 * struct probe - a way through the table
 * @line: where it is
 * @cell: which cell of that line is looked at next
 * @left: lines that may still follow, with this one; 0 if there is no table
 * @print: what to look for
 */
struct probe {
	unsigned int	line;
	unsigned int	cell;
	unsigned int	left;
	u8		print;
};

/*
 * The line is that of the digest, whatever the tree: so a cell can be found
 * without knowing the tree.  It is the print that differs.
 */
static struct probe probe_from(u64 digest, int nid)
{
	u64 hash = digest * GOLDEN_RATIO_64;

	return (struct probe) {
		.line	= (hash >> 32) * nr_lines >> 32,
		.left	= min(MAX_LINES, nr_lines),
		.print	= (hash >> 24) ^ nid,
	};
}

static void probe_next(struct probe *probe)
{
	probe->line = probe->line + 1 < nr_lines ? probe->line + 1 : 0;
	probe->cell = 0;
	probe->left--;
}

/*
 * What the next cell with the right print names: a block, or a tagged group or
 * entry.  NULL if no such cell follows.
 */
static void *next_match(struct probe *probe, u32 *where)
{
	for (; probe->left; probe_next(probe)) {
		struct filter_line *line = &lines[probe->line];

		while (probe->cell < LINE_CELLS) {
			unsigned int i = probe->cell++;
			void *at;

			if (line->print[i] != probe->print || !line->where[i])
				continue;
			*where = line->where[i];
			at = xa_load(&ids, *where >> KSM_BLOCK_INDEX_BITS);
			if (!WARN_ON_ONCE(!at))
				return at;
		}
		if (!line->passed)
			break;
	}
	return NULL;
}

static u32 where_of(struct ksm_block *block, unsigned int index)
{
	return (u32)ksm_block_listing(block)->id << KSM_BLOCK_INDEX_BITS |
		(ksm_block_is_lone(block) ? block->slot : index);
}

/* The block that a cell names, and which page of it */
static struct ksm_block *block_at(void *at, u32 where, unsigned int *index)
{
	struct ksm_block *block = at;

	*index = where % KSM_BLOCK_PAGES;
	if (xa_pointer_tag(at) == GROUP_TAG) {
		struct ksm_group *group = xa_untag_pointer(at);

		block = &group->lone[*index].block;
		*index = block->index;
	}
	return block;
}

/**
 * ksm_filter_lists - is a record listed?
 * @block: its block
 * @rec: the record
 *
 * Context: scan mutex.
 * Return: true if it is.
 */
bool ksm_filter_lists(struct ksm_block *block, u64 rec)
{
	return rec & KSM_REC_FILTERED && !ksm_rec_has_item(rec) &&
	       ksm_block_listing(block)->age == age;
}

/**
 * ksm_filter_prefetch - a search is about to come
 * @digest: for this digest
 * @nid: in this tree
 *
 * Context: scan mutex.
 */
void ksm_filter_prefetch(u64 digest, int nid)
{
	if (lines)
		prefetch(&lines[probe_from(digest, nid).line]);
}

/**
 * ksm_filter_find - look for a settled page by its digest
 * @digest: the digest
 * @nid: which tree it belongs to, see ksm_tree_nid()
 * @block: to be set to the page's block
 * @index: and to its place in it
 *
 * With more than 256 memory nodes it may find a page of another tree: the
 * caller will see that when it looks at the page.
 *
 * Context: scan mutex.
 * Return: true if there is one.
 */
bool ksm_filter_find(u64 digest, int nid, struct ksm_block **block,
		     unsigned int *index)
{
	struct probe probe = probe_from(digest, nid);
	void *at;
	u32 where;

	lockdep_assert_held(&ksm_scan_mutex);
	while ((at = next_match(&probe, &where))) {
		if (xa_pointer_tag(at) == ENTRY_TAG)
			continue;
		*block = block_at(at, where, index);
		if (ksm_rec_digest(ksm_record_get(*block, *index)) == digest)
			return true;
	}
	return false;
}

/**
 * ksm_filter_find_entry - look for an entry of a stable tree by its digest
 * @digest: the digest
 * @nid: which tree
 *
 * Context: scan mutex.
 * Return: the entry, or NULL.
 */
struct ksm_entry *ksm_filter_find_entry(u64 digest, int nid)
{
	struct probe probe = probe_from(digest, nid);
	struct ksm_entry *entry;
	void *at;
	u32 where;

	lockdep_assert_held(&ksm_scan_mutex);
	while ((at = next_match(&probe, &where))) {
		entry = xa_untag_pointer(at);
		if (xa_pointer_tag(at) == ENTRY_TAG &&
		    entry->digest == digest && entry->nid == nid)
			return entry;
	}
	return NULL;
}

/**
 * ksm_filter_new_id - give something an id
 * @what: a block, or a tagged group or entry
 *
 * For tests alone it can be called from elsewhere: an xarray tries twice to get
 * memory, so that they cannot have it fail.
 *
 * Context: scan mutex.
 * Return: the id; 0 if there is none, or no memory.
 */
u32 ksm_filter_new_id(void *what)
{
	u32 id;

	KUNIT_STATIC_STUB_REDIRECT(ksm_filter_new_id, what);

	if (xa_alloc(&ids, &id, what,
		     XA_LIMIT(1, (1U << KSM_BLOCK_ID_BITS) - 1),
		     GFP_NOWAIT | __GFP_NOWARN))
		return 0;
	return id;
}

/* Fill a cell for a digest; false if there is no room */
static bool fill_cell(u32 where, u64 digest, int nid)
{
	struct probe start = probe_from(digest, nid), probe;
	struct filter_line *line;
	unsigned int i;

	for (probe = start; probe.left; probe_next(&probe)) {
		line = &lines[probe.line];
		for (i = 0; i < LINE_CELLS && line->where[i]; i++)
			;
		if (i < LINE_CELLS)
			break;
	}
	if (!probe.left)
		return false;
	line->where[i] = where;
	line->print[i] = probe.print;
	for (; start.line != probe.line; probe_next(&start))
		lines[start.line].passed++;
	return true;
}

static bool find_cell(u32 where, u64 digest, struct probe *probe)
{
	for (*probe = probe_from(digest, 0); probe->left; probe_next(probe)) {
		struct filter_line *line = &lines[probe->line];

		for (; probe->cell < LINE_CELLS; probe->cell++) {
			if (line->where[probe->cell] == where)
				return true;
		}
		if (!line->passed)
			break;
	}
	return false;
}

static void empty_cell(u64 digest, const struct probe *probe)
{
	struct probe from;

	lines[probe->line].where[probe->cell] = 0;
	for (from = probe_from(digest, 0); from.line != probe->line;
	     probe_next(&from))
		lines[from.line].passed--;
}

/* A record's FILTERED is about a table that is no more */
static void unmark(struct ksm_block *block)
{
	u64 *rec = ksm_block_records(block);
	unsigned int nr = hweight64(ksm_block_present(block));

	for (; nr--; rec++) {
		if (!ksm_rec_has_item(*rec))
			*rec &= ~KSM_REC_FILTERED;
	}
}

static void unmark_group(struct ksm_group *group)
{
	unsigned int slot;

	for_each_set_bit(slot, &group->taken, KSM_GROUP_LONES)
		unmark(&group->lone[slot].block);
}

/* Have the block known by an id, and its records' FILTERED be about this table */
static bool enlist(struct ksm_block *block)
{
	struct ksm_listing *listing = ksm_block_listing(block);
	bool lone = ksm_block_is_lone(block);

	if (!listing->id) {
		listing->id = ksm_filter_new_id(lone ?
			xa_tag_pointer(ksm_block_group(block), GROUP_TAG) :
			block);
		if (!listing->id)
			return false;
		ksm_count_block(ksm_block_owner(block), KSM_BLOCK_ID_BYTES);
	}
	if (listing->age != age) {
		if (lone)
			unmark_group(ksm_block_group(block));
		else
			unmark(block);
		listing->age = age;
	}
	return true;
}

/**
 * ksm_filter_add - list a settled page
 * @block: its block
 * @index: and its place there; it is SETTLED and not listed, and no page with
 *	its digest is
 * @nid: which tree it belongs to
 *
 * Context: scan mutex.
 * Return: false if there is no room.
 */
bool ksm_filter_add(struct ksm_block *block, unsigned int index, int nid)
{
	u64 *rec = ksm_block_records(block) + ksm_block_rank(block, index);

	lockdep_assert_held(&ksm_scan_mutex);
	if (!lines || !enlist(block) ||
	    !fill_cell(where_of(block, index), ksm_rec_digest(*rec), nid))
		return false;
	*rec |= KSM_REC_FILTERED;
	ksm_count_filtered(1);
	return true;
}

/**
 * ksm_filter_drop - list a page no more
 * @block: its block
 * @index: and its place there
 *
 * Nothing happens if it is not listed.
 *
 * Context: scan mutex.
 */
void ksm_filter_drop(struct ksm_block *block, unsigned int index)
{
	u64 *rec = ksm_block_records(block) + ksm_block_rank(block, index);
	struct probe probe;

	lockdep_assert_held(&ksm_scan_mutex);
	if (!ksm_filter_lists(block, *rec))
		return;
	*rec &= ~KSM_REC_FILTERED;
	ksm_count_filtered(-1);
	if (WARN_ON_ONCE(!find_cell(where_of(block, index),
				    ksm_rec_digest(*rec), &probe)))
		return;
	empty_cell(ksm_rec_digest(*rec), &probe);
}

/* Have the cell of a lone block's record name another block */
static void move_lone(struct ksm_block *from, struct ksm_block *to)
{
	unsigned int index = from->index;
	u64 rec = ksm_record_get(from, index);
	struct probe probe;

	if (!ksm_filter_lists(from, rec)) {
		/* It would be by the age of its next group */
		unmark(from);
		return;
	}
	if (enlist(to) && !WARN_ON_ONCE(!find_cell(where_of(from, index),
						   ksm_rec_digest(rec), &probe)))
		lines[probe.line].where[probe.cell] = where_of(to, index);
	else
		ksm_filter_drop(from, index);
}

/**
 * ksm_filter_move - a block is about to take the place of another
 * @from: the one that has the records
 * @to: the other, still empty, that they are to be copied to next
 *
 * What was listed stays so, unless there is no memory: then it is as after
 * ksm_filter_drop().
 *
 * Context: scan mutex.
 */
void ksm_filter_move(struct ksm_block *from, struct ksm_block *to)
{
	struct ksm_listing *listing = ksm_block_listing(from);

	lockdep_assert_held(&ksm_scan_mutex);
	if (ksm_block_is_lone(from)) {
		move_lone(from, to);
		return;
	}
	*ksm_block_listing(to) = *listing;
	/* Its slot is there, so this takes no memory */
	if (listing->id)
		WARN_ON_ONCE(xa_is_err(xa_store(&ids, listing->id, to,
						GFP_NOWAIT)));
	listing->id = 0;
}

/**
 * ksm_filter_unname - a block or group is about to be freed
 * @listing: its listing, with none of its records in the table
 * @owner: its mm
 *
 * Context: scan mutex.
 */
void ksm_filter_unname(struct ksm_listing *listing, struct ksm_mm *owner)
{
	lockdep_assert_held(&ksm_scan_mutex);
	if (!listing->id)
		return;
	xa_erase(&ids, listing->id);
	listing->id = 0;
	ksm_count_block(owner, -KSM_BLOCK_ID_BYTES);
}

/**
 * ksm_filter_add_entry - list an entry of a stable tree
 * @entry: the entry, a node or a chain
 *
 * Nothing happens if it is listed already, or if there is no room: see
 * ksm_filter_entries().
 *
 * Context: scan mutex.
 */
void ksm_filter_add_entry(struct ksm_entry *entry)
{
	struct probe probe;

	lockdep_assert_held(&ksm_scan_mutex);
	if (!lines)
		return;
	if (!entry->id) {
		entry->id = ksm_filter_new_id(xa_tag_pointer(entry,
							     ENTRY_TAG));
		if (entry->id)
			ksm_count_filter(KSM_BLOCK_ID_BYTES);
	}
	if (!entry->id ||
	    find_cell(entry->id << KSM_BLOCK_INDEX_BITS, entry->digest, &probe))
		return;
	nr_entries += fill_cell(entry->id << KSM_BLOCK_INDEX_BITS, entry->digest,
				entry->nid);
}

/**
 * ksm_filter_drop_entry - list an entry no more
 * @entry: the entry, still with its digest and in its tree
 *
 * Context: scan mutex.
 */
void ksm_filter_drop_entry(struct ksm_entry *entry)
{
	struct probe probe;

	lockdep_assert_held(&ksm_scan_mutex);
	if (!entry->id)
		return;
	if (find_cell(entry->id << KSM_BLOCK_INDEX_BITS, entry->digest, &probe)) {
		empty_cell(entry->digest, &probe);
		nr_entries--;
	}
	xa_erase(&ids, entry->id);
	ksm_count_filter(-KSM_BLOCK_ID_BYTES);
	entry->id = 0;
}

/**
 * ksm_filter_entry_moved - an entry takes the place of another
 * @from: the one that was listed
 * @to: the one that is now, with its digest and in its tree
 *
 * Context: scan mutex.
 */
void ksm_filter_entry_moved(struct ksm_entry *from, struct ksm_entry *to)
{
	to->id = from->id;
	from->id = 0;
	/* Its slot is there, so this takes no memory */
	if (to->id)
		WARN_ON_ONCE(xa_is_err(xa_store(&ids, to->id,
						xa_tag_pointer(to, ENTRY_TAG),
						GFP_NOWAIT)));
}

/**
 * ksm_filter_entries - how many entries are listed
 *
 * If these are all, one that is not found is not in the tree.
 *
 * Context: scan mutex.
 * Return: the number.
 */
unsigned long ksm_filter_entries(void)
{
	lockdep_assert_held(&ksm_scan_mutex);
	return nr_entries;
}

/**
 * ksm_filter_renewed - are there entries to be listed anew?
 *
 * Context: scan mutex.
 * Return: true once, after the table was replaced.
 */
bool ksm_filter_renewed(void)
{
	bool was = renewed;

	lockdep_assert_held(&ksm_scan_mutex);
	renewed = false;
	return was;
}

/* What the table listed is listed no more */
static void forget_all(void)
{
	ksm_count_filtered(-(long)ksm_stats.filtered);
	nr_entries = 0;
	renewed = true;
	/* Blocks that were never listed have the age 0 */
	age = (age + 1) % BIT(KSM_FILTER_AGE_BITS) ?: 1;
}

static void replace(struct filter_line *table, unsigned int wanted)
{
	ksm_count_filter(-(long)ksm_filter_bytes());
	vfree(lines);
	lines = table;
	nr_lines = wanted;
	ksm_count_filter(ksm_filter_bytes());
	forget_all();
}

/**
 * ksm_filter_renew - empty the table
 *
 * For a change of what a tree is made for.  Pages are listed again when they
 * are visited.
 *
 * Context: scan mutex; may sleep.
 */
void ksm_filter_renew(void)
{
	lockdep_assert_held(&ksm_scan_mutex);
	if (lines)
		memset(lines, 0, ksm_filter_bytes());
	forget_all();
}

/**
 * ksm_filter_fit - have room for some pages
 * @pages: so many
 *
 * A table that is too small, or much too large, is replaced by one that is
 * 85 % full with so many pages.  Without memory for that, all stays as it is.
 * For no pages there is no table.
 *
 * Context: scan mutex; may sleep.
 */
void ksm_filter_fit(unsigned long pages)
{
	u64 room = (u64)nr_lines * LINE_CELLS;
	struct filter_line *table;
	u64 wanted;

	BUILD_BUG_ON(sizeof(struct filter_line) > 64);
	BUILD_BUG_ON(KSM_BLOCK_ID_BITS + KSM_BLOCK_INDEX_BITS > 32);
	lockdep_assert_held(&ksm_scan_mutex);

	if (!pages) {
		if (lines)
			replace(NULL, 0);
		return;
	}
	wanted = DIV_ROUND_UP_ULL((u64)pages * 100, 85 * LINE_CELLS);
	wanted = clamp_t(u64, wanted, MIN_LINES,
			 min_t(u64, U32_MAX, SIZE_MAX / sizeof(*table)));
	if (pages <= room - room / 10 && wanted >= nr_lines / 3)
		return;
	if (wanted == nr_lines)
		return;
	/* Not from kmalloc(), which would round up to a power of two */
	table = __vmalloc(wanted * sizeof(*table), GFP_KERNEL | __GFP_NORETRY |
						   __GFP_NOWARN | __GFP_ZERO);
	if (table)
		replace(table, wanted);
}

/**
 * ksm_filter_bytes - memory taken by the table
 *
 * Context: scan mutex.
 * Return: so many bytes.
 */
unsigned long ksm_filter_bytes(void)
{
	return (unsigned long)nr_lines * sizeof(*lines);
}

/**
 * ksm_filter_has_cell - is a listed record really there? For check.c.
 * @block: its block
 * @index: and its place there
 *
 * Context: scan mutex.
 * Return: true if it is.
 */
bool ksm_filter_has_cell(struct ksm_block *block, unsigned int index)
{
	u64 digest = ksm_rec_digest(ksm_record_get(block, index));
	struct probe probe;

	return find_cell(where_of(block, index), digest, &probe);
}

/**
 * ksm_filter_has_entry - is an entry listed? For check.c.
 * @entry: the entry
 *
 * Context: scan mutex.
 * Return: true if it is.
 */
bool ksm_filter_has_entry(struct ksm_entry *entry)
{
	struct probe probe;

	return entry->id &&
	       find_cell(entry->id << KSM_BLOCK_INDEX_BITS, entry->digest, &probe);
}
