"""What `run.json` may hold, and what is said of one that holds something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.runs.run import Run
from lm_eval_ext.runs.samples import read_run
from tests.shared import case_table, one_line

TASK: dict[str, Any] = {"benchmark": "t", "score": "acc", "metrics": {"acc": {"value": 0.5}}, "questions": 2, "of": 2}
RUN: dict[str, Any] = {
    "schema_version": 1, "id": "a", "date": "2026-11-01T10:00:00Z", "base": "Org/M", "engine": "hf",
    "tasks": {"t": TASK},
}  # fmt: skip


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "run.json"
    path.write_text(json.dumps({**RUN, **changes}), "utf-8")
    return path


def test_the_least_that_a_run_must_say(tmp_path: Path) -> None:
    run = read_run(write(tmp_path))
    assert run.dense and run.label == "dense" and run.tasks["t"].accuracy.value == 0.5
    assert Run.model_json_schema()["properties"]["tasks"]


@pytest.mark.parametrize(
    ("changes", "message"), [*case_table("wrong_runs.yaml")["runs"], [{"base": "x" * 300}, "base='xxx"]]
)
def test_what_is_wrong_is_named_with_its_file_and_field(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path, **changes)
    with one_line(ResultsError, message, str(path)):
        read_run(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000])
def test_what_is_no_json_object_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with one_line(ResultsError, str(path)):
        read_run(path)
