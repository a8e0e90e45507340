"""A report as an HTML page that needs no other file, as `compare`, `gate`, `diverge` and `shrink` write it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse}td,th{padding:.25rem .75rem;text-align:right;border-bottom:1px solid #8884}"
    "td:first-child,th:first-child{text-align:left}pre{overflow-x:auto}.charts{display:flex;flex-wrap:wrap;gap:1rem}"
    "figure{margin:0}figcaption{font-weight:600}svg{max-width:100%;height:auto}.scroll{overflow-x:auto}"
)


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
