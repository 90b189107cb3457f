// SPDX-License-Identifier: GPL-2.0
/*
 * Bad input to KSM: every file in sysfs, PR_SET_MEMORY_MERGE and
 * PR_GET_MEMORY_MERGE, MADV_MERGEABLE and MADV_UNMERGEABLE.  Whoever gives it,
 * root, an ordinary user, or root of a user namespace, gets the documented
 * error, and nothing changes: not in the file, not in any other, not in the
 * memory.  Beside it, every form of good input, to tell the two apart.
 */
#include "../kselftest_harness.h"
#include "ksm_util.h"
#include "ksm_env.h"

#include <sys/uio.h>

#define NR_PAGES	16
#define SEED		0x1a9
#define MAX_MAP_COUNT	"/proc/sys/vm/max_map_count"

#ifndef CLONE_NEWUSER
#define CLONE_NEWUSER	0x10000000
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE	0x08
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open	434
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

/* ---- all files at one glance --------------------------------------------- */

#define MAX_FILES	40

struct snapshot {
	int nr;
	struct {
		char name[48];
		char text[64];
	} file[MAX_FILES];
};

/* What each file of the directory says; 0 or -errno. */
static int take_snapshot(struct snapshot *s)
{
	struct dirent *de;
	int ret = 0;
	DIR *dir;

	memset(s, 0, sizeof(*s));
	dir = opendir(KSM_DIR);
	if (!dir)
		return -errno;
	while (ret >= 0 && (de = readdir(dir))) {
		if (de->d_name[0] == '.')
			continue;
		if (s->nr == MAX_FILES) {
			ret = -E2BIG;
			break;
		}
		snprintf(s->file[s->nr].name, sizeof(s->file[0].name), "%.47s",
			 de->d_name);
		ret = ksm_get_text(s->file[s->nr].name, s->file[s->nr].text,
				   sizeof(s->file[0].text));
		s->nr++;
	}
	closedir(dir);
	return ret < 0 ? ret : 0;
}

/* The name of a file that says something else than before, or NULL. */
static const char *find_change(const struct snapshot *before)
{
	static struct snapshot now;
	int i;

	if (take_snapshot(&now))
		return "a file that cannot be read";
	if (now.nr != before->nr)
		return "the number of files";
	for (i = 0; i < now.nr; i++)
		if (strcmp(now.file[i].name, before->file[i].name) ||
		    strcmp(now.file[i].text, before->file[i].text))
			return now.file[i].name;
	return NULL;
}

/* ---- what may be written ------------------------------------------------- */

#define ABOVE		1	/* what a number that does not fit gives */
#define BELOW		2	/* what such a one with a minus gives */
#define LONG		(3UL << 16)	/* longer than any page */

/* One write and what it must give. */
struct attempt {
	const char *text;
	int ret;		/* 0, -errno, ABOVE or BELOW */
	const char *after;	/* what is read then; NULL: as before */
	size_t size;		/* of the text, if there are NUL bytes in it */
	size_t len;		/* of all, if there is more than the text */
	char more;		/* what comes after the text */
};

/* The text comes last, so that the result may follow it as in other lines. */
#define BYTES(string)	.size = sizeof(string) - 1, .text = (string)

/* What changes nothing in any file that takes a number. */
static const struct attempt number_junk[] = {
	{ "" },
	{ "-1", -EINVAL }, { "-99", -EINVAL }, { "-0", -EINVAL },
	{ "x", -EINVAL }, { "1x", -EINVAL }, { "x1", -EINVAL },
	{ "1.5", -EINVAL }, { "1e3", -EINVAL }, { "1,2", -EINVAL },
	{ "1_0", -EINVAL }, { "1 ", -EINVAL }, { " 1", -EINVAL },
	{ "1\t", -EINVAL }, { "\t1", -EINVAL }, { "1 2", -EINVAL },
	{ "1\n2", -EINVAL }, { "\n1", -EINVAL }, { "\n", -EINVAL },
	{ "1\n\n", -EINVAL }, { "1\r\n", -EINVAL }, { "1\x20\n", -EINVAL },
	{ "+", -EINVAL }, { "++1", -EINVAL }, { "+-1", -EINVAL },
	{ "-+1", -EINVAL }, { "+ 1", -EINVAL }, { "--1", -EINVAL },
	{ "0x10", -EINVAL }, { "0X1", -EINVAL }, { "0b1", -EINVAL },
	{ "a", -EINVAL }, { "\xd9\xa1", -EINVAL }, { "1%", -EINVAL },
	{ "on", -EINVAL }, { "y", -EINVAL }, { "none", -EINVAL },
	{ BYTES("\0"), -EINVAL }, { BYTES("\0001"), -EINVAL },
	{ BYTES("1x\0"), -EINVAL }, { BYTES("1\n\n\0"), -EINVAL },
	{ "1", -EINVAL, .len = LONG, .more = 'x' },
	{ "1", -EINVAL, .len = LONG, .more = ' ' },
	{ "1", -EINVAL, .len = LONG, .more = '\n' },
	{ "-", BELOW, .len = LONG, .more = '9' },
	{ "-99999999999999999999999", BELOW },
	{ "18446744073709551616", ABOVE },
	{ "99999999999999999999999", ABOVE },
	{ "9", ABOVE, .len = LONG, .more = '9' },
	{ NULL },
};

/* The switches take what kstrtobool() takes, which looks at little of it. */
static const struct attempt switch_junk[] = {
	{ "" },
	{ "2", -EINVAL }, { "-1", -EINVAL }, { "+1", -EINVAL },
	{ "x", -EINVAL }, { "\n", -EINVAL }, { "\n1", -EINVAL },
	{ " 1", -EINVAL }, { "\t1", -EINVAL }, { "o", -EINVAL },
	{ "ok", -EINVAL }, { "enable", -EINVAL }, { "scan-time", -EINVAL },
	{ "99999999999999999999", -EINVAL },
	{ BYTES("\0"), -EINVAL }, { BYTES("\0001"), -EINVAL },
	{ "2", -EINVAL, .len = LONG, .more = '1' },
	{ NULL },
};

