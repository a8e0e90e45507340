"""Differences and ranks, against the same computed pair by pair."""

from __future__ import annotations

from math import sqrt
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_eval_ext.intervals import normal_interval, wilson_interval
from lm_eval_ext.site.run import Score, TaskResult
from lm_eval_ext.site.stats import difference, ranks

SCORES = st.lists(st.sampled_from([0.0, 1 / 3, 2 / 3, 1.0]), min_size=6, max_size=6)


def task(scores: list[float], questions: str = "a" * 16) -> TaskResult:
    return TaskResult(
        benchmark="t",
        score="acc",
        metrics={"acc": Score(value=fmean(scores), stderr=stdev(scores) / sqrt(len(scores)))},
        questions=len(scores),
        of=len(scores),
        question_set=questions,
        scores=tuple(scores),
    )


@given(SCORES, SCORES)
def test_the_same_questions_are_paired(one: list[float], other: list[float]) -> None:
    """By hand: Agresti and Min's two added questions, one of which goes each way by a half."""
    found = difference(task(one), task(other))
    differences = [a - b for a, b in zip(one, other, strict=True)]
    assert found.paired and found.mean == pytest.approx(fmean(differences))
    centre = sum(differences) / 8
    variance = (sum(one**2 for one in differences) + 1) / 8 - centre**2
    assert (found.low, found.high) == pytest.approx(
        (centre - 1.959964 * sqrt(variance / 8), centre + 1.959964 * sqrt(variance / 8)), abs=1e-6
    )


def test_few_questions_prove_little() -> None:
    assert not difference(task([1.0] * 2), task([0.0] * 2)).separable
    assert difference(task([1.0] * 9), task([0.0] * 9)).separable


def test_other_questions_are_not() -> None:
    found = difference(task([1, 0, 1, 1, 0, 1]), task([0, 0, 1, 1, 0, 1], "b" * 16))
    assert not found.paired and (found.high - found.low) / 2 / 1.96 == pytest.approx(sqrt(2 / 45 + 3 / 60), rel=0.02)


def test_scores_that_do_not_vary_or_tell_no_error_are_not_certain() -> None:
    sure, other = task([1.0] * 6, "c" * 16), task([1.0, 1.0, 1.0, 1.0, 1.0, 0.0], "b" * 16)
    assert not difference(sure, other).separable and not difference(sure, other).paired
    unknown = sure.model_copy(update={"scores": (), "metrics": {"acc": Score(value=1.0)}})
    assert not difference(unknown, other).separable
    assert ranks({"a": unknown, "b": other}) == {"a": (1, 2), "b": (1, 2)}


@given(st.lists(st.tuples(SCORES, st.sampled_from(["a" * 16, "b" * 16])), min_size=2, max_size=6))
def test_ranks_count_what_is_certainly_better(given: list[tuple[list[float], str]]) -> None:
    tasks = {str(number): task(scores, questions) for number, (scores, questions) in enumerate(given)}
    found = ranks(tasks)
    for name, rank in found.items():
        others = [difference(tasks[other], tasks[name]) for other in tasks if other != name]
        clear = [one for one in others if abs(one.low) > 1e-9 and abs(one.high) > 1e-9]
        if len(clear) == len(others):  # a bound of exactly 0 may fall to either side
            assert rank.best == 1 + sum(one.low > 0 for one in others)
            assert rank.worst == len(tasks) - sum(one.high < 0 for one in others)


def test_what_does_not_vary_is_not_certain() -> None:
    assert normal_interval(1.0, 0.0, 30) == wilson_interval(30, 30)
    assert normal_interval(1.0, 0.0, 30).low == pytest.approx(0.886, abs=1e-3)
    assert normal_interval(0.5, 0.1, 30) == pytest.approx((0.5, 0.304, 0.696), abs=1e-3)
    with pytest.raises(ValueError, match="allowed"):
        wilson_interval(3, 2)
