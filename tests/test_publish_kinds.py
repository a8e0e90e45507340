"""Results of every kind of answer are published, verified and regraded by the rules of their task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lm_eval_output import write_output
from lm_eval_ext.grading import GRADER_VERSION
from lm_eval_ext.runs.run import TaskResult
from tests.published import add, edit, edit_samples, only_run, said

TASK = "tts_strategyqa_b1024"
METRICS = [
    {"metric": "text_match", "aggregation": "mean", "higher_is_better": True, "synonyms": "yes_no"},
    {"metric": "text_graded", "aggregation": "share_compared", "higher_is_better": True, "synonyms": "yes_no"},
]


def output(folder: Path, *, grader: int = GRADER_VERSION) -> Path:
    """lm-eval's output of a task of yes and no: two samples of four questions, half of them right."""
    path = write_output(folder, {TASK: [[True, False]] * 4}, text="So be it.</think>\\boxed{%s}", grader=grader)

    def config(content: dict[str, Any]) -> None:
        filters = [{"name": "answer", "filter": [{"function": "text_answer"}]}]
        content["configs"][TASK] |= {"metric_list": METRICS, "filter_list": filters}
        content["results"][TASK] |= {"chance,answer": 0.5, "chance_stderr,answer": 0.0}

    edit(path, config)
    (samples,) = folder.rglob("samples_*.jsonl")
    rows = [json.loads(line) for line in samples.read_text("utf-8").splitlines()]
    for row in rows:
        row |= {
            "target": "True",
            "filtered_resps": [["Yes", "no"]],
            "metrics": [*row["metrics"], "chance"],
            "chance": 0.5,
        }
        row["resps"] = [["So be it.</think>\\boxed{Yes}", "So be it.</think>\\boxed{no}"]]
    samples.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def test_a_run_is_verified_by_the_rules_of_its_task(tmp_path: Path) -> None:
    output(tmp_path / "out")
    add(tmp_path / "out", tmp_path / "results")
    run = only_run(tmp_path / "results")
    content = json.loads(run.read_text("utf-8"))
    task = content["tasks"][TASK]
    assert content["tier"] == "verified"
    assert (task["kind"], task["grading"], task["chance"]) == ("text", {"synonyms": "yes_no"}, 0.5)
    assert "errors: 0" in said("check", tmp_path / "results", "--regrade")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda row: row["outputs"][1].update(answer="yes"), "is not found in its text"),
        (lambda row: row.update(gold="False"), "graded differently"),
    ],
)
def test_a_forged_answer_is_found(change: Any, fault: str, tmp_path: Path) -> None:
    output(tmp_path / "out")
    add(tmp_path / "out", tmp_path / "results")
    edit_samples(only_run(tmp_path / "results"), TASK, change)
    assert fault in said("check", tmp_path / "results", "--regrade", code=1)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"kind": "poem"}, "kind='poem'; expected one of: math, choice, text"),
        (
            {"kind": "number", "grading": {"absolute": 1e9}},
            "expected {'kind': 'text', 'grading': {'synonyms': 'yes_no'}}",
        ),
        ({"grading": {"synonym": "x"}}, "unknown option 'synonym' for text answers"),
        ({"grading": {"synonyms": {"a": ["b" * 20_000]}}}, "grading: is longer than"),
    ],
)
def test_rules_that_cannot_be_are_one_line(change: dict[str, Any], fault: str, tmp_path: Path) -> None:
    output(tmp_path / "out")
    add(tmp_path / "out", tmp_path / "results")
    edit(only_run(tmp_path / "results"), lambda run: run["tasks"][TASK].update(change))
    assert fault in said("check", tmp_path / "results", "--regrade", code=1)


def test_an_older_grade_is_regraded_by_the_rules(tmp_path: Path) -> None:
    path = output(tmp_path / "out", grader=1)
    said("regrade", tmp_path / "out", "--write")
    content = json.loads(path.read_text("utf-8"))
    assert content["configs"][TASK]["metadata"]["grader_version"] == GRADER_VERSION
    assert content["results"][TASK]["acc,answer"] == 0.5


def test_a_choice_with_reasons_is_not_taken_for_free_form() -> None:
    metrics = {name: {"value": 0.5} for name in ("acc", "answered", "graded")}
    task = TaskResult.model_validate(
        {"benchmark": "tts_x", "score": "acc", "metrics": metrics, "questions": 4, "of": 4, "kind": "choice"}
    )
    assert task.guessing is None and task.answers_as == "choice"
