"""What a gate found, as typed values that print themselves: a table, a sentence for each verdict, and the savings.

Also as a page, as a summary in Markdown, and as JUnit XML for CI.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING, Literal

from lm_eval_ext.gating.gate_file import Population, RankedBy, Tier
from lm_eval_ext.gating.standing import Reason
from lm_eval_ext.report_page import plain, report_page, report_table
from lm_eval_ext.statistics.gate import Verdict
from lm_eval_ext.statistics.intervals import Interval
from lm_eval_ext.statistics.wealth_plot import WealthLine, WealthPlot
from lm_eval_ext.wording import markdown_table, scaled, text_table

if TYPE_CHECKING:
    import pandas

CandidateVerdict = Literal["kept", "lost", "undecided", "check", "failed"]
EXIT_CODES: Mapping[CandidateVerdict, int] = {"kept": 0, "lost": 1, "undecided": 3, "check": 3, "failed": 2}


@dataclass(frozen=True)
class BenchmarkVerdict:
    """A candidate on a benchmark.

    Attributes:
        task, tier: the benchmark.
        verdict: by this benchmark alone, not corrected for the number of candidates.
        reason: why it stopped.
        e_kept, e_lost: evidence on both sides; the verdict stands at 2 / error.
        kept: the share of the base's accuracy above chance, with its interval, which is valid at every look; None
            before anything was asked.
        units, total: used for the verdict, and how many there can be; None until the base has answered some.
        asked: evaluated, with those of the last block that came after the verdict.
        tokens: that the candidate spent; None if none are counted: nothing was asked, nothing is generated, or a log
            of another tool doesn't say.
        whole: that it would have spent on all units.
        fixed: units that a test of a fixed size with the same error and a power of 80% would take, if the loss is as
            large as it looks; None if it can't be told.
        path: tokens spent, evidence of kept and evidence of lost, after each unit.
        remarks: what a reader should know, such as that answers repeat themselves.
    """

    task: str
    tier: Tier
    verdict: Verdict
    reason: Reason
    e_kept: float
    e_lost: float
    kept: Interval | None
    units: int
    total: int | None
    asked: int
    tokens: float | None
    whole: float | None
    fixed: int | None
    path: tuple[tuple[float, float, float], ...] = field(repr=False)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A candidate of a gate.

    Attributes:
        name: in the file.
        verdict: corrected for the number of candidates. `check` is kept, but better than its base by more than chance;
            `failed` could not be evaluated.
        alone: the verdict if it were the only candidate.
        e_kept: evidence that every critical benchmark is kept.
        rows: by benchmark.
        costs: bytes of the weights, FLOPs and tokens of an answer, tokens per second; without those that are unknown.
        rank: place among those that are kept, by the cost; equal for those that nothing separates.
        failure: why it could not be evaluated.
        evaluated: whether it was, or there were results.
    """

    name: str
    verdict: CandidateVerdict
    alone: Verdict
    e_kept: float
    rows: tuple[BenchmarkVerdict, ...] = ()
    costs: Mapping[RankedBy, float] = field(default_factory=dict)
    rank: int | None = None
    failure: str = ""
    evaluated: bool = True


