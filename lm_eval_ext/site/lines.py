"""Charts of one base and its smaller models: accuracy by thinking budget, by samples, and by layers off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from lm_eval_ext.analysis.board import Board, Entry, KeptByKind, Scored
from lm_eval_ext.analysis.parts import Part, is_numeric, parts_of, place_of
from lm_eval_ext.runs.run import TaskResult
from lm_eval_ext.site.figures import BASE, Line, Mark, Panel, Point, budget_ticks, marks_of
from lm_eval_ext.site.rendering import Names, percent, sized, tone
from lm_eval_ext.statistics.intervals import Interval, interval_from_stderr
from lm_eval_ext.wording import limit

MANY = 12  # models from which on only some are shown at first
MOST = 120  # models drawn of one base; the others are in the tables

_TONES = {"layers": "two", "experts": "one", "weights": "bits"}  # colours of what a model lost

PaperCurves = Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]  # by benchmark and model


class Chart(NamedTuple):
    """A panel with the same numbers as a table; rows without an entry are of the paper's models."""

    benchmark: str
    panel: Panel
    header: Sequence[str]
    rows: Sequence[tuple[str, Entry | None, Sequence[Interval | str | None]]]


@dataclass(frozen=True)
class Family:
    """A base and its smaller models, as the charts show them.

    Attributes:
        board: all models.
        base: the base's name.
        names: of all models, by key of the entry.
        kept: what each model keeps, by key of the entry.
    """

    board: Board
    base: str
    names: Names
    kept: Mapping[str, KeptByKind]
    paper: PaperCurves = field(default_factory=dict)

    @cached_property
    def entries(self) -> Sequence[Entry]:
        """The base first, then by layers off; at most `MOST`."""
        return self.board.bases[self.base][:MOST]

    @property
    def called(self) -> str:
        """The base's name on the pages."""
        return self.names.base(self.base)

    @property
    def usual_base(self) -> Entry | None:
        """The base model itself, run as usual; the one of most models if several revisions were run."""
        bases = [entry for entry in self.board.bases[self.base] if entry.dense]
        return max(bases, key=lambda base: sum(self.board.dense(one) is base for one in self.smaller), default=None)

    @cached_property
    def smaller(self) -> Sequence[Entry]:
        """Its smaller models, run as usual."""
        return [entry for entry in self.board.bases[self.base] if entry.smaller]

    @property
    def left_out(self) -> int:
        """Number of models that are not drawn."""
        return len(self.board.bases[self.base]) - len(self.entries)

    @cached_property
    def marks(self) -> Mapping[str, Mark]:
        """By method."""
        return marks_of(method_of(entry, self.names) for entry in self.board.bases[self.base])

    @property
    def pruned_marks(self) -> Mapping[str, Mark]:
        """Of the methods that took layers off."""
        methods = {method_of(entry, self.names) for entry in self.smaller if entry.latest.dropped}
        return {method: mark for method, mark in self.marks.items() if method in methods}

    @property
    def lossy_marks(self) -> Mapping[str, Mark]:
        """Of the methods that took any parameters."""
        methods = {method_of(entry, self.names) for entry in self.smaller if share_gone(entry)}
        return {method: mark for method, mark in self.marks.items() if method in methods}

    @cached_property
    def shown(self) -> frozenset[str]:
        """Keys of the models shown at first: all, or of many the base and the best and worst at each depth."""
        if len(self.entries) < MANY:
            return frozenset(entry.key for entry in self.entries)
        by_depth: dict[int, list[Entry]] = {}
        for entry in self.entries:
            by_depth.setdefault(len(entry.latest.dropped), []).append(entry)
        found = {entry.key for entry in self.entries if entry.dense}
        for some in by_depth.values():
            ordered = sorted((one for one in some if not one.dense), key=lambda one: self.kept[one.key].standing)
            found |= {one.key for one in (*ordered[:1], *ordered[-1:])}
        return frozenset(found)

    def mark(self, entry: Entry) -> Mark:
        """Dashes and marks of a model's lines."""
        return BASE if entry.dense else self.marks[method_of(entry, self.names)]

    def line(self, entry: Entry, points: Sequence[Point], more: str = "") -> Line:
        """A model's line."""
        name = f"{self.names[entry.key].short}{more}"
        return Line(entry.key, name, tone(entry.latest), self.mark(entry), points, entry.key in self.shown)

    def note(self, benchmark: str, task: TaskResult | None) -> str:
        """What is said under a chart's title."""
        kind = self.board.catalogue.kinds[self.board.catalogue.benchmark(benchmark).kind].lower()
        return kind if task is None else f"{kind}; {sized(task)}"


