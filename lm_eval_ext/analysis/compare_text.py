"""A comparison in words: tables, one sentence per row, and the verdict."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from html import escape
from typing import TYPE_CHECKING

from lm_eval_ext.analysis.answer_costs import Cost
from lm_eval_ext.analysis.found_lost import LostCompared, Traces
from lm_eval_ext.analysis.matching import Mismatch
from lm_eval_ext.analysis.parts import PartCompared
from lm_eval_ext.analysis.rows import Gain, Judged, Row, Sensitivity
from lm_eval_ext.report_page import report_page
from lm_eval_ext.statistics.gate import Verdict
from lm_eval_ext.wording import limit, ranged, scaled, share, text_table

if TYPE_CHECKING:
    import pandas


_MANY = 1000  # samples that nobody would draw
_IDS = 12  # ids of lost questions shown in one line


def text(comparison: Comparison) -> str:
    """The whole comparison."""
    parts = [f"base:      {comparison.base}\ncandidate: {comparison.candidate}"]
    if comparison.told:
        parts.append("The runs differ in:\n" + "\n".join(f"  {one}" for one in comparison.told))
    parts.append(_accuracies(comparison))
    parts.append("\n".join(sentence(row, comparison.keep) for row in comparison.rows))
    if comparison.gains:
        parts.append(_gains(comparison.gains))
    parts += _by_part(comparison.parts)
    parts += [_lost(one) for one in comparison.lost]
    parts.append(_costs(comparison))
    parts.append(_changes(comparison.rows))
    if comparison.keep is not None:
        parts.append(_verdict(comparison))
    return "\n\n".join(part for part in parts if part)


def _accuracies(comparison: Comparison) -> str:
    header = ("accuracy in %, with 95% intervals", "questions", "base", "candidate", "difference", "kept in %")
    return text_table(header, [_accuracy(row) for row in comparison.rows])


def _accuracy(row: Row) -> tuple[str, ...]:
    samples = ", ".join(map(str, dict.fromkeys(row.samples)))
    return (
        row.task,
        f"{row.questions} x {samples}" if row.paired else "unpaired",
        ranged(row.base),
        ranged(row.candidate),
        ranged(row.difference),
        ranged(row.kept),
    )


def sentence(row: Row, keep: float | None) -> str:
    """What a row says, in words."""
    where = f"{row.benchmark}, {row.limit}"
    if row.kept is None:
        why = "guessing" if row.chance else "zero"
        missing = "the score of guessing is not known" if row.chance is None else f"the base is not above {why}"
        return f"{where}: not measurable, because {missing}."
    above = f" above chance ({share(row.chance)})" if row.chance else ""
    interval = f"{share(row.kept.low)} to {share(row.kept.high)}"
    kept = f"keeps {share(row.kept.estimate)} of the base's accuracy{above}, {interval}"
    if keep is None:
        return f"{where}: {kept}."
    said = f"whether it is {share(keep)} stays open"
    if row.kept.low >= keep:
        said = f"at least {share(keep)} is shown"
    elif row.kept.high < keep:
        said = f"less than {share(keep)}"
    return f"{where}: {kept}: {said}."


def _by_part(parts: Sequence[PartCompared]) -> list[str]:
    """A table for each task and column."""
    tables: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for one in parts:
        row = (one.value, str(one.questions), *map(ranged, (one.base, one.candidate, one.difference)))
        tables.setdefault((one.task, one.column), []).append(row)
    return [
        text_table((f"{task}, by {column}", "questions", "base", "candidate", "difference"), rows)
        for (task, column), rows in tables.items()
    ]


def _gains(gains: Sequence[Gain]) -> str:
    header = ("gain in points of accuracy", "base", "candidate", "difference of the gains")
    rows = [
        (f"{gain.benchmark}, {gain.what}", ranged(gain.base), ranged(gain.candidate), ranged(gain.difference))
        for gain in gains
    ]
    warnings = [f"{gain.benchmark}, {gain.what}: {warning}" for gain in gains for warning in gain.warnings]
    return "\n".join([text_table(header, rows), *warnings])


def _lost(found: LostCompared | str) -> str:
    if isinstance(found, str):
        return found
    header = (f"{found.base.traces.benchmark}: right answers as thinking goes on", "base", "candidate")
    rows = [
        (what, ranged(getattr(found.base, name)), ranged(getattr(found.candidate, name)))
        for what, name in _FOUND.items()
    ]
    by_chance = [f"{100 * one.by_chance:.1f}" for one in (found.base, found.candidate)]
    rows.insert(3, ("lost if budgets had nothing to do with each other", by_chance[0], by_chance[1]))
    budgets = ", ".join(limit(budget, "") for budget in found.base.traces.budgets)
    said = f"in % of all samples; budgets: {budgets}; lost, candidate less base: {ranged(found.difference)}"
    return f"{text_table(header, rows)}\n{said}"


_FOUND = {
    "found: right at some budget": "found",
    "kept: right at the largest": "kept",
    "lost: found, and wrong at the largest": "lost",
    "lost, in % of the found": "lost_of_found",
    "late: right at the largest alone": "late",
    "right to wrong, per 100 samples": "turned_wrong",
    "wrong to right, per 100 samples": "turned_right",
    "accuracy over all budgets": "anytime",
}


def _costs(comparison: Comparison) -> str:
    header = ("an answer (base, candidate)", "tokens", "ratio", "forced", "looping", "no answer", "FLOPs", "KV cache")
    rows = [(row.task, *_cost(*comparison.costs[row.task])) for row in comparison.rows]
    return text_table(header, rows) if any(cell.strip(", ") for row in rows for cell in row[1:]) else ""


def _cost(base: Cost, candidate: Cost) -> tuple[str, ...]:
    def both(name: str, shown: Callable[[float], str]) -> str:
        values = (getattr(base, name), getattr(candidate, name))
        return "" if values == (None, None) else ", ".join("-" if value is None else shown(value) for value in values)

    ratio = f"{candidate.tokens / base.tokens:.2f}" if base.tokens and candidate.tokens is not None else ""
    return (
        both("tokens", lambda value: f"{value:,.0f}"), ratio, both("forced", share), both("looped", share),
        both("unanswered", share), both("flops", scaled),
        both("cache_bytes", lambda value: scaled(value, "B")),
    )  # fmt: skip


def _changes(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        for what, ids in (("lost", row.lost), ("won", row.won)):
            if ids:
                more = f" and {len(ids) - _IDS} more" if len(ids) > _IDS else ""
                number = "1 question" if len(ids) == 1 else f"{len(ids)} questions"
                lines.append(f"{row.task}: {number} {what}: {', '.join(map(str, ids[:_IDS]))}{more}")
    return "\n".join(lines)


def _verdict(comparison: Comparison) -> str:
    keep = comparison.keep or 0.0
    lines = [_row_verdict(one) for one in comparison.gated]
    for benchmark, budget in comparison.kept_down_to.items():
        lines.append(f"{benchmark}: kept down to {limit(budget)}")
    for one in comparison.gated:
        lines += sensitivity_lines(one.row.task, one.row.questions, one.row.samples[0], one.sensitivity, keep)
    why = {
        "kept": f"at least {share(keep)} of the base's accuracy is kept in every row that decides",
        "lost": f"less than {share(keep)} of the base's accuracy is kept in a row that decides",
        "undecided": f"the data neither show that {share(keep)} is kept nor that it is not",
    }[str(comparison.verdict)]
    if all(one.verdict is None for one in comparison.gated):
        why = "no row that decides can be measured"
    return "\n".join([*lines, "", f"verdict: {comparison.verdict} ({why})"])


def _row_verdict(judged: Judged) -> str:
    verdict = "not measurable, and left out" if judged.verdict is None else judged.verdict
    return f"{judged.row.task}: {verdict}; sign-flip test with Holm's correction: p = {judged.p_corrected:.2g}"


def sensitivity_lines(task: str, questions: int, samples: int, found: Sensitivity, keep: float) -> list[str]:
    """What a task's data can show."""
    asked = f"{questions} questions with {samples} samples each"
    if found.detectable is None:
        lines = [f"{task}: {asked} show no variation, so it can't be told what loss they would show"]
    else:
        lines = [f"{task}: {asked} show a loss of {100 * found.detectable:.1f} points or more with a power of 80%"]
    if found.power is not None and found.needed is not None:
        per, most = found.needed.samples, found.needed.most_samples
        fewer = "no number of samples is enough" if per is None else f"{_counted(per)} of each of these"
        lines.append(
            f"{task}: an equally good model comes out as kept with a probability of {share(found.power)}; for 80% it "
            f"takes about {found.needed.questions:,} questions, or {fewer}"
            + ("" if most is None or most > _MANY else f"; beyond {_counted(most)}, more hardly help")
        )
    return lines


