// SPDX-License-Identifier: GPL-2.0
/*
 * KSM: whoever writes to a settled page, and however, ksmd notices.
 *
 * With smart_scan=1 a page that is settled is not read again as long as its
 * PTE is clean and maps the same frame.  A store of the CPU makes the PTE
 * dirty; but bytes change in other ways, too: through a reference on the page,
 * or by putting another page in its place.  For each way that user space can
 * provoke, a page gets the content of another settled page in just that way,
 * between two passes.  The two must become one within two passes; or, where
 * no more is promised than that a settled page is read again once in 32
 * passes, within two passes of that.
 */
#include "../kselftest_harness.h"
#include <linux/futex.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include "ksm_util.h"
#include "ksm_ring.h"
#include "ksm_env.h"

#define OWNER		71
#define NR_PAGES	64
#define NR_TARGETS	8		/* pages 0 to 7 are to be changed ... */
#define TWIN		NR_TARGETS	/* ... into what the 8 after them are */

/* A page with this content differs from the one without in a single bit. */
#define NEAR		((uint64_t)1 << 63)
#define NEAR_BIT	5

#define REREAD		"/sys/kernel/debug/ksm/reread_passes"
#define REREAD_PASSES	32		/* when nobody wrote there */
#define SETTLE_PASSES	6

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
#ifndef KPF_SWAPBACKED
#define KPF_SWAPBACKED	14
#endif

/* From Linux 6.8 on; not in older headers. */
struct uffd_move {
	uint64_t dst;
	uint64_t src;
	uint64_t len;
	uint64_t mode;
	int64_t moved;
};

#define UFFD_MOVE		_IOWR(UFFDIO, 0x05, struct uffd_move)
#define UFFD_MOVE_FEATURE	((uint64_t)1 << 16)

/* What a writer returns when this kernel or machine does not have it. */
#define NOT_HERE	(-EOPNOTSUPP)

/* ---- what can be had only once, and is inherited by the puppet ----------- */

static struct ksm_zram disk = { .id = -1 };

/* ---- in the puppet: its own, not in its mergeable area ------------------- */

static char *donor;		/* clean pages, to be put in place of others */
static int uffd = -1;
static struct ksm_child heir;

static char *page_at(struct ksm_act *a, long i)
{
	return a->area + (size_t)i * ksm_psize();
}

static void fill(char *page, uint64_t content)
{
	ksm_fill(page, content & ~NEAR);
	if (content & NEAR)
		*(uint32_t *)page ^= 1U << NEAR_BIT;
}

static bool holds(const char *page, uint64_t content)
{
	const uint64_t *w = (const uint64_t *)page;
	uint32_t head[2];
	uint64_t first;
	size_t i;

	ksm_barrier();
	memcpy(head, page, sizeof(head));
	if (content & NEAR)
		head[0] ^= 1U << NEAR_BIT;
	content &= ~NEAR;
	memcpy(&first, head, sizeof(first));
	if (first != ksm_word(content, 0))
		return false;
	for (i = 1; i < ksm_psize() / sizeof(*w); i++)
		if (w[i] != ksm_word(content, i))
			return false;
	return true;
}

/* The writers of the puppet: page arg[0] is to get what page arg[1] holds. */
static char *target(struct ksm_act *a)
{
	return page_at(a, a->arg[0]);
}

static uint64_t wanted(struct ksm_act *a)
{
	return a->model[a->arg[1]];
}

/* A page of that content, to copy from; the caller unmaps it. */
static char *source(uint64_t content)
{
	char *page = ksm_map(1);

	if (page)
		fill(page, content);
	return page;
}

/* Number of pages with wrong bytes; 0 in the model is "of no interest". */
static int act_check(struct ksm_act *a)
{
	int bad = 0;
	size_t i;

	for (i = 0; i < a->n; i++)
		bad += a->model[i] &&
			!holds(page_at(a, (long)i), a->model[i]);
	return bad;
}

static int act_map(struct ksm_act *a)
{
	size_t i;

	a->area = ksm_map(a->n);
	if (!a->area)
		return -ENOMEM;
	for (i = 0; i < a->n; i++)
		fill(page_at(a, (long)i), a->model[i]);
	return ksm_mergeable(a->area, a->n);
}

/* ---- before the pages settle --------------------------------------------- */

/*
 * Pages with the contents that the targets shall get.  They settle in an area
 * of their own and leave it then: what stays is that their PTEs are clean.
 */
static int act_donor(struct ksm_act *a)
{
	long i;

	donor = ksm_map(NR_TARGETS);
	if (!donor)
		return -ENOMEM;
	for (i = 0; i < NR_TARGETS; i++)
		fill(donor + (size_t)i * ksm_psize(), a->model[TWIN + i]);
	return ksm_mergeable(donor, NR_TARGETS);
}

static int act_donor_leaves(struct ksm_act *a)
{
	(void)a;
	return ksm_unmergeable(donor, NR_TARGETS);
}

static int act_readonly(struct ksm_act *a)
{
	return mprotect(a->area, NR_TARGETS * ksm_psize(), PROT_READ) ?
		-errno : 0;
}

static int act_readonly_empty(struct ksm_act *a)
{
	long i;

	for (i = 0; i < NR_TARGETS; i++)
		a->model[i] = 0;
	return ksm_advise(a->area, NR_TARGETS, MADV_DONTNEED) ?:
		act_readonly(a);
}

static int act_uffd(struct ksm_act *a)
{
	uffd = ksm_uffd_open(a->arg[0] ? UFFD_MOVE_FEATURE : 0);
	if (uffd < 0)
		return NOT_HERE;
	return ksm_uffd_register(uffd, a->area, NR_TARGETS,
				 UFFDIO_REGISTER_MODE_MISSING);
}

