#!/usr/bin/env bash
# test.sh - everything: unit tests under sanitizers, pg_regress, the stand-ins' own tests, end to end.
set -uo pipefail
cd "$(dirname "$0")/.."
make -s -j2 all >/tmp/sequin_build.$$ 2>&1 || { tail -50 /tmp/sequin_build.$$; exit 1; }
grep -q 'warning:' /tmp/sequin_build.$$ && { grep -A3 'warning:' /tmp/sequin_build.$$; echo "the build must not warn"; exit 1; }
rm -f /tmp/sequin_build.$$
rc=0
tools/check_unit.sh || rc=1
tools/check_regress.sh || rc=1
tools/check_e2e.sh || rc=1
tools/check_faults.sh || rc=1
[ "$rc" = 0 ] && echo "make test: all passed" || echo "make test: FAILED"
exit "$rc"
