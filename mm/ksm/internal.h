/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Kernel Samepage Merging: the structures its files share, and who may touch
 * them.  Design and guarantees: Documentation/mm/ksm.rst.
 *
 * Files are layered; calls go downwards only:
 *
 *   edge    ksm.c advice.c rmap.c hotplug.c sysfs.c
 *   walk    unmerge.c reap.c climb.c pair.c hit.c scan.c registry.c
 *   page    sweep.c twin.c sharing.c merge.c unshare.c identity.c
 *   index   record.c lone.c filter.c stable_tree.c unstable_tree.c
 *   sums    digest.c pace.c stats.c cost.c
 *
 * Lock legend.  Each field of a shared structure carries the letters of the
 * rule that protects it:
 *
 *   I  set before the object is published, then constant
 *   S  the scan mutex, ksm_scan_mutex
 *   R  the registry lock in registry.c
 *   F  written under the scan mutex and the lock of the merged folio (or with
 *      that folio gone for good); read under either of the two
 *   M  written under the lock of the merged folio by its migration; read
 *      without a lock, the barriers are in identity.c
 *   K  a knob: READ_ONCE and WRITE_ONCE, each value is valid at any moment
 *
 * Lock order: scan mutex > mmap_lock (one at a time) > folio lock (trylock
 * only) > anon_vma > page-table lock.  The registry lock is innermost, but
 * for the page-table lock, which is never held together with it.
 */
#ifndef _MM_KSM_INTERNAL_H
#define _MM_KSM_INTERNAL_H

#include <linux/bitops.h>
#include <linux/hash.h>
#include <linux/io.h>
#include <linux/ksm.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/numa.h>
#include <linux/rbtree.h>
#include <linux/tracepoint-defs.h>
#include <linux/types.h>
#include "../mm_slot.h"

/* ------------------------------------------------------------------ */
/* Page records                                                        */
/* ------------------------------------------------------------------ */

/**
 * enum ksm_state - what is known of the page at one address
 * @KSM_NEW: nothing; such a page has no record at all
 * @KSM_VOLATILE: digested, and changed (or first seen) at the last look
 * @KSM_RESTLESS: written to before each of the last looks, and not read again
 *	until it is found at rest; has no digest
 * @KSM_SETTLED: unchanged, and no other frame has its digest: listed in the
 *	filter; or it shares its frame, by fork, with a page that is; or it was
 *	listed, and will be at its next visit
 * @KSM_CANDIDATE: unchanged and listed in the unstable tree by an rmap item
 * @KSM_MERGED: listed by an rmap item on the stable node that it maps
 */
enum ksm_state {
	KSM_NEW,
	KSM_VOLATILE,
	KSM_RESTLESS,
	KSM_SETTLED,
	KSM_CANDIDATE,
	KSM_MERGED,
};

/*
 * A record is one 64-bit word, as there is one for each page ever looked at.
 * Its low bits are the state.  Without an rmap item the rest is:
 *
 *    63            24 23       9      8          7     6   3 2     0
 *   | digest, 40 bits | frame tag | filtered | watched | age | state |
 *
 * and with one (CANDIDATE, MERGED):
 *
 *    63                       17 16         3 2     0
 *   | item, in units of its size | mapping tag | state |
 *
 * Only the accessors below, record.c and filter.c know this.
 *
 * A mapping tag stands for the frame and the page offset of a merged page, so
 * that ksmd need not look at the item to see that all is as it was.
 *
 * The age counts the looks since which a page keeps changing, or, when it is
 * SETTLED, the times it was read and had not.  A page is watched when its PTE was
 * clean before it was last read, so that a dirty one tells of a later store.
 * Whether it is filtered is for filter.c to say: ksm_filter_lists().
 */
#define KSM_REC_STATE_BITS	3
#define KSM_REC_AGE_BITS	4
#define KSM_REC_WATCHED		BIT_ULL(KSM_REC_STATE_BITS + KSM_REC_AGE_BITS)
#define KSM_REC_FILTERED	(KSM_REC_WATCHED << 1)
#define KSM_REC_TAG_SHIFT	(KSM_REC_STATE_BITS + KSM_REC_AGE_BITS + 2)
#define KSM_REC_TAG_BITS	15
#define KSM_REC_TAG_MASK	((1U << KSM_REC_TAG_BITS) - 1)
#define KSM_REC_AGE_MAX		((1U << KSM_REC_AGE_BITS) - 1)

/*
 * Items lie in the linear map, below 8 PiB (or are not used, see
 * ksm_item_alloc()); what is left of the word tells mappings apart.
 */
#define KSM_ITEM_SHIFT		6
#define KSM_REC_ITEM_BITS	47
#define KSM_REC_ITEM_POS	(64 - KSM_REC_ITEM_BITS)
#define KSM_REC_MAPPING_MASK	\
	(BIT_ULL(KSM_REC_ITEM_POS - KSM_REC_STATE_BITS) - 1)

/* All digests have so many bits: that is what there is room for in a record */
#define KSM_DIGEST_BITS		40
#define KSM_DIGEST_MASK		(BIT_ULL(KSM_DIGEST_BITS) - 1)

struct ksm_rmap_item;

static inline enum ksm_state ksm_rec_state(u64 rec)
{
	return rec & (BIT(KSM_REC_STATE_BITS) - 1);
}

static inline bool ksm_rec_has_item(u64 rec)
{
	return ksm_rec_state(rec) >= KSM_CANDIDATE;
}

static inline struct ksm_rmap_item *ksm_rec_item(u64 rec)
{
	return phys_to_virt((phys_addr_t)(rec >> KSM_REC_ITEM_POS) <<
			    KSM_ITEM_SHIFT);
}

static inline u32 ksm_rec_mapping(u64 rec)
{
	return (rec >> KSM_REC_STATE_BITS) & KSM_REC_MAPPING_MASK;
}

static inline unsigned int ksm_rec_age(u64 rec)
{
	return (rec >> KSM_REC_STATE_BITS) & KSM_REC_AGE_MAX;
}

/* The age of a page that is found settled, once more or for the first time */
static inline unsigned int ksm_rec_settled_age(u64 rec)
{
	return ksm_rec_state(rec) == KSM_SETTLED ? ksm_rec_age(rec) + 1 : 0;
}

