// SPDX-License-Identifier: GPL-2.0
/*
 * Everything of KSM that programs read or write by name: the files in sysfs
 * with their modes, formats and defaults, the lines in /proc, the counters in
 * vmstat, the tracepoints and the thread.  What may be written, and what is
 * refused, is in ksm_input_test.c.
 */
#include "../kselftest_harness.h"
#include "ksm_util.h"
#include "ksm_env.h"

#include <sys/resource.h>
#include <sys/syscall.h>

#define NR_PAGES	16

/* pages_scanned when the program began: 0 in a kernel fresh from boot. */
static long long scanned_at_start;

FIXTURE(abi)
{
	int unused;
};

FIXTURE_SETUP(abi)
{
	const char *why = ksm_missing();

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
}

FIXTURE_TEARDOWN(abi)
{
	prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0);
	ksm_finish(__test_passed(_metadata));
}

/* ---- sysfs --------------------------------------------------------------- */

/* A file of KSM that holds a number. */
struct number {
	const char *name;
	bool writable;
	bool negative;		/* may be */
	bool optional;		/* absent in some configurations */
	const char *initial;	/* right after boot; NULL: not told */
};

static const struct number numbers[] = {
	{ .name = "run", .writable = true, .initial = "0" },
	{ .name = "pages_to_scan", .writable = true, .initial = "100" },
	{ .name = "sleep_millisecs", .writable = true, .initial = "20" },
	{ .name = "merge_across_nodes", .writable = true, .optional = true,
	  .initial = "1" },
	{ .name = "use_zero_pages", .writable = true, .initial = "0" },
	{ .name = "max_page_sharing", .writable = true, .initial = "256" },
	{ .name = "smart_scan", .writable = true, .initial = "1" },
	{ .name = "stable_node_chains_prune_millisecs", .writable = true,
	  .initial = "2000" },
	{ .name = "advisor_max_cpu", .writable = true, .initial = "70" },
	{ .name = "advisor_min_pages_to_scan", .writable = true,
	  .initial = "500" },
	{ .name = "advisor_max_pages_to_scan", .writable = true,
	  .initial = "30000" },
	{ .name = "advisor_target_scan_time", .writable = true,
	  .initial = "200" },
	{ .name = "pages_shared" },
	{ .name = "pages_sharing" },
	{ .name = "pages_unshared" },
	{ .name = "pages_volatile", .negative = true },
	{ .name = "pages_scanned" },
	{ .name = "pages_skipped" },
	{ .name = "full_scans" },
	{ .name = "stable_node_chains" },
	{ .name = "stable_node_dups" },
	{ .name = "ksm_zero_pages", .negative = true },
	{ .name = "general_profit", .negative = true },
};

/* The exact bytes of a file; their number or -errno. */
static int read_raw(const char *path, char *buf, size_t size)
{
	ssize_t n, more;
	char c;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, size - 1);
	if (n < 0)
		n = -errno;
	else
		buf[n] = '\0';
	more = read(fd, &c, 1);
	close(fd);
	return more ? -EFBIG : (int)n;
}

/* Digits and a newline, maybe a minus before, and no more. */
static bool is_number_line(const char *text, bool negative)
{
	size_t digits;

	if (negative && *text == '-')
		text++;
	digits = strspn(text, "0123456789");
	if (!digits || (digits > 1 && *text == '0'))
		return false;
	return !strcmp(text + digits, "\n");
}

/* All files are there, with the modes and formats that programs rely on. */
TEST_F(abi, sysfs_files)
{
	char path[128], text[128];
	struct stat st;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		const struct number *f = &numbers[i];

		if (f->optional && !ksm_has(f->name))
			continue;
		ksm_path(path, sizeof(path), f->name);
		ASSERT_EQ(0, stat(path, &st)) {
			TH_LOG("%s is missing", f->name);
		}
		EXPECT_EQ(f->writable ? 0644 : 0444, st.st_mode & 07777) {
			TH_LOG("mode of %s", f->name);
		}
		EXPECT_EQ(0, st.st_uid);
		EXPECT_GT(read_raw(path, text, sizeof(text)), 0);
		EXPECT_TRUE(is_number_line(text, f->negative)) {
			TH_LOG("%s reads as \"%s\"", f->name, text);
		}
	}
	ksm_path(path, sizeof(path), "advisor_mode");
	ASSERT_EQ(0, stat(path, &st));
	EXPECT_EQ(0644, st.st_mode & 07777);
	EXPECT_GT(read_raw(path, text, sizeof(text)), 0);
	EXPECT_STREQ("[none] scan-time\n", text);
}

/* What the files say before anybody has used KSM. */
TEST_F(abi, defaults_after_boot)
{
	const struct ksm_settings *s = &ksm_main()->settings;
	unsigned int i, j;

	if (scanned_at_start)
		SKIP(return, "KSM has been in use since the boot");
	ASSERT_TRUE(s->saved);
	for (i = 0; i < KSM_NR_SETTINGS; i++) {
		if (!strcmp(ksm_setting_names[i], "advisor_mode"))
			EXPECT_STREQ("none", s->text[i]);
		for (j = 0; j < ARRAY_SIZE(numbers); j++) {
			if (strcmp(ksm_setting_names[i], numbers[j].name))
				continue;
			if (numbers[j].optional && !s->text[i][0])
				continue;
			EXPECT_STREQ(numbers[j].initial, s->text[i]) {
				TH_LOG("%s", numbers[j].name);
			}
		}
	}
}

