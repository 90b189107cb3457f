// SPDX-License-Identifier: GPL-2.0
/*
 * Walking page tables: which pages of an mm must be read?
 *
 * This is rung 0 of the ladder (ksm.c): answer from the PTE and the record,
 * without a look at the page, wherever that can be done.
 *
 * What a PTE's dirty bit is good for.  When a page is about to be read, its
 * PTE is cleaned; a later store of the CPU sets the bit again, so a clean PTE
 * that maps the same frame means that no CPU stored to it since.  Cleaning a
 * PTE needs three things:
 *  - folio_mark_dirty() first: a lazily freed page, or one in the swap cache,
 *    is dropped if neither the PTE nor the page says that it is dirty.
 *  - A TLB flush, under the same hold of the page-table lock: a CPU with a
 *    dirty TLB entry would not set the bit, and reclaim, which trusts a clean
 *    PTE not to be written through, would lose that store.  The invariant is:
 *    a PTE seen clean under its lock has no dirty TLB entry.
 *  - A mapping that is cleaned once for all that it covers: a PMD is cleaned
 *    where a pass first meets it, before the first of its pages is read, and
 *    not again in that pass.  If it was dirty, any of its pages may have been
 *    written to: those that were watched are read, and are watched no more
 *    until it is their turn in a pass that finds the PMD clean; so one busy page
 *    does not have the others read for ever.
 *
 * So a page that was read while its PTE was clean is watched: as long as the PTE
 * is clean and maps the same frame, the digest stands, and a page that keeps
 * still over a pass settles without a second look at it.
 *
 * (Where migration entries have no room for a dirty bit, without swap or on
 * processors that limit it against L1TF, a page whose migration failed, or that
 * was part of a large folio until a split, is clean although it may have been
 * written to.  That counts as a store that goes unnoticed.)
 *
 * Others write without the dirty bit: DMA into pinned pages, ptrace, guests.
 * An mm with pinned pages or a secondary MMU is therefore not trusted, and in
 * any other a page is read again in every KSM_REREAD_PASSES'th pass; where there
 * is no trust, or no dirty bit set by hardware, after 1, 2, 4, ... up to
 * REREAD_UNWATCHED passes.  To miss a change delays a merge, but never
 * corrupts: merge.c compares all bytes.
 *
 * The page tables of anonymous memory cannot go away under mmap_lock: only
 * exit frees them, which waits for us (registry.c).  A huge PMD may be split,
 * or one appear, at any time: hence the looks under its lock.
 */
#include <linux/hash.h>
#include <linux/hugetlb.h>
#include <linux/mmu_notifier.h>
#include <linux/pagemap.h>
#include <linux/pagewalk.h>
#include <linux/sched/coredump.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <asm/tlbflush.h>
#include "../internal.h"
#include "internal.h"

#define REREAD_UNWATCHED	16

/* A page that changed at so many looks in a row is looked at less often */
#define AGE_RESTLESS	3

/* and, if its dirty bit tells, not read any more when it changed at so many */
#define AGE_UNREAD	2

#define RESTLESS_SHIFT	3

/*
 * What is counted for an area that is walked, and for one that is not, as so
 * many looks at a PTE
 */
#define AREA_AS_LOOKS		16
#define STRANGER_AS_LOOKS	4

/* So many of these until we see if somebody wants mmap_lock or the CPU */
#define LOOKS_A_GLANCE		64

unsigned int ksm_scan_reread_passes = KSM_REREAD_PASSES;	/* K */

static unsigned int pass;				/* S: counts them */

/**
 * struct scan_walk - the state of one step
 * @batch: to be filled
 * @seen: everything below this address has been looked at
 * @most: stop after so many looks
 * @step: what the step ends with
 * @smart: pages may be passed over
 * @trusted: the dirty bit tells of each store to this mm
 * @block: the block of the pages looked at, or NULL
 * @ahead: the first block that is not before these pages, or NULL
 * @ahead_known: @ahead is valid
 * @clean_from: begin of what is to be flushed, if less than @clean_to
 * @clean_to: end of it
 */