static inline bool ksm_rec_watched(u64 rec)
{
	return rec & KSM_REC_WATCHED;
}

static inline u16 ksm_rec_tag(u64 rec)
{
	return (rec >> KSM_REC_TAG_SHIFT) & KSM_REC_TAG_MASK;
}

static inline u64 ksm_rec_digest(u64 rec)
{
	return rec >> (64 - KSM_DIGEST_BITS);
}

static inline u64 ksm_rec_plain(enum ksm_state state, unsigned int age,
				bool watched, u16 tag, u64 digest)
{
	return digest << (64 - KSM_DIGEST_BITS) |
		(u64)(tag & KSM_REC_TAG_MASK) << KSM_REC_TAG_SHIFT |
		(watched ? KSM_REC_WATCHED : 0) |
		(u64)min(age, KSM_REC_AGE_MAX) << KSM_REC_STATE_BITS | state;
}

static inline u64 ksm_rec_listed(enum ksm_state state,
				 struct ksm_rmap_item *item, u32 mapping)
{
	return (u64)(virt_to_phys(item) >> KSM_ITEM_SHIFT) << KSM_REC_ITEM_POS |
		(mapping & KSM_REC_MAPPING_MASK) << KSM_REC_STATE_BITS | state;
}

#define KSM_BLOCK_PAGES		64
#define KSM_BLOCK_SIZE		(KSM_BLOCK_PAGES * PAGE_SIZE)
#define KSM_BLOCK_MASK		(~(KSM_BLOCK_SIZE - 1))
#define KSM_BLOCK_ID_BITS	26
#define KSM_BLOCK_INDEX_BITS	6
#define KSM_FILTER_AGE_BITS	31

/* An address has so many bits above those of a place in a block of 4 KiB pages */
#define KSM_BLOCK_NUMBER_BITS	(BITS_PER_LONG - KSM_BLOCK_INDEX_BITS - 12)

/**
 * struct ksm_listing - by what the filter knows some records
 * @id: S: an id, 0 if they have none
 * @age: S: age of the filter that their FILTERED tells of
 */
struct ksm_listing {
	u64	id : KSM_BLOCK_ID_BITS;
	u64	age : KSM_FILTER_AGE_BITS;
};

/**
 * struct ksm_block - what is known of up to 64 neighbouring pages
 * @rb: S: node in ksm_mm.blocks, ordered by @number
 * @number: S: address of the first page, in units of KSM_BLOCK_SIZE
 * @capacity: S: how many records there is room for; 1: part of a struct
 *	ksm_lone, else of a struct ksm_wide
 * @slot: S: lone: which one of its group
 * @index: S: lone: which page has the record
 * @present: S: lone: there is one
 *
 * Of the two kinds only the accessors below, record.c, lone.c and filter.c
 * know, and check.c.
 */
struct ksm_block {
	struct rb_node	rb;
	unsigned long	number : KSM_BLOCK_NUMBER_BITS;
	unsigned long	capacity : 7;
	unsigned long	slot : 4;
	unsigned long	index : KSM_BLOCK_INDEX_BITS;
	unsigned long	present : 1;
};

/**
 * struct ksm_wide - a block with room for several records
 * @block: see there
 * @owner: I: the mm
 * @present: S: which pages have a record
 * @listing: S: see there
 * @rec: S: the records, packed in the order of their pages
 *
 * A full one takes 8.875 bytes a page.
 */
struct ksm_wide {
	struct ksm_block	block;
	struct ksm_mm		*owner;
	u64			present;
	struct ksm_listing	listing;
	u64			rec[];
};

/**
 * struct ksm_lone - a block with room for one record, part of a group
 * @block: see there
 * @rec: S: the record
 */
struct ksm_lone {
	struct ksm_block	block;
	u64			rec;
};

#define KSM_GROUP_LONES		11

/**
 * struct ksm_group - lone blocks of an mm, wherever they are in it
 * @owner: I: the mm
 * @link: S: link in ksm_mm.groups while one of @lone is free, else empty
 * @taken: S: which of @lone are not
 * @listing: S: of all their records
 * @lone: S: the blocks
 *
 * What blocks have in common is stored once, so that an area with few pages in
 * it stays cheap: a page there takes 44 bytes, if its group is full.
 */
struct ksm_group {
	struct ksm_mm		*owner;
	struct list_head	link;
	unsigned long		taken;
	struct ksm_listing	listing;
	struct ksm_lone		lone[KSM_GROUP_LONES];
};

static inline bool ksm_block_is_lone(const struct ksm_block *block)
{
	return block->capacity == 1;
}

static inline struct ksm_wide *ksm_block_wide(struct ksm_block *block)
{
	return container_of(block, struct ksm_wide, block);
}

static inline struct ksm_lone *ksm_block_lone(struct ksm_block *block)
{
	return container_of(block, struct ksm_lone, block);
}

static inline struct ksm_group *ksm_block_group(struct ksm_block *block)
{
	struct ksm_lone *first = ksm_block_lone(block) - block->slot;

	return container_of(first, struct ksm_group, lone[0]);
}

static inline struct ksm_mm *ksm_block_owner(struct ksm_block *block)
{
	if (ksm_block_is_lone(block))
		return ksm_block_group(block)->owner;
	return ksm_block_wide(block)->owner;
}

static inline struct ksm_listing *ksm_block_listing(struct ksm_block *block)
{
	if (ksm_block_is_lone(block))
		return &ksm_block_group(block)->listing;
	return &ksm_block_wide(block)->listing;
}

/* Address of the first page */
static inline unsigned long ksm_block_base(const struct ksm_block *block)
{
	return (unsigned long)block->number * KSM_BLOCK_SIZE;
}

static inline unsigned long ksm_block_addr(const struct ksm_block *block,
					   unsigned int index)
{
	return ksm_block_base(block) + index * PAGE_SIZE;
}

/* Which pages have a record */
static inline u64 ksm_block_present(struct ksm_block *block)
{
	if (ksm_block_is_lone(block))
		return (u64)block->present << block->index;
	return ksm_block_wide(block)->present;
}

