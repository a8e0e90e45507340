"""Simulates how often our 95% intervals cover the true value.

    python -m benchmarks.coverage [--repeats 20000] [--write]

Draws runs of models with known true accuracies (`benchmarks.scenarios`), and counts how often the interval of a mean, a
paired difference, a ratio, and a difference of two gains contains the true value. Exits with 1 if an interval covers
less often than promised.
`--write` writes `docs/reference/intervals.md`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.scenarios import MIDDLE, Fixed, Floats, Gains, Paired, Scenario, Single, scenarios
from lm_eval_ext.statistics.intervals import mean_bounds, rerun_bounds
from lm_eval_ext.statistics.paired import contrast_bounds, correlation_of_moments, difference_bounds, ratio_bounds

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "intervals.md"
TEXT = """# How often the intervals cover

A 95% interval should contain the true value 95 times out of 100. This page shows how often ours do, in {repeats:,}
simulated runs of each of {scenarios:,} scenarios: 15 to 500 questions, 1 to 32 samples per question, accuracies from
.02 to .98, and questions that are equally hard, of varying difficulty, or always answered correctly or always wrongly.
The formulas are in [Statistics](../statistics.md), the scenarios in `benchmarks/scenarios.py`.

The true value is the accuracy on all questions like these, except in "The same questions, run again". Each row
summarises several scenarios: their mean, lowest and highest coverage, and the median width. "1.96 stderr" is the
interval from the standard error that lm-eval prints. Written by `python -m benchmarks.coverage --write`.

## A mean over questions

Accuracies of .1, .3, .5, .7 and .9:

{middle}

Extreme accuracies, .02, .05, .95 and .98:

{edges}

## A difference over the same questions

{difference}

## A ratio over the same questions: the share of the base's accuracy

A ratio is only shown if the base is significantly above chance; a run in which it is not counts as covered.

{ratio}

## A difference of two models' gains from thinking

A gain itself is a difference over the same questions.

{gains}

## The same questions, run again

{rerun}

## Scenarios with coverage below .925

{low}
"""
NORMAL = "1.96 stderr"
_BATCH = 2_000
_Z95 = 1.959964

Bounds = dict[str, tuple[Floats, Floats, Floats]]  # by kind of interval: low, high and true value of every run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20_000, help="runs per scenario")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write docs/reference/intervals.md")
    options = parser.parse_args()
    cells = simulated(list(scenarios()), options.repeats, options.processes)
    text = page(cells, options.repeats)
    print(text)
    if options.write:
        PAGE.write_text(text, encoding="utf-8")
    if faults := missed(cells):
        sys.exit("\n".join(faults))


def simulated(some: Sequence[Scenario], repeats: int, processes: int) -> pd.DataFrame:
    """One row per scenario and kind of interval."""
    with ProcessPoolExecutor(processes) as pool:
        rows = pool.map(partial(simulate, repeats=repeats), some, range(len(some)), chunksize=8)
        return pd.DataFrame([row for found in rows for row in found])


def simulate(scenario: Scenario, seed: int, repeats: int) -> list[dict[str, Any]]:
    """Coverage and width of each kind of interval in a scenario."""
    generator = np.random.default_rng(seed)
    batches = [min(_BATCH, repeats - start) for start in range(0, repeats, _BATCH)]
    bounds = [_DRAWN_BY[type(scenario)](scenario, generator, size) for size in batches]
    together = {kind: map(np.concatenate, zip(*(one[kind] for one in bounds), strict=True)) for kind in bounds[0]}
    return [asdict(scenario) | {"kind": kind} | _outcome(*runs) for kind, runs in together.items()]


def _outcome(low: Floats, high: Floats, truth: Floats) -> dict[str, float]:
    shown = ~np.isnan(low)
    missed = (truth < low - 1e-9) | (truth > high + 1e-9)  # comparisons with NaN are false
    width = float(np.median((high - low)[shown])) if shown.any() else np.nan
    return {"coverage": 1 - missed.mean(), "shown": shown.mean(), "width": width}


def _single(scenario: Single, generator: np.random.Generator, size: int) -> Bounds:
    counts = generator.multinomial(scenario.questions, scenario.chances(), size)
    scores = np.arange(scenario.samples + 1) / scenario.samples
    mean, square = counts @ scores / scenario.questions, counts @ scores**2 / scenario.questions
    variance = np.maximum(0, square - mean**2)
    half = _Z95 * np.sqrt(variance / (scenario.questions - 1))
    truth = np.full(size, scenario.truth)
    return {
        "mean": (*mean_bounds(mean, variance, scenario.questions), truth),
        f"mean {NORMAL}": (mean - half, mean + half, truth),
    }


def paired_moments(
    scenario: Paired, generator: np.random.Generator, size: int
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Means over questions of the base's scores, their squares, those of the smaller model, and the products."""
    chances = scenario.chances()
    order = np.argsort(-chances, axis=None)  # numpy stops drawing once all questions are used up
    base, smaller = (index / scenario.samples for index in np.unravel_index(order, chances.shape))
    counts = generator.multinomial(scenario.questions, chances.ravel()[order], size)
    columns = np.stack([base, base**2, smaller, smaller**2, base * smaller], axis=1)
    b, bb, c, cc, bc = (counts @ columns / scenario.questions).T
    return b, bb, c, cc, bc


