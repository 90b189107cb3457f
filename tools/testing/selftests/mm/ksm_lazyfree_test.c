// SPDX-License-Identifier: GPL-2.0
/*
 * KSM: MADV_FREE on merged pages, and merging of lazily freed pages.
 *
 * MADV_FREE lets reclaim throw a clean page away instead of writing it to
 * swap.  That is a promise of one process about its own page; a page that
 * others share must not be lost by it, whether they share it before or after.
 * Reclaim of a memory cgroup follows each of the calls, and pages that are
 * lazily freed without any merging show that it really throws them away.
 */
#include "../kselftest_harness.h"
#include <stdatomic.h>
#include <pthread.h>
#include "ksm_util.h"
#include "ksm_env.h"

#define NR_PAGES	64
#define OWNER		11
#define STRANGER	12

FIXTURE(ksm_lazyfree) {
	struct ksm_puppet p[3];
	struct ksm_puppet control;
};

FIXTURE_SETUP(ksm_lazyfree)
{
	const char *why = ksm_env_missing(KSM_WITH_SWAP | KSM_WITH_CGROUP);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
}

FIXTURE_TEARDOWN(ksm_lazyfree)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(self->p); i++)
		ksm_puppet_kill(&self->p[i]);
	ksm_puppet_kill(&self->control);
	ksm_finish(__test_passed(_metadata));
}

static int act_map_plain(struct ksm_act *a)
{
	a->area = ksm_map(a->n);
	if (!a->area)
		return -ENOMEM;
	return ksm_act_fill(a);
}

/* Some puppets with the same mergeable pages; 0 or -errno. */
static int start(struct ksm_puppet *p, int n)
{
	int i, ret = 0;

	for (i = 0; !ret && i < n; i++)
		ret = ksm_puppet_with(&p[i], ksm_env()->cg, NR_PAGES, OWNER, 1);
	return ret;
}

/* Two of them, with one frame for each page; 0 or -errno. */
static int start_merged(struct ksm_puppet *p)
{
	int ret = start(p, 2);

	if (!ret)
		ret = ksm_scan_settle();
	if (!ret && ksm_nr_common(&p[0], &p[1]) != NR_PAGES)
		ret = -EBADE;
	return ret;
}

/* After MADV_FREE a page is what it was, or all zeros: nothing in between. */
static int act_check_freed(struct ksm_act *a)
{
	size_t i, j, bad = 0;

	for (i = 0; i < a->n; i++) {
		const char *page = a->area + i * ksm_psize();

		if (ksm_is(page, a->model[i]))
			continue;
		for (j = 0; j < ksm_psize() && !page[j]; j++)
			;
		bad += j < ksm_psize();
	}
	return (int)bad;
}

/* Pages of the puppet that are neither in RAM nor in swap. */
static long nr_gone(struct ksm_puppet *p)
{
	long gone = 0;
	size_t i;

	for (i = 0; i < p->act->n; i++)
		gone += !(ksm_page_entry(p, i) & (PM_PRESENT | PM_SWAPPED));
	return gone;
}

/*
 * Lazily freed pages of the control puppet, which never met ksmd, vanish:
 * reclaim then has had its chance at all others, too.  Some rounds more, for
 * files (with which lazily freed pages live) and for anonymous memory.
 */
static int reclaim_freed(struct ksm_puppet *control)
{
	const char *cg = ksm_env()->cg;
	int i, ret;

	ret = ksm_puppet_start(control, cg);
	if (ret)
		return ret;
	control->act->n = NR_PAGES;
	for (i = 0; i < NR_PAGES; i++)
		control->act->model[i] = ksm_stamp(STRANGER, i, 1);
	ret = ksm_do(control, act_map_plain);
	if (ret)
		return ret;
	/* Pages that are on no LRU list yet are passed over: call it again. */
	if (!ksm_wait_for((ksm_do1(control, ksm_act_advise, MADV_FREE),
			   ksm_cg_reclaim(cg, 0),
			   nr_gone(control) >= NR_PAGES - 2),
			  KSM_WAIT_SECS)) {
		fprintf(stderr, "# only %ld lazily freed pages reclaimed\n",
			nr_gone(control));
		return -EBUSY;
	}
	for (i = 0; i < 8; i++) {
		ksm_cg_reclaim(cg, 0);
		ksm_cg_reclaim(cg, 60);
		ksm_cg_reclaim(cg, 200);
	}
	return 0;
}

