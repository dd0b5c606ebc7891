#!/usr/bin/env bash
# check_faults.sh [pytest arguments] - fault points (src/fault_point.h): a build of its own with them in, and test/faults on it.
# SEQUIN_FAULTS=all: every action at every point; else each point is killed at, and those inside a transaction also fail.
# Run as an unprivileged user.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
work=$here/build/faults
mkdir -p "$work/src"
# A copy of the sources, so that objects of the two builds never meet; make compiles what is newer.
for f in Makefile sequin_proxy.c sequin_proxy.control sequin_proxy--1.0.sql src; do cp -rpu "$f" "$work/"; done
find "$work" -name '*.o' ! -newer "$work/.built" -delete 2>/dev/null || find "$work" -name '*.o' -delete
log=$(mktemp)
make -s -j2 -C "$work" COPT=-DSEQUIN_FAULT_POINTS all >"$log" 2>&1 || { tail -50 "$log"; exit 1; }
rm -f "$log"
touch "$work/.built"
SEQUIN_PREFIX_BIN=$(SEQUIN_SO="$work/sequin_proxy.so" tools/prefix.sh "$here/build/faults/prefix")
export SEQUIN_PREFIX_BIN PYTHONPATH="$here/test:$here/test/e2e" PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -m pytest -q -p no:cacheprovider --rootdir="$here" test/faults "$@"
