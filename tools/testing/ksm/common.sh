# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
# Paths and messages that all scripts here share; sourced, never run.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
here=$top/tools/testing/ksm
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ksm
logs=$cache/log
# The stock tree is pristine but for its build directory; the ksm tree is a
# copy of it with our files and patches on top. Building below the source keeps
# every path in the compiler's command lines relative, so that ccache can give
# one tree what the other has compiled.
stock=$cache/stock
ksm=$cache/ksm
# What make bench needs: trees of its own, as user-mode Linux is patched too
bench=$cache/bench

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Run a command with its output in a log; on failure show why and where.
logged() {
	local log=$1 status
	shift
	mkdir -p "$(dirname "$log")"
	"$@" >"$log" 2>&1 </dev/null && return 0
	status=$?
	grep -nE 'error:|Error |\*\*\*|undefined|warning:|No such file' "$log" |
		head -n 15 >&2 || true
	printf 'failed (status %d): %s\nlog: %s\n' "$status" "$*" "$log" >&2
	return "$status"
}

# Our selftests, as guest-tests.sh wants to have them listed
our_list() {
	find "$top/tools/testing/selftests/mm" -name 'ksm_*.c' -printf '%f\n' |
		sort | sed 's/\(.*\)\.c$/\1 300 \1/'
}

# The storm, to the file that is named.  Addresses of constants are told from
# process to process: no PIE
build_storm() {
	mkdir -p "$(dirname "$1")"
	logged "$logs/storm-compile.log" gcc -O2 -Wall -static -no-pie -pthread \
		-o "$1" "$here"/storm*.c
}
