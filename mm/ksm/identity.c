// SPDX-License-Identifier: GPL-2.0
/*
 * Which stable node a merged page belongs to, and back.
 *
 * The page points to its node: folio->mapping holds the node's address and
 * PAGE_MAPPING_KSM.  The node names the page's frame, but takes no reference
 * to it: otherwise a page that its last user unmapped, or that reclaim wants,
 * would stay until ksmd came along.  So the frame a node names may have been
 * freed, and have become anything else.
 *
 * What makes it safe to look: a page frame always has a struct page (hotplug.c
 * sees to that; merged pages never go to the memory of a device, whose frames
 * may lose theirs unheard), and folio->mapping of an anonymous page is cleared
 * only when it is freed (mm/page_alloc.c:free_pages_prepare()).  No other owner
 * of a page ever stores the address of a live stable node there.  Hence, if
 * mapping holds this node while we hold a reference, it is our page, and its
 * contents are those it was merged with.
 *
 * Two things get in the way for a moment:
 *  - Reclaim (mm/vmscan.c:__remove_mapping()) and migration
 *    (mm/migrate.c:__folio_migrate_mapping()) freeze the reference count of a
 *    page in the swap cache at 0.  A page that cannot be referenced and is in
 *    the swap cache may come back; without the swap cache it is being freed.
 *  - Migration moves the node to another page: ksm_folio_moved() below.
 *
 * Barriers.  Migration: [A] write node->pfn, smp_wmb, [B] old mapping changes,
 * (later) [C] PG_swapcache of the old page is cleared.  ksm_node_grab(): read
 * pfn, then mapping and swapcache; when they say "gone": smp_rmb, read pfn
 * again.  Whoever saw [B] or [C] sees [A] too and starts over with the new
 * page; so a node is never taken for stale because it was just moved.
 */
#include <kunit/static_stub.h>
#include <linux/memremap.h>
#include <linux/pagemap.h>
#include <linux/processor.h>
#include "internal.h"

/*
 * How often to look again for a page whose reference count is frozen.  The
 * freezer runs for well under a microsecond, but it may have been preempted
 * by us.
 */
#define FROZEN_TRIES	100

static void *node_mapping(const struct ksm_stable_node *node)
{
	return (void *)((unsigned long)node | PAGE_MAPPING_KSM);
}

/**
 * ksm_folio_node - the stable node of a merged page
 * @folio: the page
 *
 * Context: the folio lock keeps the answer true.
 * Return: the node; NULL if it has lost it, or is no merged page.
 */
struct ksm_stable_node *ksm_folio_node(const struct folio *folio)
{
	if (!folio_test_ksm(folio))
		return NULL;
	return (void *)((unsigned long)READ_ONCE(folio->mapping) &
			~PAGE_MAPPING_FLAGS);
}

/**
 * ksm_folio_claim - make an anonymous page a merged one without a node
 * @folio: the page, small and anonymous
 *
 * To be followed by ksm_folio_attach() or ksm_folio_revert().  Reverse walks
 * find nothing meanwhile.
 *
 * Context: folio lock, and the lock of the page table that maps it with the
 *	PTE taken out, as mm/rmap.c and mm/memory.c rely on either to see the
 *	change (contract: folio_add_anon_rmap_ptes()).
 * Return: what ksm_folio_revert() needs.
 */
void *ksm_folio_claim(struct folio *folio)
{
	void *mapping = folio->mapping;

	KUNIT_STATIC_STUB_REDIRECT(ksm_folio_claim, folio);

	ksm_folio_detach(folio);
	/*
	 * folio_referenced() and its like lock KSM pages only, and ask after
	 * they took a reference: whoever does so from now on sees a KSM page.
	 * Pairs with the full barrier in folio_try_get().
	 */
	smp_mb();
	return mapping;
}

/**
 * ksm_folio_revert - ksm_folio_claim() was too early
 * @folio: the page
 * @mapping: what ksm_folio_claim() returned
 *
 * Context: as there, with the locks held since.
 */
