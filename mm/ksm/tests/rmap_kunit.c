// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of what the rest of mm/ asks about merged pages (rmap.c).
 */
#include <linux/mman.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/vmstat.h>
#include "helpers.h"

#define MMS		3
#define PAGES		4
#define MOST_VISITS	(2 * MMS * PAGES)

struct sharers {
	struct mm_struct *mm[MMS];
	unsigned long	addr[MMS];
	struct folio	*folio;
};

/* What a walk did, and what it is told to do */
struct visits {
	struct sharers	*sharers;
	unsigned int	count;
	unsigned int	stray;
	unsigned int	stop_after;
	unsigned int	done_after;
	struct mm_struct *skip;
	bool		seen[MMS][PAGES];
};

/* One frame for all pages of all mms; the folio is locked and referenced */
static struct sharers *sharers_begin(struct kunit *test)
{
	struct sharers *sharers = kunit_kzalloc(test, sizeof(*sharers),
						GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, sharers);
	for (i = 0; i < MMS; i++) {
		sharers->mm[i] = ksm_kunit_mm(test);
		sharers->addr[i] = ksm_kunit_map(test, sharers->mm[i], PAGES);
		KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(sharers->mm[i],
							sharers->addr[i],
							PAGES, 0x5a));
		ksm_kunit_offer(test, sharers->mm[i], sharers->addr[i], PAGES);
	}
	ksm_kunit_passes(test, 2);
	KUNIT_ASSERT_EQ(test, ksm_stats.shared, 1);
	KUNIT_ASSERT_EQ(test, ksm_stats.sharing, MMS * PAGES - 1);
	sharers->folio = pfn_folio(ksm_kunit_pfn(sharers->mm[0],
						 sharers->addr[0]));
	folio_get(sharers->folio);
	folio_lock(sharers->folio);
	return sharers;
}

static void sharers_end(struct sharers *sharers)
{
	folio_unlock(sharers->folio);
	folio_put(sharers->folio);
}

static bool note_visit(struct folio *folio, struct vm_area_struct *vma,
		       unsigned long addr, void *arg)
{
	struct visits *visits = arg;
	unsigned int i;

	visits->count++;
	for (i = 0; i < MMS; i++) {
		struct sharers *sharers = visits->sharers;
		unsigned long page = (addr - sharers->addr[i]) / PAGE_SIZE;

		if (vma->vm_mm != sharers->mm[i] || page >= PAGES)
			continue;
		if (PAGE_ALIGNED(addr) && addr >= vma->vm_start &&
		    addr < vma->vm_end && folio == sharers->folio &&
		    !visits->seen[i][page]) {
			visits->seen[i][page] = true;
			return visits->count != visits->stop_after;
		}
	}
	visits->stray++;
	return visits->count < MOST_VISITS;
}

static struct visits *now_visits;	/* for done(), which has no argument */

static int done_after(struct folio *folio)
{
	return now_visits->count == now_visits->done_after;
}

static bool skip_mm(struct vm_area_struct *vma, void *arg)
{
	struct visits *visits = arg;

	return vma->vm_mm == visits->skip;
}

static void walk(struct sharers *sharers, struct visits *visits)
{
	struct rmap_walk_control rwc = {
		.arg		= visits,
		.rmap_one	= note_visit,
		.done		= visits->done_after ? done_after : NULL,
		.invalid_vma	= visits->skip ? skip_mm : NULL,
	};

	now_visits = visits;
	visits->sharers = sharers;
	rmap_walk_ksm(sharers->folio, &rwc);
}

/* B34, B44: each mapping once, at an aligned address within its area */
static void walk_visits_each_mapping(struct kunit *test)
{
	struct sharers *sharers = sharers_begin(test);
	struct visits visits = {};

	KUNIT_EXPECT_EQ(test, folio_mapcount(sharers->folio), MMS * PAGES);
	walk(sharers, &visits);
	KUNIT_EXPECT_EQ(test, visits.count, MMS * PAGES);
	KUNIT_EXPECT_EQ(test, visits.stray, 0);
	sharers_end(sharers);
}

/*
 * folio_referenced() ends a walk when it has been at as many PTEs as there are
 * mappings: no area may be visited twice before each was visited once.  Here
 * what leads to the second mm's pages leads to the third one's as well, as with
 * a child's.
 */
