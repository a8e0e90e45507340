"""Resident memory over many requests of mixed lengths, which should not grow.

python -m benchmarks.memory [CHECKPOINT] [--requests 500] [--batch 16]
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable
from pathlib import Path

from benchmarks.smollm2 import SMOLLM2


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("checkpoint", nargs="?", default=str(SMOLLM2))
    arguments.add_argument("--requests", type=int, default=500)
    arguments.add_argument("--batch", type=int, default=16)
    given = arguments.parse_args()

    import torch
    from transformers import AutoModelForCausalLM

    from lm_eval_ext.generation.engines.hf import HFEngine
    from lm_eval_ext.generation.request import Completion, Job, Sampling, Stop

    model = AutoModelForCausalLM.from_pretrained(given.checkpoint, dtype=torch.float32).eval()
    lengths = random.Random(3)
    jobs = [
        Job(tuple(range(5, 5 + lengths.randint(10, 60))), lengths.randint(4, 40), Stop(), Sampling(1.0), seed)
        for seed in range(given.requests)
    ]
    finished = 0

    def on_completion(job: Job, completion: Completion) -> Iterable[Job]:
        nonlocal finished
        finished += 1
        if finished % (given.requests // 10) == 0:
            print(f"{finished:5} requests: {resident_mb():.0f} MB", flush=True)
        return ()

    print(f"    0 requests: {resident_mb():.0f} MB")
    HFEngine(model, given.batch, decode=str).run(jobs, on_completion)


def resident_mb() -> float:
    """Resident memory of this process, including mapped files."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    main()
