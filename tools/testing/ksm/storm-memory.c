// SPDX-License-Identifier: GPL-2.0
/*
 * The storm: what a worker does to its own memory.  Each operation changes the
 * memory and the model alike, and returns what the kernel said.
 */
#include "storm.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC	0x8000
#endif

#define MPOL_MODES		4	/* default, preferred, bind, interleave */
#define MPOL_MOVE		2	/* MPOL_MF_MOVE */
#define MAX_RANGE		64

/* ---- mappings ------------------------------------------------------------ */

/* Address space for @nr pages; a huge page fits in if it is that large. */
static char *reserve(unsigned int nr, int prot, int fd)
{
	size_t len = nr * ksm_psize(), huge = STORM_HUGE * ksm_psize();
	size_t more = nr == STORM_HUGE && fd < 0 ? huge : 0;
	int flags = MAP_PRIVATE | (fd < 0 ? MAP_ANONYMOUS : 0);
	char *p, *at;

	p = mmap(NULL, len + more, prot, flags, fd, 0);
	if (p == MAP_FAILED || !more)
		return p == MAP_FAILED ? NULL : p;
	at = (char *)(((unsigned long)p + huge - 1) & -huge);
	if (at > p)
		munmap(p, (size_t)(at - p));
	munmap(at + len, (size_t)(p + more - at));
	return at;
}

static int fill_range(struct storm_proc *p, const struct storm_range *r)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; !ret && i < r->nr; i++)
		ret = storm_write(r->area, r->from + i,
				  storm_choose(p, storm_addr(r->area,
							     r->from + i)));
	return ret;
}

/* A new area, which is offered and filled at once in most cases. */
int storm_map(struct storm_proc *p, long arg)
{
	struct storm_area *a = storm_area_new(p);
	bool file = storm_chance(p, 12);
	bool huge = storm_chance(p, 25);
	unsigned int nr = huge ? STORM_HUGE : 1 + storm_below(p, 2 * MAX_RANGE);
	struct storm_range r;

	(void)arg;
	if (!a || storm_pages(p) + nr > STORM_PAGES)
		return STORM_NOTHING;
	memset(a, 0, sizeof(*a));
	a->addr = reserve(nr, PROT_READ | PROT_WRITE, file ? storm->file : -1);
	if (!a->addr)
		return -errno;
	a->nr = nr;
	a->file = file;
	r = (struct storm_range){ a, 0, nr };
	storm_past(p, "map", a->addr, nr, file);
	if (huge && storm_chance(p, 50))
		madvise(a->addr, nr * ksm_psize(), MADV_HUGEPAGE);
	if (storm_chance(p, 70) && ksm_mergeable(a->addr, nr))
		return -errno;
	return storm_chance(p, 80) ? fill_range(p, &r) : STORM_DONE;
}

/* All of an area, or a part. */
int storm_unmap(struct storm_proc *p, long arg)
{
	struct storm_range r;
	int ret;

	(void)arg;
	if (!storm_pick(p, STORM_HUGE, &r) || !storm_cut(p, &r))
		return STORM_NOTHING;
	ret = munmap(r.area->addr, r.nr * ksm_psize()) ? -errno : 0;
	storm_past(p, "unmap", r.area->addr, r.nr, ret);
	if (!ret)
		r.area->addr = NULL;
	return ret;
}

static int move_area(struct storm_proc *p, struct storm_area *a, bool keep)
{
	size_t len = a->nr * ksm_psize();
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	struct storm_area *left = NULL;
	char *to, *old = a->addr;

	if (keep) {
		left = storm_area_new(p);
		if (!left || storm_pages(p) + a->nr > STORM_PAGES)
			return STORM_NOTHING;
		flags |= MREMAP_DONTUNMAP;
	}
	to = reserve(a->nr, PROT_NONE, -1);
	if (!to)
		return -errno;
	if (mremap(old, len, len, flags, to) == MAP_FAILED) {
		int err = errno;

		munmap(to, len);
		return -err;
	}
	if (left) {
		*left = *a;
		storm_set(&(struct storm_range){ left, 0, left->nr },
			  STORM_ZERO);
		storm_flag(&(struct storm_range){ left, 0, left->nr },
			   STORM_LAZY | STORM_ANY | STORM_FORKED, 0);
	}
	a->addr = to;
	return 0;
}

