// SPDX-License-Identifier: GPL-2.0
/*
 * KSM and userfaultfd.
 *
 * Write protection by userfaultfd outlives merging and unmerging: the next
 * write gives an event, whatever KSM did in between.  And pages that a handler
 * copies, zeroes or moves into place are merged like others, with the bytes
 * that the handler meant.
 */
#include "../kselftest_harness.h"
#include <stdatomic.h>
#include <pthread.h>
#include "ksm_util.h"
#include "ksm_env.h"

#define NR_PAGES	16
#define OWNER		61
#define SEED(i, version) ksm_stamp(OWNER, (unsigned int)(i), (version))

/* From Linux 6.8 on; not in older headers. */
struct move_args {
	uint64_t dst;
	uint64_t src;
	uint64_t len;
	uint64_t mode;
	int64_t move;
};

#define MOVE_IOCTL	_IOWR(UFFDIO, 0x05, struct move_args)
#define MOVE_FEATURE	0x10000ULL

/* A thread that answers the events of a descriptor. */
struct handler {
	pthread_t thread;
	int fd;
	char *area;
	char *src;			/* a page to copy from */
	atomic_uint version;	/* of what it copies */
	atomic_int events;
	atomic_int failed;
	atomic_int stop;
};

FIXTURE(ksm_uffd) {
	char *p;		/* NR_PAGES pages, and ... */
	char *q;		/* ... their twins, in another area */
	struct handler h;
};

static size_t at(size_t i)
{
	return i * ksm_psize();
}

static size_t bad(const char *p, unsigned int version)
{
	return ksm_count_bad(p, NR_PAGES, SEED(0, version), 1UL << 24);
}

static int common(const char *p, const char *q)
{
	int nr = 0;
	size_t i;

	for (i = 0; i < NR_PAGES; i++)
		nr += ksm_same_frame(p + at(i), q + at(i));
	return nr;
}

static int protected(const char *p)
{
	int nr = 0;
	size_t i;

	for (i = 0; i < NR_PAGES; i++)
		nr += !!(ksm_pagemap(0, p + at(i)) & PM_UFFD_WP);
	return nr;
}

