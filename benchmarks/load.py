"""Dropping layers while loading, against loading all and deleting some: bytes read, peak memory, time.

    python -m benchmarks.load [CHECKPOINT] [--drop 10-19]

Each case runs in a separate process that starts with the checkpoint evicted from the page cache. On a CPU in the
checkpoint's own dtype, weights stay mapped from the file, and those deleted before their first use take no memory
in either case; with conversion (or on a GPU) they do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lm_eval_ext.pruning.recipe import kept_layers, parse_layers

HERE = Path(__file__).resolve().parent.parent


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("checkpoint", nargs="?", default=str(HERE / ".models" / "smollm2"))
    arguments.add_argument("--drop", default="10-19")
    arguments.add_argument("--case", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.case:
        print(json.dumps(measured(given.case, given.checkpoint, parse_layers(given.drop))))
        return
    print(f"{'dtype':10}{'case':18}{'MB read':>10}{'peak MB':>10}{'seconds':>10}")
    for dtype in ("float32", "bfloat16"):
        rows = {how: in_process(f"{how}:{dtype}", given) for how in CASES}
        for how, row in rows.items():
            print(f"{dtype:10}{how:18}{row['read']:10.0f}{row['peak']:10.0f}{row['seconds']:10.2f}")
        before, after = rows["load-then-delete"], rows["drop-on-load"]
        print(f"{'':10}{'ratio':18}{after['read'] / before['read']:10.2f}{after['peak'] / before['peak']:10.2f}")


def in_process(case: str, given: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.load", given.checkpoint, "--drop", given.drop, "--case", case]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE)
    row: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return row


def measured(case: str, checkpoint: str, drop: tuple[int, ...]) -> dict[str, float]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: F401  # imported before the clock starts

    how, _, dtype = case.partition(":")
    kept = kept_layers(drop, AutoConfig.from_pretrained(checkpoint).num_hidden_layers)
    evict(Path(checkpoint))
    base, read, start = peak_mb(), read_mb(), time.perf_counter()
    model = CASES[how](checkpoint, kept, dtype)
    with torch.no_grad():
        model(torch.tensor([[1, 2, 3]]))  # mapped weights are read on first use
    return {"read": read_mb() - read, "peak": peak_mb() - base, "seconds": time.perf_counter() - start}


def whole(checkpoint: str, kept: tuple[int, ...], dtype: str) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype)


def load_then_delete(checkpoint: str, kept: tuple[int, ...], dtype: str) -> Any:
    import torch

    model = whole(checkpoint, kept, dtype)
    model.model.layers = torch.nn.ModuleList(model.model.layers[layer] for layer in kept)
    for new, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = new
    model.config.num_hidden_layers = len(kept)
    return model


def drop_on_load(checkpoint: str, kept: tuple[int, ...], dtype: str) -> Any:
    from transformers import AutoConfig

    from lm_eval_ext.pruning.loading import load_pruned

    return load_pruned(checkpoint, AutoConfig.from_pretrained(checkpoint), kept, dtype=dtype)


CASES = {"whole": whole, "load-then-delete": load_then_delete, "drop-on-load": drop_on_load}


def evict(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_mb() -> float:
    """Megabytes read from disk by this process."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["read_bytes"]) / 1e6


def peak_mb() -> float:
    """Highest resident memory so far, mapped files included."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    main()
