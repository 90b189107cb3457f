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
 * Room for so many records makes a wide block fit one of the sizes kmalloc()
 * has; a block for all 64 pages would waste half of its kilobyte there and has
 * a cache of its own.
 */
static const u8 block_capacities[] = { 5, 9, 17, 25, KSM_BLOCK_PAGES };

static unsigned int block_count(struct ksm_block *block)
{
	return hweight64(ksm_block_present(block));
}

static unsigned int block_capacity(unsigned int wanted)
{
	unsigned int i = 0;

	while (block_capacities[i] < wanted)
		i++;
	return block_capacities[i];
}

static void set_present(struct ksm_block *block, u64 present)
{
	if (ksm_block_is_lone(block)) {
		block->present = present != 0;
		block->index = present ? __ffs64(present) : 0;
	} else {
		ksm_block_wide(block)->present = present;
	}
}

static long wide_bytes(const struct ksm_wide *wide)
{
	return struct_size(wide, rec, wide->block.capacity);
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
	unsigned long number = addr / KSM_BLOCK_SIZE;
	struct ksm_block *best = NULL;

	lockdep_assert_held(&ksm_scan_mutex);
	while (rb) {
		struct ksm_block *block = rb_entry(rb, struct ksm_block, rb);

		if (block->number >= number) {
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

	return block && block->number == addr / KSM_BLOCK_SIZE ? block : NULL;
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

static struct ksm_block *wide_alloc(struct ksm_mm *owner,
				    unsigned int capacity, gfp_t gfp)
{
	struct ksm_wide *wide;

	if (capacity == KSM_BLOCK_PAGES)
		wide = kmem_cache_alloc(block_cache, gfp);
	else
		wide = kmalloc(struct_size(wide, rec, capacity), gfp);
	if (!wide)
		return NULL;
	wide->block.capacity = capacity;
	wide->block.slot = 0;
	wide->block.index = 0;
	wide->block.present = 0;
	wide->owner = owner;
	wide->present = 0;
	wide->listing = (struct ksm_listing){};
	ksm_count_block(owner, wide_bytes(wide));
	return &wide->block;
}

/* Its records were copied or cleared, its cells moved or dropped */
static void block_release(struct ksm_block *block)
{
	struct ksm_wide *wide = ksm_block_wide(block);

	if (ksm_block_is_lone(block)) {
		ksm_lone_free(block);
		return;
	}
	ksm_count_block(wide->owner, -wide_bytes(wide));
	ksm_filter_unname(&wide->listing, wide->owner);
	if (block->capacity == KSM_BLOCK_PAGES)
		kmem_cache_free(block_cache, wide);
	else
		kfree(wide);
}

static void block_link(struct ksm_mm *owner, struct ksm_block *block)
{
	struct rb_node **link = &owner->blocks.rb_node;
	struct rb_node *parent = NULL;

	while (*link) {
		parent = *link;
		if (block->number <
		    rb_entry(parent, struct ksm_block, rb)->number)
			link = &parent->rb_left;
		else
			link = &parent->rb_right;
	}
	rb_link_node(&block->rb, parent, link);
	rb_insert_color(&block->rb, &owner->blocks);
}

/* Have another block, still empty, take the place of one */
static void block_replace(struct ksm_mm *owner, struct ksm_block *old,
			  struct ksm_block *block)
{
	block->number = old->number;
	/* First: records that can be listed no more lose their FILTERED here */
	ksm_filter_move(old, block);
	memcpy(ksm_block_records(block), ksm_block_records(old),
	       block_count(old) * sizeof(u64));
	set_present(block, ksm_block_present(old));
	rb_replace_node(&old->rb, &block->rb, &owner->blocks);
	block_release(old);
}

/**
 * ksm_block_reserve - make room for more records
 * @owner: the mm
 * @base: address of the block
 * @wanted: the pages that shall be able to have a record
 * @gfp: how to allocate
 *
 * May move the block: pointers to it are void after this.  If there was no memory
 * for its id, a record of it may not be listed in the filter any more.
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

	need = hweight64(wanted | (old ? ksm_block_present(old) : 0));
	if (old && old->capacity >= need)
		return old;
	if (need > 1)
		block = wide_alloc(owner, block_capacity(need), gfp);
	else
		block = ksm_lone_alloc(owner, gfp);
	if (!block)
		return NULL;
	if (old) {
		block_replace(owner, old, block);
	} else {
		block->number = base / KSM_BLOCK_SIZE;
		block_link(owner, block);
	}
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
	if (WARN_ON_ONCE(ksm_block_present(block)))
		return;
	rb_erase(&block->rb, &owner->blocks);
	block_release(block);
}

/**
 * ksm_block_to_do - would ksm_block_left() free or move a block?
 * @block: the block
 *
 * Context: scan mutex.
 * Return: true if it would.
 */
bool ksm_block_to_do(struct ksm_block *block)
{
	if (ksm_block_is_lone(block))
		return !block->present || ksm_lone_strays(block);
	return !ksm_block_wide(block)->present;
}

/**
 * ksm_block_left - a visitor is done with a block
 * @owner: the mm
 * @block: the block, or NULL
 *
 * May free the block if it is empty, or move it: pointers to it are void after
 * this.
 *
 * Context: scan mutex.
 */
void ksm_block_left(struct ksm_mm *owner, struct ksm_block *block)
{
	struct ksm_block *other;

	lockdep_assert_held(&ksm_scan_mutex);
	if (!block || !ksm_block_to_do(block))
		return;
	if (!ksm_block_present(block)) {
		ksm_block_free(owner, block);
		return;
	}
	other = ksm_lone_alloc(owner, GFP_NOWAIT | __GFP_NOWARN);
	if (other)
		block_replace(owner, block, other);
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
	u64 *at = ksm_block_records(block) + ksm_block_rank(block, index);
	u64 present = ksm_block_present(block);
	u64 *end;

	lockdep_assert_held(&ksm_scan_mutex);
	if (present & BIT_ULL(index)) {
		if (same_page(*at, rec))
			rec |= *at & KSM_REC_FILTERED;
		else
			ksm_filter_drop(block, index);
		ksm_count_state(ksm_rec_state(*at), ksm_rec_state(rec));
		*at = rec;
		return;
	}
	if (WARN_ON_ONCE(block_count(block) >= block->capacity))
		return;
	end = ksm_block_records(block) + block_count(block);
	memmove(at + 1, at, (void *)end - (void *)at);
	*at = rec;
	set_present(block, present | BIT_ULL(index));
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
	u64 *at, *end;

	lockdep_assert_held(&ksm_scan_mutex);
	if (!block || !(ksm_block_present(block) & BIT_ULL(index)))
		return;
	ksm_filter_drop(block, index);
	at = ksm_block_records(block) + ksm_block_rank(block, index);
	end = ksm_block_records(block) + block_count(block);
	ksm_count_state(ksm_rec_state(*at), KSM_NEW);
	memmove(at, at + 1, (void *)end - (void *)(at + 1));
	set_present(block, ksm_block_present(block) & ~BIT_ULL(index));
}

/**
 * ksm_records_clear - forget some pages of a block
 * @block: the block
 * @mask: which pages; some may have no record
 *
 * As ksm_record_clear() for each of them, but cheaper for many.
 *
 * Context: scan mutex.
 */
void ksm_records_clear(struct ksm_block *block, u64 mask)
{
	u64 *rec = ksm_block_records(block), *to = rec;
	u64 present = ksm_block_present(block), left;

	lockdep_assert_held(&ksm_scan_mutex);
	/* Records from @rec on are still where the bitmap says */
	for (left = present; left; left &= left - 1, rec++) {
		unsigned int index = __ffs64(left);

		if (!(mask & BIT_ULL(index))) {
			*to++ = *rec;
			continue;
		}
		if (ksm_filter_lists(block, *rec))
			ksm_filter_drop(block, index);
		ksm_count_state(ksm_rec_state(*rec), KSM_NEW);
	}
	set_present(block, present & ~mask);
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
 * ksm_items_free - free rmap items that are in neither tree
 * @owner: the mm of all of them
 * @items: the items
 * @nr: how many
 *
 * Context: scan mutex.
 */
void ksm_items_free(struct ksm_mm *owner, struct ksm_rmap_item **items,
		    unsigned int nr)
{
	ksm_count_item(owner, -(int)nr);
	kmem_cache_free_bulk(item_cache, nr, (void **)items);
}

/**
 * ksm_record_init - make the caches
 *
 * Context: once, at boot.
 * Return: 0 or -ENOMEM.
 */
int __init ksm_record_init(void)
{
	struct ksm_wide *wide;

	BUILD_BUG_ON(sizeof(struct ksm_rmap_item) != BIT(KSM_ITEM_SHIFT));
	block_cache = kmem_cache_create("ksm_block",
					struct_size(wide, rec, KSM_BLOCK_PAGES),
					0, 0, NULL);
	item_cache = KMEM_CACHE(ksm_rmap_item, 0);
	if (block_cache && item_cache && !ksm_lone_init())
		return 0;
	kmem_cache_destroy(block_cache);
	kmem_cache_destroy(item_cache);
	return -ENOMEM;
}