/* The records, packed in the order of their pages */
static inline u64 *ksm_block_records(struct ksm_block *block)
{
	if (ksm_block_is_lone(block))
		return &ksm_block_lone(block)->rec;
	return ksm_block_wide(block)->rec;
}

/* Where a block or a range ends; the range may end with the last block of all */
static inline unsigned long ksm_block_end(unsigned long addr, unsigned long end)
{
	return min(addr | (KSM_BLOCK_SIZE - 1), end - 1) + 1;
}

/* Where the record of a page is, or would be */
static inline unsigned int ksm_rank(u64 present, unsigned int index)
{
	if (present == ~0ULL)
		return index;
	return hweight64(present & (BIT_ULL(index) - 1));
}

static inline unsigned int ksm_block_rank(struct ksm_block *block,
					  unsigned int index)
{
	return ksm_rank(ksm_block_present(block), index);
}

/**
 * struct ksm_mm - a registered mm
 * @slot: R: links into the registry; slot.mm is I, and mmgrab'ed
 * @blocks: S: the page records
 * @groups: S: those groups of lone blocks that have room for another; new ones
 *	come from the first
 * @bytes: S: bytes taken by records and items; profit reads it unlocked
 * @exiting: R: the mm passed ksm_exit(); its page tables are taboo
 * @busy: R: KSM works on the page tables, holding mmap_lock for read
 * @visited: R: KSM may hold a pointer to this; only the reaper may free it
 * @known: S: link in the list of all entries with @visited set
 * @reaped: S: where the next slice begins, when it is reaped
 */
struct ksm_mm {
	struct mm_slot	slot;
	struct list_head known;
	struct rb_root	blocks;
	struct list_head groups;
	unsigned long	bytes;
	bool		exiting;
	bool		busy;
	bool		visited;
	unsigned long	reaped;
};

/* ------------------------------------------------------------------ */
/* The trees                                                           */
/* ------------------------------------------------------------------ */

enum ksm_entry_kind {
	KSM_SINGLE,	/* a stable node, the only one with its contents */
	KSM_CHAIN,	/* a chain, standing in the tree for its dups */
	KSM_DUP,	/* a stable node on a chain */
};

struct ksm_chain;

/**
 * struct ksm_entry - what stable nodes and chains have in common
 * @rb: S: node in the stable tree (SINGLE, CHAIN)
 * @dup: S: link in ksm_chain.dups (DUP)
 * @chain: S: the chain of a DUP
 * @digest: I: digest of the contents, the key of the tree
 * @nid: S: which stable tree this is in
 * @kind: S: which of the three this is
 * @crowded: S: others in the tree have, or had, the same digest
 * @bereft: S: its page has gone for good (SINGLE, DUP)
 * @count: F: rmap items on a node; S: dups on a chain
 * @id: S: by which the filter knows it; 0 if it does not (SINGLE, CHAIN)
 */
struct ksm_entry {
	union {
		struct rb_node rb;
		struct {
			struct list_head dup;
			struct ksm_chain *chain;
		};
	};
	u64		digest : KSM_DIGEST_BITS;
	s64		nid : 16;
	u64		kind : 2;
	u64		crowded : 1;
	u64		bereft : 1;
	u32		count;
	u32		id;
};

/**
 * struct ksm_stable_node - one merged page
 * @entry: see there
 * @pfn: M: the page's frame; no reference to it is held, see identity.c
 * @items: F: rmap items of the mappings of this page
 * @anon_vma: F: the page's own, from when it was an anonymous page: leads to
 *	those who had it mapped then, and to their children, listed or not
 * @pgoff: F: the page offset that goes with it
 */
struct ksm_stable_node {
	struct ksm_entry	entry;
	unsigned long		pfn;
	struct hlist_head	items;
	struct anon_vma		*anon_vma;
	pgoff_t			pgoff;
};

/**
 * struct ksm_chain - several merged pages with the same contents
 * @entry: see there
 * @dups: S: the nodes; those with room for another sharer come first
 * @pruned: S: jiffies at which the chain was last tidied
 */
struct ksm_chain {
	struct ksm_entry	entry;
	struct list_head	dups;
	unsigned long		pruned;
};

#define KSM_ANY_PFN	(~0UL)

/**
 * struct ksm_rmap_item - a page that is in one of the trees
 * @owner: F: the mm it is mapped in
 * @address: S: and where
 * @state: S: KSM_CANDIDATE, KSM_MERGED, or KSM_NEW while in neither tree
 * @streak: S: CANDIDATE: reads since which it has not changed
 * @watched: S: CANDIDATE: as in a record
 * @nid: S: CANDIDATE: which unstable tree it is in
 * @rb: S: CANDIDATE: node of the unstable tree
 * @digest: S: CANDIDATE: the key of the tree
 * @pfn: S: CANDIDATE: the frame that was digested, KSM_ANY_PFN if not known
 * @link: F: MERGED: link in ksm_stable_node.items
 * @node: F: MERGED: the node
 * @anon_vma: F: MERGED: where the reverse walk finds the mappings
 * @pgoff: F: MERGED: and at which page offset; unlike the address it
 *	survives mremap()
 */
struct ksm_rmap_item {
	struct ksm_mm		*owner;
	unsigned long		address;
	u8			state;
	u8			streak;
	bool			watched;
	s16			nid;
	union {
		struct {
			struct rb_node	rb;
			u64		digest;
			unsigned long	pfn;
		};
		struct {
			struct hlist_node	link;
			struct ksm_stable_node	*node;
			struct anon_vma		*anon_vma;
			pgoff_t			pgoff;
		};
	};
} __aligned(1 << KSM_ITEM_SHIFT);

/* ------------------------------------------------------------------ */
/* ksm.c: knobs and the scan mutex                                     */
/* ------------------------------------------------------------------ */

enum ksm_run {
	KSM_RUN_STOP	= 0,
	KSM_RUN_MERGE	= 1,
	KSM_RUN_UNMERGE	= 2,
};

#define KSM_RUN_OFFLINE	4	/* added to what `run` shows during hot-remove */

