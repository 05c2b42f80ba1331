PYTHON ?= python3
WORKERS ?= 2

BIN := .venv/bin
DISTRIBUTIONS := $(patsubst %/pyproject.toml,%,$(wildcard libs/pyproject.toml services/*/pyproject.toml cli/pyproject.toml))
IMAGE := proto/release.binpb

upper = $(shell echo $(1) | tr a-z A-Z)
given = $(if $($(call upper,$(1))),--$(1) "$($(call upper,$(1)))")

.DEFAULT_GOAL := help
.PHONY: help setup setup-training test lint gen pins release-image demo chaos bench-gateway bench-persist bench-models bench-drift clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

setup: .venv/.ready ## create .venv and install everything into it

.venv/.ready: requirements/setup.txt requirements/dev.txt $(DISTRIBUTIONS:%=%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit("Huracan needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/setup.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes --requirement requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(DISTRIBUTIONS:%=--editable ./%)
	@touch $@

.venv/oracle/.ready: .venv/.ready requirements/oracle.txt
	test -x .venv/oracle/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv/oracle
	$(BIN)/uv pip install --quiet --python .venv/oracle/bin/python --compile-bytecode --require-hashes --requirement requirements/oracle.txt
	@touch $@

.venv/training/.ready: .venv/.ready requirements/training.txt training/pyproject.toml
	test -x .venv/training/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv/training
	$(BIN)/uv pip install --quiet --python .venv/training/bin/python --require-hashes --requirement requirements/training.txt
	$(BIN)/uv pip install --quiet --python .venv/training/bin/python --no-deps --no-build-isolation \
		$(DISTRIBUTIONS:%=--editable ./%) --editable ./training
	@touch $@

setup-training: .venv/training/.ready ## create .venv/training, where models are trained and judged (5 GB)

test: setup setup-training .venv/oracle/.ready ## run all tests with branch coverage
	@tools/kafka fetch
	.venv/training/bin/pytest training/tests --numprocesses $(WORKERS) --cov --cov-config training/coverage.ini --cov-report term:skip-covered
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadscope --no-loadscope-reorder --cov --cov-report term:skip-covered

lint: setup setup-training ## run the static checks, contracts included
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	find ./libs ./services ./cli ./tests -path '*/tests/*' -name '*.py' | \
		xargs $(BIN)/mypy --explicit-package-bases --cache-dir .mypy_cache/tests
	.venv/training/bin/mypy --cache-dir .mypy_cache/training training/huracan_training
	.venv/training/bin/mypy --explicit-package-bases --cache-dir .mypy_cache/training training/tests
	$(BIN)/lint-imports
	$(BIN)/python tools/gen.py --check
	$(BIN)/python tools/features.py --check
	tools/buf lint proto
	@test -f $(IMAGE) || { echo "$(IMAGE) is missing: nothing to compare the contracts with; run 'make release-image'"; exit 1; }
	tools/buf breaking proto --against $(IMAGE)

gen: setup ## write the generated contracts and the page of features
	$(BIN)/python tools/gen.py
	$(BIN)/python tools/features.py

pins: setup ## write requirements/ from the pyproject.toml files (UPGRADE=1 moves the pins)
	$(BIN)/python tools/pins.py $(if $(UPGRADE),--upgrade)

release-image: ## keep the contracts of this release, for later ones to be compared with
	CI=true tools/buf build proto --exclude-source-info --output $(IMAGE)

demo: setup ## run the whole system on this machine, live (SOURCE= SECONDS= LAYOUT= RECORDING= HISTORY= NEWS= SPEED= TICKLOG=)
	$(BIN)/huracan demo $(foreach option,source seconds layout recording history news speed ticklog,$(call given,$(option))) --out out/demo

chaos: setup ## strike the whole system with seeded faults, on virtual time and on real servers (SEED= repeats one)
	@tools/kafka fetch
	$(BIN)/python -m huracan_cli.chaos $(if $(SEED),--seed $(SEED)) --out out/chaos

bench-gateway: setup ## measure the gateway, whole and part by part (RECORDING=, a Binance USD-M one)
	$(BIN)/python bench/gateway.py "$(RECORDING)"
	$(BIN)/python bench/gateway_anomalies.py
	$(BIN)/python bench/feature_engine.py "$(RECORDING)"

bench-persist: setup ## measure the log on Kafka (Java 17), and ways into and out of PostgreSQL (ROWS= that are read)
	$(BIN)/python bench/persist.py
	$(BIN)/python bench/persist_sql.py --rows $(or $(ROWS),1000000)

bench-models: setup-training ## measure the nets of this release: FP32, INT8, pruned, and both (ROUNDS=)
	.venv/training/bin/python bench/models.py $(call given,rounds)

bench-drift: setup ## measure how soon a drift is told, how often of none, and what a step costs
	$(BIN)/python bench/drift.py

clean: ## remove what make made, .venv and built tools excepted
	rm -rf out build .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
