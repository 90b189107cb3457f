#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Fuzz the index files in user space: fuzz.sh [SECONDS] [TARGET...]
#
# The targets, by default all in fuzz/Makefile, share SECONDS (60) evenly.  With
# clang, libFuzzer is guided by what the kernel's code does with an input; CC=gcc
# makes do with random inputs. Prints KTAP; exit status 1 if a target failed.
# Inputs that led somewhere new are kept in the cache, and the next run begins
# with them. Needs a prepared ksm tree.

set -u
. "$(dirname "$0")/common.sh"

work=$cache/fuzz
cc=${CC:-clang}
bin=$work/build-$(basename "${cc##* }")
number=0
failed=0

# Warnings of the kernel abort; what libFuzzer keeps in memory is small
export ASAN_OPTIONS=quarantine_size_mb=16:detect_stack_use_after_return=0

known_targets() {
	sed -n 's/^TARGETS := //p' "$here/fuzz/Makefile"
}

build() {
	mkdir -p "$bin"
	make -C "$here/fuzz" -j"$(nproc)" KSM="$ksm" O="$bin" CC="$cc" \
		TARGETS="$targets"
}

guided() {
	"$cc" --version | grep -q clang
}

# Run a target for some seconds; what it prints goes to the log
run() {
	local target=$1 seconds=$2
	if guided; then
		"$bin/$target" -max_total_time="$seconds" -max_len=1024 \
			-len_control=20 -timeout=20 -rss_limit_mb=1024 \
			-print_final_stats=1 -verbosity=1 \
			-artifact_prefix="$work/failures/$target-" \
			"$work/corpus/$target"
	else
		timeout $((seconds + 30)) "$bin/$target" -t "$seconds" \
			-o "$work/failures/$target-"
	fi
}

# What a run came to, from its log
summary() {
	local log=$1
	if guided; then
		sed -n 's/^stat::number_of_executed_units: \(.*\)/\1 inputs,/p' "$log"
		sed -n 's/.* cov: \([0-9]*\) .*/\1 edges/p' "$log" | tail -n 1
	else
		grep -E '^[0-9]+ inputs$' "$log"
	fi
}

# Where the failing input is; a run that was only killed has none
failing_input() {
	sed -n 's/.*Test unit written to //p; s/^input written to //p' "$1" | tail -n 1
}

complain() {
	local target=$1 log=$2 input
	input=$(failing_input "$log")
	grep -m 1 -A 20 -E '^/?[^ ]*[.][ch]:[0-9]+:|ERROR:' "$log" |
		cut -c1-160 | sed 's/^/# | /'
	say "# log: $log"
	[ -n "$input" ] || return
	say "# input: $input"
	say "# replay: $bin/$target $input"
}

fuzz() {
	local target=$1 seconds=$2 log=$logs/fuzz-$1.log
	mkdir -p "$work/corpus/$target" "$work/failures"
	number=$((number + 1))
	if run "$target" "$seconds" >"$log" 2>&1 </dev/null; then
		# shellcheck disable=SC2046
		say "ok $number fuzz: $target: "$(summary "$log")
	else
		complain "$target" "$log"
		say "not ok $number fuzz: $target"
		failed=1
	fi
}

total=${1:-60}
shift
[[ $total =~ ^[0-9]+$ ]] || die "usage: fuzz.sh [SECONDS] [TARGET...]"
targets=${*:-$(known_targets)}
for target in $targets; do
	case " $(known_targets) " in
	*" $target "*) ;;
	*) die "no fuzz target $target; there are: $(known_targets)" ;;
	esac
done
# shellcheck disable=SC2086
set -- $targets

[ -f "$ksm/mm/ksm/internal.h" ] || die "no tree in $ksm: run tree.sh ksm first"
say 'KTAP version 1'
say "1..$#"
if [ "$cc" = clang ]; then
	task=fuzz
else
	task=build
fi
mkdir -p "$logs"
if ! "$here/packages.sh" $task >&2 || ! logged "$logs/fuzz-build.log" build; then
	say 'Bail out! The targets could not be built'
	exit 1
fi
# At least a second: 0 would mean to go on for ever
each=$((total / $#))
for target in "$@"; do
	fuzz "$target" $((each > 0 ? each : 1))
done
exit $failed