/* A file opened for reading keeps giving fresh values from its start. */
TEST_F(abi, read_again_through_one_descriptor)
{
	char path[128], text[16] = { 0 };
	int fd;

	ksm_path(path, sizeof(path), "sleep_millisecs");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 123));
	EXPECT_EQ(4, pread(fd, text, sizeof(text) - 1, 0));
	EXPECT_STREQ("123\n", text);
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 9));
	memset(text, 0, sizeof(text));
	EXPECT_EQ(2, pread(fd, text, sizeof(text) - 1, 0));
	EXPECT_STREQ("9\n", text);
	close(fd);
}

/* Reads every file; 0, or which one went wrong. */
static int ordinary_user(struct ksm_child *c)
{
	pid_t parent = getppid();
	char path[128], text[64];
	unsigned int i;

	(void)c;
	if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
		return 250;
	prctl(PR_SET_DUMPABLE, 1);
	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		if (numbers[i].optional && !ksm_has(numbers[i].name))
			continue;
		if (ksm_get(numbers[i].name) == KSM_BAD)
			return 1 + (int)i;
	}
	if (ksm_get_text("advisor_mode", text, sizeof(text)) <= 0)
		return 200;
	if (ksm_merging(0) != 0 || ksm_stat(0, "ksm_rmap_items") != 0)
		return 202;
	/* Of another one's process, nothing. */
	snprintf(path, sizeof(path), "/proc/%d/ksm_stat", parent);
	if (ksm_slurp(path, text, sizeof(text)) != -EACCES)
		return 203;
	snprintf(path, sizeof(path), "/proc/%d/ksm_merging_pages", parent);
	if (ksm_slurp(path, text, sizeof(text)) != -EACCES)
		return 204;
	return 0;
}

TEST_F(abi, ordinary_user_reads)
{
	struct ksm_child c = { 0 };

	ASSERT_EQ(0, ksm_spawn(&c, ordinary_user, NULL));
	EXPECT_EQ(0, ksm_reap(&c));
}

/* ---- what the settings do ------------------------------------------------ */

/* B115: a new sleep_millisecs ends the sleep that ksmd is in. */
TEST_F_TIMEOUT(abi, new_sleep_wakes_at_once, 60)
{
	long long from;
	double start;
	char *p;
	int i;

	p = ksm_map_filled(NR_PAGES, 1, 1);
	ASSERT_NE(NULL, p);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, ksm_set("sleep_millisecs", 3600000));
		if (!i)
			ASSERT_EQ(0, ksm_start());
		/* It is asleep when half a second passes without a pass. */
		do {
			from = ksm_get("full_scans");
		} while (ksm_wait_for(ksm_get("full_scans") != from, 0.5));
		start = ksm_now();
		ASSERT_EQ(0, ksm_set("sleep_millisecs", 1));
		EXPECT_TRUE(ksm_wait_for(ksm_get("full_scans") > from, 10));
		EXPECT_LT(ksm_now() - start, 5);
	}
	ksm_unmap(p, NR_PAGES);
}

/*
 * B122: every page that was looked at counts once.  With smart_scan=0 that
 * is every page in every pass, with smart_scan=1 some are skipped, and told.
 */
TEST_F_TIMEOUT(abi, scanned_and_skipped, 60)
{
	long long scanned, skipped;
	char *p;

	p = ksm_map_filled(64, 100, 1);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	ASSERT_EQ(0, ksm_step(3));
	scanned = ksm_get("pages_scanned");
	skipped = ksm_get("pages_skipped");
	ASSERT_EQ(0, ksm_step(6));
	EXPECT_EQ(scanned + 6 * 64, ksm_get("pages_scanned"));
	EXPECT_EQ(skipped, ksm_get("pages_skipped"));

	ASSERT_EQ(0, ksm_stop());
	ASSERT_EQ(0, ksm_set("smart_scan", 1));
	ASSERT_EQ(0, ksm_step(20));
	EXPECT_GT(ksm_get("pages_skipped"), skipped);

	/* In small batches just the same. */
	ASSERT_EQ(0, ksm_stop());
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	ASSERT_EQ(0, ksm_step(1));
	scanned = ksm_get("pages_scanned");
	ASSERT_EQ(0, ksm_stop());
	ASSERT_EQ(0, ksm_set("pages_to_scan", 10));
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 1));
	ASSERT_EQ(0, ksm_scan(4));
	EXPECT_GE(ksm_get("pages_scanned"), scanned + 4 * 64 - 10);
	ksm_unmap(p, 64);
}

/* The advisor's two faces: what is shown, and who sets pages_to_scan. */
TEST_F_TIMEOUT(abi, advisor_owns_pages_to_scan, 60)
{
	long long now;
	char text[64];
	char *p;
	int i;

	/* Naming the mode that is in force already changes nothing. */
	ASSERT_EQ(0, ksm_set("pages_to_scan", 777));
	ASSERT_EQ(0, ksm_put_text("advisor_mode", "none"));
	EXPECT_EQ(777, ksm_get("pages_to_scan"));

	ASSERT_EQ(0, ksm_set("advisor_min_pages_to_scan", 600));
	ASSERT_EQ(0, ksm_set("advisor_max_pages_to_scan", 900));
	ASSERT_EQ(0, ksm_set("advisor_max_cpu", 70));
	ASSERT_EQ(0, ksm_set("advisor_target_scan_time", 200));
	ASSERT_EQ(0, ksm_put_text("advisor_mode", "scan-time"));
	ASSERT_GT(ksm_get_text("advisor_mode", text, sizeof(text)), 0);
	EXPECT_STREQ("none [scan-time]", text);
	EXPECT_EQ(600, ksm_get("pages_to_scan"));
	EXPECT_EQ(-EINVAL, ksm_put_text("pages_to_scan", "100"));
	EXPECT_EQ(-EINVAL, ksm_put_text("pages_to_scan", "junk"));
	EXPECT_EQ(600, ksm_get("pages_to_scan"));

	p = ksm_map_filled(NR_PAGES, 1, 1);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_start());
	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, ksm_wait_passes(2));
		now = ksm_get("pages_to_scan");
		EXPECT_GT(now, 0);
		EXPECT_LE(now, 900);
	}
	ASSERT_EQ(0, ksm_stop());

	ASSERT_EQ(0, ksm_put_text("advisor_mode", "none"));
	EXPECT_EQ(100, ksm_get("pages_to_scan"));
	EXPECT_EQ(0, ksm_put_text("pages_to_scan", "4321"));
	EXPECT_EQ(4321, ksm_get("pages_to_scan"));
	ksm_unmap(p, NR_PAGES);
	EXPECT_EQ(0, ksm_restore(&ksm_main()->settings));
}

