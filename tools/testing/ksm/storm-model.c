// SPDX-License-Identifier: GPL-2.0
/*
 * The storm: what the pages of a process must hold, byte for byte.
 *
 * A content is a number from which all words of a page follow:
 *
 *	63 62 61                        30 29      20 19             0
 *	 0  0                            0             zeros
 *	 0  1                                  number  common to all processes
 *	 1  0            value       word      number  the same, but for a word
 *	 1  1 process   version          page of the address: nobody else's
 *
 * Word 0 of a page is its content itself (for one that differs in a word from a
 * common one, that of the common one), so a page that is found at the wrong
 * place tells where it comes from.
 */
#include "storm.h"

#define NR_COMMON	8ULL
#define WORDS		512U
#define KIND(c)		((c) >> 62)
#define COMMON		1ULL
#define POKED		2ULL
#define OWN		3ULL

#define POKED_BASE(c)	(COMMON << 62 | ((c) & 0xfffff))
#define POKED_WORD(c)	((unsigned int)((c) >> 20 & 0x3ff))
#define POKED_VALUE(c)	((c) >> 30 & 0xffff)

static uint64_t base_of(uint64_t content)
{
	return KIND(content) == POKED ? POKED_BASE(content) : content;
}

/* What the poked word of a content differs by is never 0. */
static uint64_t poked_word(uint64_t content)
{
	return ksm_word(POKED_BASE(content), POKED_WORD(content)) +
		POKED_VALUE(content) + 1;
}

static uint64_t common_content(struct storm_proc *p)
{
	return COMMON << 62 | storm_below(p, NR_COMMON);
}

static uint64_t poked_content(uint64_t base, unsigned int word,
			      unsigned int value)
{
	return POKED << 62 | (uint64_t)value << 30 | (uint64_t)word << 20 |
		(base & 0xfffff);
}

static uint64_t own_content(struct storm_proc *p, const char *page)
{
	return OWN << 62 | (uint64_t)(p->serial & 0x7ff) << 51 |
		(uint64_t)(p->version++ & 0xffff) << 35 |
		((uint64_t)(unsigned long)page >> 12 & 0x7ffffffff);
}

/* A new content for a page: mostly one that others have, too. */
uint64_t storm_choose(struct storm_proc *p, const char *page)
{
	unsigned int what = storm_below(p, 100);

	if (what < 45)
		return common_content(p);
	if (what < 60)
		return poked_content(common_content(p), storm_chance(p, 50) ?
				     WORDS - 1 : 1 + storm_below(p, WORDS - 1),
				     storm_below(p, 3));
	if (what < 70)
		return STORM_ZERO;
	return own_content(p, page);
}

/*
 * The content after one word of a common page was changed, or put right again,
 * and which word gets which value; the old content if it is none of these.
 */
uint64_t storm_poked(struct storm_proc *p, uint64_t content,
		     unsigned int *word, uint64_t *value)
{
	if (KIND(content) == POKED) {
		*word = POKED_WORD(content);
		*value = ksm_word(POKED_BASE(content), *word);
		return POKED_BASE(content);
	}
	*word = 1 + storm_below(p, WORDS - 1);
	if (KIND(content) != COMMON)
		return content;
	content = poked_content(content, *word, storm_below(p, 0x10000));
	*value = poked_word(content);
	return content;
}

/* Make the page hold the content. */
void storm_fill(void *page, uint64_t content)
{
	uint64_t base = base_of(content), *w = page;
	unsigned int i;

	if (content == STORM_ZERO) {
		memset(page, 0, WORDS * sizeof(*w));
	} else {
		w[0] = base;
		for (i = 1; i < WORDS; i++)
			w[i] = ksm_word(base, i);
		if (KIND(content) == POKED)
			w[POKED_WORD(content)] = poked_word(content);
	}
	ksm_barrier();
}

static uint64_t word_of(uint64_t content, unsigned int i)
{
	uint64_t base = base_of(content);

	if (content == STORM_ZERO)
		return 0;
	if (KIND(content) == POKED && i == POKED_WORD(content))
		return poked_word(content);
	return i ? ksm_word(base, i) : base;
}

/* The first byte at which the page is not the content; -1: it is. */
ssize_t storm_differs(const void *page, uint64_t content)
{
	const uint64_t *w = page;
	uint64_t wrong;
	unsigned int i;

	ksm_barrier();
	for (i = 0; i < WORDS; i++) {
		wrong = w[i] ^ word_of(content, i);
		if (wrong)
			return (ssize_t)(i * sizeof(*w)) +
				__builtin_ctzll(wrong) / 8;
	}
	return -1;
}

/* ---- telling about contents ---------------------------------------------- */

static void tell_content(uint64_t c, char *buf, size_t size)
{
	if (c == STORM_ZERO)
		snprintf(buf, size, "zeros");
	else if (KIND(c) == COMMON)
		snprintf(buf, size, "common content %d", (int)(c & 0xfffff));
	else if (KIND(c) == POKED)
		snprintf(buf, size, "common content %d with another word %u",
			 (int)(c & 0xfffff), POKED_WORD(c));
	else
		snprintf(buf, size,
			 "of process %u, written to page %#llx, version %u",
			 (unsigned int)(c >> 51 & 0x7ff),
			 (unsigned long long)(c & 0x7ffffffff) << 12,
			 (unsigned int)(c >> 35 & 0xffff));
}