static const struct attempt mode_junk[] = {
	{ "" },
	{ "scan", -EINVAL }, { "None", -EINVAL }, { "NONE", -EINVAL },
	{ "none ", -EINVAL }, { " none", -EINVAL }, { "\nnone", -EINVAL },
	{ "none\n\n", -EINVAL }, { "none\r\n", -EINVAL },
	{ "[none]", -EINVAL }, { "[none] scan-time\n", -EINVAL },
	{ "none scan-time", -EINVAL }, { "scan_time", -EINVAL },
	{ "scan-time2", -EINVAL }, { "0", -EINVAL }, { "1", -EINVAL },
	{ "\n", -EINVAL }, { BYTES("\0none"), -EINVAL },
	{ "none", -EINVAL, .len = LONG, .more = 'e' },
	{ "none", -EINVAL, .len = LONG, .more = '\n' },
	{ NULL },
};

/* What is right, or wrong, for one file and not for another. */
static const struct attempt run_values[] = {
	{ "1", 0, "1" }, { "2", 0, "2" }, { "0", 0, "0" },
	{ "1\n", 0, "1" }, { "0\n", 0, "0" },
	{ "3", -EINVAL }, { "4", -EINVAL }, { "5", -EINVAL },
	{ "7", -EINVAL }, { "4294967297", -EINVAL },
	{ "2147483648", -EINVAL },
	{ NULL },
};

static const struct attempt nodes_values[] = {
	{ "0", 0, "0" }, { "1", 0, "1" }, { "0\n", 0, "0" },
	{ "1\n", 0, "1" },
	{ "2", -EINVAL }, { "256", -EINVAL }, { "4294967296", -EINVAL },
	{ "4294967297", -EINVAL },
	{ NULL },
};

static const struct attempt sharing_values[] = {
	{ "2", 0, "2" }, { "3", 0, "3" }, { "256\n", 0, "256" },
	{ "2147483647", 0, "2147483647" },
	{ "0", -EINVAL }, { "1", -EINVAL }, { "-2", -EINVAL },
	{ "-2147483648", -EINVAL }, { "-2147483649", -ERANGE },
	{ "2147483648", -ERANGE }, { "4294967298", -ERANGE },
	{ NULL },
};

/* The original implementation cuts advisor_max_cpu off. */
static const struct attempt uint_values[] = {
	{ "0", 0, "0" }, { "1", 0, "1" }, { "100\n", 0, "100" },
	{ "4294967295", 0, "4294967295" },
	{ "4294967296", -EINVAL }, { "4294967297", -EINVAL },
	{ NULL },
};

static const struct attempt ulong_values[] = {
	{ "0", 0, "0" }, { "1", 0, "1" }, { "4294967295", 0, "4294967295" },
#if ULONG_MAX > 0xffffffffUL
	{ "4294967296", 0, "4294967296" },
	{ "18446744073709551615", 0, "18446744073709551615" },
#endif
	{ NULL },
};

static const struct attempt target_values[] = {
	{ "1", 0, "1" }, { "200\n", 0, "200" }, { "86400", 0, "86400" },
	{ "0", -EINVAL }, { "00", -EINVAL }, { "+0\n", -EINVAL },
	{ NULL },
};

static const struct attempt switch_values[] = {
	{ "0", 0, "0" }, { "1", 0, "1" }, { "0\n", 0, "0" },
	{ "1\n", 0, "1" }, { "n", 0, "0" }, { "y", 0, "1" },
	{ "N", 0, "0" }, { "Y", 0, "1" }, { "off", 0, "0" },
	{ "on", 0, "1" }, { "f", 0, "0" }, { "t", 0, "1" },
	{ "False\n", 0, "0" }, { "True\n", 0, "1" }, { "OFF", 0, "0" },
	{ "oN", 0, "1" }, { "0x1", 0, "0" }, { "1 0", 0, "1" },
	{ BYTES("0\0001"), 0, "0" }, { "1", 0, "1", .len = LONG, .more = '0' },
	{ NULL },
};

static const struct attempt mode_values[] = {
	{ "none", 0, "[none] scan-time" },
	{ "scan-time", 0, "none [scan-time]" },
	{ "none\n", 0, "[none] scan-time" },
	{ "scan-time\n", 0, "none [scan-time]" },
	{ BYTES("none\0x"), 0, "[none] scan-time" },
	{ BYTES("scan-time\n\0"), 0, "none [scan-time]" },
	{ "none", 0, "[none] scan-time", .len = LONG },
	{ NULL },
};

struct file {
	const char *name;
	const char *now;	/* no default; what it says while junk comes */
	const char *good;	/* a good value that is another one */
	const char *shown;	/* if that reads otherwise */
	const struct attempt *values;
	const struct attempt *junk;
	bool number;
	int above;		/* error for a number that does not fit */
	int below;		/* and for such a one with a minus */
	bool early;		/* to be set before anything is merged */
};

#define NUMBER(high, low)						\
	.number = true, .above = (high), .below = (low), .junk = number_junk

