"""Writes the pages about several runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lm_eval_ext.analysis.board import KNOWLEDGE, LONG, SHORT, Board, Entry, KeptByKind
from lm_eval_ext.metrics import METRICS
from lm_eval_ext.paths import LEADERBOARD
from lm_eval_ext.runs.literature import read_literature
from lm_eval_ext.runs.run import Run, TaskResult, variant_of
from lm_eval_ext.runs.study_file import StudyFile, StudyRun
from lm_eval_ext.site.cost_charts import cost_charts
from lm_eval_ext.site.figures import BASE, Line, Mark, Panel, Point, budget_ticks, marks_of
from lm_eval_ext.site.lines import (
    Chart,
    Family,
    PaperCurves,
    budget_charts,
    depth_charts,
    part_charts,
    share_charts,
    vote_charts,
)
from lm_eval_ext.site.overview import of_budgets, of_cost, of_found, of_shares, overview
from lm_eval_ext.site.published_page import write_published
from lm_eval_ext.site.questions import heat_maps
from lm_eval_ext.site.rendering import MEASURES, MINUS, Names, Renderer, slug, unique
from lm_eval_ext.site.run_page import FromSamples
from lm_eval_ext.site.traces import FoundByBudget, fates_of
from lm_eval_ext.statistics.intervals import Interval
from lm_eval_ext.wording import short_name

Reference = Mapping[str, Any]  # the digitised figures, as their file has them
_BENCHMARKS = {"MATH500": "tts_math500", "GPQA-diamond": "tts_gpqa_diamond", "AIME24": "tts_aime24"}
MARKS = marks_of(["shortgpt", "reverse", "laco"])
_TONES = ("ink", "one", "two", "three")
_MODELS = ("qwen3-8b", "s1.1-7b")


class PaperKept(NamedTuple):
    """What is kept without two layers, for the page's sentence."""

    knowledge: float
    long: float


def is_of_the_paper(base: str) -> bool:
    """Whether a base is one of the paper's two models."""
    return short_name(base).lower() in _MODELS


def read_reference() -> Reference:
    """The digitised figures."""
    found: Reference = json.loads((LEADERBOARD / "paper_reference.json").read_text("utf-8"))
    return found


def kept_without_two(reference: Reference) -> PaperKept:
    """Accuracy without two layers by ShortGPT, over the base's."""
    depth = reference["shortgpt_depth"]
    at = depth["layers_removed"].index(2)
    return PaperKept(depth["MMLU"][at] / depth["MMLU"][0], depth["AIME24"][at] / depth["AIME24"][0])


def beside_runs(reference: Reference) -> PaperCurves:
    """The base's curve and that of two layers off by ShortGPT, by our benchmarks' names."""
    budgets = reference["protocol"]["budgets"]
    shown = {"none 0": "base", "shortgpt 2": f"{MINUS}2"}
    return {
        ours: {
            name: list(zip(budgets, reference["sequential"][model][theirs], strict=True))
            for model, name in shown.items()
        }
        for theirs, ours in _BENCHMARKS.items()
    }


def paper_charts(reference: Reference) -> Iterator[Chart]:
    """All curves: by layers off, by budget, and pass@k by samples."""
    depth = reference["shortgpt_depth"]
    removed = depth["layers_removed"]
    lines = [
        Line(name, name, "plain", mark, _points(removed, depth[name], "layers off"))
        for name, mark in zip(("MMLU", "GSM8K", "MATH500", "AIME24"), _shapes(), strict=True)
    ]
    yield _chart("ShortGPT, by layers off", "knowledge, short and long reasoning", "layers off", lines,
                 [(at, str(at)) for at in removed], log=False)  # fmt: skip
    budgets = reference["protocol"]["budgets"]
    for benchmark in _BENCHMARKS:
        lines = [
            _line(model, _points(budgets, scores[benchmark], "tokens"))
            for model, scores in reference["sequential"].items()
            if benchmark in scores
        ]
        yield _chart(benchmark, "long reasoning", "thinking tokens allowed", lines, budget_ticks(budgets))
    samples = reference["parallel_pass_at_k_AIME24"]
    lines = [
        _line(model, _points(samples["k"], values, "samples")) for model, values in samples.items() if model != "k"
    ]
    yield _chart("AIME24, pass@k", "at least one of k samples is right", "samples k", lines,
                 [(k, str(k)) for k in samples["k"]])  # fmt: skip


def _shapes() -> list[Mark]:
    return [Mark("3 3", "diamond"), Mark("9 5", "square"), Mark("9 4 2 4", "triangle"), Mark()]


def _points(places: Sequence[float], values: Sequence[float], unit: str) -> list[Point]:
    return [
        Point(at, value, tip=f"{at:g} {unit}: {100 * value:.0f}%") for at, value in zip(places, values, strict=True)
    ]


def _line(model: str, points: Sequence[Point]) -> Line:
    method, _, count = model.rpartition(" ")
    name = "base" if count == "0" else f"{MINUS}{count} {method}"
    mark = BASE if count == "0" else MARKS.get(method, BASE)
    return Line(model, name, _TONES[min(int(count), 3)], mark, points)


def _chart(
    title: str, note: str, axis: str, lines: Sequence[Line], ticks: Sequence[tuple[float, str]], *, log: bool = True
) -> Chart:
    by_place = [{point.at: Interval(point.value, point.value, point.value) for point in line.points} for line in lines]
    rows = [(line.name, None, [found.get(at) for at, _ in ticks]) for line, found in zip(lines, by_place, strict=True)]
    return Chart("", Panel(title, note, axis, lines, ticks, log), [name for _, name in ticks], rows)


