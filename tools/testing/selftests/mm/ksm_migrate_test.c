// SPDX-License-Identifier: GPL-2.0
/*
 * KSM: merged pages migrate.
 *
 * A merged page may move to another frame, of the same node or of another
 * one: its bytes stay, all its mappers follow, and it stays merged.  With
 * merge_across_nodes=0 each node has its own copy of a content, and pages that
 * moved must find their place in the tree of their new node.
 */
#include "../kselftest_harness.h"
#include "ksm_util.h"
#include "ksm_env.h"

#define NR_PAGES	20
#define OWNER		21

FIXTURE(ksm_migrate) {
	struct ksm_puppet p[4];
	int node[2];
};

FIXTURE_SETUP(ksm_migrate)
{
	const char *why = ksm_env_missing(0);

	if (why)
		SKIP(return, "%s", why);
	if (ksm_nodes(self->node, 2) < 2)
		SKIP(return, "needs two nodes with memory");
	ASSERT_EQ(0, ksm_baseline());
}

FIXTURE_TEARDOWN(ksm_migrate)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(self->p); i++)
		ksm_puppet_kill(&self->p[i]);
	ksm_finish(__test_passed(_metadata));
}

/*
 * Start a puppet whose pages lie on a node, and stay there when they are
 * copied, unless the policy says otherwise later.
 */
static int act_map_on(struct ksm_act *a)
{
	int ret;

	a->area = ksm_map(a->n);
	if (!a->area)
		return -ENOMEM;
	ret = ksm_bind(a->area, a->n, KSM_MPOL_BIND, (int)a->arg[0]);
	if (ret)
		return ret;
	ksm_act_fill(a);
	/* The area must not forbid to move its pages away. */
	ret = ksm_bind(a->area, a->n, KSM_MPOL_DEFAULT, 0);
	return ret ? ret : ksm_mergeable(a->area, a->n);
}

/* @n pages on @node, contents from index @first on. */
static int start_on(struct ksm_puppet *p, const char *cg, int node, size_t n,
		    unsigned int first)
{
	size_t i;
	int ret;

	ret = ksm_puppet_start(p, cg);
	if (ret)
		return ret;
	p->act->n = n;
	for (i = 0; i < n; i++)
		p->act->model[i] = ksm_stamp(OWNER, first + i, 1);
	return ksm_do1(p, act_map_on, node);
}

/* How many pages of the puppet are on a node? */
static int nr_on(struct ksm_puppet *p, int node)
{
	int nr = 0;
	size_t i;

	for (i = 0; i < p->act->n; i++)
		nr += ksm_node_of(p->c.pid,
				  p->act->area + i * ksm_psize()) == node;
	return nr;
}

/* B44, B45, B65: back and forth, with data and sharing looked at. */
TEST_F_TIMEOUT(ksm_migrate, back_and_forth, 90)
{
	struct ksm_puppet *p = self->p;
	double end = ksm_now() + 10;
	int i, round;

	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, start_on(&p[i], NULL, self->node[0], NR_PAGES,
				      0));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_get("pages_shared"));
	ASSERT_EQ(2 * NR_PAGES, ksm_get("pages_sharing"));

	for (round = 0; round < 600 && ksm_now() < end; round++) {
		int to = self->node[!(round & 1)];

		ASSERT_EQ(0, ksm_move_all(&p[round % 3], to));
		if (round % 20)
			continue;
		for (i = 0; i < 3; i++) {
			ASSERT_EQ(NR_PAGES, nr_on(&p[i], to));
			ASSERT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[i]));
			ASSERT_EQ(NR_PAGES, ksm_nr_ksm(&p[i]));
			ASSERT_EQ(0, ksm_do(&p[i], ksm_act_check));
		}
	}
	TH_LOG("%d rounds", round);
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, ksm_do(&p[i], ksm_act_check));
	EXPECT_EQ(NR_PAGES, ksm_get("pages_shared"));
	EXPECT_EQ(2 * NR_PAGES, ksm_get("pages_sharing"));

	/* The nodes know where their pages are: a new twin finds them. */
	ASSERT_EQ(0, start_on(&p[3], NULL, self->node[1], NR_PAGES, 0));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[3]));
	EXPECT_EQ(NR_PAGES, ksm_get("pages_shared"));
	EXPECT_EQ(3 * NR_PAGES, ksm_get("pages_sharing"));
}

