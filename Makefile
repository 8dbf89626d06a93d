# One verb per chore. Every verb does its own set-up: .venv is made and filled on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One thread per process: the tests run in two processes, and results must not depend on threads.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

# Where trained baselines go; they stay outside git.
BASELINES ?= baselines

# Independent implementations. imagecorruptions asks for packages that it does not use and for an
# old setuptools; nothing else here does.
define PEERS
$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,parity]'
$(BIN)/pip install --quiet --disable-pip-version-check --no-deps imagecorruptions==1.1.2 'setuptools<81'
endef

.PHONY: demo demo-detection vgg-baseline cifar10-folder test test-slow test-long parity check format bench coverage clean help

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY) ## train, compress and prove a small network; prints the path of the report
	$(BIN)/shrinkproof demo demo-run

demo-detection: $(READY) ## the same with a detector
	$(BIN)/shrinkproof demo demo-detection-run --task detection

vgg-baseline: cifar10-folder $(READY) ## train VGG-16-BN on the CIFAR-10 in CIFAR10=DIR; run it again to go on
	PATH="$(CURDIR)/$(BIN):$$PATH" sh studies/baselines.sh vgg16_bn "$(CIFAR10)" "$(BASELINES)"
	$(BIN)/shrinkproof run studies/vgg16-baseline.yaml --out "$(BASELINES)/vgg16_bn-measured" \
	  --root cifar10="$(CIFAR10)" --root weights="$(BASELINES)"

cifar10-folder:
	@test -d "$(CIFAR10)" || { echo "CIFAR10: must be a folder with CIFAR-10, got '$(CIFAR10)';" \
	  "write make vgg-baseline CIFAR10=DIR" >&2; exit 2; }

test: $(READY) ## all tests but the slow ones, at most 5 minutes
	$(ONE_THREAD) $(BIN)/pytest -n 2 --dist worksteal -m 'not slow and not parity'

test-slow: $(READY) ## kills, coverage of intervals, real networks
	$(ONE_THREAD) $(BIN)/pytest -n 2 --dist worksteal -m 'slow and not long'

test-long: $(READY) ## large networks, simulations and the published tables of coverage; an hour or more
	$(ONE_THREAD) $(BIN)/pytest -n 2 --dist worksteal -m long

parity: $(READY) ## comparisons with heavy independent packages, which it installs
	$(PEERS)
	$(ONE_THREAD) $(BIN)/pytest -m parity

check: $(READY) ## lint, format, types, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## repair what ruff can repair
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(READY) ## measure speed against the named peers, in one run
	$(PEERS)
	for name in startup metrics detection evidence summary saliency certificate passes predictions reading inference driver cluster_limits estimate study_time ray_scaling report corruptions corrupted_set \
	  threshold channels hrank clustering quantization packed latency; do \
	  $(ONE_THREAD) $(BIN)/python benchmarks/$$name.py || exit 1; done

coverage: $(READY) ## branches covered by the fast tests
	$(ONE_THREAD) $(BIN)/pytest -n 2 --dist worksteal -m 'not slow and not parity' --cov --cov-report=term-missing

clean: ## remove what the other verbs made
	rm -rf $(VENV) demo-run demo-detection-run build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
