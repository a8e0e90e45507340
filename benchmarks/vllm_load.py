"""Loading SmolLM2 without ten of its layers into vLLM, against all layers in stock vLLM: seconds and peak memory.

    .venv-vllm/bin/python -m benchmarks.vllm_load [CHECKPOINT]

Each engine starts and runs in a single separate process, so that its memory can be measured.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import psutil

from benchmarks.smollm2 import SMOLLM2

DROPPED = list(range(15, 25))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("checkpoint", nargs="?", default=str(SMOLLM2))
    arguments.add_argument("--contender", choices=["pruned", "whole"], help="load one and print its figures")
    given = arguments.parse_args()
    if given.contender:
        print(json.dumps(load(given.checkpoint, given.contender)))
        return
    before = _disk(Path(given.checkpoint))
    figures = {name: _in_a_process(given.checkpoint, name) for name in ("pruned", "whole")}
    print(f"{'':20}{'pruned':>10}{'whole':>10}")
    for row in figures["whole"]:
        print(f"{row:20}{figures['pruned'][row]:10.1f}{figures['whole'][row]:10.1f}")
    print(f"bytes written beside the checkpoint: {_disk(Path(given.checkpoint)) - before}")


def _in_a_process(checkpoint: str, contender: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.vllm_load", checkpoint, "--contender", contender]
    env = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
    figures: dict[str, float] = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
    return figures


def _disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def load(checkpoint: str, contender: str) -> dict[str, float]:
    import vllm

    from lm_eval_ext.pruning.architecture import depth, slice_config
    from lm_eval_ext.pruning.checkpoint import NO_CHANGES
    from lm_eval_ext.pruning.loading import Sliced
    from lm_eval_ext.pruning.recipe import kept_layers
    from lm_eval_ext.pruning.vllm_loader import engine_arguments

    options = {}
    if contender == "pruned":
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(checkpoint)
        kept = kept_layers(DROPPED, depth(config))
        sliced = Sliced(kept, NO_CHANGES, slice_config(config, kept))
        options = engine_arguments(checkpoint, config, sliced, {"revision": "main"})
    begun = time.perf_counter()
    llm = vllm.LLM(checkpoint, dtype="float32", max_model_len=512, enforce_eager=True, **options)
    seconds = time.perf_counter() - begun
    resident, peak = psutil.Process().memory_info().rss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    tokens = len(llm.generate("One, two, three,", use_tqdm=False)[0].outputs[0].token_ids)
    return {"seconds": seconds, "resident, MB": resident / 1e6, "peak, MB": peak / 1e6, "tokens decoded": tokens}


if __name__ == "__main__":
    main()