/*
 * For arg[0] seconds write new versions, the same in all puppets, to every
 * fourth page, and verify.
 */
static int act_rewrite_storm(struct ksm_act *a)
{
	double end = ksm_now() + (double)a->arg[0];
	unsigned int version = 1, bad = 0;
	size_t i;

	while (!bad && ksm_now() < end) {
		version++;
		for (i = 0; i < a->n; i += 4) {
			a->model[i] = ksm_stamp(OWNER, i, version % 4);
			ksm_fill(a->area + i * ksm_psize(), a->model[i]);
		}
		bad = ksm_act_check(a);
		ksm_nap_us(20000);
	}
	return (int)bad;
}

/*
 * B65: migration and compaction beside ksmd at full rate and beside writers,
 * with trees for all nodes together and one for each.
 */
static void storm(struct __test_metadata *_metadata, struct ksm_puppet *p,
		  const int *node)
{
	double end, from = ksm_now();
	int i, round = 0;

	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, start_on(&p[i], NULL, node[i & 1], NR_PAGES, 0));
	ASSERT_EQ(0, ksm_start());
	for (i = 0; i < 3; i++) {
		p[i].act->arg[0] = 6;
		ASSERT_EQ(0, ksm_do_begin(&p[i], act_rewrite_storm));
	}
	for (end = ksm_now() + 6; ksm_now() < end; round++) {
		ksm_move(p[round % 3].c.pid, p[round % 3].act->area, NR_PAGES,
			 node[round & 1]);
		if (!(round % 4))
			ksm_put("/proc/sys/vm/compact_memory", "1");
	}
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, ksm_do_end(&p[i]));
	TH_LOG("%d rounds, after %.1f s", round, ksm_now() - from);
	ASSERT_EQ(0, ksm_stop());
	TH_LOG("stopped after %.1f s", ksm_now() - from);
	/*
	 * All end on one node, so all merge: nothing was lost on the way.
	 * Smart scan might pass over pages that were rewritten that often.
	 */
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	for (i = 0; i < 3; i++) {
		int j;

		for (j = 0; j < NR_PAGES; j++)
			p[i].act->model[j] = ksm_stamp(OWNER, j, 9);
		ASSERT_EQ(0, ksm_do(&p[i], ksm_act_fill));
		ASSERT_EQ(0, ksm_move_all(&p[i], node[0]));
		TH_LOG("%d on one node after %.1f s", i, ksm_now() - from);
	}
	ASSERT_EQ(0, ksm_scan_settle());
	TH_LOG("merged after %.1f s", ksm_now() - from);
	for (i = 1; i < 3; i++)
		EXPECT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[i]));
	EXPECT_EQ(NR_PAGES, ksm_get("pages_shared"));
	EXPECT_EQ(2 * NR_PAGES, ksm_get("pages_sharing"));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, ksm_do(&p[i], ksm_act_check));
}

/* B65, trees for all nodes together. */
TEST_F_TIMEOUT(ksm_migrate, storm_across_nodes, 120)
{
	storm(_metadata, self->p, self->node);
}

/* B65, one tree for each node. */
TEST_F_TIMEOUT(ksm_migrate, storm_per_node, 120)
{
	ASSERT_EQ(0, ksm_set("merge_across_nodes", 0));
	storm(_metadata, self->p, self->node);
}

/* Frames of all pages of the puppet, in order. */
static void frames_of(struct ksm_puppet *p, uint64_t *pfn)
{
	size_t i;

	for (i = 0; i < p->act->n; i++)
		pfn[i] = PM_PFN(ksm_page_entry(p, i));
}

/*
 * Fill the far end of a node, where pages are taken from and where compaction
 * likes to move them to.
 */
