# The two commands of the README: `make demo` and `make test`. Both make .venv first.
PYTHON ?= python3
BIN := .venv/bin
# Where this is set, as in some containers, every process would compile torch anew.
unexport PYTHONDONTWRITEBYTECODE
# A new pip resolves faster, and what is never imported need not be compiled: minutes on two cores.
# One worker a core; a worker that has nothing left takes tests from another.
PYTEST := $(BIN)/pytest -n auto --maxprocesses 8 --dist worksteal

.PHONY: demo test test-all check pytest pytest-all clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[test]'
	touch $@

# Two workers that import torch for the first time would both compile it.
.venv/compiled: .venv/installed
	$(BIN)/python -c "import anthropic, openai, sklearn.metrics, transformer_lens.model_bridge"
	touch $@

demo: .venv/installed
	$(BIN)/autointerp run

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pytest: .venv/compiled
	$(PYTEST) -m "not slow"

pytest-all: .venv/compiled
	$(PYTEST)

# Beside each other: mypy keeps one core busy for as long as a quarter of the tests take.
test: .venv/installed
	$(MAKE) --jobs 2 check pytest

# With the tests that take long and are not needed at every change.
test-all: .venv/installed
	$(MAKE) --jobs 2 check pytest-all

clean:
	rm -rf .venv runs .mypy_cache .pytest_cache .ruff_cache
