// SPDX-License-Identifier: GPL-2.0
/*
 * use_zero_pages=1: pages of zeros are replaced by the zero page of the
 * kernel.  The invariant of every test here is that ksm_zero_pages, the sum
 * of the processes' own counts and the number of such mappings are one and
 * the same, whatever is done to the mappings.
 */
#include "../kselftest_harness.h"
#include "ksm_util.h"

#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <linux/userfaultfd.h>

#ifndef UFFDIO_MOVE
#define UFFD_FEATURE_MOVE	0x10000

struct uffdio_move {
	__u64 dst;
	__u64 src;
	__u64 len;
	__u64 mode;
	__s64 move;
};

#define UFFDIO_MOVE		_IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif

#define NR_PAGES	32

/* Registered memory that holds zeros in pages of its own. */
static char *map_zeros(size_t npages)
{
	size_t len = npages * ksm_psize();
	char *p = ksm_map(npages);

	if (!p)
		return NULL;
	memset(p, 1, len);
	ksm_barrier();
	memset(p, 0, len);
	ksm_barrier();
	if (!ksm_mergeable(p, npages))
		return p;
	ksm_unmap(p, npages);
	return NULL;
}

/* How many of n pages of a process lie in the frame given. */
static long long count_in(pid_t pid, uint64_t pfn, const char *p, size_t n)
{
	long long count = 0;
	size_t i;

	for (i = 0; i < n; i++)
		count += ksm_pfn(pid, p + i * ksm_psize()) == pfn;
	return count;
}

static bool all_zero(const char *p, size_t npages)
{
	size_t i, len = npages * ksm_psize();

	ksm_barrier();
	for (i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

FIXTURE(zero)
{
	uint64_t pfn;		/* of the zero page */
	long long before;	/* ksm_zero_pages when the test began */
};

FIXTURE_SETUP(zero)
{
	const char *why = ksm_missing();

	if (why)
		SKIP(return, "%s", why);
	if (!ksm_has("ksm_zero_pages"))
		SKIP(return, "no ksm_zero_pages in this kernel");
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	self->pfn = ksm_zero_pfn();
	ASSERT_NE(0, self->pfn);
	self->before = ksm_get("ksm_zero_pages");
	ASSERT_NE(KSM_BAD, self->before);
}

FIXTURE_TEARDOWN(zero)
{
	prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0);
	ksm_finish(__test_passed(_metadata));
}

/* The invariant for one area of the caller, with ksmd stopped. */
#define EXPECT_EXACT(p, n) do {						\
	long long __n = count_in(0, self->pfn, p, n);			\
									\
	EXPECT_EQ(__n, ksm_stat(0, "ksm_zero_pages"));			\
	EXPECT_EQ(__n, ksm_get("ksm_zero_pages") - self->before);	\
} while (0)

/* Zeros, twins and unique pages side by side, each counted where it belongs. */
TEST_F_TIMEOUT(zero, exact_count, 60)
{
	char *zeros, *twins, *unique;

	zeros = map_zeros(NR_PAGES);
	twins = ksm_map_filled(8, 1, 0);
	unique = ksm_map_filled(8, 10, 1);
	ASSERT_NE(NULL, zeros);
	ASSERT_NE(NULL, twins);
	ASSERT_NE(NULL, unique);
	ASSERT_EQ(NR_PAGES, ksm_count_frames(zeros, NR_PAGES));
	ASSERT_EQ(0, ksm_step(4));
	EXPECT_EQ(NR_PAGES, count_in(0, self->pfn, zeros, NR_PAGES));
	EXPECT_EXACT(zeros, NR_PAGES);

	/* Zero pages are neither shared pages nor sharing ones. */
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(7, ksm_get("pages_sharing"));
	EXPECT_EQ(8, ksm_merging(0));
	EXPECT_EQ(0, ksm_smaps_kb(0, zeros, "KSM"));
	EXPECT_TRUE(all_zero(zeros, NR_PAGES));

	/* More passes do not count them again. */
	ASSERT_EQ(0, ksm_step(4));
	EXPECT_EXACT(zeros, NR_PAGES);
	ksm_unmap(zeros, NR_PAGES);
	EXPECT_EQ(self->before, ksm_get("ksm_zero_pages"));
	ksm_unmap(twins, 8);
	ksm_unmap(unique, 8);
}

