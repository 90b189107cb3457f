// SPDX-License-Identifier: GPL-2.0
/*
 * main() for compilers without libFuzzer: replays inputs from files, or makes
 * random ones.  No coverage guides it, so it finds less in the same time.
 *
 *	TARGET FILE...
 *	TARGET [-t SECONDS] [-n INPUTS] [-s SEED] [-o PREFIX]
 *
 * Input i of a run depends on SEED + i alone.  The one that fails is written to
 * PREFIX and its seed.
 */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "driver.h"

#define MAX_SIZE	4096

const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

static unsigned char buffer[MAX_SIZE];
static size_t length;
static char path[4096];

/* So that on_abort() is called whatever was found */
const char *__asan_default_options(void)
{
	return "abort_on_error=1";
}

const char *__ubsan_default_options(void)
{
	return "abort_on_error=1:print_stacktrace=1";
}

static void on_abort(int sig)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd >= 0 && write(fd, buffer, length) == (ssize_t)length)
		fprintf(stderr, "input written to %s\n", path);
}

/* SplitMix64: equal seeds, equal inputs, on every machine */
static unsigned long long next_random(unsigned long long *state)
{
	unsigned long long z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/*
 * Bytes that are all equally likely wander about everywhere and come far
 * nowhere: an input keeps to a few values, in part of its places.
 */
static void make_input(unsigned long long seed)
{
	unsigned long long state = seed, most, few, i;

	most = 1ULL << next_random(&state) % 13;
	length = 1 + next_random(&state) % most;
	few = next_random(&state) % 4;
	for (i = 0; i < length; i++) {
		unsigned long long r = next_random(&state);

		buffer[i] = r >> 8;
		if (r % 4 < few)
			buffer[i] %= 8 << (r >> 16) % 4;
	}
}

static int replay(char **files)
{
	static unsigned char data[1 << 20];

	for (; *files; files++) {
		FILE *file = fopen(*files, "rb");

		if (!file) {
			perror(*files);
			return 1;
		}
		/* A copy of its size, so that ASan sees who reads on */
		length = fread(data, 1, sizeof(data), file);
		fclose(file);
		unsigned char *copy = malloc(length);

		memcpy(copy, data, length);
		fuzz_one_input(copy, length);
		free(copy);
		printf("%s: no failure\n", *files);
	}
	return 0;
}

int main(int argc, char **argv)
{
	unsigned long long seed = time(NULL) * 1000003ULL ^ getpid(), most = ULLONG_MAX, n;
	const char *prefix = "failure-";
	time_t end = 0;
	int option;

	while ((option = getopt(argc, argv, "t:n:s:o:")) != -1) {
		switch (option) {
		case 't':
			end = time(NULL) + atol(optarg);
			break;
		case 'n':
			most = strtoull(optarg, NULL, 0);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'o':
			prefix = optarg;
			break;
		default:
			return 2;
		}
	}
	if (optind < argc)
		return replay(argv + optind);

	fprintf(stderr, "seed %llu\n", seed);
	signal(SIGABRT, on_abort);
	for (n = 0; n < most && (!end || time(NULL) < end); n++) {
		make_input(seed + n);
		snprintf(path, sizeof(path), "%s%llu", prefix,
			 seed + n);
		fuzz_one_input(buffer, length);
	}
	fprintf(stderr, "%llu inputs\n", n);
	return 0;
}
