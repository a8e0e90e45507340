"""Published runs are held to their samples by `leaderboard check`, from the command line."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lm_eval_output import scores, write_output
from tests.published import TASK, VOTES, add, edit, edit_samples, only_run, said


def test_a_score_that_its_samples_do_not_give_is_not_verified(tmp_path: Path) -> None:
    path = write_output(tmp_path / "out", {TASK: [[True], [False]]})
    samples = next(path.parent.glob("samples_*"))
    samples.write_text(samples.read_text("utf-8").replace("boxed{4}", "boxed{9}"), "utf-8")
    output = add(tmp_path / "out", tmp_path / "results")
    assert "question 0: the answer '4' is not found in its text" in output and ": reported" in output


DAMAGE: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "missing": (lambda _: None, "cannot be read ("),
    "cut off": (lambda packed: packed[:-20], "cannot be read ("),
    "not packed": (lambda _: b"{}", "cannot be read ("),
    "no sample": (lambda _: gzip.compress(b'{"id": -1, "score": 1}\n'), "line 1: id=-1"),
    "no JSON": (lambda packed: gzip.compress(gzip.decompress(packed) + b"{"), "line 3: "),
    "too much": (lambda _: gzip.compress(b" " * 10_001), "unpacks to more than"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_samples_that_cannot_be_read_are_one_line(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lm_eval_ext.runs.samples.LARGEST", 10_000)
    write_output(tmp_path / "out", {TASK: [[True]] * 2})
    add(tmp_path / "out", tmp_path / "results")
    path = only_run(tmp_path / "results")
    file = path.parent / "samples" / f"{TASK}.jsonl.gz"
    damaged = DAMAGE[kind][0](file.read_bytes())
    if damaged is None:
        file.unlink()
    else:
        file.write_bytes(damaged)
        assert f"{file}: does not match run.json (SHA-256 differs)" in said("check", tmp_path / "results", code=1)
        edit(path, lambda run: run["samples"].update({TASK: hashlib.sha256(damaged).hexdigest()}))
    told = said("check", tmp_path / "results", code=1)
    assert f"{path}: {file}: {DAMAGE[kind][1]}" in told and told.endswith("1 runs; errors: 2, warnings: 0\n")


FORGERIES: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    (TASK, lambda row: row["outputs"][0].update(text="no idea"), "is not found in its text"),
    (TASK, lambda row: row["outputs"][0].update(grade="wrong", answer="5"), "is not found in its text"),
    (
        VOTES,
        lambda row: [one.update(answer="5", text=r"\boxed{5}") for one in row["outputs"][:2]],
        "graded differently",
    ),
    (TASK, lambda row: row["outputs"][0].update(grade="wrong"), "graded differently"),
    (TASK, lambda row: row.update(gold=None), "has no gold answer"),
    (TASK, lambda row: [one.update(text=None) for one in row["outputs"]], "sample without text"),
    (VOTES, lambda row: row["outputs"][7].update(answer="6"), "is not found in its text"),
    (TASK, lambda row: row["metrics"].update(thinking_tokens=1.0), "thinking_tokens=12.0 is 1.000000"),
    (TASK, lambda row: row.update(id=0), "a question appears twice"),
    (TASK, lambda row: row.update(outputs=row["outputs"][:2]), "not every question has that many samples"),
    (TASK, lambda row: row.update(score=0.5), "do not match its samples"),
    (TASK, lambda row: row.update(hash="ab"), "do not match its samples"),
]


@pytest.mark.parametrize("number", range(len(FORGERIES)))
def test_forged_samples_are_found(number: int, tmp_path: Path) -> None:
    task, change, message = FORGERIES[number]
    write_output(tmp_path / "out", {TASK: [[True] * 3] * 3, VOTES: [[True] * 5 + [False] * 3] * 3})
    add(tmp_path / "out", tmp_path / "results")
    edit_samples(only_run(tmp_path / "results"), task, change)
    output = said("check", tmp_path / "results", "--regrade", code=1)
    assert message in output and "tier=verified; allowed: reported" in output


@pytest.mark.parametrize("metric", ["pass@4", "maj@8", "acc", "answered"])
def test_forged_scores_are_found(metric: str, tmp_path: Path) -> None:
    write_output(tmp_path / "out", {VOTES: scores(0.5, 9, 8)})
    add(tmp_path / "out", tmp_path / "results")
    edit(only_run(tmp_path / "results"), lambda run: run["tasks"][VOTES]["metrics"][metric].update(value=0.123))
    assert f"{metric}=0.123 is" in said("check", tmp_path / "results", "--regrade", code=1)


def test_a_metric_that_no_samples_give_is_found(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {VOTES: scores(0.5, 9, 8)})
    add(tmp_path / "out", tmp_path / "results")
    edit(only_run(tmp_path / "results"), lambda run: run["tasks"][VOTES]["metrics"].update({"maj@64": {"value": 0.9}}))
    assert "maj@64=0.9: cannot be computed" in said("check", tmp_path / "results", "--regrade", code=1)


@pytest.mark.parametrize("word", [{"gated": True}, {"dataset": "org/gpqa"}])
def test_a_task_that_calls_itself_gated_is_not_verified(word: dict[str, Any], tmp_path: Path) -> None:
    write_output(tmp_path / "out", {TASK: [[False] * 3] * 3})
    add(tmp_path / "out", tmp_path / "results")
    path = only_run(tmp_path / "results")
    edit_samples(
        path, TASK, lambda row: [row.pop("prompt"), row.pop("gold"), row.update(outputs=[{"grade": "wrong"}] * 3)]
    )
    edit(path, lambda run: run["tasks"][TASK].update(word))
    assert "tier=verified; allowed: reported" in said("check", tmp_path / "results", "--regrade", code=1)


def test_a_part_that_passes_for_the_whole_is_found(tmp_path: Path) -> None:
    write_output(tmp_path / "a", {TASK: scores(0.5, 9, 3)})
    write_output(tmp_path / "b", {TASK: scores(0.9, 2, 3)}, dropped=[3])
    for name in ("a", "b"):
        add(tmp_path / name, tmp_path / "results")
    assert "of=2, but other runs have 9 questions" in said("check", tmp_path / "results", code=1)


def test_gold_answers_are_the_same_in_all_runs(tmp_path: Path) -> None:
    write_output(tmp_path / "a", {TASK: scores(0.5, 9, 3)})
    write_output(tmp_path / "b", {TASK: scores(0.4, 9, 3)}, dropped=[3])
    for name in ("a", "b"):
        add(tmp_path / name, tmp_path / "results")
    path = next(path for path in (tmp_path / "results").rglob("run.json") if "dense" in str(path))
    edit_samples(path, TASK, lambda row: row.update(gold="5"))
    assert "gold answer differs from" in said("check", tmp_path / "results", code=1)


def test_what_was_published_stays_and_nothing_is_from_the_future(tmp_path: Path) -> None:
    write_output(tmp_path / "a", {TASK: scores(0.5, 9, 3)})
    write_output(tmp_path / "b", {TASK: scores(0.4, 9, 3)}, dropped=[3])
    for name, to in (("a", "before"), ("b", "results")):
        add(tmp_path / name, tmp_path / to)
    edit(only_run(tmp_path / "results"), lambda run: run.update(date="2099-01-01T00:00:00Z"))
    output = said("check", tmp_path / "results", "--against", tmp_path / "before", code=1)
    assert (
        "was published before and is missing now" in output and "date=2099-01-01T00:00:00Z is in the future" in output
    )


def test_other_formats_of_thinking_are_verified_too(tmp_path: Path) -> None:
    """Granite's marks, and a model that goes on to think after its answer began."""
    for number, text in enumerate(
        [
            r"Here is my thought process: \boxed{3} Here is my response: \boxed{%s}",
            r"x</think>\boxed{%s} <think>",
        ]
    ):
        write_output(tmp_path / str(number), {TASK: [[True], [True]]}, text=text)
        assert ": verified" in add(tmp_path / str(number), tmp_path / f"results{number}")


