// SPDX-License-Identifier: GPL-2.0
/*
 * KSM: the soft-dirty and uffd-wp bits of a page survive its merging.
 *
 * Incremental checkpoints (soft-dirty, /proc/PID/clear_refs and pagemap bit
 * 55) and write tracking by userfaultfd (bit 57) rely on bits in the PTE.
 * When KSM replaces the PTE it must carry them over, or leave the page alone:
 * a lost bit is a page that a checkpoint misses.  A bit that comes from
 * nowhere is as wrong.
 */
#include "../kselftest_harness.h"
#include "ksm_util.h"
#include "ksm_env.h"

#define NR_PAGES	32
#define SEED		0x50f7
#define HUGE_SIZE	(2UL << 20)
#define NR_SUB		(HUGE_SIZE / ksm_psize())

FIXTURE(ksm_softdirty) {
	char *p;
};

static int reset_soft_dirty(void)
{
	return ksm_put("/proc/self/clear_refs", "4");
}

static bool soft_dirty(const char *page)
{
	return ksm_pagemap(0, page) & PM_SOFT_DIRTY;
}

static bool uffd_wp(const char *page)
{
	return ksm_pagemap(0, page) & PM_UFFD_WP;
}

/* Write one byte of the page, and the same as before. */
static void touch(char *page)
{
	__atomic_fetch_or(page, 0, __ATOMIC_RELAXED);
}

/* Does the kernel track soft-dirty pages at all? */
static bool soft_dirty_works(void)
{
	char *p = ksm_map(1);
	bool works = false;

	if (!p)
		return false;
	*p = 1;
	if (!reset_soft_dirty() && !soft_dirty(p)) {
		touch(p);
		works = soft_dirty(p);
	}
	ksm_unmap(p, 1);
	return works;
}

FIXTURE_SETUP(ksm_softdirty)
{
	const char *why = ksm_env_missing(0);

	if (!why && !soft_dirty_works())
		why = "no soft-dirty bit";
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
}

FIXTURE_TEARDOWN(ksm_softdirty)
{
	ksm_finish(__test_passed(_metadata));
}

/* Two halves of NR_PAGES pages, each page a twin of that in the other half. */
static char *map_twins(uint64_t seed, bool zeros)
{
	char *p = ksm_map(2 * NR_PAGES);
	size_t i;

	if (!p)
		return NULL;
	for (i = 0; i < 2 * NR_PAGES; i++)
		if (zeros)
			memset(p + i * ksm_psize(), 0, ksm_psize());
		else
			ksm_fill(p + i * ksm_psize(), seed + i % NR_PAGES);
	return ksm_mergeable(p, 2 * NR_PAGES) ? NULL : p;
}

/* Bit 0 of the number decides about the first half, bit 1 about the second. */
static bool chosen(size_t i)
{
	return i < NR_PAGES ? i & 1 : i & 2;
}

/* Touch the chosen pages; whether exactly those were soft-dirty then. */
static bool touch_chosen(char *p)
{
	size_t i;

	for (i = 0; i < 2 * NR_PAGES; i++)
		if (chosen(i))
			touch(p + i * ksm_psize());
	for (i = 0; i < 2 * NR_PAGES; i++)
		if (soft_dirty(p + i * ksm_psize()) != chosen(i))
			return false;
	return true;
}

struct bits {
	int lost;
	int gained;
};

static struct bits compare_soft_dirty(const char *p)
{
	struct bits b = {};
	size_t i;

	for (i = 0; i < 2 * NR_PAGES; i++) {
		bool now = soft_dirty(p + i * ksm_psize());

		b.lost += chosen(i) && !now;
		b.gained += !chosen(i) && now;
	}
	return b;
}

/*
 * D7, B98: all four pairings of a soft-dirty and a clean page; none loses its
 * bit and none gains one.
 */
TEST_F_TIMEOUT(ksm_softdirty, merge_keeps_soft_dirty, 60)
{
	struct bits b;
	char *p;

	p = map_twins(SEED, false);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, reset_soft_dirty());
	ASSERT_TRUE(touch_chosen(p));
	ASSERT_EQ(0, ksm_scan_settle());
	TH_LOG("%lld of %d pages merged", ksm_merging(0), 2 * NR_PAGES);
	b = compare_soft_dirty(p);
	EXPECT_EQ(0, b.lost);
	EXPECT_EQ(0, b.gained);
	EXPECT_EQ(0UL, ksm_count_bad(p, NR_PAGES, SEED, 1));
	EXPECT_EQ(0UL, ksm_count_bad(p + NR_PAGES * ksm_psize(), NR_PAGES,
				     SEED, 1));
}

