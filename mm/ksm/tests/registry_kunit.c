// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the registered mms (registry.c): cursors among entries that come
 * and go, and the handshake with an exit.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/mmap_lock.h>
#include <linux/sched/coredump.h>
#include <linux/sched/mm.h>
#include "helpers.h"

#define MMS	5

/* Some mms with a count that a test may look at after they have exited */
struct crowd {
	struct mm_struct *mm[MMS];
	int		grabs[MMS];
	bool		gone[MMS];
};

static void drop_action(void *arg)
{
	mmdrop(arg);
}

static struct crowd *crowd_begin(struct kunit *test)
{
	struct crowd *crowd = kunit_kzalloc(test, sizeof(*crowd), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, crowd);
	for (i = 0; i < MMS; i++) {
		crowd->mm[i] = ksm_kunit_mm(test);
		mmgrab(crowd->mm[i]);
		KUNIT_ASSERT_EQ(test, 0,
				kunit_add_action_or_reset(test, drop_action,
							  crowd->mm[i]));
		crowd->grabs[i] = atomic_read(&crowd->mm[i]->mm_count);
	}
	ksm_scan_lock();
	ksm_registry_rewind(KSM_CURSOR_SCAN, false);
	ksm_registry_rewind(KSM_CURSOR_UNMERGE, false);
	return crowd;
}

static void expect_no_dead(struct kunit *test)
{
	while (ksm_registry_has_dead())
		ksm_reap(1);
	KUNIT_EXPECT_NULL(test, ksm_registry_dead());
}

static void leave(struct crowd *crowd, unsigned int i)
{
	crowd->gone[i] = true;
	if (test_bit(MMF_VM_MERGEABLE, &crowd->mm[i]->flags))
		ksm_registry_exit(crowd->mm[i]);
}

static void crowd_end(struct kunit *test, struct crowd *crowd)
{
	unsigned int i;

	for (i = 0; i < MMS; i++) {
		if (!crowd->gone[i])
			leave(crowd, i);
	}
	expect_no_dead(test);
	KUNIT_EXPECT_FALSE(test, ksm_registry_populated());
	KUNIT_EXPECT_NULL(test, ksm_registry_next(KSM_CURSOR_SCAN));
	KUNIT_EXPECT_NULL(test, ksm_registry_next(KSM_CURSOR_UNMERGE));
	/* B04, B06: all references given back, and none given back twice */
	for (i = 0; i < MMS; i++)
		KUNIT_EXPECT_EQ(test, atomic_read(&crowd->mm[i]->mm_count),
				crowd->grabs[i]);
	ksm_scan_unlock();
}

static void add(struct kunit *test, struct crowd *crowd, unsigned int first,
		unsigned int count)
{
	while (count--)
		KUNIT_EXPECT_EQ(test, 0,
				ksm_registry_add(crowd->mm[first++]));
}

/* Which of the crowd comes next: its number, MMS at the end, more if strange */
static unsigned int next(struct crowd *crowd, enum ksm_cursor which)
{
	struct ksm_mm *owner = ksm_registry_next(which);
	unsigned int i;

	if (!owner)
		return MMS;
	for (i = 0; i < MMS; i++) {
		if (owner->slot.mm == crowd->mm[i])
			return i;
	}
	return MMS + 1;
}

/* Bits of all that come by from now on; bit MMS + 1 if any comes twice */
static unsigned long rest_of_pass(struct crowd *crowd, enum ksm_cursor which)
{
	unsigned long seen = 0;
	unsigned int i;

	while ((i = next(crowd, which)) != MMS) {
		if (__test_and_set_bit(i, &seen))
			return seen | BIT(MMS + 1);
	}
	return seen;
}

/* ------------------------------------------------------------------ */
/* Coming and going                                                    */
/* ------------------------------------------------------------------ */

