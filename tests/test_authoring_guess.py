"""What `tasks new` guesses from a dataset, and what `tasks check` says about answers of another kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lm_eval_ext.cli.tasks import checked
from tests.test_authoring import last_line, new
from tests.test_authoring_kinds import written

OPTIONS = [[f"option {row} {at}" for at in range(10)] for row in range(5)]
FOUR = [some[:4] for some in OPTIONS]


def rows_of(**columns: Sequence[object]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def named(labels: str) -> list[dict[str, Any]]:
    return [{"text": some, "label": list(labels)} for some in FOUR]


@pytest.mark.parametrize(
    ("rows", "words", "said"),
    [
        (
            rows_of(options=OPTIONS, answer="ABCDJ", answer_index=range(5)), [],
            "choices: {from: options, answer: answer, as: letter}",
        ),
        (
            rows_of(**{f"opt{at}": [some[at] for some in OPTIONS] for at in range(10)}, answer="ABCDJ"), [],
            "opt9], answer: answer, as: letter}",
        ),
        (
            rows_of(choices=named("ABCD"), answerKey="ABCDA"), [],
            "choices: {from: choices.text, answer: answerKey, as: letter}",
        ),
        (
            rows_of(choices=named("1234"), answerKey="12341"), ["--as", "label"],
            "from: choices.text, answer: answerKey, labels: choices.label, as: label}",
        ),
        (rows_of(choices=OPTIONS, answer=range(5)), [], "answer: answer, as: index}"),
        (rows_of(choices=FOUR, answer=[1, 2, 3, 1, 2]), [], "could be index or number of an option; say which"),
        (rows_of(choices=FOUR, answer=[1, 2, 3, 1, 2]), ["--as", "number"], "as: number}"),
        (
            rows_of(choices=FOUR, answer=[1, 2, 3, 1, 2]), ["--as", "text"],
            "--as text: the answers in answer don't name options so; they fit as index or number",
        ),
        (
            rows_of(options=[list("BADC")] * 5, answer="ABCDA"), [],
            "could be letter or text of an option; say which with --as",
        ),
        (
            rows_of(options=OPTIONS, answers=[[n, 9] for n in range(5)]), [],
            "choices: {from: options, answer: answers, as: index, several: all}",
        ),
        (
            rows_of(answer=["A,C", "B", "C", "A", "A, B"]), [],
            "choices: {letters: ABC, answer: answer, several: all}",
        ),
        (rows_of(answer=["1.40 m/s", "2.40 m/s"]), [], "kind: number (every answer is a number, some with decimals or"),
        (rows_of(answer=["408 V", "2 V"]), [], "compared exactly, as whole numbers must be"),
        (rows_of(answer=[408, 0.3333333333]), [], "compared exactly, as whole numbers must be"),
        (rows_of(answer=[408.25, 0.3333333333]), [], "grading: {relative: 0.01}"),
        (rows_of(answer=[".5 V", "1e-5 V"]), [], "grading: {digits: gold}"),
        (rows_of(answer=[0, 3, 6], options=[["a", "b"]] * 3), [], "kind: math"),
        (rows_of(answer=[6, 6]), ["--kind", "expression"], "compose it from the columns, as metadata.answer of"),
    ],
)  # fmt: skip
def test_options_are_found_by_their_columns(
    rows: list[dict[str, Any]], words: list[str], said: str, tmp_path: Path
) -> None:
    data = tmp_path / "set" / "rows.jsonl"
    data.parent.mkdir()
    asked = [{"question": f"Number {n}?", **row} for n, row in enumerate(rows)]
    data.write_text("".join(f"{json.dumps(row)}\n" for row in asked), "utf-8")
    code, output = new("quiz", "--dataset", data.parent, "--to", tmp_path / "tasks", *words)
    assert said in (output if code == 0 else last_line(output))


@pytest.mark.parametrize(
    ("kind", "rows", "declared", "said"),
    [
        ("choice", rows_of(answer="AB"), "choices: {letters: AB, answer: answer}", "shows no options such as"),
        ("text", rows_of(answer=["Yes", "No"]), "answer: answer", "grading: {synonyms: yes_no} also accepts"),
        ("math", rows_of(answer=["Yes", "No"]), "answer: answer", "all gold answers are yes or no"),
        ("text", rows_of(answer=['{"a": 1}', '{"a": 2}']), "answer: answer", "../_json compares them field by"),
        ("math", rows_of(answer=[1, 0], options=["xy", "uv"]), "answer: answer", "are positions in options"),
        ("json", rows_of(answer=['{"hue": 1}', '{"hue": 2}']), "answer: answer", "is named in the prompt (hue)"),
        (
            "choice", rows_of(o=["xxy", "xzy"], answer=[2, 0]), "choices: {from: o, answer: answer, as: index}",
            "question 0: an option is there twice ('x')",
        ),
        (
            "math", rows_of(answer=[1, 2], level=[1, 2]), "answer: answer\n  parts: levle",
            "no field levle; the dataset has: answer, level, question; did you mean level?",
        ),
    ],
)  # fmt: skip
def test_answers_that_another_kind_would_compare_better(
    kind: str, rows: list[dict[str, Any]], declared: str, said: str, tmp_path: Path
) -> None:
    text = (
        f"include: ../_{kind}\ntask: tts_odd\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: DATA}}}}\n"
        "test_split: test\nmetadata:\n  version: 1\n  source: here\n  license: CC0-1.0\n  question: question\n"
        f"  {declared}\n"
    )
    split = [{name: list(one) if name in ("o", "options") else one for name, one in row.items()} for row in rows]
    own = written(tmp_path, "odd", [{"question": f"What, {n}?", **row} for n, row in enumerate(split)], text)
    found = checked([tmp_path / "tasks"], data=True)
    assert [said in one.text for one in found] == [True], [one.text for one in found]
    assert found[0].path == own and found[0].line >= 6, "in the benchmark's own file"
