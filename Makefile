# Tipstaff: every target works on a fresh machine with python3 (3.11 or newer) and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_VENV := .venv-bench
MUTANTS_VENV := .venv-mutants
SOURCES := bloom signing sdk_python server tests examples benchmarks proto/generate.py

.PHONY: demo test test-engines soak mutants lint format bench bench-registry proto proto-baseline lock clean help

help:
	@echo "make demo | test | test-engines | soak | mutants | lint | format | bench | bench-registry | proto | lock | clean"

# An environment: its folder, and the lock that is installed into it beside the project.
define environment
$(PYTHON) -m venv $(1)
$(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/$(2).txt
$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
@touch $@
endef

$(READY): pyproject.toml requirements/dev.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Tipstaff needs Python 3.11 or newer; set PYTHON=...")'
	$(call environment,$(VENV),dev)

demo: $(READY)
	$(BIN)/python -m examples.demo

# Modules that were compiled once need not be compiled again by each process, whatever the environment says.
test test-engines soak: export PYTHONDONTWRITEBYTECODE =

test: $(READY)
	$(BIN)/python -m pytest -n 2

# What needs a program that no Python package brings: a PKCS#11 token, the system's own PostgreSQL. Each is skipped, and says so,
# where its program is missing.
test-engines: $(READY)
	$(BIN)/python -m pytest -m engines

# The reference model at length, wrong steps that it has to notice, killed servers, large counts: hours on two cores.
soak: $(READY)
	$(BIN)/python -m pytest -n 2 -m soak

$(MUTANTS_VENV)/.ready: pyproject.toml requirements/mutants.txt
	$(call environment,$(MUTANTS_VENV),mutants)

# Each of some 190 small changes to the decision procedure has to fail a test: half an hour on one core. In a copy, which goes before
# the installed project, because it changes files.
mutants: $(MUTANTS_VENV)/.ready
	rm -rf build/mutants && mkdir -p build/mutants && cp -r pyproject.toml proto bloom signing sdk_python server tests examples build/mutants
	cd build/mutants && export PATH="$(CURDIR)/$(MUTANTS_VENV)/bin:$$PATH" PYTHONPATH=proto/gen:bloom:signing:sdk_python:server && \
		cosmic-ray baseline tests/mutants.toml && cosmic-ray init tests/mutants.toml session.sqlite && cosmic-ray exec tests/mutants.toml session.sqlite && \
		cr-report --surviving-only --show-diff session.sqlite && cr-rate --fail-over 5 session.sqlite

lint: $(READY)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/mypy examples benchmarks proto/generate.py
	$(BIN)/basedpyright --level error
	$(BIN)/lint-imports --no-cache
	cd proto && ../$(BIN)/buf lint && ../$(BIN)/buf format --diff --exit-code && ../$(BIN)/buf breaking --against baseline.binpb
	$(BIN)/python proto/generate.py --check

format: $(READY)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)
	cd proto && ../$(BIN)/buf format -w

# Peers stand in an environment of their own: one of them brings a top-level package named "tests".
$(BENCH_VENV)/.ready: pyproject.toml requirements/bench.txt
	$(call environment,$(BENCH_VENV),bench)

bench: $(BENCH_VENV)/.ready
	$(BENCH_VENV)/bin/python -m benchmarks $(BENCH)

# 8.5 million subjects in PostgreSQL: hours, and 60 GB, on two cores; BENCH=--quick for a tenth.
bench-registry: $(BENCH_VENV)/.ready
	$(BENCH_VENV)/bin/python -m benchmarks registry --output build/bench.json $(BENCH)

proto: $(READY)
	$(BIN)/python proto/generate.py

# Run at a release only: from then on the contract may only grow.
proto-baseline: $(READY)
	cd proto && ../$(BIN)/buf build -o baseline.binpb

# Pins everything by hash for every platform; names no index and no host.
lock:
	$(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet uv
	for group in dev bench mutants; do \
		build/lock/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
			--all-extras --group $$group --output-file requirements/$$group.txt pyproject.toml --quiet || exit 1; \
	done

clean:
	rm -rf $(VENV) $(BENCH_VENV) $(MUTANTS_VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
