"""Drafts a task YAML from a dataset's columns."""

from __future__ import annotations

import difflib
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from lm_eval_ext.authoring.guess import column_for, guessed
from lm_eval_ext.choices import column
from lm_eval_ext.errors import DatasetError, TaskError
from lm_eval_ext.paths import TASKS
from lm_eval_ext.redaction import mapping

_SCHEMA = "# yaml-language-server: $schema=../schema.json"  # for completion in editors
_FILES = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


class Draft(NamedTuple):
    """A task YAML, and what was guessed for it, to be said."""

    text: str
    guessed: str


def draft(
    name: str, dataset: str, split: str, question: str | None, answer: str | None, *, choices: Sequence[str] = (),
    kind: str | None = None, way: str | None = None, language: str | None = None, config: str | None, source: str,
    licence: str, budgets: list[int], votes: list[int],
) -> Draft:  # fmt: skip
    """A task YAML that asks the questions of a dataset.

    Args:
        name: name of the benchmark, without `tts_`.
        dataset: a name on the Hub, a file (.jsonl, .json, .csv, .parquet), or a folder of such files.
        split: split of the dataset.
        question, answer: columns of the dataset; by default those with the usual names.
        choices: for multiple choice, the column that lists the options, or one column per option; by default those with
            the usual names.
        kind: kind of the answers; by default guessed from them.
        way: how the answers name an option, such as `index`, if they could do so in several ways.
        language: language of the questions, such as `de`.
        config: configuration of the dataset, if it has several.
        source, licence: origin and license of the questions.
        budgets, votes: the variants to declare.

    Raises:
        TaskError: an invalid name, split, column or kind.
        DatasetError: the dataset cannot be loaded.
    """
    if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name):
        raise TaskError(f"name={name!r}; allowed: lowercase letters, digits and single underscores, such as hmmt_feb25")
    files = _files(dataset)
    local = bool(files)
    split = "test" if local else split
    where = _where(files, split) if local else {"dataset_path": dataset, "dataset_name": config}
    records, columns = _records({key: value for key, value in where.items() if value}, dataset, split)
    question, answer = question or column_for("question", columns), answer or column_for("answer", columns)
    for field in (question, answer, *choices):
        _check(field, records[0], dataset)
    found = guessed(records, answer, choices, kind, known=columns, way=way)
    declared = {"question": question, **found.declared, **({"language": language} if language else {})}
    text = _text(name, where, split, found.kind, declared, source or _source(dataset, local), licence, budgets, votes)
    more = ", ".join(_flow({key: value})[1:-1] for key, value in found.declared.items() if key != "answer")
    said = f"question: {question}, answer: {answer}, kind: {found.kind} ({found.reason}; change it with --kind)"
    said += f"; {more}" if more else ""
    return Draft(text, said)


def _files(dataset: str) -> list[Path]:
    """The files of a local dataset; none if the name may be one on the Hub."""
    path = Path(dataset)
    allowed = f"expected a name on the Hub, a file ending in {', '.join(_FILES)}, or a folder of such files"
    if path.is_dir() and not re.fullmatch(r"[^./][^/]*/[^/]+", dataset):  # that may be a name on the Hub
        found = sorted(file for file in path.iterdir() if file.suffix in _FILES)
        if not found or len({file.suffix for file in found}) > 1:
            raise TaskError(f"dataset={dataset}: holds {'several kinds of files' if found else 'no data'}; {allowed}")
    elif path.suffix in _FILES:
        found = [path]
    elif path.is_file():
        raise TaskError(f"dataset={dataset}; {allowed}")
    else:
        return []
    for file in found:
        if not file.is_file() or not file.stat().st_size:
            raise DatasetError(f"dataset={file}: {'file is empty' if file.is_file() else 'no such file'}")
    return [file.resolve() for file in found]


def _where(files: Sequence[Path], split: str) -> dict[str, object]:
    names = [str(file) for file in files]
    given = {"data_files": {split: names[0] if len(names) == 1 else names}}
    return {"dataset_path": _FILES[files[0].suffix], "dataset_kwargs": given}


def _source(dataset: str, local: bool) -> str:
    return Path(dataset).name if local else f"https://huggingface.co/datasets/{dataset}"


def _records(where: Mapping[str, object], dataset: str, split: str) -> tuple[list[dict[str, object]], list[str]]:
    """The records of a split, and its columns."""
    import datasets

    options = mapping(where.get("dataset_kwargs"))
    try:
        loaded = datasets.load_dataset(where["dataset_path"], where.get("dataset_name"), **options)
    except Exception as error:  # anything the library raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DatasetError(f"dataset={dataset}: cannot be loaded ({reason})") from error
    if split not in loaded:
        raise TaskError(f"no split {split!r}; {dataset} has: {', '.join(map(str, loaded))}")
    if not len(loaded[split]):
        raise DatasetError(f"dataset={dataset}: the split {split} has no questions")
    return list(loaded[split]), list(loaded[split].column_names)


def _check(name: str, record: Mapping[str, object], dataset: str) -> None:
    try:
        column(record, name)
    except TaskError as error:
        close = difflib.get_close_matches(name, list(record), 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise TaskError(f"no field {name!r}; {dataset} has: {', '.join(record)}{hint}") from error


def _text(
    name: str, where: Mapping[str, object], split: str, kind: str, declared: Mapping[str, object], source: str,
    licence: str, budgets: list[int], votes: list[int],
) -> str:  # fmt: skip
    lines = [_SCHEMA, f"include: ../_{kind}", f"task: tts_{name}"]
    lines += [f"{key}: {_flow(value)}" for key, value in where.items() if value]
    lines += [f"test_split: {split}", "metadata:", "  version: 1.0", f"  source: {_flow(source)}"]
    lines += [f"  license: {_flow(licence)}"] if licence else []
    lines += [f"  {key}: {_flow(value)}" for key, value in declared.items()]
    return "\n".join([*lines, f"  variants: {{budgets: {budgets}, votes: {votes}}}"]) + "\n"


def _flow(value: object) -> str:
    """A value on one line of YAML."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).strip().removesuffix("\n...")


def write_draft(text: str, name: str, folder: Path) -> Path:
    """Write a task YAML as `FOLDER/NAME/tts_NAME.yaml`, and the templates it includes into FOLDER if missing.

    Raises:
        TaskError: the file exists.
    """
    path = folder / name / f"tts_{name}.yaml"
    if path.exists():
        raise TaskError(f"{path}: already exists; edit it, or choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    for template in ("schema.json", "_math", text.partition("include: ../")[2].partition("\n")[0]):
        if not (folder / template).exists():
            shutil.copy(TASKS / template, folder / template)
    path.write_text(text, encoding="utf-8")
    return path
