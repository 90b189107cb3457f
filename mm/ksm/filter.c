// SPDX-License-Identifier: GPL-2.0
/*
 * Rung 2: has another page this digest?
 *
 * A hash table of the pages that are settled: unchanged, and unique as far as
 * is known.  One look at it, which is one cache line, rules out a twin among
 * them; or tells where the twin is, so that it is found in the very pass in
 * which the second page of its kind settles.  A unique page so takes five
 * bytes here, and no item and no place in a tree.
 *
 * A cell names a page by its record: 26 bits for the block, 6 for the page in
 * it.  Beside it is a print of eight bits of the digest; the rest of the digest
 * is in the record, and looked at only if the print is right.  Twelve cells
 * make a line.  A page whose line is full goes to one of the next lines, and
 * every line that it passed over counts it, so that a search knows whether to
 * go on, and a line that nobody passed ends it.
 *
 * Invariants, checked by check.c:
 *  1. A record is listed if, and only if, it is FILTERED and the block's
 *     filter_age is that of the table; then it is SETTLED.
 *  2. No two listed records have the same digest and the same tree.
 *
 * The table has a fixed size between two passes.  Where a pass begins it may be
 * replaced by an empty one of another size; the records that were listed are
 * listed again as the pass visits them, which takes no look at the pages.  When
 * there is no memory for it, or the table is full, the caller lists the page in
 * the unstable tree instead.
 *
 * This file reads no page.  Of its frame it knows the tree it belongs to.
 */
#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/prefetch.h>
#include <linux/slab.h>
#include <linux/xarray.h>
#include "internal.h"

#define LINE_CELLS	12
#define MAX_LINES	16	/* a page is at most so far from its first line */
#define MIN_LINES	16U
#define INDEX_BITS	6	/* of a page in its block */

/**
 * struct filter_line - one cache line of the table, all S
 * @where: block id and index of a page; 0 for an empty cell
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

/* S: all blocks that have an id */
static DEFINE_XARRAY_ALLOC1(blocks);

/**
 * struct probe - a way through the table
 * @line: where it is
 * @left: lines that may still follow
 * @print: what to look for
 */
struct probe {
	unsigned int	line;
	unsigned int	left;
	u8		print;
};

static struct probe probe_from(u64 digest, int nid)
{
	u64 hash = (digest ^ (u64)nid << KSM_DIGEST_BITS) * GOLDEN_RATIO_64;

	return (struct probe) {
		.line	= (hash >> 32) * nr_lines >> 32,
		.left	= min(MAX_LINES, nr_lines),
		.print	= hash >> 24,
	};
}

static void probe_next(struct probe *probe)
{
	probe->line = probe->line + 1 < nr_lines ? probe->line + 1 : 0;
	probe->left--;
}

static u32 where_of(const struct ksm_block *block, unsigned int index)
{
	return block->id << INDEX_BITS | index;
}

/**
 * ksm_filter_lists - is a record listed?
 * @block: its block
 * @rec: the record
 *
 * Context: scan mutex.
 * Return: true if it is.
 */
