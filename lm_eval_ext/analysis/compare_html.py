"""A comparison as HTML: a fragment for notebooks, or a page of its own."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from lm_eval_ext.analysis.compare_text import named_budget, ranged, text

if TYPE_CHECKING:
    from lm_eval_ext.analysis.compare import Comparison

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse}td,th{padding:.25rem .75rem;text-align:right;border-bottom:1px solid #8884}"
    "td:first-child,th:first-child{text-align:left}pre{overflow-x:auto}"
)


def fragment(comparison: Comparison) -> str:
    """A table of the rows, and the verdict."""
    header = "".join(f"<th>{name}</th>" for name in ("", "base", "candidate", "difference", "kept"))
    rows = "".join(
        f"<tr><td>{escape(row.benchmark)}, {named_budget(row.budget)}</td>"
        + "".join(f"<td>{ranged(one)}</td>" for one in (row.base, row.candidate, row.difference, row.kept))
        + "</tr>"
        for row in comparison.rows
    )
    verdict = "" if comparison.verdict is None else f"<p>Verdict: <strong>{comparison.verdict}</strong></p>"
    names = f"<p>{escape(comparison.candidate)}, compared with {escape(comparison.base)}; in %, with 95% intervals</p>"
    return f"{names}<table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table>{verdict}"


def page(comparisons: Sequence[Comparison]) -> str:
    """A page with the table and the whole text of each comparison."""
    parts = "".join(
        f"<h2>{escape(one.candidate)}</h2>{fragment(one)}<h3>In full</h3><pre>{escape(text(one))}</pre>"
        for one in comparisons
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Does it still reason?</title>'
        f"<style>{_STYLE}</style></head><body><h1>Does it still reason?</h1>{parts}</body></html>\n"
    )
