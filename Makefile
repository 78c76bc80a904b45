.DEFAULT_GOAL := help

# How long make fuzz spends on each target.
FUZZTIME ?= 10s

# How many schedules make torture tries, from which seed: others each time.
SCHEDULES ?= 1000
FROM ?= $(shell date +%s)

LINT_VERSION := v2.15.0
LINTER := bin/golangci-lint-$(LINT_VERSION)

# Where the tests write, which is in memory where there is room; what is compiled stays where it was.
SCRATCH = GOTMPDIR=$${GOTMPDIR:-$${TMPDIR:-/tmp}} TMPDIR=$$(bash .ci/scratch)

# A folder that has Terraform's AWS provider, where there is one: elsewhere Terraform asks its registry.
RESTOCK_TERRAFORM_PLUGINS ?= $(shell find /opt /usr/local/share /usr/share $(HOME)/.terraform.d -maxdepth 4 -type d -name registry.terraform.io 2>/dev/null | head -1 | xargs -r dirname)
export RESTOCK_TERRAFORM_PLUGINS

.PHONY: help
help: ## Print this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "%-15s %s\n", $$1, $$2 }'

.PHONY: demo
demo: ## Run everything on this machine, with nothing to configure
	go run ./cmd/restock demo

.PHONY: build
build: ## Build bin/restock
	go build -o bin/restock ./cmd/restock

.PHONY: image
image: ## Build the container image with buildah or docker
	deployments/docker/build

# The race detector has each process sleep for a second when its work is done, which for most of
# the programs under test is twice what they take, and keeps its shadow in small pages, to which
# a program that begins comes by thousands of faults. The flag for these is of LLVM's sanitizers.
# https://go.dev/doc/articles/race_detector#Options
RACE = GORACE="atexit_sleep_ms=0 no_huge_pages_for_shadow=0 $$GORACE"
TEST = $(SCRATCH) $(RACE) CGO_ENABLED=1 go test -race -timeout 14m

.PHONY: test
test: ## Run all tests with the race detector; installs what they need if it can
	@bash .ci/setup
	$(TEST) -parallel 3 $$(go list ./... | grep -v '/cmd/restock$$')
# Those of whole systems, of many processes each, are not beside the others. The fourth waits for Terraform.
	$(TEST) -parallel 4 ./cmd/restock

.PHONY: lint
# Compiled as the image is, which then costs little more than to link it.
lint: export CGO_ENABLED = 0
lint: export GOFLAGS = -trimpath
lint: $(LINTER) ## Check format, go vet and the linters of .golangci.yml
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "run gofmt -w on:" $$unformatted; exit 1; fi
	go vet ./...
	$(LINTER) run --allow-parallel-runners ./...

$(LINTER):
	GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv bin/golangci-lint $@

.PHONY: bench
bench: ## Run the Go benchmarks
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: bench-retention
bench-retention: ## Measure checkouts beside an outbox of 10,000,000 rows; takes ten minutes
	go run ./bench/retention

.PHONY: matrix
matrix: ## Try each fault against each consumer and print what came of it
	cd consumers && go test -count=1 -run '^TestMatrix$$'
	cd cmd/restock && go test -count=1 -run '^TestMatrixOfKills$$'

.PHONY: bench-relay
bench-relay: ## Measure the relay beside other ways to read an outbox
	go run ./bench/relay

.PHONY: test-terraform
test-terraform: ## Apply deployments/terraform to a local AWS API and run everything on it; four minutes
	cd cmd/restock && go test -count=1 -v -run '^TestTerraform'

.PHONY: bench-checkout
bench-checkout: ## Measure POST /checkout beside pgbench running the same work
	go run ./bench/checkout

.PHONY: torture
torture: ## Try SCHEDULES (1000) random schedules of faults and crashes on the relay; FROM=seed repeats them
	$(SCRATCH) go test -C relay -count=1 -timeout 2h -run '^TestTorture$$' -parallel 6 -torture.schedules=$(SCHEDULES) -torture.from=$(FROM)

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (10s)
	@grep -rhoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . -H | sed 's|/[^/]*:func | |' | sort -u | \
	while read -r dir target; do \
		echo "$$dir $$target"; \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$dir" || exit 1; \
	done
