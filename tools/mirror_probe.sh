#!/usr/bin/env bash
# mirror_probe.sh - builds the test-only module test/mirror/mirror_probe.c from the objects in src; prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."
pg_config=${PG_CONFIG:-pg_config}
out=$PWD/build/mirror_probe.so
mkdir -p build
objects=$(ls src/*.c src/providers/*.c | sed 's,c$,o,')
${CC:-gcc} -std=gnu11 -O2 -g -fPIC -shared -D_GNU_SOURCE -Wall -Wno-missing-field-initializers -Isrc -I"$($pg_config --includedir-server)" \
	-fvisibility=hidden '-DPGDLLEXPORT=__attribute__((visibility("default")))' \
	test/mirror/mirror_probe.c $objects -o "$out.new" -lmicrohttpd -lcurl -lunistring -lcrypto
mv "$out.new" "$out"
echo "$out"
