"""`lm-eval-tts tasks new|check`: a benchmark from a dataset's columns, and every fault with its line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.smollm2 import HUB
from lm_eval_ext.authoring import checks
from lm_eval_ext.cli.tasks import checked
from lm_eval_ext.paths import LEADERBOARD, TASKS
from tests.commands import cli
from tests.shared import case_table, needs_benchmarks

GOOD = r"""include: _math
task: tts_NAME
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/questions.jsonl}}
test_split: test
doc_to_text: "{{problem}}\n\nPut your final answer within \\boxed{}."
doc_to_target: answer
metadata:
  version: 1.0
  source: https://example.org
  license: CC-BY-4.0
"""
COLUMNS = ("--question", "problem", "--answer", "answer", "--license", "CC0-1.0")  # of these questions
QUESTIONS = [{"problem": f"What is {n}/7?", "answer": rf"\frac{{{n}}}{{7}}", "kind": "x"} for n in range(1, 41)]


def write_questions(path: Path, change: Callable[[list[dict[str, Any]]], Any] = len) -> Path:
    questions = json.loads(json.dumps(QUESTIONS))
    change(questions)
    path.write_text("".join(f"{json.dumps(question)}\n" for question in questions), "utf-8")
    return path


BROKEN = case_table("wrong_tasks.yaml")["faults"]


def new(*words: str | Path) -> tuple[int, str]:
    done = cli("tasks", "new", *words)
    return done.exit_code, done.output


def last_line(output: str) -> str:
    """The error, after what loading the dataset showed."""
    line = output.removesuffix("\n").rpartition("\n")[2]
    assert line.startswith("lm-eval-tts: "), output
    return line


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "_math").write_text((TASKS / "_math").read_text("utf-8"), "utf-8")
    write_questions(folder / "questions.jsonl", lambda questions: questions[4].update(answer="3 hours and 20 minutes"))
    write_questions(folder / "others.jsonl", lambda questions: [one.update(kind="y") for one in questions])
    write_questions(folder / "blank.jsonl", lambda questions: questions[3].update(problem=" "))
    write_questions(folder / "repeated.jsonl", lambda questions: questions.append(questions[3]))
    write_questions(folder / "goldless.jsonl", lambda questions: questions[3].update(answer=""))
    write_questions(folder / "null.jsonl", lambda questions: questions[3].update(answer=None))
    write_questions(folder / "lists.jsonl", lambda questions: [one.update(answer=[one["answer"]]) for one in questions])
    write_questions(
        folder / "asked.jsonl", lambda questions: [one.update(problem=[one["problem"]]) for one in questions]
    )
    write_questions(folder / "unbalanced.jsonl", lambda questions: questions[3].update(answer=r"\frac{6}{1"))
    write_questions(folder / "prose.jsonl", lambda questions: questions[3].update(answer="it depends, see above"))
    for name, (given, instead, _, _) in {"good": ("", "", 0, ""), **BROKEN}.items():
        assert given == "GOOD" or given in GOOD
        text = instead if given == "GOOD" else GOOD.replace(given, instead, 1) if given else GOOD
        text = text.replace("NAME", name).replace("FOLDER", str(folder))
        (folder / f"tts_{name}.yaml").write_text(text, "utf-8")
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, list[tuple[int, str]]]:
    by_file: dict[str, list[tuple[int, str]]] = {}
    for finding in checked([folder], data=True):
        assert "\n" not in str(finding) and len(str(finding)) < 800
        by_file.setdefault(finding.path.stem.removeprefix("tts_"), []).append((finding.line, finding.rule))
    return by_file


@pytest.mark.parametrize("name", BROKEN)
def test_a_fault_is_one_finding_with_its_line(name: str, found: dict[str, list[tuple[int, str]]]) -> None:
    assert found.get(name) == [tuple(BROKEN[name][2:])]


def test_what_is_in_order_has_none(found: dict[str, list[tuple[int, str]]]) -> None:
    assert "good" not in found


@pytest.mark.parametrize(("name", "allowed"), case_table("wrong_tasks.yaml")["unsupported"])
def test_what_is_not_supported_says_what_is(name: str, allowed: str, folder: Path) -> None:
    (found,) = checked([folder / f"tts_{name}.yaml"], data=True)
    assert allowed in found.text


def test_a_list_of_files_is_in_order(folder: Path, tmp_path: Path) -> None:
    text = GOOD.replace("FOLDER/questions.jsonl", "[FOLDER/questions.jsonl, FOLDER/others.jsonl]", 1)
    for name in ("_math", "questions.jsonl"):
        (tmp_path / name).write_text((folder / name).read_text("utf-8"), "utf-8")
    write_questions(
        tmp_path / "others.jsonl", lambda some: [one.update(problem=f"Now {one['problem']}") for one in some]
    )
    (tmp_path / "tts_listed.yaml").write_text(text.replace("NAME", "listed").replace("FOLDER", str(tmp_path)), "utf-8")
    assert checked([tmp_path], data=True) == []


def test_questions_that_the_leaderboard_hides_are_declared_gated(folder: Path, tmp_path: Path) -> None:
    site = yaml.safe_load((LEADERBOARD / "site.yaml").read_text("utf-8")) | {"gated": ["tts_good"]}
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(site), "utf-8")
    (found,) = checked([folder / "tts_good.yaml"], data=True, site=tmp_path / "site.yaml")
    assert (found.line, found.rule) == (8, "gated") and "metadata.gated: true is missing" in found.text


def test_its_questions_are_too(original_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of original questions in the shapes of the real datasets; of the real ones where they are there."""
    monkeypatch.chdir(original_hub)
    assert checked([TASKS], data=True) == []


