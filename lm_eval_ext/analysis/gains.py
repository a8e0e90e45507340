"""What more thinking and voting gain, for two models on the same questions.

That pruning takes away the gain from thinking is the claim of arXiv 2510.22228.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from lm_eval_ext.analysis.evaluated import EvaluatedModel, TaskScores
from lm_eval_ext.statistics.intervals import Interval, mean_interval
from lm_eval_ext.statistics.paired import contrast_interval, difference_interval

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
    for benchmark, names in _by_benchmark(base, tasks).items():
        ordered = sorted(names, key=lambda name: _size(base.tasks[name]))
        small, large = ordered[0], ordered[-1]
        scores = [model.tasks[name].scores for model in (base, candidate) for name in (large, small)]
        same = {base.tasks[name].result.question_set for name in (large, small)}
        if small == large or len(same) > 1 or len({len(some) for some in scores}) > 1:
            continue
        what = f"{_named(base.tasks[small])} to {_named(base.tasks[large])}"
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


def _by_benchmark(model: EvaluatedModel, tasks: Sequence[str]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in tasks:
        result = model.tasks[name].result
        if not result.votes and model.tasks[name].run.settings.get("thinking") != "off":
            found.setdefault(result.benchmark, []).append(name)
    return found


def _size(task: TaskScores) -> float:
    return float("inf") if task.result.budget is None else task.result.budget


def _named(task: TaskScores) -> str:
    return "no limit" if task.result.budget is None else f"{task.result.budget:,} tokens"


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
