#!/usr/bin/env bash
# check_asan.sh [pytest arguments] - the end-to-end tests with the whole extension under AddressSanitizer and UBSan.
#
# Only the extension is instrumented; the runtime is preloaded into every server process, so that malloc, free and
# longjmp of PostgreSQL, libmicrohttpd and libcurl are watched too.  The log of every cluster that holds a report is
# kept in build/asan/reports, and any file there fails the run.  Run as an unprivileged user.
set -uo pipefail
cd "$(dirname "$0")/.."
make -s -j2 all || exit 1
out=$PWD/build/asan; mkdir -p "$out/reports"; rm -f "$out"/reports/*
pg_config=${PG_CONFIG:-pg_config}
objects=()
for c in sequin_proxy.c src/*.c src/providers/*.c; do
	o=$out/$(tr / _ <<<"${c%.c}").o
	objects+=("$o")
	[ "$o" -nt "$c" ] && [ -z "$(find src -name '*.h' -newer "$o" -print -quit)" ] && continue
	echo "$c $o"
done | xargs -r -P2 -n2 sh -c 'gcc -std=gnu11 -g -O1 -fPIC -D_GNU_SOURCE -fno-omit-frame-pointer -fsanitize=address,undefined \
	-fno-sanitize=alignment -Isrc -I"$('"$pg_config"' --includedir-server)" -fvisibility=hidden \
	"-DPGDLLEXPORT=__attribute__((visibility(\"default\")))" -c "$0" -o "$1" || exit 255' || exit 1
gcc -shared -fsanitize=address,undefined -o "$out/sequin_proxy.so" "$out"/*.o -lmicrohttpd -lcurl -lunistring -lcrypto || exit 1
gcc -shared -fPIC -fno-builtin -o "$out/nls.so" test/shim/nls.c || exit 1
SEQUIN_PREFIX_BIN=$(SEQUIN_SO=$out/sequin_proxy.so tools/prefix.sh "$out/prefix")
options="detect_leaks=0:detect_stack_use_after_return=0:abort_on_error=1:print_stacktrace=1:quarantine_size_mb=32"
SEQUIN_SERVER_ENV=$(printf '{"LD_PRELOAD":"%s","ASAN_OPTIONS":"%s","UBSAN_OPTIONS":"%s"}' "$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so) $out/nls.so" "$options" "$options")
export SEQUIN_REPORTS=$out/reports SEQUIN_PREFIX_BIN SEQUIN_SERVER_ENV PYTHONPATH="$PWD/test" PYTHONDONTWRITEBYTECODE=1
/usr/bin/python3 -m pytest -q -p no:cacheprovider --rootdir="$PWD" ${PYTEST_ARGS:-} "${@:-test/e2e}"
rc=$?
reports=$(find "$out/reports" -type f -size +0 | wc -l)
[ "$reports" = 0 ] || grep -A20 'runtime error:\|ERROR: AddressSanitizer' "$out"/reports/* | head -200
echo "check-asan: $reports reports"
[ "$rc" = 0 ] && [ "$reports" = 0 ]
