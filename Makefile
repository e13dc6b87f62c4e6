# Set-up and the everyday commands. On a machine with Python 3.11 to 3.13 and make, `make demo` is all there is to type.

# The first Python that runs and is one of the versions that the lock was made for.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& { command -v "$$python"; break; }; done)
BIN := .venv/bin
INSTALLED := .venv/installed
BENCH_INSTALLED := .venv/bench-installed
SOURCES := server client shared simulations tests

# Nothing that happens to be set in the caller's shell may change what is installed or imported.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX PIP_CONSTRAINT PIP_REQUIRE_HASHES
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Flower and Ray report their use to their makers unless they are told not to.
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-e2e test-ray test-all check format bench lock clean
.DELETE_ON_ERROR:

help:
	@echo "make demo       set up, then train two models on data that come with scikit-learn"
	@echo "make install    set up only: .venv/ with the tested versions (about 2 GB, a minute or two)"
	@echo "make test       set up, then the tests, without the slow ones"
	@echo "make test-slow  set up, then the slow tests: whole studies, killed and resumed runs"
	@echo "make test-e2e   set up, then the tests of real processes: an aggregator and hospitals on this machine"
	@echo "make test-all   all three"
	@echo "make test-ray   the same study on Flower's simulation engine and on ours (installs Ray)"
	@echo "make check      ruff, ruff format, mypy --strict"
	@echo "make format     let ruff mend the layout and what it can"
	@echo "make bench      side by side with Flower's own simulation (installs Ray; some minutes)"
	@echo "make lock       write the lock files anew; UPGRADE=--upgrade for newer versions"
	@echo "make clean      remove .venv/ and what the tools left"
	@echo
	@echo "After make install: .venv/bin/consilium-simulate --help"

install: $(INSTALLED)
	@echo "ready: $(BIN)/consilium-simulate --help"

# The project is built with the locked setuptools, so pip fetches nothing that the lock does not name.
$(INSTALLED): requirements.lock pyproject.toml | .venv
	@echo "installing the locked packages (1 of 2)"
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	@echo "installing consilium itself (2 of 2)"
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and none was found." \
		"Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; exit 1; }
	@echo "creating .venv with $(PYTHON)"
	@"$(PYTHON)" -m venv .venv || { rm -rf .venv; \
		echo "This Python cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

demo: $(INSTALLED)
	@$(BIN)/consilium-simulate demo

test: $(INSTALLED)
	@$(BIN)/python -m pytest -m "not slow and not e2e"

test-slow: $(INSTALLED)
	@$(BIN)/python -m pytest -m "slow and not e2e"

test-e2e: $(INSTALLED)
	@$(BIN)/python -m pytest -m e2e

test-ray: $(BENCH_INSTALLED)
	@$(BIN)/python -m pytest tests/integration/test_parity.py tests/unit/simulations/test_ray.py

test-all: $(INSTALLED)
	@$(BIN)/python -m pytest

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BENCH_INSTALLED)
	@$(BIN)/python -m simulations.benchmarks.secagg
	@$(BIN)/python -m simulations.benchmarks.network
	@$(BIN)/python -m simulations.benchmarks.methods
	@$(BIN)/python -m simulations.benchmarks.trees
	@$(BIN)/python -m simulations.benchmarks.run

$(BENCH_INSTALLED): requirements-bench.lock $(INSTALLED)
	@echo "installing Ray for the comparison"
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-bench.lock
	@touch $@

# Both name versions and hashes, for every platform, and no index: pip's own settings say where packages come from.
# The second adds Ray to the first and may not move anything else.
COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --no-config --quiet $(UPGRADE) \
	--universal --fork-strategy fewest --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --group dev --extra keras-cpu --extra survival-data

lock: $(INSTALLED)
	@$(COMPILE) pyproject.toml --output-file requirements.lock
	@$(COMPILE) --extra bench --constraint requirements.lock pyproject.toml --output-file requirements-bench.lock
	@grep --count == requirements.lock requirements-bench.lock

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -exec rm -rf {} +
