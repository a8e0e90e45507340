"""How much of their bases smaller models keep by what others published: knowledge, short and long reasoning.

Kept on a benchmark is the ratio of the printed scores above chance, as on the leaderboard. Its interval takes each
question for one trial, since only totals are known: too wide for several samples a question and for the same questions
in both, never too narrow. Kept of a kind is the mean over a model's benchmarks, and what is said of many models is the
median over sources of their medians, so that each source weighs alike. Scores in doubt are left out of all this, and of
a recovery's checkpoints the last one counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist, mean, median
from typing import NamedTuple

from lm_eval_ext.analysis.board import KNOWLEDGE, LONG, SHORT, Board, Scored
from lm_eval_ext.runs.catalogue import Kind
from lm_eval_ext.runs.literature import Literature, PublishedRow, SmallerModel, SourceFile, What
from lm_eval_ext.statistics.intervals import Interval, interval_from_stderr
from lm_eval_ext.statistics.meta import RandomEffects, random_effects
from lm_eval_ext.statistics.paired import mean_of_intervals, unpaired

ENOUGH = 3  # sources from which on an interval over sources says something
KINDS: Sequence[Kind] = (KNOWLEDGE, SHORT, LONG)
_DONE: Mapping[What, str] = {
    "layers": "layers removed", "experts": "experts removed", "width": "narrower", "weights": "weights set to zero",
    "quantized": "quantized", "other": "factorized, or several ways",
}  # fmt: skip
_TRAINED = {"quantized": "quantized while training"}
_FEW_BITS = 4  # with fewer, the difference between benchmarks is not about benchmarks
_BITS = ((8, "8 bits"), (4, "4 to 6 bits"), (3, "3 to 4 bits"), (0, "below 3 bits"))  # from how many on
_REMOVED = ((0.4, "40% or more"), (0.2, "20 to 40%"), (0.1, "10 to 20%"), (0, "less than 10%"))
_TWO_SIDED = NormalDist().inv_cdf(0.975)


class Kept(NamedTuple):
    """A share of the base's score; its interval is None where a number of questions is not known."""

    share: float
    interval: Interval | None


def score_interval(score: float, questions: int) -> Interval:
    """A printed score, in percent, as a share with its 95% interval."""
    return interval_from_stderr(score / 100, None, questions)


def kept_on(row: PublishedRow) -> Kept | None:
    """What is kept on a benchmark; None if the base itself is not above chance."""
    chance = row.known.chance
    score, base = row.score.value / 100, row.base_score.value / 100
    if row.questions is None:
        return Kept(max(0.0, (score - chance) / (base - chance)), None) if base > chance else None
    both = score_interval(row.score.value, row.questions), score_interval(row.base_score.value, row.questions)
    ratio = unpaired(*both, chance=chance)[1]
    return ratio and Kept(ratio.estimate, ratio)


@dataclass(frozen=True, eq=False)
class PublishedModel:
    """A smaller model of a source, with its scores that are not in doubt."""

    key: str
    base: str
    model: SmallerModel
    rows: tuple[PublishedRow, ...]

    @property
    def source(self) -> SourceFile:
        """Where it was published."""
        return self.rows[0].source

    @property
    def second_hand(self) -> bool:
        """Whether its scores were read off a figure, or as others quote them."""
        return self.source.read != "text"

    @cached_property
    def kept(self) -> Mapping[Kind, Kept]:
        """What it keeps, by kind of benchmarks; kinds that nothing is known of are missing."""
        return _by_kind(self.rows)

    @cached_property
    def kept_where_counted(self) -> Mapping[Kind, Kept]:
        """The same on benchmarks whose number of questions is known, so that each has an interval."""
        return _by_kind([row for row in self.rows if row.questions])


def _by_benchmark(rows: Iterable[PublishedRow]) -> dict[tuple[Kind, str], Kept]:
    """What a model keeps on each benchmark, however often it was measured."""
    found: dict[tuple[Kind, str], list[Kept]] = defaultdict(list)
    for row in rows:
        if (one := kept_on(row)) is not None:
            found[row.known.kind, row.benchmark].append(one)
    return {name: _together(some) for name, some in found.items()}