@needs_benchmarks
@pytest.mark.parametrize("name", ["aime24", "aime25", "math500"])
def test_real_benchmarks_are_in_order(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HUB)
    assert checked([TASKS / name], data=True) == []


def test_findings_are_for_machines_too(folder: Path) -> None:
    done = cli("tasks", "check", folder / "tts_misspelt.yaml", "--no-data", "--json")
    (finding,) = json.loads(done.output)
    assert done.exit_code == 1 and (finding["line"], finding["rule"]) == (8, "field")
    assert cli("tasks", "check", folder / "tts_good.yaml").exit_code == 0
    assert cli("tasks", "check", "tts_sums", "--no-data").output == "errors: 0, warnings: 0\n"
    assert cli("tasks", "check", "no_such_task").exit_code == 2
    assert cli("tasks", "check", "--no-such-option").exit_code == 2


def test_whole_solutions_from_which_the_answer_is_taken_are_no_fault(tmp_path: Path) -> None:
    data = write_questions(
        tmp_path / "mine.jsonl",
        lambda questions: [one.update(answer=f"We add.\n#### {one['answer']}") for one in questions],
    )
    new("mine", "--dataset", data, *COLUMNS, "--to", tmp_path / "t")
    assert checked([tmp_path / "t"], data=True) == []


def test_names_are_not_taken_twice(tmp_path: Path) -> None:
    for name in ("a/tts_sums", "b/tts_mine", "c/tts_mine"):
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir()
        text = GOOD.replace("_math", "../_math").replace("tts_NAME", path.stem)
        path.write_text(text, "utf-8")
    (tmp_path / "_math").write_text((TASKS / "_math").read_text("utf-8"), "utf-8")
    assert [(one.rule, one.path.parent.name) for one in checked([tmp_path], data=False)] == [
        ("name", "a"),
        ("name", "c"),
    ]


def test_prompts_are_rendered_where_lm_eval_has_moved_its_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("lm_eval.utils.regex_replace")
    template = checks._environment().from_string("{{ text | regex_replace('c+', 'b', count=1) }}")
    assert template.render(text="ccat, cat") == "bat, cat"


def test_what_is_in_the_project_is_sound() -> None:
    """In a process of its own, where nothing else has imported the functions that the files name."""
    command = [sys.executable, "-m", "lm_eval_ext.cli", "tasks", "check", "--no-data", str(TASKS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("errors: 0, warnings: 0\n", 0)
