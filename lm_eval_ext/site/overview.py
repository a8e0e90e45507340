"""Data of the first page: what is kept, as a sentence, as a picture and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from lm_eval_ext.analysis.answer_costs import cost_of
from lm_eval_ext.analysis.board import Board, Entry, KeptByKind, easy_kinds, headline, place
from lm_eval_ext.analysis.comparison import Rank
from lm_eval_ext.runs.run import TIERS, Run, TaskResult, accuracy_interval
from lm_eval_ext.site.cost_charts import COSTS, steps_of_frontier
from lm_eval_ext.site.lines import Chart, Family, share_gone, way_of, whole_budgets
from lm_eval_ext.site.rendering import MINUS, ModelName, Names, bits_of
from lm_eval_ext.site.traces import FoundByBudget
from lm_eval_ext.statistics.intervals import Interval


class TableRow(NamedTuple):
    """A model in the table.

    Attributes:
        entry, run, name, called: the model, its newest run, its name among those of its base, and among all.
        kept: what it keeps of its base.
        layers, bits, method, parameters: what it is; None where that is not known.
        rank: best and worst rank that the data allow; None if it is not ranked.
        task: its result on the benchmark that ranks; None if it has none.
        partial, outdated: whether that is on a part of the questions, or graded by an older version.
        tokens: mean tokens of an answer there.
        tier: the lowest of the runs behind its numbers.
        kind: of compression, for the filter.
    """

    entry: Entry
    run: Run
    name: ModelName
    called: str
    kept: KeptByKind
    layers: int | None
    bits: float | None
    method: str
    parameters: int | None
    rank: Rank | None
    task: TaskResult | None
    interval: Interval | None
    partial: bool
    outdated: bool
    tokens: float | None
    tier: str
    kind: str


class BaseRows(NamedTuple):
    """A base model and its others, the one that lost least first; `pictured` are the smaller ones in the picture."""

    name: str
    base: TableRow | None
    models: Sequence[TableRow]
    pictured: Sequence[TableRow]


class GroupMedian(NamedTuple):
    """Medians of what is kept, over the models to which the same was done."""

    title: str
    models: int
    easy: float
    long: float


_MOST_PICTURED, _MOST_OF_BASE = 120, 8
_DEPTHS = ("1 layer", "2 layers", "3 or more")
KINDS = {
    "layers": "layers off", "blocks": "blocks off", "experts": "experts off", "weights": "zeros",
    "quantized": "quantized", "recovered": "recovered", "published": "published", "other": "other",
    "control": "run otherwise",
}  # fmt: skip


def overview(board: Board, names: Names, kept: Mapping[str, KeptByKind]) -> dict[str, object]:
    """Everything on the first page."""
    crowded = sum(entry.smaller for entry in board.entries) > _MOST_PICTURED
    groups = [_base_rows(board, base, names, kept, crowded) for base in board.bases]
    compressed = [kept[entry.key] for entry in board.entries if entry.smaller]
    return {
        "groups": groups,
        "crowded": crowded,
        "headline": headline(compressed),
        "easy": easy_kinds(compressed),
        "has_knowledge": any(one.knowledge for one in kept.values()),
        "has_short": any(one.short for one in kept.values()),
        "has_long": any(one.long for one in kept.values()),
        "medians": _medians(row for group in groups for row in group.models if row.entry.smaller),
        "compressed": len(compressed),
        "measured": sum(any(not entry.latest.tool for entry in some) for some in board.bases.values()),
        "benchmarks": _benchmarks(board, compressed),
        "kinds": [kind for kind in KINDS if any(row.kind == kind for group in groups for row in group.models)],
        "kind_titles": KINDS,
        "methods": sorted({row.method for group in groups for row in group.models if row.method}),
        "engines": sorted({row.run.engine for group in groups for row in (group.base, *group.models) if row}),
        "tiers": sorted({row.tier for group in groups for row in (group.base, *group.models) if row}),
        "most_layers": max((len(entry.latest.dropped) for entry in board.entries), default=0),
        "rows": sum(len(group.models) + (group.base is not None) for group in groups),
        "date": max(run.date for run in board.runs)[:10],
    }


def _base_rows(board: Board, base: str, names: Names, kept: Mapping[str, KeptByKind], crowded: bool) -> BaseRows:
    rows = [_row(board, entry, names, kept[entry.key]) for entry in board.bases[base]]
    whole = next((row for row in rows if row.entry.dense), None)
    models = sorted((row for row in rows if row is not whole), key=lambda row: row.kept.standing, reverse=True)
    smaller = [row for row in models if row.entry.smaller]
    return BaseRows(base, whole, models, _best_and_worst(smaller) if crowded else smaller)


def _best_and_worst(models: Sequence[TableRow]) -> list[TableRow]:
    """Of those at each depth, in the same order; at most `_MOST_OF_BASE`."""
    by_depth: dict[int, list[TableRow]] = {}
    for row in models:
        by_depth.setdefault(len(row.run.dropped), []).append(row)
    keys = list(dict.fromkeys(row.entry.key for some in by_depth.values() for row in (some[0], some[-1])))[
        :_MOST_OF_BASE
    ]
    return [row for row in models if row.entry.key in keys]


def _row(board: Board, entry: Entry, names: Names, kept: KeptByKind) -> TableRow:
    run, pruning = entry.latest, entry.latest.pruning
    task = board.ranked.get(entry.key) or _unranked(board, entry)
    shown = [one for name in board.benchmarks if (one := entry.best(name))]
    return TableRow(
        entry=entry,
        run=run,
        name=names[entry.key],
        called=names.full(entry),
        kept=kept,
        layers=pruning.depth - len(run.dropped) if pruning else None,
        bits=bits_of(run) or _bits_of_dtype(run.dtype),
        method="" if entry.dense else names[entry.key].method,
        parameters=(pruning.parameters_after or None) if pruning else None,
        rank=board.ranks.get(entry.key),
        task=task,
        interval=accuracy_interval(task) if task else None,
        partial=task is not None and task.partial,
        outdated=task is not None and board.outdated(task),
        tokens=cost_of(task.value, run.costs).tokens if task else None,
        tier=min((one.run.tier for one in shown), key=TIERS.index, default="reported"),
        kind=_kind(run),
    )


def _unranked(board: Board, entry: Entry) -> TaskResult | None:
    """A result that is shown though it is not ranked: a partial one at the same budget, or any if nothing is ranked."""
    if not board.ranked:
        best = entry.best(board.shown_by)
        return best.task if best else None
    places = {place(task) for task in board.ranked.values()}
    found = (one for at, one in entry.results.get(board.shown_by, {}).items() if at in places)
    return next((one.task for one in found), None)


def _bits_of_dtype(dtype: str) -> int | None:
    name = dtype.rpartition(".")[2]
    return {"float32": 32, "bfloat16": 16, "float16": 16}.get(name)


def _kind(run: Run) -> str:
    if run.control:
        return "control"
    if run.pruning and run.pruning.recovered:
        return "recovered"
    if run.dropped:
        return "layers"
    if run.pruned:
        counts = [*run.pruning.counts] if run.pruning else []
        return {(): "weights", ("experts",): "experts"}.get(tuple(counts), "blocks")
    return "quantized" if bits_of(run) else "published" if run.pruning and run.pruning.relation else "other"


def _medians(rows: Iterable[TableRow]) -> list[GroupMedian]:
    """By bits, then by layers off; only models with both values."""
    groups: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for row in rows:
        if (easy := row.kept.easy) and (long := row.kept.long):
            groups.setdefault(_group(row), []).append((easy.estimate, long.interval.estimate))
    return [
        GroupMedian(title, len(some), median(easy for easy, _ in some), median(long for _, long in some))
        for (_, title), some in sorted(groups.items())
    ]


def _group(row: TableRow) -> tuple[int, str]:
    count = len(row.run.dropped)
    if row.kind == "recovered":
        return 5, "recovered"
    if count:
        return min(count, 3), f"{MINUS}{_DEPTHS[min(count, 3) - 1]}"
    if row.kind == "quantized":
        return 0, f"{row.bits:.0f} bits"
    if row.kind in ("blocks", "experts", "weights"):
        return 4, KINDS[row.kind]
    return (6, "published") if row.kind == "published" else (7, "other")


def _benchmarks(board: Board, kept: Sequence[KeptByKind]) -> dict[str, list[str]]:
    """Titles of the benchmarks behind each kind's values."""
    found: dict[str, list[str]] = {}
    for one in kept:
        for kind, part in (("knowledge", one.knowledge), ("short", one.short), ("long", one.long)):
            for name in part.benchmarks if part else ():
                if board.title(name) not in found.setdefault(kind, []):
                    found[kind].append(board.title(name))
    return found


