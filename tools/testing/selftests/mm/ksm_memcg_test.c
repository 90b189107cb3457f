// SPDX-License-Identifier: GPL-2.0
/*
 * KSM and memory cgroups: a merged page is charged to one group, whichever;
 * when that group goes the page lives on for the others, when the page is
 * taken apart each copy is charged to the group that uses it, and limits hold.
 */
#include "../kselftest_harness.h"
#include "ksm_util.h"
#include "ksm_env.h"

#define NR_PAGES	512
#define OWNER		91
#define HUGE_SIZE	(2UL << 20)

FIXTURE(ksm_memcg) {
	char cg[2][512];
	struct ksm_puppet p[2];
	long long dying;	/* groups that were on their way out before */
	long long slack;	/* bytes by which charges may be off */
};

static long long nr_dying(void)
{
	return ksm_cg_key(ksm_env()->cg_root, "cgroup.stat",
			  "nr_dying_descendants");
}

static long long charged(const char *cg)
{
	return ksm_cg_num(cg, "memory.current");
}

static int set_limit(const char *cg, long long bytes)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", bytes);
	return ksm_cg_put(cg, "memory.max", text);
}

FIXTURE_SETUP(ksm_memcg)
{
	const char *why = ksm_env_missing(KSM_WITH_CGROUP);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	self->dying = nr_dying();
	self->slack = 64 * (long long)ksm_psize() *
		sysconf(_SC_NPROCESSORS_ONLN);
	ASSERT_EQ(0, ksm_cg_extra("a", self->cg[0], sizeof(self->cg[0])));
	ASSERT_EQ(0, ksm_cg_extra("b", self->cg[1], sizeof(self->cg[1])));
}

FIXTURE_TEARDOWN(ksm_memcg)
{
	int i;

	for (i = 0; i < 2; i++) {
		ksm_puppet_kill(&self->p[i]);
		ksm_cg_rmdir(self->cg[i]);
	}
	ksm_finish(__test_passed(_metadata));
}

/*
 * One puppet in each group, merged; the number of the group that pays for the
 * pages, or -errno.
 */
static int merge_groups(struct ksm_puppet *p, char cg[2][512])
{
	int i, ret;

	for (i = 0; i < 2; i++) {
		ret = ksm_puppet_with(&p[i], cg[i], NR_PAGES, OWNER, 1);
		if (ret)
			return ret;
	}
	ret = ksm_scan_settle();
	if (ret)
		return ret;
	if (ksm_nr_common(&p[0], &p[1]) != NR_PAGES)
		return -EBADE;
	return charged(cg[1]) > charged(cg[0]);
}

/*
 * B102: the group that pays loses its process and is removed.  The other one
 * keeps the pages, and pays for its own when it takes them apart; then the
 * first group is gone for good.
 */
TEST_F_TIMEOUT(ksm_memcg, first_owner_is_removed, 90)
{
	long long bytes = NR_PAGES * (long long)ksm_psize();
	struct ksm_puppet *p = self->p;
	long long before;
	int payer, other;

	if (self->slack * 2 > bytes)
		SKIP(return, "too many CPUs for exact charges");
	payer = merge_groups(p, self->cg);
	ASSERT_GE(payer, 0);
	other = !payer;
	EXPECT_GE(charged(self->cg[payer]), bytes);
	EXPECT_LT(charged(self->cg[other]), bytes);

	ksm_puppet_kill(&p[payer]);
	ASSERT_EQ(0, ksm_cg_rmdir(self->cg[payer]));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_PAGES, ksm_nr_ksm(&p[other]));
	EXPECT_EQ(0, ksm_do(&p[other], ksm_act_check));

	before = charged(self->cg[other]);
	ASSERT_EQ(0, ksm_do1(&p[other], ksm_act_advise, MADV_UNMERGEABLE));
	EXPECT_EQ(0, ksm_nr_ksm(&p[other]));
	EXPECT_GE(charged(self->cg[other]) - before, bytes - self->slack);
	EXPECT_EQ(0, ksm_do(&p[other], ksm_act_check));
	EXPECT_TRUE(ksm_wait_for(nr_dying() <= self->dying, KSM_WAIT_SECS)) {
		TH_LOG("%lld groups dying, %lld before", nr_dying(),
		       self->dying);
	}
	EXPECT_EQ(0, ksm_puppet_end(&p[other]));
	EXPECT_EQ(0, ksm_cg_rmdir(self->cg[other]));
}

/*
 * B02, B102: the other group has no room for pages of its own.  To take them
 * apart fails or costs it its process, but the limit holds, and KSM has no
 * record of it afterwards.
 */
TEST_F_TIMEOUT(ksm_memcg, unmerge_at_the_limit, 90)
{
	struct ksm_puppet *p = self->p;
	int payer, other, ret;
	long long limit;

	payer = merge_groups(p, self->cg);
	ASSERT_GE(payer, 0);
	other = !payer;
	ksm_cg_put(self->cg[other], "memory.swap.max", "0");
	limit = charged(self->cg[other]) +
		NR_PAGES / 4 * (long long)ksm_psize();
	ASSERT_EQ(0, set_limit(self->cg[other], limit));

	ret = ksm_do1(&p[other], ksm_act_advise, MADV_UNMERGEABLE);
	TH_LOG("MADV_UNMERGEABLE: %s", ret == -EPIPE ? "killed" :
	       strerror(-ret));
	EXPECT_LT(ret, 0);
	EXPECT_LE(charged(self->cg[other]), limit);
	EXPECT_GT(ksm_cg_key(self->cg[other], "memory.events", "max"), 0);
	if (ret != -EPIPE) {
		/* It lives: some pages are its own, all have their bytes. */
		EXPECT_EQ(0, ksm_do(&p[other], ksm_act_check));
		ASSERT_EQ(0, ksm_cg_put(self->cg[other], "memory.max", "max"));
		EXPECT_EQ(0, ksm_do1(&p[other], ksm_act_advise,
				     MADV_UNMERGEABLE));
		EXPECT_EQ(0, ksm_nr_ksm(&p[other]));
		EXPECT_EQ(0, ksm_do(&p[other], ksm_act_check));
	}
	EXPECT_EQ(0, ksm_do(&p[payer], ksm_act_check));
	ksm_puppet_kill(&p[0]);
	ksm_puppet_kill(&p[1]);
	ASSERT_EQ(0, ksm_start());
	EXPECT_TRUE(ksm_wait_for(ksm_all_zero(), KSM_WAIT_SECS));
}

