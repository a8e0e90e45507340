"""Implements the Python API: load a model, generate with it, evaluate it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from lm_eval_ext.errors import ArgumentError, ResultsError, TaskError
from lm_eval_ext.generation.request import Generation
from lm_eval_ext.harness import server_arguments
from lm_eval_ext.harness.plugin import register_models, register_tasks
from lm_eval_ext.harness.registry import ENGINES
from lm_eval_ext.paths import read_json_object

if TYPE_CHECKING:
    import pandas
    from lm_eval.tasks import TaskManager


def load_model(arguments: Mapping[str, object], engine: str, batch_size: int | str) -> Any:  # a `ThinkingLM`
    """Create one of our models, in the same way as lm-eval's command line.

    Raises:
        ArgumentError: the engine or an argument is unknown, or a value is not allowed.
    """
    if engine not in ENGINES:
        raise ArgumentError(f"unknown engine {engine!r}; expected one of: {', '.join(ENGINES)}")
    import lm_eval.models  # noqa: F401  # fills the registry
    from lm_eval.api.registry import get_model

    register_models()
    model = get_model(ENGINES[engine].model).create_from_arg_obj(dict(arguments), {"batch_size": batch_size})
    model.given_arguments = dict(arguments)
    return model


def generated(
    model: Any,
    prompts: Sequence[str],
    budgets: Sequence[int | None],
    samples: int,
    options: Mapping[str, object],
) -> GeneratedSamples:
    """Generate one text for each prompt, budget and sample number."""
    from lm_eval.api.instance import Instance

    wanted = list(product(prompts, budgets, range(samples)))
    instances = []
    for number, (prompt, budget) in enumerate(product(prompts, budgets)):
        instance = Instance(
            request_type="generate_until",
            doc={},
            arguments=(prompt, {**options, "thinking_token_budget": -1 if budget is None else budget}),
            idx=number,
            metadata=("generate", number, samples),
        )
        instances += [instance] * samples  # the same object for all samples, as lm-eval passes repeats
    texts = cast("list[Generation]", model.generate_until(instances))  # because all are thinking requests
    return GeneratedSamples(GeneratedSample(*one, text) for one, text in zip(wanted, texts, strict=True))


def seen_by(model: Any, prompts: Sequence[str], *, thinks: bool) -> list[str]:
    """Prompts of a task as the model reads them: with chat template, special tokens, and the start of the thinking.

    Args:
        model: one of ours.
        prompts: as the task writes them.
        thinks: whether the task has a thinking budget.
    """
    from lm_eval.api.instance import Instance

    from lm_eval_ext.harness.bridge import ThinkingRequests

    requests = ThinkingRequests(model, model.arguments)
    options = {"thinking_token_budget": 1} if thinks else {}
    templated = requests.prompts.of([Instance("generate_until", {}, (prompt, options), 0) for prompt in prompts])
    encoded = [requests.prompts.encoded(one, requests.thinking_format).ids for one in templated]
    return [str(model.tokenizer.decode(list(ids), skip_special_tokens=False)) for ids in encoded]


def evaluated(
    model: object, tasks: Sequence[str], folder: Path, include_path: str | None, options: Mapping[str, object]
) -> Path:
    """Evaluate a model on tasks and write results and samples like the command line; returns the results file.

    Raises:
        TaskError: a task is unknown.
    """
    manager = task_manager(tasks, include_path)
    return _written(_evaluate(model, list(tasks), manager, options), model, folder)


def evaluated_in_part(
    model: object, task: str, folder: Path, manager: TaskManager, options: Mapping[str, object], *,
    questions: Sequence[int], samples: int | None = None, marks: Mapping[str, object],
) -> Path:  # fmt: skip
    """Evaluate a model on some questions of a task; returns a file like that of `evaluated`, but named `block_`.

    Args:
        model: one of ours.
        task: its name.
        folder: for the files.
        manager: returned by `task_manager`.
        options: further arguments of `simple_evaluate`.
        questions: their indices in the dataset.
        samples: of each question; by default as many as the task asks for.
        marks: further fields of the file.
    """
    asked: Any = manager.load([task])["tasks"][task]
    if samples is not None:
        asked.set_config("repeats", samples)
    indices = sorted(questions)  # lm-eval gives the wrong questions' numbers to what isn't in the dataset's order
    results = _evaluate(model, [asked], manager, {**options, "samples": {task: indices}})
    path = _written({**results, **marks}, model, folder)
    return path.rename(path.with_name(path.name.replace("results_", "block_", 1)))


def task_manager(tasks: Sequence[str], include_path: str | None) -> TaskManager:
    """lm-eval's index of tasks.

    Raises:
        TaskError: a task is unknown.
    """
    from lm_eval.tasks import TaskManager

    from lm_eval_ext.harness.prompts import unknown_task

    register_tasks()
    manager = TaskManager(include_path=include_path)
    for task in tasks:
        if not manager.match_tasks([task]):
            raise unknown_task(task, manager.all_tasks)
    return manager


def number_of_questions(task: str, manager: TaskManager) -> int:
    """Number of questions of a task.

    Raises:
        TaskError: it is a group.
    """
    found: Any = manager.load([task])["tasks"]
    if list(found) != [task]:
        raise TaskError(f"{task}: is a group of {len(found)} tasks; name one of them: {', '.join(found)}")
    return len(found[task].eval_docs)


def _evaluate(model: object, tasks: list[Any], manager: TaskManager, options: Mapping[str, object]) -> dict[str, Any]:
    import lm_eval

    results: dict[str, Any] = lm_eval.simple_evaluate(
        model=model, tasks=tasks, task_manager=manager, log_samples=True, **cast("Any", options)
    )
    return results


def _written(results: dict[str, Any], model: object, folder: Path) -> Path:
    """Write results and samples as the command line does; returns the results file.

    Raises:
        ResultsError: a file cannot be written.
    """
    from lm_eval.loggers.evaluation_tracker import EvaluationTracker

    arguments = dict(getattr(model, "given_arguments", {}))
    server_arguments.hide(arguments)
    results["config"] |= {"model": getattr(model, "NAME", results["config"]["model"]), "model_args": arguments}
    tracker = EvaluationTracker(output_path=str(folder))
    tracker.general_config_tracker.log_experiment_args(results["config"]["model"], arguments, None, None, None)
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task, rows in samples.items():
        tracker.save_results_samples(task_name=task, samples=rows)
    # lm-eval only logs that a file could not be written; the folder may hold those of an earlier evaluation.
    date = getattr(tracker, "date_id", "")
    written = next(folder.rglob(f"results_{date}.json"), None) if date else None
    if (
        written is None
        or not read_json_object(written)
        or not all(
            _lines(written.with_name(f"samples_{task}_{date}.jsonl")) == len(rows) for task, rows in samples.items()
        )
    ):
        raise ResultsError(f"{folder}: the results cannot be written; the lines logged before say why")
    return written


def _lines(path: Path) -> int:
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        return sum(1 for _ in file)


def log_to_terminal() -> None:
    """Print log lines of commands that take long, in lm-eval's form."""
    from lm_eval.utils import setup_logging

    setup_logging()


class GeneratedSample(NamedTuple):
    """One generated text.

    Attributes:
        prompt: the prompt.
        budget: the limit on thinking tokens; None means no limit.
        number: index of the sample; samples with the same number under several budgets are cuts of one trace.
        text: thinking and answer; `text.answer` is the answer, `text.thinking_tokens` the length of the thinking.
    """

    prompt: str
    budget: int | None
    number: int
    text: Generation


class GeneratedSamples(tuple[GeneratedSample, ...]):
    """Generated texts, ordered by prompt, budget and number."""

    def to_frame(self) -> pandas.DataFrame:
        """A table with one row per text: prompt, budget, number, answer, token counts, forced, looped, text."""
        import pandas

        return pandas.DataFrame(
            {
                "prompt": one.prompt, "budget": one.budget, "number": one.number, "answer": one.text.answer,
                "thinking_tokens": one.text.thinking_tokens, "answer_tokens": one.text.answer_tokens,
                "forced": one.text.forced, "looped": one.text.looped, "text": str(one.text),
            }
            for one in self
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<{len(self)} generated texts; to_frame() gives a table of them>"

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(index=False))
