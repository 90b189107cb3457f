// SPDX-License-Identifier: GPL-2.0
/*
 * KSM: merged pages are swapped out and come back.
 *
 * A merged page that goes to swap loses its identity: the first mapper that
 * reads it back gets the page of the swap cache, every other one a copy of
 * its own (ksm_swpin_copy).  All mappers must keep their bytes, the copies
 * must be ordinary pages that are charged and can be swapped out again, and
 * the reverse walk must find every mapping, also those that fork made.
 *
 * The pages belong to puppets in a memory cgroup, which is reclaimed; swap is
 * a zram disk when the machine has none.
 */
#include "../kselftest_harness.h"
#include <stdatomic.h>
#include <sys/uio.h>
#include "ksm_util.h"
#include "ksm_env.h"

#define NR_PAGES	32
#define OWNER		1

FIXTURE(ksm_swap) {
	struct ksm_puppet p[6];
};

FIXTURE_SETUP(ksm_swap)
{
	const char *why = ksm_env_missing(KSM_WITH_SWAP | KSM_WITH_CGROUP);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
}

FIXTURE_TEARDOWN(ksm_swap)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(self->p); i++)
		ksm_puppet_kill(&self->p[i]);
	ksm_finish(__test_passed(_metadata));
}

/* Start twins with @n pages each and merge them; 0 or what went wrong. */
static int start_merged(struct ksm_puppet *p, int nr, size_t n,
			unsigned int step)
{
	int i, ret;

	for (i = 0; i < nr; i++) {
		ret = ksm_puppet_with(&p[i], ksm_env()->cg, n, OWNER, step);
		if (ret)
			return ret;
	}
	ret = ksm_scan_settle();
	for (i = 0; !ret && i < nr; i++)
		if (ksm_nr_ksm(&p[i]) != (long)n) {
			fprintf(stderr, "# puppet %d: %ld of %zu merged\n", i,
				ksm_nr_ksm(&p[i]), n);
			ret = -EBADE;
		}
	return ret;
}

/* Are all pages of all puppets in swap? */
static bool all_out(struct ksm_puppet *p, int nr)
{
	int i;

	for (i = 0; i < nr; i++)
		if (ksm_nr_swapped(&p[i]) != (long)p[i].act->n)
			return false;
	return true;
}

static long count_out(struct ksm_puppet *p, int nr)
{
	long out = 0;
	int i;

	for (i = 0; i < nr; i++)
		out += ksm_nr_swapped(&p[i]);
	return out;
}

/* Sum of the pages with wrong bytes; a negative errno counts as well. */
static int all_check(struct ksm_puppet *p, int nr)
{
	int i, bad = 0;

	for (i = 0; i < nr; i++)
		bad += ksm_do(&p[i], ksm_act_check) != 0;
	return bad;
}

static int act_pageout(struct ksm_act *a)
{
	return ksm_advise(a->area, a->n, MADV_PAGEOUT);
}

/*
 * B58, B60: out, in, out and in again.  The second mapper of each content
 * gets one copy, which is private, on the LRU and swappable.
 */
