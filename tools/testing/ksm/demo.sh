#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs inside the machine: start real programs that opt in to merging, let ksmd
# work, show what it does each second, then sum up. Usage: demo.sh OPT-IN
# where OPT-IN is the built launcher. Exit status 1 when nothing was merged.

set -u
opt_in=$1
sys=/sys/kernel/mm/ksm
work=$(mktemp -d)
copies=3		# of each interpreter
most=75			# seconds of scanning
quiet_secs=6		# without a change that end it sooner

value() { cat "$sys/$1"; }
mib() { awk -v b="$1" 'BEGIN { printf "%.1f", b / 1048576 }'; }

names=() pids=()
start() {
	local name=$1 i
	command -v "$name" >/dev/null || return 0
	shift
	for ((i = 0; i < copies; i++)); do
		"$opt_in" "$name" "$@" </dev/null >>"$work/ready" 2>>"$work/errors" &
		pids+=($!)
		names+=("$name")
	done
}

start_programs() {
	: >"$work/ready"
	start python3 -c 'import asyncio, json, decimal, email, http.server, signal
print("ready", flush=True)
signal.pause()'
	start perl -MPOSIX -MEncode -MData::Dumper -MStorable -MFile::Find -MTime::Local \
		-e '$| = 1; print "ready\n"; POSIX::pause()'
	start node -e 'for (const m of ["http", "zlib", "crypto", "url", "stream"]) require(m);
console.log("ready"); setInterval(() => {}, 1e6)'
	start ruby -rjson -rset -e '$stdout.sync = true; puts "ready"; sleep'
	start php -r 'echo "ready\n"; sleep(100000);'
	echo 'puts ready; flush stdout; vwait forever' >"$work/idle.tcl"
	start tclsh "$work/idle.tcl"
	while [ "${#pids[@]}" -lt 8 ]; do
		copies=1 start perl -MPOSIX -e '$| = 1; print "ready\n"; POSIX::pause()'
	done
}

wait_ready() {
	local i
	for ((i = 0; i < 60; i++)); do
		[ "$(grep -c ready "$work/ready")" -lt "${#pids[@]}" ] || return 0
		sleep 1
	done
	echo "only $(grep -c ready "$work/ready") of ${#pids[@]} programs came up"
	cat "$work/errors"
	exit 1
}

ksmd_ms() {
	local ns _
	read -r ns _ <"/proc/$ksmd/schedstat"
	echo $((ns / 1000000))
}

# What merging saves, before the cost of bookkeeping
saved_bytes() {
	echo $((($(value pages_sharing) + $(value ksm_zero_pages)) * 4096))
}

# One line a second until passes stop finding anything
watch_merging() {
	local second pass sharing last=-1 quiet=0
	printf '%4s %7s %8s %8s %11s %12s\n' \
		s passes shared sharing 'saved MiB' 'ksmd CPU ms'
	for ((second = 1; second <= most; second++)); do
		sleep 1
		pass=$(value full_scans)
		sharing=$(value pages_sharing)
		printf '%4d %7d %8d %8d %11s %12d\n' "$second" "$pass" \
			"$(value pages_shared)" "$sharing" \
			"$(mib "$(saved_bytes)")" "$(ksmd_ms)"
		if [ "$sharing" -ne "$last" ]; then
			quiet=$second
		fi
		last=$sharing
		if [ "$pass" -gt 2 ] && [ $((second - quiet)) -ge $quiet_secs ]; then
			break
		fi
	done
	echo 0 >$sys/run
}

row() { printf '  %-44s %14s\n' "$1" "$2"; }

sum_up() {
	local saved profit
	saved=$(saved_bytes)
	profit=$(value general_profit)
	printf '\nSummary\n'
	row 'memory saved, MiB' "$(mib "$saved")"
	row 'bookkeeping, bytes' $((saved - profit))
	row 'saved less bookkeeping, MiB' "$(mib "$profit")"
	row 'full passes' "$(value full_scans)"
	row 'ksmd CPU time, ms' "$(ksmd_ms)"
	printf '\nPages by state\n'
	row 'shared (one kept for all its users)' "$(value pages_shared)"
	row 'sharing (further users of those)' "$(value pages_sharing)"
	row 'unshared (unchanged but unique)' "$(value pages_unshared)"
	row 'volatile (changing, or not judged yet)' "$(value pages_volatile)"
	row 'zero (replaced by the zero page)' "$(value ksm_zero_pages)"
	row 'skipped (looks saved by smart_scan, in all)' "$(value pages_skipped)"
}

stat_of() { sed -n "s/^$2 //p" "/proc/$1/ksm_stat"; }

per_process() {
	local i pid
	printf '\n  %-10s %6s %10s %8s %12s\n' program pid merged items 'profit KiB'
	for i in "${!pids[@]}"; do
		pid=${pids[i]}
		printf '  %-10s %6d %10d %8d %12d\n' "${names[i]}" "$pid" \
			"$(cat "/proc/$pid/ksm_merging_pages")" \
			"$(stat_of "$pid" ksm_rmap_items)" \
			$(($(stat_of "$pid" ksm_process_profit) / 1024))
	done
}

[ -d $sys ] || { echo "this kernel has no KSM"; exit 1; }
ksmd=$(pgrep -x ksmd)
echo "Linux $(uname -r), $(nproc) CPUs, $(awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo) MiB; starting programs"
start_programs
wait_ready
echo "${#pids[@]} programs running: $(printf '%s\n' "${names[@]}" | sort | uniq -c | awk '{ printf "%s%s %s", s, $1, $2; s = ", " }')"
echo 200 >$sys/pages_to_scan
echo 1 >$sys/run
watch_merging
sum_up
per_process
merged=$(value pages_sharing)
kill "${pids[@]}"
[ "$merged" -gt 0 ] || { echo "nothing was merged"; exit 1; }
