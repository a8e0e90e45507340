"""How far candidates would write something else than their base: typed values that print themselves, and a page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ConfigDict, TypeAdapter, ValidationError

from lm_eval_ext.paths import write_whole
from lm_eval_ext.report_page import SvgChart, plain, report_page, report_table
from lm_eval_ext.shrinking.divergence import MEASURES, Divergence
from lm_eval_ext.shrinking.localise import AtLayer
from lm_eval_ext.statistics.intervals import Interval
from lm_eval_ext.wording import ranges, text_table

if TYPE_CHECKING:
    import pandas

_NOTICEABLE = 0.01  # share of the mean divergence that may be left out without being said


@dataclass(frozen=True)
class CandidateDivergence:
    """A candidate beside its base.

    Attributes:
        name: of the candidate.
        divergence: on all traces.
        truncated: whether it only said what its likeliest tokens are, as servers do.
        layers: what each layer's change explains alone; empty if that wasn't asked for.
    """

    __pydantic_config__ = ConfigDict(ser_json_inf_nan="constants")

    name: str
    divergence: Divergence
    truncated: bool
    layers: tuple[AtLayer, ...] = ()


def read_measured(path: Path) -> CandidateDivergence | None:
    """What was kept of a candidate; None if nothing was, or in another version."""
    try:
        return TypeAdapter(CandidateDivergence).validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def write_measured(path: Path, found: CandidateDivergence) -> None:
    """Keep what was measured of a candidate."""
    write_whole(path, TypeAdapter(CandidateDivergence).dump_json(found, indent=1))


@dataclass(frozen=True)
class DivergenceReport:
    """Candidates beside their base, on its own correct traces.

    Attributes:
        base: name of the base.
        traces, questions, tokens: of the base, on which it was measured.
        top: how many of the base's likeliest tokens are known one by one at each place.
        candidates: in the order in which they were given.
    """

    base: str
    traces: int
    questions: int
    tokens: int
    top: int
    candidates: tuple[CandidateDivergence, ...]

    def to_frame(self) -> pandas.DataFrame:
        """One row per candidate, with a column for each measure and both ends of its interval."""
        import pandas

        return pandas.DataFrame([
            {
                "candidate": one.name,
                **{
                    column: value
                    for name in ("kl", *MEASURES)
                    for column, value in _columns(name, {"kl": one.divergence.kl, **one.divergence.measures}[name])
                },
            }
            for one in self.candidates
        ])  # fmt: skip

    def to_json(self) -> str:
        """Everything, as JSON; infinite numbers are null."""
        return json.dumps(plain(asdict(self)), indent=1)

    def __str__(self) -> str:
        return text(self)

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(index=False))


def _columns(name: str, interval: Interval | None) -> list[tuple[str, float | None]]:
    return list(zip((name, f"{name}_low", f"{name}_high"), interval or (None, None, None), strict=True))


# In words ---------------------------------------------------------------------------------------------------

_HEADER = (
    "candidate", "bits/token", "thinking", "answer", "at turns", "other choice", "leaves 95%", "until fork",
    "perplexity",
)  # fmt: skip


def text(found: DivergenceReport) -> str:
    """The whole report."""
    about = (
        f"{found.traces} correct traces of {found.base} to {found.questions} questions, {found.tokens:,} tokens; "
        "KL(base || candidate) in bits a token, with 95% intervals over questions."
    )
    parts = [about, text_table(_HEADER, [_row(one) for one in found.candidates])]
    if turns := [row for one in found.candidates for row in _at_turns(one)]:
        parts.append(f"At the words where the thinking turns, and in the rest of it:\n{text_table(_TURNS, turns)}")
    parts += ["\n".join(said) for one in found.candidates if (said := list(_sentences(found, one)))]
    parts += [f"{one.name}, by layers:\n{_layers(one)}" for one in found.candidates if one.layers]
    return "\n\n".join([*parts, _CAUTION])


_CAUTION = (
    "This is a screen: nothing was decoded. It says how a candidate would go on from correct steps of its base, not "
    "whether it finds its own way; `lm-eval-tts gate` decides that."
)


def _row(one: CandidateDivergence) -> tuple[str, ...]:
    measures = one.divergence.measures
    bits = (one.divergence.kl, measures["thinking"], measures["answer"], measures["turns"])
    shares = (measures["other_choice"], measures["leaves_nucleus"])
    return (
        one.name,
        *(_ranged(value, "{:.3g}") for value in bits),
        *map(_percent, shares),
        _ranged(measures["until_fork"], "{:.3g}"),
        _ranged(measures["perplexity_ratio"], "{:.3g}", "x"),
    )


_TURNS = ("candidate", "where", "bits/token", "other choice", "leaves 95%", "perplexity")


def _at_turns(one: CandidateDivergence) -> Iterator[tuple[str, ...]]:
    """Rows at and beside the words where the thinking turns, if there are any."""
    measures = one.divergence.measures
    for where in ("turns", "elsewhere") if measures["turns"] is not None else ():
        shares = (measures[f"{where}_other_choice"], measures[f"{where}_leaves_nucleus"])
        yield (
            one.name, where, _ranged(measures[where], "{:.3g}"), *map(_percent, shares),
            _ranged(measures[f"{where}_perplexity_ratio"], "{:.3g}", "x"),
        )  # fmt: skip


def _percent(interval: Interval | None) -> str:
    return _ranged(interval and Interval(*(100 * end for end in interval)), "{:.1f}", "%")


def _ranged(interval: Interval | None, form: str, unit: str = "") -> str:
    if interval is None:
        return "-"
    estimate, low, high = (form.format(value) for value in interval)
    return f"{estimate}{unit} ({low}-{high})"


def _sentences(found: DivergenceReport, one: CandidateDivergence) -> Iterator[str]:
    """What is remarkable about a candidate."""
    measures, kl, left_out = one.divergence.measures, one.divergence.kl, one.divergence.left_out
    growth, turns = measures["growth"], measures["turns_excess"]
    if kl is not None and kl.estimate == 0:
        yield f"{one.name}: writes what the base writes."
        return
    if growth is not None and (growth.low > 0 or growth.high < 0):
        said = "grows" if growth.low > 0 else "shrinks"
        yield (
            f"{one.name}: the divergence {said} along the thinking, by {_ranged(growth, '{:.3g}')} bits a token from "
            "its first half to its second."
        )
    if turns is not None and (turns.low > 0 or turns.high < 0):
        where = "larger" if turns.low > 0 else "smaller"
        yield f"{one.name}: it is {where} where the thinking turns, by {_ranged(turns, '{:.3g}')} bits."
    if one.truncated:
        yield (
            f"{one.name}: its server gave only its likeliest tokens, so the divergence is truncated: the whole one is "
            "larger."
        )
    elif left_out is not None and kl is not None and left_out.estimate > _NOTICEABLE * kl.estimate:
        yield (
            f"{one.name}: {_ranged(left_out, '{:.2g}')} bits a token are left out, because only the base's {found.top} "
            "likeliest tokens are kept one by one; --top keeps more."
        )


def _layers(one: CandidateDivergence) -> str:
    """Bars in text, one for each run of equal layers."""
    values = [at.kl.estimate if at.kl else 0.0 for at in one.layers]
    most = max(values) or 1.0
    same = [at.layer for at in one.layers if at.how == "the same"]
    rows = [
        (f"layer {at.layer}", at.how, _ranged(at.kl, "{:.3g}"), "#" * round(30 * value / most))
        for at, value in zip(one.layers, values, strict=True)
        if at.how != "the same"
    ]
    whole = _ranged(one.divergence.kl, "{:.3g}")
    lines = [f"{a:10}{b:12}{c:>28}  {d}".rstrip() for a, b, c, d in [*rows, ("together", "", whole, "")]]
    return "\n".join([*lines, *([f"the same: layers {ranges(same)}"] if same else [])])


# For the browser --------------------------------------------------------------------------------------------

_CHART = SvgChart(560, 240)
_COLOR = "#0072b2"


def page(found: DivergenceReport) -> str:
    """A page with the table, charts by position and by layer, and the whole text."""
    charts = "".join(
        f"<figure><figcaption>{escape(one.name)}: {title}</figcaption>{chart}</figure>"
        for one in found.candidates
        for title, chart in _charts(one)
    )
    body = (
        f"<p>What would each candidate write at each step of the base's own thinking? On {found.tokens:,} tokens of "
        f"{found.traces} correct traces to {found.questions} questions; in bits a token, with 95% intervals over "
        f"questions.</p>{report_table(_HEADER, map(_row, found.candidates))}<p>{escape(_CAUTION.replace('`', ''))}</p>"
        f'<div class="charts">{charts}</div><h2>In full</h2><pre>{escape(text(found))}</pre>'
    )
    return report_page(f"Divergence from {found.base}", body)


def _charts(one: CandidateDivergence) -> Iterator[tuple[str, str]]:
    positions = [
        (f"{at.first:,}" if at.first == at.last else f"{at.first:,}-{at.last:,}", at.kl)
        for at in one.divergence.positions
    ]
    yield "by position in the trace", _bars(positions, "token of the reply")
    if one.layers:
        yield "by layer, each changed alone", _bars([(str(at.layer), at.kl) for at in one.layers], "layer")


def _bars(values: Sequence[tuple[str, Interval | None]], axis: str) -> str:
    """Bars with intervals, as SVG."""
    known = [value for _, value in values if value is not None and math.isfinite(value.high)]
    most = max((value.high for value in known), default=0.0) or 1.0
    width = 0.7 * (_CHART.x(1) - _CHART.x(0)) / len(values)
    parts = [_CHART.level(share, f"{share * most:.2g}") for share in (0.0, 0.5, 1.0)]
    every = math.ceil(len(values) / 12)  # so that the labels don't touch
    for number, (label, value) in enumerate(values):
        middle = (number + 0.5) / len(values)
        if value is not None and math.isfinite(value.high):
            x, top = _CHART.x(middle), _CHART.y(value.estimate / most)
            low, high = _CHART.y(value.low / most), _CHART.y(value.high / most)
            parts.append(
                f'<rect x="{x - width / 2:.1f}" width="{width:.1f}" y="{top:.1f}" '
                f'height="{_CHART.y(0) - top:.1f}" fill="{_COLOR}" fill-opacity=".6">'
                f"<title>{escape(label)}: {escape(_ranged(value, '{:.3g}', ' bits'))}</title></rect>"
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{_COLOR}"/>'
            )
        if number % every == 0:
            parts.append(_CHART.tick(middle, label))
    return _CHART.svg(parts, axis, f"bits of divergence by {axis}")
