// SPDX-License-Identifier: GPL-2.0
/*
 * KSM: unique pages are cheap, and yet no twin is missed.
 *
 * A page that is settled and has no twin costs a few bytes in a table of all
 * such pages, and neither an rmap item nor a place in a tree.  A twin may come
 * at any time, from anywhere, however many pages there are by then, and the two
 * must be one by the end of the second pass after that.  Pages that share a
 * frame by fork, and equal pages of two nodes with merge_across_nodes=0, are no
 * twins, and nothing is to happen to them.
 */
#include "../kselftest_harness.h"
#include "ksm_util.h"
#include "ksm_env.h"

#define OWNER		81
#define STRANGER	82
#define BIG		83
#define NR_UNIQUE	1000
#define NR_FEW		64
#define REREAD_PASSES	32	/* after so many, each page was read again */
#define SETTLE_PASSES	4
#define MAX_BYTES	17	/* that one settled page may cost */

FIXTURE(ksm_filter) {
	struct ksm_puppet p[4];
	pid_t orphan;		/* an heir that is to outlive its parent */
};

FIXTURE_SETUP(ksm_filter)
{
	const char *why = ksm_env_missing(0);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
}

FIXTURE_TEARDOWN(ksm_filter)
{
	unsigned int i;

	if (self->orphan > 0)
		kill(self->orphan, SIGKILL);
	for (i = 0; i < ARRAY_SIZE(self->p); i++)
		ksm_puppet_kill(&self->p[i]);
	ksm_finish(__test_passed(_metadata));
}

static char *page_at(struct ksm_act *a, long i)
{
	return a->area + (size_t)i * ksm_psize();
}

static uint64_t frame(struct ksm_puppet *p, long i)
{
	return ksm_pfn(p->c.pid, page_at(p->act, i));
}

/*
 * Nothing is shared, and so many pages are known not to be.  Next to none of
 * them has an item: only those for which the table has no room near their
 * place, which is rarely so.
 */
static bool all_unique(struct ksm_puppet *p, int nr, long pages)
{
	struct ksm_counters c;
	long long items = 0;
	int i;

	ksm_count(&c);
	for (i = 0; i < nr; i++)
		items += ksm_stat(p[i].c.pid, "ksm_rmap_items");
	if (!c.shared && !c.sharing && !c.vol && c.unshared == pages &&
	    items <= pages / 100)
		return true;
	ksm_dump("not all unique");
	fprintf(stderr, "# %ld pages, %lld items\n", pages, items);
	return false;
}

/* And it stays like that while all pages are read again. */
static int stays_unique(struct ksm_puppet *p, int nr, long pages)
{
	int pass, ret = 0;

	for (pass = 0; !ret && pass <= REREAD_PASSES; pass++) {
		ret = ksm_step(1);
		if (!ret && !all_unique(p, nr, pages))
			ret = -EUCLEAN;
	}
	return ret;
}

/* B117: unique pages have no rmap items, and none of their counters moves. */
TEST_F_TIMEOUT(ksm_filter, unique_pages_have_no_items, 90)
{
	struct ksm_puppet *p = self->p;
	unsigned int i;

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, ksm_puppet_with(&p[i], NULL, NR_UNIQUE, OWNER + i,
					     1));
	ASSERT_EQ(0, ksm_step(SETTLE_PASSES));
	EXPECT_TRUE(all_unique(p, 2, 2 * NR_UNIQUE));
	EXPECT_EQ(0, stays_unique(p, 2, 2 * NR_UNIQUE));
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, ksm_do(&p[i], ksm_act_check));
}

/* ---- late twins ---------------------------------------------------------- */

static char *more;	/* of the puppet: a second area */