struct scan_walk {
	struct ksm_batch	*batch;
	unsigned long		seen;
	unsigned int		most;
	enum ksm_step		step;
	bool			smart;
	bool			trusted;
	struct ksm_block	*block;
	struct ksm_block	*ahead;
	bool			ahead_known;
	unsigned long		clean_from;
	unsigned long		clean_to;
};

/* Does the CPU itself set the dirty bit, in all that writes to user memory? */
static bool hardware_sets_dirty(void)
{
	return IS_ENABLED(CONFIG_X86) || IS_ENABLED(CONFIG_UML);
}

static bool mm_is_trusted(struct mm_struct *mm)
{
	return hardware_sets_dirty() && !mm_has_notifiers(mm) &&
	       !test_bit(MMF_HAS_PINNED, &mm->flags);
}

/**
 * ksm_scan_pass_begin - a full pass begins
 *
 * All pages that are not merged may settle in it: the filter is to have room
 * for them, and for the shared pages.
 *
 * Context: scan mutex; may sleep.
 */
void ksm_scan_pass_begin(void)
{
	lockdep_assert_held(&ksm_scan_mutex);
	ksm_filter_fit(ksm_stats.records - ksm_stats.shared -
		       ksm_stats.sharing + ksm_stats.nodes);
	pass++;
}

/*
 * Is this the pass for something that is done in every @period'th?  Whole
 * blocks have their turn together, so that the others are quickly passed over.
 */
static bool is_due(unsigned long addr, unsigned int period)
{
	return !((addr / KSM_BLOCK_SIZE + pass) % period);
}

/* Shall a page that has not changed at the last @streak looks be read again? */
static bool reread_is_due(unsigned long addr, bool watched, unsigned int streak)
{
	unsigned int period = READ_ONCE(ksm_scan_reread_passes);

	if (!watched)
		period = min3(1U << min(streak, 8U), REREAD_UNWATCHED, period);
	return is_due(addr, period);
}

/* A page that keeps changing is left alone for up to 7 of 8 passes */
static bool left_alone(unsigned long addr, unsigned int age)
{
	return age >= AGE_RESTLESS &&
	       !is_due(addr, 1U << min(age - AGE_RESTLESS + 1, RESTLESS_SHIFT));
}

/**
 * enum verdict - what to do about a page
 * @PASS_OVER: nothing
 * @KEEP_STILL: nothing but to list it: it has not changed
 * @WAIT: it was written to again: see whether it comes to rest
 * @READ_CALM: read it, it has come to rest
 * @READ_NOW: read it
 */
enum verdict {
	PASS_OVER,
	KEEP_STILL,
	WAIT,
	READ_CALM,
	READ_NOW,
};

/**
 * struct sight - what a page table says of a page
 * @addr: where it is mapped
 * @pfn: its frame
 * @dirty: written to since the entry was cleaned
 * @writable: may be written to
 * @huge: the entry is a PMD
 * @watchable: its dirty bit can be relied on
 */
struct sight {
	unsigned long	addr;
	unsigned long	pfn;
	bool		dirty;
	bool		writable;
	bool		huge;
	bool		watchable;
};

/*
 * May a page that was found unchanged at the last @streak looks be passed over?
 * One that is not watched, but can be, is read, to begin with that; but a part
 * of a huge page only when it is due.
 */
static enum verdict judge_unchanged(const struct sight *sight, bool watched,
				    unsigned int streak)
{
	if (watched && (!sight->watchable || sight->dirty))
		return READ_NOW;
	if (!watched && sight->watchable && !sight->huge)
		return READ_NOW;
	return reread_is_due(sight->addr, watched, streak) ? READ_NOW :
							     PASS_OVER;
}

