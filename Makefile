# `make demo` and `make test` make the environment first if it is not there.
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
DATASET ?= nuscenes
BIN := $(VENV)/bin

NEWEST ?= .venv-newest
NEWEST_PYTHON ?= $(shell for p in python3.12 python3; do \
	$$p -c 'import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null && echo $$p && break; done)
PARTS ?= 1 2 3 4 5
TEST_PROCESSES ?= 2

.PHONY: install demo test test-newest gpu-check lint clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements.txt .ci/system-libraries
	@sh .ci/system-libraries "$(PYTHON)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@touch $@

demo: install
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m core.demo --dataset $(DATASET)

# Test modules are shared out to TEST_PROCESSES processes; 0: all run in this one.
test: install
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile \
		--cov=core --cov-report=term --cov-fail-under=90

# Python 3.12 with the newest numpy, numba and scipy: a training step, an E-step and an evaluation, among others.
test-newest:
	@if [ -z "$(NEWEST_PYTHON)" ]; then echo "test-newest: no Python 3.12 with venv on this machine: skipped"; else \
		$(MAKE) --no-print-directory $(NEWEST)/.installed && \
		PATH="$(CURDIR)/$(NEWEST)/bin:$$PATH" $(NEWEST)/bin/python -m pytest -q \
			tests/test_training_step.py tests/test_pseudo_labels.py tests/test_sparse.py tests/test_newest.py; fi

$(NEWEST)/.installed: .ci/newest.txt
	$(NEWEST_PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --requirement .ci/newest.txt
	@touch $@

# `make gpu-check PARTS="3 4"` runs some parts; with VENV= the Python that PYTHON names is taken as it is.
gpu-check: $(if $(VENV),install)
	@$(if $(VENV),$(BIN)/python,$(PYTHON)) -m benchmarks.gpu_check --parts $(PARTS)

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf runs/demo data/demo