TEST_F_TIMEOUT(ksm_swap, out_and_in_twice, 90)
{
	struct ksm_puppet *p = self->p;
	long long copies;
	size_t i;

	ASSERT_EQ(0, start_merged(p, 2, NR_PAGES, 1));
	ASSERT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[1]));
	ASSERT_EQ(NR_PAGES, ksm_get("pages_shared"));

	ASSERT_TRUE(ksm_reclaim_until(all_out(p, 2))) {
		TH_LOG("%ld of %d in swap", count_out(p, 2), 2 * NR_PAGES);
	}

	copies = ksm_vmstat("ksm_swpin_copy");
	ASSERT_EQ(0, all_check(p, 1));
	EXPECT_EQ(copies, ksm_vmstat("ksm_swpin_copy"));
	ASSERT_EQ(0, all_check(p + 1, 1));
	EXPECT_EQ(copies + NR_PAGES, ksm_vmstat("ksm_swpin_copy"));

	/* Nothing is shared any more, and nothing is a KSM page. */
	EXPECT_EQ(0, ksm_nr_common(&p[0], &p[1]));
	EXPECT_EQ(0, ksm_nr_ksm(&p[0]));
	EXPECT_EQ(0, ksm_nr_ksm(&p[1]));
	for (i = 0; i < NR_PAGES; i++)
		EXPECT_TRUE(!!(ksm_page_entry(&p[1], i) & PM_EXCLUSIVE));

	ASSERT_TRUE(ksm_reclaim_until(all_out(p, 2))) {
		TH_LOG("%ld of %d in swap again", count_out(p, 2),
		       2 * NR_PAGES);
	}
	EXPECT_EQ(0, all_check(p, 2));

	/* And they merge again as if nothing had been. */
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[1]));
	EXPECT_EQ(NR_PAGES, ksm_get("pages_shared"));
	EXPECT_EQ(NR_PAGES, ksm_get("pages_sharing"));
	EXPECT_EQ(0, all_check(p, 2));
}

/*
 * B59: the copies are charged to the group of the process that reads them,
 * and the charge goes away with it.
 */
TEST_F_TIMEOUT(ksm_swap, copies_are_charged, 90)
{
	const int nr = 512;
	struct ksm_puppet *p = self->p;
	long long psize = (long long)ksm_psize();
	long long out, in, slack;

	/* The kernel charges in batches of up to 64 pages on every CPU. */
	slack = 64 * psize * sysconf(_SC_NPROCESSORS_ONLN);
	if (slack * 2 > nr * psize)
		SKIP(return, "too many CPUs for exact charges");

	ASSERT_EQ(0, start_merged(p, 2, nr, 1));
	ASSERT_TRUE(ksm_reclaim_until(all_out(p, 2)));
	out = ksm_cg_num(ksm_env()->cg, "memory.current");
	ASSERT_EQ(0, all_check(p, 2));
	in = ksm_cg_num(ksm_env()->cg, "memory.current");
	/* Without a charge for the copies only half of this would be seen. */
	EXPECT_GE(in - out, 2 * nr * psize - slack);

	EXPECT_EQ(0, ksm_puppet_end(&p[0]));
	EXPECT_EQ(0, ksm_puppet_end(&p[1]));
	EXPECT_TRUE(ksm_wait_for(ksm_cg_num(ksm_env()->cg, "memory.current") <
				 out + slack, 10)) {
		TH_LOG("%lld bytes charged, %lld while all was in swap",
		       ksm_cg_num(ksm_env()->cg, "memory.current"), out);
	}
}

/*
 * B59: the copies obey the limit of the group: a limit with room for little
 * more than one mapper's pages holds while both read all of theirs.
 */
TEST_F_TIMEOUT(ksm_swap, copies_obey_the_limit, 90)
{
	const int nr = 512;
	struct ksm_puppet *p = self->p;
	long long psize = (long long)ksm_psize();
	long long limit, now;
	char text[32];
	int round, bad = 0;

	ASSERT_EQ(0, start_merged(p, 2, nr, 1));
	ASSERT_TRUE(ksm_reclaim_until(all_out(p, 2)));
	limit = ksm_cg_num(ksm_env()->cg, "memory.current") + (nr + 128) * psize;
	snprintf(text, sizeof(text), "%lld", limit);
	ASSERT_EQ(0, ksm_cg_put(ksm_env()->cg, "memory.max", text));
	for (round = 0; round < 3; round++) {
		bad += all_check(p, 2);
		now = ksm_cg_num(ksm_env()->cg, "memory.current");
		if (now > limit)
			break;
	}
	ksm_cg_put(ksm_env()->cg, "memory.max", "max");
	EXPECT_LE(now, limit);
	EXPECT_EQ(0, bad);
}

/*
 * B52: what is written between two trips to swap must not be lost to an old
 * copy in swap or in the swap cache, with ksmd merging again in between.
 */
