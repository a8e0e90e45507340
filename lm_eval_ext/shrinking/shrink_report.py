"""The smallest model that still reasons, or that there is none: typed values that print themselves, and a page."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Literal

from lm_eval_ext.gating.gate_file import Population
from lm_eval_ext.gating.gate_report import Candidate
from lm_eval_ext.report_page import VERDICT_COLORS, SvgChart, report_page, report_table
from lm_eval_ext.runs.run import told_value
from lm_eval_ext.shrinking.shrink_file import Minimised
from lm_eval_ext.wording import scaled, share, text_table

if TYPE_CHECKING:
    import pandas

_NAMES: Mapping[Minimised, str] = {
    "bytes": "weights", "parameters": "parameters", "active_parameters": "active parameters",
    "flops": "FLOPs of an answer", "layers": "layers",
}  # fmt: skip
# Why a proof ended, or that it goes on.
Ending = Literal["not kept", "all kept", "budget", "failed", "check", "unfinished"]


@dataclass(frozen=True)
class FrontModel:
    """A candidate of the front.

    Attributes:
        name: in its gate.
        what: what it lacks, in words.
        cost: of what is minimised.
        bits: divergence from the base a token, as the search saw it.
        digest: of its recipe.
        exports: whether `export` can write its weights.
        with_blocks: its cost where blocks that are left out keep their weights, as in a checkpoint.
        passed: how many models of the search's front are between it and the larger one before it, and aren't tested.
        verdict: of its gate: kept, lost, undecided, check or failed; empty if it wasn't tested.
        said: what the gate says, in sentences.
        tokens: decoded for it.
    """

    name: str
    what: str
    cost: float
    bits: float
    digest: str = ""
    exports: bool = True
    with_blocks: float = 0.0
    passed: int = 0
    verdict: str = ""
    said: tuple[str, ...] = ()
    tokens: float = 0.0

    def tested(self, found: Candidate, said: tuple[str, ...]) -> FrontModel:
        """With the verdict of its gate, where it was the only candidate."""
        return replace(self, verdict=found.verdict, said=said, tokens=sum(row.tokens or 0.0 for row in found.rows))

    @property
    def is_kept(self) -> bool:
        """Whether its gate said so."""
        return self.verdict == "kept"


@dataclass(frozen=True)
class Winner:
    """How the smallest model is loaded, as it was proven.

    Attributes:
        arguments: model arguments.
        recipe: path of the recipe that `export` writes; empty if it was trained, or can't be exported.
        command: evaluates it on all questions of the gate.
    """

    arguments: Mapping[str, object]
    recipe: str
    command: str


@dataclass(frozen=True)
class ShrinkReport:
    """What was found.

    Attributes:
        name, base, minimised: of the file.
        whole: cost of the base.
        keep, error, population: of the gate.
        front: from the largest to the smallest; those that were tested come first.
        scored: cost and divergence of everything that the search scored.
        trace_tokens: tokens of the traces by which it scored them.
        trace_decoded: tokens that the base wrote for them.
        tokens: decoded by the proof.
        all_tokens: that evaluating base and front on all questions would have taken.
        ending: why the proof ended.
        proofs: how many there were in the folder on the same questions, with this one.
        winner: the smallest model, if there is one.
    """

    name: str
    base: str
    minimised: Minimised
    whole: float
    keep: float
    error: float
    population: Population
    front: tuple[FrontModel, ...]
    scored: tuple[tuple[float, float], ...]
    trace_tokens: int
    trace_decoded: float
    tokens: float
    all_tokens: float
    ending: Ending
    proofs: int = 1
    winner: Winner | None = None

    @property
    def smallest(self) -> FrontModel | None:
        """The smallest model that is shown to be kept; None if none is."""
        return next((one for one in reversed(self.front) if one.is_kept), None)

    @property
    def next_smaller(self) -> FrontModel | None:
        """The first that isn't kept, which ended the proof."""
        return next((one for one in self.front if one.verdict and not one.is_kept), None)

    @property
    def exit_code(self) -> int:
        """0 if a smaller model is kept; 1 if none is; 2 if that can't be said, or the proof goes on."""
        if self.ending == "unfinished":
            return 2
        if self.smallest is not None:
            return 0
        return 1 if self.ending in ("not kept", "all kept") else 2

    @property
    def wrong(self) -> float:
        """Probability of a wrong name at most, with all proofs on the same questions."""
        return min(1.0, self.proofs * self.error)

    def to_frame(self) -> pandas.DataFrame:
        """One row per model of the front."""
        import pandas

        fields = ("name", "what", "cost", "bits", "verdict", "tokens")
        return pandas.DataFrame([{name: getattr(one, name) for name in fields} for one in self.front])

    def to_json(self) -> str:
        """Everything, as JSON."""
        content = asdict(self) | {"smallest": asdict(self.smallest) if self.smallest else None}
        content["scored"] = [pair for pair in self.scored if math.isfinite(pair[1])]
        return json.dumps(content | {"exit_code": self.exit_code}, indent=1)

    def __str__(self) -> str:
        return text(self)

    def _repr_html_(self) -> str:
        return fragment(self)


