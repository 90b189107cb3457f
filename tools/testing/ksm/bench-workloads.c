// SPDX-License-Identifier: GPL-2.0
/*
 * What is measured, one function a workload. Costs of ksmd are in ns of CPU time
 * for each page that was offered (and for each pass).
 */
#include <stdio.h>
#include <string.h>

#include "bench.h"

#define MOST_PASSES	16	/* that merging may take */
#define FAULTS		4096UL	/* write faults to take the mean of */
#define TRIES		8
#define FORK_TRIES	32
#define WINDOW_MS	400	/* for the program on the other processor */
#define WINDOWS		5	/* of each kind */
#define BATCH		"100"	/* the default */
#define LOCKS_MS	4000

static void offer(const struct load *load)
{
	programs_start(load);
	programs_fill();
	programs_offer();
}

/* Passes with, if wanted, all memory rewritten before each */
static double passes(unsigned int count, uint64_t *version)
{
	double cpu = 0;

	while (count--) {
		if (version)
			programs_rewrite(++*version);
		cpu += ksm_pass();
	}
	return cpu;
}

static void report_memory(const struct usage *before)
{
	struct usage after = kernel_usage();
	size_t pages = programs_pages();

	report("memory_gone", (before->free - after.free) / pages);
	report("memory_own", (after.own - before->own) / pages);
	report("memory_slabs", (after.slabs - before->slabs) / pages);
}

static void scan_some(const struct load *load, uint64_t *version)
{
	struct usage before;
	double first, second;
	size_t pages;

	programs_start(load);
	programs_fill();
	kernel_usage();		/* whatever reading it takes for the first time */
	before = kernel_usage();
	programs_offer();
	pages = programs_pages();

	first = passes(1, version);
	report("first", first / pages);
	second = passes(1, version);
	report("second", second / pages);
	passes(load->warm - 2, version);
	report("merged_before", ksm_get("pages_sharing"));
	report("settled", passes(load->passes, version) /
			  ((double)pages * load->passes));
	report("merged", ksm_get("pages_sharing"));
	/* Memory of a program may have become free by merging */
	if (!ksm_get("pages_sharing"))
		report_memory(&before);
}

static void scan(const struct load *load)
{
	scan_some(load, NULL);
}

static void rewritten(const struct load *load)
{
	uint64_t version = 0;

	scan_some(load, &version);
}

/* ksmd's CPU time until nothing is left to merge, where programs are all equal */
static double merge_all(void)
{
	size_t goal = programs_pages() - programs_pages() / programs_number();
	unsigned int count = 0;
	double cpu = 0;

	while (ksm_get("pages_sharing") < goal) {
		if (count++ == MOST_PASSES)
			fail("%lu of %zu pages merged",
			     ksm_get("pages_sharing"), goal);
		cpu += ksm_pass();
	}
	report("merge_passes", count);
	return cpu;
}

static void merge(const struct load *load)
{
	offer(load);
	report("merge", merge_all() / programs_pages());
}

/* A fixed number of passes from the beginning */
static void from_new(const struct load *load)
{
	offer(load);
	report("from_new", passes(load->passes, NULL) / programs_pages());
	report("merged", ksm_get("pages_sharing"));
}

/* Everything that may hold a lock: new pages, merging, settled, and apart again */
static void locks(const struct load *load)
{
	if (!locks_watch()) {
		report("locks_unknown", 1);
		return;
	}
	ksm_batch(BATCH);
	offer(load);
	report("lock_passes", ksm_passes_during(LOCKS_MS));
	if (!ksm_get("pages_sharing"))
		fail("nothing is merged");
	ksm_unmerge();
	locks_report();
}

static void report_cost(const char *key, const struct cost *cost, double share)
{
	char cpu_key[32];

	report(key, cost->wall / share);
	snprintf(cpu_key, sizeof(cpu_key), "%s_cpu", key);
	report(cpu_key, cost->cpu / share);
}

static void unmerge(const struct load *load)
{
	struct cost cost;

	offer(load);
	merge_all();
	cost = ksm_unmerge();
	report_cost("unmerge", &cost, programs_pages());
	if (ksm_get("pages_sharing"))
		fail("still merged after run=2");
}

/* Of several tries the least counts, as others' noise only adds */
static void take_lesser(struct cost *least, struct cost cost)
{
	if (!least->wall || cost.wall < least->wall)
		least->wall = cost.wall;
	if (!least->cpu || cost.cpu < least->cpu)
		least->cpu = cost.cpu;
}

/* What users of merged memory feel */
static void use(const struct load *load)
{
	struct cost fault = { 0 }, fork = { 0 }, exit = { 0 };
	unsigned int i;

	if (load->programs < 3)
		fail("needs three programs");
	offer(load);
	merge_all();
	programs_wake();
	for (i = 0; i < TRIES; i++)
		take_lesser(&fault, program_write(0, FAULTS));
	report_cost("write_fault", &fault, FAULTS);
	for (i = 0; i < FORK_TRIES; i++) {
		take_lesser(&fork, program_fork(1));
		programs_wake();
	}
	report_cost("fork", &fork, 1);
	/* Not the last two, which share with nobody but each other */
	for (i = 1; i + 1 < load->programs; i++)
		take_lesser(&exit, program_exit(i));
	report_cost("exit", &exit, 1);
}

/*
 * For the program on the other processor, bench-corunner.c: windows without and
 * with ksmd at work in turn, for each kind of work that it can do.
 */
static void announce(const char *state)
{
	printf("@ window %s\n", state);
	fflush(stdout);
}

static void idle_window(void)
{
	announce("idle");
	rest_ms(WINDOW_MS);
	announce("none");
}

/* @undo is for what comes between the windows */
static void beside(double (*act)(void), void (*undo)(void))
{
	static const char *const kinds[] = { "cache", "shared", "memory" };
	unsigned int kind, i;
	double units;

	for (kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		printf("@ section %s\n", kinds[kind]);
		fflush(stdout);
		idle_window();
		for (i = 0; i < WINDOWS; i++) {
			announce("busy");
			units = act();
			announce("none");
			report("units", units);
			if (undo)
				undo();
			idle_window();
		}
	}
}

/* A unit is a visit: of a page, in a pass */
static double scan_on(void)
{
	return (double)programs_pages() * ksm_passes_during(WINDOW_MS);
}

static void beside_settled(const struct load *load)
{
	offer(load);
	passes(load->warm, NULL);
	beside(scan_on, NULL);
}

/* A unit is a merged page */
static double merge_anew(void)
{
	merge_all();
	return ksm_get("pages_sharing");
}

static void unmerge_all(void)
{
	ksm_unmerge();
}

static void beside_merging(const struct load *load)
{
	offer(load);
	beside(merge_anew, unmerge_all);
}

void run_workload(const char *name, const struct load *load)
{
	static const struct {
		const char *name;
		void (*run)(const struct load *load);
	} workloads[] = {
		{ "scan", scan },
		{ "rewritten", rewritten },
		{ "merge", merge },
		{ "from-new", from_new },
		{ "locks", locks },
		{ "unmerge", unmerge },
		{ "use", use },
		{ "beside-settled", beside_settled },
		{ "beside-merging", beside_merging },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(workloads); i++) {
		if (!strcmp(name, workloads[i].name)) {
			workloads[i].run(load);
			return;
		}
	}
	fail("no such workload: %s", name);
}
