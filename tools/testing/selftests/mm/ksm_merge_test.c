// SPDX-License-Identifier: GPL-2.0
/*
 * What KSM is for: pages with equal bytes end up in one frame, pages with
 * different bytes never do, nobody's data changes, and the counters tell
 * exactly what happened.
 */
#include "../kselftest_harness.h"
#include "ksm_util.h"

/* What a mapper does: n pages at p, page i with content seed + i * step. */
struct job {
	char *p;
	size_t n;
	uint64_t seed;
	uint64_t step;
};

enum { CHECK = 1, WRITE_FIRST, FORGET, QUIT };

/* The content that WRITE_FIRST puts into the first page of a mapper. */
#define OWN_SEED	0x517e0000

/*
 * A process with mergeable pages.  It says 0 when they are filled and
 * registered, and answers orders: CHECK with the number of wrong pages,
 * WRITE_FIRST and FORGET (unmap all) with 0.
 */
static int mapper(struct ksm_child *c)
{
	struct job *job = c->arg;
	bool written = false;
	size_t bad, skip;
	int order;

	ksm_fill_range(job->p, job->n, job->seed, job->step);
	if (ksm_say(c, ksm_mergeable(job->p, job->n)))
		return 1;
	while (!ksm_hear(c, &order) && order != QUIT) {
		switch (order) {
		case WRITE_FIRST:
			ksm_fill(job->p, OWN_SEED + (uint64_t)getpid());
			written = true;
			ksm_say(c, 0);
			break;
		case FORGET:
			ksm_unmap(job->p, job->n);
			ksm_say(c, 0);
			break;
		default:
			skip = written ? 1 : 0;
			bad = ksm_count_bad(job->p + skip * ksm_psize(),
					    job->n - skip,
					    job->seed + skip * job->step,
					    job->step);
			if (written)
				bad += !ksm_is(job->p, OWN_SEED +
					       (uint64_t)getpid());
			ksm_say(c, (int)bad);
		}
	}
	return 0;
}

/* Start a mapper and wait until it is registered; 0 or an error. */
static int mapper_start(struct ksm_child *c, struct job *job)
{
	int ret, ready;

	ret = ksm_spawn(c, mapper, job);
	if (ret)
		return ret;
	ret = ksm_hear(c, &ready);
	return ret ? ret : ready;
}

static int mapper_end(struct ksm_child *c)
{
	ksm_say(c, QUIT);
	return ksm_reap(c);
}

/* How many of n pages have the same frame in two processes. */
static size_t count_shared(pid_t a, pid_t b, const char *p, size_t n)
{
	size_t i, same = 0;
	uint64_t pfn;

	for (i = 0; i < n; i++) {
		pfn = ksm_pfn(a, p + i * ksm_psize());
		same += pfn && pfn == ksm_pfn(b, p + i * ksm_psize());
	}
	return same;
}

FIXTURE(merge)
{
	int unused;
};

FIXTURE_SETUP(merge)
{
	const char *why = ksm_missing();

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
}

FIXTURE_TEARDOWN(merge)
{
	ksm_finish(__test_passed(_metadata));
}

FIXTURE(processes)
{
	int unused;
};

FIXTURE_VARIANT(processes)
{
	int procs;
	size_t pages;		/* in each process */
	bool twins;		/* all pages of a process alike */
	int smart_scan;
};

FIXTURE_VARIANT_ADD(processes, two_of_one_page)
{
	.procs = 2, .pages = 1, .twins = true, .smart_scan = 1,
};

FIXTURE_VARIANT_ADD(processes, three_with_twins_inside)
{
	.procs = 3, .pages = 8, .twins = true, .smart_scan = 1,
};

FIXTURE_VARIANT_ADD(processes, two_with_many_contents)
{
	.procs = 2, .pages = 256, .twins = false, .smart_scan = 1,
};

FIXTURE_VARIANT_ADD(processes, eight_with_many_contents)
{
	.procs = 8, .pages = 48, .twins = false, .smart_scan = 1,
};

FIXTURE_VARIANT_ADD(processes, four_without_smart_scan)
{
	.procs = 4, .pages = 32, .twins = false, .smart_scan = 0,
};

FIXTURE_SETUP(processes)
{
	const char *why = ksm_missing();

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, ksm_set("smart_scan", variant->smart_scan));
}

FIXTURE_TEARDOWN(processes)
{
	ksm_finish(__test_passed(_metadata));
}

/*
 * B101: pages still in a per-CPU LRU cache merge within two passes, too.
 * Everything is registered before the first pass begins, so the second pass is
 * the last chance.
 */
