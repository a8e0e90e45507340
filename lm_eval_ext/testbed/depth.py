"""Original problems of any depth: chains of steps, each of which needs the result of the one before.

Every step is invertible, so a mistake anywhere changes the answer. A problem is wholly in its text, from which `states`
computes the value after each step: what a model writes can be checked step by step. Problems come from a fixed seed:
always the same, in no corpus, without a download. The families are in `depth_families`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeGuard

from lm_eval_ext.errors import TaskError
from lm_eval_ext.testbed.depth_families import FAMILIES
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
