/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A ring of io_uring for one request at a time, for the KSM selftests: it pins
 * the memory that is registered with it, and lets the kernel write there.
 *
 * As in ksm_util.h no helper ends the process.  Include that file first.
 */
#ifndef KSM_RING_H
#define KSM_RING_H

#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <sys/uio.h>

struct ksm_ring {
	int fd;
	char *sq;
	char *cq;
	struct io_uring_sqe *sqe;
	struct io_uring_params par;
};

static inline size_t ksm_ring_sq_len(const struct ksm_ring *r)
{
	return r->par.sq_off.array + r->par.sq_entries * sizeof(uint32_t);
}

static inline size_t ksm_ring_cq_len(const struct ksm_ring *r)
{
	return r->par.cq_off.cqes +
		r->par.cq_entries * sizeof(struct io_uring_cqe);
}

static inline void *ksm_ring_map(const struct ksm_ring *r, size_t len,
				 off_t what)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		       what);

	return p == MAP_FAILED ? NULL : p;
}

/* What is still registered is unpinned a moment later. */
static inline void ksm_ring_close(struct ksm_ring *r)
{
	if (r->sq)
		munmap(r->sq, ksm_ring_sq_len(r));
	if (r->cq)
		munmap(r->cq, ksm_ring_cq_len(r));
	if (r->sqe)
		munmap(r->sqe, sizeof(*r->sqe));
	close(r->fd);
}

/* 0 or -errno; an error is that there is no io_uring for us. */
static inline int ksm_ring_open(struct ksm_ring *r)
{
	memset(r, 0, sizeof(*r));
	r->fd = (int)syscall(__NR_io_uring_setup, 1, &r->par);
	if (r->fd < 0)
		return -errno;
	r->sq = ksm_ring_map(r, ksm_ring_sq_len(r), IORING_OFF_SQ_RING);
	r->cq = ksm_ring_map(r, ksm_ring_cq_len(r), IORING_OFF_CQ_RING);
	r->sqe = ksm_ring_map(r, sizeof(*r->sqe), IORING_OFF_SQES);
	if (r->sq && r->cq && r->sqe)
		return 0;
	ksm_ring_close(r);
	return -ENOMEM;
}

/* Pin some pages for writing, until they are unregistered; 0 or -errno. */
static inline int ksm_ring_register(struct ksm_ring *r, char *p, size_t npages)
{
	struct iovec iov = { p, npages * ksm_psize() };

	return syscall(__NR_io_uring_register, r->fd, IORING_REGISTER_BUFFERS,
		       &iov, 1) ? -errno : 0;
}

static inline int ksm_ring_unregister(struct ksm_ring *r)
{
	return syscall(__NR_io_uring_register, r->fd,
		       IORING_UNREGISTER_BUFFERS, NULL, 0) ? -errno : 0;
}

/* Read page @index of a file into a registered page; 0 or -errno. */
static inline int ksm_ring_read(struct ksm_ring *r, int fd, char *page,
				unsigned int index)
{
	uint32_t *tail = (uint32_t *)(r->sq + r->par.sq_off.tail);
	uint32_t *slots = (uint32_t *)(r->sq + r->par.sq_off.array);
	uint32_t *head = (uint32_t *)(r->cq + r->par.cq_off.head);
	uint32_t *end = (uint32_t *)(r->cq + r->par.cq_off.tail);
	struct io_uring_cqe *cqes =
		(struct io_uring_cqe *)(r->cq + r->par.cq_off.cqes);
	int res;

	*r->sqe = (struct io_uring_sqe){
		.opcode	= IORING_OP_READ_FIXED,
		.fd	= fd,
		.addr	= (unsigned long)page,
		.len	= (uint32_t)ksm_psize(),
		.off	= (uint64_t)index * ksm_psize(),
	};
	slots[*tail % r->par.sq_entries] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(__NR_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS,
		    NULL, 0) < 0)
		return -errno;
	if (__atomic_load_n(end, __ATOMIC_ACQUIRE) == *head)
		return -EIO;
	res = cqes[*head % r->par.cq_entries].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	if (res < 0)
		return res;
	return res == (int)ksm_psize() ? 0 : -EIO;
}

#endif /* KSM_RING_H */
