# `make help` lists the targets. Everything runs in .venv, which `make install` makes.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install train browser slurm test test-all lint types bench oracle clean

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED)  ## Make .venv and install everything that the README uses

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

train: $(INSTALLED)  ## Run the default experiment: memorises, then generalises (seconds)
	$(BIN)/python src/train.py

browser:  ## Install Chromium for the tests of the pages, where apt can
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& apt-get update -q && apt-get install -y -q chromium; } \
		|| echo "No chromium: the tests of the pages will be skipped."

slurm:  ## Install Slurm for its tests, where apt can
	@command -v slurmctld >/dev/null || tests/slurm/slurm-local install \
		|| echo "No Slurm: its tests will be skipped."

test: $(INSTALLED) browser slurm  ## Run the tests (a few minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not network and not oracle" -n 2 --dist worksteal

test-all: $(INSTALLED)  ## Run all tests, slow ones and those that need the network included
	$(BIN)/python -m pytest

lint: $(INSTALLED)  ## Check style
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .

types: $(INSTALLED)  ## Check types
	$(BIN)/mypy

bench: $(INSTALLED)  ## Run the benchmarks and write docs/benchmarks.md (half an hour, quiet machine)
	$(BIN)/python scripts/benchmark/loop.py
	$(BIN)/python scripts/benchmark/gop_batch.py
	$(BIN)/python scripts/benchmark/gop_sample.py
	$(BIN)/python scripts/benchmark/capacity.py
	$(BIN)/python scripts/benchmark/kernels.py
	$(BIN)/python scripts/benchmark/overhead.py
	$(BIN)/python scripts/benchmark/report.py
	$(BIN)/python scripts/benchmark/packing.py
	$(BIN)/python scripts/benchmark/determinism.py

oracle: $(INSTALLED)  ## Compare spectra with curvlinops (makes .bench-venv, which bench uses too)
	OMP_NUM_THREADS=1 $$($(BIN)/python scripts/benchmark/peers/environment.py) -m pytest -m oracle tests/gradients/test_oracle.py

clean:  ## Remove the environment and caches; runs in logs/ stay
	rm -rf .venv .bench-venv build *.egg-info src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