def _by_kind(rows: Iterable[PublishedRow]) -> dict[Kind, Kept]:
    by_benchmark = _by_benchmark(rows)
    found: dict[Kind, Kept] = {}
    for kind in {kind for kind, _ in by_benchmark}:
        parts = [one for (of, _), one in by_benchmark.items() if of == kind]
        intervals = [one.interval for one in parts if one.interval]
        whole = mean_of_intervals(intervals) if len(intervals) == len(parts) else None
        found[kind] = Kept(mean(one.share for one in parts), whole)
    return found


def _together(measured: Sequence[Kept]) -> Kept:
    """One benchmark measured several times: the mean, with the widest interval, since the questions are the same."""
    widths = [one.interval.high - one.interval.low for one in measured if one.interval]
    share = mean(one.share for one in measured)
    if len(widths) < len(measured):
        return Kept(share, None)
    widest = measured[widths.index(max(widths))]
    assert widest.interval  # as many widths as measurements
    shift = share - widest.share
    return Kept(share, Interval(share, widest.interval.low + shift, widest.interval.high + shift))


def models(literature: Literature) -> list[PublishedModel]:
    """All smaller models, without scores in doubt; of the checkpoints of one recovery, the last."""
    grouped: dict[tuple[Hashable, ...], list[PublishedRow]] = defaultdict(list)
    for row in literature.rows:
        if not row.table.doubt:
            grouped[row.key, row.base, row.model.identity].append(row)
    every = [PublishedModel(some[0].key, some[0].base, some[0].model, tuple(some)) for some in grouped.values()]
    last: dict[tuple[Hashable, ...], int] = {}
    for one in every:
        last[_recovery(one)] = max(last.get(_recovery(one), 0), one.model.recovery_tokens or 0)
    return [one for one in every if (one.model.recovery_tokens or 0) == last[_recovery(one)]]


def _recovery(one: PublishedModel) -> tuple[Hashable, ...]:
    """What the checkpoints of one recovery have in common; any other model is alone."""
    return one.key, one.base, one.model.kind, one.model.amount, one.model.recovery or one.model.identity


class Median(NamedTuple):
    """The median over sources of the medians of their models.

    Attributes:
        share: the median.
        low, high: the least and the largest of the sources' medians.
        models, sources: how many there are.
    """

    share: float
    low: float
    high: float
    models: int
    sources: int

    @property
    def interval(self) -> Interval:
        """The range over sources, which is no confidence interval."""
        return Interval(self.share, self.low, self.high)


def median_over_sources(values: Iterable[tuple[str, float]]) -> Median | None:
    """The median of medians; None without values.

    Args:
        values: of each model, its source and the value.

    >>> median_over_sources([("a", 0.2), ("a", 0.4), ("a", 0.9), ("b", 0.8)])
    Median(share=0.6000000000000001, low=0.4, high=0.8, models=4, sources=2)
    """
    by_source: dict[str, list[float]] = defaultdict(list)
    for source, value in values:
        by_source[source].append(value)
    medians = [median(some) for some in by_source.values()]
    if not medians:
        return None
    return Median(median(medians), min(medians), max(medians), sum(map(len, by_source.values())), len(medians))


@dataclass(frozen=True, eq=False)
class Group:
    """Models that something was done to, and what they keep.

    Attributes:
        title: what was done, or how much.
        kept: medians by kind.
        members: the models.
    """

    title: str
    kept: Mapping[Kind, Median]
    members: Sequence[PublishedModel]

    @property
    def second_hand(self) -> bool:
        """Whether no member's scores were read in the source's own text."""
        return all(one.second_hand for one in self.members)

    @property
    def read_off(self) -> bool:
        """Whether all members' scores were read off a figure."""
        return all(one.source.read == "figure" for one in self.members)

    @cached_property
    def long_is_lower(self) -> int:
        """Of how many members, among those that have both, long reasoning is kept less than knowledge."""
        return sum(one.kept[LONG].share < one.kept[KNOWLEDGE].share for one in self.members if _has_both(one))

    @cached_property
    def both(self) -> int:
        """How many members have both knowledge and long reasoning."""
        return sum(map(_has_both, self.members))


def _has_both(one: PublishedModel) -> bool:
    return KNOWLEDGE in one.kept and LONG in one.kept


