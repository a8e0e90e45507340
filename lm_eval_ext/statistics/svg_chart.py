"""The frame of a picture as SVG: its axes and margins, and where a share of the width or height lies."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import NamedTuple

VERDICT_COLORS = {"kept": "#0072b2", "lost": "#d55e00"}  # of Okabe and Ito, which colour-blind readers can tell apart


class SvgChart(NamedTuple):
    """A picture with one vertical and one horizontal axis, in the colours of the page it stands in.

    Attributes:
        width, height: in pixels.
        left, right, top, bottom: margins.

    >>> chart = SvgChart(200, 100, left=40)
    >>> chart.x(0.5), chart.y(0)
    (112.0, 60)
    """

    width: int
    height: int
    left: int = 60
    right: int = 16
    top: int = 12
    bottom: int = 40

    def x(self, share: float) -> float:
        """The place of a share of the horizontal axis, from 0 on the left to 1."""
        return self.left + share * (self.width - self.left - self.right)

    def y(self, share: float) -> float:
        """The place of a share of the vertical axis, from 0 at the bottom to 1."""
        return self.top + (1 - share) * (self.height - self.top - self.bottom)

    def level(self, share: float, label: str) -> str:
        """A line across, with its label on the vertical axis."""
        at = self.y(share)
        return (
            f'<line x1="{self.left}" x2="{self.width - self.right}" y1="{at:.1f}" y2="{at:.1f}" stroke="#8884"/>'
            f'<text x="{self.left - 6}" y="{at + 4:.1f}" text-anchor="end">{escape(label)}</text>'
        )

    def tick(self, share: float, label: str) -> str:
        """A label on the horizontal axis."""
        return f'<text x="{self.x(share):.1f}" y="{self.y(0) + 15:.1f}" text-anchor="middle">{escape(label)}</text>'

    def svg(self, parts: Iterable[str], axis: str, about: str) -> str:
        """The picture as an SVG element.

        Args:
            parts: what is drawn.
            axis: title of the horizontal axis.
            about: the picture in words, for those who don't see it.
        """
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{escape(about, quote=True)}" font-family="system-ui, sans-serif" font-size="11" '
            f'fill="currentColor" width="{self.width}" height="{self.height}">{"".join(parts)}'
            f'<text x="{self.x(0.5)}" y="{self.height - 6}" text-anchor="middle">{escape(axis)}</text></svg>'
        )
