"""Line charts as SVG. Each is drawn twice, for wide and for narrow screens, so that its text is never shrunk.

Colours are the style sheet's variables. All models are drawn; those not shown at first are hidden by a class, and the
page's script shows them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

from lm_eval_ext.wording import scaled

_LABELS = 6  # lines with a label at their end: the base, and the last ones
_CROWDED, _CROWDED_PLAIN = 8, 2  # lines of several colours, or of one, from which on only bases have a band
_GAP = 15  # between labels, in pixels


class Point(NamedTuple):
    """A value with its interval; `tip` says what it is."""

    at: float
    value: float
    low: float | None = None
    high: float | None = None
    tip: str = ""


class Line(NamedTuple):
    """A line of a chart.

    Attributes:
        key: of its model; lines of one key are shown and hidden together, in all charts of a page.
        name: in its label.
        tone: CSS variable of its colour.
        mark: its dashes and marks.
        points: from left to right.
        shown: whether it is visible at first.
        reference: whether it is drawn for comparison: grey, without marks.
    """

    key: str
    name: str
    tone: str
    mark: Mark
    points: Sequence[Point]
    shown: bool = True
    reference: bool = False


class Panel(NamedTuple):
    """One chart: a share from 0 to 1 by something.

    Attributes:
        title, note: heading, and what it says about the questions.
        axis: title of the horizontal axis.
        lines: the lines.
        ticks: places on the horizontal axis with their labels.
        log: whether the horizontal axis is logarithmic.
        chance: score of guessing, drawn as a line.
        frontier: points of a step line that no model surpasses.
        joined: whether points are joined by lines; those of unordered places are not.
    """

    title: str
    note: str
    axis: str
    lines: Sequence[Line]
    ticks: Sequence[tuple[float, str]]
    log: bool = True
    chance: float | None = None
    frontier: Sequence[tuple[float, float]] = ()
    joined: bool = True

    @property
    def domain(self) -> tuple[float, float]:
        """Both ends of the vertical axis."""
        values = [end for line in self.lines for point in line.points for end in (point.low, point.value, point.high)]
        known = [value for value in values if value is not None]
        least, most = min(known, default=0.0), max(known, default=1.0)
        low = math.floor(least * 10) / 10 if least > 0.3 else 0.0  # lines may start above zero
        return low, max(low + 0.1, min(1.0, math.ceil(most * 20 - 1e-9) / 20))


class Size(NamedTuple):
    """Size and margins of a drawing, in pixels."""

    name: str
    width: int
    height: int
    left: int = 40
    right: int = 168
    top: int = 28
    bottom: int = 46


SIZES = (Size("broad", 560, 356), Size("narrow", 340, 316, right=112))


class _Scale:
    """Places of a panel in a drawing."""

    def __init__(self, panel: Panel, size: Size) -> None:
        self.panel, self.size = panel, size
        self.low, self.high = panel.domain
        places = [at for at, _ in panel.ticks] + [point.at for line in panel.lines for point in line.points]
        self._first, self._last = self._stretched(min(places)), self._stretched(max(places))

    def _stretched(self, at: float) -> float:
        return math.log2(max(at, 1e-12)) if self.panel.log else at

    @property
    def right(self) -> float:
        """Right end of the plotting area."""
        return self.size.width - self.size.right

    @property
    def floor(self) -> float:
        """Lower end of the plotting area."""
        return self.size.height - self.size.bottom

    def x(self, at: float) -> float:
        """Horizontal place of a value."""
        span = self._last - self._first
        share = (self._stretched(at) - self._first) / span if span else 0.5
        return round(self.size.left + share * (self.right - self.size.left), 1)

    def y(self, value: float) -> float:
        """Vertical place of a value."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.floor - share * (self.floor - self.size.top), 1)


def drawings(panel: Panel) -> str:
    """The chart in all sizes, as SVG elements."""
    return "".join(_drawing(panel, size) for size in SIZES)


def _drawing(panel: Panel, size: Size) -> str:
    scale = _Scale(panel, size)
    label = f"{panel.title}: accuracy by {panel.axis}; the numbers are in the table"
    shown = [line for line in panel.lines if line.shown and not line.reference]
    many = _CROWDED if any(line.tone != "plain" for line in shown) else _CROWDED_PLAIN
    crowded = " crowded" if len(shown) > many else ""
    parts = [
        f'<svg class="panel {size.name}{crowded}" viewBox="0 0 {size.width} {size.height}" role="img" '
        f'aria-label="{escape(label)}" data-top="{size.top}" data-floor="{scale.floor}">',
        *_vertical(scale),
        *_horizontal(scale),
        *_chance(scale),
        *_frontier(scale),
        *(_line(line, scale) for line in reversed(panel.lines)),
        *_labels(panel.lines, scale),
        "</svg>",
    ]
    return "".join(parts)


