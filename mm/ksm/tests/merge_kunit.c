// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of merging: real address spaces, real page tables, real passes, and
 * what each process finds in its memory afterwards.
 */
#include <kunit/static_stub.h>
#include <kunit/test-bug.h>
#include <linux/mman.h>
#include <linux/nodemask.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/swap.h>
#include <linux/topology.h>
#include "../../internal.h"
#include "helpers.h"

#define TWINS	2

/* Two processes, each with the same number of mergeable pages */
struct twins {
	struct mm_struct *mm[TWINS];
	unsigned long	addr[TWINS];
	unsigned long	pages;
};

static void twins_begin(struct kunit *test, struct twins *twins,
			unsigned long pages, u8 byte)
{
	unsigned int i;

	twins->pages = pages;
	for (i = 0; i < TWINS; i++) {
		twins->mm[i] = ksm_kunit_mm(test);
		twins->addr[i] = ksm_kunit_map(test, twins->mm[i], pages);
		KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(twins->mm[i],
							twins->addr[i], pages,
							byte));
		ksm_kunit_offer(test, twins->mm[i], twins->addr[i], pages);
	}
}

static void expect_bytes(struct kunit *test, struct twins *twins, u8 byte)
{
	unsigned int i;

	for (i = 0; i < TWINS; i++)
		KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(twins->mm[i],
							twins->addr[i],
							twins->pages, byte));
}

static unsigned long twin_pfn(struct twins *twins, unsigned int i)
{
	return ksm_kunit_pfn(twins->mm[i], twins->addr[i]);
}

static void unmerge_all(struct kunit *test)
{
	ksm_scan_lock();
	KUNIT_EXPECT_EQ(test, ksm_unmerge_all(), 0);
	ksm_kunit_check(test);
	ksm_scan_unlock();
	ksm_kunit_expect_nothing(test);
}

/* ------------------------------------------------------------------ */
/* Merging                                                             */
/* ------------------------------------------------------------------ */

/* Equal pages of two processes share a frame when the second pass ends */
static void two_passes_merge(struct kunit *test)
{
	struct twins twins;
	unsigned int i;

	twins_begin(test, &twins, 1, 0x11);
	ksm_kunit_passes(test, 1);
	KUNIT_EXPECT_EQ(test, ksm_stats.shared, 0);
	KUNIT_EXPECT_NE(test, twin_pfn(&twins, 0), twin_pfn(&twins, 1));

	ksm_kunit_passes(test, 1);
	ksm_kunit_expect_pages(test, 1, 1, 0, 0);
	KUNIT_EXPECT_EQ(test, twin_pfn(&twins, 0), twin_pfn(&twins, 1));
	for (i = 0; i < TWINS; i++) {
		pte_t pte = ksm_kunit_pte(twins.mm[i], twins.addr[i]);

		KUNIT_EXPECT_TRUE(test, ksm_kunit_merged(twins.mm[i],
							 twins.addr[i]));
		KUNIT_EXPECT_FALSE(test, pte_write(pte));
		KUNIT_EXPECT_EQ(test, twins.mm[i]->ksm_merging_pages, 1);
		KUNIT_EXPECT_EQ(test, twins.mm[i]->ksm_rmap_items, 1);
	}
	expect_bytes(test, &twins, 0x11);
	KUNIT_EXPECT_EQ(test, ksm_stat_profit(),
			(long)PAGE_SIZE - (long)ksm_stats.bytes);
}

/* All pages of a block, and those next to it that begin another one */
static void whole_block_merges(struct kunit *test)
{
	const unsigned long pages = KSM_BLOCK_PAGES + 3;
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = ksm_kunit_map(test, mm, pages);
	unsigned long i;

	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr, pages, 0x22));
	ksm_kunit_offer(test, mm, addr, pages);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, pages - 1, 0, 0);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_merged(mm, addr));
	for (i = 1; i < pages; i++)
		KUNIT_EXPECT_EQ(test, ksm_kunit_pfn(mm, addr),
				ksm_kunit_pfn(mm, addr + i * PAGE_SIZE));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm, addr, pages, 0x22));
	KUNIT_EXPECT_EQ(test, mm->ksm_merging_pages, pages);
	unmerge_all(test);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm, addr, pages, 0x22));
	KUNIT_EXPECT_EQ(test, mm->ksm_merging_pages, 0);
	KUNIT_EXPECT_EQ(test, mm->ksm_rmap_items, 0);
}

static u64 one_digest(struct page *page)
{
	return 42;
}

static u64 two_digests(struct page *page)
{
	u8 *bytes = kmap_local_page(page);
	u64 digest = bytes[0] & 1;

	kunmap_local(bytes);
	return digest;
}

/* Page i of each process is full of i: each has one twin, and only one */
static void run_weak_digest(struct kunit *test, u64 (*digest)(struct page *page))
{
	const unsigned long pages = 24;
	unsigned long i, k;
	struct twins twins;

	kunit_activate_static_stub(test, ksm_digest_page, *digest);
	twins_begin(test, &twins, pages, 0);
	for (i = 0; i < pages; i++) {
		for (k = 0; k < TWINS; k++)
			ksm_kunit_fill(twins.mm[k],
				       twins.addr[k] + i * PAGE_SIZE, 1, i);
	}
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, pages, pages, 0, 0);
	for (i = 0; i < pages; i++) {
		unsigned long offset = i * PAGE_SIZE;
		unsigned long pfn = ksm_kunit_pfn(twins.mm[0],
						  twins.addr[0] + offset);

		KUNIT_EXPECT_EQ(test, pfn,
				ksm_kunit_pfn(twins.mm[1],
					      twins.addr[1] + offset));
		for (k = 0; k < TWINS; k++)
			KUNIT_EXPECT_TRUE(test,
					  ksm_kunit_holds(twins.mm[k],
							  twins.addr[k] +
							  offset, 1, i));
	}
	unmerge_all(test);
	kunit_deactivate_static_stub(test, ksm_digest_page);
}

/* A digest orders and hints, it never decides */
static void one_digest_for_all(struct kunit *test)
{
	run_weak_digest(test, one_digest);
}

static void two_digests_for_all(struct kunit *test)
{
	run_weak_digest(test, two_digests);
}

/*
 * A child has the frames of its parent's candidates: they are no twins, whether
 * the candidate is met at once or behind others with its digest.
 */
