// SPDX-License-Identifier: GPL-2.0
/*
 * KSM and transparent huge pages: a huge page is split when one of its parts
 * can be merged, and only then; what does not merge keeps its bytes; a pin
 * holds a split up but loses no reference; khugepaged and ksmd do not undo
 * each other's work for ever.
 */
#include "../kselftest_harness.h"
#include <sys/uio.h>
#include "ksm_util.h"
#include "ksm_env.h"

#define HUGE_SIZE	(2UL << 20)
#define NR_SUB		((long)(HUGE_SIZE / ksm_psize()))
#define SEED		0x7e49
#define THP_DIR		"/sys/kernel/mm/transparent_hugepage/"
#define KHUGE_DIR	THP_DIR "khugepaged/"

FIXTURE(ksm_thp) {
	char *p;		/* an aligned place for one huge page */
};

/* An aligned place of HUGE_SIZE bytes with nothing in it yet. */
static char *huge_place(void)
{
	char *p;

	p = mmap(NULL, 2 * HUGE_SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	p = (char *)(((unsigned long)p + HUGE_SIZE - 1) & -HUGE_SIZE);
	return madvise(p, HUGE_SIZE, MADV_HUGEPAGE) ? NULL : p;
}

static bool is_huge(const char *p)
{
	return ksm_smaps_kb(0, p, "AnonHugePages") == HUGE_SIZE / 1024;
}

/*
 * A new mapping at the old place, not mergeable: only there, where no page
 * table is left, a fault may bring in a huge page.
 */
static bool renew(char *p)
{
	char *q = mmap(p, HUGE_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	return q == p && !madvise(p, HUGE_SIZE, MADV_HUGEPAGE);
}

/* Page i of a new mapping gets seed + i * step; is it one huge page then? */
static bool fill_huge(char *p, uint64_t seed, uint64_t step)
{
	if (!renew(p))
		return false;
	ksm_fill_range(p, NR_SUB, seed, step);
	return is_huge(p);
}

FIXTURE_SETUP(ksm_thp)
{
	const char *why = ksm_env_missing(0);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	ksm_put(THP_DIR "enabled", "madvise");
	/* khugepaged keeps out of all tests that do not ask for it. */
	ksm_put(KHUGE_DIR "scan_sleep_millisecs", "600000");
	self->p = huge_place();
	if (!self->p || !fill_huge(self->p, SEED, 1))
		SKIP(return, "no huge page to be had");
}

FIXTURE_TEARDOWN(ksm_thp)
{
	ksm_keep_restore();
	ksm_finish(__test_passed(_metadata));
}

static char *sub(char *p, long i)
{
	return p + (size_t)i * ksm_psize();
}

/* B71: 512 equal parts of one huge page come to share one frame. */
TEST_F_TIMEOUT(ksm_thp, all_parts_equal, 60)
{
	char *p = self->p;

	ASSERT_EQ(0, ksm_set("max_page_sharing", 1024));
	ASSERT_TRUE(fill_huge(p, SEED, 0));
	ASSERT_EQ(0, ksm_mergeable(p, NR_SUB));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_SUB, (long)ksm_count_same(p, NR_SUB));
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(NR_SUB - 1, ksm_get("pages_sharing"));
	EXPECT_EQ(0UL, ksm_count_bad(p, NR_SUB, SEED, 0));
	/* All the other frames of the huge page have been given back. */
	EXPECT_EQ(0, ksm_smaps_kb(0, p, "AnonHugePages"));
}

/* Lend @npages to a pipe, which holds a reference on each. */
static int pin(char *p, long npages, int *pipefd)
{
	struct iovec iov = { p, (size_t)npages * ksm_psize() };

	if (pipe(pipefd))
		return -errno;
	if (vmsplice(pipefd[1], &iov, 1, 0) != (ssize_t)iov.iov_len)
		return -EIO;
	return 0;
}

static void unpin(int *pipefd)
{
	close(pipefd[0]);
	close(pipefd[1]);
}

/*
 * A huge page that cannot be split, as a pipe holds a part of it, does not keep
 * others apart that have the contents of its parts.
 */
TEST_F_TIMEOUT(ksm_thp, one_held_part_holds_up_nobody, 60)
{
	const long pinned = 137, nr = 64;
	char *p = self->p, *q, *r;
	int fd[2];

	ASSERT_TRUE(fill_huge(p, SEED, 1));
	ASSERT_EQ(0, pin(sub(p, pinned), 1, fd));
	ASSERT_EQ(0, ksm_mergeable(p, NR_SUB));
	ASSERT_EQ(0, ksm_scan(4));
	q = ksm_map_filled(nr, SEED, 1);
	r = ksm_map_filled(nr, SEED, 1);
	ASSERT_NE(NULL, q);
	ASSERT_NE(NULL, r);
	ASSERT_EQ(0, ksm_scan(6));
	EXPECT_EQ(nr, ksm_get("pages_shared"));
	EXPECT_EQ(nr, ksm_get("pages_sharing"));
	EXPECT_TRUE(ksm_same_frame(q, r));
	EXPECT_TRUE(ksm_same_frame(sub(q, nr - 1), sub(r, nr - 1)));
	unpin(fd);
	/* When nobody holds it any more it joins them. */
	ASSERT_EQ(0, ksm_scan(40));
	EXPECT_EQ(2 * nr, ksm_get("pages_sharing"));
	EXPECT_EQ(0UL, ksm_count_bad(p, NR_SUB, SEED, 1));
	EXPECT_EQ(0UL, ksm_count_bad(q, nr, SEED, 1));
	ksm_unmap(q, nr);
	ksm_unmap(r, nr);
}

/*
 * B37, B71: one part pinned: whatever ksmd does about that, the pinned page
 * stays in its frame, and merges with the others once it is free.
 */
TEST_F_TIMEOUT(ksm_thp, all_parts_equal_one_pinned, 60)
{
	const long pinned = 137;
	uint64_t pfn;
	char *p = self->p;
	int fd[2];

	ASSERT_EQ(0, ksm_set("max_page_sharing", 1024));
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	ASSERT_TRUE(fill_huge(p, SEED, 0));
	ASSERT_EQ(0, ksm_mergeable(p, NR_SUB));
	ASSERT_EQ(0, pin(sub(p, pinned), 1, fd));
	pfn = ksm_pfn(0, sub(p, pinned));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(pfn, ksm_pfn(0, sub(p, pinned)));
	EXPECT_EQ(0UL, ksm_count_bad(p, NR_SUB, SEED, 0));

	unpin(fd);
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_SUB, (long)ksm_count_same(p, NR_SUB));
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(NR_SUB - 1, ksm_get("pages_sharing"));
	EXPECT_EQ(0UL, ksm_count_bad(p, NR_SUB, SEED, 0));
}

