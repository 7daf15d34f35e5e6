PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BIND ?= 127.0.0.1:8080
RUNS ?= 200000
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
SHELL := /bin/bash
SIDE_BY_SIDE := -n auto --dist loadgroup   # tests/support/parallel.py

.PHONY: help demo demo-domain check format packages test quick fuzz photos bench mixed-load soak-cal fuzz-http
.PHONY: test-two-workers long lock clean

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.run: deploy/requirements.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes -r deploy/requirements.txt
	@$(PIP) install --no-deps -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run tests/requirements.txt
	@$(PIP) install --require-hashes -r tests/requirements.txt
	@touch $@

demo: $(VENV)/.run  ## the whole gateway with a demonstration document server: make demo BIND=127.0.0.1:8080
	@exec $(BIN)/calgate demo --bind $(BIND)

demo-domain: packages  ## the same in front of a real Windows domain on this machine (root, Debian)
	@PYTHONPATH=tests exec $(BIN)/python tests/active_directory/demo.py

check: $(VENV)/.test  ## format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(VENV)/.test  ## rewrite the code as `check` wants it
	@$(BIN)/ruff check --fix -q . ; $(BIN)/ruff format -q .

packages: $(VENV)/.test  ## what the tests need beyond Python packages, where it may be installed
	@tests/packages $(BIN)/python

test: packages  ## every test that is fit for CI, several at once
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE)

quick: $(VENV)/.test  ## the inner loop, in seconds: the unit tests of every package that start no server (-m "not server")
	@$(BIN)/python -m pytest -q -m "not server and not long" tests/calgate tests/calgate_*

fuzz: $(VENV)/.test  ## hostile bytes, RUNS of them at each reader of tokens (make fuzz RUNS=250000)
	@$(PIP) install --require-hashes -r tests/fuzz/requirements.txt
	@for target in spnego ntlm pac ticket explain authorization; do \
	  echo "$$target: $(RUNS) inputs"; \
	  $(BIN)/python tests/fuzz/tokens.py $$target -runs=$(RUNS) 2>&1 | tee .fuzz.log | grep -E 'DONE|ERROR|Exception'; \
	  grep -q DONE .fuzz.log || { cat .fuzz.log; exit 1; }; done; rm -f .fuzz.log
	@$(BIN)/python tests/fuzz/tokens.py pac --plant -runs=$(RUNS) >.fuzz.log 2>&1; \
	  grep -qE 'unpack(ing)? requires a buffer' .fuzz.log || { cat .fuzz.log; exit 1; }; rm -f .fuzz.log; echo 'the planted struct.error is found'

photos: packages  ## every page of the gateway, photographed into .photos/ at a desk and on a phone, light and dark
	@PYTHONPATH=tests $(BIN)/python tests/support/screenshots.py .photos

bench: $(VENV)/.test  ## every benchmark, or one: make bench NAME=data_plane; with AGAINST=/another/checkout compares the two
	@tests/packages $(BIN)/python bench
	@cd tests && CALGATE_BENCH_ROUNDS=$(ROUNDS) CALGATE_BENCH_SECONDS=$(SECONDS) CALGATE_BENCH_AGAINST=$(AGAINST) \
	  ../$(BIN)/python -m bench $(NAME)

mixed-load: packages  ## everything at once for MINUTES, with a flat line of memory: make mixed-load MINUTES=15
	@cd tests && ../$(BIN)/python -m bench.mixed_load $(MINUTES)

soak-cal: $(VENV)/.test  ## the CAL rules and the store through 3,000,000 random steps (an hour): make soak-cal STEPS=…
	@CALGATE_STEPS=$(or $(STEPS),3000000) $(BIN)/python -m pytest -q -s tests/calgate_cal/test_rules.py -k agrees

fuzz-http: packages  ## 200,000 requests and 200,000 replies by grammar, side by side: make fuzz-http MESSAGES=…
	@export CALGATE_FUZZ_MESSAGES=$(or $(MESSAGES),200000); fuzz='$(BIN)/python -m pytest -q -s tests/end_to_end/test_fuzz.py'; \
	$$fuzz -k one_request & first=$$!; $$fuzz -k response_never; second=$$?; wait $$first && [ $$second = 0 ]

test-two-workers: packages  ## the tests through the real door once more, with two workers each
	@CALGATE_TEST_WORKERS=2 $(BIN)/python -m pytest $(SIDE_BY_SIDE) tests/end_to_end

long: packages  ## what takes longer than CI has: reloads for a minute under load, …
	@$(BIN)/python -m pytest -m long

lock:  ## make the lock files anew from pyproject.toml (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' pyproject.toml -o deploy/requirements.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' pyproject.toml --extra kerberos -o deploy/requirements-kerberos.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' pyproject.toml --extra tracing -c deploy/requirements-kerberos.txt -o deploy/requirements-tracing.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' pyproject.toml --extra tracing --group test --group check -c deploy/requirements-tracing.txt -o tests/requirements.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' --group domain -c deploy/requirements-kerberos.txt -c tests/requirements.txt -o tests/active_directory/requirements.txt
	echo 'atheris==3.0.0' | uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' - -o tests/fuzz/requirements.txt

clean:  ## remove what the targets above made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
