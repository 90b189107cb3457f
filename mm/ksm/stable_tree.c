// SPDX-License-Identifier: GPL-2.0
/*
 * The stable trees: the merged pages.  One tree, or one a node when
 * merge_across_nodes is 0.
 *
 * Invariants, checked by check.c:
 *  1. Entries are ordered by digest, equal digests by contents.  The contents
 *     of a merged page never change, so neither does its place.
 *  2. An entry is a stable node, or a chain: several nodes with the same
 *     contents, because one page may be mapped only max_page_sharing times.
 *     A tree holds no two entries with the same contents, but while the page
 *     of one of them has gone.
 *  3. On a chain, nodes with room for another sharer come first.
 *
 * Nodes hold no reference to their page.  One whose page has gone is stale;
 * a search reports it and leaves it in place, for the caller to drop.  Pages
 * are compared through a callback only.
 */
#include <linux/jiffies.h>
#include <linux/slab.h>
#include "internal.h"

static struct kmem_cache *node_cache;
static struct kmem_cache *chain_cache;
static struct rb_root *roots;
static unsigned long nr_entries;	/* S: in all trees */

/**
 * ksm_stable_node_alloc - allocate a node, in no tree and without a page
 * @digest: of its contents
 * @gfp: how to allocate
 *
 * Context: scan mutex; what @gfp asks for.
 * Return: the node, or NULL if there is no memory.
 */
struct ksm_stable_node *ksm_stable_node_alloc(u64 digest, gfp_t gfp)
{
	struct ksm_stable_node *node = kmem_cache_zalloc(node_cache, gfp);

	if (node) {
		node->entry.digest = digest;
		node->entry.nid = NUMA_NO_NODE;
		ksm_count_node(1);
	}
	return node;
}

/**
 * ksm_stable_node_free - free a node that is in no tree and lists no item
 * @node: the node, or NULL
 *
 * Context: scan mutex.
 */
void ksm_stable_node_free(struct ksm_stable_node *node)
{
	if (!node || WARN_ON_ONCE(!hlist_empty(&node->items)))
		return;
	ksm_count_node(-1);
	kmem_cache_free(node_cache, node);
}

/**
 * ksm_chain_alloc - allocate a chain
 * @gfp: how to allocate
 *
 * Context: what @gfp asks for.
 * Return: the chain, or NULL if there is no memory.
 */
struct ksm_chain *ksm_chain_alloc(gfp_t gfp)
{
	return kmem_cache_zalloc(chain_cache, gfp);
}

/**
 * ksm_chain_free - free a chain that is in no tree
 * @chain: the chain, or NULL
 *
 * Context: any.
 */
void ksm_chain_free(struct ksm_chain *chain)
{
	if (chain)
		kmem_cache_free(chain_cache, chain);
}

static struct ksm_stable_node *first_dup(struct ksm_chain *chain)
{
	return list_first_entry(&chain->dups, struct ksm_stable_node,
				entry.dup);
}

static bool has_room(const struct ksm_stable_node *node)
{
	return node->entry.count < ksm_knobs.max_page_sharing;
}

/* A node that stands for the entry: all nodes of a chain have its contents */
static struct ksm_stable_node *entry_sample(struct ksm_entry *entry)
{
	if (entry->kind == KSM_CHAIN)
		return first_dup(ksm_entry_chain(entry));
	return ksm_entry_node(entry);
}

/**
 * ksm_node_crowded - may other contents in the tree have a node's digest?
 * @node: the node, in a tree
 *
 * Context: scan mutex.
 * Return: false if a digest equal to the node's leads to no other.
 */
bool ksm_node_crowded(const struct ksm_stable_node *node)
{
	lockdep_assert_held(&ksm_scan_mutex);
	if (node->entry.kind == KSM_DUP)
		return node->entry.chain->entry.crowded;
	return node->entry.crowded;
}

/**
 * ksm_stable_list - have an entry be found by the filter, if it can be
 * @entry: the entry
 *
 * Context: scan mutex.
 */
void ksm_stable_list(struct ksm_entry *entry)
{
	ksm_filter_add_entry(entry);
}

/* Is what the filter does not find in no tree? */
static bool all_are_listed(void)
{
	return ksm_filter_entries() == nr_entries;
}

static void link_entry(struct ksm_entry *entry, struct rb_node *parent,
		       struct rb_node **link)
{
	rb_link_node(&entry->rb, parent, link);
	rb_insert_color(&entry->rb, &roots[entry->nid]);
	nr_entries++;
	ksm_stable_list(entry);
}

static void unlink_entry(struct ksm_entry *entry)
{
	ksm_filter_drop_entry(entry);
	nr_entries--;
	rb_erase(&entry->rb, &roots[entry->nid]);
}

/* Have an entry take the place of another, with the same contents */
static void replace_entry(struct ksm_entry *old, struct ksm_entry *new)
{
	new->nid = old->nid;
	new->crowded = old->crowded;
	rb_replace_node(&old->rb, &new->rb, &roots[old->nid]);
	ksm_filter_entry_moved(old, new);
}

