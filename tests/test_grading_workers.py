"""The grader in any process, under any load: limits are computing time, workers end with whoever started them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from lm_eval_ext.grading import grading as grade
from lm_eval_ext.grading.grading import SECONDS_PER_ANSWER, grades, in_workers
from lm_eval_ext.grading.reading import compared
from lm_eval_ext.grading.wrapping import normalised
from lm_eval_ext.workers import Outcome
from tests.adversarial import ANSWERS, CANARY, RIGHT

GRADES_ELSEWHERE = """
import multiprocessing, sys
from lm_eval_ext.grading.grading import grades

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


@pytest.mark.parametrize(("method", "where"), [("spawn", "pool"), ("fork", "process")])
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


def _die_once(folder: str, mark: str) -> str:
    if mark.startswith("die"):
        path = Path(folder) / mark
        if mark == "die always" or not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return mark


def test_a_worker_killed_from_outside_loses_no_answer(tmp_path: Path) -> None:
    marks = ["a", "die once", "b", "die always", "c"]
    outcomes = in_workers(_die_once, [(str(tmp_path), mark) for mark in marks])
    assert outcomes == [*map(Outcome, marks[:3]), Outcome(failure="memory"), Outcome("c")]


def command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def test_workers_killed_in_the_middle_of_grading_change_no_verdict() -> None:
    pairs = [(rf"{number}\sqrt{{2}}", rf"\sqrt{{{2 * (number + number % 3) ** 2}}}") for number in range(1, 400)]

    killed = []

    def killer() -> None:
        for _ in range(4):
            time.sleep(0.5)
            workers = [child for child in psutil.Process().children(recursive=True) if "popen_loky" in command(child)]
            if workers:
                workers[0].kill()
                killed.append(workers[0].pid)

    thread = threading.Thread(target=killer)
    thread.start()
    verdicts = [grade.correct for grade in grades(pairs)]
    thread.join()
    assert killed and verdicts == [number % 3 == 0 for number in range(1, 400)]


def test_all_workers_killed_at_once_hang_nothing() -> None:
    """The pool then breaks down and forgets what it was to do."""
    pairs = [(rf"{number}\sqrt{{7}}", rf"\sqrt{{{7 * number**2}}}") for number in range(1, 300)]

    killed = []

    def killer() -> None:
        time.sleep(0.4)
        for child in psutil.Process().children(recursive=True):
            if "popen_loky" in command(child):
                child.kill()
                killed.append(child.pid)

    thread = threading.Thread(target=killer)
    thread.start()
    assert all(grade.correct for grade in grades(pairs))
    thread.join()
    assert killed


def test_grading_works_from_any_thread() -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(grades([("x+1", "1+x"), ("x+1", "2+x")])))
    thread.start()
    thread.join(60)
    assert [grade.reason for grade in found] == ["correct", "wrong"]


def test_workers_end_with_their_process() -> None:
    code = (
        "import os, signal, psutil\n"
        "from lm_eval_ext.grading.grading import grades\n"
        "grades([('x+1', '1+x')])\n"
        "print(*[child.pid for child in psutil.Process().children(recursive=True)], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    workers = [int(pid) for pid in done.stdout.split()]
    assert workers, done.stderr
    deadline = time.monotonic() + 20
    while any(map(psutil.pid_exists, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(psutil.pid_exists, workers))


def test_a_grader_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError('built for another machine')\n", "utf-8")
    code = "from lm_eval_ext.grading.grading import grades; grades([('x+1', '1+x')] * 3)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("lm_eval_ext.errors.GradingError: ") and "built for another machine" in last


def _ground_types() -> str:
    from sympy.external.gmpy import GROUND_TYPES

    return str(GROUND_TYPES)


def test_gmpy2_where_it_is_installed_is_not_used() -> None:
    """It aborts the process where plain Python raises, so what is tested here holds without it too."""
    pytest.importorskip("gmpy2")
    assert in_workers(_ground_types, [()]) == [Outcome("python")]


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.long), 9])
def test_nothing_a_model_writes_brings_the_grader_down(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ANSWERS[::step]
    monkeypatch.chdir(tmp_path)
    before = psutil.Process().memory_info().rss
    start = time.monotonic()
    reasons = [grade.reason for grade in grades([("4", answer) for answer in answers])]
    seconds = time.monotonic() - start
    assert len(ANSWERS) >= 150 and len(reasons) == len(answers)
    workers = os.cpu_count() or 1
    assert seconds < len(answers) * 2 * (SECONDS_PER_ANSWER + 2) / workers, "each is read, then compared"
    assert psutil.Process().memory_info().rss - before < 200 << 20
    assert not (tmp_path / CANARY).exists(), "no answer is run"
    right = [answer for answer, reason in zip(answers, reasons, strict=True) if reason == "correct"]
    assert sorted(right) == sorted(set(RIGHT) & set(answers))
    summary = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    print(f"{len(answers)} answers in {seconds:.0f} s: {summary}")
