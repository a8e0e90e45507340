"""Checks a written chain of thought step by step, for the problems whose text says what each step comes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lm_eval_ext.testbed import depth, problems


class Checked(NamedTuple):
    """A problem whose steps can be checked.

    Attributes:
        steps: how many it has.
        first_wrong: of what a model wrote, the first step that is wrong or missing, from 1; None if all are right.
    """

    steps: int
    first_wrong: Callable[[str], int | None]


def checked(prompt: str) -> Checked | None:
    """The problem in a prompt: one of any depth, or a chain of the embedded model's; None for any other.

    >>> chain = checked("Compute from left to right, modulo 10, and put the result in \\\\boxed{}: 7+5*3")
    >>> chain.steps, chain.first_wrong("7+5=2*3=6"), chain.first_wrong("7+5=2*3=5")
    (2, None, 2)
    """
    if states := depth.states(prompt):
        return Checked(len(states), lambda written: depth.first_wrong(written, states))
    if values := problems.chain_values(prompt):
        return Checked(len(values), lambda written: problems.first_wrong_in_chain(written, values))
    return None
