// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of which page a stable node has (identity.c), on pages that no process
 * maps.
 */
#include <linux/page-flags.h>
#include <linux/pagemap.h>
#include "../../internal.h"
#include "helpers.h"

static struct ksm_stable_node *node_on(struct page *page)
{
	struct ksm_stable_node *node;

	node = ksm_stable_node_alloc(ksm_digest_page(page), GFP_KERNEL);
	if (node) {
		node->pfn = page_to_pfn(page);
		ksm_folio_attach(page_folio(page), node);
	}
	return node;
}

static void attach_and_detach(struct kunit *test)
{
	struct page *page = ksm_kunit_page(test, NUMA_NO_NODE, 1);
	struct folio *folio = page_folio(page), *got = NULL;
	struct ksm_stable_node *node;

	ksm_scan_lock();
	KUNIT_EXPECT_NULL(test, ksm_folio_node(folio));
	node = node_on(page);
	KUNIT_EXPECT_NOT_NULL(test, node);
	if (!node)
		goto out;
	KUNIT_EXPECT_TRUE(test, folio_test_ksm(folio));
	KUNIT_EXPECT_PTR_EQ(test, ksm_folio_node(folio), node);
	KUNIT_EXPECT_TRUE(test, ksm_node_alive(node));
	KUNIT_EXPECT_EQ(test, ksm_node_grab(node, KSM_LOCK_NONE, &got), 0);
	KUNIT_EXPECT_PTR_EQ(test, got, folio);
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 2);
	folio_put(got);

	/* Half a KSM page: it has the type, and no node (B36) */
	ksm_folio_detach(folio);
	KUNIT_EXPECT_TRUE(test, folio_test_ksm(folio));
	KUNIT_EXPECT_NULL(test, ksm_folio_node(folio));
	KUNIT_EXPECT_FALSE(test, ksm_node_alive(node));
	KUNIT_EXPECT_EQ(test, ksm_node_grab(node, KSM_LOCK_NONE, &got),
			-ESTALE);
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);
	ksm_stable_node_free(node);
out:
	ksm_scan_unlock();
}

static void grab_and_lock(struct kunit *test)
{
	struct page *page = ksm_kunit_page(test, NUMA_NO_NODE, 1);
	struct folio *folio = page_folio(page), *got = NULL;
	struct ksm_stable_node *node;

	ksm_scan_lock();
	node = node_on(page);
	KUNIT_EXPECT_NOT_NULL(test, node);
	if (!node)
		goto out;
	KUNIT_EXPECT_EQ(test, ksm_node_grab(node, KSM_LOCK_TRY, &got), 0);
	KUNIT_EXPECT_TRUE(test, folio_test_locked(folio));
	/* B29: whoever only tries does not wait for a locked page */
	KUNIT_EXPECT_EQ(test, ksm_node_grab(node, KSM_LOCK_TRY, &got), -EBUSY);
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 2);
	KUNIT_EXPECT_EQ(test, ksm_node_grab(node, KSM_LOCK_NONE, &got), 0);
	folio_put(folio);
	folio_unlock(folio);
	folio_put(folio);

	KUNIT_EXPECT_EQ(test, ksm_node_grab(node, KSM_LOCK_WAIT, &got), 0);
	KUNIT_EXPECT_TRUE(test, folio_test_locked(folio));
	folio_unlock(folio);
	folio_put(folio);
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);
	ksm_folio_detach(folio);
	ksm_stable_node_free(node);
out:
	ksm_scan_unlock();
}

/*
 * Reclaim and migration freeze the references of a page in the swap cache for
 * a moment; it may come back.  Any other page without references has gone.
 * Nobody spins for ever (B40).
 */
static void grab_frozen(struct kunit *test)
{
	struct page *page = ksm_kunit_page(test, NUMA_NO_NODE, 1);
	struct folio *folio = page_folio(page), *got = NULL;
	struct ksm_stable_node *node;

	ksm_scan_lock();
	node = node_on(page);
	KUNIT_EXPECT_NOT_NULL(test, node);
	if (!node)
		goto out;
	KUNIT_EXPECT_TRUE(test, folio_ref_freeze(folio, 1));
	KUNIT_EXPECT_EQ(test, ksm_node_grab(node, KSM_LOCK_NONE, &got),
			-ESTALE);

	__folio_set_swapbacked(folio);
	folio_set_swapcache(folio);
	KUNIT_EXPECT_EQ(test, ksm_node_grab(node, KSM_LOCK_NONE, &got),
			-EBUSY);
	KUNIT_EXPECT_EQ(test, ksm_node_compare(node, page), KSM_BUSY);
	folio_ref_unfreeze(folio, 1);
	KUNIT_EXPECT_EQ(test, ksm_node_grab(node, KSM_LOCK_NONE, &got), 0);
	folio_put(folio);

	folio_clear_swapcache(folio);
	__folio_clear_swapbacked(folio);
	ksm_folio_detach(folio);
	ksm_stable_node_free(node);
out:
	ksm_scan_unlock();
}

/* The frame was freed, and belongs to somebody else now */
static void frame_of_another(struct kunit *test)
{
	struct page *page = ksm_kunit_page(test, NUMA_NO_NODE, 1);
	struct folio *folio = page_folio(page), *got = NULL;
	struct ksm_stable_node *node, *other;

	ksm_scan_lock();
	other = node_on(page);
	node = node_on(page);
	KUNIT_EXPECT_NOT_NULL(test, node);
	KUNIT_EXPECT_NOT_NULL(test, other);
	if (node && other) {
		KUNIT_EXPECT_EQ(test, ksm_node_grab(other, KSM_LOCK_NONE, &got),
				-ESTALE);
		KUNIT_EXPECT_FALSE(test, ksm_node_alive(other));
		KUNIT_EXPECT_EQ(test, ksm_node_compare(other, page), KSM_GONE);
		KUNIT_EXPECT_EQ(test, ksm_node_grab(node, KSM_LOCK_NONE, &got),
				0);
		folio_put(folio);
		folio->mapping = NULL;
		KUNIT_EXPECT_EQ(test, ksm_node_grab(node, KSM_LOCK_WAIT, &got),
				-ESTALE);
		KUNIT_EXPECT_FALSE(test, folio_test_locked(folio));
	}
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);
	folio->mapping = NULL;
	ksm_stable_node_free(node);
	ksm_stable_node_free(other);
	ksm_scan_unlock();
}

