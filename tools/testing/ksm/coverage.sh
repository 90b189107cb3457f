#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Which lines and branches of mm/ksm.c and mm/ksm/ are reached by KUnit, by our
# selftests and by a storm of two minutes (MINUTES, SEED)? A table, and every
# file with its counts in $cache/coverage: what was never reached has "#####".

set -eu
. "$(dirname "$0")/common.sh"

work=$cache/coverage
build=$ksm/build-gcov

# All in one boot, as the counts are gone with the machine. The host's files are
# read-only to it, so the counts come out as text. Profiled code is slow, and
# there may be fewer real processors.
in_guest() {
	cat <<-'EOF'
		KSM_SLOWNESS=2 "$here/guest-tests.sh" "$work/list" "$ksm/build/selftests"
		cp "$cache/bin/storm" /tmp/storm
		/tmp/storm --seed "$seed" --seconds "$seconds"
		mkdir -p /tmp/counts && cd /sys/kernel/debug/gcov
		find . -name '*.gcda' | while read -r file; do
			mkdir -p "/tmp/counts/$(dirname "$file")"
			cat "$file" >"/tmp/counts/$file"
		done
		echo @counts
		tar -C /tmp/counts -cz . | base64
	EOF
}

run() {
	local minutes=${MINUTES:-2}
	export here work cache ksm
	export seed=${SEED:-1} seconds=$((minutes * 60))
	"$here/vm.sh" --kernel "$build/arch/x86/boot/bzImage" --smp 4 --swap 0 \
		--timeout $((3600 + seconds)) --log "$work/kernel.log" \
		--append 'slab_nomerge kunit.enable=1 kunit.filter_glob=ksm*' -- \
		env here="$here" work="$work" cache="$cache" ksm="$ksm" \
		seed="$seed" seconds="$seconds" bash -c "$(in_guest)"
}

# The compiler's notes lie where the objects are, the counts belong beside them.
# Others have files of the same names as ours, profiled as well.
collect() {
	sed '1,/^@counts/d' "$work/out" | tr -d '\r' | base64 -d |
		tar -C "$work/counts" -xz
	find "$work/counts" -path '*/build-gcov/mm/ksm*.gcda' | while read -r file; do
		cp "$file" "$build/mm/${file##*/build-gcov/mm/}"
	done
}

# gcov's summary of a file, as: NAME LINES% OF BRANCHES-TAKEN% OF
summary() {
	awk -v want="$1" '/^File / { here = index($0, "/" want "\x27") || index($0, "\x27" want "\x27") }
		here && /^Lines executed:/ { split($2, l, /[:%]/); lines = l[2] " " $4 }
		here && /^Taken at least once:/ { split($4, b, /[:%]/); taken = b[2] " " $6; here = 0 }
		END { print lines, taken ? taken : "- 0" }' "$2"
}

# From where the compiler ran, or the sources are not found
table() {
	local source base
	printf '%-24s %8s %7s %10s %9s\n' file 'lines %' of 'branches %' of
	cd "$build"
	for source in ksm.c $(cd "$ksm/mm" && echo ksm/*.c); do
		base=mm/${source%.c}
		[ -e "$base.gcda" ] || continue
		rm -f ./*.gcov
		gcov -b -c -o "$(dirname "$base")" "$base.gcda" \
			>"$work/summary" 2>/dev/null
		mv "$(basename "$source").gcov" "$work/"
		# shellcheck disable=SC2046
		printf '%-24s %8s %7s %10s %9s\n' "$source" \
			$(summary "mm/$source" "$work/summary")
	done
	rm -f ./*.gcov
}

"$here/packages.sh" build run test
"$here/tree.sh" ksm
"$here/kernel.sh" ksm
"$here/kernel.sh" ksm gcov
"$here/selftests.sh"
build_storm "$cache/bin/storm"
rm -rf "$work"
mkdir -p "$work/counts"
our_list >"$work/list"
say "Running the tests; the output goes to $work/out"
run >"$work/out" || die "the machine did not end well, see $work/out"
collect
table | tee "$work/table"
say "never reached:"
grep '#####:' "$work"/*.c.gcov | sed 's,^.*/\(.*\).gcov: *#####: *\([0-9]*\):,\1:\2:,'
say "each file with its counts: $work/*.c.gcov"