static void inherited_candidates_are_no_twins(struct kunit *test)
{
	struct mm_struct *parent, *child;
	const unsigned long pages = 3;
	unsigned long addr, i;

	kunit_activate_static_stub(test, ksm_digest_page, one_digest);
	parent = ksm_kunit_mm(test);
	addr = ksm_kunit_map(test, parent, pages);
	for (i = 0; i < pages; i++)
		ksm_kunit_fill(parent, addr + i * PAGE_SIZE, 1, i);
	ksm_kunit_offer(test, parent, addr, pages);
	ksm_kunit_passes(test, 3);
	ksm_kunit_expect_pages(test, 0, 0, pages, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.items, pages);

	child = ksm_kunit_fork(test, parent, addr, pages);
	ksm_kunit_passes(test, 3);
	ksm_kunit_expect_pages(test, 0, 0, 2 * pages, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.items, pages);
	for (i = 0; i < pages; i++)
		KUNIT_EXPECT_EQ(test, ksm_kunit_pfn(parent, addr + i * PAGE_SIZE),
				ksm_kunit_pfn(child, addr + i * PAGE_SIZE));
	unmerge_all(test);
	kunit_deactivate_static_stub(test, ksm_digest_page);
}

static u64 digest_of_zeros;

static u64 zero_digest(struct page *page)
{
	return digest_of_zeros;
}

/* Nor does it decide that a page is full of zeros */
static void zero_digest_is_no_zero_page(struct kunit *test)
{
	struct twins twins;

	digest_of_zeros = ksm_digest_page(ZERO_PAGE(0));
	kunit_activate_static_stub(test, ksm_digest_page, zero_digest);
	WRITE_ONCE(ksm_knobs.use_zero_pages, true);
	twins_begin(test, &twins, 4, 0x33);
	ksm_kunit_fill(twins.mm[0], twins.addr[0], 1, 0);
	ksm_kunit_passes(test, 3);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&ksm_zero_pages), 1);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(twins.mm[0], twins.addr[0], 1,
						0));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(twins.mm[0],
						twins.addr[0] + PAGE_SIZE, 3,
						0x33));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(twins.mm[1], twins.addr[1], 4,
						0x33));
	kunit_deactivate_static_stub(test, ksm_digest_page);
}

/* B43: a merged page that no record knows is listed again, where it is found */
static void merged_page_is_adopted(struct kunit *test)
{
	unsigned long from = 0, pfn;
	struct twins twins;
	struct ksm_mm *owner;

	twins_begin(test, &twins, 3, 0x23);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 5, 0, 0);
	pfn = twin_pfn(&twins, 0);

	ksm_scan_lock();
	ksm_registry_rewind(KSM_CURSOR_SCAN, /* ahead = */ false);
	owner = ksm_registry_next(KSM_CURSOR_SCAN);
	KUNIT_EXPECT_NOT_NULL(test, owner);
	if (owner)
		KUNIT_EXPECT_TRUE(test,
				  ksm_records_drop(owner, &from, ULONG_MAX,
						   UINT_MAX, KSM_LOCK_WAIT));
	ksm_kunit_check(test);
	ksm_scan_unlock();
	ksm_kunit_expect_pages(test, 1, 2, 0, 0);

	ksm_kunit_passes(test, 1);
	ksm_kunit_expect_pages(test, 1, 5, 0, 0);
	KUNIT_EXPECT_EQ(test, twin_pfn(&twins, 0), pfn);
	KUNIT_EXPECT_EQ(test, twin_pfn(&twins, 1), pfn);
	KUNIT_EXPECT_EQ(test, twins.mm[0]->ksm_merging_pages, 3);
	KUNIT_EXPECT_EQ(test, twins.mm[1]->ksm_merging_pages, 3);
	unmerge_all(test);
	expect_bytes(test, &twins, 0x23);
}

/* A store gives its writer a page of its own, and nobody else sees it (B88) */
static void store_unshares(struct kunit *test)
{
	unsigned long pfn, pages = 10, last;
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = ksm_kunit_map(test, mm, pages);

	last = addr + (pages - 1) * PAGE_SIZE;
	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr, pages, 0x44));
	ksm_kunit_offer(test, mm, addr, pages);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 9, 0, 0);
	pfn = ksm_kunit_pfn(mm, addr);

	KUNIT_EXPECT_EQ(test, ksm_kunit_poke(mm, addr, 0x99), 0);
	KUNIT_EXPECT_NE(test, ksm_kunit_pfn(mm, addr), pfn);
	KUNIT_EXPECT_FALSE(test, ksm_kunit_merged(mm, addr));
	KUNIT_EXPECT_EQ(test, ksm_kunit_pfn(mm, last), pfn);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm, addr + PAGE_SIZE, 9, 0x44));
	ksm_kunit_passes(test, 1);
	ksm_kunit_expect_pages(test, 1, 8, 0, 1);
	ksm_kunit_passes(test, 1);
	ksm_kunit_expect_pages(test, 1, 8, 1, 0);

	/* Even the last one left does not get the shared page itself */
	KUNIT_EXPECT_EQ(test, ksm_kunit_fill(mm, addr, pages - 1, 0x55), 0);
	KUNIT_EXPECT_EQ(test, ksm_kunit_pfn(mm, last), pfn);
	KUNIT_EXPECT_EQ(test, ksm_kunit_poke(mm, last, 0x99), 0);
	KUNIT_EXPECT_NE(test, ksm_kunit_pfn(mm, last), pfn);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm, addr, 9, 0x55));
	ksm_kunit_passes(test, 3);
	ksm_kunit_expect_pages(test, 1, 8, 1, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.nodes, 1);
}

/* ------------------------------------------------------------------ */
/* Refusing to                                                         */
/* ------------------------------------------------------------------ */

/* Nothing is merged, and none of these passes leaves anything behind */
static void expect_no_node(struct kunit *test, unsigned int passes)
{
	while (passes--) {
		ksm_kunit_passes(test, 1);
		KUNIT_EXPECT_EQ(test, ksm_stats.shared, 0);
		KUNIT_EXPECT_EQ(test, ksm_stats.nodes, 0);
	}
}

/* B86: somebody may write through a reference, whoever it is that holds it */
static void referenced_page_stays(struct kunit *test)
{
	struct page *page;
	struct twins twins;
	unsigned int i;

	for (i = 0; i < TWINS; i++) {
		twins_begin(test, &twins, 1, 0x66);
		page = ksm_kunit_get_page(twins.mm[i], twins.addr[i]);
		KUNIT_ASSERT_NOT_NULL(test, page);
		expect_no_node(test, 4);
		KUNIT_EXPECT_PTR_EQ(test, page,
				    pfn_to_page(twin_pfn(&twins, i)));
		KUNIT_EXPECT_FALSE(test, PageKsm(page));
		KUNIT_EXPECT_EQ(test, page_count(page), 2);
		/* What is written through it is seen by its owner, only */
		memset(page_address(page), 0x67, PAGE_SIZE);
		KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(twins.mm[i],
							twins.addr[i], 1,
							0x67));
		KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(twins.mm[!i],
							twins.addr[!i], 1,
							0x66));
		memset(page_address(page), 0x66, PAGE_SIZE);
		put_page(page);
		ksm_kunit_passes(test, 3);
		ksm_kunit_expect_pages(test, 1, 1, 0, 0);
		expect_bytes(test, &twins, 0x66);
		unmerge_all(test);
		ksm_kunit_mm_exit(test, twins.mm[0]);
		ksm_kunit_mm_exit(test, twins.mm[1]);
	}
}

