// SPDX-License-Identifier: GPL-2.0
/*
 * KSM: merged pages and mremap().
 *
 * mremap() changes the address of a page but not its page offset in the
 * anon_vma, so a reverse walk that takes one for the other no longer finds
 * the mapping: the page can then neither be swapped out nor migrated.  That is
 * what most tests here look at, by swapping everything out through a memory
 * cgroup and by moving pages to another node.
 */
#include "../kselftest_harness.h"
#include "ksm_util.h"
#include "ksm_env.h"

#define OWNER		7

FIXTURE(ksm_mremap) {
	struct ksm_puppet p[3];
};

FIXTURE_SETUP(ksm_mremap)
{
	const char *why = ksm_env_missing(KSM_WITH_SWAP | KSM_WITH_CGROUP);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
}

FIXTURE_TEARDOWN(ksm_mremap)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(self->p); i++)
		ksm_puppet_kill(&self->p[i]);
	ksm_finish(__test_passed(_metadata));
}

static char *move_page(char *from, char *to, size_t npages)
{
	size_t len = npages * ksm_psize();
	char *p = mremap(from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to);

	return p == MAP_FAILED ? NULL : p;
}

/*
 * All pages of the puppet go to swap and come back with their bytes; 0 or
 * what went wrong.
 */
static int out_and_in(struct ksm_puppet *p)
{
	if (!ksm_reclaim_until(ksm_nr_swapped(p) == (long)p->act->n)) {
		fprintf(stderr, "# only %ld of %zu pages went to swap\n",
			ksm_nr_swapped(p), p->act->n);
		return -EBUSY;
	}
	return ksm_do(p, ksm_act_check);
}

/* Node by node, every page moves and stays shared; 0 or what went wrong. */
static int round_trip(struct ksm_puppet *p)
{
	int nodes[KSM_MAX_NODES], nr, i, ret = 0;

	nr = ksm_nodes(nodes, KSM_MAX_NODES);
	for (i = 0; !ret && nr > 1 && i < nr; i++)
		ret = ksm_move_all(p, nodes[i]);
	return ret;
}

/* Three pages, the same bytes in the first two; page 1 moves over page 2. */
static int act_three_pages(struct ksm_act *a)
{
	char *p = ksm_map(3);

	if (!p || ksm_advise(p, 3, MADV_DONTFORK))
		return -ENOMEM;
	memset(p, 0x42, 2 * ksm_psize());
	memset(p + 2 * ksm_psize(), 0x17, ksm_psize());
	if (!move_page(p + ksm_psize(), p + 2 * ksm_psize(), 1))
		return -errno;
	a->area = p;
	return ksm_mergeable(p, 1) ?:
		ksm_mergeable(p + 2 * ksm_psize(), 1);
}

static int act_three_check(struct ksm_act *a)
{
	size_t i, bad = 0;

	for (i = 0; i < ksm_psize(); i++)
		bad += a->area[i] != 0x42;
	for (i = 2 * ksm_psize(); i < 3 * ksm_psize(); i++)
		bad += a->area[i] != 0x42;
	return bad != 0;
}

/*
 * B42: the page offset of the moved page is that of its old address.  After
 * the merge both mappers must leave RAM.
 */
TEST_F_TIMEOUT(ksm_mremap, move_then_merge_then_swap, 60)
{
	struct ksm_puppet *p = self->p;
	uint64_t first, third;

	ASSERT_EQ(0, ksm_puppet_start(p, ksm_env()->cg));
	ASSERT_EQ(0, ksm_do(p, act_three_pages));
	ASSERT_EQ(0, ksm_scan_settle());
	first = ksm_page_entry(p, 0);
	third = ksm_page_entry(p, 2);
	ASSERT_TRUE(!!PM_PFN(first));
	ASSERT_EQ(PM_PFN(first), PM_PFN(third));

	EXPECT_TRUE(ksm_reclaim_until((ksm_page_entry(p, 0) & PM_SWAPPED) &&
				      (ksm_page_entry(p, 2) & PM_SWAPPED))) {
		TH_LOG("first page %s, third page %s",
		       ksm_page_entry(p, 0) & PM_SWAPPED ? "out" : "stuck",
		       ksm_page_entry(p, 2) & PM_SWAPPED ? "out" : "stuck");
	}
	EXPECT_EQ(0, ksm_do(p, act_three_check));
}

