// SPDX-License-Identifier: GPL-2.0
/*
 * KSM beside a device that takes pages of a process: a device of the kernel's
 * own, test_hmm, moves them into its memory, or has them for itself for a
 * while.  What KSM knows of these pages must stay right, and the bytes too.
 */
#include "../kselftest_harness.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include "ksm_util.h"
#include "ksm_env.h"
#include "../../../../lib/test_hmm_uapi.h"

#define DEVICE		"/dev/hmm_dmirror0"
#define NR_PAGES	32
#define SEED		0x4d0000

FIXTURE(ksm_hmm) {
	int fd;			/* the device's view of this process */
	char *copy;		/* where it puts what it reads */
};

FIXTURE_SETUP(ksm_hmm)
{
	const char *why = ksm_env_missing(0);

	if (why)
		SKIP(return, "%s", why);
	self->fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (self->fd < 0)
		SKIP(return, "no test_hmm: %s", strerror(errno));
	ASSERT_EQ(0, ksm_baseline());
	self->copy = ksm_map(NR_PAGES);
	ASSERT_NE(NULL, self->copy);
}

FIXTURE_TEARDOWN(ksm_hmm)
{
	if (self->fd >= 0)
		close(self->fd);
	ksm_finish(__test_passed(_metadata));
}

/* Let the device do something with @n pages; how many it did, or -errno. */
static int device_does(int fd, unsigned long what, char *p, size_t n,
		       char *copy)
{
	struct hmm_dmirror_cmd cmd = {
		.addr = (unsigned long)p,
		.ptr = (unsigned long)copy,
		.npages = n,
	};

	return ioctl(fd, what, &cmd) ? -errno : (int)cmd.cpages;
}

/* How many of @n pages are in none of this machine's frames? */
static size_t count_away(const char *p, size_t n)
{
	size_t i, away = 0;

	for (i = 0; i < n; i++)
		away += !(ksm_pagemap(0, p + i * ksm_psize()) & PM_PRESENT);
	return away;
}

/*
 * B82: zero pages that KSM placed go to the device, which has memory of its
 * own for them: they are KSM's no more, and counted no more.
 */
TEST_F_TIMEOUT(ksm_hmm, zero_pages_go_to_the_device, 60)
{
	char *p = ksm_map(NR_PAGES);
	size_t i;

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	memset(p, 0, NR_PAGES * ksm_psize());
	ASSERT_EQ(0, ksm_mergeable(p, NR_PAGES));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_zero_placed());
	ASSERT_EQ(NR_PAGES, ksm_stat(0, "ksm_zero_pages"));

	EXPECT_EQ(NR_PAGES, device_does(self->fd, HMM_DMIRROR_MIGRATE_TO_DEV, p,
					NR_PAGES, self->copy));
	EXPECT_EQ(NR_PAGES, count_away(p, NR_PAGES));
	EXPECT_EQ(0, ksm_zero_placed());
	EXPECT_EQ(0, ksm_stat(0, "ksm_zero_pages"));

	/* ksmd leaves them there; a touch brings them back, as own pages. */
	ASSERT_EQ(0, ksm_scan(2));
	EXPECT_EQ(NR_PAGES, count_away(p, NR_PAGES));
	for (i = 0; i < NR_PAGES * ksm_psize(); i += 8)
		ASSERT_EQ(0, *(uint64_t *)(p + i));
	EXPECT_EQ(0, count_away(p, NR_PAGES));
	EXPECT_EQ(0, ksm_zero_placed());
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_PAGES, ksm_zero_placed());
	ksm_unmap(p, NR_PAGES);
	EXPECT_EQ(0, ksm_zero_placed());
}

