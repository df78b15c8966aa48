# A fresh machine needs Python >= 3.10 with pip, and make. Every target prepares .venv by itself.
# Another interpreter: make PYTHON=python3.12 demo

SUITS := -c 'import sys; sys.exit(sys.version_info < (3, 10))'
CANDIDATES := python3 python3.13 python3.12 python3.11 python3.10 python
PYTHON ?= $(shell for p in $(CANDIDATES); do $$p $(SUITS) 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OLDER := $(VENV)/transformers-4.57
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install demo bench bench-check bench-docs test test-older test-kernels coverage test-wheel \
  all-tests nightly docs notebooks lint format types build clean venv

help: ## show this list
	@echo "RankSEG: make TARGET, where TARGET is"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

install: $(STAMP) ## prepare .venv (the other targets do this by themselves)

demo: $(STAMP) ## run a real model on a real photograph and show what RankSEG changes
	@$(BIN)/rankseg demo $(ARGS)

bench: $(STAMP) ## measure time and memory beside argmax (ARGS="--quick", ARGS="--peer")
	@$(BIN)/rankseg bench $(ARGS)

bench-check: $(STAMP) ## fail if a ratio is more than 1.5 times the one in docs/benchmarks.json
	@$(BIN)/rankseg bench --quick --check docs/benchmarks.json $(ARGS)

bench-docs: $(STAMP) ## measure everything for docs/benchmarks.md (some fifteen minutes)
	@$(BIN)/rankseg bench --peer --output docs
	@folder=$$(mktemp -d) && $(BIN)/rankseg bench --quick --maps smooth --largest 0 \
	  --case 1x19x512x1024 --case 2x21x512x512 --case 1x150x512x512 --case 1x2x1024x1024 \
	  --output $$folder --json docs/benchmarks-smooth.json; rm -rf $$folder
	@$(BIN)/python docs/benchmarks.py

test: $(STAMP) ## run the tests, without the slow ones
	@echo "==> running the tests"
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $(ARGS)

test-older: $(OLDER)/.installed ## run the Hugging Face and SAM tests with the oldest transformers served
	@echo "==> running the Hugging Face and SAM tests with transformers 4.57"
	@PYTHONPATH="$(CURDIR)/$(OLDER)" $(BIN)/python -m pytest -n 2 -m "not slow" \
	  tests/integrations/test_transformers*.py tests/integrations/test_sam*.py $(ARGS)
	@PYTHONPATH="$(CURDIR)/$(OLDER)" $(BIN)/python -m pytest tests/docs/test_pages.py \
	  -k "page_runs and (hugging or sam)" $(ARGS)

test-kernels: $(STAMP) ## run the compiled passes and the GPU's as plain Python: every index checked, every line seen
	@echo "==> running the compiled passes as plain Python"
	@NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -n 2 tests/fields/test_numba.py \
	  tests/fields/test_activation.py -k "not whole and (sums or labels or best) \
	  or numba and (test_probabilities or decisions)" $(ARGS)
	@echo "==> running some of the GPU's passes under Triton's interpreter"
	@TRITON_INTERPRET=1 $(BIN)/python -m pytest -n 2 tests/fields/interpreted_triton.py \
	  -k "layouts or lifts or asked_for or float32 and (maximise and many or logits and 5)" $(ARGS)

coverage: $(STAMP) ## fail if the tests run with ARGS="--cov --cov-append" saw too little of the code
	@$(BIN)/python -m coverage report --skip-covered --include="rankseg/*" --fail-under=95
	@$(BIN)/python -m coverage report --skip-covered --include="rankseg_integrations/*" --fail-under=90

test-wheel: build ## try the wheel without frameworks (ARGS="python3.12 2.15.0": that Python and torch)
	@echo "==> trying the wheel in a clean environment"
	@.ci/wheel $(ARGS)

all-tests: $(STAMP) ## run every test
	@echo "==> running every test, slow ones too"
	@$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

# Hours. Python 3.11 and the newest torch that pip takes are what the other tests run on.
nightly: all-tests test-older test-kernels test-wheel ## every test, then the wheel on every Python and torch in docs/supported-versions.md
	@for leg in "$(BIN)/python 2.4.0" "$(BIN)/python newest" "python3.10 2.13.0" \
	  "python3.12 2.13.0" "python3.13 2.13.0"; do .ci/wheel $$leg || exit 1; done

docs: $(STAMP) ## build the site in docs/_build/html; a warning is an error
	@echo "==> building the site"
	@$(BIN)/python -m sphinx -W --keep-going -q -E -a -b html docs docs/_build/html

notebooks: $(STAMP) ## run the notebooks again and store what they show
	@OMP_NUM_THREADS=1 $(BIN)/jupyter execute --inplace docs/notebooks/*.ipynb

lint: $(STAMP) ## check style and formatting
	@echo "==> ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(STAMP) ## repair style and formatting
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(STAMP) ## check types
	@echo "==> mypy"
	@$(BIN)/mypy

build: $(STAMP) ## build and check the wheel and the source archive, in dist/
	@echo "==> building"
	@rm -rf dist
	@$(BIN)/python -m build --outdir dist .
	@$(BIN)/python -m twine check --strict dist/*

clean: ## delete .venv, caches and build results
	@echo "==> deleting .venv, caches and build results"
	@rm -rf $(VENV) dist build docs/_build htmlcov .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find rankseg rankseg_integrations tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is the last thing written: an interrupted installation is taken up again.
# sam2 is a source archive that wants torch to build: without isolation it takes the one installed.
$(STAMP): pyproject.toml
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(MAKE) --no-print-directory venv
	@echo "==> installing rankseg and its tools into $(VENV) (torch is large: minutes the first time)"
	@$(PIP) install -qq --editable ".[test,dev]"
	@SAM2_BUILD_CUDA=0 $(PIP) install -qq --no-build-isolation sam2
	@touch $@

# In a folder that goes first on the path: the rest of .venv serves both versions.
$(OLDER)/.installed: $(STAMP)
	@echo "==> installing transformers 4.57 beside the newest"
	@rm -rf $(OLDER)
	@$(PIP) install -qq --no-deps --target $(OLDER) \
	  "transformers==4.57.*" "huggingface_hub>=0.34,<1" "tokenizers>=0.22,<0.23.1"
	@touch $@

# Debian's Python may come without ensurepip: then its own pip fills the environment.
venv:
	@$(PYTHON) $(SUITS) 2>/dev/null || { \
	  echo "RankSEG needs Python >= 3.10, got: $(or $(PYTHON),none of $(CANDIDATES))" >&2; \
	  echo "Name another interpreter, for example: make PYTHON=/path/to/python3.12 demo" >&2; exit 1; }
	@echo "==> creating $(VENV) with $$($(PYTHON) --version)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
	  $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	  $(PYTHON) -m pip --python $(BIN)/python install -qq pip; } || { \
	  rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make a virtual environment: install its venv or pip package" >&2; \
	  exit 1; }