static char *take_ballast(int node, size_t size)
{
	size_t at;
	char *p;

	p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	madvise(p, size, MADV_HUGEPAGE);	/* only to be quick */
	if (ksm_bind(p, size / ksm_psize(), KSM_MPOL_BIND, node)) {
		munmap(p, size);
		return NULL;
	}
	for (at = 0; at < size; at += ksm_psize())
		p[at] = 1;
	return p;
}

/*
 * Have the puppet's pages allocated behind some ballast, drop that, compact;
 * how many pages were moved by that, or -errno.
 */
static int compact_once(struct ksm_puppet *p, int node, size_t size)
{
	uint64_t before[NR_PAGES], now[NR_PAGES];
	int i, ret, moved = 0;
	char *ballast;

	ballast = take_ballast(node, size);
	if (!ballast)
		return -ENOMEM;
	ret = ksm_move_all(p, node);
	munmap(ballast, size);
	frames_of(p, before);
	for (i = 0; !ret && i < 3; i++)
		ret = ksm_put("/proc/sys/vm/compact_memory", "1");
	if (ret)
		return ret;
	frames_of(p, now);
	for (i = 0; i < NR_PAGES; i++)
		moved += now[i] != before[i];
	return moved;
}

/* Compaction moves merged pages, but never their bytes, nor one mapper only. */
TEST_F_TIMEOUT(ksm_migrate, compaction, 60)
{
	struct ksm_puppet *p = self->p;
	double end = ksm_now() + 12;
	int i, round, ret, moved = 0;

	if (access("/proc/sys/vm/compact_memory", W_OK))
		SKIP(return, "no compaction");
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, start_on(&p[i], NULL, self->node[1], NR_PAGES,
				      0));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_get("pages_shared"));
	for (round = 0; moved < NR_PAGES / 2 && ksm_now() < end; round++) {
		ret = compact_once(&p[round % 3], self->node[round & 1],
				   (32UL << 20) << round / 2 % 3);
		ASSERT_GE(ret, 0);
		moved += ret;
		for (i = 0; i < 3; i++) {
			ASSERT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[i]));
			ASSERT_EQ(0, ksm_do(&p[i], ksm_act_check));
		}
	}
	EXPECT_EQ(NR_PAGES, ksm_get("pages_shared"));
	EXPECT_EQ(2 * NR_PAGES, ksm_get("pages_sharing"));
	TH_LOG("%d times a merged page was moved in %d rounds", moved, round);
	if (!moved)
		SKIP(return, "compaction found no merged page to move");
}

/*
 * B69: with merge_across_nodes=0 each node has one frame of each content, on
 * that node; the setting cannot change while pages are shared; with 1 there
 * is one frame for all.
 */
TEST_F_TIMEOUT(ksm_migrate, exact_per_node, 60)
{
	struct ksm_puppet *p = self->p;
	int i;

	ASSERT_EQ(0, ksm_set("merge_across_nodes", 0));
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, start_on(&p[i], NULL, self->node[i / 2], NR_PAGES,
				      0));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(2 * NR_PAGES, ksm_get("pages_shared"));
	EXPECT_EQ(2 * NR_PAGES, ksm_get("pages_sharing"));
	EXPECT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[1]));
	EXPECT_EQ(NR_PAGES, ksm_nr_common(&p[2], &p[3]));
	EXPECT_EQ(0, ksm_nr_common(&p[0], &p[2]));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(NR_PAGES, nr_on(&p[i], self->node[i / 2]));

	EXPECT_EQ(-EBUSY, ksm_set("merge_across_nodes", 1));
	ASSERT_EQ(0, ksm_unshare_all());
	ASSERT_EQ(0, ksm_set("merge_across_nodes", 1));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_PAGES, ksm_get("pages_shared"));
	EXPECT_EQ(3 * NR_PAGES, ksm_get("pages_sharing"));
	EXPECT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[3]));
	EXPECT_EQ(-EBUSY, ksm_set("merge_across_nodes", 0));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(0, ksm_do(&p[i], ksm_act_check));
}

