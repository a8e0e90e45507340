"""All models of a leaderboard, side by side and ranked.

How much of its base a smaller model keeps: of knowledge, of short reasoning, of long reasoning, and of them all.

Kept on a benchmark is the ratio of the accuracies above chance. Kept of a kind of benchmarks is the mean of these
ratios over the kind's benchmarks that both models have whole, its interval by square-and-add. A benchmark on which the
base itself is not above chance says nothing, and is left out.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median, quantiles
from typing import NamedTuple

from lm_eval_ext.analysis.comparison import Rank, kept, ranks
from lm_eval_ext.analysis.evaluated import pooled
from lm_eval_ext.analysis.matching import differing, ranked_with, required
from lm_eval_ext.runs.catalogue import Catalogue, Kind
from lm_eval_ext.runs.run import TIERS, Run, TaskResult, accuracy_interval
from lm_eval_ext.statistics.intervals import Interval
from lm_eval_ext.statistics.paired import mean_of_intervals
from lm_eval_ext.wording import limit


class Position(NamedTuple):
    """Position of a result within its benchmark; they sort by budget, then without a limit, then by votes.

    Attributes:
        votes: number of samples that vote; 0 if none do.
        limit: thinking budget; infinity if there is no limit.
    """

    votes: int
    limit: float

    @property
    def budget(self) -> int | None:
        """The thinking budget; None if there is no limit."""
        return None if self.limit == math.inf else int(self.limit)


class Scored(NamedTuple):
    """A task's result and the run it belongs to; the newest one, if seeds are put together."""

    task: TaskResult
    run: Run

    @property
    def weight(self) -> tuple[bool, int, int]:
        """Sort key for choosing among results of one model at one `place`."""
        return not self.task.partial, self.task.graded_by or 0, TIERS.index(self.run.tier)

    @property
    def name(self) -> str:
        """The task's name in its run."""
        here = self.task.benchmark, place(self.task)
        return next(name for name, task in self.run.tasks.items() if (task.benchmark, place(task)) == here)

    @property
    def interval(self) -> Interval:
        """Accuracy with its 95% interval."""
        return accuracy_interval(self.task)


UNLIMITED = Position(0, math.inf)


def place(task: TaskResult) -> Position:
    """Position of a result within its benchmark."""
    return Position(task.repeats, 0) if task.votes else Position(0, task.budget or math.inf)


@dataclass(frozen=True, eq=False)
class Entry:
    """A model, dense or pruned in one way, and its runs, oldest first."""

    base: str
    runs: tuple[Run, ...]
    label: str

    @property
    def latest(self) -> Run:
        """The newest run."""
        return self.runs[-1]

    @property
    def dense(self) -> bool:
        """Whether it is the base model."""
        return self.latest.dense

    @property
    def whole(self) -> bool:
        """Whether it is the base model, however it was run."""
        return self.latest.whole

    @property
    def smaller(self) -> bool:
        """Whether it is a smaller model, run as usual."""
        return not self.latest.whole and not self.latest.control

    @property
    def key(self) -> str:
        """Unique key among all entries."""
        return self.latest.id

    @cached_property
    def results(self) -> dict[str, dict[Position, Scored]]:
        """The preferred results by benchmark and `place`, with the samples of all seeds put together."""
        return {
            benchmark: {at: Scored(pooled(some), some[0].run) for at, some in by_place.items()}
            for benchmark, by_place in self._preferred.items()
        }

    @cached_property
    def single(self) -> dict[str, dict[Position, Scored]]:
        """The preferred result of one run by benchmark and `place`; the newest, if there are several seeds."""
        return {
            benchmark: {at: some[0] for at, some in by_place.items()} for benchmark, by_place in self._preferred.items()
        }

    @cached_property
    def _preferred(self) -> dict[str, dict[Position, list[Scored]]]:
        """Results by benchmark and `place`, newest first: complete before partial, then by grader and tier."""
        found: dict[str, dict[Position, list[Scored]]] = defaultdict(lambda: defaultdict(list))
        for run in reversed(self.runs):
            for task in run.tasks.values():
                found[task.benchmark][place(task)].append(Scored(task, run))
        return {
            benchmark: {
                at: [one for one in some if one.weight == max(one.weight for one in some)]
                for at, some in by_place.items()
            }
            for benchmark, by_place in found.items()
        }

    def best(self, benchmark: str) -> Scored | None:
        """The result to show: complete before partial, then by largest budget; unlimited only if there is no other."""
        by_budget = self.results.get(benchmark, {})

        def preference(at: Position) -> tuple[bool, bool, int, float]:
            return not by_budget[at].task.partial, at < UNLIMITED, -at.votes, at.limit

        return by_budget[max(by_budget, key=preference)] if by_budget else None

    def budgets(self, benchmark: str) -> list[tuple[int, Scored]]:
        """Results by thinking budget, ascending: the complete ones if there are at least two, else the partial ones."""
        here = self.results.get(benchmark, {})
        found = [(at.budget, here[at]) for at in sorted(here) if at.budget and not at.votes]
        whole = [(at, one) for at, one in found if not one.task.partial]
        return whole if len(whole) > 1 else [(at, one) for at, one in found if one.task.partial]

    def votes(self, benchmark: str) -> Scored | None:
        """The result with the most votes, complete before partial."""
        found = self.results.get(benchmark, {})
        most = max((at for at in found if at.votes), key=lambda at: (not found[at].task.partial, at), default=None)
        return None if most is None else found[most]


