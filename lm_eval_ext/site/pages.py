"""Writes the pages about several runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from lm_eval_ext.analysis.board import Board
from lm_eval_ext.analysis.entries import Entry
from lm_eval_ext.analysis.kept import KNOWLEDGE, LONG, SHORT, Kept
from lm_eval_ext.grading.metrics import METRICS
from lm_eval_ext.site import findings, paper
from lm_eval_ext.site.cost import cost_charts
from lm_eval_ext.site.data import VERSION
from lm_eval_ext.site.fates import fates_of
from lm_eval_ext.site.found import FoundByBudget
from lm_eval_ext.site.lines import Chart, Family, budget_charts, depth_charts, vote_charts
from lm_eval_ext.site.names import MEASURES, ModelName, short_base, slug
from lm_eval_ext.site.overview import overview
from lm_eval_ext.site.part_charts import part_charts
from lm_eval_ext.site.questions import heat_maps
from lm_eval_ext.site.rendering import Renderer
from lm_eval_ext.site.run_page import FromSamples

_MOST_FOUND = 24  # models of a benchmark on the page of found and lost answers

CHARTS: Mapping[str, Callable[[Family], Iterator[Chart]]] = {
    "budgets": budget_charts,
    "votes": vote_charts,
    "depth": depth_charts,
    "parts": part_charts,
    "cost": cost_charts,
}

Names = Mapping[str, ModelName]


def common(board: Board) -> dict[str, object]:
    """Values for every page; nothing here changes when a run is added, or all pages would."""
    return {"version": version("lm-eval-tts"), "data_version": VERSION}


def write_pages(
    renderer: Renderer, board: Board, names: Names, kept: Mapping[str, Kept], of_samples: Mapping[str, FromSamples]
) -> None:
    """Write everything but the runs' own pages."""
    newest = max(run.date for run in board.runs)[:10]
    renderer.write("index.html", "index.html", **overview(board, names, kept))
    reference = paper.read_reference()
    families = [Family(board, base, names, kept, paper.beside_runs(reference)) for base in board.bases]
    for page, charts in CHARTS.items():
        _write_charts(renderer, page, charts, families)
    _write_found(renderer, families, of_samples)
    _write_questions(renderer, board, names, kept)
    renderer.write("compare.html", "compare.html")
    _write_paper(renderer, board, reference)
    renderer.write("about.html", "about.html", newest=newest, measures=_measures(), kinds=_kinds(board))


def _paths(page: str, bases: Sequence[str]) -> dict[str, str]:
    """File of each base: the first has the page's own name."""
    found: dict[str, str] = {}
    for number, base in enumerate(bases):
        path = f"{page}-{slug(short_base(base))}.html" if number else f"{page}.html"
        found[base] = path if path not in found.values() else f"{page}-{slug(base)}-{number}.html"
    return found


def _write_charts(
    renderer: Renderer, page: str, charts: Callable[[Family], Iterator[Chart]], families: Sequence[Family]
) -> None:
    drawn = {family.base: list(charts(family)) for family in families}
    shown = [family for family in families if drawn[family.base]] or list(families[:1])
    paths = _paths(page, [family.base for family in shown])
    for family in shown:
        found = drawn[family.base]
        fates = fates_of(family) if page == "depth" else []
        renderer.write(
            f"{page}.html", paths[family.base], family=family, charts=found, fates=fates,
            depth=max((len(fate.of) for fate in fates), default=0),
            finding=findings.of_budgets(family, found) if page == "budgets" else None,
            one_has_paper=any(line.reference for chart in found for line in chart.panel.lines),
            families=[(path, base) for base, path in paths.items()],
        )  # fmt: skip


def _write_found(renderer: Renderer, families: Sequence[Family], of_samples: Mapping[str, FromSamples]) -> None:
    found = {family.base: _found(family, of_samples) for family in families}
    shown = [family for family in families if found[family.base]] or list(families[:1])
    paths = _paths("found", [family.base for family in shown])
    for family in shown:
        by_benchmark: dict[str, list[tuple[Entry, FoundByBudget]]] = {}
        for entry, one in found[family.base]:
            by_benchmark.setdefault(one.benchmark, []).append((entry, one))
        sections = [
            {
                "benchmark": benchmark,
                "number": number,
                "models": [
                    (family.names[entry.key], entry, one, _of_base(entry, one, some))
                    for entry, one in some[:_MOST_FOUND]
                ],
                "more": max(0, len(some) - _MOST_FOUND),
            }
            for number, (benchmark, some) in enumerate(by_benchmark.items(), 1)
        ]
        renderer.write(
            "found.html", paths[family.base], family=family, sections=sections,
            families=[(path, base) for base, path in paths.items()],
            finding=findings.of_found(family, found[family.base]),
        )  # fmt: skip


def _of_base(entry: Entry, one: FoundByBudget, some: Sequence[tuple[Entry, FoundByBudget]]) -> FoundByBudget | None:
    """What became of the base's right answers at the same budgets."""
    found = (their for other, their in some if other.dense and their.budgets == one.budgets)
    return None if entry.dense else next(found, None)


def _found(family: Family, of_samples: Mapping[str, FromSamples]) -> list[tuple[Entry, FoundByBudget]]:
    """What became of right answers, by model; the benchmarks in the site's order."""
    pairs = [
        (entry, one)
        for entry in family.entries
        for one in {one.benchmark: one for run in entry.runs for one in of_samples[run.id].found}.values()
    ]
    order = family.board.benchmarks
    return sorted(pairs, key=lambda pair: order.index(pair[1].benchmark))


def _write_questions(renderer: Renderer, board: Board, names: Names, kept: Mapping[str, Kept]) -> None:
    maps = heat_maps(board, names, kept)
    for one in maps:
        renderer.write("questions.html", one.path, map=one, maps=maps)
    if not maps:
        renderer.write("questions.html", "questions.html", map=None, maps=[])


def _write_paper(renderer: Renderer, board: Board, reference: Mapping[str, Any]) -> None:
    same = [
        (f"{base}: {title}", path)
        for base in board.bases
        if short_base(base).lower() in paper.MODELS
        for title, path in (("by thinking budget", "budgets.html"), ("by layers off", "depth.html"))
    ]
    renderer.write(
        "paper.html", "paper.html", charts=list(paper.paper_charts(reference)), same=same,
        kept=paper.kept_without_two(reference), source=reference["source"], protocol=reference["protocol"],
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