/* Map copies of arg[0] pages from page arg[1] on; arg[2] tells where. */
static int act_map_twins(struct ksm_act *a)
{
	long i;

	more = ksm_map((size_t)a->arg[0]);
	if (!more)
		return -ENOMEM;
	for (i = 0; i < a->arg[0]; i++)
		ksm_fill(more + (size_t)i * ksm_psize(),
			 a->model[a->arg[1] + i]);
	a->arg[2] = (long)more;
	return ksm_mergeable(more, (size_t)a->arg[0]);
}

/* B117: in the process itself, in places all over its area. */
TEST_F_TIMEOUT(ksm_filter, late_twin_in_the_process, 60)
{
	struct ksm_puppet *p = self->p;
	const long at[] = { 0, 500, NR_UNIQUE - 3 };
	unsigned int round;
	char *twin;
	long i;

	ASSERT_EQ(0, ksm_puppet_with(p, NULL, NR_UNIQUE, OWNER, 1));
	ASSERT_EQ(0, ksm_step(SETTLE_PASSES));
	for (round = 0; round < ARRAY_SIZE(at); round++) {
		ASSERT_EQ(0, ksm_do2(p, act_map_twins, 3, at[round]));
		twin = (char *)p->act->arg[2];
		ASSERT_EQ(0, ksm_step(2));
		for (i = 0; i < 3; i++)
			EXPECT_EQ(frame(p, at[round] + i),
				  ksm_pfn(p->c.pid, twin + i * ksm_psize()));
		EXPECT_EQ(3 * (round + 1), ksm_get("pages_shared"));
		EXPECT_EQ(3 * (round + 1), ksm_get("pages_sharing"));
		EXPECT_LE(ksm_stat(p->c.pid, "ksm_rmap_items"),
			  6 * (round + 1) + NR_UNIQUE / 100);
		ASSERT_EQ(0, ksm_step((int)round * 5));
	}
	EXPECT_EQ(0, ksm_do(p, ksm_act_check));
}

/* B117: in another process, all of its pages, in the other order. */
TEST_F_TIMEOUT(ksm_filter, late_twins_in_another_process, 60)
{
	struct ksm_puppet *p = self->p;
	size_t i, n = NR_FEW;

	ASSERT_EQ(0, ksm_puppet_with(&p[0], NULL, n, OWNER, 1));
	ASSERT_EQ(0, ksm_step(REREAD_PASSES));
	ASSERT_TRUE(all_unique(p, 1, (long)n));
	ASSERT_EQ(0, ksm_puppet_start(&p[1], NULL));
	p[1].act->n = n;
	for (i = 0; i < n; i++)
		p[1].act->model[i] = p[0].act->model[n - 1 - i];
	ASSERT_EQ(0, ksm_do(&p[1], ksm_act_map));
	ASSERT_EQ(0, ksm_step(2));
	for (i = 0; i < n; i++)
		EXPECT_EQ(frame(&p[0], (long)i),
			  frame(&p[1], (long)(n - 1 - i)));
	EXPECT_EQ(n, (size_t)ksm_get("pages_shared"));
	EXPECT_EQ(n, (size_t)ksm_get("pages_sharing"));
	EXPECT_EQ(0, ksm_get("pages_unshared"));
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, ksm_do(&p[i], ksm_act_check));
}

/* ---- fork ---------------------------------------------------------------- */

enum { HEIR_GOES, HEIR_WRITES, HEIR_CHECKS };

#define OUTLIVES	1

static struct ksm_child heir;	/* of the puppet */

/*
 * A child of the puppet, with the same pages.  It writes content arg[3] to page
 * arg[0], or looks whether all but that one are as in the model.  One that was
 * made to outlive the puppet stays for a while then, until it is killed.
 */
