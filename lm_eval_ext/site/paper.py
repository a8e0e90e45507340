"""The paper's curves, from `paper_reference.json`: on a page of their own, and beside runs on the same benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lm_eval_ext.paths import LEADERBOARD
from lm_eval_ext.site.figures import BASE, Line, Mark, Panel, Point, budget_ticks, marks_of
from lm_eval_ext.site.lines import Chart, PaperCurves
from lm_eval_ext.site.rendering import MINUS, short_base
from lm_eval_ext.statistics.intervals import Interval

Reference = Mapping[str, Any]  # the digitised figures, as their file has them
_BENCHMARKS = {"MATH500": "tts_math500", "GPQA-diamond": "tts_gpqa_diamond", "AIME24": "tts_aime24"}
_NOTES = {"MATH500": "long reasoning", "GPQA-diamond": "long reasoning", "AIME24": "long reasoning"}
MARKS = marks_of(["shortgpt", "reverse", "laco"])
_TONES = ("ink", "one", "two", "three")
_MODELS = ("qwen3-8b", "s1.1-7b")


class PaperKept(NamedTuple):
    """What is kept without two layers, for the page's sentence."""

    knowledge: float
    long: float


def is_of_the_paper(base: str) -> bool:
    """Whether a base is one of the paper's two models."""
    return short_base(base).lower() in _MODELS


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
        yield _chart(benchmark, _NOTES[benchmark], "thinking tokens allowed", lines, budget_ticks(budgets))
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
