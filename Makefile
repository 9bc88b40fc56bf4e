# Targets with a "##" comment are listed by "make help".

.DEFAULT_GOAL := help
.PHONY: help demo demo-down build images test test-e2e fuzz check generate chaos bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@scripts/bench.sh --list | sed 's/.*/  make bench-&/'

demo: ## start Pancake on this machine and deploy the example service
	@scripts/demo.sh

demo-down: ## stop the demo and remove all that it made
	@scripts/demo.sh --down

build: ## build bin/pancake and bin/pancake-ingress
	@scripts/build.sh

images: ## build the images of the example service
	@scripts/ensure-docker.sh
	@scripts/images.sh

test: ## vet, unit tests and contract tests (needs Docker; installs it as root on Debian and Ubuntu)
	@scripts/test.sh

test-e2e: ## end to end: real binaries, real containers, real traffic
	@scripts/test.sh --e2e

fuzz: ## every fuzz target for FUZZTIME, 60s by default; FUZZ=jobspec chooses some
	@scripts/fuzz.sh '$(FUZZ)'

check: ## everything that CI checks before end to end: format, lint, generated code, tidiness, tests
	@scripts/check.sh

generate: ## write the generated code anew
	@scripts/generate.sh

chaos: ## clusters under faults: simulated for hours, then real ones that are cut apart (SEEDS=100 MINUTES=60)
	@scripts/chaos.sh

bench: ## run every benchmark and write bench-results/*.json
	@scripts/bench.sh

bench-%:
	@scripts/bench.sh $*

clean: ## remove what was built; Go's caches stay
	@rm -rf bin bench-results
