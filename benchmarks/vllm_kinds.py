"""Tests by model type that dropping layers while loading into vLLM is exact.

    .venv-vllm/bin/python -m benchmarks.vllm_kinds [KIND ...] [--write]

For each model type, a tiny random model is loaded into `pruned-vllm` without two of its layers. Greedy texts and the
log-likelihoods of a continuation must equal those of `pruned-hf` on the checkpoint that `lm-eval-tts export` writes.
Exits with 1 if one does not. `--write` saves the results to `verified_vllm.yaml`, which the documentation and the
results of runs use.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from lm_eval_ext.pruning import verification

KINDS = ("qwen3", "llama", "qwen2", "mistral", "gemma3_text", "gemma2", "phi3", "qwen3_moe", "olmo2", "granite")
TABLE = Path(verification.__file__).with_name("verified_vllm.yaml")
SIZES = {
    "hidden_size": 128, "intermediate_size": 128, "moe_intermediate_size": 64, "num_hidden_layers": 6,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "num_experts": 4, "num_experts_per_tok": 2,
    "max_position_embeddings": 512, "query_pre_attn_scalar": 32, "sliding_window": 64,
}  # fmt: skip
DROP = [2, 4]
PROMPTS = [
    "Compute: 1+2+3",
    "7-5",
    "The answer is",
    "A longer prompt, to fill more than one block of the cache: 9*8*7*6",
]
TOLERANCE = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", help="model types to test; by default the ten most used")
    parser.add_argument("--write", action="store_true", help="save the results")
    parser.add_argument("--alone", action="store_true", help="test one type in this process and print the outcome")
    parser.add_argument("--whole", action="store_true", help="with --alone: drop no layers")
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(outcome(given.kinds[0], [] if given.whole else DROP)))
        return
    outcomes = {kind: verdict(kind) for kind in given.kinds or KINDS}
    if given.write:
        import transformers
        import vllm

        table = {"vllm": vllm.__version__, "transformers": transformers.__version__, "kinds": outcomes}
        header = (
            "# Written by `python -m benchmarks.vllm_kinds --write`: model types tried with dropped layers in vLLM.\n"
        )
        TABLE.write_text(header + yaml.safe_dump(table, sort_keys=False, width=120), "utf-8")
    if any(not found.startswith(("exact", "refused", "whole model")) for found in outcomes.values()):
        sys.exit(1)


def verdict(kind: str) -> str:
    """What came out; if that is bad, whether it is so for the whole model, and thus not because of dropped layers."""
    found = in_a_process(kind)
    if not found.startswith(("exact", "refused")):
        whole = in_a_process(kind, "--whole")
        if not whole.startswith("exact"):
            found = f"whole model {whole}"
    print(f"{kind:<16}{found}", flush=True)
    return found


def in_a_process(kind: str, *options: str) -> str:
    """What came out, in a process of its own, because vLLM keeps its memory."""
    command = [sys.executable, "-m", "benchmarks.vllm_kinds", kind, "--alone", *options]
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **env})
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    last = (done.stderr.strip().splitlines() or ["no output"])[-1]
    found: str = json.loads(lines[-1]) if lines else f"failed: {last[:120]}"
    return found


def outcome(kind: str, drop: list[int]) -> str:
    """Whether a model type without some layers gives the same in vLLM as in transformers, or why not."""
    from lm_eval_ext.errors import TTSError
    from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
    from lm_eval_ext.harness.models.pruned_vllm import PrunedVLLM
    from lm_eval_ext.pruning.export import export
    from lm_eval_ext.pruning.recipe import Recipe

    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        base, exported = Path(folder, "base"), Path(folder, "exported")
        build(kind, base)
        options: dict[str, Any] = {"dtype": "float32", "journal": "off", "thinking_format": "plain"}
        try:
            if drop:
                export(Recipe(base=str(base), drop=tuple(drop), method="selection", source="a benchmark"), exported)
            hf = PrunedHFLM(str(exported if drop else base), batch_size=4, **options)
            lm = PrunedVLLM(
                str(base),
                drop_layers=drop or None,
                max_model_len=256,
                enforce_eager=True,
                gpu_memory_utilization=0.4,
                **options,
            )
        except TTSError as error:
            return f"refused: {error}"
        expected, found = measured(hf), measured(lm)
    apart = max(abs(one - other) for one, other in zip(expected[1], found[1], strict=True))
    if found[0] != expected[0]:
        return f"differs: greedy texts {found[0]} instead of {expected[0]}"[:300]
    return "exact" if apart < TOLERANCE else f"differs: log-likelihoods by {apart:.2g}"


def build(kind: str, folder: Path, **more: int) -> None:
    """Write a tiny random model with the tokenizer of tiny-chain."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    from examples.tiny_chain import chain_tokenizer

    tokenizer = chain_tokenizer()
    known = CONFIG_MAPPING[kind]().to_dict()
    sizes = {name: size for name, size in (SIZES | more).items() if name in known or name == "head_dim"}
    tokens = dict.fromkeys(("eos_token_id", "pad_token_id", "bos_token_id"), tokenizer.eos_token_id)
    config = CONFIG_MAPPING[kind](**sizes, **tokens, vocab_size=len(tokenizer))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():
        for parameter in model.parameters():  # larger than a fresh model's, so that layers matter
            if parameter.ndim > 1:
                parameter.normal_(std=0.15)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def measured(lm: Any) -> tuple[list[str], list[float]]:
    """Greedy texts, and log-likelihoods of a continuation."""
    from lm_eval.api.instance import Instance

    greedy = {"do_sample": False, "temperature": 0.0, "until": [], "max_gen_toks": 24, "thinking_token_budget": -1}
    texts = [Instance("generate_until", {}, (prompt, greedy), 0, metadata=("t", 0, 1)) for prompt in PROMPTS]
    scored = [Instance("loglikelihood", {}, (prompt, " =4 and so on"), 0, metadata=("t", 0, 1)) for prompt in PROMPTS]
    likelihoods = lm.loglikelihood(scored, disable_tqdm=True)
    return [str(text) for text in lm.generate_until(texts, disable_tqdm=True)], [float(one[0]) for one in likelihoods]


if __name__ == "__main__":
    main()
