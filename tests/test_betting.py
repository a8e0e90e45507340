"""Tests by betting: the wealth is the formula's, verdicts hold at every look, and e-values are put together rightly."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_eval_ext import KeptTest
from lm_eval_ext.statistics.betting import BettingTest, e_bh, e_closed, share_interval

FRACTIONS = [(number + 0.5) / 25 for number in range(25)]
UNITS = st.lists(st.floats(-0.9, 1.0), min_size=1, max_size=40)


@given(UNITS)
def test_the_wealth_is_that_of_the_formula(units: list[float]) -> None:
    test, least = BettingTest(0.9), 0.9
    for unit in units:
        test.update(unit)
    fixed = np.mean([math.prod(1 + fraction / least * unit for unit in units) for fraction in FRACTIONS])
    adaptive, total, squares = 1.0, 0.0, 0.0
    for number, unit in enumerate(units, 1):
        bet = min(max(total / number / ((squares + least**2 / 4) / number), 0), 0.95 / least)
        adaptive *= 1 + bet * unit
        total, squares = total + unit, squares + unit**2
    assert test.wealth == pytest.approx((fixed + adaptive) / 2, rel=1e-9)


@given(UNITS, UNITS)
def test_copies_go_on_where_a_test_stands(first: list[float], then: list[float]) -> None:
    test = BettingTest(0.9)
    for unit in first:
        test.update(unit)
    copies = test.copies(3)
    for unit in then:
        test.update(unit)
        copies.update(np.full(3, unit))
    assert np.exp(copies.log_wealth) == pytest.approx([test.wealth] * 3)


def test_parts_of_a_unit_get_the_same_bet() -> None:
    rounds, single = BettingTest(1.0), BettingTest(1.0)
    rounds.update([0.5, -1.0, 0.25], parts=True)
    for fraction in (0.5, -1.0, 0.25):
        single.update(fraction)
    assert rounds.wealth != pytest.approx(single.wealth), "the adaptive bet may not look at a part of the same unit"
    fixed = np.mean([math.prod(1 + f * unit for unit in (0.5, -1.0, 0.25)) for f in FRACTIONS])
    assert rounds.wealth == pytest.approx((1 + fixed) / 2)


@pytest.mark.parametrize("unit", [-1.0, math.nan, math.inf])
def test_a_unit_that_a_bet_could_not_survive_is_refused(unit: float) -> None:
    with pytest.raises(ValueError, match=r"expected at least -0\.9"):
        BettingTest(0.9).update(unit)


def test_a_bet_without_a_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 0"):
        BettingTest(0.0)


@pytest.mark.parametrize(("chance", "samples", "spread"), [(0.0, 1, 0.5), (0.25, 1, 0.1), (0.0, 8, 0.8)])
def test_at_the_border_hardly_any_look_is_wrong(chance: float, samples: int, spread: float) -> None:
    """2.5% on each side is promised; 4,000 runs have a standard error of 0.25 points."""
    generator, keep, runs = np.random.default_rng(3), 0.9, 4000
    above, below = (BettingTest(np.full(runs, least)) for least in (keep + 0.1 * chance, 1 - 0.1 * chance))
    ever = np.zeros((2, runs), dtype=bool)
    for _ in range(200):
        skill = generator.beta(0.7 * (1 - spread) / spread, 0.3 * (1 - spread) / spread, runs)
        base = generator.binomial(samples, chance + (1 - chance) * skill) / samples
        ours = generator.binomial(samples, chance + (1 - chance) * keep * skill) / samples
        above.update(ours - keep * base - 0.1 * chance)
        below.update(keep * base + 0.1 * chance - ours)
        ever |= np.array([above.log_wealth, below.log_wealth]) >= math.log(40)
    assert (ever.mean(1) <= 0.025 + 3 * 0.0025).all(), ever.mean(1)
    assert ever.any(), "a bet that never wins shows nothing"


def test_rounds_of_unequal_questions_at_the_border_are_hardly_ever_wrong() -> None:
    generator, runs = np.random.default_rng(4), 4000
    base = np.array([0.95, 0.9, 0.5, 0.3, 0.1])
    ours = base * [1.0, 0.6, 1.2, 1.1, 0.9]
    ours *= 0.9 * base.mean() / ours.mean()
    above, below = BettingTest(np.full(runs, 0.9)), BettingTest(np.full(runs, 1.0))
    ever = np.zeros((2, runs), dtype=bool)
    for _ in range(60):
        unit = 1.0 * (generator.random((runs, 5)) < ours) - 0.9 * (generator.random((runs, 5)) < base)
        above.update(unit, parts=True)
        below.update(-unit, parts=True)
        ever |= np.array([above.log_wealth, below.log_wealth]) >= math.log(40)
    assert (ever.mean(1) <= 0.025 + 3 * 0.0025).all(), ever.mean(1)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60), st.sampled_from([0.0, 0.25]))
def test_verdict_and_interval_agree(pairs: list[tuple[int, int]], chance: float) -> None:
    test = KeptTest(0.9, chance=chance)
    for ours, theirs in pairs:
        test.update(ours / 4, theirs / 4)
    found = test.interval()
    if found is None:
        assert test.verdict == "undecided" and not test.measurable
        return
    assert found.low <= found.estimate <= found.high
    reached = [max(side) for side in zip(*test.wealth, strict=True)]
    if reached[0] >= 40 and reached[1] < 40:
        assert found.low >= 0.9 - 1e-3
    if reached[1] >= 40 and reached[0] < 40:
        assert found.high <= 0.9 + 1e-3
    assert (test.verdict == "undecided") == (max(reached) < 40)


def test_a_verdict_stays() -> None:
    test = KeptTest(0.9)
    while test.update(0.0, 1.0) == "undecided":
        pass
    for _ in range(200):
        test.update(1.0, 0.0)
    assert test.verdict == "lost" and test.e_kept > 1e6


def test_no_interval_before_the_first_unit_and_no_upper_end_without_evidence() -> None:
    assert KeptTest(0.9).interval() is None
    found = share_interval([(np.array([1.0]), np.array([0.0]))])
    assert found is not None and found.high == math.inf


@pytest.mark.parametrize("wrong", [{"keep": 0}, {"keep": 1.1}, {"chance": 1.0}, {"error": 0}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected a share to keep"):
        KeptTest(**{"keep": 0.9, **wrong})


@pytest.mark.parametrize(("score", "base"), [(1.1, 0.5), (0.5, [0.5, 0.5]), (math.nan, 0.5)])
def test_a_unit_that_is_no_share_is_refused(score: float, base: object) -> None:
    with pytest.raises(ValueError, match="shares from 0 to 1"):
        KeptTest(0.9).update(score, base)  # type: ignore[arg-type]  # what is tried


def test_a_table_and_a_picture() -> None:
    test = KeptTest(0.9)
    for _ in range(5):
        test.update(1.0, 1.0)
    table, picture = test.to_frame(), test.plot()
    assert list(table.columns) == ["unit", "score", "base", "e_kept", "e_lost"] and len(table) == 5
    assert table.e_kept.iloc[-1] == test.e_kept
    assert picture.svg().startswith("<svg") and "5 units" in repr(picture) and "a verdict stands at 40" in repr(picture)


E_VALUES = st.lists(st.floats(0, 1e6), min_size=1, max_size=7)


@given(E_VALUES, st.sampled_from([0.01, 0.05, 0.2]))
def test_e_bh_is_its_definition(e_values: list[float], level: float) -> None:
    count = len(e_values)
    stand = e_bh(e_values, level)
    most = max((k for k in range(count + 1) if sum(e >= count / (k * level) for e in e_values if k) >= k), default=0)
    assert sum(stand) >= most
    assert all(value >= count / (sum(stand) * level) for value, one in zip(e_values, stand, strict=True) if one)


@given(E_VALUES)
def test_closed_e_values_are_the_smallest_mean_of_all_sets(e_values: list[float]) -> None:
    count = len(e_values)
    for place, found in enumerate(e_closed(e_values)):
        sets = (
            [e_values[at] for at in some]
            for size in range(1, count + 1)
            for some in itertools.combinations(range(count), size)
            if place in some
        )
        assert found == pytest.approx(min(sum(one) / len(one) for one in sets), abs=1e-6)
