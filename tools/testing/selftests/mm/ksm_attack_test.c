// SPDX-License-Identifier: GPL-2.0
/*
 * KSM: programs that mean ill.
 *
 * Pages whose digests are equal although they are not; a process that writes to
 * its pages whenever ksmd has seen them; one that maps and unmaps areas of one
 * page without end; one that forks without end; one that registers terabytes
 * without pages.  None of them may have ksmd hold a lock for long, merge what
 * is not equal, or keep others from being merged.
 *
 * With KSM_ATTACK=full in the environment the areas and the forks are as many
 * as anybody may ask for: for a fast machine, or a long night.
 */
#include "../kselftest_harness.h"
#include "ksm_util.h"
#include "ksm_env.h"

#define DIGEST_BITS	"/sys/kernel/debug/ksm/digest_bits"
#define ALL_BITS	40

#define OWNER		131
#define STRANGER	132
#define BIG		133
#define ATTACKER	134

#define NR_OTHERS	256	/* pages of each process that is not attacking */

/*
 * In so many passes they are to merge: what is left of one, and two more.  A KSM
 * that promises nothing like that, and misses some, has as many as this.
 */
#define MAX_PASSES	3
#define MAX_PASSES_ELSE	20

static bool attack_in_full(void)
{
	const char *text = getenv("KSM_ATTACK");

	return text && !strcmp(text, "full");
}

/* A slow kernel, say one with KASAN, sees less of an attack, but not too little. */
static long attack_size(long full, long few, long least)
{
	few /= ksm_slowness();
	if (attack_in_full())
		return full;
	return few > least ? few : least;
}

/* CPU time of ksmd in seconds; 0 if it cannot be told. */
static double ksmd_secs(void)
{
	char path[64], text[128];

	snprintf(path, sizeof(path), "/proc/%d/schedstat", ksm_find_ksmd());
	if (ksm_slurp(path, text, sizeof(text)) <= 0)
		return 0;
	return strtod(text, NULL) / 1e9;
}

/* ---- how long locks are held --------------------------------------------- */

#define NR_LOCKS	3
#define NR_BUCKETS	40
#define NR_LEFT_OUT	3

static const char * const lock_names[NR_LOCKS] = {
	"scan_mutex", "mmap_lock", "anon_vma",
};

/* What the tracepoint told of each lock, in nanoseconds. */
struct held {
	bool known;
	long lost;			/* events that found no room */
	double secs, ksmd;		/* that went by, and that ksmd ran */
	struct {
		long nr;
		uint64_t most, max;		/* 99th percentile, maximum */
		uint64_t felt;			/* see held_felt() */
		long bucket[NR_BUCKETS];	/* from 1, 2, 4, 8 ... on */
	} lock[NR_LOCKS];
};

/* While nobody attacks: measured once, by the first test that needs it. */
static struct held *usual;

/* The measurement that is going on. */
static struct {
	FILE *pipe;
	long lost;
	double secs, ksmd;
	long nr[NR_LOCKS], room[NR_LOCKS];
	uint64_t *ns[NR_LOCKS];
} now;

static int trace_put(const char *dir, const char *file, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return ksm_put(path, text);
}

static long trace_overrun(const char *dir)
{
	long cpu, nr = sysconf(_SC_NPROCESSORS_CONF), sum = 0;
	char path[256], buf[64];
	FILE *f;

	for (cpu = 0; cpu < nr; cpu++) {
		snprintf(path, sizeof(path), "%s/per_cpu/cpu%ld/stats", dir,
			 cpu);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (!ksm_find_line(f, "overrun", buf, sizeof(buf)))
			sum += atol(buf);
		fclose(f);
	}
	return sum;
}

static int held_add(int lock, uint64_t ns)
{
	uint64_t *more;

	if (now.nr[lock] == now.room[lock]) {
		now.room[lock] = 2 * now.room[lock] + 4096;
		more = realloc(now.ns[lock],
			       (size_t)now.room[lock] * sizeof(*more));
		if (!more)
			return -ENOMEM;
		now.ns[lock] = more;
	}
	now.ns[lock][now.nr[lock]++] = ns;
	return 0;
}

/* Take what was recorded so far, so that there is room for more. */
static int held_drain(void)
{
	char line[256], name[32];
	unsigned long long val;
	int lock, ret = 0;
	char *from;

	if (!now.pipe)
		return 0;
	clearerr(now.pipe);
	while (!ret && fgets(line, sizeof(line), now.pipe)) {
		from = strstr(line, " ksm_locked: ");
		if (!from || sscanf(from, " ksm_locked: %31s held for %llu",
				    name, &val) != 2)
			continue;
		for (lock = 0; lock < NR_LOCKS; lock++)
			if (!strcmp(name, lock_names[lock]))
				ret = held_add(lock, val);
	}
	return ret;
}

/* Begin to measure, if the kernel can tell. */
static int held_begin(const char *dir)
{
	char path[256];
	int fd;

	memset(&now, 0, sizeof(now));
	if (!*dir)
		return 0;
	now.lost = trace_overrun(dir);
	now.secs = ksm_now();
	now.ksmd = ksmd_secs();
	snprintf(path, sizeof(path), "%s/trace_pipe", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	now.pipe = fdopen(fd, "r");
	if (!now.pipe)
		return -ENOMEM;
	return trace_put(dir, "events/ksm/ksm_locked/enable", "1");
}

static int compare_ns(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/*
 * How long is the hold that somebody meets who comes while the lock is held?
 * Half of all the time in which it was, it was for no longer than this.  So it
 * does not matter how many holds were so short that nobody meets them; and the
 * longest few, which may be the hypervisor's, are left out.
 */
static uint64_t held_felt(const uint64_t *ns, long nr)
{
	uint64_t sum = 0, half = 0;
	long i;

	nr -= NR_LEFT_OUT;
	for (i = 0; i < nr; i++)
		sum += ns[i];
	for (i = 0; i < nr; i++) {
		half += ns[i];
		if (half >= sum / 2)
			return ns[i];
	}
	return 0;
}

static void held_sum_up(struct held *h, int lock)
{
	uint64_t *ns = now.ns[lock];
	long i, nr = now.nr[lock];
	int b;

	h->lock[lock].nr = nr;
	if (!nr)
		return;
	qsort(ns, (size_t)nr, sizeof(*ns), compare_ns);
	h->lock[lock].most = ns[nr - 1 - nr / 100];
	h->lock[lock].max = ns[nr - 1];
	h->lock[lock].felt = held_felt(ns, nr);
	for (i = 0; i < nr; i++) {
		for (b = 0; b < NR_BUCKETS - 1 && ns[i] >> (b + 1); b++)
			;
		h->lock[lock].bucket[b]++;
	}
}

/* Stop measuring, and sum up. */
static int held_end(const char *dir, struct held *h)
{
	int lock, ret;

	memset(h, 0, sizeof(*h));
	if (!now.pipe)
		return 0;
	trace_put(dir, "events/ksm/ksm_locked/enable", "0");
	ret = held_drain();
	fclose(now.pipe);
	now.pipe = NULL;
	h->lost = trace_overrun(dir) - now.lost;
	h->secs = ksm_now() - now.secs;
	h->ksmd = ksmd_secs() - now.ksmd;
	for (lock = 0; lock < NR_LOCKS; lock++) {
		held_sum_up(h, lock);
		free(now.ns[lock]);
	}
	h->known = !ret;
	return ret;
}

/* A line with the sums and one with the histogram, for each lock. */
static void held_tell(const char *what, const struct held *h)
{
	int lock, b, len;
	char text[1024];

	for (lock = 0; lock < NR_LOCKS; lock++) {
		if (!h->lock[lock].nr)
			continue;
		printf("# %s: %s: held %ld times, 99%% < %.1f us, felt %.1f us, maximum %.1f us\n",
		       what, lock_names[lock], h->lock[lock].nr,
		       (double)h->lock[lock].most / 1e3,
		       (double)h->lock[lock].felt / 1e3,
		       (double)h->lock[lock].max / 1e3);
		for (b = 0, len = 0; b < NR_BUCKETS; b++)
			if (h->lock[lock].bucket[b] &&
			    len < (int)sizeof(text) - 40)
				len += snprintf(text + len, 40, " 2^%d: %ld",
						b, h->lock[lock].bucket[b]);
		printf("# %s: %s: from ns:%s\n", what, lock_names[lock],
		       text);
	}
	if (h->known)
		printf("# %s: ksmd ran %.2f s of %.2f s, %ld events lost\n",
		       what, h->ksmd, h->secs, h->lost);
}

/* ---- the fixture --------------------------------------------------------- */

FIXTURE(ksm_attack) {
	char dir[128];		/* an instance of our own in tracefs, or "" */
	struct ksm_puppet p[4];
	int version;		/* of what the others have */
};

FIXTURE_SETUP(ksm_attack)
{
	const char *why = ksm_env_missing(0);
	char path[192];

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ksm_baseline());
	if (!access(DIGEST_BITS, F_OK))
		ASSERT_EQ(0, ksm_put_num(DIGEST_BITS, ALL_BITS));
	snprintf(self->dir, sizeof(self->dir),
		 "/sys/kernel/tracing/instances/ksm_attack_%d", getpid());
	snprintf(path, sizeof(path), "%s/events/ksm/ksm_locked", self->dir);
	if (mkdir(self->dir, 0700)) {
		self->dir[0] = '\0';
	} else if (access(path, F_OK) ||
		   trace_put(self->dir, "buffer_size_kb", "4096")) {
		rmdir(self->dir);
		self->dir[0] = '\0';
	}
	if (!*self->dir)
		TH_LOG("no tracepoint ksm_locked: not measuring how long locks are held");
}

FIXTURE_TEARDOWN(ksm_attack)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(self->p); i++)
		ksm_puppet_kill(&self->p[i]);
	ksm_finish(__test_passed(_metadata));
	if (!access(DIGEST_BITS, F_OK))
		EXPECT_EQ(0, ksm_put_num(DIGEST_BITS, ALL_BITS));
	if (*self->dir)
		rmdir(self->dir);
}

