#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Prepare the two trees that make bench builds, $cache/bench/{stock,ksm}: links
# to the files of the prepared trees, and copies of those few that are patched
# so that user-mode Linux is a fair ground. What patches/ has for it must serve
# the stock kernel as well.

set -eu
. "$(dirname "$0")/common.sh"

# The kernel, and the patches that its tree lacks
prepare() {
	local name=$1 base=$cache/$1 tree=$bench/$1 stage=$tmp/$1 file patch
	shift
	mkdir -p "$stage" "$tree"
	sed -n 's,^+++ [^/]*/\([^\t]*\).*,\1,p' "$@" | sort -u | while read -r file; do
		mkdir -p "$stage/$(dirname "$file")"
		cp -p "$base/$file" "$stage/$file"
	done
	for patch; do
		logged "$logs/bench-patch.log" patch -p1 --batch --forward \
			--no-backup-if-mismatch -F0 -d "$stage" -i "$patch" ||
			die "$(basename "$patch") does not apply to $base"
	done
	(cd "$stage" && find . -type f -printf '/%P\n') >"$stage.list"
	rsync -a --delete --link-dest="$base" '--exclude=/build*' --exclude=/check \
		--exclude='local_config.*' --exclude-from="$stage.list" \
		"$base/" "$tree/"
	rsync -rlp --checksum "$stage/" "$tree/"
	say "The $name tree of the benchmark is ready"
}

"$here/tree.sh" ksm
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$bench"
exec 9>"$cache/.lock-bench-tree"
flock 9
prepare stock "$top"/patches/*-um-*.patch "$here/bench-um.patch"
prepare ksm "$here/bench-um.patch"
