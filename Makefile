PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BIND ?= 127.0.0.1:8080
RUNS ?= 200000
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
SHELL := /bin/bash
SIDE_BY_SIDE := -n auto --dist loadgroup   # tests/support/parallel.py

.PHONY: vendor licenses dist deb release help demo demo-domain check format messages packages test quick fuzz photos bench mixed-load soak-cal
.PHONY: fuzz-http test-two-workers long lock clean reference

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(VENV)/.run: deploy/requirements.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes -r deploy/requirements.txt
	@$(PIP) install --no-deps -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run tests/requirements.txt
	@$(PIP) install --require-hashes -r tests/requirements.txt
	@touch $@

demo: $(VENV)/.run  ## run the gateway with a demonstration document server: make demo BIND=127.0.0.1:8080
	@exec $(BIN)/calgate demo --bind $(BIND)

demo-domain: packages  ## the same with a real Windows domain on this machine (root, Debian)
	@PYTHONPATH=tests exec $(BIN)/python tests/active_directory/demo.py

check: $(VENV)/.test  ## check format, lint, types and import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

reference: $(VENV)/.run  ## write settings, manual pages and error codes again, from the code, into deploy/
	@$(BIN)/python -m calgate.config.reference_pages deploy/reference
	@$(BIN)/python -m calgate.commands.error_reference deploy/guide/errors.md
	@$(BIN)/python -c 'from pathlib import Path; from calgate.cli import main; from calgate.commands.manual_pages import write; \
	  write(Path("deploy/reference/man"), main)'

format: $(VENV)/.test  ## reformat the code
	@$(BIN)/ruff check --fix -q . ; $(BIN)/ruff format -q .

packages: $(VENV)/.test  ## install what the tests need beyond Python packages (root, Debian)
	@tests/packages $(BIN)/python
	@$(BIN)/python -m compileall -q gateway plugins  # tests start thousands of processes, which may not keep bytecode

test: packages  ## run every test but the long ones, several at once
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE)

quick: $(VENV)/.test  ## run the unit tests that start no server, in seconds: -m "not server" in tests/calgate and tests/calgate_*
	@$(BIN)/python -m pytest -q -m "not server and not long" tests/calgate tests/calgate_*

fuzz: $(VENV)/.test  ## feed RUNS hostile inputs to each reader of tokens and forms: make fuzz RUNS=250000
	@$(PIP) install --require-hashes -r tests/fuzz/requirements.txt
	@for target in spnego ntlm pac ticket explain authorization openid_token openid_provider \
    sign_in_form sealed_note; do \
	  echo "$$target: $(RUNS) inputs"; \
	  $(BIN)/python tests/fuzz/tokens.py $$target -runs=$(RUNS) 2>&1 | tee .fuzz.log | grep -E 'DONE|ERROR|Exception'; \
	  grep -q DONE .fuzz.log || { cat .fuzz.log; exit 1; }; done; rm -f .fuzz.log
	@$(BIN)/python tests/fuzz/tokens.py pac --plant -runs=$(RUNS) >.fuzz.log 2>&1; \
	  grep -qE 'unpack(ing)? requires a buffer' .fuzz.log || { cat .fuzz.log; exit 1; }; rm -f .fuzz.log; echo 'the planted struct.error is found'

messages: $(VENV)/.test  ## bring the pages' translations up to date with the texts in the code; fails where one is missing
	@PYTHONPATH=tests $(BIN)/python tests/support/translations.py

photos: packages  ## write screenshots of every page to .photos/, in desktop and phone size, light and dark
	@PYTHONPATH=tests $(BIN)/python tests/support/screenshots.py .photos
	@PYTHONPATH=tests $(BIN)/python tests/support/console_screenshots.py .photos

bench: $(VENV)/.test  ## run every benchmark, or one: make bench NAME=data_plane AGAINST=/other/checkout compares two checkouts
	@tests/packages $(BIN)/python bench
	@cd tests && CALGATE_BENCH_ROUNDS=$(ROUNDS) CALGATE_BENCH_SECONDS=$(SECONDS) CALGATE_BENCH_AGAINST=$(AGAINST) \
	  ../$(BIN)/python -m bench $(NAME)

