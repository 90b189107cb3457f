// SPDX-License-Identifier: GPL-2.0
/*
 * KSM: processes register and die in every way and at every moment while ksmd
 * works on them at full rate.
 *
 * Each storm lasts a few seconds.  After it ksmd must still make its passes,
 * whoever holds data must have the right bytes, and with the last owner gone
 * all counters must come back to zero: a record, a node or an mm that is left
 * behind shows there.  A kernel with KASAN, lockdep and DEBUG_VM sees more.
 */
#include "../kselftest_harness.h"
#include <stdatomic.h>
#include "ksm_util.h"
#include "ksm_env.h"

#define OWNER		71
#define STORM_SECS	3
#define FAILSLAB	"/sys/kernel/debug/failslab/"
#define MAX_WORKERS	4

/*
 * A copy of this program in memory, so that no file system takes part when
 * it is executed under failing allocations.
 */
static int image_fd = -1;

/* Shared by the test, its workers and their children. */
struct storm {
	atomic_int stop;
	atomic_int failed;
	atomic_long lives;		/* processes that came and went */
	atomic_long writes;		/* of run */
	atomic_int turn;		/* a count of whatever a test counts */
	int (*life)(struct storm *s, unsigned int nr);
	pid_t worker[MAX_WORKERS + 1];
	int nr_workers;
};

FIXTURE(ksm_exit) {
	struct storm *s;
	struct ksm_puppet keeper;	/* outlives the storm */
};

FIXTURE_SETUP(ksm_exit)
{
	const char *why = ksm_env_missing(0);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	self->s = mmap(NULL, sizeof(*self->s), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->s);
}

FIXTURE_TEARDOWN(ksm_exit)
{
	ksm_keep_restore();
	ksm_puppet_kill(&self->keeper);
	ksm_finish(__test_passed(_metadata));
}

/* ---- the storm ----------------------------------------------------------- */

/* Fork one life after the other until told to stop. */
static void work(struct storm *s, unsigned int first)
{
	unsigned int nr = first;
	int status;
	pid_t pid;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!s->stop) {
		pid = fork();
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			_exit(s->life(s, nr));
		}
		if (pid < 0) {
			ksm_nap_us(1000);
			continue;
		}
		if (waitpid(pid, &status, 0) != pid)
			s->failed = 1;
		/* Dying by a signal is what some of them are for. */
		if (WIFEXITED(status) && WEXITSTATUS(status))
			s->failed = WEXITSTATUS(status);
		s->lives++;
		nr += MAX_WORKERS;
	}
	_exit(0);
}

/* Write 1, 0, 1, 2 to run until told to stop. */
static void flip_run(struct storm *s)
{
	static const char * const runs[] = { "1", "0", "1", "2" };
	int ret;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!s->stop) {
		ret = ksm_put_text("run", runs[s->writes % 4]);
		if (ret && ret != -EBUSY)
			s->failed = -ret;
		s->writes++;
		ksm_nap_us(3000 + s->writes % 7 * 1000);
	}
	_exit(0);
}

static int storm_start(struct storm *s, int workers, bool flips,
		       int (*life)(struct storm *s, unsigned int nr))
{
	int i, nr = workers + flips;
	pid_t pid;

	s->life = life;
	fflush(stdout);
	fflush(stderr);
	for (i = 0; i < nr; i++) {
		pid = fork();
		if (!pid) {
			if (i < workers)
				work(s, (unsigned int)i);
			flip_run(s);
		}
		if (pid < 0)
			return -EAGAIN;
		s->worker[s->nr_workers++] = pid;
	}
	return 0;
}

/* 0, or what some process of the storm complained of. */
static int storm_stop(struct storm *s)
{
	bool stuck = false;
	int i, status;

	s->stop = 1;
	for (i = 0; i < s->nr_workers; i++)
		if (!ksm_wait_for(waitpid(s->worker[i], &status, WNOHANG) ==
				  s->worker[i], KSM_WAIT_SECS)) {
			kill(s->worker[i], SIGKILL);
			stuck = true;
		}
	s->nr_workers = 0;
	return stuck ? -ETIMEDOUT : s->failed;
}