#define NR_PAIRS	16

/*
 * 2 * NR_PAIRS pages, i and i + NR_PAIRS twins.  The second half is moved
 * far away in steps of one page, in reverse order, to arg[0] pages behind
 * the start of a wide reservation.
 */
static int act_scatter(struct ksm_act *a)
{
	size_t wide = 512, psize = ksm_psize(), i;
	char *from = ksm_map(2 * NR_PAIRS), *to = ksm_map(wide);

	if (!from || !to)
		return -ENOMEM;
	a->area = from;
	ksm_act_fill(a);
	for (i = 0; i < NR_PAIRS; i++)
		if (!move_page(from + (NR_PAIRS + i) * psize,
			       to + (wide - 1 - i * a->arg[0]) * psize, 1))
			return -errno;
	a->arg[2] = (long)to;
	return ksm_mergeable(from, NR_PAIRS) ?: ksm_mergeable(to, wide);
}

static char *scattered(struct ksm_act *a, size_t i)
{
	return (char *)a->arg[2] +
		(512 - 1 - (size_t)i * a->arg[0]) * ksm_psize();
}

static int act_scatter_check(struct ksm_act *a)
{
	int bad = 0;
	size_t i;

	for (i = 0; i < NR_PAIRS; i++) {
		bad += !ksm_is(a->area + i * ksm_psize(), a->model[i]);
		bad += !ksm_is(scattered(a, i), a->model[i]);
	}
	return bad;
}

/*
 * B42: the same with many areas that were each moved by a different distance,
 * and by migration, too.
 */
TEST_F_TIMEOUT(ksm_mremap, scattered_twins, 60)
{
	struct ksm_puppet *p = self->p;
	struct ksm_act *a;
	long out = 0;
	size_t i;

	ASSERT_EQ(0, ksm_puppet_start(p, ksm_env()->cg));
	a = p->act;
	a->n = 2 * NR_PAIRS;
	for (i = 0; i < 2 * NR_PAIRS; i++)
		a->model[i] = ksm_stamp(OWNER, i % NR_PAIRS, 1);
	ASSERT_EQ(0, ksm_do1(p, act_scatter, 7));
	ASSERT_EQ(0, ksm_scan_settle());
	for (i = 0; i < NR_PAIRS; i++) {
		ASSERT_EQ(ksm_pfn(p->c.pid, a->area + i * ksm_psize()),
			  ksm_pfn(p->c.pid, scattered(a, i)));
		ASSERT_TRUE(!!ksm_pfn(p->c.pid, scattered(a, i)));
	}
	a->n = NR_PAIRS;
	EXPECT_EQ(0, round_trip(p));
	for (i = 0; i < NR_PAIRS; i++)
		EXPECT_EQ(ksm_pfn(p->c.pid, a->area + i * ksm_psize()),
			  ksm_pfn(p->c.pid, scattered(a, i)));
	EXPECT_EQ(0, ksm_do(p, act_scatter_check));

	EXPECT_TRUE(ksm_reclaim_until(ksm_nr_swapped(p) == NR_PAIRS));
	for (i = 0; i < NR_PAIRS; i++)
		out += !!(ksm_pagemap(p->c.pid, scattered(a, i)) &
			  PM_SWAPPED);
	EXPECT_EQ(NR_PAIRS, out);
	EXPECT_EQ(0, ksm_do(p, act_scatter_check));
}

/* Move the whole area to a new place; the shared model knows where it is. */
static int act_move(struct ksm_act *a)
{
	char *to = ksm_map(a->n);

	if (!to || !move_page(a->area, to, a->n))
		return -errno;
	a->area = to;
	return 0;
}

/*
 * mremap() of merged pages takes them apart and keeps the area mergeable;
 * they merge again at the new place, and are found there.
 */
