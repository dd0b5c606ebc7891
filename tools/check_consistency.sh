#!/usr/bin/env bash
# check_consistency.sh [options of test/consistency] - the consistency checker at length: OPS operations (100000), SEED (any), KILL=1
# kills processes every few seconds.  Run as an unprivileged user.
set -euo pipefail
cd "$(dirname "$0")/.."
make -s -j2 all
SEQUIN_PREFIX_BIN=$(tools/prefix.sh "$PWD/build/prefix")
export SEQUIN_PREFIX_BIN PYTHONPATH="$PWD/test:$PWD/test/e2e" PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -m consistency --ops "${OPS:-100000}" ${SEED:+--seed "$SEED"} ${KILL:+--kill} "$@"
