"""Scores of the parts of a benchmark: by the values of a column, such as a level, a subject or a number of steps.

Of a column with many numbers, neighbouring ones are put together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from lm_eval_ext.runs.run import TaskResult
from lm_eval_ext.statistics.intervals import Interval, mean_interval
from lm_eval_ext.statistics.paired import difference_interval

_MANY, _RANGES = 12, 8  # numbers from which on they are put into ranges, and how many of those


class Part(NamedTuple):
    """One part of a benchmark.

    Attributes:
        column, value: which questions belong to it.
        questions: number of questions.
        accuracy: with its 95% interval.
    """

    column: str
    value: str
    questions: int
    accuracy: Interval


def parts_of(task: TaskResult) -> Iterator[Part]:
    """Accuracy of each part; numbers in order of size, other values by name."""
    for column, by_value in _grouped(task).items():
        for value, indices in by_value.items():
            scores = [task.scores[index] for index in indices]
            yield Part(column, value, len(scores), mean_interval(scores))


def _grouped(task: TaskResult) -> Mapping[str, Mapping[str, Sequence[int]]]:
    """Indices of the questions by column and value."""
    found: dict[str, dict[str, list[int]]] = {}
    for column, values in task.parts.items():
        by_value: dict[str, list[int]] = {}
        for index, value in enumerate(values):
            by_value.setdefault(value, []).append(index)
        ordered = {value: by_value[value] for value in sorted(by_value, key=place_of)}
        found[column] = _ranges(ordered) if len(ordered) > _MANY and is_numeric(list(ordered)) else ordered
    return found


def _ranges(by_value: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Neighbouring numbers put together, with about as many questions in each range."""
    total = sum(map(len, by_value.values()))
    ranges: list[tuple[str, str, list[int]]] = []
    done = 0
    for value, indices in by_value.items():
        if ranges and done * _RANGES < total * len(ranges):
            first, _, before = ranges[-1]
            ranges[-1] = first, value, [*before, *indices]
        else:
            ranges.append((value, value, list(indices)))
        done += len(indices)
    return {first if first == last else f"{first} to {last}": indices for first, last, indices in ranges}


def place_of(value: str) -> tuple[bool, float, str]:
    """Sort key of a part's value: numbers and ranges by size, then texts.

    >>> sorted(["10 to 12", "9", "algebra"], key=place_of)
    ['9', '10 to 12', 'algebra']
    """
    first = _NUMBER.fullmatch(value)
    return (False, float(first[1]), value) if first else (True, 0.0, value)


_NUMBER = re.compile(r"(-?\d{1,15}(?:\.\d{1,15})?)(?: to -?\d{1,15}(?:\.\d{1,15})?)?")


def is_numeric(values: Sequence[str]) -> bool:
    """Whether all values are numbers, which can be an axis."""
    return bool(values) and not any(place_of(value)[0] for value in values)


class PartCompared(NamedTuple):
    """Two models on one part of a benchmark; the difference is candidate less base, over the same questions."""

    task: str
    column: str
    value: str
    questions: int
    base: Interval
    candidate: Interval
    difference: Interval


def parts_compared(
    name: str, base: TaskResult, scores: Sequence[float], candidate: Sequence[float]
) -> Iterator[PartCompared]:
    """Compare two models part by part.

    Args:
        name: of the task.
        base: the base's result, which says which question belongs to which part.
        scores, candidate: of the base and the candidate, over the same questions in the same order.
    """
    for column, by_value in _grouped(base).items():
        for value, indices in by_value.items():
            ours, theirs = ([some[index] for index in indices] for some in (candidate, scores))
            yield PartCompared(
                name, column, value, len(ours), mean_interval(theirs), mean_interval(ours),
                difference_interval(ours, theirs),
            )  # fmt: skip