TEST_F_TIMEOUT(ksm_swap, write_between, 90)
{
	struct ksm_puppet *p = self->p;
	unsigned int round;
	size_t i;

	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	ASSERT_EQ(0, start_merged(p, 2, NR_PAGES, 1));
	for (round = 2; round < 8; round++) {
		ASSERT_TRUE(ksm_reclaim_until(all_out(p, 2)));
		/*
		 * Half of the pages are rewritten straight out of swap: some
		 * in one puppet only, some the same in both.
		 */
		for (i = 0; i < NR_PAGES; i += 2) {
			long seed = (long)ksm_stamp(OWNER, i, round);

			ASSERT_EQ(0, ksm_do2(&p[0], ksm_act_write, i, seed));
			if (i % 4)
				continue;
			ASSERT_EQ(0, ksm_do2(&p[1], ksm_act_write, i, seed));
		}
		ASSERT_EQ(0, all_check(p, 2));
		ASSERT_EQ(0, ksm_scan_settle());
		/* Twins are: the pages of both, and those of neither. */
		EXPECT_EQ(NR_PAGES * 3 / 4, ksm_nr_common(&p[0], &p[1]));
	}
}

/*
 * B52, B53: write faults on pages that are on their way to swap and back,
 * while ksmd merges them again and again.
 */
static int act_storm_write(struct ksm_act *a)
{
	double end = ksm_now() + (double)a->arg[0];
	unsigned int round = 0, version, bad = 0;
	uint64_t entry;
	size_t i;

	while (!bad && ksm_now() < end) {
		/* Every other time they are twins of the other one's again. */
		version = ++round % 2 ? round + 1 : 1;
		for (i = a->arg[1]; i < a->n; i += 4)
			a->model[i] = ksm_stamp(OWNER, i, version);
		for (i = a->arg[1]; i < a->n; i += 4)
			ksm_fill(a->area + i * ksm_psize(), a->model[i]);
		if (version == 1)
			ksm_nap_us(20000);
		for (i = a->arg[1]; version == 1 && i < a->n; i += 4) {
			entry = ksm_pagemap(0, a->area + i * ksm_psize());
			a->arg[2] += (entry & PM_PRESENT) &&
				!(entry & PM_EXCLUSIVE);
		}
		bad = ksm_act_check(a);
	}
	return (int)bad;
}

/* B52, B53. */
TEST_F_TIMEOUT(ksm_swap, write_storm_under_reclaim, 90)
{
	struct ksm_puppet *p = self->p;
	double end;
	int i;

	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	ASSERT_EQ(0, start_merged(p, 2, NR_PAGES, 1));
	ASSERT_EQ(0, ksm_start());
	for (i = 0; i < 2; i++) {
		p[i].act->arg[0] = 4;
		p[i].act->arg[1] = i;
		ASSERT_EQ(0, ksm_do_begin(&p[i], act_storm_write));
	}
	for (end = ksm_now() + 4; ksm_now() < end; )
		ksm_cg_reclaim(ksm_env()->cg, 200);
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, ksm_do_end(&p[i]));
	ASSERT_EQ(0, ksm_stop());
	TH_LOG("%ld and %ld times a page was merged again", p[0].act->arg[2],
	       p[1].act->arg[2]);
	EXPECT_GT(p[0].act->arg[2] + p[1].act->arg[2], 0);
	EXPECT_EQ(0, all_check(p, 2));
}

/*
 * B54: pages just read back from swap have clean PTEs; merged in that state
 * they must not pass for pages that may be thrown away.
 */
TEST_F_TIMEOUT(ksm_swap, merge_of_clean_pages, 90)
{
	struct ksm_puppet *p = self->p;
	int round;

	ASSERT_EQ(0, start_merged(p, 3, NR_PAGES, 1));
	for (round = 0; round < 3; round++) {
		ASSERT_TRUE(ksm_reclaim_until(all_out(p, 3)));
		ASSERT_EQ(0, all_check(p, 3));	/* reads only */
		ASSERT_EQ(0, ksm_scan_settle());
		ASSERT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[1]));
		ASSERT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[2]));
	}
	ASSERT_TRUE(ksm_reclaim_until(all_out(p, 3)));
	EXPECT_EQ(0, all_check(p, 3));
}

