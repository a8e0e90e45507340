"""What each page shows, as plain values for the templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from lm_eval_ext.intervals import normal_interval
from lm_eval_ext.site.catalogue import Catalogue
from lm_eval_ext.site.charts import Point, colours
from lm_eval_ext.site.run import Run, TaskResult
from lm_eval_ext.site.stats import Difference, Rank, difference, ranks
from lm_eval_ext.site.table import Entry, Scored, entries, retention

MOST_LINES = 12  # of a chart; the rest are in its table


class Board:
    """All entries of a site, their benchmarks in order, and who is whose dense base."""

    def __init__(self, runs: Sequence[Run], catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.runs = list(runs)
        self.entries = entries(runs)
        self.entry_of = {run.id: entry for entry in self.entries for run in entry.runs}
        self._dense = {entry.base: entry for entry in self.entries if entry.dense}

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
        """The whole model of an entry's base."""
        return self._dense.get(entry.base)

    def title(self, benchmark: str) -> str:
        """A benchmark's title."""
        return self.catalogue.benchmark(benchmark).title

    @cached_property
    def ranked_by(self) -> str | None:
        """The benchmark of the ranks: the first declared one that two entries have whole."""
        return next((name for name in self.catalogue.rank_by if len(self._whole(name)) > 1), None)

    @cached_property
    def ranks(self) -> dict[str, Rank]:
        """By entry."""
        return ranks(self._whole(self.ranked_by)) if self.ranked_by else {}

    def _whole(self, benchmark: str) -> dict[str, TaskResult]:
        best = {entry.key: entry.best(benchmark) for entry in self.entries}
        found = {key: one.task for key, one in best.items() if one is not None and not one.task.partial}
        budgets = [task.budget for task in found.values()]
        usual = max(set(budgets), key=lambda budget: (budgets.count(budget), budget or 0)) if budgets else None
        return {key: task for key, task in found.items() if task.budget == usual}


class Cell(NamedTuple):
    """A score of the overview."""

    value: float
    low: float
    high: float
    retention: float | None
    differs: bool
    partial: bool


def overview(board: Board) -> dict[str, Any]:
    """One row for each entry, one column for each benchmark."""
    kinds = [board.catalogue.benchmark(name).kind for name in board.benchmarks]
    return {
        "columns": board.benchmarks,
        "kinds": [(board.catalogue.kinds[kind], kinds.count(kind)) for kind in dict.fromkeys(kinds)],
        "rows": [_row(board, entry) for entry in board.entries],
        "ranked_by": board.ranked_by,
        "methods": sorted({entry.latest.pruning.method for entry in board.entries if entry.latest.pruning}),
        "reading": reading(board),
    }


def _row(board: Board, entry: Entry) -> dict[str, Any]:
    ranked = entry.best(board.ranked_by) if board.ranked_by else None
    return {
        "entry": entry,
        "run": entry.latest,
        "cells": [_cell(board, entry, name) for name in board.benchmarks],
        "rank": board.ranks.get(entry.key),
        "thinking": ranked.task.value("thinking_tokens") if ranked else None,
        "parameters": entry.latest.pruning.parameters_after if entry.latest.pruning else None,
        "tier": max((run.tier for run in entry.runs), key=("reported", "verified", "reproduced").index),
    }


def _cell(board: Board, entry: Entry, benchmark: str) -> Cell | None:
    best, dense = entry.best(benchmark), board.dense(entry)
    if best is None:
        return None
    whole = dense.best(benchmark) if dense and dense is not entry else None
    differs = whole is not None and whole.task.budget == best.task.budget and _differ(best, whole)
    kept = retention(entry, dense, benchmark) if whole else None
    return Cell(*best.interval, kept, differs, best.task.partial)


def _differ(one: Scored, other: Scored) -> bool:
    return difference(one.task, other.task).separable


def reading(board: Board) -> list[str]:
    """What the numbers say, in a sentence for each base whose pruned models lose more of long than of short tasks."""
    said = []
    for base, group in board.bases.items():
        dense = board.dense(group[0])
        worst = max(
            (pair for entry in group if dense and entry is not dense if (pair := _losses(board, entry, dense))),
            key=lambda pair: pair[1][1] - pair[2][1],
            default=None,
        )
        if worst and worst[1][1] > worst[2][1]:
            entry, (short, kept_short), (long, kept_long) = worst
            said.append(
                f"{base} without {len(entry.latest.dropped)} of {_depth(entry)} layers ({entry.latest.label}) keeps "
                f"{kept_short:.0%} of {board.title(short)} and {kept_long:.0%} of {board.title(long)}."
            )
    return said[:3]


