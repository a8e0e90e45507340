"""Meta-analysis: an effect over several sources, which differ by more than chance.

Sources: DerSimonian and Laird 1986, "Meta-Analysis in Clinical Trials", for how much they differ; Hartung and Knapp
2001, "A Refined Method for the Meta-Analysis of Controlled Clinical Trials with Binary Outcome", for the interval,
never narrower than without it: Röver, Knapp and Friede 2015, "Hartung-Knapp-Sidik-Jonkman Approach and its
Modification for Random-Effects Meta-Analysis with Few Studies".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

from lm_eval_ext.statistics.intervals import Interval, student_quantile


class RandomEffects(NamedTuple):
    """The mean effect over sources like these.

    Attributes:
        interval: the mean with its interval; of a single source, its own.
        spread: standard deviation of the sources' true effects; 0 of a single source, where it can't be known.
        sources: how many there are.
    """

    interval: Interval
    spread: float
    sources: int


def random_effects(effects: Sequence[float], errors: Sequence[float], *, confidence: float = 0.95) -> RandomEffects:
    """The mean effect over sources, by random effects.

    Args:
        effects: one per source.
        errors: their standard errors, above 0.
        confidence: level of the interval.

    Raises:
        ValueError: no effects, not as many errors, or an error that is not above 0.

    >>> found = random_effects([-0.1, -0.3, -0.2], [0.05, 0.05, 0.05])
    >>> f"{found.interval.estimate:.2f}, {found.interval.low:.2f} to {found.interval.high:.2f}; {found.spread:.3f}"
    '-0.20, -0.45 to 0.05; 0.087'
    """
    count = len(effects)
    if not count or len(errors) != count or min(errors) <= 0:
        raise ValueError(f"{count} effects, errors={list(errors)}; expected one or more, each with an error above 0")
    if count == 1:
        half = NormalDist().inv_cdf((1 + confidence) / 2) * errors[0]
        return RandomEffects(Interval(effects[0], effects[0] - half, effects[0] + half), 0.0, 1)
    fixed = [1 / error**2 for error in errors]
    excess = _squares(effects, fixed) - (count - 1)
    between = max(0.0, excess / (sum(fixed) - sum(weight**2 for weight in fixed) / sum(fixed)))
    weights = [1 / (error**2 + between) for error in errors]
    mean = _mean(effects, weights)
    inflation = max(1.0, _squares(effects, weights) / (count - 1))
    half = student_quantile(confidence, count) * math.sqrt(inflation / sum(weights))
    return RandomEffects(Interval(mean, mean - half, mean + half), math.sqrt(between), count)


def _mean(effects: Sequence[float], weights: Sequence[float]) -> float:
    return sum(weight * effect for weight, effect in zip(weights, effects, strict=True)) / sum(weights)


def _squares(effects: Sequence[float], weights: Sequence[float]) -> float:
    """Weighted squares of the distances from the weighted mean: Cochran's Q."""
    mean = _mean(effects, weights)
    return sum(weight * (effect - mean) ** 2 for weight, effect in zip(weights, effects, strict=True))
