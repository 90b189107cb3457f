// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of which pages are read, and which passed over (scan.c).
 */
#include <linux/mman.h>
#include "helpers.h"

#define PAGES	40

/* Does the CPU leave a trace of each store in the page table? */
#define STORES_SHOW	(IS_ENABLED(CONFIG_X86) || IS_ENABLED(CONFIG_UML))

/* So rarely are settled pages read again that it does not happen in a test */
#define NEVER		BIT(30)

/* Unique pages: each begins with its number */
static unsigned long map_unique(struct kunit *test, struct mm_struct *mm)
{
	unsigned long addr = ksm_kunit_map(test, mm, PAGES), i;

	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr, PAGES, 0xee));
	for (i = 0; i < PAGES; i++)
		KUNIT_ASSERT_EQ(test, 0, ksm_kunit_poke(mm, addr +
							i * PAGE_SIZE, i));
	ksm_kunit_offer(test, mm, addr, PAGES);
	return addr;
}

/* Make a pass, and tell how many pages it read */
static unsigned long pass_reads(struct kunit *test)
{
	unsigned long scanned = ksm_stats.scanned;

	ksm_kunit_passes(test, 1);
	return ksm_stats.scanned - scanned;
}

/* B122: exactly what was read is counted, and what was passed over */
static void counts_are_exact(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long skipped;

	map_unique(test, mm);
	skipped = ksm_stats.skipped;
	KUNIT_EXPECT_EQ(test, pass_reads(test), PAGES);
	ksm_kunit_expect_pages(test, 0, 0, 0, PAGES);
	KUNIT_EXPECT_EQ(test, ksm_stats.skipped, skipped);
	/* Where stores show, a page that keeps still need not be read for that */
	KUNIT_EXPECT_EQ(test, pass_reads(test), STORES_SHOW ? 0 : PAGES);
	ksm_kunit_expect_pages(test, 0, 0, PAGES, 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.filtered, PAGES);
	KUNIT_EXPECT_EQ(test, ksm_stats.items, 0);
	if (!STORES_SHOW)
		return;
	KUNIT_EXPECT_EQ(test, ksm_stats.skipped, skipped + PAGES);
	KUNIT_EXPECT_EQ(test, pass_reads(test), 0);
	KUNIT_EXPECT_EQ(test, ksm_stats.skipped, skipped + 2 * PAGES);
	ksm_kunit_expect_pages(test, 0, 0, PAGES, 0);
}

static void smart_scan_off_reads_all(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long skipped;
	unsigned int pass;

	WRITE_ONCE(ksm_knobs.smart_scan, false);
	map_unique(test, mm);
	skipped = ksm_stats.skipped;
	for (pass = 0; pass < 6; pass++)
		KUNIT_EXPECT_EQ(test, pass_reads(test), PAGES);
	KUNIT_EXPECT_EQ(test, ksm_stats.skipped, skipped);
}

/* B117: settled pages stay counted, and meet a late twin within two passes */
static void settled_page_meets_late_twin(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = map_unique(test, mm), twin;

	ksm_kunit_passes(test, 20);
	ksm_kunit_expect_pages(test, 0, 0, PAGES, 0);
	twin = ksm_kunit_map(test, mm, 1);
	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, twin, 1, 0xee));
	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_poke(mm, twin, 7));
	ksm_kunit_offer(test, mm, twin, 1);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 1, PAGES - 1, 0);
	KUNIT_EXPECT_EQ(test, ksm_kunit_pfn(mm, twin),
			ksm_kunit_pfn(mm, addr + 7 * PAGE_SIZE));
}

/* A store by the CPU is noticed at the next visit, where the dirty bit works */
static void store_is_noticed(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = map_unique(test, mm);

	ksm_kunit_passes(test, 5);
	ksm_kunit_expect_pages(test, 0, 0, PAGES, 0);
	KUNIT_EXPECT_EQ(test, ksm_kunit_poke(mm, addr + 3 * PAGE_SIZE, 200),
			0);
	KUNIT_EXPECT_EQ(test, ksm_kunit_poke(mm, addr + 9 * PAGE_SIZE, 200),
			0);
	if (!STORES_SHOW)
		kunit_skip(test, "the CPU does not set dirty bits");
	ksm_kunit_passes(test, 1);
	ksm_kunit_expect_pages(test, 0, 0, PAGES - 2, 2);
	/* They are equal now, and were both seen so once */
	ksm_kunit_passes(test, 1);
	ksm_kunit_expect_pages(test, 1, 1, PAGES - 2, 0);
}

