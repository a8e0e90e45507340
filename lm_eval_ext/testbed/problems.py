"""Original problems generated from seeds: no data file, no download, always the same."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.yaml_functions import usable_from_yaml

if TYPE_CHECKING:
    from datasets import DatasetDict


_NAMES = ("Ada", "Ben", "Chloe", "Dev", "Emil", "Fay", "Gus", "Hana")
_THINGS = ("apples", "stamps", "marbles", "pencils", "shells", "coins")
_STEPS: dict[str, Callable[[int, int], int]] = {
    "+": lambda value, digit: (value + digit) % 10,
    "-": lambda value, digit: (value - digit) % 10,
    "*": lambda value, digit: value * digit % 10,
}
# All of these steps are invertible, so every step of a chain matters; `*0` would make all steps before it irrelevant.
_DIGITS = {"+": "123456789", "-": "123456789", "*": "379"}

_SEED = 22510
_CHAIN = re.compile(r"boxed\{\}: (\d(?:[-+*]\d)+)(?![-+*\d])")  # the chain in a prompt
_RESULT = re.compile(r"=(\d)(?!\d)")
Problem = dict[str, str]


def sums(count: int) -> list[Problem]:
    """`count` different one-step word problems with small whole numbers; fields `question` and `answer`."""
    generator = random.Random(2510)
    problems: dict[str, str] = {}
    while len(problems) < count:
        name, things = generator.choice(_NAMES), generator.choice(_THINGS)
        first, second = generator.randint(2, 9), generator.randint(2, 9)
        question = f"{name} has {first} {things} and gets {second} more. How many {things} does {name} have now?"
        problems[question] = str(first + second)
    return [{"question": question, "answer": answer} for question, answer in problems.items()]


def chain(steps: int, generator: random.Random) -> str:
    """A chain of `steps` steps, such as `7+5*3-8`."""
    operators = generator.choices("+-*", k=steps)
    return generator.choice("0123456789") + "".join(one + generator.choice(_DIGITS[one]) for one in operators)


def running_values(question: str) -> str:
    """The last digit after every step of a chain, computed from left to right: `268` for `7+5*3-8`."""
    value, values = int(question[0]), ""
    for operator, digit in zip(question[1::2], question[2::2], strict=True):
        value = _STEPS[operator](value, int(digit))
        values += str(value)
    return values


def chain_values(prompt: str) -> str:
    """The running values of the chain that a prompt ends with; empty if it doesn't end with one."""
    found = _CHAIN.findall(prompt)
    return running_values(found[-1]) if found else ""


def first_wrong_in_chain(written: str, values: str) -> int | None:
    """The first step whose written result, as in `7+5=2*3=6`, is another or missing; None if all are right."""
    stated = _RESULT.findall(written)
    return next((step for step, value in enumerate(values, 1) if stated[step - 1 : step] != [value]), None)


def worked_out(question: str) -> list[str]:
    """A chain with the running value after every step, in parts: `7`, `+5`, `=2`, `*3`, `=6`, `-8`, `=8`."""
    steps = [operator + digit for operator, digit in zip(question[1::2], question[2::2], strict=True)]
    values = [f"={value}" for value in running_values(question)]
    return [question[0], *(part for pair in zip(steps, values, strict=True) for part in pair)]


def chains(count: int, shortest: int, longest: int, seed: int = _SEED) -> list[Problem]:
    """`count` different chains of `shortest` to `longest` steps; fields `question`, `answer` and `steps`."""
    generator = random.Random(seed)
    problems: dict[str, Problem] = {}
    while len(problems) < count:
        steps = shortest + len(problems) % (longest - shortest + 1)
        question = chain(steps, generator)
        problems[question] = {"question": question, "answer": running_values(question)[-1], "steps": str(steps)}
    return list(problems.values())


@usable_from_yaml
def sums_dataset(**_: object) -> DatasetDict:
    """One-step problems in the form that lm-eval's `custom_dataset` expects: a dictionary of splits."""
    return _dataset(sums(100))


@usable_from_yaml
def short_chains_dataset(**_: object) -> DatasetDict:
    """Chains of one to three steps."""
    return _dataset(chains(200, 1, 3))


@usable_from_yaml
def chains_dataset(problem_seed: int = _SEED, count: int = 200, **_: object) -> DatasetDict:
    """Chains of 6 to 40 steps, so that each larger budget from 8 to 128 tokens lets more of them finish."""
    return _dataset(chains(count, 6, 40, problem_seed))


def _dataset(problems: list[Problem]) -> DatasetDict:
    from datasets import Dataset, DatasetDict

    return DatasetDict({"test": Dataset.from_list(problems)})


COUNTS = (3, 4, 5, 6)  # numbers in a problem
PER_COUNT = 50  # problems
_LARGEST = 25
_COUNTDOWN_SEED = 42510


class Countdown(NamedTuple):
    """A problem that can be solved: the numbers, and a target that one order of operations reaches."""

    numbers: tuple[int, ...]
    target: int


def countdowns(count: int, numbers: int) -> list[Countdown]:
    """Problems of a number of numbers, each different.

    >>> countdowns(1, 3)[0].numbers == countdowns(2, 3)[0].numbers
    True
    """
    generator = random.Random(f"{_COUNTDOWN_SEED}-{numbers}")
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
