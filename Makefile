# Every verb makes the environment that it needs if it is missing, and doesn't change it if it is up
# to date. NAME="a b" chooses scenarios, ARGS="…" goes to the script unchanged (with `all` to
# bench). Both may stand before make too, as MODEL does; a NAME that is the machine's own is ignored:
# Windows' Linux sets it.

# Not called PYTHON: that is the interpreter with which the environment is made.
RUN = python=$$(sh tools/environment.sh run) && "$$python"
DEV = python=$$(sh tools/environment.sh dev) && "$$python" -m
# ARGS is only for bench, except for the folder: the other scripts read where bench wrote.
# With --results-dir and its folder as two words, so that the shell reads a ~ in it.
WHERE = $(lastword $(filter --results-dir=%,$(subst --results-dir ,--results-dir=,$(ARGS))))
FOLDER = $(or $(patsubst --results-dir=%,%,$(WHERE)),results)
NAMES = $(if $(filter command,$(origin NAME)),$(NAME),$(filter-out $(shell uname -n),$(NAME)))
PACKAGES = bench server tools
# By which a folder is known as one that a verb has made, or as an empty one.
OURS = -path $$folder -type d -empty -o -name pyvenv.cfg -o -name '.vllm-bench-*' -o -name 'vllm-rs-*'

.DEFAULT_GOAL := help
.PHONY: help install install-ray init-env server server-cpu sim demo calibrate peers judge bench \
	summarize plots report runs compare ab capacity tune all test test-fast test-vllm fuzz chaos \
	soak scale check clean
.SILENT:
.NOTPARALLEL: # verbs share the environment that they make

help: ## show this list
	awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

install: ## make the environment: mamba's vllm-bench if there is mamba, else .venv
	sh tools/environment.sh how

install-ray: ## add Ray to it, for bench.py --ray (80 MB to download, 240 MB on disk)
	sh tools/environment.sh ray >/dev/null

init-env: ## copy .env.example to .env, to be filled in
	sh tools/init_env.sh

server: ## start vLLM with the settings of .env (needs vLLM and a GPU)
	sh server/run_server.sh $(ARGS)

server-cpu: ## start a real vLLM with a tiny random model on this machine's CPU
	sh tools/vllm_cpu.sh $(ARGS)

sim: ## start the simulator of a vLLM server, without GPU (ARGS=--help shows its flags)
	$(RUN) server/simulator.py $(ARGS)

demo: ## try everything without GPU or hub: simulator, run, tables, pictures, report
	$(RUN) bench/demo.py $(ARGS)

calibrate: ## measure the client's own error (10 minutes; run nothing else meanwhile)
	$(RUN) bench/calibrate.py $(ARGS)

peers: ## hold vllm-rs and this client against a simulator's record (10 minutes; nothing beside)
	$(RUN) bench/peers.py $(ARGS)

judge: ## check that verdicts are right: planted cases (18 minutes; run nothing else meanwhile)
	$(RUN) bench/judge.py $(ARGS)

bench: ## run the scenarios: NAME=short_chat ARGS=--telemetry
	$(RUN) bench/bench.py $(foreach name,$(NAMES),--name $(name)) $(ARGS)

summarize: ## write tables and verdicts of all runs: summary.csv, summary.md
	$(RUN) bench/summarize.py $(ARGS)

plots: ## draw pictures of all runs, in results/plots
	$(RUN) bench/plot.py $(ARGS)

report: ## write a page with all runs: results/report.html
	$(RUN) bench/report.py $(ARGS)

runs: ## list the runs in results (ARGS="--rm RUN", "--label WORD RUN", --prune)
	$(RUN) bench/runs.py $(ARGS)

