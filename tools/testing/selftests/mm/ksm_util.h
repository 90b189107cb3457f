/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Helpers shared by the KSM selftests.
 *
 * Nothing here ends the process or knows the test harness: every helper
 * hands back a value or a negative errno, so that it may be used in a test,
 * in a fixture and in a forked child alike.
 */
#ifndef KSM_UTIL_H
#define KSM_UTIL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE	67
#define PR_GET_MEMORY_MERGE	68
#endif
#ifndef MADV_MERGEABLE
#define MADV_MERGEABLE		12
#define MADV_UNMERGEABLE	13
#endif
#ifndef MADV_NOHUGEPAGE
#define MADV_NOHUGEPAGE		15
#endif

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(arr) (sizeof(arr) / sizeof((arr)[0]))
#endif

#define KSM_DIR		"/sys/kernel/mm/ksm/"
#define KSM_BAD		LLONG_MIN	/* "could not be read" */
#define KSM_WAIT_SECS	25		/* how long any condition may take */

/* Bits of a /proc/PID/pagemap entry. */
#define PM_BIT(n)	((uint64_t)1 << (n))
#define PM_SOFT_DIRTY	PM_BIT(55)
#define PM_EXCLUSIVE	PM_BIT(56)
#define PM_UFFD_WP	PM_BIT(57)
#define PM_FILE		PM_BIT(61)
#define PM_SWAPPED	PM_BIT(62)
#define PM_PRESENT	PM_BIT(63)
#define PM_PFN(entry)	((entry) & (PM_BIT(55) - 1))
#define PM_BAD		0ULL		/* pagemap could not be read */

/* Bits of a /proc/kpageflags entry. */
#ifndef KPF_ANON
#define KPF_ANON	12
#endif
#ifndef KPF_KSM
#define KPF_KSM		21
#endif

static inline size_t ksm_psize(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

/* ---- time and waiting ---------------------------------------------------- */

static inline double ksm_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static inline void ksm_nap_us(long us)
{
	struct timespec ts = { us / 1000000, (us % 1000000) * 1000 };

	nanosleep(&ts, NULL);
}

/*
 * How many times slower than usual the machine is, from the environment: a
 * kernel full of checks, on an emulated processor, needs more time for all.
 */
static inline int ksm_slowness(void)
{
	const char *text = getenv("KSM_SLOWNESS");
	int slowness = text ? atoi(text) : 1;

	return slowness > 1 ? slowness : 1;
}

/*
 * A limit for a wait, in seconds in which a machine of usual speed ran.  A
 * virtual one may stand still for a while, and find its clock a minute later.
 */
struct ksm_patience {
	double secs;
	double seen;		/* when we were last asked; 0: not yet */
};

/* Has the limit run out?  To be asked every now and then while waiting. */
static inline bool ksm_impatient(struct ksm_patience *left)
{
	double now = ksm_now(), step = left->seen ? now - left->seen : 0;

	left->secs -= (step < 1 ? step : 1) / ksm_slowness();
	left->seen = now;
	return left->secs <= 0;
}

/*
 * Evaluate an expression every other millisecond until it is true or @secs
 * have gone by.  Yields whether it came true.
 */
#define ksm_wait_for(expr, limit) ({				\
	struct ksm_patience __left = { .secs = (limit) };	\
	bool __ok, __last = false;				\
								\
	while (!(__ok = !!(expr)) && !__last) {			\
		ksm_nap_us(2000);				\
		__last = ksm_impatient(&__left);		\
	}							\
	__ok;							\
})

/* ---- small files --------------------------------------------------------- */

/* Read a small file as a string without its last newline; length or -errno. */
static inline int ksm_slurp(const char *path, char *buf, size_t size)
{
	size_t len = 0;
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (len + 1 < size) {
		n = read(fd, buf + len, size - 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int err = errno;

			close(fd);
			return -err;
		}
		if (!n)
			break;
		len += (size_t)n;
	}
	close(fd);
	buf[len] = '\0';
	if (len && buf[len - 1] == '\n')
		buf[--len] = '\0';
	return (int)len;
}

/* One write(2) of @len bytes; 0 or -errno. */
static inline int ksm_spit(const char *path, const char *text, size_t len)
{
	int fd, ret = 0;
	ssize_t n;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, text, len);
	if (n < 0)
		ret = -errno;
	else if ((size_t)n != len)
		ret = -EIO;
	if (close(fd) && !ret)
		ret = -errno;
	return ret;
}

/* ---- the files of KSM ---------------------------------------------------- */

static inline void ksm_path(char *path, size_t size, const char *name)
{
	snprintf(path, size, "%s%s", KSM_DIR, name);
}