static void add_registers(struct kunit *test)
{
	struct crowd *crowd = crowd_begin(test);
	struct mm_struct *mm = crowd->mm[0];
	struct ksm_mm *owner;

	KUNIT_EXPECT_EQ(test, ksm_registry_bytes(mm), 0);
	add(test, crowd, 0, 1);
	KUNIT_EXPECT_TRUE(test, test_bit(MMF_VM_MERGEABLE, &mm->flags));
	KUNIT_EXPECT_TRUE(test, ksm_registry_populated());
	KUNIT_EXPECT_EQ(test, atomic_read(&mm->mm_count), crowd->grabs[0] + 1);
	/* B123: an entry costs something, even without records */
	KUNIT_EXPECT_EQ(test, ksm_registry_bytes(mm), sizeof(*owner));
	KUNIT_EXPECT_EQ(test, ksm_process_profit(mm), -(long)sizeof(*owner));
	KUNIT_EXPECT_EQ(test, ksm_registry_bytes(crowd->mm[1]), 0);
	crowd_end(test, crowd);
}

static void exit_of_unvisited(struct kunit *test)
{
	struct crowd *crowd = crowd_begin(test);

	add(test, crowd, 0, 1);
	leave(crowd, 0);
	KUNIT_EXPECT_FALSE(test, test_bit(MMF_VM_MERGEABLE,
					  &crowd->mm[0]->flags));
	KUNIT_EXPECT_FALSE(test, ksm_registry_populated());
	KUNIT_EXPECT_FALSE(test, ksm_registry_has_dead());
	KUNIT_EXPECT_EQ(test, atomic_read(&crowd->mm[0]->mm_count),
			crowd->grabs[0]);
	crowd_end(test, crowd);
}

/* KSM has pointers to a visited entry: it goes to the dead, then is reaped */
static void exit_of_visited(struct kunit *test)
{
	struct crowd *crowd = crowd_begin(test);
	struct ksm_mm *owner;

	add(test, crowd, 0, 1);
	owner = ksm_registry_next(KSM_CURSOR_SCAN);
	KUNIT_EXPECT_NOT_NULL(test, owner);
	leave(crowd, 0);
	KUNIT_EXPECT_FALSE(test, test_bit(MMF_VM_MERGEABLE,
					  &crowd->mm[0]->flags));
	KUNIT_EXPECT_FALSE(test, ksm_registry_populated());
	KUNIT_EXPECT_TRUE(test, ksm_registry_has_dead());
	KUNIT_EXPECT_EQ(test, atomic_read(&crowd->mm[0]->mm_count),
			crowd->grabs[0] + 1);
	/* It may still be named, but not be worked on */
	KUNIT_EXPECT_PTR_EQ(test, ksm_registry_current(KSM_CURSOR_SCAN), owner);
	if (owner)
		KUNIT_EXPECT_FALSE(test, ksm_mm_begin(owner));

	ksm_reap(1);
	KUNIT_EXPECT_FALSE(test, ksm_registry_has_dead());
	KUNIT_EXPECT_NULL(test, ksm_registry_current(KSM_CURSOR_SCAN));
	KUNIT_EXPECT_EQ(test, atomic_read(&crowd->mm[0]->mm_count),
			crowd->grabs[0]);
	crowd_end(test, crowd);
}

/* B15: exec's error path comes with mmap_lock held for write */
static void exit_under_mmap_lock(struct kunit *test)
{
	struct crowd *crowd = crowd_begin(test);

	add(test, crowd, 0, 2);
	KUNIT_EXPECT_EQ(test, rest_of_pass(crowd, KSM_CURSOR_SCAN), 3);
	mmap_write_lock(crowd->mm[0]);
	leave(crowd, 0);
	mmap_write_unlock(crowd->mm[0]);
	KUNIT_EXPECT_TRUE(test, ksm_registry_has_dead());
	crowd_end(test, crowd);
}

struct leaver {
	struct mm_struct *mm;
	struct completion done;
};

static int leave_thread(void *arg)
{
	struct leaver *leaver = arg;

	ksm_registry_exit(leaver->mm);
	complete(&leaver->done);
	return 0;
}

