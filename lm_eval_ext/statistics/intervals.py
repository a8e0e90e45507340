"""Confidence intervals of a score: a mean over questions, each of them sampled once or several times.

The questions are treated as a sample of all questions like them, so an interval is about new questions of the same
kind. `rerun_interval` is about the same questions, sampled again.

`python -m benchmarks.coverage` simulates how often each interval covers the true value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EXTRA = 1.0  # weight of the prior that scores vary like single trials, in observations
_EXTRA_SAMPLES = 8  # least weight of it where few samples of a question are all that says how they vary
_ROUNDING = 1e-9


class Interval(NamedTuple):
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float


def mean_interval(scores: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Mean over questions, with its interval for new questions of the same kind.

    Args:
        scores: one per question, from 0 to 1, such as its mean over samples, its pass@k or its maj@k.
        confidence: level of the interval.

    Raises:
        ValueError: no scores, or one outside 0 to 1.

    >>> mean, low, high = mean_interval([0.0, 0.25, 1.0, 0.75, 1.0])
    >>> f"{mean:.2f}, {low:.2f} to {high:.2f}"
    '0.60, 0.18 to 0.91'
    """
    values = checked(scores)
    mean, variance = float(values.mean()), float(values.var())
    return _interval(mean, *mean_bounds(np.array(mean), np.array(variance), len(values), confidence=confidence))


