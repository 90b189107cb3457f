#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Static checks of our own files, without findings or not at all: checkpatch
# --strict, sparse, W=1 and kernel-doc; and races.awk against reports whose
# verdict is known. Prints "ok NAME" or the findings and
# "not ok NAME"; exit status 1 when there were any. Needs a prepared ksm tree.

set -u
. "$(dirname "$0")/common.sh"
. "$here/overlay.sh"

# Configured as the test kernel is, but compiled with all warnings
out=$ksm/check
failed=0

verdict() {
	local name=$1 findings=$2
	if [ -z "$findings" ]; then
		say "ok $name"
	else
		head -n 60 <<<"$findings" | sed 's/^/  | /'
		say "not ok $name"
		failed=1
	fi
}

# Our C files, as far as the prepared tree has them
sources() {
	overlay_files | grep -E '\.[ch]$' | sed 's,^,/,' |
		grep -xF -f "$ksm/.overlay" | cut -c2-
}

# Trace headers are not C to checkpatch, in any subsystem
run_checkpatch() {
	local checkpatch="perl scripts/checkpatch.pl --strict --terse --no-summary --quiet"
	cd "$ksm" || return
	# shellcheck disable=SC2086
	sources | grep -v '^include/trace/' | xargs $checkpatch -f
	# shellcheck disable=SC2086
	find "$here" -name '*.[ch]' -exec $checkpatch -f {} +
	# shellcheck disable=SC2086
	find "$top/patches" "$here" -name '*.patch' -exec $checkpatch --no-signoff {} +
} 2>&1

kmake() {
	make -C "$ksm" O=check CC="ccache gcc" HOSTCC="ccache gcc" -j"$(nproc)" "$@"
}

prepare_build() {
	mkdir -p "$out"
	cmp -s "$ksm/build/.config" "$out/.config-of-build" && return 0
	cp "$ksm/build/.config" "$out/.config" &&
		kmake olddefconfig prepare &&
		cp "$ksm/build/.config" "$out/.config-of-build"
}

# Findings of compiler and sparse in our files, whatever file includes them
compiler_findings() {
	grep -E '(warning|error):' "$1" | sed 's,^\.\./,,' |
		grep -E '^(mm/ksm|include/linux/ksm|include/trace/events/ksm)' | sort -u
	grep -E '^make.*\*\*\*' "$1"
}

run_compiler() {
	local name=$1
	shift
	find "$out/mm/ksm" "$out/mm/ksm.o" -name '*.o' -delete 2>/dev/null
	kmake "$@" mm/ksm.o mm/ksm/ >"$logs/check-$name.log" 2>&1
	compiler_findings "$logs/check-$name.log"
}

run_kernel_doc() {
	(cd "$ksm" && sources | grep -E '^(mm|include/linux)/' |
		xargs perl scripts/kernel-doc -none -Wall) 2>&1
}

# Every test program of ours has its line in the folder's Makefile
run_listed() {
	local file
	for file in "$top"/tools/testing/selftests/mm/ksm_*.c; do
		file=$(basename "$file" .c)
		grep -qE "^TEST_GEN_FILES \+?= $file\$" \
			"$ksm/tools/testing/selftests/mm/Makefile" ||
			say "$file is not in tools/testing/selftests/mm/Makefile"
	done
}

# race TITLE FIRST-ACCESS [SECOND-ACCESS]: a report of KCSAN; who() is ours
race() {
	local access
	printf '[ 1.5] BUG: KCSAN: data-race in %s\n[ 1.5] \n' "$1"
	shift
	for access; do
		printf '[ 1.5] %s of 8 bytes by task 7 on cpu 0:\n' "${access%@*}"
		printf '[ 1.5] other news\n[ 1.5]  %s+0x1a/0x40\n' "${access#*@}"
		printf '[ 1.5]  caller+0x1/0x2\n[ 1.5] \n'
	done
	printf '[ 1.5] Reported by Kernel Concurrency Sanitizer on:\r\n'
}

# Titles with "bad" are the ones to be found
run_races() {
	diff <({
		race 'f / who is right' 'write (marked) to 0x12ab@who' 'read to 0x12ab@f'
		race 'f / who bad 1' 'write to 0x12ab@who' 'read (marked) to 0x12ab@f'
		race 'f / who bad 2' 'read (marked) to 0x12ab@f' \
			'write (reordered) to 0x12ab@who'
		race 'who / f is right' 'write (marked, reordered) to 0x12ab@who' \
			'read-write to 0x12ab@f'
		race 'f / g' 'write to 0x12ab@f' 'read to 0x12ab@g'
		race 'who+0x1a/0x40 bad 3' 'race at unknown origin, with read to 0x12ab@who'
		race 'who / f bad 4' 'read (marked) to 0x12ab@f'
		race 'f / who bad 5'
	} | awk -v list=<(echo who) -f "$here/races.awk" | sed 's/.*bad //') <(seq 5)
}

"$here/packages.sh" build test || exit 1
mkdir -p "$logs"
verdict checkpatch "$(run_checkpatch)"
logged "$logs/check-prepare.log" prepare_build || verdict prepare "see above"
verdict W=1 "$(run_compiler W1 W=1)"
verdict sparse "$(run_compiler sparse C=2)"
verdict kernel-doc "$(run_kernel_doc)"
verdict 'selftests Makefile' "$(run_listed)"
verdict races.awk "$(run_races)"
exit $failed
