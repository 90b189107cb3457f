// SPDX-License-Identifier: GPL-2.0
/*
 * KSM: memory failure in merged pages.
 *
 * All processes that map the bad frame must learn of it: those that asked to
 * be told early by one SIGBUS each, the others when they touch the page.  The
 * address must be their own.  Everybody else, and every other page, lives on.
 *
 * The failures are simulated, and undone by hwpoison/unpoison-pfn in debugfs
 * where that exists; otherwise the tests cost a dozen pages until reboot.
 */
#include "../kselftest_harness.h"
#include <stdatomic.h>
#include <setjmp.h>
#include "ksm_util.h"
#include "ksm_env.h"

#ifndef BUS_MCEERR_AR
#define BUS_MCEERR_AR	4
#define BUS_MCEERR_AO	5
#endif
#ifndef PR_MCE_KILL
#define PR_MCE_KILL		33
#define PR_MCE_KILL_SET		1
#define PR_MCE_KILL_EARLY	1
#endif

#define NR_PAGES	4
#define TARGET		41		/* owner of the content that fails */
#define OTHERS		42
#define NR_VICTIMS	8
#define POISON_DIR	"/sys/kernel/debug/hwpoison/"
#define EARLY_KILL	"/proc/sys/vm/memory_failure_early_kill"

/* What a process saw of SIGBUS. */
struct bus {
	atomic_int count;
	atomic_int code;
	atomic_uintptr_t addr;
};

/* Of the process that this is a copy of. */
static struct bus *my_bus;
static sigjmp_buf my_env;
static atomic_int touching;

FIXTURE(ksm_hwpoison) {
	struct ksm_puppet v[NR_VICTIMS];
	struct bus *bus;
	uint64_t bad[4];		/* frames to give back */
	int nr_bad;
};

/* Does the kernel have MADV_HWPOISON?  An empty range does no harm. */
static bool can_poison(void)
{
	char *p = ksm_map(1);
	bool can = p && !madvise(p, 0, MADV_HWPOISON);

	ksm_unmap(p, 1);
	return can;
}

FIXTURE_SETUP(ksm_hwpoison)
{
	const char *why = ksm_env_missing(0);

	if (!why && !can_poison())
		why = "no MADV_HWPOISON";
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	ksm_put(EARLY_KILL, "0");
	self->bus = mmap(NULL, NR_VICTIMS * sizeof(*self->bus),
			 PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			 -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->bus);
}

FIXTURE_TEARDOWN(ksm_hwpoison)
{
	int i;

	for (i = 0; i < NR_VICTIMS; i++)
		ksm_puppet_kill(&self->v[i]);
	if (!access(POISON_DIR "unpoison-pfn", W_OK))
		for (i = 0; i < self->nr_bad; i++)
			ksm_put_num(POISON_DIR "unpoison-pfn",
				    (long long)self->bad[i]);
	ksm_finish(__test_passed(_metadata));
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	my_bus->addr = (uintptr_t)info->si_addr;
	my_bus->code = info->si_code;
	my_bus->count++;
	if (touching)
		siglongjmp(my_env, 1);
}

/* Be ready for SIGBUS: arg[0] is where to note it, arg[1] "tell me early". */
static int act_watch(struct ksm_act *a)
{
	struct sigaction sa = {
		.sa_sigaction = on_sigbus,
		.sa_flags = SA_SIGINFO,
	};

	my_bus = (struct bus *)a->arg[0];
	if (a->arg[1] && prctl(PR_MCE_KILL, PR_MCE_KILL_SET,
			       PR_MCE_KILL_EARLY, 0, 0))
		return -errno;
	return sigaction(SIGBUS, &sa, NULL) ? -errno : 0;
}

/* Read page @i: is it right (0), wrong (1), or SIGBUS (2)? */
static int touch(struct ksm_act *a, size_t i)
{
	bool right = false;

	if (sigsetjmp(my_env, 1)) {
		touching = 0;
		return 2;
	}
	touching = 1;
	right = ksm_is(a->area + i * ksm_psize(), a->model[i]);
	touching = 0;
	return !right;
}