/* D7: pages that were clean are merged as ever: tracking costs no sharing. */
TEST_F_TIMEOUT(ksm_softdirty, clean_pages_merge, 60)
{
	size_t i;
	char *p;

	p = map_twins(SEED, false);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, reset_soft_dirty());
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(2 * NR_PAGES, ksm_merging(0));
	for (i = 0; i < 2 * NR_PAGES; i++)
		EXPECT_FALSE(soft_dirty(p + i * ksm_psize()));
}

/* D7: the same for zeros, which become the shared zero page. */
TEST_F_TIMEOUT(ksm_softdirty, zero_pages_keep_soft_dirty, 60)
{
	struct bits b;
	char *p;

	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	p = map_twins(0, true);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, reset_soft_dirty());
	ASSERT_TRUE(touch_chosen(p));
	ASSERT_EQ(0, ksm_scan_settle());
	TH_LOG("%lld of %d pages are the zero page", ksm_zero_placed(),
	       2 * NR_PAGES);
	b = compare_soft_dirty(p);
	EXPECT_EQ(0, b.lost);
	EXPECT_EQ(0, b.gained);
}

/*
 * A write to a merged page after clear_refs marks that page, and its twin in
 * the same frame stays clean; so does an unmerging that writes nothing (B96).
 */
TEST_F_TIMEOUT(ksm_softdirty, only_writes_mark, 60)
{
	size_t half = NR_PAGES * ksm_psize(), i;
	char *p;

	p = map_twins(SEED, false);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(2 * NR_PAGES, ksm_merging(0));
	ASSERT_EQ(0, reset_soft_dirty());
	touch(p);
	EXPECT_TRUE(soft_dirty(p));
	EXPECT_FALSE(soft_dirty(p + half));

	ASSERT_EQ(0, ksm_unmergeable(p, 2 * NR_PAGES));
	EXPECT_EQ(0, ksm_smaps_kb(0, p, "KSM"));
	EXPECT_TRUE(soft_dirty(p));
	for (i = 1; i < 2 * NR_PAGES; i++)
		EXPECT_FALSE(soft_dirty(p + i * ksm_psize()));
}

/* Write-protect the chosen pages of @p by userfaultfd; 0 or -errno. */
static int protect_chosen(int fd, char *p)
{
	size_t i;
	int ret;

	ret = ksm_uffd_register(fd, p, 2 * NR_PAGES,
				UFFDIO_REGISTER_MODE_WP);
	for (i = 0; !ret && i < 2 * NR_PAGES; i++)
		if (chosen(i))
			ret = ksm_uffd_protect(fd, p + i * ksm_psize(), 1,
					       true);
	for (i = 0; !ret && i < 2 * NR_PAGES; i++)
		if (uffd_wp(p + i * ksm_psize()) != chosen(i))
			ret = -EINVAL;
	return ret;
}

static struct bits compare_uffd_wp(const char *p)
{
	struct bits b = {};
	size_t i;

	for (i = 0; i < 2 * NR_PAGES; i++) {
		bool now = uffd_wp(p + i * ksm_psize());

		b.lost += chosen(i) && !now;
		b.gained += !chosen(i) && now;
	}
	return b;
}

