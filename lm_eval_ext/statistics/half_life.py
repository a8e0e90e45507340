"""Half-life of a chain of steps: the number of steps after which a model is still right in half of its samples.

If each step goes well with the same probability, independently of the others, a chain of n steps goes well with
probability 2^(-n / h), where h is the half-life. A chain that went wrong is right by chance with probability g, so the
accuracy is g + (1 - g) 2^(-n / h).

Source: Ord 2025, "Is there a Half-Life for the Success Rates of AI Agents?" (arXiv 2505.05115).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lm_eval_ext.statistics.intervals import Floats, Interval, checked

_SHORTEST, _LONGEST = 0.05, 1e6  # steps
_RESAMPLED = 400


def half_life(
    steps: Sequence[float], scores: Sequence[float], *, chance: float = 0.0, seed: int = 0
) -> Interval | None:
    """The half-life that makes the scores most likely, with its 95% interval from resampled questions.

    Args:
        steps: length of each question's chain, above 0.
        scores: mean over the samples of each question, from 0 to 1.
        chance: the score of guessing, below 1.
        seed: of the resampling.

    Returns:
        None if the scores say nothing: all are as by chance or below, or none is wrong.

    Raises:
        ValueError: no scores, or another number of steps.

    >>> life = half_life([8] * 50 + [16] * 50, [0.5] * 50 + [0.25] * 50)
    >>> round(life.estimate, 1)
    8.0
    """
    values, lengths = checked(scores), np.asarray(steps, dtype=np.float64)
    if len(values) != len(lengths):
        raise ValueError(f"{len(lengths)} lengths for {len(values)} scores; expected one for each")
    if values.mean() <= chance or values.min() == 1:
        return None
    estimate = _most_likely(lengths, values, chance)
    draw = np.random.default_rng(seed)
    again = [
        _most_likely(lengths[chosen], values[chosen], chance)
        for chosen in (draw.integers(len(values), size=len(values)) for _ in range(_RESAMPLED))
    ]
    low, high = np.quantile(again, [0.025, 0.975])
    return Interval(estimate, float(low), float(high))


def _most_likely(steps: Floats, scores: Floats, chance: float) -> float:
    from scipy.optimize import minimize_scalar

    lengths, groups = np.unique(steps, return_inverse=True)
    right = np.bincount(groups, scores)
    wrong = np.bincount(groups) - right

    def unlikelihood(log_life: float) -> float:
        accuracy = chance + (1 - chance) * 2.0 ** (-lengths / math.exp(log_life))
        likely = np.clip(accuracy, 1e-12, 1 - 1e-12)
        return -float(right @ np.log(likely) + wrong @ np.log(1 - likely))

    found = minimize_scalar(unlikelihood, bounds=(math.log(_SHORTEST), math.log(_LONGEST)), method="bounded")
    return math.exp(float(found.x))
