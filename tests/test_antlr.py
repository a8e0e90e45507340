"""The grader's verdicts are the same with each of antlr's runtimes that other packages pin (make test-antlr)."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.shared import ROOT

PAIRS = [
    (r"50\%", "0.5"), (r"12.5\%", r"\frac18"), (r"5\% + 3", "3.05"), ("3.05", r"5\% + 3"), (r"x=50\%", "0.5"),
    (r"33\frac13\%", r"\frac13"), (r"50\,\%", "1/2"), (r"-20\%", "-0.2"), (r"(10\%, 20\%)", "(0.1,0.2)"),
    (r"[10\%, 20\%]", "[0.1, 0.2]"), (r"10\%\cdot 5", "0.5"), (r"2^{50\%}", r"\sqrt2"), (r"\sqrt{25\%}", "0.5"),
    (r"5\% < x", "x>0.05"), (r"1,000\%", "10"), (r".5\%", "0.005"), (r"2^{5}\%", "0.32"), ("3%", r"0.03"),
    (r"3\%", r"4\%"), (r"\sqrt{25\%}", "0.4"), (r"5\% + 3", "8"), (r"20\% \text{ of } 50", "10"),
    (r"\Gamma", r"\Gamma"),
]  # fmt: skip
_CODE = (
    "import json, sys\nfrom importlib.metadata import version\nfrom lm_eval_ext.grading.grading import grades\n"
    "found = grades([(gold, answer) for answer, gold in json.load(sys.stdin)])\n"
    "print(json.dumps([version('antlr4-python3-runtime'), [[one.correct, one.reason] for one in found]]))"
)


def verdicts(runtime: str | None) -> tuple[str, list[tuple[bool, str]]]:
    """The runtime's version, and the verdict of each pair."""
    env = {**os.environ, **({"PYTHONPATH": str(ROOT / ".antlr" / runtime)} if runtime else {})}
    done = subprocess.run(
        [sys.executable, "-c", _CODE], input=json.dumps(PAIRS), capture_output=True, text=True, env=env, check=True
    )
    version, found = json.loads(done.stdout)
    return version, found


@pytest.mark.parametrize("runtime", ["4.11.0", "4.9.3"])
def test_percentages_are_graded_alike(runtime: str) -> None:
    if not (ROOT / ".antlr" / runtime).is_dir():
        pytest.skip(f"antlr {runtime} is not here (make test-antlr)")
    (_, expected), (version, found) = verdicts(None), verdicts(runtime)
    assert version == runtime
    differing = [(pair, one, other) for pair, one, other in zip(PAIRS, expected, found, strict=True) if one != other]
    assert differing == []
    assert sum(right for right, _ in expected) == 19 and not any(right for right, _ in expected[18:22])


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
