// SPDX-License-Identifier: GPL-2.0
/*
 * The storm's supervisor: starts workers and administrators, starts them again
 * when they end, kills some, and judges what is left.  See storm.h.
 *
 *   storm [--seed N] [--seconds N] [--self-test] [--spare-shared]
 *
 * Exit status 0 if all is well, 1 if not, 4 if there is nothing to test.
 */
#include "storm.h"
#include <getopt.h>

#define TELL_SECS	5
#define KILL_MS		1500	/* between two kills, on average */
#define ROUND_US	50000
#define END_SECS	90	/* for all processes to come to their end */
#define SKIPPED		4

/* What is seen of KSM while it works. */
static struct {
	long long passes;
	long long last_scans;
	long long shared;	/* the others: most at a time */
	long long sharing;
	long long unshared;
	long long chains;
	long long dups;
	long long zero;
	long long copies;	/* write faults and unmerging, at the beginning */
	long long oom_kills;	/* at the beginning */
	long kills;		/* by us */
	long starts;
} seen;

/* Only its random numbers are used. */
static struct storm_proc dice;
static double begun;

static void most(long long *peak, long long val)
{
	if (val > *peak)
		*peak = val;
}

/* full_scans goes back to 0 at each unmerging of all. */
static void watch(void)
{
	struct ksm_counters c;

	ksm_count(&c);
	seen.passes += c.full_scans < seen.last_scans ? c.full_scans :
		c.full_scans - seen.last_scans;
	seen.last_scans = c.full_scans;
	most(&seen.shared, c.shared);
	most(&seen.sharing, c.sharing);
	most(&seen.unshared, c.unshared);
	most(&seen.chains, c.chains);
	most(&seen.dups, c.dups);
	most(&seen.zero, c.zero);
}

static long count_ops(void)
{
	long sum = 0;
	int i;

	for (i = 0; i < STORM_OPS; i++)
		sum += storm->worker_op[i].done + storm->worker_op[i].refused;
	return sum;
}

static int count_procs(void)
{
	int i, nr = 0;

	for (i = 0; i < STORM_SLOTS; i++)
		nr += storm->proc[i].life != STORM_FREE;
	return nr;
}

static void tell_progress(void)
{
	storm_say("%3.0f s: processes %d, killed %ld, by OOM %ld, operations %ld, verified %ld",
		  ksm_now() - begun, count_procs(), seen.kills,
		  storm->oom_deaths, count_ops(), storm->verified);
	storm_say("       passes %lld, shared %lld, sharing %lld, unshared %lld, zero %lld",
		  seen.passes, ksm_get("pages_shared"),
		  ksm_get("pages_sharing"), ksm_get("pages_unshared"),
		  ksm_get("ksm_zero_pages"));
}

/* ---- processes ----------------------------------------------------------- */

/* What a slot's process chooses follows from seed, slot, and which one it is. */
static void start(int slot)
{
	static unsigned int generation[STORM_PROCS];
	struct storm_proc *p = &storm->proc[slot];
	int group = slot < STORM_SLOTS && slot % 4 < STORM_GROUPS ?
		slot % 4 : -1;
	pid_t pid;

	if (!storm_trylock(&p->lock))
		return;
	if (group >= 0 && !storm->group[group][0])
		group = -1;
	storm_fresh(p, storm->seed << 24 ^ (uint64_t)slot << 16 ^
		    generation[slot]++, group);
	p->life = STORM_STARTING;
	pid = storm_fork(p);
	if (!pid)
		_exit(slot < STORM_SLOTS ? storm_worker(p) : storm_admin(p));
	if (pid < 0)
		p->life = STORM_FREE;
	seen.starts++;
	pthread_mutex_unlock(&p->lock);
}

static void start_missing(void)
{
	int i;

	for (i = 0; i < STORM_PROCS; i++)
		if (storm->proc[i].life == STORM_FREE &&
		    (i < STORM_WORKERS || i >= STORM_SLOTS))
			start(i);
}

static void kill_one(void)
{
	struct storm_proc *p = &storm->proc[storm_below(&dice, STORM_SLOTS)];

	if (p->life != STORM_LIVE || p->pid <= 0)
		return;
	p->killed = true;
	if (!kill(p->pid, SIGKILL))
		seen.kills++;
}

static bool all_gone(void)
{
	storm_reap();
	return waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
}

static void kill_all(void)
{
	int i;

	for (i = 0; i < STORM_PROCS; i++)
		if (storm->proc[i].life != STORM_FREE &&
		    storm->proc[i].pid > 0) {
			storm->proc[i].killed = true;
			kill(storm->proc[i].pid, SIGKILL);
		}
}

static void rage(unsigned int secs)
{
	unsigned int kill_at = KILL_MS, tick = 0;
	double tell_at = begun + TELL_SECS;

	while (!storm->failed && ksm_now() < begun + secs) {
		storm_reap();
		start_missing();
		watch();
		tick += ROUND_US / 1000;
		if (tick >= kill_at) {
			kill_one();
			kill_at = tick + storm_below(&dice, 2 * KILL_MS);
		}
		if (ksm_now() >= tell_at) {
			tell_progress();
			tell_at = ksm_now() + TELL_SECS;
		}
		ksm_nap_us(ROUND_US);
	}
}

