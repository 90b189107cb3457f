// SPDX-License-Identifier: GPL-2.0
/*
 * The end of the storm: with all processes gone nothing may be left of KSM, no
 * page in any counter, no object in its slab caches, no memory without owner.
 */
#include "storm.h"

#define SLAB_DIR	"/sys/kernel/slab/"
#define KMEMLEAK	"/sys/kernel/debug/kmemleak"
#define MAX_CACHES	16
#define END_SECS	40

struct cache {
	char name[64];
	long long objects;	/* at the beginning */
};

static struct cache caches[MAX_CACHES];
static int nr_caches;
static long long zero_pages;

/* ---- slab caches --------------------------------------------------------- */

/* Objects of a cache, not counting those that processors keep for later. */
static long long count_objects(const char *name)
{
	char path[192];

	snprintf(path, sizeof(path), SLAB_DIR "%.64s/shrink", name);
	ksm_put(path, "1");
	snprintf(path, sizeof(path), SLAB_DIR "%.64s/objects", name);
	return ksm_read_num(path);
}

/* KSM's own; a link is a cache that others use as well (see slab_nomerge). */
static void find_caches(void)
{
	struct dirent *de;
	struct cache *c;
	DIR *dir;

	dir = opendir(SLAB_DIR);
	if (!dir)
		return;
	while ((de = readdir(dir)) && nr_caches < MAX_CACHES) {
		if (strncmp(de->d_name, "ksm_", 4) || de->d_type != DT_DIR)
			continue;
		c = &caches[nr_caches++];
		snprintf(c->name, sizeof(c->name), "%.63s", de->d_name);
		c->objects = count_objects(c->name);
	}
	closedir(dir);
}

static bool slabs_empty(void)
{
	int i;

	for (i = 0; i < nr_caches; i++)
		if (count_objects(caches[i].name) > caches[i].objects)
			return false;
	return true;
}

/* ---- the beginning ------------------------------------------------------- */

void storm_end_begin(void)
{
	zero_pages = ksm_get("ksm_zero_pages");
	find_caches();
	if (!access(KMEMLEAK, W_OK)) {
		/*
		 * Not on its own: while it looks, for minutes on a slow machine,
		 * no memory can go offline.
		 */
		ksm_put(KMEMLEAK, "scan=off");
		ksm_put(KMEMLEAK, "scan");
		ksm_put(KMEMLEAK, "clear");
	}
}

/* ---- the end ------------------------------------------------------------- */

static bool pages_zero(void)
{
	struct ksm_counters c;

	ksm_count(&c);
	/* The stock kernel loses count of zero pages that UFFDIO_MOVE moves. */
	return !c.shared && !c.sharing && !c.unshared && !c.vol &&
		(c.zero == zero_pages || !storm->ours);
}

static bool all_zero(void)
{
	struct ksm_counters c;

	ksm_count(&c);
	/* The stock kernel leaves some descriptions of merged pages behind. */
	return pages_zero() &&
		((!c.chains && !c.dups && !c.profit) || !storm->ours);
}

/*
 * With ksmd running, what processes have left goes of its own accord; after
 * run=2 nothing at all is left, which the profit tells: it is what is saved
 * less the bookkeeping, registrations of processes included.
 */
bool storm_end_counters(void)
{
	bool good = true;

	ksm_put_patiently("run", 1);
	ksm_put_text("advisor_mode", "none");
	ksm_put_text("pages_to_scan", "2000");
	ksm_put_text("sleep_millisecs", "1");
	/* The stock ksmd does not run when no process is registered. */
	if (storm->ours && !ksm_wait_for(pages_zero(), END_SECS)) {
		ksm_dump("with ksmd running");
		good = false;
	}
	if (ksm_put_patiently("run", 2)) {
		storm_say("cannot write 2 to run");
		good = false;
	}
	if (!ksm_wait_for(all_zero(), END_SECS)) {
		ksm_dump("after run=2");
		good = false;
	}
	return good;
}

bool storm_end_slabs(void)
{
	bool good = ksm_wait_for(slabs_empty() || !storm->ours, END_SECS);
	int i;

	if (!nr_caches)
		storm_say("no slab cache is KSM's alone");
	for (i = 0; i < nr_caches; i++)
		storm_say("slab cache %s: %lld objects, %lld at the beginning",
			  caches[i].name, count_objects(caches[i].name),
			  caches[i].objects);
	return good;
}

/* Memory that nothing points to; the first scan may take what is just moving. */
bool storm_end_leaks(void)
{
	char text[2048];
	int len;

	if (access(KMEMLEAK, W_OK)) {
		storm_say("no kmemleak in this kernel");
		return true;
	}
	ksm_put(KMEMLEAK, "scan");
	ksm_nap_us(6000000);
	ksm_put(KMEMLEAK, "scan");
	len = ksm_slurp(KMEMLEAK, text, sizeof(text));
	if (len > 0)
		storm_say("kmemleak: %.900s", text);
	return len <= 0;
}
