# Every target works on a fresh machine: the virtual environment is made on first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Tests run side by side, those of one file in one process, which share their fixtures.
PYTEST := $(BIN)/python -m pytest
PARALLEL := -n logical --maxprocesses 4 --dist loadfile

.PHONY: gpu-day install lint format types test test-slow fuzz test-slurm test-browser browser-packages postgres-packages slurm-packages slurm-local slurm-local-stop \
	bench bench-zero bench-gpu quickstart study docs clean

install: $(STAMP)

$(STAMP): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip setuptools wheel
	@# CPU torch first where there is no GPU: otherwise pip takes the CUDA build (several GB).
	command -v nvidia-smi >/dev/null || $(BIN)/pip install torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[hf,dev,docs]'
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

# What lint can repair by itself.
format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: install
	$(BIN)/mypy -p convbert

test: install
	$(PYTEST) $(PARALLEL) -m "not (slow or slurm or browser)"

# One of them runs PostgreSQL; Debian's package is installed on first use (root).
test-slow: install postgres-packages
	$(PYTEST) $(PARALLEL) -m slow

INSTALL_POSTGRES := DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql
postgres-packages:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || $(INSTALL_POSTGRES) || { apt-get update && $(INSTALL_POSTGRES); }

# Damaged documents, tasks, configurations and run directories for FUZZ_MINUTES in all; what fails is
# kept and tried first by every later run.
FUZZED := tests/data_pipeline/readers/test_fuzz.py tests/pretrain/finetune/test_input_fuzz.py tests/integration/test_fuzz_runs.py
fuzz: install
	FUZZ_FIRST=$(or $(FUZZ_FIRST),$(shell date +%s)) FUZZ_MINUTES=$(or $(FUZZ_MINUTES),30) $(PYTEST) -m slow -s $(FUZZED)

# A real SLURM of several nodes on this machine; Debian's packages are installed on first use (root).
test-slurm: install slurm-packages
	$(PYTEST) -m slurm

SLURM_PACKAGES := slurmctld slurmd slurm-client munge
INSTALL_SLURM := DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(SLURM_PACKAGES)
slurm-packages:
	@command -v sbatch >/dev/null || $(INSTALL_SLURM) || { apt-get update && $(INSTALL_SLURM); }

# The same for trying things: a cluster of three nodes that runs until `make slurm-local-stop`.
slurm-local: install slurm-packages
	$(BIN)/python -m tests.slurm_local start

slurm-local-stop: install
	$(BIN)/python -m tests.slurm_local stop

# Real Chromium against the real MLflow UI and the report; Debian's package, installed on first use.
test-browser: install browser-packages
	$(PYTEST) -m browser

INSTALL_BROWSER := DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium chromium-driver
browser-packages:
	@command -v chromedriver >/dev/null || $(INSTALL_BROWSER) || { apt-get update && $(INSTALL_BROWSER); }

# Ours and transformers in turns: operator, block, encoder, training steps, loader, tokenizer.
bench: install
	$(BIN)/python -m tests.benchmarks

# What each ZeRO stage costs beside plain DDP, on two processes.
bench-zero: install
	$(BIN)/python -m tests.benchmarks.zero

# Pretraining steps on one GPU in bfloat16, compiled side by side and timed in turns, with the share of
# its matrix-product rate (MFU).
bench-gpu: install
	$(BIN)/python -m tests.benchmarks.gpu

# All that waits for a GPU, in one go: correctness, whole runs, tables, profiles, into gpu-day/.
gpu-day: install
	tests/benchmarks/gpu_day.sh gpu-day

clean:
	rm -rf build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache

# Text to fine-tuned model in under ten minutes on two cores; continues where it was interrupted.
quickstart: install
	$(BIN)/convbert quickstart --output quickstart

# Variants of the model on equal training FLOPs: hours on two cores; continues where it was
# interrupted. STUDY="--flops 1e12 --seeds 1" rehearses it.
study: install
	$(BIN)/convbert study --output study $(STUDY)

# The documentation as a site in site/, which needs no network to build or to read.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
