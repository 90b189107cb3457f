// SPDX-License-Identifier: GPL-2.0
/*
 * max_page_sharing: no KSM page gets more mappings than that; a content with
 * more of them gets several pages, its "dups", held together by a chain.
 */
#include "../kselftest_harness.h"
#include "ksm_util.h"

#define SEED	0xc4a1

/* How n pages are spread over frames. */
struct spread {
	size_t present;
	size_t frames;		/* distinct ones */
	size_t most;		/* mappings of the frame that has most */
};

static int compare_pfn(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int get_spread(const char *p, size_t n, struct spread *s)
{
	size_t i, run = 0;
	uint64_t *pfn;

	memset(s, 0, sizeof(*s));
	pfn = calloc(n, sizeof(*pfn));
	if (!pfn)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		pfn[i] = ksm_pfn(0, p + i * ksm_psize());
		s->present += !!pfn[i];
	}
	qsort(pfn, n, sizeof(*pfn), compare_pfn);
	for (i = 0; i < n; i++) {
		if (!pfn[i])
			continue;
		run = i && pfn[i] == pfn[i - 1] ? run + 1 : 1;
		s->frames += run == 1;
		s->most = run > s->most ? run : s->most;
	}
	free(pfn);
	return 0;
}

FIXTURE(chain)
{
	int unused;
};

FIXTURE_SETUP(chain)
{
	const char *why = ksm_missing();

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, ksm_get("stable_node_chains"));
	ASSERT_EQ(0, ksm_get("stable_node_dups"));
}

FIXTURE_TEARDOWN(chain)
{
	ksm_finish(__test_passed(_metadata));
}

FIXTURE(limit)
{
	int unused;
};

FIXTURE_VARIANT(limit)
{
	long long limit;
	size_t dups;		/* so many times limit twins */
};

FIXTURE_VARIANT_ADD(limit, two_one_page)
{
	.limit = 2, .dups = 1,
};

FIXTURE_VARIANT_ADD(limit, two_five_dups)
{
	.limit = 2, .dups = 5,
};

FIXTURE_VARIANT_ADD(limit, two_thousand_dups)
{
	.limit = 2, .dups = 1000,
};

FIXTURE_VARIANT_ADD(limit, three_seven_dups)
{
	.limit = 3, .dups = 7,
};

FIXTURE_VARIANT_ADD(limit, sixteen_125_dups)
{
	.limit = 16, .dups = 125,
};

FIXTURE_VARIANT_ADD(limit, default_one_page)
{
	.limit = 256, .dups = 1,
};

FIXTURE_VARIANT_ADD(limit, default_three_dups)
{
	.limit = 256, .dups = 3,
};

FIXTURE_SETUP(limit)
{
	const char *why = ksm_missing();

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, ksm_set("max_page_sharing", variant->limit));
}

FIXTURE_TEARDOWN(limit)
{
	ksm_finish(__test_passed(_metadata));
}

/*
 * B48: as many twins as fill so many pages exactly: that many frames, none
 * above the limit, all of it counted, and all gone with the last mapping.
 */
TEST_F_TIMEOUT(limit, exact_counts, 90)
{
	size_t n = (size_t)variant->limit * variant->dups;
	long long dups = (long long)variant->dups;
	struct spread s;
	char *p;

	p = ksm_map_filled(n, SEED, 0);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(dups, ksm_get("pages_shared"));
	EXPECT_EQ((long long)n - dups, ksm_get("pages_sharing"));
	EXPECT_EQ(0, ksm_get("pages_unshared"));
	EXPECT_EQ(0, ksm_get("pages_volatile"));
	EXPECT_EQ((long long)n, ksm_merging(0));
	/* One page needs no chain. */
	EXPECT_EQ(dups > 1, ksm_get("stable_node_chains"));
	EXPECT_EQ(dups > 1 ? dups : 0, ksm_get("stable_node_dups"));

	ASSERT_EQ(0, get_spread(p, n, &s));
	EXPECT_EQ(n, s.present);
	EXPECT_EQ(variant->dups, s.frames);
	EXPECT_EQ((size_t)variant->limit, s.most);
	EXPECT_EQ(0, ksm_count_bad(p, n, SEED, 0));

	EXPECT_EQ(0, ksm_unshare_all());
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_get("pages_sharing"));
	EXPECT_EQ(0, ksm_get("stable_node_chains"));
	EXPECT_EQ(0, ksm_get("stable_node_dups"));
	ASSERT_EQ(0, get_spread(p, n, &s));
	EXPECT_EQ(n, s.frames);
	EXPECT_EQ(0, ksm_count_bad(p, n, SEED, 0));
	ksm_unmap(p, n);
}