# In words ---------------------------------------------------------------------------------------------------


def text(found: ShrinkReport) -> str:
    """The whole report."""
    parts = [headline(found), text_table(_HEADER, list(_rows(found))) if found.front else "", *_sentences(found)]
    return "\n\n".join(part for part in parts if part)


_HEADER = ("what it lacks", "size", "of the base", "bits/token", "verdict", "tokens")


def _rows(found: ShrinkReport) -> Iterator[tuple[str, ...]]:
    for one in found.front:
        tokens = scaled(one.tokens) if one.tokens else "-"
        yield (
            one.what, scaled(one.cost, _unit(found)), share(one.cost / found.whole), f"{one.bits:.3g}",
            one.verdict or "not tested", tokens,
        )  # fmt: skip


def headline(found: ShrinkReport) -> str:
    """The result in a sentence."""
    least, on = f"{100 * found.keep:g}%", f"on {found.population}"
    if found.smallest is None:
        if not found.front:
            return f"Nothing smaller than {found.base} is near it."
        if found.ending not in ("not kept", "unfinished"):
            ended = _ENDED[found.ending]
            return f"Nothing can be said of versions smaller than {found.base}: the front was tested {ended}."
        if not found.front[0].verdict:
            return "Nothing was tested yet."
        return (
            f"Nothing smaller than {found.base} is shown to keep {least} of its accuracy above chance, {on}: "
            f"already the largest candidate, {found.front[0].what}, is {found.front[0].verdict}."
        )
    one, name = found.smallest, _NAMES[found.minimised]
    what = "smallest version so far"
    if found.ending in ("not kept", "all kept"):
        was_next = found.next_smaller is not None and not found.next_smaller.passed
        what = "smallest version" if was_next else "smallest tested version"
    return (
        f"The {what} of {found.base} that keeps at least {least} of its accuracy above chance, {on}: "
        f"{one.what}; {share(one.cost / found.whole)} of its {name}, {scaled(one.cost, _unit(found))}."
    )


def _unit(found: ShrinkReport) -> str:
    return "B" if found.minimised == "bytes" else ""


def _sentences(found: ShrinkReport) -> Iterator[str]:
    if found.smallest is not None:
        yield "\n".join(found.smallest.said)
    if found.next_smaller is not None and found.smallest is not None:
        verdict = _SAID.get(found.next_smaller.verdict, f"is {found.next_smaller.verdict}")
        yield "\n".join([f"The next smaller one, {found.next_smaller.what}, {verdict}:", *found.next_smaller.said])
    elif found.next_smaller is not None:
        yield "\n".join(found.next_smaller.said)
    yield effort(found)
    if found.winner is not None:
        yield _use(found, found.winner)


_SAID = {"failed": "could not be evaluated", "check": "is better than its base by more than chance"}


def _use(found: ShrinkReport, winner: Winner) -> str:
    """Commands for the smallest model."""
    path, smallest = shlex.quote(winner.recipe), found.smallest
    lines = [f"Its recipe is {winner.recipe}. To export it:", f"    lm-eval-tts export {path} FOLDER"]
    arguments = ",".join(f"{name}={told_value(value)}" for name, value in winner.arguments.items())
    in_a_checkpoint = []
    if smallest is not None and smallest.exports and smallest.with_blocks > smallest.cost:
        in_a_checkpoint = [
            "In a checkpoint, and in vLLM, blocks that are left out keep their weights, which then add zeros: "
            f"{share(smallest.with_blocks / found.whole)} of the {_NAMES[found.minimised]}."
        ]
    return "\n".join([
        *(lines if winner.recipe else [f"Its model arguments are {arguments}."]), *in_a_checkpoint,
        "To evaluate it on everything, for a leaderboard:",
        f"    {winner.command}",
        "    lm-eval-tts leaderboard add out",
    ])  # fmt: skip


