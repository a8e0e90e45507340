"""Draws the figures of the page on statistics.

    python -m benchmarks.figures [--to FOLDER]

Writes `statistics-*.svg` into `docs/images`, and beside each the numbers that it shows, as a CSV file.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import altair
import numpy as np
import pandas as pd
from scipy.stats import binom

from benchmarks.coverage import NORMAL, paired_moments
from benchmarks.gate import ratios
from benchmarks.scenarios import Paired
from lm_eval_ext.api import read_runs
from lm_eval_ext.paths import LEADERBOARD
from lm_eval_ext.statistics.intervals import mean_bounds

IMAGES = Path(__file__).parent.parent / "docs" / "images"
QUESTIONS = 30
KEEP, RUNS = 0.9, 4000
VERDICTS = ("lost", "undecided", "kept")
MODELS = {"dense": "whole", "reverse -1": "without the last layer", "shortgpt -1": "without ShortGPT's choice"}


class Figure(NamedTuple):
    """What a figure shows, and how."""

    numbers: Callable[[], pd.DataFrame]
    chart: Callable[[pd.DataFrame], altair.TopLevelMixin]


def coverage() -> pd.DataFrame:
    """How often an interval covers the true accuracy, of 30 questions with one sample each: exact, no simulation."""
    right = np.arange(QUESTIONS + 1)
    mean = right / QUESTIONS
    reach = 1.96 * np.sqrt(mean * (1 - mean) / (QUESTIONS - 1))
    intervals = {"Wilson's": mean_bounds(mean, mean * (1 - mean), QUESTIONS), NORMAL: (mean - reach, mean + reach)}
    return pd.DataFrame(
        {"accuracy": truth, "interval": name, "coverage": binom.pmf(right, QUESTIONS, truth) @ covers}
        for truth in np.arange(0.01, 0.995, 0.0025)
        for name, (low, high) in intervals.items()
        for covers in [(low <= truth) & (truth <= high)]
    )


def verdicts() -> pd.DataFrame:
    """How often a model is found to be kept or lost, by what it really keeps: simulated, 8 samples of each question."""

    def shares(questions: int, kept: float) -> dict[str, float]:
        scenario = Paired(questions, 8, 0.7, "0.5", kept, "everywhere")
        low, high = ratios(paired_moments(scenario, np.random.default_rng(0), RUNS), questions)
        found = {"kept": float((low >= KEEP).mean()), "lost": float((high < KEEP).mean())}
        return found | {"undecided": 1 - sum(found.values())}

    return pd.DataFrame(
        {"questions": questions, "kept": kept, "verdict": verdict, "share": share}
        for questions in (30, 198, 500)
        for kept in np.arange(0.7, 1.0001, 0.0125)
        for verdict, share in shares(questions, float(kept)).items()
    )


def votes() -> pd.DataFrame:
    """pass@k and maj@k of published runs of the embedded model: the mean of their two seeds."""
    runs = read_runs(LEADERBOARD / "results").to_frame()
    chosen = runs[(runs.task == "tts_chain_maj8") & runs.model.isin(MODELS)].groupby("model").mean(numeric_only=True)
    return pd.DataFrame(
        {
            "model": MODELS[model],
            "k": k,
            "measure": f"{name}@k",
            "score": row.accuracy if k == 1 else row[f"{name}@{k}"],
        }
        for model, row in chosen.iterrows()
        for name in ("pass", "maj")
        for k in (1, 2, 4, 8)
    )


def coverage_chart(numbers: pd.DataFrame) -> altair.TopLevelMixin:
    """Two jagged lines, and a dashed one at 95%."""
    lines = (
        altair.Chart(numbers)
        .mark_line(strokeWidth=1.2, clip=True)
        .encode(
            x=altair.X("accuracy:Q", title="true accuracy", axis=altair.Axis(format="%")),
            y=altair.Y("coverage:Q", scale=altair.Scale(domain=[0.5, 1]), axis=altair.Axis(format="%")),
            color=altair.Color("interval:N", title=None, legend=altair.Legend(orient="bottom")),
        )
    )
    promised = altair.Chart().mark_rule(strokeDash=[4, 4], color="grey").encode(y=altair.datum(0.95))
    return altair.layer(lines, promised, data=numbers).properties(width=560, height=220)


def verdict_chart(numbers: pd.DataFrame) -> altair.TopLevelMixin:
    """Areas that add up to one, for each number of questions."""
    chart: altair.TopLevelMixin = (
        altair.Chart(numbers)
        .mark_area()
        .encode(
            x=altair.X("kept:Q", title="really kept", axis=altair.Axis(format="%"), scale=altair.Scale(zero=False)),
            y=altair.Y("share:Q", title="of all runs", axis=altair.Axis(format="%"), stack="zero"),
            color=altair.Color(
                "verdict:N", title=None, legend=altair.Legend(orient="bottom"), sort=list(VERDICTS),
                scale=altair.Scale(domain=list(VERDICTS), range=["#cb7717", "#dcdfe1", "#17706b"]),
            ),
            column=altair.Column("questions:O", title="questions"),
        )
        .properties(width=175, height=190)
    )  # fmt: skip
    return chart


def votes_chart(numbers: pd.DataFrame) -> altair.TopLevelMixin:
    """Both measures over the number of samples, for each model."""
    chart: altair.TopLevelMixin = (
        altair.Chart(numbers)
        .mark_line(point=True)
        .encode(
            x=altair.X("k:Q", scale=altair.Scale(type="log", base=2), axis=altair.Axis(values=[1, 2, 4, 8])),
            y=altair.Y("score:Q", title=None, scale=altair.Scale(domain=[0, 1]), axis=altair.Axis(format="%")),
            color=altair.Color("measure:N", title=None, legend=altair.Legend(orient="bottom")),
            column=altair.Column("model:N", title=None, sort=list(MODELS.values())),
        )
        .properties(width=175, height=170)
    )
    return chart


FIGURES = {
    "coverage": Figure(coverage, coverage_chart),
    "verdicts": Figure(verdicts, verdict_chart),
    "votes": Figure(votes, votes_chart),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=IMAGES, help="folder")
    folder = parser.parse_args().to
    for name, figure in FIGURES.items():
        numbers = figure.numbers()
        numbers.round(6).to_csv(folder / f"statistics-{name}.csv", index=False)
        figure.chart(numbers).configure(background="white").save(str(folder / f"statistics-{name}.svg"))


if __name__ == "__main__":
    main()