/* A page that took the place of another is noticed, even if it is clean */
static void new_frame_is_noticed(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = map_unique(test, mm);
	unsigned long at = addr + 5 * PAGE_SIZE;
	struct page *page;

	ksm_kunit_passes(test, 5);
	/* Held, so that the new page is not the same frame */
	page = ksm_kunit_get_page(mm, at);
	KUNIT_ASSERT_NOT_NULL(test, page);
	ksm_kunit_advise(test, mm, at, 1, MADV_DONTNEED);
	KUNIT_EXPECT_EQ(test, ksm_kunit_fill(mm, at, 1, 0xaa), 0);
	KUNIT_EXPECT_NE(test, ksm_kunit_pfn(mm, at), page_to_pfn(page));
	put_page(page);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_clean(mm, at));
	ksm_kunit_passes(test, 1);
	ksm_kunit_expect_pages(test, 0, 0, PAGES - 1, 1);
}

/*
 * What a DMA or a guest writes leaves no trace in the page table.  So a settled
 * page is read again, now and then, and not all of them in the same pass.
 */
static void settled_pages_are_read_again(struct kunit *test)
{
	const unsigned long pages = 8 * KSM_BLOCK_PAGES;
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = ksm_kunit_map(test, mm, pages);
	unsigned long twin = ksm_kunit_map(test, mm, 1);
	unsigned long i, read, total = 0, most = 0;
	struct page *page;
	unsigned int pass;

	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr, pages, 0xee));
	for (i = 0; i < pages; i++) {
		unsigned long at = addr + i * PAGE_SIZE;

		KUNIT_ASSERT_EQ(test, 0, ksm_kunit_poke(mm, at, i));
		KUNIT_ASSERT_EQ(test, 0, ksm_kunit_poke(mm, at + 1, i >> 8));
	}
	ksm_kunit_offer(test, mm, addr, pages);
	ksm_scan_reread_passes = KSM_REREAD_PASSES;
	ksm_kunit_passes(test, 2);
	page = ksm_kunit_get_page(mm, addr);
	KUNIT_ASSERT_NOT_NULL(test, page);
	((u8 *)page_address(page))[100] = 0xad;
	put_page(page);
	for (pass = 0; pass < KSM_REREAD_PASSES; pass++) {
		read = pass_reads(test);
		total += read;
		most = max(most, read);
	}
	if (STORES_SHOW) {
		KUNIT_EXPECT_EQ(test, total, pages);
		KUNIT_EXPECT_LE(test, most, pages / 4);
	} else {
		KUNIT_EXPECT_GE(test, total, pages);
		KUNIT_EXPECT_LE(test, total, 8 * pages);
	}
	ksm_kunit_passes(test, 1);
	ksm_kunit_expect_pages(test, 0, 0, pages, 0);

	/* The one that was written to is listed as what it is now */
	ksm_scan_reread_passes = NEVER;
	KUNIT_EXPECT_EQ(test, ksm_kunit_fill(mm, twin, 1, 0xee), 0);
	KUNIT_EXPECT_EQ(test, ksm_kunit_poke(mm, twin, 0), 0);
	KUNIT_EXPECT_EQ(test, ksm_kunit_poke(mm, twin + 1, 0), 0);
	KUNIT_EXPECT_EQ(test, ksm_kunit_poke(mm, twin + 100, 0xad), 0);
	ksm_kunit_offer(test, mm, twin, 1);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 1, pages - 1, 0);
	KUNIT_EXPECT_EQ(test, ksm_kunit_pfn(mm, twin), ksm_kunit_pfn(mm, addr));
}

/* B116: a page that changes all the time is read less and less often */
static void restless_page_is_left_alone(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = ksm_kunit_map(test, mm, 1), read = 0;
	unsigned int pass;

	ksm_kunit_offer(test, mm, addr, 1);
	for (pass = 0; pass < 64; pass++) {
		KUNIT_EXPECT_EQ(test, ksm_kunit_fill(mm, addr, 1, pass), 0);
		read += pass_reads(test);
		ksm_kunit_expect_pages(test, 0, 0, 0, 1);
	}
	/* Where stores show, it is not read at all until it comes to rest */
	KUNIT_EXPECT_GE(test, read, STORES_SHOW ? 3 : 8);
	KUNIT_EXPECT_LE(test, read, STORES_SHOW ? 3 : 20);
	/* It comes to rest, and is found to have */
	ksm_kunit_passes(test, 17);
	ksm_kunit_expect_pages(test, 0, 0, 1, 0);
}

/* Who comes to rest after being restless needs no more passes than others */
static void page_at_rest_meets_twin(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = ksm_kunit_map(test, mm, 2);
	unsigned int pass;

	ksm_kunit_offer(test, mm, addr, 2);
	for (pass = 0; pass < 4; pass++) {
		KUNIT_EXPECT_EQ(test, ksm_kunit_fill(mm, addr, 2, pass), 0);
		ksm_kunit_passes(test, 1);
		ksm_kunit_expect_pages(test, 0, 0, 0, 2);
	}
	/* Back-off has come to every other pass by now */
	ksm_kunit_passes(test, 3);
	ksm_kunit_expect_pages(test, 1, 1, 0, 0);
	KUNIT_EXPECT_TRUE(test, ksm_kunit_holds(mm, addr, 2, 3));
}