/* Move a part of an area, now and then with empty pages left behind. */
int storm_mremap(struct storm_proc *p, long arg)
{
	bool keep = storm_chance(p, 20);
	struct storm_range r;
	int ret;

	(void)arg;
	if (!storm_pick(p, storm_chance(p, 25) ? STORM_HUGE : 16, &r) ||
	    r.area->uffd || !storm_cut(p, &r))
		return STORM_NOTHING;
	storm_past(p, keep ? "mremap, keep" : "mremap", r.area->addr, r.nr, 0);
	ret = move_area(p, r.area, keep);
	storm_past(p, "mremap to", r.area->addr, r.nr, ret);
	return ret;
}

/* Make an area larger, wherever that is possible. */
int storm_grow(struct storm_proc *p, long arg)
{
	unsigned int more = 1 + storm_below(p, 16);
	struct storm_range r;
	char *to;

	(void)arg;
	if (!storm_pick(p, 1, &r) || r.area->uffd || r.area->file ||
	    r.area->nr + more > STORM_HUGE ||
	    storm_pages(p) + more > STORM_PAGES)
		return STORM_NOTHING;
	/* What is new has the protection of the last page. */
	to = mremap(r.area->addr, r.area->nr * ksm_psize(),
		    (r.area->nr + more) * ksm_psize(), MREMAP_MAYMOVE);
	storm_past(p, "grow", r.area->addr, more, to == MAP_FAILED);
	if (to == MAP_FAILED)
		return -errno;
	r.area->addr = to;
	r.from = r.area->nr;
	r.nr = more;
	r.area->nr += more;
	storm_set(&r, STORM_ZERO);
	storm_flag(&r, ~0U, r.area->page[r.from - 1].flags &
		   (STORM_READONLY | STORM_NONE));
	return 0;
}

/* ---- contents ------------------------------------------------------------ */

int storm_put(struct storm_proc *p, long arg)
{
	struct storm_range r;
	int ret;

	(void)arg;
	if (!storm_pick(p, 16, &r))
		return STORM_NOTHING;
	storm_past(p, "write", storm_addr(r.area, r.from), r.nr, 0);
	ret = fill_range(p, &r);
	storm_past(p, "written", storm_addr(r.area, r.from), r.nr, ret);
	return ret;
}

/* Store to one word of a page, as most programs do. */
int storm_poke(struct storm_proc *p, long arg)
{
	struct storm_page *page;
	struct storm_range r;
	unsigned int word;
	uint64_t content, value;
	int ret;

	(void)arg;
	/* What a lazily freed page would hold then is anybody's guess. */
	if (!storm_pick_plain(p, p, 1, ~(uint32_t)STORM_WP, &r))
		return STORM_NOTHING;
	page = &r.area->page[r.from];
	content = storm_poked(p, page->content, &word, &value);
	if (content == page->content)
		return STORM_NOTHING;
	ret = storm_uffd_allow(r.area, r.from, 1);
	if (ret)
		return ret;
	((uint64_t *)storm_addr(r.area, r.from))[word] = value;
	ksm_barrier();
	page->content = content;
	page->flags &= ~(STORM_WP | STORM_FORKED);
	storm_past(p, "poke", storm_addr(r.area, r.from), 1, (int)word);
	return 0;
}

int storm_check(struct storm_proc *p, long arg)
{
	struct storm_range r;

	(void)arg;
	if (!storm_pick(p, MAX_RANGE, &r))
		return STORM_NOTHING;
	storm_past(p, "verify", storm_addr(r.area, r.from), r.nr, 0);
	return storm_verify(p, &r);
}

/* ---- advice and protection ----------------------------------------------- */