def _vertical(scale: _Scale) -> Iterator[str]:
    step = next(step for step in (0.02, 0.05, 0.1, 0.2) if (scale.high - scale.low) / step <= 6)
    count = math.floor((scale.high - scale.low) / step + 1e-6)
    for number in range(count + 1):
        value = scale.low + number * step
        y = scale.y(value)
        sign = "%" if number == count else ""
        yield f'<line class="g" x1="{scale.size.left}" x2="{scale.right}" y1="{y}" y2="{y}"/>'
        yield _text(scale.size.left - 8, y + 4, f"{100 * value:.0f}{sign}", "end")
    yield _text(0, 12, "accuracy", "start")


def _horizontal(scale: _Scale) -> Iterator[str]:
    left, right, floor = scale.size.left, scale.right, scale.floor
    last = -math.inf
    for at, name in scale.panel.ticks:
        x = scale.x(at)
        yield f'<line class="rule" x1="{x}" x2="{x}" y1="{floor}" y2="{floor + 4}"/>'
        width = 7 * len(name)
        if x - width / 2 > last + 6:
            yield _text(x, floor + 18, name, "middle")
            last = x + width / 2
    yield f'<line class="rule" x1="{left}" x2="{right}" y1="{floor}" y2="{floor}"/>'
    yield _text((left + right) / 2, scale.size.height - 6, scale.panel.axis, "middle")


def _chance(scale: _Scale) -> Iterator[str]:
    chance = scale.panel.chance
    if chance and scale.low <= chance <= scale.high:
        y = scale.y(chance)
        yield f'<line class="rule" x1="{scale.size.left}" x2="{scale.right}" y1="{y}" y2="{y}"/>'
        yield _text(scale.size.left + 4, y + 15, f"guessing, {100 * chance:.0f}%", "start")


def _frontier(scale: _Scale) -> Iterator[str]:
    if scale.panel.frontier:
        first, *others = [(scale.x(at), scale.y(value)) for at, value in scale.panel.frontier]
        steps = "".join(f"H{x}V{y}" for x, y in others)
        yield f'<path class="frontier" d="M{first[0]} {first[1]}{steps}H{scale.right}"/>'


def _line(line: Line, scale: _Scale) -> str:
    places = [(scale.x(point.at), scale.y(point.value)) for point in line.points]
    course = "M" + ("L" if scale.panel.joined else "M").join(f"{x} {y}" for x, y in places)
    if line.reference:
        return f'<g class="line paper" data-model="{escape(line.key)}"><path class="course" d="{course}"/></g>'
    tips = "|".join(f"{x},{y},{point.tip}" for (x, y), point in zip(places, line.points, strict=True))
    hidden = "" if line.shown else " off"
    return (
        f'<g class="line {line.tone}{hidden}" data-model="{escape(line.key)}" data-name="{escape(line.name)}" '
        f'data-points="{escape(tips)}">{_band(line.points, scale)}'
        f'<path class="course" d="{course}" stroke-dasharray="{line.mark.dashes}"/>{line.mark.drawn(places)}</g>'
    )


def _band(points: Sequence[Point], scale: _Scale) -> str:
    known = [(scale.x(p.at), p.low, p.high) for p in points if p.low is not None and p.high is not None]
    if len(known) < 2 or not scale.panel.joined:
        return "".join(f'<path class="reach" d="M{x} {scale.y(low)}V{scale.y(high)}"/>' for x, low, high in known)
    upper = "L".join(f"{x} {scale.y(high)}" for x, _, high in known)
    lower = "L".join(f"{x} {scale.y(low)}" for x, low, _ in reversed(known))
    return f'<path class="band" d="M{upper}L{lower}Z"/>'