def method_of(entry: Entry, names: Names) -> str:
    """How a model was made, for the choice of dashes; empty for a base."""
    return "" if entry.dense else names[entry.key].method or names[entry.key].done


def budget_charts(family: Family) -> Iterator[Chart]:
    """Accuracy by thinking budget."""
    for name in family.board.benchmarks:
        found = {entry: pairs for entry in family.entries if len(pairs := _budgets(family.board, entry, name)) > 1}
        if found:
            budgets = sorted({budget for pairs in found.values() for budget, _ in pairs})
            lines = [
                family.line(entry, [_point(at, f"{at:,} tokens", one) for at, one in pairs], _of(pairs[0][1].task))
                for entry, pairs in found.items()
            ]
            table = [
                (
                    f"{family.names[entry.key]}{_of(pairs[0][1].task)}",
                    entry,
                    [one.interval if (one := dict(pairs).get(budget)) else None for budget in budgets],
                )
                for entry, pairs in found.items()
            ]
            task = next(iter(found.values()))[-1][1].task
            panel = Panel(
                family.board.title(name), family.note(name, task), "thinking tokens allowed",
                [*lines, *_paper_lines(family, name, budgets)], budget_ticks(budgets), chance=_chance(task),
            )  # fmt: skip
            yield Chart(name, panel, [f"{budget:,}" for budget in budgets], table)


def whole_budgets(board: Board, entry: Entry, name: str) -> list[tuple[int, Scored]]:
    """Complete results by thinking budget, ascending, by the newest grader."""
    return [(at, one) for at, one in _budgets(board, entry, name) if not one.task.partial]


def _chance(task: TaskResult) -> float | None:
    return task.guessing or None


def _budgets(board: Board, entry: Entry, name: str) -> list[tuple[int, Scored]]:
    return [(at, one) for at, one in entry.budgets(name) if not board.outdated(one.task)]


def _of(task: TaskResult) -> str:
    return ", partial" if task.partial else ""


def _point(at: float, where: str, one: Scored) -> Point:
    return _interval_point(at, where, one.interval, sized(one.task))


def _interval_point(at: float, where: str, found: Interval, size: str) -> Point:
    return Point(at, *found, tip=f"{reached(where, found)}; {size}")


def reached(where: str, found: Interval) -> str:
    """What was reached at a place, with its interval, in the words of a tip."""
    return f"{where}: {percent(found.estimate)}% (95%: {percent(found.low)} to {percent(found.high)})"


def _paper_lines(family: Family, benchmark: str, budgets: Sequence[int]) -> Iterator[Line]:
    for model, values in family.paper.get(benchmark, {}).items():
        points = [Point(at, value) for at, value in values if budgets[0] <= at <= budgets[-1]]
        if len(points) > 1:
            yield Line(f"paper {model}", f"paper, {model}", "quiet", BASE, points, reference=True)


def vote_charts(family: Family) -> Iterator[Chart]:
    """pass@k and maj@k by number of samples; the two measures have panels of their own."""
    for name in family.board.benchmarks:
        found = {entry: one for entry in family.entries if (one := _votes(family.board, entry, name))}
        for measure in ("pass@k", "maj@k") if found else ():
            yield _vote_chart(family, name, measure, found)


def _votes(board: Board, entry: Entry, name: str) -> TaskResult | None:
    one = entry.votes(name)
    return None if one is None or board.outdated(one.task) else one.task


