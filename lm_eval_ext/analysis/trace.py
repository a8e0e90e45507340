"""One trace of a model, cut at each budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lm_eval_ext.analysis.evaluated import EvaluatedModel
from lm_eval_ext.analysis.found_lost import cuts_of_one_trace, with_budgets
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.runs.samples import Grade, Output, Sample
from lm_eval_ext.thinking_formats import thinking_of


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


class Trace(NamedTuple):
    """How a model thought about a question."""

    benchmark: str
    question: int
    sample: int
    prompt: str
    gold: str
    cuts: tuple[TraceCut, ...]


def trace_of(model: EvaluatedModel, question: int, sample: int, benchmark: str = "") -> Trace:
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
    budgets = [_budget(model.tasks[task].result.budget) for task in tasks]
    cuts = _cuts(budgets, outputs, model.tasks[tasks[0]].run.thinking_format)
    return Trace(name, question, sample, rows[0].prompt or "", rows[0].gold or "", cuts)


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


def _budget(budget: int | None) -> str:
    return "no limit" if budget is None else f"{budget:,} tokens"


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
