// SPDX-License-Identifier: GPL-2.0
/*
 * KSM: pages that somebody else holds a reference on are not merged, and what
 * is written through such a reference, or read through it, is right.
 *
 * The references come from registered buffers of io_uring (long-term pins for
 * writing), O_DIRECT, pipes (vmsplice), process_vm_writev(), /proc/PID/mem,
 * and long-term read-only pins of gup_test, where the kernel has it.
 */
#include "../kselftest_harness.h"
#include <sys/uio.h>
#include "ksm_util.h"
#include "ksm_gup.h"
#include "ksm_ring.h"
#include "ksm_env.h"

#define NR_PAGES	16
#define OWNER		51
#define SEED(i, version) ksm_stamp(OWNER, (unsigned int)(i), (version))

FIXTURE(ksm_pin) {
	char *p;		/* NR_PAGES pages, and ... */
	char *q;		/* ... their twins, in another area */
};

static size_t at(size_t i)
{
	return i * ksm_psize();
}

static int fill_both(char *p, char *q, unsigned int version)
{
	ksm_fill_range(p, NR_PAGES, SEED(0, version), 1UL << 24);
	ksm_fill_range(q, NR_PAGES, SEED(0, version), 1UL << 24);
	return 0;
}

static size_t bad(const char *p, unsigned int version)
{
	return ksm_count_bad(p, NR_PAGES, SEED(0, version), 1UL << 24);
}

static int common(const char *p, const char *q)
{
	int nr = 0;
	size_t i;

	for (i = 0; i < NR_PAGES; i++)
		nr += ksm_same_frame(p + at(i), q + at(i));
	return nr;
}

FIXTURE_SETUP(ksm_pin)
{
	const char *why = ksm_env_missing(0);

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	/* Pages that could not merge yet are to be tried at every pass. */
	ASSERT_EQ(0, ksm_set("smart_scan", 0));
	self->p = ksm_map_filled(NR_PAGES, SEED(0, 1), 1UL << 24);
	self->q = ksm_map_filled(NR_PAGES, SEED(0, 1), 1UL << 24);
	ASSERT_NE(NULL, self->p);
	ASSERT_NE(NULL, self->q);
}

FIXTURE_TEARDOWN(ksm_pin)
{
	ksm_finish(__test_passed(_metadata));
}

/* ---- io_uring ------------------------------------------------------------ */

/* A file whose page v holds what page 0 of version v would hold. */
static int versions_file(int versions)
{
	char *page = malloc(ksm_psize());
	int fd, v;

	fd = (int)syscall(SYS_memfd_create, "ksm", 0);
	for (v = 0; page && fd >= 0 && v < versions; v++) {
		ksm_fill(page, SEED(0, v));
		if (pwrite(fd, page, ksm_psize(), at(v)) !=
		    (ssize_t)ksm_psize()) {
			close(fd);
			fd = -EIO;
		}
	}
	free(page);
	return fd;
}

/*
 * B90: pages under a long-term pin for writing are not merged, what is
 * written through the pin arrives, and they merge when the pin is gone.
 */
TEST_F_TIMEOUT(ksm_pin, registered_buffers_are_not_merged, 60)
{
	char *p = self->p, *q = self->q;
	uint64_t pfn[NR_PAGES];
	struct ksm_ring r;
	size_t i;
	int fd;

	if (ksm_ring_open(&r))
		SKIP(return, "no io_uring");
	ASSERT_EQ(0, ksm_ring_register(&r, p, NR_PAGES));
	for (i = 0; i < NR_PAGES; i++)
		pfn[i] = ksm_pfn(0, p + at(i));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(0, common(p, q));
	EXPECT_EQ(0, ksm_get("pages_sharing"));
	for (i = 0; i < NR_PAGES; i++)
		EXPECT_EQ(pfn[i], ksm_pfn(0, p + at(i)));

	fd = versions_file(8);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(0, ksm_ring_read(&r, fd, p, 7));
	EXPECT_TRUE(ksm_is(p, SEED(0, 7)));
	ksm_fill(p, SEED(0, 1));
	EXPECT_EQ(0UL, bad(p, 1));
	EXPECT_EQ(0UL, bad(q, 1));

	ASSERT_EQ(0, ksm_ring_unregister(&r));
	/* The pins may be dropped a moment later. */
	ASSERT_EQ(0, ksm_start());
	EXPECT_TRUE(ksm_wait_for(common(p, q) == NR_PAGES, KSM_WAIT_SECS));
	EXPECT_EQ(0UL, bad(p, 1));
	EXPECT_EQ(0UL, bad(q, 1));
	ksm_ring_close(&r);
	close(fd);
}

