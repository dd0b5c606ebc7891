#!/usr/bin/env bash
# bench.sh [options of bench/run.py] - builds, then runs the benchmark.  As an unprivileged user; QUICK=1 for a short run;
# BENCH="options" as from make.
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
make -s -j2 all >"$log" 2>&1 || { tail -50 "$log"; exit 1; }
rm -f "$log"
SEQUIN_PREFIX_BIN=$(tools/prefix.sh "$PWD/build/prefix")
export SEQUIN_PREFIX_BIN PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 bench/run.py $([ "${QUICK:-}" = 1 ] && echo --quick) ${BENCH:-} "$@"
