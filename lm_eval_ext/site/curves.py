"""The charts' lines and their tables: accuracy by thinking budget, by samples, and by layers removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lm_eval_ext.analysis.board import Board
from lm_eval_ext.analysis.comparison import metric_interval
from lm_eval_ext.analysis.entries import Entry, Scored
from lm_eval_ext.runs.run import TaskResult
from lm_eval_ext.site.charts import LayerFate, Point, colours
from lm_eval_ext.statistics.intervals import Interval

MOST_LINES = 12  # per chart; the rest are only in its table


class Curves(NamedTuple):
    """The lines of one benchmark and base, and the same numbers as a table."""

    benchmark: str
    points: list[Point]
    header: list[str]
    rows: list[tuple[str, Entry, list[Interval | None]]]


def budget_curves(board: Board, base: str) -> Iterator[Curves]:
    """Accuracy by thinking budget."""
    for name in board.benchmarks:
        found = {entry: pairs for entry in board.bases[base] if len(pairs := _budgets(board, entry, name)) > 1}
        if found:
            budgets = sorted({budget for pairs in found.values() for budget, _ in pairs})
            points = [
                Point(_label(entry, one), budget, *one.interval)
                for entry, pairs in found.items()
                for budget, one in pairs
            ]
            rows = [
                (
                    _label(entry, pairs[0][1]),
                    entry,
                    [(one.interval if (one := dict(pairs).get(budget)) else None) for budget in budgets],
                )
                for entry, pairs in found.items()
            ]
            yield Curves(name, points, [f"{budget:,}" for budget in budgets], rows)


def _budgets(board: Board, entry: Entry, name: str) -> list[tuple[int, Scored]]:
    return [(at, one) for at, one in entry.budgets(name) if not board.outdated(one.task)]


def _label(entry: Entry, one: Scored) -> str:
    return f"{entry.label}, partial" if one.task.partial else entry.label


def vote_curves(board: Board, base: str) -> Iterator[Curves]:
    """pass@k and maj@k by number of samples."""
    for name in board.benchmarks:
        found = {
            entry: one for entry in board.bases[base] if (one := entry.votes(name)) and not board.outdated(one.task)
        }
        if found:
            sizes = sorted({k for one in found.values() for k in _ks(one.task)})
            points = [point for entry, one in found.items() for point in _vote_points(_label(entry, one), one.task)]
            rows = [
                (f"{_label(entry, one)}, {measure}", entry, [_interval(one.task, _measured(measure, k)) for k in sizes])
                for entry, one in found.items()
                for measure in ("pass@k", "maj@k")
            ]
            yield Curves(name, points, [f"k = {k}" for k in sizes], rows)


def _ks(task: TaskResult) -> list[int]:
    return sorted({1} | {int(name[5:]) for name in task.metrics if name.startswith("pass@") and name[5:].isdecimal()})


def _measured(measure: str, k: int) -> str:
    return measure.replace("k", str(k)) if k > 1 else "acc"


def _interval(task: TaskResult, metric: str) -> Interval | None:
    score = task.metrics.get(metric)
    return metric_interval(score, task.questions) if score else None


def _vote_points(label: str, task: TaskResult) -> Iterator[Point]:
    for measure in ("pass@k", "maj@k"):
        for k in _ks(task):
            if found := _interval(task, _measured(measure, k)):
                yield Point(label, k, found.estimate, found.low, found.high, measure == "maj@k")


def depth_curves(board: Board, base: str) -> Iterator[Curves]:
    """Accuracy by number of layers removed, as a line per method that starts at the dense model.

    Several models with the same method and number, such as manual picks, are separate points.
    """
    for name in board.benchmarks:
        pairs = [(entry, pair) for entry in board.bases[base] if (pair := board.beside_dense(entry, name))]
        pruned = [
            (entry, ours, theirs)
            for entry, (ours, theirs) in pairs
            if entry.latest.dropped and not board.outdated(ours.task)
        ]
        if pruned:
            whole = _most_common([theirs for _, _, theirs in pruned])
            by_method: dict[str, list[tuple[Entry, Scored]]] = {}
            for entry, ours, theirs in pruned:
                if theirs.task is whole.task:  # same budget as the others
                    by_method.setdefault(entry.method, []).append((entry, ours))
            yield _depth(name, whole, by_method)


def _most_common(results: Sequence[Scored]) -> Scored:
    """The dense model's result that most others are compared with."""
    ids = [id(one.task) for one in results]
    return max(results, key=lambda one: ids.count(id(one.task)))


def _depth(benchmark: str, whole: Scored, by_method: Mapping[str, Sequence[tuple[Entry, Scored]]]) -> Curves:
    counts = sorted({len(entry.latest.dropped) for some in by_method.values() for entry, _ in some})
    points, rows = [], []
    for method, some in by_method.items():
        points.append(Point(method, 0, *whole.interval))
        points += [Point(method, len(entry.latest.dropped), *one.interval) for entry, one in some]
        rows += [
            (
                entry.label,
                entry,
                [whole.interval, *(one.interval if len(entry.latest.dropped) == n else None for n in counts)],
            )
            for entry, one in some
        ]
    return Curves(benchmark, points, [str(count) for count in (0, *counts)], rows)


def shown_colours(curves: Sequence[Curves], first: str = "dense") -> dict[str, str]:
    """Colours of the drawn lines, the same in all charts of a base; the first is reserved for the dense model."""
    names = dict.fromkeys(point.series for one in curves for point in one.points)
    found = colours([first, *(name for name in names if name != first)][:MOST_LINES])
    return {name: colour for name, colour in found.items() if name in names}


def dropped_layers(board: Board, base: str) -> list[LayerFate]:
    """For the heat map: the fate of every layer in every pruned model, and its score relative to its model's others."""
    rows: list[LayerFate] = []
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
    """Scores as ranks from 0 to 1, because methods differ in units and some scores span orders of magnitude."""
    known = sorted({score for score in scores if score is not None})
    places = {score: place / max(1, len(known) - 1) for place, score in enumerate(known)}
    return [None if score is None else places[score] for score in scores]


def paper_curves(reference: Mapping[str, Any]) -> dict[str, list[Point]]:
    """Points of the paper's digitised figures by chart: accuracy by budget, by layers removed, and pass@k."""
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
