# `make demo` and `make test` are all that a fresh machine needs: each builds .venv from the hashed lock first.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test test-all check setup lock clean

demo: .venv/.ready
	$(BIN)/python pipelines/demo.py --output demo-out

test: .venv/.ready
	$(BIN)/python -m pytest -n 2

test-all: .venv/.ready
	$(BIN)/python -m pytest -m ""

check: .venv/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

setup: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r bootstrap.lock
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

# Resolves anew. The files hold hashes and no registry address.
lock: setup
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--no-annotate --extra demo --extra dev pyproject.toml -o requirements.lock
	grep -A 1000 '^uv==' requirements.lock | awk 'NR == 1 || /^    /{print; next} {exit}' > bootstrap.lock

clean:
	rm -rf .venv demo-out build dist *.egg-info