/* The documented lower bound, with next to nothing to do. */
TEST_F_TIMEOUT(abi, advisor_minimum_is_a_floor, 60)
{
	char *p;
	int i;

	p = ksm_map_filled(NR_PAGES, 1, 1);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_set("advisor_min_pages_to_scan", 600));
	ASSERT_EQ(0, ksm_set("advisor_max_pages_to_scan", 900));
	ASSERT_EQ(0, ksm_set("advisor_max_cpu", 70));
	ASSERT_EQ(0, ksm_set("advisor_target_scan_time", 100000));
	ASSERT_EQ(0, ksm_set_advisor("scan-time"));
	ASSERT_EQ(0, ksm_start());
	for (i = 0; i < 10; i++) {
		ASSERT_EQ(0, ksm_wait_passes(2));
		EXPECT_GE(ksm_get("pages_to_scan"), 600);
	}
	ASSERT_EQ(0, ksm_stop());
	ksm_unmap(p, NR_PAGES);
	EXPECT_EQ(0, ksm_restore(&ksm_main()->settings));
}

/*
 * B118: no value of any advisor file, in any order with the mode, stops the
 * scanning for good.  The original implementation stops at a maximum of 0.
 */
TEST_F_TIMEOUT(abi, advisor_extremes, 120)
{
	static const char * const files[] = {
		"advisor_max_cpu", "advisor_min_pages_to_scan",
		"advisor_max_pages_to_scan", "advisor_target_scan_time",
	};
	static const char * const values[] = {
		"0", "1", "4294967296", "18446744073709551615",
	};
	unsigned int f, v;
	bool goes_on;
	char *p;
	int ret;

	p = ksm_map_filled(4, 1, 1);
	ASSERT_NE(NULL, p);
	for (f = 0; f < ARRAY_SIZE(files); f++) {
		for (v = 0; v < ARRAY_SIZE(values); v++) {
			long long from;

			ASSERT_EQ(0, ksm_baseline());
			ret = ksm_put_text(files[f], values[v]);
			EXPECT_TRUE(!ret || ret == -EINVAL);
			ASSERT_EQ(0, ksm_set_advisor("scan-time"));
			ASSERT_EQ(0, ksm_start());
			from = ksm_get("full_scans");
			goes_on = ksm_wait_for(ksm_get("full_scans") > from + 4,
					       5);
			EXPECT_TRUE(goes_on) {
				TH_LOG("%s=%s: pages_to_scan %lld", files[f],
				       values[v], ksm_get("pages_to_scan"));
			}
			ASSERT_EQ(0, ksm_set_advisor("none"));
			EXPECT_EQ(100, ksm_get("pages_to_scan"));
			ASSERT_EQ(0, ksm_restore(&ksm_main()->settings));
		}
	}
	ksm_unmap(p, 4);
}

/* ---- /proc --------------------------------------------------------------- */

static const char * const stat_numbers[] = {
	"ksm_rmap_items", "ksm_zero_pages", "ksm_merging_pages",
	"ksm_process_profit",
};

/* Is the text "name value\n" with a proper number?  The rest, or NULL. */
static const char *eat_number(const char *text, const char *name)
{
	size_t len = strlen(name), digits;

	if (strncmp(text, name, len) || text[len] != ' ')
		return NULL;
	text += len + 1;
	if (*text == '-')
		text++;
	digits = strspn(text, "0123456789");
	return digits && text[digits] == '\n' ? text + digits + 1 : NULL;
}

static const char *eat_yes_no(const char *text, const char *name)
{
	char line[64];

	snprintf(line, sizeof(line), "%s: yes\n", name);
	if (!strncmp(text, line, strlen(line)))
		return text + strlen(line);
	snprintf(line, sizeof(line), "%s: no\n", name);
	if (!strncmp(text, line, strlen(line)))
		return text + strlen(line);
	return NULL;
}