/* D7, B98: write-protected by userfaultfd before the merge. */
TEST_F_TIMEOUT(ksm_softdirty, merge_keeps_uffd_wp, 60)
{
	struct bits b;
	char *p;
	int fd;

	p = map_twins(SEED, false);
	ASSERT_NE(NULL, p);
	fd = ksm_uffd_open(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	if (fd < 0)
		SKIP(return, "no userfaultfd write protection");
	ASSERT_EQ(0, protect_chosen(fd, p));
	ASSERT_EQ(0, ksm_scan_settle());
	TH_LOG("%lld of %d pages merged", ksm_merging(0), 2 * NR_PAGES);
	b = compare_uffd_wp(p);
	EXPECT_EQ(0, b.lost);
	EXPECT_EQ(0, b.gained);
	/* A quarter of the pairs has no protected page: those do merge. */
	EXPECT_GE(ksm_merging(0), NR_PAGES / 2);
	close(fd);
}

/* D7: and with zeros. */
TEST_F_TIMEOUT(ksm_softdirty, zero_pages_keep_uffd_wp, 60)
{
	struct bits b;
	char *p;
	int fd;

	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	p = map_twins(0, true);
	ASSERT_NE(NULL, p);
	fd = ksm_uffd_open(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	if (fd < 0)
		SKIP(return, "no userfaultfd write protection");
	ASSERT_EQ(0, protect_chosen(fd, p));
	ASSERT_EQ(0, ksm_scan_settle());
	TH_LOG("%lld of %d pages are the zero page", ksm_zero_placed(),
	       2 * NR_PAGES);
	b = compare_uffd_wp(p);
	EXPECT_EQ(0, b.lost);
	EXPECT_EQ(0, b.gained);
	EXPECT_GE(ksm_zero_placed(), NR_PAGES);
	close(fd);
}

/* An aligned huge page of zeros, mergeable; NULL if it cannot be had. */
static char *map_huge_zeros(void)
{
	char *p, *at;

	p = mmap(NULL, 2 * HUGE_SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	at = (char *)(((unsigned long)p + HUGE_SIZE - 1) & -HUGE_SIZE);
	if (madvise(at, HUGE_SIZE, MADV_HUGEPAGE))
		return NULL;
	memset(at, 0, HUGE_SIZE);
	if (ksm_smaps_kb(0, at, "AnonHugePages") != HUGE_SIZE / 1024)
		return NULL;
	return ksm_mergeable(at, NR_SUB) ? NULL : at;
}

/*
 * B75: a huge page of zeros, all of it soft-dirty, which ksmd may split to
 * merge its parts: each part keeps the bit.
 */
TEST_F_TIMEOUT(ksm_softdirty, split_keeps_soft_dirty, 60)
{
	size_t i;
	int zero, lost;
	char *p;

	for (zero = 0; zero < 2; zero++) {
		ASSERT_EQ(0, ksm_set("use_zero_pages", zero));
		p = map_huge_zeros();
		if (!p)
			SKIP(return, "no huge page to be had");
		ASSERT_EQ(0, reset_soft_dirty());
		memset(p, 0, HUGE_SIZE);
		ASSERT_EQ(0, ksm_scan_settle());
		for (i = 0, lost = 0; i < NR_SUB; i++)
			lost += !soft_dirty(p + i * ksm_psize());
		TH_LOG("use_zero_pages=%d: %lld kB huge, %lld kB in RAM, %lld merged",
		       zero, ksm_smaps_kb(0, p, "AnonHugePages"),
		       ksm_smaps_kb(0, p, "Rss"), ksm_merging(0));
		EXPECT_EQ(0, lost);
		munmap(p, HUGE_SIZE);
	}
}

/*
 * B75: the same, half of it write-protected by userfaultfd.  That half is not
 * to be merged, but it is for the other one that the huge page is split.
 */
TEST_F_TIMEOUT(ksm_softdirty, split_keeps_uffd_wp, 60)
{
	int zero, lost, gained, fd;
	size_t i;
	char *p;

	for (zero = 0; zero < 2; zero++) {
		ASSERT_EQ(0, ksm_set("use_zero_pages", zero));
		p = map_huge_zeros();
		if (!p)
			SKIP(return, "no huge page to be had");
		fd = ksm_uffd_open(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
		if (fd < 0)
			SKIP(return, "no userfaultfd write protection");
		ASSERT_EQ(0, ksm_uffd_register(fd, p, NR_SUB,
					       UFFDIO_REGISTER_MODE_WP));
		ASSERT_EQ(0, ksm_uffd_protect(fd, p, NR_SUB / 2, true));
		ASSERT_EQ(0, ksm_scan_settle());
		for (i = 0, lost = 0, gained = 0; i < NR_SUB; i++) {
			bool now = uffd_wp(p + i * ksm_psize());

			lost += i < NR_SUB / 2 && !now;
			gained += i >= NR_SUB / 2 && now;
		}
		TH_LOG("use_zero_pages=%d: %lld kB in RAM, %lld merged", zero,
		       ksm_smaps_kb(0, p, "Rss"), ksm_merging(0));
		EXPECT_EQ(0, lost);
		EXPECT_EQ(0, gained);
		/* Not split, it would be in RAM as a whole. */
		EXPECT_LE(ksm_smaps_kb(0, p, "Rss"), HUGE_SIZE / 1024 / 2);
		close(fd);
		munmap(p, HUGE_SIZE);
	}
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(0);
	return test_harness_run(argc, argv);
}
