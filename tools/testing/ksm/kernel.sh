#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Configure and build one of the prepared trees: kernel.sh stock|ksm
# SET="KSM_DEBUG=n ..." sets options over those of Kconfig.fragment.

set -eu
. "$(dirname "$0")/common.sh"

name=${1:?stock or ksm}
src=$cache/$name
out=$src/build

kmake() {
	make -C "$src" O=build CC="ccache gcc" HOSTCC="ccache gcc" "$@"
}

wanted_options() {
	cat "$top/Kconfig.fragment"
	local option
	for option in ${SET:-}; do
		printf 'CONFIG_%s\n' "${option#CONFIG_}"
	done
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
		(cd "$src" && scripts/kconfig/merge_config.sh -O build -m \
			build/.config build/.fragment) &&
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
	logged "$logs/$name-config.log" merge_config
	check_options
	printf '%s\n' "$key" >"$out/.config-key"
}

# A line now and then, so that a long build does not look dead
progress() {
	local log=$1
	while sleep 30; do
		printf '  %s kernel: %s objects, %s s\n' "$name" \
			"$(grep -cE '^  (CC|AS) ' "$log")" "$SECONDS"
	done
}

build() {
	local log=$logs/$name-build.log ticker
	: >"$log"
	progress "$log" &
	ticker=$!
	# shellcheck disable=SC2064
	trap "kill $ticker 2>/dev/null" EXIT
	logged "$log" kmake -j"$(nproc)" bzImage headers
}

"$here/packages.sh" build
mkdir -p "$out" "$logs"
exec 9>"$cache/.lock-$name"
flock 9
configure
say "Building the $name kernel (log: $logs/$name-build.log)"
build
say "$out/arch/x86/boot/bzImage ready after $SECONDS s"
