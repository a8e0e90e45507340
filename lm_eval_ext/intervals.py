"""Confidence intervals of a proportion or a mean over questions, in closed form."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

Z95 = 1.959963984540054  # of the normal distribution: 95% lie within


class Interval(NamedTuple):
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float


def wilson_interval(successes: float, trials: int, *, z: float = Z95) -> Interval:
    """A proportion of independent single trials with Wilson's score interval.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".

    Raises:
        ValueError: unless 0 <= successes <= trials and trials >= 1.
    """
    if not (trials >= 1 and 0 <= successes <= trials):
        raise ValueError(f"{successes} of {trials}; allowed: 0 to all of one or more trials")
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def normal_interval(mean: float, stderr: float, questions: int) -> Interval:
    """A mean of scores between 0 and 1, 1.96 standard errors to both sides; Wilson's where the scores do not vary."""
    if stderr <= 0:
        return wilson_interval(min(1.0, max(0.0, mean)) * questions, questions)
    return Interval(mean, max(0.0, mean - Z95 * stderr), min(1.0, mean + Z95 * stderr))
