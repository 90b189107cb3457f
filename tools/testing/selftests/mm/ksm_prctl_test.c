// SPDX-License-Identifier: GPL-2.0
/*
 * PR_SET_MEMORY_MERGE and PR_GET_MEMORY_MERGE: a whole process becomes
 * mergeable, hands that on over fork and exec, and can take it back.  Bad
 * arguments, and who may do it, are in ksm_input_test.c.
 */
#include "../kselftest_harness.h"
#include "ksm_util.h"

#define NR_PAGES	16
#define HELPER		"--merge-helper"

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE	0x08
#endif

static int set_merge(unsigned long on)
{
	return prctl(PR_SET_MEMORY_MERGE, on, 0, 0, 0) ? -errno : 0;
}

static int get_merge(void)
{
	int ret = prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0);

	return ret < 0 ? -errno : ret;
}

/* Twins that nobody has given an advice for. */
static char *map_twins(uint64_t seed)
{
	char *p = ksm_map(NR_PAGES);

	if (p)
		ksm_fill_range(p, NR_PAGES, seed, 0);
	return p;
}

/* Number of areas of the caller that begin in [p, p + len). */
static int count_vmas(const char *p, size_t len)
{
	unsigned long from, to, at = (unsigned long)p;
	char line[512];
	int count = 0;
	FILE *f;

	f = fopen("/proc/self/maps", "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2 &&
		    to > at && from < at + len)
			count++;
	fclose(f);
	return count;
}

FIXTURE(prctl)
{
	int unused;
};

FIXTURE_SETUP(prctl)
{
	const char *why = ksm_missing();

	if (why)
		SKIP(return, "%s", why);
	if (get_merge() == -EINVAL)
		SKIP(return, "no PR_GET_MEMORY_MERGE in this kernel");
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, get_merge());
}

FIXTURE_TEARDOWN(prctl)
{
	set_merge(0);
	ksm_finish(__test_passed(_metadata));
}

/* On and off, each twice, and any value but 0 means on. */
TEST_F(prctl, set_and_get)
{
	EXPECT_EQ(0, set_merge(0));
	EXPECT_EQ(0, get_merge());
	EXPECT_EQ(0, set_merge(1));
	EXPECT_EQ(1, get_merge());
	EXPECT_EQ(0, set_merge(1));
	EXPECT_EQ(1, get_merge());
	EXPECT_EQ(0, set_merge(0));
	EXPECT_EQ(0, get_merge());
	EXPECT_EQ(0, set_merge(0));
	EXPECT_EQ(0, get_merge());
	EXPECT_EQ(0, set_merge(2));
	EXPECT_EQ(1, get_merge());
	EXPECT_EQ(0, set_merge(0));
	EXPECT_EQ(0, set_merge(ULONG_MAX));
	EXPECT_EQ(1, get_merge());
}

/* Areas that were there, and those that come later by mmap and brk. */
TEST_F_TIMEOUT(prctl, areas_before_and_after, 60)
{
	size_t sz = ksm_psize();
	char *before, *after, *heap;

	before = map_twins(1);
	ASSERT_NE(NULL, before);
	EXPECT_EQ(0, ksm_vmflag(0, before, "mg"));
	ASSERT_EQ(0, set_merge(1));
	EXPECT_EQ(1, ksm_vmflag(0, before, "mg"));

	after = map_twins(2);
	ASSERT_NE(NULL, after);
	EXPECT_EQ(1, ksm_vmflag(0, after, "mg"));

	heap = sbrk((intptr_t)((NR_PAGES + 1) * sz));
	ASSERT_NE((void *)-1, heap);
	heap = (char *)(((unsigned long)heap + sz - 1) & ~(sz - 1));
	ksm_fill_range(heap, NR_PAGES, 3, 0);
	EXPECT_EQ(1, ksm_vmflag(0, heap, "mg"));

	ASSERT_EQ(0, ksm_scan(3));
	EXPECT_EQ(NR_PAGES, ksm_count_same(before, NR_PAGES));
	EXPECT_EQ(NR_PAGES, ksm_count_same(after, NR_PAGES));
	EXPECT_EQ(NR_PAGES, ksm_count_same(heap, NR_PAGES));
	EXPECT_GE(ksm_merging(0), 3 * NR_PAGES);
	EXPECT_EQ(0, ksm_count_bad(before, NR_PAGES, 1, 0));
	EXPECT_EQ(0, ksm_count_bad(after, NR_PAGES, 2, 0));
	EXPECT_EQ(0, ksm_count_bad(heap, NR_PAGES, 3, 0));
	ksm_unmap(before, NR_PAGES);
	ksm_unmap(after, NR_PAGES);
}