/**
 * struct ksm_knobs - what an admin may set
 * @run: S, K: see enum ksm_run
 * @pages_to_scan: K: work of one batch, set by the admin or by the advisor
 * @sleep_millisecs: K: rest between two batches
 * @max_page_sharing: S, K: items a stable node may list
 * @prune_millisecs: K: how often a chain is tidied
 * @merge_across_nodes: S, K: one stable and unstable tree for all nodes?
 * @use_zero_pages: K: merge zero-filled pages with the zero page?
 * @smart_scan: K: pass over pages that cannot have changed?
 */
struct ksm_knobs {
	unsigned int	run;
	unsigned int	pages_to_scan;
	unsigned int	sleep_millisecs;
	unsigned int	max_page_sharing;
	unsigned int	prune_millisecs;
	bool		merge_across_nodes;
	bool		use_zero_pages;
	bool		smart_scan;
};

extern struct ksm_knobs ksm_knobs;
extern struct mutex ksm_scan_mutex;

void ksm_wake(void);
void ksm_wake_sleeper(void);
void ksm_scan_lock(void);
void ksm_scan_unlock(void);
void ksm_breathe(void);
int ksm_settings_lock(void);
void ksm_settings_unlock(void);
void ksm_pause(bool paused);
bool ksm_paused(void);
int ksm_set_run(unsigned int run);
int ksm_set_merge_across_nodes(bool across);
int ksm_set_max_page_sharing(unsigned int most);

/* Which tree a page belongs to under the present merge_across_nodes */
static inline int ksm_tree_nid(unsigned long pfn)
{
	lockdep_assert_held(&ksm_scan_mutex);
	return ksm_knobs.merge_across_nodes ? 0 : pfn_to_nid(pfn);
}

/* ------------------------------------------------------------------ */
/* digest.c                                                            */
/* ------------------------------------------------------------------ */

void ksm_digest_init(void);
#ifdef CONFIG_KSM_DEBUG
unsigned int ksm_digest_strength(void);
void ksm_digest_weaken(unsigned int bits);
#endif
u64 ksm_digest_page(struct page *page);
int ksm_page_cmp(struct page *a, struct page *b);
bool ksm_digest_is_zero(u64 digest);

/*
 * Squeeze a frame number into a record: equal frames have equal tags, others
 * mostly not.  Hashed, since the low bits of the frame numbers of a huge page
 * equal those of the addresses it is mapped at.
 */
static inline u16 ksm_frame_tag(unsigned long pfn)
{
	return hash_64(pfn, KSM_REC_TAG_BITS);
}

/* The same, for the record of a merged page */
static inline u32 ksm_mapping_tag(unsigned long pfn, pgoff_t pgoff)
{
	return hash_64((u64)pfn << 24 ^ pfn >> 24 ^ pgoff,
		       KSM_REC_ITEM_POS - KSM_REC_STATE_BITS);
}

/* A record without an item, for a page */
static inline u64 ksm_rec_page(enum ksm_state state, unsigned int age,
			       bool watched, struct page *page, u64 digest)
{
	return ksm_rec_plain(state, age, watched,
			     ksm_frame_tag(page_to_pfn(page)), digest);
}

/* ------------------------------------------------------------------ */
/* pace.c                                                              */
/* ------------------------------------------------------------------ */

/*
 * One page read costs this many units of work, one look at a PTE costs one,
 * and one look into the filter a few.
 */
#define KSM_WORK_READ		32U
#define KSM_WORK_LOOK		1U
#define KSM_WORK_FILTER		4U

#define KSM_DEFAULT_PAGES	100U

enum ksm_advisor_mode {
	KSM_ADVISOR_NONE,
	KSM_ADVISOR_SCAN_TIME,
};

/**
 * struct ksm_advisor - the advisor's limits and its memory
 * @mode: S, K: who sets pages_to_scan
 * @max_cpu: K: percent of a CPU that ksmd may take
 * @min_pages: K: lower limit of pages_to_scan
 * @max_pages: K: upper limit of pages_to_scan
 * @target_time: K: seconds that a full pass should take
 * @advised: S: what was advised before limits, 0 if nothing was yet
 */
struct ksm_advisor {
	enum ksm_advisor_mode	mode;
	unsigned int		max_cpu;
	unsigned long		min_pages;
	unsigned long		max_pages;
	unsigned long		target_time;
	u64			advised;
};

extern struct ksm_advisor ksm_advisor;

unsigned int ksm_advise(struct ksm_advisor *adv, unsigned int pages_now,
			u64 pass_ms, u64 cpu_ms, unsigned int *cpu_percent);
void ksm_advisor_set_mode(enum ksm_advisor_mode mode);
void ksm_pace_pass_begin(void);
void ksm_pace_pass_end(void);

/* ------------------------------------------------------------------ */
/* stats.c                                                             */
/* ------------------------------------------------------------------ */

/**
 * struct ksm_stats - the system-wide counters, all S
 * @scanned: pages read
 * @skipped: pages passed over by smart_scan
 * @full_scans: passes completed
 * @records: page records
 * @unshared: of these, those found unchanged but unique
 * @filtered: of these, those listed in the filter
 * @shared: stable nodes that list an item
 * @sharing: further items on them
 * @nodes: stable nodes, listed or not
 * @items: rmap items
 * @chains: chains
 * @dups: stable nodes on chains
 * @bytes: memory taken by all of these
 */
struct ksm_stats {
	unsigned long	scanned;
	unsigned long	skipped;
	unsigned long	full_scans;
	unsigned long	records;
	unsigned long	unshared;
	unsigned long	filtered;
	unsigned long	shared;
	unsigned long	sharing;
	unsigned long	nodes;
	unsigned long	items;
	unsigned long	chains;
	unsigned long	dups;
	unsigned long	bytes;
};

extern struct ksm_stats ksm_stats;

void ksm_count_state(enum ksm_state from, enum ksm_state to);
void ksm_count_item(struct ksm_mm *owner, int delta);
void ksm_count_listed(struct ksm_mm *owner, unsigned int before, int delta);
void ksm_count_block(struct ksm_mm *owner, long bytes);
void ksm_count_filtered(long delta);
void ksm_count_filter(long bytes);
void ksm_count_node(int delta);
void ksm_count_chain(int delta);
void ksm_count_dup(int delta);
void ksm_count_work(unsigned long read, unsigned long skipped);
void ksm_count_pass(void);
void ksm_count_reset_passes(void);
long ksm_stat_volatile(void);
long ksm_stat_profit(void);