static inline bool ksm_has(const char *name)
{
	char path[256];

	ksm_path(path, sizeof(path), name);
	return access(path, F_OK) == 0;
}

/* Text of a KSM file; its length or -errno. */
static inline int ksm_get_text(const char *name, char *buf, size_t size)
{
	char path[256];

	ksm_path(path, sizeof(path), name);
	return ksm_slurp(path, buf, size);
}

/* Value of a KSM file, KSM_BAD when it cannot be read or is no number. */
static inline long long ksm_get(const char *name)
{
	char buf[64], *end;
	long long val;

	if (ksm_get_text(name, buf, sizeof(buf)) <= 0)
		return KSM_BAD;
	errno = 0;
	val = strtoll(buf, &end, 10);
	if (errno == ERANGE && *buf != '-')
		return LLONG_MAX;	/* an unsigned long above the range */
	return (errno || *end) ? KSM_BAD : val;
}

/* Write a text to a KSM file, no reading back; 0 or -errno. */
static inline int ksm_put_text(const char *name, const char *text)
{
	char path[256];

	ksm_path(path, sizeof(path), name);
	return ksm_spit(path, text, strlen(text));
}

/* Write a number and see that it can be read back; 0, -errno, -EIO. */
static inline int ksm_set(const char *name, long long val)
{
	char text[32];
	int ret;

	snprintf(text, sizeof(text), "%lld", val);
	ret = ksm_put_text(name, text);
	if (ret)
		return ret;
	return ksm_get(name) == val ? 0 : -EIO;
}

/*
 * advisor_mode shows all modes with the one in force in brackets.  Copies
 * that one; 0 or -errno.
 */
static inline int ksm_get_advisor(char *buf, size_t size)
{
	char text[128], *from, *to;
	int ret;

	ret = ksm_get_text("advisor_mode", text, sizeof(text));
	if (ret < 0)
		return ret;
	from = strchr(text, '[');
	to = from ? strchr(from, ']') : NULL;
	if (!to || (size_t)(to - from) > size)
		return -EINVAL;
	*to = '\0';
	snprintf(buf, size, "%s", from + 1);
	return 0;
}

/* Choose an advisor mode and see that it is in force; 0, -errno, -EIO. */
static inline int ksm_set_advisor(const char *mode)
{
	char now[32];
	int ret;

	ret = ksm_put_text("advisor_mode", mode);
	if (!ret)
		ret = ksm_get_advisor(now, sizeof(now));
	if (!ret && strcmp(now, mode))
		ret = -EIO;
	return ret;
}

/* All read-only counters at one glance. */
struct ksm_counters {
	long long shared;		/* pages_shared */
	long long sharing;		/* pages_sharing */
	long long unshared;		/* pages_unshared */
	long long vol;			/* pages_volatile */
	long long scanned;		/* pages_scanned */
	long long skipped;		/* pages_skipped */
	long long chains;		/* stable_node_chains */
	long long dups;			/* stable_node_dups */
	long long zero;			/* ksm_zero_pages */
	long long profit;		/* general_profit */
	long long full_scans;
};

static inline void ksm_count(struct ksm_counters *c)
{
	c->shared = ksm_get("pages_shared");
	c->sharing = ksm_get("pages_sharing");
	c->unshared = ksm_get("pages_unshared");
	c->vol = ksm_get("pages_volatile");
	c->scanned = ksm_get("pages_scanned");
	c->skipped = ksm_get("pages_skipped");
	c->chains = ksm_get("stable_node_chains");
	c->dups = ksm_get("stable_node_dups");
	c->zero = ksm_get("ksm_zero_pages");
	c->profit = ksm_get("general_profit");
	c->full_scans = ksm_get("full_scans");
}

/* Tell all counters on stderr, for the log of a failed test. */
static inline void ksm_dump(const char *why)
{
	struct ksm_counters c;

	ksm_count(&c);
	fprintf(stderr,
		"# %s: run %lld full_scans %lld shared %lld sharing %lld unshared %lld volatile %lld scanned %lld skipped %lld chains %lld dups %lld zero %lld profit %lld\n",
		why, ksm_get("run"), c.full_scans, c.shared, c.sharing,
		c.unshared, c.vol, c.scanned, c.skipped, c.chains, c.dups,
		c.zero, c.profit);
}

/* ---- saving and restoring every setting ---------------------------------- */

#define KSM_NR_SETTINGS 13

/* run comes last: nothing may be scanned under half-restored settings. */
static const char * const ksm_setting_names[KSM_NR_SETTINGS] = {
	"merge_across_nodes", "max_page_sharing", "advisor_max_cpu",
	"advisor_min_pages_to_scan", "advisor_max_pages_to_scan",
	"advisor_target_scan_time", "pages_to_scan", "advisor_mode",
	"sleep_millisecs", "use_zero_pages", "smart_scan",
	"stable_node_chains_prune_millisecs", "run",
};