static const char *advice_name(long advice)
{
	static const char * const names[] = {
		[MADV_DONTNEED] = "dontneed", [MADV_FREE] = "free",
		[MADV_MERGEABLE] = "mergeable",
		[MADV_UNMERGEABLE] = "unmergeable",
		[MADV_HUGEPAGE] = "hugepage", [MADV_NOHUGEPAGE] = "nohugepage",
		[MADV_COLD] = "cold", [MADV_PAGEOUT] = "pageout",
		[MADV_COLLAPSE] = "collapse",
	};

	return advice < (long)ARRAY_SIZE(names) && names[advice] ?
		names[advice] : "advice";
}

/*
 * After MADV_UNMERGEABLE no page of the range may be a merged one.  But a page
 * that fork has shared may become one at any time: the other side offers it.
 */
static void check_unmerged(struct storm_proc *p, const struct storm_range *r)
{
	size_t i;
	char *page;
	int tries;

	/* The stock kernel says of all anonymous pages that they are merged. */
	if (!storm->ours)
		return;
	for (tries = 0; tries < 4; tries++) {
		i = r->from + storm_below(p, r->nr);
		if (r->area->page[i].flags & STORM_FORKED)
			continue;
		page = storm_addr(r->area, i);
		/* A frame that was replaced meanwhile tells nothing. */
		if (ksm_kpf(ksm_pfn(0, page), KPF_KSM) == 1 &&
		    ksm_kpf(ksm_pfn(0, page), KPF_KSM) == 1)
			storm_fail(p, "%p is merged after MADV_UNMERGEABLE",
				   (void *)page);
	}
}

/* What the advice has done to the contents. */
static void advise_model(struct storm_range *r, long advice)
{
	unsigned int i;

	if (advice == MADV_DONTNEED) {
		storm_set(r, STORM_ZERO);
		storm_flag(r, STORM_LAZY | STORM_ANY | STORM_WP |
			   STORM_FORKED, 0);
	} else if (advice == MADV_FREE) {
		for (i = r->from; i < r->from + r->nr; i++)
			if (r->area->page[i].content != STORM_ZERO)
				r->area->page[i].flags |= STORM_LAZY;
	}
}

/*
 * A page that was unshared and then forked is lost to all others when one of
 * them calls MADV_FREE for it and it is reclaimed.  The stock kernel has that
 * fault, with KSM and without: there such pages are spared, if wanted.
 */
static bool spared(const struct storm_range *r)
{
	unsigned int i;

	for (i = r->from; storm->spare_shared && i < r->from + r->nr; i++)
		if (r->area->page[i].flags & STORM_FORKED)
			return true;
	return false;
}

int storm_madvise(struct storm_proc *p, long advice)
{
	struct storm_range r;
	int ret;

	if (!storm_pick(p, advice == MADV_DONTNEED || advice == MADV_FREE ?
			16 : STORM_HUGE, &r))
		return STORM_NOTHING;
	if (advice == MADV_FREE && spared(&r))
		return STORM_NOTHING;
	if (advice == MADV_COLLAPSE) {
		r.from = 0;
		r.nr = r.area->nr;
	}
	storm_past(p, advice_name(advice), storm_addr(r.area, r.from), r.nr, 0);
	/* Pages may be dropped before the call is over. */
	if (advice == MADV_FREE && !r.area->file)
		advise_model(&r, advice);
	ret = ksm_advise(storm_addr(r.area, r.from), r.nr, (int)advice);
	if (ret) {
		storm_past(p, "refused", storm_addr(r.area, r.from), r.nr, ret);
		return ret;
	}
	if (advice == MADV_DONTNEED)
		advise_model(&r, advice);
	else if (advice == MADV_UNMERGEABLE)
		check_unmerged(p, &r);
	return 0;
}

