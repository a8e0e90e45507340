"""`tasks new --choices`: multiple choice from a dataset's columns, and its faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from lm_eval_ext.cli.tasks import checked
from tests.test_authoring import last_line, new

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