static int act_touch(struct ksm_act *a)
{
	return touch(a, (size_t)a->arg[0]);
}

static int act_poison(struct ksm_act *a)
{
	return ksm_advise(a->area + (size_t)a->arg[0] * ksm_psize(), 1,
			  MADV_HWPOISON);
}

static char *page_of(struct ksm_puppet *p, size_t i)
{
	return p->act->area + i * ksm_psize();
}

/* Did the signal name page @i of the puppet? */
static bool names(struct bus *b, struct ksm_puppet *p, size_t i)
{
	return b->addr >= (uintptr_t)page_of(p, i) &&
		b->addr < (uintptr_t)page_of(p, i + 1);
}

/*
 * Start victim @nr: its first @targets pages have the content that will fail,
 * the other pages are twins of those of all the other victims.
 */
static int start_victim(struct ksm_puppet *p, struct bus *bus, const char *cg,
			int targets, bool early)
{
	int i, ret;

	memset(bus, 0, sizeof(*bus));
	ret = ksm_puppet_start(p, cg);
	if (ret)
		return ret;
	p->act->n = NR_PAGES;
	for (i = 0; i < NR_PAGES; i++)
		p->act->model[i] = i < targets ? ksm_stamp(TARGET, 0, 1) :
						 ksm_stamp(OTHERS, i, 1);
	ret = ksm_do2(p, act_watch, (long)bus, early);
	return ret ? ret : ksm_do(p, ksm_act_map);
}

/* The pages from @first on are all right, by their owner's own look. */
static int check_rest(struct ksm_puppet *p, size_t first)
{
	int bad = 0;
	size_t i;

	for (i = first; i < NR_PAGES; i++)
		bad += ksm_do1(p, act_touch, (long)i) != 0;
	return bad;
}

/*
 * Fork inside a puppet: the child takes over the signal notes in arg[0] and
 * drops arg[1] pages from the start of its area, then waits to be killed with
 * its parent.
 */
static int act_fork_victim(struct ksm_act *a)
{
	int ready[2];
	char c = 0;
	pid_t pid;

	if (pipe(ready))
		return -errno;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		my_bus = (struct bus *)a->arg[0];
		memset(my_bus, 0, sizeof(*my_bus));
		ksm_unmap(a->area, (size_t)a->arg[1]);
		if (write(ready[1], &c, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	if (pid < 0 || read(ready[0], &c, 1) != 1)
		return -EAGAIN;
	close(ready[0]);
	close(ready[1]);
	return pid;
}

/*
 * B125, B126: five processes asked to be told early; one maps the page three
 * times, one forked a child after the merge.  Each gets one signal, with an
 * address of its own.  A process without the page gets none.
 */
TEST_F_TIMEOUT(ksm_hwpoison, each_mapper_is_told_once, 60)
{
	struct ksm_puppet *v = self->v;
	struct bus *bus = self->bus;
	int i, child, targets;

	for (i = 0; i < 5; i++) {
		targets = i == 2 ? 3 : 1;
		ASSERT_EQ(0, start_victim(&v[i], &bus[i], NULL, targets,
					  true));
	}
	ASSERT_EQ(0, start_victim(&v[5], &bus[5], NULL, 0, true));
	ASSERT_EQ(0, ksm_scan_settle());
	for (i = 0; i < 5; i++)
		ASSERT_EQ(NR_PAGES, ksm_nr_ksm(&v[i]));
	child = ksm_do2(&v[1], act_fork_victim, (long)&bus[6], 0);
	ASSERT_GT(child, 0);

	self->bad[self->nr_bad++] = PM_PFN(ksm_page_entry(&v[0], 0));
	ASSERT_EQ(0, ksm_do1(&v[0], act_poison, 0));
	for (i = 0; i < 7; i++) {
		if (i == 5)
			continue;
		EXPECT_TRUE(ksm_wait_for(bus[i].count, 5)) {
			TH_LOG("process %d got no signal", i);
		}
	}
	/* A second signal, or a stray one, would be here by now. */
	EXPECT_FALSE(ksm_wait_for(bus[5].count, 0.3));
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(1, bus[i].count);
		EXPECT_EQ(i ? BUS_MCEERR_AO : BUS_MCEERR_AR, bus[i].code);
		EXPECT_TRUE(names(&bus[i], &v[i], 0) ||
			    (i == 2 && (names(&bus[i], &v[i], 1) ||
					names(&bus[i], &v[i], 2))));
	}
	EXPECT_EQ(1, bus[6].count);
	EXPECT_TRUE(names(&bus[6], &v[1], 0));

	/* All live, without the bad page but with all the others. */
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(2, ksm_do1(&v[i], act_touch, 0));
		EXPECT_EQ(BUS_MCEERR_AR, bus[i].code);
		EXPECT_EQ(0, check_rest(&v[i], i == 2 ? 3 : 1));
	}
	EXPECT_EQ(0, check_rest(&v[5], 0));
	EXPECT_EQ(0, kill(child, 0));

	/* And so does KSM: the bad frame is forgotten, the rest shared. */
	ASSERT_EQ(0, ksm_scan_settle());
	for (i = 0; i < 6; i++)
		EXPECT_EQ(i == 2 ? 1 : 3, ksm_nr_common(&v[4], &v[i]));
	EXPECT_EQ(0, ksm_unshare_all());
	for (i = 0; i < 5; i++)
		EXPECT_EQ(0, check_rest(&v[i], i == 2 ? 3 : 1));
}

