# Two commands do all the set-up: `make demo` and `make test`. `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast simulate stack stack-down soak bench lint format schemas lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

$(VENV)/.installed: requirements/dev.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tufline needs Python 3.11 or later: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(VENV)/.installed ## secure real packages end to end, attack them, and verify with a TUF client
	$(BIN)/python tools/demo.py

test: $(VENV)/.installed lint ## lint and all tests
	$(BIN)/python -m pytest -n $(WORKERS)

test-fast: $(VENV)/.installed ## the tests without servers
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

simulate: $(VENV)/.installed ## play simulated faults: make simulate N=1000 SEED=1
	$(BIN)/python tools/simulate.py $(or $(N),1000) $(or $(SEED),1)

stack: $(VENV)/.installed ## start Apache Kafka and each service as a process of its own, on loopback
	$(BIN)/python tools/stack.py up

stack-down: $(VENV)/.installed ## stop them
	$(BIN)/python tools/stack.py down

soak: $(VENV)/.installed ## break everything on Kafka under load: make soak FAULTS=50 SEED=1
	$(BIN)/python tools/soak.py $(or $(FAULTS),50) $(or $(SEED),1)

bench: $(VENV)/.installed ## measure, in half an hour; writes benchmarks/results.json and docs/performance.md
	$(BIN)/python benchmarks/bench.py

lint: $(VENV)/.installed ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schemas: $(VENV)/.installed ## generate schemas/ from the code
	$(BIN)/python tools/schemas.py

lock: $(VENV)/.installed ## pin the dependencies anew, without index and file addresses
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		pyproject.toml --extra kafka -o requirements/tufline.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		-c requirements/tufline.lock pyproject.toml --extra kafka --group bench --group build --group lint --group test -o requirements/dev.lock

clean: ## remove what the targets made
	rm -rf $(VENV) .demo .parts .stack .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
