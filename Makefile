# Two commands do everything: `make sweep` and `make test`. Both set up the environment first, once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: setup sweep test test-slurm test-gpu bench bench-gpu docs lint clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

sweep: setup
	$(BIN)/python -m bench sweep

test: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not slurm"

# On Debian, as root. Two clusters side by side, for the tests wait more than they compute. Nodes, jobs and faults are real
# and the machine may be busy: what fails is tried once more.
test-slurm: setup
	slurm/dev-cluster install
	$(BIN)/python -m pytest -m slurm --numprocesses 2 --dist load || $(BIN)/python -m pytest -m slurm --last-failed --last-failed-no-failures none

# Without a CUDA device the tests are skipped, none counts as passed, and nothing is measured.
test-gpu: setup
	$(BIN)/python -m pytest -m gpu -rs

bench-gpu: setup
	$(BIN)/python -m benchmarks.gpu --json bench/planning/gpu.json --page docs/performance.md

# Prints the figures. `python -m benchmarks.page` writes them to docs/performance.md and docs/scaling.md as well.
bench: setup
	$(BIN)/python -m pytest benchmarks --benchmark-only

# The site of docs/ in build/site.
docs: setup
	$(BIN)/mkdocs build --strict --quiet

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info