/*
 * D6: the only mapper of a merged page does MADV_FREE.  Then a second process
 * has the same bytes, and may be merged with that page.  Whatever becomes of
 * the first, the second has promised nothing and keeps its bytes.
 */
TEST_F_TIMEOUT(ksm_lazyfree, merge_into_a_freed_page, 90)
{
	struct ksm_puppet *p = self->p;

	ASSERT_EQ(0, start_merged(p));
	ASSERT_EQ(0, ksm_puppet_end(&p[1]));
	ASSERT_EQ(NR_PAGES, ksm_nr_ksm(&p[0]));
	ASSERT_EQ(0, ksm_do1(&p[0], ksm_act_advise, MADV_FREE));

	ASSERT_EQ(0, start(&p[2], 1));
	ASSERT_EQ(0, ksm_scan_settle());
	TH_LOG("%ld of %d pages share the freed frame",
	       ksm_nr_common(&p[0], &p[2]), NR_PAGES);
	ASSERT_EQ(0, reclaim_freed(&self->control));

	EXPECT_EQ(0, nr_gone(&p[2]));
	EXPECT_EQ(0, ksm_do(&p[2], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[0], act_check_freed));
}

/*
 * D6, the other way about: lazily freed pages that are not merged yet, with
 * a twin that is not freed.
 */
TEST_F_TIMEOUT(ksm_lazyfree, merge_of_freed_pages, 90)
{
	struct ksm_puppet *p = self->p;

	/* The twins of the freed pages come before them, and after them. */
	ASSERT_EQ(0, start(p, 3));
	ASSERT_EQ(0, ksm_do1(&p[1], ksm_act_advise, MADV_FREE));
	ASSERT_EQ(0, ksm_scan_settle());
	TH_LOG("%ld freed pages merged", ksm_nr_ksm(&p[1]));
	ASSERT_EQ(0, reclaim_freed(&self->control));
	EXPECT_EQ(0, nr_gone(&p[0]));
	EXPECT_EQ(0, nr_gone(&p[2]));
	EXPECT_EQ(0, ksm_do(&p[0], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[2], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[1], act_check_freed));
}

/*
 * A page that was freed lazily, after it had settled, and that nobody reclaims:
 * its twins do not merge with it, but with each other.
 */
TEST_F_TIMEOUT(ksm_lazyfree, twins_of_a_freed_page, 90)
{
	struct ksm_puppet *p = self->p;

	ASSERT_EQ(0, start(p, 1));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_get("pages_unshared"));
	ASSERT_EQ(0, ksm_do1(&p[0], ksm_act_advise, MADV_FREE));
	ASSERT_EQ(0, start(&p[1], 2));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_PAGES, ksm_nr_common(&p[1], &p[2]));
	EXPECT_EQ(0, ksm_do(&p[1], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[2], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[0], act_check_freed));
}

/*
 * MADV_FREE while two processes share the pages: the other one keeps its
 * bytes through swap and back.
 */
TEST_F_TIMEOUT(ksm_lazyfree, free_of_shared_pages, 90)
{
	struct ksm_puppet *p = self->p;

	ASSERT_EQ(0, start_merged(p));
	ASSERT_EQ(0, ksm_do1(&p[0], ksm_act_advise, MADV_FREE));
	ASSERT_EQ(0, reclaim_freed(&self->control));
	EXPECT_EQ(0, nr_gone(&p[1]));
	EXPECT_EQ(0, ksm_do(&p[1], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[0], act_check_freed));
}

/* Take the pages apart, then fork; the child waits to be asked. */
static int act_unmerge_and_fork(struct ksm_act *a)
{
	int ret = ksm_unmergeable(a->area, a->n);
	pid_t pid;

	if (ret)
		return ret;
	a->arg[0] = 0;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (!__atomic_load_n(&a->arg[0], __ATOMIC_ACQUIRE))
			ksm_nap_us(2000);
		_exit(ksm_act_check(a) ? 1 : 0);
	}
	a->arg[1] = pid;
	return pid < 0 ? -errno : 0;
}

