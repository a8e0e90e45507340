"""All models of a leaderboard, side by side and ranked.

How much of its base a smaller model keeps: of knowledge, of short reasoning, of long reasoning, and of them all.

Kept on a benchmark is the ratio of the accuracies above chance. Kept of a kind of benchmarks is the mean of these
ratios over the kind's benchmarks that both models have whole, its interval by square-and-add. A benchmark on which the
base itself is not above chance says nothing, and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from statistics import median, quantiles
from typing import NamedTuple

from lm_eval_ext.analysis.comparison import Rank, kept, ranks
from lm_eval_ext.analysis.entries import UNLIMITED, Entry, Scored, entries, protocol, side_by_side
from lm_eval_ext.runs.catalogue import Catalogue, Kind
from lm_eval_ext.runs.run import Run, TaskResult
from lm_eval_ext.statistics.intervals import Interval
from lm_eval_ext.statistics.paired import mean_of_intervals


def _run_alike(entry: Entry) -> tuple[str, str, str, str]:
    return entry.base, entry.latest.base_revision, entry.latest.control, entry.latest.asked


class Board:
    """All entries of a site, their benchmarks in order, and each entry's dense base."""

    def __init__(self, runs: Sequence[Run], catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.runs = list(runs)
        self.entries = entries(runs)
        self.entry_of = {run.id: entry for entry in self.entries for run in entry.runs}
        self._dense = {_run_alike(entry): entry for entry in self.entries if entry.whole}

    @cached_property
    def benchmarks(self) -> list[str]:
        """Every benchmark with a run, in the catalogue's order."""
        found = {task.benchmark for run in self.runs for task in run.tasks.values()}
        return sorted(found, key=self.catalogue.order)

    @cached_property
    def bases(self) -> dict[str, list[Entry]]:
        """Entries by base."""
        grouped: dict[str, list[Entry]] = {}
        for entry in self.entries:
            grouped.setdefault(entry.base, []).append(entry)
        return grouped

    def dense(self, entry: Entry) -> Entry | None:
        """The entry of its base, at the same revision and run in the same way."""
        return self._dense.get(_run_alike(entry))

    def beside_dense(self, entry: Entry, benchmark: str) -> tuple[Scored, Scored] | None:
        """An entry's result and its dense model's, at the largest budget that both have complete."""
        dense = self.dense(entry)
        return side_by_side(entry, dense, benchmark) if dense and dense is not entry else None

    def outdated(self, task: TaskResult) -> bool:
        """Whether other results of its benchmark were graded by a newer version, and so are not comparable."""
        return (task.graded_by or 0) < self._graders[task.benchmark]

    @cached_property
    def _graders(self) -> dict[str, int]:
        """The newest grader version, by benchmark."""
        found: dict[str, int] = {}
        for task in (task for run in self.runs for task in run.tasks.values()):
            found[task.benchmark] = max(found.get(task.benchmark, 0), task.graded_by or 0)
        return found

    def title(self, benchmark: str) -> str:
        """A benchmark's title."""
        return self.catalogue.benchmark(benchmark).title

    @cached_property
    def ranked_by(self) -> str | None:
        """The benchmark used for ranking: the first declared one that at least two entries have complete."""
        return next((name for name in self.catalogue.rank_by if len(self._whole(name)) > 1), None)

    @cached_property
    def shown_by(self) -> str:
        """The benchmark whose accuracy is shown of each model: that of the ranks, or else the one most models have."""
        counts = {name: sum(name in entry.results for entry in self.entries) for name in self.benchmarks}
        return self.ranked_by or max(self.benchmarks, key=lambda name: counts[name])

    @cached_property
    def ranked(self) -> dict[str, TaskResult]:
        """The result each entry is ranked by: all at the same budget and with the same protocol."""
        return self._whole(self.ranked_by) if self.ranked_by else {}

    @cached_property
    def ranks(self) -> dict[str, Rank]:
        """The rank of each entry."""
        return ranks(self.ranked) if self.ranked else {}

    @property
    def ranked_at(self) -> str:
        """The benchmark and budget used for ranking, for use in a sentence."""
        budget = next((task.budget for task in self.ranked.values()), None)
        at = f" at {budget:,} thinking tokens" if budget else ""
        return f"{self.title(self.ranked_by)}{at}" if self.ranked_by else ""

    def _whole(self, benchmark: str) -> dict[str, TaskResult]:
        """Complete results by entry, at the `place` and `protocol` that most entries have."""
        found: dict[tuple[int, tuple[int, bool, tuple[str, ...]]], dict[str, TaskResult]] = {}
        for entry in self.entries:
            for at, one in entry.results.get(benchmark, {}).items():
                if at <= UNLIMITED and not one.task.partial:
                    found.setdefault((at, protocol(one)), {})[entry.key] = one.task
        return found[max(found, key=lambda place: (len(found[place]), place))] if found else {}


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


class KeptByKind(NamedTuple):
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


def kept_of(board: Board, entry: Entry) -> KeptByKind:
    """What an entry keeps of its base, by kind."""
    by_benchmark = ratios(board, entry)
    kinds = {name: board.catalogue.benchmark(name).kind for name in by_benchmark}

    def kind(wanted: Kind) -> KindKept | None:
        names = [name for name in by_benchmark if kinds[name] == wanted]
        return KindKept(mean_of_intervals([by_benchmark[name] for name in names]), names) if names else None

    return KeptByKind(entry, kind(KNOWLEDGE), kind(SHORT), kind(LONG))


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


def easy_kinds(all_kept: Sequence[KeptByKind]) -> str:
    """What the `easy` values of some models are of, in words."""
    found = {one.easy_kinds for one in all_kept if one.easy_kinds}
    return found.pop() if len(found) == 1 else "knowledge or short reasoning"


def headline(all_kept: Sequence[KeptByKind]) -> Headline | None:
    """The medians; None if fewer than three models have both values."""
    both = [(easy.estimate, one.long.interval.estimate) for one in all_kept if (easy := one.easy) and one.long]
    if len(both) < _ENOUGH:
        return None
    low, _, high = quantiles([long for _, long in both], n=4, method="inclusive")
    medians = median(easy for easy, _ in both), median(long for _, long in both)
    kinds = easy_kinds([one for one in all_kept if one.long])
    return Headline(*medians, low, high, len(both), len(all_kept), kinds)