/* The four numbers, in this order, before anything else. */
TEST_F_TIMEOUT(abi, ksm_stat_numbers, 60)
{
	char text[512], again[512], path[64];
	const char *rest = text;
	struct stat st;
	unsigned int i;
	char *p;

	p = ksm_map_filled(NR_PAGES, 1, 0);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(0, stat("/proc/self/ksm_stat", &st));
	EXPECT_EQ(0400, st.st_mode & 07777);
	ASSERT_GT(read_raw("/proc/self/ksm_stat", text, sizeof(text)), 0);
	for (i = 0; i < ARRAY_SIZE(stat_numbers); i++) {
		rest = eat_number(rest, stat_numbers[i]);
		ASSERT_NE(NULL, rest) {
			TH_LOG("%s in:\n%s", stat_numbers[i], text);
		}
	}
	EXPECT_GE(ksm_stat(0, "ksm_rmap_items"), NR_PAGES);
	EXPECT_EQ(0, ksm_stat(0, "ksm_zero_pages"));
	EXPECT_EQ(NR_PAGES, ksm_stat(0, "ksm_merging_pages"));
	EXPECT_GT(ksm_stat(0, "ksm_process_profit"), 0);

	/* The same under task/. */
	snprintf(path, sizeof(path), "/proc/self/task/%ld/ksm_stat",
		 syscall(__NR_gettid));
	ASSERT_EQ(0, stat(path, &st));
	EXPECT_EQ(0400, st.st_mode & 07777);
	ASSERT_GT(read_raw(path, again, sizeof(again)), 0);
	EXPECT_STREQ(text, again);
	ksm_unmap(p, NR_PAGES);
}

/*
 * The two lines of later versions: is the process merge-any, and has it
 * mergeable areas?  The original implementation in this version lacks them.
 */
TEST_F(abi, ksm_stat_modes)
{
	static const char any[] = "ksm_merge_any";
	static const char area[] = "ksm_mergeable";
	const char *rest, *name = "";
	char text[512], val[16];
	unsigned int i;
	char *p;

	ASSERT_GT(read_raw("/proc/self/ksm_stat", text, sizeof(text)), 0);
	rest = text;
	for (i = 0; rest && i < ARRAY_SIZE(stat_numbers); i++) {
		name = stat_numbers[i];
		rest = eat_number(rest, name);
	}
	if (rest) {
		name = any;
		rest = eat_yes_no(rest, any);
	}
	if (rest) {
		name = area;
		rest = eat_yes_no(rest, area);
	}
	ASSERT_NE(NULL, rest) {
		TH_LOG("no %s in:\n%s", name, text);
	}
	EXPECT_STREQ("", rest);

	EXPECT_EQ(0, ksm_proc_text(0, "ksm_stat", any, val, sizeof(val)));
	EXPECT_STREQ("no", val);
	EXPECT_EQ(0, ksm_proc_text(0, "ksm_stat", area, val, sizeof(val)));
	EXPECT_STREQ("no", val);

	p = ksm_map_filled(1, 1, 0);
	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, ksm_proc_text(0, "ksm_stat", any, val, sizeof(val)));
	EXPECT_STREQ("no", val);
	EXPECT_EQ(0, ksm_proc_text(0, "ksm_stat", area, val, sizeof(val)));
	EXPECT_STREQ("yes", val);
	ASSERT_EQ(0, ksm_unmergeable(p, 1));
	EXPECT_EQ(0, ksm_proc_text(0, "ksm_stat", area, val, sizeof(val)));
	EXPECT_STREQ("no", val);

	ASSERT_EQ(0, prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0));
	EXPECT_EQ(0, ksm_proc_text(0, "ksm_stat", any, val, sizeof(val)));
	EXPECT_STREQ("yes", val);
	EXPECT_EQ(0, ksm_proc_text(0, "ksm_stat", area, val, sizeof(val)));
	EXPECT_STREQ("yes", val);
	ASSERT_EQ(0, prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0));
	EXPECT_EQ(0, ksm_proc_text(0, "ksm_stat", any, val, sizeof(val)));
	EXPECT_STREQ("no", val);
	EXPECT_EQ(0, ksm_proc_text(0, "ksm_stat", area, val, sizeof(val)));
	EXPECT_STREQ("no", val);
	ksm_unmap(p, 1);
}

TEST_F_TIMEOUT(abi, ksm_merging_pages, 60)
{
	char text[64], want[64], path[64];
	struct stat st;
	char *p;

	p = ksm_map_filled(NR_PAGES, 1, 0);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_scan_settle());
	snprintf(want, sizeof(want), "%d\n", NR_PAGES);
	ASSERT_EQ(0, stat("/proc/self/ksm_merging_pages", &st));
	EXPECT_EQ(0400, st.st_mode & 07777);
	EXPECT_GT(read_raw("/proc/self/ksm_merging_pages", text,
			   sizeof(text)), 0);
	EXPECT_STREQ(want, text);
	snprintf(path, sizeof(path), "/proc/self/task/%ld/ksm_merging_pages",
		 syscall(__NR_gettid));
	EXPECT_GT(read_raw(path, text, sizeof(text)), 0);
	EXPECT_STREQ(want, text);
	ksm_unmap(p, NR_PAGES);
}

/* A thread of the kernel has no memory to tell about: empty, no error. */
TEST_F(abi, proc_files_of_a_kernel_thread)
{
	pid_t ksmd = ksm_find_ksmd();
	char path[64], text[64];

	ASSERT_GT(ksmd, 0);
	snprintf(path, sizeof(path), "/proc/%d/ksm_stat", ksmd);
	EXPECT_EQ(0, read_raw(path, text, sizeof(text)));
	snprintf(path, sizeof(path), "/proc/%d/ksm_merging_pages", ksmd);
	EXPECT_EQ(0, read_raw(path, text, sizeof(text)));
}

