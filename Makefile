# `make run` is all that a fresh machine needs: Python 3.11 or newer and pip, on Linux or macOS.
PYTHON ?= python3
PIPELINE ?= quickstart
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help run test check up down vllm clean style types tests

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

run: $(VENV)/.installed ## run pipeline quickstart end to end; others with PIPELINE=gsm8k, options with ARGS="--seed 1"
	@$(BIN)/journeyman run $(PIPELINE) $(ARGS)

test: $(VENV)/.installed-dev ## run the tests (all but those that need vLLM)
	@$(MAKE) --no-print-directory tests

check: $(VENV)/.installed-dev ## style, types and tests
	@$(MAKE) --no-print-directory style types tests

up: $(VENV)/.installed ## start Prefect, MLflow, Ray and a worker; options with ARGS="--prefect-port 4300"
	@$(BIN)/journeyman up $(ARGS)

down: ## end what `make up` or `make run` started
	@if [ -x $(BIN)/journeyman ]; then $(BIN)/journeyman down; else echo "nothing is installed, so nothing is up"; fi

vllm: $(VENV)/.installed-dev ## make the vLLM environment (.venv-vllm) and run its tests
	infra/vllm/install.sh
	$(BIN)/pytest -m vllm

clean: down ## remove the environment and caches; runs and artifacts (.journeyman) stay
	rm -rf $(VENV) .venv-vllm build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The parts of `check`, with the environment as it is.
style:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell

types:
	$(BIN)/pyright

tests:
	$(BIN)/pytest tests/unit -n 2
	$(BIN)/pytest tests/e2e tests/integration -m "not vllm" -n 2 --dist loadfile --no-loadscope-reorder

# Debian splits ensurepip off; pip can then put itself into the environment from outside.
define environment
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
  echo 'Python 3.11 or newer is needed, and "$(PYTHON)" is not. Name one: make $(MAKECMDGOALS) PYTHON=python3.12' >&2; \
  exit 2; \
}; \
echo "installing into $(VENV) (some minutes the first time) ..."; \
$(PYTHON) -m venv $(VENV) >/dev/null || { \
  $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; \
}
endef

# Stamps are touched last: an installation that was cut short is done again.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(environment)
	@$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	@$(environment)
	@$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $(VENV)/.installed $@