/* ------------------------------------------------------------------ */
/* cost.c                                                              */
/* ------------------------------------------------------------------ */

/**
 * enum ksm_rung - what time is spent on
 * @KSM_RUNG_WALK: rung 0, walking page tables
 * @KSM_RUNG_FILTER: rung 2, for pages that need not be read
 * @KSM_RUNG_READ: rungs 1 to 3, for pages that are read
 * @KSM_RUNG_MERGE: rung 4, and all that pairs of pages take
 * @KSM_NR_RUNGS: how many these are
 */
enum ksm_rung {
	KSM_RUNG_WALK,
	KSM_RUNG_FILTER,
	KSM_RUNG_READ,
	KSM_RUNG_MERGE,
	KSM_NR_RUNGS,
};

/**
 * struct ksm_timer - a measurement
 * @since: when it began; 0 if nobody wants to know
 * @total: what had been put down until then
 */
struct ksm_timer {
	u64	since;
	u64	total;
};

struct ksm_timer ksm_cost_begin(void);
void ksm_cost_end(struct ksm_timer timer, enum ksm_rung rung,
		  unsigned int count);
void ksm_cost_report(struct mm_struct *mm);

/**
 * enum ksm_held - locks that others wait for
 * @KSM_HELD_SCAN: the scan mutex
 * @KSM_HELD_MMAP: an mm's mmap_lock
 * @KSM_HELD_ANON_VMA: an anon_vma's lock, in a reverse walk
 */
enum ksm_held {
	KSM_HELD_SCAN,
	KSM_HELD_MMAP,
	KSM_HELD_ANON_VMA,
};

DECLARE_TRACEPOINT(ksm_locked);

void ksm_held_report(enum ksm_held lock, u64 since);

/**
 * ksm_held_begin - a lock was taken
 *
 * Context: any.
 * Return: to be handed to ksm_held_end(); 0 if nobody wants to know.
 */
static inline u64 ksm_held_begin(void)
{
	return tracepoint_enabled(ksm_locked) ? ktime_get_ns() : 0;
}

/**
 * ksm_held_end - the lock was released
 * @lock: which one
 * @since: from ksm_held_begin()
 *
 * Context: any, without the lock: whoever listens may take his time.
 */
static inline void ksm_held_end(enum ksm_held lock, u64 since)
{
	if (since)
		ksm_held_report(lock, since);
}

/* ------------------------------------------------------------------ */
/* lone.c                                                              */
/* ------------------------------------------------------------------ */

int ksm_lone_init(void);
struct ksm_block *ksm_lone_alloc(struct ksm_mm *owner, gfp_t gfp);
void ksm_lone_free(struct ksm_block *block);
bool ksm_lone_strays(struct ksm_block *block);

/* ------------------------------------------------------------------ */
/* record.c                                                            */
/* ------------------------------------------------------------------ */

int ksm_record_init(void);
struct ksm_block *ksm_block_find(struct ksm_mm *owner, unsigned long addr);
struct ksm_block *ksm_block_from(struct ksm_mm *owner, unsigned long addr);
struct ksm_block *ksm_block_next(struct ksm_block *block);
struct ksm_block *ksm_block_reserve(struct ksm_mm *owner, unsigned long base,
				    u64 wanted, gfp_t gfp);
void ksm_block_free(struct ksm_mm *owner, struct ksm_block *block);
bool ksm_block_to_do(struct ksm_block *block);
void ksm_block_left(struct ksm_mm *owner, struct ksm_block *block);
void ksm_record_set(struct ksm_block *block, unsigned int index, u64 rec);
void ksm_record_clear(struct ksm_block *block, unsigned int index);
void ksm_records_clear(struct ksm_block *block, u64 mask);
u64 ksm_record_at(struct ksm_mm *owner, unsigned long addr);
void ksm_record_set_at(struct ksm_mm *owner, unsigned long addr, u64 rec);
struct ksm_rmap_item *ksm_item_alloc(struct ksm_mm *owner, unsigned long addr,
				     gfp_t gfp);
void ksm_item_free(struct ksm_rmap_item *item);
void ksm_items_free(struct ksm_mm *owner, struct ksm_rmap_item **items,
		    unsigned int nr);

/**
 * ksm_record_get - read a record
 * @block: the block, or NULL
 * @index: which page of it
 *
 * Context: scan mutex.
 * Return: the record; one in state KSM_NEW if there is none.
 */
static inline u64 ksm_record_get(struct ksm_block *block, unsigned int index)
{
	struct ksm_wide *wide;

	if (!block)
		return KSM_NEW;
	if (ksm_block_is_lone(block))
		return block->present && block->index == index ?
			ksm_block_lone(block)->rec : KSM_NEW;
	wide = ksm_block_wide(block);
	if (!(wide->present & BIT_ULL(index)))
		return KSM_NEW;
	return wide->rec[ksm_rank(wide->present, index)];
}

static inline unsigned int ksm_block_index(unsigned long addr)
{
	return (addr / PAGE_SIZE) % KSM_BLOCK_PAGES;
}

/* ------------------------------------------------------------------ */
/* filter.c                                                            */
/* ------------------------------------------------------------------ */

struct ksm_entry;

/* What an id costs: its slot in an xarray */
#define KSM_BLOCK_ID_BYTES	9

void ksm_filter_fit(unsigned long pages);
void ksm_filter_renew(void);
void ksm_filter_prefetch(u64 digest, int nid);
bool ksm_filter_find(u64 digest, int nid, struct ksm_block **block,
		     unsigned int *index);