def _counted(samples: int) -> str:
    return "1 sample" if samples == 1 else f"{samples:,} samples"


def fragment(comparison: Comparison) -> str:
    """A table of the rows, and the verdict."""
    header = "".join(f"<th>{name}</th>" for name in ("", "base", "candidate", "difference", "kept"))
    rows = "".join(
        f"<tr><td>{escape(row.benchmark)}, {row.limit}</td>"
        + "".join(f"<td>{ranged(one)}</td>" for one in (row.base, row.candidate, row.difference, row.kept))
        + "</tr>"
        for row in comparison.rows
    )
    verdict = "" if comparison.verdict is None else f"<p>Verdict: <strong>{comparison.verdict}</strong></p>"
    names = f"<p>{escape(comparison.candidate)}, compared with {escape(comparison.base)}; in %, with 95% intervals</p>"
    return f"{names}<table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table>{verdict}"


def page(comparisons: Sequence[Comparison]) -> str:
    """A page with the table and the whole text of each comparison."""
    parts = "".join(
        f"<h2>{escape(one.candidate)}</h2>{fragment(one)}<h3>In full</h3><pre>{escape(text(one))}</pre>"
        for one in comparisons
    )
    return report_page("Does it still reason?", parts)


@dataclass(frozen=True, repr=False)
class Comparison:
    """A smaller model compared with its base.

    Attributes:
        base, candidate: names of the models.
        keep: the share that had to be kept; None if there is no verdict.
        rows: one for each task, in the order of the base's runs.
        costs: of the base and the candidate, by task.
        verdict: None without `keep`.
        gated: the rows that decide the verdict.
        kept_down_to: by benchmark, the smallest budget down to which every larger one is kept, too; None for the
            unlimited task alone.
        gains: from thinking, then from voting.
        lost: what became of right answers as the models thought on, by benchmark; a sentence where that can't be told.
        parts: parts of the benchmarks, such as levels or numbers of steps, at the largest budget.
        told: differences between the runs that a reader should know.
    """

    base: str
    candidate: str
    keep: float | None
    rows: tuple[Row, ...]
    costs: dict[str, tuple[Cost, Cost]]
    verdict: Verdict | None = None
    gated: tuple[Judged, ...] = ()
    kept_down_to: dict[str, int | None] = field(default_factory=dict)
    gains: tuple[Gain, ...] = ()
    lost: tuple[LostCompared | str, ...] = ()
    parts: tuple[PartCompared, ...] = ()
    told: tuple[Mismatch, ...] = ()

    def to_frame(self) -> pandas.DataFrame:
        """One row per task: accuracies, difference and kept share with their intervals, p-value, and costs."""
        import pandas

        return pandas.DataFrame([_flat(row, *self.costs[row.task]) for row in self.rows]).astype({"budget": "Int64"})

    def to_json(self) -> str:
        """Everything, as JSON."""
        return json.dumps(_named(self), indent=1)

    def __str__(self) -> str:
        return text(self)

    def __repr__(self) -> str:
        verdict = f"verdict {self.verdict}, " if self.verdict else ""
        tasks = f"{len(self.rows)} {'task' if len(self.rows) == 1 else 'tasks'}"
        return f"<Comparison of {self.candidate} with {self.base}: {verdict}{tasks}; print() shows it>"

    def _repr_html_(self) -> str:
        return fragment(self)


