"""Drafts a task YAML from a dataset's columns."""

from __future__ import annotations

import difflib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from lm_eval_ext.authoring.choice_draft import as_choices
from lm_eval_ext.errors import DatasetError, TaskError
from lm_eval_ext.paths import TASKS
from lm_eval_ext.runs.untrusted import mapping

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
_FILES = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


def draft(
    name: str, dataset: str, split: str, question: str, answer: str, *, choices: Sequence[str] = (),
    config: str | None, source: str, licence: str, budgets: list[int], votes: list[int],
) -> str:  # fmt: skip
    """A task YAML that asks the questions of a dataset.

    Args:
        name: name of the benchmark, without `tts_`.
        dataset: a name on the Hub, or a file (.jsonl, .json, .csv, .parquet).
        split: split of the dataset.
        question, answer: fields of the dataset; for multiple choice, the answer is a letter, index or choice's text.
        choices: for multiple choice, the field that lists the choices, or one field per choice.
        config: configuration of the dataset, if it has several.
        source, licence: origin and license of the questions.
        budgets, votes: the variants to declare.

    Raises:
        TaskError: an invalid name, split or field.
        DatasetError: the dataset cannot be loaded.
    """
    if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name):
        raise TaskError(f"name={name!r}; allowed: lowercase letters, digits and single underscores, such as hmmt_feb25")
    path = Path(dataset)
    local = path.suffix in _FILES
    if path.is_file() and not local:
        raise TaskError(f"dataset={dataset}; expected a name on the Hub, or a file ending in {', '.join(_FILES)}")
    if local and (not path.is_file() or not path.stat().st_size):
        raise DatasetError(f"dataset={dataset}: {'file is empty' if path.is_file() else 'no such file'}")
    split = "test" if local else split
    where = _where(path.resolve(), split) if local else {"dataset_path": dataset, "dataset_name": config}
    reachable = {key: value for key, value in where.items() if value}
    records = _records(reachable, dataset, split, (question, answer, *choices))
    asked = as_choices(records, question, answer, choices) if choices else as_mathematics(question, answer)
    return _text(name, where, split, asked, source or _source(dataset, local), licence, budgets, votes)


def _where(path: Path, split: str) -> dict[str, object]:
    return {"dataset_path": _FILES[path.suffix], "dataset_kwargs": {"data_files": {split: str(path)}}}


def _source(dataset: str, local: bool) -> str:
    return Path(dataset).name if local else f"https://huggingface.co/datasets/{dataset}"


def as_mathematics(question: str, answer: str) -> list[str]:
    """YAML lines of a task whose answer is mathematical."""
    return [
        "include: ../_math",
        f"doc_to_text: {json.dumps(f'{{{{{question}}}}}' + chr(10) * 2 + INSTRUCTION)}",
        f"doc_to_target: {answer}",
    ]


def _records(where: Mapping[str, object], dataset: str, split: str, wanted: tuple[str, ...]) -> list[dict[str, object]]:
    """Load the records of a split, and check that they have the wanted fields."""
    import datasets

    options = mapping(where.get("dataset_kwargs"))
    try:
        loaded = datasets.load_dataset(where["dataset_path"], where.get("dataset_name"), **options)
    except Exception as error:  # anything the library raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DatasetError(f"dataset={dataset}: cannot be loaded ({reason})") from error
    if split not in loaded:
        raise TaskError(f"no split {split!r}; {dataset} has: {', '.join(map(str, loaded))}")
    columns = loaded[split].column_names
    for name in wanted:
        if name not in columns:
            close = difflib.get_close_matches(name, columns, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise TaskError(f"no field {name!r}; {dataset} has: {', '.join(columns)}{hint}")
    return list(loaded[split])


def _text(
    name: str, where: Mapping[str, object], split: str, asked: Sequence[str], source: str, licence: str,
    budgets: list[int], votes: list[int],
) -> str:  # fmt: skip
    lines = [asked[0], f"task: tts_{name}"]
    lines += [
        f"{key}: {json.dumps(value) if isinstance(value, dict) else value}" for key, value in where.items() if value
    ]
    lines += [
        f"test_split: {split}",
        *asked[1:],
        "metadata:",
        "  version: 1.0",
        f"  source: {json.dumps(source)}",
        *([f"  license: {json.dumps(licence)}"] if licence else []),
        f"  variants: {{budgets: {budgets}, votes: {votes}}}",
    ]
    return "\n".join(lines) + "\n"


def write_draft(text: str, name: str, folder: Path) -> Path:
    """Write a task YAML as `FOLDER/NAME/tts_NAME.yaml`, and the templates it includes into FOLDER if missing.

    Raises:
        TaskError: the file exists.
    """
    path = folder / name / f"tts_{name}.yaml"
    if path.exists():
        raise TaskError(f"{path}: already exists; edit it, or choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    for template in ("_math", "_choice"):
        if not (folder / template).exists() and (template == "_math" or "include: ../_choice" in text):
            shutil.copy(TASKS / template, folder / template)
    path.write_text(text, encoding="utf-8")
    return path
