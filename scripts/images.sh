#!/usr/bin/env bash
# Builds the images of the example service, pancake-hello:1 and pancake-hello:2.
# They differ in the version that the service answers with. Nothing is pulled:
# each image is one static binary.
#
#   scripts/images.sh             build them
#   scripts/images.sh --remove    remove them, and what older builds left
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

if [ "${1:-}" = --remove ]; then
	for version in 1 2; do
		docker image rm --force "pancake-hello:$version" >/dev/null 2>&1 || true
	done
	docker image prune --force --filter "label=$example_label" >/dev/null
	exit
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
for version in 1 2; do
	context=bin/images/hello-$version
	mkdir -p "$context"
	CGO_ENABLED=0 go build -buildvcs=false -ldflags "-s -w -X main.version=$version" \
		-o "$context/hello" ./examples/hello
	if ! docker build --file examples/hello/Dockerfile --tag "pancake-hello:$version" "$context" >"$log" 2>&1 </dev/null; then
		cat "$log" >&2
		die "could not build the image pancake-hello:$version"
	fi
	say "image pancake-hello:$version"
done
