"""Charts of accuracy against what an answer costs, with the line that no model surpasses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from lm_eval_ext.analysis.answer_costs import cache_bytes, flops
from lm_eval_ext.analysis.board import UNLIMITED, Entry, Scored
from lm_eval_ext.runs.run import Run, TaskResult
from lm_eval_ext.site.figures import Panel, Point, decimal_ticks
from lm_eval_ext.site.lines import Chart, Family, percent, whole_budgets
from lm_eval_ext.statistics.intervals import Interval
from lm_eval_ext.wording import limit, scaled

Cost = Callable[[TaskResult, Run], float | None]


class Measured(NamedTuple):
    """A kind of cost: its title, and how it is computed from a result."""

    title: str
    of: Cost


def tokens(task: TaskResult, _: Run | None = None) -> float | None:
    """Mean tokens of an answer, thinking included."""
    thinking, answer = task.value("thinking_tokens"), task.value("answer_tokens")
    return None if thinking is None or answer is None else thinking + answer


def _flops(task: TaskResult, run: Run) -> float | None:
    count = tokens(task)
    return None if count is None else flops(count, run.costs)


def _cache(task: TaskResult, run: Run) -> float | None:
    count = tokens(task)
    return None if count is None else cache_bytes(count, run.costs)


COSTS: Mapping[str, Measured] = {
    "tokens": Measured("tokens per answer", tokens),
    "flops": Measured("floating-point operations per answer", _flops),
    "cache": Measured("bytes of KV cache per answer", _cache),
}


def cost_charts(family: Family) -> Iterator[Chart]:
    """One chart for each benchmark and kind of cost that at least two models have."""
    for name in family.board.benchmarks:
        for cost in COSTS.values():
            found = {entry: pairs for entry in family.entries if (pairs := _costs(family, entry, name, cost.of))}
            if len(found) > 1:
                yield _chart(family, name, cost, found)


def _costs(family: Family, entry: Entry, name: str, of: Cost) -> list[tuple[float, Scored]]:
    """Cost and complete result at each budget, or without a limit if there are no budgets; the cheapest first."""
    unlimited = entry.results.get(name, {}).get(UNLIMITED)
    found = [one for _, one in whole_budgets(family.board, entry, name)] or ([unlimited] if unlimited else [])
    usable = [one for one in found if not one.task.partial and not family.board.outdated(one.task)]
    costs = [(of(one.task, one.run), one) for one in usable]
    return sorted(((cost, one) for cost, one in costs if cost), key=lambda pair: pair[0])


def _chart(family: Family, benchmark: str, cost: Measured, found: Mapping[Entry, list[tuple[float, Scored]]]) -> Chart:
    lines = [family.line(entry, [_point(at, one, cost) for at, one in pairs]) for entry, pairs in found.items()]
    every = [(at, one.task.accuracy.value) for pairs in found.values() for at, one in pairs]
    task = next(iter(found.values()))[-1][1].task
    panel = Panel(
        f"{family.board.title(benchmark)}, {cost.title}", family.note(benchmark, task), cost.title, lines,
        decimal_ticks([at for at, _ in every]), chance=task.guessing or None, frontier=frontier(every),
    )  # fmt: skip
    rows: list[tuple[str, Entry | None, Sequence[Interval | str | None]]] = [
        (str(family.names[entry.key]), entry, [limit(one.task.budget, ""), scaled(at), one.interval])
        for entry, pairs in found.items()
        for at, one in pairs
    ]
    return Chart(benchmark, panel, ["budget", cost.title, "accuracy"], rows)


def _point(at: float, one: Scored, cost: Measured) -> Point:
    found = one.interval
    reach = f"95%: {percent(found.low)} to {percent(found.high)}"
    tip = f"budget {limit(one.task.budget, '')}: {percent(found.estimate)}% ({reach}) for {scaled(at)} {cost.title}"
    return Point(at, *found, tip=tip)


def steps_of_frontier(family: Family, benchmark: str) -> list[Entry]:
    """The models that hold the steps of the line that none surpasses, in tokens per answer."""
    points = {
        (at, one.task.accuracy.value): entry
        for entry in reversed(family.entries)
        for at, one in _costs(family, entry, benchmark, tokens)
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
