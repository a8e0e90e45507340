"""Which differences between runs are more than chance. Runs on the same questions are compared question by question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lm_eval_ext.intervals import Z95
from lm_eval_ext.site.run import TaskResult


class Difference(NamedTuple):
    """Mean of one minus the other with its standard error; `paired` if over the same questions."""

    mean: float
    stderr: float
    paired: bool

    @property
    def low(self) -> float:
        """Lower end of the 95% interval."""
        return self.mean - Z95 * self.stderr

    @property
    def high(self) -> float:
        """Upper end of the 95% interval."""
        return self.mean + Z95 * self.stderr

    @property
    def separable(self) -> bool:
        """Whether 0 is outside of the 95% interval."""
        return self.low > 0 or self.high < 0


def difference(one: TaskResult, other: TaskResult) -> Difference:
    """Accuracy of `one` minus that of `other`."""
    if pairs(one, other):
        scores = np.subtract(one.scores, other.scores)
        return Difference(float(scores.mean()), float(scores.std(ddof=1)) / sqrt(len(scores)), True)
    squares = [(task.accuracy.stderr or 0.0) ** 2 for task in (one, other)]
    return Difference(one.accuracy.value - other.accuracy.value, sqrt(sum(squares)), False)


def pairs(one: TaskResult, other: TaskResult) -> bool:
    """Whether both have scores of the same questions."""
    return bool(one.question_set) and one.question_set == other.question_set and len(one.scores) > 1


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
    """[i, j]: whether i is better than j by more than 1.96 standard errors of their difference."""
    means = np.array([task.accuracy.value for task in tasks])
    variances = np.array([(task.accuracy.stderr or 0.0) ** 2 for task in tasks])
    spread = variances[:, None] + variances[None, :]
    together: dict[str, list[int]] = defaultdict(list)
    for index, task in enumerate(tasks):
        if task.question_set and len(task.scores) > 1:
            together[task.question_set].append(index)
    for indices in together.values():
        spread[np.ix_(indices, indices)] = _paired_variances([tasks[index].scores for index in indices])
    found: NDArray[np.bool_] = means[:, None] - means[None, :] > Z95 * np.sqrt(spread)
    return found


def _paired_variances(scores: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """[i, j]: squared standard error of the mean difference; of all pairs at once by their covariances."""
    covariances = np.atleast_2d(np.cov(np.asarray(scores, dtype=np.float64)))
    own = np.diag(covariances)
    variances: NDArray[np.float64] = (own[:, None] + own[None, :] - 2 * covariances) / len(scores[0])
    return np.maximum(variances, 0.0)
