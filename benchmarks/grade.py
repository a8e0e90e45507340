"""Speed of our grader against a sequential Math-Verify loop and lm-eval's minerva task, on the same outputs.

python -m benchmarks.grade [--questions 100] [--samples 8] [--minerva PYTHON]

PYTHON is an interpreter with `lm-eval[math]` installed, whose antlr version conflicts with ours. Each contender runs in
a separate process: cold is its first run, including imports and worker start; warm is its second, on other questions.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys

from benchmarks.smollm2 import HUB

_OURS = """
from lm_eval_ext.harness.registration import MathAnswer
from lm_eval_ext.grading.grading import grades
def run(rows):
    docs, outputs = [{"answer": gold} for gold, _ in rows], [samples for _, samples in rows]
    answers = MathAnswer().apply(outputs, docs)
    return [grade.correct for (gold, _), some in zip(rows, answers) for grade in grades([(gold, a) for a in some])]
"""
_PLAIN = """
import math_verify
def run(rows):
    return [
        math_verify.verify(math_verify.parse(rf"\\\\boxed{{{gold}}}"), math_verify.parse(output))
        for gold, samples in rows for output in samples
    ]
"""
_MINERVA = """
from lm_eval.tasks.minerva_math.utils import process_results
def run(rows):
    return [
        bool(process_results({"answer": gold, "solution": rf"\\\\boxed{{{gold}}}"}, [output])["math_verify"])
        for gold, samples in rows for output in samples
    ]
"""
_TIMED = """
if __name__ == "__main__":
    import json, sys, time
    figures = []
    start = time.perf_counter()
    SETUP
    for rows in json.load(sys.stdin):
        verdicts = run(rows)
        figures.append((time.perf_counter() - start, verdicts))
        start = time.perf_counter()
    print(json.dumps(figures))
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--questions", type=int, default=100)
    arguments.add_argument("--samples", type=int, default=8)
    arguments.add_argument("--minerva", help="an interpreter with lm-eval[math]")
    given = arguments.parse_args()
    golds = _golds(2 * given.questions)
    batches = [
        [(gold, _outputs(some, number, given.samples)) for number, gold in enumerate(some)]
        for some in (golds[: given.questions], golds[given.questions :])
    ]
    total = given.questions * given.samples
    distinct = len({(gold, output) for gold, outputs in batches[1] for output in outputs})
    print(f"{given.questions} questions of {given.samples} samples, {distinct} distinct outputs")
    contenders = {"ours": (sys.executable, _OURS), "plain Math-Verify loop": (sys.executable, _PLAIN)}
    if given.minerva:
        contenders["lm-eval's minerva path"] = (given.minerva, _MINERVA)
    ours: list[float] = []
    for name, (python, code) in contenders.items():
        (cold, _), (warm, verdicts) = _timed(python, code, batches)
        ours = ours or [cold, warm]
        print(
            f"{name}: cold {total / cold:.0f} answers/s, warm {total / warm:.0f}; ours is "
            f"{cold / ours[0]:.1f} and {warm / ours[1]:.1f} times as fast; {sum(verdicts)} of {total} correct"
        )


def _golds(count: int) -> list[str]:
    file = HUB / "HuggingFaceH4" / "MATH-500" / "test.jsonl"
    return [json.loads(line)["answer"] for line in file.read_text("utf-8").splitlines()[:count]]


def _outputs(golds: list[str], number: int, samples: int) -> list[str]:
    """Samples that repeat like real ones (of 800 from a 7B model, 643 equal the gold string and 132 are distinct).

    One question in three has a second answer, given three times in five: the answer to another question or, one time
    in four, the gold one written differently.
    """
    gold, chance = golds[number], random.Random(number)
    second = rf"x = {gold}" if chance.random() < 1 / 4 else chance.choice(golds)
    other = second if chance.random() < 1 / 3 else gold
    answers = [other if chance.random() < 0.6 else gold for _ in range(samples)]
    return [f"We put the pieces together, one by one.\n\nSo it is $\\boxed{{{answer}}}$." for answer in answers]


def _timed(python: str, code: str, batches: object) -> list[tuple[float, list[bool]]]:
    program = _TIMED.replace("    SETUP\n", "".join(f"    {line}\n" for line in code.strip().splitlines()))
    done = subprocess.run(
        [python, "-c", program], input=json.dumps(batches), capture_output=True, text=True, check=True
    )
    figures: list[tuple[float, list[bool]]] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    main()
