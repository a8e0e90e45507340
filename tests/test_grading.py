from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from lm_eval_ext.generation.request import Generation
from lm_eval_ext.grading.extract import choice_letter, final_answer
from lm_eval_ext.grading.metrics import ChoiceAnswer, MathAnswer, choice_match, math_verify
from lm_eval_ext.grading.pool import in_workers
from tests.shared import HUB, needs_benchmarks


def cases(name: str) -> list[Any]:
    rows = json.loads((Path(__file__).parent / "cases" / f"{name}.json").read_text("utf-8"))
    return [pytest.param(row, id=row["source"]) for row in rows]


@pytest.mark.parametrize("case", cases("final_answers"))
def test_final_answers(case: dict[str, str]) -> None:
    assert final_answer(case["output"]) == case["answer"]


@pytest.mark.parametrize("case", cases("equivalence"))
def test_equivalence(case: dict[str, Any]) -> None:
    assert math_verify([case["gold"]], [[case["answer"]]])["acc"] == float(case["equal"])


def test_a_generation_says_itself_what_to_grade() -> None:
    text = r"\boxed{1}</think>\boxed{2}"
    assert final_answer(Generation(text, answer=r"\boxed{2}")) == "2"
    assert final_answer(Generation(text, answer=None)) == "", "cut before it could answer"


def test_accuracy_is_the_mean_over_samples() -> None:
    samples = [[r"\boxed{1}", r"\boxed{2}", "no idea", r"\boxed{01}"]]
    (answers,) = MathAnswer().apply(samples, [{}])
    assert answers == ["1", "2", "", "01"]
    assert math_verify(references=[1], predictions=[answers])["acc"] == 0.5
    assert math_verify(references=["1"], predictions=["1"])["acc"] == 1.0, "stock models give one text"


@pytest.mark.parametrize(
    ("output", "letter"),
    [
        (r"so \boxed{C}", "C"),
        (r"\boxed{\text{B}}", "B"),
        ("The answer is (A).", "A"),
        ("Answer: D) because", "D"),
        (r"\boxed{Because}", ""),
        ("A or B", ""),
        (r"\boxed{\mathrm{B}}", "B"),
        (r"\boxed{Answer: C}", "C"),
        ("The answer is option D.", "D"),
        ("Answer: I choose B", ""),
    ],
)
def test_letters(output: str, letter: str) -> None:
    assert choice_letter(output) == letter


def test_letters_are_matched() -> None:
    answers = ChoiceAnswer().apply([[r"\boxed{A}", r"\boxed{B}"]], [{}])[0]
    assert choice_match(["A"], [answers])["acc"] == 0.5


def _kill_itself(mark: str) -> str:
    if mark == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return mark


def test_a_worker_that_dies_takes_one_answer_with_it() -> None:
    assert in_workers(_kill_itself, [("a",), ("die",), ("b",)], otherwise=None) == ["a", None, "b"]


@needs_benchmarks
@pytest.mark.parametrize(
    ("file", "field"),
    [
        ("HuggingFaceH4/MATH-500/test.jsonl", "answer"),
        ("Maxwell-Jia/AIME_2024/train.jsonl", "Answer"),
        ("math-ai/aime25/test.jsonl", "answer"),
    ],
)
def test_every_gold_equals_its_box(file: str, field: str) -> None:
    golds = [str(json.loads(line)[field]) for line in (HUB / file).read_text("utf-8").splitlines()]
    assert len(golds) >= 30
    for gold in golds:
        answer = final_answer(rf"It follows that \boxed{{{gold}}}.")
        assert math_verify([gold], [[answer]])["acc"] == 1.0, gold
