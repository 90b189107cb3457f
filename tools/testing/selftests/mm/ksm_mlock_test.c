// SPDX-License-Identifier: GPL-2.0
/*
 * KSM: locked memory merges, stays in RAM, and is counted right: a merged
 * frame is one locked page, whoever locks it, and none when nobody does.
 */
#include "../kselftest_harness.h"
#include "ksm_util.h"
#include "ksm_env.h"

#define NR_PAGES	64
#define OWNER		81

/* Pages that were locked before the first test: by others, that is. */
static long long before;

FIXTURE(ksm_mlock) {
	struct ksm_puppet p[3];
};

/*
 * What /proc/meminfo calls Mlocked, in pages.  Locking and unlocking go
 * through per-CPU batches, which compaction empties first of all.
 */
static long long mlocked(void)
{
	ksm_put("/proc/sys/vm/compact_memory", "1");
	return ksm_proc_num(0, "../meminfo", "Mlocked") * 1024 /
		(long long)ksm_psize();
}

/* Wait until @pages are locked besides those. */
static bool locked_comes_to(long long pages)
{
	if (ksm_wait_for(mlocked() - before == pages, 10))
		return true;
	fprintf(stderr, "# %lld pages locked, not %lld\n", mlocked() - before,
		pages);
	return false;
}

FIXTURE_SETUP(ksm_mlock)
{
	const char *why = ksm_env_missing(0);

	if (!why && access("/proc/sys/vm/compact_memory", W_OK))
		why = "no compaction, hence no exact counts";
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_TRUE(locked_comes_to(0));
}

FIXTURE_TEARDOWN(ksm_mlock)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(self->p); i++)
		ksm_puppet_kill(&self->p[i]);
	ksm_finish(__test_passed(_metadata));
}

static int act_lock(struct ksm_act *a)
{
	return mlock(a->area, a->n * ksm_psize()) ? -errno : 0;
}

static int act_unlock(struct ksm_act *a)
{
	return munlock(a->area, a->n * ksm_psize()) ? -errno : 0;
}

/* B100: two processes lock, then merge; unlock one after the other. */
TEST_F_TIMEOUT(ksm_mlock, lock_merge_unlock, 60)
{
	struct ksm_puppet *p = self->p;
	int i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, ksm_puppet_with(&p[i], NULL, NR_PAGES, OWNER, 1));
		ASSERT_EQ(0, ksm_do(&p[i], act_lock));
	}
	ASSERT_TRUE(locked_comes_to(2 * NR_PAGES));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[1]));
	EXPECT_TRUE(locked_comes_to(NR_PAGES));
	EXPECT_EQ(0, ksm_do(&p[0], ksm_act_check));

	/* How many lockers a page has is known to the kernel by and large. */
	ASSERT_EQ(0, ksm_do(&p[0], act_unlock));
	EXPECT_LE(mlocked() - before, NR_PAGES);
	ASSERT_EQ(0, ksm_do(&p[1], act_unlock));
	EXPECT_TRUE(locked_comes_to(0));
	EXPECT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[1]));
	EXPECT_EQ(0, ksm_do(&p[1], ksm_act_check));
}

/* B100: processes that exit with merged locked pages leave none behind. */
TEST_F_TIMEOUT(ksm_mlock, exit_with_locked_pages, 60)
{
	struct ksm_puppet *p = self->p;
	int i;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, ksm_puppet_with(&p[i], NULL, NR_PAGES, OWNER, 1));
		ASSERT_EQ(0, ksm_do(&p[i], act_lock));
	}
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[2]));
	EXPECT_TRUE(locked_comes_to(NR_PAGES));
	ASSERT_EQ(0, ksm_puppet_end(&p[1]));
	EXPECT_LE(mlocked() - before, NR_PAGES);
	ASSERT_EQ(0, ksm_puppet_end(&p[0]));
	EXPECT_LE(mlocked() - before, NR_PAGES);
	EXPECT_EQ(0, ksm_do(&p[2], ksm_act_check));
	ASSERT_EQ(0, ksm_puppet_end(&p[2]));
	EXPECT_TRUE(locked_comes_to(0));
}

