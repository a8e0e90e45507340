"""Data of a run's page, and all numbers as flat records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lm_eval_ext.analysis.board import Board
from lm_eval_ext.analysis.comparison import Difference, difference, repeated_interval
from lm_eval_ext.analysis.entries import Entry, Scored, comparable, place
from lm_eval_ext.grading.metrics import score_named
from lm_eval_ext.runs.run import Run


def run_page(board: Board, run: Run) -> dict[str, object]:
    """Everything shown on the page of one run."""
    entry = board.entry_of[run.id]
    dense = board.dense(entry)
    metrics = list(dict.fromkeys(name for task in run.tasks.values() for name in task.metrics if _is_shown(name)))
    return {
        "run": run,
        "label": entry.label,
        "others": [other for other in entry.runs if other is not run],
        "metrics": metrics,
        "intervals": {name: Scored(task, run).interval for name, task in run.tasks.items()},
        "outdated": [name for name, task in run.tasks.items() if board.outdated(task)],
        "repeated": {name: repeated_interval(task) for name, task in run.tasks.items()},
        "differences": dict(_against(run, dense)) if dense and dense is not entry else {},
        "grids": list(_grids(run)),
    }


def _is_shown(metric: str) -> bool:
    score = score_named(metric)
    return score is None or score.shown


def _against(run: Run, dense: Entry) -> Iterator[tuple[str, Difference]]:
    """The difference to the dense model's result at the same budget, by task."""
    for name, task in run.tasks.items():
        whole = dense.results.get(task.benchmark, {}).get(place(task))
        if whole and comparable(task, whole.task):
            yield name, difference(task, whole.task)


class Grid(NamedTuple):
    """A square for each question, as SVG paths grouped by score."""

    task: str
    right: str
    partly: str
    wrong: str
    columns: int
    rows: int


GRID_COLUMNS = 100


def _grids(run: Run) -> Iterator[Grid]:
    for name, task in run.tasks.items():
        if task.scores:
            squares: dict[int, list[str]] = {0: [], 1: [], 2: []}
            for index, score in enumerate(task.scores):
                at = f"M{index % GRID_COLUMNS} {index // GRID_COLUMNS}h.9v.9h-.9z"
                squares[2 if score == 1 else 0 if score == 0 else 1].append(at)
            rows = -(-len(task.scores) // GRID_COLUMNS)
            right, partly, wrong = ("".join(squares[kind]) for kind in (2, 1, 0))
            yield Grid(name, right, partly, wrong, min(GRID_COLUMNS, len(task.scores)), rows)


def flat(board: Board) -> list[dict[str, object]]:
    """One record per run, task and metric, for CSV and JSON."""
    return [
        {
            "base": run.base, "model": board.entry_of[run.id].label, "run": run.id, "tier": run.tier, "date": run.date,
            "method": run.pruning.method if run.pruning else "", "dropped": " ".join(map(str, run.dropped)),
            "benchmark": task.benchmark, "task": name, "budget": task.budget, "repeats": task.repeats,
            "questions": task.questions, "of": task.of, "metric": metric, "value": score.value, "stderr": score.stderr,
        }
        for run in board.runs
        for name, task in sorted(run.tasks.items())
        for metric, score in sorted(task.metrics.items())
    ]  # fmt: skip