struct ksm_settings {
	bool saved;
	char text[KSM_NR_SETTINGS][64];	/* empty: the kernel has no such file */
};

static inline int ksm_save(struct ksm_settings *s)
{
	const char *name;
	int i, ret;

	memset(s, 0, sizeof(*s));
	for (i = 0; i < KSM_NR_SETTINGS; i++) {
		name = ksm_setting_names[i];
		if (!ksm_has(name))
			continue;
		if (!strcmp(name, "advisor_mode"))
			ret = ksm_get_advisor(s->text[i], sizeof(s->text[i]));
		else
			ret = ksm_get_text(name, s->text[i],
					   sizeof(s->text[i]));
		if (ret < 0)
			return ret;
	}
	s->saved = true;
	return 0;
}

/* Put one setting back and read it back; 0 or -errno. */
static inline int ksm_restore_one(const char *name, const char *text)
{
	char now[64];
	int ret;

	if (!strcmp(name, "advisor_mode"))
		return ksm_set_advisor(text);
	ret = ksm_put_text(name, text);
	if (!ret && ksm_get_text(name, now, sizeof(now)) < 0)
		ret = -EIO;
	if (!ret && strcmp(now, text))
		ret = -EIO;
	return ret;
}

/*
 * Put every setting back; 0 or the first error, after trying all of them.
 * With the scan-time advisor pages_to_scan belongs to the advisor and cannot
 * be written, so that one is left to it.
 */
static inline int ksm_restore(const struct ksm_settings *s)
{
	const char *name, *mode = "none";
	int i, ret, first = 0;

	if (!s->saved)
		return -EINVAL;
	for (i = 0; i < KSM_NR_SETTINGS; i++)
		if (!strcmp(ksm_setting_names[i], "advisor_mode"))
			mode = s->text[i];

	/* Two settings may change only while no page is merged. */
	ksm_put_text("run", "2");
	if (ksm_has("advisor_mode"))
		ksm_put_text("advisor_mode", "none");
	for (i = 0; i < KSM_NR_SETTINGS; i++) {
		name = ksm_setting_names[i];
		if (!s->text[i][0])
			continue;
		if (!strcmp(name, "pages_to_scan") && strcmp(mode, "none"))
			continue;
		ret = ksm_restore_one(name, s->text[i]);
		if (ret) {
			fprintf(stderr, "# cannot restore %s=%s: %s\n", name,
				s->text[i], strerror(-ret));
			first = first ? first : ret;
		}
	}
	return first;
}

/*
 * Write a number, again and again while the answer is EBUSY: a page may be
 * under I/O, or a process that has just ended may still hold one.
 */
static inline int ksm_put_patiently(const char *name, long long val)
{
	double end = ksm_now() + 10;
	char text[32];
	int ret;

	snprintf(text, sizeof(text), "%lld", val);
	while ((ret = ksm_put_text(name, text)) == -EBUSY && ksm_now() < end)
		ksm_nap_us(10000);
	return ret;
}

/*
 * The state every test begins with: nothing merged, full_scans 0, run 0, the
 * documented defaults, but a ksmd that makes a whole pass each millisecond.
 * 0 or the first error.
 */
static inline int ksm_baseline(void)
{
	static const struct {
		const char *name;
		long long val;
	} base[] = {
		{ "max_page_sharing", 256 }, { "merge_across_nodes", 1 },
		{ "pages_to_scan", 200000 }, { "sleep_millisecs", 1 },
		{ "use_zero_pages", 0 }, { "smart_scan", 1 },
		{ "stable_node_chains_prune_millisecs", 2000 },
	};
	unsigned int i;
	int ret;

	ret = ksm_put_patiently("run", 2);
	if (!ret && ksm_has("advisor_mode"))
		ret = ksm_set_advisor("none");
	for (i = 0; !ret && i < ARRAY_SIZE(base); i++) {
		if (!ksm_has(base[i].name))
			continue;
		ret = ksm_put_patiently(base[i].name, base[i].val);
		if (!ret && ksm_get(base[i].name) != base[i].val)
			ret = -EIO;
		if (ret)
			fprintf(stderr, "# %s=%lld: %s\n", base[i].name,
				base[i].val, strerror(-ret));
	}
	if (ret)
		return ret;
	return ksm_set("run", 0);
}

/* ---- ksmd ---------------------------------------------------------------- */

static inline int ksm_start(void)
{
	return ksm_set("run", 1);
}

/* Returns with ksmd out of its batch: counters stand still from here on. */
static inline int ksm_stop(void)
{
	return ksm_set("run", 0);
}

