# The project's commands. Needs Python 3.10 to 3.13 and make; everything else goes into .venv.
#
#   make demo                 make a drive, label it with the real node, write build/demo/
#   make demo BAG=path        the same with your own rosbag2 folder or .mcap file
#   make test                 the whole test suite
#   make help                 all commands

PYTHON ?= python3
VENV ?= .venv
OUT ?= build/demo
BAG ?=
# More options for `ov-seg demo`, `python -m training student` and pytest.
ARGS ?=
# Exact versions, installed before the rest: where pip finds a CPU wheel of torch (an index or
# a --find-links folder), that one is taken instead of the much larger default with CUDA.
TORCH ?= torch==2.13.0 torchvision==0.28.0

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test bench check format student clean

help: ## Show this list
	@echo "make COMMAND [PYTHON=python3] [VENV=.venv]"
	@sed -n 's/^\([a-z]*\):.*## /\1#/p' $(MAKEFILE_LIST) | awk -F'#' '{ printf "  %-10s %s\n", $$1, $$2 }'

demo: $(VENV)/.installed-demo ## Label a synthetic drive, or BAG=path, with the real node; results in OUT=build/demo
	$(BIN)/ov-seg demo $(if $(BAG),"$(BAG)") --out "$(OUT)" $(ARGS)

test: $(VENV)/.installed-test ## Run the whole test suite (ARGS="-k node" runs a part)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup $(ARGS)

bench: $(VENV)/.installed-test ## Measure speed and memory against other libraries, the machine's limit and the goals (ARGS=--quick)
	$(BIN)/python benchmarks/suite.py $(ARGS)

check: $(VENV)/.installed-test ## Formatting, lint, types and tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test

format: $(VENV)/.installed-test ## Format the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

student: $(VENV)/.installed-test ## Distil, export and evaluate the shipped student (about an hour on 2 cores)
	$(BIN)/python -m training student $(ARGS)

clean: ## Remove build results and the virtual environment
	rm -rf build install log dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis "$(VENV)"

# A stamp is touched only after its step succeeded; a second `make` finds it and installs nothing.
$(VENV)/.created:
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "make: no $(PYTHON) here: install Python 3.10 to 3.13, or name yours: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "make: $$("$(PYTHON)" --version 2>&1) is not supported: use Python 3.10 to 3.13, as in make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: $(PYTHON) has no venv or no pip of its own: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }
	"$(PYTHON)" -m venv "$(VENV)"
	@touch $@

$(VENV)/.installed-demo: setup.py pyproject.toml | $(VENV)/.created
	@echo "Installing what the demo needs into $(VENV) ..."
	$(PIP) "pip>=23.1"
	$(PIP) --editable ".[ros,viz,synthetic]"
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed-demo
	@echo "Installing what training and tests need into $(VENV) ..."
	$(PIP) $(TORCH)
	$(PIP) --editable ".[ros,viz,teachers,test]"
	@touch $@
