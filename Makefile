# cfgbench: `make demo` and `make test` do all the set-up on a fresh machine; `make help` lists the rest.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXPERIMENTS := digits baselines samplers precision gaussians p_uncond interval interval_grid steps_x_scale methods_tuning methods adaptive execution
.DEFAULT_GOAL := help
.PHONY: help setup demo test check slow train figures paper results bench clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup  ## sweep the CFG scale on real digits and show what it buys and costs (about three minutes)
	$(BIN)/cfgbench run experiments/digits.yaml --output results/demo
	@echo "look at results/demo/figures/ and results/demo/summary.md"

test: setup check  ## set up, then everything that `make check` checks

check:  ## ruff, mypy and the tests, in the environment that `make setup` made
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto

slow: setup  ## the tests that take minutes: simulations, random kills, Ray with four workers
	$(BIN)/pytest -n auto -m slow

setup: $(STAMP)  ## make the environment in .venv (a second call reuses it)

$(STAMP): pyproject.toml constraints.txt .ci/environment
	sh .ci/environment $(VENV)
	@touch $(STAMP)

train: setup  ## train the digits networks anew, into the package (about eight minutes)
	$(BIN)/cfgbench train digits

results: setup  ## run the published experiments; what is finished is kept
	for name in $(EXPERIMENTS); do $(BIN)/cfgbench run experiments/$$name.yaml || exit; done
	$(BIN)/cfgbench costs
	$(BIN)/cfgbench claims --measure

figures: setup  ## rebuild tables and figures of the published experiments from their records
	for name in $(EXPERIMENTS); do $(BIN)/cfgbench report results/$$name || exit; done
	$(BIN)/cfgbench claims

paper: setup  ## figures and LaTeX tables of the published experiments, into results/paper
	for name in $(EXPERIMENTS); do $(BIN)/cfgbench figures results/$$name --published || exit; done

bench: setup  ## time cfgbench against a plain script, its floor, torchmetrics and scipy (about forty minutes)
	$(BIN)/cfgbench bench

clean:  ## remove the environment and the caches; results stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache *.egg-info
