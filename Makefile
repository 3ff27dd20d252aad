# Two commands do everything from a fresh clone: `make book` and `make test`.
# They need Python 3.11 or newer, make and git; the rest is installed into .venv from the hashed lock.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := book

PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8000

# Several checkouts can read one data folder beside them; without it the loader uses its cache or downloads.
export COMPANION_DATA ?= $(wildcard $(CURDIR)/../shared/data)

# A kernel writes a history and a profile; they stay in the checkout, and the reader's own folder stays as it is.
export IPYTHONDIR := $(CURDIR)/_build/ipython
$(shell mkdir -p "$(IPYTHONDIR)")

# Each test process would compile the package and the tests again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: book pdf test execute sync check serve lock lint unit matrix fake-gpu newest mutants notebooks site browser structure clean

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	awk '/^[^ ]/ {on = /^uv==/} on' requirements.lock > .venv/installer.txt  # the installer too comes by its hash
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/installer.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

lock:  ## resolve the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--upgrade --extra book --extra test pyproject.toml --output-file requirements.lock

BOOK := $(BIN)/jupyter-book build . --warningiserror --keep-going --nitpick -q
PLAIN := TQDM_DISABLE=1 COMPANION_SCALE=small PYTHONHASHSEED=0
# Two processes of one thread each are faster than one of two: most tensors here are small.
THREADS ?= 1
PYTEST := OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest -q -n 2

book: .venv/ready  ## the book in _build/html, from the stored outputs; warnings are errors
	rm -rf _build/html _build/.doctrees
	$(BOOK)

serve: .venv/ready  ## the built book at http://localhost:8000, or at another PORT
	test -f _build/html/index.html || { echo "There is no built book yet; run make book first."; exit 1; }
	$(BIN)/python -c 'import socket; socket.create_server(("127.0.0.1", $(PORT)))' 2> /dev/null \
		|| { echo "Port $(PORT) cannot be opened, another program may use it; choose one: make serve PORT=8001"; exit 1; }
	$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

pdf: book  ## the book as one PDF, _build/book.pdf; it needs Chromium and some minutes
	$(BIN)/python -m bookkit.site.pdf _build/html _build/book.pdf

execute: .venv/ready  ## run every chapter, or those named: make execute CHAPTER=01_autoencoders
	$(BIN)/python -m bookkit.authoring.notebooks run $(CHAPTER)

sync: .venv/ready  ## new text into the notebooks, outputs kept
	$(BIN)/python -m bookkit.authoring.notebooks sync $(CHAPTER)

check: .venv/ready  ## do source, notebook and outputs belong together?
	$(BIN)/python -m bookkit.authoring.notebooks check $(CHAPTER)

# Two lanes, for a browser waits a part of its time: the book and its pages, and all else. What each says comes at its end.
GO_ON := $(findstring k,$(firstword -$(MAKEFLAGS)))
LANES := --jobs=2 IN_TURN=1 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
test: .venv/ready  ## everything; the first failure ends it (make -k test goes on, one after the other)
	$(MAKE) --no-print-directory $(if $(GO_ON),,$(LANES)) site lint unit notebooks browser

ifdef IN_TURN
browser: site
unit: lint
check: unit
endif

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

unit: .venv/ready
	$(PYTEST) tests --ignore=tests/browser --ignore=tests/test_built_site.py $(if $(SHUFFLE),--shuffle $(SHUFFLE))

# What another machine does otherwise: its vector units, its threads, a library that rounds alike on all; and any order.
MATRIX := "THREADS=1 ATEN_CPU_CAPABILITY=default SHUFFLE=1" "THREADS=2 ATEN_CPU_CAPABILITY=avx2 SHUFFLE=2" \
	"THREADS=4 ATEN_CPU_CAPABILITY=avx512 SHUFFLE=3" "THREADS=2 MKL_CBWR=COMPATIBLE DNNL_MAX_CPU_ISA=SSE41 SHUFFLE=4"

matrix: .venv/ready  ## the unit tests under each of these; the failures of all are shown
	failed=0; for cell in $(MATRIX); do echo "== $$cell"; env $$cell $(MAKE) unit || failed=1; done; exit $$failed

fake-gpu: .venv/ready  ## the chapters on a pretended GPU, which refuses what CUDA refuses
	$(PLAIN) OMP_NUM_THREADS=2 $(BIN)/python -m bookkit.quality.chapters_on_gpu $(CHAPTER)

# jupyter-book 1 holds Sphinx, MyST and the theme back. It writes down its settings, and the newest of all build with those.
NEWEST := _build/newest
newest: .venv/ready  ## the book on the newest Sphinx, MyST and theme, warnings as errors; its pages are tested
	rm -rf $(NEWEST)
	$(BIN)/uv venv --quiet --python $(BIN)/python $(NEWEST)/venv
	echo "import site; site.addsitedir('$$(echo $(CURDIR)/.venv/lib/python*/site-packages)')" \
		> $$(echo $(NEWEST)/venv/lib/python*/site-packages)/locked.pth  # all else as it is locked
	$(BIN)/uv pip install --quiet --python $(NEWEST)/venv brotli myst-nb sphinx sphinx-book-theme sphinx-comments sphinx-copybutton \
		sphinx-design sphinx-exercise sphinx-external-toc sphinx-proof sphinx-togglebutton sphinxcontrib-bibtex
	$(BIN)/uv pip list --python $(NEWEST)/venv | grep -E '^(sphinx|myst|pydata|docutils)'  # what it was built with
	$(BIN)/jupyter-book config sphinx .
	trap "rm conf.py" EXIT; $(NEWEST)/venv/bin/python -m sphinx --nitpicky --fail-on-warning --keep-going --quiet . $(NEWEST)/html
	$(MAKE) --no-print-directory browser SITE=$(NEWEST)/html

mutants: .venv/ready  ## do the tests notice a change of one thing in a science module? make mutants MODULE=elbo
	$(PLAIN) OMP_NUM_THREADS=1 $(BIN)/python -m bookkit.quality.mutants $(MODULE)

# The longest first, so that none is left alone with one process at the end.
LONGEST_FIRST := import glob, json, pathlib; seconds = json.loads(pathlib.Path("book/data/seconds.json").read_text()); \
	print(*sorted(glob.glob("notebooks/*.ipynb"), key=lambda each: -seconds.get(pathlib.Path(each).stem, 0)))
notebooks: check  ## compare the stored outputs with a new run, of one CHAPTER or of all
	$(PLAIN) $(PYTEST) --dist loadfile --no-loadscope-reorder --nbval-lax --nbval-current-env --nbval-cell-timeout 900 \
		--nbval-sanitize-with bookkit/quality/nbval.cfg -p bookkit.authoring.kernels -p no:cacheprovider -o timeout=0 $(if $(CHAPTER),notebooks/$(CHAPTER).ipynb,$$($(BIN)/python -c '$(LONGEST_FIRST)'))

site: .venv/ready  ## the book in a folder of its own
	rm -rf _build/test
	said=$$($(BOOK) --path-output _build/test 2>&1) || { echo "$$said"; exit 1; }

SITE := _build/test/_build/html
browser: .venv/ready  ## look at every page of that book, also in a browser
	COMPANION_SITE=$(CURDIR)/$(SITE) $(PYTEST) --dist loadgroup --no-loadscope-reorder \
		tests/test_built_site.py tests/browser

structure: site  ## build the book and look at it
	$(MAKE) --no-print-directory browser

clean:
	rm -rf _build .mypy_cache .ruff_cache .pytest_cache
