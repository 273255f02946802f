# `make demo` shows the gate at work, `make test` proves it. Both install what they need first (Debian).

SHELL := /bin/sh
.DEFAULT_GOAL := help
# With the Kubernetes side of the API types, whose generated files the tests hold to be fresh.
FEATURES := --features postern-crds/kube
# Folders of Go modules in e2e/kubernetes.
KUBERNETES := 1.33 1.37 1.35 helm coredns pause
say = @printf '\033[1m== %s\033[0m\n'

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

.PHONY: setup
setup: ## install what building and testing need and this machine lacks
	@.ci/setup

.PHONY: build
build: setup ## build the sidecar
	$(say) "building postern-sidecar (the first time some minutes)"
	cargo build --locked -p postern-sidecar

.PHONY: demo
demo: build ## a shop's database behind the gate, in your terminal; KEEP=1 leaves it running
	@cargo build --quiet --locked -p postern-e2e --bin demo
	@target/debug/demo $(if $(KEEP),--keep)

.PHONY: kubernetes
kubernetes: setup ## build Kubernetes from its Go modules, which the tests run; kept outside the tree (the first time many minutes)
	@for module in $(KUBERNETES); do e2e/kubernetes/build $$module >/dev/null || [ $$? = 3 ] || exit 1; done

.PHONY: cluster
cluster: setup ## a cluster on this machine with Postern and the sample shop, and how to look around (kind where docker is there, else the tests' own)
	$(say) "building sidecar and operator (the first time some minutes)"
	cargo build --locked -p postern-sidecar -p postern-operator
	@cargo build --quiet --locked -p postern-e2e --bin cluster
	@.ci/cluster up

.PHONY: cluster-down
cluster-down: ## remove it
	@.ci/cluster down

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
.PHONY: images
images: setup ## the images of operator and sidecar, as OCI archives in target/images
	$(say) "building operator and sidecar, optimised (the first time some minutes)"
	cargo build --release --locked -p postern-operator -p postern-sidecar
	@for part in operator sidecar; do \
		image=$(CURDIR)/target/images/postern-$$part.tar; \
		FRESH=1 .ci/image $$part localhost/postern-$$part:$(VERSION) $$image target/release/postern-$$part && echo $$image || exit 1; \
	done

# PROFILE=dev is quicker, for a look.
.PHONY: images-arm64
images-arm64: ## the same for arm64, built on this machine
	@.ci/setup cross
	@.ci/cross arm64 $(or $(PROFILE),release) $(CURDIR)/target/images/arm64
	@for part in operator sidecar; do \
		image=$(CURDIR)/target/images/postern-$$part-arm64.tar; \
		ARCH=arm64 SUITE=$$(.ci/cross suite) FRESH=1 .ci/image $$part localhost/postern-$$part:$(VERSION)-arm64 $$image \
			target/images/arm64/postern-$$part && echo $$image || exit 1; \
	done

# What a machine can't run is left out, said, and counted here.
LEFT_OUT := $(CURDIR)/target/left-out
.PHONY: test
test: setup lint build kubernetes ## lint, unit tests, tests against real servers
	@rm -f $(LEFT_OUT)
	$(say) "tests (the masking and transparency corpora run against a real server)"
	cargo test --locked --workspace $(FEATURES) --no-run
	@# Of the whole workspace, for what it has built already.
	@cargo build --quiet --locked --workspace $(FEATURES) --bin cluster
	POSTERN_LEFT_OUT=$(LEFT_OUT) target/debug/cluster with .ci/tests
	$(say) "a sample against the oldest and the newest Postgres"
	.ci/versions sample
	@[ ! -s $(LEFT_OUT) ] || { printf '\033[1m== %s tests were left out on this machine\033[0m\n' "$$(wc -l <$(LEFT_OUT))"; sed 's/.*: //' $(LEFT_OUT) | sort | uniq -c; }

.PHONY: test-all
test-all: test ## everything in `test`, the long tests, Postgres 14 to 18, the demo
	$(say) "the long tests"
	cargo test --locked --workspace $(FEATURES) -- --ignored
	$(MAKE) test-versions
	$(MAKE) demo

.PHONY: bench
bench: ## speed and size beside PgBouncer; ONLY="key prepared" runs what is named so, BENCH_SECONDS and BENCH_ROUNDS say how long
	@.ci/setup bench
	$(say) "building postern-sidecar, optimised (the first time some minutes)"
	cargo build --release --locked -p postern-sidecar
	cargo build --quiet --locked -p postern-e2e --bin bench
	POSTERN_SIDECAR=$(or $(POSTERN_SIDECAR),target/release/postern-sidecar) target/debug/bench $(ONLY)

