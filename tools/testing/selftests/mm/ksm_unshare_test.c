// SPDX-License-Identifier: GPL-2.0
/*
 * Ending the sharing on request: MADV_UNMERGEABLE, PR_SET_MEMORY_MERGE 0 and
 * run=2.  When the call is back, no page of the range is shared any more and
 * no byte has changed, whatever the protection of the area, however sparse
 * it is, and whatever happens beside it.
 */
#include "../kselftest_harness.h"
#include "ksm_util.h"

#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <linux/userfaultfd.h>

#define NR_PAGES	24
#define SEED		0x600

#ifndef __NR_memfd_create
#define __NR_memfd_create 319
#endif

/* The three ways. */
enum how { ADVICE, PRCTL, RUN2 };

/* Make an area mergeable in the way that fits the end of it; 0 or -errno. */
static int enlist(enum how how, char *p, size_t npages)
{
	if (how != PRCTL)
		return ksm_mergeable(p, npages);
	return prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) ? -errno : 0;
}

/* End the sharing; 0 or -errno. */
static int unshare_by(enum how how, char *p, size_t npages)
{
	switch (how) {
	case ADVICE:
		return ksm_unmergeable(p, npages);
	case PRCTL:
		return prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0) ? -errno : 0;
	default:
		return ksm_unshare_all();
	}
}

/* An area of twins, merged, with ksmd stopped; NULL when that failed. */
static char *map_merged(enum how how, size_t npages)
{
	char *p = ksm_map(npages);

	if (!p)
		return NULL;
	ksm_fill_range(p, npages, SEED, 0);
	if (!enlist(how, p, npages) && !ksm_scan(3) &&
	    ksm_count_same(p, npages) == npages)
		return p;
	ksm_dump("not merged");
	ksm_unmap(p, npages);
	return NULL;
}

/* How many of n pages are present. */
static size_t count_present(const char *p, size_t n)
{
	size_t i, count = 0;

	for (i = 0; i < n; i++)
		count += !!ksm_pfn(0, p + i * ksm_psize());
	return count;
}

FIXTURE(unshare)
{
	int unused;
};

FIXTURE_VARIANT(unshare)
{
	enum how how;
};

FIXTURE_VARIANT_ADD(unshare, madvise)
{
	.how = ADVICE,
};

FIXTURE_VARIANT_ADD(unshare, prctl)
{
	.how = PRCTL,
};

FIXTURE_VARIANT_ADD(unshare, run_2)
{
	.how = RUN2,
};

FIXTURE_SETUP(unshare)
{
	const char *why = ksm_missing();

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	/* Old pages, too, are to merge again without delay. */
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
}

FIXTURE_TEARDOWN(unshare)
{
	prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0);
	ksm_finish(__test_passed(_metadata));
}

/* Every page on its own again, every byte as before, and no mark left. */
TEST_F_TIMEOUT(unshare, all_private_again, 60)
{
	char *p;
	size_t i;

	p = map_merged(variant->how, NR_PAGES);
	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, unshare_by(variant->how, p, NR_PAGES));
	EXPECT_EQ(NR_PAGES, ksm_count_frames(p, NR_PAGES));
	EXPECT_EQ(0, ksm_smaps_kb(0, p, "KSM"));
	EXPECT_EQ(0, ksm_count_bad(p, NR_PAGES, SEED, 0));
	/* run=2 ends the sharing, not the wish for it. */
	EXPECT_EQ(variant->how == RUN2, ksm_vmflag(0, p, "mg"));

	for (i = 0; i < NR_PAGES; i++)
		ksm_fill(p + i * ksm_psize(), i);
	EXPECT_EQ(0, ksm_count_bad(p, NR_PAGES, 0, 1));
	ksm_unmap(p, NR_PAGES);
}

/* After the end of it a new request merges the same pages again. */
TEST_F_TIMEOUT(unshare, can_be_merged_again, 60)
{
	char *p;
	int i;

	p = map_merged(variant->how, NR_PAGES);
	ASSERT_NE(NULL, p);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, unshare_by(variant->how, p, NR_PAGES));
		EXPECT_EQ(NR_PAGES, ksm_count_frames(p, NR_PAGES));
		ASSERT_EQ(0, enlist(variant->how, p, NR_PAGES));
		ASSERT_EQ(0, ksm_scan(3));
		EXPECT_EQ(NR_PAGES, ksm_count_same(p, NR_PAGES));
		EXPECT_EQ(0, ksm_count_bad(p, NR_PAGES, SEED, 0));
	}
	ksm_unmap(p, NR_PAGES);
}

