// SPDX-License-Identifier: GPL-2.0
/*
 * The registered mms, and how KSM and an exiting mm keep out of each other's
 * way.
 *
 * Entries are on one list.  The scanner and the unmerger each have a cursor,
 * which is a link in that list without an mm: an entry that leaves never has
 * to look for cursors pointing to it.  Between two passes a cursor is not on
 * the list.  A new mm goes just behind the scanner's cursor, so that it is
 * looked at last: a child that is about to exec should be left alone.  Between
 * passes, it goes to the end.  So it does while an unmerge is under way, as
 * the unmerger must come by: or a child forked meanwhile would keep its pages.
 *
 * The life of an entry.  ksm_registry_add() makes it.  ksm_registry_exit()
 * marks it @exiting, takes it off the list, and waits until it is not @busy;
 * after that KSM does not touch the page tables any more.  Who works on them
 * (ksm_mm_begin()) takes mmap_lock first, then makes the entry busy, unless
 * it is exiting.  The exit waits for nothing else: neither mmap_lock, which
 * fork, exec and madvise hold when they come here, nor the scan mutex, whose
 * holder may wait for memory that the exiting task is to free.  exec's error
 * path comes with mmap_lock held for write: nobody can be busy then.
 *
 * KSM does not take mm_users, or ksmd would end up running exit_mmap().  The
 * entry holds mm_count, for mmap_lock and the counters in the mm.
 *
 * An entry that KSM never looked at is freed by exit.  Any other is put on
 * the list of the dead, and freed under the scan mutex (reap.c),
 * after its records and items.
 */
#include <linux/hashtable.h>
#include <linux/sched/coredump.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/wait.h>
#include "internal.h"
#include <trace/events/ksm.h>

#define HASH_BITS_MMS	10

static DEFINE_SPINLOCK(registry_lock);
static DECLARE_WAIT_QUEUE_HEAD(idle_wait);
static DEFINE_HASHTABLE(registry_hash, HASH_BITS_MMS);	/* R */
static LIST_HEAD(registry);				/* R: live mms, cursors */
static LIST_HEAD(dead);					/* R */
static unsigned long nr_live;				/* R */
static bool unmerging;					/* R */
static struct mm_slot cursors[KSM_NR_CURSORS];		/* R; mm is NULL */
static struct ksm_mm *current_owner[KSM_NR_CURSORS];	/* S */
static LIST_HEAD(visited_mms);				/* S */
static atomic_long_t nr_entries = ATOMIC_LONG_INIT(0);	/* live or dead */
static struct kmem_cache *mm_cache;

static struct ksm_mm *slot_owner(struct mm_slot *slot)
{
	return mm_slot_entry(slot, struct ksm_mm, slot);
}

static struct ksm_mm *lookup(struct mm_struct *mm)
{
	struct mm_slot *slot;

	lockdep_assert_held(&registry_lock);
	slot = mm_slot_lookup(registry_hash, mm);
	return slot ? slot_owner(slot) : NULL;
}

static void unlink_live(struct ksm_mm *owner)
{
	lockdep_assert_held(&registry_lock);
	hash_del(&owner->slot.hash);
	list_del_init(&owner->slot.mm_node);
	WRITE_ONCE(nr_live, nr_live - 1);
}

static void free_entry(struct ksm_mm *owner)
{
	mmdrop(owner->slot.mm);
	mm_slot_free(mm_cache, owner);
	atomic_long_dec(&nr_entries);
}

/**
 * ksm_registry_add - register an mm
 * @mm: the mm, not registered
 *
 * Context: process; mmap_lock of @mm held for write, or the mm not yet used.
 * Return: 0 or -ENOMEM.
 */
