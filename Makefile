# `make demo` and `make test` are all that a fresh machine needs: each builds .venv from the hashed lock first.
PYTHON ?= python3.11
BIN := .venv/bin

# Folders whose tests compare figures that torch computes.
NUMERIC := tests/models tests/training tests/inference tests/vqa

.PHONY: demo test test-numeric test-all check docs fuzz faults bench bench-gpu scale sbom setup lock clean

demo: .venv/.ready
	$(BIN)/faceattr demo --output demo-out

test: .venv/.ready
	$(BIN)/python -m pytest -n 2

# The last bits of a figure follow the vector unit. A test's outcome must not: here as on AVX2 and SSE machines.
# What needs Ray, or is slow for other reasons, is left to `make test`.
test-numeric: .venv/.ready
	ATEN_CPU_CAPABILITY=avx2 DNNL_MAX_CPU_ISA=AVX2 \
		$(BIN)/python -m pytest -n 2 -m "not ray and not slow and not fault and not long" $(NUMERIC)
	ATEN_CPU_CAPABILITY=default DNNL_MAX_CPU_ISA=SSE41 \
		$(BIN)/python -m pytest -n 2 -m "not ray and not slow and not fault and not long" $(NUMERIC)

# The fast tests first, side by side, so that a fault shows early; the others measure time and kill processes: one by one.
test-all: test
	$(BIN)/python -m pytest -m "long or fault"

check: .venv/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# site/index.html is the start. A page that is missing from the navigation, and a link that leads nowhere, is an error.
docs: .venv/.ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Each fuzz target for MINUTES; what is found stays in fuzz-out/. TARGETS="images spaces" names some.
MINUTES ?= 1
TARGETS ?=
fuzz: .venv/.ready
	$(BIN)/python -m tests.fuzz.run $(TARGETS) --minutes $(MINUTES)

# Random schedules of kills and bad stores, from SEED on, for MINUTES: of label, or of JOB.
JOB ?= label
SEED ?= 0
faults: .venv/.ready
	$(BIN)/python -m tests.faults.schedules.run --job $(JOB) --minutes $(MINUTES) --seed $(SEED)

# Half an hour, on a machine with nothing else to do. AGAINST=COMMIT compares with it, and writes nothing.
AGAINST ?=
bench: .venv/.ready
	$(BIN)/python -m tests.benchmarks.run $(if $(AGAINST),--against $(AGAINST))

# At most eight minutes. Where there is no Ray, the script itself runs all but the pipelines.
bench-gpu: .venv/.ready
	$(BIN)/python tests/benchmarks/bench_gpu.py --output bench-gpu-out

# Ten minutes and 2 GB of disk. ROWS=100_000_000 takes ten times as much of both.
ROWS ?= 10_000_000
scale: .venv/.ready
	$(BIN)/python tests/benchmarks/bench_scale.py --rows $(ROWS)

# What is installed, as CycloneDX JSON: of the lock alone, so it is the same bytes on every machine.
SBOM ?= sbom.json
sbom: .venv/.ready
	$(BIN)/python -m tests.sbom requirements.lock $(SBOM)

setup: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r bootstrap.lock
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

# Resolves again. The files hold hashes and no registry address.
lock: setup
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--no-annotate --extra demo --extra dev pyproject.toml -o requirements.lock
	grep -A 1000 '^uv==' requirements.lock | awk 'NR == 1 || /^    /{print; next} {exit}' > bootstrap.lock

clean:
	rm -rf .venv demo-out bench-gpu-out fuzz-out site sbom.json build dist *.egg-info
