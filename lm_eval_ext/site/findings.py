"""The one sentence of a page, with the rule by which it is made; none where the rule has too little data."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from lm_eval_ext.analysis.entries import Entry
from lm_eval_ext.site.found import FoundByBudget
from lm_eval_ext.site.lines import Chart, Family
from lm_eval_ext.site.names import MINUS, short_base


class Finding(NamedTuple):
    """A sentence with numbers, and how it is made."""

    text: str
    rule: str


def of_budgets(family: Family, charts: Sequence[Chart]) -> Finding | None:
    """What more thinking gains: the base, and the median of the models at the first depth that has one."""
    chart = _ranked(family, charts)
    if chart is None:
        return None
    gains = {
        entry: values[-1].estimate - values[0].estimate
        for _, entry, values in chart.rows
        if entry is not None and not entry.latest.control and values[0] is not None and values[-1] is not None
    }
    base = next((gain for entry, gain in gains.items() if entry.dense), None)
    depth = next((n for n in (2, 1, 3) if any(len(entry.latest.dropped) == n for entry in gains)), None)
    if base is None or depth is None:
        return None
    others = [gain for entry, gain in gains.items() if len(entry.latest.dropped) == depth]
    layers = "a layer" if depth == 1 else f"{('two', 'three')[depth - 2]} layers"
    title = family.board.title(chart.benchmark)
    return Finding(
        f"From {chart.header[0]} to {chart.header[-1]} thinking tokens, {short_base(family.base)} gains "
        f"{_points(base)} points on {title}, and the median model without {layers} {_points(median(others))}.",
        f"accuracy at the largest less the smallest budget, for the base, and the median of the same over its "
        f"{len(others)} {'model' if len(others) == 1 else 'models'} without {layers}. Benchmark: the one that ranks.",
    )


def _points(value: float) -> str:
    return f"{MINUS if round(100 * value) < 0 else ''}{abs(100 * value):.0f}"


def _ranked(family: Family, charts: Sequence[Chart]) -> Chart | None:
    ranked = [chart for chart in charts if chart.benchmark == family.board.ranked_by]
    return next(iter((*ranked, *charts)), None)


def of_found(family: Family, found: Sequence[tuple[Entry, FoundByBudget]]) -> Finding | None:
    """How much is found and then lost: the base, and the model that loses most beyond chance."""
    bases = [(entry, one) for entry, one in found if entry.dense]
    ranked = [pair for pair in bases if pair[1].benchmark == family.board.ranked_by]
    base = next(iter((*ranked, *bases)), None)
    if base is None:
        return None
    same = [(entry, one) for entry, one in found if entry.smaller and one.benchmark == base[1].benchmark]
    if not same:
        return None
    worst = max(same, key=lambda pair: pair[1].lost[-1])
    title = family.board.title(base[1].benchmark)
    return Finding(
        f"On {title}, {short_base(family.base)} finds and then loses the right answer in "
        f"{100 * base[1].lost[-1]:.0f}% of its samples, {family.names[worst[0].key]} in "
        f"{100 * worst[1].lost[-1]:.0f}%.",
        "share of samples whose answer is right at some budget and not at the largest, of the base and of the model "
        "that loses most.",
    )