@dataclass(frozen=True)
class GateReport:
    """What a gate found.

    Attributes:
        name: of the file.
        keep, error, population: as in the file.
        ranked_by: the cost by which those that are kept are ranked.
        candidates: in the order of the file.
        base_tokens: that the base spent.
        base_whole: that it would have spent on everything.
    """

    name: str
    keep: float
    error: float
    population: Population
    ranked_by: RankedBy
    candidates: tuple[Candidate, ...]
    base_tokens: float
    base_whole: float

    @property
    def unit(self) -> str:
        """What units are, in the plural."""
        return "questions" if self.population == "new questions" else "rounds"

    @property
    def verdicts(self) -> dict[str, CandidateVerdict]:
        """By candidate, corrected for their number."""
        return {one.name: one.verdict for one in self.candidates}

    @property
    def exit_code(self) -> int:
        """0 if all are kept, 1 if any is lost, 2 if any could not be evaluated, else 3."""
        codes = [EXIT_CODES[one.verdict] for one in self.candidates]
        return next(code for code in (1, 2, 3, 0) if code in codes)

    @property
    def tokens(self) -> float:
        """Spent by all models that were evaluated."""
        return self.base_tokens + sum(row.tokens or 0 for one in self.candidates if one.evaluated for row in one.rows)

    @property
    def whole(self) -> float:
        """That these models would have spent on everything."""
        return self.base_whole + sum(row.whole or 0 for one in self.candidates if one.evaluated for row in one.rows)

    @property
    def threshold(self) -> float:
        """Evidence at which a verdict stands by itself."""
        return 2 / self.error

    def to_frame(self) -> pandas.DataFrame:
        """A table with a row for each candidate and benchmark."""
        import pandas

        return pandas.DataFrame(
            {
                "candidate": one.name, "verdict": one.verdict, "alone": one.alone, "rank": one.rank,
                "benchmark": row.task, "tier": row.tier, "row_verdict": row.verdict, "reason": row.reason,
                "kept_low": row.kept.low if row.kept else None, "kept_high": row.kept.high if row.kept else None,
                "e_kept": row.e_kept, "e_lost": row.e_lost, "units": row.units, "total": row.total,
                "tokens": row.tokens, "whole_tokens": row.whole, "fixed_units": row.fixed,
            }
            for one in self.candidates for row in one.rows
        )  # fmt: skip

    def to_json(self) -> str:
        """Everything, as JSON; infinite numbers are null."""
        content = asdict(self) | {
            "verdicts": self.verdicts, "exit_code": self.exit_code, "tokens": self.tokens, "whole": self.whole,
        }  # fmt: skip
        return json.dumps(plain(content), indent=1)

    def __str__(self) -> str:
        return text(self)

    def _repr_html_(self) -> str:
        return fragment(self)


# In words ---------------------------------------------------------------------------------------------------

_SAID: Mapping[CandidateVerdict, str] = {
    "kept": "kept", "lost": "lost", "undecided": "undecided", "check": "kept (check the setup)",
    "failed": "not evaluated",
}  # fmt: skip
_COST_NAMES: Mapping[RankedBy, tuple[str, str]] = {
    "bytes": ("weights", "B"), "flops": ("FLOPs of an answer", ""), "tokens": ("tokens of an answer", ""),
    "speed": ("tokens/s", ""),
}  # fmt: skip


def text(found: GateReport) -> str:
    """The whole report."""
    rows: list[tuple[str, ...]] = [
        (one.name, _SAID[one.verdict], one.alone, _number(one.e_kept), row.task, row.tier, row.verdict,
         _share(row.kept), _progress(row), _tokens(row))
        for one in found.candidates for row in one.rows if row.asked or one.verdict != "lost"
    ]  # fmt: skip
    header = (
        "candidate", "verdict", "alone", "evidence", "benchmark", "tier", "on it", "kept in %", found.unit, "tokens",
    )  # fmt: skip
    parts = [text_table(header, _without_repetition(rows)), "\n".join(sentences(found)), *_order(found), savings(found)]
    return "\n\n".join(part for part in parts if part)


