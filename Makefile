# make demo    see it at work, on a cluster of its own
# make check   all tests: what CI runs
# make help    the rest

SHELL        := /bin/bash
.SHELLFLAGS  := -euo pipefail -c
.DEFAULT_GOAL := build

VERSION      := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
DEMO_SECONDS ?= 60
MODULES      := . test

# A version may have a '+', a tag may not; Helm writes '_' for it, too.
IMAGE    ?= watcher:$(subst +,_,$(VERSION))
PLATFORM ?=
BUILDER   = $(or $(notdir $(firstword $(shell command -v docker podman buildah))),\
	$(error no program here builds images: install docker (with buildx), podman or buildah))

# phase NAME,COMMANDS runs the commands and says how long they took.
define phase
	@start=$$(date +%s); echo "== $(1)"; \
	$(2); \
	echo "== $(1): $$(( ($$(date +%s) - start + 30) / 60 )) min ($$(( $$(date +%s) - start )) s)"
endef

.PHONY: help
help: ## what there is to make
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.PHONY: build
build: ## bin/watcher
	@CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/watcher ./cmd/watcher

# Without buildx docker falls back on a builder that does not know BUILDPLATFORM; so it says that buildx is missing.
.PHONY: image
image: ## a container image with docker, podman or buildah: IMAGE (watcher:VERSION), PLATFORM (that of here)
	DOCKER_BUILDKIT=1 $(BUILDER) build -t $(IMAGE) --build-arg VERSION=$(VERSION) $(addprefix --platform=,$(PLATFORM)) .

.PHONY: demo
demo: build ## watcher at work, killed, started again and verified, in a temporary cluster, for about DEMO_SECONDS (60)
	@echo "With a cluster of your own you would type: bin/watcher run"
	@go build -C test -o ../bin/demo ./cmd/demo
	@exec bin/demo -watcher bin/watcher -seconds $(DEMO_SECONDS)

.PHONY: cluster-up
cluster-up: ## a cluster to develop with: etcd and kube-apiserver, .cluster/kubeconfig
	@go run -C test ./cmd/cluster up -dir $(CURDIR)/.cluster

.PHONY: cluster-down
cluster-down: ## stop it and remove it
	@go run -C test ./cmd/cluster down -dir $(CURDIR)/.cluster

.PHONY: check
check: format vet lint test worlds e2e ## all of it, fast parts first

.PHONY: format
format: ## every file is as gofmt wants it
	$(call phase,format,bad=$$(gofmt -l cmd internal test); [ -z "$$bad" ] || { echo "gofmt -w $$bad"; exit 1; })

.PHONY: vet
vet: ## go vet and tidy modules
	$(call phase,vet,for m in $(MODULES); do go -C $$m vet ./... && go -C $$m mod tidy -diff; done)

.PHONY: lint
lint: ## golangci-lint
	$(call phase,lint,go build -C test/tools -o ../../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint && \
		for m in $(MODULES); do (cd $$m && $(CURDIR)/bin/golangci-lint run --config $(CURDIR)/.golangci.yml ./...); done)

.PHONY: test
test: ## unit tests and simulation: no servers
	$(call phase,test,go test -race ./...)

WORLDS ?= 10000
SEED   ?= 1

.PHONY: worlds
worlds: ## WORLDS (10000) simulated worlds from SEED (1) on, and how often each fault struck
	$(call phase,worlds,go test ./internal/watch -run TestWhatever -worlds $(WORLDS) -seed $(SEED) -timeout 30m -v | grep -vE '^ *(===|--- PASS: .*/worlds/)')

.PHONY: e2e
e2e: build ## tests on a real kube-apiserver, which are built first if need be
	$(call phase,e2e,go run -C test ./cmd/cluster build && WATCHER=$(CURDIR)/bin/watcher go test -C test -race -count=1 -timeout 30m ./...)

SOAK_MINUTES ?= 60

.PHONY: soak
soak: build ## kill watcher again and again under load for SOAK_MINUTES (60), and hold its logs against what happened
	@go run -C test ./cmd/cluster build
	@WATCHER=$(CURDIR)/bin/watcher SOAK_MINUTES=$(SOAK_MINUTES) go test -C test -race -count=1 -v -timeout $$(( $(SOAK_MINUTES) + 30 ))m -run TestT26Killed ./e2e

.PHONY: bench
bench: build ## what it costs beside what people use today: docs/costs.md, about 15 minutes on an idle machine
	@go build -C test -o ../bin/bench ./cmd/bench
	@bin/bench -watcher bin/watcher -docs docs

FUZZ_SECONDS ?= 60

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZ_SECONDS (60)
	@grep -rHoE '^func Fuzz[A-Za-z]+' --include=*_test.go internal | while IFS=: read -r file func; do \
		go test ./$$(dirname $$file) -run '^$$' -fuzz "^$${func#func }$$" -fuzztime $(FUZZ_SECONDS)s -fuzzminimizetime 20x; done
