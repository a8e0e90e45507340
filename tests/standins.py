"""Datasets for benchmarks that have none in `cases/hub`: rows with the columns that their YAML declares."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lm_eval_ext.authoring.task_fields import Metadata
from lm_eval_ext.authoring.task_file import is_template, merged, shown_names
from lm_eval_ext.authoring.variants import is_written_by_us
from lm_eval_ext.grading.kinds import kind_of_metric

ROWS = 3
# Columns whose shape no YAML says: a grid, and texts that a template takes apart.
_SHAPES: dict[str, Any] = {
    "solution": {"header": ["House", "Name", "Pet"], "rows": [["1", "Ann", "cat"], ["2", "Bob", "dog"]]},
    "solution_text_format": "(1) Ann is a knight\n(2) Bob is a knave",
}
_WORDS = {"yes_no": ("yes", "no", "yes"), "true_false": ("True", "False", "True")}


def write_standins(tasks: Path, hub: Path) -> list[Path]:
    """Write a dataset for every benchmark below `tasks` that `hub` has none of; returns their files."""
    bases = [path for path in sorted(tasks.rglob("*.yaml")) if not is_written_by_us(path)]
    sets: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for fields in (merged(path)[0].fields for path in bases):
        if "dataset_path" in fields and not (hub / str(fields["dataset_path"])).exists():
            sets[str(fields["dataset_path"])].append(fields)
    return [file for name, some in sets.items() for file in _written(hub / name, some)]


def _written(folder: Path, tasks: list[Mapping[str, Any]]) -> list[Path]:
    """The splits of a dataset, of each configuration, and a card that lists them."""
    splits: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for fields in tasks:
        config = str(fields.get("dataset_name") or "default")
        for split in filter(None, (fields["test_split"], fields.get("fewshot_split"))):
            rows = _rows(fields, str(split))
            known = splits.setdefault((config, str(split)), rows)
            for old, new in zip(known, rows, strict=True):
                old.update(new)
    configs: dict[str, list[dict[str, str]]] = defaultdict(list)
    files = []
    for (config, split), rows in splits.items():
        files.append(folder / config / f"{split}.jsonl")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        files[-1].write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
        configs[config].append({"split": split, "path": f"{config}/{split}.jsonl"})
    card = {"configs": [{"config_name": name, "data_files": some} for name, some in configs.items()]}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\n", "utf-8")
    return files


def _rows(fields: Mapping[str, Any], split: str) -> list[dict[str, Any]]:
    metadata = Metadata.model_validate(fields.get("metadata") or {})
    if metadata.question is None:
        named = {name for field in ("doc_to_text", "doc_to_target") for name in _names(str(fields[field]))}
        return [dict.fromkeys(sorted(named), f"{number}") for number in range(1, ROWS + 1)]
    return [_row(fields, metadata, number, split) for number in range(ROWS)]


def _names(template: str) -> set[str]:
    return shown_names(template) if is_template(template) else {template}


def _row(fields: Mapping[str, Any], metadata: Metadata, number: int, split: str) -> dict[str, Any]:
    kinds = (kind_of_metric(str(one["metric"])) for one in fields["metric_list"])
    kind = next(kind.KIND for kind in kinds if kind)
    parts = [metadata.parts] if isinstance(metadata.parts, str) else metadata.parts or []
    row: dict[str, Any] = dict.fromkeys(parts, f"part {number % 2}")
    listed = "\n(A) one\n(B) two" if metadata.choices and metadata.choices.letters else ""
    row |= dict.fromkeys(_names(str(metadata.question)), f"Question {number} of {split}?{listed}")
    if metadata.choices is not None:
        return row | _choices(metadata, number)
    synonyms = (metadata.grading or {}).get("synonyms")
    words = list(synonyms) if isinstance(synonyms, dict) else _WORDS.get(str(synonyms), ["north", "south", "east"])
    gold = words[number % len(words)] if kind == "text" else f"{number + 2}"
    return row | {name: _SHAPES.get(name, gold) for name in _names(str(metadata.answer))}


def _choices(metadata: Metadata, number: int) -> dict[str, Any]:
    choices = metadata.choices
    assert choices is not None
    texts = [f"option {number}-{at}" for at in range(4)]
    named = {
        "letter": "ABC"[number],
        "index": number,
        "number": number + 1,
        "text": texts[number],
        "label": "123"[number],
    }
    row: dict[str, Any] = {choices.answer: named[choices.as_ or "letter"]}
    if isinstance(choices.from_, list):
        row |= dict(zip(choices.from_, texts, strict=False)) | dict.fromkeys(choices.from_[4:])
        row |= {choices.answer: texts[number]} if choices.answer in choices.from_ else {}
    for path, values in ((choices.from_, texts), (choices.labels, list("1234"))):
        if isinstance(path, str):
            outer, _, inner = path.partition(".")
            row[outer] = {**row.get(outer, {}), inner: values} if inner else values
    return row
