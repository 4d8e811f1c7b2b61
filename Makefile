# `make repro` and `make test` work from a fresh clone. By hand, the same is
#   python3.11 -m venv .venv && source .venv/bin/activate
#   pip install torch==2.13.0 && pip install --no-deps -r requirements.lock
#   pip install --no-deps --no-build-isolation -e . && dvc repro

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TORCH := torch==2.13.0
VENV := .venv
STAMP := $(VENV)/.installed
ACTIVATE := source $(VENV)/bin/activate

# No tool reports home.
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export RAY_USAGE_STATS_ENABLED := 0
export NO_ALBUMENTATIONS_UPDATE := 1

.PHONY: help setup repro test test-fast verify gpu-check ui

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(STAMP) ## create .venv with everything in it
	@git rev-parse --git-dir >/dev/null 2>&1 || { echo "setup: not a git checkout; dvc needs one: git init" >&2; exit 1; }
	@git config user.email >/dev/null || { \
	  git config user.name caft && git config user.email caft@localhost && \
	  echo "setup: no git identity found; set caft <caft@localhost> for this repository (dvc experiments commit)"; }

$(STAMP): requirements.lock pyproject.toml
	@python=$$(for name in python3.11 python3.12 python3; do \
	  command -v $$name >/dev/null && $$name -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null \
	    && { echo $$name; break; }; done || true); \
	[ -n "$$python" ] || { echo "setup: needs Python 3.11 or 3.12 with its venv module; found $$(python3 --version 2>&1)" >&2; exit 1; }; \
	[ -x $(VENV)/bin/python ] || $$python -m venv $(VENV)
	$(ACTIVATE); pip install --quiet $(TORCH)
	$(ACTIVATE); pip install --quiet --no-deps -r requirements.lock
	$(ACTIVATE); pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

repro: setup ## run the whole pipeline of dvc.yaml; what is up to date is skipped
	@$(ACTIVATE); dvc repro
	@echo
	@echo "report:      reports/index.html"
	@echo "scores:      metrics/  (source .venv/bin/activate; dvc metrics show)"
	@echo "experiments: make ui"

test: setup ## style, types and all tests
	@$(ACTIVATE); ruff check .
	@$(ACTIVATE); ruff format --check .
	@$(ACTIVATE); mypy
	@# Tests of jobs mostly wait for Slurm, so they run beside all others; what they print comes after.
	@$(ACTIVATE); log=$$(mktemp); \
	pytest --durations 10 tests/slurm > "$$log" 2>&1 & jobs=$$!; \
	code=0; pytest --durations 30 --ignore tests/slurm || code=$$?; \
	wait $$jobs || code=$$?; cat "$$log"; rm "$$log"; exit $$code

test-fast: setup ## the tests that take seconds
	@$(ACTIVATE); pytest -m "not slow"

verify: setup ## the long runs, hours: full size, five seeds, twenty kills; not part of `make test`
	@$(ACTIVATE); pytest tests/verify -s --timeout 14400

gpu-check: setup ## on a machine with a GPU: ten minutes, one page of pass or fail
	@$(ACTIVATE); pytest tests/gpu -q -rN --tb=short --timeout 600

ui: setup ## browse the runs at http://127.0.0.1:5000
	@$(ACTIVATE); mlflow ui --backend-store-uri "$$(python -c \
	  'from caft.params import load_params; from caft.storage import tracking_uri; print(tracking_uri(load_params()))')"