TEST_F_TIMEOUT(processes, merged_by_second_pass, 90)
{
	struct ksm_child c[8] = { 0 };
	struct job job[8];
	long long contents, maps, zeros = ksm_get("ksm_zero_pages");
	char *p;
	int i;

	p = ksm_map(variant->pages);
	ASSERT_NE(NULL, p);
	for (i = 0; i < variant->procs; i++) {
		job[i] = (struct job){ p, variant->pages, 1000,
				       variant->twins ? 0 : 1 };
		ASSERT_EQ(0, mapper_start(&c[i], &job[i]));
	}

	ASSERT_EQ(0, ksm_step(2));
	EXPECT_EQ(2, ksm_get("full_scans"));

	contents = variant->twins ? 1 : (long long)variant->pages;
	maps = variant->procs * (long long)variant->pages;
	EXPECT_EQ(contents, ksm_get("pages_shared"));
	EXPECT_EQ(maps - contents, ksm_get("pages_sharing"));
	for (i = 0; i < variant->procs; i++) {
		EXPECT_EQ((long long)variant->pages, ksm_merging(c[i].pid));
		EXPECT_EQ((long long)variant->pages,
			  ksm_stat(c[i].pid, "ksm_merging_pages"));
		EXPECT_EQ(variant->pages,
			  count_shared(c[0].pid, c[i].pid, p, variant->pages));
	}

	/* Two quiet passes more, and the other counters are exact as well. */
	ASSERT_EQ(0, ksm_step(2));
	EXPECT_EQ(contents, ksm_get("pages_shared"));
	EXPECT_EQ(maps - contents, ksm_get("pages_sharing"));
	EXPECT_EQ(0, ksm_get("pages_unshared"));
	EXPECT_EQ(0, ksm_get("pages_volatile"));
	EXPECT_EQ(zeros, ksm_get("ksm_zero_pages"));
	EXPECT_EQ(0, ksm_get("stable_node_chains"));
	EXPECT_EQ(0, ksm_get("stable_node_dups"));

	for (i = 0; i < variant->procs; i++) {
		EXPECT_EQ(0, ksm_ask(&c[i], CHECK));
		EXPECT_EQ(0, mapper_end(&c[i]));
	}
}

/*
 * When the last owner is gone, ksmd itself brings all counters back to 0,
 * without anybody writing run=2.
 */
TEST_F_TIMEOUT(merge, all_back_to_zero_after_exit, 60)
{
	long long zeros = ksm_get("ksm_zero_pages");
	struct ksm_child c[3] = { 0 };
	struct ksm_counters n;
	struct job job;
	char *p;
	int i;

	p = ksm_map(32);
	ASSERT_NE(NULL, p);
	job = (struct job){ p, 32, 5, 1 };
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, mapper_start(&c[i], &job));
	ASSERT_EQ(0, ksm_scan(2));
	ASSERT_EQ(32, ksm_get("pages_shared"));
	ASSERT_EQ(64, ksm_get("pages_sharing"));

	/* One leaves: the other two still share all. */
	EXPECT_EQ(0, mapper_end(&c[0]));
	ASSERT_EQ(0, ksm_scan(2));
	EXPECT_EQ(32, ksm_get("pages_shared"));
	EXPECT_EQ(32, ksm_get("pages_sharing"));
	EXPECT_EQ(32, ksm_merging(c[1].pid));

	/* A second one: nothing is shared with anyone, yet merged it stays. */
	EXPECT_EQ(0, mapper_end(&c[1]));
	ASSERT_EQ(0, ksm_scan(2));
	EXPECT_EQ(32, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_get("pages_sharing"));
	EXPECT_EQ(0, ksm_ask(&c[2], CHECK));

	EXPECT_EQ(0, mapper_end(&c[2]));
	ASSERT_EQ(0, ksm_start());
	EXPECT_TRUE(ksm_wait_for(!ksm_get("pages_shared"), KSM_WAIT_SECS));
	ASSERT_EQ(0, ksm_stop());
	ksm_count(&n);
	EXPECT_EQ(0, n.shared);
	EXPECT_EQ(0, n.sharing);
	EXPECT_EQ(0, n.unshared);
	EXPECT_EQ(0, n.vol);
	EXPECT_EQ(zeros, n.zero);
	EXPECT_EQ(0, n.chains);
	EXPECT_EQ(0, n.dups);
}

/*
 * B30: every second one of many contents has gone, and ksmd has not been there
 * since: its tree has as many nodes without a page as with one.  New twins of
 * the others find theirs all the same, within two passes.
 */
TEST_F_TIMEOUT(merge, twins_behind_stale_nodes, 60)
{
	enum { NR_CONTENTS = 512 };
	size_t sz = ksm_psize(), i, found = 0;
	char *p[2], *late;

	for (i = 0; i < 2; i++) {
		p[i] = ksm_map_filled(NR_CONTENTS, 7000, 1);
		ASSERT_NE(NULL, p[i]);
	}
	ASSERT_EQ(0, ksm_step(2));
	ASSERT_EQ(NR_CONTENTS, ksm_get("pages_shared"));
	ASSERT_EQ(NR_CONTENTS, ksm_get("pages_sharing"));

	late = ksm_map(NR_CONTENTS);
	ASSERT_NE(NULL, late);
	for (i = 0; i < NR_CONTENTS; i++) {
		if (i % 2) {
			ksm_fill(late + i * sz, 7000 + i);
			continue;
		}
		ASSERT_EQ(0, ksm_advise(p[0] + i * sz, 1, MADV_DONTNEED));
		ASSERT_EQ(0, ksm_advise(p[1] + i * sz, 1, MADV_DONTNEED));
	}
	ASSERT_EQ(0, ksm_mergeable(late, NR_CONTENTS));
	ASSERT_EQ(0, ksm_step(2));
	for (i = 1; i < NR_CONTENTS; i += 2)
		found += ksm_same_frame(late + i * sz, p[0] + i * sz);
	EXPECT_EQ(NR_CONTENTS / 2, found);
	EXPECT_EQ(NR_CONTENTS, ksm_get("pages_sharing"));
	/* And the stale ones go, at the latest when all of them were due. */
	EXPECT_EQ(0, ksm_stop());
	EXPECT_EQ(0, ksm_set("sleep_millisecs", 1));
	ASSERT_EQ(0, ksm_start());
	EXPECT_TRUE(ksm_wait_for(ksm_get("pages_shared") == NR_CONTENTS / 2,
				 KSM_WAIT_SECS));
	ASSERT_EQ(0, ksm_stop());
	for (i = 0; i < 2; i++)
		ksm_unmap(p[i], NR_CONTENTS);
	ksm_unmap(late, NR_CONTENTS);
}

