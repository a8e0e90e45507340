"""Studies as grids: a row for each model and pruning, a column for each task, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lm_eval_ext.runs.run import Run, TaskResult, variant_of
from lm_eval_ext.runs.study_file import StudyFile, StudyRun


@dataclass(frozen=True)
class Cell:
    """A model on a task.

    Attributes:
        score: accuracy, or maj@k where samples vote; the mean over the seeds that are there, None if none is.
        done, planned: number of seeds.
        run: id of the first run; None if none is there.
        state: of the first run that is missing; empty if none is.
    """

    score: float | None
    done: int
    planned: int
    run: str | None
    state: str


@dataclass(frozen=True)
class StudyGrid:
    """A study to be shown.

    Attributes:
        name: of the study.
        columns: by benchmark, in order, what is shown of it: budgets, votes, or its accuracy.
        rows: model, pruning, and a cell for each task; None where that isn't part of the study.
        done, planned: number of runs.
    """

    name: str
    columns: Sequence[tuple[str, Sequence[str]]]
    rows: Sequence[tuple[str, str, Sequence[Cell | None]]]
    done: int
    planned: int


def grid(study: StudyFile, runs: Mapping[str, Run]) -> StudyGrid:
    """The grid of a study.

    Args:
        study: the study.
        runs: all runs of the site, by id.
    """
    named = list(dict.fromkeys(task for one in study.runs for task in one.tasks))
    benchmarks = {variant_of(task)[0]: [other for other in named if _same(task, other)] for task in named}
    tasks = [task for some in benchmarks.values() for task in some]
    columns = [(benchmark, [_label(task) for task in some]) for benchmark, some in benchmarks.items()]
    kinds = list(dict.fromkeys((one.model, one.pruning) for one in study.runs))
    rows = []
    for model, pruning in kinds:
        mine = [one for one in study.runs if (one.model, one.pruning) == (model, pruning)]
        rows.append((model, pruning, [_cell([one for one in mine if task in one.tasks], task, runs) for task in tasks]))
    return StudyGrid(study.name, columns, rows, sum(_is_there(one, runs) for one in study.runs), len(study.runs))


def _same(task: str, other: str) -> bool:
    return variant_of(task)[0] == variant_of(other)[0]


def _label(task: str) -> str:
    """What a column shows: a budget, votes, or the accuracy."""
    benchmark, budget, votes = variant_of(task)
    if budget is not None:
        return str(budget)
    return task.replace(f"{benchmark}_maj", "maj@") if votes else "accuracy"


def _is_there(one: StudyRun, runs: Mapping[str, Run]) -> bool:
    return one.run is not None and one.run in runs


def _score(task: TaskResult) -> float | None:
    return task.value(f"maj@{task.repeats}") if task.votes else task.accuracy.value


def _cell(planned: Sequence[StudyRun], task: str, runs: Mapping[str, Run]) -> Cell | None:
    if not planned:
        return None
    there = [runs[one.run] for one in planned if one.run is not None and one.run in runs]
    scores = [found for run in there if task in run.tasks and (found := _score(run.tasks[task])) is not None]
    missing = next((one.state for one in planned if not _is_there(one, runs)), "")
    score = sum(scores) / len(scores) if scores else None
    return Cell(score, len(scores), len(planned), there[0].id if there else None, missing)
