// SPDX-License-Identifier: GPL-2.0
/*
 * Print the frequency of this machine's time-stamp counter, in kHz.
 *
 * QEMU without hardware virtualisation hands the guest the host's counter. The
 * guest kernel measures its rate against an emulated timer, and on a busy host
 * can be wrong by a factor of ten: its clock then runs away. So it is told.
 */
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

int main(void)
{
	const double span = 0.1;
	double begin = now(), end;
	unsigned long long tsc = __rdtsc();

	do {
		end = now();
	} while (end - begin < span);
	printf("%.0f\n", (__rdtsc() - tsc) / (end - begin) / 1e3);
	return 0;
}