static void walk_visits_all_before_one_twice(struct kunit *test)
{
	struct sharers *sharers = sharers_begin(test);
	struct visits visits = { .stop_after = MMS * PAGES };
	struct vm_area_struct *parent, *child;
	struct anon_vma_chain avc = {};

	mmap_read_lock(sharers->mm[1]);
	parent = vma_lookup(sharers->mm[1], sharers->addr[1]);
	mmap_read_unlock(sharers->mm[1]);
	mmap_read_lock(sharers->mm[2]);
	child = vma_lookup(sharers->mm[2], sharers->addr[2]);
	mmap_read_unlock(sharers->mm[2]);
	KUNIT_EXPECT_EQ(test, parent->vm_pgoff, child->vm_pgoff);
	avc.vma = child;
	avc.anon_vma = parent->anon_vma;
	anon_vma_lock_write(parent->anon_vma);
	anon_vma_interval_tree_insert(&avc, &parent->anon_vma->rb_root);
	anon_vma_unlock_write(parent->anon_vma);

	walk(sharers, &visits);
	KUNIT_EXPECT_EQ(test, visits.count, MMS * PAGES);
	KUNIT_EXPECT_EQ(test, visits.stray, 0);
	/* But they are, and that is how one without an item is found */
	memset(&visits, 0, sizeof(visits));
	walk(sharers, &visits);
	KUNIT_EXPECT_EQ(test, visits.stray, PAGES);

	anon_vma_lock_write(parent->anon_vma);
	anon_vma_interval_tree_remove(&avc, &parent->anon_vma->rb_root);
	anon_vma_unlock_write(parent->anon_vma);
	sharers_end(sharers);
}

/* Areas change after the merge: cut in two, shortened, unmapped (B127) */
static void walk_keeps_to_the_areas(struct kunit *test)
{
	struct sharers *sharers = sharers_begin(test);
	struct visits visits = {};

	ksm_kunit_unmap(sharers->mm[0], sharers->addr[0] + PAGE_SIZE, 1);
	ksm_kunit_unmap(sharers->mm[1], sharers->addr[1], 1);
	ksm_kunit_unmap(sharers->mm[2], sharers->addr[2], PAGES);
	walk(sharers, &visits);
	KUNIT_EXPECT_EQ(test, visits.count, 2 * PAGES - 2);
	KUNIT_EXPECT_EQ(test, visits.stray, 0);
	KUNIT_EXPECT_FALSE(test, visits.seen[0][1]);
	KUNIT_EXPECT_FALSE(test, visits.seen[1][0]);
	sharers_end(sharers);
}

static void walk_stops_when_told(struct kunit *test)
{
	struct sharers *sharers = sharers_begin(test);
	struct visits stop = { .stop_after = 3 };
	struct visits done = { .done_after = 5 };

	walk(sharers, &stop);
	KUNIT_EXPECT_EQ(test, stop.count, 3);
	walk(sharers, &done);
	KUNIT_EXPECT_EQ(test, done.count, 5);
	sharers_end(sharers);
}

static void walk_leaves_out_areas(struct kunit *test)
{
	struct sharers *sharers = sharers_begin(test);
	struct visits visits = { .skip = sharers->mm[1] };

	walk(sharers, &visits);
	KUNIT_EXPECT_EQ(test, visits.count, (MMS - 1) * PAGES);
	KUNIT_EXPECT_FALSE(test, visits.seen[1][0]);
	KUNIT_EXPECT_TRUE(test, visits.seen[2][0]);
	sharers_end(sharers);
}