/* B107: pages thrown away before leave holes, and holes they stay. */
TEST_F_TIMEOUT(unshare, discarded_pages, 60)
{
	size_t sz = ksm_psize(), half = NR_PAGES / 2, i;
	char *p;

	p = map_merged(variant->how, NR_PAGES);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_advise(p, half, MADV_DONTNEED));
	ASSERT_EQ(0, ksm_advise(p + (half + 2) * sz, 1, MADV_DONTNEED));
	EXPECT_EQ(0, unshare_by(variant->how, p, NR_PAGES));
	EXPECT_EQ(0, count_present(p, half));
	EXPECT_EQ(half - 1, count_present(p + half * sz, half));
	EXPECT_EQ(half - 1, ksm_count_frames(p + half * sz, half));
	for (i = half; i < NR_PAGES; i++) {
		if (i == half + 2)
			continue;
		EXPECT_TRUE(ksm_is(p + i * sz, SEED));
	}
	for (i = 0; i < half; i++)
		EXPECT_EQ(0, p[i * sz + 7]);
	ksm_unmap(p, NR_PAGES);
}

/* B68: pages that nobody may access are unshared like all others. */
TEST_F_TIMEOUT(unshare, prot_none, 60)
{
	size_t len = NR_PAGES * ksm_psize();
	char *p;

	p = map_merged(variant->how, NR_PAGES);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, mprotect(p, len, PROT_NONE));
	EXPECT_EQ(NR_PAGES, ksm_count_same(p, NR_PAGES));
	EXPECT_EQ(0, unshare_by(variant->how, p, NR_PAGES));
	EXPECT_EQ(NR_PAGES, ksm_count_frames(p, NR_PAGES));
	EXPECT_EQ(0, ksm_smaps_kb(0, p, "KSM"));
	ASSERT_EQ(0, mprotect(p, len, PROT_READ | PROT_WRITE));
	EXPECT_EQ(NR_PAGES, ksm_count_frames(p, NR_PAGES));
	EXPECT_EQ(0, ksm_count_bad(p, NR_PAGES, SEED, 0));
	ksm_unmap(p, NR_PAGES);
}

/* Writes to a byte of the page; ended by a signal if it may not. */
static int write_one_byte(struct ksm_child *c)
{
	*(char *)c->arg = 1;
	ksm_barrier();
	return 0;
}

/*
 * B96: a private copy is all that is wanted.  A read-only area must not get
 * writable pages by it, nor pages that count as written.
 */
TEST_F_TIMEOUT(unshare, read_only_stays_clean, 60)
{
	size_t len = NR_PAGES * ksm_psize(), i;
	struct ksm_child c = { 0 };
	bool soft_dirty;
	char *p;

	p = map_merged(variant->how, NR_PAGES);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, mprotect(p, len, PROT_READ));
	ASSERT_EQ(0, ksm_spit("/proc/self/clear_refs", "4", 1));
	soft_dirty = !(ksm_pagemap(0, p) & PM_SOFT_DIRTY);

	EXPECT_EQ(0, unshare_by(variant->how, p, NR_PAGES));
	EXPECT_EQ(NR_PAGES, ksm_count_frames(p, NR_PAGES));
	for (i = 0; soft_dirty && i < NR_PAGES; i++)
		EXPECT_EQ(0, ksm_pagemap(0, p + i * ksm_psize()) &
			  PM_SOFT_DIRTY);
	EXPECT_EQ(0, ksm_smaps_kb(0, p, "Private_Dirty"));
	EXPECT_EQ(0, ksm_count_bad(p, NR_PAGES, SEED, 0));

	ASSERT_EQ(0, ksm_spawn(&c, write_one_byte, p));
	EXPECT_EQ(-EINTR, ksm_reap(&c));
	EXPECT_EQ(0, ksm_count_bad(p, NR_PAGES, SEED, 0));
	ksm_unmap(p, NR_PAGES);
}

/* ---- faults beside it ---------------------------------------------------- */

/* A thread that has new pages in its part of an area, again and again. */
struct faulter {
	pthread_t thread;
	char *p;
	bool stop;
	long rounds;
	long bad;
};

static void *fault_thread(void *arg)
{
	struct faulter *f = arg;

	while (!__atomic_load_n(&f->stop, __ATOMIC_ACQUIRE)) {
		ksm_advise(f->p, NR_PAGES, MADV_DONTNEED);
		ksm_fill_range(f->p, NR_PAGES, SEED, 0);
		f->bad += (long)ksm_count_bad(f->p, NR_PAGES, SEED, 0);
		f->rounds++;
	}
	return NULL;
}

/*
 * B110: the flag of an area comes and goes while other threads fault in that
 * area, which they do under a lock of its own.  No byte is lost; a kernel that
 * looks for data races sees more.
 */
TEST_F_TIMEOUT(unshare, beside_faults, 60)
{
	struct faulter f[2] = { 0 };
	long rounds = 0;
	double end;
	char *p;
	int i;

	p = ksm_map(2 * NR_PAGES);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	for (i = 0; i < 2; i++) {
		f[i].p = p + (size_t)i * NR_PAGES * ksm_psize();
		ASSERT_EQ(0, pthread_create(&f[i].thread, NULL, fault_thread,
					    &f[i]));
	}
	for (end = ksm_now() + 2; ksm_now() < end; rounds++) {
		EXPECT_EQ(0, enlist(variant->how, p, 2 * NR_PAGES));
		EXPECT_EQ(0, ksm_start());
		ksm_nap_us(rounds % 4 * 2000);
		EXPECT_EQ(0, unshare_by(variant->how, p, 2 * NR_PAGES));
	}
	for (i = 0; i < 2; i++) {
		__atomic_store_n(&f[i].stop, true, __ATOMIC_RELEASE);
		ASSERT_EQ(0, pthread_join(f[i].thread, NULL));
		EXPECT_EQ(0, f[i].bad);
		EXPECT_GT(f[i].rounds, 0);
	}
	TH_LOG("%ld times on and off, %ld rounds of faults", rounds,
	       f[0].rounds + f[1].rounds);
	EXPECT_EQ(variant->how == RUN2, ksm_vmflag(0, p, "mg"));
	EXPECT_EQ(0, ksm_smaps_kb(0, p, "KSM"));
	EXPECT_EQ(0, ksm_count_bad(p, 2 * NR_PAGES, SEED, 0));
	ksm_unmap(p, 2 * NR_PAGES);
}