#define NR_ROUNDS	16

/*
 * A huge page of equal parts comes, cannot merge for a pin, merges, and goes;
 * many times.  The number of the round that went wrong, or 0.
 */
static int act_pin_rounds(struct ksm_act *a)
{
	char *p = huge_place();
	int i, ret, fd[2];

	(void)a;
	for (i = 1; p && i <= NR_ROUNDS; i++) {
		if (!fill_huge(p, SEED + i, 0) || ksm_mergeable(p, NR_SUB) ||
		    pin(sub(p, i * 31), 1, fd))
			return i;
		ret = ksm_scan(3);
		unpin(fd);
		if (ret || ksm_scan(3) ||
		    ksm_count_same(p, NR_SUB) != (size_t)NR_SUB ||
		    ksm_unmergeable(p, NR_SUB) ||
		    ksm_count_bad(p, NR_SUB, SEED + i, 0))
			return i;
		munmap(p, HUGE_SIZE);
	}
	return p ? 0 : -ENOMEM;
}

/*
 * B71: a reference lost on the way would keep up to 2 MiB a round, charged to
 * the group of the process.
 */
TEST_F_TIMEOUT(ksm_thp, no_reference_is_lost, 90)
{
	struct ksm_env *env = ksm_env();
	struct ksm_puppet puppet;
	long long before;

	if (env->no_cg)
		SKIP(return, "%s", env->no_cg);
	ASSERT_EQ(0, ksm_set("max_page_sharing", 1024));
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	ASSERT_EQ(0, ksm_puppet_start(&puppet, env->cg));
	before = ksm_cg_num(env->cg, "memory.current");
	ASSERT_EQ(0, ksm_do(&puppet, act_pin_rounds));
	ASSERT_EQ(0, ksm_unshare_all());
	EXPECT_TRUE(ksm_wait_for(ksm_cg_num(env->cg, "memory.current") -
				 before < (long long)HUGE_SIZE * 4, 10)) {
		TH_LOG("%lld bytes charged before, %lld after", before,
		       ksm_cg_num(env->cg, "memory.current"));
	}
	EXPECT_EQ(0, ksm_puppet_end(&puppet));
}