/* B104: kinds of memory that must never be marked or merged. */
TEST_F_TIMEOUT(prctl, unsuitable_areas_left_alone, 60)
{
	size_t len = NR_PAGES * ksm_psize();
	char *shared, *drop, *plain, buf[16];

	shared = mmap(NULL, len, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, shared);
	ksm_fill_range(shared, NR_PAGES, 4, 0);
	drop = mmap(NULL, len, PROT_READ | PROT_WRITE,
		    MAP_DROPPABLE | MAP_ANONYMOUS, -1, 0);
	if (drop != MAP_FAILED)
		ksm_fill_range(drop, NR_PAGES, 5, 0);
	plain = map_twins(6);
	ASSERT_NE(NULL, plain);

	ASSERT_EQ(0, set_merge(1));
	EXPECT_EQ(0, ksm_vmflag(0, shared, "mg"));
	EXPECT_EQ(1, ksm_vmflag(0, plain, "mg"));

	/* The advice is no error there, and does nothing. */
	EXPECT_EQ(0, ksm_mergeable(shared, NR_PAGES));
	EXPECT_EQ(0, ksm_vmflag(0, shared, "mg"));
	if (drop != MAP_FAILED) {
		EXPECT_EQ(0, ksm_vmflag(0, drop, "mg"));
		EXPECT_EQ(0, ksm_mergeable(drop, NR_PAGES));
		EXPECT_EQ(0, ksm_vmflag(0, drop, "mg"));
	}

	ASSERT_EQ(0, ksm_scan(3));
	EXPECT_EQ(NR_PAGES, ksm_count_same(plain, NR_PAGES));
	EXPECT_EQ(NR_PAGES, ksm_count_frames(shared, NR_PAGES));
	EXPECT_EQ(0, ksm_smaps_text(0, shared, "KSM", buf, sizeof(buf)));
	EXPECT_EQ(0, atoi(buf));
	if (drop != MAP_FAILED) {
		EXPECT_EQ(NR_PAGES, ksm_count_frames(drop, NR_PAGES));
		munmap(drop, len);
	}
	munmap(shared, len);
	ksm_unmap(plain, NR_PAGES);
}

/* B109: off means no mark, no merged page, and all data where it was. */
TEST_F_TIMEOUT(prctl, disable_unmerges, 60)
{
	char *p, *q;
	int round;

	p = map_twins(7);
	q = map_twins(7);
	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	/* One of them was asked for by madvise() too: off is off. */
	ASSERT_EQ(0, ksm_mergeable(q, NR_PAGES));

	for (round = 0; round < 3; round++) {
		ASSERT_EQ(0, set_merge(1));
		ASSERT_EQ(0, ksm_scan(3));
		ASSERT_EQ(NR_PAGES, ksm_count_same(p, NR_PAGES));
		ASSERT_TRUE(ksm_same_frame(p, q));

		EXPECT_EQ(0, set_merge(0));
		EXPECT_EQ(0, get_merge());
		EXPECT_EQ(0, ksm_count_mg(0));
		EXPECT_EQ(0, ksm_smaps_kb(0, p, "KSM"));
		EXPECT_EQ(0, ksm_smaps_kb(0, q, "KSM"));
		EXPECT_EQ(NR_PAGES, ksm_count_frames(p, NR_PAGES));
		EXPECT_EQ(NR_PAGES, ksm_count_frames(q, NR_PAGES));
		EXPECT_FALSE(ksm_same_frame(p, q));
		EXPECT_EQ(0, ksm_count_bad(p, NR_PAGES, 7, 0));
		EXPECT_EQ(0, ksm_count_bad(q, NR_PAGES, 7, 0));

		/* ksmd's books follow when it comes round. */
		ASSERT_EQ(0, ksm_start());
		EXPECT_TRUE(ksm_wait_for(!ksm_get("pages_sharing") &&
					 !ksm_merging(0), KSM_WAIT_SECS));
		/* And it does not begin again. */
		EXPECT_FALSE(ksm_wait_for(ksm_same_frame(p, q), 0.2));
		ASSERT_EQ(0, ksm_stop());
		EXPECT_EQ(0, ksm_get("pages_shared"));
		EXPECT_EQ(NR_PAGES, ksm_count_frames(p, NR_PAGES));
	}
	ksm_unmap(p, NR_PAGES);
	ksm_unmap(q, NR_PAGES);
}

