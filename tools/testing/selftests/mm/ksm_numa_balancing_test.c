// SPDX-License-Identifier: GPL-2.0
/*
 * KSM and automatic NUMA balancing, which makes PTEs inaccessible for a while
 * to see who uses the page: such pages merge and unmerge like others, their
 * faults may be taken on behalf of others, and no write gets lost.
 */
#include "../kselftest_harness.h"
#include "ksm_util.h"
#include "ksm_env.h"

#define NR_PAGES	128
#define OWNER		101
#define NUMA_BALANCING	"/proc/sys/kernel/numa_balancing"
#define DEBUG_DIR	"/sys/kernel/debug/sched/numa_balancing/"

FIXTURE(ksm_numab) {
	struct ksm_puppet p[3];
	int node[2];
};

FIXTURE_SETUP(ksm_numab)
{
	const char *why = ksm_env_missing(0);

	if (!why && access(NUMA_BALANCING, W_OK))
		why = "no automatic NUMA balancing";
	if (!why && access(DEBUG_DIR "scan_period_min_ms", W_OK))
		why = "no debugfs to speed NUMA balancing up";
	if (!why && ksm_nodes(self->node, 2) < 2)
		why = "needs two nodes with memory";
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, ksm_put(NUMA_BALANCING, "1"));
	ASSERT_EQ(0, ksm_put(DEBUG_DIR "scan_delay_ms", "5"));
	ASSERT_EQ(0, ksm_put(DEBUG_DIR "scan_period_min_ms", "10"));
	ASSERT_EQ(0, ksm_put(DEBUG_DIR "scan_period_max_ms", "40"));
}

FIXTURE_TEARDOWN(ksm_numab)
{
	unsigned int i;

	ksm_keep_restore();
	for (i = 0; i < ARRAY_SIZE(self->p); i++)
		ksm_puppet_kill(&self->p[i]);
	ksm_finish(__test_passed(_metadata));
}

/* Pages on node arg[0], the process on node arg[1]: balancing has work. */
static int act_map_apart(struct ksm_act *a)
{
	int ret;

	a->area = ksm_map(a->n);
	if (!a->area)
		return -ENOMEM;
	ret = ksm_bind(a->area, a->n, KSM_MPOL_BIND, (int)a->arg[0]);
	if (ret)
		return ret;
	ksm_act_fill(a);
	/* Bound memory is not balanced. */
	ret = ksm_bind(a->area, a->n, KSM_MPOL_DEFAULT, 0);
	if (!ret)
		ret = ksm_run_on((int)a->arg[1]);
	return ret ? ret : ksm_mergeable(a->area, a->n);
}

static int start_apart(struct ksm_puppet *p, const int *node)
{
	size_t i;
	int ret;

	ret = ksm_puppet_start(p, NULL);
	if (ret)
		return ret;
	p->act->n = NR_PAGES;
	for (i = 0; i < NR_PAGES; i++)
		p->act->model[i] = ksm_stamp(OWNER, i, 1);
	return ksm_do2(p, act_map_apart, node[1], node[0]);
}

/* Be busy without touching the area, arg[2] milliseconds. */
static int act_spin(struct ksm_act *a)
{
	double end = ksm_now() + (double)a->arg[2] / 1000;

	while (ksm_now() < end)
		;
	return 0;
}

/*
 * B68: pages whose PTEs are inaccessible for the moment are seen: they merge
 * within two passes, and run=2 leaves none merged.
 */
