// SPDX-License-Identifier: GPL-2.0
/*
 * The storm's processes: the memory that they share, their random numbers,
 * how one is started, how one fails, and whether its death was to be expected.
 */
#include "storm.h"

struct storm *storm;

/* splitmix64: each state gives a good number, whatever the seed. */
uint64_t storm_random(struct storm_proc *p)
{
	uint64_t x = p->random += 0x9e3779b97f4a7c15ULL;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

unsigned int storm_below(struct storm_proc *p, unsigned int n)
{
	return (unsigned int)((storm_random(p) >> 32) * n >> 32);
}

bool storm_chance(struct storm_proc *p, unsigned int percent)
{
	return storm_below(p, 100) < percent;
}

void storm_nap(struct storm_proc *p, unsigned int most_ms)
{
	ksm_nap_us(storm_below(p, most_ms * 1000 + 1));
}

/* One write(2), so that lines of several processes do not mix. */
static void say_text(const char *text, int len, int size)
{
	ssize_t n;

	n = write(STDOUT_FILENO, text, (size_t)(len < size ? len : size - 1));
	(void)n;		/* there is nobody to tell */
}

/* A line of diagnosis. */
void storm_say(const char *format, ...)
{
	char text[1024];
	va_list args;
	int len = 2;

	memcpy(text, "# ", 2);
	va_start(args, format);
	len += vsnprintf(text + len, sizeof(text) - 3, format, args);
	va_end(args);
	if (len > (int)sizeof(text) - 2)
		len = sizeof(text) - 2;
	text[len++] = '\n';
	say_text(text, len, sizeof(text));
}

int storm_number(const struct storm_proc *p)
{
	return (int)(p - storm->proc);
}

/* The first of the last @most operations that are remembered. */
static unsigned int past_from(const struct storm_proc *p, unsigned int most)
{
	return p->nr_past > most ? p->nr_past - most : 0;
}

static void tell_event(const struct storm_proc *p, unsigned int i)
{
	const struct storm_event *e = &p->past[i % STORM_PAST];

	storm_say("  operation %u: %s, %u pages at %p: %d", i, e->op, e->nr,
		  (void *)e->addr, e->ret);
}

static void tell_past(const struct storm_proc *p)
{
	unsigned int i;

	for (i = past_from(p, STORM_TELL); i < p->nr_past; i++)
		tell_event(p, i);
}

/* What has happened to one page, as far as it is remembered. */
void storm_tell_page(const struct storm_proc *p, const char *page)
{
	const struct storm_event *e;
	unsigned int i;

	storm_say("what happened to the page, and processes that begin:");
	for (i = past_from(p, STORM_PAST); i < p->nr_past; i++) {
		e = &p->past[i % STORM_PAST];
		if (!e->addr || (page >= e->addr &&
				 page < e->addr + e->nr * ksm_psize()))
			tell_event(p, i);
	}
}

static void tell_failure(struct storm_proc *p, const char *format,
			 va_list args)
{
	char text[512];

	vsnprintf(text, sizeof(text), format, args);
	storm_say("FAILURE: seed %llu, process %u (slot %d, pid %d): %s",
		  (unsigned long long)storm->seed, p->serial, storm_number(p),
		  p->pid, text);
	tell_past(p);
	storm->failed = true;
}

/* Something is wrong, with @p or found by it: the storm is over. */
void storm_fail(struct storm_proc *p, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	tell_failure(p, format, args);
	va_end(args);
	_exit(1);
}

/* The same, from who must live on. */
static void report_failure(struct storm_proc *p, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	tell_failure(p, format, args);
	va_end(args);
}

/* Remember an operation, what it was about, and what came of it. */
void storm_past(struct storm_proc *p, const char *op, char *addr,
		unsigned int nr, int ret)
{
	p->past[p->nr_past++ % STORM_PAST] = (struct storm_event){
		.op = op, .addr = addr, .nr = nr, .ret = ret,
	};
}

/* ---- shared memory and its locks ----------------------------------------- */

int storm_attach(int memory)
{
	storm = mmap(NULL, sizeof(*storm), PROT_READ | PROT_WRITE, MAP_SHARED,
		     memory, 0);
	return storm == MAP_FAILED ? -errno : 0;
}

static int lock_init(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attr;

	return pthread_mutexattr_init(&attr) ?:
		pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) ?:
		pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST) ?:
		pthread_mutex_init(lock, &attr);
}

/*
 * A file, so that it can be found again after exec.  All of it is touched and
 * locked: it is to be charged to nobody's group, and not to depend on swap.
 */
