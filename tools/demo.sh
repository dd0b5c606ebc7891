#!/usr/bin/env bash
# demo.sh - builds, then runs the demo (tools/demo.py) in a throw-away cluster.  As an unprivileged user.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "building..."
log=$(mktemp)
make -s -j2 all >"$log" 2>&1 || { tail -50 "$log"; exit 1; }
rm -f "$log"
SEQUIN_PREFIX_BIN=$(tools/prefix.sh "$PWD/build/prefix")
export SEQUIN_PREFIX_BIN PYTHONPATH="$PWD/test:$PWD/test/e2e" PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 tools/demo.py
