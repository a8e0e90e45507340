"""Prints the demo's summary: accuracies of base and pruned models at every thinking budget.

python -m examples.demo FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import load
from lm_eval_ext.runs.run import Run

WHOLE = "base"


class BudgetScore(NamedTuple):
    """One accuracy, of a model on a benchmark at a budget."""

    model: str
    benchmark: str
    budget: int
    accuracy: float


def scores(folder: Path) -> list[BudgetScore]:
    """Accuracies of every budget variant in the results below `folder`."""
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
    """The lines of a table: a row per benchmark and model, a column per budget."""
    budgets = sorted({score.budget for score in found})
    lines = [f"{'thinking tokens':44}" + "".join(f"{budget:>7}" for budget in budgets)]
    for benchmark in dict.fromkeys(score.benchmark for score in found):
        for model in sorted({score.model for score in found}, key=lambda name: (name != WHOLE, name)):
            at = {one.budget: one.accuracy for one in found if one[:2] == (model, benchmark)}
            cells = "".join(f"{at[budget]:7.2f}" if budget in at else f"{'':7}" for budget in budgets)
            lines.append(f"{benchmark:17}{model:27}{cells}")
    return lines


def reading(found: list[BudgetScore]) -> list[str]:
    """How much of the base model's accuracy each model keeps at the largest budget, one line per model."""
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
    """Print the table and the summary."""
    folder = Path(sys.argv[1])
    found = scores(folder)
    print("\n" + "\n".join(table(found)) + "\n\n" + "\n".join(reading(found)))
    print(f"\nResults and all samples: {folder}")


if __name__ == "__main__":
    main()
