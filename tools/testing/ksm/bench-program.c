// SPDX-License-Identifier: GPL-2.0
/*
 * The programs whose memory ksmd scans. They are forked while init is small,
 * then each does what init asks for through a pipe and answers how long that
 * took. In between they sleep, so that ksmd has the machine to itself.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23
#endif

enum order { FILL, OFFER, REWRITE, WAKE, WRITE, FORK, EXIT };

struct request {
	enum order order;
	uint64_t argument;
};

static struct program {
	pid_t pid;
	int to, from;
} programs[MAX_PROGRAMS];

static struct load load;	/* of all programs */
static unsigned int self;	/* in a program: its number */
static char *area;		/* in a program */

/* ------------------------------------------------------------------ */
/* In a program                                                        */
/* ------------------------------------------------------------------ */

static uint64_t mixed(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static uint64_t seed_of(unsigned int owner, size_t index, uint64_t version)
{
	return mixed(mixed(mixed(owner + 1) + index) + version);
}

static void fill_random(uint64_t *page, uint64_t seed)
{
	size_t i;

	for (i = 0; i < PAGE_WORDS; i++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		page[i] = seed;
	}
}

/* Owner 0 stands for all programs */
static void fill_page(uint64_t *page, size_t index)
{
	unsigned int owner = self + 1, share;

	switch (load.contents) {
	case UNIQUE:
		break;
	case SAME:
		owner = 0;
		break;
	case ALMOST:
		fill_random(page, 1);
		page[PAGE_WORDS - 1] = seed_of(owner, index, 0);
		return;
	case MIX:
		share = mixed(index) % 10;
		if (share < 3) {
			memset(page, 0, PAGE_BYTES);
			return;
		}
		if (share < 6)
			owner = 0;
		break;
	}
	fill_random(page, seed_of(owner, index, 0));
}

static uint64_t *page_at(size_t index)
{
	return (uint64_t *)(area + index * load.stride * PAGE_BYTES);
}

static size_t nr_pages(void)
{
	return load.bytes / PAGE_BYTES / load.stride;
}

/* All at once where there are no gaps: faults are slow in user-mode Linux */
static void fill(void)
{
	size_t i;

	area = mmap(NULL, load.bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED)
		fail("mmap");
	if (load.stride == 1 && madvise(area, load.bytes, MADV_POPULATE_WRITE))
		fail("MADV_POPULATE_WRITE");
	for (i = 0; i < nr_pages(); i++)
		fill_page(page_at(i), i);
}

/* One word of each page, another one each time */
static void rewrite(uint64_t version)
{
	size_t i;

	for (i = 0; i < nr_pages(); i++)
		page_at(i)[version % PAGE_WORDS] = seed_of(self + 1, i, version);
}

/* Take write faults, the kernel's part of them without that of user mode */
static void write_next(size_t pages)
{
	static size_t written;

	if (madvise(page_at(written), pages * PAGE_BYTES, MADV_POPULATE_WRITE))
		fail("MADV_POPULATE_WRITE");
	written += pages;
}

static void set_policy(int policy, int priority)
{
	struct sched_param param = { .sched_priority = priority };

	if (sched_setscheduler(0, policy, &param))
		fail("sched_setscheduler");
}

/*
 * Fork, and leave the child's end to others. The child is not to run before
 * the parent does: user-mode Linux would map its memory then, which takes as
 * long as the fork itself, and only sometimes.
 */
static struct cost fork_once(void)
{
	struct cost cost, begin;
	pid_t child;

	set_policy(SCHED_FIFO | SCHED_RESET_ON_FORK, 1);
	begin = cost_begin();
	child = fork();
	if (!child)
		_exit(0);
	cost = cost_end(&begin);
	set_policy(SCHED_OTHER, 0);
	if (child < 0 || waitpid(child, NULL, 0) != child)
		fail("fork");
	return cost;
}

static struct cost obey(const struct request *request)
{
	struct cost begin = cost_begin();

	switch (request->order) {
	case FILL:
		fill();
		break;
	case OFFER:
		if (madvise(area, load.bytes, MADV_MERGEABLE))
			fail("MADV_MERGEABLE");
		break;
	case REWRITE:
		rewrite(request->argument);
		break;
	case WAKE:
		break;
	case WRITE:
		write_next(request->argument);
		break;
	case FORK:
		return fork_once();
	case EXIT:
		return begin;
	}
	return cost_end(&begin);
}

static noreturn void serve(int in, int out)
{
	struct request request = { .order = FILL };
	struct cost cost;

	while (request.order != EXIT &&
	       read(in, &request, sizeof(request)) == sizeof(request)) {
		cost = obey(&request);
		if (write(out, &cost, sizeof(cost)) != sizeof(cost))
			fail("write to init");
	}
	_exit(0);
}

/* ------------------------------------------------------------------ */
/* In init                                                             */
/* ------------------------------------------------------------------ */

void programs_start(const struct load *wanted)
{
	int to[2], from[2];
	unsigned int i;

	load = *wanted;
	for (i = 0; i < load.programs; i++) {
		if (pipe(to) || pipe(from))
			fail("pipe");
		programs[i].pid = fork();
		if (programs[i].pid < 0)
			fail("fork");
		if (!programs[i].pid) {
			self = i;
			close(to[1]);
			close(from[0]);
			serve(to[0], from[1]);
		}
		close(to[0]);
		close(from[1]);
		programs[i].to = to[1];
		programs[i].from = from[0];
	}
}

static void order(unsigned int number, enum order what, uint64_t argument)
{
	struct request request = { what, argument };

	if (write(programs[number].to, &request, sizeof(request)) !=
	    sizeof(request))
		fail("program %u is gone", number);
}

static struct cost answer(unsigned int number)
{
	struct cost cost;

	if (read(programs[number].from, &cost, sizeof(cost)) != sizeof(cost))
		fail("program %u is gone", number);
	return cost;
}

static struct cost ask(unsigned int number, enum order what, uint64_t argument)
{
	order(number, what, argument);
	return answer(number);
}

/* One after the other, so that each has frames that lie together */
static void ask_all(enum order what, uint64_t argument)
{
	unsigned int i;

	for (i = 0; i < load.programs; i++)
		ask(i, what, argument);
}

void programs_fill(void)
{
	ask_all(FILL, 0);
}

void programs_offer(void)
{
	ask_all(OFFER, 0);
}

/* Version 0 is what they were filled with */
void programs_rewrite(uint64_t version)
{
	ask_all(REWRITE, version);
}

size_t programs_pages(void)
{
	return nr_pages() * load.programs;
}

unsigned int programs_number(void)
{
	return load.programs;
}

/*
 * User-mode Linux maps what has changed in page tables, a merged page for
 * example, when the program runs next: this is to be over before times are
 * taken.
 */
void programs_wake(void)
{
	ask_all(WAKE, 0);
}

/* Take write faults in some pages that were not written to before */
struct cost program_write(unsigned int number, size_t pages)
{
	return ask(number, WRITE, pages);
}

struct cost program_fork(unsigned int number)
{
	return ask(number, FORK, 0);
}

/* What init waits for is the program's exit, its memory given back */
struct cost program_exit(unsigned int number)
{
	struct cost cost = ask(number, EXIT, 0);
	struct rusage usage;

	if (wait4(programs[number].pid, NULL, 0, &usage) != programs[number].pid)
		fail("wait4");
	cost.wall = clock_ns() - cost.wall;
	cost.cpu = cpu_of(&usage) - cost.cpu;
	return cost;
}
