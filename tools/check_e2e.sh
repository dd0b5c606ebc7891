#!/usr/bin/env bash
# check_e2e.sh [pytest arguments] - the end-to-end tests on real clusters.  Run as an unprivileged user.
set -euo pipefail
cd "$(dirname "$0")/.."
SEQUIN_PREFIX_BIN=$(tools/prefix.sh "$PWD/build/prefix")
export SEQUIN_PREFIX_BIN PYTHONPATH="$PWD/test" PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -m pytest -q -p no:cacheprovider --rootdir="$PWD" ${PYTEST_ARGS:-} "${@:-test/fakeapi}" $([ $# -gt 0 ] || echo test/unit test/e2e test/consistency)