static int act_uffd_with_move(struct ksm_act *a)
{
	a->arg[0] = 1;
	return act_uffd(a);
}

/* A child of the puppet with all of its memory; what it is told are writes. */
static int heir_main(struct ksm_child *c)
{
	struct ksm_act *a = c->arg;
	int cmd;

	while (!ksm_hear(c, &cmd) && cmd) {
		if (cmd == 1)
			fill(target(a), wanted(a));
		if (ksm_say(c, !holds(target(a), wanted(a)) ||
			    !holds(page_at(a, a->arg[1]), wanted(a))))
			return 1;
	}
	return 0;
}

static int act_fork(struct ksm_act *a)
{
	int ret = ksm_spawn(&heir, heir_main, a);

	a->arg[2] = heir.pid;
	return ret;
}

/* ---- writers: stores that the PTE tells of ------------------------------- */

static int act_store(struct ksm_act *a)
{
	fill(target(a), wanted(a));
	return 0;
}

static int act_store_by_heir(struct ksm_act *a)
{
	(void)a;
	return ksm_ask(&heir, 1);
}

static int act_heir_checks(struct ksm_act *a)
{
	(void)a;
	return ksm_ask(&heir, 2);
}

/* The wanted bytes come to the page out of a pipe; 0 or -errno. */
static int from_pipe(struct ksm_act *a, ssize_t (*take)(int fd, char *to))
{
	char *from = source(wanted(a));
	int fd[2], ret = 0;

	if (!from || pipe(fd))
		return -ENOMEM;
	if (write(fd[1], from, ksm_psize()) != (ssize_t)ksm_psize() ||
	    take(fd[0], target(a)) != (ssize_t)ksm_psize())
		ret = -EIO;
	close(fd[0]);
	close(fd[1]);
	ksm_unmap(from, 1);
	return ret;
}

static ssize_t take_by_read(int fd, char *to)
{
	return read(fd, to, ksm_psize());
}

static ssize_t take_by_vmsplice(int fd, char *to)
{
	struct iovec iov = { to, ksm_psize() };

	return vmsplice(fd, &iov, 1, 0);
}

static int act_read_pipe(struct ksm_act *a)
{
	return from_pipe(a, take_by_read);
}

static int act_vmsplice(struct ksm_act *a)
{
	return from_pipe(a, take_by_vmsplice);
}

/* A file in memory that holds the wanted bytes; -errno. */
static int wanted_file(struct ksm_act *a)
{
	char *from = source(wanted(a));
	int fd;

	if (!from)
		return -ENOMEM;
	fd = (int)syscall(SYS_memfd_create, "ksm", 0);
	if (fd >= 0 &&
	    pwrite(fd, from, ksm_psize(), 0) != (ssize_t)ksm_psize()) {
		close(fd);
		fd = -1;
	}
	ksm_unmap(from, 1);
	return fd < 0 ? -EIO : fd;
}

static int act_read_file(struct ksm_act *a)
{
	int fd = wanted_file(a), ret = 0;

	if (fd < 0)
		return fd;
	if (pread(fd, target(a), ksm_psize(), 0) != (ssize_t)ksm_psize())
		ret = -EIO;
	close(fd);
	return ret;
}

/* The kernel itself flips the one bit that is wrong. */
static int act_futex(struct ksm_act *a)
{
	const uint32_t xor_bit = FUTEX_OP_XOR | FUTEX_OP_OPARG_SHIFT;
	uint32_t op = FUTEX_OP(xor_bit, NEAR_BIT, FUTEX_OP_CMP_EQ, 0);
	uint32_t other = 0;

	return syscall(SYS_futex, &other, FUTEX_WAKE_OP_PRIVATE, 0, 0,
		       target(a), op) < 0 ? -errno : 0;
}

/* ---- writers: through a reference on the page ---------------------------- */

static int by_vm_writev(struct ksm_puppet *p, char *to, char *from)
{
	struct iovec local = { from, ksm_psize() };
	struct iovec remote = { to, ksm_psize() };

	/* With nothing to be written, it fails only if the call is missing. */
	if (process_vm_writev(p->c.pid, NULL, 0, NULL, 0, 0))
		return NOT_HERE;
	return process_vm_writev(p->c.pid, &local, 1, &remote, 1, 0) ==
		(ssize_t)ksm_psize() ? 0 : -EIO;
}

static int by_proc_mem(struct ksm_puppet *p, char *to, char *from)
{
	char path[64];
	int fd, ret = 0;

	ksm_proc_path(path, sizeof(path), p->c.pid, "mem");
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (pwrite(fd, from, ksm_psize(), (off_t)(unsigned long)to) !=
	    (ssize_t)ksm_psize())
		ret = -EIO;
	close(fd);
	return ret;
}

/* The puppet is stopped while its first word, the wrong one, is set right. */
static int by_ptrace(struct ksm_puppet *p, char *to, char *from)
{
	int status, ret = 0;

	if (ptrace(PTRACE_SEIZE, p->c.pid, NULL, NULL))
		return -errno;
	if (ptrace(PTRACE_INTERRUPT, p->c.pid, NULL, NULL) ||
	    waitpid(p->c.pid, &status, __WALL) != p->c.pid)
		ret = -errno;
	if (!ret && ptrace(PTRACE_POKEDATA, p->c.pid, to, *(long *)from))
		ret = -errno;
	if (ptrace(PTRACE_DETACH, p->c.pid, NULL, NULL) && !ret)
		ret = -errno;
	return ret;
}