TEST_F_TIMEOUT(ksm_mremap, merge_then_move, 60)
{
	struct ksm_puppet *p = self->p;
	long i;

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, ksm_puppet_with(&p[i], ksm_env()->cg, NR_PAIRS,
					     OWNER, 1));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAIRS, ksm_nr_common(&p[0], &p[1]));

	ASSERT_EQ(0, ksm_do(&p[0], act_move));
	EXPECT_EQ(0, ksm_nr_ksm(&p[0]));
	EXPECT_EQ(1, ksm_vmflag(p[0].c.pid, p[0].act->area, "mg"));
	EXPECT_EQ(0, ksm_do(&p[0], ksm_act_check));

	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_PAIRS, ksm_nr_common(&p[0], &p[1]));
	EXPECT_EQ(0, round_trip(&p[0]));
	EXPECT_EQ(NR_PAIRS, ksm_nr_common(&p[0], &p[1]));
	EXPECT_EQ(0, out_and_in(&p[0]));
	EXPECT_EQ(0, out_and_in(&p[1]));
}

/*
 * Two areas of NR_CONTENTS pages with different contents; then, before ksmd
 * looks again, the first goes and the second takes its place.
 */
#define NR_CONTENTS	64

static int act_two_areas(struct ksm_act *a)
{
	char *p = ksm_map(2 * NR_CONTENTS);

	if (!p)
		return -ENOMEM;
	a->area = p;
	ksm_act_fill(a);
	return ksm_mergeable(p, 2 * NR_CONTENTS);
}

static int act_take_place(struct ksm_act *a)
{
	size_t i, len = NR_CONTENTS * ksm_psize();

	munmap(a->area, len);
	if (!move_page(a->area + len, a->area, NR_CONTENTS))
		return -errno;
	for (i = 0; i < NR_CONTENTS; i++)
		a->model[i] = a->model[i + NR_CONTENTS];
	a->n = NR_CONTENTS;
	return 0;
}

/*
 * B41: records of the old pages must not speak for the new ones: the trees
 * stay in order, later twins of every content merge, all bytes are right.
 */
TEST_F_TIMEOUT(ksm_mremap, another_page_at_the_old_address, 60)
{
	struct ksm_puppet *p = self->p;
	long i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, ksm_puppet_start(&p[i], ksm_env()->cg));
		p[i].act->n = 2 * NR_CONTENTS;
		for (long j = 0; j < 2 * NR_CONTENTS; j++)
			p[i].act->model[j] = ksm_stamp(OWNER, j, 1);
		ASSERT_EQ(0, ksm_do(&p[i], act_two_areas));
	}
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(2 * NR_CONTENTS, ksm_get("pages_shared"));

	ASSERT_EQ(0, ksm_do(&p[0], act_take_place));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(0, ksm_do(&p[0], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[1], ksm_act_check));
	/* Half of the contents have two mappers, the others one. */
	EXPECT_EQ(NR_CONTENTS, ksm_get("pages_sharing"));

	/* Twins of all contents that come now find every one of them. */
	ASSERT_EQ(0, ksm_puppet_start(&p[2], ksm_env()->cg));
	p[2].act->n = 2 * NR_CONTENTS;
	for (i = 0; i < 2 * NR_CONTENTS; i++)
		p[2].act->model[i] = ksm_stamp(OWNER, i, 1);
	ASSERT_EQ(0, ksm_do(&p[2], act_two_areas));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(2 * NR_CONTENTS, ksm_nr_common(&p[1], &p[2]));
	EXPECT_EQ(2 * NR_CONTENTS, ksm_get("pages_shared"));
	EXPECT_EQ(3 * NR_CONTENTS, ksm_get("pages_sharing"));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, ksm_do(&p[i], ksm_act_check));
	/* Whoever was confused about addresses cannot swap these. */
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, out_and_in(&p[i]));
}

/* Pages with data in the wide area of act_wide(). */
static char *wide_page(char *p, size_t wide, size_t i)
{
	static const int odd[] = { 1, 3, 511, 513, 77777 };
	size_t at = i < 5 ? (size_t)odd[i] : wide - 1 - (i - 5);

	return p + at * ksm_psize();
}

