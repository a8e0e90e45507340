"""Found, then lost: whether a model that thinks further talks itself out of the right answer.

The budgets of a sample are cuts of one trace, so it is known at which of them the right answer stood.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from lm_eval_ext.analysis.evaluated import EvaluatedModel, TaskScores
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.runs.samples import Grade, Output, Sample
from lm_eval_ext.statistics.intervals import Floats, Interval, mean_interval, share_interval
from lm_eval_ext.statistics.paired import difference_interval
from lm_eval_ext.thinking_formats import thinking_of
from lm_eval_ext.wording import limit


class Traces(NamedTuple):
    """The traces of one benchmark, cut at several budgets.

    Attributes:
        benchmark: name of the benchmark.
        budgets: ascending; None for no limit, at the end.
        ids: of the questions.
        right: whether the answer at each budget is right, [questions, samples, budgets].
    """

    benchmark: str
    budgets: tuple[int | None, ...]
    ids: tuple[int, ...]
    right: Floats


class FoundLost(NamedTuple):
    """What became of right answers, as shares of all samples with 95% intervals over questions.

    Attributes:
        traces: the traces.
        found: right at some budget.
        kept: right at the largest budget.
        late: right at the largest budget only.
        lost: right at some budget, but not at the largest.
        lost_of_found: share of the found ones that are lost; None if none was found.
        by_chance: `lost` if the answers at different budgets had nothing to do with each other: each budget's answers
            dealt anew among the samples of a question.
        turned_wrong, turned_right: changes from one budget to the next, per sample.
        anytime: accuracy averaged over budgets on a logarithmic scale; None for a single budget.
    """

    traces: Traces
    found: Interval
    kept: Interval
    late: Interval
    lost: Interval
    lost_of_found: Interval | None
    by_chance: float
    turned_wrong: Interval
    turned_right: Interval
    anytime: Interval | None


def found_lost(traces: Traces) -> FoundLost:
    """Count what became of right answers.

    >>> right = np.array([[[1.0, 0.0], [1.0, 1.0]], [[0.0, 1.0], [0.0, 0.0]]])
    >>> counted = found_lost(Traces("b", (8, 64), (0, 1), right))
    >>> counted.found.estimate, counted.lost.estimate, counted.late.estimate
    (0.75, 0.25, 0.25)
    """
    right = traces.right
    found, kept = right.max(2), right[..., -1]
    lost = found * (1 - kept)
    late = kept * (1 - right[..., :-1].max(2, initial=0.0))
    steps = np.diff(right, axis=2)
    return FoundLost(
        traces=traces,
        found=mean_interval(list(found.mean(1))),
        kept=mean_interval(list(kept.mean(1))),
        late=mean_interval(list(late.mean(1))),
        lost=mean_interval(list(lost.mean(1))),
        lost_of_found=share_interval(list(lost.mean(1)), list(found.mean(1))) if found.any() else None,
        by_chance=lost_by_chance(right),
        turned_wrong=_per_sample(steps, -1),
        turned_right=_per_sample(steps, 1),
        anytime=_anytime(traces),
    )


def _per_sample(steps: Floats, sign: int) -> Interval:
    """Changes of one kind per sample; at most one for each pair of budgets."""
    pairs = steps.shape[2]
    if pairs == 0:
        return Interval(0.0, 0.0, 0.0)
    estimate, low, high = mean_interval(list((steps == sign).mean((1, 2))))
    return Interval(estimate * pairs, low * pairs, high * pairs)


def lost_by_chance(right: Floats) -> float:
    """Share of right answers that would be found and lost by chance; `right` is [questions, samples, budgets]."""
    accuracy = right.mean(1)  # [questions, budgets]
    earlier = 1 - (1 - accuracy[:, :-1]).prod(1)
    return float((earlier * (1 - accuracy[:, -1])).mean())


def _anytime(traces: Traces) -> Interval | None:
    limited = [(budget, column) for column, budget in enumerate(traces.budgets) if budget is not None]
    if len(limited) < 2:
        return None
    places = [math.log2(budget) for budget, _ in limited]
    weights = np.zeros(len(places))
    for at in range(len(places) - 1):  # trapezoids
        weights[at : at + 2] += (places[at + 1] - places[at]) / 2
    weights /= places[-1] - places[0]
    columns = [column for _, column in limited]
    return mean_interval(list(traces.right.mean(1)[:, columns] @ weights))


class LostCompared(NamedTuple):
    """Two models on the same benchmark: what became of right answers, and the difference of `lost` over all samples."""

    base: FoundLost
    candidate: FoundLost
    difference: Interval


def lost_compared(
    base: EvaluatedModel, candidate: EvaluatedModel, tasks: Sequence[str]
) -> Iterator[LostCompared | str]:
    """Both models on each benchmark with several budgets; a sentence where nothing can be told."""
    for one, other in zip(traces_of(base, tasks), traces_of(candidate, tasks), strict=True):
        if isinstance(one, str):
            yield one
        elif isinstance(other, str):
            yield f"candidate: {other}"
        else:
            first, second = found_lost(one), found_lost(other)
            lost = [_lost(some.traces) for some in (second, first)]
            yield LostCompared(first, second, difference_interval(*lost))


def _lost(traces: Traces) -> list[float]:
    return list((traces.right.max(2) * (1 - traces.right[..., -1])).mean(1))


# Traces -------------------------------------------------------------------------------------------------


def traces_of(model: EvaluatedModel, tasks: Sequence[str]) -> Iterator[Traces | str]:
    """The traces of each benchmark with several budgets; a sentence where they can't be told."""
    for benchmark, names in with_budgets(model, tasks).items():
        try:
            yield _traces(benchmark, [model.tasks[name] for name in names])
        except ValueError as error:
            yield f"{benchmark}: {error}"