/*
 * Registration while ksmd is in the middle of its passes: the rest of the
 * current one, and two complete ones.  Also B20 in its simplest form: ksmd
 * had nothing to do and has to wake up.
 */
TEST_F_TIMEOUT(merge, registered_while_running, 60)
{
	struct ksm_child c[2] = { 0 };
	struct job job;
	char *p;
	int i;

	p = ksm_map(16);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_start());
	job = (struct job){ p, 16, 77, 1 };
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, mapper_start(&c[i], &job));
	ASSERT_EQ(0, ksm_wait_passes(3));
	EXPECT_EQ(16, ksm_get("pages_shared"));
	EXPECT_EQ(16, ksm_get("pages_sharing"));
	EXPECT_EQ(16, count_shared(c[0].pid, c[1].pid, p, 16));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, ksm_ask(&c[i], CHECK));
		EXPECT_EQ(0, mapper_end(&c[i]));
	}
}

/* Pages in one area: one frame, KPF_KSM, not exclusive to anyone. */
TEST_F_TIMEOUT(merge, one_frame_and_its_flags, 60)
{
	uint64_t pfn;
	char *p;

	p = ksm_map_filled(8, 3, 0);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(8, ksm_count_frames(p, 8));
	ASSERT_EQ(0, ksm_scan(2));
	EXPECT_EQ(8, ksm_count_same(p, 8));
	pfn = ksm_pfn(0, p);
	EXPECT_EQ(1, ksm_kpf(pfn, KPF_KSM));
	EXPECT_EQ(1, ksm_kpf(pfn, KPF_ANON));
	EXPECT_EQ(0, ksm_pagemap(0, p) & PM_EXCLUSIVE);
	EXPECT_EQ(8 * (long long)ksm_psize() / 1024,
		  ksm_smaps_kb(0, p, "KSM"));
	EXPECT_EQ(0, ksm_count_bad(p, 8, 3, 0));
	ksm_unmap(p, 8);
}

/*
 * B121: a plain anonymous page is no KSM page.  A kernel without the fix in
 * fs/proc/page.c reports the KSM bit for every anonymous page.
 */
TEST_F_TIMEOUT(merge, plain_page_is_not_ksm, 60)
{
	char *plain, *merged;

	plain = ksm_map(1);
	ASSERT_NE(NULL, plain);
	ksm_fill(plain, 9);
	EXPECT_EQ(1, ksm_kpf(ksm_pfn(0, plain), KPF_ANON));
	EXPECT_EQ(0, ksm_kpf(ksm_pfn(0, plain), KPF_KSM));

	/* Nor does a merged neighbour make it one; nor registration alone. */
	merged = ksm_map_filled(3, 10, 0);
	ASSERT_NE(NULL, merged);
	ksm_fill(merged + 2 * ksm_psize(), 11);
	ASSERT_EQ(0, ksm_scan(2));
	EXPECT_EQ(1, ksm_kpf(ksm_pfn(0, merged), KPF_KSM));
	EXPECT_EQ(0, ksm_kpf(ksm_pfn(0, merged + 2 * ksm_psize()), KPF_KSM));
	EXPECT_EQ(0, ksm_kpf(ksm_pfn(0, plain), KPF_KSM));

	/* And a written one is an ordinary page again. */
	ksm_fill(merged, 12);
	EXPECT_EQ(0, ksm_kpf(ksm_pfn(0, merged), KPF_KSM));
	ksm_unmap(plain, 1);
	ksm_unmap(merged, 3);
}

FIXTURE(scanning)
{
	int unused;
};

FIXTURE_VARIANT(scanning)
{
	int smart_scan;
};

FIXTURE_VARIANT_ADD(scanning, smart)
{
	.smart_scan = 1,
};

FIXTURE_VARIANT_ADD(scanning, every_page)
{
	.smart_scan = 0,
};

FIXTURE_SETUP(scanning)
{
	const char *why = ksm_missing();

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, ksm_set("smart_scan", variant->smart_scan));
}

FIXTURE_TEARDOWN(scanning)
{
	ksm_finish(__test_passed(_metadata));
}

/*
 * Rows B117 and B124: pages of every kind, counted exactly after two quiet
 * passes and ever after.  The smart variant asks for more than the original
 * implementation does: there a page passed over counts as volatile.
 */
