"""Data for comparing any two models in the browser: scores of single questions, and what must match."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist

from lm_eval_ext.analysis.board import Board
from lm_eval_ext.analysis.costs import cache_bytes, flops
from lm_eval_ext.analysis.entries import Entry, Scored
from lm_eval_ext.analysis.matching import Property, properties, required
from lm_eval_ext.site.cost import tokens
from lm_eval_ext.site.found import FoundByBudget
from lm_eval_ext.site.rendering import Names
from lm_eval_ext.statistics.intervals import student_quantile


def write_models(board: Board, names: Names, path: Path) -> None:
    """Write the list of all models, and quantiles for their intervals.

    Quantiles are those of the normal distribution, and of Student's by number of questions, at 95% and at the levels of
    Holm's correction.
    """
    levels = [1 - 0.05 / rows for rows in range(1, len(board.benchmarks) + 1)]
    sizes = {len(task.scores) for run in board.runs for task in run.tasks.values() if task.scores}
    listed = [
        {
            "key": entry.key,
            "name": names.full(entry),
            "base": entry.base,
            "whole": entry.whole,
            "control": entry.latest.control,
            "asked": entry.latest.asked,
        }
        for entry in board.entries
    ]
    content = {
        "models": listed,
        "normal": [round(NormalDist().inv_cdf((1 + level) / 2), 12) for level in levels],
        "student": {size: [round(student_quantile(level, size), 12) for level in levels] for size in sorted(sizes)},
    }
    path.write_text(f"lmtts.models({json.dumps(content)});\n", encoding="utf-8")


def scores_script(
    board: Board, entry: Entry, found: Iterable[FoundByBudget], ids: Mapping[str, Mapping[str, Sequence[int]]]
) -> str:
    """All results of a model, as a script.

    Args:
        board: all models.
        entry: the model.
        found: what became of its right answers, by benchmark.
        ids: of the questions of each run and task, where they are not 0, 1, 2, ...
    """
    results = [one for name in board.benchmarks for _, one in sorted(entry.results.get(name, {}).items())]
    content = {
        "key": entry.key,
        "properties": _listed(properties(entry.latest)),
        "tasks": [_task(board, one, ids) for one in results],
        "found": [one.model_dump() for one in found],
    }
    return f"lmtts.scores({json.dumps(content, allow_nan=False)});\n"


def _task(board: Board, one: Scored, ids: Mapping[str, Mapping[str, Sequence[int]]]) -> dict[str, object]:
    task, run = one.task, one.run
    count, name = tokens(task), one.name
    return {
        "task": run.asked_name(name),
        "ids": list(ids.get(run.id, {}).get(name, ())),
        "title": board.title(task.benchmark),
        "benchmark": task.benchmark,
        "budget": task.budget,
        "votes": task.votes,
        "run": run.id,
        "required": _listed(required(task, run)),
        "chance": task.guessing,
        "samples": task.repeats,
        "scores": [round(score, 9) for score in task.scores],
        "gated": task.gated or board.catalogue.is_gated(task.benchmark, task.dataset),
        "costs": {
            "tokens per answer": count,
            "forced": task.value("forced"),
            "repeating": task.value("looped"),
            "without an answer": None if (answered := task.value("answered")) is None else 1 - answered,
            "FLOPs per answer": None if count is None else flops(count, run.costs),
            "KV cache bytes": None if count is None else cache_bytes(count, run.costs),
        },
    }


def _listed(some: Sequence[Property]) -> list[tuple[str, str, bool, str]]:
    return [(one.what, one.value, one.recorded, one.shown) for one in some]