FIXTURE_SETUP(ksm_uffd)
{
	const char *why = ksm_env_missing(0);

	if (why)
		SKIP(return, "%s", why);
	self->h.fd = ksm_uffd_open(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	if (self->h.fd < 0)
		SKIP(return, "no userfaultfd with write protection");
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	self->p = ksm_map_filled(NR_PAGES, SEED(0, 1), 1UL << 24);
	self->q = ksm_map_filled(NR_PAGES, SEED(0, 1), 1UL << 24);
	ASSERT_NE(NULL, self->p);
	ASSERT_NE(NULL, self->q);
	self->h.area = self->p;
	self->h.src = ksm_map(1);
	ASSERT_NE(NULL, self->h.src);
}

FIXTURE_TEARDOWN(ksm_uffd)
{
	close(self->h.fd);
	ksm_finish(__test_passed(_metadata));
}

/* Every second missing page is zeroed, the others copied. */
static int resolve_missing(struct handler *h, char *page)
{
	size_t i = (size_t)(page - h->area) / ksm_psize();
	struct uffdio_zeropage zero = {
		.range.start = (unsigned long)page,
		.range.len = ksm_psize(),
	};
	struct uffdio_copy copy = {
		.dst = (unsigned long)page,
		.src = (unsigned long)h->src,
		.len = ksm_psize(),
	};
	int ret;

	if (i & 1) {
		ret = ioctl(h->fd, UFFDIO_ZEROPAGE, &zero);
	} else {
		ksm_fill(h->src, SEED(i, h->version));
		ret = ioctl(h->fd, UFFDIO_COPY, &copy);
	}
	return ret && errno != EEXIST ? -errno : 0;
}

static void *handler_main(void *arg)
{
	struct handler *h = arg;
	struct pollfd pfd = { .fd = h->fd, .events = POLLIN };
	struct uffd_msg msg;
	char *page;
	int ret;

	while (!h->stop) {
		if (poll(&pfd, 1, 20) <= 0 ||
		    read(h->fd, &msg, sizeof(msg)) != sizeof(msg) ||
		    msg.event != UFFD_EVENT_PAGEFAULT)
			continue;
		page = (char *)(unsigned long)(msg.arg.pagefault.address &
					       -ksm_psize());
		if (msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP)
			ret = ksm_uffd_protect(h->fd, page, 1, false);
		else
			ret = resolve_missing(h, page);
		if (ret)
			h->failed = ret;
		h->events++;
	}
	return NULL;
}

static int handler_start(struct handler *h)
{
	h->stop = 0;
	h->events = 0;
	return -pthread_create(&h->thread, NULL, handler_main, h);
}

/* How many events there were; negative if one could not be resolved. */
static int handler_stop(struct handler *h)
{
	h->stop = 1;
	pthread_join(h->thread, NULL);
	return h->failed ? h->failed : h->events;
}

/*
 * One write to each page of @p: each must give one event, and arrive, and
 * leave @q alone, which has version @other.
 */
static void write_all(struct __test_metadata *_metadata, struct handler *h,
		      char *p, char *q, unsigned int other)
{
	size_t i;

	ASSERT_EQ(0, handler_start(h));
	for (i = 0; i < NR_PAGES; i++)
		ksm_fill(p + at(i), SEED(i, 2));
	EXPECT_EQ(NR_PAGES, handler_stop(h));
	EXPECT_EQ(0UL, bad(p, 2));
	EXPECT_EQ(0UL, bad(q, other));
	EXPECT_EQ(0, protected(p));
}

/*
 * D7, B98: both sides are protected before the merge: merged or not, each
 * page is still protected and its next write gives an event.
 */
TEST_F_TIMEOUT(ksm_uffd, protected_before_the_merge, 60)
{
	struct handler *h = &self->h;
	char *p = self->p, *q = self->q;

	ASSERT_EQ(0, ksm_uffd_register(h->fd, p, NR_PAGES,
				       UFFDIO_REGISTER_MODE_WP));
	ASSERT_EQ(0, ksm_uffd_register(h->fd, q, NR_PAGES,
				       UFFDIO_REGISTER_MODE_WP));
	ASSERT_EQ(0, ksm_uffd_protect(h->fd, p, NR_PAGES, true));
	ASSERT_EQ(0, ksm_uffd_protect(h->fd, q, NR_PAGES, true));
	ASSERT_EQ(NR_PAGES, protected(p));
	ASSERT_EQ(NR_PAGES, protected(q));
	ASSERT_EQ(0, ksm_scan_settle());
	TH_LOG("%d of %d protected pages merged", common(p, q), NR_PAGES);
	EXPECT_EQ(NR_PAGES, protected(p));
	EXPECT_EQ(NR_PAGES, protected(q));
	write_all(_metadata, h, p, q, 1);
	write_all(_metadata, h, q, p, 2);

	/* Without protection they merge, all of them. */
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_PAGES, common(p, q));
}

/* Protected after the merge: the write gives an event, then a copy. */
TEST_F_TIMEOUT(ksm_uffd, protected_after_the_merge, 60)
{
	struct handler *h = &self->h;
	char *p = self->p, *q = self->q;

	ASSERT_EQ(0, ksm_uffd_register(h->fd, p, NR_PAGES,
				       UFFDIO_REGISTER_MODE_WP));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, common(p, q));
	ASSERT_EQ(0, ksm_uffd_protect(h->fd, p, NR_PAGES, true));
	EXPECT_EQ(NR_PAGES, protected(p));
	EXPECT_EQ(NR_PAGES, common(p, q));
	/* ksmd comes by and must not take it away. */
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_PAGES, protected(p));
	write_all(_metadata, h, p, q, 1);
}

/*
 * A protected page cannot be merged.  Then its twin is not to be made a KSM
 * page, and an ordinary one again, in each pass.
 */