/* Some more twins than fit: the counts stay consistent, the limit holds. */
TEST_F_TIMEOUT(limit, with_a_remainder, 90)
{
	size_t n = (size_t)variant->limit * variant->dups + 1;
	struct ksm_counters c;
	struct spread s;
	char *p;

	p = ksm_map_filled(n, SEED, 0);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_scan_settle());
	ksm_count(&c);
	ASSERT_EQ(0, get_spread(p, n, &s));
	EXPECT_LE(s.most, (size_t)variant->limit);
	EXPECT_EQ(variant->dups + 1, s.frames);
	/* The odd one is a page on its own; it may be a dup or none. */
	EXPECT_EQ((long long)n,
		  c.shared + c.sharing + c.unshared + c.vol);
	EXPECT_GE(c.shared, (long long)variant->dups);
	EXPECT_LE(c.shared, (long long)variant->dups + 1);
	EXPECT_EQ((long long)(n - variant->dups) - 1, c.sharing);

	/* It finds company as soon as there is some. */
	ASSERT_EQ(0, ksm_advise(p, (size_t)variant->limit - 1, MADV_DONTNEED));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(0, get_spread(p, n, &s));
	EXPECT_EQ(n - (size_t)variant->limit + 1, s.present);
	EXPECT_LE(s.most, (size_t)variant->limit);
	EXPECT_EQ(0, ksm_count_bad(p + ((size_t)variant->limit - 1) *
				   ksm_psize(),
				   n - (size_t)variant->limit + 1, SEED, 0));
	ksm_unmap(p, n);
}

/* A chain for each content that needs one, and none for the others. */
TEST_F_TIMEOUT(chain, several_contents, 60)
{
	struct spread s;
	char *p[5];
	int i;

	ASSERT_EQ(0, ksm_set("max_page_sharing", 2));
	for (i = 0; i < 4; i++) {
		p[i] = ksm_map_filled(10, SEED + 1 + (uint64_t)i, 0);
		ASSERT_NE(NULL, p[i]);
	}
	p[4] = ksm_map_filled(2, SEED + 9, 0);
	ASSERT_NE(NULL, p[4]);
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(4, ksm_get("stable_node_chains"));
	EXPECT_EQ(20, ksm_get("stable_node_dups"));
	EXPECT_EQ(21, ksm_get("pages_shared"));
	EXPECT_EQ(21, ksm_get("pages_sharing"));
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, get_spread(p[i], 10, &s));
		EXPECT_EQ(5, s.frames);
		EXPECT_EQ(2, s.most);
		EXPECT_EQ(0, ksm_count_bad(p[i], 10, SEED + 1 + (uint64_t)i,
					   0));
	}
	EXPECT_TRUE(ksm_same_frame(p[4], p[4] + ksm_psize()));
	for (i = 0; i < 4; i++)
		ksm_unmap(p[i], 10);
	ksm_unmap(p[4], 2);
}

/* Registers twins at an address known to the parent, and waits. */
static int twin_process(struct ksm_child *c)
{
	char *p = c->arg;
	int order;

	ksm_fill_range(p, 8, SEED, 0);
	if (ksm_say(c, ksm_mergeable(p, 8)) || ksm_hear(c, &order))
		return 1;
	return ksm_count_bad(p, 8, SEED, 0) ? 2 : 0;
}

/* The limit is one for the machine, not one for each process. */
TEST_F_TIMEOUT(chain, many_processes, 60)
{
	struct ksm_child c[6] = { 0 };
	int i, val;
	char *p;

	p = ksm_map(8);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_set("max_page_sharing", 4));
	for (i = 0; i < 6; i++) {
		ASSERT_EQ(0, ksm_spawn(&c[i], twin_process, p));
		ASSERT_EQ(0, ksm_hear(&c[i], &val));
		ASSERT_EQ(0, val);
	}
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(1, ksm_get("stable_node_chains"));
	EXPECT_EQ(12, ksm_get("stable_node_dups"));
	EXPECT_EQ(12, ksm_get("pages_shared"));
	EXPECT_EQ(36, ksm_get("pages_sharing"));
	for (i = 0; i < 6; i++) {
		EXPECT_EQ(8, ksm_merging(c[i].pid));
		EXPECT_EQ(0, ksm_say(&c[i], 0));
		EXPECT_EQ(0, ksm_reap(&c[i]));
	}
}

