# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154
# What our repository changes in a kernel tree; sourced after common.sh.

kernel_release() {
	sed -n 's/^VERSION = //p; s/^PATCHLEVEL = //p; s/^SUBLEVEL = //p' \
		"$1/Makefile" | head -n 3 | paste -sd.
}

require_6_12() {
	if [ ! -f "$1/Makefile" ] || [ ! -f "$1/mm/Makefile" ]; then
		die "$1 is not a kernel tree"
	fi
	case $(kernel_release "$1") in
	6.12 | 6.12.*) ;;
	*) die "$1 is Linux $(kernel_release "$1"), not 6.12" ;;
	esac
}

require_unpatched() {
	if [ -d "$1/mm/ksm" ] || grep -qs 'mm/ksm/Kconfig' "$1/mm/Kconfig"; then
		die "$1 has this KSM already"
	fi
}

# Our files that go into the tree as they are, as paths below the top
overlay_files() {
	(cd "$top" && find mm include Documentation tools/testing/selftests/mm \
		-type f ! -name '*~' ! -name '.*.sw?' ! -name '*.orig' \
		! -name '*.rej' 2>/dev/null | sort)
}

# Files of the tree that patches/ changes
patched_files() {
	[ -z "$(find "$top/patches" -name '*.patch')" ] ||
		sed -n 's,^+++ [^/]*/\([^\t]*\).*,\1,p' "$top"/patches/*.patch | sort -u
}

# Fill directory $2 with every file that we add to the tree $1 or change in it
stage_overlay() {
	local base=$1 stage=$2 file patch out
	mkdir -p "$stage"
	patched_files | while read -r file; do
		[ ! -e "$top/$file" ] ||
			die "$file is both in our tree and changed by patches/"
		[ -e "$base/$file" ] || continue
		mkdir -p "$stage/$(dirname "$file")"
		cp -p "$base/$file" "$stage/$file"
	done
	for patch in "$top"/patches/*.patch; do
		[ -e "$patch" ] || continue
		out=$(patch -p1 --batch --forward --no-backup-if-mismatch -F0 \
			-d "$stage" <"$patch" 2>&1) ||
			die "$(basename "$patch") does not apply to $base:
$out"
	done
	overlay_files | while read -r file; do
		mkdir -p "$stage/$(dirname "$file")"
		cp -p "$top/$file" "$stage/$file"
	done
}