/* B01, B04, B08: an exit waits for whoever is in the page tables, only then */
static void exit_waits_while_busy(struct kunit *test)
{
	struct leaver *leaver = kunit_kzalloc(test, sizeof(*leaver),
					      GFP_KERNEL);
	struct crowd *crowd;
	struct ksm_mm *owner;
	struct task_struct *thread;
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, leaver);
	crowd = crowd_begin(test);
	leaver->mm = crowd->mm[0];
	init_completion(&leaver->done);
	add(test, crowd, 0, 1);
	owner = ksm_registry_next(KSM_CURSOR_SCAN);
	KUNIT_EXPECT_NOT_NULL(test, owner);
	KUNIT_EXPECT_TRUE(test, owner && ksm_mm_begin(owner));
	thread = kthread_run(leave_thread, leaver, "ksm_kunit_exit");
	KUNIT_EXPECT_FALSE(test, IS_ERR(thread));
	crowd->gone[0] = true;
	/* Busy is asked to make haste */
	for (i = 0; i < 1000 && !READ_ONCE(owner->exiting); i++)
		usleep_range(1000, 2000);
	KUNIT_EXPECT_TRUE(test, ksm_mm_should_end(owner));
	KUNIT_EXPECT_FALSE(test,
			   wait_for_completion_timeout(&leaver->done, HZ / 20));
	KUNIT_EXPECT_FALSE(test, ksm_registry_has_dead());
	KUNIT_EXPECT_TRUE(test, test_bit(MMF_VM_MERGEABLE,
					 &crowd->mm[0]->flags));
	ksm_mm_end(owner);
	/* Nothing but that: we hold the scan mutex still */
	KUNIT_EXPECT_TRUE(test,
			  wait_for_completion_timeout(&leaver->done, 10 * HZ));
	KUNIT_EXPECT_TRUE(test, ksm_registry_has_dead());
	KUNIT_EXPECT_FALSE(test, ksm_mm_begin(owner));
	crowd_end(test, crowd);
}

/* No page tables of those who have none any more, or lost some */
static void begin_refuses(struct kunit *test)
{
	struct crowd *crowd = crowd_begin(test);
	struct mm_struct *mm = crowd->mm[0];
	struct ksm_mm *owner;
	int users;

	add(test, crowd, 0, 1);
	owner = ksm_registry_next(KSM_CURSOR_SCAN);
	KUNIT_EXPECT_NOT_NULL(test, owner);
	if (owner) {
		KUNIT_EXPECT_TRUE(test, ksm_mm_begin(owner));
		KUNIT_EXPECT_TRUE(test, rwsem_is_locked(&mm->mmap_lock));
		ksm_mm_end(owner);
		KUNIT_EXPECT_FALSE(test, rwsem_is_locked(&mm->mmap_lock));

		/* The OOM reaper was there, or a fork failed half-way (B19) */
		set_bit(MMF_UNSTABLE, &mm->flags);
		KUNIT_EXPECT_FALSE(test, ksm_mm_begin(owner));
		clear_bit(MMF_UNSTABLE, &mm->flags);
		users = atomic_xchg(&mm->mm_users, 0);
		KUNIT_EXPECT_FALSE(test, ksm_mm_begin(owner));
		atomic_set(&mm->mm_users, users);
		KUNIT_EXPECT_FALSE(test, rwsem_is_locked(&mm->mmap_lock));
	}
	crowd_end(test, crowd);
}

/* B13: an mm that is retired registers again when it has something to offer */
static void retire_and_come_back(struct kunit *test)
{
	struct crowd *crowd = crowd_begin(test);
	struct mm_struct *mm = crowd->mm[0];
	struct ksm_mm *owner, *again;

	add(test, crowd, 0, 1);
	owner = ksm_registry_next(KSM_CURSOR_SCAN);
	if (owner && ksm_mm_begin(owner)) {
		ksm_registry_retire(owner);
		ksm_mm_end(owner);
	}
	KUNIT_EXPECT_FALSE(test, test_bit(MMF_VM_MERGEABLE, &mm->flags));
	KUNIT_EXPECT_FALSE(test, ksm_registry_populated());
	KUNIT_EXPECT_TRUE(test, ksm_registry_has_dead());
	KUNIT_EXPECT_EQ(test, ksm_registry_bytes(mm), 0);

	add(test, crowd, 0, 1);
	KUNIT_EXPECT_NULL(test, ksm_registry_next(KSM_CURSOR_SCAN));
	again = ksm_registry_next(KSM_CURSOR_SCAN);
	KUNIT_EXPECT_NOT_NULL(test, again);
	KUNIT_EXPECT_TRUE(test, again != owner);
	KUNIT_EXPECT_EQ(test, atomic_read(&mm->mm_count), crowd->grabs[0] + 2);
	ksm_reap(1);
	KUNIT_EXPECT_EQ(test, atomic_read(&mm->mm_count), crowd->grabs[0] + 1);
	KUNIT_EXPECT_PTR_EQ(test, ksm_registry_current(KSM_CURSOR_SCAN), again);
	KUNIT_EXPECT_TRUE(test, again && ksm_mm_begin(again));
	if (again)
		ksm_mm_end(again);
	crowd_end(test, crowd);
}

