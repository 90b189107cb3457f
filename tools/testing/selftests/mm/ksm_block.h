/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Blocks of memory that go offline and come back, for the KSM selftests and
 * the storm.  Only blocks of movable memory are meant: what is in them can
 * move out.
 *
 * As in ksm_util.h no helper ends the process.  Include that file and
 * ksm_env.h first.
 */
#ifndef KSM_BLOCK_H
#define KSM_BLOCK_H

#define KSM_BLOCK_DIR	"/sys/devices/system/memory/"

/* Pages of each block; 0 when memory has no blocks. */
static inline uint64_t ksm_block_pages(void)
{
	char buf[64];

	if (ksm_slurp(KSM_BLOCK_DIR "block_size_bytes", buf, sizeof(buf)) <= 0)
		return 0;
	return strtoull(buf, NULL, 16) / ksm_psize();
}

/* Does a file of a block say so? */
static inline bool ksm_block_is(int block, const char *name, const char *text)
{
	char path[128], buf[64];

	snprintf(path, sizeof(path), KSM_BLOCK_DIR "memory%d/%s", block, name);
	return ksm_slurp(path, buf, sizeof(buf)) > 0 && !strcmp(buf, text);
}

/* Set the state of a block; 0 or -errno. */
static inline int ksm_block_put(int block, const char *state)
{
	char path[128];

	snprintf(path, sizeof(path), KSM_BLOCK_DIR "memory%d/state", block);
	return ksm_put(path, state);
}

struct ksm_block_job {
	int block;
	unsigned int secs;
};

static inline int ksm_block_child(struct ksm_child *c)
{
	struct ksm_block_job *job = c->arg;

	alarm(job->secs);
	return -ksm_block_put(job->block, "offline");
}

/*
 * Take a block offline in a child that a signal ends in time; 0, an errno, or
 * -EINTR for the signal.
 */
static inline int ksm_block_offline(int block, unsigned int secs)
{
	struct ksm_block_job job = { block, secs };
	struct ksm_child c;

	return ksm_spawn(&c, ksm_block_child, &job) ?: ksm_reap(&c);
}

/* Bring back each of @nr blocks that is not online; 0 or the first error. */
static inline int ksm_blocks_online(const int *blocks, int nr)
{
	int i, ret, first = 0;

	for (i = 0; i < nr; i++) {
		if (ksm_block_is(blocks[i], "state", "online"))
			continue;
		ret = ksm_block_put(blocks[i], "online_movable");
		first = first ? first : ret;
	}
	return first;
}

/*
 * Find blocks of movable memory that are online, go offline within @secs, and
 * come back; how many, @max at most.  One with holes in it cannot go, for
 * instance.
 */
static inline int ksm_blocks_find(int *blocks, int max, unsigned int secs)
{
	struct dirent *de;
	int block, nr = 0;
	DIR *dir;

	dir = opendir(KSM_BLOCK_DIR);
	if (!dir)
		return 0;
	while ((de = readdir(dir)) && nr < max)
		if (sscanf(de->d_name, "memory%d", &block) == 1 &&
		    ksm_block_is(block, "state", "online") &&
		    ksm_block_is(block, "valid_zones", "Movable") &&
		    !ksm_block_offline(block, secs) &&
		    !ksm_block_put(block, "online_movable"))
			blocks[nr++] = block;
	closedir(dir);
	return nr;
}

#endif /* KSM_BLOCK_H */