def _depth(entry: Entry) -> int:
    return entry.latest.pruning.depth if entry.latest.pruning else 0


def _losses(board: Board, entry: Entry, dense: Entry) -> tuple[Entry, tuple[str, float], tuple[str, float]] | None:
    """The best kept benchmark of knowledge or short reasoning, and the worst kept of long reasoning."""
    kept = {name: share for name in board.benchmarks if (share := retention(entry, dense, name)) is not None}
    long = {name: share for name, share in kept.items() if board.catalogue.benchmark(name).kind == "long"}
    short = {
        name: share for name, share in kept.items() if board.catalogue.benchmark(name).kind in ("knowledge", "shallow")
    }
    if not long or not short:
        return None
    return entry, max(short.items(), key=lambda pair: pair[1]), min(long.items(), key=lambda pair: pair[1])


class Curves(NamedTuple):
    """The lines of one benchmark of one base, and the same as a table."""

    benchmark: str
    points: list[Point]
    header: list[str]
    rows: list[tuple[str, Entry, list[Any]]]


def budget_curves(board: Board, base: str) -> Iterator[Curves]:
    """Accuracy by thinking budget."""
    for name in board.benchmarks:
        found = {entry: pairs for entry in board.bases[base] if len(pairs := entry.budgets(name)) > 1}
        if found:
            budgets = sorted({budget for pairs in found.values() for budget, _ in pairs})
            points = [
                Point(entry.label, budget, *one.interval) for entry, pairs in found.items() for budget, one in pairs
            ]
            rows = [
                (
                    entry.label,
                    entry,
                    [(one.interval if (one := dict(pairs).get(budget)) else None) for budget in budgets],
                )
                for entry, pairs in found.items()
            ]
            yield Curves(name, points, [f"{budget:,}" for budget in budgets], rows)


def vote_curves(board: Board, base: str) -> Iterator[Curves]:
    """pass@k and maj@k by number of samples."""
    for name in board.benchmarks:
        found = {entry: one for entry in board.bases[base] if (one := entry.votes(name))}
        if found:
            sizes = sorted({k for one in found.values() for k in _ks(one.task)})
            points = [point for entry, one in found.items() for point in _vote_points(entry.label, one.task)]
            rows = [
                (f"{entry.label}, {measure}", entry, [_interval(one.task, _measured(measure, k)) for k in sizes])
                for entry, one in found.items()
                for measure in ("pass@k", "maj@k")
            ]
            yield Curves(name, points, [f"k = {k}" for k in sizes], rows)


def _ks(task: TaskResult) -> list[int]:
    return sorted({1} | {int(name[5:]) for name in task.metrics if name.startswith("pass@") and name[5:].isdecimal()})


def _measured(measure: str, k: int) -> str:
    return measure.replace("k", str(k)) if k > 1 else "acc"


def _interval(task: TaskResult, metric: str) -> Any:
    score = task.metrics.get(metric)
    return normal_interval(score.value, score.stderr or 0.0, task.questions) if score else None


def _vote_points(label: str, task: TaskResult) -> Iterator[Point]:
    for measure in ("pass@k", "maj@k"):
        for k in _ks(task):
            if found := _interval(task, _measured(measure, k)):
                yield Point(label, k, found.estimate, found.low, found.high, measure == "maj@k")


def depth_curves(board: Board, base: str) -> Iterator[Curves]:
    """Accuracy at the largest budget by number of layers removed, a line for each method from the dense model."""
    group = board.bases[base]
    dense = board.dense(group[0])
    for name in board.benchmarks:
        whole = dense.best(name) if dense else None
        found = [(entry, one) for entry in group if entry.latest.dropped and (one := entry.best(name))]
        if whole is None or not found:
            continue
        by_method: dict[str, dict[int, tuple[Entry, Scored]]] = {}
        for entry, one in found:
            assert entry.latest.pruning is not None  # it has dropped layers
            by_method.setdefault(entry.latest.pruning.method, {})[len(entry.latest.dropped)] = (entry, one)
        counts = sorted({count for some in by_method.values() for count in some})
        points = [
            Point(method, count, *one.interval)
            for method, some in by_method.items()
            for count, (_, one) in [(0, (dense, whole)), *sorted(some.items())]
        ]
        rows = [
            (
                method,
                some[min(some)][0],
                [whole.interval, *(some[count][1].interval if count in some else None for count in counts)],
            )
            for method, some in by_method.items()
        ]
        yield Curves(name, points, [str(count) for count in (0, *counts)], rows)


