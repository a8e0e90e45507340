"""How well pass@K and maj@K are predicted from fewer samples: held out from the samples of a run.

    python -m benchmarks.predict SAMPLES... [--seen 8]

SAMPLES are files that `lm_eval --log_samples` wrote of a task with K repeats and the filter `math_answer`. Every K/seen
samples of each question in turn predict what all K give.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from lm_eval_ext.grading.grade import grades
from lm_eval_ext.grading.prediction import Votes, predict_maj_at_k, predict_pass_at_k
from lm_eval_ext.grading.vote import clusters
from lm_eval_ext.statistics.estimators import maj_at_k, pass_at_k
from lm_eval_ext.statistics.intervals import Interval


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("samples", nargs="+", type=Path)
    arguments.add_argument("--seen", type=int, default=8)
    given = arguments.parse_args()
    for path in given.samples:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        report(path.stem, [(str(row["target"]), list(row["filtered_resps"][0])) for row in rows], given.seen)


def report(name: str, questions: Sequence[tuple[str, list[str]]], seen: int) -> None:
    n = len(questions[0][1])
    whole = [votes(gold, answers) for gold, answers in questions]
    actual = mean(pass_at_k(n, some.right, n) for some in whole), mean(majority(some, n) for some in whole)
    print(f"{name}: {len(questions)} questions, pass@{n} {actual[0]:.3f}, maj@{n} {actual[1]:.3f}")
    errors: list[tuple[float, float, float, float]] = []
    for start in range(0, n - seen + 1, seen):
        part = [votes(gold, answers[start : start + seen]) for gold, answers in questions]
        stop = mean(some.right > 0 for some in part), mean(majority(some, seen) for some in part)
        passed, won = predict_pass_at_k(part, n), predict_maj_at_k(part, n)
        errors.append((passed.estimate - actual[0], won.estimate - actual[1], stop[0] - actual[0], stop[1] - actual[1]))
        print(f"  samples {start}-{start + seen - 1}: pass@{n} {shown(passed)}, maj@{n} {shown(won)}")
    labels = f"pass@{n}", f"maj@{n}", f"pass@{seen} taken for it", f"maj@{seen} taken for it"
    for label, some in zip(labels, zip(*errors, strict=True), strict=True):
        print(f"  mean absolute error of {label}: {mean(map(abs, some)):.3f}")


def shown(interval: Interval) -> str:
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def votes(gold: str, answers: Sequence[str]) -> Votes:
    labels = clusters([answers])[0]
    right = [grade.correct for grade in grades([(gold, answer) for answer in answers])]
    found = sorted({label for label in labels if label is not None})
    counts = [labels.count(label) for label in found]
    correct = [any(r for r, other in zip(right, labels, strict=True) if other == label) for label in found]
    return Votes(counts, correct, labels.count(None))


def majority(some: Votes, k: int) -> float:
    return maj_at_k(some.votes, some.correct, k, some.abstained)


if __name__ == "__main__":
    main()