bool ksm_filter_add(struct ksm_block *block, unsigned int index, int nid);
void ksm_filter_drop(struct ksm_block *block, unsigned int index);
bool ksm_filter_lists(struct ksm_block *block, u64 rec);
u32 ksm_filter_new_id(void *what);
void ksm_filter_move(struct ksm_block *from, struct ksm_block *to);
void ksm_filter_unname(struct ksm_listing *listing, struct ksm_mm *owner);
struct ksm_entry *ksm_filter_find_entry(u64 digest, int nid);
void ksm_filter_add_entry(struct ksm_entry *entry);
void ksm_filter_drop_entry(struct ksm_entry *entry);
void ksm_filter_entry_moved(struct ksm_entry *from, struct ksm_entry *to);
unsigned long ksm_filter_entries(void);
bool ksm_filter_renewed(void);
unsigned long ksm_filter_bytes(void);
bool ksm_filter_has_entry(struct ksm_entry *entry);
bool ksm_filter_has_cell(struct ksm_block *block, unsigned int index);

/* ------------------------------------------------------------------ */
/* stable_tree.c                                                       */
/* ------------------------------------------------------------------ */

/**
 * enum ksm_order - how the contents sought compare with a stable node's
 * @KSM_BEFORE: they sort before the node's
 * @KSM_SAME: they are equal
 * @KSM_AFTER: they sort after the node's
 * @KSM_GONE: the node's page has gone: the node is stale
 * @KSM_BUSY: the node's page cannot be looked at just now
 */
enum ksm_order {
	KSM_BEFORE,
	KSM_SAME,
	KSM_AFTER,
	KSM_GONE,
	KSM_BUSY,
};

typedef enum ksm_order (*ksm_compare_fn)(struct ksm_stable_node *node,
					 void *arg);

/**
 * enum ksm_found - the outcome of a look into the stable tree
 * @KSM_FOUND: the node found has the contents and room for another sharer
 * @KSM_ABSENT: no node has these contents
 * @KSM_FULL: all nodes with these contents have their share of sharers
 * @KSM_STALE: the node found is stale and in the way: drop it and look again
 * @KSM_RETRY: the node found could not be compared just now: look again later
 */
enum ksm_found {
	KSM_FOUND,
	KSM_ABSENT,
	KSM_FULL,
	KSM_STALE,
	KSM_RETRY,
};

int ksm_stable_tree_init(void);
struct ksm_stable_node *ksm_stable_node_alloc(u64 digest, gfp_t gfp);
void ksm_stable_node_free(struct ksm_stable_node *node);
struct ksm_chain *ksm_chain_alloc(gfp_t gfp);
void ksm_chain_free(struct ksm_chain *chain);
enum ksm_found ksm_stable_find(int nid, u64 digest, ksm_compare_fn compare,
			       void *arg, struct ksm_stable_node **node);
enum ksm_found ksm_stable_insert(struct ksm_stable_node *node, int nid,
				 ksm_compare_fn compare, void *arg,
				 struct ksm_chain **spare,
				 struct ksm_stable_node **obstacle);
void ksm_stable_erase(struct ksm_stable_node *node);
void ksm_stable_room_changed(struct ksm_stable_node *node);
void ksm_chain_tidy(struct ksm_chain *chain);
struct ksm_entry *ksm_stable_from(int nid, u64 digest);
struct ksm_entry *ksm_stable_next(struct ksm_entry *entry);
bool ksm_stable_has_digest(int nid, u64 digest);
void ksm_stable_list(struct ksm_entry *entry);
bool ksm_node_crowded(const struct ksm_stable_node *node);

static inline struct ksm_stable_node *ksm_entry_node(struct ksm_entry *entry)
{
	return container_of(entry, struct ksm_stable_node, entry);
}

static inline struct ksm_chain *ksm_entry_chain(struct ksm_entry *entry)
{
	return container_of(entry, struct ksm_chain, entry);
}

/* ------------------------------------------------------------------ */
/* unstable_tree.c                                                     */
/* ------------------------------------------------------------------ */

/**
 * struct ksm_unstable_pos - a place in an unstable tree
 * @root: the tree
 * @parent: the node above the place
 * @link: the place
 */
struct ksm_unstable_pos {
	struct rb_root	*root;
	struct rb_node	*parent;
	struct rb_node	**link;
};

int ksm_unstable_tree_init(void);
struct ksm_rmap_item *ksm_unstable_first(struct ksm_unstable_pos *pos, int nid,
					 u64 digest);
struct ksm_rmap_item *ksm_unstable_next(struct ksm_unstable_pos *pos,
					struct ksm_rmap_item *at, u64 digest,
					bool after);
void ksm_unstable_insert(struct ksm_rmap_item *item,
			 struct ksm_unstable_pos *pos, int nid, u64 digest);
void ksm_unstable_erase(struct ksm_rmap_item *item);
bool ksm_unstable_alone(struct ksm_rmap_item *item);
struct rb_root *ksm_unstable_root(int nid);

/* ------------------------------------------------------------------ */
/* identity.c                                                          */
/* ------------------------------------------------------------------ */

enum ksm_lock_mode {
	KSM_LOCK_NONE,	/* a reference only */
	KSM_LOCK_TRY,	/* and the folio lock, if it can be had at once */
	KSM_LOCK_WAIT,	/* and the folio lock, asleep if need be */
};

struct ksm_stable_node *ksm_folio_node(const struct folio *folio);
void *ksm_folio_claim(struct folio *folio);
void ksm_folio_revert(struct folio *folio, void *mapping);
void ksm_folio_attach(struct folio *folio, struct ksm_stable_node *node);
void ksm_folio_detach(struct folio *folio);
void ksm_folio_moved(struct folio *newfolio, struct folio *folio);
int ksm_node_grab(struct ksm_stable_node *node, enum ksm_lock_mode mode,
		  struct folio **foliop);
bool ksm_node_alive(struct ksm_stable_node *node);
bool ksm_node_part_poisoned(struct ksm_stable_node *node);
enum ksm_order ksm_node_compare(struct ksm_stable_node *node, void *arg);
enum ksm_order ksm_node_guess(struct ksm_stable_node *node, void *arg);

/* ------------------------------------------------------------------ */
/* merge.c                                                             */
/* ------------------------------------------------------------------ */

/* For whoever holds a mmap_lock: to reclaim memory now would make others wait */
#define KSM_GFP_LOCKED	(GFP_NOWAIT | __GFP_NOWARN)

#define KSM_RUN_OPS	16	/* PTEs changed in one hold of their lock */

