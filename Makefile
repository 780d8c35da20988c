# Everything here sets itself up: only Python (3.11 or newer) and make are needed.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test faults faults-long mutations check bench build clean

help: ## Show this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## Run the whole story against a provider on this machine
	$(BIN)/python -m ingestify demo --force demo

test: $(READY) ## Run the tests
	$(BIN)/python -m pytest -q -n auto --ignore=tests/faults

faults: $(READY) ## Harm it in every way we know, and see that nothing is lost
	$(BIN)/python -m pytest -q tests/faults

faults-long: $(READY) ## The same with many more cases; for a machine with time to spare
	INGESTIFY_FAULTS=long $(BIN)/python -m pytest -q -o faulthandler_timeout=3000 tests/faults

mutations: $(READY) ## Break the engine on purpose, and see that some test notices
	@$(BIN)/python tests/faults/mutations.py

check: $(READY) ## Lint, check types, check the architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_public_api.py

bench: $(READY) ## Measure: our run against others, and against the goals; an hour
	$(BIN)/python -m benchmarks

build: $(READY) ## Build the wheel and try it in an environment of its own
	rm -rf dist build/wheel
	$(BIN)/python -m build --quiet --outdir dist .
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip install --quiet "$$(ls dist/*.whl)[kloppy]"
	build/wheel/bin/python tests/try_wheel.py

clean: ## Remove what was built here
	rm -rf $(VENV) build dist demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Made anew when a dependency changes; pip is silent unless something goes wrong.
$(READY): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV)"
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@
