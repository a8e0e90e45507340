"""What an evaluation can show: the smallest loss it would notice, and how many questions or samples a verdict takes.

The variance of a mean over n questions with K samples each is that between questions plus that between samples of a
question divided by K, both divided by n. More samples reduce only the second part.

Source: Miller 2024, "Adding Error Bars to Evals" (arXiv 2411.00640).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from lm_eval_ext.statistics.intervals import Floats, checked, mean_bounds
from lm_eval_ext.statistics.paired import EXTRA, correlation_of_moments, ratio_bounds

_NORMAL = NormalDist()
_POWER = 0.8
_LEVEL = 0.05
_REACH = _NORMAL.inv_cdf(1 - _LEVEL / 2) + _NORMAL.inv_cdf(_POWER)
_SPREAD = 0.3  # correlation of two samples of a question, assumed where one sample cannot tell
_SMALL = 0.1  # samples stop helping when their noise is this share of the variance between questions


class Spread(NamedTuple):
    """Variance of questions' scores: between questions, and between samples of the same question."""

    questions: float
    samples: float


def spread(scores: Sequence[float], samples: int) -> Spread:
    """Variances between questions and between samples.

    With one sample per question the two cannot be told apart, so a correlation of 0.3 is assumed.

    Args:
        scores: mean over samples, one per question.
        samples: number of samples of each question.

    >>> spread([0.5] * 10, 2)
    Spread(questions=0.0, samples=0.5)
    """
    values = checked(scores)
    if samples == 1:
        single = float(values.mean() * (1 - values.mean()))
        return Spread(_SPREAD * single, (1 - _SPREAD) * single)
    noise = float((values * (1 - values)).mean()) * samples / (samples - 1)
    return Spread(max(0.0, _variance(values) - noise / samples), noise)


def _variance(values: Floats) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


def detectable_loss(scores: Sequence[float], base: Sequence[float]) -> float | None:
    """The smallest difference of accuracies that questions like these would show with a power of 80%.

    Args:
        scores, base: one per question, of the two models.

    Returns:
        None if the difference is the same on every question: that says nothing about how it varies.

    >>> round(detectable_loss([0.0, 1.0] * 50, [1.0, 1.0] * 50), 2)
    0.14
    """
    differences = checked(scores) - checked(base)
    return _reach(_variance(differences) / len(differences))


def _reach(variance: float) -> float | None:
    return _REACH * math.sqrt(variance) if variance > 0 else None


def detectable_loss_of_equals(base: Sequence[float], samples: int) -> float | None:
    """As `detectable_loss`, expected for a model as good as the base on every question: only samples differ.

    None if the samples of each question are all alike.

    >>> round(detectable_loss_of_equals([0.5] * 50, 8), 2)
    0.11
    """
    return _reach(2 * spread(base, samples).samples / samples / len(base))


class Needed(NamedTuple):
    """What it takes to show with a power of 80% that an equally good model is kept.

    Attributes:
        questions: with as many samples as now.
        samples: per question, with as many questions as now; None if no number of samples is enough.
        most_samples: number of samples beyond which more hardly help; None if they always do.
    """

    questions: int
    samples: int | None
    most_samples: int | None


