"""Two models on one task: accuracies, their difference, and the share of the base's accuracy that is kept.

What more thinking and voting gain is measured on the same questions for both models. That pruning takes away the gain
from thinking is the claim of arXiv 2510.22228.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lm_eval_ext.analysis.evaluated import EvaluatedModel, TaskScores
from lm_eval_ext.analysis.found_lost import with_budgets
from lm_eval_ext.analysis.matching import UNKNOWN
from lm_eval_ext.runs.run import TaskResult, accuracy_interval
from lm_eval_ext.statistics.gate import GateRow, Verdict
from lm_eval_ext.statistics.intervals import Interval, mean_interval
from lm_eval_ext.statistics.paired import (
    contrast_interval,
    difference_interval,
    ratio_interval,
    sign_flip_test,
    unpaired,
)
from lm_eval_ext.statistics.power import (
    Needed,
    detectable_loss,
    detectable_loss_of_equals,
    needed,
    power_of_keeping,
)
from lm_eval_ext.wording import limit

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
        limit: the thinking budget in words.
        paired: whether scores were compared question by question; else only means are known, and no test is made.
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
    limit: str
    paired: bool = True


def row_of(base: TaskScores, candidate: TaskScores) -> Row:
    """Compare two models on a task; both have the same questions in the same order, or one of them has only a mean."""
    if not (base.scores and candidate.scores):
        return _unpaired_row(base, candidate)
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
        _limit(result),
    )


def _limit(result: TaskResult) -> str:
    return f"budget {UNKNOWN}" if "thinking_token_budget" in result.unknown else limit(result.budget)


def _unpaired_row(base: TaskScores, candidate: TaskScores) -> Row:
    result, other = base.result, candidate.result
    chance = result.guessing
    before, after = accuracy_interval(result), accuracy_interval(other)
    difference, kept = unpaired(after, before, chance=chance)
    return Row(
        base.name, result.benchmark, result.budget, min(result.questions, other.questions),
        (base.samples, candidate.samples), chance, before, after, difference, kept, 1.0, (), (), _limit(result),
        paired=False,
    )  # fmt: skip


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


_CEILING = 0.95


class Gain(NamedTuple):
    """What one way of spending more tokens gains.

    Attributes:
        benchmark: name of the benchmark.
        what: for example `512 to 8192 tokens`, or `maj@4`.
        base, candidate: gain of each model.
        difference: candidate's gain less the base's.
        warnings: why the difference may say little.
    """

    benchmark: str
    what: str
    base: Interval
    candidate: Interval
    difference: Interval
    warnings: tuple[str, ...] = ()


def thinking_gains(base: EvaluatedModel, candidate: EvaluatedModel, tasks: Sequence[str]) -> Iterator[Gain]:
    """For each benchmark, accuracy at the largest budget that both models have less that at the smallest."""
    thinks = [name for name in tasks if base.tasks[name].run.settings.get("thinking") != "off"]
    for benchmark, names in with_budgets(base, thinks).items():
        small, large = names[0], names[-1]
        scores = [model.tasks[name].scores for model in (base, candidate) for name in (large, small)]
        same = {base.tasks[name].result.question_set for name in (large, small)}
        if len(same) > 1 or len({len(some) for some in scores}) > 1:
            continue
        what = f"{limit(base.tasks[small].result.budget)} to {limit(base.tasks[large].result.budget)}"
        yield Gain(benchmark, what, *_contrasts(scores), _warnings(base.tasks[small], candidate.tasks[large]))


def voting_gains(base: EvaluatedModel, candidate: EvaluatedModel, tasks: Sequence[str]) -> Iterator[Gain]:
    """For each task with votes, maj@k less accuracy, for the largest k up to half the samples."""
    for name in tasks:
        one, other = base.tasks[name], candidate.tasks[name]
        both = set(one.metrics) & set(other.metrics)
        ks = [int(metric[4:]) for metric in both if metric.startswith("maj@")]
        usable = [k for k in ks if k <= min(one.samples, other.samples) / 2]
        if one.result.votes and usable:
            votes = f"maj@{max(usable)}"
            scores = [task.metrics[metric] for task in (one, other) for metric in (votes, "acc")]
            yield Gain(one.result.benchmark, votes, *_contrasts(scores))


def _contrasts(scores: Sequence[Sequence[float]]) -> tuple[Interval, Interval, Interval]:
    """Gains of the base and the candidate, and their difference; from more and less, of each."""
    base, candidate = scores[:2], scores[2:]
    return (
        difference_interval(*base),
        difference_interval(*candidate),
        contrast_interval([*candidate, *base], [1, -1, -1, 1]),
    )


def _warnings(base_small: TaskScores, candidate_large: TaskScores) -> tuple[str, ...]:
    found = []
    if mean_interval(base_small.scores).estimate >= _CEILING:
        found.append(
            "ceiling: the base solves nearly all with the smallest budget, so more thinking has nothing to add"
        )
    chance = candidate_large.result.guessing or 0.0
    if mean_interval(candidate_large.scores).low <= chance:
        found.append("floor: with the largest budget, the candidate is not above chance")
    return tuple(found)
