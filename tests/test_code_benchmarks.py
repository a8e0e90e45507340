"""Published code benchmarks: LiveCodeBench and those in the form of EvalPlus."""

from __future__ import annotations

import base64
import json
import pickle
import re
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

import lm_eval_ext as tts
from lm_eval_ext.errors import TaskError
from lm_eval_ext.grading.code import CodeExtractor
from lm_eval_ext.paths import TASKS
from lm_eval_ext.testbed.evalplus import cases_of
from lm_eval_ext.testbed.livecodebench import Cases, livecodebench_dataset
from tests.shared import case_table, one_line, samples_in
from tests.test_code import model_of, ran
from tests.test_sandbox import needs_sandbox

# LiveCodeBench ----------------------------------------------------------------------------------------


def packed(rows: object) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(rows)))).decode()


def problems(tmp_path: Path) -> str:
    functional = {
        "question_id": "1", "question_content": "Add.", "platform": "leetcode", "difficulty": "easy",
        "contest_date": "2024-11-02T00:00:00", "starter_code": "class Solution:\n    def add(self, x, y):\n        ",
        "public_test_cases": json.dumps([{"input": "1\n[2]", "output": "3", "testtype": "functional"}]),
        "private_test_cases": packed([{"input": "5\n[40617]", "output": "40622", "testtype": "functional"}]),
        "metadata": json.dumps({"func_name": "add"}),
    }  # fmt: skip
    stdin = {
        **functional, "question_id": "2", "platform": "atcoder", "contest_date": "2024-09-02T00:00:00",
        "starter_code": "",
        "public_test_cases": json.dumps([{"input": "1 2", "output": "3", "testtype": "stdin"}]),
        "private_test_cases": packed([{"input": "4 5\n", "output": "9\n", "testtype": "stdin"}]), "metadata": "{}",
    }  # fmt: skip
    path = tmp_path / "test.jsonl"
    path.write_text("\n".join(map(json.dumps, (functional, stdin))), "utf-8")
    return str(path)


@needs_sandbox
def test_problems_of_livecodebench_are_asked_and_graded(tmp_path: Path) -> None:
    docs = list(livecodebench_dataset(files=problems(tmp_path))["test"])
    extractor = CodeExtractor(entry="entry", cases="cases", prelude="prelude")
    right = [
        "class Solution:\n    def add(self, x: int, y: List[int]) -> int:\n        return x + sum(y)",
        "print(sum(map(int, input().split())))",
    ]
    wrong = ["class Solution:\n    def add(self, x, y): return 3", "print(3)"]
    found = extractor.answers(
        [[f"```python\n{one}\n```" for one in pair] for pair in zip(right, wrong, strict=True)], docs
    )
    assert [[one.run.grade.correct for one in some] for some in found] == [[True, False]] * 2
    assert [some[1].run.share for some in found] == [0.5, 0.5]
    assert "40622" not in json.dumps(docs[0], default=str) and "sha256:" in json.dumps(docs[0], default=str)
    assert "def add" in docs[0]["question"] and "standard input" in docs[1]["question"]


def test_a_window_of_dates_and_a_release_are_chosen_by_arguments(tmp_path: Path) -> None:
    files = problems(tmp_path)
    assert len(livecodebench_dataset(files=files, since="2024-10-01")["test"]) == 1
    assert len(livecodebench_dataset(files=files, until="2024-11-02")["test"]) == 2
    for arguments, message in (
        ({"release": "v9"}, "release='v9'; expected one of: v1"), ({"since": "soon"}, "since='soon'; expected a day"),
        ({"since": "2030-01-01"}, "no problem of v6 between 2030-01-01 and the end"),
    ):  # fmt: skip
        with pytest.raises(TaskError, match=message):
            livecodebench_dataset(files=files, **arguments)


def test_private_tests_are_read_without_running_what_is_in_them(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "touched",)

    for data in (pickle.dumps(Evil()), pickle.dumps([1]), b"junk", pickle.dumps("no JSON"), pickle.dumps('{"a": 1}')):
        with one_line(TaskError, match=r"tests of a problem"):
            Cases("[]", base64.b64encode(zlib.compress(data)).decode()).rows()
    with pytest.raises(TaskError):
        Cases("[]", "no base64!").rows()
    assert not (tmp_path / "touched").exists()


# EvalPlus ---------------------------------------------------------------------------------------------

