# Two commands for a fresh machine: `make demo` and `make test`. Each makes .venv and installs by itself.

PYTHON ?= python3
BIN := .venv/bin
SOURCES := pyproject.toml setup.py constraints.txt delira_nca/_version.py $(wildcard csrc/*)

.PHONY: demo test test-slow test-processors coverage lint types docs constraints faults benchmark-data benchmark-rollout
.PHONY: benchmark-trainer benchmark-busy benchmark-growing benchmark-live benchmark-store sanitize clean

demo: .venv/.viz
	$(BIN)/delira-nca grow

test: .venv/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Programs that are killed in every way, other launchers, benchmarks: what takes long and has a quick sibling in the suite.
test-slow: .venv/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

# What depends on the processor, once as on each kind that this one can be, and once without the native library.
test-processors: .venv/.dev
	$(BIN)/python tests/processors.py

# Lines and branches that the suite reaches, in the processes that it starts too; those that are killed write nothing.
coverage: .venv/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev
	$(BIN)/mypy

docs: .venv/.docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

# The newest releases that fit together: run the suite with them before you commit the file.
constraints: .venv/.dev
	$(BIN)/python tests/constraints.py

# What goes wrong on purpose, mostly twenty times each: half an hour on two cores.
faults: .venv/.dev
	$(BIN)/python -m benchmarks.faults data training --trials 20 --jobs 2 --page docs/faults.md

benchmark-data: .venv/.dev
	$(BIN)/python -m benchmarks.data

benchmark-rollout: .venv/.dev
	$(BIN)/python -m benchmarks.rollout --table docs/rollout_data.rst

benchmark-busy: .venv/.dev
	$(BIN)/python -m benchmarks.busy

# Five runs of the demo with other seeds, and what each part of its recipe is worth: half an hour on two cores.
benchmark-growing: .venv/.viz
	$(BIN)/python -m benchmarks.growing seeds
	$(BIN)/python -m benchmarks.growing recipes

benchmark-live: .venv/.dev
	$(BIN)/python -m benchmarks.live

benchmark-store: .venv/.dev
	$(BIN)/python -m benchmarks.store

benchmark-trainer: .venv/.dev
	$(BIN)/python -m benchmarks.trainer

# The native roll-out under the compiler's sanitizers: two minutes, needs g++ on Linux.
sanitize:
	$(PYTHON) tests/native/sanitize.py

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

# One stamp per set of extras; the pinned versions are those that the suite was green with.
.venv/.%: $(SOURCES) | .venv/bin/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$*]'
	touch $@

clean:
	rm -rf .venv build dist docs/_build *.egg-info