/*
 * B126: processes that did not ask for it are told when they touch the page,
 * and not before.
 */
TEST_F_TIMEOUT(ksm_hwpoison, late_mappers_learn_on_access, 60)
{
	struct ksm_puppet *v = self->v;
	struct bus *bus = self->bus;
	int i;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, start_victim(&v[i], &bus[i], NULL, 1, false));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_nr_common(&v[0], &v[3]));
	self->bad[self->nr_bad++] = PM_PFN(ksm_page_entry(&v[0], 0));
	ASSERT_EQ(0, ksm_do1(&v[0], act_poison, 0));
	EXPECT_EQ(1, bus[0].count);
	EXPECT_TRUE(names(&bus[0], &v[0], 0));
	for (i = 1; i < 4; i++) {
		EXPECT_EQ(0, check_rest(&v[i], 1));
		EXPECT_EQ(0, bus[i].count);
		EXPECT_EQ(2, ksm_do1(&v[i], act_touch, 0));
		EXPECT_EQ(1, bus[i].count);
		EXPECT_EQ(BUS_MCEERR_AR, bus[i].code);
		EXPECT_TRUE(names(&bus[i], &v[i], 0));
	}
}

/* B125: the frame fails by itself, nobody is just using it. */
TEST_F_TIMEOUT(ksm_hwpoison, frame_fails_by_itself, 60)
{
	struct ksm_puppet *v = self->v;
	struct bus *bus = self->bus;
	int i;

	if (access(POISON_DIR "corrupt-pfn", W_OK))
		SKIP(return, "no hwpoison-inject");
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, start_victim(&v[i], &bus[i], NULL, 1, i < 2));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_nr_common(&v[0], &v[3]));
	ASSERT_EQ(0, ksm_start());
	self->bad[self->nr_bad++] = PM_PFN(ksm_page_entry(&v[0], 0));
	ASSERT_EQ(0, ksm_put_num(POISON_DIR "corrupt-pfn",
				 (long long)self->bad[0]));
	for (i = 0; i < 2; i++) {
		EXPECT_TRUE(ksm_wait_for(bus[i].count, 5));
		EXPECT_EQ(1, bus[i].count);
		EXPECT_EQ(BUS_MCEERR_AO, bus[i].code);
		EXPECT_TRUE(names(&bus[i], &v[i], 0));
	}
	EXPECT_EQ(0, ksm_wait_passes(2));
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(2, ksm_do1(&v[i], act_touch, 0));
		EXPECT_EQ(0, check_rest(&v[i], 1));
	}
	EXPECT_EQ(0, ksm_stop());
}