static const struct file files[] = {
	{ "max_page_sharing", "99", "77", .early = true,
	  NUMBER(-ERANGE, -ERANGE), .values = sharing_values },
	{ "merge_across_nodes", "0", "1", .early = true,
	  NUMBER(-ERANGE, -EINVAL), .values = nodes_values },
	{ "run", "0", "1", NUMBER(-EINVAL, -EINVAL), .values = run_values },
	{ "pages_to_scan", "4321", "77",
	  NUMBER(-EINVAL, -EINVAL), .values = uint_values },
	{ "sleep_millisecs", "54321", "77",
	  NUMBER(-EINVAL, -EINVAL), .values = uint_values },
	{ "stable_node_chains_prune_millisecs", "3456", "77",
	  NUMBER(-EINVAL, -EINVAL), .values = uint_values },
	{ "use_zero_pages", "1", "off", "0",
	  .junk = switch_junk, .values = switch_values },
	{ "smart_scan", "0", "yes", "1",
	  .junk = switch_junk, .values = switch_values },
	{ "advisor_mode", "none", "scan-time", "none [scan-time]",
	  .junk = mode_junk, .values = mode_values },
	{ "advisor_max_cpu", "43", "77",
	  NUMBER(-EINVAL, -EINVAL), .values = uint_values },
	{ "advisor_min_pages_to_scan", "654", "77",
	  NUMBER(-EINVAL, -EINVAL), .values = ulong_values },
	{ "advisor_max_pages_to_scan", "7654", "77",
	  NUMBER(-EINVAL, -EINVAL), .values = ulong_values },
	{ "advisor_target_scan_time", "321", "77",
	  NUMBER(-EINVAL, -EINVAL), .values = target_values },
};

static const struct file *find_file(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(files); i++)
		if (!strcmp(files[i].name, name))
			return &files[i];
	return NULL;
}

/* One write, at a position unless that is -1; bytes taken or -errno. */
static ssize_t put(const char *name, const void *buf, size_t len, off_t at)
{
	char path[128];
	ssize_t n;
	int fd;

	ksm_path(path, sizeof(path), name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = at < 0 ? write(fd, buf, len) : pwrite(fd, buf, len, at);
	if (n < 0)
		n = -errno;
	close(fd);
	return n;
}

static ssize_t try_one(const char *name, const struct attempt *a)
{
	size_t size = a->size ? a->size : strlen(a->text);
	size_t len = a->len ? a->len : size;
	char *buf = malloc(len + 1);
	ssize_t n;

	if (!buf)
		return -ENOMEM;
	memset(buf, a->more, len);
	memcpy(buf, a->text, size);
	n = put(name, buf, len, -1);
	free(buf);
	/* More than a page is never taken. */
	if (n == (ssize_t)(len < ksm_psize() ? len : ksm_psize()))
		return 0;
	return n < 0 ? n : -EIO;
}

/* ---- sysfs --------------------------------------------------------------- */

FIXTURE(input)
{
	char *p;		/* merged pages, with something to lose */
	struct snapshot before;
};

/* No setting is what it is by default; 0 or the first error. */
static int set_files(bool early)
{
	size_t i;
	int ret = 0;

	for (i = 0; !ret && i < ARRAY_SIZE(files); i++)
		if (files[i].early == early && ksm_has(files[i].name))
			ret = ksm_put_text(files[i].name, files[i].now);
	return ret;
}

FIXTURE_SETUP(input)
{
	const char *why = ksm_env_missing(0);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, set_files(true));
	self->p = ksm_map_filled(NR_PAGES, SEED, 0);
	ASSERT_NE(NULL, self->p);
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_count_same(self->p, NR_PAGES));
	ASSERT_EQ(0, set_files(false));
	ASSERT_EQ(0, take_snapshot(&self->before));
}

FIXTURE_TEARDOWN(input)
{
	ksm_keep_restore();
	prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0);
	ksm_finish(__test_passed(_metadata));
	if (ksm_main()->settings.saved)
		EXPECT_EQ(0, ksm_restore(&ksm_main()->settings));
}

/* Nothing differs from when the test began. */
static void check_all(struct __test_metadata *_metadata,
		      const struct snapshot *before, char *p)
{
	const char *name;

	/* Children that have just exited may still be counted. */
	ksm_wait_for(!find_change(before), 5);
	name = find_change(before);
	EXPECT_EQ(NULL, name) {
		TH_LOG("%s has changed", name);
	}
	EXPECT_EQ(NR_PAGES, ksm_count_same(p, NR_PAGES));
	EXPECT_EQ(0, ksm_count_bad(p, NR_PAGES, SEED, 0));
	EXPECT_EQ(1, ksm_vmflag(0, p, "mg"));
}

static void refuse(struct __test_metadata *_metadata,
		   const struct snapshot *before, const struct file *f,
		   const struct attempt *a)
{
	int want = a->ret == ABOVE ? f->above :
		   a->ret == BELOW ? f->below : a->ret;
	const char *changed;

	if (a->after)
		return;
	EXPECT_EQ(want, try_one(f->name, a)) {
		TH_LOG("\"%s\" and %zu bytes to %s", a->text, a->len, f->name);
	}
	changed = find_change(before);
	EXPECT_EQ(NULL, changed) {
		TH_LOG("\"%s\" and %zu bytes to %s changed %s", a->text,
		       a->len, f->name, changed);
		ksm_put_text(f->name, f->now);
	}
}

/* What is refused gives the right error and changes nothing anywhere. */
TEST_F_TIMEOUT(input, refused, 120)
{
	const struct attempt *a;
	const struct file *f;

	for (f = files; f < files + ARRAY_SIZE(files); f++) {
		if (!ksm_has(f->name))
			continue;
		for (a = f->values; a->text; a++)
			refuse(_metadata, &self->before, f, a);
		for (a = f->junk; a->text; a++)
			refuse(_metadata, &self->before, f, a);
	}
	check_all(_metadata, &self->before, self->p);
}

