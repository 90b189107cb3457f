#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# All tests: check.sh, KUnit, our selftests, the kernel's own tests of KSM, and
# its other mm tests side by side on the stock kernel; a storm of six minutes and
# a minute of fuzzing. report.py judges. What every machine printed stays in
# $cache/test.
#
# test.sh debug|kcsan: the tests of KSM alone, on a kernel with the options of
# Kconfig.debug or Kconfig.kcsan. Results in $cache/test-debug or test-kcsan.

set -u
. "$(dirname "$0")/common.sh"

kind=${1:-}
work=$cache/test${kind:+-$kind}
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
	"$here/vm.sh" --kernel "$work/$kernel.bzImage" \
		--timeout "$((seconds * KSM_SLOWNESS))" "${vm_options[@]}" \
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

# The rest of the kernel is not free of data races
list_functions() {
	nm --defined-only "$ksm/build-kcsan/mm/ksm.o" "$ksm"/build-kcsan/mm/ksm/*.o |
		sed -n 's/^.* [tT] \([^.]*\).*/\1/p' | sort -u >"$work/functions"
}

run_list() {
	local group=$1 kernel=$2 list=$3
	shift 3
	vm "$group" "$kernel" 1800 "$@" -- env "KSM_SLOWNESS=$KSM_SLOWNESS" \
		"$here/guest-tests.sh" "$list" "$bin"
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

vm_options=()
case $kind in
'') KSM_SLOWNESS=1 ;;
debug | kcsan) KSM_SLOWNESS=5 ;;
*) die "test.sh: unknown kind $kind" ;;
esac

rm -rf "$work"
mkdir -p "$work"
our_list >"$work/ours.list"
sed -n 's/^\t\.name = "\(ksm[^"]*\)".*/\1/p' "$top"/mm/ksm/tests/*.c \
	2>/dev/null >"$work/suites"

"$here/packages.sh" build run test || give_up packages
"$here/tree.sh" ksm || give_up tree
"$here/kernel.sh" ksm || give_up kernel
if [ -n "$kind" ]; then
	"$here/kernel.sh" ksm "$kind" || give_up "$kind kernel"
	if [ "$kind" = kcsan ]; then
		list_functions
		vm_options=(--races "$work/functions")
	fi
else
	"$here/kernel.sh" stock || give_up 'stock kernel'
	cp "$stock/build/arch/x86/boot/bzImage" "$work/stock.bzImage"
fi
# A program that does not build is missed by report.py
"$here/selftests.sh"
cp -r "$ksm/build/selftests" "$bin"
cp "$ksm/build${kind:+-$kind}/arch/x86/boot/bzImage" "$work/ksm.bzImage"
say "# machines start after $SECONDS s"

# An emulated processor that has to wait for a real one delivers its timers late,
# and what a test waits for with them, a second at most in some of the kernel's
# own: each machine has this one for itself. Migration needs three processors or
# more.
run_kunit
run_list ours ksm "$work/ours.list" --swap 0
run_list kernel ksm "$here/ksm-tests.list"
[ -z "$kind" ] || exec python3 "$here/report.py" "$work" "$here" ksm
run_list mm-stock stock "$here/mm-tests.list" --smp 4
run_list mm-ours ksm "$here/mm-tests.list" --smp 4
run_again
SEED='1 2 3' MINUTES=2 "$here/storm.sh" >"$work/storm.out" 2>"$work/storm.err"
say "# storm: done after $SECONDS s"
"$here/check.sh" >"$work/check.out" 2>&1
"$here/fuzz.sh" 60 >"$work/fuzz.out" 2>"$work/fuzz.err"
say "# judged after $SECONDS s"
exec python3 "$here/report.py" "$work" "$here"
