"""Which results of two models can be compared: what must be equal, and what may differ but is told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.runs.run import Run, TaskResult

if TYPE_CHECKING:
    from lm_eval_ext.analysis.evaluated import EvaluatedModel, TaskScores

_OF_THE_BUDGET = ("thinking_token_budget", "max_gen_toks", "answer_token_budget")


class Difference(NamedTuple):
    """A property in which two runs differ."""

    what: str
    base: str
    candidate: str

    def __str__(self) -> str:
        return f"{self.what}: {self.base or 'not recorded'} and {self.candidate or 'not recorded'}"


def comparable_tasks(base: EvaluatedModel, candidate: EvaluatedModel) -> list[str]:
    """Tasks that both models have, in the order of the base."""
    return [name for name in base.tasks if name in candidate.tasks]


class Property(NamedTuple):
    """Something that two results must have in common, or that a reader should know if they don't.

    Attributes:
        what: its name.
        value: empty if it was not recorded.
        recorded: whether results in which it was not recorded, of older versions and stock model classes, count as
            having it in common.
    """

    what: str
    value: str
    recorded: bool = False


def refusals(one: TaskScores, other: TaskScores, allowed: Sequence[str] = ()) -> Iterator[Difference]:
    """Differences because of which the scores of a task cannot be compared.

    Args:
        one, other: of the base model and the candidate.
        allowed: `sampling` if the sampling parameters may differ.
    """
    pairs = zip(required(one.result, one.run), required(other.result, other.run), strict=True)
    return (found for pair in pairs if pair[0].what not in allowed for found in differing(*pair))


def required(task: TaskResult, run: Run) -> list[Property]:
    """What two results of a task must have in common to be compared."""
    budget = _arguments(task).get("answer_token_budget") or run.settings.get("answer_token_budget", "")
    return [
        *(Property(what, str(value(task))) for what, value in _TASK_MUST_EQUAL.items()),
        Property("protocol", run.settings.get("protocol", "default")),  # as of runs from before it was recorded
        Property("token-exactness", run.settings.get("token_exact", "True")),  # as in this process, like stock models
        *(Property(what, run.settings.get(name, ""), recorded=True) for what, name in _RUN_MUST_EQUAL.items()),
        Property("answer budget", budget, recorded=True),
        Property("sampling", _sampling(task)),
    ]


_TASK_MUST_EQUAL: Mapping[str, Callable[[TaskResult], object]] = {
    "questions": lambda task: task.question_set or f"{len(task.scores)} without hashes",
    "shots": lambda task: task.shots,
    "grader version": lambda task: task.graded_by or "",
    "metric": lambda task: task.score,
    "filter": lambda task: task.filter,
}
_RUN_MUST_EQUAL = {"stopping of loops": "stop_loops"}
_TOLD = {
    "thinking format": "thinking_format",
    "chat template": "chat_template",
    "tokenizer": "tokenizer",
    "device": "device",
    "thinking": "thinking",
}


def told(base: Run, candidate: Run) -> list[Difference]:
    """Differences that two models may have, and that a reader should know."""
    pairs = zip(properties(base), properties(candidate), strict=True)
    return [found for pair in pairs for found in differing(*pair)]


def properties(run: Run) -> list[Property]:
    """What two models may differ in, and a reader should know."""
    return [
        Property("engine", run.engine),
        Property("dtype", run.dtype),
        *(Property(what, run.settings.get(name, ""), recorded=True) for what, name in _TOLD.items()),
        Property("settings", "recorded" if run.settings else ""),
    ]


def differing(one: Property, other: Property) -> Iterator[Difference]:
    """The difference of two results in a property, if there is one."""
    unknown = one.recorded and not (one.value and other.value)
    if one.value != other.value and not unknown:
        yield Difference(one.what, one.value, other.value)


def _arguments(task: TaskResult) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=([^,]*)", task.sampling))


def _sampling(task: TaskResult) -> str:
    kept = {name: value for name, value in _arguments(task).items() if name not in _OF_THE_BUDGET}
    return ", ".join(f"{name}={value}" for name, value in sorted(kept.items()))
