// SPDX-License-Identifier: GPL-2.0
/*
 * The storm's administrators: each is a process that disturbs the machine as a
 * whole, one the settings of KSM, one the memory, one the limits of groups.
 *
 * An administrator may be killed at any time, as writing 2 to run makes him the
 * first that the OOM killer looks at; what he leaves half-done the next one
 * finds, or storm_admin_calm().
 */
#include "storm.h"
#include "../selftests/mm/ksm_block.h"

#define HUGE_DIR	"/sys/kernel/mm/transparent_hugepage/khugepaged/"
#define FAULT_DIR	"/sys/kernel/debug/"
#define OFFLINE_SECS	5	/* that a block may take to go */

static struct ksm_zram disk = { .id = -1 };

/* ---- settings of KSM ----------------------------------------------------- */

struct knob {
	const char *name;
	const char *good[6];
	const char *bad[4];
	int error;		/* that good values may give, besides EBUSY */
};

static const struct knob knobs[] = {
	{ "pages_to_scan", { "8", "500", "2000", "2000", "20000", "4294967295" },
	  { "-1", "x", "4294967296", "" }, EINVAL },
	{ "sleep_millisecs", { "0", "0", "1", "1", "20", "100" },
	  { "-1", "x", "4294967296", "1.5" } },
	{ "max_page_sharing", { "2", "3", "8", "16", "256", "100000" },
	  { "1", "0", "x", "4294967296" } },
	{ "merge_across_nodes", { "0", "1", "0", "1", "0", "1" },
	  { "2", "-1", "x", "y" } },
	{ "use_zero_pages", { "0", "1", "1", "1", "1", "1" },
	  { "2", "-1", "x", "maybe" } },
	{ "smart_scan", { "0", "1", "1", "1", "1", "1" },
	  { "2", "-1", "x", "maybe" } },
	{ "stable_node_chains_prune_millisecs",
	  { "0", "1", "10", "100", "2000", "4294967295" },
	  { "-1", "x", "4294967296", "1.5" } },
	{ "advisor_mode", { "none", "none", "none", "scan-time", "none",
			    "none" }, { "fast", "x", "0", "scan time" } },
	{ "advisor_max_cpu", { "1", "10", "70", "100", "200", "4294967295" },
	  { "-1", "x", "4294967296", "1.5" } },
	{ "advisor_min_pages_to_scan", { "0", "100", "500", "5000", "500",
					 "1000" }, { "-1", "x", "1.5", "y" } },
	{ "advisor_max_pages_to_scan", { "0", "100", "500", "30000", "30000",
					 "1000" }, { "-1", "x", "1.5", "y" } },
	{ "advisor_target_scan_time", { "1", "2", "10", "200", "1000", "1" },
	  { "-1", "x", "0", "y" } },
};

static int op_knob(struct storm_proc *p, long good)
{
	const struct knob *k = &knobs[storm_below(p, ARRAY_SIZE(knobs))];
	const char *text = good ? k->good[storm_below(p, 6)] :
		k->bad[storm_below(p, 4)];
	int ret;

	if (!ksm_has(k->name))
		return STORM_NOTHING;
	storm_past(p, k->name, NULL, 0, 0);
	/* An empty write(2) does not get as far as KSM. */
	ret = ksm_put_text(k->name, *text ? text : "\n");
	storm_past(p, text, NULL, 0, ret);
	if (good)
		return k->error && ret == -k->error ? -EBUSY : ret;
	/* The stock kernel takes some numbers that are too large. */
	if (storm->ours && ret != -EINVAL && ret != -ERANGE)
		storm_fail(p, "%s took \"%s\" with %d", k->name, text, ret);
	return STORM_DONE;
}

/*
 * Stop, or stop and unmerge; then go on after a while.  Two settings can be
 * changed only while nothing is merged.
 */
