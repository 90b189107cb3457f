// SPDX-License-Identifier: GPL-2.0
/*
 * How memory is offered for merging, and taken back: madvise(), prctl(), and
 * what becomes of it in fork, exec, mmap and exit.
 *
 * Either a program marks areas (MADV_MERGEABLE), or the process as a whole is
 * marked (PR_SET_MEMORY_MERGE: MMF_VM_MERGE_ANY), and each area that suits is
 * marked when it is made.  The mark is VM_MERGEABLE in both cases, changed
 * only with mmap_lock held for write and the area locked.  An mm with a marked
 * area is registered (MMF_VM_MERGEABLE), or about to be retired by ksmd.
 *
 * The mark is taken away only when no page of the area is shared any more: the
 * reverse walk relies on it (rmap.c).
 */
#include <linux/export.h>
#include <linux/mman.h>
#include <linux/sched/coredump.h>
#include <asm/tlbflush.h>
#include "internal.h"

static bool is_registered(struct mm_struct *mm)
{
	return test_bit(MMF_VM_MERGEABLE, &mm->flags);
}

static void mark(struct vm_area_struct *vma)
{
	if (!(vma->vm_flags & VM_MERGEABLE) && ksm_vma_suits(vma))
		vm_flags_set(vma, VM_MERGEABLE);
}

static void mark_all(struct mm_struct *mm)
{
	struct vm_area_struct *vma;

	VMA_ITERATOR(vmi, mm, 0);
	for_each_vma(vmi, vma)
		mark(vma);
}

static int unmark(struct vm_area_struct *vma)
{
	int err = 0;

	if (!(vma->vm_flags & VM_MERGEABLE))
		return 0;
	if (vma->anon_vma)
		err = ksm_unshare_range(vma, vma->vm_start, vma->vm_end);
	if (!err)
		vm_flags_clear(vma, VM_MERGEABLE);
	return err;
}

static int unmark_all(struct mm_struct *mm)
{
	struct vm_area_struct *vma;
	int err;

	VMA_ITERATOR(vmi, mm, 0);
	for_each_vma(vmi, vma) {
		err = unmark(vma);
		if (err)
			return err;
	}
	return 0;
}

/**
 * ksm_madvise - MADV_MERGEABLE and MADV_UNMERGEABLE
 * @vma: the area, or the part of it that is going to be split off
 * @start: begin of the range
 * @end: end of the range
 * @advice: which of the two; any other is ignored
 * @vm_flags: the caller's copy of the area's flags, changed as advised
 *
 * Advice for an area that cannot be merged is ignored.
 *
 * Context: mmap_lock for write; may sleep.
 * Return: 0; -ENOMEM; -ERESTARTSYS.  *@vm_flags is unchanged after an error.
 */
int ksm_madvise(struct vm_area_struct *vma, unsigned long start,
		unsigned long end, int advice, unsigned long *vm_flags)
{
	bool marked = *vm_flags & VM_MERGEABLE;
	int err = 0;

	if (advice == MADV_MERGEABLE && (marked || ksm_vma_suits(vma))) {
		/* Marked, but not registered: a fork found no memory for that */
		if (!is_registered(vma->vm_mm))
			err = ksm_registry_add(vma->vm_mm);
		if (!err)
			*vm_flags |= VM_MERGEABLE;
	} else if (advice == MADV_UNMERGEABLE && marked) {
		if (vma->anon_vma)
			err = ksm_unshare_range(vma, start, end);
		if (!err)
			*vm_flags &= ~(unsigned long)VM_MERGEABLE;
	}
	return err;
}
EXPORT_SYMBOL_GPL(ksm_madvise);

/*
 * ksmd retired the mm for want of mergeable areas, or it was forked when there
 * was no memory to register it.  If there is none now, the next area tries.
 */
static void register_again(struct mm_struct *mm)
{
	if (!is_registered(mm))
		ksm_registry_add(mm);
}

/**
 * ksm_add_vma - an area was made: mark it, if all of its mm is to be merged
 * @vma: the area
 *
 * Context: mmap_lock for write; may sleep.
 */
void ksm_add_vma(struct vm_area_struct *vma)
{
	struct mm_struct *mm = vma->vm_mm;

	if (!test_bit(MMF_VM_MERGE_ANY, &mm->flags))
		return;
	mark(vma);
	register_again(mm);
}

/**
 * ksm_vma_flags - the flags of a new anonymous area
 * @mm: the mm it is made in
 * @vm_flags: its flags otherwise
 *
 * Does beforehand what ksm_add_vma() is going to do, so that the new area can be
 * merged with its neighbours: then the latter is not called.
 *
 * Context: mmap_lock for write; may sleep.
 * Return: the flags, with VM_MERGEABLE if all of the mm is to be merged.
 */
