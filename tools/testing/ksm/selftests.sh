#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Build the kernel's own mm selftests that KSM can break, unmodified, and ours,
# all from the prepared ksm tree. They land in $cache/ksm/build/selftests.

set -eu
. "$(dirname "$0")/common.sh"

src=$ksm/tools/testing/selftests/mm
out=$ksm/build/selftests
stock_tests="ksm_tests ksm_functional_tests cow khugepaged migration mkdirty
split_huge_page_test uffd-unit-tests madv_populate mrelease_test"

our_tests() {
	find "$top/tools/testing/selftests/mm" -name 'ksm_*.c' -printf '%f\n' |
		sed 's/\.c$//' | sort
}

build() {
	local name targets=''
	for name in $stock_tests $(our_tests); do
		targets="$targets $out/$name"
	done
	# khugepaged.c of some 6.12.y uses KSFT_SKIP without its header
	# shellcheck disable=SC2086
	make -k -C "$src" -j"$(nproc)" CC="ccache gcc" ARCH=x86_64 OUTPUT="$out" \
		USERCFLAGS=-DKSFT_SKIP=4 \
		KHDR_INCLUDES="-isystem $ksm/build/usr/include" $targets
}

"$here/packages.sh" build test
mkdir -p "$out"
logged "$logs/selftests-build.log" build