/* Move the whole area to another place. */
static int act_move(struct ksm_act *a)
{
	size_t len = a->n * ksm_psize();
	char *to = ksm_map(a->n);

	if (!to || mremap(a->area, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
			  to) != to)
		return -errno;
	a->area = to;
	return 0;
}

static bool is_mapped(pid_t pid, uintptr_t addr)
{
	char buf[64];

	return addr && !ksm_smaps_text(pid, (void *)addr, "Size", buf,
				       sizeof(buf));
}

/*
 * B127: after the merge one process moves its area, and a forked child
 * unmaps the page but keeps its neighbours.  An address that is reported must
 * be mapped in the process that it is reported to; a process without any such
 * page has nothing to fear.
 */
TEST_F_TIMEOUT(ksm_hwpoison, addresses_are_still_mapped, 60)
{
	struct ksm_puppet *v = self->v;
	struct bus *bus = self->bus;
	int i, child;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, start_victim(&v[i], &bus[i], NULL, 1, true));
	ASSERT_EQ(0, ksm_scan_settle());
	child = ksm_do2(&v[1], act_fork_victim, (long)&bus[5], 1);
	ASSERT_GT(child, 0);
	ASSERT_EQ(0, ksm_do(&v[2], act_move));

	self->bad[self->nr_bad++] = PM_PFN(ksm_page_entry(&v[0], 0));
	ASSERT_EQ(0, ksm_do1(&v[0], act_poison, 0));
	EXPECT_TRUE(ksm_wait_for(bus[1].count && bus[3].count, 5));
	EXPECT_TRUE(names(&bus[1], &v[1], 0));
	EXPECT_TRUE(names(&bus[3], &v[3], 0));
	EXPECT_FALSE(ksm_wait_for(bus[5].count, 0.5));
	if (bus[2].count)
		EXPECT_TRUE(is_mapped(v[2].c.pid, bus[2].addr));
	EXPECT_EQ(0, kill(child, 0));
	for (i = 1; i < 4; i++)
		EXPECT_EQ(0, check_rest(&v[i], 1));
	/* The moved page is a copy of its own by now. */
	EXPECT_EQ(0, ksm_do1(&v[2], act_touch, 0));
}

static bool all_out(struct ksm_puppet *v, int nr)
{
	int i;

	for (i = 0; i < nr; i++)
		if (ksm_nr_swapped(&v[i]) != NR_PAGES)
			return false;
	return true;
}

static int swapoff_fn(struct ksm_child *c)
{
	(void)c;
	return ksm_swap_off() ? 1 : 0;
}

/*
 * B128: the page fails while it sits in the swap cache, read back by the
 * first of its mappers only.  The others, and swapoff, get a SIGBUS or a
 * poison mark, or fetch it from swap again; nobody gets wrong bytes.
 */
TEST_F_TIMEOUT(ksm_hwpoison, page_of_the_swap_cache, 90)
{
	const char *cg = ksm_env()->cg;
	struct ksm_puppet *v = self->v;
	struct bus *bus = self->bus;
	struct ksm_child off;
	int i, ret;

	if (ksm_env_missing(KSM_WITH_SWAP | KSM_WITH_CGROUP))
		SKIP(return, "%s", ksm_env_missing(KSM_WITH_SWAP |
						   KSM_WITH_CGROUP));
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, start_victim(&v[i], &bus[i], cg, 1, false));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_TRUE(ksm_reclaim_until(all_out(v, 4)));

	ASSERT_EQ(0, ksm_do1(&v[0], act_touch, 0));
	self->bad[self->nr_bad++] = PM_PFN(ksm_page_entry(&v[0], 0));
	ASSERT_EQ(0, ksm_do1(&v[0], act_poison, 0));
	EXPECT_LE(bus[0].count, 1);
	for (i = 0; i < 3; i++) {
		ret = ksm_do1(&v[i], act_touch, 0);
		TH_LOG("mapper %d: %s", i, ret ? "SIGBUS" : "from swap");
		EXPECT_TRUE(!ret || ret == 2);
		EXPECT_EQ(0, check_rest(&v[i], 1));
	}
	if (ksm_env()->swap.id >= 0) {
		ASSERT_EQ(0, ksm_spawn(&off, swapoff_fn, NULL));
		ret = ksm_reap(&off);
		if (!ret)
			ksm_swap_on();
		EXPECT_EQ(0, ret);
	}
	ret = ksm_do1(&v[3], act_touch, 0);
	TH_LOG("mapper 3: %s", ret ? "SIGBUS" : "from swap");
	EXPECT_TRUE(!ret || ret == 2);
	EXPECT_EQ(0, check_rest(&v[3], 1));
}

