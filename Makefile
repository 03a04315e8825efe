# Two commands do all the set-up: `make demo` and `make test`. `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 4
CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tufline needs Python 3.11 or later: make PYTHON=python3.12 …")'

# Container images often set it. The tests start Python hundreds of times, and each start would compile the sources again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL: # the order in which test lists, installs and runs
.PHONY: help demo programs parts test test-fast simulate stack stack-down soak fuzz nightly mutate mutate-pure hazards faust-evidence bench lint phrases docs workflows coverage release-check format paths schemas reference lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

$(VENV)/.installed: requirements/dev.lock pyproject.toml
	@$(CHECK_PYTHON)
	@echo "Installing Tufline and its developers' tools in $(VENV): 150 Python packages, in one to four minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: ## secure real packages end to end, attack them, and verify with a TUF client
	@$(CHECK_PYTHON)
	@PYTHONPATH=testing $(PYTHON) -m tools.demo_environment
	@.demo/venv/bin/python -m tools.demo

test: programs $(VENV)/.installed parts lint docs ## lint, docs and all tests; installs what they need (Debian packages only as root)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# Lists what is missing before anything is installed: it may take minutes until the first test.
programs:
	@$(CHECK_PYTHON)
	@PYTHONPATH=testing $(PYTHON) -m tufline_testing.prerequisites programs

parts: $(VENV)/.installed ## fetch and build the programs that tests need, once, into the user's cache
	@$(BIN)/python -m tufline_testing.prerequisites parts

test-fast: $(VENV)/.installed ## the tests without servers
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

simulate: $(VENV)/.installed ## play simulated faults: make simulate N=1000 SEED=1
	$(BIN)/python -m tufline_testing.simulation $(or $(N),1000) $(or $(SEED),1)

stack: $(VENV)/.installed ## start Apache Kafka, OpenBao and each service as a process of its own, on loopback
	$(BIN)/python -m tufline_testing.servers.stack up

stack-down: $(VENV)/.installed ## stop them
	$(BIN)/python -m tufline_testing.servers.stack down

soak: $(VENV)/.installed ## break everything on Kafka under load: make soak FAULTS=100 SEED=1
	$(BIN)/python -m tufline_testing.soak $(or $(FAULTS),100) $(or $(SEED),1)

mutate: $(VENV)/.installed ## put small mistakes into the code, and see that a test sees each: make mutate ONLY="NAME …"
	$(BIN)/python -m tufline_testing.proofs.mutate $(ONLY)

mutate-pure: $(VENV)/.installed ## change the expressions of the pure modules: make mutate-pure SEED=1 MODULES="FILE …" (SEED=all: hours)
	$(BIN)/python -m tufline_testing.proofs.mutate_pure $(or $(SEED),1) $(MODULES)

fuzz: $(VENV)/.installed ## drive every decoder with hostile bytes that coverage guides: make fuzz SECONDS=600 SEED=1
	$(BIN)/python -m tufline_testing.fuzz.decoders --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1)

nightly: $(VENV)/.installed ## run the long proofs and record them in docs/proofs.md: make nightly SEED=1 PROOFS="simulate-1 soak-1"
	$(BIN)/python -m tufline_testing.proofs.nightly $(or $(SEED),1) $(PROOFS)

hazards: $(VENV)/.installed ## show on a real broker what goes wrong without fences, claims and progress
	$(BIN)/python -m evidence.hazards

faust-evidence: $(VENV)/.installed ## show on a real broker what Faust loses (docs/adr/0003)
	$(BIN)/python -m evidence.faust_loses

bench: $(VENV)/.installed ## measure, in an hour; writes benchmarks/results.json and docs/explanation/performance.md
	$(BIN)/python -m benchmarks.bench

lint: $(VENV)/.installed ## ruff, mypy --strict, import-linter, codespell, phrases
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python -m tools.phrases

docs: $(VENV)/.installed ## build docs/ into a site, dist/docs; a warning is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env docs dist/docs

workflows: $(VENV)/.installed ## check the GitHub workflows with actionlint (built with Go, once)
	$(BIN)/python -m tools.workflows

coverage: $(VENV)/.installed ## run the tests without servers, and report the lines and branches that none of them reaches
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow" --cov --cov-report=term --cov-report=html:dist/coverage

release-check: $(VENV)/.installed ## build sdist and wheel, install each on its own, run the demo from the wheel: make release-check TAG=v0.1.0
	$(BIN)/python -m tools.release_check $(TAG)

format: $(VENV)/.installed ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

paths: $(VENV)/.installed ## ask TUF clients what they make of target paths, for docs/reference/paths.md
	$(BIN)/python -m tools.path_table

schemas: $(VENV)/.installed ## generate schemas/ from the code
	$(BIN)/python -m tools.schemas

reference: $(VENV)/.installed ## generate docs/reference from the code
	$(BIN)/python -m tools.reference

lock: $(VENV)/.installed ## pin the dependencies anew, without index and file addresses
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		pyproject.toml --extra kafka -o requirements/tufline.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		-c requirements/tufline.lock pyproject.toml --extra kafka --extra vault -o requirements/signer.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		-c requirements/signer.lock pyproject.toml --extra kafka --extra vault --extra aws --extra hsm --group bench --group build --group docs --group fuzz --group lint --group mutate --group test -o requirements/dev.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		requirements/faust.in -o requirements/faust.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		requirements/jdk.in -o requirements/jdk.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		requirements/go.in -o requirements/go.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		requirements/node.in -o requirements/node.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		requirements/openbao.in -o requirements/openbao.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		requirements/python-tuf-oldest.in -o requirements/python-tuf-oldest.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		requirements/rstuf.in -o requirements/rstuf.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		-c requirements/dev.lock --group build -o requirements/build.lock

clean: ## remove what the targets made
	rm -rf $(VENV) .demo .stack .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