FIXTURE(prune)
{
	int unused;
};

FIXTURE_VARIANT(prune)
{
	long long millisecs;
};

FIXTURE_VARIANT_ADD(prune, at_once)
{
	.millisecs = 0,
};

FIXTURE_VARIANT_ADD(prune, each_second)
{
	.millisecs = 1000,
};

FIXTURE_SETUP(prune)
{
	const char *why = ksm_missing();

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	ASSERT_EQ(0, ksm_set("max_page_sharing", 2));
	ASSERT_EQ(0, ksm_set("stable_node_chains_prune_millisecs",
			     variant->millisecs));
}

FIXTURE_TEARDOWN(prune)
{
	ksm_finish(__test_passed(_metadata));
}

/*
 * B23, B24: dups whose pages have gone are dropped from the chain, and a
 * chain that has but one dup left is no chain any more.  A new twin of the
 * content comes by, as the interval only says how soon ksmd looks when it
 * has reason to.
 */
TEST_F_TIMEOUT(prune, down_to_one_dup, 60)
{
	size_t sz = ksm_psize();
	char *p, *q;

	p = ksm_map_filled(20, SEED, 0);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(1, ksm_get("stable_node_chains"));
	ASSERT_EQ(10, ksm_get("stable_node_dups"));

	/* One mapping stays, so its page has room for one more. */
	ASSERT_EQ(0, munmap(p + sz, 19 * sz));
	q = ksm_map_filled(1, SEED, 0);
	ASSERT_NE(NULL, q);
	ASSERT_EQ(0, ksm_start());
	/* The item of one that was unmapped may go after the chain. */
	EXPECT_TRUE(ksm_wait_for(!ksm_get("stable_node_chains") &&
				 ksm_get("pages_sharing") == 1 &&
				 ksm_same_frame(p, q), KSM_WAIT_SECS));
	ASSERT_EQ(0, ksm_stop());
	EXPECT_EQ(0, ksm_get("stable_node_chains"));
	EXPECT_EQ(0, ksm_get("stable_node_dups"));
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(1, ksm_get("pages_sharing"));
	EXPECT_TRUE(ksm_same_frame(p, q));
	EXPECT_TRUE(ksm_is(p, SEED));
	EXPECT_TRUE(ksm_is(q, SEED));

	/* And it grows again. */
	ksm_unmap(q, 1);
	q = ksm_map_filled(5, SEED, 0);
	ASSERT_NE(NULL, q);
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(1, ksm_get("stable_node_chains"));
	EXPECT_EQ(3, ksm_get("stable_node_dups"));
	EXPECT_EQ(3, ksm_get("pages_shared"));
	EXPECT_EQ(3, ksm_get("pages_sharing"));
	ksm_unmap(p, 1);
	ksm_unmap(q, 5);
}

/*
 * Throw away all pages whose frames are not among the first @keep distinct
 * ones; the number of frames that went, or -errno.
 */
static int discard_frames(char *p, size_t n, size_t keep)
{
	size_t i, j, nr = 0;
	uint64_t *seen, pfn;

	seen = calloc(n, sizeof(*seen));
	if (!seen)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		pfn = ksm_pfn(0, p + i * ksm_psize());
		for (j = 0; j < nr && seen[j] != pfn; j++)
			;
		if (j == nr)
			seen[nr++] = pfn;
		if (j >= keep)
			ksm_advise(p + i * ksm_psize(), 1, MADV_DONTNEED);
	}
	free(seen);
	return (int)(nr - keep);
}

