#!/usr/bin/env bash
# bench_ingest.sh [options of bench/ingest.py] - ingest against COPY and a row-by-row client.  Run as an unprivileged user.
set -euo pipefail
cd "$(dirname "$0")/.."
SEQUIN_PREFIX_BIN=$(tools/prefix.sh "$PWD/build/prefix")
export SEQUIN_PREFIX_BIN PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 bench/ingest.py "$@"
