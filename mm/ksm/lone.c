// SPDX-License-Identifier: GPL-2.0
/*
 * Lone blocks: the memory of blocks with one record.
 *
 * A large area with few pages in it has a block for each.  What such blocks
 * have in common, their mm and all that the filter wants to know, is stored
 * once for a group of them; so they are allocated in groups.  A group's blocks
 * may be anywhere in the mm, and its address tells nothing of theirs.
 *
 * Invariants, checked by check.c:
 *  1. A group is on its mm's list if, and only if, one of its blocks is free.
 *  2. A group with no block in use is freed.
 */
#include <linux/slab.h>
#include "internal.h"

static struct kmem_cache *group_cache;

#define FULL	(BIT(KSM_GROUP_LONES) - 1)

static struct ksm_group *new_group(struct ksm_mm *owner, gfp_t gfp)
{
	struct ksm_group *group = kmem_cache_zalloc(group_cache, gfp);

	if (group) {
		group->owner = owner;
		hlist_add_head(&group->link, &owner->groups);
		ksm_count_block(owner, sizeof(*group));
	}
	return group;
}

/**
 * ksm_lone_alloc - allocate a block for one record
 * @owner: the mm
 * @gfp: how to allocate
 *
 * Context: scan mutex; what @gfp asks for.
 * Return: the block, empty, whose number the caller is to set; or NULL if there
 *	is no memory.
 */
struct ksm_block *ksm_lone_alloc(struct ksm_mm *owner, gfp_t gfp)
{
	struct ksm_group *group;
	struct ksm_lone *lone;
	unsigned int slot;

	lockdep_assert_held(&ksm_scan_mutex);
	group = hlist_entry_safe(owner->groups.first, struct ksm_group, link) ?:
		new_group(owner, gfp);
	if (!group)
		return NULL;
	slot = ffz(group->taken);
	group->taken |= BIT(slot);
	if (group->taken == FULL)
		hlist_del_init(&group->link);
	lone = &group->lone[slot];
	lone->block.capacity = 1;
	lone->block.slot = slot;
	lone->block.index = 0;
	lone->block.present = 0;
	lone->rec = 0;
	return &lone->block;
}

/**
 * ksm_lone_free - free a block from ksm_lone_alloc()
 * @block: the block, in no tree, with no record in the filter
 *
 * Context: scan mutex.
 */
void ksm_lone_free(struct ksm_block *block)
{
	struct ksm_group *group = ksm_block_group(block);
	struct ksm_mm *owner = group->owner;

	lockdep_assert_held(&ksm_scan_mutex);
	if (group->taken == FULL)
		hlist_add_head(&group->link, &owner->groups);
	group->taken &= ~BIT(block->slot);
	if (group->taken)
		return;
	hlist_del(&group->link);
	ksm_filter_unname(&group->listing, owner);
	ksm_count_block(owner, -(long)sizeof(*group));
	kmem_cache_free(group_cache, group);
}

/**
 * ksm_lone_init - make the cache
 *
 * Context: once, at boot.
 * Return: 0 or -ENOMEM.
 */
int __init ksm_lone_init(void)
{
	BUILD_BUG_ON(KSM_GROUP_LONES > KSM_BLOCK_PAGES);
	BUILD_BUG_ON(KSM_GROUP_LONES > 1 << 4);	/* ksm_block.slot */
	group_cache = KMEM_CACHE(ksm_group, 0);
	return group_cache ? 0 : -ENOMEM;
}