int ksm_registry_add(struct mm_struct *mm)
{
	struct list_head *place;
	struct ksm_mm *owner;
	struct mm_slot *slot;
	bool first;

	owner = mm_slot_alloc(mm_cache);
	if (!owner)
		return -ENOMEM;
	atomic_long_inc(&nr_entries);
	owner->blocks = RB_ROOT;
	INIT_LIST_HEAD(&owner->groups);
	slot = &owner->slot;
	mmgrab(mm);

	spin_lock(&registry_lock);
	mm_slot_insert(registry_hash, mm, slot);
	place = &cursors[KSM_CURSOR_SCAN].mm_node;
	if (unmerging || list_empty(place))
		place = &registry;
	list_add_tail(&slot->mm_node, place);
	first = nr_live == 0;
	WRITE_ONCE(nr_live, nr_live + 1);
	set_bit(MMF_VM_MERGEABLE, &mm->flags);
	spin_unlock(&registry_lock);

	/* Decided under the lock: the last other mm may just have left */
	if (first)
		ksm_wake();
	trace_ksm_enter(mm);
	return 0;
}

static bool is_idle(struct ksm_mm *owner)
{
	bool idle;

	spin_lock(&registry_lock);
	idle = !owner->busy;
	spin_unlock(&registry_lock);
	return idle;
}

/**
 * ksm_registry_exit - an mm is about to lose its page tables
 * @mm: the mm
 *
 * Context: process; perhaps with mmap_lock of @mm held for write.  Waits
 *	until KSM is done with the page tables; a batch at most.
 */
void ksm_registry_exit(struct mm_struct *mm)
{
	bool reap = false, release = false;
	struct ksm_mm *owner;

	spin_lock(&registry_lock);
	owner = lookup(mm);
	if (owner) {
		owner->exiting = true;
		unlink_live(owner);
		release = !owner->visited;
		reap = !release;
	}
	spin_unlock(&registry_lock);

	if (release) {
		clear_bit(MMF_VM_MERGEABLE, &mm->flags);
		free_entry(owner);
	} else if (reap) {
		wait_event(idle_wait, is_idle(owner));
		clear_bit(MMF_VM_MERGEABLE, &mm->flags);
		/* Only now: the reaper may free it as soon as it is listed */
		spin_lock(&registry_lock);
		list_add_tail(&owner->slot.mm_node, &dead);
		spin_unlock(&registry_lock);
		ksm_wake();
	}
	trace_ksm_exit(mm);
}

static void mark_visited(struct ksm_mm *owner)
{
	lockdep_assert_held(&registry_lock);
	if (owner && !owner->visited) {
		owner->visited = true;
		list_add(&owner->known, &visited_mms);
	}
}

/**
 * ksm_registry_next - take a cursor to the next mm
 * @which: the cursor
 *
 * The entry is the cursor's current one until it moves on, or the entry is
 * freed.
 *
 * Context: scan mutex.
 * Return: the entry; NULL at the end, the next call begins anew.
 */
struct ksm_mm *ksm_registry_next(enum ksm_cursor which)
{
	struct mm_slot *cursor = &cursors[which];
	struct ksm_mm *owner = NULL;
	struct mm_slot *slot;

	lockdep_assert_held(&ksm_scan_mutex);
	spin_lock(&registry_lock);
	if (list_empty(&cursor->mm_node))
		list_add(&cursor->mm_node, &registry);
	slot = cursor;
	list_for_each_entry_continue(slot, &registry, mm_node) {
		if (slot->mm) {
			owner = slot_owner(slot);
			break;
		}
	}
	mark_visited(owner);
	if (owner)
		list_move(&cursor->mm_node, &owner->slot.mm_node);
	else
		list_del_init(&cursor->mm_node);
	spin_unlock(&registry_lock);
	current_owner[which] = owner;
	return owner;
}

/**
 * ksm_registry_visit - look up an mm, in order to give it a record
 * @mm: the mm
 *
 * Context: scan mutex; @mm may be exiting.
 * Return: its entry, which stays until it is reaped; NULL if it is not
 *	registered, or not any more.
 */
struct ksm_mm *ksm_registry_visit(struct mm_struct *mm)
{
	struct ksm_mm *owner;

	lockdep_assert_held(&ksm_scan_mutex);
	spin_lock(&registry_lock);
	owner = lookup(mm);
	mark_visited(owner);
	spin_unlock(&registry_lock);
	return owner;
}