static int act_unmap_half(struct ksm_act *a)
{
	ksm_unmap(a->area, a->n / 2);
	return 0;
}

/*
 * MADV_PAGEOUT leaves pages with several mappers alone; once one mapper is
 * left it must be able to send the merged page to swap.
 */
TEST_F_TIMEOUT(ksm_swap, madv_pageout_by_the_last_mapper, 60)
{
	struct ksm_puppet *p = self->p;
	long out = 0;
	size_t i;

	ASSERT_EQ(0, start_merged(p, 2, NR_PAGES, 1));
	ASSERT_EQ(0, ksm_do(&p[1], act_unmap_half));
	ASSERT_TRUE(ksm_wait_for((ksm_do(&p[0], act_pageout),
				  ksm_nr_swapped(&p[0]) >= NR_PAGES / 2),
				 KSM_WAIT_SECS));
	for (i = 0; i < NR_PAGES / 2; i++)
		out += !!(ksm_page_entry(&p[0], i) & PM_SWAPPED);
	EXPECT_EQ(NR_PAGES / 2, out);
	/* The other half goes when reclaim takes it from both mappers. */
	ASSERT_TRUE(ksm_reclaim_until(all_out(p, 1) &&
				      ksm_nr_swapped(&p[1]) == NR_PAGES / 2));
	EXPECT_EQ(0, all_check(p, 1));
}

/* Lend all pages to a pipe: reclaim can unmap, but not free them. */
static int act_lend(struct ksm_act *a)
{
	struct iovec iov = { a->area, a->n * ksm_psize() };
	int fd[2];

	if (pipe(fd))
		return -errno;
	a->arg[2] = fd[0];
	a->arg[3] = fd[1];
	if (fcntl(fd[1], F_SETPIPE_SZ, iov.iov_len) < 0)
		return -errno;
	return vmsplice(fd[1], &iov, 1, 0) == (ssize_t)iov.iov_len ? 0 : -EIO;
}

static int act_take_back(struct ksm_act *a)
{
	close(a->arg[2]);
	close(a->arg[3]);
	return 0;
}

/*
 * MADV_UNMERGEABLE finds swap entries only, while the merged pages are still
 * in the swap cache and one mapper has them back from there.  The other one
 * must not get them back as merged pages: its area is not mergeable, and
 * nobody would ever take them apart.
 */
TEST_F_TIMEOUT(ksm_swap, unmergeable_while_in_swap_cache, 90)
{
	struct ksm_puppet *p = self->p;
	int merged = 0;
	size_t i;

	ASSERT_EQ(0, start_merged(p, 2, NR_PAGES, 1));
	ASSERT_EQ(0, ksm_do(&p[0], act_lend));
	ASSERT_TRUE(ksm_reclaim_until(all_out(p, 2))) {
		TH_LOG("%ld of %d in swap", count_out(p, 2), 2 * NR_PAGES);
	}
	ASSERT_EQ(0, all_check(p, 1));
	/* Nothing is shown if these are not the merged pages of before. */
	ASSERT_EQ(NR_PAGES, ksm_nr_ksm(&p[0]));
	ASSERT_EQ(NR_PAGES, ksm_nr_swapped(&p[1]));
	ASSERT_EQ(0, ksm_do1(&p[1], ksm_act_advise, MADV_UNMERGEABLE));
	EXPECT_EQ(0, all_check(p, 2));

	EXPECT_EQ(0, ksm_nr_common(&p[0], &p[1]));
	EXPECT_EQ(0, ksm_nr_ksm(&p[1]));
	for (i = 0; i < NR_PAGES; i++)
		merged += !!ksm_kpf(PM_PFN(ksm_page_entry(&p[1], i)), KPF_KSM);
	EXPECT_EQ(0, merged);
	EXPECT_EQ(0, ksm_do(&p[0], act_take_back));
	EXPECT_TRUE(ksm_wait_for(!ksm_unshare_all(), 10));
	EXPECT_EQ(0, ksm_nr_ksm(&p[0]));
	EXPECT_TRUE(ksm_all_zero());
	EXPECT_EQ(0, all_check(p, 2));
}