/* Storm for a while, ksmd at work; and no complaints. */
static void storm(struct __test_metadata *_metadata, struct storm *s,
		  int workers, bool flips,
		  int (*life)(struct storm *s, unsigned int nr))
{
	ASSERT_EQ(0, ksm_start());
	ASSERT_EQ(0, storm_start(s, workers, flips, life));
	ksm_nap_us(STORM_SECS * 1000000L);
	EXPECT_EQ(0, storm_stop(s));
	EXPECT_GT(s->lives, 0);
	TH_LOG("%ld processes, %ld writes of run", s->lives, s->writes);
}

/* Does ksmd make passes over a page registered now? */
static void check_passes(struct __test_metadata *_metadata)
{
	char *p = ksm_map_filled(2, ksm_stamp(OWNER, 9999, 1), 0);

	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, ksm_put_text("run", "1"));
	EXPECT_EQ(0, ksm_wait_passes(3));
	EXPECT_TRUE(ksm_wait_for(ksm_same_frame(p, p + ksm_psize()), 10));
	ksm_unmap(p, 2);
}

/* With nothing registered any more: everything goes back to zero. */
static void check_zero(struct __test_metadata *_metadata)
{
	EXPECT_EQ(0, ksm_put_text("run", "1"));
	EXPECT_TRUE(ksm_wait_for(ksm_pages_all_zero(), KSM_WAIT_SECS)) {
		ksm_dump("left behind");
	}
	EXPECT_TRUE(ksm_wait_for(!ksm_unshare_all(), 10));
	EXPECT_TRUE(ksm_wait_for(ksm_all_zero(), 10)) {
		ksm_dump("left behind after run=2");
	}
}

/* ---- lives --------------------------------------------------------------- */

/* Pages with eight contents, the same in all processes. */
static char *map_common(size_t n)
{
	char *p = ksm_map(n);
	size_t i;

	if (!p)
		return NULL;
	for (i = 0; i < n; i++)
		ksm_fill(p + i * ksm_psize(), ksm_stamp(OWNER, i % 8, 1));
	return ksm_mergeable(p, n) ? NULL : p;
}

/* A short time that differs from life to life, 0 now and then. */
static void linger(unsigned int nr)
{
	unsigned int us = nr * 2654435761U % 8000;

	if (us > 1000)
		ksm_nap_us(us);
}

static int life_segv(struct storm *s, unsigned int nr)
{
	(void)s;
	signal(SIGSEGV, SIG_DFL);
	if (!map_common(1))
		return 1;
	linger(nr);
	raise(SIGSEGV);
	return 2;
}

/*
 * B03: nothing else is registered; a child registers one page and dies, again
 * and again, so that the list is empty between them.
 */
TEST_F_TIMEOUT(ksm_exit, one_page_then_death, 60)
{
	storm(_metadata, self->s, 1, false, life_segv);
	check_passes(_metadata);
	check_zero(_metadata);
}

static int life_nothing_touched(struct storm *s, unsigned int nr)
{
	char *p = ksm_map(16);

	(void)s;
	if (!p || ksm_mergeable(p, 16))
		return 1;
	if (nr & 4)
		linger(nr);
	return 0;
}

/*
 * B06: register, touch nothing, exit; the next fork takes the mm_struct
 * that has just become free.
 */
TEST_F_TIMEOUT(ksm_exit, quick_exits, 60)
{
	storm(_metadata, self->s, 3, false, life_nothing_touched);
	check_passes(_metadata);
	check_zero(_metadata);
}

static int life_killed(struct storm *s, unsigned int nr)
{
	pid_t child[8];
	int i, status;

	(void)s;
	for (i = 0; i < 8; i++) {
		child[i] = fork();
		if (child[i])
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		map_common(24);
		for (;;)
			pause();
	}
	linger(nr);
	ksm_nap_us(20000);
	for (i = 0; i < 8; i++)
		if (child[i] > 0)
			kill(child[i], SIGKILL);
	for (i = 0; i < 8; i++)
		if (child[i] > 0 && waitpid(child[i], &status, 0) != child[i])
			return 1;
	return 0;
}

/* B04: groups of processes are killed in mid-pass while run is flipped. */
TEST_F_TIMEOUT(ksm_exit, killed_in_mid_pass, 60)
{
	storm(_metadata, self->s, 3, true, life_killed);
	EXPECT_GT(self->s->writes, 0);
	check_passes(_metadata);
	check_zero(_metadata);
}

