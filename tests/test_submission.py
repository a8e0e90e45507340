"""From lm-eval's output to published runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lm_eval_ext.cli import app
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.site.catalogue import read_catalogue
from lm_eval_ext.site.command import public_name
from lm_eval_ext.site.load import load
from lm_eval_ext.site.run import read_run
from lm_eval_ext.site.samples import read_samples
from lm_eval_ext.site.submission import submission
from tests.lm_eval_output import scores, write_output

CATALOGUE = read_catalogue()
SECRETS = ("/home/", "someone", "hf_abc", "secret")


def add(output: Path, to: Path, *more: str) -> str:
    done = CliRunner().invoke(app, ["leaderboard", "add", str(output), "--to", str(to), *more])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_run_is_published_with_its_samples_and_verified(tmp_path: Path) -> None:
    given = {"tts_aime24_b512": scores(0.4, 30, 3), "tts_aime24_b1024": scores(0.5, 30, 3)}
    write_output(tmp_path / "out", given, base="/home/someone/Model-8B", dropped=[3, 4])
    assert ": verified" in add(tmp_path / "out", tmp_path / "results", "--base", "Org/Model-8B")
    (path,) = (tmp_path / "results").rglob("run.json")
    run = read_run(path)
    assert run.base == "Org/Model-8B" and run.dropped == (3, 4) and run.tier == "verified"
    assert run.tasks["tts_aime24_b512"].budget == 512 and run.tasks["tts_aime24_b512"].benchmark == "tts_aime24"
    rows = read_samples(path.parent / "samples" / "tts_aime24_b512.jsonl.gz", run.samples["tts_aime24_b512"])
    assert [row.score for row in rows] == [sum(right) / 3 for right in given["tts_aime24_b512"]]
    assert rows[0].prompt == "What is it, number 0?" and rows[0].outputs[0].grade in ("correct", "wrong")
    text = path.read_text("utf-8")
    assert not [secret for secret in SECRETS if secret in text]
    assert "drop_layers=[3,4]" in run.command and "token" not in run.command


def test_a_score_that_its_samples_do_not_give_is_not_verified(tmp_path: Path) -> None:
    path = write_output(tmp_path / "out", {"tts_aime24_b512": [[True], [False]]})
    samples = next(path.parent.glob("samples_*"))
    samples.write_text(
        samples.read_text("utf-8").replace("boxed{5}", "boxed{4}").replace("boxed{4}", "boxed{9}", 1), "utf-8"
    )
    said = add(tmp_path / "out", tmp_path / "results")
    assert "2 of 2 questions score otherwise" in said and ": reported" in said


def test_samples_of_another_run_are_refused(tmp_path: Path) -> None:
    path = write_output(tmp_path, {"tts_aime24_b512": [[True], [False]]})
    content = json.loads(path.read_text("utf-8"))
    content["results"]["tts_aime24_b512"]["acc,answer"] = 1.0
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ResultsError, match=r"acc=1.0 of 2 questions, but its samples file gives 0.5"):
        submission(path, CATALOGUE)


def test_nothing_of_gated_questions_is_published(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {"tts_gpqa_diamond_b512": [[True], [False]]}, text="SECRET %s")
    add(tmp_path / "out", tmp_path / "results")
    (path,) = (tmp_path / "results").rglob("*.gz")
    rows = read_samples(path)
    assert [row.prompt for row in rows] == [None, None] == [row.gold for row in rows]
    assert [(one.grade, one.text, one.answer) for row in rows for one in row.outputs] == [
        ("correct", None, None),
        ("wrong", None, None),
    ]


def test_one_row_of_each_question_counts_however_many_filters_there_are(tmp_path: Path) -> None:
    """As lm-eval writes GSM8K: a row for each filter."""
    path = write_output(tmp_path, {"gsm8k": [[True], [False]]}, config={"pruning": None, "model": "hf"})
    content = json.loads(path.read_text("utf-8"))
    content["results"]["gsm8k"] = {
        "exact_match,strict-match": 0.0, "exact_match_stderr,strict-match": 0.0,
        "exact_match,flexible-extract": 0.5, "exact_match_stderr,flexible-extract": 0.5,
    }  # fmt: skip
    path.write_text(json.dumps(content), "utf-8")
    samples = next(tmp_path.glob("samples_*"))
    rows = [json.loads(line) for line in samples.read_text("utf-8").splitlines()]
    both: list[dict[str, Any]] = []
    for row in rows:
        both.append({**row, "filter": "strict-match", "exact_match": 0.0, "metrics": ["exact_match"]})
        both.append({**row, "filter": "flexible-extract", "exact_match": row["acc"], "metrics": ["exact_match"]})
    samples.write_text("".join(f"{json.dumps(row)}\n" for row in both), "utf-8")
    run, found = submission(path, CATALOGUE)
    assert run.tasks["gsm8k"].filter == "flexible-extract" and run.tasks["gsm8k"].scores == (1.0, 0.0)
    assert len(found["gsm8k"]) == 2 and run.pruning is None and run.dense


def test_a_group_with_an_accuracy_stands_for_its_members(tmp_path: Path) -> None:
    path = write_output(tmp_path, {"mmlu_a": [[True]], "mmlu_b": [[False]]}, samples=False)
    content = json.loads(path.read_text("utf-8"))
    content["results"]["mmlu"] = {"acc,none": 0.5, "acc_stderr,none": 0.01, "sample_len": 2}
    content["group_subtasks"] = {"mmlu": ["mmlu_a", "mmlu_b"]}
    path.write_text(json.dumps(content), "utf-8")
    assert list(submission(path, CATALOGUE).run.tasks) == ["mmlu"]


def test_the_same_output_gives_the_same_bytes(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {"tts_aime24_b512": scores(0.4, 8, 3)})
    for name in ("one", "two"):
        add(tmp_path / "out", tmp_path / name)
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.*")} for name in ("one", "two")
    )
    assert first == second


def test_a_published_run_and_its_output_are_one(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {"tts_aime24_b512": scores(0.4, 8, 3)}, samples=False)
    add(tmp_path / "out", tmp_path / "results")
    assert len(load([tmp_path / "results", tmp_path / "out"], CATALOGUE)) == 1


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("/data/models/Qwen3-8B/", "Qwen3-8B"),
        ("~/m", "m"),
        ("./a/b", "b"),
        (r"C:\models\x", "x"),
        ("a/b/c", "c"),
        ("gpt2", "gpt2"),
    ],
)
def test_names_of_models_tell_no_paths(name: str, public: str) -> None:
    assert public_name(name) == public


def checked(results: Path, *more: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["leaderboard", "check", str(results), *more])
    return done.exit_code, done.output


def test_check_finds_what_a_reviewer_would(tmp_path: Path) -> None:
    results = tmp_path / "results"
    dense, pruned = {"tts_aime24_b512": scores(0.6, 9, 3)}, {"tts_aime24_b512": scores(0.3, 9, 3)}
    write_output(tmp_path / "a", dense)
    write_output(tmp_path / "b", pruned, dropped=[5])
    for name in ("a", "b"):
        add(tmp_path / name, results)
    code, said = checked(results, "--regrade", "--table", str(tmp_path / "table.md"))
    assert code == 0 and "2 runs, 0 faults, 0 warnings" in said
    assert "| Org/Model-8B | shortgpt -1 | tts_aime24_b512 |" in (tmp_path / "table.md").read_text("utf-8")

    path = next(path for path in results.rglob("run.json") if "shortgpt" in str(path))
    content = json.loads(path.read_text("utf-8"))
    content["tasks"]["tts_aime24_b512"]["scores"][0] = 0.123
    path.write_text(json.dumps(content), "utf-8")
    code, said = checked(results)
    assert code == 1 and "scores: are not those of its samples" in said

    copy = path.parent.with_name("another")
    path.parent.rename(copy)
    code, said = checked(results)
    assert code == 1 and "the name of its folder, 'another'" in said


def test_check_knows_duplicates_changes_and_missing_baselines(tmp_path: Path) -> None:
    write_output(tmp_path / "b", {"tts_aime24_b512": scores(0.3, 9, 3)}, dropped=[5], of=30)
    add(tmp_path / "b", tmp_path / "results")
    code, said = checked(tmp_path / "results")
    assert code == 0 and "no run of the whole Org/Model-8B" in said and "partial" in said and "2 warnings" in said
    path = next((tmp_path / "results").rglob("run.json"))
    content = json.loads(path.read_text("utf-8"))
    twin = path.parent.with_name("twin-of-it")
    twin.mkdir()
    (twin / "run.json").write_text(json.dumps({**content, "id": "twin-of-it", "samples": {}}), "utf-8")
    code, said = checked(tmp_path / "results")
    assert code == 1 and "the same model and scores" in said
    (path.parent / "run.json").write_text(json.dumps({**content, "dtype": "float32"}), "utf-8")
    before = tmp_path / "before"
    add(tmp_path / "b", before)
    code, said = checked(path.parent, "--against", str(before))
    assert code == 1 and "published before with other content" in said
