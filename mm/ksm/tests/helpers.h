/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of KSM share: a quiet KSM, mms and pages to play with, passes
 * on command, and allocations that fail on command.
 *
 * Most tests hold the scan mutex for all of their length.  A test that is
 * aborted would take it along for good, so there are only expectations under
 * it, never assertions; whatever a test needs is asserted before.
 *
 * All tests run in a kernel that has booted, but has no user space yet.  Then
 * ksmd is asleep, nothing is registered and the trees are empty.  When they
 * are run again later, that may not be so: they are skipped then.
 */
#ifndef _MM_KSM_TESTS_HELPERS_H
#define _MM_KSM_TESTS_HELPERS_H

#include <kunit/test.h>
#include <linux/prandom.h>
#include "../internal.h"

/* Of any random sequence.  Fixed, so that a failure can be seen again. */
#define KSM_KUNIT_SEED	20090922ULL

struct vm_area_struct;

/* helpers.c */
void ksm_kunit_settle(void);
int ksm_kunit_init(struct kunit *test);
int ksm_kunit_init_knobs(struct kunit *test);
bool ksm_kunit_failed(struct kunit *test);
void ksm_kunit_seed(struct kunit *test, struct rnd_state *rnd);
u32 ksm_kunit_below(struct rnd_state *rnd, u32 limit);
u64 ksm_kunit_u64(struct rnd_state *rnd);
struct ksm_mm *ksm_kunit_owner(struct kunit *test);
struct page *ksm_kunit_page(struct kunit *test, int nid, u8 fill);
void ksm_kunit_check(struct kunit *test);
void ksm_kunit_check_owner(struct kunit *test, struct ksm_mm *owner);
void ksm_kunit_needs_fail_alloc(struct kunit *test);
void ksm_kunit_fail_alloc(unsigned int nth);
bool ksm_kunit_end_fail_alloc(void);

/* user_mm.c */
struct mm_struct *ksm_kunit_mm(struct kunit *test);
void ksm_kunit_mm_exit(struct kunit *test, struct mm_struct *mm);
unsigned long ksm_kunit_map(struct kunit *test, struct mm_struct *mm,
			    unsigned long pages);
void ksm_kunit_map_at(struct kunit *test, struct mm_struct *mm,
		      unsigned long addr, unsigned long pages);
struct mm_struct *ksm_kunit_fork(struct kunit *test, struct mm_struct *parent,
				 unsigned long addr, unsigned long pages);
void ksm_kunit_unmap(struct mm_struct *mm, unsigned long addr,
		     unsigned long pages);
void ksm_kunit_advise(struct kunit *test, struct mm_struct *mm,
		      unsigned long addr, unsigned long pages, int advice);
void ksm_kunit_offer(struct kunit *test, struct mm_struct *mm,
		     unsigned long addr, unsigned long pages);
int ksm_kunit_fill(struct mm_struct *mm, unsigned long addr,
		   unsigned long pages, u8 byte);
int ksm_kunit_poke(struct mm_struct *mm, unsigned long addr, u8 byte);
bool ksm_kunit_holds(struct mm_struct *mm, unsigned long addr,
		     unsigned long pages, u8 byte);
pte_t ksm_kunit_pte(struct mm_struct *mm, unsigned long addr);
bool ksm_kunit_clean(struct mm_struct *mm, unsigned long addr);
unsigned long ksm_kunit_pfn(struct mm_struct *mm, unsigned long addr);
bool ksm_kunit_merged(struct mm_struct *mm, unsigned long addr);
struct page *ksm_kunit_get_page(struct mm_struct *mm, unsigned long addr);
unsigned int ksm_kunit_pass(void);
void ksm_kunit_passes(struct kunit *test, unsigned int count);
void ksm_kunit_expect_pages(struct kunit *test, unsigned long shared,
			    unsigned long sharing, unsigned long unshared,
			    long volatiles);
void ksm_kunit_expect_nothing(struct kunit *test);

#endif /* _MM_KSM_TESTS_HELPERS_H */
