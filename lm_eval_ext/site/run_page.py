"""Data of a run's page."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from lm_eval_ext.analysis.board import Board, Entry, Scored, comparable, kept_of, place
from lm_eval_ext.analysis.comparison import Difference, difference, kept, repeated_interval
from lm_eval_ext.analysis.parts import parts_of, place_of
from lm_eval_ext.metrics import score_named
from lm_eval_ext.paths import LEADERBOARD, digest, read_json_object
from lm_eval_ext.runs.load import SITE_MARK, Source
from lm_eval_ext.runs.publish import is_gated
from lm_eval_ext.runs.run import Run, TaskResult, accuracy_interval
from lm_eval_ext.runs.samples import Sample, without_texts
from lm_eval_ext.site.rendering import Names, Renderer, measure
from lm_eval_ext.site.traces import FoundByBudget, found_by_budget, groups_of, write_traces
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
        "intervals": {name: accuracy_interval(task) for name, task in run.tasks.items()},
        "outdated": [name for name, task in run.tasks.items() if board.outdated(task)],
        "repeated": {name: repeated_interval(task) for name, task in run.tasks.items()},
        "against": dict(_against(run, other)) if other else {},
        "base_run": other.key if other else None,
        "grids": [_grid(name, task) for name, task in run.tasks.items() if task.scores],
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
    for name, task in sorted(run.tasks.items(), key=lambda pair: pair[1].budget or math.inf):
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


def _grid(name: str, task: TaskResult) -> Grid:
    squares: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for index, score in enumerate(task.scores):
        at = f"M{index % GRID_COLUMNS} {index // GRID_COLUMNS}h.9v.9h-.9z"
        squares[2 if score == 1 else 0 if score == 0 else 1].append(at)
    right, partly, wrong = ("".join(squares[kind]) for kind in (2, 1, 0))
    rows = -(-len(task.scores) // GRID_COLUMNS)
    return Grid(name, right, partly, wrong, min(GRID_COLUMNS, len(task.scores)), rows)


_OF_SAMPLES = "samples.json"


@dataclass(frozen=True)
class Earlier:
    """A site built before: its folder, the code of this build, and what its files were made from, by run."""

    folder: Path
    code: str
    stamps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Earlier:
        """The site in a folder; without stamps if there is none, or none that this version can use."""
        stamps = read_json_object(folder / SITE_MARK).get("runs")
        return cls(folder, code_hash(), stamps if isinstance(stamps, dict) else {})

    def has(self, run: str, kind: str, stamp: str) -> bool:
        """Whether its files of this kind were made from the same."""
        return self.stamps.get(run, {}).get(kind) == stamp

    def made_from(self, run: str, stamps: Mapping[str, str]) -> bool:
        """Whether all of its files were made from the same."""
        return all(self.has(run, kind, stamp) for kind, stamp in stamps.items())


def write_run(
    source: Source, out: Path, renderer: Renderer, board: Board, names: Names, earlier: Earlier
) -> tuple[dict[str, str], FromSamples]:
    """Write a run's files; returns what they were made from, and what its samples say."""
    run, folder = source.run, out / "runs" / source.run.id
    folder.mkdir(parents=True)
    stamps = {
        "samples": _samples_stamp(source, earlier.code), "page": _page_stamp(run, board, names, earlier.code)
    }  # fmt: skip
    before = earlier.folder / "runs" / run.id
    of_samples = _linked(before, folder) if earlier.has(run.id, "samples", stamps["samples"]) else None
    if of_samples is None:
        of_samples = _written(source, folder)
    if earlier.made_from(run.id, stamps) and link(before, folder, ["index.html", "run.json"]):
        return stamps, of_samples
    (folder / "run.json").write_text(run.model_dump_json(indent=1) + "\n", encoding="utf-8")
    page = run_page(board, run, names)
    renderer.write("run.html", f"runs/{run.id}/index.html", **page, of_samples=of_samples)
    return stamps, of_samples