TEST_F_TIMEOUT(ksm_uffd, protected_twin_is_left_alone, 60)
{
	struct handler *h = &self->h;
	char *p = self->p, *q = self->q;
	uint64_t pfn[2][NR_PAGES];
	int pass, moved = 0;
	long long cow;
	size_t i;

	ASSERT_EQ(0, ksm_uffd_register(h->fd, p, NR_PAGES,
				       UFFDIO_REGISTER_MODE_WP));
	ASSERT_EQ(0, ksm_uffd_register(h->fd, q, NR_PAGES,
				       UFFDIO_REGISTER_MODE_WP));
	/* In turn, so that ksmd meets protected pages first and last. */
	for (i = 0; i < NR_PAGES; i++) {
		ASSERT_EQ(0, ksm_uffd_protect(h->fd, (i & 1 ? p : q) + at(i),
					      1, true));
		pfn[0][i] = ksm_pfn(0, p + at(i));
		pfn[1][i] = ksm_pfn(0, q + at(i));
		ASSERT_NE(0, pfn[0][i]);
		ASSERT_NE(0, pfn[1][i]);
	}
	cow = ksm_vmstat("cow_ksm");
	for (pass = 0; pass < 12; pass++) {
		ASSERT_EQ(0, ksm_step(1));
		for (i = 0; i < NR_PAGES; i++) {
			moved += pfn[0][i] != ksm_pfn(0, p + at(i));
			moved += pfn[1][i] != ksm_pfn(0, q + at(i));
		}
	}
	EXPECT_EQ(0, moved);
	EXPECT_EQ(cow, ksm_vmstat("cow_ksm"));
	EXPECT_EQ(0, common(p, q));
	EXPECT_EQ(NR_PAGES, protected(p) + protected(q));
	EXPECT_EQ(0UL, bad(p, 1));
	EXPECT_EQ(0UL, bad(q, 1));
}

/*
 * B97: MADV_UNMERGEABLE of protected merged pages: no page is shared any
 * more, all are still protected, and their writes give events.
 */
TEST_F_TIMEOUT(ksm_uffd, unmergeable_keeps_protection, 60)
{
	struct handler *h = &self->h;
	char *p = self->p, *q = self->q;

	ASSERT_EQ(0, ksm_uffd_register(h->fd, p, NR_PAGES,
				       UFFDIO_REGISTER_MODE_WP));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, common(p, q));
	ASSERT_EQ(0, ksm_uffd_protect(h->fd, p, NR_PAGES, true));
	ASSERT_EQ(0, ksm_unmergeable(p, NR_PAGES));
	EXPECT_EQ(0, common(p, q));
	EXPECT_EQ(0, ksm_smaps_kb(0, p, "KSM"));
	EXPECT_EQ(NR_PAGES, protected(p));
	write_all(_metadata, h, p, q, 1);
}

/* B97: the same by run=2. */
TEST_F_TIMEOUT(ksm_uffd, unshare_all_keeps_protection, 60)
{
	struct handler *h = &self->h;
	char *p = self->p, *q = self->q;

	ASSERT_EQ(0, ksm_uffd_register(h->fd, p, NR_PAGES,
				       UFFDIO_REGISTER_MODE_WP));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, common(p, q));
	ASSERT_EQ(0, ksm_uffd_protect(h->fd, p, NR_PAGES, true));
	ASSERT_EQ(0, ksm_unshare_all());
	EXPECT_EQ(0, common(p, q));
	EXPECT_EQ(0, ksm_smaps_kb(0, p, "KSM"));
	EXPECT_EQ(NR_PAGES, protected(p));
	write_all(_metadata, h, p, q, 1);
}

/*
 * D7: protect and write in turn beside a busy ksmd: not one event is missed,
 * not one write lost.
 */
