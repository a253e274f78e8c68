# Everything runs in .venv, built from lock files with hashes; only Python 3.11+, make and a package index are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RIVALS := .venv-bench
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
JOBS ?= 3

.PHONY: demo dev test lint format soak fuzz bench bench-api bench-hosts bench-orders lock

demo: $(VENV)/run
	@$(BIN)/twinline demo $(DEMO)

dev: $(VENV)/run
	@$(BIN)/twinline dev

test: $(VENV)/dev
	@sh tests/system-packages.sh
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not soak" $(TESTS)

soak: $(VENV)/dev
	@sh tests/system-packages.sh zsh fish
	$(BIN)/python -m pytest -m soak $(TESTS)

fuzz: $(VENV)/fuzz
	@$(BIN)/python -m tests.fuzz

# Of every workflow, on a real server; docs/releasing.md. ONLY="Trial Move/moved", BECAUSE="why they differ".
histories: $(VENV)/dev
	@$(BIN)/python -m tests.replay.record $(ONLY) $(if $(BECAUSE),--because "$(BECAUSE)") $(RECORD)

lint: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

format: $(VENV)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: bench-hosts bench-orders bench-api

bench-api: $(VENV)/dev
	@sh tests/system-packages.sh
	$(BIN)/python -m benchmarks.api

bench-orders: $(VENV)/dev
	@sh tests/system-packages.sh
	$(BIN)/python -m benchmarks.orders

bench-hosts: $(VENV)/dev $(RIVALS)/ready
	@sh tests/system-packages.sh
	$(BIN)/python -m benchmarks.hosts

# Lock files name versions and hashes, and no index.
lock: $(VENV)/dev
	$(BIN)/uv pip compile $(LOCK) --extra sandbox --group build -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile $(LOCK) --extra sandbox --group build --group dev -c requirements.lock \
		-o requirements-dev.lock pyproject.toml
	$(BIN)/uv pip compile $(LOCK) --group bench -c requirements-dev.lock -o requirements-bench.lock
	$(BIN)/uv pip compile $(LOCK) --group fuzz -o requirements-fuzz.lock

LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "twinline needs Python 3.11 or newer: make PYTHON=python3.11 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "this Python has no venv: on Debian run  apt-get install -y python3-venv" >&2; rm -rf $(VENV); exit 1; }

$(VENV)/run: requirements.lock pyproject.toml | $(BIN)/python
	@echo "installing twinline into $(VENV) …"
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# Ansible and pyinfra, with which `make bench-hosts` compares us, and which nothing else needs.
$(RIVALS)/ready: requirements-bench.lock | $(BIN)/python
	@echo "installing what we are compared with into $(RIVALS) …"
	@$(BIN)/python -m venv $(RIVALS)
	@$(RIVALS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

$(VENV)/dev: requirements-dev.lock $(VENV)/run | $(BIN)/python
	@echo "installing what the tests need into $(VENV) …"
	@$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/fuzz: requirements-fuzz.lock $(VENV)/dev
	@echo "installing what guides the fuzzer into $(VENV) …"
	@$(PIP) --require-hashes -r requirements-fuzz.lock
	@touch $@