static int act_free(struct ksm_act *a)
{
	return ksm_advise(a->area, a->n, MADV_FREE);
}

/* Does the child have all its bytes? */
static int act_ask_child(struct ksm_act *a)
{
	int status;

	__atomic_store_n(&a->arg[0], 1, __ATOMIC_RELEASE);
	if (waitpid((pid_t)a->arg[1], &status, 0) < 0)
		return -errno;
	return !WIFEXITED(status) || WEXITSTATUS(status);
}

/*
 * Found by storm.c: unmerging leaves pages behind clean PTEs.  When fork has
 * shared them and the parent frees them lazily, the child has promised nothing.
 */
TEST_F_TIMEOUT(ksm_lazyfree, free_of_unmerged_pages_after_fork, 90)
{
	struct ksm_puppet *p = self->p;

	ASSERT_EQ(0, start_merged(p));
	ASSERT_EQ(0, ksm_do(&p[0], act_unmerge_and_fork));
	ASSERT_EQ(0, ksm_nr_ksm(&p[0]));
	ASSERT_EQ(0, ksm_do(&p[0], act_free));
	ASSERT_EQ(0, reclaim_freed(&self->control));
	EXPECT_EQ(0, ksm_do(&p[0], act_ask_child));
	EXPECT_EQ(0, ksm_do(&p[0], act_check_freed));
}

/* Write every page anew: this takes MADV_FREE back. */
static int act_rewrite(struct ksm_act *a)
{
	size_t i;

	for (i = 0; i < a->n; i++)
		a->model[i] = ksm_stamp(OWNER, i, (unsigned int)a->arg[0]);
	return ksm_act_fill(a);
}

/*
 * A write after MADV_FREE is a promise again, also when the page was merged
 * when it was freed, and when it is merged after the write.
 */
TEST_F_TIMEOUT(ksm_lazyfree, write_after_free, 90)
{
	struct ksm_puppet *p = self->p;

	ASSERT_EQ(0, start(p, 2));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(0, ksm_puppet_end(&p[1]));
	ASSERT_EQ(0, ksm_do1(&p[0], ksm_act_advise, MADV_FREE));
	ASSERT_EQ(0, ksm_do1(&p[0], act_rewrite, 2));

	ASSERT_EQ(0, start(&p[1], 1));
	ASSERT_EQ(0, ksm_do1(&p[1], act_rewrite, 2));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_nr_common(&p[0], &p[1]));
	ASSERT_EQ(0, reclaim_freed(&self->control));
	EXPECT_EQ(0, nr_gone(&p[0]));
	EXPECT_EQ(0, nr_gone(&p[1]));
	EXPECT_EQ(0, ksm_do(&p[0], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[1], ksm_act_check));
}

/* Every second page is freed lazily. */
static int act_free_odd(struct ksm_act *a)
{
	int ret = 0;
	size_t i;

	for (i = 1; !ret && i < a->n; i += 2)
		ret = ksm_advise(a->area + i * ksm_psize(), 1, MADV_FREE);
	return ret;
}

static int act_check_even(struct ksm_act *a)
{
	int bad = 0;
	size_t i;

	for (i = 0; i < a->n; i += 2)
		bad += !ksm_is(a->area + i * ksm_psize(), a->model[i]);
	return bad;
}

/*
 * B54: pages read back from swap, whose PTEs are clean, are merged while
 * their neighbours are freed lazily: only the neighbours may be lost.
 */
TEST_F_TIMEOUT(ksm_lazyfree, neighbours_of_clean_pages, 90)
{
	struct ksm_puppet *p = self->p;
	long i;

	ASSERT_EQ(0, start(p, 2));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_TRUE(ksm_reclaim_until(ksm_nr_swapped(&p[0]) == NR_PAGES &&
				      ksm_nr_swapped(&p[1]) == NR_PAGES));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, ksm_do(&p[i], ksm_act_check));	/* reads */
		ASSERT_EQ(0, ksm_do(&p[i], act_free_odd));
	}
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_LE(NR_PAGES / 2, ksm_nr_common(&p[0], &p[1]));
	ASSERT_EQ(0, reclaim_freed(&self->control));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, ksm_do(&p[i], act_check_even));
		EXPECT_EQ(0, ksm_do(&p[i], act_check_freed));
	}
}

