// SPDX-License-Identifier: GPL-2.0
/*
 * KSM: no store is lost beside a ksmd that cleans PTEs.
 *
 * To learn of later stores ksmd makes a PTE clean when it reads the page.  A
 * CPU that still has the dirty entry in its TLB does not set the bit again, and
 * reclaim trusts a clean PTE: it writes the page to swap without a flush, and
 * what that CPU stores meanwhile is in no copy of the page.  So each PTE that
 * is clean under its lock must be clean for all CPUs.
 *
 * Here a thread on each CPU stores, all of its area is pushed out to swap again
 * and again, and ksmd does its part at full rate.
 */
#include "../kselftest_harness.h"
#include <pthread.h>
#include <stdatomic.h>
#include "ksm_util.h"
#include "ksm_env.h"

#define NR_PAGES	384	/* of each thread */
#define NR_RESTLESS	32	/* the first of them are written most often */
#define MAX_CPUS	16
#define SECONDS		10

/* All that is known of a thread's pages is in its own memory. */
struct writer {
	pthread_t thread;
	int cpu;
	char *area;
	uint32_t version[NR_PAGES];
	long rounds;
	long lost;		/* words that are not what was stored last */
	uint64_t found;		/* the first of these, and ... */
	uint64_t stored;	/* ... what should have been there */
};

FIXTURE(ksm_flush) {
	struct writer *w;
	int nr;
	char *area;
	size_t pages;
};

FIXTURE_VARIANT(ksm_flush) {
	int smart_scan;
	long reread;
};

/* Pages that change are cleaned whenever they are found dirty. */
FIXTURE_VARIANT_ADD(ksm_flush, smart) {
	.smart_scan = 1,
	.reread = 32,
};

/* And all that have settled are read in each pass, too. */
FIXTURE_VARIANT_ADD(ksm_flush, smart_and_always_reading) {
	.smart_scan = 1,
	.reread = 1,
};

#define REREAD	"/sys/kernel/debug/ksm/reread_passes"

static atomic_int stop;

FIXTURE_SETUP(ksm_flush)
{
	const char *why = ksm_env_missing(KSM_WITH_SWAP);
	int i;

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, ksm_set("smart_scan", variant->smart_scan));
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	if (access(REREAD, W_OK) && variant->reread != 32)
		SKIP(return, "no " REREAD);
	if (!access(REREAD, W_OK))
		ASSERT_EQ(0, ksm_put_num(REREAD, variant->reread));

	self->nr = (int)sysconf(_SC_NPROCESSORS_ONLN);
	self->nr = self->nr > MAX_CPUS ? MAX_CPUS : self->nr;
	self->w = calloc((size_t)self->nr, sizeof(*self->w));
	ASSERT_NE(NULL, self->w);
	self->pages = (size_t)self->nr * NR_PAGES;
	self->area = ksm_map(self->pages);
	ASSERT_NE(NULL, self->area);
	ASSERT_EQ(0, ksm_mergeable(self->area, self->pages));
	for (i = 0; i < self->nr; i++) {
		self->w[i].cpu = i;
		self->w[i].area = self->area +
			(size_t)i * NR_PAGES * ksm_psize();
	}
}

FIXTURE_TEARDOWN(ksm_flush)
{
	ksm_keep_restore();
	ksm_finish(__test_passed(_metadata));
}

/* Each eight bytes tell whose they are, which page's, and of which version. */
static uint64_t word_of(struct writer *w, int page)
{
	return ksm_stamp((unsigned int)w->cpu + 1, (unsigned int)page,
			 w->version[page]);
}

static void verify(struct writer *w, int page)
{
	const uint64_t *word = (const uint64_t *)
		(w->area + (size_t)page * ksm_psize());
	size_t i, n = ksm_psize() / sizeof(*word);
	uint64_t stored = word_of(w, page);

	ksm_barrier();
	for (i = 0; i < n; i++) {
		uint64_t found = word[i];

		if (found == stored)
			continue;
		if (!w->lost++) {
			w->found = found;
			w->stored = stored;
		}
	}
}

static void store(struct writer *w, int page)
{
	uint64_t *word = (uint64_t *)(w->area + (size_t)page * ksm_psize());
	size_t i, n = ksm_psize() / sizeof(*word);
	uint64_t stored;

	w->version[page] = (w->version[page] + 1) % (1U << 24);
	stored = word_of(w, page);
	for (i = 0; i < n; i++)
		__atomic_store_n(&word[i], stored, __ATOMIC_RELAXED);
}

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	uint32_t dice = 12345 + (uint32_t)w->cpu;
	cpu_set_t set;
	int page;

	CPU_ZERO(&set);
	CPU_SET(w->cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);	/* if that CPU is ours */
	for (page = 0; page < NR_PAGES; page++)
		store(w, page);
	while (!atomic_load(&stop)) {
		dice = dice * 1664525 + 1013904223;
		page = (int)(dice >> 8) % NR_PAGES;
		/* A few pages never rest; of the others, many settle. */
		if (dice >> 30)
			page %= NR_RESTLESS;
		verify(w, page);
		store(w, page);
		/* Twice: the entry is in the TLB now, and dirty. */
		store(w, page);
		w->rounds++;
	}
	return NULL;
}

/* D1: whatever ksmd and reclaim do, what was stored is there. */
TEST_F_TIMEOUT(ksm_flush, no_store_is_lost, 120)
{
	long long out, in, scanned;
	long rounds = 0;
	double end;
	int i, page;

	out = ksm_vmstat("pswpout");
	in = ksm_vmstat("pswpin");
	scanned = ksm_get("pages_scanned");
	ASSERT_EQ(0, ksm_start());
	for (i = 0; i < self->nr; i++)
		ASSERT_EQ(0, pthread_create(&self->w[i].thread, NULL,
					    writer_main, &self->w[i]));
	for (end = ksm_now() + SECONDS; ksm_now() < end; ) {
		ksm_advise(self->area, self->pages, MADV_PAGEOUT);
		/* The writers are to come to all of their pages. */
		ksm_nap_us(3000);
	}
	atomic_store(&stop, 1);
	for (i = 0; i < self->nr; i++)
		ASSERT_EQ(0, pthread_join(self->w[i].thread, NULL));
	ASSERT_EQ(0, ksm_stop());
	out = ksm_vmstat("pswpout") - out;
	in = ksm_vmstat("pswpin") - in;
	scanned = ksm_get("pages_scanned") - scanned;

	for (i = 0; i < self->nr; i++) {
		for (page = 0; page < NR_PAGES; page++)
			verify(&self->w[i], page);
		rounds += self->w[i].rounds;
		EXPECT_EQ(0, self->w[i].lost) {
			TH_LOG("CPU %d found %llx instead of %llx", i,
			       (unsigned long long)self->w[i].found,
			       (unsigned long long)self->w[i].stored);
		}
	}
	TH_LOG("%ld stores, %lld pages out, %lld in, %lld read by ksmd",
	       rounds, out, in, scanned);
	/* Unless all took part, this has shown nothing. */
	EXPECT_GT(rounds, 1000);
	EXPECT_GT(out, NR_PAGES);
	EXPECT_GT(in, NR_PAGES);
	EXPECT_GT(scanned, NR_PAGES);
	EXPECT_EQ(0, ksm_get("pages_shared"));
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(KSM_WITH_SWAP);
	if (access("/sys/kernel/debug/ksm", F_OK))
		mount("none", "/sys/kernel/debug", "debugfs", 0, NULL);
	ksm_keep(REREAD);
	return test_harness_run(argc, argv);
}