static int life_twins(struct storm *s, unsigned int nr)
{
	char *p = map_common(32);
	size_t i;

	(void)s;
	if (!p)
		return 1;
	linger(nr);
	for (i = 0; i < 32; i++)
		if (!ksm_is(p + i * ksm_psize(), ksm_stamp(OWNER, i % 8, 1)))
			return 2;
	if (nr & 1)
		munmap(p, 16 * ksm_psize());
	if (nr & 2)
		kill(getpid(), SIGKILL);
	return 0;
}

/*
 * B05: a set of contents stays, partners with the same contents come and go
 * at a high rate: the partner that ksmd found in a tree may be on its way out.
 */
TEST_F_TIMEOUT(ksm_exit, partners_come_and_go, 60)
{
	ASSERT_EQ(0, ksm_puppet_with(&self->keeper, NULL, 8, OWNER, 1));
	storm(_metadata, self->s, 4, false, life_twins);
	EXPECT_EQ(0, ksm_do(&self->keeper, ksm_act_check));
	check_passes(_metadata);
	EXPECT_EQ(0, ksm_puppet_end(&self->keeper));
	check_zero(_metadata);
}

static int life_many_areas(struct storm *s, unsigned int nr)
{
	size_t n = 400, i;
	char *p = ksm_map(n);

	(void)s;
	if (!p)
		return 1;
	/* Every second page has other rights: as many areas as pages. */
	for (i = 0; i < n; i += 2)
		if (mprotect(p + i * ksm_psize(), ksm_psize(),
			     PROT_READ | PROT_WRITE | PROT_EXEC))
			return 2;
	for (i = 0; i < n; i += 4)
		ksm_fill(p + i * ksm_psize(), ksm_stamp(OWNER, i % 16, 1));
	if (ksm_mergeable(p, n))
		return 3;
	ksm_nap_us(20000);
	linger(nr);
	kill(getpid(), SIGKILL);
	return 4;
}

/*
 * B07, B08: owners with many areas are killed while run goes 1, 0, 1, 2: the
 * writes end with 0 or EBUSY and do not walk areas that are being torn down.
 * B09: and each new owner reads run when it is registered; a kernel that looks
 * for data races sees whether it may.
 */
TEST_F_TIMEOUT(ksm_exit, many_areas_and_unmerging, 60)
{
	storm(_metadata, self->s, 3, true, life_many_areas);
	EXPECT_TRUE(ksm_wait_for(!ksm_unshare_all(), 10));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	check_passes(_metadata);
	check_zero(_metadata);
}

static int life_unmaps(struct storm *s, unsigned int nr)
{
	unsigned int round;
	char *p;

	(void)s;
	for (round = 0; round < 10; round++) {
		p = map_common(16);
		if (!p)
			return 1;
		linger(nr + round);
		switch ((nr + round) % 4) {
		case 0:
			ksm_unmap(p, 16);
			break;
		case 1:
			if (ksm_unmergeable(p, 16))
				return 2;
			ksm_unmap(p, 16);
			break;
		case 2:
			/* A hole, and another mapping at once in its place. */
			mmap(p, 8 * ksm_psize(), PROT_READ,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
			break;
		default:
			ksm_advise(p, 16, MADV_DONTNEED);
			break;
		}
	}
	return 0;
}

/* B19: areas vanish and change under ksmd's feet, and then the process. */
TEST_F_TIMEOUT(ksm_exit, unmapping_beside_scanning, 60)
{
	storm(_metadata, self->s, 4, true, life_unmaps);
	check_passes(_metadata);
	check_zero(_metadata);
}

/*
 * Processes that make all of their memory mergeable start from an image of
 * their own: a mere fork shares pages with the harness, which would be left
 * with merged pages that nobody can take apart.
 */
static int exec_self(const char *what, unsigned int nr)
{
	char text[16];
	char * const argv[] = { "ksm_exit_test", (char *)what, text, NULL };

	snprintf(text, sizeof(text), "%u", nr);
	if (image_fd >= 0)
		fexecve(image_fd, argv, environ);
	else
		execv("/proc/self/exe", argv);
	return errno;
}

/* The second image: map some, stay a moment, check, go. */
static int image_main(void)
{
	char *p = ksm_map(16);
	size_t i;

	if (!p || prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) != 1)
		return 1;
	for (i = 0; i < 16; i++)
		ksm_fill(p + i * ksm_psize(), ksm_stamp(OWNER, i % 8, 1));
	ksm_nap_us(2000);
	for (i = 0; i < 16; i++)
		if (!ksm_is(p + i * ksm_psize(), ksm_stamp(OWNER, i % 8, 1)))
			return 2;
	return 0;
}