/*
 * B90: registering merged pages unshares them first: what is written through
 * the pin is seen by the owner of the pin and nobody else.
 */
TEST_F_TIMEOUT(ksm_pin, registering_merged_pages, 60)
{
	char *p = self->p, *q = self->q;
	struct ksm_ring r;
	int fd;

	if (ksm_ring_open(&r))
		SKIP(return, "no io_uring");
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, common(p, q));
	ASSERT_EQ(0, ksm_ring_register(&r, p, NR_PAGES));
	EXPECT_EQ(0, common(p, q));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(0, common(p, q));

	fd = versions_file(8);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(0, ksm_ring_read(&r, fd, p, 5));
	EXPECT_TRUE(ksm_is(p, SEED(0, 5)));
	EXPECT_EQ(0UL, bad(q, 1));
	ksm_ring_close(&r);
	close(fd);
}

/*
 * B86, B90: pin, write through the pin, verify, unpin, in a loop beside a
 * busy ksmd that merges whenever the page is free.
 */
TEST_F_TIMEOUT(ksm_pin, pin_storm, 60)
{
	long rounds = 0, wrong = 0, shared = 0, merged = 0;
	char *p = self->p, *q = self->q;
	double end = ksm_now() + 6;
	struct ksm_ring r;
	int fd;

	if (ksm_ring_open(&r))
		SKIP(return, "no io_uring");
	fd = versions_file(64);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	for (; ksm_now() < end; rounds++) {
		int version = 2 + rounds % 62;

		ASSERT_EQ(0, ksm_ring_register(&r, p, NR_PAGES));
		ASSERT_EQ(0, ksm_ring_read(&r, fd, p, version));
		wrong += !ksm_is(p, SEED(0, version));
		shared += common(p, q) != 0;
		/* The twin follows, so that the two can merge again. */
		ksm_fill(q, SEED(0, version));
		ASSERT_EQ(0, ksm_ring_unregister(&r));
		if (rounds % 4 == 3)
			merged += ksm_wait_for(ksm_same_frame(p, q), 0.1);
	}
	ASSERT_EQ(0, ksm_stop());
	TH_LOG("%ld rounds, merged in %ld", rounds, merged);
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(0, shared);
	EXPECT_GT(merged, 0);
	ksm_ring_close(&r);
	close(fd);
}

/* ---- O_DIRECT ------------------------------------------------------------ */

/*
 * B86: O_DIRECT reads into, and writes from, pages that are being merged:
 * what is in memory and on the disk is what was meant.
 */