/*
 * Somebody takes a reference to what he finds to be an ordinary page, which just
 * then becomes a shared one.  He may look for its mappings without locking it.
 */
static struct folio *taken_too_late;

static void *take_and_claim(struct folio *folio)
{
	struct kunit *test = kunit_get_current_test();
	void *mapping = folio->mapping;

	folio_get(folio);
	taken_too_late = folio;
	ksm_folio_detach(folio);
	/* What he finds now is nothing, and no node that may go */
	KUNIT_EXPECT_TRUE(test, folio_test_ksm(folio));
	KUNIT_EXPECT_NULL(test, ksm_folio_node(folio));
	return mapping;
}

static void late_reference_stays(struct kunit *test)
{
	struct twins twins;

	twins_begin(test, &twins, 1, 0x68);
	kunit_activate_static_stub(test, ksm_folio_claim, take_and_claim);
	ksm_kunit_passes(test, 2);
	kunit_deactivate_static_stub(test, ksm_folio_claim);
	KUNIT_ASSERT_NOT_NULL(test, taken_too_late);
	KUNIT_EXPECT_EQ(test, ksm_stats.shared, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.nodes, 0);
	KUNIT_EXPECT_FALSE(test, folio_test_ksm(taken_too_late));
	KUNIT_EXPECT_TRUE(test, folio_test_anon(taken_too_late));
	KUNIT_EXPECT_EQ(test, folio_mapcount(taken_too_late), 1);
	KUNIT_EXPECT_EQ(test, folio_ref_count(taken_too_late), 2);
	expect_bytes(test, &twins, 0x68);
	folio_put(taken_too_late);

	/* Its owner writes to it as ever, and it can be merged */
	KUNIT_EXPECT_EQ(test, 0, ksm_kunit_poke(twins.mm[0], twins.addr[0],
						0x69));
	KUNIT_EXPECT_EQ(test, 0, ksm_kunit_fill(twins.mm[0], twins.addr[0], 1,
						0x68));
	ksm_kunit_passes(test, 4);
	ksm_kunit_expect_pages(test, 1, 1, 0, 0);
	expect_bytes(test, &twins, 0x68);
}

/* B90: the same for DMA, which is told from other references */
static void pinned_page_stays(struct kunit *test)
{
	struct page *page;
	struct twins twins;
	long pinned;

	twins_begin(test, &twins, 1, 0x77);
	mmap_read_lock(twins.mm[1]);
	pinned = pin_user_pages_remote(twins.mm[1], twins.addr[1], 1,
				       FOLL_WRITE, &page, NULL);
	mmap_read_unlock(twins.mm[1]);
	KUNIT_ASSERT_EQ(test, pinned, 1);
	expect_no_node(test, 4);
	KUNIT_EXPECT_PTR_EQ(test, page, pfn_to_page(twin_pfn(&twins, 1)));
	KUNIT_EXPECT_TRUE(test, PageAnonExclusive(page));
	unpin_user_page(page);
	ksm_kunit_passes(test, 3);
	ksm_kunit_expect_pages(test, 1, 1, 0, 0);
	expect_bytes(test, &twins, 0x77);
}

/*
 * B26, B28, B36: a locked page makes half of a merge fail: the other half is
 * taken back, and nothing is left of it.
 */
static void locked_page_stays(struct kunit *test)
{
	struct folio *folio;
	struct twins twins;
	unsigned int i;

	for (i = 0; i < TWINS; i++) {
		twins_begin(test, &twins, 1, 0x88);
		folio = pfn_folio(twin_pfn(&twins, i));
		folio_lock(folio);
		expect_no_node(test, 4);
		KUNIT_EXPECT_FALSE(test, ksm_kunit_merged(twins.mm[0],
							  twins.addr[0]));
		KUNIT_EXPECT_FALSE(test, ksm_kunit_merged(twins.mm[1],
							  twins.addr[1]));
		KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);
		folio_unlock(folio);
		ksm_kunit_passes(test, 3);
		ksm_kunit_expect_pages(test, 1, 1, 0, 0);
		expect_bytes(test, &twins, 0x88);
		unmerge_all(test);
		ksm_kunit_mm_exit(test, twins.mm[0]);
		ksm_kunit_mm_exit(test, twins.mm[1]);
	}
}

/* Passes in which no page can be unshared: a signal keeps faults away */
static void passes_without_faults(struct kunit *test, unsigned int passes)
{
	set_tsk_thread_flag(current, TIF_SIGPENDING);
	ksm_kunit_passes(test, passes);
	clear_tsk_thread_flag(current, TIF_SIGPENDING);
}

/*
 * B39: half of a merge fails, and the other half cannot be taken back.  Then a
 * page is shared by nobody but its owner; but it has its node, is found by the
 * next twin, and can be taken back later.
 */
static void half_merge_stays(struct kunit *test)
{
	unsigned int i, left = 0;
	struct folio *folio;
	struct twins twins;
	struct page *lone;

	/* One of the two is made a shared page before the other is tried */
	for (i = 0; i < TWINS; i++) {
		twins_begin(test, &twins, 1, 0x89);
		folio = pfn_folio(twin_pfn(&twins, i));
		lone = pfn_to_page(twin_pfn(&twins, !i));
		folio_lock(folio);
		passes_without_faults(test, 4);
		KUNIT_EXPECT_FALSE(test, ksm_kunit_merged(twins.mm[i],
							  twins.addr[i]));
		if (PageKsm(lone)) {
			left++;
			KUNIT_EXPECT_NOT_NULL(test,
					      ksm_folio_node(page_folio(lone)));
			KUNIT_EXPECT_EQ(test, ksm_stats.nodes, 1);
			ksm_kunit_expect_pages(test, 1, 0, 0, 1);
		}
		folio_unlock(folio);
		ksm_kunit_passes(test, 3);
		ksm_kunit_expect_pages(test, 1, 1, 0, 0);
		expect_bytes(test, &twins, 0x89);
		unmerge_all(test);
		ksm_kunit_mm_exit(test, twins.mm[0]);
		ksm_kunit_mm_exit(test, twins.mm[1]);
	}
	KUNIT_EXPECT_GT(test, left, 0);
}

/* As reclaim does when it finds that such a page was written to */
static bool keep_for_good(struct folio *folio)
{
	if (!folio_isolate_lru(folio))
		return false;
	folio_set_swapbacked(folio);
	folio_putback_lru(folio);
	lru_add_drain_all();
	return true;
}