/* ---- userfaultfd --------------------------------------------------------- */

/* A userfaultfd with the features asked for; -errno when there is none. */
static int uffd_open(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd;

	fd = (int)syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (!ioctl(fd, UFFDIO_API, &api))
		return fd;
	close(fd);
	return -EOPNOTSUPP;
}

static int uffd_register(int fd, void *p, size_t len, uint64_t mode)
{
	struct uffdio_register reg = {
		.range = { (unsigned long)p, len },
		.mode = mode,
	};

	return ioctl(fd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

static int uffd_protect(int fd, void *p, size_t len, bool on)
{
	struct uffdio_writeprotect wp = {
		.range = { (unsigned long)p, len },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return ioctl(fd, UFFDIO_WRITEPROTECT, &wp) ? -errno : 0;
}

static void *write_thread(void *page)
{
	ksm_fill(page, SEED + 1);
	return NULL;
}

/*
 * B97: pages under write protection of userfaultfd are unshared all the
 * same, stay under it, and the next write is told.
 */
TEST_F_TIMEOUT(unshare, uffd_write_protected, 60)
{
	size_t sz = ksm_psize(), len = NR_PAGES * sz, i;
	struct uffd_msg msg = { 0 };
	struct pollfd pfd;
	pthread_t thread;
	char *p, *page;
	int fd;

	fd = uffd_open(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	if (fd < 0)
		SKIP(return, "no userfaultfd write protection: %s",
		     strerror(-fd));
	p = map_merged(variant->how, NR_PAGES);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, uffd_register(fd, p, len, UFFDIO_REGISTER_MODE_WP));
	ASSERT_EQ(0, uffd_protect(fd, p, len, true));
	ASSERT_EQ(NR_PAGES, ksm_count_same(p, NR_PAGES));
	ASSERT_NE(0, ksm_pagemap(0, p) & PM_UFFD_WP);

	EXPECT_EQ(0, unshare_by(variant->how, p, NR_PAGES));
	EXPECT_EQ(NR_PAGES, ksm_count_frames(p, NR_PAGES));
	EXPECT_EQ(0, ksm_smaps_kb(0, p, "KSM"));
	for (i = 0; i < NR_PAGES; i++)
		EXPECT_NE(0, ksm_pagemap(0, p + i * sz) & PM_UFFD_WP);

	page = p + 3 * sz;
	ASSERT_EQ(0, pthread_create(&thread, NULL, write_thread, page));
	pfd = (struct pollfd){ .fd = fd, .events = POLLIN };
	EXPECT_EQ(1, poll(&pfd, 1, KSM_WAIT_SECS * 1000));
	EXPECT_EQ((ssize_t)sizeof(msg), read(fd, &msg, sizeof(msg)));
	EXPECT_EQ(UFFD_EVENT_PAGEFAULT, msg.event);
	EXPECT_NE(0, msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP);
	EXPECT_EQ((unsigned long)page,
		  msg.arg.pagefault.address & ~(uint64_t)(sz - 1));
	EXPECT_TRUE(ksm_is(page, SEED));
	EXPECT_EQ(0, uffd_protect(fd, p, len, false));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_TRUE(ksm_is(page, SEED + 1));
	EXPECT_EQ(0, ksm_count_bad(p, 3, SEED, 0));
	EXPECT_EQ(0, ksm_count_bad(page + sz, NR_PAGES - 4, SEED, 0));
	close(fd);
	ksm_unmap(p, NR_PAGES);
}

/* ---- very large and nearly empty ----------------------------------------- */

#define SPARSE_LEN	((size_t)4 << 40)
#define SPARSE_SECS	10

struct sparse_job {
	enum how how;
	char *p;
};

static int sparse_unshare(struct ksm_child *c)
{
	struct sparse_job *job = c->arg;
	size_t npages = SPARSE_LEN / ksm_psize();
	int order;

	if (enlist(job->how, job->p, npages))
		return 2;
	ksm_say(c, 0);
	if (ksm_hear(c, &order))
		return 3;
	ksm_say(c, ksm_same_frame(job->p, job->p + SPARSE_LEN / 2));
	if (unshare_by(job->how, job->p, npages))
		return 4;
	ksm_say(c, ksm_same_frame(job->p, job->p + SPARSE_LEN / 2));
	return 0;
}

/*
 * B112, B113: an area of 4 TiB with three pages in it.  A pass over it and
 * the end of its sharing take moments, not minutes.  The work is done in a
 * child, so that a slow kernel fails this test and not the machine; the
 * original implementation in this version probes every address when it
 * unshares.
 */
TEST_F_TIMEOUT(unshare, sparse_area, 90)
{
	struct ksm_child c = { 0 };
	struct pollfd pfd;
	struct sparse_job job;
	double start;
	int val;

	job.how = variant->how;
	job.p = mmap(NULL, SPARSE_LEN, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (job.p == MAP_FAILED)
		SKIP(return, "no room for a large area: %s", strerror(errno));
	madvise(job.p, SPARSE_LEN, MADV_NOHUGEPAGE);
	ksm_fill(job.p, SEED);
	ksm_fill(job.p + SPARSE_LEN / 2, SEED);
	ksm_fill(job.p + SPARSE_LEN - ksm_psize(), SEED);

	ASSERT_EQ(0, ksm_spawn(&c, sparse_unshare, &job));
	/* The child alone is to have it. */
	munmap(job.p, SPARSE_LEN);
	ASSERT_EQ(0, ksm_hear(&c, &val));
	ASSERT_EQ(0, val);
	start = ksm_now();
	ASSERT_EQ(0, ksm_scan(3));
	EXPECT_LT(ksm_now() - start, SPARSE_SECS);
	EXPECT_EQ(1, ksm_ask(&c, 0));

	pfd = (struct pollfd){ .fd = c.in, .events = POLLIN };
	if (poll(&pfd, 1, SPARSE_SECS * 1000) != 1) {
		EXPECT_TRUE(false) {
			TH_LOG("still unsharing after %d s", SPARSE_SECS);
		}
		ksm_kill(&c);
	} else {
		EXPECT_EQ(0, ksm_hear(&c, &val));
		EXPECT_EQ(0, val);
		EXPECT_EQ(0, ksm_reap(&c));
	}
}

/* ---- one way only -------------------------------------------------------- */

FIXTURE(one)
{
	int unused;
};

FIXTURE_SETUP(one)
{
	const char *why = ksm_missing();

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	/* Old pages, too, are to merge again without delay. */
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
}

FIXTURE_TEARDOWN(one)
{
	prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0);
	ksm_finish(__test_passed(_metadata));
}

/* A range of the area: just that becomes private, the rest stays shared. */
TEST_F_TIMEOUT(one, part_of_an_area, 60)
{
	size_t sz = ksm_psize();
	char *p;

	p = map_merged(ADVICE, NR_PAGES);
	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, ksm_unmergeable(p + 5 * sz, 3));
	EXPECT_EQ(NR_PAGES - 3, ksm_count_same(p, NR_PAGES));
	EXPECT_EQ(4, ksm_count_frames(p, NR_PAGES));
	EXPECT_EQ(1, ksm_vmflag(0, p + 4 * sz, "mg"));
	EXPECT_EQ(0, ksm_vmflag(0, p + 5 * sz, "mg"));
	EXPECT_EQ(0, ksm_vmflag(0, p + 7 * sz, "mg"));
	EXPECT_EQ(1, ksm_vmflag(0, p + 8 * sz, "mg"));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(NR_PAGES - 4, ksm_get("pages_sharing"));
	EXPECT_EQ(NR_PAGES - 3, ksm_merging(0));
	EXPECT_EQ(0, ksm_count_bad(p, NR_PAGES, SEED, 0));
	ksm_unmap(p, NR_PAGES);
}

/* The range does not have to be mergeable, or mapped by one area only. */
TEST_F(one, advice_where_there_is_nothing_to_do)
{
	size_t sz = ksm_psize();
	char *p;

	p = ksm_map(NR_PAGES);
	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, ksm_unmergeable(p, NR_PAGES));
	ksm_fill_range(p, NR_PAGES, SEED, 0);
	EXPECT_EQ(0, ksm_unmergeable(p, NR_PAGES));
	EXPECT_EQ(0, ksm_mergeable(p + 4 * sz, 2));
	EXPECT_EQ(0, ksm_mergeable(p + 9 * sz, 2));
	EXPECT_EQ(0, ksm_unmergeable(p, NR_PAGES));
	EXPECT_EQ(0, ksm_vmflag(0, p + 4 * sz, "mg"));
	EXPECT_EQ(0, ksm_vmflag(0, p + 9 * sz, "mg"));

	/* A hole in the range is an error, but only after all was done. */
	ASSERT_EQ(0, ksm_mergeable(p, NR_PAGES));
	ASSERT_EQ(0, munmap(p + 6 * sz, sz));
	EXPECT_EQ(-ENOMEM, ksm_unmergeable(p, NR_PAGES));
	EXPECT_EQ(0, ksm_vmflag(0, p, "mg"));
	EXPECT_EQ(0, ksm_vmflag(0, p + 7 * sz, "mg"));
	ksm_unmap(p, NR_PAGES);
}

/* For others_keep_sharing: merged twins, verified when told. */
static int sharer(struct ksm_child *c)
{
	char *p = c->arg;
	int order;

	ksm_fill_range(p, NR_PAGES, SEED, 0);
	if (ksm_say(c, ksm_mergeable(p, NR_PAGES)))
		return 1;
	if (ksm_hear(c, &order))
		return 2;
	if (order && ksm_unmergeable(p, NR_PAGES))
		return 3;
	ksm_say(c, 0);
	if (ksm_hear(c, &order))
		return 4;
	return ksm_count_bad(p, NR_PAGES, SEED, 0) ? 5 : 0;
}

/* One process of three leaves; the other two do not notice. */
TEST_F_TIMEOUT(one, others_keep_sharing, 60)
{
	struct ksm_child c[3] = { 0 };
	uint64_t pfn;
	int i, val;
	char *p;

	p = ksm_map(NR_PAGES);
	ASSERT_NE(NULL, p);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, ksm_spawn(&c[i], sharer, p));
		ASSERT_EQ(0, ksm_hear(&c[i], &val));
		ASSERT_EQ(0, val);
	}
	ASSERT_EQ(0, ksm_scan(3));
	ASSERT_EQ(3 * NR_PAGES - 1, ksm_get("pages_sharing"));
	pfn = ksm_pfn(c[0].pid, p);
	ASSERT_EQ(pfn, ksm_pfn(c[1].pid, p));

	EXPECT_EQ(0, ksm_ask(&c[1], 1));
	EXPECT_NE(pfn, ksm_pfn(c[1].pid, p));
	EXPECT_EQ(pfn, ksm_pfn(c[0].pid, p));
	EXPECT_EQ(pfn, ksm_pfn(c[2].pid, p));
	EXPECT_EQ(0, ksm_smaps_kb(c[1].pid, p, "KSM"));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(2 * NR_PAGES - 1, ksm_get("pages_sharing"));
	EXPECT_EQ(0, ksm_merging(c[1].pid));
	EXPECT_EQ(0, ksm_ask(&c[0], 0));
	EXPECT_EQ(0, ksm_ask(&c[2], 0));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0, ksm_say(&c[i], 0));
		EXPECT_EQ(0, ksm_reap(&c[i]));
	}
}

