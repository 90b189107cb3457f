// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the files in /sys/kernel/mm/ksm (sysfs.c), written and read as a
 * user would.  Nothing is mounted when tests run, so they mount sysfs.
 */
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include "helpers.h"

#define TEXT	128

#ifdef CONFIG_64BIT
#define MOST_ULONG	"18446744073709551615"
#define OVER_ULONG	"18446744073709551616"
#else
#define MOST_ULONG	"4294967295"
#define OVER_ULONG	"4294967296"
#endif

static void unmount_action(void *arg)
{
	kern_unmount(arg);
}

static struct vfsmount *mount_sysfs(struct kunit *test)
{
	struct file_system_type *type = get_fs_type("sysfs");
	struct vfsmount *mnt;

	KUNIT_ASSERT_NOT_NULL(test, type);
	mnt = kern_mount(type);
	put_filesystem(type);
	KUNIT_ASSERT_FALSE(test, IS_ERR(mnt));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, unmount_action,
							   mnt));
	return mnt;
}

static struct file *open_file(struct vfsmount *mnt, const char *name, int flags)
{
	char path[TEXT];

	snprintf(path, sizeof(path), "kernel/mm/ksm/%s", name);
	return file_open_root_mnt(mnt, path, flags, 0);
}

/* Returns 0 or what write() would */
static int write_text(struct vfsmount *mnt, const char *name, const char *text)
{
	struct file *file = open_file(mnt, name, O_WRONLY);
	ssize_t done;
	loff_t pos = 0;

	if (IS_ERR(file))
		return PTR_ERR(file);
	done = kernel_write(file, text, strlen(text), &pos);
	filp_close(file, NULL);
	if (done < 0)
		return done;
	return done == strlen(text) ? 0 : -EIO;
}

/* Leaves an empty text behind if it cannot be read */
static const char *read_text(struct vfsmount *mnt, const char *name, char *text)
{
	struct file *file = open_file(mnt, name, O_RDONLY);
	ssize_t done = 0;
	loff_t pos = 0;

	if (!IS_ERR(file)) {
		done = kernel_read(file, text, TEXT - 1, &pos);
		filp_close(file, NULL);
	}
	text[max(done, 0)] = '\0';
	return text;
}

/* A file that takes a number, or refuses to */
struct number_file {
	const char *name;
	const char *good[4];	/* each is shown as it was written */
	const char *bad[6];
	int error[6];
};

static const struct number_file number_files[] = {
	{ "pages_to_scan", { "0", "1", "4294967295", "100" },
	  { "-1", "4294967296", "", "x", "1x", "99999999999999999999" },
	  { -EINVAL, -EINVAL, 0, -EINVAL, -EINVAL, -EINVAL } },
	{ "sleep_millisecs", { "0", "1", "4294967295", "20" },
	  { "-1", "4294967296", "1.5", "x", " 1", "99999999999999999999" },
	  { -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL } },
	{ "stable_node_chains_prune_millisecs",
	  { "0", "1", "4294967295", "2000" },
	  { "-1", "4294967296", "0x", "x", "1 2", "99999999999999999999" },
	  { -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL } },
	{ "max_page_sharing", { "2", "3", "2147483647", "256" },
	  { "0", "1", "-5", "2147483648", "x", "4294967298" },
	  { -EINVAL, -EINVAL, -EINVAL, -ERANGE, -EINVAL, -ERANGE } },
	{ "use_zero_pages", { "1", "0" },
	  { "2", "x", "-1" }, { -EINVAL, -EINVAL, -EINVAL } },
	{ "smart_scan", { "0", "1" },
	  { "2", "x", "-1" }, { -EINVAL, -EINVAL, -EINVAL } },
	{ "run", { "0" },
	  { "3", "-1", "4", "x", "10" },
	  { -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL } },
	{ "advisor_max_cpu", { "0", "100", "4294967295", "70" },
	  { "-1", "4294967296", "x" }, { -EINVAL, -EINVAL, -EINVAL } },
	{ "advisor_min_pages_to_scan",
	  { "0", "1", MOST_ULONG, "500" },
	  { "-1", OVER_ULONG, "x" },
	  { -EINVAL, -EINVAL, -EINVAL } },
	{ "advisor_max_pages_to_scan",
	  { "0", "1", MOST_ULONG, "30000" },
	  { "-1", OVER_ULONG, "x" },
	  { -EINVAL, -EINVAL, -EINVAL } },
	{ "advisor_target_scan_time",
	  { "1", MOST_ULONG, "200" },
	  { "0", "-1", OVER_ULONG, "x" },
	  { -EINVAL, -EINVAL, -EINVAL, -EINVAL } },
#ifdef CONFIG_NUMA
	{ "merge_across_nodes", { "0", "1" },
	  { "2", "-1", "x", OVER_ULONG },
	  { -EINVAL, -EINVAL, -EINVAL, -ERANGE } },
#endif
};