/*
 * What its owner gave up with MADV_FREE may be dropped at any time.  Shared, it
 * would be dropped for all (B54).
 */
static void lazily_freed_page_stays(struct kunit *test)
{
	struct page *page;
	struct twins twins;

	twins_begin(test, &twins, 1, 0x8a);
	lru_add_drain_all();
	ksm_kunit_advise(test, twins.mm[0], twins.addr[0], 1, MADV_FREE);
	lru_add_drain_all();
	page = pfn_to_page(twin_pfn(&twins, 0));
	KUNIT_ASSERT_FALSE(test, folio_test_swapbacked(page_folio(page)));
	expect_no_node(test, 4);
	KUNIT_EXPECT_PTR_EQ(test, page, pfn_to_page(twin_pfn(&twins, 0)));
	KUNIT_EXPECT_FALSE(test, folio_test_swapbacked(page_folio(page)));

	KUNIT_EXPECT_TRUE(test, keep_for_good(page_folio(page)));
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 1, 0, 0);
	/* The shared page is not dropped for its first owner's advice */
	ksm_kunit_advise(test, twins.mm[0], twins.addr[0], 1, MADV_FREE);
	ksm_kunit_advise(test, twins.mm[1], twins.addr[1], 1, MADV_FREE);
	lru_add_drain_all();
	page = pfn_to_page(twin_pfn(&twins, 0));
	KUNIT_EXPECT_TRUE(test, folio_test_swapbacked(page_folio(page)));
	KUNIT_EXPECT_TRUE(test, PageDirty(page));
	expect_bytes(test, &twins, 0x8a);
}

/* What is not offered is left alone, even next to what is */
static void only_what_is_offered(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = ksm_kunit_map(test, mm, 9);

	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr, 9, 0x12));
	ksm_kunit_offer(test, mm, addr + 3 * PAGE_SIZE, 3);
	ksm_kunit_passes(test, 3);
	ksm_kunit_expect_pages(test, 1, 2, 0, 0);
	KUNIT_EXPECT_FALSE(test, ksm_kunit_merged(mm, addr + 2 * PAGE_SIZE));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_merged(mm, addr + 3 * PAGE_SIZE));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_merged(mm, addr + 5 * PAGE_SIZE));
	KUNIT_EXPECT_FALSE(test, ksm_kunit_merged(mm, addr + 6 * PAGE_SIZE));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm, addr, 9, 0x12));
}

/* ------------------------------------------------------------------ */
/* Zero pages                                                          */
/* ------------------------------------------------------------------ */

static long anon_pages(struct mm_struct *mm)
{
	return percpu_counter_sum(&mm->rss_stat[MM_ANONPAGES]);
}

/* B77, B80, B83, B84: each is counted while it is mapped, and no longer */
static void zero_pages_are_counted(struct kunit *test)
{
	const unsigned long pages = 6;
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = ksm_kunit_map(test, mm, pages);
	unsigned long i;
	long anon;

	WRITE_ONCE(ksm_knobs.use_zero_pages, true);
	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr, pages, 0));
	ksm_kunit_offer(test, mm, addr, pages);
	anon = anon_pages(mm);
	ksm_kunit_passes(test, 2);
	for (i = 0; i < pages; i++) {
		pte_t pte = ksm_kunit_pte(mm, addr + i * PAGE_SIZE);

		KUNIT_EXPECT_TRUE(test, is_zero_pfn(pte_pfn(pte)));
		KUNIT_EXPECT_TRUE(test, is_ksm_zero_pte(pte));
		KUNIT_EXPECT_FALSE(test, pte_write(pte));
	}
	KUNIT_EXPECT_EQ(test, atomic_long_read(&ksm_zero_pages), pages);
	KUNIT_EXPECT_EQ(test, mm_ksm_zero_pages(mm), pages);
	KUNIT_EXPECT_EQ(test, anon_pages(mm), anon - pages);
	ksm_kunit_expect_pages(test, 0, 0, 0, 0);
	KUNIT_EXPECT_EQ(test, ksm_stat_profit(),
			(long)(pages * PAGE_SIZE - ksm_stats.bytes));

	KUNIT_EXPECT_EQ(test, ksm_kunit_poke(mm, addr, 1), 0);
	KUNIT_EXPECT_EQ(test, mm_ksm_zero_pages(mm), pages - 1);
	ksm_kunit_unmap(mm, addr + PAGE_SIZE, 1);
	KUNIT_EXPECT_EQ(test, mm_ksm_zero_pages(mm), pages - 2);
	ksm_kunit_advise(test, mm, addr + 2 * PAGE_SIZE, 1, MADV_DONTNEED);
	KUNIT_EXPECT_EQ(test, mm_ksm_zero_pages(mm), pages - 3);
	ksm_kunit_advise(test, mm, addr + 3 * PAGE_SIZE, 1, MADV_UNMERGEABLE);
	KUNIT_EXPECT_EQ(test, mm_ksm_zero_pages(mm), pages - 4);
	KUNIT_EXPECT_FALSE(test, is_zero_pfn(ksm_kunit_pfn(mm, addr + 3 *
							   PAGE_SIZE)));
	KUNIT_EXPECT_EQ(test, atomic_long_read(&ksm_zero_pages), pages - 4);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm, addr + 2 * PAGE_SIZE,
						pages - 2, 0));
	/* B79: and they can be taken back */
	unmerge_all(test);
	KUNIT_EXPECT_EQ(test, mm_ksm_zero_pages(mm), 0);
	KUNIT_EXPECT_FALSE(test, is_zero_pfn(ksm_kunit_pfn(mm, addr + 5 *
							   PAGE_SIZE)));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm, addr + 2 * PAGE_SIZE,
						pages - 2, 0));
}

/* Without the knob zeros are a content like any other */
static void zero_pages_only_if_wanted(struct kunit *test)
{
	struct twins twins;

	WRITE_ONCE(ksm_knobs.use_zero_pages, false);
	twins_begin(test, &twins, 1, 0);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 1, 0, 0);
	KUNIT_EXPECT_FALSE(test, is_zero_pfn(twin_pfn(&twins, 0)));
	KUNIT_EXPECT_EQ(test, atomic_long_read(&ksm_zero_pages), 0);
}

static struct mm_struct *without_zero_page;

static bool all_but_one_may(struct mm_struct *mm)
{
	return mm != without_zero_page;
}