/*
 * B61: one frame with 256 mappings needs more swap counts than fit in one
 * byte; all mappings must leave RAM and come back.
 */
TEST_F_TIMEOUT(ksm_swap, many_mappings_of_one_page, 90)
{
	const int nr = 256;
	struct ksm_puppet *p = self->p;
	long long copies;

	ASSERT_EQ(0, start_merged(p, 1, nr, 0));
	ASSERT_EQ(1, ksm_get("pages_shared"));
	ASSERT_EQ(nr - 1, ksm_get("pages_sharing"));
	ASSERT_TRUE(ksm_reclaim_until(all_out(p, 1))) {
		TH_LOG("%ld of %d in swap", count_out(p, 1), nr);
	}
	copies = ksm_vmstat("ksm_swpin_copy");
	EXPECT_EQ(0, all_check(p, 1));
	EXPECT_EQ(copies + nr - 1, ksm_vmstat("ksm_swpin_copy"));
}

static int swapoff_fn(struct ksm_child *c)
{
	(void)c;
	return ksm_swap_off() ? 1 : 0;
}

/*
 * B57: swapoff with six processes that share swapped pages, and with 256
 * mappings of one page in one process: it ends, and all bytes are there.
 */
TEST_F_TIMEOUT(ksm_swap, swapoff_with_many_sharers, 120)
{
	struct ksm_puppet *p = self->p;
	struct ksm_child off;
	int ret, bad;

	if (ksm_env()->swap.id < 0)
		SKIP(return, "the swap of this machine is not ours");
	ASSERT_EQ(0, start_merged(p, 5, NR_PAGES, 1));
	ASSERT_EQ(0, ksm_puppet_with(&p[5], ksm_env()->cg, 256, 2, 0));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_TRUE(ksm_reclaim_until(all_out(p, 6)));

	ASSERT_EQ(0, ksm_spawn(&off, swapoff_fn, NULL));
	ret = ksm_reap(&off);
	bad = all_check(p, 6);
	if (!ret)
		ksm_swap_on();
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, bad);
	EXPECT_EQ(0, count_out(p, 6));
}

/*
 * B56: swapoff while run=2 and MADV_UNMERGEABLE take the same pages apart;
 * afterwards fork, and swap all out once more.
 */
static int swapoff_loop(struct ksm_child *c)
{
	double end = ksm_now() + 4;
	int ret = 0;

	(void)c;
	while (!ret && ksm_now() < end) {
		ret = ksm_swap_off();
		ksm_nap_us(2000);
		ret = ksm_swap_on() ?: ret;
	}
	return ret ? 1 : 0;
}

static int act_flip_advice(struct ksm_act *a)
{
	double end = ksm_now() + 4;
	int ret = 0;

	while (!ret && ksm_now() < end) {
		ret = ksm_unmergeable(a->area, a->n);
		if (!ret)
			ret = ksm_mergeable(a->area, a->n);
		if (ret == -EAGAIN)
			ret = 0;	/* short of memory for a moment */
		ksm_nap_us(1000);
	}
	return ret ? 1 : 0;
}