/* What is taken reads back. */
static void take(struct __test_metadata *_metadata, const struct file *f,
		 const struct attempt *a)
{
	char text[64];

	if (!a->after)
		return;
	EXPECT_EQ(a->ret, try_one(f->name, a)) {
		TH_LOG("\"%s\" and %zu bytes to %s", a->text, a->len, f->name);
	}
	ASSERT_GT(ksm_get_text(f->name, text, sizeof(text)), 0);
	EXPECT_STREQ(a->after, text) {
		TH_LOG("\"%s\" and %zu bytes to %s", a->text, a->len, f->name);
	}
}

/* B118: all values of each file, and all ways to write a number. */
TEST_F_TIMEOUT(input, taken, 60)
{
	static const char * const before[] = { "", "+", "0", "+000" };
	static const struct attempt after[] = {
		{ BYTES("") }, { BYTES("\n") }, { BYTES("\0") },
		{ BYTES("\n\0") }, { BYTES("\0x") }, { "", .len = LONG },
	};
	const struct attempt *a;
	const struct file *f;
	char text[64];
	size_t i, j;

	ksm_unmap(self->p, NR_PAGES);
	ASSERT_EQ(0, ksm_baseline());
	for (f = files; f < files + ARRAY_SIZE(files); f++) {
		if (!ksm_has(f->name))
			continue;
		for (a = f->values; a->text; a++)
			take(_metadata, f, a);
		ASSERT_EQ(0, ksm_put_text(f->name, f->now));
		for (i = 0; f->number && i < ARRAY_SIZE(before); i++) {
			for (j = 0; j < ARRAY_SIZE(after); j++) {
				struct attempt form = after[j];

				form.size += snprintf(text, 32, "%s%s",
						      before[i], f->good);
				/* With the NUL bytes */
				memcpy(text + strlen(text), after[j].text,
				       after[j].size);
				form.text = text;
				form.after = f->good;
				take(_metadata, f, &form);
				ASSERT_EQ(0, ksm_put_text(f->name, f->now));
			}
		}
	}
}

/* A number that reaches beyond a page is cut there, as sysfs has it. */
TEST_F(input, cut_after_a_page)
{
	size_t len = 2 * ksm_psize();
	char *buf = malloc(len);

	ASSERT_NE(NULL, buf);
	memset(buf, '0', len);
	buf[ksm_psize() - 1] = '7';
	buf[ksm_psize()] = '8';
	EXPECT_EQ((ssize_t)ksm_psize(), put("sleep_millisecs", buf, len, -1));
	EXPECT_EQ(7, ksm_get("sleep_millisecs"));
	free(buf);
}