static char *page_at(struct ksm_act *a, long i)
{
	return a->area + (size_t)i * ksm_psize();
}

static uint64_t frame(struct ksm_puppet *p, long i)
{
	return ksm_pfn(p->c.pid, page_at(p->act, i));
}

/* ---- equal digests ------------------------------------------------------- */

#define NR_COLLIDING	300
#define NR_EQUAL	100	/* of these, in both processes */
#define NR_OWN		20	/* at the end of the first: as those before */
#define NR_MERGED	(NR_EQUAL + NR_OWN)
#define NR_ZERO		4

static const char *no_digest_bits(void)
{
	return access(DIGEST_BITS, F_OK) ? "no digest_bits in debugfs" : NULL;
}

/* Two processes with unique pages, and some that are not. */
static int start_colliding(struct ksm_puppet *p)
{
	int i, ret = 0;
	long j;

	for (i = 0; !ret && i < 2; i++) {
		ret = ksm_puppet_start(&p[i], NULL);
		if (ret)
			return ret;
		p[i].act->n = NR_COLLIDING;
		for (j = 0; j < NR_COLLIDING; j++)
			p[i].act->model[j] = ksm_stamp(i && j >= NR_EQUAL ?
						       STRANGER : OWNER, j, 1);
		for (j = 1; !i && j <= NR_OWN; j++)
			p[i].act->model[NR_COLLIDING - j] =
				p[i].act->model[NR_EQUAL + NR_OWN - j];
		ret = ksm_do(&p[i], ksm_act_map);
	}
	return ret;
}

/*
 * Exactly what is equal is one, but for the first pages, which one of the two
 * has left: there the other one is alone with a page that stays a merged one.
 */
static bool all_as_equal(struct ksm_puppet *p, long left)
{
	struct ksm_counters c;
	long i, wrong = 0;

	for (i = 0; i < NR_COLLIDING; i++)
		wrong += (frame(&p[0], i) == frame(&p[1], i)) !=
			 (i >= left && i < NR_EQUAL);
	for (i = 1; i <= NR_OWN; i++)
		wrong += frame(&p[0], NR_COLLIDING - i) !=
			 frame(&p[0], NR_EQUAL + NR_OWN - i);
	ksm_count(&c);
	if (!wrong && c.shared == NR_MERGED &&
	    c.sharing == NR_MERGED - left && !c.vol &&
	    c.unshared == 2 * (NR_COLLIDING - NR_MERGED) + left)
		return true;
	ksm_dump("not all as equal");
	fprintf(stderr, "# %ld pages in wrong frames\n", wrong);
	return false;
}

static char *zeros;	/* of the puppet */

static int act_map_zeros(struct ksm_act *a)
{
	(void)a;
	zeros = ksm_map(NR_ZERO);
	if (!zeros)
		return -ENOMEM;
	memset(zeros, 0, NR_ZERO * ksm_psize());
	return ksm_mergeable(zeros, NR_ZERO);
}

static int act_check_zeros(struct ksm_act *a)
{
	size_t i, bad = 0;

	(void)a;
	for (i = 0; i < NR_ZERO * ksm_psize(); i++)
		bad += !!zeros[i];
	return bad ? 1 : 0;
}

/* Some pages leave their twins, for so many passes, and come again. */
static void leave_and_come(struct __test_metadata *_metadata,
			   struct ksm_puppet *p, int passes)
{
	int i;

	for (i = 0; i < 10; i++)
		ASSERT_EQ(0, ksm_do2(&p[1], ksm_act_write, i,
				     (long)ksm_stamp(STRANGER, i, 1)));
	ASSERT_EQ(0, ksm_step(passes));
	EXPECT_TRUE(all_as_equal(p, 10));
	for (i = 0; i < 10; i++)
		ASSERT_EQ(0, ksm_do2(&p[1], ksm_act_write, i,
				     (long)p[0].act->model[i]));
	ASSERT_EQ(0, ksm_step(2));
	EXPECT_TRUE(all_as_equal(p, 0));
}

