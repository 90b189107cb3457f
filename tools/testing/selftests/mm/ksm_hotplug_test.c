// SPDX-License-Identifier: GPL-2.0
/*
 * KSM: memory with merged pages in it is taken offline.
 *
 * The pages must move out of the block with their bytes and their sharing,
 * ksmd must not touch the memory once it is gone, and when the removal fails
 * or is called off everything goes on as before.  The tests use blocks of
 * movable memory only, and bring every block back online.
 */
#include "../kselftest_harness.h"
#include <stdatomic.h>
#include "ksm_util.h"
#include "ksm_env.h"
#include "ksm_block.h"

#define NR_PAGES	64
#define OWNER		31
#define NOTIFY_ERROR	"/sys/kernel/debug/notifier-error-inject/memory/actions/MEM_GOING_OFFLINE/error"
#define MAX_BLOCKS	8

/* Blocks of movable memory that can go offline and back. */
static int blocks[MAX_BLOCKS];
static int nr_blocks;

FIXTURE(ksm_hotplug) {
	struct ksm_puppet p[3];
	int block;		/* that holds merged pages */
	int node;
	uint64_t block_pages;
};

static int block_node(int block)
{
	char path[128];
	int node;

	for (node = 0; node < KSM_MAX_NODES; node++) {
		snprintf(path, sizeof(path), KSM_BLOCK_DIR "memory%d/node%d",
			 block, node);
		if (!access(path, F_OK))
			return node;
	}
	return -ENOENT;
}

/* Bring back whatever is not online; 0 or an error. */
static int blocks_online(void)
{
	return ksm_blocks_online(blocks, nr_blocks);
}

static void blocks_at_exit(void)
{
	if (getpid() == ksm_env()->pid && blocks_online())
		fprintf(stderr, "# a memory block stays offline\n");
}

/* How many pages of the puppet lie in a block? */
static long nr_in(struct ksm_puppet *p, int block, uint64_t block_pages)
{
	uint64_t pfn;
	long nr = 0;
	size_t i;

	for (i = 0; i < p->act->n; i++) {
		pfn = PM_PFN(ksm_page_entry(p, i));
		nr += pfn && pfn / block_pages == (uint64_t)block;
	}
	return nr;
}

static int act_map_on(struct ksm_act *a)
{
	a->area = ksm_map(a->n);
	if (!a->area)
		return -ENOMEM;
	/* Where this does not help, no page will be found in the block. */
	ksm_bind(a->area, a->n, KSM_MPOL_BIND, (int)a->arg[0]);
	ksm_act_fill(a);
	ksm_bind(a->area, a->n, KSM_MPOL_DEFAULT, 0);
	return a->arg[1] ? ksm_mergeable(a->area, a->n) : 0;
}

/* A puppet with @n pages, of which @differ are different */
static int start_some(struct ksm_puppet *p, int node, size_t n, size_t differ,
		      unsigned int version, bool mergeable)
{
	size_t i;
	int ret;

	ret = ksm_puppet_start(p, NULL);
	if (ret)
		return ret;
	p->act->n = n;
	for (i = 0; i < n; i++)
		p->act->model[i] = ksm_stamp(OWNER, i % differ, version);
	return ksm_do2(p, act_map_on, node, mergeable);
}

static int start_on(struct ksm_puppet *p, int node, size_t n,
		    unsigned int version, bool mergeable)
{
	return start_some(p, node, n, n, version, mergeable);
}

/* Which block has most of a puppet's pages? */
static int find_block(struct ksm_puppet *p, uint64_t block_pages)
{
	int i, best = -ENOENT;
	long nr, most = 0;

	for (i = 0; i < nr_blocks; i++) {
		nr = nr_in(p, blocks[i], block_pages);
		if (nr > most) {
			most = nr;
			best = blocks[i];
		}
	}
	return best;
}

/* Two puppets with merged pages; which block has most of them? */
static int merge_and_find(struct ksm_puppet *p, int node, uint64_t block_pages)
{
	int i, ret;

	for (i = 0; i < 2; i++) {
		ret = start_on(&p[i], node, NR_PAGES, 1, true);
		if (ret)
			return ret;
	}
	ret = ksm_scan_settle();
	if (ret)
		return ret;
	if (ksm_nr_common(&p[0], &p[1]) != NR_PAGES)
		return -EBADE;
	return find_block(p, block_pages);
}