def share_interval(parts: Sequence[float], wholes: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Ratio of two means over the same questions, where each part is contained in its whole.

    Wilson's interval with an effective number of trials, from the variance of part - ratio * whole over questions.

    Args:
        parts, wholes: one per question, with 0 <= part <= whole <= 1.
        confidence: level of the interval.

    Raises:
        ValueError: all wholes are 0, or a part is larger than its whole.

    >>> share, low, high = share_interval([0.5, 0.0] * 20, [1.0, 0.5] * 20)
    >>> f"{share:.2f}, {low:.2f} to {high:.2f}"
    '0.33, 0.26 to 0.41'
    """
    part, whole = checked(parts), checked(wholes)
    if not whole.any() or (part > whole + _ROUNDING).any():
        raise ValueError("expected parts that are contained in their wholes, and a whole above 0")
    ratio = float(part.sum() / whole.sum())
    residual = part - ratio * whole
    variance = float((residual**2).mean()) / float(whole.mean()) ** 2
    questions = len(part)
    return _interval(ratio, *mean_bounds(np.array(ratio), np.array(variance), questions, confidence=confidence))


def interval_from_stderr(mean: float, stderr: float | None, questions: int, *, confidence: float = 0.95) -> Interval:
    """`mean_interval` from a mean and the standard error that lm-eval prints beside it.

    Without a standard error, each question is treated as a single trial, which is never too narrow.

    Args:
        mean: over questions; may fall slightly outside 0 to 1 by rounding.
        stderr: standard deviation of the questions' scores (with n - 1) divided by the root of their number.
        questions: number of questions, at least 1.
    """
    mean = min(1.0, max(0.0, mean))
    variance = mean * (1 - mean) if stderr is None else stderr**2 * (questions - 1)
    return _interval(mean, *mean_bounds(np.array(mean), np.array(variance), questions, confidence=confidence))


def standard_error(scores: Sequence[float]) -> float:
    """Standard error of a mean over questions, as lm-eval prints it.

    Args:
        scores: two or more.
    """
    mean = sum(scores) / len(scores)
    return math.sqrt(sum((score - mean) ** 2 for score in scores) / (len(scores) - 1)) / math.sqrt(len(scores))


def mean_bounds(mean: Floats, variance: Floats, questions: int, *, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Both ends of the intervals of means, for arrays of any shape.

    Wilson's interval with an effective number of questions: the number of single trials whose mean has the same
    variance. The variance is shrunk towards that of single trials, more so the less the scores say about it, and
    Student's quantile accounts for its uncertainty. If every score is 0 or 1, this is Wilson's interval itself.

    Sources: Korn and Graubard 1998, "Confidence Intervals for Proportions with Small Expected Number of Positive
    Counts Estimated from Survey Data"; Brown, Cai and DasGupta 2001, "Interval Estimation for a Binomial Proportion".

    Args:
        mean: of the questions' scores.
        variance: of the questions' scores, with n in the denominator.
        questions: number of questions.
    """
    shrunk = _shrunk_share(mean, variance, questions)
    single_trials = shrunk > 1 - _ROUNDING
    quantile = np.where(single_trials, _normal_quantile(confidence), student_quantile(confidence, questions))
    return _wilson(mean, questions / shrunk, quantile)


def rerun_interval(scores: Sequence[float], samples: int, *, confidence: float = 0.95) -> Interval:
    """Mean over questions, with its interval if the same questions are sampled again.

    For a benchmark that is the whole population, such as the 30 questions of one AIME. Says nothing about other
    questions, and so is narrower.

    Args:
        scores: one per question, from 0 to 1: its mean over samples.
        samples: samples per question, at least 2.

    Source: the sampling noise of Miller 2024, "Adding Error Bars to Evals" (arXiv 2411.00640), in Wilson's formula.

    Raises:
        ValueError: no scores, one outside 0 to 1, or a single sample, from which noise cannot be estimated.
    """
    values = checked(scores)
    if samples < 2:
        raise ValueError(f"samples={samples}; expected 2 or more per question")
    mean, noise = float(values.mean()), float((values * (1 - values)).mean())
    return _interval(mean, *rerun_bounds(np.array(mean), np.array(noise), len(values), samples, confidence=confidence))


def rerun_bounds(
    mean: Floats, noise: Floats, questions: int, samples: int, *, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Both ends of `rerun_interval`, for arrays of any shape.

    The samples of a question that are all alike may not be so the next time, so the prior that they vary like single
    trials weighs as much as the samples of one question, and as 8 at least.

    Args:
        mean: of the questions' scores.
        noise: mean of score * (1 - score).
        questions, samples: number of questions, and of samples per question.
    """
    trials = questions * samples
    extra = max(samples, _EXTRA_SAMPLES)
    shrunk = _shrunk_share(mean, noise * samples / (samples - 1), trials, extra)
    return _wilson(mean, trials / shrunk, _normal_quantile(confidence))


def _shrunk_share(mean: Floats, variance: Floats, trials: int, extra: float = _EXTRA) -> Floats:
    """The variance as a fraction of that of single trials, shrunk towards 1 by a prior of some weight."""
    single = mean * (1 - mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(single > 0, np.minimum(variance / single, 1), 1)
    information = 4 * trials * single
    shrunk: Floats = (information * share + extra) / (information + extra)
    return shrunk


def checked(scores: Sequence[float]) -> Floats:
    """Scores as an array.

    Raises:
        ValueError: no scores, or one outside 0 to 1.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0:
        raise ValueError("no scores; expected one or more")
    outside = values[~((values >= -_ROUNDING) & (values <= 1 + _ROUNDING))]
    if outside.size:
        raise ValueError(f"score={outside[0]}; expected 0 to 1")
    return values.clip(0, 1)


def _wilson(share: Floats, trials: Floats, quantile: Floats | float) -> tuple[Floats, Floats]:
    extra = quantile**2 / trials
    centre = (share + extra / 2) / (1 + extra)
    half = np.sqrt(extra * (share * (1 - share) + extra / 4)) / (1 + extra)
    return np.maximum(0.0, np.minimum(centre - half, share)), np.minimum(1.0, np.maximum(centre + half, share))


def _normal_quantile(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


def student_quantile(confidence: float, questions: int) -> float:
    """Student's quantile for a two-sided interval of a mean over questions."""
    from scipy.special import stdtrit

    return float(stdtrit(max(1, questions - 1), (1 + confidence) / 2))


def _interval(estimate: float, low: Floats, high: Floats) -> Interval:
    return Interval(estimate, float(low), float(high))
