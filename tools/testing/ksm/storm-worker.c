// SPDX-License-Identifier: GPL-2.0
/*
 * The storm: the life of a worker, one operation after the other, and how it
 * gets children, a new image, or an end.
 */
#include "storm.h"

static int op_verify_all(struct storm_proc *p, long arg)
{
	(void)arg;
	return storm_verify_all(p);
}

/* Everything is verified once more, then the process goes. */
static int op_exit(struct storm_proc *p, long arg)
{
	int ret = op_verify_all(p, arg);

	if (!ret)
		p->next = STORM_LEAVE;
	return ret;
}

static int op_exec(struct storm_proc *p, long arg)
{
	int ret = op_verify_all(p, arg);

	if (!ret)
		p->next = STORM_EXEC;
	return ret;
}

/* A free slot of the second kind, locked; or NULL. */
static struct storm_proc *free_slot(struct storm_proc *p)
{
	unsigned int more = STORM_SLOTS - STORM_WORKERS;
	struct storm_proc *q =
		&storm->proc[STORM_WORKERS + storm_below(p, more)];
	int free = STORM_FREE;

	if (q->life != STORM_FREE || !storm_trylock(&q->lock))
		return NULL;
	if (atomic_compare_exchange_strong(&q->life, &free, STORM_STARTING))
		return q;
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

/*
 * The child verifies what it has inherited, writes, and verifies again; what
 * its parent does meanwhile must not show.  Then it goes, or lives on.
 */
static void child_main(struct storm_proc *p)
{
	int i, ret;

	storm_lock(&p->lock);
	storm_past(p, "begin of a child", NULL, 0, (int)p->serial);
	storm_uffd_forget(p);
	ret = storm_verify_all(p);
	for (i = 0; ret >= 0 && i < 4; i++)
		ret = storm_put(p, 0);
	if (ret >= 0)
		ret = storm_verify_all(p);
	/* No memory to reach a page that is not accessible. */
	if (ret < 0 && ret != -ENOMEM && ret != -EIO)
		storm_fail(p, "as a new child: %s", strerror(-ret));
	p->finished = storm_chance(p, 50);
	pthread_mutex_unlock(&p->lock);
	_exit(p->finished ? 0 : storm_worker(p));
}

static void mark_forked(struct storm_proc *p)
{
	struct storm_area *a;

	for (a = p->area; a < p->area + STORM_AREAS; a++)
		storm_flag(&(struct storm_range){ a, 0, a->nr }, 0,
			   STORM_FORKED);
}

static int op_fork(struct storm_proc *p, long arg)
{
	struct storm_proc *child = free_slot(p);
	pid_t pid;

	(void)arg;
	if (!child || storm->stop) {
		if (child) {
			child->life = STORM_FREE;
			pthread_mutex_unlock(&child->lock);
		}
		return STORM_NOTHING;
	}
	storm_fresh(child, storm_random(p), p->group);
	child->merge_any = p->merge_any;
	child->nr_past = p->nr_past;
	memcpy(child->past, p->past, sizeof(p->past));
	mark_forked(p);
	memcpy(child->area, p->area, sizeof(p->area));
	pid = storm_fork(child);
	if (!pid)
		child_main(child);
	storm_past(p, "fork", NULL, storm_pages(p), pid);
	if (pid < 0)
		child->life = STORM_FREE;
	pthread_mutex_unlock(&child->lock);
	return pid < 0 ? pid : STORM_DONE;
}

/* Errors: what each call may return, beside what memory cgroups do to it. */
static const struct storm_op ops[] = {
	{ "map", 60, storm_map, 0, { ENOMEM, EAGAIN, EIO } },
	{ "unmap", 15, storm_unmap, 0, { ENOMEM } },
	{ "write", 120, storm_put, 0, { ENOMEM, EIO } },
	{ "poke", 80, storm_poke, 0, { ENOMEM } },
	{ "verify", 100, storm_check, 0, { ENOMEM, EIO } },
	{ "verify all", 6, op_verify_all, 0, { ENOMEM, EIO } },
	{ "mergeable", 40, storm_madvise, MADV_MERGEABLE, { EAGAIN } },
	{ "unmergeable", 12, storm_madvise, MADV_UNMERGEABLE, { EAGAIN } },
	{ "pageout", 20, storm_madvise, MADV_PAGEOUT, { EAGAIN } },
	{ "cold", 10, storm_madvise, MADV_COLD, { EAGAIN } },
	{ "free", 15, storm_madvise, MADV_FREE, { EINVAL, EAGAIN } },
	{ "dontneed", 12, storm_madvise, MADV_DONTNEED, { EAGAIN } },
	{ "hugepage", 10, storm_madvise, MADV_HUGEPAGE, { EINVAL, EAGAIN } },
	{ "nohugepage", 4, storm_madvise, MADV_NOHUGEPAGE,
	  { EINVAL, EAGAIN } },
	{ "collapse", 10, storm_madvise, MADV_COLLAPSE,
	  { EINVAL, EAGAIN, EBUSY, ENOMEM } },
	{ "mprotect", 30, storm_mprotect, 0, { ENOMEM } },
	{ "mremap", 20, storm_mremap, 0, { ENOMEM, EFAULT } },
	{ "grow", 8, storm_grow, 0, { ENOMEM, EFAULT } },
	{ "fork", 12, op_fork, 0, { ENOMEM, EAGAIN } },
	{ "exec", 2, op_exec, 0, { ENOMEM, EIO } },
	{ "exit", 2, op_exit, 0, { ENOMEM, EIO } },
	{ "merge any", 8, storm_prctl, 1, { ENOMEM } },
	{ "merge none", 5, storm_prctl, 0, { ENOMEM } },
	{ "readv", 40, storm_readv, 0, { EFAULT, ESRCH, ENOMEM } },
	{ "writev", 30, storm_writev, 0, { EFAULT, ESRCH, ENOMEM } },
	{ "proc mem", 15, storm_writev, 1, { EIO, ESRCH, ENOENT, ENOMEM } },
	{ "vmsplice", 12, storm_pipe, 0, { EFAULT, ENOMEM } },
	{ "direct I/O", 15, storm_direct, 0, { EFAULT, ENOMEM, EIO } },
	{ "long-term pin", 8, storm_pin, 0, { EFAULT, ENOMEM, EINVAL, EBUSY,
					      EAGAIN } },
	{ "uffd register", 8, storm_uffd_begin, 0, { ENOMEM } },
	{ "uffd protect", 20, storm_uffd_wp, 1, { ENOMEM } },
	{ "uffd allow", 6, storm_uffd_wp, 0, { ENOMEM } },
	{ "uffd unregister", 4, storm_uffd_end, 0, { ENOMEM } },
	/* EINVAL is for a process whose memory is gone. */
	{ "move_pages", 12, storm_move_pages, 0, { ESRCH, EINVAL, ENOMEM } },
	{ "mbind", 8, storm_mbind, 0, { ENOMEM, EIO } },
	{ "soft offline", 2, storm_soft_offline, 0,
	  { EBUSY, EIO, EOPNOTSUPP, ENOMEM, EAGAIN, EFAULT } },
	{ "no memory", 10, storm_faulty, 0, { EAGAIN, ENOMEM } },
};

void storm_worker_counts(void (*row)(const char *name,
				     struct storm_count *count))
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ops); i++)
		row(ops[i].name, &storm->worker_op[i]);
}

