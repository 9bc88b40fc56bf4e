#!/usr/bin/env bash
# Runs benchmarks. Each part is a program test/bench/<part>, which prints a table
# and writes bench-results/<part>.json.
#
#   scripts/bench.sh [PART...]    every part when none is named
#   scripts/bench.sh --list       the parts that exist
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

parts() {
	local main
	for main in test/bench/*/main.go; do
		[ -e "$main" ] && basename "$(dirname "$main")"
	done
	return 0
}

if [ "${1:-}" = --list ]; then
	parts
	exit
fi

mapfile -t existing < <(parts)
[ $# -gt 0 ] || set -- "${existing[@]}"
for part in "$@"; do
	[ -e "test/bench/$part/main.go" ] || die "there is no benchmark '$part' in this version; there are: ${existing[*]:-none}"
done

mkdir -p bin/bench
for part in "$@"; do
	say "==> bench $part"
	# The whole path from a release to its first answer needs everything; some of the
	# Sidecars' containers are real.
	if [ "$part" = slice ] || [ "$part" = sidecar ]; then
		scripts/ensure-docker.sh
		scripts/build.sh
		scripts/images.sh
	fi
	[ "$part" != goavail ] || scripts/bind.sh
	# Built first, so that compiling does not run beside what is measured.
	go build -o "bin/bench/$part" "./test/bench/$part"
	"bin/bench/$part"
done
