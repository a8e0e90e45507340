"""Charts of the parts of a benchmark: accuracy by level, subject, or number of steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from lm_eval_ext.analysis.entries import Entry
from lm_eval_ext.analysis.parts import Part, is_numeric, parts_of, place_of
from lm_eval_ext.site.figures import Panel, Point
from lm_eval_ext.site.lines import Chart, Family, percent

_WIDE = 8  # ratio of the largest to the smallest number from which an axis is logarithmic


def part_charts(family: Family) -> Iterator[Chart]:
    """Accuracy by the values of a column, at the largest budget that most models have; a line if they are numbers."""
    for name in family.board.benchmarks:
        best = {entry: one for entry in family.entries if (one := entry.best(name)) and one.task.parts}
        places = Counter(one.task.budget for one in best.values() if not one.task.partial)
        if places:
            budget = max(places, key=lambda at: (places[at], at or 0))
            found = {e: list(parts_of(one.task)) for e, one in best.items() if one.task.budget == budget}
            for column in dict.fromkeys(part.column for parts in found.values() for part in parts):
                yield _part_chart(family, name, column, budget, found)


def _part_chart(
    family: Family, benchmark: str, column: str, budget: int | None, found: Mapping[Entry, Sequence[Part]]
) -> Chart:
    by_value = {entry: {p.value: p for p in parts if p.column == column} for entry, parts in found.items()}
    values = sorted({value for some in by_value.values() for value in some}, key=place_of)
    numeric = is_numeric(values) and place_of(values[0])[1] > 0
    at = {value: place_of(value)[1] if numeric else float(place) for place, value in enumerate(values)}
    lines = [
        family.line(entry, [_part_point(at[value], some[value]) for value in values if value in some])
        for entry, some in by_value.items()
    ]
    ticks = [(at[value], value.partition(" to ")[0]) for value in values]
    spread = numeric and at[values[-1]] / at[values[0]] >= _WIDE
    title = f"{family.board.title(benchmark)}, by {column}"
    note = "no limit" if budget is None else f"{budget:,} thinking tokens"
    panel = Panel(title, note, column, lines, ticks, log=spread, joined=numeric)
    rows = [(str(family.names[entry.key]), entry, [some[v].accuracy if v in some else None for v in values])
            for entry, some in by_value.items()]  # fmt: skip
    return Chart(benchmark, panel, values, rows)


def _part_point(at: float, part: Part) -> Point:
    found = part.accuracy
    reach = f"95%: {percent(found.low)} to {percent(found.high)}"
    tip = f"{part.column} {part.value}: {percent(found.estimate)}% ({reach}); {part.questions} questions"
    return Point(at, *found, tip=tip)
