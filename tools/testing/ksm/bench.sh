#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Measure ksmd's work in user-mode Linux, the stock kernel against ours: every
# line of bench.list on both kernels in turn, ROUNDS times (3). ONLY="NAME ..."
# takes only these lines. Numbers go to $cache/bench/results.csv, from which
# bench-report.py makes the table and the drawings.
#
# Each measurement is a fresh boot, pinned to one processor, and nothing else
# should run: it is CPU time that is measured, but caches are shared.

set -eu
. "$(dirname "$0")/common.sh"

rounds=${ROUNDS:-3}
results=$bench/results.csv
bin=$bench/bin
boot_logs=$logs/bench
failures=0

# The lines of bench.list that are wanted
wanted() {
	local name memory rest
	while read -r name memory rest; do
		case $name in
		'#'* | '') continue ;;
		esac
		case " ${ONLY:-$name} " in
		*" $name "*) printf '%s %s %s\n' "$name" "$memory" "$rest" ;;
		esac
	done <"$here/bench.list"
}

compile() {
	mkdir -p "$bin"
	logged "$logs/bench-compile.log" gcc -O2 -Wall -static -o "$bin/bench-init" \
		"$here"/bench-{init,ksm,locks,program,workloads}.c
	logged "$logs/bench-compile.log" gcc -O2 -Wall -o "$bin/bench-corunner" \
		"$here/bench-corunner.c"
}

# The memory of a user-mode Linux is a file; on a disk it would be slow
find_room() {
	local most room dir=/dev/shm
	most=$(wanted | cut -d' ' -f2 | sort -n | tail -n 1)
	room=$(df --output=avail -m "$dir" 2>/dev/null | tail -n 1)
	[ "${room:-0}" -gt "$most" ] || dir=${TMPDIR:-/tmp}
	room=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
	[ "$room" -gt $((most + 400)) ] ||
		die "needs $((most + 400)) MiB of free memory, $room are there"
	tmp=$(mktemp -d "$dir/ksm-bench.XXXXXX")
}

# User-mode Linux gets the last processor that we may use, the program beside
# it the first
find_processors() {
	local allowed
	allowed=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)
	first=${allowed%%[,-]*} last=${allowed##*[,-]}
	[ "$first" != "$last" ] ||
		say "Only one processor: programs beside ksmd are left out"
}

# Everything at the same addresses each time, as those decide on what caches do
boot() {
	local kernel=$1 memory=$2
	shift 2
	HOME=$tmp TMPDIR=$tmp timeout --foreground 300 setarch -R taskset -c "$last" \
		"$bench/$kernel/build/linux" "mem=${memory}M" "uml_dir=$tmp/" \
		root=/dev/root rootfstype=hostfs rootflags=/ \
		init="$bin/bench-init" con=none con0=fd:0,fd:1 quiet slab_nomerge \
		-- "$@" </dev/null 2>&1
}

boot_beside() {
	boot "$@" | taskset -c "$first" "$bin/bench-corunner"
}

measure() {
	local round=$1 kernel=$2 name=$3 memory=$4 begin=$SECONDS
	local log=$boot_logs/$name-$kernel-$round.log how=boot
	shift 4
	case $1 in
	beside-*)
		[ "$first" != "$last" ] || return 0
		how=boot_beside
		;;
	esac
	$how "$kernel" "$memory" "$@" >"$log" || true
	tr -d '\r' <"$log" | sed -n "/^@ done /d
		s/^@ \([a-z0-9_]*\) \([-+.e0-9]*\)$/$round,$kernel,$name,\1,\2/p" >>"$results"
	if ! grep -qa '^@ done 1' "$log" ||
	   grep -qaE 'WARNING:|BUG|panic|on the host side' "$log"; then
		grep -aE '^@ error|WARNING:|BUG|panic|on the host side' "$log" >&2 || true
		say "failed: $name on the $kernel kernel, log: $log" >&2
		failures=$((failures + 1))
	fi
	say "round $round of $rounds: $name, $kernel: $((SECONDS - begin)) s"
}

# In each round the other kernel comes first
run_all() {
	local round kernel order name memory load
	for round in $(seq "$rounds"); do
		order='stock ksm'
		[ $((round % 2)) -eq 1 ] || order='ksm stock'
		while read -r name memory load; do
			for kernel in $order; do
				# shellcheck disable=SC2086
				measure "$round" "$kernel" "$name" "$memory" $load
			done
		done < <(wanted)
	done
}

[ -n "$(wanted)" ] || die "nothing in bench.list is called $ONLY"
mkdir -p "$bench"
exec 9>"$cache/.lock-bench"
flock -n 9 || die "another make bench is running"
"$here/packages.sh" build bench
"$here/bench-tree.sh"
"$here/kernel.sh" stock uml
"$here/kernel.sh" ksm uml
compile
find_processors
find_room
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM HUP

rm -rf "$boot_logs"
mkdir -p "$boot_logs"
printf 'round,kernel,workload,metric,value\n' >"$results"
run_all
say "measured after $SECONDS s; all numbers: $results"
python3 "$here/bench-report.py" "$results" || failures=$((failures + 1))
[ "$failures" -eq 0 ]