/* B85: where the zero page is forbidden, zeros merge like any other content */
static void zero_page_forbidden(struct kunit *test)
{
	const unsigned long pages = 4;
	struct twins twins;
	unsigned long i;

	WRITE_ONCE(ksm_knobs.use_zero_pages, true);
	twins_begin(test, &twins, pages, 0);
	without_zero_page = twins.mm[0];
	kunit_activate_static_stub(test, ksm_mm_may_map_zero, all_but_one_may);
	ksm_kunit_passes(test, 2);
	KUNIT_EXPECT_EQ(test, mm_ksm_zero_pages(twins.mm[0]), 0);
	KUNIT_EXPECT_EQ(test, mm_ksm_zero_pages(twins.mm[1]), pages);
	for (i = 0; i < pages; i++) {
		unsigned long offset = i * PAGE_SIZE;

		KUNIT_EXPECT_TRUE(test, ksm_kunit_merged(twins.mm[0],
							 twins.addr[0] +
							 offset));
		KUNIT_EXPECT_TRUE(test,
				  is_zero_pfn(ksm_kunit_pfn(twins.mm[1],
							    twins.addr[1] +
							    offset)));
	}
	ksm_kunit_expect_pages(test, 1, pages - 1, 0, 0);
	expect_bytes(test, &twins, 0);
	unmerge_all(test);
	expect_bytes(test, &twins, 0);
	kunit_deactivate_static_stub(test, ksm_mm_may_map_zero);
}

/* B77: an exit takes its zero pages out of the count */
static void zero_pages_of_an_exit(struct kunit *test)
{
	struct twins twins;

	WRITE_ONCE(ksm_knobs.use_zero_pages, true);
	twins_begin(test, &twins, 3, 0);
	ksm_kunit_passes(test, 2);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&ksm_zero_pages), 6);
	ksm_kunit_mm_exit(test, twins.mm[0]);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&ksm_zero_pages), 3);
	ksm_kunit_mm_exit(test, twins.mm[1]);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&ksm_zero_pages), 0);
}

/* ------------------------------------------------------------------ */
/* Chains, memory nodes, huge pages                                    */
/* ------------------------------------------------------------------ */

/* B48: no page is mapped more often than it may be */
static void chain_keeps_the_limit(struct kunit *test)
{
	const unsigned long pages = 10, limit = 3;
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = ksm_kunit_map(test, mm, pages);
	unsigned long i;

	KUNIT_ASSERT_EQ(test, 0, ksm_set_max_page_sharing(limit));
	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr, pages, 0x21));
	ksm_kunit_offer(test, mm, addr, pages);
	ksm_kunit_passes(test, 4);
	for (i = 0; i < pages; i++) {
		unsigned long pfn = ksm_kunit_pfn(mm, addr + i * PAGE_SIZE);

		KUNIT_EXPECT_LE(test, folio_mapcount(pfn_folio(pfn)), limit);
	}
	KUNIT_EXPECT_EQ(test, ksm_stats.chains, 1);
	KUNIT_EXPECT_EQ(test, ksm_stats.dups, ksm_stats.nodes);
	KUNIT_EXPECT_LE(test, ksm_stats.shared + ksm_stats.unshared,
			DIV_ROUND_UP(pages, limit));
	KUNIT_EXPECT_EQ(test, ksm_stats.records, pages);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm, addr, pages, 0x21));

	/* Room is used again */
	KUNIT_EXPECT_EQ(test, ksm_kunit_fill(mm, addr, 2, 0x22), 0);
	ksm_kunit_passes(test, 1);
	KUNIT_EXPECT_EQ(test, ksm_kunit_fill(mm, addr, 2, 0x21), 0);
	ksm_kunit_passes(test, 3);
	KUNIT_EXPECT_LE(test, ksm_stats.shared + ksm_stats.unshared,
			DIV_ROUND_UP(pages, limit));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm, addr, pages, 0x21));
	unmerge_all(test);
}

static int fill_on_node(struct kunit *test, struct mm_struct *mm,
			unsigned long addr, int nid, u8 byte)
{
	if (set_cpus_allowed_ptr(current, cpumask_of_node(nid)))
		return -EINVAL;
	if (ksm_kunit_fill(mm, addr, 1, byte))
		return -EFAULT;
	return page_to_nid(pfn_to_page(ksm_kunit_pfn(mm, addr))) == nid ? 0 :
		-ENOMEM;
}

/* B69: as the knob says, pages of different memory nodes are twins or not */
static void nodes_are_kept_apart(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = ksm_kunit_map(test, mm, 4);
	unsigned long i;

	for (i = 0; i < 2; i++) {
		if (!node_state(i, N_MEMORY) || !node_state(i, N_CPU))
			kunit_skip(test, "needs nodes 0 and 1 with a CPU");
	}
	KUNIT_ASSERT_EQ(test, 0, ksm_set_merge_across_nodes(false));
	for (i = 0; i < 4; i++)
		KUNIT_ASSERT_EQ(test, 0,
				fill_on_node(test, mm, addr + i * PAGE_SIZE,
					     i % 2, 0x31));
	ksm_kunit_offer(test, mm, addr, 4);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 2, 2, 0, 0);
	KUNIT_EXPECT_EQ(test, ksm_kunit_pfn(mm, addr),
			ksm_kunit_pfn(mm, addr + 2 * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, ksm_kunit_pfn(mm, addr + PAGE_SIZE),
			ksm_kunit_pfn(mm, addr + 3 * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, ksm_set_merge_across_nodes(true), -EBUSY);

	unmerge_all(test);
	KUNIT_EXPECT_EQ(test, ksm_set_merge_across_nodes(true), 0);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 3, 0, 0);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm, addr, 4, 0x31));
}

#ifdef CONFIG_TRANSPARENT_HUGEPAGE
static unsigned long map_huge(struct kunit *test, struct mm_struct *mm, u8 byte)
{
	unsigned long addr = ksm_kunit_map(test, mm, 2 * HPAGE_PMD_NR);

	addr = ALIGN(addr, HPAGE_PMD_SIZE);
	ksm_kunit_advise(test, mm, addr, HPAGE_PMD_NR, MADV_HUGEPAGE);
	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr, HPAGE_PMD_NR, byte));
	if (ksm_kunit_pfn(mm, addr))
		kunit_skip(test, "no huge page to be had");
	return addr;
}

/* B37, B71, B72: a huge page is taken apart when that pays, not before */
static void huge_page_of_twins(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = map_huge(test, mm, 0x41);
	unsigned long i;

	KUNIT_ASSERT_EQ(test, 0, ksm_set_max_page_sharing(HPAGE_PMD_NR));
	ksm_kunit_offer(test, mm, addr, HPAGE_PMD_NR);
	ksm_kunit_passes(test, 1);
	KUNIT_EXPECT_EQ(test, ksm_kunit_pfn(mm, addr), 0);
	ksm_kunit_expect_pages(test, 0, 0, 0, HPAGE_PMD_NR);

	ksm_kunit_passes(test, 1);
	ksm_kunit_expect_pages(test, 1, HPAGE_PMD_NR - 1, 0, 0);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_merged(mm, addr));
	for (i = 1; i < HPAGE_PMD_NR && !ksm_kunit_failed(test); i++)
		KUNIT_EXPECT_EQ(test, ksm_kunit_pfn(mm, addr),
				ksm_kunit_pfn(mm, addr + i * PAGE_SIZE));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm, addr, HPAGE_PMD_NR, 0x41));
	unmerge_all(test);
}

