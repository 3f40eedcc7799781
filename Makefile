# One command each; every target sets up what it needs, so `make demo` and `make test` work on a fresh clone with Python 3.11 alone.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .stamps
SEEDS ?= 20
REFERENCE ?=
ARGS ?=
PYTEST_ARGS ?=

# The default test run: everything that is not a stress run or a benchmark. What needs no server runs two at a time.
ALONE := tests/unit tests/property tests/reference
SERVED := tests/integration tests/fault

.PHONY: help setup tools lint format test dashboards demo watch backtest screenshots bench twin mutate faults reference schema lock clean distclean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(STAMPS)/venv: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Plimsoll needs Python 3.11: make PYTHON=/path/to/python3.11 setup")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/kafka: $(STAMPS)/venv streams/broker.py
	$(BIN)/plimsoll kafka fetch
	@touch $@

$(STAMPS)/tools: deploy/tools.sh
	deploy/tools.sh
	@mkdir -p $(STAMPS) && touch $@

setup: $(STAMPS)/venv ## make .venv from the lock file

tools: $(STAMPS)/tools ## Prometheus, Chromium and axe-core, for tests, into .tools

lint: $(STAMPS)/venv ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy engine streams grafana tests

format: $(STAMPS)/venv ## let ruff fix and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(STAMPS)/kafka $(STAMPS)/tools ## unit, property, reference, integration and fault tests, on a real broker
	$(BIN)/pytest --numprocesses 2 --dist worksteal $(ALONE) $(PYTEST_ARGS)
	$(BIN)/pytest $(SERVED) $(PYTEST_ARGS)

dashboards: $(STAMPS)/venv ## dashboards, rules and alerts, and their table, made from code
	$(BIN)/python -m grafana.build
	$(BIN)/python -m grafana.alerts docs/monitoring.md

demo: $(STAMPS)/kafka ## the crash of 10 October 2025 through a real broker (ARGS="--serve")
	$(BIN)/plimsoll demo $(ARGS)

watch: $(STAMPS)/kafka $(STAMPS)/tools ## a demo, its console and a Prometheus together; says what to open (Ctrl-C ends all)
	$(BIN)/python -m grafana.watch $(ARGS)

backtest: $(STAMPS)/venv ## whether requirements held in three stressed markets; writes out/backtest (ARGS="--episode depeg_2023_03")
	$(BIN)/plimsoll backtest --json out/backtest/backtest.json --html out/backtest/backtest.html $(ARGS)

screenshots: $(STAMPS)/kafka $(STAMPS)/tools ## the pictures in docs/img: of a demo's report (make demo first), and of the console
	$(BIN)/python -m tests.screenshots

bench: $(STAMPS)/kafka ## what the bus and the engine cost; writes out/bench.json
	$(BIN)/python -m tests.bench.run $(ARGS)

twin: $(STAMPS)/venv ## ten thousand random books in the engine and in its plain twin: do they agree (ARGS="--books N")
	$(BIN)/python -m tests.bench.twin $(ARGS)

faults: $(STAMPS)/kafka ## kill and pause workers at random moments, SEEDS times
	$(BIN)/python -m tests.fault.run --seeds $(SEEDS) $(ARGS)

mutate: $(STAMPS)/venv ## change one thing of margin, haircuts, breakers, venues' rules and their legs at a time: a test must notice; writes out/mutation.json
	$(BIN)/python -m tests.mutation.run $(ARGS)

reference: $(STAMPS)/venv ## every reference case found in the folder REFERENCE
	@test -n "$(REFERENCE)" || { echo "make reference REFERENCE=DIR"; exit 2; }
	$(BIN)/python -m tests.reference.run --reference "$(REFERENCE)"

schema: $(STAMPS)/venv ## JSON Schema of each public message, into out/schema
	$(BIN)/plimsoll schema --out out/schema

lock: $(STAMPS)/venv ## resolve pyproject.toml again into requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-emit-index-url --no-header --quiet -o requirements.lock

clean: ## caches and outputs; keeps .venv, .tools and the broker's jars
	rm -rf out .mypy_cache .ruff_cache .pytest_cache .hypothesis .kafka/data
	find engine streams grafana tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## everything that was made here
	rm -rf $(VENV) $(STAMPS) .kafka .tools
