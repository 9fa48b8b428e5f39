# Millrace. `make` alone lists what there is to make.
SHELL := /bin/bash
.DEFAULT_GOAL := help

GO ?= go
ARGS ?=
# How many packages are built or tested at the same time: tests share two Java servers.
P ?= 2
TIMEOUT ?= 20m
# Where fetched and built things live, outside the tree (the same as the test harness uses).
CACHE := $(or $(MILLRACE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/millrace)
STATICCHECK_VERSION := v0.8.2
STATICCHECK := $(CACHE)/bin/staticcheck-$(STATICCHECK_VERSION)
SERVERS := bin/servers
BENCH := bin/bench
PEER := bin/bench-peer
# Tests run this binary instead of each package linking its own.
TESTENV := MILLRACE_TEST_BINARY=$(CURDIR)/bin/millrace

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/millrace
	@$(say-first-build)
	@$(GO) build -o bin/millrace ./services/millrace

.PHONY: demo
demo: build ## try the product: the main job on in-process parts (ARGS="--events 50000 --keep DIR")
	@exec bin/millrace demo $(ARGS)

.PHONY: test
test: $(SERVERS) build ## run every test, on real Postgres, Kafka, Apicurio, Redis and OpenSearch
	@$(TESTENV) exec $(SERVERS) -only kafka,opensearch,postgres,redis,registry $(GO) test -p $(P) -timeout $(TIMEOUT) $(ARGS) ./...

.PHONY: test-full
test-full: export MILLRACE_TEST_FULL = 1
test-full: $(SERVERS) build ## every test, and every crash case on every kind of sink
	@$(TESTENV) exec $(SERVERS) -only kafka,opensearch,postgres,redis,registry $(GO) test -p $(P) -timeout 40m $(ARGS) ./...

.PHONY: test-short
test-short: $(SERVERS) build ## the fast part, under a minute: no Java server is started
	@$(TESTENV) exec $(SERVERS) -only postgres,redis $(GO) test -short -p $(P) $(ARGS) ./...

.PHONY: test-postgres
test-postgres: $(SERVERS) build ## run what depends on PostgreSQL's version on another one (VERSION=17; 14 to 18)
	@: $${VERSION:?say which version: make test-postgres VERSION=17}; \
	  MILLRACE_TEST_POSTGRES= MILLRACE_TEST_POSTGRES_VERSION=$$VERSION $(TESTENV) exec $(SERVERS) -only postgres,kafka,registry \
	  $(GO) test -p $(P) -timeout $(TIMEOUT) $(ARGS) ./outbox/... ./services/relay ./test/retention ./test/failover

.PHONY: e2e-flights
e2e-flights: $(SERVERS) build ## all flights of 2013 (about a million events) through real servers, with the rate of each stage
	@$(TESTENV) MILLRACE_FLIGHTS=all exec $(SERVERS) $(GO) test -count=1 -v -timeout 60m $(ARGS) ./test/flights/...

.PHONY: bench-relay
bench-relay: build $(BENCH) ## measure the relay, its ceilings and Debezium on servers of their own (ARGS="-case drain -n 200000 -reps 1")
	@exec $(BENCH) relay -binary bin/millrace $(or $(ARGS),-peer -out test/bench/results/relay.json)

.PHONY: bench-sinks
bench-sinks: build $(BENCH) ## measure the sinks, their ceilings and Debezium on servers of their own (ARGS="-case silver -n 200000 -reps 1")
	@exec $(BENCH) sinks -binary bin/millrace $(or $(ARGS),-peer -out test/bench/results/sinks.json)

.PHONY: bench-rebuild
bench-rebuild: build $(BENCH) ## measure rebuilds of the sinks against the drain before, and the live lag meanwhile (ARGS="-case duckdb -n 200000 -reps 1")
	@exec $(BENCH) rebuild -binary bin/millrace $(or $(ARGS),-out test/bench/results/rebuild.json)

.PHONY: bench-peer
bench-peer: $(PEER) ## measure Debezium on the same workload (ARGS="-case drain -n 200000 -reps 1")
	@exec $(PEER) $(if $(ARGS),$(ARGS),-out test/bench/results/peer.json)

.PHONY: servers
servers: $(SERVERS) ## start the real servers and print their addresses, until Ctrl-C
	@exec $(SERVERS)

.PHONY: lint
lint: $(STATICCHECK) ## gofmt, go vet and staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	  if [ -n "$$unformatted" ]; then echo "not formatted (run gofmt -w):"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(STATICCHECK) ./...

.PHONY: fuzz
fuzz: ## fuzz every fuzz test of PKG for TIME each (PKG=./schemas/avro TIME=30s)
	@: $${PKG:?say which package: make fuzz PKG=./schemas/avro}; \
	  for f in $$($(GO) test -list '^Fuzz' $(PKG) | grep '^Fuzz'); do \
	    $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(or $(TIME),10s) $(PKG) || exit; done

.PHONY: clean
clean: ## remove what was built here; what was fetched stays
	rm -rf bin

# The servers' starter is built, not `go run`: that would not pass signals on.
.PHONY: $(SERVERS)
$(SERVERS):
	@$(GO) build -o $@ ./test/harness/cmd/servers

.PHONY: $(PEER)
$(PEER):
	@$(GO) build -o $@ ./test/bench/peer/cmd/peer

.PHONY: $(BENCH)
$(BENCH):
	@$(GO) build -o $@ ./test/bench/cmd/bench

$(STATICCHECK):
	@mkdir -p $(@D)
	GOBIN=$(@D)/tmp-$(STATICCHECK_VERSION) $(GO) install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)
	@mv $(@D)/tmp-$(STATICCHECK_VERSION)/staticcheck $@ && rmdir $(@D)/tmp-$(STATICCHECK_VERSION)

define say-first-build
if [ ! -x bin/millrace ] && [ "$$($(GO) list -f '{{.Stale}}' github.com/duckdb/duckdb-go-bindings 2>/dev/null)" != false ]; then \
  echo "building… the first build compiles DuckDB bindings and takes a few minutes"; fi
endef
