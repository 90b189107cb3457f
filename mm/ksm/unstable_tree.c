// SPDX-License-Identifier: GPL-2.0
/*
 * The unstable trees: pages that did not change between two looks, waiting
 * for a twin.  One tree, or one a node when merge_across_nodes is 0.
 *
 * Invariants, checked by check.c:
 *  1. The key is the digest recorded in the item, never the page, so a write
 *     to a page cannot corrupt the tree.  "Unstable" means that the page may
 *     no longer match its key; merge.c finds out.
 *  2. Among equal digests the order is that of the contents when the item was
 *     inserted.  A page that changes later is taken out at its next visit;
 *     until then at worst some twins among colliding digests are missed.
 *
 * Nothing here reads a page: the caller compares, and says where to go on.
 */
#include <linux/slab.h>
#include "internal.h"

static struct rb_root *roots;

/**
 * ksm_unstable_root - the tree of a node
 * @nid: from ksm_tree_nid()
 *
 * Context: scan mutex.
 * Return: its root.
 */
struct rb_root *ksm_unstable_root(int nid)
{
	return &roots[nid];
}

static struct ksm_rmap_item *descend(struct ksm_unstable_pos *pos, u64 digest)
{
	while (*pos->link) {
		struct ksm_rmap_item *item;

		pos->parent = *pos->link;
		item = rb_entry(pos->parent, struct ksm_rmap_item, rb);
		if (digest == item->digest)
			return item;
		if (digest < item->digest)
			pos->link = &pos->parent->rb_left;
		else
			pos->link = &pos->parent->rb_right;
	}
	return NULL;
}

/**
 * ksm_unstable_first - find the topmost item with a digest
 * @pos: to be set to where the search ended
 * @nid: which tree
 * @digest: the digest
 *
 * Context: scan mutex, held as long as @pos is in use.
 * Return: the item; NULL if there is none, @pos is then where it would go.
 */
struct ksm_rmap_item *ksm_unstable_first(struct ksm_unstable_pos *pos, int nid,
					 u64 digest)
{
	lockdep_assert_held(&ksm_scan_mutex);
	pos->root = &roots[nid];
	pos->parent = NULL;
	pos->link = &roots[nid].rb_node;
	return descend(pos, digest);
}

/**
 * ksm_unstable_next - go on with a search, below an item with equal digest
 * @pos: as ksm_unstable_first() left it
 * @at: the item found before
 * @digest: the digest
 * @after: the contents sought sort after those of @at
 *
 * Context: scan mutex, held since ksm_unstable_first().
 * Return: the next item with this digest; NULL as ksm_unstable_first().
 */
struct ksm_rmap_item *ksm_unstable_next(struct ksm_unstable_pos *pos,
					struct ksm_rmap_item *at, u64 digest,
					bool after)
{
	pos->parent = &at->rb;
	pos->link = after ? &at->rb.rb_right : &at->rb.rb_left;
	return descend(pos, digest);
}

/**
 * ksm_unstable_insert - put an item where a search ended
 * @item: the item, in neither tree
 * @pos: the place
 * @nid: which tree it is in
 * @digest: the item's key from now on
 *
 * Context: scan mutex, held since the search.
 */
void ksm_unstable_insert(struct ksm_rmap_item *item,
			 struct ksm_unstable_pos *pos, int nid, u64 digest)
{
	lockdep_assert_held(&ksm_scan_mutex);
	item->state = KSM_CANDIDATE;
	item->nid = nid;
	item->digest = digest;
	rb_link_node(&item->rb, pos->parent, pos->link);
	rb_insert_color(&item->rb, pos->root);
}

/**
 * ksm_unstable_erase - take an item out of its tree
 * @item: the item
 *
 * Context: scan mutex.
 */
void ksm_unstable_erase(struct ksm_rmap_item *item)
{
	lockdep_assert_held(&ksm_scan_mutex);
	rb_erase(&item->rb, &roots[item->nid]);
	item->state = KSM_NEW;
}

static bool same_digest(struct rb_node *rb, u64 digest)
{
	return rb && rb_entry(rb, struct ksm_rmap_item, rb)->digest == digest;
}

/**
 * ksm_unstable_alone - is an item the only one in its tree with its digest?
 * @item: the item
 *
 * Context: scan mutex.
 * Return: true if it is.
 */
bool ksm_unstable_alone(struct ksm_rmap_item *item)
{
	lockdep_assert_held(&ksm_scan_mutex);
	return !same_digest(rb_prev(&item->rb), item->digest) &&
	       !same_digest(rb_next(&item->rb), item->digest);
}

/**
 * ksm_unstable_tree_init - make the empty trees
 *
 * Context: once, at boot.
 * Return: 0 or -ENOMEM.
 */
int __init ksm_unstable_tree_init(void)
{
	roots = kcalloc(nr_node_ids, sizeof(*roots), GFP_KERNEL);
	return roots ? 0 : -ENOMEM;
}