/* B56. */
TEST_F_TIMEOUT(ksm_swap, swapoff_beside_unmerging, 120)
{
	struct ksm_puppet *p = self->p;
	struct ksm_child off;
	double end;
	int ret;

	if (ksm_env()->swap.id < 0)
		SKIP(return, "the swap of this machine is not ours");
	ASSERT_EQ(0, start_merged(p, 3, NR_PAGES, 1));
	ASSERT_EQ(0, ksm_start());
	ASSERT_EQ(0, ksm_spawn(&off, swapoff_loop, NULL));
	ASSERT_EQ(0, ksm_do_begin(&p[2], act_flip_advice));
	for (end = ksm_now() + 4; ksm_now() < end; ) {
		ksm_cg_reclaim(ksm_env()->cg, 200);
		ret = ksm_put_text("run", "2");
		EXPECT_TRUE(!ret || ret == -EBUSY);
		EXPECT_EQ(0, ksm_put_text("run", "1"));
	}
	EXPECT_EQ(0, ksm_do_end(&p[2]));
	EXPECT_EQ(0, ksm_reap(&off));
	EXPECT_EQ(0, all_check(p, 3));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_TRUE(ksm_reclaim_until(all_out(p, 3))) {
		TH_LOG("%ld of %d in swap", count_out(p, 3), 3 * NR_PAGES);
	}
	EXPECT_EQ(0, all_check(p, 3));
}

static int act_storm_read(struct ksm_act *a)
{
	double end = ksm_now() + (double)a->arg[0];
	int bad = 0;

	while (!bad && ksm_now() < end)
		bad = ksm_act_check(a);
	return bad;
}

/*
 * B22, B55: run=2 while merged pages travel through the swap cache in both
 * directions.  Each write ends with 0 or EBUSY; at the end no KSM page is
 * left and the settings that need that can be changed.
 */
TEST_F_TIMEOUT(ksm_swap, unmerge_beside_swapping, 120)
{
	struct ksm_puppet *p = self->p;
	int i, ret, writes = 0, busy = 0;
	double end;

	ASSERT_EQ(0, start_merged(p, 3, NR_PAGES, 1));
	ASSERT_EQ(0, ksm_start());
	for (i = 1; i < 3; i++) {
		p[i].act->arg[0] = 5;
		ASSERT_EQ(0, ksm_do_begin(&p[i], act_storm_read));
	}
	for (end = ksm_now() + 5; ksm_now() < end; writes++) {
		ksm_cg_reclaim(ksm_env()->cg, 200);
		ret = ksm_put_text("run", "2");
		ASSERT_TRUE(!ret || ret == -EBUSY) {
			TH_LOG("run=2: %d", ret);
		}
		busy += ret == -EBUSY;
		if (!ret)
			EXPECT_EQ(0, ksm_get("pages_shared"));
		ASSERT_EQ(0, ksm_put_text("run", "1"));
		ksm_wait_for(ksm_get("pages_sharing") > 0, 0.2);
	}
	for (i = 1; i < 3; i++)
		EXPECT_EQ(0, ksm_do_end(&p[i]));
	EXPECT_GT(writes, 0);
	TH_LOG("%d writes of run=2, %d busy", writes, busy);

	ASSERT_TRUE(ksm_wait_for(!ksm_unshare_all(), 10));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, ksm_nr_ksm(&p[i]));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_set("max_page_sharing", 8));
	if (ksm_has("merge_across_nodes"))
		EXPECT_EQ(0, ksm_set("merge_across_nodes", 0));
	EXPECT_EQ(0, all_check(p, 3));

	/* No stale node may be met under the new settings. */
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(0, all_check(p, 3));
}

/* One link of the fork chain of the next test. */
struct chain {
	struct ksm_act *act;
	atomic_int leaf_ready;
	atomic_int leaf_pid;
	atomic_int leave;		/* told to the leaf at the end */
	atomic_int bad;
};

#define CHAIN_DEPTH	5

static void chain_leaf(struct chain *ch)
{
	struct ksm_act *a = ch->act;
	pid_t old = getppid();

	a->model[0] = ksm_stamp(OWNER, 0, 1);
	if (ksm_mergeable(a->area, a->n))
		_exit(2);
	ch->leaf_pid = getpid();
	ch->leaf_ready = 1;
	/* The ancestors go; the test adopts us. */
	if (!ksm_wait_for(getppid() != old, KSM_WAIT_SECS))
		_exit(3);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!ksm_wait_for(ch->leave, 2 * KSM_WAIT_SECS))
		_exit(4);
	ch->bad = ksm_act_check(a);
	_exit(ch->bad ? 5 : 0);
}

