#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The storm: many processes do to mergeable memory at random whatever can be
# done to it, beside administrators who change whatever can be changed; see
# storm.h. One machine for each seed. Prints KTAP, and what was done.
#
#   MINUTES=10       how long, for each seed; may be a fraction
#   SEED="1 2 3"     one or more; at random if none is given
#   KERNEL=ksm       or stock, as a peer; debug, kcsan. All are to be built.
#
# With --self-test a byte is changed on purpose, and it is an error if that goes
# unnoticed. With --spare-shared, which the stock kernel always gets, MADV_FREE is
# not called for pages that others have by fork: see storm-memory.c.

set -u
. "$(dirname "$0")/common.sh"

kernel=${KERNEL:-ksm}
seconds=$(awk -v m="${MINUTES:-10}" 'BEGIN { print int(m * 60) }')
read -ra seeds <<<"${SEED:-$((RANDOM << 15 | RANDOM))}"
options=("$@")
program=$cache/bin/storm
failed=0

image=$kernel slowness=1
case $kernel in
stock) options+=(--spare-shared) ;;
debug | kcsan)
	image=$ksm/build-$kernel/arch/x86/boot/bzImage
	slowness=5
	;;
esac
[ "$seconds" -gt 0 ] || die "MINUTES=${MINUTES:-} is no time"

# Its own swap, and slab caches that are not shared, so that they can be counted.
# The time beside the storm's own is for booting and for the end.
storm() {
	local seed=$1
	# shellcheck disable=SC2016
	"$here/vm.sh" --kernel "$image" --smp 4 --swap 0 --append slab_nomerge \
		--timeout $((seconds + 300 * slowness)) --log "$logs/storm-$kernel-$seed.log" -- \
		env "KSM_SLOWNESS=$slowness" \
		bash -c 'cp "$0" /tmp/storm && exec /tmp/storm "$@"' "$program" \
		--seed "$seed" --seconds "$seconds" "${options[@]}"
}

# Was the byte found that was spoilt?
found() {
	local byte
	byte=$(sed -n 's/^# self-test: \(byte [0-9]*\) of .*/\1/p' "$1")
	[ -n "$byte" ] && grep -q "^# MISMATCH: .* $byte is wrong\$" "$1"
}

verdict() {
	local seed=$1 status=$2 out=$3
	if [[ " ${options[*]} " == *" --self-test "* ]]; then
		if [ "$status" -ne 0 ] && found "$out"; then
			say "ok $number self-test, seed $seed"
			return
		fi
	elif [ "$status" -eq 0 ]; then
		say "ok $number seed $seed"
		return
	elif [ "$status" -eq 4 ]; then
		say "ok $number seed $seed # SKIP"
		return
	fi
	say "not ok $number seed $seed: status $status, kernel log $logs/storm-$kernel-$seed.log"
	failed=$((failed + 1))
}

"$here/packages.sh" build run || exit 1
build_storm "$program" || exit 1
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT

say 'KTAP version 1'
say "1..${#seeds[@]}"
number=0
for seed in "${seeds[@]}"; do
	number=$((number + 1))
	# A console ends lines its own way
	storm "$seed" 2>&1 | sed -u 's/\r$//' | tee "$out" | sed -u 's/^/    /'
	verdict "$seed" "${PIPESTATUS[0]}" "$out"
done
say "$((number - failed)) passed, $failed failed"
[ "$failed" -eq 0 ]
