"""A picture of tests by betting: the wealth of each bet by what was spent, on a logarithmic scale, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from lm_eval_ext.report_page import VERDICT_COLORS, SvgChart

_CHART = SvgChart(560, 260, right=60)
_LEAST = 1e-3  # what has less wealth is drawn here


class WealthLine(NamedTuple):
    """The wealth of a bet.

    Attributes:
        name: `kept` or `lost`, which is written at its end; empty to leave it unnamed.
        steps: what was spent until each look.
        wealth: at each look.
        side: `kept` or `lost`, for the color, if the name isn't.
        dashed: whether it is drawn with dashes.
    """

    name: str
    steps: Sequence[float]
    wealth: Sequence[float]
    side: str = ""
    dashed: bool = False


class WealthPlot:
    """Lines of wealth, and the line at which a verdict stands.

    Args:
        lines: what is drawn.
        threshold: the wealth at which a verdict stands.
        unit: what steps count, such as `units` or `tokens`.
    """

    def __init__(self, lines: Sequence[WealthLine], threshold: float, unit: str) -> None:
        self.lines, self.threshold, self.unit = lines, threshold, unit

    def svg(self) -> str:
        """The picture as an SVG element."""
        most = max([self.threshold * 10, *(value for line in self.lines for value in line.wealth)])
        top = math.ceil(math.log10(min(most, 1e9)))
        last = max([1, *(step for line in self.lines for step in line.steps)])

        def height(wealth: float) -> float:
            level = math.log10(min(max(wealth, _LEAST), 10**top))
            return 1 - (top - level) / (top - math.log10(_LEAST))

        def point(step: float, wealth: float) -> tuple[float, float]:
            return _CHART.x(step / last), _CHART.y(height(wealth))

        left, decided = point(0, self.threshold)
        parts = [
            *(_CHART.level(height(10**power), _power(power)) for power in range(-3, top + 1, max(1, (top + 3) // 5))),
            *(_CHART.tick(share, f"{share * last:,.0f}") for share in (0, 0.5, 1)),
            f'<line x1="{left}" x2="{_CHART.x(1)}" y1="{decided:.1f}" y2="{decided:.1f}" stroke="#444" '
            f'stroke-dasharray="2 3"/><text x="{left + 4}" y="{decided - 4:.1f}">decided</text>',
            *(self._line(line, [*map(point, line.steps, line.wealth)]) for line in self.lines),
        ]
        return _CHART.svg(parts, self.unit, self.about())

    def _line(self, line: WealthLine, points: Sequence[tuple[float, float]]) -> str:
        if not points:
            return ""
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        color = VERDICT_COLORS.get(line.side or line.name, "#666")
        dashes = ' stroke-dasharray="5 3"' if line.dashed else ""
        end = points[-1]
        said = f'<text x="{end[0] + 4:.1f}" y="{end[1] + 4:.1f}" fill="{color}">{escape(line.name)}</text>'
        return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8"{dashes}/>{said}'

    def about(self) -> str:
        """What the picture shows, in words."""
        ends = (
            f"the bet on {line.name or line.side} has {line.wealth[-1]:.3g} after {line.steps[-1]:,.0f} {self.unit}"
            for line in self.lines
            if line.wealth
        )
        return f"{'; '.join(ends)}; a verdict stands at {self.threshold:g}"

    def save(self, path: str | Path) -> None:
        """Write the picture as an SVG file."""
        Path(path).write_text(self.svg() + "\n", encoding="utf-8")

    def _repr_svg_(self) -> str:
        return self.svg()

    def __repr__(self) -> str:
        return f"<{self.about()}>"


def _power(power: int) -> str:
    return f"{10**power:g}" if -3 <= power <= 4 else f"1e{power}"