void ksm_folio_revert(struct folio *folio, void *mapping)
{
	WRITE_ONCE(folio->mapping, mapping);
}

/**
 * ksm_folio_attach - give a merged page its node
 * @folio: the page, after ksm_folio_claim()
 * @node: the node, which names its frame
 *
 * Nobody may have a reference from before ksm_folio_claim(): he would walk the
 * node without the folio lock.
 *
 * Context: folio lock.
 */
void ksm_folio_attach(struct folio *folio, struct ksm_stable_node *node)
{
	/* PageKsm() is asked without locks; the node is complete by then */
	smp_store_release(&folio->mapping, node_mapping(node));
}

/**
 * ksm_folio_detach - take a merged page's node away
 * @folio: the page
 *
 * It stays a KSM page, which must not be mapped any more: one left in the swap
 * cache is copied by ksm_might_need_to_copy() when it is wanted again.
 *
 * Context: folio lock.
 */
void ksm_folio_detach(struct folio *folio)
{
	WRITE_ONCE(folio->mapping, (void *)PAGE_MAPPING_KSM);
}

/**
 * ksm_folio_moved - a merged page migrates
 * @newfolio: to here; its mapping is set already
 * @folio: from here
 *
 * Context: both folio locks.
 */
void ksm_folio_moved(struct folio *newfolio, struct folio *folio)
{
	struct ksm_stable_node *node = ksm_folio_node(folio);

	if (!node)
		return;
	/*
	 * Who sees the new frame sees its mapping, too; pairs with the address
	 * dependency in grab_pfn(), which looks there.
	 */
	smp_store_release(&node->pfn, folio_pfn(newfolio));
	/* [A] before [B]: pairs with the smp_rmb() in ksm_node_grab() */
	smp_wmb();
	ksm_folio_detach(folio);
}

static int lock_grabbed(struct folio *folio, enum ksm_lock_mode mode)
{
	if (mode == KSM_LOCK_WAIT)
		folio_lock(folio);
	else if (mode == KSM_LOCK_TRY && !folio_trylock(folio))
		return -EBUSY;
	return 0;
}

/* One look: 0, -EBUSY, -ESTALE, or -EAGAIN if the page is frozen */
static int grab_pfn(struct ksm_stable_node *node, unsigned long pfn,
		    enum ksm_lock_mode mode, struct folio **foliop)
{
	struct folio *folio = pfn_folio(pfn);
	void *mapping = node_mapping(node);

	if (READ_ONCE(folio->mapping) != mapping)
		return -ESTALE;
	if (!folio_try_get(folio))
		/* While it is freed its flags change, but not this one */
		return data_race(folio_test_swapcache(folio)) ? -EAGAIN :
								-ESTALE;
	if (READ_ONCE(folio->mapping) != mapping) {
		folio_put(folio);
		return -ESTALE;
	}
	if (lock_grabbed(folio, mode)) {
		folio_put(folio);
		return -EBUSY;
	}
	/* It may have migrated before we had the lock */
	if (mode != KSM_LOCK_NONE && READ_ONCE(folio->mapping) != mapping) {
		folio_unlock(folio);
		folio_put(folio);
		return -ESTALE;
	}
	*foliop = folio;
	return 0;
}

/**
 * ksm_node_grab - get the page of a stable node
 * @node: the node
 * @mode: whether to lock the page as well
 * @foliop: where to put the page, referenced and perhaps locked
 *
 * Context: scan mutex, which keeps the node; may sleep for KSM_LOCK_WAIT.
 * Return: 0; -ESTALE if the page has gone; -EBUSY if it cannot be had now.
 */
int ksm_node_grab(struct ksm_stable_node *node, enum ksm_lock_mode mode,
		  struct folio **foliop)
{
	int tries = FROZEN_TRIES;
	int err;

