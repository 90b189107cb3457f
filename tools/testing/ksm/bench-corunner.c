// SPDX-License-Identifier: GPL-2.0
/*
 * A program that suffers from what another processor does to caches and memory.
 *
 * It reads the console of a user-mode Linux on standard input, passes it on, and
 * works meanwhile. "@ section KIND" chooses the work: "cache", random reads in
 * what fits in a processor's own cache; "shared", in what fits in the one that
 * processors share; "memory", a stream through more than any. "@ window idle",
 * "busy" and "none" say what ksmd does from there on, "@ units N" how much it
 * did in the busy window before. Each busy window is compared with the idle ones
 * before and after it. At the end of a section follow the medians: the speed
 * lost in percent, "@ slower_KIND", and the ns lost for each unit, "@ lost_KIND".
 * Speed is work in a second of CPU time, so that it does not matter whether
 * something else ran here.
 */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MIB		(1024UL * 1024)
#define LINE_BYTES	64
#define CHUNK		2048	/* reads between two looks at the console */
#define MAX_WINDOWS	64
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

struct kind {
	const char *name;
	size_t bytes;
	int random;
};

static const struct kind kinds[] = {
	{ "cache",	1 * MIB,	1 },
	{ "shared",	16 * MIB,	1 },
	{ "memory",	256 * MIB,	0 },
};

enum state { NONE, IDLE, BUSY };

static struct window {
	enum state state;
	double seconds;		/* begin of it, while it lasts */
	double reads;
	double units;
} windows[MAX_WINDOWS];

static const struct kind *kind;		/* of this section, if any */
static unsigned int nr_windows;		/* in it, so far */
static struct window window;		/* now */

static char *memory;
static uint64_t place = 1;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* The next place depends on what was read, so that reads wait for each other */
static void work_some(void)
{
	size_t lines = kind->bytes / LINE_BYTES;
	uint64_t sum = 0;
	int i;

	for (i = 0; i < CHUNK; i++) {
		if (kind->random)
			place = place * 6364136223846793005 + 1442695040888963407 + sum;
		else
			place += 1UL << 33;
		sum = *(uint64_t *)(memory + (place >> 33) % lines * LINE_BYTES);
	}
	/* Or else the compiler would do without the reads */
	asm volatile("" : : "r" (sum));
	window.reads += CHUNK;
}

static void begin_window(enum state state)
{
	if (window.state != NONE && nr_windows < MAX_WINDOWS) {
		window.seconds = now() - window.seconds;
		windows[nr_windows++] = window;
	}
	memset(&window, 0, sizeof(window));
	window.state = state;
	window.seconds = now();
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, unsigned int count)
{
	qsort(values, count, sizeof(*values), by_value);
	return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

static double speed(const struct window *w)
{
	return w->reads / w->seconds;
}

static void end_section(void)
{
	double slower[MAX_WINDOWS], lost[MAX_WINDOWS];
	unsigned int i, count = 0;

	begin_window(NONE);
	for (i = 1; i + 1 < nr_windows; i++) {
		const struct window *w = &windows[i];

		if (w->state != BUSY || !w->units)
			continue;
		slower[count] = 1 - speed(w) / ((speed(w - 1) + speed(w + 1)) / 2);
		lost[count] = slower[count] * w->seconds * 1e9 / w->units;
		count++;
	}
	if (count) {
		printf("@ slower_%s %g\n", kind->name, 100 * median(slower, count));
		printf("@ lost_%s %g\n", kind->name, median(lost, count));
	}
	nr_windows = 0;
	kind = NULL;
}

static void begin_section(const char *name)
{
	unsigned int i;

	end_section();
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!strncmp(name, kinds[i].name, strlen(kinds[i].name)))
			kind = &kinds[i];
	}
}

static void hear(const char *line)
{
	double number;

	if (!strncmp(line, "@ section ", 10))
		begin_section(line + 10);
	else if (!strncmp(line, "@ window idle", 13))
		begin_window(IDLE);
	else if (!strncmp(line, "@ window busy", 13))
		begin_window(BUSY);
	else if (!strncmp(line, "@ window none", 13))
		begin_window(NONE);
	else if (sscanf(line, "@ units %lf", &number) == 1 && nr_windows)
		windows[nr_windows - 1].units = number;
	else
		printf("%s\n", line);
}

/* Whole lines of the console; 0 at its end */
static int listen_to_console(void)
{
	static char text[4096];
	static size_t length;
	ssize_t got = read(STDIN_FILENO, text + length, sizeof(text) - 1 - length);
	char *line = text, *end;

	if (got <= 0)
		return 0;
	length += got;
	text[length] = '\0';
	while ((end = strchr(line, '\n'))) {
		*end = '\0';
		line[strcspn(line, "\r")] = '\0';
		hear(line);
		line = end + 1;
	}
	length -= line - text;
	memmove(text, line, length);
	if (length == sizeof(text) - 1)
		length = 0;
	fflush(stdout);
	return 1;
}

int main(void)
{
	struct pollfd console = { .fd = STDIN_FILENO, .events = POLLIN };
	size_t most = 256 * MIB;

	memory = mmap(NULL, most, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) {
		perror("bench-corunner");
		return 1;
	}
	/* Not all the same page of zeros */
	memset(memory, 1, most);
	for (;;) {
		if (kind)
			work_some();
		if (poll(&console, 1, kind ? 0 : -1) && !listen_to_console())
			break;
	}
	end_section();
	return 0;
}
