# Everything goes through .venv, which `make install` makes from the pinned requirements; nothing else has to be prepared.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
STAMP := $(VENV)/.installed
ARGS ?=
SEEDS ?= 1000
EXAMPLES ?= 400
COMPILE := $(UV) pip compile -q pyproject.toml --extra audit --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock"
SERVERS := kafka or apiserver or redis or postgresql or haproxy or e2e

.DEFAULT_GOAL := help
.PHONY: help install lint format quick servers tools test-servers test test-kubeadm test-sim test-conversion demo schemas deploy dashboards lock clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv with everything pinned and the fleetwake command in it

$(BIN)/python:
	sh rig/venv.sh $(PYTHON) $(VENV)

$(STAMP): requirements-dev.txt pyproject.toml | $(BIN)/python
	awk -v package=uv -f rig/pick.awk requirements-dev.txt > $(VENV)/uv.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r $(VENV)/uv.txt
	$(UV) pip install -q --python $(BIN)/python --require-hashes -r requirements-dev.txt
	$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

lint: install ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## let ruff rewrite what it can
	$(BIN)/ruff check --fix-only -q .
	$(BIN)/ruff format .

quick: install ## the tests that need no servers
	$(BIN)/pytest -q -n 2 -m "not ($(SERVERS))" $(ARGS)

servers: install ## fetch and build Kafka, the API server and Redis (minutes, the first time)
	$(BIN)/python -m fleetwake.cli.dev build

tools: install ## build what tests and generators need beside the servers (helm, collector, ...); minutes, the first time
	$(BIN)/python -m fleetwake.cli.dev tools

test-servers: servers tools ## the tests on real servers, which the test session starts and stops
	@# real servers share two cores with everything else: what failed runs once more, alone and said so; failing twice is red
	$(BIN)/pytest -q -m "$(SERVERS)" $(ARGS) || { \
	  echo "== FLAKY OR BROKEN: what failed above runs once more =="; \
	  $(BIN)/python -m tests.again > $(VENV)/again.txt && $(BIN)/pytest -q @$(VENV)/again.txt; }

test: ## all of it: lint, quick tests, tests on real servers
	$(MAKE) install
	$(MAKE) lint
	$(MAKE) quick
	$(MAKE) test-servers

test-kubeadm: install tools ## kubeadm of the last line that reads v1beta3 judges our documents; a build of some minutes, the first time
	cd rig/kubeadm-v1beta3 && $$($(CURDIR)/$(BIN)/python -c 'from fleetwake.rig.progress import Progress; from fleetwake.rig.toolchain import find_go; print(find_go(Progress()))') \
	  build -trimpath -buildvcs=false -ldflags="-s -w" -o $(CURDIR)/$(VENV)/kubeadm-v1beta3 k8s.io/kubernetes/cmd/kubeadm
	FLEETWAKE_KUBEADM=$(CURDIR)/$(VENV)/kubeadm-v1beta3@v$$(sed -n 's|^.*k8s.io/kubernetes v\([0-9.]*\).*|\1|p' rig/kubeadm-v1beta3/go.mod) \
	  $(BIN)/pytest -q tests/integration/test_bootstrap_validators.py -k kubeadm $(ARGS)

test-sim: install ## simulations with SEEDS=1000 seeds
	FLEETWAKE_SIM_SEEDS=$(SEEDS) $(BIN)/pytest -q -n 2 tests/simulation

test-conversion: install ## every API version to the hub and back, EXAMPLES=400 objects for each law, kind and version
	CONVERSION_EXAMPLES=$(EXAMPLES) $(BIN)/pytest -q -n 2 tests/conversion

demo: install ## a fleet on this machine, from nothing to Available; ARGS="--once --json"
	$(BIN)/fleetwake demo $(ARGS)

schemas: install ## generate CRDs, JSON Schemas and AsyncAPI from schemas/
	$(BIN)/fleetwake schemas generate

deploy: install ## render the chart: kustomize's base and components, the page of permissions
	$(BIN)/python -m fleetwake.cli.dev manifests

dashboards: install ## generate dashboards, alert rules, kube-state-metrics configuration and docs/metrics.md
	$(BIN)/python -m deploy.observability

lock: install ## pin every dependency anew, with hashes
	$(COMPILE) --upgrade -o requirements.txt
	$(COMPILE) --upgrade --group dev -o requirements-dev.txt
	$(subst pyproject.toml --extra audit,deploy/container/sbom.in,$(COMPILE)) --upgrade -o deploy/container/sbom.txt

clean: ## stop this checkout's rig and remove what was made in the checkout; the cache stays
	if [ -x $(BIN)/python ]; then $(BIN)/python -m fleetwake.cli.dev down; fi
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
