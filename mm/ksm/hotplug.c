// SPDX-License-Identifier: GPL-2.0
/*
 * Memory hot-remove: stable nodes must not name frames without a struct page.
 *
 * From MEM_GOING_OFFLINE on, nobody looks at a stable node's page but under
 * its folio lock: ksmd, unmerge and the writers of settings wait in
 * ksm_scan_lock().  The pages themselves migrate away, and take their nodes
 * along.  What is left in the range at MEM_OFFLINE are nodes whose page was
 * freed; they are dropped without a look at it.
 *
 * MEM_CANCEL_OFFLINE may come without MEM_GOING_OFFLINE before it, when an
 * earlier notifier vetoed; a pause more or less does no harm.  The scan mutex
 * is not held from one call to the next: others' locks come in between.
 */
#include <linux/memory.h>
#include "internal.h"

static bool is_leaving(const struct ksm_stable_node *node,
		       const struct memory_notify *range)
{
	unsigned long pfn = READ_ONCE(node->pfn);

	return pfn >= range->start_pfn &&
	       pfn - range->start_pfn < range->nr_pages;
}

static void drop_from_chain(struct ksm_chain *chain,
			    const struct memory_notify *range)
{
	struct ksm_stable_node *node, *next;
	unsigned int left = chain->entry.count;

	list_for_each_entry_safe(node, next, &chain->dups, entry.dup) {
		if (is_leaving(node, range))
			ksm_node_drop(node, UINT_MAX);
		if (--left == 0)	/* the chain may be gone */
			break;
	}
}

static void drop_range(const struct memory_notify *range)
{
	int nid;

	for (nid = 0; nid < nr_node_ids; nid++) {
		struct ksm_entry *entry = ksm_stable_from(nid, 0);

		while (entry) {
			struct ksm_entry *next = ksm_stable_next(entry);

			if (entry->kind == KSM_CHAIN)
				drop_from_chain(ksm_entry_chain(entry), range);
			else if (is_leaving(ksm_entry_node(entry), range))
				ksm_node_drop(ksm_entry_node(entry), UINT_MAX);
			cond_resched();
			entry = next;
		}
	}
}

static int memory_changes(struct notifier_block *nb, unsigned long action,
			  void *arg)
{
	switch (action) {
	case MEM_GOING_OFFLINE:
		ksm_pause(true);
		break;
	case MEM_OFFLINE:
		/* Not ksm_scan_lock(): it is we who make others wait there */
		mutex_lock(&ksm_scan_mutex);
		drop_range(arg);
		mutex_unlock(&ksm_scan_mutex);
		fallthrough;
	case MEM_CANCEL_OFFLINE:
		ksm_pause(false);
		break;
	}
	return NOTIFY_OK;
}

/**
 * ksm_hotplug_init - listen for memory that goes away
 *
 * Context: once, at boot.
 * Return: 0 or an error of the notifier chain.
 */
int __init ksm_hotplug_init(void)
{
	return hotplug_memory_notifier(memory_changes, KSM_CALLBACK_PRI);
}