bool ksm_filter_lists(const struct ksm_block *block, u64 rec)
{
	return rec & KSM_REC_FILTERED && !ksm_rec_has_item(rec) &&
	       block->filter_age == age;
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
 * Once in a while it finds one of another tree, whose cell lies where this one
 * would: the caller will see that when it looks at the page.
 *
 * Context: scan mutex.
 * Return: true if there is one.
 */
bool ksm_filter_find(u64 digest, int nid, struct ksm_block **block,
		     unsigned int *index)
{
	struct probe probe = probe_from(digest, nid);
	unsigned int i;

	lockdep_assert_held(&ksm_scan_mutex);
	for (; lines && probe.left; probe_next(&probe)) {
		struct filter_line *line = &lines[probe.line];

		for (i = 0; i < LINE_CELLS; i++) {
			if (line->print[i] != probe.print || !line->where[i])
				continue;
			*block = xa_load(&blocks, line->where[i] >> INDEX_BITS);
			*index = line->where[i] % KSM_BLOCK_PAGES;
			if (WARN_ON_ONCE(!*block))
				continue;
			if (ksm_rec_digest(ksm_record_get(*block, *index)) ==
			    digest)
				return true;
		}
		if (!line->passed)
			break;
	}
	return false;
}

/* Have the block known by an id, and its records' FILTERED be about this table */
static bool enlist(struct ksm_block *block)
{
	unsigned int i;
	u32 id;

	if (!block->id) {
		if (xa_alloc(&blocks, &id, block,
			     XA_LIMIT(1, (1U << KSM_BLOCK_ID_BITS) - 1),
			     GFP_NOWAIT | __GFP_NOWARN))
			return false;
		block->id = id;
		ksm_count_block(block->owner, KSM_BLOCK_ID_BYTES);
	}
	if (block->filter_age != age) {
		for (i = 0; i < hweight64(block->present); i++) {
			if (!ksm_rec_has_item(block->rec[i]))
				block->rec[i] &= ~KSM_REC_FILTERED;
		}
		block->filter_age = age;
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
	u64 *rec = &block->rec[ksm_block_rank(block, index)];
	struct probe start, probe;
	struct filter_line *line;
	unsigned int i;

	lockdep_assert_held(&ksm_scan_mutex);
	if (!lines || !enlist(block))
		return false;
	start = probe_from(ksm_rec_digest(*rec), nid);
	for (probe = start; probe.left; probe_next(&probe)) {
		line = &lines[probe.line];
		for (i = 0; i < LINE_CELLS && line->where[i]; i++)
			;
		if (i < LINE_CELLS)
			break;
	}
	if (!probe.left)
		return false;
	line->where[i] = where_of(block, index);
	line->print[i] = probe.print;
	for (; start.line != probe.line; probe_next(&start))
		lines[start.line].passed++;
	*rec |= KSM_REC_FILTERED;
	ksm_count_filtered(1);
	return true;
}

/* Find the cell of a record in the tree of a node */
static bool find_cell(struct ksm_block *block, unsigned int index, u64 digest,
		      int nid, struct probe *probe, unsigned int *cell)
{
	u32 where = where_of(block, index);

	for (*probe = probe_from(digest, nid); lines && probe->left;
	     probe_next(probe)) {
		struct filter_line *line = &lines[probe->line];

		for (*cell = 0; *cell < LINE_CELLS; (*cell)++) {
			if (line->where[*cell] == where)
				return true;
		}
		if (!line->passed)
			break;
	}
	return false;
}

/*
 * A record does not tell which tree its page belongs to, and the page may have
 * gone, or be on another node by now.  With merge_across_nodes there is but
 * one, and it is looked for first.
 */
static bool find_cell_anywhere(struct ksm_block *block, unsigned int index,
			       u64 digest, int *nid, struct probe *probe,
			       unsigned int *cell)
{
	for (*nid = 0; *nid < nr_node_ids; (*nid)++) {
		if (find_cell(block, index, digest, *nid, probe, cell))
			return true;
	}
	return false;
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
	u64 *rec = &block->rec[ksm_block_rank(block, index)];
	struct probe probe, from;
	unsigned int cell;
	int nid;

	lockdep_assert_held(&ksm_scan_mutex);
	if (!ksm_filter_lists(block, *rec))
		return;
	*rec &= ~KSM_REC_FILTERED;
	ksm_count_filtered(-1);
	if (WARN_ON_ONCE(!find_cell_anywhere(block, index, ksm_rec_digest(*rec),
					     &nid, &probe, &cell)))
		return;
	lines[probe.line].where[cell] = 0;
	for (from = probe_from(ksm_rec_digest(*rec), nid);
	     from.line != probe.line; probe_next(&from))
		lines[from.line].passed--;
}

/**
 * ksm_filter_block_moved - a block is at another address now
 * @block: the block, there
 *
 * Context: scan mutex.
 */
void ksm_filter_block_moved(struct ksm_block *block)
{
	/* Its slot is there, so this takes no memory */
	if (block->id)
		WARN_ON_ONCE(xa_is_err(xa_store(&blocks, block->id, block,
						GFP_NOWAIT)));
}

/**
 * ksm_filter_block_gone - a block is about to be freed
 * @block: the block, without records
 *
 * Context: scan mutex.
 */
void ksm_filter_block_gone(struct ksm_block *block)
{
	if (!block->id)
		return;
	xa_erase(&blocks, block->id);
	block->id = 0;
	ksm_count_block(block->owner, -KSM_BLOCK_ID_BYTES);
}

/* Replace the table by an empty one */
static void replace(struct filter_line *table, unsigned int wanted)
{
	ksm_count_filter(-(long)ksm_filter_bytes());
	ksm_count_filtered(-(long)ksm_stats.filtered);
	kvfree(lines);
	lines = table;
	nr_lines = wanted;
	ksm_count_filter(ksm_filter_bytes());
	/* Blocks that were never listed have the age 0 */
	age = (age + 1) % BIT(KSM_FILTER_AGE_BITS) ?: 1;
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
	replace(NULL, 0);
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
	unsigned long room = (unsigned long)nr_lines * LINE_CELLS;
	struct filter_line *table;
	unsigned long wanted;

	BUILD_BUG_ON(sizeof(struct filter_line) > 64);
	BUILD_BUG_ON(KSM_BLOCK_PAGES != 1 << INDEX_BITS);
	BUILD_BUG_ON(KSM_BLOCK_ID_BITS + INDEX_BITS > 32);
	lockdep_assert_held(&ksm_scan_mutex);

	if (!pages) {
		if (lines)
			replace(NULL, 0);
		return;
	}
	if (pages <= room - room / 10 &&
	    (pages >= room / 3 || nr_lines <= MIN_LINES))
		return;
	wanted = max(pages / 85 * 100 / LINE_CELLS + 1, MIN_LINES);
	if (wanted > U32_MAX)
		return;
	table = kvcalloc(wanted, sizeof(*table),
			 GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN);
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
	unsigned int cell;
	int nid;

	return find_cell_anywhere(block, index, digest, &nid, &probe, &cell);
}