static void collide(struct __test_metadata *_metadata, struct ksm_puppet *p,
		    int bits)
{
	long long zero = ksm_get("ksm_zero_pages");
	int i;

	ASSERT_EQ(0, ksm_put_num(DIGEST_BITS, bits));
	ASSERT_EQ(bits, ksm_read_num(DIGEST_BITS));
	ASSERT_EQ(0, start_colliding(p));
	ASSERT_EQ(0, ksm_step(2));
	EXPECT_TRUE(all_as_equal(p, 0));
	/* Reading all of them again changes nothing. */
	ASSERT_EQ(0, ksm_step(33));
	EXPECT_TRUE(all_as_equal(p, 0));

	leave_and_come(_metadata, p, 2);

	/* As many pages have the digest of the zeros, and are none. */
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	ASSERT_EQ(0, ksm_do(&p[1], act_map_zeros));
	ASSERT_EQ(0, ksm_step(3));
	EXPECT_EQ(zero + NR_ZERO, ksm_get("ksm_zero_pages"));
	EXPECT_TRUE(all_as_equal(p, 0));
	/* Those that come now find their twins, and the others their peace. */
	leave_and_come(_metadata, p, 33);
	EXPECT_EQ(zero + NR_ZERO, ksm_get("ksm_zero_pages"));

	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, ksm_do(&p[i], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[1], act_check_zeros));
	ASSERT_EQ(0, ksm_unshare_all());
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_get("pages_sharing"));
	EXPECT_EQ(zero, ksm_get("ksm_zero_pages"));
	EXPECT_EQ(0, ksm_nr_common(&p[0], &p[1]));
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, ksm_do(&p[i], ksm_act_check));
	EXPECT_EQ(0, ksm_do(&p[1], act_check_zeros));
}

/* Half of all pages have one digest. */
TEST_F_TIMEOUT(ksm_attack, one_bit_of_digest, 60)
{
	const char *why = no_digest_bits();

	if (why)
		SKIP(return, "%s", why);
	collide(_metadata, self->p, 1);
}

/* Many have it, and many have another. */
TEST_F_TIMEOUT(ksm_attack, four_bits_of_digest, 60)
{
	const char *why = no_digest_bits();

	if (why)
		SKIP(return, "%s", why);
	collide(_metadata, self->p, 4);
}

/* The file itself; and pages that have settled with other digests. */
TEST_F_TIMEOUT(ksm_attack, digest_bits_file, 60)
{
	static const char * const wrong[] = { "0", "41", "64", "-1", "x" };
	struct ksm_puppet *p = self->p;
	const char *why = no_digest_bits();
	unsigned int i;

	if (why)
		SKIP(return, "%s", why);
	EXPECT_EQ(ALL_BITS, ksm_read_num(DIGEST_BITS));
	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		EXPECT_EQ(-EINVAL, ksm_put(DIGEST_BITS, wrong[i])) {
			TH_LOG("of %s", wrong[i]);
		}
	}
	EXPECT_EQ(ALL_BITS, ksm_read_num(DIGEST_BITS));

	/* It may be changed with pages that are settled, */
	ASSERT_EQ(0, ksm_puppet_with(&p[0], NULL, NR_EQUAL, OWNER, 1));
	ASSERT_EQ(0, ksm_step(3));
	EXPECT_EQ(0, ksm_put_num(DIGEST_BITS, 2));
	ASSERT_EQ(0, ksm_step(3));
	EXPECT_EQ(NR_EQUAL, ksm_get("pages_unshared"));
	EXPECT_EQ(0, ksm_put_num(DIGEST_BITS, ALL_BITS));
	EXPECT_EQ(0, ksm_put_num(DIGEST_BITS, 1));
	ASSERT_EQ(0, ksm_puppet_with(&p[1], NULL, NR_EQUAL, OWNER, 1));
	/* which get a digest of these when they are read again, */
	ASSERT_EQ(0, ksm_step(32 + 2));
	EXPECT_EQ(NR_EQUAL, ksm_nr_common(&p[0], &p[1]));
	EXPECT_EQ(NR_EQUAL, ksm_get("pages_shared"));
	/* but not with those that are merged. */
	EXPECT_EQ(-EBUSY, ksm_put_num(DIGEST_BITS, ALL_BITS));
	EXPECT_EQ(-EBUSY, ksm_put_num(DIGEST_BITS, 1));
	EXPECT_EQ(-EINVAL, ksm_put_num(DIGEST_BITS, ALL_BITS + 1));
	EXPECT_EQ(1, ksm_read_num(DIGEST_BITS));
	ASSERT_EQ(0, ksm_unshare_all());
	EXPECT_EQ(0, ksm_put_num(DIGEST_BITS, ALL_BITS));
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, ksm_do(&p[i], ksm_act_check));
}

#define FEW_PAGES	512
#define GROWTH		4
#define MAX_GROWTH	9
#define MAX_TRIES	4
#define COST_PASSES	3
#define REST_PASSES	10

static int act_map_big(struct ksm_act *a)
{
	long i;

	a->area = ksm_map((size_t)a->arg[0]);
	if (!a->area)
		return -ENOMEM;
	for (i = 0; i < a->arg[0]; i++)
		ksm_fill(page_at(a, i), ksm_stamp(BIG, (unsigned int)i, 1));
	return ksm_mergeable(a->area, (size_t)a->arg[0]);
}

/* What ksmd does until so many unique pages have settled, and afterwards. */
static int cost_of(struct ksm_puppet *p, long pages, double *first,
		   double *rest)
{
	double from;
	int ret;

	ret = ksm_puppet_start(p, NULL);
	if (!ret)
		ret = ksm_do1(p, act_map_big, pages);
	from = ksmd_secs();
	if (!ret)
		ret = ksm_step(COST_PASSES);
	*first = ksmd_secs() - from;
	from = ksmd_secs();
	if (!ret)
		ret = ksm_step(REST_PASSES);
	*rest = (ksmd_secs() - from) / REST_PASSES;
	if (!ret && ksm_get("pages_unshared") != pages)
		ret = -EUCLEAN;
	ksm_puppet_kill(p);
	if (!ret)
		ret = ksm_set("sleep_millisecs", 1);
	if (!ret && !ksm_wait_for(ksm_pages_all_zero(), KSM_WAIT_SECS))
		ret = -EBUSY;
	return ret ? ret : ksm_stop();
}

/* The same, if that is less than what was measured before */
static int least_cost_of(struct ksm_puppet *p, long pages, double *first,
			 double *rest)
{
	double now_first, now_rest;
	int ret = cost_of(p, pages, &now_first, &now_rest);

	if (now_first < *first)
		*first = now_first;
	if (now_rest < *rest)
		*rest = now_rest;
	return ret;
}

static bool grows_too_fast(double few, double many)
{
	return many >= MAX_GROWTH * (few + .002);
}

/*
 * With next to no digest pages are told apart by their bytes, in a tree, as in
 * a KSM that orders all by their bytes: N pages cost N log N comparisons.  Four
 * times as many are to cost 5 times as much, 4 * 11 / 9; sixteen times, if each
 * is compared with each.  The limit is half-way on a log scale.  It is the same
 * for the passes that follow, which may cost nothing at all; to what is next to
 * nothing two milliseconds are added, for they may be noise.  The time that an
 * emulated processor waits for a real one counts as spent; so the least of some
 * tries is what it costs.
 *
 * On a kernel without digest_bits this shows the cost to compare with.
 */
static void check_cost(struct __test_metadata *_metadata, struct ksm_puppet *p,
		       int smart)
{
	double first[2] = { 1e9, 1e9 }, rest[2] = { 1e9, 1e9 }, plain[2];
	bool weak = !no_digest_bits();
	int i, tries = 0;

	ASSERT_EQ(0, ksm_set("smart_scan", smart));
	ASSERT_EQ(0, cost_of(p, FEW_PAGES * GROWTH, &plain[0], &plain[1]));
	if (weak)
		ASSERT_EQ(0, ksm_put_num(DIGEST_BITS, 1));
	do {
		ASSERT_EQ(0, least_cost_of(p, FEW_PAGES, &first[0], &rest[0]));
		ASSERT_EQ(0, least_cost_of(p, FEW_PAGES * GROWTH, &first[1],
					   &rest[1]));
	} while (++tries < MAX_TRIES && (grows_too_fast(first[0], first[1]) ||
					 grows_too_fast(rest[0], rest[1])));
	for (i = 0; i < 2; i++)
		TH_LOG("smart_scan %d, %s digests, %d pages: %d passes %.3f s, then one %.4f s",
		       smart, weak ? "equal" : "its own",
		       i ? FEW_PAGES * GROWTH : FEW_PAGES, COST_PASSES,
		       first[i], rest[i]);
	TH_LOG("smart_scan %d, different digests: %.3f s, then %.4f s",
	       smart, plain[0], plain[1]);
	EXPECT_FALSE(grows_too_fast(first[0], first[1]));
	EXPECT_FALSE(grows_too_fast(rest[0], rest[1]));
	if (weak)
		ASSERT_EQ(0, ksm_put_num(DIGEST_BITS, ALL_BITS));
}