# As one word each, whatever is in it: a glob, a space, an apostrophe.
SIDES = $(foreach side,A B,$(if $($(side)),'$(subst ','\'',$($(side)))'))

compare: ## which of two is better: A=seqs16 B=seqs64, labels, folders or runs (ARGS="--out F.md")
	$(RUN) bench/compare.py $(SIDES) $(ARGS)

ab: ## start two servers by turns and compare them: A=a.env B=b.env NAME=short_chat
	$(RUN) bench/ab.py $(SIDES) $(foreach name,$(NAMES),--name $(name)) $(ARGS)

capacity: ## find how much the server can take: NAME=rag ARGS="--slo ttft_ms.p95=2000 --minutes 30"
	$(RUN) bench/capacity.py $(foreach name,$(NAMES),--name $(name)) $(ARGS)

tune: ## find the server's settings for a load: FILE=experiments.yaml, ARGS=--dry-run
	$(RUN) bench/tune.py $(if $(FILE),'$(subst ','\'',$(FILE))') $(foreach name,$(NAMES),--name $(name)) $(ARGS)

all: ## run bench; then summarize, plots and report, of these runs alone, even if one failed
	before=$$(echo $(FOLDER)/*.csv); $(MAKE) --no-print-directory bench; bench=$$?; \
	[ "$$(echo $(FOLDER)/*.csv)" != "$$before" ] || exit $$bench; \
	$(MAKE) --no-print-directory --keep-going "ARGS=--last $(if $(WHERE),--results-dir $(FOLDER))" summarize plots report && \
	exit $$bench

# Tests side by side, a file's in one process; ARGS="-n 0" runs one after the other.
BESIDE = --dist loadfile --no-loadscope-reorder -n

test: ## run the tests: no server, GPU or network needed
	$(DEV) pytest -q $(BESIDE) auto $(ARGS)

test-fast: ## run the tests that start no process: under a minute
	$(DEV) pytest -q -m "not process and not vllm" $(ARGS)

# Two servers at a time, of a GB or two each.
test-vllm: ## test the scripts against a real vLLM on the CPU (downloads 1 GB the first time)
	sh tools/vllm_cpu.sh --install-only
	$(DEV) pytest -q $(BESIDE) 2 -m vllm tests/e2e $(ARGS)

fuzz: ## throw odd input at each border, other input each time: MINUTES=60
	end=$$(( $$(date +%s) + 60 * $(or $(MINUTES),5) )); while [ $$(date +%s) -lt $$end ]; do \
		$(DEV) pytest -q -m fuzz --hypothesis-profile=fuzz $(ARGS) || exit; done

chaos: ## let 100 things happen to bench.py; is anything lost? (ARGS=--list; 10 to 15 minutes)
	$(RUN) -m tools.chaos $(ARGS)

soak: ## hold a load for half an hour; does anything grow? (ARGS="--minutes 30 --rate 200")
	$(RUN) -m tools.soak $(ARGS)

scale: ## measure what the head of a load from many machines costs (6 minutes; docs/SCALE.md)
	$(RUN) -m tools.scale $(ARGS)

check: ## check format, lint and types
	$(DEV) ruff format --check .
	$(DEV) ruff check .
	export MYPYPATH=bench:server && $(DEV) mypy $(PACKAGES)
	python=$$(sh tools/environment.sh dev) && tools=$$(dirname "$$python") && \
	"$$tools/shellcheck" server/*.sh tools/*.sh examples/machines/*.sh .ci/run && \
	if [ -x "$$tools/hadolint" ]; then "$$tools/hadolint" Dockerfile; \
	else echo "no hadolint for this kind of machine: the Dockerfile was not checked"; fi

clean: ## remove caches and environments that these verbs made; results stay
	for folder in .venv .venv-vllm .peers; do \
		if [ -h $$folder ]; then rm $$folder; \
		elif [ -e $$folder ] && [ -z "$$(find $$folder -maxdepth 1 $(OURS))" ]; then \
			echo "$$folder is left: it was not made by these verbs"; \
		else rm -rf $$folder; fi; \
	done
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find bench server tests tools -name __pycache__ -prune -exec rm -rf {} +