def _paired(scenario: Paired, generator: np.random.Generator, size: int) -> Bounds:
    b, bb, c, cc, bc = paired_moments(scenario, generator, size)
    one = (c, *mean_bounds(c, np.maximum(0, cc - c**2), scenario.questions))
    other = (b, *mean_bounds(b, np.maximum(0, bb - b**2), scenario.questions))
    correlation = correlation_of_moments(c, cc, b, bb, bc, questions=scenario.questions)
    half = _Z95 * np.sqrt(np.maximum(0, bb + cc - 2 * bc - (c - b) ** 2) / (scenario.questions - 1))
    base_truth, truth = scenario.truth
    lost = np.full(size, truth - base_truth)
    left = np.full(size, (truth - scenario.chance) / (base_truth - scenario.chance))
    return {
        "difference": (*difference_bounds(one, other, correlation), lost),
        f"difference {NORMAL}": (c - b - half, c - b + half, lost),
        "ratio": (*ratio_bounds(one, other, correlation, scenario.chance), left),
    }


def _fixed(scenario: Fixed, generator: np.random.Generator, size: int) -> Bounds:
    skill = scenario.draw(generator, size)
    scores = generator.binomial(scenario.samples, skill) / scenario.samples
    noise = (scores * (1 - scores)).mean(1)
    return {"run again": (*rerun_bounds(scores.mean(1), noise, scenario.questions, scenario.samples), skill.mean(1))}


def _gains(scenario: Gains, generator: np.random.Generator, size: int) -> Bounds:
    counts = generator.multinomial(scenario.questions, scenario.chances(), size)
    contrasts = (np.arange(counts.shape[1]) - counts.shape[1] // 2) / scenario.samples
    mean, square = counts @ contrasts / scenario.questions, counts @ contrasts**2 / scenario.questions
    bounds = contrast_bounds(mean, square, scenario.weights, scenario.questions)
    return {"gains": (*bounds, np.full(size, scenario.truth))}


_DRAWN_BY: dict[type, Callable[..., Bounds]] = {Single: _single, Paired: _paired, Fixed: _fixed, Gains: _gains}


def missed(cells: pd.DataFrame) -> list[str]:
    """Intervals that cover less often than promised."""
    coverage, few, middle = cells.coverage, cells.samples <= 8, cells.accuracy.isin(MIDDLE)
    mean = cells.kind == "mean"
    rules = [
        ("mean, accuracies .1 to .9, on average", 0.945, coverage[mean & middle].mean()),
        ("mean, every scenario", 0.925, coverage[mean].min()),
    ]
    for kind in ("difference", "ratio", "gains"):
        some = cells.kind == kind
        rules += [
            (f"{kind}, 9 of 10 scenarios", 0.94, coverage[some].quantile(0.1)),
            (f"{kind}, every scenario of up to 8 samples", 0.92, coverage[some & few].min()),
        ]
    return [f"{what}: {found:.4f}; promised: {least}" for what, least, found in rules if found < least]


def page(cells: pd.DataFrame, repeats: int) -> str:
    """The page, as Markdown."""
    middle = cells.accuracy.isin(MIDDLE)
    simulations = cells.kind.isin(["mean", "difference", "run again", "gains"])
    return TEXT.format(
        repeats=repeats,
        scenarios=simulations.sum(),
        middle=_markdown(_summary(cells[middle], "mean")),
        edges=_markdown(_summary(cells[~middle], "mean")),
        difference=_markdown(_summary(cells, "difference")),
        ratio=_markdown(_summary(cells, "ratio")),
        gains=_markdown(_summary(cells, "gains")),
        rerun=_markdown(_summary(cells, "run again")),
        low=_low(cells[(cells.coverage < 0.925) & ~cells.kind.str.contains("stderr")]),
    )


def _summary(cells: pd.DataFrame, kind: str) -> pd.DataFrame:
    grouped = cells[cells.kind == kind].groupby(["questions", "samples"])
    found = grouped.agg(
        mean=("coverage", "mean"), lowest=("coverage", "min"), highest=("coverage", "max"), width=("width", "median")
    )
    if kind == "ratio":
        found["shown"] = grouped.shown.mean()
    normal = cells[cells.kind == f"{kind} {NORMAL}"].groupby(["questions", "samples"]).coverage
    return found if normal.ngroups == 0 else found.assign(**{NORMAL: normal.mean(), "its lowest": normal.min()})


def _markdown(table: pd.DataFrame) -> str:
    names = [*table.index.names, *table.columns]
    rows = [
        [*map(str, key), *(f"{value:.3f}" for value in row)] for key, row in zip(table.index, table.values, strict=True)
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in [names, ["--:"] * len(names), *rows])


def _low(cells: pd.DataFrame) -> str:
    if cells.empty:
        return "None."
    columns = ["kind", "questions", "samples", "accuracy", "kept", "loss", "spread"]
    return _markdown(cells.set_index(columns)[["coverage"]].sort_values("coverage"))


if __name__ == "__main__":
    main()
