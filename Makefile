# `make repro` and `make test` work from a fresh clone. By hand, the same is
#   python3.11 -m venv .venv && source .venv/bin/activate
#   pip install --require-hashes --no-deps -r requirements.lock -r requirements-cpu.lock   # or -cuda
#   pip install --no-deps --no-build-isolation -e . && dvc repro

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Which build of torch to install, cpu or cuda. Empty: the one for the CPU if pip finds it, else what PyPI has.
TORCH :=
VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PEERS := $(VENV)/peers/.installed
ACTIVATE := source $(VENV)/bin/activate
# Processes mostly wait for each other's programs, so there are more than cores; tests/conftest.py says which tests
# stay together, and begins with the longest.
PYTEST := pytest -n 4 --dist loadscope --no-loadscope-reorder

# No tool reports home.
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export RAY_USAGE_STATS_ENABLED := 0
export NO_ALBUMENTATIONS_UPDATE := 1

# A shell's settings for other Pythons reach nothing here. Of pip's, those stay that say where packages come from.
PIP_KEPT := INDEX_URL EXTRA_INDEX_URL FIND_LINKS NO_INDEX CONFIG_FILE CERT CLIENT_CERT TRUSTED_HOST PROXY \
  KEYRING_PROVIDER TIMEOUT DEFAULT_TIMEOUT RETRIES CACHE_DIR NO_CACHE_DIR DISABLE_PIP_VERSION_CHECK
$(foreach name,$(filter-out $(PIP_KEPT:%=PIP_%),$(filter PIP_% PYTHON%,$(filter-out PYTHON PIP_KEPT,$(.VARIABLES)))),\
  $(eval unexport $(name)))
unexport PYTHON PIP_KEPT TORCH
# Also where a file of pip's settings says the contrary.
export PIP_USER := 0

.PHONY: help git setup repro test test-fast verify gpu-check ui

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

git:
	@said=$$(git rev-parse --git-dir 2>&1) || { \
	  echo "setup: dvc needs a git checkout, and git says: $${said//$$'\n'/ }" >&2; exit 1; }
	@git config user.email >/dev/null || { \
	  git config user.name caft && git config user.email caft@localhost && \
	  echo "setup: no git identity found; set caft <caft@localhost> for this repository (dvc experiments commit)"; }

setup: git $(STAMP) ## create .venv with everything in it

# The stamp holds the build that was installed; another one that is asked for replaces it.
ifneq ($(TORCH),)
ifneq ($(TORCH),$(shell cat $(STAMP) 2>/dev/null))
.PHONY: $(STAMP)
endif
endif

# Nor does a stamp say anything of an environment whose Python is gone, as after an upgrade of the system.
ifneq ($(wildcard $(STAMP)),)
ifneq ($(shell [ -x $(PYTHON) ] && echo runs),runs)
.PHONY: $(STAMP)
endif
endif

$(STAMP): requirements.lock requirements-cpu.lock requirements-cuda.lock pyproject.toml | git
	@python=$$(for name in python3.11 python3.12 python3; do \
	  command -v $$name >/dev/null && $$name -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null \
	    && { echo $$name; break; }; done || true); \
	[ -n "$$python" ] || { echo "setup: needs Python 3.11 or 3.12 with its venv module; found $$(python3 --version 2>&1)" >&2; exit 1; }; \
	if [ -e $(VENV)/.unfinished ] || ! $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	  [ ! -e $(VENV) ] || echo "setup: $(VENV) is not whole; making it anew" >&2; \
	  rm -rf $(VENV) && mkdir $(VENV) && touch $(VENV)/.unfinished && $$python -m venv $(VENV) && rm $(VENV)/.unfinished; \
	fi
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { \
	  echo "setup: $(VENV) is of $$($(PYTHON) --version 2>&1), and this needs 3.11 or 3.12: move it away and run again" >&2; exit 1; }
	@# Python compiles a module when it is first imported; pip would compile all 22,000, of which most never are.
	@torch=$(TORCH); version=$$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' requirements-cpu.lock); \
	if [ -z "$$torch" ]; then \
	  offered=$$($(PYTHON) -m pip index versions torch 2>/dev/null || true); \
	  if [ "$$(uname)" != Linux ] || [[ $$offered == *"$$version+cpu"* ]]; then torch=cpu; else torch=cuda; fi; \
	fi; \
	echo "setup: installing; torch $$version for $$torch"; \
	[ "$$(cat $(STAMP) 2>/dev/null)" = "$$torch" ] || $(PYTHON) -m pip uninstall --quiet --yes torch 2>/dev/null; \
	$(PYTHON) -m pip install --quiet --no-compile --require-hashes --no-deps -r requirements.lock -r requirements-$$torch.lock; \
	echo "$$torch" > $(VENV)/.torch
	@$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation -e .
	@$(PYTHON) -c 'import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ("torch", "dvc", "caft"))))' || { \
	  echo "setup: packages are not in $(VENV); does a setting of pip put them elsewhere? See: $(PYTHON) -m pip config list" >&2; exit 1; }
	@mv $(VENV)/.torch $@

repro: setup ## run the whole pipeline of dvc.yaml; what is up to date is skipped
	@$(ACTIVATE); dvc repro
	@echo
	@$(ACTIVATE); python -m pipelines.committed
	@echo "report:      reports/index.html"
	@echo "scores:      metrics/  (source .venv/bin/activate; dvc metrics show)"
	@echo "experiments: make ui"

# What tests compare with lies beside the environment, which is then the same as without tests; tests/peers.py finds it there.
$(PEERS): requirements-peers.lock | setup
	@rm -rf $(@D) && mkdir $(@D) && echo "test: installing what tests compare with" && \
	$(PYTHON) -m pip install --quiet --require-hashes --no-deps --target $(@D) -r $< && touch $@

test: setup $(PEERS) ## style, types and all tests
	@$(ACTIVATE); ruff check .
	@$(ACTIVATE); ruff format --check .
	@$(ACTIVATE); mypy
	@# Tests of jobs mostly wait for Slurm, so they run beside all others; what they print comes after.
	@$(ACTIVATE); log=$$(mktemp); \
	pytest --durations 10 tests/slurm > "$$log" 2>&1 & jobs=$$!; \
	code=0; $(PYTEST) --durations 30 --ignore tests/slurm || code=$$?; \
	wait $$jobs || code=$$?; cat "$$log"; rm "$$log"; exit $$code

test-fast: setup $(PEERS) ## the tests that take seconds
	@$(ACTIVATE); $(PYTEST) -m "not slow"

verify: setup $(PEERS) ## the long runs, hours: full size, five seeds, twenty kills; not part of `make test`
	@$(ACTIVATE); pytest tests/verify -s --timeout 14400
	@$(ACTIVATE); pytest -m verify --timeout 3600

gpu-check: setup ## on a machine with a GPU: ten minutes, one page of pass or fail
	@$(ACTIVATE); CAFT_ARITHMETIC=native pytest tests/gpu -q -rN --tb=short --timeout 600

ui: setup ## browse the runs at http://127.0.0.1:5000
	@$(ACTIVATE); uri=$$(python -c \
	  'from caft.params import load_params; from caft.storage import tracking_uri; print(tracking_uri(load_params()))'); \
	python -c 'from caft.params import load_params; from caft.train.tracking.runs import page_of_scores; \
	  print("runs with their scores:", page_of_scores(load_params(), "http://127.0.0.1:5000"))'; \
	mlflow ui --backend-store-uri "$$uri"