FIXTURE_SETUP(ksm_hotplug)
{
	const char *why = ksm_env_missing(0);
	int i, last = -1;

	if (!why && !nr_blocks)
		why = "no block of movable memory that is online";
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, blocks_online());
	ASSERT_EQ(0, ksm_baseline());
	self->block_pages = ksm_block_pages();
	ASSERT_TRUE(!!self->block_pages);
	for (i = 0; i < nr_blocks; i++) {
		self->node = block_node(blocks[i]);
		if (self->node == last)
			continue;
		last = self->node;
		self->block = merge_and_find(self->p, self->node,
					     self->block_pages);
		if (self->block >= 0)
			return;
		ASSERT_EQ(-ENOENT, self->block);
		ksm_puppet_kill(&self->p[0]);
		ksm_puppet_kill(&self->p[1]);
	}
	SKIP(return, "no merged page came to lie in movable memory");
}

FIXTURE_TEARDOWN(ksm_hotplug)
{
	unsigned int i;

	EXPECT_EQ(0, blocks_online());
	for (i = 0; i < ARRAY_SIZE(self->p); i++)
		ksm_puppet_kill(&self->p[i]);
	ksm_finish(__test_passed(_metadata));
}

/* Both puppets have their bytes and one frame for each page. */
static void check_pair(struct __test_metadata *_metadata, struct ksm_puppet *p)
{
	EXPECT_EQ(0, ksm_do(&p[0], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[1], ksm_act_check));
	EXPECT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[1]));
	EXPECT_EQ(NR_PAGES, ksm_nr_ksm(&p[0]));
	EXPECT_EQ(NR_PAGES, ksm_nr_ksm(&p[1]));
}

/* KSM works: passes end, twins merge, run says what was written to it. */
static void check_going_on(struct __test_metadata *_metadata,
			   struct ksm_puppet *p, int node)
{
	EXPECT_EQ(1, ksm_get("run"));
	EXPECT_EQ(0, ksm_wait_passes(2));
	ASSERT_EQ(0, start_on(&p[2], node, NR_PAGES, 1, true));
	EXPECT_TRUE(ksm_wait_for(ksm_nr_common(&p[0], &p[2]) == NR_PAGES,
				 KSM_WAIT_SECS));
	EXPECT_EQ(0, ksm_puppet_end(&p[2]));
	EXPECT_EQ(0, ksm_set("run", 0));
	EXPECT_EQ(0, ksm_set("run", 1));
}

/*
 * B62: the block with the merged pages goes while ksmd runs, and unmerging
 * and merging work while it is gone and when it is back.
 */
TEST_F_TIMEOUT(ksm_hotplug, merged_pages_move_out, 90)
{
	struct ksm_puppet *p = self->p;

	TH_LOG("%ld of %d pages in block %d", nr_in(p, self->block,
						    self->block_pages),
	       NR_PAGES, self->block);
	ASSERT_EQ(0, ksm_start());
	ASSERT_EQ(0, ksm_block_offline(self->block, 20));
	ASSERT_TRUE(ksm_block_is(self->block, "state", "offline"));

	EXPECT_EQ(0, nr_in(&p[0], self->block, self->block_pages));
	EXPECT_EQ(0, nr_in(&p[1], self->block, self->block_pages));
	check_pair(_metadata, p);
	check_going_on(_metadata, p, self->node);

	/* Nothing that is left points into the block. */
	EXPECT_EQ(0, ksm_unshare_all());
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_nr_ksm(&p[0]));
	ASSERT_EQ(0, ksm_start());
	EXPECT_TRUE(ksm_wait_for(ksm_nr_common(&p[0], &p[1]) == NR_PAGES,
				 KSM_WAIT_SECS));
	EXPECT_EQ(0, blocks_online());
	check_pair(_metadata, p);
	check_going_on(_metadata, p, self->node);
	EXPECT_EQ(NR_PAGES, ksm_get("pages_shared"));
}

/*
 * B62: the nodes of pages that were in the block and are gone with their
 * owner must not be left behind.
 */
TEST_F_TIMEOUT(ksm_hotplug, owners_exit_just_before, 90)
{
	struct ksm_puppet *p = self->p;
	int i;

	/* ksmd is stopped: the nodes stay in the tree without their pages. */
	for (i = 0; i < 2; i++)
		ksm_puppet_kill(&p[i]);
	ASSERT_EQ(0, ksm_block_offline(self->block, 20));
	/* Twins of the lost contents walk the tree where those nodes were. */
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, start_on(&p[i], self->node, NR_PAGES, 1, true));
	ASSERT_EQ(0, ksm_scan_settle());
	check_pair(_metadata, p);
	EXPECT_EQ(NR_PAGES, ksm_get("pages_shared"));
	EXPECT_EQ(NR_PAGES, ksm_get("pages_sharing"));
}

