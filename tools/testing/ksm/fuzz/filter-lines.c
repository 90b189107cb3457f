// SPDX-License-Identifier: GPL-2.0
/*
 * The filter, and a look inside: what each line of its table says of those that
 * passed over it.  A line that says too little hides cells; one that says too
 * much makes searches long, which nothing else would show.
 */
#include "fuzz.h"

/* An id may not be had for other reasons than memory */
#define xa_alloc(...)	(fuzz_refuses() ? -EBUSY : (xa_alloc)(__VA_ARGS__))
#include <mm/ksm/filter.c>

/* A larger table is too much to look at after each step */
#define MAX_CHECKED	64

static u64 digest_of(u32 where)
{
	void *at = xa_load(&ids, where >> KSM_BLOCK_INDEX_BITS);
	struct ksm_block *block;
	unsigned int index;

	must(at);
	if (xa_pointer_tag(at) == ENTRY_TAG)
		return ((struct ksm_entry *)xa_untag_pointer(at))->digest;
	block = block_at(at, where, &index);
	return ksm_rec_digest(ksm_record_get(block, index));
}

/* Count a cell in the lines on its way from its first line to the one it is in */
static void count_way(unsigned int *passed, unsigned int line,
		      unsigned int cell)
{
	u32 where = lines[line].where[cell];
	struct probe probe;

	if (!where)
		return;
	for (probe = probe_from(digest_of(where), 0); probe.line != line;
	     probe_next(&probe)) {
		must(probe.left);
		passed[probe.line]++;
	}
}

void fuzz_check_lines(void)
{
	unsigned int passed[MAX_CHECKED] = {};
	unsigned int line, cell;

	if (nr_lines > MAX_CHECKED)
		return;
	for (line = 0; line < nr_lines; line++) {
		for (cell = 0; cell < LINE_CELLS; cell++)
			count_way(passed, line, cell);
	}
	for (line = 0; line < nr_lines; line++)
		must(lines[line].passed == passed[line]);
}
