// SPDX-License-Identifier: GPL-2.0
/*
 * Lone blocks: the memory of blocks that never needed room for another record.
 *
 * A large area with few pages in it has a block for each.  What such blocks
 * have in common, their mm and all that the filter wants to know, is stored
 * once for a group of them; so they are allocated in groups.  A group's blocks
 * may be anywhere in the mm, and its address tells nothing of theirs.
 *
 * A group takes the same, however few of its blocks are in use.  So those that
 * lost the greater part of theirs come last on the mm's list, and ksmd moves
 * what is left in them to the first one, block by block as it visits them.
 *
 * Invariants, checked by check.c:
 *  1. A group is on its mm's list if, and only if, one of its blocks is free.
 *  2. Each of its blocks that is not is in the mm's tree, and there is one.
 */
#include <linux/slab.h>
#include "internal.h"

#define FULL	(BIT(KSM_GROUP_LONES) - 1)
#define FEW	(KSM_GROUP_LONES / 2)

static struct kmem_cache *group_cache;

/* Which group new blocks are taken from */
static struct ksm_group *first_group(struct ksm_mm *owner)
{
	return list_first_entry_or_null(&owner->groups, struct ksm_group, link);
}

static struct ksm_group *new_group(struct ksm_mm *owner, gfp_t gfp)
{
	struct ksm_group *group = kmem_cache_zalloc(group_cache, gfp);

	if (group) {
		group->owner = owner;
		list_add(&group->link, &owner->groups);
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
	group = first_group(owner) ?: new_group(owner, gfp);
	if (!group)
		return NULL;
	slot = ffz(group->taken);
	group->taken |= BIT(slot);
	if (group->taken == FULL)
		list_del_init(&group->link);
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
		list_add(&group->link, &owner->groups);
	group->taken &= ~BIT(block->slot);
	if (hweight_long(group->taken) == FEW)
		list_move_tail(&group->link, &owner->groups);
	if (group->taken)
		return;
	list_del(&group->link);
	ksm_filter_unname(&group->listing, owner);
	ksm_count_block(owner, -(long)sizeof(*group));
	kmem_cache_free(group_cache, group);
}

/**
 * ksm_lone_strays - should a block move to another group?
 * @block: the block
 *
 * Context: scan mutex.
 * Return: true if its group has few in use, and ksm_lone_alloc() would take
 *	from another, without the need for memory.
 */
bool ksm_lone_strays(struct ksm_block *block)
{
	struct ksm_group *group = ksm_block_group(block);

	lockdep_assert_held(&ksm_scan_mutex);
	return hweight_long(group->taken) <= FEW &&
	       first_group(group->owner) != group;
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
	/* What struct ksm_block has room for, and no more than that */
	BUILD_BUG_ON(KSM_GROUP_LONES > 1 << 4);
	BUILD_BUG_ON(KSM_BLOCK_PAGES >= 1 << 7);
	BUILD_BUG_ON(KSM_BLOCK_PAGES != 1 << KSM_BLOCK_INDEX_BITS);
	BUILD_BUG_ON(PAGE_SHIFT < 12);
	BUILD_BUG_ON(sizeof(struct ksm_block) !=
		     sizeof(struct rb_node) + sizeof(unsigned long));
	group_cache = KMEM_CACHE(ksm_group, 0);
	return group_cache ? 0 : -ENOMEM;
}
