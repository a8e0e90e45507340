"""`tasks new` writes a benchmark from a dataset's columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lm_eval_ext.authoring.variants import task_schema
from lm_eval_ext.cli.tasks import checked
from lm_eval_ext.paths import TASKS
from tests.test_authoring import COLUMNS, last_line, new, write_questions


def test_a_new_benchmark_is_one_short_file_that_is_in_order(tmp_path: Path) -> None:
    data = write_questions(tmp_path / "mine.jsonl")
    given = ("--dataset", data, *COLUMNS, "--to", tmp_path / "tasks")
    code, output = new("mine", *given, "--budget", "64", "--votes", "8")
    assert code == 0, output
    path = tmp_path / "tasks" / "mine" / "tts_mine.yaml"
    assert sum(not line.startswith("#") for line in path.read_text("utf-8").splitlines()) <= 12
    assert {file.name for file in path.parent.rglob("*.yaml")} == {
        "tts_mine.yaml",
        "tts_mine_b64.yaml",
        "tts_mine_maj8.yaml",
    }
    assert checked([tmp_path / "tasks"], data=True) == []
    code, output = new("long", *given, "--budget", "32768")
    assert code == 0, output
    assert checked([tmp_path / "tasks" / "long"], data=False) == []
    variant = (tmp_path / "tasks" / "long" / "variants" / "tts_long_b32768.yaml").read_text("utf-8")
    assert "thinking_token_budget: 32768" in variant and "max_gen_toks: 33792" in variant, "there is room for an answer"
    code, output = new("mine", *given)
    assert code == 1 and "exists" in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Mine!"], "name='Mine!'; allowed"),
        (["mine", "--question", "problm"], "did you mean problem?"),
        (["mine", "--answer", "gold"], "has: problem, answer, kind"),
        (["mine", "--dataset", "none.jsonl"], "no such file"),
        (["mine", "--dataset", "broken.jsonl"], "dataset=broken.jsonl: cannot be loaded ("),
        (["mine", "--dataset", "lab/mine"], "no split 'test'; lab/mine has: train"),
        (["mine", "--dataset", str(TASKS / "_math")], "expected a name on the Hub, a file ending in .jsonl"),
    ],
)
def test_what_makes_no_benchmark_is_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_questions(tmp_path / "mine.jsonl")
    (tmp_path / "broken.jsonl").write_text("{", "utf-8")
    (tmp_path / "lab" / "mine").mkdir(parents=True)
    write_questions(tmp_path / "lab" / "mine" / "train.jsonl")
    given = {"--dataset": str(data), "--question": "problem", "--answer": "answer"}
    given |= dict(zip(words[1::2], words[2::2], strict=True))
    code, output = new(words[0], *(word for pair in given.items() for word in pair), "--to", tmp_path)
    assert code == 1 and message in last_line(output)


def test_the_schema_that_editors_read_is_the_one_that_is_checked() -> None:
    written = json.loads((TASKS / "schema.json").read_text("utf-8"))
    assert written == task_schema(), "run python -m examples.reference docs/reference"
    properties = written["$defs"]["Metadata"]["properties"]
    assert "relative" in properties["grading"]["anyOf"][0]["properties"] and written["$schema"]
    assert "de" in properties["language"]["anyOf"][0]["enum"]