/*
 * run=2: every process at once, all counters at 0, full_scans starts anew,
 * and nothing merges until run is 1 again.
 */
TEST_F_TIMEOUT(one, run_2_resets_all, 60)
{
	long long zeros = ksm_get("ksm_zero_pages");
	struct ksm_child c[2] = { 0 };
	struct ksm_counters n;
	char *p, *unique;
	int i, val;

	p = ksm_map(NR_PAGES);
	ASSERT_NE(NULL, p);
	unique = ksm_map_filled(NR_PAGES, 5000, 1);
	ASSERT_NE(NULL, unique);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, ksm_spawn(&c[i], sharer, p));
		ASSERT_EQ(0, ksm_hear(&c[i], &val));
	}
	ASSERT_EQ(0, ksm_scan(4));
	ASSERT_GE(ksm_get("full_scans"), 4);
	ASSERT_GE(ksm_get("pages_shared"), 1);
	ASSERT_GT(ksm_stat(c[0].pid, "ksm_rmap_items"), 0);

	ASSERT_EQ(0, ksm_put_text("run", "2"));
	EXPECT_EQ(2, ksm_get("run"));
	ksm_count(&n);
	EXPECT_EQ(0, n.full_scans);
	EXPECT_EQ(0, n.shared);
	EXPECT_EQ(0, n.sharing);
	EXPECT_EQ(0, n.unshared);
	EXPECT_EQ(0, n.vol);
	EXPECT_EQ(0, n.chains);
	EXPECT_EQ(0, n.dups);
	EXPECT_EQ(zeros, n.zero);
	EXPECT_EQ(0, ksm_stat(0, "ksm_rmap_items"));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, ksm_smaps_kb(c[i].pid, p, "KSM"));
		EXPECT_EQ(0, ksm_merging(c[i].pid));
		EXPECT_EQ(0, ksm_stat(c[i].pid, "ksm_rmap_items"));
		EXPECT_EQ(1, ksm_vmflag(c[i].pid, p, "mg"));
	}
	EXPECT_NE(ksm_pfn(c[0].pid, p), ksm_pfn(c[1].pid, p));

	/* Stopped, though memory is registered and a sleeper is woken. */
	EXPECT_EQ(0, ksm_set("sleep_millisecs", 0));
	EXPECT_FALSE(ksm_wait_for(ksm_get("full_scans") > 0, 0.2));
	/* A second time is as good. */
	EXPECT_EQ(0, ksm_put_text("run", "2"));

	ASSERT_EQ(0, ksm_step(2));
	EXPECT_EQ(2 * NR_PAGES - 1, ksm_get("pages_sharing"));
	EXPECT_EQ(ksm_pfn(c[0].pid, p), ksm_pfn(c[1].pid, p));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, ksm_ask(&c[i], 0));
		EXPECT_EQ(0, ksm_say(&c[i], 0));
		EXPECT_EQ(0, ksm_reap(&c[i]));
	}
	EXPECT_EQ(0, ksm_count_bad(unique, NR_PAGES, 5000, 1));
	ksm_unmap(unique, NR_PAGES);
}

