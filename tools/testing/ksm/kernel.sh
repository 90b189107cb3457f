#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Configure and build one of the prepared trees: kernel.sh stock|ksm [KIND]
# SET="KSM_DEBUG=n ..." sets options over those of the fragment. With "debug",
# "kcsan" or "gcov" those of Kconfig.KIND come on top; with "uml" it is the tree
# below $cache/bench, built as the program that make bench runs.

set -eu
. "$(dirname "$0")/common.sh"

name=${1:?stock or ksm}
kind=${2:-}
title=$name${kind:+-$kind} src=$cache/$name arch=x86 build=build
fragments=("$top/Kconfig.fragment")
targets='bzImage headers' product=arch/x86/boot/bzImage
case $kind in
'') ;;
debug | kcsan | gcov)
	build=build-$kind targets=bzImage
	fragments+=("$top/Kconfig.$kind")
	;;
uml)
	src=$bench/$name arch=um fragments=("$here/bench.fragment")
	targets=linux product=linux
	;;
*) die "kernel.sh: unknown kind $kind" ;;
esac
out=$src/$build

# What Kbuild is to profile if CONFIG_GCOV_KERNEL is set
profiled() {
	[ "$kind" != gcov ] ||
		(cd "$src/mm" && printf 'GCOV_PROFILE_%s.o=y\n' \
			$(basename -s .c ksm.c ksm/*.c))
}

kmake() {
	# shellcheck disable=SC2046
	make -C "$src" O="$build" ARCH="$arch" CC="ccache gcc" HOSTCC="ccache gcc" \
		$(profiled) "$@"
}

# Of several lines for an option, the last
wanted_options() {
	local option
	{
		cat "${fragments[@]}"
		for option in ${SET:-}; do
			printf 'CONFIG_%s\n' "${option#CONFIG_}"
		done
	} | tac | awk 'match($0, /CONFIG_[A-Z0-9_]+/) &&
		!seen[substr($0, RSTART, RLENGTH)]++' | tac
}

# Everything that decides the configuration
config_key() {
	{
		wanted_options
		cat "$src/mm/Kconfig" "$src/mm/ksm/Kconfig" "$src/.base" 2>/dev/null
	} | sha256sum
}

merge_config() {
	wanted_options >"$out/.fragment" &&
		kmake tinyconfig &&
		(cd "$src" && scripts/kconfig/merge_config.sh -O "$build" -m \
			"$build/.config" "$build/.fragment") &&
		kmake olddefconfig
}

# An option that was asked for and is not there would go unnoticed otherwise.
# The stock kernel lacks those that are ours, and SET may turn others off.
check_options() {
	local lost
	[ -z "${SET:-}" ] || return 0
	lost=$(grep CONFIG_ "$out/.fragment" | grep -vxF -f "$out/.config" || true)
	[ "$name" = ksm ] || lost=$(grep -v '^CONFIG_KSM_' <<<"$lost" || true)
	[ -z "$lost" ] || die "options that the configuration dropped:
$lost"
}

configure() {
	local key
	key=$(config_key)
	[ "$(cat "$out/.config-key" 2>/dev/null)" != "$key" ] || return 0
	rm -f "$out/.config-key"
	logged "$logs/$title-config.log" merge_config
	check_options
	printf '%s\n' "$key" >"$out/.config-key"
}

# A line now and then, so that a long build does not look dead
progress() {
	local log=$1
	while sleep 30; do
		printf '  %s kernel: %s objects, %s s\n' "$title" \
			"$(grep -cE '^  (CC|AS) ' "$log")" "$SECONDS"
	done
}

build() {
	local log=$logs/$title-build.log ticker
	: >"$log"
	progress "$log" &
	ticker=$!
	# shellcheck disable=SC2064
	trap "kill $ticker 2>/dev/null" EXIT
	# shellcheck disable=SC2086
	logged "$log" kmake -j"$(nproc)" $targets
}

"$here/packages.sh" build
mkdir -p "$out" "$logs"
exec 9>"$cache/.lock-$title"
flock 9
configure
say "Building the $title kernel (log: $logs/$title-build.log)"
build
say "$out/$product ready after $SECONDS s"