/* All pages of both puppets are in swap after a while? */
static bool both_out(struct ksm_puppet *p, struct ksm_puppet *q)
{
	return ksm_nr_swapped(p) == (long)p->act->n &&
		ksm_nr_swapped(q) == (long)q->act->n;
}

/*
 * B31: a merged page that moves to a node without a twin is accepted there:
 * shared as before, counted as before, swappable.
 */
TEST_F_TIMEOUT(ksm_migrate, accepted_on_the_new_node, 60)
{
	struct ksm_puppet *p = self->p;
	int i;

	ASSERT_EQ(0, ksm_set("merge_across_nodes", 0));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, start_on(&p[i],
				      ksm_env()->no_cg ? NULL : ksm_env()->cg,
				      self->node[0], NR_PAGES, 0));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_get("pages_shared"));
	ASSERT_EQ(0, ksm_move_all(&p[0], self->node[1]));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_PAGES, ksm_get("pages_shared"));
	EXPECT_EQ(NR_PAGES, ksm_get("pages_sharing"));
	EXPECT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[1]));
	EXPECT_EQ(NR_PAGES, ksm_nr_ksm(&p[0]));
	EXPECT_EQ(NR_PAGES, ksm_nr_ksm(&p[1]));

	/* A later twin on the new node joins, one on the old node does not. */
	ASSERT_EQ(0, start_on(&p[2], NULL, self->node[1], NR_PAGES, 0));
	ASSERT_EQ(0, start_on(&p[3], NULL, self->node[0], NR_PAGES, 0));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[2]));
	EXPECT_EQ(0, ksm_nr_common(&p[0], &p[3]));
	ASSERT_EQ(0, ksm_puppet_end(&p[2]));
	if (!ksm_env()->no_cg && !ksm_env()->no_swap)
		EXPECT_TRUE(ksm_reclaim_until(both_out(&p[0], &p[1])));
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, ksm_do(&p[i], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[3], ksm_act_check));
}

/*
 * B26: the same content is merged on both nodes; the pages of the first node
 * move to the second.  Whatever KSM makes of the two, all mappers must be
 * reachable: for migration, for swap.  B23: and the same with chains.
 */
static void two_of_a_kind(struct __test_metadata *_metadata,
			  struct ksm_puppet *p, const int *node)
{
	int i;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, start_on(&p[i],
				      ksm_env()->no_cg ? NULL : ksm_env()->cg,
				      node[i / 2], NR_PAGES, 0));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[1]));
	ASSERT_EQ(NR_PAGES, ksm_nr_common(&p[2], &p[3]));
	ASSERT_EQ(0, ksm_move_all(&p[0], node[1]));
	ASSERT_EQ(0, ksm_scan_settle());
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(NR_PAGES, nr_on(&p[i], node[1]));
		EXPECT_EQ(0, ksm_do(&p[i], ksm_act_check));
		EXPECT_EQ(NR_PAGES, ksm_nr_ksm(&p[i]));
	}
	/* Every mapping is a merged one, and counted once. */
	EXPECT_EQ(4 * NR_PAGES, ksm_get("pages_shared") +
		  ksm_get("pages_sharing"));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(0, ksm_move_all(&p[i], node[0]));
	if (!ksm_env()->no_cg && !ksm_env()->no_swap)
		EXPECT_TRUE(ksm_reclaim_until(both_out(&p[0], &p[1]) &&
					      both_out(&p[2], &p[3]))) {
			TH_LOG("%ld %ld %ld %ld of %d pages in swap",
			       ksm_nr_swapped(&p[0]), ksm_nr_swapped(&p[1]),
			       ksm_nr_swapped(&p[2]), ksm_nr_swapped(&p[3]),
			       NR_PAGES);
		}
	for (i = 0; i < 4; i++)
		EXPECT_EQ(0, ksm_do(&p[i], ksm_act_check));
}

/* B26. */
TEST_F_TIMEOUT(ksm_migrate, two_of_a_kind_meet, 90)
{
	ASSERT_EQ(0, ksm_set("merge_across_nodes", 0));
	two_of_a_kind(_metadata, self->p, self->node);
}

