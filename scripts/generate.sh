#!/usr/bin/env bash
# Writes the generated Go code anew: the agent link's protobuf messages and gRPC
# stubs, and the types of Traefik's configuration. The plugins of protoc are pinned
# in tools/go.mod, Traefik in ingress/go.mod; protoc comes from the distribution.
#
#   scripts/generate.sh           write the code
#   scripts/generate.sh --check   fail when the committed code is not what would be written
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

need protoc protobuf-compiler
build_tool tools google.golang.org/protobuf/cmd/protoc-gen-go
build_tool tools google.golang.org/grpc/cmd/protoc-gen-go-grpc
protoc \
	--plugin=bin/tools/protoc-gen-go --plugin=bin/tools/protoc-gen-go-grpc \
	--go_out="$out" --go_opt=paths=source_relative \
	--go-grpc_out="$out" --go-grpc_opt=paths=source_relative \
	internal/agentlink/agent.proto
# The header names protoc's own version, which differs between distributions and
# does not change the code: without it the output is the same everywhere.
find "$out" -name '*.pb.go' -exec sed -i -E '/^\/\/ (- )?[[:space:]]*protoc[[:space:]]+v[0-9.]+$/d' {} +

mkdir -p "$out/sidecar/traefik"
go -C ingress run ./internal/typegen -o "$out/sidecar/traefik/types_gen.go"

stale=0
while read -r file; do
	if [ "${1:-}" != --check ]; then
		cp "$out/$file" "$file"
	elif ! diff -u "$file" "$out/$file" >&2; then
		stale=1
	fi
done < <(cd "$out" && find . -name '*.go' | sort)
[ $stale -eq 0 ] || die "generated code is not up to date: run 'make generate' and commit the result"
