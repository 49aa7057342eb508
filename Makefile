# Everything a fresh machine with Python >= 3.11, make and git needs. `make demo` and `make test` set up by themselves.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0

.PHONY: setup demo test lint format bench reproduce reproduce-full clean

setup: $(VENV)/.installed

# The stamp carries the pins: a changed pyproject.toml installs anew.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "ecgkan needs Python >= 3.11; found $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: setup
	$(BIN)/ecgkan demo --out demo --overwrite

test: lint
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python benchmarks/kan_layer.py
	$(BIN)/python benchmarks/feeding.py

# Every page and figure from the committed weights and results: tens of minutes.
reproduce: setup
	$(BIN)/ecgkan data verify mitdb
	$(BIN)/ecgkan data verify nstdb
	$(BIN)/ecgkan export --shipped checkpoints --overwrite
	$(BIN)/ecgkan evaluate cnn_mlp cnn_kan --out evaluation --overwrite
	$(BIN)/ecgkan evaluate patient_mlp patient_kan --out evaluation/new-patients --overwrite
	$(BIN)/ecgkan compare --by-record --cards checkpoints --report docs/results.md
	$(BIN)/ecgkan compare --protocol inter-patient --report docs/kan-vs-mlp.md
	$(BIN)/ecgkan patients stress
	$(BIN)/ecgkan patients report
	$(BIN)/ecgkan explain cnn_kan --out edges --refine 10 --report docs/kan-edges.md --overwrite
	$(BIN)/ecgkan explain patient_kan --out edges/patient --refine 10 --report docs/patient-kan-edges.md --overwrite

# From nothing but the databases: trains 16 + 10 + 60 runs, about a day on two cores; resumable.
reproduce-full: setup
	$(BIN)/ecgkan data verify mitdb
	$(BIN)/ecgkan data verify nstdb
	$(BIN)/ecgkan compare --train --ship checkpoints --report docs/results.md
	$(BIN)/ecgkan patients validate --model patient_mlp
	$(BIN)/ecgkan patients validate --model patient_kan
	$(BIN)/ecgkan patients train --ship checkpoints
	$(BIN)/ecgkan patients score
	$(BIN)/ecgkan compare --protocol inter-patient --train --report docs/kan-vs-mlp.md
	$(MAKE) reproduce

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
