"""The grader's verdicts are the same with each of antlr's runtimes that other packages pin (make test-antlr)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.shared import ROOT, case_table

CASES: list[dict[str, Any]] = case_table("percentages.json")
_CODE = (
    "import json, sys\nfrom importlib.metadata import version\nfrom lm_eval_ext.grading.grading import grades\n"
    "found = grades([(one['gold'], one['answer']) for one in json.load(sys.stdin)])\n"
    "print(json.dumps([version('antlr4-python3-runtime'), [one.reason for one in found]]))"
)


@pytest.mark.parametrize("runtime", [None, "4.11.0", "4.9.3"])
def test_percentages_are_graded_alike(runtime: str | None) -> None:
    if runtime and not (ROOT / ".antlr" / runtime).is_dir():
        pytest.skip(f"antlr {runtime} is not here (make test-antlr)")
    env = {**os.environ, **({"PYTHONPATH": str(ROOT / ".antlr" / runtime)} if runtime else {})}
    done = subprocess.run(
        [sys.executable, "-c", _CODE], input=json.dumps(CASES), capture_output=True, text=True, env=env, check=True
    )
    version, found = json.loads(done.stdout)
    assert runtime in (None, version)
    assert [(one, grade) for one, grade in zip(CASES, found, strict=True) if one["grade"] != grade] == []


@pytest.mark.parametrize("runtime", ["4.11.0", "4.9.3"])
def test_the_cases_of_the_grader_pass_with_it(runtime: str) -> None:
    if not (ROOT / ".antlr" / runtime).is_dir():
        pytest.skip(f"antlr {runtime} is not here (make test-antlr)")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/test_grading.py",
        "tests/test_kinds.py",
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT / ".antlr" / runtime)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