/* Unshare everything; 0 or -errno of the write. */
static inline int ksm_unshare_all(void)
{
	return ksm_put_text("run", "2");
}

/* Wait until full_scans has risen by @n from now; 0 or -ETIMEDOUT. */
static inline int ksm_wait_passes(int n)
{
	long long from = ksm_get("full_scans");

	if (from == KSM_BAD)
		return -ENOENT;
	if (ksm_wait_for(ksm_get("full_scans") >= from + n, KSM_WAIT_SECS))
		return 0;
	fprintf(stderr, "# waited for full_scans %lld, it is %lld\n",
		from + n, ksm_get("full_scans"));
	ksm_dump("no passes");
	return -ETIMEDOUT;
}

/*
 * Start ksmd, let full_scans rise by @n, stop ksmd.  One more pass may have
 * begun, and if ksmd was stopped within a pass the first rise ends that one.
 */
static inline int ksm_scan(int n)
{
	int ret, err;

	ret = ksm_start();
	if (!ret)
		ret = ksm_wait_passes(n);
	err = ksm_stop();
	return ret ? ret : err;
}

/*
 * The passes after which whatever can merge has merged and every counter
 * has settled, whatever place ksmd stood at before: two complete ones after
 * the rest of the current one, and two quiet ones.
 */
static inline int ksm_scan_settle(void)
{
	return ksm_scan(5);
}

/* Process id of the thread named ksmd, 0 when there is none. */
static inline pid_t ksm_find_ksmd(void)
{
	char path[64], name[32];
	struct dirent *de;
	pid_t pid = 0;
	DIR *dir;

	dir = opendir("/proc");
	if (!dir)
		return 0;
	while (!pid && (de = readdir(dir))) {
		if (!isdigit((unsigned char)de->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/comm", de->d_name);
		if (ksm_slurp(path, name, sizeof(name)) > 0 &&
		    !strcmp(name, "ksmd"))
			pid = atoi(de->d_name);
	}
	closedir(dir);
	return pid;
}

/* Does ksmd sleep (or is there nothing to be seen of it)? */
static inline bool ksm_asleep(void)
{
	static pid_t ksmd;
	char path[64], stat[256], *state;

	if (!ksmd)
		ksmd = ksm_find_ksmd();
	snprintf(path, sizeof(path), "/proc/%d/stat", ksmd);
	if (ksm_slurp(path, stat, sizeof(stat)) <= 0)
		return true;
	state = strrchr(stat, ')');
	return !state || state[2] == 'S' || state[2] == 'I';
}

/*
 * Have ksmd begin one batch, after which it sleeps; 0 or -errno.  The new pause
 * is one that was never used before: a ksmd that is slow to wake up must not
 * find the value that it went to sleep with.
 */
static inline int ksm_poke(void)
{
	long long pause = 600000 + (long long)(ksm_now() * 1000) % 1000000000;
	int ret;

	if (!ksm_wait_for(ksm_asleep(), KSM_WAIT_SECS))
		return -ETIMEDOUT;
	if (pause <= ksm_get("sleep_millisecs"))
		pause = ksm_get("sleep_millisecs") + 1;
	ret = ksm_set("sleep_millisecs", pause);
	if (!ret && ksm_get("run") != 1)
		ret = ksm_start();
	return ret;
}

/* One pass of ksm_step(); 0 or -errno. */
static inline int ksm_step_one(void)
{
	long long from = ksm_get("full_scans");
	int ret = ksm_poke();

	if (ret)
		return ret;
	if (ksm_wait_for(ksm_get("full_scans") > from, KSM_WAIT_SECS) &&
	    ksm_wait_for(ksm_asleep(), KSM_WAIT_SECS))
		return 0;
	ksm_dump("no pass");
	return -ETIMEDOUT;
}

/*
 * Let ksmd make @n full passes and then sleep, with all counters at rest.
 * For this ksmd gets a very long sleep, and batches that a whole pass fits
 * into: a changed sleep_millisecs wakes it for the next batch.  To be begun
 * while ksmd is stopped; ksm_stop() ends it.  0 or -errno.
 */
static inline int ksm_step(int n)
{
	int ret = 0;

	while (!ret && n-- > 0)
		ret = ksm_step_one();
	return ret;
}

/* ---- /proc of a process; pid 0 means the caller -------------------------- */

static inline void ksm_proc_path(char *path, size_t size, pid_t pid,
				 const char *file)
{
	if (pid)
		snprintf(path, size, "/proc/%d/%s", pid, file);
	else
		snprintf(path, size, "/proc/self/%s", file);
}

/* The rest of the line that starts with @key, without blanks; 0 or -errno. */
static inline int ksm_find_line(FILE *f, const char *key, char *buf,
				size_t size)
{
	size_t len = strlen(key);
	char line[512], *val;

	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, len) ||
		    (line[len] != ' ' && line[len] != ':' &&
		     line[len] != '\t'))
			continue;
		val = line + len + (line[len] == ':');
		while (*val == ' ' || *val == '\t')
			val++;
		val[strcspn(val, "\n")] = '\0';
		snprintf(buf, size, "%s", val);
		return 0;
	}
	return -ENOENT;
}