/**
 * ksm_registry_current - the mm that a cursor came to last
 * @which: the cursor
 *
 * Context: scan mutex.
 * Return: its entry; NULL if there is none, or it has been freed.
 */
struct ksm_mm *ksm_registry_current(enum ksm_cursor which)
{
	lockdep_assert_held(&ksm_scan_mutex);
	return current_owner[which];
}

/**
 * ksm_registry_leave - be done with the mm that a cursor came to last
 * @which: the cursor
 *
 * Context: scan mutex.
 */
void ksm_registry_leave(enum ksm_cursor which)
{
	lockdep_assert_held(&ksm_scan_mutex);
	current_owner[which] = NULL;
}

/**
 * ksm_registry_rewind - take a cursor to the begin
 * @which: the cursor
 * @ahead: from now on, put new mms where this cursor will come by
 *
 * Context: scan mutex.
 */
void ksm_registry_rewind(enum ksm_cursor which, bool ahead)
{
	spin_lock(&registry_lock);
	list_del_init(&cursors[which].mm_node);
	unmerging = ahead;
	spin_unlock(&registry_lock);
	current_owner[which] = NULL;
}

/**
 * ksm_registry_retire - unregister an mm that has no mergeable area any more
 * @owner: its entry, busy
 *
 * MMF_VM_MERGE_ANY stays: the mm may have it from exec and not have mapped
 * anything yet; ksm_add_vma() registers it again.
 *
 * Context: scan mutex, and within ksm_mm_begin(): holding mmap_lock keeps
 *	MADV_MERGEABLE out.  Clearing MMF_VM_MERGEABLE lets ksm_exit() pass, so
 *	nothing may be done to the page tables after this.
 */
void ksm_registry_retire(struct ksm_mm *owner)
{
	mmap_assert_locked(owner->slot.mm);
	spin_lock(&registry_lock);
	if (!owner->exiting) {
		owner->exiting = true;
		unlink_live(owner);
		list_add_tail(&owner->slot.mm_node, &dead);
		clear_bit(MMF_VM_MERGEABLE, &owner->slot.mm->flags);
	}
	spin_unlock(&registry_lock);
}

/**
 * ksm_registry_populated - is any mm registered?
 *
 * Context: any; a hint unless it is used to wait for ksm_wake().
 * Return: true if one is.
 */
bool ksm_registry_populated(void)
{
	return READ_ONCE(nr_live);
}

/**
 * ksm_registry_has_dead - does any exited mm wait to be reaped?
 *
 * Context: any; a hint, as ksm_registry_populated().
 * Return: true if one does.
 */
bool ksm_registry_has_dead(void)
{
	return !list_empty_careful(&dead);
}

/**
 * ksm_registry_dead - an exited mm, to be reaped
 *
 * Goes round, so that one whose pages are locked does not hold up others.
 *
 * Context: scan mutex.
 * Return: its entry, or NULL.
 */
struct ksm_mm *ksm_registry_dead(void)
{
	struct mm_slot *slot;

	lockdep_assert_held(&ksm_scan_mutex);
	spin_lock(&registry_lock);
	slot = list_first_entry_or_null(&dead, struct mm_slot, mm_node);
	if (slot)
		list_move_tail(&slot->mm_node, &dead);
	spin_unlock(&registry_lock);
	return slot ? slot_owner(slot) : NULL;
}

/**
 * ksm_registry_bury - free the entry of an exited mm
 * @owner: the entry, without records and items
 *
 * Context: scan mutex.
 */
void ksm_registry_bury(struct ksm_mm *owner)
{
	int i;

	lockdep_assert_held(&ksm_scan_mutex);
	WARN_ON_ONCE(!list_empty(&owner->groups));
	for (i = 0; i < KSM_NR_CURSORS; i++) {
		if (current_owner[i] == owner)
			current_owner[i] = NULL;
	}
	spin_lock(&registry_lock);
	list_del(&owner->slot.mm_node);
	spin_unlock(&registry_lock);
	list_del(&owner->known);
	free_entry(owner);
}

