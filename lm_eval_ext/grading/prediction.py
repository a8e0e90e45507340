"""What more samples would give: pass@K and maj@K for K beyond the n samples at hand.

No estimator of these is unbiased, as what was never sampled stays unknown. So each question's samples are taken as
draws from a distribution over answers, and what all questions have in common is fitted to them: how chances of a
correct answer are spread over questions (a Beta distribution), and how readily another wrong answer appears (a
Dirichlet process). That gives every question a posterior, one without a correct sample so far included. To see voting
as a question about that distribution: Liu et al. 2025, "Rethinking the Role of Prompting Strategies in LLM Test-Time
Scaling: A Perspective of Probability Theory" (arXiv 2505.10981).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import numpy as np

from lm_eval_ext.statistics.estimators import winning_share
from lm_eval_ext.statistics.intervals import Floats, Interval

_RESAMPLES = 200
_DRAWS = 2_000
_UNSEEN = 30  # at least so many wrong answers that have not been given yet; more where they are diverse


class Votes(NamedTuple):
    """One question's samples.

    Attributes:
        votes: samples of each distinct answer.
        correct: whether that answer is.
        abstained: samples without an answer.
    """

    votes: Sequence[int]
    correct: Sequence[bool]
    abstained: int = 0

    @property
    def n(self) -> int:
        """All samples."""
        return sum(self.votes) + self.abstained

    @property
    def right(self) -> int:
        """Correct samples."""
        return sum(count for count, right in zip(self.votes, self.correct, strict=True) if right)


def predict_pass_at_k(questions: Sequence[Votes], k: int, *, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Expected pass@k of any k, over all questions.

    Chances of success are taken as Beta-distributed over questions, fitted to the counts by maximum likelihood. The
    interval resamples questions, and with them the fit.

    Source: Kazdan et al. 2025, "Efficient Prediction of Pass@k Scaling in Large Language Models" (arXiv 2510.05197).

    Raises:
        ValueError: no questions, or one without samples.
    """
    n, right = _counts(questions)
    generator = np.random.default_rng(seed)
    samples = [generator.integers(len(n), size=len(n)) for _ in range(_RESAMPLES)]
    resampled = [_expected_pass(n[sample], right[sample], k) for sample in samples]
    return _interval(_expected_pass(n, right, k), resampled, confidence)


def _counts(questions: Sequence[Votes]) -> tuple[Floats, Floats]:
    if not questions or any(question.n == 0 for question in questions):
        raise ValueError("a question without samples, or no questions; allowed: one sample or more of each")
    n = np.array([question.n for question in questions], dtype=np.float64)
    return n, np.array([question.right for question in questions], dtype=np.float64)


def _expected_pass(n: Floats, right: Floats, k: int) -> float:
    from scipy.special import betaln

    a, b = _fitted_beta(n, right)
    none = np.exp(betaln(a + right, b + n - right + k) - betaln(a + right, b + n - right))
    return float(1 - none.mean())


def _fitted_beta(n: Floats, right: Floats) -> tuple[float, float]:
    """The Beta distribution under which the counts of successes are likeliest."""
    from scipy.optimize import minimize
    from scipy.special import betaln

    def cost(logs: Floats) -> float:
        a, b = np.exp(logs)
        return float(-(betaln(a + right, b + n - right) - betaln(a, b)).sum())

    found = minimize(cost, np.zeros(2), method="L-BFGS-B", bounds=[(-7, 7)] * 2)
    a, b = np.exp(found.x)
    return float(a), float(b)


def predict_maj_at_k(questions: Sequence[Votes], k: int, *, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Expected maj@k of any k, over all questions; ties count by their share, as in `maj_at_k`.

    From each question's posterior distributions over answers are drawn, from each of those k votes. The interval
    resamples questions.

    Source of the fit to wrong answers: Ewens 1972, "The sampling theory of selectively neutral alleles".

    Raises:
        ValueError: no questions, or one without samples.
    """
    beta = _fitted_beta(*_counts(questions))
    novelty = _fitted_novelty([_wrong(question) for question in questions])
    generator = np.random.default_rng(seed)
    expected = np.array([_expected_majority(question, k, beta, novelty, generator) for question in questions])
    resampled = [float(generator.choice(expected, len(expected)).mean()) for _ in range(_RESAMPLES)]
    return _interval(float(expected.mean()), resampled, confidence)


def _wrong(question: Votes) -> list[int]:
    return [count for count, right in zip(question.votes, question.correct, strict=True) if not right]


def _fitted_novelty(wrong: Sequence[Sequence[int]]) -> float:
    """The Dirichlet process's concentration under which so many distinct wrong answers are likeliest."""
    from scipy.optimize import minimize_scalar
    from scipy.special import gammaln

    some = [counts for counts in wrong if counts]

    def cost(log: float) -> float:
        novelty = np.exp(log)
        return -float(sum(len(counts) * log + gammaln(novelty) - gammaln(novelty + sum(counts)) for counts in some))

    return float(np.exp(minimize_scalar(cost, bounds=(-5, 5), method="bounded").x)) if some else 1.0


def _expected_majority(
    question: Votes, k: int, beta: tuple[float, float], novelty: float, generator: np.random.Generator
) -> float:
    right = generator.beta(beta[0] + question.right, beta[1] + question.n - question.right, _DRAWS)
    wrong = _drawn_wrong(_wrong(question), question.abstained, novelty, generator)
    chances = np.column_stack([right, (1 - right)[:, None] * wrong])
    votes = generator.multinomial(k, chances / chances.sum(axis=1, keepdims=True))
    correct = np.zeros(votes.shape[1] - 1)
    correct[0] = 1
    return float(winning_share(votes[:, :-1], correct).mean())  # the last column abstains


def _drawn_wrong(seen: Sequence[int], abstained: int, novelty: float, generator: np.random.Generator) -> Floats:
    """Shares of wrong answers, [draws, answers]: those seen, those not seen (by breaking a stick), and none at all."""
    weights = generator.gamma([*seen, novelty, max(abstained, 1e-9)], size=(_DRAWS, len(seen) + 2))
    weights[weights.sum(axis=1) == 0, -2] = 1  # where all are too small for a float, some new answer it is
    weights /= weights.sum(axis=1, keepdims=True)
    sticks = max(_UNSEEN, ceil(5 * novelty))  # leaves less than one per cent for the last one
    broken = generator.beta(1, novelty, (_DRAWS, sticks))
    broken[:, -1] = 1
    left = np.cumprod(np.column_stack([np.ones(_DRAWS), 1 - broken[:, :-1]]), axis=1)
    shares: Floats = np.column_stack([weights[:, :-2], weights[:, -2:-1] * broken * left, weights[:, -1]])
    return shares


def _interval(estimate: float, resampled: Sequence[float], confidence: float) -> Interval:
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, float(low), float(high))