/* ---- fork beside run=2 --------------------------------------------------- */

#define NR_SLEEPERS	40

/*
 * Has a merged area and forks sleepers.  Says 0 when registered; when told,
 * forks, and says how many.  When told again, says the kB that are still
 * KSM pages in any of them, ends them and exits 0 if all kept their bytes.
 */
static int forker(struct ksm_child *c)
{
	pid_t pid[NR_SLEEPERS];
	int i, order, wait[2], status, bad = 0;
	long long kb = 0;
	char *p = c->arg, byte;

	ksm_fill_range(p, NR_PAGES, SEED, 0);
	if (pipe(wait) || ksm_say(c, ksm_mergeable(p, NR_PAGES)))
		return 1;
	if (ksm_hear(c, &order))
		return 2;
	for (i = 0; i < NR_SLEEPERS; i++) {
		pid[i] = fork();
		if (pid[i] < 0)
			break;
		if (!pid[i]) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			close(wait[1]);
			if (read(wait[0], &byte, 1))
				_exit(1);
			_exit(!!ksm_count_bad(p, NR_PAGES, SEED, 0));
		}
	}
	ksm_say(c, i);
	if (ksm_hear(c, &order))
		return 3;
	kb = ksm_smaps_kb(0, p, "KSM");
	close(wait[0]);
	while (i-- > 0) {
		kb += ksm_smaps_kb(pid[i], p, "KSM");
		if (!i)
			close(wait[1]);
	}
	for (i = 0; i < NR_SLEEPERS; i++)
		if (pid[i] > 0 && (waitpid(pid[i], &status, 0) < 0 || status))
			bad++;
	ksm_say(c, (int)kb);
	return bad ? 4 : 0;
}

