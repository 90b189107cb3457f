// SPDX-License-Identifier: GPL-2.0
/*
 * Taking everything apart again, when 2 is written to run.
 *
 * It works in slices, between which the scan mutex is free: ksmd does not scan
 * then (run is not 1), but reaps, and an exit never waits for more than a
 * slice.  The unmerger has a cursor of its own in the registry, and mms that
 * are registered meanwhile are put ahead of it.
 */
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include "internal.h"

#define SLICE_FAULTS	64
#define SLICE_AREAS	1024
#define SLICE_RECORDS	512
#define SLICE_NODES	1024

/*
 * Unshare a slice of an mm.  Returns 1 if there is more, 0 if not, or an
 * error.  @addr is where to go on.
 */
static int unmerge_slice(struct ksm_mm *owner, unsigned long *addr)
{
	struct vm_area_struct *vma;
	unsigned int faults = SLICE_FAULTS, left = SLICE_AREAS;
	int err = 0;

	VMA_ITERATOR(vmi, owner->slot.mm, *addr);

	for_each_vma(vmi, vma) {
		*addr = max(*addr, vma->vm_start);
		if (vma->vm_flags & VM_MERGEABLE && READ_ONCE(vma->anon_vma))
			err = ksm_unshare_some(vma, addr, vma->vm_end, &faults);
		else
			*addr = vma->vm_end;
		if (err || !faults || !--left || ksm_mm_should_end(owner))
			return err ?: 1;
	}
	*addr = ULONG_MAX;
	return 0;
}

static int unshare_mm(struct ksm_mm *owner)
{
	unsigned long addr = 0;
	int more = 1;

	while (more > 0) {
		/* An exiting mm takes its pages along; its records are reaped */
		if (!ksm_mm_begin(owner))
			return 0;
		more = unmerge_slice(owner, &addr);
		ksm_mm_end(owner);
		if (more > 0) {
			ksm_breathe();
			/* Did it exit, and was it reaped, meanwhile? */
			if (ksm_registry_current(KSM_CURSOR_UNMERGE) != owner)
				return 0;
		}
	}
	return more;
}

static int forget_mm(struct ksm_mm *owner)
{
	unsigned long addr = 0;

	while (!ksm_records_drop(owner, &addr, ULONG_MAX, SLICE_RECORDS,
				 KSM_LOCK_WAIT)) {
		if (fatal_signal_pending(current))
			return -EINTR;
		ksm_breathe();
		if (ksm_registry_current(KSM_CURSOR_UNMERGE) != owner)
			return 0;
	}
	return 0;
}

/* One after the other; those that are registered meanwhile as well */
static int visit_mms(int (*fn)(struct ksm_mm *owner))
{
	struct ksm_mm *owner;
	int err = 0;

	ksm_registry_rewind(KSM_CURSOR_UNMERGE, /* ahead = */ true);
	while (!err && (owner = ksm_registry_next(KSM_CURSOR_UNMERGE))) {
		err = fn(owner);
		ksm_breathe();
		if (!err && fatal_signal_pending(current))
			err = -EINTR;
	}
	ksm_registry_rewind(KSM_CURSOR_UNMERGE, /* ahead = */ false);
	return err;
}

/**
 * struct mapper - who still maps a page
 * @mm: the mm, with a reference; NULL if nobody was found
 * @addr: and where
 */
struct mapper {
	struct mm_struct	*mm;
	unsigned long		addr;
};

static bool take_mapper(struct folio *folio, struct vm_area_struct *vma,
			unsigned long addr, void *arg)
{
	struct mapper *mapper = arg;

	if (!ksm_vma_maps(vma, addr, folio) || !mmget_not_zero(vma->vm_mm))
		return true;
	mapper->mm = vma->vm_mm;
	mapper->addr = addr;
	return false;
}

static int unshare_mapper(struct mapper *mapper)
{
	unsigned long addr = mapper->addr;
	unsigned int most = UINT_MAX;
	struct vm_area_struct *vma;
	u64 since;
	int err;

	err = mmap_read_lock_killable(mapper->mm);
	if (!err) {
		since = ksm_held_begin();
		vma = vma_lookup(mapper->mm, addr);
		if (vma)
			err = ksm_unshare_some(vma, &addr, addr + PAGE_SIZE,
					       &most);
		mmap_read_unlock(mapper->mm);
		ksm_held_end(KSM_HELD_MMAP, since);
	}
	/* Its exit must not be ours to run, under the scan mutex */
	mmput_async(mapper->mm);
	return err;
}

/*
 * Try to part a node from its page, which lists nothing any more.  The page
 * may be in the swap cache: there it stays without a node, and is copied when
 * it is wanted.  It may also be mapped by an mm that is exiting; or outside
 * of mergeable areas, by a parent whose child offered the page, when it was
 * still an anonymous page of both.  Returns 1 if one such mapper was dealt
 * with.
 */