static int op_run(struct storm_proc *p, long run)
{
	static const char * const limits[] = { "2", "3", "5", "256" };
	int ret, err;

	ret = ksm_put_text("run", run == 2 ? "2" : "0");
	storm_past(p, "run", NULL, (unsigned int)run, ret);
	if (run == 2) {
		ksm_put_text("max_page_sharing", limits[storm_below(p, 4)]);
		ksm_put_text("merge_across_nodes",
			     storm_chance(p, 50) ? "0" : "1");
	}
	storm_nap(p, 300);
	err = ksm_put_text("run", "1");
	return ret ? ret : err;
}

/* ---- memory of the machine ----------------------------------------------- */

/* Swap goes, with all that is in it to be read back, and comes again. */
static int op_swap(struct storm_proc *p, long arg)
{
	int ret;

	(void)arg;
	ksm_swap_on();
	storm_nap(p, 1500);
	ret = ksm_swap_off();
	storm_past(p, "swapoff", NULL, 0, ret);
	storm_nap(p, 300);
	if (!ret)
		ret = ksm_swap_on();
	return ret == -ENODEV ? STORM_NOTHING : ret;
}

static int op_compact(struct storm_proc *p, long arg)
{
	(void)arg;
	storm_past(p, "compact", NULL, 0, 0);
	return ksm_put("/proc/sys/vm/compact_memory", "1");
}

static int op_drop_caches(struct storm_proc *p, long arg)
{
	(void)arg;
	storm_past(p, "drop caches", NULL, 0, 0);
	return ksm_put_num("/proc/sys/vm/drop_caches", 1 + storm_below(p, 3));
}

/* Is a frame in one of the blocks? */
bool storm_in_block(uint64_t pfn)
{
	int i;

	for (i = 0; i < storm->nr_blocks; i++)
		if (pfn / storm->block_pages == (uint64_t)storm->block[i])
			return true;
	return false;
}

/* Bring all blocks back; 0 or the first error. */
static int blocks_on(void)
{
	return ksm_blocks_online(storm->block, storm->nr_blocks);
}

/* A block of memory goes, in a child that a signal ends in time, and comes. */
static int op_offline(struct storm_proc *p, long arg)
{
	int block, ret;

	(void)arg;
	if (!storm->nr_blocks)
		return STORM_NOTHING;
	/* One that was killed may have left a block offline. */
	ret = blocks_on();
	if (ret)
		return ret;
	block = storm->block[storm_below(p, (unsigned int)storm->nr_blocks)];
	storm_past(p, "offline", NULL, (unsigned int)block, 0);
	ret = ksm_block_offline(block, OFFLINE_SECS);
	storm_past(p, "offline", NULL, (unsigned int)block, ret);
	storm_nap(p, 500);
	storm_past(p, "online", NULL, 0, blocks_on());
	return ret > 0 ? -ret : ret;
}

/* All pages of a process go to the other node. */
static int op_migrate(struct storm_proc *p, long arg)
{
	struct storm_proc *q = &storm->proc[storm_below(p, STORM_SLOTS)];
	unsigned int side = storm_below(p, 2);
	unsigned long from = 1UL << storm->nodes[side];
	unsigned long to = 1UL << storm->nodes[!side];
	pid_t pid = q->pid;

	(void)arg;
	if (q->life != STORM_LIVE)
		return STORM_NOTHING;
	storm_past(p, "migrate_pages", NULL, (unsigned int)pid, 0);
	return syscall(SYS_migrate_pages, pid, KSM_MAX_NODES + 1, &from,
		       &to) < 0 ? -errno : STORM_DONE;
}

static int fault_put(const char *what, const char *name, long long val)
{
	char path[128];

	snprintf(path, sizeof(path), FAULT_DIR "%s/%s", what, name);
	return ksm_put_num(path, val);
}

/* For a while, some allocations of ksmd fail. */
static int op_fail_ksmd(struct storm_proc *p, long pages)
{
	const char *what = pages ? "fail_page_alloc" : "failslab";
	unsigned int most = 1 + storm_below(p, 50);
	long long left;
	char path[128];

	if (fault_put(what, "times", most))
		return STORM_NOTHING;
	fault_put(what, "probability", 1 + storm_below(p, 50));
	storm_nap(p, 500);
	fault_put(what, "probability", 0);
	snprintf(path, sizeof(path), FAULT_DIR "%s/times", what);
	left = ksm_read_num(path);
	if (left >= 0 && left <= most)
		storm->faults += most - left;
	storm_past(p, what, NULL, most, (int)left);
	return STORM_DONE;
}

