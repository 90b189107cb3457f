// SPDX-License-Identifier: GPL-2.0
/*
 * CONFIG_KSM_DEBUG: recount everything, and compare.
 *
 * Reads all trees, lists and records, and writes nothing.  The numbers in the
 * messages are those of the invariants at the head of each index file.
 */
#include "internal.h"

static void check_candidate(struct ksm_rmap_item *item, struct ksm_mm *owner,
			    unsigned long addr)
{
	WARN_ONCE(item->state != KSM_CANDIDATE || item->owner != owner ||
		  item->address != addr,
		  "ksm: record (3): item of another page");
}

static void check_merged(struct ksm_rmap_item *item, struct ksm_mm *owner,
			 unsigned long addr)
{
	WARN_ONCE(item->state != KSM_MERGED || item->owner != owner ||
		  item->address != addr || !item->node || !item->anon_vma,
		  "ksm: record (3): merged item of another page");
}

/* Which tree a record belongs to, its page would tell: any will do */
static bool is_found(struct ksm_block *block, unsigned int index, u64 rec)
{
	struct ksm_block *found;
	unsigned int at;
	int nid;

	for (nid = 0; nid < nr_node_ids; nid++) {
		if (ksm_filter_find(ksm_rec_digest(rec), nid, &found, &at) &&
		    found == block && at == index)
			return true;
	}
	return false;
}

static void check_plain(struct ksm_block *block, unsigned int index, u64 rec,
			struct ksm_stats *sum)
{
	if (!ksm_filter_lists(block, rec))
		return;
	WARN_ONCE(ksm_rec_state(rec) != KSM_SETTLED,
		  "ksm: filter (1): lists a page that is not settled");
	WARN_ONCE(!ksm_filter_has_cell(block, index),
		  "ksm: filter (1): cell is lost");
	WARN_ONCE(!is_found(block, index, rec),
		  "ksm: filter (2): another page has the digest");
	sum->filtered++;
}

/* A group counts where its first block in use does */
static bool leads_group(struct ksm_block *block)
{
	return ksm_block_is_lone(block) &&
	       block->slot == __ffs(ksm_block_group(block)->taken);
}

static unsigned long block_bytes(struct ksm_block *block, struct ksm_mm *owner)
{
	unsigned long bytes = ksm_block_listing(block)->id ?
			      KSM_BLOCK_ID_BYTES : 0;
	struct ksm_group *group;

	WARN_ONCE(ksm_block_owner(block) != owner,
		  "ksm: record (1): block of another mm");
	if (!ksm_block_is_lone(block))
		return bytes + struct_size(ksm_block_wide(block), rec,
					   block->capacity);
	group = ksm_block_group(block);
	WARN_ONCE(!(group->taken & BIT(block->slot)),
		  "ksm: lone: a block is in use, and free");
	WARN_ONCE(list_empty(&group->link) !=
		  (hweight_long(group->taken) == KSM_GROUP_LONES),
		  "ksm: lone (1): group is wrongly listed");
	return leads_group(block) ? bytes + sizeof(*group) : 0;
}

/* Are the blocks in the tree all that are in use? */
static void check_groups(struct ksm_mm *owner, unsigned long lones,
			 unsigned long groups)
{
	unsigned long spare = 0;
	struct ksm_group *group;

	list_for_each_entry(group, &owner->groups, link) {
		WARN_ONCE(group->owner != owner,
			  "ksm: lone (1): group of another mm is listed");
		WARN_ONCE(!group->taken, "ksm: lone (2): group is empty");
		spare += KSM_GROUP_LONES - hweight_long(group->taken);
	}
	WARN_ONCE(lones + spare != groups * KSM_GROUP_LONES,
		  "ksm: lone (2): %lu blocks in use, %lu free, of %lu groups",
		  lones, spare, groups);
}

/**
 * ksm_check_owner - recount the records of an mm
 * @owner: its entry
 * @sum: where to add what is found
 *
 * Context: scan mutex.
 */
void ksm_check_owner(struct ksm_mm *owner, struct ksm_stats *sum)
{
	unsigned long items = 0, bytes = 0, lones = 0, groups = 0;
	struct ksm_block *block;
	unsigned int i;

	for (block = ksm_block_from(owner, 0); block;
	     block = ksm_block_next(block)) {
		bytes += block_bytes(block, owner);
		lones += ksm_block_is_lone(block);
		groups += leads_group(block);
		WARN_ONCE(hweight64(ksm_block_present(block)) > block->capacity,
			  "ksm: record (2): block overflows");
		for (i = 0; i < KSM_BLOCK_PAGES; i++) {
			unsigned long addr = ksm_block_addr(block, i);
			u64 rec = ksm_record_get(block, i);

			switch (ksm_rec_state(rec)) {
			case KSM_NEW:
				WARN_ONCE(ksm_block_present(block) & BIT_ULL(i),
					  "ksm: record (1): NEW is present");
				continue;
			case KSM_CANDIDATE:
				check_candidate(ksm_rec_item(rec), owner, addr);
				break;
			case KSM_MERGED:
				check_merged(ksm_rec_item(rec), owner, addr);
				break;
			default:
				check_plain(block, i, rec, sum);
				break;
			}
			sum->records++;
			items += ksm_rec_has_item(rec);
			sum->unshared += ksm_rec_state(rec) == KSM_SETTLED ||
					 ksm_rec_state(rec) == KSM_CANDIDATE;
		}
		cond_resched();
	}
	check_groups(owner, lones, groups);
	bytes += items * sizeof(struct ksm_rmap_item);
	WARN_ONCE(bytes != owner->bytes, "ksm: owner has %lu bytes, not %lu",
		  owner->bytes, bytes);
	sum->items += items;
	sum->bytes += bytes;
}