# Before a run -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planned:
    """What a comparison with a base run could show, by task."""

    base: str
    keep: float
    tasks: dict[str, tuple[int, int, Sensitivity]]  # questions, samples, and what they can show

    def __str__(self) -> str:
        lines = [f"base: {self.base}", f"to show that {share(self.keep)} of its accuracy is kept:"]
        for task, (questions, samples, found) in self.tasks.items():
            lines += sensitivity_lines(task, questions, samples, found, self.keep)
        return "\n".join(lines)


# Export -------------------------------------------------------------------------------------------------


def _flat(row: Row, base: Cost, candidate: Cost) -> dict[str, object]:
    flat: dict[str, object] = {
        name: getattr(row, name) for name in ("task", "benchmark", "budget", "questions", "chance", "p_value")
    }
    for name in ("base", "candidate", "difference", "kept"):
        interval = getattr(row, name)
        parts = (None, None, None) if interval is None else interval
        flat |= dict(zip((name, f"{name}_low", f"{name}_high"), parts, strict=True))
    for name, cost in (("base", base), ("candidate", candidate)):
        flat |= {f"{name}_{what}": value for what, value in cost._asdict().items()}
    return flat


def _named(value: object) -> object:
    """Named tuples as objects, which `json` would write as lists."""
    if isinstance(value, Comparison):
        return {one.name: _named(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Traces):
        return {"benchmark": value.benchmark, "budgets": list(value.budgets), "questions": len(value.ids)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: _named(getattr(value, name)) for name in value._fields}
    if isinstance(value, (list, tuple)):
        return [_named(one) for one in value]
    return {str(key): _named(one) for key, one in value.items()} if isinstance(value, dict) else value
