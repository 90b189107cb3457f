#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Remove what the other scripts have made below the cache directory.

set -eu
. "$(dirname "$0")/common.sh"

rm -rf "$stock" "$ksm" "$bench" "$logs" "${cache:?}/bin" "$cache"/test* "$cache/fuzz" "$cache/coverage" "$cache"/ksm-6.12.patch "$cache"/.lock-*