TEST_F_TIMEOUT(ksm_pin, direct_io_storm, 60)
{
	long rounds = 0, merged = 0, wrong_mem = 0, wrong_disk = 0;
	char *p = self->p, *q = self->q, *back;
	size_t psize = ksm_psize();
	struct ksm_zram disk;
	double end;
	int fd, ret;

	if (ksm_zram_make(&disk)) {
		ksm_zram_drop(&disk);
		SKIP(return, "no zram to read from");
	}
	fd = open(disk.dev, O_RDWR | O_DIRECT | O_CLOEXEC);
	ret = fd < 0 ? -errno : 0;
	back = ksm_map(1);
	if (back && !ret) {
		ksm_set("sleep_millisecs", 0);
		ret = ksm_start();
	}
	for (end = ksm_now() + 6; !ret && ksm_now() < end; rounds++) {
		unsigned int version = 2 + rounds % 1000;

		/* Memory to disk, from a page that may be merged ... */
		ksm_fill(q + psize, SEED(1, version));
		ksm_fill(p + psize, SEED(1, version));
		if (rounds % 4 == 0)
			merged += ksm_wait_for(ksm_same_frame(p + psize,
							      q + psize), 0.1);
		if (pwrite(fd, p + psize, psize, at(3)) != (ssize_t)psize ||
		    pread(fd, back, psize, at(3)) != (ssize_t)psize)
			ret = -EIO;
		wrong_disk += !ksm_is(back, SEED(1, version));
		/* ... and disk to memory, into one that is. */
		if (pread(fd, p, psize, at(3)) != (ssize_t)psize)
			ret = -EIO;
		wrong_mem += !ksm_is(p, SEED(1, version));
		wrong_mem += !ksm_is(q, SEED(0, 1));
		ksm_fill(p, SEED(0, 1));
		wrong_mem += !ksm_is(q + psize, SEED(1, version));
	}
	ksm_stop();
	if (fd >= 0)
		close(fd);
	ksm_zram_drop(&disk);
	TH_LOG("%ld rounds, %ld times merged", rounds, merged);
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, wrong_mem);
	EXPECT_EQ(0, wrong_disk);
	EXPECT_GT(merged, 0);
}

/* ---- pipes --------------------------------------------------------------- */

static int lend(char *p, size_t npages, int *fd)
{
	struct iovec iov = { p, npages * ksm_psize() };

	if (pipe(fd))
		return -errno;
	return vmsplice(fd[1], &iov, 1, 0) == (ssize_t)iov.iov_len ? 0 : -EIO;
}

/* Take one page out of the pipe; is it that content? */
static bool pipe_holds(int *fd, uint64_t seed)
{
	char *page = malloc(ksm_psize());
	size_t got = 0;
	ssize_t n = 1;
	bool same;

	while (page && got < ksm_psize() && n > 0) {
		n = read(fd[0], page + got, ksm_psize() - got);
		got += n > 0 ? (size_t)n : 0;
	}
	same = page && got == ksm_psize() && ksm_is(page, seed);
	free(page);
	return same;
}

/*
 * B89: a page lent to a pipe is not merged while the pipe has it, so the
 * reader sees what the owner wrote last, as without KSM.
 */
TEST_F_TIMEOUT(ksm_pin, pages_in_a_pipe_are_not_merged, 60)
{
	char *p = self->p, *q = self->q;
	uint64_t pfn;
	int fd[2];

	ASSERT_EQ(0, lend(p, 1, fd));
	pfn = ksm_pfn(0, p);
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_PAGES - 1, common(p, q));
	EXPECT_EQ(pfn, ksm_pfn(0, p));
	ksm_fill(p, SEED(0, 2));
	EXPECT_EQ(pfn, ksm_pfn(0, p));
	EXPECT_TRUE(pipe_holds(fd, SEED(0, 2)));
	EXPECT_EQ(0UL, bad(q, 1));
	close(fd[0]);
	close(fd[1]);

	ksm_fill(p, SEED(0, 1));
	ASSERT_EQ(0, ksm_scan_settle());
	EXPECT_EQ(NR_PAGES, common(p, q));
}

/*
 * B88, B89: a merged page with one mapper left is in a pipe; the mapper's
 * write must go to a copy, for the pipe shows what was lent.
 */
TEST_F_TIMEOUT(ksm_pin, merged_page_in_a_pipe_is_copied_on_write, 60)
{
	char *p = self->p, *q = self->q;
	uint64_t pfn;
	int fd[2];

	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, common(p, q));
	pfn = ksm_pfn(0, p);
	ASSERT_EQ(0, lend(p, 1, fd));
	munmap(q, ksm_psize());
	ksm_fill(p, SEED(0, 2));
	EXPECT_NE(pfn, ksm_pfn(0, p));
	EXPECT_TRUE(pipe_holds(fd, SEED(0, 1)));
	EXPECT_TRUE(ksm_is(p, SEED(0, 2)));
	close(fd[0]);
	close(fd[1]);
}

