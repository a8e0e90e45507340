"""Comparison of two models on the same questions: difference, ratio, and a test of whether they differ.

Intervals of differences and ratios are combined from the intervals of the two means and their correlation
("square-and-add", MOVER), so that they hold near 0 and 1, where normal theory does not: Newcombe 1998, "Improved
Confidence Intervals for the Difference between Binomial Proportions Based on Paired Data" (method 10); Donner and Zou
2012, "Closed-form Confidence Intervals for Functions of the Normal Mean and Standard Deviation".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lm_eval_ext.statistics.intervals import Floats, Interval, checked, mean_interval, student_quantile

EXTRA = 2.0  # extra questions in the correlation, one of them solved by one model only and one by the other
_PERMUTATIONS = 99_999

Bounded = tuple[Floats, Floats, Floats]  # means of any shape, and both ends of their intervals


def difference_interval(scores: Sequence[float], base: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Mean of `scores` minus mean of `base`, over the same questions in the same order.

    Args:
        scores, base: one per question, from 0 to 1.
        confidence: level of the interval.

    Raises:
        ValueError: no scores, one outside 0 to 1, or not the same number of both.

    >>> difference_interval([0.5] * 30, [1.0] * 30).high < 0
    True
    """
    first, second = _same_questions(scores, base)
    one, other = mean_interval(scores, confidence=confidence), mean_interval(base, confidence=confidence)
    low, high = difference_bounds(_arrays(one), _arrays(other), correlation(first, second))
    return Interval(one.estimate - other.estimate, float(low), float(high))


def difference_bounds(one: Bounded, other: Bounded, correlated: Floats) -> tuple[Floats, Floats]:
    """Both ends of the interval of `one` minus `other`, each given as means with their ends, of any shape.

    Args:
        correlated: correlation of the two; 0 if they are from different questions.
    """
    (mean, low, high), (base, base_low, base_high) = one, other
    down, base_up = mean - low, base_high - base
    up, base_down = high - mean, base - base_low
    least = np.sqrt(np.maximum(0, down**2 + base_up**2 - 2 * correlated * down * base_up))
    most = np.sqrt(np.maximum(0, up**2 + base_down**2 - 2 * correlated * up * base_down))
    return mean - base - least, mean - base + most


def ratio_interval(
    scores: Sequence[float], base: Sequence[float], *, chance: float = 0.0, confidence: float = 0.95
) -> Interval | None:
    """Ratio of the mean of `scores` to that of `base`, both above chance and over the same questions.

    Args:
        scores, base: one per question, from 0 to 1, in the same order.
        chance: the score of guessing: 0 for a free-form answer, 1/4 for four choices.
        confidence: level of the interval.

    Returns:
        The ratio, 0 for scores below chance; None if `base` is not significantly above chance, which makes the ratio
        meaningless.

    Raises:
        ValueError: no scores, one outside 0 to 1, or not the same number of both.

    >>> ratio, low, high = ratio_interval([0.5] * 30, [1.0] * 30)
    >>> f"{ratio:.2f}, {low:.2f} to {high:.2f}"
    '0.50, 0.47 to 0.59'
    """
    first, second = _same_questions(scores, base)
    one, other = mean_interval(scores, confidence=confidence), mean_interval(base, confidence=confidence)
    if other.low <= chance:
        return None
    low, high = ratio_bounds(_arrays(one), _arrays(other), correlation(first, second), chance)
    return Interval(max(0.0, (one.estimate - chance) / (other.estimate - chance)), float(low), float(high))


def ratio_bounds(one: Bounded, other: Bounded, correlated: Floats, chance: float = 0.0) -> tuple[Floats, Floats]:
    """Both ends of the interval of `one` over `other` above chance, each given as means with their ends, of any shape.

    Below chance, nothing is left: both ends are at least 0. NaN where the lower end of `other` is not above chance.
    """
    mean, low, high = (value - chance for value in one)
    base, base_low, base_high = (value - chance for value in other)
    with np.errstate(invalid="ignore", divide="ignore"):
        least = _lower_ratio(mean, mean - low, base, base_high - base, correlated)
        most = _upper_ratio(mean, high - mean, base, base - base_low, correlated)
    measurable = base_low > 0
    least = np.where(low > 0, least, 0.0)
    return np.where(measurable, least, np.nan), np.where(measurable, np.where(high > 0, most, 0.0), np.nan)