/*
 * Search for contents.  @parent and @link are left at the place where they
 * would be inserted; on KSM_FOUND, STALE and RETRY *entry is the entry met.
 * @crowd: mark those that have the digest, but not the contents.
 */
static enum ksm_found search(int nid, u64 digest, ksm_compare_fn compare,
			     void *arg, bool *crowd, struct rb_node **parent,
			     struct rb_node ***link, struct ksm_entry **entry)
{
	*link = &roots[nid].rb_node;
	*parent = NULL;
	while (**link) {
		enum ksm_order order;

		*parent = **link;
		*entry = rb_entry(*parent, struct ksm_entry, rb);
		if (digest != (*entry)->digest)
			order = digest < (*entry)->digest ? KSM_BEFORE :
							    KSM_AFTER;
		else
			order = compare(entry_sample(*entry), arg);

		switch (order) {
		case KSM_BEFORE:
			*link = &(*parent)->rb_left;
			break;
		case KSM_AFTER:
			*link = &(*parent)->rb_right;
			break;
		case KSM_SAME:
			return KSM_FOUND;
		case KSM_GONE:
			return KSM_STALE;
		case KSM_BUSY:
			return KSM_RETRY;
		}
		if (crowd && digest == (*entry)->digest) {
			(*entry)->crowded = true;
			*crowd = true;
		}
	}
	return KSM_ABSENT;
}

/* For an entry that is the only one with its digest */
static enum ksm_found found_by(enum ksm_order order)
{
	switch (order) {
	case KSM_SAME:
		return KSM_FOUND;
	case KSM_GONE:
		return KSM_STALE;
	case KSM_BUSY:
		return KSM_RETRY;
	default:
		return KSM_ABSENT;
	}
}

/**
 * ksm_stable_find - find a merged page with given contents
 * @nid: which tree
 * @digest: digest of the contents
 * @compare: compares them with those of a node
 * @arg: handed to @compare
 * @node: where to put the node
 *
 * Context: scan mutex.
 * Return: see enum ksm_found; on FOUND, STALE and RETRY @node is set.
 */
enum ksm_found ksm_stable_find(int nid, u64 digest, ksm_compare_fn compare,
			       void *arg, struct ksm_stable_node **node)
{
	struct rb_node **link, *parent;
	struct ksm_entry *entry;
	enum ksm_found found;

	lockdep_assert_held(&ksm_scan_mutex);
	entry = ksm_filter_find_entry(digest, nid);
	if (!entry && all_are_listed())
		return KSM_ABSENT;
	if (entry && !entry->crowded)
		found = found_by(compare(entry_sample(entry), arg));
	else
		found = search(nid, digest, compare, arg, NULL, &parent, &link,
			       &entry);
	if (found == KSM_ABSENT)
		return found;
	*node = entry_sample(entry);
	if (found == KSM_FOUND && !has_room(*node))
		return KSM_FULL;
	return found;
}

static void chain_add(struct ksm_chain *chain, struct ksm_stable_node *node)
{
	node->entry.kind = KSM_DUP;
	node->entry.nid = chain->entry.nid;
	node->entry.chain = chain;
	if (has_room(node))
		list_add(&node->entry.dup, &chain->dups);
	else
		list_add_tail(&node->entry.dup, &chain->dups);
	chain->entry.count++;
	ksm_count_dup(1);
}

/* Put a chain in the place of a single node, which becomes its first dup */
static void chain_begin(struct ksm_chain *chain, struct ksm_entry *single)
{
	chain->entry.kind = KSM_CHAIN;
	chain->entry.digest = single->digest;
	chain->pruned = jiffies;
	INIT_LIST_HEAD(&chain->dups);
	replace_entry(single, &chain->entry);
	ksm_count_chain(1);
	chain_add(chain, ksm_entry_node(single));
}

/**
 * ksm_stable_insert - put a new node into a tree
 * @node: the node
 * @nid: which tree
 * @compare: compares its contents with those of another node
 * @arg: handed to @compare
 * @spare: a chain, in case one is needed; set to NULL if it was taken
 * @obstacle: set to the node in the way, if the result is STALE or RETRY
 *
 * If the contents are there already, the node becomes a dup of them.  A node
 * that is in the tree of another node ID is moved.
 *
 * Context: scan mutex.
 * Return: KSM_FOUND if it was inserted; KSM_STALE or KSM_RETRY if not, and
 *	the node is where it was.
 */
enum ksm_found ksm_stable_insert(struct ksm_stable_node *node, int nid,
				 ksm_compare_fn compare, void *arg,
				 struct ksm_chain **spare,
				 struct ksm_stable_node **obstacle)
{
	struct rb_node **link, *parent;
	struct ksm_entry *entry;
	enum ksm_found found;
	bool crowded = false;