static void huge_page_without_twins(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = map_huge(test, mm, 0x42);
	unsigned long i;

	for (i = 0; i < HPAGE_PMD_NR; i++) {
		KUNIT_ASSERT_EQ(test, 0, ksm_kunit_poke(mm, addr +
							i * PAGE_SIZE, i));
		KUNIT_ASSERT_EQ(test, 0, ksm_kunit_poke(mm, addr + 1 +
							i * PAGE_SIZE, i >> 8));
	}
	ksm_kunit_offer(test, mm, addr, HPAGE_PMD_NR);
	ksm_kunit_passes(test, 4);
	ksm_kunit_expect_pages(test, 0, 0, HPAGE_PMD_NR, 0);
	KUNIT_EXPECT_EQ(test, ksm_kunit_pfn(mm, addr), 0);
}

/* What it is equal to is shared already */
static void huge_page_meets_merged_page(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	struct twins twins;
	unsigned long addr;

	KUNIT_ASSERT_EQ(test, 0, ksm_set_max_page_sharing(2 * HPAGE_PMD_NR));
	twins_begin(test, &twins, 1, 0x44);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 1, 0, 0);
	addr = map_huge(test, mm, 0x44);
	ksm_kunit_offer(test, mm, addr, HPAGE_PMD_NR);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, HPAGE_PMD_NR + 1, 0, 0);
	KUNIT_EXPECT_EQ(test, ksm_kunit_pfn(mm, addr), twin_pfn(&twins, 0));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm, addr, HPAGE_PMD_NR, 0x44));
}

/* A reference to any part of it keeps it whole */
static void huge_page_with_reference(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = map_huge(test, mm, 0x43);
	struct page *page;

	KUNIT_ASSERT_EQ(test, 0, ksm_set_max_page_sharing(HPAGE_PMD_NR));
	page = ksm_kunit_get_page(mm, addr + 5 * PAGE_SIZE);
	KUNIT_ASSERT_NOT_NULL(test, page);
	ksm_kunit_offer(test, mm, addr, HPAGE_PMD_NR);
	expect_no_node(test, 3);
	KUNIT_EXPECT_EQ(test, ksm_kunit_pfn(mm, addr), 0);
	KUNIT_EXPECT_EQ(test, folio_ref_count(page_folio(page)),
			folio_mapcount(page_folio(page)) + 1);
	put_page(page);
	ksm_kunit_passes(test, 3);
	ksm_kunit_expect_pages(test, 1, HPAGE_PMD_NR - 1, 0, 0);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm, addr, HPAGE_PMD_NR, 0x43));
}
#endif

/* ------------------------------------------------------------------ */
/* Exit and unmerging                                                  */
/* ------------------------------------------------------------------ */

/* B01: an exit does not wait for the scan mutex; its records are reaped */
static void exit_under_the_scan_mutex(struct kunit *test)
{
	struct twins twins;

	twins_begin(test, &twins, 5, 0x51);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 9, 0, 0);
	ksm_scan_lock();
	ksm_kunit_mm_exit(test, twins.mm[0]);
	KUNIT_EXPECT_TRUE(test, ksm_registry_has_dead());
	ksm_kunit_expect_pages(test, 1, 9, 0, 0);
	ksm_reap(UINT_MAX);
	ksm_kunit_check(test);
	ksm_kunit_expect_pages(test, 1, 4, 0, 0);
	KUNIT_EXPECT_FALSE(test, ksm_registry_has_dead());
	ksm_scan_unlock();
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(twins.mm[1], twins.addr[1], 5,
						0x51));
	ksm_scan_lock();
	ksm_kunit_mm_exit(test, twins.mm[1]);
	ksm_reap(UINT_MAX);
	ksm_kunit_check(test);
	ksm_scan_unlock();
	ksm_kunit_expect_nothing(test);
}

/* B05: the partner waits in the unstable tree, and its process exits */
static void candidate_exits(struct kunit *test)
{
	struct twins twins;

	/* Each pass is to see what was stored, whatever the CPU tells of it */
	WRITE_ONCE(ksm_knobs.smart_scan, false);
	twins_begin(test, &twins, 1, 0x52);
	KUNIT_EXPECT_EQ(test, ksm_kunit_fill(twins.mm[1], twins.addr[1], 1,
					     0x53), 0);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 0, 0, 2, 0);
	/* Its page tables go, its item is listed still */
	ksm_scan_lock();
	KUNIT_EXPECT_EQ(test, ksm_kunit_fill(twins.mm[1], twins.addr[1], 1,
					     0x52), 0);
	ksm_kunit_pass();
	ksm_kunit_mm_exit(test, twins.mm[0]);
	KUNIT_EXPECT_EQ(test, ksm_stats.unshared, 1);
	ksm_kunit_pass();
	ksm_kunit_check(test);
	KUNIT_EXPECT_EQ(test, ksm_stats.shared, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.nodes, 0);
	ksm_scan_unlock();
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(twins.mm[1], twins.addr[1], 1,
						0x52));
}

/* An unmerge in one process does not concern the other, or a part the rest */
static void unmerge_a_part(struct kunit *test)
{
	struct twins twins;

	twins_begin(test, &twins, 6, 0x61);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 11, 0, 0);
	ksm_kunit_advise(test, twins.mm[0], twins.addr[0] + PAGE_SIZE, 2,
			 MADV_UNMERGEABLE);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_merged(twins.mm[0], twins.addr[0]));
	KUNIT_EXPECT_FALSE(test, ksm_kunit_merged(twins.mm[0], twins.addr[0] +
						  PAGE_SIZE));
	KUNIT_EXPECT_FALSE(test, ksm_kunit_merged(twins.mm[0], twins.addr[0] +
						  2 * PAGE_SIZE));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_merged(twins.mm[0], twins.addr[0] +
						 3 * PAGE_SIZE));
	ksm_kunit_passes(test, 1);
	ksm_kunit_expect_pages(test, 1, 9, 0, 0);
	expect_bytes(test, &twins, 0x61);
}