def group(title: str, members: Sequence[PublishedModel]) -> Group:
    """Medians of some models, each over those that have a value."""
    found = {
        kind: median_over_sources((one.key, one.kept[kind].share) for one in members if kind in one.kept)
        for kind in KINDS
    }
    return Group(title, {kind: one for kind, one in found.items() if one}, members)


def done(model: SmallerModel) -> str:
    """What was done to a model, as a title."""
    if not model.recovered:
        return _DONE[model.kind]
    return _TRAINED.get(model.kind) or f"{_DONE[model.kind]}, then trained"


_ORDER = [title for what, said in _DONE.items() for title in (said, _TRAINED.get(what) or f"{said}, then trained")]


def by_what_was_done(every: Sequence[PublishedModel]) -> list[Group]:
    """Of models that have both knowledge and long reasoning, so that the two are of the same models."""
    return _grouped([one for one in every if _has_both(one)], lambda one: done(one.model), _ORDER)


def by_bits(every: Sequence[PublishedModel]) -> list[Group]:
    """Of quantized models without further training, by bits of a weight."""
    some = [one for one in every if one.model.bits and not one.model.recovered]
    return _grouped(some, lambda one: _step(one.model.bits or 0, _BITS), [title for _, title in _BITS])


def by_share_removed(every: Sequence[PublishedModel]) -> list[tuple[str, list[Group]]]:
    """Of pruned models without further training, by what was removed, and by the share of it."""
    found = []
    for what, title in _DONE.items():
        some = [one for one in every if one.model.kind == what and one.model.removed and not one.model.recovered]
        steps = _grouped(
            some, lambda one: _step(one.model.removed or 0, _REMOVED), [name for _, name in _REMOVED][::-1]
        )
        found += [(title, steps)] if steps else []
    return found


def _step(value: float, steps: Sequence[tuple[float, str]]) -> str:
    return next(title for least, title in steps if value >= least)


def _grouped(
    some: Sequence[PublishedModel], title: Callable[[PublishedModel], str], order: Sequence[str]
) -> list[Group]:
    members: dict[str, list[PublishedModel]] = {name: [] for name in order}
    for one in some:
        members[title(one)].append(one)
    return [group(name, found) for name, found in members.items() if found]


class OnBenchmark(NamedTuple):
    """What models keep on a benchmark."""

    benchmark: str
    kind: Kind
    kept: Median


def by_benchmark(every: Sequence[PublishedModel]) -> list[OnBenchmark]:
    """What models of 4 bits or more keep without further training, by benchmark, the least first."""
    values: dict[tuple[str, Kind], list[tuple[str, float]]] = defaultdict(list)
    for one in every:
        if (one.model.bits or 0) >= _FEW_BITS and not one.model.recovered:
            for (kind, benchmark), share in _by_benchmark(one.rows).items():
                values[benchmark, kind].append((one.key, share.share))
    medians = ((name, median_over_sources(some)) for name, some in values.items())
    return sorted((OnBenchmark(*name, kept) for name, kept in medians if kept), key=lambda one: one.kept.share)


class Recovery(NamedTuple):
    """A model whose scores are published at several lengths of its recovery.

    Attributes:
        key: file name of the source.
        base, amount: of which base, and how much smaller.
        scores: by benchmark, tokens of training and the row; 0 tokens before it.
    """

    key: str
    base: str
    amount: str
    scores: Mapping[str, Sequence[tuple[int, PublishedRow]]]


def recoveries(literature: Literature) -> list[Recovery]:
    """Recoveries with two or more lengths, from the model before it, where only one can be that."""
    rows = [row for row in literature.rows if not row.table.doubt]
    found = []
    for key, base, kind, amount, recovery in dict.fromkeys(map(_series, rows)):
        if recovery is None:
            continue
        own = [row for row in rows if _series(row) == (key, base, kind, amount, recovery)]
        before = [row for row in rows if _series(row) == (key, base, kind, amount, None) and not row.model.recovered]
        before = before if len({row.model.identity for row in before}) == 1 else []
        scores: dict[str, dict[int, PublishedRow]] = {}
        for row in (*before, *own):
            scores.setdefault(row.benchmark, {})[row.model.recovery_tokens or 0] = row
        if max(len(some.keys() - {0}) for some in scores.values()) > 1:
            found.append(Recovery(key, base, amount, {name: sorted(some.items()) for name, some in scores.items()}))
    return found


