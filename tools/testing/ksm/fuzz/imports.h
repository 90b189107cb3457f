/* SPDX-License-Identifier: GPL-2.0 */
/*
 * All that the index files of KSM need of the kernel, for user space.
 *
 * It is included ahead of each file, and the kernel headers named in Makefile
 * are empty; the others are those in tools/include.  What has a behaviour of its
 * own is in env.c.  A warning of the kernel ends the program here.
 */
#ifndef _KSM_FUZZ_IMPORTS_H
#define _KSM_FUZZ_IMPORTS_H

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/types.h>
#include <linux/bitops.h>
#include <linux/build_bug.h>
#include <linux/compiler.h>
#include <linux/err.h>
#include <linux/export.h>
#include <linux/gfp.h>
#include <linux/hash.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/math64.h>
#include <linux/overflow.h>
#include <linux/rbtree.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/stringify.h>

/* Numbers */

#define U32_MAX			UINT_MAX
#define DIV_ROUND_UP_ULL(n, d)	DIV_ROUND_UP((unsigned long long)(n), d)
#define div_u64(n, d)		((u64)(n) / (u32)(d))
#define div64_u64(n, d)		((u64)(n) / (u64)(d))
#define KUNIT_STATIC_STUB_REDIRECT(...)	do { } while (0)
#define __ffs64(word)		__builtin_ctzll(word)

#undef min
#undef max
#undef min_t
#undef max_t
#undef clamp

#define min(a, b)		\
	({ __auto_type _a = (a); __auto_type _b = (b); _a < _b ? _a : _b; })
#define max(a, b)		\
	({ __auto_type _a = (a); __auto_type _b = (b); _a > _b ? _a : _b; })
#define min_t(type, a, b)	\
	({ type _a = (a), _b = (b); _a < _b ? _a : _b; })
#define max_t(type, a, b)	\
	({ type _a = (a), _b = (b); _a > _b ? _a : _b; })
#define clamp_t(type, value, low, high)	\
	min_t(type, max_t(type, value, low), high)
#define clamp(value, low, high)	clamp_t(typeof(value), value, low, high)

/* Warnings */

void fuzz_die(const char *file, int line, const char *what) __noreturn;

#undef WARN
#undef WARN_ON
#undef WARN_ON_ONCE
#undef WARN_ONCE

/* The text of a message is its format: which numbers it has, a debugger tells */
#define __WARN(condition, text) ({				\
	bool _bad = !!(condition);				\
								\
	if (unlikely(_bad))					\
		fuzz_die(__FILE__, __LINE__, text);		\
	_bad;							\
})
#define WARN_ON(condition)		__WARN(condition, #condition)
#define WARN_ON_ONCE(condition)		__WARN(condition, #condition)
#define WARN(condition, text, ...)	__WARN(condition, text)
#define WARN_ONCE(condition, text, ...)	__WARN(condition, text)

/* Locks: one thread, so it is enough to know which of them it holds */

struct mutex {
	bool	held;
};

#define lockdep_assert_held(lock)	WARN_ON(!(lock)->held)
#define cond_resched()			do { } while (0)

/* There are no readers to wait for */

struct rcu_head {
	void	*unused;
};

#define rcu_read_lock()			do { } while (0)
#define rcu_read_unlock()		do { } while (0)
#define rcu_dereference_raw(p)		(p)
#define rcu_dereference_check(p, ...)	(p)
#define rcu_dereference_protected(p, ...)	(p)
#define rcu_assign_pointer(p, v)	((p) = (v))
#define RCU_INIT_POINTER(p, v)		((p) = (v))
#define call_rcu(head, func)		((func)(head))

/* Memory; each allocation may fail, see fuzz.h */

void *__vmalloc(unsigned long size, gfp_t gfp);
void vfree(const void *p);
void kmem_cache_destroy(struct kmem_cache *cache);

#define KMEM_CACHE(type, flags)	\
	kmem_cache_create(#type, sizeof(struct type),	\
			  __alignof__(struct type), flags, NULL)
#define kmem_cache_zalloc(cache, gfp)	kmem_cache_alloc(cache, (gfp) | __GFP_ZERO)
#define kcalloc(n, size, gfp)		kzalloc(array_size(n, size), gfp)
#define kasan_reset_tag(p)		(p)
#define prefetch(p)			((void)(p))

/* Memory management */

#define PAGE_SHIFT	12
#define PAGE_SIZE	4096UL
#define NUMA_NO_NODE	(-1)

typedef u64 pgoff_t;
typedef u64 vm_flags_t;
typedef u64 pte_t;

struct anon_vma;
struct folio;
struct vm_area_struct;

struct mm_struct {
	unsigned long	ksm_merging_pages;
	unsigned long	ksm_rmap_items;
};

extern unsigned int nr_node_ids;
extern atomic_long_t ksm_zero_pages;

static inline int pfn_to_nid(unsigned long pfn)
{
	return pfn % nr_node_ids;
}

static inline void *phys_to_virt(phys_addr_t addr)
{
	return (void *)addr;
}

static inline phys_addr_t virt_to_phys(const void *p)
{
	return (phys_addr_t)p;
}

static inline long atomic_long_read(const atomic_long_t *v)
{
	return v->counter;
}

/* Time */

#define MSEC_PER_SEC	1000L
#define NSEC_PER_MSEC	1000000L
#define current		NULL

typedef s64 ktime_t;

extern unsigned long jiffies;

static inline ktime_t ktime_get(void)
{
	return 0;
}

static inline s64 ktime_ms_delta(ktime_t later, ktime_t earlier)
{
	return (later - earlier) / NSEC_PER_MSEC;
}

static inline u64 task_sched_runtime(void *task)
{
	return 0;
}

static inline u64 ktime_get_ns(void)
{
	return 0;
}

#define DECLARE_TRACEPOINT(name) extern int tracepoint_##name
#define tracepoint_enabled(name) (sizeof(tracepoint_##name) && false)

static inline void trace_ksm_advisor(s64 seconds, unsigned long pages,
				     unsigned int percent)
{
}

/* sysfs */

struct kobject;

struct attribute {
	const char	*name;
	unsigned short	mode;
};

struct attribute_group {
	const char		*name;
	struct attribute	**attrs;
};

struct kobj_attribute {
	struct attribute attr;
	ssize_t (*show)(struct kobject *kobj, struct kobj_attribute *attr,
			char *buf);
	ssize_t (*store)(struct kobject *kobj, struct kobj_attribute *attr,
			 const char *buf, size_t count);
};

#define __ATTR(_name, _mode, _show, _store) {				\
	.attr	= { .name = __stringify(_name), .mode = _mode },	\
	.show	= _show,						\
	.store	= _store,						\
}

extern struct kobject *mm_kobj;

int sysfs_create_group(struct kobject *kobj,
		       const struct attribute_group *group);
int sysfs_emit(char *buf, const char *format, ...) __printf(2, 3);
int sysfs_emit_at(char *buf, int at, const char *format, ...) __printf(3, 4);
bool sysfs_streq(const char *a, const char *b);
int __sysfs_match_string(const char * const *array, size_t n, const char *str);

/* For the part of lib/kstrtox.c that reads from user space */
static inline unsigned long copy_from_user(void *to, const void *from,
					   unsigned long n)
{
	return n;
}

/* These two are the kernel's own; u64 is another type of 64 bits in tools/ */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wincompatible-pointer-types"
#include <include/linux/kstrtox.h>
#pragma GCC diagnostic pop
#include <include/linux/xarray.h>

#endif /* _KSM_FUZZ_IMPORTS_H */