static int heir_main(struct ksm_child *c)
{
	struct ksm_act *a = c->arg;
	bool outlives = a->arg[0] == OUTLIVES;
	int cmd, ret;
	long i;

	if (outlives)
		prctl(PR_SET_PDEATHSIG, 0);
	while (!(ret = ksm_hear(c, &cmd)) && cmd != HEIR_GOES) {
		if (cmd == HEIR_WRITES) {
			ksm_fill(page_at(a, a->arg[0]),
				 (uint64_t)a->arg[3]);
			ret = 0;
		} else {
			for (i = 0, ret = 0; i < (long)a->n; i++)
				ret += !ksm_is(page_at(a, i),
					       i == a->arg[0] ?
					       (uint64_t)a->arg[3] :
					       a->model[i]);
		}
		if (ksm_say(c, ret))
			return 1;
	}
	if (outlives && ret == -EPIPE)
		ksm_nap_us(30 * 1000000L);
	return 0;
}

/* arg[0] may be OUTLIVES. */
static int act_fork(struct ksm_act *a)
{
	int ret = ksm_spawn(&heir, heir_main, a);

	a->arg[2] = heir.pid;
	return ret;
}

/* Page arg[0] of the heir gets content arg[3]. */
static int act_heir_writes(struct ksm_act *a)
{
	(void)a;
	return ksm_ask(&heir, HEIR_WRITES);
}

static int act_heir_checks(struct ksm_act *a)
{
	(void)a;
	return ksm_ask(&heir, HEIR_CHECKS);
}

static uint64_t heir_frame(struct ksm_puppet *p, long i)
{
	return ksm_pfn((pid_t)p->act->arg[2], page_at(p->act, i));
}

/* Pages of the heir that are still in the frames of its parent. */
static long nr_inherited(struct ksm_puppet *p)
{
	long i, nr = 0;

	for (i = 0; i < (long)p->act->n; i++)
		nr += frame(p, i) && frame(p, i) == heir_frame(p, i);
	return nr;
}

/* B117: a fork, and a write of the child: a twin of what another one has. */
TEST_F_TIMEOUT(ksm_filter, late_twin_by_a_forked_child, 60)
{
	struct ksm_puppet *p = self->p;
	struct ksm_act *a;
	long i;

	ASSERT_EQ(0, ksm_puppet_with(&p[0], NULL, NR_FEW, OWNER, 1));
	ASSERT_EQ(0, ksm_puppet_with(&p[1], NULL, NR_FEW, STRANGER, 1));
	ASSERT_EQ(0, ksm_do(&p[1], act_fork));
	ASSERT_EQ(0, ksm_step(SETTLE_PASSES));
	ASSERT_TRUE(all_unique(p, 2, 3 * NR_FEW));
	a = p[1].act;
	for (i = 0; i < 6; i++) {
		a->arg[0] = 7 * i;
		a->arg[3] = (long)p[0].act->model[9 * i];
		ASSERT_EQ(0, ksm_do(&p[1], act_heir_writes));
		ASSERT_EQ(0, ksm_step(2));
		EXPECT_EQ(frame(&p[0], 9 * i), heir_frame(&p[1], 7 * i));
		EXPECT_NE(frame(&p[1], 7 * i), heir_frame(&p[1], 7 * i));
		EXPECT_EQ(i + 1, ksm_get("pages_shared"));
		EXPECT_EQ(i + 1, ksm_get("pages_sharing"));
	}
	EXPECT_EQ(NR_FEW - 6, nr_inherited(&p[1]));
	EXPECT_EQ(0, ksm_do(&p[0], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[1], ksm_act_check));
}

/*
 * D9: pages that parent and child share by fork are not twins, in no pass; and
 * a real twin that comes then shares with both of them.
 */