_ENDED: Mapping[Ending, str] = {
    "not kept": "to the first that isn't kept",
    "all kept": "to its smallest, and all are kept: a larger `front` or a higher `worst` may show smaller ones",
    "budget": "until the budget was used up, so that smaller ones may be kept too",
    "failed": "to one that could not be evaluated, so that smaller ones may be kept too",
    "check": "to one that is better than its base by more than chance: check the setup, or set the gate's accept_gains",
    "unfinished": "as far as it goes until now; the proof isn't finished",
}


def effort(found: ShrinkReport) -> str:
    """What search and proof took, and what the error is of."""
    before = f"; the base decoded {scaled(found.trace_decoded)} for the traces" if found.trace_decoded else ""
    search = (
        f"The search scored {len(found.scored):,} models by {found.trace_tokens:,} tokens of correct traces, without "
        f"decoding{before}"
    )
    if not found.front:
        return f"{search}. No smaller one diverges by less than its `worst`, so there was nothing to prove."
    proof = f"the proof decoded {scaled(found.tokens)} tokens"
    if found.all_tokens:
        proof += (
            f", {100 * found.tokens / found.all_tokens:.0f}% of the {scaled(found.all_tokens)} that evaluating the "
            "base and all of the front takes"
        )
    passed = found.next_smaller.passed if found.next_smaller is not None and found.smallest is not None else 0
    between = f" (between the last two, `search.front` left out {passed} of the search's front)" if passed else ""
    names, others = "The whole search names", ""
    if found.proofs > 1:
        names = "Together they name"
        others = (
            f" This is proof {found.proofs} on the same questions in this folder, and what one showed may have led to "
            "another, so their errors add up."
        )
    return (
        f"{search}; {proof}. The front was tested from its largest model {_ENDED[found.ending]}{between}.{others} "
        f"{names} a model that doesn't keep {100 * found.keep:g}% with a probability of at most "
        f"{100 * found.wrong:g}%."
    )


# For the browser --------------------------------------------------------------------------------------------

_CHART = SvgChart(640, 300, left=64)
_STYLE = "pre{white-space:pre-wrap}"
_LEAST = 1e-5  # bits that are drawn as this few


def fragment(found: ShrinkReport) -> str:
    """The front as an HTML table."""
    return report_table(_HEADER, _rows(found))


def page(found: ShrinkReport) -> str:
    """A page with the result, the picture of the front, its table, and the whole text."""
    body = (
        f"<p>{escape(headline(found))}</p>{chart(found)}{fragment(found)}<p>{escape(effort(found))}</p>"
        f"<h2>In full</h2><pre>{escape(text(found))}</pre>"
    )
    return report_page(f"The smallest {found.base} that still reasons", body, _STYLE)


def chart(found: ShrinkReport) -> str:
    """Everything that was scored by cost and divergence, with the front and its verdicts, as SVG."""
    known = [(cost / found.whole, bits) for cost, bits in found.scored if cost < found.whole]
    points = [(cost, max(bits, _LEAST)) for cost, bits in known if math.isfinite(bits)]
    if not points:
        return ""
    low = min(cost for cost, _ in points)
    top, bottom = math.log10(max(bits for _, bits in points)), math.log10(min(bits for _, bits in points))

    def left(cost: float) -> float:
        return (1 - cost) / max(1e-9, 1 - low)

    def height(bits: float) -> float:
        return 1 - (top - math.log10(max(bits, _LEAST))) / max(1e-9, top - bottom)

    def circle(cost: float, bits: float, style: str, title: str = "") -> str:
        x, y = _CHART.x(left(cost)), _CHART.y(height(bits))
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" {style}>{title}</circle>'

    parts = [
        *(
            _CHART.level(height(10.0**power), f"{10.0**power:g}")
            for power in range(math.ceil(bottom), math.floor(top) + 1)
        ),
        *(_CHART.tick(left(cost), share(cost)) for cost in (1.0, (1 + low) / 2, low)),
        *(circle(cost, bits, 'r="1.5" fill="currentColor" fill-opacity=".25"') for cost, bits in points),
    ]
    for one in found.front:
        style = f'r="6" fill="{VERDICT_COLORS.get(one.verdict, "none")}" stroke="currentColor"'
        said = (
            f"{one.what}: {share(one.cost / found.whole)}, {one.bits:.3g} bits a token, {one.verdict or 'not tested'}"
        )
        parts.append(circle(one.cost / found.whole, one.bits, style, f"<title>{escape(said)}</title>"))
    axis = f"share of the base's {_NAMES[found.minimised]} (bits a token upwards; kept in blue, lost in orange)"
    return _CHART.svg(parts, axis, headline(found))