	lockdep_assert_held(&ksm_scan_mutex);
	do {
		unsigned long pfn = READ_ONCE(node->pfn);

		err = grab_pfn(node, pfn, mode, foliop);
		if (err == -ESTALE) {
			/* Pairs with the smp_wmb() in ksm_folio_moved() */
			smp_rmb();
			if (READ_ONCE(node->pfn) == pfn)
				return -ESTALE;
			err = -EAGAIN;
		}
		if (err != -EAGAIN)
			return err;
		cpu_relax();
	} while (--tries);
	return -EBUSY;
}

/**
 * ksm_node_alive - does a stable node still have its page?
 * @node: the node
 *
 * A cheaper question than ksm_node_grab(): one look at the struct page.
 *
 * Context: scan mutex, which keeps the node.
 * Return: false if the page has gone for good; true if it is there, or was
 *	until just now.
 */
bool ksm_node_alive(struct ksm_stable_node *node)
{
	unsigned long pfn, again = READ_ONCE(node->pfn);

	lockdep_assert_held(&ksm_scan_mutex);
	do {
		pfn = again;
		if (READ_ONCE(pfn_folio(pfn)->mapping) == node_mapping(node))
			return true;
		/* Pairs with the smp_wmb() in ksm_folio_moved() */
		smp_rmb();
		again = READ_ONCE(node->pfn);
	} while (again != pfn);
	return false;
}

/**
 * ksm_node_part_poisoned - part a node from a page that has gone bad
 * @node: the node
 *
 * Memory failure unmaps such a page, but keeps it.
 *
 * Context: scan mutex; may be called under mmap_lock.
 * Return: true if the node has no page any more; false if its page is well,
 *	or is mapped or locked still.
 */
bool ksm_node_part_poisoned(struct ksm_stable_node *node)
{
	struct folio *folio;
	bool parted = false;

	if (ksm_node_grab(node, KSM_LOCK_TRY, &folio))
		return false;
	if (folio_test_hwpoison(folio) && !folio_mapped(folio)) {
		ksm_folio_detach(folio);
		parted = true;
	}
	folio_unlock(folio);
	folio_put(folio);
	return parted;
}

/**
 * ksm_node_compare - compare a page with the page of a stable node
 * @node: the node
 * @arg: the page, referenced by the caller: a ksm_compare_fn
 *
 * Context: scan mutex.
 * Return: see enum ksm_order.
 */
enum ksm_order ksm_node_compare(struct ksm_stable_node *node, void *arg)
{
	struct folio *folio;
	int order;

	switch (ksm_node_grab(node, KSM_LOCK_NONE, &folio)) {
	case 0:
		break;
	case -ESTALE:
		return KSM_GONE;
	default:
		return KSM_BUSY;
	}
	/* Memory of a device, where migration took it, is not ours to read */
	if (folio_is_zone_device(folio)) {
		folio_put(folio);
		return KSM_BUSY;
	}
	if (folio_test_hwpoison(folio)) {
		/* Not to be read.  No more than one can be in the way. */
		folio_put(folio);
		return ksm_node_part_poisoned(node) ? KSM_GONE : KSM_BUSY;
	}
	order = ksm_page_cmp(arg, folio_page(folio, 0));
	folio_put(folio);
	if (!order)
		return KSM_SAME;
	return order < 0 ? KSM_BEFORE : KSM_AFTER;
}

/**
 * ksm_node_guess - as ksm_node_compare(), but by the digest if that will do
 * @node: the node, which has the page's digest
 * @arg: the page, referenced by the caller: a ksm_compare_fn
 *
 * For a caller that will compare all bytes when it merges the two, and deals
 * with it if they differ.
 *
 * Context: scan mutex.
 * Return: see enum ksm_order.
 */
enum ksm_order ksm_node_guess(struct ksm_stable_node *node, void *arg)
{
	if (ksm_node_crowded(node) || !ksm_node_alive(node) ||
	    PageHWPoison(pfn_to_page(READ_ONCE(node->pfn))))
		return ksm_node_compare(node, arg);
	return KSM_SAME;
}
