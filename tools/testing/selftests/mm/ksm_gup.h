/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The long-term pins of gup_test, where the kernel has it: the part of
 * mm/gup_test.h that the KSM selftests and the storm use, for those who are
 * compiled without a kernel tree.
 */
#ifndef KSM_GUP_H
#define KSM_GUP_H

#include <stdint.h>
#include <sys/ioctl.h>

#define KSM_GUP_TEST	"/sys/kernel/debug/gup_test"

/* What to pin; size in bytes. */
struct ksm_pin {
	uint64_t addr;
	uint64_t size;
	uint32_t flags;
};

#define KSM_PIN_WRITE	1
#define KSM_PIN_FAST	2

#define KSM_PIN_START	_IOW('g', 7, struct ksm_pin)
#define KSM_PIN_STOP	_IO('g', 8)
#define KSM_PIN_READ	_IOW('g', 9, uint64_t)	/* by the pin, to there */

#endif /* KSM_GUP_H */
