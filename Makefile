# make demo: everything, end to end.  make test: the whole test suite.  Both set themselves up.
PYTHON ?= $(shell command -v python3.12 || echo $$HOME/.pyenv/versions/3.12*/bin/python3.12)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.costep-ready

.PHONY: demo test setup lint clean
demo: setup
	@$(BIN)/costep demo

test: setup
	@$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt scripts/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash scripts/setup.sh && touch $(STAMP)

clean:
	rm -rf $(VENV) outputs
