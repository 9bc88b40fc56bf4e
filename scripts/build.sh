#!/usr/bin/env bash
# Builds bin/pancake and bin/pancake-ingress and shows that it is alive while it
# does. Go's build cache makes a second run quick: what did not change is neither
# compiled nor linked again.
#
#   scripts/build.sh [pancake] [pancake-ingress]    both when none is named
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

command -v go >/dev/null || die "go is missing: install Go 1.26 or newer from https://go.dev/dl/"

# The flags are those of a plain "go test", so that both share what is compiled:
# -trimpath would compile Traefik a second time. Releases set it (.goreleaser.yaml).
# No VCS stamp: it would link the binaries again after every commit.
flags=(-buildvcs=false)
version=$(git describe --tags --always --dirty 2>/dev/null || echo dev)

# watch PID LOG NAME shows how far the build with that PID is, until it ends: one
# line that changes on a terminal, otherwise a line every 30 seconds.
watch() {
	local pid=$1 log=$2 name=$3 start=$SECONDS tty="" last=0 took text
	[ -t 1 ] && [ "${TERM:-dumb}" != dumb ] && tty=1
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.2
		took=$((SECONDS - start))
		if [ $took -eq $last ] || { [ -z "$tty" ] && [ $((took % 30)) -ne 0 ]; }; then
			continue
		fi
		last=$took
		text="  $name: $(wc -l <"$log") packages compiled, $(clock $took)"
		if [ -n "$tty" ]; then printf '\r%s\033[K' "$text"; else say "$text"; fi
	done
	if [ -n "$tty" ]; then printf '\r\033[K'; fi
}

# build NAME DIR HINT ARG... builds one binary from the module in DIR. HINT is
# said when the binary does not exist yet.
build() {
	local name=$1 dir=$2 hint=$3 start=$SECONDS code=0
	shift 3
	[ -e "bin/$name" ] && hint=
	say "building bin/$name${hint:+ ($hint)}"
	# -v names each package as it is compiled: that is the progress.
	go -C "$dir" build -v "${flags[@]}" -o "$PWD/bin/$name" "$@" 2>"$log" </dev/null &
	building=$!
	watch $building "$log" "bin/$name"
	wait $building || code=$?
	building=
	if [ $code -ne 0 ]; then
		grep -vE '^[A-Za-z0-9_./~-]+$' "$log" >&2 || cat "$log" >&2
		die "could not build bin/$name"
	fi
	say "built bin/$name in $(clock $((SECONDS - start)))"
}

log=$(mktemp)
building=
# shellcheck disable=SC2329 # called by the trap
cleanup() {
	rm -f "$log"
	if [ -n "$building" ]; then kill "$building" 2>/dev/null || true; fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

mkdir -p bin
[ $# -gt 0 ] || set -- pancake pancake-ingress
for name in "$@"; do
	case $name in
	pancake) build pancake . "about 2 minutes the first time" -ldflags "-X main.version=$version" ./cmd/pancake ;;
	pancake-ingress) build pancake-ingress ingress "Traefik is compiled in: 5 to 10 minutes the first time" -ldflags "-s -w" . ;;
	*) die "unknown binary $name: there are pancake and pancake-ingress" ;;
	esac
done