def shown_colours(curves: Sequence[Curves], first: str = "dense") -> dict[str, str]:
    """Colours of the lines that a chart shows, the same in all charts of a base."""
    names = dict.fromkeys(point.series for one in curves for point in one.points)
    ordered = [*(name for name in names if name == first), *(name for name in names if name != first)]
    return colours(ordered[:MOST_LINES])


def dropped_layers(board: Board, base: str) -> list[dict[str, Any]]:
    """For the heat map: the fate of every layer in every pruned model, and its score among those of its model."""
    rows = []
    for entry in board.bases[base][: 3 * MOST_LINES]:
        pruning = entry.latest.pruning
        if pruning is None or not pruning.dropped:
            continue
        scores = _from_least_to_greatest(pruning.layer_scores)
        for layer in range(pruning.depth):
            fate = "dropped" if layer in pruning.dropped else "merged" if str(layer) in pruning.merged else "kept"
            score = scores[layer] if layer < len(scores) else None
            rows.append({"model": entry.label, "layer": layer, "fate": fate, "score": score})
    return rows


def _from_least_to_greatest(scores: Sequence[float | None]) -> list[float | None]:
    """Ranks from 0 to 1: scores of different methods have different units, and some span orders of magnitude."""
    known = sorted({score for score in scores if score is not None})
    places = {score: place / max(1, len(known) - 1) for place, score in enumerate(known)}
    return [None if score is None else places[score] for score in scores]


def run_page(board: Board, run: Run) -> dict[str, Any]:
    """Everything of one run."""
    entry = board.entry_of[run.id]
    dense = board.dense(entry)
    metrics = list(dict.fromkeys(name for task in run.tasks.values() for name in task.metrics))
    return {
        "run": run,
        "entry": entry,
        "metrics": metrics,
        "intervals": {name: Scored(task, run).interval for name, task in run.tasks.items()},
        "dense": dense.latest if dense and dense is not entry else None,
        "differences": dict(_against(run, dense)) if dense and dense is not entry else {},
        "grids": list(_grids(run)),
    }


def _against(run: Run, dense: Entry) -> Iterator[tuple[str, Difference]]:
    whole = {name: task for other in dense.runs for name, task in other.tasks.items()}
    for name, task in run.tasks.items():
        if name in whole:
            yield name, difference(task, whole[name])


class Grid(NamedTuple):
    """A square for each question: SVG paths by what it scored."""

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


def flat(board: Board) -> list[dict[str, Any]]:
    """One record for each run, task and metric, for CSV and JSON."""
    return [
        {
            "base": run.base, "model": run.label, "run": run.id, "tier": run.tier, "date": run.date,
            "method": run.pruning.method if run.pruning else "", "dropped": " ".join(map(str, run.dropped)),
            "benchmark": task.benchmark, "task": name, "budget": task.budget, "repeats": task.repeats,
            "questions": task.questions, "of": task.of, "metric": metric, "value": score.value, "stderr": score.stderr,
        }
        for run in board.runs
        for name, task in sorted(run.tasks.items())
        for metric, score in sorted(task.metrics.items())
    ]  # fmt: skip


def paper_curves(reference: Mapping[str, Any]) -> dict[str, list[Point]]:
    """The paper's digitised figures: accuracy by budget, by layers removed, and pass@k, as points by chart."""
    budgets = reference["protocol"]["budgets"]
    charts: dict[str, list[Point]] = {}
    for model, scores in reference["sequential"].items():
        for benchmark, values in scores.items():
            label = "dense" if model == "none 0" else model.replace(" ", " -")
            charts.setdefault(f"{benchmark}, thinking tokens", []).extend(map(Point, [label] * 5, budgets, values))
    samples = reference["parallel_pass_at_k_AIME24"]
    for model, values in samples.items():
        if model != "k":
            label = "dense" if model == "none 0" else model.replace(" ", " -")
            charts.setdefault("AIME24 pass@k, samples", []).extend(map(Point, [label] * 6, samples["k"], values))
    depth = reference["shortgpt_depth"]
    for benchmark, values in depth.items():
        if benchmark != "layers_removed":
            points = map(Point, [benchmark] * len(values), depth["layers_removed"], values)
            charts.setdefault("ShortGPT, layers removed", []).extend(points)
    return charts
