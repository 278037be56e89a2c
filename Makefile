# metaser: every target builds the environment it needs. `make help` lists the targets.
#   make exp-fmaml-5shot                              on METASER_DATA's corpora, else on the built-in synthetic one
#   make exp-fmaml-5shot SET="training.iterations=10" with a setting of your own (no spaces in it)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?= $(or $(wildcard $(BIN)/python),python3)
SET ?=
PROTOCOL ?=
RESULTS ?= results
PYTEST ?= -n 2 --dist loadfile --no-loadscope-reorder
ASKED = $(foreach p,$(PROTOCOL),--protocol '$(p)') $(foreach s,$(SET),--set '$(s)')
RUN = $(BIN)/metaser run --results '$(RESULTS)' $(ASKED)

.DEFAULT_GOAL := help
.PHONY: help setup test test-quick test-slow test-avx2 test-slurm lint format clean exp-fmaml exp-fmaml-5shot exp-fmaml-10shot exp-fmaml-20shot exp-fmaml-full exp-fmaml-ablations exp-fmaml-metric exp-fmaml-best exp-fmaml-search exp-fmaml-normalisation exp-modifications exp-fomaml exp-reptile exp-regmaml exp-modifications-smoke exp-modifications-search exp-modifications-full exp-metaser exp-metaser-smoke exp-metaser-search exp-metaser-full exp-omniglot exp-omniglot-full exp-mnist exp-adapt notebooks report bench scaling

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  \1\t/' | expand -t 22

setup: $(READY)  ## the environment, in .venv: installs what is missing or has changed, deletes nothing

$(READY): setup.cfg packaging/constraints.txt packaging/environment.py packaging/learn2learn/backend.py packaging/learn2learn/pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON); install Python 3.11, 3.12 or 3.13, or say which: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "make: metaser needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is $$($(PYTHON) --version 2>&1 | cut -d' ' -f2); say which: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) packaging/environment.py

test-quick: $(READY)  ## a first answer within a minute: some tests of everything
	$(BIN)/python -m pytest $(PYTEST) -m "quick and not slow and not slurm"

test: $(READY)  ## the test suite, on two cores; uses METASER_DATA's corpora when it is set
	$(BIN)/python -m pytest $(PYTEST) -m "not slow and not slurm"

test-slow: $(READY)  ## what takes long and `make test` leaves out; with METASER_KILLS=100 runs are killed at every step
	$(BIN)/python -m pytest $(PYTEST) -m "slow and not slurm"

test-avx2: $(READY)  ## what depends on arithmetic, as on a processor that has AVX2 and no AVX-512
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 \
	  $(BIN)/python -m pytest $(PYTEST) -m "arithmetic and not slow and not slurm"

