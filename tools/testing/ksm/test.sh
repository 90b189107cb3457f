#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# All tests: check.sh, KUnit, our selftests, the kernel's own tests of KSM, and
# its other mm tests side by side on the stock kernel. report.py judges. What
# every machine printed stays in $cache/test.

set -u
. "$(dirname "$0")/common.sh"

work=$cache/test
# Copies, so that building anew while tests run changes nothing under them
bin=$work/bin

give_up() {
	printf 'KTAP version 1\n1..1\nnot ok 1 %s\n0 passed, 1 failed\n' "$1"
	exit 1
}

# vm GROUP KERNEL SECONDS [OPTIONS...] -- COMMAND: one machine, results in $work
vm() {
	local group=$1 kernel=$2 seconds=$3
	shift 3
	"$here/vm.sh" --kernel "$work/$kernel.bzImage" --timeout "$seconds" \
		--log "$work/$group.log" "$@" >"$work/$group.out" 2>"$work/$group.err"
	echo $? >"$work/$group.status"
	say "# $group: done after $SECONDS s"
}

# The suites' results are files in debugfs by the time that init runs
run_kunit() {
	# shellcheck disable=SC2016
	vm kunit ksm 300 --append 'kunit.enable=1 kunit.filter_glob=ksm*' -- \
		bash -c 'for r in /sys/kernel/debug/kunit/ksm*/results; do
			s=${r%/results}; echo "@suite ${s##*/}"; cat "$r"; done'
}

run_list() {
	local group=$1 kernel=$2 list=$3
	shift 3
	vm "$group" "$kernel" 1800 "$@" -- "$here/guest-tests.sh" "$list" "$bin"
}

our_tests() {
	find "$top/tools/testing/selftests/mm" -name 'ksm_*.c' -printf '%f\n' |
		sort | sed 's/\(.*\)\.c$/\1 300 \1/'
}

# Twice more, the programs that did worse than on the stock kernel
run_again() {
	local name
	for name in $(python3 "$here/report.py" "$work" "$here" mismatches); do
		sed -n "/^$name /{h;s/^[^ ]*/$name+1/p;g;s/^[^ ]*/$name+2/p}" \
			"$here/mm-tests.list"
	done >"$work/again.list"
	[ ! -s "$work/again.list" ] ||
		run_list mm-again ksm "$work/again.list" --smp 4
}

rm -rf "$work"
mkdir -p "$work"
our_tests >"$work/ours.list"
sed -n 's/^\t\.name = "\(ksm[^"]*\)".*/\1/p' "$top"/mm/ksm/tests/*.c \
	2>/dev/null >"$work/suites"

"$here/packages.sh" build run test || give_up packages
"$here/tree.sh" ksm || give_up tree
"$here/kernel.sh" ksm || give_up kernel
"$here/kernel.sh" stock || give_up 'stock kernel'
# A program that does not build is missed by report.py
"$here/selftests.sh"
cp -r "$ksm/build/selftests" "$bin"
cp "$ksm/build/arch/x86/boot/bzImage" "$work/ksm.bzImage"
cp "$stock/build/arch/x86/boot/bzImage" "$work/stock.bzImage"
say "# machines start after $SECONDS s"

{
	run_kunit
	run_list ours ksm "$work/ours.list" --swap 0
	run_list kernel ksm "$here/ksm-tests.list"
} &
# migration needs three processors or more
{
	run_list mm-stock stock "$here/mm-tests.list" --smp 4
	run_list mm-ours ksm "$here/mm-tests.list" --smp 4
} &
wait
run_again
"$here/check.sh" >"$work/check.out" 2>&1
say "# judged after $SECONDS s"
exec python3 "$here/report.py" "$work" "$here"