static int act_discard(struct ksm_act *a)
{
	return ksm_advise(a->area, a->n, MADV_DONTNEED);
}

/* Of the pages of two puppets in a block: how many, and in how many frames? */
static void count_in(struct ksm_puppet *p, int block, uint64_t block_pages,
		     long *pages, long *frames)
{
	uint64_t seen[2 * NR_PAGES], pfn;
	long i, j;

	*pages = 0;
	*frames = 0;
	for (i = 0; i < 2 * NR_PAGES; i++) {
		pfn = PM_PFN(ksm_page_entry(&p[i / NR_PAGES], i % NR_PAGES));
		if (!pfn || pfn / block_pages != (uint64_t)block)
			continue;
		++*pages;
		for (j = 0; j < *frames && seen[j] != pfn; j++)
			;
		if (j == *frames)
			seen[(*frames)++] = pfn;
	}
}

/*
 * B62: with ksmd stopped, the pages are discarded: their nodes stay, as nobody
 * comes by, but for those whose memory goes.
 */
static void discard_and_offline(struct __test_metadata *_metadata,
				struct ksm_puppet *p, int block,
				uint64_t block_pages)
{
	long pages, frames, shared = ksm_get("pages_shared");
	long sharing = ksm_get("pages_sharing");
	int i;

	count_in(p, block, block_pages, &pages, &frames);
	ASSERT_GT(frames, 0);
	ASSERT_EQ(2 * NR_PAGES, shared + sharing);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, ksm_do(&p[i], act_discard));
	EXPECT_EQ(shared, ksm_get("pages_shared"));
	EXPECT_EQ(sharing, ksm_get("pages_sharing"));
	ASSERT_EQ(0, ksm_block_offline(block, 20));
	EXPECT_EQ(shared - frames, ksm_get("pages_shared"));
	EXPECT_EQ(sharing - (pages - frames), ksm_get("pages_sharing"));
	EXPECT_EQ(0, blocks_online());
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_TRUE(ksm_all_zero());
}

TEST_F_TIMEOUT(ksm_hotplug, pages_discarded_before, 90)
{
	discard_and_offline(_metadata, self->p, self->block, self->block_pages);
}

TEST_F_TIMEOUT(ksm_hotplug, chains_discarded_before, 90)
{
	struct ksm_puppet *p = self->p;
	int i, block;

	for (i = 0; i < 2; i++)
		ksm_puppet_kill(&p[i]);
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, ksm_set("max_page_sharing", 2));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, start_some(&p[i], self->node, NR_PAGES,
					NR_PAGES / 4, 2, true));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_get("pages_shared"));
	EXPECT_EQ(NR_PAGES / 4, ksm_get("stable_node_chains"));
	EXPECT_EQ(NR_PAGES, ksm_get("stable_node_dups"));
	block = find_block(p, self->block_pages);
	if (block < 0)
		SKIP(return, "no merged page came to lie in movable memory");
	discard_and_offline(_metadata, p, block, self->block_pages);
}

/* Write all knobs that are safe at any time, for a while, until told. */
struct knobs {
	atomic_int stop;
	atomic_int failed;
	atomic_long rounds;
};

static int knob_writer(struct ksm_child *c)
{
	static const char * const runs[] = { "1", "0", "1", "2" };
	struct knobs *k = c->arg;
	int ret;

	while (!k->stop) {
		ret = ksm_put_text("run", runs[k->rounds % 4]);
		if (ret && ret != -EBUSY)
			k->failed = ret;
		ret = ksm_put_text("max_page_sharing",
				   k->rounds % 8 < 4 ? "256" : "128");
		if (ret && ret != -EBUSY)
			k->failed = ret;
		ret = ksm_put_text("sleep_millisecs",
				   k->rounds % 2 ? "0" : "1");
		if (ret)
			k->failed = ret;
		k->rounds++;
		ksm_nap_us(5000);
	}
	return 0;
}

/*
 * B63: offline and online in a loop, beside writers of the knobs and a busy
 * ksmd.  At the end run shows plain values again and nobody is stuck.
 */