/*
 * B88: also without anybody holding it, a merged page is always copied on a
 * write, for KSM itself may be comparing it.
 */
TEST_F_TIMEOUT(ksm_pin, last_mapper_never_reuses, 60)
{
	char *p = self->p, *q = self->q;
	long long cow;
	uint64_t pfn;
	size_t i;

	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, common(p, q));
	ksm_unmap(q, NR_PAGES);
	cow = ksm_vmstat("cow_ksm");
	for (i = 0; i < NR_PAGES; i++) {
		pfn = ksm_pfn(0, p + at(i));
		ksm_fill(p + at(i), SEED(i, 2));
		EXPECT_NE(pfn, ksm_pfn(0, p + at(i)));
	}
	EXPECT_EQ(NR_PAGES, ksm_vmstat("cow_ksm") - cow);
	EXPECT_EQ(0UL, bad(p, 2));
}

/* ---- writes from outside ------------------------------------------------- */

/* A child with pages that are twins of the test's; ends when told to. */
static int twin(struct ksm_child *c)
{
	char *p = ksm_map_filled(NR_PAGES, SEED(0, 1), 1UL << 24);
	int what;

	if (!p || mprotect(p + at(1), ksm_psize(), PROT_READ))
		return 1;
	memcpy(c->arg, &p, sizeof(p));
	if (ksm_say(c, 0))
		return 1;
	while (!ksm_hear(c, &what) && what)
		if (ksm_say(c, ksm_is(p + at(what - 1),
				      SEED(what - 1, 2)) ? 2 :
			    ksm_is(p + at(what - 1), SEED(what - 1, 1))))
			return 1;
	return 0;
}

/* Write to page @i of the child through /proc/PID/mem; 0 or -errno. */
static int poke_mem(pid_t pid, const char *to, const char *from)
{
	char path[64];
	int fd, ret = 0;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (pwrite(fd, from, ksm_psize(), (off_t)(unsigned long)to) !=
	    (ssize_t)ksm_psize())
		ret = -EIO;
	close(fd);
	return ret;
}

/*
 * B89: process_vm_writev() to a merged page, and a forced write through
 * /proc/PID/mem to a read-only one: only the target changes.
 */