TEST_F_TIMEOUT(ksm_uffd, protect_storm, 60)
{
	struct handler *h = &self->h;
	char *p = self->p, *q = self->q;
	double end = ksm_now() + 5;
	long missed = 0, lost = 0;
	unsigned int version = 1;

	ASSERT_EQ(0, ksm_uffd_register(h->fd, p, NR_PAGES,
				       UFFDIO_REGISTER_MODE_WP));
	ASSERT_EQ(0, ksm_uffd_register(h->fd, q, NR_PAGES,
				       UFFDIO_REGISTER_MODE_WP));
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, handler_start(h));
	ASSERT_EQ(0, ksm_start());
	while (ksm_now() < end) {
		size_t i = ++version % NR_PAGES;
		char *page = p + at(i), *twin = q + at(i);
		int before;

		/* In turn, for the two sides fare differently in a merge. */
		if (version & 1) {
			page = q + at(i);
			twin = p + at(i);
		}
		ksm_fill(page, SEED(i, version));
		ksm_fill(twin, SEED(i, version));
		ASSERT_EQ(0, ksm_uffd_protect(h->fd, page, 1, true));
		ksm_nap_us(version % 4 < 2 ? 0 : 8000);
		before = h->events;
		ksm_fill(page, SEED(i, 0));
		missed += !ksm_wait_for(h->events != before, 0.2);
		lost += !ksm_is(page, SEED(i, 0));
		lost += !ksm_is(twin, SEED(i, version));
	}
	EXPECT_GT(handler_stop(h), 0);
	ASSERT_EQ(0, ksm_stop());
	TH_LOG("%u rounds", version);
	EXPECT_EQ(0, missed);
	EXPECT_EQ(0, lost);
}

/*
 * UFFDIO_COPY and UFFDIO_ZEROPAGE fill what MADV_DONTNEED has taken, while
 * ksmd merges what they bring.
 */
TEST_F_TIMEOUT(ksm_uffd, copy_and_zero_beside_ksmd, 60)
{
	struct handler *h = &self->h;
	char *p = self->p, *q = self->q;
	double end = ksm_now() + 5;
	unsigned int version = 1;
	long wrong = 0, merged = 0;
	size_t i, j;

	ASSERT_EQ(0, ksm_uffd_register(h->fd, p, NR_PAGES,
				       UFFDIO_REGISTER_MODE_MISSING));
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	ASSERT_EQ(0, handler_start(h));
	ASSERT_EQ(0, ksm_start());
	while (ksm_now() < end) {
		h->version = ++version;
		ksm_advise(p, NR_PAGES, MADV_DONTNEED);
		for (i = 0; i < NR_PAGES; i += 2) {
			ksm_fill(q + at(i), SEED(i, version));
			wrong += !ksm_is(p + at(i), SEED(i, version));
		}
		for (i = 1; i < NR_PAGES; i += 2)
			for (j = 0; j < ksm_psize(); j += 64)
				wrong += !!p[at(i) + j];
		merged += ksm_wait_for(ksm_same_frame(p, q),
				       version % 4 ? 0 : 0.1);
		/* Zero pages are written to, some of the merged ones, too. */
		for (i = 1; i < NR_PAGES; i += 6)
			ksm_fill(p + at(i), SEED(i, version));
		for (i = 1; i < NR_PAGES; i += 6)
			wrong += !ksm_is(p + at(i), SEED(i, version));
	}
	EXPECT_GT(handler_stop(h), 0);
	ASSERT_EQ(0, ksm_stop());
	TH_LOG("%u rounds, merged in %ld", version, merged);
	EXPECT_EQ(0, wrong);
	EXPECT_GT(merged, 0);
}

static int move(int fd, char *dst, char *src, size_t npages)
{
	struct move_args args = {
		.dst = (unsigned long)dst,
		.src = (unsigned long)src,
		.len = npages * ksm_psize(),
	};

	return ioctl(fd, MOVE_IOCTL, &args) ? -errno : 0;
}

/* A descriptor that may move pages to @dst, or a reason to skip. */
static const char *move_setup(struct handler *h, char *dst)
{
	close(h->fd);
	h->fd = ksm_uffd_open(MOVE_FEATURE);
	if (h->fd < 0)
		return "no UFFDIO_MOVE";
	return ksm_uffd_register(h->fd, dst, NR_PAGES,
				 UFFDIO_REGISTER_MODE_MISSING) ?
		"cannot register" : NULL;
}

/*
 * UFFDIO_MOVE of pages that ksmd is about to merge: it takes the page or
 * refuses; the bytes are at one place or at the other.
 */