/* ------------------------------------------------------------------ */
/* Cursors                                                             */
/* ------------------------------------------------------------------ */

static void pass_visits_each_once(struct kunit *test)
{
	struct crowd *crowd = crowd_begin(test);
	unsigned int pass;

	add(test, crowd, 0, MMS);
	for (pass = 0; pass < 3; pass++) {
		KUNIT_EXPECT_EQ(test, rest_of_pass(crowd, KSM_CURSOR_SCAN),
				BIT(MMS) - 1);
		KUNIT_EXPECT_NULL(test, ksm_registry_current(KSM_CURSOR_SCAN));
		KUNIT_EXPECT_EQ(test, rest_of_pass(crowd, KSM_CURSOR_UNMERGE),
				BIT(MMS) - 1);
	}
	crowd_end(test, crowd);
}

/* What is offered before a pass begins is seen by that pass */
static void new_ones_are_in_the_next_pass(struct kunit *test)
{
	struct crowd *crowd = crowd_begin(test);

	add(test, crowd, 0, 1);
	KUNIT_EXPECT_EQ(test, rest_of_pass(crowd, KSM_CURSOR_SCAN), BIT(0));
	add(test, crowd, 1, 2);
	KUNIT_EXPECT_EQ(test, rest_of_pass(crowd, KSM_CURSOR_SCAN),
			BIT(0) | BIT(1) | BIT(2));
	/* Also when all the others have left */
	leave(crowd, 0);
	leave(crowd, 1);
	leave(crowd, 2);
	add(test, crowd, 3, 1);
	KUNIT_EXPECT_EQ(test, rest_of_pass(crowd, KSM_CURSOR_SCAN), BIT(3));
	crowd_end(test, crowd);
}

/* What is offered during a pass is left alone for the rest of it */
static void new_ones_come_last(struct kunit *test)
{
	struct crowd *crowd = crowd_begin(test);
	unsigned int first;

	add(test, crowd, 0, 2);
	first = next(crowd, KSM_CURSOR_SCAN);
	KUNIT_EXPECT_LT(test, first, 2);
	add(test, crowd, 2, 2);
	KUNIT_EXPECT_EQ(test, rest_of_pass(crowd, KSM_CURSOR_SCAN),
			BIT(1 - first));
	KUNIT_EXPECT_EQ(test, rest_of_pass(crowd, KSM_CURSOR_SCAN),
			BIT(4) - 1);
	crowd_end(test, crowd);
}

/* B10: but a child forked during an unmerge is unmerged as well */
static void new_ones_are_unmerged(struct kunit *test)
{
	struct crowd *crowd = crowd_begin(test);
	unsigned int i;

	add(test, crowd, 0, 2);
	/* In the middle of a pass: new ones would go behind its cursor */
	KUNIT_EXPECT_LT(test, next(crowd, KSM_CURSOR_SCAN), 2);
	ksm_registry_rewind(KSM_CURSOR_UNMERGE, true);
	KUNIT_EXPECT_LT(test, next(crowd, KSM_CURSOR_UNMERGE), 2);
	add(test, crowd, 2, 1);
	KUNIT_EXPECT_LT(test, next(crowd, KSM_CURSOR_UNMERGE), 2);
	add(test, crowd, 3, 1);
	/* Even the very last moment is early enough */
	for (i = 2; i < 4; i++)
		KUNIT_EXPECT_EQ(test, next(crowd, KSM_CURSOR_UNMERGE), i);
	add(test, crowd, 4, 1);
	KUNIT_EXPECT_EQ(test, next(crowd, KSM_CURSOR_UNMERGE), 4);
	KUNIT_EXPECT_EQ(test, next(crowd, KSM_CURSOR_UNMERGE), MMS);
	ksm_registry_rewind(KSM_CURSOR_UNMERGE, false);
	ksm_registry_rewind(KSM_CURSOR_SCAN, false);
	KUNIT_EXPECT_EQ(test, rest_of_pass(crowd, KSM_CURSOR_SCAN),
			BIT(MMS) - 1);
	crowd_end(test, crowd);
}