/* The position in the file does not matter; each write is a value. */
TEST_F(input, anywhere_in_the_file)
{
	static const off_t at[] = { 0, 1, 5, 4096, 1LL << 40 };
	char path[128], text[64];
	const struct file *f;
	size_t i;
	int fd;

	for (f = files; f < files + ARRAY_SIZE(files); f++) {
		if (!ksm_has(f->name))
			continue;
		for (i = 0; i < ARRAY_SIZE(at); i++) {
			EXPECT_EQ(-EINVAL, put(f->name, "junk", 4, at[i]));
			EXPECT_EQ(NULL, find_change(&self->before));
		}
	}
	ksm_unmap(self->p, NR_PAGES);
	ASSERT_EQ(0, ksm_baseline());
	for (f = files; f < files + ARRAY_SIZE(files); f++) {
		for (i = 0; ksm_has(f->name) && i < ARRAY_SIZE(at); i++) {
			ASSERT_EQ(0, ksm_put_text(f->name, f->now));
			EXPECT_EQ((ssize_t)strlen(f->good),
				  put(f->name, f->good, strlen(f->good),
				      at[i]));
			ksm_get_text(f->name, text, sizeof(text));
			EXPECT_STREQ(f->shown ? f->shown : f->good, text) {
				TH_LOG("%s at %lld", f->name,
				       (long long)at[i]);
			}
			ASSERT_EQ(0, ksm_put_text(f->name, f->now));
		}
	}

	ksm_path(path, sizeof(path), "sleep_millisecs");
	fd = open(path, O_RDWR | O_APPEND | O_TRUNC | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(54321, ksm_get("sleep_millisecs"));
	EXPECT_EQ(2, write(fd, "12", 2));
	EXPECT_EQ(2, write(fd, "34", 2));
	EXPECT_EQ(34, ksm_get("sleep_millisecs"));
	EXPECT_EQ(-1, write(fd, "x", 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(34, ksm_get("sleep_millisecs"));
	close(fd);
}

/* Text that cannot be read, or not all of it. */
TEST_F(input, unreadable_memory)
{
	const struct file *f;
	char *buf, *end;

	buf = ksm_map(2);
	ASSERT_NE(NULL, buf);
	end = buf + ksm_psize();
	ksm_unmap(end, 1);
	for (f = files; f < files + ARRAY_SIZE(files); f++) {
		if (!ksm_has(f->name))
			continue;
		end[-1] = f->good[0];
		EXPECT_EQ(-EFAULT, put(f->name, end - 1, 2, -1));
		EXPECT_EQ(-EFAULT, put(f->name, end, 1, -1));
		EXPECT_EQ(-EFAULT, put(f->name, NULL, 1, -1));
		EXPECT_EQ(-EFAULT, put(f->name, end - 1, SSIZE_MAX, -1));
		EXPECT_EQ(NULL, find_change(&self->before));
	}
	check_all(_metadata, &self->before, self->p);
	ksm_unmap(buf, 1);
}

/* Good values that come at the wrong time. */
TEST_F(input, wrong_order)
{
	struct snapshot advised;

	EXPECT_EQ(-EBUSY, ksm_put_text("max_page_sharing", "77"));
	EXPECT_EQ(-EBUSY, ksm_put_text("max_page_sharing", "2147483647"));
	EXPECT_EQ(0, ksm_put_text("max_page_sharing", "99"));
	if (ksm_has("merge_across_nodes")) {
		EXPECT_EQ(-EBUSY, ksm_put_text("merge_across_nodes", "1"));
		EXPECT_EQ(0, ksm_put_text("merge_across_nodes", "0"));
	}
	check_all(_metadata, &self->before, self->p);

	ASSERT_EQ(0, ksm_set_advisor("scan-time"));
	ASSERT_EQ(0, take_snapshot(&advised));
	EXPECT_EQ(-EINVAL, ksm_put_text("pages_to_scan", "77"));
	EXPECT_EQ(-EINVAL, ksm_put_text("pages_to_scan", "0"));
	EXPECT_EQ(-EINVAL, ksm_put_text("pages_to_scan", "junk"));
	EXPECT_EQ(0, ksm_put_text("pages_to_scan", ""));
	EXPECT_EQ(0, ksm_put_text("advisor_mode", "scan-time"));
	check_all(_metadata, &advised, self->p);

	/* Back to 0 as if it had run. */
	ASSERT_EQ(0, ksm_set_advisor("none"));
	ASSERT_EQ(0, ksm_set("pages_to_scan", 4321));
	EXPECT_EQ(0, ksm_put_text("run", "0"));
	check_all(_metadata, &self->before, self->p);
}

/* No file is left out here, and nobody writes to a counter, not even root. */
TEST_F(input, every_file)
{
	char path[128];
	struct stat st;
	int i;

	ASSERT_GT(self->before.nr, 20);
	for (i = 0; i < self->before.nr; i++) {
		const char *name = self->before.file[i].name;

		ksm_path(path, sizeof(path), name);
		ASSERT_EQ(0, stat(path, &st));
		EXPECT_EQ(!!(st.st_mode & 0222), !!find_file(name)) {
			TH_LOG("%s has mode %o", name, st.st_mode & 07777);
		}
		if (find_file(name))
			continue;
		EXPECT_EQ(-EACCES, ksm_put_text(name, "0"));
		EXPECT_EQ(-EACCES, ksm_put_text(name, "junk"));
		EXPECT_EQ(-EACCES, ksm_put_text(name, ""));
		EXPECT_EQ(-1, open(path, O_RDWR | O_TRUNC | O_CLOEXEC)) {
			TH_LOG("%s", name);
		}
		EXPECT_EQ(EACCES, errno);
	}
	check_all(_metadata, &self->before, self->p);
}

/* ---- prctl() ------------------------------------------------------------- */

/* The functions from here on are for any user: they return what went wrong. */
static int complain(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "# ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	return 1;
}

static int merge_any(void)
{
	int ret = prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0);

	return ret < 0 ? -errno : ret;
}

/* Refused, and the state is as before? */
static int bad_argument(int option, unsigned long what, int arg,
			unsigned long value)
{
	unsigned long a[6] = { 0, 0, what };
	int before = merge_any();

	a[arg] = value;
	errno = 0;
	if (prctl(option, a[2], a[3], a[4], a[5]) == -1 && errno == EINVAL &&
	    merge_any() == before)
		return 0;
	return complain("prctl(%d, %lx, %lx, %lx, %lx): errno %d, %d, now %d",
			option, a[2], a[3], a[4], a[5], errno, before,
			merge_any());
}

static const unsigned long not_zero[] = {
	1, 2, 0x80000000UL, ULONG_MAX / 2 + 1, ULONG_MAX,
	ULONG_MAX << (sizeof(long) * 4),	/* nothing in the lower half */
};

/* B111: arguments that must be 0 and are not. */
static int bad_arguments(void)
{
	int arg, wrong = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(not_zero); i++) {
		wrong += bad_argument(PR_GET_MEMORY_MERGE, 0, 2, not_zero[i]);
		for (arg = 3; arg < 6; arg++) {
			wrong += bad_argument(PR_GET_MEMORY_MERGE, 0, arg,
					      not_zero[i]);
			wrong += bad_argument(PR_SET_MEMORY_MERGE, 0, arg,
					      not_zero[i]);
			wrong += bad_argument(PR_SET_MEMORY_MERGE, 1, arg,
					      not_zero[i]);
		}
	}
	return wrong;
}

static int bad_prctl(void)
{
	int wrong = 0, on, marked;
	size_t i;

	for (on = 0; on < 2; on++) {
		if (prctl(PR_SET_MEMORY_MERGE, on, 0, 0, 0))
			return complain("prctl %d: errno %d", on, errno);
		marked = ksm_count_mg(0);
		if (!marked != !on)
			wrong += complain("%d areas are marked", marked);
		wrong += bad_arguments();
		if (ksm_count_mg(0) != marked)
			wrong += complain("%d areas were marked, now %d",
					  marked, ksm_count_mg(0));
	}

	/* Whatever is not 0 switches it on; nothing has to be on to go off. */
	for (i = 0; i < ARRAY_SIZE(not_zero); i++) {
		if (prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0) || merge_any())
			wrong += complain("prctl 0: errno %d", errno);
		if (prctl(PR_SET_MEMORY_MERGE, not_zero[i], 0, 0, 0) ||
		    merge_any() != 1)
			wrong += complain("prctl %lx: errno %d", not_zero[i],
					  errno);
	}
	for (i = 0; i < 2; i++)
		if (prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0) || merge_any())
			wrong += complain("off is not off: errno %d", errno);
	if (ksm_count_mg(0))
		wrong += complain("areas are marked still");
	return wrong;
}

/* ---- madvise() ----------------------------------------------------------- */

#define SPAN		10	/* pages: some mapped, some not */
#define FAR		0x200000000L	/* pages: more than a process can have */

