#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs inside the machine: every test of a list, each under its own timeout and
# from the same KSM settings. Usage: guest-tests.sh LIST PROGRAMS, where a line
# of the list is NAME SECONDS COMMAND... and the commands are in the directory
# PROGRAMS. Output for report.py: the test's own between "@begin NAME" and
# "@end NAME STATUS SECONDS".

sys=/sys/kernel/mm/ksm

default_settings() {
	[ -d $sys ] || return
	echo 2 >$sys/run
	echo 0 >$sys/run
	echo none >$sys/advisor_mode
	echo 100 >$sys/pages_to_scan
	echo 20 >$sys/sleep_millisecs
	echo 256 >$sys/max_page_sharing
	echo 1 >$sys/merge_across_nodes
	echo 0 >$sys/use_zero_pages
	echo 1 >$sys/smart_scan
	echo 0 >/proc/sys/vm/nr_hugepages
	echo 3 >/proc/sys/vm/drop_caches
}

exec 2>&1
PATH=$2:$PATH
cd /tmp || exit 1
while read -r name seconds command; do
	case $name in '' | '#'*) continue ;; esac
	default_settings
	start=$SECONDS
	printf '@begin %s\n' "$name"
	echo "vm: test $name" >/dev/kmsg
	timeout -k 5 $((seconds * ${KSM_SLOWNESS:-1})) bash -c "$command" </dev/null
	printf '\n@end %s %d %d\n' "$name" $? $((SECONDS - start))
done <"$1"
printf '@done\n'
