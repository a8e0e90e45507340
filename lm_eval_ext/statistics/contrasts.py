"""Sums of scores with weights, such as the gain from one budget to another, and tests of several hypotheses at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lm_eval_ext.statistics.intervals import Floats, Interval, student_quantile

_EXTRA = 1.0  # extra questions, half of them with the largest contrast and half with the smallest


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
    total = questions + _EXTRA
    centre = (questions * mean + _EXTRA * (most + least) / 2) / total
    added = _EXTRA * ((most - centre) ** 2 + (least - centre) ** 2) / 2
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