TEST_F_TIMEOUT(scanning, exact_counters, 60)
{
	char *twins, *unique, *busy;
	long long pass;

	twins = ksm_map_filled(10, 1, 0);
	unique = ksm_map_filled(20, 100, 1);
	busy = ksm_map_filled(7, 200, 1);
	ASSERT_NE(NULL, twins);
	ASSERT_NE(NULL, unique);
	ASSERT_NE(NULL, busy);

	for (pass = 1; pass <= 12; pass++) {
		/* Other contents in each pass: no candidates for merging. */
		ksm_fill_range(busy, 7, 1000 * (uint64_t)pass, 1);
		ASSERT_EQ(0, ksm_step(1));
		if (pass < 4)
			continue;
		EXPECT_EQ(1, ksm_get("pages_shared"));
		EXPECT_EQ(9, ksm_get("pages_sharing"));
		EXPECT_EQ(20, ksm_get("pages_unshared"));
		EXPECT_EQ(7, ksm_get("pages_volatile"));
	}
	EXPECT_EQ(10, ksm_merging(0));
	EXPECT_GE(ksm_stat(0, "ksm_rmap_items"), 10);

	/*
	 * Nobody writes any more, and in the end ksmd believes it: the busy
	 * pages become unique ones.
	 */
	for (pass = 0; pass < 40 && ksm_get("pages_volatile"); pass++)
		ASSERT_EQ(0, ksm_step(1));
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(9, ksm_get("pages_sharing"));
	EXPECT_EQ(27, ksm_get("pages_unshared"));
	EXPECT_EQ(0, ksm_get("pages_volatile"));

	/* Unmapping gives the counts back. */
	ksm_unmap(unique, 20);
	ksm_unmap(busy, 7);
	ASSERT_EQ(0, ksm_step(2));
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(9, ksm_get("pages_sharing"));
	EXPECT_EQ(0, ksm_get("pages_unshared"));
	EXPECT_EQ(0, ksm_get("pages_volatile"));
	ksm_unmap(twins, 10);
}

/*
 * Pages that are written to in the middle of a pass, when ksmd has been there,
 * are not merged any more by the end of that pass, as long as no page shared
 * is left: who writes, waits for a pass and looks, as the kernel's own
 * ksm_tests -U does, cannot know that one was under way.
 */
TEST_F_TIMEOUT(scanning, written_behind_ksmd, 60)
{
	char *p;
	long long from, seen;
	int batches;

	/* The twins come first, and a pass is several batches long */
	p = ksm_map_filled(400, 300, 1);
	ASSERT_NE(NULL, p);
	ksm_fill(p, 7);
	ksm_fill(p + ksm_psize(), 7);
	ASSERT_EQ(0, ksm_step(4));
	ASSERT_EQ(1, ksm_get("pages_shared"));
	ASSERT_EQ(1, ksm_get("pages_sharing"));

	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	ASSERT_EQ(0, ksm_set("pages_to_scan", 100));
	from = ksm_get("full_scans");
	seen = ksm_get("pages_scanned");
	ASSERT_EQ(0, ksm_poke());
	ASSERT_TRUE(ksm_wait_for(ksm_get("pages_scanned") > seen + 2 &&
				 ksm_asleep(), KSM_WAIT_SECS));
	ASSERT_EQ(from, ksm_get("full_scans"));
	ksm_fill(p, 8);
	ksm_fill(p + ksm_psize(), 9);
	EXPECT_EQ(1, ksm_get("pages_shared"));

	for (batches = 1; ksm_get("full_scans") == from; batches++) {
		ASSERT_LT(batches, 100);
		ASSERT_EQ(0, ksm_poke());
		ASSERT_TRUE(ksm_wait_for(ksm_asleep(), KSM_WAIT_SECS));
	}
	EXPECT_GT(batches, 2);
	EXPECT_EQ(from + 1, ksm_get("full_scans"));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_get("pages_sharing"));
	EXPECT_EQ(0, ksm_merging(0));
	ksm_unmap(p, 400);
}

/*
 * Whoever writes a 1 to run, after a 0, gets a batch at once, though ksmd may
 * just have ended one and be about to rest for an hour.
 */
TEST_F_TIMEOUT(merge, started_before_a_long_rest, 90)
{
	char *p = ksm_map_filled(4, 900, 1);
	long long from;
	int i, spins;

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 3600000));
	for (i = 0; i < 500; i++) {
		from = ksm_get("full_scans");
		ASSERT_EQ(0, ksm_start());
		/* To be as early as can be: no nap, if it is soon */
		for (spins = 0; spins < 100; spins++) {
			if (ksm_get("full_scans") > from)
				break;
		}
		ASSERT_TRUE(ksm_wait_for(ksm_get("full_scans") > from, 10)) {
			TH_LOG("no batch in round %d", i);
		}
		ASSERT_EQ(0, ksm_stop());
	}
	ksm_unmap(p, 4);
}

/*
 * B117: unique pages have been looked at in twenty passes and more.  Each
 * time another one of them gets a twin in a new process, and the two must be
 * one by the end of the second pass.  The smart variant asks for more than
 * the original implementation does, which may leave old pages alone for
 * eight passes.
 */
TEST_F_TIMEOUT(scanning, late_twin_of_settled_page, 60)
{
	struct ksm_child old = { 0 }, c[9] = { 0 };
	size_t sz = ksm_psize(), i;
	struct job all, one;
	char *p;

	p = ksm_map(24);
	ASSERT_NE(NULL, p);
	all = (struct job){ p, 24, 300, 1 };
	ASSERT_EQ(0, mapper_start(&old, &all));
	ASSERT_EQ(0, ksm_step(20));
	ASSERT_EQ(0, ksm_get("pages_shared"));

	for (i = 0; i < ARRAY_SIZE(c); i++) {
		one = (struct job){ p + i * sz, 1, 300 + i, 1 };
		ASSERT_EQ(0, mapper_start(&c[i], &one));
		ASSERT_EQ(0, ksm_step(2));
		EXPECT_EQ((long long)i + 1, ksm_get("pages_shared"));
		EXPECT_EQ((long long)i + 1, ksm_get("pages_sharing"));
		EXPECT_EQ(1, count_shared(old.pid, c[i].pid, one.p, 1));
		EXPECT_EQ(0, ksm_ask(&c[i], CHECK));
		ASSERT_EQ(0, ksm_step((int)i % 3));
	}
	EXPECT_EQ(0, ksm_ask(&old, CHECK));
	EXPECT_EQ(0, mapper_end(&old));
	for (i = 0; i < ARRAY_SIZE(c); i++)
		EXPECT_EQ(0, mapper_end(&c[i]));
}