/*
 * B130: with several copies of a content only the mappers of the bad one are
 * hit, and later twins join one of the good ones, or make their own.
 */
TEST_F_TIMEOUT(ksm_hwpoison, one_copy_of_several, 60)
{
	struct ksm_puppet *v = self->v;
	struct bus *bus = self->bus;
	int i, hit = 0;
	uint64_t bad;

	ASSERT_EQ(0, ksm_set("max_page_sharing", 2));
	for (i = 0; i < 6; i++)
		ASSERT_EQ(0, start_victim(&v[i], &bus[i], NULL, 1, false));
	ASSERT_EQ(0, ksm_scan_settle());
	bad = PM_PFN(ksm_page_entry(&v[0], 0));
	self->bad[self->nr_bad++] = bad;
	for (i = 0; i < 6; i++)
		hit += PM_PFN(ksm_page_entry(&v[i], 0)) == bad;
	EXPECT_EQ(2, hit);
	ASSERT_EQ(0, ksm_do1(&v[0], act_poison, 0));
	for (i = 0, hit = 0; i < 6; i++) {
		hit += ksm_do1(&v[i], act_touch, 0) == 2;
		EXPECT_EQ(0, check_rest(&v[i], 1));
	}
	EXPECT_EQ(2, hit);

	for (i = 6; i < 8; i++)
		ASSERT_EQ(0, start_victim(&v[i], &bus[i], NULL, 1, false));
	ASSERT_EQ(0, ksm_scan_settle());
	for (i = 6; i < 8; i++) {
		EXPECT_EQ(NR_PAGES, ksm_nr_ksm(&v[i]));
		EXPECT_NE(bad, PM_PFN(ksm_page_entry(&v[i], 0)));
		EXPECT_EQ(0, check_rest(&v[i], 0));
	}
}

static int act_soft_offline(struct ksm_act *a)
{
	return ksm_advise(a->area, 1, MADV_SOFT_OFFLINE);
}

/* A frame that is only suspect is left in time: nobody is told anything. */
TEST_F_TIMEOUT(ksm_hwpoison, soft_offline_tells_nobody, 60)
{
	struct ksm_puppet *v = self->v;
	struct bus *bus = self->bus;
	int i;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, start_victim(&v[i], &bus[i], NULL, 1, true));
	ASSERT_EQ(0, ksm_scan_settle());
	self->bad[self->nr_bad++] = PM_PFN(ksm_page_entry(&v[0], 0));
	ASSERT_EQ(0, ksm_do(&v[1], act_soft_offline));
	for (i = 0; i < 4; i++) {
		EXPECT_NE(self->bad[0], PM_PFN(ksm_page_entry(&v[i], 0)));
		EXPECT_EQ(NR_PAGES, ksm_nr_common(&v[0], &v[i]));
		EXPECT_EQ(0, check_rest(&v[i], 0));
		EXPECT_EQ(0, bus[i].count);
	}
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(KSM_WITH_SWAP | KSM_WITH_CGROUP);
	ksm_keep(EARLY_KILL);
	return test_harness_run(argc, argv);
}