/* One area taken out by madvise(): the process stays merge-any. */
TEST_F_TIMEOUT(prctl, unmergeable_area_of_merge_any_process, 60)
{
	char *p, *q;

	ASSERT_EQ(0, set_merge(1));
	p = map_twins(8);
	q = map_twins(9);
	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	ASSERT_EQ(0, ksm_scan(3));
	ASSERT_EQ(NR_PAGES, ksm_count_same(p, NR_PAGES));

	EXPECT_EQ(0, ksm_unmergeable(p, NR_PAGES));
	EXPECT_EQ(1, get_merge());
	EXPECT_EQ(0, ksm_vmflag(0, p, "mg"));
	EXPECT_EQ(1, ksm_vmflag(0, q, "mg"));
	EXPECT_EQ(NR_PAGES, ksm_count_frames(p, NR_PAGES));
	EXPECT_EQ(NR_PAGES, ksm_count_same(q, NR_PAGES));
	ASSERT_EQ(0, ksm_scan(3));
	EXPECT_EQ(NR_PAGES, ksm_count_frames(p, NR_PAGES));
	EXPECT_EQ(0, ksm_count_bad(p, NR_PAGES, 8, 0));
	ksm_unmap(p, NR_PAGES);
	ksm_unmap(q, NR_PAGES);
}

static int grandchild(struct ksm_child *c)
{
	char *p;

	if (get_merge() != 1)
		return 2;
	p = map_twins(*(uint64_t *)c->arg + 1);
	if (!p || ksm_vmflag(0, p, "mg") != 1)
		return 3;
	if (ksm_scan(3))
		return 4;
	return ksm_count_same(p, NR_PAGES) == NR_PAGES ? 0 : 5;
}

/* A forked child: it has inherited the mode, and owns it. */
static int child(struct ksm_child *c)
{
	struct ksm_child g = { 0 };
	int ret;

	ret = ksm_spawn(&g, grandchild, c->arg);
	if (ret)
		return 10;
	ret = ksm_reap(&g);
	if (ret)
		return ret > 0 ? 10 + ret : 19;
	if (get_merge() != 1)
		return 20;
	if (set_merge(0) || get_merge())
		return 21;
	return ksm_count_mg(0) ? 22 : 0;
}

/* Inheritance over fork, two deep; each generation has its own switch. */
TEST_F_TIMEOUT(prctl, inherited_by_fork, 60)
{
	struct ksm_child c = { 0 };
	uint64_t seed = 10;
	char *p;

	ASSERT_EQ(0, set_merge(1));
	p = map_twins(seed);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_spawn(&c, child, &seed));
	EXPECT_EQ(0, ksm_reap(&c));

	/* The child switched itself off, not us. */
	EXPECT_EQ(1, get_merge());
	EXPECT_EQ(1, ksm_vmflag(0, p, "mg"));
	ASSERT_EQ(0, ksm_scan(3));
	EXPECT_EQ(NR_PAGES, ksm_count_same(p, NR_PAGES));
	ksm_unmap(p, NR_PAGES);
}

static int expects_off(struct ksm_child *c)
{
	char *p = map_twins(11);

	(void)c;
	if (get_merge())
		return 2;
	return p && ksm_vmflag(0, p, "mg") == 0 ? 0 : 3;
}

/* A child forked after the switch-off has nothing of it. */
TEST_F(prctl, not_inherited_when_off)
{
	struct ksm_child c = { 0 };

	ASSERT_EQ(0, set_merge(1));
	ASSERT_EQ(0, set_merge(0));
	ASSERT_EQ(0, ksm_spawn(&c, expects_off, NULL));
	EXPECT_EQ(0, ksm_reap(&c));
}

/*
 * What runs after the exec.  Says PR_GET_MEMORY_MERGE, then whether a new
 * area is marked; when told, the number of its pages that lie in one frame,
 * and whether its bytes are right.
 */
