"""Intervals of published scores, and which differences between them are significant.

Runs on the same questions are compared question by question.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lm_eval_ext.runs.run import Score, TaskResult, accuracy_interval
from lm_eval_ext.statistics.intervals import Interval, interval_from_stderr, rerun_interval
from lm_eval_ext.statistics.paired import correlation_of_moments, difference_bounds, ratio_bounds

FEW_QUESTIONS = 60  # a benchmark up to this size may be the whole population, like the 30 questions of one AIME


def metric_interval(score: Score, questions: int) -> Interval:
    """A metric from 0 to 1 with its interval, from the reported standard error."""
    return interval_from_stderr(score.value, score.stderr, questions)


def repeated_interval(task: TaskResult) -> Interval | None:
    """Accuracy with its interval for the same questions sampled again; None for many questions or one sample each."""
    every_sample_counts = task.benchmark.startswith("tts_")  # other filters may keep only the first
    if not (every_sample_counts and task.scores and task.repeats > 1 and task.questions <= FEW_QUESTIONS):
        return None
    return rerun_interval(task.scores, task.repeats)


class Difference(NamedTuple):
    """Mean difference of two results with its 95% interval; `paired` if over the same questions."""

    mean: float
    low: float
    high: float
    paired: bool


def difference(one: TaskResult, other: TaskResult) -> Difference:
    """Accuracy of `one` minus that of `other`."""
    low, high = _differences([one, other])
    return Difference(one.accuracy.value - other.accuracy.value, float(low[0, 1]), float(high[0, 1]), pairs(one, other))


def kept(one: TaskResult, base: TaskResult) -> Interval | None:
    """The share of the base's accuracy above chance; None if the base is not above chance, or chance is not known."""
    if base.guessing is None:
        return None
    ours, theirs = accuracy_interval(one), accuracy_interval(base)
    low, high = (float(end[0, 1]) for end in _ratios([one, base], base.guessing))
    if math.isnan(low):
        return None
    return Interval(max(0.0, (ours.estimate - base.guessing) / (theirs.estimate - base.guessing)), low, high)


def pairs(one: TaskResult, other: TaskResult) -> bool:
    """Whether both have scores on the same questions, by the same grader."""
    return bool(one.question_set) and _questions(one) == _questions(other) and len(one.scores) > 0


def _questions(task: TaskResult) -> tuple[str, int, int, int]:
    return task.question_set, len(task.scores), task.shots, task.graded_by or 0


class Rank(NamedTuple):
    """Best and worst rank compatible with the data: counts the models that are better or worse at the 95% level."""

    best: int
    worst: int


def ranks(tasks: Mapping[str, TaskResult]) -> dict[str, Rank]:
    """Ranks of several results of one benchmark; the same for results that cannot be told apart.

    Args:
        tasks: results by name, none of them partial.
    """
    names = list(tasks)
    better = _differences([tasks[name] for name in names])[0] > 0
    above, below = better.sum(axis=0), better.sum(axis=1)
    return {name: Rank(1 + int(above[index]), len(names) - int(below[index])) for index, name in enumerate(names)}


def _differences(tasks: Sequence[TaskResult]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both ends of the interval of i minus j, as arrays [i, j], for all pairs at once."""
    mean, low, high = np.array([accuracy_interval(task) for task in tasks]).T
    one, other = (mean[:, None], low[:, None], high[:, None]), (mean[None], low[None], high[None])
    return difference_bounds(one, other, _correlations(tasks))


def _ratios(tasks: Sequence[TaskResult], chance: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both ends of the interval of i over j, as arrays [i, j]."""
    mean, low, high = np.array([accuracy_interval(task) for task in tasks]).T
    one, other = (mean[:, None], low[:, None], high[:, None]), (mean[None], low[None], high[None])
    return ratio_bounds(one, other, _correlations(tasks), chance)


def _correlations(tasks: Sequence[TaskResult]) -> NDArray[np.float64]:
    """Correlations [i, j]; 0 for results on different questions."""
    found = np.zeros((len(tasks), len(tasks)))
    together: dict[tuple[str, int, int, int], list[int]] = defaultdict(list)
    for index, task in enumerate(tasks):
        if task.question_set and task.scores:
            together[_questions(task)].append(index)
    for indices in together.values():
        scores = np.array([tasks[index].scores for index in indices])
        mean, products = scores.mean(1), scores @ scores.T / scores.shape[1]
        square = np.diag(products)
        found[np.ix_(indices, indices)] = correlation_of_moments(
            mean[:, None], square[:, None], mean[None], square[None], products, questions=scores.shape[1]
        )
    return found
