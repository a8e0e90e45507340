"""Intervals of ratios of sums over questions, such as a mean over all tokens of their traces, by the bootstrap.

Tokens of one question are not independent, so whole questions are drawn. Of few questions a bootstrap's intervals are
too narrow (of two, at most as wide as these are apart), so both sides are made longer, as much as Student's interval of
a mean is longer than the normal one without Bessel's correction.

Sources: Efron 1987, "Better Bootstrap Confidence Intervals" (BCa), as in `scipy.stats.bootstrap`; Hesterberg 2015,
"What Teachers Should Know About the Bootstrap", on how narrow they are and by how much to widen them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from lm_eval_ext.statistics.intervals import Floats, Interval, student_quantile

_RESAMPLES = 2_000


def mean_over_parts(
    sums: Sequence[float], counts: Sequence[float], *, confidence: float = 0.95, least: float = -math.inf
) -> Interval | None:
    """The mean of all parts of all questions, such as their tokens, with its interval for new questions.

    Args:
        sums: one per question, over its parts.
        counts: numbers of parts; questions without any are left out.
        confidence: level of the interval.
        least: what no mean can be below.

    Returns:
        None with fewer than two questions.

    >>> mean, low, high = mean_over_parts([1.0, 2.0, 4.0, 5.0], [2, 2, 2, 2])
    >>> mean, low < 1.5 < high
    (1.5, True)
    """
    found = _interval([_columns(sums, counts)], lambda means: means[0], confidence)
    return found and found._replace(low=min(max(found.low, least), found.estimate))


def difference_of_means(
    one: tuple[Sequence[float], Sequence[float]],
    other: tuple[Sequence[float], Sequence[float]],
    *,
    confidence: float = 0.95,
) -> Interval | None:
    """The mean of some parts minus the mean of others, of the same questions.

    Args:
        one, other: sums and counts, one per question, in the same order; questions without either are left out.
        confidence: level of the interval.

    Returns:
        None with fewer than two questions that have both.
    """
    first, second = np.array(one, dtype=np.float64), np.array(other, dtype=np.float64)
    both = (first[1] > 0) & (second[1] > 0)
    return _interval([first[:, both], second[:, both]], lambda means: means[0] - means[1], confidence)


def _columns(sums: Sequence[float], counts: Sequence[float]) -> Floats:
    columns = np.array([sums, counts], dtype=np.float64)
    return columns[:, columns[1] > 0]


def _interval(
    columns: Sequence[Floats], combined: Callable[[Sequence[Floats]], Floats], confidence: float
) -> Interval | None:
    from scipy.stats import DegenerateDataWarning, bootstrap

    questions = columns[0].shape[1]
    if questions < 2:
        return None
    normal = NormalDist().inv_cdf((1 + confidence) / 2)
    longer = student_quantile(confidence, questions) * math.sqrt(questions / (questions - 1)) / normal

    def statistic(*drawn: Floats, axis: int) -> Any:
        means = [drawn[at].sum(axis) / drawn[at + 1].sum(axis) for at in range(0, len(drawn), 2)]
        return combined(means)

    flat = [column for pair in columns for column in pair]
    estimate = float(statistic(*flat, axis=-1))
    for method in ("BCa", "percentile"):  # where nearly all questions are alike, BCa's correction divides by zero
        with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", DegenerateDataWarning)
            found = bootstrap(
                flat, statistic, paired=True, n_resamples=_RESAMPLES, confidence_level=confidence, method=method,
                rng=np.random.default_rng(0),
            ).confidence_interval  # fmt: skip
        low, high = float(found.low), float(found.high)
        if np.isfinite(low) and np.isfinite(high):
            down, up = (longer * max(0.0, side) for side in (estimate - low, high - estimate))
            return Interval(estimate, estimate - down, estimate + up)
    return Interval(estimate, -math.inf, math.inf)  # a value is infinite
