// SPDX-License-Identifier: GPL-2.0
/*
 * The sweep: at the start of each pass stable nodes are looked at, in slices.
 * One whose page has gone is dropped with its items.  One whose page has
 * migrated is taken to the tree of its new node, if each node has its own.  A
 * chain with one dup left becomes a single node again, but no sooner than
 * stable_node_chains_prune_millisecs after it was last tidied, as it may be
 * about to grow again.  All entries are listed in the filter, if they are not.
 *
 * A pass sweeps a part of the digests only, when nothing speaks for more: see
 * ksm_sweep_begin().  If there are but few nodes it sweeps all once more at its
 * end, so that the counters are up to date when the pass counts.
 */
#include <linux/jiffies.h>
#include "internal.h"

#define SWEEP_PARTS	16

/*
 * Move a node to the tree that its page belongs to.  Left where it is if that
 * fails: it is found there by the next sweep, and not used meanwhile, since
 * whoever finds it sees that its page is elsewhere.
 */
static void relocate(struct ksm_stable_node *node, int nid)
{
	struct ksm_stable_node *obstacle;
	struct ksm_chain *spare;
	enum ksm_found found;
	struct folio *folio;

	/* The next sweep is not worth reclaiming memory for */
	spare = ksm_chain_alloc(GFP_NOWAIT | __GFP_NOWARN);
	if (!spare)
		return;
	if (ksm_node_grab(node, KSM_LOCK_NONE, &folio)) {
		ksm_chain_free(spare);
		return;
	}
	do {
		found = ksm_stable_insert(node, nid, ksm_node_compare,
					  folio_page(folio, 0), &spare,
					  &obstacle);
		if (found == KSM_STALE)
			ksm_node_drop(obstacle, UINT_MAX);
	} while (found == KSM_STALE);
	folio_put(folio);
	ksm_chain_free(spare);
}

static void sweep_node(struct ksm_stable_node *node)
{
	int nid;

	if (!ksm_node_alive(node) ||
	    (PageHWPoison(pfn_to_page(READ_ONCE(node->pfn))) &&
	     ksm_node_part_poisoned(node))) {
		ksm_node_drop(node, UINT_MAX);
		return;
	}
	nid = ksm_tree_nid(READ_ONCE(node->pfn));
	if (nid != node->entry.nid)
		relocate(node, nid);
}

static bool chain_is_due(const struct ksm_chain *chain)
{
	unsigned int wait = READ_ONCE(ksm_knobs.prune_millisecs);

	return time_after_eq(jiffies, chain->pruned + msecs_to_jiffies(wait));
}

/* Returns how many nodes that was */
static unsigned int sweep_chain(struct ksm_chain *chain)
{
	struct ksm_stable_node *node, *next;
	unsigned int count = chain->entry.count;
	unsigned int left = count;

	/* With the last dup the chain goes, too */
	list_for_each_entry_safe(node, next, &chain->dups, entry.dup) {
		sweep_node(node);
		if (--left == 0)
			break;
	}
	return count;
}

static unsigned int sweep_entry(struct ksm_entry *entry)
{
	struct ksm_entry *other;
	int nid = entry->nid;
	u64 digest = entry->digest;
	unsigned int count;
	bool due;

	ksm_stable_list(entry);
	if (entry->kind != KSM_CHAIN) {
		sweep_node(ksm_entry_node(entry));
		return 1;
	}
	due = chain_is_due(ksm_entry_chain(entry));
	if (due)
		ksm_entry_chain(entry)->pruned = jiffies;
	count = sweep_chain(ksm_entry_chain(entry));
	/* With its last dup, the chain has gone: do not touch it unseen */
	for (other = ksm_stable_from(nid, digest);
	     due && other && other->digest == digest;
	     other = ksm_stable_next(other)) {
		if (other == entry && other->kind == KSM_CHAIN) {
			ksm_chain_tidy(ksm_entry_chain(other));
			break;
		}
	}
	return count;
}

/* Must all nodes be looked at, and not just those whose turn it is? */
static bool all_are_due(void)
{
	static unsigned long last;	/* S: in jiffies */
	unsigned int wait = READ_ONCE(ksm_knobs.prune_millisecs);
	bool chains_are_due = ksm_stats.chains &&
			!time_in_range_open(jiffies, last,
					    last + msecs_to_jiffies(wait));

	/* The filter asks but once */
	if (!ksm_filter_renewed() && !chains_are_due &&
	    ksm_knobs.merge_across_nodes && ksm_stats.nodes == ksm_stats.shared)
		return false;
	last = jiffies;
	return true;
}

/**
 * ksm_sweep_begin - begin the sweep of a pass
 * @pos: where the sweep is
 *
 * A node that lists nobody any more may be stale; one that does is mostly not,
 * and if it is, that is seen where its mappers are visited, or where the node
 * is found.  So if there are none of the former, a pass sweeps only a part of
 * the digests.
 *
 * Context: scan mutex.
 */
void ksm_sweep_begin(struct ksm_sweep_pos *pos)
{
	static unsigned int part;	/* S */
	const u64 width = BIT_ULL(KSM_DIGEST_BITS) / SWEEP_PARTS;

	lockdep_assert_held(&ksm_scan_mutex);
	memset(pos, 0, sizeof(*pos));
	if (all_are_due())
		return;
	pos->from = part * width;
	pos->to = pos->from + width;
	pos->digest = pos->from;
	part = (part + 1) % SWEEP_PARTS;
}

/**
 * ksm_sweep - look at some stable nodes
 * @pos: where to go on; zeroed, or from ksm_sweep_begin(), for the first call
 * @most: about how many nodes to look at
 *
 * All entries of one digest are done in one go, as the digest is what @pos
 * remembers.
 *
 * Context: scan mutex; may sleep.
 * Return: true if that was the last of them.
 */
bool ksm_sweep(struct ksm_sweep_pos *pos, unsigned int most)
{
	unsigned int done = 0;

	lockdep_assert_held(&ksm_scan_mutex);
	for (; pos->nid < nr_node_ids; pos->nid++, pos->digest = pos->from) {
		struct ksm_entry *entry;

		entry = ksm_stable_from(pos->nid, pos->digest);
		while (entry && (!pos->to || entry->digest < pos->to)) {
			struct ksm_entry *next = ksm_stable_next(entry);
			u64 digest = entry->digest;

			done += sweep_entry(entry);
			cond_resched();
			entry = next;
			if (done >= most && entry && entry->digest != digest) {
				pos->digest = entry->digest;
				return false;
			}
		}
	}
	return true;
}
