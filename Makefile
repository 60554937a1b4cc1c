# Every target makes .venv by itself; all it needs is python3 (3.11 or later) and make.

PYTHON ?= python3
BIN := .venv/bin
# FAISS comes as one of two packages, of which only one may be installed.
FAISS := $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
RUN_STAMP := .venv/.installed-$(FAISS)
DEV_STAMP := .venv/.installed-$(FAISS)-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: help demo test test-gpu lint format web bench bench-peers clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 18

demo: $(RUN_STAMP)  ## build demo.atlas from three small language models, and look around in it
	$(BIN)/atlas demo demo.atlas

# Processes share the cores, so each computes on one; files whole, for their fixtures' sake.
test: $(DEV_STAMP)  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-gpu: $(DEV_STAMP)  ## run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

lint: $(DEV_STAMP)  ## check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP)  ## put the code in the house's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

web: web/node_modules/.package-lock.json  ## bundle the page of `atlas view` anew (needs Node.js 20 or later)
	cd web && npm test && npm run build

web/node_modules/.package-lock.json: web/package-lock.json
	cd web && npm ci --no-audit --no-fund
	@touch $@

bench: $(DEV_STAMP)  ## print the ratios that README.md quotes
	$(BIN)/python -m tests.benchmarks

bench-peers: .venv-peers/.installed-$(FAISS)  ## compare SAE training with other libraries' own
	.venv-peers/bin/python -m tests.benchmarks peers

clean:  ## remove what the other targets made
	rm -rf .venv .venv-peers web/node_modules web/.tests demo.atlas demo.atlas.index demo.atlas.work build dist *.egg-info

.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than Python 3.11; give a newer one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv

$(RUN_STAMP): pyproject.toml constraints.txt | .venv/pyvenv.cfg
	@echo "Installing the packages that the atlas needs (once; a few minutes) …"
	$(PIP) install -c constraints.txt -e '.[$(FAISS)]'
	@touch $@

$(DEV_STAMP): $(RUN_STAMP)
	$(PIP) install -c constraints.txt -e '.[$(FAISS),hub,dev]'
	@touch $@

# torchvision comes along with them, does not fit every torch, and none of them needs it here.
.venv-peers/.installed-$(FAISS): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip --disable-pip-version-check -q install -c constraints.txt -e '.[$(FAISS),peers]'
	.venv-peers/bin/python -m pip --disable-pip-version-check -q uninstall -y torchvision
	@touch $@