static void check_number_file(struct kunit *test, struct vfsmount *mnt,
			      const struct number_file *file)
{
	char text[TEXT], shown[TEXT], saved[TEXT];
	unsigned int i;

	read_text(mnt, file->name, saved);
	KUNIT_EXPECT_NE_MSG(test, saved[0], '\0', "%s", file->name);
	for (i = 0; i < ARRAY_SIZE(file->bad) && file->bad[i]; i++) {
		KUNIT_EXPECT_EQ_MSG(test, write_text(mnt, file->name,
						     file->bad[i]),
				    file->error[i], "%s < \"%s\"", file->name,
				    file->bad[i]);
		read_text(mnt, file->name, shown);
		KUNIT_EXPECT_STREQ(test, shown, saved);
	}
	for (i = 0; i < ARRAY_SIZE(file->good) && file->good[i]; i++) {
		/* echo sends a line break along */
		snprintf(text, sizeof(text), "%s\n", file->good[i]);
		KUNIT_EXPECT_EQ_MSG(test, write_text(mnt, file->name, text), 0,
				    "%s < \"%s\"", file->name, file->good[i]);
		read_text(mnt, file->name, shown);
		KUNIT_EXPECT_STREQ(test, shown, text);
		KUNIT_EXPECT_EQ(test, write_text(mnt, file->name,
						 file->good[i]), 0);
	}
	KUNIT_EXPECT_EQ(test, write_text(mnt, file->name, saved), 0);
	read_text(mnt, file->name, shown);
	KUNIT_EXPECT_STREQ(test, shown, saved);
}

/* B118: each value is taken and shown, or refused and changes nothing */
static void numbers(struct kunit *test)
{
	struct vfsmount *mnt = mount_sysfs(test);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(number_files); i++)
		check_number_file(test, mnt, &number_files[i]);
}

static void switches_take_words(struct kunit *test)
{
	static const char * const names[] = { "use_zero_pages", "smart_scan" };
	struct vfsmount *mnt = mount_sysfs(test);
	char text[TEXT], saved[TEXT];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		read_text(mnt, names[i], saved);
		KUNIT_EXPECT_EQ(test, write_text(mnt, names[i], "off\n"), 0);
		KUNIT_EXPECT_STREQ(test, read_text(mnt, names[i], text), "0\n");
		KUNIT_EXPECT_EQ(test, write_text(mnt, names[i], "y"), 0);
		KUNIT_EXPECT_STREQ(test, read_text(mnt, names[i], text), "1\n");
		KUNIT_EXPECT_EQ(test, write_text(mnt, names[i], saved), 0);
	}
}

