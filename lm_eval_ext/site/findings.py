"""The one sentence of a page, with the rule by which it is made; none where the rule has too little data."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from lm_eval_ext.analysis.entries import Entry
from lm_eval_ext.site.cost import COSTS, steps_of_frontier
from lm_eval_ext.site.found import FoundByBudget
from lm_eval_ext.site.lines import Chart, Family, whole_budgets
from lm_eval_ext.site.names import MINUS


class Finding(NamedTuple):
    """A sentence with numbers, and how it is made."""

    text: str
    rule: str


def of_budgets(family: Family, charts: Sequence[Chart]) -> Finding | None:
    """What more thinking gains: the base, and the median of the models at the first depth that has one."""
    chart = _ranked(family, charts)
    base = family.usual_base
    if chart is None or base is None:
        return None
    budgets = dict(whole_budgets(family.board, base, chart.benchmark))
    if len(budgets) < 2:
        return None
    first, last = min(budgets), max(budgets)
    gains: dict[Entry, float] = {}
    for entry in (base, *family.smaller):
        found = dict(whole_budgets(family.board, entry, chart.benchmark))
        if first in found and last in found:
            gains[entry] = found[last].interval.estimate - found[first].interval.estimate
    depth = next((n for n in (2, 1, 3) if any(len(entry.latest.dropped) == n for entry in gains)), None)
    if base not in gains or depth is None:
        return None
    others = [gain for entry, gain in gains.items() if len(entry.latest.dropped) == depth]
    layers = "one layer" if depth == 1 else f"{('two', 'three')[depth - 2]} layers"
    title = family.board.title(chart.benchmark)
    return Finding(
        f"From {first:,} to {last:,} thinking tokens, {family.called} gains {_points(gains[base])} points on {title}; "
        f"with {layers} removed, the median model gains {_points(median(others))}.",
        f"accuracy at the largest budget less that at the smallest, for the base, and the median of the same over its "
        f"{len(others)} {'model' if len(others) == 1 else 'models'} with {layers} removed. {_which(family, chart)}",
    )


def _points(value: float) -> str:
    return f"{MINUS if round(100 * value) < 0 else ''}{abs(100 * value):.0f}"


def _ranked(family: Family, charts: Sequence[Chart]) -> Chart | None:
    ranked = [chart for chart in charts if chart.benchmark == family.board.ranked_by]
    return next(iter((*ranked, *charts)), None)


def _which(family: Family, chart: Chart) -> str:
    ranks = chart.benchmark == family.board.ranked_by
    return (
        "The benchmark is the one by which models are ranked." if ranks else "The benchmark is the first on this page."
    )


def of_found(family: Family, found: Sequence[tuple[Entry, FoundByBudget, FoundByBudget | None]]) -> Finding | None:
    """How much is found and then lost: the model that loses most beyond chance, and its base."""
    pairs = [(entry, one, base) for entry, one, base in found if entry.smaller and base is not None]
    ranked = [pair for pair in pairs if pair[1].benchmark == family.board.ranked_by]
    some = ranked or pairs
    if not some:
        return None
    entry, one, base = max(some, key=lambda pair: pair[1].lost[-1] - pair[1].by_chance)
    if base is None or one.lost[-1] <= one.by_chance:
        return None
    return Finding(
        f"On {family.board.title(one.benchmark)}, {family.called} finds and then loses the right answer in "
        f"{100 * base.lost[-1]:.0f}% of its samples, {family.names[entry.key]} in {100 * one.lost[-1]:.0f}%.",
        "share of samples whose answer is right at some budget and not at the largest, of the model that loses most "
        f"beyond what it would lose by chance ({100 * one.by_chance:.0f}%), and of its base.",
    )


def of_cost(family: Family, charts: Sequence[Chart]) -> Finding | None:
    """Who holds the line that no model surpasses at its cost in tokens."""
    chart = _ranked(family, [chart for chart in charts if chart.panel.axis == COSTS["tokens"].title])
    steps = steps_of_frontier(family, chart.benchmark) if chart else []
    if chart is None or not steps or not family.smaller:
        return None
    smaller = sum(entry.smaller for entry in steps)
    title, count = family.board.title(chart.benchmark), len(steps)
    said = f"{smaller} of the {count} steps of the line that no model surpasses belong to smaller models"
    if smaller == 0:
        said = "no smaller model that thinks longer is as good as its base at the same number of tokens"
    return Finding(
        f"On {title}, {said}.",
        f"accuracy against mean tokens per answer, of {family.called} and its models at each thinking budget; "
        f"intervals are not considered. {_which(family, chart)}",
    )