TEST_F_TIMEOUT(ksm_attack, cost_of_equal_digests, 120)
{
	if (!ksmd_secs())
		SKIP(return, "no schedstat: cannot tell the CPU time of ksmd");
	/* It must look at all of them: a KSM that skips some has no such sum. */
	if (!no_digest_bits())
		check_cost(_metadata, self->p, 1);
	check_cost(_metadata, self->p, 0);
}

/* ---- the others ---------------------------------------------------------- */

/* Anew, with content of version arg[0], and not where the last ones were. */
static int act_renew(struct ksm_act *a)
{
	char *old = a->area;
	size_t i;
	int ret;

	for (i = 0; i < a->n; i++)
		a->model[i] = ksm_stamp(OWNER, (unsigned int)i,
					(unsigned int)a->arg[0]);
	ret = ksm_act_map(a);
	ksm_unmap(old, a->n);
	return ret;
}

static int start_others(struct ksm_puppet *p)
{
	int i, ret = 0;

	for (i = 0; !ret && i < 2; i++) {
		ret = ksm_puppet_start(&p[i], NULL);
		if (!ret)
			p[i].act->n = NR_OTHERS;
	}
	return ret;
}

/* All entries of the area at once. */
static int read_pagemap(struct ksm_puppet *p, uint64_t *entry)
{
	off_t at = (off_t)((unsigned long)p->act->area / ksm_psize() * 8);
	size_t size = p->act->n * sizeof(*entry);
	ssize_t n = -1;
	char path[64];
	int fd;

	ksm_proc_path(path, sizeof(path), p->c.pid, "pagemap");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = pread(fd, entry, size, at);
		close(fd);
	}
	return n == (ssize_t)size ? 0 : -EIO;
}

static bool others_are_one(struct ksm_puppet *p)
{
	uint64_t a[NR_OTHERS], b[NR_OTHERS];
	long i;

	if (read_pagemap(&p[0], a) || read_pagemap(&p[1], b))
		return false;
	for (i = 0; i < NR_OTHERS; i++)
		if (!(a[i] & PM_PRESENT) || PM_PFN(a[i]) != PM_PFN(b[i]))
			return false;
	return true;
}

static bool is_ours(void)
{
	return !access("/sys/kernel/tracing/events/ksm/ksm_locked", F_OK);
}

static int max_passes(void)
{
	return is_ours() ? MAX_PASSES : MAX_PASSES_ELSE;
}

/*
 * Both get new pages, equal ones, and ksmd is to merge them in time.  Passes are
 * counted before it is looked whether they were enough, so that ksmd may be as
 * fast as it likes.  0, and how long it took; -ETIME if more passes are needed.
 */
static int others_round(struct ksm_puppet *p, int version, double *secs,
			long long *passes)
{
	struct ksm_patience left = { .secs = KSM_WAIT_SECS };
	double start = ksm_now();
	long long from, done;
	int i, ret = 0;

	for (i = 0; !ret && i < 2; i++)
		ret = ksm_do1(&p[i], act_renew, version);
	from = ksm_get("full_scans");
	*passes = 0;
	while (!ret) {
		done = ksm_get("full_scans") - from;
		if (others_are_one(p))
			break;
		*passes = done + 1;
		if (done >= max_passes())
			ret = -ETIME;
		else if (ksm_impatient(&left))
			ret = -ETIMEDOUT;
		ksm_nap_us(2000);
	}
	*secs = ksm_now() - start;
	for (i = 0; !ret && i < 2; i++)
		ret = ksm_do(&p[i], ksm_act_check);
	if (ret)
		ksm_dump("the others are not merged");
	return ret;
}

/* The rounds that the others managed. */
struct rounds {
	int nr;
	double worst;
	long long passes;	/* that were needed at least in one of them */
};

static void rounds_tell(const char *what, const struct rounds *r)
{
	printf("# %s: the others merged %d times, in %.2f s and %lld passes at most\n",
	       what, r->nr, r->worst, r->passes);
}

static int one_more_round(struct ksm_puppet *p, int *version,
			  struct rounds *r)
{
	long long passes;
	double secs;
	int ret;

	ret = others_round(p, ++*version, &secs, &passes);
	if (!ret)
		ret = held_drain();
	if (ret)
		return ret;
	r->nr++;
	r->worst = secs > r->worst ? secs : r->worst;
	r->passes = passes > r->passes ? passes : r->passes;
	return 0;
}

/* ---- attacks ------------------------------------------------------------- */

/*
 * The arguments of an attacker: how much, how far it is, "enough", "done"; it
 * runs while the test looks at the others.
 */
enum { HOW_MUCH, SO_FAR, ENOUGH, DONE };

static long act_get(struct ksm_act *a, int i)
{
	return __atomic_load_n(&a->arg[i], __ATOMIC_SEQ_CST);
}

static void act_set(struct ksm_act *a, int i, long val)
{
	__atomic_store_n(&a->arg[i], val, __ATOMIC_SEQ_CST);
}

static int attack_begin(struct ksm_puppet *p, int (*fn)(struct ksm_act *act),
			long how_much)
{
	act_set(p->act, HOW_MUCH, how_much);
	act_set(p->act, SO_FAR, 0);
	act_set(p->act, ENOUGH, 0);
	act_set(p->act, DONE, 0);
	return ksm_do_begin(p, fn);
}

/* Has it come to its end, or has something ended it? */
static bool attack_is_over(struct ksm_puppet *p)
{
	siginfo_t info = {};

	if (waitid(P_PID, (id_t)p->c.pid, &info, WEXITED | WNOHANG | WNOWAIT))
		return true;
	return info.si_pid || act_get(p->act, DONE);
}

static int attack_end(struct ksm_puppet *p)
{
	act_set(p->act, ENOUGH, 1);
	return ksm_do_end(p);
}

/*
 * ksmd at full speed, but with the batches that are its default.  What another
 * KSM passes over with smart_scan depends on what there was in the same place.
 */
static int full_speed(void)
{
	int ret = ksm_set("pages_to_scan", 100);

	if (!ret && !is_ours() && ksm_has("smart_scan"))
		ret = ksm_set("smart_scan", 0);
	if (!ret)
		ret = ksm_set("sleep_millisecs", 0);
	return ret ? ret : ksm_start();
}

#define NR_REWRITTEN	256

/*
 * Write to all pages, when HOW_MUCH passes have gone by.  With 0 that is faster
 * than ksmd, so each page is written to just before its visit, wherever ksmd is.
 * Two neighbours are equal each time, so that there is something to hope for.
 */