TEST_F_TIMEOUT(ksm_hotplug, beside_writers_of_knobs, 120)
{
	struct ksm_puppet *p = self->p;
	int done = 0, round;
	struct ksm_child c;
	struct knobs *k;

	k = mmap(NULL, sizeof(*k), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)k);
	ASSERT_EQ(0, ksm_start());
	ASSERT_EQ(0, ksm_spawn(&c, knob_writer, k));
	for (round = 0; round < 4; round++) {
		done += !ksm_block_offline(self->block, 15);
		EXPECT_EQ(0, blocks_online());
		EXPECT_EQ(0, ksm_do(&p[0], ksm_act_check));
		EXPECT_EQ(0, ksm_do(&p[1], ksm_act_check));
	}
	k->stop = 1;
	EXPECT_EQ(0, ksm_reap(&c));
	EXPECT_EQ(0, k->failed);
	EXPECT_GT(k->rounds, 0);
	EXPECT_GT(done, 0);
	TH_LOG("%d of 4 times offline, %ld rounds of knobs", done, k->rounds);

	EXPECT_EQ(0, ksm_unshare_all());
	EXPECT_EQ(2, ksm_get("run"));
	EXPECT_EQ(0, ksm_set("run", 1));
	EXPECT_TRUE(ksm_wait_for(ksm_nr_common(&p[0], &p[1]) == NR_PAGES,
				 KSM_WAIT_SECS));
	check_pair(_metadata, p);
}

/* Pin arg[2] pages by lending them to a pipe. */
static int act_pin(struct ksm_act *a)
{
	struct iovec iov = { a->area, (size_t)a->arg[2] * ksm_psize() };
	int fd[2];

	if (pipe(fd))
		return -errno;
	if (vmsplice(fd[1], &iov, 1, 0) != (ssize_t)iov.iov_len)
		return -EIO;
	return 0;
}

/*
 * B64: a page in the block cannot move, and a signal ends the attempt: KSM,
 * which was told to keep off, goes on at once.
 */
TEST_F_TIMEOUT(ksm_hotplug, called_off_by_a_signal, 90)
{
	struct ksm_puppet *p = self->p;
	int round;

	ASSERT_EQ(0, start_on(&p[2], self->node, 8, 2, false));
	if (!nr_in(&p[2], self->block, self->block_pages))
		SKIP(return, "no page to pin in block %d", self->block);
	p[2].act->arg[2] = 8;
	ASSERT_EQ(0, ksm_do(&p[2], act_pin));
	ASSERT_EQ(0, ksm_start());
	for (round = 0; round < 2; round++) {
		EXPECT_NE(0, ksm_block_offline(self->block, 2));
		EXPECT_TRUE(ksm_block_is(self->block, "state", "online"));
		EXPECT_EQ(1, ksm_get("run"));
		EXPECT_EQ(0, ksm_wait_passes(2));
	}
	EXPECT_EQ(0, ksm_puppet_end(&p[2]));
	check_pair(_metadata, p);
	check_going_on(_metadata, p, self->node);
	/* No writer is stuck either. */
	EXPECT_EQ(0, ksm_unshare_all());
	EXPECT_EQ(0, ksm_set("max_page_sharing", 128));
}

/* B64: another notifier refuses; KSM may or may not have been asked before. */
TEST_F_TIMEOUT(ksm_hotplug, refused_by_another_notifier, 60)
{
	struct ksm_puppet *p = self->p;
	int round, ret[2];

	if (access(NOTIFY_ERROR, W_OK))
		SKIP(return, "no memory-notifier-error-inject");
	ASSERT_EQ(0, ksm_start());
	for (round = 0; round < 2; round++) {
		ASSERT_EQ(0, ksm_put(NOTIFY_ERROR, "-12"));
		ret[0] = ksm_block_offline(self->block, 10);
		ret[1] = ksm_put(NOTIFY_ERROR, "0");
		EXPECT_EQ(ENOMEM, ret[0]);
		ASSERT_EQ(0, ret[1]);
		EXPECT_TRUE(ksm_block_is(self->block, "state", "online"));
		EXPECT_EQ(1, ksm_get("run"));
		EXPECT_EQ(0, ksm_wait_passes(2));
	}
	check_pair(_metadata, p);
	check_going_on(_metadata, p, self->node);
	EXPECT_EQ(0, ksm_unshare_all());
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(0);
	ksm_keep(NOTIFY_ERROR);
	nr_blocks = ksm_blocks_find(blocks, MAX_BLOCKS, 10);
	atexit(blocks_at_exit);
	return test_harness_run(argc, argv);
}