/*
 * B117 with a twist: two twins of each settled page appear at once.  All
 * three must be one frame, though the new ones could do with each other.
 */
TEST_F_TIMEOUT(scanning, two_late_twins_of_settled_page, 60)
{
	struct ksm_child c[3] = { 0 };
	struct job job;
	int i;

	job = (struct job){ ksm_map(8), 8, 400, 1 };
	ASSERT_NE(NULL, job.p);
	ASSERT_EQ(0, mapper_start(&c[0], &job));
	ASSERT_EQ(0, ksm_step(22));
	ASSERT_EQ(0, ksm_get("pages_shared"));
	for (i = 1; i < 3; i++)
		ASSERT_EQ(0, mapper_start(&c[i], &job));
	ASSERT_EQ(0, ksm_step(2));
	EXPECT_EQ(8, ksm_get("pages_shared"));
	EXPECT_EQ(16, ksm_get("pages_sharing"));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(8, count_shared(c[0].pid, c[i].pid, job.p, 8));
		EXPECT_EQ(0, ksm_ask(&c[i], CHECK));
	}
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, mapper_end(&c[i]));
}

/*
 * A settled page gets the content of another settled page: the change must
 * be seen, and the two be one after two passes.  Smart asks for more here
 * than the original implementation does.
 */
TEST_F_TIMEOUT(scanning, settled_page_rewritten_as_twin, 60)
{
	size_t sz = ksm_psize();
	char *p;

	p = ksm_map_filled(12, 500, 1);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_step(12));
	ASSERT_EQ(0, ksm_get("pages_shared"));
	ksm_fill(p, 505);
	ksm_fill(p + sz, 506);
	ASSERT_EQ(0, ksm_step(2));
	EXPECT_EQ(2, ksm_get("pages_shared"));
	EXPECT_EQ(2, ksm_get("pages_sharing"));
	EXPECT_TRUE(ksm_same_frame(p, p + 5 * sz));
	EXPECT_TRUE(ksm_same_frame(p + sz, p + 6 * sz));
	EXPECT_EQ(10, ksm_count_frames(p, 12));
	ksm_unmap(p, 12);
}

/*
 * A page that left its twins and comes back to their content joins again.
 * As above, smart asks for more than the original implementation does.
 */
TEST_F_TIMEOUT(scanning, written_page_merges_again, 60)
{
	size_t sz = ksm_psize();
	char *p;
	int i;

	p = ksm_map_filled(6, 40, 0);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_step(2));
	ASSERT_EQ(6, ksm_count_same(p, 6));
	for (i = 0; i < 3; i++) {
		ksm_fill(p + 3 * sz, 41 + (uint64_t)i);
		EXPECT_EQ(5, ksm_count_same(p, 6));
		ASSERT_EQ(0, ksm_step(1));
		EXPECT_EQ(1, ksm_get("pages_shared"));
		EXPECT_EQ(4, ksm_get("pages_sharing"));
		ksm_fill(p + 3 * sz, 40);
		ASSERT_EQ(0, ksm_step(2));
		EXPECT_EQ(6, ksm_count_same(p, 6));
		EXPECT_EQ(5, ksm_get("pages_sharing"));
	}
	EXPECT_EQ(0, ksm_count_bad(p, 6, 40, 0));
	ksm_unmap(p, 6);
}

/* Different bytes, never one frame, however little they differ. */
TEST_F_TIMEOUT(merge, different_pages_stay_apart, 60)
{
	size_t sz = ksm_psize(), i;
	char *p;

	p = ksm_map(33);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	/* One bit of difference, at 32 places over the whole page. */
	ksm_fill_range(p, 33, 8, 0);
	for (i = 0; i < 32; i++)
		p[i * sz + i * sz / 32 + (i * 5) % 64] ^= (char)(1 << i % 8);
	ASSERT_EQ(0, ksm_mergeable(p, 33));
	ASSERT_EQ(0, ksm_scan(6));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_get("pages_sharing"));
	EXPECT_EQ(33, ksm_count_frames(p, 33));
	EXPECT_EQ(0, ksm_merging(0));
	for (i = 0; i < 32; i++)
		p[i * sz + i * sz / 32 + (i * 5) % 64] ^= (char)(1 << i % 8);
	EXPECT_EQ(0, ksm_count_bad(p, 33, 8, 0));

	/* And now they are alike, so the test above had something to refuse. */
	ASSERT_EQ(0, ksm_scan(3));
	EXPECT_EQ(33, ksm_count_same(p, 33));
	ksm_unmap(p, 33);
}

/*
 * Pages that have all but the last eight bytes in common, with twins: each
 * finds its own twin and not one of the others.
 */