static int act_rewrite(struct ksm_act *a)
{
	long long next = ksm_get("full_scans");
	unsigned int version = 1;
	size_t i;

	while (!act_get(a, ENOUGH)) {
		next += act_get(a, HOW_MUCH);
		while (act_get(a, HOW_MUCH) && !act_get(a, ENOUGH) &&
		       ksm_get("full_scans") < next)
			ksm_nap_us(500);
		version++;
		for (i = 0; i < a->n; i++) {
			a->model[i] = ksm_stamp(ATTACKER,
						(unsigned int)i / 2, version);
			ksm_fill(a->area + i * ksm_psize(), a->model[i]);
		}
		act_set(a, SO_FAR, version);
	}
	return 0;
}

#define USUAL_ROUNDS	8

static int walk_node;		/* where pages were moved last */

/*
 * Have all mappings of the pages of a process looked for, twice: to move each
 * to the other memory node.
 */
static int walk_all(struct ksm_puppet *p, size_t n)
{
	int node[2];

	if (ksm_nodes(node, 2) < 2)
		return 0;
	walk_node = !walk_node;
	return ksm_move(p->c.pid, p->act->area, n, node[walk_node]);
}

/*
 * The locks while nobody attacks, but ksmd has full batches all the time: one
 * process changes its pages now and then, others come and go, and are migrated.
 */
static int measure_usual(const char *dir, struct ksm_puppet *p, int *version)
{
	struct rounds r = {};
	int ret;

	if (!*dir || usual->known)
		return 0;
	ret = ksm_puppet_with(&p[3], NULL, NR_REWRITTEN, BIG, 1);
	if (!ret)
		ret = full_speed();
	if (!ret)
		ret = attack_begin(&p[3], act_rewrite, 2);
	if (!ret)
		ret = held_begin(dir);
	while (!ret && r.nr < USUAL_ROUNDS) {
		ret = one_more_round(p, version, &r);
		walk_all(p, NR_OTHERS);
	}
	if (!ret)
		ret = held_end(dir, usual);
	if (!ret)
		ret = attack_end(&p[3]);
	ksm_puppet_kill(&p[3]);
	if (ret)
		return ret;
	held_tell("usual", usual);
	rounds_tell("usual", &r);
	return ksm_stop();
}

/*
 * What is "long"?  A batch, and what is done in one hold of an mmap_lock, are
 * limited by an amount of work, whoever it is for.  So the measure is what they
 * take in the same run, on the same machine, when ksmd has much to do, but
 * nobody attacks: whoever meets the lock held is to feel no more than
 * USUAL_FACTOR times what he does then.  Twice that is what the same work takes
 * at another time on an emulated machine.  What is in felt_ok is
 * never too long: so long a batch, and one hold of an mmap_lock, may take on
 * such a machine when others are busy on it, too.  A reverse walk has to visit
 * NR_CHILDREN mappings, 100 times as many as usual, with a TLB flush for each;
 * but it is not to visit all areas of all children.
 *
 * A single hold may take longer: a hypervisor had other things to do, or the
 * holder was preempted.  But not more than MAX_HELD_SECS, some ten times the
 * longest that is usual on an emulated machine.  On a slow kernel that is only
 * told: there ksmd, which is nice, waits for as long for a processor if all of
 * NR_CHILDREN start.
 */
#define USUAL_FACTOR	4
#define MAX_HELD_SECS	2

static const uint64_t felt_ok[NR_LOCKS] = { 40000000, 8000000, 16000000 };

static void check_held(struct __test_metadata *_metadata, const char *what,
		       const struct held *h)
{
	uint64_t limit;
	int lock;

	held_tell(what, h);
	if (!h->known || !usual->known)
		return;
	for (lock = 0; lock < NR_LOCKS; lock++) {
		if (ksm_slowness() == 1) {
			EXPECT_LE(h->lock[lock].max,
				  MAX_HELD_SECS * 1000000000ULL) {
				TH_LOG("the longest hold of %s",
				       lock_names[lock]);
			}
		}
		limit = USUAL_FACTOR * usual->lock[lock].felt;
		if (limit < felt_ok[lock] * ksm_slowness())
			limit = felt_ok[lock] * ksm_slowness();
		EXPECT_LE(h->lock[lock].felt, limit) {
			TH_LOG("%s is held for too long", lock_names[lock]);
		}
	}
}

/* Others merge, so many times, or if that is 0 until the attack is over. */
static int others_meanwhile(struct ksm_puppet *p, struct ksm_puppet *attacker,
			    int *version, int rounds, struct rounds *r)
{
	int ret = 0;

	memset(r, 0, sizeof(*r));
	while (!ret && (rounds ? r->nr < rounds : !attack_is_over(attacker)))
		ret = one_more_round(p, version, r);
	return ret;
}

/* ---- a rewriter ---------------------------------------------------------- */

static void rewrite(struct __test_metadata *_metadata,
		    struct _test_data_ksm_attack *self, const char *what,
		    int passes)
{
	struct ksm_puppet *bad = &self->p[2];
	struct rounds r;
	struct held h;
	long long from;

	ASSERT_EQ(0, start_others(self->p));
	ASSERT_EQ(0, measure_usual(self->dir, self->p, &self->version));
	ASSERT_EQ(0, ksm_puppet_with(bad, NULL, NR_REWRITTEN, ATTACKER, 1));
	ASSERT_EQ(0, full_speed());
	ASSERT_EQ(0, attack_begin(bad, act_rewrite, passes));
	from = ksm_get("full_scans");
	ASSERT_EQ(0, held_begin(self->dir));
	EXPECT_EQ(0, others_meanwhile(self->p, bad, &self->version, 6, &r));
	EXPECT_EQ(0, held_end(self->dir, &h));
	TH_LOG("written to %ld times in %lld passes",
	       act_get(bad->act, SO_FAR), ksm_get("full_scans") - from);
	rounds_tell(what, &r);
	EXPECT_EQ(0, attack_end(bad));
	check_held(_metadata, what, &h);
	EXPECT_EQ(0, ksm_do(bad, ksm_act_check));
	/* When it comes to rest, it merges like others. */
	ASSERT_EQ(0, ksm_stop());
	ASSERT_EQ(0, ksm_baseline());
	ASSERT_EQ(0, ksm_step(18));
	EXPECT_EQ(NR_OTHERS + NR_REWRITTEN / 2, ksm_get("pages_shared"));
	EXPECT_EQ(NR_OTHERS + NR_REWRITTEN / 2, ksm_get("pages_sharing"));
	EXPECT_EQ(0, ksm_do(bad, ksm_act_check));
}

/* Faster than ksmd: each page is another one at each visit, and in between. */
TEST_F_TIMEOUT(ksm_attack, rewriter, 60)
{
	rewrite(_metadata, self, "rewriter", 0);
}

/* As slow as ksmd: just when the pages have settled and found each other. */
TEST_F_TIMEOUT(ksm_attack, rewriter_in_step, 60)
{
	rewrite(_metadata, self, "rewriter in step", 3);
}

/* ---- areas of one page --------------------------------------------------- */

#define NR_ALIVE	2048	/* areas at a time, below vm.max_map_count */
#define AREAS_FULL	(512L * NR_ALIVE)
#define AREAS_FEW	(8L * NR_ALIVE)
#define WAVES_FULL	32	/* ksmd sees all of every such wave */
#define WAVES_FEW	2

