// SPDX-License-Identifier: GPL-2.0
/*
 * The stable trees, and a look inside: how many entries they think they have.
 * If that were too many, each search would go down a tree in vain, and nothing
 * else would show it.
 */
#include <mm/ksm/stable_tree.c>
#include "fuzz.h"

void fuzz_check_entries(unsigned long expected)
{
	must(nr_entries == expected);
}