.PHONY: bench-cluster
bench-cluster: setup ## what a large cluster costs the operator: 6,000 definitions, 2,000 sidecars (ten minutes)
	@for module in 1.37 helm; do e2e/kubernetes/build $$module >/dev/null || exit 1; done
	$(say) "building postern-operator, optimised (the first time some minutes)"
	cargo build --release --locked -p postern-operator
	cargo build --quiet --locked -p postern-e2e --bin bench-cluster
	POSTERN_OPERATOR=$(or $(POSTERN_OPERATOR),$(CURDIR)/target/release/postern-operator) target/debug/bench-cluster

.PHONY: test-versions
test-versions: setup ## the tests that a server's version can change, against Postgres 14, 15, 16, 17 and 18
	$(say) "Postgres 14 to 18"
	.ci/versions all

.PHONY: soak
soak: setup ## ten minutes (SOAK_SECONDS) of mixed clients and random faults: nothing may grow
	$(say) "building postern-sidecar, optimised"
	cargo build --release --locked -p postern-sidecar
	@cargo build --quiet --locked -p postern-e2e --bin soak
	@POSTERN_SIDECAR=$(CURDIR)/target/release/postern-sidecar target/debug/soak

.PHONY: generate
generate: setup ## write crds/yaml and docs/reference from the code
	cargo run --quiet --locked -p postern-crds --features kube --bin generate
	POSTERN_BLESS=1 cargo test --quiet --locked -p postern-e2e --test reference

.PHONY: lint
lint: setup fmt-check clippy deny ## formatting, clippy, licences and sources of dependencies

.PHONY: fmt-check
fmt-check:
	cargo fmt --all --check
	cargo fmt --manifest-path sidecar/fuzz/Cargo.toml --check
	cargo fmt --manifest-path e2e/clients/rust/Cargo.toml --check

.PHONY: clippy
clippy:
	$(say) "clippy"
	cargo clippy --locked --workspace --all-targets $(FEATURES) -- -D warnings

# Kept in cargo's own folder, so that it is built once for a machine. One version, so that a new one changes nothing by itself.
CARGO_DENY := $(or $(shell command -v cargo-deny),$(or $(CARGO_HOME),$(HOME)/.cargo)/bin/cargo-deny)
$(CARGO_DENY):
	$(say) "building cargo-deny (once; some minutes)"
	cargo install --quiet --locked --version 0.20.2 cargo-deny

.PHONY: deny
deny: $(CARGO_DENY)
	$(say) "dependencies: bans, licences, sources"
	$(CARGO_DENY) --log-level error --locked check bans licenses sources
	$(CARGO_DENY) --log-level error --locked --manifest-path sidecar/fuzz/Cargo.toml --config deny.toml check bans licenses sources

# Kept as cargo-deny is. The targets need no nightly compiler: coverage without a sanitizer is on the stable one.
CARGO_FUZZ := $(or $(shell command -v cargo-fuzz),$(or $(CARGO_HOME),$(HOME)/.cargo)/bin/cargo-fuzz)
$(CARGO_FUZZ):
	$(say) "building cargo-fuzz (once; a minute)"
	cargo install --quiet --locked --version 0.13.2 cargo-fuzz

FUZZ_TARGETS := frontend startup backend decision
FUZZ_SECONDS := 60

fuzz-run = $(CARGO_FUZZ) run --fuzz-dir sidecar/fuzz --sanitizer none

.PHONY: fuzz-seeds
fuzz-seeds: setup
	$(say) "seeds of the fuzz targets: from the test corpora, a server's answers, and what was kept"
	cargo run --quiet --locked -p postern-e2e --example fuzz-seeds

.PHONY: fuzz
fuzz: $(CARGO_FUZZ) fuzz-seeds ## fuzz the protocol and the decision, each target for FUZZ_SECONDS (60)
	@set -e; for target in $(FUZZ_TARGETS); do \
		printf '\033[1m== fuzz %s, %s s\033[0m\n' $$target $(FUZZ_SECONDS); \
		$(fuzz-run) $$target sidecar/fuzz/corpus/$$target sidecar/fuzz/seeds/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1; \
	done

# What covers more than the seeds, the smallest first.
.PHONY: fuzz-keep
fuzz-keep: $(CARGO_FUZZ) fuzz-seeds
	@set -e; for target in $(FUZZ_TARGETS); do \
		merged=sidecar/fuzz/merged/$$target; rm -rf $$merged; mkdir -p $$merged; \
		for from in seeds corpus; do \
			$(fuzz-run) $$target $$merged sidecar/fuzz/$$from/$$target -- -merge=1 -max_len=4096 -timeout=10 -rss_limit_mb=2048; \
		done; \
	done
	cargo run --quiet --locked -p postern-e2e --example fuzz-seeds keep

.PHONY: capture
capture: setup ## record the transparency corpus anew from real programs (needs pip, npm and mvn)
	cargo run --quiet --locked -p postern-e2e --bin capture

.PHONY: clean
clean: ## remove what was built
	cargo clean
