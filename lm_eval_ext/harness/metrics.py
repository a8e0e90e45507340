"""Registers our filters, metrics and aggregations with lm-eval.

Our filters keep every repeat (lm-eval's default only keeps the first), so metrics see all samples of a question.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import lm_eval.api.metrics  # noqa: F401  # registers `mean`, which our metrics use
from lm_eval.api.filter import Filter
from lm_eval.api.registry import register_aggregation, register_filter, register_metric

from lm_eval_ext.grading.answers import FINDERS, Answer, check_options
from lm_eval_ext.grading.metrics import (  # entry points name them here, where they are registered
    AGGREGATIONS,
    METRICS,
    Metric,
    choice_match,
    ci95_high,
    ci95_low,
    math_graded,
    math_verify,
    share_compared,
    trace_stats,
)

__all__ = [
    "ChoiceAnswer",
    "MathAnswer",
    "choice_match",
    "ci95_high",
    "ci95_low",
    "math_graded",
    "math_verify",
    "share_compared",
    "trace_stats",
]


class _AnswerFilter(Filter):  # type: ignore[misc]  # lm-eval has no type information
    """Extracts the answers of all samples by question, empty if a sample has none; same options as the function."""

    NAME: ClassVar[str]

    def __init__(self, **options: object) -> None:
        check_options(self.NAME, options)
        self.options = options

    def apply(self, resps: Iterable[Sequence[str]], docs: Sequence[object]) -> list[list[Answer]]:
        """Answers by question and sample."""
        return FINDERS[self.NAME]([list(samples) for samples in resps], docs, **self.options)


@register_filter("math_answer")
class MathAnswer(_AnswerFilter):
    """The final answer of every sample; see `math_answers`."""

    NAME = "math_answer"


@register_filter("choice_answer")
class ChoiceAnswer(_AnswerFilter):
    """The letter that every sample chose; see `choice_answers`."""

    NAME = "choice_answer"


def register(metric: Metric) -> None:
    """Register a metric with lm-eval."""
    decorate = register_metric(
        metric=metric.name, higher_is_better=metric.higher_is_better, aggregation=metric.aggregation
    )
    decorate(metric.function)


for _name in ("share_compared", "ci95_low", "ci95_high"):
    register_aggregation(_name)(AGGREGATIONS[_name])
for _metric in METRICS:
    register(_metric)