def with_budgets(model: EvaluatedModel, tasks: Sequence[str], least: int = 2) -> Mapping[str, list[str]]:
    """Tasks without votes by benchmark, smallest budget first; only benchmarks with `least` of them."""
    found: dict[str, list[str]] = {}
    for name in tasks:
        if not model.tasks[name].result.votes:
            found.setdefault(model.tasks[name].result.benchmark, []).append(name)
    ordered = {
        benchmark: sorted(names, key=lambda name: model.tasks[name].result.budget or math.inf)
        for benchmark, names in found.items()
    }
    return {benchmark: names for benchmark, names in ordered.items() if len(names) >= least}


def _traces(benchmark: str, tasks: Sequence[TaskScores]) -> Traces:
    if len({task.result.question_set for task in tasks}) > 1 or len({len(task.sources) for task in tasks}) > 1:
        raise ValueError(
            "its budgets were run on other questions or with other seeds, so they are not cuts of one trace"
        )
    blocks, ids = [], tasks[0].ids
    for source, *rows in zip(tasks[0].sources, *(task.rows() for task in tasks), strict=True):
        if not all(rows):
            raise ValueError("no samples were saved, so nothing can be told about traces")
        by_question = [rights(some, source.run.thinking_format) for some in zip(*rows, strict=True)]
        blocks.append(np.array(by_question, dtype=np.float64))
    budgets = tuple(task.result.budget for task in tasks)
    return Traces(benchmark, budgets, ids, np.concatenate(blocks, axis=1))


def rights(rows: Sequence[Sample], thinking_format: str = "") -> list[list[bool]]:
    """Whether each sample of a question is right at each budget, [samples, budgets].

    Raises:
        ValueError: the samples are not cuts of one trace; the message says why.
    """
    if len({len(row.outputs) for row in rows}) > 1 or not rows[0].outputs:
        raise ValueError("the samples of its budgets don't correspond, so nothing can be told about traces")
    if any(output.text is None for row in rows for output in row.outputs):
        raise ValueError("no texts were saved, because it is gated, so nothing can be told about traces")
    samples = list(zip(*(row.outputs for row in rows), strict=True))
    for outputs in samples:
        if not cuts_of_one_trace(outputs, thinking_format):
            raise ValueError(
                "the texts at smaller budgets are not the beginnings of those at larger ones (another engine, or "
                "separate runs), so nothing can be told about traces"
            )
    return [[output.grade == "correct" for output in outputs] for outputs in samples]


