#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Prepare kernel trees below the cache directory.
#
#   tree.sh stock   a pristine 6.12: a copy of KDIR, or else unpacked from
#                   Debian's linux-source-6.12
#   tree.sh ksm     the same with our files over it and patches/ applied
#
# A second run rewrites only files whose contents changed, so that builds stay
# incremental.

set -eu
. "$(dirname "$0")/common.sh"
. "$here/overlay.sh"

tarball=/usr/src/linux-source-6.12.tar.xz

unpack_tarball() {
	"$here/packages.sh" source
	[ -r "$tarball" ] || die "no $tarball: install linux-source-6.12 or give KDIR="
	local id
	id="$tarball $(stat -c '%s %Y' "$tarball")"
	[ "$(cat "$stock/.base" 2>/dev/null)" != "$id" ] || return 0
	say "Unpacking $tarball"
	rm -rf "$stock"
	mkdir -p "$stock"
	tar -xf "$tarball" -C "$stock" --strip-components=1
	require_6_12 "$stock"
	printf '%s\n' "$id" >"$stock/.base"
}

copy_kdir() {
	require_6_12 "$KDIR"
	require_unpatched "$KDIR"
	mkdir -p "$stock"
	say "Copying $KDIR"
	rsync -a --delete --exclude=/.git '--exclude=/build*' --exclude=/.base \
		"$KDIR/" "$stock/"
	if [ -e "$stock/.config" ] || [ -d "$stock/include/config" ]; then
		logged "$logs/mrproper.log" make -C "$stock" mrproper
	fi
	printf '%s %s\n' "$KDIR" "$(kernel_release "$stock")" >"$stock/.base"
}

prepare_stock() {
	if [ -n "${KDIR:-}" ]; then
		KDIR=$(cd "$KDIR" 2>/dev/null && pwd) || die "KDIR: no such directory"
		copy_kdir
	else
		unpack_tarball
	fi
}

# The copy is made anew when its base is another one
copy_stock() {
	local keep=(--exclude=/mm/ksm '--exclude=/build*' --exclude=/check --exclude=/.overlay --exclude=/.base)
	if [ -z "${KDIR:-}" ] && cmp -s "$stock/.base" "$ksm/.base"; then
		return 0
	fi
	mkdir -p "$ksm"
	# Files of ours are left to lay_overlay, which knows what changed
	[ ! -s "$ksm/.overlay" ] || keep+=("--exclude-from=$ksm/.overlay")
	rsync -a --delete "${keep[@]}" --exclude='local_config.*' "$stock/" "$ksm/"
	cp "$stock/.base" "$ksm/.base"
}

# Put the staged files in place; restore or remove what is ours no longer
lay_overlay() {
	local stage=$1 file
	(cd "$stage" && find . -type f -printf '/%P\n' | sort) >"$stage.list"
	if [ -f "$ksm/.overlay" ]; then
		comm -23 "$ksm/.overlay" "$stage.list" | while read -r file; do
			rm -f "$ksm$file"
			[ ! -e "$stock$file" ] || cp -p "$stock$file" "$ksm$file"
		done
	fi
	rsync -rlp --checksum "$stage/" "$ksm/"
	mv "$stage.list" "$ksm/.overlay"
}

prepare_ksm() {
	copy_stock
	tmp=$(mktemp -d)
	trap 'rm -rf "$tmp"' EXIT
	stage_overlay "$stock" "$tmp/stage"
	lay_overlay "$tmp/stage"
}

mkdir -p "$cache"
exec 9>"$cache/.lock-tree"
flock 9
prepare_stock
[ "${1:-ksm}" = stock ] || prepare_ksm
