# vidistill: `make demo` and `make test` do all the set-up on a machine with Python >= 3.11 and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
OUT    ?= runs/demo
TESTERS ?= 2
KEEP   ?= 30
ARMS   ?= dpp-official,svd,official-store,whole-set,full-data

.DEFAULT_GOAL := help
.PHONY: help demo test lint format lab doctor bench pictures goldens suite nightly rendered clean

help:  ## show what each target does
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11; run: make PYTHON=python3.11 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,dev]'
	@touch $@

demo: $(STAMP)  ## install, run the main job on the embedded clips, print the result table
	$(BIN)/vidistill run latent_vdd --preset quick --set instances=5 --set steps=60 --set arms=$(ARMS) --out $(OUT)

test: $(STAMP) lint  ## lint, types and every test (the test command that CI runs)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## format the code and strip the notebooks
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	find notebooks -name '*.ipynb' -not -path 'notebooks/rendered/*' -exec $(BIN)/nbstripout --extra-keys "metadata.papermill cell.metadata.papermill" {} +

lab: $(STAMP)  ## open JupyterLab on the start notebook
	$(BIN)/vidistill lab

doctor: $(STAMP)  ## say what is installed and what is missing
	$(BIN)/vidistill doctor

bench: $(STAMP)  ## run the benchmarks, ratios against named peers
	for b in tests/bench/bench_*.py; do echo "== $$b"; PYTHONPATH=tests/ui $(BIN)/python $$b || exit 1; done

pictures: $(STAMP)  ## take the README's pictures from the real pages in a browser
	$(BIN)/python tests/ui/pictures.py

goldens: $(STAMP)  ## show what differs from the goldens, as drafts to review
	$(BIN)/python tests/goldens/goldens.py draft

suite: $(STAMP)  ## try every claim in tier toy (an hour on two cores), keep results and tables
	$(BIN)/vidistill reproduce --all --tier toy --write

nightly: $(STAMP)  ## the same into runs/nightly, compared with the night before
	$(BIN)/vidistill nightly --keep $(KEEP)

rendered: $(STAMP)  ## execute the notebooks again for readers on the web
	$(BIN)/vidistill render

clean:  ## remove the virtual environment and the runs
	rm -rf $(VENV) runs
