"""Simulates which way of testing a front names the smallest model that is really kept, and how often one that isn't.

    python -m benchmarks.shrink_proof [--repeats 200]

A front of twelve models keeps less and less of its base. Two ways are compared, at the same error for the whole search:

- in sequence, from the largest to the smallest, each at the whole error, until one isn't kept (what `shrink` does);
- all of them, corrected by e-BH for their number.

Exits with 1 if either names a model that isn't kept more often than the error and three standard errors of the
simulation, also where nothing at all is kept.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lm_eval_ext.statistics.betting import KeptTest, e_bh

KEEP, ERROR, CHANCE = 0.95, 0.05, 0.1
BASE = 0.93  # accuracy of the base
QUESTIONS = 600
FRONTS = {
    "kept down to the sixth": (1.0, 1.0, 0.995, 0.99, 0.985, 0.98, 0.93, 0.85, 0.7, 0.5, 0.2, 0.0),
    "kept down to the second": (1.0, 0.99, 0.94, 0.9, 0.8, 0.6, 0.4, 0.2, 0.1, 0.0, 0.0, 0.0),
    "just not kept": (0.949,) * 12,
    "nothing is kept": (0.94, 0.93, 0.92, 0.9, 0.88, 0.85, 0.8, 0.7, 0.5, 0.3, 0.1, 0.0),
}


class Outcome(NamedTuple):
    """What a way of testing came to.

    Attributes:
        smallest: number of the model that is named, from 1; 0 if none is.
        asked: questions that were put to candidates.
    """

    smallest: int
    asked: int


def in_sequence(shares: Sequence[float], numbers: np.random.Generator) -> Outcome:
    """From the largest to the first that isn't kept."""
    asked = 0
    for number, share in enumerate(shares):
        test = tested(share, numbers, 2 / ERROR)
        asked += test.units
        if test.e_kept < 2 / ERROR:
            return Outcome(number, asked)
    return Outcome(len(shares), asked)


def together(shares: Sequence[float], numbers: np.random.Generator) -> Outcome:
    """All of them, and the smallest that e-BH calls kept."""
    tests = [tested(share, numbers, len(shares) / ERROR) for share in shares]
    stand = e_bh([test.e_kept for test in tests], ERROR)
    kept = [number for number, stands in enumerate(stand, 1) if stands]
    return Outcome(max(kept, default=0), sum(test.units for test in tests))


WAYS: dict[str, Callable[[Sequence[float], np.random.Generator], Outcome]] = {
    "in sequence": in_sequence, "all, e-BH": together,
}  # fmt: skip


def tested(share: float, numbers: np.random.Generator, threshold: float) -> KeptTest:
    """A candidate that keeps a share of its base's accuracy above chance, until its verdict stands."""
    test = KeptTest(keep=KEEP, chance=CHANCE)
    accuracy = CHANCE + share * (BASE - CHANCE)
    both = min(1.0, accuracy / BASE)  # probability that it solves what the base solves
    for solved, drawn in zip(numbers.random(QUESTIONS) < BASE, numbers.random(QUESTIONS), strict=True):
        test.update(float(drawn < both) if solved else 0.0, float(solved))
        if test.e_kept >= threshold or test.e_lost >= 2 / ERROR:
            break
    return test


def main() -> None:
    """Simulate, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    repeats = parser.parse_args().repeats
    allowed = ERROR + 3 * math.sqrt(ERROR * (1 - ERROR) / repeats)
    failed = False
    print(f"{'front':26}{'way':14}{'named, mean':>12}{'of':>5}{'wrong':>8}{'questions':>11}")
    for name, shares in FRONTS.items():
        kept = sum(share >= KEEP for share in shares)
        for way, run in WAYS.items():
            numbers = np.random.default_rng(0)
            found = [run(shares, numbers) for _ in range(repeats)]
            wrong = sum(one.smallest > kept for one in found) / repeats
            failed |= wrong > allowed
            mean, asked = np.mean([one.smallest for one in found]), np.mean([one.asked for one in found])
            print(f"{name:26}{way:14}{mean:12.2f}{kept:5}{wrong:8.1%}{asked:11,.0f}", flush=True)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
