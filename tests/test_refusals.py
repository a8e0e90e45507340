"""Published runs that contradict themselves, and options that mean nothing: each is refused in one line."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lm_eval_ext.analysis.answer_costs import cache_bytes
from lm_eval_ext.errors import TaskError, TTSError
from lm_eval_ext.harness.session import task_manager
from lm_eval_ext.runs.run import asked_budget
from tests.commands import cli
from tests.shared import BASE_RUN, case_table

TASK = "tts_chain_b128"
SMALLER = BASE_RUN.with_name("tiny-chain-shortgpt-1-603da503")
Run = dict[str, Any]


def refused(*words: str | Path, code: int = 2) -> str:
    """What a command says that ends with an exit code, in one line."""
    done = cli(*words)
    assert done.exit_code == code, done.output
    (line,) = done.stderr.strip().splitlines()
    return line


def changed(
    folder: Path, run: Callable[[Run], object], rows: Callable[[list[Run]], object] | None = None, task: str = TASK
) -> Path:
    """A copy of a published run in which something was changed, also in a task's samples, with the right hashes."""
    copy = Path(shutil.copytree(SMALLER, folder / SMALLER.name))
    content = json.loads((copy / "run.json").read_text())
    if rows:
        path = copy / "samples" / f"{task}.jsonl.gz"
        samples = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        rows(samples)
        path.write_bytes(gzip.compress("".join(f"{json.dumps(row)}\n" for row in samples).encode()))
        content["samples"][task] = hashlib.sha256(path.read_bytes()).hexdigest()
    run(content)
    (copy / "run.json").write_text(json.dumps(content))
    return copy


def all_right(run: Run) -> None:
    task = run["tasks"][TASK]
    task["scores"] = [1.0] * task["questions"]


def nothing(_: object) -> None:
    pass


@pytest.mark.parametrize(
    ("run", "rows", "words"),
    [
        (all_right, None, f"tasks.{TASK}: acc="),
        (nothing, lambda rows: rows.reverse(), "scores do not match its samples"),
        (nothing, lambda rows: rows.pop(), "scores do not match its samples"),
        (nothing, lambda rows: rows[0].update(score=1 - rows[0]["score"]), "scores do not match its samples"),
    ],
    ids=["scores", "order", "fewer", "a score"],
)
def test_a_run_that_contradicts_itself_is_not_compared(
    run: Callable[[Run], object], rows: Callable[[list[Run]], object] | None, words: str, tmp_path: Path
) -> None:
    copy = changed(tmp_path, run, rows)
    assert words in refused("compare", BASE_RUN, copy, "--keep", "0.9", "--on", "tts_chain")


@pytest.mark.parametrize(
    ("votes", "words"),
    [
        (lambda row: row["metrics"].update({"maj@4": 1.0}), "maj@4="),
        (lambda row: row["metrics"].update({"maj@4": 7.0}), "maj@4=7.0; expected 0 to 1"),
    ],
    ids=["others", "impossible"],
)
def test_votes_that_do_not_follow_are_noticed(votes: Callable[[Run], object], words: str, tmp_path: Path) -> None:
    copy = changed(tmp_path, nothing, lambda rows: [votes(row) for row in rows], "tts_chain_maj8")
    done = cli("leaderboard", "check", copy)
    assert done.exit_code == 1 and words in done.output


@pytest.mark.parametrize("chance", [None, 0, 0.9])
def test_another_score_of_guessing_than_the_task_s_is_noticed(chance: float | None, tmp_path: Path) -> None:
    copy = changed(tmp_path, lambda run: run["tasks"][TASK].update(chance=chance))
    done = cli("leaderboard", "check", copy)
    assert done.exit_code == 1 and f"tasks.{TASK}: chance=" in done.output and "expected 0.1" in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", BASE_RUN, SMALLER, "--keep", "0"], "keep=0.0"),
        (["compare", BASE_RUN, SMALLER, "--on", ","], "give names, separated by commas"),
        (["compare", BASE_RUN, SMALLER, "--plan"], "leave out candidate"),
        (["compare", BASE_RUN, SMALLER, "--json", "."], "--json .: is a folder; name a file"),
    ],
    ids=["keep", "on", "plan", "folder"],
)
def test_options_of_compare_that_mean_nothing(words: list[str | Path], said: str) -> None:
    assert said in refused(*words)


def test_an_unknown_field_of_a_comparison_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "compare.yaml").write_text("")
    assert " json," in refused("compare", "--config", tmp_path / "compare.yaml")


def test_what_is_no_journal_stays_what_it_is(tmp_path: Path) -> None:
    empty = tmp_path / "journal.sqlite"
    empty.write_bytes(b"")
    assert "is not a journal" in refused("journal", "show", "--path", empty, code=1) and not empty.read_bytes()
    assert "give a number of days from 0" in refused("journal", "prune", "--older-than", "-5", code=1)


def test_a_repository_s_name_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    words: list[str | Path] = ["export", "tiny-chain-mlp-1", tmp_path / "out", "--push", "a b c"]
    assert "--push a b c: " in refused(*words, code=1) and not (tmp_path / "out").exists()


