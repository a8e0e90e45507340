"""Intervals of a mean: by hand where that can be done, else by how often they hold the truth."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import combinations
from math import isclose, sqrt
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.metrics import mean_stderr
from scipy.stats import binomtest

from lm_eval_ext.analysis.comparison import Difference, difference, ranks, repeated_interval
from lm_eval_ext.runs.run import Score, TaskResult, accuracy_interval
from lm_eval_ext.statistics import estimators
from lm_eval_ext.statistics.estimators import g_pass_at_k, ks, maj_at_k, pass_at_k
from lm_eval_ext.statistics.intervals import (
    interval_from_stderr,
    mean_bounds,
    mean_interval,
    rerun_bounds,
    rerun_interval,
)
from lm_eval_ext.statistics.paired import difference_interval
from lm_eval_ext.statistics.resampling import difference_of_means, mean_over_parts

SCORES = st.lists(st.sampled_from([0.0, 1 / 8, 1 / 3, 0.5, 1.0]), min_size=1, max_size=30)


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Ends of the interval, as scipy computes it."""
    low, high = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(low), float(high)


@given(SCORES)
def test_an_interval_holds_its_mean_and_mirrors(scores: list[float]) -> None:
    found = mean_interval(scores)
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert found.estimate == pytest.approx(fmean(scores))
    mirrored = mean_interval([1 - score for score in scores])
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((found.low, found.high))


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=30))
def test_questions_that_are_right_or_wrong_get_wilsons_interval(scores: list[float]) -> None:
    for confidence in (0.5, 0.95):
        expected = wilson(round(sum(scores)), len(scores), confidence)
        assert mean_interval(scores, confidence=confidence)[1:] == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.sampled_from([0.0, 1 / 8, 0.5, 1.0]), min_size=2, max_size=30))
def test_the_standard_error_of_lm_eval_says_the_same_as_the_scores(scores: list[float]) -> None:
    found = interval_from_stderr(fmean(scores), mean_stderr(scores), len(scores))
    assert found == pytest.approx(mean_interval(scores), abs=1e-6)


def test_without_a_standard_error_each_question_is_one_trial() -> None:
    assert interval_from_stderr(0.4, None, 30)[1:] == pytest.approx(wilson(12, 30))
    assert interval_from_stderr(1 + 1e-9, None, 30)[1:] == pytest.approx(wilson(30, 30))


def test_more_samples_of_like_questions_narrow_the_interval() -> None:
    """Questions that are alike are worth a trial for each sample, up to what a few questions can tell about that."""
    once, often = mean_interval([0.0, 1.0] * 15), mean_interval([3 / 8, 5 / 8] * 15)
    assert (often.high - often.low) / (once.high - once.low) == pytest.approx(sqrt(1 / 16 + 1 / 31), rel=0.1)


@pytest.mark.parametrize("scores", [[], [0.5, 1.2], [float("nan")], [-0.1]])
def test_what_is_no_score_is_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        mean_interval(scores)