#define WIDE_PAGES	262144UL	/* 1 GiB */
#define NR_WIDE		8

static int act_wide(struct ksm_act *a)
{
	size_t i;
	char *p;

	p = mmap(NULL, WIDE_PAGES * ksm_psize(), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	ksm_advise(p, WIDE_PAGES, MADV_NOHUGEPAGE);
	a->area = p;
	for (i = 0; i < NR_WIDE; i++)
		ksm_fill(wide_page(p, WIDE_PAGES, i), a->model[i]);
	return ksm_mergeable(p, WIDE_PAGES);
}

static int act_wide_check(struct ksm_act *a)
{
	int bad = 0;
	size_t i;

	for (i = 0; i < NR_WIDE; i++)
		bad += !ksm_is(wide_page(a->area, WIDE_PAGES, i), a->model[i]);
	return bad;
}

static int wide_out(struct ksm_puppet *p)
{
	int out = 0;
	size_t i;

	for (i = 0; i < NR_WIDE; i++)
		out += !!(ksm_pagemap(p->c.pid,
				      wide_page(p->act->area, WIDE_PAGES, i)) &
			  PM_SWAPPED);
	return out;
}

/*
 * B44: twins at odd places and at the very end of wide areas: the offset in
 * the page itself means nothing once it is merged.
 */
TEST_F_TIMEOUT(ksm_mremap, odd_places_in_wide_areas, 60)
{
	struct ksm_puppet *p = self->p;
	int nodes[KSM_MAX_NODES];
	char *pages[2];
	size_t i, j;
	int nr, n;

	nr = ksm_nodes(nodes, KSM_MAX_NODES);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, ksm_puppet_start(&p[i], ksm_env()->cg));
		for (j = 0; j < NR_WIDE; j++)
			/* Each content is at different places in the two. */
			p[i].act->model[j] =
				ksm_stamp(OWNER, (j + i * 3) % NR_WIDE, 1);
		ASSERT_EQ(0, ksm_do(&p[i], act_wide));
	}
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_WIDE, ksm_get("pages_shared"));
	EXPECT_EQ(NR_WIDE, ksm_get("pages_sharing"));
	for (j = 0; j < NR_WIDE; j++) {
		pages[0] = wide_page(p[0].act->area, WIDE_PAGES,
				     (j + 3) % NR_WIDE);
		pages[1] = wide_page(p[1].act->area, WIDE_PAGES, j);
		for (n = 0; nr > 1 && n < nr; n++)
			EXPECT_TRUE(ksm_wait_for(ksm_move(p[0].c.pid, pages[0],
							  1, nodes[n]) == 1,
						 5));
		EXPECT_EQ(ksm_pfn(p[0].c.pid, pages[0]),
			  ksm_pfn(p[1].c.pid, pages[1]));
	}
	EXPECT_TRUE(ksm_reclaim_until(wide_out(&p[0]) == NR_WIDE &&
				      wide_out(&p[1]) == NR_WIDE)) {
		TH_LOG("%d and %d of %d pages in swap", wide_out(&p[0]),
		       wide_out(&p[1]), NR_WIDE);
	}
	EXPECT_EQ(0, ksm_do(&p[0], act_wide_check));
	EXPECT_EQ(0, ksm_do(&p[1], act_wide_check));
}

/* A private mapping of a file, from an odd page of it on. */
static int act_map_file(struct ksm_act *a)
{
	size_t first = 1001;
	int fd;

	fd = (int)syscall(SYS_memfd_create, "ksm", 0);
	if (fd < 0 || ftruncate(fd, (first + a->n) * ksm_psize()))
		return -errno;
	a->area = mmap(NULL, a->n * ksm_psize(), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE, fd, first * ksm_psize());
	close(fd);
	if (a->area == MAP_FAILED)
		return -errno;
	ksm_act_fill(a);
	return ksm_mergeable(a->area, a->n);
}

/*
 * B44: anonymous pages of a private file mapping have the offsets of the
 * file.
 */
