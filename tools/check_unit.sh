#!/usr/bin/env bash
# check_unit.sh - builds each test/unit/test_*.c with ASan and UBSan and runs it.
# The first line of a test names what it needs:  // SRC: src/a.c src/b.c  LIBS: -lfoo
set -uo pipefail
cd "$(dirname "$0")/.."
out=build/unit; mkdir -p "$out"
passed=0 failed=0
for test in test/unit/test_*.c; do
	name=$(basename "$test" .c)
	line=$(grep -m1 '// *SRC:' "$test" || true)
	src=$(sed -n 's,.*SRC: *\(.*\),\1,p' <<<"$line" | sed 's,LIBS:.*,,')
	libs=$(sed -n 's,.*LIBS: *\(.*\),\1,p' <<<"$line")
	if ! ${CC:-gcc} -std=gnu11 -g -O1 -D_GNU_SOURCE -Wall -Wextra -fsanitize=address,undefined -fno-sanitize-recover=undefined \
		-fno-omit-frame-pointer -Isrc -Itest/unit "$test" $src -o "$out/$name" $libs -lpthread >"$out/$name.build" 2>&1; then
		cat "$out/$name.build"; echo "not ok - $name does not build"; failed=$((failed + 1)); continue
	fi
	timeout 300 "$out/$name" >"$out/$name.log" 2>&1; rc=$?
	ok=$(grep -c '^ok ' "$out/$name.log"); no=$(grep -c '^not ok ' "$out/$name.log")
	if [ "$rc" != 0 ] && [ "$no" = 0 ]; then no=1; fi
	if [ "$ok" = 0 ] && [ "$no" = 0 ]; then no=1; echo "$name ran no check"; fi
	[ "$no" = 0 ] || { grep -v '^ok ' "$out/$name.log" | head -60; }
	printf '%-28s %4d passed, %d failed\n' "$name" "$ok" "$no"
	passed=$((passed + ok)) failed=$((failed + no))
done
echo "unit: $passed passed, $failed failed"
[ "$failed" = 0 ]