/* Text after @key in a /proc file of lines "key value"; 0 or -errno. */
static inline int ksm_proc_text(pid_t pid, const char *file, const char *key,
				char *buf, size_t size)
{
	char path[96];
	FILE *f;
	int ret;

	ksm_proc_path(path, sizeof(path), pid, file);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	ret = ksm_find_line(f, key, buf, size);
	fclose(f);
	return ret;
}

/* Number after @key; KSM_BAD when there is none. */
static inline long long ksm_proc_num(pid_t pid, const char *file,
				     const char *key)
{
	char buf[128], *end;
	long long val;

	if (ksm_proc_text(pid, file, key, buf, sizeof(buf)))
		return KSM_BAD;
	val = strtoll(buf, &end, 10);
	return end == buf ? KSM_BAD : val;
}

/* A number of /proc/PID/ksm_stat, for instance "ksm_rmap_items". */
static inline long long ksm_stat(pid_t pid, const char *key)
{
	return ksm_proc_num(pid, "ksm_stat", key);
}

/* /proc/PID/ksm_merging_pages; KSM_BAD when it cannot be read. */
static inline long long ksm_merging(pid_t pid)
{
	char path[64], buf[32];

	ksm_proc_path(path, sizeof(path), pid, "ksm_merging_pages");
	return ksm_slurp(path, buf, sizeof(buf)) > 0 ? atoll(buf) : KSM_BAD;
}

/* A kB value of /proc/PID/status, for instance "RssAnon". */
static inline long long ksm_status_kb(pid_t pid, const char *key)
{
	return ksm_proc_num(pid, "status", key);
}

/* A counter of /proc/vmstat. */
static inline long long ksm_vmstat(const char *key)
{
	char buf[64];
	FILE *f;
	int ret;

	f = fopen("/proc/vmstat", "re");
	if (!f)
		return KSM_BAD;
	ret = ksm_find_line(f, key, buf, sizeof(buf));
	fclose(f);
	return ret ? KSM_BAD : atoll(buf);
}

/* Text after @key in the smaps entry of the area around @addr. */
static inline int ksm_smaps_text(pid_t pid, const void *addr, const char *key,
				 char *buf, size_t size)
{
	unsigned long from, to, at = (unsigned long)addr;
	char path[64], line[512];
	int ret = -ENOENT;
	FILE *f;

	ksm_proc_path(path, sizeof(path), pid, "smaps");
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		/* Keys start with a capital, so only headers parse. */
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2 &&
		    at >= from && at < to) {
			ret = ksm_find_line(f, key, buf, size);
			break;
		}
	}
	fclose(f);
	return ret;
}

/* A kB value of smaps, for instance "KSM"; KSM_BAD when there is none. */
static inline long long ksm_smaps_kb(pid_t pid, const void *addr,
				     const char *key)
{
	char buf[128];

	return ksm_smaps_text(pid, addr, key, buf, sizeof(buf)) ?
		KSM_BAD : atoll(buf);
}

/* Is a two-letter flag, for instance "mg", in VmFlags?  1, 0 or -errno. */
static inline int ksm_vmflag(pid_t pid, const void *addr, const char *flag)
{
	char buf[256], *word, *save;
	int ret;

	ret = ksm_smaps_text(pid, addr, "VmFlags", buf, sizeof(buf));
	if (ret)
		return ret;
	for (word = strtok_r(buf, " ", &save); word;
	     word = strtok_r(NULL, " ", &save))
		if (!strcmp(word, flag))
			return 1;
	return 0;
}

/* Number of areas of the process that carry the "mg" flag; -errno. */
static inline int ksm_count_mg(pid_t pid)
{
	char path[64], line[512];
	int count = 0;
	FILE *f;

	ksm_proc_path(path, sizeof(path), pid, "smaps");
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, "VmFlags:", 8) && strstr(line, " mg"))
			count++;
	fclose(f);
	return count;
}

/*
 * Number of processes, the caller and its children left out, that have
 * mergeable areas: with any of them system-wide counters are not ours.
 */
static inline int ksm_strangers(void)
{
	int count = 0, ppid, pid;
	struct dirent *de;
	DIR *dir;

	dir = opendir("/proc");
	if (!dir)
		return -errno;
	while ((de = readdir(dir))) {
		pid = atoi(de->d_name);
		if (pid <= 0 || pid == getpid())
			continue;
		ppid = (int)ksm_proc_num(pid, "status", "PPid");
		if (ppid != getpid() && ksm_count_mg(pid) > 0)
			count++;
	}
	closedir(dir);
	return count;
}

