"""Contrasts, Holm's correction, power and the gate: by hand, by brute force, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

from lm_eval_ext.statistics.gate import GateRow, gate, loss_p_value
from lm_eval_ext.statistics.intervals import share_interval
from lm_eval_ext.statistics.paired import contrast_interval, holm, ratio_interval
from lm_eval_ext.statistics.power import (
    detectable_loss,
    detectable_loss_of_equals,
    kept_bounds,
    needed,
    power_of_keeping,
    spread,
)

SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=5, max_size=12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_by_its_definition(p_values: list[float]) -> None:
    corrected = holm(p_values)
    for level in (0.01, 0.05, 0.3):
        rejected, left = set(), dict(enumerate(p_values))
        while left:
            index = min(left, key=lambda one: left[one])
            if left[index] * len(left) > level:
                break
            rejected.add(index)
            del left[index]
        assert {index for index, p_value in enumerate(corrected) if p_value <= level} == rejected


@given(SCORES, st.data())
def test_a_contrast_of_one_mean_is_that_mean(scores: list[float], data: st.DataObject) -> None:
    other = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(scores), max_size=len(scores)))
    found = contrast_interval([scores, other], [1, -1])
    assert found.estimate == pytest.approx(np.mean(scores) - np.mean(other))
    turned = contrast_interval([scores, other], [-1, 1])
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_a_contrast_covers_its_truth() -> None:
    draw = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        skill = draw.beta(1, 1, 60)
        rows = [list(draw.binomial(4, skill) / 4), list(draw.binomial(4, skill * 0.6) / 4)]
        found = contrast_interval(rows, [1, -1])
        covered += found.low <= 0.2 <= found.high
    assert 0.93 < covered / 1000 < 0.99


def test_few_or_equal_contrasts_are_no_certainty() -> None:
    low, high = contrast_interval([[1.0] * 5, [0.0] * 5], [1, -1])[1:]
    assert low < 0.8 and high > 1
    with pytest.raises(ValueError, match="one row for each weight"):
        contrast_interval([[1.0]], [1, -1])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=20))
def test_a_share_is_the_ratio_of_sums(counts: list[tuple[int, int]]) -> None:
    wholes = [max(one) / 4 for one in counts]
    parts = [min(one) / 4 for one in counts]
    if any(wholes):
        found = share_interval(parts, wholes)
        assert found.estimate == pytest.approx(sum(parts) / sum(wholes))
        assert 0 <= found.low <= found.estimate <= found.high <= 1


def test_the_spread_is_recovered() -> None:
    draw = np.random.default_rng(1)
    skill = draw.beta(2, 1, 20000)
    for samples in (2, 8):
        found = spread(list(draw.binomial(samples, skill) / samples), samples)
        assert found.questions == pytest.approx(skill.var(), rel=0.05)
        assert found.samples == pytest.approx((skill * (1 - skill)).mean(), rel=0.05)


def test_where_nothing_varies_no_detectable_loss_is_told() -> None:
    nothing, everything = [0.0] * 30, [1.0] * 30
    for base in (nothing, everything):
        assert detectable_loss(base, base) is None and detectable_loss_of_equals(base, 8) is None
        assert needed(base, 8, 0.95) is None
    assert detectable_loss(nothing, everything) is None  # every question differs by the same


def test_a_loss_of_the_detectable_size_is_seen_four_times_of_five() -> None:
    draw = np.random.default_rng(2)
    skill = draw.beta(2, 1, (2000, 100))
    base = draw.binomial(8, skill) / 8
    least = detectable_loss_of_equals(list(base[0]), 8)
    losses = [
        detectable_loss(list(one), list(other))
        for one, other in zip(draw.binomial(8, skill[:200]) / 8, base, strict=False)
    ]
    assert least is not None
    found = [loss for loss in losses if loss is not None]
    assert np.mean(found) == pytest.approx(least, rel=0.25)
    differences = draw.binomial(8, skill) / 8 - base
    stderr = differences.std(1, ddof=1) / 10
    seen = norm.cdf(least / stderr - norm.ppf(0.975))
    assert seen.mean() == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize(
    ("right", "wrong", "samples", "keep"), [(4, 2, 8, 0.9), (2, 2, 4, 0.95), (9, 1, 8, 0.95), (0.5, 0.5, 8, 0.9)]
)
def test_as_many_questions_as_are_needed_show_it(right: float, wrong: float, samples: int, keep: float) -> None:
    draw = np.random.default_rng(3)
    base = list(draw.binomial(samples, draw.beta(right, wrong, 4000)) / samples)
    found = needed(base, samples, keep)
    assert found is not None
    skill = draw.beta(right, wrong, (2000, found.questions))
    first, second = (draw.binomial(samples, skill) / samples for _ in range(2))
    often = (kept_bounds(first, second, 0.0)[0] >= keep).mean()
    assert 0.78 < often < 0.92, "80% at least, but for the simulation's error, and not with many questions too many"
    parts = [base[start : start + found.questions] for start in range(0, 4000, found.questions)][:-1]
    predicted = [power_of_keeping(part, samples, keep, seed=seed, draws=200) for seed, part in enumerate(parts)]
    assert np.mean(predicted) == pytest.approx(often, abs=0.04)
    assert needed([0.1] * 30, 8, 0.9, chance=0.25) is None


@pytest.mark.parametrize("questions", [30, 50, 87, 90, 198])
@pytest.mark.parametrize("keep", [0.8, 0.9, 0.95])
def test_a_model_that_loses_whole_questions_is_rarely_called_kept(questions: int, keep: float) -> None:
    """Counted out: what the base solves, it always does, and the other loses each such question with 1 - keep."""
    count = np.arange(questions + 1)
    solved, left = (some.ravel() for some in np.meshgrid(count, count, indexing="ij"))
    solved, left = solved[left <= solved], left[left <= solved]
    scores, base = ((some[:, None] > np.arange(questions)).astype(float) for some in (left, solved))
    kept = kept_bounds(scores, base, 0.0)[0] >= keep
    for accuracy in (0.3, 0.5, 0.7, 0.9, 1.0):
        often = binom.pmf(solved, questions, accuracy) * binom.pmf(left, solved, keep)
        assert often @ kept <= 0.05, accuracy


@pytest.mark.parametrize("samples", [1, 8])
def test_a_base_that_is_always_or_never_right_is_kept_always_or_never(samples: int) -> None:
    assert power_of_keeping([1.0] * 60, samples, 0.9) == 1
    assert power_of_keeping([0.0] * 60, samples, 0.9) == 0


def test_the_bounds_of_many_runs_are_those_of_each() -> None:
    draw = np.random.default_rng(4)
    scores, base = draw.integers(0, 5, (6, 40)) / 4, draw.integers(1, 5, (6, 40)) / 4
    low, high = kept_bounds(scores, base, 0.1)
    for run in range(6):
        found = ratio_interval(list(scores[run]), list(base[run]), chance=0.1)
        assert found is not None and (found.low, found.high) == pytest.approx((low[run], high[run]))


@given(SCORES)
def test_a_model_never_loses_against_itself(scores: list[float]) -> None:
    assert loss_p_value(GateRow(scores, scores), 0.9) > 0.05


def test_one_lost_row_decides_and_one_open_row_leaves_it_open() -> None:
    good, open_, bad = (GateRow([share] * 60 + [0.0] * 60, [0.9] * 60 + [0.0] * 60) for share in (0.9, 0.8, 0.2))
    assert gate([good], 0.5) == ("kept", ("kept",))
    assert gate([good, bad], 0.5) == ("lost", ("kept", "lost"))
    assert gate([good, open_], 0.88).verdict == "undecided"
    assert gate([good, GateRow([0.5] * 9, [0.0] * 9)], 0.5) == ("kept", ("kept", None)), "not measurable is left out"
    assert gate([], 0.5).verdict == "undecided"
    with pytest.raises(ValueError, match="keep=1"):
        gate([good], 1)