def _lower_ratio(mean: Floats, down: Floats, base: Floats, base_up: Floats, correlated: Floats) -> Floats:
    product = mean * base - correlated * down * base_up
    over, of = mean**2 - down**2, base**2 - base_up**2
    least: Floats = over / (product + np.sqrt(np.maximum(0, product**2 - of * over)))
    return least


def _upper_ratio(mean: Floats, up: Floats, base: Floats, base_down: Floats, correlated: Floats) -> Floats:
    product = mean * base - correlated * up * base_down
    over, of = mean**2 - up**2, base**2 - base_down**2
    most: Floats = (product + np.sqrt(np.maximum(0, product**2 - of * over))) / of
    return most


def unpaired(one: Interval, other: Interval, *, chance: float | None = 0.0) -> tuple[Interval, Interval | None]:
    """Difference and ratio of two means that are not paired: of other questions, or of results without their scores.

    Args:
        one, other: the means with their intervals.
        chance: the score of guessing; None if it isn't known.

    Returns:
        `one` minus `other`, and `one` over `other` above chance, wider than if questions were paired; None in place of
        the ratio as in `ratio_interval`, and where chance isn't known.

    >>> found, ratio = unpaired(Interval(0.5, 0.4, 0.6), Interval(0.8, 0.7, 0.9))
    >>> f"{found.low:.2f} to {found.high:.2f}, {ratio.low:.2f} to {ratio.high:.2f}"
    '-0.44 to -0.16, 0.49 to 0.78'
    """
    apart = np.zeros(())
    low, high = difference_bounds(_arrays(one), _arrays(other), apart)
    difference = Interval(one.estimate - other.estimate, float(low), float(high))
    if chance is None or other.low <= chance:
        return difference, None
    low, high = ratio_bounds(_arrays(one), _arrays(other), apart, chance)
    return difference, Interval(max(0.0, (one.estimate - chance) / (other.estimate - chance)), float(low), float(high))


def mean_of_intervals(intervals: Sequence[Interval]) -> Interval:
    """Mean of estimates from different questions, such as the shares kept on several benchmarks.

    Square-and-add: each side's half-width is the root of the sum of squares, divided by their number.

    Raises:
        ValueError: there are none.

    >>> mean_of_intervals([Interval(0.5, 0.2, 0.9), Interval(0.7, 0.3, 1.0)])
    Interval(estimate=0.6, low=0.35, high=0.85)
    """
    if not intervals:
        raise ValueError("no intervals; expected one or more")
    count = len(intervals)
    mean = sum(one.estimate for one in intervals) / count
    down = math.hypot(*(one.estimate - one.low for one in intervals)) / count
    up = math.hypot(*(one.high - one.estimate for one in intervals)) / count
    return Interval(mean, mean - down, mean + up)


def _arrays(interval: Interval) -> Bounded:
    return np.array(interval.estimate), np.array(interval.low), np.array(interval.high)


def correlation(first: Floats, second: Floats) -> Floats:
    """Correlation of two models' scores over questions, by `correlation_of_moments`."""
    moments = (first, first**2, second, second**2, first * second)
    return correlation_of_moments(*(np.array(values.mean()) for values in moments), questions=len(first))


def correlation_of_moments(
    mean: Floats, square: Floats, other_mean: Floats, other_square: Floats, product: Floats, *, questions: int
) -> Floats:
    """Correlation of two models' scores over questions, for arrays of any shape.

    Two questions are added, one solved by one model only and one by the other, so that few questions, or scores that
    do not vary, don't count as certain agreement. With half as many, a model that lost one in twenty of the questions
    that its base always solves would be called equal in up to 9% of all runs, as it often loses none of those asked.

    Args:
        mean, square, other_mean, other_square, product: means of the scores, of their squares, and of their products.
        questions: number of questions.
    """

    def extended(value: Floats, extra: float) -> Floats:
        return (value * questions + extra) / (questions + EXTRA)

    one, other = extended(mean, EXTRA / 2), extended(other_mean, EXTRA / 2)
    variance, other_variance = extended(square, EXTRA / 2) - one**2, extended(other_square, EXTRA / 2) - other**2
    found: Floats = np.clip((extended(product, 0) - one * other) / np.sqrt(variance * other_variance), -1, 1)
    return found