TEST_F_TIMEOUT(ksm_uffd, move_beside_ksmd, 60)
{
	char *p = self->p, *q = self->q, *dst = ksm_map(NR_PAGES);
	long moved = 0, refused = 0, wrong = 0, failed = 0;
	double end = ksm_now() + 5;
	unsigned int version = 1;
	const char *why;

	ASSERT_NE(NULL, dst);
	why = move_setup(&self->h, dst);
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_mergeable(dst, NR_PAGES));
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	while (ksm_now() < end) {
		size_t i = ++version % NR_PAGES;
		int ret;

		ksm_fill(p + at(i), SEED(i, version));
		ksm_fill(q + at(i), SEED(i, version));
		ksm_nap_us(version % 3 ? 0 : 8000);
		ret = move(self->h.fd, dst + at(i), p + at(i), 1);
		if (!ret) {
			moved++;
			wrong += !ksm_is(dst + at(i), SEED(i, version));
			ksm_advise(dst + at(i), 1, MADV_DONTNEED);
		} else if (ret == -EBUSY || ret == -EAGAIN) {
			refused++;
			wrong += !ksm_is(p + at(i), SEED(i, version));
		} else {
			failed = ret;
			break;
		}
		wrong += !ksm_is(q + at(i), SEED(i, version));
	}
	ASSERT_EQ(0, ksm_stop());
	TH_LOG("moved %ld times, refused %ld times", moved, refused);
	EXPECT_EQ(0, failed);
	EXPECT_EQ(0, wrong);
	EXPECT_GT(moved, 0);
	EXPECT_GT(refused, 0);	/* merged pages are not exclusive */
}

/*
 * B99: MADV_UNMERGEABLE clears its own flag and no other, those in the upper
 * half of the flags (here: minor faults) included.
 */
TEST_F_TIMEOUT(ksm_uffd, high_flags_survive, 60)
{
	int fd, mem;
	char *p;

	fd = ksm_uffd_open(UFFD_FEATURE_MINOR_SHMEM);
	if (fd < 0)
		SKIP(return, "no minor faults for shared memory");
	mem = (int)syscall(SYS_memfd_create, "ksm", 0);
	ASSERT_GE(mem, 0);
	ASSERT_EQ(0, ftruncate(mem, NR_PAGES * ksm_psize()));
	p = mmap(NULL, NR_PAGES * ksm_psize(), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE, mem, 0);
	ASSERT_NE(MAP_FAILED, (void *)p);
	if (ksm_uffd_register(fd, p, NR_PAGES, UFFDIO_REGISTER_MODE_MINOR))
		SKIP(return, "no minor faults in private mappings");
	ASSERT_EQ(1, ksm_vmflag(0, p, "ui"));
	ASSERT_EQ(0, ksm_mergeable(p, NR_PAGES));
	EXPECT_EQ(1, ksm_vmflag(0, p, "ui"));
	EXPECT_EQ(1, ksm_vmflag(0, p, "mg"));
	ASSERT_EQ(0, ksm_unmergeable(p, NR_PAGES));
	EXPECT_EQ(1, ksm_vmflag(0, p, "ui"));
	EXPECT_EQ(0, ksm_vmflag(0, p, "mg"));
	close(fd);
	EXPECT_EQ(0, ksm_vmflag(0, p, "ui"));
	close(mem);
	munmap(p, NR_PAGES * ksm_psize());
}

/*
 * B81: a zero page that KSM placed is moved away: it is no longer one of
 * KSM's, or still counted; in the end the count is 0 again.  The last test:
 * where it fails, the count stays wrong until reboot.
 */
TEST_F_TIMEOUT(ksm_uffd, moved_zero_pages_are_counted, 60)
{
	char *p = self->p, *dst = ksm_map(NR_PAGES);
	const char *why;

	ASSERT_NE(NULL, dst);
	why = move_setup(&self->h, dst);
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_mergeable(dst, NR_PAGES));
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	memset(p, 0, NR_PAGES * ksm_psize());
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_zero_placed());
	ASSERT_EQ(0, move(self->h.fd, dst, p, NR_PAGES));
	for (size_t i = 0; i < NR_PAGES * ksm_psize(); i += 512)
		ASSERT_EQ(0, dst[i]);
	munmap(p, NR_PAGES * ksm_psize());
	munmap(dst, NR_PAGES * ksm_psize());
	EXPECT_EQ(0, ksm_zero_placed());
	EXPECT_EQ(0, ksm_stat(0, "ksm_zero_pages"));
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(0);
	return test_harness_run(argc, argv);
}
