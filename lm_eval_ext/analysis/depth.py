"""At which depth a model breaks: accuracy by number of steps, half-life, and the first step that goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from lm_eval_ext.analysis.compare_text import ranged, table
from lm_eval_ext.analysis.evaluated import EvaluatedModel, TaskScores
from lm_eval_ext.analysis.parts import parts_of
from lm_eval_ext.runs.samples import Sample
from lm_eval_ext.statistics.half_life import half_life
from lm_eval_ext.statistics.intervals import Interval
from lm_eval_ext.testbed import depth, problems

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
    steps = list(_checked(task, on_question))
    rows = []
    for part in parts_of(task.result):
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
    return f"{table(header, rows)}\n{said}"


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