/* B23, B26. */
TEST_F_TIMEOUT(ksm_migrate, two_of_a_kind_meet_in_chains, 90)
{
	ASSERT_EQ(0, ksm_set("merge_across_nodes", 0));
	ASSERT_EQ(0, ksm_set("max_page_sharing", 2));
	ASSERT_EQ(0, ksm_set("stable_node_chains_prune_millisecs", 0));
	two_of_a_kind(_metadata, self->p, self->node);
}

static int act_unmap_all_but(struct ksm_act *a)
{
	ksm_unmap(a->area, a->n - (size_t)a->arg[0]);
	return 0;
}

/*
 * B23: chains on one node; all duplicates but one lose their mappers; that
 * one moves to the other node; then a twin comes.
 */
TEST_F_TIMEOUT(ksm_migrate, last_of_a_chain_moves, 60)
{
	const int nr = 100;
	struct ksm_puppet *p = self->p;
	char *last;
	int i;

	ASSERT_EQ(0, ksm_set("merge_across_nodes", 0));
	ASSERT_EQ(0, ksm_set("max_page_sharing", 2));
	ASSERT_EQ(0, ksm_set("stable_node_chains_prune_millisecs", 0));
	ASSERT_EQ(0, ksm_puppet_start(p, NULL));
	p->act->n = nr;
	for (i = 0; i < nr; i++)
		p->act->model[i] = ksm_stamp(OWNER, 0, 1);
	ASSERT_EQ(0, ksm_do1(p, act_map_on, self->node[0]));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(1, ksm_get("stable_node_chains"));
	ASSERT_EQ(nr / 2, ksm_get("stable_node_dups"));

	/* Which two of them share the last frame is up to KSM: keep 2. */
	ASSERT_EQ(0, ksm_do1(p, act_unmap_all_but, 2));
	last = p->act->area + (nr - 2) * ksm_psize();
	ASSERT_TRUE(ksm_wait_for(ksm_move(p->c.pid, last, 2,
					  self->node[1]) == 2, 10));
	ASSERT_EQ(0, start_on(&p[1], NULL, self->node[1], 1, 0));
	ASSERT_EQ(0, start_on(&p[2], NULL, self->node[0], 1, 0));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(0, ksm_do(&p[1], ksm_act_check));
	ASSERT_EQ(0, ksm_do(&p[2], ksm_act_check));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, ksm_puppet_end(&p[i]));
	ASSERT_EQ(0, ksm_start());
	EXPECT_TRUE(ksm_wait_for(ksm_all_zero(), KSM_WAIT_SECS));
}

/*
 * B32: candidates of the unstable tree change their node between passes;
 * that must not keep others from merging within the next two.
 */
TEST_F_TIMEOUT(ksm_migrate, candidates_that_move, 60)
{
	struct ksm_puppet *p = self->p;
	int round;

	ASSERT_EQ(0, ksm_set("merge_across_nodes", 0));
	/* Unique pages, on either side of the twins in any order. */
	ASSERT_EQ(0, start_on(&p[0], NULL, self->node[0], 2 * NR_PAGES, 100));
	for (round = 0; round < 6; round++) {
		unsigned int first = 1000 + round * NR_PAGES;

		ASSERT_EQ(0, start_on(&p[1], NULL, self->node[0], NR_PAGES,
				      first));
		ASSERT_EQ(0, ksm_scan(2));
		ASSERT_EQ(0, ksm_move_all(&p[0], self->node[!(round & 1)]));
		ASSERT_EQ(0, start_on(&p[2], NULL, self->node[0], NR_PAGES,
				      first));
		/* The rest of a pass and two whole ones. */
		ASSERT_EQ(0, ksm_scan(3));
		EXPECT_EQ(NR_PAGES, ksm_nr_common(&p[1], &p[2]));
		EXPECT_EQ(0, ksm_do(&p[0], ksm_act_check));
		ASSERT_EQ(0, ksm_puppet_end(&p[1]));
		ASSERT_EQ(0, ksm_puppet_end(&p[2]));
	}
}

