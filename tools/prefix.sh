#!/usr/bin/env bash
# prefix.sh DIR - a private PostgreSQL installation in DIR with this extension in it.
#
# PostgreSQL finds its share and lib directories relative to its executable, so copies of the
# executables beside links to everything else give an installation of our own: no root needed,
# and no file of an installed extension or of an existing cluster is ever touched.
# Prints the bin directory.  DIR must be absolute; it is made anew when the server's version changed.
set -euo pipefail
dir=$1
here=$(cd "$(dirname "$0")/.." && pwd)
pg_config=${PG_CONFIG:-pg_config}
bin=$("$pg_config" --bindir) share=$("$pg_config" --sharedir) lib=$("$pg_config" --pkglibdir)
version=$("$pg_config" --version)
# Keep the relative layout: strip the longest common prefix (/usr on Debian).
root=${bin%%/lib/*}
[ "$root" != "$bin" ] && [ "${share#"$root"/}" != "$share" ] && [ "${lib#"$root"/}" != "$lib" ] || {
	echo "prefix.sh: cannot make a private copy of a PostgreSQL laid out as $bin, $share, $lib" >&2; exit 1; }
pbin=$dir/${bin#"$root"/} pshare=$dir/${share#"$root"/} plib=$dir/${lib#"$root"/}

if [ "$(cat "$dir/version" 2>/dev/null)" != "$version $bin" ]; then
	rm -rf "$dir"
	mkdir -p "$pbin" "$pshare/extension" "$plib"
	for f in "$bin"/*; do cp -L "$f" "$pbin/"; done
	for f in "$share"/*; do [ "$(basename "$f")" = extension ] || ln -s "$f" "$pshare/"; done
	for f in "$share"/extension/*; do ln -s "$f" "$pshare/extension/"; done
	for f in "$lib"/*; do ln -s "$f" "$plib/"; done
	echo "$version $bin" > "$dir/version"
fi
so=${SEQUIN_SO:-$here/sequin_proxy.so}
same() { for f in "$here"/sequin_proxy.control "$here"/sequin_proxy--*.sql; do cmp -s "$f" "$pshare/extension/$(basename "$f")" || return 1; done; }
# What is there already is left alone: clusters of a test that runs beside this one use it.
if ! cmp -s "$so" "$plib/sequin_proxy.so" || ! same; then
	rm -f "$plib/sequin_proxy.so" "$pshare"/extension/sequin_proxy*
	install -m 755 "$so" "$plib/sequin_proxy.so"
	install -m 644 "$here"/sequin_proxy.control "$here"/sequin_proxy--*.sql "$pshare/extension/"
fi
echo "$pbin"