static enum verdict judge_plain(struct scan_walk *walk,
				const struct sight *sight, u64 rec)
{
	bool watched = ksm_rec_watched(rec);
	unsigned int age = ksm_rec_age(rec);
	enum verdict verdict;

	if (ksm_rec_tag(rec) != ksm_frame_tag(sight->pfn))
		return READ_NOW;
	switch (ksm_rec_state(rec)) {
	case KSM_SETTLED:
		verdict = judge_unchanged(sight, watched, age);
		if (verdict == READ_NOW || ksm_filter_lists(walk->block, rec))
			return verdict;
		return KEEP_STILL;
	case KSM_VOLATILE:
		if (left_alone(sight->addr, age))
			return PASS_OVER;
		if (!sight->watchable || !watched)
			return READ_NOW;
		if (!sight->dirty)
			return KEEP_STILL;
		/* What was written may be what was there: have more looks */
		return age >= AGE_UNREAD && !sight->huge ? WAIT : READ_NOW;
	case KSM_RESTLESS:
		if (left_alone(sight->addr, age))
			return PASS_OVER;
		/* At long last, see whether what is written differs at all */
		if (!sight->watchable || sight->huge ||
		    (sight->dirty && age == KSM_REC_AGE_MAX))
			return READ_NOW;
		return sight->dirty ? WAIT : READ_CALM;
	default:
		return READ_NOW;
	}
}

/*
 * A page that is merged already needs no more than that its PTE maps the shared
 * page, at the page offset by which reverse walks find it.  Tags tell, but not
 * with certainty: now and then, the item is asked.
 */
static bool maps_shared_page(struct scan_walk *walk, const struct sight *sight,
			     u64 rec)
{
	pgoff_t pgoff = linear_page_index(walk->batch->vma, sight->addr);
	struct ksm_rmap_item *item;

	if (sight->writable || sight->huge)
		return false;
	if (ksm_rec_mapping(rec) != ksm_mapping_tag(sight->pfn, pgoff))
		return false;
	if (!is_due(sight->addr, READ_ONCE(ksm_scan_reread_passes)))
		return true;
	item = ksm_rec_item(rec);
	return sight->pfn == READ_ONCE(item->node->pfn) && item->pgoff == pgoff;
}

/* Judge a page by its record */
static enum verdict judge(struct scan_walk *walk, const struct sight *sight,
			  u64 rec)
{
	struct ksm_rmap_item *item;

	switch (ksm_rec_state(rec)) {
	case KSM_NEW:
		return READ_NOW;
	case KSM_MERGED:
		return maps_shared_page(walk, sight, rec) ? PASS_OVER :
							    READ_NOW;
	case KSM_CANDIDATE:
		item = ksm_rec_item(rec);
		if (!walk->smart || item->pfn != sight->pfn)
			return READ_NOW;
		return judge_unchanged(sight, item->watched, item->streak);
	default:
		return walk->smart ? judge_plain(walk, sight, rec) : READ_NOW;
	}
}

/* Note that a page was passed over, unless it is merged: that is no wonder */
static void count_skipped(struct scan_walk *walk, u64 rec)
{
	if (ksm_rec_state(rec) != KSM_MERGED)
		walk->batch->skipped++;
}

static void want_read(struct scan_walk *walk, unsigned int index,
		      struct page *page)
{
	struct ksm_batch *batch = walk->batch;

	get_page(page);
	batch->page[index] = page;
	if (PageKsm(page))
		batch->adopt |= BIT_ULL(index);
	else
		batch->read |= BIT_ULL(index);
}

static void clean_pte(struct scan_walk *walk, struct vm_area_struct *vma,
		      unsigned long addr, pte_t *pte, struct folio *folio)
{
	folio_mark_dirty(folio);
	clear_young_dirty_ptes(vma, addr, pte, 1, CYDP_CLEAR_DIRTY);
	walk->clean_from = min(walk->clean_from, addr);
	walk->clean_to = max(walk->clean_to, addr + PAGE_SIZE);
}