/* As the migration core does it: the mapping first, then the flags */
static void node_moves_along(struct kunit *test)
{
	struct page *page = ksm_kunit_page(test, NUMA_NO_NODE, 1);
	struct page *target = ksm_kunit_page(test, NUMA_NO_NODE, 1);
	struct folio *from = page_folio(page), *to = page_folio(target);
	struct folio *got = NULL;
	struct ksm_stable_node *node;

	ksm_scan_lock();
	node = node_on(page);
	KUNIT_EXPECT_NOT_NULL(test, node);
	if (!node)
		goto out;
	folio_lock(from);
	folio_lock(to);
	to->mapping = from->mapping;
	ksm_folio_moved(to, from);
	folio_unlock(to);
	folio_unlock(from);

	KUNIT_EXPECT_EQ(test, node->pfn, page_to_pfn(target));
	KUNIT_EXPECT_NULL(test, ksm_folio_node(from));
	KUNIT_EXPECT_PTR_EQ(test, ksm_folio_node(to), node);
	KUNIT_EXPECT_TRUE(test, ksm_node_alive(node));
	KUNIT_EXPECT_EQ(test, ksm_node_grab(node, KSM_LOCK_TRY, &got), 0);
	KUNIT_EXPECT_PTR_EQ(test, got, to);
	folio_unlock(to);
	folio_put(to);

	/* One that has lost its node takes nothing along */
	ksm_folio_moved(to, from);
	KUNIT_EXPECT_PTR_EQ(test, ksm_folio_node(to), node);
	ksm_folio_detach(to);
	ksm_stable_node_free(node);
out:
	ksm_scan_unlock();
}

static void compare_orders_pages(struct kunit *test)
{
	struct page *page = ksm_kunit_page(test, NUMA_NO_NODE, 5);
	struct page *equal = ksm_kunit_page(test, NUMA_NO_NODE, 5);
	struct page *less = ksm_kunit_page(test, NUMA_NO_NODE, 5);
	struct page *more = ksm_kunit_page(test, NUMA_NO_NODE, 5);
	struct folio *folio = page_folio(page);
	struct ksm_stable_node *node;

	((u8 *)page_address(less))[PAGE_SIZE - 1] = 4;
	((u8 *)page_address(more))[PAGE_SIZE - 1] = 6;
	ksm_scan_lock();
	node = node_on(page);
	KUNIT_EXPECT_NOT_NULL(test, node);
	if (!node)
		goto out;
	KUNIT_EXPECT_EQ(test, ksm_node_compare(node, equal), KSM_SAME);
	KUNIT_EXPECT_EQ(test, ksm_node_compare(node, less), KSM_BEFORE);
	KUNIT_EXPECT_EQ(test, ksm_node_compare(node, more), KSM_AFTER);
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);
	ksm_folio_detach(folio);
	KUNIT_EXPECT_EQ(test, ksm_node_compare(node, equal), KSM_GONE);
	ksm_stable_node_free(node);
out:
	ksm_scan_unlock();
}

#ifdef CONFIG_MEMORY_FAILURE
/* B130: nobody joins a page that went bad, or reads it; its node lets it go */
static void poisoned_page(struct kunit *test)
{
	struct page *page = ksm_kunit_page(test, NUMA_NO_NODE, 5);
	struct page *equal = ksm_kunit_page(test, NUMA_NO_NODE, 5);
	struct folio *folio = page_folio(page);
	struct ksm_stable_node *node;

	ksm_scan_lock();
	node = node_on(page);
	KUNIT_EXPECT_NOT_NULL(test, node);
	if (!node)
		goto out;
	KUNIT_EXPECT_FALSE(test, ksm_node_part_poisoned(node));
	SetPageHWPoison(page);
	folio_lock(folio);
	KUNIT_EXPECT_EQ(test, ksm_node_compare(node, equal), KSM_BUSY);
	KUNIT_EXPECT_FALSE(test, ksm_node_part_poisoned(node));
	KUNIT_EXPECT_TRUE(test, ksm_node_alive(node));
	folio_unlock(folio);
	KUNIT_EXPECT_EQ(test, ksm_node_compare(node, equal), KSM_GONE);
	KUNIT_EXPECT_FALSE(test, ksm_node_alive(node));
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);
	ClearPageHWPoison(page);
	ksm_stable_node_free(node);
out:
	ksm_scan_unlock();
}
#endif

static struct kunit_case identity_cases[] = {
	KUNIT_CASE(attach_and_detach),
	KUNIT_CASE(grab_and_lock),
	KUNIT_CASE(grab_frozen),
	KUNIT_CASE(frame_of_another),
	KUNIT_CASE(node_moves_along),
	KUNIT_CASE(compare_orders_pages),
#ifdef CONFIG_MEMORY_FAILURE
	KUNIT_CASE(poisoned_page),
#endif
	{}
};

static struct kunit_suite identity_suite = {
	.name = "ksm_identity",
	.init = ksm_kunit_init,
	.test_cases = identity_cases,
};

kunit_test_suite(identity_suite);