/* By the end of the second pass, like any other merge. */
TEST_F_TIMEOUT(zero, merged_by_second_pass, 60)
{
	char *p = map_zeros(NR_PAGES);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_step(2));
	EXPECT_EQ(NR_PAGES, count_in(0, self->pfn, p, NR_PAGES));
	EXPECT_EXACT(p, NR_PAGES);
	ksm_unmap(p, NR_PAGES);
}

/* The switch is off: zeros are twins like others. */
TEST_F_TIMEOUT(zero, ordinary_merge_when_off, 60)
{
	char *p, *q;

	ASSERT_EQ(0, ksm_set("use_zero_pages", 0));
	p = map_zeros(NR_PAGES);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_scan(3));
	EXPECT_EQ(NR_PAGES, ksm_count_same(p, NR_PAGES));
	EXPECT_NE(self->pfn, ksm_pfn(0, p));
	EXPECT_EQ(1, ksm_kpf(ksm_pfn(0, p), KPF_KSM));
	EXPECT_EQ(NR_PAGES - 1, ksm_get("pages_sharing"));
	EXPECT_EXACT(p, NR_PAGES);

	/* Switched on later, it holds for pages merged from then on. */
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	q = map_zeros(NR_PAGES);
	ASSERT_NE(NULL, q);
	ASSERT_EQ(0, ksm_scan(4));
	EXPECT_EQ(NR_PAGES, count_in(0, self->pfn, q, NR_PAGES));
	EXPECT_EQ(count_in(0, self->pfn, p, NR_PAGES) + NR_PAGES,
		  ksm_get("ksm_zero_pages") - self->before);
	ksm_unmap(p, NR_PAGES);
	ksm_unmap(q, NR_PAGES);
}

/* A page with one bit set, first or last, is no page of zeros. */
TEST_F_TIMEOUT(zero, nearly_zero_pages_stay, 60)
{
	size_t sz = ksm_psize(), i;
	char *p = map_zeros(8);

	ASSERT_NE(NULL, p);
	for (i = 0; i < 8; i++)
		p[i * sz + (i % 2 ? sz - 1 : i * 8)] = (char)(1 << i);
	ASSERT_EQ(0, ksm_scan(4));
	EXPECT_EQ(0, count_in(0, self->pfn, p, 8));
	EXPECT_EQ(8, ksm_count_frames(p, 8));
	EXPECT_EXACT(p, 8);
	for (i = 0; i < 8; i++)
		EXPECT_EQ((char)(1 << i),
			  p[i * sz + (i % 2 ? sz - 1 : i * 8)]);
	ksm_unmap(p, 8);
}

/*
 * B77: the memory is really given back, and taken again by writing.  smaps
 * counts exactly; the counters behind RssAnon are kept for each CPU and may
 * be off by a batch on each of them.
 */
TEST_F_TIMEOUT(zero, rss_falls_and_rises, 60)
{
	long long kb = (long long)ksm_psize() / 1024, n = 1024, slack, rss, now;
	char *p;
	long i;

	slack = 64 * sysconf(_SC_NPROCESSORS_CONF);
	p = map_zeros((size_t)n);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(n * kb, ksm_smaps_kb(0, p, "Rss"));
	rss = ksm_status_kb(0, "RssAnon");
	ASSERT_EQ(0, ksm_scan(3));
	ASSERT_EQ(n, count_in(0, self->pfn, p, (size_t)n));
	EXPECT_EQ(0, ksm_smaps_kb(0, p, "Rss"));
	now = ksm_status_kb(0, "RssAnon");
	EXPECT_LE(now, rss - (n - slack) * kb);

	for (i = 0; i < n; i++)
		p[i * (long)ksm_psize()] = 1;
	EXPECT_EQ(n * kb, ksm_smaps_kb(0, p, "Rss"));
	EXPECT_GE(ksm_status_kb(0, "RssAnon"), now + (n - slack) * kb);
	EXPECT_EXACT(p, (size_t)n);
	EXPECT_EQ(self->before, ksm_get("ksm_zero_pages"));
	ksm_unmap(p, (size_t)n);
}

