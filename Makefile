# Everything a newcomer needs: `make demo` and `make test`. `make help` tells the rest.

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PY := $(VENV)/bin/python
# torch's small CPU build; a newer range takes the CUDA build, which is gigabytes.
TORCH := torch~=2.13.0
# torch 2.9 with torch_xla is an environment of its own. Its torch is the CUDA build, the only one of
# that version on the index, and does not import without CUDA's libraries.
XLA_VENV ?= .venv-xla
DEMO := build/demo
LAYOUT := build/layout

.PHONY: help demo test test-xla lint format slow bench clean
.DEFAULT_GOAL := help

help:  ## Show this help.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.demo  ## Build the Bernini example for the CPU, run it on a picture: a mesh and its picture.
	mkdir -p $(DEMO)
	$(VENV)/bin/partition build examples/bernini/model.py --set size=small --target cpu \
		-o $(DEMO)/bernini.bundle --overwrite
	$(PY) examples/bernini/demo.py --bundle $(DEMO)/bernini.bundle \
		--image examples/bernini/assets/chair.png --seed 7 --out $(DEMO)
	@echo "made $(DEMO)/mesh.glb and $(DEMO)/mesh.png"

test: browser lint  ## Run linters, type and layer checks, and the tests.
	$(VENV)/bin/pytest -n 2 --dist worksteal

# Said at once, and not after minutes of tests.
.PHONY: browser
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
		echo "the tests need chromium and chromedriver: apt-get install chromium chromium-driver"; exit 1; }

lint: $(VENV)/.dev $(LAYOUT)  ## Run ruff, pyright and the layer check.
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(PY) --project $(LAYOUT)
	cd $(LAYOUT) && $(abspath $(VENV))/bin/lint-imports

# What of the tests has to do with what Neuron's tracer is given, and with what becomes of it.
XLA_TESTS := tests/capture tests/passes tests/planning tests/backends tests/test_ops.py tests/test_precision.py \
	tests/test_neuron_plans.py tests/test_neuron_builds.py tests/test_neuron_requests.py

test-xla: $(XLA_VENV)/.xla  ## Run tests on torch 2.9, and those of torch_xla (an environment of 8 GB).
	$(XLA_VENV)/bin/python -m pytest -n 2 -m "not slow" $(XLA_TESTS)

format: $(VENV)/.dev  ## Format the code.
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

slow: $(VENV)/.dev  ## Run the slow tests.
	$(VENV)/bin/pytest -m slow

bench: $(VENV)/.dev  ## Run the benchmarks that take minutes, not hours.
	$(PY) benchmarks/capture_scaling.py
	$(PY) benchmarks/runtime_overhead.py
	$(PY) benchmarks/http_overhead.py
	$(PY) benchmarks/buffers.py --size base
	$(PY) benchmarks/passes_scaling.py
	$(PY) benchmarks/tail.py
	$(PY) benchmarks/hoisting.py --size base
	$(PY) benchmarks/hoisting.py --model dit
	$(PY) benchmarks/diffusers_passes.py
	$(PY) benchmarks/end_to_end.py --size base
	$(PY) benchmarks/memory.py --size base
	$(PY) benchmarks/processes.py --size base
	$(PY) benchmarks/cold_start.py --size base

clean:  ## Remove what was made, environments too.
	rm -rf build $(VENV) $(XLA_VENV) *.egg-info

# The folders backends/, passes/ and artifacts/ are parts of the package partitioner. Tools that read
# files and not the installed package want them where they belong, so they look at a copy.
.PHONY: $(LAYOUT)
$(LAYOUT):
	rm -rf $(LAYOUT)
	mkdir -p $(LAYOUT)
	cp -r partitioner $(LAYOUT)/partitioner
	cp -r backends passes artifacts $(LAYOUT)/partitioner/
	cp pyproject.toml $(LAYOUT)/

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/pip pyproject.toml
	$(VENV)/bin/pip install --quiet "$(TORCH)"
	$(VENV)/bin/pip install --quiet -e ".[build,example]"
	touch $@

$(VENV)/.dev: $(VENV)/bin/pip pyproject.toml
	$(VENV)/bin/pip install --quiet "$(TORCH)"
	$(VENV)/bin/pip install --quiet -e ".[dev]"
	touch $@

$(XLA_VENV)/.xla: pyproject.toml
	$(PYTHON) -m venv $(XLA_VENV)
	$(XLA_VENV)/bin/pip install --quiet -e ".[dev,xla]"
	touch $@