TEST_F_TIMEOUT(merge, differ_in_last_eight_bytes, 60)
{
	size_t sz = ksm_psize(), i;
	uint64_t tail;
	char *p;

	p = ksm_map(64);
	ASSERT_NE(NULL, p);
	for (i = 0; i < 64; i++) {
		ksm_fill(p + i * sz, 21);
		tail = i / 2;
		memcpy(p + (i + 1) * sz - 8, &tail, 8);
	}
	ASSERT_EQ(0, ksm_mergeable(p, 64));
	ASSERT_EQ(0, ksm_scan(2));
	EXPECT_EQ(32, ksm_get("pages_shared"));
	EXPECT_EQ(32, ksm_get("pages_sharing"));
	EXPECT_EQ(32, ksm_count_frames(p, 64));
	for (i = 0; i < 64; i++) {
		EXPECT_TRUE(ksm_same_frame(p + i * sz, p + (i ^ 1) * sz));
		memcpy(&tail, p + (i + 1) * sz - 8, 8);
		EXPECT_EQ(i / 2, tail);
	}
	ksm_unmap(p, 64);
}

/*
 * B88, B89: a write to a merged page makes a private copy for the writer
 * alone, counted in vmstat, and nobody else sees the written bytes.
 */
TEST_F_TIMEOUT(merge, write_gives_private_copy, 60)
{
	struct ksm_child c[3] = { 0 };
	uint64_t pfn;
	struct job job;
	long long cow;
	char *p;
	int i;

	p = ksm_map(4);
	ASSERT_NE(NULL, p);
	job = (struct job){ p, 4, 30, 1 };
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, mapper_start(&c[i], &job));
	ASSERT_EQ(0, ksm_scan(2));
	ASSERT_EQ(4, ksm_get("pages_shared"));
	ASSERT_EQ(8, ksm_get("pages_sharing"));
	pfn = ksm_pfn(c[0].pid, p);

	cow = ksm_vmstat("cow_ksm");
	ASSERT_NE(KSM_BAD, cow);
	EXPECT_EQ(0, ksm_ask(&c[1], WRITE_FIRST));
	EXPECT_EQ(cow + 1, ksm_vmstat("cow_ksm"));
	EXPECT_NE(pfn, ksm_pfn(c[1].pid, p));
	EXPECT_NE(0, ksm_pfn(c[1].pid, p));
	EXPECT_EQ(pfn, ksm_pfn(c[0].pid, p));
	EXPECT_EQ(pfn, ksm_pfn(c[2].pid, p));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, ksm_ask(&c[i], CHECK));

	/* The counters follow: one mapping less, one page more on its own. */
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(4, ksm_get("pages_shared"));
	EXPECT_EQ(7, ksm_get("pages_sharing"));
	EXPECT_EQ(3, ksm_merging(c[1].pid));
	EXPECT_EQ(4, ksm_merging(c[0].pid));

	/* The last but one and the last sharer write too. */
	EXPECT_EQ(0, ksm_ask(&c[0], WRITE_FIRST));
	EXPECT_EQ(0, ksm_ask(&c[2], WRITE_FIRST));
	EXPECT_EQ(cow + 3, ksm_vmstat("cow_ksm"));
	EXPECT_NE(pfn, ksm_pfn(c[2].pid, p));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(3, ksm_get("pages_shared"));
	EXPECT_EQ(6, ksm_get("pages_sharing"));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0, ksm_ask(&c[i], CHECK));
		EXPECT_EQ(0, mapper_end(&c[i]));
	}
}

/* For fork_of_merged_memory: the child of a merged parent. */
static int forked(struct ksm_child *c)
{
	struct job *job = c->arg;
	int order;

	/* By inheritance, before ksmd has seen this process. */
	if (ksm_count_same(job->p, job->n) != job->n)
		return 2;
	if (ksm_vmflag(0, job->p, "mg") != 1)
		return 3;
	if (ksm_say(c, 0) || ksm_hear(c, &order))
		return 4;
	ksm_fill(job->p, 51);
	if (ksm_count_same(job->p + ksm_psize(), job->n - 1) != job->n - 1)
		return 5;
	if (ksm_say(c, 0) || ksm_hear(c, &order))
		return 6;
	if (!ksm_is(job->p, 51))
		return 7;
	if (ksm_count_bad(job->p + ksm_psize(), job->n - 1, 50, 0))
		return 8;
	return 0;
}

/*
 * B14, B43: the child of a process with merged memory shares the
 * frames, is scanned on its own, writes on its own, and its exit leaves the
 * parent alone.
 */
TEST_F_TIMEOUT(merge, fork_of_merged_memory, 60)
{
	struct ksm_child c = { 0 };
	size_t sz = ksm_psize();
	struct job job;
	int ready;

	job = (struct job){ ksm_map_filled(16, 50, 0), 16, 50, 0 };
	ASSERT_NE(NULL, job.p);
	ASSERT_EQ(0, ksm_scan(2));
	ASSERT_EQ(16, ksm_count_same(job.p, 16));

	ASSERT_EQ(0, ksm_spawn(&c, forked, &job));
	ASSERT_EQ(0, ksm_hear(&c, &ready));
	EXPECT_EQ(ksm_pfn(0, job.p), ksm_pfn(c.pid, job.p));
	EXPECT_EQ(16, count_shared(getpid(), c.pid, job.p, 16));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(31, ksm_get("pages_sharing"));
	EXPECT_EQ(16, ksm_merging(c.pid));
	EXPECT_EQ(16, ksm_merging(0));

	/* Parent and child each write a page of their own. */
	EXPECT_EQ(0, ksm_ask(&c, 1));
	ksm_fill(job.p + sz, 52);
	EXPECT_TRUE(ksm_is(job.p, 50));
	EXPECT_NE(ksm_pfn(0, job.p), ksm_pfn(c.pid, job.p));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(29, ksm_get("pages_sharing"));
	EXPECT_EQ(15, ksm_merging(c.pid));
	EXPECT_EQ(15, ksm_merging(0));
	EXPECT_EQ(0, ksm_say(&c, 1));
	EXPECT_EQ(0, ksm_reap(&c));

	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(14, ksm_get("pages_sharing"));
	EXPECT_TRUE(ksm_is(job.p, 50));
	EXPECT_TRUE(ksm_is(job.p + sz, 52));
	EXPECT_EQ(0, ksm_count_bad(job.p + 2 * sz, 14, 50, 0));
	ksm_unmap(job.p, 16);
}

