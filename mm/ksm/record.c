// SPDX-License-Identifier: GPL-2.0
/*
 * Page records and rmap items: what is remembered of each page.
 *
 * Invariants, checked by check.c:
 *  1. A page has at most one record, in the block of its address; a page in
 *     state KSM_NEW has none.
 *  2. The records of a block are packed in the order of their pages:
 *     the record of page i is rec[number of present pages before i].
 *  3. A record in state CANDIDATE or MERGED leads to an rmap item, and each
 *     rmap item belongs to exactly one such record, but for the moment
 *     between its allocation and its listing.
 *
 * This file knows nothing of page tables, folios or trees.
 */
#include <linux/slab.h>
#include "internal.h"

static struct kmem_cache *block_cache;
static struct kmem_cache *item_cache;

/*
 * Room for so many records makes a block fit one of the sizes kmalloc() has;
 * a block for all 64 pages would waste half of its kilobyte there and has a
 * cache of its own.
 */
static const u8 block_capacities[] = { 1, 5, 9, 17, 25, KSM_BLOCK_PAGES };

static unsigned int block_count(const struct ksm_block *block)
{
	return hweight64(block->present);
}

static unsigned int block_capacity(unsigned int wanted)
{
	unsigned int i = 0;

	while (block_capacities[i] < wanted)
		i++;
	return block_capacities[i];
}

static long block_bytes(const struct ksm_block *block)
{
	return struct_size(block, rec, block->capacity);
}

/**
 * ksm_block_from - the first block at or after the one of an address
 * @owner: the mm
 * @addr: the address
 *
 * Context: scan mutex.
 * Return: the block, or NULL if there is none.
 */
struct ksm_block *ksm_block_from(struct ksm_mm *owner, unsigned long addr)
{
	struct rb_node *rb = owner->blocks.rb_node;
	struct ksm_block *best = NULL;

	lockdep_assert_held(&ksm_scan_mutex);
	addr &= KSM_BLOCK_MASK;
	while (rb) {
		struct ksm_block *block = rb_entry(rb, struct ksm_block, rb);

		if (block->base >= addr) {
			best = block;
			rb = rb->rb_left;
		} else {
			rb = rb->rb_right;
		}
	}
	return best;
}

/**
 * ksm_block_find - the block with the records around an address
 * @owner: the mm
 * @addr: the address
 *
 * Context: scan mutex.
 * Return: the block, or NULL if none of its pages has a record.
 */
struct ksm_block *ksm_block_find(struct ksm_mm *owner, unsigned long addr)
{
	struct ksm_block *block = ksm_block_from(owner, addr);

	return block && block->base == (addr & KSM_BLOCK_MASK) ? block : NULL;
}

/**
 * ksm_block_next - the block with the next higher address
 * @block: a block
 *
 * Context: scan mutex.
 * Return: the next block, or NULL.
 */
struct ksm_block *ksm_block_next(struct ksm_block *block)
{
	return rb_entry_safe(rb_next(&block->rb), struct ksm_block, rb);
}

static struct ksm_block *block_alloc(unsigned int capacity, gfp_t gfp)
{
	struct ksm_block *block;

	if (capacity == KSM_BLOCK_PAGES)
		block = kmem_cache_alloc(block_cache, gfp);
	else
		block = kmalloc(struct_size(block, rec, capacity), gfp);
	if (block) {
		block->capacity = capacity;
		block->id = 0;
		block->filter_age = 0;
	}
	return block;
}

static void block_release(struct ksm_block *block)
{
	if (block->capacity == KSM_BLOCK_PAGES)
		kmem_cache_free(block_cache, block);
	else
		kfree(block);
}

static void block_link(struct ksm_mm *owner, struct ksm_block *block)
{
	struct rb_node **link = &owner->blocks.rb_node;
	struct rb_node *parent = NULL;

	while (*link) {
		parent = *link;
		if (block->base < rb_entry(parent, struct ksm_block, rb)->base)
			link = &parent->rb_left;
		else
			link = &parent->rb_right;
	}
	rb_link_node(&block->rb, parent, link);
	rb_insert_color(&block->rb, &owner->blocks);
}