/* A page in migration is still there; anything else that is not present is not */
static bool absent_for_good(pte_t pte)
{
	return !is_migration_entry(pte_to_swp_entry(pte));
}

/* Act on a verdict that needs no page; true if that was all */
static bool carry_out(struct scan_walk *walk, const struct sight *sight,
		      u64 rec, enum verdict verdict)
{
	unsigned int index = ksm_block_index(sight->addr);

	switch (verdict) {
	case PASS_OVER:
		count_skipped(walk, rec);
		return true;
	case KEEP_STILL:
		count_skipped(walk, rec);
		walk->batch->still |= BIT_ULL(index);
		walk->batch->pfn[index] = sight->pfn;
		return true;
	default:
		return false;
	}
}

static void wait_for_rest(struct scan_walk *walk, const struct sight *sight,
			  u64 rec)
{
	count_skipped(walk, rec);
	ksm_record_set(walk->block, ksm_block_index(sight->addr),
		       ksm_rec_plain(KSM_RESTLESS, ksm_rec_age(rec) + 1, true,
				     ksm_rec_tag(rec), 0));
}

static void look_at_page(struct scan_walk *walk, struct vm_area_struct *vma,
			 const struct sight *sight, pte_t *pte,
			 struct page *page, u64 rec, enum verdict verdict)
{
	unsigned int index = ksm_block_index(sight->addr);
	bool watch = walk->smart && walk->trusted && !PageKsm(page);

	if (watch && sight->dirty)
		clean_pte(walk, vma, sight->addr, pte, page_folio(page));
	if (verdict == WAIT && watch) {
		wait_for_rest(walk, sight, rec);
		return;
	}
	want_read(walk, index, page);
	if (watch)
		walk->batch->watched |= BIT_ULL(index);
	if (verdict == READ_CALM)
		walk->batch->calm |= BIT_ULL(index);
}

static void note_gone(struct scan_walk *walk, unsigned long addr)
{
	unsigned int index = ksm_block_index(addr);

	if (walk->block && ksm_block_present(walk->block) & BIT_ULL(index))
		walk->batch->gone |= BIT_ULL(index);
}

/* The huge page whose PMD was looked at last, and what was found; all S */
static struct {
	struct ksm_mm	*owner;
	unsigned long	addr;
	unsigned int	pass;
	bool		dirty;
} last_huge;

static bool is_last_huge(const struct scan_walk *walk, unsigned long addr)
{
	return last_huge.owner == walk->batch->owner &&
	       last_huge.addr == (addr & PMD_MASK) &&
	       last_huge.pass == pass;
}

/*
 * Was this a part of a huge page in this pass, one that was dirty?  It was
 * cleaned, then split for a twin of another part: the PTEs are clean.
 */
static bool was_of_dirty_huge(const struct scan_walk *walk, unsigned long addr)
{
	return IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) &&
	       is_last_huge(walk, addr) && last_huge.dirty;
}

static void look_at_pte(struct scan_walk *walk, struct vm_area_struct *vma,
			unsigned long addr, pte_t *pte, pte_t cur)
{
	u64 rec = ksm_record_get(walk->block, ksm_block_index(addr));
	enum verdict verdict = READ_NOW;
	struct page *page = NULL;
	struct sight sight;

	if (pte_present(cur)) {
		sight = (struct sight) {
			.addr		= addr,
			.pfn		= pte_pfn(cur),
			.dirty		= pte_dirty(cur) ||
					  was_of_dirty_huge(walk, addr),
			.writable	= pte_write(cur),
			.watchable	= walk->trusted,
		};
		/* What userfaultfd write-protects is not merged: see below */
		if (!pte_uffd_wp(cur) || ksm_rec_state(rec) == KSM_MERGED)
			verdict = judge(walk, &sight, rec);
		if (carry_out(walk, &sight, rec, verdict))
			return;
		page = vm_normal_page(vma, addr, cur);
		if (page && (!PageAnon(page) || is_zone_device_page(page) ||
			     (pte_uffd_wp(cur) && !PageKsm(page))))
			page = NULL;
	} else if (!absent_for_good(cur)) {
		return;
	}
	if (page)
		look_at_page(walk, vma, &sight, pte, page, rec, verdict);
	else
		note_gone(walk, addr);
}

