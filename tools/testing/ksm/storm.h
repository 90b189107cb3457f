/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The storm: many processes do to mergeable memory, at random, whatever can be
 * done to memory, beside administrators who change whatever can be changed.
 * Every byte of every page is known at any time, and is verified.
 *
 *   storm.c		begin and end: the supervisor, who starts and kills the
 *			others, and the tables
 *   storm-proc.c	processes: their places, how they begin, fail and die
 *   storm-model.c	what the pages of a process must hold
 *   storm-worker.c	the life of a worker, and the table of its operations
 *   storm-memory.c	operations on a worker's own memory
 *   storm-reach.c	operations that reach memory another way, or another's
 *   storm-admin.c	disturbances of the whole machine
 *   storm-end.c	what must be left of KSM at the end: nothing
 *
 * What an operation chooses depends on the seed and on the process alone: on
 * its number and on what it has done before.  When it is done, and so what
 * comes of it, depends on the scheduler as well.  A seed finds a fault again
 * with good chance, not for sure.
 */
#ifndef STORM_H
#define STORM_H

#include "../selftests/mm/ksm_util.h"
#include "../selftests/mm/ksm_env.h"
#include <pthread.h>
#include <stdatomic.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define STORM_WORKERS	12	/* that are started again when they end */
#define STORM_SLOTS	20	/* with those that workers have forked */
#define STORM_ADMINS	3
#define STORM_PROCS	(STORM_SLOTS + STORM_ADMINS)
#define STORM_AREAS	8	/* of one process */
#define STORM_HUGE	512	/* pages of a huge page, and of the largest area */
#define STORM_PAGES	1024	/* of one process */
#define STORM_BATCH	8	/* pages that go through a buffer at once */
#define STORM_PAST	1024	/* operations that are remembered */
#define STORM_TELL	20	/* of these are told, and those on the page */
#define STORM_OPS	64	/* different operations, at most */
#define STORM_GROUPS	2
#define STORM_BLOCKS	4
#define STORM_SOFT	24	/* pages that may be lost by soft-offlining */

/* What an operation returns, if not a negative errno. */
#define STORM_DONE	0
#define STORM_NOTHING	1	/* there was nothing that it suits */

/* What may be known of a page besides its content. */
#define STORM_READONLY	1
#define STORM_NONE	2	/* PROT_NONE */
#define STORM_LAZY	4	/* MADV_FREE: may hold zeros by now */
#define STORM_WP	8	/* write-protected by userfaultfd */
#define STORM_ANY	16	/* somebody died while he wrote to it */
#define STORM_FORKED	32	/* not written to since a fork */

struct storm_page {
	uint64_t content;	/* see storm-model.c */
	uint32_t flags;
};

/* A range of pages of one kind, without holes. */
struct storm_area {
	char *addr;		/* of the owner; NULL: no area */
	unsigned int nr;
	bool file;		/* private mapping of a file, not anonymous */
	bool uffd;		/* registered with userfaultfd */
	struct storm_page page[STORM_HUGE];
};

/* Some pages of an area. */
struct storm_range {
	struct storm_area *area;
	unsigned int from;
	unsigned int nr;
};

/* One operation of the past, for who reads about a failure. */
struct storm_event {
	const char *op;		/* valid in each process: all run one program */
	char *addr;
	unsigned int nr;
	int ret;
};

enum storm_life {
	STORM_FREE,		/* no process */
	STORM_STARTING,		/* before its memory is as the model says */
	STORM_LIVE,
};

/* What the process does when an operation is over. */
enum storm_next {
	STORM_GO_ON,
	STORM_LEAVE,
	STORM_EXEC,
};

/*
 * A process and its model, in memory that all processes share and that
 * outlives each of them.  @lock is held by the owner while he works, and by
 * who reads or writes the owner's memory; it survives its holder.
 */
struct storm_proc {
	pthread_mutex_t lock;
	atomic_int life;	/* enum storm_life */
	atomic_int pid;
	atomic_bool killed;	/* by us: SIGKILL is no surprise */
	bool execing;
	bool finished;		/* ended of its own will, all was verified */
	enum storm_next next;
	int group;		/* memory cgroup; -1: none */
	bool merge_any;		/* PR_SET_MEMORY_MERGE is in force */
	unsigned int serial;	/* no other process has the same */
	unsigned int version;	/* of the contents it has made */
	uint64_t random;
	unsigned int nr_past;
	struct storm_event past[STORM_PAST];
	struct storm_area area[STORM_AREAS];
};

/* Bounds for errno values of an operation that are no failure; 0 ends it. */
#define STORM_ERRORS	8

/* An operation, for the tables of workers and administrators. */
struct storm_op {
	const char *name;
	unsigned int weight;	/* how often it is chosen, among the others */
	int (*fn)(struct storm_proc *p, long arg);
	long arg;
	int errors[STORM_ERRORS];
};

struct storm_count {
	atomic_long done;
	atomic_long refused;	/* with one of its errors */
	atomic_long nothing;
};

