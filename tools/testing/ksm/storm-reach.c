// SPDX-License-Identifier: GPL-2.0
/*
 * The storm: memory that is reached by other ways than by its own mapping, as
 * its owner's or as somebody else's: process_vm_readv(), process_vm_writev(),
 * /proc/PID/mem, pipes that pages are lent to, direct I/O, long-term pins.
 */
#include "storm.h"
#include "../selftests/mm/ksm_gup.h"
#include <sys/uio.h>

#define DISK_PAGES	16	/* of each process on the disk */
#define NOT_PLAIN	(~(uint32_t)0)

/* Pages on their way. */
static uint64_t buffer[STORM_BATCH * 512];

/* Verify what was read of pages of @q. */
static void check_buffer(struct storm_proc *q, const struct storm_range *r,
			 const char *who)
{
	const char *page = (char *)buffer;
	unsigned int i;

	for (i = r->from; i < r->from + r->nr; i++, page += ksm_psize()) {
		storm->verified++;
		if (storm_differs(page, r->area->page[i].content) >= 0)
			storm_mismatch(q, r->area, i, page, who);
	}
}

static int read_pages(struct storm_proc *q, const struct storm_range *r)
{
	struct iovec local = { buffer, r->nr * ksm_psize() };
	struct iovec remote = {
		storm_addr(r->area, r->from), r->nr * ksm_psize()
	};
	ssize_t n;

	n = process_vm_readv(q->pid, &local, 1, &remote, 1, 0);
	if (n < 0)
		return -errno;
	/* The owner may have been killed in between. */
	return n == (ssize_t)local.iov_len ? 0 : -EFAULT;
}

/* Verify pages of another process, or our own, from outside. */
int storm_readv(struct storm_proc *p, long arg)
{
	struct storm_proc *q = storm_peer(p), *owner = q ? q : p;
	struct storm_range r;
	int ret = STORM_NOTHING;

	(void)arg;
	if (storm_pick_plain(p, owner, STORM_BATCH,
			     STORM_NONE | STORM_LAZY | STORM_ANY, &r)) {
		storm_past(p, "readv", storm_addr(r.area, r.from), r.nr,
			   owner->pid);
		ret = read_pages(owner, &r);
		if (!ret)
			check_buffer(owner, &r, "process_vm_readv()");
	}
	if (q)
		pthread_mutex_unlock(&q->lock);
	return ret;
}