/* Whatever the page was meant to be, by its own account. */
static void tell_found(const void *page, char *buf, size_t size)
{
	uint64_t first = *(const uint64_t *)page;
	const char *how = "";
	char what[128];
	ssize_t at;

	if (first && KIND(first) != COMMON && KIND(first) != OWN) {
		snprintf(buf, size, "no content of ours");
		return;
	}
	at = storm_differs(page, first);
	if (at >= 0)
		how = ", but not all of it";
	tell_content(first, what, sizeof(what));
	snprintf(buf, size, "%s%s", what, how);
}

static void tell_bytes(const unsigned char *bytes, char *buf, size_t size)
{
	int i, len = 0;

	for (i = 0; i < 8; i++)
		len += snprintf(buf + len, size - (size_t)len, " %02x",
				bytes[i]);
}

/* A page of @p, as @found, is not what it must be.  Does not return. */
void storm_mismatch(struct storm_proc *p, const struct storm_area *a,
		    unsigned int i, const void *found, const char *who)
{
	static uint64_t want[WORDS];
	char expected[128], really[192], bytes[2][32];
	uint64_t content = a->page[i].content;
	ssize_t at = storm_differs(found, content);
	size_t word = at > 0 ? (size_t)at & ~7UL : 0;
	char *addr = storm_addr(a, i);

	storm_fill(want, content);
	tell_content(content, expected, sizeof(expected));
	tell_found(found, really, sizeof(really));
	tell_bytes((unsigned char *)want + word, bytes[0], sizeof(bytes[0]));
	tell_bytes((const unsigned char *)found + word, bytes[1], sizeof(bytes[1]));
	storm_say("MISMATCH: process %u (slot %d, pid %d), address %p: byte %zd is wrong",
		  p->serial, storm_number(p), p->pid, (void *)addr, at);
	storm_say("  page %u of %u of its area, flags %u, seen by %s", i, a->nr,
		  a->page[i].flags, who);
	storm_say("  expected %s; bytes from %zu:%s", expected, word,
		  bytes[0]);
	storm_say("  found %s; bytes from %zu:%s", really, word, bytes[1]);
	storm_say("  pagemap entry %#llx, frame is %sa merged page",
		  (unsigned long long)ksm_pagemap(p->pid, addr),
		  ksm_kpf(ksm_pfn(p->pid, addr), KPF_KSM) == 1 ? "" : "not ");
	storm_tell_page(p, addr);
	storm_fail(p, "a page has the wrong bytes");
}

/* ---- areas and ranges ---------------------------------------------------- */

char *storm_addr(const struct storm_area *a, unsigned int i)
{
	return a->addr + i * ksm_psize();
}

unsigned int storm_pages(const struct storm_proc *p)
{
	unsigned int i, nr = 0;

	for (i = 0; i < STORM_AREAS; i++)
		nr += p->area[i].addr ? p->area[i].nr : 0;
	return nr;
}

/* An area that is not in use; NULL: there is none. */
struct storm_area *storm_area_new(struct storm_proc *p)
{
	unsigned int i;

	for (i = 0; i < STORM_AREAS; i++)
		if (!p->area[i].addr)
			return &p->area[i];
	return NULL;
}

/* Make two areas of one; the second, or NULL if there is no room for it. */
struct storm_area *storm_split(struct storm_proc *p, struct storm_area *a,
			       unsigned int at)
{
	struct storm_area *b = storm_area_new(p);

	if (!b)
		return NULL;
	b->nr = a->nr - at;
	b->file = a->file;
	b->uffd = a->uffd;
	memcpy(b->page, a->page + at, b->nr * sizeof(b->page[0]));
	b->addr = storm_addr(a, at);
	a->nr = at;
	return b;
}

/* Some pages of some area of @owner; false if there are none. */
bool storm_pick_of(struct storm_proc *p, struct storm_proc *owner,
		   unsigned int most, struct storm_range *r)
{
	unsigned int nr = 0, i, at;

	for (i = 0; i < STORM_AREAS; i++)
		nr += !!owner->area[i].addr;
	at = storm_below(p, nr ? nr : 1);
	for (i = 0; i < STORM_AREAS; i++)
		if (owner->area[i].addr && !at--)
			break;
	if (i == STORM_AREAS)
		return false;
	r->area = &owner->area[i];
	nr = r->area->nr;
	r->nr = 1 + storm_below(p, nr < most ? nr : most);
	r->from = storm_below(p, nr - r->nr + 1);
	return true;
}

bool storm_pick(struct storm_proc *p, unsigned int most,
		struct storm_range *r)
{
	return storm_pick_of(p, p, most, r);
}