/* Blocks are visited in order, so the one ahead is mostly the one wanted */
static void enter_block(struct scan_walk *walk, unsigned long addr)
{
	unsigned long base = addr & KSM_BLOCK_MASK;
	struct ksm_block *ahead = walk->ahead;

	walk->batch->base = base;
	if (ahead && ksm_block_base(ahead) < base)
		ahead = ksm_block_next(ahead);
	if (!walk->ahead_known || (ahead && ksm_block_base(ahead) < base))
		ahead = ksm_block_from(walk->batch->owner, addr);
	walk->block = ahead && ksm_block_base(ahead) == base ? ahead : NULL;
	walk->ahead = ahead;
	walk->ahead_known = true;
}

/* To leave a block that is empty, or strays, is work, too: see ksm_block_left() */
static bool has_work(const struct scan_walk *walk)
{
	const struct ksm_batch *batch = walk->batch;

	return batch->gone | batch->adopt | batch->read | batch->still ||
	       (walk->block && ksm_block_to_do(walk->block));
}

static bool is_enough(const struct scan_walk *walk)
{
	return walk->batch->passed + walk->batch->aside >= walk->most;
}

/* Stop here?  Then the batch ends at the block before @next. */
static bool stop_after(struct scan_walk *walk, unsigned long next)
{
	walk->seen = next;
	return has_work(walk) || is_enough(walk);
}

/*
 * There is no page from where the walk was to @addr.  True if it has to stop
 * there, for the sake of the records of pages that were there.
 */
static bool cross_hole(struct scan_walk *walk, unsigned long addr)
{
	if (ksm_records_in(walk->batch->owner, walk->seen, addr)) {
		walk->batch->hole = walk->seen;
		walk->step = KSM_STEP_HOLE;
	}
	walk->seen = addr;
	return walk->step == KSM_STEP_HOLE;
}

/*
 * Are all pages of a block left alone in this pass?  Then it is enough that they
 * are there; whether they are what they were is seen when they are due.
 */
static bool block_is_left_alone(struct scan_walk *walk, unsigned long addr)
{
	struct ksm_block *block = walk->block;
	const u64 *rec;
	unsigned int i;

	if (!walk->smart || !block || ksm_block_present(block) != ~0ULL)
		return false;
	rec = ksm_block_records(block);
	for (i = 0; i < KSM_BLOCK_PAGES; i++) {
		if (ksm_rec_state(rec[i]) != KSM_RESTLESS ||
		    !left_alone(addr, ksm_rec_age(rec[i])))
			return false;
	}
	return true;
}

/* How many PTEs at a time can be seen to be empty */
#define STRIDE	8

static bool all_none(pte_t *pte)
{
	typeof(pte_val(*pte)) bits = 0;
	unsigned int i;

	for (i = 0; i < STRIDE; i++)
		bits |= pte_val(ptep_get(pte + i));
	return !bits;
}

/* Some pages of one block; if nothing is known of them, holes are cheap */
static void look_at_block(struct scan_walk *walk, struct vm_area_struct *vma,
			  pte_t *pte, unsigned long addr, unsigned long end)
{
	bool alone = block_is_left_alone(walk, addr);
	bool known = walk->block;

	while (addr < end) {
		pte_t cur = ptep_get(pte);

		if (!known && end - addr >= STRIDE * PAGE_SIZE &&
		    all_none(pte)) {
			pte += STRIDE;
			addr += STRIDE * PAGE_SIZE;
			continue;
		}
		if (alone && pte_present(cur))
			walk->batch->skipped++;
		else if (!pte_none(cur))
			look_at_pte(walk, vma, addr, pte, cur);
		else if (known)
			note_gone(walk, addr);
		pte++;
		addr += PAGE_SIZE;
	}
}

