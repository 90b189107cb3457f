// SPDX-License-Identifier: GPL-2.0
/*
 * The view on ksmd: its settings, its passes, its CPU time; and the memory that
 * the kernel uses.
 *
 * A batch is made larger than any pass, and both kernels end a batch where a
 * pass ends: so between two passes ksmd rests, and can be stopped there. A pass
 * is then measured exactly, however short it is.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define DIR_KSM		"/sys/kernel/mm/ksm/"
#define BATCH_PAGES	"1000000000"
#define REST_MS		"20"	/* time enough to stop ksmd */
#define POLL_MS		4

static int fd_run, fd_passes, fd_schedstat;

double clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

double cpu_of(const struct rusage *usage)
{
	return (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1e9 +
	       (usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) * 1e3;
}

struct cost cost_begin(void)
{
	struct cost now = { .wall = clock_ns() };
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	now.cpu = cpu_of(&usage);
	return now;
}

struct cost cost_end(const struct cost *begin)
{
	struct cost cost = cost_begin();

	cost.wall -= begin->wall;
	cost.cpu -= begin->cpu;
	return cost;
}

void rest_ms(unsigned int ms)
{
	struct timespec rest = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&rest, NULL);
}

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags);

	if (fd < 0)
		fail("%s", path);
	return fd;
}

/* The file as a string, from its beginning */
static void reread(int fd, char *text, size_t size)
{
	ssize_t got = pread(fd, text, size - 1, 0);

	if (got <= 0)
		fail("read");
	text[got] = '\0';
}

static unsigned long number_in(int fd)
{
	char text[128];

	reread(fd, text, sizeof(text));
	return strtoul(text, NULL, 10);
}

static void put(int fd, const char *text)
{
	if (pwrite(fd, text, strlen(text), 0) != (ssize_t)strlen(text))
		fail("write of %s", text);
}

static void set(const char *file, const char *value)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), DIR_KSM "%s", file);
	fd = open_file(path, O_WRONLY);
	put(fd, value);
	close(fd);
}

unsigned long ksm_get(const char *file)
{
	unsigned long value;
	char path[128];
	int fd;

	snprintf(path, sizeof(path), DIR_KSM "%s", file);
	fd = open_file(path, O_RDONLY);
	value = number_in(fd);
	close(fd);
	return value;
}

static bool is_ksmd(const char *pid)
{
	char path[64], name[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%.16s/comm", pid);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return false;
	reread(fd, name, sizeof(name));
	close(fd);
	return !strcmp(name, "ksmd\n");
}

static int open_schedstat(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	char path[64];

	if (!proc)
		fail("/proc");
	while ((entry = readdir(proc))) {
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9' ||
		    !is_ksmd(entry->d_name))
			continue;
		snprintf(path, sizeof(path), "/proc/%.16s/schedstat",
			 entry->d_name);
		closedir(proc);
		return open_file(path, O_RDONLY);
	}
	fail("there is no ksmd");
}

void ksm_open(bool smart)
{
	fd_run = open_file(DIR_KSM "run", O_RDWR);
	fd_passes = open_file(DIR_KSM "full_scans", O_RDONLY);
	fd_schedstat = open_schedstat();
	set("pages_to_scan", BATCH_PAGES);
	set("sleep_millisecs", REST_MS);
	set("smart_scan", smart ? "1" : "0");
}

/* A batch as users have them, when it is not passes that are measured */
void ksm_batch(const char *pages)
{
	set("pages_to_scan", pages);
}

/* CPU time of ksmd since it was started, in ns */
static double ksm_cpu(void)
{
	return number_in(fd_schedstat);
}

static unsigned long wait_for_passes(unsigned long goal)
{
	unsigned long passes;

	while ((passes = number_in(fd_passes)) < goal)
		rest_ms(POLL_MS);
	return passes;
}

/* Let ksmd do one pass: its CPU time */
double ksm_pass(void)
{
	unsigned long before = number_in(fd_passes), passes;
	double cpu = ksm_cpu();

	put(fd_run, "1");
	wait_for_passes(before + 1);
	put(fd_run, "0");
	passes = number_in(fd_passes);
	return (ksm_cpu() - cpu) / (passes - before);
}

/* Let ksmd do pass after pass for so long: their number */
double ksm_passes_during(unsigned int ms)
{
	unsigned long before = number_in(fd_passes);
	double end = clock_ns() + ms * 1e6;

	set("sleep_millisecs", "0");
	put(fd_run, "1");
	while (clock_ns() < end)
		rest_ms(POLL_MS);
	put(fd_run, "0");
	set("sleep_millisecs", REST_MS);
	return number_in(fd_passes) - before;
}

/* How long it takes to unmerge everything */
struct cost ksm_unmerge(void)
{
	struct cost begin = cost_begin();

	put(fd_run, "2");
	return cost_end(&begin);
}

/* The sum of the numbers that follow a word in a file of /proc */
static double sum_after(const char *path, const char *word)
{
	FILE *file = fopen(path, "r");
	double sum = 0, number;
	char line[512];

	if (!file)
		fail("%s", path);
	while (fgets(line, sizeof(line), file)) {
		const char *text = line + strspn(line, " ");

		if (!strncmp(text, word, strlen(word)) &&
		    sscanf(text + strlen(word), "%lf", &number) == 1)
			sum += number;
	}
	fclose(file);
	return sum;
}

/* Slab caches whose names begin with ksm, of which each is a line */
static double ksm_slabs(void)
{
	double bytes = 0, objects, size;
	char line[512], name[64];
	FILE *file = fopen("/proc/slabinfo", "r");

	if (!file)
		fail("/proc/slabinfo");
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%63s %*s %lf %lf", name, &objects, &size) == 3 &&
		    !strncmp(name, "ksm", 3))
			bytes += objects * size;
	}
	fclose(file);
	return bytes;
}

struct usage kernel_usage(void)
{
	static const char meminfo[] = "/proc/meminfo";
	struct usage usage;

	usage.own = 1024 * (sum_after(meminfo, "Slab:") +
			    sum_after(meminfo, "VmallocUsed:") +
			    sum_after(meminfo, "Percpu:"));
	usage.free = 1024 * sum_after(meminfo, "MemFree:") +
		     PAGE_BYTES * sum_after("/proc/zoneinfo", "count:");
	usage.slabs = ksm_slabs();
	return usage;
}
