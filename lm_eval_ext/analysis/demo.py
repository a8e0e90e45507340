"""The demo's last words: accuracies at every thinking budget, base model against pruned ones, and what they say.

python -m lm_eval_ext.analysis.demo FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import load
from lm_eval_ext.runs.run import Run

WHOLE = "whole"


class BudgetScore(NamedTuple):
    """One accuracy."""

    model: str
    benchmark: str
    budget: int
    accuracy: float


def scores(folder: Path) -> list[BudgetScore]:
    """Of every budget variant in the results below `folder`."""
    runs = sorted((source.run for source in load([folder], read_catalogue())), key=lambda run: run.date)
    return [
        BudgetScore(_model(run), task.benchmark, task.budget, task.accuracy.value)
        for run in runs
        for task in run.tasks.values()
        if task.budget
    ]


def _model(run: Run) -> str:
    method = run.pruning.method if run.pruning else ""
    return f"{method}: without {', '.join(map(str, run.dropped))}" if run.dropped else WHOLE


def table(found: list[BudgetScore]) -> list[str]:
    """Lines: a row for each benchmark and model, a column for each budget."""
    budgets = sorted({score.budget for score in found})
    lines = [f"{'thinking tokens':44}" + "".join(f"{budget:>7}" for budget in budgets)]
    for benchmark in dict.fromkeys(score.benchmark for score in found):
        for model in sorted({score.model for score in found}, key=lambda name: (name != WHOLE, name)):
            at = {one.budget: one.accuracy for one in found if one[:2] == (model, benchmark)}
            cells = "".join(f"{at[budget]:7.2f}" if budget in at else f"{'':7}" for budget in budgets)
            lines.append(f"{benchmark:17}{model:27}{cells}")
    return lines


def reading(found: list[BudgetScore]) -> list[str]:
    """What is left of the base model's accuracy at the largest budget, by model: a line each."""
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
