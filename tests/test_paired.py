"""Two models on the same questions: by hand, by brute force, and by how often the truth is held."""

from __future__ import annotations

from itertools import product
from math import isclose, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from lm_eval_ext.statistics.intervals import mean_interval
from lm_eval_ext.statistics.paired import (
    correlation,
    difference_interval,
    ratio_bounds,
    ratio_interval,
    sign_flip_test,
    unpaired,
)

SCORES = st.lists(st.sampled_from([0.0, 1 / 3, 2 / 3, 1.0]), min_size=8, max_size=8)
BINARY = st.lists(st.sampled_from([0.0, 1.0]), min_size=8, max_size=8)


@given(SCORES, SCORES)
def test_a_difference_turns_around(scores: list[float], base: list[float]) -> None:
    found, other = difference_interval(scores, base), difference_interval(base, scores)
    assert found.low <= found.estimate <= found.high
    assert found == pytest.approx((-other.estimate, -other.high, -other.low))
    assert found.estimate == pytest.approx(np.mean(scores) - np.mean(base))


@given(SCORES, SCORES)
def test_the_correlation_is_that_with_two_questions_added(scores: list[float], base: list[float]) -> None:
    """Those that one model alone has right."""
    first, second = np.array([*scores, 1.0, 0.0]), np.array([*base, 0.0, 1.0])
    assert correlation(np.array(scores), np.array(base)) == pytest.approx(np.corrcoef(first, second)[0, 1])


def test_newcombes_interval_where_scores_do_not_correlate() -> None:
    """The distances to the ends, added as squares, with the correlation of the two questions that are added alone."""
    scores, base = [1.0, 1.0, 0.0, 0.0] * 10, [1.0, 0.0, 1.0, 0.0] * 10
    one, other = mean_interval(scores), mean_interval(base)
    found = difference_interval(scores, base)
    down, up = 0.5 - one.low, other.high - 0.5
    assert found.low == pytest.approx(-((down**2 + up**2 + 2 * (0.5 / 10.5) * down * up) ** 0.5), rel=1e-9)


def test_the_same_questions_tell_more_than_others() -> None:
    base = [question / 40 for question in range(40)]
    scores = [score * 0.8 for score in base]
    assert difference_interval(scores, base).high < 0, "a loss on every question, though the intervals of both overlap"
    assert mean_interval(scores).high > mean_interval(base).low
    found = ratio_interval(scores, base)
    _, apart = unpaired(mean_interval(scores), mean_interval(base))
    assert found is not None and apart is not None and found.estimate == pytest.approx(0.8)
    assert found.high < 1 < apart.high and 0.8 - found.low < 0.65 * (0.8 - apart.low)


def test_few_questions_prove_little() -> None:
    assert difference_interval([1.0] * 2, [0.0] * 2).low < 0 < difference_interval([1.0] * 9, [0.0] * 9).low
    equal = ratio_interval([1.0] * 30, [1.0] * 30)
    assert equal is not None and (equal.estimate, round(equal.low, 2), round(equal.high, 2)) == (1, 0.89, 1.13)


def bounded(mean: float) -> tuple[Any, Any, Any]:
    return np.array(mean), np.array(mean - 0.1), np.array(mean + 0.1)


def test_a_ratio_is_above_chance_or_there_is_none() -> None:
    assert ratio_interval([0.0] * 30, [0.0] * 30) is None
    guessed, known = [1.0, 0.0, 0.0, 0.0] * 10, [1.0, 1.0, 1.0, 0.0] * 10
    assert ratio_interval(known, guessed, chance=0.25) is None
    left, plain = ratio_interval(guessed, known, chance=0.25), ratio_interval(guessed, known)
    assert left is not None and plain is not None
    assert (left.estimate, left.low) == (0, 0) and plain.estimate == pytest.approx(1 / 3)
    assert np.isnan(ratio_bounds(bounded(0.5), bounded(0.3), np.array(0.0), chance=0.25)).all()


@given(SCORES, SCORES, st.sampled_from([0.0, 0.25]))
@settings(max_examples=300)
def test_a_ratio_holds_the_difference_of_nothing(scores: list[float], base: list[float], chance: float) -> None:
    """Square-and-add in both: whether 1 is in the ratio's interval is whether 0 is in that of the difference."""
    ratio, difference = ratio_interval(scores, base, chance=chance), difference_interval(scores, base)
    if ratio is not None:
        assert 0 <= ratio.low <= max(0, ratio.estimate) + 1e-9 <= ratio.high + 1e-6
        if min(abs(ratio.low - 1), abs(ratio.high - 1)) > 1e-6:
            assert (ratio.low < 1 < ratio.high) == (difference.low < 0 < difference.high)


@pytest.mark.parametrize(("kept", "whole"), [(1.0, False), (0.5, True), (0.5, False)])
def test_coverage(kept: float, whole: bool) -> None:
    """Of 30 questions, 8 samples each, of which a part is lost wholly, or of each a part."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(500):
        skill = generator.beta(0.5, 0.5, size=30)
        lost = generator.random(30) < kept if whole else kept
        base, scores = generator.binomial(8, skill) / 8, generator.binomial(8, skill * lost) / 8
        ratio, difference = ratio_interval(list(scores), list(base)), difference_interval(list(scores), list(base))
        assert ratio is not None
        held += (difference.low <= 0.5 * (kept - 1) <= difference.high) + (ratio.low <= kept <= ratio.high)
    assert held / 1_000 >= 0.935


@given(BINARY, BINARY)
@settings(max_examples=40)
def test_with_one_sample_the_test_is_mcnemars(scores: list[float], base: list[float]) -> None:
    only = sum(one > other for one, other in zip(scores, base, strict=True))
    differ = sum(one != other for one, other in zip(scores, base, strict=True))
    expected = binomtest(only, differ).pvalue if differ else 1.0
    assert isclose(sign_flip_test(scores, base), expected, rel_tol=1e-9)


@given(SCORES, SCORES)
@settings(max_examples=30)
def test_the_test_counts_signs(scores: list[float], base: list[float]) -> None:
    differences = [round(3 * (one - other)) for one, other in zip(scores, base, strict=True)]
    sums = [sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in product((1, -1), repeat=8)]
    below, above = (np.mean([sign * total >= sign * sum(differences) for total in sums]) for sign in (1, -1))
    assert sign_flip_test(scores, base) == pytest.approx(min(1, 2 * min(below, above)))


def test_many_questions_are_flipped_at_random() -> None:
    generator = np.random.default_rng(0)
    base = list(generator.random(200))
    assert sign_flip_test([score * 0.98 for score in base], base) < 0.001
    other = list(generator.random(200))
    assert 0.01 < sign_flip_test(other, base) == sign_flip_test(other, base) < 1


@pytest.mark.parametrize("function", [difference_interval, ratio_interval, sign_flip_test])
def test_other_questions_are_refused(function: object) -> None:
    assert callable(function)
    for scores, base, told in (([1.0], [1.0, 0.0], "same questions"), ([], [], "no scores"), ([nan], [1.0], "0 to 1")):
        with pytest.raises(ValueError, match=told):
            function(scores, base)