static bool look_at_table(struct scan_walk *walk, struct vm_area_struct *vma,
			  pte_t *pte, unsigned long addr, unsigned long end)
{
	bool stop = false;

	while (addr < end && !stop) {
		unsigned long next = ksm_block_end(addr, end);
		unsigned int nr = (next - addr) / PAGE_SIZE;

		enter_block(walk, addr);
		walk->batch->passed += nr;
		look_at_block(walk, vma, pte, addr, next);
		pte += nr;
		addr = next;
		stop = stop_after(walk, next);
	}
	return stop;
}

/* A small page of a huge one, of which @whole tells */
static void look_at_part(struct scan_walk *walk, const struct sight *whole,
			 struct page *page, unsigned long addr)
{
	unsigned int index = ksm_block_index(addr);
	u64 rec = ksm_record_get(walk->block, index);
	struct sight sight = *whole;

	sight.addr = addr;
	sight.pfn = page_to_pfn(page);
	if (carry_out(walk, &sight, rec, judge(walk, &sight, rec)))
		return;
	want_read(walk, index, page);
	if (sight.watchable && !sight.dirty)
		walk->batch->watched |= BIT_ULL(index);
}

static void clean_pmd(struct vm_area_struct *vma, unsigned long addr,
		      pmd_t *pmdp, struct folio *folio)
{
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	pmd_t pmd;

	folio_mark_dirty(folio);
	pmd = pmdp_invalidate(vma, addr, pmdp);	/* flushes the TLB */
	set_pmd_at(vma->vm_mm, addr, pmdp, pmd_mkclean(pmd));
#endif
}

/*
 * Was a huge page written to since the last pass?  Its PMD is cleaned for that,
 * once in a pass; what was found is remembered for its other blocks.
 */
static bool huge_was_dirty(struct scan_walk *walk, struct vm_area_struct *vma,
			   pmd_t *pmdp, unsigned long addr, struct folio *folio)
{
	if (is_last_huge(walk, addr))
		return last_huge.dirty;
	last_huge.owner = walk->batch->owner;
	last_huge.addr = addr & PMD_MASK;
	last_huge.pass = pass;
	last_huge.dirty = pmd_dirty(*pmdp);
	if (last_huge.dirty)
		clean_pmd(vma, last_huge.addr, pmdp, folio);
	return last_huge.dirty;
}

/*
 * A split gives the PMD's dirty bit to the PTEs, by way of migration entries:
 * where these have no room for it, PTEs would look clean that are not.
 */
static struct sight look_at_whole(struct scan_walk *walk,
				  struct vm_area_struct *vma, pmd_t *pmdp,
				  unsigned long addr, struct page *page)
{
	struct sight sight = {
		.writable	= pmd_write(*pmdp),
		.huge		= true,
		.dirty		= true,
		.watchable	= walk->smart && walk->trusted &&
				  migration_entry_supports_ad(),
	};

	if (sight.watchable)
		sight.dirty = huge_was_dirty(walk, vma, pmdp, addr,
					     page_folio(page));
	return sight;
}

