#!/usr/bin/env bash
# test.sh - everything: unit tests under sanitizers, pg_regress, the stand-ins' own tests, end to end, fault points, consistency.
# Tests mostly wait, so two lanes of them run at once; those that measure time run by themselves.
set -uo pipefail
cd "$(dirname "$0")/.."
logs=$(mktemp -d /tmp/sequin_logs.XXXXXX)
trap 'rm -rf "$logs"' EXIT
make -s -j2 all >"$logs/build" 2>&1 || { tail -50 "$logs/build"; exit 1; }
grep -q 'warning:' "$logs/build" && { grep -A3 'warning:' "$logs/build"; echo "the build must not warn"; exit 1; }

alone=(test/e2e/test_limits.py test/e2e/test_two_parties.py)
second=(test/e2e/test_sync_faults.py test/e2e/test_failover.py test/e2e/test_environment.py test/e2e/test_oauth.py test/consistency)
first=(test/fakeapi test/unit)
for file in test/e2e/test_*.py; do
	case " ${alone[*]} ${second[*]} " in *" $file "*) ;; *) first+=("$file") ;; esac
done

rc=0
tools/check_unit.sh || rc=1
tools/check_regress.sh || rc=1
tools/prefix.sh "$PWD/build/prefix" >/dev/null	# before two of them would make it
(both=0; tools/check_faults.sh || both=1; tools/check_e2e.sh "${second[@]}" || both=1; exit $both) >"$logs/second" 2>&1 &
other=$!
tools/check_e2e.sh "${first[@]}" || rc=1
wait "$other" || rc=1
cat "$logs/second"
tools/check_e2e.sh "${alone[@]}" || rc=1
[ "$rc" = 0 ] && echo "make test: all passed" || echo "make test: FAILED"
exit "$rc"
