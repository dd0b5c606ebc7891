#!/usr/bin/env bash
# soak.sh [options of test/soak/soak.py] - does anything grow?  A million requests, ten thousand connections, a million
# records; takes some minutes.  Run as an unprivileged user.
set -euo pipefail
cd "$(dirname "$0")/.."
make -s -j2 all
SEQUIN_PREFIX_BIN=$(tools/prefix.sh "$PWD/build/prefix")
export SEQUIN_PREFIX_BIN PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 test/soak/soak.py "$@"