/* Merged pages stay: their frames are shared with whoever has the same. */
TEST_F_TIMEOUT(ksm_hmm, merged_pages_and_the_device, 60)
{
	char *p = ksm_map_filled(2 * NR_PAGES, SEED, 0);
	char *q = p + NR_PAGES * ksm_psize();
	int ret;

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(2 * NR_PAGES, (int)ksm_count_same(p, 2 * NR_PAGES));
	ret = device_does(self->fd, HMM_DMIRROR_MIGRATE_TO_DEV, q, NR_PAGES,
			  self->copy);
	EXPECT_EQ(-ENOENT, ret);	/* it got none */
	EXPECT_EQ(0UL, count_away(p, 2 * NR_PAGES));
	EXPECT_EQ(0UL, ksm_count_bad(p, NR_PAGES, SEED, 0));
	EXPECT_EQ(0UL, ksm_count_bad(q, NR_PAGES, SEED, 0));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(2 * NR_PAGES, (int)ksm_count_same(p, 2 * NR_PAGES));
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(2 * NR_PAGES - 1, ksm_get("pages_sharing"));
	/* Written to, they are its own, and go. */
	ksm_fill_range(q, NR_PAGES, SEED + 1, 0);
	EXPECT_EQ(NR_PAGES, device_does(self->fd, HMM_DMIRROR_MIGRATE_TO_DEV, q,
					NR_PAGES, self->copy));
	EXPECT_EQ(NR_PAGES, count_away(q, NR_PAGES));
	EXPECT_EQ(0UL, ksm_count_bad(q, NR_PAGES, SEED + 1, 0));
	ksm_unmap(p, 2 * NR_PAGES);
}

/* More than are asked whether they have a page of their parent's. */
#define NR_SIBLINGS	40

/*
 * The child of a process that merged two pages and exited: no item leads to the
 * second one any more, which a device then takes out of its page table.
 */
static int orphan(char *q)
{
	char *copy = ksm_map(1);
	int fd;

	if (!copy || !ksm_wait_for(!ksm_get("pages_sharing"), KSM_WAIT_SECS))
		return 2;
	if (ksm_stat(0, "ksm_merging_pages"))
		return 6;
	fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return 3;
	if (device_does(fd, HMM_DMIRROR_MIGRATE_TO_DEV, q, 1, copy) != -ENOENT)
		return 4;
	close(fd);
	return ksm_count_bad(q, 1, SEED, 0) ? 5 : 0;
}

/*
 * A child that has a second page of its own, says so, and lives until nobody has
 * @alive[1] any more.
 */
static void sibling(char *q, int alive[2], int ready)
{
	char c = 0;

	close(alive[1]);
	ksm_fill_range(q, 1, SEED + 1, 0);
	if (write(ready, &c, 1) == 1)
		_exit(read(alive[0], &c, 1));
	_exit(1);
}

static void parent_of_orphan(atomic_int *result)
{
	char *p = ksm_map_filled(2, SEED, 0);
	int alive[2], ready[2], i;
	pid_t pid;
	char c;

	if (!p || pipe(alive) || pipe(ready) || ksm_scan_settle() ||
	    ksm_count_same(p, 2) != 2)
		_exit(1);
	for (i = 0; i < NR_SIBLINGS; i++) {
		pid = fork();
		if (pid < 0)
			_exit(1);
		if (!pid)
			sibling(p + ksm_psize(), alive, ready[1]);
	}
	close(ready[1]);
	for (i = 0; i < NR_SIBLINGS; i++) {
		if (read(ready[0], &c, 1) != 1)
			_exit(1);
	}
	pid = fork();
	if (!pid) {
		*result = orphan(p + ksm_psize());
		_exit(0);
	}
	_exit(pid < 0);
}

TEST_F_TIMEOUT(ksm_hmm, page_of_a_parent_that_exited, 60)
{
	atomic_int *result = mmap(NULL, ksm_psize(), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, (void *)result);
	*result = -1;
	pid = fork();
	if (!pid)
		parent_of_orphan(result);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_TRUE(ksm_wait_for(*result >= 0, KSM_WAIT_SECS));
	EXPECT_EQ(0, *result);
	munmap(result, ksm_psize());
}

/*
 * B92: the device has half of the twins for itself.  These are not merged
 * until a touch ends that, not even if they were merged before; their PTEs
 * are neither present nor those of swapped pages.
 */
