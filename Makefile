# `make demo` runs the main job, `make test` all tests, `make test-fast` those that are quick,
# `make lint` ruff and mypy. Each sets up .venv first, once: it is done again only when what it is
# made from changes.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --no-deps
DEMO := demo

.PHONY: demo test test-fast lint format nano clean

demo: $(INSTALLED)
	@rm -rf $(DEMO)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh docs/demo.sh $(DEMO)

test: $(INSTALLED)
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 10

test-fast: $(INSTALLED)
	$(BIN)/pytest -q --numprocesses 2 --dist loadfile -m "not slow and not chaos and not vllm and not ray"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Makes checkpoints/nano anew from ../shared/data, in hours on two cores; goes on where it stopped.
nano: $(INSTALLED)
	@test -d build/examples || \
	  $(BIN)/pubmark corpus import --config jobs/configs/corpora.yaml --to build/examples
	@for run in nano-1 nano-2; do \
	  $(BIN)/pubmark finetune --config jobs/configs/$$run.yaml || exit 1; \
	done
	$(BIN)/pubmark finetune --config jobs/configs/nano.yaml

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info

# PyTorch's own index is asked only where pip does not find the CPU build by itself.
$(INSTALLED): requirements/cpu.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "pubmark's pinned packages are for Python 3.11; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up $(VENV): about 3 GB, a few minutes ..." >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) -r requirements/cpu.txt || \
	  $(PIP_INSTALL) -r requirements/cpu.txt --extra-index-url https://download.pytorch.org/whl/cpu
	@$(PIP_INSTALL) --no-build-isolation --editable .
	@touch $@