static void check_node(struct ksm_stable_node *node, struct ksm_stats *sum)
{
	struct ksm_rmap_item *item;
	unsigned int count = 0;

	hlist_for_each_entry(item, &node->items, link) {
		WARN_ONCE(item->state != KSM_MERGED || item->node != node,
			  "ksm: node lists an item of another");
		count++;
	}
	WARN_ONCE(count != node->entry.count, "ksm: node counts %u items, not %u",
		  node->entry.count, count);
	sum->nodes++;
	sum->shared += count > 0;
	sum->sharing += count ? count - 1 : 0;
	sum->bytes += sizeof(*node);
}

static void check_chain(struct ksm_chain *chain, struct ksm_stats *sum)
{
	struct ksm_stable_node *node;
	bool full = false;
	unsigned int count = 0;

	list_for_each_entry(node, &chain->dups, entry.dup) {
		bool room = node->entry.count < ksm_knobs.max_page_sharing;

		WARN_ONCE(room && full, "ksm: stable tree (3): room behind full");
		full |= !room;
		WARN_ONCE(node->entry.kind != KSM_DUP ||
			  node->entry.chain != chain ||
			  node->entry.digest != chain->entry.digest ||
			  node->entry.nid != chain->entry.nid,
			  "ksm: stable tree (2): foreign dup");
		check_node(node, sum);
		count++;
	}
	WARN_ONCE(!count || count != chain->entry.count,
		  "ksm: chain counts %u dups, not %u", chain->entry.count,
		  count);
	sum->chains++;
	sum->dups += count;
	sum->bytes += sizeof(*chain);
}

static void check_stable_tree(int nid, struct ksm_stats *sum,
			      unsigned long *listed)
{
	struct ksm_entry *entry;
	u64 digest = 0;

	for (entry = ksm_stable_from(nid, 0); entry;
	     entry = ksm_stable_next(entry)) {
		sum->bytes += entry->id ? KSM_BLOCK_ID_BYTES : 0;
		*listed += ksm_filter_has_entry(entry);
		WARN_ONCE(entry->digest < digest, "ksm: stable tree (1): order");
		WARN_ONCE(entry->digest == digest && digest && !entry->crowded,
			  "ksm: stable tree: two of a digest, not crowded");
		WARN_ONCE(entry->nid != nid || entry->kind == KSM_DUP,
			  "ksm: stable tree (2): stray entry");
		digest = entry->digest;
		if (entry->kind == KSM_CHAIN)
			check_chain(ksm_entry_chain(entry), sum);
		else
			check_node(ksm_entry_node(entry), sum);
		cond_resched();
	}
}

static unsigned long check_unstable_tree(int nid)
{
	unsigned long count = 0;
	struct ksm_block *block;
	unsigned int index;
	struct rb_node *rb;
	u64 digest = 0;

	for (rb = rb_first(ksm_unstable_root(nid)); rb; rb = rb_next(rb)) {
		struct ksm_rmap_item *item;

		item = rb_entry(rb, struct ksm_rmap_item, rb);
		WARN_ONCE(item->digest < digest, "ksm: unstable tree (1): order");
		WARN_ONCE(item->state != KSM_CANDIDATE || item->nid != nid,
			  "ksm: unstable tree: stray item");
		WARN_ONCE(ksm_filter_find(item->digest, nid, &block, &index),
			  "ksm: filter (2): a candidate has the digest");
		digest = item->digest;
		count++;
		cond_resched();
	}
	return count;
}

static void compare(const char *name, unsigned long counted,
		    unsigned long found)
{
	WARN_ONCE(counted != found, "ksm: %s counted %lu, found %lu", name,
		  counted, found);
}

/**
 * ksm_check_all - recount everything
 *
 * Context: scan mutex; may sleep.
 */
void ksm_check_all(void)
{
	struct ksm_stats sum = {};
	unsigned long candidates = 0, listed = 0;
	int nid;

	lockdep_assert_held(&ksm_scan_mutex);
	ksm_registry_check(&sum);
	sum.bytes += ksm_filter_bytes();
	for (nid = 0; nid < nr_node_ids; nid++) {
		check_stable_tree(nid, &sum, &listed);
		candidates += check_unstable_tree(nid);
	}
	compare("records", ksm_stats.records, sum.records);
	compare("unshared", ksm_stats.unshared, sum.unshared);
	compare("filtered", ksm_stats.filtered, sum.filtered);
	compare("filtered entries", ksm_filter_entries(), listed);
	compare("shared", ksm_stats.shared, sum.shared);
	compare("sharing", ksm_stats.sharing, sum.sharing);
	compare("nodes", ksm_stats.nodes, sum.nodes);
	compare("items", ksm_stats.items, sum.items);
	compare("chains", ksm_stats.chains, sum.chains);
	compare("dups", ksm_stats.dups, sum.dups);
	compare("bytes", ksm_stats.bytes, sum.bytes);
	WARN_ONCE(sum.items != candidates + sum.shared + sum.sharing,
		  "ksm: %lu items, but %lu candidates and %lu merged",
		  sum.items, candidates, sum.shared + sum.sharing);
}
