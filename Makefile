# Everything that is done with this kit, by name. `make` alone lists the names.

PYTHON      ?= python3
VENV        ?= .venv
TORCH_INDEX ?=

BIN   := $(VENV)/bin
RUN   := $(BIN)/python
PIP   := $(RUN) -m pip --disable-pip-version-check
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help env site test lint lab notebooks student readme bench trained clean

help:  ## list these targets
	@echo "EfficientFormer, taken apart. Targets:"
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*## */\t/' | awk -F '\t' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo "Settings: PYTHON=python3.12 (3.11 or later), VENV=folder, TORCH_INDEX=address (for the torch step only)."

env: $(READY)  ## make .venv and install everything into it (others do this first)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "This kit needs Python 3.11 or later; $(PYTHON) is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12")'
	@echo "[1/3] environment: $(VENV)"
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@echo "[2/3] torch, alone (the largest download, a few minutes when it is the first)"
	@$(PIP) install --no-warn-script-location $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -c constraints.txt torch
	@echo "[3/3] this package and its tools, about 160 packages (a minute or two)"
	@$(PIP) install --quiet --no-warn-script-location -c constraints.txt -e ".[notebooks,docs,test,engines,dense]"
	@touch $@

site: $(READY)  ## run every notebook on a copy and build the web site
	@$(RUN) -m tools.site

test: lint  ## lint and types, run every notebook on a copy, all tests
	@echo "[test] notebooks, on copies in build/notebooks"
	@$(RUN) -m tools.notebooks --copies
	@echo "[test] pytest, two processes"
	@$(RUN) -m pytest -q -n 2 --dist loadfile

lint: $(READY)  ## ruff (format and lint) and mypy
	@echo "[lint] ruff format, ruff check, mypy"
	@$(RUN) -m ruff format --check .
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy

lab: $(READY)  ## open the chapters in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir notebooks

notebooks: $(READY)  ## run the notebooks whose code changed, and store their outputs
	@$(RUN) -m tools.notebooks

student: $(READY)  ## write notebooks/student/: the chapters with their solutions cut out
	@$(RUN) -m tools.student

readme: $(READY)  ## fill the parts of README.md that come from the code
	@$(RUN) -m tools.readme

bench: $(READY)  ## measure what should be quick, beside its target
	@$(RUN) -m tools.bench

trained: $(READY)  ## train the small network that ships with the package again (needs the full Fashion-MNIST)
	@$(RUN) -m tools.trained

clean:  ## remove what was built (site, build, student version), keep .venv
	rm -rf site site-folder build notebooks/student .pytest_cache .mypy_cache .ruff_cache .hypothesis
