"""Results of an older grader: told, compared only with their like, and graded again from the texts that were kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lm_eval_output import scores, write_output
from lm_eval_ext.grading import GRADER_VERSION
from lm_eval_ext.runs.samples import read_run
from tests.commands import LM_EVAL, run
from tests.published import add, edit, edit_samples, only_run, said
from tests.test_submission import changed_rows

TASK, GATED = "tts_aime24_b512", "tts_gpqa_diamond_b512"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the embedded model."""
    out = tmp_path_factory.mktemp("output")
    done = run(
        LM_EVAL, "--model", "pruned-hf", "--model_args", "journal=off", "--tasks", "tts_chain_b16,tts_chain_maj8",
        "--limit", "5", "--batch_size", "64", "--output_path", out, "--log_samples",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return out


@pytest.fixture
def results(output: Path, tmp_path: Path) -> Path:
    """Its results file, in a folder of the test's own."""
    (found,) = output.rglob("results_*.json")
    for file in found.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / found.name


def graded_worse(results: Path, task: str) -> dict[str, Any]:
    """Make it a run of version 1, which called the answers to the first question wrong; returns what it was."""
    was: dict[str, Any] = json.loads(results.read_text("utf-8"))
    (file,) = results.parent.glob(f"samples_{task}_*")
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    wrong = next(row for row in rows if row["acc"] == 1)
    for name in wrong["metrics"]:
        if name.startswith(("acc", "pass", "maj")):
            wrong[name] = 0.0
    wrong["graded"] = ["unparsable" for _ in wrong["graded"]]
    wrong["filtered_resps"] = [[f"={answer}" for answer in wrong["filtered_resps"][0]]]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")

    def older(content: dict[str, Any]) -> None:
        del content["configs"][task]["metadata"]["grader_version"]
        for key, value in content["results"][task].items():
            if key.startswith(("acc,", "pass", "maj")) and "stderr" not in key:
                content["results"][task][key] = value - 1 / len(rows)

    edit(results, older)
    return was


def test_results_say_which_version_graded_them(results: Path) -> None:
    configs = json.loads(results.read_text("utf-8"))["configs"]
    assert {config["metadata"]["grader_version"] for config in configs.values()} == {GRADER_VERSION}
    assert f"already graded by version {GRADER_VERSION}" in said("regrade", results)


@pytest.mark.parametrize("task", ["tts_chain_b16", "tts_chain_maj8"])
def test_an_output_folder_is_graded_again(results: Path, task: str) -> None:
    was = graded_worse(results, task)
    before, files = results.read_bytes(), set(results.parent.iterdir())
    told = said("regrade", results.parent)
    good = was["results"][task]["acc,answer"]
    assert f"{task}: acc {good - 0.2:.4f} -> {good:.4f}, 1 of 5 questions changed" in told and "add --write" in told
    assert results.read_bytes() == before and set(results.parent.iterdir()) == files, "only shown"

    assert said("regrade", results.parent, "--write") == told.replace(
        "not written; add --write to write them", "written"
    )
    now = json.loads(results.read_text("utf-8"))
    assert now["results"][task] == pytest.approx(was["results"][task]), "errors of means as well"
    assert now["configs"][task]["metadata"]["grader_version"] == GRADER_VERSION
    assert results.with_name(f"{results.name}.grader-1").read_bytes() == before, "nothing is lost"
    rows = [json.loads(line) for line in next(results.parent.glob(f"samples_{task}_*.jsonl")).read_text().splitlines()]
    assert all(row["graded"].count("correct") / len(row["graded"]) == row["acc"] for row in rows)
    assert "already" in said("regrade", results.parent, "--write")
    assert "verified" in add(results, results.parent / "published")


@pytest.mark.parametrize("published_run", [False, True])
def test_regrading_that_was_killed_goes_on(
    published_run: bool, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graded_worse(results, "tts_chain_b16")
    main = published(tmp_path / "other", grader=None) if published_run else results
    replace, done = Path.replace, list[Path]()

    def killed(path: Path, target: Path) -> Path:
        if path.name.endswith(".new"):
            if done:
                raise KeyboardInterrupt
            done.append(path)
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        said("regrade", main.parent, "--write", code=130)
    assert len(done) == 1, "after the first of several files"
    assert "its regrading was interrupted; finish it with: lm-eval-tts leaderboard regrade" in said(
        "regrade", main.parent, code=1
    )
    assert "already graded" in said("regrade", main.parent, "--write")
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith((".new", ".replacing"))]
    assert "already graded" in said("regrade", main.parent)


@pytest.mark.parametrize("record", ["{}", '{"files": 3}', '{"files": ["../other"]}', '{"files": ["/other"]}'])
def test_a_record_of_regrading_that_is_none_is_one_line(record: str, results: Path) -> None:
    place = results.with_name(f"{results.name}.replacing")
    place.write_text(record)
    told = said("regrade", results.parent, "--write", code=1)
    assert told.startswith(f"{place}: files: expected a list of files in its folder or below\n") and place.exists()


def test_samples_of_another_run_are_refused(results: Path) -> None:
    graded_worse(results, "tts_chain_b16")
    edit(results, lambda content: content["results"]["tts_chain_b16"].update({"acc,answer": 0.99}))
    before = {path: path.read_bytes() for path in results.parent.iterdir()}
    assert "tts_chain_b16: acc=0.99, but its samples file gives" in said("regrade", results, "--write", code=1)
    assert {path: path.read_bytes() for path in results.parent.iterdir()} == before


def test_a_part_of_the_samples_is_refused(results: Path) -> None:
    graded_worse(results, "tts_chain_b16")
    (file,) = results.parent.glob("samples_tts_chain_b16_*")
    for kept in (3, 0):
        file.write_text("".join(file.read_text("utf-8").splitlines(keepends=True)[:3][:kept]), "utf-8")
        before = results.read_bytes()
        told = said("regrade", results, "--write", code=1)
        assert f"its samples file has {len(file.read_text().splitlines())} questions, the results 5" in told
        assert results.read_bytes() == before


def test_what_cannot_be_graded_again_keeps_its_scores(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {TASK: scores(0.4, 6), GATED: scores(0.5, 6)}, grader=None)
    told = add(tmp_path / "out", tmp_path / "results")
    assert "not comparable with the current version" in told and "regrade" in told
    path = only_run(tmp_path / "results")
    told = said("regrade", tmp_path / "results", "--write")
    assert f"{GATED}: acc 0.1667 kept: gated, graded by version 1" in told
    tasks = read_run(path).tasks
    assert (tasks[GATED].graded_by, tasks[TASK].graded_by) == (1, GRADER_VERSION)

    write_output(tmp_path / "bare", {TASK: scores(0.4, 6)}, grader=None, samples=False)
    edit(next((tmp_path / "bare").glob("*.json")), with_metrics)
    assert "kept: its samples were not saved" in said("regrade", tmp_path / "bare", "--write")


def with_metrics(content: dict[str, Any]) -> None:
    content["configs"][TASK]["metric_list"] = [{"metric": "math_verify"}]


def with_filter(content: dict[str, Any]) -> None:
    with_metrics(content)
    content["configs"][TASK]["filter_list"] = [{"name": "answer", "filter": [{"function": "math_answer"}]}]


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], Any], Callable[[dict[str, Any]], Any], str]] = {
    "group": (
        lambda content: content.update(groups={"tts_all": {"acc,answer": 0.5}}), len,
        "groups.tts_all: cannot regrade a group that averages its tasks",
    ),
    "no accuracy": (lambda content: content["results"][TASK].pop("acc,answer"), len, f"results.{TASK}: has no acc"),
    "aggregation": (
        lambda content: content["configs"][TASK]["metric_list"][0].update(aggregation="mode"), len,
        "unknown aggregation 'mode'; expected one of: ",
    ),
    "no gold answer": (len, lambda row: row.update(target=4), f"{TASK}: question 0: has no gold answer"),
    "no texts": (len, lambda row: row.update(resps=[[1.5]]), f"{TASK}: question 0: has no answers as texts"),
    "fewer answers": (
        len, lambda row: row.update(resps=[["a", "b"]]),
        f"{TASK}: question 1: does not have one answer for each text",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_output_that_cannot_be_graded_again_is_one_line(name: str, tmp_path: Path) -> None:
    change, change_row, message = FAULTS[name]
    path = changed_rows(write_output(tmp_path, {TASK: scores(0.4, 6)}, grader=None), change_row)
    edit(path, with_filter)
    edit(path, change)
    before = path.read_bytes()
    told = said("regrade", tmp_path, "--write", code=1)
    assert told.startswith(f"{path}: ") and message in told and told.endswith("\ntasks regraded: 0\n")
    assert path.read_bytes() == before


def test_tasks_and_groups_of_others_are_left_alone(tmp_path: Path) -> None:
    path = write_output(tmp_path / "out", {"arc_easy": scores(0.4, 6)}, grader=None)
    edit(path, lambda content: content.update(groups={"mine": {"exact_match,none": 0.5}}))
    assert said("regrade", tmp_path / "out", "--write") == "tasks regraded: 0\n"
    edit(path, lambda content: content["results"]["arc_easy"].pop("answered,answer"))
    add(tmp_path / "out", tmp_path / "results")
    assert said("regrade", tmp_path / "results", "--write") == "tasks regraded: 0\n"


ANSWERED = r"So \boxed{4}"


@pytest.mark.parametrize(
    ("text", "answer", "tokens", "found"),
    [
        (ANSWERED, "4", 12.0, "4"),  # the end of thinking is not in the text
        (ANSWERED, "", 12.0, ""),  # cut while it was thinking
        (ANSWERED, "", 0.0, "4"),  # did not think
        (ANSWERED, "", None, "4"),  # of a stock model, which records no tokens
        (rf"{ANSWERED}</think>", "", None, ""),
        (r"x</think>\boxed{4}7</think>+4=8", "4", 12.0, "4"),  # after the first of two ends
        (r"x</think>\boxed{4</think>+4=8", "", 12.0, ""),
    ],
)
def test_answers_are_looked_for_where_they_were(
    text: str, answer: str, tokens: float | None, found: str, tmp_path: Path
) -> None:
    fields = {"resps": [[text]], "filtered_resps": [answer], "acc": float(answer == "4"), "thinking_tokens": tokens}
    path = changed_rows(write_output(tmp_path, {TASK: [[True]] * 3}, grader=None), lambda row: row.update(fields))
    edit(path, with_filter)
    edit(path, lambda content: content["results"][TASK].update({"acc,answer": fields["acc"]}))
    edit(path, lambda content: content["results"][TASK].pop("answered,answer"))
    assert f"-> {float(found == '4'):.4f}" in said("regrade", tmp_path, "--write")
    (file,) = tmp_path.glob("samples_*.jsonl")
    assert [json.loads(row)["filtered_resps"] for row in file.read_text("utf-8").splitlines()] == [[found]] * 3
    assert "answered,answer" not in json.loads(path.read_text("utf-8"))["results"][TASK], (
        "what was not told is not added"
    )


def test_every_earlier_version_is_kept(tmp_path: Path) -> None:
    path = write_output(tmp_path, {TASK: scores(0.4, 6)}, grader=None)
    edit(path, with_metrics)
    kept = []
    for _ in range(2):
        kept.append(path.read_bytes())
        assert "tasks regraded: 1, written" in said("regrade", tmp_path, "--write")
        edit(path, lambda content: content["configs"][TASK]["metadata"].update(grader_version=1))
    assert [path.with_name(f"{path.name}.grader-{number}").read_bytes() for number in (1, 2)] == kept


def published(folder: Path, **given: Any) -> Path:
    """A published run of one task, with a text that is right though it was called wrong."""
    write_output(folder / "out", {TASK: [[True], [False], [True]]}, text="so</think>\\boxed{%s}", **given)
    file = next((folder / "out").glob("samples_*"))
    file.write_text(file.read_text().replace("boxed{5}", "boxed{4}"), "utf-8")
    add(folder / "out", folder / "results")
    return only_run(folder / "results")


def test_a_published_run_is_graded_again_and_checked(tmp_path: Path) -> None:
    path = published(tmp_path, grader=None)
    old = tmp_path / "old" / path.parent.parent.name / path.parent.name
    old.mkdir(parents=True)
    (old / "run.json").write_bytes(path.read_bytes())
    (old / "samples").mkdir()
    for file in (path.parent / "samples").iterdir():
        (old / "samples" / file.name).write_bytes(file.read_bytes())

    told = said("check", tmp_path / "results", "--regrade")
    assert f"lm-eval-tts leaderboard regrade {path.parent} --write" in told and "errors: 0, warnings: 1" in told
    assert "0.6667 -> 1.0000, 1 of 3 questions changed" in said("regrade", tmp_path / "results", "--write")
    assert read_run(path).tasks[TASK].accuracy.value == 1
    assert "errors: 0, warnings: 0" in said("check", tmp_path / "results", "--regrade")
    assert "errors: 0" in said("check", tmp_path / "results", "--against", tmp_path / "old")

    edit(old / "run.json", lambda run: run.update(seconds=1.0))
    told = said("check", tmp_path / "results", "--against", tmp_path / "old", code=1)
    assert "was published before with different content" in told, "grading again changes grades alone"


def test_published_runs_that_lack_something_keep_their_scores(tmp_path: Path) -> None:
    write_output(tmp_path / "bare", {TASK: scores(0.4, 6)}, grader=None, samples=False)
    add(tmp_path / "bare", tmp_path / "bare_results")
    assert "kept: its samples were not published" in said("regrade", tmp_path / "bare_results", "--write")

    path = published(tmp_path, grader=None)
    edit_samples(path, TASK, lambda row: row.pop("gold"))
    before = path.read_bytes()
    told = said("regrade", tmp_path / "results", "--write", code=1)
    assert f"{path}: tasks.{TASK}: question 0 has no gold answer, or a sample without text" in told
    assert path.read_bytes() == before


QUIZ = "tts_quiz"