/*
 * B10, B55: children forked while run=2 works through the list.  When the
 * write is done, none of them has a merged page.
 */
TEST_F_TIMEOUT(one, fork_during_run_2, 90)
{
	struct ksm_child c[2] = { 0 };
	int round, i, val, ret;
	char *p;

	p = ksm_map(NR_PAGES);
	ASSERT_NE(NULL, p);
	for (round = 0; round < 5; round++) {
		for (i = 0; i < 2; i++) {
			ASSERT_EQ(0, ksm_spawn(&c[i], forker, p));
			ASSERT_EQ(0, ksm_hear(&c[i], &val));
			ASSERT_EQ(0, val);
		}
		ASSERT_EQ(0, ksm_scan(3));
		ASSERT_EQ(2 * NR_PAGES - 1, ksm_get("pages_sharing"));

		for (i = 0; i < 2; i++)
			ASSERT_EQ(0, ksm_say(&c[i], 0));
		/* Let a different share of the forks happen before. */
		ksm_nap_us(500 * round * round);
		ret = ksm_unshare_all();
		EXPECT_EQ(0, ret);
		for (i = 0; i < 2; i++) {
			ASSERT_EQ(0, ksm_hear(&c[i], &val));
			EXPECT_EQ(NR_SLEEPERS, val);
		}
		EXPECT_EQ(0, ksm_get("pages_shared"));
		EXPECT_EQ(0, ksm_get("pages_sharing"));
		for (i = 0; i < 2; i++) {
			EXPECT_EQ(0, ksm_ask(&c[i], 0));
			EXPECT_EQ(0, ksm_reap(&c[i]));
		}
	}
	ksm_unmap(p, NR_PAGES);
}

/* ---- the edges of page tables -------------------------------------------- */

#define TABLE_LEN	((size_t)2 << 20)	/* what a page table maps */

/*
 * B114: ranges that end or begin at the edge of a page table, or within one
 * next to a merged page, touch what is in them and nothing else.
 */
