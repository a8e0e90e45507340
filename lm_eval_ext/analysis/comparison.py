"""Intervals of published scores, and which differences between them are significant.

Runs on the same questions are compared question by question.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lm_eval_ext.analysis.answer_costs import Cost, cost_of
from lm_eval_ext.analysis.compare_text import Comparison, Planned
from lm_eval_ext.analysis.evaluated import EvaluatedModel, TaskScores, read_model, refusals
from lm_eval_ext.analysis.found_lost import lost_compared
from lm_eval_ext.analysis.matching import UNKNOWN, Mismatch, told
from lm_eval_ext.analysis.pairing import aligned
from lm_eval_ext.analysis.parts import PartCompared, parts_compared
from lm_eval_ext.analysis.regraded import is_regraded, with_regraded
from lm_eval_ext.analysis.rows import Judged, Row, gate_row, row_of, sensitivity, thinking_gains, voting_gains
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.runs.catalogue import Catalogue
from lm_eval_ext.runs.run import Run, TaskResult, accuracy_interval
from lm_eval_ext.statistics.gate import Verdict, gate
from lm_eval_ext.statistics.intervals import Interval, rerun_interval
from lm_eval_ext.statistics.paired import Bounded, correlation_of_moments, difference_bounds, holm, ratio_bounds

FEW_QUESTIONS = 60  # a benchmark up to this size may be the whole population, like the 30 questions of one AIME


def repeated_interval(task: TaskResult) -> Interval | None:
    """Accuracy with its interval for the same questions sampled again; None for many questions or one sample each."""
    every_sample_counts = task.benchmark.startswith("tts_")  # other filters may keep only the first
    if not (every_sample_counts and task.scores and task.repeats > 1 and task.questions <= FEW_QUESTIONS):
        return None
    return rerun_interval(task.scores, task.repeats)


class Difference(NamedTuple):
    """Mean difference of two results with its 95% interval; `paired` if over the same questions."""

    mean: float
    low: float
    high: float
    paired: bool


def difference(one: TaskResult, other: TaskResult) -> Difference:
    """Accuracy of `one` minus that of `other`."""
    low, high = _differences([one, other])
    return Difference(one.accuracy.value - other.accuracy.value, float(low[0, 1]), float(high[0, 1]), pairs(one, other))


def kept(one: TaskResult, base: TaskResult) -> Interval | None:
    """The share of the base's accuracy above chance; None if the base is not above chance, or chance is not known."""
    if base.guessing is None:
        return None
    ours, theirs = accuracy_interval(one), accuracy_interval(base)
    low, high = (float(end[0, 1]) for end in _ratios([one, base], base.guessing))
    if math.isnan(low):
        return None
    return Interval(max(0.0, (ours.estimate - base.guessing) / (theirs.estimate - base.guessing)), low, high)


def pairs(one: TaskResult, other: TaskResult) -> bool:
    """Whether both have scores on the same questions, by the same grader."""
    return bool(one.question_set) and _questions(one) == _questions(other) and len(one.scores) > 0


def _questions(task: TaskResult) -> tuple[str, int, int, int]:
    return task.question_set, len(task.scores), task.shots, task.graded_by or 0


class Rank(NamedTuple):
    """Best and worst rank compatible with the data: counts the models that are better or worse at the 95% level."""

    best: int
    worst: int


def ranks(tasks: Mapping[str, TaskResult]) -> dict[str, Rank]:
    """Ranks of several results of one benchmark; the same for results that cannot be told apart.

    Args:
        tasks: results by name, none of them partial.
    """
    names = list(tasks)
    better = _differences([tasks[name] for name in names])[0] > 0
    above, below = better.sum(axis=0), better.sum(axis=1)
    return {name: Rank(1 + int(above[index]), len(names) - int(below[index])) for index, name in enumerate(names)}


