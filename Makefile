# Every target makes .venv itself when it is missing. Pass options to the tour, or to the
# benchmarks, with ARGS="--bs 1024".
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
ARGS ?=
WORKERS ?= -n 2 --dist loadfile --no-loadscope-reorder
NUMERIC := retrieval/test_routes retrieval/test_index evaluate/test_ranking models/test_rank_ensemble learner/test_ensembles \
           retrieval/test_recommend learner/test_saved train/test_resume

.PHONY: demo test numeric kernels lint bench results peers nbs docs dist smoke clean

demo: .venv/core
	$(BIN)/collab demo --out demo $(ARGS)

# Workers that compute side by side get one thread each, and the processes that tests start read what others compiled.
test numeric: export OMP_NUM_THREADS ?= 1
test numeric: export PYTHONDONTWRITEBYTECODE =

test: .venv/dev
	$(MAKE) --jobs=2 lint kernels
	$(BIN)/python -m pytest $(WORKERS) --durations=10

kernels: .venv/dev
	$(BIN)/python tests/kernels.py

# The files whose tests depend on the last bits of sums, on the plainest kernels that torch has.
numeric: .venv/dev
	ATEN_CPU_CAPABILITY=default $(BIN)/python -m pytest $(WORKERS) $(NUMERIC:%=tests/%.py)

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Time, memory and error beside other libraries: an hour, or minutes with ARGS=--quick. Figures go to docs/benchmarks.md.
bench: .venv/dev .peers/done
	$(BIN)/python -m benchmarks.suite $(ARGS)

# The tables of docs/results.md, and the memory of interpretation: errors on several folds and seeds, which take hours.
results: .venv/dev .peers/done
	set -e; for script in benchmarks/*.py; do $(BIN)/python $$script; done

# The other libraries that benchmarks/peers measures, in an environment of their own: they want versions of their own.
# libmf is built twice: as pip builds it, and from its source with AVX, as LIBMF's own Makefile offers to; a machine that
# cannot do the latter does without.
peers: .peers/done

nbs: .venv/dev
	$(BIN)/python nbs/run.py

# The site, into build/site: open index.html. Warnings are errors.
docs: .venv/dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

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
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev,charts,docs,notebooks]"
	test "$$(uname)" != Linux || $(PIP) install --quiet --constraint constraints.txt --no-deps torchrec
	touch $@

.peers/done: benchmarks/peers/requirements.txt
	test -x .peers/bin/python || $(PYTHON) -m venv .peers
	.peers/bin/python -m pip --disable-pip-version-check install --quiet --constraint $< torch
	.peers/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --requirement $<
	.peers/bin/python -m pip --disable-pip-version-check download --quiet --no-deps --no-binary libmf --constraint $< \
		--dest .peers/source libmf
	tar -xzf .peers/source/libmf-*.tar.gz -C .peers/source
	-$(CXX) -std=c++11 -O3 -march=native -DUSEAVX -DNDEBUG -fPIC -shared -pthread -o .peers/libmf_vector.so \
		.peers/source/libmf-*/src_cpp/*.cpp
	touch $@
