# The commands of the README. Build output goes to a cache outside the checkout and is reused.

CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/agentsight
export CARGO_TARGET_DIR ?= $(CACHE)/target
export AGENTSIGHT_CACHE_DIR ?= $(CACHE)
# rustup puts cargo here when scripts/setup.sh had to install it.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: demo build install test lint unit features test-resolvers test-agents fuzz bench bench-overhead setup setup-test golden clean-cache

## demo: set up, build, record a TLS client that talks to a local mock LLM, print the report
demo: setup
	cargo build --release --bins --example mock-llm
	scripts/demo.sh "$(CARGO_TARGET_DIR)/release"

## build: the three programs, in $(CARGO_TARGET_DIR)/release
build: setup
	cargo build --release --bins

## install: build and copy the three programs to $(PREFIX)/bin
PREFIX ?= /usr/local
install: build
	install -d "$(PREFIX)/bin"
	install -m 755 $(addprefix $(CARGO_TARGET_DIR)/release/agentsight-,rec query report) "$(PREFIX)/bin"

## test: set up and run every test; live BPF tests need root and say so when they are skipped
test: setup-test lint features unit

lint:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo fmt --check -p agentsight-fuzz
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --lib

# Those who receive a trace have neither clang nor libbpf, and the recorder links no DataFusion.
features:
	cargo check --no-default-features --lib
	cargo check --no-default-features --features record --bin agentsight-rec
	cargo check --no-default-features --features analyze --bin agentsight-query --bin agentsight-report

unit:
	scripts/test.sh

## test-agents: install agents and runtimes from npm into the cache and record each of them
test-agents: setup-test
	AGENTSIGHT_TEST_AGENTS=1 AGENTSIGHT_TEST_PYTHON="$(CACHE)/venv/bin/python3" \
	  cargo test --no-fail-fast --test live --test live_rust -- agents claude codex libraries tokens

## test-resolvers: which functions are found in published releases of agents (downloads them)
test-resolvers: setup-test
	scripts/test-resolvers.sh

## fuzz: every fuzz target for $(FUZZ_SECONDS); what they learn stays in the cache
FUZZ_SECONDS ?= 600
fuzz: setup
	scripts/fuzz.sh $(FUZZ_SECONDS)

## bench: figures of reconstruction and of the trace file; asserts nothing
bench: setup
	cargo bench --no-default-features

## bench-overhead: what recording costs the recorded and everybody else; needs root
bench-overhead: setup
	cargo bench --no-default-features --features record --bench overhead

## golden: rewrite every golden file; review the difference before you commit it
golden:
	UPDATE_GOLDEN=1 cargo test --test fixtures
	UPDATE_GOLDEN=1 cargo test --no-fail-fast

setup:
	scripts/setup.sh build

setup-test:
	scripts/setup.sh test
