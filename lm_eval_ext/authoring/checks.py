"""Checks on a task file alone, without loading its dataset or running a model."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_ext.authoring.task_file import Merged, TaskFinding, function_of, merged, refusal, root_of, shown_names
from lm_eval_ext.authoring.variants import is_written_by_us, out_of_date
from lm_eval_ext.errors import ArgumentError, TaskError
from lm_eval_ext.generation.request import asks_for_thinking, parse_options
from lm_eval_ext.grading.kinds import FILTERS, kind_of_metric
from lm_eval_ext.harness.registry import known
from lm_eval_ext.metrics import METRIC_FIELDS, METRICS, score_named
from lm_eval_ext.template_filters import TEMPLATE_FILTERS
from lm_eval_ext.workers import Workers

if TYPE_CHECKING:
    from jinja2 import Environment


# Fields that a benchmark must have; `dataset_path` may be replaced by `custom_dataset`.
REQUIRED = ("dataset_path", "test_split", "doc_to_text", "doc_to_target", "metric_list", "filter_list")
_READERS = ("json", "csv", "parquet", "text")  # older versions of `datasets` also have a reader that unpickles
_OPTIONS = ("data_files", "data_dir", "revision", "encoding", "delimiter", "sep", "field")
INSTRUCTIONS = ("\\boxed{", "Final Answer", "final answer", "####", "JSON", "code block")


def task_files(paths: Sequence[Path]) -> list[Path]:
    """The YAMLs at or below some paths.

    Raises:
        TaskError: a path does not exist, or contains no YAML.
    """
    found: list[Path] = []
    for path in paths:
        below = [path] if path.is_file() else sorted(path.rglob("*.yaml"))
        if not below:
            raise TaskError(f"{path}: no task YAML found; expected a task YAML, a folder of them, or a task's name")
        found += below
    return found


def check_files(
    files: Sequence[Path], taken: frozenset[str], *, trust: bool = False
) -> tuple[list[TaskFinding], list[Merged]]:
    """Findings on single files and across them, and the benchmarks without errors, whose data can be checked next.

    Args:
        files: task YAMLs; variants written by `tasks sync` are checked against their base.
        taken: task names used elsewhere.
        trust: run the functions and loaders that the files name.
    """
    found: list[TaskFinding] = []
    sound: list[Merged] = []
    names: dict[str, list[Merged]] = defaultdict(list)
    for path in files:
        task, faults = merged(path)
        if isinstance(task.fields.get("task"), str):
            names[task.fields["task"]].append(task)
        if not faults and not is_written_by_us(path) and "group" not in task.fields:
            faults = list(_benchmark(task, taken, trust))
            sound += [] if any(not fault.warning for fault in faults) else [task]
        found += faults
    for name, some in names.items():
        found += [task.finding(["task"], "name", f"{name} is also the name of {some[0].own.path}") for task in some[1:]]
    return list(dict.fromkeys(found)) + list(_out_of_date(sound)), sound


def _benchmark(task: Merged, taken: frozenset[str], trust: bool) -> Iterator[TaskFinding]:
    given = {*task.fields, *(["dataset_path"] if "custom_dataset" in task.fields else [])}
    missing = [name for name in REQUIRED if name not in given]
    if not isinstance(task.fields.get("task"), str):
        yield task.own.finding([], "missing", "task: the benchmark's name")
    elif missing:
        yield task.finding(["task"], "missing", f"{missing[0]}; required: {', '.join(REQUIRED)}")
    else:
        yield from _name(task, taken)
        yield from _metadata(task)
        yield from _functions(task, trust)
        yield from _dataset(task, trust)
        yield from _grading(task)
        yield from _generation(task)
        yield from _template(task, "doc_to_text")
        yield from _template(task, "doc_to_target")


def _name(task: Merged, taken: frozenset[str]) -> Iterator[TaskFinding]:
    name = task.fields["task"]
    if not name.startswith("tts_"):
        yield task.finding(["task"], "name", f"{name}; expected a name that starts with tts_")
    elif not re.fullmatch(r"[a-z0-9_]+", name):
        yield task.finding(["task"], "name", f"{name}; allowed: lowercase letters, digits and underscores")
    elif task.own.path.stem != name:
        yield task.finding(["task"], "name", f"{name} in {task.own.path.name}; expected a file named {name}.yaml")
    elif name in taken:
        yield task.finding(["task"], "name", f"{name} is already the name of another task")


def _metadata(task: Merged) -> Iterator[TaskFinding]:
    metadata = task.fields.get("metadata") or {}
    if metadata.get("version") is None:
        yield task.finding(["metadata"], "metadata", "version is missing; raise it when scores change")
    if metadata.get("question") is None:
        for name in sorted({"answer", "choices", "instruction", "language", "grading"} & metadata.keys()):
            yield task.finding(
                ["metadata", name], "metadata", f"{name} needs question; tasks sync writes the prompt of both"
            )
    for name in ("source", "license"):
        if not metadata.get(name) and not (name == "source" and metadata.get("hub")):
            yield task.finding(["metadata"], "metadata", f"{name} of the questions is missing", warning=True)


def _functions(task: Merged, trust: bool) -> Iterator[TaskFinding]:
    """Check that `!function` names resolve; lm-eval would only report it when the task is used."""
    for field in ("custom_dataset", "process_docs", "process_results"):
        if task.fields.get(field) is None:
            continue
        if field == "process_results" and not trust:
            text = f"{task.fields[field]} is only run with --trust; without it, allowed: a metric_list of our metrics"
            yield task.finding([field], "function", text)
            continue
        try:
            function_of(task, field, trust=trust)
        except ImportError as error:
            yield task.finding([field], "function", str(error))


def _dataset(task: Merged, trust: bool) -> Iterator[TaskFinding]:
    """Check that the dataset is loaded by a plain data reader, from the Hub or from near the benchmark."""
    path = str(task.fields.get("dataset_path") or "")
    if trust or not path:
        return
    if path not in _READERS and not re.fullmatch(r"[\w.-]+/[\w.-]+", path):
        text = f"{path}; allowed: {', '.join(_READERS)}, or ORG/NAME on the Hub; --trust loads anything"
        yield task.finding(["dataset_path"], "dataset", text)
    options = task.fields.get("dataset_kwargs") or {}
    if unknown := sorted(set(map(str, options)) - {*_OPTIONS}):
        text = f"{unknown[0]}; allowed: {', '.join(_OPTIONS)}; --trust allows any"
        yield task.finding(["dataset_kwargs", unknown[0]], "dataset", text)
    for file in _files(options.get("data_files")):
        if not _is_near(task.own.path, file):
            text = f"{file} is neither near the benchmark nor below the current folder; --trust allows it"
            yield task.finding(["dataset_kwargs"], "dataset", text)


def _files(given: object) -> Iterator[str]:
    if isinstance(given, str):
        yield given
    elif isinstance(given, dict):
        yield from (file for one in given.values() for file in _files(one))
    elif isinstance(given, list):
        yield from (file for one in given for file in _files(one))


def _is_near(task: Path, file: str) -> bool:
    """Whether a file is where it is expected: below the benchmarks, beside them, or below the current folder."""
    path = Path(file).resolve()
    return any(path.is_relative_to(folder) for folder in (root_of(task).parent, Path.cwd().resolve()))


def _grading(task: Merged) -> Iterator[TaskFinding]:
    metrics, filters = known("metric"), known("filter")
    for number, one in enumerate(task.fields["metric_list"]):
        if "process_results" in task.fields:  # its scores have any names but those that our metrics compute
            if text := _fault_of_own_score(one):
                yield task.finding(["metric_list", number], "metric", text)
        elif one["metric"] not in metrics:
            text = (
                refusal(one["metric"])
                or f"unknown metric {one['metric']}; our metrics: {', '.join(metric.name for metric in METRICS)}"
            )
            yield task.finding(["metric_list", number], "metric", text)
        elif kind := kind_of_metric(one["metric"]):
            try:
                kind.of({name: value for name, value in one.items() if name not in METRIC_FIELDS})
            except TaskError as error:
                yield task.finding(["metric_list", number], "metric", str(error))
    for number, chain in enumerate(task.fields["filter_list"]):
        for one in chain["filter"]:
            if one["function"] not in filters:
                text = f"unknown filter {one['function']}; our filters: {', '.join(FILTERS)}"
                yield task.finding(["filter_list", number], "filter", text)


def _fault_of_own_score(given: Mapping[str, object]) -> str:
    name = str(given["metric"])
    if name != "acc" and score_named(name) is not None:
        return f"{name} is a score of our metrics; give one that process_results computes another name, or acc"
    if not given.get("aggregation"):
        return f"{name} needs an aggregation, such as mean, because process_results computes it"
    return ""


def _generation(task: Merged) -> Iterator[TaskFinding]:
    given: dict[str, object] = task.fields.get("generation_kwargs") or {}
    place = ["generation_kwargs"]
    try:
        options = parse_options(given, answer_budget=None, max_tokens=256)
    except ArgumentError as error:
        yield task.finding([*place, _named_first(given, str(error))], "generation", str(error))
        return
    repeats = int(task.fields.get("repeats") or 1)
    if not asks_for_thinking(given):
        yield task.finding(place, "generation", "thinking_token_budget is missing; -1 means no limit")
    elif (budget := options.thinking_budget) is not None and budget >= options.max_tokens:
        text = f"a budget of {budget} leaves nothing of max_gen_toks={options.max_tokens} for an answer"
        yield task.finding([*place, "thinking_token_budget"], "generation", text)
    elif repeats > 1 and options.sampling.temperature == 0:
        yield task.finding(place, "generation", f"repeats={repeats} without sampling gives the same text every time")


def _named_first(given: Iterable[str], message: str) -> str:
    """The argument that a message is about, which is named before the allowed ones."""
    return min((name for name in given if name in message), key=message.index, default="")


def _template(task: Merged, field: str) -> Iterator[TaskFinding]:
    from jinja2 import TemplateSyntaxError

    text = str(task.fields[field])
    try:
        shown_names(text)
        if unsafe := unsafe_name(text):
            yield task.finding([field], "template", f"{field} accesses more than the question's fields: {unsafe}")
            return
    except TemplateSyntaxError as error:
        yield task.finding([field], "template", f"{field} is not a valid Jinja template: {error.message}")
        return
    if field == "doc_to_text" and not any(words in text for words in INSTRUCTIONS):
        wanted = "such as: Please reason step by step, and put your final answer within \\boxed{}."
        yield task.finding([field], "instruction", f"does not say how to give the answer, {wanted}")


def _out_of_date(sound: Sequence[Merged]) -> Iterator[TaskFinding]:
    for task in sound:
        for variant in out_of_date(task):
            text = f"{variant.name} is out of date; run lm-eval-tts tasks sync {task.own.path.parent}"
            yield task.finding(["metadata", "variants"], "variants", text)


SECONDS = 10.0  # of CPU time for all questions of a benchmark


def render_all(template: str, docs: Sequence[Mapping[str, object]]) -> list[str]:
    """Render a template for each question; a field name renders as that field.

    Raises:
        TaskError: it accesses more than the questions, writes a list or an object, fails, or takes too long.
    """
    (outcome,) = _workers.run(_rendered_or_why, [(template, [dict(doc) for doc in docs])], seconds=SECONDS)
    if outcome.value is None:
        raise TaskError(f"exceeds a limit ({outcome.failure}); a template has {SECONDS:g} s for all questions")
    texts, why = outcome.value
    if why:
        raise TaskError(why)
    return texts


def _warm_up() -> None:
    from jinja2 import sandbox  # noqa: F401  # an import that would count against the first template's time


_workers = Workers(_warm_up)


def _rendered_or_why(template: str, docs: Sequence[Mapping[str, object]]) -> tuple[list[str], str]:
    from jinja2.exceptions import SecurityError

    try:
        whole = None if all(template in doc for doc in docs) else _environment().from_string(template)
        values = [_text_of(doc[template]) if template in doc or whole is None else whole.render(**doc) for doc in docs]
        return ["" if value is None else str(value) for value in values], ""
    except SecurityError as error:
        return [], f"accesses more than the question's fields: {' '.join(str(error).split())[:150]}"
    except Exception as error:  # anything an expression in a template raises
        return [], " ".join(f"cannot be rendered: {error}".split())[:200]


def _text_of(value: object) -> object:
    """What a template writes; a list or an object would be written in Python's syntax, which nobody means."""
    if isinstance(value, (list, tuple, dict)):
        kind = "an object" if isinstance(value, dict) else "a list"
        raise TypeError(
            f"{str(value)[:60]} is {kind}, such as turns or parts; allowed: text; use one item of it, or join them"
        )
    return value


def _environment() -> Environment:
    """lm-eval's environment, with a sandbox."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, finalize=_text_of
    )
    environment.filters |= TEMPLATE_FILTERS
    return environment


def unsafe_name(template: str) -> str:
    """The first private attribute used in a template, such as `__class__`; empty if there is none.

    Raises:
        jinja2.TemplateSyntaxError: it cannot be parsed.
    """
    from jinja2 import nodes
    from jinja2.sandbox import SandboxedEnvironment

    tree = SandboxedEnvironment().parse(template)
    attributes = [str(node.attr) for node in tree.find_all(nodes.Getattr)]
    items = [str(node.value) for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    return next((name for name in [*attributes, *items] if name.startswith("__")), "")