@pytest.mark.parametrize("accuracy", [0.02, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("samples", [1, 8])
def test_coverage(accuracy: float, samples: int) -> None:
    """Of 30 questions whose chances are spread as Beta distributions are; `benchmarks.coverage` tries many more."""
    generator = np.random.default_rng(0)
    skill = generator.beta(accuracy * 3, (1 - accuracy) * 3, size=(4_000, 30))
    scores = generator.binomial(samples, skill) / samples
    low, high = mean_bounds(scores.mean(1), scores.var(1), 30)
    assert 0.93 <= ((low <= accuracy) & (accuracy <= high)).mean() <= 0.99

    normal = 1.96 * scores.std(1, ddof=1) / sqrt(30)
    held = abs(scores.mean(1) - accuracy) <= normal
    assert accuracy in (0.1, 0.5) or held.mean() < 0.9, "at the edges lm-eval's standard error says too little"


def test_run_again_the_same_questions_vary_less() -> None:
    scores = [0.0] * 10 + [0.5] * 10 + [1.0] * 10
    found, new = rerun_interval(scores, 8), mean_interval(scores)
    assert found.estimate == new.estimate and new.low < found.low < found.high < new.high
    noise = sqrt(sum(score * (1 - score) for score in scores) / 7) / 30
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * noise, rel=0.06), "Miller's formula, in the middle"
    with pytest.raises(ValueError, match="samples=1; expected 2"):
        rerun_interval(scores, 1)


def test_coverage_of_run_again() -> None:
    generator = np.random.default_rng(0)
    skill = generator.beta(1, 2, size=(4_000, 30))
    scores = generator.binomial(8, skill) / 8
    low, high = rerun_bounds(scores.mean(1), (scores * (1 - scores)).mean(1), 30, 8)
    assert 0.935 <= ((low <= skill.mean(1)) & (skill.mean(1) <= high)).mean() <= 0.975


@pytest.mark.parametrize("samples", [2, 3, 4, 8])
@pytest.mark.parametrize("uncertain", [[0.5], [0.3] * 3, [0.95] * 3])
def test_coverage_of_run_again_where_few_questions_are_uncertain(uncertain: list[float], samples: int) -> None:
    """Their few samples are often all alike, which says little about the next time."""
    skill = np.array([*uncertain, *[1.0] * 15, *[0.0] * (15 - len(uncertain))])
    scores = np.random.default_rng(0).binomial(samples, skill, (4_000, 30)) / samples
    low, high = rerun_bounds(scores.mean(1), (scores * (1 - scores)).mean(1), 30, samples)
    assert ((low <= skill.mean()) & (skill.mean() <= high)).mean() >= 0.9


@pytest.mark.parametrize("questions", [2, 3, 5, 12])
def test_coverage_of_means_over_parts_of_few_questions(questions: int) -> None:
    """A plain bootstrap of two questions covers in half of all runs, and finds a difference in the other half."""
    generator, missed, differing = np.random.default_rng(questions), 0, 0
    for _ in range(200):
        counts = generator.integers(50, 400, questions)
        one, other = (counts * generator.lognormal(-0.045, 0.3, questions) for _ in range(2))
        mean = mean_over_parts(list(one), list(counts))
        apart = difference_of_means((list(one), list(counts)), (list(other), list(counts)))
        assert mean is not None and apart is not None
        missed += not mean.low <= 1 <= mean.high
        differing += apart.low > 0 or apart.high < 0
    assert missed <= 28 and differing <= 28, "14%, three standard errors above 8%"


def test_means_over_parts_end_at_what_is_possible() -> None:
    found, anywhere = (mean_over_parts([1.0, 9.0], [1, 1], least=least) for least in (0.0, -100.0))
    assert found is not None and anywhere is not None
    assert found.low == 0 > anywhere.low and found.high == anywhere.high
    assert mean_over_parts([0.0, 0.0], [3, 4]) == (0, 0, 0)


def test_one_question_proves_nothing() -> None:
    assert mean_interval([0.5])[1:] == pytest.approx((0, 1), abs=0.02)
    assert mean_interval([1.0]).low == pytest.approx(wilson(1, 1)[0])


# Each estimator against its definition, counted out over all subsets --------------------------------------------------


SAMPLES = st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=1, max_size=9)
RIGHT = st.sets(st.sampled_from("abcd"))


def subsets(samples: list[str], k: int) -> list[tuple[str, ...]]:
    return list(combinations(samples, k))


def mean(values: list[Fraction]) -> float:
    return float(sum(values) / len(values))


@given(SAMPLES, RIGHT, st.data())
def test_pass_at_k_is_the_mean_over_subsets(samples: list[str], right: set[str], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(samples)))
    correct = sum(sample in right for sample in samples)
    expected = mean([Fraction(any(sample in right for sample in some)) for some in subsets(samples, k)])
    assert isclose(pass_at_k(len(samples), correct, k), expected, abs_tol=1e-12)


