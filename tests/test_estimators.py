"""Each estimator against its definition, counted out over all subsets."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import combinations
from math import isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_eval_ext.statistics import estimators
from lm_eval_ext.statistics.estimators import g_pass_at_k, ks, maj_at_k, pass_at_k

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