/* ---- limits of groups ---------------------------------------------------- */

static int op_limit(struct storm_proc *p, long arg)
{
	static const struct {
		const char *file;
		const char *text[4];
	} limits[] = {
		{ "memory.max", { "4M", "8M", "16M", "max" } },
		{ "memory.high", { "6M", "12M", "max", "max" } },
		{ "memory.swap.max", { "0", "2M", "max", "max" } },
	};
	unsigned int i = storm_below(p, ARRAY_SIZE(limits));
	const char *group = storm->group[storm_below(p, STORM_GROUPS)];
	const char *text = limits[i].text[storm_below(p, 4)];
	int ret;

	(void)arg;
	if (!*group)
		return STORM_NOTHING;
	storm_past(p, limits[i].file, NULL, 0, 0);
	ret = ksm_cg_put(group, limits[i].file, text);
	storm_past(p, text, NULL, 0, ret);
	return ret;
}

static int op_reclaim(struct storm_proc *p, long arg)
{
	const char *group = storm->group[storm_below(p, STORM_GROUPS)];

	(void)arg;
	if (!*group)
		return STORM_NOTHING;
	storm_past(p, "memory.reclaim", NULL, 0, 0);
	return ksm_cg_put(group, "memory.reclaim",
			  storm_chance(p, 50) ? "1M" : "4M");
}

/* ---- the administrators -------------------------------------------------- */

static const struct storm_op ops[] = {
	/* The first one's. */
	{ "settings, good", 50, op_knob, 1, { EBUSY } },
	{ "settings, bad", 10, op_knob, 0, { 0 } },
	{ "run 0", 4, op_run, 0, { EINTR, EBUSY } },
	{ "run 2", 8, op_run, 2, { EINTR, EBUSY, ENOMEM } },
	/*
	 * The second one's.  A block that a page was soft-offlined in, although
	 * that is avoided, cannot come back.
	 */
	{ "swapoff, swapon", 10, op_swap, 0, { EINTR, ENOMEM } },
	{ "compact memory", 10, op_compact, 0, { EINTR } },
	{ "drop caches", 3, op_drop_caches, 0, { 0 } },
	{ "offline, online", 8, op_offline, 0,
	  { EINTR, EBUSY, EAGAIN, ENOMEM, EHWPOISON } },
	{ "migrate_pages", 15, op_migrate, 0, { ESRCH, EINVAL, ENOMEM } },
	/* The third one's. */
	{ "group limits", 20, op_limit, 0, { EBUSY } },
	{ "group reclaim", 5, op_reclaim, 0, { EAGAIN, EINTR } },
	{ "ksmd: no slab", 10, op_fail_ksmd, 0, { 0 } },
	{ "ksmd: no pages", 10, op_fail_ksmd, 1, { 0 } },
};

static const struct {
	int from;
	int nr;
	unsigned int nap_ms;
} duties[STORM_ADMINS] = {
	{ 0, 4, 200 }, { 4, 5, 500 }, { 9, 4, 500 },
};

void storm_admin_counts(void (*row)(const char *name,
				    struct storm_count *count))
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ops); i++)
		row(ops[i].name, &storm->admin_op[i]);
}

/* An administrator from begin to end; his exit status. */
int storm_admin(struct storm_proc *p)
{
	int who = storm_number(p) - STORM_SLOTS, nr;

	while (!storm->stop && !storm->failed) {
		nr = duties[who].from +
			storm_pick_op(p, ops + duties[who].from,
				      duties[who].nr);
		storm_account(p, &ops[nr], &storm->admin_op[nr],
			      ops[nr].fn(p, ops[nr].arg));
		storm_nap(p, duties[who].nap_ms);
	}
	p->finished = true;
	return 0;
}

/* ---- before and after ---------------------------------------------------- */

