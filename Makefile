# What the recipes need stands in tools/setup.py; every target sets it up first.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export RUSTUP_AUTO_INSTALL := 0
PYTHON := .venv/bin/python
CRASH_ROUNDS ?= 200
CRASH_STATES ?= 100000
FUZZ_SECONDS ?= 600
SOAK_SECONDS ?= 600
FUZZ_SEED ?= 1

.PHONY: help setup build demo test test-rust test-python check crash soak fuzz sanitize loom golden bench-kv bench-floors bench-sharing bench-vectors peers vector-peers clean

help:
	@echo "make demo          set up and run the main job on the shipped data"
	@echo "make test          set up and run the tests, Rust and Python"
	@echo "make check         formatting, lints, types, documentation"
	@echo "make crash         CRASH_STATES power cuts (100000), CRASH_ROUNDS kills (200)"
	@echo "make fuzz          run each fuzzing target for FUZZ_SECONDS (600)"
	@echo "make soak          writers, readers, compactions, backups, kills for SOAK_SECONDS (600)"
	@echo "make loom          publishing and the swap of an index, in all orders of loads and stores"
	@echo "make sanitize      Rust tests and the extension under the address sanitizer, nightly compiler"
	@echo "make golden        write the golden files of the format anew"
	@echo "make bench-kv      key-value workloads beside SQLite, LMDB, RocksDB and synadb 1.1.1"
	@echo "make bench-floors  the speed floors, measured and compared"
	@echo "make bench-sharing several writers on one file: rates and waits"
	@echo "make bench-vectors the vector side beside its peers, on real data (benchmarks/README.md)"
	@echo "make build         set up and build the extension"
	@echo "make clean         remove everything that the other targets made"

setup build:
	@python3 tools/setup.py

peers:
	@python3 tools/setup.py --peers

# Apart from the others: the folders are large, and no other benchmark needs them.
vector-peers:
	@python3 tools/setup.py --vector-peers

demo: setup
	$(PYTHON) -m synadb.demo --data data/demo

test: test-rust test-python

# The extension module is linked by maturin and tested from Python.
test-rust:
	@python3 tools/setup.py --no-build
	cargo test --workspace --exclude synadb-python --locked

test-python: setup
	$(PYTHON) -m pytest -q -n0

check: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy --strict synadb
	$(PYTHON) -m mypy.stubtest synadb._native

crash: setup
	SYNADB_CRASH_STATES=$(CRASH_STATES) \
		cargo test -p synadb --lib --locked crash_tests::parts -- --nocapture
	SYNADB_CRASH_ROUNDS=$(CRASH_ROUNDS) $(PYTHON) -m pytest -q -n0 tests/crash

fuzz:
	@python3 tools/setup.py --no-build
	cargo build --profile fuzz --locked -p synadb-fuzz
	for target in log value checkpoint model; do \
		target/fuzz/synadb-fuzz $$target $(FUZZ_SECONDS) $(FUZZ_SEED); \
	done

soak: setup
	SYNADB_SOAK_SECONDS=$(SOAK_SECONDS) $(PYTHON) -m pytest -q -n0 tests/crash/test_soak.py

# A target folder of its own: the flag would have everything built anew.
loom:
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom \
		cargo test -p synadb --lib --locked loom_

sanitize:
	@python3 tools/sanitize.py

golden:
	cargo run -p synadb --example golden_files --locked -- tests/format/v1

bench-kv: peers
	$(PYTHON) benchmarks/python/kv.py

bench-floors: peers
	$(PYTHON) benchmarks/python/speed_floors.py

bench-sharing: peers
	$(PYTHON) benchmarks/python/sharing.py

# BENCH_VECTORS may hold options, "--only minilm --rows curves,builds" for one.
bench-vectors: peers vector-peers
	$(PYTHON) benchmarks/python/vectors.py $(BENCH_VECTORS)

clean:
	rm -rf target .venv .tools .bench synadb/_native*.so
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