test-slurm: $(READY)  ## sweeps on a real Slurm of one machine, where Debian's packages of it are (minutes)
	METASER_SLURM=1 $(BIN)/python -m pytest -n 0 -m slurm tests/test_slurm.py

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	for script in experiments/*/run.py; do $(BIN)/mypy $$script || exit 1; done  # all have one name, so one at a time

format: $(READY)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

exp-fmaml: exp-fmaml-5shot exp-fmaml-10shot exp-fmaml-20shot  ## F-MAML, all three tables

exp-fmaml-5shot: $(READY)  ## F-MAML, Table 2 (5-shot)
	$(RUN) experiments/fmaml --variant 5shot

exp-fmaml-10shot: $(READY)  ## F-MAML, Table 3 (10-shot)
	$(RUN) experiments/fmaml --variant 10shot

exp-fmaml-20shot: $(READY)  ## F-MAML, Table 4 (20-shot)
	$(RUN) experiments/fmaml --variant 20shot

exp-fmaml-full: $(READY)  ## all three with the authors' own length, 16,000 tasks one by one: days on 2 cores, resumable
	for shots in 5 10 20; do \
	  $(RUN) experiments/fmaml --variant $${shots}shot --set training.iterations=16000 --set training.meta_batch=1 \
	    --set training.log_every=100 --set training.monitor_every=1000 || exit $$?; \
	done

exp-fmaml-ablations: $(READY)  ## F-MAML's choices, one by one
	$(RUN) experiments/fmaml --variant ablations --protocol strict
	$(RUN) experiments/fmaml --variant borrowed --protocol paper

exp-fmaml-metric: $(READY)  ## Prototypical, Matching and Relation networks beside F-MAML, 5-shot
	$(RUN) experiments/fmaml --variant metric

exp-fmaml-best: $(READY)  ## the best we have, 5-, 10- and 20-shot
	for shots in 5 10 20; do \
	  $(BIN)/metaser run experiments/fmaml --variant best --results '$(RESULTS)'/fmaml-best/$${shots}shot \
	    --set tasks.shots=$$shots --set tasks.fixed_shots=$$shots $(ASKED) || exit $$?; \
	done

# On source languages only: for a target, the pair of the two others; train on one of them, test on the other.
exp-fmaml-search: $(READY)  ## candidates for the best
	for pair in emodb,ravdess emodb,emovo ravdess,emovo; do \
	  $(BIN)/metaser run experiments/fmaml --variant search --results '$(RESULTS)'/fmaml-search/$$(echo $$pair | tr , -) \
	    --set "data.collections.open.corpora=[$$pair]" --set data.use=open --set seeds=[0] --set evaluation.tasks=50 \
	    $(ASKED) || exit $$?; \
	done

# On source languages only: for a target, the pair of the two others; train on one of them, test on the other.
exp-fmaml-normalisation: $(READY)  ## what the strict protocol's normalisation was checked with
	for pair in emodb,ravdess emodb,emovo ravdess,emovo; do for how in none speaker; do \
	  $(BIN)/metaser run experiments/fmaml --variant 5shot --protocol strict \
	    --results '$(RESULTS)'/fmaml-normalisation/$$(echo $$pair | tr , -)-$$how \
	    --set "data.collections.open.corpora=[$$pair]" --set features.normalise=$$how --set seeds=[0] --set compare=[fmaml] \
	    --set training.iterations=200 --set training.monitor_every=0 --set evaluation.tasks=50 || exit $$?; \
	done; done

MODIFICATIONS = experiments/modifications

exp-modifications: $(READY)  ## FOMAML, Reptile, Reg-MAML, MAML: table 1, figures 1 to 3 (about 2 hours on 2 cores; resumable)
	$(RUN) $(MODIFICATIONS) --variant table1
	$(RUN) $(MODIFICATIONS) --variant lambda --protocol strict

exp-fomaml exp-reptile exp-regmaml: exp-%: $(READY)  ## one of them alone
	$(RUN) $(MODIFICATIONS) --variant $*

exp-modifications-smoke: $(READY)  ## the same shape in 2 minutes, on the synthetic corpus
	METASER_DATA= $(RUN) $(MODIFICATIONS) --variant table1
	METASER_DATA= $(RUN) $(MODIFICATIONS) --variant lambda --protocol strict

exp-modifications-search: $(READY)  ## its learning rates, chosen on the sources alone
	$(RUN) $(MODIFICATIONS) --variant search --protocol strict

exp-modifications-full: $(READY)  ## with the paper's own length, 10,000 epochs: days on 2 cores, resumable
	$(RUN) $(MODIFICATIONS) --variant table1 --set training.iterations=10000 --set training.log_every=100 --set training.monitor_every=500
	$(RUN) $(MODIFICATIONS) --variant lambda --protocol strict --set training.iterations=10000 --set training.log_every=100 --set training.monitor_every=500

exp-metaser: $(READY)  ## MetaSER, TransSER, MultiSER and what the paper left out: Table 2 in both protocols, what does better, Figure 2 (resumable)
	$(RUN) experiments/metaser --variant table2 --protocol paper
	$(RUN) experiments/metaser --variant table2-strict --protocol strict
	$(RUN) experiments/metaser --variant better
	$(RUN) experiments/metaser --variant figure2 --protocol paper

exp-metaser-smoke: $(READY)  ## Table 2's shape, five sets of sources by three targets, on the synthetic corpus
	METASER_DATA= $(RUN) experiments/metaser --variant table2 --protocol paper

exp-metaser-search: $(READY)  ## normalisation, augmentation, learning rates, chosen on the sources alone
	$(RUN) experiments/metaser --variant search

exp-metaser-full: $(READY)  ## with the paper's own length: 10,000 episodes, 1,000 and 2,500 epochs; days on 2 cores, resumable
	$(RUN) experiments/metaser --variant full

exp-omniglot: $(READY)  ## FOMAML against MAML on Omniglot, and metric learners: the report's table, convolutions, 1-shot (resumable)
	for variant in fc fc-5way-1shot cnn cnn-5way-1shot; do $(RUN) experiments/omniglot --variant $$variant || exit $$?; done

exp-omniglot-full: $(READY)  ## the same with 10,000 iterations and five seeds everywhere, 20-way too
	for variant in fc fc-5way-1shot cnn cnn-5way-1shot cnn-20way-1shot cnn-20way-5shot; do \
	  $(RUN) experiments/omniglot --variant $$variant --set seeds=[42,43,44,45,46] --set training.iterations=10000 \
	    --set algorithms.protonet.iterations=10000 --set algorithms.matching.iterations=10000 \
	    --set algorithms.relation.iterations=10000 || exit $$?; done

exp-mnist: $(READY)  ## the tutorial's hands-on: fine-tuning, MAML and metric learners on digits
	for variant in alike tutorial; do $(RUN) experiments/mnist --variant $$variant || exit $$?; done

exp-adapt: $(READY)  ## a few clips of a new language: a trained model against training on these clips alone
	for variant in 5shot 1shot; do $(RUN) experiments/adapt --variant $$variant || exit $$?; done

notebooks: $(READY)  ## run the notebooks, outputs and all
	$(BIN)/jupyter execute --inplace --timeout=1800 notebooks/*.ipynb

report: $(READY)  ## one HTML page of all results beside the papers': results/report.html
	$(BIN)/metaser report --results '$(RESULTS)'

bench: $(READY)  ## how fast training is, beside stock learn2learn, on this machine
	$(BIN)/python -m benchmarks bench --results '$(RESULTS)'

scaling: $(READY)  ## two processes beside two threads on this machine, and by calculation up to 1,024
	$(BIN)/python -m benchmarks scaling --results '$(RESULTS)'

clean:  ## remove the environment and what tools left behind
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
