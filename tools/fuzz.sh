#!/usr/bin/env bash
# fuzz.sh [SECONDS] - runs every libFuzzer target of test/fuzz for so long (default 60), under ASan and UBSan.
set -uo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
out=build/fuzz; mkdir -p "$out"
rc=0
for target in test/fuzz/fuzz_*.c; do
	name=$(basename "$target" .c)
	line=$(grep -m1 '// *SRC:' "$target" || true)
	src=$(sed -n 's,.*SRC: *\(.*\),\1,p' <<<"$line" | sed 's,LIBS:.*,,')
	libs=$(sed -n 's,.*LIBS: *\(.*\),\1,p' <<<"$line")
	mkdir -p "$out/$name.corpus"
	clang -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -Isrc \
		"$target" $src -o "$out/$name" $libs || { rc=1; continue; }
	seeds=test/fuzz/${name#fuzz_}_seeds.py
	[ ! -f "$seeds" ] || /usr/bin/python3 "$seeds" "$out/$name.corpus" || rc=1
	if "$out/$name" -max_total_time="$seconds" -max_len=4096 -verbosity=0 -print_final_stats=1 "$out/$name.corpus" >"$out/$name.log" 2>&1; then
		echo "$name: $(grep -m1 number_of_executed_units "$out/$name.log" | awk '{print $2}') runs, no finding"
	else
		tail -40 "$out/$name.log"; echo "$name: FAILED"; rc=1
	fi
done
exit "$rc"
