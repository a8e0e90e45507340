"""Estimates for k samples of a question from n samples. Pure functions of counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import ceil, comb

import numpy as np
from numpy.typing import NDArray

from lm_eval_ext.statistics.intervals import Floats, Interval, checked

_EXACT_UP_TO = 1 << 26  # multiplications; beyond that, random subsets are drawn
_DRAWS = 2_000_000  # standard error of a mean of draws: at most 0.00036
_DRAWS_AT_ONCE = 50_000


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Probability that at least one of k samples, drawn from n without replacement, is correct.

    Source: Chen et al. 2021, "Evaluating Large Language Models Trained on Code" (arXiv 2107.03374), the unbiased
    estimator.

    Raises:
        ValueError: unless 0 <= correct <= n and 1 <= k <= n.

    >>> pass_at_k(4, 1, 2)
    0.5
    """
    _check(n, correct, k)
    return 1 - comb(n - correct, k) / comb(n, k)


def g_pass_at_k(n: int, correct: int, k: int, share: float) -> float:
    """Probability that at least `share` of k samples, drawn from n without replacement, are correct.

    Source: Liu et al. 2024, "Are Your LLMs Capable of Stable Reasoning?" (arXiv 2412.13147), G-Pass@k.

    Raises:
        ValueError: unless 0 <= correct <= n, 1 <= k <= n and 0 <= share <= 1; share 0 means at least one sample.
    """
    _check(n, correct, k)
    if not 0 <= share <= 1:
        raise ValueError(f"share={share}; allowed: 0 to 1")
    least = max(1, ceil(share * k - 1e-9))
    return sum(comb(correct, j) * comb(n - correct, k - j) for j in range(least, k + 1)) / comb(n, k)


def _check(n: int, correct: int, k: int) -> None:
    if not 0 <= correct <= n:
        raise ValueError(f"correct={correct} of n={n}; allowed: 0 to n")
    if not 1 <= k <= n:
        raise ValueError(f"k={k} of n={n}; allowed: 1 to n")


def maj_at_k(votes: Sequence[int], correct: Sequence[bool], k: int, abstained: int = 0, *, seed: int = 0) -> float:
    """Probability that the majority of k samples, drawn without replacement, is correct; ties are split.

    This is the mean, over all subsets of k samples, of the share of correct answers among those with the most votes; a
    subset without votes is wrong. Computed exactly, by convolving for each winning count the ways in which every other
    answer stays at or below it (multivariate hypergeometric distribution); if that takes too long, estimated from
    random subsets with a standard error of at most 0.00036.

    Args:
        votes: number of samples of each distinct answer, at least 1 each.
        correct: whether that answer is correct.
        k: samples that vote.
        abstained: samples without an answer.
        seed: for the random subsets.

    Raises:
        ValueError: unless 1 <= k <= all samples.

    >>> round(maj_at_k([2, 1], [True, False], 3), 6)
    1.0
    """
    n = sum(votes) + abstained
    _check(n, sum(count for count, right in zip(votes, correct, strict=True) if right), k)
    if not any(correct):
        return 0.0
    if len(votes) * k * k * max(votes) > _EXACT_UP_TO:
        return _drawn(votes, correct, k, abstained, seed)
    return _exact(votes, correct, k, abstained)


def _exact(votes: Sequence[int], correct: Sequence[bool], k: int, abstained: int) -> float:
    n = sum(votes) + abstained
    total = _ways(n, k / n, k)[k]
    below = [_ways(count, k / n, k) for count in (*votes, abstained)]
    chance = 0.0
    for winner in range(1, min(max(votes), k) + 1):
        for index, right in enumerate(correct):
            if right and votes[index] >= winner:
                others = [*below[:index], *below[index + 1 : -1]]
                ways = _with_ties(others, winner, below[-1], k - winner)
                chance += below[index][winner] * float(ways @ (1 / np.arange(1, len(ways) + 1)))
    return min(1.0, chance / float(total))


def _ways(count: int, rate: float, k: int) -> Floats:
    """Weights of drawing 0..k of `count` samples: binomial probabilities, which unlike coefficients stay small.

    Conditioned on k in total, independent binomial counts follow the hypergeometric distribution, whatever the rate.
    """
    from scipy.stats import binom

    weights: Floats = np.asarray(binom.pmf(np.arange(k + 1), count, rate), dtype=np.float64)
    return weights


