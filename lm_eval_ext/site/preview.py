"""The picture that other sites show for a link to this one: the finding, and the models that lost most and least."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from lm_eval_ext.analysis.board import Board
from lm_eval_ext.analysis.kept import Kept, headline
from lm_eval_ext.site.names import Names

WIDTH, HEIGHT = 1200, 630
_ROWS = 8
_LEFT, _RIGHT, _TOP, _STEP = 430, 1120, 250, 42
_INK, _QUIET, _LINE, _KNOW, _LONG, _BACK = "#16191d", "#59626c", "#e1e3de", "#1f6fb2", "#c2410c", "#fcfcfa"


def write_preview(board: Board, names: Names, kept: Mapping[str, Kept], path: Path) -> None:
    """Write the picture as PNG."""
    import vl_convert

    path.write_bytes(vl_convert.svg_to_png(preview(board, names, kept)))


def preview(board: Board, names: Names, kept: Mapping[str, Kept]) -> str:
    """The picture as SVG."""
    smaller = [kept[entry.key] for entry in board.entries if entry.smaller]
    known = sorted((one for one in smaller if one.long), key=_long, reverse=True)
    rows = known if len(known) <= _ROWS else [*known[: _ROWS // 2], *known[-_ROWS // 2 :]]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="Liberation Sans, Arial, sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{_BACK}"/>',
        *_title(board.catalogue.title, smaller),
        *_scale(len(rows)),
        *(part for number, one in enumerate(rows) for part in _row(number, one, names)),
        "</svg>",
    ]
    return "".join(parts)


def _long(kept: Kept) -> float:
    return kept.long.interval.estimate if kept.long else -1.0


def _title(title: str, smaller: Sequence[Kept]) -> Iterator[str]:
    found = headline(smaller)
    lines = [title]
    if found:
        lines = [
            f"The median smaller model keeps {100 * found.easy:.0f}% of its base's",
            f"{found.kinds}, and {100 * found.long:.0f}% of its long reasoning.",
        ]
        yield _text(60, 70, title, 24, _QUIET)
    for number, line in enumerate(lines):
        yield _text(60, 125 + 48 * number, line, 38, _INK)


def _scale(rows: int) -> Iterator[str]:
    for share in (0, 0.25, 0.5, 0.75, 1) if rows else ():
        x = _x(share)
        colour = _QUIET if share == 1 else _LINE
        yield f'<line x1="{x}" x2="{x}" y1="{_TOP - 20}" y2="{_TOP + _STEP * rows - 20}" stroke="{colour}"/>'
        yield _text(x, _TOP - 30, f"{100 * share:.0f}%", 18, _QUIET, "middle")


def _x(share: float) -> float:
    return round(_LEFT + (_RIGHT - _LEFT) * min(share, 1.05), 1)


def _row(number: int, kept: Kept, names: Names) -> Iterator[str]:
    y = _TOP + _STEP * number
    name = names.full(kept.entry)
    yield _text(60, y + 7, name if len(name) <= 34 else f"{name[:33]}…", 20, _INK)
    if kept.long is None:
        return
    long, easy = kept.long.interval, kept.easy
    if easy:
        yield _stroke(long.estimate, easy.estimate, y, 3, 0.55)
    yield _stroke(long.low, long.high, y, 16, 0.24)
    if easy:
        yield f'<circle cx="{_x(easy.estimate)}" cy="{y}" r="8" fill="{_BACK}" stroke="{_KNOW}" stroke-width="4"/>'
    yield f'<circle cx="{_x(long.estimate)}" cy="{y}" r="9" fill="{_LONG}"/>'


def _stroke(first: float, last: float, y: float, width: int, opacity: float) -> str:
    return (
        f'<line x1="{_x(first)}" x2="{_x(last)}" y1="{y}" y2="{y}" stroke="{_LONG}" stroke-width="{width}" '
        f'stroke-opacity="{opacity}" stroke-linecap="round"/>'
    )


def _text(x: float, y: float, text: str, size: int, colour: str, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="{anchor}">{escape(text)}</text>'
