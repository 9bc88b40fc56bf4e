#!/usr/bin/env bash
# Fetches the distribution's etcd, an old one, into bin/tools for the tests. The
# package is only unpacked: installing it would start a server on the ports of ours.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

if [ -x bin/tools/etcd ] || command -v etcd >/dev/null; then
	exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
	die "etcd is missing: put one (3.4 or newer) into PATH"
fi

mkdir -p bin/tools
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
say "fetching etcd-server"
# apt drops root to download; it must be able to write here.
chmod 755 "$dir"
fetch() { (cd "$dir" && apt-get -q -o APT::Sandbox::User=root download etcd-server) >"$dir/log" 2>&1 </dev/null; }
if ! fetch && ! { can_install && apt-get -q update >"$dir/log" 2>&1 </dev/null && fetch; }; then
	tail -n 5 "$dir/log" >&2
	die "could not fetch etcd-server"
fi
dpkg -x "$dir"/etcd-server_*.deb "$dir/root"
install -m 755 "$dir/root/usr/bin/etcd" bin/tools/etcd