/* The first image: becomes mergeable and execs the second some time later. */
static int first_main(unsigned int nr)
{
	if (prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) || !map_common(8))
		return 10;
	linger(nr);
	return exec_self("--image", nr);
}

static int life_exec(struct storm *s, unsigned int nr)
{
	(void)s;
	return exec_self("--first", nr);
}

/*
 * B12, B13: merge-any processes exec: the old mm goes while ksmd works on it,
 * the new one is registered before it has any area, and keeps the mode.
 */
TEST_F_TIMEOUT(ksm_exit, exec_beside_scanning, 60)
{
	storm(_metadata, self->s, 3, false, life_exec);
	check_passes(_metadata);
	check_zero(_metadata);
}

/* One process of the next test: registers when it is its turn, then goes. */
static int take_turn(struct ksm_child *c)
{
	struct storm *s = c->arg;
	int my_turn, cmd;
	char *p;

	p = ksm_map(1);
	if (!p || ksm_hear(c, &my_turn))
		return 1;
	ksm_fill(p, 1);
	if (ksm_say(c, 0))
		return 1;
	while (s->turn != my_turn)
		;
	if (ksm_mergeable(p, 1) || ksm_say(c, 0) || ksm_hear(c, &cmd))
		return 2;
	/* The next one registers just as this one exits. */
	while (s->turn != my_turn + 1)
		;
	return 0;
}

/*
 * B20: a process registers exactly when the only other one exits: ksmd must
 * be awake afterwards.
 */
TEST_F_TIMEOUT(ksm_exit, register_as_the_last_one_leaves, 60)
{
	struct storm *s = self->s;
	struct ksm_child c[2];
	double end = ksm_now() + 6;
	int turn, ret;

	ASSERT_EQ(0, ksm_start());
	memset(c, 0, sizeof(c));
	for (turn = 1; ksm_now() < end; turn++) {
		struct ksm_child *next = &c[turn & 1];
		struct ksm_child *last = &c[!(turn & 1)];

		ASSERT_EQ(0, ksm_spawn(next, take_turn, s));
		ASSERT_EQ(0, ksm_ask(next, turn));
		s->turn = turn;
		ASSERT_EQ(0, ksm_hear(next, &ret));
		ASSERT_EQ(0, ret);
		if (last->pid > 0)
			ASSERT_EQ(0, ksm_reap(last));
		/* Only the new one is there: passes mean it was noticed. */
		ASSERT_EQ(0, ksm_wait_passes(1));
		ASSERT_EQ(0, ksm_say(next, 0));
	}
	TH_LOG("%d turns", turn - 1);
	s->turn = turn;
	EXPECT_EQ(0, ksm_reap(&c[!(turn & 1)]));
	check_zero(_metadata);
}

static int act_fork_many(struct ksm_act *a)
{
	int i, status, bad = 0;
	pid_t pid;

	/* Each child sleeps until all are there; the pages stay shared. */
	for (i = 0; i < (int)a->arg[0]; i++) {
		pid = fork();
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			while (!__atomic_load_n(&a->arg[1], __ATOMIC_ACQUIRE))
				ksm_nap_us(20000);
			_exit(ksm_act_check(a) ? 1 : 0);
		}
		if (pid < 0)
			break;
		a->model[KSM_ACT_PAGES - 1 - i] = (uint64_t)pid;
		__atomic_store_n(&a->arg[2], i + 1, __ATOMIC_RELEASE);
	}
	ksm_wait_for(__atomic_load_n(&a->arg[1], __ATOMIC_ACQUIRE),
		     2 * KSM_WAIT_SECS);
	while (wait(&status) > 0)
		bad += !!status;
	return bad;
}

/*
 * B10: children that are forked while run=2 is at work have no merged page
 * either when the write returns.
 */