/* A huge page without anything to merge stays whole, pass for pass. */
TEST_F_TIMEOUT(ksm_thp, unique_parts_are_not_split, 60)
{
	char *p = self->p;
	uint64_t pfn;

	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	ASSERT_TRUE(is_huge(p));
	ASSERT_EQ(0, ksm_mergeable(p, NR_SUB));
	pfn = ksm_pfn(0, p);
	ASSERT_EQ(0, ksm_scan(10));
	EXPECT_TRUE(is_huge(p));
	EXPECT_EQ(pfn, ksm_pfn(0, p));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	/* Other memory merges beside it. */
	ASSERT_NE(NULL, ksm_map_filled(8, SEED + 100000, 0));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(7, ksm_get("pages_sharing"));
	EXPECT_TRUE(is_huge(p));
	EXPECT_EQ(NR_SUB, ksm_get("pages_unshared"));
	EXPECT_EQ(0UL, ksm_count_bad(p, NR_SUB, SEED, 1));
}

/*
 * A settled huge page is not split, and each of its parts read but once in 32
 * passes; yet a store into any part is noticed, and that part meets its twin.
 */
TEST_F_TIMEOUT(ksm_thp, store_into_settled, 90)
{
	long long reads, passes;
	char *p = self->p, *twin;

	ASSERT_EQ(0, ksm_mergeable(p, NR_SUB));
	twin = ksm_map_filled(1, SEED + 7777, 1);
	ASSERT_NE(NULL, twin);
	/* So many that even the last part is watched */
	ASSERT_EQ(0, ksm_scan(40));
	EXPECT_EQ(NR_SUB + 1, ksm_get("pages_unshared"));
	reads = ksm_get("pages_scanned");
	passes = ksm_get("full_scans");
	ASSERT_EQ(0, ksm_scan(64));
	reads = ksm_get("pages_scanned") - reads;
	passes = ksm_get("full_scans") - passes;
	EXPECT_LE(reads, (NR_SUB + 1) * (passes / 32 + 1));
	EXPECT_TRUE(is_huge(p));

	ksm_fill(sub(p, 300), SEED + 7777);
	ASSERT_EQ(0, ksm_scan(3));
	EXPECT_EQ(1, ksm_get("pages_sharing"));
	EXPECT_TRUE(ksm_same_frame(sub(p, 300), twin));
	ksm_fill(sub(p, 300), SEED + 300);
	EXPECT_EQ(0UL, ksm_count_bad(p, NR_SUB, SEED, 1));
	EXPECT_EQ(0UL, ksm_count_bad(twin, 1, SEED + 7777, 1));
}