/* Each generation gets an anon_vma of its own by writing to a page. */
static void chain_links(struct chain *ch)
{
	struct ksm_act *a = ch->act;
	int depth;
	pid_t pid;

	for (depth = 1; depth <= CHAIN_DEPTH; depth++) {
		pid = fork();
		if (pid) {
			ksm_wait_for(ch->leaf_ready, KSM_WAIT_SECS);
			_exit(pid < 0);
		}
		ksm_fill(a->area + depth * ksm_psize(), a->model[depth]);
	}
	chain_leaf(ch);
}

static int chain_start(struct ksm_child *c)
{
	struct chain *ch = c->arg;

	prctl(PR_SET_PDEATHSIG, 0);
	if (ksm_cg_join(ksm_env()->cg))
		return 1;
	ch->act->area = ksm_map(ch->act->n);
	if (!ch->act->area)
		return 1;
	ksm_act_fill(ch->act);
	chain_links(ch);
	return 1;	/* not reached */
}

/*
 * B35: the leaf of a fork chain five deep merges, all its ancestors exit,
 * and then the pages must still be found by the reverse walk.
 */
TEST_F_TIMEOUT(ksm_swap, fork_chain_without_ancestors, 90)
{
	struct ksm_puppet *p = self->p, leaf = {};
	struct ksm_child first;
	struct chain *ch;
	int status;
	size_t i;

	ch = mmap(NULL, sizeof(*ch), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	leaf.act = mmap(NULL, sizeof(*leaf.act), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)ch);
	ASSERT_NE(MAP_FAILED, (void *)leaf.act);
	ch->act = leaf.act;
	leaf.act->n = NR_PAGES;
	for (i = 0; i < NR_PAGES; i++)
		leaf.act->model[i] = ksm_stamp(OWNER, i, 1);
	ASSERT_EQ(0, prctl(PR_SET_CHILD_SUBREAPER, 1));

	/* The other half of every pair comes first and last in ksmd's list. */
	ASSERT_EQ(0, ksm_puppet_with(&p[0], ksm_env()->cg, NR_PAGES / 2, OWNER,
				     1));
	ASSERT_EQ(0, ksm_spawn(&first, chain_start, ch));
	ASSERT_TRUE(ksm_wait_for(ch->leaf_ready, KSM_WAIT_SECS));
	ASSERT_EQ(0, ksm_reap(&first));
	leaf.c.pid = ch->leaf_pid;
	ASSERT_EQ(0, ksm_puppet_with(&p[1], ksm_env()->cg, NR_PAGES, OWNER, 1));

	/* All ancestors are gone when nobody but the leaf is our child. */
	for (i = 1; i < CHAIN_DEPTH; i++)
		ASSERT_GT(waitpid(-1, &status, 0), 0);
	ASSERT_EQ(0, kill(leaf.c.pid, 0));

	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_PAGES, ksm_nr_ksm(&leaf));
	EXPECT_EQ(NR_PAGES, ksm_nr_common(&leaf, &p[1]));
	EXPECT_TRUE(ksm_reclaim_until(all_out(&leaf, 1) && all_out(p, 2))) {
		TH_LOG("%ld of leaf, %ld of others in swap",
		       ksm_nr_swapped(&leaf), count_out(p, 2));
	}
	EXPECT_EQ(0, all_check(p, 2));
	ch->leave = 1;
	ASSERT_EQ(leaf.c.pid, waitpid(leaf.c.pid, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	EXPECT_EQ(0, ch->bad);
}

/* Fork arg[0] children that keep their pages until the puppet dies. */
static int act_fork(struct ksm_act *a)
{
	long i;

	for (i = 0; i < a->arg[0]; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return -1;
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			while (!a->arg[1])
				ksm_nap_us(5000);
			_exit(ksm_act_check(a) ? 1 : 0);
		}
		a->model[KSM_ACT_PAGES - 1 - i] = (uint64_t)pid;
	}
	return 0;
}