TEST_F_TIMEOUT(ksm_numab, hinting_ptes_are_seen, 60)
{
	struct ksm_puppet *p = self->p;
	long long updates;
	int i, round;

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, start_apart(&p[i], self->node));
	for (round = 0; round < 3; round++) {
		/* Until balancing has been there, but nobody at the pages. */
		updates = ksm_vmstat("numa_pte_updates");
		for (i = 0; i < 2; i++) {
			p[i].act->arg[2] = 1000;
			ASSERT_EQ(0, ksm_do_begin(&p[i], act_spin));
		}
		for (i = 0; i < 2; i++)
			ASSERT_EQ(0, ksm_do_end(&p[i]));
		updates = ksm_vmstat("numa_pte_updates") - updates;
		TH_LOG("%lld PTEs made inaccessible", updates);
		if (!round && updates < NR_PAGES)
			SKIP(return, "NUMA balancing did nothing");

		/* The rest of a pass and two whole ones. */
		ASSERT_EQ(0, ksm_scan(3));
		EXPECT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[1]));
		EXPECT_EQ(NR_PAGES, ksm_get("pages_shared"));
		EXPECT_EQ(NR_PAGES, ksm_get("pages_sharing"));
		for (i = 0; i < 2; i++) {
			p[i].act->arg[2] = 300;
			ASSERT_EQ(0, ksm_do(&p[i], act_spin));
		}
		ASSERT_EQ(0, ksm_unshare_all());
		EXPECT_EQ(0, ksm_nr_common(&p[0], &p[1]));
		EXPECT_EQ(0, ksm_nr_ksm(&p[0]));
		EXPECT_EQ(0, ksm_nr_ksm(&p[1]));
	}
	EXPECT_EQ(0, ksm_do(&p[0], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[1], ksm_act_check));
}

/*
 * For arg[2] seconds write and verify, and change the node every now and
 * then, so that balancing goes on.
 */
static int act_wander(struct ksm_act *a)
{
	double end = ksm_now() + (double)a->arg[2];
	unsigned int version = 1, bad = 0;
	size_t i;

	while (!bad && ksm_now() < end) {
		ksm_run_on((int)a->arg[version / 8 % 2]);
		version++;
		for (i = version % 4; i < a->n; i += 4) {
			a->model[i] = ksm_stamp(OWNER, i, version / 16);
			ksm_fill(a->area + i * ksm_psize(), a->model[i]);
		}
		bad = ksm_act_check(a);
		if (version % 4 == 0)
			ksm_nap_us(10000);
	}
	return (int)bad;
}

/*
 * B66, B67: writers that wander between the nodes, NUMA balancing, a busy
 * ksmd, and run=2 now and then: every byte is what was written last.
 */
TEST_F_TIMEOUT(ksm_numab, wandering_writers, 60)
{
	long long faults = ksm_vmstat("numa_hint_faults");
	long long cow = ksm_vmstat("cow_ksm");
	struct ksm_puppet *p = self->p;
	int i, ret, round = 0;
	double end;

	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, start_apart(&p[i], self->node));
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	ASSERT_EQ(0, ksm_start());
	for (i = 0; i < 3; i++) {
		p[i].act->arg[0] = self->node[0];
		p[i].act->arg[1] = self->node[1];
		p[i].act->arg[2] = 7;
		ASSERT_EQ(0, ksm_do_begin(&p[i], act_wander));
	}
	for (end = ksm_now() + 7; ksm_now() < end; round++) {
		ksm_nap_us(300000);
		if (round % 4 != 3)
			continue;
		ret = ksm_put_text("run", "2");
		EXPECT_TRUE(!ret || ret == -EBUSY);
		EXPECT_EQ(0, ksm_put_text("run", "1"));
	}
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, ksm_do_end(&p[i]));
	ASSERT_EQ(0, ksm_stop());
	faults = ksm_vmstat("numa_hint_faults") - faults;
	TH_LOG("%lld hinting faults, %lld writes to merged pages", faults,
	       ksm_vmstat("cow_ksm") - cow);
	EXPECT_GT(ksm_vmstat("cow_ksm"), cow);
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, ksm_do(&p[i], ksm_act_check));
	if (!faults)
		SKIP(return, "NUMA balancing did nothing");
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(0);
	ksm_keep(NUMA_BALANCING);
	ksm_keep(DEBUG_DIR "scan_delay_ms");
	ksm_keep(DEBUG_DIR "scan_period_min_ms");
	ksm_keep(DEBUG_DIR "scan_period_max_ms");
	return test_harness_run(argc, argv);
}