def test_a_forged_interval_is_found(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {TASK: scores(0.5, 9, 3)})
    add(tmp_path / "out", tmp_path / "results")
    edit(only_run(tmp_path / "results"), lambda run: run["tasks"][TASK]["metrics"]["acc"].update(stderr=0.001))
    assert "standard error 0.001" in said("check", tmp_path / "results", code=1)


def test_others_tasks_verify_nothing(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {"arc_easy": [[True], [False]]})
    assert ": reported" in add(tmp_path / "out", tmp_path / "results")
    edit(only_run(tmp_path / "results"), lambda run: run.update(tier="verified"))
    assert "tier=verified; allowed: reported" in said("check", tmp_path / "results", code=1)


def test_a_task_cannot_pass_for_another_benchmark(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {"my_task": [[True]]})
    add(tmp_path / "out", tmp_path / "results")
    path = only_run(tmp_path / "results")
    edit(path, lambda run: run["tasks"]["my_task"].update(benchmark="tts_aime24", budget=8192))
    assert "expected those in its name" in said("check", tmp_path / "results", code=1)


def test_only_a_maintainer_calls_a_run_reproduced(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {TASK: scores(0.5, 9, 3)})
    for name in ("results", "before"):
        add(tmp_path / "out", tmp_path / name)
    edit(only_run(tmp_path / "results"), lambda run: run.update(tier="reproduced"))
    assert "tier=reproduced; allowed: verified" in said(
        "check", tmp_path / "results", "--regrade", "--against", tmp_path / "before", code=1
    )
    said("check", tmp_path / "results", "--against", tmp_path / "no such folder", code=1)


