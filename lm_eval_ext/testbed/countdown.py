"""Original problems like those of the Countdown game: reach a target from three to six numbers, each used once."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.yaml_functions import usable_from_yaml

if TYPE_CHECKING:
    from datasets import DatasetDict

COUNTS = (3, 4, 5, 6)  # numbers in a problem
PER_COUNT = 50  # problems
_LARGEST = 25
_SEED = 42510


class Countdown(NamedTuple):
    """A problem that can be solved: the numbers, and a target that one order of operations reaches."""

    numbers: tuple[int, ...]
    target: int


def countdowns(count: int, numbers: int, seed: int = _SEED) -> list[Countdown]:
    """Problems of a number of numbers, each different.

    >>> countdowns(1, 3)[0].numbers == countdowns(2, 3)[0].numbers
    True
    """
    generator = random.Random(f"{seed}-{numbers}")
    found: dict[Countdown, None] = {}
    while len(found) < count:
        drawn = tuple(generator.randint(1, _LARGEST) for _ in range(numbers))
        target = _reached(list(drawn), generator)
        if 10 <= target <= 999 and target not in drawn:
            found[Countdown(tuple(sorted(drawn)), target)] = None
    return list(found)


def _reached(numbers: list[int], generator: random.Random) -> int:
    """A value that the numbers reach, by combining two at a time; all values on the way are natural numbers."""
    while len(numbers) > 1:
        one, other = (numbers.pop(generator.randrange(len(numbers))) for _ in range(2))
        high, low = max(one, other), min(one, other)
        results = [high + low, *([high - low] if high > low else []), *([high * low] if high * low < 1000 else [])]
        results += [high // low] if low > 1 and high % low == 0 else []
        numbers.append(generator.choice(results))
    return numbers[0]


@usable_from_yaml
def countdown_dataset(**_: object) -> DatasetDict:
    """The problems in the form that lm-eval's `custom_dataset` expects, from three numbers to six."""
    from datasets import Dataset, DatasetDict

    rows = [
        {"question": _question(one), "numbers": list(one.numbers), "target": one.target, "count": len(one.numbers)}
        for numbers in COUNTS
        for one in countdowns(PER_COUNT, numbers)
    ]
    return DatasetDict({"test": Dataset.from_list(rows)})


def _question(problem: Countdown) -> str:
    numbers = ", ".join(map(str, problem.numbers))
    return (
        f"Reach {problem.target} with the numbers {numbers}. Use each of them exactly once, with +, -, *, / and "
        "brackets, and no other number."
    )