TEST_F_TIMEOUT(ksm_exit, forks_beside_unmerging, 90)
{
	enum { NR_FORKS = 60, NR_PAGES = 16 };
	struct ksm_puppet *k = &self->keeper;
	struct ksm_puppet child = {};
	long forked = 0;
	int i;

	ASSERT_EQ(0, ksm_puppet_with(k, NULL, NR_PAGES, OWNER, 0));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_nr_ksm(k));
	ASSERT_EQ(0, ksm_start());
	k->act->arg[0] = NR_FORKS;
	k->act->arg[1] = 0;
	k->act->arg[2] = 0;
	ASSERT_EQ(0, ksm_do_begin(k, act_fork_many));
	/* Again and again, until all children are there. */
	while (ksm_wait_for(__atomic_load_n(&k->act->arg[2],
					    __ATOMIC_ACQUIRE) > forked, 5)) {
		forked = __atomic_load_n(&k->act->arg[2], __ATOMIC_ACQUIRE);
		ASSERT_TRUE(ksm_wait_for(!ksm_unshare_all(), 10));
		child.act = k->act;
		for (i = 0; i < forked; i += 7) {
			child.c.pid =
				(pid_t)k->act->model[KSM_ACT_PAGES - 1 - i];
			ASSERT_EQ(0, ksm_nr_ksm(&child));
		}
		ASSERT_EQ(0, ksm_nr_ksm(k));
		ASSERT_EQ(0, ksm_get("pages_shared"));
		if (forked == NR_FORKS)
			break;
		ASSERT_EQ(0, ksm_start());
	}
	EXPECT_EQ(NR_FORKS, forked);
	__atomic_store_n(&k->act->arg[1], 1, __ATOMIC_RELEASE);
	EXPECT_EQ(0, ksm_do_end(k));
	EXPECT_EQ(0, ksm_do(k, ksm_act_check));
	EXPECT_EQ(0, ksm_puppet_end(k));
	check_zero(_metadata);
}

/* ksmd rests for an hour from now on; 0 or what went wrong. */
static int rest_for_long(void)
{
	long long from = ksm_get("full_scans");
	int ret;

	ret = ksm_set("sleep_millisecs", 3600000);
	if (!ret)
		ret = ksm_start();
	if (!ret && !ksm_wait_for(ksm_get("full_scans") > from && ksm_asleep(),
				  KSM_WAIT_SECS))
		ret = -ETIMEDOUT;
	return ret;
}

/*
 * However long ksmd rests between its batches, what a process leaves behind
 * at its exit goes at once: its share of the merged pages, its records, and
 * with the last one all that KSM remembers.
 */
TEST_F_TIMEOUT(ksm_exit, reaped_during_a_long_rest, 90)
{
	enum { NR_PAGES = 256 };
	long long psize = (long long)ksm_psize();
	long long at_first = ksm_get("general_profit"), passes, profit;
	struct ksm_puppet gone = {};

	ASSERT_EQ(0, ksm_puppet_with(&self->keeper, NULL, NR_PAGES, OWNER, 1));
	ASSERT_EQ(0, ksm_puppet_with(&gone, NULL, NR_PAGES, OWNER, 1));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(0, rest_for_long());
	ASSERT_EQ(NR_PAGES, ksm_get("pages_shared"));
	ASSERT_EQ(NR_PAGES, ksm_get("pages_sharing"));
	passes = ksm_get("full_scans");
	profit = ksm_get("general_profit");

	EXPECT_EQ(0, ksm_puppet_end(&gone));
	EXPECT_TRUE(ksm_wait_for(!ksm_get("pages_sharing"), 10));
	EXPECT_EQ(NR_PAGES, ksm_get("pages_shared"));
	/* Nothing is saved any more, but there are fewer records, too. */
	EXPECT_TRUE(ksm_wait_for(ksm_get("general_profit") >
				 profit - NR_PAGES * psize, 10));
	EXPECT_LE(ksm_get("general_profit"), at_first);
	EXPECT_EQ(0, ksm_do(&self->keeper, ksm_act_check));

	EXPECT_EQ(0, ksm_puppet_end(&self->keeper));
	EXPECT_TRUE(ksm_wait_for(ksm_all_zero(), 10)) {
		ksm_dump("not reaped");
	}
	EXPECT_TRUE(ksm_wait_for(ksm_get("general_profit") >= at_first, 10));
	EXPECT_EQ(passes, ksm_get("full_scans"));
}

/* ---- what passes to a child ---------------------------------------------- */

#define NR_LEFT		600	/* more than are reaped at a time */

/* Shared by the test, a parent and its child. */
struct heir {
	atomic_int state;
	pid_t pid;
	char *p;
};

enum { HEIR_WAITS = 1, HEIR_CHECKS, HEIR_IS_DONE };