#define MANY_AREAS	20000

/*
 * Map the pages, and behind them so much that act_cut_up() can make MANY_AREAS
 * areas of it, all of one anon_vma.
 */
static int act_map_and_more(struct ksm_act *a)
{
	size_t len = (a->n + MANY_AREAS) * ksm_psize();

	a->area = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (a->area == MAP_FAILED)
		return -errno;
	ksm_advise(a->area, a->n + MANY_AREAS, MADV_NOHUGEPAGE);
	/* The area gets its anon_vma now, and its parts will share that. */
	ksm_act_fill(a);
	return ksm_mergeable(a->area, a->n);
}

static int act_cut_up(struct ksm_act *a)
{
	size_t psize = ksm_psize(), i;

	for (i = 0; i < MANY_AREAS; i += 2)
		if (mprotect(a->area + (a->n + i) * psize, psize, PROT_READ))
			return -errno;
	return 0;
}

/* The shortest of some times that it takes to move all pages of the puppet. */
static double time_to_move(struct ksm_puppet *p, const int *node)
{
	double best = 1000, from;
	int round;

	for (round = 0; round < 6; round++) {
		from = ksm_now();
		if (ksm_move_all(p, node[!(round & 1)]))
			return 1000;
		from = ksm_now() - from;
		best = from < best ? from : best;
	}
	return best;
}

/*
 * B49: an anon_vma with 20,000 areas, of which one maps the merged pages.  The
 * reverse walk goes to that one, and does not ask all of them; else it takes
 * a hundred times as long.
 */
TEST_F_TIMEOUT(ksm_migrate, one_of_many_areas, 90)
{
	enum { NR_MOVED = 128 };
	struct ksm_puppet *p = self->p;
	double one, many;
	size_t i;

	ASSERT_EQ(0, start_on(&p[0], NULL, self->node[0], NR_MOVED, 0));
	ASSERT_EQ(0, ksm_puppet_start(&p[1], NULL));
	p[1].act->n = NR_MOVED;
	for (i = 0; i < NR_MOVED; i++)
		p[1].act->model[i] = ksm_stamp(OWNER, i, 1);
	ASSERT_EQ(0, ksm_do(&p[1], act_map_and_more));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_MOVED, ksm_nr_common(&p[0], &p[1]));
	one = time_to_move(&p[0], self->node);
	ASSERT_EQ(0, ksm_do(&p[1], act_cut_up));
	many = time_to_move(&p[0], self->node);
	TH_LOG("%d pages moved in %.1f ms, with %d areas in %.1f ms", NR_MOVED,
	       one * 1000, MANY_AREAS, many * 1000);
	EXPECT_LT(many, 8 * one + 0.02);
	EXPECT_EQ(NR_MOVED, ksm_nr_common(&p[0], &p[1]));
	EXPECT_EQ(0, ksm_do(&p[0], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[1], ksm_act_check));
}

#define HUGE_SIZE	(2UL << 20)

/*
 * Three huge places side by side.  The one in the middle is unmapped and mapped
 * anew, again and again, and becomes part of the area around it, with its
 * anon_vma, before a fault brings in a huge page.  Its first pages are twins
 * of everybody's, so ksmd splits it to merge them: reverse walks that they are
 * found by come here while the next huge page is put in place.
 */
