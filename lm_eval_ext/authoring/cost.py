"""What an evaluation costs at most: the tokens that a task or group may generate, before it is run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.authoring.task_file import declared_task
from lm_eval_ext.errors import TaskError
from lm_eval_ext.generation.options import parse_options
from lm_eval_ext.generation.request import Sampling
from lm_eval_ext.runs.run import variant_of
from lm_eval_ext.runs.untrusted import mapping, sequence, whole

if TYPE_CHECKING:
    from rich.table import Table


ANSWER = 1024  # tokens of an answer after a budget that is used up; most need far fewer


class TaskCost(NamedTuple):
    """What the variants of a benchmark generate at most; equal samples of several variants share one trace.

    Attributes:
        benchmark: its name.
        budgets: thinking budgets asked for; None for no limit.
        questions: how many it has; None if its file doesn't say.
        samples: generations in all.
        tokens: at most; None if the number of questions is unknown.
        apart: the same, if each task had traces of its own.
    """

    benchmark: str
    budgets: Sequence[int | None]
    questions: int | None
    samples: int | None
    tokens: int | None
    apart: int | None


def costs(name: str) -> list[TaskCost]:
    """The costs of a task, or of the benchmarks in a group.

    Raises:
        TaskError: the task is not in the registry, or the group holds only tasks of lm-eval itself.
    """
    found = costs_of_tasks([name])
    if not found:
        raise TaskError(f"{name}: no task of this registry; `lm_eval ls tasks` lists all")
    return found


def costs_of_tasks(names: Sequence[str]) -> list[TaskCost]:
    """The costs of tasks and groups that are run together, by benchmark; tasks of lm-eval itself are left out."""
    found: dict[str, list[Mapping[str, object]]] = defaultdict(list)
    for name in names:
        for task in _tasks(name):
            found[variant_of(str(task["task"]))[0]].append(task)
    return [_cost(benchmark, tasks) for benchmark, tasks in found.items()]


def _tasks(name: str) -> Iterator[Mapping[str, object]]:
    """A task, or those in a group and the groups in it; tasks of lm-eval itself are left out."""
    fields = declared_task(name)
    if fields is None:
        return
    if "group" not in fields:
        yield fields
    else:
        for member in sequence(fields.get("task")):
            yield from _tasks(str(member))


def _cost(benchmark: str, tasks: Sequence[Mapping[str, object]]) -> TaskCost:
    questions = whole(mapping(tasks[0].get("metadata")).get("questions"))
    asked = [_asked(task) for task in tasks]
    samples = sum(one.repeats for one in asked)
    most = _traces(asked) + sum(one.repeats * one.answer for one in asked)
    apart = sum(one.repeats * (one.thinking + one.answer) for one in asked)
    known = None if questions is None else (questions * samples, questions * most, questions * apart)
    return TaskCost(benchmark, [one.budget for one in asked], questions, *(known or (None, None, None)))


def _traces(asked: Sequence[_Asked]) -> int:
    """Tokens of all traces of a question: the first sample of each variant is the same one, and so on."""
    longest: dict[tuple[Sampling, int], int] = {}
    for one in asked:
        for sample in range(one.repeats):
            key = one.sampling, sample
            longest[key] = max(longest.get(key, 0), one.thinking)
    return sum(longest.values())


class _Asked(NamedTuple):
    sampling: Sampling
    repeats: int
    budget: int | None
    thinking: int  # tokens at most; without a budget, with the answer
    answer: int


def _asked(task: Mapping[str, object]) -> _Asked:
    options = parse_options(dict(mapping(task.get("generation_kwargs"))), answer_budget=ANSWER, max_tokens=256)
    repeats, budget = whole(task.get("repeats")) or 1, options.thinking_budget
    if budget is None:
        return _Asked(options.sampling, repeats, None, options.max_tokens, 0)
    return _Asked(options.sampling, repeats, budget, budget, min(options.answer_budget or ANSWER, options.max_tokens))


def as_table(costs: Sequence[TaskCost]) -> Table:
    """One line for each benchmark."""
    from rich.table import Table

    table = Table("benchmark", "thinking budgets")
    for name in ("questions", "samples", "tokens at most"):
        table.add_column(name, justify="right")
    for one in costs:
        table.add_row(one.benchmark, _budgets(one), *map(_number, (one.questions, one.samples, one.tokens)))
    return table


def as_sentence(costs: Sequence[TaskCost], speed: float) -> str:
    """The whole in words: tokens and hours at a speed in tokens per second."""
    total = sum(one.tokens or 0 for one in costs)
    unknown = [one.benchmark for one in costs if one.tokens is None]
    text = (
        f"At most {total:,} tokens (budgets of one benchmark share their traces; {ANSWER:,} for each answer): "
        f"{total / speed / 3600:,.1f} hours at {speed:,.0f} tokens/s."
    )
    return f"{text} Not counted, as the number of questions is unknown: {', '.join(unknown)}." if unknown else text


def _budgets(cost: TaskCost) -> str:
    return ", ".join("none" if one is None else f"{one:,}" for one in cost.budgets)


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"