int storm_make(uint64_t seed)
{
	int i, ret, memory;

	memory = (int)syscall(SYS_memfd_create, "storm", 0);
	if (memory < 0 || ftruncate(memory, sizeof(*storm)))
		return -errno;
	ret = storm_attach(memory);
	if (ret)
		return ret;
	memset(storm, 0, sizeof(*storm));
	if (mlock(storm, sizeof(*storm)))
		return -errno;
	storm->seed = seed;
	storm->memory = memory;
	storm->file = (int)syscall(SYS_memfd_create, "storm-file", 0);
	if (storm->file < 0 ||
	    ftruncate(storm->file, STORM_HUGE * ksm_psize()))
		return -errno;
	ret = lock_init(&storm->pins);
	for (i = 0; !ret && i < STORM_PROCS; i++) {
		ret = lock_init(&storm->proc[i].lock);
		storm->proc[i].group = -1;
	}
	return -ret;
}

/* The holder may have died; what he left is told by STORM_ANY. */
static bool lock_taken(pthread_mutex_t *lock, int ret)
{
	if (ret == EOWNERDEAD)
		ret = pthread_mutex_consistent(lock);
	return !ret;
}

void storm_lock(pthread_mutex_t *lock)
{
	while (!lock_taken(lock, pthread_mutex_lock(lock)))
		ksm_nap_us(1000);
}

bool storm_trylock(pthread_mutex_t *lock)
{
	return lock_taken(lock, pthread_mutex_trylock(lock));
}

/*
 * Another worker, locked, whose memory is as its model says; or NULL.  To be
 * called with the own lock held, so it must not wait.
 */
struct storm_proc *storm_peer(struct storm_proc *p)
{
	struct storm_proc *q = &storm->proc[storm_below(p, STORM_SLOTS)];

	if (q == p || q->life != STORM_LIVE || !storm_trylock(&q->lock))
		return NULL;
	if (q->life == STORM_LIVE)
		return q;
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

/* ---- begin and end of processes ------------------------------------------ */

/* A new process for a slot that is locked, or that nobody looks at. */
void storm_fresh(struct storm_proc *p, uint64_t random, int group)
{
	p->killed = false;
	p->execing = false;
	p->finished = false;
	p->next = STORM_GO_ON;
	p->group = group;
	p->merge_any = false;
	p->serial = storm->serial++;
	p->version = 0;
	p->random = random;
	p->nr_past = 0;
	memset(p->area, 0, sizeof(p->area));
}

/* fork() for a slot that is STORM_STARTING. */
pid_t storm_fork(struct storm_proc *child)
{
	pid_t pid;

	child->pid = 0;
	pid = fork();
	if (pid < 0)
		return -errno;
	child->pid = pid ? pid : getpid();
	return pid;
}

static struct storm_proc *find_proc(pid_t pid)
{
	int i;

	for (i = 0; i < STORM_PROCS; i++)
		if (storm->proc[i].life != STORM_FREE &&
		    storm->proc[i].pid == pid)
			return &storm->proc[i];
	return NULL;
}

/*
 * Was that a death to be expected?  SIGKILL is, whether it came from us or from
 * the OOM killer: the supervisor counts both at the end.  So is SIGSEGV in the
 * midst of exec, which is what the kernel sends when it has no memory for the
 * new image in a group with a limit.
 */
static void judge(struct storm_proc *p, int status)
{
	int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	if (sig == SIGKILL) {
		storm->deaths++;
		if (!p->killed)
			storm->oom_deaths++;
	} else if (sig == SIGSEGV && p->execing && p->group >= 0) {
		storm->deaths++;
	} else if (sig) {
		report_failure(p, "died by signal %d", sig);
	} else if (WEXITSTATUS(status)) {
		/* Who failed has told why. */
		if (!storm->failed)
			report_failure(p, "exit status %d",
				       WEXITSTATUS(status));
	} else if (!p->finished) {
		report_failure(p, "has ended before it was told to");
	}
}

/* Reap children that have ended, without waiting; judge and forget them. */
void storm_reap(void)
{
	struct storm_proc *p;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		p = find_proc(pid);
		if (p) {
			judge(p, status);
			p->life = STORM_FREE;
		} else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
			/* Its parent died before it could note the pid. */
			storm->deaths++;
			storm->oom_deaths++;
		}
	}
}

/* ---- operations ---------------------------------------------------------- */

int storm_pick_op(struct storm_proc *p, const struct storm_op *ops, int nr)
{
	unsigned int sum = 0, at;
	int i;

	for (i = 0; i < nr; i++)
		sum += ops[i].weight;
	at = storm_below(p, sum);
	for (i = 0; at >= ops[i].weight; i++)
		at -= ops[i].weight;
	return i;
}

static bool may_return(const struct storm_op *op, int err)
{
	int i;

	for (i = 0; i < STORM_ERRORS; i++)
		if (op->errors[i] == err)
			return true;
	return false;
}

/* Count what an operation returned; an error that it must not have ends all. */
void storm_account(struct storm_proc *p, const struct storm_op *op,
		   struct storm_count *count, int ret)
{
	if (ret == STORM_NOTHING)
		count->nothing++;
	else if (ret >= 0)
		count->done++;
	else if (may_return(op, -ret))
		count->refused++;
	else
		storm_fail(p, "%s: %s, which is none of its errors", op->name,
			   strerror(-ret));
}