def cuts_of_one_trace(outputs: Sequence[Output], thinking_format: str = "") -> bool:
    """Whether the text of each output begins with the thinking of the one before."""
    texts = [output.text for output in outputs if output.text is not None]
    return len(texts) == len(outputs) and all(
        longer.startswith(thinking_of(shorter, thinking_format).rstrip("\ufffd"))  # a cut may split a character
        for shorter, longer in pairwise(texts)
    )


class TraceCut(NamedTuple):
    """A trace at one budget.

    Attributes:
        budget: in words.
        thinking: what was thought since the previous budget.
        answer: the answer at this budget; None if there is none.
        grade: of the answer.
    """

    budget: str
    thinking: str
    answer: str | None
    grade: Grade


class ShownTrace(NamedTuple):
    """How a model thought about a question."""

    benchmark: str
    question: int
    sample: int
    prompt: str
    gold: str
    cuts: tuple[TraceCut, ...]


def trace_of(model: EvaluatedModel, question: int, sample: int, benchmark: str = "") -> ShownTrace:
    """The trace of one sample.

    Args:
        model: the evaluated model.
        question: id of the question.
        sample: number of the sample.
        benchmark: its name; may be left out if the model was run on one only.

    Raises:
        ResultsError: there is no such benchmark, question or sample, or no texts were saved.
    """
    name, tasks = _tasks(model, benchmark)
    rows = [_row(model, task, question) for task in tasks]
    samples = min(len(row.outputs) for row in rows)
    if not 0 <= sample < samples:
        raise ResultsError(f"sample={sample}: question {question} of {name} has {samples} samples, numbered from 0")
    outputs = [row.outputs[sample] for row in rows]
    if any(output.text is None for output in outputs):
        raise ResultsError(f"{name}: no texts were saved, because it is gated or does not generate text")
    budgets = [limit(model.tasks[task].result.budget) for task in tasks]
    cuts = _cuts(budgets, outputs, model.tasks[tasks[0]].run.thinking_format)
    return ShownTrace(name, question, sample, rows[0].prompt or "", rows[0].gold or "", cuts)


def _tasks(model: EvaluatedModel, benchmark: str) -> tuple[str, list[str]]:
    every = with_budgets(model, list(model.tasks), least=1)
    if benchmark and benchmark not in every:
        raise ResultsError(f"on={benchmark}: not in these results; expected one of: {', '.join(every)}")
    if not benchmark and len(every) != 1:
        raise ResultsError(f"several benchmarks; name one with --on: {', '.join(every)}")
    name = benchmark or next(iter(every))
    return name, every[name]


def _row(model: EvaluatedModel, task: str, question: int) -> Sample:
    rows = model.tasks[task].rows()[0]
    if not rows:
        raise ResultsError(f"{task}: has no samples; run lm_eval with --log_samples")
    found = next((row for row in rows if row.id == question), None)
    if found is None:
        raise ResultsError(
            f"question={question}: {task} has no such question; its ids are {rows[0].id} to {rows[-1].id}"
        )
    return found


def _cuts(budgets: Sequence[str], outputs: Sequence[Output], thinking_format: str) -> tuple[TraceCut, ...]:
    """The cuts with what is new in each; whole texts if they are not cuts of one trace."""
    one_trace = cuts_of_one_trace(outputs, thinking_format)
    cuts, before = [], ""
    for budget, output in zip(budgets, outputs, strict=True):
        thinking = thinking_of(output.text or "", thinking_format)
        new = thinking[len(before) :] if one_trace else thinking
        cuts.append(TraceCut(budget, new, output.answer, output.grade))
        before = thinking if one_trace else ""
    return tuple(cuts)
