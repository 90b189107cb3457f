#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Boot a built kernel and show it merging real programs: run.sh [stock|ksm]

set -eu
. "$(dirname "$0")/common.sh"

"$here/packages.sh" build run
mkdir -p "$cache/bin"
logged "$logs/opt-in.log" gcc -O2 -Wall -static -o "$cache/bin/opt-in" "$here/opt-in.c"
say "Booting; the kernel's log goes to $logs/run.log"
exec "$here/vm.sh" --kernel "${1:-ksm}" --timeout 240 --log "$logs/run.log" -- \
	"$here/demo.sh" "$cache/bin/opt-in"