TEST_F_TIMEOUT(ksm_filter, inherited_pages_are_no_twins, 90)
{
	const long n = 256, late = 40;
	struct ksm_puppet *p = self->p;
	long long cow = ksm_vmstat("cow_ksm");
	long i;

	ASSERT_EQ(0, ksm_puppet_with(&p[0], NULL, n, OWNER, 1));
	ASSERT_EQ(0, ksm_do(&p[0], act_fork));
	ASSERT_EQ(0, ksm_step(SETTLE_PASSES));
	EXPECT_TRUE(all_unique(p, 1, 2 * n));
	EXPECT_EQ(0, ksm_stat((pid_t)p->act->arg[2], "ksm_rmap_items"));
	EXPECT_EQ(0, stays_unique(p, 1, 2 * n));
	EXPECT_EQ(0, ksm_stat((pid_t)p->act->arg[2], "ksm_rmap_items"));
	EXPECT_EQ(n, nr_inherited(&p[0]));
	EXPECT_EQ(cow, ksm_vmstat("cow_ksm"));

	ASSERT_EQ(0, ksm_puppet_with(&p[1], NULL, late, OWNER, 1));
	ASSERT_EQ(0, ksm_step(2));
	for (i = 0; i < late; i++)
		EXPECT_EQ(frame(&p[0], i), frame(&p[1], i));
	EXPECT_EQ(n, nr_inherited(&p[0]));
	ASSERT_EQ(0, ksm_step(2));
	EXPECT_EQ(late, ksm_get("pages_shared"));
	EXPECT_EQ(2 * late, ksm_get("pages_sharing"));
	EXPECT_EQ(2 * (n - late), ksm_get("pages_unshared"));
	EXPECT_EQ(0, ksm_do(&p[0], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[1], ksm_act_check));
	p->act->arg[0] = -1;
	EXPECT_EQ(0, ksm_do(&p[0], act_heir_checks));
}

/* ---- exit ---------------------------------------------------------------- */

/*
 * The process whose pages are listed exits: before a twin comes, in the same
 * pass, and when twins have been there for long.
 */
TEST_F_TIMEOUT(ksm_filter, owner_exits, 60)
{
	struct ksm_puppet *p = self->p;
	int round;

	for (round = 0; round < 4; round++) {
		unsigned int owner = OWNER + 10 * round;

		ASSERT_EQ(0, ksm_puppet_with(&p[0], NULL, NR_FEW, owner, 1));
		ASSERT_EQ(0, ksm_step(SETTLE_PASSES));
		if (round & 1)
			ksm_puppet_kill(&p[0]);
		ASSERT_EQ(0, ksm_puppet_with(&p[1], NULL, NR_FEW, owner, 1));
		if (round == 2)
			ASSERT_EQ(0, ksm_step(1));
		if (!(round & 1))
			ksm_puppet_kill(&p[0]);
		ASSERT_EQ(0, ksm_step(SETTLE_PASSES));
		EXPECT_TRUE(all_unique(p + 1, 1, NR_FEW));
		ASSERT_EQ(0, ksm_puppet_with(&p[2], NULL, NR_FEW, owner, 1));
		ASSERT_EQ(0, ksm_step(2));
		EXPECT_EQ(NR_FEW, ksm_nr_common(&p[1], &p[2]));
		EXPECT_EQ(0, ksm_do(&p[1], ksm_act_check));
		EXPECT_EQ(0, ksm_do(&p[2], ksm_act_check));
		ksm_puppet_kill(&p[1]);
		ksm_puppet_kill(&p[2]);
		/* No pass is to be waited for when nobody is left. */
		EXPECT_TRUE(ksm_wait_for(ksm_pages_all_zero(), KSM_WAIT_SECS));
	}
}