/* Half of the dups go: the others stay, each with its own twins. */
TEST_F_TIMEOUT(prune, down_to_half, 60)
{
	struct spread s;
	char *p, *q;

	p = ksm_map_filled(40, SEED, 0);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(20, ksm_get("stable_node_dups"));

	ASSERT_EQ(10, discard_frames(p, 40, 10));
	ASSERT_EQ(0, get_spread(p, 40, &s));
	ASSERT_EQ(20, s.present);
	ASSERT_EQ(10, s.frames);
	q = ksm_map_filled(2, SEED, 0);
	ASSERT_NE(NULL, q);
	ASSERT_EQ(0, ksm_start());
	EXPECT_TRUE(ksm_wait_for(ksm_get("stable_node_dups") == 11,
				 KSM_WAIT_SECS));
	ASSERT_EQ(0, ksm_stop());
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(1, ksm_get("stable_node_chains"));
	EXPECT_EQ(11, ksm_get("stable_node_dups"));
	EXPECT_EQ(11, ksm_get("pages_shared"));
	EXPECT_EQ(11, ksm_get("pages_sharing"));
	EXPECT_TRUE(ksm_same_frame(q, q + ksm_psize()));
	EXPECT_EQ(0, ksm_count_bad(q, 2, SEED, 0));
	ASSERT_EQ(0, get_spread(p, 40, &s));
	EXPECT_EQ(20, s.present);
	EXPECT_EQ(10, s.frames);
	ksm_unmap(p, 40);
	ksm_unmap(q, 2);
}

/*
 * Rule C: without run=2 and without a new twin the books are at zero a pass
 * or so after the last mapping has gone.
 */
TEST_F_TIMEOUT(prune, nothing_left_after_unmap, 60)
{
	char *p, *other;

	other = ksm_map_filled(4, SEED + 50, 1);
	p = ksm_map_filled(40, SEED, 0);
	ASSERT_NE(NULL, other);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(1, ksm_get("stable_node_chains"));
	ASSERT_EQ(20, ksm_get("stable_node_dups"));
	ksm_unmap(p, 40);
	ASSERT_EQ(0, ksm_start());
	EXPECT_TRUE(ksm_wait_for(!ksm_get("pages_shared"), KSM_WAIT_SECS));
	EXPECT_TRUE(ksm_wait_for(!ksm_get("stable_node_chains"), 5));
	ASSERT_EQ(0, ksm_stop());
	EXPECT_EQ(0, ksm_get("stable_node_chains"));
	EXPECT_EQ(0, ksm_get("stable_node_dups"));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_get("pages_sharing"));
	EXPECT_EQ(4, ksm_get("pages_unshared"));
	ksm_unmap(other, 4);
}

/* B69: neither setting may change while a page is merged. */
TEST_F_TIMEOUT(chain, settings_busy_while_merged, 60)
{
	char *p;

	p = ksm_map_filled(6, SEED, 0);
	ASSERT_NE(NULL, p);

	/* Registered memory, and even a running ksmd, is no obstacle. */
	ASSERT_EQ(0, ksm_set("max_page_sharing", 2));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(3, ksm_get("pages_shared"));

	EXPECT_EQ(-EBUSY, ksm_put_text("max_page_sharing", "3"));
	EXPECT_EQ(2, ksm_get("max_page_sharing"));
	EXPECT_EQ(0, ksm_put_text("max_page_sharing", "2"));
	/* A bad value is refused as such, busy or not. */
	EXPECT_EQ(-EINVAL, ksm_put_text("max_page_sharing", "1"));
	if (ksm_has("merge_across_nodes")) {
		EXPECT_EQ(-EBUSY, ksm_put_text("merge_across_nodes", "0"));
		EXPECT_EQ(1, ksm_get("merge_across_nodes"));
		EXPECT_EQ(0, ksm_put_text("merge_across_nodes", "1"));
	}
	ASSERT_EQ(0, ksm_start());
	EXPECT_EQ(-EBUSY, ksm_put_text("max_page_sharing", "3"));

	ASSERT_EQ(0, ksm_unshare_all());
	EXPECT_EQ(0, ksm_put_patiently("max_page_sharing", 3));
	EXPECT_EQ(3, ksm_get("max_page_sharing"));
	if (ksm_has("merge_across_nodes")) {
		EXPECT_EQ(0, ksm_put_patiently("merge_across_nodes", 0));
		EXPECT_EQ(0, ksm_get("merge_across_nodes"));
		EXPECT_EQ(0, ksm_put_patiently("merge_across_nodes", 1));
	}

	/* The new limit is in force. */
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(2, ksm_get("pages_shared"));
	EXPECT_EQ(4, ksm_get("pages_sharing"));
	EXPECT_EQ(2, ksm_get("stable_node_dups"));
	ksm_unmap(p, 6);
}

static int forked(struct ksm_child *c)
{
	int order;

	ksm_say(c, 0);
	if (ksm_hear(c, &order))
		return 1;
	return ksm_count_bad(c->arg, 4, SEED, 0) ? 2 : 0;
}