/* The line in smaps: its place, its form, its value; and the flag "mg". */
TEST_F_TIMEOUT(abi, smaps_line, 60)
{
	long long kb = (long long)(NR_PAGES * ksm_psize() / 1024);
	unsigned long from, to;
	char line[256], want[64];
	bool here = false, next = false, seen = false;
	char *p;
	FILE *f;

	p = ksm_map_filled(NR_PAGES, 1, 0);
	ASSERT_NE(NULL, p);
	EXPECT_EQ(1, ksm_vmflag(0, p, "mg"));
	EXPECT_EQ(0, ksm_smaps_kb(0, p, "KSM"));
	ASSERT_EQ(0, ksm_scan(3));
	EXPECT_EQ(kb, ksm_smaps_kb(0, p, "KSM"));
	EXPECT_EQ(kb, ksm_smaps_kb(0, p, "Anonymous"));
	EXPECT_EQ(kb, ksm_proc_num(0, "smaps_rollup", "KSM"));

	snprintf(want, sizeof(want), "KSM:            %8lld kB\n", kb);
	f = fopen("/proc/self/smaps", "re");
	ASSERT_NE(NULL, f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = (unsigned long)p >= from &&
			       (unsigned long)p < to;
		if (here && next) {
			EXPECT_STREQ(want, line);
			seen = true;
		}
		next = here && !strncmp(line, "Anonymous:", 10);
	}
	fclose(f);
	EXPECT_TRUE(seen);

	/* Half of it written: half of it gone from the line. */
	ksm_fill_range(p, NR_PAGES / 2, 100, 1);
	EXPECT_EQ(kb / 2, ksm_smaps_kb(0, p, "KSM"));
	EXPECT_EQ(kb, ksm_smaps_kb(0, p, "Anonymous"));
	ASSERT_EQ(0, ksm_unmergeable(p, NR_PAGES));
	EXPECT_EQ(0, ksm_smaps_kb(0, p, "KSM"));
	EXPECT_EQ(0, ksm_vmflag(0, p, "mg"));
	ksm_unmap(p, NR_PAGES);
}

TEST_F(abi, vmstat_names)
{
	EXPECT_NE(KSM_BAD, ksm_vmstat("cow_ksm"));
	if (ksm_vmstat("pswpin") != KSM_BAD && !access("/proc/swaps", F_OK))
		EXPECT_NE(KSM_BAD, ksm_vmstat("ksm_swpin_copy"));
}

/* One thread of the kernel by that name, a little nicer than others. */
TEST_F(abi, ksmd_thread)
{
	pid_t ksmd = ksm_find_ksmd();
	char path[64], text[64];

	ASSERT_GT(ksmd, 0);
	errno = 0;
	EXPECT_EQ(5, getpriority(PRIO_PROCESS, (id_t)ksmd));
	EXPECT_EQ(0, errno);
	snprintf(path, sizeof(path), "/proc/%d/cmdline", ksmd);
	EXPECT_EQ(0, read_raw(path, text, sizeof(text)));
	EXPECT_EQ(2, ksm_proc_num(ksmd, "status", "PPid"));
}

/* Registers an area in which nothing is mapped. */
static int registers_only(struct ksm_child *c)
{
	char *p = ksm_map(1);
	int order;

	if (!p || ksm_say(c, ksm_mergeable(p, 1)))
		return 1;
	return ksm_hear(c, &order) ? 2 : 0;
}

/*
 * B123: what KSM knows of each process takes memory as well, and is a loss
 * while that has nothing to merge.
 */
TEST_F_TIMEOUT(abi, profit_less_registrations, 90)
{
	enum { NR_PROCS = 50, BYTES_EACH = 40 };
	struct ksm_child c[NR_PROCS] = { 0 };
	long long before = ksm_get("general_profit");
	int i, val;

	ASSERT_NE(KSM_BAD, before);
	for (i = 0; i < NR_PROCS; i++) {
		ASSERT_EQ(0, ksm_spawn(&c[i], registers_only, NULL));
		ASSERT_EQ(0, ksm_hear(&c[i], &val));
		ASSERT_EQ(0, val);
	}
	EXPECT_LE(ksm_get("general_profit"), before - NR_PROCS * BYTES_EACH);
	for (i = 0; i < NR_PROCS; i++)
		EXPECT_EQ(0, ksm_say(&c[i], 0));
	for (i = 0; i < NR_PROCS; i++)
		EXPECT_EQ(0, ksm_reap(&c[i]));
	EXPECT_TRUE(ksm_wait_for(ksm_get("general_profit") == before, 10)) {
		TH_LOG("%lld before, %lld afterwards", before,
		       ksm_get("general_profit"));
	}
}

/* ---- tracepoints --------------------------------------------------------- */

/*
 * The nine events that any kernel with KSM has, and one of our own, with their
 * fields in order and the sizes of these.
 */
static const struct event {
	const char *name;
	struct {
		const char *name;
		size_t size;
		int sign;
	} field[10];
	bool ours;
} events[] = {
	{ "ksm_start_scan", { { "seq", 4, 1 }, { "rmap_entries", 4, 0 } } },
	{ "ksm_stop_scan", { { "seq", 4, 1 }, { "rmap_entries", 4, 0 } } },
	{ "ksm_enter", { { "mm", sizeof(void *), 0 } } },
	{ "ksm_exit", { { "mm", sizeof(void *), 0 } } },
	{ "ksm_merge_one_page",
	  { { "pfn", sizeof(long), 0 }, { "rmap_item", sizeof(void *), 0 },
	    { "mm", sizeof(void *), 0 }, { "err", 4, 1 } } },
	{ "ksm_merge_with_ksm_page",
	  { { "ksm_page", sizeof(void *), 0 }, { "pfn", sizeof(long), 0 },
	    { "rmap_item", sizeof(void *), 0 }, { "mm", sizeof(void *), 0 },
	    { "err", 4, 1 } } },
	{ "ksm_remove_ksm_page", { { "pfn", sizeof(long), 0 } } },
	{ "ksm_remove_rmap_item",
	  { { "pfn", sizeof(long), 0 }, { "rmap_item", sizeof(void *), 0 },
	    { "mm", sizeof(void *), 0 } } },
	{ "ksm_advisor",
	  { { "scan_time", 8, 1 }, { "pages_to_scan", sizeof(long), 0 },
	    { "cpu_percent", 4, 0 } } },
	{ "ksm_batch",
	  { { "mm", sizeof(void *), 0 }, { "looked", 4, 0 },
	    { "filtered", 4, 0 }, { "read", 4, 0 }, { "climbed", 4, 0 },
	    { "look_ns", 8, 0 }, { "filter_ns", 8, 0 }, { "read_ns", 8, 0 },
	    { "merge_ns", 8, 0 } }, .ours = true },
	{ "ksm_locked", { { "nsecs", 8, 0 }, { "lock", 4, 0 } }, .ours = true },
};