/**
 * struct ksm_merge_op - one PTE to be pointed at a shared page
 * @addr: where it is
 * @page: what it maps now, referenced once by the caller
 * @kfolio: what it shall map, referenced and locked; NULL: the zero page
 * @node: @kfolio's stable node
 * @item: unlisted, to be put on @node
 * @digest: what @page was found with
 * @old: scratch: the PTE as it was
 * @err: 0 or why it was not merged; -EILSEQ if the pages differ
 */
struct ksm_merge_op {
	unsigned long		addr;
	struct page		*page;
	struct folio		*kfolio;
	struct ksm_stable_node	*node;
	struct ksm_rmap_item	*item;
	u64			digest;
	pte_t			old;
	int			err;
};

void ksm_merge_run(struct vm_area_struct *vma, struct ksm_merge_op *ops,
		   unsigned int nr);
int ksm_merge_make(struct vm_area_struct *vma, unsigned long addr,
		   struct page *page, struct ksm_stable_node *node,
		   struct ksm_rmap_item *item);
int ksm_page_split(struct page *page);
bool ksm_mm_may_map_zero(struct mm_struct *mm);

/*
 * pte_unmap_unlock(), after a pte_offset_map_lock() that did not return NULL.
 * The latter takes the RCU read lock, too, but does not tell sparse.
 */
#define ksm_pte_unmap_unlock(pte, ptl) do {	\
	__acquire(RCU);				\
	pte_unmap_unlock(pte, ptl);		\
} while (0)

/* ------------------------------------------------------------------ */
/* unshare.c                                                           */
/* ------------------------------------------------------------------ */

bool ksm_flags_suit(vm_flags_t vm_flags);
bool ksm_vma_suits(struct vm_area_struct *vma);
struct vm_area_struct *ksm_vma_at(struct mm_struct *mm, unsigned long addr);
bool ksm_vma_maps(struct vm_area_struct *vma, unsigned long addr,
		  struct folio *folio);
int ksm_unshare_some(struct vm_area_struct *vma, unsigned long *from,
		     unsigned long to, unsigned int *most);
int ksm_unshare_range(struct vm_area_struct *vma, unsigned long start,
		      unsigned long end);

/* ------------------------------------------------------------------ */
/* sharing.c                                                           */
/* ------------------------------------------------------------------ */

/*
 * Of a stale node that is in the way, so many items go at a time: there may be
 * a mmap_lock to be let go of.
 */
#define KSM_STALE_ITEMS	512

void ksm_item_list(struct ksm_rmap_item *item, struct ksm_stable_node *node,
		   struct anon_vma *anon_vma, pgoff_t pgoff);
bool ksm_item_unlist(struct ksm_rmap_item *item, enum ksm_lock_mode mode);
void ksm_item_hand_over(struct ksm_rmap_item *item, struct ksm_mm *heir,
			unsigned long addr);
void ksm_item_drop_candidate(struct ksm_rmap_item *item);
bool ksm_record_drop(struct ksm_mm *owner, struct ksm_block *block,
		     unsigned int index, enum ksm_lock_mode mode);
bool ksm_records_in(struct ksm_mm *owner, unsigned long from,
		    unsigned long to);
bool ksm_records_drop(struct ksm_mm *owner, unsigned long *from,
		      unsigned long to, unsigned int most,
		      enum ksm_lock_mode mode);
bool ksm_node_drop(struct ksm_stable_node *node, unsigned int most);
void ksm_record_forget(struct ksm_mm *owner, unsigned long addr);
void ksm_item_set_merged(struct ksm_rmap_item *item, unsigned long pfn);
void ksm_candidates_drop(void);

/* ------------------------------------------------------------------ */
/* twin.c                                                              */
/* ------------------------------------------------------------------ */

void ksm_twin_list(struct ksm_rmap_item *item, struct ksm_unstable_pos *pos,
		   int nid, unsigned long pfn, bool watched,
		   unsigned int streak, u64 digest);
struct ksm_rmap_item *ksm_twin_take(struct ksm_rmap_item *item,
				    struct page *page, u64 digest);
void ksm_twin_settle(struct ksm_block *block, unsigned int index,
		     unsigned int age, bool watched, unsigned long pfn,
		     u64 digest, struct ksm_unstable_pos *pos);
bool ksm_twin_demote(struct ksm_rmap_item *item, unsigned long pfn);
struct ksm_rmap_item *ksm_twin_find(struct ksm_unstable_pos *pos, int nid,
				    u64 digest);

/* ------------------------------------------------------------------ */
/* sweep.c                                                             */
/* ------------------------------------------------------------------ */

/**
 * struct ksm_sweep_pos - how far a sweep through the stable trees has come, all S
 * @nid: the tree
 * @digest: where in it to go on
 * @from: the digest to begin with in each tree
 * @to: and the one to end before; 0 to go on to the end
 */
struct ksm_sweep_pos {
	int	nid;
	u64	digest;
	u64	from;
	u64	to;
};

void ksm_sweep_begin(struct ksm_sweep_pos *pos);
bool ksm_sweep(struct ksm_sweep_pos *pos, unsigned int most);

/* ------------------------------------------------------------------ */
/* registry.c                                                          */
/* ------------------------------------------------------------------ */

enum ksm_cursor {
	KSM_CURSOR_SCAN,
	KSM_CURSOR_UNMERGE,
	KSM_NR_CURSORS,
};

int ksm_registry_init(void);
int ksm_registry_add(struct mm_struct *mm);
void ksm_registry_exit(struct mm_struct *mm);
struct ksm_mm *ksm_registry_next(enum ksm_cursor which);
struct ksm_mm *ksm_registry_visit(struct mm_struct *mm);
struct ksm_mm *ksm_registry_current(enum ksm_cursor which);
void ksm_registry_leave(enum ksm_cursor which);
void ksm_registry_rewind(enum ksm_cursor which, bool ahead);
void ksm_registry_retire(struct ksm_mm *owner);
bool ksm_registry_populated(void);
bool ksm_registry_has_dead(void);
struct ksm_mm *ksm_registry_dead(void);
void ksm_registry_bury(struct ksm_mm *owner);
unsigned long ksm_registry_bytes(struct mm_struct *mm);
unsigned long ksm_registry_footprint(void);
bool ksm_mm_begin(struct ksm_mm *owner);
void ksm_mm_end(struct ksm_mm *owner);
bool ksm_mm_should_end(struct ksm_mm *owner);