def code_hash() -> str:
    """A hash of all code, templates and assets that pages are made by."""
    package = Path(__file__).parents[1]
    files = [*package.rglob("*.py"), *package.rglob("*.yaml"), *LEADERBOARD.glob("[ta]*/*")]
    content = b"".join(file.read_bytes() for file in sorted(set(files)))
    return hashlib.sha256(content).hexdigest()


def _samples_stamp(source: Source, code: str) -> str:
    run = source.run
    tasks = {
        name: (task.budget, task.votes, task.partial, task.question_set, is_gated(source, name))
        for name, task in run.tasks.items()
    }
    return digest([code, run.samples, run.thinking_format, tasks])


def _page_stamp(run: Run, board: Board, names: Names, code: str) -> str:
    entry = board.entry_of[run.id]
    dense = board.dense(entry)
    related = [*entry.runs, *(dense.runs if dense else ())]
    outdated = [name for name, task in run.tasks.items() if board.outdated(task)]
    catalogue, hashes = _hashes(board)
    of_runs = [hashes[one.id] for one in (run, *related)]
    return digest([code, catalogue, len(board.benchmarks), names.base(entry.base), names[entry.key], outdated, of_runs])


@lru_cache(maxsize=1)
def _hashes(board: Board) -> tuple[str, Mapping[str, str]]:
    """Hashes of the catalogue, and of each run by its id: a base's run is part of the stamps of all its models."""
    runs = {run.id: hashlib.sha256(run.model_dump_json().encode()).hexdigest() for run in board.runs}
    return digest(board.catalogue.model_dump_json()), runs


def _linked(before: Path, folder: Path) -> FromSamples | None:
    """Link the traces of an earlier build; None if they are not there."""
    try:
        found = FromSamples.model_validate_json((before / _OF_SAMPLES).read_text("utf-8"))
    except (OSError, ValidationError):
        return None
    files = [f"traces/{group}-{number}.js" for group, count in found.files.items() for number in range(count)]
    return found if link(before, folder, [_OF_SAMPLES, *files]) else None


def link(before: Path, folder: Path, names: Sequence[str]) -> bool:
    """Link files, which no build ever changes in place; False if one is missing or the disk can't link."""
    if not all((before / name).is_file() for name in names):
        return False
    try:
        for parent in {(folder / name).parent for name in names}:
            parent.mkdir(exist_ok=True)
        for name in names:
            os.link(before / name, folder / name)
    except OSError:
        return False
    return True


def _written(source: Source, folder: Path) -> FromSamples:
    """Write the traces, and say what the samples show; reads the samples of one group at a time."""
    run = source.run
    found: list[FoundByBudget] = []
    lengths: dict[str, Lengths] = {}
    files: dict[str, int] = {}
    ids: dict[str, tuple[int, ...]] = {}
    groups = groups_of(run.tasks, sorted(run.samples))
    for group in groups:
        rows = {name: _shown(source, name) for name in group.tasks}
        files[group.name] = write_traces(source, group, rows, folder / "traces")
        lengths |= {name: one for name in group.tasks if (one := lengths_of(rows[name]))}
        ids |= {name: some for name in group.tasks if (some := _unusual_ids(rows[name]))}
        if (of_budgets := found_by_budget(group, run, rows)) is not None:
            found.append(of_budgets)
    made = FromSamples(
        files=files, tasks={group.name: tuple(group.tasks) for group in groups}, found=tuple(found), lengths=lengths,
        ids=ids,
    )  # fmt: skip
    (folder / _OF_SAMPLES).write_text(made.model_dump_json() + "\n", encoding="utf-8")
    return made


def _unusual_ids(rows: Sequence[Sample]) -> tuple[int, ...]:
    """Ids of the questions, if they are not simply 0, 1, 2, ..."""
    found = tuple(row.id for row in rows)
    return () if found == tuple(range(len(rows))) else found


def _shown(source: Source, task: str) -> list[Sample]:
    """The samples of a task; of a gated one without texts, whatever the published file holds."""
    samples = source.samples(task)
    return [without_texts(sample) for sample in samples] if is_gated(source, task) else samples
