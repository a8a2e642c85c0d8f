# Two commands matter: `make quickstart` and `make test`. Both set up everything from a bare Python 3.11 or later.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= quickstart
PIP_OPTIONS := --quiet --disable-pip-version-check
export GEOVLM_PROGRESS ?= 1

.PHONY: quickstart test lint types unit guard docs benchmark mistral-versions package-check constraints clean

quickstart: $(VENV)/.quickstart
	$(BIN)/python examples/quickstart.py --out "$(OUT)" \
		$(if $(DATA),--data "$(DATA)") $(if $(ENCODER),--encoder "$(ENCODER)") $(if $(CAPTIONER),--captioner "$(CAPTIONER)")

test: lint types unit guard docs

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

unit: export HF_HUB_OFFLINE = 1
unit: export GEOVLM_PROGRESS = 0
unit: $(VENV)/.test
	$(BIN)/pytest

# Nothing has become much slower: processor time against plain code in the same process, so that load does not matter.
guard: $(VENV)/.test
	$(BIN)/python benchmarks/guard.py

# The site by both builders, then what can be told of the pages: links, texts of pictures, a browser if there is one.
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/.test
	$(BIN)/mkdocs build --strict --quiet --site-dir build/mkdocs
	$(BIN)/zensical build --strict --config-file mkdocs.yml
	$(BIN)/pytest --quiet tests/docs/check_site.py

# The client on all versions of mistralai that it takes, and token counts against mistral-common; in bare environments.
mistral-versions:
	for version in 1.9.11 2.10.1 3.7.0; do \
		$(PYTHON) -m venv $(VENV)-mistral-$$version && \
		$(VENV)-mistral-$$version/bin/python -m pip install $(PIP_OPTIONS) --editable . "mistralai==$$version" \
			"mistral-common[opencv]" hypothesis jsonschema pytest pytest-timeout && \
		$(VENV)-mistral-$$version/bin/python -m pytest tests/pixtral tests/testing/test_mistral_api*.py || exit 1; \
	done

# The wheel with each extra, in a bare environment each; half an hour.
package-check: $(VENV)/.test
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python tests/packaging/check.py dist/*.whl

# `make benchmark ONLY="encode search"` runs chosen ones; `python -m benchmarks --list` tells which there are.
benchmark: $(VENV)/.benchmark
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(DATA),--data "$(DATA)")

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "geovlm needs Python 3.11 or later; say which: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_OPTIONS) --constraint constraints.txt --upgrade pip

$(VENV)/.quickstart: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing (a few minutes, a few GB: torch and its companions) …"
	$(BIN)/python -m pip install $(PIP_OPTIONS) --constraint constraints.txt --editable '.[train,transformers]'
	@touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing (a few minutes, a few GB: torch and its companions) …"
	$(BIN)/python -m pip install $(PIP_OPTIONS) --constraint constraints.txt --group dev --editable '.[all]'
	@touch $@ $(VENV)/.quickstart

$(VENV)/.benchmark: $(VENV)/.test
	$(BIN)/python -m pip install $(PIP_OPTIONS) --constraint constraints.txt --group benchmarks
	@touch $@

constraints: $(VENV)/.test
	$(BIN)/python -m pip freeze --all --exclude-editable | grep -v ' @ ' > constraints.txt

clean:
	rm -rf $(VENV) $(VENV)-mistral-* $(OUT) site dist build