static int part_from_page(struct ksm_stable_node *node, struct mapper *last)
{
	struct mapper mapper = {};
	struct rmap_walk_control rwc = {
		.arg		= &mapper,
		.rmap_one	= take_mapper,
	};
	struct folio *folio;
	int err;

	err = ksm_node_grab(node, KSM_LOCK_WAIT, &folio);
	if (err)
		return err == -ESTALE ? 0 : err;
	if (folio_mapped(folio)) {
		rmap_walk_ksm(folio, &rwc);
		err = mapper.mm ? 1 : -EBUSY;
	} else {
		ksm_folio_detach(folio);
	}
	folio_unlock(folio);
	folio_put(folio);
	if (err <= 0)
		return err;
	err = unshare_mapper(&mapper) ?: 1;
	/* It would not be unshared: there is no use in trying for ever */
	if (mapper.mm == last->mm && mapper.addr == last->addr)
		return err > 0 ? -EBUSY : err;
	*last = mapper;
	return err;
}

static int drop_node(struct ksm_stable_node *node)
{
	struct mapper last = {};
	int err = !node->entry.bereft;

	while (err > 0 && !fatal_signal_pending(current)) {
		err = part_from_page(node, &last);
		cond_resched();
	}
	if (err > 0)
		err = -EINTR;
	if (!err)
		ksm_node_drop(node, UINT_MAX);
	return err;
}

static int drop_entry(struct ksm_entry *entry)
{
	struct ksm_stable_node *node, *next;
	unsigned int left;
	int err = 0;

	if (entry->kind != KSM_CHAIN)
		return drop_node(ksm_entry_node(entry));
	left = entry->count;
	list_for_each_entry_safe(node, next, &ksm_entry_chain(entry)->dups,
				 entry.dup) {
		err = drop_node(node) ?: err;
		if (err && err != -EBUSY)
			break;
		if (--left == 0)	/* the chain may be gone */
			break;
	}
	return err;
}

/*
 * Drop some nodes of a tree, beginning with @digest; all of one digest in one
 * go.  Returns false when the end was reached.
 */
static bool drop_some_nodes(int nid, u64 *digest, int *err)
{
	struct ksm_entry *entry = ksm_stable_from(nid, *digest);
	unsigned int done = 0;

	while (entry) {
		struct ksm_entry *next = ksm_stable_next(entry);

		*digest = entry->digest;
		*err = drop_entry(entry) ?: *err;
		if (*err && *err != -EBUSY)
			return false;
		cond_resched();
		entry = next;
		if (++done >= SLICE_NODES && entry && entry->digest != *digest) {
			*digest = entry->digest;
			return true;
		}
	}
	return false;
}

static int drop_all_nodes(void)
{
	int nid, err = 0;

	for (nid = 0; nid < nr_node_ids; nid++) {
		u64 digest = 0;

		while (drop_some_nodes(nid, &digest, &err)) {
			if (fatal_signal_pending(current))
				return -EINTR;
			ksm_breathe();
		}
		if (err && err != -EBUSY)
			break;
	}
	return err;
}

/**
 * ksm_forget_nodes - drop all stable nodes, if nothing is shared any more
 *
 * Context: process, scan mutex, dropped and taken again in between; may sleep.
 * Return: 0, and there are no nodes; -EBUSY if something is shared, or still
 *	mapped somewhere; -EINTR.
 */
int ksm_forget_nodes(void)
{
	int err = -EBUSY;

	lockdep_assert_held(&ksm_scan_mutex);
	if (!ksm_stats.shared)
		err = drop_all_nodes();
	/* ksmd may have made new ones in between */
	return err ?: ksm_stats.nodes ? -EBUSY : 0;
}

/**
 * ksm_unmerge_all - unshare all that is shared, forget all that is known
 *
 * Context: process, scan mutex, dropped and taken again in between; may sleep.
 * Return: 0; -ENOMEM; -ERESTARTSYS or -EINTR for a signal.
 */
int ksm_unmerge_all(void)
{
	int err;

	/* All at once is cheaper than page by page */
	ksm_filter_fit(0);
	err = visit_mms(unshare_mm);
	/* Only now: pages that have gone need not be locked for their items */
	if (!err)
		err = visit_mms(forget_mm);
	if (!err)
		err = ksm_reap_all();
	if (!err)
		err = drop_all_nodes();
	/*
	 * A fault that looked at run before it was 2 may have mapped a merged
	 * page behind us.  All their page locks were waited for by now.
	 */
	if (err == -EBUSY)
		err = visit_mms(unshare_mm) ?: drop_all_nodes();
	/* What is left is mapped by a process that exits: it goes with it */
	return err == -EBUSY ? 0 : err;
}