/* Out to the disk and back: tmpfs and the like do not read by DMA. */
static int act_direct_read(struct ksm_act *a)
{
	char *from = source(wanted(a));
	int fd, ret = 0;

	if (disk.id < 0)
		return NOT_HERE;
	fd = open(disk.dev, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0 || !from)
		return -errno;
	if (pwrite(fd, from, ksm_psize(), 0) != (ssize_t)ksm_psize() ||
	    pread(fd, target(a), ksm_psize(), 0) != (ssize_t)ksm_psize())
		ret = -EIO;
	close(fd);
	ksm_unmap(from, 1);
	return ret;
}

static struct ksm_ring ring;	/* of the puppet */

static int act_ring_pin(struct ksm_act *a)
{
	if (ksm_ring_open(&ring))
		return NOT_HERE;
	return ksm_ring_register(&ring, target(a), 1);
}

static int act_ring_write(struct ksm_act *a)
{
	int fd = wanted_file(a), ret;

	if (fd < 0)
		return fd;
	ret = ksm_ring_read(&ring, fd, target(a), 0);
	close(fd);
	return ret;
}

static int act_ring_unpin(struct ksm_act *a)
{
	int ret = ksm_ring_unregister(&ring);

	(void)a;
	ksm_ring_close(&ring);
	return ret;
}

static int act_ring(struct ksm_act *a)
{
	return act_ring_pin(a) ?: act_ring_write(a) ?: act_ring_unpin(a);
}

/* ---- writers: another page in its place ---------------------------------- */

static int act_dontneed(struct ksm_act *a)
{
	return ksm_advise(target(a), 1, MADV_DONTNEED);
}

static int act_dontneed_store(struct ksm_act *a)
{
	return act_dontneed(a) ?: act_store(a);
}

/* The old page goes, and userfaultfd puts one there. */
static int refill(struct ksm_act *a, unsigned long how, void *what)
{
	int ret = act_dontneed(a);

	if (!ret && ioctl(uffd, how, what))
		ret = -errno;
	return ret;
}

static int act_uffd_copy(struct ksm_act *a)
{
	char *from = source(wanted(a));
	struct uffdio_copy copy = {
		.dst = (unsigned long)target(a),
		.src = (unsigned long)from,
		.len = ksm_psize(),
	};
	int ret = refill(a, UFFDIO_COPY, &copy);

	ksm_unmap(from, 1);
	return ret;
}

static char *donated(struct ksm_act *a)
{
	return donor + (size_t)a->arg[0] * ksm_psize();
}

static int act_uffd_move(struct ksm_act *a)
{
	struct uffd_move move = {
		.dst = (unsigned long)target(a),
		.src = (unsigned long)donated(a),
		.len = ksm_psize(),
	};

	return refill(a, UFFD_MOVE, &move);
}

/* The area that arrives is not a mergeable one: that is to be said again. */
static int act_mremap(struct ksm_act *a)
{
	if (mremap(donated(a), ksm_psize(), ksm_psize(),
		   MREMAP_MAYMOVE | MREMAP_FIXED, target(a)) == MAP_FAILED)
		return -errno;
	return ksm_mergeable(target(a), 1);
}

/*
 * Stored to, swapped out, and read back, which gives a clean PTE.  Others take
 * the frame meanwhile: with the same one, only the next re-read would help.
 */
static int act_swap(struct ksm_act *a)
{
	uint64_t pfn = ksm_pfn(0, target(a));
	char *page = target(a), *other;

	if (ksm_env()->no_swap)
		return NOT_HERE;
	fill(page, wanted(a));
	if (!ksm_wait_for((ksm_advise(page, 1, MADV_PAGEOUT),
			   ksm_pagemap(0, page) & PM_SWAPPED), 20))
		return -EBUSY;
	other = ksm_map(256);
	if (!other)
		return -ENOMEM;
	memset(other, 1, 256 * ksm_psize());
	ksm_touch(page);
	ksm_unmap(other, 256);
	return ksm_pfn(0, page) == pfn ? -EAGAIN : 0;
}

/* Stored to by its owner, then moved to another node. */
static int by_store_and_move(struct ksm_puppet *p, char *to, char *from)
{
	int nodes[2], now = ksm_node_of(p->c.pid, to), ret;

	(void)from;
	if (ksm_nodes(nodes, 2) < 2)
		return NOT_HERE;
	ret = ksm_do(p, act_store);
	if (ret)
		return ret;
	return ksm_wait_for(ksm_move(p->c.pid, to, 1,
				     nodes[nodes[0] == now]) == 1, 10) ?
		0 : -EBUSY;
}

/* ---- all of them --------------------------------------------------------- */

enum promise {
	NEXT_VISIT,		/* the change is seen by the next pass */
	FIRST_VISIT,		/* the first one is, of its kind in a process */
	NEXT_REREAD,		/* by the pass that reads the page anyway */
};

FIXTURE(ksm_dirty) {
	struct ksm_puppet p;
	char *page;		/* to copy from */
	long long reread;	/* KSM_BAD where it cannot be chosen */
};

/* Exactly one of the first two is set. */
FIXTURE_VARIANT(ksm_dirty) {
	int (*act)(struct ksm_act *a);
	int (*by)(struct ksm_puppet *p, char *to, char *from);
	int (*prepare)(struct ksm_act *a);
	enum promise promise;
	bool wants_donor;
	bool wants_disk;
	bool in_heir;		/* that is where the changed page is */
};

FIXTURE_VARIANT_ADD(ksm_dirty, store) {
	.act = act_store,
};

