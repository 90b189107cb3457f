/* SPDX-License-Identifier: GPL-2.0 */
/*
 * make bench, inside of user-mode Linux: bench-init.c is init, takes the
 * arguments and powers off; bench-workloads.c says what is measured;
 * bench-program.c are the programs whose memory is scanned; bench-ksm.c is the
 * view on ksmd and on the kernel's memory; bench-locks.c on KSM's locks.
 */
#ifndef KSM_BENCH_H
#define KSM_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>
#include <sys/resource.h>

#define PAGE_BYTES	4096UL
#define PAGE_WORDS	(PAGE_BYTES / sizeof(uint64_t))
#define MIB		(1024UL * 1024)
#define MAX_PROGRAMS	16

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* What is in a program's pages */
enum contents {
	UNIQUE,		/* no page equals another */
	SAME,		/* pages differ, but each program has the same ones */
	ALMOST,		/* no page equals another, but for the last word all do */
	MIX,		/* 30 % zero, 30 % as SAME, 40 % as UNIQUE: a guest */
};

/* What a workload is run with */
struct load {
	enum contents contents;
	unsigned int programs;
	size_t bytes;		/* the area of each program */
	size_t stride;		/* one page in so many is there */
	unsigned int warm;	/* passes before those that are measured */
	unsigned int passes;	/* measured */
	bool smart;		/* smart_scan */
};

/* What something took its caller, in ns. The CPU time is the kernel's only. */
struct cost {
	double wall;
	double cpu;
};

/* bench-init.c */
void report(const char *key, double value);
noreturn void fail(const char *format, ...);

/* bench-workloads.c */
void run_workload(const char *name, const struct load *load);

/* bench-program.c */
void programs_start(const struct load *load);
void programs_fill(void);
void programs_offer(void);
void programs_rewrite(uint64_t version);
void programs_wake(void);
size_t programs_pages(void);
unsigned int programs_number(void);
struct cost program_write(unsigned int number, size_t pages);
struct cost program_fork(unsigned int number);
struct cost program_exit(unsigned int number);

/* bench-ksm.c */
void ksm_open(bool smart);
void ksm_batch(const char *pages);
double ksm_pass(void);
double ksm_passes_during(unsigned int ms);
struct cost ksm_unmerge(void);
unsigned long ksm_get(const char *file);

/* Memory of the kernel itself, in bytes */
struct usage {
	double free;	/* all that is free, processors' private lists included */
	double own;	/* slab, vmalloc and per-CPU memory */
	double slabs;	/* of that, KSM's slab caches */
};

struct usage kernel_usage(void);
double clock_ns(void);
double cpu_of(const struct rusage *usage);
struct cost cost_begin(void);
struct cost cost_end(const struct cost *begin);
void rest_ms(unsigned int ms);

/* bench-locks.c */
bool locks_watch(void);
void locks_report(void);

#endif
