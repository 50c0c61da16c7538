# make demo: reconstruct the sample scenes.  make test: lint, types and the whole test suite.
# make quick: the same without the slow tests.  Each makes .venv and installs what it needs on its own.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
PIP = $(RUN) -m pip install --disable-pip-version-check -q

.PHONY: demo test quick check format clean

demo: $(VENV)/.ready
	$(RUN) test.py --save_dir results/demo --report

test: check
	$(RUN) -m pytest -n 2

quick: check
	$(RUN) -m pytest -n 2 -m "not slow"

check: $(VENV)/.ready-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(VENV)/.ready-dev
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

$(VENV)/.ready: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) results .mypy_cache .pytest_cache .ruff_cache