def _with_ties(others: Sequence[Floats], winner: int, abstained: Floats, drawn: int) -> Floats:
    """Weights of drawing `drawn` samples with no answer above `winner`, by the number of other answers tied with it."""
    ties = drawn // winner
    weights = np.zeros((ties + 1, drawn + 1))
    weights[0] = abstained[: drawn + 1]
    for other in others:
        lower, tying = other[:winner], float(other[winner]) if winner < len(other) else 0.0
        longer = np.zeros_like(weights)
        for taken in np.flatnonzero(lower[: drawn + 1]):
            longer[:, taken:] += lower[taken] * weights[:, : drawn + 1 - taken]
        if tying and ties:
            longer[1:, winner:] += tying * weights[:-1, : drawn + 1 - winner]
        weights = longer
    column: Floats = weights[:, drawn]
    return column


def _drawn(votes: Sequence[int], correct: Sequence[bool], k: int, abstained: int, seed: int) -> float:
    generator = np.random.default_rng(seed)
    right = np.array(correct, dtype=np.float64)
    total = 0.0
    for _ in range(_DRAWS // _DRAWS_AT_ONCE):
        drawn = generator.multivariate_hypergeometric([*votes, abstained], k, _DRAWS_AT_ONCE, method="marginals")
        total += float(winning_share(drawn[:, :-1], right).sum())
    return total / _DRAWS


def winning_share(votes: NDArray[np.int64], right: Floats) -> Floats:
    """Share of correct answers among those with the most votes, per draw; 0 if there are no votes.

    Args:
        votes: [draws, answers].
        right: [answers], 1 where the answer is correct.
    """
    most = votes.max(axis=1, keepdims=True)
    winners = (votes == most) & (most > 0)
    shares: Floats = (winners @ right) / np.maximum(winners.sum(axis=1), 1)
    return shares


def ks(n: int) -> list[int]:
    """Values of k to report: powers of two up to n, and n."""
    powers = [1 << exponent for exponent in range(n.bit_length()) if 1 << exponent <= n]
    return powers if not powers or powers[-1] == n else [*powers, n]


_SHORTEST, _LONGEST = 0.05, 1e6  # steps
_RESAMPLED = 400


def half_life(
    steps: Sequence[float], scores: Sequence[float], *, chance: float = 0.0, seed: int = 0
) -> Interval | None:
    """The half-life that makes the scores most likely, with its 95% interval from resampled questions.

    It is the number of steps after which a model is still right in half of its samples. If each step goes well with the
    same probability, independently of the others, a chain of n steps goes well with probability 2^(-n / h), where h is
    the half-life. A chain that went wrong is right by chance with probability g, so the accuracy is
    g + (1 - g) 2^(-n / h). Source: Ord 2025, "Is there a Half-Life for the Success Rates of AI Agents?"
    (arXiv 2505.05115).

    Args:
        steps: length of each question's chain, above 0.
        scores: mean over the samples of each question, from 0 to 1.
        chance: the score of guessing, below 1.
        seed: of the resampling.

    Returns:
        None if the scores say nothing: all are as by chance or below, or none is wrong.

    Raises:
        ValueError: no scores, or another number of steps.

    >>> life = half_life([8] * 50 + [16] * 50, [0.5] * 50 + [0.25] * 50)
    >>> round(life.estimate, 1)
    8.0
    """
    values, lengths = checked(scores), np.asarray(steps, dtype=np.float64)
    if len(values) != len(lengths):
        raise ValueError(f"{len(lengths)} lengths for {len(values)} scores; expected one for each")
    if values.mean() <= chance or values.min() == 1:
        return None
    estimate = _most_likely(lengths, values, chance)
    draw = np.random.default_rng(seed)
    again = [
        _most_likely(lengths[chosen], values[chosen], chance)
        for chosen in (draw.integers(len(values), size=len(values)) for _ in range(_RESAMPLED))
    ]
    low, high = np.quantile(again, [0.025, 0.975])
    return Interval(estimate, float(low), float(high))


def _most_likely(steps: Floats, scores: Floats, chance: float) -> float:
    from scipy.optimize import minimize_scalar

    lengths, groups = np.unique(steps, return_inverse=True)
    right = np.bincount(groups, scores)
    wrong = np.bincount(groups) - right

    def unlikelihood(log_life: float) -> float:
        accuracy = chance + (1 - chance) * 2.0 ** (-lengths / math.exp(log_life))
        likely = np.clip(accuracy, 1e-12, 1 - 1e-12)
        return -float(right @ np.log(likely) + wrong @ np.log(1 - likely))

    found = minimize_scalar(unlikelihood, bounds=(math.log(_SHORTEST), math.log(_LONGEST)), method="bounded")
    return math.exp(float(found.x))
