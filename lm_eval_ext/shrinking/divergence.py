"""How far a candidate would write something else than its base, at each token of the base's own correct traces.

Everything is a mean over tokens, with an interval over questions. Of a base's distribution, the likeliest tokens are
known one by one, and all others together; a divergence between such distributions is at most the whole one, and what
is left out is measured at some places.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lm_eval_ext.shrinking.distributions import AtTokens, Likeliest
from lm_eval_ext.shrinking.token_traces import TokenTrace
from lm_eval_ext.statistics.intervals import Interval, share_interval
from lm_eval_ext.statistics.resampling import difference_of_means, mean_over_parts

NUCLEUS = 0.95  # probability of the smallest set of tokens that a sample with this top-p is drawn from
Values = NDArray[np.float64]

# Name: what it says.
MEASURES: Mapping[str, str] = {
    "thinking": "bits of divergence a token, in the thinking",
    "answer": "bits of divergence a token, in the answer",
    "turns": "bits of divergence at words where thinking turns",
    "elsewhere": "bits of divergence in the rest of the thinking",
    "turns_excess": "how much more it is at those words than in the rest",
    "growth": "bits of divergence in the second half of a thinking, minus those in the first",
    "other_choice": "share of tokens at which another one is likeliest",
    "leaves_nucleus": f"share at which the likeliest one is outside of the base's {100 * NUCLEUS:g}%, at least",
    "turns_other_choice": "the same share at words where thinking turns",
    "turns_leaves_nucleus": "the same share there",
    "elsewhere_other_choice": "and in the rest of the thinking",
    "elsewhere_leaves_nucleus": "and in the rest of the thinking",
    "until_fork": "tokens that two samples have in common, at best",
    "perplexity_ratio": "perplexity of the traces, over the base's",
    "turns_perplexity_ratio": "the same at words where thinking turns",
    "elsewhere_perplexity_ratio": "and in the rest of the thinking",
}


class AtPlaces(NamedTuple):
    """A candidate beside its base along a trace; each of shape (places,).

    Attributes:
        kl: KL(base || candidate), in bits.
        other_choice: whether the base's likeliest token isn't the candidate's.
        leaves_nucleus: whether the candidate's likeliest token is outside of the base's nucleus; not where that is
            wider than what is known of it.
        excess: log-probability of the written token by the base, minus that by the candidate, in nats.
    """

    kl: Values
    other_choice: Values
    leaves_nucleus: Values
    excess: Values


def kl_bits(base: Values, candidate: Values) -> Values:
    """KL(base || candidate) in bits, over the last dimension.

    Args:
        base, candidate: log-probabilities; those of the candidate may be unlikely, but not impossible where the base's
            aren't.

    >>> round(float(kl_bits(np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]]))[0]), 4)
    0.2075
    """
    p = np.exp(base)
    with np.errstate(invalid="ignore"):
        terms = np.where(p > 0, p * (base - candidate), 0.0)
    found: Values = terms.sum(-1) / math.log(2)
    return found


def at_places(base: Likeliest, candidate: AtTokens) -> AtPlaces:
    """A candidate beside its base along a trace."""
    p, q = base.log_probs.astype(np.float64), candidate.log_probs.astype(np.float64)
    unknown = np.isnan(q)
    with np.errstate(divide="ignore"):
        others = np.logaddexp(base.rest.astype(np.float64), np.log(np.where(unknown, np.exp(p), 0.0).sum(-1)))
    p_known, q_known = (np.where(unknown, -np.inf, one) for one in (p, q))
    kl = kl_bits(np.column_stack([p_known, others]), np.column_stack([q_known, candidate.rest.astype(np.float64)]))
    to_here = np.cumsum(np.exp(p), -1)
    is_choice = base.ids == candidate.best[:, None]
    in_nucleus = (is_choice & (to_here - np.exp(p) < NUCLEUS)).any(-1)
    is_wider = ~is_choice.any(-1) & (to_here[:, -1] < NUCLEUS)  # than the tokens that are known one by one
    of_choice = np.where(unknown[:, 0], -np.inf, q[:, 0])
    return AtPlaces(
        np.maximum(kl, 0.0),
        (of_choice < candidate.most.astype(np.float64)).astype(np.float64),
        (~in_nucleus & ~is_wider).astype(np.float64),
        base.own.astype(np.float64) - candidate.own.astype(np.float64),
    )


class AtPosition(NamedTuple):
    """Divergence at some positions of the traces, counted from their first token as 1."""

    first: int
    last: int
    kl: Interval


@dataclass(frozen=True)
class Divergence:
    """How far a candidate would write something else than its base.

    Attributes:
        traces, questions, tokens: of the base, on which it was measured.
        kl: mean KL(base || candidate) of all tokens, in bits.
        measures: by the name in `MEASURES`; None where it can't be told, as without answers or with one question.
        positions: the mean KL by position.
        left_out: bits a token that the mean KL leaves out, as measured at some places; None if nothing is.
    """

    traces: int
    questions: int
    tokens: int
    kl: Interval | None
    measures: Mapping[str, Interval | None]
    positions: tuple[AtPosition, ...]
    left_out: Interval | None = None


def divergence_of(
    traces: Sequence[TokenTrace], found: Sequence[AtPlaces], left_out: Sequence[Sequence[float]] = ()
) -> Divergence:
    """The means over all traces, with intervals over questions.

    Args:
        traces: of the base.
        found: the candidate beside its base, along each of them.
        left_out: bits that the divergence leaves out, at some places of each.
    """
    sums = _Sums(traces)
    thinking = [trace.thinking for trace in traces]
    turns = [trace.turns for trace in traces]
    elsewhere = [trace.thinking & ~trace.turns for trace in traces]
    halves = list(zip(*(_halves(trace.thinking) for trace in traces), strict=True))
    kl = [one.kl for one in found]
    other, leaves = [one.other_choice for one in found], [one.leaves_nucleus for one in found]
    excess = [one.excess for one in found]
    measures = {
        "thinking": sums.mean(kl, thinking),
        "answer": sums.mean(kl, [~flags for flags in thinking]),
        "turns": sums.mean(kl, turns),
        "elsewhere": sums.mean(kl, elsewhere),
        "turns_excess": sums.difference(kl, turns, elsewhere),
        "growth": sums.difference(kl, halves[1], halves[0]),
        "other_choice": sums.share(other),
        "turns_other_choice": sums.share(other, turns),
        "elsewhere_other_choice": sums.share(other, elsewhere),
        "leaves_nucleus": sums.share(leaves),
        "turns_leaves_nucleus": sums.share(leaves, turns),
        "elsewhere_leaves_nucleus": sums.share(leaves, elsewhere),
        "until_fork": sums.of_traces([until_fork(one.excess) for one in found]),
        "perplexity_ratio": _exponential(sums.mean(excess, least=-math.inf)),
        "turns_perplexity_ratio": _exponential(sums.mean(excess, turns, -math.inf)),
        "elsewhere_perplexity_ratio": _exponential(sums.mean(excess, elsewhere, -math.inf)),
    }
    error = sums.mean([np.array(one, dtype=np.float64) for one in left_out]) if any(left_out) else None
    return Divergence(
        len(traces), len(sums.questions), sum(trace.places for trace in traces), sums.mean(kl), measures,
        tuple(_by_position(sums, kl)), error,
    )  # fmt: skip


def _exponential(of: Interval | None) -> Interval | None:
    return Interval(*map(math.exp, of)) if of else None


def until_fork(excess: Values) -> float:
    """Number of tokens that two samples have in common, at most as many as the trace has; its mean is the expected one.

    Both samples use the same random numbers as well as possible (a maximal coupling at each token), so the candidate
    writes a token that the base has sampled with a probability of min(1, q/p), and the first n with their product. That
    the traces are correct ones, and not all, is left aside.

    Args:
        excess: log-probability of each token of a trace by the base, minus that by the candidate, in nats.

    >>> round(until_fork(np.log([2, 2])), 6)
    0.75
    """
    return float(np.exp(-np.cumsum(np.maximum(excess, 0.0))).sum())


def _halves(flags: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The first and the second half of the places that have a flag."""
    counted = np.cumsum(flags)
    first = flags & (counted <= counted[-1] // 2)
    return first, flags & ~first


def _by_position(sums: _Sums, kl: Sequence[Values]) -> Iterator[AtPosition]:
    """By positions that double: 1, 2, 3 to 4, 5 to 8, ..."""
    longest, first, last = max(map(len, kl)), 1, 1
    while first <= longest:
        flags = [(np.arange(1, len(one) + 1) >= first) & (np.arange(1, len(one) + 1) <= last) for one in kl]
        mean = sums.mean(kl, flags)
        if mean is not None:
            yield AtPosition(first, min(last, longest), mean)
        first, last = last + 1, last * 2


class _Sums:
    """Sums over the tokens of each question."""

    def __init__(self, traces: Sequence[TokenTrace]) -> None:
        self.questions = {question: number for number, question in enumerate({one.question: 0 for one in traces})}
        self._of_trace = np.array([self.questions[trace.question] for trace in traces])

    def mean(
        self, values: Sequence[Values], flags: Sequence[NDArray[np.bool_]] | None = None, least: float = 0.0
    ) -> Interval | None:
        """The mean over tokens, or those with a flag, of values that are never below the least."""
        return mean_over_parts(*self._sums(values, flags), least=least)

    def share(self, values: Sequence[Values], flags: Sequence[NDArray[np.bool_]] | None = None) -> Interval | None:
        """The share of tokens whose value is 1; unlike a bootstrap, its interval doesn't end at 0 where none is."""
        sums, counts = self._sums(values, flags)
        most = max(counts)
        known = [(one / most, count / most) for one, count in zip(sums, counts, strict=True) if count]
        return share_interval(*map(list, zip(*known, strict=True))) if len(known) > 1 else None

    def difference(
        self, values: Sequence[Values], one: Sequence[NDArray[np.bool_]], other: Sequence[NDArray[np.bool_]]
    ) -> Interval | None:
        """The mean over tokens with one flag, minus that with another."""
        return difference_of_means(self._sums(values, one), self._sums(values, other))

    def of_traces(self, values: Sequence[float]) -> Interval | None:
        """The mean over traces."""
        return self.mean([np.array([one]) for one in values])

    def _sums(
        self, values: Sequence[Values], flags: Sequence[NDArray[np.bool_]] | None
    ) -> tuple[Sequence[float], Sequence[float]]:
        flags = flags or [np.ones(len(one), dtype=np.bool_) for one in values]
        sums, counts = np.zeros(len(self.questions)), np.zeros(len(self.questions))
        np.add.at(sums, self._of_trace, [float(one[flag].sum()) for one, flag in zip(values, flags, strict=True)])
        np.add.at(counts, self._of_trace, [int(flag.sum()) for flag in flags])
        return sums.tolist(), counts.tolist()