static int write_page(struct storm_proc *q, char *to, bool by_file)
{
	struct iovec local = { buffer, ksm_psize() };
	struct iovec remote = { to, ksm_psize() };
	char path[64];
	ssize_t n;
	int fd, err;

	if (!by_file) {
		n = process_vm_writev(q->pid, &local, 1, &remote, 1, 0);
		return n == (ssize_t)ksm_psize() ? 0 : n < 0 ? -errno : -EIO;
	}
	snprintf(path, sizeof(path), "/proc/%d/mem", q->pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = pwrite(fd, buffer, ksm_psize(), (off_t)(unsigned long)to);
	err = n < 0 ? -errno : -EIO;
	close(fd);
	return n == (ssize_t)ksm_psize() ? 0 : err;
}

/*
 * Write to a page of another process, or our own, from outside.  Should we be
 * killed on the way, the owner finds STORM_ANY.
 */
int storm_writev(struct storm_proc *p, long by_file)
{
	struct storm_proc *q = storm_peer(p), *owner = q ? q : p;
	struct storm_page *page;
	struct storm_range r;
	int ret = STORM_NOTHING;
	uint64_t content;

	/* Only /proc/PID/mem reaches pages that their owner cannot write to. */
	if (storm_pick_plain(p, owner, 1, by_file ? STORM_WP : STORM_WP |
			     STORM_READONLY | STORM_NONE, &r)) {
		page = &r.area->page[r.from];
		content = storm_choose(p, storm_addr(r.area, r.from));
		storm_fill(buffer, content);
		page->flags |= STORM_ANY;
		ret = write_page(owner, storm_addr(r.area, r.from), by_file);
		storm_past(p, by_file ? "/proc/PID/mem" : "writev",
			   storm_addr(r.area, r.from), 1,
			   ret ? ret : owner->pid);
		if (q)
			storm_past(q, "written from outside",
				   storm_addr(r.area, r.from), 1, ret);
		if (!ret) {
			page->content = content;
			page->flags &= STORM_READONLY | STORM_NONE;
		}
	}
	if (q)
		pthread_mutex_unlock(&q->lock);
	return ret;
}

static int read_pipe(int fd, char *to, size_t len)
{
	ssize_t n;

	for (; len; to += n, len -= (size_t)n) {
		n = read(fd, to, len);
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
	}
	return 0;
}

/*
 * Lend a page to a pipe for a while, and maybe write to it meanwhile: the pipe
 * shows the page as it was lent, or, if it has the same frame still, as it is.
 */
static int lend(struct storm_proc *p, const struct storm_range *r, int *fd)
{
	struct storm_page *page = &r->area->page[r->from];
	char *addr = storm_addr(r->area, r->from);
	struct iovec iov = { addr, ksm_psize() };
	uint64_t lent = page->content;
	int ret;

	if (vmsplice(fd[1], &iov, 1, 0) != (ssize_t)iov.iov_len)
		return -errno;
	storm_nap(p, 30);
	if (storm_chance(p, 50)) {
		ret = storm_write(r->area, r->from, storm_choose(p, addr));
		if (ret)
			return ret;
	}
	ret = read_pipe(fd[0], (char *)buffer, ksm_psize());
	if (!ret && storm_differs(buffer, lent) >= 0)
		check_buffer(p, r, "the reader of a pipe");
	return ret;
}

int storm_pipe(struct storm_proc *p, long arg)
{
	struct storm_range r;
	int fd[2], ret;

	(void)arg;
	if (!storm_pick_plain(p, p, 1, NOT_PLAIN, &r))
		return STORM_NOTHING;
	storm_past(p, "vmsplice", storm_addr(r.area, r.from), 1, 0);
	if (pipe2(fd, O_CLOEXEC))
		return -errno;
	ret = lend(p, &r, fd);
	close(fd[0]);
	close(fd[1]);
	return ret;
}

/* A page goes to the disk and comes back as another page. */
static int copy_by_disk(struct storm_proc *p, int fd,
			const struct storm_range *from,
			const struct storm_range *to)
{
	off_t at = (off_t)(((unsigned int)storm_number(p) * DISK_PAGES +
			    storm_below(p, DISK_PAGES)) * ksm_psize());
	struct storm_page *page = &to->area->page[to->from];
	uint64_t content = from->area->page[from->from].content;
	ssize_t n;

	n = pwrite(fd, storm_addr(from->area, from->from), ksm_psize(), at);
	if (n != (ssize_t)ksm_psize())
		return n < 0 ? -errno : -EIO;
	page->flags |= STORM_ANY;
	n = pread(fd, storm_addr(to->area, to->from), ksm_psize(), at);
	if (n != (ssize_t)ksm_psize())
		return n < 0 ? -errno : -EIO;
	page->content = content;
	page->flags &= STORM_READONLY | STORM_NONE;
	return 0;
}

int storm_direct(struct storm_proc *p, long arg)
{
	struct storm_range from, to;
	int fd, ret;

	(void)arg;
	if (!storm->disk[0] ||
	    !storm_pick_plain(p, p, 1, NOT_PLAIN & ~STORM_WP, &from) ||
	    !storm_pick_plain(p, p, 1, NOT_PLAIN, &to))
		return STORM_NOTHING;
	fd = open(storm->disk, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	storm_past(p, "direct I/O from", storm_addr(from.area, from.from), 1,
		   0);
	ret = copy_by_disk(p, fd, &from, &to);
	storm_past(p, "direct I/O to", storm_addr(to.area, to.from), 1, ret);
	close(fd);
	return ret;
}

/* Pin pages for long, write to them, and see the new bytes by the pin. */
static int pin_for_long(struct storm_proc *p, int fd, const struct storm_range *r)
{
	uint64_t to = (unsigned long)buffer;
	struct ksm_pin args = {
		.addr = (unsigned long)storm_addr(r->area, r->from),
		.size = r->nr * ksm_psize(),
		.flags = storm_below(p, 2 * KSM_PIN_FAST),
	};
	unsigned int i;
	int ret = 0;

	if (ioctl(fd, KSM_PIN_START, &args))
		return -errno;
	storm_nap(p, 20);
	for (i = r->from; !ret && i < r->from + r->nr; i++)
		if (storm_chance(p, 70))
			ret = storm_write(r->area, i,
					  storm_choose(p, storm_addr(r->area,
								     i)));
	storm_nap(p, 20);
	if (!ret && ioctl(fd, KSM_PIN_READ, &to))
		ret = -errno;
	if (!ret)
		check_buffer(p, r, "a long-term pin");
	if (ioctl(fd, KSM_PIN_STOP) && !ret)
		ret = -errno;
	return ret;
}

int storm_pin(struct storm_proc *p, long arg)
{
	int fd, ret = STORM_NOTHING;
	struct storm_range r;

	(void)arg;
	if (!storm_trylock(&storm->pins))
		return STORM_NOTHING;
	fd = open(KSM_GUP_TEST, O_RDWR | O_CLOEXEC);
	if (fd >= 0 && storm_pick_plain(p, p, STORM_BATCH, NOT_PLAIN, &r)) {
		storm_past(p, "long-term pin", storm_addr(r.area, r.from),
			   r.nr, 0);
		ret = pin_for_long(p, fd, &r);
	}
	if (fd >= 0)
		close(fd);
	pthread_mutex_unlock(&storm->pins);
	return ret;
}