def test_check_finds_what_a_reviewer_would(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_output(tmp_path / "a", {TASK: scores(0.6, 9, 3)})
    write_output(tmp_path / "b", {TASK: scores(0.3, 9, 3)}, dropped=[5], method="x`|<b>@me")
    for name in ("a", "b"):
        add(tmp_path / name, results)
    assert "2 runs; errors: 0, warnings: 0" in said("check", results, "--table", tmp_path / "table.md")
    table = (tmp_path / "table.md").read_text("utf-8")
    assert "| `Org/Model-8B` | `x'\\|<b>@me -1` | `tts_aime24_b512` |" in table

    path = next(path for path in results.rglob("run.json") if "-1-" in str(path))
    edit(path, lambda run: run["tasks"][TASK]["scores"].__setitem__(0, 0.123))
    assert "scores do not match its samples" in said("check", results, code=1)
    path.parent.rename(path.parent.with_name("another"))
    assert "the name of its folder, 'another'" in said("check", results, code=1)
    assert "is not a published run" in said("check", tmp_path / "a", code=1)


def test_check_knows_duplicates_changes_and_missing_baselines(tmp_path: Path) -> None:
    write_output(tmp_path / "b", {TASK: scores(0.3, 9, 3)}, dropped=[5], of=30)
    add(tmp_path / "b", tmp_path / "results")
    output = said("check", tmp_path / "results")
    assert "no run of the base model Org/Model-8B" in output and "partial" in output and "warnings: 2" in output
    path = only_run(tmp_path / "results")
    content = json.loads(path.read_text("utf-8"))
    twin = path.parent.with_name("twin-of-it")
    twin.mkdir()
    (twin / "run.json").write_text(json.dumps({**content, "id": "twin-of-it", "samples": {}, "tier": "reported"}))
    assert "warning: has the same model and scores" in said("check", tmp_path / "results")
    path.write_text(json.dumps({**content, "dtype": "float32"}), "utf-8")
    add(tmp_path / "b", tmp_path / "before")
    output = said("check", path.parent, "--against", tmp_path / "before", code=1)
    assert "published before with different content" in output