static const char mapped[SPAN + 1] = " ---- --- ";

/* A range of the span and what becomes of it. */
struct range {
	const char *what;
	long page;
	long skew;		/* of the address, in bytes */
	long pages;
	long bytes;		/* more */
	int ret;
	const char *marked;	/* NULL: nothing changes */
};

static const struct range ranges[] = {
	{ "one byte off", 1, 1, 1, 0, -EINVAL },
	{ "in the middle of a page", 1, 512, 1, 0, -EINVAL },
	{ "one byte before a page", 2, -1, 1, 1, -EINVAL },
	{ "unaligned, one byte", 1, 1, 0, 1, -EINVAL },
	{ "unaligned and empty", 1, 1, 0, 0, -EINVAL },
	{ "unaligned, not mapped", 0, 1, 1, 0, -EINVAL },
	{ "empty", 1, 0, 0, 0, 0 },
	{ "empty, not mapped", 0, 0, 0, 0, 0 },
	{ "as long as can be", 1, 0, 0, -1, -EINVAL },
	{ "rounded up to nothing", 1, 0, -1, 1, -EINVAL },
	{ "wraps to a page before", 1, 0, -1, 0, -EINVAL },
	{ "not mapped", 0, 0, 1, 0, -ENOMEM },
	{ "hole at the begin", 0, 0, 3, 0, -ENOMEM, " mm-- --- " },
	{ "hole in the middle", 4, 0, 3, 0, -ENOMEM, " ---m m-- " },
	{ "hole at the end", 8, 0, 2, 0, -ENOMEM, " ---- --m " },
	{ "all that is above", 1, 0, FAR, 0, -ENOMEM, " mmmm mmm " },
	{ "holes everywhere", 0, 0, SPAN, 0, -ENOMEM, " mmmm mmm " },
	{ "one byte", 1, 0, 0, 1, 0, " m--- --- " },
	{ "a page and a byte", 1, 0, 1, 1, 0, " mm-- --- " },
	{ "up to a hole", 3, 0, 1, 1, 0, " --mm --- " },
	{ "a byte into a hole", 3, 0, 2, 1, -ENOMEM, " --mm --- " },
};

static int count_areas(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	int count = 0;

	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f))
		count++;
	fclose(f);
	return count;
}

/* Ten pages of address space with two areas in them. */
static char *map_span(void)
{
	size_t sz = ksm_psize(), i;
	char *p = ksm_map(SPAN);

	for (i = 0; p && i < SPAN; i++)
		if (mapped[i] == ' ')
			munmap(p + i * sz, sz);
	return p;
}

static int advise_all(char *p, int advice)
{
	size_t i;
	int ret = 0;

	for (i = 0; !ret && i < SPAN; i++)
		if (mapped[i] != ' ')
			ret = ksm_advise(p + i * ksm_psize(), 1, advice);
	return ret;
}

/* Which pages are marked, in the form of the table. */
static void see_marks(char *p, char *marks)
{
	size_t i;
	int ret;

	for (i = 0; i < SPAN; i++) {
		ret = ksm_vmflag(0, p + i * ksm_psize(), "mg");
		marks[i] = ret < 0 ? ' ' : ret ? 'm' : '-';
	}
	marks[SPAN] = '\0';
}

static int bad_range(const struct range *r, int advice)
{
	bool on = advice == MADV_MERGEABLE;
	char marks[SPAN + 1], want[SPAN + 1];
	char *p = map_span(), *at;
	size_t len = (size_t)r->pages * ksm_psize() + (size_t)r->bytes;
	int i, areas, ret, wrong = 0;

	if (!p || advise_all(p, on ? MADV_UNMERGEABLE : MADV_MERGEABLE))
		return complain("cannot set up \"%s\"", r->what);
	for (i = 0; i <= SPAN; i++) {
		want[i] = r->marked ? r->marked[i] : mapped[i];
		if (!on && want[i] != ' ' && want[i])
			want[i] = want[i] == 'm' ? '-' : 'm';
	}
	areas = count_areas();
	at = p + r->page * (long)ksm_psize() + r->skew;
	ret = madvise(at, len, advice) ? -errno : 0;
	see_marks(p, marks);
	if (ret != r->ret || strcmp(marks, want))
		wrong += complain("advice %d, %s: %d, and \"%s\" is \"%s\"",
				  advice, r->what, ret, want, marks);
	if (!r->marked && count_areas() != areas)
		wrong += complain("advice %d, %s: %d areas, now %d", advice,
				  r->what, areas, count_areas());
	if (r->pages == FAR)
		madvise(at, len, MADV_UNMERGEABLE);
	munmap(p, SPAN * ksm_psize());
	return wrong;
}

/* Where no process has memory: no memory is there, or none can be. */
static int bad_address(int advice)
{
	const unsigned long sz = ksm_psize();
	const struct {
		unsigned long at;
		unsigned long len;
		int ret;
	} places[] = {
		{ 0, sz, -ENOMEM }, { 0, 1, -ENOMEM }, { 0, 0, 0 },
		{ 1, 0, -EINVAL }, { 0, ULONG_MAX, -EINVAL },
		{ -sz, sz, -EINVAL }, { -sz, 2 * sz, -EINVAL },
		{ -sz, 0, 0 }, { -2 * sz, sz, -ENOMEM },
		{ ULONG_MAX, 1, -EINVAL }, { ULONG_MAX / 2 + 1, sz, -ENOMEM },
		{ ULONG_MAX / 2 + 1, ULONG_MAX / 2 + 1, -EINVAL },
	};
	int areas = count_areas(), marked = ksm_count_mg(0);
	int ret, wrong = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(places); i++) {
		ret = madvise((void *)places[i].at, places[i].len, advice) ?
			-errno : 0;
		if (ret != places[i].ret)
			wrong += complain("advice %d at %lx, length %lx: %d",
					  advice, places[i].at, places[i].len,
					  ret);
	}
	if (count_areas() != areas || ksm_count_mg(0) != marked)
		wrong += complain("advice %d changed something", advice);
	return wrong;
}

