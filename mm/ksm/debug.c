// SPDX-License-Identifier: GPL-2.0
/*
 * CONFIG_KSM_DEBUG: the file reread_passes in the debugfs folder ksm.
 *
 * For tests, which would have to wait long otherwise: in how many passes is a
 * settled page read again?
 */
#include <linux/debugfs.h>
#include <linux/init.h>
#include "internal.h"

static int reread_get(void *unused, u64 *passes)
{
	*passes = READ_ONCE(ksm_scan_reread_passes);
	return 0;
}

static int reread_set(void *unused, u64 passes)
{
	if (!passes || passes > KSM_REREAD_PASSES)
		return -EINVAL;
	WRITE_ONCE(ksm_scan_reread_passes, passes);
	return 0;
}

DEFINE_DEBUGFS_ATTRIBUTE(reread_fops, reread_get, reread_set, "%llu\n");

static int __init ksm_debug_init(void)
{
	struct dentry *dir = debugfs_create_dir("ksm", NULL);

	debugfs_create_file("reread_passes", 0600, dir, NULL, &reread_fops);
	return 0;
}
late_initcall(ksm_debug_init);