static void advisor_mode(struct kunit *test)
{
	struct vfsmount *mnt = mount_sysfs(test);
	char text[TEXT];

	KUNIT_EXPECT_STREQ(test, read_text(mnt, "advisor_mode", text),
			   "[none] scan-time\n");
	KUNIT_EXPECT_EQ(test, write_text(mnt, "advisor_mode", "scan"), -EINVAL);
	KUNIT_EXPECT_EQ(test, write_text(mnt, "advisor_mode", "None"), -EINVAL);
	KUNIT_EXPECT_EQ(test, write_text(mnt, "advisor_mode", "scan-time\n"),
			0);
	KUNIT_EXPECT_STREQ(test, read_text(mnt, "advisor_mode", text),
			   "none [scan-time]\n");
	KUNIT_EXPECT_STREQ(test, read_text(mnt, "pages_to_scan", text),
			   "500\n");
	/* That is the advisor's business now */
	KUNIT_EXPECT_EQ(test, write_text(mnt, "pages_to_scan", "77"), -EINVAL);
	KUNIT_EXPECT_STREQ(test, read_text(mnt, "pages_to_scan", text),
			   "500\n");
	KUNIT_EXPECT_EQ(test, write_text(mnt, "advisor_mode", "none"), 0);
	KUNIT_EXPECT_STREQ(test, read_text(mnt, "advisor_mode", text),
			   "[none] scan-time\n");
	KUNIT_EXPECT_STREQ(test, read_text(mnt, "pages_to_scan", text),
			   "100\n");
	KUNIT_EXPECT_EQ(test, write_text(mnt, "pages_to_scan", "77"), 0);
	KUNIT_EXPECT_EQ(test, write_text(mnt, "pages_to_scan", "100"), 0);
}

static void set_stats(const struct ksm_stats *stats)
{
	ksm_scan_lock();
	ksm_stats = *stats;
	ksm_scan_unlock();
}

/*
 * Each counter is shown under its own name.  The scan mutex may not be held
 * while a file is opened; ksmd is asleep, so nobody else counts meanwhile.
 */
static void counters(struct kunit *test)
{
	static const struct {
		const char *name;
		size_t offset;
	} files[] = {
		{ "pages_shared", offsetof(struct ksm_stats, shared) },
		{ "pages_sharing", offsetof(struct ksm_stats, sharing) },
		{ "pages_unshared", offsetof(struct ksm_stats, unshared) },
		{ "pages_scanned", offsetof(struct ksm_stats, scanned) },
		{ "pages_skipped", offsetof(struct ksm_stats, skipped) },
		{ "full_scans", offsetof(struct ksm_stats, full_scans) },
		{ "stable_node_chains", offsetof(struct ksm_stats, chains) },
		{ "stable_node_dups", offsetof(struct ksm_stats, dups) },
	};
	struct vfsmount *mnt = mount_sysfs(test);
	char text[TEXT], want[TEXT];
	const struct ksm_stats derived = {
		.records = 9, .unshared = 2, .bytes = 5,
	};
	struct ksm_stats before = ksm_stats;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		struct ksm_stats stats = {};

		KUNIT_EXPECT_EQ(test, write_text(mnt, files[i].name, "0"),
				-EACCES);
		*(unsigned long *)((void *)&stats + files[i].offset) =
			ULONG_MAX - i;
		snprintf(want, sizeof(want), "%lu\n", ULONG_MAX - i);
		set_stats(&stats);
		read_text(mnt, files[i].name, text);
		set_stats(&before);
		KUNIT_EXPECT_STREQ_MSG(test, text, want, "%s", files[i].name);
	}
	set_stats(&derived);
	KUNIT_EXPECT_STREQ(test, read_text(mnt, "pages_volatile", text), "7\n");
	KUNIT_EXPECT_STREQ(test, read_text(mnt, "general_profit", text),
			   "-5\n");
	KUNIT_EXPECT_STREQ(test, read_text(mnt, "ksm_zero_pages", text),
			   "0\n");
	set_stats(&before);
	KUNIT_EXPECT_EQ(test, write_text(mnt, "pages_volatile", "0"), -EACCES);
	KUNIT_EXPECT_EQ(test, write_text(mnt, "general_profit", "0"), -EACCES);
	KUNIT_EXPECT_EQ(test, write_text(mnt, "ksm_zero_pages", "0"), -EACCES);
}