def needed(base: Sequence[float], samples: int, keep: float, *, chance: float = 0.0) -> Needed | None:
    """Questions or samples needed to show that a model as good as the base keeps a share of its accuracy.

    The squares of the two questions that `correlation_of_moments` adds count, too: where models hardly vary, they are
    most of the interval. There the power is more than 80%, up to 99%, as the normal approximation is rough.

    Args:
        base: scores of the base model, one per question.
        samples: number of samples per question.
        keep: the share, below 1.
        chance: the score of guessing.

    Returns:
        None if the base is not above chance, the share is 1, or nothing varies.

    >>> needed([1.0, 0.5] * 50, 8, 0.9)
    Needed(questions=79, samples=5, most_samples=5712)
    """
    values = checked(base)
    margin = (1 - keep) * (float(values.mean()) - chance)
    if margin <= 0:
        return None
    between, within = spread(base, samples)
    if not (between or within):
        return None
    fixed, drawn = (1 - keep) ** 2 * between, (1 + keep**2) * within  # of candidate - keep * base
    added = EXTRA / 2 * (1 + keep**2)  # squares of the questions that the correlation adds
    variance = (margin / _REACH) ** 2  # of the mean, at which the power is 80%
    each = fixed + drawn / samples
    questions = math.ceil((each + math.sqrt(each**2 + 4 * variance * added)) / (2 * variance))
    left = variance * len(values) - fixed - added / len(values)
    return Needed(
        questions,
        None if left <= 0 else max(1, math.ceil(drawn / left)),
        math.ceil(drawn / (_SMALL * fixed)) if fixed else None,
    )


def power_of_keeping(
    base: Sequence[float], samples: int, keep: float, *, chance: float = 0.0, seed: int = 0, draws: int = 2000
) -> float:
    """Probability that a model as good as the base is found to keep a share of its accuracy, by simulation.

    Both models are sampled anew on questions like these. Their difficulty is estimated from the base's scores, shrunk
    towards their mean by as much as scores vary only because of few samples. The probability is not linear in the
    difficulty, so that its estimate is biased where the base is uncertain: questions drawn from drawn questions show by
    how much (the bootstrap's estimate of a bias: Efron and Tibshirani 1993, chapter 10), and it is subtracted.

    Args:
        base: scores of the base model, one per question.
        samples: number of samples per question.
        keep: the share that the lower end of the ratio's 95% interval has to reach.
        chance: the score of guessing.
        seed: of the simulation.
        draws: number of simulated comparisons.

    >>> power_of_keeping([0.9] * 30, 8, 0.95) < 0.5 < power_of_keeping([0.9] * 300, 8, 0.9)
    True
    """
    draw = np.random.default_rng(seed)
    skill = _skills(checked(base), samples)
    asked = draw.choice(skill, (draws, len(skill)))
    again = np.take_along_axis(asked, draw.integers(len(skill), size=asked.shape), axis=1)

    def kept(skills: Floats) -> float:
        first, second = (draw.binomial(samples, skills) / samples for _ in range(2))
        return float((kept_bounds(first, second, chance)[0] >= keep).mean())

    return min(1.0, max(0.0, 2 * kept(asked) - kept(again)))


def _skills(base: Floats, samples: int) -> Floats:
    """The probabilities of a right sample, one per question; of the assumed spread if there is one sample of each."""
    between, within = spread(list(base), samples)
    total = between + within / samples
    if samples == 1 and total:
        from scipy.stats import beta

        size = (1 - _SPREAD) / _SPREAD
        quantiles = (np.arange(len(base)) + 0.5) / len(base)
        return np.asarray(beta.ppf(quantiles, base.mean() * size, (1 - base.mean()) * size))
    shrunk: Floats = base.mean() + (base - base.mean()) * math.sqrt(between / total if total else 0.0)
    return shrunk


def kept_bounds(scores: Floats, base: Floats, chance: float, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Both ends of `ratio_interval` for many runs at once; NaN where the base is not above chance.

    Args:
        scores, base: [runs, questions].
        chance: the score of guessing.
        confidence: level of the interval.
    """
    questions = scores.shape[1]
    bounds = []
    for values in (scores, base):
        mean = values.mean(1)
        bounds.append((mean, *mean_bounds(mean, values.var(1), questions, confidence=confidence)))
    correlated = correlation_of_moments(
        scores.mean(1), (scores**2).mean(1), base.mean(1), (base**2).mean(1), (scores * base).mean(1),
        questions=questions,
    )  # fmt: skip
    return ratio_bounds(bounds[0], bounds[1], correlated, chance)