struct storm {
	uint64_t seed;
	bool self_test;
	bool spare_shared;	/* no MADV_FREE of STORM_FORKED */
	bool ours;		/* the kernel has more than the stock one */
	int memory;		/* descriptor of this memory */
	int file;		/* empty file for private mappings */
	char disk[64];		/* for direct I/O; empty: none */
	char group[STORM_GROUPS][256];
	int nodes[2];		/* of memory; the same if there is only one */
	int block[STORM_BLOCKS];	/* of memory, that can go and come */
	int nr_blocks;
	uint64_t block_pages;
	atomic_bool stop;
	atomic_bool failed;
	atomic_uint serial;
	atomic_long soft;	/* pages lost by soft-offlining */
	atomic_long faults;	/* allocations that were made to fail */
	atomic_long verified;	/* pages */
	atomic_long oom_deaths;	/* SIGKILLs that were not ours */
	atomic_long deaths;
	pthread_mutex_t pins;	/* gup_test serves one at a time */
	struct storm_count worker_op[STORM_OPS];
	struct storm_count admin_op[STORM_OPS];
	struct storm_proc proc[STORM_PROCS];
};

extern struct storm *storm;

/* storm-proc.c */
uint64_t storm_random(struct storm_proc *p);
unsigned int storm_below(struct storm_proc *p, unsigned int n);
bool storm_chance(struct storm_proc *p, unsigned int percent);
void storm_nap(struct storm_proc *p, unsigned int most_ms);
void storm_say(const char *format, ...);
void storm_fail(struct storm_proc *p, const char *format, ...);
void storm_tell_page(const struct storm_proc *p, const char *page);
void storm_past(struct storm_proc *p, const char *op, char *addr,
		unsigned int nr, int ret);
int storm_make(uint64_t seed);
int storm_attach(int memory);
void storm_lock(pthread_mutex_t *lock);
bool storm_trylock(pthread_mutex_t *lock);
int storm_number(const struct storm_proc *p);
struct storm_proc *storm_peer(struct storm_proc *p);
void storm_fresh(struct storm_proc *p, uint64_t random, int group);
pid_t storm_fork(struct storm_proc *child);
void storm_reap(void);
int storm_pick_op(struct storm_proc *p, const struct storm_op *ops, int nr);
void storm_account(struct storm_proc *p, const struct storm_op *op,
		   struct storm_count *count, int ret);

/* storm-model.c */
#define STORM_ZERO	0ULL	/* the content of pages never written */

uint64_t storm_choose(struct storm_proc *p, const char *page);
uint64_t storm_poked(struct storm_proc *p, uint64_t content,
		     unsigned int *word, uint64_t *value);
void storm_fill(void *page, uint64_t content);
ssize_t storm_differs(const void *page, uint64_t content);
void storm_mismatch(struct storm_proc *p, const struct storm_area *a,
		    unsigned int i, const void *found, const char *who);
char *storm_addr(const struct storm_area *a, unsigned int i);
unsigned int storm_pages(const struct storm_proc *p);
struct storm_area *storm_area_new(struct storm_proc *p);
struct storm_area *storm_split(struct storm_proc *p, struct storm_area *a,
			       unsigned int at);
bool storm_pick_of(struct storm_proc *p, struct storm_proc *owner,
		   unsigned int most, struct storm_range *r);
bool storm_pick(struct storm_proc *p, unsigned int most,
		struct storm_range *r);
bool storm_cut(struct storm_proc *p, struct storm_range *r);
bool storm_pick_plain(struct storm_proc *p, struct storm_proc *owner,
		      unsigned int most, uint32_t not, struct storm_range *r);
void storm_set(const struct storm_range *r, uint64_t content);
void storm_flag(const struct storm_range *r, uint32_t clear, uint32_t set);
int storm_write(struct storm_area *a, unsigned int i, uint64_t content);
int storm_verify(struct storm_proc *p, const struct storm_range *r);
int storm_verify_all(struct storm_proc *p);

/* storm-worker.c */
int storm_worker(struct storm_proc *p);
int storm_worker_again(int memory, int slot);
void storm_worker_counts(void (*row)(const char *name,
				     struct storm_count *count));

/* storm-memory.c */
int storm_map(struct storm_proc *p, long arg);
int storm_unmap(struct storm_proc *p, long arg);
int storm_put(struct storm_proc *p, long arg);
int storm_poke(struct storm_proc *p, long arg);
int storm_check(struct storm_proc *p, long arg);
int storm_madvise(struct storm_proc *p, long advice);
int storm_mprotect(struct storm_proc *p, long arg);
int storm_mremap(struct storm_proc *p, long arg);
int storm_grow(struct storm_proc *p, long arg);
int storm_prctl(struct storm_proc *p, long on);
int storm_faulty(struct storm_proc *p, long arg);
int storm_uffd_begin(struct storm_proc *p, long arg);
int storm_uffd_wp(struct storm_proc *p, long on);
int storm_uffd_end(struct storm_proc *p, long arg);
int storm_uffd_allow(struct storm_area *a, unsigned int from, unsigned int nr);
void storm_uffd_forget(struct storm_proc *p);
int storm_move_pages(struct storm_proc *p, long arg);
int storm_mbind(struct storm_proc *p, long arg);
int storm_soft_offline(struct storm_proc *p, long arg);

/* storm-reach.c */
int storm_readv(struct storm_proc *p, long arg);
int storm_writev(struct storm_proc *p, long by_file);
int storm_pipe(struct storm_proc *p, long arg);
int storm_direct(struct storm_proc *p, long arg);
int storm_pin(struct storm_proc *p, long arg);

/* storm-admin.c */
void storm_admin_setup(void);
int storm_admin(struct storm_proc *p);
bool storm_in_block(uint64_t pfn);
void storm_admin_calm(void);
void storm_admin_counts(void (*row)(const char *name,
				    struct storm_count *count));

/* storm-end.c */
void storm_end_begin(void);
bool storm_end_counters(void);
bool storm_end_slabs(void);
bool storm_end_leaks(void);

#endif /* STORM_H */
