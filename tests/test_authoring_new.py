"""`tasks new` writes a benchmark from a dataset's columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from lm_eval_ext.authoring.variants import task_schema
from lm_eval_ext.cli.tasks import checked
from lm_eval_ext.paths import TASKS
from tests.shared import case_table
from tests.test_authoring import COLUMNS, last_line, new, write_questions
from tests.test_authoring_kinds import written


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


# What is guessed from a dataset, and what `tasks check` says about answers of another kind ----------------------------


OPTIONS = [[f"option {row} {at}" for at in range(10)] for row in range(5)]
FOUR = [some[:4] for some in OPTIONS]


def rows_of(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows with columns as `cases/guesses.yaml` has them."""
    found = {name: NAMED.get(values, values) if isinstance(values, str) else values for name, values in columns.items()}
    for name, values in found.items():
        if isinstance(values, dict):
            found[name] = [{"text": some, "label": list(values["labels"])} for some in FOUR]
    return [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]


NAMED: dict[str, Any] = {"OPTIONS": OPTIONS, "FOUR": FOUR}
IN_COLUMNS = {f"opt{at}": [some[at] for some in OPTIONS] for at in range(10)} | {"answer": "ABCDJ"}
GUESSED = [*case_table("guesses.yaml")["guessed"], [IN_COLUMNS, [], "opt9], answer: answer, as: letter}"]]


@pytest.mark.parametrize(("columns", "words", "said"), GUESSED)
def test_options_are_found_by_their_columns(
    columns: dict[str, Any], words: list[str], said: str, tmp_path: Path
) -> None:
    data = tmp_path / "set" / "rows.jsonl"
    data.parent.mkdir()
    asked = [{"question": f"Number {n}?", **row} for n, row in enumerate(rows_of(columns))]
    data.write_text("".join(f"{json.dumps(row)}\n" for row in asked), "utf-8")
    code, output = new("quiz", "--dataset", data.parent, "--to", tmp_path / "tasks", *words)
    assert said in (output if code == 0 else last_line(output))


@pytest.mark.parametrize(("kind", "columns", "declared", "said"), case_table("guesses.yaml")["better"])
def test_answers_that_another_kind_would_compare_better(
    kind: str, columns: dict[str, Any], declared: str, said: str, tmp_path: Path
) -> None:
    text = (
        f"include: ../_{kind}\ntask: tts_odd\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: DATA}}}}\n"
        "test_split: test\nmetadata:\n  version: 1\n  source: here\n  license: CC0-1.0\n  question: question\n"
        f"  {declared}\n"
    )
    split = [
        {name: list(one) if name in ("o", "options") else one for name, one in row.items()} for row in rows_of(columns)
    ]
    own = written(tmp_path, "odd", [{"question": f"What, {n}?", **row} for n, row in enumerate(split)], text)
    found = checked([tmp_path / "tasks"], data=True)
    assert [said in one.text for one in found] == [True], [one.text for one in found]
    assert found[0].path == own and found[0].line >= 6, "in the benchmark's own file"


# Multiple choice ------------------------------------------------------------------------------------------------------


CHOICES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "a list and a letter": (["options"], {"options": ["1", "2", "3", "4", "5"], "answer": "C"}),
    "a list and a text": (["options"], {"options": ["one", "two", "three"], "answer": "three"}),
    "a list and an index from 0": (["options"], {"options": ["u", "v", "w"], "answer": 2}),
    "columns and a letter": (["a", "b", "c"], {"a": "x", "b": "y", "c": "z", "answer": "C"}),
    "columns and a text": (["a", "b", "c"], {"a": "x", "b": "y", "c": "z", "answer": "z"}),
}


IN_EVERY_RUN = ("a list and a letter", "columns and a text")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in IN_EVERY_RUN else pytest.mark.long) for name in CHOICES]
)
def test_a_new_multiple_choice_benchmark_works(name: str, tmp_path: Path) -> None:
    fields, record = CHOICES[name]
    first = {**record, "answer": 0} if isinstance(record["answer"], int) else record
    rows = [{"problem": f"Which of {number}?", **(first if number == 1 else record)} for number in range(1, 31)]
    data = tmp_path / "quiz.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    given = [part for field in fields for part in ("--choices", field)]
    code, output = new(
        "quiz", "--dataset", data, "--question", "problem", "--answer", "answer", *given, "--license", "CC0-1.0",
        "--budget", "64", "--votes", "8", "--to", tmp_path / "tasks",
    )  # fmt: skip
    assert code == 0, output
    path = tmp_path / "tasks" / "quiz" / "tts_quiz.yaml"
    assert checked([tmp_path / "tasks"], data=True) == []
    task = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False).load(["tts_quiz"])["tasks"][
        "tts_quiz"
    ]
    docs = list(task.test_docs())
    assert task.doc_to_target(docs[-1]) == "C" and "\nC) " in task.doc_to_text(docs[-1]), path.read_text("utf-8")
    letters = "ABCDE"[: len(record["options"]) if len(fields) == 1 else len(fields)]
    outputs = [[rf"\boxed{{{letter}}}"] for letter in "ABCDEF"]
    (chain,) = task._filters
    found = chain.filters[0]().apply(outputs, [docs[-1]] * 6)
    assert found == [[letter if letter in letters else ""] for letter in "ABCDEF"]


@pytest.mark.parametrize(
    ("fields", "answer", "message"),
    [
        (["options"], "four", "answer=answer: not a letter, an index or the text of a choice in every record"),
        (["options"], "4", "answer=answer: not a letter, an index or the text of a choice in every record"),
        (["problem"], "A", "choices.from=problem: 0 options; expected a column with a list of 2 to "),
    ],
)
def test_choices_that_make_no_benchmark_are_one_line(
    fields: list[str], answer: str, message: str, tmp_path: Path
) -> None:
    rows = [{"problem": f"Which of {n}?", "options": ["one", "two", "three"], "answer": answer} for n in range(9)]
    data = tmp_path / "quiz.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    given = [part for field in fields for part in ("--choices", field)]
    code, output = new(
        "quiz", "--dataset", data, "--question", "problem", "--answer", "answer", *given, "--to", tmp_path / "t"
    )
    assert code == 1 and message in last_line(output) and not (tmp_path / "t").exists()


@pytest.mark.parametrize(("answer", "said"), [("B", "letters of choices"), ("two", "texts of the choices in options")])
def test_choices_under_math_are_a_fault(answer: str, said: str, tmp_path: Path) -> None:
    rows = [
        {
            "problem": f"Which of {number}?",
            "options": ["one", "two"],
            "answer": answer if number else "A" if len(answer) == 1 else "one",
        }
        for number in range(30)
    ]
    data = tmp_path / "quiz.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    code, output = new(
        "quiz", "--dataset", data, "--question", "problem", "--answer", "answer", "--license", "CC0-1.0",
        "--kind", "math", "--to", tmp_path / "tasks",
    )  # fmt: skip
    assert code == 0, output
    (found,) = checked([tmp_path / "tasks"], data=True)
    assert found.rule == "gold" and said in found.text and "--choices" in found.text