/* B83: every way to lose such a mapping is counted once. */
TEST_F_TIMEOUT(zero, write_discard_unmap, 60)
{
	size_t sz = ksm_psize(), i;
	char *p = map_zeros(NR_PAGES);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_scan(3));
	ASSERT_EQ(NR_PAGES, count_in(0, self->pfn, p, NR_PAGES));

	/* Reading changes nothing. */
	EXPECT_TRUE(all_zero(p, NR_PAGES));
	EXPECT_EXACT(p, NR_PAGES);

	for (i = 0; i < 5; i++) {
		p[i * sz + 100] = 'w';
		EXPECT_EQ(NR_PAGES - 1 - (long long)i,
			  count_in(0, self->pfn, p, NR_PAGES));
		EXPECT_EXACT(p, NR_PAGES);
		EXPECT_EQ(0, p[i * sz + 99]);
		EXPECT_EQ('w', p[i * sz + 100]);
	}

	/* Thrown away, then read: a zero page again, but not one of KSM's. */
	ASSERT_EQ(0, ksm_advise(p + 5 * sz, 5, MADV_DONTNEED));
	EXPECT_EQ(NR_PAGES - 10, ksm_stat(0, "ksm_zero_pages"));
	EXPECT_EXACT(p, NR_PAGES);
	ksm_touch(p + 5 * sz);
	EXPECT_EQ(self->pfn, ksm_pfn(0, p + 5 * sz));
	EXPECT_EQ(NR_PAGES - 10, ksm_stat(0, "ksm_zero_pages"));
	EXPECT_EQ(NR_PAGES - 10, ksm_get("ksm_zero_pages") - self->before);
	p[5 * sz] = 1;
	EXPECT_EQ(NR_PAGES - 10, ksm_stat(0, "ksm_zero_pages"));
	ASSERT_EQ(0, ksm_advise(p + 5 * sz, 1, MADV_DONTNEED));
	EXPECT_EXACT(p, NR_PAGES);

	/* Write protection taken and given back changes nothing. */
	ASSERT_EQ(0, mprotect(p, NR_PAGES * sz, PROT_READ));
	EXPECT_EXACT(p, NR_PAGES);
	ASSERT_EQ(0, mprotect(p, NR_PAGES * sz, PROT_NONE));
	EXPECT_EXACT(p, NR_PAGES);
	ASSERT_EQ(0, mprotect(p, NR_PAGES * sz, PROT_READ | PROT_WRITE));
	EXPECT_EXACT(p, NR_PAGES);
	p[15 * sz] = 1;
	EXPECT_EQ(NR_PAGES - 11, ksm_stat(0, "ksm_zero_pages"));
	EXPECT_EXACT(p, NR_PAGES);

	ASSERT_EQ(0, munmap(p + 20 * sz, 6 * sz));
	EXPECT_EQ(NR_PAGES - 17, ksm_stat(0, "ksm_zero_pages"));
	EXPECT_EXACT(p, NR_PAGES);
	ksm_unmap(p, NR_PAGES);
	EXPECT_EQ(0, ksm_stat(0, "ksm_zero_pages"));
	EXPECT_EQ(self->before, ksm_get("ksm_zero_pages"));
}

