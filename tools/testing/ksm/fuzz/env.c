// SPDX-License-Identifier: GPL-2.0
/*
 * The world around the index files: allocators that fail when told to, the
 * scan mutex and the knobs, and mms without memory.
 */
#include "fuzz.h"

/* A larger table of the filter is not worth the time to clear it */
#define VMALLOC_MAX	(1024 * 1024)

struct kmem_cache {
	size_t	size;
	size_t	align;
	void	(*ctor)(void *object);
};

static const u8 *input, *input_end;
static u8 fail_mask;
static unsigned int allocation;	/* of this step */
static unsigned int failures;
static unsigned int refusals;
static long nr_allocated;

static struct mm_struct mms[FUZZ_OWNERS];
static struct ksm_mm owners[FUZZ_OWNERS];

struct mutex ksm_scan_mutex;	/* for lockdep_assert_held() */
struct ksm_knobs ksm_knobs;
atomic_long_t ksm_zero_pages;
unsigned int nr_node_ids = 2;
unsigned long jiffies;
struct kmem_cache *radix_tree_node_cachep;

void fuzz_die(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: %s\n", file, line, what);
	abort();
}

/* ------------------------------------------------------------------ */
/* The input                                                           */
/* ------------------------------------------------------------------ */

u8 fuzz_u8(void)
{
	return input < input_end ? *input++ : 0;
}

u64 fuzz_u64(void)
{
	u64 number = 0;
	unsigned int i;

	for (i = 0; i < 8; i++)
		number = number << 8 | fuzz_u8();
	return number;
}

unsigned int fuzz_below(unsigned int limit)
{
	return fuzz_u8() % limit;
}

int fuzz_step(unsigned int kinds)
{
	u8 kind;

	if (input == input_end)
		return -1;
	kind = fuzz_u8();
	fail_mask = kind >= FUZZ_FAIL ? fuzz_u8() : 0;
	allocation = 0;
	failures = 0;
	refusals = 0;
	return kind % kinds;
}

unsigned int fuzz_failures(void)
{
	return failures;
}

bool fuzz_refuses(void)
{
	bool yes = fail_mask & BIT(7);

	refusals += yes;
	return yes;
}

unsigned int fuzz_refusals(void)
{
	return refusals;
}

/* ------------------------------------------------------------------ */
/* Allocators                                                          */
/* ------------------------------------------------------------------ */

static bool fails(void)
{
	bool yes = allocation < 7 && (fail_mask & BIT(allocation));

	allocation++;
	failures += yes;
	return yes;
}

/* Each object is one of the C library's, so that ASan knows its end */
static void *alloc(size_t size, size_t align, gfp_t gfp)
{
	void *p;

	if (fails())
		return NULL;
	if (posix_memalign(&p, max(align, sizeof(void *)), size))
		abort();
	/* Who reads what was never written gets nonsense */
	memset(p, gfp & __GFP_ZERO ? 0 : 0xa5, size);
	nr_allocated++;
	return p;
}

static void release(const void *p)
{
	if (!p)
		return;
	nr_allocated--;
	free((void *)p);
}

void *kmalloc(size_t size, gfp_t gfp)
{
	return alloc(size, 8, gfp);
}

void kfree(void *p)
{
	release(p);
}

void *__vmalloc(unsigned long size, gfp_t gfp)
{
	if (size > VMALLOC_MAX) {
		failures++;
		return NULL;
	}
	return alloc(size, PAGE_SIZE, gfp);
}

void vfree(const void *p)
{
	release(p);
}

struct kmem_cache *kmem_cache_create(const char *name, unsigned int size,
				     unsigned int align, unsigned int flags,
				     void (*ctor)(void *))
{
	struct kmem_cache *cache = malloc(sizeof(*cache));

	if (!cache)
		abort();
	cache->size = size;
	cache->align = align;
	cache->ctor = ctor;
	return cache;
}

void kmem_cache_destroy(struct kmem_cache *cache)
{
	free(cache);
}