FIXTURE(trace)
{
	char dir[128];		/* an instance of our own */
};

FIXTURE_SETUP(trace)
{
	const char *why = ksm_missing();

	if (why)
		SKIP(return, "%s", why);
	if (access("/sys/kernel/tracing/events/ksm", F_OK))
		SKIP(return, "no tracefs, or not mounted");
	snprintf(self->dir, sizeof(self->dir),
		 "/sys/kernel/tracing/instances/ksm_abi_%d", getpid());
	if (mkdir(self->dir, 0700))
		SKIP(return, "no instances in tracefs: %s", strerror(errno));
	ASSERT_EQ(0, ksm_baseline());
}

FIXTURE_TEARDOWN(trace)
{
	ksm_finish(__test_passed(_metadata));
	if (self->dir[0])
		rmdir(self->dir);
}

/* Write to a file of one event in the instance; 0 or -errno. */
static int event_put(const char *dir, const char *event, const char *file,
		     const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/events/ksm/%s/%s", dir, event, file);
	return ksm_spit(path, text, strlen(text));
}

/*
 * Switch one event on, for records that fit the filter only.  The filter
 * names the fields, so the records need not be taken to pieces here.
 */
static int event_on(const char *dir, const char *event, const char *filter)
{
	int ret;

	ret = event_put(dir, event, "filter", filter);
	return ret ? ret : event_put(dir, event, "enable", "1");
}

/* Number of records of an event since the last call; -errno. */
static int event_count(const char *dir, const char *event)
{
	char path[256], line[512], key[64];
	int count = 0;
	FILE *f;

	snprintf(key, sizeof(key), " %s: ", event);
	snprintf(path, sizeof(path), "%s/trace", dir);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f))
		count += line[0] != '#' && strstr(line, key);
	fclose(f);
	/* Opening for writing with O_TRUNC empties the buffer. */
	f = fopen(path, "we");
	if (f)
		fclose(f);
	return count;
}

/* The layout that trace tools take the fields by. */
TEST_F(trace, fields)
{
	char path[256], line[256], name[64];
	unsigned int e, i, size, sign;
	int parts;
	FILE *f;

	for (e = 0; e < ARRAY_SIZE(events); e++) {
		snprintf(path, sizeof(path),
			 "/sys/kernel/tracing/events/ksm/%s/format",
			 events[e].name);
		f = fopen(path, "re");
		if (!f && events[e].ours)
			continue;
		ASSERT_NE(NULL, f) {
			TH_LOG("no event %s", events[e].name);
		}
		i = 0;
		while (fgets(line, sizeof(line), f)) {
			char *decl = line + 7, *word, *more;

			if (strncmp(line, "\tfield:", 7))
				continue;
			more = strchr(line, ';');
			ASSERT_NE(NULL, more);
			*more++ = '\0';
			word = strrchr(decl, ' ');
			if (!word || !strncmp(word + 1, "common_", 7))
				continue;
			snprintf(name, sizeof(name), "%.60s", word + 1);
			more = strstr(more, "size:");
			ASSERT_NE(NULL, more);
			parts = sscanf(more, "size:%u; signed:%u", &size,
				       &sign);
			ASSERT_EQ(2, parts);
			ASSERT_LT(i, ARRAY_SIZE(events[e].field));
			ASSERT_NE(NULL, events[e].field[i].name) {
				TH_LOG("%s: one field too many: %s",
				       events[e].name, name);
			}
			EXPECT_STREQ(events[e].field[i].name, name);
			EXPECT_EQ(events[e].field[i].size, size) {
				TH_LOG("%s.%s", events[e].name, name);
			}
			EXPECT_EQ(events[e].field[i].sign, (int)sign) {
				TH_LOG("%s.%s", events[e].name, name);
			}
			i++;
		}
		fclose(f);
		if (i < ARRAY_SIZE(events[e].field))
			EXPECT_EQ(NULL, events[e].field[i].name);
	}
}

