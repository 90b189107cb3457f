// SPDX-License-Identifier: GPL-2.0
/*
 * KSM and suspend: ksmd stops with all other tasks, however busy it is, does
 * nothing meanwhile, and goes on where it was.
 *
 * The machine is not really suspended: /sys/power/pm_test ends it after all
 * tasks have been frozen for a while.
 */
#include "../kselftest_harness.h"
#include "ksm_util.h"
#include "ksm_env.h"

#define PM_TEST		"/sys/power/pm_test"
#define PM_STATE	"/sys/power/state"
#define PM_DELAY	"/sys/module/suspend/parameters/pm_test_delay"
#define DELAY_SECS	2
#define NR_PAGES	256
#define OWNER		41

FIXTURE(ksm_suspend) {
	struct ksm_puppet p[2];
};

FIXTURE_SETUP(ksm_suspend)
{
	const char *why = ksm_env_missing(0);
	char states[128];

	if (why)
		SKIP(return, "%s", why);
	if (access(PM_TEST, W_OK) || access(PM_DELAY, W_OK) ||
	    ksm_slurp(PM_STATE, states, sizeof(states)) < 0 ||
	    !strstr(states, "freeze"))
		SKIP(return, "needs CONFIG_SUSPEND and CONFIG_PM_DEBUG");
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, ksm_put(PM_TEST, "freezer"));
	ASSERT_EQ(0, ksm_put_num(PM_DELAY, DELAY_SECS));
}

FIXTURE_TEARDOWN(ksm_suspend)
{
	unsigned int i;

	ksm_keep_restore();
	for (i = 0; i < ARRAY_SIZE(self->p); i++)
		ksm_puppet_kill(&self->p[i]);
	ksm_finish(__test_passed(_metadata));
}

/* The two puppets share all pages, by their own look and by ours. */
static void check_pair(struct __test_metadata *_metadata, struct ksm_puppet *p)
{
	EXPECT_EQ(0, ksm_do(&p[0], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[1], ksm_act_check));
	EXPECT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[1]));
}

/*
 * B119: with ksmd at full rate all tasks are frozen and thawed.  That ksmd was
 * frozen with them shows in the passes that it did not make.
 */
TEST_F_TIMEOUT(ksm_suspend, busy_ksmd_is_frozen, 90)
{
	struct ksm_puppet *p = self->p;
	long long rate, passes;
	double from;
	int i, round;

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, ksm_puppet_with(&p[i], NULL, NR_PAGES, OWNER, 1));
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	ASSERT_EQ(0, ksm_wait_passes(3));
	for (round = 0; round < 3; round++) {
		passes = ksm_get("full_scans");
		ksm_nap_us(1000000);
		rate = ksm_get("full_scans") - passes;
		ASSERT_GT(rate, 10);

		from = ksm_now();
		passes = ksm_get("full_scans");
		ASSERT_EQ(0, ksm_put(PM_STATE, "freeze"));
		passes = ksm_get("full_scans") - passes;
		TH_LOG("%lld passes a second, %lld in %.1f s with a freeze", rate,
		       passes, ksm_now() - from);
		EXPECT_LT(passes, rate * DELAY_SECS / 2);
		EXPECT_EQ(1, ksm_get("run"));
		EXPECT_EQ(0, ksm_wait_passes(2));
		check_pair(_metadata, p);
	}
}

/* Write run=2 and run=1 in turn, until told to stop. */
static int flipper(struct ksm_child *c)
{
	struct pollfd pfd = { .fd = c->in, .events = POLLIN };
	int ret = 0;

	if (ksm_say(c, 0))
		return 1;
	while (!ret && poll(&pfd, 1, 0) <= 0) {
		ret = ksm_put_text("run", "2");
		if (ret == -EINTR || ret == -EBUSY)
			ret = 0;
		if (!ret)
			ret = ksm_put_text("run", "1");
		ksm_wait_for(ksm_get("pages_sharing") >= NR_PAGES, 0.1);
	}
	return ret ? 2 : 0;
}

/* B119: the same beside merging and run=2, which neither holds it up. */
TEST_F_TIMEOUT(ksm_suspend, beside_unmerging, 90)
{
	struct ksm_puppet *p = self->p;
	struct ksm_child c = { 0 };
	int i, round, ready;

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, ksm_puppet_with(&p[i], NULL, NR_PAGES, OWNER, 1));
	ASSERT_EQ(0, ksm_start());
	ASSERT_EQ(0, ksm_spawn(&c, flipper, NULL));
	ASSERT_EQ(0, ksm_hear(&c, &ready));
	for (round = 0; round < 3; round++) {
		ASSERT_EQ(0, ksm_put(PM_STATE, "freeze"));
		EXPECT_EQ(0, ksm_do(&p[0], ksm_act_check));
		EXPECT_EQ(0, ksm_do(&p[1], ksm_act_check));
	}
	EXPECT_EQ(0, ksm_say(&c, 0));
	EXPECT_EQ(0, ksm_reap(&c));
	EXPECT_EQ(0, ksm_set("run", 1));
	EXPECT_TRUE(ksm_wait_for(ksm_nr_common(&p[0], &p[1]) == NR_PAGES,
				 KSM_WAIT_SECS));
	check_pair(_metadata, p);
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(0);
	ksm_keep(PM_TEST);
	ksm_keep(PM_DELAY);
	return test_harness_run(argc, argv);
}
