# `make help` explains every target. Nothing here is needed to build or test a part: plain `go build ./...` and `go test ./...` work.

# bash, and stop at the first failure of a pipe.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
TORTURE_SECONDS ?= 300
SIEGE_CONNECTIONS ?= 10000
HISTORIES ?= 100000
HISTORIES_SEED ?=
FUZZ_TIME ?= 60s
MUTATIONS ?= 10000
FAULTS ?= 0
READERS_BODIES ?= 1000000
IMAGE ?= heymarket.dev/operator:$(VERSION)
# The certificate authorities by which receivers verify https targets: those of this machine.
ROOTS ?= $(firstword $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem))

# Tools run here, in the versions of their own module.
TOOL := go tool -modfile=hack/tools/go.mod
CLUSTER := go -C hack/cluster run .

# Static, reproducible, small; the same flags for the binaries in bin/ and in the image.
BUILD := CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"

##@ Use

.PHONY: help
help: ## Explain every target.
	@awk 'BEGIN { FS = ":.*## "; print "make TARGET, one of:" } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: try
try: ## Run a webhook on this machine and send it every type of event; needs only Go. TRY_ONCE=1 exits after that.
	@mkdir -p bin
	@test -x bin/kubectl-heymarket || echo "try: compiling the plugin, minutes the first time"
	@GOGC=800 GOMEMLIMIT=1GiB $(BUILD) -gcflags='all=-N -l -dwarf=false' -o bin/ ./cmd/kubectl-heymarket # unoptimized: compiles in two thirds of the time
	@exec bin/kubectl-heymarket dev -f examples/quickstart --echo --play $(if $(filter 1,$(TRY_ONCE)),--once)

.PHONY: demo
demo: ## Start a real cluster, install the operator and deliver events through HTTPS. Needs root on Debian. DEMO_ONCE=1 tears it down again.
	@hack/demo.sh

.PHONY: demo-down
demo-down: ## Stop the demo and restore the host.
	@hack/demo.sh down

##@ Build

.PHONY: build
build: ## Build bin/manager, bin/receiver and the plugin bin/kubectl-heymarket, static.
	@mkdir -p bin
	$(BUILD) -o bin/ ./cmd/manager ./cmd/receiver ./cmd/kubectl-heymarket

.PHONY: image
image: build ## Pack manager and receiver into the image archive dist/image.tar, without Docker. Load it with docker load or ctr.
	@test -n "$(ROOTS)" || { echo "image: this machine has no certificate authorities, by which receivers verify targets; name a file of them: make image ROOTS=FILE" >&2; exit 1; }
	@mkdir -p dist
	$(CLUSTER) image -z -o $(CURDIR)/dist/image.tar -t $(IMAGE) -e /manager $(CURDIR)/bin/manager=/manager $(CURDIR)/bin/receiver=/receiver \
		$(ROOTS)=/etc/ssl/certs/ca-certificates.crt

.PHONY: release
release: ## Build a release of the commit in dist/release: binaries, image, SBOM, chart, plugin, checksums; twice, and compare. RELEASE_CACHE=shared is quicker.
	@hack/release.sh

.PHONY: clean
clean: ## Remove bin/ and dist/. Go's caches and a running demo stay.
	rm -rf bin dist

##@ Check

.PHONY: test
test: ## Run all tests but e2e, with real servers and the race detector. Installs and builds missing dependencies; skips nothing.
	@hack/test.sh

.PHONY: e2e
e2e: ## Run user journeys on a real cluster that they start. Needs root on Debian; minutes. E2E_PREVIOUS=DIR: a checkout to upgrade from.
	@hack/e2e.sh

.PHONY: e2e-neighbours
e2e-neighbours: ## Run beside Gateways, enforced NetworkPolicies, cert-manager, mutating policies, KEDA, metrics-server, Prometheus on a real cluster. Root on Debian; 25 minutes the first time. IF_CHANGED=1: only if needed.
	@hack/neighbours.sh $(if $(filter 1,$(IF_CHANGED)),--if-changed)

.PHONY: torture
torture: ## Kill receivers and Redis at random under load for TORTURE_SECONDS (300), then account for every acknowledged event.
	TORTURE_SECONDS=$(TORTURE_SECONDS) HEYMARKET_REQUIRE_ALL=1 go -C test test ./proof/crash -count=1 -v -timeout=0

.PHONY: siege
siege: ## Attack a receiver with SIEGE_CONNECTIONS (10000) slow and hostile connections while valid events are sent. Needs a quiet machine; two minutes.
	SIEGE_CONNECTIONS=$(SIEGE_CONNECTIONS) HEYMARKET_REQUIRE_ALL=1 go -C test test ./proof/slowclients -count=1 -v

.PHONY: histories
histories: ## Check deduplication on HISTORIES (100000) generated histories of repeats and returning states. HISTORIES_SEED repeats a run. Minutes.
	HISTORIES=$(HISTORIES) HISTORIES_SEED=$(HISTORIES_SEED) HEYMARKET_REQUIRE_ALL=1 \
		go test ./internal/receiver/stream -run TestInterleavings -count=1 -v -timeout=0

