/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the fuzz targets share.  A target reads its input as a list of steps,
 * does each of them with the kernel's code and with a model that is as plain as
 * can be, and compares the two.
 *
 * A step begins with a byte that says what to do.  If that is FUZZ_FAIL or more,
 * the next byte tells which allocations of the step shall fail: bit 0 is for the
 * first of them.  With bit 7, no id can be had for the filter.
 */
#ifndef _KSM_FUZZ_H
#define _KSM_FUZZ_H

#include <mm/ksm/internal.h>
#include "driver.h"

#define FUZZ_FAIL	0xe0
#define FUZZ_OWNERS	2

/* What must be true in any case, whatever the input */
#define must(condition)	__WARN(!(condition), #condition)

/**
 * fuzz_begin - begin with an input
 * @data: the input
 * @size: how much there is of it
 */
void fuzz_begin(const u8 *data, size_t size);

/**
 * fuzz_end - the input is done, and all that was made for it was dropped
 *
 * Looks for leaks and for counters that are not 0.
 */
void fuzz_end(void);

/**
 * fuzz_step - begin the next step
 * @kinds: how many different ones the target has
 *
 * Return: which of them it is; -1 at the end of the input.
 */
int fuzz_step(unsigned int kinds);

/* Numbers from the input, zeros at its end */
u8 fuzz_u8(void);
u64 fuzz_u64(void);
unsigned int fuzz_below(unsigned int limit);

/**
 * fuzz_failures - did an allocation fail?
 *
 * Return: how many have failed since the step began.
 */
unsigned int fuzz_failures(void);

/* Shall an id be refused? */
bool fuzz_refuses(void);

/**
 * fuzz_refusals - was there no id to be had?
 *
 * Return: for how many there was none since the step began.
 */
unsigned int fuzz_refusals(void);

/* The mms that pages belong to */
struct ksm_mm *fuzz_owner(unsigned int index);

/**
 * fuzz_recount - have check.c look at all records, and compare its counts
 * @filtered: so many pages are in the filter
 * @other_bytes: memory that is counted but not taken by records and items
 */
void fuzz_recount(unsigned long filtered, unsigned long other_bytes);

/* Recount what the lines of the filter's table say; in filter-lines.c */
void fuzz_check_lines(void);

/* Compare the number of entries in all stable trees; in tree-entries.c */
void fuzz_check_entries(unsigned long expected);

#endif /* _KSM_FUZZ_H */
