# The whole path by make targets; bare `make` lists them. Set-up is part of every target and happens once.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
DATA ?= digits
RULE ?= f1
SWEEP ?= sweeps/ann.yaml
SEED ?= 1
SEEDS ?= 1
LANGUAGE = en
TRIALS ?=
WORKERS ?=
SET = $(notdir $(patsubst folder:%,%,$(DATA)))
RUN = $(VENV)/bin/python
trials = $(if $(TRIALS),--trials $(TRIALS)) $(if $(WORKERS),--workers $(WORKERS))
REQUIREMENTS = requirements.txt requirements-dev.txt
HASH := $(shell cat $(REQUIREMENTS) | cksum | cut -d' ' -f1)
READY = $(VENV)/.ready-$(HASH)
INSTALLED = $(VENV)/.installed-$(shell (pwd; cat pyproject.toml) | cksum | cut -d' ' -f1)# this checkout, in editable mode

.DEFAULT_GOAL := help
HOST =# of the command line alone: some shells and compilers export another HOST
PORT =

.PHONY: help setup sweep report study studies paint serve dashboard agent sync models evaluate test check fix bench gpu gpu-wheels clean

help: ## list the targets
	@echo "make sweep   the whole path on the digits that scikit-learn ships: sweep, choose, retrain, report"
	@echo
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "variables: DATA=digits|mnist|fashion_mnist|cifar10|folder:PATH  TRIALS=N  SEED=N  WORKERS=N  RULE=f1|knee|max:METRIC|run:ID  SEEDS=K  LANGUAGE=en|es"

$(READY):
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"error: Python 3.11, 3.12 or 3.13 is needed. Got {v[0]}.{v[1]}; name one with PYTHON=python3.12.")'
	@echo "setting up $(VENV) (about 2 minutes, once)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@rm -f $(VENV)/.ready-* && touch $@

$(INSTALLED): $(READY)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.installed-* && touch $@

setup: $(INSTALLED) ## install everything into .venv

ifdef SERVICE
sweep: $(INSTALLED)
	$(RUN) -m paretune.service.operations.main_job sweeps/ann.yaml sweeps/svm.yaml --data '$(DATA)' $(trials) --rule '$(RULE)' --seeds $(SEEDS) --to 'reports/$(SET)' --language '$(LANGUAGE)'
else
sweep: $(INSTALLED) ## ANN and SVM sweeps, front, choice, retrain, locked test, report (SERVICE=1: through a server of one's own)
	$(RUN) sweeps/offline.py sweeps/ann.yaml --seed $(SEED) --data '$(DATA)' $(trials)
	$(RUN) sweeps/offline.py sweeps/svm.yaml --seed $(SEED) --data '$(DATA)' $(trials)
	$(RUN) -m analysis.retrain 'runs/ann-$(SET)' --rule '$(RULE)' --seeds $(SEEDS)
	$(RUN) -m analysis.retrain 'runs/svm-$(SET)' --rule '$(RULE)' --seeds $(SEEDS)
	$(RUN) -m analysis.report 'runs/ann-$(SET)' 'runs/svm-$(SET)' --rule '$(RULE)' --to 'reports/$(SET)' --language '$(LANGUAGE)'

endif

report: $(INSTALLED) ## write the report of finished sweeps anew
	$(RUN) -m analysis.report 'runs/ann-$(SET)' 'runs/svm-$(SET)' --rule '$(RULE)' --to 'reports/$(SET)' --language '$(LANGUAGE)'

study: $(INSTALLED) ## reproduce one system of the source documents: NAME=f3 (QUICK=1: in two minutes at most)
	$(RUN) -m studies $(or $(NAME),--help) $(if $(QUICK),--quick) $(if $(BACKBONE),--backbone $(BACKBONE))

studies: $(INSTALLED) ## reproduce them all (hours; QUICK=1: each in two minutes at most)
	$(RUN) -m studies all $(if $(QUICK),--quick)

dashboard: $(INSTALLED) ## watch a sweep in the browser: SOURCE=runs/NAME, or entity/project[/sweep] at W&B
	$(RUN) -m analysis.dashboard '$(or $(SOURCE),runs/ann-$(SET))'

paint: $(INSTALLED) ## draw digits in the browser, read by every saved model at each stroke; MODELS=models HOST=127.0.0.1
	$(RUN) -m paretune.painter $(if $(MODELS),'$(MODELS)') $(if $(HOST),--host $(HOST)) $(if $(PORT),--port $(PORT)) $(if $(DRAWINGS),--drawings '$(DRAWINGS)')

serve: $(INSTALLED) ## a server for W&B's own client on this machine: HOST=127.0.0.1 PORT=8080 FOLDER=service-data DATABASE=URL
	$(RUN) -m paretune.service $(if $(HOST),--host $(HOST)) $(if $(PORT),--port $(PORT)) $(if $(FOLDER),--data '$(FOLDER)') $(if $(DATABASE),--database '$(DATABASE)')

agent: $(INSTALLED) ## create the sweep SWEEP=... at W&B and start an agent (needs: wandb login)
	$(RUN) -m paretune.search.online $(SWEEP) --data '$(DATA)' $(if $(TRIALS),--count $(TRIALS))

sync: $(INSTALLED) ## upload the offline runs to W&B (needs: wandb login)
	$(RUN) -m paretune.search.sync

evaluate: $(INSTALLED) ## evaluate the saved models on the locked test set
	$(RUN) -m trainers.evaluate models/*/

models: $(INSTALLED) ## pack the saved models with checksums into dist/
	$(RUN) -m paretune.models.pack models

# A process a core, each with whole files of tests, so that what a file shares is made once; each calculates in one thread.
test: $(INSTALLED) ## run the tests, in as many processes as there are cores; WORKERS=0: in one, for a debugger
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(or $(WORKERS),auto) --dist loadfile --no-loadscope-reorder

check: $(INSTALLED) ## ruff format, ruff lint, mypy
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

fix: $(INSTALLED) ## format and mend what ruff can mend
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(INSTALLED) ## run the benchmarks but gpu.py and chaos.py (JSON=1 prints one JSON object a line)
	@for file in $(filter-out benchmarks/gpu.py benchmarks/chaos.py,$(wildcard benchmarks/[a-z]*.py)); do $(RUN) $$file $(if $(JSON),--json) || exit 1; done

# With PYTHON= on the command line that Python is used as it is: no virtual environment, no network.
GPU_PYTHON = $(if $(filter command line,$(origin PYTHON)),$(PYTHON),$(RUN))
FOR ?= $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')

gpu: $(if $(filter command line,$(origin PYTHON)),,$(INSTALLED)) ## on an NVIDIA GPU: tests beside the CPU, then speeds, 8 minutes at most; QUICK=1 SIMULATED=1 TO=FOLDER PYTHON=python3
	$(GPU_PYTHON) benchmarks/gpu.py $(if $(QUICK),--quick) $(if $(SIMULATED),--simulated) $(if $(TO),--to '$(TO)')

gpu-wheels: ## fill wheels/ with what `make gpu` needs on a machine without pydantic and network: FOR=3.12
	$(PYTHON) -m pip download --quiet --disable-pip-version-check --only-binary=:all: --dest wheels --implementation cp --python-version $(FOR) --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 'pydantic>=2.7,<3'

clean: ## remove caches; keeps data, runs, models and reports
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