/* B51: reclaim does not wait for an anon_vma that is in use */
static void walk_does_not_wait(struct kunit *test)
{
	struct sharers *sharers = sharers_begin(test);
	struct visits visits = { .sharers = sharers };
	struct rmap_walk_control rwc = {
		.arg		= &visits,
		.rmap_one	= note_visit,
		.try_lock	= true,
	};
	struct vm_area_struct *vma;
	unsigned int i;

	mmap_read_lock(sharers->mm[0]);
	vma = vma_lookup(sharers->mm[0], sharers->addr[0]);
	anon_vma_lock_write(vma->anon_vma);
	rmap_walk_ksm(sharers->folio, &rwc);
	anon_vma_unlock_write(vma->anon_vma);
	mmap_read_unlock(sharers->mm[0]);
	KUNIT_EXPECT_TRUE(test, rwc.contended);
	KUNIT_EXPECT_LE(test, visits.count, (MMS - 1) * PAGES);
	for (i = 0; i < PAGES; i++)
		KUNIT_EXPECT_FALSE(test, visits.seen[0][i]);

	visits = (struct visits) { .sharers = sharers };
	rwc.contended = false;
	rmap_walk_ksm(sharers->folio, &rwc);
	KUNIT_EXPECT_FALSE(test, rwc.contended);
	KUNIT_EXPECT_EQ(test, visits.count, MMS * PAGES);
	sharers_end(sharers);
}

/* B36: a merged page that has lost its node is mapped nowhere */
static void walk_without_a_node(struct kunit *test)
{
	struct page *page = ksm_kunit_page(test, NUMA_NO_NODE, 1);
	struct sharers sharers = { .folio = page_folio(page) };
	struct visits visits = {};

	ksm_folio_detach(sharers.folio);
	folio_lock(sharers.folio);
	walk(&sharers, &visits);
	folio_unlock(sharers.folio);
	KUNIT_EXPECT_EQ(test, visits.count, 0);
}

/* ------------------------------------------------------------------ */
/* Pages from the swap cache                                           */
/* ------------------------------------------------------------------ */

static struct folio *might_copy(struct sharers *sharers, struct folio *folio)
{
	struct vm_area_struct *vma;
	struct folio *copy;

	mmap_read_lock(sharers->mm[0]);
	vma = vma_lookup(sharers->mm[0], sharers->addr[0]);
	copy = ksm_might_need_to_copy(folio, vma, sharers->addr[0]);
	mmap_read_unlock(sharers->mm[0]);
	return copy;
}

static unsigned long copies_counted(void)
{
#if defined(CONFIG_VM_EVENT_COUNTERS) && defined(CONFIG_SWAP)
	static unsigned long events[NR_VM_EVENT_ITEMS];

	all_vm_events(events);
	return events[KSM_SWPIN_COPY];
#else
	return 0;
#endif
}

static void expect_copy(struct kunit *test, struct sharers *sharers,
			struct folio *folio)
{
	unsigned long counted = copies_counted();
	struct folio *copy = might_copy(sharers, folio);

	KUNIT_EXPECT_FALSE(test, IS_ERR_OR_NULL(copy));
	if (IS_ERR_OR_NULL(copy))
		return;
	KUNIT_EXPECT_PTR_NE(test, copy, folio);
	if (copy == folio)
		return;
	KUNIT_EXPECT_EQ(test, ksm_page_cmp(folio_page(copy, 0),
					   folio_page(folio, 0)), 0);
	KUNIT_EXPECT_TRUE(test, folio_test_locked(copy));
	KUNIT_EXPECT_TRUE(test, folio_test_uptodate(copy));
	KUNIT_EXPECT_TRUE(test, folio_test_dirty(copy));
	KUNIT_EXPECT_FALSE(test, folio_test_lru(copy));
	KUNIT_EXPECT_FALSE(test, folio_mapped(copy));
	KUNIT_EXPECT_EQ(test, folio_ref_count(copy), 1);
#ifdef CONFIG_MEMCG
	/* B59: it is charged to whoever wants it */
	KUNIT_EXPECT_TRUE(test, mem_cgroup_disabled() ||
			  folio_memcg_charged(copy));
#endif
	if (IS_ENABLED(CONFIG_VM_EVENT_COUNTERS) && IS_ENABLED(CONFIG_SWAP))
		KUNIT_EXPECT_EQ(test, copies_counted(), counted + 1);
	folio_unlock(copy);
	folio_put(copy);
}

static void swapin_of_merged_page(struct kunit *test)
{
	struct sharers *sharers = sharers_begin(test);
	unsigned int run;

	/* It is mapped as it is wherever its node says it may be */
	KUNIT_EXPECT_PTR_EQ(test, might_copy(sharers, sharers->folio),
			    sharers->folio);
	/* B55: but not behind the back of an unmerge */
	ksm_scan_lock();
	run = ksm_knobs.run;
	WRITE_ONCE(ksm_knobs.run, KSM_RUN_UNMERGE);
	expect_copy(test, sharers, sharers->folio);
	WRITE_ONCE(ksm_knobs.run, run);
	ksm_scan_unlock();
	sharers_end(sharers);
}

