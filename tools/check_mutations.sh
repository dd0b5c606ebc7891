#!/usr/bin/env bash
# check_mutations.sh [NAME...] - proves that the consistency checker can fail: breaks a guarantee in a copy of this tree by each
# test/consistency/mutations/NAME.patch, and demands that the checker finds it.  OPS operations (8000), up to TRIES seeds (3).
# Run as an unprivileged user.
set -uo pipefail
cd "$(dirname "$0")/.."
here=$PWD rc=0
[ $# -gt 0 ] || set -- $(cd test/consistency/mutations && ls *.patch | sed 's/\.patch$//')
work=$(mktemp -d /tmp/sequin_mutations.XXXXXX)
trap 'rm -rf "$work"' EXIT

try() {		# NAME: runs the checker on the broken copy until it finds something
	local options seed found
	options=$(sed -n 's/^Options: //p' "$here/test/consistency/mutations/$1.patch")
	for seed in $(seq 1 "${TRIES:-3}"); do
		if env TMPDIR="$work" SEED="$seed" OPS="${OPS:-8000}" $options tools/check_consistency.sh --impatient >"$work/out" 2>&1; then
			continue
		fi
		found=$(sed -n 's/^seed .*; \(stale .*\)$/\1/p' "$work/out" | tr ',' '\n' | grep -v ' 0$' | paste -sd,)
		echo "$1: caught with seed $seed:${found:- $(grep -E 'Error' "$work/out" | tail -1 | cut -c1-200)}"
		return 0
	done
	echo "$1: NOT CAUGHT in ${TRIES:-3} runs of ${OPS:-8000} operations"
	return 1
}

for name; do
	rm -rf "$work/tree" && mkdir "$work/tree"
	tar -C "$here" --exclude=./.git --exclude=./build -cf - . | tar -C "$work/tree" -xf -
	cd "$work/tree"
	patch -s -p1 <"$here/test/consistency/mutations/$name.patch" && make -s -j2 all >"$work/make" 2>&1 ||
		{ echo "$name: the patch does not apply or build"; tail -5 "$work/make"; rc=1; continue; }
	try "$name" || rc=1
done
exit "$rc"
