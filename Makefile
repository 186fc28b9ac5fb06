# Every target makes the environment it needs. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= pip,charges,neural,graphs,jax-md,lammps,examples,test
WORKERS ?= 2
TESTS ?= tests
BIN = $(VENV)/bin

.PHONY: test example sweep upstream timemachine bench parity lint docs clean

# each worker takes a stretch of the tests, so that neighbours share fixtures and compiled programs, and idle ones take over some
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test: $(VENV)/.installed
	$(PYTEST) $(TESTS)

example: $(VENV)/.installed
	$(BIN)/python examples/refit_torsion.py

# the parity, energy and derivative sweeps over whole data sets: hours, not minutes
sweep: $(VENV)/.installed
	$(PYTEST) -m slow -s

# OpenFF's own suites, stock and with our handlers swapped in
upstream: $(VENV)/.installed
	$(BIN)/python -m tests.upstream.run

# timemachine's own tests, stock and with our handlers: an hour or more. TIMEMACHINE is a checkout of proteneer/timemachine,
# SUITES the names of some suites. timemachine needs Python 3.12: PYTHON=python3.12 VENV=.venv-3.12 beside an older one
timemachine: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet pymbar matplotlib hypothesis hilbertcurve psutil py3Dmol networkx
	TIMEMACHINE=$(TIMEMACHINE) $(BIN)/python -m tests.upstream.timemachine $(SUITES)

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.run

# rewrites docs/parity.md
parity: $(VENV)/.installed
	$(BIN)/python -m benchmarks.parity

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e ".[docs]"
	$(BIN)/mkdocs build --strict

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[$(EXTRAS)]"
	touch $@

clean:
	rm -rf .venv .venv-* build dist *.egg-info