static int helper(int in, int out)
{
	struct ksm_child c = { .in = in, .out = out };
	int order;
	char *p;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (ksm_say(&c, get_merge()))
		return 2;
	p = map_twins(12);
	if (!p || ksm_say(&c, ksm_vmflag(0, p, "mg")))
		return 3;
	if (ksm_hear(&c, &order))
		return 4;
	if (ksm_say(&c, (int)ksm_count_same(p, NR_PAGES)))
		return 5;
	return ksm_count_bad(p, NR_PAGES, 12, 0) ? 6 : 0;
}

static int become_helper(struct ksm_child *c)
{
	char in[16], out[16];

	fcntl(c->in, F_SETFD, 0);
	fcntl(c->out, F_SETFD, 0);
	snprintf(in, sizeof(in), "%d", c->in);
	snprintf(out, sizeof(out), "%d", c->out);
	execl("/proc/self/exe", "ksm_prctl_test", HELPER, in, out, NULL);
	return 100 + errno % 100;
}

static int switch_on_and_exec(struct ksm_child *c)
{
	return set_merge(1) ? 99 : become_helper(c);
}

/*
 * B12, B13: every image started by a merge-any process is merge-any, is
 * scanned, and merges, however busy ksmd is while the exec goes on.
 */
TEST_F_TIMEOUT(prctl, inherited_by_exec, 90)
{
	struct ksm_child c = { 0 };
	int i, val;

	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	/* ksmd sees the pages while they are filled; it is to look again. */
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	ASSERT_EQ(0, ksm_start());
	for (i = 0; i < 12; i++) {
		ASSERT_EQ(0, ksm_spawn(&c, switch_on_and_exec, NULL));
		ASSERT_EQ(0, ksm_hear(&c, &val));
		EXPECT_EQ(1, val);
		ASSERT_EQ(0, ksm_hear(&c, &val));
		EXPECT_EQ(1, val);
		EXPECT_EQ(0, ksm_wait_passes(3));
		EXPECT_GE(ksm_merging(c.pid), NR_PAGES);
		EXPECT_EQ(NR_PAGES, ksm_ask(&c, 0));
		EXPECT_EQ(0, ksm_reap(&c));
	}
}

/* B12 the other way round: the parent is merge-any, the child forks, execs. */
TEST_F_TIMEOUT(prctl, inherited_by_fork_then_exec, 60)
{
	struct ksm_child c = { 0 };
	int val;

	ASSERT_EQ(0, set_merge(1));
	ASSERT_EQ(0, ksm_spawn(&c, become_helper, NULL));
	ASSERT_EQ(0, ksm_hear(&c, &val));
	EXPECT_EQ(1, val);
	ASSERT_EQ(0, ksm_hear(&c, &val));
	EXPECT_EQ(1, val);
	ASSERT_EQ(0, ksm_scan(3));
	EXPECT_GE(ksm_merging(c.pid), NR_PAGES);
	EXPECT_EQ(NR_PAGES, ksm_ask(&c, 0));
	EXPECT_EQ(0, ksm_reap(&c));
	EXPECT_EQ(1, get_merge());
}

/* Without the mode an exec gives none, even when an area was mergeable. */
TEST_F(prctl, advice_is_not_inherited_by_exec)
{
	struct ksm_child c = { 0 };
	char *p;
	int val;

	p = ksm_map_filled(NR_PAGES, 13, 0);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_spawn(&c, become_helper, NULL));
	ASSERT_EQ(0, ksm_hear(&c, &val));
	EXPECT_EQ(0, val);
	ASSERT_EQ(0, ksm_hear(&c, &val));
	EXPECT_EQ(0, val);
	EXPECT_EQ(1, ksm_ask(&c, 0));
	EXPECT_EQ(0, ksm_reap(&c));
	ksm_unmap(p, NR_PAGES);
}

/* Says its three counters, then those after it has left the mode. */
static int counting_child(struct ksm_child *c)
{
	int order;

	ksm_say(c, (int)ksm_stat(0, "ksm_merging_pages"));
	ksm_say(c, (int)ksm_stat(0, "ksm_rmap_items"));
	ksm_say(c, (int)ksm_stat(0, "ksm_zero_pages"));
	if (ksm_hear(c, &order))
		return 2;
	if (set_merge(0))
		return 3;
	ksm_say(c, (int)ksm_stat(0, "ksm_merging_pages"));
	ksm_say(c, (int)ksm_stat(0, "ksm_rmap_items"));
	ksm_say(c, (int)ksm_stat(0, "ksm_zero_pages"));
	return ksm_hear(c, &order) ? 4 : 0;
}