/* Kinds of memory, and whether the advice is heard there. */
struct kind {
	const char *name;
	int prot;
	int flags;
	bool file;
	bool heard;
};

static const struct kind kinds[] = {
	{ "anonymous", PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
	  .heard = true },
	{ "read-only", PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
	  .heard = true },
	{ "PROT_NONE", PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
	  .heard = true },
	{ "private file", PROT_READ | PROT_WRITE, MAP_PRIVATE, .file = true,
	  .heard = true },
	{ "private file, read-only", PROT_READ, MAP_PRIVATE, .file = true,
	  .heard = true },
	{ "shared file", PROT_READ | PROT_WRITE, MAP_SHARED, .file = true },
	{ "shared file, read-only", PROT_READ, MAP_SHARED, .file = true },
	{ "shared anonymous", PROT_READ | PROT_WRITE,
	  MAP_SHARED | MAP_ANONYMOUS },
	{ "droppable", PROT_READ | PROT_WRITE, MAP_DROPPABLE | MAP_ANONYMOUS },
	/* None of these pages has to exist. */
	{ "hugetlb", PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
	  MAP_HUGETLB | MAP_NORESERVE },
	{ "hugetlb, shared", PROT_READ | PROT_WRITE, MAP_SHARED |
	  MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE },
};

static int advice_ignored(const char *name, char *p, size_t len, bool heard)
{
	int areas = count_areas(), i, ret, wrong = 0;

	for (i = 0; i < 4; i++) {
		/* On and on, off and off */
		bool on = i < 2;

		ret = madvise(p, len, on ? MADV_MERGEABLE : MADV_UNMERGEABLE) ?
			-errno : 0;
		if (ret || ksm_vmflag(0, p, "mg") != (on && heard))
			wrong += complain("advice %d for %s: %d, mark %d", on,
					  name, ret, ksm_vmflag(0, p, "mg"));
	}
	if (count_areas() != areas)
		wrong += complain("%s: %d areas, now %d", name, areas,
				  count_areas());
	return wrong;
}

static int bad_kind(const struct kind *k)
{
	size_t len = k->flags & MAP_HUGETLB ? 2UL << 20 : 4 * ksm_psize();
	int fd = -1, wrong;
	char *p;

	if (k->file) {
		fd = (int)syscall(SYS_memfd_create, "ksm", 0);
		if (fd < 0 || ftruncate(fd, (off_t)len))
			return complain("no file: errno %d", errno);
	}
	p = mmap(NULL, len, k->prot, k->flags, fd, 0);
	if (fd >= 0)
		close(fd);
	if (p == MAP_FAILED) {
		if (k->flags & MAP_HUGETLB || k->flags & MAP_DROPPABLE)
			return 0;
		return complain("cannot map %s: errno %d", k->name, errno);
	}
	wrong = advice_ignored(k->name, p, len, k->heard);
	/* A small page of a huge one is no reason to split it. */
	if (!k->heard)
		wrong += advice_ignored(k->name, p, ksm_psize(), false);
	munmap(p, len);
	return wrong;
}

/* The kernel's own areas: VM_PFNMAP and VM_IO, and a special mapping. */
static int bad_special(const char *name)
{
	unsigned long from, to;
	char line[512];
	int wrong = 0;
	FILE *f;

	f = fopen("/proc/self/maps", "re");
	if (!f)
		return complain("no maps: errno %d", errno);
	while (fgets(line, sizeof(line), f))
		if (strstr(line, name) &&
		    sscanf(line, "%lx-%lx ", &from, &to) == 2)
			wrong += advice_ignored(name, (char *)from, to - from,
						false);
	fclose(f);
	return wrong;
}

/* Nobody gives the advice to another process, nor to himself that way. */
static int bad_process_madvise(int advice)
{
	struct iovec iov;
	int fd, wrong = 0;
	char *p;

	fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (fd < 0)
		return 0;
	p = ksm_map(1);
	iov = (struct iovec){ p, ksm_psize() };
	if (!p || syscall(SYS_process_madvise, fd, &iov, 1UL, advice, 0) != -1 ||
	    errno != EINVAL || ksm_vmflag(0, p, "mg"))
		wrong = complain("process_madvise: advice %d, errno %d",
				 advice, errno);
	ksm_unmap(p, 1);
	close(fd);
	return wrong;
}

static int bad_madvise(void)
{
	static const int advices[] = { MADV_MERGEABLE, MADV_UNMERGEABLE };
	int wrong = 0;
	size_t i, a;

	for (a = 0; a < ARRAY_SIZE(advices); a++) {
		for (i = 0; i < ARRAY_SIZE(ranges); i++)
			wrong += bad_range(&ranges[i], advices[a]);
		wrong += bad_address(advices[a]);
		wrong += bad_process_madvise(advices[a]);
	}
	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		wrong += bad_kind(&kinds[i]);
	wrong += bad_special("[vvar");
	wrong += bad_special("[vdso]");
	return wrong;
}