def _vote_chart(family: Family, benchmark: str, measure: str, found: Mapping[Entry, TaskResult]) -> Chart:
    sizes = sorted({k for task in found.values() for k in _ks(task)})
    values = {
        entry: {k: interval for k in _ks(task) if (interval := _interval(task, _measured(measure, k)))}
        for entry, task in found.items()
    }
    lines = [
        family.line(entry, [_interval_point(k, f"k = {k}", at[k], sized(found[entry])) for k in at], _of(found[entry]))
        for entry, at in values.items()
        if at
    ]
    title = f"{family.board.title(benchmark)}, {measure}"
    task = next(iter(found.values()))
    meaning = {"pass@k": "at least one of k samples is right", "maj@k": "the most frequent answer of k is right"}
    note = f"{meaning[measure]}; {sized(task)}"
    panel = Panel(title, note, "samples k", lines, [(k, str(k)) for k in sizes])
    rows = [
        (f"{family.names[entry.key]}{_of(found[entry])}", entry, [at.get(k) for k in sizes])
        for entry, at in values.items()
    ]
    return Chart(benchmark, panel, [f"k = {k}" for k in sizes], rows)


def _ks(task: TaskResult) -> list[int]:
    return sorted({1} | {int(name[5:]) for name in task.metrics if name.startswith("pass@") and name[5:].isdecimal()})


def _measured(measure: str, k: int) -> str:
    return measure.replace("k", str(k)) if k > 1 else "acc"


def _interval(task: TaskResult, metric: str) -> Interval | None:
    score = task.metrics.get(metric)
    return interval_from_stderr(score.value, score.stderr, task.questions) if score else None


def depth_charts(family: Family) -> Iterator[Chart]:
    """Accuracy by number of layers off: a line per method from the base, at the budget that most models share with it.

    Several models with the same method and number, such as manual picks, are separate points.
    """
    for name in family.board.benchmarks:
        whole, found = _beside_base(family, name, lambda entry: bool(entry.latest.dropped))
        if whole is not None:
            yield _depth_chart(family, name, whole, found)


def _beside_base(
    family: Family, benchmark: str, wanted: Callable[[Entry], bool]
) -> tuple[Scored | None, list[tuple[Entry, Scored]]]:
    """The base's result that most of the wanted models are compared with, and theirs; None if there are none."""
    board = family.board
    pairs = [(entry, pair) for entry in family.entries if (pair := board.beside_dense(entry, benchmark))]
    pruned = [
        (entry, ours, theirs)
        for entry, (ours, theirs) in pairs
        if wanted(entry) and entry.smaller and not board.outdated(ours.task)
    ]
    if not pruned:
        return None, []
    whole = _most_common([theirs for _, _, theirs in pruned])
    return whole, [(entry, ours) for entry, ours, theirs in pruned if theirs.task is whole.task]


def share_charts(family: Family) -> Iterator[Chart]:
    """Accuracy by the share of the base's parameters that are gone or zero: layers, experts and weights side by side.

    Only for a base whose models lost parameters in more than one of these ways.
    """
    if len({way_of(entry) for entry in family.smaller if share_gone(entry)}) > 1:
        for name in family.board.benchmarks:
            whole, found = _beside_base(family, name, lambda entry: bool(share_gone(entry)))
            if whole is not None:
                yield _share_chart(family, name, whole, found)


def share_gone(entry: Entry) -> float:
    """The share of the base's parameters that a model lacks, or that are zero; 0 if it is not known."""
    pruning = entry.latest.pruning
    return (pruning.gone or 0.0) if pruning and not (pruning.recovered or pruning.quantization) else 0.0


def way_of(entry: Entry) -> str:
    """What a model lost: layers, blocks, experts, weights, or several of these."""
    pruning = entry.latest.pruning
    counts = {"attention": "blocks", "mlp": "blocks"}
    lost = dict.fromkeys(counts.get(kind, kind) for kind in (pruning.counts if pruning else ()))
    return " and ".join([*lost, *(["weights"] if pruning and pruning.zeros else [])])


def _share_chart(family: Family, benchmark: str, whole: Scored, found: Sequence[tuple[Entry, Scored]]) -> Chart:
    found = sorted(found, key=lambda pair: (way_of(pair[0]), share_gone(pair[0])))
    by_method: dict[tuple[str, str], list[tuple[Entry, Scored]]] = {}
    for entry, one in found:
        by_method.setdefault((way_of(entry), method_of(entry, family.names)), []).append((entry, one))
    lines = []
    for (way, method), some in by_method.items():
        points = [_point(0, "the base", whole)]
        points += [_point(share_gone(entry), f"{share_gone(entry):.0%} gone", one) for entry, one in some]
        lines.append(Line(method, f"{way}: {method}", _TONES.get(way, "plain"), family.marks[method], points))
    most = max(share_gone(entry) for entry, _ in found)
    panel = Panel(
        family.board.title(benchmark), family.note(benchmark, whole.task), "parameters gone, or zero", lines,
        [(tenth / 10, f"{tenth * 10}%") for tenth in range(int(most * 10) + 2)], log=False, chance=_chance(whole.task),
    )  # fmt: skip
    rows: list[tuple[str, Entry | None, Sequence[Interval | str | None]]] = [
        (str(family.names[entry.key]), entry, [f"{share_gone(entry):.1%}", one.interval]) for entry, one in found
    ]
    return Chart(benchmark, panel, ["gone", "accuracy"], rows)