/* B83: moved, over free space and over other such pages. */
TEST_F_TIMEOUT(zero, mremap_keeps_the_count, 60)
{
	size_t len = NR_PAGES * ksm_psize();
	char *p, *q, *to;

	p = map_zeros(NR_PAGES);
	q = map_zeros(NR_PAGES);
	to = ksm_map(NR_PAGES);
	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	ASSERT_NE(NULL, to);
	ASSERT_EQ(0, ksm_scan(3));
	ASSERT_EQ(2 * NR_PAGES, ksm_stat(0, "ksm_zero_pages"));

	/* Moving may end the sharing; what it must not do is lose count. */
	ASSERT_EQ(to, mremap(p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_EQ(count_in(0, self->pfn, to, NR_PAGES) +
		  count_in(0, self->pfn, q, NR_PAGES),
		  ksm_stat(0, "ksm_zero_pages"));
	EXPECT_TRUE(all_zero(to, NR_PAGES));
	ASSERT_EQ(0, ksm_scan(4));
	ASSERT_EQ(q, mremap(to, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, q));
	EXPECT_EXACT(q, NR_PAGES);
	EXPECT_TRUE(all_zero(q, NR_PAGES));
	ASSERT_EQ(0, ksm_scan(4));
	EXPECT_EQ(NR_PAGES, count_in(0, self->pfn, q, NR_PAGES));
	EXPECT_EXACT(q, NR_PAGES);
	ksm_unmap(q, NR_PAGES);
	EXPECT_EQ(self->before, ksm_get("ksm_zero_pages"));
}

/* Says its count; writes a page and says it again; then leaves. */
static int zero_child(struct ksm_child *c)
{
	char *p = c->arg;
	int order;

	ksm_say(c, (int)ksm_stat(0, "ksm_zero_pages"));
	if (ksm_hear(c, &order))
		return 1;
	p[0] = 'c';
	ksm_barrier();
	ksm_say(c, (int)ksm_stat(0, "ksm_zero_pages"));
	if (ksm_hear(c, &order))
		return 2;
	if (p[0] != 'c' || !all_zero(p + ksm_psize(), NR_PAGES - 1))
		return 3;
	return 0;
}

/* B14, B16, B80: a fork doubles the mappings, an exit halves them. */
TEST_F_TIMEOUT(zero, fork_and_exit, 60)
{
	struct ksm_child c[3] = { 0 };
	int i, val;
	char *p;

	p = map_zeros(NR_PAGES);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_scan(3));
	ASSERT_EQ(NR_PAGES, ksm_stat(0, "ksm_zero_pages"));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, ksm_spawn(&c[i], zero_child, p));
		ASSERT_EQ(0, ksm_hear(&c[i], &val));
		EXPECT_EQ(NR_PAGES, val);
		EXPECT_EQ((i + 2) * NR_PAGES,
			  ksm_get("ksm_zero_pages") - self->before);
	}
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(NR_PAGES - 1, ksm_ask(&c[i], 0));
		EXPECT_EQ(NR_PAGES - 1,
			  count_in(c[i].pid, self->pfn, p, NR_PAGES));
		EXPECT_EQ(4 * NR_PAGES - 1 - i,
			  ksm_get("ksm_zero_pages") - self->before);
	}
	EXPECT_EQ(NR_PAGES, ksm_stat(0, "ksm_zero_pages"));

	/* One by exit, one by SIGKILL, one after our own are gone. */
	EXPECT_EQ(0, ksm_say(&c[0], 0));
	EXPECT_EQ(0, ksm_reap(&c[0]));
	EXPECT_EQ(3 * NR_PAGES - 2, ksm_get("ksm_zero_pages") - self->before);
	ksm_kill(&c[1]);
	EXPECT_EQ(2 * NR_PAGES - 1, ksm_get("ksm_zero_pages") - self->before);
	EXPECT_TRUE(all_zero(p, NR_PAGES));
	ksm_unmap(p, NR_PAGES);
	EXPECT_EQ(NR_PAGES - 1, ksm_get("ksm_zero_pages") - self->before);
	EXPECT_EQ(0, ksm_say(&c[2], 0));
	EXPECT_EQ(0, ksm_reap(&c[2]));
	EXPECT_EQ(self->before, ksm_get("ksm_zero_pages"));
}

/* B79: each of the three ends of sharing brings pages of zeros back. */
FIXTURE(zero_end)
{
	uint64_t pfn;
	long long before;
};

