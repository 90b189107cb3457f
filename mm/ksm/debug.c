// SPDX-License-Identifier: GPL-2.0
/*
 * CONFIG_KSM_DEBUG: files in the debugfs folder ksm, for tests.
 *
 * reread_passes: in how many passes is a settled page read again?  Tests would
 * have to wait long otherwise.
 *
 * digest_bits: how many bits has a digest?  With few, different pages have the
 * same, as somebody could bring about who knows the secrets.
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

static int digest_bits_get(void *unused, u64 *bits)
{
	ksm_scan_lock();
	*bits = ksm_digest_strength();
	ksm_scan_unlock();
	return 0;
}

/*
 * What is ordered by the digests of before would not be found again.  A settled
 * page keeps its digest until it is read the next time, and meets its twins
 * later than usual.
 */
static int digest_bits_set(void *unused, u64 bits)
{
	int err = -EBUSY;

	if (!bits || bits > KSM_DIGEST_BITS)
		return -EINVAL;
	ksm_scan_lock();
	if (!ksm_stats.nodes) {
		ksm_candidates_drop();
		ksm_filter_renew();
		ksm_digest_weaken(bits);
		err = 0;
	}
	ksm_scan_unlock();
	return err;
}

DEFINE_DEBUGFS_ATTRIBUTE(digest_bits_fops, digest_bits_get, digest_bits_set,
			 "%llu\n");

static int __init ksm_debug_init(void)
{
	struct dentry *dir = debugfs_create_dir("ksm", NULL);

	debugfs_create_file("reread_passes", 0600, dir, NULL, &reread_fops);
	debugfs_create_file("digest_bits", 0600, dir, NULL, &digest_bits_fops);
	return 0;
}
late_initcall(ksm_debug_init);