/* Groups of pages of the next test, and what each page of a group is. */
enum { TWIN, HOLE, NO_ACCESS, DEV_ZERO, UNTOUCHED, SHARED, READ_ONLY_ZERO,
	NR_KINDS };
#define NR_GROUPS	16
#define NR_TWINS	(3 * NR_GROUPS)	/* TWIN, NO_ACCESS and DEV_ZERO */

static char *map_mixture(int zero_fd)
{
	size_t sz = ksm_psize(), i;
	char *p = ksm_map(NR_GROUPS * NR_KINDS);

	for (i = 0; p && i < NR_GROUPS; i++) {
		char *at = p + i * NR_KINDS * sz;

		if (mmap(at + DEV_ZERO * sz, sz, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_FIXED, zero_fd, 0) == MAP_FAILED ||
		    mmap(at + SHARED * sz, sz, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
		    MAP_FAILED)
			return NULL;
		ksm_fill(at + TWIN * sz, 80);
		ksm_fill(at + NO_ACCESS * sz, 80);
		ksm_fill(at + DEV_ZERO * sz, 80);
		ksm_fill(at + SHARED * sz, 80);
		ksm_touch(at + READ_ONLY_ZERO * sz);
		if (munmap(at + HOLE * sz, sz) ||
		    mprotect(at + NO_ACCESS * sz, sz, PROT_NONE))
			return NULL;
	}
	return p;
}

/* How many pages of the mixture are not what they should be? */
static int check_mixture(char *p)
{
	static const int filled[] = { TWIN, NO_ACCESS, DEV_ZERO, SHARED };
	size_t sz = ksm_psize(), i, j;
	int bad = 0;

	for (i = 0; i < NR_GROUPS; i++) {
		char *at = p + i * NR_KINDS * sz;

		mprotect(at + NO_ACCESS * sz, sz, PROT_READ | PROT_WRITE);
		for (j = 0; j < ARRAY_SIZE(filled); j++)
			bad += !ksm_is(at + filled[j] * sz, 80);
		for (j = 0; j < sz; j++)
			bad += at[UNTOUCHED * sz + j] ||
			       at[READ_ONLY_ZERO * sz + j];
	}
	return bad;
}

static int mixture_child(struct ksm_child *c)
{
	int order;

	if (ksm_say(c, 0) || ksm_hear(c, &order))
		return 1;
	return check_mixture(c->arg) ? 2 : 0;
}

/*
 * B21: what can be merged is found between holes, pages without access, pages
 * that were never touched, and mappings of other kinds, in the process that
 * made them and in its child; nothing else is touched.
 */
TEST_F_TIMEOUT(merge, between_holes_and_strangers, 60)
{
	struct ksm_child c = { 0 };
	int fd, ready;
	char *p;

	fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	p = map_mixture(fd);
	ASSERT_NE(NULL, p);
	close(fd);
	/* It is told of the holes, and has done the rest. */
	ASSERT_EQ(-ENOMEM, ksm_mergeable(p, NR_GROUPS * NR_KINDS));
	ASSERT_EQ(0, ksm_spawn(&c, mixture_child, p));
	ASSERT_EQ(0, ksm_hear(&c, &ready));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(2 * NR_TWINS - 1, ksm_get("pages_sharing"));
	EXPECT_EQ(0, ksm_get("pages_unshared"));
	EXPECT_EQ(NR_TWINS, ksm_merging(0));
	EXPECT_EQ(NR_TWINS, ksm_merging(c.pid));
	EXPECT_EQ(-ENOMEM, ksm_unmergeable(p, NR_GROUPS * NR_KINDS));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(0, ksm_merging(0));
	EXPECT_EQ(NR_TWINS - 1, ksm_get("pages_sharing"));
	EXPECT_EQ(0, check_mixture(p));
	EXPECT_EQ(0, ksm_say(&c, 0));
	EXPECT_EQ(0, ksm_reap(&c));
	ksm_unmap(p, NR_GROUPS * NR_KINDS);
}

/*
 * A forked page is no twin of itself: pages that parent and child share
 * already, all of them different, give nothing to merge.
 */
TEST_F_TIMEOUT(merge, forked_unique_pages_stay_unique, 60)
{
	struct ksm_child c = { 0 };
	struct job job;
	int ready;

	job = (struct job){ ksm_map_filled(16, 60, 0), 16, 60, 0 };
	ASSERT_NE(NULL, job.p);
	ksm_fill_range(job.p, 16, 60, 1);
	ASSERT_EQ(0, ksm_spawn(&c, mapper, &job));
	ASSERT_EQ(0, ksm_hear(&c, &ready));
	ASSERT_EQ(0, ready);

	/* The child has written them all alike; the parent's are as before. */
	ASSERT_EQ(0, ksm_scan(3));
	EXPECT_EQ(0, ksm_count_bad(job.p, 16, 60, 1));
	EXPECT_EQ(16, ksm_count_frames(job.p, 16));
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(16, ksm_get("pages_sharing"));
	EXPECT_EQ(ksm_pfn(0, job.p), ksm_pfn(c.pid, job.p));
	EXPECT_EQ(0, mapper_end(&c));
	ksm_unmap(job.p, 16);
}

/* The sign of the profit: a gain with twins, a loss with unique pages. */
TEST_F_TIMEOUT(merge, profit_has_the_right_sign, 60)
{
	long long sz = (long long)ksm_psize();
	char *twins, *unique;

	twins = ksm_map_filled(64, 70, 0);
	ASSERT_NE(NULL, twins);
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(63, ksm_get("pages_sharing"));
	EXPECT_GT(ksm_get("general_profit"), 63 * sz / 2);
	EXPECT_LE(ksm_get("general_profit"), 63 * sz);
	EXPECT_GT(ksm_stat(0, "ksm_process_profit"), 63 * sz / 2);
	EXPECT_LE(ksm_stat(0, "ksm_process_profit"), 64 * sz);
	ASSERT_EQ(0, ksm_unmergeable(twins, 64));

	unique = ksm_map_filled(512, 100, 1);
	ASSERT_NE(NULL, unique);
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(0, ksm_get("pages_sharing"));
	EXPECT_LT(ksm_get("general_profit"), 0);
	EXPECT_LT(ksm_stat(0, "ksm_process_profit"), 0);
	ksm_unmap(twins, 64);
	ksm_unmap(unique, 512);
}

/*
 * A look at a page that is merged already is cheap, but not free: 32 of them
 * count as one page of pages_to_scan.  So a pass over much settled memory
 * takes several batches, each with its rest.
 */
TEST_F_TIMEOUT(merge, settled_memory_is_paced, 90)
{
	const size_t n = 8192;
	const int to_scan = 100, sleep_ms = 200;
	struct ksm_child c[2] = { 0 };
	double begin, batches;
	long long from, rise;
	struct job job;
	int i;

	job = (struct job){ ksm_map(n), n, 80, 1 };
	ASSERT_NE(NULL, job.p);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, mapper_start(&c[i], &job));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ((long long)n, ksm_get("pages_shared"));
	ASSERT_EQ((long long)n, ksm_get("pages_sharing"));

	ASSERT_EQ(0, ksm_set("pages_to_scan", to_scan));
	ASSERT_EQ(0, ksm_set("sleep_millisecs", sleep_ms));
	from = ksm_get("full_scans");
	begin = ksm_now();
	ASSERT_EQ(0, ksm_start());
	ksm_nap_us(6000000);
	ASSERT_EQ(0, ksm_stop());
	batches = (ksm_now() - begin) * 1000 / sleep_ms;
	rise = ksm_get("full_scans") - from;
	EXPECT_LE(rise, batches * to_scan * 32 / (2.0 * n) + 2) {
		TH_LOG("%lld passes in %.0f batches", rise, batches);
	}
	EXPECT_GT(rise, 0);
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, ksm_ask(&c[i], CHECK));
		EXPECT_EQ(0, mapper_end(&c[i]));
	}
}

