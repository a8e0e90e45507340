"""The demo's last words: accuracies at every thinking budget, whole model against pruned ones, and what they say.

python -m lm_eval_ext.testbed.comparison FOLDER
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

_BUDGET = re.compile(r"^(?P<benchmark>.+)_b(?P<budget>\d+)$")
WHOLE = "whole"


class Score(NamedTuple):
    """One accuracy."""

    model: str
    benchmark: str
    budget: int
    accuracy: float


def scores(folder: Path) -> list[Score]:
    """Of every budget variant in the results below `folder`."""
    found = []
    for path in sorted(folder.rglob("results_*.json")):
        results: dict[str, Any] = json.loads(path.read_text("utf-8"))
        model = _model(results["config"]["pruning"])
        for task, metrics in results["results"].items():
            if (match := _BUDGET.match(task)) and "acc,answer" in metrics:
                accuracy = float(metrics["acc,answer"])
                found.append(Score(model, match["benchmark"], int(match["budget"]), accuracy))
    return found


def _model(pruning: dict[str, Any]) -> str:
    dropped = pruning["dropped_layers"]
    return f"{pruning['method']}: without {', '.join(map(str, dropped))}" if dropped else WHOLE


def table(found: list[Score]) -> list[str]:
    """Lines: a row for each benchmark and model, a column for each budget."""
    budgets = sorted({score.budget for score in found})
    lines = [f"{'thinking tokens':44}" + "".join(f"{budget:>7}" for budget in budgets)]
    for benchmark in dict.fromkeys(score.benchmark for score in found):
        for model in sorted({score.model for score in found}, key=lambda name: (name != WHOLE, name)):
            at = {one.budget: one.accuracy for one in found if one[:2] == (model, benchmark)}
            cells = "".join(f"{at[budget]:7.2f}" if budget in at else f"{'':7}" for budget in budgets)
            lines.append(f"{benchmark:17}{model:27}{cells}")
    return lines


def reading(found: list[Score]) -> list[str]:
    """What is left of the whole model's accuracy at the largest budget, by model: a line each."""
    ordered = sorted(found, key=lambda score: score.budget)
    last = {(score.model, score.benchmark): score.accuracy for score in ordered}
    benchmarks = list(dict.fromkeys(score.benchmark for score in found))
    models = [model for model in dict.fromkeys(score.model for score in found) if model != WHOLE]
    return [
        f"{model} keeps "
        + ", ".join(
            f"{last[model, benchmark] / last[WHOLE, benchmark]:.0%} of {benchmark}"
            for benchmark in benchmarks
            if last.get((WHOLE, benchmark)) and (model, benchmark) in last
        )
        for model in models
    ]


def main() -> None:
    """Print table and reading."""
    folder = Path(sys.argv[1])
    found = scores(folder)
    print("\n" + "\n".join(table(found)) + "\n\n" + "\n".join(reading(found)))
    print(f"\nResults and every sample: {folder}")


if __name__ == "__main__":
    main()