static bool look_at_huge(struct scan_walk *walk, struct vm_area_struct *vma,
			 pmd_t *pmdp, unsigned long addr, unsigned long end)
{
	struct page *page = NULL;
	struct sight whole;
	bool stop = false;

	if (!pmd_present(*pmdp)) {
		walk->seen = end;
		return false;
	}
	page = vm_normal_page_pmd(vma, addr, *pmdp);
	if (page && (!PageAnon(page) || pmd_uffd_wp(*pmdp)))
		page = NULL;
	if (page) {
		page += (addr & ~HPAGE_PMD_MASK) / PAGE_SIZE;
		whole = look_at_whole(walk, vma, pmdp, addr, page);
	}
	while (addr < end && !stop) {
		unsigned long next = ksm_block_end(addr, end);

		enter_block(walk, addr);
		walk->batch->passed += (next - addr) / PAGE_SIZE;
		for (; addr < next; addr += PAGE_SIZE) {
			if (page)
				look_at_part(walk, &whole, page++, addr);
			else
				note_gone(walk, addr);
		}
		stop = stop_after(walk, next);
	}
	return stop;
}

static int scan_pmd(pmd_t *pmd, unsigned long addr, unsigned long end,
		    struct mm_walk *mm_walk)
{
	struct scan_walk *walk = mm_walk->private;
	struct vm_area_struct *vma = mm_walk->vma;
	struct ksm_mm *owner = walk->batch->owner;
	spinlock_t *ptl;	/* of the page table, or of the PMD */
	pte_t *pte;
	bool stop;

	if (cross_hole(walk, addr))
		return 1;
	walk->seen = end;

	ptl = pmd_trans_huge_lock(pmd, vma);
	if (ptl) {
		__acquire(ptl);		/* sparse is not told */
		stop = look_at_huge(walk, vma, pmd, addr, end);
		spin_unlock(ptl);
		return stop || ksm_mm_should_end(owner);
	}

	pte = pte_offset_map_lock(mm_walk->mm, pmd, addr, &ptl);
	if (!pte)
		return 0;	/* just changing: the next pass sees it */
	walk->clean_from = end;
	walk->clean_to = addr;
	stop = look_at_table(walk, vma, pte, addr, end);
	if (walk->clean_from < walk->clean_to)
		flush_tlb_range(vma, walk->clean_from, walk->clean_to);
	ksm_pte_unmap_unlock(pte, ptl);
	return stop || ksm_mm_should_end(owner);
}

/*
 * An entry without a table.  There may be millions of them, and nobody is to
 * wait for mmap_lock until they are all seen.
 */
static int scan_hole(unsigned long addr, unsigned long end, int depth,
		     struct mm_walk *mm_walk)
{
	struct scan_walk *walk = mm_walk->private;
	struct ksm_batch *batch = walk->batch;

	batch->aside++;
	if (!is_enough(walk) && (batch->aside % LOOKS_A_GLANCE ||
				 !ksm_mm_should_end(batch->owner)))
		return 0;
	cross_hole(walk, end);
	return 1;
}

static const struct mm_walk_ops scan_ops = {
	.pmd_entry	= scan_pmd,
	.pte_hole	= scan_hole,
	.walk_lock	= PGWALK_RDLOCK,
};

/* Visit an area; true if the step ends in it, or behind it. */
static bool scan_area(struct scan_walk *walk, struct vm_area_struct *vma,
		      unsigned long start)
{
	struct ksm_batch *batch = walk->batch;

	if (vma->vm_flags & VM_MERGEABLE)
		batch->mergeable = true;
	if (vma->vm_flags & VM_MERGEABLE && READ_ONCE(vma->anon_vma)) {
		batch->aside += AREA_AS_LOOKS;
		batch->vma = vma;
		if (walk_page_range_vma(vma, start, vma->vm_end, &scan_ops,
					walk) > 0)
			return true;
	} else {
		batch->aside += STRANGER_AS_LOOKS;
		if (!is_enough(walk) &&
		    batch->aside % LOOKS_A_GLANCE >= STRANGER_AS_LOOKS)
			return false;
	}
	if (!is_enough(walk) && !ksm_mm_should_end(batch->owner))
		return false;
	cross_hole(walk, vma->vm_end);
	return true;
}

