"""All models of a leaderboard side by side: the overview, its ranks, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

from lm_eval_ext.site.catalogue import Catalogue
from lm_eval_ext.site.run import Run, TaskResult
from lm_eval_ext.site.stats import Rank, difference, ranks
from lm_eval_ext.site.table import UNLIMITED, Entry, Scored, entries, protocol, revision, side_by_side


class Board:
    """All entries of a site, their benchmarks in order, and who is whose dense base."""

    def __init__(self, runs: Sequence[Run], catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.runs = list(runs)
        self.entries = entries(runs)
        self.entry_of = {run.id: entry for entry in self.entries for run in entry.runs}
        self._dense = {(entry.base, revision(entry.latest)): entry for entry in self.entries if entry.dense}

    @cached_property
    def benchmarks(self) -> list[str]:
        """Every benchmark that a run has, in the catalogue's order."""
        found = {task.benchmark for run in self.runs for task in run.tasks.values()}
        return sorted(found, key=self.catalogue.order)

    @cached_property
    def bases(self) -> dict[str, list[Entry]]:
        """Entries by their base."""
        grouped: dict[str, list[Entry]] = {}
        for entry in self.entries:
            grouped.setdefault(entry.base, []).append(entry)
        return grouped

    def dense(self, entry: Entry) -> Entry | None:
        """The whole model of an entry's base, at its revision."""
        return self._dense.get((entry.base, revision(entry.latest)))

    def beside_dense(self, entry: Entry, benchmark: str) -> tuple[Scored, Scored] | None:
        """An entry's result and its dense model's, at the largest budget that both have whole."""
        dense = self.dense(entry)
        return side_by_side(entry, dense, benchmark) if dense and dense is not entry else None

    def outdated(self, task: TaskResult) -> bool:
        """Whether others of its benchmark were graded by a newer version, with which it is not compared."""
        return (task.graded_by or 0) < self._graders[task.benchmark]

    @cached_property
    def _graders(self) -> dict[str, int]:
        """The newest version of the grader, by benchmark."""
        found: dict[str, int] = {}
        for task in (task for run in self.runs for task in run.tasks.values()):
            found[task.benchmark] = max(found.get(task.benchmark, 0), task.graded_by or 0)
        return found

    def title(self, benchmark: str) -> str:
        """A benchmark's title."""
        return self.catalogue.benchmark(benchmark).title

    @cached_property
    def ranked_by(self) -> str | None:
        """The benchmark of the ranks: the first declared one that two entries have whole."""
        return next((name for name in self.catalogue.rank_by if len(self._whole(name)) > 1), None)

    @cached_property
    def ranked(self) -> dict[str, TaskResult]:
        """By entry, the result that it is ranked by: all at one budget, asked in one way."""
        return self._whole(self.ranked_by) if self.ranked_by else {}

    @cached_property
    def ranks(self) -> dict[str, Rank]:
        """By entry."""
        return ranks(self.ranked) if self.ranked else {}

    @property
    def ranked_at(self) -> str:
        """The benchmark and the budget of the ranks, for a sentence."""
        budget = next((task.budget for task in self.ranked.values()), None)
        at = f" at {budget:,} thinking tokens" if budget else ""
        return f"{self.title(self.ranked_by)}{at}" if self.ranked_by else ""

    def _whole(self, benchmark: str) -> dict[str, TaskResult]:
        """Whole results by entry, at the place and in the way of asking that most have."""
        found: dict[tuple[int, tuple[int, int, bool]], dict[str, TaskResult]] = {}
        for entry in self.entries:
            for at, one in entry.results.get(benchmark, {}).items():
                if at <= UNLIMITED and not one.task.partial:
                    found.setdefault((at, protocol(one.task)), {})[entry.key] = one.task
        return found[max(found, key=lambda place: (len(found[place]), place))] if found else {}


class Cell(NamedTuple):
    """A score of the overview; what is left of the dense model's is at the largest budget that both have."""

    value: float
    low: float
    high: float
    retention: float | None
    differs: bool
    partial: bool
    outdated: bool


def overview(board: Board) -> dict[str, Any]:
    """One row for each entry, one column for each benchmark."""
    kinds = [board.catalogue.benchmark(name).kind for name in board.benchmarks]
    return {
        "columns": board.benchmarks,
        "kinds": [(board.catalogue.kinds[kind], kinds.count(kind)) for kind in dict.fromkeys(kinds)],
        "rows": [_row(board, entry) for entry in board.entries],
        "ranked_by": board.ranked_by,
        "methods": sorted({entry.method for entry in board.entries if not entry.dense}),
        "reading": reading(board),
    }


def _row(board: Board, entry: Entry) -> dict[str, Any]:
    shown = [entry.best(name) for name in board.benchmarks]
    ranked = board.ranked.get(entry.key)
    return {
        "entry": entry,
        "run": entry.latest,
        "cells": [_cell(board, entry, name, one) for name, one in zip(board.benchmarks, shown, strict=True)],
        "rank": board.ranks.get(entry.key),
        "thinking": ranked.value("thinking_tokens") if ranked else None,
        "tier": entry.tier(shown),
    }


def _cell(board: Board, entry: Entry, benchmark: str, best: Scored | None) -> Cell | None:
    if best is None:
        return None
    pair = board.beside_dense(entry, benchmark)
    kept = _retention(pair) if pair else None
    return Cell(*best.interval, kept, pair is not None and _differ(pair), best.task.partial, board.outdated(best.task))


def _retention(pair: tuple[Scored, Scored]) -> float | None:
    """What is left of the second's accuracy in the first; None if that is nothing to speak of."""
    ours, theirs = (one.task.accuracy.value for one in pair)
    return ours / theirs if theirs > 0 else None


def _differ(pair: tuple[Scored, Scored]) -> bool:
    return difference(pair[0].task, pair[1].task).separable


class Loss(NamedTuple):
    """A pruned model, what is left of its best kept benchmark of short tasks, and of its worst kept of long ones."""

    entry: Entry
    short: str
    short_kept: float
    long: str
    long_kept: float

    @property
    def gap(self) -> float:
        """How much more of the short than of the long is left."""
        return self.short_kept - self.long_kept


def reading(board: Board) -> list[str]:
    """A sentence for each base of which a pruned model certainly lost on long tasks, and less on short ones."""
    said = []
    for base, group in board.bases.items():
        losses = [loss for entry in group if (loss := _loss(board, entry)) and loss.gap > 0]
        if losses:
            worst = max(losses, key=lambda loss: loss.gap)
            pruning = worst.entry.latest.pruning
            said.append(
                f"{base} without {len(worst.entry.latest.dropped)} of {pruning.depth if pruning else 0} layers "
                f"({worst.entry.label}) keeps {worst.short_kept:.0%} of {board.title(worst.short)} and "
                f"{worst.long_kept:.0%} of {board.title(worst.long)}."
            )
    return said[:3]


def _loss(board: Board, entry: Entry) -> Loss | None:
    pairs = {name: pair for name in board.benchmarks if (pair := board.beside_dense(entry, name))}
    kept = {name: share for name, pair in pairs.items() if (share := _retention(pair)) is not None}
    kinds = {name: board.catalogue.benchmark(name).kind for name in kept}
    short = [name for name, kind in kinds.items() if kind in ("knowledge", "shallow")]
    long = [name for name, kind in kinds.items() if kind == "long" and _differ(pairs[name])]
    if not short or not long or not entry.latest.dropped:
        return None
    best, worst = max(short, key=lambda name: kept[name]), min(long, key=lambda name: kept[name])
    return Loss(entry, best, kept[best], worst, kept[worst])
