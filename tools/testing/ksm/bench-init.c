// SPDX-License-Identifier: GPL-2.0
/*
 * Init of a user-mode Linux that measures one workload, prints "@ key value"
 * lines on the console and powers off. bench.sh boots it; arguments are the
 * workload's name and settings as key=value.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "bench.h"

static pid_t init_pid;

static noreturn void power_off(void)
{
	fflush(stdout);
	reboot(RB_POWER_OFF);
	_exit(1);
}

void report(const char *key, double value)
{
	printf("@ %s %.10g\n", key, value);
	fflush(stdout);
}

/* Also called by programs, which leave it to init to find them gone */
noreturn void fail(const char *format, ...)
{
	va_list arguments;

	printf("@ error ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf(" (%s)\n", strerror(errno));
	fflush(stdout);
	if (getpid() == init_pid)
		power_off();
	_exit(1);
}

static enum contents contents_named(const char *name)
{
	static const char *const names[] = { "unique", "same", "almost", "mix" };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(name, names[i]))
			return i;
	}
	fail("no such contents: %s", name);
}

static void set(struct load *load, char *setting)
{
	char *value = strchr(setting, '=');
	unsigned long number;

	if (!value)
		fail("not a setting: %s", setting);
	*value++ = '\0';
	number = strtoul(value, NULL, 0);
	if (!strcmp(setting, "contents"))
		load->contents = contents_named(value);
	else if (!strcmp(setting, "programs"))
		load->programs = number;
	else if (!strcmp(setting, "mb"))
		load->bytes = number * MIB;
	else if (!strcmp(setting, "stride"))
		load->stride = number;
	else if (!strcmp(setting, "warm"))
		load->warm = number;
	else if (!strcmp(setting, "passes"))
		load->passes = number;
	else if (!strcmp(setting, "smart"))
		load->smart = number;
	else
		fail("no such setting: %s", setting);
}

int main(int argc, char **argv)
{
	struct load load = {
		.contents = UNIQUE,
		.programs = 1,
		.bytes = 64 * MIB,
		.stride = 1,
		.warm = 3,
		.passes = 24,
		.smart = true,
	};
	int i;

	init_pid = getpid();
	if (mount("proc", "/proc", "proc", 0, NULL) ||
	    mount("sysfs", "/sys", "sysfs", 0, NULL))
		fail("mount");
	if (argc < 2)
		fail("no workload given");
	/* User-mode Linux appends its console to whatever it is given */
	for (i = 2; i < argc && strncmp(argv[i], "console=", 8); i++)
		set(&load, argv[i]);
	if (load.programs < 1 || load.programs > MAX_PROGRAMS || load.warm < 2 ||
	    !load.stride)
		fail("settings out of range");
	ksm_open(load.smart);
	run_workload(argv[1], &load);
	report("done", 1);
	power_off();
}