/* What a batch did, and that the clock is read for it. */
TEST_F_TIMEOUT(trace, batch, 60)
{
	char *p;

	if (access("/sys/kernel/tracing/events/ksm/ksm_batch", F_OK))
		SKIP(return, "no such event in this kernel");
	p = ksm_map_filled(NR_PAGES, 1, 0);
	ASSERT_NE(NULL, p);
	/* Pages are read, and merged, with time spent on each */
	ASSERT_EQ(0, event_on(self->dir, "ksm_batch",
			      "read > 0 && read_ns > 0 && look_ns > 0"));
	ASSERT_EQ(0, ksm_scan(3));
	EXPECT_GT(event_count(self->dir, "ksm_batch"), 0);
	ASSERT_EQ(0, ksm_unshare_all());
	ASSERT_EQ(0, event_put(self->dir, "ksm_batch", "filter",
			       "climbed > 0 && merge_ns > 0"));
	ASSERT_EQ(0, ksm_scan(3));
	EXPECT_GT(event_count(self->dir, "ksm_batch"), 0);
	/* Once merged, they are looked at, and no more than that */
	ASSERT_EQ(0, event_put(self->dir, "ksm_batch", "filter",
			       "read > 0 || climbed > 0"));
	ASSERT_EQ(0, ksm_scan(3));
	EXPECT_EQ(0, event_count(self->dir, "ksm_batch"));
	ASSERT_EQ(0, event_put(self->dir, "ksm_batch", "filter", "looked > 0"));
	ASSERT_EQ(0, ksm_scan(3));
	EXPECT_GT(event_count(self->dir, "ksm_batch"), 0);
	EXPECT_EQ(0UL, ksm_count_bad(p, NR_PAGES, 1, 0));
}

/* How long each lock was held, and by no more than the time that went by. */
TEST_F_TIMEOUT(trace, locked, 60)
{
	int lock, node[2], locks = 3;
	char filter[64];
	double start;
	char *p;

	if (access("/sys/kernel/tracing/events/ksm/ksm_locked", F_OK))
		SKIP(return, "no such event in this kernel");
	if (ksm_nodes(node, 2) < 2) {
		TH_LOG("only one node: nobody locks an anon_vma");
		locks = 2;
	}
	p = ksm_map_filled(NR_PAGES, 1, 0);
	ASSERT_NE(NULL, p);
	for (lock = 0; lock < locks; lock++) {
		snprintf(filter, sizeof(filter), "lock == %d && nsecs > 0", lock);
		ASSERT_EQ(0, event_on(self->dir, "ksm_locked", filter));
		start = ksm_now();
		ASSERT_EQ(0, ksm_scan(3));
		/* Who moves a page has to know who maps it */
		if (lock == 2) {
			ksm_move(getpid(), p, NR_PAGES, node[0]);
			ksm_move(getpid(), p, NR_PAGES, node[1]);
		}
		EXPECT_GT(event_count(self->dir, "ksm_locked"), 0);
		snprintf(filter, sizeof(filter), "lock == %d && nsecs > %.0f",
			 lock, (ksm_now() - start) * 1e9);
		ASSERT_EQ(0, event_put(self->dir, "ksm_locked", "filter",
				       filter));
		ASSERT_EQ(0, ksm_scan(2));
		EXPECT_EQ(0, event_count(self->dir, "ksm_locked"));
	}
	EXPECT_EQ(0UL, ksm_count_bad(p, NR_PAGES, 1, 0));
}

/* A pass begins and ends, once each. */
TEST_F_TIMEOUT(trace, start_and_stop_scan, 60)
{
	char *p, filter[64];

	p = ksm_map_filled(NR_PAGES, 1, 1);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_step(1));
	snprintf(filter, sizeof(filter), "seq >= 0 && rmap_entries < %d",
		 100000);
	ASSERT_EQ(0, event_on(self->dir, "ksm_start_scan", filter));
	ASSERT_EQ(0, event_on(self->dir, "ksm_stop_scan", filter));
	ASSERT_EQ(0, ksm_step(3));
	EXPECT_EQ(3, event_count(self->dir, "ksm_stop_scan"));
	ASSERT_EQ(0, ksm_step(2));
	EXPECT_EQ(2, event_count(self->dir, "ksm_start_scan"));

	/* The number of the pass is the one that full_scans shows. */
	snprintf(filter, sizeof(filter), "seq >= %lld && seq <= %lld",
		 ksm_get("full_scans"), ksm_get("full_scans") + 3);
	ASSERT_EQ(0, event_put(self->dir, "ksm_start_scan", "filter", filter));
	ASSERT_EQ(0, ksm_step(2));
	EXPECT_EQ(2, event_count(self->dir, "ksm_start_scan"));
	ksm_unmap(p, NR_PAGES);
}

static int registers(struct ksm_child *c)
{
	int order;
	char *p;

	p = ksm_map_filled(1, 1, 0);
	if (!p || ksm_say(c, 0))
		return 1;
	return ksm_hear(c, &order) ? 2 : 0;
}

/* Registration and exit of a process. */
TEST_F_TIMEOUT(trace, enter_and_exit, 60)
{
	struct ksm_child c = { 0 };
	int val;

	ASSERT_EQ(0, event_on(self->dir, "ksm_enter", "mm != 0"));
	ASSERT_EQ(0, event_on(self->dir, "ksm_exit", "mm != 0"));
	ASSERT_EQ(0, ksm_spawn(&c, registers, NULL));
	ASSERT_EQ(0, ksm_hear(&c, &val));
	EXPECT_EQ(1, event_count(self->dir, "ksm_enter"));
	EXPECT_EQ(0, ksm_say(&c, 0));
	EXPECT_EQ(0, ksm_reap(&c));
	EXPECT_EQ(1, event_count(self->dir, "ksm_exit"));
}