/* ------------------------------------------------------------------ */
/* scan.c                                                              */
/* ------------------------------------------------------------------ */

/**
 * struct ksm_batch - what one look at a block of pages found, all S
 * @owner: the mm
 * @vma: the area, while mmap_lock is held
 * @base: address of the block
 * @gone: pages that have a record but are not there any more
 * @adopt: pages that map a merged page that their record does not know
 * @read: pages to be read; @page holds a reference for each
 * @watched: those of @read whose next store the dirty bit will tell of
 * @calm: those of @read that were not written to since the last look
 * @still: pages that have not changed since they were read, but are not listed
 * @known: those of @still that came to be read after all
 * @passed: PTEs looked at, in this block and in those before it
 * @aside: what areas and entries without a table took, in looks at a PTE
 * @skipped: pages among them that might have been read, but were passed over
 * @hole: after KSM_STEP_HOLE: where the hole begins
 * @mergeable: a mergeable area was met
 * @page: the pages of @adopt and @read
 * @pfn: the frames of @still; no reference is held, so only their numbers count
 */
struct ksm_batch {
	struct ksm_mm		*owner;
	struct vm_area_struct	*vma;
	unsigned long		base;
	u64			gone;
	u64			adopt;
	u64			read;
	u64			watched;
	u64			calm;
	u64			still;
	u64			known;
	unsigned int		passed;
	unsigned int		aside;
	unsigned int		skipped;
	unsigned long		hole;
	bool			mergeable;
	struct page		*page[KSM_BLOCK_PAGES];
	unsigned long		pfn[KSM_BLOCK_PAGES];
};

/**
 * enum ksm_step - what a step of the walk ended with
 * @KSM_STEP_BATCH: a block of pages, perhaps with work
 * @KSM_STEP_HOLE: there are no pages from @hole to the cursor, but records
 * @KSM_STEP_END: there are no pages up to the end of the address space
 */
enum ksm_step {
	KSM_STEP_BATCH,
	KSM_STEP_HOLE,
	KSM_STEP_END,
};

/* A page that has not changed is read again in each N'th pass; less in tests */
#define KSM_REREAD_PASSES	32

extern unsigned int ksm_scan_reread_passes;

enum ksm_step ksm_scan_step(struct ksm_mm *owner, unsigned long *cursor,
			    unsigned int most, struct ksm_batch *batch);
void ksm_scan_pass_begin(void);
struct page *ksm_scan_page(struct vm_area_struct *vma, unsigned long addr);
bool ksm_scan_mergeable(struct mm_struct *mm);

/* ------------------------------------------------------------------ */
/* hit.c                                                               */
/* ------------------------------------------------------------------ */

/**
 * struct ksm_climber - a page that was set aside, all S
 * @addr: where it is
 * @digest: what it was found with
 * @page: the page, with a reference; NULL if it is part of a huge page
 * @hit: it is to become a stable hit; of @node, or the zero page if that is NULL
 * @node: the node that has room for it
 * @twin_owner: not NULL: the mm of the page that was made a shared one for it
 * @twin_addr: and where that is
 */
struct ksm_climber {
	unsigned long	addr;
	u64		digest;
	struct page	*page;
	bool		hit;
	struct ksm_stable_node *node;
	struct ksm_mm	*twin_owner;
	unsigned long	twin_addr;
};

/**
 * struct ksm_aside - the pages that were set aside, all S
 * @page: the pages, by rising address
 * @nr: how many they are
 * @closed: their turn has come: pages that fail now are not set aside again
 */
struct ksm_aside {
	struct ksm_climber	page[KSM_BLOCK_PAGES];
	unsigned int		nr;
	bool			closed;
};

extern struct ksm_aside ksm_aside;

void ksm_drain_wanted(bool sure);
bool ksm_drain_due(void);
bool ksm_wants_zero_page(struct ksm_mm *owner, u64 digest);
bool ksm_becomes_zero_page(struct ksm_mm *owner, struct page *page, u64 digest);
struct ksm_climber *ksm_aside_add(unsigned long addr, u64 digest);
void ksm_hit_unsettle(struct ksm_mm *owner, unsigned long addr);
void ksm_hit_push(struct ksm_mm *owner, struct vm_area_struct *vma,
		  unsigned long addr, struct page *page, u64 digest,
		  struct ksm_stable_node *node);
void ksm_hit_flush(struct ksm_mm *owner, struct vm_area_struct *vma);
enum ksm_found ksm_hit_find(struct page *page, u64 digest,
			    ksm_compare_fn compare,
			    struct ksm_stable_node **node);
enum ksm_found ksm_hit_find_room(struct ksm_mm *owner,
				 struct vm_area_struct *vma, struct page *page,
				 u64 digest, struct ksm_stable_node **node);

/* ------------------------------------------------------------------ */
/* pair.c, climb.c                                                     */
/* ------------------------------------------------------------------ */

bool ksm_pair_pending(void);
void ksm_pair_all(struct ksm_mm *owner);
void ksm_climb_batch(struct ksm_batch *batch);

/* ------------------------------------------------------------------ */
/* reap.c, unmerge.c, hotplug.c, sysfs.c, check.c                      */
/* ------------------------------------------------------------------ */

bool ksm_reap(unsigned int most);
int ksm_reap_all(void);
int ksm_unmerge_all(void);
int ksm_forget_nodes(void);

#ifdef CONFIG_MEMORY_HOTREMOVE
int ksm_hotplug_init(void);
#else
static inline int ksm_hotplug_init(void)
{
	return 0;
}
#endif

#ifdef CONFIG_SYSFS
int ksm_sysfs_init(void);
#else
static inline int ksm_sysfs_init(void)
{
	return 0;
}
#endif

#ifdef CONFIG_KSM_DEBUG
void ksm_check_all(void);
void ksm_check_owner(struct ksm_mm *owner, struct ksm_stats *sum);
void ksm_registry_check(struct ksm_stats *sum);
#else
static inline void ksm_check_all(void)
{
}
#endif

#endif /* _MM_KSM_INTERNAL_H */