/* Verify the huge page, and say so, until the parent has seen enough. */
static int heir(struct ksm_child *c)
{
	char *p = c->arg;
	int val;

	if (ksm_say(c, is_huge(p)))
		return 1;
	while (!ksm_hear(c, &val) && val) {
		if (ksm_say(c, is_huge(p) && !ksm_count_bad(p, NR_SUB, SEED, 1)))
			return 1;
	}
	return 0;
}

/* A huge page that was inherited is its own twin: it is not split for that. */
TEST_F_TIMEOUT(ksm_thp, inherited_is_not_split, 60)
{
	struct ksm_child c = { 0 };
	char *p = self->p;
	int val;

	ASSERT_EQ(0, ksm_mergeable(p, NR_SUB));
	ASSERT_EQ(0, ksm_spawn(&c, heir, p));
	ASSERT_EQ(0, ksm_hear(&c, &val));
	ASSERT_EQ(1, val);
	ASSERT_EQ(0, ksm_scan(40));
	EXPECT_TRUE(is_huge(p));
	EXPECT_EQ(1, ksm_ask(&c, 1));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(2 * NR_SUB, ksm_get("pages_unshared"));
	EXPECT_EQ(0, ksm_reap(&c));
}

/* One part has a twin elsewhere: it merges, the other 511 stay as they are. */
TEST_F_TIMEOUT(ksm_thp, one_part_merges, 60)
{
	const long which = 300;
	char *p = self->p, *twin;
	long i, same = 0;

	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	twin = ksm_map_filled(1, SEED + which, 0);
	ASSERT_NE(NULL, twin);
	ASSERT_TRUE(is_huge(p));
	ASSERT_EQ(0, ksm_mergeable(p, NR_SUB));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_TRUE(ksm_same_frame(twin, sub(p, which)));
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(1, ksm_get("pages_sharing"));
	EXPECT_EQ(NR_SUB - 1, ksm_get("pages_unshared"));
	for (i = 0; i < NR_SUB; i++)
		same += ksm_same_frame(twin, sub(p, i));
	EXPECT_EQ(1, same);
	EXPECT_EQ(NR_SUB, (long)ksm_count_frames(p, NR_SUB));
	EXPECT_EQ(0UL, ksm_count_bad(p, NR_SUB, SEED, 1));

	/* Each of the others is still watched: it merges when its turn is. */
	ksm_fill(sub(p, 7), SEED + which);
	ksm_fill(sub(p, 8), SEED + 9);
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_TRUE(ksm_same_frame(twin, sub(p, 7)));
	EXPECT_TRUE(ksm_same_frame(sub(p, 8), sub(p, 9)));
	EXPECT_EQ(2, ksm_get("pages_shared"));
	EXPECT_EQ(3, ksm_get("pages_sharing"));
}

/* Two huge pages with the same contents, part by part, in two processes. */
static int twin_process(struct ksm_child *c)
{
	char *p = huge_place();
	int cmd;

	if (!p || !fill_huge(p, SEED, 1) || ksm_mergeable(p, NR_SUB))
		return 1;
	if (ksm_say(c, 0) || ksm_hear(c, &cmd))
		return 1;
	return ksm_count_bad(p, NR_SUB, SEED, 1) ? 1 : 0;
}

/* B71 between processes: every part of one merges with its twin in the other. */
TEST_F_TIMEOUT(ksm_thp, two_huge_twins, 90)
{
	struct ksm_child c;
	char *p = self->p;
	int ready;

	ASSERT_EQ(0, ksm_spawn(&c, twin_process, NULL));
	ASSERT_EQ(0, ksm_hear(&c, &ready));
	ASSERT_TRUE(is_huge(p));
	ASSERT_EQ(0, ksm_mergeable(p, NR_SUB));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_SUB, ksm_get("pages_shared"));
	EXPECT_EQ(NR_SUB, ksm_get("pages_sharing"));
	EXPECT_EQ(NR_SUB, ksm_merging(0));
	EXPECT_EQ(NR_SUB, ksm_merging(c.pid));
	EXPECT_EQ(0UL, ksm_count_bad(p, NR_SUB, SEED, 1));
	EXPECT_EQ(0, ksm_say(&c, 0));
	EXPECT_EQ(0, ksm_reap(&c));
}