static int map_one(struct ksm_act *a, long i)
{
	char *p = a->area + 2 * (size_t)i * ksm_psize();

	p = mmap(p, ksm_psize(), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	if (ksm_mergeable(p, 1))
		return -EINVAL;
	*(uint64_t *)p = ksm_stamp(ATTACKER, (unsigned int)i % 64, 1);
	return 0;
}

/*
 * Areas that cannot become one, as there is a gap behind each, with a page
 * each; many have the contents of another.  Now and then ksmd has some passes
 * for them.
 */
static int act_areas(struct ksm_act *a)
{
	long waves = attack_in_full() ? WAVES_FULL : WAVES_FEW;
	size_t span = 2 * NR_ALIVE * ksm_psize();
	long done = 0, wave, i, bad = 0;
	int ret = 0;

	a->area = mmap(NULL, span, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (a->area == MAP_FAILED)
		return -ENOMEM;
	munmap(a->area, span);
	for (wave = 0; !ret && !bad && done < act_get(a, HOW_MUCH); wave++) {
		for (i = 0; !ret && i < NR_ALIVE; i++)
			ret = map_one(a, i);
		if (!ret && wave % waves == waves - 1)
			ret = ksm_wait_passes(12);
		for (i = 0; i < NR_ALIVE; i++) {
			char *p = a->area + 2 * (size_t)i * ksm_psize();

			if (!ret)
				bad += *(uint64_t *)p !=
					ksm_stamp(ATTACKER,
						  (unsigned int)i % 64, 1);
			munmap(p, ksm_psize());
		}
		done += NR_ALIVE;
		act_set(a, SO_FAR, done);
	}
	act_set(a, DONE, 1);
	return ret ? ret : !!bad;
}

/* Nothing is left on the books of a process that has no pages on offer. */
static bool forgotten(struct ksm_puppet *p)
{
	return !ksm_stat(p->c.pid, "ksm_rmap_items") &&
		!ksm_stat(p->c.pid, "ksm_merging_pages") &&
		!ksm_stat(p->c.pid, "ksm_process_profit");
}

/* Objects in use of KSM's own caches, of those not shared with others. */
static long long slab_objects(void)
{
	char line[512], name[64], path[128];
	long long sum = 0, active;
	FILE *f;
	int pass;

	for (pass = 0; pass < 2; pass++) {
		f = fopen("/proc/slabinfo", "re");
		if (!f)
			return KSM_BAD;
		for (sum = 0; fgets(line, sizeof(line), f); sum += active) {
			active = 0;
			if (strncmp(line, "ksm_", 4) ||
			    sscanf(line, "%63s %lld", name, &active) != 2)
				continue;
			/* Free ones count as used while a CPU keeps them. */
			snprintf(path, sizeof(path),
				 "/sys/kernel/slab/%s/shrink", name);
			if (!pass)
				ksm_put(path, "1");
		}
		fclose(f);
	}
	return sum;
}

TEST_F_TIMEOUT(ksm_attack, areas_of_one_page, 3600)
{
	long long objects = slab_objects();
	struct ksm_puppet *bad = &self->p[2];
	double start;
	struct rounds r;
	struct held h;

	ASSERT_EQ(0, start_others(self->p));
	ASSERT_EQ(0, measure_usual(self->dir, self->p, &self->version));
	ASSERT_EQ(0, ksm_puppet_start(bad, NULL));
	ASSERT_EQ(0, full_speed());
	ASSERT_EQ(0, held_begin(self->dir));
	start = ksm_now();
	ASSERT_EQ(0, attack_begin(bad, act_areas,
				  attack_size(AREAS_FULL, AREAS_FEW,
					      2 * NR_ALIVE)));
	EXPECT_EQ(0, others_meanwhile(self->p, bad, &self->version, 0, &r));
	EXPECT_EQ(0, held_end(self->dir, &h));
	TH_LOG("%ld areas in %.1f s", act_get(bad->act, SO_FAR),
	       ksm_now() - start);
	rounds_tell("areas", &r);
	EXPECT_EQ(0, attack_end(bad));
	EXPECT_LE(2, r.nr);
	check_held(_metadata, "areas", &h);
	ASSERT_EQ(0, ksm_wait_passes(3));
	EXPECT_TRUE(forgotten(bad));
	ksm_puppet_kill(&self->p[0]);
	ksm_puppet_kill(&self->p[1]);
	EXPECT_TRUE(ksm_wait_for(ksm_pages_all_zero(), KSM_WAIT_SECS));
	EXPECT_TRUE(ksm_wait_for(!ksm_get("general_profit"), KSM_WAIT_SECS));
	if (!is_ours())		/* its last nodes stay until somebody comes by */
		EXPECT_EQ(0, ksm_unshare_all());
	EXPECT_TRUE(ksm_wait_for(slab_objects() <= objects, 5)) {
		TH_LOG("%lld slab objects before, %lld now", objects,
		       slab_objects());
	}
}

/* ---- forks --------------------------------------------------------------- */

#define NR_CHILDREN	200
#define FORKS_FULL	100000L
#define FORKS_FEW	1000L
#define NR_FORKED	64	/* areas of one page in each of them */

/* Neighbours are areas of their own, of the same anon_vma. */
static int act_split(struct ksm_act *a)
{
	long i;

	for (i = 1; i < (long)a->n; i += 2)
		if (mprotect(page_at(a, i), ksm_psize(), PROT_READ))
			return -errno;
	return 0;
}

/* They do nothing, but they are there. */
static int act_forks(struct ksm_act *a)
{
	pid_t child[NR_CHILDREN], self = getpid();
	long done = 0;
	int i, nr, ret = 0;

	while (!ret && done < act_get(a, HOW_MUCH)) {
		for (nr = 0; nr < NR_CHILDREN; nr++) {
			child[nr] = fork();
			if (child[nr] < 0) {
				ret = -errno;
				break;
			}
			if (child[nr])
				continue;
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (nr % 8 == 0)	/* some have pages of their own */
				ksm_fill(page_at(a, nr / 4), 7);
			while (getppid() == self)
				pause();
			_exit(0);
		}
		done += nr;
		act_set(a, SO_FAR, done);
		if (!ret)
			ret = ksm_wait_passes(1);
		for (i = 0; i < nr; i++)
			kill(child[i], SIGKILL);
		for (i = 0; i < nr; i++)
			waitpid(child[i], NULL, 0);
	}
	act_set(a, DONE, 1);
	return ret;
}

TEST_F_TIMEOUT(ksm_attack, forks, 3600)
{
	struct ksm_puppet *bad = &self->p[2];
	struct rounds r = {};
	long walks = 0;
	double start;
	struct held h;
	int i;

	ASSERT_EQ(0, start_others(self->p));
	ASSERT_EQ(0, measure_usual(self->dir, self->p, &self->version));
	/* Each page of it has an equal in it. */
	ASSERT_EQ(0, ksm_puppet_start(bad, NULL));
	bad->act->n = NR_FORKED;
	for (i = 0; i < NR_FORKED; i++)
		bad->act->model[i] = ksm_stamp(ATTACKER, (unsigned int)i / 2,
					       1);
	ASSERT_EQ(0, ksm_do(bad, ksm_act_map));
	ASSERT_EQ(0, ksm_do(bad, act_split));
	ASSERT_EQ(0, full_speed());
	ASSERT_EQ(0, ksm_wait_passes(4));
	ASSERT_EQ(0, held_begin(self->dir));
	start = ksm_now();
	ASSERT_EQ(0, attack_begin(bad, act_forks,
				  attack_size(FORKS_FULL, FORKS_FEW,
					      2 * NR_CHILDREN)));
	while (!attack_is_over(bad)) {
		ASSERT_EQ(0, one_more_round(self->p, &self->version, &r));
		walks += walk_all(bad, 8) > 0;
	}
	EXPECT_EQ(0, held_end(self->dir, &h));
	TH_LOG("%ld forks in %.1f s, %ld walks", act_get(bad->act, SO_FAR),
	       ksm_now() - start, walks);
	rounds_tell("forks", &r);
	EXPECT_EQ(0, attack_end(bad));
	EXPECT_LE(2, r.nr);
	check_held(_metadata, "forks", &h);
	EXPECT_EQ(0, ksm_do(bad, ksm_act_check));
}

/* ---- areas and tables that are of no use --------------------------------- */

#define MAX_MAPS	"/proc/sys/vm/max_map_count"
#define USELESS_MANY	120000L
#define USELESS_LEAST	20000L

/*
 * A great many areas that are not on offer, as neighbours have different
 * protections, and behind them one that is, with the pages of the model.
 */
static int act_useless(struct ksm_act *a)
{
	long i, areas = act_get(a, HOW_MUCH);
	size_t span = (size_t)areas * ksm_psize();
	char *p;

	p = mmap(NULL, span + a->n * ksm_psize(), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	madvise(p, span + a->n * ksm_psize(), MADV_NOHUGEPAGE);
	for (i = 0; i < areas; i += 2)
		if (mprotect(p + (size_t)i * ksm_psize(), ksm_psize(),
			     PROT_READ))
			return -errno;
	a->area = p + span;
	ksm_act_fill(a);
	return ksm_mergeable(a->area, a->n);
}

/* Maps and unmaps a page, for which mmap_lock is wanted; the longest wait. */
static int act_want_lock(struct ksm_act *a)
{
	double start, secs, worst = 0;
	char *p;

	while (!act_get(a, ENOUGH)) {
		start = ksm_now();
		p = mmap(NULL, ksm_psize(), PROT_READ, MAP_SHARED |
			 MAP_ANONYMOUS, -1, 0);
		secs = ksm_now() - start;
		munmap(p, ksm_psize());
		worst = secs > worst ? secs : worst;
		act_set(a, SO_FAR, (long)(worst * 1e6));
		ksm_nap_us(1000);
	}
	return 0;
}

/* The others merge so many times, while mmap_lock is wanted all the time. */
static void meet(struct __test_metadata *_metadata,
		 struct _test_data_ksm_attack *self, const char *what)
{
	struct ksm_puppet *bad = &self->p[2];
	struct rounds r;
	struct held h;

	ASSERT_EQ(0, full_speed());
	ASSERT_EQ(0, ksm_wait_passes(3));
	ASSERT_EQ(0, attack_begin(bad, act_want_lock, 0));
	ASSERT_EQ(0, held_begin(self->dir));
	EXPECT_EQ(0, others_meanwhile(self->p, bad, &self->version, 4, &r));
	EXPECT_EQ(0, held_end(self->dir, &h));
	TH_LOG("mmap() took %ld us at most", act_get(bad->act, SO_FAR));
	rounds_tell(what, &r);
	EXPECT_EQ(0, attack_end(bad));
	check_held(_metadata, what, &h);
}

TEST_F_TIMEOUT(ksm_attack, useless_areas, 60)
{
	long areas = attack_size(USELESS_MANY, USELESS_MANY, USELESS_LEAST);
	struct ksm_puppet *bad = &self->p[2];
	double start;
	int i;

	ASSERT_EQ(0, start_others(self->p));
	ASSERT_EQ(0, measure_usual(self->dir, self->p, &self->version));
	ASSERT_EQ(0, ksm_puppet_start(bad, NULL));
	bad->act->n = NR_FORKED;
	for (i = 0; i < NR_FORKED; i++)
		bad->act->model[i] = ksm_stamp(ATTACKER, (unsigned int)i, 1);
	if (ksm_read_num(MAX_MAPS) < areas + 1000)
		ASSERT_EQ(0, ksm_put_num(MAX_MAPS, areas + 1000));
	start = ksm_now();
	act_set(bad->act, HOW_MUCH, areas);
	ASSERT_EQ(0, ksm_do(bad, act_useless));
	TH_LOG("%ld areas in %.2f s", areas, ksm_now() - start);
	meet(_metadata, self, "useless areas");
	EXPECT_EQ(0, ksm_do(bad, ksm_act_check));
	ksm_puppet_kill(bad);
	EXPECT_EQ(0, ksm_keep_restore());
}

#define HUGE		(2UL * 1024 * 1024)
#define GIB		(512 * HUGE)
#define TIB		(1024 * GIB)
#define NR_TIB		16L

/* Areas of NR_TIB and 8 TiB; in the first one page in each is touched. */
static int act_holes(struct ksm_act *a)
{
	char *p;
	long i;

	p = mmap(NULL, 8 * TIB, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED || madvise(p, 8 * TIB, MADV_MERGEABLE))
		return -ENOMEM;
	p = mmap(NULL, NR_TIB * TIB, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	madvise(p, NR_TIB * TIB, MADV_NOHUGEPAGE);
	a->area = p;
	for (i = 0; i < NR_TIB; i++)
		ksm_fill(p + i * TIB + i * 7001 * ksm_psize(),
			 ksm_stamp(ATTACKER, (unsigned int)i / 2, 1));
	return madvise(p, NR_TIB * TIB, MADV_MERGEABLE) ? -errno : 0;
}

static unsigned long tib_of_tables(void)
{
	return attack_size(NR_TIB, NR_TIB, 2);
}

/*
 * One more area; much of it has a page table for each GiB with nothing in it,
 * left behind by the zero page, a huge one.  A page at the end is all there is.
 */
static int act_empty_tables(struct ksm_act *a)
{
	unsigned long i;
	char *p;

	p = mmap(NULL, NR_TIB * TIB, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	if (madvise(p, NR_TIB * TIB, MADV_HUGEPAGE))
		return -errno;
	for (i = GIB / 2; i < tib_of_tables() * TIB; i += GIB) {
		ksm_touch(p + i);
		madvise(p + i, HUGE, MADV_DONTNEED);
	}
	if (madvise(p, NR_TIB * TIB, MADV_NOHUGEPAGE))
		return -errno;
	ksm_fill(p + NR_TIB * TIB - ksm_psize(), a->model[0]);
	return madvise(p, NR_TIB * TIB, MADV_MERGEABLE) ? -errno : 0;
}

static char *in_holes(struct ksm_act *a, long i)
{
	return a->area + i * TIB + i * 7001 * ksm_psize();
}

static int act_holes_check(struct ksm_act *a)
{
	int i, bad = 0;

	for (i = 0; i < NR_TIB; i++)
		bad += !ksm_is(in_holes(a, i),
			       ksm_stamp(ATTACKER, (unsigned int)i / 2, 1));
	return bad;
}

static int act_holes_advise(struct ksm_act *a)
{
	return madvise(a->area, NR_TIB * TIB, (int)a->arg[0]) ? -errno : 0;
}

/* Number of pages that share a frame with their neighbour. */
static int holes_shared(struct ksm_puppet *p)
{
	int i, nr = 0;

	for (i = 0; i < NR_TIB; i += 2)
		nr += ksm_pfn(p->c.pid, in_holes(p->act, i)) ==
			ksm_pfn(p->c.pid, in_holes(p->act, i + 1));
	return nr;
}

/* A pass, and whatever has to look at the whole, on any machine */
#define MAX_SECS	5
#define MAX_BYTES	256	/* of bookkeeping for each page that is there */

TEST_F_TIMEOUT(ksm_attack, terabytes_of_holes, 90)
{
	struct ksm_puppet *bad = &self->p[2];
	double start, secs[4];
	long long tables, cost;
	unsigned int i;

	ASSERT_EQ(0, start_others(self->p));
	ASSERT_EQ(0, measure_usual(self->dir, self->p, &self->version));
	ASSERT_EQ(0, ksm_puppet_start(bad, NULL));
	ASSERT_EQ(0, ksm_do(bad, act_holes));
	tables = ksm_status_kb(bad->c.pid, "VmPTE");
	ASSERT_EQ(0, full_speed());
	start = ksm_now();
	ASSERT_EQ(0, ksm_wait_passes(4));
	secs[0] = ksm_now() - start;
	meet(_metadata, self, "holes");
	EXPECT_EQ(NR_TIB / 2 + NR_OTHERS, ksm_get("pages_shared"));
	EXPECT_EQ(NR_TIB / 2 + NR_OTHERS, ksm_get("pages_sharing"));
	EXPECT_EQ(NR_TIB / 2, holes_shared(bad));
	EXPECT_EQ(tables, ksm_status_kb(bad->c.pid, "VmPTE"));
	cost = ksm_stat(bad->c.pid, "ksm_merging_pages") *
		(long long)ksm_psize() -
		ksm_stat(bad->c.pid, "ksm_process_profit");

	start = ksm_now();
	ASSERT_EQ(0, ksm_do1(bad, act_holes_advise, MADV_UNMERGEABLE));
	secs[1] = ksm_now() - start;
	EXPECT_EQ(0, holes_shared(bad));
	EXPECT_EQ(0, ksm_do1(bad, act_holes_advise, MADV_MERGEABLE));
	ASSERT_EQ(0, ksm_wait_passes(4));
	EXPECT_EQ(NR_TIB / 2, holes_shared(bad));
	start = ksm_now();
	EXPECT_EQ(0, ksm_unshare_all());
	secs[2] = ksm_now() - start;
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, holes_shared(bad));
	EXPECT_EQ(0, ksm_do(bad, act_holes_check));
	ASSERT_EQ(0, ksm_start());
	ASSERT_EQ(0, ksm_wait_passes(4));
	start = ksm_now();
	EXPECT_EQ(0, ksm_puppet_end(bad));
	secs[3] = ksm_now() - start;
	TH_LOG("4 passes %.2f s, MADV_UNMERGEABLE %.2f s, run=2 %.2f s, exit %.2f s",
	       secs[0], secs[1], secs[2], secs[3]);
	TH_LOG("%lld bytes of bookkeeping for %ld pages", cost, NR_TIB);
	for (i = 0; i < ARRAY_SIZE(secs); i++)
		EXPECT_LT(secs[i], MAX_SECS * ksm_slowness());
	EXPECT_LE(cost, MAX_BYTES * NR_TIB);
	ksm_puppet_kill(&self->p[0]);
	ksm_puppet_kill(&self->p[1]);
	EXPECT_TRUE(ksm_wait_for(ksm_pages_all_zero(), KSM_WAIT_SECS));
}

/* As many again, and here it takes some time to see that there are no pages. */
TEST_F_TIMEOUT(ksm_attack, terabytes_of_empty_tables, 90)
{
	struct ksm_puppet *bad = &self->p[2];
	long long tables;
	double start;

	ASSERT_EQ(0, start_others(self->p));
	ASSERT_EQ(0, measure_usual(self->dir, self->p, &self->version));
	ASSERT_EQ(0, ksm_puppet_start(bad, NULL));
	ASSERT_EQ(0, ksm_do(bad, act_holes));
	tables = ksm_status_kb(bad->c.pid, "VmPTE");
	start = ksm_now();
	ASSERT_EQ(0, ksm_do(bad, act_empty_tables));
	tables = ksm_status_kb(bad->c.pid, "VmPTE") - tables;
	TH_LOG("%lld KiB of tables in %.2f s", tables, ksm_now() - start);
	if (tables < (long long)(tib_of_tables() * TIB / GIB * ksm_psize() / 1024) / 2)
		SKIP(return, "no huge zero page: cannot make empty tables");
	meet(_metadata, self, "empty tables");
	EXPECT_EQ(NR_TIB / 2, holes_shared(bad));
	EXPECT_EQ(0, ksm_do(bad, act_holes_check));
	start = ksm_now();
	EXPECT_EQ(0, ksm_unshare_all());
	EXPECT_LT(ksm_now() - start, MAX_SECS * ksm_slowness());
}

static void drop_digest_bits(void)
{
	if (getpid() != ksm_env()->pid || access(DIGEST_BITS, F_OK) ||
	    ksm_read_num(DIGEST_BITS) == ALL_BITS)
		return;
	ksm_unshare_all();
	ksm_put_num(DIGEST_BITS, ALL_BITS);
}

#define NR_PARTS	300
#define PART		60	/* pages, fewer than KSM unshares at a time */
#define FAULTS_AT_A_TIME 64

/*
 * Merged pages in many small areas: run=2 lets go of the mutex as often as if
 * they were in one.
 */
TEST_F_TIMEOUT(ksm_attack, unmerge_of_many_areas, 90)
{
	const size_t sz = ksm_psize();
	struct held h;
	double secs;
	size_t i, j;
	char *p;

	p = ksm_map(NR_PARTS * (PART + 1));
	ASSERT_NE(NULL, p);
	for (i = 0; i < NR_PARTS; i++) {
		char *part = p + i * (PART + 1) * sz;

		/* Each content is in two parts. */
		for (j = 0; j < PART; j++)
			ksm_fill(part + j * sz,
				 ksm_stamp(OWNER, i / 2 * PART + j, 1));
		ASSERT_EQ(0, ksm_mergeable(part, PART));
	}
	ASSERT_EQ(0, ksm_scan(3));
	ASSERT_EQ(NR_PARTS / 2 * PART, ksm_get("pages_shared"));

	ASSERT_EQ(0, held_begin(self->dir));
	secs = ksm_now();
	EXPECT_EQ(0, ksm_unshare_all());
	secs = ksm_now() - secs;
	ASSERT_EQ(0, held_end(self->dir, &h));
	held_tell("unmerging", &h);
	TH_LOG("all unmerged in %.1f ms", secs * 1e3);
	EXPECT_EQ(0, ksm_get("pages_shared"));
	/* How often, and not how long: a busy machine stands still at times. */
	if (h.known && !h.lost) {
		EXPECT_GE(h.lock[0].nr, NR_PARTS * PART / FAULTS_AT_A_TIME);
		EXPECT_GE(h.lock[1].nr, NR_PARTS * PART / FAULTS_AT_A_TIME);
	}
	for (i = 0; i < NR_PARTS; i++)
		for (j = 0; j < PART; j++)
			ASSERT_TRUE(ksm_is(p + (i * (PART + 1) + j) * sz,
					   ksm_stamp(OWNER, i / 2 * PART + j,
						     1)));
	ksm_unmap(p, NR_PARTS * (PART + 1));
}

int main(int argc, char **argv)
{
	usual = mmap(NULL, sizeof(*usual), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (usual == MAP_FAILED)
		return 1;
	ksm_main_setup();
	ksm_env_make(0);
	ksm_keep(MAX_MAPS);
	atexit(drop_digest_bits);
	return test_harness_run(argc, argv);
}
