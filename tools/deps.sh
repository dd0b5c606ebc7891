#!/usr/bin/env bash
# deps.sh [bench] - installs what is missing, by Debian package name; without root it prints the one command to run.
# bench: what only the benchmark needs, too.
set -euo pipefail
packages=(build-essential pkg-config postgresql-15 postgresql-server-dev-15 libmicrohttpd-dev libcurl4-openssl-dev
	libunistring-dev libssl-dev clang libclang-rt-14-dev python3-pytest python3-psycopg python3-aiohttp wrk
	ca-certificates openssl curl jq nodejs)
command -v npm >/dev/null || packages+=(npm)
command -v node >/dev/null && packages=("${packages[@]/nodejs/}")
[ "${1:-}" != bench ] || packages+=(nginx-light wrk valgrind procps)
missing=()
for p in "${packages[@]}"; do
	[ -z "$p" ] || dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q '^install ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" != 0 ]; then
	echo "Packages are missing. Run this once, then try again:" >&2
	echo "  sudo apt-get install -y ${missing[*]}" >&2
	exit 1
fi
echo "installing: ${missing[*]}" >&2
# No cluster of its own: ours are throw-away ones.
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf
export DEBIAN_FRONTEND=noninteractive
# Nor an nginx that starts by itself: the benchmark runs its own.
[ "${1:-}" != bench ] || export RUNLEVEL=1
log=$(mktemp)
{ apt-get update -qq && apt-get install -y -qq "${missing[@]}"; } >"$log" 2>&1 || { tail -40 "$log" >&2; exit 1; }
rm -f "$log"
