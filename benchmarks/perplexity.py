"""Perplexity of held-out text against the number of layers removed, for every method.

    python -m benchmarks.perplexity [CHECKPOINT] [--remove 1,2,3,4,6,8] [--plot depth.svg]

Layers are chosen with the embedded calibration texts; the held-out texts are by the same author (`held_out.txt`).
`random` is the geometric mean over five seeds; `laco` accepts any similarity, so that it reaches every depth.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from transformers import AutoConfig

from benchmarks.smollm2 import SMOLLM2
from lm_eval_ext.pruning.calibration import Calibration, calibration
from lm_eval_ext.pruning.checkpoint import NO_CHANGES
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.layers import mean_loss
from lm_eval_ext.pruning.loading import load_pruned
from lm_eval_ext.pruning.recipe import Recipe, kept_layers
from lm_eval_ext.pruning.selection import METHODS, choose

HELD_OUT = Path(__file__).with_name("held_out.txt")
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "random": [{"seed": seed} for seed in range(5)],
    "laco": [{"threshold": -1.0, "interval": 1, "merged": 2}],
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("checkpoint", nargs="?", default=str(SMOLLM2))
    arguments.add_argument("--remove", default="1,2,3,4,6,8")
    arguments.add_argument("--max-tokens", type=int, default=128)
    arguments.add_argument("--plot", type=Path)
    given = arguments.parse_args()
    counts = [int(count) for count in given.remove.split(",")]
    context = context_of(given.checkpoint, calibration(), given.max_tokens)
    print(f"{'':14}{'whole':>9}" + "".join(f"{count:>9}" for count in counts))
    rows: list[dict[str, Any]] = []
    whole = perplexity(context, None, given.max_tokens)
    for method in sorted(one for one in METHODS if one != "selection" and not METHODS[one].experts):
        chosen = [choose(context, method, counts, one) for one in VARIANTS.get(method, [{}])]
        found = [
            geometric_mean(perplexity(context, one[count], given.max_tokens) for one in chosen) for count in counts
        ]
        print(f"{method:14}{whole:9.1f}" + "".join(f"{value:9.1f}" for value in found), flush=True)
        rows += [
            {"method": method, "removed": count, "perplexity": value}
            for count, value in zip([0, *counts], [whole, *found], strict=True)
        ]
    if given.plot:
        plot(rows, given.plot)


def context_of(checkpoint: str, texts: Calibration, max_tokens: int) -> PruningContext:
    config = AutoConfig.from_pretrained(checkpoint)
    return PruningContext(checkpoint, config, lambda: texts, batch_size=4, max_tokens=max_tokens)


def perplexity(context: PruningContext, recipe: Recipe | None, max_tokens: int) -> float:
    held_out = context_of(context.pretrained, calibration(str(HELD_OUT)), max_tokens)
    kept = kept_layers(recipe.drop if recipe else (), context.depth)
    changes = recipe.changes if recipe else NO_CHANGES
    vars(held_out)["model"] = load_pruned(context.pretrained, context.config, kept, changes=changes).eval()
    return math.exp(mean_loss(held_out.model, held_out.batches()))


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    import altair

    chart = altair.Chart(altair.Data(values=rows), width=520, height=320)  # type: ignore[no-untyped-call]  # altair's own
    lines = chart.mark_line(point=True).encode(
        x="removed:O", y=altair.Y("perplexity:Q", scale=altair.Scale(type="log")), color="method:N"
    )
    lines.save(str(path))


if __name__ == "__main__":
    main()