def test_seeds_of_a_study_are_no_model_s(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "output: out\nmodels: {a: {pretrained: tiny-chain}}\nmodel_args: {seed: 4}\ntasks: [chain]\nbudgets: [16]\n"
    )
    with pytest.raises(TTSError, match=r"models\.a\.seed: each run gets one of the study's seeds"):
        from lm_eval_ext.sweep.manifest import load_manifest

        load_manifest(tmp_path / "study.yaml")


def test_steps_that_are_no_numbers(tmp_path: Path) -> None:
    def with_steps(run: Run) -> None:
        run["tasks"] = {TASK: run["tasks"][TASK]}
        run["tasks"][TASK]["parts"] = {"steps": ["x"] * run["tasks"][TASK]["questions"]}
        run["samples"] = {TASK: run["samples"][TASK]}

    assert "parts.steps='x'; expected numbers of steps" in refused("depth", changed(tmp_path, with_steps), code=1)


def test_an_infinite_budget_is_no_limit_and_sizes_that_are_missing_no_cost() -> None:
    assert asked_budget({"thinking_token_budget": float("inf")}, 5) is None
    assert cache_bytes(10, {"cache_token_bytes": 2.0}) is None


@pytest.mark.parametrize(("candidate", "said"), case_table("wrong_manifests.yaml")["candidates"])
def test_a_dry_run_names_what_is_not_there(candidate: dict[str, str], said: str, tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    content = {
        "output": "out",
        "base": "tiny-chain",
        "candidates": {"a": candidate},
        "benchmarks": {"chain_b8": "critical"},
    }
    path.write_text(json.dumps(content), "utf-8")
    assert said in refused("gate", path, "--dry-run")


def test_paths_of_models_are_those_of_the_file_s_folder(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("Some words to look at.", "utf-8")
    candidate = {"prune": "shortgpt:1", "calibration": "texts.txt"}
    content = {
        "output": "out",
        "base": "tiny-chain",
        "candidates": {"a": candidate},
        "benchmarks": {"chain_b8": "critical"},
    }
    (tmp_path / "gate.yaml").write_text(json.dumps(content), "utf-8")
    done = cli("gate", tmp_path / "gate.yaml", "--dry-run")
    assert done.exit_code == 0 and f"calibration={tmp_path / 'texts.txt'}" in done.output


@pytest.mark.parametrize(
    ("name", "folder", "said"),
    [
        ("tts_mine", "", "mine.yaml cannot be read; `lm-eval-tts tasks check"),
        ("tts_bad", "", "bad.yaml cannot be read; `lm-eval-tts tasks check"),
        ("tts_mini", "nowhere", "nowhere: is not there"),
        ("tts_minni", "", "unknown task 'tts_minni'; did you mean tts_mini?"),
    ],
)
def test_a_task_file_that_cannot_be_read_is_named(name: str, folder: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: tts_mine\ninclude: nowhere.yaml\n", "utf-8")
    (tmp_path / "bad.yaml").write_text("task: tts_bad\n  x: [1\n", "utf-8")
    with pytest.raises(TaskError, match=re.escape(said)):
        task_manager([name], str(tmp_path / folder))


def test_a_benchmark_that_is_refused_leaves_no_file(tmp_path: Path) -> None:
    rows = "".join(f'{{"problem": "What is {n} + 1?", "answer": "{n + 1}"}}\n' for n in range(5))
    (tmp_path / "sums.jsonl").write_text(rows)
    words = ["tasks", "new", "mine", "--dataset", str(tmp_path / "sums.jsonl"), "--to", str(tmp_path / "tasks")]
    done = cli(*words, "--source", "mine", "--license", "MIT", "--language", "xx")
    assert done.exit_code == 1 and "metadata.language='xx'; expected one of: " in done.stderr
    assert not list((tmp_path / "tasks").rglob("tts_mine*"))


def test_texts_in_another_encoding_and_broken_templates_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(b'{"problem": "Gr\xfc\xdfe", "answer": "2"}\n')
    words = ["tasks", "new", "mine", "--source", "mine", "--license", "MIT", "--to", str(tmp_path / "tasks")]
    done = cli(*words, "--dataset", tmp_path / "latin.jsonl")
    last = done.stderr.strip().splitlines()[-1]
    assert done.exit_code == 1 and last.startswith("lm-eval-tts: dataset=") and "cannot be loaded" in last
    (tmp_path / "sums.jsonl").write_text('{"problem": "What is 1+1?", "answer": "2"}\n' * 2)
    assert cli(*words, "--dataset", tmp_path / "sums.jsonl").exit_code == 0
    path = tmp_path / "tasks" / "mine" / "tts_mine.yaml"
    path.write_text(path.read_text().replace("question: problem", 'question: "{{ problem "'))
    done = cli("tasks", "check", path)
    assert done.exit_code == 1 and "is not a valid Jinja template" in done.output and "tts_mine.yaml:" in done.output
