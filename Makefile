# All commands of this project. `make` alone lists them.

PYTHON      ?= python3
VENV        ?= .venv
TORCH_INDEX ?=

BIN   := $(VENV)/bin
RUN   := $(BIN)/python
PIP   := $(RUN) -m pip --disable-pip-version-check
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help env site test check lint lab notebooks student readme bench trained clean

help:  ## list these commands
	@echo "EfficientFormer, taken apart. Commands:"
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*## */\t/' | awk -F '\t' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo "Settings: PYTHON=python3.12 (3.11 or later), VENV=folder, TORCH_INDEX=address (for torch and torchvision)."

env: $(READY)  ## create .venv and install everything (the other commands do this first)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "This kit needs Python 3.11 or later; $(PYTHON) is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12")'
	@echo "[1/3] environment: $(VENV)"
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@echo "[2/3] torch and torchvision (the largest download, a few minutes when it is the first)"
	@$(PIP) install --no-warn-script-location $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -c constraints.txt torch torchvision
	@echo "[3/3] this package and its tools, about 160 packages (a minute or two)"
	@$(PIP) install --quiet --no-warn-script-location -c constraints.txt -e ".[training,tracking,cluster,hf,download,dense,engines,notebooks,docs,test]"
	@touch $@

site: $(READY)  ## build the web site from the stored chapters (runs those that are stale)
	@$(RUN) -m tools.site

test: lint  ## lint, types and the fast tests
	@echo "[test] fast tests, in two processes"
	@$(RUN) -m pytest -n 2 --dist loadfile -m "not slow"

check: test site  ## everything: also runs every chapter and compares it, slow, browser and offline tests
	@echo "[check] every chapter, on copies in build/notebooks"
	@$(RUN) -m tools.notebooks --copies
	@echo "[check] slow tests, in two processes"
	@$(RUN) -m pytest -n 2 --dist loadfile -m slow

lint: $(READY)  ## ruff (format and lint) and mypy
	@echo "[lint] ruff format, ruff check, mypy (types; up to a minute the first time)"
	@$(RUN) -m ruff format --check --quiet .
	@$(RUN) -m ruff check --quiet .
	@$(RUN) -m mypy

lab: $(READY)  ## open the chapters in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir notebooks

notebooks: $(READY)  ## run stale chapters and store their outputs
	@$(RUN) -m tools.notebooks

student: $(READY)  ## write notebooks/student/: the chapters without their solutions
	@$(RUN) -m tools.student

readme: $(READY)  ## update the generated parts of README.md
	@$(RUN) -m tools.readme

bench: $(READY)  ## measure what should be fast and compare it with its target
	@$(RUN) -m tools.bench

trained: $(READY)  ## retrain the small network that ships with the package (needs the full Fashion-MNIST)
	@$(RUN) -m tools.trained

clean:  ## remove build products, keep .venv
	rm -rf site site-folder build notebooks/student .pytest_cache .mypy_cache .ruff_cache .hypothesis