/* All processes come to their end; false: one of them does not. */
static bool bring_home(void)
{
	bool home;
	int i;

	storm->stop = true;
	if (storm->failed)
		kill_all();
	home = ksm_wait_for((storm->failed ? kill_all() : (void)0,
			     all_gone()), END_SECS);
	for (i = 0; !home && i < STORM_PROCS; i++)
		if (storm->proc[i].life != STORM_FREE) {
			storm_say("slot %d does not end", i);
			ksm_tell_where("process", storm->proc[i].pid);
		}
	if (!home) {
		ksm_tell_where("ksmd", ksm_find_ksmd());
		kill_all();
		ksm_wait_for(all_gone(), END_SECS);
	}
	return home;
}

/* ---- tables -------------------------------------------------------------- */

static void row(const char *name, struct storm_count *count)
{
	storm_say("  %-18s %9ld %9ld %9ld", name, count->done, count->refused,
		  count->nothing);
}

static void sum_row(const char *name, long long val)
{
	storm_say("  %-48s %9lld", name, val);
}

static void tell_sums(void)
{
	storm_say("operation                 done   refused  no chance");
	storm_worker_counts(row);
	storm_admin_counts(row);
	storm_say("in all");
	sum_row("processes started by the supervisor", seen.starts);
	sum_row("processes in all", storm->serial);
	sum_row("killed by the supervisor", seen.kills);
	sum_row("killed by the OOM killer, processes of the storm",
		storm->oom_deaths);
	sum_row("allocations that were made to fail", storm->faults);
	sum_row("pages soft-offlined", storm->soft);
	sum_row("pages verified", storm->verified);
	sum_row("passes of ksmd", seen.passes);
	sum_row("pages_shared, most at a time", seen.shared);
	sum_row("pages_sharing, most", seen.sharing);
	sum_row("pages_unshared, most", seen.unshared);
	sum_row("stable_node_chains, most", seen.chains);
	sum_row("stable_node_dups, most", seen.dups);
	sum_row("ksm_zero_pages, most", seen.zero);
	sum_row("copies of merged pages (cow_ksm)",
		ksm_vmstat("cow_ksm") - seen.copies);
}

/* ---- the whole ----------------------------------------------------------- */

static int tests, failures;

static void result(bool good, const char *what)
{
	char text[128];
	int len;

	failures += !good;
	len = snprintf(text, sizeof(text), "%sok %d %s\n", good ? "" : "not ",
		       ++tests, what);
	if (write(STDOUT_FILENO, text, (size_t)len) != len)
		failures++;
}

/* No process died by a SIGKILL that neither we nor the OOM killer sent. */
static bool deaths_explained(void)
{
	long long kills = ksm_vmstat("oom_kill") - seen.oom_kills;

	if (storm->oom_deaths <= kills)
		return true;
	storm_say("%ld processes were killed, the OOM killer killed %lld",
		  storm->oom_deaths, kills);
	return false;
}

static int run(unsigned int secs)
{
	bool home;

	seen.copies = ksm_vmstat("cow_ksm");
	seen.oom_kills = ksm_vmstat("oom_kill");
	seen.last_scans = ksm_get("full_scans");
	begun = ksm_now();
	dice.random = storm->seed;
	rage(secs);
	home = bring_home();
	storm_admin_calm();
	tell_progress();
	tell_sums();
	result(!storm->failed, "all bytes and all results were right");
	result(home, "all processes came to their end");
	result(storm->failed || deaths_explained(), "nobody was killed without a reason");
	result(storm_end_counters(), "all counters are zero");
	result(storm_end_slabs(), "slab caches are as they were");
	result(storm_end_leaks(), "no memory leaks");
	storm_say("seed %llu: %d of %d failed", (unsigned long long)storm->seed,
		  failures, tests);
	return failures ? 1 : 0;
}

static bool is_ours(void)
{
	return !access("/sys/kernel/tracing/events/ksm/ksm_batch", F_OK);
}

static int start_of_all(uint64_t seed, unsigned int secs, bool self_test,
			bool spare_shared)
{
	const char *missing = ksm_missing();

	if (!missing && ksm_psize() != 4096)
		missing = "pages are not of 4096 bytes";
	if (missing) {
		printf("1..0 # SKIP %s\n", missing);
		return SKIPPED;
	}
	if (storm_make(seed)) {
		perror("storm: shared memory");
		return 1;
	}
	/* Those whose parents were killed become ours. */
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	storm->self_test = self_test;
	storm->spare_shared = spare_shared;
	storm->ours = is_ours();
	printf("KTAP version 1\n1..6\n");
	fflush(stdout);
	storm_say("seed %llu, %u seconds, %s KSM",
		  (unsigned long long)seed, secs,
		  storm->ours ? "this" : "the stock");
	storm_admin_setup();
	if (ksm_baseline() || ksm_set("pages_to_scan", 2000) ||
	    ksm_start()) {
		storm_say("KSM does not take its settings");
		return 1;
	}
	storm_end_begin();
	return run(secs);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "seconds", required_argument, NULL, 't' },
		{ "self-test", no_argument, NULL, 'x' },
		{ "spare-shared", no_argument, NULL, 'f' },
		{ 0 }
	};
	uint64_t seed = (uint64_t)time(NULL);
	unsigned int secs = 60;
	bool self_test = false, spare_shared = false;
	int c;

	/* From storm-worker.c. */
	if (argc == 4 && !strcmp(argv[1], "--worker"))
		return storm_worker_again(atoi(argv[2]), atoi(argv[3]));
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's') {
			seed = strtoull(optarg, NULL, 0);
		} else if (c == 't') {
			secs = (unsigned int)atoi(optarg);
		} else if (c == 'x') {
			self_test = true;
		} else if (c == 'f') {
			spare_shared = true;
		} else {
			fprintf(stderr, "usage: see the head of storm.c\n");
			return 2;
		}
	}
	return start_of_all(seed, secs, self_test, spare_shared);
}
