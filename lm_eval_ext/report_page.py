"""What reports show in a browser: a page that needs no other file, tables, and charts as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

VERDICT_COLORS = {"kept": "#0072b2", "lost": "#d55e00"}  # of Okabe and Ito, which colour-blind readers can tell apart
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse}td,th{padding:.25rem .75rem;text-align:right;border-bottom:1px solid #8884}"
    "td:first-child,th:first-child{text-align:left}pre{overflow-x:auto}.charts{display:flex;flex-wrap:wrap;gap:1rem}"
    "figure{margin:0}figcaption{font-weight:600}svg{max-width:100%;height:auto}.scroll{overflow-x:auto}"
)


def plain(value: object) -> object:
    """A report's value as JSON takes it: named tuples as objects; infinite numbers are null.

    >>> plain({"a": (1.0, float("inf"))})
    {'a': [1.0, None]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def report_page(title: str, body: str, style: str = "") -> str:
    """A page, with its title as heading.

    Args:
        title: plain text.
        body: HTML below the heading.
        style: further CSS.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style></head><body><h1>{escape(title)}</h1>{body}"
        "</body></html>\n"
    )


def report_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls by itself where it is too wide.

    >>> report_table(["a"], [["<"]])[-44:]
    '<tr><td>&lt;</td></tr></tbody></table></div>'
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>" for cells in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


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
