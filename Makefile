# One vocabulary for people, hooks and CI. Every task prepares .venv by itself, and only again when the pins change.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
DEV := .venv/.ready-dev
# Options for the program a task starts, e.g. make run ARGS="--set train.steps=100".
ARGS ?=

.PHONY: help setup required run test lint bench docs clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## prepare .venv; in GitHub Actions also put its programs on the path
	@if [ -n "$$GITHUB_PATH" ]; then echo "$(CURDIR)/$(BIN)" >> "$$GITHUB_PATH"; fi

required: ## in GitHub Actions: fail unless every job that was to run succeeded
	@"$(PYTHON)" -m ci_tools.required

run: $(READY) ## bring the pipeline up to date and summarise it
	@$(BIN)/switchback run $(ARGS)

test: $(DEV) ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 3 --dist worksteal -m "not slow" $(ARGS)

lint: $(DEV) ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(DEV) ## measure against peers
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(DEV) ## build the documentation site into build/site; a dead link fails
	$(BIN)/python -m sphinx --fail-on-warning --quiet --conf-dir docs . build/site

clean: ## remove what the pipeline wrote; CACHE=1 also empties DVC's cache and scratch copies
	rm -rf data/*.npz data/schema.json data/profile.json runs/seed-* evaluation export fingerprint gates report
	rm -rf .pytest_cache .mypy_cache .ruff_cache
	$(if $(CACHE),rm -rf .dvc/cache .dvc/tmp .switchback)

# The stamp comes last, so an interrupted installation is not taken for a finished one.
$(READY): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "error: Python 3.11 or newer is needed, found '$(PYTHON)'. Fix: install it, or make PYTHON=/path/to/python" >&2; \
		exit 1; }
	@echo "installing into .venv, once: about 2 GB with PyTorch for CPUs, several with CUDA"
	"$(PYTHON)" -m venv .venv
	$(BIN)/pip install --editable '.[train,energy,report,track,serve]' --constraint constraints.txt
	@touch $@

$(DEV): $(READY)
	$(BIN)/pip install --quiet --editable '.[dev,docs,loops]' --constraint constraints.txt
	@touch $@
