"""Data for comparing any two models in the browser: scores of single questions, and what must match."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import NormalDist

from lm_eval_ext.analysis.board import Board
from lm_eval_ext.analysis.costs import cache_bytes, flops
from lm_eval_ext.analysis.entries import Entry, Scored
from lm_eval_ext.analysis.matching import Property, properties, required
from lm_eval_ext.site.cost import tokens
from lm_eval_ext.site.found import FoundByBudget
from lm_eval_ext.site.names import ModelName, short_base
from lm_eval_ext.statistics.intervals import student_quantile

_LEVELS = [1 - 0.05 / rows for rows in range(1, 41)]  # of confidence: Holm's correction for up to 40 rows


def write_models(board: Board, names: Mapping[str, ModelName], path: Path) -> None:
    """Write the list of all models, and quantiles for their intervals.

    Quantiles are those of the normal distribution, and of Student's by number of questions, at 95% and at the levels of
    Holm's correction.
    """
    sizes = {len(task.scores) for run in board.runs for task in run.tasks.values() if task.scores}
    listed = [
        {
            "key": entry.key,
            "name": short_base(entry.base) if entry.dense else f"{short_base(entry.base)} {names[entry.key]}",
            "base": entry.base,
            "whole": entry.dense,
        }
        for entry in board.entries
    ]
    content = {
        "models": listed,
        "normal": [round(NormalDist().inv_cdf((1 + level) / 2), 12) for level in _LEVELS],
        "student": {size: _student(size) for size in sorted(sizes)},
    }
    path.write_text(f"lmtts.models({json.dumps(content)});\n", encoding="utf-8")


@cache
def _student(questions: int) -> list[float]:
    return [round(student_quantile(level, questions), 12) for level in _LEVELS]


def scores_script(board: Board, entry: Entry, found: Iterable[FoundByBudget]) -> str:
    """All results of a model, as a script.

    Args:
        board: all models.
        entry: the model.
        found: what became of its right answers, by benchmark.
    """
    results = [one for name in board.benchmarks for _, one in sorted(entry.results.get(name, {}).items())]
    content = {
        "key": entry.key,
        "properties": _listed(properties(entry.latest)),
        "tasks": [_task(board, one) for one in results],
        "found": [one.model_dump() for one in found],
    }
    return f"lmtts.scores({json.dumps(content, allow_nan=False)});\n"


def _task(board: Board, one: Scored) -> dict[str, object]:
    task, run = one.task, one.run
    count = tokens(task)
    return {
        "task": next(name for name, other in run.tasks.items() if other is task),
        "title": board.title(task.benchmark),
        "benchmark": task.benchmark,
        "budget": task.budget,
        "votes": task.votes,
        "run": run.id,
        "whole": not task.partial,
        "required": _listed(required(task, run)),
        "chance": task.guessing,
        "samples": task.repeats,
        "scores": [round(score, 9) for score in task.scores],
        "gated": task.gated or board.catalogue.is_gated(task.benchmark, task.dataset),
        "costs": {
            "tokens an answer": count,
            "forced": task.value("forced"),
            "repeating": task.value("looped"),
            "without an answer": None if (answered := task.value("answered")) is None else 1 - answered,
            "FLOPs an answer": None if count is None else flops(count, run.costs),
            "KV cache bytes": None if count is None else cache_bytes(count, run.costs),
        },
    }


def _listed(some: Sequence[Property]) -> list[tuple[str, str, bool]]:
    return [(one.what, one.value, one.recorded) for one in some]