static int act_huge_faults(struct ksm_act *a)
{
	double end = ksm_now() + (double)a->arg[0];
	char *p, *mid;
	size_t i;

	p = mmap(NULL, 4 * HUGE_SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	mid = (char *)(((unsigned long)p + 2 * HUGE_SIZE - 1) & -HUGE_SIZE);
	if (madvise(p, 4 * HUGE_SIZE, MADV_HUGEPAGE) ||
	    madvise(p, 4 * HUGE_SIZE, MADV_MERGEABLE))
		return -errno;
	mid[-1] = 1;
	mid[HUGE_SIZE] = 1;
	a->area = mid;
	for (a->arg[2] = 0; ksm_now() < end; a->arg[2]++) {
		munmap(mid, HUGE_SIZE);
		if (mmap(mid, HUGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
			 0) != mid)
			return -errno;
		madvise(mid, HUGE_SIZE, MADV_HUGEPAGE);
		if (madvise(mid, HUGE_SIZE, MADV_MERGEABLE))
			return -errno;
		ksm_act_fill(a);
		a->arg[3] += ksm_smaps_kb(0, mid, "AnonHugePages") > 0;
		ksm_nap_us(a->arg[2] % 8 * 5000);
		for (i = 0; i < a->n; i++)
			if (!ksm_is(mid + i * ksm_psize(), a->model[i]))
				return 1;
	}
	return 0;
}

/*
 * B46: merged pages migrate while faults put huge pages where they are looked
 * for: neither loses its bytes, or finds half of the other.
 */
TEST_F_TIMEOUT(ksm_migrate, beside_huge_faults, 60)
{
	struct ksm_puppet *p = self->p;
	int i, round;
	double end;
	size_t j;

	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, start_on(&p[i], NULL, self->node[0], NR_PAGES, 0));
	ASSERT_EQ(0, ksm_puppet_start(&p[2], NULL));
	p[2].act->n = NR_PAGES;
	for (j = 0; j < NR_PAGES; j++)
		p[2].act->model[j] = ksm_stamp(OWNER, j, 1);
	ASSERT_EQ(0, ksm_start());
	p[2].act->arg[0] = 5;
	ASSERT_EQ(0, ksm_do_begin(&p[2], act_huge_faults));
	for (round = 0, end = ksm_now() + 5; ksm_now() < end; round++)
		ksm_move(p[0].c.pid, p[0].act->area, NR_PAGES,
			 self->node[!(round & 1)]);
	EXPECT_EQ(0, ksm_do_end(&p[2]));
	TH_LOG("%ld huge faults of %ld, %d moves", p[2].act->arg[3],
	       p[2].act->arg[2], round);
	if (!p[2].act->arg[3])
		SKIP(return, "no huge page to be had");
	EXPECT_TRUE(ksm_wait_for(ksm_nr_common(&p[0], &p[2]) == NR_PAGES,
				 KSM_WAIT_SECS));
	ASSERT_EQ(0, ksm_stop());
	EXPECT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[1]));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, ksm_do(&p[i], ksm_act_check));
}

static int act_soft_offline(struct ksm_act *a)
{
	return ksm_advise(a->area + (size_t)a->arg[0] * ksm_psize(), 1,
			  MADV_SOFT_OFFLINE);
}

/*
 * B45: soft offlining moves a merged page out of its frame; nobody notices.
 * The frame is given back afterwards where the kernel offers that.
 */
TEST_F_TIMEOUT(ksm_migrate, soft_offline, 60)
{
	const char *back = "/sys/kernel/debug/hwpoison/unpoison-pfn";
	struct ksm_puppet *p = self->p;
	uint64_t old;
	int i, ret;

	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, start_on(&p[i], NULL, self->node[0], NR_PAGES,
				      0));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_get("pages_shared"));
	for (i = 0; i < 3; i++) {
		old = PM_PFN(ksm_page_entry(p, i));
		ret = ksm_do1(&p[i], act_soft_offline, i);
		if (ret == -EINVAL || ret == -EOPNOTSUPP)
			SKIP(return, "no MADV_SOFT_OFFLINE");
		ASSERT_EQ(0, ret);
		EXPECT_NE(old, PM_PFN(ksm_page_entry(p, i)));
		EXPECT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[1]));
		EXPECT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[2]));
		EXPECT_EQ(NR_PAGES, ksm_nr_ksm(&p[i]));
		if (!access(back, W_OK))
			EXPECT_EQ(0, ksm_put_num(back, (long long)old));
	}
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, ksm_do(&p[i], ksm_act_check));
	EXPECT_EQ(NR_PAGES, ksm_get("pages_shared"));
	EXPECT_EQ(2 * NR_PAGES, ksm_get("pages_sharing"));
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(KSM_WITH_SWAP | KSM_WITH_CGROUP);
	return test_harness_run(argc, argv);
}