FIXTURE_VARIANT_ADD(ksm_dirty, read_from_pipe) {
	.act = act_read_pipe,
};

FIXTURE_VARIANT_ADD(ksm_dirty, read_from_file) {
	.act = act_read_file,
};

FIXTURE_VARIANT_ADD(ksm_dirty, vmsplice_from_pipe) {
	.act = act_vmsplice,
};

FIXTURE_VARIANT_ADD(ksm_dirty, futex_op) {
	.act = act_futex,
};

FIXTURE_VARIANT_ADD(ksm_dirty, process_vm_writev) {
	.by = by_vm_writev,
	.promise = FIRST_VISIT,
};

FIXTURE_VARIANT_ADD(ksm_dirty, direct_read) {
	.act = act_direct_read,
	.promise = FIRST_VISIT,
	.wants_disk = true,
};

FIXTURE_VARIANT_ADD(ksm_dirty, registered_buffer) {
	.act = act_ring,
	.promise = FIRST_VISIT,
};

FIXTURE_VARIANT_ADD(ksm_dirty, ptrace_poke) {
	.by = by_ptrace,
	.promise = NEXT_REREAD,
};

FIXTURE_VARIANT_ADD(ksm_dirty, proc_mem) {
	.by = by_proc_mem,
	.promise = NEXT_REREAD,
};

FIXTURE_VARIANT_ADD(ksm_dirty, proc_mem_forced) {
	.by = by_proc_mem,
	.prepare = act_readonly,
	.promise = NEXT_REREAD,
};

FIXTURE_VARIANT_ADD(ksm_dirty, proc_mem_forced_into_empty) {
	.by = by_proc_mem,
	.prepare = act_readonly_empty,
};

FIXTURE_VARIANT_ADD(ksm_dirty, dontneed_and_refault) {
	.act = act_dontneed_store,
};

FIXTURE_VARIANT_ADD(ksm_dirty, uffd_copy) {
	.act = act_uffd_copy,
	.prepare = act_uffd,
};

FIXTURE_VARIANT_ADD(ksm_dirty, uffd_move_of_clean_page) {
	.act = act_uffd_move,
	.prepare = act_uffd_with_move,
	.wants_donor = true,
};

FIXTURE_VARIANT_ADD(ksm_dirty, mremap_of_clean_page) {
	.act = act_mremap,
	.wants_donor = true,
};

FIXTURE_VARIANT_ADD(ksm_dirty, swapped_out_and_in) {
	.act = act_swap,
};

FIXTURE_VARIANT_ADD(ksm_dirty, migrated) {
	.by = by_store_and_move,
};

FIXTURE_VARIANT_ADD(ksm_dirty, store_after_fork) {
	.act = act_store,
	.prepare = act_fork,
};

FIXTURE_VARIANT_ADD(ksm_dirty, store_by_child) {
	.act = act_store_by_heir,
	.prepare = act_fork,
	.in_heir = true,
};

/* How often settled pages are read again; nothing happens without the file. */
static int set_reread(long long passes)
{
	if (access(REREAD, W_OK))
		return 0;
	return ksm_put_num(REREAD, passes);
}

/* All pages differ, the targets in nothing but a bit from what they may get. */
static int start_settled(struct ksm_puppet *p, int (*prepare)(struct ksm_act *),
			 bool wants_donor)
{
	unsigned int i;
	int ret;

	ret = ksm_puppet_start(p, NULL);
	if (ret)
		return ret;
	p->act->n = NR_PAGES;
	for (i = 0; i < NR_PAGES; i++)
		p->act->model[i] = ksm_stamp(OWNER, i, 1);
	for (i = 0; i < NR_TARGETS; i++)
		p->act->model[i] = p->act->model[TWIN + i] | NEAR;
	if (wants_donor)
		ret = ksm_do(p, act_donor) ?: ksm_step(SETTLE_PASSES) ?:
			ksm_do(p, act_donor_leaves);
	if (!ret)
		ret = ksm_do(p, act_map);
	if (!ret && prepare)
		ret = ksm_do1(p, prepare, 0);
	return ret ? ret : ksm_step(SETTLE_PASSES);
}

FIXTURE_SETUP(ksm_dirty)
{
	const char *why = ksm_env_missing(0);
	int ret;

	if (why)
		SKIP(return, "%s", why);
	self->reread = ksm_read_num(REREAD);
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, set_reread(REREAD_PASSES));
	if (variant->wants_disk && ksm_zram_make(&disk))
		SKIP(return, "no zram to read from");
	self->page = ksm_map(1);
	ASSERT_NE(NULL, self->page);
	ret = start_settled(&self->p, variant->prepare, variant->wants_donor);
	if (ret == NOT_HERE)
		SKIP(return, "this kernel cannot do that");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, ksm_get("pages_shared"));
}

FIXTURE_TEARDOWN(ksm_dirty)
{
	ksm_puppet_kill(&self->p);
	ksm_zram_drop(&disk);
	ksm_keep_restore();
	ksm_finish(__test_passed(_metadata));
}

/* Have target @i changed into its twin; as the writer returns. */
static int change(FIXTURE_DATA(ksm_dirty) * self,
		  const FIXTURE_VARIANT(ksm_dirty) * variant, long i)
{
	struct ksm_act *a = self->p.act;
	int ret;

	a->arg[0] = i;
	a->arg[1] = TWIN + i;
	if (variant->act) {
		ret = ksm_do(&self->p, variant->act);
	} else {
		fill(self->page, a->model[TWIN + i]);
		ret = variant->by(&self->p, page_at(a, i), self->page);
	}
	if (!variant->in_heir)
		a->model[i] = a->model[TWIN + i];
	return ret;
}