TEST_F_TIMEOUT(ksm_pin, writes_from_outside, 60)
{
	struct iovec local, remote;
	char *p = self->p, *q = self->q, **where;
	struct ksm_child c;
	int ready;
	char *new;

	new = ksm_map(1);
	where = mmap(NULL, ksm_psize(), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(NULL, new);
	ASSERT_NE(MAP_FAILED, (void *)where);
	ASSERT_EQ(0, ksm_spawn(&c, twin, where));
	ASSERT_EQ(0, ksm_hear(&c, &ready));
	ASSERT_EQ(0, ksm_scan_settle());
	ASSERT_EQ(NR_PAGES, common(p, q));
	ASSERT_EQ(ksm_pfn(0, p), ksm_pfn(c.pid, *where));

	ksm_fill(new, SEED(0, 2));
	local = (struct iovec){ new, ksm_psize() };
	remote = (struct iovec){ *where, ksm_psize() };
	ASSERT_EQ((ssize_t)ksm_psize(),
		  process_vm_writev(c.pid, &local, 1, &remote, 1, 0));
	ksm_fill(new, SEED(1, 2));
	ASSERT_EQ(0, poke_mem(c.pid, *where + at(1), new));
	ksm_fill(new, SEED(2, 2));
	ASSERT_EQ(0, poke_mem(c.pid, *where + at(2), new));

	/* The child has version 2 of the first three pages, 1 of the others. */
	EXPECT_EQ(2, ksm_ask(&c, 1));
	EXPECT_EQ(2, ksm_ask(&c, 2));
	EXPECT_EQ(2, ksm_ask(&c, 3));
	EXPECT_EQ(1, ksm_ask(&c, 4));
	EXPECT_EQ(0UL, bad(p, 1));
	EXPECT_EQ(0UL, bad(q, 1));
	EXPECT_EQ(NR_PAGES, common(p, q));
	EXPECT_EQ(0, ksm_say(&c, 0));
	EXPECT_EQ(0, ksm_reap(&c));

	/* The same to our own pages, beside a busy ksmd. */
	ASSERT_EQ(0, ksm_start());
	for (ready = 2; ready < 40; ready++) {
		ksm_fill(new, SEED(0, ready));
		remote.iov_base = p;
		ASSERT_EQ((ssize_t)ksm_psize(),
			  process_vm_writev(getpid(), &local, 1, &remote, 1,
					    0));
		ASSERT_TRUE(ksm_is(p, SEED(0, ready)));
		ASSERT_TRUE(ksm_is(q, SEED(0, ready - 1)));
		ASSERT_EQ(0, poke_mem(getpid(), q, new));
		ASSERT_TRUE(ksm_is(q, SEED(0, ready)));
		ksm_wait_for(ksm_same_frame(p, q), 0.1);
	}
}

/* ---- long-term read-only pins -------------------------------------------- */

/*
 * B91: a long-term read-only pin of a merged page, or of a zero page that KSM
 * placed, must not go stale: a later write of the owner is seen through it.
 */
static void long_term_pin(struct __test_metadata *_metadata, char *p,
			  uint32_t flags)
{
	struct ksm_pin args = {
		.addr = (unsigned long)p,
		.size = NR_PAGES * ksm_psize(),
		.flags = flags,
	};
	uint64_t to;
	char *seen;
	int fd;

	seen = ksm_map(NR_PAGES);
	ASSERT_NE(NULL, seen);
	to = (unsigned long)seen;
	fd = open(KSM_GUP_TEST, O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, ioctl(fd, KSM_PIN_START, &args));
	ksm_fill_range(p, NR_PAGES, SEED(0, 2), 1UL << 24);
	ASSERT_EQ(0, ioctl(fd, KSM_PIN_READ, &to));
	EXPECT_EQ(0UL, bad(seen, 2));
	EXPECT_EQ(0, ioctl(fd, KSM_PIN_STOP));
	close(fd);
}

/* B91: pages of the stable tree. */
TEST_F_TIMEOUT(ksm_pin, long_term_pins_of_merged_pages, 60)
{
	uint32_t flags;

	if (access(KSM_GUP_TEST, R_OK | W_OK))
		SKIP(return, "no gup_test");
	for (flags = 0; flags <= KSM_PIN_FAST; flags += KSM_PIN_FAST) {
		fill_both(self->p, self->q, 1);
		ASSERT_EQ(0, ksm_scan_settle());
		ASSERT_EQ(NR_PAGES, common(self->p, self->q));
		long_term_pin(_metadata, self->p, flags);
		EXPECT_EQ(0UL, bad(self->q, 1));
	}
}

/* B91: zero pages. */
TEST_F_TIMEOUT(ksm_pin, long_term_pins_of_zero_pages, 60)
{
	uint32_t flags;

	if (access(KSM_GUP_TEST, R_OK | W_OK))
		SKIP(return, "no gup_test");
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	for (flags = 0; flags <= KSM_PIN_FAST; flags += KSM_PIN_FAST) {
		memset(self->p, 0, NR_PAGES * ksm_psize());
		ASSERT_EQ(0, ksm_scan_settle());
		ASSERT_EQ(NR_PAGES, ksm_zero_placed());
		long_term_pin(_metadata, self->p, flags);
		EXPECT_EQ(0, ksm_zero_placed());
	}
}

int main(int argc, char **argv)
{
	ksm_main_setup();
	ksm_env_make(0);
	return test_harness_run(argc, argv);
}
