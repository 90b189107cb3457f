/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Kernel Samepage Merging: what the rest of the kernel calls.  The functions
 * are described where they are defined, in mm/ksm/; the whole is described in
 * Documentation/mm/ksm.rst.
 */
#ifndef __LINUX_KSM_H
#define __LINUX_KSM_H

#include <linux/bitops.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched.h>
#include <linux/sched/coredump.h>

#ifdef CONFIG_KSM
int ksm_madvise(struct vm_area_struct *vma, unsigned long start,
		unsigned long end, int advice, unsigned long *vm_flags);
void ksm_add_vma(struct vm_area_struct *vma);
vm_flags_t ksm_vma_flags(struct mm_struct *mm, vm_flags_t vm_flags);
int ksm_enable_merge_any(struct mm_struct *mm);
int ksm_disable_merge_any(struct mm_struct *mm);
int ksm_disable(struct mm_struct *mm);

int __ksm_enter(struct mm_struct *mm);
void __ksm_fork(struct mm_struct *mm, struct mm_struct *oldmm);
void __ksm_exit(struct mm_struct *mm);

struct folio *ksm_might_need_to_copy(struct folio *folio,
				     struct vm_area_struct *vma,
				     unsigned long addr);
void rmap_walk_ksm(struct folio *folio, struct rmap_walk_control *rwc);
void folio_migrate_ksm(struct folio *newfolio, struct folio *folio);
void collect_procs_ksm(struct folio *folio, struct page *page,
		       struct list_head *to_kill, int force_early);
long ksm_process_profit(struct mm_struct *mm);
bool ksm_process_mergeable(struct mm_struct *mm);

/*
 * The zero page has no struct page of its own to count in, so the PTE says who
 * put it there: KSM's are dirty, and nobody else makes such a PTE, as it is
 * never writable.  Each is counted for the system and for its mm.
 */
extern atomic_long_t ksm_zero_pages;

static inline bool is_ksm_zero_pte(pte_t pte)
{
	return pte_dirty(pte) && is_zero_pfn(pte_pfn(pte));
}

/* KSM maps the zero page; caller holds the page-table lock. */
static inline void ksm_map_zero_page(struct mm_struct *mm)
{
	atomic_long_inc(&mm->ksm_zero_pages);
	atomic_long_inc(&ksm_zero_pages);
}

/* A PTE of the zero page goes away, whoever put it there; as above. */
static inline void ksm_might_unmap_zero_page(struct mm_struct *mm, pte_t pte)
{
	if (!is_ksm_zero_pte(pte))
		return;
	atomic_long_dec(&mm->ksm_zero_pages);
	atomic_long_dec(&ksm_zero_pages);
}

/* Fork copies a PTE of the zero page; as above. */
static inline void ksm_might_copy_zero_page(struct mm_struct *child, pte_t pte)
{
	if (is_ksm_zero_pte(pte))
		ksm_map_zero_page(child);
}

static inline long mm_ksm_zero_pages(struct mm_struct *mm)
{
	return atomic_long_read(&mm->ksm_zero_pages);
}

/*
 * A child's mm begins as a copy of its parent's, counters included.  Nothing
 * is listed for the child yet, and no PTE copied.
 */
static inline void ksm_mm_init(struct mm_struct *mm)
{
	mm->ksm_merging_pages = 0;
	mm->ksm_rmap_items = 0;
	atomic_long_set(&mm->ksm_zero_pages, 0);
}

static inline void ksm_fork(struct mm_struct *mm, struct mm_struct *oldmm)
{
	if (test_bit(MMF_VM_MERGEABLE, &oldmm->flags))
		__ksm_fork(mm, oldmm);
}

/* A new image inherits PR_SET_MEMORY_MERGE, but no registration. */
static inline int ksm_execve(struct mm_struct *mm)
{
	return test_bit(MMF_VM_MERGE_ANY, &mm->flags) ? __ksm_enter(mm) : 0;
}

static inline void ksm_exit(struct mm_struct *mm)
{
	if (test_bit(MMF_VM_MERGEABLE, &mm->flags))
		__ksm_exit(mm);
}

#else  /* !CONFIG_KSM */

static inline void ksm_add_vma(struct vm_area_struct *vma)
{
}

static inline vm_flags_t ksm_vma_flags(struct mm_struct *mm,
				       vm_flags_t vm_flags)
{
	return vm_flags;
}

static inline int ksm_disable(struct mm_struct *mm)
{
	return 0;
}

static inline void ksm_mm_init(struct mm_struct *mm)
{
}

static inline void ksm_might_copy_zero_page(struct mm_struct *child, pte_t pte)
{
}

static inline void ksm_fork(struct mm_struct *mm, struct mm_struct *oldmm)
{
}

static inline int ksm_execve(struct mm_struct *mm)
{
	return 0;
}

static inline void ksm_exit(struct mm_struct *mm)
{
}

static inline void ksm_might_unmap_zero_page(struct mm_struct *mm, pte_t pte)
{
}

static inline void collect_procs_ksm(struct folio *folio, struct page *page,
				     struct list_head *to_kill, int force_early)
{
}

#ifdef CONFIG_MMU
static inline int ksm_madvise(struct vm_area_struct *vma, unsigned long start,
			      unsigned long end, int advice,
			      unsigned long *vm_flags)
{
	return 0;
}

static inline struct folio *ksm_might_need_to_copy(struct folio *folio,
						   struct vm_area_struct *vma,
						   unsigned long addr)
{
	return folio;
}

static inline void rmap_walk_ksm(struct folio *folio,
				 struct rmap_walk_control *rwc)
{
}

static inline void folio_migrate_ksm(struct folio *newfolio,
				     struct folio *folio)
{
}
#endif /* CONFIG_MMU */
#endif /* !CONFIG_KSM */

#endif /* __LINUX_KSM_H */
