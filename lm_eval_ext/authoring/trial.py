"""A few questions of a benchmark as the model sees them, its outputs, and how they are graded."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.authoring.task_registry import Tasks
from lm_eval_ext.errors import ResultsError, TaskError
from lm_eval_ext.generation.request import Sampling, asks_for_thinking, parse_options
from lm_eval_ext.paths import json_object
from lm_eval_ext.redaction import mapping, whole
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import read_source
from lm_eval_ext.runs.run import variant_of
from lm_eval_ext.runs.samples import Sample

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


LONGEST = 1_200  # characters shown of a prompt or an output
_STYLES = {"correct": "green", "wrong": "red"}


class Trial(NamedTuple):
    """A question with its outputs, and its prompt as the model reads it; None if it must not be shown."""

    sample: Sample
    seen: str | None


def tried(
    name: str, include: Path | None, *, limit: int, engine: str, pretrained: str | None, tokens: int,
    num_fewshot: int | None = None, run_untrusted_code: bool = False,
) -> Sequence[Trial]:  # fmt: skip
    """Evaluate a model on the first questions of a task; nothing is left on disk.

    Args:
        name: the task.
        include: its folder of benchmarks, if it is not installed.
        limit: number of questions.
        engine: `hf` or `vllm`.
        pretrained: the model; by default the embedded one.
        tokens: limit on the tokens of an output.
        num_fewshot: worked examples in the prompt; by default as many as the task has.
        run_untrusted_code: whether programs that the model writes may run, in a sandbox.

    Raises:
        TaskError: the task is unknown, or a group.
    """
    from lm_eval_ext.harness.session import evaluated, load_model, seen_by

    model = load_model({"journal": "off", **({"pretrained": pretrained} if pretrained else {})}, engine, "auto")
    folder = str(include) if include else None
    with tempfile.TemporaryDirectory() as out:
        options = {"limit": limit, "gen_kwargs": {"max_gen_toks": tokens}, "num_fewshot": num_fewshot}
        options |= {"confirm_run_unsafe_code": run_untrusted_code}
        path = evaluated(model, [name], Path(out), folder, options)
        source = read_source(path, read_catalogue())
        if name not in source.run.tasks:
            raise TaskError(f"{name} is a group; try one of its tasks: {', '.join(list(source.run.tasks)[:5])}")
        samples = source.samples(name)
        config = mapping(mapping(json_object(path, ResultsError).get("configs")).get(name))
        thinks = asks_for_thinking(mapping(config.get("generation_kwargs")))
        seen = iter(seen_by(model, [one.prompt for one in samples if one.prompt is not None], thinks=thinks))
        return [Trial(one, None if one.prompt is None else next(seen)) for one in samples]


def shown(rows: Sequence[Trial]) -> Iterator[RenderableType]:
    """Each question with its outputs, answers and grades."""
    from rich.rule import Rule
    from rich.text import Text

    for row in rows:
        yield Rule(f"question {row.sample.id}", align="left")
        yield Text(_shortened(row.seen or "(gated: not shown)"))
        yield _outputs(row.sample)


def _outputs(row: Sample) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table("output", "answer", "grade", title=f"gold answer: {row.gold}", title_justify="left", expand=True)
    for one in row.outputs:
        grade = Text(one.grade, style=_STYLES.get(one.grade, "yellow"))
        table.add_row(Text(_shortened(one.text or "")), Text(one.answer or "-"), grade)
    return table


def _shortened(text: str) -> str:
    half = LONGEST // 2
    left_out = len(text) - LONGEST
    return text if left_out <= 0 else f"{text[:half]}\n... {left_out:,} characters more ...\n{text[-half:]}"


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
        answer: tokens that are counted for an answer after a budget.
    """

    benchmark: str
    budgets: Sequence[int | None]
    questions: int | None
    samples: int | None
    tokens: int | None
    apart: int | None
    answer: int = ANSWER


def costs(name: str) -> list[TaskCost]:
    """The costs of a task, or of the benchmarks in a group.

    Raises:
        TaskError: the task is not in the registry, or the group holds only tasks of lm-eval itself.
    """
    registry = Tasks()
    found = costs_of_tasks(fields for one in registry.members(name) if (fields := registry.fields(one)))
    if not found:
        raise TaskError(f"{name}: no task of this registry; `lm_eval ls tasks` lists all")
    return found


def costs_of_tasks(tasks: Iterable[Mapping[str, object]], limit: int | None = None) -> list[TaskCost]:
    """The costs of tasks that are run together, given by their fields, by benchmark; `limit` is of each's questions."""
    found: dict[str, list[Mapping[str, object]]] = defaultdict(list)
    for task in tasks:
        found[variant_of(str(task["task"]))[0]].append(task)
    return [_cost(benchmark, some, limit) for benchmark, some in found.items()]


def _cost(benchmark: str, tasks: Sequence[Mapping[str, object]], limit: int | None) -> TaskCost:
    questions = whole(mapping(tasks[0].get("metadata")).get("questions"))
    asked = [_asked(task) for task in tasks]
    samples = sum(one.repeats for one in asked)
    most = _traces(asked) + sum(one.repeats * one.answer for one in asked)
    apart = sum(one.repeats * (one.thinking + one.answer) for one in asked)
    answer = max(one.answer for one in asked)
    budgets = [one.budget for one in asked]
    if questions is not None and limit is not None:
        questions = min(questions, limit)
    if questions is None:
        return TaskCost(benchmark, budgets, None, None, None, None, answer)
    return TaskCost(benchmark, budgets, questions, questions * samples, questions * most, questions * apart, answer)


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
    answers = " or ".join(f"{size:,}" for size in sorted({one.answer for one in costs}))
    text = (
        f"At most {total:,} tokens (budgets of one benchmark share their traces; {answers} for each answer): "
        f"{total / speed / 3600:,.1f} hours at {speed:,.0f} tokens/s."
    )
    return f"{text} Not counted, as the number of questions is unknown: {', '.join(unknown)}." if unknown else text


def _budgets(cost: TaskCost) -> str:
    return ", ".join("none" if one is None else f"{one:,}" for one in cost.budgets)


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"
