"""Two models on one task: accuracies, their difference, and the share of the base's accuracy that is kept."""

from __future__ import annotations

from typing import NamedTuple

from lm_eval_ext.analysis.evaluated import TaskScores
from lm_eval_ext.statistics.gate import GateRow, Verdict
from lm_eval_ext.statistics.intervals import Interval, mean_interval
from lm_eval_ext.statistics.paired import difference_interval, ratio_interval, sign_flip_test
from lm_eval_ext.statistics.power import (
    Needed,
    detectable_loss,
    detectable_loss_of_equals,
    needed,
    power_of_keeping,
)

_CLEARLY = 0.5  # difference of a question's scores from which it counts as lost or won


class Row(NamedTuple):
    """One task of a comparison.

    Attributes:
        task, benchmark, budget: the task, its benchmark, and its thinking budget; None if unlimited.
        questions: number of questions.
        samples: per question, of the base and the candidate.
        chance: score of guessing; None if it is not known, so that no ratio can be told.
        base, candidate: accuracies with 95% intervals.
        difference: candidate less base, over the same questions.
        kept: share of the base's accuracy above chance; None if the base is not above chance, or chance is unknown.
        p_value: of the sign-flip test.
        lost, won: ids of questions on which the candidate scores at least 0.5 less, or more.
    """

    task: str
    benchmark: str
    budget: int | None
    questions: int
    samples: tuple[int, int]
    chance: float | None
    base: Interval
    candidate: Interval
    difference: Interval
    kept: Interval | None
    p_value: float
    lost: tuple[int, ...]
    won: tuple[int, ...]


def row_of(base: TaskScores, candidate: TaskScores) -> Row:
    """Compare two models on a task; both have the same questions in the same order."""
    result = base.result
    chance = base.result.guessing
    changes = [after - before for before, after in zip(base.scores, candidate.scores, strict=True)]
    ids = base.ids or tuple(range(len(changes)))
    return Row(
        base.name,
        result.benchmark,
        result.budget,
        len(changes),
        (base.samples, candidate.samples),
        chance,
        mean_interval(base.scores),
        mean_interval(candidate.scores),
        difference_interval(candidate.scores, base.scores),
        None if chance is None else ratio_interval(candidate.scores, base.scores, chance=chance),
        sign_flip_test(candidate.scores, base.scores),
        tuple(name for name, change in zip(ids, changes, strict=True) if change <= -_CLEARLY),
        tuple(name for name, change in zip(ids, changes, strict=True) if change >= _CLEARLY),
    )


def gate_row(base: TaskScores, candidate: TaskScores) -> GateRow | None:
    """The scores that decide a gated row; None if the score of guessing is not known, so that nothing is measurable."""
    chance = base.result.guessing
    return None if chance is None else GateRow(candidate.scores, base.scores, chance)


class Sensitivity(NamedTuple):
    """What a row can show.

    Attributes:
        detectable: the smallest loss of accuracy that it shows with a power of 80%; None if nothing varies.
        needed: questions or samples for showing that an equal model is kept; None if that can't be shown or told.
        power: probability that an equal model comes out as kept; None if chance is not known.
    """

    detectable: float | None
    needed: Needed | None
    power: float | None


def sensitivity(base: TaskScores, candidate: TaskScores | None, keep: float) -> Sensitivity:
    """What a comparison can show; without a candidate, what one with an equally good model could."""
    chance = base.result.guessing
    return Sensitivity(
        detectable_loss_of_equals(base.scores, base.samples)
        if candidate is None
        else detectable_loss(candidate.scores, base.scores),
        None if chance is None else needed(base.scores, base.samples, keep, chance=chance),
        None if chance is None else power_of_keeping(base.scores, base.samples, keep, chance=chance),
    )


class Judged(NamedTuple):
    """A gated row with its verdict, and its p-value corrected for the number of gated rows; None if not measurable."""

    row: Row
    verdict: Verdict | None
    p_corrected: float
    sensitivity: Sensitivity