/* Nothing is shared: both take apart nothing, and say so */
static void run_values(struct kunit *test)
{
	struct vfsmount *mnt = mount_sysfs(test);
	char text[TEXT];

	KUNIT_EXPECT_EQ(test, write_text(mnt, "run", "2"), 0);
	KUNIT_EXPECT_STREQ(test, read_text(mnt, "run", text), "2\n");
	KUNIT_EXPECT_STREQ(test, read_text(mnt, "full_scans", text), "0\n");
	KUNIT_EXPECT_EQ(test, write_text(mnt, "run", "1\n"), 0);
	KUNIT_EXPECT_STREQ(test, read_text(mnt, "run", text), "1\n");
	/* While memory is being removed, it says so; others wait meanwhile */
	ksm_pause(true);
	KUNIT_EXPECT_STREQ(test, read_text(mnt, "run", text), "5\n");
	ksm_pause(false);
	KUNIT_EXPECT_EQ(test, write_text(mnt, "run", "0"), 0);
	KUNIT_EXPECT_STREQ(test, read_text(mnt, "run", text), "0\n");
}

/* B69 */
static void settings_while_pages_are_shared(struct kunit *test)
{
	struct vfsmount *mnt = mount_sysfs(test);
	struct mm_struct *mm = ksm_kunit_mm(test);
	unsigned long addr = ksm_kunit_map(test, mm, 2);
	char text[TEXT];

	KUNIT_ASSERT_EQ(test, 0, ksm_kunit_fill(mm, addr, 2, 0x1d));
	ksm_kunit_offer(test, mm, addr, 2);
	ksm_kunit_passes(test, 2);
	KUNIT_EXPECT_STREQ(test, read_text(mnt, "pages_sharing", text), "1\n");
	KUNIT_EXPECT_EQ(test, write_text(mnt, "max_page_sharing", "16"),
			-EBUSY);
	/* Not a change, so no reason to refuse it */
	KUNIT_EXPECT_EQ(test, write_text(mnt, "max_page_sharing", "256"), 0);
	if (IS_ENABLED(CONFIG_NUMA)) {
		KUNIT_EXPECT_EQ(test, write_text(mnt, "merge_across_nodes",
						 "0"), -EBUSY);
		KUNIT_EXPECT_EQ(test, write_text(mnt, "merge_across_nodes",
						 "1"), 0);
	}
	KUNIT_EXPECT_EQ(test, write_text(mnt, "run", "2"), 0);
	KUNIT_EXPECT_STREQ(test, read_text(mnt, "pages_shared", text), "0\n");
	KUNIT_EXPECT_EQ(test, write_text(mnt, "max_page_sharing", "16"), 0);
	KUNIT_EXPECT_EQ(test, write_text(mnt, "max_page_sharing", "256"), 0);
	if (IS_ENABLED(CONFIG_NUMA)) {
		KUNIT_EXPECT_EQ(test, write_text(mnt, "merge_across_nodes",
						 "0"), 0);
		KUNIT_EXPECT_EQ(test, write_text(mnt, "merge_across_nodes",
						 "1"), 0);
	}
	KUNIT_EXPECT_EQ(test, write_text(mnt, "run", "0"), 0);
}

static struct kunit_case sysfs_cases[] = {
	KUNIT_CASE(numbers),
	KUNIT_CASE(switches_take_words),
	KUNIT_CASE(advisor_mode),
	KUNIT_CASE(counters),
	KUNIT_CASE(run_values),
	KUNIT_CASE(settings_while_pages_are_shared),
	{}
};

static struct kunit_suite sysfs_suite = {
	.name = "ksm_sysfs",
	.init = ksm_kunit_init_knobs,
	.test_cases = sysfs_cases,
};

kunit_test_suite(sysfs_suite);
