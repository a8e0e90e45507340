"""Writes the pages about several runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lm_eval_ext.analysis.board import KNOWLEDGE, LONG, SHORT, Board, Kept
from lm_eval_ext.analysis.entries import Entry
from lm_eval_ext.metrics import METRICS
from lm_eval_ext.site import paper
from lm_eval_ext.site.cost import cost_charts
from lm_eval_ext.site.data import VERSION
from lm_eval_ext.site.found import FoundByBudget, fates_of
from lm_eval_ext.site.lines import Chart, Family, budget_charts, depth_charts, part_charts, vote_charts
from lm_eval_ext.site.overview import of_budgets, of_cost, of_found, overview
from lm_eval_ext.site.questions import heat_maps
from lm_eval_ext.site.rendering import MEASURES, Names, Renderer, short_base, slug, unique
from lm_eval_ext.site.run_page import FromSamples
from lm_eval_ext.version import own_version

_FINDINGS = {"budgets": of_budgets, "cost": of_cost}
_MOST_FOUND = 24  # models of a benchmark on the page of found and lost answers

CHARTS: Mapping[str, Callable[[Family], Iterator[Chart]]] = {
    "budgets": budget_charts,
    "votes": vote_charts,
    "depth": depth_charts,
    "parts": part_charts,
    "cost": cost_charts,
}


def common(board: Board) -> dict[str, object]:
    """Values for every page; nothing here changes when a run is added, or all pages would."""
    return {"version": own_version(), "data_version": VERSION}


def write_pages(
    renderer: Renderer, board: Board, names: Names, kept: Mapping[str, Kept], of_samples: Mapping[str, FromSamples]
) -> None:
    """Write everything but the runs' own pages."""
    newest = max(run.date for run in board.runs)[:10]
    renderer.write("index.html", "index.html", **overview(board, names, kept))
    reference = paper.read_reference()
    curves = paper.beside_runs(reference)
    families = [Family(board, base, names, kept, curves if paper.is_of_the_paper(base) else {}) for base in board.bases]
    paths = {page: _write_charts(renderer, page, charts, families) for page, charts in CHARTS.items()}
    _write_found(renderer, families, of_samples)
    _write_questions(renderer, board, names, kept)
    renderer.write("compare.html", "compare.html")
    _write_paper(renderer, paths, reference)
    renderer.write("about.html", "about.html", newest=newest, measures=_measures(), kinds=_kinds(board))


def _paths(page: str, bases: Sequence[str]) -> dict[str, str]:
    """File of each base: the first has the page's own name."""
    wanted = [
        f"{page}-{slug(short_base(base))}.html" if number else f"{page}.html" for number, base in enumerate(bases)
    ]
    return dict(zip(bases, unique(wanted), strict=True))


def _write_charts(
    renderer: Renderer, page: str, charts: Callable[[Family], Iterator[Chart]], families: Sequence[Family]
) -> Mapping[str, str]:
    """Write a page for each base with a chart; returns their paths by base."""
    drawn = {family.base: list(charts(family)) for family in families}
    shown = [family for family in families if drawn[family.base]] or list(families[:1])
    paths = _paths(page, [family.base for family in shown])
    for family in shown:
        found = drawn[family.base]
        fates = fates_of(family) if page == "depth" else []
        renderer.write(
            f"{page}.html", paths[family.base], family=family, charts=found, fates=fates,
            depth=max((len(fate.of) for fate in fates), default=0),
            finding=_FINDINGS[page](family, found) if page in _FINDINGS else None,
            one_has_paper=any(line.reference for chart in found for line in chart.panel.lines),
            families=[(path, base) for base, path in paths.items()],
        )  # fmt: skip
    return paths


def _write_found(renderer: Renderer, families: Sequence[Family], of_samples: Mapping[str, FromSamples]) -> None:
    found = {family.base: _found(family, of_samples) for family in families}
    shown = [family for family in families if found[family.base]] or list(families[:1])
    paths = _paths("found", [family.base for family in shown])
    for family in shown:
        by_benchmark: dict[str, list[tuple[Entry, FoundByBudget, FoundByBudget | None]]] = {}
        for entry, one, base in found[family.base]:
            by_benchmark.setdefault(one.benchmark, []).append((entry, one, base))
        sections = [
            {
                "benchmark": benchmark,
                "number": number,
                "models": [(family.names[entry.key], entry, one, base) for entry, one, base in some[:_MOST_FOUND]],
                "more": max(0, len(some) - _MOST_FOUND),
            }
            for number, (benchmark, some) in enumerate(by_benchmark.items(), 1)
        ]
        renderer.write(
            "found.html", paths[family.base], family=family, sections=sections,
            families=[(path, base) for base, path in paths.items()],
            finding=of_found(family, found[family.base]),
        )  # fmt: skip


def _found(
    family: Family, of_samples: Mapping[str, FromSamples]
) -> list[tuple[Entry, FoundByBudget, FoundByBudget | None]]:
    """What became of right answers, by model, beside its own base; the benchmarks in the site's order."""
    rows = []
    for entry in family.entries:
        dense = family.board.dense(entry)
        theirs = _newest(dense, of_samples) if dense and dense is not entry else {}
        for one in _newest(entry, of_samples).values():
            base = theirs.get(one.benchmark)
            rows.append((entry, one, base if base and base.beside(one) else None))
    order = family.board.benchmarks
    return sorted(rows, key=lambda row: order.index(row[1].benchmark))


def _newest(entry: Entry, of_samples: Mapping[str, FromSamples]) -> dict[str, FoundByBudget]:
    """By benchmark, from the newest run that has it, by the newest grader."""
    found: dict[str, FoundByBudget] = {}
    for run in entry.runs:
        for one in of_samples[run.id].found:
            if one.benchmark not in found or one.grader >= found[one.benchmark].grader:
                found[one.benchmark] = one
    return found


def _write_questions(renderer: Renderer, board: Board, names: Names, kept: Mapping[str, Kept]) -> None:
    maps = heat_maps(board, names, kept)
    for one in maps:
        renderer.write("questions.html", one.path, map=one, maps=maps)
    if not maps:
        renderer.write("questions.html", "questions.html", map=None, maps=[])


def _write_paper(renderer: Renderer, pages: Mapping[str, Mapping[str, str]], reference: Mapping[str, Any]) -> None:
    same = [
        (f"{base}: {title}", path)
        for title, page in (("by thinking budget", "budgets"), ("by layers off", "depth"))
        for base, path in pages[page].items()
        if paper.is_of_the_paper(base)
    ]
    renderer.write(
        "paper.html", "paper.html", charts=list(paper.paper_charts(reference)), same=same,
        kept=paper.kept_without_two(reference), source=reference["source"], protocol=reference["protocol"],
        marks=paper.MARKS,
    )  # fmt: skip


def _measures() -> dict[str, str]:
    meanings = {one.name: one.meaning for metric in METRICS for one in metric.gives}
    return {title: meanings[name] for name, title in MEASURES.items()}


def _kinds(board: Board) -> dict[str, list[str]]:
    return {
        board.catalogue.kinds[kind].lower(): [
            board.title(name) for name in board.benchmarks if board.catalogue.benchmark(name).kind == kind
        ]
        for kind in (KNOWLEDGE, SHORT, LONG)
    }
