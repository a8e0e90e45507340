"""Which results of two models can be compared: what must be equal, and what may differ but is told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from lm_eval_ext.analysis.evaluated import EvaluatedModel, TaskScores
from lm_eval_ext.runs.run import Run, TaskResult

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


def refusals(one: TaskScores, other: TaskScores, allowed: Sequence[str] = ()) -> Iterator[Difference]:
    """Differences because of which the scores of a task cannot be compared.

    Args:
        one, other: of the base model and the candidate.
        allowed: `sampling` if the sampling parameters may differ.
    """
    for what, value in _TASK_MUST_EQUAL.items():
        yield from _differing(what, value(one.result), value(other.result))
    # Runs from before protocols were recorded have the default one.
    yield from _differing("protocol", *(task.run.settings.get("protocol", "default") for task in (one, other)))
    for what, name in _RUN_MUST_EQUAL.items():
        yield from _if_known(what, one.run.settings.get(name, ""), other.run.settings.get(name, ""))
    yield from _if_known("answer budget", _answer_budget(one), _answer_budget(other))
    if "sampling" not in allowed:
        yield from _differing("sampling", _sampling(one.result), _sampling(other.result))


_TASK_MUST_EQUAL: Mapping[str, Callable[[TaskResult], object]] = {
    "questions": lambda task: task.question_set or f"{len(task.scores)} without hashes",
    "shots": lambda task: task.shots,
    "grader version": lambda task: task.graded_by or "",
    "metric": lambda task: task.score,
    "filter": lambda task: task.filter,
}
_RUN_MUST_EQUAL = {"token-exactness": "token_exact", "stopping of loops": "stop_loops"}
_TOLD = {
    "thinking format": "thinking_format",
    "chat template": "chat_template",
    "tokenizer": "tokenizer",
    "device": "device",
    "thinking": "thinking",
}


def told(base: Run, candidate: Run) -> list[Difference]:
    """Differences that two models may have, and that a reader should know."""
    found = [*_differing("engine", base.engine, candidate.engine), *_differing("dtype", base.dtype, candidate.dtype)]
    for what, name in _TOLD.items():
        found += _if_known(what, base.settings.get(name, ""), candidate.settings.get(name, ""))
    if bool(base.settings) != bool(candidate.settings):
        found.append(Difference("settings", *("recorded" if run.settings else "" for run in (base, candidate))))
    return found


def _differing(what: str, one: object, other: object) -> Iterator[Difference]:
    if one != other:
        yield Difference(what, str(one), str(other))


def _if_known(what: str, one: str, other: str) -> Iterator[Difference]:
    """A difference if both runs recorded the property; older runs and stock model classes don't."""
    if one and other:
        yield from _differing(what, one, other)


def _arguments(task: TaskResult) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=([^,]*)", task.sampling))


def _answer_budget(task: TaskScores) -> str:
    given = _arguments(task.result).get("answer_token_budget")
    return given or task.run.settings.get("answer_token_budget", "")


def _sampling(task: TaskResult) -> str:
    kept = {name: value for name, value in _arguments(task).items() if name not in _OF_THE_BUDGET}
    return ", ".join(f"{name}={value}" for name, value in sorted(kept.items()))