/* B107: what was discarded stays discarded */
static void unmerge_discarded(struct kunit *test)
{
	struct twins twins;
	unsigned long i;

	twins_begin(test, &twins, 8, 0x62);
	ksm_kunit_passes(test, 2);
	for (i = 0; i < 8; i += 2)
		ksm_kunit_advise(test, twins.mm[0], twins.addr[0] +
				 i * PAGE_SIZE, 1, MADV_DONTNEED);
	ksm_kunit_advise(test, twins.mm[0], twins.addr[0], 8,
			 MADV_UNMERGEABLE);
	for (i = 0; i < 8; i++) {
		pte_t pte = ksm_kunit_pte(twins.mm[0], twins.addr[0] +
					  i * PAGE_SIZE);

		KUNIT_EXPECT_EQ(test, pte_none(pte), i % 2 == 0);
		if (i % 2)
			KUNIT_EXPECT_TRUE(test,
					  ksm_kunit_holds(twins.mm[0],
							  twins.addr[0] +
							  i * PAGE_SIZE, 1,
							  0x62));
	}
	ksm_kunit_passes(test, 1);
	ksm_kunit_expect_pages(test, 1, 7, 0, 0);
}

static void expect_no_blocks(struct kunit *test)
{
	struct ksm_mm *owner;

	ksm_scan_lock();
	ksm_registry_rewind(KSM_CURSOR_SCAN, /* ahead = */ false);
	while ((owner = ksm_registry_next(KSM_CURSOR_SCAN))) {
		KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&owner->blocks));
		KUNIT_EXPECT_EQ(test, owner->bytes, 0);
		ksm_registry_leave(KSM_CURSOR_SCAN);
	}
	ksm_scan_unlock();
}

/* Records that the sweep has dropped leave nothing behind, either */
static void discarded_by_all(struct kunit *test)
{
	struct twins twins;
	unsigned int i;

	twins_begin(test, &twins, 100, 0x63);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 199, 0, 0);
	for (i = 0; i < TWINS; i++)
		ksm_kunit_advise(test, twins.mm[i], twins.addr[i], 100,
				 MADV_DONTNEED);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 0, 0, 0, 0);
	expect_no_blocks(test);
}

/* B22: a page that stays, though nobody maps it any more, loses its node */
static void unmerge_parts_from_pages(struct kunit *test)
{
	struct twins twins;
	struct page *page;

	twins_begin(test, &twins, 2, 0x63);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 3, 0, 0);
	page = ksm_kunit_get_page(twins.mm[0], twins.addr[0]);
	KUNIT_ASSERT_NOT_NULL(test, page);
	KUNIT_EXPECT_NOT_NULL(test, ksm_folio_node(page_folio(page)));
	unmerge_all(test);
	KUNIT_EXPECT_TRUE(test, PageKsm(page));
	KUNIT_EXPECT_NULL(test, ksm_folio_node(page_folio(page)));
	KUNIT_EXPECT_EQ(test, page_count(page), 1);
	put_page(page);
	expect_bytes(test, &twins, 0x63);
	/* The settings can be changed now, and all begins anew (B69) */
	KUNIT_EXPECT_EQ(test, ksm_set_max_page_sharing(4), 0);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 3, 0, 0);
}

/* ------------------------------------------------------------------ */
/* Without memory                                                      */
/* ------------------------------------------------------------------ */

/*
 * B18, B25, B38: any allocation under mmap_lock may fail, one in each round,
 * in pass @which.  The data stays, the counters stay right, and when there is
 * memory again everything merges.
 */
static bool round_without_memory(struct kunit *test, unsigned int which,
				 unsigned int nth)
{
	struct twins twins;
	unsigned int pass;
	bool hit = false;

	twins_begin(test, &twins, 3, 0x71);
	KUNIT_EXPECT_EQ(test, ksm_kunit_fill(twins.mm[0], twins.addr[0] +
					     PAGE_SIZE, 1, 0x72), 0);
	lru_add_drain_all();
	ksm_scan_lock();
	for (pass = 1; pass <= which; pass++) {
		if (pass == which)
			ksm_kunit_fail_alloc(nth);
		ksm_kunit_pass();
		if (pass == which)
			hit = ksm_kunit_end_fail_alloc();
		ksm_kunit_check(test);
	}
	ksm_scan_unlock();
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(twins.mm[0], twins.addr[0] +
						PAGE_SIZE, 1, 0x72));
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(twins.mm[1], twins.addr[1], 3,
						0x71));
	ksm_kunit_passes(test, 3);
	ksm_kunit_expect_pages(test, 2, 3, 1, 0);
	ksm_kunit_mm_exit(test, twins.mm[0]);
	ksm_kunit_mm_exit(test, twins.mm[1]);
	ksm_kunit_settle();
	ksm_kunit_expect_nothing(test);
	return hit;
}

static void run_without_memory(struct kunit *test, unsigned int which)
{
	unsigned int nth = 1;

	ksm_kunit_needs_fail_alloc(test);
	KUNIT_ASSERT_EQ(test, 0, ksm_set_max_page_sharing(3));
	while (!ksm_kunit_failed(test) && nth < 100 &&
	       round_without_memory(test, which, nth))
		nth++;
	kunit_info(test, "%u allocations failed\n", nth - 1);
	KUNIT_EXPECT_GT(test, nth, 2);
	KUNIT_EXPECT_LT(test, nth, 100);
}

static void first_pass_without_memory(struct kunit *test)
{
	run_without_memory(test, 1);
}

static void second_pass_without_memory(struct kunit *test)
{
	run_without_memory(test, 2);
}

/* ------------------------------------------------------------------ */
/* A random life                                                       */
/* ------------------------------------------------------------------ */

#define LIFE_MMS	3
#define LIFE_PAGES	(KSM_BLOCK_PAGES / 2)
#define LIFE_BYTES	6	/* few different contents: many twins */
#define ABSENT		0xff

struct life {
	struct mm_struct *mm[LIFE_MMS];
	unsigned long	addr[LIFE_MMS];
	u8		byte[LIFE_MMS][LIFE_PAGES];
};

static void life_is_born(struct kunit *test, struct life *life, unsigned int i)
{
	life->mm[i] = ksm_kunit_mm(test);
	life->addr[i] = ksm_kunit_map(test, life->mm[i], LIFE_PAGES);
	ksm_kunit_offer(test, life->mm[i], life->addr[i], LIFE_PAGES);
	memset(life->byte[i], ABSENT, LIFE_PAGES);
}

static void life_goes_on(struct kunit *test, struct life *life,
			 struct rnd_state *rnd)
{
	unsigned int i = ksm_kunit_below(rnd, LIFE_MMS);
	unsigned int first = ksm_kunit_below(rnd, LIFE_PAGES);
	unsigned int count = 1 + ksm_kunit_below(rnd, LIFE_PAGES - first);
	unsigned long addr = life->addr[i] + first * PAGE_SIZE;
	u8 byte = ksm_kunit_below(rnd, LIFE_BYTES);