static void find_nodes(void)
{
	int nodes[KSM_MAX_NODES], nr;

	nr = ksm_nodes(nodes, KSM_MAX_NODES);
	if (nr) {
		storm->nodes[0] = nodes[0];
		storm->nodes[1] = nodes[nr > 1];
	}
}

static void make_groups(void)
{
	char name[8];
	int i;

	for (i = 0; i < STORM_GROUPS; i++) {
		snprintf(name, sizeof(name), "%d", i);
		if (ksm_cg_extra(name, storm->group[i],
				 sizeof(storm->group[i])))
			storm->group[i][0] = '\0';
	}
}

/* What the two fault injectors are told once: ksmd only, and no messages. */
static void setup_faults(const char *what)
{
	static const char * const names[] = {
		"probability", "times", "task-filter", "verbose",
		"ignore-gfp-wait",
	};
	char path[128];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), FAULT_DIR "%s/%s", what,
			 names[i]);
		ksm_keep(path);
	}
	fault_put(what, "probability", 0);
	fault_put(what, "task-filter", 1);
	fault_put(what, "verbose", 0);
	fault_put(what, "ignore-gfp-wait", 0);
}

static void setup_all_faults(void)
{
	char path[64];

	setup_faults("failslab");
	setup_faults("fail_page_alloc");
	ksm_keep(FAULT_DIR "fail_page_alloc/min-order");
	fault_put("fail_page_alloc", "min-order", 0);
	snprintf(path, sizeof(path), "/proc/%d/make-it-fail", ksm_find_ksmd());
	ksm_keep(path);
	ksm_put_num(path, 1);
	/* Not asked for, but storm_faulty() may hit it, if it is there */
	if (!access(FAULT_DIR "fail_usercopy", F_OK)) {
		ksm_keep(FAULT_DIR "fail_usercopy/verbose");
		fault_put("fail_usercopy", "verbose", 0);
	}
}

static void drop_disk(void)
{
	if (getpid() == ksm_env()->pid)
		ksm_zram_drop(&disk);
}

/*
 * Swap, groups, a disk, and what else there is to play with; all of it goes
 * with the supervisor.
 */
void storm_admin_setup(void)
{
	ksm_main_setup();
	ksm_env_make(KSM_WITH_SWAP | KSM_WITH_CGROUP);
	atexit(drop_disk);
	if (!ksm_zram_make(&disk))
		snprintf(storm->disk, sizeof(storm->disk), "%s", disk.dev);
	else
		ksm_zram_drop(&disk);
	make_groups();
	find_nodes();
	storm->block_pages = ksm_block_pages();
	storm->nr_blocks = ksm_blocks_find(storm->block, STORM_BLOCKS,
					   OFFLINE_SECS);
	setup_all_faults();
	ksm_keep(HUGE_DIR "scan_sleep_millisecs");
	ksm_keep(HUGE_DIR "alloc_sleep_millisecs");
	ksm_put(HUGE_DIR "scan_sleep_millisecs", "200");
	ksm_put(HUGE_DIR "alloc_sleep_millisecs", "200");
	storm_say("swap: %s; groups: %s; disk: %s; memory blocks: %d; nodes: %d and %d",
		  ksm_env()->no_swap ?: "yes", ksm_env()->no_cg ?: "yes",
		  storm->disk[0] ? storm->disk : "no", storm->nr_blocks,
		  storm->nodes[0], storm->nodes[1]);
}

/* The administrators are gone: everything is there, nothing fails. */
void storm_admin_calm(void)
{
	int i;

	fault_put("failslab", "probability", 0);
	fault_put("fail_page_alloc", "probability", 0);
	for (i = 0; i < STORM_GROUPS; i++) {
		if (!storm->group[i][0])
			continue;
		ksm_cg_put(storm->group[i], "memory.max", "max");
		ksm_cg_put(storm->group[i], "memory.high", "max");
		ksm_cg_put(storm->group[i], "memory.swap.max", "max");
	}
	if (blocks_on())
		storm_say("a memory block stays offline");
	ksm_swap_on();
}