/*
 * One of two locks: what merges is locked.  Locking what is merged already
 * gives the process its own pages first; they merge again.
 */
TEST_F_TIMEOUT(ksm_mlock, lock_of_merged_pages, 60)
{
	struct ksm_puppet *p = self->p;
	int i;

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, ksm_puppet_with(&p[i], NULL, NR_PAGES, OWNER, 1));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[1]));
	ASSERT_EQ(0, ksm_do(&p[0], act_lock));
	EXPECT_TRUE(locked_comes_to(NR_PAGES));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[1]));
	EXPECT_TRUE(locked_comes_to(NR_PAGES));
	ASSERT_EQ(0, ksm_unshare_all());
	EXPECT_EQ(0, ksm_nr_common(&p[0], &p[1]));
	EXPECT_TRUE(locked_comes_to(NR_PAGES));
	EXPECT_EQ(0, ksm_do(&p[0], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[1], ksm_act_check));
}

/* What one process has locked stays in RAM, though others have not. */
TEST_F_TIMEOUT(ksm_mlock, locked_by_one_stays_in_ram, 60)
{
	const char *why = ksm_env_missing(KSM_WITH_SWAP | KSM_WITH_CGROUP);
	struct ksm_puppet *p = self->p;
	int i;

	if (why)
		SKIP(return, "%s", why);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, ksm_puppet_with(&p[i], ksm_env()->cg, NR_PAGES,
					     OWNER, 1));
	/* These are to show that reclaim has been everywhere. */
	ASSERT_EQ(0, ksm_puppet_with(&p[2], ksm_env()->cg, NR_PAGES,
				     OWNER + 1, 1));
	ASSERT_EQ(0, ksm_do(&p[0], act_lock));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[1]));
	ASSERT_TRUE(ksm_reclaim_until(ksm_nr_swapped(&p[2]) == NR_PAGES));
	EXPECT_EQ(0, ksm_nr_swapped(&p[0]));
	EXPECT_EQ(0, ksm_nr_swapped(&p[1]));
	EXPECT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[1]));

	ASSERT_EQ(0, ksm_do(&p[0], act_unlock));
	EXPECT_TRUE(locked_comes_to(0));
	EXPECT_TRUE(ksm_reclaim_until(ksm_nr_swapped(&p[0]) == NR_PAGES &&
				      ksm_nr_swapped(&p[1]) == NR_PAGES));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, ksm_do(&p[i], ksm_act_check));
}

/* Touch all pages from processor arg[0], and leave it idle. */
static int act_map_on_cpu(struct ksm_act *a)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(a->arg[0], &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		return -errno;
	return ksm_act_map(a);
}

/*
 * B101: new pages wait in lists of the processor that touched them; they
 * must merge within two passes although that processor sleeps.
 */
TEST_F_TIMEOUT(ksm_mlock, pages_in_per_cpu_lists, 60)
{
	struct ksm_puppet *p = self->p;
	int i, j, nr = 5;	/* fewer than such a list holds */

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, ksm_puppet_start(&p[i], NULL));
		p[i].act->n = nr;
		for (j = 0; j < nr; j++)
			p[i].act->model[j] = ksm_stamp(OWNER, j, 1);
		ASSERT_EQ(0, ksm_do1(&p[i], act_map_on_cpu,
				     i % sysconf(_SC_NPROCESSORS_ONLN)));
	}
	ASSERT_EQ(0, ksm_scan(2));
	EXPECT_EQ(nr, ksm_nr_common(&p[0], &p[1]));
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(KSM_WITH_SWAP | KSM_WITH_CGROUP);
	before = mlocked();
	return test_harness_run(argc, argv);
}
