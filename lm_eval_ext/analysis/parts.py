"""Scores of the parts of a benchmark: by the values of a column, such as a level, a subject or a number of steps.

Of a column with many numbers, neighbouring ones are put together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from lm_eval_ext.analysis.evaluated import EvaluatedModel, TaskScores
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.runs.run import TaskResult
from lm_eval_ext.runs.samples import Sample
from lm_eval_ext.statistics.estimators import half_life
from lm_eval_ext.statistics.intervals import Interval, mean_interval
from lm_eval_ext.statistics.paired import difference_interval
from lm_eval_ext.testbed import depth, problems
from lm_eval_ext.wording import ranged, text_table

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


COLUMN = "steps"


class DepthRow(NamedTuple):
    """Problems of one depth, or of a range of depths.

    Attributes:
        steps: as in the task's column.
        questions: number of questions.
        accuracy: with its interval.
        sound: share of samples that state every step, all right; None if the steps cannot be checked.
        first_wrong: median of the first wrong or missing step, as a share of all steps; None without such samples.
    """

    steps: str
    questions: int
    accuracy: Interval
    sound: float | None
    first_wrong: float | None


class TaskDepth(NamedTuple):
    """One task.

    Attributes:
        task: its name.
        rows: by depth, the shallow ones first.
        chance: the score of guessing.
        half_life: the number of steps after which half of what is above chance is left; None if it can't be measured.
    """

    task: str
    rows: tuple[DepthRow, ...]
    chance: float
    half_life: Interval | None


@dataclass(frozen=True)
class Depths:
    """All tasks of a model that have a column `steps`."""

    model: str
    tasks: tuple[TaskDepth, ...]

    def __str__(self) -> str:
        return "\n\n".join([self.model, *map(_text, self.tasks)])


def depths(model: EvaluatedModel, on_question: Callable[[], object] = lambda: None) -> Depths:
    """Measure at which depth a model breaks.

    Args:
        model: the evaluated model.
        on_question: called after each question whose steps were checked.
    """
    found = [_of_task(task, on_question) for task in model.tasks.values() if COLUMN in task.result.parts]
    return Depths(model.label, tuple(found))


def _of_task(task: TaskScores, on_question: Callable[[], object]) -> TaskDepth:
    values = task.result.parts[COLUMN]
    if wrong := next((value for value in values if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value)), None):
        raise ResultsError(f"{task.name}: parts.{COLUMN}={wrong!r}; expected numbers of steps")
    steps = list(_checked(task, on_question))
    rows = []
    for part in parts_of(task.result.model_copy(update={"scores": task.scores})):  # with the samples of all seeds
        if part.column == COLUMN:
            inside = [one for one, of in zip(steps, values, strict=False) if _covers(part.value, of)]
            rows.append(_row(part.value, part.questions, part.accuracy, [one for some in inside for one in some]))
    chance = task.result.guessing or 0.0
    life = half_life([float(steps) for steps in values], task.scores, chance=chance)
    return TaskDepth(task.name, tuple(rows), chance, life)


def _covers(part: str, steps: str) -> bool:
    first, _, last = part.partition(" to ")
    return float(first) <= float(steps) <= float(last or first)


def _checked(task: TaskScores, on_question: Callable[[], object]) -> Iterator[list[tuple[int | None, int]]]:
    """For each question, the first wrong step of every sample (None if all are right) and the number of steps."""
    for rows in zip(*task.rows(), strict=True):
        yield [one for row in rows for one in _of_question(row)]
        on_question()


def _of_question(row: Sample) -> Iterator[tuple[int | None, int]]:
    problem = checked(row.prompt or "")
    if problem is not None:
        yield from ((problem.first_wrong(output.text or ""), problem.steps) for output in row.outputs)


def _row(steps: str, questions: int, accuracy: Interval, found: Sequence[tuple[int | None, int]]) -> DepthRow:
    wrong = [step / of for step, of in found if step is not None]
    sound = 1 - len(wrong) / len(found) if found else None
    return DepthRow(steps, questions, accuracy, sound, median(wrong) if wrong else None)


def _text(task: TaskDepth) -> str:
    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f}"

    rows = [
        (row.steps, str(row.questions), ranged(row.accuracy), share(row.sound), share(row.first_wrong))
        for row in task.rows
    ]
    header = (f"{task.task}, steps", "questions", "accuracy, %", "all steps right, %", "first wrong, % of the way")
    life = task.half_life
    said = "half-life: not measurable"
    if life is not None:
        said = f"half-life: {life.estimate:.0f} steps ({life.low:.0f} to {life.high:.0f})"
    return f"{text_table(header, rows)}\n{said}"


class Checked(NamedTuple):
    """A problem whose steps can be checked.

    Attributes:
        steps: how many it has.
        first_wrong: of what a model wrote, the first step that is wrong or missing, from 1; None if all are right.
    """

    steps: int
    first_wrong: Callable[[str], int | None]


def checked(prompt: str) -> Checked | None:
    """The problem in a prompt: one of any depth, or a chain of the embedded model's; None for any other.

    >>> chain = checked("Compute from left to right, modulo 10, and put the result in \\\\boxed{}: 7+5*3")
    >>> chain.steps, chain.first_wrong("7+5=2*3=6"), chain.first_wrong("7+5=2*3=5")
    (2, None, 2)
    """
    if states := depth.states(prompt):
        return Checked(len(states), lambda written: depth.first_wrong(written, states))
    if values := problems.chain_values(prompt):
        return Checked(len(values), lambda written: problems.first_wrong_in_chain(written, values))
    return None
