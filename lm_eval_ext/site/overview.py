"""The overview page: a table with one row per model and one column per benchmark, and the sentences above it."""

from __future__ import annotations

from typing import NamedTuple

from lm_eval_ext.analysis.board import Board
from lm_eval_ext.analysis.comparison import difference
from lm_eval_ext.analysis.entries import Entry, Scored


class Cell(NamedTuple):
    """A score in the overview; its retention of the dense score is at the largest budget that both have."""

    value: float
    low: float
    high: float
    retention: float | None
    differs: bool
    partial: bool
    outdated: bool


def overview(board: Board) -> dict[str, object]:
    """The table: one row per entry, one column per benchmark."""
    kinds = [board.catalogue.benchmark(name).kind for name in board.benchmarks]
    return {
        "columns": board.benchmarks,
        "kinds": [(board.catalogue.kinds[kind], kinds.count(kind)) for kind in dict.fromkeys(kinds)],
        "rows": [_row(board, entry) for entry in board.entries],
        "ranked_by": board.ranked_by,
        "methods": sorted({entry.method for entry in board.entries if not entry.dense}),
        "reading": reading(board),
    }


def _row(board: Board, entry: Entry) -> dict[str, object]:
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
    """The first accuracy as a fraction of the second; None if the second is 0."""
    ours, theirs = (one.task.accuracy.value for one in pair)
    return ours / theirs if theirs > 0 else None


def _differ(pair: tuple[Scored, Scored]) -> bool:
    return difference(pair[0].task, pair[1].task).separable


class Loss(NamedTuple):
    """A pruned model with its best retained short benchmark and its worst retained long benchmark."""

    entry: Entry
    short: str
    short_kept: float
    long: str
    long_kept: float

    @property
    def gap(self) -> float:
        """Difference between what is retained of the short and of the long benchmark."""
        return self.short_kept - self.long_kept


def reading(board: Board) -> list[str]:
    """A sentence for each base with a pruned model that lost significantly on long tasks, and less on short ones."""
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