TEST_F_TIMEOUT(ksm_mremap, private_file_mapping, 60)
{
	struct ksm_puppet *p = self->p;
	long i;

	ASSERT_EQ(0, ksm_puppet_with(&p[0], ksm_env()->cg, NR_PAIRS, OWNER,
				     1));
	ASSERT_EQ(0, ksm_puppet_start(&p[1], ksm_env()->cg));
	p[1].act->n = NR_PAIRS;
	for (i = 0; i < NR_PAIRS; i++)
		p[1].act->model[i] = ksm_stamp(OWNER, i, 1);
	ASSERT_EQ(0, ksm_do(&p[1], act_map_file));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAIRS, ksm_nr_common(&p[0], &p[1]));
	EXPECT_EQ(0, round_trip(&p[1]));
	EXPECT_EQ(NR_PAIRS, ksm_nr_common(&p[0], &p[1]));
	EXPECT_EQ(0, out_and_in(&p[1]));
	EXPECT_EQ(0, out_and_in(&p[0]));
}

static void on_signal(int sig)
{
	(void)sig;
}

/* For arg[0] seconds move the area back and forth, whatever comes of it. */
static int act_move_storm(struct ksm_act *a)
{
	struct sigaction sa = { .sa_handler = on_signal };
	double end = ksm_now() + (double)a->arg[0];
	size_t len = a->n * ksm_psize();
	char *to = ksm_map(a->n), *p;
	long moved = 0, failed = 0;
	int bad = 0;

	if (!to || sigaction(SIGUSR1, &sa, NULL))
		return -1;
	while (!bad && ksm_now() < end) {
		p = mremap(a->area, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
			   to);
		if (p == to) {
			to = a->area;
			a->area = p;
			moved++;
		} else if (p == MAP_FAILED && (errno == EINTR ||
					       errno == ENOMEM ||
					       errno == EAGAIN)) {
			failed++;
		} else {
			return -2;
		}
		bad = ksm_act_check(a);
	}
	a->arg[2] = moved;
	a->arg[3] = failed;
	return bad;
}

/*
 * B47: mremap() unshares first, and a signal may cut that short: then it
 * fails as a whole, the area stays what and where it was, still mergeable.
 */
TEST_F_TIMEOUT(ksm_mremap, signals_at_a_moving_task, 60)
{
	const int n = 512;
	struct ksm_puppet *p = self->p;
	double end;
	long i;

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, ksm_puppet_with(&p[i], ksm_env()->cg, n, OWNER,
					     1));
	ASSERT_EQ(0, ksm_start());
	ASSERT_EQ(0, ksm_wait_passes(3));
	p[0].act->arg[0] = 5;
	ASSERT_EQ(0, ksm_do_begin(&p[0], act_move_storm));
	ksm_nap_us(200000);	/* its handler is there by now */
	for (end = ksm_now() + 4; ksm_now() < end; ) {
		kill(p[0].c.pid, SIGUSR1);
		ksm_nap_us(500);
	}
	EXPECT_EQ(0, ksm_do_end(&p[0]));
	TH_LOG("moved %ld times, %ld times not", p[0].act->arg[2],
	       p[0].act->arg[3]);
	EXPECT_GT(p[0].act->arg[2] + p[0].act->arg[3], 0);
	EXPECT_EQ(1, ksm_vmflag(p[0].c.pid, p[0].act->area, "mg"));
	ASSERT_EQ(0, ksm_stop());
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(n, ksm_nr_common(&p[0], &p[1]));
	EXPECT_EQ(0, ksm_do(&p[0], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[1], ksm_act_check));
}

/*
 * The parent's pages are not mergeable, the child's are: the child waits in
 * arg[1] to be told to check and go.
 */