/* Is target @i in the frame of its twin, in the process that wrote to it? */
static bool is_merged(FIXTURE_DATA(ksm_dirty) * self,
		      const FIXTURE_VARIANT(ksm_dirty) * variant, long i)
{
	struct ksm_act *a = self->p.act;
	pid_t owner = variant->in_heir ? (pid_t)a->arg[2] : self->p.c.pid;
	uint64_t pfn = ksm_pfn(owner, page_at(a, i));

	return pfn && pfn == ksm_pfn(owner, page_at(a, TWIN + i));
}

/* The passes it takes until target @i is merged, at most so many. */
static int passes_to_merge(FIXTURE_DATA(ksm_dirty) * self,
			   const FIXTURE_VARIANT(ksm_dirty) * variant, long i,
			   int most)
{
	int pass = 0;

	while (!is_merged(self, variant, i) && pass < most && !ksm_step(1))
		pass++;
	return is_merged(self, variant, i) ? pass : most + 1;
}

/*
 * B117: a settled page becomes the twin of another one, in each of these ways.
 * One page after the other, so that no pass which happens to read all of them
 * again can be the reason that all are noticed.
 */
TEST_F_TIMEOUT(ksm_dirty, change_is_noticed, 120)
{
	struct ksm_act *a = self->p.act;
	bool promised = variant->promise != NEXT_REREAD;
	int ret, took, may_take;
	uint64_t pfn;
	long i;

	for (i = 0; i < 4; i++) {
		pfn = ksm_pfn(self->p.c.pid, page_at(a, i));
		may_take = promised ? 2 : REREAD_PASSES + 2;
		ret = change(self, variant, i);
		if (ret == NOT_HERE)
			SKIP(return, "this kernel or machine cannot do that");
		if (ret == -EAGAIN) {
			TH_LOG("page %ld is back in its old frame", i);
			may_take = REREAD_PASSES + 2;
			ret = 0;
		}
		ASSERT_EQ(0, ret);
		ASSERT_FALSE(is_merged(self, variant, i));
		pfn -= ksm_pfn(self->p.c.pid, page_at(a, i));
		if (may_take > 2 && self->reread != KSM_BAD && i < 3) {
			ASSERT_EQ(0, set_reread(1));
			may_take = 2;
		}
		took = passes_to_merge(self, variant, i, may_take);
		EXPECT_LE(took, may_take) {
			TH_LOG("page %ld, frame %s", i,
			       pfn ? "another" : "the same");
		}
		ASSERT_EQ(0, set_reread(REREAD_PASSES));
		EXPECT_EQ(0, ksm_do(&self->p, act_check));
		if (variant->in_heir)
			EXPECT_EQ(0, ksm_do(&self->p, act_heir_checks));
		/* Not by luck: some time goes by, and all is quiet. */
		ASSERT_EQ(0, ksm_step(1 + (int)i));
		EXPECT_EQ(i + 1, ksm_get("pages_shared"));
		if (variant->promise == FIRST_VISIT)
			promised = false;
	}
	EXPECT_EQ(0, ksm_get("pages_volatile"));
	/* What was shared by fork is one page still, or again. */
	for (i = 0; i < 4 && a->arg[2]; i++)
		EXPECT_EQ(ksm_pfn(self->p.c.pid, page_at(a, TWIN + i)),
			  ksm_pfn((pid_t)a->arg[2], page_at(a, TWIN + i)));

	/* They are one page to KSM only: a store to one is not seen by both. */
	if (variant->prepare == act_readonly ||
	    variant->prepare == act_readonly_empty)
		return;
	a->model[0] = ksm_stamp(OWNER, NR_PAGES, 2);
	a->arg[0] = 0;
	a->arg[1] = 0;
	ASSERT_EQ(0, ksm_do(&self->p, act_store));
	EXPECT_EQ(0, ksm_do(&self->p, act_check));
}

/* ---- changes that do not end in a merge at once -------------------------- */

FIXTURE(ksm_dirty_then) {
	struct ksm_puppet p;
};

FIXTURE_SETUP(ksm_dirty_then)
{
	const char *why = ksm_env_missing(0);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, set_reread(REREAD_PASSES));
}

FIXTURE_TEARDOWN(ksm_dirty_then)
{
	ksm_puppet_kill(&self->p);
	ksm_keep_restore();
	ksm_finish(__test_passed(_metadata));
}

static uint64_t frame(struct ksm_puppet *p, long i)
{
	return ksm_pfn(p->c.pid, page_at(p->act, i));
}

static bool twins_merged(struct ksm_puppet *p, long i)
{
	return frame(p, i) && frame(p, i) == frame(p, TWIN + i);
}

/* Let a function of the puppet change page @i into its twin. */
static int change_by(struct ksm_puppet *p, int (*act)(struct ksm_act *a),
		     long i)
{
	p->act->model[i] = p->act->model[TWIN + i];
	return ksm_do2(p, act, i, TWIN + i);
}

static int act_dontneed_read(struct ksm_act *a)
{
	int ret = act_dontneed(a);

	if (!ret)
		ksm_touch(target(a));
	return ret;
}

static int act_uffd_zero(struct ksm_act *a)
{
	struct uffdio_zeropage zero = {
		.range.start = (unsigned long)target(a),
		.range.len = ksm_psize(),
	};

	return refill(a, UFFDIO_ZEROPAGE, &zero);
}

/*
 * The page goes, and what is there instead is no page of KSM's: it is forgotten
 * at the next visit, and a new one there is as good as any.
 */
