# `make quickstart` and `make test` work on a machine with only Python 3.11+ and make.
# The first Python that runs and is new enough; set PYTHON=/path/to/python to choose another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: quickstart test slow lint report docs notebooks clean

quickstart: $(INSTALLED)
	$(BIN)/scaling quickstart

test: $(INSTALLED)
	$(BIN)/pytest -n 2 --dist loadfile

slow: $(INSTALLED)
	$(BIN)/pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Every figure and page as PNG, in a real chromium, at desktop and phone widths, to look at: build/report/.
report: $(INSTALLED)
	$(BIN)/python benchmarks/report.py build/report

# The guides, the notebooks and the reference as pages, docs/_build/; a warning is an error.
docs: $(INSTALLED)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

# Run the notebooks again and keep what they show. The published tables come from SCALING_DATA, or are fetched.
notebooks: $(INSTALLED)
	cd notebooks && ../$(BIN)/python -c 'import sys, nbformat as f; from nbclient import NotebookClient as Client; \
		[f.write(Client(f.read(path, 4), record_timing=False).execute(), path) for path in sys.argv[1:]]' *.ipynb

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none was found; set PYTHON=/path/to/it." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) quickstart