/* An area that would have to be cut, when there are too many areas. */
TEST_F(input, too_many_areas)
{
	char *p = ksm_map(3), *q = ksm_map_filled(3, SEED, 0);
	int ret[2];

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	if (ksm_put_num(MAX_MAP_COUNT, 1))
		SKIP(return, "no limit for the number of areas");
	ret[0] = ksm_mergeable(p + ksm_psize(), 1);
	ret[1] = ksm_unmergeable(q + ksm_psize(), 1);
	ASSERT_EQ(0, ksm_keep_restore());
	EXPECT_EQ(-EAGAIN, ret[0]);
	EXPECT_EQ(-EAGAIN, ret[1]);
	EXPECT_EQ(0, ksm_vmflag(0, p + ksm_psize(), "mg"));
	EXPECT_EQ(1, ksm_vmflag(0, q + ksm_psize(), "mg"));
	check_all(_metadata, &self->before, self->p);
	ksm_unmap(p, 3);
	ksm_unmap(q, 3);
}

/* ---- whoever it is ------------------------------------------------------- */

#define NO_NAMESPACE	99

static int stay_root(void)
{
	return 0;
}

static int become_nobody(void)
{
	if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
		return complain("cannot become nobody: errno %d", errno);
	/* Own files in /proc are to be read as before. */
	prctl(PR_SET_DUMPABLE, 1);
	return 0;
}

/* An ordinary user who is root in a namespace of his own. */
static int become_root_of_a_namespace(void)
{
	if (become_nobody())
		return 1;
	if (unshare(CLONE_NEWUSER))
		return NO_NAMESPACE;
	prctl(PR_SET_DUMPABLE, 1);
	if (ksm_put("/proc/self/uid_map", "0 65534 1") || getuid() || geteuid())
		return complain("no root in the namespace: errno %d", errno);
	return 0;
}

struct job {
	int (*become)(void);
	int (*fn)(void);
	char *p;
};

/* Let go of what the parent had marked, become somebody, do it. */
static int do_job(struct ksm_child *c)
{
	struct job *job = c->arg;
	int ret;

	if (job->p && ksm_unmergeable(job->p, NR_PAGES))
		return complain("cannot begin: errno %d", errno);
	ret = job->become();
	if (!ret)
		ret = job->fn();
	return ret > NO_NAMESPACE ? NO_NAMESPACE - 1 : ret;
}

static void as_user(struct __test_metadata *_metadata,
		    const struct snapshot *before, char *p,
		    int (*become)(void), int (*fn)(void))
{
	struct job job = { become, fn, p };
	struct ksm_child c = { 0 };
	int ret;

	ASSERT_EQ(0, ksm_spawn(&c, do_job, &job));
	ret = ksm_reap(&c);
	check_all(_metadata, before, p);
	if (ret == NO_NAMESPACE)
		SKIP(return, "no user namespaces in this kernel, or not for users");
	EXPECT_EQ(0, ret);
}

TEST_F_TIMEOUT(input, bad_prctl, 60)
{
	if (merge_any() == -EINVAL)
		SKIP(return, "no PR_GET_MEMORY_MERGE in this kernel");
	as_user(_metadata, &self->before, self->p, stay_root, bad_prctl);
}

TEST_F_TIMEOUT(input, bad_madvise, 90)
{
	as_user(_metadata, &self->before, self->p, stay_root, bad_madvise);
}

FIXTURE(user)
{
	char *p;
	struct snapshot before;
};

FIXTURE_VARIANT(user)
{
	int (*become)(void);
};

FIXTURE_VARIANT_ADD(user, nobody)
{
	.become = become_nobody,
};

FIXTURE_VARIANT_ADD(user, user_namespace)
{
	.become = become_root_of_a_namespace,
};

FIXTURE_SETUP(user)
{
	const char *why = ksm_env_missing(0);

	if (why)
		SKIP(return, "%s", why);
	if (prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) < 0)
		SKIP(return, "no PR_GET_MEMORY_MERGE in this kernel");
	ASSERT_EQ(0, ksm_baseline());
	self->p = ksm_map_filled(NR_PAGES, SEED, 0);
	ASSERT_NE(NULL, self->p);
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, ksm_count_same(self->p, NR_PAGES));
	ASSERT_EQ(0, take_snapshot(&self->before));
}

FIXTURE_TEARDOWN(user)
{
	ksm_finish(__test_passed(_metadata));
}

TEST_F_TIMEOUT(user, bad_prctl, 60)
{
	as_user(_metadata, &self->before, self->p, variant->become, bad_prctl);
}

TEST_F_TIMEOUT(user, bad_madvise, 90)
{
	as_user(_metadata, &self->before, self->p, variant->become,
		bad_madvise);
}

/* Nobody but root opens a file of KSM for writing; everybody reads it. */
static int write_all_files(void)
{
	static const int modes[] = {
		O_WRONLY, O_RDWR, O_WRONLY | O_TRUNC, O_WRONLY | O_APPEND,
		O_WRONLY | O_CREAT,
	};
	struct snapshot s;
	int fd, i, wrong = 0;
	char path[128];
	size_t m;

	if (take_snapshot(&s))
		return complain("cannot read all files");
	for (i = 0; i < s.nr; i++) {
		ksm_path(path, sizeof(path), s.file[i].name);
		for (m = 0; m < ARRAY_SIZE(modes); m++) {
			errno = 0;
			fd = open(path, modes[m] | O_CLOEXEC, 0666);
			if (fd < 0 && errno == EACCES)
				continue;
			wrong += complain("opened %s for writing, errno %d",
					  path, errno);
			close(fd);
		}
		if (!truncate(path, 0) || errno != EACCES)
			wrong += complain("truncated %s, errno %d", path,
					  errno);
		if (!chmod(path, 0666) || errno != EPERM)
			wrong += complain("changed the mode of %s, errno %d",
					  path, errno);
	}
	return wrong;
}

TEST_F_TIMEOUT(user, writes_to_files, 60)
{
	as_user(_metadata, &self->before, self->p, variant->become,
		write_all_files);
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(0);
	ksm_keep(MAX_MAP_COUNT);
	return test_harness_run(argc, argv);
}
