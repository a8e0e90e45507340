"""Heat maps: which questions each model answers, the easiest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lm_eval_ext.analysis.board import UNLIMITED, Board, Entry, KeptByKind, Position, Scored
from lm_eval_ext.runs.run import TaskResult
from lm_eval_ext.site.rendering import ModelName, Names, slug, unique
from lm_eval_ext.wording import limit

LEVELS = 9  # shades
MOST_ROWS = 150
RIBBON = 100  # questions from which on cells have no gaps


class Cells(NamedTuple):
    """A model's row.

    Attributes:
        entry, name, run, task: the model, its name, and the run and task of the scores.
        paths: a shade's number and the SVG path of its cells.
        right: for each question in the benchmark's order, the number of right samples of `of`, separated by commas.
        of: samples of a question.
        total: mean number of right questions; None if it has no cells.
        why: why it has none.
    """

    entry: Entry
    name: ModelName
    run: str
    task: str
    paths: Sequence[tuple[int, str]]
    right: str
    of: int
    total: float | None
    why: str = ""


class Losses(NamedTuple):
    """How many of the base's questions a model has lost."""

    base: str
    name: ModelName
    mostly: int
    never: int


class HeatMap(NamedTuple):
    """One page.

    Attributes:
        benchmark, place, path: what it is of, and its file.
        questions, set: number of questions, and their hash.
        order: indices of the questions, the easiest first.
        shares: mean accuracy of each over all models, in that order.
        groups: rows by base.
        gated: whether the questions must not be shown.
        left_out: number of models that are not shown.
        finding: the page's sentence; None if there is nothing to say.
    """

    benchmark: str
    place: Position
    path: str
    questions: int
    set: str
    order: Sequence[int]
    shares: Sequence[float]
    groups: Sequence[tuple[str, Sequence[Cells]]]
    gated: bool
    left_out: int
    finding: Losses | None

    @property
    def budget(self) -> str:
        """In words."""
        return limit(self.place.budget)


def heat_maps(board: Board, names: Names, kept: Mapping[str, KeptByKind]) -> list[HeatMap]:
    """One for each benchmark and budget with scores of single questions; the first is the one to begin with."""
    found = [
        _heat_map(board, names, kept, name, place)
        for name in sorted(board.benchmarks, key=lambda name: (name != board.ranked_by, board.catalogue.order(name)))
        for place in sorted(_places(board, name), key=lambda at: (at == UNLIMITED, -at.limit))
    ]
    maps = [one for one in found if one is not None]
    paths = unique([one.path for one in maps])
    renamed = [one._replace(path=path) for one, path in zip(maps, paths, strict=True)]
    return [renamed[0]._replace(path="questions.html"), *renamed[1:]] if maps else []


def _places(board: Board, benchmark: str) -> set[Position]:
    places = {at for entry in board.entries for at in entry.single.get(benchmark, {})}
    return {at for at in places if not at.votes}


def _heat_map(
    board: Board, names: Names, kept: Mapping[str, KeptByKind], benchmark: str, place: Position
) -> HeatMap | None:
    results = {e: one for e in board.entries if (one := e.single.get(benchmark, {}).get(place))}
    counted = Counter(_set(one.task) for one in results.values() if _usable(board, one.task))
    if not counted:
        return None
    questions, _ = counted.most_common(1)[0]
    whole = {e: one for e, one in results.items() if _usable(board, one.task) and _set(one.task) == questions}
    count = questions[1]
    shares = [sum(one.task.scores[index] for one in whole.values()) / len(whole) for index in range(count)]
    order = sorted(range(count), key=lambda index: (-shares[index], index))
    shown = _chosen(board, list(results))
    groups = [
        (
            base,
            [
                _cells(board, e, names[e.key], results[e], e in whole, order)
                for e in entries
                if e in results and e in shown
            ],
        )
        for base, entries in board.bases.items()
    ]
    task = next(iter(whole.values())).task
    path = f"questions-{slug(benchmark)}-{place.budget or 'all'}.html"
    return HeatMap(
        benchmark, place, path, count, questions[0], order,
        [shares[index] for index in order], [(base, rows) for base, rows in groups if rows],
        task.gated or board.catalogue.is_gated(benchmark, task.dataset), len(results) - len(shown),
        _finding(board, names, kept, whole),
    )  # fmt: skip


def _usable(board: Board, task: TaskResult) -> bool:
    return bool(task.scores and task.question_set) and not task.partial and not board.outdated(task)


def _set(task: TaskResult) -> tuple[str, int]:
    return task.question_set, len(task.scores)


def _chosen(board: Board, entries: Sequence[Entry]) -> set[Entry]:
    """At most `MOST_ROWS` of them: bases first, then as many of each base."""
    first = sorted(entries, key=lambda entry: (not entry.dense, board.bases[entry.base].index(entry)))
    return set(first[:MOST_ROWS])


def _cells(board: Board, entry: Entry, name: ModelName, one: Scored, whole: bool, order: Sequence[int]) -> Cells:
    task, run = one.task, one.run
    task_name = one.name
    if not whole:
        return Cells(entry, name, run.id, task_name, (), "", 0, None, _why_not(board, task))
    right = ",".join(str(round(score * task.repeats)) for score in task.scores)
    return Cells(entry, name, run.id, task_name, _paths(task.scores, order), right, task.repeats, sum(task.scores))


def _why_not(board: Board, task: TaskResult) -> str:
    if not task.scores or not task.question_set:
        return "no samples"
    if task.partial:
        return f"of {len(task.scores)}"
    return "older grader" if board.outdated(task) else "other questions"


def _paths(scores: Sequence[float], order: Sequence[int]) -> list[tuple[int, str]]:
    gap = 0.06 if len(order) <= RIBBON else 0.0
    width = round(1 - 2 * gap, 2)
    found: dict[int, list[str]] = {}
    for at, index in enumerate(order):
        level = _level(scores[index])
        found.setdefault(level, []).append(f"M{at + gap:g} 0h{width:g}v1h-{width:g}z")
    return [(level, "".join(cells)) for level, cells in sorted(found.items())]


def _level(score: float) -> int:
    """The shade of a score; only 0 has the palest one, and only 1 the darkest."""
    if score in (0, 1):
        return 0 if score == 0 else LEVELS - 1
    return min(LEVELS - 2, max(1, round(score * (LEVELS - 1))))


def _finding(
    board: Board, names: Names, kept: Mapping[str, KeptByKind], whole: Mapping[Entry, Scored]
) -> Losses | None:
    """For the first base with one: of its models that keep less than half of long reasoning, one with the fewest layers
    off, and of those the best.
    """
    for base, entries in board.bases.items():
        best_first = sorted(entries, key=lambda entry: kept[entry.key].standing, reverse=True)
        broken = min(
            (entry for entry in best_first if entry in whole and _keeps_less_than_half(kept[entry.key])),
            key=lambda entry: len(entry.latest.dropped), default=None,
        )  # fmt: skip
        dense = board.dense(broken) if broken else None
        if broken and dense and dense in whole:
            pairs = list(zip(whole[dense].task.scores, whole[broken].task.scores, strict=True))
            mostly = [(before, after) for before, after in pairs if before >= 0.5]
            if mostly:
                never = sum(after == 0 for _, after in mostly)
                return Losses(base, names[broken.key], len(mostly), never)
    return None


def _keeps_less_than_half(kept: KeptByKind) -> bool:
    return kept.long is not None and kept.entry.smaller and kept.long.interval.estimate < 0.5
