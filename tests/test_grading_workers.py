"""The grader in any process, under any load: limits are computing time, workers end with whoever started them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from lm_eval_ext.grading import grade
from lm_eval_ext.grading.comparison import compared
from lm_eval_ext.grading.grade import grades
from lm_eval_ext.grading.normalise import normalised
from lm_eval_ext.grading.pool import Outcome, in_workers

GRADES_ELSEWHERE = """
import multiprocessing, sys
from lm_eval_ext.grading.grade import grades

def graded(number):
    return [grade.correct for grade in grades([("x+1", "1+x"), ("x+1", f"x+{number + 2}")])]

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    if sys.argv[2] == "pool":
        with context.Pool(2) as pool:
            print(pool.map(graded, range(3)))
    else:
        process = context.Process(target=graded, args=(0,))
        process.start()
        process.join()
        print(process.exitcode)
"""


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.parametrize("where", ["process", "pool"])
def test_programs_that_grade_in_processes_of_their_own_end(tmp_path: Path, method: str, where: str) -> None:
    script = tmp_path / "elsewhere.py"
    script.write_text(GRADES_ELSEWHERE, "utf-8")
    done = subprocess.run(
        [sys.executable, script, method, where], capture_output=True, text=True, timeout=240, check=False
    )
    expected = "0" if where == "process" else str([[True, False]] * 3)
    assert (done.returncode, done.stdout.strip()) == (0, expected), done.stderr[-2000:]


def _spin() -> int:
    while True:
        pass


def _sleep_long() -> int:
    time.sleep(3.0)
    return 4


def _compute_in_c() -> int:
    return int(pow(3, 10**10) % 7)  # one operation of many seconds that Python cannot interrupt


def test_a_limit_is_computing_time_and_not_the_clock() -> None:
    assert in_workers(_sleep_long, [()], seconds=1.0) == [Outcome(4)], "it computed nothing"
    assert in_workers(_spin, [()], seconds=1.0) == [Outcome(failure="timeout")]
    assert in_workers(_compute_in_c, [()], seconds=1.0)[0].failure in ("timeout", "memory")


def test_verdicts_do_not_depend_on_the_load() -> None:
    """Eight busy processes beside; what is hard is as hard as before."""
    pairs = [(rf"\prod_{{k=1}}^{{{n}}} k", f"{n}!") for n in (5, 20, 40, 60)] + [
        (r"\sum_{k=1}^{50} k^2", "42925"), (r"(x+1)^{12}", r"(1+x)^{12}"), (r"\sin^2 x+\cos^2 x", "1")
    ]  # fmt: skip
    calm = in_workers(compared, [(normalised(one), normalised(other)) for one, other in pairs])
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(8)]
    try:
        beside = in_workers(compared, [(normalised(one), normalised(other)) for one, other in pairs])
    finally:
        for process in busy:
            process.kill()
    assert beside == calm and [outcome.value for outcome in calm] == [True] * len(pairs)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grade, "_REMEMBERED", 100)
    monkeypatch.setattr(grade, "_memory", grade._Memory())
    for start in range(0, 1000, 50):
        numbers = [str(number) for number in range(start, start + 50)]
        assert not any(one.correct for one in grades([(number, "x+" + number) for number in numbers]))
    assert len(grade._memory.verdicts) <= 150 and len(grade._memory.readings) <= 250