/* A new KSM page, then one more mapping of it, of which the frame is known. */
TEST_F_TIMEOUT(trace, merge_with_ksm_page, 60)
{
	char *p, *q, filter[96];

	p = ksm_map_filled(4, 1, 0);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, event_on(self->dir, "ksm_merge_with_ksm_page",
			      "err == 0 && mm != 0"));
	ASSERT_EQ(0, ksm_scan(3));
	ASSERT_EQ(4, ksm_count_same(p, 4));
	EXPECT_GE(event_count(self->dir, "ksm_merge_with_ksm_page"), 4);

	snprintf(filter, sizeof(filter),
		 "err == 0 && ksm_page != 0 && pfn == %llu",
		 (unsigned long long)ksm_pfn(0, p));
	ASSERT_EQ(0, event_put(self->dir, "ksm_merge_with_ksm_page", "filter",
			       filter));
	q = ksm_map_filled(3, 1, 0);
	ASSERT_NE(NULL, q);
	ASSERT_EQ(0, ksm_scan(3));
	ASSERT_TRUE(ksm_same_frame(p, q));
	EXPECT_EQ(3, event_count(self->dir, "ksm_merge_with_ksm_page"));
	ksm_unmap(p, 4);
	ksm_unmap(q, 3);
}

/* A page of zeros that becomes the zero page. */
TEST_F_TIMEOUT(trace, merge_one_page, 60)
{
	char filter[64];
	char *p;

	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	p = ksm_map(4);
	ASSERT_NE(NULL, p);
	memset(p, 1, 4 * ksm_psize());
	ksm_barrier();
	memset(p, 0, 4 * ksm_psize());
	ASSERT_EQ(0, ksm_mergeable(p, 4));
	snprintf(filter, sizeof(filter), "err == 0 && pfn == %llu",
		 (unsigned long long)ksm_zero_pfn());
	ASSERT_EQ(0, event_on(self->dir, "ksm_merge_one_page", filter));
	ASSERT_EQ(0, ksm_scan(3));
	ASSERT_EQ(ksm_zero_pfn(), ksm_pfn(0, p));
	EXPECT_EQ(4, event_count(self->dir, "ksm_merge_one_page"));
	ksm_unmap(p, 4);
}

/* run=2 takes the KSM pages away. */
TEST_F_TIMEOUT(trace, remove_ksm_page, 60)
{
	char filter[64];
	char *p;

	p = ksm_map_filled(4, 1, 0);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ksm_scan(3));
	ASSERT_EQ(4, ksm_count_same(p, 4));
	snprintf(filter, sizeof(filter), "pfn == %llu",
		 (unsigned long long)ksm_pfn(0, p));
	ASSERT_EQ(0, event_on(self->dir, "ksm_remove_ksm_page", filter));
	ASSERT_EQ(0, ksm_unshare_all());
	EXPECT_EQ(1, event_count(self->dir, "ksm_remove_ksm_page"));
	ksm_unmap(p, 4);
}

/*
 * Looks at its unique page in every pass, so that the tree of KSM pages is
 * searched; and maps twins, which it unmaps when told.
 */
static int unmapper(struct ksm_child *c)
{
	char *twins = NULL, *unique;
	int order;

	unique = ksm_map_filled(1, 1000 + (uint64_t)getpid(), 0);
	if (c->arg)
		twins = ksm_map_filled(4, 1, 0);
	if (!unique || (c->arg && !twins) || ksm_say(c, 0))
		return 1;
	if (ksm_hear(c, &order))
		return 2;
	ksm_unmap(twins, 4);
	ksm_say(c, 0);
	return ksm_hear(c, &order) ? 3 : 0;
}

/*
 * A KSM page that went with its last mapping: ksmd drops it, and with it
 * what it remembered of the mappings, all but the last one by its own event.
 * Others are scanned before and after the process that had them, so that the
 * loss is found out whichever comes first.
 */
TEST_F_TIMEOUT(trace, remove_rmap_item, 60)
{
	struct ksm_child c[3] = { 0 };
	int i, val, twins = 1;

	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, ksm_spawn(&c[i], unmapper,
				       i == 1 ? &twins : NULL));
		ASSERT_EQ(0, ksm_hear(&c[i], &val));
	}
	ASSERT_EQ(0, ksm_step(4));
	ASSERT_EQ(1, ksm_get("pages_shared"));
	ASSERT_EQ(3, ksm_get("pages_sharing"));
	ASSERT_EQ(0, event_on(self->dir, "ksm_remove_rmap_item",
			      "pfn != 0 && rmap_item != 0 && mm != 0"));
	EXPECT_EQ(0, ksm_ask(&c[1], 0));
	ASSERT_EQ(0, ksm_step(3));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(3, event_count(self->dir, "ksm_remove_rmap_item"));
	for (i = 0; i < 3; i++) {
		ksm_say(&c[i], 0);
		ksm_say(&c[i], 0);
		EXPECT_EQ(0, ksm_reap(&c[i]));
	}
}

/* What the advisor has worked out at the end of a pass. */
TEST_F_TIMEOUT(trace, advisor, 60)
{
	char *p;

	p = ksm_map_filled(NR_PAGES, 1, 1);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, event_on(self->dir, "ksm_advisor",
			      "scan_time >= 0 && pages_to_scan > 0 && cpu_percent <= 100"));
	ASSERT_EQ(0, ksm_scan(3));
	EXPECT_EQ(0, event_count(self->dir, "ksm_advisor"));
	ASSERT_EQ(0, ksm_set_advisor("scan-time"));
	ASSERT_EQ(0, ksm_scan(4));
	EXPECT_GE(event_count(self->dir, "ksm_advisor"), 2);
	ksm_unmap(p, NR_PAGES);
	EXPECT_EQ(0, ksm_restore(&ksm_main()->settings));
}

int main(int argc, char **argv)
{
	scanned_at_start = ksm_get("pages_scanned");
	ksm_main_setup();
	return test_harness_run(argc, argv);
}
