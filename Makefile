# make quickstart   install, then run the main job on a small network
# make test         install, then run all tests
# make test-slow    statistics that take minutes: the error model against 200 random settings, and tails
# make check        what everyone runs before a commit: ruff, mypy, tests
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: quickstart install test test-slow check clean

quickstart: $(STAMP)
	$(BIN)/autoprivacy tune digits-cnn --out runs/quickstart --fresh

install: $(STAMP)

$(STAMP): pyproject.toml CMakeLists.txt $(wildcard protocol/native/* protocol/native/*/*)
	@tools/check-toolchain $(PYTHON)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

test: $(STAMP)
	$(BIN)/pytest

test-slow: $(STAMP)
	$(BIN)/pytest -m slow

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

clean:
	rm -rf .venv build