/* ---- frames -------------------------------------------------------------- */

/* The pagemap entry of an address; PM_BAD (0) is also "nothing mapped". */
static inline uint64_t ksm_pagemap(pid_t pid, const void *addr)
{
	off_t at = (off_t)((unsigned long)addr / ksm_psize() * 8);
	uint64_t entry = PM_BAD;
	char path[64];
	int fd;

	ksm_proc_path(path, sizeof(path), pid, "pagemap");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return PM_BAD;
	if (pread(fd, &entry, sizeof(entry), at) != sizeof(entry))
		entry = PM_BAD;
	close(fd);
	return entry;
}

/* Frame number behind an address; 0 when not present or not readable. */
static inline uint64_t ksm_pfn(pid_t pid, const void *addr)
{
	uint64_t entry = ksm_pagemap(pid, addr);

	return (entry & PM_PRESENT) ? PM_PFN(entry) : 0;
}

/* Bit of /proc/kpageflags of a frame; 0, 1 or -errno. */
static inline int ksm_kpf(uint64_t pfn, int bit)
{
	uint64_t flags;
	ssize_t n;
	int fd;

	if (!pfn)
		return -EFAULT;
	fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = pread(fd, &flags, sizeof(flags), (off_t)(pfn * sizeof(flags)));
	close(fd);
	return n == sizeof(flags) ? (int)(flags >> bit & 1) : -EIO;
}

/* Do two addresses of the caller lie in one present frame? */
static inline bool ksm_same_frame(const void *a, const void *b)
{
	uint64_t pfn = ksm_pfn(0, a);

	return pfn && pfn == ksm_pfn(0, b);
}

/* How many of the @n pages from @p on lie in the frame of the first one. */
static inline size_t ksm_count_same(const char *p, size_t n)
{
	uint64_t pfn = ksm_pfn(0, p);
	size_t i, same = 0;

	for (i = 0; pfn && i < n; i++)
		same += ksm_pfn(0, p + i * ksm_psize()) == pfn;
	return same;
}

/* Number of distinct present frames among the @n pages from @p on. */
static inline size_t ksm_count_frames(const char *p, size_t n)
{
	size_t i, j, count = 0, nr = 0;
	uint64_t *seen, pfn;

	seen = calloc(n ? n : 1, sizeof(*seen));
	if (!seen)
		return 0;
	for (i = 0; i < n; i++) {
		pfn = ksm_pfn(0, p + i * ksm_psize());
		for (j = 0; j < nr && seen[j] != pfn; j++)
			;
		if (!pfn || j < nr)
			continue;
		seen[nr++] = pfn;
		count++;
	}
	free(seen);
	return count;
}

/* Keep the compiler from moving or dropping accesses to memory. */
static inline void ksm_barrier(void)
{
	__asm__ __volatile__("" : : : "memory");
}

/* Read one byte. */
static inline void ksm_touch(const void *p)
{
	char c = *(const char *)p;

	__asm__ __volatile__("" : : "r" (c) : "memory");
}

/* Frame of the shared zero page; 0 when it cannot be found out. */
static inline uint64_t ksm_zero_pfn(void)
{
	uint64_t pfn = 0;
	char *p;

	p = mmap(NULL, ksm_psize(), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return 0;
	madvise(p, ksm_psize(), MADV_NOHUGEPAGE);
	ksm_touch(p);
	pfn = ksm_pfn(0, p);
	munmap(p, ksm_psize());
	return pfn;
}

/* ---- memory and its contents --------------------------------------------- */

/* Private anonymous memory in small pages, not touched; NULL on failure. */
static inline char *ksm_map(size_t npages)
{
	size_t len = npages * ksm_psize();
	char *p;

	p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	madvise(p, len, MADV_NOHUGEPAGE);	/* fails without THP: fine */
	return p;
}

static inline void ksm_unmap(void *p, size_t npages)
{
	if (p)
		munmap(p, npages * ksm_psize());
}

/* madvise() over whole pages; 0 or -errno. */
static inline int ksm_advise(void *p, size_t npages, int advice)
{
	return madvise(p, npages * ksm_psize(), advice) ? -errno : 0;
}

static inline int ksm_mergeable(void *p, size_t npages)
{
	return ksm_advise(p, npages, MADV_MERGEABLE);
}

static inline int ksm_unmergeable(void *p, size_t npages)
{
	return ksm_advise(p, npages, MADV_UNMERGEABLE);
}

/* The word at place @i of the page whose content is called @seed. */
static inline uint64_t ksm_word(uint64_t seed, size_t i)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ULL + i * 0xbf58476d1ce4e5b9ULL;

	x ^= x >> 29;
	x *= 0x94d049bb133111ebULL;
	return x ^ x >> 32;
}