TEST_F_TIMEOUT(one, ranges_at_page_table_edges, 60)
{
	static const struct {
		long from, to;		/* pages before and after the edge */
	} range[] = {
		{ -1, 0 }, { 0, 1 }, { -1, 1 }, { -3, 0 }, { 0, 3 },
		{ -512, 0 }, { 0, 512 }, { -512, 512 }, { -2, -1 }, { 1, 2 },
		{ -513, -512 }, { -513, 513 }, { 511, 513 },
	};
	static const long at[] = {
		-513, -512, -511, -3, -2, -1, 0, 1, 2, 3, 510, 511, 512,
	};
	size_t sz = ksm_psize(), i, j, inside;
	char *area, *edge, *low;
	uint64_t pfn;

	if (sz != 4096)
		SKIP(return, "written for page tables of 512 small pages");
	area = mmap(NULL, 6 * TABLE_LEN, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, area);
	madvise(area, 6 * TABLE_LEN, MADV_NOHUGEPAGE);
	low = (char *)(((unsigned long)area + TABLE_LEN - 1) &
		       ~(TABLE_LEN - 1));
	edge = low + 2 * TABLE_LEN;
	for (j = 0; j < ARRAY_SIZE(at); j++)
		ksm_fill(edge + at[j] * (long)sz, SEED);

	for (i = 0; i < ARRAY_SIZE(range); i++) {
		ASSERT_EQ(0, madvise(low, 4 * TABLE_LEN, MADV_MERGEABLE));
		ASSERT_EQ(0, ksm_scan(3));
		pfn = ksm_pfn(0, edge);
		for (j = 0; j < ARRAY_SIZE(at); j++)
			ASSERT_EQ(pfn, ksm_pfn(0, edge + at[j] * (long)sz));

		EXPECT_EQ(0, madvise(edge + range[i].from * (long)sz,
				     (size_t)(range[i].to - range[i].from) * sz,
				     MADV_UNMERGEABLE));
		pfn = 0;
		for (j = 0; j < ARRAY_SIZE(at); j++) {
			char *page = edge + at[j] * (long)sz;

			inside = at[j] >= range[i].from &&
				 at[j] < range[i].to;
			EXPECT_EQ(!inside, (size_t)ksm_smaps_kb(0, page, "KSM") > 0);
			if (!inside) {
				if (!pfn)
					pfn = ksm_pfn(0, page);
				EXPECT_EQ(pfn, ksm_pfn(0, page));
			} else {
				EXPECT_NE(pfn, ksm_pfn(0, page));
			}
			EXPECT_TRUE(ksm_is(page, SEED));
		}
	}
	munmap(area, 6 * TABLE_LEN);
}

/* ---- signals ------------------------------------------------------------- */

#define MANY_PAGES	6144
#define MAX_TRIES	30

static void on_alarm(int sig)
{
	(void)sig;
}

static void alarm_in(long us)
{
	struct itimerval it = { .it_value = { us / 1000000, us % 1000000 } };

	setitimer(ITIMER_REAL, &it, NULL);
}

/*
 * End the sharing under signals that come later and later, the first after
 * @delay microseconds.  Stores the number of interrupted tries; 0, or the
 * first error that is not EINTR.
 */
static int interrupted_unshare(enum how how, char *p, long delay, int *tries)
{
	struct sigaction sa = { .sa_handler = on_alarm };
	struct sigaction old;
	int ret = -EINTR;

	sigaction(SIGALRM, &sa, &old);
	for (*tries = 0; ret == -EINTR && *tries < MAX_TRIES; delay *= 2) {
		alarm_in(delay);
		ret = unshare_by(how, p, MANY_PAGES);
		alarm_in(0);
		if (ret != -EINTR)
			break;
		++*tries;
		/* Half done, and nothing of the wish forgotten. */
		if (how == PRCTL &&
		    prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) != 1)
			ret = -EBADE;
		if (how != RUN2 && ksm_vmflag(0, p, "mg") != 1)
			ret = -EBADR;
		if (how == RUN2 && ksm_get("run") != 0)
			ret = -EBADSLT;
	}
	sigaction(SIGALRM, &old, NULL);
	return ret;
}

/* The work of the test below, in a process whose alarm clock is free. */
static int interrupted_child(struct ksm_child *c)
{
	enum how how = *(enum how *)c->arg;
	int ret, tries, round, seen = 0;
	long delay = 100;
	char *p;

	p = ksm_map(MANY_PAGES);
	if (!p)
		return 1;
	ksm_fill_range(p, MANY_PAGES, SEED, 0);
	/*
	 * The signal may come before the call begins or after its end; other
	 * delays in the next rounds then do better.
	 */
	for (round = 0; round < 8 && !seen; round++, delay *= 3) {
		if (enlist(how, p, MANY_PAGES))
			return 2;
		if (ksm_scan(3))
			return 3;
		if (ksm_smaps_kb(0, p, "KSM") * 1024 !=
		    (long long)(MANY_PAGES * ksm_psize()))
			return 4;
		ret = interrupted_unshare(how, p, delay, &tries);
		if (ret) {
			fprintf(stderr, "# after %d tries: %s\n", tries,
				strerror(-ret));
			return 5;
		}
		if (ksm_smaps_kb(0, p, "KSM"))
			return 6;
		if (how == PRCTL && prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0))
			return 7;
		seen += tries;
	}
	if (ksm_count_bad(p, MANY_PAGES, SEED, 0))
		return 8;
	return seen ? 0 : 9;
}

/*
 * B106, B47, and B70 with run=2: a signal in the middle is told as what it is,
 * leaves the wish in place, and trying again gets it done.
 */
TEST_F_TIMEOUT(unshare, interrupted_by_a_signal, 120)
{
	enum how how = variant->how;
	struct ksm_child c = { 0 };

	ASSERT_EQ(0, ksm_spawn(&c, interrupted_child, &how));
	EXPECT_EQ(0, ksm_reap(&c));
}

/* ---- flags of the area --------------------------------------------------- */

/*
 * B99: the advice takes one flag away and no other, not even those above
 * bit 31.  Minor faults of userfaultfd and protection keys have such bits.
 */