/* As above, but a child has the frames still: it stands for them from now on */
TEST_F_TIMEOUT(ksm_filter, owner_exits_and_leaves_an_heir, 60)
{
	struct ksm_puppet *p = self->p;
	char *area;
	long i, nr = 0;

	ASSERT_EQ(0, ksm_puppet_with(&p[0], NULL, NR_FEW, OWNER, 1));
	ASSERT_EQ(0, ksm_do1(&p[0], act_fork, OUTLIVES));
	self->orphan = (pid_t)p->act->arg[2];
	area = p->act->area;
	ASSERT_EQ(0, ksm_step(SETTLE_PASSES));
	ASSERT_TRUE(all_unique(p, 1, 2 * NR_FEW));
	ksm_puppet_kill(&p[0]);
	ASSERT_EQ(0, ksm_puppet_with(&p[1], NULL, NR_FEW, OWNER, 1));
	ASSERT_EQ(0, ksm_step(2));
	for (i = 0; i < NR_FEW; i++) {
		uint64_t pfn = ksm_pfn(self->orphan, area + i * ksm_psize());

		nr += pfn && pfn == frame(&p[1], i);
	}
	EXPECT_EQ(NR_FEW, nr);
	EXPECT_EQ(NR_FEW, ksm_get("pages_shared"));
	EXPECT_EQ(NR_FEW, ksm_get("pages_sharing"));
	EXPECT_EQ(0, ksm_do(&p[1], ksm_act_check));
}

/* ---- growth -------------------------------------------------------------- */

#define MAX_PAGES	20000

static uint64_t big_content(long i)
{
	return ksm_stamp(BIG, (unsigned int)i, 1);
}

/* More pages than there is room for in the model; arg[3] counts them. */
static int act_big_map(struct ksm_act *a)
{
	a->area = ksm_map(MAX_PAGES);
	a->arg[3] = 0;
	return a->area ? ksm_mergeable(a->area, MAX_PAGES) : -ENOMEM;
}

/* To be arg[0] pages: what is missing is filled, what is too much, unmapped. */
static int act_big_resize(struct ksm_act *a)
{
	long i;

	for (i = a->arg[3]; i < a->arg[0]; i++)
		ksm_fill(page_at(a, i), big_content(i));
	if (a->arg[3] > a->arg[0])
		ksm_unmap(page_at(a, a->arg[0]),
			  (size_t)(a->arg[3] - a->arg[0]));
	a->arg[3] = a->arg[0];
	return 0;
}

static int act_big_check(struct ksm_act *a)
{
	int bad = 0;
	long i;

	for (i = 0; i < a->arg[3]; i++)
		bad += !ksm_is(page_at(a, i), big_content(i));
	return bad;
}

/*
 * The table of unique pages grows and shrinks with their number; at each size
 * twins of the first, some middle and the last page are found.
 */
TEST_F_TIMEOUT(ksm_filter, few_pages_and_many, 180)
{
	static const long size[] = { 16, 300, 2000, MAX_PAGES, 2000, 16 };
	struct ksm_puppet *big = &self->p[0], *twin = &self->p[1];
	long round, at[3], left;
	int i;

	ASSERT_EQ(0, ksm_puppet_start(big, NULL));
	ASSERT_EQ(0, ksm_do(big, act_big_map));
	ASSERT_EQ(0, ksm_puppet_with(twin, NULL, 3, STRANGER, 1));
	for (round = 0; round < (long)ARRAY_SIZE(size); round++) {
		bool grows = !round || size[round] > size[round - 1];

		ASSERT_EQ(0, ksm_do1(big, act_big_resize, size[round]));
		/* When it shrinks, the twins come at once. */
		if (grows) {
			ASSERT_EQ(0, ksm_step(3));
			left = size[round] + 3 - 3 * round;
			EXPECT_EQ(left, ksm_get("pages_unshared"));
		}
		at[0] = round;
		at[1] = size[round] / 2 + round;
		at[2] = size[round] - 1 - round;
		for (i = 0; i < 3; i++)
			ASSERT_EQ(0, ksm_do2(twin, ksm_act_write, i,
					     (long)big_content(at[i])));
		ASSERT_EQ(0, ksm_step(2));
		for (i = 0; i < 3; i++) {
			EXPECT_NE(0, frame(big, at[i]));
			EXPECT_EQ(frame(big, at[i]), frame(twin, i)) {
				TH_LOG("page %ld of %ld", at[i], size[round]);
			}
		}
		EXPECT_EQ(0, ksm_do(twin, ksm_act_check));
		/* Of all pages, those that were merged have an item. */
		EXPECT_LE(ksm_stat(big->c.pid, "ksm_rmap_items"),
			  3 * (round + 1) + size[round] / 100);
		for (i = 0; i < 3; i++)
			ASSERT_EQ(0, ksm_do2(twin, ksm_act_write, i,
					     (long)ksm_stamp(STRANGER, i,
							     round + 2)));
		ASSERT_EQ(0, ksm_step(2));
	}
	EXPECT_EQ(0, ksm_do(big, act_big_check));
}

