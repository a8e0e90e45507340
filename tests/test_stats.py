"""Differences and ranks, against the same computed pair by pair."""

from __future__ import annotations

from math import sqrt
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_eval_ext.analysis.comparison import Difference, difference, ranks, repeated_interval
from lm_eval_ext.runs.run import Score, TaskResult, accuracy_interval
from lm_eval_ext.statistics.intervals import mean_interval, rerun_interval
from lm_eval_ext.statistics.paired import difference_interval

SCORES = st.lists(st.sampled_from([0.0, 1 / 3, 2 / 3, 1.0]), min_size=6, max_size=6)


def apart(found: Difference) -> bool:
    return found.low > 0 or found.high < 0


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
    found = difference(task(one), task(other))
    assert found.paired and found[:3] == pytest.approx(difference_interval(one, other))


def test_how_sure_an_accuracy_is() -> None:
    scores = [1.0, 1.0, 0.5, 0.0, 1.0, 0.75] * 5
    known = task(scores)
    unknown = known.model_copy(update={"scores": (), "question_set": ""})
    assert accuracy_interval(known) == pytest.approx(mean_interval(scores))
    assert accuracy_interval(unknown) == pytest.approx(mean_interval(scores)), "from the standard error alone"


def test_run_again_is_for_few_questions_asked_several_times() -> None:
    some = task([0.5, 0.75] * 15).model_copy(update={"benchmark": "tts_aime24", "repeats": 4})
    found = repeated_interval(some)
    assert found is not None and found == rerun_interval([0.5, 0.75] * 15, 4)
    for change in ({"repeats": 1}, {"questions": 500}, {"scores": ()}, {"benchmark": "aime24"}):
        assert repeated_interval(some.model_copy(update=change)) is None, change


def test_other_questions_are_not() -> None:
    """By Newcombe's method for two independent proportions."""
    one, other = [1.0, 0, 1, 1, 0, 1], [0.0, 0, 1, 1, 0, 1]
    found = difference(task(one), task(other, "b" * 16))
    (mean, low, _), (base, _, high) = mean_interval(one), mean_interval(other)
    assert not found.paired and found.low == pytest.approx(mean - base - sqrt((mean - low) ** 2 + (high - base) ** 2))


def test_scores_that_do_not_vary_or_tell_no_error_are_not_certain() -> None:
    sure, other = task([1.0] * 6, "c" * 16), task([1.0, 1.0, 1.0, 1.0, 1.0, 0.0], "b" * 16)
    assert not apart(difference(sure, other)) and not difference(sure, other).paired
    unknown = sure.model_copy(update={"scores": (), "metrics": {"acc": Score(value=1.0)}})
    assert not apart(difference(unknown, other))
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
