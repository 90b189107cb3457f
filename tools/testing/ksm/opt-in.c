// SPDX-License-Identifier: GPL-2.0
/*
 * Run a program with all its memory mergeable: opt-in COMMAND [ARGS...]
 *
 * The setting is inherited by fork and by exec.
 */
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: opt-in COMMAND [ARGS...]\n");
		return 2;
	}
	if (prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0)) {
		perror("opt-in: PR_SET_MEMORY_MERGE");
		return 1;
	}
	execvp(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