# What stands before the tests of HumanEval+ and MBPP+, in the form that EvalPlus gives them (arXiv 2305.01210).
COMPARED = """
import numpy as np

def is_floats(x) -> bool:
    if isinstance(x, float):
        return True
    if isinstance(x, (list, tuple)):
        return all(isinstance(i, float) for i in x)
    return isinstance(x, np.ndarray) and x.dtype in (np.float64, np.float32)

def assertion(out, exp, atol):
    exact_match = out == exp
    if atol == 0 and is_floats(exp):
        atol = 1e-6
    if not exact_match and atol != 0:
        np.testing.assert_allclose(out, exp, atol=atol)
    else:
        assert exact_match
"""
# Name: parameter, what is right, what is nearly right, inputs.
FUNCTIONS_OF_OURS: dict[str, tuple[str, str, str, list[Any]]] = {
    "mean_gap": ("xs", "(xs[-1] - xs[0]) / (len(xs) - 1)", "(xs[-1] - xs[0]) / len(xs)", [[[0.1, 0.7, 9.3]]]),
    "halves": ("xs", "[x / 2 for x in xs]", "[x / 2.0001 for x in xs]", [[[x / 3, 1.0]] for x in range(1000)]),
    "longest": ("words", "max(words, default=None)", "max(words, default='')", [[["a", "bc"]], [[]]]),
    "power": ("n", "3 ** n", "float(3 ** n)", [[n] for n in range(0, 600, 3)]),
    "pairs": ("xs", "tuple(zip(xs, xs[1:]))", "list(zip(xs, xs[1:]))", [[[1, 2, 3]], [(4, 5)]]),
}  # fmt: skip


def evalplus_rows(form: str) -> list[dict[str, Any]]:
    """Functions of ours as rows of `humanevalplus` or `mbppplus`."""
    rows: list[dict[str, Any]] = []
    for name, (parameter, right, _, inputs) in FUNCTIONS_OF_OURS.items():
        results = [eval(f"(lambda {parameter}: {right})")(*given) for given in inputs]  # the text is ours
        called = "candidate" if form == "humaneval" else name
        loop = [
            f"inputs = {inputs!r}", f"results = {results!r}", "for i, (inp, exp) in enumerate(zip(inputs, results)):",
            f"    assertion({called}(*inp), exp, 0)",
        ]  # fmt: skip
        if form == "humaneval":
            test = "\n".join(["", COMPARED, "def check(candidate):", *(f"    {line}" for line in loop), ""])
            prompt = f'def {name}({parameter}):\n    """What {name} says."""\n'
            rows.append({"task_id": name, "prompt": prompt, "entry_point": name, "test": test})
        else:
            first = f"assert {name}({inputs[0][0]!r}) == {results[0]!r}"
            test = "\n".join([COMPARED, *loop])
            rows.append({"task_id": 1, "prompt": f"Write {name}.", "test_list": [first], "test": test})
    return rows


@needs_sandbox
@pytest.mark.parametrize("form", ["humaneval", "mbpp"])
def test_benchmarks_in_the_form_of_evalplus_are_asked_and_graded(form: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, evalplus_rows(form))), "utf-8")
    task = {
        "include": str(TASKS / f"{form}_plus" / f"tts_{form}_plus.yaml"), "task": "in_their_form",
        "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
    }  # fmt: skip
    (tmp_path / "in_their_form.yaml").write_text(yaml.safe_dump(task), "utf-8")

    def answer(prompt: str, number: int) -> str:
        name = next(name for name in FUNCTIONS_OF_OURS if name in prompt)
        parameter, right, wrong, _ = FUNCTIONS_OF_OURS[name]
        bodies = [right, wrong, "[]"]
        return f"So:\n```python\ndef {name}({parameter}):\n    return {bodies[number]}\n```"

    nearly = ["wrong"] * 5  # and an empty list, which `assert_allclose` takes for every number
    for number, reasons in enumerate((["correct"] * 5, nearly, nearly)):
        output = tmp_path / str(number)
        tts.evaluate(
            model_of(partial(answer, number=number)), "in_their_form", include_path=str(tmp_path), output=output,
            run_untrusted_code=True,
        )  # fmt: skip
        rows = samples_in(output)
        assert [row["graded"][0] for row in rows] == reasons, [row["failed"] for row in rows]
        says = [re.match(r"test \d+ of \d+: \(.*\) gave .*, expected", row["failed"][0]) for row in rows]
        assert [one is not None for one in says] == [number > 0] * 5, [row["failed"] for row in rows]


@needs_sandbox
@pytest.mark.parametrize("case", case_table("evalplus_scripts.yaml"), ids=lambda case: case["entry"])
def test_what_is_wrong_in_scripts_of_evalplus_is_mended(case: dict[str, Any]) -> None:
    doc = {"name": case["entry"], "tests": cases_of(case["script"])}
    found = ran(CodeExtractor(entry="name", tests="tests", grading={"packages": ["numpy"]}), doc, *case["programs"])
    assert [one.share for one in found] == case["shares"], found
