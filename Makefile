# The two commands a newcomer needs are `make demo` and `make test`; both set up `.venv` first.
PYTHON ?= python3
# More arguments for pytest, such as PYTEST=--no-skips.
PYTEST ?=
BIN := .venv/bin
# The tests start hundreds of processes. Each would compile what it imports again if Python could not
# write its cache here, which takes more time than the tests themselves.
unexport PYTHONDONTWRITEBYTECODE
# A virtual environment for somebody whose Python writes no cache holds compiled files from the start.
COMPILE := $(if $(PYTHONDONTWRITEBYTECODE), --compile-bytecode)
STAMP := .venv/.installed
# What the demo needs is installed by itself, unless everything is there already.
DEMO := $(or $(wildcard $(STAMP)),.venv/.demo)
RUN := $(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST)

.PHONY: setup demo test quick lint types tests nightly mutations coverage hooks evals results bench screenshots lowest clean
.SILENT: setup demo $(STAMP) .venv/.demo

setup: $(STAMP)

# By uv, the machine's or one of our own (a quarter of pip's time), else by pip. Re-runs only when pyproject.toml changed.
# In a checkout evals/ is a package of its own.
$(STAMP): EXTRAS := dev
$(STAMP): EVALS := $() -e evals
$(STAMP): evals/pyproject.toml
.venv/.demo: EXTRAS := cli,sim
$(STAMP) .venv/.demo: pyproject.toml
	if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --allow-existing --python "$(PYTHON)" .venv && \
	  uv pip install --quiet$(COMPILE) --python $(BIN)/python -e '.[$(EXTRAS)]'$(EVALS); \
	else \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "hms-active-rooms needs Python 3.11 or later; name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }; \
	  $(PYTHON) -m venv .venv && { \
	    { $(BIN)/python -m pip install -qq --disable-pip-version-check uv && \
	      VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet$(COMPILE) -e '.[$(EXTRAS)]'$(EVALS); } || \
	    $(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[$(EXTRAS)]'$(EVALS); }; \
	fi >&2
	touch $@

demo: $(DEMO)
	$(BIN)/hms-active-rooms demo

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

tests: $(STAMP)
	$(RUN) -m "not nightly" --durations=15

test: lint types tests

# The inner loop.
quick: lint types
	$(RUN) -q -m "not slow" tests/gate tests/tools tests/api tests/moderator

# What is too long for every change: whole kill matrices, all ways by all ways, evals' long runs,
# and mutants of the gate. CONTRIBUTING.md says what each of them is.
nightly: $(STAMP)
	$(RUN) -m "nightly or hypothesis" --hypothesis-profile=night --durations=15
	$(BIN)/python tests/mutations.py

mutations: $(STAMP)
	$(BIN)/python tests/mutations.py

# Lines of the package that the tests run, and those they do not. No threshold: it is there to be read.
coverage: $(STAMP)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist worksteal -q -m "not nightly" $(PYTEST)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

# Format, lint and types before each commit.
hooks: $(STAMP)
	$(BIN)/pre-commit install

# A quick offline evaluation: every scenario and model with our moderator and a person who reads.
evals: $(STAMP)
	$(BIN)/python -m evals offline --repeat 1 --agent moderator --person reader

# A sample of all agents, models and people, and the report in evals/RESULTS.md; the whole with WHOLE=1.
# What was finished before, by the same code, is not run again.
results: $(STAMP)
	$(BIN)/python -m evals offline $(if $(WHOLE),--whole)

# What a removal and a read cost, beside an earlier commit and plain code: evals/bench/RESULTS.md.
bench: $(STAMP)
	$(BIN)/python -m evals.bench

# The README's pictures of the approvals page, made in headless Chromium.
screenshots: $(STAMP)
	$(BIN)/python tests/screenshots.py

# The oldest releases that pyproject.toml allows, in an environment of their own.
lowest:
	$(PYTHON) -m venv .venv-lowest && .venv-lowest/bin/pip install -qq uv
	VIRTUAL_ENV=.venv-lowest .venv-lowest/bin/uv pip install -q --resolution lowest-direct -e '.[all]'
	VIRTUAL_ENV=.venv-lowest .venv-lowest/bin/uv pip install -q -e '.[dev]'
	.venv-lowest/bin/python -m pytest -n 2 -m "not slow"

clean:
	rm -rf .venv .venv-lowest .coverage* .mypy_cache .ruff_cache .pytest_cache build dist