def sign_flip_test(scores: Sequence[float], base: Sequence[float], *, seed: int = 0) -> float:
    """Two-sided p-value of the hypothesis that two models are equally good at questions like these.

    If they are, the difference on each question is as likely to have the opposite sign. With one sample per question
    this is McNemar's exact test. Exact for up to 16 questions that differ, else estimated from 99,999 random flips.

    Source: Fisher 1935, "The Design of Experiments", section 21; `scipy.stats.permutation_test`.

    Raises:
        ValueError: no scores, one outside 0 to 1, or not the same number of both.

    >>> sign_flip_test([1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]) == 2 / 2**6
    True
    """
    from scipy.stats import permutation_test

    first, second = _same_questions(scores, base)
    differences = (first - second)[first != second]  # flipping a difference of 0 changes nothing
    if differences.size < 2:
        return 1.0
    found = permutation_test(
        (differences,), lambda some, axis: some.sum(axis=axis).round(9), permutation_type="samples", vectorized=True,
        n_resamples=_PERMUTATIONS, batch=10_000, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(found.pvalue)


def _same_questions(scores: Sequence[float], base: Sequence[float]) -> tuple[Floats, Floats]:
    first, second = checked(scores), checked(base)
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} scores; expected the same questions in both")
    return first, second


_EXTRA_QUESTIONS = 1.0  # extra questions, half of them with the largest contrast and half with the smallest


def contrast_interval(
    scores: Sequence[Sequence[float]], weights: Sequence[float], *, confidence: float = 0.95
) -> Interval:
    """A weighted sum of means over the same questions, such as accuracy with much thinking less that with little.

    Student's interval of the contrast of each question, with one question added whose contrast is as likely the largest
    that can be as the smallest, so that few questions, or contrasts that do not vary, don't count as certainty.

    Source: Student 1908, "The Probable Error of a Mean"; the added question as in `mean_interval`.

    Args:
        scores: for each mean, one score per question, from 0 to 1.
        weights: one for each mean.
        confidence: level of the interval.

    Raises:
        ValueError: no scores, or not the same number of questions everywhere.

    >>> gain, low, high = contrast_interval([[1.0] * 20, [0.0, 1.0] * 10], [1, -1])
    >>> f"{gain:.2f}, {low:.2f} to {high:.2f}"
    '0.50, 0.24 to 0.76'
    """
    if len({len(row) for row in scores}) != 1 or len(scores) != len(weights):
        raise ValueError(
            f"{[len(row) for row in scores]} scores for {len(weights)} weights; expected one row for each weight, all "
            "over the same questions"
        )
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0:
        raise ValueError("no scores; expected one or more")
    contrasts = np.asarray(weights, dtype=np.float64) @ values
    mean = contrasts.mean()
    low, high = contrast_bounds(mean, (contrasts**2).mean(), weights, len(contrasts), confidence=confidence)
    return Interval(float(mean), float(low), float(high))


def contrast_bounds(
    mean: Floats, square: Floats, weights: Sequence[float], questions: int, *, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Both ends of the intervals of contrasts, for arrays of any shape.

    Args:
        mean: of the questions' contrasts.
        square: mean of their squares.
        weights: of the scores in a contrast.
        questions: number of questions.
    """
    most, least = sum(max(0.0, weight) for weight in weights), sum(min(0.0, weight) for weight in weights)
    total = questions + _EXTRA_QUESTIONS
    centre = (questions * mean + _EXTRA_QUESTIONS * (most + least) / 2) / total
    added = _EXTRA_QUESTIONS * ((most - centre) ** 2 + (least - centre) ** 2) / 2
    squares = questions * np.maximum(0, square - mean**2) + questions * (mean - centre) ** 2 + added
    half = student_quantile(confidence, questions) * np.sqrt(squares / total / questions)
    return mean - half, mean + half


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for the number of hypotheses, so that any false rejection has at most the given probability.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    count = len(p_values)
    corrected = [0.0] * count
    most = 0.0
    for place, index in enumerate(sorted(range(count), key=lambda index: p_values[index])):
        most = max(most, min(1.0, p_values[index] * (count - place)))
        corrected[index] = most
    return corrected
