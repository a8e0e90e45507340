"""Regrading multiple-choice answers; versions of the grader are never mixed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lm_eval_output import scores, write_output
from lm_eval_ext.analysis.board import Board, kept_of
from lm_eval_ext.grading import GRADER_VERSION
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import load
from lm_eval_ext.runs.samples import read_run, read_samples
from lm_eval_ext.site.lines import Family, budget_charts, depth_charts
from lm_eval_ext.site.rendering import Names
from tests.published import add, edit, edit_samples, only_run, said
from tests.test_authoring import new
from tests.test_regrade import QUIZ, TASK, published
from tests.test_submission import changed_rows


@pytest.fixture
def quiz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Publishes a run of a registry's own multiple-choice benchmark, whose right answer is A."""
    data = tmp_path / "quiz.jsonl"
    rows = [{"question": f"Which of {number}?", "a": "x", "b": "y", "answer": "A"} for number in range(3)]
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    fields = ["--question", "question", "--answer", "answer", "--choices", "a", "--choices", "b"]
    assert new("quiz", "--dataset", data, *fields, "--to", tmp_path / "tasks")[0] == 0
    monkeypatch.setattr("lm_eval_ext.authoring.task_registry.TASKS", tmp_path / "tasks")

    def letters(row: dict[str, Any]) -> None:
        letter = "A" if row["acc"] else "B"
        row.update(target="A", resps=[[rf"so</think>\boxed{{{letter}}}"]], filtered_resps=[[letter]])
        row["metrics"].remove("graded")
        del row["graded"]

    def write(grader: int | None) -> Path:
        path = write_output(tmp_path / "out", {QUIZ: [[True], [False], [True]]}, grader=grader)
        changed_rows(path, letters)
        edit(path, lambda content: content["results"][QUIZ].pop("graded,answer"))
        add(tmp_path / "out", tmp_path / "results")
        return only_run(tmp_path / "results")

    return write


def test_a_choice_benchmark_is_verified_letter_by_letter(quiz: Callable[..., Path], tmp_path: Path) -> None:
    path = quiz(GRADER_VERSION)
    assert read_run(path).tier == "verified"
    assert "errors: 0" in said("check", tmp_path / "results", "--regrade")
    forgeries: dict[str, Callable[[dict[str, Any]], Any]] = {
        "2 of 3 questions are graded differently now": lambda row: row["outputs"][0].update(grade="wrong"),
        "question 1: the answer 'A' is not found": lambda row: row["outputs"][0].update(answer="A", grade="correct"),
    }
    for message, change in forgeries.items():
        edit_samples(path, QUIZ, change)
        assert message in said("check", tmp_path / "results", "--regrade", code=1)


def test_a_choice_benchmark_is_graded_again_by_letters(quiz: Callable[..., Path], tmp_path: Path) -> None:
    path = quiz(None)

    def unread(row: dict[str, Any]) -> None:
        row["outputs"][0].update(answer="", grade="no answer")
        if row["id"] == 2:
            row["outputs"][0].update(text="so I do not know</think>")

    edit_samples(path, QUIZ, unread)
    told = said("regrade", tmp_path / "results", "--write")
    assert f"{QUIZ}: acc 0.6667 -> 0.3333, 1 of 3 questions changed" in told
    rows = read_samples(path.parent / "samples" / f"{QUIZ}.jsonl.gz", read_run(path).samples[QUIZ])
    assert [(row.outputs[0].answer, row.outputs[0].grade) for row in rows] == [
        ("A", "correct"), ("B", "wrong"), ("", "no answer"),
    ]  # fmt: skip


def test_a_new_run_has_to_be_graded_by_todays_version(tmp_path: Path) -> None:
    published(tmp_path, grader=None)
    (tmp_path / "before").mkdir()
    told = said("check", tmp_path / "results", "--against", tmp_path / "before", code=1)
    assert "graded by version 1, not comparable with the current version" in told and "errors: 1" in told


def test_a_newer_grader_is_told(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {TASK: scores(0.4, 6)}, grader=GRADER_VERSION + 1)
    add(tmp_path / "out", tmp_path / "results")
    assert f"graded by version {GRADER_VERSION + 1}" in said("check", tmp_path / "results", code=1)
    assert "of this lm-eval-tts" in said("regrade", tmp_path / "results")


def test_versions_are_never_mixed_in_a_comparison(tmp_path: Path) -> None:
    given: Callable[[int], Any] = lambda seed: {  # noqa: E731  # one task at two budgets
        f"tts_aime24_b{budget}": scores(0.5 - 0.2 * (seed > 0), 30, 3, seed) for budget in (512, 1024)
    }
    for number, (dropped, grader) in enumerate({(): GRADER_VERSION, (7,): None, (6, 7): GRADER_VERSION}.items()):
        write_output(tmp_path / str(number), given(number), dropped=dropped, grader=grader)
    catalogue = read_catalogue()
    board = Board([source.run for source in load([tmp_path], catalogue)], catalogue)
    older, newer = (kept_of(board, entry) for entry in board.entries if not entry.dense)
    assert older.long is None and newer.long is not None and len(board.ranks) == 2

    kept = {entry.key: kept_of(board, entry) for entry in board.entries}
    family = Family(board, "Org/Model-8B", Names.of(board.entries), kept)
    (budgets,), (depths,) = budget_charts(family), depth_charts(family)
    assert [line.name[-1:] for line in budgets.panel.lines] == ["e", "t"], "the base and two layers off"
    assert [point.at for line in depths.panel.lines for point in line.points] == [0, 2]
    said("build", tmp_path, "-o", tmp_path / "site")
    pages = {path.parent.name: path.read_text("utf-8") for path in (tmp_path / "site" / "runs").glob("*/index.html")}
    assert "†" in (tmp_path / "site" / "index.html").read_text("utf-8")
    assert sum("Graded by an older version" in page for page in pages.values()) == 1