def entries(runs: Iterable[Run]) -> list[Entry]:
    """Entries sorted by base, dense first, then by number of dropped layers and method; labels are unique per base."""
    groups: dict[tuple[object, ...], list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: (run.date, run.id)):
        groups[_identity(run)].append(run)
    labels = Counter((some[-1].base, some[-1].label) for some in groups.values())
    made = [Entry(some[-1].base, tuple(some), _label(some[-1], labels)) for some in groups.values()]
    return sorted(made, key=lambda entry: (entry.base.lower(), not entry.dense, len(entry.latest.dropped), entry.label))


def _label(run: Run, labels: Counter[tuple[str, str]]) -> str:
    if run.tool:
        return f"{run.label}, by {run.tool}"
    if labels[run.base, run.label] == 1:
        return run.label
    inexact = "" if run.settings.get("token_exact", "True") == "True" else "budgets approximated"
    recipe = run.pruning.recipe_hash[:6] if run.pruning else ""
    parts = [" ".join(map(str, run.dropped)), run.revision, recipe, inexact]
    return f"{run.label} ({', '.join(part for part in parts if part)})"


def _identity(run: Run) -> tuple[object, ...]:
    """Identity of a run's model; `hf`, and `pruned-hf` with nothing dropped, are the same."""
    pruning = run.pruning
    changes = (*sorted(pruning.merged.items()), pruning.linear_map) if pruning else ("",)
    weights = run.fingerprint if "/" not in run.base else ""  # a folder's name doesn't identify a model
    recovered = pruning.recovered if pruning else ""
    left_out = pruning.left_out if pruning else ((), (), (), (), "")
    exact = run.settings.get("token_exact", "True")  # approximated budgets are another measurement
    return (run.base, run.base_revision, run.varied, *left_out, changes, recovered, weights, exact, run.tool)


def side_by_side(one: Entry, other: Entry, benchmark: str) -> tuple[Scored, Scored] | None:
    """Two entries' complete results without a limit, or at the largest budget that both have; None if they share none.

    This is the row by which `lm-eval-tts compare` decides; votes never do.
    """
    ours, theirs = one.results.get(benchmark, {}), other.results.get(benchmark, {})
    both = [at for at in ours if not at.votes and at in theirs and comparable(ours[at], theirs[at])]
    return (ours[max(both)], theirs[max(both)]) if both else None


def comparable(one: Scored, other: Scored) -> bool:
    """Whether both are on the whole benchmark and agree in all that a comparison needs, but for the questions."""
    if one.task.partial or other.task.partial:
        return False
    found = differing(required(one.task, one.run), required(other.task, other.run))
    return all(difference.what == "questions" for difference in found)


def protocol(one: Scored) -> tuple[int, bool, tuple[str, ...]]:
    """What must match to be ranked together, the grader's version first: the newest is preferred."""
    task = one.task
    templated = task.chat_template and not task.benchmark.startswith("tts_")
    return task.graded_by or 0, templated, ranked_with(task, one.run)


def _run_alike(entry: Entry) -> tuple[str, ...]:
    run = entry.latest
    return entry.base, run.base_revision, run.control, run.asked, run.tool


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
        at = f" at {limit(budget, 'thinking tokens')}" if budget else ""
        return f"{self.title(self.ranked_by)}{at}" if self.ranked_by else ""

    def _whole(self, benchmark: str) -> dict[str, TaskResult]:
        """Complete results by entry, at the `place` and `protocol` that most entries have."""
        found: dict[tuple[Position, tuple[int, bool, tuple[str, ...]]], dict[str, TaskResult]] = {}
        for entry in self.entries:
            for at, one in entry.results.get(benchmark, {}).items():
                if not at.votes and not one.task.partial:
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
    def standing(self) -> tuple[bool, float]:
        """Sort key: by what is kept of long reasoning, and first those of which that isn't known."""
        return self.long is not None, self.long.interval.estimate if self.long else 0.0

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
