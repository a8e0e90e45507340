"""The page "As published": what others report of smaller models, never mixed with what was measured here."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import NamedTuple

from lm_eval_ext.analysis.as_published import (
    ENOUGH,
    KINDS,
    Beside,
    Effect,
    Group,
    OnBenchmark,
    Recovery,
    Repeated,
    beside_runs,
    by_benchmark,
    by_bits,
    by_share_removed,
    by_what_was_done,
    done,
    effects,
    kept_on,
    models,
    recoveries,
    repetitions,
    score_interval,
)
from lm_eval_ext.analysis.board import KNOWLEDGE, LONG, Board
from lm_eval_ext.runs.literature import Literature, Protocol, PublishedRow, Read
from lm_eval_ext.site.figures import Line, Mark, Panel, Point
from lm_eval_ext.site.lines import Chart
from lm_eval_ext.site.rendering import MINUS, Renderer, count
from lm_eval_ext.statistics.intervals import Interval
from lm_eval_ext.wording import limit

READ: dict[Read, str] = {"text": "", "figure": "read off a figure", "second-hand": "as others quote it"}
_REACH = 0.8  # of an effect, at both ends of its scale
_MOST_ERROR = 0.4  # at the foot of the funnel
_APART = 4  # the scores before a recovery, and the base's, are this factor from its ends
_SHAPES = (Mark(), Mark("9 5", "square"), Mark("9 4 2 4", "triangle"), Mark("3 3", "diamond"), Mark("1 5", "ring"))


class Finding(NamedTuple):
    """What the literature says at a glance: two groups, pruned by layers and quantized, that have both values."""

    layers: Group
    quantized: Group


class ForestRow(NamedTuple):
    """An effect in the picture; places are in percent of the width.

    Attributes:
        title: of what was done, or the source.
        interval: the effect with its interval.
        note: how many models and sources it is of.
        overall: whether it is over sources.
        hollow: whether the source is read second-hand.
    """

    title: str
    interval: Interval
    note: str
    overall: bool
    hollow: bool = False


class FunnelPoint(NamedTuple):
    """A source in the funnel chart of what was done, in percent of its width and height."""

    x: str
    y: str
    hollow: bool
    tip: str


class Published(NamedTuple):
    """Everything on the page."""

    counts: dict[str, int]
    finding: Finding | None
    groups: Sequence[Group]
    bits: Sequence[Group]
    removed: Sequence[tuple[str, Sequence[Group]]]
    on_benchmarks: Sequence[OnBenchmark]
    recoveries: Sequence[Chart]
    effects: Sequence[Effect]
    forest: Sequence[ForestRow]
    funnels: Mapping[str, Sequence[FunnelPoint]]
    repeated: Sequence[Repeated]
    beside: Sequence[Beside]
    alone: Sequence[str]


def write_published(renderer: Renderer, board: Board, literature: Literature) -> Published:
    """Write the page and its table; returns what is on it."""
    found = published_page(board, literature)
    renderer.write(
        "published.html", "published.html", page_of=found, literature=literature, ways=READ,
        kinds=KINDS, enough=ENOUGH, kept_on=kept_on, tell=told_protocol, place=place_of_effect, width=width_of_effect,
        edge=funnel_edge, points=points,
    )  # fmt: skip
    (renderer.out / "data" / "published.csv").write_text(published_csv(literature), encoding="utf-8")
    return found


def published_page(board: Board, literature: Literature) -> Published:
    """All values of the page, from the rows and the runs of the site."""
    every = models(literature)
    groups = by_what_was_done(every)
    named = {one.title: one for one in groups}
    layers, quantized = named.get("layers removed"), named.get("quantized")
    found = effects(every)
    counts = {
        "rows": len(literature.rows),
        "sources": len(literature.sources),
        "bases": len({row.base for row in literature.rows}),
        "models": len({(row.key, row.base, row.model.identity) for row in literature.rows}),
        "doubted": sum(row.table.doubt is not None for row in literature.rows),
        "own": sum(source.own_method for source in literature.sources.values()),
        "second_hand": sum(source.read != "text" for source in literature.sources.values()),
    }
    return Published(
        counts, Finding(layers, quantized) if layers and quantized else None, groups, by_bits(every),
        by_share_removed(every), by_benchmark(every),
        [_recovery_chart(one, literature) for one in recoveries(literature)], found,
        [row for one in found for row in _forest(one, literature)],
        {one.title: _funnel(one, literature) for one in found if one.overall},
        repetitions(literature), beside_runs(board, literature),
        sorted({done(one.model) for one in every} - named.keys()),
    )  # fmt: skip


def _recovery_chart(one: Recovery, literature: Literature) -> Chart:
    """Scores by tokens of training, from before it at the left to the base at the right."""
    lengths = sorted({tokens for some in one.scores.values() for tokens, _ in some if tokens})
    first, last = lengths[0] / _APART, lengths[-1] * _APART
    ticks = [(first, "before"), *((at, count(at)) for at in _spaced(lengths)), (last, "base")]
    lines, table = [], []
    for number, (name, some) in enumerate(one.scores.items()):
        row = some[0][1]
        tone = {KNOWLEDGE: "know", LONG: "long"}.get(row.known.kind, "plain")
        measured = [(tokens or first, row.score.value, row.questions) for tokens, row in some]
        measured.append((last, row.base_score.value, row.questions))
        drawn = [_point(name, at, score, questions) for at, score, questions in measured]
        lines.append(Line(name, name, tone, _SHAPES[number % len(_SHAPES)], drawn))
        found = {
            point.at: Interval(point.value, point.low or point.value, point.high or point.value) for point in drawn
        }
        table.append((name, None, [found.get(at) for at in (first, *lengths, last)]))
    source = literature.sources[one.key].source
    panel = Panel(f"{one.base.rpartition('/')[2]}, {one.amount}", source, "tokens of training", lines, ticks)
    return Chart("", panel, ["before", *map(count, lengths), "the base"], table)


def _spaced(lengths: Sequence[int]) -> Iterator[int]:
    """Those that are far enough from the one before to have a label."""
    before = 0.0
    for at in lengths:
        if at >= 1.9 * before:
            yield at
            before = at


def _point(name: str, at: float, score: float, questions: int | None) -> Point:
    if questions is None:
        return Point(at, score / 100, tip=f"{name}: {score:g}%; number of questions not known")
    found = score_interval(score, questions)
    reach = f"95%: {100 * found.low:.0f} to {100 * found.high:.0f}"
    return Point(at, *found, tip=f"{name}: {score:g}% ({reach}); {questions:,} questions")


def _forest(one: Effect, literature: Literature) -> Iterator[ForestRow]:
    if one.overall:
        yield ForestRow(one.title, one.overall.interval, f"{len(one.sources)} sources", overall=True)
    for source in one.sources:
        where = literature.sources[source.key]
        note = "1 model" if source.models == 1 else f"{source.models} models"
        yield ForestRow(
            where.source, source.interval, f"{one.title}; {note}", overall=False, hollow=where.read != "text"
        )


def _funnel(one: Effect, literature: Literature) -> list[FunnelPoint]:
    """Each source by its effect and its error."""
    drawn = []
    for source in one.sources:
        where = literature.sources[source.key]
        tip = f"{where.source}: {points(source.effect, 1)} points, error {100 * source.error:.1f}"
        down = f"{100 * min(1.0, source.error / _MOST_ERROR):.1f}%"
        drawn.append(FunnelPoint(place_of_effect(source.effect), down, where.read != "text", tip))
    return drawn


def place_of_effect(effect: float) -> str:
    """Where an effect is on its scale, in percent of the width."""
    return f"{50 + 48 * max(-1.0, min(1.0, effect / _REACH)):.2f}%"


def width_of_effect(interval: Interval) -> str:
    """How wide an interval is there."""
    low, high = (max(-1.0, min(1.0, end / _REACH)) for end in (interval.low, interval.high))
    return f"{48 * (high - low):.2f}%"


def funnel_edge(centre: float, side: int) -> str:
    """An end of the range in which chance alone would put 95% of the sources with the largest error."""
    return f"{50 + 48 * (centre + side * 1.96 * _MOST_ERROR) / _REACH:.2f}%"


def points(share: float, digits: int = 0) -> str:
    """A difference of shares in points, with its sign.

    >>> points(0.426, 1)
    '+42.6'
    """
    return f"{100 * share:+.{digits}f}".replace("-", MINUS)


def told_protocol(protocol: Protocol) -> str:
    """How something was measured, as far as it is known.

    >>> told_protocol(Protocol(samples=3, temperature=0.6, thinking_budget=32768, engine="vLLM"))
    '3 samples, temperature 0.6, up to 32,768 tokens, vLLM'
    """
    said = [
        protocol.metric,
        protocol.samples and ("1 sample" if protocol.samples == 1 else f"{protocol.samples} samples"),
        None if protocol.temperature is None else f"temperature {protocol.temperature:g}",
        protocol.thinking_budget and f"up to {limit(protocol.thinking_budget)}",
        protocol.engine,
    ]
    return ", ".join(str(part) for part in said if part)


def published_csv(literature: Literature) -> str:
    """All rows as CSV."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(_record(row) for row in literature.rows)
    return text.getvalue()


_COLUMNS = (
    "source", "url", "where", "date", "read", "own method", "base", "model", "kind", "method", "amount", "bits",
    "removed", "recovered", "recovery", "recovery tokens", "benchmark", "benchmark kind", "base score", "base sd",
    "score", "sd", "questions", "samples", "temperature", "token limit", "engine", "metric", "kept", "kept low",
    "kept high", "note", "doubt",
)  # fmt: skip


def _record(row: PublishedRow) -> list[object]:
    source, model, protocol, kept = row.source, row.model, row.protocol, kept_on(row)
    ends = (None, None) if kept is None or kept.interval is None else kept.interval[1:]
    return [
        source.source, source.url, row.table.where, source.date, source.read, source.own_method, row.base, model.name,
        model.kind, model.method, model.amount, model.bits, model.removed, model.recovered, model.recovery,
        model.recovery_tokens,
        row.benchmark, row.known.kind, row.base_score.value, row.base_score.sd, row.score.value, row.score.sd,
        row.questions, protocol.samples, protocol.temperature, protocol.thinking_budget, protocol.engine,
        protocol.metric, *(None if end is None else round(end, 6) for end in (kept and kept.share, *ends)),
        row.table.note, row.table.doubt,
    ]  # fmt: skip