static int unshare_fn(struct ksm_child *c)
{
	int ret = ksm_unshare_all();

	(void)c;
	return -ret;
}

/*
 * B01: run=2 when the owners have no room for their pages: the write comes
 * back, with an error or at the cost of an owner, and a later one succeeds.
 * B17: if an owner is killed, that may leave run=2 with the last reference to
 * the mm whose pages it takes apart.
 */
TEST_F_TIMEOUT(ksm_memcg, unshare_all_at_the_limit, 90)
{
	struct ksm_puppet *p = self->p;
	struct ksm_child c;
	int payer, other, ret;

	payer = merge_groups(p, self->cg);
	ASSERT_GE(payer, 0);
	other = !payer;
	ksm_cg_put(self->cg[other], "memory.swap.max", "0");
	ASSERT_EQ(0, set_limit(self->cg[other], charged(self->cg[other]) +
			       NR_PAGES / 4 * (long long)ksm_psize()));
	ASSERT_EQ(0, ksm_start());
	ASSERT_EQ(0, ksm_spawn(&c, unshare_fn, NULL));
	ret = ksm_reap(&c);
	TH_LOG("run=2: %s", ret < 0 ? "did not return" : strerror(ret));
	EXPECT_GE(ret, 0);
	EXPECT_EQ(0, ksm_do(&p[payer], ksm_act_check));

	ASSERT_EQ(0, ksm_cg_put(self->cg[other], "memory.max", "max"));
	ASSERT_EQ(0, ksm_start());
	EXPECT_TRUE(ksm_wait_for(!ksm_unshare_all(), 10));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_nr_ksm(&p[payer]));
	EXPECT_EQ(0, ksm_do(&p[payer], ksm_act_check));
}

/* A mergeable huge page full of a few contents. */
static int act_map_huge(struct ksm_act *a)
{
	char *p;
	size_t i;

	p = mmap(NULL, 2 * HUGE_SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	p = (char *)(((unsigned long)p + HUGE_SIZE - 1) & -HUGE_SIZE);
	madvise(p, HUGE_SIZE, MADV_HUGEPAGE);
	a->area = p;
	for (i = 0; i < a->n; i++)
		ksm_fill(p + i * ksm_psize(), a->model[i]);
	return ksm_mergeable(p, a->n);
}

/*
 * B73: huge pages of groups that come and go are split and merged; no group
 * is kept, nothing stays charged.
 */
TEST_F_TIMEOUT(ksm_memcg, huge_pages_of_short_lived_groups, 90)
{
	struct ksm_puppet *p = self->p;
	double end = ksm_now() + 8;
	int i, round;
	size_t j;

	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	for (round = 0; ksm_now() < end; round++) {
		for (i = 0; i < 2; i++) {
			ASSERT_EQ(0, ksm_puppet_start(&p[i], self->cg[i]));
			p[i].act->n = HUGE_SIZE / ksm_psize();
			for (j = 0; j < p[i].act->n; j++)
				p[i].act->model[j] =
					ksm_stamp(OWNER, j % 37, round);
			ASSERT_EQ(0, ksm_do_begin(&p[i], act_map_huge));
		}
		ASSERT_EQ(0, ksm_do_end(&p[0]));
		ASSERT_EQ(0, ksm_do_end(&p[1]));
		ksm_wait_for(ksm_nr_ksm(&p[round & 1]) > 0, 0.2);
		EXPECT_EQ(0, ksm_do(&p[0], ksm_act_check));
		/* One dies at once, its group with it; then the other. */
		ksm_puppet_kill(&p[round & 1]);
		ASSERT_EQ(0, ksm_cg_rmdir(self->cg[round & 1]));
		EXPECT_EQ(0, ksm_do(&p[!(round & 1)], ksm_act_check));
		ksm_puppet_kill(&p[!(round & 1)]);
		ASSERT_EQ(0, ksm_cg_rmdir(self->cg[!(round & 1)]));
		ASSERT_EQ(0, ksm_cg_extra("a", self->cg[0],
					  sizeof(self->cg[0])));
		ASSERT_EQ(0, ksm_cg_extra("b", self->cg[1],
					  sizeof(self->cg[1])));
	}
	TH_LOG("%d rounds", round);
	EXPECT_TRUE(ksm_wait_for(ksm_all_zero(), KSM_WAIT_SECS));
	EXPECT_TRUE(ksm_wait_for(nr_dying() <= self->dying, KSM_WAIT_SECS)) {
		TH_LOG("%lld groups dying, %lld before", nr_dying(),
		       self->dying);
	}
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(KSM_WITH_CGROUP);
	return test_harness_run(argc, argv);
}