/* Let the children of act_fork() check and go; how many failed. */
static int act_join(struct ksm_act *a)
{
	int status, failed = 0;
	long i;

	a->arg[1] = 1;
	for (i = 0; i < a->arg[0]; i++)
		if (wait(&status) < 0 || status)
			failed++;
	return failed;
}

/*
 * B43: mappings made by fork are known through the parent's record only; when
 * that one goes, the page must still be reclaimable after ksmd came by.
 */
TEST_F_TIMEOUT(ksm_swap, children_of_a_parent_that_unmapped, 90)
{
	enum { NR_FORKS = 8 };
	struct ksm_puppet *p = self->p, child[NR_FORKS] = {};
	int i;

	ASSERT_EQ(0, start_merged(p, 2, NR_PAGES, 1));
	ASSERT_EQ(0, ksm_do2(&p[0], act_fork, NR_FORKS, 0));
	for (i = 0; i < NR_FORKS; i++) {
		child[i].act = p[0].act;
		child[i].c.pid =
			(pid_t)p[0].act->model[KSM_ACT_PAGES - 1 - i];
	}
	/* The parent and the other first mapper leave the pages. */
	ASSERT_EQ(0, ksm_do(&p[0], ksm_act_unmap));
	ASSERT_EQ(0, ksm_puppet_end(&p[1]));
	ASSERT_EQ(0, ksm_scan(2));

	EXPECT_TRUE(ksm_reclaim_until(all_out(child, NR_FORKS)));
	EXPECT_EQ(NR_FORKS * NR_PAGES, count_out(child, NR_FORKS));
	EXPECT_EQ(0, ksm_do1(&p[0], act_join, NR_FORKS));
}

/*
 * B43: the same, swapped out before ksmd has seen any of the children: the
 * parent's records must lead to their mappings.
 */
TEST_F_TIMEOUT(ksm_swap, children_not_yet_scanned, 90)
{
	enum { NR_FORKS = 8 };
	struct ksm_puppet *p = self->p, child[NR_FORKS] = {};
	int i;

	ASSERT_EQ(0, start_merged(p, 2, NR_PAGES, 1));
	ASSERT_EQ(0, ksm_do2(&p[0], act_fork, NR_FORKS, 0));
	for (i = 0; i < NR_FORKS; i++) {
		child[i].act = p[0].act;
		child[i].c.pid =
			(pid_t)p[0].act->model[KSM_ACT_PAGES - 1 - i];
	}
	EXPECT_TRUE(ksm_reclaim_until(all_out(child, NR_FORKS) &&
				      all_out(p, 2))) {
		TH_LOG("%ld of children, %ld of others in swap",
		       count_out(child, NR_FORKS), count_out(p, 2));
	}
	EXPECT_EQ(0, ksm_do1(&p[0], act_join, NR_FORKS));
	EXPECT_EQ(0, all_check(p, 2));
}

/*
 * B58: short-lived children read pages that their parent has in swap, again
 * and again, while ksmd merges them; the parent reads them back last.
 */
static int act_short_lived(struct ksm_act *a)
{
	int i, status, bad = 0;

	for (i = 0; i < 4; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(ksm_act_check(a) ? 1 : 0);
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			bad++;
	}
	return bad;
}

/* B58. */
TEST_F_TIMEOUT(ksm_swap, short_lived_children, 90)
{
	struct ksm_puppet *p = self->p;
	int round;

	ASSERT_EQ(0, start_merged(p, 2, NR_PAGES, 1));
	for (round = 0; round < 5; round++) {
		ASSERT_TRUE(ksm_reclaim_until(all_out(p, 2)));
		ASSERT_EQ(0, ksm_start());
		EXPECT_EQ(0, ksm_do(&p[0], act_short_lived));
		EXPECT_EQ(0, all_check(p, 2));
		ASSERT_EQ(0, ksm_stop());
	}
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(KSM_WITH_SWAP | KSM_WITH_CGROUP);
	return test_harness_run(argc, argv);
}
