# make setup      makes .venv and installs the tool and the training of the Mask R-CNN
# make demo       sets up, then finds a planted fault by real training; CAMPAIGN=NAME makes another one
# make test       sets up with horovod built from source, then runs all tests
# make test-core  runs the tests that need no TensorFlow, in an environment of the tool alone for each Python 3.9 to 3.13
#                 there is, under .venv-core; CORE_PYTHONS="python3.9 python3.13" names others
# make test-slurm runs a bisect on a Slurm of its own, with nodes and jobs that die; as root, with slurm-wlm and munge
# make test-ray   runs a bisect on a Ray of its own, with nodes and jobs that die, in an environment under .venv-ray
# make test-faults kills, stops and refuses everything that a campaign does, damages logs, loses power: docs/reliability.md;
#                 up to 30 minutes, or FAULTS_ARGS="--minutes 5"; FAULTS_ARGS=--help says more
# make lint       checks style and format
# make clean      removes the environments and caches; what campaigns wrote under runs/ stays
#
# PYTEST_ARGS="-m 'not slow'" runs the quick tests only. PYTHON=PATH names the interpreter for .venv (3.9 to 3.11);
# otherwise the newest that fits is found. `make clean` before changing it.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SETTINGS := setup.cfg pyproject.toml
CAMPAIGN := demo
JOBS := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)

.PHONY: setup demo test test-setup test-core test-slurm test-ray test-faults lint clean prerequisites

# Each step leaves a stamp in .venv, so that it is done again only when what it depends on has changed.
setup: $(VENV)/installed
	@echo "ready: $(BIN)/maskrcnn-bisect --help"

$(VENV)/created:
	@python=$$(PYTHON="$(PYTHON)" sh scripts/prerequisites.sh) && "$$python" -m venv --clear $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/created $(SETTINGS)
	$(PIP) install --editable '.[maskrcnn]'
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	@$(PIP) install --quiet --editable '.[test]'
	@touch $@

# Gloo alone, so that no MPI is needed. Horovod compiles against the TensorFlow of .venv, so it is built without
# isolation and past pip's cache, where a wheel for another TensorFlow may lie, and again once it no longer loads.
# CMake 4 takes the old build files of gloo only with CMAKE_POLICY_VERSION_MINIMUM.
$(VENV)/installed-horovod: $(VENV)/installed-test
	@$(BIN)/python -c 'import horovod.tensorflow' 2>/dev/null || { \
	    echo 'building horovod from source: one to three minutes'; $(PIP) uninstall --yes --quiet horovod 2>/dev/null; }
	@HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 \
	    CMAKE_POLICY_VERSION_MINIMUM=3.5 MAKEFLAGS=-j$(JOBS) \
	    $(PIP) install --quiet --no-build-isolation --use-pep517 --no-cache-dir --editable '.[horovod]'
	@touch $@

demo: setup
	$(BIN)/maskrcnn-bisect start --name $(CAMPAIGN) --flags ROI_ALIGN_MASK,CROP_AND_RESIZE_MASK,MASK_LOSS \
	    --plant ROI_ALIGN_MASK=half_pixel_train

# Asked first, for a compiler missed only after TensorFlow has been downloaded comes late.
prerequisites:
	@[ -e $(VENV)/installed-horovod ] || PYTHON="$(PYTHON)" sh scripts/prerequisites.sh horovod >/dev/null

test-setup: prerequisites $(VENV)/installed-horovod

test: test-setup
	$(BIN)/python -m pytest --expect-training $(PYTEST_ARGS)

# On the oldest Python all of them; on each of the others a part.
test-core:
	@pythons=$$(PYTHON="$(CORE_PYTHONS)" sh scripts/prerequisites.sh core) && \
	    sh scripts/test_core.sh "$$pythons" $(PYTEST_ARGS)

test-slurm: $(VENV)/installed-test
	$(BIN)/python -m pytest -m slurm tests/slurm $(PYTEST_ARGS)

# Ray has an environment of its own: it brings much, and TensorFlow has demands of its own on the same packages.
.venv-ray/installed: $(SETTINGS)
	@python=$$(PYTHON="$(PYTHON)" sh scripts/prerequisites.sh) && "$$python" -m venv --clear .venv-ray
	@.venv-ray/bin/python -m pip --disable-pip-version-check install --quiet --editable '.[test,ray]'
	@touch $@

test-ray: .venv-ray/installed
	PATH="$(CURDIR)/.venv-ray/bin:$$PATH" .venv-ray/bin/python -m pytest -m ray tests/ray $(PYTEST_ARGS)

test-faults: $(VENV)/installed-test
	PYTHONPATH=tests $(BIN)/python -m faults $(FAULTS_ARGS)

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) .venv-core .venv-ray build dist *.egg-info .pytest_cache .ruff_cache
	find bisect_cli maskrcnn tests -name __pycache__ -prune -exec rm -rf {} +