static void page_goes(struct __test_metadata *_metadata, struct ksm_puppet *p,
		      int (*go)(struct ksm_act *a),
		      int (*prepare)(struct ksm_act *a))
{
	int ret = start_settled(p, prepare, false);
	long i;

	if (ret == NOT_HERE)
		SKIP(return, "this kernel cannot do that");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(NR_PAGES, ksm_get("pages_unshared"));
	for (i = 0; i < NR_TARGETS; i++) {
		p->act->model[i] = 0;
		ASSERT_EQ(0, ksm_do2(p, go, i, TWIN + i));
		ASSERT_EQ(0, ksm_step(1));
		EXPECT_EQ(NR_PAGES - 1 - i, ksm_get("pages_unshared"));
		EXPECT_EQ(0, ksm_get("pages_volatile"));
	}
	EXPECT_EQ(0, ksm_get("pages_shared"));
	for (i = 0; i < NR_TARGETS; i++) {
		/* Nobody is there to answer a fault of userfaultfd. */
		if (prepare)
			break;
		ASSERT_EQ(0, change_by(p, act_store, i));
		ASSERT_EQ(0, ksm_step(2));
		EXPECT_TRUE(twins_merged(p, i));
	}
	EXPECT_EQ(0, ksm_do(p, act_check));
}

TEST_F_TIMEOUT(ksm_dirty_then, uffd_zeropage, 60)
{
	page_goes(_metadata, &self->p, act_uffd_zero, act_uffd);
}

TEST_F_TIMEOUT(ksm_dirty_then, dontneed_and_read, 60)
{
	page_goes(_metadata, &self->p, act_dontneed_read, NULL);
}

TEST_F_TIMEOUT(ksm_dirty_then, dontneed, 60)
{
	page_goes(_metadata, &self->p, act_dontneed, NULL);
}

/*
 * B90: a pin that stays over some passes, writing now and then.  The page is a
 * twin each time, and is not merged before it is unpinned.
 */
TEST_F_TIMEOUT(ksm_dirty_then, long_pin, 90)
{
	struct ksm_puppet *p = &self->p;
	struct ksm_act *a;
	int round, ret;

	ASSERT_EQ(0, start_settled(p, NULL, false));
	a = p->act;
	ret = ksm_do2(p, act_ring_pin, 0, TWIN);
	if (ret == NOT_HERE)
		SKIP(return, "no io_uring");
	ASSERT_EQ(0, ret);
	for (round = 0; round < 4; round++) {
		/* Other pages' contents, and the twin's in the end. */
		a->arg[1] = TWIN + 3 - round;
		a->model[0] = a->model[TWIN + 3 - round];
		ASSERT_EQ(0, ksm_do(p, act_ring_write));
		ASSERT_EQ(0, ksm_step(3));
		EXPECT_EQ(0, ksm_get("pages_shared"));
		EXPECT_EQ(0, ksm_do(p, act_check));
	}
	ASSERT_EQ(0, ksm_do(p, act_ring_unpin));
	/* The pin may be dropped a moment later. */
	EXPECT_TRUE(ksm_wait_for((ksm_step(1), twins_merged(p, 0)), 10));
	EXPECT_EQ(0, ksm_do(p, act_check));
}

static int act_lazyfree_store(struct ksm_act *a)
{
	return ksm_advise(target(a), 1, MADV_FREE) ?: act_store(a);
}

static int act_store_lazyfree(struct ksm_act *a)
{
	return act_store(a) ?: ksm_advise(target(a), 1, MADV_FREE);
}

/* Targets that are neither merged nor such as reclaim may drop. */
static int nr_undecided(struct ksm_puppet *p)
{
	int nr = 0;
	long i;

	for (i = 0; i < NR_TARGETS; i++)
		nr += !twins_merged(p, i) &&
			ksm_kpf(frame(p, i), KPF_SWAPBACKED);
	return nr;
}

/*
 * MADV_FREE and a store in either order.  A page that reclaim may drop is not
 * merged, and no other page is made a KSM page for it again and again.
 */
static void lazily_freed(struct __test_metadata *_metadata,
			 struct ksm_puppet *p, int (*act)(struct ksm_act *a))
{
	uint64_t pfn[NR_TARGETS];
	long i, pass, lazy;
	int copies = 0;

	ASSERT_EQ(0, start_settled(p, NULL, false));
	ASSERT_EQ(0, set_reread(1));
	for (i = 0; i < NR_TARGETS; i++)
		ASSERT_EQ(0, change_by(p, act, i));
	for (pass = 0; pass < 12; pass++) {
		ASSERT_EQ(0, ksm_step(1));
		for (i = 0; i < NR_TARGETS; i++) {
			/* KSM drains the LRU batches in the first passes. */
			if (pass >= 4 && !twins_merged(p, i))
				copies += pfn[i] != frame(p, TWIN + i);
			pfn[i] = frame(p, TWIN + i);
		}
	}
	EXPECT_EQ(0, copies);
	/* One may be in an LRU batch, which KSM drains once in a second. */
	EXPECT_TRUE(ksm_wait_for((ksm_step(1), nr_undecided(p) == 0), 10));
	for (i = 0, lazy = 0; i < NR_TARGETS; i++)
		lazy += !twins_merged(p, i);
	TH_LOG("%ld of %d pages are lazily freed ones", lazy, NR_TARGETS);
	EXPECT_EQ(0, ksm_do(p, act_check));
}

TEST_F_TIMEOUT(ksm_dirty_then, lazyfree_and_store, 60)
{
	lazily_freed(_metadata, &self->p, act_lazyfree_store);
}