FIXTURE_VARIANT(zero_end)
{
	bool by_prctl;
	bool by_run_2;
};

FIXTURE_VARIANT_ADD(zero_end, madvise)
{
	.by_prctl = false,
};

FIXTURE_VARIANT_ADD(zero_end, prctl)
{
	.by_prctl = true,
};

FIXTURE_VARIANT_ADD(zero_end, run_2)
{
	.by_run_2 = true,
};

FIXTURE_SETUP(zero_end)
{
	const char *why = ksm_missing();

	if (why)
		SKIP(return, "%s", why);
	if (!ksm_has("ksm_zero_pages"))
		SKIP(return, "no ksm_zero_pages in this kernel");
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	self->pfn = ksm_zero_pfn();
	ASSERT_NE(0, self->pfn);
	self->before = ksm_get("ksm_zero_pages");
}

FIXTURE_TEARDOWN(zero_end)
{
	prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0);
	ksm_finish(__test_passed(_metadata));
}

TEST_F_TIMEOUT(zero_end, pages_come_back, 60)
{
	char *p = map_zeros(NR_PAGES);

	ASSERT_NE(NULL, p);
	if (variant->by_prctl)
		ASSERT_EQ(0, prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0));
	ASSERT_EQ(0, ksm_scan(4));
	ASSERT_EQ(NR_PAGES, count_in(0, self->pfn, p, NR_PAGES));

	if (variant->by_run_2)
		EXPECT_EQ(0, ksm_unshare_all());
	if (variant->by_prctl)
		EXPECT_EQ(0, prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0));
	if (!variant->by_run_2 && !variant->by_prctl)
		EXPECT_EQ(0, ksm_unmergeable(p, NR_PAGES));

	EXPECT_EQ(0, count_in(0, self->pfn, p, NR_PAGES));
	EXPECT_EQ(NR_PAGES, ksm_count_frames(p, NR_PAGES));
	EXPECT_EQ(0, ksm_stat(0, "ksm_zero_pages"));
	EXPECT_EQ(self->before, ksm_get("ksm_zero_pages"));
	EXPECT_EQ((long long)(NR_PAGES * ksm_psize() / 1024),
		  ksm_smaps_kb(0, p, "Rss"));
	EXPECT_TRUE(all_zero(p, NR_PAGES));
	ksm_unmap(p, NR_PAGES);
}

/* A zero page that a read fault has put there was never KSM's to unshare. */
TEST_F_TIMEOUT(zero, read_faulted_pages_are_not_counted, 60)
{
	char *p = ksm_map(NR_PAGES);
	size_t i;

	ASSERT_NE(NULL, p);
	for (i = 0; i < NR_PAGES; i++)
		ksm_touch(p + i * ksm_psize());
	ASSERT_EQ(NR_PAGES, count_in(0, self->pfn, p, NR_PAGES));
	ASSERT_EQ(0, ksm_mergeable(p, NR_PAGES));
	ASSERT_EQ(0, ksm_start());
	EXPECT_FALSE(ksm_wait_for(ksm_get("ksm_zero_pages") != self->before,
				  0.3));
	ASSERT_EQ(0, ksm_stop());
	EXPECT_EQ(0, ksm_stat(0, "ksm_zero_pages"));
	EXPECT_EQ(0, ksm_unmergeable(p, NR_PAGES));
	EXPECT_EQ(NR_PAGES, count_in(0, self->pfn, p, NR_PAGES));
	p[0] = 1;
	ksm_unmap(p, NR_PAGES);
	EXPECT_EQ(0, ksm_stat(0, "ksm_zero_pages"));
	EXPECT_EQ(self->before, ksm_get("ksm_zero_pages"));
}