/*
 * B37, B72: equal huge pages come and go and are written to while ksmd splits
 * and merges at full rate: no write is lost, no page half merged.
 */
static int huge_writer(struct ksm_child *c)
{
	double end = ksm_now() + 6 * ksm_slowness();
	char *p = huge_place();
	uint64_t seed = SEED;
	long i;

	(void)c;
	if (!p)
		return 1;
	while (ksm_now() < end) {
		/* A new huge page: 64 contents, 8 parts each. */
		seed += 1000;
		if (!renew(p) || ksm_mergeable(p, NR_SUB))
			return 1;
		for (i = 0; i < NR_SUB; i++)
			ksm_fill(sub(p, i), seed + i % 64);
		ksm_nap_us(100000 * ksm_slowness());
		/* Write to some while ksmd is at it. */
		for (i = 0; i < NR_SUB; i += 5)
			ksm_fill(sub(p, i), seed + 64 + i % 3);
		for (i = 0; i < NR_SUB; i++)
			if (!ksm_is(sub(p, i), i % 5 ? seed + i % 64 :
						       seed + 64 + i % 3))
				return 2;
	}
	return 0;
}

/* B37, B72. */
TEST_F_TIMEOUT(ksm_thp, writers_beside_splits, 60)
{
	long long cow = ksm_vmstat("cow_ksm");
	struct ksm_child c[2];
	int i;

	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, ksm_spawn(&c[i], huge_writer, NULL));
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, ksm_reap(&c[i]));
	/* Some of the writes did hit merged pages. */
	EXPECT_GT(ksm_vmstat("cow_ksm"), cow);
}

static void fast_khugepaged(const char *ptes_shared)
{
	ksm_put(KHUGE_DIR "max_ptes_none", "511");
	ksm_put(KHUGE_DIR "max_ptes_shared", ptes_shared);
	ksm_put(KHUGE_DIR "pages_to_scan", "65536");
	ksm_put(KHUGE_DIR "alloc_sleep_millisecs", "10");
	ksm_put(KHUGE_DIR "scan_sleep_millisecs", "10");
	ksm_put(KHUGE_DIR "defrag", "1");
}

/*
 * B74: most of each of four huge places is merged, more than khugepaged may
 * collapse over; with both threads at full rate sharing and huge pages come to
 * rest, and the data is right.
 */
TEST_F_TIMEOUT(ksm_thp, khugepaged_and_ksmd_settle, 90)
{
	const long merging = 300, places = 4;
	long long sharing, huge, now = 0;
	char *p[4];
	double end;
	long i, n;

	ASSERT_EQ(0, ksm_set("max_page_sharing", 4096));
	for (n = 0; n < places; n++) {
		p[n] = n ? huge_place() : self->p;
		ASSERT_NE(NULL, p[n]);
		madvise(p[n], HUGE_SIZE, MADV_DONTNEED);
		for (i = 0; i < NR_SUB; i++)
			ksm_fill(sub(p[n], i), i < merging ? SEED :
				 SEED + n * NR_SUB + i);
		ASSERT_EQ(0, ksm_mergeable(p[n], NR_SUB));
	}
	fast_khugepaged("256");
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 10));
	ASSERT_EQ(0, ksm_start());
	EXPECT_TRUE(ksm_wait_for(ksm_get("pages_sharing") ==
				 places * merging - 1, KSM_WAIT_SECS));
	ASSERT_EQ(0, ksm_wait_passes(3));

	/* From here on nothing may change, however long we look. */
	sharing = ksm_get("pages_sharing");
	huge = ksm_smaps_kb(0, p[0], "AnonHugePages");
	for (end = ksm_now() + 5; ksm_now() < end; ) {
		now = ksm_get("pages_sharing");
		if (now != sharing)
			break;
		ksm_nap_us(20000);
	}
	EXPECT_EQ(sharing, now);
	EXPECT_EQ(places * merging - 1, now);
	EXPECT_EQ(huge, ksm_smaps_kb(0, p[0], "AnonHugePages"));
	for (n = 0; n < places; n++)
		for (i = 0; i < NR_SUB; i++)
			EXPECT_TRUE(ksm_is(sub(p[n], i), i < merging ? SEED :
					   SEED + n * NR_SUB + i));
}

