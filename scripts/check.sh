#!/usr/bin/env bash
# What CI checks before the end-to-end tests, cheapest first. It stops at the
# first failure.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

# The modules of the repository, the main one first. test/vaultd is not one that can be
# tidy: tests of Vault import a package that was never published.
modules=(. ingress tools tools/lint)

formatted() {
	local unformatted
	build_tool tools mvdan.cc/gofumpt
	unformatted=$(bin/tools/gofumpt -l .)
	[ -n "$unformatted" ] || return 0
	say "$unformatted"
	say "these files are not formatted: run 'bin/tools/gofumpt -w .'"
	return 1
}

tidy() {
	local module
	for module in "${modules[@]}"; do
		go -C "$module" mod tidy -diff || {
			say "run 'go mod tidy' in $module"
			return 1
		}
	done
}

shell() {
	if ! command -v shellcheck >/dev/null; then
		say "shellcheck is not installed: the scripts are not checked"
		return
	fi
	shellcheck --external-sources scripts/*.sh .ci/run
}

lint() {
	build_tool tools/lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	bin/tools/golangci-lint run ./...
	(cd ingress && ../bin/tools/golangci-lint run ./...)
}

step "format" formatted
step "shell scripts" shell
step "go.mod files are tidy" tidy
step "generated code" scripts/generate.sh --check
step "floors and pure packages" go test ./internal/archtest
step "lint" lint
step "tests" scripts/test.sh
