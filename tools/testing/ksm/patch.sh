#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
#   patch.sh make         write ksm-6.12.patch, for `git apply` in a 6.12 tree
#   patch.sh install DIR  apply the same to the tree DIR, wholly or not at all

set -eu
. "$(dirname "$0")/common.sh"
. "$here/overlay.sh"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# Difference between tree $1 and the same with our files, into file $2
write_patch() {
	local base=$1 out=$2 file status=0
	stage_overlay "$base" "$tmp/b"
	(cd "$tmp/b" && find . -type f -printf '%P\n') >"$tmp/files"
	while read -r file; do
		[ -e "$base/$file" ] || continue
		mkdir -p "$tmp/a/$(dirname "$file")"
		cp -p "$base/$file" "$tmp/a/$file"
	done <"$tmp/files"
	mkdir -p "$tmp/a"
	(cd "$tmp" && git diff --no-index --no-prefix --no-color --no-ext-diff \
		--no-renames a b) >"$out" || status=$?
	# 1 means that there are differences
	[ "$status" -le 1 ] || die "git diff failed"
	[ -s "$out" ] || die "nothing to write: no difference"
}

# git must take the tree for what it is, even inside some other repository
apply() {
	local dir=$1
	shift
	(cd "$dir" && GIT_CEILING_DIRECTORIES=$(dirname "$PWD") git apply "$@")
}

# Files that we replace must be the ones that we know, or at least committed
require_unmodified() {
	local dir=$1 file changed=''
	if [ -e "$dir/.git" ]; then
		changed=$(overlay_files | git -C "$dir" status --porcelain \
			--pathspec-from-file=- 2>/dev/null | cut -c4-)
	elif [ -e "$stock/.base" ] &&
		[ "$(kernel_release "$dir")" = "$(kernel_release "$stock")" ]; then
		for file in $(overlay_files); do
			[ -e "$dir/$file" ] || [ -e "$stock/$file" ] || continue
			cmp -s "$dir/$file" "$stock/$file" || changed="$changed $file"
		done
	fi
	[ -z "$changed" ] || die "$dir has changes in files that would be replaced:
$changed"
}

make_patch() {
	"$here/tree.sh" stock
	write_patch "$stock" "$cache/ksm-6.12.patch"
	apply "$stock" --check --whitespace=nowarn "$cache/ksm-6.12.patch" ||
		die "the patch does not apply to the tree that it was made from"
	say "$cache/ksm-6.12.patch"
}

install_tree() {
	local dir
	dir=$(cd "$1" 2>/dev/null && pwd) || die "KDIR=$1: no such directory"
	require_6_12 "$dir"
	require_unpatched "$dir"
	require_unmodified "$dir"
	write_patch "$dir" "$tmp/patch"
	apply "$dir" --check --whitespace=nowarn "$tmp/patch" ||
		die "the patch does not apply to $dir: nothing was changed"
	apply "$dir" --whitespace=nowarn "$tmp/patch"
	say "$dir: $(wc -l <"$tmp/files") files added or changed; now configure with CONFIG_KSM=y"
}

case ${1:-} in
make) make_patch ;;
install)
	[ -n "${2:-}" ] || die "which tree? make install-tree KDIR=/path/to/linux-6.12.y"
	install_tree "$2"
	;;
*) die "usage: patch.sh make | install DIR" ;;
esac