TEST_F_TIMEOUT(ksm_dirty_then, store_and_lazyfree, 60)
{
	lazily_freed(_metadata, &self->p, act_store_lazyfree);
}

/* ---- huge pages ---------------------------------------------------------- */

#define HUGE_SIZE	(2UL << 20)
#define NR_SUB		((long)(HUGE_SIZE / ksm_psize()))
#define THP_ENABLED	"/sys/kernel/mm/transparent_hugepage/enabled"
#define HUGE_SEED	0x7100000

FIXTURE(ksm_dirty_huge) {
	char *p;		/* an aligned place */
	char *q;		/* small pages: page i has content SEED + i */
	long long reread;
};

FIXTURE_SETUP(ksm_dirty_huge)
{
	const char *why = ksm_env_missing(0);
	char *p;

	if (why)
		SKIP(return, "%s", why);
	self->reread = ksm_read_num(REREAD);
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, set_reread(REREAD_PASSES));
	ksm_put(THP_ENABLED, "madvise");
	p = mmap(NULL, 2 * HUGE_SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)p);
	self->p = (char *)(((unsigned long)p + HUGE_SIZE - 1) & -HUGE_SIZE);
	self->q = ksm_map_filled(NR_TARGETS, HUGE_SEED, 1);
	ASSERT_NE(NULL, self->q);
}

FIXTURE_TEARDOWN(ksm_dirty_huge)
{
	ksm_keep_restore();
	ksm_finish(__test_passed(_metadata));
}

static bool is_huge(const char *p)
{
	return ksm_smaps_kb(0, p, "AnonHugePages") == HUGE_SIZE / 1024;
}

static char *sub(char *p, long i)
{
	return p + (size_t)i * ksm_psize();
}

/* Parts 100 to 103 shall be what the first small pages are; are they now? */
static long parts_merged(char *p, char *q)
{
	long i, nr = 0;

	for (i = 0; i < 4; i++)
		nr += ksm_same_frame(sub(p, 100 + i), sub(q, i));
	return nr;
}

static size_t bad_parts(char *p)
{
	return ksm_count_bad(p, 100, HUGE_SEED + 1000, 1) +
		ksm_count_bad(sub(p, 100), 4, HUGE_SEED, 1) +
		ksm_count_bad(sub(p, 104), NR_SUB - 104, HUGE_SEED + 1104, 1);
}

/* Fill the place, and let it settle; false when that takes a huge page. */
static bool settle_parts(struct __test_metadata *_metadata, char *p, int advice)
{
	bool huge = advice == MADV_HUGEPAGE;

	madvise(p, HUGE_SIZE, advice);
	ksm_fill_range(p, NR_SUB, HUGE_SEED + 1000, 1);
	if (huge && !is_huge(p))
		return false;
	ASSERT_EQ(0, ksm_mergeable(p, NR_SUB));
	ASSERT_EQ(0, ksm_step(SETTLE_PASSES));
	ASSERT_EQ(0, ksm_get("pages_shared"));
	ASSERT_EQ(huge, is_huge(p));
	return true;
}

static void expect_all_merged(struct __test_metadata *_metadata, char *p,
			      char *q)
{
	EXPECT_EQ(4, parts_merged(p, q));
	EXPECT_EQ(0UL, bad_parts(p));
	EXPECT_EQ(0UL, ksm_count_bad(q, NR_TARGETS, HUGE_SEED, 1));
}

/*
 * A store to a part of a huge page that has settled: its PMD tells nothing, so
 * parts are read again after 1, 2, 4 and up to 16 passes.
 */
TEST_F_TIMEOUT(ksm_dirty_huge, store_to_a_part, 120)
{
	char *p = self->p, *q = self->q;
	int pass;

	if (!settle_parts(_metadata, p, MADV_HUGEPAGE))
		SKIP(return, "no huge page to be had");
	ksm_fill_range(sub(p, 100), 2, HUGE_SEED, 1);
	if (self->reread != KSM_BAD) {
		ASSERT_EQ(0, set_reread(1));
		ASSERT_EQ(0, ksm_step(2));
		EXPECT_EQ(2, parts_merged(p, q));
		ASSERT_EQ(0, set_reread(REREAD_PASSES));
	}
	ksm_fill_range(sub(p, 102), 2, HUGE_SEED + 2, 1);
	for (pass = 0; pass < 18 && parts_merged(p, q) < 4; pass++)
		ASSERT_EQ(0, ksm_step(1));
	expect_all_merged(_metadata, p, q);
}

/* A store, and a split before ksmd comes by: the small PTEs are dirty. */
TEST_F_TIMEOUT(ksm_dirty_huge, store_and_split, 120)
{
	char *p = self->p, *q = self->q;

	if (!settle_parts(_metadata, p, MADV_HUGEPAGE))
		SKIP(return, "no huge page to be had");
	ksm_fill_range(sub(p, 100), 4, HUGE_SEED, 1);
	ASSERT_EQ(0, mprotect(sub(p, 300), ksm_psize(), PROT_READ));
	ASSERT_FALSE(is_huge(p));
	ASSERT_EQ(0, ksm_step(2));
	expect_all_merged(_metadata, p, q);
}

/* Stores to small pages, which a huge one takes the place of. */
TEST_F_TIMEOUT(ksm_dirty_huge, store_and_collapse, 120)
{
	char *p = self->p, *q = self->q;

	ASSERT_TRUE(settle_parts(_metadata, p, MADV_NOHUGEPAGE));
	ksm_fill_range(sub(p, 100), 4, HUGE_SEED, 1);
	madvise(p, HUGE_SIZE, MADV_HUGEPAGE);
	if (madvise(p, HUGE_SIZE, MADV_COLLAPSE) || !is_huge(p))
		SKIP(return, "no huge page to be had");
	ASSERT_EQ(0, ksm_step(2));
	expect_all_merged(_metadata, p, q);
}

