"""Original problems of any depth: chains of steps, each of which needs the result of the one before.

Every step is invertible, so a mistake anywhere changes the answer. A problem is wholly in its text, from which `states`
computes the value after each step: what a model writes can be checked step by step. Problems come from a fixed seed:
always the same, in no corpus, without a download. The families, of which each can have any number of steps:

| family | a step | state |
|---|---|---|
| arithmetic | add, subtract or multiply, and keep the last two digits | a number from 0 to 99 |
| boxes | swap the contents of two boxes | the box with the ball |
| graph | take the red or the blue arrow from a node | a node |
| circuit | a gate that combines the last wire with an input | 0 or 1 |
| rewriting | rotate, reverse, or swap two digits of a number | a number of six digits |
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from lm_eval_ext.errors import TaskError
from lm_eval_ext.yaml_functions import usable_from_yaml

if TYPE_CHECKING:
    from datasets import DatasetDict


DEPTHS = (8, 16, 32, 64, 128, 256, 512, 1024)  # steps
PER_DEPTH = 25  # problems
_SEED = 2611
_TRIES = 50  # drawn for each problem that is wanted
_MOST = 10_000  # steps of a problem, and problems of a depth
_MOST_TOGETHER = 2_000_000  # steps of all problems of a task

Problem = dict[str, str]


def problem(family: str, steps: int, draw: random.Random) -> Problem:
    """One problem; fields `question`, `answer` and `steps`.

    >>> problem("circuit", 2, random.Random(0))["answer"] in "01"
    True
    """
    kind = FAMILIES[family]
    start, listed = kind.draw(draw, steps)
    text = "\n".join(f"{number}. {step}" for number, step in enumerate(listed, 1))
    question = f"{kind.introduction.format(start=start)}\n{text}\n{kind.ask}"
    return {"question": question, "answer": list(kind.walk(start, listed))[-1], "steps": str(steps)}


def problems(family: str, depths: Sequence[int] = DEPTHS, count: int = PER_DEPTH, seed: int = _SEED) -> list[Problem]:
    """`count` different problems of each depth, the shallow ones first.

    Raises:
        TaskError: there are not as many, as with boxes that are swapped once.
    """
    return [one for steps in depths for one in _different(family, steps, count, seed)]


def _different(family: str, steps: int, count: int, seed: int) -> list[Problem]:
    draw = random.Random(f"{family} {steps} {seed}")
    found: dict[str, Problem] = {}
    for _ in range(_TRIES * count):
        made = problem(family, steps, draw)
        found.setdefault(made["question"], made)
        if len(found) == count:
            return list(found.values())
    raise TaskError(f"{family}: only {len(found)} different problems of {steps} steps were found, not {count}")


def states(text: str) -> list[str] | None:
    """The state after each step of the problem in a text, such as a prompt; None if there is none.

    >>> made = problem("arithmetic", 3, random.Random(1))
    >>> states(f"Please solve this. {made['question']}")[-1] == made["answer"]
    True
    """
    for kind in FAMILIES.values():
        before, _, after = kind.introduction.partition("{start}")
        pattern = re.escape(before) + r"(?P<start>[^\n]*?)" + re.escape(after) + r"\n(?P<steps>(?:\d+\. [^\n]+\n)+)"
        if found := re.search(pattern, text):
            listed = [line.partition(". ")[2] for line in found["steps"].splitlines()]
            return list(kind.walk(found["start"], listed))
    return None


def first_wrong(written: str, right: Sequence[str]) -> int | None:
    """The first step of which a text states another result, or that it leaves out; None if all are right.

    Steps are lines such as `3: 47`, as the problems ask for; of several for one step, the last counts.

    >>> first_wrong("1: 4\\n2: 9", ["4", "8", "2"]), first_wrong("1: 4\\n2: 8\\n3: 2", ["4", "8", "2"])
    (2, None)
    """
    stated = {int(number): value for number, value in _STATED.findall(written)}
    return next((step for step, value in enumerate(right, 1) if stated.get(step, "").upper() != value.upper()), None)


_STATED = re.compile(r"^\W*(\d{1,5})\W*[:=]\W*(\w+)\b", re.MULTILINE)


def _dataset(family: str, options: Mapping[str, object]) -> DatasetDict:
    """The form that lm-eval's `custom_dataset` expects: a dictionary of splits.

    `dataset_kwargs` of a task can set other `depths`, another number `per_depth`, and another `problem_seed`.
    """
    from datasets import Dataset, DatasetDict

    depths, per_depth = options.get("depths", DEPTHS), options.get("per_depth", PER_DEPTH)
    seed = options.get("problem_seed", _SEED)
    if not isinstance(depths, Sequence) or not depths or not all(map(_is_count, depths)):
        raise TaskError(f"depths={depths!r}; expected a list of numbers of steps, from 1 to {_MOST:,}")
    if not _is_count(per_depth):
        raise TaskError(f"per_depth={per_depth!r}; expected a number of problems, from 1 to {_MOST:,}")
    if sum(depths) * per_depth > _MOST_TOGETHER:
        raise TaskError(f"{sum(depths) * per_depth:,} steps in all problems; expected at most {_MOST_TOGETHER:,}")
    if not isinstance(seed, int):
        raise TaskError(f"problem_seed={seed!r}; expected a whole number")
    return DatasetDict({"test": Dataset.from_list(problems(family, depths, per_depth, seed))})


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST


@usable_from_yaml
def arithmetic_dataset(**options: object) -> DatasetDict:
    """Chained arithmetic."""
    return _dataset("arithmetic", options)


@usable_from_yaml
def boxes_dataset(**options: object) -> DatasetDict:
    """A ball in swapped boxes."""
    return _dataset("boxes", options)


@usable_from_yaml
def graph_dataset(**options: object) -> DatasetDict:
    """Walks in a graph."""
    return _dataset("graph", options)


@usable_from_yaml
def circuit_dataset(**options: object) -> DatasetDict:
    """Chains of gates."""
    return _dataset("circuit", options)


@usable_from_yaml
def rewriting_dataset(**options: object) -> DatasetDict:
    """A number whose digits are moved step by step."""
    return _dataset("rewriting", options)


_BOXES, _NODES, _INPUTS, _DIGITS = 8, 20, 6, "123456"
_FACTORS = (3, 7, 9, 11, 13, 17, 19)  # without a common factor with 100


class ProblemFamily(NamedTuple):
    """A kind of problem.

    Attributes:
        introduction: the text before the steps, with `{start}` for what is drawn for each problem.
        ask: the question after the steps.
        draw: draws the start and the steps.
        walk: the state after each step, from the start and the steps as they are in the text.
        chance: the score of guessing.
    """

    introduction: str
    ask: str
    draw: Callable[[random.Random, int], tuple[str, list[str]]]
    walk: Callable[[str, Sequence[str]], Iterator[str]]
    chance: float


def _draw_arithmetic(draw: random.Random, steps: int) -> tuple[str, list[str]]:
    def step() -> str:
        kind = draw.choice(("add", "subtract", "multiply by"))
        return f"{kind} {draw.choice(_FACTORS) if kind == 'multiply by' else draw.randint(1, 99)}"

    return str(draw.randint(0, 99)), [step() for _ in range(steps)]


def _walk_arithmetic(start: str, steps: Sequence[str]) -> Iterator[str]:
    value = int(start)
    for step in steps:
        kind, _, number = step.rpartition(" ")
        value = {"add": value + int(number), "subtract": value - int(number)}.get(kind, value * int(number)) % 100
        yield str(value)


def _draw_boxes(draw: random.Random, steps: int) -> tuple[str, list[str]]:
    """Every swap moves the ball, so that none can be skipped."""
    start = ball = draw.randint(1, _BOXES)
    listed = []
    for _ in range(steps):
        other = draw.choice([box for box in range(1, _BOXES + 1) if box != ball])
        listed.append("swap {} and {}".format(*draw.sample([ball, other], 2)))
        ball = other
    return str(start), listed


def _walk_boxes(start: str, steps: Sequence[str]) -> Iterator[str]:
    ball = start
    for step in steps:
        one, other = re.findall(r"\d+", step)
        ball = {one: other, other: one}.get(ball, ball)
        yield ball


def _draw_graph(draw: random.Random, steps: int) -> tuple[str, list[str]]:
    """The arrows of a colour are a permutation without fixed points, so that different paths never meet."""
    arrows = {colour: _derangement(draw) for colour in ("red", "blue")}
    table = "; ".join(f"{node}: red {arrows['red'][node]}, blue {arrows['blue'][node]}" for node in range(_NODES))
    return f"{draw.randrange(_NODES)} of this graph: {table}", [draw.choice(("red", "blue")) for _ in range(steps)]


def _derangement(draw: random.Random) -> list[int]:
    while True:
        found = draw.sample(range(_NODES), _NODES)
        if all(node != to for node, to in enumerate(found)):
            return found


def _walk_graph(start: str, steps: Sequence[str]) -> Iterator[str]:
    first, _, table = start.partition(" of this graph: ")
    rows = re.findall(r"(\d+): red (\d+), blue (\d+)", table)
    arrows = {"red": {node: red for node, red, _ in rows}, "blue": {node: blue for node, _, blue in rows}}
    node = first
    for step in steps:
        node = arrows[step][node]
        yield node


def _draw_circuit(draw: random.Random, steps: int) -> tuple[str, list[str]]:
    bits = [draw.randint(0, 1) for _ in range(_INPUTS)]
    inputs = ", ".join(f"i{number} = {bit}" for number, bit in enumerate(bits, 1))

    def gate(step: int) -> str:
        last = f"w{step - 1}" if step > 1 else f"i{draw.randint(1, _INPUTS)}"
        return f"w{step} = {last} {draw.choice(('XOR', 'XNOR'))} i{draw.randint(1, _INPUTS)}"

    return inputs, [gate(step) for step in range(1, steps + 1)]


def _walk_circuit(start: str, steps: Sequence[str]) -> Iterator[str]:
    values = {name: int(bit) for name, bit in re.findall(r"(i\d+) = ([01])", start)}
    for step in steps:
        name, _, gate = step.partition(" = ")
        one, kind, other = gate.split()
        values[name] = (values[one] ^ values[other]) ^ (kind == "XNOR")
        yield str(values[name])


def _draw_rewriting(draw: random.Random, steps: int) -> tuple[str, list[str]]:
    def step() -> str:
        kind = draw.choice(("rotate", "reverse", "swap"))
        if kind == "rotate":
            return f"move the first {draw.choice(('digit', '2 digits'))} to the end"
        if kind == "reverse":
            return f"reverse the first {draw.randint(3, len(_DIGITS))} digits"
        return "swap digits {} and {}".format(*sorted(draw.sample(range(1, len(_DIGITS) + 1), 2)))

    return "".join(draw.sample(_DIGITS, len(_DIGITS))), [step() for _ in range(steps)]


def _walk_rewriting(start: str, steps: Sequence[str]) -> Iterator[str]:
    word = start
    for step in steps:
        numbers = [int(number) for number in re.findall(r"\d+", step)]
        if step.startswith("move"):
            count = numbers[0] if numbers else 1
            word = word[count:] + word[:count]
        elif step.startswith("reverse"):
            word = word[: numbers[0]][::-1] + word[numbers[0] :]
        else:
            digits = list(word)
            one, other = (number - 1 for number in numbers)
            digits[one], digits[other] = digits[other], digits[one]
            word = "".join(digits)
        yield word


FAMILIES: Mapping[str, ProblemFamily] = {
    "arithmetic": ProblemFamily(
        "Start with the number {start}. Carry out these steps one after the other, and after each keep only the last "
        "two digits (7 - 9 gives 98).",
        "Which number results?", _draw_arithmetic, _walk_arithmetic, 1 / 100,
    ),
    "boxes": ProblemFamily(
        f"There are {_BOXES} boxes, numbered from 1. A ball is in box {{start}}. The contents of two boxes are swapped "
        "in each of these steps.",
        "In which box is the ball at the end?", _draw_boxes, _walk_boxes, 1 / _BOXES,
    ),
    "graph": ProblemFamily(
        "Begin at node {start}. Follow one arrow in each of these steps.",
        "At which node do you end?", _draw_graph, _walk_graph, 1 / _NODES,
    ),
    "circuit": ProblemFamily(
        "A circuit has the inputs {start}. Each gate combines two wires; XOR gives 1 if they differ, XNOR if they are "
        "equal.",
        "What is the value of the last wire?", _draw_circuit, _walk_circuit, 1 / 2,
    ),
    "rewriting": ProblemFamily(
        "Begin with the number {start}. Change its digits in each of these steps.",
        "Which number results?", _draw_rewriting, _walk_rewriting, 1 / math.factorial(len(_DIGITS)),
    ),
}  # fmt: skip