/* A child that holds what its parent leaves, and does not look at it. */
static void heir(struct heir *h)
{
	prctl(PR_SET_PDEATHSIG, 0);
	h->pid = getpid();
	h->state = HEIR_WAITS;
	if (!ksm_wait_for(h->state == HEIR_CHECKS, 2 * KSM_WAIT_SECS))
		_exit(1);
	h->state = HEIR_IS_DONE;
	_exit(ksm_count_bad(h->p, NR_LEFT, OWNER, 1) > 0);
}

/* Merges its pages, all with each other's twins, stops ksmd, forks, and exits. */
static void testator(struct heir *h)
{
	char *q;
	pid_t pid;

	h->p = ksm_map_filled(NR_LEFT, OWNER, 1);
	q = ksm_map_filled(NR_LEFT, OWNER, 1);
	if (!h->p || !q)
		_exit(1);
	if (ksm_scan_settle() || ksm_set("run", 0) ||
	    ksm_get("pages_sharing") != NR_LEFT)
		_exit(2);
	pid = fork();
	if (!pid)
		heir(h);
	_exit(pid < 0 || !ksm_wait_for(h->state == HEIR_WAITS, KSM_WAIT_SECS));
}

/*
 * A child has merged pages of its parent's, which exits while ksmd does not
 * scan.  They stay in the counters, and the reverse walk still finds them: they
 * can be moved.
 */
TEST_F_TIMEOUT(ksm_exit, pages_pass_to_a_child, 90)
{
	struct heir *h = mmap(NULL, sizeof(*h), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status, node;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, (void *)h);
	ASSERT_EQ(0, prctl(PR_SET_CHILD_SUBREAPER, 1));
	pid = fork();
	if (!pid)
		testator(h);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_TRUE(ksm_wait_for(ksm_stat(h->pid, "ksm_merging_pages") ==
				 2 * NR_LEFT, KSM_WAIT_SECS)) {
		TH_LOG("%lld pages passed on",
		       ksm_stat(h->pid, "ksm_merging_pages"));
	}
	EXPECT_EQ(NR_LEFT, ksm_get("pages_shared"));
	EXPECT_EQ(NR_LEFT, ksm_get("pages_sharing"));
	node = ksm_node_of(h->pid, h->p);
	if (!access("/sys/devices/system/node/node1", F_OK))
		EXPECT_EQ(NR_LEFT, ksm_move(h->pid, h->p, NR_LEFT, !node));
	h->state = HEIR_CHECKS;
	EXPECT_EQ(h->pid, waitpid(h->pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_TRUE(ksm_wait_for(ksm_all_zero(), KSM_WAIT_SECS)) {
		ksm_dump("not reaped");
	}
	munmap(h, sizeof(*h));
}

/* ---- failing allocations ------------------------------------------------- */

/*
 * What fork and exec allocate for an address space.  Not everything: file
 * systems that meet a failure in their midst may hand out errors from then on,
 * to whoever comes next.
 */
static const char * const failing_caches[] = {
	"vm_area_struct", "maple_node", "anon_vma", "anon_vma_chain",
};

static int pick_caches(const char *on)
{
	char path[96];
	size_t i;
	int n = 0;

	for (i = 0; i < sizeof(failing_caches) / sizeof(*failing_caches); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/slab/%s/failslab",
			 failing_caches[i]);
		n += !access(path, W_OK) && !ksm_put(path, on);
	}
	return n;
}

/* Let these of tasks that ask for it fail, so many in a hundred. */
static const char *failslab_on(int percent)
{
	if (access(FAILSLAB "probability", W_OK) ||
	    access("/proc/self/make-it-fail", W_OK))
		return "no failslab";
	if (!pick_caches("1"))
		return "failslab cannot pick caches";
	if (ksm_put(FAILSLAB "cache-filter", "Y") ||
	    ksm_put(FAILSLAB "task-filter", "Y") ||
	    ksm_put(FAILSLAB "verbose", "0") ||
	    ksm_put(FAILSLAB "ignore-gfp-wait", "N") ||
	    ksm_put(FAILSLAB "interval", "1") ||
	    ksm_put(FAILSLAB "times", "-1") ||
	    ksm_put_num(FAILSLAB "probability", percent))
		return "failslab cannot be set";
	return NULL;
}

static void fail_me(bool on)
{
	ksm_put("/proc/self/make-it-fail", on ? "1" : "0");
}

/* Forks and execs that mostly fail, by a process that is all mergeable. */
static int failing_main(void)
{
	char *p = map_common(16);
	int i, status;
	pid_t pid;

	if (!p || prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0))
		return 1;
	for (i = 0; i < 8; i++) {
		fail_me(true);
		pid = fork();
		if (!pid) {
			/* exec may fail too, and may not hang (B15). */
			if (i & 1)
				exec_self("--image", 0);
			kill(getpid(), SIGKILL);
		}
		fail_me(false);
		if (pid > 0 && waitpid(pid, &status, 0) != pid)
			return 2;
	}
	for (i = 0; i < 16; i++)
		if (!ksm_is(p + i * ksm_psize(), ksm_stamp(OWNER, i % 8, 1)))
			return 3;
	return 0;
}