@given(SAMPLES, RIGHT, st.sampled_from([0, 0.25, 0.5, 0.75, 1]), st.data())
def test_g_pass_at_k_is_the_mean_over_subsets(
    samples: list[str], right: set[str], share: float, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(samples)))
    hits = [sum(sample in right for sample in some) for some in subsets(samples, k)]
    expected = mean([Fraction(hit >= max(1, share * k)) for hit in hits])
    correct = sum(sample in right for sample in samples)
    assert isclose(g_pass_at_k(len(samples), correct, k, share), expected, abs_tol=1e-12)


def majority(some: tuple[str, ...], right: set[str]) -> Fraction:
    votes = Counter(sample for sample in some if sample)
    winners = [answer for answer, count in votes.items() if count == max(votes.values())]
    return Fraction(sum(answer in right for answer in winners), len(winners)) if winners else Fraction(0)


@given(SAMPLES, RIGHT, st.data())
@settings(max_examples=300)
def test_maj_at_k_is_the_mean_over_subsets(samples: list[str], right: set[str], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(samples)))
    votes = Counter(sample for sample in samples if sample)
    found = maj_at_k(list(votes.values()), [answer in right for answer in votes], k, samples.count(""))
    assert isclose(found, mean([majority(some, right) for some in subsets(samples, k)]), abs_tol=1e-9)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 20), st.data())
@settings(max_examples=30)
def test_majorities_of_all_answers_add_up(votes: list[int], abstained: int, data: st.DataObject) -> None:
    """Whichever answer is taken for correct: the chances to win are those of somebody having voted."""
    n = sum(votes) + abstained
    k = data.draw(st.integers(1, n))
    chances = [maj_at_k(votes, [i == winner for i in range(len(votes))], k, abstained) for winner in range(len(votes))]
    nobody = 1 - pass_at_k(n, sum(votes), k)
    assert isclose(sum(chances), 1 - nobody, abs_tol=1e-9)


def test_a_large_question_and_its_random_subsets_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    votes, correct = [30, 28, *[3] * 28], [False, True, *[False] * 28]
    exact = maj_at_k(votes, correct, 64, 14)
    monkeypatch.setattr(estimators, "_EXACT_UP_TO", 0)
    monkeypatch.setattr(estimators, "_DRAWS", 500_000)
    assert abs(maj_at_k(votes, correct, 64, 14) - exact) < 0.002, "a quarter of the draws, twice the error"


def test_more_samples_than_binomials_fit_in_a_float() -> None:
    assert isclose(maj_at_k([1500, 1400], [True, False], 2900), 1)
    assert 0.9 < maj_at_k([1500, 1400], [True, False], 2001) < 1


@pytest.mark.parametrize(("n", "correct", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 0), (3, 1, 4)])
def test_impossible_counts_are_refused(n: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError, match="allowed"):
        pass_at_k(n, correct, k)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_impossible_shares_are_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"share=.*; allowed: 0 to 1"):
        g_pass_at_k(3, 1, 2, share)


def test_the_numbers_of_samples_reported() -> None:
    assert [ks(n) for n in (0, 1, 3, 8, 12)] == [[], [1], [1, 2, 3], [1, 2, 4, 8], [1, 2, 4, 8, 12]]


# Differences and ranks, against the same computed pair by pair --------------------------------------------------------


PAIRS = st.lists(st.sampled_from([0.0, 1 / 3, 2 / 3, 1.0]), min_size=6, max_size=6)


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


@given(PAIRS, PAIRS)
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


@given(st.lists(st.tuples(PAIRS, st.sampled_from(["a" * 16, "b" * 16])), min_size=2, max_size=6))
def test_ranks_count_what_is_certainly_better(given: list[tuple[list[float], str]]) -> None:
    tasks = {str(number): task(scores, questions) for number, (scores, questions) in enumerate(given)}
    found = ranks(tasks)
    for name, rank in found.items():
        others = [difference(tasks[other], tasks[name]) for other in tasks if other != name]
        clear = [one for one in others if abs(one.low) > 1e-9 and abs(one.high) > 1e-9]
        if len(clear) == len(others):  # a bound of exactly 0 may fall to either side
            assert rank.best == 1 + sum(one.low > 0 for one in others)
            assert rank.worst == len(tasks) - sum(one.high < 0 for one in others)