	lockdep_assert_held(&ksm_scan_mutex);
	found = search(nid, node->entry.digest, compare, arg, &crowded,
		       &parent, &link, &entry);
	switch (found) {
	case KSM_ABSENT:
		if (node->entry.nid != NUMA_NO_NODE)
			ksm_stable_erase(node);
		node->entry.kind = KSM_SINGLE;
		node->entry.nid = nid;
		node->entry.crowded = crowded;
		link_entry(&node->entry, parent, link);
		return KSM_FOUND;
	case KSM_FOUND:
		if (node->entry.nid != NUMA_NO_NODE)
			ksm_stable_erase(node);
		if (entry->kind == KSM_SINGLE) {
			chain_begin(*spare, entry);
			entry = &(*spare)->entry;
			*spare = NULL;
		}
		chain_add(ksm_entry_chain(entry), node);
		return KSM_FOUND;
	default:
		*obstacle = entry_sample(entry);
		return found;
	}
}

static void chain_end(struct ksm_chain *chain)
{
	ksm_count_chain(-1);
	kmem_cache_free(chain_cache, chain);
}

/**
 * ksm_stable_erase - take a node out of its tree
 * @node: the node
 *
 * Takes its chain along, if that was the last dup.
 *
 * Context: scan mutex.
 */
void ksm_stable_erase(struct ksm_stable_node *node)
{
	struct ksm_chain *chain;

	lockdep_assert_held(&ksm_scan_mutex);
	if (node->entry.kind == KSM_SINGLE) {
		unlink_entry(&node->entry);
		return;
	}
	chain = node->entry.chain;
	list_del(&node->entry.dup);
	ksm_count_dup(-1);
	if (--chain->entry.count == 0) {
		unlink_entry(&chain->entry);
		chain_end(chain);
	}
}

/**
 * ksm_stable_room_changed - a node gained or lost an item
 * @node: the node
 *
 * Keeps invariant 3.
 *
 * Context: scan mutex.
 */
void ksm_stable_room_changed(struct ksm_stable_node *node)
{
	lockdep_assert_held(&ksm_scan_mutex);
	if (node->entry.kind != KSM_DUP)
		return;
	if (has_room(node))
		list_move(&node->entry.dup, &node->entry.chain->dups);
	else
		list_move_tail(&node->entry.dup, &node->entry.chain->dups);
}

/**
 * ksm_chain_tidy - do without a chain that has but one dup left
 * @chain: the chain; may be freed
 *
 * Context: scan mutex.
 */
void ksm_chain_tidy(struct ksm_chain *chain)
{
	struct ksm_stable_node *node;

	lockdep_assert_held(&ksm_scan_mutex);
	if (chain->entry.count != 1)
		return;
	node = first_dup(chain);
	list_del(&node->entry.dup);
	ksm_count_dup(-1);
	node->entry.kind = KSM_SINGLE;
	replace_entry(&chain->entry, &node->entry);
	chain_end(chain);
}

/**
 * ksm_stable_from - the first entry with at least this digest
 * @nid: which tree
 * @digest: the digest
 *
 * Context: scan mutex.
 * Return: the entry, or NULL.
 */
struct ksm_entry *ksm_stable_from(int nid, u64 digest)
{
	struct rb_node *rb = roots[nid].rb_node;
	struct ksm_entry *best = NULL;

	lockdep_assert_held(&ksm_scan_mutex);
	while (rb) {
		struct ksm_entry *entry = rb_entry(rb, struct ksm_entry, rb);

		if (entry->digest >= digest) {
			best = entry;
			rb = rb->rb_left;
		} else {
			rb = rb->rb_right;
		}
	}
	return best;
}

/**
 * ksm_stable_next - the entry after another in its tree
 * @entry: the other
 *
 * Context: scan mutex.
 * Return: the next entry, or NULL.
 */
struct ksm_entry *ksm_stable_next(struct ksm_entry *entry)
{
	return rb_entry_safe(rb_next(&entry->rb), struct ksm_entry, rb);
}

/**
 * ksm_stable_has_digest - does any entry have this digest?
 * @nid: which tree
 * @digest: the digest
 *
 * Context: scan mutex.
 * Return: true if one has.
 */
bool ksm_stable_has_digest(int nid, u64 digest)
{
	struct ksm_entry *entry;

	if (ksm_filter_find_entry(digest, nid))
		return true;
	if (all_are_listed())
		return false;
	entry = ksm_stable_from(nid, digest);
	return entry && entry->digest == digest;
}

/**
 * ksm_stable_tree_init - make the caches and the empty trees
 *
 * Context: once, at boot.
 * Return: 0 or -ENOMEM.
 */
int __init ksm_stable_tree_init(void)
{
	node_cache = KMEM_CACHE(ksm_stable_node, 0);
	chain_cache = KMEM_CACHE(ksm_chain, 0);
	roots = kcalloc(nr_node_ids, sizeof(*roots), GFP_KERNEL);
	if (node_cache && chain_cache && roots)
		return 0;
	kmem_cache_destroy(node_cache);
	kmem_cache_destroy(chain_cache);
	kfree(roots);
	return -ENOMEM;
}
