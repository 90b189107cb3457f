// SPDX-License-Identifier: GPL-2.0
/*
 * What the rest of mm/ asks about a merged page that is locked: who maps it,
 * that it moves, and whether a swapped-in copy may be shared.
 *
 * Nothing here takes a lock of KSM's own.  The lock of the merged page keeps
 * its node and the node's list of items (internal.h, letter F).
 *
 * Finding the mappings.  Each item names an anon_vma and a page offset, and so
 * does the node itself, for those who had the page before it was merged.  In
 * the interval tree of that anon_vma are the areas that may map the page: the
 * one the item was made for, and those that fork copied from it, which no item
 * may know yet.  In each of them the page sits at the offset's address.  The
 * item's own address is of no use: the area of a fork parent may have been
 * moved by mremap(), which changes the addresses and keeps the offset.  (An
 * area that is mergeable is unshared before it is moved.)
 *
 * Looking up one offset, not all of the tree, is what keeps the anon_vma lock
 * short where thousands of areas share an anon_vma.
 *
 * Two items may lead to the same area: that of a child, by its own item and by
 * that of its parent.  folio_referenced_one() counts the mappings that it has
 * seen, and ends the walk when it has seen as many as there are.  So each item
 * leads to the areas of its own mm first; only those that no item knows are
 * found after that, and only then are areas visited twice.
 */
#include <linux/highmem.h>
#include <linux/memcontrol.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>
#include <linux/vmstat.h>
#include "../internal.h"
#include "internal.h"

/* Like anon_vma_lock_read(), but does not wait if the walk does not want to */
static bool lock_anon_vma(struct anon_vma *anon_vma,
			  struct rmap_walk_control *rwc)
{
	if (anon_vma_trylock_read(anon_vma))
		return true;
	if (rwc->try_lock) {
		rwc->contended = true;
		return false;
	}
	anon_vma_lock_read(anon_vma);
	return true;
}

/*
 * Visit the areas that an offset in an anon_vma leads to, those of @mm or those
 * of all others; false ends the walk.
 */
static bool walk_offset(struct folio *folio, struct anon_vma *anon_vma,
			pgoff_t pgoff, const struct mm_struct *mm, bool own,
			struct rmap_walk_control *rwc)
{
	struct anon_vma_chain *avc;
	bool go_on = true;
	u64 since;

	if (!lock_anon_vma(anon_vma, rwc))
		return false;
	since = ksm_held_begin();
	anon_vma_interval_tree_foreach(avc, &anon_vma->rb_root, pgoff, pgoff) {
		struct vm_area_struct *vma = avc->vma;
		unsigned long addr = vma_address(vma, pgoff, 1);
		bool is_own = vma->vm_mm == mm;

		cond_resched();
		if (addr == -EFAULT || is_own != own)
			continue;
		if (rwc->invalid_vma && rwc->invalid_vma(vma, rwc->arg))
			continue;
		go_on = rwc->rmap_one(folio, vma, addr, rwc->arg) &&
			!(rwc->done && rwc->done(folio));
		if (!go_on)
			break;
	}
	anon_vma_unlock_read(anon_vma);
	ksm_held_end(KSM_HELD_ANON_VMA, since);
	return go_on;
}

/* Does this item lead nowhere but where the node itself leads to? */
static bool is_origin(const struct ksm_stable_node *node,
		      const struct ksm_rmap_item *item)
{
	return item->anon_vma == node->anon_vma && item->pgoff == node->pgoff;
}

static bool walk_item(struct folio *folio, const struct ksm_rmap_item *item,
		      bool own, struct rmap_walk_control *rwc)
{
	return walk_offset(folio, item->anon_vma, item->pgoff,
			   item->owner->slot.mm, own, rwc);
}

/**
 * rmap_walk_ksm - visit all mappings of a merged page
 * @folio: the page
 * @rwc: what to do with each
 *
 * The contract is that of mm/rmap.c:rmap_walk().
 *
 * Context: folio lock; may sleep.
 */
void rmap_walk_ksm(struct folio *folio, struct rmap_walk_control *rwc)
{
	struct ksm_stable_node *node;
	struct ksm_rmap_item *item;
	bool origin_is_listed = false;

	/*
	 * Whoever saw no need to lock the page, as it was an ordinary one then,
	 * finds no node: see ksm_folio_claim().
	 */
	node = ksm_folio_node(folio);
	if (!node || WARN_ON_ONCE(!folio_test_locked(folio)))
		return;
	hlist_for_each_entry(item, &node->items, link) {
		cond_resched();
		if (!walk_item(folio, item, true, rwc))
			return;
		origin_is_listed |= is_origin(node, item);
	}
	if (!origin_is_listed &&
	    !walk_offset(folio, node->anon_vma, node->pgoff, NULL, false, rwc))
		return;
	hlist_for_each_entry(item, &node->items, link) {
		cond_resched();
		if (!walk_item(folio, item, false, rwc))
			return;
	}
}

#ifdef CONFIG_MEMORY_FAILURE
/* add_to_kill_ksm() sees to it that a process is reported but once */
static void collect_task(struct task_struct *task, struct page *page,
			 struct anon_vma *anon_vma, pgoff_t pgoff,
			 struct list_head *to_kill)
{
	struct anon_vma_chain *avc;

