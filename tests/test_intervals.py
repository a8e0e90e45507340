"""Intervals of a mean: by hand where that can be done, else by how often they hold the truth."""

from __future__ import annotations

from math import sqrt
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.api.metrics import mean_stderr
from scipy.stats import binomtest

from lm_eval_ext.statistics.intervals import (
    interval_from_stderr,
    mean_bounds,
    mean_interval,
    rerun_bounds,
    rerun_interval,
)

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
    assert 0.935 <= ((low <= skill.mean(1)) & (skill.mean(1) <= high)).mean() <= 0.965


def test_one_question_proves_nothing() -> None:
    assert mean_interval([0.5])[1:] == pytest.approx((0, 1), abs=0.02)
    assert mean_interval([1.0]).low == pytest.approx(wilson(1, 1)[0])
