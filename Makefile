# `make demo` and `make test` are all one needs; both make .venv first.
PYTHON ?= python3
TORCH ?= torch==2.13.0
CONFIG ?= configs/rca/tiny.yaml
BIN := .venv/bin

.PHONY: demo test drills lint clean

demo: .venv/.ready
	$(BIN)/python -m jobs.pipeline $(CONFIG) $(SET)

# Two tests at a time; those of a file stay in one process, where they share what is slow to make.
TWO := -n 2 --dist loadfile

test: .venv/.ready
	$(BIN)/python -m pytest $(TWO)

drills: .venv/.ready
	$(BIN)/python -m pytest -m slow $(TWO)

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# torch first and by its exact version: a range makes pip take a newer build with gigabytes of CUDA.
.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet -e ".[dev]" -c constraints.txt
	touch $@

clean:
	rm -rf .venv runs