int storm_mprotect(struct storm_proc *p, long arg)
{
	static const int prots[] = {
		PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE,
	};
	static const uint32_t flags[] = { 0, STORM_READONLY, STORM_NONE };
	unsigned int what = storm_chance(p, 50) ? 0 : 1 + storm_below(p, 2);
	struct storm_range r;
	int ret;

	(void)arg;
	if (!storm_pick(p, what ? 8 : STORM_HUGE, &r))
		return STORM_NOTHING;
	ret = mprotect(storm_addr(r.area, r.from), r.nr * ksm_psize(),
		       prots[what]) ? -errno : 0;
	storm_past(p, "mprotect", storm_addr(r.area, r.from), r.nr,
		   ret ? ret : prots[what]);
	if (!ret)
		storm_flag(&r, STORM_READONLY | STORM_NONE, flags[what]);
	return ret;
}

int storm_prctl(struct storm_proc *p, long on)
{
	int ret;

	ret = prctl(PR_SET_MEMORY_MERGE, on, 0, 0, 0) ? -errno : 0;
	storm_past(p, "PR_SET_MEMORY_MERGE", NULL, (unsigned int)on, ret);
	if (!ret)
		p->merge_any = on;
	if (prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) != p->merge_any)
		storm_fail(p, "PR_GET_MEMORY_MERGE is not %d after %d",
			   p->merge_any, ret);
	return ret;
}

/* One of KSM's calls with the n-th allocation failing; see fault-injection. */
int storm_faulty(struct storm_proc *p, long arg)
{
	static const char file[] = "/proc/thread-self/fail-nth";
	long what = storm_below(p, 4);
	int ret;

	(void)arg;
	if (ksm_put_num(file, 1 + storm_below(p, 8)))
		return STORM_NOTHING;
	if (what < 2)
		ret = storm_madvise(p, what ? MADV_MERGEABLE :
				    MADV_UNMERGEABLE);
	else
		ret = storm_prctl(p, what == 2);
	storm->faults += ksm_read_num(file) == 0;
	ksm_put_num(file, 0);
	return ret;
}

/* ---- write protection by userfaultfd ------------------------------------- */

/*
 * Every second process has the kernel take the protection away at a write; the
 * others take it away themselves beforehand.  In both, it must stay until then.
 */
static int uffd = -1;
static bool is_async;

/* fork() and exec() leave it behind. */
void storm_uffd_forget(struct storm_proc *p)
{
	struct storm_area *a;

	if (uffd >= 0)
		close(uffd);
	uffd = -1;
	for (a = p->area; a < p->area + STORM_AREAS; a++) {
		a->uffd = false;
		storm_flag(&(struct storm_range){ a, 0, a->nr }, STORM_WP, 0);
	}
}

