"""Charts of accuracy against what an answer costs, with the line that no model surpasses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lm_eval_ext.analysis.answer_costs import cost_of
from lm_eval_ext.analysis.board import UNLIMITED, Entry, Scored
from lm_eval_ext.site.figures import Panel, Point, decimal_ticks
from lm_eval_ext.site.lines import Chart, Family, reached, whole_budgets
from lm_eval_ext.statistics.intervals import Interval
from lm_eval_ext.wording import limit, scaled

# Kinds of costs, by their names in `Cost`.
COSTS = {
    "tokens": "tokens per answer",
    "flops": "floating-point operations per answer",
    "cache_bytes": "bytes of KV cache per answer",
}


def cost_charts(family: Family) -> Iterator[Chart]:
    """One chart for each benchmark and kind of cost that at least two models have."""
    for name in family.board.benchmarks:
        for kind, title in COSTS.items():
            found = {entry: pairs for entry in family.entries if (pairs := _costs(family, entry, name, kind))}
            if len(found) > 1:
                yield _chart(family, name, title, found)


def _costs(family: Family, entry: Entry, name: str, kind: str) -> list[tuple[float, Scored]]:
    """Cost and complete result at each budget, or without a limit if there are no budgets; the cheapest first."""
    unlimited = entry.results.get(name, {}).get(UNLIMITED)
    found = [one for _, one in whole_budgets(family.board, entry, name)] or ([unlimited] if unlimited else [])
    usable = [one for one in found if not one.task.partial and not family.board.outdated(one.task)]
    costs = [(getattr(cost_of(one.task.value, one.run.costs), kind), one) for one in usable]
    return sorted(((cost, one) for cost, one in costs if cost), key=lambda pair: pair[0])


def _chart(family: Family, benchmark: str, title: str, found: Mapping[Entry, list[tuple[float, Scored]]]) -> Chart:
    lines = [family.line(entry, [_point(at, one, title) for at, one in pairs]) for entry, pairs in found.items()]
    every = [(at, one.task.accuracy.value) for pairs in found.values() for at, one in pairs]
    task = next(iter(found.values()))[-1][1].task
    panel = Panel(
        f"{family.board.title(benchmark)}, {title}", family.note(benchmark, task), title, lines,
        decimal_ticks([at for at, _ in every]), chance=task.guessing or None, frontier=frontier(every),
    )  # fmt: skip
    rows: list[tuple[str, Entry | None, Sequence[Interval | str | None]]] = [
        (str(family.names[entry.key]), entry, [limit(one.task.budget, ""), scaled(at), one.interval])
        for entry, pairs in found.items()
        for at, one in pairs
    ]
    return Chart(benchmark, panel, ["budget", title, "accuracy"], rows)


def _point(at: float, one: Scored, title: str) -> Point:
    where = f"budget {limit(one.task.budget, '')}"
    return Point(at, *one.interval, tip=f"{reached(where, one.interval)} for {scaled(at)} {title}")


def steps_of_frontier(family: Family, benchmark: str) -> list[Entry]:
    """The models that hold the steps of the line that none surpasses, in tokens per answer."""
    points = {
        (at, one.task.accuracy.value): entry
        for entry in reversed(family.entries)
        for at, one in _costs(family, entry, benchmark, "tokens")
    }
    return [points[step] for step in frontier(list(points))] if points else []


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that are better than all cheaper ones.

    >>> frontier([(1, 0.2), (2, 0.1), (3, 0.4)])
    [(1, 0.2), (3, 0.4)]
    """
    found: list[tuple[float, float]] = []
    for at, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not found or value > found[-1][1]:
            found.append((at, value))
    return found
