/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a fuzz target is to the program that feeds it.
 */
#ifndef _KSM_FUZZ_DRIVER_H
#define _KSM_FUZZ_DRIVER_H

#include <stddef.h>

/**
 * fuzz_one_input - try an input; does not return if something is wrong
 * @data: the input
 * @size: how much there is of it
 *
 * Makefile gives it the name that libFuzzer calls.
 *
 * Return: 0.
 */
int fuzz_one_input(const unsigned char *data, size_t size);

#endif /* _KSM_FUZZ_DRIVER_H */
