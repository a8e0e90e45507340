"""Renders the templates in `leaderboard/templates/`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_ext.analysis.board import Board
from lm_eval_ext.paths import LEADERBOARD
from lm_eval_ext.runs.run import layers
from lm_eval_ext.site import figures
from lm_eval_ext.site.marks import Mark
from lm_eval_ext.site.names import Names, tone
from lm_eval_ext.statistics.intervals import Interval

if TYPE_CHECKING:
    from markupsafe import Markup

NAVIGATION = (
    ("index.html", "Overview"),
    ("budgets.html", "Budgets"),
    ("votes.html", "Votes"),
    ("depth.html", "Layers"),
    ("parts.html", "Parts"),
    ("cost.html", "Cost"),
    ("found.html", "Found, then lost"),
    ("questions.html", "Questions"),
    ("compare.html", "Compare"),
    ("paper.html", "The paper"),
    ("about.html", "About"),
)
STUDIES = ("studies.html", "Studies")  # only where there are any
_MOST = 1.07  # of the base, at the right end of the scale of what is kept


class Renderer:
    """Writes pages below a folder.

    Args:
        out: the folder.
        board: all models.
        names: of bases and models.
        values: what every page can use.
    """

    def __init__(self, out: Path, board: Board, names: Names, **values: object) -> None:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        self.out = out
        environment = Environment(
            loader=FileSystemLoader(LEADERBOARD / "templates"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        environment.filters |= {**_FILTERS, "called": names.base, "full_name": names.full}
        environment.globals |= {
            "board": board, "catalogue": board.catalogue, "title": board.title, "navigation": NAVIGATION, **values
        }  # fmt: skip
        self._environment = environment

    def text(self, template: str, path: str, **values: object) -> str:
        """A page as text.

        Args:
            template: name of the template.
            path: of the page, from the site's first folder.
            values: what the template uses.
        """
        section = template if "/" not in path else ""
        return self._environment.get_template(template).render(
            root="../" * path.count("/"), page=path, section=section, **values
        )

    def write(self, template: str, path: str, **values: object) -> None:
        """Write a page; arguments as of `text`."""
        target = self.out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(self.text(template, path, **values), encoding="utf-8")


def percent(value: float | None, digits: int = 1) -> str:
    """A share in percent, without the sign."""
    return "" if value is None else f"{100 * value:.{digits}f}"


def count(value: float | None) -> str:
    """A number in few characters.

    >>> count(7.6e9), count(1234), count(12.5)
    ('7.6B', '1,234', '12.5')
    """
    if value is None:
        return ""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def span(interval: Interval) -> str:
    """An interval in percent: `42–48`, with a decimal if it is narrow."""
    digits = 0 if interval.high - interval.low > 0.05 else 1
    return f"{percent(interval.low, digits)}–{percent(interval.high, digits)}"


def _place(value: float) -> str:
    """Where a share of the base is on the scale of what is kept."""
    return f"{1 + 92 * min(value, _MOST):.2f}%"


def _drawings(panel: figures.Panel) -> Markup:
    from markupsafe import Markup

    return Markup(figures.drawings(panel))  # escapes its texts itself


def _sample_mark(mark: Mark) -> Markup:
    from markupsafe import Markup

    return Markup(mark.drawn([(18, 6)]))


_FILTERS = {
    "percent": percent,
    "count": count,
    "span": span,
    "layers": layers,
    "tone": tone,
    "whole_percent": lambda value: "" if value is None else f"{100 * value:.0f}%",
    "whole_span": lambda interval: f"{percent(interval.low, 0)}–{percent(interval.high, 0)}",
    "blank": lambda value: "" if value is None else value,
    "exactly": lambda value: Interval(value, value, value),
    "place": _place,
    "kept_length": lambda value: f"{92 * min(value, _MOST):.2f}%",
    "kept_width": lambda interval: f"{92 * max(0.0, min(interval.high, _MOST) - interval.low):.2f}%",
    "drawings": _drawings,
    "sample_mark": _sample_mark,
}
