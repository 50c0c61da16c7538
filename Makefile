# make demo: reconstruct the sample scenes.  make test: lint, types and the whole test suite.
# Each makes .venv and installs what it needs on its own.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: demo test format clean

demo: $(VENV)/.ready
	$(RUN) test.py --save_dir results/demo

test: $(VENV)/.ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m pytest -n 2

format: $(VENV)/.ready
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

$(VENV)/.ready: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check -q -r requirements.txt
	touch $@

clean:
	rm -rf $(VENV) results .mypy_cache .pytest_cache .ruff_cache
