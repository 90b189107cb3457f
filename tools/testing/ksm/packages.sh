#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Make sure that the Debian packages for a task are there: as root on Debian
# install what is missing, else name it. Usage: packages.sh build|run|test|bench|fuzz ...

set -eu
. "$(dirname "$0")/common.sh"

build="gcc make flex bison bc libelf-dev cpio rsync ccache xz-utils patch git perl"
run="qemu-system-x86 busybox-static cpio python3"
test="sparse libnuma-dev liburing-dev libcap-dev libc6-dev"
bench="libc6-dev python3 gnuplot-nox"
fuzz="clang libclang-rt-dev make libc6-dev"
source="linux-source-6.12"

need=''
for task in "$@"; do
	case $task in
	build) need="$need $build" ;;
	run) need="$need $run" ;;
	test) need="$need $test" ;;
	bench) need="$need $bench" ;;
	fuzz) need="$need $fuzz" ;;
	source) need="$need $source" ;;
	*) die "packages.sh: unknown task $task" ;;
	esac
done

if ! command -v dpkg-query >/dev/null; then
	say "Not a Debian system: please make sure that you have the like of:$need"
	exit 0
fi
missing=''
for package in $need; do
	dpkg-query -W -f='${Status}' "$package" 2>/dev/null |
		grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

install="apt-get install -y --no-install-recommends$missing"
[ "$(id -u)" -eq 0 ] || die "missing packages, please run:
    sudo $install"

export DEBIAN_FRONTEND=noninteractive
say "Installing$missing"
# Package lists may be absent or too old to name what the mirror has
$install >/dev/null 2>&1 </dev/null ||
	{ logged "$logs/apt.log" apt-get update && logged "$logs/apt.log" $install; } ||
	die "could not install:$missing"
