"""A benchmark of each kind, from a file of at most fifteen lines, on data that is not in the project."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from lm_eval_ext.authoring.variants import instructions, sync
from lm_eval_ext.cli.tasks import checked
from lm_eval_ext.errors import TaskError
from lm_eval_ext.metrics import FUNCTIONS
from tests.commands import cli
from tests.shared import case_table
from tests.test_authoring import last_line, new

GRID = [
    {"who": f"Lee {n}", "grid": {"row 1": {"left": "sun", "right": "moon"}, "row 2": {"left": str(n)}}}
    for n in range(9)
]
YES_NO = [{"question": f"Is {n} even?", "answer": n % 2 == 0} for n in range(9)]
PHYSICS = [
    {"problem": f"How long is {n} and a quarter metres of rope?", "length": f"{n}.25 \\times 10^3 mm"}
    for n in range(1, 9)
]
TEN = [{"asked": f"Which one is number {n}?", "all": [f"item {at}" for at in range(10)], "at": n} for n in range(10)]
TRIALS = case_table("benchmarks.yaml")
ROWS_OF: dict[str, list[dict[str, Any]]] = {"grid": GRID, "evens": YES_NO, "ropes": PHYSICS, "ten": TEN}


def written(folder: Path, name: str, rows: Sequence[Mapping[str, Any]], text: str) -> Path:
    """A folder of benchmarks with one, its variants and prompt written by `tasks sync`."""
    from lm_eval_ext.paths import TASKS

    data = folder / f"{name}.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    own = folder / "tasks" / name / f"tts_{name}.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(text.replace("DATA", str(data)), "utf-8")
    for template in TASKS.glob("_*"):
        (folder / "tasks" / template.name).write_text(template.read_text("utf-8"), "utf-8")
    sync(folder / "tasks")
    return own


@pytest.mark.parametrize("name", TRIALS)
def test_a_benchmark_is_fifteen_lines_of_yaml(name: str, tmp_path: Path) -> None:
    outputs, expected = TRIALS[name]["outputs"], TRIALS[name]["scores"]
    own = written(tmp_path, name, ROWS_OF[name], TRIALS[name]["task"])
    assert len(own.read_text("utf-8").splitlines()) <= 15
    assert checked([tmp_path / "tasks"], data=True) == []
    task = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False).load([f"tts_{name}"])["tasks"][
        f"tts_{name}"
    ]
    doc = next(iter(task.test_docs()))
    gold = task.doc_to_target(doc)
    said = [one.replace("not GOLD", "A" if gold != "A" else "B").replace("GOLD", gold) for one in outputs]
    (chain,) = task._filters
    (answers,) = chain.filters[0]().apply([said], [doc])
    scores = task.process_results(doc, [answers])
    assert {key: scores[key] for key in expected} == pytest.approx(expected)
    assert set(scores["graded"]) <= {"correct", "wrong", "no answer"} and len(scores["graded"]) == len(said)


def test_options_are_shuffled_by_the_record_alone(tmp_path: Path) -> None:
    own = written(tmp_path, "ten", TEN, TRIALS["ten"]["task"])
    task = TaskManager(include_path=str(own.parents[1]), include_defaults=False).load(["tts_ten"])["tasks"]["tts_ten"]
    docs = list(task.test_docs())
    prompts = [task.doc_to_text(doc) for doc in docs]
    golds = [task.doc_to_target(doc) for doc in docs]
    for doc, prompt, gold in zip(docs, prompts, golds, strict=True):
        assert f"{gold}) item {doc['at']}\n" in f"{prompt}\n"
    orders = {tuple(line.partition(") ")[2] for line in prompt.splitlines()[2:12]) for prompt in prompts}
    assert len(orders) == len(docs) and [task.doc_to_text(doc) for doc in docs] == prompts
    shuffled = sync(tmp_path / "tasks")
    assert shuffled == [], "the second time, nothing changes"


@pytest.mark.parametrize(("row", "choices", "letter"), case_table("options.yaml")["right"])
def test_ways_to_name_the_right_option(row: dict[str, Any], choices: str, letter: str, tmp_path: Path) -> None:
    text = TRIALS["ten"]["task"].replace("{from: all, answer: at, shuffle: true}", choices)
    own = written(tmp_path, "ten", [{"asked": "Which?", **row}, {"asked": "And which?", **row}], text)
    task = TaskManager(include_path=str(own.parents[1]), include_defaults=False).load(["tts_ten"])["tasks"]["tts_ten"]
    assert task.doc_to_target(next(iter(task.test_docs()))) == letter


@pytest.mark.parametrize(("row", "choices", "said"), case_table("options.yaml")["wrong"])
def test_a_right_option_that_cannot_be_told_is_one_line(
    row: dict[str, Any], choices: str, said: str, tmp_path: Path
) -> None:
    text = TRIALS["ten"]["task"].replace("{from: all, answer: at, shuffle: true}", choices)
    try:
        written(tmp_path, "ten", [{"asked": "Which?", **row}, {"asked": "And which?", **row}], text)
        (found,) = [str(one) for one in checked([tmp_path / "tasks"], data=True)]
    except TaskError as error:
        found = str(error)
    assert said in found and "\n" not in found


@pytest.mark.parametrize(("change", "said"), case_table("wrong_tasks.yaml")["declarations"])
def test_a_declaration_that_does_not_fit_is_one_line(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError) as error:
        written(tmp_path, "ropes", PHYSICS, TRIALS["ropes"]["task"].replace(*change))
    assert said in str(error.value) and "\n" not in str(error.value) and "tts_ropes.yaml:" in str(error.value)


def test_every_language_says_how_to_answer_each_kind() -> None:
    assert len(instructions()) >= 20
    for sentences in instructions().values():
        assert sentences.keys() == instructions()["en"].keys()
        assert all("\\boxed{}" in text for name, text in sentences.items() if name not in ("json", "code"))
        assert "JSON" in sentences["json"] and "Python" in sentences["code"]


@pytest.mark.parametrize(
    ("rows", "kind", "declared"),
    [
        ([{"question": "q", "answer": value} for value in (True, False, True)], "text", "grading: {synonyms: yes_no}"),
        ([{"question": "q", "answer": value} for value in ("red", "green", "blue")], "text", "answer: answer"),
        ([{"question": "q", "answer": value} for value in ("1.5", "2.0", "3.25")], "number", "grading: {digits: gold}"),
        ([{"question": "q", "answer": value} for value in (["a", "b"], ["c"], ["d"])], "list", "answer: answer"),
        ([{"question": "q", "answer": value} for value in ({"a": 1}, {"a": 2}, {"a": 3})], "json", "answer: answer"),
        (
            [{"question": "q", "answer": value} for value in ("A", "D", "B")],
            "choice",
            "{letters: ABCD, answer: answer}",
        ),
        ([{"problem": "q", "solution": value} for value in ("\\frac12", "3", "x+1")], "math", "answer: solution"),
    ],
)
def test_the_kind_is_guessed_and_said(rows: list[dict[str, Any]], kind: str, declared: str, tmp_path: Path) -> None:
    data = tmp_path / "some.jsonl"
    data.write_text("".join(f"{json.dumps({**row, 'n': n})}\n" for n, row in enumerate(rows)), "utf-8")
    code, output = new("some", "--dataset", data, "--to", tmp_path / "tasks")
    assert code == 0 and f"kind: {kind} (" in output, output
    text = (tmp_path / "tasks" / "some" / "tts_some.yaml").read_text("utf-8")
    assert f"include: [../_{kind}, " in text and declared in text


def test_what_cannot_be_guessed_is_asked_for(tmp_path: Path) -> None:
    data = tmp_path / "some.jsonl"
    data.write_text('{"a": 1, "b": 2}\n', "utf-8")
    code, output = new("some", "--dataset", data, "--to", tmp_path / "tasks")
    assert code == 1 and "which column is the question? Give --question, one of: a, b" in last_line(output)
    code, output = new("some", "--dataset", data, "--question", "a", "--answer", "b", "--kind", "x")
    assert code == 1 and "kind='x'; expected one of: math, choice, text" in last_line(output)


def test_a_file_that_is_out_of_date_is_found(tmp_path: Path) -> None:
    own = written(tmp_path, "ropes", PHYSICS, TRIALS["ropes"]["task"])
    own.write_text(own.read_text("utf-8").replace("relative: 0.01", "relative: 0.02"), "utf-8")
    (found,) = [one for one in checked([tmp_path / "tasks"], data=False) if "_tts_ropes" in one.text]
    assert "is out of date; run lm-eval-tts tasks sync" in found.text
    (own.parent / "variants" / "_tts_ropes").unlink()
    found = checked([tmp_path / "tasks"], data=False)[0]
    assert "variants/_tts_ropes does not exist" in found.text and "tasks sync" in found.text


def test_findings_are_annotations_too(tmp_path: Path) -> None:
    own = written(tmp_path, "ropes", PHYSICS, TRIALS["ropes"]["task"].replace("  license: CC0-1.0\n", ""))
    done = cli("tasks", "check", own, "--github", "--no-data")
    assert done.exit_code == 0
    assert done.output == f"::warning file={own},line=6,title=metadata::license of the questions is missing\n"


def test_the_cost_of_a_group_is_said() -> None:
    done = cli("tasks", "cost", "tts_reasoning", env={"COLUMNS": "200"})
    assert done.exit_code == 0 and "tts_math500" in done.output
    assert "hours at 3,000 tokens/s." in done.output
    hours = float(done.output.rpartition(": ")[2].split()[0].replace(",", ""))
    assert hours < 24, "tts_reasoning is to take less than a GPU-day"
    shared = cli("tasks", "cost", "tts_math", env={"COLUMNS": "200"}).output
    assert "13,824,000" not in shared, "all budgets of MATH500 share their traces"
    assert cli("tasks", "cost", "mmlu").exit_code == 1


def test_a_task_can_be_tried_without_writing_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = written(tmp_path, "ropes", PHYSICS, TRIALS["ropes"]["task"])
    monkeypatch.chdir(tmp_path)
    before = sorted(os.walk(tmp_path))
    done = cli("tasks", "try", own, "--limit", "1", "--max-tokens", "24", env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    shown = " ".join(done.output.split())
    assert "<|user|>How long is 1 and a quarter" in shown and "<|assistant|><think>" in shown, "as the model reads it"
    assert "gold answer: 1.25 \\times 10^3 mm" in shown
    assert sorted(os.walk(tmp_path)) == before


def test_chance_of_several_right_options() -> None:
    assert "chance" not in FUNCTIONS["choice_match"](["A|B"], [["A"]])


# A checker of its own: what lm-eval runs, `tasks check --trust` tries first -------------------------------------------


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
