// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/kernel/mm/ksm: one table of files.  Documented in
 * Documentation/ABI/testing/sysfs-kernel-mm-ksm.
 *
 * A file is one line in the table: how it is shown, how it is set, and what it
 * is about.  Nothing is kept here.
 */
#include <linux/kobject.h>
#include <linux/kstrtox.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include "internal.h"

/**
 * struct ksm_file - a file in the directory
 * @attr: name and mode
 * @show: writes the value to the buffer
 * @store: takes a new value; NULL if the file is read-only
 * @value: what generic functions show and store
 * @least: smallest value that a generic store accepts
 * @most: and the largest
 */
struct ksm_file {
	struct kobj_attribute	attr;
	ssize_t			(*show)(const struct ksm_file *file, char *buf);
	int			(*store)(const struct ksm_file *file,
					 const char *buf);
	void			*value;
	unsigned long		least;
	unsigned long		most;
};

static const struct ksm_file *to_file(struct kobj_attribute *attr)
{
	return container_of(attr, struct ksm_file, attr);
}

static ssize_t ksm_show(struct kobject *kobj, struct kobj_attribute *attr,
			char *buf)
{
	return to_file(attr)->show(to_file(attr), buf);
}

static ssize_t ksm_store(struct kobject *kobj, struct kobj_attribute *attr,
			 const char *buf, size_t count)
{
	return to_file(attr)->store(to_file(attr), buf) ?: (ssize_t)count;
}

/* Generic: a number or a switch that may change at any moment */

static ssize_t show_uint(const struct ksm_file *file, char *buf)
{
	return sysfs_emit(buf, "%u\n", READ_ONCE(*(unsigned int *)file->value));
}

static ssize_t show_ulong(const struct ksm_file *file, char *buf)
{
	return sysfs_emit(buf, "%lu\n",
			  READ_ONCE(*(unsigned long *)file->value));
}

static ssize_t show_bool(const struct ksm_file *file, char *buf)
{
	return sysfs_emit(buf, "%u\n", READ_ONCE(*(bool *)file->value));
}

static int parse_uint(const struct ksm_file *file, const char *buf,
		      unsigned int *value)
{
	unsigned int number;

	if (kstrtouint(buf, 10, &number) || number < file->least ||
	    number > file->most)
		return -EINVAL;
	*value = number;
	return 0;
}

static int store_uint(const struct ksm_file *file, const char *buf)
{
	unsigned int number;
	int err = parse_uint(file, buf, &number);

	if (!err)
		WRITE_ONCE(*(unsigned int *)file->value, number);
	return err;
}

static int store_ulong(const struct ksm_file *file, const char *buf)
{
	unsigned long number;

	if (kstrtoul(buf, 10, &number) || number < file->least ||
	    number > file->most)
		return -EINVAL;
	WRITE_ONCE(*(unsigned long *)file->value, number);
	return 0;
}

static int store_bool(const struct ksm_file *file, const char *buf)
{
	bool on;

	if (kstrtobool(buf, &on))
		return -EINVAL;
	WRITE_ONCE(*(bool *)file->value, on);
	return 0;
}

/* Those with a life of their own */

static ssize_t show_run(const struct ksm_file *file, char *buf)
{
	unsigned int run = READ_ONCE(ksm_knobs.run);

	return sysfs_emit(buf, "%u\n",
			  ksm_paused() ? run | KSM_RUN_OFFLINE : run);
}

static int store_run(const struct ksm_file *file, const char *buf)
{
	unsigned int run;
	int err = parse_uint(file, buf, &run) ?: ksm_settings_lock();

	if (err)
		return err;
	err = ksm_set_run(run);
	ksm_settings_unlock();
	return err;
}

static int store_sleep(const struct ksm_file *file, const char *buf)
{
	int err = store_uint(file, buf);

	if (!err)
		ksm_wake_sleeper();
	return err;
}

static int store_pages_to_scan(const struct ksm_file *file, const char *buf)
{
	if (READ_ONCE(ksm_advisor.mode) != KSM_ADVISOR_NONE)
		return -EINVAL;
	return store_uint(file, buf);
}

static int store_max_page_sharing(const struct ksm_file *file, const char *buf)
{
	int most;
	int err = kstrtoint(buf, 10, &most);

	if (err)
		return err;
	/*
	 * A page that may be shared by one is not shared at all; and with two
	 * the chains are as long as can be, which is good for tests.
	 */
	if (most < 2)
		return -EINVAL;
	err = ksm_settings_lock();
	if (err)
		return err;
	err = ksm_set_max_page_sharing(most);
	ksm_settings_unlock();
	return err;
}

#ifdef CONFIG_NUMA
static int store_merge_across_nodes(const struct ksm_file *file,
				    const char *buf)
{
	unsigned long across;
	int err = kstrtoul(buf, 10, &across);

	if (err)
		return err;
	if (across > 1)
		return -EINVAL;
	err = ksm_settings_lock();
	if (err)
		return err;
	err = ksm_set_merge_across_nodes(across);
	ksm_settings_unlock();
	return err;
}
#endif

static const char * const advisor_modes[] = {
	[KSM_ADVISOR_NONE]	= "none",
	[KSM_ADVISOR_SCAN_TIME]	= "scan-time",
};