static int life_failing(struct storm *s, unsigned int nr)
{
	/*
	 * What failed for one process may make others fail that share it,
	 * an inode or a page of the program for instance.
	 */
	if (exec_self("--failing", nr))
		s->turn++;
	return 0;
}

/*
 * B11, B15: fork and exec of merge-any processes fail half-way for want of
 * memory; ksmd must not meet what was half copied, nobody may hang.
 */
TEST_F_TIMEOUT(ksm_exit, failing_forks_and_execs, 60)
{
	const char *why = failslab_on(10);

	if (why)
		SKIP(return, "%s", why);
	storm(_metadata, self->s, 3, false, life_failing);
	ksm_keep_restore();
	EXPECT_LT(self->s->turn, self->s->lives / 2);
	check_passes(_metadata);
	check_zero(_metadata);
}

/*
 * B16: a fork that fails late gives back zero pages that it had not counted
 * yet.  The last test: where it fails, the count stays wrong until reboot.
 */
TEST_F_TIMEOUT(ksm_exit, failing_forks_with_zero_pages, 60)
{
	const size_t areas = 16, each = 16;
	const char *why = failslab_on(0);
	long forked = 0, failed = 0;
	double end = ksm_now() + 4;
	long long zero = 0;
	char *p[16];
	size_t i;
	pid_t pid;

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	for (i = 0; i < areas; i++) {
		p[i] = ksm_map(each + 1);
		ASSERT_NE(NULL, p[i]);
		memset(p[i], 0, each * ksm_psize());
		/* Not mergeable: keeps the areas apart. */
		ASSERT_EQ(0, ksm_mergeable(p[i], each));
		p[i][each * ksm_psize()] = 1;
	}
	ASSERT_EQ(0, ksm_scan_settle());
	zero = (long long)(areas * each);
	ASSERT_EQ(zero, ksm_zero_placed());
	ASSERT_EQ(0, ksm_put_num(FAILSLAB "probability", 10));
	while (ksm_now() < end) {
		fail_me(true);
		pid = fork();
		if (!pid)
			_exit(0);
		fail_me(false);
		if (pid < 0) {
			failed++;
			continue;
		}
		forked++;
		ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	}
	ksm_keep_restore();
	TH_LOG("%ld forks, %ld of them failed", forked + failed, failed);
	EXPECT_GT(failed, 0);
	EXPECT_EQ(zero, ksm_zero_placed());
	EXPECT_EQ(zero, ksm_stat(0, "ksm_zero_pages"));
	for (i = 0; i < areas; i++)
		ksm_unmap(p[i], each + 1);
	EXPECT_EQ(0, ksm_zero_placed());
}

static void make_image(void)
{
	int in = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int out = (int)syscall(SYS_memfd_create, "ksm_exit_test", 0);
	char buf[4096];
	ssize_t n = -1;

	while (in >= 0 && out >= 0 && (n = read(in, buf, sizeof(buf))) > 0)
		if (write(out, buf, (size_t)n) != n)
			break;
	if (in >= 0)
		close(in);
	if (!n)
		image_fd = out;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--image"))
		return image_main();
	if (argc == 3 && !strcmp(argv[1], "--first"))
		return first_main((unsigned int)atoi(argv[2]));
	if (argc == 3 && !strcmp(argv[1], "--failing"))
		return failing_main();
	ksm_main_setup();
	ksm_env_make(0);
	make_image();
	/* Put back in this order: first of all nothing may fail any more. */
	ksm_keep(FAILSLAB "cache-filter");
	ksm_keep(FAILSLAB "probability");
	ksm_keep(FAILSLAB "task-filter");
	ksm_keep(FAILSLAB "verbose");
	ksm_keep(FAILSLAB "ignore-gfp-wait");
	ksm_keep(FAILSLAB "interval");
	ksm_keep(FAILSLAB "times");
	return test_harness_run(argc, argv);
}