/*
 * B74, B83: khugepaged may collapse over anything, merged pages and KSM's
 * zero pages included: both fight, no byte is lost, the counters come back
 * to zero.
 */
TEST_F_TIMEOUT(ksm_thp, khugepaged_against_ksmd, 90)
{
	long i, version = 0, bad = 0;
	char *p = self->p;
	double end;

	fast_khugepaged("511");
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	ASSERT_EQ(0, ksm_mergeable(p, NR_SUB));
	ASSERT_EQ(0, ksm_start());
	for (end = ksm_now() + 8; !bad && ksm_now() < end; ) {
		version++;
		for (i = 0; i < NR_SUB; i++)
			if (i & 1)
				memset(sub(p, i), 0, ksm_psize());
			else
				ksm_fill(sub(p, i), SEED + version + i % 8);
		ksm_nap_us(300000);
		for (i = 0; i < NR_SUB; i++) {
			static const char zero[4096];

			if (i & 1)
				bad += !!memcmp(sub(p, i), zero,
						sizeof(zero));
			else
				bad += !ksm_is(sub(p, i),
					       SEED + version + i % 8);
		}
	}
	EXPECT_EQ(0, bad);
	EXPECT_GT(version, 1);
	munmap(p, HUGE_SIZE);
	EXPECT_TRUE(ksm_wait_for(ksm_all_zero(), KSM_WAIT_SECS));
}

/*
 * B76: huge pages of zeros, under both settings of use_zero_pages: KSM's own
 * zero pages appear only when they may, and every page can be written again.
 */
TEST_F_TIMEOUT(ksm_thp, huge_zeros, 60)
{
	char *p = self->p;
	long i, zero;

	for (zero = 0; zero < 2; zero++) {
		ASSERT_EQ(0, ksm_set("use_zero_pages", zero));
		ASSERT_TRUE(renew(p));
		memset(p, 0, HUGE_SIZE);
		ASSERT_TRUE(is_huge(p));
		ASSERT_EQ(0, ksm_mergeable(p, NR_SUB));
		ASSERT_EQ(0, ksm_scan_settle());
		TH_LOG("use_zero_pages=%ld: %lld zero pages, %lld merged, %lld kB in RAM",
		       zero, ksm_zero_placed(), ksm_merging(0),
		       ksm_smaps_kb(0, p, "Rss"));
		if (!zero)
			EXPECT_EQ(0, ksm_zero_placed());
		for (i = 0; i < (long)HUGE_SIZE; i += 4096 + 8)
			ASSERT_EQ(0, p[i]);
		ksm_fill_range(p, NR_SUB, SEED + zero, 1);
		EXPECT_EQ(0, ksm_zero_placed());
		EXPECT_EQ(0UL, ksm_count_bad(p, NR_SUB, SEED + zero, 1));
		ASSERT_EQ(0, ksm_unmergeable(p, NR_SUB));
	}
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(KSM_WITH_CGROUP);
	ksm_keep(THP_DIR "enabled");
	ksm_keep(KHUGE_DIR "max_ptes_none");
	ksm_keep(KHUGE_DIR "max_ptes_shared");
	ksm_keep(KHUGE_DIR "pages_to_scan");
	ksm_keep(KHUGE_DIR "alloc_sleep_millisecs");
	ksm_keep(KHUGE_DIR "scan_sleep_millisecs");
	ksm_keep(KHUGE_DIR "defrag");
	return test_harness_run(argc, argv);
}
