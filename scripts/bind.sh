#!/usr/bin/env bash
# Fetches the distribution's BIND into bin/tools/bind for the tests: a name server
# that takes dynamic updates. The packages are only unpacked: installing them would
# start a server on port 53. bin/tools/bind/named runs it with its own libraries.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

if [ -x bin/tools/bind/named ] || command -v named >/dev/null; then
	exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
	die "BIND is missing: put named (9.16 or newer) into PATH"
fi

mkdir -p bin/tools
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
say "fetching bind9"
# apt drops root to download; it must be able to write here.
chmod 755 "$dir"
# What bind9 needs, and what that needs, but for what every Debian and Ubuntu has.
fetch() {
	local packages
	packages=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
		--no-replaces --no-enhances bind9 | grep -E '^(bind9|bind9-libs|lib[a-z0-9.+-]+)$' |
		grep -vE '^(libc6|libc-bin|libgcc-s1|libcrypt1|libpam.*|libperl.*|libdb5.*|libapt.*|libdebconf.*|libsemanage.*|libstdc\+\+6)$')
	# shellcheck disable=SC2086 # a list
	(cd "$dir" && apt-get -q -o APT::Sandbox::User=root download $packages) >"$dir/log" 2>&1 </dev/null
}
if ! fetch && ! { can_install && apt-get -q update >"$dir/log" 2>&1 </dev/null && fetch; }; then
	tail -n 5 "$dir/log" >&2
	die "could not fetch bind9"
fi
mkdir -p "$dir/root" "$dir/all" "$dir/bind/lib"
for deb in "$dir"/*.deb; do dpkg -x "$deb" "$dir/root"; done
find "$dir/root" -name 'lib*.so*' -path '*lib/*-linux-gnu/*' -exec cp -d {} "$dir/all/" \;
install -m 755 "$dir/root/usr/sbin/named" "$dir/bind/named.bin"
# Of all the libraries, only those that named loads.
LD_LIBRARY_PATH="$dir/all" ldd "$dir/bind/named.bin" | awk -v all="$dir/all/" 'index($3, all) == 1 { print $3 }' |
	while read -r lib; do cp -L "$lib" "$dir/bind/lib/"; done
cat >"$dir/bind/named" <<'EOF'
#!/bin/sh
dir=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH="$dir/lib" exec "$dir/named.bin" "$@"
EOF
chmod 755 "$dir/bind/named" "$dir/bind"
"$dir/bind/named" -v >/dev/null || die "the unpacked BIND does not run here"
rm -rf bin/tools/bind
mv "$dir/bind" bin/tools/bind
