"""Which differences between runs are more than chance. Runs on the same questions are compared question by question.

Intervals of paired differences are those of Agresti and Min 2005 ("Simple improved confidence intervals for comparing
matched proportions"): two questions are added, one of which went each way by a half, so that few questions, or
questions that all went one way, prove little.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lm_eval_ext.intervals import Z95, wilson_interval
from lm_eval_ext.site.run import TaskResult

Floats = NDArray[np.float64]


class Difference(NamedTuple):
    """Mean of one minus the other with its 95% interval; `paired` if over the same questions."""

    mean: float
    low: float
    high: float
    paired: bool

    @property
    def separable(self) -> bool:
        """Whether 0 is outside of the interval."""
        return self.low > 0 or self.high < 0


def difference(one: TaskResult, other: TaskResult) -> Difference:
    """Accuracy of `one` minus that of `other`."""
    paired = pairs(one, other)
    if paired:
        scores = np.subtract(one.scores, other.scores)
        mean = float(scores.mean())
        centre, stderr = _agresti_min(float(scores.sum()), float((scores**2).sum()), len(scores))
    else:
        mean = centre = one.accuracy.value - other.accuracy.value
        stderr = sqrt(_stderr(one) ** 2 + _stderr(other) ** 2)
    return Difference(mean, centre - Z95 * stderr, centre + Z95 * stderr, paired)


def _agresti_min(total: float, squares: float, questions: int) -> tuple[float, float]:
    centre = total / (questions + 2)
    return centre, sqrt(max(0.0, (squares + 1) / (questions + 2) - centre**2) / (questions + 2))


def pairs(one: TaskResult, other: TaskResult) -> bool:
    """Whether both have scores of the same questions."""
    return bool(one.question_set) and _questions(one) == _questions(other) and len(one.scores) > 0


def _questions(task: TaskResult) -> tuple[str, int, int]:
    return task.question_set, len(task.scores), task.shots


def _stderr(task: TaskResult) -> float:
    """As reported; where it is not known or 0, what Wilson's interval makes of as many single trials."""
    if task.accuracy.stderr:
        return task.accuracy.stderr
    interval = wilson_interval(task.accuracy.value * task.questions, task.questions)
    return (interval.high - interval.low) / 2 / Z95


class Rank(NamedTuple):
    """Best and worst rank that the data allow: as many models are certainly better, or worse, at the 95% level."""

    best: int
    worst: int


def ranks(tasks: Mapping[str, TaskResult]) -> dict[str, Rank]:
    """The rank of each of several results of one benchmark; equal numbers where nothing is certain.

    Args:
        tasks: results by name; none of them partial.
    """
    names = list(tasks)
    better = _certainly_better([tasks[name] for name in names])
    above, below = better.sum(axis=0), better.sum(axis=1)
    return {name: Rank(1 + int(above[index]), len(names) - int(below[index])) for index, name in enumerate(names)}


def _certainly_better(tasks: Sequence[TaskResult]) -> NDArray[np.bool_]:
    """[i, j]: whether the interval of i minus j, as `difference` gives it, is above 0; all pairs at once."""
    means, stderrs = (np.array(values) for values in zip(*((t.accuracy.value, _stderr(t)) for t in tasks), strict=True))
    low = means[:, None] - means[None, :] - Z95 * np.sqrt(stderrs[:, None] ** 2 + stderrs[None, :] ** 2)
    together: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    for index, task in enumerate(tasks):
        if task.question_set and task.scores:
            together[_questions(task)].append(index)
    for indices in together.values():
        low[np.ix_(indices, indices)] = _paired_lows(np.array([tasks[index].scores for index in indices]))
    found: NDArray[np.bool_] = low > 0
    return found


def _paired_lows(scores: Floats) -> Floats:
    """[i, j]: lower end of the interval of i minus j, of scores [run, question]."""
    questions = scores.shape[1]
    totals, products = scores.sum(axis=1), scores @ scores.T
    own = np.diag(products)
    squares = own[:, None] + own[None, :] - 2 * products
    centre = (totals[:, None] - totals[None, :]) / (questions + 2)
    variance = np.maximum((squares + 1) / (questions + 2) - centre**2, 0.0) / (questions + 2)
    lows: Floats = centre - Z95 * np.sqrt(variance)
    return lows
