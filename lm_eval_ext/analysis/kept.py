"""How much of its base a smaller model keeps: of knowledge, of short reasoning, of long reasoning, and of them all.

Kept on a benchmark is the ratio of the accuracies above chance. Kept of a kind of benchmarks is the mean of these
ratios over the kind's benchmarks that both models have whole, its interval by square-and-add. A benchmark on which the
base itself is not above chance says nothing, and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median, quantiles
from typing import NamedTuple

from lm_eval_ext.analysis.board import Board
from lm_eval_ext.analysis.comparison import kept
from lm_eval_ext.analysis.entries import Entry
from lm_eval_ext.runs.catalogue import Kind
from lm_eval_ext.statistics.intervals import Interval
from lm_eval_ext.statistics.paired import mean_of_intervals

KNOWLEDGE: Kind = "knowledge"
SHORT: Kind = "shallow"
LONG: Kind = "long"
_ENOUGH = 3  # models in a median


class KindKept(NamedTuple):
    """What a model keeps of one kind of benchmarks."""

    interval: Interval
    benchmarks: Sequence[str]

    @property
    def less(self) -> bool:
        """Whether the whole interval is below 100%."""
        return self.interval.high < 1


class Kept(NamedTuple):
    """What a model keeps; None where no benchmark of the kind can tell."""

    entry: Entry
    knowledge: KindKept | None
    short: KindKept | None
    long: KindKept | None

    @property
    def easy(self) -> Interval | None:
        """Knowledge and short reasoning together: the mean of those that are known."""
        known = [one.interval for one in (self.knowledge, self.short) if one]
        return mean_of_intervals(known) if known else None

    @property
    def easy_kinds(self) -> str:
        """What `easy` is of: `knowledge`, `short reasoning`, or both; empty without a value."""
        parts = (("knowledge", self.knowledge), ("short reasoning", self.short))
        return " and ".join(name for name, one in parts if one)


def kept_of(board: Board, entry: Entry) -> Kept:
    """What an entry keeps of its base, by kind."""
    by_benchmark = ratios(board, entry)
    kinds = {name: board.catalogue.benchmark(name).kind for name in by_benchmark}

    def kind(wanted: Kind) -> KindKept | None:
        names = [name for name in by_benchmark if kinds[name] == wanted]
        return KindKept(mean_of_intervals([by_benchmark[name] for name in names]), names) if names else None

    return Kept(entry, kind(KNOWLEDGE), kind(SHORT), kind(LONG))


def ratios(board: Board, entry: Entry) -> Mapping[str, Interval]:
    """The share kept on each benchmark that can tell, at the largest budget that the model and its base have whole."""
    found = {}
    for name in board.benchmarks:
        pair = board.beside_dense(entry, name)
        share = kept(*(one.task for one in pair)) if pair else None
        if share is not None:
            found[name] = share
    return found


class Headline(NamedTuple):
    """The median over all smaller models with a value of each kind.

    Attributes:
        easy, long: medians of what is kept of knowledge and short reasoning, and of long reasoning.
        low, high: the quartiles of the latter.
        models, of: number of models in the median, and of all smaller models.
        kinds: what the easy values are of.
    """

    easy: float
    long: float
    low: float
    high: float
    models: int
    of: int
    kinds: str


def easy_kinds(all_kept: Sequence[Kept]) -> str:
    """What the `easy` values of some models are of, in words."""
    found = {one.easy_kinds for one in all_kept if one.easy_kinds}
    return found.pop() if len(found) == 1 else "knowledge or short reasoning"


def headline(all_kept: Sequence[Kept]) -> Headline | None:
    """The medians; None if fewer than three models have both values."""
    both = [(easy.estimate, one.long.interval.estimate) for one in all_kept if (easy := one.easy) and one.long]
    if len(both) < _ENOUGH:
        return None
    low, _, high = quantiles([long for _, long in both], n=4, method="inclusive")
    medians = median(easy for easy, _ in both), median(long for _, long in both)
    kinds = easy_kinds([one for one in all_kept if one.long])
    return Headline(*medians, low, high, len(both), len(all_kept), kinds)
