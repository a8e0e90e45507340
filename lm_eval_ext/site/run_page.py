"""Data of a run's page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from lm_eval_ext.analysis.board import Board
from lm_eval_ext.analysis.comparison import Difference, difference, kept, repeated_interval
from lm_eval_ext.analysis.entries import UNLIMITED, Entry, Scored, comparable, place
from lm_eval_ext.analysis.kept import kept_of
from lm_eval_ext.analysis.parts import parts_of, place_of
from lm_eval_ext.metrics import score_named
from lm_eval_ext.runs.run import Run, TaskResult
from lm_eval_ext.runs.samples import Sample
from lm_eval_ext.site.found import FoundByBudget
from lm_eval_ext.site.names import Names, measure
from lm_eval_ext.statistics.intervals import Interval

GRID_COLUMNS = 100
_BINS = 20


class Lengths(BaseModel):
    """How long the thinking about each question was: number of questions by mean tokens of its samples."""

    model_config = ConfigDict(frozen=True)

    widest: float
    counts: tuple[int, ...]


class FromSamples(BaseModel):
    """What a run's page shows of its samples.

    Attributes:
        files: number of data files by group of tasks.
        tasks: the tasks of each group.
        found: what became of right answers.
        lengths: by task.
        ids: of a task's questions, in their order, if they are not 0, 1, 2, ...
    """

    model_config = ConfigDict(frozen=True)

    files: dict[str, int] = {}
    tasks: dict[str, tuple[str, ...]] = {}
    found: tuple[FoundByBudget, ...] = ()
    lengths: dict[str, Lengths] = {}
    ids: dict[str, tuple[int, ...]] = {}


def lengths_of(rows: Sequence[Sample]) -> Lengths | None:
    """A histogram of thinking tokens; None if they were not recorded."""
    tokens = [row.metrics["thinking_tokens"] for row in rows if "thinking_tokens" in row.metrics]
    widest = max(tokens, default=0.0)
    if not widest:
        return None
    counts = [0] * _BINS
    for count in tokens:
        counts[min(_BINS - 1, int(_BINS * count / widest))] += 1
    return Lengths(widest=widest, counts=tuple(counts))


def run_page(board: Board, run: Run, names: Names) -> dict[str, object]:
    """Everything shown on the page of one run, but its samples."""
    entry = board.entry_of[run.id]
    dense = board.dense(entry)
    other = dense if dense is not entry else None
    metrics = list(dict.fromkeys(name for task in run.tasks.values() for name in task.metrics if _is_shown(name)))
    return {
        "run": run,
        "name": names[entry.key],
        "key": entry.key,
        "kept": kept_of(board, entry),
        "longest": _longest(run),
        "shares": [name for name in metrics if (one := score_named(name)) and one.unit == "share"],
        "others": [one for one in entry.runs if one is not run],
        "metrics": {name: measure(name) for name in metrics},
        "intervals": {name: Scored(task, run).interval for name, task in run.tasks.items()},
        "outdated": [name for name, task in run.tasks.items() if board.outdated(task)],
        "repeated": {name: repeated_interval(task) for name, task in run.tasks.items()},
        "against": dict(_against(run, other)) if other else {},
        "base_run": other.key if other else None,
        "grids": list(_grids(run)),
        "parts_of_tasks": _parts_of_tasks(run),
    }


PartTable = tuple[str, list[str], list[tuple[str, list[Interval | None]]]]


def _parts_of_tasks(run: Run) -> list[PartTable]:
    """For each benchmark and column: the column, the tasks, and the accuracies of each of its values by task."""
    found: dict[tuple[str, str], dict[str, dict[str, Interval]]] = {}
    for name, task in run.tasks.items():
        for part in parts_of(task):
            found.setdefault((task.benchmark, part.column), {}).setdefault(name, {})[part.value] = part.accuracy
    tables = []
    for (_, column), by_task in found.items():
        values = sorted({value for some in by_task.values() for value in some}, key=place_of)
        tables.append((column, list(by_task), [(v, [some.get(v) for some in by_task.values()]) for v in values]))
    return tables


def _longest(run: Run) -> set[str]:
    """For each benchmark, the task with the largest budget, whose thinking is the whole trace."""
    found: dict[str, str] = {}
    for name, task in sorted(run.tasks.items(), key=lambda pair: pair[1].budget or UNLIMITED):
        if not task.votes:
            found[task.benchmark] = name
    return set(found.values())


def _is_shown(metric: str) -> bool:
    score = score_named(metric)
    return metric != "acc" and (score is None or score.shown)


class Against(NamedTuple):
    """A result beside the base's at the same budget."""

    difference: Difference
    kept: Interval | None


def _against(run: Run, dense: Entry) -> Iterator[tuple[str, Against]]:
    for name, task in run.tasks.items():
        whole = dense.results.get(task.benchmark, {}).get(place(task))
        if whole and comparable(Scored(task, run), whole):
            yield name, Against(difference(task, whole.task), kept(task, whole.task))


class Grid(NamedTuple):
    """A square for each question, as SVG paths grouped by score."""

    task: str
    right: str
    partly: str
    wrong: str
    columns: int
    rows: int


def _grids(run: Run) -> Iterator[Grid]:
    for name, task in run.tasks.items():
        if task.scores:
            yield _grid(name, task)


def _grid(name: str, task: TaskResult) -> Grid:
    squares: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for index, score in enumerate(task.scores):
        at = f"M{index % GRID_COLUMNS} {index // GRID_COLUMNS}h.9v.9h-.9z"
        squares[2 if score == 1 else 0 if score == 0 else 1].append(at)
    right, partly, wrong = ("".join(squares[kind]) for kind in (2, 1, 0))
    rows = -(-len(task.scores) // GRID_COLUMNS)
    return Grid(name, right, partly, wrong, min(GRID_COLUMNS, len(task.scores)), rows)