void *kmem_cache_alloc_lru(struct kmem_cache *cache, struct list_lru *lru,
			   int gfp)
{
	void *p = alloc(cache->size, cache->align, gfp);

	if (p && cache->ctor)
		cache->ctor(p);
	return p;
}

void kmem_cache_free_bulk(struct kmem_cache *cache, size_t nr, void **p)
{
	while (nr--)
		kmem_cache_free(cache, p[nr]);
}

void kmem_cache_free(struct kmem_cache *cache, void *p)
{
	must(p);
	release(p);
}

/* For lib/xarray.c: what lib/radix-tree.c has for it in the kernel */
static void make_node(void *object)
{
	struct xa_node *node = object;

	memset(node, 0, sizeof(*node));
	INIT_LIST_HEAD(&node->private_list);
}

void radix_tree_node_rcu_free(struct rcu_head *head)
{
	release(container_of(head, struct xa_node, rcu_head));
}

/* ------------------------------------------------------------------ */
/* KSM                                                                 */
/* ------------------------------------------------------------------ */

void ksm_scan_lock(void)
{
	must(!ksm_scan_mutex.held);
	ksm_scan_mutex.held = true;
}

void ksm_scan_unlock(void)
{
	must(ksm_scan_mutex.held);
	ksm_scan_mutex.held = false;
}

struct ksm_mm *fuzz_owner(unsigned int index)
{
	return &owners[index];
}

void ksm_registry_check(struct ksm_stats *sum)
{
	unsigned int i;

	for (i = 0; i < FUZZ_OWNERS; i++) {
		ksm_check_owner(&owners[i], sum);
		must(mms[i].ksm_rmap_items <= sum->items);
	}
}

void fuzz_recount(unsigned long filtered, unsigned long other_bytes)
{
	struct ksm_stats sum = {};

	ksm_registry_check(&sum);
	must(sum.records == ksm_stats.records);
	must(sum.unshared == ksm_stats.unshared);
	must(sum.items == ksm_stats.items);
	must(sum.items == mms[0].ksm_rmap_items + mms[1].ksm_rmap_items);
	must(sum.filtered == ksm_stats.filtered && sum.filtered == filtered);
	must(sum.bytes + other_bytes == ksm_stats.bytes);
}

/* What the kernel does at boot */
static void init_once(void)
{
	static bool done;
	unsigned int i;

	if (done)
		return;
	done = true;
	radix_tree_node_cachep = kmem_cache_create("radix_tree_node",
						   sizeof(struct xa_node), 0, 0,
						   make_node);
	must(!ksm_record_init());
	must(!ksm_stable_tree_init());
	must(!ksm_unstable_tree_init());
	for (i = 0; i < FUZZ_OWNERS; i++) {
		owners[i].slot.mm = &mms[i];
		INIT_LIST_HEAD(&owners[i].groups);
	}
	/* What lives as long as the kernel does not count */
	nr_allocated = 0;
}

void fuzz_begin(const u8 *data, size_t size)
{
	input = data;
	input_end = size ? data + size : data;
	fail_mask = 0;
	init_once();
	ksm_knobs = (struct ksm_knobs) {
		.max_page_sharing	= 2,
		.merge_across_nodes	= true,
	};
	ksm_scan_lock();
	ksm_filter_renewed();
}

void fuzz_end(void)
{
	static const struct ksm_stats none;
	unsigned int i;

	ksm_filter_fit(0);
	for (i = 0; i < FUZZ_OWNERS; i++) {
		must(!owners[i].blocks.rb_node);
		must(list_empty(&owners[i].groups));
		must(!owners[i].bytes);
		must(!mms[i].ksm_rmap_items && !mms[i].ksm_merging_pages);
	}
	for (i = 0; i < nr_node_ids; i++) {
		must(!ksm_stable_from(i, 0));
		must(!ksm_unstable_root(i)->rb_node);
	}
	must(!ksm_filter_entries());
	must(!memcmp(&ksm_stats, &none, sizeof(none)));
	must(!nr_allocated);
	ksm_scan_unlock();
}