/**
 * ksm_block_reserve - make room for more records
 * @owner: the mm
 * @base: address of the block
 * @wanted: the pages that shall be able to have a record
 * @gfp: how to allocate
 *
 * May move the block: pointers to it are void after this.
 *
 * Context: scan mutex; what @gfp asks for.
 * Return: the block, or NULL if there is no memory; nothing changes then.
 */
struct ksm_block *ksm_block_reserve(struct ksm_mm *owner, unsigned long base,
				    u64 wanted, gfp_t gfp)
{
	struct ksm_block *old = ksm_block_find(owner, base);
	struct ksm_block *block;
	unsigned int need;

	need = hweight64(wanted | (old ? old->present : 0));
	if (old && old->capacity >= need)
		return old;
	block = block_alloc(block_capacity(max(need, 1U)), gfp);
	if (!block)
		return NULL;
	block->base = base;
	block->owner = owner;
	if (old) {
		block->present = old->present;
		block->id = old->id;
		block->filter_age = old->filter_age;
		memcpy(block->rec, old->rec,
		       block_count(old) * sizeof(old->rec[0]));
		rb_replace_node(&old->rb, &block->rb, &owner->blocks);
		ksm_filter_block_moved(block);
		ksm_count_block(owner, -block_bytes(old));
		block_release(old);
	} else {
		block->present = 0;
		block_link(owner, block);
	}
	ksm_count_block(owner, block_bytes(block));
	return block;
}

/**
 * ksm_block_free - free a block without records
 * @owner: the mm
 * @block: the block
 *
 * Context: scan mutex.
 */
void ksm_block_free(struct ksm_mm *owner, struct ksm_block *block)
{
	lockdep_assert_held(&ksm_scan_mutex);
	if (WARN_ON_ONCE(block->present))
		return;
	ksm_filter_block_gone(block);
	rb_erase(&block->rb, &owner->blocks);
	ksm_count_block(owner, -block_bytes(block));
	block_release(block);
}

/* Is a listed page still listed as the right one? */
static bool same_page(u64 old, u64 rec)
{
	return ksm_rec_state(old) == KSM_SETTLED &&
	       ksm_rec_state(rec) == KSM_SETTLED &&
	       old >> KSM_REC_TAG_SHIFT == rec >> KSM_REC_TAG_SHIFT;
}

/**
 * ksm_record_set - write a record, making it if need be
 * @block: the block, with room reserved for this record
 * @index: which page of it
 * @rec: the record, not in state KSM_NEW
 *
 * Unless the page is still SETTLED, with the same frame and digest, the filter
 * lists it no more until it is told to.
 *
 * Context: scan mutex.
 */
void ksm_record_set(struct ksm_block *block, unsigned int index, u64 rec)
{
	unsigned int rank = ksm_block_rank(block, index);
	unsigned int count = block_count(block);

	lockdep_assert_held(&ksm_scan_mutex);
	if (block->present & BIT_ULL(index)) {
		if (same_page(block->rec[rank], rec))
			rec |= block->rec[rank] & KSM_REC_FILTERED;
		else
			ksm_filter_drop(block, index);
		ksm_count_state(ksm_rec_state(block->rec[rank]),
				ksm_rec_state(rec));
		block->rec[rank] = rec;
		return;
	}
	if (WARN_ON_ONCE(count >= block->capacity))
		return;
	memmove(&block->rec[rank + 1], &block->rec[rank],
		(count - rank) * sizeof(rec));
	block->rec[rank] = rec;
	block->present |= BIT_ULL(index);
	ksm_count_state(KSM_NEW, ksm_rec_state(rec));
}

