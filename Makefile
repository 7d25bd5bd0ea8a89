# make faces    set up, then train on the built-in heads for about five minutes
# make test     set up, then run the tests
#
# FACES="…"      more flags for `limner train`
# PIP_FLAGS="…"  more flags for pip, e.g. --extra-index-url https://download.pytorch.org/whl/cpu for a torch without CUDA

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: faces test lint benchmark clean

faces: $(VENV)/installed
	$(BIN)/limner train $(FACES)
	@echo 'limner is installed in $(VENV): `source $(VENV)/bin/activate`, once in each terminal, makes `limner` a command'

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 $(TESTS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(VENV)/installed-dev
	$(BIN)/python benchmarks/run.py

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("limner needs Python 3.11 or later; this is %d.%d: make PYTHON=python3.11 …" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing limner and PyTorch into $(VENV): a download of 0.2 to 3 GB the first time"
	$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing limner, PyTorch and what its tests need into $(VENV): a download of 0.2 to 3 GB the first time"
	$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build dist src/*.egg-info