/* B84: zero pages alone are a gain. */
TEST_F_TIMEOUT(zero, profit, 60)
{
	long long sz = (long long)ksm_psize();
	char *p = map_zeros(NR_PAGES);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_scan(4));
	ASSERT_EQ(NR_PAGES, ksm_stat(0, "ksm_zero_pages"));
	ASSERT_EQ(0, ksm_get("pages_sharing"));
	EXPECT_GT(ksm_get("general_profit"), NR_PAGES * sz / 2);
	EXPECT_LE(ksm_get("general_profit") - self->before * sz,
		  NR_PAGES * sz);
	EXPECT_GT(ksm_stat(0, "ksm_process_profit"), NR_PAGES * sz / 2);
	EXPECT_LE(ksm_stat(0, "ksm_process_profit"), NR_PAGES * sz);
	ksm_unmap(p, NR_PAGES);
}

/* B83: a huge page made over them takes them all out of the count. */
TEST_F_TIMEOUT(zero, collapse_to_huge_page, 60)
{
	size_t huge = (size_t)2 << 20, sz = ksm_psize(), n = huge / sz;
	char *area, *p;

	area = ksm_map(2 * n);
	ASSERT_NE(NULL, area);
	p = (char *)(((unsigned long)area + huge - 1) & ~(huge - 1));
	memset(p, 1, huge);
	ksm_barrier();
	memset(p, 0, huge);
	ASSERT_EQ(0, ksm_mergeable(p, n));
	ASSERT_EQ(0, ksm_scan(3));
	ASSERT_EQ((long long)n, count_in(0, self->pfn, p, n));
	EXPECT_EXACT(p, n);

	/* A few of them are ordinary pages at the time. */
	p[3 * sz] = 3;
	p[400 * sz] = 4;
	if (madvise(p, huge, MADV_HUGEPAGE) ||
	    madvise(p, huge, MADV_COLLAPSE))
		SKIP(goto out, "no huge page to be had: %s", strerror(errno));
	EXPECT_EQ(0, count_in(0, self->pfn, p, n));
	EXPECT_EQ((long long)huge / 1024, ksm_smaps_kb(0, p, "AnonHugePages"));
	EXPECT_EXACT(p, n);
	EXPECT_EQ(3, p[3 * sz]);
	EXPECT_EQ(4, p[400 * sz]);
	p[3 * sz] = 0;
	p[400 * sz] = 0;
	EXPECT_TRUE(all_zero(p, n));
out:
	ksm_unmap(area, 2 * n);
	EXPECT_EQ(self->before, ksm_get("ksm_zero_pages"));
}

#define NR_SHORT	8	/* pages of a short-lived area */

/*
 * Verifies, rewrites and throws away pages that are zeros most of the time,
 * until told to stop.  Another area goes when ksmd may have come to it.
 */
static int churner(struct ksm_child *c)
{
	struct pollfd pfd = { .fd = c->in, .events = POLLIN };
	size_t sz = ksm_psize(), i, round;
	char model[NR_PAGES] = { 0 };
	char *p, *gone;

	p = map_zeros(NR_PAGES);
	if (!p || ksm_say(c, 0))
		return 1;
	for (round = 0; poll(&pfd, 1, 0) <= 0; round++) {
		for (i = 0; i < NR_PAGES; i++) {
			ksm_barrier();
			if (p[i * sz] != model[i] || p[i * sz + sz - 1])
				return 2;
			if ((i + round) % 4)
				continue;
			model[i] = (char)(model[i] ? 0 : i + 1);
			p[i * sz] = model[i];
		}
		i = round % (NR_PAGES - 1);
		if (ksm_advise(p + i * sz, 2, MADV_DONTNEED))
			return 3;
		/* Half of them stay holes. */
		p[i * sz] = 0;
		model[i] = 0;
		model[i + 1] = 0;
		gone = map_zeros(NR_SHORT);
		if (!gone)
			return 4;
		ksm_nap_us(4000 + round % 8 * 500);
		ksm_unmap(gone, NR_SHORT);
	}
	return 0;
}

/*
 * B78, B80: many processes write to, discard and unmap such pages while ksmd
 * places them.  The total is never negative, and nothing is left at the end.
 */