class Sentence(NamedTuple):
    """A sentence with numbers, and how it is made."""

    text: str
    rule: str


def of_budgets(family: Family, charts: Sequence[Chart]) -> Sentence | None:
    """What more thinking gains: the base, and the median of the models at the first depth that has one."""
    chart = _ranked(family, charts)
    base = family.usual_base
    if chart is None or base is None:
        return None
    budgets = dict(whole_budgets(family.board, base, chart.benchmark))
    if len(budgets) < 2:
        return None
    first, last = min(budgets), max(budgets)
    gains: dict[Entry, float] = {}
    for entry in (base, *family.smaller):
        found = dict(whole_budgets(family.board, entry, chart.benchmark))
        if first in found and last in found:
            gains[entry] = found[last].interval.estimate - found[first].interval.estimate
    depth = next((n for n in (2, 1, 3) if any(len(entry.latest.dropped) == n for entry in gains)), None)
    if base not in gains or depth is None:
        return None
    others = [gain for entry, gain in gains.items() if len(entry.latest.dropped) == depth]
    layers = "one layer" if depth == 1 else f"{('two', 'three')[depth - 2]} layers"
    title = family.board.title(chart.benchmark)
    return Sentence(
        f"From {first:,} to {last:,} thinking tokens, {family.called} gains {_points(gains[base])} points on {title}; "
        f"with {layers} removed, the median model gains {_points(median(others))}.",
        f"accuracy at the largest budget less that at the smallest, for the base, and the median of the same over its "
        f"{len(others)} {'model' if len(others) == 1 else 'models'} with {layers} removed. {_which(family, chart)}",
    )