def _series(row: PublishedRow) -> tuple[str, str, What, str, str | None]:
    return row.key, row.base, row.model.kind, row.model.amount, row.model.recovery


class SourceEffect(NamedTuple):
    """How much less a source's models keep of long reasoning than of knowledge.

    Attributes:
        key: file name of the source.
        effect: mean difference of the shares; below 0 if long reasoning suffers more.
        error: its standard error, as if all models' errors were one: they share questions and bases.
        models: how many there are.
    """

    key: str
    effect: float
    error: float
    models: int

    @property
    def interval(self) -> Interval:
        """The effect with its 95% interval."""
        half = _TWO_SIDED * self.error
        return Interval(self.effect, self.effect - half, self.effect + half)


class Effect(NamedTuple):
    """Long reasoning against knowledge, over the sources of what was done.

    Attributes:
        title: what was done.
        sources: their effects, of most models first.
        overall: by random effects over sources; None if there are too few to tell how much they differ.
        without_largest: the same without the source of most models.
    """

    title: str
    sources: Sequence[SourceEffect]
    overall: RandomEffects | None
    without_largest: RandomEffects | None


def effects(every: Sequence[PublishedModel]) -> list[Effect]:
    """Long against knowledge by what was done, on benchmarks whose number of questions is known."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {title: defaultdict(list) for title in _ORDER}
    for one in every:
        kept = one.kept_where_counted
        knowledge, long = (kept[kind].interval if kind in kept else None for kind in (KNOWLEDGE, LONG))
        if knowledge and long:
            difference = unpaired(long, knowledge)[0]
            error = (difference.high - difference.low) / 2 / _TWO_SIDED
            found[done(one.model)][one.key].append((difference.estimate, error))
    return [_effect(title, by_source) for title, by_source in found.items() if by_source]


def _effect(title: str, by_source: Mapping[str, Sequence[tuple[float, float]]]) -> Effect:
    sources = [
        SourceEffect(key, mean(effect for effect, _ in some), mean(error for _, error in some), len(some))
        for key, some in by_source.items()
    ]
    sources.sort(key=lambda one: (-one.models, one.key))
    return Effect(title, sources, _overall(sources), _overall(sources[1:]))


def _overall(sources: Sequence[SourceEffect]) -> RandomEffects | None:
    if len(sources) < ENOUGH:
        return None
    return random_effects([one.effect for one in sources], [one.error for one in sources])


class Repeated(NamedTuple):
    """A score beside the one of the source that it repeats."""

    row: PublishedRow
    original: PublishedRow


def repetitions(literature: Literature) -> list[Repeated]:
    """Scores of sources that repeat another one, beside the same base, method, amount and benchmark there."""

    def place(row: PublishedRow, key: str) -> tuple[object, ...]:
        one = row.model
        return key, row.base, one.kind, one.method, one.amount, one.recovered, one.recovery_tokens, row.benchmark

    counted = [row for row in literature.rows if not row.table.doubt]
    return [
        Repeated(row, original)
        for row in counted if row.source.reproduces
        for original in counted if place(original, original.key) == place(row, row.source.reproduces)
    ]  # fmt: skip


class Beside(NamedTuple):
    """A base measured here, beside a score of it that was published.

    Attributes:
        ours: our result.
        benchmark: the benchmark's name in our registry.
        row: a row with the published score of the base.
    """

    ours: Scored
    benchmark: str
    row: PublishedRow


def beside_runs(board: Board, literature: Literature) -> list[Beside]:
    """The bases of a board beside what is published of them, each score of a source once."""
    found = []
    for entry in board.entries:
        for benchmark in board.benchmarks if entry.dense and not entry.latest.tool else ():
            ours = entry.best(benchmark)
            rows = {
                (row.key, row.base_score, row.protocol): row for row in base_rows(literature, entry.base, benchmark)
            }
            found += [Beside(ours, benchmark, row) for row in rows.values() if ours]
    return found


def base_rows(literature: Literature, base: str, task: str) -> list[PublishedRow]:
    """Rows with a published score of a base on the benchmark of a task of ours."""
    return [
        row
        for row in literature.rows
        if row.known.task == task and row.base.lower() == base.lower() and not row.table.doubt
    ]
