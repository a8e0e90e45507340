"""Original problems from a seeded function: no data file, no download, always the same."""

from __future__ import annotations

import random
from typing import Any

_NAMES = ("Ada", "Ben", "Chloe", "Dev", "Emil", "Fay", "Gus", "Hana")
_THINGS = ("apples", "stamps", "marbles", "pencils", "shells", "coins")


def sums(count: int, seed: int = 2510) -> list[dict[str, str]]:
    """`count` different one-step word problems with small whole numbers; fields `question` and `answer`."""
    generator = random.Random(seed)
    problems: dict[str, str] = {}
    while len(problems) < count:
        name, things = generator.choice(_NAMES), generator.choice(_THINGS)
        first, second = generator.randint(2, 9), generator.randint(2, 9)
        question = f"{name} has {first} {things} and gets {second} more. How many {things} does {name} have now?"
        problems[question] = str(first + second)
    return [{"question": question, "answer": answer} for question, answer in problems.items()]


def sums_dataset(**_: Any) -> Any:
    """The problems as lm-eval's `custom_dataset` wants them: a dictionary of splits."""
    from datasets import Dataset, DatasetDict

    return DatasetDict({"test": Dataset.from_list(sums(100))})
