#!/usr/bin/env bash
# Runs the tests.
#
#   scripts/test.sh          vet, unit and contract tests of every module
#   scripts/test.sh --e2e    end to end, with the real binaries and images
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

if [ "${1:-}" = --e2e ]; then
	scripts/ensure-docker.sh
	scripts/build.sh
	scripts/images.sh
	scripts/etcd.sh
	scripts/bind.sh
	if can_install; then # hosts are network namespaces; without root those tests say that they were left out
		need ip iproute2
		need iptables iptables
	fi
	say "go test -tags e2e ./test/e2e/..."
	exec go test -tags e2e -count=1 -v -timeout 20m ./test/e2e/...
fi

scripts/ensure-docker.sh

# The race detector needs a C compiler. Without one the tests still say a lot.
race=()
if [ "$(go env CGO_ENABLED)" = 1 ] && command -v "$(go env CC)" >/dev/null; then
	race=(-race)
else
	say "no C compiler: the tests run without the race detector (Debian and Ubuntu: apt-get install gcc libc6-dev)"
fi

say "The first time, everything is compiled: several minutes without a line. After that it is cached."
scripts/vaultd.sh
scripts/bind.sh
if can_install; then need dig bind9-dnsutils; fi
say "go vet ./..."
go vet ./...
say "go test ${race[*]} ./..."
go test "${race[@]}" ./...
# Without -race: it would compile Traefik a second time.
say "go test ./... in ingress"
go -C ingress vet ./...
go -C ingress test ./...
