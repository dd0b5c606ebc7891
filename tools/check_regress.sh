#!/usr/bin/env bash
# check_regress.sh - pg_regress (sql/, expected/) in a throw-away cluster.  Run as an unprivileged user.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
bin=$(tools/prefix.sh "$here/build/prefix")
out=$here/build/regress; rm -rf "$out"; mkdir -p "$out"
dir=$(mktemp -d /tmp/sequin_regress.XXXXXX)
port=$((20000 + RANDOM % 20000))
trap '"$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
"$bin/initdb" -D "$dir/data" -A trust -U postgres -E UTF8 --locale=C.UTF-8 -N >/dev/null
cat >>"$dir/data/postgresql.conf" <<CONF
listen_addresses = ''
port = $port
unix_socket_directories = '$dir'
shared_preload_libraries = 'sequin_proxy'
sequin_proxy.database = 'regression'
sequin_proxy.port = $((port + 1))
fsync = off
CONF
"$bin/pg_ctl" -D "$dir/data" -l "$out/postgres.log" -w start >/dev/null
regress=$(dirname "$(${PG_CONFIG:-pg_config} --pgxs)")/../test/regress/pg_regress
tests=$(cd sql && ls *.sql | sed 's/\.sql$//')
# shellcheck disable=SC2086
if ! "$regress" --inputdir="$here" --outputdir="$out" --bindir="$bin" --host="$dir" --port="$port" --user=postgres \
	--dbname=regression $tests; then
	cat "$out/regression.diffs" 2>/dev/null | head -300
	exit 1
fi
n=$(wc -w <<<"$tests")
echo "pg_regress: $n passed, 0 failed"
