# `make train` and `make test` do all of their own set-up: a virtual environment in .venv and what
# they need in it. CI (.ci/run) and pre-commit call the targets below and nothing else.

PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

# What is set up is kept as stamp files in .venv. Their names hold a checksum of this folder's path:
# in a checkout that was moved or copied, .venv would still run the code at the old place.
PLACE := $(shell pwd -P | cksum | cut -d ' ' -f 1)
BASE := .venv/.base-$(PLACE)
TEST := .venv/.test-$(PLACE)
DEV := .venv/.dev-$(PLACE)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help train test bench check check-format lint types wheel format clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

train: $(BASE) ## train MLPResNet on the embedded digits; options: make train ARGS="--epochs 5"
	@$(BIN)/python apps/mlp_resnet.py $(ARGS)

test: $(TEST) ## run the test suite; options: make test ARGS="-k house"
	@$(BIN)/python -m pytest $(ARGS)

bench: $(TEST) ## measure against NumPy by hand; fails where it got slower by a quarter
	@$(BIN)/python benchmarks/regression.py $(ARGS)

check: check-format lint types wheel ## run all of CI's checks except the tests

check-format: $(DEV) ## check the format
	@$(BIN)/ruff format --check .

lint: $(DEV) ## run the linter
	@$(BIN)/ruff check .

types: $(DEV) ## check the types, on an installed wheel
	@$(install_wheel); \
	cd "$$tmp/empty"; \
	"$$bin/mypy" --config-file "$$root/pyproject.toml" --python-executable "$$python" -p needle_ir

wheel: $(DEV) ## build the wheel, install it elsewhere and import it there
	@$(install_wheel); \
	"$$python" -c "$$CHECK_CONTENTS" "$$tmp"/wheel/*.whl; \
	cd "$$tmp/empty"; \
	"$$python" -c "$$CHECK_IMPORTS"

format: $(DEV) ## rewrite the files in the project's format, with the linter's safe fixes
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## remove .venv, build products and caches
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

$(BASE): pyproject.toml $(BIN)/python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "needle_ir needs Python 3.11 or newer, and '$(PYTHON)' is not that." >&2; \
	  echo "Name another one, as in: make $(or $(MAKECMDGOALS),train) PYTHON=python3.12" >&2; \
	  exit 1; }
	@echo "Setting up .venv"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python $(PIP_INSTALL) -e .
	@touch $@

$(TEST): $(BASE)
	@echo "Installing the test extra into .venv"
	@$(BIN)/python $(PIP_INSTALL) -e '.[test]'
	@touch $@

$(DEV): $(BASE)
	@echo "Installing the dev extra into .venv"
	@$(BIN)/python $(PIP_INSTALL) -e '.[dev]'
	@touch $@

# The interpreter is missing, or its target was removed by an upgrade: $(BASE) makes it again.
$(BIN)/python: ;

# Shell code: builds the wheel and installs it, with its dependencies only, into a venv in a temporary
# folder. setuptools would pack what an earlier build left in build/, so that goes first.
define install_wheel
set -e; \
root=$$(pwd -P); bin=$$root/$(BIN); tmp=$$(mktemp -d); python=$$tmp/venv/bin/python; \
trap 'rm -rf "$$tmp"' EXIT; trap 'exit 1' INT TERM; \
mkdir "$$tmp/empty"; rm -rf build; \
"$$bin/python" -m build --wheel --outdir "$$tmp/wheel" . >"$$tmp/log" 2>&1 || { cat "$$tmp/log"; exit 1; }; \
"$$bin/python" -m venv "$$tmp/venv"; \
"$$python" $(PIP_INSTALL) "$$tmp"/wheel/*.whl
endef

define CHECK_CONTENTS
import sys
from pathlib import Path
from zipfile import ZipFile

held = {name for name in ZipFile(sys.argv[1]).namelist() if ".dist-info/" not in name}
top = {name.split("/")[0] for name in held}
assert top == {"needle_ir"}, f"the wheel holds {sorted(top)}, not needle_ir alone"

folders = {"needle_ir": "", "passes": "needle_ir/", "runtime": "needle_ir/", "viz": "needle_ir/"}
files = {f"{prefix}{p.as_posix()}" for f, prefix in folders.items() for p in Path(f).rglob("*.*")
         if p.is_file() and "__pycache__" not in p.parts and not p.name.startswith(".")}
assert files <= held, f"not in the wheel (see package-data): {sorted(files - held)}"
print(f"The wheel holds needle_ir only, {len(held)} files.")
endef

define CHECK_IMPORTS
import needle_ir, needle_ir.passes, needle_ir.runtime, needle_ir.viz

for module in (needle_ir, needle_ir.passes, needle_ir.runtime, needle_ir.viz):
    assert "site-packages" in module.__file__, module.__file__
print(f"needle_ir {needle_ir.__version__} imports from an empty folder.")
endef

export CHECK_CONTENTS CHECK_IMPORTS