/* Fill one page with content @seed: equal seeds, equal bytes. */
static inline void ksm_fill(void *page, uint64_t seed)
{
	uint64_t *w = page;
	size_t i, n = ksm_psize() / sizeof(*w);

	for (i = 0; i < n; i++)
		w[i] = ksm_word(seed, i);
	ksm_barrier();
}

/* Is every byte of the page still that of content @seed? */
static inline bool ksm_is(const void *page, uint64_t seed)
{
	const uint64_t *w = page;
	size_t i, n = ksm_psize() / sizeof(*w);

	ksm_barrier();
	for (i = 0; i < n; i++)
		if (w[i] != ksm_word(seed, i))
			return false;
	return true;
}

/* Page i gets content seed + i * step: step 0 makes them all twins. */
static inline void ksm_fill_range(char *p, size_t npages, uint64_t seed,
				  uint64_t step)
{
	size_t i;

	for (i = 0; i < npages; i++)
		ksm_fill(p + i * ksm_psize(), seed + i * step);
}

/* Number of pages of the range that differ from what ksm_fill_range() put. */
static inline size_t ksm_count_bad(const char *p, size_t npages, uint64_t seed,
				   uint64_t step)
{
	size_t i, bad = 0;

	for (i = 0; i < npages; i++)
		bad += !ksm_is(p + i * ksm_psize(), seed + i * step);
	return bad;
}

/* Mapped, filled and registered; NULL on failure. */
static inline char *ksm_map_filled(size_t npages, uint64_t seed, uint64_t step)
{
	char *p = ksm_map(npages);

	if (!p)
		return NULL;
	ksm_fill_range(p, npages, seed, step);
	if (!ksm_mergeable(p, npages))
		return p;
	ksm_unmap(p, npages);
	return NULL;
}

/* ---- children ------------------------------------------------------------ */

/*
 * A child that runs a function and talks with its parent in ints over two
 * pipes.  It dies with its parent.
 */
struct ksm_child {
	pid_t pid;		/* 0 in the child itself, or when not started */
	int in;			/* read end: what the other side said */
	int out;		/* write end */
	void *arg;
};

static inline int ksm_say(struct ksm_child *c, int val)
{
	ssize_t n;

	do {
		n = write(c->out, &val, sizeof(val));
	} while (n < 0 && errno == EINTR);
	return n == sizeof(val) ? 0 : -EPIPE;
}

/* Print where in the kernel a process is, for a log that nobody can ask. */
static inline void ksm_tell_where(const char *who, pid_t pid)
{
	static const char * const files[] = { "stat", "wchan", "stack" };
	char path[64], text[2048];
	char *line, *rest;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", pid, files[i]);
		if (ksm_slurp(path, text, sizeof(text)) < 0)
			continue;
		rest = text;
		while ((line = strsep(&rest, "\n")))
			printf("# %s: %s: %s\n", who, files[i], line);
	}
}

/* Wait for an int from the other side; 0, -ETIMEDOUT, or -EPIPE if it left. */
static inline int ksm_hear(struct ksm_child *c, int *val)
{
	struct ksm_patience left = { .secs = 2 * KSM_WAIT_SECS };
	struct pollfd pfd = { .fd = c->in, .events = POLLIN };
	ssize_t n;
	int ret;

	do {
		ret = poll(&pfd, 1, 200);
		if (ret <= 0 || !(pfd.revents & (POLLIN | POLLHUP)))
			continue;
		n = read(c->in, val, sizeof(*val));
		if (n == sizeof(*val))
			return 0;
		if (n >= 0 || errno != EINTR)
			return -EPIPE;
	} while (!ksm_impatient(&left));
	if (c->pid) {
		ksm_tell_where("silent child", c->pid);
		ksm_tell_where("ksmd", ksm_find_ksmd());
	}
	return -ETIMEDOUT;
}

/* Say something, then wait for the answer; the answer or a negative errno. */
static inline int ksm_ask(struct ksm_child *c, int val)
{
	int ret, answer;

	ret = ksm_say(c, val);
	if (!ret)
		ret = ksm_hear(c, &answer);
	return ret ? ret : answer;
}

/*
 * Fork a child that runs fn(c) and exits with what it returns (0..255).
 * 0 or -errno.
 */