int storm_uffd_begin(struct storm_proc *p, long arg)
{
	struct storm_range r;
	int ret;

	(void)arg;
	if (!storm_pick(p, 1, &r) || r.area->file || r.area->uffd)
		return STORM_NOTHING;
	is_async = p->serial & 1;
	if (uffd < 0)
		uffd = ksm_uffd_open(is_async ? UFFD_FEATURE_WP_ASYNC :
				     UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	if (uffd < 0) {
		ret = uffd;
		uffd = -1;
		return ret;
	}
	ret = ksm_uffd_register(uffd, r.area->addr, r.area->nr,
				UFFDIO_REGISTER_MODE_WP);
	storm_past(p, "uffd register", r.area->addr, r.area->nr, ret);
	r.area->uffd = !ret;
	return ret;
}

/* Some pages of an area that is registered; a few tries are enough. */
static bool pick_registered(struct storm_proc *p, unsigned int most,
			    struct storm_range *r)
{
	int tries;

	for (tries = 0; tries < 6; tries++)
		if (storm_pick(p, most, r) && r->area->uffd)
			return true;
	return false;
}

int storm_uffd_end(struct storm_proc *p, long arg)
{
	struct uffdio_range range;
	struct storm_range r;
	int ret;

	(void)arg;
	if (!pick_registered(p, 1, &r))
		return STORM_NOTHING;
	range.start = (unsigned long)r.area->addr;
	range.len = r.area->nr * ksm_psize();
	ret = ioctl(uffd, UFFDIO_UNREGISTER, &range) ? -errno : 0;
	storm_past(p, "uffd unregister", r.area->addr, r.area->nr, ret);
	if (ret)
		return ret;
	r.area->uffd = false;
	storm_flag(&(struct storm_range){ r.area, 0, r.area->nr }, STORM_WP, 0);
	return 0;
}

/* Write-protect pages that have been written to, so that there is something. */
int storm_uffd_wp(struct storm_proc *p, long on)
{
	struct storm_range r;
	unsigned int i;
	int ret = 0;

	if (!pick_registered(p, 16, &r))
		return STORM_NOTHING;
	if (!on && !is_async)
		return storm_uffd_allow(r.area, r.from, r.nr);
	for (i = r.from; !ret && i < r.from + r.nr; i++) {
		if (r.area->page[i].content == STORM_ZERO ||
		    r.area->page[i].flags & (STORM_LAZY | STORM_ANY))
			continue;
		ret = ksm_uffd_protect(uffd, storm_addr(r.area, i), 1, true);
		if (!ret)
			r.area->page[i].flags |= STORM_WP;
	}
	storm_past(p, "uffd protect", storm_addr(r.area, r.from), r.nr, ret);
	return ret;
}

/* Let pages be written to; where the kernel does that, it shall. */
int storm_uffd_allow(struct storm_area *a, unsigned int from, unsigned int nr)
{
	struct storm_range r = { a, from, nr };
	unsigned int i;
	int ret = 0;

	for (i = from; i < from + nr; i++)
		if (a->page[i].flags & STORM_WP)
			break;
	if (i == from + nr)
		return 0;
	if (!is_async)
		ret = ksm_uffd_protect(uffd, storm_addr(a, from), nr, false);
	if (!ret)
		storm_flag(&r, STORM_WP, 0);
	return ret;
}

/* ---- NUMA nodes, bad memory ---------------------------------------------- */

/* Pages of this process or of another go to another node. */
int storm_move_pages(struct storm_proc *p, long arg)
{
	struct storm_proc *q = storm_chance(p, 50) ? storm_peer(p) : NULL;
	int node = storm->nodes[storm_below(p, 2)];
	struct storm_range r;
	int ret = STORM_NOTHING;

	(void)arg;
	if (storm_pick_of(p, q ? q : p, MAX_RANGE, &r)) {
		storm_past(p, "move_pages", storm_addr(r.area, r.from), r.nr,
			   node);
		ret = ksm_move(q ? q->pid : 0, storm_addr(r.area, r.from),
			       r.nr, node);
	}
	if (q)
		pthread_mutex_unlock(&q->lock);
	return ret < 0 ? ret : ret == STORM_NOTHING ? ret : STORM_DONE;
}

int storm_mbind(struct storm_proc *p, long arg)
{
	int mode = (int)storm_below(p, MPOL_MODES);
	unsigned long mask = 1UL << storm->nodes[storm_below(p, 2)];
	struct storm_range r;
	int ret;

	(void)arg;
	if (!storm_pick(p, MAX_RANGE, &r))
		return STORM_NOTHING;
	ret = syscall(SYS_mbind, storm_addr(r.area, r.from),
		      r.nr * ksm_psize(), mode, mode ? &mask : NULL,
		      mode ? KSM_MAX_NODES + 1 : 0, MPOL_MOVE) ? -errno : 0;
	storm_past(p, "mbind", storm_addr(r.area, r.from), r.nr,
		   ret ? ret : mode);
	return ret;
}

/* A page's frame is taken out of service; the page moves and stays. */
int storm_soft_offline(struct storm_proc *p, long arg)
{
	struct storm_range r;
	int ret;

	(void)arg;
	if (storm->soft >= STORM_SOFT ||
	    !storm_pick_plain(p, p, 1, STORM_NONE, &r) ||
	    r.area->page[r.from].content == STORM_ZERO ||
	    storm_in_block(ksm_pfn(0, storm_addr(r.area, r.from))))
		return STORM_NOTHING;
	ret = ksm_advise(storm_addr(r.area, r.from), 1, MADV_SOFT_OFFLINE);
	storm_past(p, "soft offline", storm_addr(r.area, r.from), 1, ret);
	storm->soft += !ret;
	return ret;
}