TEST_F_TIMEOUT(zero, churn, 60)
{
	long long low = LLONG_MAX, high = 0, now;
	struct ksm_child c[4] = { 0 };
	double end;
	int i, val;

	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	ASSERT_EQ(0, ksm_start());
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, ksm_spawn(&c[i], churner, NULL));
		ASSERT_EQ(0, ksm_hear(&c[i], &val));
	}
	end = ksm_now() + 4;
	while (ksm_now() < end) {
		now = ksm_get("ksm_zero_pages") - self->before;
		low = now < low ? now : low;
		high = now > high ? now : high;
		ksm_nap_us(1000);
	}
	EXPECT_GE(low, 0);
	EXPECT_GT(high, 0);
	EXPECT_LE(high, 4 * (NR_PAGES + NR_SHORT));
	for (i = 0; i < 4; i++) {
		if (i % 2) {
			ksm_kill(&c[i]);
			continue;
		}
		EXPECT_EQ(0, ksm_say(&c[i], 0));
		EXPECT_EQ(0, ksm_reap(&c[i]));
	}
	EXPECT_EQ(self->before, ksm_get("ksm_zero_pages"));
}

/* A userfaultfd that can move pages; -errno when there is none. */
static int uffd_open_move(void)
{
	struct uffdio_api api = {
		.api = UFFD_API, .features = UFFD_FEATURE_MOVE,
	};
	int fd;

	fd = (int)syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (!ioctl(fd, UFFDIO_API, &api))
		return fd;
	close(fd);
	return -EOPNOTSUPP;
}

/*
 * B81: pages moved by userfaultfd.  Last in this file, as the original
 * implementation loses count here for good.
 */
TEST_F_TIMEOUT(zero, uffdio_move, 60)
{
	size_t sz = ksm_psize(), len = NR_PAGES * sz, i;
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_move move = { 0 };
	long long mine, total;
	char *src, *dst;
	int fd;

	fd = uffd_open_move();
	if (fd < 0)
		SKIP(return, "no UFFDIO_MOVE: %s", strerror(-fd));
	src = map_zeros(NR_PAGES);
	dst = ksm_map(NR_PAGES);
	ASSERT_NE(NULL, src);
	ASSERT_NE(NULL, dst);
	ASSERT_EQ(0, ksm_mergeable(dst, NR_PAGES));
	ASSERT_EQ(0, ksm_scan(3));
	ASSERT_EQ(NR_PAGES, count_in(0, self->pfn, src, NR_PAGES));

	reg.range.start = (unsigned long)dst;
	reg.range.len = len;
	ASSERT_EQ(0, ioctl(fd, UFFDIO_REGISTER, &reg));
	for (i = 0; i < NR_PAGES; i++) {
		move.dst = (unsigned long)(dst + i * sz);
		move.src = (unsigned long)(src + i * sz);
		move.len = sz;
		move.move = 0;
		ASSERT_EQ(0, ioctl(fd, UFFDIO_MOVE, &move)) {
			TH_LOG("%s", strerror(errno));
		}
	}
	EXPECT_EQ(0, count_in(0, self->pfn, src, NR_PAGES));
	EXPECT_TRUE(all_zero(dst, NR_PAGES));

	/* Still KSM's or not any more: both counts must agree on it. */
	mine = ksm_stat(0, "ksm_zero_pages");
	total = ksm_get("ksm_zero_pages") - self->before;
	EXPECT_EQ(mine, total);
	EXPECT_GE(mine, 0);
	EXPECT_LE(mine, NR_PAGES);
	memset(dst, 1, len);
	ksm_barrier();
	EXPECT_EQ(0, ksm_stat(0, "ksm_zero_pages"));
	EXPECT_EQ(self->before, ksm_get("ksm_zero_pages"));
	close(fd);
	ksm_unmap(src, NR_PAGES);
	ksm_unmap(dst, NR_PAGES);
	EXPECT_EQ(0, ksm_stat(0, "ksm_zero_pages"));
	EXPECT_EQ(self->before, ksm_get("ksm_zero_pages"));
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	return test_harness_run(argc, argv);
}