/* There is room for all of them, whatever their number. */
TEST_F_TIMEOUT(ksm_filter, any_number_of_unique_pages, 60)
{
	static const long size[] = { 1, 17, 84, 150, 169, 254, 300, 339, 424,
				     509, 594, 700, 1019, 1200 };
	struct ksm_puppet *p = self->p;
	unsigned int i;

	ASSERT_EQ(0, ksm_puppet_start(p, NULL));
	ASSERT_EQ(0, ksm_do(p, act_big_map));
	for (i = 0; i < ARRAY_SIZE(size); i++) {
		ASSERT_EQ(0, ksm_do1(p, act_big_resize, size[i]));
		ASSERT_EQ(0, ksm_step(SETTLE_PASSES));
		EXPECT_TRUE(all_unique(p, 1, size[i]));
	}
}

/* What the books say that a few thousand unique pages cost. */
TEST_F_TIMEOUT(ksm_filter, cost_of_unique_pages, 60)
{
	const long size[] = { 2000, 4096, 9000, 16000 };
	struct ksm_puppet *p = self->p;
	long long own, all;
	unsigned int i;

	ASSERT_EQ(0, ksm_puppet_start(p, NULL));
	ASSERT_EQ(0, ksm_do(p, act_big_map));
	for (i = 0; i < ARRAY_SIZE(size); i++) {
		ASSERT_EQ(0, ksm_do1(p, act_big_resize, size[i]));
		ASSERT_EQ(0, ksm_step(SETTLE_PASSES));
		ASSERT_TRUE(all_unique(p, 1, size[i]));
		own = -ksm_stat(p->c.pid, "ksm_process_profit");
		all = -ksm_get("general_profit");
		TH_LOG("%ld pages: %.2f bytes each in the process, %.2f in all",
		       size[i], (double)own / (double)size[i],
		       (double)all / (double)size[i]);
		EXPECT_GT(own, 0);
		EXPECT_LE(own, MAX_BYTES * size[i]);
		EXPECT_GE(all, own);
		EXPECT_LE(all, MAX_BYTES * size[i]);
	}
}

#define LONE_STRIDE	64	/* pages: one in each block of records */
#define NR_LONES	440
#define LONE_BYTES	60	/* that a page may cost that is alone there */

/* One page in each block; all have the same contents if arg[0] */
static int act_lone_map(struct ksm_act *a)
{
	long i;

	a->area = ksm_map(NR_LONES * LONE_STRIDE);
	if (!a->area)
		return -ENOMEM;
	for (i = 0; i < NR_LONES; i++)
		ksm_fill(page_at(a, i * LONE_STRIDE),
			 big_content(a->arg[0] ? 0 : i));
	return ksm_mergeable(a->area, NR_LONES * LONE_STRIDE);
}

/* Of those that lie next to each other keep one in arg[0] */
static int act_lone_thin(struct ksm_act *a)
{
	long i;

	for (i = 0; i < NR_LONES; i++) {
		if (i % a->arg[0] &&
		    madvise(page_at(a, i * LONE_STRIDE), ksm_psize(),
			    MADV_DONTNEED))
			return -errno;
	}
	return 0;
}