static ssize_t show_advisor_mode(const struct ksm_file *file, char *buf)
{
	int len = 0, i;

	for (i = 0; i < ARRAY_SIZE(advisor_modes); i++)
		len += sysfs_emit_at(buf, len,
				     READ_ONCE(ksm_advisor.mode) == i ?
				     "%s[%s]" : "%s%s", i ? " " : "",
				     advisor_modes[i]);
	return len + sysfs_emit_at(buf, len, "\n");
}

static int store_advisor_mode(const struct ksm_file *file, const char *buf)
{
	int mode = sysfs_match_string(advisor_modes, buf);

	if (mode < 0)
		return mode;
	ksm_advisor_set_mode(mode);
	return 0;
}

static ssize_t show_volatile(const struct ksm_file *file, char *buf)
{
	return sysfs_emit(buf, "%ld\n", ksm_stat_volatile());
}

static ssize_t show_profit(const struct ksm_file *file, char *buf)
{
	return sysfs_emit(buf, "%ld\n", ksm_stat_profit() -
			  (long)ksm_registry_footprint());
}

static ssize_t show_zero_pages(const struct ksm_file *file, char *buf)
{
	return sysfs_emit(buf, "%ld\n", atomic_long_read(&ksm_zero_pages));
}

#define FILE_RO(_name, _show, _value) {					\
	.attr	= __ATTR(_name, 0444, ksm_show, NULL),			\
	.show	= _show,						\
	.value	= _value,						\
}

#define FILE_RW(_name, _show, _store, _value, _least, _most) {		\
	.attr	= __ATTR(_name, 0644, ksm_show, ksm_store),		\
	.show	= _show,						\
	.store	= _store,						\
	.value	= _value,						\
	.least	= _least,						\
	.most	= _most,						\
}

static struct ksm_file files[] = {
	FILE_RW(run, show_run, store_run, NULL, KSM_RUN_STOP, KSM_RUN_UNMERGE),
	FILE_RW(pages_to_scan, show_uint, store_pages_to_scan,
		&ksm_knobs.pages_to_scan, 0, UINT_MAX),
	FILE_RW(sleep_millisecs, show_uint, store_sleep,
		&ksm_knobs.sleep_millisecs, 0, UINT_MAX),
	FILE_RW(max_page_sharing, show_uint, store_max_page_sharing,
		&ksm_knobs.max_page_sharing, 2, INT_MAX),
#ifdef CONFIG_NUMA
	FILE_RW(merge_across_nodes, show_bool, store_merge_across_nodes,
		&ksm_knobs.merge_across_nodes, 0, 1),
#endif
	FILE_RW(use_zero_pages, show_bool, store_bool,
		&ksm_knobs.use_zero_pages, 0, 1),
	FILE_RW(smart_scan, show_bool, store_bool,
		&ksm_knobs.smart_scan, 0, 1),
	FILE_RW(stable_node_chains_prune_millisecs, show_uint, store_uint,
		&ksm_knobs.prune_millisecs, 0, UINT_MAX),

	FILE_RW(advisor_mode, show_advisor_mode, store_advisor_mode, NULL, 0, 0),
	FILE_RW(advisor_max_cpu, show_uint, store_uint,
		&ksm_advisor.max_cpu, 0, UINT_MAX),
	FILE_RW(advisor_min_pages_to_scan, show_ulong, store_ulong,
		&ksm_advisor.min_pages, 0, ULONG_MAX),
	FILE_RW(advisor_max_pages_to_scan, show_ulong, store_ulong,
		&ksm_advisor.max_pages, 0, ULONG_MAX),
	FILE_RW(advisor_target_scan_time, show_ulong, store_ulong,
		&ksm_advisor.target_time, 1, ULONG_MAX),

	FILE_RO(pages_shared, show_ulong, &ksm_stats.shared),
	FILE_RO(pages_sharing, show_ulong, &ksm_stats.sharing),
	FILE_RO(pages_unshared, show_ulong, &ksm_stats.unshared),
	FILE_RO(pages_volatile, show_volatile, NULL),
	FILE_RO(pages_scanned, show_ulong, &ksm_stats.scanned),
	FILE_RO(pages_skipped, show_ulong, &ksm_stats.skipped),
	FILE_RO(full_scans, show_ulong, &ksm_stats.full_scans),
	FILE_RO(stable_node_chains, show_ulong, &ksm_stats.chains),
	FILE_RO(stable_node_dups, show_ulong, &ksm_stats.dups),
	FILE_RO(ksm_zero_pages, show_zero_pages, NULL),
	FILE_RO(general_profit, show_profit, NULL),
};

static struct attribute *attrs[ARRAY_SIZE(files) + 1];

static const struct attribute_group group = {
	.name	= "ksm",
	.attrs	= attrs,
};

/**
 * ksm_sysfs_init - make the directory
 *
 * Context: once, at boot.
 * Return: 0 or an error of sysfs.
 */
int __init ksm_sysfs_init(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(files); i++)
		attrs[i] = &files[i].attr.attr;
	return sysfs_create_group(mm_kobj, &group);
}
