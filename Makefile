# Two commands set everything up on a machine with Python 3.11 and make:
#   make demo   restore the shipped portrait; pictures and figures in demo/
#   make test   linters, types and tests; a selection of them with the oldest versions of what it needs
#   make docs   the pages of docs/ with an executed gallery, in docs/_build/html; minutes of one core
# And on a machine with a CUDA device, with or without a network (docs/scaling.md):
#   make test-gpu
PYTHON ?= python3.11
GPU_PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
# What of the engine leans on torch and Lightning.
SELECTION := tests/inversion tests/io tests/callbacks tests/test_inversion.py tests/test_promises.py tests/test_objective.py \
	tests/test_measuring.py tests/operators/test_linear.py
GPU := .venv-gpu

.PHONY: demo docs test test-newest test-oldest test-gpu wheels clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	rm -rf demo
	$(BIN)/ilo-pl demo output=demo

test: test-newest test-oldest

# Two processes of one thread each: most tests are small, and with two threads small tensors wait for each other.
test-newest: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

# Old versions warn of newer ones beside them, so warnings are no errors there.
test-oldest: $(OLDEST)/installed
	OMP_NUM_THREADS=1 $(OLDEST)/bin/pytest -n 2 --dist worksteal -W default -p no:cacheprovider $(SELECTION)

# Takes the Python at hand with what it has, torch above all; wheels/ may bring what it lacks.
test-gpu:
	test -d $(GPU) || $(GPU_PYTHON) -m venv --system-site-packages $(GPU)
	test ! -d wheels || $(GPU)/bin/pip install --quiet --no-index --no-deps wheels/*.whl
	PYTHONPATH=. $(GPU)/bin/python -m pytest -m gpu tests/gpu

# On a machine with a network, for one without: all but torch, Lightning and what they bring.
wheels: $(VENV)/bin/python
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --dest wheels lpips omegaconf hydra-core \
		"antlr4-python3-runtime==4.9.*" pydantic pydantic-core annotated-types typing-inspection safetensors platformdirs pooch \
		rich markdown-it-py mdurl pygments click pyyaml pytest iniconfig pluggy hypothesis sortedcontainers requests
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir wheels wheels/*.tar.gz
	rm -f wheels/*.tar.gz

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The demo compares with methods that need no network.
$(VENV)/installed: Makefile pyproject.toml setup.cfg | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[baselines]"
	touch $@

$(VENV)/installed-dev: Makefile pyproject.toml setup.cfg | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@ $(VENV)/installed

$(VENV)/installed-docs: Makefile pyproject.toml setup.cfg | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[docs]"
	touch $@

$(OLDEST)/installed: tests/oldest.txt pyproject.toml setup.cfg
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/pip install --quiet --disable-pip-version-check -r tests/oldest.txt "pytest>=8" "pytest-xdist>=3.5" "hypothesis>=6" -e .
	touch $@

clean:
	rm -rf $(VENV) $(OLDEST) $(GPU) wheels demo docs/_build docs/auto_gallery docs/generated build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