mixed-load: packages  ## run every kind of load at once and check that memory stays flat: make mixed-load MINUTES=15
	@cd tests && ../$(BIN)/python -m bench.mixed_load $(MINUTES)

soak-cal: $(VENV)/.test  ## compare store and CAL rules through 3,000,000 random steps (an hour): make soak-cal STEPS=…
	@CALGATE_STEPS=$(or $(STEPS),3000000) $(BIN)/python -m pytest -q -s tests/calgate_cal/test_rules.py -k agrees

fuzz-http: packages  ## send 200,000 generated requests and 200,000 responses at once: make fuzz-http MESSAGES=…
	@export CALGATE_FUZZ_MESSAGES=$(or $(MESSAGES),200000); fuzz='$(BIN)/python -m pytest -q -s tests/end_to_end/test_fuzz.py'; \
	$$fuzz -k one_request & first=$$!; $$fuzz -k response_never; second=$$?; wait $$first && [ $$second = 0 ]

test-two-workers: packages  ## run tests/end_to_end again, with two workers in every gateway
	@CALGATE_TEST_WORKERS=2 $(BIN)/python -m pytest $(SIDE_BY_SIDE) tests/end_to_end

long: packages  ## run the tests that are too long for CI
	@tests/packages $(BIN)/python long
	@$(BIN)/python -m pytest -m long

RELEASE := $(VENV)/.release
DIST ?= dist
EPOCH := $(shell git log -1 --format=%ct)

$(RELEASE): tests/release/requirements.txt
	@test -x $@/bin/python || $(PYTHON) -m venv $@
	@$@/bin/python -m pip --disable-pip-version-check -q install --require-hashes -r tests/release/requirements.txt
	@touch $@

vendor: $(VENV)/.run  ## fetch the libraries of the console's pages from npm again, and compare; fails if a file differs
	@$(BIN)/python tests/release/vendor.py

licenses: $(VENV)/.run $(RELEASE)  ## check that every package which a gateway runs on is under an accepted license
	@$(BIN)/python tests/release/parts.py licenses $(RELEASE)/bin $(BIN)/python

dist: $(RELEASE)  ## build wheel and sdist into dist/, and check what an index would show of them
	@mkdir -p $(DIST)
	@SOURCE_DATE_EPOCH=$(EPOCH) $(RELEASE)/bin/python -m build -q --outdir $(DIST) .
	@$(RELEASE)/bin/twine check --strict $(DIST)/*.whl $(DIST)/*.tar.gz

deb: dist  ## build the Debian package into dist/ (root, Debian)
	@PIP='$(abspath $(RELEASE))/bin/python -m pip' deploy/package/build.sh $(DIST)/calgate-*.whl $(DIST)

release: dist deb licenses  ## build all that a release consists of, with its list of parts and SHA256SUMS, into dist/
	@$(BIN)/python tests/release/parts.py sbom $(RELEASE)/bin $(BIN)/python >$(DIST)/calgate.cdx.json
	@cd $(DIST) && sha256sum -- *.whl *.tar.gz *.deb *.json >SHA256SUMS && cat SHA256SUMS

lock:  ## write the lock files from pyproject.toml (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' pyproject.toml -o deploy/requirements.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' pyproject.toml --extra kerberos -o deploy/requirements-kerberos.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' pyproject.toml --extra tracing -c deploy/requirements-kerberos.txt -o deploy/requirements-tracing.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' pyproject.toml --extra tracing --group test --group check -c deploy/requirements-tracing.txt -o tests/requirements.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' --group domain -c deploy/requirements-kerberos.txt -c tests/requirements.txt -o tests/active_directory/requirements.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' --group release -c tests/requirements.txt -o tests/release/requirements.txt
	echo 'atheris==3.0.0' | uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' - -o tests/fuzz/requirements.txt

clean:  ## remove what the other targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