def _without_repetition(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Rows in which what is said of the candidate stands once."""
    found = []
    for number, row in enumerate(rows):
        again = number > 0 and rows[number - 1][0] == row[0]
        found.append(("", "", "", "", *row[4:]) if again else row)
    return found


def sentences(found: GateReport) -> list[str]:
    """What each verdict says, in one sentence for each candidate and benchmark."""
    least, asked = f"{100 * found.keep:g}%", f"on {found.population}"
    lines = []
    for one in found.candidates:
        if one.failure:
            lines.append(f"{one.name}: could not be evaluated: {one.failure}")
        for row in one.rows:
            if not row.asked:
                if one.alone != "lost":
                    lines.append(f"{one.name}, {row.task}: nothing was asked yet{_because(row)}.")
                continue
            kept = f"keeps {_share(row.kept)}% of the base's accuracy above chance" if row.kept else "not measured yet"
            end = {
                "kept": f"at least {least} is shown", "lost": f"less than {least}",
                "undecided": f"undecided{_because(row)}",
            }[row.verdict]  # fmt: skip
            lines.append(f"{one.name}, {row.task}, {asked}: {kept}: {end} (after {_progress(row)} {found.unit}).")
            lines += [f"{one.name}, {row.task}: {remark}" for remark in row.remarks]
        if one.alone == "kept" and one.verdict == "undecided":
            lines.append(
                f"{one.name}: is kept by itself, but the evidence of {_number(one.e_kept)} is too little among "
                f"{len(found.candidates)} candidates."
            )
    return lines


_REASONS: Mapping[Reason, str] = {
    "": "",
    "decided": "",
    "everything asked": ", although everything was asked",
    "out of reach": ", and it would hardly be decided within the rest",
    "budget": ", because the budget is used up",
    "the candidate is lost": ", because another benchmark is lost already",
}


def _because(row: BenchmarkVerdict) -> str:
    return _REASONS[row.reason]


def _order(found: GateReport) -> list[str]:
    kept = sorted((one for one in found.candidates if one.rank is not None), key=lambda one: one.rank or 0)
    if not kept:
        return []
    names: list[RankedBy] = [found.ranked_by, *(name for name in _COST_NAMES if name != found.ranked_by)]
    known = [name for name in names if all(name in one.costs for one in kept)]
    rows = [
        (one.name, str(one.rank), *(scaled(one.costs[name], _COST_NAMES[name][1]) for name in known)) for one in kept
    ]
    ties = "\nEqual ranks are ties, which nothing separates." if len({one.rank for one in kept}) < len(kept) else ""
    header = ("kept, by cost", "rank", *(_COST_NAMES[name][0] for name in known))
    return [text_table(header, rows) + ties]


def savings(found: GateReport) -> str:
    """How many tokens it took, against running everything and against a test of a fixed size."""
    parts = []
    if found.whole and found.tokens:
        parts.append(
            f"{scaled(found.tokens)} tokens instead of {scaled(found.whole)} for everything: "
            f"{100 * found.tokens / found.whole:.0f}%."
        )
    decided = [row for one in found.candidates for row in one.rows if row.fixed and row.verdict != "undecided"]
    if decided:
        used, fixed = sum(row.units for row in decided), sum(min(row.fixed or 0, row.total or 0) for row in decided)
        parts.append(
            f"The decided ones took {used:,} {found.unit}; a test of a fixed size with the same error and a power of "
            f"80% would have taken about {fixed:,}, if its size had been known before."
        )
    many = len(found.candidates)
    if many > 1:
        parts.append(
            f"`verdict` is corrected for {many} candidates: the expected share of wrong ones among those called kept "
            f"is at most {100 * found.error:g}%. `alone`, `on it` and lost are not corrected for it: each"
        )
    else:
        parts.append("A verdict")
    parts.append(f"is wrong with a probability of at most {100 * found.error:g}%, whenever you look.")
    return " ".join(parts)


def _share(kept: Interval | None) -> str:
    if kept is None:
        return "-"
    high = f"{100 * kept.high:.1f}" if math.isfinite(kept.high) else "more than 200"
    return f"{100 * kept.low:.1f} to {high}"


def _progress(row: BenchmarkVerdict) -> str:
    return f"{row.units:,} of {'?' if row.total is None else f'{row.total:,}'}"


def _tokens(row: BenchmarkVerdict) -> str:
    return "-" if row.tokens is None else scaled(row.tokens)


def _number(evidence: float) -> str:
    return f"{evidence:.3g}" if evidence < 1e4 else "more than 10,000"


# For the browser and CI --------------------------------------------------------------------------------------

_STYLE = "td:nth-child(-n+6),th:nth-child(-n+6){text-align:left}"


def _cells(found: GateReport) -> list[tuple[str, ...]]:
    cells: list[tuple[str, ...]] = []
    for one in found.candidates:
        rank = "" if one.rank is None else str(one.rank)
        rows = [row for row in one.rows if row.asked or one.verdict != "lost"]
        cells += [
            (one.name, _SAID[one.verdict], one.alone, row.task, row.tier, row.verdict, _share(row.kept), _progress(row),
             _tokens(row), rank)
            for row in rows
        ]  # fmt: skip
        cells += [] if rows else [(one.name, _SAID[one.verdict], *[""] * 8)]
    return cells


def _header(found: GateReport) -> tuple[str, ...]:
    return ("candidate", "verdict", "alone", "benchmark", "tier", "on it", "kept in %", found.unit, "tokens", "rank")


def fragment(found: GateReport) -> str:
    """The table of verdicts as HTML."""
    return report_table(_header(found), _cells(found))


def chart(found: GateReport, row: BenchmarkVerdict) -> WealthPlot:
    """The wealth of both bets by tokens, or by units where nothing is generated."""
    spent = any(step for step, _, _ in row.path)
    steps = [0.0, *(step if spent else float(number) for number, (step, _, _) in enumerate(row.path, 1))]
    lines = [
        WealthLine("kept", steps, [1.0, *(kept for _, kept, _ in row.path)]),
        WealthLine("lost", steps, [1.0, *(lost for _, _, lost in row.path)]),
    ]
    return WealthPlot(lines, found.threshold, "tokens" if spent else found.unit)


def page(found: GateReport) -> str:
    """A page with the table, a chart for each candidate and benchmark, and the whole text."""
    charts = "".join(
        f"<figure><figcaption>{escape(one.name)}, {escape(row.task)}: {row.verdict}</figcaption>"
        f"{chart(found, row).svg()}</figure>"
        for one in found.candidates for row in one.rows if row.path
    )  # fmt: skip
    many = len(found.candidates)
    most = max(found.threshold, many / found.error)
    saved = escape(savings(found).replace("`", ""))
    among = f"; kept on a critical benchmark stands among {many} candidates at {most:g}" if many > 1 else ""
    body = (
        f"<p>Which candidates keep at least {100 * found.keep:g}% of the base's "
        f"accuracy above chance, on {found.population}?</p>{fragment(found)}<p>{saved}</p>"
        "<h2>Evidence</h2><p>Each line is the wealth of a gambler who starts with 1 and bets on that verdict. Where it "
        f"reaches {found.threshold:g}, the verdict stands by itself{among}.</p>"
        f'<div class="charts">{charts}</div><h2>In full</h2><pre>{escape(text(found))}</pre>'
    )
    return report_page(f"Gate: {found.name}", body, _STYLE)


def markdown(found: GateReport) -> str:
    """A summary for CI."""
    counts = {_SAID[verdict]: sum(one.verdict == verdict for one in found.candidates) for verdict in _SAID}
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"### Gate {found.name}: {said}\n\n{markdown_table(_header(found), _cells(found))}\n\n{savings(found)}\n"


def junit(found: GateReport) -> str:
    """JUnit XML: a test for each candidate, which fails if it is lost and is an error if it is undecided."""
    from xml.etree import ElementTree as xml

    bad = [one for one in found.candidates if one.verdict != "kept"]
    suite = xml.Element("testsuite", {
        "name": f"gate {found.name}", "tests": str(len(found.candidates)),
        "failures": str(sum(one.verdict == "lost" for one in bad)),
        "errors": str(sum(one.verdict != "lost" for one in bad)),
    })  # fmt: skip
    said = sentences(found)
    for one in found.candidates:
        case = xml.SubElement(suite, "testcase", {"classname": found.name, "name": one.name})
        own = "\n".join(line for line in said if line.startswith((f"{one.name}:", f"{one.name},")))
        if one.verdict == "kept":
            xml.SubElement(case, "system-out").text = own
        else:
            kind = "failure" if one.verdict == "lost" else "error"
            xml.SubElement(case, kind, {"message": _SAID[one.verdict]}).text = own
    return xml.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