/* --self-test: a byte changes behind everybody's back, and must be found. */
static void spoil(struct storm_proc *p)
{
	struct storm_range r;
	char *byte;

	if (!storm->self_test || p->nr_past < 100 ||
	    !storm_pick_plain(p, p, 1, ~0U, &r))
		return;
	storm->self_test = false;
	byte = storm_addr(r.area, r.from) + storm_below(p, 4096);
	*byte ^= 1;
	storm_past(p, "SPOIL", byte, 1, 0);
	storm_say("self-test: byte %lu of page %p is wrong",
		  (unsigned long)byte & 4095,
		  (void *)storm_addr(r.area, r.from));
	storm_verify_all(p);
}

static void one_op(struct storm_proc *p)
{
	int nr = storm_pick_op(p, ops, ARRAY_SIZE(ops));
	int ret;

	storm_lock(&p->lock);
	ret = ops[nr].fn(p, ops[nr].arg);
	storm_account(p, &ops[nr], &storm->worker_op[nr], ret);
	spoil(p);
	pthread_mutex_unlock(&p->lock);
}

/* Only an error comes back. */
static void exec_again(struct storm_proc *p)
{
	char memory[16], slot[16];

	snprintf(memory, sizeof(memory), "%d", storm->memory);
	snprintf(slot, sizeof(slot), "%d", storm_number(p));
	p->life = STORM_STARTING;
	p->execing = true;
	execl("/proc/self/exe", "storm", "--worker", memory, slot, NULL);
	if (errno != ENOMEM)
		storm_fail(p, "exec: %s", strerror(errno));
	p->execing = false;
	p->life = STORM_LIVE;
}

static void last_look(struct storm_proc *p)
{
	int ret;

	storm_lock(&p->lock);
	do {
		ret = op_verify_all(p, 0);
		if (ret)
			ksm_nap_us(20000);
	} while (ret == -ENOMEM || ret == -EIO);
	if (ret)
		storm_fail(p, "at the end: %s", strerror(-ret));
	p->finished = true;
	/* Nobody is to look at memory that is about to go. */
	p->life = STORM_STARTING;
	pthread_mutex_unlock(&p->lock);
}

/* A worker from its first operation to its last; its exit status. */
int storm_worker(struct storm_proc *p)
{
	if (p->group >= 0 && ksm_cg_join(storm->group[p->group]))
		storm_fail(p, "cannot join its memory cgroup");
	storm_lock(&p->lock);
	p->life = STORM_LIVE;
	pthread_mutex_unlock(&p->lock);
	while (!storm->stop && !storm->failed) {
		p->next = STORM_GO_ON;
		one_op(p);
		storm_reap();
		if (p->next == STORM_LEAVE)
			break;
		if (p->next == STORM_EXEC)
			exec_again(p);
		if (storm_chance(p, 25))
			storm_nap(p, 20);
	}
	last_look(p);
	return 0;
}

/* The same after exec: nothing is left but what was inherited. */
int storm_worker_again(int memory, int slot)
{
	struct storm_proc *p;

	if (storm_attach(memory))
		return 1;
	p = &storm->proc[slot];
	storm_lock(&p->lock);
	memset(p->area, 0, sizeof(p->area));
	p->execing = false;
	storm_past(p, "exec", NULL, 0, 0);
	if (prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) != p->merge_any)
		storm_fail(p, "exec has not kept PR_SET_MEMORY_MERGE at %d",
			   p->merge_any);
	pthread_mutex_unlock(&p->lock);
	return storm_worker(p);
}
