# Every target makes .venv itself when it is missing. Pass options to the tour with ARGS="--bs 1024".
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
ARGS ?=
WORKERS ?= -n 2 --dist loadfile
NUMERIC := retrieval/test_routes retrieval/test_index evaluate/test_ranking models/test_rank_ensemble learner/test_ensembles \
           retrieval/test_recommend learner/test_saved train/test_resume

.PHONY: demo test numeric lint bench peers nbs docs dist smoke clean

demo: .venv/core
	$(BIN)/collab demo --out demo $(ARGS)

# Workers that compute side by side get one thread each.
test numeric: export OMP_NUM_THREADS ?= 1

test: lint
	$(BIN)/python -m pytest $(WORKERS) --durations=10

# The files whose tests depend on the last bits of sums, on the plainest kernels that torch has.
numeric: .venv/dev
	ATEN_CPU_CAPABILITY=default $(BIN)/python -m pytest $(WORKERS) $(NUMERIC:%=tests/%.py)

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: .venv/dev
	set -e; for script in benchmarks/*.py; do $(BIN)/python $$script; done

# The other libraries that benchmarks/peers measures, in an environment of their own: they want versions of their own.
peers: .peers/done

nbs: .venv/dev
	$(BIN)/python nbs/run.py

docs: .venv/dev
	$(BIN)/pdoc --docformat markdown --output-directory build/docs collab

# A wheel, made from the source archive beside it.
dist: .venv/dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

# The wheel alone, installed as it would be from an index, works away from this folder.
smoke: dist
	rm -rf .smoke
	$(PYTHON) -m venv .smoke
	.smoke/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt dist/*.whl
	cd .smoke && bin/python ../tests/smoke.py ../dist

clean:
	rm -rf .venv .peers .smoke build dist demo *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/core: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/dev: .venv/core
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev,charts,notebooks]"
	touch $@

.peers/done: benchmarks/peers/requirements.txt
	test -x .peers/bin/python || $(PYTHON) -m venv .peers
	.peers/bin/python -m pip --disable-pip-version-check install --quiet --constraint $< torch
	.peers/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --requirement $<
	touch $@