static void lone_pages(struct __test_metadata *_metadata, struct ksm_puppet *p,
		       long same, long saved)
{
	const long every = 11, left = NR_LONES / every;
	long long own;

	ASSERT_EQ(0, ksm_puppet_start(p, NULL));
	ASSERT_EQ(0, ksm_do1(p, act_lone_map, same));
	ASSERT_EQ(0, ksm_step(SETTLE_PASSES));
	own = saved * NR_LONES - ksm_stat(p->c.pid, "ksm_process_profit");
	TH_LOG("%d pages: %.2f bytes each", NR_LONES, (double)own / NR_LONES);
	EXPECT_GT(own, 0);
	EXPECT_LE(own, NR_LONES * (LONE_BYTES + (same ? 64 : 0)));

	ASSERT_EQ(0, ksm_do1(p, act_lone_thin, every));
	ASSERT_EQ(0, ksm_step(2));
	own = saved * left - ksm_stat(p->c.pid, "ksm_process_profit");
	TH_LOG("%ld pages: %.2f bytes each", left, (double)own / (double)left);
	EXPECT_GT(own, 0);
	EXPECT_LE(own, left * (LONE_BYTES + (same ? 64 : 0)));
}

/*
 * A page alone in its part of the area, and what is left when most of them go:
 * their records are moved together.
 */
TEST_F_TIMEOUT(ksm_filter, cost_of_lone_pages, 60)
{
	lone_pages(_metadata, self->p, 0, 0);
}

/* Pages that are merged already give ksmd no other reason to come by */
TEST_F_TIMEOUT(ksm_filter, cost_of_lone_merged_pages, 60)
{
	lone_pages(_metadata, self->p, 1, (long)ksm_psize());
}

/* ---- nodes --------------------------------------------------------------- */

/* The model, on node arg[0]. */
static int act_map_on(struct ksm_act *a)
{
	int ret;

	a->area = ksm_map(a->n);
	if (!a->area)
		return -ENOMEM;
	ret = ksm_bind(a->area, a->n, KSM_MPOL_BIND, (int)a->arg[0]);
	if (ret)
		return ret;
	ksm_act_fill(a);
	return ksm_mergeable(a->area, a->n);
}

/* The same pages each time, on a node. */
static int start_on(struct ksm_puppet *p, int node)
{
	int ret = ksm_puppet_start(p, NULL);
	unsigned int i;

	if (ret)
		return ret;
	p->act->n = NR_FEW;
	for (i = 0; i < NR_FEW; i++)
		p->act->model[i] = ksm_stamp(OWNER, i, 1);
	return ksm_do1(p, act_map_on, node);
}

/* D9, B69: equal pages of two nodes are unique, those of one node are not. */
TEST_F_TIMEOUT(ksm_filter, each_node_has_its_own_twins, 90)
{
	struct ksm_puppet *p = self->p;
	int node[2], i;

	if (ksm_nodes(node, 2) < 2)
		SKIP(return, "needs two nodes with memory");
	ASSERT_EQ(0, ksm_set("merge_across_nodes", 0));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, start_on(&p[i], node[i]));
	ASSERT_EQ(0, ksm_step(SETTLE_PASSES));
	EXPECT_TRUE(all_unique(p, 2, 2 * NR_FEW));
	EXPECT_EQ(0, stays_unique(p, 2, 2 * NR_FEW));

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, start_on(&p[2 + i], node[i]));
		ASSERT_EQ(0, ksm_step(2));
		EXPECT_EQ(NR_FEW, ksm_nr_common(&p[i], &p[2 + i]));
		EXPECT_EQ((i + 1) * NR_FEW, ksm_get("pages_shared"));
		EXPECT_EQ((i + 1) * NR_FEW, ksm_get("pages_sharing"));
		EXPECT_EQ((1 - i) * NR_FEW, ksm_get("pages_unshared"));
	}
	EXPECT_EQ(0, ksm_nr_common(&p[0], &p[1]));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(0, ksm_do(&p[i], ksm_act_check));
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(0);
	return test_harness_run(argc, argv);
}
