# Commands: `make demo`, `make demo-mri`, `make demo-histology` and `make test`. They make .venv on a bare machine and reuse it afterwards.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_OUTPUT ?= demo_output
MRI_DEMO_OUTPUT ?= demo_mri_output
HISTOLOGY_DEMO_OUTPUT ?= demo_histology_output
# One torch release for everybody who calls make; `make TORCH=torch demo` takes the newest.
TORCH ?= torch==2.13.0
# Two default OpenMP teams that spin while they wait halve each other's speed.
export OMP_WAIT_POLICY ?= PASSIVE
# Large pages: a tenth of a restoration on a CPU is page faults.
export THP_MEM_ALLOC_ENABLE ?= 1

.PHONY: demo demo-mri demo-histology test test-lowest lint benchmarks help clean

help:  ## Show what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("medrestore needs Python 3.11 or newer, found " + sys.version.split()[0] + "; call make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --progress-bar on "$(TORCH)" --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --progress-bar on "$(TORCH)" --editable ".[dev]"
	@touch $@

demo: $(VENV)/.installed  ## Simulate a cohort, train Task-GAN and its baselines, restore, evaluate, rehearse a reader study: about 11 minutes on two cores, and the installation
	$(BIN)/medrestore demo --output $(DEMO_OUTPUT)

demo-mri: $(VENV)/.installed  ## The same for multi-contrast MRI: six contrasts from one MDME acquisition, about 12 minutes on two cores
	$(BIN)/medrestore demo multicontrast-mri --output $(MRI_DEMO_OUTPUT)

demo-histology: $(VENV)/.installed  ## The same for histopathology: super-resolution of an example picture, about 5 minutes on two cores
	$(BIN)/medrestore demo histology --output $(HISTOLOGY_DEMO_OUTPUT)

lint: $(VENV)/.installed-dev  ## Style, types, layers
	$(BIN)/pre-commit run --all-files

test: lint  ## Lint and run all tests, with coverage of the package
	$(BIN)/python -m pytest --cov=medrestore --cov-report=term --cov-fail-under=90

# The lowest versions that pyproject.toml allows, resolved by uv: what a floor promises is tried, not hoped for.
LOWEST := .venv-lowest
$(LOWEST)/.installed: pyproject.toml
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/uv pip install --python $(LOWEST)/bin/python --resolution lowest-direct --editable ".[dev]"
	@touch $@

test-lowest: $(LOWEST)/.installed  ## Run all tests on the lowest allowed versions of what is needed, in .venv-lowest (a CUDA build of torch: several GB)
	$(LOWEST)/bin/python -m pytest

benchmarks: $(VENV)/.installed-dev  ## Run every benchmark and print its ratios
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean:  ## Remove the environment and caches (never results)
	rm -rf $(VENV) $(LOWEST) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