.PHONY: mutations
mutations: ## Change resources MUTATIONS (10000) times and compare each state with a fresh one. MUTATIONS_SEED repeats a run.
	@KUBEBUILDER_ASSETS=$$($(CLUSTER) assets) HEYMARKET_REQUIRE_ALL=1 MUTATIONS=$(MUTATIONS) MUTATIONS_SEED=$(MUTATIONS_SEED) \
		go -C test test ./proof/mutations -count=1 -v -parallel=4 -timeout=0

.PHONY: faults
faults: ## Inject faults into every write, watch event and cached read of the operator, one and two at a time. FAULTS (0: all), FAULTS_SEED, FAULTS_PLAN choose.
	@KUBEBUILDER_ASSETS=$$($(CLUSTER) assets) HEYMARKET_REQUIRE_ALL=1 FAULTS=$(FAULTS) FAULTS_SEED=$(FAULTS_SEED) FAULTS_PLAN='$(FAULTS_PLAN)' \
		go -C test test ./proof/faults -count=1 -v -timeout=0

.PHONY: bench
bench: ## Measure the receiver and its controls: speed, latency, memory. Needs a quiet machine; ten minutes. BENCH=-quick for a short run.
	go -C test/bench/receiver run . $(BENCH)

.PHONY: profile
profile: ## Renew cmd/receiver/default.pgo, with which Go optimizes the receiver: a minute of full load here. Commit it if it improves performance.
	go -C test/bench/receiver run -trimpath . -only profile $(BENCH)

.PHONY: bench-operator
bench-operator: ## Measure the operator beside its control: 1,000 and 5,000 resources, memory, idleness. Needs a quiet machine; half an hour. BENCH=-quick for a short run.
	KUBEBUILDER_ASSETS=$$($(CLUSTER) assets) go -C test run ./bench/operator $(BENCH)

.PHONY: picture
picture: ## Draw the dashboards over a minute of live scrapes of a receiver under load and of the operator: dist/*.png. Needs redis-server. Fails if a panel is empty.
	KUBEBUILDER_ASSETS=$$($(CLUSTER) assets) go -C test/surface/chart/rules run ./picture -o $(CURDIR)/dist

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZ_TIME (60s).
	@FUZZ_TIME=$(FUZZ_TIME) hack/fuzz.sh

.PHONY: readers
readers: ## Compare the envelopes that a receiver accepts with seven other JSON readers, READERS_BODIES (1000000) mutants of them.
	READERS_BODIES=$(READERS_BODIES) go -C test/proof/jsonparity test -count=1 -v -timeout=0 .

# What has to hold above all comes first. Packages whose tests take minutes want more MUTANTS_TIME; MUTANTS_ALONE=1 asks the tests of each package itself alone,
# and MUTANTS_JOBS=4 tries several mistakes at once.
MUTANTS ?= $(addprefix internal/,$(addprefix receiver/,address retry event ingest forward delivery stream target admin config filter recent redishealth) contract \
	reach controller/condition)
MUTANTS_TIME ?= 10m

.PHONY: mutants
mutants: ## Plant small mistakes in MUTANTS, packages, for MUTANTS_TIME (10m) each, and list those that no test notices: docs/reference/mutants.md.
	@KUBEBUILDER_ASSETS=$$($(CLUSTER) assets) HEYMARKET_REQUIRE_ALL=1 nice -n 15 go -C hack run ./mutants $(if $(filter 1,$(MUTANTS_ALONE)),-alone) -jobs $(or $(MUTANTS_JOBS),1) -time $(MUTANTS_TIME) -page $(CURDIR)/docs/reference/mutants.md $(MUTANTS)

.PHONY: campaign
campaign: ## Run the tests that CI does not run each time, or PART of them, and store the results in test/proof/campaign.md. Hours.
	@hack/campaign.sh $(PART)

.PHONY: redis-versions
redis-versions: ## Run the tests of scripts and users against each version of Redis and Valkey that Debian has. Root on Debian; twenty minutes.
	@hack/redis-versions.sh

.PHONY: lint
lint: ## Lint with golangci-lint, including the arrows between packages. Its first run compiles it: minutes.
	@hack/prose.sh
	@go -C hack tool actionlint $(wildcard $(CURDIR)/.github/workflows/*.yaml)
	@for module in . test test/bench/receiver test/proof/jsonparity test/surface/chart/rules test/surface/gitops/argocd hack; do echo "golangci-lint run in $$module"; (cd $$module && go tool -modfile=$(CURDIR)/hack/tools/go.mod golangci-lint run ./...) || exit 1; done

.PHONY: verify
verify: ## Fail if a generated, formatted or tidied file is stale, and name it.
	@hack/verify.sh

##@ Change

.PHONY: generate
generate: ## Write deepcopy, the CRD, RBAC, the API reference and the goldens.
	@hack/generate.sh

.PHONY: fmt
fmt: ## Format all Go code, including the modules under hack/.
	$(TOOL) golangci-lint fmt ./...