/* B22: what an unmerge left in the swap cache has no node any more */
static void swapin_without_a_node(struct kunit *test)
{
	struct page *page = ksm_kunit_page(test, NUMA_NO_NODE, 0x77);
	struct sharers *sharers = sharers_begin(test);
	struct folio *folio = page_folio(page);

	ksm_folio_detach(folio);
	folio_lock(folio);
	__folio_mark_uptodate(folio);
	expect_copy(test, sharers, folio);

	/* A read that failed is the caller's to report */
	folio_clear_uptodate(folio);
	KUNIT_EXPECT_PTR_EQ(test, might_copy(sharers, folio), folio);
#ifdef CONFIG_MEMORY_FAILURE
	/* B128: nobody copies what went bad */
	SetPageHWPoison(page);
	KUNIT_EXPECT_EQ(test, PTR_ERR(might_copy(sharers, folio)), -EHWPOISON);
	ClearPageHWPoison(page);
#endif
	folio_unlock(folio);
	sharers_end(sharers);
}

/* B56, B58: a page of another anon_vma, or another place in this one */
static void swapin_of_anonymous_page(struct kunit *test)
{
	struct sharers *sharers = sharers_begin(test);
	unsigned long other = sharers->addr[0] + PAGE_SIZE;
	struct page *page;

	/* Those at the first two addresses are private pages again */
	KUNIT_EXPECT_EQ(test, ksm_kunit_fill(sharers->mm[0], sharers->addr[0],
					     2, 0x11), 0);
	KUNIT_EXPECT_EQ(test, ksm_kunit_fill(sharers->mm[1], sharers->addr[1],
					     1, 0x12), 0);
	page = ksm_kunit_get_page(sharers->mm[0], sharers->addr[0]);
	KUNIT_EXPECT_NOT_NULL(test, page);
	if (page) {
		lock_page(page);
		KUNIT_EXPECT_PTR_EQ(test, might_copy(sharers, page_folio(page)),
				    page_folio(page));
		unlock_page(page);
		put_page(page);
	}
	page = ksm_kunit_get_page(sharers->mm[0], other);
	KUNIT_EXPECT_NOT_NULL(test, page);
	if (page) {
		lock_page(page);
		expect_copy(test, sharers, page_folio(page));
		unlock_page(page);
		put_page(page);
	}
	page = ksm_kunit_get_page(sharers->mm[1], sharers->addr[1]);
	KUNIT_EXPECT_NOT_NULL(test, page);
	if (page) {
		lock_page(page);
		expect_copy(test, sharers, page_folio(page));
		unlock_page(page);
		put_page(page);
	}
	sharers_end(sharers);
}

/* One that was just read has no anon_vma yet */
static void swapin_of_new_page(struct kunit *test)
{
	struct page *page = ksm_kunit_page(test, NUMA_NO_NODE, 0x78);
	struct sharers *sharers = sharers_begin(test);
	struct folio *folio = page_folio(page);

	folio_lock(folio);
	__folio_mark_uptodate(folio);
	KUNIT_EXPECT_PTR_EQ(test, might_copy(sharers, folio), folio);
	folio_unlock(folio);
	sharers_end(sharers);
}

static struct kunit_case rmap_cases[] = {
	KUNIT_CASE(walk_visits_each_mapping),
	KUNIT_CASE(walk_visits_all_before_one_twice),
	KUNIT_CASE(walk_keeps_to_the_areas),
	KUNIT_CASE(walk_stops_when_told),
	KUNIT_CASE(walk_leaves_out_areas),
	KUNIT_CASE(walk_does_not_wait),
	KUNIT_CASE(walk_without_a_node),
	KUNIT_CASE(swapin_of_merged_page),
	KUNIT_CASE(swapin_without_a_node),
	KUNIT_CASE(swapin_of_anonymous_page),
	KUNIT_CASE(swapin_of_new_page),
	{}
};

static struct kunit_suite rmap_suite = {
	.name = "ksm_rmap",
	.init = ksm_kunit_init,
	.test_cases = rmap_cases,
};

kunit_test_suite(rmap_suite);