/**
 * ksm_registry_bytes - memory that the bookkeeping for an mm takes
 * @mm: the mm
 *
 * Context: any.
 * Return: bytes; 0 if it is not registered.
 */
unsigned long ksm_registry_bytes(struct mm_struct *mm)
{
	unsigned long bytes = 0;
	struct ksm_mm *owner;

	spin_lock(&registry_lock);
	owner = lookup(mm);
	if (owner)
		bytes = READ_ONCE(owner->bytes) + sizeof(*owner);
	spin_unlock(&registry_lock);
	return bytes;
}

/**
 * ksm_registry_footprint - memory that the entries of all mms take
 *
 * Context: any.
 * Return: bytes.
 */
unsigned long ksm_registry_footprint(void)
{
	return atomic_long_read(&nr_entries) * sizeof(struct ksm_mm);
}

static u64 mmap_since;		/* S: for ksm_held_end() */

/**
 * ksm_mm_begin - begin to work on an mm's page tables
 * @owner: the mm's entry
 *
 * Context: scan mutex; may sleep.
 * Return: true with mmap_lock held for read; false if the mm exits, or lost
 *	memory to the OOM killer or a failed fork, and must be left alone.
 */
bool ksm_mm_begin(struct ksm_mm *owner)
{
	struct mm_struct *mm = owner->slot.mm;
	bool ok;

	lockdep_assert_held(&ksm_scan_mutex);
	if (READ_ONCE(owner->exiting) || !atomic_read(&mm->mm_users))
		return false;
	mmap_read_lock(mm);
	spin_lock(&registry_lock);
	ok = !owner->exiting && atomic_read(&mm->mm_users) &&
	     !test_bit(MMF_UNSTABLE, &mm->flags);
	owner->busy = ok;
	spin_unlock(&registry_lock);
	if (ok)
		mmap_since = ksm_held_begin();
	else
		mmap_read_unlock(mm);
	return ok;
}

/**
 * ksm_mm_end - end the work on an mm's page tables
 * @owner: the mm's entry
 *
 * Context: within ksm_mm_begin().
 */
void ksm_mm_end(struct ksm_mm *owner)
{
	u64 since = mmap_since;
	bool exiting;

	spin_lock(&registry_lock);
	owner->busy = false;
	exiting = owner->exiting;
	spin_unlock(&registry_lock);
	if (exiting)
		wake_up_all(&idle_wait);
	mmap_read_unlock(owner->slot.mm);
	ksm_held_end(KSM_HELD_MMAP, since);
}

/**
 * ksm_mm_should_end - is it time to let others have the mm?
 * @owner: the mm's entry
 *
 * Context: within ksm_mm_begin().
 * Return: true if it exits, mmap_lock is wanted, or the CPU is.
 */
bool ksm_mm_should_end(struct ksm_mm *owner)
{
	return READ_ONCE(owner->exiting) || need_resched() ||
	       mmap_lock_is_contended(owner->slot.mm);
}

#ifdef CONFIG_KSM_DEBUG
/**
 * ksm_registry_check - recount the records of all mms
 * @sum: where to add what is found
 *
 * Only visited mms have any; an entry leaves that list under the scan mutex.
 *
 * Context: scan mutex; may sleep.
 */
void ksm_registry_check(struct ksm_stats *sum)
{
	struct ksm_mm *owner;

	list_for_each_entry(owner, &visited_mms, known)
		ksm_check_owner(owner, sum);
}
#endif

/**
 * ksm_registry_init - make the cache and place the cursors
 *
 * Context: once, at boot.
 * Return: 0 or -ENOMEM.
 */
int __init ksm_registry_init(void)
{
	int i;

	mm_cache = KMEM_CACHE(ksm_mm, 0);
	if (!mm_cache)
		return -ENOMEM;
	for (i = 0; i < KSM_NR_CURSORS; i++)
		INIT_LIST_HEAD(&cursors[i].mm_node);
	return 0;
}
