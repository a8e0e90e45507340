"""Datasets for benchmarks that have none in `cases/hub`: rows with the fields that their YAML names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm_eval_ext.authoring.task_file import is_template, merged, shown_names
from lm_eval_ext.authoring.variants import is_written_by_us

ROWS = 3


def write_standins(tasks: Path, hub: Path) -> list[Path]:
    """Write a dataset for every benchmark below `tasks` that `hub` has none of; returns their files."""
    bases = [path for path in sorted(tasks.rglob("*.yaml")) if not is_written_by_us(path)]
    written = []
    for fields in (merged(path)[0].fields for path in bases):
        folder = hub / str(fields.get("dataset_path", "."))
        if "dataset_path" in fields and not folder.exists():
            folder.mkdir(parents=True)
            written.append(folder / f"{fields['test_split']}.jsonl")
            rows = "".join(f"{json.dumps(row)}\n" for row in _rows(fields))
            written[-1].write_text(rows, encoding="utf-8")
    return written


def _rows(fields: Mapping[str, Any]) -> list[dict[str, str]]:
    named = {name for field in ("doc_to_text", "doc_to_target") for name in _names(str(fields[field]))}
    return [dict.fromkeys(sorted(named), f"{number}") for number in range(1, ROWS + 1)]


def _names(template: str) -> set[str]:
    return shown_names(template) if is_template(template) else {template}