/* A process that rewrites and verifies its pages for as long as told. */
static int rewriter(struct ksm_child *c)
{
	struct job *job = c->arg;
	size_t sz = ksm_psize();
	uint64_t seed[32], round;
	struct pollfd pfd = { .fd = c->in, .events = POLLIN };
	size_t i;

	for (i = 0; i < job->n; i++)
		seed[i] = 0;
	ksm_fill_range(job->p, job->n, 0, 0);
	if (ksm_mergeable(job->p, job->n) || ksm_say(c, 0))
		return 1;
	for (round = 1; poll(&pfd, 1, 0) <= 0; round++) {
		/* Write every third page; all others must have kept theirs. */
		for (i = 0; i < job->n; i++) {
			if (!ksm_is(job->p + i * sz, seed[i]))
				return 2;
			if ((i + round) % 3)
				continue;
			seed[i] = (round + i) % 4;
			ksm_fill(job->p + i * sz, seed[i]);
		}
		ksm_nap_us(3000);
	}
	return 0;
}

/*
 * B88 seen from above: three processes write and verify pages that have few
 * contents among them while ksmd merges at full speed.  Every byte stays what
 * its owner wrote, and ksmd did merge meanwhile.
 */
TEST_F_TIMEOUT(merge, writers_beside_a_busy_ksmd, 60)
{
	struct ksm_child c[3] = { 0 };
	long long cow, most = 0, now;
	struct job job;
	double end;
	int i, ready;

	job = (struct job){ ksm_map(24), 24, 0, 0 };
	ASSERT_NE(NULL, job.p);
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	cow = ksm_vmstat("cow_ksm");
	ASSERT_EQ(0, ksm_start());
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, ksm_spawn(&c[i], rewriter, &job));
		ASSERT_EQ(0, ksm_hear(&c[i], &ready));
	}
	end = ksm_now() + 4;
	while (ksm_now() < end) {
		now = ksm_get("pages_sharing");
		most = now > most ? now : most;
		ksm_nap_us(5000);
	}
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0, ksm_say(&c[i], 0));
		EXPECT_EQ(0, ksm_reap(&c[i]));
	}
	ASSERT_EQ(0, ksm_stop());
	EXPECT_GT(most, 0);
	EXPECT_GT(ksm_vmstat("cow_ksm"), cow);
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	return test_harness_run(argc, argv);
}
