# gameday: two commands. `make gameday` sets up what it needs and runs the main
# job; `make test` sets up what it needs and passes every test.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Static binaries: they also run inside nodes and scratch images.
export CGO_ENABLED := 0

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/gameday
TOOLS := $(CACHE)/tools
LINT_VERSION := v2.15.0
LINT := $(TOOLS)/golangci-lint-$(LINT_VERSION)
REVISION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)

# What suites/faultcheck tries: one trial of each fault and some kills, drawn by the
# seed. `make faultcheck FAULTS=` tries all, which takes forty minutes.
FAULTS ?= -drawn -sequences=5

.PHONY: help gameday build test lint unit root browser kind nodes provider faultcheck upgrades planted clean

help: ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

build: ## bin/gameday
	go build -trimpath -ldflags "-X main.revision=$(REVISION)" -o bin/gameday ./harness/cmd/gameday

gameday: build ## set up all that is needed and run the main job: an upgrade under fire
	bin/gameday run upgrade-under-fire

# A tier that fails does not hide what the others would have told.
test: ## set up all that is needed and pass every test
	$(MAKE) --keep-going lint unit root browser kind

lint: $(LINT) ## gofmt, vet and the linters
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	go mod tidy -diff
	go vet ./...
	$(LINT) run ./...

$(LINT):
	mkdir -p $(TOOLS)
	GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv $(TOOLS)/golangci-lint $@

unit: ## hermetic tests: no root, no Docker, no network
	go test ./...

root: ## the mechanisms, and control planes of plain processes, on this machine's kernel (root)
	go test -v -count=1 -timeout 15m ./suites/mechanism -ginkgo.label-filter=root -ginkgo.v
	go test -v -count=1 -timeout 30m ./suites/local -ginkgo.label-filter='root && !upgrades' -ginkgo.v
	go test -v -count=1 -timeout 10m ./suites/eviction -ginkgo.label-filter=root -ginkgo.v

browser: ## the report page in a real browser
	@command -v chromium google-chrome >/dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium; }
	go test -v -count=1 -timeout 10m ./suites/report -ginkgo.label-filter=browser -ginkgo.v

kind: provider faultcheck upgrades ## real clusters (root, Docker): the three that follow

nodes: build
	bin/gameday setup
	bin/gameday image build --kubernetes v1.36.1
	bin/gameday image build --kubernetes v1.37.0

provider: nodes ## clusters made, used and deleted
	go test -v -count=1 -timeout 10m ./suites/kind -ginkgo.label-filter=kind -ginkgo.v

faultcheck: nodes ## every fault once (FAULTS= for all there is)
	go test -v -count=1 -timeout 50m ./suites/faultcheck -ginkgo.label-filter=kind -ginkgo.v $(FAULTS)

upgrades: nodes ## the main job, and what ends it early
	go test -v -count=1 -timeout 45m ./suites/upgrade -ginkgo.label-filter=kind -ginkgo.v

planted: ## known mistakes in Kubernetes are found out; by hand, twenty minutes (root)
	go test -v -count=1 -timeout 70m ./suites/planted -ginkgo.label-filter=planted -ginkgo.v

clean: ## what a build leaves in the checkout
	rm -rf bin runs
