"""A picture of tests by betting: the wealth of each bet by what was spent, on a logarithmic scale, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

_WIDTH, _HEIGHT = 560, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 60, 12, 40  # margins
_LEAST = 1e-3  # what has less wealth is drawn here
_COLORS = {"kept": "#0072b2", "lost": "#d55e00"}  # of Okabe and Ito, which colour-blind readers can tell apart


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

        def x(step: float) -> float:
            return _LEFT + step / last * (_WIDTH - _LEFT - _RIGHT)

        def y(wealth: float) -> float:
            level = math.log10(min(max(wealth, _LEAST), 10**top))
            return _TOP + (top - level) / (top - math.log10(_LEAST)) * (_HEIGHT - _TOP - _BOTTOM)

        parts = [
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(10**power):.1f}" y2="{y(10**power):.1f}" '
            f'stroke="#ddd"/><text x="{_LEFT - 6}" y="{y(10**power) + 4:.1f}" text-anchor="end">{_power(power)}</text>'
            for power in range(-3, top + 1, max(1, (top + 3) // 5))
        ]
        parts += [
            f'<text x="{x(step):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{step:,.0f}</text>'
            for step in (0, last / 2, last)
        ]
        decided = y(self.threshold)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{decided:.1f}" y2="{decided:.1f}" stroke="#444" '
            f'stroke-dasharray="2 3"/><text x="{_LEFT + 4}" y="{decided - 4:.1f}">decided</text>'
        )
        parts += [self._line(line, [(x(a), y(b)) for a, b in zip(line.steps, line.wealth, strict=True)])
                  for line in self.lines]  # fmt: skip
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(self.unit)}</text>')
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
            f'aria-label="{escape(self.about(), quote=True)}" font-family="system-ui, sans-serif" font-size="11" '
            f'fill="currentColor" width="{_WIDTH}" height="{_HEIGHT}">{"".join(parts)}</svg>'
        )

    def _line(self, line: WealthLine, points: Sequence[tuple[float, float]]) -> str:
        if not points:
            return ""
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        color = _COLORS.get(line.side or line.name, "#666")
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