TEST_F(one, high_flags_survive_uffd_minor)
{
	size_t len = NR_PAGES * ksm_psize();
	char before[256], after[256];
	int fd, mem;
	char *p;

	fd = uffd_open(UFFD_FEATURE_MINOR_SHMEM);
	if (fd < 0)
		SKIP(return, "no minor faults by userfaultfd: %s",
		     strerror(-fd));
	mem = (int)syscall(__NR_memfd_create, "ksm", 1U);
	ASSERT_GE(mem, 0);
	ASSERT_EQ(0, ftruncate(mem, (off_t)len));
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, mem, 0);
	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, uffd_register(fd, p, len, UFFDIO_REGISTER_MODE_MINOR));
	ASSERT_EQ(1, ksm_vmflag(0, p, "ui"));
	ASSERT_EQ(0, ksm_smaps_text(0, p, "VmFlags", before, sizeof(before)));

	EXPECT_EQ(0, ksm_mergeable(p, NR_PAGES));
	EXPECT_EQ(1, ksm_vmflag(0, p, "ui"));
	EXPECT_EQ(1, ksm_vmflag(0, p, "mg"));
	EXPECT_EQ(0, ksm_unmergeable(p, NR_PAGES));
	EXPECT_EQ(0, ksm_smaps_text(0, p, "VmFlags", after, sizeof(after)));
	EXPECT_STREQ(before, after);
	close(fd);
	EXPECT_EQ(0, ksm_vmflag(0, p, "ui"));
	munmap(p, len);
	close(mem);
}

TEST_F(one, high_flags_survive_protection_key)
{
	size_t len = NR_PAGES * ksm_psize();
	long long key;
	char *p;
	int ret;

	ret = pkey_alloc(0, 0);
	if (ret < 0)
		SKIP(return, "no protection keys: %s", strerror(errno));
	key = ret;
	p = ksm_map(NR_PAGES);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, pkey_mprotect(p, len, PROT_READ | PROT_WRITE, (int)key));
	ksm_fill_range(p, NR_PAGES, SEED, 0);
	ASSERT_EQ(key, ksm_smaps_kb(0, p, "ProtectionKey"));
	EXPECT_EQ(0, ksm_mergeable(p, NR_PAGES));
	EXPECT_EQ(key, ksm_smaps_kb(0, p, "ProtectionKey"));
	ASSERT_EQ(0, ksm_scan(3));
	EXPECT_EQ(NR_PAGES, ksm_count_same(p, NR_PAGES));

	/* B95: ksmd's and our own faults are not stopped by a closed key. */
	ASSERT_EQ(0, pkey_set((int)key, PKEY_DISABLE_ACCESS));
	EXPECT_EQ(0, ksm_unmergeable(p, NR_PAGES));
	EXPECT_EQ(NR_PAGES, ksm_count_frames(p, NR_PAGES));
	EXPECT_EQ(key, ksm_smaps_kb(0, p, "ProtectionKey"));
	ASSERT_EQ(0, pkey_set((int)key, 0));
	EXPECT_EQ(0, ksm_count_bad(p, NR_PAGES, SEED, 0));

	ASSERT_EQ(0, ksm_mergeable(p, NR_PAGES));
	ASSERT_EQ(0, ksm_scan(3));
	EXPECT_EQ(NR_PAGES, ksm_count_same(p, NR_PAGES));
	ASSERT_EQ(0, pkey_set((int)key, PKEY_DISABLE_ACCESS));
	EXPECT_EQ(0, ksm_unshare_all());
	EXPECT_EQ(NR_PAGES, ksm_count_frames(p, NR_PAGES));
	ASSERT_EQ(0, pkey_set((int)key, 0));
	EXPECT_EQ(0, ksm_count_bad(p, NR_PAGES, SEED, 0));
	ksm_unmap(p, NR_PAGES);
}

/* B47: a moved area keeps its bytes and its wish, and merges again. */
TEST_F_TIMEOUT(one, mremap_of_merged_area, 60)
{
	size_t len = NR_PAGES * ksm_psize();
	char *p, *q, *to;

	p = map_merged(ADVICE, NR_PAGES);
	ASSERT_NE(NULL, p);
	to = ksm_map(2 * NR_PAGES);
	ASSERT_NE(NULL, to);
	q = mremap(p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	ASSERT_EQ(to, q);
	EXPECT_EQ(1, ksm_vmflag(0, q, "mg"));
	EXPECT_EQ(0, ksm_count_bad(q, NR_PAGES, SEED, 0));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_PAGES, ksm_count_same(q, NR_PAGES));
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(NR_PAGES - 1, ksm_get("pages_sharing"));
	EXPECT_EQ(0, ksm_count_bad(q, NR_PAGES, SEED, 0));

	/* Shrinking and growing in place. */
	EXPECT_EQ(q, mremap(q, len, len / 2, 0));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_PAGES / 2 - 1, ksm_get("pages_sharing"));
	EXPECT_EQ(0, ksm_count_bad(q, NR_PAGES / 2, SEED, 0));
	munmap(to, 2 * len);
	ASSERT_EQ(0, ksm_start());
	EXPECT_TRUE(ksm_wait_for(!ksm_get("pages_shared"), KSM_WAIT_SECS));
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	return test_harness_run(argc, argv);
}
