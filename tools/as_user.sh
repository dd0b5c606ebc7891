#!/usr/bin/env bash
# as_user.sh COMMAND... - runs a command as an unprivileged user (initdb refuses root), in a copy of this
# tree that the user may build in.  As a non-root user it runs it right here.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
cd "$here"
[ "$(id -u)" != 0 ] && exec "$@"
user=postgres
id "$user" >/dev/null 2>&1 || user=nobody
work=$(mktemp -d /tmp/sequin_proxy.XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src" "$work/home"
# What git tracks or would track; neither build products nor .git.
if git -C "$here" -c safe.directory="$here" rev-parse >/dev/null 2>&1; then
	git -C "$here" -c safe.directory="$here" ls-files -z --cached --others --exclude-standard |
		(cd "$here" && xargs -0 sh -c 'for f; do [ ! -e "$f" ] || printf "%s\0" "$f"; done' sh) |
		tar -C "$here" --null -T - -cf - | tar -C "$work/src" -xf -
else
	tar -C "$here" --exclude=./build --exclude='*.o' --exclude='*.so' -cf - . | tar -C "$work/src" -xf -
fi
chown -R "$user": "$work"
cd "$work/src"
env_args=()
for v in KEEP HUBSPOT_TOKEN AIRTABLE_TOKEN AIRTABLE_BASE WRITE CI QUICK BENCH PYTEST_ARGS OPS SEED KILL TRIES SEQUIN_FAULTS NO_COLOR TERM; do
	[ -z "${!v:-}" ] || env_args+=("$v=${!v}")
done
[ "${KEEP:-}" = 1 ] && trap - EXIT
status=0
setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups --inh-caps=-all \
	env -i PATH="$PATH:/usr/sbin:/sbin" HOME="$work/home" LANG=C.UTF-8 USER="$user" npm_config_registry="$(npm config get registry 2>/dev/null || true)" "${env_args[@]}" "$@" || status=$?
# What a command means to be kept.
[ ! -d build/results ] || { mkdir -p "$here/build" && cp -R build/results "$here/build/"; }
exit "$status"