def _labels(lines: Sequence[Line], scale: _Scale) -> Iterator[str]:
    """Labels at the ends of lines, pushed apart; the script places them anew when other models are chosen."""
    ends = [(line, scale.y(line.points[-1].value), scale.x(line.points[-1].at)) for line in lines if line.points]
    yield from (_reference_label(line, scale) for line in lines if line.reference)
    ends = [end for end in ends if not end[0].reference]
    shown = [end for end in ends if end[0].shown]
    bases = [end for end in shown if end[0].tone == "ink"]
    chosen = [*bases, *[end for end in shown if end not in bases][-(_LABELS - len(bases)) :]]
    placed = spread([y for _, y, _ in chosen], scale.size.top, scale.floor)
    places = {line.key: y for (line, _, _), y in zip(chosen, placed, strict=True)}
    for line, y, x in ends:
        at = places.get(line.key, y)
        hidden = "" if line.key in places else " off"
        yield (
            f'<g class="end {line.tone}{hidden}" data-model="{escape(line.key)}" data-y="{y}">'
            f'<path class="leader" d="M{x + 6} {y}L{scale.right + 17} {at}"/>'
            f'<text class="value" x="{scale.right + 36}" y="{at + 4.5}" text-anchor="end">'
            f"{100 * line.points[-1].value:.0f}</text>"
            f'<text x="{scale.right + 41}" y="{at + 4.5}">{escape(line.name)}</text></g>'
        )


def _reference_label(line: Line, scale: _Scale) -> str:
    """Above the beginning of the line, where labels of models never are."""
    x, y = scale.x(line.points[0].at) + 4, scale.y(line.points[0].value) - 6
    return f'<g class="paper"><text x="{x}" y="{y}">{escape(line.name)}</text></g>'


def spread(places: Sequence[float], top: float, floor: float, gap: float = _GAP) -> list[float]:
    """Places moved apart by at least `gap`, as little as possible, in the same order.

    >>> spread([10.0, 12.0, 50.0], 0, 100)
    [3.5, 18.5, 50.0]
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    found = [places[index] for index in order]
    for _ in range(200):
        for first, second in pairwise(range(len(found))):
            if (short := gap - (found[second] - found[first])) > 1e-6:
                found[first] -= short / 2
                found[second] += short / 2
        if found:
            found[-1], found[0] = min(found[-1], floor), max(found[0], top)
    result = [0.0] * len(found)
    for index, place in zip(order, found, strict=True):
        result[index] = round(place, 1)
    return result


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="t" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


class Mark(NamedTuple):
    """How lines of one method look: their dashes, and the shape at each point."""

    dashes: str = ""
    shape: str = "disc"

    def drawn(self, places: Sequence[tuple[float, float]]) -> str:
        """The marks at some places, as one SVG path; discs and squares are the caps of lines without length."""
        if self.shape in ("disc", "square", "ring"):
            path = "".join(f"M{x} {y}h0" for x, y in places)
            inner = f'<path class="hole" d="{path}"/>' if self.shape == "ring" else ""
            return f'<path class="dots {self.shape}" d="{path}"/>{inner}'
        return f'<path class="shapes" d="{"".join(f"M{x} {y}{_SHAPES[self.shape]}" for x, y in places)}"/>'


_SHAPES = {"triangle": "m0-4.8l4.8 8.4h-9.6z", "diamond": "m0-4.6l4.6 4.6l-4.6 4.6l-4.6-4.6z"}
BASE = Mark()
_KNOWN = {
    "shortgpt": Mark(),
    "reverse": Mark("9 5", "square"),
    "laco": Mark("9 4 2 4", "triangle"),
}
_RECOVERED, _BITS = Mark("1 5", "ring"), Mark("3 3", "diamond")
_OTHERS = (
    Mark("6 3", "square"),
    Mark("12 4", "triangle"),
    Mark("2 4", "disc"),
    Mark("12 3 2 3", "diamond"),
    Mark("7 7", "ring"),
)


def marks_of(methods: Iterable[str]) -> dict[str, Mark]:
    """A mark for each method; an empty method is that of bases."""
    found: dict[str, Mark] = {}
    others = 0
    for method in dict.fromkeys(methods):
        if "recovered" in method:
            found[method] = _RECOVERED
        elif not method:
            found[method] = BASE
        elif method in _KNOWN:
            found[method] = _KNOWN[method]
        elif "bit" in method:
            found[method] = _BITS
        else:
            found[method] = _OTHERS[others % len(_OTHERS)]
            others += 1
    return found


def budget_ticks(budgets: Sequence[float]) -> list[tuple[float, str]]:
    """A tick for each budget.

    >>> budget_ticks([512, 2048])
    [(512, '512'), (2048, '2k')]
    """
    return [(at, f"{at / 1024:g}k" if at >= 1024 and at % 1024 == 0 else f"{at:,.0f}") for at in budgets]


def decimal_ticks(values: Sequence[float]) -> list[tuple[float, str]]:
    """Ticks at 1, 2 and 5 times powers of ten, or at powers alone over a wide range."""
    least, most = min(values), max(values)
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    inside = [tick for tick in ticks if least / 1.3 <= tick <= most * 1.3]
    return [(tick, scaled(tick)) for tick in (inside if len(inside) > 1 else (least, most))]