/* What the threads of one puppet share in the storm below. */
struct storm {
	char *area;
	size_t n;
	atomic_int stop;
	atomic_long lost;
	atomic_long rounds;
};

struct writer {
	struct storm *s;
	size_t first;
	pthread_t thread;
};

/*
 * Write a version into pages first and first + n / 2, which makes them twins,
 * give ksmd a moment, and look whether both still have it.  Pages that were
 * freed lazily may stay out of merging, so have new ones every other time.
 */
static void *storm_writer(void *arg)
{
	struct writer *w = arg;
	struct storm *s = w->s;
	char *a = s->area + w->first * ksm_psize();
	char *b = a + s->n / 2 * ksm_psize();
	unsigned int version = 0;
	uint64_t seed;

	while (!s->stop) {
		seed = ksm_stamp(OWNER, w->first, ++version);
		if (version % 2) {
			ksm_advise(a, 1, MADV_DONTNEED);
			ksm_advise(b, 1, MADV_DONTNEED);
		}
		ksm_fill(a, seed);
		ksm_fill(b, seed);
		if (version % 2)
			ksm_nap_us(5000);
		if (!ksm_is(a, seed) || !ksm_is(b, seed))
			s->lost++;
		s->rounds++;
	}
	return NULL;
}

static void *storm_free(void *arg)
{
	struct storm *s = arg;

	while (!s->stop) {
		ksm_advise(s->area, s->n, MADV_FREE);
		ksm_nap_us(12000);
	}
	return NULL;
}

static void *storm_clear_refs(void *arg)
{
	struct storm *s = arg;

	while (!s->stop) {
		ksm_put("/proc/self/clear_refs", "4");
		ksm_nap_us(500);
	}
	return NULL;
}

#define NR_WRITERS	3

/* Runs in a child of the test, outside of any limit: nothing is reclaimed. */
static int storm_main(struct ksm_child *c)
{
	struct storm *s = c->arg;
	struct writer w[NR_WRITERS];
	pthread_t freer, clearer;
	int i, ret = 0;

	s->n = 2 * NR_WRITERS;
	s->area = ksm_map(s->n);
	if (!s->area || ksm_mergeable(s->area, s->n))
		return 1;
	for (i = 0; i < NR_WRITERS; i++) {
		w[i].s = s;
		w[i].first = i;
		ret |= pthread_create(&w[i].thread, NULL, storm_writer, &w[i]);
	}
	ret |= pthread_create(&freer, NULL, storm_free, s);
	ret |= pthread_create(&clearer, NULL, storm_clear_refs, s);
	if (ret)
		return 1;
	ksm_nap_us(5000000);
	s->stop = 1;
	for (i = 0; i < NR_WRITERS; i++)
		pthread_join(w[i].thread, NULL);
	pthread_join(freer, NULL);
	pthread_join(clearer, NULL);
	return 0;
}

/*
 * B87: MADV_FREE and clear_refs put off their TLB flush.  A page whose PTE is
 * clean and read-only meanwhile is not yet safe to merge: another thread may
 * still write to it.  Nothing reclaims here, so no write may be lost.
 */
TEST_F_TIMEOUT(ksm_lazyfree, writers_beside_deferred_flushes, 60)
{
	struct ksm_child c;
	long long merges;
	struct storm *s;

	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)s);
	merges = ksm_vmstat("cow_ksm");
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	ASSERT_EQ(0, ksm_start());
	ASSERT_EQ(0, ksm_spawn(&c, storm_main, s));
	EXPECT_EQ(0, ksm_reap(&c));
	EXPECT_EQ(0, s->lost);
	TH_LOG("%ld rounds, %lld writes to merged pages", s->rounds,
	       ksm_vmstat("cow_ksm") - merges);
	/* Pages were merged, so ksmd did meet the others. */
	EXPECT_GT(ksm_vmstat("cow_ksm"), merges);
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(KSM_WITH_SWAP | KSM_WITH_CGROUP);
	return test_harness_run(argc, argv);
}