	switch (ksm_kunit_below(rnd, 24)) {
	case 0:
		ksm_kunit_mm_exit(test, life->mm[i]);
		life_is_born(test, life, i);
		return;
	case 1:
		ksm_kunit_advise(test, life->mm[i], addr, count,
				 MADV_DONTNEED);
		memset(&life->byte[i][first], ABSENT, count);
		return;
	case 2:
		ksm_kunit_advise(test, life->mm[i], addr, count,
				 MADV_UNMERGEABLE);
		ksm_kunit_offer(test, life->mm[i], life->addr[i], LIFE_PAGES);
		return;
	case 3:
		ksm_kunit_unmap(life->mm[i], addr, count);
		ksm_kunit_map_at(test, life->mm[i], addr, count);
		ksm_kunit_offer(test, life->mm[i], life->addr[i], LIFE_PAGES);
		memset(&life->byte[i][first], ABSENT, count);
		return;
	default:
		count = min(count, 4U);
		KUNIT_EXPECT_EQ(test, 0, ksm_kunit_fill(life->mm[i], addr,
							count, byte));
		memset(&life->byte[i][first], byte, count);
		return;
	}
}

static const char *life_differs(struct life *life)
{
	unsigned int i, page;

	for (i = 0; i < LIFE_MMS; i++) {
		for (page = 0; page < LIFE_PAGES; page++) {
			u8 byte = life->byte[i][page];

			if (byte != ABSENT &&
			    !ksm_kunit_holds(life->mm[i], life->addr[i] +
					     page * PAGE_SIZE, 1, byte))
				return "contents";
		}
	}
	return NULL;
}

/* When all has settled, there is one frame for each content */
static void life_has_settled(struct kunit *test, struct life *life)
{
	unsigned long frame[LIFE_BYTES] = {}, present = 0, contents = 0;
	unsigned int i, page;

	for (i = 0; i < LIFE_MMS; i++) {
		for (page = 0; page < LIFE_PAGES; page++) {
			u8 byte = life->byte[i][page];
			unsigned long pfn;

			if (byte == ABSENT)
				continue;
			pfn = ksm_kunit_pfn(life->mm[i], life->addr[i] +
					    page * PAGE_SIZE);
			contents += !frame[byte];
			present++;
			frame[byte] = frame[byte] ?: pfn;
			KUNIT_EXPECT_EQ(test, frame[byte], pfn);
		}
	}
	KUNIT_EXPECT_EQ(test, ksm_stats.records, present);
	KUNIT_EXPECT_EQ(test, ksm_stats.sharing, present - contents);
	KUNIT_EXPECT_EQ(test, ksm_stats.shared + ksm_stats.unshared, contents);
	KUNIT_EXPECT_EQ(test, ksm_stat_volatile(), 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.nodes, ksm_stats.shared);
}

static void run_life(struct kunit *test)
{
	struct life *life = kunit_kzalloc(test, sizeof(*life), GFP_KERNEL);
	const char *wrong = NULL;
	struct rnd_state rnd;
	unsigned int i, round;

	KUNIT_ASSERT_NOT_NULL(test, life);
	ksm_kunit_seed(test, &rnd);
	for (i = 0; i < LIFE_MMS; i++)
		life_is_born(test, life, i);
	for (round = 0; round < 120 && !ksm_kunit_failed(test); round++) {
		for (i = ksm_kunit_below(&rnd, 12); i; i--)
			life_goes_on(test, life, &rnd);
		ksm_kunit_passes(test, 1);
		wrong = life_differs(life);
		KUNIT_EXPECT_NULL_MSG(test, wrong, "round %u: %s", round, wrong);
		if (round % 8 != 7)
			continue;
		/* Pages that changed often are left alone for some passes */
		WRITE_ONCE(ksm_knobs.smart_scan, false);
		ksm_kunit_passes(test, 3);
		WRITE_ONCE(ksm_knobs.smart_scan, true);
		life_has_settled(test, life);
		wrong = life_differs(life);
		KUNIT_EXPECT_NULL_MSG(test, wrong, "round %u: %s", round, wrong);
	}
	unmerge_all(test);
	wrong = life_differs(life);
	KUNIT_EXPECT_NULL_MSG(test, wrong, "unmerged: %s", wrong);
}

static void random_life(struct kunit *test)
{
	run_life(test);
}

static void random_life_with_two_digests(struct kunit *test)
{
	kunit_activate_static_stub(test, ksm_digest_page, two_digests);
	run_life(test);
	kunit_deactivate_static_stub(test, ksm_digest_page);
}

static struct kunit_case merge_cases[] = {
	KUNIT_CASE(two_passes_merge),
	KUNIT_CASE(whole_block_merges),
	KUNIT_CASE(one_digest_for_all),
	KUNIT_CASE(two_digests_for_all),
	KUNIT_CASE(inherited_candidates_are_no_twins),
	KUNIT_CASE(zero_digest_is_no_zero_page),
	KUNIT_CASE(merged_page_is_adopted),
	KUNIT_CASE(store_unshares),
	KUNIT_CASE(referenced_page_stays),
	KUNIT_CASE(late_reference_stays),
	KUNIT_CASE(pinned_page_stays),
	KUNIT_CASE(locked_page_stays),
	KUNIT_CASE(half_merge_stays),
	KUNIT_CASE(lazily_freed_page_stays),
	KUNIT_CASE(only_what_is_offered),
	KUNIT_CASE(zero_pages_are_counted),
	KUNIT_CASE(zero_pages_only_if_wanted),
	KUNIT_CASE(zero_page_forbidden),
	KUNIT_CASE(zero_pages_of_an_exit),
	KUNIT_CASE(chain_keeps_the_limit),
	KUNIT_CASE(nodes_are_kept_apart),
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	KUNIT_CASE(huge_page_of_twins),
	KUNIT_CASE(huge_page_without_twins),
	KUNIT_CASE(huge_page_meets_merged_page),
	KUNIT_CASE(huge_page_with_reference),
#endif
	KUNIT_CASE(exit_under_the_scan_mutex),
	KUNIT_CASE(candidate_exits),
	KUNIT_CASE(unmerge_a_part),
	KUNIT_CASE(unmerge_discarded),
	KUNIT_CASE(discarded_by_all),
	KUNIT_CASE(unmerge_parts_from_pages),
	KUNIT_CASE(first_pass_without_memory),
	KUNIT_CASE(second_pass_without_memory),
	KUNIT_CASE(random_life),
	KUNIT_CASE(random_life_with_two_digests),
	{}
};

static struct kunit_suite merge_suite = {
	.name = "ksm_merge",
	.init = ksm_kunit_init_knobs,
	.test_cases = merge_cases,
};

kunit_test_suite(merge_suite);