/* B03: the one a cursor stands on leaves, the next one, the last, and all */
static void entries_leave_under_a_cursor(struct kunit *test)
{
	struct crowd *crowd = crowd_begin(test);
	unsigned int at, i;

	add(test, crowd, 0, MMS);
	at = next(crowd, KSM_CURSOR_SCAN);
	KUNIT_EXPECT_EQ(test, at, next(crowd, KSM_CURSOR_UNMERGE));
	KUNIT_EXPECT_LT(test, at, MMS);
	leave(crowd, at);
	ksm_reap(UINT_MAX);
	KUNIT_EXPECT_NULL(test, ksm_registry_current(KSM_CURSOR_SCAN));
	KUNIT_EXPECT_NULL(test, ksm_registry_current(KSM_CURSOR_UNMERGE));

	/* Any but the one that comes next, then that one */
	at = next(crowd, KSM_CURSOR_SCAN);
	KUNIT_EXPECT_LT(test, at, MMS);
	for (i = 0; i < MMS; i++) {
		if (!crowd->gone[i] && i != at) {
			leave(crowd, i);
			break;
		}
	}
	KUNIT_EXPECT_EQ(test, hweight_long(rest_of_pass(crowd,
							KSM_CURSOR_UNMERGE)),
			MMS - 2);

	/* All of them, with one cursor in their midst */
	for (i = 0; i < MMS; i++) {
		if (!crowd->gone[i])
			leave(crowd, i);
	}
	KUNIT_EXPECT_EQ(test, next(crowd, KSM_CURSOR_SCAN), MMS);
	KUNIT_EXPECT_EQ(test, next(crowd, KSM_CURSOR_SCAN), MMS);
	crowd_end(test, crowd);
}

/* Which one leaves, joins or is visited next is left to chance */
static void random_coming_and_going(struct kunit *test)
{
	struct crowd *crowd = crowd_begin(test);
	unsigned long live = 0, due = 0, seen = 0;
	unsigned int i, step;
	struct rnd_state rnd;

	ksm_kunit_seed(test, &rnd);
	for (step = 0; step < 2000 && !ksm_kunit_failed(test); step++) {
		i = ksm_kunit_below(&rnd, MMS);
		switch (ksm_kunit_below(&rnd, 4)) {
		case 0:
			if (live & BIT(i))
				break;
			add(test, crowd, i, 1);
			live |= BIT(i);
			break;
		case 1:
			if (!(live & BIT(i)))
				break;
			leave(crowd, i);
			live &= ~BIT(i);
			due &= ~BIT(i);
			break;
		case 2:
			ksm_reap(ksm_kunit_below(&rnd, 3));
			break;
		default:
			i = next(crowd, KSM_CURSOR_SCAN);
			if (i < MMS) {
				KUNIT_EXPECT_TRUE(test, live & BIT(i));
				/* Again only if it left and came back */
				due &= ~BIT(i);
				seen |= BIT(i);
				break;
			}
			/* All who were there all through the pass had a visit */
			KUNIT_EXPECT_EQ(test, i, MMS);
			KUNIT_EXPECT_EQ(test, due, 0);
			due = live;
			break;
		}
	}
	KUNIT_EXPECT_EQ(test, seen, BIT(MMS) - 1);
	for (i = 0; i < MMS; i++)
		crowd->gone[i] = false;
	crowd_end(test, crowd);
}

static struct kunit_case registry_cases[] = {
	KUNIT_CASE(add_registers),
	KUNIT_CASE(exit_of_unvisited),
	KUNIT_CASE(exit_of_visited),
	KUNIT_CASE(exit_under_mmap_lock),
	KUNIT_CASE(exit_waits_while_busy),
	KUNIT_CASE(begin_refuses),
	KUNIT_CASE(retire_and_come_back),
	KUNIT_CASE(pass_visits_each_once),
	KUNIT_CASE(new_ones_are_in_the_next_pass),
	KUNIT_CASE(new_ones_come_last),
	KUNIT_CASE(new_ones_are_unmerged),
	KUNIT_CASE(entries_leave_under_a_cursor),
	KUNIT_CASE(random_coming_and_going),
	{}
};

static struct kunit_suite registry_suite = {
	.name = "ksm_registry",
	.init = ksm_kunit_init,
	.test_cases = registry_cases,
};

kunit_test_suite(registry_suite);