/*
 * B14, and B16's bookkeeping: a child starts with counters of its own, only
 * the zero pages that KSM had placed are inherited, and counted twice from
 * then on.  What the child does afterwards leaves the parent's alone.
 */
TEST_F_TIMEOUT(prctl, counters_of_a_forked_child, 60)
{
	long long merging, items, zeros, before;
	struct ksm_child c = { 0 };
	char *p, *z;
	int val;

	before = ksm_get("ksm_zero_pages");
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	p = map_twins(14);
	z = ksm_map(NR_PAGES);
	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, z);
	memset(z, 1, NR_PAGES * ksm_psize());
	memset(z, 0, NR_PAGES * ksm_psize());
	ASSERT_EQ(0, set_merge(1));
	ASSERT_EQ(0, ksm_scan(4));
	merging = ksm_merging(0);
	items = ksm_stat(0, "ksm_rmap_items");
	zeros = ksm_stat(0, "ksm_zero_pages");
	ASSERT_GE(merging, NR_PAGES);
	ASSERT_GE(items, NR_PAGES);
	ASSERT_GE(zeros, NR_PAGES);
	ASSERT_EQ(zeros, ksm_get("ksm_zero_pages") - before);

	ASSERT_EQ(0, ksm_spawn(&c, counting_child, NULL));
	ASSERT_EQ(0, ksm_hear(&c, &val));
	EXPECT_EQ(0, val);
	ASSERT_EQ(0, ksm_hear(&c, &val));
	EXPECT_EQ(0, val);
	/* It may have written to one or another of them by now. */
	ASSERT_EQ(0, ksm_hear(&c, &val));
	EXPECT_GE(val, NR_PAGES);
	EXPECT_LE(val, zeros);
	EXPECT_EQ(ksm_stat(0, "ksm_zero_pages") +
		  ksm_stat(c.pid, "ksm_zero_pages"),
		  ksm_get("ksm_zero_pages") - before);

	EXPECT_EQ(0, ksm_say(&c, 0));
	ASSERT_EQ(0, ksm_hear(&c, &val));
	EXPECT_EQ(0, val);
	ASSERT_EQ(0, ksm_hear(&c, &val));
	EXPECT_EQ(0, val);
	ASSERT_EQ(0, ksm_hear(&c, &val));
	EXPECT_EQ(0, val);
	EXPECT_EQ(ksm_stat(0, "ksm_zero_pages"), ksm_get("ksm_zero_pages") - before);
	EXPECT_EQ(0, ksm_say(&c, 0));
	EXPECT_EQ(0, ksm_reap(&c));

	EXPECT_EQ(merging, ksm_merging(0));
	EXPECT_EQ(items, ksm_stat(0, "ksm_rmap_items"));
	EXPECT_EQ(ksm_stat(0, "ksm_zero_pages"), ksm_get("ksm_zero_pages") - before);
	EXPECT_EQ(NR_PAGES, ksm_count_same(p, NR_PAGES));
	ksm_unmap(p, NR_PAGES);
	ksm_unmap(z, NR_PAGES);
}

/*
 * B108: mappings that are made side by side become one area, as they do
 * without the mode.  The original implementation in this version marks the
 * new one too late for that.
 */
TEST_F(prctl, adjacent_mappings_become_one_area)
{
	size_t sz = ksm_psize(), i;
	char *p, *q;
	int n[2], on;

	for (on = 0; on < 2; on++) {
		ASSERT_EQ(0, set_merge((unsigned long)on));
		p = mmap(NULL, 100 * sz, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		ASSERT_NE(MAP_FAILED, p);
		ASSERT_EQ(0, munmap(p, 100 * sz));
		/* Leave a gap on both sides. */
		for (i = 1; i < 99; i++) {
			q = mmap(p + i * sz, sz, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
				 -1, 0);
			ASSERT_EQ(p + i * sz, q);
			*q = 1;
		}
		n[on] = count_vmas(p + sz, 98 * sz);
		ASSERT_EQ(0, munmap(p + sz, 98 * sz));
	}
	EXPECT_EQ(1, n[0]);
	EXPECT_EQ(1, n[1]);
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], HELPER))
		return helper(atoi(argv[2]), atoi(argv[3]));
	ksm_main_setup();
	return test_harness_run(argc, argv);
}