/* ---- nothing changes, or everything ------------------------------------- */

#define NR_STILL	300

FIXTURE(ksm_still) {
	char *p;
};

FIXTURE_SETUP(ksm_still)
{
	const char *why = ksm_env_missing(0);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, set_reread(REREAD_PASSES));
	self->p = ksm_map_filled(NR_STILL, ksm_stamp(OWNER, 0, 9), 1);
	ASSERT_NE(NULL, self->p);
}

FIXTURE_TEARDOWN(ksm_still)
{
	ksm_keep_restore();
	ksm_finish(__test_passed(_metadata));
}

/*
 * B117, B122: in as many passes as there are between two reads of a page, each
 * page is read exactly once and passed over in all others; in most passes, no
 * page is read at all.  All the time they are counted as what they are.
 */
TEST_F_TIMEOUT(ksm_still, settled_pages_are_passed_over, 90)
{
	int pass, idle = 0;
	long long from, skipped, before;

	ASSERT_EQ(0, ksm_step(SETTLE_PASSES));
	ASSERT_EQ(NR_STILL, ksm_get("pages_unshared"));
	from = ksm_get("pages_scanned");
	skipped = ksm_get("pages_skipped");
	for (pass = 0; pass < REREAD_PASSES; pass++) {
		before = ksm_get("pages_scanned");
		ASSERT_EQ(0, ksm_step(1));
		idle += ksm_get("pages_scanned") == before;
	}
	EXPECT_EQ(NR_STILL, ksm_get("pages_scanned") - from);
	EXPECT_EQ((REREAD_PASSES - 1) * NR_STILL,
		  ksm_get("pages_skipped") - skipped);
	/* They lie in 5 or 6 blocks of 64 pages, each of which has its turn. */
	EXPECT_GE(idle, REREAD_PASSES - 6);
	EXPECT_EQ(NR_STILL, ksm_get("pages_unshared"));

	/* That can be had in each pass as well. */
	if (access(REREAD, W_OK))
		return;
	ASSERT_EQ(0, set_reread(1));
	from = ksm_get("pages_scanned");
	ASSERT_EQ(0, ksm_step(3));
	EXPECT_EQ(3 * NR_STILL, ksm_get("pages_scanned") - from);
}

/* B122: without smart_scan each page is read in each pass, none is skipped. */
TEST_F_TIMEOUT(ksm_still, all_are_read_without_smart_scan, 60)
{
	long long from, skipped;
	int pass;

	ASSERT_EQ(0, ksm_step(SETTLE_PASSES));
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	skipped = ksm_get("pages_skipped");
	for (pass = 0; pass < 5; pass++) {
		from = ksm_get("pages_scanned");
		ASSERT_EQ(0, ksm_step(1));
		EXPECT_EQ(NR_STILL, ksm_get("pages_scanned") - from);
	}
	EXPECT_EQ(skipped, ksm_get("pages_skipped"));
}

/* Pages 0 and 1 are rewritten before each of so many passes, always alike. */
static int restless_passes(char *p, int passes)
{
	int pass, ret = 0;

	for (pass = 0; !ret && pass < passes; pass++) {
		ksm_fill_range(p, 2, ksm_stamp(OWNER, pass, 10), 0);
		ret = ksm_step(1);
		if (!ret && ksm_same_frame(p, sub(p, 1)))
			ret = -EEXIST;
	}
	return ret;
}

/*
 * Pages that are written to all the time are not merged, though they are
 * twins whenever ksmd comes by.  When they rest as twins of a settled page,
 * all three become one; the longer they were restless, the later, but no
 * later than two turns of one visit in eight passes.
 */
TEST_F_TIMEOUT(ksm_still, restless_pages_come_to_rest, 90)
{
	static const struct {
		int restless;
		int most;
	} runs[] = { { 1, 2 }, { 3, 6 }, { 6, 18 }, { 40, 18 } };
	uint64_t rest = ksm_stamp(OWNER, 0, 9);
	char *p = self->p;
	unsigned int i;
	int pass;

	ASSERT_EQ(0, ksm_step(SETTLE_PASSES));
	for (i = 0; i < ARRAY_SIZE(runs); i++) {
		ASSERT_EQ(0, restless_passes(p, runs[i].restless));
		ksm_fill_range(p, 2, rest + 20 + i, 0);
		for (pass = 0; pass < runs[i].most; pass++) {
			ASSERT_EQ(0, ksm_step(1));
			if (ksm_same_frame(p, sub(p, 20 + i)) &&
			    ksm_same_frame(p, sub(p, 1)))
				break;
		}
		TH_LOG("restless for %d passes, merged after %d at rest",
		       runs[i].restless, pass + 1);
		EXPECT_LT(pass, runs[i].most);
		EXPECT_EQ(0UL, ksm_count_bad(p, 2, rest + 20 + i, 0));
	}
	EXPECT_EQ(0UL, ksm_count_bad(sub(p, 2), NR_STILL - 2, rest + 2, 1));
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(KSM_WITH_SWAP);
	if (access("/sys/kernel/debug/ksm", F_OK))
		mount("none", "/sys/kernel/debug", "debugfs", 0, NULL);
	ksm_keep(REREAD);
	ksm_keep(THP_ENABLED);
	return test_harness_run(argc, argv);
}
