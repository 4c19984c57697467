# make quickstart   set up, run every pipeline on embedded data, write out/report.html
# make test         set up, lint, type-check, run the tests
# make test-fast    the tests that took up to 0.05 CPU seconds here the last time: they compile and export nothing,
#                   open no browser and start no process (after a make test a minute on two cores)
# make test-all     the same with the long tests
# make fuzz         hostile input for every reader: make fuzz SECONDS=600
# make lint         format, lint and types only

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
# glibc keeps freed memory instead of giving it back: large temporaries cost no page faults
export MALLOC_MMAP_MAX_ ?= 0
export MALLOC_TRIM_THRESHOLD_ ?= 8589934592

# two workers of one thread each; the compile cache is shared by them and by the next run
ENV := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive NUMBA_CACHE_DIR=$(CURDIR)/.venv/numba
TESTS := $(ENV) $(BIN)/python -m pytest -n 2 -q --dist loadfile

.PHONY: quickstart test test-fast test-all lint checked clean

quickstart: .venv/.quickstart
	$(BIN)/recurra quickstart --out out

test: .venv/.dev chromium checked
	$(TESTS) -m "not slow"

test-fast: .venv/.dev
	$(TESTS) -m "not slow" --fast

test-all: .venv/.dev chromium checked
	$(TESTS)

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# what the tests need compiled on one core; the types, and then the rest of it, on the other
checked: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(ENV) $(BIN)/python -m tests.warm units & units=$$!; \
		$(BIN)/pyright && $(ENV) $(BIN)/python -m tests.warm pipelines; rest=$$?; \
		wait $$units && exit $$rest

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Recurra needs Python 3.11 or newer; name it with: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv .venv

.venv/.quickstart: pyproject.toml Makefile | $(BIN)/python
	$(PIP) install -e ".[demos,metrics,ocr,speech]"
	@touch $@

.venv/.dev: pyproject.toml | $(BIN)/python
	$(PIP) install -e ".[dev]"
	@touch $@ .venv/.quickstart

# the browser tests drive Debian's chromium; without root they skip and say so
.PHONY: chromium
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	else echo "chromium is missing: the browser tests will skip"; fi

clean:
	rm -rf .venv out .pytest_cache .ruff_cache

# pictures of the hub, every page and the report: light, dark, 390 px wide
.PHONY: screens
screens: .venv/.dev chromium
	$(BIN)/recurra quickstart --out out
	$(BIN)/python -m demos.screens out/screens

# hostile input for every reader; what fails is shrunk, kept in tests/fuzz/found and read again by make test.
# Runs add up in COUNT until every reader has had its 50,000; inputs that were read are not read again
SECONDS ?= 60
COUNT ?= out/fuzz.json
.PHONY: fuzz
fuzz: .venv/.dev
	$(ENV) $(BIN)/python -m tests.fuzz --seconds $(SECONDS) --count $(COUNT)
