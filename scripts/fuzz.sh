#!/usr/bin/env bash
# Runs the fuzz targets of every module, one after another, and prints what each
# has done. It fails if one has found an input that crashes it; Go keeps that input
# under testdata/fuzz of the package, where the next "go test" tries it again.
#
#   scripts/fuzz.sh [FILTER]    those whose "package target" matches the filter, a
#                               regular expression of grep -E; all when there is none
#   scripts/fuzz.sh --list      the targets
#
# FUZZTIME is how long each of them runs: 60s, or a number of runs as 1000x.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

: "${FUZZTIME:=60s}"

# targets prints "module package target", a line each.
targets() {
	local file line
	git ls-files --cached --others --exclude-standard -- '*_test.go' | while read -r file; do
		sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file" | while read -r line; do
			case $file in
			ingress/*) printf 'ingress ./%s %s\n' "$(dirname "${file#ingress/}")" "$line" ;;
			*) printf '. ./%s %s\n' "$(dirname "$file")" "$line" ;;
			esac
		done
	done | sort
}

if [ "${1:-}" = --list ]; then
	targets | awk '{ sub(/^\.\//, "", $2); print ($1 == "." ? "" : $1 "/") $2, $3 }'
	exit
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
row='%-32s %-28s %12s %8s\n'
# shellcheck disable=SC2059 # the format is the one above
printf "$row" PACKAGE TARGET EXECS CRASHES
ran=0 crashes=0
while read -r module package target; do
	name=${package#./}
	[ "$module" = . ] || name=$module/$name
	printf '%s %s\n' "$name" "$target" | grep -qE -- "${1:-.}" || continue
	found=0
	go -C "$module" test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" "$package" >"$log" 2>&1 </dev/null || found=1
	execs=$(sed -n 's/^fuzz: elapsed: .* execs: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
	# shellcheck disable=SC2059
	printf "$row" "$name" "$target" "${execs:--}" "$found"
	if [ "$found" -ne 0 ]; then
		cat "$log" >&2
	elif [ -z "$execs" ]; then
		cat "$log" >&2
		die "$name $target did not run"
	fi
	ran=$((ran + 1)) crashes=$((crashes + found))
done < <(targets)

[ "$ran" -gt 0 ] || die "no fuzz target matches '${1:-}'; see: scripts/fuzz.sh --list"
say "$ran targets for $FUZZTIME each, $crashes crashed"
[ "$crashes" -eq 0 ]
