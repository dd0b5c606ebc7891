#!/usr/bin/env bash
# check_consistency.sh - the consistency checker at length (test/consistency): OPS operations, SEED, KILL=1.  Run as an unprivileged user.
set -euo pipefail
cd "$(dirname "$0")/.."
SEQUIN_PREFIX_BIN=$(tools/prefix.sh "$PWD/build/prefix")
export SEQUIN_PREFIX_BIN PYTHONPATH="$PWD/test:$PWD/test/e2e" PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -m consistency --ops "${OPS:-100000}" ${SEED:+--seed "$SEED"} ${KILL:+--kill} "$@"