_ALIKE = 1.5  # factor between shares that count as the same


def of_shares(family: Family, charts: Sequence[Chart]) -> Sentence | None:
    """What the best model of each way keeps with about as many parameters gone as without the fewest layers."""
    chart = _ranked(family, charts)
    shares = sorted(share for entry in family.smaller if way_of(entry) == "layers" and (share := share_gone(entry)))
    if chart is None or not shares:
        return None
    best: dict[str, tuple[float, str]] = {}
    for _, entry, (_, interval) in chart.rows:
        if entry is None or not isinstance(interval, Interval):
            continue
        alike = shares[0] / _ALIKE <= share_gone(entry) <= shares[0] * _ALIKE
        if alike and interval.estimate > best.get(way_of(entry), (-1.0, ""))[0]:
            best[way_of(entry)] = interval.estimate, family.names[entry.key].method
    if len(best) < 2:
        return None
    ordered = sorted(best.items(), key=lambda one: one[1], reverse=True)
    said = [
        f"{100 * accuracy:.0f}% {'with zeros' if way == 'weights' else f'without {way}'} ({method})"
        for way, (accuracy, method) in ordered
    ]
    return Sentence(
        f"With about {shares[0]:.0%} of the parameters gone, the best models of {family.called} reach "
        f"{', '.join(said)} on {family.board.title(chart.benchmark)}.",
        f"the most accurate model of each way among those with {shares[0] / _ALIKE:.0%} to {shares[0] * _ALIKE:.0%} of "
        f"the parameters gone or zero, around the fewest layers off. {_which(family, chart)}",
    )


def _points(value: float) -> str:
    return f"{MINUS if round(100 * value) < 0 else ''}{abs(100 * value):.0f}"


def _ranked(family: Family, charts: Sequence[Chart]) -> Chart | None:
    ranked = [chart for chart in charts if chart.benchmark == family.board.ranked_by]
    return next(iter((*ranked, *charts)), None)


def _which(family: Family, chart: Chart) -> str:
    ranks = chart.benchmark == family.board.ranked_by
    return (
        "The benchmark is the one by which models are ranked." if ranks else "The benchmark is the first on this page."
    )


def of_found(family: Family, found: Sequence[tuple[Entry, FoundByBudget, FoundByBudget | None]]) -> Sentence | None:
    """How much is found and then lost: the model that loses most beyond chance, and its base."""
    pairs = [(entry, one, base) for entry, one, base in found if entry.smaller and base is not None]
    ranked = [pair for pair in pairs if pair[1].benchmark == family.board.ranked_by]
    some = ranked or pairs
    if not some:
        return None
    entry, one, base = max(some, key=lambda pair: pair[1].lost[-1] - pair[1].by_chance)
    if base is None or one.lost[-1] <= one.by_chance:
        return None
    return Sentence(
        f"On {family.board.title(one.benchmark)}, {family.called} finds and then loses the right answer in "
        f"{100 * base.lost[-1]:.0f}% of its samples, {family.names[entry.key]} in {100 * one.lost[-1]:.0f}%.",
        "share of samples whose answer is right at some budget and not at the largest, of the model that loses most "
        f"beyond what it would lose by chance ({100 * one.by_chance:.0f}%), and of its base.",
    )


def of_cost(family: Family, charts: Sequence[Chart]) -> Sentence | None:
    """Who holds the line that no model surpasses at its cost in tokens."""
    chart = _ranked(family, [chart for chart in charts if chart.panel.axis == COSTS["tokens"]])
    steps = steps_of_frontier(family, chart.benchmark) if chart else []
    if chart is None or not steps or not family.smaller:
        return None
    smaller = sum(entry.smaller for entry in steps)
    title, count = family.board.title(chart.benchmark), len(steps)
    said = f"{smaller} of the {count} steps of the line that no model surpasses belong to smaller models"
    if smaller == 0:
        said = "no smaller model that thinks longer is as good as its base at the same number of tokens"
    return Sentence(
        f"On {title}, {said}.",
        f"accuracy against mean tokens per answer, of {family.called} and its models at each thinking budget; "
        f"intervals are not considered. {_which(family, chart)}",
    )