static int scan_init(struct kunit *test)
{
	ksm_scan_reread_passes = NEVER;
	return ksm_kunit_init_knobs(test);
}

static void scan_exit(struct kunit *test)
{
	ksm_scan_reread_passes = KSM_REREAD_PASSES;
}

/* Merged pages are passed over as long as they are what they were */
static void merged_pages_are_passed_over(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = ksm_kunit_map(test, mm, PAGES);
	unsigned int pass;

	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr, PAGES, 0x5f));
	ksm_kunit_offer(test, mm, addr, PAGES);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, PAGES - 1, 0, 0);
	for (pass = 0; pass < 20; pass++)
		KUNIT_EXPECT_EQ(test, pass_reads(test), 0);
	ksm_kunit_expect_pages(test, 1, PAGES - 1, 0, 0);
}

/* Records go with their pages, at the next visit, and no others do */
static void holes_lose_their_records(struct kunit *test)
{
	const unsigned long table = PMD_SIZE / PAGE_SIZE;
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = ksm_kunit_map(test, mm, 4 * table), i;

	/* Some pages in each of three page tables, and one more at the end */
	addr = ALIGN(addr, PMD_SIZE);
	ksm_kunit_offer(test, mm, addr, 3 * table);
	for (i = 0; i < 3; i++)
		KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr + i * PMD_SIZE,
							10, 0x60));
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 29, 0, 0);

	/* A whole page table goes, then a few pages, then the rest */
	ksm_kunit_unmap(mm, addr + PMD_SIZE, table);
	ksm_kunit_passes(test, 1);
	ksm_kunit_expect_pages(test, 1, 19, 0, 0);
	ksm_kunit_advise(test, mm, addr + 3 * PAGE_SIZE, 4, MADV_DONTNEED);
	ksm_kunit_passes(test, 1);
	ksm_kunit_expect_pages(test, 1, 15, 0, 0);
	ksm_kunit_unmap(mm, addr + 2 * PMD_SIZE, table);
	ksm_kunit_passes(test, 1);
	ksm_kunit_expect_pages(test, 1, 5, 0, 0);
	ksm_kunit_unmap(mm, addr, table);
	ksm_kunit_passes(test, 1);
	ksm_kunit_expect_nothing(test);
}

/* B112, B113: it is pages that cost, not addresses */
static void sparse_area_is_cheap(struct kunit *test)
{
	/* A terabyte, if there is room for so much */
	const unsigned long huge = min(1UL << 28, TASK_SIZE / PAGE_SIZE / 4);
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr, steps, unmerged = 0;
	ktime_t began = ktime_get();

	addr = ksm_kunit_map(test, mm, huge);
	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr, 1, 0x61));
	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr + (huge / 2) *
						PAGE_SIZE, 1, 0x61));
	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr + (huge - 1) *
						PAGE_SIZE, 1, 0x61));
	ksm_kunit_offer(test, mm, addr, huge);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, 2, 0, 0);
	ksm_scan_lock();
	steps = ksm_kunit_pass();
	KUNIT_EXPECT_EQ(test, ksm_unmerge_all(), 0);
	unmerged = ksm_stats.records;
	ksm_scan_unlock();
	KUNIT_EXPECT_LE(test, steps, 4);
	KUNIT_EXPECT_EQ(test, unmerged, 0);
	KUNIT_EXPECT_LT(test, ktime_ms_delta(ktime_get(), began), 5000);
}

