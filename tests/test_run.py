"""What `run.json` may hold, and what is said of one that holds something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.runs.run import Run
from lm_eval_ext.runs.samples import read_run

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
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema_version=2; expected 1"),
        ({"schema_version": None}, "schema_version=None"),
        ({"id": "../../etc"}, "id='../../etc'"),
        ({"id": "a b"}, "id='a b'"),
        ({"base": ""}, "base=''"),
        ({"date": "yesterday"}, "date='yesterday'"),
        ({"tier": "best"}, "tier='best'"),
        ({"unknown": 1}, "unknown: unknown field"),
        ({"tasks": {}}, "tasks={}"),
        ({"tasks": {"t": {**TASK, "metrics": {"acc": {"value": float("nan")}}}}}, "tasks.t.metrics.acc.value=nan"),
        ({"tasks": {"t": {**TASK, "questions": 0}}}, "tasks.t.questions=0"),
        ({"tasks": {"<script>": TASK}}, "tasks.<script>"),
        ({"tasks": {"t": {**TASK, "scores": [2]}}}, "tasks.t.scores.0=2"),
        ({"tasks": {"t": {**TASK, "score": "f1"}}}, "score"),
        ({"pruning": {"method": "x", "depth": 0}}, "pruning.depth=0"),
        ({"pruning": {"method": "x", "depth": 4, "dropped": [9]}}, "dropped"),
        ({"tasks": {"t": {**TASK, "metrics": {"acc": {"value": 1.5}}}}}, "metrics.acc=1.5"),
        ({"tasks": {"t": {**TASK, "benchmark": "tts_aime24"}}}, "benchmark"),
        ({"tasks": {"tts_x_b64": {**TASK, "benchmark": "tts_x", "budget": 8}}}, "expected those in its name"),
        ({"pruning": {"method": "x", "depth": 4, "dropped": [1, 1]}}, "distinct layers"),
        ({"base": "a\u2028b"}, "base="),
        ({"date": "2026-11-01"}, "date='2026-11-01'"),
        ({"samples": {"t": "x"}}, "samples.t='x'"),
        ({"tasks": {"t": {**TASK, "scores": [1.0]}}}, "1 scores for 2 questions"),
        ({"samples": {"u": "0" * 64}}, "samples of 'u', which is not a task of the run"),
        ({"base": "x" * 300}, "base='xxx"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_field(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(ResultsError) as caught:
        read_run(path)
    assert message in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000])
def test_what_is_no_json_object_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(ResultsError) as caught:
        read_run(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