vm_flags_t ksm_vma_flags(struct mm_struct *mm, vm_flags_t vm_flags)
{
	if (test_bit(MMF_VM_MERGE_ANY, &mm->flags) && ksm_flags_suit(vm_flags)) {
		register_again(mm);
		vm_flags |= VM_MERGEABLE;
	}
	return vm_flags;
}

/**
 * ksm_enable_merge_any - offer all memory of a process, now and later
 * @mm: its mm
 *
 * Context: mmap_lock for write; may sleep.
 * Return: 0, also if that was so already; -ENOMEM.
 */
int ksm_enable_merge_any(struct mm_struct *mm)
{
	int err;

	if (!is_registered(mm)) {
		err = ksm_registry_add(mm);
		if (err)
			return err;
	}
	if (test_bit(MMF_VM_MERGE_ANY, &mm->flags))
		return 0;
	set_bit(MMF_VM_MERGE_ANY, &mm->flags);
	mark_all(mm);
	return 0;
}

/**
 * ksm_disable_merge_any - take back what ksm_enable_merge_any() offered
 * @mm: the mm
 *
 * All or nothing: after an error every area is marked again.
 *
 * Context: mmap_lock for write; may sleep.
 * Return: 0, also if nothing was offered; -ENOMEM; -ERESTARTSYS.
 */
int ksm_disable_merge_any(struct mm_struct *mm)
{
	int err;

	if (!test_bit(MMF_VM_MERGE_ANY, &mm->flags))
		return 0;
	err = unmark_all(mm);
	if (err)
		mark_all(mm);
	else
		clear_bit(MMF_VM_MERGE_ANY, &mm->flags);
	return err;
}

/**
 * ksm_disable - keep KSM off an mm, however it got on it
 * @mm: the mm
 *
 * For s390, where storage keys and merged pages exclude each other.
 *
 * Context: mmap_lock for write; may sleep.
 * Return: 0; -ENOMEM; -ERESTARTSYS.
 */
int ksm_disable(struct mm_struct *mm)
{
	mmap_assert_write_locked(mm);
	if (!is_registered(mm) && !test_bit(MMF_VM_MERGE_ANY, &mm->flags))
		return 0;
	if (test_bit(MMF_VM_MERGE_ANY, &mm->flags))
		return ksm_disable_merge_any(mm);
	return unmark_all(mm);
}

/**
 * __ksm_enter - register an mm; the inlines in ksm.h say when
 * @mm: the mm
 *
 * Context: process; may sleep.
 * Return: 0 or -ENOMEM.
 */
int __ksm_enter(struct mm_struct *mm)
{
	return ksm_registry_add(mm);
}

/**
 * __ksm_fork - register the child of a registered mm
 * @mm: the child's
 * @oldmm: the parent's
 *
 * Tried but once: without memory for it, the child is just not merged.
 *
 * fork() lets go of the child's mmap_lock before it flushes the parent's TLB.
 * In between, threads of the parent may still write to pages that the child
 * has inherited, and that would show to whomever these were merged with.  So it
 * is flushed before ksmd can find the child.
 *
 * Context: both mmap_locks for write, all PTEs copied; may sleep.
 */
void __ksm_fork(struct mm_struct *mm, struct mm_struct *oldmm)
{
	flush_tlb_mm(oldmm);
	ksm_registry_add(mm);
}

/**
 * __ksm_exit - an mm is about to lose its page tables
 * @mm: the mm, registered
 *
 * On return nothing of KSM's touches them any more.
 *
 * Context: process; mmap_lock may be held for write.
 */
void __ksm_exit(struct mm_struct *mm)
{
	ksm_registry_exit(mm);
}

#ifdef CONFIG_PROC_FS
/**
 * ksm_process_profit - what KSM saves one process, less what it costs
 * @mm: its mm, with a reference to mm_users
 *
 * Context: any.
 * Return: bytes; negative if the bookkeeping for it outweighs the saving.
 */
long ksm_process_profit(struct mm_struct *mm)
{
	long pages = READ_ONCE(mm->ksm_merging_pages) + mm_ksm_zero_pages(mm);

	return pages * (long)PAGE_SIZE - (long)ksm_registry_bytes(mm);
}

/**
 * ksm_process_mergeable - does a process have any mergeable area?
 * @mm: its mm
 *
 * Context: mmap_lock.
 * Return: true if it has.
 */
bool ksm_process_mergeable(struct mm_struct *mm)
{
	mmap_assert_locked(mm);
	return ksm_scan_mergeable(mm);
}
#endif