/* Make the range an area of its own; false: there is no room for it. */
bool storm_cut(struct storm_proc *p, struct storm_range *r)
{
	if (r->from + r->nr < r->area->nr &&
	    !storm_split(p, r->area, r->from + r->nr))
		return false;
	if (r->from) {
		r->area = storm_split(p, r->area, r->from);
		if (!r->area)
			return false;
		r->from = 0;
	}
	return true;
}

/* Some pages that have none of these flags, from the first that has not. */
bool storm_pick_plain(struct storm_proc *p, struct storm_proc *owner,
		      unsigned int most, uint32_t not, struct storm_range *r)
{
	unsigned int i;

	not &= ~(uint32_t)STORM_FORKED;
	if (!storm_pick_of(p, owner, most, r))
		return false;
	for (i = 0; i < r->nr; i++)
		if (r->area->page[r->from + i].flags & not)
			break;
	r->nr = i;
	return i;
}

void storm_set(const struct storm_range *r, uint64_t content)
{
	unsigned int i;

	for (i = 0; i < r->nr; i++)
		r->area->page[r->from + i].content = content;
}

void storm_flag(const struct storm_range *r, uint32_t clear, uint32_t set)
{
	unsigned int i;
	uint32_t *flags;

	for (i = 0; i < r->nr; i++) {
		flags = &r->area->page[r->from + i].flags;
		*flags = (*flags & ~clear) | set;
	}
}

/* ---- reading, writing, verifying ----------------------------------------- */

/* Read or write a page of our own whatever its protection; 0 or -errno. */
static int force(char *page, void *in, const void *out)
{
	off_t at = (off_t)(unsigned long)page;
	int fd, ret = 0;
	ssize_t n;

	fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = in ? pread(fd, in, ksm_psize(), at) :
		 pwrite(fd, out, ksm_psize(), at);
	if (n != (ssize_t)ksm_psize())
		ret = n < 0 ? -errno : -EIO;
	close(fd);
	return ret;
}

/* Write to a page of our own; 0, or -errno and nothing has changed. */
int storm_write(struct storm_area *a, unsigned int i, uint64_t content)
{
	static uint64_t buf[WORDS];
	struct storm_page *page = &a->page[i];
	int ret;

	ret = storm_uffd_allow(a, i, 1);
	if (ret)
		return ret;
	if (page->flags & (STORM_READONLY | STORM_NONE)) {
		storm_fill(buf, content);
		ret = force(storm_addr(a, i), NULL, buf);
		if (ret)
			return ret;
	} else {
		storm_fill(storm_addr(a, i), content);
	}
	page->content = content;
	page->flags &= STORM_READONLY | STORM_NONE;
	return 0;
}

/* Is a page that userfaultfd protects still protected? */
static void check_protection(struct storm_proc *p, struct storm_area *a,
			     unsigned int i)
{
	uint64_t entry;

	/*
	 * The stock KSM forgets it.  And when a huge page is split the kernel
	 * may replace pages of zeros.
	 */
	if (!storm->ours || !(a->page[i].flags & STORM_WP) ||
	    a->page[i].content == STORM_ZERO)
		return;
	entry = ksm_pagemap(0, storm_addr(a, i));
	if (!(entry & PM_UFFD_WP))
		storm_fail(p, "userfaultfd does not protect %p any more: pagemap %#llx",
			   (void *)storm_addr(a, i),
			   (unsigned long long)entry);
}

static int verify_page(struct storm_proc *p, struct storm_area *a,
		       unsigned int i)
{
	static uint64_t buf[WORDS];
	struct storm_page *page = &a->page[i];
	const char *bytes = storm_addr(a, i);
	int ret;

	if (page->flags & STORM_ANY)
		return storm_write(a, i, storm_choose(p, bytes));
	if (page->flags & STORM_NONE) {
		ret = force((char *)bytes, buf, NULL);
		if (ret)
			return ret;
		bytes = (char *)buf;
	}
	storm->verified++;
	if (storm_differs(bytes, page->content) >= 0) {
		/*
		 * A page that may be dropped may be so between two of its
		 * words; then it is all zeros now.
		 */
		if (!(page->flags & STORM_LAZY))
			storm_mismatch(p, a, i, bytes, "itself");
		if (page->flags & STORM_NONE && force(storm_addr(a, i), buf,
						      NULL))
			return -EIO;
		if (storm_differs(bytes, STORM_ZERO) >= 0)
			storm_mismatch(p, a, i, bytes, "itself");
		page->content = STORM_ZERO;
		page->flags &= STORM_READONLY | STORM_NONE;
	}
	if (!(page->flags & STORM_LAZY))
		check_protection(p, a, i);
	return 0;
}

/* All bytes of the range; 0, or -errno if they could not be read. */
int storm_verify(struct storm_proc *p, const struct storm_range *r)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; !ret && i < r->nr; i++)
		ret = verify_page(p, r->area, r->from + i);
	return ret;
}

int storm_verify_all(struct storm_proc *p)
{
	struct storm_range r;
	int i, ret = 0;

	for (i = 0; !ret && i < STORM_AREAS; i++) {
		r.area = &p->area[i];
		r.from = 0;
		r.nr = r.area->addr ? r.area->nr : 0;
		ret = storm_verify(p, &r);
	}
	return ret;
}