def _differences(tasks: Sequence[TaskResult]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both ends of the interval of i minus j, as arrays [i, j], for all pairs at once."""
    return difference_bounds(*_pairwise(tasks), _correlations(tasks))


def _ratios(tasks: Sequence[TaskResult], chance: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both ends of the interval of i over j, as arrays [i, j]."""
    return ratio_bounds(*_pairwise(tasks), _correlations(tasks), chance)


def _pairwise(tasks: Sequence[TaskResult]) -> tuple[Bounded, Bounded]:
    """Accuracies of i and of j, for arrays [i, j]."""
    mean, low, high = np.array([accuracy_interval(task) for task in tasks]).T
    return (mean[:, None], low[:, None], high[:, None]), (mean[None], low[None], high[None])


def _correlations(tasks: Sequence[TaskResult]) -> NDArray[np.float64]:
    """Correlations [i, j]; 0 for results on different questions."""
    found = np.zeros((len(tasks), len(tasks)))
    together: dict[tuple[str, int, int, int], list[int]] = defaultdict(list)
    for index, task in enumerate(tasks):
        if task.question_set and task.scores:
            together[_questions(task)].append(index)
    for indices in together.values():
        scores = np.array([tasks[index].scores for index in indices])
        mean, products = scores.mean(1), scores @ scores.T / scores.shape[1]
        square = np.diag(products)
        found[np.ix_(indices, indices)] = correlation_of_moments(
            mean[:, None], square[:, None], mean[None], square[None], products, questions=scores.shape[1]
        )
    return found


@dataclass(frozen=True)
class CompareOptions:
    """What to compare, and how strictly.

    Attributes:
        keep: the share of the base's accuracy that must be kept; None for no verdict.
        on: benchmarks to compare; all by default.
        all_budgets: whether every budget decides, and not only the largest.
        allow: what may differ, or not be recorded: names of requirements.
        same_prompts: refuse models with different templates, tokenizers or thinking formats.
        common: compare the questions that both have, however few, where they are paired by their texts.
        regrade: also grade the saved answers of both with our grader; these rows decide.
    """

    keep: float | None = None
    on: Sequence[str] = ()
    all_budgets: bool = False
    allow: Sequence[str] = ()
    same_prompts: bool = False
    common: bool = False
    regrade: bool = False


def compare(base: Path | Run, candidate: Path | Run, catalogue: Catalogue, options: CompareOptions) -> Comparison:
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
    models = [read_model(given, catalogue) for given in (base, candidate)]
    if options.regrade:
        models = [with_regraded(model) for model in models]
        options = replace(options, allow=(*options.allow, "grader"))
    one, other, left_out = aligned(models[0], models[1], common=options.common)
    names = _wanted(one, other, options)
    _refuse_unlike(one, other, names, options)
    differences = [*left_out, *_admitted(one, other, names), *told(one.run, other.run)]
    _refuse_other_prompts(differences, options)
    compared = [name for name in names if not one.tasks[name].result.votes]
    rows = tuple(row_of(one.tasks[name], other.tasks[name]) for name in compared)
    paired = [name for name in names if one.tasks[name].scores and other.tasks[name].scores]
    verdict, gated, kept_down_to = _judged(one, other, rows, options)
    return Comparison(
        base=one.label,
        candidate=other.label,
        keep=options.keep,
        rows=rows,
        costs={name: (_cost(one.tasks[name]), _cost(other.tasks[name])) for name in compared},
        verdict=verdict,
        gated=gated,
        kept_down_to=kept_down_to,
        gains=(*thinking_gains(one, other, paired), *voting_gains(one, other, paired)),
        lost=tuple(lost_compared(one, other, paired)),
        parts=tuple(part for row in _largest(rows) if row.paired for part in _parts(row.task, one, other)),
        told=tuple(differences),
    )


def _cost(task: TaskScores) -> Cost:
    return cost_of(task.mean, task.run.costs)


def _parts(name: str, one: EvaluatedModel, other: EvaluatedModel) -> Iterator[PartCompared]:
    base = one.tasks[name]
    return parts_compared(name, base.result, base.scores, other.tasks[name].scores)


def _wanted(base: EvaluatedModel, candidate: EvaluatedModel, options: CompareOptions) -> list[str]:
    names = [name for name in base.tasks if name in candidate.tasks]
    there = {base.tasks[name].result.benchmark for name in names}
    if missing := [name for name in options.on if name not in there]:
        raise ResultsError(
            f"on={missing[0]}: not a benchmark that both models were run on; expected: {', '.join(sorted(there))}"
        )
    lacking = sorted({task.result.benchmark for task in base.tasks.values()} - there)
    if options.keep is not None and not options.on and there and lacking:
        raise ResultsError(
            f"{candidate.label}: has no results of {lacking[0]}, which the base has, so there is no verdict; "
            f"evaluate it there, or say with --on which benchmarks decide: {', '.join(sorted(there))}"
        )
    found = [name for name in names if not options.on or base.tasks[name].result.benchmark in options.on]
    if not found:
        raise ResultsError(
            f"the models have no task in common; the base has: {', '.join(base.tasks)}; the candidate: "
            f"{', '.join(candidate.tasks)}"
        )
    return found


def _refuse_unlike(one: EvaluatedModel, other: EvaluatedModel, names: Sequence[str], options: CompareOptions) -> None:
    for name in names:
        for model in (one, other):
            if options.keep is not None and not model.tasks[name].scores:
                raise ResultsError(
                    f"{name}: the results of {model.label} have no samples, so questions cannot be paired, and means "
                    "alone give no verdict; run lm_eval with --log_samples, or compare without --keep"
                )
        differing = list(refusals(one.tasks[name], other.tasks[name], options.allow))
        if differing:
            raise ResultsError(f"{name}: cannot be compared, because of {'; '.join(map(str, differing))}")


def _admitted(one: EvaluatedModel, other: EvaluatedModel, names: Sequence[str]) -> list[Mismatch]:
    """Differences that would be refused if they weren't allowed; each once."""
    found = (difference for name in names for difference in refusals(one.tasks[name], other.tasks[name]))
    return list(dict.fromkeys(found))


def _refuse_other_prompts(differences: Sequence[Mismatch], options: CompareOptions) -> None:
    prompts = [one for one in differences if one.what in ("thinking format", "chat template", "tokenizer")]
    if options.same_prompts and prompts:
        raise ResultsError(f"the models got different prompts: {'; '.join(map(str, prompts))}")


# Verdict ------------------------------------------------------------------------------------------------


def _judged(
    one: EvaluatedModel, other: EvaluatedModel, rows: Sequence[Row], options: CompareOptions
) -> tuple[Verdict | None, tuple[Judged, ...], dict[str, int | None]]:
    keep = options.keep
    if keep is None:
        return None, (), {}
    rows = [row for row in rows if is_regraded(one.tasks[row.task])] if options.regrade else rows
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
    for row in rows:
        found.setdefault(row.benchmark, []).append(row)
    return {name: sorted(some, key=_size, reverse=True) for name, some in found.items()}


def _largest(rows: Sequence[Row]) -> list[Row]:
    return [some[0] for some in _by_benchmark(rows).values()]


def _kept_down_to(rows: Sequence[Row], keep: float) -> dict[str, int | None]:
    """Smallest budget reached by going down from the largest, in order, until one is not kept."""
    found: dict[str, int | None] = {}
    for benchmark, some in _by_benchmark(rows).items():
        for row in some:
            if row.kept is None or row.kept.low < keep or UNKNOWN in row.limit:
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