/* Not more pages than asked for are passed over in one step */
static void step_is_bounded(struct kunit *test)
{
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr, cursor = 0, last = 0, i;
	struct ksm_batch *batch;
	enum ksm_step step = KSM_STEP_BATCH;
	struct ksm_mm *owner;

	batch = kunit_kzalloc(test, sizeof(*batch), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, batch);
	addr = ksm_kunit_map(test, mm, 10 * KSM_BLOCK_PAGES);
	for (i = 0; i < 10 * KSM_BLOCK_PAGES; i++) {
		KUNIT_ASSERT_EQ(test, 0, ksm_kunit_poke(mm, addr +
							i * PAGE_SIZE, i));
		KUNIT_ASSERT_EQ(test, 0, ksm_kunit_poke(mm, addr + 1 +
							i * PAGE_SIZE,
							i >> 8));
	}
	ksm_kunit_offer(test, mm, addr, 10 * KSM_BLOCK_PAGES);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 0, 0, 10 * KSM_BLOCK_PAGES, 0);

	ksm_scan_lock();
	ksm_registry_rewind(KSM_CURSOR_SCAN, false);
	owner = ksm_registry_next(KSM_CURSOR_SCAN);
	for (i = 0; owner && i < 100 && step != KSM_STEP_END; i++) {
		if (!ksm_mm_begin(owner))
			break;
		step = ksm_scan_step(owner, &cursor, 1, batch);
		if (step == KSM_STEP_BATCH)
			ksm_climb_batch(batch);
		ksm_mm_end(owner);
		KUNIT_EXPECT_LE(test, batch->skipped, KSM_BLOCK_PAGES);
		KUNIT_EXPECT_TRUE(test, cursor > last || step == KSM_STEP_END);
		last = cursor;
	}
	KUNIT_EXPECT_EQ(test, step, KSM_STEP_END);
	KUNIT_EXPECT_GE(test, i, 10);
	ksm_kunit_check(test);
	ksm_scan_unlock();
	ksm_kunit_expect_pages(test, 0, 0, 10 * KSM_BLOCK_PAGES, 0);
}

/* Steps with no more than @most looks until the end of the mm; how many */
static unsigned int steps_to_end(struct kunit *test, unsigned int most,
				 unsigned int limit)
{
	struct ksm_batch *batch = kunit_kzalloc(test, sizeof(*batch), GFP_KERNEL);
	unsigned long cursor = 0, last = 0;
	enum ksm_step step = KSM_STEP_BATCH;
	struct ksm_mm *owner;
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, batch);
	ksm_scan_lock();
	ksm_registry_rewind(KSM_CURSOR_SCAN, false);
	owner = ksm_registry_next(KSM_CURSOR_SCAN);
	for (i = 0; owner && i < limit && step != KSM_STEP_END; i++) {
		if (!ksm_mm_begin(owner))
			break;
		step = ksm_scan_step(owner, &cursor, most, batch);
		if (step == KSM_STEP_BATCH)
			ksm_climb_batch(batch);
		ksm_mm_end(owner);
		KUNIT_EXPECT_TRUE(test, cursor > last || step == KSM_STEP_END);
		last = cursor;
	}
	ksm_check_all();
	ksm_scan_unlock();
	KUNIT_EXPECT_EQ(test, step, KSM_STEP_END);
	return i;
}

/* Addresses without a page do not come free if each has an empty table */
static void empty_tables_are_counted(struct kunit *test)
{
	const unsigned int nr_tables = 16;
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr, pages = nr_tables * PUD_SIZE / PAGE_SIZE;
	unsigned int i;

	if (TASK_SIZE / PAGE_SIZE / 4 < pages)
		kunit_skip(test, "no room");
	addr = ksm_kunit_map(test, mm, pages);
	for (i = 0; i < nr_tables; i++) {
		KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr + i * PUD_SIZE,
							1, 1 + i));
		KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr + i * PUD_SIZE +
							PUD_SIZE / 2, 1, 99));
	}
	ksm_kunit_offer(test, mm, addr, pages);
	ksm_kunit_passes(test, 2);
	ksm_kunit_expect_pages(test, 1, nr_tables - 1, nr_tables, 0);
	/* The most that the entries of two tables take */
	i = steps_to_end(test, 2 * PTRS_PER_PMD, 100);
	KUNIT_EXPECT_GE(test, i, nr_tables / 2);
	ksm_kunit_expect_pages(test, 1, nr_tables - 1, nr_tables, 0);
	/* Steps that end in the midst of what lost its pages */
	ksm_kunit_unmap(mm, addr, pages - 1);
	steps_to_end(test, PTRS_PER_PMD / 3, 1000);
	ksm_kunit_passes(test, 1);
	ksm_kunit_expect_nothing(test);
}

static struct kunit_case scan_cases[] = {
	KUNIT_CASE(counts_are_exact),
	KUNIT_CASE(smart_scan_off_reads_all),
	KUNIT_CASE(settled_page_meets_late_twin),
	KUNIT_CASE(store_is_noticed),
	KUNIT_CASE(new_frame_is_noticed),
	KUNIT_CASE(settled_pages_are_read_again),
	KUNIT_CASE(restless_page_is_left_alone),
	KUNIT_CASE(page_at_rest_meets_twin),
	KUNIT_CASE(merged_pages_are_passed_over),
	KUNIT_CASE(holes_lose_their_records),
	KUNIT_CASE(sparse_area_is_cheap),
	KUNIT_CASE(empty_tables_are_counted),
	KUNIT_CASE(step_is_bounded),
	{}
};

static struct kunit_suite scan_suite = {
	.name = "ksm_scan",
	.init = scan_init,
	.exit = scan_exit,
	.test_cases = scan_cases,
};

kunit_test_suite(scan_suite);