	anon_vma_interval_tree_foreach(avc, &anon_vma->rb_root, pgoff, pgoff) {
		struct vm_area_struct *vma = avc->vma;
		unsigned long addr = vma_address(vma, pgoff, 1);

		if (vma->vm_mm == task->mm && addr != -EFAULT &&
		    ksm_vma_maps(vma, addr, page_folio(page)))
			add_to_kill_ksm(task, page, vma, to_kill, addr);
	}
}

static void collect_offset(struct page *page, struct anon_vma *anon_vma,
			   pgoff_t pgoff, struct list_head *to_kill,
			   int force_early)
{
	struct task_struct *leader, *task;
	u64 since;

	anon_vma_lock_read(anon_vma);
	since = ksm_held_begin();
	rcu_read_lock();
	for_each_process(leader) {
		task = task_early_kill(leader, force_early);
		if (task)
			collect_task(task, page, anon_vma, pgoff, to_kill);
	}
	rcu_read_unlock();
	anon_vma_unlock_read(anon_vma);
	ksm_held_end(KSM_HELD_ANON_VMA, since);
}

/**
 * collect_procs_ksm - find the processes that map a merged page gone bad
 * @folio: the page
 * @page: the same
 * @to_kill: the list to add them to
 * @force_early: whether to report those that did not ask for it, too
 *
 * The contract is that of mm/memory-failure.c:collect_procs().
 *
 * Context: folio lock; the walk over the processes must not sleep.
 */
void collect_procs_ksm(struct folio *folio, struct page *page,
		       struct list_head *to_kill, int force_early)
{
	struct ksm_stable_node *node = ksm_folio_node(folio);
	struct ksm_rmap_item *item;

	if (!node)
		return;
	collect_offset(page, node->anon_vma, node->pgoff, to_kill, force_early);
	hlist_for_each_entry(item, &node->items, link) {
		if (!is_origin(node, item))
			collect_offset(page, item->anon_vma, item->pgoff,
				       to_kill, force_early);
	}
}
#endif /* CONFIG_MEMORY_FAILURE */

#ifdef CONFIG_MIGRATION
/**
 * folio_migrate_ksm - a merged page migrates: take its node along
 * @newfolio: to here; its mapping is set already
 * @folio: from here
 *
 * Called by mm/migrate.c:folio_migrate_flags() before the old page loses
 * PG_swapcache; identity.c says why.
 *
 * Context: both folio locks.
 */
void folio_migrate_ksm(struct folio *newfolio, struct folio *folio)
{
	ksm_folio_moved(newfolio, folio);
}
#endif

/* May a page from the swap cache be mapped here as it is? */
static bool fits(struct folio *folio, struct vm_area_struct *vma,
		 unsigned long addr)
{
	struct anon_vma *anon_vma;

	if (folio_test_large(folio))
		return true;
	/*
	 * A merged page finds its mappings by its node; but not in an area that
	 * was taken back while the page was in swap, or when all shall go.
	 */
	if (folio_test_ksm(folio))
		return ksm_folio_node(folio) &&
		       (vma->vm_flags & VM_MERGEABLE) &&
		       READ_ONCE(ksm_knobs.run) != KSM_RUN_UNMERGE;
	/* Any other by its anon_vma and index, if it ever had them */
	anon_vma = folio_anon_vma(folio);
	return !anon_vma ||
	       (folio->index == linear_page_index(vma, addr) &&
		anon_vma->root == vma->anon_vma->root);
}

static struct folio *copy_for(struct folio *folio, struct vm_area_struct *vma,
			      unsigned long addr)
{
	struct folio *copy;

	copy = vma_alloc_folio(GFP_HIGHUSER_MOVABLE, 0, vma, addr, false);
	if (!copy)
		return NULL;
	if (mem_cgroup_charge(copy, vma->vm_mm, GFP_KERNEL)) {
		folio_put(copy);
		return NULL;
	}
	if (copy_mc_user_highpage(folio_page(copy, 0), folio_page(folio, 0),
				  addr, vma)) {
		folio_put(copy);
		return ERR_PTR(-EHWPOISON);
	}
	folio_set_dirty(copy);
	__folio_mark_uptodate(copy);
	__folio_set_locked(copy);
#ifdef CONFIG_SWAP
	count_vm_event(KSM_SWPIN_COPY);
#endif
	return copy;
}

/**
 * ksm_might_need_to_copy - the page to map for one found in the swap cache
 * @folio: what was found
 * @vma: the area it is wanted in
 * @addr: and where
 *
 * What was merged before it went to swap may be wanted in areas that have no
 * anon_vma in common, or at other offsets; mapped there as an ordinary page,
 * the reverse walk would not find it.  Each of them gets its own copy.  ksmd
 * will merge them again.
 *
 * Context: folio lock and a reference; mmap_lock or the lock of @vma.
 * Return: @folio if it can be mapped; else a copy, locked, not yet on the LRU;
 *	NULL if there is no memory; ERR_PTR(-EHWPOISON) if it cannot be read.
 */
struct folio *ksm_might_need_to_copy(struct folio *folio,
				     struct vm_area_struct *vma,
				     unsigned long addr)
{
	if (fits(folio, vma, addr))
		return folio;
	if (PageHWPoison(folio_page(folio, 0)))
		return ERR_PTR(-EHWPOISON);
	/* A failed read is the caller's to report */
	if (!folio_test_uptodate(folio))
		return folio;
	return copy_for(folio, vma, addr);
}
