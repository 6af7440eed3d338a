# make demo     from clone to a trained, converted, verified binary .tflite;
#               DATASET=path/to/images does it with your images
# make quick    oracles and units of all methods: the inner loop
# make test     the whole test suite
# make test-as-users    the same, slower: TensorFlow does all that it does for users
# make lint     style, formatting and types
# make examples docs                    as CI runs them
# make check-docs                       looks at the built pages in Chromium
# make check-boards                     runs a C file on emulated boards and in Chromium
# make check-clients                    runs .tflite files in MediaPipe and LiteRT.js
# make evidence tables, numbers and figures of the pages, from the logs in results/
# make package  the files for the package index, checked
# make hostile  opens model files that were changed at random
# make compat   a core suite with every supported TensorFlow, half an hour or two

VENV ?= .venv
DATASET ?= digits
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' \
	2>/dev/null && echo $$p && break; done)
BIN := $(VENV)/bin
# Two processes of one thread: the suite is made of many small graphs, which do not fill
# two cores. Of oneDNN's kernels, which TensorFlow leaves out on some CPUs, come the
# layouts and the order of sums that the tests were made with.
PYTEST_WORKERS ?= 2
THREADS = TF_ENABLE_ONEDNN_OPTS=1 TF_NUM_INTRAOP_THREADS=1 \
	TF_NUM_INTEROP_THREADS=1 OMP_NUM_THREADS=1
# What XLA compiles runs for a few steps.
EFFORT = XLA_FLAGS=--xla_backend_optimization_level=0
PYTEST = $(THREADS) $(EFFORT) $(BIN)/python -m pytest -n $(PYTEST_WORKERS) -q

# Many processes are started, each of which would compile the sources anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo quick test test-as-users lint examples docs check-docs check-boards check-clients evidence package compat hostile clean

demo: $(VENV)/.all
	$(BIN)/larq-nobn demo --dataset "$(DATASET)"

quick: $(VENV)/.test
	$(PYTEST) @tests/quick.txt

test: $(VENV)/.dev
	$(PYTEST) --dist worksteal tests

test-as-users: export TESTS_AS_USERS = 1
test-as-users: test

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

examples: $(VENV)/.dev
	ls examples/*.py | $(THREADS) xargs -n 1 -P 2 -t $(BIN)/python

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check-docs: docs
	$(BIN)/python docs/tools/check_site.py site

check-boards: $(VENV)/.dev
	$(BIN)/python benchmarks/boards.py reactnet18-w32-digits

hostile: $(VENV)/.dev
	$(BIN)/python tests/tools/untrusted.py

evidence: $(VENV)/.dev
	$(BIN)/python benchmarks/evidence.py
	$(BIN)/python benchmarks/figures.py

# The wheel is made of what the source archive holds.
package: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*

# Real clients that are no wheels of this environment: MediaPipe, and a browser.
check-clients: $(VENV)/.dev
	$(BIN)/python tests/clients/check_clients.py

compat: $(VENV)/.dev
	$(BIN)/python tests/tools/compat.py --folder runs/compat

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.10 to 3.12 found: install one, or \
	name it, as in: make PYTHON=/path/to/python3.11 demo"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.all: $(VENV)/bin/python setup.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all]'
	@touch $@

$(VENV)/.test: $(VENV)/bin/python setup.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python setup.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build demo dist site
