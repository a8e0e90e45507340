"""What lm-eval registers: filters that find final answers, metrics that grade them.

A filter keeps every repeat (lm-eval's default keeps the first alone), so a metric sees all samples of a question;
`acc` is their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import lm_eval.api.metrics  # noqa: F401  # registers the aggregation `mean`
from lm_eval.api.filter import Filter
from lm_eval.api.registry import register_filter, register_metric

from lm_eval_ext.grading.equivalence import algebraically_equal, plainly_equal
from lm_eval_ext.grading.extract import choice_letter, final_answer
from lm_eval_ext.grading.pool import LONGEST_ANSWER, in_workers

TRACE = ("thinking_tokens", "answer_tokens", "forced", "looped")


class Answer(str):
    """A final answer that remembers how its text came about, where the text knows."""

    trace: dict[str, float] | None = None

    @classmethod
    def of(cls, output: str, extract: Callable[[str], str]) -> Answer:
        """The answer that `extract` finds in `output`."""
        answer = cls(extract(output))
        if all(hasattr(output, name) for name in TRACE):
            answer.trace = {name: float(getattr(output, name)) for name in TRACE}
        return answer


@register_filter("math_answer")
class MathAnswer(Filter):  # type: ignore[misc]  # lm-eval has no type information
    """The final answer of every sample: the last box after the thinking, or what is declared as the answer."""

    def apply(self, resps: Iterable[Sequence[str]], docs: Sequence[Any]) -> list[list[str]]:
        """Answers by question and sample; empty where a sample has none."""
        return [[Answer.of(output, final_answer) for output in samples] for samples in resps]


@register_filter("choice_answer")
class ChoiceAnswer(Filter):  # type: ignore[misc]
    """The letter that every sample chose."""

    def apply(self, resps: Iterable[Sequence[str]], docs: Sequence[Any]) -> list[list[str]]:
        """Letters by question and sample; empty where a sample has none."""
        return [[Answer.of(output, choice_letter) for output in samples] for samples in resps]


@register_metric(metric="math_verify", higher_is_better=True, aggregation="mean")  # type: ignore[untyped-decorator]
def math_verify(references: Sequence[object], predictions: Sequence[str | Sequence[str]], **_: Any) -> dict[str, float]:
    """`acc`: share of a question's answers that equal the gold one by Math-Verify; `answered`: that are there."""
    gold, answers = str(references[0]), _answers(predictions)
    return {"acc": _mean(_graded(gold, answers)), "answered": _mean([answer != "" for answer in answers])}


@register_metric(metric="choice_match", higher_is_better=True, aggregation="mean")  # type: ignore[untyped-decorator]
def choice_match(
    references: Sequence[object], predictions: Sequence[str | Sequence[str]], **_: Any
) -> dict[str, float]:
    """`acc`: share of a question's letters that are the gold one; `answered`: that are there."""
    letters = _answers(predictions)
    return {
        "acc": _mean([letter == references[0] for letter in letters]),
        "answered": _mean([letter != "" for letter in letters]),
    }


@register_metric(metric="trace_stats", higher_is_better=False, aggregation="mean")  # type: ignore[untyped-decorator]
def trace_stats(predictions: Sequence[str | Sequence[str]], **_: Any) -> dict[str, float]:
    """Means over a question's samples: `thinking_tokens`, `answer_tokens`, shares `forced` and `looped`.

    Nothing for texts of models that tell none of it.
    """
    traces = [getattr(answer, "trace", None) for answer in _answers(predictions)]
    known = [trace for trace in traces if trace]
    return {name: _mean([trace[name] for trace in known]) for name in TRACE} if len(known) == len(traces) else {}


def _answers(predictions: Sequence[str | Sequence[str]]) -> list[str]:
    samples = predictions[0]
    return [samples] if isinstance(samples, str) else list(samples)


def _graded(gold: str, answers: Sequence[str]) -> list[bool]:
    verdicts = {answer: plainly_equal(gold, answer) for answer in answers}
    open_ones = [answer for answer, verdict in verdicts.items() if verdict is None and len(answer) <= LONGEST_ANSWER]
    if open_ones:
        calls = [(gold, answer) for answer in open_ones]
        verdicts.update(zip(open_ones, in_workers(algebraically_equal, calls, otherwise=False), strict=True))
    return [bool(verdicts[answer]) for answer in answers]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
