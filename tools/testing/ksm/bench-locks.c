// SPDX-License-Identifier: GPL-2.0
/*
 * How long KSM holds the locks that others wait for: the tracepoint ksm_locked,
 * which the stock kernel does not have.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "bench.h"

#define DIR_TRACING	"/sys/kernel/tracing/"
#define DIR_EVENT	DIR_TRACING "events/ksm/ksm_locked/"
#define BUFFER_KB	"32768"
#define MOST_HOLDS	1000000
#define NR_BUCKETS	12	/* up to 1, 2, 4, ... us; the last is for all above */

/* As the tracepoint prints them */
static const char *const lock_names[] = { "scan_mutex", "mmap_lock" };

struct holds {
	size_t nr;
	double *ns;
};

static void put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		fail("%s", path);
	close(fd);
}

bool locks_watch(void)
{
	if (mount("tracefs", DIR_TRACING, "tracefs", 0, NULL) && errno != EBUSY)
		fail("tracefs");
	if (access(DIR_EVENT, F_OK))
		return false;
	put_file(DIR_TRACING "buffer_size_kb", BUFFER_KB);
	put_file(DIR_EVENT "enable", "1");
	return true;
}

static int by_length(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void report_lock(const char *name, struct holds *holds)
{
	unsigned long count[NR_BUCKETS] = { 0 };
	unsigned int bucket;
	char key[64];
	size_t i;

	qsort(holds->ns, holds->nr, sizeof(*holds->ns), by_length);
	for (i = 0; i < holds->nr; i++) {
		for (bucket = 0; bucket < NR_BUCKETS - 1; bucket++)
			if (holds->ns[i] <= (1000 << bucket))
				break;
		count[bucket]++;
	}
	for (bucket = 0; bucket < NR_BUCKETS; bucket++) {
		snprintf(key, sizeof(key), "%s_us_%u", name, 1 << bucket);
		report(key, count[bucket]);
	}
	snprintf(key, sizeof(key), "%s_p99", name);
	report(key, holds->nr ? holds->ns[holds->nr * 99 / 100] : 0);
	snprintf(key, sizeof(key), "%s_max", name);
	report(key, holds->nr ? holds->ns[holds->nr - 1] : 0);
}

/* What has been seen since locks_watch() */
void locks_report(void)
{
	struct holds holds[ARRAY_SIZE(lock_names)] = { 0 };
	FILE *file = fopen(DIR_TRACING "trace", "r");
	char line[512], name[32];
	double ns;
	size_t i;

	if (!file)
		fail("trace");
	for (i = 0; i < ARRAY_SIZE(lock_names); i++) {
		holds[i].ns = malloc(MOST_HOLDS * sizeof(double));
		if (!holds[i].ns)
			fail("memory");
	}
	while (fgets(line, sizeof(line), file)) {
		const char *text = strstr(line, "ksm_locked: ");

		if (!text || sscanf(text, "ksm_locked: %31s held for %lf ns",
				    name, &ns) != 2)
			continue;
		for (i = 0; i < ARRAY_SIZE(lock_names); i++)
			if (!strcmp(name, lock_names[i]) &&
			    holds[i].nr < MOST_HOLDS)
				holds[i].ns[holds[i].nr++] = ns;
	}
	fclose(file);
	put_file(DIR_EVENT "enable", "0");
	for (i = 0; i < ARRAY_SIZE(lock_names); i++) {
		report_lock(lock_names[i], &holds[i]);
		free(holds[i].ns);
	}
}
