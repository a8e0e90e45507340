"""A benchmark with a checker of its own: what lm-eval runs, `tasks check --trust` tries first."""

from __future__ import annotations

from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager

from lm_eval_ext.cli.tasks import checked
from tests.test_authoring_kinds import written

TASK = r"""include: ../_text
task: tts_factors
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
process_results: !function checker.product
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
metadata:
  version: 1.0
  source: here
  license: CC0-1.0
  question: problem
  answer: example
  instruction: Put both factors within \boxed{}.
"""
ROWS = [{"problem": f"Which numbers above 1 give {2 * n}?", "product": 2 * n, "example": f"2 * {n}"} for n in (3, 5, 7)]
CHECKER = """import math

def product(doc, results):
    right = [math.prod(int(one) for one in answer.split("*")) == doc["product"] for answer in results[0] if answer]
    return {"acc": sum(right) / len(results[0])}
"""


def factors(folder: Path, checker: str, old: str = "", new: str = "") -> Path:
    own = written(folder, "factors", ROWS, TASK.replace(old, new))
    (own.parent / "checker.py").write_text(checker, "utf-8")
    return own


def test_a_checker_beside_the_file_is_tried(tmp_path: Path) -> None:
    own = factors(tmp_path, CHECKER)
    assert checked([own], data=True, trust=True) == []
    (task,) = (
        TaskManager(include_path=str(own.parents[1]), include_defaults=False).load(["tts_factors"])["tasks"].values()
    )
    (chain,) = task._filters
    doc = next(iter(task.test_docs()))
    (answers,) = chain.filters[0]().apply([[r"\boxed{3 * 2}", r"\boxed{2 * 4}"]], [doc])
    assert task.process_results(doc, [answers]) == {"acc": 0.5}


def test_a_checker_gives_its_scores_names_of_its_own(tmp_path: Path) -> None:
    added = "  - {metric: answered, aggregation: mean}\nmetadata:"
    (finding,) = checked([factors(tmp_path, CHECKER, "metadata:", added)], data=False, trust=True)
    assert "answered is a score of our metrics" in finding.text


@pytest.mark.parametrize(
    ("checker", "said"),
    [
        (CHECKER.replace(" if answer]", "]"), "question 0: the checker fails on the answer '' (ValueError: "),
        (CHECKER.replace('"acc"', '"score"'), "the checker returns score; expected what metric_list has: acc"),
        (CHECKER.replace("==", "!="), "its gold answer '2 * 3' has acc=0.0, no answer 0.0; expected a better score"),
        ("", "(AttributeError: "),
        ("def", "(SyntaxError: "),
    ],
)
def test_a_checker_that_cannot_be_right_is_one_finding(checker: str, said: str, tmp_path: Path) -> None:
    (found,) = checked([factors(tmp_path, checker)], data=True, trust=True)
    assert said in found.text and found.line == 6


def test_scores_need_an_aggregation(tmp_path: Path) -> None:
    (found,) = checked([factors(tmp_path, CHECKER, "aggregation: mean, ", "")], data=False, trust=True)
    assert "acc needs an aggregation, such as mean" in found.text


def test_without_an_answer_that_is_right_the_gold_one_is_empty(tmp_path: Path) -> None:
    own = factors(tmp_path, CHECKER, "answer: example", "answer: \"{{ '' }}\"")
    assert checked([own], data=True, trust=True) == []