def _layers_off(count: int) -> str:
    return "1 layer off" if count == 1 else f"{count} layers off"


def _most_common(results: Sequence[Scored]) -> Scored:
    """The base's result that most others are compared with."""
    ids = [id(one.task) for one in results]
    return max(results, key=lambda one: ids.count(id(one.task)))


def _depth_chart(family: Family, benchmark: str, whole: Scored, found: Sequence[tuple[Entry, Scored]]) -> Chart:
    counts = sorted({len(entry.latest.dropped) for entry, _ in found})
    by_method: dict[str, list[tuple[Entry, Scored]]] = {}
    for entry, one in found:
        by_method.setdefault(method_of(entry, family.names), []).append((entry, one))
    lines = []
    for method, some in by_method.items():
        points = [_point(0, "0 layers off", whole)]
        points += [_point(n := len(entry.latest.dropped), _layers_off(n), one) for entry, one in some]
        lines.append(Line(method, method, "plain", family.marks[method], points))
    budget = f" at {whole.task.budget:,} tokens" if whole.task.budget else ""
    panel = Panel(
        family.board.title(benchmark), family.note(benchmark, whole.task) + budget, "layers off", lines,
        [(count, str(count)) for count in (0, *counts)], log=False, chance=_chance(whole.task),
    )  # fmt: skip
    rows = [
        (
            str(family.names[entry.key]),
            entry,
            [whole.interval, *(one.interval if len(entry.latest.dropped) == n else None for n in counts)],
        )
        for entry, one in found
    ]
    return Chart(benchmark, panel, [str(count) for count in (0, *counts)], rows)


_WIDE = 8  # ratio of the largest to the smallest number from which an axis is logarithmic


def part_charts(family: Family) -> Iterator[Chart]:
    """Accuracy by the values of a column, at the largest budget that most models have; a line if they are numbers."""
    for name in family.board.benchmarks:
        best = {entry: one for entry in family.entries if (one := entry.best(name)) and one.task.parts}
        places = Counter(one.task.budget for one in best.values() if not one.task.partial)
        if places:
            budget = max(places, key=lambda at: (places[at], at or 0))
            found = {e: list(parts_of(one.task)) for e, one in best.items() if one.task.budget == budget}
            for column in dict.fromkeys(part.column for parts in found.values() for part in parts):
                yield _part_chart(family, name, column, budget, found)


def _part_chart(
    family: Family, benchmark: str, column: str, budget: int | None, found: Mapping[Entry, Sequence[Part]]
) -> Chart:
    by_value = {entry: {p.value: p for p in parts if p.column == column} for entry, parts in found.items()}
    values = sorted({value for some in by_value.values() for value in some}, key=place_of)
    numeric = is_numeric(values) and place_of(values[0])[1] > 0
    at = {value: place_of(value)[1] if numeric else float(place) for place, value in enumerate(values)}
    lines = [
        family.line(
            entry,
            [
                _interval_point(at[value], f"{column} {value}", part.accuracy, f"{part.questions} questions")
                for value in values
                if (part := some.get(value))
            ],
        )
        for entry, some in by_value.items()
    ]
    ticks = [(at[value], value.partition(" to ")[0]) for value in values]
    spread = numeric and at[values[-1]] / at[values[0]] >= _WIDE
    title = f"{family.board.title(benchmark)}, by {column}"
    note = limit(budget, "thinking tokens")
    panel = Panel(title, note, column, lines, ticks, log=spread, joined=numeric)
    rows = [(str(family.names[entry.key]), entry, [some[v].accuracy if v in some else None for v in values])
            for entry, some in by_value.items()]  # fmt: skip
    return Chart(benchmark, panel, values, rows)
