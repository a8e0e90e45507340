"""In which quantized formats layers can be dropped exactly: tiny random models in each format, on each engine.

    python -m benchmarks.quantized
    .venv-vllm/bin/python -m benchmarks.quantized --engine vllm

`transformers`: logits of `pruned-hf`'s loader equal those of the quantized model with the layers taken out. `export`:
so do those of the exported checkpoint in stock transformers. `vllm`: greedy texts and log-likelihoods of `pruned-vllm`,
which drops the layers while loading, equal those of the exported checkpoint in stock vLLM. Prints a table in Markdown;
exits with 1 if something is neither exact nor refused.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.packing import (
    AWQ,
    FP8,
    GPTQ,
    MIXED,
    W4A16,
    W8A8,
    awq,
    fp8,
    gptq,
    int4,
    int8,
    pack_checkpoint,
    pack_experts,
)
from benchmarks.vllm_kinds import build, measured
from lm_eval_ext.errors import TTSError
from lm_eval_ext.pruning.quantization import REFUSED, check_quantization

DROP, KEPT = (1, 4), (0, 2, 3, 5)
Written = Callable[[Path], Path]
SAVED: Mapping[str, Written] = {
    "compressed-tensors W8A8": lambda folder: pack_checkpoint(dense(folder), W8A8, int8),
    "compressed-tensors W8A8, schemes by layer": lambda folder: pack_checkpoint(dense(folder), MIXED, int8),
    "compressed-tensors W4A16": lambda folder: pack_checkpoint(dense(folder), W4A16, int4),
    "FP8 in blocks": lambda folder: pack_checkpoint(dense(folder), FP8, fp8),
    "MXFP4 (gpt-oss)": lambda folder: pack_experts(dense(folder, "gpt_oss")),
    "GPTQ": lambda folder: pack_checkpoint(dense(folder), GPTQ, gptq),
    "AWQ": lambda folder: pack_checkpoint(dense(folder), AWQ, awq),
    "bitsandbytes NF4, saved": lambda folder: saved_by_bitsandbytes(dense(folder)),
}
ON_LOAD = ("bitsandbytes:nf4", "bitsandbytes:int8", "torchao:int8", "quanto:int8", "quanto:int4")
ENGINES = ("transformers", "export")
Outcomes = Mapping[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("transformers", "vllm"), default="transformers")
    parser.add_argument("--alone", help="try one format on vLLM in this process and print the outcome")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    if given.alone:
        print(json.dumps(on_vllm(SAVED[given.alone])))
        return
    found = vllm() if given.engine == "vllm" else transformers()
    print(table(found))
    if any(not one.startswith(("exact", "refused", "needs")) for row in found.values() for one in row.values()):
        sys.exit(1)


def table(found: Mapping[str, Outcomes]) -> str:
    engines = list(dict.fromkeys(engine for row in found.values() for engine in row))
    lines = ["| format | " + " | ".join(engines) + " |", "|---" * (1 + len(engines)) + "|"]
    lines += [
        f"| {name} | " + " | ".join(row.get(engine, "") for engine in engines) + " |" for name, row in found.items()
    ]
    return "\n".join(lines)


def transformers() -> dict[str, Outcomes]:
    saved = {name: told(partial(on_transformers, write)) for name, write in SAVED.items()}
    packed = {f"{name}, while loading": told(partial(while_loading, name)) for name in ON_LOAD}
    return {**saved, **packed, **{name: dict.fromkeys(ENGINES, refused(name)) for name in REFUSED}}


def told(outcomes: Callable[[], Outcomes]) -> Outcomes:
    """The outcomes, or why there are none."""
    try:
        return outcomes()
    except TTSError as error:
        return dict.fromkeys(ENGINES, f"refused: {error}")
    except ImportError as error:
        return dict.fromkeys(ENGINES, f"needs {error.name or ' '.join(str(error).split())[:100]}")


def refused(method: str) -> str:
    from transformers import LlamaConfig

    try:
        check_quantization(LlamaConfig(quantization_config={"quant_method": method}))
    except TTSError as error:
        return f"refused: {str(error).partition('dropped: ')[2]}"
    return "not refused"


def on_transformers(write: Written) -> Outcomes:
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        base = write(Path(folder, "base"))
        expected = bypassed(AutoModelForCausalLM.from_pretrained(base, dtype="float32"))
        out = exported(base, Path(folder, "exported"))
        return {
            "transformers": equal(loaded(base), expected),
            "export": equal(AutoModelForCausalLM.from_pretrained(out, dtype="float32"), expected),
        }


def while_loading(name: str) -> Outcomes:
    from transformers import AutoModelForCausalLM

    from lm_eval_ext.pruning.quantization import parse_quantize

    quantization = parse_quantize(name)
    assert quantization is not None
    config = quantization.config(None)
    with tempfile.TemporaryDirectory() as folder:
        base = dense(Path(folder, "base"))
        expected = bypassed(AutoModelForCausalLM.from_pretrained(base, dtype="float32", quantization_config=config))
        return {"transformers": equal(loaded(base, quantization_config=config), expected)}


def loaded(base: Path, **options: Any) -> Any:
    from transformers import AutoConfig

    from lm_eval_ext.pruning.loading import load_pruned

    return load_pruned(str(base), AutoConfig.from_pretrained(base), KEPT, dtype="float32", **options)


def exported(base: Path, folder: Path) -> Path:
    from lm_eval_ext.pruning.export import export
    from lm_eval_ext.pruning.recipe import Recipe

    return export(Recipe(base=str(base), drop=DROP, method="selection", source="a benchmark"), folder)


def bypassed(model: Any) -> Any:
    """The model with the layers taken out of its list, which must change what it computes."""
    import torch

    whole = logits(model)
    model.model.layers = torch.nn.ModuleList(model.model.layers[layer] for layer in KEPT)
    model.config.num_hidden_layers = len(KEPT)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[layer] for layer in KEPT]
    if torch.equal(whole, logits(model)):
        raise AssertionError("the layers change nothing, so the comparison would say nothing")
    return model


def logits(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(3, 35).reshape(2, 16), use_cache=False).logits.float()


def equal(model: Any, other: Any) -> str:
    apart = float((logits(model) - logits(other)).abs().max())
    return "exact" if apart == 0 else f"differs by {apart:.2g}"


def dense(folder: Path, kind: str = "llama") -> Path:
    build(kind, folder, num_key_value_heads=4, intermediate_size=256, num_local_experts=4)
    return folder


def saved_by_bitsandbytes(folder: Path) -> Path:
    import bitsandbytes  # noqa: F401  # fails now, with its name
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    packed = folder.with_name("packed")
    model.save_pretrained(packed)
    tokenizer.save_pretrained(packed)
    return packed


def vllm() -> dict[str, Outcomes]:
    return {name: {"vllm": in_a_process(name)} for name in SAVED}


def in_a_process(name: str) -> str:
    """What came out, in a process of its own, because vLLM keeps its memory."""
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR"}
    command: Sequence[str] = [sys.executable, "-m", "benchmarks.quantized", "--alone", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **env})
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    last = (done.stderr.strip().splitlines() or ["no output"])[-1]
    found: str = json.loads(lines[-1]) if lines else f"vLLM itself: {last[:150]}"
    return found


def on_vllm(write: Written) -> str:
    from lm_eval_ext.harness.models.pruned_vllm import PrunedVLLM

    options: dict[str, Any] = {
        "dtype": "bfloat16", "journal": "off", "thinking_format": "plain", "max_model_len": 256, "enforce_eager": True,
        "gpu_memory_utilization": 0.4,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        base = write(Path(folder, "base"))
        try:
            found = measured(PrunedVLLM(str(base), drop_layers=list(DROP), **options))
            expected = measured(PrunedVLLM(str(exported(base, Path(folder, "exported"))), **options))
        except TTSError as error:
            return f"refused: {error}"
    return "exact" if found == expected else f"differs: {found} instead of {expected}"[:200]


if __name__ == "__main__":
    main()