/**
 * ksm_record_clear - forget a page
 * @block: the block, or NULL
 * @index: which page of it
 *
 * The block stays, even if it is empty now: its visitor frees it, or ksmd where
 * it comes by next.
 *
 * Context: scan mutex.
 */
void ksm_record_clear(struct ksm_block *block, unsigned int index)
{
	unsigned int rank, count;

	lockdep_assert_held(&ksm_scan_mutex);
	if (!block || !(block->present & BIT_ULL(index)))
		return;
	rank = ksm_block_rank(block, index);
	count = block_count(block);
	ksm_filter_drop(block, index);
	ksm_count_state(ksm_rec_state(block->rec[rank]), KSM_NEW);
	memmove(&block->rec[rank], &block->rec[rank + 1],
		(count - rank - 1) * sizeof(block->rec[0]));
	block->present &= ~BIT_ULL(index);
}

/**
 * ksm_record_at - read the record of an address
 * @owner: the mm
 * @addr: the address
 *
 * Context: scan mutex.
 * Return: the record; one in state KSM_NEW if there is none.
 */
u64 ksm_record_at(struct ksm_mm *owner, unsigned long addr)
{
	return ksm_record_get(ksm_block_find(owner, addr),
			      ksm_block_index(addr));
}

/**
 * ksm_record_set_at - write the record of an address
 * @owner: the mm
 * @addr: the address, which has a record
 * @rec: the record, as for ksm_record_set()
 *
 * Context: scan mutex.
 */
void ksm_record_set_at(struct ksm_mm *owner, unsigned long addr, u64 rec)
{
	struct ksm_block *block = ksm_block_find(owner, addr);

	if (!WARN_ON_ONCE(!block))
		ksm_record_set(block, ksm_block_index(addr), rec);
}

/**
 * ksm_item_alloc - allocate an rmap item, in neither tree yet
 * @owner: the mm
 * @addr: the address
 * @gfp: how to allocate
 *
 * Context: scan mutex; what @gfp asks for.
 * Return: the item, or NULL if there is no memory.
 */
struct ksm_rmap_item *ksm_item_alloc(struct ksm_mm *owner, unsigned long addr,
				     gfp_t gfp)
{
	struct ksm_rmap_item *item = kmem_cache_zalloc(item_cache, gfp);

	/* Records keep no tag: all pointers to it are to be the same */
	item = kasan_reset_tag(item);
	if (item && (u64)virt_to_phys(item) >> (KSM_REC_ITEM_BITS +
						KSM_ITEM_SHIFT)) {
		/* No machine has that much; if one has, it uses less of it */
		kmem_cache_free(item_cache, item);
		return NULL;
	}
	if (item) {
		item->owner = owner;
		item->address = addr;
		item->state = KSM_NEW;
		ksm_count_item(owner, 1);
	}
	return item;
}

/**
 * ksm_item_free - free an rmap item that is in neither tree
 * @item: the item, or NULL
 *
 * Context: scan mutex.
 */
void ksm_item_free(struct ksm_rmap_item *item)
{
	if (!item || WARN_ON_ONCE(item->state != KSM_NEW))
		return;
	ksm_count_item(item->owner, -1);
	kmem_cache_free(item_cache, item);
}

/**
 * ksm_record_init - make the caches
 *
 * Context: once, at boot.
 * Return: 0 or -ENOMEM.
 */
int __init ksm_record_init(void)
{
	struct ksm_block *block;

	BUILD_BUG_ON(sizeof(struct ksm_rmap_item) != BIT(KSM_ITEM_SHIFT));
	block_cache = kmem_cache_create("ksm_block",
					struct_size(block, rec, KSM_BLOCK_PAGES),
					0, 0, NULL);
	item_cache = KMEM_CACHE(ksm_rmap_item, 0);
	if (block_cache && item_cache)
		return 0;
	kmem_cache_destroy(block_cache);
	kmem_cache_destroy(item_cache);
	return -ENOMEM;
}