/*
 * A fork maps the pages it finds, whatever the limit: nothing is copied for
 * it, and every mapping is counted.
 */
TEST_F_TIMEOUT(chain, fork_goes_over_the_limit, 60)
{
	struct ksm_child c = { 0 };
	char *p;
	int val;

	ASSERT_EQ(0, ksm_set("max_page_sharing", 2));
	p = ksm_map_filled(4, SEED, 0);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(2, ksm_get("pages_shared"));
	ASSERT_EQ(0, ksm_spawn(&c, forked, p));
	ASSERT_EQ(0, ksm_hear(&c, &val));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(ksm_pfn(0, p), ksm_pfn(c.pid, p));
	EXPECT_EQ(2, ksm_get("pages_shared"));
	EXPECT_EQ(6, ksm_get("pages_sharing"));
	EXPECT_EQ(4, ksm_merging(c.pid));
	EXPECT_EQ(2, ksm_get("stable_node_dups"));
	EXPECT_EQ(0, ksm_say(&c, 0));
	EXPECT_EQ(0, ksm_reap(&c));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(2, ksm_get("pages_sharing"));
	EXPECT_EQ(0, ksm_count_bad(p, 4, SEED, 0));
	ksm_unmap(p, 4);
}

/* Maps, verifies, writes and unmaps twins of two contents until told. */
static int churner(struct ksm_child *c)
{
	struct pollfd pfd = { .fd = c->in, .events = POLLIN };
	size_t sz = ksm_psize(), n = 24, i, round;
	char *p;

	if (ksm_say(c, 0))
		return 1;
	for (round = 0; poll(&pfd, 1, 0) <= 0; round++) {
		p = ksm_map_filled(n, SEED + round % 2, 0);
		if (!p)
			return 2;
		ksm_nap_us(12000);
		if (ksm_count_bad(p, n, SEED + round % 2, 0))
			return 3;
		for (i = round % 3; i < n; i += 3)
			ksm_fill(p + i * sz, SEED + 1 - round % 2);
		munmap(p, round % n * sz + sz);
		ksm_nap_us(6000);
		for (i = round % n + 1; i < n; i++)
			if (!ksm_is(p + i * sz, i % 3 == round % 3 ?
				    SEED + 1 - round % 2 : SEED + round % 2))
				return 4;
		ksm_unmap(p, n);
	}
	return 0;
}

/*
 * B24: dups come and go under the eyes of a ksmd that prunes all the
 * time.  No byte is lost, and at the end nothing is left.
 */
TEST_F_TIMEOUT(chain, churn, 60)
{
	struct ksm_child c[3] = { 0 };
	long long chains = 0, dups = 0, now;
	char *p[2];
	double end;
	int i, val;

	ASSERT_EQ(0, ksm_set("max_page_sharing", 2));
	ASSERT_EQ(0, ksm_set("stable_node_chains_prune_millisecs", 0));
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	ASSERT_EQ(0, ksm_start());
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, ksm_spawn(&c[i], churner, NULL));
		ASSERT_EQ(0, ksm_hear(&c[i], &val));
	}
	end = ksm_now() + 5;
	while (ksm_now() < end) {
		now = ksm_get("stable_node_chains");
		chains = now > chains ? now : chains;
		now = ksm_get("stable_node_dups");
		dups = now > dups ? now : dups;
		ksm_nap_us(3000);
	}
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0, ksm_say(&c[i], 0));
		EXPECT_EQ(0, ksm_reap(&c[i]));
	}
	EXPECT_GE(chains, 1);
	EXPECT_GE(dups, 2);

	/* All of that has left no trace that two quiet areas could notice. */
	for (i = 0; i < 2; i++) {
		p[i] = ksm_map_filled(12, SEED + (uint64_t)i, 0);
		ASSERT_NE(NULL, p[i]);
	}
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(2, ksm_get("stable_node_chains"));
	EXPECT_EQ(12, ksm_get("stable_node_dups"));
	EXPECT_EQ(12, ksm_get("pages_shared"));
	EXPECT_EQ(12, ksm_get("pages_sharing"));
	for (i = 0; i < 2; i++)
		ksm_unmap(p[i], 12);
	EXPECT_EQ(0, ksm_unshare_all());
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_get("stable_node_chains"));
	EXPECT_EQ(0, ksm_get("stable_node_dups"));
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	return test_harness_run(argc, argv);
}
