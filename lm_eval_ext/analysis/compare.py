"""Compares a smaller model with its base: does it still reason, and does more thinking still help?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_ext.analysis.compare_text import Comparison, Planned
from lm_eval_ext.analysis.costs import cost_of
from lm_eval_ext.analysis.evaluated import EvaluatedModel, comparable_tasks, read_model, refusals
from lm_eval_ext.analysis.found_lost import lost_compared
from lm_eval_ext.analysis.matching import Difference, told
from lm_eval_ext.analysis.parts import PartCompared, parts_compared
from lm_eval_ext.analysis.rows import Judged, Row, gate_row, row_of, sensitivity, thinking_gains, voting_gains
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.runs.catalogue import Catalogue
from lm_eval_ext.runs.run import Run
from lm_eval_ext.statistics.gate import Verdict, gate
from lm_eval_ext.statistics.paired import holm

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Options:
    """What to compare, and how strictly.

    Attributes:
        keep: the share of the base's accuracy that must be kept; None for no verdict.
        on: benchmarks to compare; all by default.
        all_budgets: whether every budget decides, and not only the largest.
        allow: `sampling` if the sampling parameters may differ.
        same_prompts: refuse models with different templates, tokenizers or thinking formats.
    """

    keep: float | None = None
    on: Sequence[str] = ()
    all_budgets: bool = False
    allow: Sequence[str] = ()
    same_prompts: bool = False


def compare(base: Path | Run, candidate: Path | Run, catalogue: Catalogue, options: Options) -> Comparison:
    """Compare two models.

    Args:
        base, candidate: folder of results of one model, results file, or published run; or a run in memory, whose
            scores by question count, but which has no texts.
        catalogue: which metric is the accuracy of a benchmark.
        options: what to compare.

    Raises:
        ResultsError: a path holds no results or several models, or the results can't be compared; the message says in
            what they differ.
    """
    one, other = read_model(base, catalogue), read_model(candidate, catalogue)
    names = _wanted(comparable_tasks(one, other), one, other, options)
    _refuse_unlike(one, other, names, options)
    differences = told(one.run, other.run)
    _refuse_other_prompts(differences, options)
    compared = [name for name in names if not one.tasks[name].result.votes]
    rows = tuple(row_of(one.tasks[name], other.tasks[name]) for name in compared)
    verdict, gated, kept_down_to = _judged(one, other, rows, options)
    return Comparison(
        base=one.label,
        candidate=other.label,
        keep=options.keep,
        rows=rows,
        costs={name: (cost_of(one.tasks[name]), cost_of(other.tasks[name])) for name in compared},
        verdict=verdict,
        gated=gated,
        kept_down_to=kept_down_to,
        gains=(*thinking_gains(one, other, names), *voting_gains(one, other, names)),
        lost=tuple(lost_compared(one, other, names)),
        parts=tuple(part for row in _largest(rows) for part in _parts(row.task, one, other)),
        told=tuple(differences),
    )


def _parts(name: str, one: EvaluatedModel, other: EvaluatedModel) -> Iterator[PartCompared]:
    base = one.tasks[name]
    return parts_compared(name, base.result, base.scores, other.tasks[name].scores)


def _wanted(names: Sequence[str], base: EvaluatedModel, candidate: EvaluatedModel, options: Options) -> list[str]:
    there = {base.tasks[name].result.benchmark for name in names}
    if missing := [name for name in options.on if name not in there]:
        raise ResultsError(
            f"on={missing[0]}: not a benchmark that both models were run on; expected: {', '.join(sorted(there))}"
        )
    found = [name for name in names if not options.on or base.tasks[name].result.benchmark in options.on]
    if not found:
        raise ResultsError(
            f"the models have no task in common; the base has: {', '.join(base.tasks)}; the candidate: "
            f"{', '.join(candidate.tasks)}"
        )
    return found


def _refuse_unlike(one: EvaluatedModel, other: EvaluatedModel, names: Sequence[str], options: Options) -> None:
    for name in names:
        for model in (one, other):
            if not model.tasks[name].scores:
                raise ResultsError(
                    f"{name}: the results of {model.label} have no samples, so questions cannot be paired; run lm_eval "
                    "with --log_samples"
                )
        differing = list(refusals(one.tasks[name], other.tasks[name], options.allow))
        if differing:
            raise ResultsError(f"{name}: cannot be compared, because of {'; '.join(map(str, differing))}")


def _refuse_other_prompts(differences: Sequence[Difference], options: Options) -> None:
    prompts = [one for one in differences if one.what in ("thinking format", "chat template", "tokenizer")]
    if options.same_prompts and prompts:
        raise ResultsError(f"the models got different prompts: {'; '.join(map(str, prompts))}")


# Verdict ------------------------------------------------------------------------------------------------


def _judged(
    one: EvaluatedModel, other: EvaluatedModel, rows: Sequence[Row], options: Options
) -> tuple[Verdict | None, tuple[Judged, ...], dict[str, int | None]]:
    keep = options.keep
    if keep is None:
        return None, (), {}
    gated = list(rows) if options.all_budgets else _largest(rows)
    decided = gate([gate_row(one.tasks[row.task], other.tasks[row.task]) for row in gated], keep)
    corrected = holm([row.p_value for row in gated])
    judged = tuple(
        Judged(row, verdict, p_value, sensitivity(one.tasks[row.task], other.tasks[row.task], keep))
        for row, verdict, p_value in zip(gated, decided.rows, corrected, strict=True)
    )
    return decided.verdict, judged, _kept_down_to(rows, keep)


def _size(row: Row) -> float:
    return float("inf") if row.budget is None else row.budget


def _by_benchmark(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by benchmark, largest budget first."""
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=_size, reverse=True):
        found.setdefault(row.benchmark, []).append(row)
    return {name: found[name] for name in dict.fromkeys(row.benchmark for row in rows)}


def _largest(rows: Sequence[Row]) -> list[Row]:
    return [some[0] for some in _by_benchmark(rows).values()]


def _kept_down_to(rows: Sequence[Row], keep: float) -> dict[str, int | None]:
    """Smallest budget reached by going down from the largest, in order, until one is not kept."""
    found: dict[str, int | None] = {}
    for benchmark, some in _by_benchmark(rows).items():
        for row in some:
            if row.kept is None or row.kept.low < keep:
                break
            found[benchmark] = row.budget
    return found


def planned(base: Path, catalogue: Catalogue, keep: float) -> Planned:
    """What a comparison with an equally good model could show, from a base run alone.

    Raises:
        ResultsError: the path holds no results with samples, or those of several models.
    """
    model = read_model(base, catalogue)
    tasks = {name: task for name, task in model.tasks.items() if task.scores and not task.result.votes}
    if not tasks:
        raise ResultsError(f"{base}: has no samples; run lm_eval with --log_samples")
    return Planned(
        model.label,
        keep,
        {name: (len(task.scores), task.samples, sensitivity(task, None, keep)) for name, task in tasks.items()},
    )
