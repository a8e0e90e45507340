"""Reads a dataset's `eval.yaml`, which says how the Hub's benchmarks are run, as the beginning of a task of ours.

Fields are those that inspect_ai reads for `hf/ORG/DATASET` (its `HFTask`): an unknown one is refused, since it may
change what is asked. The form of early 2026 (`name`, `subset`, `splits`, solvers by their names alone) is read, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, NamedTuple

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from lm_eval_ext.declared import Declared, read_yaml
from lm_eval_ext.errors import DatasetError, TaskError, reason_of

FILE = "eval.yaml"
_TAKEN = {"generate": (), "chain_of_thought": (), "multiple_choice": (), "prompt_template": ("template",)}  # solvers
_GRADED = "model_graded_"
_FIELD = "\0"  # where a field is shown
# Kinds of answers by scorer; of the others they are guessed from the gold answers.
_KINDS = {"choice": "choice", "math": "math"}
_SCORERS = (*_KINDS, "includes", "match", "pattern", "answer", "exact", "f1")


class _Named(Declared):
    name: str
    args: dict[str, Any] = Field(default_factory=dict)


def _by_name(given: object) -> object:
    return {"name": given} if isinstance(given, str) else given


Named = Annotated[_Named, BeforeValidator(_by_name)]


def _column(given: object) -> object:
    if isinstance(given, str) and (not given.strip() or re.search(r"""['"{}\\%#]|[^ -~]|^literal:""", given)):
        raise ValueError("expected the name of a column, without quotes, braces and percent signs")
    return given


Column = Annotated[str, BeforeValidator(_column)]  # stands in a template, so that it must be no more than a name


class FieldSpec(Declared):
    """Which columns are what."""

    input: Column
    target: str
    choices: Column | list[Column] | None = None
    metadata: list[Column] | None = None
    input_image: str | None = None
    description: str | None = None


def _one_split(given: object) -> object:
    return given[0] if isinstance(given, list) and len(given) == 1 else given


class HubTask(Declared):
    """A task of an `eval.yaml`."""

    id: str = Field(min_length=1, validation_alias=AliasChoices("id", "name"))
    config: str = Field(default="default", validation_alias=AliasChoices("config", "subset"))
    split: Annotated[str, BeforeValidator(_one_split)] = Field(
        default="test", validation_alias=AliasChoices("split", "splits")
    )
    field_spec: FieldSpec | None = None
    shuffle_choices: bool = False
    epochs: int = Field(default=1, ge=1)
    epoch_reducer: str | None = None
    solvers: list[Named] = Field(default_factory=list)
    scorers: list[Named] = Field(default_factory=list)


class EvalFile(BaseModel):
    """An `eval.yaml`; what it says about itself is not needed."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    prompt_template: str | None = None
    tasks: list[HubTask] = Field(min_length=1)


class AskedByHub(NamedTuple):
    """What an `eval.yaml` asks, as arguments of `draft`; empty where it is guessed from the dataset.

    Attributes:
        config, split, question, answer, choices, kind, way: as of `draft`.
        metadata: further fields of the task's metadata.
        repeats: samples of each question; 0 for our usual number.
        needs_numbers: whether a model graded the answers, which only a kind with rules can replace.
        columns: that the prompt shows, and that the dataset must have.
    """

    config: str | None
    split: str
    question: str | None
    answer: str | None
    choices: tuple[str, ...]
    kind: str | None
    way: str | None
    metadata: Mapping[str, object]
    repeats: int
    needs_numbers: bool
    columns: tuple[str, ...]


def from_hub(dataset: str, task: str | None) -> AskedByHub:
    """What a dataset's `eval.yaml` asks.

    Args:
        dataset: `ORG/NAME` on the Hub, or a folder of this name.
        task: `id` of one of its tasks; needed if there are several.

    Raises:
        TaskError: it is no such file, has no such task, or asks what we have not.
        DatasetError: the dataset has none, or cannot be reached.
    """
    path = _file(dataset)
    content = read_yaml(path, EvalFile, TaskError)
    ids = [one.id for one in content.tasks]
    if task is None and len(ids) > 1:
        raise TaskError(f"{path}: has {len(ids)} tasks; choose one with --task: {', '.join(ids)}")
    found = next((one for one in content.tasks if task in (None, one.id)), None)
    if found is None:
        raise TaskError(f"{path}: --task {task}: no such task; expected one of: {', '.join(ids)}")
    try:
        return _asked(dataset, found, content.prompt_template)
    except TaskError as error:
        raise TaskError(f"{path}: {found.id}: {error}") from error


def _file(dataset: str) -> Path:
    if Path(dataset).is_dir():
        path = Path(dataset) / FILE
        if not path.is_file():
            raise DatasetError(f"dataset={dataset}: the folder has no {FILE}; use --dataset, and say which columns")
        return path
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(dataset, FILE, repo_type="dataset"))
    except Exception as error:  # huggingface_hub's, and those of the HTTP library beneath
        raise DatasetError(
            f"dataset={dataset}: its {FILE} cannot be read ({reason_of(error)}); without one, use --dataset, and name "
            "the columns"
        ) from error


def _asked(dataset: str, task: HubTask, template: str | None) -> AskedByHub:
    spec = task.field_spec
    kind, graded = _kind(task)
    if task.epoch_reducer not in (None, "mean"):
        raise TaskError(
            f"epoch_reducer={task.epoch_reducer}: expected mean; ours is the mean over samples, with pass@k beside it"
        )
    for solver in task.solvers:
        if solver.name not in _TAKEN:
            raise TaskError(f"solvers: {solver.name}: not possible in a task of ours; allowed: {', '.join(_TAKEN)}")
        if more := solver.args.keys() - set(_TAKEN[solver.name]):
            raise TaskError(f"solvers: {solver.name}: {min(more)} changes what is asked, in a way that ours can't")
        template = solver.args.get("template") or template if solver.name == "prompt_template" else template
    if spec and spec.input_image:
        raise TaskError("field_spec.input_image: questions with pictures can't be asked")
    metadata: dict[str, object] = {"hub": {"dataset": dataset, "task_id": task.id}}
    question = spec.input if spec else None
    shown = tuple(dict.fromkeys([spec.input, *(spec.metadata or [])])) if spec and template else ()
    if question and template:
        question = _question(question, template, spec.metadata or [] if spec else [])
        metadata |= {"instruction": ""} if r"\boxed" in template else {}
    choices = spec.choices if spec else None
    columns = (choices,) if isinstance(choices, str) else tuple(choices or ())
    answer, way = _answer(spec, columns)
    if columns and task.shuffle_choices:
        metadata["shuffle"] = spec.input if spec else True
    return AskedByHub(
        None if task.config == "default" else task.config, task.split, question, answer, columns,
        "choice" if columns else kind, way, metadata, task.epochs if task.epochs > 1 else 0, graded, shown,
    )  # fmt: skip


def _kind(task: HubTask) -> tuple[str | None, bool]:
    """The kind of answers that the scorer compares, if that is certain, and whether a model graded them."""
    names = [scorer.name for scorer in task.scorers]
    graded = any(name.startswith(_GRADED) for name in names)
    if unknown := [name for name in names if name not in _SCORERS and not name.startswith(_GRADED)]:
        raise TaskError(f"scorers: {unknown[0]}; expected one of: {', '.join(_SCORERS)}, or {_GRADED}qa and _fact")
    for scorer in task.scorers:
        if scorer.name == "match" and scorer.args.get("numeric"):
            return "number", graded
        if scorer.name == "pattern" and "boxed" in str(scorer.args.get("pattern")):
            return "math", graded
    return next((_KINDS[name] for name in names if name in _KINDS), None), graded


def _answer(spec: FieldSpec | None, columns: tuple[str, ...]) -> tuple[str | None, str | None]:
    """The column with the right answer, and how it names an option; `literal:B` is the second column's text."""
    if spec is None or not spec.target.startswith("literal:"):
        return (spec.target if spec else None), None
    letter = spec.target.removeprefix("literal:")
    place = ord(letter) - ord("A") if re.fullmatch("[A-Z]", letter) else -1
    if not 0 <= place < len(columns) or len(columns) < 2:
        raise TaskError(f"field_spec.target={spec.target}: expected the letter of one of several columns in choices")
    return columns[place], "text"


def _question(column: str, template: str, others: list[str]) -> str:
    """The prompt as a template of ours: `{prompt}` is the question's column, and other fields are columns, too."""
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise TaskError(f"prompt_template: not a template ({error})") from error
    fields = [field for _, field, _, _ in pieces if field is not None]
    if unknown := [field for field in fields if field not in ("prompt", *others)]:
        raise TaskError(
            f"prompt_template: {{{unknown[0]}}} is neither prompt nor one of metadata: {', '.join(others) or 'none'}"
        )
    text = "".join(f"{literal}{'' if field is None else _FIELD}" for literal, field, _, _ in pieces)
    if re.search(rf"\{{[{{%#{_FIELD}]|{_FIELD}\}}", text):
        raise TaskError("prompt_template: has {{, {% or {#, or a field in braces, which ours would read as its own")
    for field in fields:
        name = column if field == "prompt" else field
        shown = name if re.fullmatch(r"[A-Za-z_]\w*", name) else f"'{name}' | column"
        text = text.replace(_FIELD, f"{{{{{shown}}}}}", 1)
    return text.strip()