static inline int ksm_spawn(struct ksm_child *c, int (*fn)(struct ksm_child *),
			    void *arg)
{
	pid_t parent = getpid();
	int down[2], up[2];

	memset(c, 0, sizeof(*c));
	c->arg = arg;
	if (pipe2(down, O_CLOEXEC))
		return -errno;
	if (pipe2(up, O_CLOEXEC)) {
		close(down[0]);
		close(down[1]);
		return -EMFILE;
	}
	fflush(stdout);
	fflush(stderr);
	c->pid = fork();
	if (!c->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(255);
		signal(SIGPIPE, SIG_IGN);
		alarm(0);
		close(down[1]);
		close(up[0]);
		c->in = down[0];
		c->out = up[1];
		_exit(fn(c));
	}
	close(down[0]);
	close(up[1]);
	c->in = up[0];
	c->out = down[1];
	if (c->pid < 0) {
		close(c->in);
		close(c->out);
		memset(c, 0, sizeof(*c));
		return -EAGAIN;
	}
	return 0;
}

/*
 * Close the pipes and wait for the child; its exit code, -EINTR when a signal
 * ended it, -ETIMEDOUT when it had to be killed, -ECHILD when none was
 * started.
 */
static inline int ksm_reap(struct ksm_child *c)
{
	struct ksm_patience left = { .secs = KSM_WAIT_SECS };
	bool killed = false;
	pid_t ret;
	int status;

	if (c->pid <= 0)
		return -ECHILD;
	close(c->in);
	close(c->out);
	while (!(ret = waitpid(c->pid, &status, WNOHANG)) &&
	       !ksm_impatient(&left))
		ksm_nap_us(2000);
	if (!ret) {
		killed = true;
		ksm_tell_where("child that does not end", c->pid);
		kill(c->pid, SIGKILL);
		ret = waitpid(c->pid, &status, 0);
	}
	c->pid = 0;
	if (ret < 0)
		return -ECHILD;
	if (killed)
		return -ETIMEDOUT;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

/* Kill the child and reap it. */
static inline void ksm_kill(struct ksm_child *c)
{
	if (c->pid <= 0)
		return;
	kill(c->pid, SIGKILL);
	ksm_reap(c);
}

/* ---- what a test needs --------------------------------------------------- */

/* NULL when KSM can be driven, else the reason why not. */
static inline const char *ksm_missing(void)
{
	uint64_t probe = 1;

	if (!ksm_has("run"))
		return "no KSM in this kernel, or sysfs not mounted";
	if (geteuid())
		return "needs root";
	if (!(ksm_pagemap(0, &probe) & PM_PRESENT) || !ksm_pfn(0, &probe))
		return "frame numbers not readable in /proc/self/pagemap";
	/* The children of a failed test may be about to vanish. */
	if (!ksm_wait_for(ksm_strangers() <= 0, 3))
		return "other processes have mergeable memory";
	return NULL;
}

/* What main() keeps: the settings as they were, and a lock. */
struct ksm_main {
	struct ksm_settings settings;
	pid_t pid;
};

static inline struct ksm_main *ksm_main(void)
{
	static struct ksm_main m;

	return &m;
}

static inline void ksm_main_restore(void)
{
	struct ksm_main *m = ksm_main();

	if (getpid() != m->pid || !m->settings.saved)
		return;
	if (ksm_restore(&m->settings))
		_exit(1);	/* as good as a failed test */
}

static inline void ksm_main_signal(int sig)
{
	ksm_main_restore();
	_exit(128 + sig);
}

static inline void ksm_stretch_timeouts(void)
{
#ifdef __KSELFTEST_HARNESS_H
	struct __fixture_metadata *f;
	struct __test_metadata *t;

	for (f = __fixture_list; f; f = f->next) {
		for (t = f->tests; t; t = t->next)
			t->timeout *= ksm_slowness();
	}
#endif
}

/*
 * To be called by main() before test_harness_run(): saves all settings and
 * sees to it that they come back.  The lock keeps two programs that use this
 * from spoiling each other's counts.
 */
static inline void ksm_main_setup(void)
{
	struct ksm_main *m = ksm_main();
	int fd;

	ksm_stretch_timeouts();
	m->pid = getpid();
	fd = open(KSM_DIR "run", O_RDONLY | O_CLOEXEC);
	if (geteuid() || fd < 0)
		return;
	flock(fd, LOCK_EX);	/* held until the last process has exited */
	if (ksm_save(&m->settings))
		return;
	atexit(ksm_main_restore);
	signal(SIGINT, ksm_main_signal);
	signal(SIGTERM, ksm_main_signal);
	signal(SIGHUP, ksm_main_signal);
}

/*
 * For a FIXTURE_TEARDOWN(): what was seen, if the test did not pass, then
 * nothing merged and ksmd stopped.
 */
static inline void ksm_finish(bool passed)
{
	if (!passed)
		ksm_dump("at the end of the failed test");
	ksm_unshare_all();
	ksm_stop();
}

#endif /* KSM_UTIL_H */
