#!/usr/bin/env bash
# Builds the Vault server that the tests use (test/vaultd) into bin/tools: about five
# minutes the first time.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

say "building test/vaultd, a Vault for the tests"
mkdir -p bin/tools
go -C test/vaultd build -ldflags "-s -w" -o ../../bin/tools/vaultd .
