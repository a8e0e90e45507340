"""Registers our filters, metrics and aggregations with lm-eval.

Our filters keep every repeat (lm-eval's default only keeps the first), so metrics see all samples of a question.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

import lm_eval.api.metrics  # noqa: F401  # registers `mean`, which our metrics use
from lm_eval.api.filter import Filter
from lm_eval.api.registry import register_aggregation, register_filter, register_metric

from lm_eval_ext.grading import kinds
from lm_eval_ext.grading.kinds import extractor
from lm_eval_ext.grading.rules import Answer
from lm_eval_ext.metrics import AGGREGATIONS, METRICS, Metric


class _AnswerFilter(Filter):  # type: ignore[misc]  # lm-eval has no type information
    """Extracts the answers of all samples by question, empty if a sample has none; its options are the extractor's."""

    NAME: ClassVar[str]

    def __init__(self, **options: object) -> None:
        self.extractor = extractor(self.NAME, options)

    def apply(self, resps: Iterable[Sequence[str]], docs: Sequence[object]) -> list[list[Answer]]:
        """Answers by question and sample."""
        return self.extractor.answers([list(samples) for samples in resps], docs)


def _filter(name: str) -> type[Filter]:
    """The filter of an extractor, registered with lm-eval."""
    about = str(kinds.FILTERS[name].__doc__)
    made = type(f"{name.title().replace('_', '')}", (_AnswerFilter,), {"NAME": name, "__doc__": about})
    registered: type[Filter] = register_filter(name)(made)
    return registered


def _here(function: Callable[..., object], name: str) -> Callable[..., object]:
    """A function that says it is of this module, where entry points name it; else lm-eval takes it for another one."""

    @functools.wraps(function)
    def same(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    same.__module__, same.__name__ = __name__, name
    return same


def register(metric: Metric) -> None:
    """Register a metric with lm-eval."""
    decorate = register_metric(
        metric=metric.name, higher_is_better=metric.higher_is_better, aggregation=metric.aggregation
    )
    decorate(_NAMED.setdefault(metric.name, _here(metric.function, metric.name)))


_NAMED: dict[str, Callable[..., object]] = {}  # metrics and aggregations, as they are registered
for _name in ("share_compared", "share_failed", "ci95_low", "ci95_high"):
    _NAMED[_name] = register_aggregation(_name)(_here(AGGREGATIONS[_name], _name))
for _metric in METRICS:
    register(_metric)
FILTERS = {name: _filter(name) for name in kinds.FILTERS}


def __getattr__(name: str) -> object:
    """What entry points name: `text_match`, `TextAnswer`."""
    if name in _NAMED:
        return _NAMED[name]
    found = next((one for one in FILTERS.values() if one.__name__ == name), None)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found