TEST_F_TIMEOUT(ksm_hmm, exclusive_pages_are_not_merged, 60)
{
	char *p, *q;
	int round;

	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	p = ksm_map_filled(2 * NR_PAGES, SEED, 0);
	ASSERT_NE(NULL, p);
	q = p + NR_PAGES * ksm_psize();
	/* Second time: of merged pages, each of which becomes private first. */
	for (round = 0; round < 2; round++) {
		ASSERT_LE(0, device_does(self->fd, HMM_DMIRROR_EXCLUSIVE, q,
					 NR_PAGES, self->copy));
		ASSERT_EQ(NR_PAGES, count_away(q, NR_PAGES));
		EXPECT_EQ(0UL, ksm_count_bad(self->copy, NR_PAGES, SEED, 0));
		ASSERT_EQ(0, ksm_scan_settle());
		EXPECT_EQ(NR_PAGES, count_away(q, NR_PAGES));
		EXPECT_EQ(NR_PAGES, (int)ksm_count_same(p, NR_PAGES));
		EXPECT_EQ(1, ksm_get("pages_shared"));
		EXPECT_EQ(NR_PAGES - 1, ksm_get("pages_sharing"));
		EXPECT_EQ(0, ksm_unmergeable(q, NR_PAGES));
		EXPECT_EQ(0, ksm_mergeable(q, NR_PAGES));

		EXPECT_EQ(0UL, ksm_count_bad(q, NR_PAGES, SEED, 0));
		EXPECT_EQ(0, count_away(q, NR_PAGES));
		ASSERT_EQ(0, ksm_scan_settle());
		EXPECT_EQ(2 * NR_PAGES, (int)ksm_count_same(p, 2 * NR_PAGES));
	}
	EXPECT_EQ(0UL, ksm_count_bad(p, 2 * NR_PAGES, SEED, 0));
	ksm_unmap(p, 2 * NR_PAGES);
}

struct storm {
	int fd;
	char *p;
	char *copy;
	atomic_int stop;
	atomic_long taken;
};

/* Take page after page, as a device does that works on atomic variables. */
static void *taker(void *arg)
{
	struct storm *s = arg;
	size_t i = 0;

	while (!s->stop) {
		s->taken += device_does(s->fd, HMM_DMIRROR_EXCLUSIVE,
					s->p + i * ksm_psize(), 1,
					s->copy) >= 0;
		i = (i + 1) % NR_PAGES;
	}
	return NULL;
}

/*
 * B92: the device takes pages at the very moment that ksmd looks at them,
 * while another thread writes twins and reads them back.
 */
TEST_F_TIMEOUT(ksm_hmm, exclusive_storm, 60)
{
	struct storm s = { .fd = self->fd, .copy = self->copy };
	long rounds = 0, merged = 0;
	uint64_t seed = SEED;
	pthread_t thread;
	double end;
	size_t bad = 0;
	char *p;

	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	p = ksm_map_filled(2 * NR_PAGES, seed, 0);
	ASSERT_NE(NULL, p);
	s.p = p;
	ASSERT_EQ(0, ksm_start());
	ASSERT_EQ(0, pthread_create(&thread, NULL, taker, &s));
	for (end = ksm_now() + 5; !bad && ksm_now() < end; rounds++) {
		ksm_fill_range(p, 2 * NR_PAGES, ++seed, 0);
		ksm_nap_us(20000);
		/* The second half nobody takes: it is merged by now. */
		merged += ksm_same_frame(p + NR_PAGES * ksm_psize(),
					 p + (NR_PAGES + 1) * ksm_psize());
		bad = ksm_count_bad(p, 2 * NR_PAGES, seed, 0);
	}
	s.stop = 1;
	ASSERT_EQ(0, pthread_join(thread, NULL));
	TH_LOG("%ld rounds, merged in %ld, %ld pages taken", rounds, merged,
	       s.taken);
	EXPECT_EQ(0UL, bad);
	EXPECT_GT(merged, 0);
	EXPECT_GT(s.taken, 0);
	/* What was taken last comes back by a touch. */
	EXPECT_EQ(0UL, ksm_count_bad(p, 2 * NR_PAGES, seed, 0));
	EXPECT_TRUE(ksm_wait_for(ksm_count_same(p, 2 * NR_PAGES) ==
				 2 * NR_PAGES, KSM_WAIT_SECS));
	ASSERT_EQ(0, ksm_stop());
	EXPECT_EQ(0UL, ksm_count_bad(p, 2 * NR_PAGES, seed, 0));
	ksm_unmap(p, 2 * NR_PAGES);
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(0);
	return test_harness_run(argc, argv);
}