static int act_fork_mergeable(struct ksm_act *a)
{
	pid_t pid;

	a->area = ksm_map(a->n);
	if (!a->area)
		return -ENOMEM;
	ksm_act_fill(a);
	a->arg[0] = (long)a->area;	/* where the child has them */
	a->arg[1] = 0;
	pid = fork();
	if (!pid) {
		char *mine = a->area;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (ksm_mergeable(mine, a->n))
			_exit(1);
		a->arg[2] = getpid();
		ksm_wait_for(__atomic_load_n(&a->arg[1], __ATOMIC_ACQUIRE),
			     3 * KSM_WAIT_SECS);
		for (size_t i = 0; i < a->n; i++)
			if (!ksm_is(mine + i * ksm_psize(), a->model[i]))
				_exit(2);
		_exit(0);
	}
	if (pid < 0 || !ksm_wait_for(__atomic_load_n(&a->arg[2],
						     __ATOMIC_ACQUIRE), 10))
		return -1;
	return 0;
}

static int act_reap_child(struct ksm_act *a)
{
	int status;

	__atomic_store_n(&a->arg[1], 1, __ATOMIC_RELEASE);
	return wait(&status) < 0 || status;
}

/*
 * A child merges pages that it shares with its parent, whose area is not
 * mergeable; the parent moves its own area, which unshares nothing.  All
 * mappers of the merged frames must be found for migration and for swap.
 *
 * Page i has its twin in a puppet registered before the child for i < n / 2,
 * after it otherwise, so that whichever of two pages KSM turns into the
 * shared one, the parent maps some of those.
 */
TEST_F_TIMEOUT(ksm_mremap, unmergeable_parent_moves, 90)
{
	struct ksm_puppet *p = self->p, child = {};
	long i, shared = 0;
	struct ksm_act ca;

	ASSERT_EQ(0, ksm_puppet_start(&p[1], ksm_env()->cg));
	p[1].act->n = 2 * NR_PAIRS;
	for (i = 0; i < 2 * NR_PAIRS; i++)
		p[1].act->model[i] = ksm_stamp(OWNER, i, 1);

	ASSERT_EQ(0, ksm_puppet_with(&p[0], ksm_env()->cg, NR_PAIRS, OWNER,
				     1));
	ASSERT_EQ(0, ksm_do(&p[1], act_fork_mergeable));
	ASSERT_EQ(0, ksm_puppet_start(&p[2], ksm_env()->cg));
	p[2].act->n = NR_PAIRS;
	for (i = 0; i < NR_PAIRS; i++)
		p[2].act->model[i] = ksm_stamp(OWNER, NR_PAIRS + i, 1);
	ASSERT_EQ(0, ksm_do(&p[2], ksm_act_map));

	/* The child seen as a puppet of its own. */
	ca = *p[1].act;
	ca.area = (char *)p[1].act->arg[0];
	child.act = &ca;
	child.c.pid = (pid_t)p[1].act->arg[2];

	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(2 * NR_PAIRS, ksm_nr_ksm(&child));
	ASSERT_EQ(0, ksm_do(&p[1], act_move));
	for (i = 0; i < 2 * NR_PAIRS; i++)
		shared += PM_PFN(ksm_page_entry(&p[1], i)) ==
			PM_PFN(ksm_page_entry(&child, i));
	TH_LOG("the parent maps %ld of the %d merged frames", shared,
	       2 * NR_PAIRS);
	EXPECT_GT(shared, 0);

	EXPECT_EQ(0, round_trip(&child));
	EXPECT_EQ(0, ksm_do(&p[1], ksm_act_check));
	EXPECT_TRUE(ksm_reclaim_until(ksm_nr_swapped(&child) == 2 * NR_PAIRS &&
				      ksm_nr_swapped(&p[1]) == 2 * NR_PAIRS &&
				      ksm_nr_swapped(&p[0]) == NR_PAIRS &&
				      ksm_nr_swapped(&p[2]) == NR_PAIRS)) {
		TH_LOG("in swap: child %ld, parent %ld of %d; twins %ld, %ld of %d",
		       ksm_nr_swapped(&child), ksm_nr_swapped(&p[1]),
		       2 * NR_PAIRS, ksm_nr_swapped(&p[0]),
		       ksm_nr_swapped(&p[2]), NR_PAIRS);
	}
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, ksm_do(&p[i], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[1], act_reap_child));
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(KSM_WITH_SWAP | KSM_WITH_CGROUP);
	return test_harness_run(argc, argv);
}