@dataclass(frozen=True)
class Cell:
    """A model on a task.

    Attributes:
        score: accuracy, or maj@k where samples vote; the mean over the seeds that are there, None if none is.
        done, planned: number of seeds.
        run: id of the first run; None if none is there.
        state: of the first run that is missing; empty if none is.
    """

    score: float | None
    done: int
    planned: int
    run: str | None
    state: str


@dataclass(frozen=True)
class StudyGrid:
    """A study to be shown.

    Attributes:
        name: of the study.
        columns: by benchmark, in order, what is shown of it: budgets, votes, or its accuracy.
        rows: model, pruning, and a cell for each task; None where that isn't part of the study.
        done, planned: number of runs.
    """

    name: str
    columns: Sequence[tuple[str, Sequence[str]]]
    rows: Sequence[tuple[str, str, Sequence[Cell | None]]]
    done: int
    planned: int


def grid(study: StudyFile, runs: Mapping[str, Run]) -> StudyGrid:
    """The grid of a study.

    Args:
        study: the study.
        runs: all runs of the site, by id.
    """
    benchmarks: dict[str, list[str]] = {}
    for task in dict.fromkeys(task for one in study.runs for task in one.tasks):
        benchmarks.setdefault(variant_of(task)[0], []).append(task)
    tasks = [task for some in benchmarks.values() for task in some]
    columns = [(benchmark, [_label(task) for task in some]) for benchmark, some in benchmarks.items()]
    kinds = list(dict.fromkeys((one.model, one.pruning) for one in study.runs))
    rows = []
    for model, pruning in kinds:
        mine = [one for one in study.runs if (one.model, one.pruning) == (model, pruning)]
        rows.append((model, pruning, [_cell([one for one in mine if task in one.tasks], task, runs) for task in tasks]))
    return StudyGrid(study.name, columns, rows, sum(_is_there(one, runs) for one in study.runs), len(study.runs))


def _label(task: str) -> str:
    """What a column shows: a budget, votes, or the accuracy."""
    benchmark, budget, votes = variant_of(task)
    if budget is not None:
        return str(budget)
    return task.replace(f"{benchmark}_maj", "maj@") if votes else "accuracy"


def _is_there(one: StudyRun, runs: Mapping[str, Run]) -> bool:
    return one.run is not None and one.run in runs


def _score(task: TaskResult) -> float | None:
    return task.value(f"maj@{task.repeats}") if task.votes else task.accuracy.value


def _cell(planned: Sequence[StudyRun], task: str, runs: Mapping[str, Run]) -> Cell | None:
    if not planned:
        return None
    there = [runs[one.run] for one in planned if one.run is not None and one.run in runs]
    scores = [found for run in there if task in run.tasks and (found := _score(run.tasks[task])) is not None]
    missing = next((one.state for one in planned if not _is_there(one, runs)), "")
    score = sum(scores) / len(scores) if scores else None
    return Cell(score, len(scores), len(planned), there[0].id if there else None, missing)


_FINDINGS = {"budgets": of_budgets, "cost": of_cost}
_MOST_FOUND = 24  # models of a benchmark on the page of found and lost answers

CHARTS: Mapping[str, Callable[[Family], Iterator[Chart]]] = {
    "budgets": budget_charts,
    "votes": vote_charts,
    "depth": depth_charts,
    "parts": part_charts,
    "cost": cost_charts,
}


def write_pages(
    renderer: Renderer,
    board: Board,
    names: Names,
    kept: Mapping[str, KeptByKind],
    of_samples: Mapping[str, FromSamples],
) -> None:
    """Write everything but the runs' own pages."""
    newest = max(run.date for run in board.runs)[:10]
    published = write_published(renderer, board, read_literature())
    renderer.write("index.html", "index.html", published=published, **overview(board, names, kept))
    reference = read_reference()
    curves = beside_runs(reference)
    families = [Family(board, base, names, kept, curves if is_of_the_paper(base) else {}) for base in board.bases]
    paths = {page: _write_charts(renderer, page, charts, families) for page, charts in CHARTS.items()}
    _write_found(renderer, families, of_samples)
    _write_questions(renderer, board, names, kept)
    renderer.write("compare.html", "compare.html")
    _write_paper(renderer, paths, reference)
    renderer.write("about.html", "about.html", newest=newest, measures=_measures(), kinds=_kinds(board))


def _paths(page: str, bases: Sequence[str]) -> dict[str, str]:
    """File of each base: the first has the page's own name."""
    wanted = [
        f"{page}-{slug(short_name(base))}.html" if number else f"{page}.html" for number, base in enumerate(bases)
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
        shares = list(share_charts(family)) if page == "depth" else []
        renderer.write(
            f"{page}.html", paths[family.base], family=family, charts=found, fates=fates, shares=shares,
            depth=max((len(fate.of) for fate in fates), default=0),
            shares_finding=of_shares(family, shares),
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


def _write_questions(renderer: Renderer, board: Board, names: Names, kept: Mapping[str, KeptByKind]) -> None:
    maps = heat_maps(board, names, kept)
    for one in maps or (None,):
        renderer.write("questions.html", one.path if one else "questions.html", map=one, maps=maps)


def _write_paper(renderer: Renderer, pages: Mapping[str, Mapping[str, str]], reference: Mapping[str, Any]) -> None:
    same = [
        (f"{base}: {title}", path)
        for title, page in (("by thinking budget", "budgets"), ("by layers off", "depth"))
        for base, path in pages[page].items()
        if is_of_the_paper(base)
    ]
    renderer.write(
        "paper.html", "paper.html", charts=list(paper_charts(reference)), same=same,
        kept=kept_without_two(reference), source=reference["source"], protocol=reference["protocol"],
        marks=MARKS,
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
