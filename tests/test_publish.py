"""Published runs: written by `add`, held to their samples by `check`, from the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.lm_eval_output import scores, write_output
from lm_eval_ext.grading import GRADER_VERSION
from lm_eval_ext.paths import LEADERBOARD
from lm_eval_ext.runs.load import load
from lm_eval_ext.runs.run import TaskResult
from lm_eval_ext.runs.samples import read_run, read_samples
from tests.commands import cli
from tests.published import CATALOGUE, SECRETS, TASK, VOTES, add, edit, edit_samples, only_run, said


def test_a_run_is_published_with_its_samples_and_verified(tmp_path: Path) -> None:
    given = {TASK: scores(0.4, 30, 3), VOTES: scores(0.5, 30, 8)}
    write_output(tmp_path / "out", given, base="/home/someone/Model-8B", dropped=[3, 4])
    assert ": verified" in add(tmp_path / "out", tmp_path / "results", "--base", "Org/Model-8B")
    path = only_run(tmp_path / "results")
    run = read_run(path)
    assert run.base == "Org/Model-8B" and run.dropped == (3, 4) and run.tier == "verified"
    assert run.tasks[TASK].budget == 512 and run.tasks[VOTES].votes and run.tasks[VOTES].benchmark == "tts_aime24"
    rows = read_samples(path.parent / "samples" / f"{TASK}.jsonl.gz", run.samples[TASK])
    assert [row.score for row in rows] == [sum(right) / 3 for right in given[TASK]]
    assert rows[0].prompt == "What is it, number 0?" and rows[0].outputs[0].grade in ("correct", "wrong")
    assert not [secret for secret in SECRETS if secret in path.read_text("utf-8")]
    assert "drop_layers=[3,4]" in run.command and "hf_" not in run.command
    assert "1 runs; errors: 0" in said("check", tmp_path / "results", "--regrade")


def test_what_cannot_be_published_keeps_nothing_from_being(tmp_path: Path) -> None:
    write_output(tmp_path / "out" / "a", {TASK: [[True]]})
    bad = write_output(tmp_path / "out" / "b", {TASK: [[True]]}, dropped=[3])
    bad.write_text("{", "utf-8")
    output = add(tmp_path / "out", tmp_path / "results", code=1)
    assert ": verified" in output and f"{bad}: cannot be read as JSON" in output
    bad.write_text('{"configs": {"x": "\\ud800"}}', "utf-8")  # half of a character
    assert f"{bad}: cannot be read as JSON" in add(bad, tmp_path / "results", code=1)
    for name in ("x/y z", "../../etc"):
        with_base = said("add", tmp_path / "out" / "a", "--to", tmp_path / "no", "--base", name, code=1)
        assert f"--base {name}: expected a name on the Hub" in with_base and not (tmp_path / "no").exists()
    add(tmp_path / "nothing", tmp_path / "results", code=1)


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {TASK: [[True]]})
    (tmp_path / "file").write_text("x")
    for words in (
        ["add", tmp_path / "out", "--to", tmp_path / "file"],
        ["build", tmp_path / "out", "-o", tmp_path / "file"],
    ):
        done = cli("leaderboard", *words)
        assert done.exit_code == 1 and done.exception.__class__ is SystemExit, done.output
        assert (tmp_path / "file").read_text() == "x"


def test_what_is_published_is_not_published_again(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {TASK: [[True]]})
    add(tmp_path / "out", tmp_path / "results")
    path = only_run(tmp_path / "results")
    assert f"{path}: is already published" in add(tmp_path / "results", tmp_path / "again", code=1)
    edit(path, lambda run: run.update(dtype="float32"))
    told = add(tmp_path / "out", tmp_path / "results", code=1)
    assert told == f"{path.parent}: holds a different run with the same id\n" and read_run(path).dtype == "float32"


def test_two_runs_of_one_id_are_refused(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {TASK: [[True]]})
    add(tmp_path / "out", tmp_path / "results")
    path = only_run(tmp_path / "results")
    twin = Path(shutil.copytree(path.parent, tmp_path / "results" / "another" / path.parent.name)) / "run.json"
    assert f"{path}: id=" not in said("check", tmp_path / "results" / "another")
    assert f"{path} has the same id" in said("check", path, twin, code=1)
    edit(twin, lambda run: run.update(dtype="float32"))
    done = cli("leaderboard", "build", path, twin, "-o", tmp_path / "site")
    assert done.exit_code == 1 and f"{twin}: id={path.parent.name!r}: also the id of {path}" in done.stderr


def test_a_run_beside_its_output_is_read_as_it_was_published(tmp_path: Path) -> None:
    output = write_output(tmp_path / "out", {TASK: [[True]]})
    add(output, tmp_path / "results")
    for paths in ([output, tmp_path / "results"], [tmp_path / "results", output]):
        (found,) = load(paths, CATALOGUE)
        assert found.run.tier == "verified" and found.path == only_run(tmp_path / "results")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda site: site["kinds"].pop("long"), "kinds: long has no title"),
        (lambda site: site.update(titel="x"), "titel"),
        (
            lambda site: site["benchmarks"]["mmlu"].update(kind="deep"),
            "benchmarks.mmlu.kind: expected 'knowledge', 'shallow', 'long'",
        ),
    ],
)
def test_a_faulty_site_yaml_is_one_line(change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path) -> None:
    write_output(tmp_path / "out", {TASK: [[True]]})
    site = yaml.safe_load((LEADERBOARD / "site.yaml").read_text("utf-8"))
    change(site)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(site), "utf-8")
    words = ["leaderboard", "build", tmp_path / "out", "-o", tmp_path / "site", "--site", tmp_path / "mine.yaml"]
    done = cli(*words)
    assert done.exit_code == 1 and done.stderr.startswith(f"lm-eval-tts: {tmp_path / 'mine.yaml'}: ")
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_a_run_that_maintainers_reproduced_stays_so(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {TASK: scores(0.4, 8, 3)})
    add(tmp_path / "out", tmp_path / "results")
    path = only_run(tmp_path / "results")
    edit(path, lambda run: run.update(tier="reproduced"))
    assert ": reproduced" in add(tmp_path / "out", tmp_path / "results")
    assert "errors: 0" in said("check", tmp_path / "results", "--against", tmp_path / "results")


def test_nothing_of_gated_questions_is_published(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {"tts_gpqa_diamond_b512": [[True], [False]]}, text="SECRET %s")
    add(tmp_path / "out", tmp_path / "results")
    path = only_run(tmp_path / "results")
    rows = read_samples(next(path.parent.rglob("*.gz")))
    assert [row.prompt for row in rows] == [None, None] == [row.gold for row in rows]
    assert [(one.grade, one.text, one.answer) for row in rows for one in row.outputs] == [
        ("correct", None, None),
        ("wrong", None, None),
    ]
    assert "errors: 0" in said("check", tmp_path / "results", "--regrade")
    edit_samples(path, "tts_gpqa_diamond_b512", lambda row: row.update(prompt="Which of these?"))
    assert "shows questions" in said("check", tmp_path / "results", code=1)


def test_files_that_nobody_lists_are_found(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {TASK: scores(0.5, 9, 3)})
    add(tmp_path / "out", tmp_path / "results")
    (only_run(tmp_path / "results").parent / "samples" / "gpqa.txt").write_text("Which of these?")
    assert "gpqa.txt: is not listed in a run.json" in said("check", tmp_path / "results", code=1)


def test_the_same_output_gives_the_same_bytes(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {TASK: scores(0.4, 8, 3)})
    for name in ("one", "two"):
        add(tmp_path / "out", tmp_path / name)
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.*")} for name in ("one", "two")
    )
    assert first == second


def test_a_published_run_and_its_output_are_one(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {TASK: scores(0.4, 8, 3)}, samples=False)
    add(tmp_path / "out", tmp_path / "results")
    assert len(load([tmp_path / "results", tmp_path / "out"], CATALOGUE)) == 1


# Every kind of answer, by the rules of its task -----------------------------------------------------------------------


YES_NO = "tts_strategyqa_b1024"
METRICS = [
    {"metric": "text_match", "aggregation": "mean", "higher_is_better": True, "synonyms": "yes_no"},
    {"metric": "text_graded", "aggregation": "share_compared", "higher_is_better": True, "synonyms": "yes_no"},
]


def output(folder: Path, *, grader: int = GRADER_VERSION) -> Path:
    """lm-eval's output of a task of yes and no: two samples of four questions, half of them right."""
    path = write_output(folder, {YES_NO: [[True, False]] * 4}, text="So be it.</think>\\boxed{%s}", grader=grader)

    def config(content: dict[str, Any]) -> None:
        filters = [{"name": "answer", "filter": [{"function": "text_answer"}]}]
        content["configs"][YES_NO] |= {"metric_list": METRICS, "filter_list": filters}
        content["results"][YES_NO] |= {"chance,answer": 0.5, "chance_stderr,answer": 0.0}

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
    task = content["tasks"][YES_NO]
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
    edit_samples(only_run(tmp_path / "results"), YES_NO, change)
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
    edit(only_run(tmp_path / "results"), lambda run: run["tasks"][YES_NO].update(change))
    assert fault in said("check", tmp_path / "results", "--regrade", code=1)


def test_an_older_grade_is_regraded_by_the_rules(tmp_path: Path) -> None:
    path = output(tmp_path / "out", grader=1)
    said("regrade", tmp_path / "out", "--write")
    content = json.loads(path.read_text("utf-8"))
    assert content["configs"][YES_NO]["metadata"]["grader_version"] == GRADER_VERSION
    assert content["results"][YES_NO]["acc,answer"] == 0.5


def test_a_choice_with_reasons_is_not_taken_for_free_form() -> None:
    metrics = {name: {"value": 0.5} for name in ("acc", "answered", "graded")}
    task = TaskResult.model_validate(
        {"benchmark": "tts_x", "score": "acc", "metrics": metrics, "questions": 4, "of": 4, "kind": "choice"}
    )
    assert task.guessing is None and task.answers_as == "choice"