/**
 * ksm_scan_step - find the next pages of an mm that want something
 * @owner: the mm
 * @cursor: where to go on; moved
 * @most: stop after so many looks
 * @batch: filled; references in @batch->page belong to the caller
 *
 * Context: scan mutex, within ksm_mm_begin().
 * Return: see enum ksm_step.  KSM_STEP_BATCH may come with an empty batch,
 *	when it is time to let go of the mm.
 */
enum ksm_step ksm_scan_step(struct ksm_mm *owner, unsigned long *cursor,
			    unsigned int most, struct ksm_batch *batch)
{
	struct mm_struct *mm = owner->slot.mm;
	struct scan_walk walk = {
		.batch	= batch,
		.seen	= *cursor,
		.most	= most,
		.step	= KSM_STEP_BATCH,
		.smart	= READ_ONCE(ksm_knobs.smart_scan),
		.trusted = mm_is_trusted(mm),
	};
	struct vm_area_struct *vma;
	bool stopped = false;

	VMA_ITERATOR(vmi, mm, *cursor);

	batch->owner = owner;
	batch->gone = 0;
	batch->adopt = 0;
	batch->read = 0;
	batch->watched = 0;
	batch->calm = 0;
	batch->still = 0;
	batch->known = 0;
	batch->passed = 0;
	batch->aside = 0;
	batch->skipped = 0;
	batch->mergeable = false;

	for_each_vma(vmi, vma) {
		stopped = scan_area(&walk, vma, max(vma->vm_start, *cursor));
		if (stopped)
			break;
	}
	*cursor = walk.seen;
	return stopped ? walk.step : KSM_STEP_END;
}

static int get_page_at(pmd_t *pmd, unsigned long addr, unsigned long end,
		       struct mm_walk *mm_walk)
{
	struct vm_area_struct *vma = mm_walk->vma;
	struct page **pagep = mm_walk->private;
	spinlock_t *ptl;	/* of the page table, or of the PMD */
	pte_t *pte;

	ptl = pmd_trans_huge_lock(pmd, vma);
	if (ptl) {
		__acquire(ptl);		/* sparse is not told */
		if (pmd_present(*pmd))
			*pagep = vm_normal_page_pmd(vma, addr, *pmd);
		if (*pagep)
			*pagep += (addr & ~HPAGE_PMD_MASK) / PAGE_SIZE;
		if (*pagep)
			get_page(*pagep);
		spin_unlock(ptl);
		return 0;
	}
	pte = pte_offset_map_lock(mm_walk->mm, pmd, addr, &ptl);
	if (!pte)
		return 0;
	if (pte_present(ptep_get(pte)))
		*pagep = vm_normal_page(vma, addr, ptep_get(pte));
	if (*pagep)
		get_page(*pagep);
	ksm_pte_unmap_unlock(pte, ptl);
	return 0;
}

static const struct mm_walk_ops get_page_ops = {
	.pmd_entry	= get_page_at,
	.walk_lock	= PGWALK_RDLOCK,
};

/**
 * ksm_scan_page - get the anonymous page at an address
 * @vma: the area
 * @addr: the address
 *
 * Context: mmap_lock.
 * Return: the page, referenced; NULL if there is none.
 */
struct page *ksm_scan_page(struct vm_area_struct *vma, unsigned long addr)
{
	struct page *page = NULL;

	walk_page_range_vma(vma, addr, addr + PAGE_SIZE, &get_page_ops, &page);
	if (page && (!PageAnon(page) || is_zone_device_page(page))) {
		put_page(page);
		page = NULL;
	}
	return page;
}

/**
 * ksm_scan_mergeable - does an mm have any mergeable area?
 * @mm: the mm
 *
 * Context: mmap_lock.
 * Return: true if it has.
 */
bool ksm_scan_mergeable(struct mm_struct *mm)
{
	struct vm_area_struct *vma;

	VMA_ITERATOR(vmi, mm, 0);
	for_each_vma(vmi, vma) {
		if (vma->vm_flags & VM_MERGEABLE)
			return true;
	}
	return false;
}
